//! From a path or a text to the model or the report.
//!
//! In stages, each of which reports all it finds: TOML's syntax, unknown keys, types and values. Only a
//! text that is no TOML ends it early, for its tree has holes.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use toml::de::DeTable;

use crate::file::{read_any, read_file};
use crate::headers::{self, Mended};
use crate::model::{Config, Timeouts};
use crate::report::{Need, Problem, Report, Severity};
use crate::source::Source;
use crate::validate::{Asked, Way};
use crate::{keepalived, keys, schema, slices, syntax, validate};

/// Bytes of a file at most: 100,000 real servers take about 10 MB.
pub const FILE_BYTES_MAX: u64 = 16 << 20;

/// Larger texts are searched for their first syntax error only: one that is no TOML at all can hold one
/// in each of its bytes, and each takes memory.
const RECOVERY_BYTES_MAX: usize = 1 << 20;

/// A file that weir can serve.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// What somebody should look at all the same. Holds no errors, and is often empty.
    pub warnings: Report,
    /// Problems that are none where the host has what the file needs.
    unmet: Vec<Problem>,
    /// Its tables as they are written: what edits of it are made against, by an [`Editor`](crate::edit::Editor).
    pub source: Source,
    /// Real servers that the kernel's sockets have to reach.
    asked: Vec<Asked>,
}

impl Loaded {
    /// Holds what the file needs of this host against `has`, which is asked once for each and says in words what is wrong. Nothing
    /// else of this crate looks at the host.
    ///
    /// # Errors
    /// The report holds what is missing, and the warnings.
    pub fn examine(mut self, has: impl Fn(&Need) -> Result<(), String>) -> Result<Self, Report> {
        let mut known: HashMap<Need, Result<(), String>> = HashMap::new();
        let mut missing = Vec::new();
        for mut problem in std::mem::take(&mut self.unmet) {
            let Some(need) = problem.need.take() else { continue };
            if let Err(why) = known.entry(need).or_insert_with_key(&has) {
                if let Some(place) = &mut problem.place {
                    place.label.clone_from(why);
                }
                missing.push(problem);
            }
        }
        if missing.is_empty() {
            return Ok(self);
        }
        Err(self.warnings.and(missing))
    }

    /// Adds warnings of health checks that have no way from this machine, of which the file does not tell.
    pub fn look_around(&mut self, way_to: impl Fn(IpAddr) -> Way) {
        let without = self.asked.iter().filter_map(|asked| asked.problem(way_to(asked.address)));
        let problems: Vec<Problem> = without.collect();
        self.warnings.add(problems);
    }

    /// Adds a warning if everybody may read the file, by its mode, and it holds passwords.
    pub fn look_at_mode(&mut self, mode: u32) {
        /// Others may read it.
        const OTHERS_READ: u32 = 0o004;
        if mode & OTHERS_READ == 0 || !self.config.has_secrets() {
            return;
        }
        let problem =
            Problem::warning("everybody on this machine may read this file, and it holds passwords");
        let help = format!(
            "its mode is {:04o}: write it so that only weir and its operators can, such as with 0640",
            mode & 0o777
        );
        self.warnings.add(vec![problem.help(help)]);
    }
}

/// Reads a regular file.
///
/// # Errors
/// The report holds every problem: a file that can't be read (one error without a place), or all that is
/// wrong in it, warnings included.
pub fn load(path: &Path) -> Result<Loaded, Report> {
    read_bytes(path, read_file(path, FILE_BYTES_MAX))
}

/// As [`load`], for who has nothing else to do: takes a pipe as well, which has to come to its end within a minute.
///
/// # Errors
/// As [`load`].
pub fn load_any(path: &Path) -> Result<Loaded, Report> {
    read_bytes(path, read_any(path, FILE_BYTES_MAX))
}

