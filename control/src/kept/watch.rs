//! A keeper that has ended and begins anew knows nothing: it is told again.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use rustix::fs::fstat;
use tracing::{info, warn};
use weir_keeper::Keeper;

use super::holder::TapShelf;
use crate::rights::{self, Early};

/// How often the keeper is asked whether it has what it should.
const LOOK: Duration = Duration::from_secs(1);
/// How long it is left alone at most after it did not answer.
const PAUSE_MAX: Duration = Duration::from_secs(16);

/// What a keeper has of this process.
pub(super) struct Watched {
    pub(super) keeper: Keeper,
    /// The book and the tables.
    pub(super) files: [OwnedFd; 2],
    /// Host interfaces, which it has if it has these.
    pub(super) taps: Arc<TapShelf>,
    pub(super) is_kept: Arc<AtomicBool>,
}

impl Watched {
    /// Looks after it as long as this process lives, on a thread of its own, since a keeper may hang.
    pub(super) fn begin(self) {
        let run = move || {
            let mut pause = LOOK;
            let mut rights = Early::begin(rights::NONE);
            loop {
                thread::sleep(pause);
                rights.look();
                let Some(next) = self.look(pause) else { return };
                pause = next;
            }
        };
        if let Err(problem) = thread::Builder::new().name("weir-kept".to_owned()).spawn(run) {
            warn!(
                "a weir-keeper that begins anew will not be told of connections, for lack of a thread: {problem}"
            );
        }
    }

    /// Looks once, after a pause. The next pause, if it is worth to look again.
    fn look(&self, pause: Duration) -> Option<Duration> {
        match self.ensure() {
            Ok(was_there) => {
                if !was_there || !self.is_kept.load(Relaxed) {
                    let interfaces = self.taps.len();
                    info!(
                        interfaces,
                        "weir-keeper is there again, and keeps the connections and host interfaces"
                    );
                }
                self.is_kept.store(true, Relaxed);
                Some(LOOK)
            }
            // This process may have given up its rights since. What the keeper has is not less for that.
            Err(problem) if problem.kind() == ErrorKind::PermissionDenied => {
                warn!("a weir-keeper that begins anew will not be told of connections: {problem}");
                None
            }
            Err(problem) => {
                if self.is_kept.swap(false, Relaxed) {
                    warn!("connections end with this process until weir-keeper is there again: {problem}");
                }
                Some((pause * 2).min(PAUSE_MAX))
            }
        }
    }

    /// Has the keeper keep all of it if it does not. Whether it did.
    fn ensure(&self) -> io::Result<bool> {
        let is_there = self.keeper.take()?.is_some_and(|kept| are_same(&kept, &self.files));
        if !is_there {
            self.keeper.keep(&self.files.each_ref().map(AsFd::as_fd))?;
        }
        self.taps.look(!is_there)?;
        Ok(is_there)
    }
}

/// Whether these are our files, and not those of a process before.
fn are_same(kept: &[OwnedFd], files: &[OwnedFd; 2]) -> bool {
    let of = |file: &OwnedFd| fstat(file).ok().map(|found| (found.st_dev, found.st_ino));
    kept.len() == files.len()
        && kept.iter().zip(files).all(|(kept, own)| of(kept).is_some() && of(kept) == of(own))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::path::{Path, PathBuf};

    use weir_keeper::{Shelf, listen, serve};

    use super::*;

    fn place(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("weir-watch-{name}-{}", std::process::id()))
    }

    fn begins_at(place: &Path) {
        let listener = listen(place).expect("a socket");
        thread::spawn(move || serve(&listener, &mut Shelf::default(), |_| {}));
    }

    #[test]
    fn a_keeper_that_begins_anew_is_told_and_one_that_is_away_is_left_alone_for_longer_each_time() {
        let place = place("again");
        let (keeper, of_taps) = (Keeper::new(&place, "one"), Keeper::new(&place, "one's taps"));
        let files = |paths: [&str; 2]| {
            paths.map(|path| OwnedFd::from(File::open(path).expect("a file every machine has")))
        };
        let watched = Watched {
            keeper: keeper.clone(),
            files: files(["/dev/null", "/dev/zero"]),
            taps: Arc::new(TapShelf::new(of_taps.clone())),
            is_kept: Arc::new(AtomicBool::new(true)),
        };
        let taps = || of_taps.take().expect("a keeper").map_or(0, |files| files.len());
        let tap = File::open("/dev/null").expect("a file every machine has");
        assert!(watched.taps.keep(&[tap.as_fd()]).is_err(), "there is no keeper");
        let mut pause = LOOK;
        let mut pauses = Vec::new();
        for _ in 0..6 {
            pause = watched.look(pause).expect("it goes on");
            pauses.push(pause.as_secs());
        }
        assert_eq!((pauses, watched.is_kept.load(Relaxed)), (vec![2, 4, 8, 16, 16, 16], false));
        begins_at(&place);
        assert_eq!(watched.look(pause), Some(LOOK));
        assert!(
            watched.is_kept.load(Relaxed)
                && keeper.take().expect("a keeper").is_some_and(|files| files.len() == 2)
        );
        assert_eq!(taps(), 1);
        assert!(watched.ensure().expect("a keeper"), "it has them");
        keeper.keep(&files(["/dev/zero", "/dev/null"]).each_ref().map(AsFd::as_fd)).expect("a keeper");
        assert!(!watched.ensure().expect("a keeper"), "it had those of a process before");
        assert!(watched.ensure().expect("a keeper"), "it has ours");
        keeper.forget().expect("a keeper");
        of_taps.forget().expect("a keeper");
        assert!(!watched.ensure().expect("a keeper"), "it had nothing");
        assert_eq!(taps(), 1);
        watched.taps.keep(&[]).expect("a keeper");
        assert_eq!(taps(), 0);
        std::fs::remove_file(place).expect("its socket");
    }
}
