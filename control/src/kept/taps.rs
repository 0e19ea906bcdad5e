//! Host interfaces that outlive this process: whoever keeps the connection tables holds the files of the taps as well, so that addresses,
//! routes and all connections of the host through them stay.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use dpdk::{Tap, TapError};
use tracing::{debug, info, warn};

use super::holder::Holder;

/// How long the kernel may take to remove an interface that nobody holds any more.
const REMOVAL_MAX: Duration = Duration::from_secs(3);
/// How often that is looked at.
const REMOVAL_LOOK: Duration = Duration::from_millis(10);

/// See the module.
#[derive(Default)]
pub(crate) struct Taps {
    /// `None`: they end with this process.
    holder: Option<Holder>,
    /// Those of the process before, by name.
    left: Vec<(String, Tap)>,
    /// Some were given up.
    has_given_up: bool,
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
        let taps = Self { holder, left, has_given_up: has_given_up || is_less };
        if is_less {
            // Before others may have their names.
            let files: Vec<BorrowedFd<'_>> = taps.left.iter().map(|(_, tap)| tap.as_fd()).collect();
            taps.keep(&files);
        }
        taps
    }

    /// The interface of this name, and whether it is the one of the process before.
    ///
    /// # Errors
    /// It can't be made.
    pub(crate) fn take(&mut self, name: &str) -> Result<(Tap, bool), TapError> {
        if let Some(at) = self.left.iter().position(|(its, _)| its == name) {
            return Ok((self.left.swap_remove(at).1, true));
        }
        let begun = Instant::now();
        loop {
            match Tap::create(name) {
                Err(TapError::NameTaken(_)) if self.has_given_up && begun.elapsed() < REMOVAL_MAX => {
                    sleep(REMOVAL_LOOK);
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
            Ok(()) => {}
        }
    }
}
