//! keepalived's language up to words: comments, continued lines, definitions, conditions, sequences, included files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::ends::End;
use super::glob;
use super::letters::{
    balance, closing, definition, is_blank, names_in, reference, sequence_values, split_list, uncommented,
    words,
};
use super::source::{Fate, Kind, Line, Note, Place, Plain, Source};
use crate::patiently;

/// Bytes of a file, and of all that its lines become.
pub(super) const BYTES_MAX: u64 = 16 << 20;
const MADE_MAX: usize = 64 << 20;
/// What each line, note and name of a directory counts besides.
const APIECE: usize = 16;
/// Of one line after definitions are put in.
const LINE_MAX: usize = 4 << 20;
/// Files within files, and definitions within definitions.
const DEPTH_MAX: usize = 32;
/// Files in all, and lines that include some.
const FILES_MAX: usize = 10_000;

/// Reads a file with all that it includes.
///
/// # Errors
/// A sentence: nothing can be made of it.
pub(super) fn read(path: &Path, node: Option<&str>) -> Result<Source, String> {
    let mut lexer = Lexer::new(node);
    let bytes = patiently(path, || weir_config::read_file(path, BYTES_MAX))
        .map_err(|problem| format!("{} can't be read: {problem}", path.display()))?;
    lexer.open.extend(path.canonicalize().ok());
    lexer.text(path, &bytes)?;
    Ok(lexer.source)
}

/// Reads a text that comes from somewhere else than a file.
///
/// # Errors
/// As [`read`].
pub(super) fn read_text(name: &Path, bytes: &[u8], node: Option<&str>) -> Result<Source, String> {
    let mut lexer = Lexer::new(node);
    lexer.text(name, bytes)?;
    Ok(lexer.source)
}

struct Lexer<'a> {
    /// keepalived's `--config-id`.
    node: Option<&'a str>,
    definitions: HashMap<String, String>,
    source: Source,
    /// Files being read, by their real names.
    open: Vec<PathBuf>,
    made: usize,
    includes: usize,
    /// Braces of a block that belongs to another node and was not closed yet.
    skipped: usize,
    /// Only its head was read: that of the same block for this node may follow.
    is_head: bool,
    /// The head of a block was taken because it is this node's: those of others may follow.
    has_head: bool,
}

impl<'a> Lexer<'a> {
    fn new(node: Option<&'a str>) -> Self {
        let definitions =
            [("_HASH", "#"), ("_BANG", "!")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            node,
            definitions: definitions.into(),
            source: Source::default(),
            open: Vec::new(),
            made: 0,
            includes: 0,
            skipped: 0,
            is_head: false,
            has_head: false,
        }
    }

    fn note(&mut self, place: Place, fate: Fate, text: String) {
        self.made += text.len() + APIECE;
        self.source.notes.push(Note { place, fate, text });
    }

    /// Counts what was read or made.
    fn count(&mut self, bytes: usize, place: Place) -> Result<(), String> {
        self.made += bytes;
        if self.made <= MADE_MAX {
            return Ok(());
        }
        let told = self.source.told(place);
        let most = MADE_MAX >> 20;
        Err(format!("{told}: definitions, sequences and included files make more than {most} MiB of it"))
    }

    /// A whole file.
    fn text(&mut self, path: &Path, bytes: &[u8]) -> Result<(), String> {
        let file = self.source.files.len();
        self.source.files.push(path.display().to_string());
        let file = u16::try_from(file).unwrap_or(u16::MAX);
        // Comments and empty lines, too.
        self.count(bytes.len(), Place { file, line: 1 })?;
        if let Some(at) = bytes.iter().position(|&byte| byte == 0) {
            let line = bytes[..at].iter().filter(|&&byte| byte == b'\n').count() + 1;
            let name = path.display();
            return Err(format!(
                "{name}: line {line} holds a byte of 0: this is no text, and no keepalived.conf"
            ));
        }
        let bytes = match bytes.strip_prefix(b"\xef\xbb\xbf") {
            Some(behind) => {
                let text = "the file begins with a mark of its byte order, which keepalived takes for a part of the first word; it was passed over";
                self.note(Place { file, line: 1 }, Fate::Remark, text.to_owned());
                behind
            }
            None => bytes,
        };
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(problem) => {
                let line = bytes[..problem.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count() + 1;
                let place = Place { file, line: line as u32 };
                let text = "the file is not UTF-8 here; it was read as Latin-1".to_owned();
                self.note(place, Fate::Remark, text);
                bytes.iter().map(|&byte| char::from(byte)).collect()
            }
        };
        let directory = path.parent().unwrap_or(Path::new(".")).to_owned();
        let mut lines = text.split('\n').zip(1_u32..);
        while let Some((line, number)) = lines.next() {
            let place = Place { file, line: number };
            let (line, mut goes_on) = uncommented(line);
            let mut line = line.trim_matches(is_blank).to_owned();
            if line.is_empty() {
                continue;
            }
            // Of a definition each line stays one.
            let between = if definition(&line).is_some() { '\n' } else { ' ' };
            while goes_on {
                let Some((more, _)) = lines.next() else { break };
                let more = uncommented(more);
                line.push(between);
                line += more.0.trim_matches(is_blank);
                goes_on = more.1;
            }
            if let Some(mark) = ["{{", "{%"].into_iter().find(|mark| line.contains(mark)) {
                return Err(template(&self.source, place, mark));
            }
            if line.split("${").skip(1).any(|rest| rest.split('}').next().is_some_and(|it| it.contains(":-")))
            {
                return Err(template(&self.source, place, "${...:-...}"));
            }
            self.line(&line, place, (&directory, 0))?;
        }
        Ok(())
    }

