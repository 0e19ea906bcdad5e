//! Work that reads files should be over at once, and may wait: for a file system that does not answer, for whoever writes a pipe. So that
//! nobody waits in silence, what lasts is said.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// What takes longer is said. A large file takes some seconds.
pub const LONG: Duration = Duration::from_secs(5);
/// From one time that it is said to the next.
pub const AGAIN: Duration = Duration::from_secs(60);

/// Does the work. While it lasts, `say` is told for how long, by a thread that is gone after that. Returns how long it has lasted as well, if
/// that was said.
pub fn watched<T>(
    say: impl Fn(Duration) + Send + 'static,
    work: impl FnOnce() -> T,
) -> (T, Option<Duration>) {
    watched_from(LONG, say, work)
}

fn watched_from<T>(
    long: Duration,
    say: impl Fn(Duration) + Send + 'static,
    work: impl FnOnce() -> T,
) -> (T, Option<Duration>) {
    let (is_done, wait) = channel::<()>();
    let begun = Instant::now();
    let watch = move || {
        let mut limit = long;
        while wait.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            limit = AGAIN;
            say(begun.elapsed());
        }
        limit == AGAIN
    };
    // Who lacks a thread has other problems.
    let watching = thread::Builder::new().name("weir-lasting".to_owned()).spawn(watch);
    let done = work();
    drop(is_done);
    let was_said = watching.ok().and_then(|it| it.join().ok()).unwrap_or(false);
    (done, was_said.then(|| begun.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_said_while_it_does() {
        let (tell, told) = channel();
        let say = move |lasts| tell.send(lasts).unwrap();
        let soon = Duration::from_millis(20);
        // The work is over when it was said.
        let (said, lasted) = watched_from(soon, say, || told.recv().unwrap());
        assert!(said >= soon && lasted.is_some_and(|lasted| lasted >= said), "{said:?} {lasted:?}");
        let say = |lasts| panic!("after {lasts:?}");
        assert_eq!(watched(say, || 7), (7, None));
    }
}
