//! What stands between the outer header of a tunnel and the client's packet: nothing (IPIP, RFC 2003), UDP and GUE
//! (draft-ietf-intarea-gue, version 0), or GRE (RFC 2784).

use std::net::Ipv6Addr;

use weir_config::model::{Family, TunnelChecksum};
use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::checksum::Sum;
use super::ethernet::{TYPE_IPV4, TYPE_IPV6};
use super::ipv4::Ipv4;
use super::ipv6::Ipv6;
use super::l4::{UDP_LEN, Udp};
use super::{ipv4, ipv6};
use crate::address::Addr4;

/// Length of GUE's base header, in bytes.
const GUE_LEN: usize = 4;
/// Length of GRE's header without a checksum, in bytes.
const GRE_LEN: usize = 4;
/// What GRE's checksum and the reserved word behind it add.
const GRE_SUM_LEN: usize = 4;
/// In GRE's first byte: there is a checksum.
const GRE_CHECKSUM: u8 = 0x80;
/// Where a GUE tunnel's flows come from: the dynamic ports of RFC 6335 section 6.
const SOURCE_PORTS_FROM: u16 = 0xc000;
/// Bits of a source port that the flow chooses.
const SOURCE_PORT_BITS: u32 = 14;

/// The addresses of an outer header.
pub trait Ends {
    /// Their part of the sum over a pseudo-header.
    fn sum(self) -> Sum;
}

impl Ends for (Addr4, Addr4) {
    #[inline]
    fn sum(self) -> Sum {
        Sum::default().address(self.0).address(self.1)
    }
}

impl Ends for (Ipv6Addr, Ipv6Addr) {
    #[inline]
    fn sum(self) -> Sum {
        Sum::default().bytes(&self.0.octets()).bytes(&self.1.octets())
    }
}

/// The header of a packet that a tunnel carries: what the outer headers take from it, and what they call it.
pub trait Inner: FromBytes + KnownLayout + Immutable + Unaligned {
    /// In IP headers and in GUE's.
    const PROTOCOL: u8;
    /// On Ethernet and in GRE's header.
    const ETHER_TYPE: u16;

    /// Differentiated services and the marks of congestion.
    fn tos(&self) -> u8;
    /// The hops that are left to it.
    fn ttl(&self) -> u8;
    /// Whether an outer header that can be cut has to say that it must not be.
    fn dont_fragment(&self) -> bool;
}

impl Inner for Ipv4 {
    const PROTOCOL: u8 = ipv4::IPIP;
    const ETHER_TYPE: u16 = TYPE_IPV4;

    #[inline]
    fn tos(&self) -> u8 {
        self.tos
    }

    #[inline]
    fn ttl(&self) -> u8 {
        self.ttl
    }

    #[inline]
    fn dont_fragment(&self) -> bool {
        self.dont_fragment()
    }
}

impl Inner for Ipv6 {
    const PROTOCOL: u8 = ipv6::IN_IP;
    const ETHER_TYPE: u16 = TYPE_IPV6;

    #[inline]
    fn tos(&self) -> u8 {
        self.traffic_class()
    }

    #[inline]
    fn ttl(&self) -> u8 {
        self.hop_limit
    }

    /// Its sender is told by weir what is too big; what a router on the way to the real server has to cut, that may (RFC 4213
    /// section 3.2.1).
    #[inline]
    fn dont_fragment(&self) -> bool {
        false
    }
}

/// How a real server's packets are wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encap {
    /// The packet alone.
    Ipip,
    /// Generic UDP encapsulation.
    Gue {
        /// UDP port of the real server.
        port: u16,
        /// Of the UDP header. One that is offloaded to the other end is for packets whose own checksum is not made yet: as in
        /// the kernel, a packet that is forwarded gets a usual one.
        checksum: TunnelChecksum,
    },
    /// Generic routing encapsulation.
    Gre {
        /// Of the header.
        checksum: TunnelChecksum,
    },
}

impl Encap {
    /// Bytes in front of the client's packet, the outer IPv4 header among them.
    #[inline]
    pub const fn header_len(self) -> usize {
        ipv4::HEADER_LEN + self.shim_len()
    }

    /// As [`Encap::header_len`], with an outer IPv6 header.
    #[inline]
    pub const fn header_len6(self) -> usize {
        ipv6::HEADER_LEN + self.shim_len()
    }

