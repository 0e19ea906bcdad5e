//! Threads that stand still. Each turn of a thread's loop moves a counter; a thread whose counter does not move while control goes on
//! looking stands.
//!
//! One that stands is not always to blame: the kernel may have given its core to others. It is late then, and goes on by itself as
//! soon as it may. So the time that it stands is told apart: it is the thread's own fault while it uses a CPU (a loop, a driver that hangs)
//! or waits for something else than one (a lock, a file, a debugger). A thread is stuck that has stood for too long, half of
//! that by its own fault; or five times as long, whoever is to blame, since nothing comes through it.

pub(crate) mod condition;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tracing::{error, warn};
use weir_dataplane::director::Shared;

use crate::threads::{Role, Threads};
use condition::Condition;

/// Time that one look counts for at most: when control itself did not run, as after a SIGSTOP, the others may not have run either.
const LOOK_MAX: Duration = Duration::from_millis(200);
/// A thread that stands is asked for its condition from this part of its bound on.
const ASKED: u32 = 3;
/// A thread that stands for so many times its bound is stuck, whoever is to blame.
const HOPELESS: u32 = 5;

/// How long a thread stands at most.
fn bound(role: Role) -> Duration {
    match role {
        // It polls all the time. One that shares its core may be off it for some tens of milliseconds.
        Role::Worker(_) => Duration::from_millis(600),
        // They turn every millisecond, and wait for the kernel's locks at most.
        Role::Host | Role::Vrrp | Role::Control | Role::Announce => Duration::from_secs(1),
        // A turn of it takes in a whole file.
        Role::Health => Duration::from_secs(3),
    }
}

/// Which threads are stuck and have been late, for whoever asks.
#[derive(Debug, Clone)]
pub(crate) struct Stuck(Arc<[Watched]>);

#[derive(Debug)]
struct Watched {
    role: Role,
    is_stuck: AtomicBool,
    late: AtomicU64,
}

impl Stuck {
    /// None of so many workers, and of control's threads that others depend on.
    pub(crate) fn none(workers: usize, has_host: bool) -> Self {
        let others = [Role::Vrrp, Role::Health].into_iter().chain(has_host.then_some(Role::Host));
        let roles = (0..workers).map(Role::Worker).chain(others);
        Self(roles.map(Watched::new).collect())
    }

    /// And of this thread.
    pub(crate) fn with(self, role: Role) -> Self {
        let roles = self.0.iter().map(|watched| watched.role).chain([role]);
        Self(roles.map(Watched::new).collect())
    }

    /// Those that are watched and no workers.
    pub(crate) fn threads(&self) -> impl Iterator<Item = Role> {
        self.0.iter().map(|watched| watched.role).filter(|role| !matches!(role, Role::Worker(_)))
    }

    /// Those that are stuck, workers first.
    pub(crate) fn roles(&self) -> impl Iterator<Item = Role> {
        self.0.iter().filter(|watched| watched.is_stuck.load(Relaxed)).map(|watched| watched.role)
    }

    /// Whether one of the workers is.
    pub(crate) fn has_worker(&self) -> bool {
        self.roles().any(|role| matches!(role, Role::Worker(_)))
    }

    /// Whether this one is.
    pub(crate) fn is(&self, role: Role) -> bool {
        self.roles().any(|stuck| stuck == role)
    }

    /// How many times this one was late.
    pub(crate) fn late(&self, role: Role) -> u64 {
        let watched = self.0.iter().find(|watched| watched.role == role);
        watched.map_or(0, |watched| watched.late.load(Relaxed))
    }

    /// It is, or is no longer.
    #[cfg(test)]
    pub(crate) fn set(&self, role: Role, is_stuck: bool) {
        self.0.iter().filter(|it| it.role == role).for_each(|it| it.is_stuck.store(is_stuck, Relaxed));
    }
}

/// Control's end.
pub(crate) struct Standing {
    stuck: Stuck,
    /// In the order of `stuck`.
    seen: Vec<Seen>,
    looked: Instant,
}

/// One thread, as it was seen last.
#[derive(Clone, Copy)]
struct Seen {
    turns: u64,
    since: Instant,
    /// For how long it has stood, while control looked.
    stood: Duration,
    /// How much of that was its own fault.
    own: Duration,
    /// What the kernel said last, since it stands.
    condition: Option<Condition>,
    is_late: bool,
}

impl Standing {
    /// Fills `stuck`.
    pub(crate) fn new(stuck: Stuck, now: Instant) -> Self {
        Self { seen: vec![Seen::going(0, now); stuck.0.len()], stuck, looked: now }
    }

