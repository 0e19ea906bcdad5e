//! First stage: bytes to facts, or why not.
//!
//! Everything later stages need is taken from the frame here, once, and checked: lengths, versions, the IP header
//! checksum. Nothing malformed gets past this file. Payloads are not looked at, and TCP and UDP checksums are left
//! to the end hosts, as IPVS leaves them.

pub mod options6;
pub mod pieces;
pub mod plain6;
pub mod v6;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::address::Addr4;
use crate::packet::Frame;
use crate::stats::DropReason;
use crate::wire::ethernet::{self, Ethernet, MacAddress, Vlan};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::l4::{self, Icmp, Ports, Tcp, Udp, flags};
use crate::wire::sctp::{self, Chunk, Sctp};

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// An IPv4 packet.
    Ipv4,
    /// An IPv6 packet, not looked at yet: see [`v6::parse`].
    Ipv6,
    /// An ARP packet, not looked at yet.
    Arp,
    /// Nothing that can be read.
    Bad(DropReason),
}

/// An IP packet in a frame. Numbers are in host order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Packet {
    /// The frame's 802.1Q tag.
    pub vlan: Vlan,
    /// Offset of the IP header in the frame, in bytes.
    pub l3: u8,
    /// Offset of what follows the IP header and its options, in bytes.
    pub l4: u8,
    /// IP protocol number.
    pub protocol: u8,
    /// TCP: see [`l4::flags`]. SCTP: the number of a [`sctp::Event`]. ICMP: the type.
    pub flags: u8,
    /// Length of the IP packet, in bytes. The frame may be longer by padding, never shorter.
    pub total_len: u16,
    /// TCP, UDP, SCTP; else 0.
    pub source_port: u16,
    /// TCP, UDP, SCTP; else 0.
    pub destination_port: u16,
    /// From whom.
    pub source: Addr4,
    /// To whom.
    pub destination: Addr4,
}

impl Packet {
    /// Whether it is one of IPv6, whose `source` and `destination` are numbers that stand for its ends: no packet of IPv4 comes
    /// from such a number.
    #[inline]
    pub fn is_of_ipv6(&self) -> bool {
        self.source.is_of_ipv6()
    }

    /// Whether it is a TCP segment with SYN, alone or with ACK.
    #[inline]
    pub fn is_syn(&self) -> bool {
        self.protocol == ipv4::TCP && self.flags & flags::SYN != 0
    }

    /// Offset of the IP header in the frame.
    #[inline]
    pub fn l3(&self) -> usize {
        usize::from(self.l3)
    }

    /// Offset of the transport header in the frame.
    #[inline]
    pub fn l4(&self) -> usize {
        usize::from(self.l4)
    }

    /// Offset of the packet's end in the frame. What lies behind is padding, of which nothing may be read.
    #[inline]
    pub fn end(&self) -> usize {
        self.l3() + usize::from(self.total_len)
    }

    /// Length of the transport header and what follows, in bytes.
    #[inline]
    pub fn l4_len(&self) -> usize {
        self.end() - self.l4()
    }

    /// What the first segment of its frame holds up to the packet's end.
    #[inline]
    pub fn within<'a>(&self, frame: &'a [u8]) -> Within<'a> {
        Within(&frame[..self.end().min(frame.len())])
    }

    /// The transport header and what follows, as far as the first segment of its frame holds it.
    #[inline]
    pub fn l4_bytes<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        self.within(frame).from(self.l4())
    }

    /// As [`Packet::l4_bytes`], to be changed.
    #[inline]
    pub fn l4_bytes_mut<'a>(&self, frame: &'a mut [u8]) -> &'a mut [u8] {
        let end = self.end().min(frame.len());
        frame.get_mut(self.l4()..end).unwrap_or_default()
    }
}

/// A frame without its padding: whoever reads a packet inside of a packet asks for this, and so can't read past the
/// outer one's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Within<'a>(&'a [u8]);

