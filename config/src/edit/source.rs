//! The tables of a file as they are written, kept for edits.

use std::collections::HashSet;

use serde_json::{Map, Number, Value};
use toml::de::{DeTable, DeValue};

use super::{Keys, Origin};
use crate::report::Problem;

/// A virtual server as it is written.
#[derive(Debug, Clone)]
pub(super) struct Written {
    /// Its own keys, as JSON.
    pub(super) head: Box<str>,
    /// Those of its real servers, in their order.
    pub(super) real_servers: Vec<Box<str>>,
    pub(super) origin: Origin,
}

/// All of a file but its virtual servers.
#[derive(Debug)]
pub(super) struct Base {
    /// What edits are read behind. Without what VRRP tracks of virtual servers.
    pub(super) text: String,
    /// To be shown.
    pub(super) tables: Keys,
    /// Names of virtual servers that VRRP tracks.
    pub(super) tracked: HashSet<String>,
    /// What the checks say of these tables alone: message and label.
    pub(super) known: HashSet<(String, String)>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Source {
    tables: Keys,
    written: Vec<Written>,
}

const SERVERS: &str = "virtual_server";

impl Source {
    /// Of a tree whose unknown keys were taken out.
    pub(crate) fn of(tree: &DeTable<'_>) -> Self {
        let mut source = Self { tables: Map::new(), written: Vec::new() };
        for (key, value) in tree.iter() {
            if key.get_ref() != SERVERS {
                source.tables.insert(key.get_ref().to_string(), json(value.get_ref()));
            } else if let DeValue::Array(servers) = value.get_ref() {
                let keys = servers.iter().filter_map(|server| server.get_ref().as_table()).map(table);
                source.written = keys.map(|keys| Written::of(keys, Origin::File)).collect();
            }
        }
        source
    }

    /// Adds that of another slice of the same text. A name that stands in both is that of several tables.
    pub(crate) fn append(&mut self, more: Self) {
        self.written.extend(more.written);
        for (key, value) in more.tables {
            match (self.tables.get_mut(&key), value) {
                (Some(Value::Array(tables)), Value::Array(more)) => tables.extend(more),
                (_, value) => {
                    self.tables.insert(key, value);
                }
            }
        }
    }

    pub(super) fn into_parts(self) -> (Base, Vec<Written>) {
        let Self { tables, written } = self;
        let mut besides = tables.clone();
        let tracked = take_tracked(&mut besides);
        let mut text = String::new();
        for (key, value) in &besides {
            write_key(&mut text, key);
            text += " = ";
            write(&mut text, value);
            text.push('\n');
        }
        let mut problems = Vec::new();
        crate::parse::read(&text, &mut problems);
        let known = problems.iter().map(said).collect();
        (Base { text, tables, tracked, known }, written)
    }
}

/// What a problem says, wherever it is.
pub(super) fn said(problem: &Problem) -> (String, String) {
    let label = problem.place.as_ref().map_or_else(String::new, |place| place.label.clone());
    (problem.message.clone(), label)
}

impl Written {
    /// From all keys of the table.
    pub(super) fn of(mut keys: Keys, origin: Origin) -> Self {
        let real_servers = match keys.remove("real_server") {
            Some(Value::Array(servers)) => servers.iter().map(|server| server.to_string().into()).collect(),
            _ => Vec::new(),
        };
        Self { head: Value::Object(keys).to_string().into(), real_servers, origin }
    }

    /// Its own keys.
    pub(super) fn head(&self) -> Keys {
        parsed(&self.head)
    }

    /// Keys of one of its real servers.
    pub(super) fn real_server(&self, place: usize) -> Keys {
        self.real_servers.get(place).map_or_else(Keys::new, |text| parsed(text))
    }

    /// All keys of the table.
    pub(super) fn whole(&self) -> Keys {
        let mut keys = self.head();
        if !self.real_servers.is_empty() {
            let servers = (0..self.real_servers.len()).map(|place| Value::Object(self.real_server(place)));
            keys.insert("real_server".to_owned(), servers.collect());
        }
        keys
    }

    /// All of it that may be seen.
    pub(super) fn shown(&self) -> Value {
        let mut keys = self.whole();
        let left_out = crate::secret::leave_out(&mut keys);
        let origin = match self.origin {
            Origin::File => "file",
            Origin::Edit => "edit",
        };
        keys.insert("origin".to_owned(), origin.into());
        if left_out {
            keys.insert("left_out".to_owned(), true.into());
        }
        Value::Object(keys)
    }
}

fn parsed(text: &str) -> Keys {
    serde_json::from_str(text).unwrap_or_default()
}

/// As JSON.
fn table(keys: &DeTable<'_>) -> Keys {
    keys.iter().map(|(key, value)| (key.get_ref().to_string(), json(value.get_ref()))).collect()
}

fn json(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => {
            let number = i128::from_str_radix(number.as_str(), number.radix()).unwrap_or_default();
            Number::from_i128(number).map_or(Value::Null, Value::Number)
        }
        DeValue::Float(number) => {
            number.as_str().parse().ok().and_then(Number::from_f64).map_or(Value::Null, Value::Number)
        }
        DeValue::Boolean(is) => Value::Bool(*is),
        DeValue::Datetime(at) => Value::String(at.to_string()),
        DeValue::Array(values) => values.iter().map(|value| json(value.get_ref())).collect(),
        DeValue::Table(keys) => Value::Object(table(keys)),
    }
}

/// Takes out what VRRP tracks of virtual servers, and tells their names.
fn take_tracked(tables: &mut Keys) -> HashSet<String> {
    let mut names = HashSet::new();
    let instances = tables.get_mut("vrrp").and_then(Value::as_array_mut);
    for instance in instances.into_iter().flatten() {
        let Some(tracks) = instance.get_mut("track").and_then(Value::as_array_mut) else { continue };
        tracks.retain(|track| match track.get(SERVERS) {
            Some(name) => {
                names.extend(name.as_str().map(str::to_owned));
                false
            }
            None => true,
        });
    }
    names
}

/// Appends a value as TOML has it on one line.
pub(super) fn write(text: &mut String, value: &Value) {
    match value {
        // There is none in TOML: whoever reads it says so.
        Value::Null => *text += "null",
        Value::Bool(_) | Value::Number(_) => *text += &value.to_string(),
        // JSON's escapes are TOML's, but for one character.
        Value::String(_) => *text += &value.to_string().replace('\u{7f}', "\\u007f"),
        Value::Array(values) => {
            text.push('[');
            for value in values {
                write(text, value);
                *text += ", ";
            }
            text.push(']');
        }
        Value::Object(keys) => {
            *text += "{ ";
            for (place, (key, value)) in keys.iter().enumerate() {
                if place > 0 {
                    *text += ", ";
                }
                write_key(text, key);
                *text += " = ";
                write(text, value);
            }
            *text += " }";
        }
    }
}

fn write_key(text: &mut String, key: &str) {
    let is_bare = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    match !key.is_empty() && key.chars().all(is_bare) {
        true => *text += key,
        false => *text += &Value::from(key).to_string().replace('\u{7f}', "\\u007f"),
    }
}
