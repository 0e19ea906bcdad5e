//! Tracked processes: `/proc` is looked through twice a second, by a thread of its own. The kernel would tell each start and end at
//! once, but to who has NET_ADMIN, and it drops what comes in bursts: whoever relies on that has to look again anyway.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::error;

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long somebody waits for the first look.
const FIRST: Duration = Duration::from_millis(100);
/// The kernel keeps so much of a name (`TASK_COMM_LEN`, without the zero).
const NAME_BYTES_KEPT: usize = 15;

/// How many processes of each name run. Those that nobody has counted yet are not there.
pub(crate) type Counts = BTreeMap<String, u32>;

#[derive(Default)]
struct State {
    names: BTreeSet<String>,
    counts: Counts,
    has_thread: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// All names were counted.
    counted: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Processes(Arc<Shared>);

impl Processes {
    /// From now on these are counted.
    pub(super) fn watch(&self, names: BTreeSet<String>) {
        let mut state = self.0.state();
        state.counts.retain(|name, _| names.contains(name));
        state.names = names;
    }

    /// How many there are of each name. Waits a little for the first look at new ones. To be called on a thread that runs where this
    /// one's is to run.
    pub(super) fn look(&self) -> Counts {
        let mut state = self.0.state();
        if !state.names.is_empty() && !std::mem::replace(&mut state.has_thread, true) {
            let shared = self.0.clone();
            let spawned =
                thread::Builder::new().name("weir-processes".to_owned()).spawn(move || run(&shared));
            if let Err(problem) = spawned {
                error!("VRRP: tracked processes are not counted, for lack of a thread: {problem}");
                state.has_thread = false;
                return state.counts.clone();
            }
            let is_uncounted =
                |state: &mut State| !state.names.iter().all(|it| state.counts.contains_key(it));
            let waited = self.0.counted.wait_timeout_while(state, FIRST, is_uncounted);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.counts.clone()
    }

    /// What the last look has found.
    pub(crate) fn counts(&self) -> Counts {
        self.0.state().counts.clone()
    }
}

#[cfg(test)]
impl Processes {
    /// After a look that has found these.
    pub(crate) fn counted(counts: Counts) -> Self {
        let processes = Self::default();
        processes.0.state().counts = counts;
        processes
    }
}

/// Looks again and again, as long as there is something to look for.
fn run(shared: &Shared) {
    loop {
        let mut state = shared.state();
        if state.names.is_empty() {
            state.has_thread = false;
            return;
        }
        let names = state.names.clone();
        drop(state);
        let mut counts = count(Path::new("/proc"), &names);
        let mut state = shared.state();
        counts.retain(|name, _| state.names.contains(name));
        state.counts = counts;
        drop(state);
        shared.counted.notify_all();
        thread::sleep(INTERVAL);
    }
}

/// How many processes below this folder have each name.
fn count(proc: &Path, names: &BTreeSet<String>) -> Counts {
    let mut counts: Counts = names.iter().map(|name| (name.clone(), 0)).collect();
    let wanted: BTreeSet<&[u8]> = names.iter().map(|name| kept(name)).collect();
    for entry in fs::read_dir(proc).into_iter().flatten().flatten() {
        let folder = entry.path();
        let is_number = entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit);
        let Some(short) = is_number.then(|| living(&folder)).flatten().filter(|it| wanted.contains(&it[..]))
        else {
            continue;
        };
        for (name, count) in &mut counts {
            let is_one = kept(name) == short && (name.len() <= NAME_BYTES_KEPT || is_called(&folder, name));
            *count += u32::from(is_one);
        }
    }
    counts
}

/// As much of a name as the kernel keeps.
fn kept(name: &str) -> &[u8] {
    &name.as_bytes()[..name.len().min(NAME_BYTES_KEPT)]
}

/// The name of a process that has not ended, as far as the kernel keeps it.
fn living(folder: &Path) -> Option<Vec<u8>> {
    let stat = fs::read(folder.join("stat")).ok()?;
    // The name stands in parentheses and may hold any.
    let (from, to) = (stat.iter().position(|it| *it == b'(')? + 1, stat.iter().rposition(|it| *it == b')')?);
    let state = stat.get(to + 2)?;
    (!b"ZXx".contains(state)).then(|| stat.get(from..to).unwrap_or_default().to_vec())
}

/// Whether it was started by this name, of which the kernel keeps a part.
fn is_called(folder: &Path, name: &str) -> bool {
    let words = fs::read(folder.join("cmdline")).unwrap_or_default();
    let first = words.split(|byte| *byte == 0).next().unwrap_or_default();
    first.rsplit(|byte| *byte == b'/').next() == Some(name.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};
    use std::time::Instant;

    use super::*;

    fn start(program: &Path) -> Child {
        Command::new(program).arg("60").stdin(Stdio::null()).spawn().unwrap()
    }

    #[test]
    fn processes_are_counted_by_their_names_and_those_that_have_ended_are_not() {
        let folder = std::env::temp_dir().join(format!("weir-processes-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let number = std::process::id();
        let names = [
            format!("w{number}"),
            format!("weir-a-long-name-{number}"),
            format!("weir-a-long-name-{number}x"),
        ];
        for name in &names[..2] {
            std::os::unix::fs::symlink("/bin/sleep", folder.join(name)).unwrap();
        }
        let processes = Processes::default();
        processes.watch(names.iter().cloned().collect());
        let end = Instant::now() + Duration::from_secs(60);
        let wait_for = |wanted: [u32; 3]| loop {
            let counts = processes.look();
            if names.each_ref().map(|name| counts.get(name).copied().unwrap_or(9)) == wanted {
                return;
            }
            assert!(Instant::now() < end, "{counts:?}");
            thread::sleep(Duration::from_millis(10));
        };
        wait_for([0, 0, 0]);
        let mut children: Vec<Child> =
            [0, 0, 1].into_iter().map(|name: usize| start(&folder.join(&names[name]))).collect();
        wait_for([2, 1, 0]);
        // A zombie, until it is waited for.
        children[0].kill().unwrap();
        wait_for([1, 1, 0]);
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        wait_for([0, 0, 0]);
        processes.watch(BTreeSet::new());
        assert!(processes.counts().is_empty());
        fs::remove_dir_all(&folder).unwrap();
    }
}
