//! Next hops and their MACs: one worker's cache for each address family, whom it asks for, the packets that wait.
//!
//! States follow RFC 4861 section 7.3.2 in spirit: a next hop is asked for by broadcast, then good for
//! [`REACHABLE_MS`]; when it is used after that, it is asked again by unicast while packets go on, and given up
//! when it does not answer. Requests to one next hop go out once a second at most.
//!
//! A dynamic entry takes a new MAC from any ARP packet of that address; a static binding never does. What ARP
//! teaches one worker is told to the others through bounded rings, so caches need no lock.
//!
//! Static bindings stay in the snapshot and are looked up when a next hop is first used. When they change, a new era
//! begins: the era is part of every [`Slot`], so all hints of the one before lead nowhere, and each next hop is looked
//! up anew at its next use. So a reload costs a worker the same whether ten bindings change or ten thousand.
//!
//! Limits: [`ENTRIES_MAX`] next hops, [`WAITING_MAX`] packets in all, [`WAITING_PER_HOP_MAX`] for one next hop, and
//! [`VISITS_MAX`] looked after in one call of [`Neighbors::tick`]. Within these, next hops of the file come first and guests
//! have shares: see `shares.rs`.

mod hop;
mod index;
pub mod listing;
mod order;
pub mod outlook;
mod shares;
mod waiting;

#[cfg(test)]
mod tests;

pub use hop::{AnyHop, Hop, Hop6, NextHop};
use index::Index;
use order::{List, Order};
use shares::{Group, LISTS, NAMED, PROVEN, Shares, is_of_named, named_waiting};
use waiting::{Queue, Room};

use crate::clock::Now;
use crate::stats::DropReason;
use crate::wire::ethernet::MacAddress;

/// Next hops that a worker remembers: clients in a connected network count too.
pub const ENTRIES_MAX: usize = 16_384;
/// Packets that wait for next hops, in all.
pub const WAITING_MAX: usize = 1_024;
/// Packets that wait for one next hop: what arrives within one round trip of a burst of new connections.
pub const WAITING_PER_HOP_MAX: u16 = 64;
/// Of those, packets for next hops of the file; the rest is for guests.
const WAITING_NAMED_MAX: usize = WAITING_MAX / 2;
/// Guests that have not answered, in all: as many as there is always room for.
const UNPROVEN_MAX: usize = ENTRIES_MAX / 2;
/// Packets that made room for others and wait to be dropped.
const SPILLED_MAX: usize = 256;
/// How long an answer is good, in milliseconds.
pub const REACHABLE_MS: u64 = 30_000;
/// Time between two requests to one next hop, in milliseconds.
pub const RETRY_MS: u64 = 1_000;
/// Requests without an answer after which a next hop is given up.
pub const TRIES_MAX: u8 = 3;
/// Next hops that are asked for which one tick looks after; those beyond have their turn in the next one.
pub const VISITS_MAX: usize = 256;
/// Of these, so many are next hops of the file at most while others need to be looked after, too.
const VISITS_NAMED_MAX: usize = VISITS_MAX * 3 / 4;
/// A next hop of the file not used for so long may make room for another, in milliseconds.
const IDLE_MS: u64 = 60_000;
/// Those of the file that are looked at for one that is idle, in one go.
const IDLE_LOOKS: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Bound by the file.
    Static,
    /// Answered; good until the deadline.
    Reachable,
    /// Was reachable, asked again by unicast.
    Probing,
    /// Asked by broadcast, no answer yet.
    Asking,
    /// Did not answer; not asked again before the deadline.
    Failed,
}

/// The MACs in front of a frame: the next hop's, then the port's own.
pub type Link = [u8; 12];

/// The MACs in front of a frame from `own` to `to`.
pub fn link(to: MacAddress, own: MacAddress) -> Link {
    let mut link = [0; 12];
    link[..6].copy_from_slice(&to.0);
    link[6..].copy_from_slice(&own.0);
    link
}

