//! What would become of a packet for a next hop: as [`Neighbors::resolve`] and [`Neighbors::wait`], which change things.

use super::shares::{Group, NAMED, Shares, named_waiting};
use super::{AnyHop, Entry, Neighbors, Slot, State, WAITING_MAX, WAITING_NAMED_MAX, WAITING_PER_HOP_MAX};
use crate::clock::Now;
use crate::wire::ethernet::MacAddress;

/// What is known of a next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlook {
    /// The file binds it to this MAC.
    Bound(MacAddress),
    /// It answered of late.
    Reachable(MacAddress),
    /// It answered a while ago, and is asked again while packets go on.
    Late(MacAddress),
    /// It has to be asked for; the packet waits.
    Ask,
    /// It has been asked for and has not answered yet; the packet waits.
    Asked,
    /// It did not answer, and is not asked for again at once.
    Failed,
    /// Too many packets wait for it, or for others like it.
    Crowded,
}

impl<F, H: AnyHop> Neighbors<F, H> {
    /// What would become of a packet for `hop` now. `hint`, `is_named` and `bound` are as for [`Neighbors::resolve`].
    pub(crate) fn outlook(
        &self,
        hint: Slot,
        hop: H,
        (is_named, bound): (bool, Option<MacAddress>),
        now: Now,
    ) -> Outlook {
        let is_named = bound.is_some() || is_named && self.shares.is_known(hop);
        let slot = self.find(hint, hop);
        let outlook = match slot.map(|slot| &self.entries[slot as usize]) {
            Some(entry) => self.outlook_of(entry, bound, now),
            None => bound.map_or(Outlook::Ask, Outlook::Bound),
        };
        let waits = matches!(outlook, Outlook::Ask | Outlook::Asked);
        if waits && !self.has_seat(slot, hop, is_named) { Outlook::Crowded } else { outlook }
    }

    fn outlook_of(&self, entry: &Entry<H>, bound: Option<MacAddress>, now: Now) -> Outlook {
        let mac = MacAddress(std::array::from_fn(|at| entry.link[at]));
        let is_of_era = entry.era == self.era;
        match (entry.state, bound) {
            (_, Some(bound)) if !is_of_era => Outlook::Bound(bound),
            (State::Static, None) if !is_of_era => Outlook::Late(mac),
            (State::Static, _) => Outlook::Bound(mac),
            (State::Reachable, _) if now.millis < entry.good_until => Outlook::Reachable(mac),
            // One that is probed has a MAC that was good until it was asked for again.
            (State::Reachable | State::Probing, _) => Outlook::Late(mac),
            (State::Failed, _) if now.millis < entry.deadline => Outlook::Failed,
            (State::Failed, _) => Outlook::Ask,
            (State::Asking, _) => Outlook::Asked,
        }
    }

    /// Whether a packet may wait.
    fn has_seat(&self, slot: Option<Slot>, hop: H, is_named: bool) -> bool {
        let waiting = slot.map_or(0, |slot| self.entries[slot as usize].queue.len());
        let list = match slot.and_then(|slot| self.order.list_of(slot)) {
            _ if is_named => NAMED,
            Some(list) => list,
            None => self.shares.group(hop).bare(),
        };
        let (others, share) = match Group::of(list) {
            Some(group) => (group.waiting(), self.shares.of_group(WAITING_MAX - WAITING_NAMED_MAX)),
            None => (named_waiting(hop), self.shares.of_named(WAITING_NAMED_MAX)),
        };
        let taken = usize::from(self.shares.packets_of(Shares::account(hop, list)));
        waiting < WAITING_PER_HOP_MAX && (taken < share || self.order.first(others).is_some())
    }
}
