//! Long lists under the methods that take the server with the least load: a pick looks at what has changed since the last
//! one, and at nothing else.
//!
//! Each worker has a tree over the list: a leaf for each server with its load, and above each two the lesser of them, up to
//! the least of all. Whoever changes a count of a server writes its name into a [`Journal`]; before a pick the worker reads
//! what it has not read yet, and mends the tree from these leaves up. It picks what a walk through the list would pick, also
//! with several workers.
//!
//! That holds once every worker writes: from the generation on with which the virtual server came to have a journal. Until
//! the last of them has come to it ([`Arrivals`]) the list is walked as it is, and so are short lists.

pub mod journal;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
mod tree;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

use crossbeam::utils::CachePadded;
use weir_config::model::Scheduler as Kind;

use crate::sched::{Measure, Places, Servers, has_plenty};
use crate::stats::Milestone;
use journal::{Journal, Lapped};
use tree::Tree;

/// What the journal is made of; `model.rs` has something else in its place.
mod sync {
    pub(super) use std::sync::atomic::{AtomicU32, AtomicU64, fence};

    /// Entries that lie together.
    pub(super) const CHUNK_LEN: usize = 32;
    /// Two cache lines of them.
    pub(super) type Chunk = crossbeam::utils::CachePadded<[AtomicU32; CHUNK_LEN]>;
}

/// A list no longer than this is walked: so many counts are asked for ahead, and wait together.
pub(super) const SHORT_MAX: usize = 12;

/// To which generation each worker has come. The registry's, for its snapshots.
#[derive(Debug)]
pub struct Arrivals(Box<[CachePadded<Milestone>]>);

impl Arrivals {
    pub(super) fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self((0..workers).map(|_| CachePadded::default()).collect()))
    }

    /// The worker has this generation from now on. What it counted before is seen by whoever sees this.
    pub(super) fn set(&self, worker: usize, generation: u64) {
        if let Some(arrival) = self.0.get(worker) {
            arrival.set(generation);
        }
    }

    fn all_have(&self, generation: u64) -> bool {
        self.0.iter().all(|arrival| arrival.get() >= generation)
    }
}

/// The journal of a virtual server's list, and the generation from which on all its real servers' changes are in it.
#[derive(Debug, Clone)]
pub(super) struct Noted {
    pub(super) journal: Arc<Journal>,
    pub(super) since: u64,
}

impl Noted {
    /// For a list of this length and method, beside what there was. `None`: the list is walked.
    pub(super) fn beside(
        before: Option<Self>,
        list_len: usize,
        method: Kind,
        workers: usize,
        generation: u64,
    ) -> Option<Self> {
        if list_len <= SHORT_MAX || Measure::of(method).is_none() {
            return None;
        }
        let fitting = before.filter(|before| before.journal.suits(list_len));
        Some(fitting.unwrap_or_else(|| Self { journal: Journal::new(workers, list_len), since: generation }))
    }
}

/// What the workers remember of one version of a list.
#[derive(Debug)]
pub struct Ranks {
    measure: Measure,
    /// Whether picks ask for one that has plenty of room.
    seeks_plenty: bool,
    noted: Noted,
    arrivals: Arc<Arrivals>,
    /// By the names that are in the journal.
    places: Places,
    /// By worker.
    known: Box<[CachePadded<Known>]>,
}

/// What a worker knows. It alone writes and reads it.
#[derive(Debug)]
struct Known {
    /// Whether it knows anything.
    is_begun: AtomicBool,
    /// How many servers have plenty of room, if that is asked for.
    plenty: AtomicU32,
    /// Which of them.
    has_plenty: Box<[AtomicBool]>,
    /// By worker: how much of what it wrote has been read.
    read: Box<[AtomicU64]>,
    tree: Tree,
}

impl Known {
    fn nothing(list_len: usize, workers: usize, seeks_plenty: bool) -> Self {
        let plenty_len = if seeks_plenty { list_len } else { 0 };
        Self {
            is_begun: AtomicBool::new(false),
            plenty: AtomicU32::new(0),
            has_plenty: (0..plenty_len).map(|_| AtomicBool::new(false)).collect(),
            read: (0..workers).map(|_| AtomicU64::new(0)).collect(),
            tree: Tree::new(list_len),
        }
    }

