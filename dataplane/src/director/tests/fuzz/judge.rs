//! What must hold of every frame that goes out, worked out anew from its bytes and from those that came in.
//!
//! Nothing here uses the data path's own reading, sums or updates.

use super::grammar::{OWN, OWN_MACS, VIPS};
use super::judge6::{self, judge6};
use super::packets::{GRE, ICMP, IPIP, IPV6, SCTP, TCP, UDP};
use crate::address::Addr4;

const VIRTUAL_MAC: [u8; 5] = [0, 0, 0x5e, 0, 1];
const VIRTUAL_MAC_V6: [u8; 5] = [0, 0, 0x5e, 0, 2];
/// An ICMP error that weir makes is this long at most (RFC 1812 section 4.3.2.3).
const ERROR_LEN_MAX: usize = 576;

/// The ones' complement sum of 16-bit words (RFC 1071), on top of another.
pub(super) fn folded(bytes: &[u8], before: u16) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum = u32::from(before) + words.sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The checksum of a packet of SCTP (CRC-32C, RFC 9260 appendix A), as a number whose lowest byte goes first.
pub(super) fn sctp_checksum(packet: &[u8]) -> u32 {
    let field = 8..12;
    let crc = packet.iter().enumerate().fold(u32::MAX, |crc, (at, byte)| {
        let byte = if field.contains(&at) { 0 } else { *byte };
        (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ (0x82f6_3b78 & 0_u32.wrapping_sub(crc & 1)))
    });
    !crc
}

/// An IPv4 packet in a frame, no further than its total length goes.
#[derive(Clone, Copy)]
struct Packet<'a> {
    header: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Packet<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let header_len = bytes.first().map_or(0, |first| usize::from(first & 15) * 4);
        if bytes.len() < 20 || bytes[0] >> 4 != 4 || header_len < 20 {
            return Err("no header of IPv4".to_owned());
        }
        let total_len = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
        if total_len < header_len || total_len > bytes.len() {
            return Err(format!("total length {total_len} in {} bytes", bytes.len()));
        }
        let (header, payload) = bytes[..total_len].split_at(header_len);
        Ok(Self { header, payload })
    }

    fn len(&self) -> usize {
        self.header.len() + self.payload.len()
    }

    fn protocol(&self) -> u8 {
        self.header[9]
    }

    fn source(&self) -> Addr4 {
        std::array::from_fn(|n| self.header[12 + n]).into()
    }

    fn is_piece(&self) -> bool {
        u16::from_be_bytes([self.header[6], self.header[7]]) & 0x3fff != 0
    }

    /// Whether it is a piece behind the first one: it has no ports.
    fn is_later_piece(&self) -> bool {
        u16::from_be_bytes([self.header[6], self.header[7]]) & 0x1fff != 0
    }

    fn check_header(&self) -> Result<(), String> {
        match folded(self.header, 0) {
            0xffff => Ok(()),
            sum => Err(format!("the IP header sums to {sum:04x}")),
        }
    }

    /// How far the transport checksum is from right.
    fn transport(&self) -> Sum {
        let payload = self.payload;
        let end = match self.protocol() {
            UDP if payload.len() >= 8 => usize::from(u16::from_be_bytes([payload[4], payload[5]])),
            _ => payload.len(),
        };
        let Some(covered) = payload.get(..end) else { return Sum::None };
        let sum = match self.protocol() {
            UDP if payload.len() < 8 || payload[6..8] == [0, 0] => return Sum::None,
            TCP if payload.len() < 20 => return Sum::None,
            SCTP if payload.len() < 12 => return Sum::None,
            SCTP => {
                let field = u32::from_le_bytes(std::array::from_fn(|n| payload[8 + n]));
                return if field == sctp_checksum(payload) { Sum::Right } else { Sum::Crc };
            }
            ICMP => folded(covered, 0),
            TCP | UDP => {
                let pseudo = folded(&(end as u16).to_be_bytes(), u16::from(self.protocol()));
                folded(covered, folded(&self.header[12..20], pseudo))
            }
            _ => return Sum::None,
        };
        if sum == 0xffff { Sum::Right } else { Sum::Off(sum) }
    }

    /// Whether all of the payload is that of `other`, but for what a director may change.
    fn has_data_of(&self, other: &Self) -> bool {
        let may_change = |at: usize| {
            at < 4
                || match self.protocol() {
                    TCP => (16..18).contains(&at),
                    UDP => (6..8).contains(&at),
                    SCTP => (8..12).contains(&at),
                    _ => false,
                }
        };
        self.payload.len() == other.payload.len()
            && (0..self.payload.len()).all(|at| may_change(at) || self.payload[at] == other.payload[at])
    }

    /// The sums of the IP headers that an ICMP error quotes, one in the other.
    fn quoted_sums(&self) -> Vec<u16> {
        let mut sums = Vec::new();
        let mut quote = self.payload.get(8..).unwrap_or_default();
        while let Some(&first) = quote.first() {
            let len = usize::from(first & 15) * 4;
            let Some(header) = quote.get(..len).filter(|_| first >> 4 == 4 && len >= 20) else { break };
            sums.push(folded(header, 0));
            let skipped = match header[9] {
                ICMP => len + 8,
                IPIP => len,
                _ => break,
            };
            quote = quote.get(skipped..).unwrap_or_default();
        }
        sums
    }

    /// What a tunnel of weir's carries, its own headers checked; `None`: it is no tunnel packet.
    fn in_tunnel(&self) -> Result<Option<Inner<'a>>, String> {
        if !OWN.contains(&self.source()) || !matches!(self.protocol(), IPIP | IPV6 | GRE | UDP) {
            return Ok(None);
        }
        let inner = inner_of(self.protocol(), self.payload).ok_or("a header that no tunnel has")?;
        match (self.protocol(), self.payload) {
            (GRE, [0x80, ..]) => match folded(self.payload, 0) {
                0xffff => Ok(Some(inner)),
                sum => Err(format!("a GRE packet sums to {sum:04x}")),
            },
            (UDP, [_, _, _, _, high, low, ..]) => {
                let len = usize::from(u16::from_be_bytes([*high, *low]));
                match self.transport() {
                    Sum::Right | Sum::None if len == self.payload.len() => Ok(Some(inner)),
                    found => Err(format!("a GUE packet of {len} in {} bytes: {found:?}", self.payload.len())),
                }
            }
            _ => Ok(Some(inner)),
        }
    }

    /// Whether it is an ICMP error.
    fn is_error(&self) -> bool {
        self.protocol() == ICMP && matches!(self.payload.first(), Some(3..=5 | 11 | 12))
    }
}

