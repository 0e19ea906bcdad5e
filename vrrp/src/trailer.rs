//! The trailer of keepalived 2.4's `auth_hmac`: a keyed value and a number made of the time behind an advertisement.
//!
//! ```text
//!  type 1 | key | 0 0 | seconds (4) | fraction (2) | counter (2) | HMAC-SHA256, its first 16 bytes
//! ```
//! All 28 bytes in the order of the network. The value covers a pseudo-header (family, version, VRID, source), the message with zeros in
//! place of its checksum, and the trailer with zeros in place of the value; not the destination, so that all copies for unicast peers
//! have the same one. The checksum of IPv6 covers the trailer, that of IPv4 does not. `draft-cassen-vrrp-auth-hmac` describes it.
//!
//! Invariants: nothing that is not verified moves a mark; a mark only moves ahead, but for one whose time is far from ours.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::discard::Discard;

/// Bytes of it.
pub const TRAILER_LEN: usize = 28;
/// HMAC-SHA256 of 128 bits, the only type there is.
const KIND: u8 = 1;
/// The value's place.
const VALUE_AT: usize = 12;
/// The checksum's place in the message.
const CHECKSUM_AT: usize = 6;
/// Senders whose last number is known. As many masters at a time are one too many already.
const SENDERS_MAX: usize = 16;

/// What is done without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// None is sent; what comes without one is believed.
    ReceiveOnly,
    /// It is sent; what comes without one is believed.
    Permissive,
    /// It is sent; what comes without one is refused.
    Enforce,
}

impl Mode {
    /// Its name in the file, which is keepalived's.
    pub fn name(self) -> &'static str {
        match self {
            Mode::ReceiveOnly => "receive-only",
            Mode::Permissive => "permissive",
            Mode::Enforce => "enforce",
        }
    }
}

/// A key that the routers of a virtual router share.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// By which the trailer names it.
    pub id: u8,
    /// 32 to 64 bytes.
    pub secret: Vec<u8>,
}

impl fmt::Debug for Key {
    // A secret has no business in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, ..)", self.id)
    }
}

/// What an instance is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trailers {
    /// What is done without it.
    pub mode: Mode,
    /// Any of these is believed.
    pub keys: Vec<Key>,
    /// The one that is sent.
    pub active: u8,
    /// How far a sender's clock may be from ours; `None`: clocks are not compared, numbers only have to grow.
    pub window: Option<Duration>,
}

/// What the value covers besides message and trailer.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    /// Protocol version.
    pub version: u8,
    /// VRID.
    pub virtual_router_id: u8,
    /// Who sends it.
    pub source: IpAddr,
}

impl Origin {
    fn pseudo_header(&self) -> [u8; 20] {
        let mut header = [0; 20];
        header[1] = self.version;
        header[2] = self.virtual_router_id;
        match self.source {
            IpAddr::V4(source) => {
                header[0] = 4;
                header[4..8].copy_from_slice(&source.octets());
            }
            IpAddr::V6(source) => {
                header[0] = 6;
                header[4..].copy_from_slice(&source.octets());
            }
        }
        header
    }
}

impl Trailers {
    fn value(&self, id: u8, origin: &Origin, message: &[u8], fixed: &[u8]) -> Option<Hmac<Sha256>> {
        let key = self.keys.iter().find(|key| key.id == id)?;
        let mut hmac = Hmac::<Sha256>::new_from_slice(&key.secret).ok()?;
        hmac.update(&origin.pseudo_header());
        hmac.update(&message[..CHECKSUM_AT]);
        hmac.update(&[0; 2]);
        hmac.update(&message[CHECKSUM_AT + 2..]);
        hmac.update(fixed);
        hmac.update(&[0; TRAILER_LEN - VALUE_AT]);
        Some(hmac)
    }
}

/// The numbers of one instance: those it sends, and those it has seen of each sender.
#[derive(Debug, Clone, Default)]
pub struct Numbers {
    sent: u64,
    /// The oldest first.
    seen: Vec<(IpAddr, u64)>,
}

