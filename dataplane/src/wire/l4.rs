//! TCP (RFC 9293), UDP (RFC 768) and ICMP (RFC 792): the parts that weir looks at.

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::checksum::Delta;

/// Length of the TCP header without options, in bytes.
pub const TCP_LEN: usize = 20;
/// Length of the UDP header, in bytes.
pub const UDP_LEN: usize = 8;
/// Length of the ICMP header, in bytes.
pub const ICMP_LEN: usize = 8;

/// The fixed part of the TCP header.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Tcp {
    /// Port of the sender.
    pub source: U16,
    /// Port of the receiver.
    pub destination: U16,
    /// Sequence number.
    pub sequence: U32,
    /// Acknowledgement number.
    pub acknowledgement: U32,
    /// Header length in units of 4 bytes, in the upper half.
    pub data_offset: u8,
    /// See [`flags`].
    pub flags: u8,
    /// Receive window.
    pub window: U16,
    /// Over pseudo-header, header and payload.
    pub checksum: U16,
    /// Urgent pointer.
    pub urgent: U16,
}
const _: () = assert!(size_of::<Tcp>() == TCP_LEN);

/// Bits of [`Tcp::flags`].
pub mod flags {
    #![allow(missing_docs)]
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const ACK: u8 = 0x10;
}

/// The UDP header.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Udp {
    /// Port of the sender.
    pub source: U16,
    /// Port of the receiver.
    pub destination: U16,
    /// Header and payload, in bytes.
    pub len: U16,
    /// Over pseudo-header, header and payload; 0: the sender made none.
    pub checksum: U16,
}
const _: () = assert!(size_of::<Udp>() == UDP_LEN);

/// The first words of TCP, UDP and SCTP alike.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Ports {
    /// Port of the sender.
    pub source: U16,
    /// Port of the receiver.
    pub destination: U16,
}

impl Ports {
    /// Replaces the sender's port and returns what changed.
    #[inline]
    pub fn set_source(&mut self, port: u16) -> Delta {
        let delta = Delta::NONE.word(self.source.get(), port);
        self.source = U16::new(port);
        delta
    }

    /// Replaces the receiver's port and returns what changed.
    #[inline]
    pub fn set_destination(&mut self, port: u16) -> Delta {
        let delta = Delta::NONE.word(self.destination.get(), port);
        self.destination = U16::new(port);
        delta
    }
}

/// The ICMP header.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Icmp {
    /// See [`icmp`].
    pub kind: u8,
    /// Finer than `kind`.
    pub code: u8,
    /// Over header and payload.
    pub checksum: U16,
    /// Depends on `kind`: identifier and sequence, or the next hop's MTU in the lower half.
    pub rest: U32,
}
const _: () = assert!(size_of::<Icmp>() == ICMP_LEN);

/// Kinds of TCP options (RFC 9293 section 3.1, RFC 2018).
pub mod tcp_option {
    #![allow(missing_docs)]
    pub const END: u8 = 0;
    pub const NOTHING: u8 = 1;
    pub const MAXIMUM_SEGMENT: u8 = 2;
    pub const SACK: u8 = 5;
}

/// Kind and length, both octets of these among it, of the option at this place; its end may lie behind that of the options. `None`: the
/// list ends there, or the length can't be.
pub fn tcp_option_at(options: &[u8], place: usize) -> Option<(u8, usize)> {
    match *options.get(place..)? {
        [] | [tcp_option::END, ..] => None,
        [tcp_option::NOTHING, ..] => Some((tcp_option::NOTHING, 1)),
        [kind, len, ..] if len >= 2 => Some((kind, usize::from(len))),
        _ => None,
    }
}

/// Types and codes of ICMP.
pub mod icmp {
    #![allow(missing_docs)]
    pub const ECHO_REPLY: u8 = 0;
    pub const UNREACHABLE: u8 = 3;
    pub const SOURCE_QUENCH: u8 = 4;
    pub const ECHO_REQUEST: u8 = 8;
    pub const TIME_EXCEEDED: u8 = 11;
    pub const PARAMETER_PROBLEM: u8 = 12;

    pub const HOST_UNREACHABLE: u8 = 1;
    pub const PROTOCOL_UNREACHABLE: u8 = 2;
    pub const PORT_UNREACHABLE: u8 = 3;
    pub const FRAGMENTATION_NEEDED: u8 = 4;
}
