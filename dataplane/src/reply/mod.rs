//! Packets that weir originates: in the buffer of the packet they answer, back to where it came from.
//!
//! An answer goes to the MAC that the question came from, so it needs no neighbour. ICMP errors and RSTs are
//! limited in rate by the caller.

pub mod arp;
pub mod mld;
pub mod nd;
pub mod tunnel6;
pub mod v6;

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, IntoBytes};

use crate::address::{Addr4, Wire4};
use crate::packet::{Frame, sum_over};
use crate::parse::{self, Packet};
use crate::rewrite::{ipv4_mut, no_room};
use crate::stats::DropReason;
use crate::wire::checksum::{Delta, Sum};
use crate::wire::ethernet::{self, MacAddress};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6;
use crate::wire::l4::{self, Icmp, Tcp, Udp, flags, icmp};

/// TTL of what weir sends by itself.
const TTL: u8 = 64;
/// An ICMP error is this long at most, IP header included (RFC 1812 section 4.3.2.3).
const ERROR_LEN_MAX: usize = 576;
/// Every way takes packets of this size (RFC 791 section 3.2).
const MTU_MIN: u16 = 68;
/// Precedence of ICMP errors: internetwork control (RFC 1812 section 4.3.2.5).
const ERROR_TOS: u8 = 0xc0;

/// An ICMP error to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Error {
    /// ICMP type.
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
    /// What stands behind the checksum: the MTU of fragmentation needed, the pointer of a parameter problem.
    pub rest: u32,
}

impl Error {
    /// No real server, or nobody listens.
    pub const PORT_UNREACHABLE: Error =
        Error { kind: icmp::UNREACHABLE, code: icmp::PORT_UNREACHABLE, rest: 0 };
    /// Nobody speaks that protocol here.
    pub const PROTOCOL_UNREACHABLE: Error =
        Error { kind: icmp::UNREACHABLE, code: icmp::PROTOCOL_UNREACHABLE, rest: 0 };
    /// There is no way to it.
    pub const HOST_UNREACHABLE: Error =
        Error { kind: icmp::UNREACHABLE, code: icmp::HOST_UNREACHABLE, rest: 0 };
    /// TTL ran out on the way.
    pub const TIME_EXCEEDED: Error = Error { kind: icmp::TIME_EXCEEDED, code: 0, rest: 0 };

    /// What stands at `pointer` of a packet of IPv6 keeps it from going on.
    pub fn parameter_problem(code: u8, pointer: u32) -> Self {
        Error { kind: icmp::PARAMETER_PROBLEM, code, rest: pointer }
    }

    /// Larger than `mtu` and not to be cut (RFC 1191 section 4).
    pub fn fragmentation_needed(mtu: u16) -> Self {
        Error { kind: icmp::UNREACHABLE, code: icmp::FRAGMENTATION_NEEDED, rest: u32::from(mtu) }
    }

    /// Whether it says that a packet is too big.
    pub fn is_too_big(&self) -> bool {
        (self.kind, self.code) == (icmp::UNREACHABLE, icmp::FRAGMENTATION_NEEDED)
    }

    /// What an error about a tunnel packet says about the packet inside, whose way is narrower by the outer headers. An MTU
    /// that leaves no way inside (routers from before RFC 1191 say 0) is passed on as it is, as by the kernel: what to make of
    /// it is the client's affair.
    pub fn about_client(told: &Icmp, overhead: u16) -> Self {
        let error = Error { kind: told.kind, code: told.code, rest: 0 };
        if error.is_too_big() {
            let mtu = told.rest.get() as u16;
            return Self::fragmentation_needed(if mtu > MTU_MIN + overhead { mtu - overhead } else { mtu });
        }
        error
    }

    /// The same for a client of IPv6, which is told an MTU that any link of its has at least. Whatever else is wrong with a tunnel
    /// is wrong with the host behind it (RFC 4213 section 3.4). `None`: there is no such error.
    pub fn in_ipv6(self) -> Option<Self> {
        match self.kind {
            _ if self.is_too_big() => {
                let mtu = u16::try_from(self.rest).unwrap_or(u16::MAX);
                Some(Self::fragmentation_needed(mtu.max(ipv6::MTU_MIN)))
            }
            icmp::UNREACHABLE | icmp::TIME_EXCEEDED => Some(Self::HOST_UNREACHABLE),
            _ => None,
        }
    }
}

/// Whether a host would look at a segment or datagram: its checksum is right. What is neither TCP nor UDP is not looked at.
pub fn is_intact<F: Frame>(frame: &F, packet: &Packet) -> bool {
    let bytes = frame.bytes();
    let len = match (packet.protocol, Udp::ref_from_prefix(packet.l4_bytes(bytes))) {
        (ipv4::TCP, _) => packet.l4_len(),
        // Only IPv4 has datagrams without one (RFC 8200 section 8.1).
        (ipv4::UDP, Ok((head, _))) if head.checksum == U16::ZERO => return !packet.is_of_ipv6(),
        (ipv4::UDP, Ok((head, _))) => packet.l4_len().min(usize::from(head.len.get())),
        _ => return true,
    };
    let pseudo = match parse::v6::ends(bytes, packet.l3()) {
        Ok(ends) if packet.is_of_ipv6() => {
            Sum::default().bytes(&ends.source.octets()).bytes(&ends.destination.octets())
        }
        _ => Sum::default().address(packet.source).address(packet.destination),
    };
    let pseudo = pseudo.long(len as u32).word(packet.protocol.into());
    pseudo.behind(&[], sum_over(frame, packet.l4(), packet.l4() + len)).fold() == 0xffff
}

