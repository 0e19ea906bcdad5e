//! `/api/v1/connections`: what the connection tables hold.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Text;

/// All states of connections, of TCP, UDP and SCTP, and those of what persistence remembers, as `ipvsadm -Lc` calls them.
pub const STATES: [&str; 25] = [
    "NONE",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "SYNACK",
    "UDP",
    "INIT1",
    "INIT",
    "C-SENT",
    "C-REPLIED",
    "C-WAIT",
    "COOKIE",
    "C-ECHOED",
    "S-SENT",
    "S-RECEIVED",
    "S-ACK-SENT",
    "REJECTED",
    "CLOSED",
    "ASSURED",
];

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Connections")]
pub struct Listing<'a> {
    /// Connections in all tables.
    pub total: u64,
    /// Those that were asked for.
    pub connections: Vec<Connection<'a>>,
}

/// One connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Connection<'a> {
    /// Number of the worker that has it.
    pub worker: usize,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: Text<'a>,
    /// The client.
    pub client: IpAddr,
    /// Its port.
    pub client_port: u16,
    /// Name of the virtual server that took it.
    pub virtual_server: Text<'a>,
    /// What the client talks to; `None`: one of a network whose addresses are not told from each other.
    pub address: Option<IpAddr>,
    /// Its port.
    pub port: u16,
    /// The real server.
    pub real_server: IpAddr,
    /// Its port.
    pub real_server_port: u16,
    /// As `ipvsadm -Lc` calls it.
    pub state: Text<'a>,
    /// Seconds until it ends if no packet comes.
    pub expires: u32,
    /// Whether a persistence template chose its real server.
    pub persistent: bool,
    /// Of a persistence template: what it is by besides the client's network, `sip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence_engine: Option<Text<'a>>,
    /// With it, the digest of Call-ID and client network; the client is 0.0.0.0 or :: then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence_data: Option<Text<'a>>,
}