    /// Bytes between the outer header and the client's packet.
    #[inline]
    const fn shim_len(self) -> usize {
        match self {
            Self::Ipip => 0,
            Self::Gue { .. } => UDP_LEN + GUE_LEN,
            Self::Gre { checksum: TunnelChecksum::None } => GRE_LEN,
            Self::Gre { checksum: TunnelChecksum::Csum | TunnelChecksum::RemCsum } => GRE_LEN + GRE_SUM_LEN,
        }
    }

    /// The outer header's protocol.
    #[inline]
    pub const fn protocol<I: Inner>(self) -> u8 {
        match self {
            Self::Ipip => I::PROTOCOL,
            Self::Gue { .. } => ipv4::UDP,
            Self::Gre { .. } => ipv4::GRE,
        }
    }

    /// Whether all bytes are summed.
    #[inline]
    pub const fn has_checksum(self) -> bool {
        match self {
            Self::Ipip => false,
            Self::Gue { checksum, .. } | Self::Gre { checksum } => !matches!(checksum, TunnelChecksum::None),
        }
    }

    /// Writes what stands behind the outer header. `behind` is what follows that header, the client's packet included, as far as the
    /// first buffer holds it; `len` is the length of all. `ends` are the outer addresses; `flow` is the client's, for the outer source
    /// port. `rest` is the sum over what lies in other buffers, where there is a checksum.
    ///
    /// `None`: `behind` is shorter than the headers, which can't be.
    #[inline]
    pub fn write<I: Inner>(
        self,
        behind: &mut [u8],
        len: usize,
        ends: impl Ends,
        (flow, rest): (Flow, Sum),
    ) -> Option<()> {
        match self {
            Self::Ipip => {}
            Self::Gue { port, .. } => {
                let len = len as u16;
                *behind.first_chunk_mut()? = gue::<I>(port, len, flow);
                if self.has_checksum() {
                    let pseudo = ends.sum().word(u16::from(ipv4::UDP));
                    let sum = pseudo.word(len).bytes(behind).behind(behind, rest).finish();
                    // Zero would say that there is none (RFC 768).
                    let sum = if sum == U16::ZERO { U16::MAX_VALUE } else { sum };
                    behind[6..8].copy_from_slice(sum.as_bytes());
                }
            }
            Self::Gre { .. } => {
                *behind.first_chunk_mut()? = gre::<I>();
                if self.has_checksum() {
                    behind[0] = GRE_CHECKSUM;
                    behind.get_mut(GRE_LEN..GRE_LEN + GRE_SUM_LEN)?.fill(0);
                    let sum = Sum::default().bytes(behind).behind(behind, rest).finish();
                    behind[GRE_LEN..GRE_LEN + 2].copy_from_slice(sum.as_bytes());
                }
            }
        }
        Some(())
    }

    /// What a quoted outer header of `protocol` and the bytes behind it say: the tunnel, of what family the client's packet in
    /// it is, and at what offset behind the outer header that begins. `None`: it is no tunnel that weir makes, or too little is
    /// quoted.
    pub fn read(protocol: u8, behind: &[u8]) -> Option<(Self, Family, usize)> {
        let carried = |protocol| match protocol {
            ipv4::IPIP => Some(Family::V4),
            ipv6::IN_IP => Some(Family::V6),
            _ => None,
        };
        match protocol {
            ipv4::IPIP | ipv6::IN_IP => Some((Self::Ipip, carried(protocol)?, 0)),
            ipv4::UDP => {
                let (udp, rest) = Udp::ref_from_prefix(behind).ok()?;
                // Version 0 and no control message; the rest of the byte counts words of options.
                let &[first @ 0..=0x1f, protocol, ..] = rest.first_chunk::<GUE_LEN>()? else { return None };
                let gue =
                    Self::Gue { port: udp.destination.get(), checksum: seen(udp.checksum != U16::ZERO) };
                Some((gue, carried(protocol)?, UDP_LEN + GUE_LEN + usize::from(first) * 4))
            }
            ipv4::GRE => {
                let &[flags, 0, high, low] = behind.first_chunk::<GRE_LEN>()? else { return None };
                let gre = Self::Gre { checksum: seen(flags == GRE_CHECKSUM) };
                let carried = match u16::from_be_bytes([high, low]) {
                    TYPE_IPV4 => Family::V4,
                    TYPE_IPV6 => Family::V6,
                    _ => return None,
                };
                (flags & !GRE_CHECKSUM == 0).then(|| (gre, carried, gre.shim_len()))
            }
            _ => None,
        }
    }

