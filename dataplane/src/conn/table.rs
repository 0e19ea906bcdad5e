//! A worker's connection table.
//!
//! Fixed size, taken at start. Four records of 16 bytes share a cache line; a record lies in the line its hash
//! names or, when that is full, in one of the next few, and every line in between is full (linear probing by
//! lines). So a lookup reads one line, nearly always, and stops at the first line with a free slot. Removing a
//! record moves later ones back, so there are no tombstones and nothing slows down with time.
//!
//! The hash covers the client's address and port, so both directions of a NAT connection find the same record;
//! it is keyed per process (see [`HashKey`]), so that nobody outside can aim at a line.
//!
//! One writer, the worker. Others read through a [`View`], without a lock: `lines.rs` says why that is right.

mod adopt;
mod adoption;
mod key;
mod lines;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};

use dpdk::memory::{Line, Slab};

pub use self::adopt::Left;
use self::adoption::Adoption;
pub use self::adoption::Heir;
pub use self::key::HashKey;
pub use self::lines::Slot;
use self::lines::{Homes, Lines, PROBES, SLOTS};

use super::clients::{self, Clients};
use super::record::{KEY_MASK, Key, REPLY, REPLY_GOING_ON_MASK, Record, Seen, Usual, UsualKey};
use super::state::Lifetimes;
use crate::address::Addr4;

/// Records that one call of [`Table::sweep`] ends, give or take a line's: each costs the counts of its real server, and some
/// a persistence template, in a line that is in no cache.
pub const ENDED_MAX: usize = 64;
/// Lines that one call of [`Table::sweep`] should visit at most. So many ahead it asks for: those of the next call, so that they come while
/// packets are worked on.
pub const SWEEP_LINES_MAX: usize = 64;
/// The smallest table.
const LINES_MIN: usize = SWEEP_LINES_MAX;
/// A record may move ahead by fewer lines than this while the sweep goes round, from one that it has yet to visit to one where it began.
pub const OVERLAP: usize = PROBES;
const _: () = assert!(LINES_MIN >= PROBES, "a lookup never meets a line twice");

/// Where there is no room for another connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoom {
    /// In the whole table: it holds as many as it may.
    Table,
    /// For its client's address, one of IPv6: as many have numbers as may.
    Client,
    /// In the lines that a lookup would visit: they are full of connections of the same client's port, or of neighbours'.
    Chain,
}

/// What the sweep does with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It stays as it is.
    Keep,
    /// It becomes this later version of itself.
    Update(Record),
    /// It is removed.
    End,
}

impl Verdict {
    /// Of a record that is over or is not.
    #[inline]
    pub fn end_if(is_over: bool) -> Self {
        if is_over { Self::End } else { Self::Keep }
    }
}

/// What others may see of a worker's table.
#[derive(Clone)]
pub struct View {
    lines: Arc<Lines>,
    clients: clients::View,
    /// Of records that its worker has not looked at yet.
    heir: Option<Arc<dyn Heir>>,
}

/// What the lines are made of; `model.rs` has something else in its place.
mod sync {
    pub(super) use std::hint::spin_loop;
    pub(super) use std::sync::atomic::{AtomicU64, fence};

    pub(super) use dpdk::lcore::prefetch_at;

    pub(super) type Memory = dpdk::memory::Slab<dpdk::memory::Line>;
}

/// See the module.
pub struct Table {
    shared: Arc<Lines>,
    homes: Homes,
    /// Those of IPv6.
    pub clients: Clients,
    len: Cell<usize>,
    capacity: usize,
    sweep_line: usize,
    /// See [`Table::has_slipped`].
    has_slipped: bool,
    /// Some records are still to be looked at.
    adoption: Option<Box<Adoption>>,
}

impl Table {
    /// Lines of memory that a table for `capacity` connections takes: 15 for 16, so 60 bytes a connection.
    ///
    /// It is little more than a quarter full then, and one of two hundred lookups needs a second line. Half full it would
    /// be one of thirty, and waiting for those took a tenth of all time.
    pub fn lines_for(capacity: usize) -> usize {
        (capacity - capacity / 16).max(LINES_MIN)
    }

    /// As [`Table::lines_for`], with room for `templates` persistence templates beside it. More than a few of those make the
    /// table somewhat fuller, 52 bytes a connection, so that both together stay below 64 up to a template for every four
    /// connections. One of a hundred lookups needs a second line then.
    pub fn lines_beside(capacity: usize, templates: usize) -> usize {
        if templates <= capacity / 32 {
            return Self::lines_for(capacity);
        }
        (capacity - capacity / 16 * 3).max(LINES_MIN)
    }

