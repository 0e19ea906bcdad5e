//! From the client's packet to what the real server gets, and back.
//!
//! DR changes the MACs alone, which [`crate::director`] writes for every method; this file does NAT and the tunnels.
//! Checksums are updated incrementally (RFC 1624) and never verified, so a wrong one arrives wrong.

pub mod far;
pub mod fragment;
pub mod mss;
pub mod nat6;
pub mod plain;
pub mod plain6;
pub mod quoted;
pub mod sctp;
pub mod segment;

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, IntoBytes};

use crate::address::Addr4;
use crate::packet::{Frame, sum_over};
use crate::parse::Packet;
use crate::parse::pieces::LATER;
use crate::stats::DropReason;
use crate::wire::checksum::{Delta, Sum};
use crate::wire::encap::{Encap, Flow, Inner};
use crate::wire::ethernet::TYPE_IPV4;
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::Ipv6;
use crate::wire::l4::{Ports, Tcp, Udp};

/// The IPv4 header at `l3`, which `parse` has checked.
#[inline]
pub fn ipv4_mut(bytes: &mut [u8], l3: usize) -> Result<&mut Ipv4, DropReason> {
    match Ipv4::mut_from_prefix(bytes.get_mut(l3..).unwrap_or_default()) {
        Ok((header, _)) => Ok(header),
        Err(_) => Err(DropReason::Truncated),
    }
}

/// The IPv6 header at `l3`, which `parse::v6` has checked.
#[inline]
pub fn ipv6_mut(bytes: &mut [u8], l3: usize) -> Result<&mut Ipv6, DropReason> {
    match Ipv6::mut_from_prefix(bytes.get_mut(l3..).unwrap_or_default()) {
        Ok((header, _)) => Ok(header),
        Err(_) => Err(DropReason::Truncated),
    }
}

/// NAT towards the real server: destination address and port. `port` 0: the client's choice stays. ICMP has no ports
/// and no pseudo-header, and a piece that is not the first has neither.
#[inline]
pub fn to_server(bytes: &mut [u8], packet: &Packet, address: Addr4, port: u16) -> Result<(), DropReason> {
    let delta = ipv4_mut(bytes, packet.l3())?.set_destination(address);
    if matches!(packet.protocol, ipv4::ICMP | LATER) {
        return Ok(());
    }
    let l4 = packet.l4_bytes_mut(bytes);
    let port = if port == 0 { packet.destination_port } else { port };
    if packet.protocol == ipv4::SCTP {
        return sctp::update(l4, packet.l4_len(), |ports| _ = ports.set_destination(port));
    }
    let (ports, _) = Ports::mut_from_prefix(l4).map_err(|_| DropReason::Truncated)?;
    let ports_delta = ports.set_destination(port);
    update_l4(l4, packet, &[delta, ports_delta], (packet.source, address))
}

/// NAT towards the client: source address and port become the virtual server's.
#[inline]
pub fn to_client(bytes: &mut [u8], packet: &Packet, vip: Addr4, port: u16) -> Result<(), DropReason> {
    let delta = ipv4_mut(bytes, packet.l3())?.set_source(vip);
    if packet.protocol == LATER {
        return Ok(());
    }
    let l4 = packet.l4_bytes_mut(bytes);
    if packet.protocol == ipv4::SCTP {
        return sctp::update(l4, packet.l4_len(), |ports| _ = ports.set_source(port));
    }
    let (ports, _) = Ports::mut_from_prefix(l4).map_err(|_| DropReason::Truncated)?;
    let ports_delta = ports.set_source(port);
    update_l4(l4, packet, &[delta, ports_delta], (vip, packet.destination))
}

/// Brings the transport checksum up to date with changes of the pseudo-header and the ports. `ends` are the packet's
/// addresses after the change.
#[inline]
fn update_l4(
    l4: &mut [u8],
    packet: &Packet,
    deltas: &[Delta],
    ends: (Addr4, Addr4),
) -> Result<(), DropReason> {
    let apply = |checksum: U16| deltas.iter().fold(checksum, |sum, delta| delta.apply(sum));
    match packet.protocol {
        ipv4::TCP => {
            let (tcp, _) = Tcp::mut_from_prefix(l4).map_err(|_| DropReason::Truncated)?;
            tcp.checksum = apply(tcp.checksum);
        }
        ipv4::UDP => {
            let (udp, _) = Udp::mut_from_prefix(l4).map_err(|_| DropReason::Truncated)?;
            if udp.checksum == U16::ZERO {
                return make_udp_checksum(l4, ends);
            }
            udp.checksum = not_zero(apply(udp.checksum));
        }
        _ => {}
    }
    Ok(())
}