    /// Whether a packet of this flow comes from that port in such a tunnel: in those without ports, from any.
    pub fn comes_from(self, flow: Flow, port: u16) -> bool {
        !matches!(self, Self::Gue { .. }) || source_port(flow) == port
    }

    /// Whether both lead to the same device of a real server, whatever checksums say.
    pub fn is_alike(self, other: Self) -> bool {
        match (self, other) {
            (Self::Ipip, Self::Ipip) | (Self::Gre { .. }, Self::Gre { .. }) => true,
            (Self::Gue { port, .. }, Self::Gue { port: other, .. }) => port == other,
            _ => false,
        }
    }
}

/// GRE's header without a checksum.
#[inline]
pub const fn gre<I: Inner>() -> [u8; GRE_LEN] {
    let [high, low] = I::ETHER_TYPE.to_be_bytes();
    [0, 0, high, low]
}

/// The headers of a GUE tunnel to `port` without a checksum. `len`: they and what follows them.
#[inline]
pub fn gue<I: Inner>(port: u16, len: u16, flow: Flow) -> [u8; UDP_LEN + GUE_LEN] {
    let udp = Udp {
        source: U16::new(source_port(flow)),
        destination: U16::new(port),
        len: U16::new(len),
        checksum: U16::ZERO,
    };
    let mut headers = [0; UDP_LEN + GUE_LEN];
    headers[..UDP_LEN].copy_from_slice(udp.as_bytes());
    // Version 0, no control message, no options; what follows; no flags.
    headers[UDP_LEN + 1] = I::PROTOCOL;
    headers
}

/// The port that a tunnel packet comes from, by what stands behind its outer header; of a tunnel without ports anything.
pub fn source_of(behind: &[u8]) -> u16 {
    behind.first_chunk().map_or(0, |port| u16::from_be_bytes(*port))
}

fn seen(is_there: bool) -> TunnelChecksum {
    if is_there { TunnelChecksum::Csum } else { TunnelChecksum::None }
}

/// A client's flow, as far as the way that its packets take depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// The client.
    pub source: Addr4,
    /// The VIP.
    pub destination: Addr4,
    /// Both ports as they stand in the header; 0 if there are none.
    pub ports: u32,
}

impl Flow {
    /// Of IPv6: what its addresses come to. Numbers that stand for them are another worker's others.
    pub fn of_ipv6(source: Ipv6Addr, destination: Ipv6Addr, ports: u32) -> Self {
        let short = |address: Ipv6Addr| {
            let bits = u128::from(address);
            let mixed = ((bits >> 64) as u64).wrapping_mul(SPREAD);
            Addr4::from_bits(((mixed ^ mixed >> 32 ^ bits as u64).wrapping_mul(SPREAD) >> 32) as u32)
        };
        Self { source: short(source), destination: short(destination), ports }
    }
}

