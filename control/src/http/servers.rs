//! `/api/v1/virtual_servers`: virtual servers with their real servers, their counters and rates, as JSON.

use std::net::IpAddr;

use serde::Serialize;
use weir_config::model::Family;
use weir_dataplane::snapshot::rates::Rates;
use weir_dataplane::snapshot::traffic::Traffic;

use crate::metrics::Metrics;
use crate::metrics::reading::{RealServerReading, VirtualServerReading};

#[derive(Serialize)]
struct Listing<'a> {
    virtual_servers: Vec<VirtualServer<'a>>,
}

#[derive(Serialize)]
struct VirtualServer<'a> {
    name: &'a str,
    #[serde(flatten)]
    traffic: Served,
    active: u64,
    inactive: u64,
    #[serde(flatten)]
    carried: Carried,
    real_servers: Vec<RealServer<'a>>,
}

/// What it serves: a mark, or an address, port and protocol.
#[derive(Serialize)]
#[serde(untagged)]
enum Served {
    Mark {
        mark: u32,
        family: &'static str,
    },
    /// `port` 0: every port.
    Address {
        address: IpAddr,
        port: u16,
        protocol: &'static str,
    },
}

#[derive(Serialize)]
struct RealServer<'a> {
    /// `address:port`, as in the metrics.
    real_server: &'a str,
    forwarding: &'static str,
    weight: u16,
    active: u32,
    inactive: u32,
    #[serde(flatten)]
    carried: Carried,
}

/// `ipvsadm -L --stats` and `--rate`.
#[derive(Serialize)]
struct Carried {
    total: Figures,
    per_second: Figures,
}

#[derive(Serialize)]
struct Figures {
    connections: u64,
    in_packets: u64,
    out_packets: u64,
    in_bytes: u64,
    out_bytes: u64,
}

/// The answer to `query`: empty, or `name=NAME` for one virtual server.
///
/// # Errors
/// A sentence for the client.
pub(super) fn wanted(query: &str) -> Result<Option<String>, String> {
    match query.split_once('=') {
        None if query.is_empty() => Ok(None),
        Some(("name", name)) if !name.contains('&') => Ok(Some(name.to_owned())),
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
        Some(mark) => Served::Mark { mark, family: Family::of(server.address).name() },
        None => {
            let (address, port, protocol) = (server.address, server.port, server.protocol.name());
            Served::Address { address, port, protocol }
        }
    };
    VirtualServer {
        name: &server.name,
        traffic,
        active: sum(|real| real.active),
        inactive: sum(|real| real.inactive),
        carried: Carried::new(&server.traffic, &server.rates),
        real_servers: server.real_servers.iter().map(real_server).collect(),
    }
}

fn real_server(server: &RealServerReading) -> RealServer<'_> {
    RealServer {
        real_server: &server.socket,
        forwarding: server.forwarding.name(),
        weight: server.weight,
        active: server.active,
        inactive: server.inactive,
        carried: Carried::new(&server.traffic, &server.rates),
    }
}

impl Carried {
    fn new(total: &Traffic, rates: &Rates) -> Self {
        Self {
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
}
