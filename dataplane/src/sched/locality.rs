//! lblc and lblcr: a destination stays with its server (or its servers), so that caches see it again.
//!
//! Each worker remembers for itself which servers a destination has: with several workers a destination
//! can have as many servers as there are workers. The choice of a new server looks at the connections of
//! all workers, as wlc does.
//!
//! Servers are remembered by id, so an edit forgets nothing, and one that was removed and comes back gets
//! its destinations back. When the memory is full, a new destination is served as by wlc each time.

use super::destination_map::{DestinationMap, is_past};
use super::least_connection::{Load, Measure, least, weighted};
use super::replica_sets::ReplicaSets;
use super::service::{Options, ServerDescription};
use super::state::{Cell32, State};
use super::{Peeked, PickKey, Servers, Why};

/// What a worker remembers.
#[derive(Debug)]
pub(super) enum Memory {
    /// lblc: one server id per destination.
    Single { destinations: DestinationMap, servers: Box<[Cell32]> },
    /// lblcr: a set of server ids per destination.
    Replicated { destinations: DestinationMap, sets: ReplicaSets },
}

impl Memory {
    pub(super) fn single(options: &Options) -> Self {
        let destinations = DestinationMap::new(options.locality_entries, options.locality_keys);
        let servers = (0..destinations.capacity()).map(|_| Cell32::new(0)).collect();
        Self::Single { destinations, servers }
    }

    pub(super) fn replicated(options: &Options) -> Self {
        let destinations = DestinationMap::new(options.locality_entries, options.locality_keys);
        // Two servers for each destination: sets grow only where a destination is too much for one.
        let sets = ReplicaSets::new(destinations.capacity(), 2 * destinations.capacity());
        Self::Replicated { destinations, sets }
    }

    pub(super) fn destinations(&self) -> u32 {
        let (Self::Single { destinations, .. } | Self::Replicated { destinations, .. }) = self;
        destinations.len()
    }
}

/// The immutable half of lblc and lblcr.
#[derive(Debug)]
pub(super) struct Locality {
    /// Ids in list order.
    ids: Box<[u32]>,
    places: Places,
    expiration_secs: u32,
}

/// Where the server with an id is in the list. lblcr asks for each server of a destination with each pick, so this has to
/// be one look: open addressing, at most half full, never changed once made.
#[derive(Debug)]
pub(crate) struct Places {
    /// Ids and their indices; [`FREE`] as index: none. A power of two.
    entries: Box<[(u32, u32)]>,
    /// Bits of a hash that are not the place.
    shift: u32,
}

/// No index.
const FREE: u32 = u32::MAX;

impl Places {
    /// Of these ids in list order.
    pub(crate) fn new(ids: &[u32]) -> Self {
        let len = (2 * ids.len()).next_power_of_two().max(2);
        let mut places =
            Self { entries: vec![(0, FREE); len].into(), shift: u32::BITS - len.trailing_zeros() };
        for (&id, index) in ids.iter().zip(0..) {
            let mut at = places.home(id);
            while places.entries[at].1 != FREE {
                at = (at + 1) % len;
            }
            places.entries[at] = (id, index);
        }
        places
    }

    #[inline]
    pub(crate) fn get(&self, id: u32) -> Option<usize> {
        let mut at = self.home(id);
        loop {
            // Half of them are free, so this ends.
            let &(known, index) = self.entries.get(at)?;
            if index == FREE {
                return None;
            }
            if known == id {
                return Some(index as usize);
            }
            at = (at + 1) & (self.entries.len() - 1);
        }
    }

    /// Fibonacci hashing.
    #[inline]
    fn home(&self, id: u32) -> usize {
        (id.wrapping_mul(0x9e37_79b1) >> self.shift) as usize
    }
}

impl Locality {
    pub(super) fn build(servers: &[ServerDescription], expiration_secs: u32) -> Self {
        let ids: Box<[u32]> = servers.iter().map(|server| server.id).collect();
        let places = Places::new(&ids);
        Self { ids, places, expiration_secs }
    }

    /// Where the server is in the list; `None` when it was removed.
    #[inline]
    fn index_of(&self, id: u32) -> Option<usize> {
        self.places.get(id)
    }

    fn id_of(&self, index: usize) -> Option<u32> {
        self.ids.get(index).copied()
    }

    /// Picks by lblc: the destination's server, or the one of wlc when that is gone, quiesced or crowded.
    pub(super) fn pick_single(&self, state: &State, servers: &impl Servers, key: &PickKey) -> Option<usize> {
        let Some(Memory::Single { destinations, servers: remembered }) = state.memory.as_deref() else {
            return servers.least(Measure::Weighted);
        };
        let slot = destinations.touch(key.destination, key.now_secs);
        if let Some(known) = slot.and_then(|slot| self.index_of(remembered[slot].get())) {
            // The overload flag is not looked at: thresholds don't part a destination from its server.
            if servers.weight(known) > 0 && !is_crowded(servers, known) {
                return Some(known);
            }
        }
        let picked = servers.least(Measure::Weighted)?;
        let slot = slot.or_else(|| destinations.insert(key.destination, key.now_secs));
        if let (Some(slot), Some(id)) = (slot, self.id_of(picked)) {
            remembered[slot].set(id);
        }
        Some(picked)
    }

