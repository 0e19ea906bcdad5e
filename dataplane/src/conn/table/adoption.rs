//! A table that is in use while the records that another process has left in it are still being looked at.
//!
//! To look at all of them takes longer than packets can wait. So records stay where they lie, and each is looked at before it is
//! used: a lookup first has the lines looked at that it may visit, and [`Table::adopt_more`] goes through the rest, a few lines with each pass
//! of the worker. Meanwhile usual packets have no short way: [`nowhere`](super::lines::Homes::nowhere) sends them the common one, which asks here. That takes
//! nothing of the short way when all is done.
//!
//! # Blocks
//! Lines are looked at by blocks of as many as a lookup visits at most, so that a record lies in the block where it belongs or behind it
//! in the next one. Two things happen to a block, in this order:
//!
//! *Counted.* Each record is counted in, or, where it can be no connection that goes on, set to [`Record::NOBODY`]. Nothing moves.
//!
//! *Settled.* Those that are nobody's are taken out, and each of the others is found where it lies. It is not if a process ended
//! while records moved (`adopt.rs`), or if somebody else has written there; then it is put where it belongs, or taken out. Records move
//! here, so all lines that may be touched are counted before.
//!
//! Other operations move records, too: before they do, whatever may move is settled.

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

use dpdk::memory::{Line, Slab};

use super::lines::{PROBES, SLOTS, Slot};
use super::{HashKey, Table};
use crate::conn::record::{KEY_MASK, Key, Record};

/// Lines of a block. The last one of a table may have fewer.
const BLOCK: usize = PROBES;
/// Blocks that [`Table::adopt_more`] settles at most, and records that it looks at, give or take a block's: some microseconds.
const BLOCKS_MAX: usize = 32;
const RECORDS_MAX: usize = 128;
/// A line is not set right for ever, whatever lies in it.
const TRIES_MAX: usize = 64;
/// Nor is a table.
const ROUNDS_MAX: usize = 4;

/// Who takes over the connections of a table.
pub trait Heir: Send + Sync {
    /// Whether a record, whoever has written it, is a connection that goes on.
    fn goes_on(&self, record: Record) -> bool;
    /// Counts in one that does. False: it does not.
    fn take(&self, record: Record) -> bool;
    /// Counts out one that was taken, and was there twice or found no place.
    fn give_up(&self, record: Record);
    /// All were looked at: so many there were.
    fn end(&self, found: usize);
    /// Whether that is so.
    fn is_done(&self) -> bool;
}

/// See the module.
pub(super) struct Adoption {
    heir: Arc<dyn Heir>,
    counted: Blocks,
    settled: Blocks,
    /// Where [`Table::adopt_more`] goes on.
    next: usize,
    found: Cell<usize>,
    /// Some line was not in order in this round.
    was_torn: Cell<bool>,
    rounds: usize,
}

/// A set of blocks.
struct Blocks(Box<[Cell<u64>]>);

impl Blocks {
    fn none(blocks: usize) -> Self {
        Self((0..blocks.div_ceil(64)).map(|_| Cell::new(0)).collect())
    }

    /// Puts a block in. False: it was there.
    fn add(&self, block: usize) -> bool {
        let word = &self.0[block / 64];
        let before = word.get();
        word.set(before | 1 << (block % 64));
        before >> (block % 64) & 1 == 0
    }

    fn take(&self, block: usize) {
        let word = &self.0[block / 64];
        word.set(word.get() & !(1 << (block % 64)));
    }

    fn has(&self, block: usize) -> bool {
        self.0[block / 64].get() >> (block % 64) & 1 != 0
    }

    fn clear(&self) {
        self.0.iter().for_each(|word| word.set(0));
    }
}

impl Table {
    /// The table in `lines`, which another process has left, to be looked at as it is used. No record has a client of IPv6, and none
    /// hangs on a template.
    pub fn inherit(lines: Slab<Line>, capacity: usize, key: HashKey, heir: Arc<dyn Heir>) -> Self {
        let table = Self::new(lines, capacity, key);
        let blocks = table.lines().div_ceil(BLOCK);
        let adoption = Adoption {
            heir,
            counted: Blocks::none(blocks),
            settled: Blocks::none(blocks),
            next: 0,
            found: Cell::new(0),
            was_torn: Cell::new(false),
            rounds: 0,
        };
        Self { homes: table.homes.nowhere(), adoption: Some(Box::new(adoption)), ..table }
    }

