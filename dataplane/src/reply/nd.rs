//! Neighbour discovery (RFC 4861) and echo (RFC 4443) for the IPv6 addresses that this director has: its ports' own, and those
//! that it has as master of a virtual router. What is answered, what is learned, what is refused, and what is asked.
//!
//! As with ARP, the answer is made in the buffer of the question, nobody else can have an address of ours or that of a static
//! neighbour, and a backup, or a master whose lease is over, says nothing. Every other IPv6 packet is left as it is. Virtual
//! routers are on the port's untagged network, so what has the tag of another is none of theirs. Where a port has a host interface, the
//! host answers for the port's own addresses.
//!
//! What stands behind extension headers is as good as what does not, as in the kernel; but discovery that came in pieces, or says that it
//! might have, is ignored (RFC 6980).

use std::net::Ipv6Addr;

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, IntoBytes};

use super::arp::Conflict;
use super::tunnel6::{AboutTunnel, is_error};
use crate::neighbor::{Heard, Hop6};
use crate::packet::{Frame, Wire, sum_over};
use crate::parse::options6::Refused;
use crate::parse::v6::{self, may_be_source};
use crate::rewrite::trim;
use crate::snapshot::{Port, Snapshot};
use crate::stats::{Answer, DropReason};
use crate::wire::checksum::Delta;
use crate::wire::ethernet::{self, Ethernet, FRAME_LEN_MIN, MacAddress, TYPE_IPV6, Vlan};
use crate::wire::icmp6::{self, Discovery, ICMPV6, Icmp6, LinkOption, Links, flags, kind};
use crate::wire::ipv6::{self, Ipv6};

/// Hop limit of discovery: what came over a router has less.
const ON_LINK: u8 = 255;
/// Hop limit of what weir sends by itself.
const HOP_LIMIT: u8 = 64;
/// Length of a solicitation or an advertisement with its option.
const MESSAGE_LEN: usize = size_of::<Discovery>() + size_of::<LinkOption>();
/// Length of a frame that tells the host of a VIP.
const TOLD_LEN: usize = ethernet::HEADER_LEN + ipv6::HEADER_LEN + MESSAGE_LEN;
/// ff02::1
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// What became of an IPv6 frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is about no address of ours and tells nothing, and is as it was.
    Foreign,
    /// It has become the answer: send it back. With what it told before.
    Answer(Answer, Option<(Hop6, Heard)>),
    /// It tells of another host, and is as it was.
    Heard(Hop6, Heard),
    /// It is an error about a tunnel packet of ours, and as it was.
    TunnelError(AboutTunnel),
    /// Another host claims an address that it can't have.
    Conflict(Conflict),
    /// It is to an address of ours, and an option keeps it from being taken in.
    Refused(Refused, Vlan),
    /// It is about an address of ours, and refused.
    Drop(DropReason),
}

/// An address of ours.
#[derive(Clone, Copy)]
struct Ours {
    /// Where it is.
    mac: MacAddress,
    /// Whether a virtual router has it.
    is_virtual: bool,
    /// Whether the address itself answers.
    accepts: bool,
    /// Whether the host answers for it.
    is_hosts: bool,
}

/// A message of discovery that is valid.
struct Message {
    header: Ipv6,
    target: Ipv6Addr,
    links: Links,
    /// The station it came from.
    station: MacAddress,
}

/// The headers in front of an ICMPv6 message.
#[derive(Clone, Copy)]
struct Headers {
    link: Ethernet,
    vlan: Vlan,
    ip: Ipv6,
    /// Where the message begins.
    l4: usize,
    /// Whether it may have come in pieces.
    has_fragment_header: bool,
    /// What keeps it from being taken in.
    refused: Option<Refused>,
}

impl Headers {
    /// Where the message ends.
    fn end(&self) -> usize {
        self.vlan.header_len() + ipv6::HEADER_LEN + usize::from(self.ip.payload_len.get())
    }

    /// Length of an IPv6 packet that holds the message alone.
    fn bare_len(&self) -> usize {
        ipv6::HEADER_LEN + self.end() - self.l4
    }

    fn source(&self) -> Ipv6Addr {
        self.ip.source.into()
    }

    fn destination(&self) -> Ipv6Addr {
        self.ip.destination.into()
    }
}

