//! As `judge`, of packets of IPv6: sent on by each method, in tunnels over either family, answered, and errors passed on.

use std::net::Ipv6Addr;

use super::grammar6::OWN6;
use super::judge::{Inner, folded, inner_of, link, sctp_checksum};
use super::packets::{SCTP, TCP, UDP};

const ICMPV6: u8 = 58;
const FRAGMENT: u8 = 44;
/// Weir makes no message that is longer (RFC 4443 section 2.4).
const ERROR_LEN_MAX: usize = 1_280;

/// An IPv6 packet, no further than its length goes.
#[derive(Clone, Copy)]
pub(super) struct Packet6<'a> {
    header: &'a [u8],
    payload: &'a [u8],
}

/// The transport of a packet: its protocol, and how far behind the header it lies.
type Transport = (u8, usize);

impl<'a> Packet6<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, String> {
        if bytes.len() < 40 || bytes[0] >> 4 != 6 {
            return Err("no header of IPv6".to_owned());
        }
        let len = usize::from(u16::from_be_bytes([bytes[4], bytes[5]]));
        let payload =
            bytes[40..].get(..len).ok_or_else(|| format!("payload length {len} in {}", bytes.len()))?;
        Ok(Self { header: &bytes[..40], payload })
    }

    fn len(&self) -> usize {
        40 + self.payload.len()
    }

    fn address(&self, at: usize) -> Ipv6Addr {
        Ipv6Addr::from(std::array::from_fn::<u8, 16, _>(|n| self.header[at + n]))
    }

    fn source(&self) -> Ipv6Addr {
        self.address(8)
    }

    fn destination(&self) -> Ipv6Addr {
        self.address(24)
    }

    /// Behind its extension headers.
    fn transport(&self) -> Result<Transport, String> {
        let (mut protocol, mut at) = (self.header[6], 0);
        while matches!(protocol, 0 | 43 | 60 | FRAGMENT) {
            let Some([next, units, ..]) = self.payload.get(at..at + 8) else {
                return Err("an extension header that is cut off".to_owned());
            };
            at += if protocol == FRAGMENT { 8 } else { 8 + usize::from(*units) * 8 };
            protocol = *next;
        }
        if at > self.payload.len() { Err("no transport".to_owned()) } else { Ok((protocol, at)) }
    }

    /// An option for every hop that says to drop the packet: nobody on the way here knows one.
    fn forbids(&self) -> Option<u8> {
        if self.header[6] != 0 {
            return None;
        }
        let len = 8 + usize::from(*self.payload.get(1)?) * 8;
        let mut options = self.payload.get(2..len)?;
        while let [kind, rest @ ..] = options {
            options = match (kind, rest) {
                (0, _) => rest,
                _ if kind >> 6 != 0 => return Some(*kind),
                (_, [len, rest @ ..]) => rest.get(usize::from(*len)..)?,
                _ => return None,
            };
        }
        None
    }

    /// Whether it is a piece behind the first one: it has no ports.
    fn is_later_piece(&self) -> bool {
        let (mut protocol, mut at) = (self.header[6], 0);
        while let (0 | 43 | 60 | FRAGMENT, Some([next, units, high, low, ..])) =
            (protocol, self.payload.get(at..at + 8))
        {
            if protocol == FRAGMENT && (*high != 0 || low & !7 != 0) {
                return true;
            }
            at += if protocol == FRAGMENT { 8 } else { 8 + usize::from(*units) * 8 };
            protocol = *next;
        }
        false
    }

    /// How far the transport checksum is from right: `None`, there is none. A wrong one of SCTP is just that.
    fn sum(&self, (protocol, at): Transport) -> Option<u16> {
        let l4 = &self.payload[at..];
        let end = match protocol {
            UDP if l4.len() >= 8 => usize::from(u16::from_be_bytes([l4[4], l4[5]])),
            _ => l4.len(),
        };
        let covered = l4.get(..end)?;
        match protocol {
            UDP if l4.len() < 8 || l4[6..8] == [0, 0] => return None,
            TCP if l4.len() < 20 => return None,
            SCTP if l4.len() < 12 => return None,
            SCTP => {
                let field = u32::from_le_bytes(std::array::from_fn(|n| l4[8 + n]));
                return Some(if field == sctp_checksum(l4) { 0xffff } else { 1 });
            }
            TCP | UDP | ICMPV6 => {}
            _ => return None,
        }
        let pseudo = folded(&(end as u32).to_be_bytes(), u16::from(protocol));
        Some(folded(covered, folded(&self.header[8..40], pseudo)))
    }
}

