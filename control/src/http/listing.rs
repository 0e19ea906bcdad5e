//! `/api/v1/connections`: what the connection tables hold, as JSON: one page, or a stream with a line for each.
//!
//! Read from the workers' tables while they go on, so a record that comes or goes meanwhile may be missed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;

use weir_api::connections::{Connection, Listing, STATES};
use weir_config::model::Protocol;
use weir_dataplane::conn::record::Record;
use weir_dataplane::conn::state::{name, names};
use weir_dataplane::conn::table::View;
use weir_dataplane::conn::template::Listed;
use weir_dataplane::director::foretold::service_of;
use weir_dataplane::foretold::{Flow, Told};
use weir_dataplane::snapshot::{Ends, Snapshot};

use super::query::pairs_once;
use crate::sources::Sources;

/// Connections that a page lists unless the query says how many.
const LIMIT_DEFAULT: usize = 1_000;
/// Connections that a page lists at most: some 20 MB.
const LIMIT_MAX: usize = 100_000;
/// A stream is made in pieces of so many bytes.
const PIECE_BYTES: usize = 64 << 10;
/// States of what persistence remembers.
const OF_TEMPLATES: [&str; 2] = ["NONE", "ASSURED"];
const KEYS: &str = "the query may hold virtual_server, protocol, client, address, real_server, state, templates=yes, limit and stream=yes";

/// What to list.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    virtual_server: Option<String>,
    protocol: Option<String>,
    client: Option<End>,
    address: Option<End>,
    real_server: Option<End>,
    state: Option<String>,
    templates: bool,
    limit: Option<usize>,
    /// A line for each instead of a page.
    pub(super) is_stream: bool,
}

/// One end of a connection: an address, with or without a port.
#[derive(Debug, PartialEq, Eq)]
struct End {
    address: IpAddr,
    port: Option<u16>,
}

impl End {
    fn parse(key: &str, text: &str) -> Result<Self, String> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let bracketed = bare.and_then(|text| text.parse::<Ipv6Addr>().ok()).map(IpAddr::V6);
        if let Some(address) = bracketed.or_else(|| text.parse().ok()) {
            return Ok(Self { address, port: None });
        }
        match text.parse::<SocketAddr>() {
            Ok(socket) => Ok(Self { address: socket.ip(), port: Some(socket.port()) }),
            Err(_) => Err(format!("{key} is no address, nor an address with a port")),
        }
    }

    fn is(&self, address: IpAddr, port: u16) -> bool {
        self.address == address && self.port.is_none_or(|wanted| wanted == port)
    }
}

impl Query {
    /// From keys that are all optional.
    ///
    /// # Errors
    /// A sentence for the client.
    pub(super) fn parse(query: &str) -> Result<Self, String> {
        let mut parsed = Self::default();
        for (key, value) in pairs_once(query, &[])? {
            match (&*key, &*value) {
                ("virtual_server", name) if !name.is_empty() => parsed.virtual_server = Some(name.to_owned()),
                ("protocol", name @ ("tcp" | "udp" | "sctp")) => parsed.protocol = Some(name.to_owned()),
                ("client", end) => parsed.client = Some(End::parse("client", end)?),
                ("address", end) => parsed.address = Some(End::parse("address", end)?),
                ("real_server", end) => parsed.real_server = Some(End::parse("real_server", end)?),
                ("state", name) if !name.is_empty() => parsed.state = Some(name.to_ascii_uppercase()),
                ("templates", "yes") => parsed.templates = true,
                ("stream", "yes") => parsed.is_stream = true,
                ("limit", limit) => {
                    parsed.limit = Some(limit.parse().map_err(|_| "limit is no number".to_owned())?);
                }
                _ => return Err(KEYS.to_owned()),
            }
        }
        parsed.state_is_known()?;
        let is_good = parsed.limit.is_none_or(|limit| limit > 0 && (parsed.is_stream || limit <= LIMIT_MAX));
        if is_good { Ok(parsed) } else { Err(format!("limit is not 1 to {LIMIT_MAX}")) }
    }