    /// Whether some records are still to be looked at.
    #[inline]
    pub fn is_adopting(&self) -> bool {
        self.adoption.is_some()
    }

    /// Looks at some more. False: that was all.
    pub fn adopt_more(&mut self) -> bool {
        let blocks = self.lines().div_ceil(BLOCK);
        let Some(mut adoption) = self.adoption.take() else { return false };
        let (end, before) = ((adoption.next + BLOCKS_MAX).min(blocks), adoption.found.get());
        while adoption.next < end && adoption.found.get() - before < RECORDS_MAX {
            self.settle(&adoption, adoption.next);
            adoption.next += 1;
        }
        if adoption.next == blocks && adoption.was_torn.take() && adoption.rounds < ROUNDS_MAX {
            // What was put right may have moved what was looked at before.
            adoption.rounds += 1;
            adoption.next = 0;
            adoption.settled.clear();
        }
        if adoption.next < blocks {
            self.adoption = Some(adoption);
            return true;
        }
        adoption.heir.end(adoption.found.get());
        self.homes = self.shared.homes;
        false
    }

    /// What another thread may believe of the records.
    pub(super) fn heir(&self) -> Option<Arc<dyn Heir>> {
        self.adoption.as_ref().map(|adoption| adoption.heir.clone())
    }

    /// Has the lines looked at that [`Table::find`] visits. It finds by itself then: what this gives back costs those who find without.
    #[cold]
    #[inline(never)]
    pub(super) fn look_for(&self, hash: u64, key: Key) {
        let Some(adoption) = &self.adoption else { return };
        // Most lie in the first line.
        self.settle(adoption, self.shared.homes.home(hash) / BLOCK);
        let is_it = |record: Record| record.value & KEY_MASK == key.value;
        let found = self.shared.find(hash, |candidate| candidate == key.key, is_it);
        if found.is_none_or(|(slot, _)| !adoption.settled.has(slot.line / BLOCK)) {
            self.look_at(hash);
        }
    }

    /// Has the lines looked at that a lookup of `hash` may visit.
    #[cold]
    #[inline(never)]
    pub(super) fn look_at(&self, hash: u64) {
        let Some(adoption) = &self.adoption else { return };
        let home = self.shared.homes.home(hash);
        self.blocks_of(home, PROBES).for_each(|block| self.settle(adoption, block));
    }

    /// Has all lines settled that may change when a record of this line is removed.
    #[cold]
    pub(super) fn look_behind(&self, line: usize) {
        let Some(adoption) = &self.adoption else { return };
        for distance in 0..self.lines() {
            let at = self.shared.behind(line, distance);
            self.blocks_of(at, PROBES).for_each(|block| self.settle(adoption, block));
            if self.shared.value(at, SLOTS - 1) == 0 {
                return;
            }
        }
    }

    /// The blocks of so many lines from this one on.
    fn blocks_of(&self, first: usize, count: usize) -> impl Iterator<Item = usize> + use<> {
        let lines = self.lines();
        let blocks = lines.div_ceil(BLOCK);
        let last = (first + count - 1) % lines / BLOCK;
        let first = first / BLOCK;
        let more = match count + BLOCK < lines {
            true if last >= first => last - first,
            true => last + blocks - first,
            false => blocks - 1,
        };
        (0..=more).map(move |distance| (first + distance) % blocks)
    }

    fn lines_of(&self, block: usize) -> Range<usize> {
        block * BLOCK..((block + 1) * BLOCK).min(self.lines())
    }

    fn settle(&self, adoption: &Adoption, block: usize) {
        if !adoption.settled.add(block) {
            return;
        }
        self.count(adoption, block);
        for line in self.lines_of(block) {
            if !self.is_in_order(line) {
                self.put_in_order(adoption, line);
            }
        }
    }

