//! A virtual server as the data path sees it.

use std::mem::offset_of;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use crossbeam::utils::CachePadded;
pub use weir_config::model::Persistence;
use weir_config::model::{ClampMss, Forwarding, Protocol, Scheduler as Kind, SchedulerFlags};

use super::Snapshot;
use super::ranks::Ranks;
use super::rates::Estimator;
use super::server::Tally;
use crate::conn::record::{ServerId, ServiceId};
use crate::sched::untracked::{Entrants, FlowHash};
use crate::sched::{Measure, PickKey, Scheduler, Servers, State};

/// One virtual server. In this order, so that all that a new connection needs of it lies in its first two cache lines (of mh in
/// three): among thousands that are in use in turn it is in no cache.
#[repr(C, align(64))]
pub struct Service {
    /// Its real servers in IPVS's list order: the one added last comes first.
    pub list: Box<[Candidate]>,
    /// What the scheduler remembers, by worker.
    pub state: Box<[CachePadded<State>]>,
    /// What workers remember of a long list whose least loaded server they ask for.
    pub ranks: Option<Box<Ranks>>,
    /// The mark that it serves, instead of an address, port and protocol.
    pub mark: Option<NonZeroU32>,
    /// Whether connections of one client stay together.
    pub persistence: Option<Persistence>,
    /// Its number.
    pub id: ServiceId,
    /// Transport protocol. Means nothing with a mark.
    pub protocol: Protocol,
    /// Whether each datagram is scheduled by itself, without a record.
    pub one_packet: bool,
    /// Whether new connections are scheduled and no more is done about them: there is neither persistence nor a mark, nor
    /// [`Service::clamp_mss`].
    pub is_simple: bool,
    /// How one is picked.
    pub scheduler: Scheduler,
    /// The epoch of its persistence.
    pub epoch: Epoch,
    /// Its name in the file.
    pub name: String,
    /// The VIP. With a mark 0.0.0.0.
    pub address: IpAddr,
    /// 0: every port, and with a mark.
    pub port: u16,
    /// What the largest segment that a SYN announces is lowered to.
    pub clamp_mss: Option<ClampMss>,
    /// Its real servers, as flows that get no record choose among them.
    pub entrants: Box<Entrants>,
    /// What it carries in a second, all real servers together; control's.
    pub rates: Arc<Estimator>,
    /// Which one [`Service::scheduler`] is, for listings.
    pub method: Kind,
    /// Its flags, for listings.
    pub scheduler_flags: SchedulerFlags,
}

const _: () = assert!(size_of::<Service>() == 256 && offset_of!(Service, scheduler) == 64);

/// A real server, with all that a pick asks of it side by side: one that is not picked costs no more cache lines than its
/// counts.
pub struct Candidate {
    /// Its number.
    pub id: ServerId,
    /// Its weight, as [`super::server::Server::weight`].
    pub weight: u16,
    /// Whether it has an upper threshold, so that it may be overloaded.
    pub has_threshold: bool,
    /// How packets reach it.
    pub forwarding: Forwarding,
    /// What workers count for it.
    pub tallies: Arc<[CachePadded<Tally>]>,
}

/// What counts up when the templates there are lose their meaning: when what they are by changes (`persistence_netmask`, `persistence_engine`), persistence is
/// switched, or the virtual server comes back. They are given up then, and connections that hang on them go without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Epoch {
    /// Part of the templates' keys.
    pub number: u16,
    /// The generation that began it; 0: the first one.
    pub since: u64,
}

/// Real servers whose part of a pick is asked for ahead: the whole of a short list, the beginning of a long one.
const PREFETCHED_MAX: usize = super::ranks::SHORT_MAX;

impl Service {
    /// Picks a real server for a new connection, as the kernel would.
    pub fn pick(&self, snapshot: &Snapshot, worker: usize, key: &PickKey) -> Option<ServerId> {
        self.pick_candidate(snapshot, worker, key).map(|candidate| candidate.id)
    }

