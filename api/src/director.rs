//! `/api/v1/status`, `/api/v1/ports`, `/api/v1/counters`: the director as a whole.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Text;

/// The answer of `/api/v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status<'a> {
    /// weir's version.
    pub version: Text<'a>,
    /// DPDK's version.
    pub dpdk_version: Text<'a>,
    /// When weir was started, in seconds since 1970.
    pub started: f64,
    /// For how many seconds it has run.
    pub uptime_seconds: f64,
    /// What keeps it from being ready, a phrase each.
    pub not_ready: Vec<String>,
    /// Number of the configuration in force: 1 at the start, one more with each change.
    pub generation: u64,
    /// Whether the last attempt to load the file succeeded.
    pub reload_successful: bool,
    /// When that was, in seconds since 1970.
    pub reload_at: f64,
    /// Workers.
    pub workers: usize,
    /// Connections in their tables.
    pub connections: u64,
    /// Connections that they have room for.
    pub capacity: u64,
    /// Virtual servers.
    pub virtual_servers: usize,
    /// Their real servers.
    pub real_servers: usize,
    /// Of these, the ones that get new connections: in service, with a weight.
    pub real_servers_serving: usize,
    /// Real servers that health checks hold for down.
    pub real_servers_down: usize,
    /// Instances of VRRP.
    pub vrrp_instances: usize,
    /// Of these, the ones that are master here.
    pub vrrp_masters: usize,
    /// What became of the connections of the process before; absent if nobody is to keep connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept<'a>>,
    /// When the HTTP listener's certificate expires, in seconds since 1970; absent without TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_certificate_ends: Option<f64>,
    /// Whether others can read or write its private key.
    #[serde(default)]
    pub http_key_exposed: bool,
}

/// Connections that outlive the process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Kept<'a> {
    /// Who keeps their memory: `systemd` or `weir-keeper`.
    pub by: Text<'a>,
    /// Whether that one is away, so that connections end with this process until it is there again.
    #[serde(default)]
    pub is_away: bool,
    /// Connections that the process before had when it ended.
    pub found: u64,
    /// Those that went on.
    pub adopted: u64,
    /// Whether some are still to be looked at: both numbers grow.
    #[serde(default)]
    pub goes_on: bool,
    /// How: `in place`, or `anew`, into tables of another size; null: there were no tables, or they were refused.
    pub how: Option<Text<'a>>,
    /// How long that took before the first packet.
    pub seconds: f64,
    /// Host interfaces that are kept for the next process.
    #[serde(default)]
    pub host_interfaces: u64,
    /// Of those, the ones of the process before.
    #[serde(default)]
    pub host_interfaces_adopted: u64,
    /// Why tables were refused; null: they were not.
    pub refused: Option<Text<'a>>,
}

/// The answer of `/api/v1/ports`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ports<'a> {
    /// In the order of the file.
    pub ports: Vec<Port<'a>>,
}

/// A port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Port<'a> {
    /// Its name in the file.
    pub port: Text<'a>,
    /// Its device as the file names it; of a VLAN, the device that carries it.
    #[serde(default)]
    pub device_name: Text<'a>,
    /// The VLAN on that device; null: the port is the whole device.
    pub vlan: Option<u16>,
    /// Whether its link is up; null: that is not known.
    pub link_up: Option<bool>,
    /// Frames that workers received.
    pub receive_packets: u64,
    /// Their bytes.
    pub receive_bytes: u64,
    /// Frames that the device took.
    pub transmit_packets: u64,
    /// Their bytes.
    pub transmit_bytes: u64,
    /// What the device itself counts; null: it keeps no counters.
    pub device: Option<Device>,
}

/// What a device lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Device {
    /// Frames lost because a receive queue was full.
    pub missed: u64,
    /// Frames received with errors.
    pub receive_errors: u64,
    /// Frames that could not be sent.
    pub transmit_errors: u64,
    /// Frames lost because no buffer was free.
    pub no_buffer: u64,
}

/// The answer of `/api/v1/counters`: what all workers have counted since the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counters {
    /// Packets sent towards a real server or client.
    pub forwarded: u64,
    /// Frames taken in without an answer.
    pub absorbed: u64,
    /// Packets forwarded without a record, for lack of room.
    pub untracked: u64,
    /// Packets of IPv6 forwarded without a record, for lack of room for another client.
    pub ipv6_clients_full: u64,
    /// Connections that got no persistence template, for lack of room.
    pub templates_full: u64,
    /// Packets that wait for a neighbour's answer now.
    pub waiting: u64,
    /// ARP requests sent.
    pub arp_requests: u64,
    /// Neighbour solicitations sent for IPv6 next hops.
    pub nd_solicitations: u64,
    /// ARP packets in which another host claimed an address that it can't have.
    pub arp_conflicts: u64,
    /// Frames dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Frames answered, by kind.
    pub answered: BTreeMap<String, u64>,
}
