//! twos: two servers by lot, and of the two the one with less load.
//!
//! The lots come from a generator per worker with a fixed seed (SplitMix64), so picks can be repeated.

use super::least_connection::weighted;
use super::state::State;
use super::{Servers, scale};

/// Picks by twos. Chances are in proportion to the weights, the first server in the list has a little more.
pub(super) fn twos(state: &State, servers: &impl Servers) -> Option<usize> {
    let usable = || (0..servers.len()).filter(|&i| servers.usable(i));
    let total: u64 = usable().map(|i| u64::from(servers.weight(i))).sum();
    if total == 0 {
        return None;
    }
    // Lots go from 0 to the total inclusive; both 0 and 1 fall to the first server.
    let lots = [scale(random(state), total + 1), scale(random(state), total + 1)];
    let mut choices = [None; 2];
    let mut reached = 0;
    for index in usable() {
        reached += u64::from(servers.weight(index));
        for (choice, lot) in choices.iter_mut().zip(lots) {
            if choice.is_none() && lot <= reached {
                *choice = Some(index);
            }
        }
    }
    let [first, second] = choices;
    match (first, second) {
        (Some(a), Some(b)) => {
            let swap = weighted(servers, a).exceeds(weighted(servers, b));
            Some(if swap { b } else { a })
        }
        // Another worker may have closed a server between the two walks.
        (one, other) => one.or(other),
    }
}

/// The next number of the state's SplitMix64 sequence.
fn random(state: &State) -> u64 {
    let next = state.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    state.random.set(next);
    let mixed = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