impl<'a> Within<'a> {
    /// All from an offset in the frame on; nothing if that is the end or behind it.
    #[inline]
    pub fn from(self, offset: usize) -> &'a [u8] {
        self.0.get(offset..).unwrap_or_default()
    }
}

/// Most frames: no tag, no IP options, TCP; or UDP, whose header lies within the TCP one.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Plain {
    /// Addresses and type.
    pub link: Ethernet,
    /// Without options.
    pub ip: Ipv4,
    /// Or a UDP header and what follows.
    pub tcp: Tcp,
}

/// The flags of TCP that states depend on.
const DECIDING: u8 = flags::SYN | flags::FIN | flags::RST | flags::ACK;

/// A port's MAC, as [`Plain::is_for`] looks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Station(u64);

impl Station {
    /// The destination, and of the source the bit that says group.
    const LOOKED_AT: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0]);

    /// Of this MAC.
    pub fn new(MacAddress([a, b, c, d, e, f]): MacAddress) -> Self {
        Self(u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]))
    }
}

/// Where a plain packet goes to or comes from, as it stands in the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Socket(u64);

impl Socket {
    /// Eight bits that depend on address and port: the upper ones of the product, which depend on all below.
    #[inline]
    pub fn hash(self) -> usize {
        (self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize
    }

    /// The source port lies between them.
    const LOOKED_AT: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0, 0, 0xff, 0xff]);

    /// Of this address and port.
    pub fn of(address: Addr4, port: u16) -> Self {
        let ([a, b, c, d], [e, f]) = (address.octets(), port.to_be_bytes());
        Self(u64::from_ne_bytes([a, b, c, d, 0, 0, e, f]))
    }
}

/// Reads a received frame into `packet`; of ARP, its tag alone.
#[inline]
pub fn parse<F: Frame>(frame: &F, packet: &mut Packet) -> Content {
    match Plain::ref_from_prefix(frame.bytes()) {
        Ok((plain, _)) if parse_plain(plain, frame.len(), packet) => Content::Ipv4,
        _ => parse_any(frame, packet),
    }
}

/// The straight way for a plain frame that is right in all respects. False: [`parse_any`] has to look.
#[inline]
fn parse_plain(plain: &Plain, frame_len: usize, packet: &mut Packet) -> bool {
    let is_right = plain.is_right(frame_len);
    if is_right {
        *packet = plain.packet();
    }
    is_right
}

impl Plain {
    /// Whether this really is the beginning of a plain TCP or UDP frame of `frame_len` bytes, and right in all respects.
    #[inline]
    pub fn is_right(&self, frame_len: usize) -> bool {
        let total_len = self.total_len();
        let holds_l4 = match self.ip.protocol {
            ipv4::TCP => self.holds_tcp(total_len),
            ipv4::UDP => self.holds_udp(total_len),
            _ => false,
        };
        holds_l4
            && ethernet::HEADER_LEN + total_len <= frame_len
            && self.is_right_ipv4()
            && self.has_right_source()
    }

    /// Whether it is IPv4 with a right header, lengths and source aside.
    #[inline]
    fn is_right_ipv4(&self) -> bool {
        self.is_whole_ipv4() && self.ip.plain_checksum_is_right()
    }

    /// Whether it is right but for its source, leaves the state of an established connection as it is (any datagram, a TCP
    /// segment with ACK alone), may be passed on as far as its TTL goes, and is padded no more than Ethernet asks for. Its
    /// source is right if it has a connection.
    #[inline]
    pub fn is_usual(&self, frame_len: usize) -> bool {
        let total_len = self.total_len();
        match self.ip.protocol {
            ipv4::TCP if self.tcp.flags & DECIDING == flags::ACK && self.holds_tcp(total_len) => {}
            ipv4::UDP if self.holds_udp(total_len) => {}
            _ => return false,
        }
        self.may_pass(total_len, frame_len)
    }

