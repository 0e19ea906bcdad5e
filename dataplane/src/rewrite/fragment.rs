//! Cutting a packet that is larger than the next hop's MTU (RFC 791 section 3.2), when its sender allows it.
//!
//! Rare, so it copies: each piece is a frame of its own.

use zerocopy::byteorder::network_endian::U16;

use super::ipv4_mut;
use crate::packet::{Frame, Wire};
use crate::stats::DropReason;
use crate::wire::ipv4;

/// Pieces of one packet at most; the largest frame makes 30 at the smallest MTU.
pub const PIECES_MAX: usize = 64;

/// How a packet's payload is divided: into parts as large as the MTU and a buffer allow, of multiples of eight bytes but the last.
pub(super) struct Pieces {
    payload_len: usize,
    step: usize,
    at: usize,
    made: usize,
}

impl Pieces {
    /// `room` is what the MTU leaves for the payload of a piece; `None`: not even its headers fit.
    pub(super) fn new(payload_len: usize, room: Option<usize>) -> Result<Self, DropReason> {
        let pieces = Self { payload_len, step: room.unwrap_or_default() & !7, at: 0, made: 0 };
        if pieces.are_few() { Ok(pieces) } else { Err(DropReason::TooBig) }
    }

    /// A frame for the next piece, with `front` bytes for its headers; where in the payload the piece begins, and its length.
    pub(super) fn next<W: Wire>(
        &mut self,
        wire: &mut W,
        front: usize,
    ) -> Result<Option<(W::Frame, usize, usize)>, DropReason> {
        let left = self.payload_len - self.at;
        if left == 0 {
            return Ok(None);
        }
        let mut out = wire.allocate().ok_or(DropReason::NoBuffer)?;
        // A buffer may hold less than the MTU allows.
        while !out.resize(front + self.step.min(left)) {
            self.step = (self.step / 2) & !7;
            if !self.are_few() {
                wire.release(out);
                return Err(DropReason::NoBuffer);
            }
        }
        let (at, len) = (self.at, self.step.min(left));
        (self.at, self.made) = (at + len, self.made + 1);
        Ok(Some((out, at, len)))
    }

    fn are_few(&self) -> bool {
        self.step > 0 && self.made + (self.payload_len - self.at).div_ceil(self.step) <= PIECES_MAX
    }
}

/// Cuts the packet at `l3` of `frame` into pieces of at most `mtu` bytes and gives each, behind a copy of the link
/// header, to `send`. Options are copied to the first piece alone if they are not to be copied to each.
pub fn cut<W: Wire>(
    frame: &W::Frame,
    l3: usize,
    mtu: usize,
    wire: &mut W,
    mut send: impl FnMut(W::Frame),
) -> Result<(), DropReason> {
    let mut head = [0u8; 18 + 60];
    let bytes = frame.bytes();
    let mut copy = [0u8; ipv4::HEADER_LEN];
    copy.copy_from_slice(bytes.get(l3..l3 + ipv4::HEADER_LEN).ok_or(DropReason::Truncated)?);
    let header = *ipv4_mut(&mut copy, 0)?;
    let l4 = l3 + header.header_len();
    head[..l4].copy_from_slice(bytes.get(..l4).ok_or(DropReason::Truncated)?);
    let payload_len = usize::from(header.total_len.get()).saturating_sub(header.header_len());
    let mut pieces = Pieces::new(payload_len, mtu.checked_sub(header.header_len()))?;
    let first_offset = header.fragment.get() & ipv4::FRAGMENT_OFFSET;
    let more_follow = header.fragment.get() & ipv4::MORE_FRAGMENTS;
    while let Some((mut out, at, len)) = pieces.next(wire, l4)? {
        let flags = if at + len == payload_len { more_follow } else { ipv4::MORE_FRAGMENTS };
        let bytes = out.bytes_mut();
        bytes[..l4].copy_from_slice(&head[..l4]);
        if !frame.copy_to(l4 + at, &mut bytes[l4..]) {
            wire.release(out);
            return Err(DropReason::Truncated);
        }
        if at > 0 {
            blank_options(&mut bytes[l3 + ipv4::HEADER_LEN..l4]);
        }
        let header = ipv4_mut(bytes, l3)?;
        header.total_len = U16::new((l4 - l3 + len) as u16);
        header.fragment = U16::new((first_offset + (at / 8) as u16) | flags);
        header.checksum = U16::ZERO;
        let sum = crate::wire::checksum::Sum::default().bytes(&bytes[l3..l4]).finish();
        ipv4_mut(bytes, l3)?.checksum = sum;
        send(out);
    }
    Ok(())
}

