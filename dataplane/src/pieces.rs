//! Packets that came in pieces: where the first piece went, so that the others go there too.
//!
//! Only the first piece of a packet has ports. What became of it is remembered by what all pieces share (source,
//! destination, ident, and in IPv4 the protocol), in one table that all workers have, since a device may give the pieces of
//! one packet to several. Nothing is put together: each piece is sent on as it is.
//!
//! What is sent on is noted as extents, so that the table knows when a packet is whole (its place is free then, and its
//! ident may come again), and what repeats or overlaps what was there. Who overlaps ends the packet, as in the kernel: its other pieces are dropped.
//!
//! A place is taken for the time of one operation by a bit in its first word. Nobody waits for long: a later piece that finds it taken
//! goes on as if there were nothing, and waits for the next look; a first one takes another place. A flood of first pieces throws out the
//! oldest, which has had the longest time for its others. What is over without becoming whole is swept away, a part with each millisecond.

mod extents;

use std::net::Ipv6Addr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, AtomicUsize};

use dpdk::memory::{Line, MemoryError, Slab};

use crate::address::Addr4;
use crate::clock::Now;
use crate::conn::record::ServerId;
use crate::parse::pieces::Piece;
use crate::parse::plain6::words;
use crate::stats::DropReason;
use extents::{Extents, Fit};

/// Places that a packet may have: the hash says which it has if they are free.
const WAYS: usize = 8;
/// Pieces that wait for their first piece with a worker at most.
pub const WAITING_MAX: usize = 256;
/// Looks at a place that is taken before it is let be.
const LOOKS: usize = 64;
/// Places that one sweep looks at.
const SWEPT: usize = 64;
/// A first piece that comes again within so many milliseconds is the same. Later it may be another packet's with the same ident, of which
/// IPv4 has few: who uses them up as fast as this would send 650,000 packets a second.
const REPEATED_MILLIS: u32 = 100;
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
    /// It was a NAT real server's, of this number if it has a connection, and went to its client from this address.
    Client(Option<u32>, [u64; 2]),
    /// It was not sent on, and so for this reason neither are the others.
    Refused(DropReason),
    /// It was nobody's here: the host's, if there is one.
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
    /// The same, of one whose time is over with pieces missing.
    Late,
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

/// What a place has beside its first word: two cache lines.
type Lines = [Line; 2];

/// One place. The first line has the key, the address and when the packet began; the second one has what has come of it.
#[derive(Clone, Copy)]
struct Place<'a>(&'a Lines);

/// Words of the first line: behind the key an address.
const ADDRESS: usize = KEY_WORDS;
/// When it began, in milliseconds, and below that the number of its real server.
const BEGUN: usize = ADDRESS + 2;
const _: () = assert!(BEGUN == 7 && extents::WORDS <= 8);

/// A place with its first word.
#[derive(Clone, Copy)]
struct Slot<'a> {
    head: &'a AtomicU64,
    place: Place<'a>,
}

/// See the module.
pub struct Pieces {
    /// The first words of the places that a packet may have, in one cache line.
    heads: Slab<Line>,
    places: Slab<Lines>,
    random: [u64; 2],
    /// Where [`Pieces::sweep`] goes on.
    swept: AtomicUsize,
    /// In milliseconds: from then on nothing is left to be swept.
    swept_until: AtomicU64,
}

impl Pieces {
    /// With room for so many packets, rounded up to a power of two.
    ///
    /// # Errors
    /// There is not so much memory.
    pub fn new(capacity: usize, random: [u64; 2]) -> Result<Self, MemoryError> {
        let capacity = capacity.max(WAYS).next_power_of_two();
        Ok(Self {
            heads: Slab::advised(capacity / WAYS)?,
            places: Slab::advised(capacity)?,
            random: [random[0], random[1] | 1],
            swept: AtomicUsize::new(0),
            swept_until: AtomicU64::new(0),
        })
    }

    /// What a packet is found by, beside its key.
    pub fn hash(&self, key: &Key) -> u64 {
        let mix = |hash: u64, word: u64| {
            let product = u128::from(hash ^ word) * u128::from(self.random[1]);
            product as u64 ^ (product >> 64) as u64
        };
        key.0.into_iter().fold(self.random[0], |hash, word| mix(hash, word).rotate_left(23))
    }

