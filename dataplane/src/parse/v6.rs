//! IPv6 packets: the fixed header, extension headers up to a limit, and the transport header.
//!
//! Extension headers are walked as a router's filter would: hop-by-hop and destination options and routing headers that
//! have done their work are passed over, and pieces of fragmented packets are told apart. What can't be walked is dropped
//! with a reason of its own, and so is what has an option that keeps it from going on ([`options6`]).

use std::net::Ipv6Addr;

use zerocopy::FromBytes;

use super::options6::{self, Refused};
use super::{Packet, Quoted, Within, parse_l4};
use crate::address::Addr4;
use crate::stats::DropReason;
use crate::wire::ethernet::Vlan;
use crate::wire::icmp6::{ICMPV6, Icmp6};
use crate::wire::ipv4;
use crate::wire::ipv6::{FRAGMENT, HEADER_LEN, Ipv6, next};
use crate::wire::l4::Ports;

/// Extension headers that are walked at most.
const HEADERS_MAX: usize = 8;

/// Between whom an IPv6 packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends6 {
    /// From whom.
    pub source: Ipv6Addr,
    /// To whom.
    pub destination: Ipv6Addr,
}

impl Ends6 {
    /// In place of those of a packet, before there was one.
    pub const NONE: Self = Self { source: Ipv6Addr::UNSPECIFIED, destination: Ipv6Addr::UNSPECIFIED };

    fn of(header: &Ipv6) -> Self {
        Self { source: header.source.into(), destination: header.destination.into() }
    }
}

/// What follows the IPv6 header and its extension headers.
pub struct Transport {
    /// What it is, by the numbers of IPv4's protocol.
    pub protocol: u8,
    /// Behind the IPv6 header, in bytes.
    pub offset: usize,
    /// Where a header for pieces is, behind the IPv6 header, though it may say that the packet is whole: of several the first.
    pub fragment_header: Option<usize>,
    /// Whether there are several.
    pub is_cut_twice: bool,
    /// Whether it is one piece of a packet of several.
    pub is_fragment: bool,
    /// Whether it is one behind the first.
    pub is_later_fragment: bool,
    /// The first option that keeps the packet from going on.
    pub refused: Option<Refused>,
}

/// Whose options are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Options {
    /// Nobody's: it is a quote.
    None,
    /// Those for every hop.
    OfHops,
    /// Those for the destination as well.
    All,
}

/// Between whom the packet goes whose header is at offset `l3` of a frame, whatever else it holds. `bytes` is the first segment.
pub fn ends(bytes: &[u8], l3: usize) -> Result<Ends6, DropReason> {
    let header = Ipv6::ref_from_prefix(bytes.get(l3..).unwrap_or_default());
    header.map(|(header, _)| Ends6::of(header)).map_err(|_| DropReason::Truncated)
}

/// The number of the header that follows that of IPv6, if there is one of IPv6 at offset `l3` of a frame.
pub fn first_header(bytes: &[u8], l3: usize) -> Option<u8> {
    let (header, _) = Ipv6::ref_from_prefix(bytes.get(l3..)?).ok()?;
    Some(header.next_header)
}

/// What follows the headers of a packet that is this director's own, which begins at offset `l3` of a frame.
pub fn transport(bytes: &[u8], l3: usize) -> Result<Transport, DropReason> {
    let packet = bytes.get(l3..).unwrap_or_default();
    let (header, rest) = Ipv6::ref_from_prefix(packet).map_err(|_| DropReason::Truncated)?;
    let payload_len = usize::from(header.payload_len.get());
    walk(header.next_header, &rest[..payload_len.min(rest.len())], Options::All)
}

/// Reads the IPv6 packet behind the link header. `bytes` is the first segment of a frame of `frame_len` bytes. The numbers
/// that stand for its ends are for the caller to find.
pub fn parse(bytes: &[u8], frame_len: usize, vlan: Vlan) -> Result<Packet, DropReason> {
    match parse_all(bytes, frame_len, vlan)? {
        (packet, None) => Ok(packet),
        (_, Some(_)) => Err(DropReason::UnknownOption),
    }
}

