//! `/api/v1/explain`: what would become of a packet, and why.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Text;

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation<'a> {
    /// What was asked about.
    pub packet: Packet<'a>,
    /// What the workers say that may get it; those that say the same, together.
    pub verdicts: Vec<Verdict<'a>>,
    /// Workers that have not answered in time.
    pub silent: Vec<usize>,
}

/// A packet. It comes in for the port's MAC, has a TTL or hop limit of 64, and must not be cut (DF).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Packet<'a> {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: Text<'a>,
    /// From whom.
    pub source: IpAddr,
    /// From which port.
    pub source_port: u16,
    /// To whom.
    pub destination: IpAddr,
    /// To which port.
    pub destination_port: u16,
    /// `syn`, `syn-ack`, `ack`, `fin` or `rst`, with SCTP the chunk that corresponds; none with UDP.
    pub segment: Option<Text<'a>>,
    /// Length of the IP packet, in bytes.
    pub length: u16,
    /// Name of the port that it comes in on.
    pub port: Text<'a>,
}

/// What becomes of it on some workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict<'a> {
    /// Numbers of the workers.
    pub workers: Vec<usize>,
    /// What leads to it, in order.
    pub steps: Vec<Step<'a>>,
    /// `forwarded`, `waits` (for its next hop's answer), `answered`, `handed_over` (to the host) or `dropped`.
    pub verdict: Text<'a>,
    /// Why it is dropped, or what it is answered with or handed over as: the label in metrics.
    pub reason: Option<Text<'a>>,
    /// `existing`, `new`, `one_packet` (leaves no record) or `untracked` (without a record for lack of room); none: it has
    /// nothing to do with a connection.
    pub connection: Option<Text<'a>>,
    /// Name of the virtual server that it asks for, or whose real server answers.
    pub virtual_server: Option<Text<'a>>,
    /// The real server that it is for, or comes from.
    pub real_server: Option<IpAddr>,
    /// Its port.
    pub real_server_port: Option<u16>,
    /// `real_server` or `client`: who it is for.
    pub to: Option<Text<'a>>,
    /// Name of the port that it goes out of.
    pub port: Option<Text<'a>>,
    /// MAC of its next hop.
    pub mac: Option<String>,
    /// All of that in one sentence.
    pub text: String,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step<'a> {
    /// What it is about, in a word or two.
    pub step: Text<'a>,
    /// What is found there.
    pub text: String,
}
