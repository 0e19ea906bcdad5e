//! Which real servers' counts have changed: a ring for each worker, which it alone writes, and which all read.
//!
//! A reader that falls behind by more than a ring holds is told so, and looks at all servers instead. Nobody waits.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::sync::{AtomicU32, AtomicU64, CHUNK_LEN, Chunk, fence};

/// Servers for which a ring has a chunk: to read a chunk and mend a tree takes about as long as to make it anew for so many.
const SERVERS_PER_CHUNK: usize = 8 * CHUNK_LEN;
/// The longest ring, for the longest lists.
const CHUNKS_MAX: usize = 32;

/// See the module.
#[derive(Debug)]
pub struct Journal {
    rings: Box<[Ring]>,
}

#[derive(Debug)]
#[repr(align(128))]
struct Ring {
    /// Changes so far. The last of them, as many as fit, are in the chunks.
    written: AtomicU64,
    /// A power of two.
    chunks: Box<[Chunk]>,
}

/// What was to be read is overwritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lapped;

impl Ring {
    #[inline]
    fn entry(&self, number: u64) -> &AtomicU32 {
        let number = number as usize;
        &self.chunks[(number / CHUNK_LEN) & (self.chunks.len() - 1)][number % CHUNK_LEN]
    }

    #[inline]
    fn len(&self) -> u64 {
        (self.chunks.len() * CHUNK_LEN) as u64
    }
}

impl Journal {
    /// Of so many workers, for a list of this length.
    pub(super) fn new(workers: usize, list_len: usize) -> Arc<Self> {
        let chunks = || (0..Self::chunks_for(list_len)).map(|_| Chunk::default()).collect();
        let ring = |_| Ring { written: AtomicU64::new(0), chunks: chunks() };
        Arc::new(Self { rings: (0..workers).map(ring).collect() })
    }

    fn chunks_for(list_len: usize) -> usize {
        list_len.div_ceil(SERVERS_PER_CHUNK).next_power_of_two().min(CHUNKS_MAX)
    }

    /// Whether it does for a list of this length, made for another one, maybe.
    pub(super) fn suits(&self, list_len: usize) -> bool {
        self.rings.iter().all(|ring| 2 * ring.chunks.len() >= Self::chunks_for(list_len))
    }

    /// Notes that a worker has changed a count or the overload flag of the server with this name.
    #[inline]
    pub fn note(&self, worker: usize, name: u32) {
        let ring = &self.rings[worker];
        let number = ring.written.load(Relaxed);
        // Who reads the new entry in the place of an old one sees below that it is not the old one.
        fence(Release);
        ring.entry(number).store(name, Relaxed);
        // Who reads this reads the change, too.
        ring.written.store(number + 1, Release);
    }

    /// How much a worker has written.
    pub(super) fn written(&self, worker: usize) -> u64 {
        self.rings[worker].written.load(Acquire)
    }

    /// Reads what a worker has written from `from` on, the oldest first. Returns how far that goes. After an error some of it may
    /// have been read, or anything else that was written.
    #[inline]
    pub(super) fn read(&self, worker: usize, from: u64, mut each: impl FnMut(u32)) -> Result<u64, Lapped> {
        let Some(ring) = self.rings.get(worker) else { return Ok(from) };
        let to = ring.written.load(Acquire);
        if to == from {
            return Ok(to);
        }
        if to - from >= ring.len() {
            return Err(Lapped);
        }
        for number in from..to {
            each(ring.entry(number).load(Relaxed));
        }
        fence(Acquire);
        // The one after the last is being written, maybe.
        if ring.written.load(Relaxed) - from >= ring.len() { Err(Lapped) } else { Ok(to) }
    }

    #[inline]
    pub(super) fn prefetch(&self, worker: usize) {
        if let Some(ring) = self.rings.get(worker) {
            dpdk::lcore::prefetch(ring);
        }
    }
}
