//! A real server as the data path sees it.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crossbeam::utils::CachePadded;
use weir_config::model::{Forwarding, MacAddress, Protocol};

use super::far::Far;
use super::ranks::journal::Journal;
use super::rates::Estimator;
use crate::address::{Addr4, Wire4};
use crate::clock::Now;
use crate::conn::record::{ServerId, ServiceId};
use crate::conn::state::{State, is_active};
use crate::neighbor::{Hop, NextHop};
use crate::stats::Counter;
use crate::wire::encap::Encap;

/// One real server of one virtual server. Aligned so that finding one by its number takes no multiplication; in this order,
/// so that all that packets need of it lies in the first of its two cache lines.
#[derive(Clone)]
#[repr(C, align(128))]
pub struct Server {
    /// [`Live::workers`], at hand.
    pub tallies: Arc<[CachePadded<Tally>]>,
    /// The neighbour to hand its packets to, on the port's own network, as the neighbour cache knows it; without a route
    /// one that nobody has.
    pub hop: Hop,
    /// Its address, if that is one of IPv4.
    pub address: Addr4,
    /// Source address of the outer header, as it stands there.
    pub tunnel_source: Wire4,
    /// How a tunnel wraps its packets.
    pub encap: Encap,
    /// Largest packet that reaches it unwrapped, in bytes: the port's MTU, less a tunnel's headers.
    pub mtu: u16,
    /// Its L4 port; 0: the one that the client used.
    pub port: u16,
    /// The port of its virtual server if a helper looks after connections to that; 0: none does. It stays when an edit takes the helper
    /// away, for connections that there are.
    pub helper_port: u16,
    /// Its weight; 0: quiesced.
    pub weight: u16,
    /// The virtual server.
    pub service: ServiceId,
    /// Its number.
    pub id: ServerId,
    /// The number that new connections to it get. Another one than its own: an edit has changed its method or its port since,
    /// and connections that began before keep what they began with.
    pub current: ServerId,
    /// False: it was removed, but connections may still name it.
    pub is_present: bool,
    /// Whether changes of its counts are noted in [`Server::journal`].
    pub is_ranked: bool,
    /// How packets reach it.
    pub forwarding: Forwarding,
    /// The MAC that the file binds [`Server::hop`] to.
    pub bound: Option<MacAddress>,
    /// The port that it is listed with: what the file says. With a mark that may be no more than a part of its name.
    pub named_port: u16,
    /// Where it is, if that is an IPv6 address: then [`Server::address`] is unspecified and [`Server::hop`] nobody's, so
    /// that its packets take the common way.
    pub far: Option<Arc<Far>>,
    /// No new connections from this many on; 0: no limit.
    pub upper_threshold: u32,
    /// New connections again below this many; 0: three quarters of the upper one.
    pub lower_threshold: u32,
    /// What its virtual server's scheduler and journal know it by.
    pub name: u32,
    /// Where changes of its counts are noted, if its virtual server's list is ranked.
    pub journal: Option<Arc<Journal>>,
    /// What changes with packets.
    pub live: Arc<Live>,
}

impl Server {
    /// Its port for connections to `port`. Data connections keep theirs.
    #[inline]
    pub fn port_for(&self, port: u16) -> u16 {
        if self.is_helped() && port != self.helper_port { port } else { self.usual_port_for(port) }
    }

    /// As [`Server::port_for`], of connections that no helper looks after.
    #[inline]
    pub fn usual_port_for(&self, port: u16) -> u16 {
        if self.port == 0 { port } else { self.port }
    }

    /// Whether a helper looks after its connections.
    #[inline]
    pub fn is_helped(&self) -> bool {
        self.helper_port != 0
    }

    /// Whether replies from this socket belong to a connection of its to `port`.
    #[inline]
    pub fn replies_from(&self, address: Addr4, source_port: u16, port: u16) -> bool {
        self.address == address && self.port_for(port) == source_port
    }

    /// As [`Server::replies_from`], of connections that no helper looks after.
    #[inline]
    pub fn usually_replies_from(&self, address: Addr4, source_port: u16, port: u16) -> bool {
        self.address == address && self.usual_port_for(port) == source_port
    }

    /// As [`Server::replies_from`], of IPv6.
    pub fn replies_from6(&self, address: Ipv6Addr, source_port: u16, port: u16) -> bool {
        self.far.as_ref().is_some_and(|far| far.address == address) && self.port_for(port) == source_port
    }

    /// As [`Server::usually_replies_from`], of IPv6.
    #[inline]
    pub fn usually_replies_from6(&self, address: Ipv6Addr, source_port: u16, port: u16) -> bool {
        self.far.as_ref().is_some_and(|far| far.address == address)
            && self.usual_port_for(port) == source_port
    }

