//! Packets that came in pieces: where the first piece went, so that the others go there too.
//!
//! Only the first piece of a packet has ports. What became of it is remembered by what all pieces share (source,
//! destination, ident, and in IPv4 the protocol), in one table that all workers have, since a device may give the pieces of
//! one packet to several. Nothing is put together: each piece is sent on as it is.
//!
//! What is sent on is noted as extents, so that the table knows when a packet is whole (its place is free then, and its
//! ident may come again), and what repeats or overlaps what was there. Who overlaps ends the packet, as in the kernel: its other pieces are dropped.
//!
//! A place is taken for the time of one operation by a bit in its first word. Nobody waits for it: who finds it taken goes
//! on as if there were nothing (a first piece is not remembered, a later one waits for the next look). A flood of first pieces throws out the
//! oldest, which has had the longest time for its others.

mod extents;

use std::net::Ipv6Addr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::address::Addr4;
use crate::clock::Now;
use crate::parse::pieces::Piece;
use crate::parse::plain6::words;
use extents::{Extents, Fit};

/// Places that a packet may have: the hash says the first of them.
const WINDOW: usize = 4;
/// Pieces that wait for their first piece with a worker at most.
pub const WAITING_MAX: usize = 256;
/// Looks at a place that is taken before it is let be.
const LOOKS: usize = 64;
/// In the first word of a place: somebody changes it. The rest is a part of the hash, or zero if nothing is there.
const TAKEN: u64 = 1;

/// What the pieces of a packet share, between two addresses of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key([u64; KEY_WORDS]);

const KEY_WORDS: usize = 5;

impl Key {
    /// Of IPv4 (RFC 791 section 3.2).
    pub fn v4(source: Addr4, destination: Addr4, protocol: u8, ident: u32) -> Self {
        let ends = u64::from(source.bits()) << 32 | u64::from(destination.bits());
        Self([ends, 0, 0, 0, IS_V4 | u64::from(protocol) << 32 | u64::from(ident)])
    }

    /// Of IPv6, where the header that the protocol stands in is one of the pieces' own (RFC 8200 section 4.5).
    /// `link` is the port that it came in on, if its source is somebody else on others.
    pub fn v6(source: Ipv6Addr, destination: Ipv6Addr, ident: u32, link: Option<usize>) -> Self {
        let ([a, b], [c, d]) = (words(source), words(destination));
        let link = link.map_or(0, |port| port as u64 + 1);
        Self([a, b, c, d, (link & 0xff) << 32 | u64::from(ident)])
    }

    fn is_v4(&self) -> bool {
        self.0[4] & IS_V4 != 0
    }
}

const IS_V4: u64 = 1 << 63;

/// What became of a first piece, and so becomes of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It went to the real server of this number, at this address: the number may be another one's by now.
    Server(u32, [u64; 2]),
    /// It was a NAT real server's, and went to its client from this address.
    Client([u64; 2]),
    /// It was not sent on.
    Refused,
    /// It was nobody's here: the host's, if there is one; or it was answered.
    Left,
}

/// What is to be done with a later piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// Sent on this way.
    On(Way),
    /// Dropped: all of it was there already.
    Duplicate,
    /// Dropped, with all pieces that follow: a part of it was there already, or where the packet ends is told in two ways.
    Overlap,
    /// The first piece was not here, or it can't be told now.
    Unknown,
}

/// What had to go for a packet that began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// Nothing that was still waited for.
    None,
    /// One whose time was over, with pieces missing.
    Incomplete,
    /// One that was still under way.
    Young,
    /// The new one itself: others change all its places just now.
    New,
}

/// How long the pieces of a packet are waited for, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Patience {
    /// Of IPv4.
    pub v4: u32,
    /// Of IPv6.
    pub v6: u32,
}

impl Patience {
    /// For packets with this key.
    pub fn of(self, key: &Key) -> u32 {
        if key.is_v4() { self.v4 } else { self.v6 }
    }
}

/// Two cache lines.
#[derive(Default)]
#[repr(align(128))]
struct Place {
    head: AtomicU64,
    key: [AtomicU64; KEY_WORDS],
    address: [AtomicU64; 2],
    /// When it began, in milliseconds, and below that the number of its real server.
    begun: AtomicU64,
    extents: [AtomicU64; extents::WORDS],
}
const _: () = assert!(size_of::<Place>() == 128);

/// See the module.
pub struct Pieces {
    places: Box<[Place]>,
    random: [u64; 2],
}

impl Pieces {
    /// With room for so many packets, rounded up to a power of two. The memory is used once, so that no packet is the first to
    /// touch it.
    pub fn new(capacity: usize, random: [u64; 2]) -> Self {
        let capacity = capacity.max(WINDOW).next_power_of_two();
        let places: Box<[Place]> = (0..capacity).map(|_| Place::default()).collect();
        Self { places, random: [random[0], random[1] | 1] }
    }

    /// What a packet is found by, beside its key.
    pub fn hash(&self, key: &Key) -> u64 {
        let mix = |hash: u64, word: u64| {
            let product = u128::from(hash ^ word) * u128::from(self.random[1]);
            product as u64 ^ (product >> 64) as u64
        };
        key.0.into_iter().fold(self.random[0], |hash, word| mix(hash, word).rotate_left(23))
    }

    fn window(&self, hash: u64) -> impl Iterator<Item = &Place> {
        let mask = self.places.len() - 1;
        (0..WINDOW).filter_map(move |step| self.places.get((hash as usize).wrapping_add(step) & mask))
    }

