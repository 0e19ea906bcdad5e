//! Panics of workers: what is kept of them in `[control] crash_directory`, and what the next process makes of that.
//!
//! `crashes.json` has the last panics, with the time since boot: a clock that is set does not matter, and what was before the boot does not
//! count. `crash-*.pcapng` has the frames for whoever reports it. What is learned ([`lesson`]):
//!
//! | the last panic | this process |
//! |---|---|
//! | one that no process has outlived by a minute | takes bursts frame by frame for a minute, so that the frame is known if it panics too |
//! | then, with a frame that is known | drops the frame's flow for ten minutes |
//! | one of the process before as well, and the last at something else than a frame | takes over no connections: the fault may be in what is kept |
//!
//! The minute is one in which workers ran, whatever the start takes: who has run for so long notes that it is calm. What several workers of
//! one process panic at says no more than what one does. All of that is forgotten after ten minutes.

#[cfg(test)]
mod tests;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown, lchown};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use dpdk::process::read_apart;
use rustix::fs::OFlags;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};
use weir_dataplane::suspect::{Caution, Flow};
use weir_dataplane::worker::Crash;

use crate::capture::pcapng::{self, Direction, Packet};
use crate::flags::Flags;
use crate::rights::{self, Early};
use crate::threads::Role;

/// For so long a process is careful after a panic of the one before, and one of its own until then has to do with that one.
const CAREFUL: Duration = Duration::from_secs(60);
/// A flow that was found out is dropped for so long.
const DROPPED_SECS: u64 = 600;
/// The start waits for the notes for so long at most: their file system may not answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Panics that are kept in mind.
const NOTES_MAX: usize = 16;
/// Octets of the notes that are read at most.
const NOTES_OCTETS_MAX: usize = 64 << 10;
/// Files with frames that are kept: the last ones.
const FILES_MAX: usize = 8;
/// Frames in such a file at most.
const FRAMES_MAX: usize = 64;
/// Octets of each at most.
const FRAME_MAX: usize = 2_048;
const NOTES: &str = "crashes.json";
/// Panics that wait to be kept: of as many workers at once.
const WAITING_MAX: usize = 64;
/// How often a stop looks whether they are.
const LOOK: Duration = Duration::from_millis(1);

/// A panic, as it is kept in mind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Noted {
    /// The kernel's random number of the boot.
    boot: String,
    /// Since that boot.
    seconds: u64,
    /// Tells the process from others.
    #[serde(default)]
    process: String,
    /// Of the frame it was at, as [`Flow::to_digits`] writes it, if that is known and may be dropped.
    flow: Option<String>,
    /// The frame is known.
    #[serde(default)]
    frame: bool,
    /// It is no panic: a process has been careful for long enough.
    #[serde(default)]
    calm: bool,
}

/// What this process makes of the panics before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lesson {
    /// How workers begin.
    pub(crate) caution: Option<Caution>,
    /// What was kept is not taken over, for this reason.
    pub(crate) distrust: Option<&'static str>,
    /// The file system of the notes did not answer.
    pub(crate) is_away: bool,
}