/// Judges a packet of IPv6 that came as the one in the frame `came`; `mtu` is that of the port that it goes out of.
pub(super) fn judge6(came: &[u8], packet: &[u8], mtu: usize) -> Result<(), String> {
    let sent = Packet6::read(packet)?;
    let (at, ether_type, _) = link(came).ok_or("an answer to no frame")?;
    if sent.len() > mtu {
        return Err(format!("{} bytes over an MTU of {mtu}", sent.len()));
    }
    if packet.len() > sent.len().max(50) {
        return Err(format!("{} bytes with a packet of {}", packet.len(), sent.len()));
    }
    let inner = if sent.source() == OWN6 { inner_of(sent.header[6], sent.payload) } else { None };
    match inner {
        Some(_) if !has_right_header(&sent) => Err("a header that no tunnel has, or a wrong sum".to_owned()),
        Some((_, inner)) if sent.header[7] != limit_of(inner) => {
            Err("the outer hop limit is not that of the packet inside".to_owned())
        }
        Some(inner) => judge_inside(came, inner),
        None if ether_type == 0x86dd => judge_alone(&came[at..], &sent),
        None => judge_relayed(came, &sent),
    }
}

/// What stands around the packet in a tunnel has a right sum, or none.
fn has_right_header(sent: &Packet6<'_>) -> bool {
    match (sent.header[6], sent.payload) {
        (UDP, payload) => {
            let len = payload.get(4..6).map(|len| usize::from(u16::from_be_bytes([len[0], len[1]])));
            len == Some(payload.len()) && sent.sum((UDP, 0)).is_none_or(|sum| sum == 0xffff)
        }
        (47, [0x80, ..]) => folded(sent.payload, 0) == 0xffff,
        _ => true,
    }
}

/// TTL or hop limit.
fn limit_of(packet: &[u8]) -> u8 {
    let at = if packet.first().is_some_and(|first| first >> 4 == 6) { 7 } else { 8 };
    packet.get(at).copied().unwrap_or(0)
}

/// The packet in a tunnel is that of the frame `came`, whole, and one hop further.
pub(super) fn judge_inside(came: &[u8], inner: Inner<'_>) -> Result<(), String> {
    let (at, ether_type, _) = link(came).ok_or("a tunnel for no frame")?;
    match inner {
        (4, bytes) if ether_type == 0x0800 => super::judge::judge_inside(&came[at..], bytes),
        (6, bytes) if ether_type == 0x86dd => {
            let (sent, before) = (Packet6::read(bytes)?, Packet6::read(&came[at..])?);
            if sent.len() != bytes.len() {
                return Err(format!("a packet of {} bytes in a tunnel of {}", sent.len(), bytes.len()));
            }
            judge_on(&sent, &before)
        }
        (family, _) => Err(format!("a packet of IPv{family} in the tunnel, of EtherType {ether_type:04x}")),
    }
}

/// A packet that goes out without a tunnel, and came as one of the same family.
fn judge_alone(came: &[u8], sent: &Packet6<'_>) -> Result<(), String> {
    let before = Packet6::read(came)?;
    let is_back = sent.destination() == before.source();
    if sent.source() == before.source() || sent.destination() == before.destination() {
        return judge_on(sent, &before);
    }
    let transport = sent.transport()?;
    if sent.sum(transport) != Some(0xffff) {
        return Err(format!("an answer whose message sums to {:04x?}", sent.sum(transport)));
    }
    let message = &sent.payload[transport.1..];
    match (sent.header[6], message.first()) {
        (TCP, _) if message[13] & 4 == 0 => Err("an answer that is no RST".to_owned()),
        (TCP, _) => Ok(()),
        (ICMPV6, Some(1..=4)) => {
            let quote = &message[8..];
            // The hop limit may be lower.
            let is_like = |from: &[u8]| {
                from.len() >= quote.len() && (0..quote.len()).all(|at| at == 7 || from[at] == quote[at])
            };
            let is_there =
                if is_back { is_like(came) } else { came.windows(quote.len().max(1)).any(is_like) };
            match sent.len() <= ERROR_LEN_MAX && quote.len() >= 40 && is_there {
                true => judge_mtu(message),
                false => Err("the quote is not the packet that came".to_owned()),
            }
        }
        (ICMPV6, Some(129 | 136)) => Ok(()),
        (next, kind) => Err(format!("an answer with next header {next}, type {kind:?}")),
    }
}