fn read_bytes(path: &Path, bytes: io::Result<Vec<u8>>) -> Result<Loaded, Report> {
    let name = path.display().to_string();
    let text = text(path, bytes).map_err(|problem| Report::new(&name, "", vec![*problem]))?;
    parse(&name, &text)
}

/// Reads the text of a file; `name` is what reports call it.
///
/// # Errors
/// The report holds every problem of the text, warnings included; at least one is an error.
pub fn parse(name: &str, text: &str) -> Result<Loaded, Report> {
    let mut problems = Vec::new();
    let read = read_text(text, &mut problems);
    let unmet = problems.extract_if(.., |problem| problem.need.is_some()).collect();
    let report = Report::new(name, text, problems);
    match read {
        Some(Read { config, asked, source }) if report.errors() == 0 => {
            Ok(Loaded { config, warnings: report, unmet, source, asked })
        }
        _ => Err(report),
    }
}

/// As `read_text`, the model alone.
#[cfg(test)]
pub(crate) fn config(text: &str, problems: &mut Vec<Problem>) -> Option<Config> {
    read_text(text, problems).map(|read| read.config)
}

/// What was read of a text.
struct Read {
    config: Config,
    asked: Vec<Asked>,
    source: Source,
}

/// Reads a text that weir wrote itself, without a search for what its writer may have meant.
pub(crate) fn read(text: &str, problems: &mut Vec<Problem>) -> Option<Config> {
    match DeTable::parse(text) {
        Ok(tree) => read_tree(text, (tree.into_inner(), Vec::new()), problems).map(|read| read.config),
        Err(error) => {
            problems.extend(syntax::problems(text, vec![error]));
            None
        }
    }
}

/// The timeouts of a text that has nothing else, over others.
pub(crate) fn timeouts(text: &str, others: &Timeouts, problems: &mut Vec<Problem>) -> Option<Timeouts> {
    let mut tree = match DeTable::parse(text) {
        Ok(tree) => tree.into_inner(),
        Err(error) => {
            problems.extend(syntax::problems(text, vec![error]));
            return None;
        }
    };
    keys::remove_unknown(&mut tree, problems);
    let tree = toml::Spanned::new(0..text.len(), tree);
    let file = <schema::File as serde::Deserialize>::deserialize(toml::de::Deserializer::from(tree)).ok()?;
    Some(validate::timeouts(&file, others, problems))
}

/// As `config`, of a text in these slices or as a whole, with what edits are made against.
#[cfg(test)]
pub(crate) fn config_and_source(
    text: &str,
    slices: Option<&[std::ops::Range<usize>]>,
    problems: &mut Vec<Problem>,
) -> Option<(Config, Source)> {
    let Some(slices) = slices else {
        return read_text(text, problems).map(|read| (read.config, read.source));
    };
    let (file, source) = slices::read_slices(text, slices, problems)?;
    Some((validate::validate(&file, problems).0, source))
}

/// Adds a problem wherever there is one; `None` implies an error among them.
fn read_text(text: &str, problems: &mut Vec<Problem>) -> Option<Read> {
    if text.len() as u64 > FILE_BYTES_MAX {
        problems.push(Problem::error(format!("the text is larger than {} MiB", FILE_BYTES_MAX >> 20)));
        return None;
    }
    if text.len() > RECOVERY_BYTES_MAX
        && let Some((file, source)) = slices::read(text, problems)
    {
        let (config, asked) = validate::validate(&file, problems);
        return Some(Read { config, asked, source });
    }
    let (tree, errors) = parsed(text);
    if !errors.is_empty()
        && let Some(problem) = keepalived::whole_file(text)
    {
        problems.push(problem);
        return None;
    }
    if (errors.iter().any(syntax::is_duplicate) || headers::are_suspicious(&tree))
        && let Some(mended) = headers::mend(text)
    {
        read_mended(mended, problems);
        return None;
    }
    read_tree(text, (tree, errors), problems)
}

