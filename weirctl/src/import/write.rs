//! weir's file as it is made: tables with their keys, and a comment for what is to be known.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::ops::Range;
use std::rc::Rc;

use toml_edit::{Array, Value};

use super::blocks::Node;
use super::source::{Place, Plain};

/// A table.
#[derive(Debug, Clone)]
pub(super) struct Item {
    /// With its brackets.
    pub(super) head: &'static str,
    /// What of the source it is.
    pub(super) told: String,
    /// Where that stands.
    pub(super) place: Option<Place>,
    /// Where else: what is the same, and what names it.
    pub(super) also: Vec<Place>,
    pub(super) remarks: Remarks,
    pub(super) keys: Vec<Key>,
    pub(super) below: Vec<Item>,
    /// Why weir does not take it.
    pub(super) refused: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) value: Value,
    pub(super) remark: Option<String>,
    /// The lines that say it, where that is not the whole table's.
    pub(super) places: Vec<Place>,
}

impl Item {
    pub(super) fn new(head: &'static str, told: String, place: Option<Place>) -> Self {
        Self {
            head,
            told,
            place,
            also: Vec::new(),
            remarks: Remarks::default(),
            keys: Vec::new(),
            below: Vec::new(),
            refused: None,
        }
    }

    pub(super) fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        let value = value.into();
        match self.keys.iter_mut().find(|key| key.name == name) {
            Some(key) => key.value = value,
            None => self.keys.push(Key { name, value, remark: None, places: Vec::new() }),
        }
    }

    /// The same for a key that may be left out alone: then it is this line that is.
    pub(super) fn put(&mut self, node: &Node, name: &'static str, value: impl Into<Value>) {
        self.set(name, value);
        if let Some(key) = self.keys.iter_mut().find(|key| key.name == name) {
            key.places = vec![node.place];
        }
    }

    /// All lines that it is made of.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> {
        self.place.into_iter().chain(self.also.iter().copied())
    }

    /// Takes the lines of another one that says the same.
    pub(super) fn joins(&mut self, other: &Item) {
        self.also.extend(other.places());
        for (key, other) in self.keys.iter_mut().zip(&other.keys) {
            key.places.extend(&other.places);
        }
    }

    pub(super) fn set_remarked(
        &mut self,
        name: &'static str,
        value: impl Into<Value>,
        remark: impl Into<String>,
    ) {
        self.set(name, value);
        if let Some(key) = self.keys.iter_mut().find(|key| key.name == name) {
            key.remark = Some(remark.into());
        }
    }

    pub(super) fn remark(&mut self, text: impl Into<String>) {
        let text: Rc<str> = text.into().into();
        if self.remarks.said.insert(text.clone()) {
            self.remarks.list.push(text);
        }
    }

    /// The table with those below it, and no remarks: they stand at another one that is like it.
    pub(super) fn without_remarks(&self) -> Item {
        Item {
            remarks: Remarks::default(),
            below: self.below.iter().map(Item::without_remarks).collect(),
            told: self.told.clone(),
            also: self.also.clone(),
            keys: self.keys.clone(),
            refused: self.refused.clone(),
            ..*self
        }
    }

    /// How many tables it is with those below it; long values count as several.
    pub(super) fn tables(&self) -> usize {
        let bytes: usize = self.keys.iter().map(|key| length(&key.value)).sum();
        1 + bytes / TABLE_BYTES + self.below.iter().map(Item::tables).sum::<usize>()
    }

    /// The table at this way through tables and those below them.
    pub(super) fn at<'a>(items: &'a mut [Item], way: &[usize]) -> Option<&'a mut Item> {
        let (first, rest) = way.split_first()?;
        let item = items.get_mut(*first)?;
        if rest.is_empty() { Some(item) } else { Self::at(&mut item.below, rest) }
    }

    /// Whether both say the same.
    pub(super) fn is_like(&self, other: &Item) -> bool {
        let are_alike =
            |(one, other): (&Key, &Key)| one.name == other.name && is_same(&one.value, &other.value);
        self.head == other.head
            && self.keys.len() == other.keys.len()
            && self.keys.iter().zip(&other.keys).all(are_alike)
            && self.below.len() == other.below.len()
            && self.below.iter().zip(&other.below).all(|(one, other)| one.is_like(other))
    }
}

/// About as many bytes as a value is written in.
fn length(value: &Value) -> usize {
    match value {
        Value::String(text) => text.value().len(),
        Value::Array(list) => list.iter().map(|it| length(it) + 4).sum(),
        Value::InlineTable(_) => value.to_string().len(),
        _ => 8,
    }
}

/// Whether both are written in the same way.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::String(one), Value::String(other)) => one.value() == other.value(),
        (Value::Integer(one), Value::Integer(other)) => one.value() == other.value(),
        (Value::Boolean(one), Value::Boolean(other)) => one.value() == other.value(),
        _ => one.to_string() == other.to_string(),
    }
}

/// Bytes of values that count as one table more. Few tables have as many.
const TABLE_BYTES: usize = 256;

/// Sentences in their order, each once. There may be as many as the source has lines.
#[derive(Debug, Clone, Default)]
pub(super) struct Remarks {
    pub(super) list: Vec<Rc<str>>,
    said: HashSet<Rc<str>>,
}

/// An array of texts.
pub(super) fn texts(texts: impl IntoIterator<Item = impl Into<String>>) -> Value {
    Value::Array(texts.into_iter().map(Into::into).collect::<Array>())
}

/// Where tables stand in the text.
pub(super) type Places = Vec<(Range<usize>, Vec<usize>)>;

/// The text of all tables, behind what is said first.
pub(super) fn text(first: &[Rc<str>], items: &[Item]) -> (String, Places) {
    let (mut text, mut places) = (String::new(), Places::new());
    for line in first {
        comment(&mut text, "", line);
    }
    for (at, item) in items.iter().enumerate() {
        write_item(item, &mut vec![at], &mut text, &mut places);
    }
    (text, places)
}

fn write_item(item: &Item, way: &mut Vec<usize>, text: &mut String, places: &mut Places) {
    let indent = if way.len() > 1 { "  " } else { "" };
    text.push('\n');
    for remark in &item.remarks.list {
        comment(text, indent, remark);
    }
    if let Some(why) = &item.refused {
        comment(text, indent, &format!("LEFT OUT: {}: {why}", item.told));
        return;
    }
    let from = text.len();
    let _ = writeln!(text, "{indent}{}", item.head);
    for key in &item.keys {
        if let Some(remark) = &key.remark {
            comment(text, indent, remark);
        }
        let _ = writeln!(text, "{indent}{} = {}", key.name, key.value.to_string().trim());
    }
    places.push((from..text.len(), way.clone()));
    for (at, below) in item.below.iter().enumerate() {
        way.push(at);
        write_item(below, way, text, places);
        way.pop();
    }
}

/// Letters of a line of comment.
const COLUMNS: usize = 110;

pub(super) fn comment(text: &mut String, indent: &str, comment: &str) {
    if !comment.is_empty() && comment.len() + indent.len() + 2 <= COLUMNS && Plain(comment).is_shown_whole() {
        let _ = writeln!(text, "{indent}# {comment}");
        return;
    }
    let mut line = String::new();
    for word in comment.split_whitespace() {
        if !line.is_empty() && indent.len() + 3 + line.len() + word.len() > COLUMNS {
            let _ = writeln!(text, "{indent}# {line}");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        let _ = write!(line, "{}", Plain(word));
    }
    let _ = writeln!(text, "{indent}#{}{line}", if line.is_empty() { "" } else { " " });
}
