//! How far a worker has come.

use std::sync::atomic::Ordering::{Acquire, Release};

use super::sync::AtomicU64;

/// A number that only its worker sets, when it has come so far. It is a release, and to read it an acquire: who sees that a
/// worker has come to a generation also sees every connection that it counted before, and every template that it used. Control
/// gives numbers of real servers and VIPs away by that, so it must not read older counts beside a newer generation.
#[derive(Debug, Default)]
pub struct Milestone(AtomicU64);

impl Milestone {
    /// So far it is. Only the owner calls this.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Release);
    }

    /// How far it is at least.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Acquire)
    }
}
