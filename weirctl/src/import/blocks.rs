//! Lines as a tree of blocks. Braces that are missing or too many are found here, and told with their line.

use std::cell::Cell;

use super::ends::End;
use super::source::{Fate, Kind, Note, Place, Plain, Source, Word};
use super::words;

/// Blocks within blocks.
const DEPTH_MAX: usize = 64;

/// A word with what stands behind it, and the block that it opens.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) word: String,
    pub(super) values: Vec<Word>,
    pub(super) place: Place,
    pub(super) block: Option<Vec<Node>>,
    /// What becomes of it.
    pub(super) end: Cell<End>,
}

impl Node {
    pub(super) fn new(word: String, values: Vec<Word>, place: Place) -> Self {
        Self { word, values, place, block: None, end: Cell::new(End::Open) }
    }

    /// It ends so, unless it ended worse before.
    pub(super) fn ends(&self, end: End) {
        self.end.set(self.end.get().max(end));
    }

    /// The same for all that is below it.
    pub(super) fn ends_whole(&self, end: End) {
        self.ends(end);
        self.below().iter().for_each(|below| below.ends_whole(end));
    }

    /// The value at this place behind the word.
    pub(super) fn value(&self, at: usize) -> Option<&str> {
        self.values.get(at).map(|value| value.text.as_str())
    }

    pub(super) fn below(&self) -> &[Node] {
        self.block.as_deref().unwrap_or_default()
    }

    /// For people: the word with its values.
    pub(super) fn told(&self) -> String {
        let values = self.values.iter().flat_map(|value| [" ", value.text.as_str()]);
        let whole: String = std::iter::once(self.word.as_str()).chain(values).collect();
        Plain(&whole).to_string()
    }
}

/// Makes the tree.
///
/// # Errors
/// A sentence: nothing can be made of it.
pub(super) fn tree(source: &mut Source) -> Result<Vec<Node>, String> {
    let lines = std::mem::take(&mut source.lines);
    let mut builder =
        Builder { roots: Vec::new(), open: Vec::new(), waiting: None, closed: None, notes: Vec::new() };
    for line in lines {
        let mut words = line.words.into_iter().peekable();
        while let Some(word) = words.next() {
            match word.kind {
                Kind::Open => {
                    if !builder.opens(line.place) {
                        let told = source.told(line.place);
                        return Err(format!("{told}: braces within braces, more than {DEPTH_MAX}"));
                    }
                }
                Kind::Close => builder.closes(line.place),
                Kind::Plain | Kind::Quoted => {
                    let mut values = Vec::new();
                    while let Some(value) = words.next_if(|it| matches!(it.kind, Kind::Plain | Kind::Quoted))
                    {
                        values.push(value);
                    }
                    builder.word(Node::new(word.text, values, line.place));
                }
            }
        }
    }
    builder.end();
    source.notes.append(&mut builder.notes);
    Ok(builder.roots)
}

struct Builder {
    roots: Vec<Node>,
    open: Vec<Node>,
    /// Its brace may still come, on the next line.
    waiting: Option<Node>,
    /// The last brace that closed a block that stands in no other, with that block.
    closed: Option<(Place, String)>,
    notes: Vec<Note>,
}

impl Builder {
    fn note(&mut self, place: Place, text: String) {
        self.notes.push(Note { place, fate: Fate::Broken, text });
    }

    fn put(&mut self, node: Node) {
        match self.open.last_mut() {
            Some(around) => around.block.get_or_insert_default().push(node),
            None => {
                self.is_astray(&node);
                self.roots.push(node);
            }
        }
    }

    /// Tells of the brace that closed too much, where a word stands behind it that belongs into its block.
    fn is_astray(&mut self, node: &Node) {
        match self.closed.take() {
            Some((place, block)) if words::is_inner(&node.word) => {
                let text = format!(
                    "this `}}` closes `{block}`; `{}` and what else follows up to the next block is in none",
                    node.told()
                );
                self.note(place, text);
            }
            closed => self.closed = closed.filter(|_| !words::is_top(&node.word)),
        }
    }

    fn word(&mut self, node: Node) {
        self.settle();
        self.waiting = Some(node);
    }

    /// What waited has no brace.
    fn settle(&mut self) {
        let Some(node) = self.waiting.take() else { return };
        let around = self.open.last().map(|node| node.word.as_str());
        if words::needs_block(&node.word, around) && self.open.len() < DEPTH_MAX {
            let text = format!("no `{{` behind `{}`; read as if it stood there", node.told());
            self.note(node.place, text);
            self.enter(node);
            return;
        }
        self.put(node);
    }

    /// Whether it is not too deep.
    fn opens(&mut self, place: Place) -> bool {
        if self.open.len() >= DEPTH_MAX {
            return false;
        }
        let node = match self.waiting.take() {
            Some(node) => node,
            None => {
                self.note(place, "a `{` with no word before it; the block is left out".to_owned());
                Node::new(String::new(), Vec::new(), place)
            }
        };
        self.enter(node);
        true
    }

    fn enter(&mut self, mut node: Node) {
        let keep = match node.word.as_str() {
            "real_server" => self.open.iter().position(|it| it.word == "real_server"),
            word if words::is_top(word) => self.open.iter().position(|it| words::is_top(&it.word)),
            _ => None,
        };
        while keep.is_some_and(|keep| self.open.len() > keep) {
            if let Some(open) = self.open.pop() {
                let text = format!(
                    "no `}}` for this block before `{}` begins; read as if it stood there",
                    node.told()
                );
                self.note(open.place, text);
                self.put(open);
            }
        }
        node.block = Some(Vec::new());
        self.open.push(node);
    }

    fn closes(&mut self, place: Place) {
        self.settle();
        match self.open.pop() {
            Some(node) => {
                let told = node.told();
                self.put(node);
                if self.open.is_empty() {
                    self.closed = Some((place, told));
                }
            }
            None => self.note(place, "a `}` that closes nothing".to_owned()),
        }
    }

    fn end(&mut self) {
        self.settle();
        while let Some(node) = self.open.pop() {
            let text =
                format!("no `}}` for `{}` up to the end of the file; read as if it stood there", node.told());
            self.note(node.place, text);
            self.put(node);
        }
    }
}
