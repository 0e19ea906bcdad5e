//! What control wants of VRRP's thread: instances, and how what they track is. The newest of each counts, so there is always
//! room for it. Control holds the lock for the time of a few moves; the thread does not wait for it but comes again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use weir_config::model::VrrpHooks;
use weir_vrrp::router::Setup;
use weir_vrrp::track::{Reading, Tracked};

/// A thread that has not looked for orders for so long hangs. It looks every 50 ms at least, on a busy machine somewhat later.
const LOOK_MAX: Duration = Duration::from_secs(3);

/// Instances, and the programs that are told of their states and of those of their groups, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Instances {
    pub(crate) setups: Vec<Setup>,
    pub(super) hooks: HashMap<String, Arc<VrrpHooks>>,
    pub(super) group_hooks: HashMap<String, Arc<VrrpHooks>>,
}

/// Orders that were not taken yet.
#[derive(Default)]
pub(super) struct Wanted {
    pub(super) setups: Option<Instances>,
    pub(super) readings: Option<HashMap<Tracked, Reading>>,
}

struct Shared {
    wanted: Mutex<Wanted>,
    begun: Instant,
    /// Milliseconds from `begun` to the thread's last look; 0: it has not begun.
    looked: AtomicU64,
    has_ended: AtomicBool,
}

/// Why VRRP's thread takes no other instances.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum VrrpRefusal {
    /// There is nobody to take them.
    #[error("its thread has ended")]
    Ended,
    /// It does not run, or is kept by the worker.
    #[error("its thread has taken no orders for {:.1} s: it hangs, or the first worker does, which sends for it", .0.as_secs_f64())]
    Hangs(Duration),
}

/// Control's end. Cheap to clone.
#[derive(Clone)]
pub(super) struct Orders(Arc<Shared>);

impl Orders {
    /// Both ends.
    pub(super) fn new() -> (Self, Taker) {
        let shared = Arc::new(Shared {
            wanted: Mutex::default(),
            begun: Instant::now(),
            looked: AtomicU64::new(0),
            has_ended: AtomicBool::new(false),
        });
        (Self(shared.clone()), Taker(shared))
    }

    /// Whether the thread takes orders. One that has not begun will.
    pub(super) fn are_taken(&self, now: Instant) -> Result<(), VrrpRefusal> {
        if self.0.has_ended.load(Relaxed) {
            return Err(VrrpRefusal::Ended);
        }
        let looked = match self.0.looked.load(Relaxed) {
            0 => return Ok(()),
            millis => self.0.begun + Duration::from_millis(millis),
        };
        match now.saturating_duration_since(looked) {
            long if long > LOOK_MAX => Err(VrrpRefusal::Hangs(long)),
            _ => Ok(()),
        }
    }

    /// Wants these instances.
    pub(super) fn set_up(&self, setups: Instances) {
        self.wanted(|wanted| wanted.setups = Some(setups));
    }

    /// Says how what is tracked is now.
    pub(super) fn read(&self, readings: HashMap<Tracked, Reading>) {
        self.wanted(|wanted| wanted.readings = Some(readings));
    }

    fn wanted(&self, change: impl FnOnce(&mut Wanted)) {
        change(&mut self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The thread's end.
pub(super) struct Taker(Arc<Shared>);

impl Taker {
    /// What is new. Never waits.
    pub(super) fn take(&self, now: Instant) -> Wanted {
        let millis = now.saturating_duration_since(self.0.begun).as_millis();
        self.0.looked.store(u64::try_from(millis).unwrap_or(u64::MAX).max(1), Relaxed);
        match self.0.wanted.try_lock() {
            Ok(mut wanted) => std::mem::take(&mut *wanted),
            Err(TryLockError::Poisoned(poisoned)) => std::mem::take(&mut *poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Wanted::default(),
        }
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        self.0.has_ended.store(true, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_orders_wait_until_they_are_taken_and_a_thread_that_does_not_look_is_noticed() {
        let begin = Instant::now();
        let (orders, taker) = Orders::new();
        let later = |millis| begin + Duration::from_millis(millis);
        assert_eq!(orders.are_taken(later(60_000)), Ok(()), "it has not begun");
        let readings = |number| HashMap::from([(Tracked::Port(0), Reading::Number(number))]);
        orders.set_up(Instances::default());
        orders.read(readings(1));
        orders.read(readings(2));
        let taken = taker.take(later(1_000));
        assert_eq!((taken.setups, taken.readings), (Some(Instances::default()), Some(readings(2))));
        let taken = taker.take(later(2_000));
        assert_eq!((taken.setups, taken.readings), (None, None));
        assert_eq!(orders.are_taken(later(4_900)), Ok(()));
        assert!(matches!(orders.are_taken(later(5_500)), Err(VrrpRefusal::Hangs(_))));
        taker.take(later(5_600));
        assert_eq!(orders.are_taken(later(5_700)), Ok(()));
        drop(taker);
        assert_eq!(orders.are_taken(later(5_700)), Err(VrrpRefusal::Ended));
    }
}
