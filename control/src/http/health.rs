//! `/api/v1/health`: real servers, whether they are up and why, and their checks, as JSON.

use std::time::Duration;

use serde::Serialize;
use weir_health::judge::track::Verdict;
use weir_health::judge::{CheckListing, Outcome, ServerListing, ServiceListing};

/// What to list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Query {
    virtual_server: Option<String>,
}

impl Query {
    /// From `virtual_server=NAME`, which may be left out.
    ///
    /// # Errors
    /// A sentence for the client.
    pub(super) fn parse(query: &str) -> Result<Self, String> {
        let mut parsed = Self { virtual_server: None };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("virtual_server", name)) => parsed.virtual_server = Some(name.to_owned()),
                _ => return Err("the query may hold virtual_server".to_owned()),
            }
        }
        Ok(parsed)
    }
}

#[derive(Serialize)]
struct Listing<'a> {
    virtual_servers: Vec<VirtualServer<'a>>,
}

#[derive(Serialize)]
struct VirtualServer<'a> {
    name: &'a str,
    /// Whether enough real servers are up.
    quorum: bool,
    /// Seconds that it has been so.
    quorum_since: f64,
    /// Sum of the weights of those that are up.
    weight: u64,
    /// The sum that is needed.
    quorum_weight: u32,
    hysteresis: u32,
    /// Whether the sorry server serves.
    sorry_server: bool,
    real_servers: Vec<RealServer<'a>>,
}

#[derive(Serialize)]
struct RealServer<'a> {
    real_server: String,
    up: bool,
    /// Seconds that it has been so.
    since: f64,
    /// Why.
    reason: &'a str,
    weight: u16,
    configured_weight: u16,
    ejections: u64,
    checks: Vec<Check<'a>>,
}

#[derive(Serialize)]
struct Check<'a> {
    check: &'a str,
    /// `up`, `down`, `untried`; none for an agent or a file.
    verdict: Option<&'static str>,
    /// Answers in a row that contradict the verdict.
    against: u32,
    last_result: Option<&'static str>,
    last_detail: Option<&'a str>,
    last_duration: Option<f64>,
    /// By result.
    results: std::collections::BTreeMap<&'static str, u64>,
}

/// The answer to `query`.
pub(super) fn render(services: &[ServiceListing], query: &Query) -> Result<Vec<u8>, String> {
    let wanted =
        |service: &&ServiceListing| query.virtual_server.as_ref().is_none_or(|it| *it == service.name);
    let virtual_servers = services.iter().filter(wanted).map(virtual_server).collect();
    serde_json::to_vec(&Listing { virtual_servers }).map_err(|problem| problem.to_string())
}

fn virtual_server(service: &ServiceListing) -> VirtualServer<'_> {
    VirtualServer {
        name: &service.name,
        quorum: service.has_quorum,
        quorum_since: seconds(service.since),
        weight: service.weight,
        quorum_weight: service.quorum.weight,
        hysteresis: service.quorum.hysteresis,
        sorry_server: service.has_sorry_server && !service.has_quorum,
        real_servers: service.servers.iter().map(real_server).collect(),
    }
}

fn real_server(server: &ServerListing) -> RealServer<'_> {
    RealServer {
        real_server: server.server.to_string(),
        up: server.is_up,
        since: seconds(server.since),
        reason: &server.reason,
        weight: server.weight,
        configured_weight: server.configured_weight,
        ejections: server.ejections,
        checks: server.checks.iter().map(check).collect(),
    }
}

fn check(check: &CheckListing) -> Check<'_> {
    let counts = Outcome::ALL.into_iter().map(|outcome| (outcome.label(), check.counts[outcome as usize]));
    Check {
        check: &check.what,
        verdict: check.verdict.map(|verdict| match verdict {
            Verdict::Up => "up",
            Verdict::Down => "down",
            Verdict::Untried => "untried",
        }),
        against: check.against,
        last_result: check.last.as_ref().map(|last| last.outcome.label()),
        last_detail: check.last.as_ref().map(|last| last.detail.as_str()),
        last_duration: check.last.as_ref().map(|last| seconds(last.took)),
        results: counts.filter(|(_, count)| *count != 0).collect(),
    }
}

/// To the microsecond: more is noise.
fn seconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_taken_apart_or_refused_with_a_sentence() {
        assert_eq!(Query::parse(""), Ok(Query { virtual_server: None }));
        assert_eq!(Query::parse("virtual_server=web").unwrap().virtual_server.as_deref(), Some("web"));
        assert!(Query::parse("name=web").is_err());
    }
}