/// As [`parse`], also of a packet that an option keeps from going on.
pub fn parse_all(
    bytes: &[u8],
    frame_len: usize,
    vlan: Vlan,
) -> Result<(Packet, Option<Refused>), DropReason> {
    let (payload, payload_len, transport) = walked(bytes, frame_len, vlan)?;
    let (l3, total_len) = (vlan.header_len(), (HEADER_LEN + payload_len) as u16);
    if transport.is_fragment {
        return Err(DropReason::Fragment);
    }
    let l4 = u8::try_from(l3 + HEADER_LEN + transport.offset).map_err(|_| DropReason::ExtensionHeaders)?;
    let mut packet = Packet {
        vlan,
        l3: l3 as u8,
        l4,
        protocol: transport.protocol,
        flags: 0,
        total_len,
        source_port: 0,
        destination_port: 0,
        source: Addr4::STRANGER6,
        destination: Addr4::STRANGER6,
    };
    let message = payload.get(transport.offset..).ok_or(DropReason::Truncated)?;
    match transport.protocol {
        ICMPV6 => {
            let (head, _) = Icmp6::ref_from_prefix(message).map_err(|_| DropReason::Truncated)?;
            packet.flags = head.kind;
        }
        ipv4::ICMP => {}
        _ => parse_l4(message, payload_len - transport.offset, &mut packet)?,
    }
    Ok((packet, transport.refused))
}

/// Checks the header of the IPv6 packet behind the link header, and gives what the first segment holds of the rest, how long the rest
/// is, and what comes behind its extension headers.
pub(super) fn walked(
    bytes: &[u8],
    frame_len: usize,
    vlan: Vlan,
) -> Result<(&[u8], usize, Transport), DropReason> {
    let l3 = vlan.header_len();
    let rest = bytes.get(l3..).ok_or(DropReason::Truncated)?;
    let (header, rest) = Ipv6::ref_from_prefix(rest).map_err(|_| DropReason::Truncated)?;
    let payload_len = usize::from(header.payload_len.get());
    let total_len = u16::try_from(HEADER_LEN + payload_len).map_err(|_| DropReason::BadIpHeader)?;
    if header.version() != 6 || !may_be_source(header.source.into()) {
        return Err(DropReason::BadIpHeader);
    }
    if l3 + usize::from(total_len) > frame_len {
        return Err(DropReason::Truncated);
    }
    let payload = &rest[..payload_len.min(rest.len())];
    Ok((payload, payload_len, walk(header.next_header, payload, Options::OfHops)?))
}

/// Reads an IPv6 packet quoted at offset `l3` of a frame: as much of it as there is, at least its headers and its ports. The
/// numbers that stand for its ends are for the caller to find.
pub fn parse_quoted(packet: Within<'_>, l3: usize) -> Result<(Quoted, Ends6), DropReason> {
    let (header, rest) = Ipv6::ref_from_prefix(packet.from(l3)).map_err(|_| DropReason::Truncated)?;
    if header.version() != 6 {
        return Err(DropReason::BadL4Header);
    }
    let transport = walk(header.next_header, rest, Options::None)?;
    let l4 = l3 + HEADER_LEN + transport.offset;
    let mut quoted = Quoted {
        l3,
        l4,
        protocol: transport.protocol,
        source: Addr4::STRANGER6,
        destination: Addr4::STRANGER6,
        source_port: 0,
        destination_port: 0,
        is_later_fragment: transport.is_later_fragment,
        dont_fragment: true,
    };
    if matches!(quoted.protocol, ipv4::TCP | ipv4::UDP | ipv4::SCTP) && !quoted.is_later_fragment {
        let (ports, _) = Ports::ref_from_prefix(packet.from(l4)).map_err(|_| DropReason::Truncated)?;
        quoted.source_port = ports.source.get();
        quoted.destination_port = ports.destination.get();
    }
    Ok((quoted, Ends6::of(header)))
}

