//! IPv6 (RFC 8200), as much of it as is needed to tell whose a packet is.

use std::net::Ipv6Addr;

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::checksum::Delta;

/// Length of the header without extension headers, in bytes.
pub const HEADER_LEN: usize = 40;

/// Every way takes packets of this size, in bytes (RFC 8200 section 5).
pub const MTU_MIN: u16 = 1_280;

/// The group that VRRP routers listen to, ff02::12 (RFC 9568 section 5.1.2.2).
pub const VRRP_GROUP: [u8; 16] = [0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12];

/// The protocol of an outer header: an IPv6 packet is inside (RFC 2473, RFC 4213).
pub const IN_IP: u8 = 41;
/// Next header: a fragment.
pub const FRAGMENT: u8 = 44;
/// Length of the fragment header, in bytes.
pub const FRAGMENT_LEN: usize = 8;

/// Types of extension headers, from the same numbers as IPv4's protocol (RFC 8200 section 4).
pub mod next {
    /// Options for every node on the way.
    pub const HOP_BY_HOP: u8 = 0;
    /// Nodes to be visited on the way.
    pub const ROUTING: u8 = 43;
    /// Options for the destination.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// Nothing follows.
    pub const NONE: u8 = 59;
}

/// The fixed header.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Ipv6 {
    /// Version 6, traffic class, flow label.
    pub version_class_flow: U32,
    /// What follows this header, in bytes.
    pub payload_len: U16,
    /// Type of what follows, from the same numbers as IPv4's protocol.
    pub next_header: u8,
    /// Time to live.
    pub hop_limit: u8,
    /// From whom.
    pub source: [u8; 16],
    /// To whom.
    pub destination: [u8; 16],
}
const _: () = assert!(size_of::<Ipv6>() == HEADER_LEN);

/// The header of a fragment (RFC 8200 section 4.5).
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Fragment {
    /// Type of what was cut.
    pub next_header: u8,
    /// 0.
    pub reserved: u8,
    /// Offset in bytes, a multiple of eight; the last bit says that more follow.
    pub offset_flags: U16,
    /// The same in all fragments of a packet.
    pub ident: U32,
}
const _: () = assert!(size_of::<Fragment>() == FRAGMENT_LEN);

impl Ipv6 {
    /// The version, 6 in a right header.
    pub fn version(&self) -> u8 {
        (self.version_class_flow.get() >> 28) as u8
    }

    /// The traffic class: differentiated services and the marks of congestion.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        (self.version_class_flow.get() >> 20) as u8
    }

    /// Replaces the sender and returns what changed.
    pub fn set_source(&mut self, address: Ipv6Addr) -> Delta {
        let new = address.octets();
        let delta = Delta::NONE.address6(&self.source, &new);
        self.source = new;
        delta
    }

    /// Replaces the receiver and returns what changed.
    pub fn set_destination(&mut self, address: Ipv6Addr) -> Delta {
        let new = address.octets();
        let delta = Delta::NONE.address6(&self.destination, &new);
        self.destination = new;
        delta
    }
}
