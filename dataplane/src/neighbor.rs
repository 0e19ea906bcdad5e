//! Next hops and their MACs: one worker's cache, the ARP requests it sends, the packets that wait.
//!
//! States follow RFC 4861 section 7.3.2 in spirit: a next hop is asked for by broadcast, then good for
//! [`REACHABLE_MS`]; when it is used after that, it is asked again by unicast while packets go on, and given up
//! when it does not answer. Requests to one next hop go out once a second at most.
//!
//! A dynamic entry takes a new MAC from any ARP packet of that address; a static binding never does. What ARP
//! teaches one worker is told to the others through bounded rings, so caches need no lock.
//!
//! Limits: [`ENTRIES_MAX`] next hops, [`WAITING_MAX`] packets in all, [`WAITING_PER_HOP_MAX`] for one next hop.

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::clock::Now;
use crate::snapshot::routes::NextHop;
use crate::stats::DropReason;
use crate::wire::ethernet::MacAddress;

/// Next hops that a worker remembers: clients in a connected network count too.
pub const ENTRIES_MAX: usize = 16_384;
/// Packets that wait for next hops, in all.
pub const WAITING_MAX: usize = 1_024;
/// Packets that wait for one next hop: what arrives within one round trip of a burst of new connections.
pub const WAITING_PER_HOP_MAX: u8 = 64;
/// How long an answer is good, in milliseconds.
pub const REACHABLE_MS: u64 = 30_000;
/// Time between two requests to one next hop, in milliseconds.
pub const RETRY_MS: u64 = 1_000;
/// Requests without an answer after which a next hop is given up.
pub const TRIES_MAX: u8 = 3;
/// An entry not used for so long may make room for another, in milliseconds.
const IDLE_MS: u64 = 60_000;

/// A next hop on one of the networks (by VLAN) of its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hop {
    /// The neighbour's address.
    pub address: u32,
    /// Port number.
    pub port: u16,
    /// See [`crate::wire::ethernet::Vlan::network`].
    pub network: u16,
}

impl Hop {
    /// No next hop: there is no such port.
    pub const NOWHERE: Hop = Hop { address: 0, port: u16::MAX, network: 0 };

    /// `hop` as seen from a network.
    #[inline]
    pub fn new(hop: NextHop, network: u16) -> Self {
        Self { address: hop.address, port: hop.port as u16, network }
    }
}

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

#[derive(Debug, Clone, Copy)]
struct Entry {
    hop: Hop,
    /// What is written in front of frames, good before `good_until`.
    link: Link,
    /// Milliseconds of the worker's clock; 0: it has no MAC.
    good_until: u64,
    state: State,
    tries: u8,
    waiting: u8,
    /// Milliseconds of the worker's clock.
    deadline: u64,
}

/// Where an entry is; a hint that is checked on use.
pub type Slot = u32;

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
pub struct Ask {
    /// For whom.
    pub hop: Hop,
    /// The MAC to ask, or everybody.
    pub to: Option<MacAddress>,
}

/// A packet that waits, all but its MACs written.
#[derive(Debug)]
struct Waiting<F> {
    slot: Slot,
    frame: F,
}

/// See the module.
pub struct Neighbors<F> {
    entries: Vec<Entry>,
    index: HashMap<Hop, Slot>,
    waiting: VecDeque<Waiting<F>>,
    /// Entries in a state that needs the clock.
    pending: Vec<Slot>,
    hand: usize,
    entries_max: usize,
    /// The ports' own MACs, by port number.
    own: Vec<MacAddress>,
}

impl<F> Default for Neighbors<F> {
    fn default() -> Self {
        Self::with_limit(ENTRIES_MAX)
    }
}

impl<F> Neighbors<F> {
    /// An empty cache with room for [`ENTRIES_MAX`].
    pub fn new() -> Self {
        Self::default()
    }

