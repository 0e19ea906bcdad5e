//! Comments that stand right behind a table, such as a real server that was commented out.
//!
//! An editor of TOML takes them for the next table's: they would go with it, and a table that is added would come before them. So they are
//! taken out before the document is changed, and put back behind what they stood behind.

use std::collections::HashMap;

use toml_edit::{DocumentMut, Item, RawString, Table};

/// See the module. In the order of the document, with the position of the table before.
pub(super) struct Comments(Vec<(isize, String)>);

/// A table that has a header in the text.
struct Place {
    /// Its number on a walk through all tables.
    number: usize,
    /// Where it stands in the text; of a new one, that of the table that it comes behind.
    position: isize,
    is_new: bool,
    /// What stands between the table before and its header.
    prefix: Option<String>,
}

impl Comments {
    /// Takes them out.
    pub(super) fn take(document: &mut DocumentMut) -> Self {
        let places = places(document);
        let (mut taken, mut prefixes) = (Vec::new(), HashMap::new());
        for (before, next) in places.iter().zip(places.iter().skip(1)) {
            if let Some((comment, rest)) = next.prefix.as_deref().and_then(|text| split(text, false)) {
                taken.push((before.position, comment.to_owned()));
                prefixes.insert(next.number, rest.to_owned());
            }
        }
        put(document, prefixes);
        let end = document.trailing().as_str().unwrap_or_default().to_owned();
        if let (Some(last), Some((comment, rest))) = (places.last(), split(&end, true)) {
            taken.push((last.position, comment.to_owned()));
            document.set_trailing(rest);
        }
        Self(taken)
    }

    /// Puts them back.
    pub(super) fn put_back(self, document: &mut DocumentMut) {
        let places = places(document);
        let (mut prefixes, mut end) = (HashMap::<usize, String>::new(), String::new());
        for (position, comment) in self.0 {
            let comes_behind = |it: &&Place| it.position > position || it.position == position && it.is_new;
            match places.iter().find(comes_behind) {
                Some(next) => *prefixes.entry(next.number).or_default() += &comment,
                None => end += &comment,
            }
        }
        for place in &places {
            if let Some(comments) = prefixes.get_mut(&place.number) {
                *comments += place.prefix.as_deref().unwrap_or("\n");
            }
        }
        put(document, prefixes);
        if !end.is_empty() {
            end += document.trailing().as_str().unwrap_or_default();
            document.set_trailing(end);
        }
    }
}

/// What stands right behind the table before, and the rest. A comment that no empty line parts from the header below is that table's, unless
/// there is none below.
fn split(text: &str, is_end: bool) -> Option<(&str, &str)> {
    let mut len = 0;
    for line in text.split_inclusive('\n') {
        if line.trim().is_empty() {
            return (len > 0).then(|| text.split_at(len));
        }
        len += line.len();
    }
    (is_end && len > 0).then(|| text.split_at(len))
}

/// In the order of the text.
fn places(document: &mut DocumentMut) -> Vec<Place> {
    let (mut places, mut last) = (Vec::new(), 0);
    each(document.as_table_mut(), &mut 0, &mut |number, table| {
        last = table.position().unwrap_or(last);
        // The first is the document itself. One that is there for those below it alone has no header.
        if number > 0 && !(table.is_implicit() && table.get_values().is_empty()) {
            let prefix = table.decor().prefix().and_then(RawString::as_str).map(str::to_owned);
            places.push(Place { number, position: last, is_new: table.position().is_none(), prefix });
        }
    });
    places.sort_by_key(|place| place.position);
    places
}

fn put(document: &mut DocumentMut, mut prefixes: HashMap<usize, String>) {
    each(document.as_table_mut(), &mut 0, &mut |number, table| {
        if let Some(prefix) = prefixes.remove(&number) {
            table.decor_mut().set_prefix(prefix);
        }
    });
}

/// Visits all tables in the order in which they are written where they are new.
fn each(table: &mut Table, number: &mut usize, visit: &mut impl FnMut(usize, &mut Table)) {
    if !table.is_dotted() {
        visit(*number, table);
        *number += 1;
    }
    for (_, item) in table.iter_mut() {
        match item {
            Item::Table(inner) => each(inner, number, visit),
            Item::ArrayOfTables(inner) => inner.iter_mut().for_each(|inner| each(inner, number, visit)),
            Item::None | Item::Value(_) => {}
        }
    }
}
