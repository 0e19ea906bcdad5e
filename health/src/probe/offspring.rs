//! A program and all that it started, to be killed together.
//!
//! A group of processes is not enough: whoever calls `setsid` leaves it. Where weir may make a control group (version 2, as root of
//! the machine or of a delegated tree) the program is put into one before it starts, which nothing leaves, and the kernel kills
//! all of it at once. Elsewhere its descendants are looked for in `/proc`: by their parents, and, since an orphan has another
//! parent, by a variable that weir puts into the program's environment.
//!
//! Only a program that runs into its time limit is killed, or runs when weir ends. What one leaves behind that has ended goes on: a
//! hook may start a service.
//!
//! weir may end by force while the checker's thread hangs ([`end_all`]). So what runs is listed for all threads.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::Child;

/// Rounds of looking for processes that were started while others were killed.
const ROUNDS_MAX: usize = 16;
/// Control groups that somebody lives on in and that are looked at again for removal.
const LEFT_MAX: usize = 256;
/// Moves itself into the control group and becomes the program. A shell does it: between the start of a process and its move it
/// could have started others. Where it can't move it is found in `/proc` like the others.
const ENTER: &str = r#"{ echo 0 >"$0/cgroup.procs"; } 2>/dev/null; unset PWD OLDPWD SHLVL; exec "$@""#;
/// Control groups of runs are called so, with weir's process id and a number.
const NAME: &str = "weir-run-";

/// The kernel kills all in a control group when it is written to.
const KILL: &str = "cgroup.kill";
/// How long the end of weir waits for a program that is just being started.
const STARTING_MAX: Duration = Duration::from_millis(200);
/// What is still there so long after it was killed waits in the kernel, where no signal reaches it.
const DYING_MAX: Duration = Duration::from_secs(1);

static NUMBER: AtomicU64 = AtomicU64::new(0);
/// Control groups to be removed when the last process has left them.
static LEFT: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
/// Where control groups are made.
static PLACE: OnceLock<Option<PathBuf>> = OnceLock::new();
/// What runs.
static RUNNING: Mutex<Vec<Arc<Run>>> = Mutex::new(Vec::new());
/// Programs that are being started and not listed yet.
static STARTING: AtomicUsize = AtomicUsize::new(0);
/// What was killed at its limit and may not have ended.
static UNENDED: Mutex<Vec<Unended>> = Mutex::new(Vec::new());
/// No more are started.
static IS_OVER: AtomicBool = AtomicBool::new(false);

/// What a program is to do: what it is called with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Errand {
    pub(super) command: Vec<String>,
    pub(super) variables: Vec<(String, String)>,
}

/// One on an errand that was killed, and is not known to have ended.
struct Unended {
    errand: Errand,
    leader: Pid,
    killed: Instant,
    was_started: bool,
}

impl Errand {
    /// Whether one that was killed on this errand does not end, and if so, whether it was started. There is no second one then: with
    /// each further check there would be one more.
    pub(super) fn is_unended(&self) -> Option<bool> {
        let mut unended = UNENDED.lock().unwrap_or_else(PoisonError::into_inner);
        unended.retain(|it| lives(it.leader));
        // One that ran may well die in time for the next. Of one that was never started there is nothing to be learned meanwhile.
        let stays = |it: &&Unended| !it.was_started || it.killed.elapsed() >= DYING_MAX;
        let known = unended.iter().filter(|it| it.errand == *self).find(stays);
        known.map(|it| it.was_started)
    }
}

/// See the module. Dropping it before the leader was waited for kills all.
pub(super) struct Offspring {
    pub(super) leader: Child,
    run: Arc<Run>,
}

/// What is known of a program that runs.
struct Run {
    leader: Option<Pid>,
    token: String,
    pen: Option<Pen>,
}

/// A program is being started, from before it is there until it is listed.
pub(super) struct Starting(());