    /// As [`Plain::is_usual`], of a segment that does nothing but open a connection. Its source is right as well.
    #[inline]
    pub fn is_opening(&self, frame_len: usize) -> bool {
        self.ip.protocol == ipv4::TCP
            && self.tcp.flags & DECIDING == flags::SYN
            && self.holds_tcp(self.total_len())
            && self.may_pass(self.total_len(), frame_len)
            && self.has_right_source()
    }

    /// Whether it leaves the state of an established connection as it is.
    #[inline]
    pub fn is_steady(&self) -> bool {
        self.ip.protocol != ipv4::TCP || self.tcp.flags & DECIDING == flags::ACK
    }

    /// Whether its IPv4 is right but for its source, may be passed on as far as its TTL goes, and is padded no more than
    /// Ethernet asks for.
    #[inline]
    fn may_pass(&self, total_len: usize, frame_len: usize) -> bool {
        let end = ethernet::HEADER_LEN + total_len;
        let fits = end == frame_len || end < frame_len && frame_len <= ethernet::FRAME_LEN_MIN;
        fits && self.ip.ttl > 1 && self.is_right_ipv4()
    }

    /// Whether it is IPv4 without options, and no piece of a larger packet.
    #[inline]
    fn is_whole_ipv4(&self) -> bool {
        const WANTED: u32 = u32::from_ne_bytes([8, 0, 0x45, 0]);
        const LOOKED_AT: u32 = u32::from_ne_bytes([0xff, 0xff, 0xff, 0]);
        const FRAGMENT: u16 =
            u16::from_ne_bytes((ipv4::MORE_FRAGMENTS | ipv4::FRAGMENT_OFFSET).to_be_bytes());
        let bytes = self.as_bytes();
        let type_and_version = u32::from_ne_bytes(std::array::from_fn(|n| bytes[12 + n]));
        let fragment = u16::from_ne_bytes(self.ip.fragment.to_bytes());
        type_and_version & LOOKED_AT == WANTED && fragment & FRAGMENT == 0
    }

    /// Whether the packet has room for its TCP header.
    #[inline]
    fn holds_tcp(&self, total_len: usize) -> bool {
        holds(total_len, usize::from(self.tcp.data_offset >> 4) * 4, l4::TCP_LEN)
    }

    /// Whether the packet has room for its UDP header and payload.
    #[inline]
    fn holds_udp(&self, total_len: usize) -> bool {
        // The UDP length stands where TCP has the upper half of the sequence number.
        holds(total_len, (self.tcp.sequence.get() >> 16) as usize, l4::UDP_LEN)
    }

    /// Length of the packet, in bytes.
    #[inline]
    fn total_len(&self) -> usize {
        usize::from(self.ip.total_len.get())
    }

    /// Whether the source can be a host.
    #[inline]
    fn has_right_source(&self) -> bool {
        self.ip.source.get().is_unicast()
    }

    /// Whether it goes to the station `own` and comes from a single one.
    #[inline]
    pub fn is_for(&self, own: Station) -> bool {
        self.word::<0>() & Station::LOOKED_AT == own.0
    }

    /// Destination address and port, to be compared as a whole: see [`Socket::of`].
    #[inline]
    pub fn destination(&self) -> Socket {
        Socket(self.word::<30>() & Socket::LOOKED_AT)
    }

    /// Source address and port, likewise.
    #[inline]
    pub fn source(&self) -> Socket {
        let ([a, b, c, d], [e, f]) = (self.ip.source.octets(), self.tcp.source.to_bytes());
        Socket(u64::from_ne_bytes([a, b, c, d, 0, 0, e, f]))
    }

    /// Eight bytes of the frame, as they lie in memory.
    #[inline]
    fn word<const AT: usize>(&self) -> u64 {
        let bytes = self.as_bytes();
        u64::from_ne_bytes(std::array::from_fn(|n| bytes[AT + n]))
    }

