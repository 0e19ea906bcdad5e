//! Chance, for spreading checks over time: SplitMix64. Nothing that must not be guessed depends on it.

use std::time::Duration;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `limit`, any as likely as any other. Zero for zero.
    pub(super) fn below(&mut self, limit: Duration) -> Duration {
        // The upper half of a product spreads evenly enough for times.
        let nanos = (u128::from(self.next()) * limit.as_nanos()) >> 64;
        Duration::from_nanos(nanos as u64)
    }
}