/// An error that came by IPv4, about a packet of IPv6 in a tunnel.
fn judge_relayed(came: &[u8], sent: &Packet6<'_>) -> Result<(), String> {
    let transport = sent.transport()?;
    let message = &sent.payload[transport.1..];
    let is_error = sent.header[6] == ICMPV6 && matches!(message.first(), Some(1..=4));
    if !is_error || sent.sum(transport) != Some(0xffff) || sent.len() > ERROR_LEN_MAX {
        return Err(format!("an error of {} bytes that sums to {:04x?}", sent.len(), sent.sum(transport)));
    }
    let quote = &message[8..];
    if quote.len() < 40 || !came.windows(quote.len()).any(|part| part == quote) {
        return Err("the quote is not what was quoted before".to_owned());
    }
    judge_mtu(message)
}

fn judge_mtu(message: &[u8]) -> Result<(), String> {
    let mtu = u32::from_be_bytes(std::array::from_fn(|n| message[4 + n]));
    if message[0] == 2 && mtu < 1_280 { Err(format!("an MTU of {mtu}")) } else { Ok(()) }
}

/// A packet that was sent on: one hop further, and with nothing changed but what its method changes.
fn judge_on(sent: &Packet6<'_>, before: &Packet6<'_>) -> Result<(), String> {
    let is_same = |at: usize| at == 7 || sent.header[at] == before.header[at];
    if let Some(kind) = before.forbids() {
        return Err(format!("it went on with option {kind:#x}"));
    }
    if sent.header[7].checked_add(1) != Some(before.header[7]) || sent.header[7] == 0 {
        return Err(format!("a hop limit of {}, came {}", sent.header[7], before.header[7]));
    }
    if !(0..8).all(is_same) || sent.payload.len() != before.payload.len() {
        return Err("a packet that was sent on changed before its addresses, or in length".to_owned());
    }
    let of_source = sent.source() == before.source();
    if of_source && sent.destination() == before.destination() {
        let is_same = sent.payload == before.payload;
        return if is_same { Ok(()) } else { Err("a packet that was sent on changed".to_owned()) };
    }
    if before.is_later_piece() {
        return if sent.payload == before.payload { Ok(()) } else { Err("a later piece changed".to_owned()) };
    }
    let transport = sent.transport()?;
    let (is, was) = (sent.sum(transport), before.sum(transport));
    // All ones and none at all are the same number to some.
    if is != was && !(was.is_none() && is == Some(0xffff)) {
        return Err(format!("the transport sums to {is:04x?}, came {was:04x?}"));
    }
    let (protocol, at) = transport;
    let may_change = |offset: usize| match offset.checked_sub(at) {
        None => false,
        Some(offset) => match protocol {
            // Of NAT's two directions each has one port to change.
            TCP => (if of_source { 2..4 } else { 0..2 }).contains(&offset) || (16..18).contains(&offset),
            UDP => (if of_source { 2..4 } else { 0..2 }).contains(&offset) || (6..8).contains(&offset),
            SCTP => (if of_source { 2..4 } else { 0..2 }).contains(&offset) || (8..12).contains(&offset),
            ICMPV6 => {
                (2..4).contains(&offset)
                    || offset >= 8 && may_change_quoted(&sent.payload[at + 8..], offset - 8)
            }
            _ => false,
        },
    };
    let is_same = |offset: usize| may_change(offset) || sent.payload[offset] == before.payload[offset];
    if (0..sent.payload.len()).all(is_same) { Ok(()) } else { Err("the data changed".to_owned()) }
}

/// What NAT changes of a quoted packet: an address and a port.
fn may_change_quoted(quote: &[u8], offset: usize) -> bool {
    if (8..40).contains(&offset) {
        return true;
    }
    // Of a quote whose length goes further than it.
    let mut whole = quote.to_vec();
    if let Some(field) = whole.get_mut(4..6) {
        field.copy_from_slice(&(quote.len().saturating_sub(40) as u16).to_be_bytes());
    }
    let transport = Packet6::read(&whole).and_then(|packet| packet.transport());
    transport.is_ok_and(|(_, at)| (40 + at..44 + at).contains(&offset))
}
