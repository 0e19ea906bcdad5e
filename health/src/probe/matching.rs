//! Whether an answer is the one expected.

use std::sync::{Mutex, PoisonError};

use hashbrown::HashMap;
use regex::bytes::Regex;
use weir_config::model::health::{Expected, TextMatch};

use super::Failure;
use crate::judge::Outcome;

/// Bytes of an unexpected answer that are shown.
const SHOWN_BYTES: usize = 60;

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

/// Compiled patterns of one configuration: compiling one takes longer than many a check.
#[derive(Default)]
pub(super) struct Patterns(Mutex<HashMap<String, Regex>>);

impl Patterns {
    /// Whether the text is like that.
    pub(super) fn is_match(&self, text: &[u8], wanted: &TextMatch) -> Result<bool, Failure> {
        match wanted {
            TextMatch::Contains(part) => Ok(contains(text, part.as_bytes())),
            TextMatch::Regex(pattern) => {
                let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(regex) = known.get(pattern) {
                    return Ok(regex.is_match(text));
                }
                let regex = Regex::new(pattern).map_err(|problem| {
                    Failure::new(Outcome::Error, format!("regular expression: {problem}"))
                })?;
                let is_match = regex.is_match(text);
                known.insert(pattern.clone(), regex);
                Ok(is_match)
            }
        }
    }
}

/// In words, for a detail.
pub(super) fn describe(wanted: &TextMatch) -> String {
    match wanted {
        TextMatch::Contains(part) => format!("{part:?}"),
        TextMatch::Regex(pattern) => format!("/{pattern}/"),
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    part.is_empty() || text.windows(part.len()).any(|window| window == part)
}

/// The beginning of an answer, fit for a log line.
pub(super) fn shown(answer: &[u8]) -> String {
    let start = &answer[..answer.len().min(SHOWN_BYTES)];
    let dots = if answer.len() > SHOWN_BYTES { "..." } else { "" };
    format!("\"{}{dots}\"", start.escape_ascii())
}
