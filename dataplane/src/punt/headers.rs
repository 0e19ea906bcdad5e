//! What can be told of a frame of any kind without trusting anything in it: for frames that go to the host or come from
//! it, about which the data path's own parser has nothing to say (IPv6, fragments) or never looked.

use zerocopy::FromBytes;

use crate::address::{Addr4, Wire4};
use crate::wire::ethernet::{self, Arp, Vlan};
use crate::wire::icmp6::ICMPV6;
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::l4::{Icmp, Ports, Tcp};

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// An ARP packet: its operation, and the address it is about.
    Arp(u16, Addr4),
    /// An IP packet of either version.
    Ip(Ip),
    /// Anything else.
    Other,
}

/// An IP packet's headers. Addresses of IPv4 stand in the first four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ip {
    /// Version 6, else 4.
    pub is_v6: bool,
    /// From whom.
    pub source: [u8; 16],
    /// To whom.
    pub destination: [u8; 16],
    /// What follows the fixed header; extension headers of IPv6 are not passed over.
    pub protocol: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// Part of a packet that was cut.
    pub is_fragment: bool,
    /// TCP, UDP, SCTP; an echo's identifier stands for both; else 0.
    pub source_port: u16,
    /// TCP, UDP, SCTP; an echo's identifier stands for both; else 0.
    pub destination_port: u16,
    /// TCP's flags, ICMP's type; else 0.
    pub detail: u8,
}

/// Next header: this is a fragment.
const FRAGMENT_V6: u8 = 44;
/// ICMPv6 types of echo request and reply.
pub const ECHO_V6: [u8; 2] = [128, 129];
/// ICMP types of echo request and reply.
pub const ECHO_V4: [u8; 2] = [8, 0];

/// Reads a frame: its tag and what it holds.
pub fn read(bytes: &[u8]) -> (Vlan, Content) {
    let Some((_, vlan, ether_type, rest)) = ethernet::read(bytes) else {
        return (Vlan::NONE, Content::Other);
    };
    let content = match ether_type {
        ethernet::TYPE_ARP => Arp::ref_from_prefix(rest)
            .ok()
            .map(|(arp, _)| Content::Arp(arp.operation.get(), arp.target.get())),
        ethernet::TYPE_IPV4 => read_v4(rest).map(Content::Ip),
        ethernet::TYPE_IPV6 => read_v6(rest).map(Content::Ip),
        _ => None,
    };
    (vlan, content.unwrap_or(Content::Other))
}

fn read_v4(bytes: &[u8]) -> Option<Ip> {
    let (header, _) = Ipv4::ref_from_prefix(bytes).ok()?;
    if header.version_ihl >> 4 != 4 {
        return None;
    }
    let wide = |address: Wire4| {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&address.octets());
        bytes
    };
    let ip = Ip {
        is_v6: false,
        source: wide(header.source),
        destination: wide(header.destination),
        protocol: header.protocol,
        hop_limit: header.ttl,
        is_fragment: header.is_fragment(),
        source_port: 0,
        destination_port: 0,
        detail: 0,
    };
    let end = usize::from(header.total_len.get()).min(bytes.len());
    Some(ip.with_transport(bytes.get(header.header_len().max(ipv4::HEADER_LEN)..end).unwrap_or_default()))
}

fn read_v6(bytes: &[u8]) -> Option<Ip> {
    let (header, rest) = Ipv6::ref_from_prefix(bytes).ok()?;
    if header.version() != 6 {
        return None;
    }
    let ip = Ip {
        is_v6: true,
        source: header.source,
        destination: header.destination,
        protocol: header.next_header,
        hop_limit: header.hop_limit,
        is_fragment: header.next_header == FRAGMENT_V6,
        source_port: 0,
        destination_port: 0,
        detail: 0,
    };
    debug_assert_eq!(bytes.len() - rest.len(), ipv6::HEADER_LEN);
    let len = usize::from(header.payload_len.get()).min(rest.len());
    Some(ip.with_transport(&rest[..len]))
}

impl Ip {
    fn with_transport(mut self, bytes: &[u8]) -> Self {
        if self.is_fragment {
            return self;
        }
        match self.protocol {
            ipv4::TCP | ipv4::UDP | ipv4::SCTP => {
                if let Ok((ports, _)) = Ports::ref_from_prefix(bytes) {
                    self.source_port = ports.source.get();
                    self.destination_port = ports.destination.get();
                }
                if let (ipv4::TCP, Ok((tcp, _))) = (self.protocol, Tcp::ref_from_prefix(bytes)) {
                    self.detail = tcp.flags;
                }
            }
            ipv4::ICMP | ICMPV6 => {
                if let Ok((icmp, _)) = Icmp::ref_from_prefix(bytes) {
                    self.detail = icmp.kind;
                    if self.is_echo() {
                        let identifier = (icmp.rest.get() >> 16) as u16;
                        self.source_port = identifier;
                        self.destination_port = identifier;
                    }
                }
            }
            _ => {}
        }
        self
    }

    /// Whether this is ping, in either direction.
    pub fn is_echo(&self) -> bool {
        let types = if self.is_v6 { ECHO_V6 } else { ECHO_V4 };
        self.protocol == if self.is_v6 { ICMPV6 } else { ipv4::ICMP } && types.contains(&self.detail)
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;

    #[test]
    fn padding_is_no_part_of_a_packet() {
        let ports = [0x12, 0x34, 0x56, 0x78];
        let read_behind = |ether_type: u16, header: &[u8]| {
            let mut frame = vec![2; 12];
            frame.extend(ether_type.to_be_bytes());
            frame.extend([header, &ports].concat());
            match read(&frame).1 {
                Content::Ip(ip) => (ip.source_port, ip.destination_port),
                other => panic!("{other:?}"),
            }
        };
        let v4 = |payload| {
            Ipv4::new(ipv4::UDP, Addr4::new(10, 0, 0, 1), Addr4::new(10, 0, 0, 2), payload, 64)
                .as_bytes()
                .to_vec()
        };
        let v6 = |payload| [&[0x60, 0, 0, 0, 0, payload, ipv4::UDP, 64][..], &[0x20; 32]].concat();
        for payload in 0..4 {
            assert_eq!(read_behind(0x0800, &v4(payload)), (0, 0), "{payload} bytes");
            assert_eq!(read_behind(0x86dd, &v6(payload as u8)), (0, 0), "{payload} bytes");
        }
        assert_eq!(read_behind(0x0800, &v4(4)), (0x1234, 0x5678));
        assert_eq!(read_behind(0x86dd, &v6(4)), (0x1234, 0x5678));
    }

    #[test]
    fn any_bytes_can_be_read() {
        bolero::check!().for_each(|bytes: &[u8]| {
            read(bytes);
            for ether_type in [0x0800u16, 0x0806, 0x86dd, 0x8100] {
                let mut frame = vec![2; 12];
                frame.extend(ether_type.to_be_bytes());
                frame.extend(bytes);
                read(&frame);
            }
        });
    }
}
