//! NAT of IPv6: what [`super::to_server`] and [`super::to_client`] do to packets of IPv4.
//!
//! The header has no checksum, those of TCP, UDP and ICMPv6 cover the addresses. Extension headers stay as they are: the
//! transport header stands where `parse::v6` has found it.

use std::net::Ipv6Addr;

use zerocopy::FromBytes;
use zerocopy::byteorder::network_endian::U16;

use super::{ipv6_mut, not_zero, sctp};
use crate::packet::{Frame, sum_over};
use crate::parse::Packet;
use crate::parse::pieces::LATER;
use crate::stats::DropReason;
use crate::wire::checksum::{Delta, Sum};
use crate::wire::icmp6::{ICMPV6, Icmp6};
use crate::wire::ipv4;
use crate::wire::l4::{Ports, Tcp, Udp};

/// NAT towards the real server: destination address and port. `port` 0: the client's choice stays. ICMPv6 has no ports.
pub fn to_server(bytes: &mut [u8], packet: &Packet, address: Ipv6Addr, port: u16) -> Result<(), DropReason> {
    let delta = ipv6_mut(bytes, packet.l3())?.set_destination(address);
    let port = if port == 0 { packet.destination_port } else { port };
    change_transport(bytes, packet, delta, |ports| ports.set_destination(port))
}

/// NAT towards the client: source address and port become the virtual server's.
pub fn to_client(bytes: &mut [u8], packet: &Packet, vip: Ipv6Addr, port: u16) -> Result<(), DropReason> {
    let delta = ipv6_mut(bytes, packet.l3())?.set_source(vip);
    change_transport(bytes, packet, delta, |ports| ports.set_source(port))
}

/// Changes the ports and brings the checksum up to date with that and with `delta`, the change of the addresses.
fn change_transport(
    bytes: &mut [u8],
    packet: &Packet,
    delta: Delta,
    change: impl FnOnce(&mut Ports) -> Delta,
) -> Result<(), DropReason> {
    if packet.protocol == LATER {
        return Ok(());
    }
    let l4 = packet.l4_bytes_mut(bytes);
    if packet.protocol == ICMPV6 {
        let (icmp, _) = Icmp6::mut_from_prefix(l4).map_err(|_| DropReason::Truncated)?;
        icmp.checksum = delta.apply(icmp.checksum);
        return Ok(());
    }
    if packet.protocol == ipv4::SCTP {
        return sctp::update(l4, packet.l4_len(), |ports| _ = change(ports));
    }
    let (ports, _) = Ports::mut_from_prefix(l4).map_err(|_| DropReason::Truncated)?;
    let ports = change(ports);
    let apply = |checksum: U16| ports.apply(delta.apply(checksum));
    match packet.protocol {
        ipv4::TCP => {
            let (tcp, _) = Tcp::mut_from_prefix(l4).map_err(|_| DropReason::Truncated)?;
            tcp.checksum = apply(tcp.checksum);
        }
        ipv4::UDP => {
            let (udp, _) = Udp::mut_from_prefix(l4).map_err(|_| DropReason::Truncated)?;
            if udp.checksum == U16::ZERO {
                return make_udp_checksum(bytes, packet);
            }
            udp.checksum = not_zero(apply(udp.checksum));
        }
        _ => {}
    }
    Ok(())
}

/// A datagram without a checksum that lies in several buffers gets one, before its addresses change: the rest of this file sees the
/// first buffer alone.
#[cold]
pub fn give_checksum<F: Frame>(frame: &mut F, packet: &Packet) -> Result<(), DropReason> {
    let header = *ipv6_mut(frame.bytes_mut(), packet.l3())?;
    let udp = Udp::ref_from_prefix(packet.l4_bytes(frame.bytes())).ok().map(|(udp, _)| *udp);
    let Some(udp) = udp.filter(|udp| packet.protocol == ipv4::UDP && udp.checksum == U16::ZERO) else {
        return Ok(());
    };
    let len = usize::from(udp.len.get());
    if len > packet.l4_len() {
        return Ok(());
    }
    let pseudo = Sum::default().bytes(&header.source).bytes(&header.destination);
    let pseudo = pseudo.long(len as u32).word(u16::from(ipv4::UDP));
    let checksum = not_zero(pseudo.behind(&[], sum_over(frame, packet.l4(), packet.l4() + len)).finish());
    let l4 = packet.l4_bytes_mut(frame.bytes_mut());
    let (udp, _) = Udp::mut_from_prefix(l4).map_err(|_| DropReason::Truncated)?;
    udp.checksum = checksum;
    Ok(())
}

