//! From control to workers: one pointer swap, and the old value freed by control.

use std::ops::Deref;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use crossbeam::utils::CachePadded;

use super::Snapshot;

/// The pointer to what is in force, on a line of its own: workers read it with every burst, and what control writes
/// beside it would take it out of their caches. A clone is the same pointer.
#[derive(Clone)]
pub struct Current(Arc<CachePadded<ArcSwap<Snapshot>>>);

impl Deref for Current {
    type Target = ArcSwap<Snapshot>;

    #[inline]
    fn deref(&self) -> &ArcSwap<Snapshot> {
        &self.0
    }
}

/// Control's end.
pub struct Publisher {
    current: Current,
    retired: Vec<Arc<Snapshot>>,
}

impl Publisher {
    /// Starts with `first`.
    pub fn new(first: Snapshot) -> Self {
        Self {
            current: Current(Arc::new(CachePadded::new(ArcSwap::from_pointee(first)))),
            retired: Vec::new(),
        }
    }

    /// A worker's end.
    pub fn reader(&self) -> Reader {
        Reader(Cache::new(self.current.clone()))
    }

    /// For readers that are not workers, such as metrics.
    pub fn shared(&self) -> Current {
        self.current.clone()
    }

    /// What is in force.
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Puts `next` in force: each worker sees it at its next burst.
    pub fn publish(&mut self, next: Snapshot) {
        self.retired.push(self.current.swap(Arc::new(next)));
        self.reclaim();
    }

    /// A snapshot to make the next one of: the former one if nobody holds it any more, else a copy of what is in force.
    pub fn base(&mut self) -> Snapshot {
        self.reclaim();
        match self.retired.pop().map(Arc::try_unwrap) {
            Some(Ok(former)) => former,
            held => {
                self.retired.extend(held.and_then(Result::err));
                Snapshot::clone(&self.current.load())
            }
        }
    }

    /// Frees what no worker holds any more, here and not on a worker, but for the former one, which [`Publisher::base`] has a
    /// use for. Returns how many are still held.
    pub fn reclaim(&mut self) -> usize {
        let former = self.retired.pop();
        self.retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
        let held = self.retired.len();
        self.retired.extend(former);
        held + usize::from(self.retired.last().is_some_and(|former| Arc::strong_count(former) > 1))
    }
}

/// A worker's end: one pointer comparison when nothing changed.
pub struct Reader(Cache<Current, Arc<Snapshot>>);

impl Reader {
    /// What is in force, for one burst.
    #[inline]
    pub fn load(&mut self) -> &Arc<Snapshot> {
        self.0.load()
    }
}
