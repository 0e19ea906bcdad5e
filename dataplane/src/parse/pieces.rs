//! Pieces of packets that were cut on their way, or by their sender.
//!
//! What the first piece holds is read as of a whole packet, but that lengths which say how long the whole is are not compared
//! with it. It has to hold all that may be looked at or changed (RFC 1858, RFC 7112), and no other piece may begin
//! within that (RFC 3128).

use zerocopy::FromBytes;

use super::{Packet, has_source_route, parse_l4, v6};
use crate::address::Addr4;
use crate::stats::DropReason;
use crate::wire::ethernet::Vlan;
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{FRAGMENT_LEN, Fragment, HEADER_LEN};
use crate::wire::l4::{TCP_LEN, Tcp};
use crate::wire::sctp;

/// What stands for the protocol of a piece that is not the first: its bytes are nobody's header. It is reserved, but a packet may say so
/// all the same: see [`is_later_piece`].
pub const LATER: u8 = 255;

/// One piece of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// As of a packet that is no longer than it. Of one that is not the first the protocol is [`LATER`].
    pub packet: Packet,
    /// The protocol.
    pub protocol: u8,
    /// The same in all pieces of a packet.
    pub ident: u32,
    /// Where it begins in the whole, in bytes behind the headers that each piece has.
    pub start: u16,
    /// Where it ends.
    pub end: u16,
    /// Whether the whole ends with it.
    pub is_last: bool,
}

/// A piece that can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unread {
    /// Why.
    pub reason: DropReason,
    /// What its packet is known by, if it is the first of it.
    pub first: Option<First>,
}

/// A first piece, as far as other pieces have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct First {
    /// The protocol.
    pub protocol: u8,
    /// As of a piece that can be read.
    pub ident: u32,
    /// Where it ends.
    pub end: u16,
}

impl From<DropReason> for Unread {
    fn from(reason: DropReason) -> Self {
        Self { reason, first: None }
    }
}

impl Piece {
    /// Whether it has the ports.
    pub fn is_first(&self) -> bool {
        self.start == 0
    }
}

/// Whether a packet in this frame is a piece of a larger one.
pub fn is_piece(bytes: &[u8], packet: &Packet) -> bool {
    match packet.is_of_ipv6() {
        true => v6::transport(bytes, packet.l3()).is_ok_and(|transport| transport.is_fragment),
        false => header4(bytes, packet.l3()).is_some_and(Ipv4::is_fragment),
    }
}

/// Whether it is one that is not the first.
pub fn is_later_piece(bytes: &[u8], packet: &Packet) -> bool {
    match packet.is_of_ipv6() {
        true => v6::transport(bytes, packet.l3()).is_ok_and(|transport| transport.is_later_fragment),
        false => header4(bytes, packet.l3())
            .is_some_and(|header| header.fragment.get() & ipv4::FRAGMENT_OFFSET != 0),
    }
}

/// The IPv4 header at this offset.
pub fn header4(bytes: &[u8], l3: usize) -> Option<&Ipv4> {
    Ipv4::ref_from_prefix(bytes.get(l3..)?).ok().map(|(header, _)| header)
}

/// Reads a piece of an IPv4 packet, whose header was found to be right.
pub fn read4(bytes: &[u8], vlan: Vlan) -> Result<Piece, Unread> {
    let l3 = vlan.header_len();
    let header = header4(bytes, l3).ok_or(DropReason::Truncated)?;
    let (total_len, header_len) = (header.total_len.get(), header.header_len());
    let options = bytes.get(l3 + ipv4::HEADER_LEN..l3 + header_len).unwrap_or_default();
    let refused = has_source_route(options).then_some(DropReason::SourceRoute);
    let fragment = header.fragment.get();
    let packet = Packet {
        vlan,
        l3: l3 as u8,
        l4: (l3 + header_len) as u8,
        protocol: header.protocol,
        flags: 0,
        total_len,
        source_port: 0,
        destination_port: 0,
        source: header.source.get(),
        destination: header.destination.get(),
    };
    let start = usize::from(fragment & ipv4::FRAGMENT_OFFSET) * 8;
    let is_last = fragment & ipv4::MORE_FRAGMENTS == 0;
    let payload_len = usize::from(total_len).saturating_sub(header_len);
    let extent = (start, payload_len, is_last, header_len);
    placed(packet, (u32::from(header.ident.get()), refused), extent, bytes)
}

