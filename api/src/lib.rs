//! What weir answers under `/api/v1`, as types that write JSON and read it. Needs nothing of DPDK, so a client is a small program.
//!
//! [`openapi`] describes all of it for programs in other languages, from these types.
//!
//! Fields are added and never renamed; a client leaves alone what it does not know. Who writes an answer borrows its texts, who reads
//! one has them: `Listing<'static>`.

pub mod announce;
pub mod connections;
pub mod director;
pub mod edits;
pub mod events;
pub mod explain;
pub mod health;
pub mod neighbors;
pub mod openapi;
pub mod overview;
pub mod proc;
pub mod virtual_servers;
pub mod vrrp;
pub mod workers;

use std::borrow::Cow;

/// A text of an answer.
pub type Text<'a> = Cow<'a, str>;
