//! VRRP (RFC 9568; version 2: RFC 3768 with the authentication of RFC 2338; both with keepalived 2.4's trailer), without I/O or clock.
//!
//! ```text
//!  frame -> frame.rs -> receive.rs (discard rules) -> machine.rs -> actions -> router.rs -> frames, transitions
//!                                                     ^ timers                 sync groups
//! ```
//! A [`router::Router`] holds all instances of a director. It is given received frames, the time and what is tracked,
//! and says what is to be sent and what has changed; whoever calls it owns the wire, the clock and the log. So several
//! routers can be run against each other on a virtual clock, which `tests/simulation.rs` does.
//!
//! Invariants:
//! * An advertisement that is refused touches no timer and no state; it is counted by its reason ([`discard`]).
//! * Time is a monotonic clock in microseconds ([`time::Micros`]). No timer is cut to the units of the packet.
//! * A timer that comes late because the caller did not run is not believed: see [`machine`].

pub mod announce;
pub mod auth;
mod checksum;
pub mod discard;
pub mod frame;
mod group;
pub mod instance;
pub mod machine;
pub mod packet;
mod receive;
pub mod router;
pub mod settings;
pub mod time;
pub mod track;
pub mod trailer;
