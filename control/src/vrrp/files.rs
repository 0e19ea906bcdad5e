//! Tracked files, each read by a thread of its own: a file system that hangs holds up the numbers of its files and nothing else.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use crate::lasting::{Lasting, Lasts, Said};

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(100);
/// How long somebody waits for the first look at a file.
const FIRST: Duration = Duration::from_millis(50);
/// A file that is tracked holds a number and no more.
const BYTES_MAX: u64 = 64;

/// How a file is read: the number in it, or why there is none.
type Read = fn(&str) -> Result<i64, String>;

/// What is read, and what was.
#[derive(Default)]
struct State {
    paths: HashSet<String>,
    numbers: HashMap<String, Option<i64>>,
    /// Those that have a thread.
    read: HashSet<String>,
    /// What is being read, and since when.
    under_way: HashMap<String, Instant>,
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
    read: Read,
    /// Nobody has waited for the first look at these files.
    are_new: bool,
    lasts: Lasts,
    lasting: Lasting,
    /// The file that was said not to come.
    late: String,
}

impl Files {
    /// None.
    pub(super) fn new() -> Self {
        Self::read_by(number_in)
    }

    fn read_by(read: Read) -> Self {
        let lasts = Lasts::default();
        let lasting = Lasting::shown_by(lasts.clone());
        Self { shared: Arc::default(), read, are_new: false, lasts, lasting, late: String::new() }
    }

    /// From now on these are read.
    pub(super) fn watch(&mut self, paths: Vec<String>) {
        let mut state = self.shared.state();
        state.numbers.retain(|path, _| paths.contains(path));
        self.are_new |= !paths.iter().all(|path| state.numbers.contains_key(path));
        state.paths = paths.into_iter().collect();
    }

    /// How long the read that is under way lasts.
    pub(super) fn reading(&self) -> Lasts {
        self.lasts.clone()
    }

    /// Says so if a file does not come, of several the one that has been read for longest.
    pub(super) fn look(&mut self, now: Instant) {
        let state = self.shared.state();
        let longest = state.under_way.iter().min_by_key(|(_, began)| **began);
        let longest = longest.map(|(path, began)| (path.clone(), *began));
        drop(state);
        match self.lasting.look(longest.as_ref().map(|(_, began)| *began), now) {
            Some(Said::GoesOn(lasts)) => {
                self.late = longest.map(|(path, _)| path).unwrap_or_default();
                warn!(
                    file = self.late,
                    "VRRP: a tracked file has been read for {:.0} s, and what it held stays until it comes: its file system may not answer",
                    lasts.as_secs_f64()
                );
            }
            Some(Said::Ended(lasted)) => {
                info!(
                    file = self.late,
                    "VRRP: the tracked file has come, after {:.0} s",
                    lasted.as_secs_f64()
                );
            }
            None => {}
        }
    }

    /// The number in a file, 0 if there is no file; `None` if it holds none, or could not be read yet. To be called on a thread that runs
    /// where this one's is to run.
    pub(super) fn number(&mut self, path: &str) -> Option<i64> {
        if std::mem::take(&mut self.are_new) {
            self.start();
            let state = self.shared.state();
            let is_unread = |state: &mut State| !state.paths.iter().all(|it| state.numbers.contains_key(it));
            drop(self.shared.read.wait_timeout_while(state, FIRST, is_unread));
        }
        self.shared.state().numbers.get(path).copied().flatten()
    }

    /// A thread for each file that has none.
    fn start(&self) {
        let mut state = self.shared.state();
        let missing: Vec<String> = state.paths.difference(&state.read).cloned().collect();
        state.read.extend(missing.iter().cloned());
        drop(state);
        for path in missing {
            let (shared, read, file) = (self.shared.clone(), self.read, path.clone());
            let run = move || run(&shared, &file, read);
            if let Err(problem) = thread::Builder::new().name("weir-tracked".to_owned()).spawn(run) {
                error!(file = path, "VRRP: a tracked file is not read, for lack of a thread: {problem}");
                self.shared.state().read.remove(&path);
            }
        }
    }
}

