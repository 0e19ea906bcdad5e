//! `/api/v1/status`, `/api/v1/ports`, `/api/v1/counters`: the director as a whole, as JSON.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

use weir_api::director::{Counters, Device, Kept, Port, Ports, Status};

use crate::kept::Outcome;
use crate::metrics::Metrics;
use crate::metrics::format::Without;
use crate::metrics::reading::{self, PortReading};
use crate::sources::Sources;

/// `/api/v1/status`; `not_ready` is what readiness misses.
pub(super) fn status(metrics: &Metrics, not_ready: Vec<String>) -> Result<Vec<u8>, String> {
    let it = metrics.read();
    let real_servers = || it.virtual_servers.iter().flat_map(|server| &server.real_servers);
    let down = it.health.services.iter().flat_map(|service| &service.servers).filter(|server| !server.is_up);
    let instances = &it.vrrp.instances;
    let seconds = |moment: SystemTime| moment.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let status = Status {
        version: it.version.into(),
        dpdk_version: (&it.dpdk_version).into(),
        started: seconds(it.started),
        uptime_seconds: it.started.elapsed().unwrap_or_default().as_secs_f64(),
        not_ready,
        generation: it.generation,
        reload_successful: it.reload_successful,
        reload_at: it.reload_at,
        workers: it.workers.len(),
        connections: it.workers.iter().map(|worker| worker.connections).sum(),
        capacity: it.workers.iter().map(|worker| worker.capacity).sum(),
        virtual_servers: it.virtual_servers.len(),
        real_servers: real_servers().count(),
        real_servers_serving: real_servers().filter(|server| server.weight > 0).count(),
        real_servers_down: down.count(),
        vrrp_instances: instances.len(),
        vrrp_masters: instances.iter().filter(|instance| instance.state == "master").count(),
        kept: it.kept.as_ref().map(kept),
        http_certificate_ends: it.http_certificate.0.map(|ends| ends as f64),
        http_key_exposed: it.http_certificate.1,
    };
    serde_json::to_vec(&status).map_err(|problem| problem.to_string())
}

fn kept(outcome: &Outcome) -> Kept<'_> {
    let [found, adopted] = outcome.figures();
    let [host_interfaces, host_interfaces_adopted] = outcome.taps.figures();
    Kept {
        by: outcome.by.into(),
        is_away: !outcome.is_kept.load(Relaxed),
        found,
        adopted,
        goes_on: !outcome.is_whole(),
        how: outcome.how.map(Into::into),
        seconds: outcome.seconds,
        host_interfaces,
        host_interfaces_adopted,
        refused: outcome.refused.as_deref().map(Into::into),
    }
}

/// `/api/v1/ports`
pub(super) fn ports(sources: &Sources) -> Result<Vec<u8>, String> {
    let readings = reading::ports(sources);
    let ports = Ports { ports: readings.iter().map(port).collect() };
    serde_json::to_vec(&ports).map_err(|problem| problem.to_string())
}

fn port(port: &PortReading) -> Port<'_> {
    Port {
        port: (&port.name).into(),
        device_name: (&port.device_name).into(),
        vlan: port.vlan,
        link_up: port.link_up,
        receive_packets: port.receive_packets,
        receive_bytes: port.receive_bytes,
        transmit_packets: port.transmit_packets,
        transmit_bytes: port.transmit_bytes,
        device: port.device.map(|stats| Device {
            missed: stats.imissed,
            receive_errors: stats.ierrors,
            transmit_errors: stats.oerrors,
            no_buffer: stats.rx_nombuf,
        }),
    }
}

/// `/api/v1/counters`
pub(super) fn counters(metrics: &Metrics) -> Result<Vec<u8>, String> {
    let it = metrics.read_without(Without::VirtualServers);
    let dropped: BTreeMap<_, _> =
        it.drops.iter().map(|(reason, count)| (reason.label().to_owned(), *count)).collect();
    let counters = Counters {
        forwarded: it.forwarded,
        absorbed: it.absorbed,
        untracked: it.untracked,
        ipv6_clients_full: it.ipv6_clients_full,
        templates_full: it.templates_full,
        waiting: it.waiting,
        arp_requests: it.arp_requests,
        nd_solicitations: it.nd_solicitations,
        arp_conflicts: it.arp_conflicts,
        dropped,
        answered: it.answers.iter().map(|(kind, count)| (kind.label().to_owned(), *count)).collect(),
    };
    serde_json::to_vec(&counters).map_err(|problem| problem.to_string())
}