    fn count(&self, adoption: &Adoption, block: usize) {
        if !adoption.counted.add(block) {
            return;
        }
        for line in self.lines_of(block) {
            let ahead = self.shared.behind(line, 2 * BLOCK);
            dpdk::lcore::prefetch_at(&self.shared.lines, ahead);
            for slot in 0..SLOTS {
                let record = self.shared.read(line, slot);
                if record.value == 0 || record == Record::NOBODY {
                    continue;
                }
                adoption.found.set(adoption.found.get() + 1);
                let home = self.shared.homes.home(self.hash(record.hash_input()));
                let is_sound = record.is_sound() && !record.client().is_of_ipv6();
                if is_sound && self.shared.distance(home, line) < PROBES && adoption.heir.take(record) {
                    self.len.set(self.len() + 1);
                    if record.is_templated() {
                        self.shared.update(Slot { line, slot }, record.without_template());
                    }
                } else {
                    self.shared.exchange(Slot { line, slot }, Record::NOBODY);
                }
            }
        }
    }

    /// Whether the slots of a line are taken in order, and each record is found where it lies.
    fn is_in_order(&self, line: usize) -> bool {
        let taken = (0..SLOTS).take_while(|&slot| self.shared.value(line, slot) != 0).count();
        (taken..SLOTS).all(|slot| self.shared.value(line, slot) == 0)
            && (0..taken).all(|slot| {
                let record = self.shared.read(line, slot);
                record.is_sound() && self.place_of(record) == Some(Slot { line, slot })
            })
    }

    fn place_of(&self, record: Record) -> Option<Slot> {
        let key = record.lookup_key();
        let is_it = |other: Record| other.is_sound() && other.value & KEY_MASK == key.value;
        let hash = self.hash(record.hash_input());
        self.shared.find(hash, |candidate| candidate == key.key, is_it).map(|(slot, _)| slot)
    }

    /// Puts a line in order: each of its records where it belongs, once, and nothing that is nobody's.
    #[cold]
    fn put_in_order(&self, adoption: &Adoption, line: usize) {
        adoption.was_torn.set(true);
        self.clear_way(adoption, line);
        self.shared.close_gaps(line);
        // What has spilled over this line may lie where nobody would find it now.
        let own = line / BLOCK;
        let behind = self.blocks_of(self.shared.behind(line, 1), PROBES).filter(|block| *block != own);
        behind.for_each(|block| adoption.settled.take(block));
        let mut slot = 0;
        for _ in 0..TRIES_MAX {
            if slot == SLOTS || self.shared.value(line, slot) == 0 {
                return;
            }
            let (at, record) = (Slot { line, slot }, self.shared.read(line, slot));
            let place = self.place_of(record);
            if place == Some(at) {
                slot += 1;
                continue;
            }
            // It was moving: it is there a second time, or nobody would find it.
            let hash = self.hash(record.hash_input());
            if place.is_none() {
                self.clear_way(adoption, self.shared.homes.home(hash));
            }
            if place.is_some() || self.shared.insert(hash, record).is_none() {
                adoption.heir.give_up(record);
                self.len.set(self.len() - 1);
            }
            self.shared.remove(at, |_, _| ());
        }
    }

    /// Counts whatever may move when a record is put into this line or taken out, and takes out what is nobody's, from the last line
    /// on, so that none of it moves.
    fn clear_way(&self, adoption: &Adoption, line: usize) {
        let is_full =
            |distance: &usize| self.shared.value(self.shared.behind(line, *distance), SLOTS - 1) != 0;
        // Up to the first line that is not full, from behind which nothing moves.
        let run = ((0..self.lines()).take_while(is_full).count() + 1).min(self.lines());
        self.blocks_of(line, run).for_each(|block| self.count(adoption, block));
        for distance in (0..run).rev() {
            let line = self.shared.behind(line, distance);
            for slot in (0..SLOTS).rev() {
                let record = self.shared.read(line, slot);
                if record.value != 0 && !record.is_sound() {
                    self.shared.remove(Slot { line, slot }, |_, _| ());
                }
            }
        }
    }
}
