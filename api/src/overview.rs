//! `/api/v1/overview`: what the status page shows, of one moment, and so many virtual servers of it as are looked at.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Text;
use crate::virtual_servers::{Carried, Figures, Served};

/// By what virtual servers can be sorted.
pub const SORTS: [&str; 11] = [
    "number",
    "name",
    "address",
    "state",
    "active",
    "inactive",
    "connections",
    "in_packets",
    "out_packets",
    "in_bytes",
    "out_bytes",
];

/// The answer. Figures are those of one moment, which all who ask within a second share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Overview<'a> {
    /// The director's name, which is its machine's.
    pub director: Text<'a>,
    /// weir's version.
    pub version: Text<'a>,
    /// DPDK's version.
    pub dpdk_version: Text<'a>,
    /// Of what moment the figures are, in seconds since 1970.
    pub at: f64,
    /// When weir was started, in seconds since 1970.
    pub started: f64,
    /// Number of the configuration in force.
    pub generation: u64,
    /// When the file was last loaded, or could not be, in seconds since 1970.
    pub reload_at: f64,
    /// What is wrong, the worst first; 100 at most.
    pub problems: Vec<Problem>,
    /// How many more there are.
    pub more_problems: usize,
    /// Number of the newest event; 0: there is none.
    pub newest_event: u64,
    /// All virtual servers together.
    pub totals: Totals,
    /// By number.
    pub workers: Vec<Load>,
    /// In the order of the file.
    pub ports: Vec<Link<'a>>,
    /// In the order of the file.
    pub vrrp: Vec<Router<'a>>,
    /// Reasons for which frames were dropped, without those for which none was.
    pub drops: Vec<Dropped<'a>>,
    /// How many virtual servers are looked for.
    pub matching: usize,
    /// How many of those come before the first one of this answer.
    pub first: usize,
    /// So many as were asked for.
    pub virtual_servers: Vec<Row<'a>>,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// Whether clients feel it, or will soon.
    pub severe: bool,
    /// The virtual server that it is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_server: Option<String>,
    /// A sentence.
    pub text: String,
}

/// All virtual servers together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Totals {
    /// Virtual servers.
    pub virtual_servers: usize,
    /// Of these, the ones that have no quorum.
    pub virtual_servers_down: usize,
    /// Real servers.
    pub real_servers: usize,
    /// Of these, the ones that checks hold for down.
    pub real_servers_down: usize,
    /// Connections in an active state.
    pub active: u64,
    /// Connections in any other state.
    pub inactive: u64,
    /// Records in the connection tables.
    pub connections: u64,
    /// Records that they have room for.
    pub capacity: u64,
    /// As IPVS estimates it.
    pub per_second: Figures,
}

/// A worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Load {
    /// Its number.
    pub worker: usize,
    /// Part of its time in which it had packets, 0 to 1, since the moment before; null: there was none of late.
    pub busy: Option<f64>,
    /// Whether it stands still.
    pub stuck: bool,
    /// Records in its connection table.
    pub connections: u64,
    /// Records that it has room for.
    pub capacity: u64,
    /// The longest pass over its queues in the last minute.
    pub longest_pass_seconds: f64,
    /// The configuration that it uses.
    pub generation: u64,
}

/// A port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Link<'a> {
    /// Its name in the file.
    pub port: Text<'a>,
    /// Its VLAN; null: the port is a whole device.
    pub vlan: Option<u16>,
    /// Whether its link is up; null: that is not known.
    pub link_up: Option<bool>,
    /// In a second, since the moment before; null: there was none of late.
    pub per_second: Option<Flow>,
    /// Frames that workers received.
    pub receive_packets: u64,
    /// Frames that the device took.
    pub transmit_packets: u64,
    /// Frames that the device lost, with errors or for lack of room; null: it keeps no counters.
    pub lost: Option<u64>,
}

/// What passes a port in a second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Flow {
    /// Frames received.
    pub receive_packets: f64,
    /// Their bytes.
    pub receive_bytes: f64,
    /// Frames sent.
    pub transmit_packets: f64,
    /// Their bytes.
    pub transmit_bytes: f64,
    /// Frames that the device lost.
    pub lost: f64,
}

/// An instance of VRRP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Router<'a> {
    /// Its name in the file.
    pub instance: Text<'a>,
    /// Name of its port.
    pub port: Text<'a>,
    /// VRID.
    pub virtual_router_id: u8,
    /// `initialize`, `backup`, `master` or `fault`.
    pub state: Text<'a>,
    /// When that last changed, in seconds since 1970.
    pub changed_at: f64,
    /// As it is now.
    pub priority: u8,
    /// Virtual addresses, 8 at most.
    pub addresses: Vec<IpAddr>,
    /// How many more there are.
    pub more_addresses: usize,
    /// Why it is in fault, as a sentence.
    pub fault: Option<Text<'a>>,
    /// From whom the last advertisement came.
    pub heard_from: Option<IpAddr>,
    /// How many seconds ago.
    pub heard_seconds_ago: Option<f64>,
    /// How often it became master.
    pub became_master: u64,
}

/// A reason for which frames were dropped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Dropped<'a> {
    /// Its label in the metrics.
    pub reason: Text<'a>,
    /// A sentence.
    pub meaning: Text<'a>,
    /// Frames since the start.
    pub total: u64,
    /// In a second, since the moment before; null: there was none of late.
    pub per_second: Option<f64>,
}

/// A virtual server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OverviewVirtualServer")]
pub struct Row<'a> {
    /// Its name in the file.
    pub name: Text<'a>,
    /// What it serves.
    #[serde(flatten)]
    pub traffic: Served<'a>,
    /// How a real server is picked, by ipvsadm's names.
    pub scheduler: Text<'a>,
    /// `up`; `partly`: a real server is down; `sorry`: its sorry server serves; `down`: it has no quorum.
    pub state: Text<'a>,
    /// How many real servers it has, with those that are out of service.
    pub servers: usize,
    /// How many of them checks hold for down.
    pub servers_down: usize,
    /// Sum of its real servers' weights.
    pub weight: u64,
    /// Connections in an active state.
    pub active: u64,
    /// Connections in any other state.
    pub inactive: u64,
    /// What it has carried, with that of real servers that were removed.
    #[serde(flatten)]
    pub carried: Carried,
    /// In the order of the file; absent unless `open` or `unfold` asks for them, and 1,000 in one answer at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub real_servers: Option<Vec<Server<'a>>>,
}

/// A real server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "OverviewRealServer")]
pub struct Server<'a> {
    /// `address:port`, as in the metrics.
    pub real_server: Text<'a>,
    /// `dr`, `tun` or `nat`; null: it is down and out of service, so that its figures are 0.
    pub forwarding: Option<Text<'a>>,
    /// `up`; `drained`: its weight is 0; `down`: by its checks.
    pub state: Text<'a>,
    /// Since when checks have held it for up or down, in seconds since 1970; null: nothing is known of its health.
    pub changed_at: Option<f64>,
    /// Why.
    pub reason: Option<Text<'a>>,
    /// What the last check was answered, in words.
    pub last_check: Option<Text<'a>>,
    /// 0: it gets no new connections.
    pub weight: u16,
    /// Connections in an active state.
    pub active: u32,
    /// Connections in any other state.
    pub inactive: u32,
    /// What it has carried.
    #[serde(flatten)]
    pub carried: Carried,
}
