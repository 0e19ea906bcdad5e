//! Servers of a list as a tournament: above each two the one with the lesser load, and of equals the one before.
//!
//! The cells have one writer, who alone reads them.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::sched::Load;

/// See the module.
#[derive(Debug)]
pub(super) struct Tree {
    /// Behind some that nobody uses: the root is the second one, and below each, the `n`-th, the `2n`-th and the next one. The
    /// leaves are the second half, in the order of the list.
    nodes: Box<[Node]>,
    leaves: usize,
}

/// So many before and behind keep what one worker writes off the cache lines of others.
const UNUSED: usize = 128 / size_of::<Node>();

/// The winner of those below.
#[derive(Debug)]
#[repr(align(16))]
struct Node {
    amount: AtomicU64,
    who: AtomicU64,
}

/// One of the servers below a node.
#[derive(Debug, Clone, Copy)]
struct Winner {
    amount: u64,
    who: Who,
}

/// A server's place in the list and its weight: the one is as good as both, until the list changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Who(u64);

impl Who {
    const NOBODY: Self = Self::new(u32::MAX, Load::INFINITE.weight);

    const fn new(place: u32, weight: u32) -> Self {
        Self((place as u64) << 32 | weight as u64)
    }

    #[inline]
    fn place(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline]
    fn weight(self) -> u32 {
        self.0 as u32
    }
}

impl Winner {
    /// None of them is usable.
    const NOBODY: Self = Self { amount: Load::INFINITE.amount, who: Who::NOBODY };

    #[inline]
    fn new(place: usize, load: Load) -> Self {
        Self { amount: load.amount, who: Who::new(place as u32, load.weight) }
    }

    #[inline]
    fn load(self) -> Load {
        Load { amount: self.amount, weight: self.who.weight() }
    }

    /// The winner of both of them.
    #[inline]
    fn or(self, other: Self, other_is_before: bool) -> Self {
        if other.load().is_below(self.load(), other_is_before) { other } else { self }
    }
}

impl Node {
    #[inline]
    fn get(&self) -> Winner {
        Winner { amount: self.amount.load(Relaxed), who: Who(self.who.load(Relaxed)) }
    }

    #[inline]
    fn set(&self, winner: Winner) {
        self.amount.store(winner.amount, Relaxed);
        self.who.store(winner.who.0, Relaxed);
    }
}

impl Tree {
    /// Of so many servers, none of which is usable.
    pub(super) fn new(list_len: usize) -> Self {
        let leaves = list_len.next_power_of_two();
        let node = |_| Node {
            amount: AtomicU64::new(Winner::NOBODY.amount),
            who: AtomicU64::new(Winner::NOBODY.who.0),
        };
        Self { nodes: (0..UNUSED + 2 * leaves + UNUSED).map(node).collect(), leaves }
    }

    /// From the one before the root on.
    #[inline]
    fn nodes(&self) -> &[Node] {
        &self.nodes[UNUSED..]
    }

    /// The one with the least load; of equals the first.
    #[inline]
    pub(super) fn least(&self) -> Option<usize> {
        let Winner { who, .. } = self.nodes()[1].get();
        (who.weight() != Load::INFINITE.weight).then_some(who.place() as usize)
    }

    /// A server has another load now.
    #[inline]
    pub(super) fn renew(&self, place: usize, load: Load) {
        let nodes = self.nodes();
        let own = Winner::new(place, load);
        let mut winner = own;
        let mut number = self.leaves + place;
        nodes[number].set(own);
        while number > 1 {
            let is_second = number % 2 == 1;
            winner = winner.or(nodes[number ^ 1].get(), is_second);
            number /= 2;
            let node = &nodes[number];
            if node.who.load(Relaxed) == winner.who.0 && winner.who != own.who {
                // The winner is another one, and was before.
                return;
            }
            node.set(winner);
        }
    }

    /// The loads of all servers, by place.
    pub(super) fn fill(&self, list_len: usize, load: impl Fn(usize) -> Load) {
        let nodes = self.nodes();
        for place in 0..list_len.min(self.leaves) {
            nodes[self.leaves + place].set(Winner::new(place, load(place)));
        }
        for number in (1..self.leaves).rev() {
            nodes[number].set(nodes[2 * number].get().or(nodes[2 * number + 1].get(), false));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By a walk.
    fn least(loads: &[Load]) -> Option<usize> {
        let mut best = (usize::MAX, Load::INFINITE);
        for (place, load) in loads.iter().enumerate() {
            if best.1.exceeds(*load) {
                best = (place, *load);
            }
        }
        (best.0 != usize::MAX).then_some(best.0)
    }

    #[test]
    fn the_winner_is_the_first_of_the_least_loaded() {
        bolero::check!().with_type::<(u8, Vec<(u8, u8, u8, bool)>)>().for_each(|(len, steps)| {
            let mut loads = vec![Load::INFINITE; usize::from(*len) + 1];
            let tree = Tree::new(loads.len());
            assert_eq!(tree.least(), None);
            for &(place, amount, weight, is_anew) in steps {
                let place = usize::from(place) % loads.len();
                // Few of them, so that many are alike; and extremes.
                let amount = if amount > 250 { (1 << 41) - 1 } else { u64::from(amount % 5) };
                let weight = if weight > 250 { 65_535 } else { u32::from(weight % 4) };
                loads[place] = if weight == 0 { Load::INFINITE } else { Load { amount, weight } };
                if is_anew {
                    tree.fill(loads.len(), |place| loads[place]);
                } else {
                    tree.renew(place, loads[place]);
                }
                assert_eq!(tree.least(), least(&loads));
            }
        });
    }
}
