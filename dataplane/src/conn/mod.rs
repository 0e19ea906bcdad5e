//! Connections: what ties a flow to its real server.
//!
//! [`record`] is one connection in 16 bytes, [`table`] finds it in one cache line, [`state`] moves it along as
//! packets pass. All of that is one worker's own; others may read. [`template`] ties clients to real servers for all
//! workers, and [`clients`] has the addresses of IPv6.

pub mod clients;
pub mod extra;
pub mod record;
pub mod state;
pub mod table;
pub mod template;
