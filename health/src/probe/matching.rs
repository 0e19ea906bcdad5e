//! Whether an answer is the one expected.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use memchr::memmem;
use regex::bytes::Regex;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use weir_config::model::health::{Expected, TextMatch};

use super::Failure;
use crate::judge::Outcome;

/// Bytes of an unexpected answer that are shown.
const SHOWN_BYTES: usize = 60;
/// Texts that are looked at on a thread of their own at a time.
const ASIDE_MAX: usize = 2;
/// Who has not been looked at by then is a case for the operator.
const ASIDE_TIMEOUT: Duration = Duration::from_secs(30);

/// Whether the answer so far is what is expected.
pub(super) fn is_expected(expected: &Expected, answer: &[u8]) -> bool {
    match expected {
        Expected::Contains(text) => contains(answer, text),
        Expected::Begins(bytes) => {
            answer.len() >= bytes.len()
                && bytes.iter().zip(answer).all(|(wanted, byte)| wanted.is_none_or(|wanted| wanted == *byte))
        }
    }
}

/// Does work that may take long beside the checks, which share one thread. It is weir's own time: nothing of it counts against the
/// server.
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    static PLACES: Semaphore = Semaphore::const_new(ASIDE_MAX);
    let error = |detail: String| Failure::new(Outcome::Error, detail);
    let done = async {
        let place = PLACES.acquire().await.map_err(|problem| error(problem.to_string()))?;
        let work = move || {
            // Held as long as the work takes, whoever still waits for it.
            let _place = place;
            work()
        };
        spawn_blocking(work).await.map_err(|problem| error(problem.to_string()))?
    };
    match tokio::time::timeout(ASIDE_TIMEOUT, done).await {
        Ok(done) => done,
        Err(_) => {
            let limit = ASIDE_TIMEOUT.as_secs();
            Err(error(format!(
                "to look at the answer takes more than {limit} s: make the pattern simpler or `body_limit` less"
            )))
        }
    }
}

/// Compiled patterns of one configuration: compiling one takes longer than many a check.
#[derive(Default)]
pub(super) struct Patterns(Mutex<HashMap<String, Regex>>);

impl Patterns {
    /// Whether the text is like that.
    pub(super) fn is_match(&self, text: &[u8], wanted: &TextMatch) -> Result<bool, Failure> {
        match wanted {
            TextMatch::Contains(part) => Ok(contains(text, part.as_bytes())),
            TextMatch::Regex(pattern) => Ok(self.get(pattern)?.is_match(text)),
        }
    }

    /// Neither compiling nor matching holds the lock.
    fn get(&self, pattern: &str) -> Result<Regex, Failure> {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(regex) = lock().get(pattern) {
            return Ok(regex.clone());
        }
        let regex = Regex::new(pattern)
            .map_err(|problem| Failure::new(Outcome::Error, format!("regular expression: {problem}")))?;
        lock().insert(pattern.to_owned(), regex.clone());
        Ok(regex)
    }
}

/// In words, for a detail.
pub(super) fn describe(wanted: &TextMatch) -> String {
    match wanted {
        TextMatch::Contains(part) => format!("{part:?}"),
        TextMatch::Regex(pattern) => format!("/{pattern}/"),
    }
}

/// In time proportional to both, also where they nearly match everywhere.
fn contains(text: &[u8], part: &[u8]) -> bool {
    memmem::find(text, part).is_some()
}

/// The beginning of an answer, fit for a log line.
pub(super) fn shown(answer: &[u8]) -> String {
    let start = &answer[..answer.len().min(SHOWN_BYTES)];
    let dots = if answer.len() > SHOWN_BYTES { "..." } else { "" };
    format!("\"{}{dots}\"", start.escape_ascii())
}
