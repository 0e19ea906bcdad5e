//! `weirctl doctor`: what keeps weir from working well on this machine, and the command that mends it.
//!
//! It looks and changes nothing. What is known is gathered first ([`facts`]): of the machine, of weir's process and unit, and of a running
//! weir by its API, twice, for what grows. Each check is then a function of these facts. Neither the gathering nor a check may hold the
//! others up: what does not come in its time is said and done without.

mod cores;
mod devices;
mod director;
mod facts;
mod host;
mod memory;
mod plan;
mod process;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::client::Door;
use crate::screen::{Screen, Tone};
use facts::Facts;
use host::Host;
use process::Process;

/// For all checks together, once the facts are known.
const CHECKS_MAX: Duration = Duration::from_secs(5);

/// Long enough to see who takes a worker's core, and short for who waits.
pub(crate) const BETWEEN: Duration = Duration::from_millis(500);

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    Ok,
    /// weir works, not as well or not for long.
    Warn,
    /// weir does not work, or not as it was told to.
    Fail,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    check: &'static str,
    status: Level,
    text: String,
    /// A command, or what else to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self { check, status: Level::Ok, text: text.into(), mend: None }
    }

    fn warn(check: &'static str, text: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, status: Level::Warn, text: text.into(), mend: Some(mend.into()) }
    }

    fn fail(check: &'static str, text: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { status: Level::Fail, ..Self::warn(check, text, mend) }
    }
}

/// A check: what it finds, each a line. None: it has nothing to look at.
type Check = fn(&Facts) -> Vec<Finding>;

/// In the order in which they are shown.
const CHECKS: [(&str, Check); 28] = [
    ("weir", director::weir),
    ("file", director::file),
    ("hugepages", memory::hugepages),
    ("heap", memory::heap),
    ("limits", memory::limits),
    ("iommu", devices::iommu),
    ("binding", devices::binding),
    ("node", devices::node),
    ("link", devices::link),
    ("mtu", devices::mtu),
    ("tunnels", devices::tunnels),
    ("kernel", devices::kernel),
    ("rss", director::rss),
    ("losses", director::losses),
    ("isolation", cores::isolation),
    ("load", cores::load),
    ("interrupts", cores::interrupts),
    ("siblings", cores::siblings),
    ("governor", cores::governor),
    ("clock", cores::clock),
    ("time", cores::time),
    ("table", director::table),
    ("servers", director::servers),
    ("opening", director::opening),
    ("neighbors", director::neighbors),
    ("arp", director::arp),
    ("certificate", director::certificate),
    ("log", memory::log),
];

/// Where to look.
#[derive(Debug, Clone)]
pub(crate) struct Where {
    pub(crate) door: Door,
    /// weir's file, unless the running weir has another one.
    pub(crate) file: PathBuf,
    /// The machine's root directory.
    pub(crate) root: PathBuf,
    /// Between the two looks at what grows.
    pub(crate) between: Duration,
}

/// The file that this weir was told to read, if its command line names one.
pub(crate) fn file_of(pid: u32) -> Option<PathBuf> {
    let host = Host::new(Path::new("/"));
    Process::find(&host, Some(pid)).file(&host)
}

/// All checks of what `place` shows.
pub(crate) fn examine(place: Where) -> Vec<Finding> {
    run(&CHECKS, Arc::new(Facts::gather(place)), CHECKS_MAX)
}

/// What is shown, and whether something fails.
pub(crate) fn report(findings: &[Finding], is_json: bool, screen: &Screen) -> (String, bool) {
    let worst = findings.iter().map(|it| it.status).max().unwrap_or(Level::Ok);
    let text = match is_json {
        true => serde_json::json!({ "status": worst, "checks": findings }).to_string() + "\n",
        false => findings.iter().fold(String::new(), |mut text, finding| {
            let (word, tone) = match finding.status {
                Level::Ok => ("ok  ", Tone::Good),
                Level::Warn => ("warn", Tone::Title),
                Level::Fail => ("fail", Tone::Bad),
            };
            let mend = finding.mend.as_ref().map_or_else(String::new, |mend| format!("; mend: {mend}"));
            // Writing to a string can't fail.
            let _ =
                writeln!(text, "{}  {:<10}  {}{mend}", screen.paint(word, tone), finding.check, finding.text);
            text
        }),
    };
    (text, worst == Level::Fail)
}

/// Each on a thread of its own: a file system that hangs holds up one.
fn run(checks: &[(&'static str, Check)], facts: Arc<Facts>, patience: Duration) -> Vec<Finding> {
    let deadline = Instant::now() + patience;
    let under_way: Vec<(&'static str, Receiver<Vec<Finding>>)> = checks
        .iter()
        .map(|&(name, check)| {
            let (say, said) = channel();
            let facts = facts.clone();
            // For lack of a thread nothing is said, as by one that ends early.
            let _ = thread::Builder::new().spawn(move || say.send(check(&facts)));
            (name, said)
        })
        .collect();
    let found = under_way.into_iter().flat_map(|(name, said)| {
        match said.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(findings) => findings,
            Err(RecvTimeoutError::Timeout) => {
                let text = format!("it has not come to an end within {} s", patience.as_secs());
                vec![Finding::warn(name, text, "look whether all file systems answer: df")]
            }
            Err(RecvTimeoutError::Disconnected) => {
                vec![Finding::warn(name, "it could not be looked at", "run weirctl doctor again")]
            }
        }
    });
    found.collect()
}
