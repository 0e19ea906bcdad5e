//! Problems of a file, shown at their place in its text.
//!
//! A problem says what is wrong, where, and what to write instead. The report holds the text so that it
//! can be rendered wherever it is needed: on the terminal by `--check`, line by line in the log at reload.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::model::health::TlsIdentity;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Padding, Renderer, Snippet};

use crate::secret;

/// Problems rendered at most. Who has more of them will not read them all, and a broken generator can
/// produce one per line of a large file.
const SHOWN_MAX: usize = 200;

/// Bytes of a line shown at most; the terminal cuts further.
const LINE_BYTES_MAX: usize = 2000;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// weir does not start with, or reload, this file.
    Error,
    /// weir starts, and does something else than a reader of the file may expect.
    Warning,
}

/// Something wrong with the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Whether it stops weir.
    pub severity: Severity,
    /// What is wrong, in one clause without a full stop.
    pub message: String,
    /// Where. `None`: the problem is with the file as a whole.
    pub place: Option<Place>,
    /// Another place that has to do with it, such as the first of two duplicates.
    pub related: Option<Place>,
    /// What to write instead.
    pub help: Option<String>,
    /// It is a problem only where this host lacks something.
    pub(crate) need: Option<Need>,
}

/// What a file needs of the host it is served on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Need {
    /// A file that holds certificates in PEM.
    Certificates(PathBuf),
    /// A file of authorities at one of the places where systems keep them.
    SystemAuthorities,
    /// The key of a certificate. That the certificate is there is a need of its own.
    Key(TlsIdentity),
    /// A file of bearer tokens that only its owner can read.
    Tokens(PathBuf),
    /// A program that the account of programs may run.
    Program(PathBuf),
    /// A program that this user may run, with this group or its own.
    ProgramOf(PathBuf, String, Option<String>),
    /// A FIFO, or a place where one can be made.
    Fifo(PathBuf),
    /// A user, by name or number, that is not root.
    User(String),
    /// A group of the same.
    Group(String),
    /// A user that weir becomes, that is not root.
    OwnUser(String),
    /// A group of the same.
    OwnGroup(String),
}

impl Need {
    /// An error at this place, unless the host has it.
    pub(crate) fn at(self, span: Range<usize>) -> Problem {
        let message = match &self {
            Need::Certificates(path) => format!("no certificates in {}", path.display()),
            Need::SystemAuthorities => "no authorities of this system".to_owned(),
            Need::Key(it) => format!("no key of {} in {}", it.certificate.display(), it.key.display()),
            Need::Tokens(path) => format!("no tokens in {}", path.display()),
            Need::Fifo(path) => format!("{} can't be written to", path.display()),
            Need::Program(path) | Need::ProgramOf(path, ..) => {
                let command = path.display().to_string();
                match secret::program_of(&command) {
                    "" => "this program can't be run".to_owned(),
                    // Whoever wrote it meant the rest for arguments, which may be secrets.
                    program if program.len() < command.len() => format!("{program}... can't be run"),
                    program => format!("{program} can't be run"),
                }
            }
            Need::User(name) => format!("user {} can't run programs", quoted(name)),
            Need::Group(name) => format!("group {} can't run programs", quoted(name)),
            Need::OwnUser(name) => format!("weir can't become user {}", quoted(name)),
            Need::OwnGroup(name) => format!("weir can't become group {}", quoted(name)),
        };
        Problem { need: Some(self), ..Problem::error(message).at(span, String::new()) }
    }
}

impl Need {
    /// What is needed: "the program /usr/lib/site/check". Of what may be arguments or a query nothing is told.
    pub fn in_words(&self) -> String {
        match self {
            Need::Certificates(path) => format!("the file {}", path.display()),
            Need::SystemAuthorities => "the file of this system's authorities".to_owned(),
            Need::Key(identity) => format!("the file {}", identity.key.display()),
            Need::Tokens(path) => format!("the file {}", path.display()),
            Need::Fifo(path) => format!("the FIFO {}", path.display()),
            Need::Program(path) | Need::ProgramOf(path, ..) => {
                match secret::program_of(&path.display().to_string()) {
                    "" => "a program".to_owned(),
                    program => format!("the program {program}"),
                }
            }
            Need::User(name) | Need::OwnUser(name) => format!("the user {}", quoted(name)),
            Need::Group(name) | Need::OwnGroup(name) => format!("the group {}", quoted(name)),
        }
    }
}

