//! Tracked files, read by a thread of their own: a file system that hangs holds up their numbers and nothing else.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::error;

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(100);
/// How long somebody waits for the first look at a file.
const FIRST: Duration = Duration::from_millis(50);
/// A file that is tracked holds a number and no more.
const BYTES_MAX: u64 = 64;

/// What is read, and what was.
#[derive(Default)]
struct State {
    paths: Vec<String>,
    numbers: HashMap<String, Option<i64>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// All files were read.
    read: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module.
pub(super) struct Files {
    shared: Arc<Shared>,
    read: fn(&str) -> Option<i64>,
    runs: bool,
    /// Nobody has waited for the first look at these files.
    are_new: bool,
}

impl Files {
    /// None.
    pub(super) fn new() -> Self {
        Self::read_by(number_in)
    }

    fn read_by(read: fn(&str) -> Option<i64>) -> Self {
        Self { shared: Arc::default(), read, runs: false, are_new: false }
    }

    /// From now on these are read.
    pub(super) fn watch(&mut self, paths: Vec<String>) {
        let mut state = self.shared.state();
        state.numbers.retain(|path, _| paths.contains(path));
        self.are_new |= !paths.iter().all(|path| state.numbers.contains_key(path));
        state.paths = paths;
    }

    /// The number in a file, 0 if there is no file; `None` if it holds none, or could not be read yet. To be called on a thread that runs
    /// where this one's is to run.
    pub(super) fn number(&mut self, path: &str) -> Option<i64> {
        if !std::mem::replace(&mut self.runs, true) {
            let (shared, read) = (self.shared.clone(), self.read);
            let run = move || run(&shared, read);
            if let Err(problem) = thread::Builder::new().name("weir-tracked".to_owned()).spawn(run) {
                error!("tracked files are not read, for lack of a thread: {problem}");
            }
        }
        let mut state = self.shared.state();
        if std::mem::take(&mut self.are_new) {
            let is_unread = |state: &mut State| !state.paths.iter().all(|it| state.numbers.contains_key(it));
            let waited = self.shared.read.wait_timeout_while(state, FIRST, is_unread);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.numbers.get(path).copied().flatten()
    }
}

fn run(shared: &Shared, read: fn(&str) -> Option<i64>) {
    loop {
        let paths = shared.state().paths.clone();
        for path in paths {
            let number = read(&path);
            let mut state = shared.state();
            if state.paths.contains(&path) {
                state.numbers.insert(path, number);
            }
        }
        shared.read.notify_all();
        thread::sleep(INTERVAL);
    }
}

fn number_in(path: &str) -> Option<i64> {
    match weir_config::read_file(Path::new(path), BYTES_MAX) {
        Ok(text) => std::str::from_utf8(&text).ok()?.trim().parse().ok(),
        Err(problem) if problem.kind() == ErrorKind::NotFound => Some(0),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_file_that_hangs_holds_nobody_up() {
        let mut files = Files::read_by(|path| match path {
            "hangs" => loop {
                thread::park();
            },
            path => path.parse().ok(),
        });
        files.watch(vec!["7".to_owned(), "hangs".to_owned()]);
        let begin = Instant::now();
        assert_eq!((files.number("7"), files.number("hangs")), (Some(7), None));
        for _ in 0..100 {
            assert_eq!(files.number("hangs"), None);
        }
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    }

    #[test]
    fn numbers_are_there_at_the_first_question_and_follow_the_file() {
        let path = std::env::temp_dir().join(format!("weir-tracked-{}", std::process::id()));
        let name = path.display().to_string();
        let mut files = Files::new();
        files.watch(vec![name.clone()]);
        assert_eq!(files.number(&name), Some(0), "there is no file");
        std::fs::write(&path, "-7\n").unwrap();
        let mut wait = |wanted| {
            let end = Instant::now() + Duration::from_secs(20);
            while files.number(&name) != wanted {
                assert!(Instant::now() < end, "not {wanted:?}");
                thread::sleep(Duration::from_millis(5));
            }
        };
        wait(Some(-7));
        std::fs::write(&path, "seven").unwrap();
        wait(None);
        std::fs::remove_file(&path).unwrap();
        wait(Some(0));
    }
}