    /// What [`parse`] says about it when it is right.
    #[inline]
    pub fn packet(&self) -> Packet {
        let Plain { ip, tcp, .. } = self;
        Packet {
            vlan: Vlan::NONE,
            l3: ethernet::HEADER_LEN as u8,
            l4: (ethernet::HEADER_LEN + ipv4::HEADER_LEN) as u8,
            protocol: ip.protocol,
            flags: self.flags(),
            total_len: ip.total_len.get(),
            source_port: tcp.source.get(),
            destination_port: tcp.destination.get(),
            source: ip.source.get(),
            destination: ip.destination.get(),
        }
    }

    /// TCP's flags; 0 for UDP.
    #[inline]
    pub fn flags(&self) -> u8 {
        if self.ip.protocol == ipv4::TCP { self.tcp.flags } else { 0 }
    }
}

/// Whether a packet of `total_len` bytes without options has room for `l4_len`, no less than `least`, behind its header.
#[inline]
fn holds(total_len: usize, l4_len: usize, least: usize) -> bool {
    l4_len >= least && ipv4::HEADER_LEN + l4_len <= total_len
}

/// The long way: every shape of frame, and the reason why one can't be read.
#[cold]
fn parse_any<F: Frame>(frame: &F, packet: &mut Packet) -> Content {
    match parse_link(frame, packet) {
        Ok(content) => content,
        Err(reason) => Content::Bad(reason),
    }
}

fn parse_link<F: Frame>(frame: &F, packet: &mut Packet) -> Result<Content, DropReason> {
    let bytes = frame.bytes();
    let (_, vlan, ether_type, _) = ethernet::read(bytes).ok_or(DropReason::Truncated)?;
    packet.vlan = vlan;
    match ether_type {
        ethernet::TYPE_IPV4 => {
            *packet = parse_ipv4(bytes, frame.len(), vlan)?;
            Ok(Content::Ipv4)
        }
        ethernet::TYPE_IPV6 => Ok(Content::Ipv6),
        ethernet::TYPE_ARP => Ok(Content::Arp),
        _ => Err(DropReason::EtherType),
    }
}

/// Reads the IPv4 packet behind the link header. `bytes` is the first segment of a frame of `frame_len` bytes.
fn parse_ipv4(bytes: &[u8], frame_len: usize, vlan: Vlan) -> Result<Packet, DropReason> {
    let l3 = vlan.header_len();
    let (header, _) = Ipv4::ref_from_prefix(&bytes[l3..]).map_err(|_| DropReason::Truncated)?;
    let header_len = header.header_len();
    let total_len = usize::from(header.total_len.get());
    if header.version_ihl >> 4 != 4 || header_len < ipv4::HEADER_LEN || total_len < header_len {
        return Err(DropReason::BadIpHeader);
    }
    let l4 = l3 + header_len;
    if l3 + total_len > frame_len || l4 > bytes.len() {
        return Err(DropReason::Truncated);
    }
    if !ipv4::checksum_is_right(&bytes[l3..l4]) {
        return Err(DropReason::BadIpChecksum);
    }
    let source = header.source.get();
    if !source.is_unicast() {
        return Err(DropReason::BadIpHeader);
    }
    if header.is_fragment() {
        return Err(DropReason::Fragment);
    }
    if has_source_route(&bytes[l3 + ipv4::HEADER_LEN..l4]) {
        return Err(DropReason::SourceRoute);
    }
    let mut packet = Packet {
        vlan,
        l3: l3 as u8,
        l4: l4 as u8,
        protocol: header.protocol,
        flags: 0,
        total_len: total_len as u16,
        source_port: 0,
        destination_port: 0,
        source,
        destination: header.destination.get(),
    };
    // The transport header has to lie within the packet and within the first segment.
    let end = bytes.len().min(l3 + total_len);
    parse_l4(&bytes[l4..end], total_len - header_len, &mut packet)?;
    Ok(packet)
}