    /// As [`Service::pick`], without a look at the real server itself.
    pub(crate) fn pick_candidate(
        &self,
        snapshot: &Snapshot,
        worker: usize,
        key: &PickKey,
    ) -> Option<&Candidate> {
        let servers = View { snapshot, list: &self.list, service: self, worker };
        let index = self.scheduler.pick(self.state.get(worker)?, &servers, key)?;
        self.list.get(index)
    }

    /// Asks the processor for what a pick begins with.
    #[inline]
    pub(crate) fn prefetch(&self, worker: usize) {
        for candidate in self.list.iter().step_by(2).take(PREFETCHED_MAX / 2) {
            dpdk::lcore::prefetch(candidate);
        }
        if let Some(state) = self.state.get(worker) {
            dpdk::lcore::prefetch(state);
        }
    }

    /// Asks the processor for the counts that a pick looks at.
    #[inline]
    pub(crate) fn prefetch_counts(&self, worker: usize) {
        if let Some(ranks) = &self.ranks {
            ranks.prefetch(worker);
        } else if self.scheduler.looks_at_connections() {
            let tallies =
                self.list.iter().take(PREFETCHED_MAX).filter_map(|server| server.tallies.get(worker));
            tallies.for_each(dpdk::lcore::prefetch);
        }
    }

    /// The real server that a client's flows have with a record or without one, thresholds aside: mh's, if it takes any.
    #[inline]
    pub(crate) fn owner(&self, client: IpAddr, port: u16) -> Option<ServerId> {
        let owner = self.list.get(self.scheduler.owner(client, port)?)?;
        (owner.weight > 0).then_some(owner.id)
    }

    /// Lets the scheduler of a worker forget what it has not seen for long; some work per call.
    pub(crate) fn forget(&self, worker: usize, now_secs: u32) {
        if let Some(state) = self.state.get(worker) {
            self.scheduler.expire(state, now_secs);
        }
    }

    /// Picks a real server for a flow that gets no record: the same one for each of its packets, and another one only if
    /// the weights ask for it.
    #[inline(always)]
    pub fn pick_untracked(&self, flow: FlowHash) -> Option<ServerId> {
        let place = self.entrants.pick(flow)?;
        Some(self.list.get(place)?.id)
    }
}

/// The real servers of one virtual server, as schedulers ask for them.
pub(super) struct View<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) list: &'a [Candidate],
    pub(super) service: &'a Service,
    pub(super) worker: usize,
}

impl Servers for View<'_> {
    fn len(&self) -> usize {
        self.list.len()
    }
    #[inline]
    fn weight(&self, index: usize) -> u32 {
        u32::from(self.list[index].weight)
    }
    #[inline]
    fn overloaded(&self, index: usize) -> bool {
        let Candidate { id, has_threshold, .. } = self.list[index];
        has_threshold && self.snapshot.server(id).is_overloaded()
    }
    #[inline]
    fn least(&self, measure: Measure) -> Option<usize> {
        let ranks = self.service.ranks.as_ref();
        match ranks.and_then(|ranks| ranks.least(self.worker, self)) {
            Some(found) => found,
            None => crate::sched::least(self, 0..self.len(), measure).map(|(index, _)| index),
        }
    }
    fn some_have_plenty(&self) -> bool {
        let ranks = self.service.ranks.as_ref();
        match ranks.and_then(|ranks| ranks.some_have_plenty(self.worker, self)) {
            Some(some_have) => some_have,
            None => (0..self.len()).any(|index| crate::sched::has_plenty(self, index)),
        }
    }
    fn active(&self, index: usize) -> u32 {
        self.connections(index).0
    }
    fn inactive(&self, index: usize) -> u32 {
        self.connections(index).1
    }
    #[inline]
    fn connections(&self, index: usize) -> (u32, u32) {
        let of = |tally: &Tally| (tally.active.get(), tally.inactive.get());
        match &*self.list[index].tallies {
            [tally] => of(tally),
            tallies => tallies.iter().map(|tally| of(tally)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)),
        }
    }
}
