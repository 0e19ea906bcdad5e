//! Workers that stand still. Each poll moves a worker's cycle counter; one that does not move while control goes on looking
//! is stuck: in a driver, in a loop, or behind another program on its core.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tracing::{error, warn};
use weir_dataplane::director::Shared;

/// A worker that stands for so long is stuck. One that shares its core may be off it for some tens of milliseconds, and on a machine with
/// far too much to do for some hundred.
const STUCK: Duration = Duration::from_millis(600);
/// Time that one look counts for at most: when control itself did not run, as after a SIGSTOP, the workers may not have run either.
const LOOK_MAX: Duration = Duration::from_millis(200);

/// Which workers are stuck, for whoever asks. By number.
#[derive(Debug, Clone)]
pub(crate) struct Stuck(Arc<[AtomicBool]>);

impl Stuck {
    /// None of so many.
    pub(crate) fn none(workers: usize) -> Self {
        Self((0..workers).map(|_| AtomicBool::new(false)).collect())
    }

    /// Their numbers.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = usize> {
        (0..self.0.len()).filter(|&number| self.is(number))
    }

    /// Whether this one is.
    pub(crate) fn is(&self, worker: usize) -> bool {
        self.0.get(worker).is_some_and(|stuck| stuck.load(Relaxed))
    }

    pub(crate) fn set(&self, worker: usize, is_stuck: bool) {
        self.0[worker].store(is_stuck, Relaxed);
    }
}

/// Control's end.
pub(crate) struct Standing {
    stuck: Stuck,
    workers: Vec<Seen>,
    looked: Instant,
}

/// One worker, as it was seen last.
#[derive(Clone, Copy)]
struct Seen {
    cycles: u64,
    /// For how long it has not moved, while control looked.
    stood: Duration,
    since: Instant,
}

impl Standing {
    /// Fills `stuck`.
    pub(crate) fn new(stuck: Stuck, now: Instant) -> Self {
        let seen = Seen { cycles: 0, stood: Duration::ZERO, since: now };
        Self { workers: vec![seen; stuck.0.len()], stuck, looked: now }
    }

    /// Looks at workers that poll. Returns whether all are well.
    pub(crate) fn look(&mut self, workers: &[Shared], now: Instant) -> bool {
        self.see(
            workers.iter().map(|worker| {
                let counters = &worker.counters;
                counters.busy_cycles.get().wrapping_add(counters.idle_cycles.get())
            }),
            now,
        )
    }

    fn see(&mut self, cycles: impl Iterator<Item = u64>, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.looked).min(LOOK_MAX);
        self.looked = now;
        let mut are_well = true;
        for (number, (cycles, seen)) in cycles.zip(&mut self.workers).enumerate() {
            if cycles != seen.cycles {
                let stood = now.saturating_duration_since(seen.since).as_secs_f64();
                *seen = Seen { cycles, stood: Duration::ZERO, since: now };
                if self.stuck.is(number) {
                    self.stuck.set(number, false);
                    warn!(worker = number, "the worker polls again, after {stood:.1} s");
                }
                continue;
            }
            seen.stood += passed;
            if seen.stood < STUCK {
                continue;
            }
            are_well = false;
            if !self.stuck.is(number) {
                self.stuck.set(number, true);
                error!(
                    worker = number,
                    "the worker is stuck: it has not polled for {:.1} s, and what comes to it is not served",
                    seen.stood.as_secs_f64()
                );
            }
        }
        are_well
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_stands_is_noticed_within_a_second_and_so_is_its_end() {
        let (stuck, begin) = (Stuck::none(2), Instant::now());
        let mut standing = Standing::new(stuck.clone(), begin);
        let mut look = |tenths: u64, cycles: [u64; 2]| {
            let are_well = standing.see(cycles.into_iter(), begin + Duration::from_millis(tenths * 100));
            (are_well, stuck.numbers().collect::<Vec<_>>())
        };
        assert_eq!(look(1, [1, 1]), (true, vec![]));
        let noticed = (2..).find(|&tenth| look(tenth, [tenth, 1]).1 == [1]).unwrap();
        assert!(noticed <= 10, "{noticed}");
        assert_eq!(look(50, [50, 1]), (false, vec![1]));
        assert_eq!(look(51, [51, 2]), (true, vec![]));
        // Everything stood for a minute, control as well.
        assert_eq!(look(651, [51, 2]), (true, vec![]));
        assert_eq!(look(652, [52, 3]), (true, vec![]));
    }
}