impl Starting {
    /// `None`: weir ends, and nothing is started any more.
    pub(super) fn begin() -> Option<Self> {
        STARTING.fetch_add(1, SeqCst);
        // Counted first: whoever ends all of them sets the other one first.
        let starting = Self(());
        (!IS_OVER.load(SeqCst)).then_some(starting)
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        STARTING.fetch_sub(1, SeqCst);
    }
}

/// Kills what runs, with all that it started, when weir ends by force: nobody would end it at its time limit. Nothing is started after
/// that. Takes no longer than `limit`, though a control group or `/proc` may hang.
pub fn end_all(limit: Duration) {
    IS_OVER.store(true, SeqCst);
    let (done, wait) = channel();
    let kill = move || {
        let begun = Instant::now();
        loop {
            let is_starting = STARTING.load(SeqCst) > 0;
            let runs = RUNNING.lock().unwrap_or_else(PoisonError::into_inner).clone();
            // Groups first: that takes no time, however many there are.
            for stopping in [true, false] {
                for (run, leader) in runs.iter().filter_map(|run| Some((run, run.living()?))) {
                    if stopping {
                        let _ = kill_process_group(leader, Signal::STOP);
                    } else {
                        run.kill(leader);
                    }
                }
            }
            if !is_starting || begun.elapsed() >= STARTING_MAX {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        let _ = done.send(());
    };
    // Without a thread for it they go on.
    if thread::Builder::new().name("weir-end".to_owned()).spawn(kill).is_ok() {
        let _ = wait.recv_timeout(limit);
    }
}

impl Offspring {
    /// Holds the token.
    pub(super) const VARIABLE: &str = "WEIR_RUN";

    pub(super) fn new(leader: Child, token: String, pen: Option<Pen>) -> Self {
        let run = Run { leader: leader.id().and_then(|id| Pid::from_raw(id as i32)), token, pen };
        let run = Arc::new(run);
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).push(run.clone());
        Self { leader, run }
    }

    /// Whether the leader still is what goes before the program: `words` with so many for the program at their end.
    pub(super) fn waits_for_program(&self, words: &[String], of_program: usize) -> bool {
        let Some(leader) = self.leader.id() else { return false };
        // Anybody may read it, and it waits for no file.
        let said = fs::read(format!("/proc/{leader}/cmdline")).unwrap_or_default();
        if said.is_empty() {
            // On its way from one to the next, or to its end.
            return self.run.living().is_some() && !is_exiting(leader);
        }
        let before = words.len().saturating_sub(of_program);
        (0..before).any(|at| {
            let mut rest = said.as_slice();
            let is_next = |word: &String| {
                let next = rest.strip_prefix(word.as_bytes()).and_then(|rest| rest.strip_prefix(b"\0"));
                next.map(|next| rest = next).is_some()
            };
            words[at..].iter().all(is_next) && rest.is_empty()
        })
    }

    /// Kills it at its limit, and notes what it was in case that it does not end.
    pub(super) fn end(self, errand: Errand, was_started: bool) {
        let Some(leader) = self.leader.id().and(self.run.leader) else { return };
        let unended = Unended { errand, leader, killed: Instant::now(), was_started };
        UNENDED.lock().unwrap_or_else(PoisonError::into_inner).push(unended);
    }

    /// A word that no other program has.
    pub(super) fn token() -> String {
        format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed))
    }
}

impl Drop for Offspring {
    fn drop(&mut self) {
        // Without an id it was waited for, and its number may be another's by now.
        if let Some(leader) = self.leader.id().and(self.run.leader) {
            self.run.kill(leader);
        }
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|run| !Arc::ptr_eq(run, &self.run));
    }
}

impl Run {
    /// The leader, if it runs: one that has ended leaves what it started alone, and its number may be another's.
    fn living(&self) -> Option<Pid> {
        self.leader.filter(|leader| lives(*leader))
    }

    /// All that its leader started, and the leader.
    fn kill(&self, leader: Pid) {
        if !self.pen.as_ref().is_some_and(|pen| pen.kill(leader)) {
            kill_by_proc(leader, &self.token);
        }
        let _ = kill_process_group(leader, Signal::KILL);
    }
}

