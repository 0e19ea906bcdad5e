//! Numbers by chance that a seed decides (splitmix64).

/// See the module.
pub(in crate::director::tests) struct Chance(u64);

impl Chance {
    pub(in crate::director::tests) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(in crate::director::tests) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    /// Below `end`, which is not 0.
    pub(in crate::director::tests) fn below(&mut self, end: usize) -> usize {
        (self.next() >> 32) as usize % end
    }

    /// True once in `times`.
    pub(in crate::director::tests) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(in crate::director::tests) fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    pub(in crate::director::tests) fn word(&mut self) -> u16 {
        self.next() as u16
    }

    pub(in crate::director::tests) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count.div_ceil(8)).flat_map(|_| self.next().to_be_bytes()).take(count).collect()
    }
}
