//! Signals, from the first moment to the last, and the bound on how long a stop may take.
//!
//! A thread of its own takes them, so that they have their meaning before control runs, and while something hangs:
//!
//! | signal | meaning |
//! |---|---|
//! | SIGTERM, SIGINT | stop, after `linger` of `[control]`; while weir starts, after the step that is under way |
//! | SIGTERM once more | nothing |
//! | SIGINT after one of them | end at once |
//! | SIGHUP | read the file again; while weir starts, as soon as it has |
//! | SIGUSR1, SIGUSR2 | nothing, and the log says so |
//!
//! The kernel gives a signal to the main thread if that does not block it, and wakes nobody else: one that came while the main
//! thread hung in a device or file system would have no effect. So all threads but this one block these signals.
//!
//! SIGPIPE is ignored, as Rust's runtime has it. SIGXFSZ has no effect, so that a file that may not grow is an error of its writer.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGURG, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::iterator::Signals;
use tracing::{error, info, warn};

use crate::flags::{FAILED, Flags};
use crate::rights::Early;
use crate::threads::Role;
use crate::{log, rights};

/// A stop that takes longer than `linger` and this is ended by force.
const STOP_MAX: Duration = Duration::from_secs(9);
/// Control that has not stopped the workers by then hangs, and they are told without it.
const CONTROL_MAX: Duration = Duration::from_secs(1);
/// How often a stop is looked at that is under way.
const LOOK: Duration = Duration::from_millis(10);
/// What an end by force takes to end hooks and checks.
const PROGRAMS_MAX: Duration = Duration::from_millis(500);

/// What the thread takes.
fn taken() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2].into_iter().collect()
}

/// Has the calling thread, and those it starts from now on, leave signals to [`start`]'s thread. One that comes before that is there
/// waits for it. To be called before any thread is started. Programs would inherit it: health/ starts them without.
///
/// # Errors
/// What the kernel says.
pub(crate) fn leave() -> io::Result<()> {
    taken().thread_block()?;
    // A handler, since programs would inherit that it is ignored. Nobody looks at the flag.
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
    Ok(())
}

/// Takes signals from now on.
///
/// # Errors
/// What the kernel says of a thread more.
pub(crate) fn start(flags: Flags) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGURG])?;
    let take = move || {
        crate::early::register();
        let mut rights = Early::begin(rights::ENDS_PROGRAMS);
        if let Err(problem) = taken().thread_unblock() {
            error!("signals have no effect: {problem}");
        }
        let (mut is_stopping, mut is_watched) = (false, false);
        for signal in signals.forever() {
            rights.look();
            match signal {
                // Its own: see `nudge`.
                SIGURG => {
                    if flags.wishes.is_bounded.load(SeqCst) && !std::mem::replace(&mut is_watched, true) {
                        watch_stop(&flags);
                    }
                }
                SIGINT if is_stopping => {
                    error!("SIGINT again: ended at once");
                    end(FAILED);
                }
                SIGTERM | SIGINT => {
                    if !std::mem::replace(&mut is_stopping, true) {
                        info!("{}: stopping", if signal == SIGINT { "SIGINT" } else { "SIGTERM" });
                    }
                    stop(&flags);
                }
                SIGHUP => flags.wishes.reload.notify_one(),
                _ => {
                    let name = if signal == SIGUSR1 { "SIGUSR1" } else { "SIGUSR2" };
                    info!("{name} means nothing to weir; SIGHUP has it read its file, SIGTERM stops it");
                }
            }
        }
    };
    thread::Builder::new().name("weir-signals".to_owned()).spawn(take)?;
    Ok(())
}

/// Has the thread look whether it may do more than it needs, and whether a stop has begun. SIGURG, since whoever sends it by mistake
/// expects nothing of it.
pub(crate) fn nudge() {
    let _ = nix::sys::signal::raise(Signal::SIGURG);
}

