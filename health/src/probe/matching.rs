//! Whether an answer is the one expected.

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

/// Whether the text is like that. The pattern is compiled anew for each check: what that costs is small beside a
/// connection, and thousands of compiled patterns are not.
pub(super) fn is_match(text: &[u8], wanted: &TextMatch) -> Result<bool, Failure> {
    match wanted {
        TextMatch::Contains(part) => Ok(contains(text, part.as_bytes())),
        TextMatch::Regex(pattern) => match Regex::new(pattern) {
            Ok(regex) => Ok(regex.is_match(text)),
            Err(problem) => Err(Failure::new(Outcome::Error, format!("regular expression: {problem}"))),
        },
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
