//! Typed views of the headers that weir reads and writes, and the checksum arithmetic.
//!
//! Bytes of a frame are touched only through these. Every struct is laid over the bytes in place: alignment 1,
//! network byte order, layout asserted.

pub mod checksum;
pub mod encap;
pub mod ethernet;
pub mod icmp6;
pub mod ipv4;
pub mod ipv6;
pub mod l4;
pub mod sctp;