    /// An empty table in `lines`, zeroed, [`Table::lines_for`] many.
    pub fn new(lines: Slab<Line>, capacity: usize, key: HashKey) -> Self {
        assert!(lines.len() >= LINES_MIN, "as lines_for says");
        let shared = Arc::new(Lines::new(lines, key));
        let clients = Clients::new(Slab::empty(), key);
        let homes = shared.homes;
        Self {
            homes,
            shared,
            clients,
            len: Cell::new(0),
            capacity,
            sweep_line: 0,
            has_slipped: false,
            adoption: None,
        }
    }

    /// With room for IPv6 clients in `lines`, zeroed, [`Clients::lines_for`] many.
    pub fn with_clients(self, lines: Slab<Line>) -> Self {
        Self { clients: Clients::new(lines, self.homes.key), ..self }
    }

    /// For other workers.
    pub fn view(&self) -> View {
        View { lines: self.shared.clone(), clients: self.clients.view(), heir: self.heir() }
    }

    /// Connections in the table.
    pub fn len(&self) -> usize {
        self.len.get()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Connections it can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The hash of [`Key::hash_input`] or [`super::record::reply_hash_input`].
    #[inline]
    pub fn hash(&self, input: u64) -> u64 {
        self.homes.key.hash(input)
    }

    /// Asks the processor for the line where `hash` belongs.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.shared.prefetch(hash);
    }

    /// The connection of a client's packet. Always inlined: as a function of its own it costs packets that come the common way 3 % of theirs.
    #[inline(always)]
    pub fn find(&self, hash: u64, key: Key) -> Option<(Slot, Record)> {
        if self.is_adopting() {
            self.look_for(hash, key);
        }
        self.shared.find(
            hash,
            |candidate| candidate == key.key,
            |record| record.value & KEY_MASK == key.value,
        )
    }

    /// The key of a usual packet.
    #[inline]
    pub fn usual_key(&self, usual: &Usual, client: Addr4, client_port: u16) -> UsualKey {
        let (key, hash_input) = usual.key(client, client_port);
        UsualKey { home: self.homes.home(self.hash(hash_input)), ..key }
    }

    /// Asks the processor for the line to look in for a usual packet's connection.
    #[inline]
    pub fn prefetch_usual(&self, key: UsualKey) {
        dpdk::lcore::prefetch_at(&self.shared.lines, key.home);
    }

