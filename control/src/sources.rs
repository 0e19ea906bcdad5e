//! Where figures come from: what metrics, pages and health of the process are read from.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use dpdk::port::{PortStats, PortStatsReader, RssState};
use weir_dataplane::conn::table::View;
use weir_dataplane::conn::template::Templates;
use weir_dataplane::director::Shared;
use weir_dataplane::snapshot::publish::Current;
use weir_health::checker::Handle;

use crate::announce::status::Announcements;
use crate::host::counters::HostCounters;
use crate::http::{Asking, Tally};
use crate::kept::Outcome;
use crate::lasting::Lasts;
use crate::longest::Longest;
use crate::reload_status::ReloadStatus;
use crate::standing::Stuck;
use crate::sync::Figures;
use crate::threads::Role;
use crate::vrrp::processes::Processes;
use crate::vrrp::status::Status;

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
    /// What the file calls its device.
    pub(crate) device_name: String,
    /// The VLAN of the device that it is, if it is not the device itself.
    pub(crate) vlan: Option<u16>,
    /// Its device.
    pub(crate) device: Box<dyn Device>,
    /// What passes its host interface, if it has one.
    pub(crate) host: Option<Arc<HostCounters>>,
    /// How its device spreads packets over queues, if it tells.
    pub(crate) rss: Option<RssState>,
}

impl PortSource {
    /// The port called `name`.
    pub(crate) fn new(name: String, device: impl Device + 'static) -> Self {
        let (device_name, vlan) = (String::new(), None);
        Self { name, device_name, vlan, device: Box::new(device), host: None, rss: None }
    }

    /// With what the file calls its device, and the VLAN of it that it is.
    pub(crate) fn with_place(self, device_name: String, vlan: Option<u16>) -> Self {
        Self { device_name, vlan, ..self }
    }

    /// With how its device spreads packets.
    pub(crate) fn with_rss(self, rss: Option<RssState>) -> Self {
        Self { rss, ..self }
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
    /// Persistence templates of all workers; `None` in tests that have none.
    pub(crate) templates: Option<Arc<Templates>>,
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
    /// Processes that VRRP tracks.
    pub(crate) processes: Processes,
    /// How the last reload went.
    pub(crate) reload: Arc<ReloadStatus>,
    /// How long the one that is under way lasts.
    pub(crate) reload_lasts: Lasts,
    /// How long what an edit needs of this host has been looked for.
    pub(crate) search_lasts: Lasts,
    /// How long the read of a tracked file that is under way lasts.
    pub(crate) tracked_lasts: Lasts,
    /// How long the write of a sequence file that is under way lasts.
    pub(crate) sequence_lasts: Lasts,
    /// What the TCP listener refuses, and its handshakes.
    pub(crate) http: Arc<Tally>,
    /// How long it has taken so far to write the files of `[control] proc_directory`.
    pub(crate) proc_lasts: Lasts,
    /// What became of the connections of the process before; `None`: nobody keeps connections.
    pub(crate) kept: Option<Outcome>,
    /// Routes that are announced; `None`: the file announces nothing.
    pub(crate) announce: Option<Arc<Announcements>>,
    /// What other directors told.
    pub(crate) sync: Arc<Figures>,
    /// When weir was started.
    pub(crate) started: SystemTime,
    /// Whose turn it is to ask workers what would become of a packet.
    pub(crate) asking: Asking,
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
            templates: None,
            ports,
            snapshot,
            health,
            capacity,
            cycles_per_second: dpdk::tsc_hz(),
            vrrp: Arc::new(ArcSwap::from_pointee(Status::default())),
            processes: Processes::default(),
            reload: Arc::new(ReloadStatus::loaded(started)),
            reload_lasts: Lasts::default(),
            search_lasts: Lasts::default(),
            tracked_lasts: Lasts::default(),
            sequence_lasts: Lasts::default(),
            http: Arc::default(),
            proc_lasts: Lasts::default(),
            kept: None,
            announce: None,
            sync: Arc::default(),
            started,
            asking: Asking::default(),
            dpdk_version: dpdk::version().trim_start_matches("DPDK ").to_owned(),
        }
    }
}

impl Sources {
    /// With what became of the connections of the process before.
    pub(crate) fn with_kept(self, kept: Option<Outcome>) -> Self {
        Self { kept, ..self }
    }

    /// With what is announced, by a thread of its own.
    pub(crate) fn with_announce(self, announce: Option<Arc<Announcements>>) -> Self {
        let stuck = if announce.is_some() { self.stuck.with(Role::Announce) } else { self.stuck };
        Self { announce, stuck, ..self }
    }

    /// With what other directors told.
    pub(crate) fn with_sync(self, sync: Arc<Figures>) -> Self {
        Self { sync, ..self }
    }

    /// With the table of persistence templates.
    pub(crate) fn with_templates(self, templates: Arc<Templates>) -> Self {
        Self { templates: Some(templates), ..self }
    }

    /// With the processes that VRRP tracks.
    pub(crate) fn with_processes(self, processes: Processes) -> Self {
        Self { processes, ..self }
    }

    /// With what VRRP's thread shows, and how long the files take that it tracks and that keep its numbers.
    pub(crate) fn with_vrrp(
        self,
        vrrp: Arc<ArcSwap<Status>>,
        tracked_lasts: Lasts,
        sequence_lasts: Lasts,
    ) -> Self {
        Self { vrrp, tracked_lasts, sequence_lasts, ..self }
    }
}
