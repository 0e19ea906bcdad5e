//! What helpers change in a TCP segment: sequence numbers, what is acknowledged, and bytes of what it carries.
//!
//! Checksums are updated here as everywhere, so a wrong one stays wrong.

use std::ops::Range;

use zerocopy::FromBytes;
use zerocopy::byteorder::network_endian::{U16, U32};

use super::{ipv4_mut, no_room};
use crate::packet::Frame;
use crate::parse::Packet;
use crate::stats::DropReason;
use crate::wire::checksum::{Delta, Sum};
use crate::wire::l4::{TCP_LEN, Tcp, flags, tcp_option, tcp_option_at};

/// A segment in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// The number of its first byte.
    pub sequence: u32,
    /// Offset of what it carries in the frame.
    pub payload: usize,
}

impl Segment {
    /// Reads it. `None`: its header is not in the first segment of its frame.
    pub fn read(bytes: &[u8], packet: &Packet) -> Option<Self> {
        let (tcp, _) = Tcp::ref_from_prefix(packet.l4_bytes(bytes)).ok()?;
        let payload = packet.l4() + usize::from(tcp.data_offset >> 4) * 4;
        let is_right = payload >= packet.l4() + TCP_LEN && payload <= packet.end().min(bytes.len());
        is_right.then_some(Self { sequence: tcp.sequence.get(), payload })
    }

    /// What it carries, as far as the first segment of its frame has it.
    pub fn carried<'a>(&self, bytes: &'a [u8], packet: &Packet) -> &'a [u8] {
        packet.within(bytes).from(self.payload)
    }
}

/// Adds to a segment's sequence number.
pub fn add_to_sequence(bytes: &mut [u8], packet: &Packet, added: i32) {
    change_header(packet.l4_bytes_mut(bytes), |header| {
        if let Ok((tcp, _)) = Tcp::mut_from_prefix(header) {
            tcp.sequence = U32::new(tcp.sequence.get().wrapping_add_signed(added));
        }
    });
}

/// Takes its FIN from a segment that does not reach to the end any more.
pub fn without_fin(bytes: &mut [u8], packet: &Packet) {
    change_header(packet.l4_bytes_mut(bytes), |header| {
        if let Ok((tcp, _)) = Tcp::mut_from_prefix(header) {
            tcp.flags &= !flags::FIN;
        }
    });
}

/// Changes the numbers of the other end's that a segment names: what it acknowledges, and which blocks have come.
pub fn change_acknowledged(bytes: &mut [u8], packet: &Packet, meant: impl Fn(u32) -> u32) {
    change_header(packet.l4_bytes_mut(bytes), |header| {
        let Ok((tcp, options)) = Tcp::mut_from_prefix(header) else { return };
        if tcp.flags & flags::ACK != 0 {
            tcp.acknowledgement = U32::new(meant(tcp.acknowledgement.get()));
        }
        let mut at = 0;
        while let Some((kind, len)) = tcp_option_at(options, at) {
            if kind == tcp_option::SACK
                && let Some(blocks) = options.get_mut(at + 2..at + len)
            {
                for edge in blocks.as_chunks_mut::<4>().0 {
                    *edge = meant(u32::from_be_bytes(*edge)).to_be_bytes();
                }
            }
            at += len;
        }
    });
}

/// Puts other bytes in the place of some that a segment of IPv4 carries. Returns what is known of the packet afterwards.
///
/// # Errors
/// There is no room in the frame.
pub fn replace<F: Frame>(
    frame: &mut F,
    packet: &Packet,
    place: Range<usize>,
    text: &[u8],
) -> Result<Packet, DropReason> {
    let before = sum_of(packet.l4_bytes(frame.bytes()));
    let (end, tail) = (packet.end(), place.end);
    let longer = text.len() as isize - place.len() as isize;
    let (Some(new_end), Some(new_tail)) = (end.checked_add_signed(longer), tail.checked_add_signed(longer))
    else {
        return Err(DropReason::Truncated);
    };
    if place.start < packet.l4() || tail > end {
        return Err(DropReason::Truncated);
    }
    // Padding goes with it: what lies behind the packet's end means nothing.
    if !frame.resize(end.max(new_end)) {
        return Err(no_room(frame));
    }
    let bytes = frame.bytes_mut();
    bytes.copy_within(tail..end, new_tail);
    bytes[place.start..new_tail].copy_from_slice(text);
    if !frame.resize(new_end) {
        return Err(no_room(frame));
    }
    let total_len = (new_end - packet.l3()) as u16;
    let header = ipv4_mut(frame.bytes_mut(), packet.l3())?;
    header.checksum = Delta::NONE.word(packet.total_len, total_len).apply(header.checksum);
    header.total_len = U16::new(total_len);
    let changed = Packet { total_len, ..*packet };
    let l4 = changed.l4_bytes_mut(frame.bytes_mut());
    update(l4, before);
    Ok(changed)
}

/// Changes a segment's header, whose length is right.
fn change_header(l4: &mut [u8], change: impl FnOnce(&mut [u8])) {
    let Some(len) = Tcp::ref_from_prefix(l4).ok().map(|(tcp, _)| usize::from(tcp.data_offset >> 4) * 4)
    else {
        return;
    };
    let Some(header) = l4.get_mut(..len) else { return };
    let before = Sum::default().bytes(header).fold();
    change(header);
    let after = Sum::default().bytes(header).fold();
    if let Ok((tcp, _)) = Tcp::mut_from_prefix(l4) {
        tcp.checksum = Delta::NONE.word(before, after).apply(tcp.checksum);
    }
}