/// What packets need of it comes first, and lies in one cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
struct Entry<H> {
    hop: H,
    /// Milliseconds of the worker's clock; 0: it has no MAC.
    good_until: u64,
    /// What is written in front of frames, good before `good_until`.
    link: Link,
    state: State,
    tries: u8,
    /// Whether it is in the lists of pending ones: of the file's, of guests.
    is_pending: [bool; 2],
    /// The era in which its binding was looked up last.
    era: Slot,
    /// Packets that wait for it.
    queue: Queue,
    /// Milliseconds of the worker's clock.
    deadline: u64,
}

impl<H> Entry<H> {
    /// Without a MAC, and not to be asked for before `deadline`.
    fn new(hop: H, deadline: u64, era: Slot) -> Self {
        Self {
            hop,
            good_until: 0,
            link: [0; 12],
            state: State::Failed,
            tries: 0,
            is_pending: [false; 2],
            era,
            queue: Queue::default(),
            deadline,
        }
    }
}

/// An empty list with room for so many, in memory that is there already: the first use of a page costs a fault.
fn touched<T: Clone>(room: usize, any: T) -> Vec<T> {
    let mut list = vec![any; room];
    list.clear();
    list
}

/// Where an entry is, and in which era that was found out; a hint that is checked on use.
pub type Slot = u32;

/// Bits of a slot that are the entry's index; the rest is the era.
const INDEX_BITS: u32 = 14;
const INDEX_MASK: Slot = (1 << INDEX_BITS) - 1;
const _: () = assert!(ENTRIES_MAX <= 1 << INDEX_BITS);

/// What becomes of a packet for a next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// Send it behind this link header.
    To(Link),
    /// Let it wait; with `ask`, send a request too.
    Wait {
        /// Whether a request is due.
        ask: bool,
    },
    /// Drop it.
    Drop(DropReason),
}

/// A request that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask<H = Hop> {
    /// For whom.
    pub hop: H,
    /// The MAC to ask, or everybody.
    pub to: Option<MacAddress>,
}

/// What a message of neighbour discovery says of a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// Its MAC, if the message tells one.
    pub mac: Option<MacAddress>,
    /// It answers a question.
    pub is_solicited: bool,
    /// It replaces what is known.
    pub overrides: bool,
}

/// What has to be done because time has passed.
#[derive(Debug, PartialEq, Eq)]
pub enum Due<F, H = Hop> {
    /// A request.
    Ask(Ask<H>),
    /// A frame that waited for a next hop which has a binding now.
    Send(H, Link, F),
    /// A frame that waited in vain.
    Drop(F),
}

/// See the module.
pub struct Neighbors<F, H = Hop> {
    entries: Vec<Entry<H>>,
    index: Index,
    /// In the bits of a [`Slot`] above the index.
    era: Slot,
    order: Order,
    shares: Shares,
    room: Room<F>,
    /// Packets that made room for others.
    spilled: Queue,
    /// Entries in a state that needs the clock, and some that were: of the file, and guests.
    pending: [Vec<Slot>; 2],
    /// Where the next tick goes on.
    next_pending: [usize; 2],
    entries_max: usize,
    /// The ports' own MACs, by port number.
    own: Vec<MacAddress>,
}

/// What usual packets look at: see [`Neighbors::links`].
pub struct Links<'a, H = Hop> {
    entries: &'a [Entry<H>],
    era: Slot,
}

impl<'a, H: AnyHop> Links<'a, H> {
    /// The link header towards `hop` if it is known and good; `hint` is where it was last.
    #[inline]
    pub fn get(&self, hint: Slot, hop: H, now: Now) -> Option<&'a Link> {
        let entry = self.entries.get((hint ^ self.era) as usize)?;
        (entry.hop == hop && now.millis < entry.good_until).then_some(&entry.link)
    }
}

impl<F, H: AnyHop> Default for Neighbors<F, H> {
    fn default() -> Self {
        Self::with_limit(ENTRIES_MAX)
    }
}

impl<F, H: AnyHop> Neighbors<F, H> {
    /// An empty cache with room for [`ENTRIES_MAX`].
    pub fn new() -> Self {
        Self::default()
    }