    /// The places that a packet may have, that which it most probably has first.
    fn slots(&self, hash: u64) -> impl Iterator<Item = Slot<'_>> {
        let first = self.first(hash);
        (0..WAYS).filter_map(move |step| self.slot(first ^ step))
    }

    /// The places whose first word says that a packet with this hash has them. They may change before they are taken.
    #[inline]
    fn slots_of(&self, hash: u64) -> impl Iterator<Item = Slot<'_>> {
        let (first, wanted) = (self.first(hash), tag(hash));
        let is_of = |word: &AtomicU64| word.load(Relaxed) & !TAKEN == wanted;
        let bit = |at: usize, word| u8::from(is_of(word)) << at;
        let heads = self.heads.get(first / WAYS).map(|heads| &heads.0);
        let mut found: u8 =
            heads.map_or(0, |heads| heads.iter().enumerate().map(|(at, word)| bit(at, word)).sum());
        std::iter::from_fn(move || {
            let at = (found != 0).then(|| found.trailing_zeros() as usize)?;
            found &= found - 1;
            self.slot(first / WAYS * WAYS + at)
        })
    }

    fn slot(&self, at: usize) -> Option<Slot<'_>> {
        Some(Slot { head: self.heads.get(at / WAYS)?.0.get(at % WAYS)?, place: Place(self.places.get(at)?) })
    }

    fn first(&self, hash: u64) -> usize {
        (hash >> 8) as usize & (self.places.len() - 1)
    }

    /// Asks the processor for the place that a packet most probably has.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        let first = self.first(hash);
        dpdk::lcore::prefetch_at(&self.heads, first / WAYS);
        if let Some(place) = self.places.get(first) {
            place.iter().for_each(dpdk::lcore::prefetch);
        }
    }

    /// Whether the first piece of a packet was here, as far as its hash tells.
    pub fn may_have(&self, hash: u64) -> bool {
        self.slots_of(hash).next().is_some()
    }

    /// What a first piece that ends there is, if it was here a moment ago: a duplicate, or it overlaps itself. `None`: it begins a packet, or
    /// begins one anew that was not sent on or that others have ended.
    pub fn repeated(&self, (key, hash): (&Key, u64), end: u16, now: Now) -> Option<Course> {
        let Slot { head, place } = self.take(key, hash)?;
        let mut extents = place.extents();
        let was_sent_on = matches!(place.way(), Way::Server(..) | Way::Client(..));
        let is_same = was_sent_on && place.age(now) <= REPEATED_MILLIS && !extents.is_over();
        let course = is_same.then(|| match extents.add(0, end, false) {
            Fit::Overlap => Course::Overlap,
            _ => Course::Duplicate,
        });
        if is_same {
            place.put(extents);
        }
        head.store(tag(hash), Release);
        course
    }

    /// Remembers what became of a first piece, which ends there. One that came again begins the packet anew.
    pub fn begin(&self, (key, hash): (&Key, u64), end: u16, way: Way, now: Now, patience: Patience) -> Gone {
        // When it was looked at for certain. Written once a second at most.
        let round = (2 * self.places.len() / SWEPT) as u64;
        let until = now.millis + u64::from(patience.v4.max(patience.v6)) + round;
        if self.swept_until.load(Relaxed) < until {
            self.swept_until.fetch_max(until + 1_000, Relaxed);
        }
        if let Some(Slot { head, place }) = self.take(key, hash) {
            let is_late = place.age(now) > patience.of(key) && place.lacks_pieces();
            place.begin(end, way, now);
            head.store(tag(hash), Release);
            return if is_late { Gone::Incomplete } else { Gone::None };
        }
        let Some((Slot { head, place }, former)) = self.make_room(hash, now) else { return Gone::New };
        let gone = match former {
            0 => Gone::None,
            _ if place.age(now) <= patience.of(&place.key()) => Gone::Young,
            _ if place.lacks_pieces() => Gone::Incomplete,
            _ => Gone::None,
        };
        place.set_key(key);
        place.begin(end, way, now);
        head.store(tag(hash), Release);
        gone
    }

    /// Takes a place for a new packet, and says what its first word was: one with nothing there, then one that is over, then the
    /// oldest. Those that others change just now are let be.
    fn make_room(&self, hash: u64, now: Now) -> Option<(Slot<'_>, u64)> {
        for _ in 0..LOOKS {
            let slots = || self.slots(hash).map(|slot| (slot, slot.head.load(Relaxed)));
            let free = slots().find(|(_, head)| *head == 0);
            let oldest =
                || slots().filter(|(_, head)| head & TAKEN == 0).max_by_key(|(slot, _)| slot.place.age(now));
            if let Some((slot, head)) = free.or_else(oldest)
                && slot.head.compare_exchange(head, head | TAKEN, Acquire, Relaxed).is_ok()
            {
                return Some((slot, head));
            }
            std::hint::spin_loop();
        }
        None
    }

    /// Ends packets whose time is over, in another part of the table with each call. Returns of how many pieces were missing.
    pub fn sweep(&self, now: Now, patience: Patience) -> u64 {
        if now.millis >= self.swept_until.load(Relaxed) {
            return 0;
        }
        let from = self.swept.fetch_add(SWEPT, Relaxed);
        let mask = self.places.len() - 1;
        let slots = (from..from.wrapping_add(SWEPT)).filter_map(|at| self.slot(at & mask));
        let ends_incomplete = |Slot { head, place }: &Slot<'_>| {
            let word = head.load(Relaxed);
            let may_be_over = word & TAKEN == 0 && word != 0 && place.age(now) > patience.v4.min(patience.v6);
            if !may_be_over || head.compare_exchange(word, word | TAKEN, Acquire, Relaxed).is_err() {
                return false;
            }
            let is_over = place.age(now) > patience.of(&place.key());
            let lacks_pieces = is_over && place.lacks_pieces();
            head.store(if is_over { 0 } else { word }, Release);
            lacks_pieces
        };
        slots.filter(ends_incomplete).count() as u64
    }

    /// What is to be done with a piece that is not the first, which is noted as sent on if it is.
    pub fn follow(&self, (key, hash): (&Key, u64), piece: &Piece, now: Now, patience: Patience) -> Course {
        let Some(Slot { head, place }) = self.take(key, hash) else { return Course::Unknown };
        if place.age(now) > patience.of(key) {
            head.store(0, Release);
            return Course::Late;
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
        head.store(left, Release);
        course
    }

    /// The place of a packet, taken. `None`: it has none, or somebody else has it for longer than anybody should.
    fn take(&self, key: &Key, hash: u64) -> Option<Slot<'_>> {
        let wanted = tag(hash);
        for slot in self.slots_of(hash) {
            for _ in 0..LOOKS {
                let head = slot.head.load(Relaxed);
                if head & !TAKEN != wanted {
                    break;
                }
                if head & TAKEN == 0
                    && slot.head.compare_exchange(head, head | TAKEN, Acquire, Relaxed).is_ok()
                {
                    if slot.place.key() == *key {
                        return Some(slot);
                    }
                    slot.head.store(head, Release);
                    break;
                }
                std::hint::spin_loop();
            }
        }
        None
    }
}