/// Sends a frame back to the station it came from.
fn swap_macs(bytes: &mut [u8], mac: MacAddress) {
    bytes.copy_within(6..12, 0);
    bytes[6..12].copy_from_slice(&mac.0);
}

/// Turns an echo request into its reply, a packet of our own with `ident`.
pub fn echo<F: Frame>(frame: &mut F, packet: &Packet, mac: MacAddress, ident: u16) -> Result<(), DropReason> {
    let bytes = frame.bytes_mut();
    swap_macs(bytes, mac);
    let header = ipv4_mut(bytes, packet.l3())?;
    header.source = Wire4::new(packet.destination);
    header.destination = Wire4::new(packet.source);
    let old = *header;
    header.ttl = TTL;
    header.ident = U16::new(ident);
    header.fragment = U16::ZERO;
    let delta = Delta::NONE
        .word(u16::from_be_bytes([old.ttl, old.protocol]), u16::from_be_bytes([TTL, old.protocol]))
        .word(old.ident.get(), ident)
        .word(old.fragment.get(), 0);
    header.checksum = delta.apply(header.checksum);
    let message = packet.l4_bytes_mut(bytes);
    let (head, data) = Icmp::mut_from_prefix(message).map_err(|_| DropReason::Truncated)?;
    head.kind = icmp::ECHO_REPLY;
    let old = u16::from(icmp::ECHO_REQUEST) << 8;
    head.checksum = Delta::NONE.word(old, 0).apply(head.checksum);
    // Of zeros alone the checksum is all ones, which an update can't tell from the other zero of ones' complement. No other
    // message that weir updates is all zeros: it has another type, or a pseudo-header.
    let is_of_zeros = || head.code == 0 && head.rest == U32::ZERO && data.iter().all(|byte| *byte == 0);
    if head.checksum == U16::ZERO && is_of_zeros() {
        head.checksum = U16::MAX_VALUE;
    }
    Ok(())
}

/// Turns a packet into an ICMP error about it, from `source` to its sender.
///
/// The packet is quoted as it is in the frame now, up to 576 bytes in all.
pub fn error<F: Frame>(
    frame: &mut F,
    packet: &Packet,
    error: Error,
    source: Addr4,
    mac: MacAddress,
) -> Result<(), DropReason> {
    const HEADERS: usize = ipv4::HEADER_LEN + l4::ICMP_LEN;
    let l3 = packet.l3();
    let quoted = usize::from(packet.total_len).min(ERROR_LEN_MAX - HEADERS);
    if !frame.resize(l3 + quoted) || !frame.is_contiguous() || !frame.prepend(HEADERS) {
        return Err(no_room(frame));
    }
    let bytes = frame.bytes_mut();
    bytes.copy_within(HEADERS..HEADERS + l3, 0);
    swap_macs(bytes, mac);
    let mut header = Ipv4::new(ipv4::ICMP, source, packet.source, l4::ICMP_LEN + quoted, TTL);
    header.tos = ERROR_TOS;
    header.refresh_checksum();
    bytes[l3..l3 + ipv4::HEADER_LEN].copy_from_slice(header.as_bytes());
    let message = &mut bytes[l3 + ipv4::HEADER_LEN..];
    let head = Icmp { kind: error.kind, code: error.code, checksum: U16::ZERO, rest: U32::new(error.rest) };
    message[..l4::ICMP_LEN].copy_from_slice(head.as_bytes());
    let checksum = Sum::default().bytes(message).finish();
    message[2..4].copy_from_slice(checksum.as_bytes());
    Ok(())
}

/// Turns a TCP segment that belongs to no connection into the RST that answers it (RFC 9293 section 3.5.2).
/// The segment is not a RST itself.
pub fn reset<F: Frame>(frame: &mut F, packet: &Packet, mac: MacAddress) -> Result<(), DropReason> {
    if packet.is_of_ipv6() {
        return v6::reset(frame, packet, mac);
    }
    let l3 = packet.l3();
    let segment = packet.l4_bytes(frame.bytes());
    let (segment, _) = Tcp::ref_from_prefix(segment).map_err(|_| DropReason::Truncated)?;
    let mut answer = answer_to(segment, packet);
    if !frame.resize(l3 + ipv4::HEADER_LEN + l4::TCP_LEN) {
        return Err(no_room(frame));
    }
    let bytes = frame.bytes_mut();
    swap_macs(bytes, mac);
    let mut header = Ipv4::new(ipv4::TCP, packet.destination, packet.source, l4::TCP_LEN, TTL);
    header.fragment = U16::new(ipv4::DONT_FRAGMENT);
    header.refresh_checksum();
    let pseudo = Sum::default().address(packet.source).address(packet.destination);
    let pseudo = pseudo.word(u16::from(ipv4::TCP)).word(l4::TCP_LEN as u16);
    answer.checksum = pseudo.bytes(answer.as_bytes()).finish();
    bytes[l3..l3 + ipv4::HEADER_LEN].copy_from_slice(header.as_bytes());
    bytes[l3 + ipv4::HEADER_LEN..].copy_from_slice(answer.as_bytes());
    Ok(())
}