    fn with_limit(entries_max: usize) -> Self {
        Self {
            own: Vec::new(),
            entries: touched(entries_max, Entry::new(H::NOWHERE, u64::MAX, 0)),
            index: Index::new(entries_max),
            era: 0,
            order: Order::new(entries_max, LISTS),
            shares: Shares::new(),
            room: Room::new(WAITING_MAX + SPILLED_MAX),
            spilled: Queue::default(),
            pending: [touched(entries_max, Slot::MAX), touched(entries_max, Slot::MAX)],
            next_pending: [0; 2],
            entries_max,
        }
    }

    /// Packets that wait.
    pub fn waiting(&self) -> usize {
        self.room.taken() - usize::from(self.spilled.len())
    }

    /// Tells the ports' own MACs, by port number.
    pub fn set_own(&mut self, own: impl Iterator<Item = MacAddress>) {
        self.own.clear();
        self.own.extend(own);
        self.shares.set_ports(self.own.len());
    }

    /// A packet that has made room for others, to be dropped. To be asked for after each call that may find room.
    pub fn take_spilled(&mut self) -> Option<F> {
        self.room.pop(&mut self.spilled)
    }

    /// Bindings have changed: each next hop's is looked up again at its next use.
    pub fn rebind(&mut self) {
        self.era = self.era.wrapping_add(1 << INDEX_BITS);
        if self.era == 0 {
            // Hints of the very first era would count as those of this one.
            let era = !self.era;
            self.entries.iter_mut().for_each(|entry| (entry.good_until, entry.era) = (0, era));
        }
    }