    fn with_limit(entries_max: usize) -> Self {
        Self {
            own: Vec::new(),
            entries: Vec::with_capacity(entries_max),
            index: HashMap::with_capacity(entries_max),
            waiting: VecDeque::with_capacity(WAITING_MAX),
            pending: Vec::with_capacity(entries_max),
            hand: 0,
            entries_max,
        }
    }

    /// Packets that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Tells the ports' own MACs, by port number.
    pub fn set_own(&mut self, own: impl Iterator<Item = MacAddress>) {
        self.own.clear();
        self.own.extend(own);
    }

    /// The link header towards `hop` if it is known and good; `hint` is where it was last.
    #[inline]
    pub fn link(&self, hint: Slot, hop: Hop, now: Now) -> Option<&Link> {
        let entry = self.entries.get(hint as usize)?;
        (entry.hop == hop && now.millis < entry.good_until).then_some(&entry.link)
    }

    /// Finds or makes the entry of `hop`; `hint` is where it was last. Returns where it is now.
    #[cold]
    pub fn resolve(&mut self, hint: Slot, hop: Hop, now: Now) -> (Slot, Resolution) {
        let slot = match self.entries.get(hint as usize) {
            Some(entry) if entry.hop == hop => hint,
            _ => match self.slot_of(hop, now) {
                Some(slot) => slot,
                None => return (hint, Resolution::Drop(DropReason::NeighborTableFull)),
            },
        };
        let entry = &self.entries[slot as usize];
        if now.millis < entry.good_until {
            return (slot, Resolution::To(entry.link));
        }
        (slot, self.resolve_late(slot, now))
    }

    fn resolve_late(&mut self, slot: Slot, now: Now) -> Resolution {
        self.take_binding(slot);
        let entry = &mut self.entries[slot as usize];
        match entry.state {
            State::Static | State::Probing => Resolution::To(entry.link),
            State::Reachable => {
                entry.state = State::Probing;
                entry.tries = 0;
                entry.deadline = now.millis;
                self.pending.push(slot);
                Resolution::To(entry.link)
            }
            State::Failed if now.millis < entry.deadline => Resolution::Drop(DropReason::NeighborFailed),
            State::Failed => {
                entry.state = State::Asking;
                entry.tries = 1;
                entry.deadline = now.millis + RETRY_MS;
                self.pending.push(slot);
                Resolution::Wait { ask: true }
            }
            State::Asking => Resolution::Wait { ask: false },
        }
    }

    /// A binding of the file holds on every VLAN of its port.
    fn take_binding(&mut self, slot: Slot) {
        let hop = self.entries[slot as usize].hop;
        let bound = self.index.get(&Hop { network: 0, ..hop }).map(|&slot| self.entries[slot as usize]);
        if let Some(bound) = bound.filter(|bound| bound.state == State::Static && hop.network != 0) {
            let waiting = self.entries[slot as usize].waiting;
            self.entries[slot as usize] = Entry { hop, waiting, ..bound };
            self.pending.retain(|&pending| pending != slot);
        }
    }

    fn slot_of(&mut self, hop: Hop, now: Now) -> Option<Slot> {
        if let Some(&slot) = self.index.get(&hop) {
            return Some(slot);
        }
        // Failed with its deadline passed: the first use asks.
        let entry = Entry {
            hop,
            link: [0; 12],
            good_until: 0,
            state: State::Failed,
            tries: 0,
            waiting: 0,
            deadline: now.millis,
        };
        self.add(entry, now)
    }

    fn add(&mut self, entry: Entry, now: Now) -> Option<Slot> {
        let slot = if self.entries.len() < self.entries_max {
            self.entries.push(entry);
            self.entries.len() as Slot - 1
        } else {
            let slot = self.idle_slot(now)?;
            self.index.remove(&self.entries[slot as usize].hop);
            self.entries[slot as usize] = entry;
            slot
        };
        self.index.insert(entry.hop, slot);
        Some(slot)
    }