    /// Whether it is left to connections that began before an edit.
    #[inline]
    pub fn is_former(&self) -> bool {
        self.current != self.id
    }

    /// Whether no new connection can come to it: it was removed, or an edit has put another number in its place.
    pub(super) fn is_left(&self) -> bool {
        !self.is_present || self.is_former()
    }

    /// The family-neutral address.
    pub fn ip(&self) -> IpAddr {
        self.far.as_ref().map_or_else(|| self.address.into(), |far| far.address.into())
    }

    /// The neighbour to hand its packets to; `None`: there is no route, or it is of IPv6.
    #[inline]
    pub fn next_hop(&self) -> Option<NextHop> {
        let hop = self.hop;
        (hop != Hop::NOWHERE).then(|| NextHop { port: usize::from(hop.port()), address: hop.address() })
    }

    /// The port that its packets go out of; `None`: there is no route.
    pub fn exit(&self) -> Option<usize> {
        match &self.far {
            Some(far) => far.way.map(|way| usize::from(way.hop.port())),
            None => self.next_hop().map(|hop| hop.port),
        }
    }

    /// Whether the scheduler must pass it over because of its thresholds.
    pub fn is_overloaded(&self) -> bool {
        let reached = self.live.overloaded.load(Relaxed);
        // One that was lower: an edit gave it room since, whichever worker had not heard of that yet.
        reached != 0 && reached >= self.upper_threshold
    }

    /// The same once one of its connections is counted out.
    pub(crate) fn is_overloaded_without_one(&self) -> bool {
        self.is_overloaded() && !self.has_room(self.live.total().saturating_sub(1))
    }

    /// Counts a new connection in and sets the overload flag when it is the one too many. A worker that counts one out at the
    /// same moment may see neither this count nor the flag: what is left wrong then the end of this connection sets
    /// right at the latest, since its worker sees its own flag and counts.
    pub fn bind(&self, worker: usize, protocol: Protocol, state: State) {
        self.tallies[worker].count_in(protocol, state);
        if self.upper_threshold != 0 && self.live.total() >= self.upper_threshold {
            self.live.overloaded.store(self.upper_threshold, Relaxed);
        }
        self.note(worker);
    }

    /// Sets the overload flag if connections that were there before this process are too many.
    pub fn recount(&self) {
        if self.upper_threshold != 0 && self.live.total() >= self.upper_threshold {
            self.live.overloaded.store(self.upper_threshold, Relaxed);
        }
    }

    /// Does what is to be done when a worker has counted in others' connections, without a word about each.
    pub(crate) fn was_counted(&self, worker: usize) {
        self.recount();
        self.note(worker);
    }

    /// Counts a connection out and clears the overload flag when the thresholds say so.
    pub fn unbind(&self, worker: usize, protocol: Protocol, state: State) {
        self.tallies[worker].gauge(protocol, state).take_one();
        if self.live.overloaded.load(Relaxed) != 0 && self.has_room(self.live.total()) {
            self.live.overloaded.store(0, Relaxed);
        }
        self.note(worker);
    }

    /// Moves a connection from one state to the next in the counts.
    #[inline]
    pub fn change(&self, worker: usize, protocol: Protocol, from: State, to: State) {
        if is_active(protocol, from) != is_active(protocol, to) {
            let tally = &self.tallies[worker];
            tally.gauge(protocol, from).take_one();
            tally.gauge(protocol, to).add_one();
            self.note(worker);
        }
    }

    /// Lets picks from a long list see that something has changed.
    #[inline]
    fn note(&self, worker: usize) {
        if self.is_ranked
            && let Some(journal) = &self.journal
        {
            journal.note(worker, self.name);
        }
    }

    fn has_room(&self, total: u32) -> bool {
        match (self.lower_threshold, self.upper_threshold) {
            (0, 0) => true,
            (0, upper) => u64::from(total) * 4 < u64::from(upper) * 3,
            (lower, _) => total < lower,
        }
    }
}

const _: () = assert!(size_of::<Server>() == 128);

/// What changes with packets: one tally per worker, and the flag that all share. Outlives snapshots.
///
/// In this order, so that what the path reads lies in the line of the reference counts, and most of what control writes
/// behind it.
#[repr(C)]
pub struct Live {
    /// By worker number.
    pub workers: Arc<[CachePadded<Tally>]>,
    /// The overload flag of the thresholds: the upper one that was reached, 0 if none. An edit may clear it.
    pub overloaded: AtomicU32,
    /// Before this second tunnel packets to it are cut to what every link of IPv6 takes: see [`Live::found_narrow`].
    narrow_until: AtomicU32,
    /// What it carries in a second; control's.
    pub rates: Estimator,
}