/// Reads a piece of an IPv6 packet.
pub fn read6(bytes: &[u8], frame_len: usize, vlan: Vlan) -> Result<Piece, Unread> {
    let (payload, payload_len, transport) = v6::walked(bytes, frame_len, vlan)?;
    let at = transport.fragment_header.filter(|_| !transport.is_cut_twice).ok_or(DropReason::FragmentBad)?;
    let (header, _) = Fragment::ref_from_prefix(payload.get(at..).unwrap_or_default())
        .map_err(|_| DropReason::Truncated)?;
    let refused = transport.refused.map(|_| DropReason::UnknownOption);
    let l3 = vlan.header_len();
    let l4 = u8::try_from(l3 + HEADER_LEN + transport.offset).map_err(|_| DropReason::ExtensionHeaders)?;
    let control = header.offset_flags.get();
    let packet = Packet {
        vlan,
        l3: l3 as u8,
        l4,
        protocol: transport.protocol,
        flags: 0,
        total_len: (HEADER_LEN + payload_len) as u16,
        source_port: 0,
        destination_port: 0,
        source: Addr4::STRANGER6,
        destination: Addr4::STRANGER6,
    };
    // The whole has no header for pieces (RFC 8200 section 4.5).
    let len = payload_len.saturating_sub(at + FRAGMENT_LEN);
    let extent = (usize::from(control & !7), len, control & 1 == 0, at);
    placed(packet, (header.ident.get(), refused), extent, bytes)
}

/// A piece that begins at `start`, has `len` bytes, and has a header in front of it of `front` bytes that count towards the length of
/// the whole. What it is `refused` for is told only where it can be a piece.
fn placed(
    mut packet: Packet,
    (ident, refused): (u32, Option<DropReason>),
    (start, len, is_last, front): (usize, usize, bool, usize),
    bytes: &[u8],
) -> Result<Piece, Unread> {
    let is_odd = len == 0 || !is_last && len % 8 != 0;
    if is_odd || front + start + len > usize::from(u16::MAX) {
        return Err(DropReason::FragmentBad.into());
    }
    let protocol = packet.protocol;
    if start == 0 {
        let read = refused.map_or_else(|| read_ports(&mut packet, bytes), Err);
        let first = Some(First { protocol, ident, end: len as u16 });
        read.map_err(|reason| Unread { reason, first })?;
    } else if let Some(reason) = refused {
        return Err(reason.into());
    } else if start < headers_of(protocol) {
        return Err(DropReason::FragmentTiny.into());
    } else {
        packet.protocol = LATER;
    }
    Ok(Piece { packet, protocol, ident, start: start as u16, end: (start + len) as u16, is_last })
}

/// Bytes of a transport header that the first piece has to hold.
fn headers_of(protocol: u8) -> usize {
    match protocol {
        ipv4::TCP => TCP_LEN,
        ipv4::SCTP => sctp::HEADER_LEN + sctp::CHUNK_LEN,
        _ => 0,
    }
}