    /// The records, for usual packets at `now` seconds.
    #[inline]
    pub fn usual_records(&mut self, now: u32) -> UsualRecords<'_> {
        UsualRecords { lines: &self.shared.lines, now, seen: Seen::at(now) }
    }

    /// As [`UsualRecords::find`], whatever the connection's state.
    #[inline]
    pub fn find_in_any_state(&self, UsualKey { home, key, .. }: UsualKey) -> Option<Record> {
        let line = &self.shared.lines.get(home)?.0;
        let slot = (0..SLOTS).find(|&slot| line[slot].load(Relaxed) == key)?;
        Some(Record { key, value: line[SLOTS + slot].load(Relaxed) })
    }

    /// The connection of a reply to `client`: of those of that client's that `is_it` accepts the first, and so the newest
    /// if each came in by [`Table::insert_before`] the others.
    #[inline]
    pub fn find_reply(
        &self,
        hash: u64,
        client: Addr4,
        client_port: u16,
        is_it: impl Fn(Record) -> bool,
    ) -> Option<(Slot, Record)> {
        let client = u64::from(client.bits()) << 16 | u64::from(client_port);
        if self.is_adopting() {
            self.look_at(hash);
        }
        self.shared.find(hash, |candidate| candidate >> 16 == client, is_it)
    }

    /// The place where [`Table::insert`] would put a new connection, if there is room and the table certainly has none of the
    /// same client's port: up to the first line with a free slot, behind which none has spilled over, there is none.
    #[inline]
    pub fn vacancy(&self, hash: u64, key: Key) -> Option<Slot> {
        let home = self.homes.home(hash);
        let (slot, has_key) = look_for_room(self.shared.lines.get(home)?, key);
        if has_key || self.len() >= self.capacity {
            return None;
        }
        if slot == SLOTS { self.vacancy_behind(home, key) } else { Some(Slot { line: home, slot }) }
    }

    /// As [`Table::vacancy`], where the home line is full.
    #[inline(never)]
    fn vacancy_behind(&self, home: usize, key: Key) -> Option<Slot> {
        for line in (1..PROBES).map(|distance| self.shared.behind(home, distance)) {
            match look_for_room(self.shared.lines.get(line)?, key) {
                (_, true) => return None,
                (SLOTS, false) => {}
                (slot, false) => return Some(Slot { line, slot }),
            }
        }
        None
    }

    /// Asks the processor for the line behind the one where `hash` belongs if that one is full, so that a new connection
    /// may have its place there.
    #[inline]
    pub fn prefetch_next(&self, hash: u64) {
        prefetch_next_of(&self.shared.lines, self.homes.home(hash));
    }

    /// Adds a connection in the place that [`Table::vacancy`] just gave.
    #[inline]
    pub fn fill(&mut self, slot: Slot, record: Record) {
        debug_assert_eq!(self.shared.value(slot.line, slot.slot), 0);
        self.shared.fill(slot.line, slot.slot, record);
        *self.len.get_mut() += 1;
    }

    /// As [`Table::fill`], of a client of IPv6, whose number it holds from here on.
    #[inline]
    pub fn fill6(&mut self, slot: Slot, record: Record) {
        self.clients.hold(record.client());
        // Or its number would outlast the record.
        self.clients.settle();
        self.fill(slot, record);
    }

    /// Adds a connection that [`Table::find`] did not find.
    pub fn insert(&mut self, hash: u64, record: Record) -> Result<Slot, NoRoom> {
        self.admit(hash, record)?;
        let slot = self.shared.insert(hash, record);
        self.admitted(record, slot)
    }

    /// As [`Table::insert`], of a connection that comes before those of its client's port that `is_rival` accepts: of all of them
    /// [`Table::find_reply`] finds this one from now on.
    pub fn insert_before(
        &mut self,
        hash: u64,
        record: Record,
        is_rival: impl Fn(Record) -> bool,
    ) -> Result<Slot, NoRoom> {
        self.admit(hash, record)?;
        let is_rival = |other: Record| {
            other.key ^ record.key <= 0xffff && other.hash_input() == record.hash_input() && is_rival(other)
        };
        let slot = self.shared.insert_before(hash, record, is_rival);
        self.admitted(record, slot)
    }

    /// Whether there is room for another record. One of IPv6 holds its client's number from here on.
    #[inline]
    fn admit(&mut self, hash: u64, record: Record) -> Result<(), NoRoom> {
        if self.is_adopting() {
            self.look_at(hash);
        }
        if self.len() >= self.capacity {
            return Err(NoRoom::Table);
        }
        if record.client().is_of_ipv6() && !self.clients.hold(record.client()) {
            return Err(NoRoom::Client);
        }
        Ok(())
    }

    /// The end of an insertion, which found this place.
    #[inline]
    fn admitted(&mut self, record: Record, slot: Option<Slot>) -> Result<Slot, NoRoom> {
        if let Some(slot) = slot {
            *self.len.get_mut() += 1;
            return Ok(slot);
        }
        self.clients.release(record.client());
        Err(NoRoom::Chain)
    }

    /// Whether a connection with this hash would find no room in the lines that it may lie in.
    pub fn is_crowded(&self, hash: u64) -> bool {
        self.shared.is_crowded(hash)
    }

    /// Replaces a record by a later version of itself.
    #[inline]
    pub fn update(&mut self, slot: Slot, record: Record) {
        debug_assert_eq!(self.shared.read(slot.line, slot.slot).key, record.key);
        self.shared.update(slot, record);
    }

    /// Removes a record, and its client's number after it: whoever finds this table as it is at any moment finds no record whose client
    /// is another one.
    pub fn remove(&mut self, slot: Slot) {
        if self.is_adopting() {
            self.look_behind(slot.line);
        }
        *self.len.get_mut() -= 1;
        let client = self.shared.read(slot.line, slot.slot).client();
        let (shared, swept_to) = (&self.shared, self.sweep_line);
        let has_slipped = &mut self.has_slipped;
        shared.remove(slot, |from, to| *has_slipped |= is_between(shared, swept_to, to, from));
        if client.is_of_ipv6() {
            self.clients.release(client);
        }
    }

    /// Visits the next `count` lines, round and round, and does with each record what `judge` says. Lines are passed over
    /// whose records are all young (`Record::is_young`), if `young` is there: those need no judge then.
    ///
    /// Returns how many lines were visited: fewer than `count` once [`ENDED_MAX`] records have ended.
    pub fn sweep(
        &mut self,
        count: usize,
        young: Option<(&Lifetimes, u32)>,
        mut judge: impl FnMut(Record) -> Verdict,
    ) -> usize {
        let ends_at = self.len().saturating_sub(ENDED_MAX);
        for visited in 0..count {
            if self.len() < ends_at {
                return visited;
            }
            let line = self.sweep_line;
            // The lines behind are one stream, which goes on in the next call.
            dpdk::lcore::prefetch(&self.shared.lines[self.shared.behind(line, SWEEP_LINES_MAX)]);
            if young.is_some_and(|(lifetimes, now)| self.has_young_only(line, lifetimes, now)) {
                self.sweep_line = self.shared.behind(line, 1);
                continue;
            }
            let mut slot = 0;
            while slot < SLOTS {
                let record = self.shared.read(line, slot);
                if record.value == 0 {
                    break;
                }
                match judge(record) {
                    // Another record may have moved into this slot: look at it again.
                    Verdict::End => self.remove(Slot { line, slot }),
                    Verdict::Keep => slot += 1,
                    Verdict::Update(record) => {
                        self.update(Slot { line, slot }, record);
                        slot += 1;
                    }
                }
            }
            self.sweep_line = self.shared.behind(line, 1);
        }
        count
    }

    /// Whether all records of a line are young. Without a branch for each: how many there are can't be guessed.
    #[inline]
    fn has_young_only(&self, line: usize, lifetimes: &Lifetimes, now: u32) -> bool {
        let words = &self.shared.lines[line].0;
        (0..SLOTS).fold(true, |so_far, slot| {
            let record = Record { key: 0, value: words[SLOTS + slot].load(Relaxed) };
            so_far & (record.is_young(lifetimes, now) | (record.value == 0))
        })
    }

    /// Whether a record has moved past the sweep since this was last asked, so that the sweep has not seen it.
    pub fn has_slipped(&mut self) -> bool {
        std::mem::take(&mut self.has_slipped)
    }

    /// Lines of the table.
    pub fn lines(&self) -> usize {
        self.shared.lines.len()
    }

    /// Every record, in no order.
    pub fn iter(&self) -> impl Iterator<Item = Record> + '_ {
        (0..self.shared.lines.len())
            .flat_map(|line| (0..SLOTS).map(move |slot| (line, slot)))
            .map(|(line, slot)| self.shared.read(line, slot))
            .filter(|record| record.value != 0)
    }
}