/// Says what was mended, and what else is wrong, at its place in the text as it was.
fn read_mended(mut mended: Mended, problems: &mut Vec<Problem>) {
    problems.append(&mut mended.problems);
    let mut others = Vec::new();
    read_tree(&mended.text, parsed(&mended.text), &mut others);
    if mended.is_partial {
        // What was taken out may be what they miss.
        others.retain(|problem| problem.severity == Severity::Error);
    }
    for problem in &mut others {
        problem.move_places(|byte| mended.original(byte));
    }
    problems.append(&mut others);
}

fn read_tree(
    text: &str,
    (mut tree, errors): (DeTable<'_>, Vec<toml::de::Error>),
    problems: &mut Vec<Problem>,
) -> Option<Read> {
    if !errors.is_empty() {
        problems.extend(syntax::problems(text, errors));
        return None;
    }
    keys::remove_unknown(&mut tree, problems);
    let source = Source::of(&tree);
    let tree = toml::Spanned::new(0..text.len(), tree);
    match <schema::File as serde::Deserialize>::deserialize(toml::de::Deserializer::from(tree)) {
        Ok(file) => {
            let (config, asked) = validate::validate(&file, problems);
            Some(Read { config, asked, source })
        }
        Err(error) => {
            problems.extend(syntax::problems(text, vec![error]));
            None
        }
    }
}

/// The tree of a text. It has holes where there are errors.
fn parsed(text: &str) -> (DeTable<'_>, Vec<toml::de::Error>) {
    if text.len() <= RECOVERY_BYTES_MAX {
        let (tree, errors) = DeTable::parse_recoverable(text);
        return (tree.into_inner(), errors);
    }
    match DeTable::parse(text) {
        Ok(tree) => (tree.into_inner(), Vec::new()),
        Err(error) => (DeTable::new(), vec![error]),
    }
}

/// The text of a file, or one problem without a place.
fn text(path: &Path, bytes: io::Result<Vec<u8>>) -> Result<String, Box<Problem>> {
    let plain = |what: String| Box::new(Problem::error(format!("can't read {}: {what}", path.display())));
    let bytes = bytes.map_err(|error| {
        let problem = plain(reason(&error));
        match error.kind() {
            io::ErrorKind::NotFound => Box::new(problem.help("name the file with -c FILE")),
            _ => problem,
        }
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..good].iter().filter(|b| **b == b'\n').count();
        plain(format!("line {line} is not UTF-8 (byte {good} of the file)"))
    })
}

