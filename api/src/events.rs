//! `/api/v1/events`: what happened of late, as the log has it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Events")]
pub struct Listing {
    /// The oldest first. weir keeps the last 200.
    pub events: Vec<Event>,
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// 1 for the first one since weir was started, one more with each.
    pub number: u64,
    /// When, in seconds since 1970.
    pub at: f64,
    /// `error`, `warn` or `info`.
    pub level: String,
    /// What.
    pub text: String,
}
