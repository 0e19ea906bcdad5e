//! Metrics: what workers count, summed when somebody asks.
//!
//! [`reading`] adds up the counters of all workers with relaxed loads, so that workers never notice; [`families`] is
//! the table of what becomes of them in Prometheus. [`Metrics`] is the `Collector` over both.
//!
//! Invariants:
//! 1. Counters never go back while weir runs: a virtual server's totals keep the share of real servers that were
//!    removed since.
//! 2. One metric family at a time is held in memory while a page is written: the million samples of 10,000 virtual
//!    servers with ten real servers each take half a gigabyte in the form that a [`prometheus::Registry`] gathers, and
//!    a fifth of one this way.

pub(crate) mod families;
pub(crate) mod longest;
pub(crate) mod reading;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use dpdk::port::{PortStats, PortStatsReader};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Encoder, TextEncoder};
use weir_dataplane::conn::table::View;
use weir_dataplane::director::Shared;
use weir_dataplane::snapshot::publish::Current;
use weir_health::checker::Handle;

use crate::host::HostCounters;
use crate::lasting::Lasts;
use crate::reload_status::ReloadStatus;
use crate::standing::Stuck;
use crate::vrrp::status::Status;
use families::FAMILIES;
use longest::Longest;
use reading::Reading;

/// What a device says about itself.
pub(crate) trait Device: Send + Sync {
    /// Its counters; `None` if it is closed or keeps none.
    fn stats(&self) -> Option<PortStats>;
    /// Whether its link is up; `None` if that is not known.
    fn link_up(&self) -> Option<bool>;
}

impl Device for PortStatsReader {
    fn stats(&self) -> Option<PortStats> {
        PortStatsReader::stats(self)
    }
    fn link_up(&self) -> Option<bool> {
        self.link().map(|link| link.up)
    }
}

/// A port and how to ask its device.
pub(crate) struct PortSource {
    /// Its name in the file.
    pub(crate) name: String,
    /// Its device.
    pub(crate) device: Box<dyn Device>,
    /// What passes its host interface, if it has one.
    pub(crate) host: Option<Arc<HostCounters>>,
}

impl PortSource {
    /// The port called `name`.
    pub(crate) fn new(name: String, device: impl Device + 'static) -> Self {
        Self { name, device: Box::new(device), host: None }
    }

    /// With a host interface.
    pub(crate) fn with_host(self, host: Option<Arc<HostCounters>>) -> Self {
        Self { host, ..self }
    }
}

/// Where figures come from.
pub(crate) struct Sources {
    /// What each worker counts.
    pub(crate) workers: Vec<Shared>,
    /// Each worker's connection table.
    pub(crate) tables: Arc<[View]>,
    /// By port number.
    pub(crate) ports: Vec<PortSource>,
    /// The configuration in force.
    pub(crate) snapshot: Current,
    /// What is known of real servers' health.
    pub(crate) health: Handle,
    /// Records that each worker's connection table has room for.
    pub(crate) capacity: u64,
    /// The longest pass of each worker in the last minute.
    pub(crate) longest: Arc<[Longest]>,
    /// Threads that stand still.
    pub(crate) stuck: Stuck,
    /// Frequency of the counter that workers measure time with.
    pub(crate) cycles_per_second: u64,
    /// What VRRP's thread shows.
    pub(crate) vrrp: Arc<ArcSwap<Status>>,
    /// How the last reload went.
    pub(crate) reload: Arc<ReloadStatus>,
    /// How long the one that is under way lasts.
    pub(crate) reload_lasts: Lasts,
    /// How long the read of a tracked file that is under way lasts.
    pub(crate) tracked_lasts: Lasts,
    /// When weir was started.
    pub(crate) started: SystemTime,
    /// DPDK's version, such as `22.11.11`.
    pub(crate) dpdk_version: String,
}

impl Sources {
    /// For a process that starts now, with the configuration just loaded. EAL must have been started: the frequency
    /// of the time stamp counter comes from it.
    pub(crate) fn new(
        workers: Vec<Shared>,
        tables: Arc<[View]>,
        ports: Vec<PortSource>,
        snapshot: Current,
        health: Handle,
        capacity: u64,
    ) -> Self {
        let started = SystemTime::now();
        let has_host = ports.iter().any(|port| port.host.is_some());
        Self {
            longest: Longest::of(workers.len()),
            stuck: Stuck::none(workers.len(), has_host),
            workers,
            tables,
            ports,
            snapshot,
            health,
            capacity,
            cycles_per_second: dpdk::tsc_hz(),
            vrrp: Arc::new(ArcSwap::from_pointee(Status::default())),
            reload: Arc::new(ReloadStatus::loaded(started)),
            reload_lasts: Lasts::default(),
            tracked_lasts: Lasts::default(),
            started,
            dpdk_version: dpdk::version().trim_start_matches("DPDK ").to_owned(),
        }
    }
}

impl Sources {
    /// With what VRRP's thread shows, and how long the files that it tracks take.
    pub(crate) fn with_vrrp(self, vrrp: Arc<ArcSwap<Status>>, tracked_lasts: Lasts) -> Self {
        Self { vrrp, tracked_lasts, ..self }
    }
}

/// See the module.
pub(crate) struct Metrics {
    sources: Sources,
    descriptions: Vec<Desc>,
    /// Length of the last page: the next one is about as long.
    last_len: AtomicUsize,
}

impl Metrics {
    /// The metrics of a director.
    ///
    /// # Errors
    /// A family of the table that Prometheus does not accept, which a test rules out.
    pub(crate) fn new(sources: Sources) -> prometheus::Result<Self> {
        let descriptions =
            FAMILIES.iter().map(families::Family::describe).collect::<prometheus::Result<_>>()?;
        Ok(Self { sources, descriptions, last_len: AtomicUsize::new(0) })
    }

    /// Where the figures come from.
    pub(crate) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// All figures now.
    pub(crate) fn read(&self) -> Reading {
        Reading::take(&self.sources)
    }

    /// The page for Prometheus, in its text format 0.0.4.
    ///
    /// # Errors
    /// What the encoder says, which has no reason to.
    pub(crate) fn text(&self) -> prometheus::Result<Vec<u8>> {
        let last = self.last_len.load(Relaxed);
        let mut text = Vec::with_capacity(last + last / 16 + 4096);
        for family in self.families() {
            TextEncoder::new().encode(std::slice::from_ref(&family), &mut text)?;
        }
        self.last_len.store(text.len(), Relaxed);
        Ok(text)
    }

    /// The families that have samples, of one reading, each made when its turn comes.
    fn families(&self) -> impl Iterator<Item = MetricFamily> {
        let reading = self.read();
        FAMILIES
            .iter()
            .map(move |family| family.collect(&reading))
            .filter(|family| !family.get_metric().is_empty())
    }
}

impl Collector for Metrics {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.families().collect()
    }
}
