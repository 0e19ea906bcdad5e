//! Tracked files, read by a thread of their own: a file system that hangs holds up their numbers and nothing else.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::{error, info, warn};

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
    read: Read,
    runs: bool,
    /// Nobody has waited for the first look at these files.
    are_new: bool,
}

impl Files {
    /// None.
    pub(super) fn new() -> Self {
        Self::read_by(number_in)
    }

    fn read_by(read: Read) -> Self {
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

fn run(shared: &Shared, read: Read) {
    let mut wrong = HashSet::new();
    loop {
        let paths = shared.state().paths.clone();
        wrong.retain(|path| paths.contains(path));
        for path in paths {
            let number = read(&path);
            match look(&mut wrong, &path, &number) {
                Some(Said::Wrong(why)) => {
                    warn!(file = path, "VRRP: a tracked file holds no number, what it held stays: {why}");
                }
                Some(Said::Right(number)) => {
                    info!(file = path, number, "VRRP: a tracked file holds a number again");
                }
                None => {}
            }
            let mut state = shared.state();
            if state.paths.contains(&path) {
                state.numbers.insert(path, number.ok());
            }
        }
        shared.read.notify_all();
        thread::sleep(INTERVAL);
    }
}

/// What is to be said of a file.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Wrong(String),
    Right(i64),
}

/// What is new about a file: that it holds no number is said once, as the end of that is.
fn look(wrong: &mut HashSet<String>, path: &str, number: &Result<i64, String>) -> Option<Said> {
    match number {
        Ok(number) => wrong.remove(path).then_some(Said::Right(*number)),
        Err(why) => wrong.insert(path.to_owned()).then(|| Said::Wrong(why.clone())),
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
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_file_that_hangs_holds_nobody_up() {
        let mut files = Files::read_by(|path| match path {
            "hangs" => loop {
                thread::park();
            },
            path => path.parse().map_err(|_| "no number".to_owned()),
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
    fn rubbish_is_said_once_and_so_is_its_end() {
        let path = std::env::temp_dir().join(format!("weir-rubbish-{}", std::process::id()));
        let name = path.display().to_string();
        let mut wrong = HashSet::new();
        let mut said = |text: Option<&str>| {
            match text {
                Some(text) => std::fs::write(&path, text).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            look(&mut wrong, &name, &number_in(&name))
        };
        assert_eq!(said(Some("7\n")), None);
        assert_eq!(said(Some("seven\n")), Some(Said::Wrong("\"seven\" is no whole number".to_owned())));
        assert_eq!(said(Some("")), None);
        assert_eq!(said(Some("-3")), Some(Said::Right(-3)));
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
