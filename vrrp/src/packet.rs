//! The VRRP message of versions 2 and 3 (RFC 3768 section 5.1, RFC 9568 section 5.1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::checksum::Sum;
use crate::discard::Discard;
use crate::trailer::TRAILER_LEN;

/// Bytes before the addresses.
const FIXED_LEN: usize = 8;
/// Bytes of authentication data behind the addresses of version 2.
const AUTHENTICATION_LEN: usize = 8;
/// The only type there is.
const ADVERTISEMENT: u8 = 1;

/// Protocol version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// RFC 3768, with the authentication of RFC 2338.
    V2 = 2,
    /// RFC 9568.
    V3 = 3,
}

/// What the checksum of version 3 over IPv4 covers. RFC 5798 could be read both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ChecksumForm {
    /// The message and a pseudo-header, as keepalived sends it.
    #[default]
    PseudoHeader,
    /// The message alone, as RFC 9568 has it.
    MessageOnly,
}

/// The authentication of a version 2 message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct AuthenticationField {
    /// 0 none, 1 simple text, 2 IP authentication header.
    pub kind: u8,
    /// The password of simple text, else zeros.
    pub data: [u8; AUTHENTICATION_LEN],
}

/// An advertisement to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Advertisement<'a> {
    /// Protocol version.
    pub version: Version,
    /// VRID.
    pub virtual_router_id: u8,
    /// 0: stops being master.
    pub priority: u8,
    /// Whole seconds in version 2, hundredths in version 3.
    pub interval: Duration,
    /// All of the family of the packet, 255 at most.
    pub addresses: &'a [IpAddr],
    /// Version 2 only.
    pub authentication: AuthenticationField,
}

impl Advertisement<'_> {
    /// The message as it goes from `source` to `destination`.
    pub fn encode(&self, source: IpAddr, destination: IpAddr, form: ChecksumForm) -> Vec<u8> {
        let mut message = self.without_checksum();
        self.sum_up(&mut message, (source, destination), form, None);
        message
    }

    /// The message, and behind it a trailer that was made for it by [`Advertisement::without_checksum`].
    pub fn encode_with(
        &self,
        (source, destination): (IpAddr, IpAddr),
        form: ChecksumForm,
        trailer: &[u8; TRAILER_LEN],
    ) -> Vec<u8> {
        let mut message = self.without_checksum();
        self.sum_up(&mut message, (source, destination), form, Some(trailer));
        message.extend(trailer);
        message
    }

    /// The checksum of IPv6 covers what is behind the message as well, that of IPv4 does not.
    fn sum_up(
        &self,
        message: &mut [u8],
        (source, destination): (IpAddr, IpAddr),
        form: ChecksumForm,
        trailer: Option<&[u8; TRAILER_LEN]>,
    ) {
        let with_pseudo =
            self.version == Version::V3 && (destination.is_ipv6() || form == ChecksumForm::PseudoHeader);
        let behind = trailer.filter(|_| destination.is_ipv6()).map_or(&[][..], |trailer| &trailer[..]);
        let mut sum = Sum::default().bytes(message).bytes(behind);
        if with_pseudo {
            sum = sum.pseudo_header(source, destination, message.len() + behind.len());
        }
        message[6..8].copy_from_slice(&sum.finish().to_be_bytes());
    }

    /// The message with zeros in place of its checksum.
    pub fn without_checksum(&self) -> Vec<u8> {
        let count = self.addresses.len().min(usize::from(u8::MAX));
        let mut message = Vec::with_capacity(FIXED_LEN + count * 16 + AUTHENTICATION_LEN);
        let kind = (self.version as u8) << 4 | ADVERTISEMENT;
        message.extend([kind, self.virtual_router_id, self.priority, count as u8]);
        match self.version {
            Version::V2 => message.extend([self.authentication.kind, self.interval.as_secs() as u8]),
            Version::V3 => {
                let hundredths = (self.interval.as_millis() / 10).min(0xfff) as u16;
                message.extend(hundredths.to_be_bytes());
            }
        }
        message.extend([0; 2]);
        for address in &self.addresses[..count] {
            match address {
                IpAddr::V4(address) => message.extend(address.octets()),
                IpAddr::V6(address) => message.extend(address.octets()),
            }
        }
        if self.version == Version::V2 {
            message.extend(self.authentication.data);
        }
        message
    }
}

