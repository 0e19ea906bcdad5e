//! What a key takes that takes no text.

use std::ops::Range;

use serde::Deserialize as _;
use toml::de::DeTable;

use super::line::Line;
use crate::headers::SEVERAL;
use crate::report::Problem;
use crate::validate::values;
use crate::{schema, validate};

/// The label and the help for a value without straight quotes, where the key takes something else than a text. `None`: it takes one,
/// or weir does not know it.
pub(super) fn instead_of_text(text: &str, line: &Line<'_>, value: Option<&str>) -> Option<(String, String)> {
    let problem = complaints(&table_of(text, line)?, line.key(), value.unwrap_or_default())?;
    let expected = problem.place?.label.split_once(", found")?.0.to_owned();
    let takes = match expected.strip_prefix("expected ")? {
        "a whole number" => "write a whole number, without quotes or a unit",
        "a number" => "write a number, without quotes or a unit",
        "true or false" => "write `true` or `false`, without quotes",
        "an array" | "a table" | "a table or an array of tables" => {
            return Some((expected, problem.help?)).filter(|_| value.is_some());
        }
        _ => return None,
    };
    Some((expected, problem.help.unwrap_or_else(|| takes.to_owned())))
}

/// The name of the table that the line is in.
fn table_of(text: &str, line: &Line<'_>) -> Option<String> {
    let header = text[..line.start()].lines().rev().map(str::trim).find(|line| line.starts_with('['))?;
    let header = header.split('#').next()?.trim().trim_matches(['[', ']']);
    if line.is_alone() {
        return Some(header.to_owned());
    }
    // A table in one line.
    let (outer, _) = line.before().split_once('{')?;
    let outer = outer.trim_end().strip_suffix('=')?.trim();
    outer.chars().all(|c| c.is_ascii_lowercase() || c == '_').then(|| format!("{header}.{outer}"))
}

/// What weir says of this text under the key. Of a health check it looks at the keys of one type.
fn complaints(table: &str, key: &str, value: &str) -> Option<Problem> {
    match table.rsplit('.').next() {
        Some("health_check") if key != "type" => values::CHECKS
            .iter()
            .find_map(|check| complaint(table, &format!("type = \"{check}\"\n{key}"), value)),
        _ => complaint(table, key, value),
    }
}

/// Whether a table of this name is written more than once, wherever it stands.
fn is_of_several(name: &str) -> bool {
    let last = name.rsplit('.').next();
    SEVERAL.iter().any(|path| path.rsplit('.').next() == last)
}

/// What weir says of this text behind the last of these keys.
fn complaint(table: &str, keys: &str, value: &str) -> Option<Problem> {
    let mut text = String::new();
    let ends = table.match_indices('.').map(|(at, _)| at).chain([table.len()]);
    for name in ends.map(|end| &table[..end]) {
        let (open, close) = if is_of_several(name) { ("[[", "]]") } else { ("[", "]") };
        text.extend([open, name, close, "\n"]);
    }
    text.extend([keys, " = \""]);
    let place: Range<usize> = text.len() - 1..text.len() + value.len() + 1;
    text.extend([value, "\"\n"]);
    let tree = DeTable::parse(&text).ok()?;
    let file = schema::File::deserialize(toml::de::Deserializer::from(tree)).ok()?;
    let mut problems = Vec::new();
    validate::validate(&file, &mut problems);
    problems.into_iter().find(|problem| {
        problem.place.as_ref().is_some_and(|it| it.span == place && it.label.starts_with("expected "))
    })
}
