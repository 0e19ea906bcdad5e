//! Rare facts of connections, beside the tables: control connections of FTP, and the data connections that they have announced.
//!
//! Shared by all workers, since the packets of a control connection's two ends, and those of its data connections, may come to several.
//! A record says by its protocol code that it may have facts here ([`super::record::Key::is_helped`]), and no short way takes such a
//! record. So whoever has no such virtual server never comes here.
//!
//! Each bucket has a lock that is only tried, a bounded number of times, and held for a few dozen instructions: nobody waits for it.
//! Everything is bounded, and takes its memory at start. What stands here has a time of its own, so what is not taken away does no
//! more than take up room for a while.

mod stream;

use std::hint::spin_loop;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, TryLockError};

use arrayvec::ArrayVec;

pub use self::stream::{Stream, is_reached};
use super::record::ServerId;
use crate::address::Addr4;

/// Places of a bucket.
const WAYS: usize = 8;
/// How often a lock is tried. It is held for less time than a few of these take, unless who holds it has lost its processor.
const TRIES: usize = 2_000;
/// A control connection that was not heard for so long gives its place to another one. Its record is usually gone long before, and
/// its place with it.
const CONTROL_IDLE_SECS: u32 = 3_600;
/// One whose numbers are not shifted loses little with its place, so it need not have been silent for as long: only for longer than a
/// command and its reply usually take. One that nothing was announced or asked for on has nothing to lose but where its server's lines
/// begin, which its next reply tells as well: it need not have been silent at all.
const SPARE_SECS: u32 = 10;
/// What is known of a client's port that was silent for so long is not of the connection that begins there now.
const SILENT_SECS: u32 = 60;
/// Data connections that one control connection may have announced at a time: the oldest makes room for another one.
pub const ANNOUNCED_MAX: usize = 4;
/// How long a data connection is expected, in seconds.
pub const EXPECTED_SECS: u32 = 60;
/// Replies that a client may have asked for before the first of them comes.
const ASKED_MAX: u8 = 8;

/// A client and the virtual server that it talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The client.
    pub client: Ipv6Addr,
    /// Its port.
    pub client_port: u16,
    /// What stands for the address that it talks to.
    pub vip: Addr4,
    /// At which port.
    pub port: u16,
}

/// An address as they stand here: one of IPv4 mapped into IPv6.
pub fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// A control connection.
#[derive(Debug, Clone)]
pub struct Control {
    ends: Ends,
    seen: u32,
    /// The client's sequence number behind all that was heard.
    heard: Option<u32>,
    /// The server's sequence number behind all that was read, once there is any.
    next: Option<u32>,
    /// Whether that lies in the middle of a line, or may.
    is_mid_line: bool,
    /// Replies that the client has asked for: only those are read.
    asked: u8,
    /// Of the server's bytes.
    pub stream: Stream,
    announced: ArrayVec<Announced, ANNOUNCED_MAX>,
}

impl Control {
    /// How long it must have been silent before another may have its place, in seconds. `None`: not at all.
    fn held_for(&self) -> Option<u32> {
        let is_used = self.asked > 0 || !self.announced.is_empty();
        match self.stream.is_shifted() {
            true => Some(CONTROL_IDLE_SECS),
            false => is_used.then_some(SPARE_SECS),
        }
    }

    fn new(ends: Ends, now: u32) -> Self {
        Self {
            ends,
            seen: now,
            heard: None,
            next: None,
            is_mid_line: true,
            asked: 0,
            stream: Stream::default(),
            announced: ArrayVec::new(),
        }
    }

    /// Where in a client's segment with this number, of this length, begins what was not heard yet; and that it is heard now.
    pub fn hear_on(&mut self, sequence: u32, len: usize) -> usize {
        let end = sequence.wrapping_add(len as u32);
        let heard = self.heard.unwrap_or(sequence);
        if !is_reached(heard, end) {
            self.heard = Some(end);
        }
        if is_reached(heard, sequence) { heard.wrapping_sub(sequence) as usize } else { 0 }
    }

    /// The client has asked where to connect to.
    pub fn ask(&mut self) {
        self.asked = (self.asked + 1).min(ASKED_MAX);
    }

    /// Whether a reply to that is due; takes it.
    pub fn take_asked(&mut self) -> bool {
        let is_asked = self.asked > 0;
        self.asked = self.asked.saturating_sub(1);
        is_asked
    }

