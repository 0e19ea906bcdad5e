//! lc, wlc, sed and nq: the server with the least load, as connections tell it.
//!
//! They keep no state. Ties go to the server earlier in the list.

use super::Servers;

/// A server's load by lc, wlc, lblc, lblcr and twos: an active connection counts as 256 inactive ones.
#[inline]
pub(super) fn connection_load(servers: &impl Servers, index: usize) -> u64 {
    let (active, inactive) = servers.connections(index);
    (u64::from(active) << 8) + u64::from(inactive)
}

/// A server's load by sed and nq: the connection to come is counted, inactive ones are not.
fn expected_load(servers: &impl Servers, index: usize) -> u64 {
    u64::from(servers.active(index)) + 1
}

/// Whether `load / weight` exceeds `other_load / other_weight`, without division. No load exceeds that of a
/// server without weight.
///
/// Loads are below 2^41 and weights below 2^16, so the products fit.
pub(super) fn exceeds(load: u64, weight: u32, other_load: u64, other_weight: u32) -> bool {
    load * u64::from(other_weight) > other_load * u64::from(weight)
}

/// Picks by lc: least load, whatever the weight.
pub(super) fn lc(servers: &impl Servers) -> Option<usize> {
    (0..servers.len()).filter(|&i| servers.usable(i)).min_by_key(|&i| connection_load(servers, i))
}

/// Picks by wlc: least load for the weight.
pub(super) fn wlc(servers: &impl Servers) -> Option<usize> {
    least(servers, 0..servers.len(), |i| connection_load(servers, i))
}

/// Picks by sed: least load for the weight once the connection is there.
pub(super) fn sed(servers: &impl Servers) -> Option<usize> {
    least(servers, 0..servers.len(), |i| expected_load(servers, i))
}

/// Picks by nq: the first idle server, else as sed.
pub(super) fn nq(servers: &impl Servers) -> Option<usize> {
    (0..servers.len()).find(|&i| servers.usable(i) && servers.active(i) == 0).or_else(|| sed(servers))
}

/// The usable one of `candidates` with the least load for its weight; of equals the first.
pub(super) fn least(
    servers: &impl Servers,
    candidates: impl Iterator<Item = usize>,
    load: impl Fn(usize) -> u64,
) -> Option<usize> {
    let mut best: Option<(usize, u64, u32)> = None;
    for index in candidates.filter(|&i| servers.usable(i)) {
        let (own_load, own_weight) = (load(index), servers.weight(index));
        if best.is_none_or(|(_, load, weight)| exceeds(load, weight, own_load, own_weight)) {
            best = Some((index, own_load, own_weight));
        }
    }
    best.map(|(index, ..)| index)
}