/// The RST that answers a segment, without its checksum.
fn answer_to(segment: &Tcp, packet: &Packet) -> Tcp {
    let payload = packet.l4_len().saturating_sub(usize::from(segment.data_offset >> 4) * 4);
    let marks = u32::from(segment.flags & flags::SYN != 0) + u32::from(segment.flags & flags::FIN != 0);
    let (sequence, acknowledgement, flags) = if segment.flags & flags::ACK != 0 {
        (segment.acknowledgement.get(), 0, flags::RST)
    } else {
        (0, segment.sequence.get().wrapping_add(payload as u32 + marks), flags::RST | flags::ACK)
    };
    Tcp {
        source: U16::new(packet.destination_port),
        destination: U16::new(packet.source_port),
        sequence: U32::new(sequence),
        acknowledgement: U32::new(acknowledgement),
        data_offset: 0x50,
        flags,
        window: U16::ZERO,
        checksum: U16::ZERO,
        urgent: U16::ZERO,
    }
}

/// Turns an ICMP error about one of weir's tunnel packets into the same error about the client's packet inside,
/// from `vip` to the client. `inner` is the offset of the client's packet in the quote. The link header is for the
/// caller to write.
///
/// # Errors
/// [`DropReason::Truncated`] when the packet ends before the header of the client's does; nothing was changed then.
/// [`DropReason::LongFrame`] when the frame lies in several pieces.
pub fn relay<F: Frame>(
    frame: &mut F,
    packet: &Packet,
    inner: usize,
    error: Error,
    (vip, client): (Addr4, Addr4),
) -> Result<(), DropReason> {
    quote_anew::<F, Ipv4>(frame, packet, inner, ERROR_LEN_MAX)?;
    let l3 = packet.l3();
    let bytes = frame.bytes_mut();
    let mut header = Ipv4::new(ipv4::ICMP, vip, client, bytes.len() - l3 - ipv4::HEADER_LEN, TTL);
    header.tos = ERROR_TOS;
    header.refresh_checksum();
    // The error may have come by IPv6.
    bytes[l3 - 2..l3].copy_from_slice(&ethernet::TYPE_IPV4.to_be_bytes());
    bytes[l3..l3 + ipv4::HEADER_LEN].copy_from_slice(header.as_bytes());
    let message = &mut bytes[l3 + ipv4::HEADER_LEN..];
    let head = Icmp { kind: error.kind, code: error.code, checksum: U16::ZERO, rest: U32::new(error.rest) };
    message[..l4::ICMP_LEN].copy_from_slice(head.as_bytes());
    let checksum = Sum::default().bytes(message).finish();
    message[2..4].copy_from_slice(checksum.as_bytes());
    Ok(())
}

/// Leaves of a message that quotes a packet inside a tunnel packet what quotes the packet inside, which has a header `H`, and so
/// much of it that the whole is no longer than `longest`. The headers in front of it are for the caller to write.
fn quote_anew<F: Frame, H>(
    frame: &mut F,
    packet: &Packet,
    inner: usize,
    longest: usize,
) -> Result<(), DropReason> {
    let (l3, end) = (packet.l3(), packet.end());
    // The quote moves to the front: the outer headers were no shorter than what takes their place.
    let surplus = inner.checked_sub(l3 + size_of::<H>() + l4::ICMP_LEN);
    let surplus = surplus.filter(|_| inner + size_of::<H>() <= end).ok_or(DropReason::Truncated)?;
    if !frame.resize(end.min(surplus + l3 + longest)) || !frame.is_contiguous() {
        return Err(no_room(frame));
    }
    frame.bytes_mut().copy_within(0..l3, surplus);
    if !frame.trim_front(surplus) {
        return Err(no_room(frame));
    }
    Ok(())
}

/// Writes an ARP packet into an empty frame.
pub(crate) fn write_arp<F: Frame>(
    frame: &mut F,
    to: MacAddress,
    from: MacAddress,
    vlan: ethernet::Vlan,
    packet: &ethernet::Arp,
) -> bool {
    let len = vlan.header_len() + ethernet::Arp::LEN;
    if !frame.resize(len.max(ethernet::FRAME_LEN_MIN)) {
        return false;
    }
    let bytes = frame.bytes_mut();
    bytes.fill(0);
    let at = ethernet::write_header(bytes, to, from, vlan, ethernet::TYPE_ARP);
    bytes[at..at + ethernet::Arp::LEN].copy_from_slice(packet.as_bytes());
    true
}