/// All that the checksum of a segment is over, addresses aside.
fn sum_of(l4: &[u8]) -> u16 {
    Sum::default().bytes(l4).long(l4.len() as u32).fold()
}

/// Brings a segment's checksum up to date, of which all else was `before`.
fn update(l4: &mut [u8], before: u16) {
    let after = sum_of(l4);
    if let Ok((tcp, _)) = Tcp::mut_from_prefix(l4) {
        tcp.checksum = Delta::NONE.word(before, after).apply(tcp.checksum);
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;
    use crate::address::Addr4;
    use crate::packet::heap::HeapFrame;
    use crate::parse::{Content, parse};
    use crate::reply::is_intact;
    use crate::wire::ipv4::{self, Ipv4};

    /// A segment with these options and bytes, and a checksum that is off by so much.
    fn frame(options: &[u8], carried: &[u8], wrong: u16) -> HeapFrame {
        let mut l4 = vec![0x9c, 0x40, 0, 21, 0, 0, 3, 232, 0, 0, 7, 208, 0, 16, 1, 0, 0, 0, 0, 0];
        l4[12] = ((20 + options.len()) as u8 / 4) << 4;
        l4.extend_from_slice(options);
        l4.extend_from_slice(carried);
        let mut bytes = [&[2; 12][..], &[8, 0]].concat();
        let (from, to) = (Addr4::new(10, 0, 0, 1), Addr4::new(192, 0, 2, 1));
        bytes.extend_from_slice(Ipv4::new(ipv4::TCP, from, to, l4.len(), 64).as_bytes());
        let pseudo = Sum::default().address(from).address(to).long(l4.len() as u32).word(6);
        let right = pseudo.bytes(&l4).finish();
        l4[16..18].copy_from_slice(&right.get().wrapping_add(wrong).to_be_bytes());
        bytes.extend_from_slice(&l4);
        HeapFrame::new(&bytes)
    }

    fn packet(frame: &HeapFrame) -> Packet {
        let mut packet = Packet::default();
        assert_eq!(parse(frame, &mut packet), Content::Ipv4);
        packet
    }

    fn is_right(frame: &HeapFrame) -> bool {
        is_intact(frame, &packet(frame))
    }

    #[test]
    fn acknowledged_blocks_are_changed_at_any_offset_and_the_checksum_with_them() {
        for before in 0..4 {
            let mut options = vec![tcp_option::NOTHING; before];
            options.extend([tcp_option::SACK, 18]);
            options.extend([1_000_u32, 1_100, 1_200, 1_300].into_iter().flat_map(u32::to_be_bytes));
            options.resize(24, tcp_option::END);
            let mut frame = frame(&options, b"hello", 0);
            assert!(is_right(&frame));
            let facts = packet(&frame);
            change_acknowledged(frame.bytes_mut(), &facts, |number| number - 10);
            assert!(is_right(&frame), "{before}");
            let l4 = facts.l4_bytes(frame.bytes());
            let at = |at: usize| u32::from_be_bytes(l4[at..at + 4].try_into().expect("four"));
            assert_eq!(at(8), 1_990);
            let edges = [0, 4, 8, 12].map(|edge| at(22 + before + edge));
            assert_eq!(edges, [990, 1_090, 1_190, 1_290]);
            add_to_sequence(frame.bytes_mut(), &facts, -7);
            assert!(is_right(&frame));
            assert_eq!(Segment::read(frame.bytes(), &facts).map(|it| it.sequence), Some(993));
        }
    }

    #[test]
    fn options_of_any_kind_are_passed_over_and_none_panics() {
        bolero::check!().with_type::<([u8; 24], u32)>().for_each(|(options, added)| {
            let mut frame = frame(options, b"", 0);
            let facts = packet(&frame);
            change_acknowledged(frame.bytes_mut(), &facts, |number| number.wrapping_add(*added));
            assert!(is_right(&frame));
        });
    }

    #[test]
    fn other_bytes_of_any_length_keep_a_right_checksum_right_and_a_wrong_one_wrong() {
        bolero::check!().with_type::<(Vec<u8>, Vec<u8>, u8, u8, bool)>().for_each(
            |(carried, text, from, len, is_wrong)| {
                let (carried, text) = (&carried[..carried.len().min(200)], &text[..text.len().min(200)]);
                let from = usize::from(*from) % (carried.len() + 1);
                let to = (from + usize::from(*len)).min(carried.len());
                let mut frame = frame(&[], carried, u16::from(*is_wrong));
                assert!(frame.resize(frame.len().max(60)));
                let facts = packet(&frame);
                let changed = replace(&mut frame, &facts, 54 + from..54 + to, text).expect("there is room");
                assert_eq!(changed, packet(&frame));
                let expected = [&carried[..from], text, &carried[to..]].concat();
                assert_eq!(&frame.bytes()[54..], expected);
                assert_eq!(is_right(&frame), !is_wrong);
            },
        );
    }
}
