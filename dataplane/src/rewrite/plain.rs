//! NAT towards the real server and tunnels for plain frames, whose headers are where they always are. TTL,
//! addresses, ports and checksums change in one go. What comes out is, byte for byte, what the general ways in
//! [`crate::rewrite`] make of the same frame behind [`Ipv4::decrement_ttl`]; `tests` holds them against each other.

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, IntoBytes};

use weir_config::model::TunnelChecksum;

use super::{Outer, not_zero, outer_tos};
use crate::address::{Addr4, Wire4};
use crate::neighbor::Link;
use crate::packet::Frame;
use crate::parse::Plain;
use crate::wire::checksum::Delta;
use crate::wire::encap::{self, Encap, Flow};
use crate::wire::ethernet;
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::l4::{Tcp, Udp};

/// NAT towards the real server. `port` 0: the client's choice stays. `None`, and nothing is done, for a datagram without
/// a checksum, which has to get one.
#[inline(always)]
pub fn to_server(plain: &mut Plain, address: Addr4, port: u16) -> Option<()> {
    let Plain { ip, tcp, .. } = plain;
    let old_port = tcp.destination.get();
    let port = if port == 0 { old_port } else { port };
    let delta = Delta::NONE.address(ip.destination.get(), address);
    update_l4(ip.protocol, tcp, delta.word(old_port, port))?;
    tcp.destination = U16::new(port);
    let (old, new) = ([ip.ttl, ip.protocol], [ip.ttl - 1, ip.protocol]);
    ip.checksum = delta.word(u16::from_be_bytes(old), u16::from_be_bytes(new)).apply(ip.checksum);
    ip.ttl -= 1;
    ip.destination = Wire4::new(address);
    Some(())
}

/// NAT towards the client; otherwise as [`to_server`].
#[inline]
pub fn to_client(plain: &mut Plain, vip: Addr4, port: u16) -> Option<()> {
    let Plain { ip, tcp, .. } = plain;
    let delta = Delta::NONE.address(ip.source.get(), vip);
    update_l4(ip.protocol, tcp, delta.word(tcp.source.get(), port))?;
    tcp.source = U16::new(port);
    let (old, new) = ([ip.ttl, ip.protocol], [ip.ttl - 1, ip.protocol]);
    ip.checksum = delta.word(u16::from_be_bytes(old), u16::from_be_bytes(new)).apply(ip.checksum);
    ip.ttl -= 1;
    ip.source = Wire4::new(vip);
    Some(())
}

#[inline]
pub(super) fn update_l4(protocol: u8, tcp: &mut Tcp, delta: Delta) -> Option<()> {
    if protocol == ipv4::TCP {
        tcp.checksum = delta.apply(tcp.checksum);
        return Some(());
    }
    let (udp, _) = Udp::mut_from_prefix(tcp.as_mut_bytes()).ok()?;
    if udp.checksum == U16::ZERO {
        return None;
    }
    udp.checksum = not_zero(delta.apply(udp.checksum));
    Some(())
}

/// The outer IPv4 header, as far as it is not the client's.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    /// An address of ours.
    pub source: Wire4,
    /// The real server.
    pub destination: Addr4,
    /// Whether what must not be cut inside must not be cut outside either.
    pub keep_df: bool,
    /// Used where the outer packet may be cut.
    pub ident: u16,
}

/// Wraps the packet in an outer IPv4 header behind `link`. `None`: there is no room; the packet's TTL has gone down then.
#[inline]
pub fn into_tunnel<F: Frame>(frame: &mut F, link: &Link, ends: Ends) -> Option<()> {
    into_tunnel_with(frame, link, ends, ipv4::IPIP, |_| [])
}

