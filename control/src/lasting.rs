//! Reads of files that should be over at once, and may wait for ever for a file system that does not answer. One that lasts is said, and so
//! is its end.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tracing::{info, warn};
use weir_config::lasting::{AGAIN, LONG, watched};

/// How long it has been under way, for whoever asks. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lasts(Arc<AtomicU64>);

impl Lasts {
    /// 0 when nothing is under way.
    pub(crate) fn seconds(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }

    fn set(&self, lasts: Duration) {
        self.0.store(lasts.as_secs_f64().to_bits(), Relaxed);
    }
}

/// What is to be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// It has been under way for so long, and is no nearer to its end.
    GoesOn(Duration),
    /// One that was said to go on has ended, after so long at most.
    Ended(Duration),
}

/// See the module.
#[derive(Default)]
pub(crate) struct Lasting {
    lasts: Lasts,
    /// When one began that was said to go on, and when that was said last.
    said: Option<(Instant, Instant)>,
}

impl Lasting {
    /// Shows how long it lasts.
    pub(crate) fn shown_by(lasts: Lasts) -> Self {
        Self { lasts, said: None }
    }

    /// To be called over and over. `began` is when the one that is under way did.
    pub(crate) fn look(&mut self, began: Option<Instant>, now: Instant) -> Option<Said> {
        let lasts = began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        self.lasts.set(lasts);
        match self.said {
            Some((one, _)) if began != Some(one) => {
                self.said = None;
                Some(Said::Ended(now.saturating_duration_since(one)))
            }
            Some((_, last)) if now.saturating_duration_since(last) < AGAIN => None,
            None if lasts < LONG => None,
            _ => {
                self.said = began.map(|began| (began, now));
                Some(Said::GoesOn(lasts))
            }
        }
    }
}

/// Does the work that reads `file` at the start, when control does not look yet.
pub(crate) fn at_start<T>(file: &Path, work: impl FnOnce() -> T) -> T {
    let file = file.display().to_string();
    let theirs = file.clone();
    let say = move |lasts: Duration| {
        let (file, lasts) = (&theirs, lasts.as_secs_f64());
        warn!(
            file,
            "the start has waited for {lasts:.0} s for the file and what that names: their file system may not answer"
        );
    };
    let (done, lasted) = watched(say, work);
    if let Some(lasted) = lasted {
        info!(file, "the start goes on, after {:.0} s", lasted.as_secs_f64());
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_said_each_minute_and_so_is_its_end() {
        let lasts = Lasts::default();
        let mut lasting = Lasting::shown_by(lasts.clone());
        let zero = Instant::now();
        let at = |seconds: u64| zero + Duration::from_secs(seconds);
        let mut said = Vec::new();
        for second in 0..200 {
            // A short one, a long one, and one more behind that.
            let began = match second {
                10..14 => Some(at(10)),
                20..150 => Some(at(20)),
                150..153 => Some(at(150)),
                _ => None,
            };
            said.extend(lasting.look(began, at(second)).map(|it| (second, it)));
            assert_eq!(lasts.seconds(), began.map_or(0.0, |began| (at(second) - began).as_secs_f64()));
        }
        let goes_on = |seconds| Said::GoesOn(Duration::from_secs(seconds));
        let ended = Said::Ended(Duration::from_secs(130));
        assert_eq!(said, [(25, goes_on(5)), (85, goes_on(65)), (145, goes_on(125)), (150, ended)]);
    }
}