    /// Picks by lblcr: the least loaded of the destination's servers; when it is crowded or there is none,
    /// the one of wlc, which the destination then has too.
    pub(super) fn pick_replicated(
        &self,
        state: &State,
        servers: &impl Servers,
        key: &PickKey,
    ) -> Option<usize> {
        let Some(Memory::Replicated { destinations, sets }) = state.memory.as_deref() else {
            return servers.least(Measure::Weighted);
        };
        let Some(slot) = destinations.touch(key.destination, key.now_secs) else {
            let picked = servers.least(Measure::Weighted)?;
            if let Some(id) = self.id_of(picked)
                && sets.has_room()
                && let Some(slot) = destinations.insert(key.destination, key.now_secs)
            {
                sets.add(slot, id, key.now_secs);
            }
            return Some(picked);
        };
        let known = sets.ids(slot).filter_map(|id| self.index_of(id));
        let known = least(servers, known, Measure::Weighted).map(|(index, _)| index);
        // Only now, as in the kernel: the server just found may be the one that leaves the set.
        self.shrink(sets, slot, servers, key.now_secs);
        if let Some(index) = known
            && !is_crowded(servers, index)
        {
            return known;
        }
        let picked = servers.least(Measure::Weighted)?;
        if let Some(id) = self.id_of(picked) {
            sets.add(slot, id, key.now_secs);
        }
        Some(picked)
    }

    /// What [`Locality::pick_single`] or [`Locality::pick_replicated`] would pick, by whose memory it is, without a use of the
    /// destination.
    pub(super) fn peek(&self, state: &State, servers: &impl Servers, key: &PickKey) -> Peeked<usize> {
        let known = match state.memory.as_deref() {
            Some(Memory::Single { destinations, servers: remembered }) => destinations
                .find(key.destination)
                .and_then(|slot| self.index_of(remembered[slot].get()))
                .filter(|&known| servers.weight(known) > 0),
            Some(Memory::Replicated { destinations, sets }) => {
                destinations.find(key.destination).and_then(|slot| {
                    let known = sets.ids(slot).filter_map(|id| self.index_of(id));
                    least(servers, known, Measure::Weighted).map(|(index, _)| index)
                })
            }
            None => None,
        };
        if let Some(index) = known.filter(|&index| !is_crowded(servers, index)) {
            return Peeked { picked: Some(index), why: Why::Remembered };
        }
        let picked = servers.least(Measure::Weighted);
        let load = picked.map(|index| weighted(servers, index));
        Peeked { picked, why: Why::Fresh(load) }
    }

    /// Takes the most loaded server out of a set of several that did not change for long.
    ///
    /// A server that was removed from the virtual server goes before any other; the kernel would compare
    /// what load is left on it.
    fn shrink(&self, sets: &ReplicaSets, set: usize, servers: &impl Servers, now_secs: u32) {
        let old_at = sets.changed_secs(set).wrapping_add(self.expiration_secs).wrapping_add(1);
        if sets.ids(set).nth(1).is_none() || !is_past(now_secs, old_at) {
            return;
        }
        let mut most: Option<(u32, Load)> = None;
        for id in sets.ids(set) {
            let Some(index) = self.index_of(id) else {
                sets.remove(set, id, now_secs);
                return;
            };
            let load = weighted(servers, index);
            if load.weight > 0 && most.is_none_or(|(_, most)| load.exceeds(most)) {
                most = Some((id, load));
            }
        }
        if let Some((id, ..)) = most {
            sets.remove(set, id, now_secs);
        }
    }

    /// Forgets destinations that were not used for long; some work per call.
    pub(super) fn expire(&self, state: &State, now_secs: u32) {
        match state.memory.as_deref() {
            Some(Memory::Single { destinations, .. }) => {
                destinations.expire(now_secs, self.expiration_secs, |_| ());
            }
            Some(Memory::Replicated { destinations, sets }) => {
                destinations.expire(now_secs, self.expiration_secs, |slot| sets.clear(slot));
            }
            None => (),
        }
    }
}

/// Whether a server has more active connections than its weight while another has less than half of its.
fn is_crowded(servers: &impl Servers, index: usize) -> bool {
    servers.active(index) > servers.weight(index) && servers.some_have_plenty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_found_by_id_and_others_are_not() {
        bolero::check!().with_type::<Vec<u32>>().for_each(|ids| {
            let mut ids = ids.clone();
            ids.sort_unstable();
            ids.dedup();
            let places = Places::new(&ids);
            for (index, &id) in ids.iter().enumerate() {
                assert_eq!(places.get(id), Some(index));
                let other = id.wrapping_add(1);
                assert_eq!(places.get(other).is_some(), ids.contains(&other));
            }
        });
    }
}