    /// Where in a server's segment with this number and these bytes the lines begin that were not read yet, if it is known; and that
    /// they are read now.
    ///
    /// A segment behind a gap, or that begins in the middle of a line, is read from its next line on: what looks like a reply there
    /// may be the rest of another one, which a client can have the server say.
    pub fn read_on(&mut self, sequence: u32, bytes: &[u8]) -> Option<usize> {
        let end = sequence.wrapping_add(bytes.len() as u32);
        let next = self.next.unwrap_or(sequence);
        if is_reached(next, end) {
            return None;
        }
        let old = if is_reached(next, sequence) { next.wrapping_sub(sequence) as usize } else { 0 };
        let is_at_begin = !self.is_mid_line && is_reached(next, sequence);
        let fresh = bytes.get(old..)?;
        self.next = Some(end);
        let line_feed = fresh.iter().position(|&byte| byte == b'\n');
        if line_feed.is_some() || is_at_begin {
            self.is_mid_line = fresh.last() != Some(&b'\n');
        } else {
            self.is_mid_line = true;
        }
        if is_at_begin { Some(old) } else { Some(old + line_feed? + 1) }
    }

    /// Notes a data connection that it has announced. Returns the one that makes room for it.
    pub fn announce(&mut self, new: Announced) -> Option<Announced> {
        if self.announced.contains(&new) {
            return None;
        }
        let oldest = if self.announced.is_full() { Some(self.announced.remove(0)) } else { None };
        self.announced.push(new);
        oldest
    }
}

/// What a data connection is known by before it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    /// The client connects.
    Passive {
        /// The client.
        client: Ipv6Addr,
        /// What stands for the address that it connects to.
        vip: Addr4,
        /// At which port.
        port: u16,
    },
    /// The server connects.
    Active {
        /// The client.
        client: Ipv6Addr,
        /// The port that it listens at.
        client_port: u16,
        /// The server.
        server: Ipv6Addr,
    },
}

/// A data connection that is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// What it is known by.
    pub announced: Announced,
    /// The real server.
    pub server: ServerId,
    /// Its address: the number may be another one's by then.
    pub address: Ipv6Addr,
    /// What stands for the address that the client talks to.
    pub vip: Addr4,
    until: u32,
}

impl Expected {
    /// One that is expected from `now` on.
    pub fn new(announced: Announced, (server, address): (ServerId, Ipv6Addr), vip: Addr4, now: u32) -> Self {
        Self { announced, server, address, vip, until: now.saturating_add(EXPECTED_SECS) }
    }
}

/// Why nothing is expected, or not found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Another real server has announced the same.
    Taken,
    /// There is no room.
    Full,
    /// Another worker was at it for too long.
    Busy,
}

type Bucket<T> = Mutex<ArrayVec<T, WAYS>>;

/// See the module.
pub struct Extras {
    controls: Box<[Bucket<Control>]>,
    passive: Box<[Bucket<Expected>]>,
    active: Box<[Bucket<Expected>]>,
    random: [u64; 2],
}

impl Extras {
    /// With room for about so many control connections, and half as many data connections of either kind that are expected. `random` keys
    /// the hash.
    pub fn new(controls: usize, [first, second]: [u64; 2]) -> Self {
        let count = |entries: usize| entries.div_ceil(WAYS).next_power_of_two();
        Self {
            controls: (0..count(controls)).map(|_| Bucket::default()).collect(),
            passive: (0..count(controls / 2)).map(|_| Bucket::default()).collect(),
            active: (0..count(controls / 2)).map(|_| Bucket::default()).collect(),
            random: [first, second | 1],
        }
    }

    /// Does something with a control connection, which is made if `make` says so. `Ok(None)`: it is not there, and not made or without
    /// room.
    ///
    /// # Errors
    /// Another worker was at it for too long.
    pub fn with<R>(
        &self,
        ends: Ends,
        (make, now): (bool, u32),
        act: impl FnOnce(&mut Control) -> R,
    ) -> Result<Option<R>, Refused> {
        let mut bucket = self.lock(&self.controls, self.hash_of(ends))?;
        if let Some(control) = bucket.iter_mut().find(|control| control.ends == ends) {
            control.seen = now;
            return Ok(Some(act(control)));
        }
        if !make {
            return Ok(None);
        }
        if bucket.is_full() {
            let may_go = |control: &Control| {
                control.held_for().is_none_or(|most| now.saturating_sub(control.seen) > most)
            };
            let spare = bucket.iter().enumerate().filter(|(_, control)| may_go(control));
            let first = spare.min_by_key(|(_, control)| (control.held_for(), control.seen));
            let Some((at, _)) = first else { return Ok(None) };
            bucket.swap_remove(at);
        }
        bucket.push(Control::new(ends, now));
        Ok(bucket.last_mut().map(act))
    }

    /// A control connection may begin anew.
    pub fn forget_silent(&self, ends: Ends, now: u32) {
        if let Ok(mut bucket) = self.lock(&self.controls, self.hash_of(ends)) {
            let is_silent = |control: &Control| now.saturating_sub(control.seen) > SILENT_SECS;
            bucket.retain(|control| control.ends != ends || !is_silent(control));
        }
    }