    /// One line, continued ones joined.
    fn line(&mut self, line: &str, place: Place, at: (&Path, usize)) -> Result<(), String> {
        let (directory, depth) = at;
        self.count(line.len() + APIECE, place)?;
        if self.skipped > 0 && !(self.is_head && line.starts_with('@')) {
            self.is_head = false;
            self.skipped = balance(line, self.skipped);
            if line.contains(|it: char| !is_blank(it) && !"{}".contains(it)) {
                self.source.ends.set(place, End::LeftOut);
            }
            return Ok(());
        }
        self.has_head &= line.starts_with('@');
        if depth > DEPTH_MAX {
            let text = "definitions refer to each other without end".to_owned();
            self.note(place, Fate::LeftOut, text);
            return Ok(());
        }
        if let Some(rest) = line.strip_prefix('@') {
            return self.condition(rest, place, at);
        }
        if let Some((name, value)) = definition(line) {
            self.definitions.insert(name.to_owned(), value.to_owned());
            self.source.ends.set(place, End::Carried);
            return Ok(());
        }
        if line.starts_with("~SEQ") || line.starts_with("~LST") {
            return self.sequence(line, place, at);
        }
        let replaced = self.replaced(line, directory).map_err(|problem| {
            let told = self.source.told(place);
            format!("{told}: {problem}")
        })?;
        if let Some(replaced) = replaced {
            for line in
                replaced.split('\n').map(|line| line.trim_matches(is_blank)).filter(|line| !line.is_empty())
            {
                self.line(line, place, (directory, depth + 1))?;
            }
            return Ok(());
        }
        let word = line.split_ascii_whitespace().next().unwrap_or_default();
        if matches!(word, "include" | "includer" | "includem" | "includew" | "includeb" | "includea") {
            let pattern = line[word.len()..].trim().trim_matches('"').to_owned();
            self.source.ends.set(place, End::Carried);
            return self.include(&pattern, place, directory);
        }
        if let Some(name) = names_in(line).next() {
            let text = format!("`${}` is not defined; it is taken as it stands", Plain(name));
            self.note(place, Fate::Remark, text);
        }
        let (words, is_closed) = words(line);
        if let [first, name, ..] = &words[..]
            && first.text == "instance"
        {
            self.definitions.insert("_INSTANCE".to_owned(), name.text.clone());
        }
        if !is_closed {
            let text = "a quotation mark is not closed; the rest of the line is taken as quoted".to_owned();
            self.note(place, Fate::Broken, text);
        }
        if words.iter().any(|word| matches!(word.kind, Kind::Plain | Kind::Quoted)) {
            self.source.ends.set(place, End::Open);
        }
        self.source.lines.push(Line { place, words });
        Ok(())
    }

    /// `@id line`, `@^id line`: for the node of this name, or for all others.
    fn condition(&mut self, rest: &str, place: Place, at: (&Path, usize)) -> Result<(), String> {
        let (is_others, rest) = rest.strip_prefix('^').map_or((false, rest), |rest| (true, rest));
        let (name, line) = rest.split_once(is_blank).unwrap_or((rest, ""));
        let is_ours = match self.node {
            Some(node) if (node == name) != is_others => true,
            Some(node) => {
                let text = format!("lines of other nodes than `{}`", Plain(node));
                self.note(place, Fate::LeftOut, text);
                false
            }
            // It is left out with its block.
            None if self.skipped > 0 && balance(line, 0) == 0 => false,
            None => {
                let left = if is_others { "taken" } else { "left out" };
                let name = Plain(name);
                let text = format!(
                    "lines of `@{}{name}` are {left}; --config-id says for which node the file is",
                    if is_others { "^" } else { "" }
                );
                self.note(place, if is_others { Fate::Remark } else { Fate::LeftOut }, text);
                is_others
            }
        };
        let opens = balance(line, 0);
        if self.skipped > 0 && opens == 0 {
            // A line of the block that is left out.
            self.is_head = false;
            self.source.ends.set(place, End::LeftOut);
            return Ok(());
        }
        if is_ours {
            self.skipped = 0;
            self.source.ends.set(place, End::Carried);
            self.line(line.trim_matches(is_blank), place, (at.0, at.1 + 1))?;
            self.has_head = opens > 0;
        } else if opens > 0 && !self.has_head {
            (self.skipped, self.is_head) = (opens, true);
        }
        Ok(())
    }

