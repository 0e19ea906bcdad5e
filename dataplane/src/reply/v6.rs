//! What weir originates over IPv6: ICMPv6 errors and RSTs, in the buffer of the packet that they answer.

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, IntoBytes};

use super::{Error, TTL, answer_to, quote_anew, swap_macs};
use crate::packet::Frame;
use crate::parse::Packet;
use crate::parse::v6::{self, Ends6};
use crate::rewrite::no_room;
use crate::snapshot::Port;
use crate::stats::DropReason;
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{MacAddress, TYPE_IPV6};
use crate::wire::icmp6::{self, ICMPV6, Icmp6, kind};
use crate::wire::ipv4;
use crate::wire::ipv6::{FRAGMENT, HEADER_LEN, Ipv6, MTU_MIN};
use crate::wire::l4::{self, Tcp, icmp};

/// Code of a destination that is unreachable: there is no way to its address.
const ADDRESS_UNREACHABLE: u8 = 3;
/// Code of a destination that is unreachable: nobody listens at the port.
const PORT_UNREACHABLE: u8 = 4;
/// Code of a parameter problem: nobody speaks that protocol here.
const UNKNOWN_HEADER: u8 = 1;
/// Where the fixed header has the type of what follows it.
const NEXT_HEADER_AT: u32 = 6;

/// What an error is in ICMPv6 (RFC 4443): its type, its code, and what stands behind the checksum.
fn in_icmp6(error: Error, packet: &Packet, bytes: &[u8]) -> (u8, u8, u32) {
    match (error.kind, error.code) {
        (icmp::TIME_EXCEEDED, _) => (kind::TIME_EXCEEDED, 0, 0),
        (icmp::PARAMETER_PROBLEM, code) => (kind::PARAMETER_PROBLEM, code, error.rest),
        (_, icmp::FRAGMENTATION_NEEDED) => (kind::TOO_BIG, 0, error.rest),
        (_, icmp::PROTOCOL_UNREACHABLE) => (kind::PARAMETER_PROBLEM, UNKNOWN_HEADER, pointer(packet, bytes)),
        (_, icmp::HOST_UNREACHABLE) => (kind::UNREACHABLE, ADDRESS_UNREACHABLE, 0),
        _ => (kind::UNREACHABLE, PORT_UNREACHABLE, 0),
    }
}

/// Where the packet says what its transport header is, in bytes from its beginning.
fn pointer(packet: &Packet, bytes: &[u8]) -> u32 {
    let (mut pointer, mut at) = (NEXT_HEADER_AT, HEADER_LEN);
    let end = packet.l4() - packet.l3();
    let header = bytes.get(packet.l3()..).unwrap_or_default();
    while at < end
        && let Some(&[units, ..]) = header.get(at + 1..)
    {
        let is_fragment = header.get(pointer as usize) == Some(&FRAGMENT);
        pointer = at as u32;
        at += if is_fragment { 8 } else { (usize::from(units) + 1) * 8 };
    }
    pointer
}

/// As [`super::error`], from `port`: as in the kernel, from its address towards the sender. The packet is quoted up to 1,280 bytes
/// in all.
pub fn error<F: Frame>(frame: &mut F, packet: &Packet, error: Error, port: &Port) -> Result<(), DropReason> {
    const HEADERS: usize = HEADER_LEN + size_of::<Icmp6>();
    let (l3, said) = (packet.l3(), in_icmp6(error, packet, frame.bytes()));
    let ends = v6::ends(frame.bytes(), l3)?;
    let destination = port.address_towards6(ends.source).unwrap_or(ends.destination);
    // A port without IPv6 may have a link that takes less.
    let quoted =
        usize::from(packet.total_len).min(usize::from(MTU_MIN.min(port.mtu)).saturating_sub(HEADERS));
    if !frame.resize(l3 + quoted) || !frame.is_contiguous() || !frame.prepend(HEADERS) {
        return Err(no_room(frame));
    }
    let bytes = frame.bytes_mut();
    bytes.copy_within(HEADERS..HEADERS + l3, 0);
    swap_macs(bytes, port.mac);
    write_message(&mut bytes[l3..], Ends6 { destination, ..ends }, said);
    Ok(())
}

/// As [`super::relay`], to a client of IPv6. `ends` are those of its packet.
pub fn relay<F: Frame>(
    frame: &mut F,
    packet: &Packet,
    inner: usize,
    error: Error,
    ends: Ends6,
) -> Result<(), DropReason> {
    let (l3, said) = (packet.l3(), in_icmp6(error, packet, &[]));
    quote_anew::<F, Ipv6>(frame, packet, inner, usize::from(MTU_MIN))?;
    let bytes = frame.bytes_mut();
    // The error may have come by IPv4.
    bytes[l3 - 2..l3].copy_from_slice(&TYPE_IPV6.to_be_bytes());
    write_message(&mut bytes[l3..], ends, said);
    Ok(())
}

/// Writes the headers of an ICMPv6 error about a packet between `ends` in front of its quote.
fn write_message(bytes: &mut [u8], ends: Ends6, (kind, code, rest): (u8, u8, u32)) {
    let header = header_back(ends, ICMPV6, bytes.len() - HEADER_LEN);
    let (front, message) = bytes.split_at_mut(HEADER_LEN);
    front.copy_from_slice(header.as_bytes());
    let head = Icmp6 { kind, code, checksum: U16::ZERO, rest: U32::new(rest) };
    message[..size_of::<Icmp6>()].copy_from_slice(head.as_bytes());
    let checksum = icmp6::checksum(&header, message).finish();
    message[2..4].copy_from_slice(checksum.as_bytes());
}

/// As [`super::reset`].
pub(super) fn reset<F: Frame>(frame: &mut F, packet: &Packet, mac: MacAddress) -> Result<(), DropReason> {
    let l3 = packet.l3();
    let ends = v6::ends(frame.bytes(), l3)?;
    let segment = packet.l4_bytes(frame.bytes());
    let (segment, _) = Tcp::ref_from_prefix(segment).map_err(|_| DropReason::Truncated)?;
    let mut answer = answer_to(segment, packet);
    if !frame.resize(l3 + HEADER_LEN + l4::TCP_LEN) {
        return Err(no_room(frame));
    }
    let bytes = frame.bytes_mut();
    swap_macs(bytes, mac);
    let header = header_back(ends, ipv4::TCP, l4::TCP_LEN);
    let pseudo = Sum::default().bytes(&header.source).bytes(&header.destination);
    let pseudo = pseudo.word(u16::from(ipv4::TCP)).word(l4::TCP_LEN as u16);
    answer.checksum = pseudo.bytes(answer.as_bytes()).finish();
    bytes[l3..l3 + HEADER_LEN].copy_from_slice(header.as_bytes());
    bytes[l3 + HEADER_LEN..].copy_from_slice(answer.as_bytes());
    Ok(())
}

/// The header of an answer to a packet between these ends.
fn header_back(ends: Ends6, next_header: u8, payload_len: usize) -> Ipv6 {
    Ipv6 {
        version_class_flow: U32::new(6 << 28),
        payload_len: U16::new(payload_len as u16),
        next_header,
        hop_limit: TTL,
        source: ends.destination.octets(),
        destination: ends.source.octets(),
    }
}
