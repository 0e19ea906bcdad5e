//! The log: whoever has something to say puts it into a bounded queue, and a thread of its own writes it to stderr.
//!
//! So a log that can't be written, or that nobody reads, holds nobody up and ends nothing: lines are lost, counted, and that
//! is said when it works again ([`queue`], [`writer`]). What others can cause over and over is limited, with a summary of
//! what was left out ([`limit`]). EAL's and the drivers' output comes the same way. The last lines of weir's own are kept for who looks at
//! weir over HTTP ([`recent()`]).

mod limit;
mod queue;
mod recent;
mod writer;

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::sync::{LazyLock, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::SubscriberExt;

use limit::{Limit, Limiter};
use queue::Queue;
use recent::{Recent, Recorder};

use crate::rights::{self, Early};

/// Messages of EAL at this level (`RTE_LOG_CRIT`) and below come before it ends the process.
const LAST_WORDS: u32 = 3;
/// How long somebody waits for what was said to be written, at a moment when there may be none later.
const FLUSH: Duration = Duration::from_millis(500);

static QUEUE: LazyLock<Queue> = LazyLock::new(Queue::new);
static LIMIT: LazyLock<Limit> = LazyLock::new(Limit::new);
static RECENT: LazyLock<Recent> = LazyLock::new(Recent::default);
/// Set when weir says what it has to say by itself, and no more EAL before it fails.
static RUNS: OnceLock<()> = OnceLock::new();

/// What was not written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    /// Lines that could not be written, or found no room while nobody read.
    pub(crate) lost: u64,
    /// Lines left out since there were too many of their kind, or in all.
    pub(crate) left_out: u64,
}

/// So far.
pub(crate) fn missing() -> Missing {
    Missing { lost: QUEUE.lost(), left_out: LIMIT.left_out() }
}

/// The last lines of weir's own, those of a higher number than this, the oldest first.
pub(crate) fn recent(after: u64) -> Vec<weir_api::events::Event> {
    RECENT.after(after)
}

/// The number of the newest of them; 0: there is none.
pub(crate) fn newest() -> u64 {
    RECENT.newest()
}

/// Starts it. From now on `tracing`, panics and EAL go there.
///
/// # Errors
/// What the kernel says of a thread more.
pub(crate) fn start(level: LevelFilter) -> io::Result<()> {
    thread::Builder::new().name("weir-log".to_owned()).spawn(|| {
        crate::early::register();
        // It writes to what is open.
        let mut rights = Early::begin(rights::NONE);
        writer::run(&QUEUE, &LIMIT, writer::Stderr, || rights.look());
    })?;
    let lines = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(Lines)
        // It would go to stderr, and a failure there is a panic.
        .log_internal_errors(false);
    let log =
        tracing_subscriber::registry().with(level).with(Limiter(&LIMIT)).with(Recorder(&RECENT)).with(lines);
    // Only a second log could be in the way.
    let _ = tracing::subscriber::set_global_default(log);
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = std::backtrace::Backtrace::capture();
        let backtrace = match backtrace.status() {
            std::backtrace::BacktraceStatus::Captured => format!("\n{backtrace}"),
            _ => String::new(),
        };
        let thread = thread::current();
        tracing::error!("the thread {} {panic}{backtrace}", thread.name().unwrap_or("without a name"));
        // On a worker the process ends right after this.
        flush();
    }));
    dpdk::log::send_to(|text, level| {
        let is_urgent = level <= LAST_WORDS || RUNS.get().is_none();
        if is_urgent || LIMIT.admits_foreign(text, Instant::now()) {
            QUEUE.push(text.to_vec());
        }
        if is_urgent {
            flush();
        }
    });
    Ok(())
}

/// EAL has started: what drivers write to the C library's standard streams from now on comes here, too.
pub(crate) fn take_standard_streams() {
    dpdk::log::take_standard_streams();
    let _ = RUNS.set(());
}

/// A text that is laid out for reading, as it is.
pub(crate) fn say(text: String) {
    QUEUE.push(text.into_bytes());
}

/// Waits a moment until what was said so far is written. Not long, since it may never be.
pub(crate) fn flush() {
    QUEUE.flush(FLUSH);
}

/// A line as `tracing` writes one, for what is said from within.
fn line(level: &str, text: &str) -> Vec<u8> {
    let mut line = String::new();
    let _ = SystemTime.format_time(&mut Writer::new(&mut line));
    let _ = writeln!(line, " {level:>5} {text}");
    line.into_bytes()
}

/// "1 line", "2 lines".
fn lines(count: u64) -> String {
    format!("{count} line{}", if count == 1 { "" } else { "s" })
}

/// Where `tracing` writes to.
struct Lines;

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line
    }
}

/// Takes one line, which `tracing` writes as a whole.
struct Line;

impl io::Write for Line {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        QUEUE.push(text.to_vec());
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
