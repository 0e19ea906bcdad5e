//! Tunnels that have IPv6 at either end: a packet of either family in an outer IPv6 header (RFC 2473, without the option that limits
//! encapsulation), one of IPv6 in an outer IPv4 header (RFC 4213), and what is larger than the way allows in fragments of the
//! outer packet (RFC 8200 section 4.5).

use std::net::Ipv6Addr;

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, IntoBytes};

use super::{Outer, inner, outer_tos, ports, rest_of, trim, wrap};
use crate::packet::{Frame, Wire};
use crate::parse::Packet;
use crate::parse::v6::Ends6;
use crate::rewrite::fragment::Pieces;
use crate::stats::DropReason;
use crate::wire::encap::{Encap, Flow, Inner};
use crate::wire::ethernet::TYPE_IPV6;
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::{self, FRAGMENT_LEN, Fragment, Ipv6};

/// What the headers of a tunnel over IPv6 say besides what they take from the client's packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outer6 {
    /// What stands between the outer header and the client's packet.
    pub encap: Encap,
    /// An address of ours.
    pub source: Ipv6Addr,
    /// The real server.
    pub destination: Ipv6Addr,
}

/// As [`super::into_tunnel`], over IPv6.
pub fn into_tunnel6<F: Frame>(frame: &mut F, packet: &Packet, outer: &Outer6) -> Result<(), DropReason> {
    let flow = Flow { source: packet.source, destination: packet.destination, ports: ports(packet) };
    wrap6::<F, Ipv4>(frame, packet.l3(), packet.total_len, flow, outer)
}

/// As [`into_tunnel6`], for a packet of IPv6 between these ends.
pub fn ipv6_into_tunnel6<F: Frame>(
    frame: &mut F,
    (packet, ends): (&Packet, Ends6),
    outer: &Outer6,
) -> Result<(), DropReason> {
    let flow = Flow::of_ipv6(ends.source, ends.destination, ports(packet));
    wrap6::<F, Ipv6>(frame, packet.l3(), packet.total_len, flow, outer)
}

/// As [`super::into_tunnel`], for a packet of IPv6 between these ends.
pub fn ipv6_into_tunnel<F: Frame>(
    frame: &mut F,
    (packet, ends): (&Packet, Ends6),
    outer: &Outer,
) -> Result<(), DropReason> {
    let flow = Flow::of_ipv6(ends.source, ends.destination, ports(packet));
    wrap::<F, Ipv6>(frame, packet.l3(), packet.total_len, flow, outer)
}

/// As [`super::wrap`], over IPv6. As the kernel's tunnels do, it copies the hop limit and the traffic class, and leaves the flow
/// label 0.
fn wrap6<F: Frame, I: Inner>(
    frame: &mut F,
    l3: usize,
    total_len: u16,
    flow: Flow,
    outer: &Outer6,
) -> Result<(), DropReason> {
    let encap = outer.encap;
    trim(frame, l3 + usize::from(total_len))?;
    let rest = rest_of(frame, encap);
    let front = encap.header_len6();
    if !frame.prepend(front) {
        return Err(DropReason::NoBuffer);
    }
    let bytes = frame.bytes_mut();
    bytes.copy_within(front..front + l3, 0);
    bytes[l3 - 2..l3].copy_from_slice(&TYPE_IPV6.to_be_bytes());
    let inner = inner::<I>(bytes, l3 + front)?;
    let len = front - ipv6::HEADER_LEN + usize::from(total_len);
    let header = Ipv6 {
        version_class_flow: U32::new(6 << 28 | u32::from(outer_tos(inner.tos())) << 20),
        payload_len: U16::new(u16::try_from(len).map_err(|_| DropReason::TooBig)?),
        next_header: encap.protocol::<I>(),
        hop_limit: inner.ttl(),
        source: outer.source.octets(),
        destination: outer.destination.octets(),
    };
    let (head, behind) = bytes.split_at_mut(l3 + ipv6::HEADER_LEN);
    head[l3..].copy_from_slice(header.as_bytes());
    encap
        .write::<I>(behind, len, (outer.source, outer.destination), (flow, rest))
        .ok_or(DropReason::Truncated)
}

