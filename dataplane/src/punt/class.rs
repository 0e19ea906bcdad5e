//! Which frames are not for the data path. Asked only about frames that the data path has no use for.

use zerocopy::FromBytes;

use super::flows::Flows;
use super::headers::{self, Content, Ip};
use crate::address::Addr4;
use crate::parse::Packet;
use crate::snapshot::Port;
use crate::stats::PuntClass;
use crate::wire::ethernet::{self, BROADCAST, MacAddress, TYPE_IPV6};
use crate::wire::icmp6::ICMPV6;
use crate::wire::ipv4;
use crate::wire::ipv6;
use crate::wire::l4::flags;

/// The group of VRRP routers, 224.0.0.18 (RFC 9568 section 5.1.1.2).
pub const VRRP_GROUP_V4: Addr4 = Addr4::new(224, 0, 0, 18);
/// The MAC of that group.
const VRRP_GROUP_V4_MAC: MacAddress = MacAddress([0x01, 0x00, 0x5e, 0x00, 0x00, 0x12]);
/// The MAC of that group.
const VRRP_GROUP_V6_MAC: MacAddress = MacAddress([0x33, 0x33, 0x00, 0x00, 0x00, 0x12]);

/// Whether an IPv4 packet is an advertisement for the VRRP routers of `port`: protocol 112, or that behind an
/// authentication header, to the group or, from a unicast peer, to an address of the port. The link's own network
/// only, with a tag that tells a priority or without one: routers are per port, not per VLAN.
pub fn vrrp(bytes: &[u8], packet: &Packet, port: &Port) -> Option<PuntClass> {
    let is_vrrp = match packet.protocol {
        ipv4::VRRP => true,
        ipv4::AH => packet.l4_bytes(bytes).first() == Some(&ipv4::VRRP),
        _ => false,
    };
    if !is_vrrp || packet.vlan.network() != 0 {
        return None;
    }
    if packet.destination == VRRP_GROUP_V4 {
        return bytes.starts_with(&VRRP_GROUP_V4_MAC.0).then_some(PuntClass::VrrpMulticast);
    }
    let is_own = bytes.starts_with(&port.mac.0) && port.has_address(packet.destination);
    is_own.then_some(PuntClass::VrrpUnicast)
}

/// As [`vrrp`], for an IPv6 packet, of which nothing has been read yet.
pub fn vrrp_v6(bytes: &[u8], port: &Port) -> Option<PuntClass> {
    let (link, vlan, ether_type, rest) = ethernet::read(bytes)?;
    let (header, behind) = ipv6::Ipv6::ref_from_prefix(rest).ok()?;
    let is_whole = usize::from(header.payload_len.get()) <= behind.len();
    let is_vrrp = ether_type == TYPE_IPV6
        && vlan.network() == 0
        && header.version() == 6
        && header.next_header == ipv4::VRRP
        && header.source[0] != 0xff
        && link.source[0] & 1 == 0;
    if !is_vrrp || !is_whole {
        return None;
    }
    if header.destination == ipv6::VRRP_GROUP {
        return (link.destination == VRRP_GROUP_V6_MAC.0).then_some(PuntClass::VrrpMulticast);
    }
    let is_unicast = header.destination[0] != 0xff && link.destination == port.mac.0;
    is_unicast.then_some(PuntClass::VrrpUnicast)
}

/// IP protocol number of OSPF.
const OSPF: u8 = 89;
/// UDP ports of BFD: control, echo, multihop (RFC 5881 section 4, RFC 5883 section 5).
const BFD_PORTS: [u16; 3] = [3784, 3785, 4784];
/// ICMPv6 types of neighbour and router discovery (RFC 4861 section 4).
const DISCOVERY: std::ops::RangeInclusive<u8> = 133..=137;

/// Whether a frame to `mac` goes to everybody or to a group of this link alone: IPv4's 224.0.0.0/24, IPv6's groups, those
/// of bridges and LLDP (IEEE 802.1Q table 8-1). Others would have to be asked for.
pub fn is_link_group(mac: [u8; 6]) -> bool {
    mac == BROADCAST.0
        || mac.starts_with(&[0x01, 0x00, 0x5e, 0x00, 0x00])
        || mac.starts_with(&[0x33, 0x33])
        || mac.starts_with(&[0x01, 0x80, 0xc2, 0x00, 0x00]) && mac[5] < 0x10
}

/// What a frame for the host is taken for. That it is for the host has been found out.
pub fn host(bytes: &[u8], flows: &Flows, cycles: u64) -> PuntClass {
    let is_group = bytes.first().is_some_and(|first| first & 1 != 0);
    match headers::read(bytes).1 {
        Content::Arp(..) if is_group => PuntClass::ArpRequest,
        Content::Arp(..) => PuntClass::ArpReply,
        Content::Ip(ip) => host_ip(&ip, is_group, flows, cycles),
        Content::Other if is_group => PuntClass::Group,
        Content::Other => PuntClass::Other,
    }
}

fn host_ip(ip: &Ip, is_group: bool, flows: &Flows, cycles: u64) -> PuntClass {
    // RFC 5881 section 5: TTL 255 can't have passed a router.
    let is_bfd = ip.protocol == ipv4::UDP && ip.hop_limit == 255 && BFD_PORTS.contains(&ip.destination_port);
    if ip.is_fragment {
        PuntClass::Fragments
    } else if ip.protocol == OSPF || is_bfd {
        PuntClass::Routing
    } else if ip.protocol == ICMPV6 && ip.is_v6 && DISCOVERY.contains(&ip.detail) && ip.hop_limit == 255 {
        PuntClass::Neighbor
    } else if is_group {
        PuntClass::Group
    } else if flows.knows(ip, cycles) {
        PuntClass::Established
    } else {
        match ip.protocol {
            ipv4::TCP if ip.detail & (flags::SYN | flags::ACK) == flags::SYN => PuntClass::TcpSyn,
            ipv4::TCP => PuntClass::Tcp,
            ipv4::UDP => PuntClass::Udp,
            ipv4::ICMP | ICMPV6 => PuntClass::Icmp,
            _ => PuntClass::Other,
        }
    }
}