/// A received message: what its bytes say, not judged yet.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    bytes: &'a [u8],
    is_ipv6: bool,
}

impl<'a> Received<'a> {
    /// The message of a packet of this family.
    ///
    /// # Errors
    /// It is shorter than what every message has.
    pub fn new(bytes: &'a [u8], is_ipv6: bool) -> Result<Self, Discard> {
        if bytes.len() < FIXED_LEN {
            return Err(Discard::Malformed);
        }
        Ok(Self { bytes, is_ipv6 })
    }

    /// All of it.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Version, whatever it is.
    pub fn version(&self) -> u8 {
        self.bytes[0] >> 4
    }

    /// Whether the type is that of an advertisement.
    pub fn is_advertisement(&self) -> bool {
        self.bytes[0] & 0xf == ADVERTISEMENT
    }

    /// VRID.
    pub fn virtual_router_id(&self) -> u8 {
        self.bytes[1]
    }

    /// 0: its sender stops being master.
    pub fn priority(&self) -> u8 {
        self.bytes[2]
    }

    /// The interval at which its sender advertises, by a version it is taken to have.
    pub fn interval(&self, version: Version) -> Duration {
        match version {
            Version::V2 => Duration::from_secs(self.bytes[5].into()),
            Version::V3 => {
                let hundredths = u16::from_be_bytes([self.bytes[4], self.bytes[5]]) & 0xfff;
                Duration::from_millis(u64::from(hundredths) * 10)
            }
        }
    }

    /// The message and the trailer behind it, if its length says that there is one.
    pub fn split(&self, version: Version) -> (Self, Option<&'a [u8; TRAILER_LEN]>) {
        let cut = self.bytes.split_last_chunk().map(|(bytes, trailer)| (Self { bytes, ..*self }, trailer));
        match cut {
            Some((message, trailer))
                if message.bytes.len() >= FIXED_LEN && message.has_right_length(version) =>
            {
                (message, Some(trailer))
            }
            _ => (*self, None),
        }
    }

    /// Whether it has the length that its version and number of addresses ask for.
    pub fn has_right_length(&self, version: Version) -> bool {
        let behind = if version == Version::V2 { AUTHENTICATION_LEN } else { 0 };
        self.bytes.len() == self.addresses_end() + behind
    }

    fn addresses_end(&self) -> usize {
        FIXED_LEN + usize::from(self.bytes[3]) * self.address_len()
    }

    fn address_len(&self) -> usize {
        if self.is_ipv6 { 16 } else { 4 }
    }

    /// The addresses it lists, as far as it has them.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<'a> {
        let end = self.addresses_end().min(self.bytes.len());
        let of = |octets: &[u8]| match <[u8; 16]>::try_from(octets) {
            Ok(octets) => Some(IpAddr::V6(Ipv6Addr::from(octets))),
            Err(_) => <[u8; 4]>::try_from(octets).ok().map(|octets| IpAddr::V4(Ipv4Addr::from(octets))),
        };
        self.bytes[FIXED_LEN..end].chunks_exact(self.address_len()).filter_map(of)
    }

    /// Type and data of a version 2 message of the right length.
    pub fn authentication(&self) -> AuthenticationField {
        let data = self.bytes.last_chunk().copied().unwrap_or_default();
        AuthenticationField { kind: self.bytes[4], data }
    }

    /// Whether the checksum is right; version 3 over IPv4 has two right ones.
    pub fn has_right_checksum(&self, version: Version, source: IpAddr, destination: IpAddr) -> bool {
        let sum = Sum::default().bytes(self.bytes);
        let with_pseudo = || sum.pseudo_header(source, destination, self.bytes.len()).finish() == 0;
        match (version, self.is_ipv6) {
            (Version::V2, _) => sum.finish() == 0,
            (Version::V3, false) => sum.finish() == 0 || with_pseudo(),
            (Version::V3, true) => with_pseudo(),
        }
    }
}
