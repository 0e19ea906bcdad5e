//! Writes small files beside control, a thread for each folder: a file system that hangs holds up its own files and nothing else. Of
//! each file the last text that was given waits, so that what hangs for long takes no more memory.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::lasting::{Lasting, Lasts, Said};

/// Between two lines in the log about the same file.
const LOG_INTERVAL: Duration = Duration::from_secs(3600);

/// How a file is written.
pub(super) type Write = fn(&Path, &str) -> io::Result<()>;

/// What waits for the thread of a folder.
#[derive(Default)]
struct State {
    texts: HashMap<PathBuf, String>,
    /// What is being written, and since when.
    under_way: Option<(PathBuf, Instant)>,
    is_over: bool,
}

#[derive(Default)]
struct Folder {
    state: Mutex<State>,
    news: Condvar,
}

impl Folder {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.state().is_over = true;
        self.news.notify_one();
    }

    /// Writes what comes.
    fn run(&self, write: Write) {
        let mut logged: HashMap<PathBuf, Instant> = HashMap::new();
        loop {
            let waits = |state: &mut State| state.texts.is_empty() && !state.is_over;
            let mut state = self.news.wait_while(self.state(), waits).unwrap_or_else(PoisonError::into_inner);
            let Some(path) = state.texts.keys().next().cloned() else { return };
            let text = state.texts.remove(&path).unwrap_or_default();
            state.under_way = Some((path.clone(), Instant::now()));
            drop(state);
            let written = write(&path, &text);
            self.state().under_way = None;
            if let Err(problem) = written
                && logged.get(&path).is_none_or(|last| last.elapsed() >= LOG_INTERVAL)
            {
                warn!(file = %path.display(), "VRRP: the sequence number can't be kept: {problem}");
                logged.insert(path, Instant::now());
            }
        }
    }
}

/// See the module. Its end is that of its threads, once they have written what waits.
pub(super) struct Writer {
    write: Write,
    folders: HashMap<PathBuf, Arc<Folder>>,
    lasting: Lasting,
    lasts: Lasts,
    /// The file that was said not to be written.
    late: PathBuf,
    /// When the log last said that there is no thread.
    refused: Option<Instant>,
}

impl Writer {
    pub(super) fn new(write: Write) -> Self {
        let lasts = Lasts::default();
        let lasting = Lasting::shown_by(lasts.clone());
        Self { write, folders: HashMap::new(), lasting, lasts, late: PathBuf::new(), refused: None }
    }

    /// From now on only these are written. The thread of another folder ends, unless it hangs: if the folder came back there
    /// would be a second one beside it.
    pub(super) fn keep_to<'p>(&mut self, paths: impl Iterator<Item = &'p Path>) {
        let folders: Vec<&Path> = paths.map(folder_of).collect();
        self.folders.retain(|path, folder| {
            let is_kept = folders.contains(&path.as_path()) || folder.state().under_way.is_some();
            if !is_kept {
                folder.end();
            }
            is_kept
        });
    }

    /// Has this written instead of what is in the file. Never waits. False: there is no thread for it.
    pub(super) fn write(&mut self, path: &Path, text: String) -> bool {
        let folder = folder_of(path);
        if !self.folders.contains_key(folder) && !self.start(folder) {
            return false;
        }
        let Some(folder) = self.folders.get(folder) else { return false };
        folder.state().texts.insert(path.to_owned(), text);
        folder.news.notify_one();
        true
    }

    fn start(&mut self, path: &Path) -> bool {
        let folder = Arc::new(Folder::default());
        let (theirs, write) = (folder.clone(), self.write);
        let builder = thread::Builder::new().name("weir-sequence".to_owned());
        if let Err(problem) = builder.spawn(move || theirs.run(write)) {
            if self.refused.is_none_or(|last| last.elapsed() >= LOG_INTERVAL) {
                self.refused = Some(Instant::now());
                warn!("VRRP: sequence numbers are not kept: no thread for it: {problem}");
            }
            return false;
        }
        self.folders.insert(path.to_owned(), folder);
        true
    }

    /// How long the write that is under way lasts, of several the longest.
    pub(super) fn lasts(&self) -> Lasts {
        self.lasts.clone()
    }

    /// Says so if a write does not come to its end.
    pub(super) fn look(&mut self, now: Instant) {
        let under_way = self.folders.values().filter_map(|folder| folder.state().under_way.clone());
        let longest = under_way.min_by_key(|(_, began)| *began);
        match self.lasting.look(longest.as_ref().map(|(_, began)| *began), now) {
            Some(Said::GoesOn(lasts)) => {
                self.late = longest.map(|(path, _)| path).unwrap_or_default();
                warn!(
                    file = %self.late.display(),
                    "VRRP: a sequence file has been written for {:.0} s, and what it holds falls behind, so that recordings may be believed after a restart: its file system may not answer",
                    lasts.as_secs_f64()
                );
            }
            Some(Said::Ended(lasted)) => {
                info!(
                    file = %self.late.display(),
                    "VRRP: the sequence file is written, after {:.0} s",
                    lasted.as_secs_f64()
                );
            }
            None => {}
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.folders.values().for_each(|folder| folder.end());
    }
}

/// Files of one folder are on one file system.
fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_hangs_holds_up_no_other_folder_and_its_last_text_is_written_in_the_end() {
        static IS_THERE: Mutex<bool> = Mutex::new(false);
        static WRITTEN: Mutex<Vec<(PathBuf, String)>> = Mutex::new(Vec::new());
        let write = |path: &Path, text: &str| {
            while path.starts_with("/hangs") && !*IS_THERE.lock().unwrap() {
                thread::sleep(Duration::from_millis(1));
            }
            WRITTEN.lock().unwrap().push((path.to_owned(), text.to_owned()));
            Ok(())
        };
        let (slow, quick) = (Path::new("/hangs/a"), Path::new("/quick/b"));
        let texts = |of: &Path| {
            let written = WRITTEN.lock().unwrap();
            written.iter().filter(|(path, _)| path == of).map(|(_, text)| text.clone()).collect::<Vec<_>>()
        };
        let end = Instant::now() + Duration::from_secs(60);
        let wait = |what: &str, is_so: &mut dyn FnMut() -> bool| {
            while !is_so() {
                assert!(Instant::now() < end, "{what}");
                thread::sleep(Duration::from_millis(1));
            }
        };
        let mut writer = Writer::new(write);
        assert!(writer.write(slow, "first".to_owned()));
        wait("the write under way", &mut || {
            writer.look(Instant::now());
            writer.lasts().seconds() > 0.0
        });
        for number in 0..1000 {
            assert!(writer.write(slow, format!("{number}")));
            assert!(writer.write(quick, format!("{number}")));
        }
        wait("the other folder", &mut || texts(quick).last().is_some_and(|text| text == "999"));
        assert_eq!(writer.folders[folder_of(slow)].state().texts.len(), 1);
        *IS_THERE.lock().unwrap() = true;
        wait("the last text", &mut || texts(slow) == ["first", "999"]);
        wait("nothing under way", &mut || {
            writer.look(Instant::now());
            writer.lasts().seconds() == 0.0
        });
        let thread = writer.folders[folder_of(slow)].clone();
        assert_eq!(Arc::strong_count(&thread), 3);
        writer.keep_to([quick].into_iter());
        wait("the end of the thread", &mut || Arc::strong_count(&thread) == 1);
        assert_eq!(writer.folders.len(), 1);
    }
}
