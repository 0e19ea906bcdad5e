//! One check's record: from answers in a row to a verdict.

use weir_config::model::health::HealthCheck;

/// What a check's answers amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Neither a success nor enough failures since the check is there.
    Untried,
    /// It works.
    Up,
    /// It failed often enough in a row.
    Down,
}

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Track {
    verdict: Verdict,
    /// Answers in a row that contradict the verdict.
    against: u32,
}

impl Track {
    /// The present verdict.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Answers in a row that contradict the verdict.
    pub fn against(&self) -> u32 {
        self.against
    }

    /// Whether the last answer contradicts the verdict, so that the next one is wanted sooner.
    pub fn is_in_doubt(&self) -> bool {
        self.against != 0
    }

    /// Takes an answer in; the new verdict if it changes.
    ///
    /// The first success of all proves a server: `rise` is for those that were down.
    pub fn answer(&mut self, check: &HealthCheck, is_success: bool) -> Option<Verdict> {
        let (needed, next) = match (self.verdict, is_success) {
            (Verdict::Untried, true) => (1, Verdict::Up),
            (Verdict::Untried | Verdict::Up, false) => (check.fall, Verdict::Down),
            (Verdict::Down, true) => (check.rise, Verdict::Up),
            (Verdict::Up, true) | (Verdict::Down, false) => {
                self.against = 0;
                return None;
            }
        };
        self.against += 1;
        if self.against < needed {
            return None;
        }
        *self = Self { verdict: next, against: 0 };
        Some(next)
    }
}

impl From<Verdict> for Track {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, against: 0 }
    }
}