impl Place<'_> {
    fn word(&self, at: usize) -> &AtomicU64 {
        &self.0[0].0[at]
    }

    fn key(&self) -> Key {
        Key(std::array::from_fn(|n| self.word(n).load(Relaxed)))
    }

    fn set_key(&self, key: &Key) {
        key.0.iter().enumerate().for_each(|(n, new)| self.word(n).store(*new, Relaxed));
    }

    fn begin(&self, end: u16, way: Way, now: Now) {
        let number = match way {
            Way::Server(number, address) => {
                self.set_address(address);
                number
            }
            Way::Client(number, address) => {
                self.set_address(address);
                TO_CLIENT | number.unwrap_or(NOBODY)
            }
            Way::Refused(reason) => REFUSED | reason as u32,
            Way::Left => LEFT,
        };
        self.word(BEGUN).store((now.millis & MILLIS) << 32 | u64::from(number), Relaxed);
        self.put(Extents::first(end));
    }

    fn set_address(&self, address: [u64; 2]) {
        address.iter().enumerate().for_each(|(n, new)| self.word(ADDRESS + n).store(*new, Relaxed));
    }

    fn way(&self) -> Way {
        let address = [self.word(ADDRESS).load(Relaxed), self.word(ADDRESS + 1).load(Relaxed)];
        let number = self.word(BEGUN).load(Relaxed) as u32;
        let low = number & NUMBER;
        match number & !NUMBER {
            TO_CLIENT => Way::Client(Some(low).filter(|number| *number != NOBODY), address),
            REFUSED => {
                Way::Refused(*DropReason::ALL.get(low as usize).unwrap_or(&DropReason::FragmentRefused))
            }
            LEFT => Way::Left,
            _ => Way::Server(low, address),
        }
    }

    /// Whether pieces are missing that would have been sent on. One that is whole has no place any more.
    fn lacks_pieces(&self) -> bool {
        matches!(self.way(), Way::Server(..) | Way::Client(..)) && self.extents().is_certain()
    }

    /// In milliseconds. One from a clock that is ahead is new; no clock is far ahead, so what is nearly a whole turn old is just old.
    fn age(&self, now: Now) -> u32 {
        let begun = self.word(BEGUN).load(Relaxed) >> 32;
        let age = (now.millis & MILLIS).wrapping_sub(begun) as u32;
        if age > u32::MAX - AHEAD_MAX { 0 } else { age }
    }

    fn extents(&self) -> Extents {
        Extents::from_words(std::array::from_fn(|n| self.0[1].0[n].load(Relaxed)))
    }

    fn put(&self, extents: Extents) {
        let words = extents.words().into_iter().take(extents.words_used());
        self.0[1].0.iter().zip(words).for_each(|(word, new)| word.store(new, Relaxed));
    }
}

/// Of the clock, as much as is kept.
const MILLIS: u64 = !0 >> 32;
/// Workers' clocks are apart by less, in milliseconds.
const AHEAD_MAX: u32 = 60_000;
/// What a way has of the number of a real server, or of a reason.
const NUMBER: u32 = (1 << 24) - 1;
/// In place of the number of a real server.
const NOBODY: u32 = NUMBER;
const _: () = assert!(ServerId::MAX < NOBODY);
/// Above the number: what way it is, if not to a real server.
const TO_CLIENT: u32 = 1 << 24;
const REFUSED: u32 = 2 << 24;
const LEFT: u32 = 3 << 24;

/// What stands in the first word of a place: never zero.
fn tag(hash: u64) -> u64 {
    (hash | 1 << 63) & !TAKEN
}

#[cfg(test)]
mod tests;
