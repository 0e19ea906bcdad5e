//! Frames that are not for the data path: to control, and what control has to send.
//!
//! A [`Punt`] is a worker's end, a [`Channel`] that of a thread of control. Frames that workers receive go up, each
//! worker through a ring of its own; frames that control makes go down to one worker, who transmits them as its own.
//! They go through the worker on purpose: a director whose worker is stuck must not look alive.
//!
//! There is a channel for VRRP and one for the host's own traffic ([`Owner`]), so that neither fills the other's ring.
//! Above that each [`PuntClass`] has a limit in rate for each worker: a flood costs the worker what receiving the frames
//! costs, control what the limit lets through, and leaves the other classes alone.
//!
//! Neither end waits for the other, locks or makes a system call ([`ring`]). Whoever reads polls, with a sleep of a
//! millisecond at most when there is nothing.

pub mod class;
pub mod ring;

use arrayvec::ArrayVec;

use crate::clock::Now;
use crate::limit::Bucket;
use crate::stats::{DropReason, PuntClass};
use crate::wire::ethernet::HEADER_LEN;
use ring::{FRAME_LEN_MAX, Full, Head, Reader, Writer};

/// Bytes of VRRP that wait for its thread, for each worker: a second of advertisements of 255 routers.
const VRRP_UP_BYTES: usize = 64 << 10;
/// Bytes of VRRP that wait for the worker.
const VRRP_DOWN_BYTES: usize = 64 << 10;
/// Bytes for the host that wait for its thread, for each worker: 5 ms of a gigabit a second.
const HOST_UP_BYTES: usize = 640 << 10;
/// Bytes of the host that wait for the worker.
const HOST_DOWN_BYTES: usize = 640 << 10;

/// Who gets a punted frame, and who sends one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// VRRP's thread.
    Vrrp,
    /// The thread that serves the host interfaces.
    Host,
}

impl Owner {
    /// Every one, in the order in which a worker serves them.
    pub const ALL: [Owner; 2] = [Owner::Vrrp, Owner::Host];

    /// The label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Owner::Vrrp => "vrrp",
            Owner::Host => "host",
        }
    }

    /// Frames of its that a worker sends in one pass at most.
    fn per_pass(self) -> usize {
        match self {
            Owner::Vrrp => 16,
            Owner::Host => 32,
        }
    }
}

impl PuntClass {
    /// Who gets its frames.
    pub fn owner(self) -> Owner {
        match self {
            PuntClass::VrrpMulticast | PuntClass::VrrpUnicast => Owner::Vrrp,
        }
    }

    /// Frames a second, and at once, that a worker passes on.
    pub fn limit(self) -> (u32, u32) {
        match self {
            // 255 routers on one link that advertise every 30 ms.
            PuntClass::VrrpMulticast => (8_000, 512),
            // Anybody on the way can send these.
            PuntClass::VrrpUnicast => (2_000, 256),
        }
    }
}

/// A worker's end of all channels. Without one, nothing is punted.
#[derive(Debug)]
pub struct Punt {
    up: [Option<Writer>; Owner::ALL.len()],
    down: ArrayVec<(Owner, Reader), { Owner::ALL.len() }>,
    limits: Box<[Bucket]>,
}

impl Default for Punt {
    fn default() -> Self {
        let limit = |class: &PuntClass| {
            let (per_second, burst) = class.limit();
            Bucket::new(per_second, burst)
        };
        Self { up: [None, None], down: ArrayVec::new(), limits: PuntClass::ALL.iter().map(limit).collect() }
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
        let Some(writer) = &mut self.up[class.owner() as usize] else { return Err(DropReason::PuntFull) };
        if !self.limits[class as usize].take(now) {
            return Err(DropReason::PuntRateLimited);
        }
        let head = Head { port: port as u16, tag: class as u8, cycles: now.cycles };
        writer.push(head, frame).map_err(|Full| DropReason::PuntFull)
    }

    /// Whether somebody reads what is punted for `owner`.
    #[inline]
    pub fn is_connected(&self, owner: Owner) -> bool {
        self.up[owner as usize].is_some()
    }

    /// Whether control has something to send: one load for each channel.
    #[inline]
    pub fn has_injected(&self) -> bool {
        self.down.iter().any(|(_, reader)| !reader.is_empty())
    }

    /// What one pass may take, VRRP's first: for each channel its reader and how many frames.
    pub(crate) fn injected(&mut self) -> impl Iterator<Item = (Owner, &mut Reader, usize)> {
        self.down.iter_mut().map(|(owner, reader)| (*owner, reader, owner.per_pass()))
    }
}

/// The end of a thread of control: what workers punt for one [`Owner`], and what that owner sends.
#[derive(Debug)]
pub struct Channel {
    up: Vec<Reader>,
    next: usize,
    down: Writer,
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
        let (up_bytes, down_bytes) = match owner {
            Owner::Vrrp => (VRRP_UP_BYTES, VRRP_DOWN_BYTES),
            Owner::Host => (HOST_UP_BYTES, HOST_DOWN_BYTES),
        };
        let mut up = Vec::with_capacity(workers.len());
        for worker in workers.iter_mut() {
            let (writer, reader) = ring::ring(up_bytes);
            worker.up[owner as usize] = Some(writer);
            up.push(reader);
        }
        let (writer, reader) = ring::ring(down_bytes);
        if let Some(first) = workers.first_mut() {
            first.down.retain(|(other, _)| *other != owner);
            // Kept in the order of the owners; there is room for all of them.
            let at = first.down.iter().filter(|(other, _)| (*other as u8) < owner as u8).count();
            first.down.insert(at, (owner, reader));
        }
        Self { up, next: 0, down: writer }
    }

    /// Puts the next punted frame into `frame`, whatever that held. `None`: there is none now. Workers take turns.
    pub fn pop(&mut self, frame: &mut Vec<u8>) -> Option<Punted> {
        for _ in 0..self.up.len() {
            self.next = (self.next + 1) % self.up.len();
            let reader = &mut self.up[self.next];
            if let Some((head, len)) = reader.peek() {
                frame.resize(len, 0);
                reader.pop(frame);
                let class = *PuntClass::ALL.get(usize::from(head.tag))?;
                return Some(Punted { port: usize::from(head.port), class, cycles: head.cycles });
            }
        }
        None
    }

    /// Has a worker send `frame`, without FCS, out of the port with this number.
    ///
    /// # Errors
    /// See [`Refused`]; the frame is not sent.
    pub fn push(&mut self, port: usize, frame: &[u8]) -> Result<(), Refused> {
        if !(HEADER_LEN..=FRAME_LEN_MAX).contains(&frame.len()) {
            return Err(Refused::Length);
        }
        self.down.push(Head { port: port as u16, ..Head::default() }, frame).map_err(|Full| Refused::Full)
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