/// Whether the sender wants to choose the way (RFC 791 section 3.1), or the options can't be told apart.
fn has_source_route(options: &[u8]) -> bool {
    let mut at = 0;
    while let Some(&kind) = options.get(at) {
        at += match (kind, options.get(at + 1)) {
            (ipv4::OPTION_END, _) => return false,
            (ipv4::OPTION_NO_OPERATION, _) => 1,
            (ipv4::OPTION_LOOSE_SOURCE_ROUTE | ipv4::OPTION_STRICT_SOURCE_ROUTE, _) => return true,
            (_, Some(&len)) if len >= 2 => usize::from(len),
            _ => return true,
        };
    }
    at > options.len()
}

/// Reads ports and flags. `bytes` is what the first segment holds of a payload of `payload_len` bytes.
fn parse_l4(bytes: &[u8], payload_len: usize, packet: &mut Packet) -> Result<(), DropReason> {
    match packet.protocol {
        ipv4::TCP => {
            let (tcp, _) = Tcp::ref_from_prefix(bytes).map_err(|_| DropReason::Truncated)?;
            let header_len = usize::from(tcp.data_offset >> 4) * 4;
            if header_len < l4::TCP_LEN || header_len > payload_len {
                return Err(DropReason::BadL4Header);
            }
            packet.flags = tcp.flags;
            packet.source_port = tcp.source.get();
            packet.destination_port = tcp.destination.get();
        }
        ipv4::UDP => {
            let (udp, _) = Udp::ref_from_prefix(bytes).map_err(|_| DropReason::Truncated)?;
            let len = usize::from(udp.len.get());
            if len < l4::UDP_LEN || len > payload_len {
                return Err(DropReason::BadL4Header);
            }
            packet.source_port = udp.source.get();
            packet.destination_port = udp.destination.get();
        }
        ipv4::SCTP => {
            let (header, chunks) = Sctp::ref_from_prefix(bytes).map_err(|_| DropReason::Truncated)?;
            let (first, _) = Chunk::ref_from_prefix(chunks).map_err(|_| DropReason::Truncated)?;
            let len = usize::from(first.len.get());
            if len < sctp::CHUNK_LEN || sctp::HEADER_LEN + len > payload_len {
                return Err(DropReason::BadL4Header);
            }
            packet.flags = sctp::event(chunks) as u8;
            packet.source_port = header.source.get();
            packet.destination_port = header.destination.get();
        }
        ipv4::ICMP => {
            let (icmp, _) = Icmp::ref_from_prefix(bytes).map_err(|_| DropReason::Truncated)?;
            packet.flags = icmp.kind;
        }
        _ => {}
    }
    Ok(())
}

/// The packet that an ICMP error quotes: as much of it as there is, at least its IP header and its ports, if it has any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quoted {
    /// Offset of the quoted IP header in the frame, in bytes.
    pub l3: usize,
    /// Offset of the quoted transport header in the frame, in bytes.
    pub l4: usize,
    /// IP protocol number.
    pub protocol: u8,
    /// From whom: one of ours, if the error concerns us.
    pub source: Addr4,
    /// To whom.
    pub destination: Addr4,
    /// TCP, UDP, SCTP; else 0.
    pub source_port: u16,
    /// TCP, UDP, SCTP; else 0.
    pub destination_port: u16,
    /// Later pieces of a fragmented packet have no ports.
    pub is_later_fragment: bool,
    /// Its sender asked not to have it cut, so that it learns what the way takes.
    pub dont_fragment: bool,
}

