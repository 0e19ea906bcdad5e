//! TOML's syntax errors, in words that say what to write.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::report::Problem;
use crate::validate::values;

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
    let mut shown = Vec::new();
    let mut last_line = None;
    for error in &errors {
        let start = text.floor_char_boundary(error.span().map_or(0, |span| span.start));
        let line = Some(text[..start].rfind('\n'));
        if line != last_line && shown.len() < SHOWN_MAX {
            shown.push(problem(text, error));
            last_line = line;
        }
    }
    shown
}

/// One error in the words of the parser, where they are clear.
fn problem(text: &str, error: &toml::de::Error) -> Problem {
    let span = error.span().unwrap_or(0..0);
    let found = text.get(span.clone()).unwrap_or_default().trim();
    let mut sentences = error.message().trim().splitn(2, ", expected ");
    let message = sentences.next().unwrap_or_default();
    let expected = sentences.next().map(|expected| format!("expected {expected}")).unwrap_or_default();
    let problem = |label: String| Problem::error(format!("not TOML: {message}")).at(span.clone(), label);
    let line = Line::around(text, span.start);
    if message == "duplicate key" {
        return problem(expected).help(
            "write each key once in a table; tables that occur more than once have double brackets: [[...]]",
        );
    }
    if found.starts_with(TYPOGRAPHIC) {
        let label = "typographic quotes, where TOML has straight ones";
        return problem(label.to_owned()).help(straight(found));
    }
    if line.has_typographic_quotes() {
        let label =
            if expected.is_empty() { "in a line with typographic quotes".to_owned() } else { expected };
        return problem(label).help("write straight quotes in this line: some are typographic");
    }
    if let Some(value) = line.value_without_quotes(span.start - line.start) {
        return problem(expected).help(format!("write \"{value}\""));
    }
    if message != "string values must be quoted" {
        return problem(expected);
    }
    if found.is_empty() {
        return Problem::error("not TOML: missing value").at(span.clone(), "write a value here");
    }
    if let Some(seconds) = values::seconds(found).filter(|_| values::is_in_seconds(line.key())) {
        return problem("a number of seconds has no unit".to_owned()).help(format!("write {seconds}"));
    }
    match found.contains(['"', '\\', '\n']) {
        true => problem(expected),
        false => problem(expected).help(format!("write \"{}\"", repeated(found))),
    }
}

/// What stands between typographic quotes, in straight ones.
fn straight(found: &str) -> String {
    let inside = found.trim_matches(TYPOGRAPHIC);
    match inside.contains(TYPOGRAPHIC) || inside.contains(['"', '\\', '\n']) {
        true => "write straight quotes".to_owned(),
        false => format!("write \"{}\", in straight quotes", repeated(inside)),
    }
}

fn repeated(text: &str) -> String {
    text.chars().take(REPEATED_CHARS_MAX).collect()
}

/// A line of the text, its comment aside.
struct Line<'t> {
    text: &'t str,
    start: usize,
}

impl<'t> Line<'t> {
    fn around(text: &'t str, at: usize) -> Self {
        let at = text.floor_char_boundary(at);
        let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
        let end = text[at..].find('\n').map_or(text.len(), |len| at + len);
        let line = &text[start..end];
        Self { text: &line[..line.find('#').unwrap_or(line.len())], start }
    }

    /// What stands before the first equals sign.
    fn key(&self) -> &'t str {
        self.text.split('=').next().unwrap_or_default().trim()
    }

    /// Single ones may be apostrophes.
    fn has_typographic_quotes(&self) -> bool {
        self.text.contains(&TYPOGRAPHIC[..3])
    }

    /// The address, the network or the range around this byte of the line, which TOML took for a number or a time.
    fn value_without_quotes(&self, at: usize) -> Option<&'t str> {
        let ends = |c: char| c.is_whitespace() || "=,[]{}".contains(c);
        let at = self.text.floor_char_boundary(at.min(self.text.len()));
        let start = at - self.text[..at].rsplit(ends).next()?.len();
        let value = self.text[start..].split(ends).next()?;
        let is_range = || {
            value.split_once('-').is_some_and(|(a, b)| a.parse::<u16>().is_ok() && b.parse::<u16>().is_ok())
        };
        let is_one = value.parse::<IpAddr>().is_ok()
            || value.parse::<IpNet>().is_ok()
            || value.parse::<SocketAddr>().is_ok()
            || values::station(value).is_ok()
            || values::pci_address(value).is_some()
            || is_range();
        is_one.then_some(value)
    }
}