/// Reads an IPv6 frame received on `port` and makes its answer in place, if it gets one.
pub fn receive<F: Frame>(frame: &mut F, port: usize, snapshot: &Snapshot) -> Outcome {
    let Some(headers) = headers(frame.bytes()) else { return Outcome::Foreign };
    // Of a frame in several buffers what the first one holds. Only a ping is as long as that.
    let end = headers.end().min(frame.bytes().len());
    let is_whole = headers.end() <= frame.len();
    let message = frame.bytes().get(headers.l4..end).filter(|_| is_whole);
    let Some(message) = message else { return Outcome::Foreign };
    let Ok((head, _)) = Icmp6::ref_from_prefix(message) else { return Outcome::Foreign };
    let head = *head;
    if let Some(refused) = headers.refused {
        return match is_taken_in(&headers, port, snapshot) {
            true => Outcome::Refused(refused, headers.vlan),
            false => Outcome::Foreign,
        };
    }
    // Nobody else speaks for an address of ours.
    let is_own_source = || is_own(port, &headers, snapshot);
    match head.kind {
        kind::ECHO_REQUEST => match pinged(port, headers.vlan, headers.destination(), snapshot) {
            Some(ours) if ours.is_hosts => Outcome::Foreign,
            Some(_) if is_own_source() => Outcome::Drop(DropReason::OwnSource),
            // No router cuts a packet of IPv6, and nobody is told by an answer that does not leave.
            Some(_) if headers.bare_len() > usize::from(snapshot.ports[port].mtu) => {
                Outcome::Drop(DropReason::TooBig)
            }
            Some(ours) => echo(frame, (&headers, head), ours, &snapshot.ports[port]),
            None => Outcome::Foreign,
        },
        kind::SOLICITATION | kind::ADVERTISEMENT => discovery(frame, &headers, port, snapshot),
        told if is_error(told)
            && headers.link.destination == snapshot.ports[port].mac.0
            && icmp6::checksum(&headers.ip, message).fold() == 0xffff =>
        {
            let message = (&headers.ip, headers.l4);
            let about = AboutTunnel::read(frame.bytes(), headers.vlan, message, snapshot);
            match about {
                Some(_) if !may_be_source(headers.ip.source.into()) => Outcome::Drop(DropReason::BadIpHeader),
                Some(_) if is_own_source() => Outcome::Drop(DropReason::OwnSource),
                Some(about) => Outcome::TunnelError(about),
                None => Outcome::Foreign,
            }
        }
        _ => Outcome::Foreign,
    }
}

/// The headers of an ICMPv6 message that is whole, behind one tag at most.
fn headers(bytes: &[u8]) -> Option<Headers> {
    let (link, vlan, ether_type, rest) = ethernet::read(bytes)?;
    let (ip, _) = Ipv6::ref_from_prefix(rest).ok()?;
    if ether_type != TYPE_IPV6 || ip.version() != 6 {
        return None;
    }
    let transport = v6::transport(bytes, vlan.header_len()).ok()?;
    (transport.protocol == ICMPV6 && !transport.is_fragment).then_some(Headers {
        link: *link,
        vlan,
        ip: *ip,
        l4: vlan.header_len() + ipv6::HEADER_LEN + transport.offset,
        has_fragment_header: transport.fragment_header.is_some(),
        refused: transport.refused,
    })
}

/// Whether an address of ours stands where the sender's does. Others may have the ones of a link on other links.
fn is_own(port: usize, headers: &Headers, snapshot: &Snapshot) -> bool {
    let source = headers.source();
    match source.is_unicast_link_local() {
        true => ours(port, headers.vlan, source, snapshot).is_some(),
        false => snapshot.number6(source).is_some_and(|number| snapshot.local(number).is_some()),
    }
}

/// Whether what has such headers would be taken in here, by weir itself: it is to an address of ours, or to all nodes.
fn is_taken_in(headers: &Headers, port: usize, snapshot: &Snapshot) -> bool {
    let (own, destination) = (&snapshot.ports[port], headers.destination());
    let to = headers.link.destination;
    let is_ours = match destination.is_multicast() {
        true => destination == ALL_NODES && !own.has_host && is_for_us(&headers.link, own.mac),
        false => {
            let ours = pinged(port, headers.vlan, destination, snapshot);
            ours.is_some_and(|ours| !ours.is_hosts && (to == ours.mac.0 || is_to_router(&to, own)))
        }
    };
    is_ours && headers.link.source[0] & 1 == 0 && may_be_source(headers.source())
}

