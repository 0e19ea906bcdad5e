//! What is read: lines in words, each with its place, and what was noticed on the way.

use std::fmt;

use super::ends::Ends;

/// A line of a file, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    /// Its place in [`Source::files`].
    pub(super) file: u16,
    /// From 1 on.
    pub(super) line: u32,
}

/// What a word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    Quoted,
    Open,
    Close,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) struct Line {
    pub(super) place: Place,
    pub(super) words: Vec<Word>,
}

/// How a line of the source ended, when it was not just carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    /// It is in the file, and something is to be known.
    Remark,
    /// It is read in some way, though the language has no such thing.
    Broken,
    /// It is not in the file.
    LeftOut,
}

#[derive(Debug, Clone)]
pub(super) struct Note {
    pub(super) place: Place,
    pub(super) fate: Fate,
    pub(super) text: String,
}

/// A file with those it includes.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) files: Vec<String>,
    pub(super) lines: Vec<Line>,
    pub(super) notes: Vec<Note>,
    pub(super) ends: Ends,
}

impl Source {
    /// A place as people write it: the file only where there are several.
    pub(super) fn told(&self, place: Place) -> String {
        let Place { file, line } = place;
        match self.files.get(usize::from(file)) {
            Some(name) if self.files.len() > 1 => format!("{}:{line}", Plain(name)),
            _ => format!("line {line}"),
        }
    }
}

/// Text of a file for a terminal, which would obey what a file holds by mistake, and for a comment, which ends with its line.
pub(super) struct Plain<'a>(pub(super) &'a str);

impl Plain<'_> {
    /// It is shown as it is.
    pub(super) fn is_shown_whole(&self) -> bool {
        self.0.len() <= SHOWN_MAX && !self.0.chars().any(char::is_control)
    }
}

/// Letters of a word that are shown.
const SHOWN_MAX: usize = 120;

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_shown_whole() {
            return f.write_str(self.0);
        }
        for letter in self.0.chars().take(SHOWN_MAX) {
            match letter.is_control() {
                true => write!(f, "{}", letter.escape_default())?,
                false => write!(f, "{letter}")?,
            }
        }
        if self.0.chars().nth(SHOWN_MAX).is_some() { write!(f, "...") } else { Ok(()) }
    }
}
