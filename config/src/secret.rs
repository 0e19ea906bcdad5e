//! What of a file no report shows: values that may be secrets.
//!
//! Reports quote the text, and they go to logs that many people read. So a value is shown only where its key is one of weir's that
//! holds no secret: an address, a number, a word. What stands under any other key, misspelt or of another program, is hidden,
//! and so are all values of a table that is none of weir's, comments, and whatever is no statement. The text may be no TOML, so this reads it for itself: it never gives up,
//! and where it has lost its way it shows nothing until the next key or table of weir's at the beginning of a line.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use crate::keepalived::BLOCKS;
use crate::keys;
use crate::validate::values;

mod sentence;
pub(crate) use sentence::hidden_in;

/// Keys of weir's that may hold a secret. All others are shown.
const SECRET: [&str; 6] = ["password", "basic_auth", "request_body", "send", "send_hex", "mh_seed"];
/// Header fields: of each the name is shown.
const FIELDS: [&str; 3] = ["request_header", "expect_header", "expect_header_regex"];
/// Programs: shown without their arguments. One without its path is shown if it is a plain word, as is a path without its slash: it is
/// what the report is about then.
const PROGRAMS: [&str; 5] = ["command", "notify_up", "notify_down", "quorum_up", "quorum_down"];
/// Paths of requests: shown up to their query.
const PATHS: [&str; 1] = ["path"];

/// Values within values that are looked into; weir's file has two.
const DEPTH_MAX: usize = 8;

