//! `/api/v1/neighbors`: next hops and their MACs, as each worker knows them.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Text;

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Listing<'a> {
    /// By worker.
    pub neighbors: Vec<Neighbor<'a>>,
    /// Workers that did not tell all of theirs in time.
    pub silent_workers: Vec<usize>,
}

/// A next hop of a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Neighbor<'a> {
    /// Number of the worker. Each has its own table, and asks for itself.
    pub worker: usize,
    /// Name of the port.
    pub port: Text<'a>,
    /// The VLAN; `None`: no tag.
    pub vlan: Option<u16>,
    /// The next hop.
    pub address: IpAddr,
    /// Its MAC, if frames may go there.
    pub mac: Option<Text<'a>>,
    /// `static`, `reachable`, `stale`, `probing`, `incomplete` or `failed`.
    pub state: Text<'a>,
    /// Seconds since its MAC was learned or confirmed, if it was.
    pub age_seconds: Option<f64>,
    /// Requests in a row that nobody has answered.
    pub asked: u8,
    /// Frames that wait for the answer.
    pub waiting: u16,
    /// Whether the file names it: a real server, a gateway, or one with a MAC of its own there.
    pub configured: bool,
}
