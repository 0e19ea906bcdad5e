//! All figures at one moment, as plain numbers: what the metrics and the status page are made of.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::SystemTime;

use dpdk::port::PortStats;
use weir_config::model::{Forwarding, Persistence, Protocol, SchedulerFlags};
use weir_dataplane::conn::record::ServerId;
use weir_dataplane::director::Shared;
use weir_dataplane::punt::Owner;
use weir_dataplane::snapshot::Snapshot;
use weir_dataplane::snapshot::rates::Rates;
use weir_dataplane::snapshot::server::{Openings, Server};
use weir_dataplane::snapshot::traffic::Traffic;
use weir_dataplane::stats::passes::BOUNDS_MICROS;
use weir_dataplane::stats::{Answer, Counter, DropReason, Helped, PuntClass, WorkerCounters};
use weir_dataplane::wire::encap::Encap;
use weir_health::checker::Handle;
use weir_health::figures::Histogram;
use weir_health::judge::ServiceListing;
use weir_health::scripts::ScriptListings;

use crate::announce::status::{Announcements, Tally};
use crate::host::counters::{HostCounters, HostDrop};
use crate::http::{Handshake, Refusal};
use crate::kept::Outcome;
use crate::log;
use crate::longest::Longest;
use crate::metrics::format::Without;
use crate::metrics::process::ProcessReading;
use crate::reload_status::RefusedBy;
use crate::sources::{PortSource, Sources};
use crate::standing::Stuck;
use crate::sync::{Kind, Reason};
use crate::threads::Role;
use crate::vrrp::processes::Counts;
use crate::vrrp::status::Status;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    /// weir's version.
    pub(crate) version: &'static str,
    /// DPDK's version.
    pub(crate) dpdk_version: String,
    /// When weir was started.
    pub(crate) started: SystemTime,
    /// What it takes of the machine.
    pub(crate) process: ProcessReading,
    /// Frequency of the counter behind the workers' cycles.
    pub(crate) cycles_per_second: u64,
    /// Whether the last attempt to load the configuration succeeded.
    pub(crate) reload_successful: bool,
    /// When it was made, in seconds since the epoch.
    pub(crate) reload_at: f64,
    /// For how long one has been under way, in seconds; 0: none is.
    pub(crate) reload_lasts: f64,
    /// For how long what an edit needs has been looked for.
    pub(crate) search_lasts: f64,
    /// The same of the read of a tracked file.
    pub(crate) tracked_lasts: f64,
    /// The same of the write of a sequence file.
    pub(crate) sequence_lasts: f64,
    /// How long it has taken so far to write the files of `[control] proc_directory`; 0: they are not being written.
    pub(crate) proc_lasts: f64,
    /// Everybody who may refuse a file, with how many were refused.
    pub(crate) reloads_refused: Vec<(RefusedBy, u64)>,
    /// Requests whose edits were made and that were refused, and what was edited since the file was read.
    pub(crate) edits: ([u64; 2], u64),
    /// Every reason, with how many requests the HTTP listener refused for it.
    pub(crate) http_refused: Vec<(Refusal, u64)>,
    /// Every end, with how many handshakes of TLS came to it.
    pub(crate) http_handshakes: Vec<(Handshake, u64)>,
    /// When the HTTP listener's certificate expires, in seconds since 1970, and whether others can read or write its key.
    pub(crate) http_certificate: (Option<u64>, bool),
    /// What became of the connections of the process before.
    pub(crate) kept: Option<Outcome>,
    /// Announced routes.
    pub(crate) announce: AnnounceReading,
    /// Number of the configuration in force: 1 at the start, one more with each change.
    pub(crate) generation: u64,
    /// What is missing in the log.
    pub(crate) log: log::Missing,
    /// System calls that threads of weir's have no use for, and made.
    pub(crate) refused_calls: u64,
    /// In the order of the file.
    pub(crate) ports: Vec<PortReading>,
    /// By number.
    pub(crate) workers: Vec<WorkerReading>,
    /// Those of control's threads that others depend on.
    pub(crate) threads: Vec<ThreadReading>,
    /// Every reason, with how many frames were dropped for it.
    pub(crate) drops: Vec<(DropReason, u64)>,
    /// Every kind, with how many frames were answered with it.
    pub(crate) answers: Vec<(Answer, u64)>,
    /// What was found on control connections of FTP.
    pub(crate) helped: Vec<(Helped, u64)>,
    /// Every class of frames for control: handed over, and lost.
    pub(crate) punts: Vec<(PuntClass, u64, u64)>,
    /// Frames sent for threads of control.
    pub(crate) injected: Vec<(Owner, u64)>,
    /// Packets sent towards a real server or client.
    pub(crate) forwarded: u64,
    /// Frames taken in without an answer.
    pub(crate) absorbed: u64,
    /// Packets forwarded without a record.
    pub(crate) untracked: u64,
    pub(crate) clamped: u64,
    /// Packets of IPv6 clients for whom there was no room.
    pub(crate) ipv6_clients_full: u64,
    /// Connections that got no template for lack of room.
    pub(crate) templates_full: u64,
    /// Frames copied for a capture.
    pub(crate) captured: u64,
    /// Frames that a capture wanted and lost.
    pub(crate) capture_lost: u64,
    /// Whether what other directors tell is heard.
    pub(crate) sync_listening: bool,
    /// Datagrams of theirs.
    pub(crate) sync_datagrams: u64,
    /// What was taken of each kind.
    pub(crate) sync_taken: Vec<(Kind, u64)>,
    /// What was refused for each reason.
    pub(crate) sync_refused: Vec<(Reason, u64)>,
    /// Connections that were told and wait for a packet.
    pub(crate) foretold: u64,
    /// Those that a packet came of.
    pub(crate) foretold_taken: u64,
    /// Messages to a worker that found no room.
    pub(crate) messages_lost: u64,
    /// Packets that wait for a neighbour's answer.
    pub(crate) waiting: u64,
    /// Pieces that wait for the first one of their packet.
    pub(crate) pieces_waiting: u64,
    /// Packets in pieces that were forgotten too early.
    pub(crate) pieces_full: u64,
    /// Packets in pieces that did not become whole.
    pub(crate) pieces_incomplete: u64,
    /// ARP requests sent.
    pub(crate) arp_requests: u64,
    /// Neighbour solicitations sent.
    pub(crate) nd_solicitations: u64,
    /// Reports of multicast listener discovery sent.
    pub(crate) mld_reports: u64,
    /// Queries of it heard.
    pub(crate) mld_queries: u64,
    /// Of those, the ones without an answer.
    pub(crate) mld_unanswered: u64,
    /// ARP packets in which another host claimed an address that it can't have.
    pub(crate) arp_conflicts: u64,
    /// Masters of VRRP that workers fenced.
    pub(crate) vrrp_fenced: u64,
    /// VRRP.
    pub(crate) vrrp: Arc<Status>,
    /// Scripts that it tracks.
    pub(crate) scripts: ScriptListings,
    /// Processes that it tracks.
    pub(crate) processes: Counts,
    /// In the order of their numbers, which is that of the file at first.
    pub(crate) virtual_servers: Vec<VirtualServerReading>,
    /// What is known of health.
    pub(crate) health: HealthReading,
}

