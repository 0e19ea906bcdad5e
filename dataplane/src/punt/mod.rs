//! Frames that are not for the data path: to control, and what control has to send.
//!
//! A [`Punt`] is a worker's end, a [`Channel`] that of a thread of control. Frames that workers receive go up, each
//! worker through a ring of its own; frames that control makes go down to one worker, who transmits them as its own.
//! They go through the worker on purpose: a director whose worker is stuck must not look alive.
//!
//! There is a channel for VRRP and one for the host's own traffic ([`Owner`]), so that neither fills the other's ring.
//! Above that each [`PuntClass`] has a limit in rate for each worker: a flood costs the worker what receiving the frames
//! costs, control what the limit lets through, and leaves the other classes alone. Of VRRP each instance has one
//! ([`crate::snapshot::advertisers`]).
//!
//! Neither end waits for the other, locks or makes a system call ([`ring`]). Whoever reads polls, with a sleep of a
//! millisecond at most when there is nothing.

pub mod class;
pub mod flows;
pub mod headers;
pub mod probes;
pub mod ring;

use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::clock::Now;
use crate::limit::Bucket;
use crate::snapshot::advertisers::{self, Share, Shares};
pub use crate::stats::Owner;
use crate::stats::{DropReason, PuntClass};
use crate::wire::ethernet::HEADER_LEN;
use flows::Flows;
use probes::Probes;
use ring::{FRAME_LEN_MAX, Full, Head, Reader, Writer};

/// Bytes of VRRP that wait for its thread, for each worker: a second of advertisements of 255 routers.
const VRRP_UP_BYTES: usize = 64 << 10;
/// Bytes of VRRP that wait for the worker.
const VRRP_DOWN_BYTES: usize = 64 << 10;
/// Bytes of what the host must not miss that wait for its thread, for each worker: 8 ms of a gigabit a second.
const HOST_UP_BYTES: usize = 1 << 20;
/// Bytes of anything else for the host that wait for its thread, for each worker.
const STRAY_UP_BYTES: usize = 256 << 10;
/// Bytes of the host that wait for the worker.
const HOST_DOWN_BYTES: usize = 640 << 10;

impl Owner {
    /// Frames of its that a worker sends in one pass at most.
    fn per_pass(self) -> usize {
        match self {
            Owner::Vrrp => 16,
            Owner::Host => 32,
        }
    }
}

/// A way up. An owner takes what is in its first lane first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Vrrp,
    /// What keeps the host's sessions up.
    Host,
    /// What a stranger can send as much of as he likes.
    Stray,
}

impl Lane {
    const ALL: [Lane; 3] = [Lane::Vrrp, Lane::Host, Lane::Stray];

    fn owner(self) -> Owner {
        match self {
            Lane::Vrrp => Owner::Vrrp,
            Lane::Host | Lane::Stray => Owner::Host,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Lane::Vrrp => VRRP_UP_BYTES,
            Lane::Host => HOST_UP_BYTES,
            Lane::Stray => STRAY_UP_BYTES,
        }
    }
}

impl PuntClass {
    /// Who gets its frames.
    pub fn owner(self) -> Owner {
        self.lane().owner()
    }

    fn lane(self) -> Lane {
        use PuntClass as C;
        match self {
            C::VrrpMulticast | C::VrrpUnicast => Lane::Vrrp,
            C::Established | C::Routing | C::ArpReply | C::Neighbor => Lane::Host,
            C::ArpRequest | C::TcpSyn | C::Tcp | C::Udp | C::Icmp | C::Fragments | C::Group | C::Other => {
                Lane::Stray
            }
        }
    }

    /// Frames a second, and at once, that a worker passes on; of VRRP for each instance.
    pub fn limit(self) -> (u32, u32) {
        match self {
            PuntClass::VrrpMulticast | PuntClass::VrrpUnicast => advertisers::SHARE,
            // 1.2 gigabits a second in full frames.
            PuntClass::Established => (100_000, 1_024),
            PuntClass::Routing => (4_000, 256),
            PuntClass::ArpReply | PuntClass::Neighbor => (1_000, 128),
            PuntClass::Tcp | PuntClass::Udp | PuntClass::Fragments => (2_000, 128),
            PuntClass::ArpRequest
            | PuntClass::TcpSyn
            | PuntClass::Icmp
            | PuntClass::Group
            | PuntClass::Other => (1_000, 128),
        }
    }
}