/// Walks the extension headers. `payload` begins with the first header, which is of type `protocol`.
fn walk(mut protocol: u8, payload: &[u8], options: Options) -> Result<Transport, DropReason> {
    let (mut offset, mut refused, mut fragment_header, mut is_cut_twice) = (0, None, None, false);
    // Of any header for pieces: one that says so is not taken back by another behind it.
    let (mut is_fragment, mut is_later) = (false, false);
    for number in 0..=HEADERS_MAX {
        let is_extension = match protocol {
            // Only behind the IPv6 header itself (RFC 8200 section 4.1).
            next::HOP_BY_HOP if number != 0 => return Err(DropReason::ExtensionHeaders),
            next::HOP_BY_HOP | next::DESTINATION_OPTIONS | next::ROUTING | FRAGMENT => true,
            _ => false,
        };
        if !is_extension || is_later {
            let is_later_fragment = is_later;
            return Ok(Transport {
                protocol,
                offset,
                fragment_header,
                is_cut_twice,
                is_fragment,
                is_later_fragment,
                refused,
            });
        }
        let rest = payload.get(offset..).unwrap_or_default();
        let Some(&[following, units, kind, left, ..]) = rest.first_chunk::<8>() else {
            return Err(DropReason::Truncated);
        };
        let len = match protocol {
            FRAGMENT => {
                let control = u16::from_be_bytes([kind, left]);
                is_later |= control >> 3 != 0;
                is_fragment |= is_later || control & 1 != 0;
                is_cut_twice = fragment_header.is_some();
                fragment_header = fragment_header.or(Some(offset));
                8
            }
            // The packet is to go elsewhere first.
            next::ROUTING if left != 0 => return Err(DropReason::SourceRoute),
            _ => (usize::from(units) + 1) * 8,
        };
        let Some(header) = rest.get(..len) else { return Err(DropReason::Truncated) };
        let is_for_hops = protocol == next::HOP_BY_HOP;
        let is_read = match options {
            Options::None => false,
            Options::OfHops => is_for_hops,
            Options::All => is_for_hops || protocol == next::DESTINATION_OPTIONS,
        };
        if is_read && refused.is_none() {
            refused = options6::read(header, HEADER_LEN + offset, is_for_hops)?;
        }
        (protocol, offset) = (following, offset + len);
    }
    Err(DropReason::ExtensionHeaders)
}

