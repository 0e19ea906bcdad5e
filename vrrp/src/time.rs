//! Time as it is given to everything here: microseconds of some monotonic clock.

use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

/// A moment, in microseconds since a moment that never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Micros(pub u64);

impl Micros {
    /// How long ago `earlier` was; nothing if it lies ahead.
    pub fn since(self, earlier: Micros) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Micros {
    type Output = Micros;

    fn add(self, span: Duration) -> Micros {
        Micros(self.0.saturating_add(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl AddAssign<Duration> for Micros {
    fn add_assign(&mut self, span: Duration) {
        *self = *self + span;
    }
}

impl Sub<Duration> for Micros {
    type Output = Micros;

    fn sub(self, span: Duration) -> Micros {
        Micros(self.0.saturating_sub(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }
}