/// Whether a frame goes to the port, or to a virtual router that is master there.
fn is_to_router(to: &[u8; 6], port: &Port) -> bool {
    *to == port.mac.0 || port.virtual_macs.receives6(to)
}

/// What an address is to this director, for others on `port`.
fn ours(port: usize, vlan: Vlan, address: Ipv6Addr, snapshot: &Snapshot) -> Option<Ours> {
    let held = snapshot.held6(port, address).filter(|_| vlan.network() == 0);
    if let Some(held) = held {
        return Some(Ours { mac: held.mac, is_virtual: true, accepts: held.router.accept, is_hosts: false });
    }
    // What a virtual router has is its own or nobody's.
    let is_vip = snapshot.local6(port, address).is_some_and(|local| local.is_vip && local.router.is_none());
    let port = &snapshot.ports[port];
    let is_own = port.has_address6(address);
    let ours = Ours { mac: port.mac, is_virtual: false, accepts: true, is_hosts: is_own && port.has_host };
    (is_own || is_vip).then_some(ours)
}

/// As [`ours`], for who pings it: as of IPv4, the addresses that this director has on its other ports are its on each, but for those that mean
/// something on their own link alone.
fn pinged(port: usize, vlan: Vlan, address: Ipv6Addr, snapshot: &Snapshot) -> Option<Ours> {
    let elsewhere = || {
        let local = snapshot.local(snapshot.number6(address)?)?;
        let is_here = local.arp_ports & 1 << port != 0 || address.is_unicast_link_local();
        let Port { mac, has_host, .. } = snapshot.ports[port];
        let (accepts, is_hosts) = (local.is_accepted(), has_host && !local.is_vip);
        (!is_here).then_some(Ours { mac, is_virtual: false, accepts, is_hosts })
    };
    ours(port, vlan, address, snapshot).or_else(elsewhere)
}

/// Whether an address is ours, so that its group is heard. Where the host answers, its own reports may not name all of them.
pub(super) fn answers_for(port: usize, vlan: Vlan, address: Ipv6Addr, snapshot: &Snapshot) -> bool {
    ours(port, vlan, address, snapshot).is_some()
}

fn discovery<F: Frame>(frame: &mut F, headers: &Headers, port: usize, snapshot: &Snapshot) -> Outcome {
    let Headers { link, vlan, ip, .. } = headers;
    let message = frame.bytes().get(headers.l4..headers.end()).unwrap_or_default();
    let Ok((body, options)) = Discovery::ref_from_prefix(message) else { return Outcome::Foreign };
    let body = *body;
    let (source, target) = (Ipv6Addr::from(ip.source), Ipv6Addr::from(body.target));
    let (asked, its) = (ours(port, *vlan, target, snapshot), ours(port, *vlan, source, snapshot));
    let station = MacAddress(link.source);
    // A router of our group that was master a moment ago has the addresses at the virtual MAC as well.
    if snapshot.is_own_mac(port, true, station)
        || [asked, its].into_iter().flatten().any(|ours| ours.mac == station)
    {
        return Outcome::Foreign;
    }
    let links = icmp6::links(options).filter(|links| is_valid(link, ip, &body, links));
    let links =
        links.filter(|_| !headers.has_fragment_header && icmp6::checksum(ip, message).fold() == 0xffff);
    let (asked, links) = match (links, asked, its) {
        (None, None, None) => return Outcome::Foreign,
        (None, ..) => return Outcome::Drop(DropReason::BadNd),
        // Whatever it asks, it says that it has an address of ours.
        (Some(links), _, Some(_)) => return conflict(port, source, links.source.unwrap_or(station)),
        (Some(links), asked, None) => (asked, links),
    };
    let is_advertised = body.head.kind == kind::ADVERTISEMENT;
    if asked.is_some() && is_advertised {
        return conflict(port, target, links.target.unwrap_or(station));
    }
    let heard = if is_advertised { advertised(target, &body, &links) } else { told(source, &links) };
    let heard = heard.filter(|_| is_for_us(link, snapshot.ports[port].mac));
    // Nobody else is where this director is.
    if [links.source, links.target].into_iter().flatten().any(|mac| snapshot.is_own_mac(port, true, mac)) {
        return asked.map_or(Outcome::Foreign, |_| Outcome::Drop(DropReason::BadNd));
    }
    if let Some((address, Heard { mac: Some(mac), .. })) = heard
        && snapshot.bound_mac6(address).is_some_and(|bound| bound != mac)
    {
        return conflict(port, address, mac);
    }
    let heard = heard.map(|(address, heard)| (Hop6::at(address, port as u16, vlan.network()), heard));
    let is_ours = |address| ours(port, *vlan, address, snapshot).is_some();
    match asked {
        Some(ours)
            if !ours.is_hosts
                && is_addressed(headers, target, [ours.mac, snapshot.ports[port].mac], is_ours) =>
        {
            let message = Message { header: *ip, target, links, station };
            advertise(frame, *vlan, &message, ours, heard)
        }
        _ => heard.map_or(Outcome::Foreign, |(hop, heard)| Outcome::Heard(hop, heard)),
    }
}

