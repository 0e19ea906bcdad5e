//! Most frames of IPv6: no tag, no extension header, TCP or UDP, recognised in one go.
//!
//! What is said here of a frame is what [`super::v6::parse`] says of it, but for its source and its ends' numbers; `tests` hold
//! the two against each other. A datagram that is shorter than a TCP header is not for this file.

use std::net::Ipv6Addr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{DECIDING, Station};
use crate::wire::ethernet::{self, Ethernet};
use crate::wire::ipv4;
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::l4::{self, Tcp, flags};

/// The headers of such a frame; a UDP header lies within the TCP one.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Plain6 {
    /// Addresses and type.
    pub link: Ethernet,
    /// Without extension headers.
    pub ip: Ipv6,
    /// Or a UDP header and what follows.
    pub tcp: Tcp,
}

/// What a plain frame does to its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It leaves the state of an established one as it is: any datagram, a TCP segment with ACK alone.
    Usual,
    /// It opens one and does nothing else: a SYN.
    Opening,
}

/// An address as two words, upper half first.
pub type Words = [u64; 2];

/// An address as two words.
#[inline]
pub fn words(address: Ipv6Addr) -> Words {
    let bits = address.to_bits();
    [(bits >> 64) as u64, bits as u64]
}

/// Whether an address means something on its own link alone (RFC 4291 section 2.5.6).
#[inline]
pub fn is_for_link([upper, _]: Words) -> bool {
    upper >> 54 == 0xfe80 >> 6
}

/// Where a plain packet goes to or comes from, as it stands in the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Socket6 {
    address: Words,
    port: u16,
    /// No protocol is 0, so this stands for none.
    protocol: u8,
}

impl Socket6 {
    /// Eight bits that depend on address and port.
    #[inline]
    pub fn hash(self) -> usize {
        let mixed = self.address[0].rotate_left(17) ^ self.address[1] ^ u64::from(self.port) << 24;
        (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize
    }
}

impl Plain6 {
    /// What this frame of `frame_len` bytes does, if it really is a plain one, right but for its source, may be passed on as far as its
    /// hop limit goes, and has no padding.
    #[inline]
    pub fn kind(&self, frame_len: usize) -> Option<Kind> {
        const AROUND: usize = ethernet::HEADER_LEN + ipv6::HEADER_LEN;
        let payload_len = usize::from(self.ip.payload_len.get());
        let is_right = self.is_ipv6()
            && AROUND + payload_len == frame_len
            && payload_len <= usize::from(u16::MAX) - ipv6::HEADER_LEN
            && self.ip.hop_limit > 1;
        if !is_right {
            return None;
        }
        match self.ip.next_header {
            ipv4::TCP => {
                let header_len = usize::from(self.tcp.data_offset >> 4) * 4;
                if header_len < l4::TCP_LEN || header_len > payload_len {
                    return None;
                }
                match self.tcp.flags & DECIDING {
                    flags::ACK => Some(Kind::Usual),
                    flags::SYN => Some(Kind::Opening),
                    _ => None,
                }
            }
            ipv4::UDP => {
                // The UDP length stands where TCP has the upper half of the sequence number.
                let len = (self.tcp.sequence.get() >> 16) as usize;
                (l4::UDP_LEN..=payload_len).contains(&len).then_some(Kind::Usual)
            }
            _ => None,
        }
    }

    #[inline]
    fn is_ipv6(&self) -> bool {
        const WANTED: u32 = u32::from_ne_bytes([0x86, 0xdd, 0x60, 0]);
        const LOOKED_AT: u32 = u32::from_ne_bytes([0xff, 0xff, 0xf0, 0]);
        let bytes = self.as_bytes();
        u32::from_ne_bytes(std::array::from_fn(|n| bytes[12 + n])) & LOOKED_AT == WANTED
    }

    /// As [`super::Plain::is_for`].
    #[inline]
    pub fn is_for(&self, own: Station) -> bool {
        self.word::<0>() & Station::LOOKED_AT == own.0
    }

    /// Length of the packet, in bytes.
    #[inline]
    pub fn total_len(&self) -> u16 {
        self.ip.payload_len.get().wrapping_add(ipv6::HEADER_LEN as u16)
    }

    /// From whom, as it is looked up.
    #[inline]
    pub fn source(&self) -> Words {
        [self.word::<22>(), self.word::<30>()].map(u64::from_be)
    }

    /// To whom, as it is looked up.
    #[inline]
    pub fn destination(&self) -> Words {
        [self.word::<38>(), self.word::<46>()].map(u64::from_be)
    }

