//! Reading one table: each method takes a key's field, reports what is wrong with it and goes on.
//!
//! Each field is read once, since reading reports. What was written wrong is read as what was meant where that is
//! clear, so that no complaint follows from another; else as its default. The report already holds an error, so the
//! model is thrown away, and the other checks run on.

use std::ops::RangeInclusive;

use toml::Spanned;

use super::fault::Fault;
use super::values;
use crate::report::{Problem, quoted};
use crate::schema::{Boolean, Field, Integer, Lenient, List, Number, Span, Switch, Tables, Tabular, Text};
use crate::suggest::nearest;

/// Bytes of a text that a help repeats at most.
const IN_BRACKETS_BYTES_MAX: usize = 64;

/// A table being read.
pub(crate) struct Table<'p> {
    /// Its header, the place of what is missing.
    pub(crate) at: Span,
    problems: &'p mut Vec<Problem>,
}

impl<'p> Table<'p> {
    pub(crate) fn new(at: Span, problems: &'p mut Vec<Problem>) -> Self {
        Self { at, problems }
    }

    /// A table within this one.
    pub(crate) fn inner(&mut self, at: Span) -> Table<'_> {
        Table { at, problems: self.problems }
    }

    pub(crate) fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// The value of a key, if it is there and of the right type.
    pub(crate) fn value<'f, T>(&mut self, field: &'f Field<T>) -> Option<(&'f T, Span)> {
        let value = field.as_ref()?;
        self.element(value)
    }

    /// As `value`, for an element of an array.
    pub(crate) fn element<'f, T>(&mut self, value: &'f Spanned<Lenient<T>>) -> Option<(&'f T, Span)> {
        match &value.get_ref().0 {
            Ok(inner) => Some((inner, value.span())),
            Err(complaint) => {
                self.report(wrong_type(value.span(), complaint));
                None
            }
        }
    }

    /// As `element`, for an array of tables and for each of them. `form` says how they are written.
    pub(crate) fn in_tables<'f, T>(
        &mut self,
        value: &'f Spanned<Lenient<T>>,
        form: impl FnOnce(&str) -> String,
    ) -> Option<(&'f T, Span)> {
        match &value.get_ref().0 {
            Ok(inner) => Some((inner, value.span())),
            Err(complaint) => {
                let problem = wrong_type(value.span(), complaint);
                let help = match complaint.starts_with("invalid type: map") {
                    true => "put the table into brackets: [{ ... }]".to_owned(),
                    false => form(text_in(complaint).unwrap_or_default()),
                };
                self.report(problem.help(help));
                None
            }
        }
    }

    /// As `value`, for a key that must be there. `example` is a line that has it.
    pub(crate) fn required<'f, T>(
        &mut self,
        field: &'f Field<T>,
        key: &str,
        example: &str,
    ) -> Option<(&'f T, Span)> {
        if field.is_none() {
            self.missing(key, example);
        }
        self.value(field)
    }

    fn missing(&mut self, key: &str, example: &str) {
        let problem = Problem::error(format!("missing key `{key}`"))
            .at(self.at.clone(), format!("this table needs `{key}`"))
            .help(format!("write such as `{example}`"));
        self.report(problem);
    }

    /// A whole number within `range`. Where it is not written, `default` at the table's header.
    pub(crate) fn integer<N: TryFrom<i64>>(
        &mut self,
        field: &Field<Integer>,
        key: &str,
        range: RangeInclusive<i64>,
        default: N,
    ) -> Spanned<N> {
        let read = self.whole_number(field, key);
        let read = read.and_then(|(number, span)| self.within(&number, span, key, range));
        self.or(read, default)
    }

    /// As `value`; one in quotes, or with a unit, is reported and read.
    fn whole_number(&mut self, field: &Field<Integer>, key: &str) -> Option<(Integer, Span)> {
        if let Some((seconds, span)) = self.with_unit(field, key, |seconds| seconds.fract() == 0.0) {
            return Some((Integer(seconds as i64), span));
        }
        if let Some((number, span)) = self.value(field) {
            return Some((Integer(number.0), span));
        }
        let value = field.as_ref()?;
        text_for(value)?.trim().parse().ok().map(|number| (Integer(number), value.span()))
    }

    /// Reports and reads a duration with its unit, where seconds belong.
    fn with_unit<T>(
        &mut self,
        field: &Field<T>,
        key: &str,
        fits: impl Fn(f64) -> bool,
    ) -> Option<(f64, Span)> {
        let value = field.as_ref()?;
        let text = text_for(value).filter(|_| values::is_in_seconds(key))?;
        let seconds = values::seconds(text).filter(|seconds| fits(*seconds))?;
        let problem = Problem::error("wrong type")
            .at(value.span(), "a number of seconds has no unit and no quotes")
            .help(format!("write {seconds}"));
        self.report(problem);
        Some((seconds, value.span()))
    }

    /// As `integer`, for a key that must be there.
    pub(crate) fn required_integer<N: TryFrom<i64>>(
        &mut self,
        field: &Field<Integer>,
        key: &str,
        range: RangeInclusive<i64>,
        example: &str,
    ) -> Option<Spanned<N>> {
        if field.is_none() {
            self.missing(key, example);
        }
        let (number, span) = self.whole_number(field, key)?;
        self.within(&number, span, key, range)
    }

    fn within<N: TryFrom<i64>>(
        &mut self,
        number: &Integer,
        span: Span,
        key: &str,
        range: RangeInclusive<i64>,
    ) -> Option<Spanned<N>> {
        let fits = Some(number.0).filter(|n| range.contains(n)).and_then(|n| N::try_from(n).ok());
        if fits.is_none() {
            let label = format!("must be {} to {}", range.start(), range.end());
            self.report(Problem::error(format!("`{key}` is out of range")).at(span.clone(), label));
        }
        fits.map(|n| Spanned::new(span, n))
    }

    /// A number of seconds within `range`.
    pub(crate) fn seconds(
        &mut self,
        field: &Field<Number>,
        key: &str,
        range: RangeInclusive<f64>,
        default: f64,
    ) -> Spanned<f64> {
        let written = match self.with_unit(field, key, |_| true) {
            Some(written) => Some(written),
            None => self.value(field).map(|(&Number(number), span)| (number, span)),
        };
        let read = written.and_then(|(number, span)| {
            // Not a number is in no range.
            if range.contains(&number) {
                return Some(Spanned::new(span, number));
            }
            let label = format!("must be {} to {} seconds", range.start(), range.end());
            self.report(Problem::error(format!("`{key}` is out of range")).at(span, label));
            None
        });
        self.or(read, default)
    }

    pub(crate) fn boolean(&mut self, field: &Field<Boolean>, default: bool) -> Spanned<bool> {
        let read = self.value(field).map(|(on, span)| Spanned::new(span, on.0));
        self.or(read, default)
    }

    pub(crate) fn switch(&mut self, field: &Field<Switch>, default: bool) -> bool {
        self.value(field).map_or(default, |(on, _)| on.0)
    }

    /// A string that `parse` understands.
    pub(crate) fn parsed<T>(
        &mut self,
        field: &Field<Text>,
        parse: impl FnOnce(&str) -> Result<T, Fault>,
    ) -> Option<Spanned<T>> {
        let (text, span) = self.value(field)?;
        self.accept(parse(&text.0), span)
    }

    /// As `parsed`, where a number without quotes is a part of what is meant.
    pub(crate) fn parsed_or_number<T>(
        &mut self,
        field: &Field<Text>,
        parse: impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<Spanned<T>> {
        let value = field.as_ref()?;
        let complaint = value.get_ref().0.as_ref().err();
        let number = complaint.and_then(|it| it.strip_prefix("invalid type: integer `")?.split_once('`'));
        match number.and_then(|(number, _)| parse(number).err()) {
            Some(fault) => {
                self.report(fault.into_problem(value.span()));
                None
            }
            None => self.parsed(field, parse),
        }
    }

    /// As `parsed`, for a key that must be there.
    pub(crate) fn required_parsed<T>(
        &mut self,
        field: &Field<Text>,
        key: &str,
        example: &str,
        parse: impl FnOnce(&str) -> Result<T, Fault>,
    ) -> Option<Spanned<T>> {
        let (text, span) = self.required(field, key, example)?;
        self.accept(parse(&text.0), span)
    }

    /// One of a fixed set of words, as [`word`]. A wrong one is reported, and read as the one that was meant if there is
    /// one.
    pub(crate) fn word<T: Copy>(
        &mut self,
        field: &Field<Text>,
        what: &str,
        words: &[(&'static str, T)],
        synonyms: &[(&str, &str)],
    ) -> Option<Spanned<T>> {
        let (text, span) = self.value(field)?;
        let read = word(what, words, synonyms, &text.0);
        let meant = meant(words, synonyms, &text.0);
        match self.accept(read, span.clone()) {
            Some(value) => Some(value),
            None => meant.map(|(_, value)| Spanned::new(span, value)),
        }
    }

    /// An array of strings that `parse` understands; those it does not are reported and left out.
    pub(crate) fn list<W: AsRef<str>, T>(
        &mut self,
        field: &Field<List<W>>,
        parse: impl Fn(&str) -> Result<T, Fault>,
    ) -> Vec<Spanned<T>> {
        let Some((list, _)) = self.value(field) else { return Vec::new() };
        let mut values = Vec::with_capacity(list.0.len());
        for element in &list.0 {
            if let Some((text, span)) = self.element(element) {
                values.extend(self.accept(parse(text.as_ref()), span));
            }
        }
        values
    }

    fn accept<T>(&mut self, parsed: Result<T, Fault>, span: Span) -> Option<Spanned<T>> {
        match parsed {
            Ok(value) => Some(Spanned::new(span, value)),
            Err(fault) => {
                self.report(fault.into_problem(span));
                None
            }
        }
    }

    /// A read value, or the default at the table's header.
    pub(crate) fn or<T>(&self, read: Option<Spanned<T>>, default: T) -> Spanned<T> {
        read.unwrap_or_else(|| Spanned::new(self.at.clone(), default))
    }
}

/// The text that somebody wrote where something else belongs.
fn text_for<T>(value: &Spanned<Lenient<T>>) -> Option<&str> {
    text_in(value.get_ref().0.as_ref().err()?)
}

/// The text that a complaint is about.
fn text_in(complaint: &str) -> Option<&str> {
    Some(complaint.strip_prefix("invalid type: string \"")?.split_once('"')?.0)
}

/// The value of a key, without a word about what is wrong with it.
pub(crate) fn peek<T>(field: &Field<T>) -> Option<(&T, Span)> {
    let value = field.as_ref()?;
    value.get_ref().0.as_ref().ok().map(|inner| (inner, value.span()))
}

/// The tables of an array with their places; reports elements that are none. `name` is what their headers hold: "vrrp.track".
pub(crate) fn tables<'f, T>(field: &'f Tables<T>, name: &str, table: &mut Table<'_>) -> Vec<(&'f T, Span)> {
    // An address says enough of a real server.
    let server = |written: &str| {
        let (address, port) = values::address_and_port(written).filter(|_| name.ends_with("real_server"))?;
        let port = port.map(|port| format!(", port = {port}")).unwrap_or_default();
        Some(format!("{{ address = \"{address}\"{port} }}"))
    };
    let below = || format!("write [[{name}]] on a line of its own, and the keys of one below it");
    let many = |written: &str| server(written).map_or_else(below, |server| format!("write [{server}]"));
    let one = |written: &str| server(written).map_or_else(below, |server| format!("write {server}"));
    let Some((list, _)) = field.as_ref().and_then(|list| table.in_tables(list, many)) else {
        return Vec::new();
    };
    let tables = list.0.iter().filter_map(|element| table.in_tables(element, one));
    tables.map(|(Tabular(inner), at)| (inner, at)).collect()
}

/// As `tables`, without a word about what is wrong.
pub(crate) fn peeked<T>(field: &Tables<T>) -> impl Iterator<Item = (&T, Span)> {
    let list = peek(field).map(|(list, _)| list.0.as_slice()).unwrap_or_default();
    list.iter().filter_map(|table| table.get_ref().0.as_ref().ok().map(|inner| (&inner.0, table.span())))
}

/// One of a fixed set of words. `synonyms` are words of other tools with ours for them.
pub(crate) fn word<T: Copy>(
    what: &str,
    words: &[(&'static str, T)],
    synonyms: &[(&str, &str)],
    text: &str,
) -> Result<T, Fault> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let known = format!("known: {}", words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", "));
    let fault = Fault::new(format!("unknown {what} {}", quoted(text)), known);
    Err(match meant(words, synonyms, text) {
        Some((meant, _)) => fault.help(format!("did you mean \"{meant}\"?")),
        None => fault,
    })
}

/// The word that somebody meant who wrote another.
fn meant<T: Copy>(
    words: &[(&'static str, T)],
    synonyms: &[(&str, &str)],
    text: &str,
) -> Option<(&'static str, T)> {
    let folded = text.to_ascii_lowercase();
    let synonym = synonyms.iter().find(|(theirs, _)| *theirs == folded).map(|(_, ours)| *ours);
    let meant = synonym.or_else(|| nearest(text, words.iter().map(|(word, _)| *word)))?;
    words.iter().find(|(word, _)| *word == meant).copied()
}

/// A value of another type than its key's, in the words of TOML instead of serde's.
fn wrong_type(span: Span, complaint: &str) -> Problem {
    let complaint = complaint.trim();
    if complaint.contains("toml_private_datetime") {
        return Problem::error("wrong type").at(span, "expected a table, found a date");
    }
    let Some((found, expected)) =
        complaint.strip_prefix("invalid type: ").and_then(|rest| rest.rsplit_once(", expected "))
    else {
        return Problem::error("invalid value").at(span, complaint.to_owned());
    };
    let (kind, inside) = match found.split_once(' ') {
        Some((kind, inside)) if kind != "floating" => (kind, inside),
        _ => (found, ""),
    };
    let kind = match kind {
        "string" => "a string",
        "integer" => "a whole number",
        "boolean" => "true or false",
        "sequence" => "an array",
        "map" if expected == "an array" => "a table",
        "map" => "a table or a date",
        other if other.starts_with("floating") => "a number with a fraction",
        other => other,
    };
    let bare = inside.trim_matches(['"', '`']);
    let help = match (kind, expected) {
        ("a string", "a whole number") if bare.parse::<i64>().is_ok() => {
            Some(format!("write {bare} without the quotes"))
        }
        ("a string", "a whole number") => {
            values::prefix_length(bare).map(|length| format!("write {length}, without quotes"))
        }
        ("a string", "a number") if bare.parse::<f64>().is_ok() => {
            Some(format!("write {bare} without the quotes"))
        }
        ("a whole number", "an array") => Some(format!("write [{bare}], in brackets")),
        ("a string", "a table" | "a table or an array of tables") => Some(in_table(bare)),
        ("a string", "true or false") if matches!(bare, "true" | "false") => {
            Some(format!("write {bare} without the quotes"))
        }
        ("a whole number", "true or false") => Some("write `true` or `false`".to_owned()),
        ("a whole number", "a string") => Some("write it in quotes".to_owned()),
        ("a string", "an array") => Some(in_brackets(bare)),
        ("an array", "a table") => {
            Some("write its header in single brackets, [...], or a table in braces: { ... }".to_owned())
        }
        _ => None,
    };
    let problem = Problem::error("wrong type").at(span, format!("expected {expected}, found {kind}"));
    match help {
        Some(help) => problem.help(help),
        None => problem,
    }
}

/// How a table is written where a text stands.
fn in_table(text: &str) -> String {
    let address = values::address_and_port(text);
    match address {
        Some((address, Some(port))) => format!("write {{ address = \"{address}\", port = {port} }}"),
        Some((address, None)) => format!("write {{ address = \"{address}\" }}"),
        None if values::CHECKS.contains(&text) => format!("write {{ type = \"{text}\" }}"),
        None => "write its keys in braces, { ... }, or below a header in brackets, [...]".to_owned(),
    }
}

/// How a text is written where an array of texts belongs.
fn in_brackets(text: &str) -> String {
    // A command line: nobody splits it later, and no program has this name.
    if text.starts_with('/') && text.contains(' ') {
        return match text.contains(['"', '\'', '\\', '|', '$', '&', ';', '<', '>']) {
            true => "write the program and each argument as a text of its own: [\"...\", \"...\"]".to_owned(),
            false => format!("write {}", as_words(text)),
        };
    }
    if let Some((address, Some(port))) = values::address_and_port(text) {
        return format!("write [{{ address = \"{address}\", port = {port} }}]");
    }
    match text.len() > IN_BRACKETS_BYTES_MAX || text.contains(['"', '\\']) {
        true => "write the value in brackets: [\"...\"]".to_owned(),
        false => format!("write [\"{text}\"], in brackets"),
    }
}

/// A command line as the array of its words.
pub(crate) fn as_words(text: &str) -> String {
    format!("[\"{}\"]", text.split_whitespace().collect::<Vec<_>>().join("\", \""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serdes_words_become_tomls() {
        let problem = wrong_type(0..1, "invalid type: string \"80\", expected a whole number\n");
        assert_eq!(problem.place.unwrap().label, "expected a whole number, found a string");
        assert_eq!(problem.help.unwrap(), "write 80 without the quotes");
        let problem = wrong_type(0..1, "invalid type: floating point `1.5`, expected a whole number");
        assert_eq!(problem.place.unwrap().label, "expected a whole number, found a number with a fraction");
        let problem = wrong_type(0..1, "integer number overflowed");
        assert_eq!(problem.place.unwrap().label, "integer number overflowed");
    }

    #[test]
    fn a_word_is_found_or_the_one_meant_is_named() {
        let words = [("dr", 1), ("tun", 2), ("nat", 3)];
        assert_eq!(word("forwarding method", &words, &[], "tun"), Ok(2));
        let fault = word("forwarding method", &words, &[("masq", "nat")], "Masq").unwrap_err();
        assert_eq!(fault.message, "unknown forwarding method `Masq`");
        assert_eq!(fault.label, "known: dr, tun, nat");
        assert_eq!(fault.help.unwrap(), "did you mean \"nat\"?");
        assert_eq!(word("forwarding method", &words, &[], "local").unwrap_err().help, None);
    }
}