    /// Looks at workers that poll, and at the other threads.
    pub(crate) fn look(&mut self, workers: &[Shared], threads: &Threads, now: Instant) {
        let turns = |role| match role {
            Role::Worker(number) => {
                let counters = &workers.get(number)?.counters;
                Some(counters.busy_cycles.get().wrapping_add(counters.idle_cycles.get()))
            }
            role => Some(threads.pulse(role)?.turns()),
        };
        self.see(now, turns, |role| Condition::of(threads.pulse(role)?.thread()));
    }

    /// `turns` are `None` of a thread that does not run.
    fn see(
        &mut self,
        now: Instant,
        turns: impl Fn(Role) -> Option<u64>,
        condition: impl Fn(Role) -> Option<Condition>,
    ) {
        let passed = now.saturating_duration_since(self.looked).min(LOOK_MAX);
        self.looked = now;
        for (watched, seen) in self.stuck.0.iter().zip(&mut self.seen) {
            match turns(watched.role) {
                Some(turns) if turns == seen.turns => {
                    seen.stand(passed, bound(watched.role), || condition(watched.role));
                    watched.judge(seen);
                }
                turns => {
                    watched.goes_on(seen, now);
                    *seen = Seen::going(turns.unwrap_or_default(), now);
                }
            }
        }
    }
}

impl Seen {
    fn going(turns: u64, now: Instant) -> Self {
        Self {
            turns,
            since: now,
            stood: Duration::ZERO,
            own: Duration::ZERO,
            condition: None,
            is_late: false,
        }
    }

    /// It has stood for longer by `passed`.
    fn stand(&mut self, passed: Duration, bound: Duration, condition: impl Fn() -> Option<Condition>) {
        self.stood += passed;
        if self.stood < bound / ASKED {
            return;
        }
        let now = condition();
        self.own += match (now, self.condition) {
            (Some(now), before) if now.wants_cpu() => {
                before.map_or(Duration::ZERO, |before| now.ran.saturating_sub(before.ran)).min(passed)
            }
            // Who can't be asked is to blame.
            _ => passed,
        };
        self.condition = now;
    }

    fn is_stuck(&self, bound: Duration) -> bool {
        self.stood >= bound && self.own >= bound / 2 || self.stood >= bound * HOPELESS
    }

    /// What it does instead of its turns.
    fn instead(&self, bound: Duration) -> String {
        match self.condition {
            _ if self.own < bound / 2 => "others have its core".to_owned(),
            Some(it) if it.wants_cpu() => "it runs, but does not come to an end".to_owned(),
            Some(it) => format!("it waits in the kernel (state {})", it.state),
            None => "the kernel does not say what it does".to_owned(),
        }
    }
}

impl Watched {
    fn new(role: Role) -> Self {
        Self { role, is_stuck: AtomicBool::new(false), late: AtomicU64::new(0) }
    }

    /// Of a thread that stands.
    fn judge(&self, seen: &mut Seen) {
        let bound = bound(self.role);
        if seen.is_stuck(bound) {
            if !self.is_stuck.swap(true, Relaxed) {
                self.say_stuck(seen, bound);
            }
        } else if seen.stood >= bound && !std::mem::replace(&mut seen.is_late, true) {
            self.late.fetch_add(1, Relaxed);
            self.say_late(seen);
        }
    }

    /// Of one that stood, or not.
    fn goes_on(&self, seen: &Seen, now: Instant) {
        let was_stuck = self.is_stuck.swap(false, Relaxed);
        if !was_stuck && !seen.is_late {
            return;
        }
        let stood = now.saturating_duration_since(seen.since).as_secs_f64();
        match self.role {
            Role::Worker(worker) => warn!(worker, "the worker polls again, after {stood:.1} s"),
            role => warn!(thread = %role, "the thread goes on, after {stood:.1} s"),
        }
    }

    fn say_stuck(&self, seen: &Seen, bound: Duration) {
        let (stood, instead) = (seen.stood.as_secs_f64(), seen.instead(bound));
        let lost = match self.role {
            Role::Worker(worker) => {
                error!(
                    worker,
                    "the worker is stuck: it has not polled for {stood:.1} s ({instead}), and what comes to it is not served"
                );
                return;
            }
            Role::Health => "what is known of real servers stays as it is",
            Role::Vrrp => "VRRP says and hears nothing, and its addresses are not served",
            Role::Host => "nothing passes the host interfaces",
            Role::Control => "reloads and pages wait",
            Role::Announce => "what is announced stays as it is",
        };
        error!(thread = %self.role, "the thread is stuck: it has not gone on for {stood:.1} s ({instead}), and {lost}");
    }

    fn say_late(&self, seen: &Seen) {
        let stood = seen.stood.as_secs_f64();
        match self.role {
            Role::Worker(worker) => warn!(
                worker,
                "the worker is late: it has not polled for {stood:.1} s, since the kernel gives its core to others"
            ),
            role => warn!(
                thread = %role,
                "the thread is late: it has not gone on for {stood:.1} s, since the kernel gives its core to others"
            ),
        }
    }
}

#[cfg(test)]
mod tests;
