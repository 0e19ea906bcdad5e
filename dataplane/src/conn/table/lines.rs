//! The lines of a connection table as its worker and all others share them: what is written in which order, and what a
//! reader makes of it. `model.rs` compiles this file a second time, with memory that behaves as badly as the language
//! allows.
//!
//! # Why readers see connections and nothing else
//! There is one writer, the worker, which needs no order for what it reads itself. Others read without a lock.
//!
//! *A pair is a connection's.* A slot is a key and a value, two words. The writer lets the value pass through 0, which is a
//! free slot, before it writes another key: value 0, then key (release), then value (release). So who reads a key
//! (acquire) sees that 0 or what came later: 0, which is no record, or the value of this key, or one that came into the slot
//! after it. A value of the last kind was written after another key; who read it (acquire) sees that one when it reads the key
//! again, unless the very same key came back meanwhile, for which two records have to have moved out of the slot.
//!
//! *Nothing slips past.* Records move when another one is removed. `moves` is odd meanwhile and another number
//! after that, as in a seqlock: who reads the same even number before and behind a search has met no move, so what it has
//! not found was not there, and no slot had two owners. What it finds while records move counts only if the number has not come
//! to rest after some tries; then the key is read again, as above.
//!
//! *A full line* is told by its last slot. It is empty or full, and a reader that sees it empty too early or too late has met
//! an insertion that is not done, or a move.
//!
//! *The newest comes first.* Where a client's port has several connections that one real server answers from one socket, a reply
//! says not which of them is meant. The kernel takes the one that began last, and so does who takes the first that it meets:
//! a record goes in before its rivals, which move up by one place each, from the last on, so that none is ever missing; and
//! whatever closes a gap keeps the order of the records with the same home.
//!
//! *A later version of a record* is one store of its value. It is a release, too: it may be the one that a reader of the pair
//! sees.

use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release};

use super::sync::{AtomicU64, Memory, fence, prefetch_at, spin_loop};
use crate::conn::record::Record;
use crate::conn::table::HashKey;

/// Records in a line.
pub(super) const SLOTS: usize = 4;
/// Lines that a lookup visits at most. Reached only by a client that opens tens of connections from one port.
pub(super) const PROBES: usize = 16;
/// A table in which records move all the time is not searched for ever.
const TRIES: usize = 4;

/// Where a record lies. Good until the next insert or remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    pub(super) line: usize,
    pub(super) slot: usize,
}

/// Where records belong: all it takes to find that out, at hand.
#[derive(Clone, Copy)]
pub(super) struct Homes {
    pub(super) key: HashKey,
    lines: u64,
}

impl Homes {
    /// The line where `hash` belongs: its upper bits, scaled, so that any number of lines will do.
    #[inline]
    pub(super) fn home(&self, hash: u64) -> usize {
        ((u128::from(hash) * u128::from(self.lines)) >> 64) as usize
    }

    /// With as good as every hash behind the end of every table.
    pub(super) fn nowhere(self) -> Self {
        Self { lines: u64::MAX, ..self }
    }
}

/// See the module. On lines of its own, since `moves` is written and another worker's table may lie beside it.
#[repr(align(128))]
pub(super) struct Lines {
    pub(super) lines: Memory,
    pub(super) homes: Homes,
    /// Odd while records move; goes up with each move.
    moves: AtomicU64,
}

/// What a search from outside saw.
#[derive(Debug, Clone, Copy)]
pub(super) struct Glance {
    pub(super) found: Option<Record>,
    /// Nothing has moved meanwhile: what is not found is not there.
    pub(super) is_settled: bool,
}

/// For whoever has them.
impl Lines {
    pub(super) fn new(lines: Memory, key: HashKey) -> Self {
        let homes = Homes { key, lines: lines.len() as u64 };
        Self { lines, homes, moves: AtomicU64::new(0) }
    }

    /// The line `distance` lines behind `line`, round and round.
    #[inline]
    pub(super) fn behind(&self, line: usize, distance: usize) -> usize {
        let index = line + distance;
        if index < self.lines.len() { index } else { index - self.lines.len() }
    }

