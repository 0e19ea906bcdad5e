//! How attempts to load the configuration went, for whoever asks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

/// Who refuses a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusedBy {
    /// The checks of what is written.
    File,
    /// It changes what is taken at start.
    Restart,
    /// Health checks.
    Health,
    /// VRRP.
    Vrrp,
    /// The host interfaces.
    Host,
    /// What gives numbers to servers and addresses.
    Registry,
}

impl RefusedBy {
    /// Every one, in the order of the counters.
    pub(crate) const ALL: [Self; 6] =
        [Self::File, Self::Restart, Self::Health, Self::Vrrp, Self::Host, Self::Registry];

    /// The label in metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Restart => "restart",
            Self::Health => "health",
            Self::Vrrp => "vrrp",
            Self::Host => "host",
            Self::Registry => "registry",
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct ReloadStatus {
    successful: AtomicBool,
    /// Seconds since the epoch, as the bits of an `f64`.
    at: AtomicU64,
    refused: [AtomicU64; RefusedBy::ALL.len()],
    /// Requests whose edits were made, and that were refused.
    edits: [AtomicU64; 2],
    edits_since: AtomicU64,
}

impl ReloadStatus {
    /// The configuration that weir started with was loaded at `at`.
    pub(crate) fn loaded(at: SystemTime) -> Self {
        let status = Self {
            successful: AtomicBool::new(true),
            at: AtomicU64::new(0),
            refused: Default::default(),
            edits: Default::default(),
            edits_since: AtomicU64::new(0),
        };
        status.record(Ok(()), at);
        status
    }

    /// An attempt was made at `at`.
    pub(crate) fn record(&self, outcome: Result<(), RefusedBy>, at: SystemTime) {
        if let Err(by) = outcome {
            self.refused[by as usize].fetch_add(1, Relaxed);
        }
        self.successful.store(outcome.is_ok(), Relaxed);
        self.at.store(unix_seconds(at).to_bits(), Relaxed);
    }

    /// Requests whose edits were made and that were refused so far, and what was edited since the file was read.
    pub(crate) fn edited(&self, counts: [u64; 2], since: usize) {
        self.edits.iter().zip(counts).for_each(|(edits, count)| edits.store(count, Relaxed));
        self.edits_since.store(since as u64, Relaxed);
    }

    /// The same three figures.
    pub(crate) fn edits(&self) -> ([u64; 2], u64) {
        (self.edits.each_ref().map(|edits| edits.load(Relaxed)), self.edits_since.load(Relaxed))
    }

    /// Whether the last attempt succeeded.
    pub(crate) fn is_successful(&self) -> bool {
        self.successful.load(Relaxed)
    }

    /// When it was made, in seconds since the epoch.
    pub(crate) fn at(&self) -> f64 {
        f64::from_bits(self.at.load(Relaxed))
    }

    /// How many attempts it refused.
    pub(crate) fn refused(&self, by: RefusedBy) -> u64 {
        self.refused[by as usize].load(Relaxed)
    }
}

/// Seconds since 1970; 0 for a clock set earlier.
pub(crate) fn unix_seconds(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