impl Numbers {
    /// The trailer of an advertisement that is sent `wall` after 1970; `None`: none is sent. All its copies have the same.
    pub fn sign(
        &mut self,
        trailers: &Trailers,
        origin: &Origin,
        message: &[u8],
        wall: Duration,
    ) -> Option<[u8; TRAILER_LEN]> {
        if trailers.mode == Mode::ReceiveOnly || message.len() < CHECKSUM_AT + 2 {
            return None;
        }
        let mut trailer = [0; TRAILER_LEN];
        trailer[..2].copy_from_slice(&[KIND, trailers.active]);
        trailer[4..VALUE_AT].copy_from_slice(&self.next(trailers.window, wall).to_be_bytes());
        let value = trailers.value(trailers.active, origin, message, &trailer[..VALUE_AT])?;
        trailer[VALUE_AT..].copy_from_slice(&value.finalize().into_bytes()[..TRAILER_LEN - VALUE_AT]);
        Some(trailer)
    }

    /// The time, or one more than the last number. What a clock that was ahead has left behind is given up once nobody would
    /// believe it.
    fn next(&mut self, window: Option<Duration>, wall: Duration) -> u64 {
        let now = number_of(wall);
        let is_stranded = || window.is_some_and(|window| distance(self.sent, wall) > window);
        self.sent = if is_after(now, self.sent) || is_stranded() { now } else { self.sent.wrapping_add(1) };
        self.sent
    }

    /// Judges a received trailer, and takes over its number if it is right.
    ///
    /// # Errors
    /// [`Discard::TrailerMalformed`], [`Discard::TrailerStale`], [`Discard::TrailerKey`], [`Discard::TrailerValue`],
    /// [`Discard::TrailerReplay`].
    pub fn check(
        &mut self,
        trailers: &Trailers,
        origin: &Origin,
        message: &[u8],
        trailer: &[u8; TRAILER_LEN],
        wall: Duration,
    ) -> Result<(), Discard> {
        if trailer[0] != KIND || trailer[2..4] != [0; 2] || message.len() < CHECKSUM_AT + 2 {
            return Err(Discard::TrailerMalformed);
        }
        let number = u64::from_be_bytes(*trailer[4..].first_chunk().ok_or(Discard::TrailerMalformed)?);
        let is_stale = |number| trailers.window.is_some_and(|window| distance(number, wall) > window);
        if is_stale(number) {
            return Err(Discard::TrailerStale);
        }
        let value = trailers.value(trailer[1], origin, message, &trailer[..VALUE_AT]);
        value
            .ok_or(Discard::TrailerKey)?
            .verify_truncated_left(&trailer[VALUE_AT..])
            .map_err(|_| Discard::TrailerValue)?;
        let place = self.seen.iter().position(|(sender, _)| *sender == origin.source);
        let before = place.map(|place| self.seen[place].1);
        // A mark that is far away orders what is refused anyway: its sender's clock was set.
        if before.is_some_and(|before| !is_after(number, before) && !is_stale(before)) {
            return Err(Discard::TrailerReplay);
        }
        match place {
            Some(place) => drop(self.seen.remove(place)),
            None if self.seen.len() >= SENDERS_MAX => drop(self.seen.remove(0)),
            None => {}
        }
        self.seen.push((origin.source, number));
        Ok(())
    }
}

/// Seconds, and their fraction in 16 bits, with a counter of 0.
fn number_of(wall: Duration) -> u64 {
    let fraction = (u64::from(wall.subsec_nanos()) << 16) / 1_000_000_000;
    (wall.as_secs() & 0xffff_ffff) << 32 | fraction << 16
}

/// Whether a number comes behind another one: the field comes round (RFC 1982).
fn is_after(one: u64, other: u64) -> bool {
    (one.wrapping_sub(other) as i64) > 0
}

