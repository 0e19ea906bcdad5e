//! The longest pass of each worker within the last minute.
//!
//! Control takes each worker's longest one ten times a second and keeps it with the second it belongs to. So every reader
//! sees the same, however many there are and however often they ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use weir_dataplane::director::Shared;

/// Seconds that are remembered.
const SECONDS: usize = 60;

/// One worker's, in cycles, by second.
#[derive(Debug)]
pub(crate) struct Longest([AtomicU64; SECONDS]);

impl Longest {
    /// The longest pass of the last minute, in cycles.
    pub(crate) fn cycles(&self) -> u64 {
        self.0.iter().map(|cycles| cycles.load(Relaxed)).max().unwrap_or(0)
    }

    /// For this many workers.
    pub(crate) fn of(workers: usize) -> Arc<[Longest]> {
        (0..workers).map(|_| Longest([const { AtomicU64::new(0) }; SECONDS])).collect()
    }
}

/// Control's end.
pub(crate) struct Watch {
    longest: Arc<[Longest]>,
    began: Instant,
    /// Seconds since then.
    second: u64,
}

impl Watch {
    /// Fills `longest`, by worker.
    pub(crate) fn new(longest: Arc<[Longest]>, now: Instant) -> Self {
        Self { longest, began: now, second: 0 }
    }

    /// Takes what workers have measured since the last call.
    pub(crate) fn run(&mut self, workers: &[Shared], now: Instant) {
        let second = now.saturating_duration_since(self.began).as_secs();
        for longest in self.longest.iter() {
            for gone in (self.second + 1..=second).rev().take(SECONDS) {
                longest.0[gone as usize % SECONDS].store(0, Relaxed);
            }
        }
        self.second = second;
        for (worker, longest) in workers.iter().zip(self.longest.iter()) {
            longest.0[second as usize % SECONDS]
                .fetch_max(worker.counters.pass_times.take_longest(), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use weir_dataplane::stats::passes::Stopwatch;

    use super::*;

    #[test]
    fn a_long_pass_is_seen_for_a_minute_and_no_longer() {
        let workers = Shared::new(2, 1);
        let longest = Longest::of(2);
        let begin = Instant::now();
        let mut watch = Watch::new(longest.clone(), begin);
        let stopwatch = Stopwatch::new(1_000_000_000);
        let mut seen = Vec::new();
        for tenths in 0..800u64 {
            stopwatch.note(1_000, &workers[0].counters.pass_times);
            if tenths == 100 {
                stopwatch.note(90_000, &workers[0].counters.pass_times);
            }
            watch.run(&workers, begin + Duration::from_millis(tenths * 100));
            seen.push(longest[0].cycles());
        }
        assert_eq!(longest[1].cycles(), 0);
        assert_eq!(seen.iter().position(|&cycles| cycles == 90_000), Some(100));
        assert_eq!(seen.iter().rposition(|&cycles| cycles == 90_000), Some(699));
        assert_eq!(seen.last(), Some(&1_000));
        // Control was away for two minutes.
        watch.run(&workers, begin + Duration::from_secs(200));
        assert_eq!(longest[0].cycles(), 0);
    }
}