    /// Nothing is in a state that there is not, and whoever asks for one has slipped.
    fn state_is_known(&self) -> Result<(), String> {
        let Some(state) = &self.state else { return Ok(()) };
        let all = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
        let protocol = all.into_iter().find(|it| self.protocol.as_deref() == Some(it.name()));
        let (who, mut known) = match protocol {
            Some(protocol) => (protocol.name(), names(protocol).to_vec()),
            None => ("no protocol", STATES.to_vec()),
        };
        if protocol.is_some() && self.templates {
            known.extend(OF_TEMPLATES);
        }
        if known.contains(&state.as_str()) {
            return Ok(());
        }
        let verb = if protocol.is_some() { "has no" } else { "has the" };
        let shown: String = state.escape_debug().take(40).collect();
        Err(format!("{who} {verb} state {shown}; there are {}", known.join(", ")))
    }

    fn wants(&self, it: &Connection<'_>) -> bool {
        let is = |wanted: &Option<String>, text: &str| wanted.as_ref().is_none_or(|wanted| wanted == text);
        is(&self.virtual_server, &it.virtual_server)
            && is(&self.protocol, &it.protocol)
            && is(&self.state, &it.state)
            && self.client.as_ref().is_none_or(|end| end.is(it.client, it.client_port))
            && self.real_server.as_ref().is_none_or(|end| end.is(it.real_server, it.real_server_port))
            && self
                .address
                .as_ref()
                .is_none_or(|end| it.address.is_some_and(|address| end.is(address, it.port)))
    }
}

/// The page that answers `query`.
pub(super) fn render(sources: &Sources, query: &Query) -> Result<Vec<u8>, String> {
    let snapshot = sources.snapshot.load_full();
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
    let mut connections = Vec::new();
    each(sources, &snapshot, query, limit, |connection| {
        connections.push(connection);
        true
    });
    let total: u64 = sources.workers.iter().map(|worker| worker.counters.connections.get()).sum();
    let total = total + sources.workers.first().map_or(0, |worker| worker.foretold.total() as u64);
    serde_json::to_vec(&Listing { total, connections }).map_err(|problem| problem.to_string())
}

/// The stream that answers `query`, piece by piece, each made of whole lines. `send` waits while the client does not read, and says
/// whether it is still there. What is being listed is held meanwhile, as of the beginning.
pub(super) fn stream(sources: &Sources, query: &Query, mut send: impl FnMut(Vec<u8>) -> bool) {
    let snapshot = sources.snapshot.load_full();
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    let mut is_there = true;
    each(sources, &snapshot, query, query.limit.unwrap_or(usize::MAX), |connection| {
        // Writing to memory and numbers and texts can't fail.
        let _ = serde_json::to_writer(&mut piece, &connection);
        piece.push(b'\n');
        if piece.len() >= PIECE_BYTES - 1024 {
            is_there = send(std::mem::replace(&mut piece, Vec::with_capacity(PIECE_BYTES)));
        }
        is_there
    });
    if is_there && !piece.is_empty() {
        send(piece);
    }
}

/// Hands over up to `limit` connections that are wanted, until `take` has had enough.
fn each<'a>(
    sources: &Sources,
    snapshot: &'a Snapshot,
    query: &Query,
    limit: usize,
    mut take: impl FnMut(Connection<'a>) -> bool,
) {
    let tables = sources.tables.iter().enumerate().flat_map(|(worker, view)| {
        let now = sources.workers[worker].counters.seconds.get() as u32;
        view.records().filter_map(move |record| connection((worker, view), record, now, snapshot))
    });
    let templates =
        sources.templates.as_deref().filter(|_| query.templates && snapshot_is_persistent(snapshot));
    let now = sources.workers.iter().map(|worker| worker.counters.seconds.get() as u32).max();
    let templates = templates.into_iter().flat_map(|templates| templates.listed());
    let templates = templates.filter_map(|it| template(it, now.unwrap_or_default(), snapshot));
    let told = sources.workers.first().into_iter().flat_map(|worker| worker.foretold.listed());
    let told = told.filter_map(|told| foretold(told, now.unwrap_or_default(), snapshot));
    for connection in tables.chain(told).chain(templates).filter(|it| query.wants(it)).take(limit) {
        if !take(connection) {
            return;
        }
    }
}

fn snapshot_is_persistent(snapshot: &Snapshot) -> bool {
    snapshot.services().any(|service| service.persistence.is_some())
}