/// As [`into_tunnel`], for tunnels with a header of their own behind the outer one.
pub fn encapsulate<F: Frame>(frame: &mut F, link: &Link, encap: Encap, ends: Ends) -> Option<()> {
    match encap {
        Encap::Ipip => into_tunnel(frame, link, ends),
        Encap::Gue { port, checksum: TunnelChecksum::None } => {
            into_tunnel_with(frame, link, ends, ipv4::UDP, |plain| {
                let len = plain.ip.total_len.get() + (encap.header_len() - ipv4::HEADER_LEN) as u16;
                encap::gue::<Ipv4>(port, len, flow(plain))
            })
        }
        Encap::Gre { checksum: TunnelChecksum::None } => {
            into_tunnel_with(frame, link, ends, ipv4::GRE, |_| encap::gre::<Ipv4>())
        }
        Encap::Gue { .. } | Encap::Gre { .. } => {
            let (plain, _) = Plain::mut_from_prefix(frame.bytes_mut()).ok()?;
            plain.ip.decrement_ttl();
            let (flow, total_len) = (flow(plain), plain.ip.total_len.get());
            let Ends { source, destination, keep_df, ident } = ends;
            let outer = Outer { encap, source: source.get(), destination, keep_df, ident };
            super::wrap::<F, Ipv4>(frame, ethernet::HEADER_LEN, total_len, flow, &outer).ok()?;
            *frame.bytes_mut().first_chunk_mut()? = *link;
            Some(())
        }
    }
}

fn flow(plain: &Plain) -> Flow {
    let ports = u32::from(plain.tcp.source.get()) << 16 | u32::from(plain.tcp.destination.get());
    Flow { source: plain.ip.source.get(), destination: plain.ip.destination.get(), ports }
}