/// Kills the descendants of a process and whoever has the token, until there are none.
fn kill_by_proc(leader: Pid, token: &str) {
    let mark = format!("{}={token}", Offspring::VARIABLE);
    let mut known = HashSet::from([leader.as_raw_nonzero().get()]);
    // What stands still starts nothing.
    let _ = kill_process_group(leader, Signal::STOP);
    for _ in 0..ROUNDS_MAX {
        let listed = processes();
        let mut found = Vec::new();
        // A parent may be listed behind its children.
        loop {
            let before = found.len();
            for (id, parent) in &listed {
                if !known.contains(id) && (known.contains(parent) || has_mark(*id, &mark)) {
                    known.insert(*id);
                    found.push(*id);
                }
            }
            if found.len() == before {
                break;
            }
        }
        if found.is_empty() {
            return;
        }
        for id in found.into_iter().filter_map(Pid::from_raw) {
            let _ = kill_process(id, Signal::KILL);
        }
    }
}

/// Whether a child of weir's has not ended.
fn lives(child: Pid) -> bool {
    parent_of(child.as_raw_nonzero().get()) == i32::try_from(std::process::id()).ok()
}

/// All processes that are not zombies, with their parents.
fn processes() -> Vec<(i32, i32)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    ids.filter_map(|id| Some((id, parent_of(id)?))).collect()
}

/// The parent of a process that is there and no zombie.
fn parent_of(id: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name is in parentheses and may hold any.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let is_alive = fields.next()? != "Z";
    fields.next()?.parse().ok().filter(|_| is_alive)
}

/// Whether a process has begun to end: it has no memory any more, and its parent was not told yet.
fn is_exiting(id: u32) -> bool {
    /// `PF_EXITING` of the kernel's `sched.h`.
    const EXITING: u32 = 0x4;
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // proc_pid_stat(5): the flags are the seventh behind the name.
    let flags = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(6)?.parse::<u32>().ok());
    flags.is_some_and(|flags| flags & EXITING != 0)
}

fn has_mark(id: i32, mark: &str) -> bool {
    let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
}

/// A control group for one run of a program.
pub(super) struct Pen(PathBuf);

impl Pen {
    /// One below weir's own; `None`: none can be made here.
    pub(super) fn build() -> Option<Self> {
        let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
        left.retain(|path| fs::remove_dir(path).is_err() && path.exists());
        drop(left);
        let place = PLACE.get_or_init(place).as_ref()?;
        let number = NUMBER.fetch_add(1, Relaxed);
        let pen = Self(place.join(format!("{NAME}{}-{number}", std::process::id())));
        fs::create_dir(&pen.0).ok()?;
        // Linux 5.14. The root group has no such file, those below it do.
        pen.0.join(KILL).exists().then_some(pen)
    }

    /// What goes before a command, to be run with the rights of weir.
    pub(super) fn enter(&self) -> Vec<String> {
        vec!["/bin/sh".to_owned(), "-c".to_owned(), ENTER.to_owned(), self.0.display().to_string()]
    }

    /// Kills all in it. False: the process is not in it, or the kernel can't.
    fn kill(&self, process: Pid) -> bool {
        let process = process.as_raw_nonzero().to_string();
        let inside = fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        inside.lines().any(|id| id == process) && fs::write(self.0.join(KILL), "1").is_ok()
    }
}

impl Drop for Pen {
    fn drop(&mut self) {
        // The dead take a moment to leave, and a service that a hook started lives on in it.
        if fs::remove_dir(&self.0).is_err() {
            let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
            if left.len() < LEFT_MAX {
                left.push(std::mem::take(&mut self.0));
            }
        }
    }
}

