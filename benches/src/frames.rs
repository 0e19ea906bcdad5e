//! Frames as they come in, and the addresses of the one network that the benches know.

use std::net::Ipv6Addr;

use weir_config::model::MacAddress;
use weir_dataplane::address::Addr4;
use weir_dataplane::wire::checksum::Sum;
use weir_dataplane::wire::ethernet::{Arp, BROADCAST, TYPE_ARP, TYPE_IPV4, TYPE_IPV6, Vlan, write_header};
use weir_dataplane::wire::ipv4::{self, Ipv4};
use weir_dataplane::wire::ipv6::Ipv6;
use zerocopy::IntoBytes;

/// The port's own MAC.
pub const OWN: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
/// The gateway's MAC, behind which the clients are.
pub const GATEWAY: MacAddress = MacAddress([2, 0, 0, 0, 0, 0xfe]);
/// The virtual server's address.
pub const VIP: Addr4 = Addr4::new(10, 0, 0, 100);
/// The first client; others follow.
pub const CLIENT: Addr4 = Addr4::new(100, 64, 0, 0);

/// The IPv6 virtual server's address.
pub const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100);
/// The network of the IPv6 clients.
pub const CLIENTS6: u128 = 0x2001_0db8_0001 << 80;

/// Address and port.
pub type End = (Addr4, u16);
/// The same of IPv6.
pub type End6 = (Ipv6Addr, u16);

/// The client of flow number `flow`.
pub fn client(flow: u32) -> End {
    (CLIENT.plus(flow / 1_000), 1_024 + (flow % 1_000) as u16)
}

/// The IPv6 client of flow number `flow`: each is one of its own.
pub fn client6(flow: u32) -> End6 {
    (Ipv6Addr::from_bits(CLIENTS6 | u128::from(flow)), 1_024 + (flow % 1_000) as u16)
}

/// The IPv6 real server with this number, as `lab::virtual_server6` has it.
pub fn server6(number: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number)
}

/// The real server with this last octet.
pub fn server(octet: u8) -> Addr4 {
    Addr4::new(10, 0, 0, octet)
}

/// An IPv4 packet in an untagged frame from the gateway.
pub fn ipv4(protocol: u8, source: Addr4, destination: Addr4, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 18];
    let len = write_header(&mut frame, OWN, GATEWAY, Vlan::NONE, TYPE_IPV4);
    frame.truncate(len);
    frame.extend_from_slice(Ipv4::new(protocol, source, destination, payload.len(), 64).as_bytes());
    frame.extend_from_slice(payload);
    frame.resize(frame.len().max(60), 0);
    frame
}

/// An IPv6 packet without extension headers in an untagged frame from the gateway.
pub fn ipv6(protocol: u8, source: Ipv6Addr, destination: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 18];
    let len = write_header(&mut frame, OWN, GATEWAY, Vlan::NONE, TYPE_IPV6);
    frame.truncate(len);
    let header = Ipv6 {
        version_class_flow: (6 << 28).into(),
        payload_len: (payload.len() as u16).into(),
        next_header: protocol,
        hop_limit: 64,
        source: source.octets(),
        destination: destination.octets(),
    };
    frame.extend_from_slice(header.as_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A TCP segment without payload.
pub fn tcp(source: End, destination: End, flags: u8) -> Vec<u8> {
    let mut segment = segment(source.1, destination.1, flags);
    put_checksum(&mut segment, 16, (ipv4::TCP, source.0, destination.0));
    ipv4(ipv4::TCP, source.0, destination.0, &segment)
}

/// The same of IPv6.
pub fn tcp6(source: End6, destination: End6, flags: u8) -> Vec<u8> {
    let mut segment = segment(source.1, destination.1, flags);
    let pseudo = Sum::default().bytes(&source.0.octets()).bytes(&destination.0.octets());
    let sum = pseudo.word(u16::from(ipv4::TCP)).word(segment.len() as u16).bytes(&segment).finish();
    segment[16..18].copy_from_slice(sum.as_bytes());
    ipv6(ipv4::TCP, source.0, destination.0, &segment)
}

fn segment(source: u16, destination: u16, flags: u8) -> Vec<u8> {
    let mut segment = Vec::with_capacity(20);
    segment.extend_from_slice(&source.to_be_bytes());
    segment.extend_from_slice(&destination.to_be_bytes());
    segment.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 1, 0, 0, 0, 0, 0]);
    segment
}

