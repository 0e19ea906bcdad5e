//! `/api/v1/virtual_servers`: virtual servers with their real servers, their counters and rates.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Text;

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "VirtualServers")]
pub struct Listing<'a> {
    /// In the order of their numbers, which is that of the file at first.
    pub virtual_servers: Vec<VirtualServer<'a>>,
}

/// A virtual server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VirtualServer<'a> {
    /// Its name in the file.
    pub name: Text<'a>,
    /// What it serves.
    #[serde(flatten)]
    pub traffic: Served<'a>,
    /// How a real server is picked, by ipvsadm's names.
    pub scheduler: Text<'a>,
    /// Flags of the scheduler, such as `sh-port`.
    pub scheduler_flags: Vec<String>,
    /// Seconds that a client stays with its real server after its last new connection; 0: each connection is picked for.
    pub persistence_timeout: u32,
    /// Prefix length of the client network that stays together.
    pub persistence_netmask: u8,
    /// What keeps packets together besides that network: `sip`, the Call-ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence_engine: Option<Text<'a>>,
    /// Whether each datagram is scheduled by itself.
    pub one_packet: bool,
    /// Connections in an active state.
    pub active: u64,
    /// Connections in any other state.
    pub inactive: u64,
    /// What it has carried, with that of real servers that were removed.
    #[serde(flatten)]
    pub carried: Carried,
    /// Those that are in the file, in the order of their numbers.
    pub real_servers: Vec<RealServer<'a>>,
}

/// What a virtual server serves: a mark, or an address, port and protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Served<'a> {
    /// All that a mark groups.
    Mark {
        /// The mark.
        mark: u32,
        /// `ipv4` or `ipv6`.
        family: Text<'a>,
    },
    /// One address.
    Address {
        /// The VIP.
        address: IpAddr,
        /// 0: every port.
        port: u16,
        /// `tcp`, `udp` or `sctp`.
        protocol: Text<'a>,
    },
}

/// A real server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RealServer<'a> {
    /// `address:port`, as in the metrics.
    pub real_server: Text<'a>,
    /// Its address.
    pub address: IpAddr,
    /// Its port, as the file says; 0: the one that the client used.
    pub port: u16,
    /// `dr`, `tun` or `nat`.
    pub forwarding: Text<'a>,
    /// With `tun`: what stands around the packet, `ipip`, `gue` or `gre`.
    pub tunnel: Option<Text<'a>>,
    /// UDP port of a `gue` tunnel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel_port: Option<u16>,
    /// Checksum of the outer header: `none`, `csum` or `remcsum`; absent with `ipip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnel_checksum: Option<Text<'a>>,
    /// 0: it gets no new connections.
    pub weight: u16,
    /// Connections in an active state.
    pub active: u32,
    /// Connections in any other state.
    pub inactive: u32,
    /// Connections from which on it gets no new ones; 0: no limit.
    pub upper_threshold: u32,
    /// Connections below which it gets new ones again; 0: three quarters of the upper threshold.
    pub lower_threshold: u32,
    /// Clients that persistence ties to it; only if `templates=count` asks for it, since that reads their whole table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent: Option<u32>,
    /// What it has carried.
    #[serde(flatten)]
    pub carried: Carried,
}

/// `ipvsadm -L --stats` and `--rate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Carried {
    /// In all.
    pub total: Figures,
    /// As IPVS estimates it.
    pub per_second: Figures,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Figures {
    /// New connections.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Packets to clients that came this way.
    pub out_packets: u64,
    /// Bytes from clients.
    pub in_bytes: u64,
    /// Bytes to clients.
    pub out_bytes: u64,
}