/// Odd, and without pattern: 2^64 divided by the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The outer source port of a flow in a GUE tunnel: always the same for one flow, evenly spread over flows, so that routers and
/// the queues of real servers' NICs spread them too. Not secret: who aims at one port of these aims at one queue of one server.
#[inline]
fn source_port(flow: Flow) -> u16 {
    let ends = u64::from(flow.source.bits()) << 32 | u64::from(flow.destination.bits());
    let mixed = ends.wrapping_mul(SPREAD);
    let mixed = (mixed ^ mixed >> 32 ^ u64::from(flow.ports)).wrapping_mul(SPREAD);
    SOURCE_PORTS_FROM | (mixed >> (u64::BITS - SOURCE_PORT_BITS)) as u16
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const FLOW: Flow =
        Flow { source: Addr4::new(10, 0, 0, 1), destination: Addr4::new(192, 0, 2, 1), ports: 0x9c40_0050 };
    const ENDS: (Addr4, Addr4) = (Addr4::new(10, 99, 0, 1), Addr4::new(10, 99, 0, 11));
    const KINDS: [Encap; 5] = [
        Encap::Ipip,
        Encap::Gue { port: 6080, checksum: TunnelChecksum::None },
        Encap::Gue { port: 6080, checksum: TunnelChecksum::Csum },
        Encap::Gre { checksum: TunnelChecksum::None },
        Encap::Gre { checksum: TunnelChecksum::Csum },
    ];

    #[test]
    fn what_was_written_is_read_again() {
        bolero::check!().with_type::<(Vec<u8>, u32)>().for_each(|(packet, ports)| {
            for encap in KINDS {
                let shim = encap.header_len() - ipv4::HEADER_LEN;
                let (len, flow) = (shim + packet.len(), Flow { ports: *ports, ..FLOW });
                let mut behind = vec![0xee; shim];
                behind.extend_from_slice(packet);
                encap.write::<Ipv4>(&mut behind, len, ENDS, (flow, Sum::default())).expect("there is room");
                assert_eq!(&behind[shim..], packet);
                let read = Encap::read(encap.protocol::<Ipv4>(), &behind);
                assert_eq!(read, Some((encap, Family::V4, shim)));
                encap.write::<Ipv6>(&mut behind, len, ENDS, (flow, Sum::default())).expect("there is room");
                assert_eq!(&behind[shim..], packet);
                let read = Encap::read(encap.protocol::<Ipv6>(), &behind);
                assert_eq!(read, Some((encap, Family::V6, shim)));
            }
        });
    }

    #[test]
    fn what_is_summed_is_right() {
        for len in [0, 1, 20, 1471] {
            let packet = vec![0xa7; len];
            let gue = Encap::Gue { port: 6080, checksum: TunnelChecksum::Csum };
            let mut behind = [&[0; 12][..], &packet].concat();
            gue.write::<Ipv4>(&mut behind, 12 + len, ENDS, (FLOW, Sum::default())).expect("there is room");
            let pseudo = Sum::default().address(ENDS.0).address(ENDS.1).word(17).word(behind.len() as u16);
            assert_eq!(pseudo.bytes(&behind).fold(), 0xffff);
            let mut behind = [&[0; 8][..], &packet].concat();
            Encap::Gre { checksum: TunnelChecksum::Csum }
                .write::<Ipv6>(&mut behind, 8 + len, ENDS, (FLOW, Sum::default()))
                .expect("there is room");
            assert_eq!(Sum::default().bytes(&behind).fold(), 0xffff);
        }
    }

    #[test]
    fn others_tunnels_are_not_read() {
        let gre = |head: [u8; 4]| Encap::read(ipv4::GRE, &[&head[..], &[0; 40]].concat());
        assert!(gre([0, 0, 8, 0]).is_some());
        for head in [[0x20, 0, 8, 0], [0x90, 0, 8, 0], [0, 1, 8, 0], [0, 0, 8, 6]] {
            assert_eq!(gre(head), None, "{head:?}");
        }
        let gue = |head: [u8; 4]| {
            let behind = [&[0xc0, 1, 0x17, 0xc0, 0, 60, 0, 0][..], &head, &[0; 40]].concat();
            Encap::read(ipv4::UDP, &behind)
        };
        assert_eq!(gue([2, 4, 0, 0]).map(|(.., at)| at), Some(20), "with two words of options");
        for head in [[0x40, 4, 0, 0], [0x20, 4, 0, 0], [0, 17, 0, 0]] {
            assert_eq!(gue(head), None, "{head:?}");
        }
        for cut in 0..12 {
            let behind = [0xc0, 1, 0x17, 0xc0, 0, 60, 0, 0, 0, 4, 0, 0];
            assert_eq!(Encap::read(ipv4::UDP, &behind[..cut]), None);
        }
        assert_eq!(Encap::read(ipv4::TCP, &[0; 40]), None);
    }

    #[test]
    fn flows_spread_over_the_source_ports() {
        let ports: HashSet<u16> =
            (0..4096).map(|port| source_port(Flow { ports: port << 16 | 80, ..FLOW })).collect();
        assert!(ports.len() > 3200, "{} of 4096", ports.len());
        assert!(ports.iter().all(|port| *port >= SOURCE_PORTS_FROM));
        let low: HashSet<u16> = ports.iter().map(|port| port % 8).collect();
        assert_eq!(low.len(), 8);
    }

    #[test]
    fn clients_of_ipv6_spread_by_every_part_of_their_addresses() {
        let of = |source: u128, destination: u128| {
            source_port(Flow::of_ipv6(source.into(), destination.into(), FLOW.ports))
        };
        let net = 0x2001_0db8_u128 << 96;
        for shift in [0, 16, 32, 48, 64, 80] {
            let ports: HashSet<u16> = (0..4096).map(|number| of(net | number << shift, net)).collect();
            assert!(ports.len() > 3200, "{} of 4096 by the bits from {shift} on", ports.len());
            let ports: HashSet<u16> = (0..4096).map(|number| of(net, net | number << shift)).collect();
            assert!(ports.len() > 3200, "{} of 4096 by the VIP's bits from {shift} on", ports.len());
        }
    }
}