/// How far a number's seconds are from this time.
fn distance(number: u64, wall: Duration) -> Duration {
    let seconds = ((number >> 32) as u32).wrapping_sub(wall.as_secs() as u32) as i32;
    Duration::from_secs(seconds.unsigned_abs().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u8; 32] = [7; 32];

    fn trailers(window: Option<u64>) -> Trailers {
        let keys = vec![Key { id: 1, secret: SECRET.into() }, Key { id: 9, secret: vec![9; 64] }];
        Trailers { mode: Mode::Enforce, keys, active: 1, window: window.map(Duration::from_secs) }
    }

    fn origin(host: u8) -> Origin {
        Origin { version: 3, virtual_router_id: 51, source: IpAddr::from([10, 0, 0, host]) }
    }

    const MESSAGE: [u8; 12] = [0x31, 51, 100, 1, 0, 100, 0x12, 0x34, 10, 0, 0, 100];
    const NOW: Duration = Duration::from_secs(1_800_000_000);

    #[test]
    fn what_was_heard_is_not_believed_again() {
        let trailers = trailers(Some(5));
        let (mut sender, mut hearer) = (Numbers::default(), Numbers::default());
        let mut send = |wall| sender.sign(&trailers, &origin(1), &MESSAGE, wall).unwrap();
        // The clock stands still, and goes on.
        let sent = [send(NOW), send(NOW), send(NOW + Duration::from_secs(1))];
        let mut hear = |host, trailer: &[u8; TRAILER_LEN], wall| {
            hearer.check(&trailers, &origin(host), &MESSAGE, trailer, wall)
        };
        assert!(sent.iter().all(|trailer| hear(1, trailer, NOW).is_ok()));
        assert!(sent.iter().all(|trailer| hear(1, trailer, NOW) == Err(Discard::TrailerReplay)));
        // In another's name the value is not right.
        assert_eq!(hear(2, &sent[2], NOW), Err(Discard::TrailerValue));
        for far in [NOW + Duration::from_secs(7), NOW - Duration::from_secs(5)] {
            assert_eq!(hear(1, &sent[2], far), Err(Discard::TrailerStale));
        }
    }

    #[test]
    fn every_byte_counts_but_the_checksum() {
        let trailers = trailers(Some(5));
        let made = Numbers::default().sign(&trailers, &origin(1), &MESSAGE, NOW).unwrap();
        let check = |message: &[u8], trailer: &[u8; TRAILER_LEN]| {
            Numbers::default().check(&trailers, &origin(1), message, trailer, NOW)
        };
        for at in 0..MESSAGE.len() {
            let mut message = MESSAGE;
            message[at] ^= 1;
            let wanted = if (6..8).contains(&at) { Ok(()) } else { Err(Discard::TrailerValue) };
            assert_eq!(check(&message, &made), wanted, "{at}");
        }
        for at in 0..TRAILER_LEN {
            let mut trailer = made;
            trailer[at] ^= 0x80;
            let wanted = match at {
                0 | 2 | 3 => Discard::TrailerMalformed,
                1 => Discard::TrailerKey,
                4..=7 => Discard::TrailerStale,
                _ => Discard::TrailerValue,
            };
            assert_eq!(check(&MESSAGE, &trailer), Err(wanted), "{at}");
        }
        assert_eq!(check(&MESSAGE[..5], &made), Err(Discard::TrailerMalformed));
    }

    #[test]
    fn a_clock_that_was_ahead_is_forgotten_with_a_window_alone() {
        let later = NOW + Duration::from_secs(3600);
        for (window, is_forgotten) in [(Some(5), true), (None, false)] {
            let trailers = trailers(window);
            let (mut sender, mut hearer) = (Numbers::default(), Numbers::default());
            let ahead = sender.sign(&trailers, &origin(1), &MESSAGE, later).unwrap();
            assert_eq!(hearer.check(&trailers, &origin(1), &MESSAGE, &ahead, later), Ok(()));
            let back = sender.sign(&trailers, &origin(1), &MESSAGE, NOW).unwrap();
            assert_eq!(u32::from_be_bytes(back[4..8].try_into().unwrap()) == 1_800_000_000, is_forgotten);
            assert_eq!(hearer.check(&trailers, &origin(1), &MESSAGE, &back, NOW), Ok(()), "{window:?}");
        }
    }

    #[test]
    fn many_senders_push_out_the_oldest_alone() {
        let trailers = trailers(None);
        let mut hearer = Numbers::default();
        let sent: Vec<_> = (1..=SENDERS_MAX as u8 + 1)
            .map(|host| Numbers::default().sign(&trailers, &origin(host), &MESSAGE, NOW).unwrap())
            .collect();
        let mut hear =
            |host: usize| hearer.check(&trailers, &origin(host as u8), &MESSAGE, &sent[host - 1], NOW);
        assert!((1..=sent.len()).all(|host| hear(host).is_ok()));
        assert!((2..=sent.len()).all(|host| hear(host) == Err(Discard::TrailerReplay)));
        assert_eq!(hear(1), Ok(()));
    }

    #[test]
    fn numbers_come_round() {
        let mut numbers = Numbers { sent: u64::MAX, seen: Vec::new() };
        assert_eq!(numbers.next(None, Duration::from_secs(0)), 0);
        assert!(is_after(0, u64::MAX) && !is_after(u64::MAX, 0) && !is_after(5, 5));
        let ahead = Duration::from_secs(u64::from(u32::MAX));
        assert_eq!(distance(2 << 32, ahead), Duration::from_secs(3));
    }
}