/// Cuts the IPv6 packet at `l3` of `frame`, which has no extension headers, into fragments of at most `mtu` bytes and gives
/// each, behind a copy of the link header, to `send`.
pub fn cut<W: Wire>(
    frame: &W::Frame,
    l3: usize,
    (mtu, ident): (usize, u32),
    wire: &mut W,
    mut send: impl FnMut(W::Frame),
) -> Result<(), DropReason> {
    let bytes = frame.bytes();
    let (header, _) =
        Ipv6::ref_from_prefix(bytes.get(l3..).unwrap_or_default()).map_err(|_| DropReason::Truncated)?;
    let front = l3 + ipv6::HEADER_LEN;
    let payload_len = usize::from(header.payload_len.get());
    let room = mtu.checked_sub(ipv6::HEADER_LEN + FRAGMENT_LEN);
    let mut pieces = Pieces::new(payload_len, room)?;
    while let Some((mut out, at, len)) = pieces.next(wire, front + FRAGMENT_LEN)? {
        let of_piece = Ipv6 {
            payload_len: U16::new((FRAGMENT_LEN + len) as u16),
            next_header: ipv6::FRAGMENT,
            ..*header
        };
        let fragment = Fragment {
            next_header: header.next_header,
            reserved: 0,
            offset_flags: U16::new(at as u16 | u16::from(at + len < payload_len)),
            ident: U32::new(ident),
        };
        let to = out.bytes_mut();
        to[..l3].copy_from_slice(&bytes[..l3]);
        to[l3..front].copy_from_slice(of_piece.as_bytes());
        to[front..front + FRAGMENT_LEN].copy_from_slice(fragment.as_bytes());
        if !frame.copy_to(front + at, &mut to[front + FRAGMENT_LEN..]) {
            wire.release(out);
            return Err(DropReason::Truncated);
        }
        send(out);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use weir_config::model::{Family, TunnelChecksum};

    use super::*;
    use crate::address::Addr4;
    use crate::packet::heap::{HeapFrame, HeapWire};
    use crate::parse::{Content, parse, v6};
    use crate::wire::checksum::Sum;
    use crate::wire::ethernet::Vlan;
    use crate::wire::ipv4;

    const OWN: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    const FAR: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 9);
    const KINDS: [Encap; 5] = [
        Encap::Ipip,
        Encap::Gue { port: 6080, checksum: TunnelChecksum::None },
        Encap::Gue { port: 6080, checksum: TunnelChecksum::Csum },
        Encap::Gre { checksum: TunnelChecksum::None },
        Encap::Gre { checksum: TunnelChecksum::Csum },
    ];

    /// A client's datagram with so much data, behind a tag or not, and with padding.
    fn frame(data: &[u8], is_tagged: bool, tos: u8) -> HeapFrame {
        let mut bytes = vec![2; 12];
        if is_tagged {
            bytes.extend([0x81, 0, 0, 7]);
        }
        bytes.extend([8, 0]);
        let (from, to) = (Addr4::new(10, 0, 0, 1), Addr4::new(192, 0, 2, 1));
        let mut header = Ipv4::new(ipv4::UDP, from, to, 8 + data.len(), 61);
        header.tos = tos;
        header.refresh_checksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend([0x9c, 0x40, 0, 53]);
        bytes.extend(((8 + data.len()) as u16).to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(data);
        bytes.resize(bytes.len().max(60), 0xee);
        HeapFrame::new(&bytes)
    }

    #[test]
    fn the_packet_is_inside_as_it_was_and_the_outer_headers_are_right() {
        bolero::check!().with_type::<(Vec<u8>, bool, u8)>().for_each(|(data, is_tagged, tos)| {
            for encap in KINDS {
                let mut frame = frame(data, *is_tagged, *tos);
                let mut packet = Packet::default();
                assert_eq!(parse(&frame, &mut packet), Content::Ipv4);
                let before = frame.bytes()[packet.l3()..packet.end()].to_vec();
                let outer = Outer6 { encap, source: OWN, destination: FAR };
                into_tunnel6(&mut frame, &packet, &outer).expect("there is headroom");
                let bytes = &frame.bytes()[packet.l3()..];
                assert_eq!(frame.bytes()[packet.l3() - 2..packet.l3()], [0x86, 0xdd]);
                let (header, behind) = Ipv6::ref_from_prefix(bytes).expect("it is there");
                let class = (header.version_class_flow.get() >> 20) as u8;
                assert_eq!((header.version(), header.hop_limit), (6, 61));
                // A mark of congestion stays inside.
                assert_eq!(class, if tos & 3 == 3 { tos & !1 } else { *tos });
                assert_eq!(header.version_class_flow.get() & 0xf_ffff, 0);
                assert_eq!((header.source, header.destination), (OWN.octets(), FAR.octets()));
                assert_eq!(usize::from(header.payload_len.get()), behind.len());
                let (read, family, at) = Encap::read(header.next_header, behind).expect("it is a tunnel");
                assert_eq!((read, family, &behind[at..]), (encap, Family::V4, &before[..]));
                let pseudo = match encap {
                    Encap::Gue { checksum: TunnelChecksum::Csum, .. } => {
                        Sum::default().bytes(&header.source).bytes(&header.destination).word(17)
                    }
                    Encap::Gre { checksum: TunnelChecksum::Csum } => Sum::default(),
                    _ => continue,
                };
                let is_gue = matches!(encap, Encap::Gue { .. });
                let pseudo = if is_gue { pseudo.word(behind.len() as u16) } else { pseudo };
                assert_eq!(pseudo.bytes(behind).fold(), 0xffff);
            }
        });
    }

    /// A client's datagram of IPv6, behind a tag or not, and with padding.
    fn frame6(data: &[u8], is_tagged: bool, class: u8) -> (HeapFrame, Packet, Ends6) {
        let mut bytes = vec![2; 12];
        if is_tagged {
            bytes.extend([0x81, 0, 0, 7]);
        }
        bytes.extend([0x86, 0xdd]);
        let ends = Ends6 { source: Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 7), destination: FAR };
        let header = Ipv6 {
            version_class_flow: U32::new(6 << 28 | u32::from(class) << 20 | 0xa_bcde),
            payload_len: U16::new((8 + data.len()) as u16),
            next_header: ipv4::UDP,
            hop_limit: 61,
            source: ends.source.octets(),
            destination: ends.destination.octets(),
        };
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend([0x9c, 0x40, 0, 53]);
        bytes.extend(((8 + data.len()) as u16).to_be_bytes());
        bytes.extend([1, 2]);
        bytes.extend(data);
        bytes.resize(bytes.len() + 6, 0xee);
        let frame = HeapFrame::new(&bytes);
        let vlan = if is_tagged { Vlan::tagged(7) } else { Vlan::NONE };
        let packet = v6::parse(frame.bytes(), frame.len(), vlan).expect("a packet");
        (frame, packet, ends)
    }

    /// Over what the checksum of a tunnel covers, the pseudo-header of GUE's included: all ones if it is right.
    fn sum(encap: Encap, ends: &[u8], behind: &[u8]) -> u16 {
        let pseudo = match encap {
            Encap::Gue { .. } => Sum::default().bytes(ends).word(17).word(behind.len() as u16),
            Encap::Ipip | Encap::Gre { .. } => Sum::default(),
        };
        pseudo.bytes(behind).fold()
    }

    #[test]
    fn a_packet_of_ipv6_is_inside_as_it_was_over_either_family() {
        bolero::check!().with_type::<(Vec<u8>, bool, u8)>().for_each(|(data, is_tagged, class)| {
            let (frame, packet, ends) = frame6(&data[..data.len().min(1_200)], *is_tagged, *class);
            let before = frame.bytes()[packet.l3()..packet.end()].to_vec();
            let seen_outside = if class & 3 == 3 { class & !1 } else { *class };
            for encap in KINDS {
                let mut over = frame.clone();
                let outer = Outer6 { encap, source: OWN, destination: FAR };
                ipv6_into_tunnel6(&mut over, (&packet, ends), &outer).expect("there is headroom");
                assert_eq!(over.bytes()[packet.l3() - 2..packet.l3()], [0x86, 0xdd]);
                let (header, behind) = Ipv6::ref_from_prefix(&over.bytes()[packet.l3()..]).expect("a header");
                assert_eq!((header.version(), header.hop_limit), (6, 61));
                assert_eq!(header.version_class_flow.get() & 0xfff_ffff, u32::from(seen_outside) << 20);
                assert_eq!((header.source, header.destination), (OWN.octets(), FAR.octets()));
                assert_eq!(usize::from(header.payload_len.get()), behind.len());
                let (read, family, at) = Encap::read(header.next_header, behind).expect("it is a tunnel");
                assert_eq!((read, family, &behind[at..]), (encap, Family::V6, &before[..]));
                let pseudo = [header.source, header.destination].concat();
                assert!(!encap.has_checksum() || sum(encap, &pseudo, behind) == 0xffff);
                let port6 = &behind[..2];

                let mut over = frame.clone();
                let (source, destination) = (Addr4::new(10, 0, 0, 2), Addr4::new(10, 0, 0, 11));
                let outer = Outer { encap, source, destination, keep_df: true, ident: 77 };
                ipv6_into_tunnel(&mut over, (&packet, ends), &outer).expect("there is headroom");
                assert_eq!(over.bytes()[packet.l3() - 2..packet.l3()], [8, 0]);
                let whole = &over.bytes()[packet.l3()..];
                let (header, behind) = Ipv4::ref_from_prefix(whole).expect("a header");
                assert!(ipv4::checksum_is_right(&whole[..20]));
                assert_eq!((header.ttl, header.tos, header.ident.get()), (61, seen_outside, 77));
                assert_eq!(header.fragment, U16::ZERO, "it may be cut on the way");
                assert_eq!(usize::from(header.total_len.get()), whole.len());
                let (read, family, at) = Encap::read(header.protocol, behind).expect("it is a tunnel");
                assert_eq!((read, family, &behind[at..]), (encap, Family::V6, &before[..]));
                let pseudo = [source.octets(), destination.octets()].concat();
                assert!(!encap.has_checksum() || sum(encap, &pseudo, behind) == 0xffff);
                let is_gue = matches!(encap, Encap::Gue { .. });
                assert!(!is_gue || behind[..2] == *port6, "a flow has one source port");
            }
        });
    }

    #[test]
    fn fragments_carry_all_bytes_in_multiples_of_eight() {
        for (len, mtu) in [(1_472usize, 1_500usize), (1_461, 1_500), (1_472, 1_280), (8_000, 1_280)] {
            let data: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let mut frame = frame(&data, true, 0);
            let mut packet = Packet::default();
            assert_eq!(parse(&frame, &mut packet), Content::Ipv4);
            let outer = Outer6 { encap: Encap::Ipip, source: OWN, destination: FAR };
            into_tunnel6(&mut frame, &packet, &outer).expect("there is headroom");
            let whole = frame.bytes()[packet.l3() + ipv6::HEADER_LEN..].to_vec();
            let mut pieces = Vec::new();
            let wire = &mut HeapWire::default();
            cut(&frame, packet.l3(), (mtu, 77), wire, |piece| pieces.push(piece)).expect("it fits");
            let mut seen = Vec::new();
            for (index, piece) in pieces.iter().enumerate() {
                let (link, bytes) = piece.bytes().split_at(packet.l3());
                assert_eq!(link, &frame.bytes()[..packet.l3()]);
                let (header, rest) = Ipv6::ref_from_prefix(bytes).expect("it is there");
                let (fragment, part) = Fragment::ref_from_prefix(rest).expect("it is there");
                assert!(bytes.len() <= mtu);
                assert_eq!(usize::from(header.payload_len.get()), rest.len());
                assert_eq!((header.next_header, fragment.next_header), (ipv6::FRAGMENT, ipv4::IPIP));
                assert_eq!((fragment.ident.get(), fragment.reserved), (77, 0));
                let more = u16::from(index + 1 < pieces.len());
                assert_eq!(usize::from(fragment.offset_flags.get()), seen.len() | usize::from(more));
                seen.extend_from_slice(part);
            }
            assert!(pieces.len() > 1);
            assert_eq!(seen, whole);
        }
    }
}