/// What a tunnel carries, and the version of its IP.
pub(super) type Inner<'a> = (u8, &'a [u8]);

/// What the payload of a tunnel packet of this protocol carries; `None`: no tunnel of weir's has such a header.
pub(super) fn inner_of(protocol: u8, payload: &[u8]) -> Option<Inner<'_>> {
    let (version, inner) = match (protocol, payload) {
        (IPIP, inner) => (4, inner),
        (IPV6, inner) => (6, inner),
        (GRE, [0, 0, 8, 0, inner @ ..] | [0x80, 0, 8, 0, _, _, 0, 0, inner @ ..]) => (4, inner),
        (GRE, [0, 0, 0x86, 0xdd, inner @ ..] | [0x80, 0, 0x86, 0xdd, _, _, 0, 0, inner @ ..]) => (6, inner),
        (UDP, [0xc0..=0xff, _, _, _, _, _, _, _, 0, IPIP, 0, 0, inner @ ..]) => (4, inner),
        (UDP, [0xc0..=0xff, _, _, _, _, _, _, _, 0, IPV6, 0, 0, inner @ ..]) => (6, inner),
        _ => return None,
    };
    Some((version, inner))
}

/// A transport checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sum {
    /// There is none, or what it covers is not all there.
    None,
    Right,
    /// The sum over all, which is to be all ones.
    Off(u16),
    /// One of SCTP that is wrong.
    Crc,
}

/// Offset of the payload of a frame, its EtherType, and the VLAN it is on.
pub(super) fn link(frame: &[u8]) -> Option<(usize, u16, u16)> {
    let half = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
    match half(12)? {
        0x8100 => Some((18, half(16)?, half(14)? & 0x0fff)),
        ether_type => Some((14, ether_type, 0)),
    }
}

