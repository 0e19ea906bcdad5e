//! What directors tell each other of connections, as it stands in datagrams: the protocol of the kernel's IPVS (`ip_vs_sync.c`), in both
//! of its versions. No socket, no clock, no table.
//!
//! ```text
//!  datagram -> read.rs -> entry.rs (a connection or a template) -> write.rs -> datagrams
//! ```
//!
//! # Version 1
//! ```text
//!  datagram | 0 8 | sync id 8 | length 16 | records 8 | 1 8 | 0 16 |
//!  record   | type 8 | protocol 8 | version 4, length 12 | flags 32 | state 16 | client, virtual, real port 3 x 16 | mark 32 | timeout 32 |
//!           | client, virtual, real address 3 x 32 or 3 x 128 | options: kind 8, length 8, octets |
//! ```
//! All in network order. A record begins at a multiple of four; its length says nothing of what fills up to that.
//!
//! # Version 0
//! ```text
//!  datagram | records 8 | sync id 8 | length 16 |
//!  record   | 0 8 | protocol 8 | client, virtual, real port 3 x 16 | client, virtual, real address 3 x 32 | flags 16 | state 16 | sequences, if the flags say so |
//! ```
//! IPv4 alone, without marks and timeouts.
//!
//! Invariants:
//! * Whatever comes in is read or refused by a reason ([`Refused`]); what stood before it in the same datagram holds.
//! * What is written is read as the same again, and is never longer than asked for.

mod entry;
mod read;
mod write;

pub use entry::{Engine, Entry, Flags, Sequence, Sequences};
pub use read::{Datagram, Entries, Refused};
pub use write::Writer;

/// Octets before the records, by version.
const HEADER: [usize; 2] = [4, 8];
/// Octets of a record without options: of version 0, of version 1 with IPv4, of version 1 with IPv6.
const RECORD_0: usize = 24;
const RECORD_V4: usize = 36;
const RECORD_V6: usize = 72;
/// Octets of both sequences.
const SEQUENCES: usize = 24;
/// The most that the length of a record of version 1 can say.
const RECORD_MAX: usize = 0xfff;
/// Kinds of options.
const OPTION_SEQUENCES: u8 = 1;
const OPTION_ENGINE_DATA: u8 = 2;
const OPTION_ENGINE_NAME: u8 = 3;
/// Set in the kind of an option that may be passed over by who does not know it.
const OPTION_MAY_BE_SKIPPED: u8 = 0x40;
/// Set in the type of a record of IPv6.
const TYPE_IPV6: u8 = 1;

/// Which version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// Of kernels before 2.6.39, and with `sync_version` 0.
    V0 = 0,
    /// Of all others.
    V1 = 1,
}