/// RFC 768: zero says that there is no checksum; one that computes to zero is sent as ones.
fn not_zero(checksum: U16) -> U16 {
    if checksum == U16::ZERO { U16::new(0xffff) } else { checksum }
}

/// A datagram that came without a checksum gets one, as the kernel's NAT gives it. One in several segments stays without, which says
/// the same to whoever gets it.
#[cold]
fn make_udp_checksum(l4: &mut [u8], (source, destination): (Addr4, Addr4)) -> Result<(), DropReason> {
    let (udp, _) = Udp::ref_from_prefix(l4).map_err(|_| DropReason::Truncated)?;
    let len = udp.len.get();
    let Some(datagram) = l4.get(..usize::from(len)) else { return Ok(()) };
    let pseudo = Sum::default().address(source).address(destination).word(u16::from(ipv4::UDP)).word(len);
    let checksum = not_zero(pseudo.bytes(datagram).finish());
    let (udp, _) = Udp::mut_from_prefix(l4).map_err(|_| DropReason::Truncated)?;
    udp.checksum = checksum;
    Ok(())
}

/// Cuts a frame to `len` bytes if it is longer.
#[inline]
pub fn trim<F: Frame>(frame: &mut F, len: usize) -> Result<(), DropReason> {
    if frame.len() <= len || frame.resize(len) { Ok(()) } else { Err(no_room(frame)) }
}

/// Why a frame can't get another length.
#[cold]
pub fn no_room<F: Frame>(frame: &F) -> DropReason {
    if frame.is_contiguous() { DropReason::NoBuffer } else { DropReason::LongFrame }
}

/// What the headers of a tunnel say besides what they take from the client's packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outer {
    /// What stands between the outer IPv4 header and the client's packet.
    pub encap: Encap,
    /// An address of ours.
    pub source: Addr4,
    /// The real server.
    pub destination: Addr4,
    /// Whether what must not be cut inside must not be cut outside either.
    pub keep_df: bool,
    /// Used where the outer packet may be cut.
    pub ident: u16,
}

/// Wraps the client's packet in an outer IPv4 header, as the kernel's tunnels do for IPVS.
pub fn into_tunnel<F: Frame>(frame: &mut F, packet: &Packet, outer: &Outer) -> Result<(), DropReason> {
    let flow = Flow { source: packet.source, destination: packet.destination, ports: ports(packet) };
    wrap::<F, Ipv4>(frame, packet.l3(), packet.total_len, flow, outer)
}

/// Both ports of a packet as they stand in its header.
#[inline]
fn ports(packet: &Packet) -> u32 {
    u32::from(packet.source_port) << 16 | u32::from(packet.destination_port)
}

/// As [`into_tunnel`], for the packet of `total_len` bytes at `l3`, whose header is an `I`.
fn wrap<F: Frame, I: Inner>(
    frame: &mut F,
    l3: usize,
    total_len: u16,
    flow: Flow,
    outer: &Outer,
) -> Result<(), DropReason> {
    let encap = outer.encap;
    // Ethernet padding stays out of the tunnel.
    trim(frame, l3 + usize::from(total_len))?;
    let rest = rest_of(frame, encap);
    let front = encap.header_len();
    if !frame.prepend(front) {
        return Err(DropReason::NoBuffer);
    }
    let bytes = frame.bytes_mut();
    bytes.copy_within(front..front + l3, 0);
    if I::ETHER_TYPE != TYPE_IPV4 {
        bytes[l3 - 2..l3].copy_from_slice(&TYPE_IPV4.to_be_bytes());
    }
    let inner = inner::<I>(bytes, l3 + front)?;
    let len = front - ipv4::HEADER_LEN + usize::from(total_len);
    let mut header = Ipv4::new(encap.protocol::<I>(), outer.source, outer.destination, len, inner.ttl());
    header.tos = outer_tos(inner.tos());
    if outer.keep_df && inner.dont_fragment() {
        header.fragment = U16::new(ipv4::DONT_FRAGMENT);
    } else {
        header.ident = U16::new(outer.ident);
    }
    header.refresh_checksum();
    let (head, behind) = bytes.split_at_mut(l3 + ipv4::HEADER_LEN);
    head[l3..].copy_from_slice(header.as_bytes());
    encap
        .write::<I>(behind, len, (outer.source, outer.destination), (flow, rest))
        .ok_or(DropReason::Truncated)
}