/// Judges a frame that goes out of a port with this MTU. `came` is what came in in its buffer; `None`: weir made it.
/// `vips` are those that weir has all the time.
pub(super) fn judge(
    came: Option<&[u8]>,
    out: &[u8],
    (port, mtu): (usize, usize),
    vips: &[Addr4],
) -> Result<(), String> {
    let (l3, ether_type, vlan) = link(out).ok_or("no link header")?;
    let source = &out[6..12];
    if *source != OWN_MACS[port] && source[..5] != VIRTUAL_MAC && source[..5] != VIRTUAL_MAC_V6 {
        return Err(format!("the source MAC is {source:02x?}"));
    }
    if out[..6] == [0; 6] {
        return Err("it goes to no MAC".to_owned());
    }
    if came.and_then(link).is_some_and(|(_, _, came_on)| came_on != vlan) {
        return Err(format!("it goes out on VLAN {vlan}"));
    }
    if let Some(came) = came
        && is_from_link(came)
        && OWN_MACS.iter().enumerate().any(|(number, mac)| number != port && came.starts_with(mac))
    {
        return Err("what came from a link-local address goes to another link".to_owned());
    }
    match ether_type {
        0x0806 if out.len() < l3 + 28 || out[l3..l3 + 6] != [0, 1, 8, 0, 6, 4] => Err("bad ARP".to_owned()),
        0x0806 => judge_arp(&out[l3..], vips),
        0x86dd => judge_ipv6(came, &out[l3..], mtu),
        0x0800 => judge_ipv4(came, out, l3, mtu),
        other => Err(format!("the EtherType is {other:04x}")),
    }
}

/// Whether a frame holds a packet of IPv6 whose source means something on its link alone.
fn is_from_link(frame: &[u8]) -> bool {
    link(frame).is_some_and(|(l3, ether_type, _)| {
        let source = frame.get(l3 + 8..l3 + 10).unwrap_or_default();
        ether_type == 0x86dd && matches!(source, [0xfe, 0x80..=0xbf])
    })
}

/// Nobody is asked for what is weir's. Who tells everybody of an address of its own has it as sender and target.
fn judge_arp(packet: &[u8], vips: &[Addr4]) -> Result<(), String> {
    let target: Addr4 = std::array::from_fn(|n| packet[24 + n]).into();
    let is_request = packet[6..8] == [0, 1];
    let is_announcement = VIPS.contains(&target) && packet[14..18] == packet[24..28];
    let is_ours = OWN.contains(&target) || vips.contains(&target);
    if is_request && !is_announcement && is_ours {
        return Err(format!("ARP for an address of weir's, {target}"));
    }
    Ok(())
}

/// Discovery, an echo, a tunnel to a real server, whole or in pieces, or a packet of IPv6.
fn judge_ipv6(came: Option<&[u8]>, packet: &[u8], mtu: usize) -> Result<(), String> {
    if let Some(came) = came {
        return judge6(came, packet, mtu);
    }
    let len = packet.get(4..6).map_or(0, |len| usize::from(len[0]) << 8 | usize::from(len[1]));
    let message = packet.get(40..40 + len).ok_or_else(|| format!("payload length {len}"))?;
    if 40 + len > mtu {
        return Err(format!("{} bytes over an MTU of {mtu}", 40 + len));
    }
    if packet[6] == 44 {
        return Ok(());
    }
    // A report of multicast listener discovery has a header of options before it.
    let (protocol, message) = match message {
        [next, 0, _, _, _, _, _, _, message @ ..] if packet[6] == 0 => (*next, message),
        message => (packet[6], message),
    };
    let pseudo = folded(&(message.len() as u16).to_be_bytes(), u16::from(protocol));
    match folded(message, folded(&packet[8..40], pseudo)) {
        0xffff => Ok(()),
        sum => Err(format!("the message of IPv6 sums to {sum:04x}")),
    }
}

/// The packet of IPv4 in a tunnel is the one that came.
pub(super) fn judge_inside(came: &[u8], inner: &[u8]) -> Result<(), String> {
    let before = Packet::read(came).map_err(|fault| format!("sent on though it came with {fault}"))?;
    let sent = Packet::read(inner)?;
    if sent.len() != inner.len() {
        return Err(format!("a packet of {} bytes in a tunnel of {}", sent.len(), inner.len()));
    }
    sent.check_header()?;
    if sent.protocol() != before.protocol() {
        return Err("another packet than the one that came".to_owned());
    }
    judge_same(sent, before)
}

fn judge_ipv4(came: Option<&[u8]>, out: &[u8], l3: usize, mtu: usize) -> Result<(), String> {
    let packet = Packet::read(&out[l3..])?;
    packet.check_header()?;
    if packet.len() > mtu {
        return Err(format!("{} bytes over an MTU of {mtu}", packet.len()));
    }
    // What Ethernet asks for, and four bytes for a tag.
    if out.len() > (l3 + packet.len()).max(64) {
        return Err(format!("{} bytes with a packet of {}", out.len(), packet.len()));
    }
    let Some(came) = came else {
        return if packet.is_piece() {
            Ok(())
        } else {
            Err("weir made a packet that is no piece".to_owned())
        };
    };
    let (at, ether_type, _) = link(came).unwrap_or((14, 0, 0));
    if let Some(inner) = packet.in_tunnel()? {
        return judge6::judge_inside(came, inner);
    }
    if ether_type == 0x86dd {
        return judge_translated(came, packet);
    }
    let before = Packet::read(&came[at..]).map_err(|fault| format!("sent on though it came with {fault}"))?;
    if packet.protocol() != before.protocol() {
        return judge_error(packet, before);
    }
    judge_same(packet, before)
}

