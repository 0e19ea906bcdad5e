//! Ethernet frames: those that carry an advertisement, and those that announce an address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::auth::AH_LEN;
use crate::checksum::Sum;
use crate::discard::Discard;
use crate::packet::Received;
use crate::settings::Mac;

/// IP protocol number of VRRP.
pub const PROTOCOL: u8 = 112;
/// IP protocol number of the authentication header.
pub const PROTOCOL_AH: u8 = 51;
/// TTL and hop limit of every advertisement: what was forwarded has less.
pub const TTL: u8 = 255;
/// The group of IPv4 (RFC 9568 section 5.1.1.2).
pub const GROUP4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// The group of IPv6 (RFC 9568 section 5.1.2.2).
pub const GROUP6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);
/// Internetwork control, as routing protocols mark themselves.
const TOS: u8 = 0xc0;

const ETHERNET_LEN: usize = 14;
const TAG_LEN: usize = 4;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
/// The shortest frame that goes on the wire, FCS aside.
const FRAME_LEN_MIN: usize = 60;
const BROADCAST: Mac = [0xff; 6];

/// The Ethernet address of a group.
pub fn group_mac(group: IpAddr) -> Mac {
    match group {
        // RFC 1112 section 6.4: the low 23 bits.
        IpAddr::V4(group) => {
            let [_, b, c, d] = group.octets();
            [0x01, 0x00, 0x5e, b & 0x7f, c, d]
        }
        // RFC 2464 section 7: the low 32 bits.
        IpAddr::V6(group) => {
            let [.., a, b, c, d] = group.octets();
            [0x33, 0x33, a, b, c, d]
        }
    }
}

/// The group of a family.
pub fn group(is_ipv6: bool) -> IpAddr {
    if is_ipv6 { GROUP6.into() } else { GROUP4.into() }
}

/// A received packet that carries a VRRP message.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// Who sent it.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// The IPv4 header without options, which the authentication covers.
    pub ip: Option<&'a [u8; IPV4_LEN]>,
    /// The authentication header.
    pub ah: Option<&'a [u8; AH_LEN]>,
    /// What it carries.
    pub message: Received<'a>,
}

impl<'a> Packet<'a> {
    /// Reads a frame. A tag that tells a priority alone is passed over.
    ///
    /// # Errors
    /// [`Discard::Malformed`].
    pub fn read(frame: &'a [u8]) -> Result<Self, Discard> {
        let ether_type = |at: usize| frame.get(at..at + 2).map(|t| u16::from_be_bytes([t[0], t[1]]));
        let is_priority_tag = || ether_type(ETHERNET_LEN).is_some_and(|control| control & 0xfff == 0);
        let (ether, at) = match ether_type(12) {
            Some(0x8100) if is_priority_tag() => (ether_type(16), ETHERNET_LEN + TAG_LEN),
            ether => (ether, ETHERNET_LEN),
        };
        let packet = frame.get(at..).ok_or(Discard::Malformed)?;
        match ether {
            Some(0x0800) => Self::read_ipv4(packet),
            Some(0x86dd) => Self::read_ipv6(packet),
            _ => Err(Discard::Malformed),
        }
    }

    fn read_ipv4(packet: &'a [u8]) -> Result<Self, Discard> {
        let ip: &[u8; IPV4_LEN] = packet.first_chunk().ok_or(Discard::Malformed)?;
        let (version, header_len) = (ip[0] >> 4, usize::from(ip[0] & 0xf) * 4);
        let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        let is_fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff != 0;
        let header = packet.get(..header_len).ok_or(Discard::Malformed)?;
        // What is behind the packet's end is padding of the frame.
        let payload = packet.get(header_len..total).ok_or(Discard::Malformed)?;
        if version != 4 || header_len < IPV4_LEN || is_fragment || Sum::default().bytes(header).finish() != 0
        {
            return Err(Discard::Malformed);
        }
        let (ah, message) = match ip[9] {
            PROTOCOL => (None, payload),
            PROTOCOL_AH => {
                let (ah, message) = payload.split_first_chunk().ok_or(Discard::Malformed)?;
                // The value covers options as well, and no router of VRRP sends any.
                if header_len != IPV4_LEN {
                    return Err(Discard::Malformed);
                }
                (Some(ah), message)
            }
            _ => return Err(Discard::Malformed),
        };
        Ok(Self {
            source: Ipv4Addr::new(ip[12], ip[13], ip[14], ip[15]).into(),
            destination: Ipv4Addr::new(ip[16], ip[17], ip[18], ip[19]).into(),
            ttl: ip[8],
            ip: Some(ip),
            ah,
            message: Received::new(message, false)?,
        })
    }