/// All keys of weir's file, and all tables.
static KNOWN: LazyLock<(HashSet<&str>, HashSet<&str>)> = LazyLock::new(|| {
    let keys = keys::all().into_iter().flat_map(|(_, keys)| keys).copied().collect();
    let names =
        keys::all().into_iter().filter_map(|(kind, _)| kind.trim_matches(['[', ']']).rsplit('.').next());
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
    let mut reader = Reader { text, at: 0, spans: Vec::new(), is_lost: false, is_foreign: false };
    while reader.at < text.len() {
        reader.statement();
    }
    reader.spans
}

/// Takes out what may be a secret, and says whether there was any: keys of secrets, of header fields, of programs with arguments, of
/// paths with a query.
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
    for value in keys.values_mut() {
        left_out |= leave_out_within(value);
    }
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

/// How a value ended.
#[derive(PartialEq)]
enum End {
    /// Where it should.
    Well,
    /// In the middle of something: what is around it is left, too.
    Badly,
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    spans: Vec<Range<usize>>,
    /// What comes may be the rest of a string.
    is_lost: bool,
    /// The table is none of weir's: its keys mean nothing here.
    is_foreign: bool,
}

impl Reader<'_> {
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
        let line = &self.text[begin..self.line_end()];
        let closes = |c: char| match open {
            '"' | '\'' => c == open,
            _ => !c.is_ascii() && "“”„‘’".contains(c),
        };
        let mut is_escaped = false;
        let closing = line.char_indices().find(|(_, c)| {
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

fn is_bare(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
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
        Shown::All if holds_credentials(value) || holds_another(value) => 0,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        hidden(text, &spans(text))
    }

    #[test]
    fn lists_name_keys_that_exist() {
        for key in [&SECRET[..], &FIELDS, &PROGRAMS, &PATHS].concat() {
            assert!(KNOWN.0.contains(key), "{key}");
        }
        // Of a name that is both a table and a plain key, values are shown.
        let both: HashSet<&str> =
            KNOWN.0.intersection(&KNOWN.1).copied().filter(|key| is_plain(key)).collect();
        assert_eq!(both, HashSet::from(["port", "mark", "virtual_server"]));
    }

    #[test]
    fn values_are_shown_under_keys_that_hold_no_secret() {
        for (text, wanted) in [
            ("port = 80", "port = 80"),
            ("address = 10.0.0.1 80", "address = 10.0.0.1 **"),
            ("name = \"web\" # x y", "name = \"web\" # * *"),
            ("[http] listen = 9292", "[http] listen = 9292"),
            ("health_check.port = 1", "health_check.port = 1"),
            ("addresses = [ # a\n  \"a\",\n  \"b\" ]", "addresses = [ # *\n  \"a\",\n  \"b\" ]"),
            ("passive = { window = 3 }", "passive = { window = 3 }"),
            ("port 80", "port 80"),
            ("address \"10.0.0.1\" x", "address \"10.0.0.1\" *"),
            ("virtual_server 10.0.0.100 80 {", "virtual_server 10.0.0.100 80 {"),
            ("name = “web”", "name = “web”"),
            ("name = \"web\nport = 80", "name = \"web\nport = 80"),
            ("alpha = true", "alpha = true"),
            ("request_header = [\"Accept: a\", \"b:c\"]", "request_header = [\"Accept:**\", \"***\"]"),
            ("command = [\"/bin/a\", \"-u\", \"b\"]", "command = [\"/bin/a\", \"**\", \"*\"]"),
            ("command = \"/bin/a -u b\"", "command = \"/bin/a ** *\""),
            ("path = \"/a?key=b\"", "path = \"/a******\""),
            ("path = \"http://u:pw@h/\"", "path = \"**************\""),
            ("host = \"u:pw@h\"", "host = \"******\""),
            ("path = \"status/all?key=b\"", "path = \"status/all******\""),
            ("command = [\"curl\", \"b\"]", "command = [\"curl\", \"*\"]"),
            ("notify_up = \"./site.sh -u b\"", "notify_up = \"./site.sh ** *\""),
            (
                "[http]\nlisten = 1\n[a]\n[ vrrp . track ]\nport = 1",
                "[http]\nlisten = 1\n[a]\n[ vrrp . track ]\nport = 1",
            ),
            ("sorry_server = \"10.0.0.9 80\"", "sorry_server = \"10.0.0.9 80\""),
            ("health_check = \"tcp\"", "health_check = \"tcp\""),
            ("notify_up = [\"/x?b=1\"]", "notify_up = [\"/x****\"]"),
            ("path = \"/bin/a -u b=1\"", "path = \"/bin/a ** ***\""),
            ("type = \"tc”, send = a=b, x = \"", "type = \"****** **** * **** * * \""),
        ] {
            // Blanks stay blanks.
            let wanted = wanted.replace(":**", ": *");
            assert_eq!(shown(text), wanted);
        }
    }

    #[test]
    fn all_other_values_are_hidden() {
        for (text, wanted) in [
            ("password = \"hunter2\"", "password = \"*******\""),
            ("\"password\"=\"hun\"ter2\"", "\"password\"=\"***\"*****"),
            ("authentication.password='é'", "authentication.password='**'"),
            ("authentication = \"x\"", "authentication = \"*\""),
            ("health_check = \"tcp x\"", "health_check = \"*** *\""),
            ("sorry_server = \"10.0.0.9 x\"", "sorry_server = \"******** *\""),
            ("basic-auth.port = \"x\"", "basic-auth.port = \"*\""),
            ("a = { type = \"pass\", port = 1 }", "a = { type = \"****\", port = * }"),
            ("a = { type = \"b\" }\nport = 1", "a = { type = \"*\" }\nport = 1"),
            ("health_check = { port = 1, b = 2 }", "health_check = { port = 1, b = * }"),
            ("health_check = { port = 1 b = 2 }", "health_check = { port = 1 * * * }"),
            ("health_check = { port = 1 send = 2 }", "health_check = { port = 1 send = * }"),
            ("health_check = { port 1, b = 2 }", "health_check = { **** ** * * * }"),
            ("pasword = 2\nport = 2", "pasword = *\nport = 2"),
            ("  auth_pass hunter2", "  ********* *******"),
            ("password hunter2", "password *******"),
            ("password =\n  \"x\"\nport = 2", "password =\n  \"*\"\nport = 2"),
            ("password =\nport = 2", "password =\nport = 2"),
            ("mh_seed = 7", "mh_seed = *"),
            ("send = \"\"\"a\nb\\\"\"\"\"\nport = 1", "send = \"\"\"*\n***\"\"\"\nport = 1"),
            ("send = '''a\nb", "send = '''*\n*"),
            ("send = \"a\nb = 1\nport = 1", "send = \"*\n* * *\nport = 1"),
            ("send = [\"a\",\n\"b\"\n[port]\nmac = 1", "send = [\"*\",\n\"*\"\n[port]\nmac = 1"),
            ("token", "*****"),
            (
                "[vault]\nname = \"b\"\nport 80\n[http]\nhosts = 1",
                "[vault]\nname = \"*\"\n**** **\n[http]\nhosts = 1",
            ),
            ("[http.a]\nname = \"b\"", "[http.a]\nname = \"*\""),
            ("[port.name]\nmtu = 1", "[port.name]\nmtu = *"),
            ("[vault\nname = 1", "[*****\nname = *"),
            ("[\"vault\"]\nname = 1", "[*******]\nname = *"),
            ("send = \"a\n[vault]\nname = 1", "send = \"*\n[*****]\nname = *"),
            ("path = \"hunter2\"", "path = \"*******\""),
            ("path = \"admin:b\"", "path = \"*******\""),
            ("path = \"Pass\"", "path = \"****\""),
            ("command = [\"-ub\", \"c\"]", "command = [\"***\", \"*\"]"),
            ("command = \"key=b\"", "command = \"*****\""),
        ] {
            assert_eq!(shown(text), wanted);
        }
    }

    #[test]
    fn any_text_keeps_its_length_and_lines_and_is_hidden_once() {
        bolero::check!().with_type::<String>().for_each(|text| {
            let shown = shown(text);
            assert_eq!(shown.len(), text.len());
            assert_eq!(shown.matches('\n').count(), text.matches('\n').count());
            for span in spans(text).windows(2) {
                assert!(span[0].end <= span[1].start);
            }
        });
    }
}
