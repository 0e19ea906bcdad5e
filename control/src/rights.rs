//! What weir may do: no more than it needs, and each of its threads no more than that thread needs.
//!
//! Capabilities are a thread's own, and who is started has those of who starts it. The first thread begins with what the start takes
//! (devices, memory, files of others); once ports run it keeps what anything that is to come needs, and each thread that it starts
//! keeps its own part of that. Nothing can be had back: no program that is started may more than who starts it (`no_new_privs`), and what
//! weir inherited for programs (ambient, inheritable) goes. docs/rights.md lists what is kept and why.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use dpdk::Eal;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use rustix::process::{DumpableBehavior, geteuid, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_keep_capabilities, set_no_new_privs,
};
use tracing::warn;
use weir_config::model::health::Account;
use weir_config::model::{Config, Control};

use crate::crash;
use crate::filter::{self, Uses};
use crate::signals;
use crate::threads::Role;

/// Nothing.
pub(crate) const NONE: CapabilitySet = CapabilitySet::empty();
/// For the start: devices and their memory, the socket of `[http]`, the host's interfaces, files and sockets of other users.
const START: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::IPC_LOCK)
    .union(CapabilitySet::SYS_RAWIO)
    .union(CapabilitySet::SYS_ADMIN)
    .union(CapabilitySet::SYS_RESOURCE)
    .union(CapabilitySet::BPF)
    .union(CapabilitySet::PERFMON)
    .union(RUN_MAX);
/// For the longest.
const RUN_MAX: CapabilitySet =
    STARTS_PROGRAMS.union(ENDS_PROGRAMS).union(KERNEL_PORTS).union(CapabilitySet::SYS_NICE);
/// To read files of other users: the file itself, and what it names.
const READS: CapabilitySet = CapabilitySet::DAC_READ_SEARCH;
/// To run checks and hooks as another user, without anything of this.
const STARTS_PROGRAMS: CapabilitySet =
    CapabilitySet::SETUID.union(CapabilitySet::SETGID).union(CapabilitySet::SETPCAP);
/// To end them with all that they started: where there are no control groups, their environment says which that is.
pub(crate) const ENDS_PROGRAMS: CapabilitySet =
    CapabilitySet::KILL.union(CapabilitySet::SYS_PTRACE).union(CapabilitySet::DAC_READ_SEARCH);
/// To have a device receive for a MAC more where the kernel's driver has a part in it (`net_af_packet`, `mlx5`, `net_tap`).
const KERNEL_PORTS: CapabilitySet = CapabilitySet::NET_ADMIN.union(CapabilitySet::NET_RAW);

/// Besides what is their own, threads that run before the account is known keep these until it is: the C library changes the account of
/// all threads, and ends the process if one can't.
const CHANGES_ACCOUNT: CapabilitySet = CapabilitySet::SETUID.union(CapabilitySet::SETGID);
/// What has no place beside an account of weir's own: it reads what that may read.
const READS_ALL: CapabilitySet = CapabilitySet::DAC_READ_SEARCH.union(CapabilitySet::SYS_PTRACE);

/// Set when the first thread has let go of what the start takes, with whether weir has an account of its own.
static SETTLED: OnceLock<bool> = OnceLock::new();

/// Who weir becomes, and what it says of itself after that.
pub(crate) struct Identity {
    user: Option<(String, Option<Account>)>,
    core_dumps: bool,
    /// The file, which has to be read again at a reload.
    file: PathBuf,
    /// What becomes its own: the control socket with its lock if it has one, and their folder if that is weir's.
    own: Vec<PathBuf>,
    /// Where panics are noted, if that is weir's own place.
    notes: Option<PathBuf>,
}

impl Identity {
    /// As this file says. Where there is no control socket of this weir's, what is in its place is another's. The notes of panics may be where no
    /// file system answers.
    pub(crate) fn of(config: &Config, file: &Path, (has_socket, notes_are_away): (bool, bool)) -> Self {
        let control = &config.control;
        let mut own = Vec::new();
        if has_socket {
            own.extend([control.socket.clone(), crate::socket::lock_of(&control.socket)]);
            own.extend(control.socket.parent().filter(|_| !control.is_socket_written).map(Path::to_owned));
        }
        Self {
            user: control.user.clone().map(|name| (name, control.account)),
            core_dumps: control.core_dumps,
            file: file.to_owned(),
            own,
            notes: control
                .crash_directory
                .clone()
                .filter(|directory| !notes_are_away && directory.as_os_str() == Control::CRASH_DIRECTORY),
        }
    }

