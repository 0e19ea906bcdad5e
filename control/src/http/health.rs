//! `/api/v1/health`: real servers, whether they are up and why, and their checks, as JSON.

use std::time::Duration;

use weir_api::health::{Check, Listing, RealServer, VirtualServer};
use weir_health::judge::track::Verdict;
use weir_health::judge::{CheckListing, Outcome, ServerListing, ServiceListing};

use super::query::pairs_once;

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
        for (key, value) in pairs_once(query, &[])? {
            match &*key {
                "virtual_server" if !value.is_empty() => parsed.virtual_server = Some(value.into_owned()),
                _ => return Err("the query may hold virtual_server".to_owned()),
            }
        }
        Ok(parsed)
    }
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
        name: (&service.name).into(),
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
        real_server: server.server.to_string().into(),
        up: server.is_up,
        since: seconds(server.since),
        reason: (&server.reason).into(),
        weight: server.weight,
        configured_weight: server.configured_weight,
        ejections: server.ejections,
        checks: server.checks.iter().map(check).collect(),
    }
}

fn check(check: &CheckListing) -> Check<'_> {
    let counts =
        Outcome::ALL.into_iter().map(|outcome| (outcome.label().into(), check.counts[outcome as usize]));
    Check {
        check: (&check.what).into(),
        verdict: check.verdict.map(|verdict| match verdict {
            Verdict::Up => "up".into(),
            Verdict::Down => "down".into(),
            Verdict::Untried => "untried".into(),
        }),
        against: check.against,
        last_result: check.last.as_ref().map(|last| last.outcome.label().into()),
        last_detail: check.last.as_ref().map(|last| (&last.detail).into()),
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
        let escaped = Query::parse("virtual_server=web%3A80%40a").unwrap();
        assert_eq!(escaped.virtual_server.as_deref(), Some("web:80@a"));
        assert!(Query::parse("name=web").is_err());
    }
}