/// The control group of version 2 that weir is in. Those of a weir that was killed are removed from it.
fn place() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    // Outside of what this namespace shows.
    if own.starts_with("..") {
        return None;
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let place = mounts.lines().find_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        // Where only a part of the tree is mounted, the names of groups do not tell where they are.
        (system.starts_with("cgroup2 ") && root == "/").then(|| Path::new(point).join(own))
    })?;
    for entry in fs::read_dir(&place).ok()?.flatten() {
        let name = entry.file_name();
        let run =
            name.to_str().and_then(|name| name.strip_prefix(NAME)).and_then(|run| run.split('-').next());
        if run.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
    Some(place)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Three that run away: into a session of its own, as an orphan, as an orphan without its environment's variable.
    fn start(pen: Option<&Pen>, token: &str, mark: &str) -> Child {
        let script = format!(
            "setsid sh -c 'sleep 60; : {mark}' & (setsid setsid sh -c 'sleep 61; : {mark}' &) ; sh -c 'sleep 62; : {mark}'"
        );
        let mut words = pen.map(Pen::enter).unwrap_or_default();
        words.extend(["/bin/sh", "-c", &script].map(str::to_owned));
        let mut command = tokio::process::Command::new(&words[0]);
        command
            .args(&words[1..])
            .stdin(std::process::Stdio::null())
            .env(Offspring::VARIABLE, token)
            .process_group(0)
            .spawn()
            .unwrap()
    }

    fn with_mark(mark: &str) -> usize {
        let listed = std::process::Command::new("ps").args(["-eo", "args"]).output().unwrap();
        String::from_utf8_lossy(&listed.stdout).lines().filter(|line| line.contains(mark)).count()
    }

    fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn all_die_with(pen: Option<Pen>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let token = Offspring::token();
        let mark = format!("weir-offspring-{token}");
        runtime.block_on(async {
            let offspring = Offspring::new(start(pen.as_ref(), &token, &mark), token, pen);
            // The leader's own words hold the mark, too.
            wait_for("all are started", || with_mark(&mark) >= 4);
            drop(offspring);
            wait_for("all are gone", || with_mark(&mark) == 0);
        });
    }

    #[tokio::test]
    async fn what_goes_before_a_program_is_told_from_the_program() {
        let words = ["/bin/sh", "-c", "read line", "/usr/bin/setpriv", "--", "/site/check", "-q"];
        let words = words.map(str::to_owned);
        let mut command = tokio::process::Command::new(&words[0]);
        let piped = std::process::Stdio::piped();
        let leader = command.args(&words[1..]).stdin(piped).process_group(0).spawn().unwrap();
        let offspring = Offspring::new(leader, Offspring::token(), None);
        let path = format!("/proc/{}/cmdline", offspring.leader.id().unwrap());
        wait_for("the shell", || fs::read(&path).is_ok_and(|said| !said.is_empty()));
        assert!(offspring.waits_for_program(&words, 2));
        // The next of what goes before it.
        let longer = [&["/bin/pen".to_owned()], &words[..]].concat();
        assert!(offspring.waits_for_program(&longer, 2));
        // The program itself.
        assert!(!offspring.waits_for_program(&longer, 7));
        assert!(!offspring.waits_for_program(&words[..6], 2), "a word more");
        assert!(!offspring.waits_for_program(&longer[..7], 2), "a word more");
        assert!(!offspring.waits_for_program(&[&words[..], &words[..1]].concat(), 2), "a word less");
    }

    #[tokio::test]
    async fn one_that_was_killed_and_has_ended_holds_nobody_up() {
        let errand = Errand { command: vec!["/bin/sleep".to_owned()], variables: Vec::new() };
        let leader = tokio::process::Command::new("/bin/sleep").arg("60").process_group(0).spawn().unwrap();
        let id = Pid::from_raw(leader.id().unwrap() as i32).unwrap();
        Offspring::new(leader, Offspring::token(), None).end(errand.clone(), false);
        wait_for("its end", || !lives(id));
        assert_eq!(errand.is_unended(), None);
    }

    #[test]
    fn what_leaves_the_group_of_processes_is_killed_as_well() {
        all_die_with(None);
        match Pen::build() {
            Some(pen) => {
                let path = pen.0.clone();
                all_die_with(Some(pen));
                wait_for("the control group is gone", || {
                    drop(Pen::build());
                    !path.exists()
                });
            }
            None => eprintln!("no control group can be made here; only /proc was tried"),
        }
    }
}
