//! Where a next hop's entry is: open addressing with linear probing, at most half full, closed again on removal.
//!
//! A map that marks what was removed has to be made anew from time to time, which stops a worker for a fraction of a
//! millisecond; here every removal costs a run of a few places and that is all. All memory is taken, and touched, at the
//! start. Clients in a connected network are next hops, so the hash is keyed.

use std::hash::BuildHasher;

use super::{AnyHop, Slot};
use crate::conn::table::HashKey;

/// A place without an entry.
const FREE: Slot = Slot::MAX;

/// See the module.
pub(super) struct Index {
    /// A power of two.
    places: Box<[Slot]>,
    key: HashKey,
    /// Bits of a hash that are not the place.
    shift: u32,
}

impl Index {
    /// For so many entries.
    pub(super) fn new(entries: usize) -> Self {
        let random = hashbrown::DefaultHashBuilder::default();
        Self::with_key(entries, HashKey::new([random.hash_one(1), random.hash_one(2)]))
    }

    fn with_key(entries: usize, key: HashKey) -> Self {
        let places = (entries * 2).next_power_of_two().max(2);
        Self { places: vec![FREE; places].into(), key, shift: u64::BITS - places.trailing_zeros() }
    }

    /// Asks the processor for the place where the search for `hop` begins.
    pub(super) fn prefetch(&self, hop: impl AnyHop) {
        dpdk::lcore::prefetch_at(&self.places, self.home(hop));
    }

    /// The entry of `hop`. `hop_of` says whose an entry is.
    pub(super) fn get<H: AnyHop>(&self, hop: H, hop_of: impl Fn(Slot) -> H) -> Option<Slot> {
        let place = self.find(hop, hop_of);
        Some(self.places[place]).filter(|&slot| slot != FREE)
    }

    /// Adds an entry for a next hop that has none.
    pub(super) fn insert<H: AnyHop>(&mut self, hop: H, slot: Slot, hop_of: impl Fn(Slot) -> H) {
        let place = self.find(hop, hop_of);
        debug_assert_eq!(self.places[place], FREE);
        self.places[place] = slot;
    }

    /// Takes the entry of `hop` out, if there is one.
    pub(super) fn remove<H: AnyHop>(&mut self, hop: H, hop_of: impl Fn(Slot) -> H) {
        let mut hole = self.find(hop, &hop_of);
        let mut place = hole;
        while self.places[hole] != FREE {
            place = self.behind(place);
            let slot = self.places[place];
            if slot == FREE {
                self.places[hole] = FREE;
                return;
            }
            // What would be cut off from its home by the hole moves into it.
            if self.distance(self.home(hop_of(slot)), place) >= self.distance(hole, place) {
                self.places[hole] = slot;
                hole = place;
            }
        }
    }

    /// The place of `hop`, or the free one where it would be. There is one, half of them being free.
    fn find<H: AnyHop>(&self, hop: H, hop_of: impl Fn(Slot) -> H) -> usize {
        let mut place = self.home(hop);
        while self.places[place] != FREE && hop_of(self.places[place]) != hop {
            place = self.behind(place);
        }
        place
    }

    fn home(&self, hop: impl AnyHop) -> usize {
        (hop.hash(&self.key) >> self.shift) as usize
    }

    fn behind(&self, place: usize) -> usize {
        (place + 1) & (self.places.len() - 1)
    }

    /// How many places `to` lies behind `from`, round and round.
    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.places.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::address::Addr4;
    use crate::neighbor::Hop;

    #[test]
    fn it_is_as_a_map_whatever_comes_and_goes() {
        bolero::check!().with_type::<Vec<(bool, u8)>>().for_each(|steps| {
            let hop_of = |slot: Slot| Hop::at(Addr4::from_bits(slot % 29), 0, 0);
            let mut index = Index::new(32);
            let mut model = HashMap::new();
            for &(comes, number) in steps {
                let slot = Slot::from(number) % 29;
                let hop = hop_of(slot);
                if comes && !model.contains_key(&hop) {
                    model.insert(hop, slot);
                    index.insert(hop, slot, hop_of);
                } else if !comes {
                    model.remove(&hop);
                    index.remove(hop, hop_of);
                }
                for hop in (0..29).map(hop_of) {
                    assert_eq!(index.get(hop, hop_of), model.get(&hop).copied());
                }
            }
        });
    }

    /// The longest way from an entry's home to its place, and the mean.
    fn distances(index: &Index, hop_of: impl Fn(Slot) -> Hop) -> (usize, f64) {
        let taken = index.places.iter().enumerate().filter(|(_, slot)| **slot != FREE);
        let distances: Vec<usize> =
            taken.map(|(place, &slot)| index.distance(index.home(hop_of(slot)), place)).collect();
        let sum: usize = distances.iter().sum();
        (distances.iter().copied().max().unwrap_or(0), sum as f64 / distances.len() as f64)
    }

    /// Half full, the mean of linear probing is half a place and the longest way some tens, whatever the key; neighbours of
    /// one network are all alike but for a few bits.
    #[test]
    fn no_key_makes_long_ways() {
        // Numbers that look random (splitmix64).
        let mut state = 11u64;
        let mut word = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ mixed >> 31
        };
        for _ in 0..500 {
            let key = HashKey::new([word(), word()]);
            for step in [1, 256, 4096] {
                let hop_of =
                    |slot: Slot| Hop::at(Addr4::new(10, 0, 0, 0).plus(slot * step), (slot % 3) as u16, 0);
                let mut index = Index::with_key(4096, key);
                (0..4096).for_each(|slot| index.insert(hop_of(slot), slot, hop_of));
                let (longest, mean) = distances(&index, hop_of);
                assert!(longest < 128 && mean < 4.0, "{longest}, {mean}, step {step}");
            }
        }
    }
}
