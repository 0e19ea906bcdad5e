//! What a worker does with the time between packets: poll on, or let its CPU rest.
//!
//! Resting comes in steps, since the next packet of a busy time is near and that of a quiet one is not. After a poll
//! that found work the worker polls on; then it waits a few cycles between polls, at no loss that shows; then it sleeps,
//! each time twice as long, up to a bound. Work starts it all over. Devices with interrupts wake it instead.

use std::time::Duration;

/// How long after work polls follow each other at once, in microseconds.
const POLL_MICROS: u64 = 20;
/// How long after work polls follow each other with pauses, in microseconds.
const PAUSE_MICROS: u64 = 60;
/// The first sleep.
const SLEEP_FIRST: Duration = Duration::from_micros(5);
/// The longest wait for an interrupt: ARP, timeouts, messages and a new configuration wait for its end.
pub const INTERRUPT_WAIT: Duration = Duration::from_millis(1);

/// What to do before the next poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Nothing.
    Not,
    /// Give the core's other thread a few cycles.
    Pause,
    /// Sleep that long.
    Sleep(Duration),
    /// Wait for a device's interrupt, that long at most.
    Interrupt(Duration),
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Idle {
    poll_cycles: u64,
    pause_cycles: u64,
    sleep_max: Duration,
    has_interrupts: bool,
    /// When there was work the last time.
    worked: u64,
    next_sleep: Duration,
}

impl Idle {
    /// For a worker that starts at `cycles` of a counter of `hz`. With `has_interrupts` all of its queues have them.
    pub fn new(hz: u64, cycles: u64, sleep_max: Duration, has_interrupts: bool) -> Self {
        let micros = |micros: u64| hz.saturating_mul(micros) / 1_000_000;
        Self {
            poll_cycles: micros(POLL_MICROS),
            pause_cycles: micros(PAUSE_MICROS),
            sleep_max,
            has_interrupts,
            worked: cycles,
            next_sleep: SLEEP_FIRST,
        }
    }

    /// What to do after the poll that began at `cycles` and found work or not.
    #[inline]
    pub fn after_poll(&mut self, cycles: u64, had_work: bool) -> Rest {
        if had_work {
            self.worked = cycles;
            self.next_sleep = SLEEP_FIRST;
            return Rest::Not;
        }
        self.rest(cycles.wrapping_sub(self.worked))
    }

    #[cold]
    fn rest(&mut self, idle_for: u64) -> Rest {
        if idle_for < self.poll_cycles {
            Rest::Not
        } else if idle_for < self.pause_cycles {
            Rest::Pause
        } else if self.has_interrupts {
            Rest::Interrupt(INTERRUPT_WAIT)
        } else {
            let sleep = self.next_sleep.min(self.sleep_max);
            self.next_sleep = (sleep * 2).min(self.sleep_max);
            Rest::Sleep(sleep)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MHZ: u64 = 1_000_000;

    fn sleep(micros: u64) -> Rest {
        Rest::Sleep(Duration::from_micros(micros))
    }

    #[test]
    fn rest_grows_to_its_bound_and_ends_with_work() {
        // One cycle is a microsecond.
        let mut idle = Idle::new(MHZ, 0, Duration::from_micros(30), false);
        assert_eq!(idle.after_poll(1, false), Rest::Not);
        assert_eq!(idle.after_poll(POLL_MICROS, false), Rest::Pause);
        assert_eq!(idle.after_poll(PAUSE_MICROS - 1, false), Rest::Pause);
        let sleeps: Vec<Rest> = (60..65).map(|cycles| idle.after_poll(cycles, false)).collect();
        assert_eq!(sleeps, [5, 10, 20, 30, 30].map(sleep));
        assert_eq!(idle.after_poll(1_000, true), Rest::Not);
        assert_eq!(idle.after_poll(1_001, false), Rest::Not, "polls follow each other after work");
        assert_eq!(idle.after_poll(1_100, false), sleep(5), "and sleeps are short again");
    }

    #[test]
    fn a_bound_below_the_first_sleep_holds() {
        let mut idle = Idle::new(MHZ, 0, Duration::from_micros(2), false);
        assert_eq!([idle.after_poll(100, false), idle.after_poll(101, false)], [2, 2].map(sleep));
    }

    #[test]
    fn interrupts_take_the_place_of_sleep() {
        let mut idle = Idle::new(MHZ, 0, Duration::from_micros(30), true);
        assert_eq!(idle.after_poll(30, false), Rest::Pause);
        assert_eq!(idle.after_poll(60, false), Rest::Interrupt(INTERRUPT_WAIT));
    }

    #[test]
    fn the_counter_may_wrap() {
        let mut idle = Idle::new(MHZ, u64::MAX - 10, Duration::from_micros(30), false);
        assert_eq!(idle.after_poll(4, false), Rest::Not);
        assert_eq!(idle.after_poll(10, false), Rest::Pause);
    }
}
