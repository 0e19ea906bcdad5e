//! Reads a text statement by statement, and notes the places of what is hidden. The text may be no TOML, so this reads it for itself: it never
//! gives up, and where it has lost its way it shows nothing until the next key or table of weir's at the beginning of a line.

use std::ops::Range;

use super::{DEPTH_MAX, Shown, is_known, is_table, seen, shown_of};
use crate::keepalived::BLOCKS;

/// How a value ended.
#[derive(PartialEq)]
enum End {
    /// Where it should.
    Well,
    /// In the middle of something: what is around it is left, too.
    Badly,
}

pub(super) struct Reader<'t> {
    text: &'t str,
    at: usize,
    spans: Vec<Range<usize>>,
    /// What comes may be the rest of a string.
    is_lost: bool,
    /// The table is none of weir's: its keys mean nothing here.
    is_foreign: bool,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, at: 0, spans: Vec::new(), is_lost: false, is_foreign: false }
    }

    /// The places of all that is hidden, in their order.
    pub(super) fn read(mut self) -> Vec<Range<usize>> {
        while self.at < self.text.len() {
            self.statement();
        }
        self.spans
    }

    /// A header, a key with its value, or a line that is neither.
    fn statement(&mut self) {
        self.skip(char::is_whitespace);
        match self.rest().chars().next() {
            None => {}
            Some('#') => self.comment(),
            Some(c) if self.is_lost && !self.finds_its_way(self.at) => {
                // It may be a header all the same.
                self.is_foreign |= c == '[';
                self.hide_line();
            }
            Some('[') => match self.header(self.at) {
                Some((name, end)) => {
                    self.is_foreign = !is_table(name);
                    (self.at, self.is_lost) = (end, false);
                }
                None => self.broken_header(),
            },
            Some(_) => match self.key(self.at) {
                Some((shown, end)) => {
                    let shown = if self.is_foreign { Shown::Nothing } else { shown };
                    (self.at, self.is_lost) = (end, false);
                    if self.value(shown, 0) == End::Well {
                        self.behind_value();
                    }
                }
                None => self.no_statement(),
            },
        }
    }

    /// Brackets around something else than a name.
    fn broken_header(&mut self) {
        let line =
            self.text[self.at..self.line_end()].trim_matches(|c: char| "[]".contains(c) || c.is_whitespace());
        self.is_foreign = !is_table(line);
        match self.is_foreign {
            true => self.hide_line(),
            false => self.at = self.line_end(),
        }
    }

    /// A line without an equals sign: of a word that is known, what one would write behind it is shown.
    fn no_statement(&mut self) {
        let line = &self.text[self.at..self.line_end()];
        let word = &line[..line.find(|c| !is_bare(c)).unwrap_or(line.len())];
        let behind = &line[word.len()..];
        if self.is_foreign {
            self.hide_line();
        } else if BLOCKS.contains(&word) && !behind.contains(['=', '"', '\'', '#', ':', '@']) {
            self.at = self.line_end();
        } else if is_known(word) {
            self.at += word.len();
            self.skip(is_blank);
            if shown_of(word) == Shown::All
                && !behind.contains('=')
                && self.value(Shown::All, 0) == End::Badly
            {
                return;
            }
            self.hide_line();
        } else {
            self.hide_line();
        }
    }

    /// What stands behind a value on its line: a comment, or another statement whose line break is missing.
    fn behind_value(&mut self) {
        self.skip(is_blank);
        if !self.rest().starts_with(['#', '\n', '\r']) && !self.finds_its_way(self.at) {
            self.hide_line();
        }
    }

    fn value(&mut self, shown: Shown, depth: usize) -> End {
        self.skip(is_blank);
        if self.rest().starts_with('#') {
            self.comment();
        }
        if self.rest().starts_with(['\n', '\r']) {
            // Nothing behind the equals sign: whoever wrote that meant the next line.
            let next = self.at + (self.rest().len() - self.rest().trim_start().len());
            if self.finds_its_way(next) {
                return End::Well;
            }
            self.at = next;
        }
        let rest = self.rest();
        for quotes in ["\"\"\"", "'''"] {
            if rest.starts_with(quotes) {
                return self.long_string(quotes, shown);
            }
        }
        match rest.chars().next() {
            None => End::Well,
            Some(open @ ('"' | '\'' | '“' | '”' | '„' | '‘' | '’')) => self.string(open, shown),
            Some('[' | '{') if depth == DEPTH_MAX => self.lose(),
            Some('[') => self.array(shown, depth + 1),
            Some('{') => self.table(shown, depth + 1),
            Some(_) => {
                let ends = |c: char| c.is_whitespace() || ",]}#".contains(c);
                let len = rest.find(ends).unwrap_or(rest.len());
                if !matches!(&rest[..len], "true" | "false") {
                    self.hide(shown, self.at..self.at + len);
                }
                self.at += len;
                End::Well
            }
        }
    }

    fn long_string(&mut self, quotes: &str, shown: Shown) -> End {
        let begin = self.at + quotes.len();
        let inside = &self.text[begin..];
        let is_escaped = |at: usize| {
            quotes.starts_with('"') && inside[..at].bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1
        };
        let mut all = inside.match_indices(&quotes[..1]).map(|(at, _)| at);
        let closing = all.find(|at| inside[*at..].starts_with(quotes) && !is_escaped(*at));
        let Some(closing) = closing else {
            self.hide(Shown::Nothing, begin..self.text.len());
            self.at = self.text.len();
            return End::Badly;
        };
        self.hide(shown, begin..begin + closing);
        self.at = begin + closing;
        self.skip(|c| quotes.starts_with(c));
        End::Well
    }

    fn string(&mut self, open: char, shown: Shown) -> End {
        let begin = self.at + open.len_utf8();
        let closes = |c: char| match open {
            '"' | '\'' => c == open,
            _ => !c.is_ascii() && "“”„‘’".contains(c),
        };
        let mut is_escaped = false;
        // Not to the end of the line first: a line may hold a million strings.
        let inside = self.text[begin..].char_indices().take_while(|(_, c)| *c != '\n');
        let closing = { inside }.find(|(_, c)| {
            let is_end = closes(*c) && !is_escaped;
            is_escaped = open == '"' && *c == '\\' && !is_escaped;
            is_end
        });
        if let Some((len, close)) = closing {
            self.hide(shown, begin..begin + len);
            self.at = begin + len + close.len_utf8();
            return End::Well;
        }
        // Without its end, a string may hold what stands behind it.
        let line = &self.text[begin..self.line_end()];
        let len = line.find(|c: char| c.is_whitespace() || ",=".contains(c)).unwrap_or(line.len());
        self.hide(shown, begin..begin + len);
        self.at = begin + len;
        self.lose()
    }

    fn array(&mut self, shown: Shown, depth: usize) -> End {
        self.at += 1;
        let mut index = 0;
        loop {
            if let Some(end) = self.between(']') {
                return end;
            }
            let shown = if shown == Shown::Program && index > 0 { Shown::Nothing } else { shown };
            if self.value(shown, depth) == End::Badly {
                return End::Badly;
            }
            index += 1;
            if !self.is_separated(']') {
                return self.lose();
            }
        }
    }

    fn table(&mut self, shown: Shown, depth: usize) -> End {
        self.at += 1;
        loop {
            if let Some(end) = self.between('}') {
                return end;
            }
            let Some((own, end)) = self.key(self.at) else {
                return self.lose();
            };
            self.at = end;
            let is_seen = matches!(shown, Shown::Table | Shown::All);
            if self.value(if is_seen { own } else { Shown::Nothing }, depth) == End::Badly {
                return End::Badly;
            }
            if !self.is_separated('}') && !self.finds_its_way(self.at) {
                return self.lose();
            }
        }
    }

    /// To the next element or entry, unless this is the end of them.
    fn between(&mut self, close: char) -> Option<End> {
        loop {
            let before = self.at;
            self.skip(|c| c.is_whitespace() || c == ',');
            let has_new_line = self.text[before..self.at].contains('\n');
            let rest = self.rest();
            if rest.starts_with('#') {
                self.comment();
            } else if rest.starts_with(close) {
                self.at += 1;
                return Some(End::Well);
            } else if rest.is_empty()
                || has_new_line && (self.is_known_header() || close == ']' && self.finds_its_way(self.at))
            {
                return Some(End::Badly);
            } else {
                return None;
            }
        }
    }

    /// Whether a value is followed by what may follow it.
    fn is_separated(&mut self, close: char) -> bool {
        self.skip(is_blank);
        let rest = self.rest();
        rest.is_empty() || rest.starts_with([',', '#', '\n', '\r', close])
    }

    fn is_known_header(&self) -> bool {
        self.rest().starts_with('[') && self.finds_its_way(self.at)
    }

    /// Whether a key or table of weir's stands here.
    fn finds_its_way(&self, at: usize) -> bool {
        if let Some((name, _)) = self.header(at) {
            return is_table(name);
        }
        let rest = &self.text[at..];
        let word = &rest[..rest.find(|c| !is_bare(c)).unwrap_or(rest.len())];
        is_known(word) && rest[word.len()..].trim_start_matches(is_blank).starts_with('=')
    }

    /// `[name]` or `[[name]]`: the name and where it ends.
    fn header(&self, at: usize) -> Option<(&str, usize)> {
        let rest = &self.text[at..];
        let inside = rest.strip_prefix("[[").or_else(|| rest.strip_prefix('['))?;
        let len = inside.find(|c| !is_bare(c) && !is_blank(c) && c != '.')?;
        let behind = inside[len..].strip_prefix("]]").or_else(|| inside[len..].strip_prefix(']'))?;
        let name = inside[..len].trim();
        (!name.is_empty()).then_some((name, self.text.len() - behind.len()))
    }

    /// A key with its equals sign: what is shown of its value, and where that begins.
    fn key(&self, at: usize) -> Option<(Shown, usize)> {
        let mut rest = &self.text[at..];
        let mut shown: Option<Shown> = None;
        loop {
            rest = rest.trim_start_matches(is_blank);
            let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''));
            let inside = &rest[usize::from(quote.is_some())..];
            let len = inside.find(|c| !is_bare(c)).unwrap_or(inside.len());
            if len == 0 {
                return None;
            }
            let own = shown_of(&inside[..len]);
            // Below a key that is none, no key is one.
            shown = Some(match shown {
                None | Some(Shown::Table | Shown::All) => own,
                Some(_) => Shown::Nothing,
            });
            rest = &inside[len..];
            if let Some(quote) = quote {
                rest = rest.strip_prefix(quote)?;
            }
            rest = rest.trim_start_matches(is_blank);
            match rest.chars().next()? {
                '.' => rest = &rest[1..],
                '=' => return Some((shown?, self.text.len() - rest.len() + 1)),
                _ => return None,
            }
        }
    }

    fn comment(&mut self) {
        self.at += 1;
        self.hide_line();
    }

    /// Hides the rest of the line, and what follows until there is a known key.
    fn lose(&mut self) -> End {
        self.hide_line();
        self.is_lost = true;
        End::Badly
    }

    /// Hides the rest of the line but for brackets.
    fn hide_line(&mut self) {
        let end = self.line_end();
        let is_bracket = |c: char| is_blank(c) || "[]{},\r".contains(c);
        let line = &self.text[self.at..end];
        let begin = self.at + (line.len() - line.trim_start_matches(is_bracket).len());
        let len = self.text[begin..end].trim_end_matches(is_bracket).len();
        self.hide(Shown::Nothing, begin..begin + len);
        self.at = end;
    }

    fn hide(&mut self, shown: Shown, value: Range<usize>) {
        let from = value.start + seen(shown, &self.text[value.clone()]);
        if from < value.end {
            self.spans.push(from..value.end);
        }
    }

    fn skip(&mut self, what: impl Fn(char) -> bool) {
        self.at = self.text.len() - self.rest().trim_start_matches(what).len();
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn line_end(&self) -> usize {
        self.rest().find('\n').map_or(self.text.len(), |len| self.at + len)
    }
}

pub(super) fn is_bare(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

pub(super) fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}