    /// `~SEQ(var, start, step, end) line`, `~SEQx`, `~LST(var, a, b) line`: the line once for each value.
    fn sequence(&mut self, line: &str, place: Place, at: (&Path, usize)) -> Result<(), String> {
        let Some((head, rest)) = line.split_once('(').and_then(|(head, rest)| {
            let (arguments, rest) = closing(rest)?;
            Some(((head.trim(), arguments), rest.trim()))
        }) else {
            self.note(place, Fate::LeftOut, "a sequence without its parentheses".to_owned());
            return Ok(());
        };
        let (head, arguments) = head;
        let arguments = self.replaced(arguments, at.0)?.unwrap_or_else(|| arguments.to_owned());
        let arguments = split_list(&arguments);
        let Some((names, values)) = sequence_values(head, &arguments) else {
            self.note(place, Fate::LeftOut, format!("`{}` is no sequence that can be counted", Plain(line)));
            return Ok(());
        };
        if values.is_empty() || rest.is_empty() {
            let text = format!("`{}` repeats nothing", Plain(line));
            self.note(place, Fate::LeftOut, text);
        }
        let before: Vec<Option<String>> =
            names.iter().map(|name| self.definitions.get(name).cloned()).collect();
        for value in values {
            for (name, value) in names.iter().zip(value) {
                self.definitions.insert(name.clone(), value);
            }
            self.line(rest, place, (at.0, at.1 + 1))?;
        }
        for (name, value) in names.into_iter().zip(before) {
            match value {
                Some(value) => self.definitions.insert(name, value),
                None => self.definitions.remove(&name),
            };
        }
        Ok(())
    }

    /// The line with the values of its definitions; `None`: it has none.
    fn replaced(&self, line: &str, directory: &Path) -> Result<Option<String>, String> {
        if !line.contains('$') {
            return Ok(None);
        }
        let (mut made, mut rest, mut is_other) = (String::new(), line, false);
        while let Some(at) = rest.find('$') {
            made += &rest[..at];
            let (name, behind) = reference(&rest[at..]);
            match name.and_then(|name| self.value(name, directory)) {
                Some(value) => {
                    made += &value;
                    is_other = true;
                }
                None => made += &rest[at..rest.len() - behind.len()],
            }
            if made.len() > LINE_MAX {
                return Err(format!("definitions make more than {} MiB of this line", LINE_MAX >> 20));
            }
            rest = behind;
        }
        made += rest;
        Ok(is_other.then_some(made))
    }

    fn value(&self, name: &str, directory: &Path) -> Option<String> {
        if let Some(value) = self.definitions.get(name) {
            return Some(value.clone());
        }
        if name == "_PWD" {
            let directory = std::path::absolute(directory.join(".")).ok()?;
            return Some(directory.display().to_string());
        }
        if name == "_INSTANCE" {
            return Some(String::new());
        }
        if let Some(bounds) = name.strip_prefix("_RANDOM") {
            let least = bounds.split_ascii_whitespace().next().unwrap_or("0");
            return Some(least.to_owned());
        }
        std::env::var(name.strip_prefix("_ENV")?.trim()).ok()
    }

    fn include(&mut self, pattern: &str, place: Place, directory: &Path) -> Result<(), String> {
        self.includes += 1;
        if self.includes > FILES_MAX {
            let text = format!("more than {FILES_MAX} lines of `include`; this one is not looked for");
            self.note(place, Fate::LeftOut, text);
            return Ok(());
        }
        let found = patiently(Path::new(pattern), || glob::files(directory, pattern));
        let shown = Plain(pattern).to_string();
        self.count(found.looked * APIECE, place)?;
        if found.is_more {
            let many = glob::MANY;
            let text = format!(
                "`{shown}` finds more than {many} files or looks into more directories; the others are not read"
            );
            self.note(place, Fate::LeftOut, text);
        }
        if found.paths.is_empty() {
            let text = format!("no file `{shown}` is there to be included");
            self.note(place, Fate::LeftOut, text);
        }
        for path in found.paths {
            self.count(APIECE, place)?;
            let name = path.display().to_string();
            let real = path.canonicalize().unwrap_or_else(|_| path.clone());
            if self.open.contains(&real) {
                let text = format!("{} includes itself; it is not read again", Plain(&name));
                self.note(place, Fate::LeftOut, text);
                continue;
            }
            if self.open.len() > DEPTH_MAX || self.source.files.len() >= FILES_MAX {
                let text = format!("{} is not read: too many files include each other", Plain(&name));
                self.note(place, Fate::LeftOut, text);
                continue;
            }
            match patiently(&path, || weir_config::read_file(&path, BYTES_MAX)) {
                Ok(bytes) => {
                    self.open.push(real);
                    self.text(&path, &bytes)?;
                    self.open.pop();
                }
                Err(problem) => {
                    let text = format!("{} can't be read: {problem}", Plain(&name));
                    self.note(place, Fate::LeftOut, text);
                }
            }
        }
        Ok(())
    }
}

fn template(source: &Source, place: Place, mark: &str) -> String {
    let told = source.told(place);
    format!(
        "{told} holds `{mark}`: this is a template of a keepalived.conf. Have the program that it is for fill it in, and import what that writes"
    )
}
