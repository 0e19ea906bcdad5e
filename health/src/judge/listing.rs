//! What is known, for people and for metrics.

use std::net::SocketAddr;
use std::time::Duration;

use weir_config::model::Identity;
use weir_config::model::health::Quorum;

use super::target::Last;
use super::track::Verdict;
use super::{Moment, Outcome};

/// A virtual server.
#[derive(Debug, Clone)]
pub struct ServiceListing {
    /// Its name.
    pub name: String,
    /// What makes it the one it is.
    pub identity: Identity,
    /// Whether enough of its real servers are up.
    pub has_quorum: bool,
    /// How many are enough.
    pub quorum: Quorum,
    /// Sum of the weights of those that are up.
    pub weight: u64,
    /// How long the quorum has been as it is.
    pub since: Duration,
    /// Whether there is a sorry server, which serves while the quorum is lost.
    pub has_sorry_server: bool,
    /// In the order of the file.
    pub servers: Vec<ServerListing>,
}

/// A real server.
#[derive(Debug, Clone)]
pub struct ServerListing {
    /// Its address and port.
    pub server: SocketAddr,
    /// Whether it is up.
    pub is_up: bool,
    /// Its weight in the file.
    pub configured_weight: u16,
    /// Its weight if it is up.
    pub weight: u16,
    /// How long it has been up or down.
    pub since: Duration,
    /// Since when.
    pub changed_at: Moment,
    /// Why.
    pub reason: String,
    /// Ejections by passive health so far.
    pub ejections: u64,
    /// Its checks, agent and file.
    pub checks: Vec<CheckListing>,
}

/// A check, an agent or a file.
#[derive(Debug, Clone)]
pub struct CheckListing {
    /// What it is, in a few words.
    pub what: String,
    /// Agents and files have none.
    pub verdict: Option<Verdict>,
    /// Answers in a row that contradict the verdict.
    pub against: u32,
    /// The last answer.
    pub last: Option<Last>,
    /// How many went how, by the number of the [`Outcome`].
    pub counts: [u64; Outcome::ALL.len()],
}