/// A place in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Bytes of the text.
    pub span: Range<usize>,
    /// What is there, shown beside the marked text. May be empty.
    pub label: String,
}

impl Problem {
    pub(crate) fn error(message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            place: None,
            related: None,
            help: None,
            need: None,
        }
    }

    pub(crate) fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message) }
    }

    pub(crate) fn at(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.place = Some(Place { span, label: label.into() });
        self
    }

    /// What the host must lack for it to be one.
    pub fn need(&self) -> Option<&Need> {
        self.need.as_ref()
    }

    /// What is wrong, why, and what to write instead, on one line: `message: label (help: ...)`.
    pub fn sentence(&self) -> String {
        let mut line = self.message.clone();
        match &self.place {
            Some(place) if !place.label.is_empty() => line += &format!(": {}", place.label),
            _ => {}
        }
        if let Some(help) = &self.help {
            line += &format!(" (help: {help})");
        }
        line
    }

    /// Hides what it quotes of the secret that it is about.
    fn hide(&mut self, text: &str, secrets: &[Range<usize>]) {
        let Some(place) = &mut self.place else { return };
        let (start, end) = (place.span.start, place.span.end.max(place.span.start + 1));
        let first = secrets.partition_point(|secret| secret.end <= start);
        for secret in secrets[first..].iter().take_while(|secret| secret.start < end) {
            let Some(secret) = text.get(secret.clone()) else { continue };
            place.label = secret::hidden_in(&place.label, secret);
            self.message = secret::hidden_in(&self.message, secret);
            self.help = self.help.as_deref().map(|help| secret::hidden_in(help, secret));
        }
    }

    /// Each place to where `to` says its bytes are.
    pub(crate) fn move_places(&mut self, to: impl Fn(usize) -> usize) {
        for place in self.place.iter_mut().chain(&mut self.related) {
            place.span = to(place.span.start)..to(place.span.end);
        }
    }

    pub(crate) fn related(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.related = Some(Place { span, label: label.into() });
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// All problems of one file, in the order of its text.
#[derive(Debug, Clone)]
pub struct Report {
    name: String,
    /// With its secrets hidden.
    text: Arc<str>,
    /// Byte offset of the start of each line.
    lines: Vec<usize>,
    problems: Vec<Problem>,
}

impl Report {
    pub(crate) fn new(name: &str, text: &str, mut problems: Vec<Problem>) -> Self {
        let secrets = if problems.is_empty() { Vec::new() } else { secret::spans(text) };
        for problem in &mut problems {
            problem.hide(text, &secrets);
        }
        let place =
            |problem: &Problem| problem.place.as_ref().map(|place| (place.span.start, place.span.end));
        // As a rule they are: a sort would copy a hundred thousand.
        if !problems.is_sorted_by_key(place) {
            problems.sort_by_key(place);
        }
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect();
        let text = if secrets.is_empty() { text.into() } else { secret::hidden(text, &secrets).into() };
        Self { name: name.to_owned(), text, lines, problems }
    }

    /// With more problems.
    pub(crate) fn and(self, more: Vec<Problem>) -> Self {
        let problems = self.problems.into_iter().chain(more).collect();
        Self::new(&self.name, &self.text, problems)
    }

    /// Adds problems that were found later.
    pub(crate) fn add(&mut self, problems: Vec<Problem>) {
        if !problems.is_empty() {
            let all = self.problems.drain(..).chain(problems).collect();
            // The text of a report without problems is not searched for secrets.
            *self = Self::new(&self.name, &self.text, all);
        }
    }

    /// No problem at all.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// How many errors it holds.
    pub fn errors(&self) -> usize {
        self.problems.iter().filter(|p| p.severity == Severity::Error).count()
    }

    /// How many warnings it holds.
    pub fn warnings(&self) -> usize {
        self.problems.len() - self.errors()
    }

    /// Every problem, in the order of the text; those without a place come first.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Line and column of a byte of the text, both counted from 1; the column in characters.
    pub fn line_column(&self, byte: usize) -> (usize, usize) {
        let byte = self.boundary(byte);
        let line = self.lines.partition_point(|&start| start <= byte);
        let start = self.lines[line - 1];
        (line, self.text[start..byte].chars().count() + 1)
    }

    /// The problems as lines for a log, the first of them at most as `render` shows them:
    /// `weir.toml:3:8: message: label (help: ...)`.
    pub fn one_liners(&self) -> impl Iterator<Item = (Severity, String)> + '_ {
        self.shown().map(|problem| (problem.severity, self.one_liner(problem)))
    }

    /// The first `SHOWN_MAX` problems. Where there are more, errors only: one that is not shown would leave
    /// its reader without the reason.
    fn shown(&self) -> impl Iterator<Item = &Problem> {
        let errors_only = self.problems.len() > SHOWN_MAX && self.errors() > 0;
        let shown = self.problems.iter().filter(move |p| !errors_only || p.severity == Severity::Error);
        shown.take(SHOWN_MAX)
    }

    fn one_liner(&self, problem: &Problem) -> String {
        let mut line = self.name.clone();
        if let Some(place) = &problem.place {
            let (row, column) = self.line_column(place.span.start);
            line += &format!(":{row}:{column}");
        }
        format!("{line}: {}", problem.sentence())
    }

    /// The report for people: every problem with its place in the text, the way rustc shows one. With
    /// `color` it holds ANSI escapes.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut out = String::new();
        for problem in self.shown() {
            out += &self.render_one(&renderer, problem);
            out.push('\n');
            if problem.place.is_some() {
                out.push('\n');
            }
        }
        if self.problems.len() > SHOWN_MAX {
            out += &format!("{} of {} problems are shown\n", self.shown().count(), self.problems.len());
        }
        if self.problems.len() > 1 {
            out += &format!("{}: {}\n", quoted_path(&self.name), self.tally());
        }
        out
    }

    /// "2 errors, 1 warning".
    pub fn tally(&self) -> String {
        let count = |n: usize, what: &str| match n {
            0 => None,
            1 => Some(format!("1 {what}")),
            n => Some(format!("{n} {what}s")),
        };
        let parts = [count(self.errors(), "error"), count(self.warnings(), "warning")];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    fn render_one(&self, renderer: &Renderer, problem: &Problem) -> String {
        let level = match problem.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_title(level.primary_title(problem.message.as_str()));
        match (&problem.place, &problem.related) {
            (Some(place), Some(related)) if self.fit_one_line(place, related) => {
                let places = [(AnnotationKind::Primary, place), (AnnotationKind::Context, related)];
                group = self.excerpt(group, &places);
            }
            (Some(place), related) => {
                group = self.excerpt(group, &[(AnnotationKind::Primary, place)]);
                if let Some(related) = related {
                    group = self.excerpt(group, &[(AnnotationKind::Context, related)]);
                }
            }
            (None, _) => {}
        }
        if let Some(help) = &problem.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        renderer.render(&[group])
    }

    /// Whether two places are on one line that is shown whole.
    fn fit_one_line(&self, place: &Place, related: &Place) -> bool {
        let line = self.line_of(place);
        line == self.line_of(related) && self.line_end(line) - self.lines[line] <= LINE_BYTES_MAX
    }

    /// Adds the line that holds `places`, which are marked in it. annotate-snippets splits all the source it
    /// is given into lines, which for each problem of a large file would take quadratic time; so it is given
    /// that line, and of a long one the part around the first place.
    fn excerpt<'r>(&'r self, group: Group<'r>, places: &[(AnnotationKind, &'r Place)]) -> Group<'r> {
        let Some((_, first)) = places.first() else { return group };
        let line = self.line_of(first);
        let (start, end) = (self.lines[line], self.line_end(line));
        let at = self.boundary(first.span.start).min(end);
        let (from, to) = match end - start {
            0..=LINE_BYTES_MAX => (start, end),
            _ => (
                self.boundary(at.saturating_sub(LINE_BYTES_MAX / 2)).max(start),
                self.boundary(at + LINE_BYTES_MAX / 2).min(end),
            ),
        };
        let marks = places.iter().map(|(kind, place)| {
            let first = self.boundary(place.span.start).clamp(from, to);
            let last = self.boundary(place.span.end).clamp(first, to);
            let label = (!place.label.is_empty()).then_some(place.label.as_str());
            kind.span(first - from..last - from).label(label)
        });
        let snippet = Snippet::source(&self.text[from..to]).line_start(line + 1).annotations(marks);
        let path = quoted_path(&self.name);
        if from == start {
            return group.element(snippet.path(path));
        }
        let (row, column) = self.line_column(at);
        group.element(Origin::path(path).line(row).char_column(column)).element(Padding).element(snippet)
    }

    /// Index into `lines` of the line a place starts on.
    fn line_of(&self, place: &Place) -> usize {
        self.lines.partition_point(|&start| start <= self.boundary(place.span.start)) - 1
    }

    /// Where a line's text ends, its line break aside.
    fn line_end(&self, line: usize) -> usize {
        let start = self.lines[line];
        let end = self.lines.get(line + 1).copied().unwrap_or(self.text.len());
        start + self.text[start..end].trim_end_matches(['\n', '\r']).len()
    }

    /// The nearest place at or before `byte` that is within the text and between two characters.
    fn boundary(&self, byte: usize) -> usize {
        self.text.floor_char_boundary(byte)
    }
}