/// Whether a packet can come from there: a single host, one that is not this one, and not one of IPv4, which the kernel takes from no
/// wire.
pub fn may_be_source(address: Ipv6Addr) -> bool {
    let is_nobody = address.is_unspecified() || address.is_loopback() || address.is_multicast();
    !is_nobody && address.to_ipv4_mapped().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv6 packet behind an Ethernet header, with these headers and bytes behind the fixed one.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![2; 12];
        bytes.extend([0x86, 0xdd, 0x6b, 0x90, 0, 7]);
        bytes.extend((payload.len() as u16).to_be_bytes());
        bytes.extend([first, 64]);
        bytes.extend("2001:db8::1".parse::<Ipv6Addr>().expect("an address").octets());
        bytes.extend("2001:db8::2".parse::<Ipv6Addr>().expect("an address").octets());
        bytes.extend(payload);
        bytes
    }

    fn read(first: u8, payload: &[u8]) -> Result<Packet, DropReason> {
        let bytes = frame(first, payload);
        parse(&bytes, bytes.len(), Vlan::NONE)
    }

    const TCP: [u8; 20] = [0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0];

    /// An extension header of eight bytes with `following` behind it.
    fn extension(following: u8, rest: [u8; 6]) -> Vec<u8> {
        [&[following, 0][..], &rest].concat()
    }

    #[test]
    fn a_segment_is_read_whatever_headers_lie_before_it() {
        let plain = read(ipv4::TCP, &TCP).expect("a packet");
        assert_eq!((plain.l3, plain.l4, plain.total_len), (14, 54, 60));
        assert_eq!((plain.source_port, plain.destination_port, plain.flags), (40_000, 80, 2));
        let none = [1, 4, 0, 0, 0, 0];
        let chain = [
            extension(next::DESTINATION_OPTIONS, none),
            extension(next::ROUTING, none),
            extension(FRAGMENT, [4, 0, 0, 0, 0, 0]),
            extension(ipv4::TCP, [0, 0, 1, 2, 3, 4]),
            TCP.to_vec(),
        ];
        let packet = read(next::HOP_BY_HOP, &chain.concat()).expect("a packet");
        assert_eq!((packet.l4, packet.protocol, packet.destination_port), (54 + 32, ipv4::TCP, 80));
    }

    #[test]
    fn what_can_not_be_walked_has_its_reason() {
        let none = [1, 4, 0, 0, 0, 0];
        let many = |count: usize| {
            let mut payload = extension(next::DESTINATION_OPTIONS, none).repeat(count - 1);
            payload.extend(extension(ipv4::TCP, none));
            payload.extend(TCP);
            payload
        };
        assert!(read(next::DESTINATION_OPTIONS, &many(HEADERS_MAX)).is_ok());
        let options = next::DESTINATION_OPTIONS;
        let late = [extension(next::HOP_BY_HOP, none), extension(ipv4::TCP, none), TCP.to_vec()].concat();
        let long = [&[ipv4::TCP, 40, 1, 4, 0, 0, 0, 0][..], &[0; 320], &TCP].concat();
        let first = [extension(ipv4::TCP, [0, 1, 0, 0, 0, 9]), TCP.to_vec()].concat();
        let behind = |control: u16, rest: &[u8]| {
            let [upper, lower] = control.to_be_bytes();
            [&extension(FRAGMENT, [upper, lower, 0, 0, 0, 7]), rest].concat()
        };
        let whole = [extension(ipv4::TCP, [0; 6]), TCP.to_vec()].concat();
        let routed = [extension(ipv4::TCP, [0, 1, 0, 0, 0, 0]), TCP.to_vec()].concat();
        for (kind, payload, reason) in [
            (options, many(HEADERS_MAX + 1), DropReason::ExtensionHeaders),
            (options, late, DropReason::ExtensionHeaders),
            (options, long, DropReason::ExtensionHeaders),
            (FRAGMENT, behind(0, &first), DropReason::Fragment),
            (FRAGMENT, behind(1, &whole), DropReason::Fragment),
            (FRAGMENT, behind(8, &whole), DropReason::Fragment),
            (FRAGMENT, first, DropReason::Fragment),
            (next::ROUTING, routed, DropReason::SourceRoute),
            (options, vec![ipv4::TCP, 9, 0, 0, 0, 0, 0, 0], DropReason::Truncated),
            (options, vec![ipv4::TCP, 0, 0], DropReason::Truncated),
            (ipv4::TCP, TCP[..19].to_vec(), DropReason::Truncated),
        ] {
            assert_eq!(read(kind, &payload), Err(reason), "{kind}: {payload:?}");
        }
    }

    #[test]
    fn any_bytes_are_read_within_their_bounds() {
        bolero::check!().with_type::<(u8, Vec<u8>)>().for_each(|(first, payload)| {
            let payload = &payload[..payload.len().min(1_400)];
            if let Ok(packet) = read(*first, payload) {
                assert!(packet.l4() <= packet.end() && packet.end() == 54 + payload.len());
            }
            let bytes = frame(*first, payload);
            let _ = parse_quoted(Within(&bytes), 14);
        });
    }
}