/// What control knows about the host and workers look up.
#[derive(Debug)]
pub struct Hosted {
    /// What the host takes part in.
    pub flows: Flows,
    /// The checks that go through a forwarding method.
    pub probes: Arc<Probes>,
}

impl Hosted {
    /// Of a host that does nothing yet. `key` is random; `hz` the frequency of the time stamp counter.
    pub fn new(key: [u64; 2], hz: u64) -> Self {
        Self { flows: Flows::new(key, hz), probes: Arc::default() }
    }
}

/// A worker's end of all channels. Without one, nothing is punted.
#[derive(Debug)]
pub struct Punt {
    up: [Option<Writer>; Lane::ALL.len()],
    down: ArrayVec<(Owner, Reader), { Owner::ALL.len() }>,
    host: Option<Arc<Hosted>>,
    limits: Box<[Bucket]>,
    shares: Shares,
}

impl Default for Punt {
    fn default() -> Self {
        let limit = |class: &PuntClass| {
            let (per_second, burst) = class.limit();
            Bucket::new(per_second, burst)
        };
        Self {
            up: [const { None }; Lane::ALL.len()],
            down: ArrayVec::new(),
            host: None,
            limits: PuntClass::ALL.iter().map(limit).collect(),
            shares: Shares::default(),
        }
    }
}

impl Punt {
    /// Hands a copy of a frame that came in on `port` over to the owner of its class.
    ///
    /// # Errors
    /// The limit is reached, or the ring is full.
    pub(crate) fn offer(
        &mut self,
        class: PuntClass,
        port: usize,
        frame: &[u8],
        now: Now,
    ) -> Result<(), DropReason> {
        if !self.limits[class as usize].take(now) {
            return Err(DropReason::PuntRateLimited);
        }
        self.push(class, port, frame, now)
    }

    /// As [`Punt::offer`], for an advertisement, which takes from this share.
    ///
    /// # Errors
    /// The limit is reached, or the ring is full.
    pub(crate) fn offer_advertisement(
        &mut self,
        class: PuntClass,
        share: Share,
        port: usize,
        frame: &[u8],
        now: Now,
    ) -> Result<(), DropReason> {
        if !self.shares.take(share, now) {
            return Err(DropReason::PuntRateLimited);
        }
        self.push(class, port, frame, now)
    }

    /// Whether the limit of a class leaves room for one more.
    pub(crate) fn has_limit_left(&self, class: PuntClass, now: Now) -> bool {
        self.limits[class as usize].has(now)
    }

    fn push(&mut self, class: PuntClass, port: usize, frame: &[u8], now: Now) -> Result<(), DropReason> {
        let Some(writer) = &mut self.up[class.lane() as usize] else { return Err(DropReason::PuntFull) };
        let head = Head { port: port as u16, tag: class as u8, whole: 0, cycles: now.cycles };
        writer.push(head, frame).map_err(|Full| DropReason::PuntFull)
    }

    /// Whether somebody reads what is punted for `owner`.
    #[inline]
    pub fn is_connected(&self, owner: Owner) -> bool {
        let lane = match owner {
            Owner::Vrrp => Lane::Vrrp,
            Owner::Host => Lane::Host,
        };
        self.up[lane as usize].is_some()
    }

    /// What control knows about the host, when there is one.
    pub(crate) fn host(&self) -> Option<&Hosted> {
        self.host.as_deref()
    }

    /// Whether control has something to send: one load for each channel.
    #[inline]
    pub fn has_injected(&self) -> bool {
        self.down.iter().any(|(_, reader)| !reader.is_empty())
    }

    /// The ways down, VRRP's first: for each its owner and how many frames one pass may take.
    pub(crate) fn ways_down(&self) -> ArrayVec<(Owner, usize), { Owner::ALL.len() }> {
        self.down.iter().map(|(owner, _)| (*owner, owner.per_pass())).collect()
    }

    /// The next frame to be sent on one of the ways down: its head and length.
    pub(crate) fn next_injected(&mut self, way: usize) -> Option<(Head, usize, &mut Reader)> {
        let (_, reader) = self.down.get_mut(way)?;
        let (head, len) = reader.peek()?;
        Some((head, len, reader))
    }
}