    /// Whether the first piece of a packet was here, as far as its hash tells.
    pub fn may_have(&self, hash: u64) -> bool {
        self.window(hash).any(|place| place.head.load(Relaxed) & !TAKEN == tag(hash))
    }

    /// Remembers what became of a first piece. One that came again begins the packet anew: it may be another one with the same
    /// ident.
    pub fn begin(
        &self,
        (key, hash): (&Key, u64),
        piece: &Piece,
        way: Way,
        now: Now,
        patience: Patience,
    ) -> Gone {
        let write = |place: &Place| {
            let number = match way {
                Way::Server(number, address) => {
                    place.set_address(address);
                    u64::from(number)
                }
                Way::Client(address) => {
                    place.set_address(address);
                    TO_CLIENT
                }
                Way::Refused => REFUSED,
                Way::Left => LEFT,
            };
            place.begun.store((now.millis & MILLIS) << 32 | number, Relaxed);
            place.put(Extents::first(piece.end));
        };
        if let Some(place) = self.take(key, hash) {
            write(place);
            place.head.store(tag(hash), Release);
            return Gone::None;
        }
        // None, then one that is over, then the oldest.
        let rank = |place: &&Place| match place.head.load(Relaxed) {
            0 => u32::MAX,
            _ => place.age(now),
        };
        let Some(place) = self.window(hash).max_by_key(rank) else { return Gone::New };
        let head = place.head.load(Relaxed);
        if head & TAKEN != 0 || place.head.compare_exchange(head, head | TAKEN, Acquire, Relaxed).is_err() {
            return Gone::New;
        }
        let gone = match head {
            0 => Gone::None,
            _ if place.age(now) > patience.of(&place.key()) => Gone::Incomplete,
            _ => Gone::Young,
        };
        for (word, new) in place.key.iter().zip(key.0) {
            word.store(new, Relaxed);
        }
        write(place);
        place.head.store(tag(hash), Release);
        gone
    }

    /// What is to be done with a piece that is not the first, which is noted as sent on if it is.
    pub fn follow(&self, (key, hash): (&Key, u64), piece: &Piece, now: Now, patience: Patience) -> Course {
        let Some(place) = self.take(key, hash) else { return Course::Unknown };
        if place.age(now) > patience.of(key) {
            place.head.store(0, Release);
            return Course::Unknown;
        }
        let mut extents = place.extents();
        let way = place.way();
        let mut left = tag(hash);
        let course = match extents.add(piece.start, piece.end, piece.is_last) {
            Fit::Fits => Course::On(way),
            Fit::Completes => {
                left = 0;
                Course::On(way)
            }
            Fit::Duplicate => Course::Duplicate,
            Fit::Overlap => Course::Overlap,
        };
        place.put(extents);
        place.head.store(left, Release);
        course
    }

    /// The place of a packet, taken. `None`: it has none, or somebody else has it for longer than anybody should.
    fn take(&self, key: &Key, hash: u64) -> Option<&Place> {
        let wanted = tag(hash);
        for place in self.window(hash) {
            for _ in 0..LOOKS {
                let head = place.head.load(Relaxed);
                if head & !TAKEN != wanted {
                    break;
                }
                if head & TAKEN == 0
                    && place.head.compare_exchange(head, head | TAKEN, Acquire, Relaxed).is_ok()
                {
                    if place.key() == *key {
                        return Some(place);
                    }
                    place.head.store(head, Release);
                    break;
                }
                std::hint::spin_loop();
            }
        }
        None
    }
}

impl Place {
    fn key(&self) -> Key {
        Key(std::array::from_fn(|n| self.key[n].load(Relaxed)))
    }

    fn set_address(&self, address: [u64; 2]) {
        self.address.iter().zip(address).for_each(|(word, new)| word.store(new, Relaxed));
    }

    fn way(&self) -> Way {
        let address = [self.address[0].load(Relaxed), self.address[1].load(Relaxed)];
        match self.begun.load(Relaxed) & !0 >> 32 {
            TO_CLIENT => Way::Client(address),
            REFUSED => Way::Refused,
            LEFT => Way::Left,
            number => Way::Server(number as u32, address),
        }
    }

    /// In milliseconds. One from a clock that is ahead is new; no clock is far ahead, so what is nearly a whole turn old is just old.
    fn age(&self, now: Now) -> u32 {
        let begun = self.begun.load(Relaxed) >> 32;
        let age = (now.millis & MILLIS).wrapping_sub(begun) as u32;
        if age > u32::MAX - AHEAD_MAX { 0 } else { age }
    }

    fn extents(&self) -> Extents {
        Extents::from_words(std::array::from_fn(|n| self.extents[n].load(Relaxed)))
    }

    fn put(&self, extents: Extents) {
        self.extents.iter().zip(extents.words()).for_each(|(word, new)| word.store(new, Relaxed));
    }
}

/// Of the clock, as much as is kept.
const MILLIS: u64 = !0 >> 32;
/// Workers' clocks are apart by less, in milliseconds.
const AHEAD_MAX: u32 = 60_000;
/// In place of the number of a real server, which has fewer bits.
const TO_CLIENT: u64 = MILLIS;
const REFUSED: u64 = MILLIS - 1;
const LEFT: u64 = MILLIS - 2;

/// What stands in the first word of a place: never zero.
fn tag(hash: u64) -> u64 {
    (hash | 1 << 63) & !TAKEN
}

#[cfg(test)]
mod tests;