/// Puts the checksum of a segment or datagram of IPv4 in its place `at`.
fn put_checksum(l4: &mut [u8], at: usize, (protocol, source, destination): (u8, Addr4, Addr4)) {
    l4[at..at + 2].fill(0);
    let pseudo = Sum::default().address(source).address(destination);
    let sum = pseudo.word(protocol.into()).word(l4.len() as u16).bytes(l4).finish();
    l4[at..at + 2].copy_from_slice(sum.as_bytes());
}

/// A UDP datagram with `len` bytes of payload.
pub fn udp(source: End, destination: End, len: usize) -> Vec<u8> {
    let mut datagram = datagram(source.1, destination.1, len);
    put_checksum(&mut datagram, 6, (ipv4::UDP, source.0, destination.0));
    ipv4(ipv4::UDP, source.0, destination.0, &datagram)
}

/// The same of IPv6, with a checksum of its own making.
pub fn udp6(source: End6, destination: End6, len: usize) -> Vec<u8> {
    ipv6(ipv4::UDP, source.0, destination.0, &datagram(source.1, destination.1, len))
}

fn datagram(source: u16, destination: u16, len: usize) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(8 + len);
    datagram.extend_from_slice(&source.to_be_bytes());
    datagram.extend_from_slice(&destination.to_be_bytes());
    datagram.extend_from_slice(&(8 + len as u16).to_be_bytes());
    datagram.extend_from_slice(&[0x12, 0x34]);
    datagram.resize(8 + len, 0xa5);
    datagram
}

/// An SCTP packet with one chunk of this type.
pub fn sctp(source: End, destination: End, chunk: u8) -> Vec<u8> {
    let mut packet = Vec::with_capacity(32);
    packet.extend_from_slice(&source.1.to_be_bytes());
    packet.extend_from_slice(&destination.1.to_be_bytes());
    packet.extend_from_slice(&[0; 8]);
    packet.extend_from_slice(&[chunk, 0, 0, 20]);
    packet.resize(32, 0);
    ipv4(ipv4::SCTP, source.0, destination.0, &packet)
}

/// An ICMP message with its checksum; `rest` is the second word, `quote` what follows it.
pub fn icmp(source: Addr4, destination: Addr4, (kind, code): (u8, u8), rest: u32, quote: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend_from_slice(&rest.to_be_bytes());
    message.extend_from_slice(quote);
    let checksum = Sum::default().bytes(&message).finish();
    message[2..4].copy_from_slice(checksum.as_bytes());
    ipv4(ipv4::ICMP, source, destination, &message)
}

/// The same frame with an 802.1Q tag.
pub fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    let mut tagged = frame[..12].to_vec();
    tagged.extend_from_slice(&[0x81, 0]);
    tagged.extend_from_slice(&vlan.to_be_bytes());
    tagged.extend_from_slice(&frame[12..]);
    tagged
}

/// The same packet with other flags and fragment offset, its checksum right again.
pub fn with_fragment(mut frame: Vec<u8>, fragment: u16) -> Vec<u8> {
    frame[20..22].copy_from_slice(&fragment.to_be_bytes());
    with_ip_checksum(frame)
}

/// The same packet with another identification, its checksum right again.
pub fn with_ident(mut frame: Vec<u8>, ident: u16) -> Vec<u8> {
    frame[18..20].copy_from_slice(&ident.to_be_bytes());
    with_ip_checksum(frame)
}

/// The same packet with another TTL, its checksum right again.
pub fn with_ttl(mut frame: Vec<u8>, ttl: u8) -> Vec<u8> {
    frame[22] = ttl;
    with_ip_checksum(frame)
}

fn with_ip_checksum(mut frame: Vec<u8>) -> Vec<u8> {
    frame[24..26].fill(0);
    let checksum = Sum::default().bytes(&frame[14..34]).finish();
    frame[24..26].copy_from_slice(checksum.as_bytes());
    frame
}

/// An ARP packet: a broadcast question about `target`, or an answer to weir's own.
pub fn arp(operation: u16, sender: (MacAddress, Addr4), target: (MacAddress, Addr4)) -> Vec<u8> {
    let to = if operation == Arp::REQUEST { BROADCAST } else { OWN };
    let mut frame = vec![0; 18];
    let len = write_header(&mut frame, to, sender.0, Vlan::NONE, TYPE_ARP);
    frame.truncate(len);
    frame.extend_from_slice(Arp::new(operation, sender, target).as_bytes());
    frame.resize(60, 0);
    frame
}