/// What is known of real servers' health, and of the checker.
#[derive(Debug, Clone)]
pub(crate) struct HealthReading {
    /// When checks began, which moments of the listing count from.
    pub(crate) began: SystemTime,
    /// In the order of the file.
    pub(crate) services: Vec<ServiceListing>,
    /// Things that are checked.
    pub(crate) targets: u64,
    /// Checks under way.
    pub(crate) under_way: u64,
    /// How late checks began.
    pub(crate) lateness: Times,
    /// How long they took.
    pub(crate) duration: Times,
    /// Times that checks had to wait because too many were under way.
    pub(crate) crowded: u64,
    /// Checks that could not be made for a reason of the director's own.
    pub(crate) errors: u64,
    /// Hooks that succeeded, failed, and were not run.
    pub(crate) hooks: [(&'static str, u64); 3],
    pub(crate) vrrp_hooks: [(&'static str, u64); 3],
    /// Lines for VRRP's FIFO.
    pub(crate) fifo_lines: [(&'static str, u64); 2],
}

/// A histogram.
#[derive(Debug, Clone)]
pub(crate) struct Times {
    /// Limits in seconds, each with how many were within it.
    pub(crate) within: Vec<(f64, u64)>,
    /// How many there were.
    pub(crate) count: u64,
    /// Sum of all, in seconds.
    pub(crate) sum: f64,
}

impl HealthReading {
    fn take(handle: &Handle, without: Without) -> Self {
        let figures = handle.figures();
        let times = |histogram: &Histogram| Times {
            within: histogram.cumulative(),
            count: histogram.count(),
            sum: histogram.sum_seconds(),
        };
        Self {
            began: handle.began(),
            services: if without == Without::VirtualServers { Vec::new() } else { handle.listing() },
            targets: handle.target_count() as u64,
            under_way: figures.under_way.get(),
            lateness: times(&figures.lateness),
            duration: times(&figures.duration),
            crowded: figures.crowded.get(),
            errors: figures.errors.get(),
            hooks: [
                ("success", figures.hooks.succeeded.get()),
                ("failure", figures.hooks.failed.get()),
                ("dropped", figures.hooks.dropped.get()),
            ],
            vrrp_hooks: [
                ("success", figures.vrrp_hooks.succeeded.get()),
                ("failure", figures.vrrp_hooks.failed.get()),
                ("dropped", figures.vrrp_hooks.dropped.get() + handle.notices_lost()),
            ],
            fifo_lines: [
                ("written", figures.fifo_written.get()),
                ("lost", figures.fifo_lost.get() + handle.notices_lost()),
            ],
        }
    }
}

/// A port.
#[derive(Debug, Clone)]
pub(crate) struct PortReading {
    /// Its name in the file.
    pub(crate) name: String,
    /// What the file calls its device.
    pub(crate) device_name: String,
    /// The VLAN of the device that it is, if it is not the device itself.
    pub(crate) vlan: Option<u16>,
    /// Whether its link is up; `None` if that is not known.
    pub(crate) link_up: Option<bool>,
    /// Frames that workers received.
    pub(crate) receive_packets: u64,
    /// Bytes of those.
    pub(crate) receive_bytes: u64,
    /// Frames that the device took.
    pub(crate) transmit_packets: u64,
    /// Bytes of those.
    pub(crate) transmit_bytes: u64,
    /// The device's own counters; `None` if it keeps none.
    pub(crate) device: Option<PortStats>,
    /// Of its host interface, if it has one.
    pub(crate) host: Option<HostReading>,
}

/// A host interface.
#[derive(Debug, Clone)]
pub(crate) struct HostReading {
    /// Frames that the kernel received.
    pub(crate) receive_packets: u64,
    /// Their bytes, FCS aside.
    pub(crate) receive_bytes: u64,
    /// Frames that the kernel sent.
    pub(crate) transmit_packets: u64,
    /// Their bytes, FCS aside.
    pub(crate) transmit_bytes: u64,
    /// Every reason, with how many frames were lost for it.
    pub(crate) drops: Vec<(HostDrop, u64)>,
}

/// A worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WorkerReading {
    /// Cycles of polls that received something.
    pub(crate) busy_cycles: u64,
    /// Cycles of polls that did not.
    pub(crate) idle_cycles: u64,
    /// Cycles of those in which its CPU slept.
    pub(crate) sleep_cycles: u64,
    /// Records in its connection table.
    pub(crate) connections: u64,
    /// Records that it has room for.
    pub(crate) capacity: u64,
    /// IPv6 clients of those records, and as many as there is room for.
    pub(crate) ipv6_clients: [u64; 2],
    /// Number of the configuration that it uses.
    pub(crate) generation: u64,
    /// Passes over its queues.
    pub(crate) passes: u64,
    /// How many of those took no longer than each of [`BOUNDS_MICROS`].
    pub(crate) passes_within: [u64; BOUNDS_MICROS.len()],
    /// The longest pass of the last minute, in cycles.
    pub(crate) longest_cycles: u64,
    /// Whether it stands still.
    pub(crate) is_stuck: bool,
    /// Times that it stood for lack of its core.
    pub(crate) late: u64,
}

/// A thread of control's.
#[derive(Debug, Clone)]
pub(crate) struct ThreadReading {
    /// Its name.
    pub(crate) name: String,
    /// Whether it stands still.
    pub(crate) is_stuck: bool,
    /// Times that it stood for lack of a core.
    pub(crate) late: u64,
}

/// Announced routes; all 0 where nothing is announced.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AnnounceReading {
    /// By state.
    pub(crate) routes: Tally,
    /// Added, removed, added again.
    pub(crate) changes: [u64; 3],
    /// What the kernel refused.
    pub(crate) failures: u64,
}

impl AnnounceReading {
    fn take(from: &Announcements) -> Self {
        let changes = [&from.announced, &from.withdrawn, &from.restored].map(Counter::get);
        Self { routes: from.tally(), changes, failures: from.failures.get() }
    }
}

/// A virtual server.
#[derive(Debug, Clone)]
pub(crate) struct VirtualServerReading {
    /// Its name in the file.
    pub(crate) name: String,
    /// The mark that it serves, instead of an address, port and protocol.
    pub(crate) mark: Option<u32>,
    /// The VIP.
    pub(crate) address: IpAddr,
    /// 0: every port.
    pub(crate) port: u16,
    /// Transport protocol.
    pub(crate) protocol: Protocol,
    /// How a real server is picked.
    pub(crate) scheduler: &'static str,
    /// Flags of the scheduler.
    pub(crate) scheduler_flags: SchedulerFlags,
    /// Whether connections of one client stay together.
    pub(crate) persistence: Option<Persistence>,
    /// Whether each datagram is scheduled by itself.
    pub(crate) one_packet: bool,
    /// With that of real servers that were removed.
    pub(crate) traffic: Traffic,
    /// What of it came since counters of listings were set to 0.
    pub(crate) since_zero: Traffic,
    /// What it carries in a second.
    pub(crate) rates: Rates,
    /// In the order of their numbers, which is that of the file at first.
    pub(crate) real_servers: Vec<RealServerReading>,
}

/// A real server of one virtual server.
#[derive(Debug, Clone)]
pub(crate) struct RealServerReading {
    /// `address:port`, an IPv6 address in brackets.
    pub(crate) socket: String,
    /// Its number.
    pub(crate) id: ServerId,
    /// Its address.
    pub(crate) address: IpAddr,
    /// The port that it is listed with.
    pub(crate) port: u16,
    /// How packets reach it.
    pub(crate) forwarding: Forwarding,
    /// How a tunnel wraps its packets.
    pub(crate) encap: Encap,
    /// No new connections from this many on; 0: no limit.
    pub(crate) upper_threshold: u32,
    /// New connections again below this many; 0: three quarters of the upper one.
    pub(crate) lower_threshold: u32,
    /// 0: quiesced.
    pub(crate) weight: u16,
    /// Connections in an active state.
    pub(crate) active: u32,
    /// Connections in any other state.
    pub(crate) inactive: u32,
    /// What it has carried.
    pub(crate) traffic: Traffic,
    /// What of it came since counters of listings were set to 0.
    pub(crate) since_zero: Traffic,
    /// What it carries in a second.
    pub(crate) rates: Rates,
    /// What became of clients' TCP connections; of NAT only.
    pub(crate) openings: Option<Openings>,
}

impl Reading {
    /// All figures now, without those that nobody asks for: with thousands of servers they are nearly all of the work.
    pub(crate) fn take(sources: &Sources, without: Without) -> Self {
        let snapshot = sources.snapshot.load_full();
        let workers = &sources.workers;
        Self {
            version: env!("CARGO_PKG_VERSION"),
            process: ProcessReading::take(),
            dpdk_version: sources.dpdk_version.clone(),
            started: sources.started,
            cycles_per_second: sources.cycles_per_second,
            reload_successful: sources.reload.is_successful(),
            reload_at: sources.reload.at(),
            reload_lasts: sources.reload_lasts.seconds(),
            search_lasts: sources.search_lasts.seconds(),
            edits: sources.reload.edits(),
            http_refused: Refusal::ALL.iter().map(|&why| (why, sources.http.refusals(why))).collect(),
            http_handshakes: Handshake::ALL.iter().map(|&how| (how, sources.http.handshakes(how))).collect(),
            http_certificate: (sources.http.certificate_ends(), sources.http.has_exposed_key()),
            tracked_lasts: sources.tracked_lasts.seconds(),
            sequence_lasts: sources.sequence_lasts.seconds(),
            proc_lasts: sources.proc_lasts.seconds(),
            reloads_refused: RefusedBy::ALL.iter().map(|&by| (by, sources.reload.refused(by))).collect(),
            kept: sources.kept.clone(),
            announce: sources.announce.as_deref().map(AnnounceReading::take).unwrap_or_default(),
            generation: snapshot.generation,
            log: log::missing(),
            refused_calls: dpdk::refused::refused().count,
            ports: ports(sources),
            workers: self::workers(sources),
            threads: threads(&sources.stuck),
            drops: DropReason::ALL
                .iter()
                .map(|&it| (it, sum(workers, |counters| counters.drops(it))))
                .collect(),
            answers: Answer::ALL
                .iter()
                .map(|&it| (it, sum(workers, |counters| counters.answers(it))))
                .collect(),
            helped: Helped::ALL
                .iter()
                .map(|&it| (it, sum(workers, |counters| counters.found_by_helpers(it))))
                .collect(),
            punts: PuntClass::ALL
                .iter()
                .map(|&it| (it, sum(workers, |c| c.punted(it)), sum(workers, |c| c.punt_drops(it))))
                .collect(),
            injected: Owner::ALL
                .iter()
                .map(|&it| (it, sum(workers, |counters| counters.injected(it))))
                .collect(),
            forwarded: sum(workers, |counters| counters.forwarded.get()),
            absorbed: sum(workers, |counters| counters.absorbed.get()),
            untracked: sum(workers, |counters| counters.untracked.get()),
            clamped: sum(workers, |counters| counters.clamped.get()),
            ipv6_clients_full: sum(workers, |counters| counters.ipv6_clients_full.get()),
            templates_full: sum(workers, |counters| counters.templates_full.get()),
            captured: sum(workers, |counters| counters.captured.get()),
            capture_lost: sum(workers, |counters| counters.capture_lost.get()),
            sync_listening: sources.sync.is_listening(),
            sync_datagrams: sources.sync.datagrams(),
            sync_taken: sources.sync.taken(),
            sync_refused: sources.sync.refused(),
            foretold: workers.first().map_or(0, |worker| worker.foretold.total() as u64),
            foretold_taken: sum(workers, |counters| counters.foretold_taken.get()),
            messages_lost: sum(workers, |counters| counters.messages_lost.get()),
            waiting: sum(workers, |counters| counters.waiting.get()),
            pieces_waiting: sum(workers, |counters| counters.pieces_waiting.get()),
            pieces_full: sum(workers, |counters| counters.pieces_full.get()),
            pieces_incomplete: sum(workers, |counters| counters.pieces_incomplete.get()),
            arp_requests: sum(workers, |counters| counters.arp_requests.get()),
            nd_solicitations: sum(workers, |counters| counters.nd_solicitations.get()),
            mld_reports: sum(workers, |counters| counters.mld_reports.get()),
            mld_queries: sum(workers, |counters| counters.mld_queries.get()),
            mld_unanswered: sum(workers, |counters| counters.mld_unanswered.get()),
            arp_conflicts: sum(workers, |counters| counters.arp_conflicts.get()),
            vrrp_fenced: sum(workers, |counters| counters.vrrp_fenced.get()),
            vrrp: sources.vrrp.load_full(),
            scripts: sources.health.scripts().borrow().clone(),
            processes: sources.processes.counts(),
            virtual_servers: virtual_servers(&snapshot, without),
            health: HealthReading::take(&sources.health, without),
        }
    }
}

impl PortReading {
    fn take(number: usize, port: &PortSource, workers: &[Shared]) -> Self {
        let count = |counter: fn(&weir_dataplane::stats::PortCounters) -> &Counter| {
            sum(workers, |counters| counters.ports.get(number).map_or(0, |port| counter(port).get()))
        };
        Self {
            name: port.name.clone(),
            device_name: port.device_name.clone(),
            vlan: port.vlan,
            link_up: port.device.link_up(),
            receive_packets: count(|port| &port.receive_packets),
            receive_bytes: count(|port| &port.receive_bytes),
            transmit_packets: count(|port| &port.transmit_packets),
            transmit_bytes: count(|port| &port.transmit_bytes),
            device: port.device.stats(),
            host: port.host.as_deref().map(HostReading::take),
        }
    }
}

impl HostReading {
    fn take(counters: &HostCounters) -> Self {
        Self {
            receive_packets: counters.receive_packets.get(),
            receive_bytes: counters.receive_bytes.get(),
            transmit_packets: counters.transmit_packets.get(),
            transmit_bytes: counters.transmit_bytes.get(),
            drops: HostDrop::ALL.iter().map(|&it| (it, counters.drops(it))).collect(),
        }
    }
}

impl WorkerReading {
    fn take(worker: &Shared, longest: &Longest, capacity: u64) -> Self {
        let counters = &worker.counters;
        let passes = counters.pass_times.passes();
        Self {
            busy_cycles: counters.busy_cycles.get(),
            idle_cycles: counters.idle_cycles.get(),
            sleep_cycles: counters.sleep_cycles.get(),
            connections: counters.connections.get(),
            capacity,
            ipv6_clients: [counters.ipv6_clients.get(), counters.ipv6_clients_capacity.get()],
            generation: counters.generation.get(),
            passes,
            passes_within: counters.pass_times.within(passes),
            longest_cycles: longest.cycles(),
            is_stuck: false,
            late: 0,
        }
    }

    /// Cycles that it has polled for.
    pub(crate) fn cycles(&self) -> u64 {
        self.busy_cycles.wrapping_add(self.idle_cycles)
    }
}

impl RealServerReading {
    fn take(server: &Server, traffic: Traffic) -> Self {
        Self {
            socket: SocketAddr::new(server.ip(), server.named_port).to_string(),
            id: server.id,
            address: server.ip(),
            port: server.named_port,
            forwarding: server.forwarding,
            encap: server.encap,
            upper_threshold: server.upper_threshold,
            lower_threshold: server.lower_threshold,
            weight: server.weight,
            active: server.live.active(),
            inactive: server.live.inactive(),
            traffic,
            since_zero: server.live.rates.since_zero(traffic),
            rates: server.live.rates.rates(),
            openings: (server.forwarding == Forwarding::Nat).then(|| server.live.openings()),
        }
    }
}

/// All ports now.
pub(crate) fn ports(sources: &Sources) -> Vec<PortReading> {
    let ports = sources.ports.iter().enumerate();
    ports.map(|(number, port)| PortReading::take(number, port, &sources.workers)).collect()
}

/// All workers now.
pub(crate) fn workers(sources: &Sources) -> Vec<WorkerReading> {
    let workers = sources.workers.iter().zip(sources.longest.iter()).enumerate();
    let take = |(number, (worker, longest))| WorkerReading {
        is_stuck: sources.stuck.is(Role::Worker(number)),
        late: sources.stuck.late(Role::Worker(number)),
        ..WorkerReading::take(worker, longest, sources.capacity)
    };
    workers.map(take).collect()
}

fn threads(stuck: &Stuck) -> Vec<ThreadReading> {
    let take = |role: Role| ThreadReading {
        name: role.to_string(),
        is_stuck: stuck.is(role),
        late: stuck.late(role),
    };
    stuck.threads().map(take).collect()
}

fn sum(workers: &[Shared], counter: impl Fn(&WorkerCounters) -> u64) -> u64 {
    workers.iter().map(|worker| counter(&worker.counters)).fold(0, u64::wrapping_add)
}

/// One pass over all real servers. Removed ones count for their virtual server and are not listed.
fn virtual_servers(snapshot: &Snapshot, without: Without) -> Vec<VirtualServerReading> {
    if without == Without::VirtualServers {
        return Vec::new();
    }
    let reading = |service: &weir_dataplane::snapshot::service::Service| VirtualServerReading {
        name: service.name.clone(),
        mark: service.mark.map(NonZeroU32::get),
        address: service.address,
        port: service.port,
        protocol: service.protocol,
        scheduler: service.method.name(),
        scheduler_flags: service.scheduler_flags,
        persistence: service.persistence,
        one_packet: service.one_packet,
        traffic: snapshot.retired(service.id),
        since_zero: Traffic::default(),
        rates: service.rates.rates(),
        real_servers: Vec::with_capacity(service.list.len()),
    };
    let mut readings: BTreeMap<_, _> =
        snapshot.services().map(|service| (service.id, reading(service))).collect();
    for server in snapshot.servers() {
        if let Some(virtual_server) = readings.get_mut(&server.service) {
            let traffic = server.live.traffic();
            virtual_server.traffic += traffic;
            if server.is_present && without != Without::RealServers {
                virtual_server.real_servers.push(RealServerReading::take(server, traffic));
            }
        }
    }
    for service in snapshot.services() {
        if let Some(reading) = readings.get_mut(&service.id) {
            reading.since_zero = service.rates.since_zero(reading.traffic);
        }
    }
    readings.into_values().collect()
}