impl Lesson {
    /// Some panic may have to do with the next one.
    fn is_careful(&self) -> bool {
        self.caution.as_ref().is_some_and(|caution| !caution.careful.is_zero())
    }
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Crashes {
    notes: SyncSender<(usize, Crash)>,
    flags: Flags,
    /// Those that are not kept in mind yet.
    waiting: Arc<AtomicUsize>,
}

impl Crashes {
    /// Sees to the end of weir from now on when a worker panics, and keeps that there; nowhere if there is no directory. On a thread of its own,
    /// since a worker that has panicked has to send what there is to send, and may do no more than its work needs. It runs on these cores. To be
    /// called when weir is who it is going to be, just before its workers run.
    pub(crate) fn start(
        (directory, lesson): (Option<&Path>, &Lesson),
        cpus: &[usize],
        flags: &Flags,
    ) -> Result<Self> {
        let (notes, panics) = sync_channel::<(usize, Crash)>(WAITING_MAX);
        let waiting = Arc::new(AtomicUsize::new(0));
        let (theirs, left, directory) = (flags.clone(), waiting.clone(), directory.map(Path::to_owned));
        let cpus = cpus.to_vec();
        let process = format!("{}-{}", std::process::id(), moment().map_or(0, |(_, seconds)| seconds));
        let mut careful = lesson.is_careful().then_some(CAREFUL);
        let attend = move || {
            Early::begin(rights::NONE).look();
            if let Err(problem) = dpdk::lcore::run_on_cpus(&cpus) {
                warn!("the thread weir-crash may run on a worker's core: {problem}");
            }
            loop {
                let (worker, crash) = match next(&panics, careful.take()) {
                    Ok(panic) => panic,
                    Err(RecvTimeoutError::Timeout) => {
                        be_calm(directory.clone(), process.clone());
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => return,
                };
                theirs.panicked(Role::Worker(worker));
                // One that is not kept must not be the end of this thread.
                let kept = |directory: &PathBuf| {
                    catch_unwind(AssertUnwindSafe(|| keep(directory, worker, &process, &crash)))
                        .unwrap_or_else(|_| Err(io::Error::other("a panic, too")))
                };
                if let Some(directory) = &directory
                    && let Err(problem) = kept(directory)
                {
                    error!("the panic is not kept in {}: {problem}", directory.display());
                }
                left.fetch_sub(1, SeqCst);
            }
        };
        let thread = thread::Builder::new().name("weir-crash".to_owned()).spawn(attend);
        thread.context("the thread weir-crash does not start")?;
        Ok(Self { notes, flags: flags.clone(), waiting })
    }

    /// A worker has panicked.
    pub(crate) fn note(&self, worker: usize, crash: Crash) {
        self.waiting.fetch_add(1, SeqCst);
        if self.notes.try_send((worker, crash)).is_err() {
            // It ends weir all the same.
            self.flags.panicked(Role::Worker(worker));
            self.waiting.fetch_sub(1, SeqCst);
        }
    }

    /// Waits until all is kept. The bound of the stop holds.
    pub(crate) fn finish(&self) {
        while self.waiting.load(SeqCst) > 0 {
            thread::sleep(LOOK);
        }
    }
}

/// The next panic, if there is one before this time.
fn next(
    panics: &Receiver<(usize, Crash)>,
    limit: Option<Duration>,
) -> Result<(usize, Crash), RecvTimeoutError> {
    match limit {
        Some(limit) => panics.recv_timeout(limit),
        None => panics.recv().map_err(RecvTimeoutError::from),
    }
}

/// Notes that no worker has panicked while this process was careful. On a thread of its own, since the next panic must not wait for a file
/// system that hangs.
fn be_calm(directory: Option<PathBuf>, process: String) {
    let Some(directory) = directory else { return };
    let run = move || {
        if let Err(problem) = note(&directory, Noted { process, calm: true, ..Noted::default() }) {
            warn!(
                "that weir runs for a minute without a panic is not kept in {}: {problem}",
                directory.display()
            );
        }
    };
    if let Err(problem) = thread::Builder::new().name("weir-calm".to_owned()).spawn(run) {
        warn!("that weir runs for a minute without a panic is not kept, for lack of a thread: {problem}");
    }
}

/// What is to be made of what is kept there.
pub(crate) fn learn(directory: Option<&Path>) -> Lesson {
    let Some((directory, (boot, now))) = directory.zip(moment()) else { return Lesson::default() };
    let notes = match read_apart(&directory.join(NOTES), NOTES_OCTETS_MAX, PATIENCE) {
        Err(problem) if problem.kind() == io::ErrorKind::TimedOut => {
            warn!(
                "{} does not answer within {} s: whether a worker has panicked before is not known, and a frame that ends weir again \
                 and again is not found out",
                directory.display(),
                PATIENCE.as_secs()
            );
            return Lesson { is_away: true, ..Lesson::default() };
        }
        Err(problem) if problem.kind() != io::ErrorKind::NotFound => {
            warn!("what is noted of panics in {} can't be read: {problem}", directory.display());
            Vec::new()
        }
        found => parsed(&found.unwrap_or_default()),
    };
    let lesson = lesson(&notes, &boot, now);
    if let Some(Caution { careful, flows }) = &lesson.caution {
        if !careful.is_zero() {
            warn!(
                "a worker has panicked, and weir has not run for a minute since: for {} s bursts are taken frame by frame, which is slower",
                careful.as_secs()
            );
        }
        for (flow, dropped) in flows {
            warn!(
                "{flow}: this flow is dropped for {} s, since a worker has panicked at a frame of it",
                dropped.as_secs()
            );
        }
    }
    lesson
}

/// See the module.
fn lesson(notes: &[Noted], boot: &str, now: u64) -> Lesson {
    let of_now = notes.iter().filter(|note| note.boot == boot && note.seconds <= now);
    let notes: Vec<&Noted> = of_now.filter(|note| now - note.seconds < DROPPED_SECS).collect();
    let mut flows: Vec<(Flow, Duration)> = Vec::new();
    for note in notes.iter().rev() {
        let Some(flow) = note.flow.as_ref().and_then(|digits| Flow::from_digits(digits)) else { continue };
        if !flows.iter().any(|(known, _)| *known == flow) {
            flows.push((flow, Duration::from_secs(DROPPED_SECS - (now - note.seconds))));
        }
    }
    // Those that no process has outlived by a minute.
    let open = notes.rsplit(|note| note.calm).next().unwrap_or_default();
    let careful = if open.is_empty() { Duration::ZERO } else { CAREFUL };
    if open.is_empty() && flows.is_empty() {
        return Lesson::default();
    }
    let of_last = open.chunk_by(|one, next| one.process == next.process).next_back().unwrap_or_default();
    let is_again = of_last.len() < open.len();
    let is_at_frame = of_last.iter().any(|note| note.frame || note.flow.is_some());
    let distrust = (is_again && !is_at_frame).then_some(
        "a worker has panicked twice, the second time within a minute and at no frame: the fault may be there",
    );
    Lesson { caution: Some(Caution { careful, flows }), distrust, is_away: false }
}

/// The boot, and the seconds since.
fn moment() -> Option<(String, u64)> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some((boot.trim().to_owned(), clock_gettime(ClockId::Boottime).tv_sec.unsigned_abs()))
}

/// Makes this account the owner of the notes, which it has to go on with. systemd makes root the owner again when it starts the unit.
pub(crate) fn give(directory: &Path, user: u32, group: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name != NOTES && !name.starts_with("crash-") {
            continue;
        }
        // If the folder is that user's already, what lies there may lead to a file of somebody else's.
        let Some(file) = opened(&path).filter(|file| file.metadata().is_ok_and(|it| it.nlink() == 1)) else {
            continue;
        };
        fchown(&file, Some(user), Some(group))?;
    }
    lchown(directory, Some(user), Some(group))
}

