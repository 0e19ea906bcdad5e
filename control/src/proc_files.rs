//! `[control] proc_directory`: `net/ip_vs` and `net/ip_vs_stats`, kept current for programs that read them in /proc otherwise.
//!
//! A thread of its own writes them, so that a file system that does not answer holds up these files and nothing else.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};
use weir_api::proc;
use weir_config::model::Config;

use crate::http::with_virtual_servers;
use crate::lasting::{Lasting, Lasts, Said};
use crate::metrics::Metrics;

/// From one writing to the next: as often as rates are sampled.
const INTERVAL: Duration = Duration::from_secs(2);
/// With very many real servers the pause is so many times as long as the writing took: it runs on control's core.
const PAUSE_FACTOR: u32 = 20;
/// How long a stop waits for the files to be removed.
const END: Duration = Duration::from_millis(500);

/// Writes the files.
type Keep = Box<dyn Fn(&Path) -> std::io::Result<()> + Send>;

#[derive(Default)]
struct State {
    /// Where they are to be kept.
    directory: Option<PathBuf>,
    /// Since when they are being written or removed.
    began: Option<Instant>,
    is_over: bool,
    has_ended: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module.
pub(crate) struct ProcFiles {
    shared: Arc<Shared>,
    /// Until the thread is started, which it is when there is a directory for the first time.
    keep: Option<Keep>,
    lasting: Lasting,
}

impl ProcFiles {
    /// Of these figures. `lasts` shows how long the files take.
    pub(crate) fn new(metrics: Arc<Metrics>, lasts: Lasts) -> Self {
        let keep = move |directory: &Path| with_virtual_servers(&metrics, |them| proc::keep(directory, them));
        Self::kept_by(Box::new(keep), lasts)
    }

    fn kept_by(keep: Keep, lasts: Lasts) -> Self {
        Self { shared: Arc::default(), keep: Some(keep), lasting: Lasting::shown_by(lasts) }
    }

    /// From now on they are kept where this file says, if it does. To be called on a thread that runs where theirs is to run.
    pub(crate) fn follow(&mut self, file: &Config) {
        let wanted = &file.control.proc_directory;
        let mut state = self.shared.state();
        if state.directory == *wanted {
            return;
        }
        state.directory.clone_from(wanted);
        drop(state);
        self.shared.changed.notify_all();
        if let Some(keep) = self.keep.take() {
            let shared = self.shared.clone();
            let run = move || run(&shared, &keep);
            if let Err(problem) = thread::Builder::new().name("weir-proc".to_owned()).spawn(run) {
                error!("no files are kept in [control] proc_directory, for lack of a thread: {problem}");
            }
        }
    }

    /// Says so if they take long.
    pub(crate) fn look(&mut self, now: Instant) {
        let state = self.shared.state();
        let (began, directory) = (state.began, state.directory.clone());
        drop(state);
        match self.lasting.look(began, now) {
            Some(Said::GoesOn(lasts)) => warn!(
                directory = %directory.unwrap_or_default().display(),
                "the files of [control] proc_directory have been written for {:.0} s, and those that are there get old: their file system may not answer",
                lasts.as_secs_f64()
            ),
            Some(Said::Ended(lasted)) => {
                info!(
                    "the files of [control] proc_directory are written, after {:.0} s",
                    lasted.as_secs_f64()
                );
            }
            None => {}
        }
    }

