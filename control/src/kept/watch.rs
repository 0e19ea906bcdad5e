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

use crate::rights::{self, Early};

/// How often the keeper is asked whether it has what it should.
const LOOK: Duration = Duration::from_secs(1);
/// How long it is left alone at most after it did not answer.
const PAUSE_MAX: Duration = Duration::from_secs(16);

/// Looks after what `keeper` keeps as long as this process lives, on a thread of its own, since a keeper may hang.
pub(super) fn begin(keeper: Keeper, files: [OwnedFd; 2], is_kept: Arc<AtomicBool>) {
    let run = move || {
        let mut pause = LOOK;
        let mut rights = Early::begin(rights::NONE);
        loop {
            thread::sleep(pause);
            rights.look();
            let Some(next) = look(&keeper, &files, &is_kept, pause) else { return };
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
fn look(keeper: &Keeper, files: &[OwnedFd; 2], is_kept: &AtomicBool, pause: Duration) -> Option<Duration> {
    match ensure(keeper, files) {
        Ok(was_there) => {
            if !was_there || !is_kept.load(Relaxed) {
                info!("weir-keeper is there again, and keeps the connections");
            }
            is_kept.store(true, Relaxed);
            Some(LOOK)
        }
        // This process may have given up its rights since. What the keeper has is not less for that.
        Err(problem) if problem.kind() == ErrorKind::PermissionDenied => {
            warn!("a weir-keeper that begins anew will not be told of connections: {problem}");
            None
        }
        Err(problem) => {
            if is_kept.swap(false, Relaxed) {
                warn!("connections end with this process until weir-keeper is there again: {problem}");
            }
            Some((pause * 2).min(PAUSE_MAX))
        }
    }
}

/// Has the keeper keep these if it does not. Whether it did.
fn ensure(keeper: &Keeper, files: &[OwnedFd; 2]) -> io::Result<bool> {
    if keeper.take()?.is_some_and(|kept| are_same(&kept, files)) {
        return Ok(true);
    }
    keeper.keep(&files.each_ref().map(AsFd::as_fd))?;
    Ok(false)
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
        let keeper = Keeper::new(&place, "one");
        let files = [File::open("/dev/null"), File::open("/dev/zero")];
        let files = files.map(|file| OwnedFd::from(file.expect("a file")));
        let is_kept = AtomicBool::new(true);
        let mut pause = LOOK;
        let mut pauses = Vec::new();
        for _ in 0..6 {
            pause = look(&keeper, &files, &is_kept, pause).expect("it goes on");
            pauses.push(pause.as_secs());
        }
        assert_eq!((pauses, is_kept.load(Relaxed)), (vec![2, 4, 8, 16, 16, 16], false));
        begins_at(&place);
        assert_eq!(look(&keeper, &files, &is_kept, pause), Some(LOOK));
        assert!(
            is_kept.load(Relaxed) && keeper.take().expect("a keeper").is_some_and(|files| files.len() == 2)
        );
        assert!(ensure(&keeper, &files).expect("a keeper"), "it has them");
        let others = [File::open("/dev/zero"), File::open("/dev/null")];
        let others = others.map(|file| OwnedFd::from(file.expect("a file")));
        keeper.keep(&others.each_ref().map(AsFd::as_fd)).expect("a keeper");
        assert!(!ensure(&keeper, &files).expect("a keeper"), "it had those of a process before");
        assert!(ensure(&keeper, &files).expect("a keeper"), "it has ours");
        keeper.forget().expect("a keeper");
        assert!(!ensure(&keeper, &files).expect("a keeper"), "it had nothing");
        std::fs::remove_file(place).expect("its socket");
    }
}