/// What is known of a way is forgotten after so long, in seconds (RFC 8201 section 4).
const WAY_SECS: u32 = 600;

impl Live {
    /// All zero.
    pub fn new(workers: usize) -> Arc<Self> {
        let workers = (0..workers).map(|_| CachePadded::new(Tally::default())).collect();
        Arc::new(Self {
            workers,
            overloaded: AtomicU32::new(0),
            narrow_until: AtomicU32::new(0),
            rates: Estimator::default(),
        })
    }

    /// A router has said that a tunnel packet is too big, and who sent what is inside has nothing to make smaller: the way takes less
    /// than all packets of IPv6 with a tunnel's headers around them, or the sender lets its packets be cut.
    pub fn found_narrow(&self, now: Now) {
        self.narrow_until.store(now.seconds.saturating_add(WAY_SECS), Relaxed);
    }

    /// Whether that was so of late.
    pub fn is_narrow(&self, now: Now) -> bool {
        now.seconds < self.narrow_until.load(Relaxed)
    }

    /// Active connections, all workers.
    pub fn active(&self) -> u32 {
        self.workers.iter().map(|tally| tally.active.get()).sum()
    }

    /// Inactive connections, all workers.
    pub fn inactive(&self) -> u32 {
        self.workers.iter().map(|tally| tally.inactive.get()).sum()
    }

    /// Connections, all workers.
    pub fn total(&self) -> u32 {
        self.active() + self.inactive()
    }

    /// TCP connections through NAT, all workers: how many were made, answered and refused.
    pub fn openings(&self) -> Openings {
        let sum = |count: fn(&Tally) -> &Gauge| {
            self.workers.iter().map(|tally| u64::from(count(tally).get())).sum()
        };
        Openings {
            opened: sum(|tally| &tally.opened),
            answered: sum(|tally| &tally.answered),
            refused: sum(|tally| &tally.refused),
        }
    }
}

/// What became of clients' TCP connections through NAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Openings {
    /// Made.
    pub opened: u64,
    /// Answered by SYN-ACK.
    pub answered: u64,
    /// Answered by a reset.
    pub refused: u64,
}

/// What one worker counts for one real server: one cache line.
#[derive(Debug, Default)]
pub struct Tally {
    /// Connections in an active state.
    pub active: Gauge,
    /// Connections in any other state.
    pub inactive: Gauge,
    /// Connections made.
    pub connections: Counter,
    /// Packets from clients.
    pub in_packets: Counter,
    /// Bytes from clients, IP header included.
    pub in_bytes: Counter,
    /// Packets to clients.
    pub out_packets: Counter,
    /// Bytes to clients, IP header included.
    pub out_bytes: Counter,
    /// Where the worker's neighbour cache keeps the next hop.
    pub neighbor: Gauge,
    /// TCP connections made through NAT, modulo 2^32.
    pub opened: Gauge,
    /// SYN-ACKs of those that were waiting for one, modulo 2^32. A repeated one counts again.
    pub answered: Gauge,
    /// Those that it answered by a reset instead, modulo 2^32.
    pub refused: Gauge,
}
const _: () = assert!(size_of::<Tally>() <= 64);

impl Tally {
    /// Counts a new connection in, thresholds aside: see [`Server::bind`].
    #[inline]
    pub(crate) fn count_in(&self, protocol: Protocol, state: State) {
        self.connections.add(1);
        self.gauge(protocol, state).add_one();
    }

    /// Counts in a connection that a process before has made.
    pub(crate) fn take_over(&self, protocol: Protocol, state: State) {
        self.gauge(protocol, state).add_one();
    }

    /// Counts it out again.
    pub(crate) fn give_up(&self, protocol: Protocol, state: State) {
        self.gauge(protocol, state).take_one();
    }

    fn gauge(&self, protocol: Protocol, state: State) -> &Gauge {
        if is_active(protocol, state) { &self.active } else { &self.inactive }
    }
}

/// A small number with one writer.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU32);

impl Gauge {
    /// A gauge that stands at `value`.
    pub fn at(value: u32) -> Self {
        Self(AtomicU32::new(value))
    }

    /// The present value.
    #[inline]
    pub fn get(&self) -> u32 {
        self.0.load(Relaxed)
    }

    /// Only the owner calls this.
    #[inline]
    pub fn set(&self, value: u32) {
        self.0.store(value, Relaxed);
    }

    /// Counts one more, modulo 2^32.
    pub fn count(&self) {
        self.set(self.get().wrapping_add(1));
    }

    fn add_one(&self) {
        self.set(self.get() + 1);
    }

    fn take_one(&self) {
        debug_assert_ne!(self.get(), 0);
        self.set(self.get().saturating_sub(1));
    }
}