/// What an advertisement tells.
fn advertised(target: Ipv6Addr, body: &Discovery, links: &Links) -> Option<(Ipv6Addr, Heard)> {
    let flags = body.head.rest.get();
    let (is_solicited, overrides) = (flags & flags::SOLICITED != 0, flags & flags::OVERRIDE != 0);
    (!target.is_multicast()).then_some((target, Heard { mac: links.target, is_solicited, overrides }))
}

/// What a solicitation tells of who asks (RFC 4861 section 7.2.3).
fn told(source: Ipv6Addr, links: &Links) -> Option<(Ipv6Addr, Heard)> {
    let mac = links.source.filter(|_| !source.is_unspecified());
    mac.map(|mac| (source, Heard { mac: Some(mac), is_solicited: false, overrides: true }))
}

fn is_for_us(link: &Ethernet, own: MacAddress) -> bool {
    link.destination == own.0 || link.destination.starts_with(&[0x33, 0x33])
}

fn conflict(port: usize, address: Ipv6Addr, mac: MacAddress) -> Outcome {
    Outcome::Conflict(Conflict { port, address: address.into(), mac })
}

/// Asks for `address` out of `port`: all that may have it, or the MAC that it had (RFC 4861 section 7.2.2). False: no buffer, or
/// the port has no address to ask from.
pub fn solicit<W: Wire>(
    wire: &mut W,
    snapshot: &Snapshot,
    (port, vlan): (usize, Vlan),
    address: Ipv6Addr,
    to: Option<MacAddress>,
) -> bool {
    let own = &snapshot.ports[port];
    let Some(source) = own.address_towards6(address) else { return false };
    let Some(mut frame) = wire.allocate() else { return false };
    let destination = if to.is_some() { address } else { solicited_node(address) };
    let at = vlan.header_len();
    if !frame.resize(at + ipv6::HEADER_LEN + MESSAGE_LEN) {
        wire.release(frame);
        return false;
    }
    let to = to.unwrap_or_else(|| group_mac(destination));
    ethernet::write_header(frame.bytes_mut(), to, own.mac, vlan, TYPE_IPV6);
    let body = Discovery {
        head: Icmp6 { kind: kind::SOLICITATION, code: 0, checksum: U16::ZERO, rest: U32::ZERO },
        target: address.octets(),
    };
    let option = LinkOption { kind: icmp6::SOURCE_LINK, len: 1, mac: own.mac.0 };
    write_message(&mut frame.bytes_mut()[at..], (source, destination), &body, &option);
    wire.transmit(port, frame);
    true
}

/// Tells all nodes that an address is at `mac` (RFC 4861 section 7.2.6).
pub(super) fn announce<W: Wire>(wire: &mut W, port: usize, mac: MacAddress, address: Ipv6Addr) {
    let Some(mut frame) = wire.allocate() else { return };
    let at = Vlan::NONE.header_len();
    if !frame.resize(at + ipv6::HEADER_LEN + MESSAGE_LEN) {
        return wire.release(frame);
    }
    ethernet::write_header(frame.bytes_mut(), group_mac(ALL_NODES), mac, Vlan::NONE, TYPE_IPV6);
    let body = Discovery {
        head: Icmp6 {
            kind: kind::ADVERTISEMENT,
            code: 0,
            checksum: U16::ZERO,
            rest: U32::new(flags::OVERRIDE),
        },
        target: address.octets(),
    };
    let option = LinkOption { kind: icmp6::TARGET_LINK, len: 1, mac: mac.0 };
    write_message(&mut frame.bytes_mut()[at..], (address, ALL_NODES), &body, &option);
    wire.transmit(port, frame);
}

