//! Neighbour discovery (RFC 4861) and echo (RFC 4443) for the IPv6 addresses that this director has as master of a virtual
//! router: what is answered, and what is refused.
//!
//! As with ARP, the answer is made in the buffer of the question, nobody else can have an address of ours, and a backup,
//! or a master whose lease is over, says nothing. Every other IPv6 packet is left as it is. Virtual routers are on the
//! port's untagged network, so what has a tag is none of theirs.

use std::net::Ipv6Addr;

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, IntoBytes};

use super::arp::Conflict;
use crate::packet::Frame;
use crate::rewrite::trim;
use crate::snapshot::{Held6, Snapshot};
use crate::stats::{Answer, DropReason};
use crate::wire::checksum::Delta;
use crate::wire::ethernet::{Ethernet, FRAME_LEN_MIN, HEADER_LEN, MacAddress, TYPE_IPV6};
use crate::wire::icmp6::{self, Discovery, ICMPV6, Icmp6, LinkOption, Links, flags, kind};
use crate::wire::ipv6::{self, Ipv6};

/// Hop limit of discovery: what came over a router has less.
const ON_LINK: u8 = 255;
/// Hop limit of what weir sends by itself.
const HOP_LIMIT: u8 = 64;
const L4: usize = HEADER_LEN + ipv6::HEADER_LEN;
/// Length of an advertisement with its option.
const ADVERTISEMENT_LEN: usize = size_of::<Discovery>() + size_of::<LinkOption>();
/// ff02::1
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// What became of an IPv6 frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is about no address of ours, and as it was.
    Foreign,
    /// It has become the answer: send it back.
    Answer(Answer),
    /// Another host claims an address of ours.
    Conflict(Conflict),
    /// It is about an address of ours, and refused.
    Drop(DropReason),
}

/// A message of discovery that is valid.
struct Message {
    header: Ipv6,
    target: Ipv6Addr,
    links: Links,
    /// The station it came from.
    station: MacAddress,
}

/// Reads an IPv6 frame received on `port` and makes its answer in place, if it gets one.
pub fn receive<F: Frame>(frame: &mut F, port: usize, snapshot: &Snapshot) -> Outcome {
    let bytes = frame.bytes();
    let Some((link, header)) = headers(bytes) else { return Outcome::Foreign };
    let end = L4 + usize::from(header.payload_len.get());
    let Some(message) = bytes.get(L4..end) else { return Outcome::Foreign };
    let Ok((head, _)) = Icmp6::ref_from_prefix(message) else { return Outcome::Foreign };
    let (head, link, header) = (*head, *link, *header);
    match head.kind {
        kind::ECHO_REQUEST => match snapshot.held6(port, Ipv6Addr::from(header.destination)).copied() {
            // No router cuts a packet of IPv6, and nobody is told by an answer that does not leave.
            Some(_) if end - HEADER_LEN > usize::from(snapshot.ports[port].mtu) => {
                Outcome::Drop(DropReason::TooBig)
            }
            Some(held) => echo(frame, &link, &header, (head, end), held),
            None => Outcome::Foreign,
        },
        kind::SOLICITATION | kind::ADVERTISEMENT => discovery(frame, (&link, &header), end, port, snapshot),
        _ => Outcome::Foreign,
    }
}

/// The headers of an ICMPv6 message without a tag or extension headers.
fn headers(bytes: &[u8]) -> Option<(&Ethernet, &Ipv6)> {
    let (link, rest) = Ethernet::ref_from_prefix(bytes).ok()?;
    let (header, _) = Ipv6::ref_from_prefix(rest).ok()?;
    let is_it = link.ether_type.get() == TYPE_IPV6 && header.version() == 6 && header.next_header == ICMPV6;
    is_it.then_some((link, header))
}

