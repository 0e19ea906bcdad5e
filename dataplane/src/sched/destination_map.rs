//! The destinations that lblc and lblcr know: a map from address to a slot number, of fixed size.
//!
//! What belongs to a destination lies in arrays of its owner, indexed by slot. Full is a refused insert.
//! The cells are atomic so that versions of a virtual server can share the map; one worker writes
//! (see [`super::state`]).
//!
//! Destinations expire as in the kernel: every 60 seconds a tick, each thirtieth one looks at all
//! destinations, the others only when there are more than the limit. The kernel does that in one go; here a
//! sweep is spread over the calls of [`DestinationMap::expire`], so that no call is long.

use std::net::IpAddr;

use siphasher::sip::SipHasher13;

use super::state::{Cell32, Cell64};

/// No slot: the end of a chain.
pub(super) const NONE: u32 = u32::MAX;

/// Seconds between two ticks.
const TICK_SECS: u32 = 60;
/// Each so manieth tick looks at all destinations.
const FULL_SWEEP_TICKS: u32 = 30;
/// Seconds without use after which a destination goes when there are too many.
const PRESSED_IDLE_SECS: u32 = 6 * 60;
/// Buckets and destinations visited by one call of `expire`, give or take a chain: some ten microseconds.
const VISITS_PER_CALL: u32 = 2048;

/// Map from destination address to slot.
#[derive(Debug)]
pub(super) struct DestinationMap {
    hash: SipHasher13,
    /// First slot of each chain. A power of two.
    buckets: Box<[Cell32]>,
    slots: Box<[Slot]>,
    /// First of the chain of free slots.
    free: Cell32,
    len: Cell32,
    /// Destinations beyond which idle ones go early.
    limit: u32,
    /// Ticks since the last full sweep, plus 1.
    ticks: Cell32,
    /// When the next tick is due; set by the first call of `expire`.
    next_tick_secs: Cell32,
    started: Cell32,
    sweep: Sweep,
}

#[derive(Debug, Default)]
struct Slot {
    address: [Cell64; 2],
    next: Cell32,
    last_use_secs: Cell32,
}

/// A walk over all buckets, under way when buckets remain.
#[derive(Debug, Default)]
struct Sweep {
    /// The bucket to visit next. The next sweep goes on from there.
    bucket: Cell32,
    remaining: Cell32,
    /// Destinations without use for so long go.
    idle_secs: Cell32,
    /// The sweep ends when so many are gone.
    goal: Cell32,
}

impl DestinationMap {
    /// Room for `limit` destinations and half as many again, at least 16.
    pub(super) fn new(limit: u32, keys: [u64; 2]) -> Self {
        let limit = limit.clamp(16, 1 << 24);
        let capacity = limit + limit / 2;
        let slots: Box<[Slot]> = (0..capacity).map(|_| Slot::default()).collect();
        for (slot, next) in slots.iter().zip(1..) {
            slot.next.set(if next < capacity { next } else { NONE });
        }
        Self {
            hash: SipHasher13::new_with_keys(keys[0], keys[1]),
            buckets: (0..capacity.next_power_of_two()).map(|_| Cell32::new(NONE)).collect(),
            slots,
            free: Cell32::new(0),
            len: Cell32::new(0),
            limit,
            ticks: Cell32::new(1),
            next_tick_secs: Cell32::new(0),
            started: Cell32::new(0),
            sweep: Sweep::default(),
        }
    }

    /// Slots there are: slot numbers are below it.
    pub(super) fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// Destinations known.
    pub(super) fn len(&self) -> u32 {
        self.len.get()
    }

    /// The slot of a destination, whose last use becomes `now_secs`.
    pub(super) fn touch(&self, address: IpAddr, now_secs: u32) -> Option<usize> {
        let words = words(address);
        let mut slot = self.buckets[self.bucket(words)].get();
        while slot != NONE {
            let entry = &self.slots[slot as usize];
            if [entry.address[0].get(), entry.address[1].get()] == words {
                entry.last_use_secs.set(now_secs);
                return Some(slot as usize);
            }
            slot = entry.next.get();
        }
        None
    }