    /// A control connection is over.
    pub fn forget(&self, ends: Ends) {
        if let Ok(mut bucket) = self.lock(&self.controls, self.hash_of(ends)) {
            bucket.retain(|control| control.ends != ends);
        }
    }

    /// A data connection is expected.
    ///
    /// # Errors
    /// It is not.
    pub fn expect(&self, new: Expected, now: u32) -> Result<(), Refused> {
        let (buckets, hash) = self.place_of(new.announced);
        let mut bucket = self.lock(buckets, hash)?;
        bucket.retain(|known| now <= known.until);
        if let Some(known) = bucket.iter_mut().find(|known| known.announced == new.announced) {
            if (known.server, known.vip) != (new.server, new.vip) {
                return Err(Refused::Taken);
            }
            known.until = new.until;
            return Ok(());
        }
        bucket.try_push(new).map_err(|_| Refused::Full)
    }

    /// The data connection that was announced so, if it is expected.
    pub fn expected(&self, announced: Announced, now: u32) -> Option<Expected> {
        let (buckets, hash) = self.place_of(announced);
        let bucket = self.lock(buckets, hash).ok()?;
        bucket.iter().find(|known| known.announced == announced && now <= known.until).copied()
    }

    /// A data connection is expected no more.
    pub fn withdraw(&self, announced: Announced) {
        let (buckets, hash) = self.place_of(announced);
        if let Ok(mut bucket) = self.lock(buckets, hash) {
            bucket.retain(|known| known.announced != announced);
        }
    }

