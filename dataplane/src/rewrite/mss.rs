//! The largest segment that one end of a TCP connection takes, as its SYN announces it (RFC 9293 section 3.7.1), lowered.
//!
//! The option can only be lowered where it is: a SYN that has none stays without, and its sender takes
//! [`ClampMss::MIN`](weir_config::model::ClampMss::MIN) octets then, which is no more than any limit.

use zerocopy::FromBytes;

use crate::parse::Packet;
use crate::wire::checksum::Delta;
use crate::wire::l4::{TCP_LEN, Tcp, tcp_option, tcp_option_at};

/// Lowers what a SYN announces to `limit`. Whether anything changed. Of an option that is there twice both are lowered: ends differ
/// in which of them they believe. One of a wrong length means nothing to anybody and stays, and so do all options behind one whose
/// length can't be.
pub fn clamp(bytes: &mut [u8], packet: &Packet, limit: u16) -> bool {
    let Ok((tcp, rest)) = Tcp::mut_from_prefix(packet.l4_bytes_mut(bytes)) else { return false };
    let options_len = (usize::from(tcp.data_offset >> 4) * 4).saturating_sub(TCP_LEN);
    let Some(options) = rest.get_mut(..options_len) else { return false };
    let (mut at, mut delta, mut is_lowered) = (0, Delta::NONE, false);
    while let Some((kind, len)) = tcp_option_at(options, at) {
        if kind == tcp_option::MAXIMUM_SEGMENT
            && let Some([_, 4, high, low]) = options.get_mut(at..at + len)
        {
            let announced = u16::from_be_bytes([*high, *low]);
            if announced > limit {
                [*high, *low] = limit.to_be_bytes();
                is_lowered = true;
                delta = match at % 2 {
                    0 => delta.word(announced, limit),
                    // It lies across two of the words that are summed up (RFC 1071 section 2).
                    _ => delta.word(announced.swap_bytes(), limit.swap_bytes()),
                };
            }
        }
        at += len;
    }
    if is_lowered {
        tcp.checksum = delta.apply(tcp.checksum);
    }
    is_lowered
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;
    use crate::address::Addr4;
    use crate::wire::checksum::Sum;
    use crate::wire::ipv4;
    use crate::wire::l4::flags;

    const L4: usize = 34;

    /// A SYN with these options, padded to whole words, and its packet. `surplus` is said by the data offset and not there.
    fn syn(options: &[u8], surplus: usize, data: &[u8]) -> (Vec<u8>, Packet) {
        let mut options = options[..options.len().min(40 - 4 * surplus.min(10))].to_vec();
        options.resize(options.len().next_multiple_of(4), 0);
        let mut frame = vec![0x11; L4];
        let words = 5 + options.len() / 4 + surplus.min(10);
        frame.extend_from_slice(&[0x03, 0xe8, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, (words as u8) << 4, flags::SYN]);
        frame.extend_from_slice(&[0xff, 0xff, 0, 0, 0, 0]);
        frame.extend_from_slice(&options);
        frame.extend_from_slice(data);
        let sum = checksum(&frame);
        frame[L4 + 16..L4 + 18].copy_from_slice(sum.as_bytes());
        let packet = Packet {
            l3: 14,
            l4: L4 as u8,
            protocol: ipv4::TCP,
            flags: flags::SYN,
            total_len: (frame.len() - 14) as u16,
            source: Addr4::new(192, 0, 2, 1),
            destination: Addr4::new(192, 0, 2, 2),
            ..Packet::default()
        };
        (frame, packet)
    }

    /// Over the segment; the pseudo-header does not change.
    fn checksum(frame: &[u8]) -> zerocopy::byteorder::network_endian::U16 {
        let mut segment = frame[L4..].to_vec();
        segment[16..18].fill(0);
        Sum::default().bytes(&segment).finish()
    }

    /// What stands in a SYN's options after it was clamped.
    fn clamped(options: &[u8], limit: u16) -> Vec<u8> {
        let (mut frame, packet) = syn(options, 0, b"odd");
        let before = frame.clone();
        assert_eq!(clamp(&mut frame, &packet, limit), frame != before, "{options:x?}");
        assert_eq!(frame[L4 + 16..L4 + 18], *checksum(&frame).as_bytes(), "{options:x?}");
        frame[L4 + 20..L4 + 20 + options.len()].to_vec()
    }

    #[test]
    fn it_is_lowered_wherever_it_stands() {
        assert_eq!(clamped(&[2, 4, 5, 180], 1440), [2, 4, 5, 160]);
        assert_eq!(clamped(&[1, 2, 4, 5, 180], 1440), [1, 2, 4, 5, 160], "at an odd place");
        assert_eq!(clamped(&[4, 2, 3, 3, 7, 2, 4, 5, 180, 1], 1440), [4, 2, 3, 3, 7, 2, 4, 5, 160, 1]);
        assert_eq!(
            clamped(&[2, 4, 5, 180, 1, 2, 4, 255, 255], 1440),
            [2, 4, 5, 160, 1, 2, 4, 5, 160],
            "twice"
        );
        let last = [[1; 36].as_slice(), &[2, 4, 5, 180]].concat();
        assert_eq!(clamped(&last, 1440)[36..], [2, 4, 5, 160], "the last one");
    }

    #[test]
    fn what_is_small_enough_or_not_there_or_no_option_stays() {
        for options in [
            [].as_slice(),
            &[2, 4, 5, 160],
            &[2, 4, 2, 24],
            &[2, 4, 0, 0],
            &[1, 1, 1, 1],
            &[0, 2, 4, 255, 255],
            &[2, 3, 255, 255],
            &[2, 6, 255, 255, 255, 255],
            &[2, 2, 255, 255],
            &[3, 0, 2, 4, 255, 255],
            &[3, 1, 2, 4, 255, 255],
            &[8, 40, 2, 4, 255, 255],
            &[1, 1, 1, 2],
            &[1, 1, 2, 4],
            &[1, 2, 4, 255],
            &[8],
            &[2],
        ] {
            assert_eq!(clamped(options, 1440), options);
        }
    }

    #[test]
    fn a_wrong_checksum_stays_wrong_by_as_much() {
        let field = |frame: &[u8]| u32::from(u16::from_be_bytes([frame[L4 + 16], frame[L4 + 17]]));
        let (mut frame, packet) = syn(&[2, 4, 5, 180], 0, b"");
        let wrong = (field(&frame) + 7) % 0xffff;
        frame[L4 + 16..L4 + 18].copy_from_slice(&(wrong as u16).to_be_bytes());
        assert!(clamp(&mut frame, &packet, 1440));
        assert_eq!(field(&frame), (u32::from(checksum(&frame).get()) + 7) % 0xffff);
    }

    #[test]
    fn options_that_are_not_all_there_stay() {
        let (mut frame, packet) = syn(&[2, 4, 5, 180], 1, b"");
        let before = frame.clone();
        assert!(!clamp(&mut frame, &packet, 1440), "the data offset reaches beyond the packet");
        assert_eq!(frame, before);
        for len in 0..frame.len() {
            let mut start = before[..len].to_vec();
            assert!(!clamp(&mut start, &packet, 1440));
            assert_eq!(start, before[..len]);
        }
    }

    #[test]
    fn any_options_keep_the_checksum_and_all_but_an_mss() {
        let check = |(options, surplus, limit): &(Vec<u8>, u8, u16)| {
            let (mut frame, packet) = syn(options, usize::from(*surplus % 4), b"x");
            let before = frame.clone();
            let is_lowered = clamp(&mut frame, &packet, *limit);
            assert_eq!(is_lowered, frame != before);
            assert!(!clamp(&mut frame.clone(), &packet, *limit), "once is enough");
            // Ones' complement has two zeros.
            let is = u16::from_be_bytes([frame[L4 + 16], frame[L4 + 17]]);
            assert_eq!(is % 0xffff, checksum(&frame).get() % 0xffff);
            let changed: Vec<usize> = (L4 + 20..frame.len()).filter(|&at| frame[at] != before[at]).collect();
            for at in changed {
                let is_mss = |at: usize| {
                    frame[at..].starts_with(&[2, 4]) && frame[at + 2..].starts_with(&limit.to_be_bytes())
                };
                assert!(is_mss(at - 2) || is_mss(at - 3), "{at} of {frame:x?}");
            }
        };
        bolero::check!().with_type::<(Vec<u8>, u8, u16)>().for_each(check);
    }
}
