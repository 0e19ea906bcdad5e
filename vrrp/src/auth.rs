//! Authentication of version 2: a password in the clear, or an IP authentication header with HMAC-MD5-96.
//!
//! RFC 2338 section 5.3.6 with RFC 2402 and RFC 2403. Where keepalived departs from them it is followed, since the two
//! must understand each other: the SPI is the sender's address, the key is the password in eight bytes, TOS, fragment
//! field and header checksum count as zero, and the TTL counts as zero in unicast mode alone. One counter serves an
//! instance for what it sends and what it has seen: a router that takes over goes on where the former master was, so
//! nothing recorded earlier is ever believed again.

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;

use crate::discard::Discard;
use crate::packet::AuthenticationField;

/// Bytes of a password.
pub const PASSWORD_LEN: usize = 8;
/// Bytes of the authentication header: 12 fixed ones and a value of 96 bits.
pub const AH_LEN: usize = 24;
/// The value's place in the header.
const VALUE_AT: usize = 12;
/// Length field of the header, in words of 32 bits less two (RFC 2402 section 2.2).
const AH_WORDS: u8 = 4;
/// IP protocol of what is behind the header.
const VRRP: u8 = 112;
/// The last sequence number that is sent: the counter must not come round (RFC 2402 section 3.3.2).
const SEQUENCE_MAX: u32 = 0xffff_fffd;

/// How the routers of a virtual router know each other. Passwords are padded with zeros.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub enum Authentication {
    /// Not at all.
    #[default]
    None,
    /// Simple text.
    Pass([u8; PASSWORD_LEN]),
    /// IP authentication header.
    Ah([u8; PASSWORD_LEN]),
}

impl std::fmt::Debug for Authentication {
    // A password has no business in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Authentication::None => "None",
            Authentication::Pass(_) => "Pass(..)",
            Authentication::Ah(_) => "Ah(..)",
        })
    }
}

/// A password in its field. What is longer than eight bytes is cut.
pub fn password(text: &str) -> [u8; PASSWORD_LEN] {
    let mut field = [0; PASSWORD_LEN];
    for (to, from) in field.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    field
}

impl Authentication {
    /// What it writes into a message.
    pub fn field(&self) -> AuthenticationField {
        match self {
            Authentication::None => AuthenticationField::default(),
            Authentication::Pass(password) => AuthenticationField { kind: 1, data: *password },
            Authentication::Ah(_) => AuthenticationField { kind: 2, data: [0; PASSWORD_LEN] },
        }
    }

    /// Tells one password from another, and is too short for more than that.
    pub fn tag(&self) -> u16 {
        let (Authentication::Pass(key) | Authentication::Ah(key)) = self else { return 0 };
        let mut hmac = Hmac::<Md5>::new_from_slice(key).expect("HMAC takes keys of any length");
        hmac.update(b"weir sequence file");
        let full = hmac.finalize().into_bytes();
        u16::from_be_bytes([full[0], full[1]])
    }

    /// Judges the field of a received message. The header, if any, is judged by [`Sequence::check`].
    ///
    /// # Errors
    /// [`Discard::AuthenticationType`], [`Discard::AuthenticationData`].
    pub fn check_field(&self, received: AuthenticationField) -> Result<(), Discard> {
        let ours = self.field();
        if received.kind != ours.kind {
            return Err(Discard::AuthenticationType);
        }
        if matches!(self, Authentication::Pass(_)) && received.data != ours.data {
            return Err(Discard::AuthenticationData);
        }
        Ok(())
    }
}

/// The value over an IPv4 header without options, an authentication header and a message.
fn value(
    key: &[u8; PASSWORD_LEN],
    ip: &[u8; 20],
    ah: &[u8; AH_LEN],
    message: &[u8],
    zero_ttl: bool,
) -> Hmac<Md5> {
    let mut ip = *ip;
    ip[1] = 0;
    ip[6..8].fill(0);
    ip[10..12].fill(0);
    if zero_ttl {
        ip[8] = 0;
    }
    let mut ah = *ah;
    ah[VALUE_AT..].fill(0);
    let mut hmac = Hmac::<Md5>::new_from_slice(key).expect("HMAC takes keys of any length");
    hmac.update(&ip);
    hmac.update(&ah);
    hmac.update(message);
    hmac
}

/// The counter against replay of one instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sequence {
    /// The highest number sent or accepted.
    last: u32,
    /// The highest number accepted.
    accepted: u32,
}

impl Sequence {
    /// Of an instance that has come to this number in a former run.
    pub fn after(last: u32) -> Self {
        Self { last, accepted: last }
    }

    /// The highest number sent or accepted.
    pub fn last(self) -> u32 {
        self.last
    }

    /// Takes the number of the next advertisement. All its copies for unicast peers have the same one: with one each, a
    /// master would be ahead of what it sends to the first of them, and refuse an equally busy one there.
    /// False: the numbers are used up, and the password has to change before more can be sent.
    #[must_use]
    pub fn advance(&mut self) -> bool {
        let is_left = self.last < SEQUENCE_MAX;
        self.last += u32::from(is_left);
        is_left
    }

    /// Makes the header of an advertisement with the number that was taken last. `ip` is the header in front of it,
    /// complete but for its checksum.
    pub fn sign(
        &self,
        key: &[u8; PASSWORD_LEN],
        ip: &[u8; 20],
        message: &[u8],
        is_unicast: bool,
    ) -> [u8; AH_LEN] {
        let mut ah = [0; AH_LEN];
        ah[0] = VRRP;
        ah[1] = AH_WORDS;
        ah[4..8].copy_from_slice(&ip[12..16]);
        ah[8..12].copy_from_slice(&self.last.to_be_bytes());
        let full = value(key, ip, &ah, message, is_unicast).finalize().into_bytes();
        ah[VALUE_AT..].copy_from_slice(&full[..AH_LEN - VALUE_AT]);
        ah
    }

    /// Judges a received header, and takes over its number if it is right.
    ///
    /// # Errors
    /// [`Discard::Malformed`], [`Discard::AuthenticationData`], [`Discard::Replay`].
    pub fn check(
        &mut self,
        key: &[u8; PASSWORD_LEN],
        ip: &[u8; 20],
        ah: &[u8; AH_LEN],
        message: &[u8],
        is_unicast: bool,
    ) -> Result<(), Discard> {
        if ah[0] != VRRP || ah[1] != AH_WORDS {
            return Err(Discard::Malformed);
        }
        value(key, ip, ah, message, is_unicast)
            .verify_truncated_left(&ah[VALUE_AT..])
            .map_err(|_| Discard::AuthenticationData)?;
        let number = u32::from_be_bytes([ah[8], ah[9], ah[10], ah[11]]);
        // A number that we sent and never accepted is new from another router. Two masters whose counters agree would
        // otherwise refuse each other for good.
        if ah[4..8] != ip[12..16] || number <= self.accepted || number < self.last {
            return Err(Discard::Replay);
        }
        self.last = number;
        self.accepted = number;
        Ok(())
    }
}
