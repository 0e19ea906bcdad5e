//! `/api/v1/workers`: what each worker has done and how long its passes take.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Workers")]
pub struct Listing {
    /// Cycles in a second.
    pub cycle_frequency: u64,
    /// By number.
    pub workers: Vec<Worker>,
}

/// A worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Worker {
    /// Its number.
    pub worker: usize,
    /// The configuration that it uses.
    pub generation: u64,
    /// Records in its connection table.
    pub connections: u64,
    /// Records that it has room for.
    pub capacity: u64,
    /// Cycles of polls that received something.
    pub busy_cycles: u64,
    /// Cycles of polls that did not.
    pub idle_cycles: u64,
    /// Frames that it received.
    pub received: u64,
    /// Packets that it sent towards a real server or client.
    pub forwarded: u64,
    /// Frames that it answered itself.
    pub answered: u64,
    /// Frames that it dropped.
    pub dropped: u64,
    /// Passes over its queues.
    pub passes: u64,
    /// How many of those took no longer than so many microseconds.
    pub passes_within: Vec<Within>,
    /// The longest one of the last minute.
    pub longest_pass_seconds: f64,
}

/// Passes that took no longer than this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Within {
    /// Microseconds.
    pub micros: u64,
    /// How many.
    pub passes: u64,
}