/// The report without colors.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

impl std::error::Error for Report {}

/// Text of the file inside a message: in backticks, escaped, and cut where it gets long.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN_CHARS: usize = 48;
    let cut: String = text.chars().take(SHOWN_CHARS).collect();
    let dots = if cut.len() < text.len() { "..." } else { "" };
    // A backtick would end it.
    let escaped = cut.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'");
    format!("`{}{dots}`", escaped.replace('`', "'"))
}

/// A file's name for a terminal: without control characters.
fn quoted_path(name: &str) -> String {
    name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str, problems: Vec<Problem>) -> Report {
        Report::new("weir.toml", text, problems)
    }

    #[test]
    fn a_problem_is_shown_at_its_place_with_what_to_write() {
        let text = "[[virtual_server]]\naddress = \"10.0.0.300\"\n";
        let problem =
            Problem::error("invalid address").at(29..41, "octet 300 is out of range").help("fix it");
        assert_eq!(
            report(text, vec![problem]).to_string(),
            "error: invalid address\n \
             --> weir.toml:2:11\n  \
             |\n\
             2 | address = \"10.0.0.300\"\n  \
             |           ^^^^^^^^^^^^ octet 300 is out of range\n  \
             |\n  \
             = help: fix it"
        );
    }

    #[test]
    fn lines_and_columns_count_from_one_in_characters() {
        let report = report("äb\r\ncd", vec![]);
        assert_eq!(report.line_column(0), (1, 1));
        assert_eq!(report.line_column(1), (1, 1));
        assert_eq!(report.line_column(2), (1, 2));
        assert_eq!(report.line_column(5), (2, 1));
        assert_eq!(report.line_column(1000), (2, 3));
    }

    #[test]
    fn a_place_outside_the_text_does_not_panic() {
        for span in [0..0, 3..3, 5..500, 500..501, 1..2] {
            let problem = Problem::error("x").at(span.clone(), "y").related(2..9, "z");
            assert!(report("ä\n", vec![problem.clone()]).render(true).contains('y'));
            assert!(report("", vec![problem]).render(false).contains('y'));
        }
    }

    #[test]
    fn a_long_line_is_shown_around_the_place() {
        let text = format!("x\nname = \"{}marked{}\"\n", "ä".repeat(2996), " ".repeat(9000));
        let problem = Problem::error("odd").at(6002..6008, "here").related(2..4, "there");
        let shown = report(&text, vec![problem]).to_string();
        assert!(shown.contains("weir.toml:2:3005"), "{shown}");
        assert!(shown.contains("weir.toml:2:1\n"), "{shown}");
        assert!(shown.contains("marked") && shown.contains("^^^^^^ here"), "{shown}");
        assert!(shown.len() < 2000, "{shown}");
    }

    #[test]
    fn a_log_line_holds_place_message_and_help() {
        let problem = Problem::warning("odd").at(2..3, "here").help("change it");
        let lines: Vec<_> = report("a\nb\n", vec![problem]).one_liners().collect();
        assert_eq!(lines, [(Severity::Warning, "weir.toml:2:1: odd: here (help: change it)".to_owned())]);
    }

    #[test]
    fn many_problems_are_cut_and_errors_are_not_lost_behind_warnings() {
        let mut problems = vec![Problem::warning("w").at(0..1, ""); 1000];
        problems.push(Problem::error("the error").at(1..2, ""));
        let text = report("ab\n", problems).render(false);
        assert!(text.contains("the error") && text.contains("1 error, 1000 warnings"), "{text}");
    }

    #[test]
    fn text_of_the_file_can_not_break_out_of_a_message() {
        assert_eq!(quoted("a\n\u{1b}[0m\"b"), "`a\\n\\u{1b}[0m\"b`");
        assert_eq!(quoted(&"x".repeat(100)).len(), 48 + 5);
    }
}
