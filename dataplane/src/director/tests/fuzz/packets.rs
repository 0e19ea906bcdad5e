//! Packets as bytes, with lengths that may contradict each other and checksums that are right for what the lengths say.

use super::chance::Chance;
use super::judge::{folded, sctp_checksum};
use crate::address::Addr4;

pub(super) const ICMP: u8 = 1;
pub(super) const IPIP: u8 = 4;
pub(super) const IPV6: u8 = 41;
pub(super) const GRE: u8 = 47;
/// The UDP port that files give to GUE.
pub(super) const GUE_PORT: u16 = 6_080;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const SCTP: u8 = 132;

/// Address and port.
pub(super) type End = (Addr4, u16);

/// An IPv4 packet to be.
pub(super) struct Ip {
    pub(super) protocol: u8,
    pub(super) source: Addr4,
    pub(super) destination: Addr4,
    pub(super) payload: Vec<u8>,
    pub(super) ttl: u8,
    pub(super) fragment: u16,
    pub(super) options: Vec<u8>,
    /// Bytes of the payload that the total length covers, if not all; what follows lies behind the packet.
    pub(super) covered: Option<usize>,
    /// Whether its checksums may be wrong.
    pub(super) may_be_wrong: bool,
}

impl Ip {
    pub(super) fn new(protocol: u8, source: Addr4, destination: Addr4, payload: Vec<u8>) -> Self {
        Self {
            protocol,
            source,
            destination,
            payload,
            ttl: 64,
            fragment: 0,
            options: Vec::new(),
            covered: None,
            may_be_wrong: true,
        }
    }

    /// The packet, and what lies behind it.
    pub(super) fn bytes(mut self, chance: &mut Chance) -> Vec<u8> {
        let covered = self.covered.unwrap_or(self.payload.len());
        let end = covered.min(self.payload.len());
        self.fill_checksum(end, chance);
        self.options.resize(self.options.len().div_ceil(4) * 4, 0);
        let header_len = 20 + self.options.len();
        let mut bytes = vec![0x40 | (header_len / 4) as u8, chance.of(&[0, 0, 0, 0xb8, 3])];
        bytes.extend(((header_len + covered).min(0xffff) as u16).to_be_bytes());
        bytes.extend(chance.word().to_be_bytes());
        bytes.extend(self.fragment.to_be_bytes());
        bytes.extend([self.ttl, self.protocol, 0, 0]);
        bytes.extend(self.source.octets());
        bytes.extend(self.destination.octets());
        bytes.extend(&self.options);
        if self.may_be_wrong && chance.once_in(60) {
            bytes[0] = chance.of(&[0x44, 0x46, 0x4f, 0x65, 0x40]);
        }
        let sum = !folded(&bytes, 0) ^ u16::from(self.may_be_wrong && chance.once_in(60));
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes.append(&mut self.payload);
        bytes
    }

    /// Puts a transport checksum over the payload up to `end`.
    fn fill_checksum(&mut self, end: usize, chance: &mut Chance) {
        let wrong = u16::from(self.may_be_wrong && chance.once_in(12));
        let (message, protocol) = (&mut self.payload[..end], self.protocol);
        let mut pseudo = [0; 12];
        pseudo[..4].copy_from_slice(&self.source.octets());
        pseudo[4..8].copy_from_slice(&self.destination.octets());
        pseudo[9] = protocol;
        pseudo[10..].copy_from_slice(&(end as u16).to_be_bytes());
        let (at, before) = match protocol {
            TCP => (16, folded(&pseudo, 0)),
            UDP if chance.once_in(8) => return,
            UDP => (6, folded(&pseudo, 0)),
            ICMP => (2, 0),
            SCTP if end >= 12 => {
                let sum = sctp_checksum(message) ^ u32::from(wrong);
                message[8..12].copy_from_slice(&sum.to_le_bytes());
                return;
            }
            _ => return,
        };
        if let Some(field) = message.get_mut(at..at + 2) {
            field.fill(0);
            let sum = match !folded(message, before) {
                0 if protocol == UDP => 0xffff,
                sum => sum ^ wrong,
            };
            message[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
    }
}

/// A length near the right one, at an edge, or any.
fn odd(right: usize, chance: &mut Chance) -> usize {
    match chance.below(7) {
        0 => right + 1,
        1 => right.saturating_sub(1),
        2 => 0,
        3 => 0xffff,
        4 => chance.below(right + 1),
        5 => 7,
        _ => chance.below(0x1_0000),
    }
}

/// A TCP segment; now and then its header is said to be longer or shorter than it is.
pub(super) fn tcp(source: u16, destination: u16, flags: u8, data: &[u8], chance: &mut Chance) -> Vec<u8> {
    let options = if chance.once_in(4) { [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2].as_slice() } else { &[] };
    let mut words = 5 + options.len() / 4;
    if chance.once_in(30) {
        words = chance.below(16);
    }
    let mut bytes = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    bytes.extend(chance.bytes(8));
    bytes.extend([(words << 4) as u8, flags, 1, 0, 0, 0, 0, 0]);
    bytes.extend(options);
    bytes.extend(data);
    bytes
}

/// A datagram; now and then it says another length than it has.
pub(super) fn udp(source: u16, destination: u16, data: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut len = 8 + data.len();
    if chance.once_in(20) {
        len = odd(len, chance);
    }
    let mut bytes =
        [source.to_be_bytes(), destination.to_be_bytes(), (len as u16).to_be_bytes(), [0; 2]].concat();
    bytes.extend(data);
    bytes
}

/// A packet of SCTP with some chunks.
pub(super) fn sctp(source: u16, destination: u16, chance: &mut Chance) -> Vec<u8> {
    let mut bytes = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    bytes.extend(chance.bytes(4));
    bytes.extend([0; 4]);
    for _ in 0..1 + chance.below(3) {
        let body = chance.below(5) * 4;
        let mut len = 4 + body;
        if chance.once_in(20) {
            len = odd(len, chance);
        }
        bytes.extend([chance.of(&[1, 1, 2, 10, 11, 0, 3, 6, 7, 8, 14, 255]), 0]);
        bytes.extend((len as u16).to_be_bytes());
        bytes.extend(chance.bytes(body));
    }
    bytes
}

/// An ICMP message.
pub(super) fn icmp(kind: u8, code: u8, rest: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, code, 0, 0];
    bytes.extend(rest.to_be_bytes());
    bytes.extend(data);
    bytes
}

/// An ARP packet; now and then a size or type in it is wrong.
pub(super) fn arp(
    operation: u16,
    sender: ([u8; 6], Addr4),
    target: ([u8; 6], Addr4),
    chance: &mut Chance,
) -> Vec<u8> {
    let mut bytes = vec![0, 1, 8, 0, 6, 4];
    bytes.extend(operation.to_be_bytes());
    bytes.extend(sender.0);
    bytes.extend(sender.1.octets());
    bytes.extend(target.0);
    bytes.extend(target.1.octets());
    if chance.once_in(20) {
        let at = chance.below(8);
        bytes[at] = chance.word() as u8;
    }
    if chance.once_in(30) {
        bytes.truncate(chance.below(28));
    }
    bytes
}