/// Reads a file over and over, as long as it is tracked.
fn run(shared: &Shared, path: &str, read: Read) {
    let mut is_wrong = false;
    loop {
        let mut state = shared.state();
        if !state.paths.contains(path) {
            state.read.remove(path);
            return;
        }
        state.under_way.insert(path.to_owned(), Instant::now());
        drop(state);
        let number = read(path);
        match look(&mut is_wrong, &number) {
            Some(News::Wrong(why)) => {
                warn!(file = path, "VRRP: a tracked file holds no number, what it held stays: {why}");
            }
            Some(News::Right(number)) => {
                info!(file = path, number, "VRRP: a tracked file holds a number again");
            }
            None => {}
        }
        let mut state = shared.state();
        state.under_way.remove(path);
        if state.paths.contains(path) {
            state.numbers.insert(path.to_owned(), number.ok());
        }
        drop(state);
        shared.read.notify_all();
        thread::sleep(INTERVAL);
    }
}

/// What is to be said of a file.
#[derive(Debug, PartialEq, Eq)]
enum News {
    Wrong(String),
    Right(i64),
}

/// What is new about a file: that it holds no number is said once, as the end of that is.
fn look(is_wrong: &mut bool, number: &Result<i64, String>) -> Option<News> {
    let was_wrong = std::mem::replace(is_wrong, number.is_err());
    match number {
        Ok(number) => was_wrong.then_some(News::Right(*number)),
        Err(why) => (!was_wrong).then(|| News::Wrong(why.clone())),
    }
}

/// The number in a file, 0 if there is no file.
fn number_in(path: &str) -> Result<i64, String> {
    let bytes = match weir_config::read_file(Path::new(path), BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(problem) if problem.kind() == ErrorKind::NotFound => return Ok(0),
        Err(problem) => return Err(problem.to_string()),
    };
    let text = String::from_utf8_lossy(&bytes);
    text.trim().parse().map_err(|_| format!("{:?} is no whole number", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_hangs_holds_nobody_up_and_is_shown() {
        let mut files = Files::read_by(|path| match path {
            "hangs" => loop {
                thread::park();
            },
            path => std::fs::read_to_string(path).unwrap().parse().map_err(|_| "no number".to_owned()),
        });
        let path = std::env::temp_dir().join(format!("weir-beside-{}", std::process::id()));
        let name = path.display().to_string();
        std::fs::write(&path, "7").unwrap();
        files.watch(vec!["hangs".to_owned(), name.clone()]);
        let end = Instant::now() + Duration::from_secs(60);
        let mut wait = |wanted| {
            while (files.number(&name), files.number("hangs")) != (Some(wanted), None) {
                assert!(Instant::now() < end, "not {wanted}");
                thread::sleep(Duration::from_millis(5));
            }
        };
        wait(7);
        // Others are followed all the while.
        let other = path.with_extension("new");
        std::fs::write(&other, "8").unwrap();
        std::fs::rename(&other, &path).unwrap();
        wait(8);
        // The longest of all that are read.
        while files.reading().seconds() < 0.3 {
            assert!(Instant::now() < end);
            files.look(Instant::now());
            thread::sleep(Duration::from_millis(5));
        }
        // The thread of the one that is gone ends.
        files.watch(vec!["hangs".to_owned()]);
        while files.shared.state().read.len() > 1 {
            assert!(Instant::now() < end);
            thread::sleep(Duration::from_millis(5));
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn rubbish_is_said_once_and_so_is_its_end() {
        let path = std::env::temp_dir().join(format!("weir-rubbish-{}", std::process::id()));
        let name = path.display().to_string();
        let mut is_wrong = false;
        let mut said = |text: Option<&str>| {
            match text {
                Some(text) => std::fs::write(&path, text).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            look(&mut is_wrong, &number_in(&name))
        };
        assert_eq!(said(Some("7\n")), None);
        assert_eq!(said(Some("seven\n")), Some(News::Wrong("\"seven\" is no whole number".to_owned())));
        assert_eq!(said(Some("")), None);
        assert_eq!(said(Some("-3")), Some(News::Right(-3)));
        assert_eq!(said(None), None);
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