fn stop(flags: &Flags) {
    flags.leave();
    let runs = flags.wishes.control_runs.load(SeqCst);
    if !runs {
        flags.stop();
    }
    bound(flags, runs);
}

/// From now on the stop has so much time, behind `linger`, and no more. What hangs then is named, and the process ends: with status 1, or with 0 if nobody
/// was served yet.
pub(crate) fn bound(flags: &Flags, is_served: bool) {
    if !flags.wishes.is_bounded.swap(true, SeqCst) {
        flags.wishes.is_served.store(is_served, SeqCst);
        nudge();
    }
}

/// Ends the process by force if the stop takes too long. On a thread that may end programs of other users: whoever has begun the stop may
/// not, but the one that takes signals may, and so what it starts.
fn watch_stop(flags: &Flags) {
    let theirs = flags.clone();
    let wait = move || {
        let begun = Instant::now();
        while !theirs.is_stopping() {
            thread::sleep(LOOK);
            let hangs = begun.elapsed() >= theirs.linger() + CONTROL_MAX;
            if hangs && !theirs.is_stopping() {
                warn!("control does not stop; the workers stop without it");
            }
            if hangs || is_deserted(&theirs) {
                theirs.stop();
            }
        }
        thread::sleep(STOP_MAX - CONTROL_MAX);
        error!("stopping takes too long: {}; ended by force", hanging(&theirs));
        let has_failed = theirs.wishes.is_served.load(SeqCst) || theirs.failed.load(SeqCst);
        end(if has_failed { FAILED } else { 0 });
    };
    if let Err(problem) = thread::Builder::new().name("weir-stop".to_owned()).spawn(wait) {
        error!("the stop has no bound in time, for lack of a thread: {problem}");
    }
}

/// Whether nobody is left who would stop the workers, or has something to send before that.
fn is_deserted(flags: &Flags) -> bool {
    let roles = flags.threads.roles();
    !roles.contains(&Role::Control) && !roles.contains(&Role::Vrrp)
}

/// Who does not end. All but the health checks' thread are told at once, that one after the others.
fn hanging(flags: &Flags) -> String {
    let mut roles = flags.threads.roles();
    roles.retain(|role| *role != Role::Health);
    let names: Vec<String> = roles.iter().map(Role::to_string).collect();
    match names.as_slice() {
        [] => format!("{} hangs", flags.wishes.waits_for()),
        [one] => format!("{one} hangs"),
        [others @ .., last] => format!("{} and {last} hang", others.join(", ")),
    }
}

/// Without waiting for anybody. Hooks and checks that run are ended, too.
pub(crate) fn end(status: u8) -> ! {
    weir_health::end_programs(PROGRAMS_MAX);
    log::flush();
    dpdk::process::end_now(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_is_who_still_runs_and_else_what_is_waited_for() {
        let flags = Flags::default();
        flags.wishes.waiting_for("the end of EAL");
        let health = flags.threads.enter(Role::Health);
        assert_eq!(hanging(&flags), "the end of EAL hangs");
        let vrrp = flags.threads.enter(Role::Vrrp);
        assert_eq!(hanging(&flags), "weir-vrrp hangs");
        let worker = flags.threads.enter(Role::Worker(0));
        let control = flags.threads.enter(Role::Control);
        assert_eq!(hanging(&flags), "worker 0, weir-control and weir-vrrp hang");
        drop((health, vrrp, worker, control));
        assert_eq!(hanging(&flags), "the end of EAL hangs");
    }

    #[test]
    fn threads_started_after_leave_do_not_take_signals() {
        let inherited = thread::spawn(|| {
            leave().unwrap();
            thread::spawn(SigSet::thread_get_mask).join().unwrap().unwrap()
        });
        let mask = inherited.join().unwrap();
        assert!(taken().iter().all(|signal| mask.contains(signal)));
        assert!(!mask.contains(Signal::SIGSEGV) && !mask.contains(Signal::SIGCHLD));
    }
}
