//! The servers that lblcr ties to each destination: small sets in a common pool of members.
//!
//! New members go to the head of a set. The pool is taken at start; a member that finds no room is not
//! added. One worker writes (see [`super::state`]).

use super::destination_map::NONE;
use super::state::Cell32;

/// Sets of server ids, one per slot of a [`super::destination_map::DestinationMap`].
#[derive(Debug)]
pub(super) struct ReplicaSets {
    sets: Box<[Set]>,
    members: Box<[Member]>,
    /// First of the chain of free members.
    free: Cell32,
}

#[derive(Debug)]
struct Set {
    first: Cell32,
    changed_secs: Cell32,
}

#[derive(Debug)]
struct Member {
    id: Cell32,
    next: Cell32,
}

impl ReplicaSets {
    /// `sets` empty sets with room for `members` ids in all.
    pub(super) fn new(sets: usize, members: usize) -> Self {
        let member = |index: usize| {
            let next = if index + 1 < members { index as u32 + 1 } else { NONE };
            Member { id: Cell32::new(0), next: Cell32::new(next) }
        };
        let set = |_| Set { first: Cell32::new(NONE), changed_secs: Cell32::new(0) };
        Self {
            sets: (0..sets).map(set).collect(),
            members: (0..members).map(member).collect(),
            free: Cell32::new(if members == 0 { NONE } else { 0 }),
        }
    }

    /// The ids in a set, the newest first.
    pub(super) fn ids(&self, set: usize) -> impl Iterator<Item = u32> {
        let mut next = self.sets[set].first.get();
        std::iter::from_fn(move || {
            let member = (next != NONE).then(|| &self.members[next as usize])?;
            next = member.next.get();
            Some(member.id.get())
        })
    }

    /// When the set last changed.
    pub(super) fn changed_secs(&self, set: usize) -> u32 {
        self.sets[set].changed_secs.get()
    }

    /// Whether a member can be added.
    pub(super) fn has_room(&self) -> bool {
        self.free.get() != NONE
    }

    /// Puts `id` at the head of a set that does not hold it yet, if there is room.
    pub(super) fn add(&self, set: usize, id: u32, now_secs: u32) {
        let index = self.free.get();
        if index == NONE || self.ids(set).any(|member| member == id) {
            return;
        }
        let member = &self.members[index as usize];
        self.free.set(member.next.get());
        member.id.set(id);
        member.next.set(self.sets[set].first.get());
        self.sets[set].first.set(index);
        self.sets[set].changed_secs.set(now_secs);
    }

    /// Takes `id` out of a set.
    pub(super) fn remove(&self, set: usize, id: u32, now_secs: u32) {
        let mut link = &self.sets[set].first;
        while link.get() != NONE {
            let index = link.get();
            let member = &self.members[index as usize];
            if member.id.get() == id {
                link.set(member.next.get());
                member.next.set(self.free.get());
                self.free.set(index);
                self.sets[set].changed_secs.set(now_secs);
                return;
            }
            link = &member.next;
        }
    }

    /// Empties a set.
    pub(super) fn clear(&self, set: usize) {
        let first = &self.sets[set].first;
        while first.get() != NONE {
            let index = first.get();
            let member = &self.members[index as usize];
            first.set(member.next.get());
            member.next.set(self.free.get());
            self.free.set(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::director_model::Lcg;

    #[test]
    fn they_are_sets_in_order_of_adding_under_random_operations() {
        const ROOM: usize = 40;
        let sets = ReplicaSets::new(8, ROOM);
        let mut model = vec![Vec::new(); 8];
        let mut random = Lcg::new(11);
        for now in 0..20_000 {
            let set = random.below(8) as usize;
            let id = random.below(9);
            let used: usize = model.iter().map(Vec::len).sum();
            assert_eq!(sets.has_room(), used < ROOM);
            match random.below(20) {
                0 => {
                    sets.clear(set);
                    model[set].clear();
                }
                1..8 => {
                    sets.remove(set, id, now);
                    model[set].retain(|&member| member != id);
                }
                _ => {
                    sets.add(set, id, now);
                    if !model[set].contains(&id) && used < ROOM {
                        model[set].insert(0, id);
                        assert_eq!(sets.changed_secs(set), now);
                    }
                }
            }
            assert!(sets.ids(set).eq(model[set].iter().copied()));
        }
    }
}