/// `shim` makes what stands between the outer header and the packet.
#[inline(always)]
fn into_tunnel_with<F: Frame, const LEN: usize>(
    frame: &mut F,
    link: &Link,
    Ends { source, destination, keep_df, ident }: Ends,
    protocol: u8,
    shim: impl FnOnce(&Plain) -> [u8; LEN],
) -> Option<()> {
    let (plain, _) = Plain::mut_from_prefix(frame.bytes_mut()).ok()?;
    plain.ip.decrement_ttl();
    let shim = shim(plain);
    let inner = plain.ip;
    let total_len = inner.total_len.get();
    // Ethernet padding stays out of the tunnel.
    let len = ethernet::HEADER_LEN + usize::from(total_len);
    if frame.len() > len && !frame.resize(len) || !frame.prepend(ipv4::HEADER_LEN + LEN) {
        return None;
    }
    let keeps_df = keep_df && inner.dont_fragment();
    let mut outer = Ipv4 {
        version_ihl: 0x45,
        tos: outer_tos(inner.tos),
        total_len: U16::new(total_len + (ipv4::HEADER_LEN + LEN) as u16),
        ident: U16::new(if keeps_df { 0 } else { ident }),
        fragment: U16::new(if keeps_df { ipv4::DONT_FRAGMENT } else { 0 }),
        ttl: inner.ttl,
        protocol,
        checksum: U16::ZERO,
        source,
        destination: Wire4::new(destination),
    };
    outer.refresh_checksum();
    let (head, behind) =
        frame.bytes_mut().split_first_chunk_mut::<{ ethernet::HEADER_LEN + ipv4::HEADER_LEN }>()?;
    head[..12].copy_from_slice(link);
    head[12..14].copy_from_slice(&ethernet::TYPE_IPV4.to_be_bytes());
    head[14..].copy_from_slice(outer.as_bytes());
    *behind.first_chunk_mut()? = shim;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::heap::HeapFrame;
    use crate::parse::{Content, Packet, parse};
    use crate::rewrite;

    /// A plain frame of any contents, right as far as `parse` looks.
    fn frame(is_udp: bool, tos: u8, fragment: u16, ttl: u8, l4: &[u8; 26]) -> HeapFrame {
        let protocol = if is_udp { ipv4::UDP } else { ipv4::TCP };
        let mut header =
            Ipv4::new(protocol, Addr4::new(10, 0, 0, 1), Addr4::new(192, 0, 2, 1), l4.len(), ttl.max(2));
        header.tos = tos;
        header.fragment = U16::new(fragment & ipv4::DONT_FRAGMENT);
        header.refresh_checksum();
        let mut bytes = vec![2; 12];
        bytes.extend_from_slice(&[8, 0]);
        bytes.extend_from_slice(header.as_bytes());
        let mut l4 = *l4;
        if is_udp {
            l4[4..6].copy_from_slice(&[0, 26]);
        } else {
            l4[12] = 0x50;
        }
        bytes.extend_from_slice(&l4);
        bytes.resize(64, 0);
        HeapFrame::new(&bytes)
    }

    fn packet(frame: &HeapFrame) -> Packet {
        let mut packet = Packet::default();
        assert_eq!(parse(frame, &mut packet), Content::Ipv4);
        packet
    }

    #[test]
    fn nat_of_a_plain_frame_is_nat() {
        bolero::check!().with_type::<(bool, u8, [u8; 26], u32, u16)>().for_each(
            |(is_udp, ttl, l4, address, port)| {
                let address = Addr4::from_bits(*address);
                let mut frame = frame(*is_udp, 0, 0, *ttl, l4);
                let mut expected = frame.clone();
                let facts = packet(&expected);
                rewrite::ipv4_mut(expected.bytes_mut(), 14).expect("it is there").decrement_ttl();
                rewrite::to_server(expected.bytes_mut(), &facts, address, *port).expect("headers are there");
                let before = frame.clone();
                let (plain, _) = Plain::mut_from_prefix(frame.bytes_mut()).expect("it is long enough");
                let done = to_server(plain, address, *port);
                let has_checksum = !*is_udp || l4[6..8] != [0, 0];
                assert_eq!(done.is_some(), has_checksum);
                assert_eq!(frame, if has_checksum { &expected } else { &before }.clone());

                let mut frame = before.clone();
                let mut expected = before.clone();
                rewrite::ipv4_mut(expected.bytes_mut(), 14).expect("it is there").decrement_ttl();
                rewrite::to_client(expected.bytes_mut(), &facts, address, *port).expect("headers are there");
                let (plain, _) = Plain::mut_from_prefix(frame.bytes_mut()).expect("it is long enough");
                assert_eq!(to_client(plain, address, *port).is_some(), has_checksum);
                assert_eq!(frame, if has_checksum { expected } else { before });
            },
        );
    }

    #[test]
    fn a_plain_frame_is_wrapped_as_any() {
        bolero::check!().with_type::<(bool, u8, u16, u8, [u8; 26], bool, u16)>().for_each(
            |(is_udp, tos, fragment, ttl, l4, keep_df, ident)| {
                let link: Link = [7; 12];
                let (source, destination) = (Addr4::new(1, 1, 1, 1), Addr4::new(2, 2, 2, 2));
                let frame = frame(*is_udp, *tos, *fragment, *ttl, l4);
                let mut expected = frame.clone();
                let facts = packet(&expected);
                rewrite::ipv4_mut(expected.bytes_mut(), 14).expect("it is there").decrement_ttl();
                for encap in [
                    Encap::Ipip,
                    Encap::Gue { port: 6080, checksum: TunnelChecksum::None },
                    Encap::Gue { port: 6080, checksum: TunnelChecksum::Csum },
                    Encap::Gre { checksum: TunnelChecksum::None },
                    Encap::Gre { checksum: TunnelChecksum::Csum },
                ] {
                    let outer = Outer { encap, source, destination, keep_df: *keep_df, ident: *ident };
                    let (mut frame, mut expected) = (frame.clone(), expected.clone());
                    rewrite::into_tunnel(&mut expected, &facts, &outer).expect("there is headroom");
                    expected.bytes_mut()[..12].copy_from_slice(&link);
                    let ends =
                        Ends { source: Wire4::new(source), destination, keep_df: *keep_df, ident: *ident };
                    encapsulate(&mut frame, &link, encap, ends).expect("there is headroom");
                    assert_eq!(frame, expected);
                }
            },
        );
    }
}
