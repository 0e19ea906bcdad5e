//! weir's data path: what a packet meets, in this order.
//!
//! ```text
//!  receive -> parse -> classify -+- virtual server -> conn lookup -hit--------------+
//!                                |                      `-miss-> schedule -> insert |
//!                                |                                                  v
//!                                |                rewrite (dr | tun | nat) -> neighbor -> transmit
//!                                +- ARP, echo, errors --------> reply -----------------> transmit
//!                                +- VRRP, for the host -------> punt ring -> control -> inject ring -> transmit
//!                                `- anything else ------------> DropReason, counted
//! ```
//! Each word is a file. [`worker`] polls the ports, [`director`] calls the stages, one function each.
//!
//! Nothing on this path allocates, locks, logs, makes a system call or panics. Time and the configuration are read
//! once per burst and passed along. Apart from [`worker`] and the buffer trait of [`packet`] nothing here knows DPDK,
//! so all of it runs under `cargo test`.

#[cfg(all(feature = "panic-on", not(debug_assertions)))]
compile_error!("`panic-on` lets a frame end the process: it is for tests of debug builds");

pub mod address;
pub mod capture;
pub mod classify;
pub mod clock;
pub mod conn;
pub mod desk;
pub mod director;
pub mod foretold;
pub mod ftp;
pub mod idle;
pub mod kept;
pub mod limit;
pub mod neighbor;
pub mod packet;
pub mod parse;
pub mod pieces;
pub mod punt;
pub mod reply;
pub mod rewrite;
pub mod sched;
pub mod sip;
pub mod snapshot;
pub mod stats;
pub mod suspect;
pub mod vlan;
pub mod wire;
pub mod worker;