/// `None`: it is over, or its virtual server is gone.
fn connection<'a>(
    (worker, view): (usize, &View),
    record: Record,
    now: u32,
    snapshot: &'a Snapshot,
) -> Option<Connection<'a>> {
    let server = snapshot.server(record.server());
    let service = snapshot.service(server.service)?;
    let lifetime = snapshot.lifetimes.of(record.protocol(), record.state());
    Some(Connection {
        worker,
        protocol: record.protocol().name().into(),
        client: view.client(record)?,
        client_port: record.client_port(),
        virtual_server: (&service.name).into(),
        address: snapshot.vips.address(record.vip()).map(|vip| snapshot.ip(vip)),
        port: record.port(),
        real_server: server.ip(),
        real_server_port: server.port_for(record.port()),
        state: name(record.protocol(), record.state()).into(),
        expires: lifetime.saturating_sub(record.age(now)),
        persistent: record.is_templated(),
        persistence_engine: None,
        persistence_data: None,
    })
}

/// One that another director has told of, and whose packets have not come yet. `None`: it is over, or its virtual server is gone.
fn foretold(told: Told, now: u32, snapshot: &Snapshot) -> Option<Connection<'_>> {
    let Told { flow: Flow { protocol, client, server }, real_server, state, until } = told;
    let by_mark = |client: IpAddr, server: IpAddr| {
        let (IpAddr::V4(source), IpAddr::V4(destination)) = (client, server) else { return None };
        let (source, destination) = (source.into(), destination.into());
        let ends = Ends {
            source,
            destination,
            destination_port: told.flow.server.port(),
            protocol: protocol.number(),
        };
        snapshot.service(snapshot.target(&ends, protocol)?.target.service)
    };
    let service = service_of(server, protocol, snapshot).or_else(|| by_mark(client.ip(), server.ip()))?;
    Some(Connection {
        worker: 0,
        protocol: protocol.name().into(),
        client: client.ip(),
        client_port: client.port(),
        virtual_server: (&service.name).into(),
        address: Some(server.ip()),
        port: server.port(),
        real_server: real_server.ip(),
        real_server_port: real_server.port(),
        state: name(protocol, state).into(),
        expires: until.checked_sub(now)?,
        persistent: false,
        persistence_engine: None,
        persistence_data: None,
    })
}

