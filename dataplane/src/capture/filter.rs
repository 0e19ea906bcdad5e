//! Which frames a capture wants.
//!
//! A frame is wanted for what stands in any of its layers: its own addresses, those of a packet in its tunnel, those of the
//! packet that an ICMP error quotes. Within one layer all that is asked for must be right. Nothing in it is trusted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arrayvec::ArrayVec;
use ipnet::IpNet;
use zerocopy::FromBytes;

use crate::address::Wire4;
use crate::stats::DropReason;
use crate::wire::ethernet::{self, Arp, Ethernet, Tag};
use crate::wire::icmp6::ICMPV6;
use crate::wire::ipv4::{self, FRAGMENT_OFFSET, Ipv4};
use crate::wire::ipv6::Ipv6;
use crate::wire::l4::{ICMP_LEN, Icmp, Ports, icmp};

/// Values of one kind that a filter takes.
pub const VALUES_MAX: usize = 16;
/// Packets within packets that are looked into.
const DEPTH: u8 = 2;
/// Tags of a frame that are passed over.
const TAGS: u8 = 2;
/// IPv4's protocol of IPv6 in a tunnel.
const IPV6_IN_IP: u8 = 41;
/// ICMPv6 types below this are errors.
const ICMPV6_ERRORS: u8 = 128;

/// A protocol that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// ARP.
    Arp,
    /// This one on IP.
    Ip(u8),
}

/// What is asked for. Of each kind one of the values has to be right; a kind without any asks for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Frames as they come in.
    pub received: bool,
    /// Frames as they go out.
    pub sent: bool,
    /// Frames that are dropped for one of these.
    pub drops: Reasons,
    /// On the port with this number.
    pub port: Option<usize>,
    /// Of these protocols.
    pub protocols: ArrayVec<Kind, VALUES_MAX>,
    /// From or to one of these networks.
    pub networks: ArrayVec<IpNet, VALUES_MAX>,
    /// From or to one of these ports of TCP, UDP or SCTP.
    pub l4_ports: ArrayVec<u16, VALUES_MAX>,
    /// Bytes of a frame that are copied at most.
    pub snap_len: usize,
}

/// Some reasons to drop a frame: a bit for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reasons(u64);

const _: () = assert!(DropReason::ALL.len() <= u64::BITS as usize);

impl Filter {
    /// Wants nothing.
    pub const NOTHING: Filter = Filter {
        received: false,
        sent: false,
        drops: Reasons(0),
        port: None,
        protocols: ArrayVec::new_const(),
        networks: ArrayVec::new_const(),
        l4_ports: ArrayVec::new_const(),
        snap_len: 0,
    };

    /// Frames that are dropped for these reasons as well.
    pub fn with_drops(self, reasons: &[DropReason]) -> Self {
        let drops = reasons.iter().fold(self.drops.0, |drops, &reason| drops | bit(reason));
        Self { drops: Reasons(drops), ..self }
    }

    /// Whether frames that are dropped for `reason` are wanted.
    pub(super) fn wants_drop(&self, reason: DropReason) -> bool {
        self.drops.0 & bit(reason) != 0
    }

    /// Whether a frame at the port with this number is wanted.
    pub(super) fn wants(&self, frame: &[u8], port: u16) -> bool {
        if self.port.is_some_and(|wanted| wanted != usize::from(port)) {
            return false;
        }
        if self.protocols.is_empty() && self.networks.is_empty() && self.l4_ports.is_empty() {
            return true;
        }
        let Ok((link, mut rest)) = Ethernet::ref_from_prefix(frame) else { return false };
        let mut ether_type = link.ether_type.get();
        for _ in 0..TAGS {
            if let (ethernet::TYPE_VLAN, Ok((tag, behind))) = (ether_type, Tag::ref_from_prefix(rest)) {
                (ether_type, rest) = (tag.ether_type.get(), behind);
            }
        }
        match ether_type {
            ethernet::TYPE_ARP => self.wants_arp(rest),
            ethernet::TYPE_IPV4 => self.wants_v4(rest, DEPTH),
            ethernet::TYPE_IPV6 => self.wants_v6(rest, DEPTH),
            _ => false,
        }
    }

    fn wants_arp(&self, bytes: &[u8]) -> bool {
        let Ok((arp, _)) = Arp::ref_from_prefix(bytes) else { return false };
        self.is_asked(Kind::Arp, v4(arp.sender), v4(arp.target), None)
    }

