//! What of a file no report shows: values that may be secrets.
//!
//! Reports quote the text, and they go to logs that many people read. So a value is shown only where its key is one of weir's that
//! holds no secret: an address, a number, a word. What stands under any other key, misspelt or of another program, is hidden,
//! and so are all values of a table that is none of weir's, comments, and whatever is no statement. What is shown of which value is said
//! here; [`reader`] finds the values.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use crate::keys;
use crate::validate::values;

mod reader;
mod sentence;
#[cfg(test)]
mod tests;

use reader::{Reader, is_bare, is_blank};
pub(crate) use sentence::hidden_in;

/// Keys of weir's that may hold a secret. All others are shown.
const SECRET: [&str; 7] = ["password", "keys", "basic_auth", "request_body", "send", "send_hex", "mh_seed"];
/// Header fields: of each the name is shown.
const FIELDS: [&str; 3] = ["request_header", "expect_header", "expect_header_regex"];
/// Programs: shown without their arguments. One without its path is shown if it is a plain word, as is a path without its slash: it is
/// what the report is about then.
const PROGRAMS: [&str; 11] = [
    "command",
    "script",
    "notify_up",
    "notify_down",
    "quorum_up",
    "quorum_down",
    "notify_master",
    "notify_backup",
    "notify_fault",
    "notify_stop",
    "notify",
];
/// Paths of requests: shown up to their query. And the path in whose place a token may stand.
const PATHS: [&str; 2] = ["path", "token_file"];

/// Values within values that are looked into; weir's file has two.
const DEPTH_MAX: usize = 8;

/// All keys of weir's file, and all tables.
static KNOWN: LazyLock<(HashSet<&str>, HashSet<&str>)> = LazyLock::new(|| {
    let keys = keys::all().iter().flat_map(|(_, keys)| keys.iter()).copied().collect();
    let names = keys::all().iter().filter_map(|(kind, _)| kind.trim_matches(['[', ']']).rsplit('.').next());
    (keys, names.chain(["sorry_server"]).collect())
});

/// Whether it is a key or a table of weir's.
pub(crate) fn is_known(word: &str) -> bool {
    KNOWN.0.contains(word) || KNOWN.1.contains(word)
}

/// Whether this is the name of a table of weir's, within others or not.
fn is_table(name: &str) -> bool {
    name.split('.').all(|part| KNOWN.1.contains(part.trim()))
}

/// The places of all that is hidden in a text, in their order.
pub(crate) fn spans(text: &str) -> Vec<Range<usize>> {
    Reader::new(text).read()
}

/// Takes out what may be a secret, and says whether there was any: keys of secrets, of header fields, of programs with arguments, of
/// paths with a query. A table in which there is one, such as a health check, goes as a whole.
pub(crate) fn leave_out(keys: &mut Map<String, Value>) -> bool {
    let before = keys.len();
    keys.retain(|key, value| {
        let key = key.as_str();
        let has_arguments = match &*value {
            Value::Array(words) => words.len() > 1,
            Value::String(word) => word.contains(' '),
            _ => false,
        };
        let has_query = value.as_str().is_some_and(|path| path.contains('?'));
        !(SECRET.contains(&key)
            || FIELDS.contains(&key)
            || PROGRAMS.contains(&key) && has_arguments
            || PATHS.contains(&key) && has_query)
    });
    let mut left_out = keys.len() != before;
    keys.retain(|_, value| {
        let has_hole = leave_out_within(value);
        left_out |= has_hole;
        // A table with a hole would pass for one that never had that key.
        !(has_hole && value.is_object())
    });
    left_out
}

fn leave_out_within(value: &mut Value) -> bool {
    match value {
        Value::Object(keys) => leave_out(keys),
        Value::Array(values) => {
            // Each of them, so none is left for the first that was found.
            values.iter_mut().map(leave_out_within).filter(|left_out| *left_out).count() > 0
        }
        _ => false,
    }
}

/// The text with its secrets hidden. All other bytes are where they were.
pub(crate) fn hidden(text: &str, spans: &[Range<usize>]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for span in spans {
        out.push_str(&text[at..span.start]);
        let stars = |c: char| if c.is_whitespace() { c.to_string() } else { "*".repeat(c.len_utf8()) };
        out.extend(text[span.clone()].chars().map(stars));
        at = span.end;
    }
    out.push_str(&text[at..]);
    out
}

