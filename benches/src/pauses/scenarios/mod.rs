//! What is done to a worker while its passes are timed.

mod messages;
mod schedulers;
mod services;
mod table;

use anyhow::Result;
use dpdk::Eal;

use crate::recorder::Recorder;

/// One sequence of steps, from an empty table on.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// The last argument is how many connections the large table holds.
    pub(crate) run: fn(&mut Recorder, Option<&Eal>, usize) -> Result<()>,
}

/// Every one.
pub(crate) const ALL: &[Scenario] = &[
    Scenario { name: "table", run: table::table },
    Scenario { name: "persistence", run: table::persistence },
    Scenario { name: "ipv6", run: table::ipv6 },
    Scenario { name: "services", run: services::services },
    Scenario { name: "vrrp", run: services::vrrp },
    Scenario { name: "messages", run: messages::messages },
    Scenario { name: "neighbours", run: messages::neighbours },
    Scenario { name: "schedulers", run: schedulers::schedulers },
];