    /// Becomes it, on all threads.
    fn assume(&self) -> Result<()> {
        let Some((name, account)) = &self.user else { return Ok(()) };
        let Account { user, group } = account.as_ref().with_context(|| {
            format!(
                "weir can't become user {name} ([control]): its account can't be looked up, or its own group is root's; \
                 write another as `group`"
            )
        })?;
        if !geteuid().is_root() {
            ensure!(
                geteuid().as_raw() == *user,
                "weir was not started by root and can't become user {name}: leave `user` of [control] out"
            );
            return Ok(());
        }
        for place in self.own.iter().filter(|place| place.exists()) {
            // The folder may be that user's since the last start: what lies there may point elsewhere.
            std::os::unix::fs::lchown(place, Some(*user), Some(*group))
                .with_context(|| format!("{} can't be given to user {name}", place.display()))?;
        }
        if let Some(notes) = &self.notes
            && let Err(problem) = crash::give(notes, *user, *group)
        {
            warn!(
                "a panic will perhaps not be noted: {} can't be given to user {name}: {problem}",
                notes.display()
            );
        }
        let (user, group) = (Uid::from_raw(*user), Gid::from_raw(*group));
        let change = || -> nix::Result<()> {
            setgroups(&[group])?;
            setresgid(group, group, group)?;
            setresuid(user, user, user)
        };
        set_keep_capabilities(true)?;
        change().with_context(|| format!("weir can't become user {name} ([control])"))?;
        set_keep_capabilities(false)?;
        File::open(&self.file).map(drop).with_context(|| {
            let file = self.file.display();
            format!("user {name} ([control]) can't read {file}, so it could not be read again: let it read the file and enter its folders")
        })
    }
}

/// How far threads can do without.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rights {
    /// Whether a port is an interface of the kernel's at the same time.
    pub(crate) has_kernel_ports: bool,
}

impl Rights {
    /// What a thread of this role keeps.
    fn of(self, role: Role) -> CapabilitySet {
        match role {
            Role::Worker(_) => NONE,
            Role::Control => READS,
            Role::Host | Role::Announce => CapabilitySet::NET_ADMIN,
            // Real-time priority, once there is an instance.
            Role::Vrrp => READS.union(self.of_ports()).union(CapabilitySet::SYS_NICE),
            // A ping is a raw socket where the kernel gives no other one.
            Role::Health => STARTS_PROGRAMS.union(ENDS_PROGRAMS).union(READS).union(CapabilitySet::NET_RAW),
        }
    }

    /// What the first thread keeps, which closes the devices and may have to end programs.
    fn of_first(self) -> CapabilitySet {
        ENDS_PROGRAMS.union(self.of_ports())
    }

    fn of_ports(self) -> CapabilitySet {
        if self.has_kernel_ports { KERNEL_PORTS } else { NONE }
    }

    /// The calling thread has this role from now on.
    pub(crate) fn take(self, role: Role) {
        keep_or_say(self.of(role), &role.to_string());
        refuse_or_say(if role == Role::Health { Uses::Programs } else { Uses::Nothing }, &role.to_string());
    }

    /// The calling thread is the first, and has started all others.
    pub(crate) fn take_first(self) {
        keep_or_say(self.of_first(), "the first thread");
        refuse_or_say(Uses::Devices, "the first thread");
    }

    /// Devices are up: weir becomes who it is to be, and what only the start takes goes, of the calling thread and of EAL's own, which
    /// nobody else reaches. Workers' threads follow when they begin.
    ///
    /// # Errors
    /// A sentence for the user: weir can't become that.
    pub(crate) fn settle(self, eal: &Eal, identity: &Identity) -> Result<()> {
        // A change of the account takes all from who has not said that it keeps some.
        let told = eal.on_interrupt_thread(Box::new(|| _ = set_keep_capabilities(true)));
        identity.assume()?;
        allow_core_dumps(identity.core_dumps);
        let _ = SETTLED.set(identity.user.is_some());
        keep_or_say(RUN_MAX, "the first thread");
        let of_interrupts = self.of_ports();
        let end = move || {
            keep_or_say(of_interrupts, "EAL's thread");
            refuse_or_say(Uses::Devices, "EAL's thread");
            let _ = set_keep_capabilities(false);
        };
        if !(told && eal.on_interrupt_thread(Box::new(end))) {
            warn!("EAL's thread for interrupts may do what the start may: it did not answer");
        }
        signals::nudge();
        Ok(())
    }
}

/// What a thread may do that is older than the account. It begins with [`Early::begin`], and looks now and then whether the time has come.
pub(crate) struct Early {
    keeps: CapabilitySet,
    is_over: bool,
}