fn discovery<F: Frame>(
    frame: &mut F,
    (link, header): (&Ethernet, &Ipv6),
    end: usize,
    port: usize,
    snapshot: &Snapshot,
) -> Outcome {
    let Some(Ok((body, options))) = frame.bytes().get(L4..end).map(Discovery::ref_from_prefix) else {
        return Outcome::Foreign;
    };
    let body = *body;
    let (source, target) = (Ipv6Addr::from(header.source), Ipv6Addr::from(body.target));
    let (held, its) = (snapshot.held6(port, target).copied(), snapshot.held6(port, source).copied());
    if held.is_none() && its.is_none() {
        return Outcome::Foreign;
    }
    let station = MacAddress(link.source);
    // A router of our group that was master a moment ago has the addresses at the virtual MAC as well.
    if station == snapshot.ports[port].mac
        || [held, its].into_iter().flatten().any(|held| held.mac == station)
    {
        return Outcome::Foreign;
    }
    let links = icmp6::links(options).filter(|links| is_valid(link, header, &body, links));
    let is_whole = frame.bytes().get(L4..end).is_some_and(|m| icmp6::checksum(header, m).fold() == 0xffff);
    let Some(links) = links.filter(|_| is_whole) else { return Outcome::Drop(DropReason::BadNd) };
    if its.is_some() {
        // Whatever it asks, it says that it has an address of ours.
        return conflict(port, source, links.source.unwrap_or(station));
    }
    let Some(held) = held else { return Outcome::Foreign };
    match body.head.kind {
        kind::ADVERTISEMENT => conflict(port, target, links.target.unwrap_or(station)),
        _ if is_addressed(link, header, target, &held, snapshot.ports[port].mac) => {
            advertise(frame, &Message { header: *header, target, links, station }, held)
        }
        _ => Outcome::Foreign,
    }
}

fn conflict(port: usize, address: Ipv6Addr, mac: MacAddress) -> Outcome {
    Outcome::Conflict(Conflict { port, address: address.into(), mac })
}

/// RFC 4861 sections 7.1.1 and 7.1.2, the checksum aside.
fn is_valid(link: &Ethernet, header: &Ipv6, body: &Discovery, links: &Links) -> bool {
    let (source, destination) = (Ipv6Addr::from(header.source), Ipv6Addr::from(header.destination));
    let target = Ipv6Addr::from(body.target);
    let is_station = |mac: MacAddress| mac.0[0] & 1 == 0 && mac.0 != [0; 6];
    let has_sense = if body.head.kind == kind::SOLICITATION {
        // Who has no address yet asks everybody and tells no MAC.
        !source.is_unspecified() || destination == solicited_node(target) && links.source.is_none()
    } else {
        let is_solicited = body.head.rest.get() & flags::SOLICITED != 0;
        !(source.is_unspecified() || destination.is_multicast() && is_solicited)
    };
    header.hop_limit == ON_LINK
        && body.head.code == 0
        && !source.is_multicast()
        && is_station(MacAddress(link.source))
        && [links.source, links.target].into_iter().flatten().all(is_station)
        && has_sense
}

/// Whether a solicitation goes to the address or to its group, both as an IPv6 packet and as a frame.
fn is_addressed(link: &Ethernet, header: &Ipv6, target: Ipv6Addr, held: &Held6, own: MacAddress) -> bool {
    let destination = Ipv6Addr::from(header.destination);
    let to = MacAddress(link.destination);
    let [.., a, b, c] = target.octets();
    let is_to_group = destination == solicited_node(target) && to.0 == [0x33, 0x33, 0xff, a, b, c];
    is_to_group || destination == target && (to == held.mac || to == own)
}

/// The group that whoever has an address listens to (RFC 4291 section 2.7.1).
fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., g, h] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | g & 0xff, h)
}

