//! How long a worker's passes over its queues take: the time in which a frame that just missed one has to wait.
//!
//! A pass lasts from one reading of the clock to the next, so it holds whatever kept the worker: bursts, upkeep, a new
//! snapshot, and an operating system that took the processor away. Passes that are not remarkable cost one addition
//! and two comparisons.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Counter;

/// Upper bounds of the classes that passes are counted in, in microseconds; the last class has none.
pub const BOUNDS_MICROS: [u64; 12] = [10, 20, 30, 40, 50, 75, 100, 200, 500, 1_000, 5_000, 10_000];

/// What one worker counts; read by control.
#[derive(Debug, Default)]
pub struct PassTimes {
    /// All passes.
    passes: Counter,
    /// Passes longer than the bound with this index, and not longer than the next.
    longer: [Counter; BOUNDS_MICROS.len()],
    /// The longest since it was taken, in cycles.
    longest: AtomicU64,
}

impl PassTimes {
    /// All passes.
    pub fn passes(&self) -> u64 {
        self.passes.get()
    }

    /// Passes not longer than each of [`BOUNDS_MICROS`], of `passes` in all.
    pub fn within(&self, passes: u64) -> [u64; BOUNDS_MICROS.len()] {
        let mut left = passes;
        let mut within = [0; BOUNDS_MICROS.len()];
        for (index, longer) in self.longer.iter().enumerate().rev() {
            left = left.saturating_sub(longer.get());
            within[index] = left;
        }
        within
    }

    /// The longest pass since the last call, in cycles. For one caller.
    pub fn take_longest(&self) -> u64 {
        self.longest.swap(0, Relaxed)
    }
}

/// The worker's end.
#[derive(Debug, Clone)]
pub struct Stopwatch {
    /// [`BOUNDS_MICROS`] in cycles.
    bounds: [u64; BOUNDS_MICROS.len()],
}

impl Stopwatch {
    /// For a counter that goes at `hz`.
    pub fn new(hz: u64) -> Self {
        Self { bounds: BOUNDS_MICROS.map(|micros| (u128::from(micros) * u128::from(hz) / 1_000_000) as u64) }
    }

    /// A pass took `cycles`.
    #[inline]
    pub fn note(&self, cycles: u64, times: &PassTimes) {
        times.passes.add(1);
        if cycles > self.bounds[0] || cycles > times.longest.load(Relaxed) {
            self.note_remarkable(cycles, times);
        }
    }

    #[cold]
    fn note_remarkable(&self, cycles: u64, times: &PassTimes) {
        // Not a plain store: control may take the present one at any moment, and the longest must not be lost.
        times.longest.fetch_max(cycles, Relaxed);
        if let Some(index) = self.bounds.iter().rposition(|&bound| cycles > bound) {
            times.longer[index].add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pass_is_in_its_class_and_the_longest_is_known_once() {
        bolero::check!().with_type::<Vec<u32>>().for_each(|passes| {
            let times = PassTimes::default();
            let stopwatch = Stopwatch::new(2_000_000_000);
            for &cycles in passes {
                stopwatch.note(u64::from(cycles), &times);
            }
            let all = passes.len() as u64;
            assert_eq!(times.passes(), all);
            for (micros, within) in BOUNDS_MICROS.iter().zip(times.within(all)) {
                let expected = passes.iter().filter(|&&cycles| u64::from(cycles) <= micros * 2_000).count();
                assert_eq!(within, expected as u64);
            }
            assert_eq!(times.take_longest(), u64::from(passes.iter().copied().max().unwrap_or(0)));
            assert_eq!(times.take_longest(), 0);
        });
    }
}