/// Whether the sweep, at line `swept_to`, stands behind line `hole` and not behind line `at`, which lies behind `hole`.
fn is_between(lines: &Lines, swept_to: usize, hole: usize, at: usize) -> bool {
    (1..=lines.distance(hole, at)).contains(&lines.distance(hole, swept_to))
}

/// Asks the processor for the line behind `home` if that one is full.
#[inline]
fn prefetch_next_of(lines: &[Line], home: usize) {
    if lines.get(home).is_some_and(|line| line.0[2 * SLOTS - 1].load(Relaxed) != 0) {
        dpdk::lcore::prefetch_at(lines, home + 1);
    }
}

/// How many slots of a line are taken, and whether one of them has a connection of the same client's port as `key`.
#[inline]
fn look_for_room(line: &Line, key: Key) -> (usize, bool) {
    let words = &line.0;
    let taken = |slot: usize| usize::from(words[SLOTS + slot].load(Relaxed) != 0);
    // Keys of one client's port differ in the VIP alone, which is their end.
    let difference = |slot: usize| words[slot].load(Relaxed) ^ key.key;
    let least = (0..SLOTS).fold(u64::MAX, |least, slot| least.min(difference(slot)));
    // Slots are taken in order.
    ((0..SLOTS).map(taken).sum(), least <= 0xffff)
}

/// Where usual packets find their connections, in one second: see [`Table::usual_records`].
pub struct UsualRecords<'a> {
    lines: &'a [Line],
    now: u32,
    seen: Seen,
}