/// An ICMP error that came by IPv6, about a packet of IPv4 in a tunnel.
fn judge_translated(came: &[u8], sent: Packet<'_>) -> Result<(), String> {
    if !sent.is_error() || sent.transport() != Sum::Right || sent.len() > ERROR_LEN_MAX {
        return Err(format!("an error of {} bytes, checksum {:?}", sent.len(), sent.transport()));
    }
    let quote = &sent.payload[8..];
    if quote.len() < 20 || !came.windows(quote.len()).any(|part| part == quote) {
        return Err("the quote is not what was quoted before".to_owned());
    }
    if sent.payload[..2] == [3, 4] && u16::from_be_bytes([sent.payload[6], sent.payload[7]]) < 1_200 {
        return Err("an MTU that IPv6 does not have".to_owned());
    }
    Ok(())
}

/// An ICMP error that weir made about another packet.
fn judge_error(sent: Packet<'_>, before: Packet<'_>) -> Result<(), String> {
    if !sent.is_error() || sent.transport() != Sum::Right || sent.len() > ERROR_LEN_MAX {
        return Err(format!("an answer of {} bytes, checksum {:?}", sent.len(), sent.transport()));
    }
    let quote = &sent.payload[8..];
    let original = [before.header, before.payload].concat();
    // The TTL may be lower, and the checksum with it.
    let is_like = |at: usize| (8..12).contains(&at) || original.get(at) == quote.get(at);
    if quote.len() < 20
        || !(0..quote.len()).all(is_like)
        || folded(&quote[..before.header.len()], 0) != 0xffff
    {
        return Err("the quote is not the packet that came".to_owned());
    }
    Ok(())
}

/// Whether all that changed is what a helper may change on a control connection of FTP: numbers and blocks of TCP, and an address in 227.
fn is_helped(sent: &Packet<'_>, before: &Packet<'_>) -> bool {
    let header_len =
        |packet: &Packet<'_>| usize::from(packet.payload.get(12).map_or(0, |words| words >> 4)) * 4;
    let (len, ports) = (header_len(before), before.payload.get(..4).unwrap_or_default());
    let is_control = sent.protocol() == TCP && (ports.ends_with(&[0, 21]) || ports.starts_with(&[8, 73]));
    let (Some(is), Some(was)) = (sent.payload.get(len..), before.payload.get(len..)) else { return false };
    let has_reply = |data: &[u8]| data.windows(4).any(|word| word == b"227 ");
    is_control
        && header_len(sent) == len
        && (is == was || has_reply(was) && has_reply(is) && is.windows(11).any(|word| word == b"10,0,0,100,"))
}

/// A packet that was sent on, or answered in kind.
fn judge_same(sent: Packet<'_>, before: Packet<'_>) -> Result<(), String> {
    if before.is_later_piece() {
        let is_same = sent.payload == before.payload && sent.header[4..8] == before.header[4..8];
        return if is_same { Ok(()) } else { Err("a later piece changed".to_owned()) };
    }
    let (is, was) = (sent.transport(), before.transport());
    let is_reset = sent.protocol() == TCP && sent.payload.get(13).is_some_and(|flags| flags & 4 != 0);
    let was_reset = before.protocol() == TCP && before.payload.get(13).is_some_and(|flags| flags & 4 != 0);
    if is_reset && !was_reset {
        return if is == Sum::Right { Ok(()) } else { Err(format!("a RST with checksum {is:?}")) };
    }
    if sent.protocol() == ICMP {
        let sums = before.quoted_sums();
        // That of a message in several segments is not looked at.
        if is != was {
            return Err(format!("the ICMP checksum is {is:?}, came {was:?}"));
        }
        let is_odd = |sum: &&u16| **sum != 0xffff && !sums.contains(sum);
        if sent.is_error()
            && let Some(sum) = sent.quoted_sums().iter().find(is_odd)
        {
            return Err(format!("a quoted header sums to {sum:04x}, those that came to {sums:04x?}"));
        }
        return Ok(());
    }
    // All ones and none at all are the same number.
    if is != was && !(was == Sum::None && is == Sum::Right) {
        return Err(format!("the transport checksum is {is:?}, came {was:?}"));
    }
    if sent.has_data_of(&before) || is_helped(&sent, &before) {
        Ok(())
    } else {
        Err("the data changed".to_owned())
    }
}
