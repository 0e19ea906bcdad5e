//! `/api/v1/virtual_servers`: virtual servers with their real servers, their counters and rates, as JSON.

use weir_api::virtual_servers::{Carried, Figures, Listing, RealServer, Served, VirtualServer};
use weir_config::model::Family;
use weir_dataplane::snapshot::rates::Rates;
use weir_dataplane::snapshot::traffic::Traffic;

use super::query::pairs;
use crate::metrics::Metrics;
use crate::metrics::reading::{RealServerReading, VirtualServerReading};

/// The answer to `query`: empty, or `name=NAME` for one virtual server.
///
/// # Errors
/// A sentence for the client.
pub(super) fn wanted(query: &str) -> Result<Option<String>, String> {
    let mut asked = pairs(query);
    match (asked.next(), asked.next()) {
        (None, _) => Ok(None),
        (Some((key, name)), None) if key == "name" && !name.is_empty() => Ok(Some(name.into_owned())),
        _ => Err("the query may hold name, the name of one virtual server".to_owned()),
    }
}

/// The page.
pub(super) fn render(metrics: &Metrics, name: Option<&str>) -> Result<Vec<u8>, String> {
    let reading = metrics.read();
    let wanted = reading.virtual_servers.iter().filter(|server| name.is_none_or(|name| name == server.name));
    let listing = Listing { virtual_servers: wanted.map(virtual_server).collect() };
    serde_json::to_vec(&listing).map_err(|problem| problem.to_string())
}

fn virtual_server(server: &VirtualServerReading) -> VirtualServer<'_> {
    let sum = |figure: fn(&RealServerReading) -> u32| {
        server.real_servers.iter().map(|real| u64::from(figure(real))).sum()
    };
    let traffic = match server.mark {
        Some(mark) => Served::Mark { mark, family: Family::of(server.address).name().into() },
        None => {
            let (address, port, protocol) = (server.address, server.port, server.protocol.name().into());
            Served::Address { address, port, protocol }
        }
    };
    VirtualServer {
        name: (&server.name).into(),
        traffic,
        active: sum(|real| real.active),
        inactive: sum(|real| real.inactive),
        carried: carried(&server.traffic, &server.rates),
        real_servers: server.real_servers.iter().map(real_server).collect(),
    }
}

fn real_server(server: &RealServerReading) -> RealServer<'_> {
    RealServer {
        real_server: (&server.socket).into(),
        forwarding: server.forwarding.name().into(),
        weight: server.weight,
        active: server.active,
        inactive: server.inactive,
        carried: carried(&server.traffic, &server.rates),
    }
}

fn carried(total: &Traffic, rates: &Rates) -> Carried {
    Carried {
        total: Figures {
            connections: total.connections,
            in_packets: total.in_packets,
            out_packets: total.out_packets,
            in_bytes: total.in_bytes,
            out_bytes: total.out_bytes,
        },
        per_second: Figures {
            connections: rates.connections,
            in_packets: rates.in_packets,
            out_packets: rates.out_packets,
            in_bytes: rates.in_bytes,
            out_bytes: rates.out_bytes,
        },
    }
}
