//! The tables of a file as they are written. Edits are made against them.

use std::sync::Arc;

use serde_json::{Map, Number, Value};
use toml::de::{DeTable, DeValue};

/// Keys of a table with their values.
pub type Keys = Map<String, Value>;

/// The one that holds virtual servers.
pub(crate) const SERVERS: &str = "virtual_server";

/// Where a virtual server comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The file, whether it was changed since or not.
    File,
    /// An edit.
    Edit,
}

/// A virtual server as it is written.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    /// Its own keys, as JSON.
    pub(crate) head: Box<str>,
    /// Those of its real servers, in their order.
    pub(crate) real_servers: Vec<Arc<str>>,
    pub(crate) origin: Origin,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Source {
    /// All but the virtual servers.
    pub(crate) tables: Keys,
    /// The virtual servers, in the order of the file.
    pub(crate) written: Vec<Written>,
}

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
}

impl Written {
    /// From all keys of the table.
    pub(crate) fn of(mut keys: Keys, origin: Origin) -> Self {
        let real_servers = match keys.remove("real_server") {
            Some(Value::Array(servers)) => servers.iter().map(|server| server.to_string().into()).collect(),
            _ => Vec::new(),
        };
        Self { head: Value::Object(keys).to_string().into(), real_servers, origin }
    }

    /// Its own keys.
    pub(crate) fn head(&self) -> Keys {
        parsed(&self.head)
    }

    /// Keys of one of its real servers.
    pub(crate) fn real_server(&self, place: usize) -> Keys {
        self.real_servers.get(place).map_or_else(Keys::new, |text| parsed(text))
    }

    /// All keys of the table.
    pub(crate) fn whole(&self) -> Keys {
        let mut keys = self.head();
        if !self.real_servers.is_empty() {
            let servers = (0..self.real_servers.len()).map(|place| Value::Object(self.real_server(place)));
            keys.insert("real_server".to_owned(), servers.collect());
        }
        keys
    }

    /// All of it that may be seen.
    pub(crate) fn shown(&self) -> Value {
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

pub(crate) fn parsed(text: &str) -> Keys {
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

/// Appends a value as TOML has it on one line.
pub(crate) fn write(text: &mut String, value: &Value) {
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

pub(crate) fn write_key(text: &mut String, key: &str) {
    let is_bare = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    match !key.is_empty() && key.chars().all(is_bare) {
        true => *text += key,
        false => *text += &Value::from(key).to_string().replace('\u{7f}', "\\u007f"),
    }
}