    fn set_plenty(&self, place: usize, has_plenty: bool) {
        let Some(known) = self.has_plenty.get(place) else { return };
        let change = u32::from(has_plenty).wrapping_sub(u32::from(known.load(Relaxed)));
        known.store(has_plenty, Relaxed);
        self.plenty.store(self.plenty.load(Relaxed).wrapping_add(change), Relaxed);
    }
}

impl Ranks {
    /// Of the list of these servers, by name.
    pub(super) fn new(names: &[u32], method: Kind, noted: Noted, arrivals: Arc<Arrivals>) -> Option<Self> {
        let measure = Measure::of(method)?;
        let seeks_plenty = matches!(method, Kind::Lblc | Kind::Lblcr);
        let workers = arrivals.0.len();
        let known = || CachePadded::new(Known::nothing(names.len(), workers, seeks_plenty));
        Some(Self {
            measure,
            seeks_plenty,
            noted,
            arrivals,
            places: Places::new(names),
            known: (0..workers).map(|_| known()).collect(),
        })
    }

    /// Asks the processor for what a pick begins with.
    #[inline]
    pub(super) fn prefetch(&self, worker: usize) {
        if let Some(known) = self.known.get(worker) {
            dpdk::lcore::prefetch(&**known);
        }
        self.noted.journal.prefetch(worker);
    }

    /// The usable server with the least load; of equals the first. `servers` is the list that this was made for. `None`: that
    /// is not known yet, and has to be found by a walk.
    #[inline]
    pub(super) fn least(&self, worker: usize, servers: &impl Servers) -> Option<Option<usize>> {
        self.up_to_date(worker, servers).map(|known| known.tree.least())
    }

    /// As [`Servers::some_have_plenty`], for lblc and lblcr. `None`: as above.
    pub(super) fn some_have_plenty(&self, worker: usize, servers: &impl Servers) -> Option<bool> {
        self.up_to_date(worker, servers).map(|known| known.plenty.load(Relaxed) != 0)
    }

    /// What the worker knows, with all that has changed so far.
    #[inline]
    fn up_to_date(&self, worker: usize, servers: &impl Servers) -> Option<&Known> {
        let known = &**self.known.get(worker)?;
        if !known.is_begun.load(Relaxed) {
            return self.begin(known, servers);
        }
        for (writer, read) in known.read.iter().enumerate() {
            let from = read.load(Relaxed);
            match self.noted.journal.read(writer, from, |name| self.renew(known, name, servers)) {
                Ok(to) if to == from => (),
                Ok(to) => read.store(to, Relaxed),
                Err(Lapped) => self.start_over(known, servers),
            }
        }
        Some(known)
    }

    #[cold]
    fn begin<'a>(&'a self, known: &'a Known, servers: &impl Servers) -> Option<&'a Known> {
        if !self.arrivals.all_have(self.noted.since) {
            return None;
        }
        self.start_over(known, servers);
        known.is_begun.store(true, Relaxed);
        Some(known)
    }

    /// Looks at every server.
    #[cold]
    fn start_over(&self, known: &Known, servers: &impl Servers) {
        // Before the look: a change during it is read the next time.
        for (writer, read) in known.read.iter().enumerate() {
            read.store(self.noted.journal.written(writer), Relaxed);
        }
        known.tree.fill(servers.len(), |place| self.measure.load(servers, place));
        if self.seeks_plenty {
            (0..servers.len()).for_each(|place| known.set_plenty(place, has_plenty(servers, place)));
        }
    }

    #[inline]
    fn renew(&self, known: &Known, name: u32, servers: &impl Servers) {
        // One that is not in the list has connections left, no more.
        let Some(place) = self.places.get(name) else { return };
        known.tree.renew(place, self.measure.load(servers, place));
        if self.seeks_plenty {
            known.set_plenty(place, has_plenty(servers, place));
        }
    }
}
