//! The command line: EAL's options, `--`, then weir's own.

use std::path::PathBuf;

use clap::error::{ContextKind, ErrorKind};
use clap::{CommandFactory, Parser, ValueEnum};
use tracing::level_filters::LevelFilter;

/// weir's own options.
#[derive(Debug, Parser)]
#[command(
    name = "weir",
    version = version_line(),
    about = "A layer-4 load balancer on DPDK: LVS and keepalived in one program",
    override_usage = "weir [EAL OPTIONS] -- [OPTIONS]",
    after_help = "EAL options are DPDK's own and stand before `--`:\n  \
        weir -l 0-3 -a 0000:03:00.0 -- -c /etc/weir/weir.toml\n  \
        weir -l 0,1 --no-pci --no-huge -m 512 --vdev net_af_packet0,iface=eth1 -- -c weir.toml\n\
        The first lcore is control's, every further one is a worker; a single lcore is the worker.\n\
        Exit status: 0 stopped cleanly, 1 could not start or failed, 2 bad usage or bad configuration.\n\
        SIGHUP reloads the file, SIGTERM and SIGINT stop weir; a second SIGINT ends it at once."
)]
pub(crate) struct Options {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = "/etc/weir/weir.toml")]
    pub(crate) config: PathBuf,
    /// Read the file, print every problem and exit without touching a device
    #[arg(long)]
    pub(crate) check: bool,
    /// What goes to stderr
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = LogLevel::Info)]
    pub(crate) log_level: LogLevel,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
        }
    }
}

/// What was typed, taken apart.
#[derive(Debug)]
pub(crate) struct CommandLine {
    /// For EAL.
    pub(crate) eal: Vec<String>,
    /// For weir.
    pub(crate) own: Options,
}

impl CommandLine {
    /// Takes the arguments apart at `--`. Without it, they are weir's own if they ask for help, the version or a
    /// check, which need no EAL; else they are all EAL's.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, clap::Error> {
        if let Some(problem) = habit(arguments) {
            return Err(problem);
        }
        let own = |own: &[String]| {
            let parsed =
                Options::try_parse_from(std::iter::once("weir").chain(own.iter().map(String::as_str)));
            parsed.map_err(|problem| in_its_place(problem, arguments))
        };
        if let Some(at) = arguments.iter().position(|argument| argument == "--") {
            let (eal, behind) = (&arguments[..at], &arguments[at + 1..]);
            if !sort(eal).1.is_empty() {
                return Err(misplaced("weir's own options stand behind `--`", arguments));
            }
            return Ok(Self { eal: eal.to_vec(), own: own(behind)? });
        }
        let asks = ["--help", "-h", "--version", "-V", "--check"];
        if arguments.iter().any(|argument| asks.contains(&argument.as_str())) {
            return Ok(Self { eal: Vec::new(), own: own(arguments)? });
        }
        if !sort(arguments).1.is_empty() {
            return Err(misplaced("weir's own options stand behind `--`", arguments));
        }
        Ok(Self { eal: arguments.to_vec(), own: own(&[])? })
    }

    /// EAL's arguments with weir's defaults: nothing is left on disk or shared with other processes, unless the
    /// options say otherwise.
    pub(crate) fn eal_arguments(&self) -> Vec<String> {
        let has = |names: &[&str]| {
            self.eal.iter().any(|argument| names.contains(&argument.split('=').next().unwrap_or_default()))
        };
        let mut arguments = self.eal.clone();
        let is_shared = has(&["--file-prefix", "--proc-type"]);
        let says_how = has(&["--in-memory", "--huge-unlink", "--no-shconf", "--legacy-mem"]);
        if !says_how {
            arguments.extend(match (has(&["--no-huge"]), is_shared) {
                (false, false) => Some("--in-memory".to_owned()),
                // With files that others may look at, huge pages are at least unlinked.
                (false, true) => Some("--huge-unlink=always".to_owned()),
                // Without huge pages EAL refuses both; no shared configuration is what is left then.
                (true, false) => Some("--no-shconf".to_owned()),
                (true, true) => None,
            });
        }
        if !has(&["--telemetry", "--no-telemetry"]) {
            arguments.push("--no-telemetry".to_owned());
        }
        arguments
    }
}

/// Options of keepalived, nginx and HAProxy with weir's for them. None of them is EAL's.
const OTHER_OPTIONS: [(&str, &str); 11] = [
    ("-f", "-c"),
    ("--use-file", "-c"),
    ("--file", "-c"),
    ("--config-file", "-c"),
    ("--conf", "-c"),
    ("-t", "--check"),
    ("-T", "--check"),
    ("--config-test", "--check"),
    ("--configtest", "--check"),
    ("--test", "--check"),
    ("--check-config", "--check"),
];

