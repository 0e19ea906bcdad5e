//! `/api/v1/virtual_servers`: virtual servers with their real servers, their counters and rates, as JSON.

use weir_api::virtual_servers::{Carried, Figures, Listing, RealServer, Served, VirtualServer};
use weir_config::model::{Family, Forwarding};
use weir_dataplane::conn::template::Owner;
use weir_dataplane::snapshot::rates::Rates;
use weir_dataplane::snapshot::traffic::Traffic;
use weir_dataplane::wire::encap::Encap;

use super::query::pairs_once;
use crate::metrics::Metrics;
use crate::metrics::reading::{RealServerReading, VirtualServerReading};
use crate::sources::Sources;

/// What to list.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    name: Option<String>,
    count_templates: bool,
}

impl Query {
    /// From `name=NAME&templates=count`, both optional.
    ///
    /// # Errors
    /// A sentence for the client.
    pub(super) fn parse(query: &str) -> Result<Self, String> {
        let mut parsed = Self::default();
        for (key, value) in pairs_once(query, &[])? {
            match (&*key, &*value) {
                ("name", name) if !name.is_empty() => parsed.name = Some(name.to_owned()),
                ("templates", "count") => parsed.count_templates = true,
                _ => {
                    return Err(
                        "the query may hold name, the name of one virtual server, and templates=count"
                            .to_owned(),
                    );
                }
            }
        }
        Ok(parsed)
    }
}

/// All virtual servers, as listings have them.
pub(crate) fn with_virtual_servers<T>(metrics: &Metrics, work: impl FnOnce(&[VirtualServer<'_>]) -> T) -> T {
    let reading = metrics.read();
    let all: Vec<_> = reading.virtual_servers.iter().map(|it| virtual_server(it, None)).collect();
    work(&all)
}

/// The page.
pub(super) fn render(metrics: &Metrics, query: &Query) -> Result<Vec<u8>, String> {
    let reading = metrics.read();
    let name = query.name.as_deref();
    let wanted = reading.virtual_servers.iter().filter(|server| name.is_none_or(|name| name == server.name));
    let tied = query.count_templates.then(|| clients_tied(metrics.sources()));
    let listing = Listing { virtual_servers: wanted.map(|it| virtual_server(it, tied.as_deref())).collect() };
    serde_json::to_vec(&listing).map_err(|problem| problem.to_string())
}

/// Persistence templates by number of the real server.
fn clients_tied(sources: &Sources) -> Vec<u32> {
    let snapshot = sources.snapshot.load_full();
    let Some(templates) = &sources.templates else { return Vec::new() };
    let now = sources.workers.iter().map(|worker| worker.counters.seconds.get() as u32).max();
    let lifetime = |owner: Owner| {
        let service = snapshot.service(owner.service)?;
        let is_of_now = service.epoch.number == owner.epoch;
        service.persistence.filter(|_| is_of_now).map(|persistence| persistence.timeout_secs)
    };
    let servers = snapshot.servers().map(|server| server.id.index() + 1).max();
    templates.count(servers.unwrap_or_default(), now.unwrap_or_default(), lifetime)
}

fn virtual_server<'a>(server: &'a VirtualServerReading, tied: Option<&[u32]>) -> VirtualServer<'a> {
    let sum = |figure: fn(&RealServerReading) -> u32| {
        server.real_servers.iter().map(|real| u64::from(figure(real))).sum()
    };
    let longest = if Family::of(server.address) == Family::V4 { 32 } else { 128 };
    VirtualServer {
        name: (&server.name).into(),
        traffic: served(server),
        scheduler: server.scheduler.into(),
        scheduler_flags: server.scheduler_flags.names(server.scheduler),
        persistence_timeout: server.persistence.map_or(0, |persistence| persistence.timeout_secs),
        persistence_netmask: server.persistence.map_or(longest, |persistence| persistence.netmask),
        persistence_engine: server.persistence.and_then(|it| it.engine).map(|engine| engine.name().into()),
        one_packet: server.one_packet,
        active: sum(|real| real.active),
        inactive: sum(|real| real.inactive),
        carried: carried(&server.since_zero, &server.rates),
        real_servers: server.real_servers.iter().map(|real| real_server(real, tied)).collect(),
    }
}

/// What a virtual server serves.
pub(super) fn served(server: &VirtualServerReading) -> Served<'_> {
    match server.mark {
        Some(mark) => Served::Mark { mark, family: Family::of(server.address).name().into() },
        None => {
            let (address, port, protocol) = (server.address, server.port, server.protocol.name().into());
            Served::Address { address, port, protocol }
        }
    }
}

fn real_server<'a>(server: &'a RealServerReading, tied: Option<&[u32]>) -> RealServer<'a> {
    let tunnel = (server.forwarding == Forwarding::Tun).then_some(match server.encap {
        Encap::Ipip => ("ipip", None, None),
        Encap::Gue { port, checksum } => ("gue", Some(port), Some(checksum)),
        Encap::Gre { checksum } => ("gre", None, Some(checksum)),
    });
    RealServer {
        real_server: (&server.socket).into(),
        address: server.address,
        port: server.port,
        forwarding: server.forwarding.name().into(),
        tunnel: tunnel.map(|(kind, _, _)| kind.into()),
        tunnel_port: tunnel.and_then(|(_, port, _)| port),
        tunnel_checksum: tunnel.and_then(|(_, _, checksum)| Some(checksum?.name().into())),
        weight: server.weight,
        active: server.active,
        inactive: server.inactive,
        upper_threshold: server.upper_threshold,
        lower_threshold: server.lower_threshold,
        persistent: tied.map(|tied| tied.get(server.id.index()).copied().unwrap_or_default()),
        carried: carried(&server.since_zero, &server.rates),
    }
}

/// What it has carried, and what it does in a second.
pub(super) fn carried(total: &Traffic, rates: &Rates) -> Carried {
    Carried {
        total: Figures {
            connections: total.connections,
            in_packets: total.in_packets,
            out_packets: total.out_packets,
            in_bytes: total.in_bytes,
            out_bytes: total.out_bytes,
        },
        per_second: per_second(rates),
    }
}

/// The same of a second alone.
pub(super) fn per_second(rates: &Rates) -> Figures {
    Figures {
        connections: rates.connections,
        in_packets: rates.in_packets,
        out_packets: rates.out_packets,
        in_bytes: rates.in_bytes,
        out_bytes: rates.out_bytes,
    }
}