impl UsualRecords<'_> {
    /// Asks the processor for the line to look in.
    #[inline]
    pub fn prefetch(&self, key: UsualKey) {
        dpdk::lcore::prefetch_at(self.lines, key.home);
    }

    /// Asks for the next line if this one is full, so that the connection may have spilled over.
    #[inline]
    pub fn prefetch_next(&self, key: UsualKey) {
        prefetch_next_of(self.lines, key.home);
    }

    /// The connection of a usual packet, or another one between the same client and VIP: [`UsualRecords::go_on`] tells.
    /// Found only if it lies in the line where it belongs, without a branch that depends on where in the line, which no
    /// processor could guess.
    #[inline]
    pub fn find(&self, UsualKey { home, key, .. }: UsualKey) -> Option<(Slot, Record)> {
        let line = &self.lines.get(home)?.0;
        let is_its = |slot: usize| line[slot].load(Relaxed) == key;
        let slot = (1..SLOTS).fold(0, |found, slot| if is_its(slot) { slot } else { found });
        let record = Record { key: line[slot].load(Relaxed), value: line[SLOTS + slot].load(Relaxed) };
        (record.key == key).then_some((Slot { line: home, slot }, record))
    }

    /// The connection goes on as it is with a usual packet: TCP's is established, and no connection is over. `None`, and
    /// nothing is done: it does not, or is not the packet's.
    #[inline]
    pub fn go_on(&mut self, slot: Slot, record: Record, key: UsualKey, lifetimes: &Lifetimes) -> Option<()> {
        // Most had a packet in this very second.
        if record.has_just_gone_on(key, self.seen) {
            return Some(());
        }
        if !record.may_go_on(key) || !record.is_young(lifetimes, self.now) {
            return None;
        }
        self.touch(slot, record);
        Some(())
    }

    /// The connection of a real server's packet, which goes on as it is with it, or another one of its client's: the one that
    /// lies first in the line, as [`Table::find_reply`] has it; otherwise as [`UsualRecords::find`].
    #[inline]
    pub fn find_reply(&self, UsualKey { home, key, going_on, .. }: UsualKey) -> Option<(Slot, Record)> {
        let line = &self.lines.get(home)?.0;
        let is_its = |slot: usize| line[slot].load(Relaxed) & !0xffff == key;
        let slot =
            (0..SLOTS - 1).rev().fold(SLOTS - 1, |found, slot| if is_its(slot) { slot } else { found });
        let record = Record { key: line[slot].load(Relaxed), value: line[SLOTS + slot].load(Relaxed) };
        let is_it = record.key & !0xffff == key && record.value & REPLY_GOING_ON_MASK | REPLY == going_on;
        is_it.then_some((Slot { line: home, slot }, record))
    }

    /// Writes down that a connection had a packet now, and remains in its state.
    #[inline]
    pub fn touch(&mut self, slot: Slot, record: Record) {
        if record.is_of_another_second(self.now) {
            let record = record.touched(record.state(), self.now);
            // A release, as in `Lines::update`.
            self.lines[slot.line].0[SLOTS + slot.slot].store(record.value, Release);
        }
    }
}

impl View {
    /// Asks the processor for the line where `hash` belongs.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.lines.prefetch(hash);
    }

    /// As [`Table::is_crowded`].
    pub fn is_crowded(&self, hash: u64) -> bool {
        self.lines.is_crowded(hash)
    }

    /// Every record, in no order, while the worker goes on.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        self.lines.records().filter(|record| self.may_be(*record))
    }

    /// Whether a record is a connection that goes on, if its worker has not looked at it yet.
    #[inline]
    fn may_be(&self, record: Record) -> bool {
        self.heir.as_ref().is_none_or(|heir| heir.is_done() || heir.goes_on(record))
    }

    /// The IPv6 clients of the records.
    pub fn clients(&self) -> &clients::View {
        &self.clients
    }

    /// The address of a record's client. `None`: the connection is over.
    pub fn client(&self, record: Record) -> Option<IpAddr> {
        let client = record.client();
        if client.is_of_ipv6() { self.clients.address(client).map(IpAddr::V6) } else { Some(client.into()) }
    }

    /// As [`Table::find_reply`], from another worker. What it returns was so a moment ago.
    pub fn find_reply(
        &self,
        hash: u64,
        client: Addr4,
        client_port: u16,
        is_it: impl Fn(Record) -> bool,
    ) -> Option<Record> {
        let client = u64::from(client.bits()) << 16 | u64::from(client_port);
        let found = self.lines.find_from_outside(hash, |candidate| candidate >> 16 == client, is_it);
        found.filter(|record| self.may_be(*record))
    }
}