/// Turns a solicitation into the advertisement that answers it (RFC 4861 section 7.2.4): to who asked, or to all nodes if that
/// has no address yet. From a router, as what is announced at take-over says (RFC 9568 section 6.4.2).
fn advertise<F: Frame>(frame: &mut F, asked: &Message, held: Held6) -> Outcome {
    let source = Ipv6Addr::from(asked.header.source);
    let (to, destination, solicited) = if source.is_unspecified() {
        (MacAddress([0x33, 0x33, 0, 0, 0, 1]), ALL_NODES, 0)
    } else {
        (asked.links.source.unwrap_or(asked.station), source, flags::SOLICITED)
    };
    if !frame.is_contiguous() || !frame.resize(L4 + ADVERTISEMENT_LEN) {
        return Outcome::Drop(DropReason::NoBuffer);
    }
    let header = Ipv6 {
        version_class_flow: U32::new(6 << 28),
        payload_len: U16::new(ADVERTISEMENT_LEN as u16),
        next_header: ICMPV6,
        hop_limit: ON_LINK,
        source: asked.target.octets(),
        destination: destination.octets(),
    };
    let body = Discovery {
        head: Icmp6 {
            kind: kind::ADVERTISEMENT,
            code: 0,
            checksum: U16::ZERO,
            rest: U32::new(flags::ROUTER | flags::OVERRIDE | solicited),
        },
        target: asked.target.octets(),
    };
    let option = LinkOption { kind: icmp6::TARGET_LINK, len: 1, mac: held.mac.0 };
    let bytes = frame.bytes_mut();
    bytes[..6].copy_from_slice(&to.0);
    bytes[6..12].copy_from_slice(&held.mac.0);
    bytes[HEADER_LEN..L4].copy_from_slice(header.as_bytes());
    bytes[L4..L4 + size_of::<Discovery>()].copy_from_slice(body.as_bytes());
    bytes[L4 + size_of::<Discovery>()..].copy_from_slice(option.as_bytes());
    let checksum = icmp6::checksum(&header, &bytes[L4..]).finish();
    bytes[L4 + 2..L4 + 4].copy_from_slice(checksum.as_bytes());
    Outcome::Answer(Answer::Nd)
}

/// Turns an echo request to an address of ours into its reply.
fn echo<F: Frame>(
    frame: &mut F,
    link: &Ethernet,
    header: &Ipv6,
    (head, end): (Icmp6, usize),
    held: Held6,
) -> Outcome {
    let is_wrong = |mac: [u8; 6]| mac[0] & 1 != 0;
    let source = Ipv6Addr::from(header.source);
    if link.destination != held.mac.0 || is_wrong(link.source) {
        return Outcome::Foreign;
    }
    if !held.router.accept {
        return Outcome::Drop(DropReason::NotAccepted);
    }
    if source.is_multicast() || source.is_unspecified() || source.is_loopback() {
        return Outcome::Drop(DropReason::BadIpHeader);
    }
    let Some(message) = frame.bytes().get(L4..end).filter(|_| frame.is_contiguous()) else {
        return Outcome::Drop(DropReason::LongFrame);
    };
    if head.code != 0 || icmp6::checksum(header, message).fold() != 0xffff {
        return Outcome::Drop(DropReason::BadL4Header);
    }
    if let Err(reason) = trim(frame, end.max(FRAME_LEN_MIN)) {
        return Outcome::Drop(reason);
    }
    let bytes = frame.bytes_mut();
    bytes[..6].copy_from_slice(&link.source);
    bytes[6..12].copy_from_slice(&held.mac.0);
    let answer =
        Ipv6 { hop_limit: HOP_LIMIT, source: header.destination, destination: header.source, ..*header };
    bytes[HEADER_LEN..L4].copy_from_slice(answer.as_bytes());
    // The addresses change places, which leaves their sum as it is.
    let (old, new) = (u16::from(kind::ECHO_REQUEST) << 8, u16::from(kind::ECHO_REPLY) << 8);
    let head =
        Icmp6 { kind: kind::ECHO_REPLY, checksum: Delta::NONE.word(old, new).apply(head.checksum), ..head };
    bytes[L4..L4 + size_of::<Icmp6>()].copy_from_slice(head.as_bytes());
    Outcome::Answer(Answer::Echo)
}