    /// How many lines `to` lies behind `from`.
    pub(super) fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.lines.len() - from }
    }

    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        prefetch_at(&self.lines, self.homes.home(hash));
    }

    /// Whether a connection with this hash would find no room in the lines that it may lie in.
    pub(super) fn is_crowded(&self, hash: u64) -> bool {
        let home = self.homes.home(hash);
        (0..PROBES).all(|distance| self.value(self.behind(home, distance), SLOTS - 1) != 0)
    }

    /// The first record that `is_it` accepts, of those whose key `key_matches` does, in the lines where `hash` may lie.
    #[inline]
    fn probe(
        &self,
        hash: u64,
        order: Ordering,
        key_matches: impl Fn(u64) -> bool,
        is_it: impl Fn(Record) -> bool,
    ) -> Option<(Slot, Record)> {
        let home = self.homes.home(hash);
        for distance in 0..PROBES {
            let index = self.behind(home, distance);
            let line = &self.lines[index].0;
            for slot in 0..SLOTS {
                let key = line[slot].load(order);
                if key_matches(key) {
                    let record = Record { key, value: line[SLOTS + slot].load(order) };
                    if record.value != 0 && is_it(record) {
                        return Some((Slot { line: index, slot }, record));
                    }
                }
            }
            // Slots of a line are taken in order, so the last one tells whether the line is full.
            if line[2 * SLOTS - 1].load(order) == 0 {
                return None;
            }
        }
        None
    }

    pub(super) fn value(&self, line: usize, slot: usize) -> u64 {
        self.lines[line].0[SLOTS + slot].load(Relaxed)
    }
}

/// For its worker alone.
impl Lines {
    /// Of the records whose key `key_matches` accepts, the first that `is_it` does.
    #[inline]
    pub(super) fn find(
        &self,
        hash: u64,
        key_matches: impl Fn(u64) -> bool,
        is_it: impl Fn(Record) -> bool,
    ) -> Option<(Slot, Record)> {
        self.probe(hash, Relaxed, key_matches, is_it)
    }

    /// What lies in a slot.
    pub(super) fn read(&self, line: usize, slot: usize) -> Record {
        Record { key: self.lines[line].0[slot].load(Relaxed), value: self.value(line, slot) }
    }

    /// Puts a record into a free slot.
    #[inline]
    pub(super) fn fill(&self, line: usize, slot: usize, record: Record) {
        let words = &self.lines[line].0;
        words[slot].store(record.key, Release);
        words[SLOTS + slot].store(record.value, Release);
    }

    /// Puts a record into the first free slot of the lines where it may lie.
    pub(super) fn insert(&self, hash: u64, record: Record) -> Option<Slot> {
        let free = self.free(hash)?;
        self.fill(free.line, free.slot, record);
        Some(free)
    }

    /// As [`Lines::insert`], but before all records that `is_rival` accepts, whose home is the same.
    pub(super) fn insert_before(
        &self,
        hash: u64,
        record: Record,
        is_rival: impl Fn(Record) -> bool,
    ) -> Option<Slot> {
        let free = self.free(hash)?;
        let home = self.homes.home(hash);
        let places = (0..=self.distance(home, free.line)).flat_map(|distance| {
            let line = self.behind(home, distance);
            (0..SLOTS).map(move |slot| Slot { line, slot })
        });
        let mut hole = free;
        // From the last on: each is in its new place before another one comes into its old one.
        for place in places.rev().filter(|place| *place != free) {
            let rival = self.read(place.line, place.slot);
            if rival.value != 0 && is_rival(rival) {
                if hole == free {
                    self.begin_moves();
                }
                self.replace(hole, rival);
                hole = place;
            }
        }
        self.replace(hole, record);
        if hole != free {
            self.end_moves();
        }
        Some(hole)
    }

    /// The first free slot of the lines where a record with this hash may lie.
    #[inline]
    fn free(&self, hash: u64) -> Option<Slot> {
        let home = self.homes.home(hash);
        (0..PROBES).find_map(|distance| {
            let line = self.behind(home, distance);
            let slot = (0..SLOTS).find(|&slot| self.value(line, slot) == 0)?;
            Some(Slot { line, slot })
        })
    }

    /// Writes a later version of a record.
    #[inline]
    pub(super) fn update(&self, slot: Slot, record: Record) {
        self.lines[slot.line].0[SLOTS + slot.slot].store(record.value, Release);
    }

    /// Puts a record where another one was.
    pub(super) fn exchange(&self, slot: Slot, record: Record) {
        self.begin_moves();
        self.replace(slot, record);
        self.end_moves();
    }

    /// Has the records of a line in its first slots.
    pub(super) fn close_gaps(&self, line: usize) {
        self.begin_moves();
        let taken = (0..SLOTS).filter(|&slot| self.value(line, slot) != 0);
        for (free, slot) in taken.enumerate().filter(|(free, slot)| free != slot) {
            self.replace(Slot { line, slot: free }, self.read(line, slot));
            self.clear(line, slot);
        }
        self.end_moves();
    }

