//! `/api/v1/vrrp`: the instances of VRRP.

use std::collections::BTreeMap;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Text;

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Vrrp")]
pub struct Listing<'a> {
    /// In the order of the file.
    pub instances: Vec<Instance<'a>>,
    /// Refused advertisements that belong to no instance.
    pub unclaimed: Vec<Unclaimed<'a>>,
    /// Times that the thread did not run for 20 ms or more.
    pub stalls: u64,
    /// By how much its latest advertisement or take-over was late at worst in the last 10 s, in seconds.
    pub lateness_seconds: f64,
}

/// Refused advertisements that belong to no instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unclaimed<'a> {
    /// Name of the port.
    pub port: Text<'a>,
    /// Why they were refused.
    pub reason: Text<'a>,
    /// How many.
    pub count: u64,
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Instance<'a> {
    /// Its name in the file.
    pub instance: Text<'a>,
    /// The highest number of authentication headers that it has sent or accepted; 0 without them.
    pub sequence: u32,
    /// The trailer of its advertisements, if it has keys for one.
    pub auth_hmac: Option<Hmac<'a>>,
    /// Name of its port.
    pub port: Text<'a>,
    /// VRID.
    pub virtual_router_id: u8,
    /// 2 or 3.
    pub version: u8,
    /// `initialize`, `backup`, `master` or `fault`.
    pub state: Text<'a>,
    /// As it is now.
    pub priority: u8,
    /// As the file says.
    pub configured_priority: u8,
    /// Virtual addresses.
    pub addresses: std::borrow::Cow<'a, [IpAddr]>,
    /// The group that it is in.
    pub sync_group: Option<Text<'a>>,
    /// What is down and forbids being master.
    pub fault: Option<Text<'a>>,
    /// Since the state last changed, in seconds.
    pub since_transition_seconds: f64,
    /// How long it waits for a master before it takes over, in seconds.
    pub down_interval_seconds: f64,
    /// The last advertisement that was accepted.
    pub last_heard: Option<Heard>,
    /// Advertisements that were accepted.
    pub advertisements_received: u64,
    /// Advertisements that it sent.
    pub advertisements_sent: u64,
    /// Of those accepted, the ones by which a master resigned.
    pub priority_zero_received: u64,
    /// Of those sent, the ones by which it resigned.
    pub priority_zero_sent: u64,
    /// How often it became master.
    pub became_master: u64,
    /// How often it ceased to be.
    pub released_master: u64,
    /// Of those accepted, the ones without a trailer where `auth_hmac` has keys.
    pub unsigned: u64,
    /// Advertisements that listed other addresses.
    pub address_mismatches: u64,
    /// Announcements of its addresses.
    pub announcements: u64,
    /// Of those, the ones that answered a claim of another host.
    pub defences: u64,
    /// Refused advertisements, by reason.
    pub discarded: BTreeMap<Text<'a>, u64>,
}

/// The trailer of an instance's advertisements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hmac<'a> {
    /// `receive-only`, `permissive` or `enforce`.
    pub mode: Text<'a>,
    /// Id of the key that is sent.
    pub active_key: u8,
}

/// What was heard last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Heard {
    /// Who sent it.
    pub from: IpAddr,
    /// Its priority.
    pub priority: u8,
    /// Seconds since.
    pub age_seconds: f64,
}