/// The sum over what a frame holds in other segments than the first, if a tunnel needs it.
#[inline]
fn rest_of<F: Frame>(frame: &F, encap: Encap) -> Sum {
    match encap.has_checksum() && !frame.is_contiguous() {
        true => sum_over(frame, frame.bytes().len(), frame.len()),
        false => Sum::default(),
    }
}

/// The header of the packet inside.
#[inline]
fn inner<I: Inner>(bytes: &[u8], at: usize) -> Result<&I, DropReason> {
    match I::ref_from_prefix(bytes.get(at..).unwrap_or_default()) {
        Ok((header, _)) => Ok(header),
        Err(_) => Err(DropReason::Truncated),
    }
}

/// RFC 3168 section 9.1.1, full functionality: a mark of congestion stays inside, the outside starts without.
fn outer_tos(inner: u8) -> u8 {
    // 3 is the mark, and 2 says "capable": where the upper bit is set, the lower one is cleared.
    inner & !(inner >> 1 & 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::heap::HeapFrame;
    use crate::parse::{Content, parse};

    const FROM: Addr4 = Addr4::new(10, 0, 0, 1);
    const TO: Addr4 = Addr4::new(192, 0, 2, 1);

    fn frame(protocol: u8, l4: &[u8]) -> HeapFrame {
        let mut bytes = vec![2; 12];
        bytes.extend_from_slice(&[0x08, 0x00]);
        bytes.extend_from_slice(Ipv4::new(protocol, FROM, TO, l4.len(), 64).as_bytes());
        bytes.extend_from_slice(l4);
        HeapFrame::new(&bytes)
    }

    fn packet(frame: &HeapFrame) -> Packet {
        let mut packet = Packet::default();
        assert_eq!(parse(frame, &mut packet), Content::Ipv4);
        packet
    }

    /// Sum over pseudo-header and segment: all ones when the checksum is right.
    fn l4_sum(frame: &HeapFrame, packet: &Packet) -> u16 {
        let l4 = &frame.bytes()[packet.l4()..];
        let pseudo = Sum::default().address(packet.source).address(packet.destination);
        pseudo.word(u16::from(packet.protocol)).word(l4.len() as u16).bytes(l4).fold()
    }

    #[test]
    fn nat_keeps_right_checksums_right_and_wrong_ones_equally_wrong() {
        bolero::check!().with_type::<(u32, u16, u16, [u8; 7], bool)>().for_each(
            |&(address, port, checksum, payload, udp)| {
                let address = Addr4::from_bits(address);
                let mut l4 = vec![0u8; if udp { 8 } else { 20 }];
                l4[..4].copy_from_slice(&[0x9c, 0x40, 0, 80]);
                if udp {
                    l4[5] = 8 + 7;
                    l4[6..8].copy_from_slice(&checksum.max(1).to_be_bytes());
                } else {
                    l4[12] = 0x50;
                    l4[16..18].copy_from_slice(&checksum.to_be_bytes());
                }
                l4.extend_from_slice(&payload);
                let mut frame = frame(if udp { ipv4::UDP } else { ipv4::TCP }, &l4);
                let before = packet(&frame);
                let sum = l4_sum(&frame, &before);
                to_server(frame.bytes_mut(), &before, address, port).expect("headers are there");
                if !address.is_unicast() {
                    return;
                }
                let after = packet(&frame);
                assert_eq!(after.destination, address);
                assert_eq!(after.destination_port, if port == 0 { 80 } else { port });
                let ones = |sum: u16| if sum == 0 { 0xffff } else { sum };
                assert_eq!(ones(l4_sum(&frame, &after)), ones(sum));
                let after = packet(&frame);
                to_server(frame.bytes_mut(), &after, TO, 80).expect("headers are there");
                assert_eq!(ones(l4_sum(&frame, &packet(&frame))), ones(sum));
            },
        );
    }

    #[test]
    fn nat_of_a_right_checksum_is_a_full_computation() {
        bolero::check!().with_type::<(u32, u16, u16, bool, bool)>().for_each(
            |&(address, port, filler, udp, to_the_client)| {
                let address = Addr4::from_bits(address);
                let mut l4 = vec![0u8; if udp { 8 } else { 20 }];
                l4[..4].copy_from_slice(&[0x9c, 0x40, 0, 80]);
                l4[if udp { 5 } else { 12 }] = if udp { 10 } else { 0x50 };
                l4.extend_from_slice(&filler.to_be_bytes());
                let at = if udp { 6 } else { 16 };
                let full = |frame: &mut HeapFrame| {
                    frame.bytes_mut()[34 + at..34 + at + 2].fill(0);
                    let sum = !l4_sum(frame, &packet(frame));
                    let sum = if udp && sum == 0 { 0xffff } else { sum };
                    frame.bytes_mut()[34 + at..34 + at + 2].copy_from_slice(&sum.to_be_bytes());
                };
                if !address.is_unicast() || port == 0 {
                    return;
                }
                let change = |frame: &mut HeapFrame| {
                    let facts = packet(frame);
                    let changed = match to_the_client {
                        true => to_client(frame.bytes_mut(), &facts, address, port),
                        false => to_server(frame.bytes_mut(), &facts, address, port),
                    };
                    changed.expect("headers are there");
                };
                let mut once = frame(if udp { ipv4::UDP } else { ipv4::TCP }, &l4);
                full(&mut once);
                change(&mut once);
                // With that added the checksum after the change is zero; and one more and one less.
                let field = u16::from_be_bytes([once.bytes()[34 + at], once.bytes()[35 + at]]);
                for near in [field.wrapping_sub(1), field, field.wrapping_add(1), filler] {
                    let filler = Sum::default().word(filler).word(near).fold();
                    let end = l4.len();
                    l4[end - 2..].copy_from_slice(&filler.to_be_bytes());
                    let mut updated = frame(if udp { ipv4::UDP } else { ipv4::TCP }, &l4);
                    full(&mut updated);
                    change(&mut updated);
                    let mut expected = updated.clone();
                    full(&mut expected);
                    assert_eq!(updated, expected);
                }
            },
        );
    }

    #[test]
    fn udp_without_checksum_gets_one_as_from_the_kernel() {
        let mut frame = frame(ipv4::UDP, &[0, 1, 0, 2, 0, 11, 0, 0, 7, 8, 9]);
        let facts = packet(&frame);
        to_client(frame.bytes_mut(), &facts, Addr4::new(10, 10, 10, 10), 53).expect("headers are there");
        assert_eq!(l4_sum(&frame, &packet(&frame)), 0xffff);
    }

    #[test]
    fn of_icmp_only_the_address_changes() {
        let mut frame = frame(ipv4::ICMP, &[3, 3, 1, 2, 3, 4, 5, 6]);
        let facts = packet(&frame);
        to_server(frame.bytes_mut(), &facts, Addr4::new(10, 10, 10, 10), 8080).expect("headers are there");
        assert_eq!(&frame.bytes()[34..], [3, 3, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_tunnel_carries_the_packet_without_padding_and_congestion_marks_stay_inside() {
        let mut frame = frame(ipv4::UDP, &[0, 1, 0, 2, 0, 8, 0, 0]);
        assert!(frame.resize(60));
        frame.bytes_mut()[15] = 0xb9 | 3;
        let header = ipv4_mut(frame.bytes_mut(), 14).expect("it is there");
        header.refresh_checksum();
        let facts = packet(&frame);
        let (source, destination) = (Addr4::new(1, 1, 1, 1), Addr4::new(2, 2, 2, 2));
        let outer = Outer { encap: Encap::Ipip, source, destination, keep_df: true, ident: 77 };
        into_tunnel(&mut frame, &facts, &outer).expect("there is headroom");
        let bytes = frame.bytes();
        assert_eq!(bytes.len(), 14 + 20 + 28);
        assert_eq!(bytes[15], 0xb8 | 2);
        assert_eq!((bytes[23], &bytes[18..20]), (4, &[0, 77][..]));
        assert!(ipv4::checksum_is_right(&bytes[14..34]));
        assert!(ipv4::checksum_is_right(&bytes[34..54]));
    }
}
