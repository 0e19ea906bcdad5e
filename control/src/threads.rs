//! The long-lived threads: which of them run, as a stop has to know, whether they go on, as [`crate::standing`] has to,
//! and which have panicked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::thread::{Pid, gettid};

/// What a thread is there for. Shown as its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Worker(usize),
    Control,
    Host,
    Vrrp,
    Health,
    Announce,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worker(number) => write!(f, "worker {number}"),
            Self::Control => f.write_str("weir-control"),
            Self::Host => f.write_str("weir-host"),
            Self::Vrrp => f.write_str("weir-vrrp"),
            Self::Health => f.write_str("weir-health"),
            Self::Announce => f.write_str("weir-announce"),
        }
    }
}

/// See the module. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Threads {
    running: Arc<Mutex<BTreeMap<Role, Arc<Pulse>>>>,
    panicked: Arc<Mutex<BTreeSet<Role>>>,
}

impl Threads {
    /// The calling thread is this one until what is returned is dropped.
    pub(crate) fn enter(&self, role: Role) -> Presence {
        let pulse = Arc::new(Pulse { thread: gettid(), turns: AtomicU64::new(0) });
        self.running().insert(role, pulse.clone());
        Presence { threads: self.clone(), role, pulse }
    }

    /// Those that run, in the order of their roles.
    pub(crate) fn roles(&self) -> Vec<Role> {
        self.running().keys().copied().collect()
    }

    /// Of this one, if it runs.
    pub(crate) fn pulse(&self, role: Role) -> Option<Arc<Pulse>> {
        self.running().get(&role).cloned()
    }

    /// This one has panicked.
    pub(crate) fn panicked(&self, role: Role) {
        self.lost().insert(role);
    }

    /// Those that have.
    pub(crate) fn that_panicked(&self) -> Vec<Role> {
        self.lost().iter().copied().collect()
    }

    fn lost(&self) -> MutexGuard<'_, BTreeSet<Role>> {
        self.panicked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<Role, Arc<Pulse>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What tells a thread that goes on from one that stands still.
#[derive(Debug)]
pub(crate) struct Pulse {
    /// The kernel's number for it.
    thread: Pid,
    turns: AtomicU64,
}

impl Pulse {
    /// To be called with each turn of the thread's loop. Workers need not: their counters move by themselves.
    pub(crate) fn beat(&self) {
        self.turns.fetch_add(1, Relaxed);
    }

    /// Moves with each turn.
    pub(crate) fn turns(&self) -> u64 {
        self.turns.load(Relaxed)
    }

    /// The kernel's number for the thread.
    pub(crate) fn thread(&self) -> Pid {
        self.thread
    }
}

/// A thread runs. Its own.
pub(crate) struct Presence {
    threads: Threads,
    role: Role,
    pulse: Arc<Pulse>,
}

impl Presence {
    /// The thread's own.
    pub(crate) fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.threads.running().remove(&self.role);
    }
}