    /// An entry that nobody uses. Looks at a bounded number, going on from where it stopped.
    fn idle_slot(&mut self, now: Now) -> Option<Slot> {
        for _ in 0..64.min(self.entries.len()) {
            self.hand = (self.hand + 1) % self.entries.len();
            let entry = &self.entries[self.hand];
            let is_idle = match entry.state {
                State::Reachable => entry.deadline + IDLE_MS <= now.millis,
                State::Failed => entry.deadline <= now.millis,
                State::Static | State::Probing | State::Asking => false,
            };
            if is_idle {
                return Some(self.hand as Slot);
            }
        }
        None
    }

    /// Lets a frame wait at `slot`, or gives it back with the reason why not.
    pub fn wait(&mut self, slot: Slot, frame: F) -> Result<(), (F, DropReason)> {
        let entry = &mut self.entries[slot as usize];
        if self.waiting.len() >= WAITING_MAX || entry.waiting >= WAITING_PER_HOP_MAX {
            return Err((frame, DropReason::NeighborQueueFull));
        }
        entry.waiting += 1;
        self.waiting.push_back(Waiting { slot, frame });
        Ok(())
    }

    /// Binds `hop` to `mac` for good. Gives each frame that waited for it to `send`.
    pub fn bind(&mut self, hop: Hop, mac: MacAddress, now: Now, send: impl FnMut(F)) {
        let link = self.link_to(hop, mac);
        let good_until = u64::MAX;
        let entry = Entry { hop, link, good_until, state: State::Static, tries: 0, waiting: 0, deadline: 0 };
        match self.index.get(&hop) {
            Some(&slot) => {
                let waiting = self.entries[slot as usize].waiting;
                self.entries[slot as usize] = Entry { waiting, ..entry };
                self.pending.retain(|&pending| pending != slot);
                self.release(slot, send);
            }
            None => {
                self.add(entry, now);
            }
        }
    }

    /// Makes every static entry that `is_bound` does not know a dynamic one, and all those on VLANs, which take their
    /// binding from the port's own network when they are used again.
    pub fn unbind(&mut self, is_bound: impl Fn(Hop) -> bool) {
        for entry in self.entries.iter_mut().filter(|entry| entry.state == State::Static) {
            if entry.hop.network != 0 || !is_bound(entry.hop) {
                entry.state = State::Reachable;
                entry.good_until = 0;
                entry.deadline = 0;
            }
        }
    }

    /// An ARP packet says that `hop` has `mac`. Gives each frame that waited for it to `send`.
    /// Only known next hops learn, so nobody can fill the cache from outside. Returns whether this one is known.
    pub fn learn(&mut self, hop: Hop, mac: MacAddress, now: Now, send: impl FnMut(F)) -> bool {
        let Some(&slot) = self.index.get(&hop) else { return false };
        let link = self.link_to(hop, mac);
        let entry = &mut self.entries[slot as usize];
        if entry.state == State::Static {
            return true;
        }
        entry.link = link;
        entry.good_until = now.millis + REACHABLE_MS;
        entry.state = State::Reachable;
        entry.tries = 0;
        entry.deadline = now.millis + REACHABLE_MS;
        self.pending.retain(|&pending| pending != slot);
        self.release(slot, send);
        true
    }

    fn link_to(&self, hop: Hop, mac: MacAddress) -> Link {
        let own = self.own.get(usize::from(hop.port)).copied().unwrap_or(MacAddress([0; 6]));
        link(mac, own)
    }

    /// Takes out, in order, what waits at `slot`.
    fn release(&mut self, slot: Slot, mut each: impl FnMut(F)) {
        if self.entries[slot as usize].waiting == 0 {
            return;
        }
        self.entries[slot as usize].waiting = 0;
        for _ in 0..self.waiting.len() {
            let Some(waiting) = self.waiting.pop_front() else { break };
            if waiting.slot == slot { each(waiting.frame) } else { self.waiting.push_back(waiting) }
        }
    }

