//! Long lists under the methods that take the server with the least load: a pick looks at what has changed since the last
//! one, and at the least loaded of the rest.
//!
//! Real servers of a long list are put into [`Block`]s of some thirty, each for as long as it lives. Whoever changes a count
//! of one stamps its block. A worker remembers for each block which of its servers had the least load, and with which stamp
//! that was found: a pick walks the blocks, and only through those with another stamp. It picks what a walk through the list
//! would pick, also with several workers, whose stamps add up. (One exception: a worker that still has a version of the
//! virtual server whose method does not compare servers stamps nothing. What it changes in its last pass with that version,
//! another one sees with the next change in the block.)
//!
//! Short lists, and those that were short when a server came, are walked as they are.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

use crossbeam::utils::CachePadded;
use weir_config::model::Scheduler as Kind;

use crate::sched::{Load, Measure, Servers, has_plenty, least};

/// Servers of a block: about as many as a virtual server of a thousand has blocks.
const BLOCK_LEN: usize = 32;
/// A server that makes a list no longer than this is in no block.
const LOOSE_MAX: usize = 48;

/// Real servers of one virtual server whose changes are noted together.
#[derive(Debug)]
pub struct Block {
    /// By worker: how often it has changed a count, modulo 2^32.
    changes: Box<[CachePadded<AtomicU32>]>,
}

impl Block {
    fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self { changes: (0..workers).map(|_| CachePadded::default()).collect() })
    }

    /// Notes that a worker has changed a count or an overload flag of a server.
    #[inline]
    pub fn note(&self, worker: usize) {
        let own = &self.changes[worker];
        // Whoever sees this sees the change, too.
        own.store(own.load(Relaxed).wrapping_add(1), Release);
    }

    /// Another number after each change. (After 2^32 of them it is the same: a worker that picked nothing in between takes
    /// an old rank for a new one until the next change.)
    #[inline]
    fn stamp(&self) -> u32 {
        if let [own] = &*self.changes {
            return own.load(Acquire);
        }
        self.changes.iter().fold(0, |sum, own| sum.wrapping_add(own.load(Acquire)))
    }
}

/// Blocks of a virtual server for the servers that it gets.
pub(super) struct Seats {
    workers: usize,
    /// With their free seats.
    free: Vec<(Arc<Block>, usize)>,
}

impl Seats {
    /// Beside these, the blocks of the servers that are there. `None`: the list is to be short.
    pub(super) fn beside<'a>(
        taken: impl Iterator<Item = &'a Arc<Block>>,
        list_len: usize,
        workers: usize,
    ) -> Option<Self> {
        if list_len <= LOOSE_MAX {
            return None;
        }
        let mut blocks: Vec<&Arc<Block>> = taken.collect();
        blocks.sort_unstable_by_key(|block| Arc::as_ptr(block));
        let with_room = blocks.chunk_by(|a, b| Arc::ptr_eq(a, b)).filter(|its| its.len() < BLOCK_LEN);
        Some(Self { workers, free: with_room.map(|its| (its[0].clone(), BLOCK_LEN - its.len())).collect() })
    }

    /// A block for one more server.
    pub(super) fn take(&mut self) -> Arc<Block> {
        if let Some((block, seats)) = self.free.last_mut() {
            let block = block.clone();
            *seats -= 1;
            if *seats == 0 {
                self.free.pop();
            }
            return block;
        }
        let block = Block::new(self.workers);
        self.free.push((block.clone(), BLOCK_LEN - 1));
        block
    }
}

/// What the workers remember of one version of a list.
#[derive(Debug)]
pub struct Ranks {
    measure: Measure,
    /// Whether picks ask for one that has plenty of room.
    seeks_plenty: bool,
    /// Servers in no block, by their places in the list.
    loose: Box<[u32]>,
    blocks: Box<[Members]>,
    /// By worker, then by block.
    known: Box<[Box<[Known]>]>,
}

#[derive(Debug)]
struct Members {
    block: Arc<Block>,
    /// Places in the list, rising.
    places: Box<[u32]>,
}

/// What a worker knows of a block. It alone writes and reads it.
#[derive(Debug)]
#[repr(align(64))]
struct Known {
    /// That of its block when it was found.
    stamp: AtomicU32,
    /// Where in the list the one with the least load is.
    place: AtomicU32,
    /// Its load; [`Load::INFINITE`]: none of them is usable.
    amount: AtomicU64,
    weight: AtomicU32,
    /// Whether one of the block has plenty of room, if that is asked for.
    has_plenty: AtomicBool,
}

