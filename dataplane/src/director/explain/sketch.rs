//! A frame that was never received: as much of one as the data path looks at.

use std::net::IpAddr;

use zerocopy::IntoBytes;
use zerocopy::byteorder::network_endian::{U16, U32};

use super::{Question, Segment};
use crate::packet::{Frame, copy_of_one_piece};
use crate::wire::ethernet::{self, HEADER_LEN, MacAddress, Vlan};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::l4::{TCP_LEN, UDP_LEN, flags};
use crate::wire::sctp::{self, chunk};
use weir_config::model::Protocol;

/// Link, IP and the longest transport header.
const BYTES: usize = HEADER_LEN + ipv6::HEADER_LEN + TCP_LEN;

/// The headers of a frame, as its first segment.
#[derive(Clone)]
pub(super) struct Sketch {
    bytes: [u8; BYTES],
    len: usize,
}

impl Sketch {
    /// To the port with this MAC. The length is made long enough for its headers.
    pub(super) fn of(question: &Question, mac: MacAddress) -> Self {
        let (protocol, l4_len) = match question.protocol {
            Protocol::Tcp => (ipv4::TCP, TCP_LEN),
            Protocol::Udp => (ipv4::UDP, UDP_LEN),
            Protocol::Sctp => (ipv4::SCTP, sctp::HEADER_LEN + sctp::CHUNK_LEN),
        };
        let (source, destination) = (question.source.0, question.destination.0);
        let (l3_len, kind) = match source {
            IpAddr::V4(_) => (ipv4::HEADER_LEN, ethernet::TYPE_IPV4),
            IpAddr::V6(_) => (ipv6::HEADER_LEN, ethernet::TYPE_IPV6),
        };
        let payload = usize::from(question.total_len).saturating_sub(l3_len).max(l4_len);
        let payload = payload.min(usize::from(u16::MAX) - l3_len);
        let mut bytes = [0; BYTES];
        // Some station's, which is no group.
        let from = MacAddress([2, 0, 0, 0, 0, 0]);
        let l3 = ethernet::write_header(&mut bytes, mac, from, Vlan::NONE, kind);
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = Ipv4::new(protocol, source.into(), destination.into(), payload, 64);
                header.fragment.set(ipv4::DONT_FRAGMENT);
                header.refresh_checksum();
                bytes[l3..l3 + l3_len].copy_from_slice(header.as_bytes());
            }
            (source, destination) => {
                let header = Ipv6 {
                    version_class_flow: U32::new(6 << 28),
                    payload_len: U16::new(payload as u16),
                    next_header: protocol,
                    hop_limit: 64,
                    source: octets(source),
                    destination: octets(destination),
                };
                bytes[l3..l3 + ipv6::HEADER_LEN].copy_from_slice(header.as_bytes());
            }
        }
        let l4 = &mut bytes[l3 + l3_len..];
        l4[..2].copy_from_slice(&question.source.1.to_be_bytes());
        l4[2..4].copy_from_slice(&question.destination.1.to_be_bytes());
        match question.protocol {
            Protocol::Tcp => {
                l4[12] = (TCP_LEN as u8 / 4) << 4;
                l4[13] = question.segment.flags();
            }
            Protocol::Udp => l4[4..6].copy_from_slice(&(payload as u16).to_be_bytes()),
            Protocol::Sctp => {
                l4[sctp::HEADER_LEN] = question.segment.chunk();
                let len = (payload - sctp::HEADER_LEN) as u16;
                l4[sctp::HEADER_LEN + 2..][..2].copy_from_slice(&len.to_be_bytes());
            }
        }
        Self { bytes, len: l3 + l3_len + payload }
    }
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

impl Segment {
    /// TCP's flags.
    fn flags(self) -> u8 {
        match self {
            Self::Syn => flags::SYN,
            Self::SynAck => flags::SYN | flags::ACK,
            Self::Ack => flags::ACK,
            Self::Fin => flags::FIN | flags::ACK,
            Self::Rst => flags::RST,
        }
    }

    /// The type of SCTP's chunk.
    fn chunk(self) -> u8 {
        match self {
            Self::Syn => chunk::INIT,
            Self::SynAck => chunk::INIT_ACK,
            Self::Ack => chunk::DATA,
            Self::Fin => chunk::SHUTDOWN,
            Self::Rst => chunk::ABORT,
        }
    }
}

impl Frame for Sketch {
    fn len(&self) -> usize {
        self.len
    }
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len.min(BYTES)]
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        let len = self.len.min(BYTES);
        &mut self.bytes[..len]
    }
    fn prepend(&mut self, _: usize) -> bool {
        false
    }
    fn trim_front(&mut self, _: usize) -> bool {
        false
    }
    fn resize(&mut self, len: usize) -> bool {
        len == self.len
    }
    fn copy_to(&self, at: usize, to: &mut [u8]) -> bool {
        copy_of_one_piece(self.bytes(), at, to)
    }
    fn prefetch(&self) {}
}
