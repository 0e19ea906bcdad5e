//! A stream of TCP of which some bytes stand for others of another length on the way.
//!
//! Its sequence numbers are shifted behind each such place. The last few are remembered with what stands there, so that it is the same
//! when it is sent again, however that is cut into segments: what stands there goes with the segment that has its first byte.

use arrayvec::{ArrayString, ArrayVec};

use crate::ftp::TEXT_MAX;

/// Places that are remembered: more are never under way, since each is in the answer to a command of its own.
const SHIFTS: usize = 4;

/// A place that was changed. Sequence numbers are those of who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shift {
    /// Of its first byte.
    pub from: u32,
    /// Of the first byte behind it.
    pub to: u32,
    /// What stands there instead; something always does.
    pub text: ArrayString<TEXT_MAX>,
    /// How much is added to numbers from its end on.
    after: i32,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Stream {
    /// How much is added before the first place that is remembered.
    before: i32,
    shifts: ArrayVec<Shift, SHIFTS>,
}

impl Stream {
    /// Whether sequence numbers are shifted anywhere.
    pub fn is_shifted(&self) -> bool {
        self.before != 0 || !self.shifts.is_empty()
    }

    /// How much is added to a sequence number of the sender's. Within a place all that stands there went before.
    pub fn added_at(&self, sequence: u32) -> i32 {
        let is_behind = |shift: &&Shift| is_reached(sequence, shift.from.wrapping_add(1));
        match self.shifts.iter().rev().find(is_behind) {
            None => self.before,
            Some(shift) if is_reached(sequence, shift.to) => shift.after,
            Some(shift) => shift.after.wrapping_add_unsigned(shift.to.wrapping_sub(sequence)),
        }
    }

    /// The sequence number of the sender's that the receiver means by one that it has seen. Within a changed place that is its
    /// beginning.
    pub fn meant_by(&self, seen: u32) -> u32 {
        for (number, shift) in self.shifts.iter().enumerate().rev() {
            if is_reached(seen, shift.to.wrapping_add_signed(shift.after)) {
                return seen.wrapping_add_signed(shift.after.wrapping_neg());
            }
            if is_reached(seen, shift.from.wrapping_add_signed(self.added_before(number))) {
                return shift.from;
            }
        }
        seen.wrapping_add_signed(self.before.wrapping_neg())
    }

    /// The places that were changed.
    pub fn shifts(&self) -> &[Shift] {
        &self.shifts
    }

    /// What is between these numbers, behind all other places, was changed to this.
    pub fn shift(&mut self, from: u32, to: u32, text: ArrayString<TEXT_MAX>) {
        let change = (text.len() as i32).wrapping_sub(to.wrapping_sub(from) as i32);
        let after = self.added_before(self.shifts.len()).wrapping_add(change);
        if self.shifts.is_full() {
            self.before = self.shifts.remove(0).after;
        }
        self.shifts.push(Shift { from, to, text, after });
    }

    fn added_before(&self, number: usize) -> i32 {
        number.checked_sub(1).and_then(|last| self.shifts.get(last)).map_or(self.before, |shift| shift.after)
    }
}

/// Whether a sequence number is the other one or behind it, on a circle (RFC 9293 section 3.4).
pub fn is_reached(sequence: u32, other: u32) -> bool {
    sequence.wrapping_sub(other) < 1 << 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(len: usize) -> ArrayString<TEXT_MAX> {
        (0..len).map(|_| 'x').fold(ArrayString::new(), |mut text, one| {
            text.push(one);
            text
        })
    }

    #[test]
    fn numbers_behind_a_place_are_shifted_and_those_before_it_are_not() {
        let mut stream = Stream::default();
        assert!(!stream.is_shifted());
        stream.shift(1010, 1020, text(13));
        stream.shift(1110, 1120, text(5));
        let added =
            [1009, 1010, 1011, 1019, 1020, 1110, 1119, 1120].map(|sequence| stream.added_at(sequence));
        assert_eq!(added, [0, 0, 12, 4, 3, 3, -1, -2]);
        let meant = [1010, 1011, 1022, 1023, 1113, 1114, 1117, 1118].map(|seen| stream.meant_by(seen));
        assert_eq!(meant, [1010, 1010, 1010, 1020, 1110, 1110, 1110, 1120]);
        // The last byte of a line that became shorter, which who keeps a connection alive sends again.
        assert_eq!(stream.added_at(1129), -2);
    }

    #[test]
    fn what_is_acknowledged_is_what_was_sent_whatever_was_changed() {
        bolero::check!().with_type::<(u32, [(u8, u8, u8); 7], u16)>().for_each(|&(first, places, ahead)| {
            let mut stream = Stream::default();
            let mut at = first;
            for (gap, len, new) in places {
                let (from, len) = (at.wrapping_add(u32::from(gap)), u32::from(len) + 1);
                at = from.wrapping_add(len);
                stream.shift(from, at, text(usize::from(new) % TEXT_MAX + 1));
            }
            let seen = |sequence: u32| sequence.wrapping_add_signed(stream.added_at(sequence));
            for sequence in [at, at.wrapping_add(u32::from(ahead))] {
                assert_eq!(stream.meant_by(seen(sequence)), sequence);
            }
            for shift in stream.shifts() {
                for sequence in [shift.from, shift.to] {
                    assert_eq!(stream.meant_by(seen(sequence)), sequence);
                }
                // All that is within has its end behind it.
                let within = (1..shift.to.wrapping_sub(shift.from)).map(|step| shift.from.wrapping_add(step));
                assert!(within.map(seen).all(|at| at == seen(shift.to)));
            }
            // Never ahead of what the receiver can have.
            let mut last = stream.meant_by(first);
            for seen in (0..600).map(|step| first.wrapping_add(step)) {
                let meant = stream.meant_by(seen);
                assert!(is_reached(meant, last), "{meant} after {last}");
                last = meant;
            }
        });
    }
}
