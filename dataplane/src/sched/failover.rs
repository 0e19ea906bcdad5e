//! fo and ovf: the heaviest server takes all, or all it can.
//!
//! They keep no state. Ties go to the server earlier in the list.

use super::Servers;

/// Picks by fo: the heaviest usable server.
pub(super) fn fo(servers: &impl Servers) -> Option<usize> {
    heaviest(servers, |_| true)
}

/// Picks by ovf: the heaviest usable server with at most as many active connections as its weight, so that
/// it gets one more than its weight.
pub(super) fn ovf(servers: &impl Servers) -> Option<usize> {
    heaviest(servers, |i| servers.active(i) <= servers.weight(i))
}

fn heaviest(servers: &impl Servers, has_room: impl Fn(usize) -> bool) -> Option<usize> {
    // From the tail, since of equals `max_by_key` returns the last.
    (0..servers.len()).rev().filter(|&i| servers.usable(i) && has_room(i)).max_by_key(|&i| servers.weight(i))
}