/// What of a value is shown.
#[derive(Clone, Copy, PartialEq)]
enum Shown {
    All,
    Nothing,
    /// What its keys say of the values in a table. Of a plain value in its place, an address or the type of a check.
    Table,
    FieldName,
    Program,
    Path,
}

fn shown_of(key: &str) -> Shown {
    match key {
        _ if SECRET.contains(&key) => Shown::Nothing,
        _ if FIELDS.contains(&key) => Shown::FieldName,
        _ if PROGRAMS.contains(&key) => Shown::Program,
        _ if PATHS.contains(&key) => Shown::Path,
        // Some names are both, such as `port`. Where only a table belongs, a plain value is misplaced.
        _ if is_plain(key) => Shown::All,
        _ if KNOWN.1.contains(key) => Shown::Table,
        _ => Shown::Nothing,
    }
}

/// Whether there is a key of this name that holds a plain value.
fn is_plain(key: &str) -> bool {
    const BOTH: [&str; 3] = ["port", "mark", "virtual_server"];
    KNOWN.0.contains(key) && (BOTH.contains(&key) || !KNOWN.1.contains(key))
}

/// How many bytes of a value are shown.
fn seen(shown: Shown, value: &str) -> usize {
    let until = |ends: fn(char) -> bool| value.find(ends).unwrap_or(value.len());
    match shown {
        Shown::Nothing => 0,
        Shown::Table if values::address_and_port(value).is_some() || values::CHECKS.contains(&value) => {
            value.len()
        }
        Shown::Table => 0,
        // The credentials of a URL, or a string that has lost its end and holds another.
        Shown::All if holds_credentials(value) || holds_another(value) || is_hmac_key(value) => 0,
        Shown::All => value.len(),
        Shown::FieldName => {
            let name = until(|c| !is_bare(c));
            if name > 0 && value[name..].starts_with(": ") { name + 1 } else { 0 }
        }
        Shown::Program | Shown::Path if value.contains('@') => 0,
        Shown::Program | Shown::Path if !value.starts_with('/') => plain_word(value),
        // Which of the two it was meant for, nobody knows.
        Shown::Program | Shown::Path => until(|c| c.is_whitespace() || "?#;&=\\\"'".contains(c)),
    }
}

/// The length of the word that a value begins with: lower-case letters as in the names of programs and pages. One with a digit in it
/// may be a password, and so may what stands before a colon or an equals sign.
fn plain_word(value: &str) -> usize {
    let is_of_word = |c: char| c.is_ascii_lowercase() || "-_./".contains(c);
    let len = value.find(|c| !is_of_word(c)).unwrap_or(value.len());
    let ends = value[len..].chars().next().is_none_or(|c| c.is_whitespace() || "?#".contains(c));
    if ends && value.starts_with(|c: char| c.is_ascii_lowercase() || c == '.') { len } else { 0 }
}

/// A program without its arguments, as far as reports show one.
pub(crate) fn program_of(command: &str) -> &str {
    &command[..seen(Shown::Program, command)]
}

fn holds_credentials(value: &str) -> bool {
    value.split_once('@').is_some_and(|(before, _)| before.contains(':'))
}

/// Whether it reads as a key of `auth_hmac`, an id and a secret, which stands beside `keys` by mistake.
fn is_hmac_key(value: &str) -> bool {
    const LEAST: usize = 16;
    let value = value.trim();
    let behind_id = value.split_once(' ').filter(|(id, _)| id.parse::<u8>().is_ok());
    let secret = behind_id.map(|(_, secret)| secret.trim());
    secret.is_some_and(|secret| secret.len() >= LEAST) || secret.unwrap_or(value).starts_with("hex:")
}

/// Whether it holds a key with its value: a key that may hold a secret, or what is written as TOML is, with blanks or quotes.
fn holds_another(value: &str) -> bool {
    value.match_indices('=').any(|(at, _)| {
        let (before, behind) = (&value[..at], &value[at + 1..]);
        let word = before.trim_end_matches(is_blank).rsplit(|c| !is_bare(c)).next().unwrap_or_default();
        let is_key_of_secrets = is_known(word) && word.len() < at && shown_of(word) != Shown::All;
        let is_assignment = before.ends_with(is_blank) && behind.starts_with(is_blank);
        is_key_of_secrets || is_assignment || behind.trim_start().starts_with(['"', '\'', '“', '‘', '[', '{'])
    })
}
