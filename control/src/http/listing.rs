//! `/api/v1/connections`: what the connection tables hold, as JSON.
//!
//! Read from the workers' tables while they go on, so a record that comes or goes meanwhile may be missed.

use std::net::Ipv4Addr;

use weir_api::connections::{Connection, Listing};
use weir_dataplane::conn::record::Record;
use weir_dataplane::conn::state::name;
use weir_dataplane::snapshot::Snapshot;

use super::query::pairs;
use crate::sources::Sources;

/// Connections that are listed unless the query says how many.
const LIMIT_DEFAULT: usize = 1_000;
/// Connections that are listed at most: some 20 MB.
const LIMIT_MAX: usize = 100_000;

/// What to list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Query {
    virtual_server: Option<String>,
    client: Option<Ipv4Addr>,
    limit: usize,
}

impl Query {
    /// From `virtual_server=NAME&client=ADDRESS&limit=N`, all optional.
    ///
    /// # Errors
    /// A sentence for the client.
    pub(super) fn parse(query: &str) -> Result<Self, String> {
        let mut parsed = Self { virtual_server: None, client: None, limit: LIMIT_DEFAULT };
        for (key, value) in pairs(query) {
            match &*key {
                "virtual_server" if !value.is_empty() => parsed.virtual_server = Some(value.into_owned()),
                "client" => {
                    parsed.client = Some(value.parse().map_err(|_| "client is no IPv4 address")?);
                }
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                    parsed.limit = limit.ok_or_else(|| format!("limit is not 1 to {LIMIT_MAX}"))?;
                }
                _ => return Err("the query may hold virtual_server, client and limit".to_owned()),
            }
        }
        Ok(parsed)
    }
}

/// The answer to `query`.
pub(super) fn render(sources: &Sources, query: &Query) -> Result<Vec<u8>, String> {
    let snapshot = sources.snapshot.load_full();
    let mut connections = Vec::new();
    for (worker, view) in sources.tables.iter().enumerate() {
        let now = sources.workers[worker].counters.seconds.get() as u32;
        let records = view.records().filter_map(|record| connection(worker, record, now, &snapshot));
        let wanted = records.filter(|connection| {
            query.virtual_server.as_ref().is_none_or(|name| *name == connection.virtual_server)
                && query.client.is_none_or(|client| client == connection.client)
        });
        connections.extend(wanted.take(query.limit - connections.len()));
    }
    let total = sources.workers.iter().map(|worker| worker.counters.connections.get()).sum();
    serde_json::to_vec(&Listing { total, connections }).map_err(|problem| problem.to_string())
}

/// `None`: its virtual server is gone.
fn connection(worker: usize, record: Record, now: u32, snapshot: &Snapshot) -> Option<Connection<'_>> {
    let server = snapshot.server(record.server());
    let service = snapshot.service(server.service)?;
    let lifetime = snapshot.lifetimes.of(record.protocol(), record.state());
    Some(Connection {
        worker,
        protocol: record.protocol().name().into(),
        client: record.client().into(),
        client_port: record.client_port(),
        virtual_server: (&service.name).into(),
        address: snapshot.vips.address(record.vip()).map(Ipv4Addr::from),
        port: record.port(),
        real_server: server.ip(),
        real_server_port: server.port_for(record.port()),
        state: name(record.protocol(), record.state()).into(),
        expires: lifetime.saturating_sub(record.age(now)),
        persistent: record.is_templated(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_taken_apart_or_refused_with_a_sentence() {
        let all = Query { virtual_server: None, client: None, limit: LIMIT_DEFAULT };
        assert_eq!(Query::parse(""), Ok(all));
        let some = Query {
            virtual_server: Some("web".to_owned()),
            client: Some(Ipv4Addr::new(10, 0, 0, 1)),
            limit: 5,
        };
        assert_eq!(Query::parse("limit=5&client=10.0.0.1&virtual_server=%77eb"), Ok(some));
        for bad in ["limit=0", "limit=100001", "client=x", "page=1", "limit"] {
            assert!(Query::parse(bad).is_err(), "{bad}");
        }
    }
}