/// Reads ports and flags of a first piece.
fn read_ports(packet: &mut Packet, bytes: &[u8]) -> Result<(), DropReason> {
    let l4 = packet.l4_bytes(bytes);
    let whole_header =
        |reason| if reason == DropReason::Truncated { DropReason::FragmentTiny } else { reason };
    // How long the whole is is not known.
    parse_l4(l4, usize::from(u16::MAX), packet).map_err(whole_header)?;
    if packet.protocol == ipv4::TCP
        && let Ok((tcp, _)) = Tcp::ref_from_prefix(packet.l4_bytes(bytes))
        && usize::from(tcp.data_offset >> 4) * 4 > packet.l4_len()
    {
        return Err(DropReason::FragmentTiny);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;
    use zerocopy::byteorder::network_endian::U16;

    use super::*;

    fn piece(protocol: u8, offset: u16, more: bool, l4: &[u8]) -> Vec<u8> {
        let mut header = Ipv4::new(protocol, Addr4::new(10, 0, 0, 1), Addr4::new(10, 0, 0, 2), l4.len(), 9);
        header.fragment = U16::new((offset / 8) | if more { ipv4::MORE_FRAGMENTS } else { 0 });
        header.ident = U16::new(77);
        header.refresh_checksum();
        [&[2; 12][..], &[8, 0], header.as_bytes(), l4].concat()
    }

    fn read(protocol: u8, offset: u16, more: bool, l4: &[u8]) -> Result<Piece, DropReason> {
        read4(&piece(protocol, offset, more, l4), Vlan::NONE).map_err(|unread| unread.reason)
    }

    const UDP: [u8; 16] = [0x9c, 0x40, 0, 53, 7, 0xd0, 1, 2, 0, 1, 2, 3, 4, 5, 6, 7];

    #[test]
    fn a_first_piece_tells_the_ports_and_a_later_one_where_it_lies() {
        let first = read(ipv4::UDP, 0, true, &UDP).expect("a piece");
        assert_eq!((first.packet.source_port, first.packet.destination_port), (40_000, 53));
        assert_eq!((first.ident, first.start, first.end, first.is_last), (77, 0, 16, false));
        let last = read(ipv4::UDP, 16, false, &UDP[..13]).expect("a piece");
        assert_eq!((last.start, last.end, last.is_last, last.packet.protocol), (16, 29, true, LATER));
        assert_eq!(last.protocol, ipv4::UDP);
    }

    #[test]
    fn what_can_not_be_a_piece_has_its_reason() {
        let mut tcp = [&[0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 16][..], &[0; 10]].concat();
        assert!(read(ipv4::TCP, 0, true, &tcp).is_ok());
        assert_eq!(read(ipv4::TCP, 0, true, &tcp[..16]), Err(DropReason::FragmentTiny));
        tcp[12] = 0x70;
        assert_eq!(read(ipv4::TCP, 0, true, &tcp), Err(DropReason::FragmentTiny));
        for offset in [8, 16] {
            assert_eq!(read(ipv4::TCP, offset, true, &tcp), Err(DropReason::FragmentTiny));
        }
        assert!(read(ipv4::TCP, 24, true, &tcp).is_ok());
        assert_eq!(read(ipv4::SCTP, 8, true, &tcp), Err(DropReason::FragmentTiny));
        assert_eq!(read(ipv4::UDP, 8, true, &UDP[..15]), Err(DropReason::FragmentBad));
        assert_eq!(read(ipv4::UDP, 8, true, &[]), Err(DropReason::FragmentBad));
        assert_eq!(read(ipv4::UDP, 8, false, &[]), Err(DropReason::FragmentBad));
        assert_eq!(read(ipv4::UDP, 65_504, false, &UDP), Err(DropReason::FragmentBad));
        assert!(read(ipv4::UDP, 65_504, false, &UDP[..11]).is_ok());
    }

    #[test]
    fn a_packet_of_ipv6_may_have_65535_bytes_behind_its_header_without_that_of_pieces() {
        let read = |start: u16, len: usize| {
            let head = [0x60, 0, 0, 0, 0, 8 + len as u8, 44, 64];
            let fragment = [&[17, 0][..], &start.to_be_bytes(), &[0, 0, 0, 9]].concat();
            let ends = [[0x20; 16], [0x30; 16]].concat();
            let frame = [&[2; 12][..], &[0x86, 0xdd], &head, &ends, &fragment, &vec![1; len]].concat();
            read6(&frame, frame.len(), Vlan::NONE).map_err(|unread| unread.reason)
        };
        let last = read(65_520, 15).expect("a piece");
        assert_eq!((last.start, last.end, last.is_last), (65_520, u16::MAX, true));
        assert_eq!(read(65_520, 16), Err(DropReason::FragmentBad));
    }

    #[test]
    fn of_a_first_piece_that_can_not_be_read_it_is_known_which_packet_it_begins() {
        let first =
            |protocol, l4: &[u8]| read4(&piece(protocol, 0, true, l4), Vlan::NONE).expect_err("unread").first;
        let known = |protocol| Some(First { protocol, ident: 77, end: 16 });
        assert_eq!(first(ipv4::TCP, &UDP), known(ipv4::TCP));
        assert_eq!(first(ipv4::SCTP, &[0; 16]), known(ipv4::SCTP));
        assert_eq!(first(ipv4::UDP, &UDP[..15]), None, "that is no piece");
        let later = read4(&piece(ipv4::TCP, 8, true, &UDP), Vlan::NONE).expect_err("unread");
        assert_eq!(later, DropReason::FragmentTiny.into());
    }

    #[test]
    fn what_only_says_that_it_is_of_the_last_protocol_is_no_later_piece() {
        let packet = Packet { l3: 14, protocol: LATER, ..Packet::default() };
        for (offset, more, is_any, is_later) in
            [(0, false, false, false), (0, true, true, false), (8, true, true, true), (8, false, true, true)]
        {
            let frame = piece(LATER, offset, more, &UDP);
            assert_eq!((is_piece(&frame, &packet), is_later_piece(&frame, &packet)), (is_any, is_later));
        }
    }

    #[test]
    fn any_bytes_are_read_within_their_bounds() {
        bolero::check!().with_type::<(u8, u16, Vec<u8>)>().for_each(|(protocol, fragment, bytes)| {
            let bytes = &bytes[..bytes.len().min(1_400)];
            if let Ok(piece) = read(*protocol, fragment << 3, fragment & 1 != 0, bytes) {
                assert!(piece.start < piece.end && piece.packet.l4() <= piece.packet.end());
            }
            let frame = [&[2; 12][..], &[0x86, 0xdd], bytes].concat();
            let _ = read6(&frame, frame.len(), Vlan::NONE);
        });
    }
}
