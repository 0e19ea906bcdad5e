//! `/api/v1/health`: real servers, whether they are up and why, and their checks.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Text;

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Health")]
pub struct Listing<'a> {
    /// In the order of the file.
    pub virtual_servers: Vec<VirtualServer<'a>>,
}

/// A virtual server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "VirtualServerHealth")]
pub struct VirtualServer<'a> {
    /// Its name in the file.
    pub name: Text<'a>,
    /// Whether enough real servers are up.
    pub quorum: bool,
    /// Seconds that it has been so.
    pub quorum_since: f64,
    /// Sum of the weights of those that are up.
    pub weight: u64,
    /// The sum that is needed.
    pub quorum_weight: u32,
    /// How far the sum has to be above or below that for a change.
    pub hysteresis: u32,
    /// Whether the sorry server serves.
    pub sorry_server: bool,
    /// In the order of the file.
    pub real_servers: Vec<RealServer<'a>>,
}

/// A real server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RealServerHealth")]
pub struct RealServer<'a> {
    /// `address:port`.
    pub real_server: Text<'a>,
    /// Whether it is.
    pub up: bool,
    /// Seconds that it has been so.
    pub since: f64,
    /// Why.
    pub reason: Text<'a>,
    /// As it is now.
    pub weight: u16,
    /// As the file says.
    pub configured_weight: u16,
    /// How often it was ejected.
    pub ejections: u64,
    /// What is checked.
    pub checks: Vec<Check<'a>>,
}

/// A check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Check<'a> {
    /// What it is, in words.
    pub check: Text<'a>,
    /// `up`, `down`, `untried`; none for an agent or a file.
    pub verdict: Option<Text<'a>>,
    /// Answers in a row that contradict the verdict.
    pub against: u32,
    /// Kind of the last answer.
    pub last_result: Option<Text<'a>>,
    /// The same in words.
    pub last_detail: Option<Text<'a>>,
    /// How many seconds it took.
    pub last_duration: Option<f64>,
    /// How many answers there were, by kind.
    pub results: BTreeMap<Text<'a>, u64>,
}