impl Early {
    /// Of the calling thread, that keeps these for good.
    pub(crate) fn begin(keeps: CapabilitySet) -> Self {
        // It may have nobody to tell yet. What is not given up here is in `look`.
        let _ = keep(keeps.union(CHANGES_ACCOUNT)).and_then(|()| Ok(set_keep_capabilities(true)?));
        Self { keeps, is_over: false }
    }

    /// Gives up the rest once there is an account.
    pub(crate) fn look(&mut self) {
        if !self.is_over && SETTLED.get().is_some() {
            self.is_over = true;
            keep_or_say(self.keeps, "a thread");
            let _ = set_keep_capabilities(false);
            refuse_or_say(Uses::Nothing, "a thread");
        }
    }
}

/// Before any thread is started.
///
/// # Errors
/// What the kernel says; weir can go on.
pub(crate) fn begin() -> io::Result<()> {
    set_no_new_privs(true)?;
    // Who is not root reads of its own memory what drivers ask for only as long as it may be dumped.
    if geteuid().is_root() {
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    }
    keep(START)
}

/// Whether a crash leaves an image of the memory, in which passwords and keys are.
fn allow_core_dumps(allowed: bool) {
    let behavior = if allowed { DumpableBehavior::Dumpable } else { DumpableBehavior::NotDumpable };
    if let Err(problem) = set_dumpable_behavior(behavior) {
        warn!("whether a crash leaves a core dump can't be set: {problem}");
    }
}

/// The calling thread keeps these at most, and hands on none.
///
/// # Errors
/// What the kernel says.
pub(crate) fn keep(wanted: CapabilitySet) -> io::Result<()> {
    let out_of_place = if SETTLED.get() == Some(&true) { READS_ALL } else { NONE };
    let kept = capabilities(None)?.permitted & wanted & !out_of_place;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: NONE };
    Ok(set_capabilities(None, sets)?)
}

/// The same where nobody waits for an answer.
pub(crate) fn keep_or_say(wanted: CapabilitySet, who: &str) {
    if let Err(problem) = keep(wanted) {
        warn!("{who} may do more than it needs: {problem}");
    }
}

/// System calls that it has no use for are refused from now on.
fn refuse_or_say(uses: Uses, who: &str) {
    if let Err(problem) = filter::refuse(uses) {
        warn!("{who} may make system calls that it does not need: {problem}");
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use rustix::thread::no_new_privs;

    use super::*;

    #[test]
    fn a_thread_keeps_what_it_needs_and_gets_nothing_back() {
        let tried = thread::spawn(|| {
            begin().unwrap();
            assert!(no_new_privs().unwrap());
            let before = capabilities(None).unwrap();
            assert_eq!(before.permitted - START, NONE);
            keep(ENDS_PROGRAMS).unwrap();
            let now = capabilities(None).unwrap();
            assert_eq!(now.permitted, before.permitted & ENDS_PROGRAMS);
            assert_eq!((now.effective, now.inheritable), (now.permitted, NONE));
            keep(START).unwrap();
            assert_eq!(capabilities(None).unwrap(), now);
            // Who is started by it has no more.
            thread::spawn(move || assert_eq!(capabilities(None).unwrap(), now)).join().unwrap();
            keep(NONE).unwrap();
            assert_eq!(capabilities(None).unwrap().permitted, NONE);
        });
        tried.join().unwrap();
    }

    #[test]
    fn a_user_without_an_account_of_its_own_is_refused_and_weir_does_not_stay_root() {
        let identity = Identity {
            user: Some(("operator".to_owned(), None)),
            core_dumps: false,
            file: PathBuf::from("/dev/null"),
            own: Vec::new(),
            notes: None,
        };
        let refused = identity.assume().unwrap_err().to_string();
        assert!(refused.starts_with("weir can't become user operator ([control])"), "{refused}");
    }

    #[test]
    fn what_runs_needs_no_more_than_what_starts() {
        for has_kernel_ports in [false, true] {
            let rights = Rights { has_kernel_ports };
            let roles =
                [Role::Worker(0), Role::Control, Role::Host, Role::Vrrp, Role::Health, Role::Announce];
            let all = roles.into_iter().fold(rights.of_first(), |all, role| all | rights.of(role));
            assert_eq!(all - RUN_MAX, NONE);
            assert_eq!(rights.of(Role::Worker(0)), NONE);
            assert_eq!(rights.of(Role::Vrrp).contains(CapabilitySet::NET_ADMIN), has_kernel_ports);
        }
        assert_eq!(RUN_MAX - START, NONE);
    }
}
