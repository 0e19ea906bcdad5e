//! What all threads share: whether to stop, who runs, and what is asked of control.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam::utils::CachePadded;
use tokio::sync::Notify;
use tracing::error;

use crate::signals;
use crate::threads::{Role, Threads};

/// Exit status of a process that could not start, or failed.
pub(crate) const FAILED: u8 = 1;
/// Exit status after bad usage or a bad configuration.
pub(crate) const BAD_INPUT: u8 = 2;

/// The flags that all threads share.
#[derive(Clone, Default)]
pub(crate) struct Flags {
    /// Set once: weir is going to stop. VRRP lets go and `/ready` says no, while workers go on forwarding.
    pub(crate) leaving: Arc<AtomicBool>,
    /// Set once: everything stops. On a line of its own, since workers read it with every poll.
    pub(crate) stop: Arc<CachePadded<AtomicBool>>,
    /// Set with `stop` when the reason is a failure.
    pub(crate) failed: Arc<AtomicBool>,
    /// Workers that poll.
    pub(crate) polling: Arc<AtomicUsize>,
    /// What signals ask for.
    pub(crate) wishes: Arc<Wishes>,
    /// Who runs.
    pub(crate) threads: Threads,
}

impl Flags {
    pub(crate) fn stop(&self) {
        self.stop.store(true, SeqCst);
    }

    /// Whether it was told to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.load(SeqCst)
    }

    /// From now on weir leaves; control sees to the rest.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, SeqCst);
        self.wishes.stop.notify_one();
    }

    /// Whether it leaves.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(SeqCst)
    }

    /// How long workers forward while it leaves: not at all after a failure.
    pub(crate) fn linger(&self) -> Duration {
        match self.failed.load(SeqCst) {
            true => Duration::ZERO,
            false => Duration::from_millis(self.wishes.linger_ms.load(SeqCst)),
        }
    }

    /// The end, since this thread has panicked. What the panic said is in the log.
    pub(crate) fn panicked(&self, role: Role) {
        self.threads.panicked(role);
        error!("{role} has panicked: VRRP lets go, and weir ends");
        self.fail();
    }

    /// The end, for a failure. Where weir serves, VRRP lets go first.
    pub(crate) fn fail(&self) {
        self.failed.store(true, SeqCst);
        self.leave();
        match self.wishes.control_runs.load(SeqCst) {
            true => signals::bound(self, true),
            false => self.stop(),
        }
    }
}

/// What signals ask of control.
#[derive(Default)]
pub(crate) struct Wishes {
    /// Somebody wants weir to stop.
    pub(crate) stop: Notify,
    /// Somebody wants the file to be read again.
    pub(crate) reload: Notify,
    /// Control waits for both.
    pub(crate) control_runs: AtomicBool,
    /// Milliseconds that workers forward after somebody wants weir to stop.
    linger_ms: AtomicU64,
    /// The stop has its bound.
    pub(crate) is_bounded: AtomicBool,
    /// Somebody was served before the stop.
    pub(crate) is_served: AtomicBool,
    /// What the stop waits for.
    waits_for: Mutex<String>,
}

impl Wishes {
    /// Control waits for wishes from now on.
    pub(crate) fn control_runs(&self) {
        self.waiting_for(Role::Control.to_string());
        self.control_runs.store(true, SeqCst);
    }

    /// Workers forward for so long after somebody wants weir to stop.
    pub(crate) fn linger_for(&self, linger: Duration) {
        self.linger_ms.store(u64::try_from(linger.as_millis()).unwrap_or(u64::MAX), SeqCst);
    }

    /// The stop waits for this.
    pub(crate) fn waiting_for(&self, what: impl Into<String>) {
        *self.waits_for.lock().unwrap_or_else(PoisonError::into_inner) = what.into();
    }

    /// What that is.
    pub(crate) fn waits_for(&self) -> String {
        self.waits_for.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