/// An error of the system without its number.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or_default();
    let mut chars = words.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: &str = "[[port]]\nname = \"lan\"\ndevice = \"net_null0\"\n";

    #[test]
    fn what_the_host_lacks_is_an_error_at_its_place_and_asked_for_once() {
        let text = "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\"]\n\
                    [[virtual_server]]\nname = \"web\"\naddress = \"10.0.0.100\"\nport = 80\n\
                    notify_up = [\"/site/hook\"]\nnotify_down = [\"/site/hook\"]\n\
                    real_server = [{ address = \"10.0.0.11\" }]\n";
        let asked = std::cell::RefCell::new(Vec::new());
        let good = parse("t", text).unwrap().examine(|need| {
            asked.borrow_mut().push(need.clone());
            Ok(())
        });
        assert!(good.is_ok());
        let program = Need::Program("/site/hook".into());
        let account = [Need::User("nobody".into()), Need::Group("nogroup".into())];
        assert_eq!(asked.into_inner(), [&[program.clone()][..], &account].concat());
        let lacks = |need: &Need| if *need == program { Err("it is not there".to_owned()) } else { Ok(()) };
        let report = parse("t", text).unwrap().examine(lacks).unwrap_err();
        let lines: Vec<String> = report.one_liners().map(|(_, line)| line).collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(
            lines[0].starts_with("t:9:14: /site/hook can't be run: it is not there (help: "),
            "{lines:?}"
        );
    }

    #[test]
    fn a_certificate_and_its_key_are_said_each_at_its_own_key_of_the_file() {
        let check = "[[virtual_server]]\nname = \"web\"\naddress = \"10.0.0.100\"\nport = 443\n\
                     real_server = [{ address = \"10.0.0.11\" }]\n\
                     [virtual_server.health_check]\ntype = \"https\"\n";
        let port = "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\"]\n";
        for (table, names) in [("[http]\n", ["tls_certificate", "tls_key"]), (check, ["tls_cert", "tls_key"])]
        {
            let [certificate, key] = names;
            let start = format!("{port}{table}{certificate} = \"/a.pem\"\n");
            let line = start.lines().count();
            let said = |text: &str, lacks: fn(&Need) -> bool| {
                let has = |need: &Need| if lacks(need) { Err("it is bad".to_owned()) } else { Ok(()) };
                let report = parse("t", text).unwrap().examine(has).unwrap_err();
                let errors = report.one_liners().filter(|(severity, _)| *severity == Severity::Error);
                errors.map(|(_, line)| line).collect::<Vec<_>>()
            };
            let with_key = format!("{start}{key} = \"/b.key\"\n");
            let is_key = |need: &Need| matches!(need, Need::Key(_));
            let is_certificate = |need: &Need| matches!(need, Need::Certificates(_));
            let place = |line: usize, key: &str| format!("t:{line}:{}: ", key.len() + 4);
            let [bad] = &said(&with_key, is_key)[..] else { panic!("{table}") };
            assert!(
                bad.starts_with(&(place(line + 1, key) + "no key of /a.pem in /b.key: it is bad")),
                "{bad}"
            );
            let [bad] = &said(&with_key, is_certificate)[..] else { panic!("{table}") };
            assert!(
                bad.starts_with(&(place(line, certificate) + "no certificates in /a.pem: it is bad")),
                "{bad}"
            );
            let [bad] = &said(&start, is_key)[..] else { panic!("{table}") };
            assert!(
                bad.starts_with(&(place(line, certificate) + "no key of /a.pem in /a.pem: it is bad")),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_named_without_its_arguments() {
        for (command, named) in [
            ("/site/hook -u admin:hunter2", "t:9:14: /site/hook... can't be run: it is not there"),
            ("/site/hook=hunter2", "t:9:14: /site/hook... can't be run: it is not there"),
        ] {
            let text = format!(
                "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\"]\n\
                 [[virtual_server]]\nname = \"web\"\naddress = \"10.0.0.100\"\nport = 80\n\
                 notify_up = [\"{command}\"]\nreal_server = [{{ address = \"10.0.0.11\" }}]\n"
            );
            let lacks = |need: &Need| match need {
                Need::Program(_) => Err("it is not there".to_owned()),
                _ => Ok(()),
            };
            let report = parse("t", &text).unwrap().examine(lacks).unwrap_err();
            let lines: Vec<String> = report.one_liners().map(|(_, line)| line).collect();
            assert!(lines.iter().any(|line| line.starts_with(named)), "{lines:?}");
            assert!(!format!("{lines:?}{}", report.render(false)).contains("hunter2"));
        }
    }

    #[test]
    fn a_table_that_is_none_of_weirs_keeps_its_values() {
        for table in ["[vault]", "[vault.port]", "[[vaults]]", "[port.vault]", "[\"vault\"]", "[vault"] {
            let text = format!("{PORT}{table}\nname = \"hunter2\" x\naddress = hunter2\nport = \"hunter2\n");
            let report = parse("t", &text).unwrap_err();
            let lines: Vec<String> = report.one_liners().map(|(_, line)| line).collect();
            assert!(!format!("{lines:?}{}", report.render(false)).contains("hunter2"), "{report}");
        }
    }

    #[test]
    fn warnings_do_not_stop() {
        let mark = "[[mark]]\nmark = 7\naddresses = [\"192.0.2.0/24\"]\n";
        let loaded = parse("w", &format!("{PORT}{mark}")).unwrap();
        assert_eq!(loaded.warnings.problems().len(), 1);
        assert_eq!(loaded.warnings.problems()[0].severity, Severity::Warning);
        assert_eq!(loaded.config.marks[0].mark, 7);
    }

    #[test]
    fn checks_without_a_way_from_this_machine_are_warned_of() {
        let warnings = |port: &str, check: &str, way: Way| {
            let text = format!(
                "[[port]]\nname = \"lan\"\ndevice = \"net_null0\"\naddresses = [\"10.0.0.2/24\"]\n{port}\n\
                 [[route]]\ndestination = \"10.1.0.0/16\"\ngateway = \"10.0.0.254\"\n\
                 [[virtual_server]]\nname = \"web\"\naddress = \"192.0.2.1\"\nport = 80\n\
                 forwarding = \"tun\"\n{check}\n\
                 [[virtual_server.real_server]]\naddress = \"10.0.0.11\"\n\
                 [[virtual_server.real_server]]\naddress = \"10.0.0.12\"\n\
                 [[virtual_server.real_server]]\naddress = \"10.1.0.11\"\n"
            );
            let mut loaded = parse("w", &text).unwrap();
            loaded.look_around(|_| way);
            loaded.warnings.problems().iter().map(|problem| problem.message.clone()).collect::<Vec<_>>()
        };
        let tcp = "health_check = { type = \"tcp\" }";
        // One for each network.
        let said = "health checks do not reach this real server";
        assert_eq!(warnings("", tcp, Way::None), [said, said]);
        // A default route may well lead to the other site, but not to the port's link.
        assert_eq!(warnings("", tcp, Way::Default), [said]);
        assert!(warnings("", tcp, Way::Route).is_empty());
        assert!(warnings("host_interface = \"weir0\"", tcp, Way::None).is_empty());
        assert!(warnings("", "", Way::None).is_empty());
        let exec = "health_check = { type = \"exec\", command = [\"/bin/true\"] }";
        assert!(warnings("", exec, Way::None).is_empty());
        assert_eq!(warnings("", "agent = { port = 5480 }", Way::None), [said, said]);
    }

    #[test]
    fn an_unreadable_file_is_one_plain_sentence() {
        let dir = std::env::temp_dir().join(format!("weir-config-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let said = |path: &Path| {
            let report = load(path).unwrap_err();
            assert_eq!(report.problems().len(), 1);
            assert_eq!(report.problems()[0].place, None);
            report.problems()[0].message.replace(&dir.display().to_string(), "DIR")
        };
        assert_eq!(said(&dir.join("none.toml")), "can't read DIR/none.toml: no such file or directory");
        assert_eq!(said(&dir), "can't read DIR: it is a directory, not a regular file");
        std::fs::write(dir.join("latin1.toml"), b"[http]\n# \xfcber\n").unwrap();
        assert_eq!(
            said(&dir.join("latin1.toml")),
            "can't read DIR/latin1.toml: line 2 is not UTF-8 (byte 9 of the file)"
        );
        let device = "can't read /dev/zero: it is a device, not a regular file";
        assert_eq!(said(Path::new("/dev/zero")), device);
        assert_eq!(load_any(Path::new("/dev/zero")).unwrap_err().problems()[0].message, device);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_text_too_large_is_refused_before_it_is_parsed() {
        let report = parse("w", &"#".repeat(FILE_BYTES_MAX as usize + 1)).unwrap_err();
        assert_eq!(report.problems()[0].message, "the text is larger than 16 MiB");
    }

    #[test]
    fn the_first_syntax_error_of_a_large_text_is_found() {
        let text = format!("{}\nx =\ny =\n", "# comment\n".repeat(150_000));
        let report = parse("w", &text).unwrap_err();
        assert_eq!(report.errors(), 1);
        assert_eq!(report.line_column(report.problems()[0].place.as_ref().unwrap().span.start).0, 150_002);
    }
}
