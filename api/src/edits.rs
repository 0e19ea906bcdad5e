//! `/api/v1/edits`, `/api/v1/reload`, `/api/v1/desired`, `/api/v1/timeouts`: what weir is to serve, and its changes. On the unix socket.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Keys of a table of the file, with their values as JSON: a table is an object, an array of tables an array of objects.
pub type Keys = Map<String, Value>;

/// What is asked of `POST /api/v1/edits`: all of it is done or nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object with `edits`")]
#[schemars(rename = "Edits")]
pub struct Request {
    /// In their order.
    pub edits: Vec<Edit>,
    /// Says what would come of it, and changes nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Edit {
    /// A virtual server that is not there yet.
    AddVirtualServer {
        /// Keys of `[[virtual_server]]`. One without `name` gets one made of what it serves.
        virtual_server: Keys,
    },
    /// Some keys of a virtual server.
    SetVirtualServer {
        /// Which one.
        virtual_server: Id,
        /// Keys of `[[virtual_server]]`; null takes one away, so that its default holds.
        keys: Keys,
    },
    /// A virtual server goes, with its real servers.
    RemoveVirtualServer {
        /// Which one.
        virtual_server: Id,
    },
    /// A real server that the virtual server does not have yet.
    AddRealServer {
        /// Of which virtual server.
        virtual_server: Id,
        /// Keys of `[[virtual_server.real_server]]`.
        real_server: Keys,
    },
    /// Some keys of a real server. It is an edit also when they are as they were: wrr begins its round anew.
    SetRealServer {
        /// Of which virtual server.
        virtual_server: Id,
        /// Which one.
        real_server: Socket,
        /// Keys of `[[virtual_server.real_server]]`; null takes one away, so that its default holds.
        keys: Keys,
    },
    /// A real server goes.
    RemoveRealServer {
        /// Of which virtual server.
        virtual_server: Id,
        /// Which one.
        real_server: Socket,
    },
    /// Every virtual server goes.
    Clear,
    /// Counters in listings begin at 0 again. Those of the metrics go on.
    Zero {
        /// Of which virtual server; `None`: of all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        virtual_server: Option<Id>,
    },
    /// How long connections stay, in seconds; `None` or 0: as it is.
    SetTimeouts {
        /// TCP, established.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tcp_established: Option<u32>,
        /// TCP, after a FIN.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tcp_fin_wait: Option<u32>,
        /// UDP.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        udp: Option<u32>,
    },
}

/// Names a virtual server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "a virtual server is named by {\"name\"}, by {\"protocol\", \"address\", \"port\"} or by {\"mark\"}, and nothing besides"
)]
pub enum Id {
    /// By its name.
    Name(ByName),
    /// By what it serves.
    Address(ByAddress),
    /// By its mark.
    Mark(ByMark),
}

/// Names a virtual server by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ByName {
    /// Its name.
    pub name: String,
}

/// Names a virtual server by what it serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ByAddress {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// The VIP.
    pub address: IpAddr,
    /// 0: every port.
    pub port: u16,
}

/// Names a virtual server by its mark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ByMark {
    /// The mark.
    pub mark: u32,
    /// `ipv4`, which is the default, or `ipv6`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
}

/// Names a real server of a virtual server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Socket {
    /// Its address.
    pub address: IpAddr,
    /// Its port, as listed: the virtual server's unless it has its own.
    pub port: u16,
}

/// All edits are in force, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Applied {
    /// How many.
    pub applied: usize,
    /// What somebody should look at all the same.
    pub warnings: Vec<String>,
}

/// The answer to what is not done. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refused {
    /// Why.
    pub error: Refusal,
}

/// Why something is not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refusal {
    /// The place in the list of the edit that is refused, from 0; `None`: it is no single one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edit: Option<usize>,
    /// In one word.
    pub kind: Kind,
    /// In a sentence.
    pub text: String,
    /// The whole report on a file that is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<String>,
}

/// Why something is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// There is such a virtual or real server already.
    Exists,
    /// There is no such virtual server.
    UnknownVirtualServer,
    /// The virtual server has no such real server.
    UnknownRealServer,
    /// The file would be refused with it.
    Invalid,
    /// It takes a restart.
    NeedsRestart,
    /// weir can't do it yet.
    NotServed,
    /// Something of weir's does not take it now: ask again.
    Busy,
    /// weir is about to end.
    Stopping,
    /// The request is no JSON, or not what is asked here.
    Malformed,
    /// The request is larger than is taken.
    TooLarge,
}

/// What is asked of `POST /api/v1/reload`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Reload {
    /// Says what would change, and changes nothing.
    pub dry_run: bool,
    /// Edits since the file was read last are made again; else they are dropped.
    pub keep_edits: bool,
}

/// The file is in force, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reloaded {
    /// What differs from what was in force.
    pub changed: Changes,
    /// Edits that are dropped.
    pub dropped_edits: usize,
    /// What the edits were, in words; the first of them.
    pub dropped: Vec<String>,
    /// What somebody should look at all the same.
    pub warnings: Vec<String>,
}

/// What differs between two configurations.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Changes {
    /// Virtual servers.
    pub virtual_servers: Counts,
    /// Real servers, those of virtual servers that come or go included.
    pub real_servers: Counts,
    /// Live connections of all that is removed.
    pub connections_removed: u64,
    /// Live connections of all that is changed. They stay as they are.
    pub connections_changed: u64,
    /// Each of these, real servers after their virtual server; the first of them.
    pub objects: Vec<Change>,
    /// Other tables of the file that differ, such as `connections`.
    pub tables: Vec<String>,
}

/// How many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// Are new.
    pub added: usize,
    /// Are not as they were.
    pub changed: usize,
    /// Are gone.
    pub removed: usize,
}

/// A virtual or real server that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// `added`, `changed` or `removed`.
    pub change: String,
    /// The virtual server's name.
    pub virtual_server: String,
    /// The real server, as `address:port`; `None`: the virtual server itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub real_server: Option<String>,
    /// Its live connections.
    pub connections: u64,
}

/// The answer of `GET /api/v1/desired`: the tables of the file as they are in force, keys that may hold secrets left out. Each virtual
/// server in `virtual_server` has a key `origin` besides, `file` or `edit`, and `left_out` if something of it was left out.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Desired {
    /// By name of the table.
    #[serde(flatten)]
    pub tables: Keys,
}

/// The answer of `GET /api/v1/timeouts`, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Timeouts {
    /// TCP, established.
    pub tcp_established: u32,
    /// TCP, after a FIN.
    pub tcp_fin_wait: u32,
    /// UDP.
    pub udp: u32,
}
