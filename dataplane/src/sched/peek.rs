//! What a pick would be, and why, without making it: for who asks.
//!
//! What picks change is copied first where it is small (the place in a round, the random sequence), and only read where it is
//! large (what lblc and lblcr remember). A property (`properties.rs`) compares with picks.

use super::least_connection::{Load, Measure};
use super::state::State;
use super::{Method, PickKey, Scheduler, Servers, failover, round_robin, two_choices};

/// A pick that was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peeked<T> {
    /// Who would be picked.
    pub picked: Option<T>,
    /// Why, or where nobody was found.
    pub why: Why,
}

impl<T> Peeked<T> {
    /// The same of another name for who is picked.
    pub(crate) fn and_then<U>(self, of: impl FnOnce(T) -> Option<U>) -> Peeked<U> {
        Peeked { picked: self.picked.and_then(of), why: self.why }
    }
}

/// Why one is picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// rr: the next in turn.
    Turn,
    /// wrr: the next in turn that weighs at least this much.
    Pass(u32),
    /// lc, wlc, sed, nq: its load is the least. Active connections of wlc and lc count 256 times.
    Least(Measure, Option<Load>),
    /// fo: the heaviest.
    Heaviest,
    /// ovf: the heaviest with no more active connections than its weight.
    HeaviestWithRoom,
    /// twos: the less loaded of two by lot.
    Lots,
    /// sh, dh, mh: it has the slot of the client, or of the destination.
    Slot {
        /// Its number.
        slot: u32,
        /// Slots there are.
        of: u32,
        /// Who has that slot is unusable, and this one has the first usable one behind it (`fallback`).
        is_fallback: bool,
    },
    /// lblc, lblcr: the destination has it already.
    Remembered,
    /// lblc, lblcr: the least loaded one; the destination has none, or none that may go on.
    Fresh(Option<Load>),
}

impl Scheduler {
    /// What [`Scheduler::pick`] would pick, and why.
    pub fn peek(&self, state: &State, servers: &impl Servers, key: &PickKey) -> Peeked<usize> {
        let state = &state.copy();
        let slot = |picked: Option<usize>, (slot, of, owner): (u32, u32, Option<usize>)| Peeked {
            picked,
            why: Why::Slot { slot, of, is_fallback: picked.is_some() && picked != owner },
        };
        let least = |measure: Measure| {
            let picked = servers.least(measure);
            let load = picked.map(|index| measure.load(servers, index));
            Peeked { picked, why: Why::Least(measure, load) }
        };
        match &self.0 {
            Method::Rr => Peeked { picked: round_robin::rr(state, servers), why: Why::Turn },
            Method::Wrr(wrr) => {
                let picked = wrr.pick(state, servers);
                Peeked { picked, why: Why::Pass(state.pass_weight.get()) }
            }
            Method::Lc => least(Measure::Connections),
            Method::Wlc => least(Measure::Weighted),
            Method::Sed => least(Measure::Expected),
            Method::Nq => least(Measure::ExpectedOrIdle),
            Method::Fo => Peeked { picked: failover::fo(servers), why: Why::Heaviest },
            Method::Ovf => Peeked { picked: failover::ovf(servers), why: Why::HeaviestWithRoom },
            Method::Sh(table) => slot(table.pick(servers, key), table.place(key)),
            Method::Dh(table) => slot(table.pick(servers, key), table.place(key)),
            Method::Mh(table) => slot(table.pick(servers, key), table.place(key)),
            Method::Lblc(locality) => locality.peek(state, servers, key),
            Method::Lblcr(locality) => locality.peek(state, servers, key),
            Method::Twos => Peeked { picked: two_choices::twos(state, servers), why: Why::Lots },
        }
    }
}