    /// Lets time pass: gives requests that are due to `ask` and frames that waited in vain to `drop`.
    pub fn tick(&mut self, now: Now, mut ask: impl FnMut(Ask), mut drop: impl FnMut(F)) {
        let mut at = 0;
        while at < self.pending.len() {
            let slot = self.pending[at];
            let entry = &mut self.entries[slot as usize];
            if now.millis < entry.deadline {
                at += 1;
                continue;
            }
            if entry.tries < TRIES_MAX {
                entry.tries += 1;
                entry.deadline = now.millis + RETRY_MS;
                let probed = entry.state == State::Probing;
                let to = probed.then(|| MacAddress(std::array::from_fn(|n| entry.link[n])));
                ask(Ask { hop: entry.hop, to });
                at += 1;
            } else if entry.state == State::Probing {
                // It may have got another MAC: ask everybody before giving up.
                entry.state = State::Asking;
                entry.tries = 0;
            } else {
                entry.state = State::Failed;
                entry.good_until = 0;
                entry.deadline = now.millis + RETRY_MS;
                self.pending.swap_remove(at);
                self.release(slot, &mut drop);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOP: Hop = Hop { address: 0x0a00_0001, port: 0, network: 0 };
    const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
    const OTHER: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);

    /// No own MAC is told in these tests.
    fn to(mac: MacAddress) -> Resolution {
        let mut link = [0; 12];
        link[..6].copy_from_slice(&mac.0);
        Resolution::To(link)
    }

    fn at(millis: u64) -> Now {
        Now { cycles: 0, seconds: (millis / 1000) as u32, millis }
    }

    fn asks(neighbors: &mut Neighbors<u32>, now: u64, dropped: &mut Vec<u32>) -> Vec<Ask> {
        let mut asks = Vec::new();
        neighbors.tick(at(now), |ask| asks.push(ask), |frame| dropped.push(frame));
        asks
    }

    #[test]
    fn the_first_packet_asks_and_waits_and_an_answer_sends_what_waited_in_order() {
        let mut neighbors = Neighbors::new();
        let (slot, resolution) = neighbors.resolve(u32::MAX, HOP, at(0));
        assert_eq!(resolution, Resolution::Wait { ask: true });
        for frame in 0..3u32 {
            neighbors.wait(slot, frame).expect("there is room");
            assert_eq!(neighbors.resolve(slot, HOP, at(1)), (slot, Resolution::Wait { ask: false }));
        }
        let mut sent = Vec::new();
        assert!(neighbors.learn(HOP, MAC, at(2), |frame| sent.push(frame)));
        assert_eq!(sent, [0, 1, 2]);
        assert_eq!(neighbors.resolve(slot, HOP, at(3)), (slot, to(MAC)));
        assert_eq!(neighbors.waiting(), 0);
    }

    #[test]
    fn a_silent_next_hop_is_asked_three_times_a_second_apart_then_given_up() {
        let mut neighbors = Neighbors::new();
        let (slot, _) = neighbors.resolve(u32::MAX, HOP, at(0));
        neighbors.wait(slot, 7).expect("there is room");
        let mut dropped = Vec::new();
        let mut asked = Vec::new();
        for millis in (0..10_000).step_by(100) {
            for ask in asks(&mut neighbors, millis, &mut dropped) {
                asked.push((millis, ask.to));
            }
        }
        assert_eq!(asked, [(1000, None), (2000, None)]);
        assert_eq!(dropped, [7]);
        let (slot, resolution) = neighbors.resolve(slot, HOP, at(3_500));
        assert_eq!(resolution, Resolution::Drop(DropReason::NeighborFailed));
        assert_eq!(neighbors.resolve(slot, HOP, at(4_000)).1, Resolution::Wait { ask: true });
    }

    #[test]
    fn an_old_answer_is_probed_by_unicast_while_packets_go_on() {
        let mut neighbors = Neighbors::<u32>::new();
        let (slot, _) = neighbors.resolve(u32::MAX, HOP, at(0));
        neighbors.learn(HOP, MAC, at(0), |_| ());
        let late = REACHABLE_MS + 5;
        assert_eq!(neighbors.resolve(slot, HOP, at(late)).1, to(MAC));
        let mut dropped = Vec::new();
        assert_eq!(asks(&mut neighbors, late, &mut dropped), [Ask { hop: HOP, to: Some(MAC) }]);
        assert_eq!(neighbors.resolve(slot, HOP, at(late + 1)).1, to(MAC));
        neighbors.learn(HOP, OTHER, at(late + 2), |_| ());
        assert_eq!(neighbors.resolve(slot, HOP, at(late + 3)).1, to(OTHER));
    }

    #[test]
    fn no_arp_packet_changes_a_static_binding() {
        let mut neighbors = Neighbors::<u32>::new();
        neighbors.bind(HOP, MAC, at(0), |_| ());
        neighbors.learn(HOP, OTHER, at(1), |_| ());
        assert_eq!(neighbors.resolve(u32::MAX, HOP, at(1_000_000)).1, to(MAC));
    }

    #[test]
    fn a_binding_holds_on_every_vlan_of_its_port() {
        let mut neighbors = Neighbors::<u32>::new();
        neighbors.bind(HOP, MAC, at(0), |_| ());
        let tagged = Hop { network: 7, ..HOP };
        assert_eq!(neighbors.resolve(u32::MAX, tagged, at(1)).1, to(MAC));
        neighbors.unbind(|_| true);
        neighbors.bind(HOP, OTHER, at(2), |_| ());
        assert_eq!(neighbors.resolve(u32::MAX, tagged, at(2)).1, to(OTHER));
    }

    #[test]
    fn a_new_binding_sends_what_waited() {
        let mut neighbors = Neighbors::new();
        let (slot, _) = neighbors.resolve(u32::MAX, HOP, at(0));
        neighbors.wait(slot, 7).expect("there is room");
        let mut sent = Vec::new();
        neighbors.bind(HOP, MAC, at(1), |frame| sent.push(frame));
        assert_eq!((sent, neighbors.waiting()), (vec![7], 0));
    }

    #[test]
    fn strangers_teach_nothing() {
        let mut neighbors = Neighbors::<u32>::new();
        assert!(!neighbors.learn(HOP, MAC, at(1), |_| ()));
        assert_eq!(neighbors.entries.len(), 0);
    }

    #[test]
    fn queues_are_bounded_for_one_and_for_all() {
        let mut neighbors = Neighbors::new();
        let (slot, _) = neighbors.resolve(u32::MAX, HOP, at(0));
        let waited = (0..200).filter(|&frame| neighbors.wait(slot, frame).is_ok()).count();
        assert_eq!(waited, usize::from(WAITING_PER_HOP_MAX));
        let mut all = waited;
        for address in 0..100 {
            let (slot, _) = neighbors.resolve(u32::MAX, Hop { address, ..HOP }, at(0));
            all += (0..200).filter(|&frame| neighbors.wait(slot, frame).is_ok()).count();
        }
        assert_eq!(all, WAITING_MAX);
    }

    #[test]
    fn a_full_cache_makes_room_by_forgetting_idle_entries_only() {
        let mut neighbors = Neighbors::<u32>::with_limit(4);
        for address in 0..4 {
            let hop = Hop { address, ..HOP };
            neighbors.resolve(u32::MAX, hop, at(0));
            neighbors.learn(hop, MAC, at(0), |_| ());
        }
        let (_, resolution) = neighbors.resolve(u32::MAX, Hop { address: 9, ..HOP }, at(1));
        assert_eq!(resolution, Resolution::Drop(DropReason::NeighborTableFull));
        let late = REACHABLE_MS + IDLE_MS;
        let (_, resolution) = neighbors.resolve(u32::MAX, Hop { address: 9, ..HOP }, at(late));
        assert_eq!(resolution, Resolution::Wait { ask: true });
    }
}
