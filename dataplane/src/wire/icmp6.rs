//! ICMPv6 (RFC 4443), and neighbour discovery of it (RFC 4861 section 4).

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::checksum::Sum;
use super::ethernet::MacAddress;
use super::ipv6::Ipv6;

/// IP protocol number.
pub const ICMPV6: u8 = 58;
/// Types (RFC 4443 section 4, RFC 4861 section 4).
pub mod kind {
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 1;
    /// Packet too big.
    pub const TOO_BIG: u8 = 2;
    /// The hop limit ran out.
    pub const TIME_EXCEEDED: u8 = 3;
    /// A header that is not known, or not right.
    pub const PARAMETER_PROBLEM: u8 = 4;
    /// Echo request. Errors have lower types.
    pub const ECHO_REQUEST: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// Neighbour solicitation: who has the target?
    pub const SOLICITATION: u8 = 135;
    /// Neighbour advertisement: the target is at the MAC of an option.
    pub const ADVERTISEMENT: u8 = 136;
}

/// Flags of an advertisement.
pub mod flags {
    /// The sender is a router.
    pub const ROUTER: u32 = 1 << 31;
    /// It answers a solicitation.
    pub const SOLICITED: u32 = 1 << 30;
    /// It replaces what the receiver knew.
    pub const OVERRIDE: u32 = 1 << 29;
}

/// The option with the MAC of the packet's source.
pub const SOURCE_LINK: u8 = 1;
/// The option with the MAC of the target.
pub const TARGET_LINK: u8 = 2;

/// The beginning of every message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Icmp6 {
    /// See [`kind`].
    pub kind: u8,
    /// Says more about the type.
    pub code: u8,
    /// Over a pseudo-header as well: see [`checksum`].
    pub checksum: U16,
    /// Depends on the type.
    pub rest: U32,
}
const _: () = assert!(size_of::<Icmp6>() == 8);

/// A solicitation or advertisement, without its options.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Discovery {
    /// Type and checksum; `rest` has the [`flags`] of an advertisement.
    pub head: Icmp6,
    /// The address it is about.
    pub target: [u8; 16],
}
const _: () = assert!(size_of::<Discovery>() == 24);

/// An option that tells a MAC (RFC 4861 section 4.6.1).
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct LinkOption {
    /// [`SOURCE_LINK`] or [`TARGET_LINK`].
    pub kind: u8,
    /// In units of eight bytes: 1.
    pub len: u8,
    /// The MAC.
    pub mac: [u8; 6],
}
const _: () = assert!(size_of::<LinkOption>() == 8);

/// The MACs that a message's options tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Links {
    /// Of the packet's source.
    pub source: Option<MacAddress>,
    /// Of the target.
    pub target: Option<MacAddress>,
}

/// Reads options. `None`: one of them has no length, or is longer than the message; unknown ones are passed over.
pub fn links(mut options: &[u8]) -> Option<Links> {
    let mut links = Links::default();
    while let Some((&[kind, units], _)) = options.split_first_chunk() {
        let len = usize::from(units) * 8;
        let (option, rest) = options.split_at_checked(len).filter(|_| len != 0)?;
        if let Ok(LinkOption { mac, .. }) = LinkOption::ref_from_bytes(option) {
            match kind {
                SOURCE_LINK => links.source = Some(MacAddress(*mac)),
                TARGET_LINK => links.target = Some(MacAddress(*mac)),
                _ => {}
            }
        }
        options = rest;
    }
    options.is_empty().then_some(links)
}

/// The sum over a message and its pseudo-header (RFC 8200 section 8.1): 0xffff when folded if the checksum in it is right.
pub fn checksum(header: &Ipv6, message: &[u8]) -> Sum {
    pseudo(&header.source, &header.destination, message.len()).bytes(message)
}

/// The sum over the pseudo-header of a message between these addresses.
pub fn pseudo(source: &[u8; 16], destination: &[u8; 16], len: usize) -> Sum {
    Sum::default().bytes(source).bytes(destination).long(len as u32).word(u16::from(ICMPV6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_wrong_ones_refused() {
        let mac = |kind, last| [kind, 1, 2, 0, 0, 0, 0, last];
        let nonce = [14, 1, 1, 2, 3, 4, 5, 6];
        let read = |parts: &[&[u8]]| links(&parts.concat());
        let source = Some(MacAddress([2, 0, 0, 0, 0, 7]));
        assert_eq!(read(&[]), Some(Links::default()));
        assert_eq!(read(&[&nonce, &mac(SOURCE_LINK, 7)]), Some(Links { source, target: None }));
        assert_eq!(read(&[&mac(TARGET_LINK, 7)]), Some(Links { source: None, target: source }));
        assert_eq!(read(&[&mac(SOURCE_LINK, 7), &[1, 0, 0, 0, 0, 0, 0, 0]]), None, "no length");
        assert_eq!(read(&[&mac(SOURCE_LINK, 7)[..7]]), None, "cut");
        assert_eq!(read(&[&mac(SOURCE_LINK, 7), &[1]]), None, "a byte too many");
    }
}