/// The answer to a solicitation of the host's for a VIP: nobody on the wire has it, weir does. `None`: it is something else, or
/// looks whether an address is taken.
pub fn tell_host(frame: &[u8], port: usize, snapshot: &Snapshot) -> Option<[u8; TOLD_LEN]> {
    let headers = headers(frame).filter(|headers| headers.vlan.network() == 0)?;
    let (body, _) = Discovery::ref_from_prefix(frame.get(headers.l4..)?).ok()?;
    let (source, target) = (Ipv6Addr::from(headers.ip.source), Ipv6Addr::from(body.target));
    let is_vip = snapshot.local6(port, target).is_some_and(|local| local.is_vip);
    if body.head.kind != kind::SOLICITATION || source.is_unspecified() || !is_vip {
        return None;
    }
    let mac = snapshot.ports[port].mac;
    let mut answer = [0; TOLD_LEN];
    let at = ethernet::write_header(&mut answer, mac, mac, Vlan::NONE, TYPE_IPV6);
    let body = Discovery {
        head: Icmp6 {
            kind: kind::ADVERTISEMENT,
            code: 0,
            checksum: U16::ZERO,
            rest: U32::new(flags::SOLICITED | flags::OVERRIDE),
        },
        target: target.octets(),
    };
    let option = LinkOption { kind: icmp6::TARGET_LINK, len: 1, mac: mac.0 };
    write_message(&mut answer[at..], (target, source), &body, &option);
    Some(answer)
}

/// Writes an IPv6 packet that holds a message of discovery.
fn write_message(
    packet: &mut [u8],
    (source, destination): (Ipv6Addr, Ipv6Addr),
    body: &Discovery,
    option: &LinkOption,
) {
    let header = Ipv6 {
        version_class_flow: U32::new(6 << 28),
        payload_len: U16::new(MESSAGE_LEN as u16),
        next_header: ICMPV6,
        hop_limit: ON_LINK,
        source: source.octets(),
        destination: destination.octets(),
    };
    let (front, message) = packet.split_at_mut(ipv6::HEADER_LEN);
    front.copy_from_slice(header.as_bytes());
    let (first, last) = message.split_at_mut(size_of::<Discovery>());
    first.copy_from_slice(body.as_bytes());
    last.copy_from_slice(option.as_bytes());
    let checksum = icmp6::checksum(&header, message).finish();
    message[2..4].copy_from_slice(checksum.as_bytes());
}

/// Where frames to a group go (RFC 2464 section 7).
pub(super) fn group_mac(group: Ipv6Addr) -> MacAddress {
    let [.., a, b, c, d] = group.octets();
    MacAddress([0x33, 0x33, a, b, c, d])
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
        && (source.is_unspecified() || may_be_source(source))
        && is_station(MacAddress(link.source))
        && [links.source, links.target].into_iter().flatten().all(is_station)
        && has_sense
}

/// Whether a solicitation for `target` goes to where this director listens, both as an IPv6 packet and as a frame: to the group of the
/// target or of all nodes, or to an address that `is_ours`. As the kernel has it: RFC 4861 asks for a certain
/// destination only of who has no address yet. `stations` are the MACs of the target and of the port.
fn is_addressed(
    headers: &Headers,
    target: Ipv6Addr,
    stations: [MacAddress; 2],
    is_ours: impl FnOnce(Ipv6Addr) -> bool,
) -> bool {
    let (destination, to) = (headers.destination(), MacAddress(headers.link.destination));
    let is_to_group = destination == solicited_node(target) || destination == ALL_NODES;
    let is_to_station = stations.contains(&to);
    is_to_group && (is_to_station || to == group_mac(destination))
        || is_to_station && (destination == target || is_ours(destination))
}

/// The group that whoever has an address listens to (RFC 4291 section 2.7.1).
pub(super) fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., g, h] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | g & 0xff, h)
}

