//! The long-lived threads that a stop waits for: which of them run.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a thread is there for. Shown as its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Worker(usize),
    Control,
    Host,
    Vrrp,
    Health,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worker(number) => write!(f, "worker {number}"),
            Self::Control => f.write_str("weir-control"),
            Self::Host => f.write_str("weir-host"),
            Self::Vrrp => f.write_str("weir-vrrp"),
            Self::Health => f.write_str("weir-health"),
        }
    }
}

/// See the module. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Threads(Arc<Mutex<BTreeSet<Role>>>);

impl Threads {
    /// The calling thread is this one until what is returned is dropped.
    pub(crate) fn enter(&self, role: Role) -> Presence {
        self.running().insert(role);
        Presence { threads: self.clone(), role }
    }

    /// Those that run, in the order of their roles.
    pub(crate) fn roles(&self) -> Vec<Role> {
        self.running().iter().copied().collect()
    }

    fn running(&self) -> MutexGuard<'_, BTreeSet<Role>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread runs. Its own.
pub(crate) struct Presence {
    threads: Threads,
    role: Role,
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.threads.running().remove(&self.role);
    }
}
