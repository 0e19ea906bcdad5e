//! The line of a syntax error, and what somebody meant to write there.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use ipnet::IpNet;

use super::{REPEATED_CHARS_MAX, TYPOGRAPHIC};
use crate::validate::values;

/// The line in which TOML found something that is no value. TOML ends that at the first character of its own, such as an equals
/// sign; what was meant may be longer. Places are bytes of the whole text.
pub(super) struct Line<'t> {
    text: &'t str,
    start: usize,
    /// What was found, within the line.
    found: Range<usize>,
    /// Whether it is the whole value of a key, in no array or table.
    is_alone: bool,
}

impl<'t> Line<'t> {
    pub(super) fn around(whole: &'t str, found: Range<usize>) -> Self {
        let at = whole.floor_char_boundary(found.start);
        let start = whole[..at].rfind('\n').map_or(0, |end| end + 1);
        let end = whole[at..].find('\n').map_or(whole.len(), |len| at + len);
        let text = &whole[start..end];
        let last = text.floor_char_boundary(found.end.max(at) - start);
        let found = at - start..last;
        let is_of_key = |c: char| c.is_alphanumeric() || "-_.\"' \t".contains(c);
        let before = text[..found.start].trim_end().strip_suffix('=');
        let is_alone = before.is_some_and(|key| key.chars().all(is_of_key));
        Self { text, start, found, is_alone }
    }

    /// Where the line begins.
    pub(super) fn start(&self) -> usize {
        self.start
    }

    pub(super) fn found(&self) -> &'t str {
        self.text[self.found.clone()].trim()
    }

    /// What stands before it.
    pub(super) fn before(&self) -> &'t str {
        &self.text[..self.found.start]
    }

    /// The key whose value it is, or in whose array it stands.
    pub(super) fn key(&self) -> &'t str {
        let key = self.before().rsplit_once('=').unwrap_or_default().0.trim_end();
        key.rsplit(|c: char| c.is_whitespace() || "{,.".contains(c)).next().unwrap_or_default()
    }

    pub(super) fn is_alone(&self) -> bool {
        self.is_alone
    }

    /// Single ones may be apostrophes.
    pub(super) fn has_typographic_quotes(&self) -> bool {
        let line = self.text.split('#').next().unwrap_or_default();
        line.contains(&TYPOGRAPHIC[..3])
    }

    /// Whether it is only signs before an array or a table.
    pub(super) fn is_before_bracket(&self) -> bool {
        let behind = self.text[self.found.end..].trim_start();
        behind.starts_with(['[', '{']) && !self.found().contains(char::is_alphanumeric)
    }

    /// What stands between the typographic quotes that begin here, if it is clear where they end.
    pub(super) fn between_typographic(&self) -> Option<Range<usize>> {
        let open = self.text[self.found.start..].chars().next()?;
        let begin = self.found.start + open.len_utf8();
        let inside = &self.text[begin..];
        let ends = |(at, quote): (usize, &str)| self.is_end(&inside[at + quote.len()..]).then_some(at);
        let len = inside.match_indices(TYPOGRAPHIC).find_map(ends)?;
        let is_clear = !inside[..len].contains(TYPOGRAPHIC);
        self.in_quotes(begin..begin + len).filter(|_| is_clear)
    }

    /// A value without quotes, if it is clear where it ends.
    pub(super) fn without_quotes(&self) -> Option<Range<usize>> {
        let begin = self.found.start;
        let found = begin..begin + self.text[self.found.clone()].trim_end().len();
        let rest = &self.text[begin..];
        let comment = rest.find('#').unwrap_or(rest.len());
        let end = begin + rest[..comment].trim_end().len();
        // What follows a blank is a comment; what does not may belong to the value.
        if comment < rest.len() && end == begin + comment {
            return None;
        }
        if found.end == end || !self.is_alone {
            let is_whole = self.is_end(&self.text[found.end..]);
            return self.in_quotes(found).filter(|_| is_whole);
        }
        let value = &self.text[begin..end];
        if value.len() > 4 * REPEATED_CHARS_MAX {
            return None;
        }
        // Another key on the same line, or an array without its brackets.
        let is_blank_beside = |(at, _): (usize, &str)| {
            value[..at].ends_with([' ', '\t']) || value[at + 1..].starts_with([' ', '\t'])
        };
        let is_key_before = |(at, _): (usize, &str)| {
            let word = value[..at].rsplit([' ', '\t']).next().unwrap_or_default();
            word.len() < at && crate::secret::is_known(word)
        };
        let mut signs = value.match_indices('=');
        let is_unclear = value.contains([',', '[', ']', '{', '}', '\''])
            || signs.any(|sign| is_blank_beside(sign) || is_key_before(sign));
        self.in_quotes(begin..end).filter(|_| !is_unclear)
    }

    /// The address, the network or the range at this place, which TOML took for a number or a time.
    pub(super) fn value_without_quotes(&self) -> Option<Range<usize>> {
        let ends = |c: char| c.is_whitespace() || "=,[]{}#".contains(c);
        let at = self.found.start;
        let start = at - self.text[..at].rsplit(ends).next()?.len();
        let value = self.text[start..].split(ends).next()?;
        let before = self.text[..start].trim_end();
        let is_whole = (before.is_empty() || before.ends_with(['=', ',', '[']))
            && self.is_end(&self.text[start + value.len()..]);
        let is_range = || {
            value.split_once('-').is_some_and(|(a, b)| a.parse::<u16>().is_ok() && b.parse::<u16>().is_ok())
        };
        let is_one = value.parse::<IpAddr>().is_ok()
            || value.parse::<IpNet>().is_ok()
            || value.parse::<SocketAddr>().is_ok()
            || values::station(value).is_ok()
            || values::pci_address(value).is_some()
            || is_range();
        (is_whole && is_one).then(|| self.start + start..self.start + start + value.len())
    }

    /// Whether a value may end before this.
    fn is_end(&self, behind: &str) -> bool {
        let ends: &[char] = if self.is_alone { &['#'] } else { &['#', ',', ']', '}'] };
        let behind = behind.trim_start();
        behind.is_empty() || behind.starts_with(ends)
    }

    /// The place in the whole text, if straight quotes around it make a string of it.
    fn in_quotes(&self, value: Range<usize>) -> Option<Range<usize>> {
        let is_string = !self.text[value.clone()].contains(|c: char| c.is_control() || "\"\\".contains(c));
        is_string.then(|| self.start + value.start..self.start + value.end)
    }
}