/// Turns a solicitation into the advertisement that answers it (RFC 4861 section 7.2.4): to who asked, or to all nodes if that
/// has no address yet. For an address of a virtual router from a router, as what is announced at take-over says (RFC 9568 section
/// 6.4.2).
fn advertise<F: Frame>(
    frame: &mut F,
    vlan: Vlan,
    asked: &Message,
    ours: Ours,
    heard: Option<(Hop6, Heard)>,
) -> Outcome {
    let source = Ipv6Addr::from(asked.header.source);
    let (to, destination, solicited) = if source.is_unspecified() {
        (group_mac(ALL_NODES), ALL_NODES, 0)
    } else {
        (asked.links.source.unwrap_or(asked.station), source, flags::SOLICITED)
    };
    let at = vlan.header_len();
    if !frame.is_contiguous() || !frame.resize(at + ipv6::HEADER_LEN + MESSAGE_LEN) {
        return Outcome::Drop(DropReason::NoBuffer);
    }
    let router = if ours.is_virtual { flags::ROUTER } else { 0 };
    let body = Discovery {
        head: Icmp6 {
            kind: kind::ADVERTISEMENT,
            code: 0,
            checksum: U16::ZERO,
            rest: U32::new(router | flags::OVERRIDE | solicited),
        },
        target: asked.target.octets(),
    };
    let option = LinkOption { kind: icmp6::TARGET_LINK, len: 1, mac: ours.mac.0 };
    let bytes = frame.bytes_mut();
    bytes[..6].copy_from_slice(&to.0);
    bytes[6..12].copy_from_slice(&ours.mac.0);
    write_message(&mut bytes[at..], (asked.target, destination), &body, &option);
    Outcome::Answer(Answer::Nd, heard)
}

/// Turns an echo request to an address of ours into its reply, a packet of our own without extension headers.
fn echo<F: Frame>(frame: &mut F, (headers, head): (&Headers, Icmp6), ours: Ours, port: &Port) -> Outcome {
    let Headers { link, vlan, ip: header, l4, .. } = headers;
    let (l3, l4, end) = (vlan.header_len(), *l4, headers.end());
    let is_wrong = |mac: [u8; 6]| mac[0] & 1 != 0;
    let source = headers.source();
    let is_here = link.destination == ours.mac.0 || is_to_router(&link.destination, port);
    if !is_here || is_wrong(link.source) {
        return Outcome::Foreign;
    }
    if !ours.accepts {
        return Outcome::Drop(DropReason::NotAccepted);
    }
    if !may_be_source(source) {
        return Outcome::Drop(DropReason::BadIpHeader);
    }
    let pseudo = icmp6::pseudo(&header.source, &header.destination, end.saturating_sub(l4));
    if head.code != 0 || end > frame.len() || pseudo.behind(&[], sum_over(frame, l4, end)).fold() != 0xffff {
        return Outcome::Drop(DropReason::BadL4Header);
    }
    // The message moves to where the extension headers were.
    let (at, len) = (l3 + ipv6::HEADER_LEN, l3 + headers.bare_len());
    if l4 != at {
        let Some(bytes) = frame.bytes_mut().get_mut(..end) else {
            return Outcome::Drop(DropReason::LongFrame);
        };
        bytes.copy_within(l4..end, at);
        bytes[len..end].fill(0);
    }
    if let Err(reason) = trim(frame, len.max(FRAME_LEN_MIN)) {
        return Outcome::Drop(reason);
    }
    let bytes = frame.bytes_mut();
    bytes[..6].copy_from_slice(&link.source);
    bytes[6..12].copy_from_slice(&ours.mac.0);
    let answer = Ipv6 {
        payload_len: U16::new((len - at) as u16),
        next_header: ICMPV6,
        hop_limit: HOP_LIMIT,
        source: header.destination,
        destination: header.source,
        ..*header
    };
    bytes[l3..at].copy_from_slice(answer.as_bytes());
    // The addresses change places, which leaves their sum as it is.
    let (old, new) = (u16::from(kind::ECHO_REQUEST) << 8, u16::from(kind::ECHO_REPLY) << 8);
    let head =
        Icmp6 { kind: kind::ECHO_REPLY, checksum: Delta::NONE.word(old, new).apply(head.checksum), ..head };
    bytes[at..at + size_of::<Icmp6>()].copy_from_slice(head.as_bytes());
    Outcome::Answer(Answer::Echo, None)
}