    fn read_ipv6(packet: &'a [u8]) -> Result<Self, Discard> {
        let ip: &[u8; IPV6_LEN] = packet.first_chunk().ok_or(Discard::Malformed)?;
        let len = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
        let payload = packet.get(IPV6_LEN..IPV6_LEN + len).ok_or(Discard::Malformed)?;
        if ip[0] >> 4 != 6 || ip[6] != PROTOCOL {
            return Err(Discard::Malformed);
        }
        let address = |at: usize| {
            let octets: [u8; 16] = ip[at..at + 16].try_into().unwrap_or_default();
            IpAddr::V6(Ipv6Addr::from(octets))
        };
        Ok(Self {
            source: address(8),
            destination: address(24),
            ttl: ip[7],
            ip: None,
            ah: None,
            message: Received::new(payload, true)?,
        })
    }
}

fn ethernet(to: Mac, from: Mac, ether_type: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(FRAME_LEN_MIN);
    frame.extend(to);
    frame.extend(from);
    frame.extend(ether_type.to_be_bytes());
    frame
}

/// An IPv4 header without options, complete but for its checksum.
pub(crate) fn ipv4_header(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    ident: u16,
    protocol: u8,
    payload_len: usize,
) -> [u8; IPV4_LEN] {
    let mut ip = [0; IPV4_LEN];
    ip[0] = 0x45;
    ip[1] = TOS;
    ip[2..4].copy_from_slice(&((IPV4_LEN + payload_len) as u16).to_be_bytes());
    ip[4..6].copy_from_slice(&ident.to_be_bytes());
    ip[8] = TTL;
    ip[9] = protocol;
    ip[12..16].copy_from_slice(&source.octets());
    ip[16..20].copy_from_slice(&destination.octets());
    ip
}

/// The frame of an IPv4 packet: a header as [`ipv4_header`] makes it, and the pieces behind it.
pub(crate) fn ipv4_frame(to: Mac, from: Mac, mut ip: [u8; IPV4_LEN], pieces: &[&[u8]]) -> Vec<u8> {
    let checksum = Sum::default().bytes(&ip).finish();
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    let mut frame = ethernet(to, from, 0x0800);
    frame.extend(ip);
    pieces.iter().for_each(|piece| frame.extend_from_slice(piece));
    frame
}

/// The frame of an IPv6 packet with hop limit 255.
fn ipv6_frame(to: Mac, from: Mac, route: (Ipv6Addr, Ipv6Addr), protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = ethernet(to, from, 0x86dd);
    let traffic_class = u32::from(TOS) << 20;
    frame.extend((6 << 28 | traffic_class).to_be_bytes());
    frame.extend((payload.len() as u16).to_be_bytes());
    frame.extend([protocol, TTL]);
    frame.extend(route.0.octets());
    frame.extend(route.1.octets());
    frame.extend_from_slice(payload);
    frame
}

/// The frame of an advertisement over IPv6.
pub(crate) fn advertisement6(to: Mac, from: Mac, route: (Ipv6Addr, Ipv6Addr), message: &[u8]) -> Vec<u8> {
    ipv6_frame(to, from, route, PROTOCOL, message)
}

/// What tells everybody that `address` is at `mac`: a gratuitous ARP request (RFC 5227 section 3) or an unsolicited
/// neighbour advertisement that overrides (RFC 4861 section 7.2.6).
pub fn announcement(address: IpAddr, mac: Mac) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => gratuitous_arp(address, mac),
        IpAddr::V6(address) => neighbor_advertisement(address, mac),
    }
}

fn gratuitous_arp(address: Ipv4Addr, mac: Mac) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, mac, 0x0806);
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend(address.octets());
    // As keepalived: nobody is asked, so everybody's address.
    frame.extend(BROADCAST);
    frame.extend(address.octets());
    frame.resize(FRAME_LEN_MIN, 0);
    frame
}

fn neighbor_advertisement(address: Ipv6Addr, mac: Mac) -> Vec<u8> {
    const ICMPV6: u8 = 58;
    /// Router and override, not solicited.
    const FLAGS: u8 = 0xa0;
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut message = vec![136, 0, 0, 0, FLAGS, 0, 0, 0];
    message.extend(address.octets());
    message.extend([2, 1]);
    message.extend(mac);
    let sum = Sum::default().bytes(&address.octets()).bytes(&all_nodes.octets());
    let sum = sum.bytes(&(message.len() as u32).to_be_bytes()).bytes(&[0, ICMPV6]).bytes(&message);
    message[2..4].copy_from_slice(&sum.finish().to_be_bytes());
    ipv6_frame(group_mac(all_nodes.into()), mac, (address, all_nodes), ICMPV6, &message)
}