impl Known {
    /// Nothing: the block has another stamp by now.
    fn nothing_of(block: &Block) -> Self {
        Self {
            stamp: AtomicU32::new(block.stamp().wrapping_sub(1)),
            place: AtomicU32::new(u32::MAX),
            amount: AtomicU64::new(0),
            weight: AtomicU32::new(0),
            has_plenty: AtomicBool::new(false),
        }
    }

    #[inline]
    fn least(&self) -> (u32, Load) {
        let load = Load { amount: self.amount.load(Relaxed), weight: self.weight.load(Relaxed) };
        (self.place.load(Relaxed), load)
    }
}

impl Ranks {
    /// Of a list with these blocks, in its order. `None`: none of them has one, or the method compares no servers.
    pub(super) fn new<'a>(
        blocks: impl Iterator<Item = Option<&'a Arc<Block>>>,
        method: Kind,
        workers: usize,
    ) -> Option<Self> {
        let measure = Measure::of(method)?;
        let seeks_plenty = matches!(method, Kind::Lblc | Kind::Lblcr);
        let mut loose = Vec::new();
        let mut seated = Vec::new();
        for (place, block) in (0..).zip(blocks) {
            match block {
                Some(block) => seated.push((block, place)),
                None => loose.push(place),
            }
        }
        if seated.is_empty() {
            return None;
        }
        seated.sort_unstable_by_key(|&(block, place)| (Arc::as_ptr(block), place));
        let blocks: Box<[Members]> = seated
            .chunk_by(|(a, _), (b, _)| Arc::ptr_eq(a, b))
            .map(|its| Members {
                block: its[0].0.clone(),
                places: its.iter().map(|&(_, place)| place).collect(),
            })
            .collect();
        let known = (0..workers)
            .map(|_| blocks.iter().map(|members| Known::nothing_of(&members.block)).collect())
            .collect();
        Some(Self { measure, seeks_plenty, loose: loose.into(), blocks, known })
    }

    /// The usable server with the least load; of equals the first. `servers` is the list that this was made for.
    pub(super) fn least(&self, worker: usize, servers: &impl Servers) -> Option<usize> {
        let loose = least(servers, self.loose.iter().map(|&place| place as usize), self.measure);
        let mut best = loose.map_or((u32::MAX, Load::INFINITE), |(place, load)| (place as u32, load));
        for known in self.up_to_date(worker, servers) {
            let (place, load) = known.least();
            if best.1.exceeds(load) || place < best.0 && !load.exceeds(best.1) {
                best = (place, load);
            }
        }
        (best.1 != Load::INFINITE).then_some(best.0 as usize)
    }

    /// As [`Servers::some_have_plenty`], for lblc and lblcr.
    pub(super) fn some_have_plenty(&self, worker: usize, servers: &impl Servers) -> bool {
        self.loose.iter().any(|&place| has_plenty(servers, place as usize))
            || self.up_to_date(worker, servers).any(|known| known.has_plenty.load(Relaxed))
    }

    /// What the worker knows of each block, looked at anew where something has changed.
    #[inline]
    fn up_to_date(&self, worker: usize, servers: &impl Servers) -> impl Iterator<Item = &Known> {
        let known = self.known.get(worker).map_or(&[][..], |known| known);
        self.blocks.iter().zip(known).map(move |(members, known)| {
            // Before the look: a change during it is seen the next time.
            let stamp = members.block.stamp();
            if known.stamp.load(Relaxed) != stamp {
                self.look(members, known, servers);
                known.stamp.store(stamp, Relaxed);
            }
            known
        })
    }

    fn look(&self, members: &Members, known: &Known, servers: &impl Servers) {
        let places = || members.places.iter().map(|&place| place as usize);
        let found = least(servers, places(), self.measure);
        let (place, load) = found.map_or((u32::MAX, Load::INFINITE), |(place, load)| (place as u32, load));
        known.place.store(place, Relaxed);
        known.amount.store(load.amount, Relaxed);
        known.weight.store(load.weight, Relaxed);
        if self.seeks_plenty {
            known.has_plenty.store(places().any(|place| has_plenty(servers, place)), Relaxed);
        }
    }
}