/// The end of a thread of control: what workers punt for one [`Owner`], and what that owner sends.
#[derive(Debug)]
pub struct Channel {
    /// By lane.
    up: Vec<Readers>,
    down: Writer,
}

/// The ends of one lane.
#[derive(Debug)]
struct Readers {
    /// By worker.
    readers: Vec<Reader>,
    next: usize,
}

/// A punted frame, its bytes aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Punted {
    /// Number of the port it came in on.
    pub port: usize,
    /// What it was taken for.
    pub class: PuntClass,
    /// When its burst was received, in cycles of the time stamp counter.
    pub cycles: u64,
}

impl Channel {
    /// Connects an owner with all workers. The first of them sends what the owner injects.
    pub fn connect(owner: Owner, workers: &mut [Punt]) -> Self {
        let mut up = Vec::new();
        for lane in Lane::ALL.into_iter().filter(|lane| lane.owner() == owner) {
            let mut readers = Vec::with_capacity(workers.len());
            for worker in workers.iter_mut() {
                let (writer, reader) = ring::ring(lane.bytes());
                worker.up[lane as usize] = Some(writer);
                readers.push(reader);
            }
            up.push(Readers { readers, next: 0 });
        }
        let (writer, reader) = ring::ring(match owner {
            Owner::Vrrp => VRRP_DOWN_BYTES,
            Owner::Host => HOST_DOWN_BYTES,
        });
        if let Some(first) = workers.first_mut() {
            first.down.retain(|(other, _)| *other != owner);
            // Kept in the order of the owners; there is room for all of them.
            let at = first.down.iter().filter(|(other, _)| (*other as u8) < owner as u8).count();
            first.down.insert(at, (owner, reader));
        }
        Self { up, down: writer }
    }

    /// As [`Channel::connect`], for the host.
    pub fn connect_host(workers: &mut [Punt], host: &Arc<Hosted>) -> Self {
        workers.iter_mut().for_each(|worker| worker.host = Some(host.clone()));
        Self::connect(Owner::Host, workers)
    }

    /// Puts the next punted frame into `frame`, whatever that held. `None`: there is none now. Workers take turns.
    pub fn pop(&mut self, frame: &mut Vec<u8>) -> Option<Punted> {
        let head = self.up.iter_mut().find_map(|lane| lane.pop(frame))?;
        let class = *PuntClass::ALL.get(usize::from(head.tag))?;
        Some(Punted { port: usize::from(head.port), class, cycles: head.cycles })
    }

    /// Whether the worker has taken everything it was given.
    pub fn is_drained(&self) -> bool {
        self.down.is_drained()
    }

    /// Has a worker send `frame`, without FCS, out of the port with this number.
    ///
    /// # Errors
    /// See [`Refused`]; the frame is not sent.
    pub fn push(&mut self, port: usize, frame: &[u8]) -> Result<(), Refused> {
        self.push_until(port, frame, u64::MAX)
    }

    /// As [`Channel::push`], for a frame that must not come out late: after this cycle of the time stamp counter the
    /// worker drops it.
    ///
    /// # Errors
    /// See [`Refused`]; the frame is not sent.
    pub fn push_until(&mut self, port: usize, frame: &[u8], expires: u64) -> Result<(), Refused> {
        if !(HEADER_LEN..=FRAME_LEN_MAX).contains(&frame.len()) {
            return Err(Refused::Length);
        }
        self.down
            .push(Head { port: port as u16, cycles: expires, ..Head::default() }, frame)
            .map_err(|Full| Refused::Full)
    }
}

impl Readers {
    fn pop(&mut self, frame: &mut Vec<u8>) -> Option<Head> {
        for _ in 0..self.readers.len() {
            self.next = (self.next + 1) % self.readers.len();
            let reader = &mut self.readers[self.next];
            if let Some((head, len)) = reader.peek() {
                frame.resize(len, 0);
                reader.pop(frame);
                return Some(head);
            }
        }
        None
    }
}

/// Why a frame can't be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too many wait for the worker.
    #[error("too many frames wait for the worker")]
    Full,
    /// It is no Ethernet frame.
    #[error("a frame has from 14 to {FRAME_LEN_MAX} bytes")]
    Length,
}
