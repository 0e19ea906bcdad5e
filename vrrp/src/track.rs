//! What an instance's right to be master hangs on besides the wire: links, virtual servers, files, programs, processes.

use crate::settings::OWNER;

/// The lowest and the highest priority that tracking can give.
const PRIORITIES: std::ops::RangeInclusive<i32> = 1..=254;
/// A file that says less than this says fault, as keepalived has it.
const FILE_FAULT_BELOW: i64 = -253;

/// Something to look at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Tracked {
    /// The link of the port with this number.
    Port(usize),
    /// Whether the virtual server of this name has enough usable real servers.
    VirtualServer(String),
    /// The number in this file.
    File(String),
    /// Whether the program of this name says so.
    Script(String),
    /// Whether so many processes of this name run.
    Process(String, u32),
    /// Whether every worker of the data plane polls.
    Workers,
}

/// What follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Down, or a file's number other than 0: the instance must not be master.
    Fault,
    /// Positive: added while it is up. Negative: added while it is down. A file's number is multiplied by it.
    Weight(i16),
}

/// One of an instance's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracker {
    /// What is looked at.
    pub what: Tracked,
    /// What follows.
    pub effect: Effect,
}

/// How something tracked is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Up.
    Up,
    /// Down.
    Down,
    /// A file's number.
    Number(i64),
    /// Nobody has looked yet.
    Unknown,
}

/// What all trackers of an instance say together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Condition {
    /// Added to the priority.
    pub weight: i32,
    /// What is down, if it forbids being master.
    pub fault: Option<Tracked>,
    /// Whether one that may forbid it is not known yet: an instance does not start before that.
    pub is_unknown: bool,
}

impl Condition {
    /// Of these trackers, by what `read` says of each.
    pub fn of<'a>(
        trackers: impl IntoIterator<Item = &'a Tracker>,
        read: &mut dyn FnMut(&Tracked) -> Reading,
    ) -> Self {
        let mut condition = Condition::default();
        for Tracker { what, effect } in trackers {
            match (read(what), *effect) {
                (Reading::Up | Reading::Number(0), Effect::Fault) | (Reading::Unknown, Effect::Weight(_)) => {
                }
                (Reading::Unknown, Effect::Fault) => condition.is_unknown = true,
                (Reading::Down | Reading::Number(_), Effect::Fault) => condition.fail(what),
                (Reading::Up, Effect::Weight(weight)) => condition.weight += i32::from(weight.max(0)),
                (Reading::Down, Effect::Weight(weight)) => condition.weight += i32::from(weight.min(0)),
                (Reading::Number(number), Effect::Weight(weight)) => {
                    let product = number.saturating_mul(weight.into());
                    if product < FILE_FAULT_BELOW {
                        condition.fail(what);
                    } else {
                        condition.weight += product.min(254) as i32;
                    }
                }
            }
        }
        condition
    }

    fn fail(&mut self, what: &Tracked) {
        self.fault.get_or_insert_with(|| what.clone());
    }

    /// The priority of an instance with this one before tracking. An owner's is never changed.
    pub fn priority(&self, base: u8) -> u8 {
        if base == OWNER {
            return OWNER;
        }
        let sum = i32::from(base).saturating_add(self.weight);
        sum.clamp(*PRIORITIES.start(), *PRIORITIES.end()) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(effect: Effect, reading: Reading) -> (i32, bool) {
        let tracker = Tracker { what: Tracked::File("f".into()), effect };
        let condition = Condition::of([&tracker], &mut |_| reading);
        (condition.weight, condition.fault.is_some())
    }

    #[test]
    fn weights_and_faults_are_keepaliveds() {
        use Effect::{Fault, Weight};
        use Reading::{Down, Number, Up};
        assert_eq!(condition(Fault, Up), (0, false));
        assert_eq!(condition(Fault, Down), (0, true));
        assert_eq!(condition(Weight(20), Up), (20, false));
        assert_eq!(condition(Weight(20), Down), (0, false));
        assert_eq!(condition(Weight(-20), Up), (0, false));
        assert_eq!(condition(Weight(-20), Down), (-20, false));
        assert_eq!(condition(Fault, Number(0)), (0, false));
        assert_eq!(condition(Fault, Number(-1)), (0, true));
        assert_eq!(condition(Weight(2), Number(-30)), (-60, false));
        assert_eq!(condition(Weight(1), Number(-254)), (0, true));
        assert_eq!(condition(Weight(-1), Number(i64::MIN)), (254, false));
        assert_eq!(condition(Weight(20), Reading::Unknown), (0, false));
        assert_eq!(condition(Weight(-20), Reading::Unknown), (0, false));
        assert_eq!(condition(Fault, Reading::Unknown), (0, false));
    }

    #[test]
    fn priorities_stay_in_their_range_and_an_owner_stays_one() {
        let at = |weight| Condition { weight, ..Condition::default() };
        assert_eq!([at(200).priority(100), at(-200).priority(100), at(-20).priority(100)], [254, 1, 80]);
        assert_eq!(at(-200).priority(255), 255);
    }
}
