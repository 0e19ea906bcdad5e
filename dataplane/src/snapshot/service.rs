//! A virtual server as the data path sees it.

use std::net::IpAddr;
use std::sync::Arc;

use crossbeam::utils::CachePadded;
pub use weir_config::model::Persistence;
use weir_config::model::Protocol;

use super::Snapshot;
use super::rates::Estimator;
use crate::conn::record::{ServerId, ServiceId};
use crate::sched::{PickKey, Scheduler, Servers, State};

/// One virtual server.
pub struct Service {
    /// Its number.
    pub id: ServiceId,
    /// Its name in the file.
    pub name: String,
    /// The mark that it serves, instead of an address, port and protocol.
    pub mark: Option<u32>,
    /// The VIP. With a mark 0.0.0.0.
    pub address: IpAddr,
    /// 0: every port, and with a mark.
    pub port: u16,
    /// Transport protocol. Means nothing with a mark.
    pub protocol: Protocol,
    /// Whether connections of one client stay together.
    pub persistence: Option<Persistence>,
    /// The epoch of its persistence.
    pub epoch: Epoch,
    /// Whether each datagram is scheduled by itself, without a record.
    pub one_packet: bool,
    /// Its real servers in IPVS's list order: the one added last comes first.
    pub list: Box<[ServerId]>,
    /// How one is picked.
    pub scheduler: Scheduler,
    /// What the scheduler remembers, by worker.
    pub state: Box<[CachePadded<State>]>,
    /// What it carries in a second, all real servers together; control's.
    pub rates: Arc<Estimator>,
}

/// What counts up when the templates there are lose their meaning: when `persistence_netmask` changes, persistence is
/// switched, or the virtual server comes back. They are given up then, and connections that hang on them go without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Epoch {
    /// Part of the templates' keys.
    pub number: u16,
    /// The generation that began it; 0: the first one.
    pub since: u64,
}

impl Service {
    /// Picks a real server for a new connection, as the kernel would.
    pub fn pick(&self, snapshot: &Snapshot, worker: usize, key: &PickKey) -> Option<ServerId> {
        let servers = View { snapshot, list: &self.list };
        self.scheduler.pick(&self.state[worker], &servers, key).map(|index| self.list[index])
    }

    /// Picks a real server for a flow that gets no record: the same one for each of its packets.
    pub fn pick_untracked(&self, snapshot: &Snapshot, hash: u64) -> Option<ServerId> {
        let servers = View { snapshot, list: &self.list };
        crate::sched::deterministic_pick(&servers, hash).map(|index| self.list[index])
    }
}

/// The real servers of one virtual server, as schedulers ask for them.
struct View<'a> {
    snapshot: &'a Snapshot,
    list: &'a [ServerId],
}

impl Servers for View<'_> {
    fn len(&self) -> usize {
        self.list.len()
    }
    fn weight(&self, index: usize) -> u32 {
        u32::from(self.snapshot.server(self.list[index]).weight)
    }
    fn overloaded(&self, index: usize) -> bool {
        self.snapshot.server(self.list[index]).is_overloaded()
    }
    fn active(&self, index: usize) -> u32 {
        self.snapshot.server(self.list[index]).live.active()
    }
    fn inactive(&self, index: usize) -> u32 {
        self.snapshot.server(self.list[index]).live.inactive()
    }
}