/// A datagram that came without a checksum, as tunnels may send it (RFC 6935), gets one, as the kernel's NAT gives it. One in
/// several buffers has got it before ([`give_checksum`]), unless it is a piece.
#[cold]
fn make_udp_checksum(bytes: &mut [u8], packet: &Packet) -> Result<(), DropReason> {
    let header = *ipv6_mut(bytes, packet.l3())?;
    let l4 = packet.l4_bytes_mut(bytes);
    let (udp, _) = Udp::ref_from_prefix(l4).map_err(|_| DropReason::Truncated)?;
    let len = udp.len.get();
    let Some(datagram) = l4.get(..usize::from(len)) else { return Ok(()) };
    let pseudo = Sum::default().bytes(&header.source).bytes(&header.destination);
    let pseudo = pseudo.word(len).word(u16::from(ipv4::UDP));
    let checksum = not_zero(pseudo.bytes(datagram).finish());
    let (udp, _) = Udp::mut_from_prefix(l4).map_err(|_| DropReason::Truncated)?;
    udp.checksum = checksum;
    Ok(())
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;
    use crate::parse::v6::{ends, parse};
    use crate::wire::ethernet::Vlan;
    use crate::wire::sctp::Sctp;

    const L3: usize = 14;

    /// A packet behind an Ethernet header, and behind a destination options header if `is_behind`.
    fn frame(source: u128, destination: u128, protocol: u8, l4: &[u8], is_behind: bool) -> Vec<u8> {
        let options: &[u8] = if is_behind { &[protocol, 0, 1, 4, 0, 0, 0, 0] } else { &[] };
        let mut bytes = [&[2; 12][..], &[0x86, 0xdd, 0x6b, 0x90, 0, 7]].concat();
        bytes.extend(((options.len() + l4.len()) as u16).to_be_bytes());
        bytes.extend([if is_behind { 60 } else { protocol }, 64]);
        bytes.extend(source.to_be_bytes());
        bytes.extend(destination.to_be_bytes());
        bytes.extend(options);
        bytes.extend(l4);
        bytes
    }

    fn facts(bytes: &[u8]) -> Packet {
        parse(bytes, bytes.len(), Vlan::NONE).expect("a packet")
    }

    /// The sum over pseudo-header and transport: all ones where the checksum is right.
    fn sum(bytes: &[u8]) -> u16 {
        let packet = facts(bytes);
        let l4 = packet.l4_bytes(bytes);
        let pseudo = Sum::default().bytes(&bytes[L3 + 8..L3 + 40]).word(l4.len() as u16);
        match pseudo.word(u16::from(packet.protocol)).bytes(l4).fold() {
            0 => 0xffff,
            sum => sum,
        }
    }

    /// A transport header with 40000 to 80, this checksum and these bytes behind it.
    fn transport(protocol: u8, checksum: u16, payload: &[u8]) -> Vec<u8> {
        let mut l4 = match protocol {
            ipv4::TCP => [&[0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 16, 9, 9][..], &[0; 4]].concat(),
            ipv4::UDP => vec![0x9c, 0x40, 0, 80, 0, 8 + payload.len() as u8, 0, 0],
            _ => vec![1, 4, 0, 0, 0, 0, 0, 0],
        };
        let at = checksum_at(protocol);
        l4[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        l4.extend(payload);
        l4
    }

    fn checksum_at(protocol: u8) -> usize {
        match protocol {
            ipv4::TCP => 16,
            ipv4::UDP => 6,
            _ => 2,
        }
    }

    const PROTOCOLS: [u8; 3] = [ipv4::TCP, ipv4::UDP, ICMPV6];

    #[test]
    fn right_checksums_stay_right_and_wrong_ones_as_wrong_both_ways() {
        bolero::check!().with_type::<([u128; 3], [u16; 2], [u8; 7], u8, bool)>().for_each(
            |&([source, destination, new], [port, checksum], payload, which, is_behind)| {
                let protocol = PROTOCOLS[usize::from(which) % 3];
                let source = source >> 8 | 0x20 << 120;
                let l4 = transport(protocol, checksum.max(1), &payload);
                let mut bytes = frame(source, destination, protocol, &l4, is_behind);
                let (before, was) = (sum(&bytes), bytes.clone());
                let packet = facts(&bytes);
                to_server(&mut bytes, &packet, new.into(), port).expect("headers are there");
                let after = facts(&bytes);
                assert_eq!(ends(&bytes, L3).expect("a header").destination, Ipv6Addr::from(new));
                if protocol != ICMPV6 {
                    assert_eq!(after.destination_port, if port == 0 { 80 } else { port });
                }
                assert_eq!(sum(&bytes), before);
                assert_eq!(bytes.len(), was.len());
                to_server(&mut bytes, &after, destination.into(), 80).expect("headers are there");
                let vip = new >> 8 | 0x20 << 120;
                let packet = facts(&bytes);
                to_client(&mut bytes, &packet, vip.into(), port).expect("headers are there");
                assert_eq!(
                    (ends(&bytes, L3).expect("a header").source, sum(&bytes)),
                    (Ipv6Addr::from(vip), before)
                );
            },
        );
    }

    #[test]
    fn an_update_is_a_full_computation_and_no_datagram_goes_without_checksum() {
        bolero::check!().with_type::<([u128; 3], u16, u16, u8)>().for_each(
            |&([source, destination, new], port, filler, which)| {
                let protocol = PROTOCOLS[usize::from(which) % 3];
                let source = source >> 8 | 0x20 << 120;
                let at = L3 + 40 + checksum_at(protocol);
                let full = |bytes: &mut Vec<u8>| {
                    bytes[at..at + 2].fill(0);
                    let packet = facts(bytes);
                    let l4 = packet.l4_bytes(bytes);
                    let pseudo = Sum::default().bytes(&bytes[L3 + 8..L3 + 40]).word(l4.len() as u16);
                    let made = pseudo.word(u16::from(protocol)).bytes(l4).finish();
                    let made = if protocol == ipv4::UDP { not_zero(made) } else { made };
                    bytes[at..at + 2].copy_from_slice(made.as_bytes());
                };
                let mut bytes = frame(
                    source,
                    destination,
                    protocol,
                    &transport(protocol, 0, &filler.to_be_bytes()),
                    false,
                );
                if protocol == ipv4::UDP {
                    let mut without = bytes.clone();
                    let packet = facts(&without);
                    to_server(&mut without, &packet, new.into(), port).expect("headers are there");
                    let mut expected = without.clone();
                    full(&mut expected);
                    assert_eq!(without, expected, "one without gets one");
                }
                full(&mut bytes);
                let packet = facts(&bytes);
                to_server(&mut bytes, &packet, new.into(), port).expect("headers are there");
                let mut expected = bytes.clone();
                full(&mut expected);
                assert_eq!(bytes, expected);
            },
        );
    }

    #[test]
    fn sctp_changes_by_its_ports_alone() {
        let mut l4 = vec![0x9c, 0x40, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 4];
        let sum = crc32c::crc32c(&l4);
        Sctp::mut_from_prefix(&mut l4).expect("a header").0.checksum.set(sum);
        let mut bytes = frame(0x2001 << 112 | 1, 2, ipv4::SCTP, &l4, true);
        let packet = facts(&bytes);
        to_server(&mut bytes, &packet, 77.into(), 9).expect("headers are there");
        let l4 = packet.l4_bytes_mut(&mut bytes);
        assert_eq!(l4[..4], [0x9c, 0x40, 0, 9]);
        let header = Sctp::mut_from_prefix(l4).expect("a header").0;
        let sum = std::mem::take(&mut header.checksum);
        assert_eq!(sum, crc32c::crc32c(l4));
    }

    #[test]
    fn a_header_that_is_cut_off_is_truncated() {
        let bytes = frame(0x2001 << 112 | 1, 2, ipv4::TCP, &transport(ipv4::TCP, 1, &[]), false);
        let packet = facts(&bytes);
        for len in [L3 + 39, L3 + 41, L3 + 59] {
            let mut cut = bytes[..len].to_vec();
            assert_eq!(to_server(&mut cut, &packet, 77.into(), 9), Err(DropReason::Truncated));
        }
    }
}