    /// Removes a record. `moved` is told from which line to which one each record moves that had spilled over.
    pub(super) fn remove(&self, slot: Slot, moved: impl FnMut(usize, usize)) {
        self.begin_moves();
        self.take_out(slot, moved);
        self.end_moves();
    }

    fn begin_moves(&self) {
        self.moves.store(self.moves.load(Relaxed) + 1, Relaxed);
        fence(Release);
    }

    fn end_moves(&self) {
        self.moves.store(self.moves.load(Relaxed) + 1, Release);
    }

    fn take_out(&self, slot: Slot, mut moved: impl FnMut(usize, usize)) {
        let mut hole = slot.line;
        let was_full = self.is_full(hole);
        self.close_gap(hole, slot.slot);
        if !was_full {
            return;
        }
        // Everything that spilled over the line while it was full has to stay reachable: move one such record
        // back into the hole, then fill the hole it leaves. Up to the first line that never spilled.
        let mut at = self.behind(hole, 1);
        while self.distance(hole, at) < PROBES {
            let at_was_full = self.is_full(at);
            if let Some(slot) = self.spilled_over(hole, at) {
                moved(at, hole);
                let free = (0..SLOTS).find(|&free| self.value(hole, free) == 0);
                self.fill(hole, free.unwrap_or(SLOTS - 1), self.read(at, slot));
                self.close_gap(at, slot);
                hole = at;
            }
            if !at_was_full {
                return;
            }
            at = self.behind(at, 1);
        }
    }

    /// A slot of line `at` whose record would rather lie in line `hole`, some lines before.
    fn spilled_over(&self, hole: usize, at: usize) -> Option<usize> {
        let reach = self.distance(hole, at);
        (0..SLOTS).find(|&slot| {
            let record = self.read(at, slot);
            let home = self.homes.home(self.homes.key.hash(record.hash_input()));
            record.value != 0 && self.distance(home, at) >= reach
        })
    }

    fn is_full(&self, line: usize) -> bool {
        self.value(line, SLOTS - 1) != 0
    }

    /// Empties a slot and keeps the taken slots of its line in front, in their order.
    fn close_gap(&self, line: usize, slot: usize) {
        let mut hole = slot;
        while hole + 1 < SLOTS && self.value(line, hole + 1) != 0 {
            self.replace(Slot { line, slot: hole }, self.read(line, hole + 1));
            hole += 1;
        }
        self.clear(line, hole);
    }

    /// Puts a record where another one may be.
    fn replace(&self, Slot { line, slot }: Slot, record: Record) {
        self.clear(line, slot);
        self.fill(line, slot, record);
    }

    /// Makes a slot free. Its key is a release as any other is.
    fn clear(&self, line: usize, slot: usize) {
        let words = &self.lines[line].0;
        words[SLOTS + slot].store(0, Relaxed);
        words[slot].store(0, Release);
    }
}

/// For all others.
impl Lines {
    /// As [`Lines::find`]. What it returns was so a moment ago.
    pub(super) fn find_from_outside(
        &self,
        hash: u64,
        key_matches: impl Fn(u64) -> bool,
        is_it: impl Fn(Record) -> bool,
    ) -> Option<Record> {
        let mut glance = self.glance(hash, &key_matches, &is_it);
        for _ in 1..TRIES {
            if glance.is_settled {
                break;
            }
            spin_loop();
            glance = self.glance(hash, &key_matches, &is_it);
        }
        glance.found
    }

    /// One search.
    pub(super) fn glance(
        &self,
        hash: u64,
        key_matches: impl Fn(u64) -> bool,
        is_it: impl Fn(Record) -> bool,
    ) -> Glance {
        let moves = self.moves.load(Acquire);
        let found = self.probe(hash, Acquire, key_matches, is_it);
        // Who has read what a move has written reads another number now.
        fence(Acquire);
        let is_settled = moves & 1 == 0 && self.moves.load(Relaxed) == moves;
        let is_whole = |(slot, record): &(Slot, Record)| {
            is_settled || self.lines[slot.line].0[slot.slot].load(Relaxed) == record.key
        };
        Glance { found: found.filter(is_whole).map(|(_, record)| record), is_settled }
    }

    /// Every record, in no order, while the worker goes on. One that moves meanwhile may be missed, or seen twice.
    pub(super) fn records(&self) -> impl Iterator<Item = Record> + '_ {
        self.lines.iter().flat_map(|line| {
            (0..SLOTS).filter_map(|slot| {
                let key = line.0[slot].load(Acquire);
                let value = line.0[SLOTS + slot].load(Acquire);
                let is_whole = value != 0 && line.0[slot].load(Relaxed) == key;
                is_whole.then_some(Record { key, value })
            })
        })
    }
}
