//! Limits in rate.

use crate::clock::Now;

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
    fn a_second_has_its_share_and_no_more() {
        let mut limit = RateLimit::per_second(3);
        let mut taken = |seconds| (0..10).filter(|_| limit.take(Now { seconds, ..Now::default() })).count();
        assert_eq!([taken(0), taken(0), taken(1), taken(9)], [3, 0, 3, 3]);
    }
}
