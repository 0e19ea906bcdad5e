//! Limits in rate.

use crate::clock::Now;

/// So many a second on average, and so many at once.
#[derive(Debug)]
pub struct Bucket {
    per_second: u32,
    /// Thousandths, so that each millisecond adds a whole number.
    burst: u64,
    left: u64,
    millis: u64,
}

impl Bucket {
    /// `per_second` a second, of which up to `burst` are saved up. Full.
    pub fn new(per_second: u32, burst: u32) -> Self {
        let burst = u64::from(burst) * 1000;
        Self { per_second, burst, left: burst, millis: 0 }
    }

    /// Whether one more may happen; takes it.
    #[inline]
    pub fn take(&mut self, now: Now) -> bool {
        if self.millis != now.millis {
            let passed = now.millis.saturating_sub(self.millis);
            self.left =
                self.left.saturating_add(passed.saturating_mul(u64::from(self.per_second))).min(self.burst);
            self.millis = now.millis;
        }
        let allowed = self.left >= 1000;
        self.left -= if allowed { 1000 } else { 0 };
        allowed
    }
}

/// So many a second, all of them at once if need be; what is not used is not saved up.
#[derive(Debug)]
pub struct RateLimit {
    per_second: u32,
    left: u32,
    second: u32,
}

impl RateLimit {
    /// `per_second` a second.
    pub fn per_second(per_second: u32) -> Self {
        Self { per_second, left: per_second, second: 0 }
    }

    /// Whether one more may happen; takes it.
    pub fn take(&mut self, now: Now) -> bool {
        if self.second != now.seconds {
            self.second = now.seconds;
            self.left = self.per_second;
        }
        let allowed = self.left > 0;
        self.left -= u32::from(allowed);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate_however_the_time_is_cut() {
        for step in [1, 7, 100] {
            let mut bucket = Bucket::new(500, 60);
            let mut taken = 0;
            for millis in (0..=10_000).step_by(step) {
                taken += (0..1_000).filter(|_| bucket.take(Now { millis, ..Now::default() })).count();
            }
            let last = 10_000 / step * step;
            assert_eq!(taken, 60 + last * 500 / 1000, "in steps of {step} ms");
        }
    }

    #[test]
    fn a_bucket_saves_up_no_more_than_its_burst() {
        let mut bucket = Bucket::new(1_000_000, 5);
        let mut at = |millis| (0..100).filter(|_| bucket.take(Now { millis, ..Now::default() })).count();
        assert_eq!([at(0), at(0), at(u64::MAX), at(u64::MAX)], [5, 0, 5, 0]);
    }

    #[test]
    fn a_second_has_its_share_and_no_more() {
        let mut limit = RateLimit::per_second(3);
        let mut taken = |seconds| (0..10).filter(|_| limit.take(Now { seconds, ..Now::default() })).count();
        assert_eq!([taken(0), taken(0), taken(1), taken(9)], [3, 0, 3, 3]);
    }
}
