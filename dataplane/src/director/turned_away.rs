//! Flows that found no room in their chain: remembered for a while, so that they go on when the chain has room again.
//!
//! All workers write and read it, since replies and moved flows come to any of them. It is small and bounded: of flows whose
//! hashes share a seat the newest is remembered. Who fills it on purpose makes others' flows of full chains forgotten, no more.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::clock::Now;

/// A power of two. Each is a client's port with more than 64 connections.
const SEATS: usize = 256;

/// See the module.
pub struct TurnedAway {
    /// The upper half of a hash, and the second until which its flows are remembered: one word, so that no reader sees
    /// halves of two.
    seats: [AtomicU64; SEATS],
}

impl Default for TurnedAway {
    fn default() -> Self {
        Self { seats: [const { AtomicU64::new(0) }; SEATS] }
    }
}

impl TurnedAway {
    /// Remembers flows of `hash` for `secs` from now.
    pub(super) fn note(&self, hash: u64, now: Now, secs: u32) {
        self.seat(hash).store(tag(hash) | u64::from(now.seconds + secs), Relaxed);
    }

    /// Whether flows of `hash` are remembered.
    pub(super) fn has(&self, hash: u64, now: Now) -> bool {
        let word = self.seat(hash).load(Relaxed);
        word & TAG == tag(hash) && now.seconds < word as u32
    }

    /// Remembers flows of `hash` from now on, if they still are: one of them has sent a packet.
    pub(super) fn renew(&self, hash: u64, now: Now, secs: u32) {
        let seat = self.seat(hash);
        let word = seat.load(Relaxed);
        let renewed = tag(hash) | u64::from(now.seconds + secs);
        // Written once a second at most.
        if word & TAG == tag(hash) && now.seconds < word as u32 && word != renewed {
            seat.store(renewed, Relaxed);
        }
    }

    fn seat(&self, hash: u64) -> &AtomicU64 {
        &self.seats[hash as usize % SEATS]
    }
}

const TAG: u64 = !0 << 32;

fn tag(hash: u64) -> u64 {
    hash & TAG
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_a_seat_is_remembered_for_its_time() {
        let at = |seconds| Now { seconds, ..Now::default() };
        let turned_away = TurnedAway::default();
        let (first, second, other) = (7 << 32 | 5, 8 << 32 | 5, 7 << 32 | 6);
        assert!(!turned_away.has(0, at(0)) && !turned_away.has(first, at(0)));
        turned_away.note(first, at(100), 900);
        assert!(turned_away.has(first, at(999)) && !turned_away.has(first, at(1_000)));
        assert!(!turned_away.has(second, at(100)) && !turned_away.has(other, at(100)));
        turned_away.note(other, at(100), 900);
        turned_away.note(second, at(200), 900);
        assert!(!turned_away.has(first, at(200)) && turned_away.has(second, at(1_050)));
        assert!(turned_away.has(other, at(200)));
        // A packet renews what is remembered, and nothing else.
        turned_away.renew(second, at(1_099), 900);
        assert!(turned_away.has(second, at(1_998)));
        turned_away.renew(second, at(1_999), 900);
        turned_away.renew(first, at(1_000), 900);
        assert!(!turned_away.has(second, at(1_999)) && !turned_away.has(first, at(1_000)));
    }
}
