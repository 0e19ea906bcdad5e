//! Limits in rate.

use crate::clock::Now;
use crate::stats::Answer;

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

    /// Whether one more may happen.
    pub fn has(&self, now: Now) -> bool {
        let passed = now.millis.saturating_sub(self.millis);
        let gained = passed.saturating_mul(u64::from(self.per_second));
        self.left.saturating_add(gained).min(self.burst) >= 1000
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

    /// Whether one more may happen.
    pub fn has(&self, now: Now) -> bool {
        let left = if self.second == now.seconds { self.left } else { self.per_second };
        left > 0
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

/// Whose packet asks for an ICMP error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// A connection's that was there before it.
    Known,
    /// Anybody's.
    Stranger,
}

/// ICMP errors of each kind that a worker sends per second to strangers, as the kernel's `icmp_msgs_per_sec`.
const ERRORS_PER_SECOND: u32 = 1_000;

/// ICMP errors in a second: so many of each kind, whatever becomes of the others.
///
/// A connection whose packets are too big stands still until its sender is told, so those that are known are always told, as
/// the kernel tells everybody. Each costs its sender a longer packet than it gets, so nothing is won by asking for many.
#[derive(Debug)]
pub struct ErrorLimits {
    unreachable: RateLimit,
    time_exceeded: RateLimit,
    too_big: RateLimit,
    relayed: RateLimit,
    wrong: RateLimit,
}

impl ErrorLimits {
    /// All of them unused.
    pub fn new() -> Self {
        let limit = || RateLimit::per_second(ERRORS_PER_SECOND);
        Self {
            unreachable: limit(),
            time_exceeded: limit(),
            too_big: limit(),
            relayed: limit(),
            wrong: limit(),
        }
    }

    /// Whether one more error may be sent, as this kind of answer; takes it.
    pub fn take(&mut self, answer: Answer, asker: Asker, now: Now) -> bool {
        match (answer, asker) {
            (Answer::FragmentationNeeded, Asker::Known) => true,
            (Answer::FragmentationNeeded, Asker::Stranger) => self.too_big.take(now),
            (Answer::TimeExceeded, _) => self.time_exceeded.take(now),
            (Answer::TunnelError, _) => self.relayed.take(now),
            (Answer::ParameterProblem, _) => self.wrong.take(now),
            _ => self.unreachable.take(now),
        }
    }

    /// Whether one more error may be sent, as this kind of answer.
    pub fn has(&self, answer: Answer, asker: Asker, now: Now) -> bool {
        match (answer, asker) {
            (Answer::FragmentationNeeded, Asker::Known) => true,
            (Answer::FragmentationNeeded, Asker::Stranger) => self.too_big.has(now),
            (Answer::TimeExceeded, _) => self.time_exceeded.has(now),
            (Answer::TunnelError, _) => self.relayed.has(now),
            (Answer::ParameterProblem, _) => self.wrong.has(now),
            _ => self.unreachable.has(now),
        }
    }
}

impl Default for ErrorLimits {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_error_has_its_own_share_and_known_connections_are_always_told_what_is_too_big() {
        let kinds = [
            Answer::PortUnreachable,
            Answer::TimeExceeded,
            Answer::FragmentationNeeded,
            Answer::TunnelError,
            Answer::ParameterProblem,
        ];
        let mut limits = ErrorLimits::new();
        for answer in kinds {
            let taken = (0..5_000).filter(|_| limits.take(answer, Asker::Stranger, Now::default())).count();
            assert_eq!(taken, ERRORS_PER_SECOND as usize, "{answer:?}");
        }
        let known = kinds.map(|answer| limits.take(answer, Asker::Known, Now::default()));
        assert_eq!(known, [false, false, true, false, false]);
    }

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
