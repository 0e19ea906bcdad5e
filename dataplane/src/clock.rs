//! Time as a worker knows it: read once per burst, carried along as an argument.

/// The time of a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Cycles of the time stamp counter.
    pub cycles: u64,
    /// Whole seconds since the clock began. Workers' clocks begin together, but each reads its own once a pass: another
    /// thread's time may be ahead or behind, by microseconds or by as long as one of them stood still.
    pub seconds: u32,
    /// Milliseconds since the clock began.
    pub millis: u64,
}

/// Turns cycles into seconds without dividing on the path.
#[derive(Debug, Clone)]
pub struct Clock {
    cycles_per_milli: u64,
    next_milli: u64,
    millis: u64,
    seconds: u32,
}

impl Clock {
    /// A clock that begins at `cycles`; `hz` is the counter's frequency.
    pub fn new(hz: u64, cycles: u64) -> Self {
        let cycles_per_milli = (hz / 1000).max(1);
        Self { cycles_per_milli, next_milli: cycles.wrapping_add(cycles_per_milli), millis: 0, seconds: 0 }
    }

    /// The time at `cycles`, which must not lie before the last one given.
    #[inline]
    pub fn at(&mut self, cycles: u64) -> Now {
        if cycles.wrapping_sub(self.next_milli) as i64 >= 0 {
            self.advance(cycles);
        }
        Now { cycles, seconds: self.seconds, millis: self.millis }
    }

    #[cold]
    fn advance(&mut self, cycles: u64) {
        let passed = cycles.wrapping_sub(self.next_milli) / self.cycles_per_milli + 1;
        self.next_milli = self.next_milli.wrapping_add(passed * self.cycles_per_milli);
        self.millis += passed;
        let seconds = self.millis / 1000;
        self.seconds = seconds as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_follow_the_counter_over_a_wrap_and_long_gaps() {
        let start = u64::MAX - 5_000;
        let mut clock = Clock::new(1_000_000, start);
        assert_eq!(clock.at(start).millis, 0);
        assert_eq!(clock.at(start.wrapping_add(999)).millis, 0);
        assert_eq!(clock.at(start.wrapping_add(1_000)).millis, 1);
        let later = clock.at(start.wrapping_add(90_000_500));
        assert_eq!((later.seconds, later.millis), (90, 90_000));
        assert_eq!(clock.at(start.wrapping_add(91_000_000)).seconds, 91);
    }
}