    /// Has them removed, and waits a moment for that.
    pub(crate) fn end(self) {
        let mut state = self.shared.state();
        state.is_over = true;
        self.shared.changed.notify_all();
        if self.keep.is_none() {
            drop(self.shared.changed.wait_timeout_while(state, END, |state| !state.has_ended));
        }
    }
}

/// Keeps them, wherever it is told to, until it is told to end.
fn run(shared: &Shared, keep: &Keep) {
    let mut kept: Option<PathBuf> = None;
    let mut is_wrong = false;
    let mut pause = Duration::ZERO;
    loop {
        let state = shared.state();
        let is_same = |state: &mut State| !state.is_over && state.directory == kept;
        let (mut state, _) =
            shared.changed.wait_timeout_while(state, pause, is_same).unwrap_or_else(PoisonError::into_inner);
        let wanted = state.directory.clone().filter(|_| !state.is_over);
        let is_over = state.is_over;
        let began = Instant::now();
        state.began = Some(began);
        drop(state);
        if let Some(former) = kept.take().filter(|former| wanted.as_ref() != Some(former)) {
            proc::remove(&former);
            is_wrong = false;
        }
        if let Some(directory) = &wanted {
            say(directory, keep(directory), &mut is_wrong);
        }
        pause = if wanted.is_some() { INTERVAL.max(began.elapsed() * PAUSE_FACTOR) } else { Duration::MAX };
        kept = wanted;
        let mut state = shared.state();
        state.began = None;
        state.has_ended = is_over;
        drop(state);
        shared.changed.notify_all();
        if is_over {
            return;
        }
    }
}

/// That they can't be written is said once, as the end of that is.
fn say(directory: &Path, written: std::io::Result<()>, is_wrong: &mut bool) {
    let was_wrong = std::mem::replace(is_wrong, written.is_err());
    let directory = directory.display();
    match written {
        Err(problem) if !was_wrong => {
            warn!(%directory, "the files of [control] proc_directory can't be written: {problem}");
        }
        Ok(()) if was_wrong => info!(%directory, "the files of [control] proc_directory are written again"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    fn file(directory: Option<&Path>) -> Config {
        let port = "[[port]]\nname = \"lan\"\ndevice = \"net_null0\"\n";
        let control = directory.map(|it| format!("[control]\nproc_directory = \"{}\"\n", it.display()));
        let text = format!("{}{port}", control.unwrap_or_default());
        weir_config::parse("weir.toml", &text).unwrap_or_else(|report| panic!("{report}")).config
    }

    fn listing(directory: &Path) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(directory.join("net")) else { return Vec::new() };
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Files that are written whenever the test says so; hears of each that is.
    fn played() -> (ProcFiles, Receiver<PathBuf>) {
        let (say, said) = channel();
        let keep = move |directory: &Path| {
            proc::keep(directory, &[])?;
            say.send(directory.to_owned()).unwrap();
            Ok(())
        };
        (ProcFiles::kept_by(Box::new(keep), Lasts::default()), said)
    }

    #[test]
    fn files_are_kept_where_the_file_says_and_go_with_weir() {
        let folder = std::env::temp_dir().join(format!("weir-proc-files-{}", std::process::id()));
        let [one, other] = ["one", "other"].map(|name| folder.join(name));
        let (mut files, said) = played();
        files.follow(&file(None));
        assert!(files.keep.is_some(), "a thread for nothing");
        let patience = Duration::from_secs(60);
        files.follow(&file(Some(&one)));
        assert_eq!(said.recv_timeout(patience).unwrap(), one);
        assert_eq!(listing(&one), ["ip_vs", "ip_vs_stats"]);
        files.follow(&file(Some(&other)));
        assert_eq!(said.recv_timeout(patience).unwrap(), other);
        assert_eq!((listing(&one).len(), listing(&other).len()), (0, 2));
        // Again and again.
        assert_eq!(said.recv_timeout(patience).unwrap(), other);
        files.end();
        assert_eq!(said.recv_timeout(patience).ok(), None, "its thread has ended");
        assert_eq!(listing(&other), [""; 0]);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_directory_that_hangs_holds_nobody() {
        let (go_on, wait) = channel::<()>();
        let keep = move |_: &Path| {
            let _ = wait.recv();
            Ok(())
        };
        let lasts = Lasts::default();
        let mut files = ProcFiles::kept_by(Box::new(keep), lasts.clone());
        files.follow(&file(Some(Path::new("/nowhere/proc"))));
        let began = Instant::now();
        while files.shared.state().began.is_none() {
            assert!(began.elapsed() < Duration::from_secs(60), "it does not begin");
            thread::yield_now();
        }
        files.look(Instant::now() + Duration::from_secs(100));
        assert!(lasts.seconds() >= 100.0);
        files.follow(&file(None));
        files.end();
        drop(go_on);
    }
}