/// A command line as other programs have it, with what it is here.
fn habit(arguments: &[String]) -> Option<clap::Error> {
    if let [alone] = arguments
        && alone == "-v"
    {
        return Some(refusal(
            "`-v` is EAL's, and prints DPDK's version at a start; write `weir -V` for both versions",
        ));
    }
    let mut meant: Vec<String> = Vec::with_capacity(arguments.len() + 2);
    let mut sentence = None;
    let mut words = arguments.iter().peekable();
    while let Some(word) = words.next() {
        let (name, value) =
            word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
        let ours = OTHER_OPTIONS.iter().find(|(theirs, _)| *theirs == name).map(|(_, ours)| *ours);
        let is_check = ours == Some("--check") || name == "--check";
        if let Some(ours) = ours {
            sentence.get_or_insert(format!("`{name}` is no option of weir: it has `{ours}`"));
        }
        meant.push(ours.unwrap_or(name).to_owned());
        match (value, words.peek()) {
            // `--check=FILE`
            (Some(file), _) if is_check => {
                sentence.get_or_insert("the file is named behind `-c`".to_owned());
                meant.extend(["-c".to_owned(), file.to_owned()]);
            }
            (Some(value), _) if ours.is_some() => meant.push(value.to_owned()),
            (Some(_), _) => *meant.last_mut()? = word.clone(),
            // `--check FILE`
            (None, Some(file)) if is_check && !file.starts_with('-') => {
                sentence.get_or_insert("the file is named behind `-c`".to_owned());
                meant.extend(["-c".to_owned(), file.to_string()]);
                words.next();
            }
            // Where nothing follows, `-c` is no mask of EAL's either.
            (None, next)
                if matches!(meant.last()?.as_str(), "-c" | "--config")
                    && next.is_none_or(|it| it.as_str() == "--") =>
            {
                sentence.get_or_insert(format!("`{name}` needs a file"));
                meant.push("/etc/weir/weir.toml".to_owned());
            }
            // The value of an option is no option.
            (None, Some(_)) if has_value(meant.last()?) => meant.extend(words.next().cloned()),
            _ => {}
        }
    }
    Some(misplaced(&sentence?, &meant))
}

/// Whether a value stands behind this option, as a word of its own.
fn has_value(name: &str) -> bool {
    EAL_OPTIONS.contains(&(name, true)) || matches!(name, "-c" | "--config" | "--log-level")
}

/// EAL's arguments and weir's, told by their names wherever they stand. `--log-level` is both's, with other values;
/// EAL's `-c` has a mask of cores, weir's a file.
fn sort(arguments: &[String]) -> (Vec<&str>, Vec<&str>) {
    let (mut eal, mut own) = (Vec::new(), Vec::new());
    let mut words = arguments.iter().map(String::as_str).filter(|word| *word != "--").peekable();
    while let Some(word) = words.next() {
        let (name, inline) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        let value = inline.or_else(|| words.peek().copied());
        let is_level = |value: Option<&str>| value.is_some_and(|v| LogLevel::from_str(v, true).is_ok());
        let (is_own, has_value) = match name {
            "--check" => (true, false),
            "--config" => (true, true),
            "-c" => (value.is_some_and(|value| !is_mask(value)), true),
            "--log-level" => (is_level(value), is_level(value)),
            _ => (false, false),
        };
        let side = if is_own { &mut own } else { &mut eal };
        let value = if is_own && has_value && inline.is_none() { words.next() } else { None };
        // What is written twice alike is meant once.
        let is_again = is_own && stands_in(side, word, value);
        if !is_again {
            side.push(word);
            side.extend(value);
        }
    }
    (eal, own)
}

/// Whether an option stands in a command line already, with this value behind it.
fn stands_in(side: &[&str], option: &str, value: Option<&str>) -> bool {
    let mut places = side.iter().enumerate().filter(|(_, word)| **word == option);
    places.any(|(at, _)| value.is_none() || side.get(at + 1).copied() == value)
}