/// Overwrites options that belong to the first piece alone (copied flag 0) by no-operations.
fn blank_options(options: &mut [u8]) {
    const COPIED: u8 = 0x80;
    let mut at = 0;
    while at < options.len() {
        let len = match (options[at], options.get(at + 1)) {
            (ipv4::OPTION_END, _) => return,
            (ipv4::OPTION_NO_OPERATION, _) => 1,
            (_, Some(&len)) if len >= 2 && at + usize::from(len) <= options.len() => usize::from(len),
            // Malformed: the rest can't be told apart, so nothing of it is passed on.
            _ => options.len() - at,
        };
        if options[at] & COPIED == 0 {
            options[at..at + len].fill(ipv4::OPTION_NO_OPERATION);
        }
        at += len;
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;
    use crate::address::Addr4;
    use crate::packet::heap::{HeapFrame, HeapWire};
    use crate::wire::ipv4::Ipv4;

    #[test]
    fn pieces_carry_all_bytes_in_multiples_of_eight_with_right_headers() {
        for (len, mtu) in [(1480usize, 1400usize), (3000, 576), (577, 576), (100, 68)] {
            let payload: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let mut bytes = vec![7; 14];
            bytes.extend_from_slice(
                Ipv4::new(17, Addr4::new(10, 0, 0, 1), Addr4::new(10, 0, 0, 2), len, 9).as_bytes(),
            );
            bytes.extend_from_slice(&payload);
            let mut wire = HeapWire::default();
            let mut pieces = Vec::new();
            cut(&HeapFrame::new(&bytes), 14, mtu, &mut wire, |piece| pieces.push(piece)).expect("fits");
            let mut seen = Vec::new();
            for (index, piece) in pieces.iter().enumerate() {
                let bytes = piece.bytes();
                assert!(bytes.len() - 14 <= mtu);
                assert!(ipv4::checksum_is_right(&bytes[14..34]));
                let mut copy = bytes[14..34].to_vec();
                let header = *ipv4_mut(&mut copy, 0).expect("it is there");
                let fragment = header.fragment.get();
                assert_eq!(usize::from(fragment & ipv4::FRAGMENT_OFFSET) * 8, seen.len());
                assert_eq!(fragment & ipv4::MORE_FRAGMENTS == 0, index + 1 == pieces.len());
                seen.extend_from_slice(&bytes[34..]);
            }
            assert_eq!(seen, payload);
        }
    }

    #[test]
    fn what_lies_in_several_buffers_is_cut_as_what_lies_in_one() {
        let payload: Vec<u8> = (0..8_000usize).map(|n| (n / 3) as u8).collect();
        let header = Ipv4::new(17, Addr4::new(10, 0, 0, 1), Addr4::new(10, 0, 0, 2), payload.len(), 9);
        let bytes = [&[7; 14][..], header.as_bytes(), &payload].concat();
        // The last MTU is more than a buffer holds.
        for mtu in [576, 1_500, 4_000] {
            let cut_up = |first| {
                let (mut wire, mut pieces) = (HeapWire::default(), Vec::new());
                let frame = HeapFrame::chained(&bytes, first);
                cut(&frame, 14, mtu, &mut wire, |piece| pieces.push(piece.bytes().to_vec()))
                    .expect("it fits");
                pieces
            };
            let whole = cut_up(bytes.len());
            assert!(whole.iter().all(|piece| piece.len() <= 14 + mtu));
            assert_eq!(whole.iter().flat_map(|piece| &piece[34..]).copied().collect::<Vec<_>>(), payload);
            for first in [34, 35, 100, 2_048] {
                assert_eq!(cut_up(first), whole, "{mtu} {first}");
            }
        }
    }

    #[test]
    fn later_pieces_keep_only_options_meant_for_each() {
        let mut options = [1, 7, 3, 4, 0x94, 4, 0, 0, 7, 9, 9, 9];
        blank_options(&mut options);
        assert_eq!(options, [1, 1, 1, 1, 0x94, 4, 0, 0, 1, 1, 1, 1]);
    }
}
