//! How each line of the source ends: none is passed over in silence.

use std::collections::{HashMap, HashSet};

use super::blocks::Node;
use super::source::{Fate, Note, Place, Plain, Source};
use super::words;
use super::write::Item;

/// The end of a line or of a word; where there are several, the last of these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    /// The line holds nothing but comments and braces.
    #[default]
    Empty,
    /// Nobody looked at it yet.
    Open,
    /// It is in the file, or nothing is lost without it.
    Carried,
    Remark,
    LeftOut,
}

impl From<Fate> for End {
    fn from(fate: Fate) -> Self {
        match fate {
            Fate::Remark | Fate::Broken => End::Remark,
            Fate::LeftOut => End::LeftOut,
        }
    }
}

/// The ends of all lines, by file and line.
#[derive(Debug, Default)]
pub(super) struct Ends(Vec<Vec<End>>);

impl Ends {
    pub(super) fn set(&mut self, place: Place, end: End) {
        let (file, line) = (usize::from(place.file), place.line as usize);
        if self.0.len() <= file {
            self.0.resize_with(file + 1, Vec::new);
        }
        let lines = &mut self.0[file];
        if lines.len() <= line {
            lines.resize(line + 1, End::Empty);
        }
        lines[line] = lines[line].max(end);
    }

    /// The same for a line that has an end already; one of nothing but braces has none.
    fn raise(&mut self, place: Place, end: End) {
        let lines = self.0.get(usize::from(place.file));
        if lines.and_then(|lines| lines.get(place.line as usize)).is_some_and(|it| *it != End::Empty) {
            self.set(place, end);
        }
    }

    /// How a line ends.
    #[cfg(test)]
    pub(super) fn of(&self, line: usize) -> End {
        self.0.first().and_then(|lines| lines.get(line)).copied().unwrap_or_default()
    }

    /// How many lines end so.
    pub(super) fn count(&self, end: End) -> usize {
        self.0.iter().flatten().filter(|it| **it == end).count()
    }
}

/// Words of which the last one counts, with the name that several have in common.
fn of_last(node: &Node) -> Option<&str> {
    if node.block.is_some() || !words::is_said_once(&node.word) {
        return None;
    }
    Some(match node.word.as_str() {
        "lvs_sched" => "lb_algo",
        "lvs_method" => "lb_kind",
        word => word,
    })
}

/// Tells of words that the same block says again with another value. Lines that are left out already say nothing.
pub(super) fn said_again(nodes: &[Node], notes: &mut Vec<Note>) {
    let mut last: HashMap<&str, &Node> = HashMap::new();
    for node in nodes.iter().rev() {
        if let Some(word) = of_last(node).filter(|_| node.end.get() != End::LeftOut) {
            match last.get(word) {
                Some(later) if later.values != node.values => {
                    let line = later.place.line;
                    let text = format!("`{}`: line {line} says it again, and the last one counts", node.word);
                    notes.push(Note { place: node.place, fate: Fate::Remark, text });
                }
                Some(_) => {}
                None => {
                    last.insert(word, node);
                }
            }
        }
        said_again(node.below(), notes);
    }
}

/// Gives each line its end. What nobody looked at is left out, and that is said.
pub(super) fn close(source: &mut Source, tree: &[Node], items: &[Item]) {
    let mut refused = HashSet::new();
    // Without a tree each line is one item, and nothing else says what becomes of those below.
    places_of_refused(items, tree.is_empty(), &mut refused);
    let is_left = |note: &&Note| note.fate == Fate::LeftOut;
    let told = source.notes.iter().filter(is_left).map(|note| note.place).collect();
    let mut closing = Closing { refused, told, ends: std::mem::take(&mut source.ends), notes: Vec::new() };
    for node in tree {
        closing.node(node, Way::default());
    }
    if tree.is_empty() {
        closing.refused.iter().for_each(|place| closing.ends.set(*place, End::LeftOut));
    }
    source.notes.append(&mut closing.notes);
    for note in &source.notes {
        match note.fate {
            Fate::Broken => closing.ends.raise(note.place, End::Remark),
            fate => closing.ends.set(note.place, fate.into()),
        }
    }
    source.ends = closing.ends;
}

/// Where items stand that are refused, and those below them if wanted.
fn places_of_refused(items: &[Item], with_below: bool, places: &mut HashSet<Place>) {
    for item in items {
        let is_refused = item.refused.is_some();
        if is_refused {
            places.extend(item.places());
        }
        if is_refused && with_below {
            all_places(&item.below, places);
        } else {
            places_of_refused(&item.below, with_below, places);
        }
    }
}

fn all_places(items: &[Item], places: &mut HashSet<Place>) {
    for item in items {
        places.extend(item.places());
        all_places(&item.below, places);
    }
}

struct Closing {
    /// Where tables stand that are not in the file.
    refused: HashSet<Place>,
    /// Lines that are said to be left out.
    told: HashSet<Place>,
    ends: Ends,
    notes: Vec<Note>,
}

/// What became of the blocks around.
#[derive(Clone, Copy, Default)]
struct Way {
    /// A whole table is not in the file.
    is_refused: bool,
    /// The block was left out, and with it what was looked at in it all the same.
    is_left: bool,
}

impl Closing {
    fn node(&mut self, node: &Node, way: Way) {
        let Way { is_refused, is_left } = way;
        let is_refused = is_refused || self.refused.contains(&node.place);
        let mut end = node.end.get();
        if is_left || end == End::Open && self.told.contains(&node.place) {
            end = End::LeftOut;
        }
        if end == End::Open && !is_refused {
            let text = format!("`{}`: it means nothing in this place", Plain(&node.word));
            self.notes.push(Note { place: node.place, fate: Fate::LeftOut, text });
            end = End::LeftOut;
        }
        self.ends.set(node.place, if is_refused { End::LeftOut } else { end });
        let way = Way { is_refused, is_left: end == End::LeftOut };
        for below in node.below() {
            self.node(below, way);
        }
    }
}