/// Reads an IPv4 packet quoted at offset `l3` of a frame. Its total length is not looked at: it mostly exceeds what is
/// quoted, and there are hosts that quote it in the wrong byte order.
pub fn parse_quoted(packet: Within<'_>, l3: usize) -> Result<Quoted, DropReason> {
    let (header, _) = Ipv4::ref_from_prefix(packet.from(l3)).map_err(|_| DropReason::Truncated)?;
    let header_len = header.header_len();
    if header.version_ihl >> 4 != 4 || header_len < ipv4::HEADER_LEN {
        return Err(DropReason::BadL4Header);
    }
    if packet.from(l3).len() < header_len {
        return Err(DropReason::Truncated);
    }
    let is_later_fragment = header.fragment.get() & ipv4::FRAGMENT_OFFSET != 0;
    let mut quoted = Quoted {
        l3,
        l4: l3 + header_len,
        protocol: header.protocol,
        source: header.source.get(),
        destination: header.destination.get(),
        source_port: 0,
        destination_port: 0,
        is_later_fragment,
        dont_fragment: header.dont_fragment(),
    };
    if quoted.source.is_of_ipv6() || quoted.destination.is_of_ipv6() {
        return Err(DropReason::BadL4Header);
    }
    if matches!(header.protocol, ipv4::TCP | ipv4::UDP | ipv4::SCTP) && !is_later_fragment {
        let (ports, _) = Ports::ref_from_prefix(packet.from(quoted.l4)).map_err(|_| DropReason::Truncated)?;
        quoted.source_port = ports.source.get();
        quoted.destination_port = ports.destination.get();
    }
    Ok(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::heap::HeapFrame;

    const FROM: Addr4 = Addr4::new(10, 0, 0, 1);
    const TO: Addr4 = Addr4::new(192, 0, 2, 1);

    fn long_way(frame: &HeapFrame) -> (Content, Packet) {
        let mut packet = Packet::default();
        (parse_any(frame, &mut packet), packet)
    }

    fn plain_frame(protocol: u8, l4_len: usize) -> Vec<u8> {
        let mut bytes = vec![2; 12];
        bytes.extend_from_slice(&[8, 0]);
        bytes.extend_from_slice(Ipv4::new(protocol, FROM, TO, l4_len, 64).as_bytes());
        let mut l4 = vec![0; l4_len];
        l4[..4].copy_from_slice(&[0x9c, 0x40, 0, 80]);
        if protocol == ipv4::UDP {
            l4[4..6].copy_from_slice(&(l4_len as u16).to_be_bytes());
        } else {
            l4[12..14].copy_from_slice(&[0x50, 0x12]);
        }
        bytes.extend_from_slice(&l4);
        bytes
    }

    #[test]
    fn the_straight_way_and_the_long_way_agree_on_any_bytes() {
        bolero::check!().for_each(|bytes: &[u8]| {
            let frame = HeapFrame::new(bytes);
            let mut packet = Packet::default();
            let content = parse(&frame, &mut packet);
            let (expected, expected_packet) = long_way(&frame);
            assert_eq!(content, expected);
            if content == Content::Ipv4 {
                assert_eq!(packet, expected_packet);
            }
        });
    }

    #[test]
    fn both_ways_agree_on_frames_with_any_one_byte_changed() {
        for (protocol, l4_len) in
            [(ipv4::TCP, 20), (ipv4::TCP, 33), (ipv4::UDP, 20), (ipv4::UDP, 8), (99, 20)]
        {
            let good = plain_frame(protocol, l4_len.max(if protocol == ipv4::UDP { 8 } else { 20 }));
            for at in 0..good.len() {
                for value in 0..=255 {
                    let mut bytes = good.clone();
                    bytes[at] = value;
                    // Without a right checksum nothing else would ever be looked at.
                    let header = Ipv4::mut_from_bytes(&mut bytes[14..34]).expect("20 bytes");
                    if !(24..26).contains(&at) {
                        header.refresh_checksum();
                    }
                    let frame = HeapFrame::new(&bytes);
                    let mut packet = Packet::default();
                    let content = parse(&frame, &mut packet);
                    let (expected, expected_packet) = long_way(&frame);
                    assert_eq!(content, expected, "byte {at} = {value}");
                    assert!(content != Content::Ipv4 || packet == expected_packet, "byte {at} = {value}");
                }
            }
        }
    }

    #[test]
    fn a_frame_cut_anywhere_is_truncated() {
        let good = plain_frame(ipv4::TCP, 33);
        for len in 0..good.len() {
            let mut packet = Packet::default();
            let content = parse(&HeapFrame::new(&good[..len]), &mut packet);
            assert_eq!(content, Content::Bad(DropReason::Truncated), "{len} bytes");
        }
    }

    #[test]
    fn an_sctp_packet_needs_a_whole_first_chunk_and_says_what_it_means() {
        const AT: usize = 34 + sctp::HEADER_LEN;
        let mut good = plain_frame(ipv4::SCTP, sctp::HEADER_LEN + 20 + 4);
        good[AT..AT + 4].copy_from_slice(&[sctp::chunk::COOKIE_ECHO, 0, 0, 20]);
        good[AT + 20..].copy_from_slice(&[sctp::chunk::ABORT, 0, 0, 4]);
        let read = |bytes: &[u8]| {
            let (content, packet) = long_way(&HeapFrame::new(bytes));
            (content, packet.flags, packet.source_port, packet.destination_port)
        };
        let aborts = sctp::Event::AbortBehindCookie as u8;
        assert_eq!(read(&good), (Content::Ipv4, aborts, 40_000, 80));
        for (len, content) in [
            (0, Content::Bad(DropReason::BadL4Header)),
            (3, Content::Bad(DropReason::BadL4Header)),
            (4, Content::Ipv4),
            (24, Content::Ipv4),
            (25, Content::Bad(DropReason::BadL4Header)),
            (0xff14, Content::Bad(DropReason::BadL4Header)),
        ] {
            let mut bytes = good.clone();
            bytes[AT + 2..AT + 4].copy_from_slice(&u16::to_be_bytes(len));
            assert_eq!(read(&bytes).0, content, "first chunk of {len} bytes");
        }
        for l4_len in 0..sctp::HEADER_LEN + sctp::CHUNK_LEN {
            let mut bytes = good[..34 + l4_len].to_vec();
            let header = Ipv4::new(ipv4::SCTP, FROM, TO, l4_len, 64);
            bytes[14..34].copy_from_slice(header.as_bytes());
            assert_eq!(read(&bytes).0, Content::Bad(DropReason::Truncated), "{l4_len} bytes");
        }
    }

    #[test]
    fn a_quote_needs_its_header_and_ports() {
        let good = plain_frame(ipv4::TCP, 20);
        assert!(parse_quoted(Within(&good[..14 + 24]), 14).is_ok());
        assert_eq!(parse_quoted(Within(&good[..14 + 23]), 14), Err(DropReason::Truncated));
        assert_eq!(parse_quoted(Within(&good), 900), Err(DropReason::Truncated));
        let mut with_options = plain_frame(ipv4::IPIP, 20)[..37].to_vec();
        with_options[14] = 0x46;
        assert_eq!(parse_quoted(Within(&with_options), 14), Err(DropReason::Truncated));
        with_options.push(0);
        assert_eq!(parse_quoted(Within(&with_options), 14).map(|quoted| quoted.l4), Ok(38));
    }

    #[test]
    fn what_is_read_of_a_packet_ends_with_it() {
        let mut bytes = plain_frame(ipv4::TCP, 33);
        let mut packet = Packet::default();
        bytes.extend_from_slice(&[0xee; 40]);
        assert_eq!(parse(&HeapFrame::new(&bytes), &mut packet), Content::Ipv4);
        assert_eq!((packet.end(), packet.l4_len()), (14 + 53, 33));
        assert_eq!(packet.l4_bytes(&bytes), &bytes[34..67]);
        assert_eq!(packet.l4_bytes_mut(&mut bytes).len(), 33);
        for offset in [67, 68, 10_000] {
            assert_eq!(packet.within(&bytes).from(offset), [0u8; 0]);
        }
        // The first segment of a longer frame.
        assert_eq!(packet.l4_bytes(&bytes[..50]).len(), 16);
        assert_eq!(packet.l4_bytes_mut(&mut bytes[..30]).len(), 0);
    }
}