    /// The slot of a destination, whose last use stays what it was.
    pub(super) fn find(&self, address: IpAddr) -> Option<usize> {
        let words = words(address);
        let first = self.buckets[self.bucket(words)].get();
        let slots = std::iter::successors(Some(first), |&slot| {
            (slot != NONE).then(|| self.slots[slot as usize].next.get())
        });
        let mut slots = slots.take_while(|&slot| slot != NONE).map(|slot| slot as usize);
        slots.find(|&slot| self.slots[slot].address.each_ref().map(Cell64::get) == words)
    }

    /// A slot for a destination that is not in the map; `None` when the map is full.
    pub(super) fn insert(&self, address: IpAddr, now_secs: u32) -> Option<usize> {
        let slot = self.free.get();
        if slot == NONE {
            return None;
        }
        let entry = &self.slots[slot as usize];
        self.free.set(entry.next.get());
        let words = words(address);
        let bucket = &self.buckets[self.bucket(words)];
        entry.address[0].set(words[0]);
        entry.address[1].set(words[1]);
        entry.last_use_secs.set(now_secs);
        entry.next.set(bucket.get());
        bucket.set(slot);
        self.len.set(self.len.get() + 1);
        Some(slot as usize)
    }

    /// Goes on with expiry: destinations unused for `expiration_secs` go at a full sweep. `removed` is told
    /// each slot that became free.
    pub(super) fn expire(&self, now_secs: u32, expiration_secs: u32, removed: impl FnMut(usize)) {
        if self.started.get() == 0 {
            self.started.set(1);
            self.next_tick_secs.set(now_secs.wrapping_add(TICK_SECS));
        }
        if self.sweep.remaining.get() == 0 && is_past(now_secs, self.next_tick_secs.get()) {
            self.next_tick_secs.set(now_secs.wrapping_add(TICK_SECS));
            self.tick(expiration_secs);
        }
        if self.sweep.remaining.get() > 0 {
            self.go_on(now_secs, removed);
        }
    }

    /// Begins a sweep if one is due.
    fn tick(&self, expiration_secs: u32) {
        let excess = self.len.get().saturating_sub(self.limit);
        let (idle_secs, goal) = if self.ticks.get() >= FULL_SWEEP_TICKS {
            self.ticks.set(1);
            (expiration_secs, u32::MAX)
        } else if excess > 0 {
            // The kernel does not count this tick.
            (PRESSED_IDLE_SECS, (excess * 4 / 3).clamp(1, self.limit / 2))
        } else {
            self.ticks.set(self.ticks.get() + 1);
            return;
        };
        self.sweep.idle_secs.set(idle_secs);
        self.sweep.goal.set(goal);
        self.sweep.remaining.set(self.buckets.len() as u32);
    }

    /// Sweeps some buckets.
    fn go_on(&self, now_secs: u32, mut removed: impl FnMut(usize)) {
        let mut visits = 0;
        while visits < VISITS_PER_CALL && self.sweep.remaining.get() > 0 {
            let bucket = self.sweep.bucket.get() as usize;
            visits += 1 + self.sweep_bucket(&self.buckets[bucket], now_secs, &mut removed);
            self.sweep.bucket.set(((bucket + 1) & (self.buckets.len() - 1)) as u32);
            let remaining = if self.sweep.goal.get() == 0 { 0 } else { self.sweep.remaining.get() - 1 };
            self.sweep.remaining.set(remaining);
        }
    }

    /// Takes idle destinations out of a chain. Returns how many it held.
    fn sweep_bucket(&self, bucket: &Cell32, now_secs: u32, removed: &mut impl FnMut(usize)) -> u32 {
        let mut visited = 0;
        let mut link = bucket;
        while link.get() != NONE {
            visited += 1;
            let slot = link.get();
            let entry = &self.slots[slot as usize];
            if !is_past(now_secs, entry.last_use_secs.get().wrapping_add(self.sweep.idle_secs.get())) {
                link = &entry.next;
                continue;
            }
            link.set(entry.next.get());
            entry.next.set(self.free.get());
            self.free.set(slot);
            self.len.set(self.len.get() - 1);
            self.sweep.goal.set(self.sweep.goal.get().saturating_sub(1));
            removed(slot as usize);
        }
        visited
    }