    fn wants_v4(&self, bytes: &[u8], depth: u8) -> bool {
        let Ok((header, _)) = Ipv4::ref_from_prefix(bytes) else { return false };
        let end = usize::from(header.total_len.get()).min(bytes.len());
        let body = bytes.get(header.header_len().max(ipv4::HEADER_LEN)..end).unwrap_or_default();
        let is_first = header.fragment.get() & FRAGMENT_OFFSET == 0;
        let ends = (v4(header.source), v4(header.destination));
        header.version_ihl >> 4 == 4 && self.wants_ip(header.protocol, ends, is_first.then_some(body), depth)
    }

    fn wants_v6(&self, bytes: &[u8], depth: u8) -> bool {
        let Ok((header, rest)) = Ipv6::ref_from_prefix(bytes) else { return false };
        let body = &rest[..usize::from(header.payload_len.get()).min(rest.len())];
        let v6 = |address: [u8; 16]| IpAddr::V6(Ipv6Addr::from(address));
        let ends = (v6(header.source), v6(header.destination));
        header.version() == 6 && self.wants_ip(header.next_header, ends, Some(body), depth)
    }

    /// `body` is absent if it is not the beginning of what the packet carries.
    fn wants_ip(&self, protocol: u8, ends: (IpAddr, IpAddr), body: Option<&[u8]>, depth: u8) -> bool {
        let body = body.unwrap_or_default();
        let ports = match protocol {
            ipv4::TCP | ipv4::UDP | ipv4::SCTP => Ports::ref_from_prefix(body).ok().map(|(ports, _)| ports),
            _ => None,
        };
        let ports = ports.map(|ports| [ports.source.get(), ports.destination.get()]);
        if self.is_asked(Kind::Ip(protocol), ends.0, ends.1, ports) {
            return true;
        }
        let Some(depth) = depth.checked_sub(1) else { return false };
        match protocol {
            ipv4::IPIP => self.wants_v4(body, depth),
            IPV6_IN_IP => self.wants_v6(body, depth),
            ipv4::ICMP => match Icmp::ref_from_prefix(body) {
                Ok((Icmp { kind: icmp::ECHO_REPLY | icmp::ECHO_REQUEST, .. }, _)) | Err(_) => false,
                Ok((_, quoted)) => self.wants_v4(quoted, depth),
            },
            ICMPV6 if body.first().is_some_and(|kind| *kind < ICMPV6_ERRORS) => {
                self.wants_v6(body.get(ICMP_LEN..).unwrap_or_default(), depth)
            }
            _ => false,
        }
    }

    fn is_asked(&self, kind: Kind, source: IpAddr, destination: IpAddr, ports: Option<[u16; 2]>) -> bool {
        let is_in = |network: &IpNet| network.contains(&source) || network.contains(&destination);
        (self.protocols.is_empty() || self.protocols.contains(&kind))
            && (self.networks.is_empty() || self.networks.iter().any(is_in))
            && (self.l4_ports.is_empty()
                || ports.is_some_and(|ports| ports.iter().any(|port| self.l4_ports.contains(port))))
    }
}

fn bit(reason: DropReason) -> u64 {
    1 << reason as u32
}