/// A persistence template as IPVS lists it: a connection from port 0. `None`: it is over, or its virtual server is gone.
fn template((client, template): (IpAddr, Listed), now: u32, snapshot: &Snapshot) -> Option<Connection<'_>> {
    let owner = template.whose();
    let service = snapshot.service(owner.service)?;
    let persistence = service.persistence.filter(|_| service.epoch.number == owner.epoch)?;
    let expires = template.expires_in(persistence.timeout_secs, now)?;
    let server = snapshot.server(template.server());
    let address = match (service.mark.map(NonZeroU32::get), service.address) {
        // As in IPVS, the mark stands in the place of an address.
        (Some(mark), IpAddr::V4(_)) => Ipv4Addr::from_bits(mark).into(),
        (Some(mark), IpAddr::V6(_)) => Ipv6Addr::from_bits(u128::from(mark) << 96).into(),
        (None, address) => address,
    };
    let protocol = service.mark.map_or_else(|| service.protocol.name(), |_| "ip");
    // What stands in the place of the client is the digest of a call.
    let (client, digest) = match (persistence.engine, client, service.address) {
        (Some(_), IpAddr::V6(digest), IpAddr::V4(_)) => (Ipv4Addr::UNSPECIFIED.into(), Some(digest)),
        (Some(_), IpAddr::V6(digest), IpAddr::V6(_)) => (Ipv6Addr::UNSPECIFIED.into(), Some(digest)),
        (_, client, _) => (client, None),
    };
    Some(Connection {
        worker: 0,
        protocol: protocol.into(),
        client,
        client_port: 0,
        virtual_server: (&service.name).into(),
        address: Some(address),
        port: service.port,
        real_server: server.ip(),
        real_server_port: server.port_for(service.port),
        state: if template.is_assured() { "ASSURED" } else { "NONE" }.into(),
        expires,
        persistent: true,
        persistence_engine: persistence.engine.map(|engine| engine.name().into()),
        persistence_data: digest.map(|digest| format!("{:032x}", digest.to_bits()).into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_taken_apart_or_refused_with_a_sentence() {
        assert_eq!(Query::parse(""), Ok(Query::default()));
        let some = Query {
            virtual_server: Some("web".to_owned()),
            client: Some(End { address: "10.0.0.1".parse().unwrap(), port: None }),
            real_server: Some(End { address: "10.0.0.2".parse().unwrap(), port: Some(80) }),
            state: Some("SYN_RECV".to_owned()),
            limit: Some(5),
            ..Query::default()
        };
        let text = "limit=5&client=10.0.0.1&virtual_server=%77eb&real_server=10.0.0.2:80&state=syn_recv";
        assert_eq!(Query::parse(text), Ok(some));
        assert!(Query::parse("stream=yes&limit=4000000&templates=yes").is_ok_and(|query| query.is_stream));
        for bad in
            ["limit=0", "limit=100001", "limit=x", "client=x", "page=1", "limit", "protocol=icmp", "stream"]
        {
            assert!(Query::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_state_is_one_of_the_protocols() {
        let of_all = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().flat_map(names);
        let mut known: Vec<&str> = of_all.chain(&OF_TEMPLATES).copied().collect();
        known.sort_unstable();
        known.dedup();
        let mut told = STATES.to_vec();
        told.sort_unstable();
        assert_eq!(told, known, "STATES of api/src/connections.rs");
        for good in known.iter().map(|state| format!("state={}", state.to_lowercase())) {
            assert!(Query::parse(&good).is_ok(), "{good}");
        }
        for good in [
            "state=udp&protocol=udp",
            "protocol=sctp&state=c-wait",
            "protocol=udp&state=assured&templates=yes",
        ] {
            assert!(Query::parse(good).is_ok(), "{good}");
        }
        let said = |query: &str| Query::parse(query).unwrap_err();
        let all = STATES.join(", ");
        assert_eq!(said("state=foo"), format!("no protocol has the state FOO; there are {all}"));
        assert_eq!(said("protocol=udp&state=established"), "udp has no state ESTABLISHED; there are UDP");
        assert_eq!(said("state=assured&protocol=udp"), "udp has no state ASSURED; there are UDP");
        assert!(said(&format!("state=%1b{}", "x".repeat(9_000))).len() < 500);
    }

    #[test]
    fn both_ends_the_state_and_the_protocol_are_filtered_by() {
        let connection = Connection {
            worker: 0,
            protocol: "tcp".into(),
            client: Ipv4Addr::new(198, 51, 100, 7).into(),
            client_port: 4_000,
            virtual_server: "web".into(),
            address: Some(Ipv4Addr::new(192, 0, 2, 1).into()),
            port: 80,
            real_server: "10.0.0.11".parse().unwrap(),
            real_server_port: 8_080,
            state: "ESTABLISHED".into(),
            expires: 900,
            persistent: false,
            persistence_engine: None,
            persistence_data: None,
        };
        let wants = |query: &str| Query::parse(query).unwrap().wants(&connection);
        for query in [
            "",
            "virtual_server=web&state=established&protocol=tcp",
            "client=198.51.100.7",
            "client=198.51.100.7:4000",
            "address=192.0.2.1:80&real_server=10.0.0.11",
            "real_server=10.0.0.11:8080",
        ] {
            assert!(wants(query), "{query}");
        }
        for query in [
            "virtual_server=dns",
            "state=close",
            "protocol=udp",
            "client=198.51.100.8",
            "client=198.51.100.7:4001",
            "address=192.0.2.1:81",
            "address=10.0.0.11",
            "real_server=10.0.0.11:80",
            "real_server=[::1]:8080",
        ] {
            assert!(!wants(query), "{query}");
        }
        let bare = Query::parse("client=2001:db8::50").unwrap();
        assert_eq!(Query::parse("client=[2001:db8::50]").unwrap(), bare);
        for wrong in ["client=[192.0.2.1]", "client=[::1", "client=[]"] {
            assert!(Query::parse(wrong).is_err(), "{wrong}");
        }
    }
}
