//! Host interfaces that outlive this process: whoever keeps the connection tables holds the files of the taps as well, so that addresses,
//! routes and all connections of the host through them stay.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

use dpdk::{Tap, TapError};
use tracing::{debug, info, warn};

use super::holder::Holder;

/// How long the kernel may take to remove an interface that nobody holds any more.
const REMOVAL_MAX: Duration = Duration::from_secs(3);
/// How often that is looked at.
const REMOVAL_LOOK: Duration = Duration::from_millis(10);

/// How many there are.
#[derive(Debug, Default)]
pub(crate) struct TapCounts {
    kept: AtomicU64,
    adopted: AtomicU64,
}

impl TapCounts {
    /// Those that are kept for the next process, and of these the ones of the process before.
    pub(crate) fn figures(&self) -> [u64; 2] {
        [self.kept.load(Relaxed), self.adopted.load(Relaxed)]
    }
}

/// Why there is no interface.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoTap {
    /// It can't be made.
    #[error(transparent)]
    Unmade(#[from] TapError),
    /// Somebody has one of this name open.
    #[error(
        "the network interface {name} is taken: {whose} has it; if that is the weir-keeper of a file before this one, end it, or name its \
         socket as `keeper` of [connections]"
    )]
    Taken {
        /// The interface's.
        name: String,
        /// A process.
        whose: String,
    },
}

/// See the module.
#[derive(Default)]
pub(crate) struct Taps {
    /// `None`: they end with this process.
    holder: Option<Holder>,
    /// Those of the process before, by name.
    left: Vec<(String, Tap)>,
    /// Some were given up.
    has_given_up: bool,
    counts: Arc<TapCounts>,
}

impl Taps {
    /// Of the taps of the process before those that have one of these names go on; the others are given up, as some may have been before.
    pub(super) fn new(
        holder: Option<Holder>,
        files: Vec<OwnedFd>,
        (names, has_given_up): (&[&str], bool),
    ) -> Self {
        let found = files.len();
        let mut left: Vec<(String, Tap)> = Vec::new();
        for file in files {
            match Tap::adopt(file) {
                Ok((name, _)) if !names.contains(&name.as_str()) => {
                    info!(
                        interface = name,
                        "a host interface of the process before is given up: the file has it no more"
                    );
                }
                Ok((name, _)) if left.iter().any(|(other, _)| *other == name) => {
                    warn!(interface = name, "a host interface was kept twice");
                }
                Ok(tap) => left.push(tap),
                Err(problem) => warn!("a host interface that was kept is given up: {problem}"),
            }
        }
        let is_less = left.len() < found;
        let taps = Self { holder, left, has_given_up: has_given_up || is_less, counts: Arc::default() };
        if is_less {
            // Before others may have their names.
            let files: Vec<BorrowedFd<'_>> = taps.left.iter().map(|(_, tap)| tap.as_fd()).collect();
            taps.keep(&files);
        }
        taps
    }

    /// How many there are, now and later.
    pub(super) fn counts(&self) -> Arc<TapCounts> {
        self.counts.clone()
    }

    /// The interface of this name, and whether it is the one of the process before.
    ///
    /// # Errors
    /// It can't be made.
    pub(crate) fn take(&mut self, name: &str) -> Result<(Tap, bool), NoTap> {
        if let Some(at) = self.left.iter().position(|(its, _)| its == name) {
            self.counts.adopted.fetch_add(1, Relaxed);
            return Ok((self.left.swap_remove(at).1, true));
        }
        let begun = Instant::now();
        loop {
            match Tap::create(name) {
                Err(TapError::NameTaken(_)) if self.has_given_up && begun.elapsed() < REMOVAL_MAX => {
                    sleep(REMOVAL_LOOK);
                }
                Err(TapError::NameTaken(name)) => {
                    return Err(match whose(&name) {
                        Some(whose) => NoTap::Taken { name, whose },
                        None => TapError::NameTaken(name).into(),
                    });
                }
                made => return Ok((made?, false)),
            }
        }
    }

    /// These are kept from now on, and no others.
    pub(crate) fn keep(&self, files: &[BorrowedFd<'_>]) {
        let Some(holder) = &self.holder else { return };
        match holder.keep_taps(files) {
            Err(problem) if files.is_empty() => {
                debug!("whoever keeps host interfaces is not told: {problem}")
            }
            Err(problem) => {
                warn!("host interfaces end with this process, since nobody keeps them: {problem}");
            }
            Ok(()) if files.is_empty() => {}
            Ok(()) => {
                self.counts.kept.store(files.len() as u64, Relaxed);
                let adopted = self.counts.adopted.load(Relaxed);
                info!(interfaces = files.len(), adopted, "host interfaces are kept by {}", holder.name());
            }
        }
    }
}

/// The process that has an interface's file open, if that can be seen. One in another network namespace may have the same name.
fn whose(name: &str) -> Option<String> {
    let is_it =
        |text: &str| text.lines().any(|line| line.strip_prefix("iff:").is_some_and(|it| it.trim() == name));
    let mut processes = fs::read_dir("/proc").ok()?.flatten().map(|process| process.path());
    processes.find_map(|process| {
        let files = fs::read_dir(process.join("fdinfo")).ok()?;
        let mut texts = files.flatten().filter_map(|file| fs::read_to_string(file.path()).ok());
        let its = fs::read_to_string(process.join("comm")).ok()?;
        let number = process.file_name()?.to_string_lossy();
        texts.any(|text| is_it(&text)).then(|| format!("{} (process {number})", its.trim()))
    })
}