    /// Where it comes from, to be compared as a whole.
    #[inline]
    pub fn source_socket(&self) -> Socket6 {
        Socket6 {
            address: [self.word::<22>(), self.word::<30>()],
            port: u16::from_ne_bytes(self.tcp.source.to_bytes()),
            protocol: self.ip.next_header,
        }
    }

    /// Where it goes to, to be compared as a whole.
    #[inline]
    pub fn destination_socket(&self) -> Socket6 {
        Socket6 {
            address: [self.word::<38>(), self.word::<46>()],
            port: u16::from_ne_bytes(self.tcp.destination.to_bytes()),
            protocol: self.ip.next_header,
        }
    }

    /// Eight bytes of the frame, as they lie in memory.
    #[inline]
    fn word<const AT: usize>(&self) -> u64 {
        let bytes = self.as_bytes();
        u64::from_ne_bytes(std::array::from_fn(|n| bytes[AT + n]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::v6;
    use crate::wire::ethernet::Vlan;

    fn frame(protocol: u8, l4: &[u8]) -> Vec<u8> {
        let mut bytes = vec![2; 12];
        bytes.extend([0x86, 0xdd, 0x6b, 0x90, 0, 7]);
        bytes.extend((l4.len() as u16).to_be_bytes());
        bytes.extend([protocol, 64]);
        bytes.extend(0x2001_0db8_u128.to_be_bytes().map(|byte| byte ^ 1));
        bytes.extend((0x2001_0db8_u128 << 96).to_be_bytes());
        bytes.extend(l4);
        bytes
    }

    fn agrees(bytes: &[u8]) {
        let Ok((plain, _)) = Plain6::ref_from_prefix(bytes) else { return };
        let Some(kind) = plain.kind(bytes.len()) else { return };
        let mut unicast = bytes.to_vec();
        unicast[22] = 0x20;
        let packet = v6::parse(&unicast, bytes.len(), Vlan::NONE).expect("it is a right packet");
        assert_eq!((packet.l3, packet.l4, packet.total_len), (14, 54, plain.total_len()));
        assert_eq!((packet.protocol, packet.end()), (plain.ip.next_header, bytes.len()));
        assert_eq!(
            (packet.source_port, packet.destination_port),
            (plain.tcp.source.get(), plain.tcp.destination.get())
        );
        let expected = match kind {
            Kind::Opening => packet.protocol == ipv4::TCP && packet.flags & DECIDING == flags::SYN,
            Kind::Usual => packet.protocol == ipv4::UDP || packet.flags & DECIDING == flags::ACK,
        };
        assert!(expected && plain.ip.hop_limit > 1);
    }

    const TCP: [u8; 24] = [0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 16, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0];
    const UDP: [u8; 24] = [0x9c, 0x40, 0, 80, 0, 24, 0, 1, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0];

    #[test]
    fn it_says_what_the_parser_says_with_any_one_byte_changed() {
        for good in [frame(ipv4::TCP, &TCP), frame(ipv4::UDP, &UDP)] {
            let plain = Plain6::ref_from_prefix(&good).expect("it is long enough").0;
            assert_eq!(plain.kind(good.len()), Some(Kind::Usual));
            assert_eq!(plain.source(), [0x0101_0101_0101_0101, 0x0101_0101_2100_0cb9]);
            assert_eq!(plain.destination(), [0x2001_0db8 << 32, 0]);
            for at in 0..good.len() {
                for value in 0..=255 {
                    let mut bytes = good.clone();
                    bytes[at] = value;
                    agrees(&bytes);
                    bytes.pop();
                    agrees(&bytes);
                }
            }
        }
    }

    #[test]
    fn it_agrees_with_the_parser_on_any_bytes() {
        bolero::check!().with_type::<(u8, Vec<u8>)>().for_each(|(protocol, l4)| {
            agrees(&frame(*protocol, &l4[..l4.len().min(1_400)]));
        });
    }

    #[test]
    fn a_syn_opens_and_nothing_else_does() {
        for bits in 0..=255 {
            let mut segment = TCP;
            segment[13] = bits;
            let bytes = frame(ipv4::TCP, &segment);
            let kind = Plain6::ref_from_prefix(&bytes).expect("it is long enough").0.kind(bytes.len());
            let expected = match bits & DECIDING {
                flags::SYN => Some(Kind::Opening),
                flags::ACK => Some(Kind::Usual),
                _ => None,
            };
            assert_eq!(kind, expected, "{bits:#x}");
        }
    }
}