    fn lock<'a, T>(
        &self,
        buckets: &'a [Bucket<T>],
        hash: u64,
    ) -> Result<MutexGuard<'a, ArrayVec<T, WAYS>>, Refused> {
        let bucket = buckets.get(hash as usize & (buckets.len() - 1)).ok_or(Refused::Busy)?;
        for _ in 0..TRIES {
            match bucket.try_lock() {
                Ok(guard) => return Ok(guard),
                // Whatever its worker panicked at, each entry is whole.
                Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => spin_loop(),
            }
        }
        Err(Refused::Busy)
    }

    fn place_of(&self, announced: Announced) -> (&[Bucket<Expected>], u64) {
        match announced {
            Announced::Passive { client, vip, port } => (
                &self.passive,
                self.hash([client.to_bits(), u128::from(vip.bits()) << 16 | u128::from(port)]),
            ),
            Announced::Active { client, client_port, server } => {
                let port = u128::from(client_port) << 64;
                (&self.active, self.hash([client.to_bits() ^ port, server.to_bits()]))
            }
        }
    }

    fn hash_of(&self, ends: Ends) -> u64 {
        let ports = u128::from(ends.client_port) << 16 | u128::from(ends.port);
        self.hash([ends.client.to_bits(), u128::from(ends.vip.bits()) << 32 | ports])
    }

    fn hash(&self, words: [u128; 2]) -> u64 {
        let [first, second] = self.random;
        let mix = |hash: u64, word: u64| {
            let product = u128::from(hash ^ word) * u128::from(second);
            (product as u64 ^ (product >> 64) as u64).rotate_left(23)
        };
        words.into_iter().flat_map(|word| [(word >> 64) as u64, word as u64]).fold(first, mix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: Addr4 = Addr4::new(10, 0, 0, 100);

    fn extras() -> Extras {
        Extras::new(64, [3, 0x9e37_79b9_7f4a_7c15])
    }

    fn ends(client_port: u16) -> Ends {
        Ends { client: Ipv6Addr::LOCALHOST, client_port, vip: VIP, port: 21 }
    }

    fn passive(port: u16) -> Announced {
        Announced::Passive { client: Ipv6Addr::LOCALHOST, vip: VIP, port }
    }

    fn expected(port: u16, server: u32) -> Expected {
        Expected::new(passive(port), (ServerId(server), Ipv6Addr::LOCALHOST), VIP, 10)
    }

    #[test]
    fn a_control_connection_is_made_where_it_may_be_and_gone_when_it_is_over() {
        let extras = extras();
        assert_eq!(extras.with(ends(1), (false, 10), |_| ()), Ok(None));
        assert_eq!(extras.with(ends(1), (true, 10), Control::ask), Ok(Some(())));
        let take = |at| extras.with(ends(1), (false, at), Control::take_asked);
        assert_eq!([take(11), take(12)], [Ok(Some(true)), Ok(Some(false))]);
        extras.forget(ends(1));
        assert_eq!(take(13), Ok(None));
    }

    #[test]
    fn there_is_no_more_room_than_there_was_and_who_is_idle_makes_some() {
        let extras = extras();
        let room = |first: u16, now| {
            let ports = first..first + 1_000;
            ports.filter(|&port| extras.with(ends(port), (true, now), Control::ask) == Ok(Some(()))).count()
        };
        let made = room(0, 10);
        assert!((40..=64).contains(&made), "{made}");
        assert_eq!(room(0, 10 + SPARE_SECS), made, "those that are there are found again");
        assert_eq!(room(1_000, 10 + 2 * SPARE_SECS), 0, "nobody is silent for long enough");
        assert_eq!(room(1_000, 11 + 2 * SPARE_SECS), made, "who says nothing makes room");
        let expect =
            |now| (1_000..2_000).filter(|&port| extras.expect(expected(port, 1), now) == Ok(())).count();
        let made = expect(10);
        assert!((16..=32).contains(&made), "{made}");
        assert_eq!(extras.expect(expected(999, 1), 10 + EXPECTED_SECS), Err(Refused::Full));
        assert_eq!(extras.expect(expected(999, 1), 11 + EXPECTED_SECS), Ok(()));
    }

    #[test]
    fn who_has_asked_for_nothing_gives_its_place_to_any_and_takes_nobodys_who_has() {
        let extras = extras();
        let hold = |port, asks| {
            let act = |control: &mut Control| (0..asks).for_each(|_| control.ask());
            extras.with(ends(port), (true, 10), act) == Ok(Some(()))
        };
        // A flood of those that only say hello, and whoever comes then.
        assert!((0..8_000).all(|port| hold(port, 0)));
        let askers: Vec<u16> = (10_000..10_016).filter(|&port| hold(port, 1)).collect();
        assert!(askers.len() >= 15, "{askers:?}");
        (20_000..28_000).for_each(|port| _ = hold(port, 0));
        for port in askers {
            assert_eq!(extras.with(ends(port), (false, 10), Control::take_asked), Ok(Some(true)), "{port}");
        }
    }

    #[test]
    fn what_one_server_has_announced_is_no_others_until_its_time_is_over() {
        let extras = extras();
        assert_eq!(extras.expect(expected(50_000, 1), 10), Ok(()));
        assert_eq!(extras.expect(expected(50_000, 2), 10), Err(Refused::Taken));
        assert_eq!(extras.expected(passive(50_000), 10).map(|found| found.server), Some(ServerId(1)));
        assert_eq!(extras.expected(passive(50_001), 10), None);
        assert_eq!(extras.expected(passive(50_000), 11 + EXPECTED_SECS), None);
        assert_eq!(extras.expect(expected(50_000, 2), 11 + EXPECTED_SECS), Ok(()));
        extras.withdraw(passive(50_000));
        assert_eq!(extras.expected(passive(50_000), 10), None);
    }

    #[test]
    fn the_oldest_that_a_control_connection_has_announced_makes_room() {
        let mut control = Control::new(ends(1), 0);
        let made = (0..6).map(|port| control.announce(passive(port)));
        let made: Vec<_> = made.collect();
        assert_eq!(made, [None, None, None, None, Some(passive(0)), Some(passive(1))]);
        assert_eq!(control.announce(passive(5)), None, "it was announced again");
    }

    #[test]
    fn lines_are_read_once_and_only_from_where_they_are_known_to_begin() {
        let mut control = Control::new(ends(1), 0);
        // Where the first line began nobody has seen.
        assert_eq!(control.read_on(100, b"227 a\r\n"), Some(7));
        assert_eq!(control.read_on(107, b"227 b\r\n"), Some(0));
        assert_eq!(control.read_on(107, b"227 b\r\n"), None, "sent again");
        assert_eq!(control.read_on(107, b"227 b\r\n227 c\r\n"), Some(7), "and more");
        assert_eq!(control.read_on(121, b"550 "), Some(0));
        assert_eq!(control.read_on(125, b"227 d\r\n227 e\r\n"), Some(7), "the rest of a line");
        assert_eq!(control.read_on(200, b"227 f\r\n227 g\r\n"), Some(7), "behind a gap");
        assert_eq!(control.read_on(214, b"227 h"), Some(0));
        assert_eq!(control.read_on(219, b"227 i"), None, "still the same line");
        assert_eq!(control.read_on(224, b"\r\n"), Some(2));
        assert_eq!(control.read_on(226, b"227 j\r\n"), Some(0));
    }

    #[test]
    fn a_lock_that_is_held_is_given_up_and_one_of_a_worker_that_panicked_is_taken() {
        let extras = extras();
        let held = extras.lock(&extras.controls, extras.hash_of(ends(1))).expect("free");
        assert_eq!(extras.with(ends(1), (true, 1), |_| ()), Err(Refused::Busy));
        drop(held);
        std::thread::scope(|scope| {
            let panics = scope.spawn(|| extras.with::<()>(ends(1), (true, 1), |_| panic!("on purpose")));
            assert!(panics.join().is_err());
        });
        assert_eq!(extras.with(ends(1), (true, 1), |_| ()), Ok(Some(())));
    }
}