/// EAL's mask of cores, in hexadecimal.
fn is_mask(text: &str) -> bool {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The sentence, with the command line as it is to be written.
fn misplaced(sentence: &str, arguments: &[String]) -> clap::Error {
    let (eal, own) = sort(arguments);
    let dashes = (!eal.is_empty() || !own.contains(&"--check")).then_some("--");
    let line: Vec<&str> = ["weir"].into_iter().chain(eal).chain(dashes).chain(own).collect();
    refusal(&format!("{sentence}: {}", line.join(" ")))
}

fn refusal(sentence: &str) -> clap::Error {
    Options::command().error(ErrorKind::UnknownArgument, sentence)
}

/// A refusal of weir's own options. clap's advice is to put `--` before what it does not know, which weir's options
/// stand behind already; where it is EAL's it belongs before.
fn in_its_place(mut problem: clap::Error, arguments: &[String]) -> clap::Error {
    let unknown = match problem.get(ContextKind::InvalidArg) {
        Some(clap::error::ContextValue::String(unknown)) => unknown.clone(),
        _ => String::new(),
    };
    let name = unknown.split('=').next().unwrap_or_default();
    if problem.kind() == ErrorKind::UnknownArgument && EAL_OPTIONS.iter().any(|(option, _)| *option == name) {
        return misplaced(&format!("`{name}` is EAL's and stands before `--`"), arguments);
    }
    if problem.kind() == ErrorKind::UnknownArgument && name == "-v" {
        return refusal("`-v` is no option of weir: `-V` prints the version, `--log-level debug` says more");
    }
    if problem.kind() == ErrorKind::UnknownArgument && looks_like_a_file(name) {
        let named = arguments.iter().flat_map(|word| match *word == unknown {
            true => vec!["-c".to_owned(), word.clone()],
            false => vec![word.clone()],
        });
        return misplaced("the file is named behind `-c`", &named.collect::<Vec<_>>());
    }
    problem.remove(ContextKind::Suggested);
    problem
}

fn looks_like_a_file(word: &str) -> bool {
    !word.starts_with('-') && (word.contains('/') || word.ends_with(".toml") || word.ends_with(".conf"))
}

/// EAL's options that people write, and whether a value stands behind each as a word of its own.
const EAL_OPTIONS: [(&str, bool); 40] = [
    ("-a", true),
    ("-b", true),
    ("-d", true),
    ("-l", true),
    ("-m", true),
    ("-n", true),
    ("-r", true),
    ("-s", true),
    ("-S", true),
    ("--allow", true),
    ("--base-virtaddr", true),
    ("--block", true),
    ("--create-uio-dev", false),
    ("--file-prefix", true),
    ("--force-max-simd-bitwidth", true),
    ("--huge-dir", true),
    ("--huge-unlink", false),
    ("--huge-worker-stack", false),
    ("--in-memory", false),
    ("--iova-mode", true),
    ("--lcores", true),
    ("--legacy-mem", false),
    ("--main-lcore", true),
    ("--match-allocations", false),
    ("--mbuf-pool-ops-name", true),
    ("--no-hpet", false),
    ("--no-huge", false),
    ("--no-pci", false),
    ("--no-shconf", false),
    ("--no-telemetry", false),
    ("--proc-type", true),
    ("--single-file-segments", false),
    ("--socket-limit", true),
    ("--socket-mem", true),
    ("--syslog", true),
    ("--telemetry", false),
    ("--trace", true),
    ("--vdev", true),
    ("--vfio-intr", true),
    ("--vmware-tsc-map", false),
];

/// weir's version and DPDK's.
fn version_line() -> String {
    format!("{} ({})", env!("CARGO_PKG_VERSION"), dpdk::version())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> CommandLine {
        let arguments: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        CommandLine::parse(&arguments).expect("valid arguments")
    }

    #[test]
    fn arguments_are_split_at_the_first_double_dash() {
        let line = parse("-l 0,1 --no-huge -- -c x.toml --log-level debug");
        assert_eq!(line.eal, ["-l", "0,1", "--no-huge"]);
        assert_eq!(line.own.config, PathBuf::from("x.toml"));
        assert_eq!(parse("-l 0").own.config, PathBuf::from("/etc/weir/weir.toml"));
        assert!(parse("--check -c x.toml").own.check);
        assert!(parse("-l 0 -- --check").own.check);
    }

    #[test]
    fn weir_leaves_nothing_behind_unless_told() {
        assert_eq!(parse("-l 0").eal_arguments(), ["-l", "0", "--in-memory", "--no-telemetry"]);
        assert_eq!(parse("--no-huge").eal_arguments(), ["--no-huge", "--no-shconf", "--no-telemetry"]);
        let told = parse("--file-prefix=a --telemetry").eal_arguments();
        assert_eq!(told, ["--file-prefix=a", "--telemetry", "--huge-unlink=always"]);
        let told = parse("--huge-unlink=never --no-telemetry").eal_arguments();
        assert_eq!(told, ["--huge-unlink=never", "--no-telemetry"]);
    }

    #[test]
    fn an_option_on_the_wrong_side_is_shown_on_the_right_one() {
        let said = |line: &str| {
            let arguments: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
            let problem = CommandLine::parse(&arguments).expect_err(line);
            assert!(problem.use_stderr());
            problem.to_string().lines().next().unwrap().to_owned()
        };
        let behind = "error: weir's own options stand behind `--`: weir";
        let behind_check = "error: weir's own options stand behind `--`: weir --check";
        assert_eq!(said("-c weir.toml"), format!("{behind} -- -c weir.toml"));
        assert_eq!(said("-l 0,1 -c weir.toml --vdev x"), format!("{behind} -l 0,1 --vdev x -- -c weir.toml"));
        assert_eq!(said("--config=weir.toml -l 0"), format!("{behind} -l 0 -- --config=weir.toml"));
        assert_eq!(said("-c weir.toml -l 0 --"), format!("{behind} -l 0 -- -c weir.toml"));
        assert_eq!(said("-l 0 --log-level debug"), format!("{behind} -l 0 -- --log-level debug"));
        assert_eq!(said("-c x.toml -l 0 -- -c x.toml"), format!("{behind} -l 0 -- -c x.toml"));
        assert_eq!(said("--check -c x.toml -- -c x.toml --check"), format!("{behind_check} -c x.toml"));
        let before = "stands before `--`: weir";
        assert_eq!(
            said("-- -c weir.toml -l 0"),
            format!("error: `-l` is EAL's and {before} -l 0 -- -c weir.toml")
        );
        assert_eq!(said("-l 0 --check"), format!("error: `-l` is EAL's and {before} -l 0 -- --check"));
        // EAL's own.
        assert_eq!(parse("-c 0xf --log-level lib.eal:debug").eal.len(), 4);
    }

    #[test]
    fn what_other_programs_have_is_shown_as_weir_has_it_and_that_line_works() {
        let check = Some("x.toml");
        for (line, cause, file) in [
            ("--check x.toml", "the file is named behind `-c`: ", check),
            ("--check=x.toml", "the file is named behind `-c`: ", check),
            ("x.toml --check", "the file is named behind `-c`: ", check),
            ("--check -f x.toml", "`-f` is no option of weir: it has `-c`: ", check),
            ("--config-test -f x.toml", "`--config-test` is no option of weir: it has `--check`: ", check),
            ("--config-test=x.toml", "`--config-test` is no option of weir: it has `--check`: ", check),
            ("--config-test x.toml", "`--config-test` is no option of weir: it has `--check`: ", check),
            ("-t -c x.toml", "`-t` is no option of weir: it has `--check`: ", check),
            (
                "--config-test",
                "`--config-test` is no option of weir: it has `--check`: ",
                Some("/etc/weir/weir.toml"),
            ),
            ("--check -c", "`-c` needs a file: ", Some("/etc/weir/weir.toml")),
            ("-l 0 -- -c", "`-c` needs a file: ", None),
            ("-c", "`-c` needs a file: ", None),
            ("-c --", "`-c` needs a file: ", None),
            ("-l 0 -f x.toml", "`-f` is no option of weir: it has `-c`: ", None),
            ("-l 0 -- --use-file=x.toml", "`--use-file` is no option of weir: it has `-c`: ", None),
            ("-l 0 -- x.toml", "the file is named behind `-c`: ", None),
        ] {
            let arguments: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
            let problem = CommandLine::parse(&arguments).expect_err(line);
            let said = problem.to_string().lines().next().unwrap().to_owned();
            let meant = said.strip_prefix(&format!("error: {cause}weir ")).expect(&said);
            let parsed = parse(meant);
            assert_eq!(parsed.own.check, file.is_some(), "{line}: {said}");
            assert!(parsed.eal.is_empty() || line.starts_with("-l 0") && parsed.eal == ["-l", "0"], "{said}");
            let wanted =
                file.or(line.contains("x.toml").then_some("x.toml")).unwrap_or("/etc/weir/weir.toml");
            assert_eq!(parsed.own.config, PathBuf::from(wanted), "{line}: {said}");
        }
        // Values of EAL's options are nobody's options.
        assert_eq!(parse("--file-prefix -t -l 0").eal.len(), 4);
    }

    #[test]
    fn the_version_is_asked_for_with_a_capital_letter() {
        let said = |line: &str| {
            let arguments: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
            CommandLine::parse(&arguments).expect_err(line).to_string()
        };
        for line in ["-v", "-- -v", "--check -v"] {
            assert!(said(line).contains("-V"), "{}", said(line));
        }
        assert!(said("-V").starts_with("weir "));
        // With others it is EAL's.
        assert_eq!(parse("-v -l 0").eal, ["-v", "-l", "0"]);
    }

    #[test]
    fn nobody_is_told_to_put_dashes_before_what_stands_behind_them() {
        let problem =
            CommandLine::parse(&["--".into(), "--bogus".into(), "x".into()]).unwrap_err().to_string();
        assert!(problem.contains("--bogus") && !problem.contains("tip"), "{problem}");
    }

    #[test]
    fn what_is_no_option_of_weir_is_an_error() {
        assert!(CommandLine::parse(&["--".into(), "--bogus".into()]).is_err());
        assert!(CommandLine::parse(&["--".into(), "stray".into()]).is_err());
    }
}
