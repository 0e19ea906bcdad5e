//! As `plain`, of IPv6: NAT and the tunnel for plain frames. What comes out is, byte for byte, what the general ways in
//! `nat6` and `far` make of the same frame behind a hop limit that went down; `tests` holds them against each other.

use std::net::Ipv6Addr;

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, IntoBytes};

use super::outer_tos;
use super::plain::update_l4;
use crate::neighbor::Link;
use crate::packet::Frame;
use crate::parse::plain6::Plain6;
use crate::wire::checksum::Delta;
use crate::wire::ethernet::{self, TYPE_IPV6};
use crate::wire::ipv6::{self, Ipv6};

/// NAT towards the real server. `port` 0: the client's choice stays. `None`, and nothing is done, for a datagram without
/// a checksum, which has to get one.
#[inline]
pub fn to_server(plain: &mut Plain6, address: Ipv6Addr, port: u16) -> Option<()> {
    let Plain6 { ip, tcp, .. } = plain;
    let old_port = tcp.destination.get();
    let port = if port == 0 { old_port } else { port };
    let address = address.octets();
    let delta = Delta::NONE.address6(&ip.destination, &address);
    update_l4(ip.next_header, tcp, delta.word(old_port, port))?;
    tcp.destination = U16::new(port);
    ip.hop_limit -= 1;
    ip.destination = address;
    Some(())
}

/// NAT towards the client; otherwise as [`to_server`].
#[inline]
pub fn to_client(plain: &mut Plain6, vip: Ipv6Addr, port: u16) -> Option<()> {
    let Plain6 { ip, tcp, .. } = plain;
    let address = vip.octets();
    let delta = Delta::NONE.address6(&ip.source, &address);
    update_l4(ip.next_header, tcp, delta.word(tcp.source.get(), port))?;
    tcp.source = U16::new(port);
    ip.hop_limit -= 1;
    ip.source = address;
    Some(())
}

/// Wraps the packet in an outer IPv6 header between these ends, behind `link` (RFC 2473). `None`, and nothing is done: there is no room.
#[inline]
pub fn into_tunnel6<F: Frame>(
    frame: &mut F,
    link: &Link,
    (source, destination): (Ipv6Addr, Ipv6Addr),
) -> Option<()> {
    if !frame.prepend(ipv6::HEADER_LEN) {
        return None;
    }
    let (head, behind) =
        frame.bytes_mut().split_first_chunk_mut::<{ ethernet::HEADER_LEN + ipv6::HEADER_LEN }>()?;
    let (inner, _) = Ipv6::mut_from_prefix(behind).ok()?;
    inner.hop_limit -= 1;
    let outer = Ipv6 {
        version_class_flow: U32::new(6 << 28 | u32::from(outer_tos(inner.traffic_class())) << 20),
        payload_len: U16::new(inner.payload_len.get() + ipv6::HEADER_LEN as u16),
        next_header: ipv6::IN_IP,
        hop_limit: inner.hop_limit,
        source: source.octets(),
        destination: destination.octets(),
    };
    head[..12].copy_from_slice(link);
    head[12..14].copy_from_slice(&TYPE_IPV6.to_be_bytes());
    head[14..].copy_from_slice(outer.as_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::heap::HeapFrame;
    use crate::parse::Packet;
    use crate::parse::v6::{ends, parse};
    use crate::rewrite::far::{Outer6, ipv6_into_tunnel6};
    use crate::rewrite::{ipv6_mut, nat6};
    use crate::wire::encap::Encap;
    use crate::wire::ethernet::Vlan;
    use crate::wire::ipv4;

    /// A plain frame of any contents, right as far as the parser looks.
    fn frame(is_udp: bool, class: u8, hop_limit: u8, l4: &[u8; 26]) -> HeapFrame {
        let mut bytes = vec![2; 12];
        let first = u32::from(class) << 20 | 6 << 28 | 0xb_cdef;
        bytes.extend([&[0x86, 0xdd][..], &first.to_be_bytes(), &[0, 26]].concat());
        bytes.extend([if is_udp { ipv4::UDP } else { ipv4::TCP }, hop_limit.max(2)]);
        bytes.extend(Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 7).octets());
        bytes.extend(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, 0).octets());
        let mut l4 = *l4;
        if is_udp {
            l4[4..6].copy_from_slice(&[0, 26]);
        } else {
            l4[12] = 0x50;
        }
        bytes.extend(l4);
        HeapFrame::new(&bytes)
    }

    fn packet(frame: &HeapFrame) -> Packet {
        parse(frame.bytes(), frame.len(), Vlan::NONE).expect("a packet")
    }

    fn lowered(frame: &HeapFrame) -> HeapFrame {
        let mut frame = frame.clone();
        ipv6_mut(frame.bytes_mut(), 14).expect("it is there").hop_limit -= 1;
        frame
    }

    #[test]
    fn nat_of_a_plain_frame_is_nat() {
        bolero::check!().with_type::<(bool, u8, [u8; 26], u128, u16)>().for_each(
            |(is_udp, hop_limit, l4, address, port)| {
                let before = frame(*is_udp, 0, *hop_limit, l4);
                let facts = packet(&before);
                let has_checksum = !*is_udp || l4[6..8] != [0, 0];
                let plain = |frame: &mut HeapFrame, change: fn(&mut Plain6, Ipv6Addr, u16) -> Option<()>| {
                    let (plain, _) = Plain6::mut_from_prefix(frame.bytes_mut()).expect("it is long enough");
                    change(plain, (*address).into(), *port)
                };
                let (mut short, mut expected) = (before.clone(), lowered(&before));
                nat6::to_server(expected.bytes_mut(), &facts, (*address).into(), *port).expect("headers");
                assert_eq!(plain(&mut short, to_server).is_some(), has_checksum);
                assert_eq!(short, if has_checksum { expected } else { before.clone() });

                let (mut short, mut expected) = (before.clone(), lowered(&before));
                nat6::to_client(expected.bytes_mut(), &facts, (*address).into(), *port).expect("headers");
                assert_eq!(plain(&mut short, to_client).is_some(), has_checksum);
                assert_eq!(short, if has_checksum { expected } else { before });
            },
        );
    }

    #[test]
    fn a_plain_frame_is_wrapped_as_any() {
        bolero::check!().with_type::<(bool, u8, u8, [u8; 26], [u128; 2])>().for_each(
            |(is_udp, class, hop_limit, l4, [source, destination])| {
                let link: Link = [7; 12];
                let mut short = frame(*is_udp, *class, *hop_limit, l4);
                let facts = (packet(&short), ends(short.bytes(), 14).expect("a header"));
                let (source, destination) = ((*source).into(), (*destination).into());
                let mut expected = lowered(&short);
                let outer = Outer6 { encap: Encap::Ipip, source, destination };
                ipv6_into_tunnel6(&mut expected, (&facts.0, facts.1), &outer).expect("there is headroom");
                expected.bytes_mut()[..12].copy_from_slice(&link);
                into_tunnel6(&mut short, &link, (source, destination)).expect("there is headroom");
                assert_eq!(short, expected);
            },
        );
    }
}
