//! TOML's syntax errors, in words that say what to write.

use std::ops::Range;

use crate::report::Problem;
use crate::secret;
use crate::validate::values;

mod asked;
mod line;

use line::Line;

/// Errors shown at most: what follows the first few is often their echo.
const SHOWN_MAX: usize = 10;

/// Characters of a value that a help repeats at most.
const REPEATED_CHARS_MAX: usize = 64;

/// Quotes of word processors and web pages.
const TYPOGRAPHIC: [char; 5] = ['“', '”', '„', '‘', '’'];

pub(crate) fn is_duplicate(error: &toml::de::Error) -> bool {
    error.message().trim().starts_with("duplicate key")
}

/// The first errors of a text, at most one per line: the others of a line are the first one's echo.
pub(crate) fn problems(text: &str, mut errors: Vec<toml::de::Error>) -> Vec<Problem> {
    errors.sort_by_key(|error| error.span().map(|span| span.start));
    // Ahead of anything that looks at the text around each.
    errors.truncate(10 * SHOWN_MAX);
    let secrets = secret::spans(text);
    let mut shown = Vec::new();
    let mut last_line = None;
    for error in &errors {
        let start = text.floor_char_boundary(error.span().map_or(0, |span| span.start));
        let line = Some(text[..start].rfind('\n'));
        if line != last_line && shown.len() < SHOWN_MAX {
            shown.push(problem(text, &secrets, error));
            last_line = line;
        }
    }
    shown
}

/// One error in the words of the parser, where they are clear.
fn problem(text: &str, secrets: &[Range<usize>], error: &toml::de::Error) -> Problem {
    let span = error.span().unwrap_or(0..0);
    let mut sentences = error.message().trim().splitn(2, ", expected ");
    let message = sentences.next().unwrap_or_default();
    let expected = sentences.next().map(|expected| format!("expected {expected}")).unwrap_or_default();
    let problem = |label: String| Problem::error(format!("not TOML: {message}")).at(span.clone(), label);
    let line = Line::around(text, span.clone());
    if message == "duplicate key" {
        return problem(expected).help(
            "write each key once in a table; tables that occur more than once have double brackets: [[...]]",
        );
    }
    let is_typographic = line.found().starts_with(TYPOGRAPHIC);
    if !is_typographic && line.has_typographic_quotes() {
        let label =
            if expected.is_empty() { "in a line with typographic quotes".to_owned() } else { expected };
        return problem(label).help("write straight quotes in this line: some are typographic");
    }
    let repeated =
        |value: Option<Range<usize>>| Some(&text[value.filter(|value| is_repeated(text, secrets, value))?]);
    if let Some(value) = repeated(line.value_without_quotes()) {
        let instead = asked::instead_of_text(text, &line, Some(value));
        let (label, help) = instead.unwrap_or_else(|| (expected, format!("write \"{value}\"")));
        return problem(label).help(help);
    }
    if message != "string values must be quoted" {
        return problem(expected);
    }
    if line.found().is_empty() {
        return Problem::error("not TOML: missing value").at(span.clone(), "write a value here");
    }
    let value = repeated(if is_typographic { line.between_typographic() } else { line.without_quotes() });
    if let Some(seconds) = value.and_then(values::seconds).filter(|_| values::is_in_seconds(line.key())) {
        return problem("a number of seconds has no unit".to_owned()).help(format!("write {seconds}"));
    }
    if let Some((label, help)) = asked::instead_of_text(text, &line, value) {
        return problem(label).help(help);
    }
    let help = match (value, is_typographic) {
        (Some(value), true) => format!("write \"{value}\", in straight quotes"),
        (None, true) => "write the whole value in straight quotes".to_owned(),
        (Some(value), false) => format!("write \"{value}\""),
        (None, false) if line.is_before_bracket() => "remove what stands before the bracket".to_owned(),
        (None, false) => "write each string whole, in double quotes".to_owned(),
    };
    problem(if is_typographic {
        "typographic quotes, where TOML has straight ones".to_owned()
    } else {
        expected
    })
    .help(help)
}

/// Whether a help may hold this part of the text: all of it, and without a secret. A piece of a value would pass and mean something
/// else, and what is left of a secret behind stars would, too.
fn is_repeated(text: &str, secrets: &[Range<usize>], value: &Range<usize>) -> bool {
    let next = secrets.partition_point(|secret| secret.end <= value.start);
    let is_hidden = secrets.get(next).is_some_and(|secret| secret.start < value.end);
    !is_hidden && text[value.clone()].chars().count() <= REPEATED_CHARS_MAX
}
