//! `/api/v1/announce`: routes that a routing daemon may pass on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Text;

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Announce")]
pub struct Listing<'a> {
    /// In the order of the file; none where it has no `[[announce]]`.
    pub routes: Vec<Route<'a>>,
}

/// A route that is to be there while its VIP is served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "AnnouncedRoute")]
pub struct Route<'a> {
    /// The VIP with its length.
    pub route: Text<'a>,
    /// The kernel's table.
    pub table: u32,
    /// The device that it leads to.
    pub interface: Text<'a>,
    /// `serving`, `draining` or `withdrawn`: what it is to be.
    pub state: Text<'a>,
    /// Why it is withdrawn.
    pub why: Option<Text<'a>>,
    /// Of the route that the kernel has; without it the kernel has none.
    pub metric: Option<u32>,
    /// Since when it has been in this state, in seconds since 1970.
    pub since: f64,
    /// The same in seconds before now.
    pub since_seconds: f64,
    /// Names of the virtual servers at the VIP.
    pub virtual_servers: Vec<Text<'a>>,
    /// The instance of VRRP that holds the VIP.
    pub vrrp: Option<Text<'a>>,
    /// Why the kernel has not what it is to have.
    pub problem: Option<Text<'a>>,
}