    /// Those that are known.
    #[inline]
    pub fn links(&self) -> Links<'_, H> {
        Links { entries: &self.entries, era: self.era }
    }

    /// Asks the processor for what [`Links::get`] looks at. False: the hint leads nowhere, since it is of another era,
    /// and what [`Neighbors::settle`] begins with was asked for instead.
    #[inline]
    pub(crate) fn prefetch(&self, hint: Slot) -> bool {
        if let Some(entry) = self.entries.get((hint ^ self.era) as usize) {
            dpdk::lcore::prefetch(entry);
            return true;
        }
        if let Some(entry) = self.entries.get((hint & INDEX_MASK) as usize) {
            dpdk::lcore::prefetch(entry);
        }
        false
    }

    /// Asks the processor for what [`Neighbors::settle`] begins with.
    pub(crate) fn prefetch_search(&self, hop: H) {
        self.index.prefetch(hop);
    }

    /// Where the entry of `hop` is, for when `hint`, where it was last, leads to none that is known to be good. `None`: there
    /// is none, and nothing is known that could make one, so that it has to be asked for ([`Neighbors::resolve`]).
    pub(crate) fn settle(&mut self, hint: Slot, hop: H, bound: Option<MacAddress>, now: Now) -> Option<Slot> {
        let slot = match self.find(hint, hop) {
            Some(slot) => slot,
            None if bound.is_some() => self.make(hop, true, now)?,
            None => return None,
        };
        if self.entries[slot as usize].era != self.era {
            self.renew(slot, bound);
        }
        Some(slot | self.era)
    }

    /// Finds or makes the entry of `hop`; `hint` is where it was last, `is_named` whether it is a real server or gateway of
    /// the file, `bound` the MAC that the file binds it to. Returns where it is now.
    #[cold]
    pub fn resolve(
        &mut self,
        hint: Slot,
        hop: H,
        (is_named, bound): (bool, Option<MacAddress>),
        now: Now,
    ) -> (Slot, Resolution) {
        // On a tag that nobody has answered on it is anybody's say.
        let is_named = bound.is_some() || is_named && self.shares.is_known(hop);
        let Some(slot) = self.find(hint, hop).or_else(|| self.make(hop, is_named, now)) else {
            return (hint, Resolution::Drop(DropReason::NeighborTableFull));
        };
        if self.entries[slot as usize].era != self.era {
            self.renew(slot, bound);
        }
        if is_named {
            self.name(slot);
        }
        let entry = &self.entries[slot as usize];
        let resolution = if now.millis < entry.good_until {
            Resolution::To(entry.link)
        } else {
            self.resolve_late(slot, now)
        };
        (slot | self.era, resolution)
    }

    fn resolve_late(&mut self, slot: Slot, now: Now) -> Resolution {
        let entry = &mut self.entries[slot as usize];
        match entry.state {
            State::Static | State::Probing => Resolution::To(entry.link),
            State::Reachable => {
                entry.state = State::Probing;
                entry.tries = 0;
                entry.deadline = now.millis;
                let link = entry.link;
                self.look_after(slot);
                Resolution::To(link)
            }
            State::Failed if now.millis < entry.deadline => Resolution::Drop(DropReason::NeighborFailed),
            State::Failed => {
                entry.state = State::Asking;
                entry.tries = 1;
                entry.deadline = now.millis + RETRY_MS;
                self.look_after(slot);
                Resolution::Wait { ask: true }
            }
            State::Asking => Resolution::Wait { ask: false },
        }
    }

    /// Brings an entry into the present era: `bound` is what the file says about it now.
    fn renew(&mut self, slot: Slot, bound: Option<MacAddress>) {
        let hop = self.entries[slot as usize].hop;
        let link = bound.map(|mac| self.link_to(hop, mac));
        let entry = &mut self.entries[slot as usize];
        entry.era = self.era;
        match link {
            Some(link) => {
                entry.link = link;
                entry.state = State::Static;
                entry.good_until = u64::MAX;
                self.name(slot);
            }
            // Goes on as one that was reachable, and is probed at once.
            None if entry.state == State::Static => {
                entry.state = State::Reachable;
                entry.good_until = 0;
                entry.deadline = 0;
            }
            None => {}
        }
    }

    fn look_after(&mut self, slot: Slot) {
        let of = usize::from(!self.is_named(slot));
        let entry = &mut self.entries[slot as usize];
        if !entry.is_pending[of] {
            entry.is_pending[of] = true;
            self.pending[of].push(slot);
        }
    }

    fn is_named(&self, slot: Slot) -> bool {
        self.order.list_of(slot).is_some_and(is_of_named)
    }

    /// The file names it, from now on if it did not before.
    fn name(&mut self, slot: Slot) {
        if self.is_named(slot) {
            return;
        }
        let Entry { hop, queue, .. } = self.entries[slot as usize];
        self.put(slot, if queue.len() == 0 { NAMED } else { named_waiting(hop) });
        let needs_clock = matches!(self.entries[slot as usize].state, State::Asking | State::Probing);
        if needs_clock || queue.len() > 0 {
            self.look_after(slot);
        }
    }

    /// Puts an entry at the end of a list. Packets that wait for it count there.
    fn put(&mut self, slot: Slot, list: List) {
        let Entry { hop, queue, .. } = self.entries[slot as usize];
        if let Some(former) = self.order.list_of(slot) {
            *self.shares.packets(Shares::account(hop, former)) -= queue.len();
        }
        *self.shares.packets(Shares::account(hop, list)) += queue.len();
        self.order.put(slot, list);
    }

    /// Puts an entry where it belongs as long as it has not answered.
    fn put_unanswered(&mut self, slot: Slot) {
        let Entry { hop, queue, .. } = self.entries[slot as usize];
        let list = match (self.is_named(slot), queue.len()) {
            (true, 0) => NAMED,
            (true, _) => named_waiting(hop),
            (false, 0) => self.shares.group(hop).bare(),
            (false, _) => self.shares.group(hop).waiting(),
        };
        self.put(slot, list);
    }

    /// Somebody else has asked for `hop` just now: the answer is learned as if it had been asked for here.
    pub fn expect(&mut self, hop: H, now: Now) {
        let Some(slot) = self.get(hop).or_else(|| self.make(hop, false, now)) else { return };
        let entry = &mut self.entries[slot as usize];
        if entry.state == State::Failed {
            entry.state = State::Asking;
            entry.tries = 1;
            entry.deadline = now.millis + RETRY_MS;
            self.look_after(slot);
        }
    }

    /// The entry of `hop`; `hint` is where it was last.
    fn find(&self, hint: Slot, hop: H) -> Option<Slot> {
        let hinted = hint & INDEX_MASK;
        let is_there = self.entries.get(hinted as usize).is_some_and(|entry| entry.hop == hop);
        if is_there { Some(hinted) } else { self.get(hop) }
    }

    fn get(&self, hop: H) -> Option<Slot> {
        self.index.get(hop, |slot| self.entries[slot as usize].hop)
    }

    /// A new entry for `hop`, which has none. `None`: no room.
    fn make(&mut self, hop: H, is_named: bool, now: Now) -> Option<Slot> {
        let group = self.shares.group(hop);
        // Failed with its deadline passed: the first use asks. Of another era: the first use looks for a binding.
        let entry = Entry::new(hop, now.millis, !self.era);
        let may_grow = is_named || self.unproven(group) < self.shares.of_group(self.unproven_max());
        let slot = if may_grow && self.entries.len() < self.entries_max {
            self.entries.push(entry);
            self.entries.len() as Slot - 1
        } else {
            let slot = match (is_named, may_grow) {
                (true, _) => self.room_for_named(now)?,
                (false, true) => self.room_for_guest(group, now)?,
                (false, false) => self.oldest(group)?,
            };
            self.forget(slot);
            let is_pending = self.entries[slot as usize].is_pending;
            self.entries[slot as usize] = Entry { is_pending, ..entry };
            slot
        };
        let entries = &self.entries;
        self.index.insert(hop, slot, |slot| entries[slot as usize].hop);
        self.put(slot, if is_named { NAMED } else { group.bare() });
        Some(slot)
    }

    /// Guests of all groups that have not answered may be so many.
    fn unproven_max(&self) -> usize {
        UNPROVEN_MAX.min(self.entries_max / 2)
    }

    /// Guests of a group that have not answered.
    fn unproven(&self, group: Group) -> usize {
        self.order.len(group.bare()) + self.order.len(group.waiting())
    }

    /// The one of them that has been there longest, one that no packet waits for first.
    fn oldest(&self, group: Group) -> Option<Slot> {
        self.order.first(group.bare()).or_else(|| self.order.first(group.waiting()))
    }

    /// Who goes for a next hop of the file: a guest of the largest group that has not answered, else of those that have the
    /// one that did so longest ago, else another of the file that nobody uses.
    fn room_for_named(&mut self, now: Now) -> Option<Slot> {
        let largest = Group::all().max_by_key(|group| self.unproven(*group))?;
        self.oldest(largest).or_else(|| self.order.first(PROVEN)).or_else(|| self.idle(now))
    }

    /// Who goes for a guest whose group has not used up its share.
    fn room_for_guest(&mut self, group: Group, now: Now) -> Option<Slot> {
        self.order.first(PROVEN).or_else(|| self.idle(now)).or_else(|| self.oldest(group))
    }

    /// A next hop of the file that nobody uses. Looks at a few, going on from where it stopped.
    fn idle(&mut self, now: Now) -> Option<Slot> {
        for _ in 0..IDLE_LOOKS {
            let slot = self.order.first(NAMED)?;
            let entry = &self.entries[slot as usize];
            let is_idle = match entry.state {
                State::Reachable => entry.deadline + IDLE_MS <= now.millis,
                State::Failed => entry.deadline <= now.millis,
                // Not used since bindings changed.
                State::Static => entry.era != self.era,
                State::Probing | State::Asking => false,
            };
            if is_idle {
                return Some(slot);
            }
            self.order.put(slot, NAMED);
        }
        None
    }

    /// Takes an entry away. What waits for it is dropped.
    fn forget(&mut self, slot: Slot) {
        while self.spill(slot) {}
        self.order.take_out(slot);
        let entries = &self.entries;
        self.index.remove(entries[slot as usize].hop, |slot| entries[slot as usize].hop);
    }

    /// Takes the first packet that waits for an entry to those that are to be dropped. False: there is none.
    fn spill(&mut self, slot: Slot) -> bool {
        let Some(frame) = self.pop(slot) else { return false };
        // A seat has just become free.
        self.room.push(&mut self.spilled, frame).is_ok()
    }

    /// The first packet that waits for an entry.
    fn pop(&mut self, slot: Slot) -> Option<F> {
        let list = self.order.list_of(slot)?;
        let entry = &mut self.entries[slot as usize];
        let frame = self.room.pop(&mut entry.queue)?;
        *self.shares.packets(Shares::account(entry.hop, list)) -= 1;
        Some(frame)
    }

    /// Lets a frame wait at `slot`, or gives it back with the reason why not.
    pub fn wait(&mut self, slot: Slot, frame: F) -> Result<(), (F, DropReason)> {
        let slot = slot & INDEX_MASK;
        let Entry { hop, queue, .. } = self.entries[slot as usize];
        let full = DropReason::NeighborQueueFull;
        let Some(list) = self.order.list_of(slot) else { return Err((frame, full)) };
        if queue.len() >= WAITING_PER_HOP_MAX {
            return Err((frame, full));
        }
        let (waiting, share) = match Group::of(list) {
            Some(group) => (group.waiting(), self.shares.of_group(WAITING_MAX - WAITING_NAMED_MAX)),
            None => (named_waiting(hop), self.shares.of_named(WAITING_NAMED_MAX)),
        };
        let account = Shares::account(hop, list);
        let has_seat = usize::from(*self.shares.packets(account)) < share || self.spill_oldest(waiting);
        if !has_seat {
            return Err((frame, full));
        }
        let queue = &mut self.entries[slot as usize].queue;
        self.room.push(queue, frame).map_err(|frame| (frame, full))?;
        *self.shares.packets(account) += 1;
        if self.order.list_of(slot) != Some(waiting) {
            self.put(slot, waiting);
        }
        Ok(())
    }

    /// The first packet of the one in a list that packets have waited for longest makes room. False: there is none.
    fn spill_oldest(&mut self, waiting: List) -> bool {
        let Some(oldest) = self.order.first(waiting) else { return false };
        let is_spilled = self.spill(oldest);
        if self.entries[oldest as usize].queue.len() == 0 {
            self.put_unanswered(oldest);
        }
        is_spilled
    }

    /// An ARP packet says that `hop` has `mac`; `bound` is the MAC that the file binds it to. Gives each frame that
    /// waited for it to `send`. Only known next hops learn, so nobody can fill the cache from outside. Returns whether
    /// this one is known.
    pub fn learn(
        &mut self,
        hop: H,
        mac: MacAddress,
        bound: impl FnOnce() -> Option<MacAddress>,
        now: Now,
        mut send: impl FnMut(F),
    ) -> bool {
        let Some(slot) = self.get(hop) else { return false };
        let link = self.link_to(hop, mac);
        if self.entries[slot as usize].era != self.era {
            self.renew(slot, bound());
        }
        let entry = &mut self.entries[slot as usize];
        if entry.state != State::Static {
            entry.link = link;
            entry.good_until = now.millis + REACHABLE_MS;
            entry.state = State::Reachable;
            entry.tries = 0;
            entry.deadline = now.millis + REACHABLE_MS;
            self.release(slot, |_, _, frame| send(frame));
            self.put(slot, if self.is_named(slot) { NAMED } else { PROVEN });
            self.shares.note_answer(hop);
        }
        true
    }

    /// A message of neighbour discovery is about `hop` (RFC 4861 sections 7.2.3 and 7.2.5); otherwise as [`Neighbors::learn`].
    /// What does not answer a question is believed until the next use, which asks.
    pub fn hear(
        &mut self,
        hop: H,
        heard: Heard,
        bound: impl FnOnce() -> Option<MacAddress>,
        now: Now,
        mut send: impl FnMut(&Link, F),
    ) -> bool {
        let Some(slot) = self.get(hop) else { return false };
        if self.entries[slot as usize].era != self.era {
            self.renew(slot, bound());
        }
        let link = heard.mac.map(|mac| self.link_to(hop, mac));
        let entry = &mut self.entries[slot as usize];
        let is_known = match entry.state {
            State::Static => return true,
            State::Reachable | State::Probing => true,
            State::Asking | State::Failed => false,
        };
        let Some(link) = link.or(is_known.then_some(entry.link)) else { return true };
        let is_changed = !is_known || link != entry.link;
        if is_known && is_changed && !heard.overrides {
            // Somebody else says so, too: who is right the next use finds out.
            if entry.state == State::Reachable {
                (entry.good_until, entry.deadline) = (0, 0);
            }
            return true;
        }
        if !heard.is_solicited && !is_changed {
            return true;
        }
        let until = if heard.is_solicited { now.millis + REACHABLE_MS } else { 0 };
        entry.link = link;
        entry.state = State::Reachable;
        entry.tries = 0;
        (entry.good_until, entry.deadline) = (until, until);
        self.release(slot, |_, link, frame| send(&link, frame));
        self.put(slot, if self.is_named(slot) { NAMED } else { PROVEN });
        self.shares.note_answer(hop);
        true
    }

    fn link_to(&self, hop: H, mac: MacAddress) -> Link {
        let own = self.own.get(usize::from(hop.port())).copied().unwrap_or(MacAddress([0; 6]));
        link(mac, own)
    }

    /// Takes out, in order, what waits at `slot`.
    fn release(&mut self, slot: Slot, mut each: impl FnMut(H, Link, F)) {
        while let Some(frame) = self.pop(slot) {
            let Entry { hop, link, .. } = self.entries[slot as usize];
            each(hop, link, frame);
        }
    }

    /// Lets time pass for [`VISITS_MAX`] next hops at most. `bound` says what the file binds a next hop to.
    pub fn tick(
        &mut self,
        now: Now,
        bound: impl Fn(H) -> Option<MacAddress>,
        mut due: impl FnMut(Due<F, H>),
    ) {
        let mut left = VISITS_MAX;
        for of in 0..self.pending.len() {
            let is_alone = self.pending[1 - of].is_empty();
            let most = if of == 0 && !is_alone { VISITS_NAMED_MAX } else { left };
            for _ in 0..most.min(self.pending[of].len()) {
                left -= 1;
                if self.next_pending[of] >= self.pending[of].len() {
                    self.next_pending[of] = 0;
                }
                let slot = self.pending[of][self.next_pending[of]];
                // It may have become another one since.
                let is_its = usize::from(!self.is_named(slot)) == of;
                if is_its && self.visit(slot, now, &bound, &mut due) {
                    self.next_pending[of] += 1;
                } else {
                    self.entries[slot as usize].is_pending[of] = false;
                    self.pending[of].swap_remove(self.next_pending[of]);
                }
            }
        }
    }

    /// Does what is due for one entry. Returns whether it still needs the clock.
    fn visit(
        &mut self,
        slot: Slot,
        now: Now,
        bound: &impl Fn(H) -> Option<MacAddress>,
        due: &mut impl FnMut(Due<F, H>),
    ) -> bool {
        if self.entries[slot as usize].era != self.era {
            self.renew(slot, bound(self.entries[slot as usize].hop));
        }
        let entry = &mut self.entries[slot as usize];
        match entry.state {
            State::Static | State::Reachable => {
                self.release(slot, |hop, link, frame| due(Due::Send(hop, link, frame)));
                if self.is_named(slot) {
                    self.put(slot, NAMED);
                }
                false
            }
            State::Failed => false,
            State::Asking | State::Probing if now.millis < entry.deadline => true,
            State::Asking | State::Probing if entry.tries < TRIES_MAX => {
                entry.tries += 1;
                entry.deadline = now.millis + RETRY_MS;
                let probed = entry.state == State::Probing;
                let to = probed.then(|| MacAddress(std::array::from_fn(|n| entry.link[n])));
                due(Due::Ask(Ask { hop: entry.hop, to }));
                true
            }
            State::Probing => {
                // It may have got another MAC: ask everybody before giving up.
                entry.state = State::Asking;
                entry.tries = 0;
                self.put_unanswered(slot);
                true
            }
            State::Asking => {
                entry.state = State::Failed;
                entry.good_until = 0;
                entry.deadline = now.millis + RETRY_MS;
                self.release(slot, |_, _, frame| due(Due::Drop(frame)));
                self.put_unanswered(slot);
                false
            }
        }
    }
}