/// A regular file.
fn opened(path: &Path) -> Option<File> {
    // Not a FIFO, at which it would wait.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok();
    file.filter(|file| file.metadata().is_ok_and(|file| file.is_file()))
}

/// What cannot be read is not there: it may be anybody's.
fn parsed(text: &[u8]) -> Vec<Noted> {
    serde_json::from_slice(text).unwrap_or_default()
}

/// The same from a process that is too large to be doubled for it.
fn read(path: &Path) -> Vec<Noted> {
    let mut text = Vec::new();
    match opened(path).map(|file| file.take(NOTES_OCTETS_MAX as u64).read_to_end(&mut text)) {
        Some(Ok(_)) => parsed(&text),
        _ => Vec::new(),
    }
}

/// Adds a note, of now.
fn note(directory: &Path, noted: Noted) -> io::Result<()> {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (boot, seconds) = moment().ok_or(io::ErrorKind::NotFound)?;
    let mut notes = read(&directory.join(NOTES));
    notes.push(Noted { boot, seconds, ..noted });
    notes.drain(..notes.len().saturating_sub(NOTES_MAX));
    write(&directory.join(NOTES), &serde_json::to_vec(&notes)?)
}

fn keep(directory: &Path, worker: usize, process: &str, crash: &Crash) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let flow = crash.culprit.as_deref().and_then(Flow::to_be_dropped);
    let digits = flow.as_ref().map(Flow::to_digits);
    let frame = crash.culprit.is_some();
    // First, since the next process needs it.
    note(directory, Noted { process: process.to_owned(), flow: digits, frame, ..Noted::default() })?;
    if let Some(flow) = flow {
        error!(worker, "the frame that the worker panicked at is of the flow {flow}");
    }
    let frames = frames(worker, crash);
    if frames.is_empty() {
        info!(worker, "the worker panicked at no frame");
        return Ok(());
    }
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let path = directory.join(format!("crash-{unix}-worker{worker}.pcapng"));
    thin_out(directory, FILES_MAX - 1)?;
    write(&path, &frames)?;
    info!(worker, "the frames that the worker was at are in {}; please report it", path.display());
    Ok(())
}

/// In one step, so that there is the former text or this one.
fn write(path: &Path, octets: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(problem) if problem.kind() != io::ErrorKind::NotFound => return Err(problem),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let written = file.write_all(octets).and_then(|()| fs::rename(&new, path));
    // On a full disk nothing is left of it.
    written.inspect_err(|_| _ = fs::remove_file(&new))
}

/// A file with the frames of a panic; empty if there are none.
fn frames(worker: usize, crash: &Crash) -> Vec<u8> {
    let mut file = Vec::new();
    let all: Vec<(&str, &Vec<u8>)> = match &crash.culprit {
        Some(culprit) => vec![("the frame that the worker panicked at, as it came in", culprit)],
        None => {
            let first =
                "dropped first by the panic, and so probably the one at fault; it may be half rewritten";
            let others = std::iter::repeat("in the same burst");
            std::iter::once(first).chain(others).zip(&crash.frames).collect()
        }
    };
    if all.is_empty() {
        return file;
    }
    let version = concat!("weir ", env!("CARGO_PKG_VERSION"));
    pcapng::section(&mut file, version);
    pcapng::interface(&mut file, &format!("worker{worker}"), "frames of a panic", FRAME_MAX, "");
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    for (comment, octets) in all.into_iter().take(FRAMES_MAX) {
        let nanos = u64::try_from(nanos).unwrap_or_default();
        let packet = Packet { interface: 0, nanos, whole: octets.len(), direction: Direction::In, comment };
        pcapng::packet(&mut file, &packet, &octets[..octets.len().min(FRAME_MAX)]);
    }
    file
}

/// Removes files with frames, of which so many stay, the newest, and what a process has left that was killed as it wrote one.
fn thin_out(directory: &Path, stay: usize) -> io::Result<()> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(directory)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("crash-"))
    });
    let ends_with = |path: &PathBuf, end: &str| path.extension().is_some_and(|it| it == end);
    files.iter().filter(|path| ends_with(path, "new")).try_for_each(fs::remove_file)?;
    files.retain(|path| ends_with(path, "pcapng"));
    files.sort();
    files.iter().rev().skip(stay).try_for_each(fs::remove_file)
}