    fn bucket(&self, words: [u64; 2]) -> usize {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&words[0].to_le_bytes());
        bytes[8..].copy_from_slice(&words[1].to_le_bytes());
        self.hash.hash(&bytes) as usize & (self.buckets.len() - 1)
    }
}

/// Whether the clock has reached `deadline`; both may have wrapped.
pub(super) fn is_past(now_secs: u32, deadline: u32) -> bool {
    now_secs.wrapping_sub(deadline) <= u32::MAX / 2
}

/// An address as two words. The families don't meet in one map.
fn words(address: IpAddr) -> [u64; 2] {
    match address {
        IpAddr::V4(address) => [0, u64::from(address.to_bits())],
        IpAddr::V6(address) => [(address.to_bits() >> 64) as u64, address.to_bits() as u64],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::Ipv4Addr;

    use super::*;
    use crate::sched::director_model::Lcg;

    fn address(n: u32) -> IpAddr {
        Ipv4Addr::from(n).into()
    }

    /// Calls `expire` each second, as a worker does. Returns the slots that became free.
    fn run(map: &DestinationMap, from_secs: u32, to_secs: u32, expiration_secs: u32) -> Vec<usize> {
        let mut gone = Vec::new();
        for now in from_secs..to_secs {
            map.expire(now, expiration_secs, |slot| gone.push(slot));
        }
        gone
    }

    #[test]
    fn it_is_a_map_under_random_inserts_touches_and_expiry() {
        let map = DestinationMap::new(40, [1, 2]);
        let mut model: HashMap<u32, (usize, u32)> = HashMap::new();
        let mut random = Lcg::new(3);
        for now in 0..20_000 {
            for _ in 0..random.below(4) {
                let n = random.below(100);
                match (map.touch(address(n), now), model.get_mut(&n)) {
                    (Some(slot), Some((known, last_use))) if slot == *known => *last_use = now,
                    (None, None) => match map.insert(address(n), now) {
                        Some(slot) => assert!(model.insert(n, (slot, now)).is_none()),
                        None => assert_eq!(model.len(), map.capacity()),
                    },
                    (slot, known) => panic!("slot {slot:?} instead of {known:?}"),
                }
            }
            map.expire(now, 50, |slot| {
                let (&n, &(_, last_use)) =
                    model.iter().find(|&(_, &(known, _))| known == slot).expect("a slot in use");
                assert!(now - last_use >= 50);
                model.remove(&n);
            });
            assert_eq!(map.len() as usize, model.len());
        }
    }

    #[test]
    fn a_full_map_refuses_and_goes_on_after_expiry() {
        let map = DestinationMap::new(16, [0, 0]);
        assert_eq!(map.capacity(), 24);
        for n in 0..24 {
            assert!(map.insert(address(n), 0).is_some());
        }
        assert_eq!(map.insert(address(24), 0), None);
        // More than 16, idle for 360 s: the sweep takes (24 - 16) * 4 / 3, but at most half the limit.
        assert_eq!(run(&map, 0, 360, 86_400).len(), 0);
        assert!((8..12).contains(&run(&map, 360, 480, 86_400).len()));
        assert!(map.insert(address(24), 480).is_some());
    }

    #[test]
    fn a_destination_lives_until_the_thirtieth_tick_after_its_expiration() {
        let start = u32::MAX - 500;
        let map = DestinationMap::new(16, [0, 0]);
        map.insert(address(1), start);
        let mut now = start;
        while map.len() == 1 {
            map.expire(now, 2000, |_| ());
            now = now.wrapping_add(1);
        }
        // Full sweeps at 1,800 and 3,600 seconds; the clock wraps between.
        assert_eq!(now.wrapping_sub(start), 3601);
    }

    #[test]
    fn a_sweep_of_a_large_map_is_spread_over_calls() {
        let map = DestinationMap::new(16_384, [5, 6]);
        for n in 0..24_576 {
            map.insert(address(n), 0);
        }
        let mut most = 0;
        for now in 0..2500 {
            let before = map.len();
            map.expire(now, 1000, |_| ());
            most = most.max(before - map.len());
        }
        assert_eq!(map.len(), 0);
        assert!(most <= VISITS_PER_CALL + 16, "{most} in one call");
    }
}
