//! What the checker counts about itself. One writer, the checker's thread; whoever reads, reads whenever.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub struct Figures {
    /// How long after its time each check began.
    pub lateness: Histogram,
    /// How long each check took.
    pub duration: Histogram,
    /// Checks begun.
    pub checks: Count,
    /// Checks under way.
    pub under_way: Count,
    /// Times that checks had to wait because too many were under way.
    pub crowded: Count,
    /// Checks that could not be made for a reason of the director's own.
    pub errors: Count,
    /// Changes that the data plane was told of.
    pub overlays: Count,
    /// Hooks of virtual servers.
    pub hooks: Arc<HookFigures>,
    /// Hooks of VRRP.
    pub vrrp_hooks: Arc<HookFigures>,
    /// Lines that VRRP's FIFO has taken.
    pub fifo_written: Count,
    /// Lines that it has not.
    pub fifo_lost: Count,
}

/// What became of hooks.
#[derive(Debug, Default)]
pub struct HookFigures {
    /// Those that ended with status 0.
    pub succeeded: Count,
    /// Those that did not.
    pub failed: Count,
    /// Those that were not run because too many were waiting.
    pub dropped: Count,
}

impl Figures {
    /// All zero.
    pub fn new() -> Self {
        Self {
            lateness: Histogram::new(&[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0]),
            duration: Histogram::new(&[0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0]),
            checks: Count::default(),
            under_way: Count::default(),
            crowded: Count::default(),
            errors: Count::default(),
            overlays: Count::default(),
            hooks: Arc::default(),
            vrrp_hooks: Arc::default(),
            fifo_written: Count::default(),
            fifo_lost: Count::default(),
        }
    }
}

impl Default for Figures {
    fn default() -> Self {
        Self::new()
    }
}

/// A number with one writer.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// The present value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(crate) fn add_one(&self) {
        self.set(self.get() + 1);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }
}

/// How many times were within each limit.
#[derive(Debug)]
pub struct Histogram {
    /// Upper ends in seconds, rising.
    limits: Box<[f64]>,
    /// By limit; the last one is for those beyond all.
    buckets: Box<[Count]>,
    /// Sum of all, in nanoseconds.
    sum: Count,
}

impl Histogram {
    fn new(limits: &[f64]) -> Self {
        let buckets = (0..=limits.len()).map(|_| Count::default()).collect();
        Self { limits: limits.into(), buckets, sum: Count::default() }
    }

    pub(crate) fn record(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let bucket = self.limits.iter().position(|limit| seconds <= *limit).unwrap_or(self.limits.len());
        self.buckets[bucket].add_one();
        self.sum.set(self.sum.get().wrapping_add(time.as_nanos() as u64));
    }

    /// Each limit in seconds with how many were within it, as Prometheus counts: those of lower limits included.
    pub fn cumulative(&self) -> Vec<(f64, u64)> {
        let mut total = 0;
        let within = self.limits.iter().zip(&self.buckets).map(|(limit, bucket)| {
            total += bucket.get();
            (*limit, total)
        });
        within.collect()
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(Count::get).sum()
    }

    /// Sum of all, in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.sum.get() as f64 / 1e9
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_as_prometheus_does() {
        let histogram = Histogram::new(&[0.001, 0.01]);
        for millis in [1, 2, 10, 11, 5000] {
            histogram.record(Duration::from_millis(millis));
        }
        assert_eq!(histogram.cumulative(), [(0.001, 1), (0.01, 3)]);
        assert_eq!(histogram.count(), 5);
        assert!((histogram.sum_seconds() - 5.024).abs() < 1e-9);
    }
}
