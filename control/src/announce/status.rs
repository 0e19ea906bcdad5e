//! What others may know of announced routes. Written by the announcing thread alone.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use weir_dataplane::stats::Counter;

use super::plan::State;

/// See the module.
#[derive(Default)]
pub(crate) struct Announcements {
    routes: ArcSwap<Vec<Announcement>>,
    /// Routes that were added.
    pub(crate) announced: Counter,
    /// Routes that were removed.
    pub(crate) withdrawn: Counter,
    /// Routes that somebody else had removed, and that were added again.
    pub(crate) restored: Counter,
    /// What the kernel refused.
    pub(crate) failures: Counter,
}

/// One route that may be announced.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Announcement {
    pub(crate) net: IpNet,
    pub(crate) table: u32,
    pub(crate) interface: String,
    pub(crate) state: State,
    /// Of the route that the kernel has.
    pub(crate) metric: Option<u32>,
    /// Since when it has been in this state.
    pub(crate) since: SystemTime,
    /// Names.
    pub(crate) virtual_servers: Vec<String>,
    pub(crate) instance: Option<String>,
    /// Why the kernel has not what it is to have.
    pub(crate) problem: Option<String>,
}

impl Announcements {
    /// All of them, in the order of the file.
    pub(crate) fn routes(&self) -> Arc<Vec<Announcement>> {
        self.routes.load_full()
    }

    /// They are these now.
    pub(super) fn set(&self, routes: Vec<Announcement>) {
        self.routes.store(Arc::new(routes));
    }

    /// How many there are of each state, and that are not as they are to be.
    pub(crate) fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for route in self.routes.load().iter() {
            match (&route.problem, route.state) {
                (Some(_), _) => tally.failed += 1,
                (None, State::Serving) => tally.serving += 1,
                (None, State::Draining) => tally.draining += 1,
                (None, State::Withdrawn(_)) => tally.withdrawn += 1,
            }
        }
        tally
    }
}

/// Routes by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) serving: u64,
    pub(crate) draining: u64,
    pub(crate) withdrawn: u64,
    pub(crate) failed: u64,
}
