//! Threads that are older than EAL. They start before it is known which cores are workers', and are moved away from those
//! later.

use std::sync::{Mutex, PoisonError};

use rustix::thread::{CpuSet, Pid, gettid, sched_setaffinity};
use tracing::warn;

static THREADS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// The calling thread is one.
pub(crate) fn register() {
    THREADS.lock().unwrap_or_else(PoisonError::into_inner).push(gettid());
}

/// From now on they run on these cores.
pub(crate) fn move_to(cpus: &[usize]) {
    let mut set = CpuSet::new();
    cpus.iter().filter(|&&cpu| cpu < CpuSet::MAX_CPU).for_each(|&cpu| set.set(cpu));
    for thread in THREADS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        if let Err(problem) = sched_setaffinity(Some(*thread), &set) {
            warn!("a thread of control's may run on a worker's core: {problem}");
        }
    }
}
