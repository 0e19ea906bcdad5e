//! Letters of a line: comments, quotes, definitions, sequences.

use std::borrow::Cow;

use super::source::{Kind, Word};

/// keepalived's white space. Others, such as the full-width blank, are letters of a word.
pub(super) fn is_blank(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

/// A line without its comment, and whether the next one belongs to it: a `\` at its end says so, behind a comment, too.
pub(super) fn uncommented(line: &str) -> (Cow<'_, str>, bool) {
    // Behind a return keepalived joins nothing: the backslash before it stays with its word.
    let is_windows = line.ends_with('\r');
    let line = line.trim_end_matches('\r');
    if !line.bytes().any(|byte| matches!(byte, b'!' | b'#' | b'\\')) {
        return (line.into(), false);
    }
    let (mut left, mut letters) = (String::new(), line.chars());
    let (mut is_quoted, mut is_comment, mut goes_on) = (false, false, false);
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                None if !is_windows => goes_on = true,
                None if is_comment => {}
                None => {
                    left.truncate(left.trim_end_matches(is_blank).len());
                    left.push(letter);
                }
                Some(_) if is_comment => {}
                Some(next @ ('!' | '#')) if !is_quoted => left.push(next),
                Some(next) => left.extend([letter, next]),
            },
            _ if is_comment => {}
            '!' | '#' if !is_quoted => is_comment = true,
            _ => {
                is_quoted ^= letter == '"';
                left.push(letter);
            }
        }
    }
    (left.into(), goes_on)
}

/// `$NAME=value`
pub(super) fn definition(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.strip_prefix('$')?.split_once('=')?;
    let name = name.trim_end();
    is_name(name).then(|| (name, value.trim_start()))
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// What a text that begins with `$` names, and what is behind it.
pub(super) fn reference(text: &str) -> (Option<&str>, &str) {
    if let Some(rest) = text.strip_prefix("${") {
        // No name holds what begins another.
        return match rest.find(['$', '{', '}']).map(|end| (end, rest.as_bytes()[end])) {
            Some((end, b'}')) => (Some(rest[..end].trim()), &rest[end + 1..]),
            _ => (None, rest),
        };
    }
    let rest = &text[1..];
    let end = rest.bytes().position(|byte| !(byte.is_ascii_alphanumeric() || byte == b'_'));
    let (name, behind) = rest.split_at(end.unwrap_or(rest.len()));
    ((!name.is_empty()).then_some(name), behind)
}

pub(super) fn names_in(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = line;
    std::iter::from_fn(move || {
        loop {
            rest = &rest[rest.find('$')?..];
            let (name, behind) = reference(rest);
            rest = behind;
            if let Some(name) = name.filter(|name| !name.starts_with(|it: char| it.is_ascii_digit())) {
                return Some(name);
            }
        }
    })
}

/// Braces open behind a line, of so many before it.
pub(super) fn balance(line: &str, before: usize) -> usize {
    let mut open = before;
    for word in words(line).0 {
        match word.kind {
            Kind::Open => open += 1,
            Kind::Close => open = open.saturating_sub(1),
            _ => {}
        }
    }
    open
}

/// Up to the parenthesis that closes, and behind it.
pub(super) fn closing(text: &str) -> Option<(&str, &str)> {
    let mut depth = 1;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((&text[..at], &text[at + 1..]));
        }
    }
    None
}

/// At commas outside of braces.
pub(super) fn split_list(text: &str) -> Vec<String> {
    let (mut parts, mut depth) = (vec![String::new()], 0_usize);
    for letter in text.chars() {
        match letter {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = parts.last_mut() {
            last.push(letter);
        }
    }
    parts.into_iter().map(|part| part.trim().to_owned()).collect()
}

/// Variables, and what they are one time after the other.
type Values = (Vec<String>, Vec<Vec<String>>);

/// Times that a sequence repeats its line.
const TIMES_MAX: usize = 100_000;

pub(super) fn sequence_values(head: &str, arguments: &[String]) -> Option<Values> {
    let (names, rest) = arguments.split_first()?;
    let several = |text: &str| -> Vec<String> {
        let inner = text.strip_prefix('{').and_then(|it| it.strip_suffix('}'));
        inner.map_or_else(|| vec![text.to_owned()], split_list)
    };
    let names: Vec<String> =
        several(names).iter().map(|name| name.trim_start_matches('$').to_owned()).collect();
    if names.iter().any(|name| !is_name(name)) {
        return None;
    }
    if head == "~LST" {
        return Some((names, rest.iter().map(|value| several(value)).collect()));
    }
    let is_hex = head == "~SEQx";
    let number = |text: &String| {
        let text = text.trim();
        let digits = text.strip_prefix("0x");
        digits.map_or_else(
            || if is_hex { i64::from_str_radix(text, 16) } else { text.parse() },
            |digits| i64::from_str_radix(digits, 16),
        )
    };
    let numbers: Vec<i64> = rest.iter().map(number).collect::<Result<_, _>>().ok()?;
    let (start, step, end) = match numbers[..] {
        [end] => (1, 1, end),
        [start, end] => (start, if end < start { -1 } else { 1 }, end),
        [start, step, end] => (start, step, end),
        _ => return None,
    };
    if step == 0 {
        return None;
    }
    let mut values = Vec::new();
    let mut now = start;
    while if step > 0 { now <= end } else { now >= end } {
        values.push(vec![if is_hex { format!("{now:x}") } else { now.to_string() }]);
        if values.len() > TIMES_MAX {
            return None;
        }
        now = now.checked_add(step)?;
    }
    Some((names, values))
}

/// A line as words, and whether its last quotation mark is closed.
pub(super) fn words(line: &str) -> (Vec<Word>, bool) {
    let mut words = Vec::new();
    let mut letters = line.chars().peekable();
    let mut is_closed = true;
    while let Some(letter) = letters.next() {
        let single = |kind| Word { text: letter.to_string(), kind };
        match letter {
            _ if is_blank(letter) => {}
            '{' => words.push(single(Kind::Open)),
            '}' => words.push(single(Kind::Close)),
            '"' => {
                let mut text = String::new();
                is_closed = false;
                while let Some(letter) = letters.next() {
                    match letter {
                        '"' => {
                            is_closed = true;
                            break;
                        }
                        '\\' => match letters.next() {
                            Some('n') => text.push('\n'),
                            Some('t') => text.push('\t'),
                            Some('r') => text.push('\r'),
                            Some(other) => text.push(other),
                            None => {}
                        },
                        _ => text.push(letter),
                    }
                }
                words.push(Word { text, kind: Kind::Quoted });
            }
            _ => {
                let mut text = String::from(letter);
                let mut last = letter;
                // `${name}` that nothing is known of stays whole.
                let (mut is_name, mut has_name) = (false, false);
                while let Some(&next) = letters.peek() {
                    let begins = last == '$' && next == '{';
                    is_name = is_name && next != '}' || begins;
                    has_name |= begins;
                    let is_end = is_blank(next) || next == '"' || next == '{' || next == '}' && !has_name;
                    if is_end && !is_name {
                        break;
                    }
                    text.push(next);
                    letters.next();
                    last = next;
                }
                words.push(Word { text, kind: Kind::Plain });
            }
        }
    }
    (words, is_closed)
}