fn v4(address: Wire4) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(address.octets()))
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;
    use crate::address::Addr4;
    use crate::wire::ethernet::MacAddress;

    const CLIENT: Addr4 = Addr4::new(198, 51, 100, 7);
    const VIP: Addr4 = Addr4::new(192, 0, 2, 1);
    const REAL: Addr4 = Addr4::new(10, 0, 0, 11);

    fn v4_packet(protocol: u8, source: Addr4, destination: Addr4, body: &[u8]) -> Vec<u8> {
        [Ipv4::new(protocol, source, destination, body.len(), 64).as_bytes(), body].concat()
    }

    fn tcp() -> Vec<u8> {
        v4_packet(ipv4::TCP, CLIENT, VIP, &[&[0x10, 0, 0, 80][..], &[0; 16]].concat())
    }

    fn frame(ether_type: u16, packet: &[u8]) -> Vec<u8> {
        [&[2; 12][..], &ether_type.to_be_bytes(), packet].concat()
    }

    fn filter(protocols: &[Kind], networks: &[&str], l4_ports: &[u16]) -> Filter {
        Filter {
            protocols: protocols.iter().copied().collect(),
            networks: networks.iter().map(|it| it.parse().unwrap()).collect(),
            l4_ports: l4_ports.iter().copied().collect(),
            ..Filter::NOTHING
        }
    }

    #[test]
    fn a_frame_is_wanted_for_any_layer_in_which_all_is_right() {
        let (arp, tcp_kind, udp, icmp) = (Kind::Arp, Kind::Ip(6), Kind::Ip(17), Kind::Ip(1));
        let direct = frame(0x0800, &tcp());
        let tagged = frame(0x8100, &[&[0, 7, 8, 0][..], &tcp()].concat());
        let tunnel = frame(0x0800, &v4_packet(ipv4::IPIP, Addr4::new(10, 0, 0, 1), REAL, &tcp()));
        let quoted = [&[icmp::UNREACHABLE, 3, 0, 0, 0, 0, 0, 0][..], &tcp()].concat();
        let error = frame(0x0800, &v4_packet(ipv4::ICMP, REAL, CLIENT, &quoted));
        for it in [&direct, &tagged, &tunnel, &error] {
            for wanted in [
                filter(&[], &[], &[]),
                filter(&[tcp_kind], &[], &[]),
                filter(&[udp, tcp_kind], &["192.0.2.0/24"], &[]),
                filter(&[], &["198.51.100.7/32"], &[80]),
                filter(&[], &["203.0.113.0/24", "192.0.2.1/32"], &[4096]),
            ] {
                assert!(wanted.wants(it, 0), "{wanted:?} {it:02x?}");
            }
            for unwanted in [
                filter(&[udp], &[], &[]),
                filter(&[arp], &["192.0.2.0/24"], &[]),
                filter(&[], &["203.0.113.0/24"], &[]),
                filter(&[], &["2001:db8::/32"], &[]),
                filter(&[], &["192.0.2.1/32"], &[81]),
                Filter { port: Some(1), ..filter(&[tcp_kind], &[], &[]) },
            ] {
                assert!(!unwanted.wants(it, 0), "{unwanted:?} {it:02x?}");
            }
        }
        // A layer's values are not mixed with another's.
        assert!(filter(&[icmp], &["10.0.0.11/32"], &[]).wants(&error, 0));
        assert!(!filter(&[tcp_kind], &["10.0.0.11/32"], &[]).wants(&error, 0));
        assert!(!filter(&[icmp], &["192.0.2.1/32"], &[]).wants(&error, 0));
        let asks = Arp::new(Arp::REQUEST, (MacAddress([2; 6]), REAL), (MacAddress([0; 6]), VIP));
        let asks = frame(0x0806, asks.as_bytes());
        assert!(filter(&[arp], &["192.0.2.1/32"], &[]).wants(&asks, 0));
        assert!(filter(&[], &["10.0.0.0/8"], &[]).wants(&asks, 0));
        assert!(
            !filter(&[arp], &[], &[80]).wants(&asks, 0) && !filter(&[tcp_kind], &[], &[]).wants(&asks, 0)
        );
    }

    #[test]
    fn a_later_piece_has_no_ports_and_ipv6_has_addresses() {
        let mut piece = tcp();
        piece[7] = 1;
        let piece = frame(0x0800, &piece);
        assert!(filter(&[Kind::Ip(6)], &["192.0.2.1/32"], &[]).wants(&piece, 0));
        assert!(!filter(&[], &[], &[80]).wants(&piece, 0));
        let v6 = [&[0x60, 0, 0, 0, 0, 4, 17, 64][..], &[0x20; 16], &[0x30; 16], &[0, 53, 1, 0]].concat();
        let v6 = frame(0x86dd, &v6);
        assert!(filter(&[Kind::Ip(17)], &["2020::/16"], &[53]).wants(&v6, 0));
        assert!(!filter(&[], &["2021::/16"], &[]).wants(&v6, 0));
    }

    #[test]
    fn any_bytes_can_be_looked_at() {
        let asked = filter(&[Kind::Ip(6)], &["192.0.2.1/32"], &[80]);
        bolero::check!().for_each(|bytes: &[u8]| {
            asked.wants(bytes, 0);
            for ether_type in [0x0800u16, 0x0806, 0x86dd, 0x8100] {
                asked.wants(&frame(ether_type, bytes), 0);
                asked.wants(&frame(ether_type, &[&[0x45, 0][..], bytes].concat()), 0);
            }
        });
    }
}
