//! Making one check: each type has its file.
//!
//! Every stage has its time limit, every answer its size limit, and whatever goes wrong becomes a [`Failure`] in words. A check
//! that is dropped half-way closes its socket and kills its program.

mod agent;
mod connect;
mod dns;
mod exec;
mod head;
mod http;
mod matching;
mod offspring;
mod patient;
mod ping;
mod smtp;
mod tcp;
#[cfg(test)]
mod tests;
mod tls;
mod udp;

use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::time::{Instant, timeout_at};
use weir_config::model::health::{Account, HealthCheck, Probe};

use crate::judge::target::{Key, Place};
use crate::judge::{Answer, Outcome};
use crate::overlay::{Limit, Weight};
use crate::way::Ways;
pub(crate) use exec::{run_hook, run_script};
use matching::Patterns;
pub use offspring::end_all;
use tls::Connectors;

/// How long a way to a real server is kept after the check: for the reset that closes its connection.
const WAY_KEPT: Duration = Duration::from_millis(250);
/// A limit that is noticed so much too late, and by more than itself, says that the director stood still, not the server.
const STALL: Duration = Duration::from_secs(1);
/// Bytes of an answer that are looked at where the file does not say how many.
const ANSWER_BYTES_MAX: usize = 4096;

/// What the checks of one configuration share.
pub(crate) struct Probes {
    connectors: Connectors,
    patterns: Arc<Patterns>,
    account: Option<Account>,
    ways: Arc<dyn Ways>,
}

/// What a check found that went well.
#[derive(Debug, Default, PartialEq, Eq)]
struct Success {
    detail: String,
    weight: Option<Weight>,
    limit: Option<Limit>,
    says_down: Option<bool>,
}

impl Success {
    fn new(detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..Self::default() }
    }
}

/// Why a check failed.
#[derive(Debug, PartialEq, Eq)]
struct Failure {
    outcome: Outcome,
    detail: String,
}

impl Failure {
    fn new(outcome: Outcome, detail: impl Into<String>) -> Self {
        Self { outcome, detail: detail.into() }
    }

    /// What the system says about a socket that speaks with the server. `doing` goes before it: "connecting".
    fn io(doing: &str, problem: &io::Error) -> Self {
        let outcome = match problem.kind() {
            ErrorKind::ConnectionRefused => Outcome::Refused,
            ErrorKind::TimedOut => Outcome::Timeout,
            _ if is_cut(problem) => Outcome::Closed,
            _ if is_of_this_host(problem) => Outcome::Error,
            // Not from the system: a library says it of what it was sent, such as hyper of a broken chunk.
            _ if problem.raw_os_error().is_none() => Outcome::Unexpected,
            // What ICMP errors become, of which there are many (`icmp_err_convert` of the kernel).
            _ => Outcome::Unreachable,
        };
        Self::new(outcome, format!("{doing}: {}", system_says(problem)))
    }

    /// What is said before anything has gone to the server, or of files and programs: a fault of the director, such as no route, no
    /// descriptor or no source port. Only the loopback device refuses at once.
    fn local(doing: &str, problem: &io::Error) -> Self {
        let outcome = match problem.kind() {
            ErrorKind::ConnectionRefused => Outcome::Refused,
            _ => Outcome::Error,
        };
        Self::new(outcome, format!("{doing}: {}", system_says(problem)))
    }
}

/// Whether the peer broke a connection off.
fn is_cut(problem: &io::Error) -> bool {
    matches!(
        problem.kind(),
        ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected
            | ErrorKind::UnexpectedEof
    )
}

/// Whether it is the director that lacks something. Only the system says so, by its number.
fn is_of_this_host(problem: &io::Error) -> bool {
    let Some(code) = problem.raw_os_error() else { return false };
    let lacks = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
        Errno::NOBUFS,
        Errno::AGAIN,
        Errno::ADDRNOTAVAIL,
        Errno::ADDRINUSE,
        Errno::AFNOSUPPORT,
        Errno::INVAL,
        Errno::PERM,
        Errno::NETDOWN,
        Errno::NODEV,
        Errno::NOENT,
        Errno::NOEXEC,
        Errno::ISDIR,
        Errno::IO,
    ];
    lacks.iter().any(|known| known.raw_os_error() == code)
}

/// The system's words, without its number.
pub(crate) fn system_says(problem: &io::Error) -> String {
    let said = problem.to_string();
    lower_first(said.split(" (os error").next().unwrap_or_default())
}

/// The system's messages begin with a capital, a detail of ours stands within a sentence.
fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

type Found = Result<Success, Failure>;

/// The time limits of one check.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// The end of all of it.
    end: Instant,
    whole: Duration,
}

impl Limits {
    fn new(whole: Duration) -> Self {
        Self { end: Instant::now() + whole, whole }
    }

    /// One stage: within its own limit and the whole. `what` did not come otherwise: "connection".
    async fn stage<T>(
        &self,
        limit: Duration,
        what: &str,
        stage: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let end = self.end.min(Instant::now() + limit);
        match timeout_at(end, stage).await {
            Ok(done) => done,
            Err(_) => {
                let limit = limit.min(self.whole);
                let late = end.elapsed();
                if late > limit.max(STALL) {
                    let late = late.as_secs_f64();
                    return Err(Failure::new(
                        Outcome::Error,
                        format!("weir itself was held up for {late:.1} s"),
                    ));
                }
                Err(Failure::new(Outcome::Timeout, format!("no {what} within {} s", limit.as_secs_f64())))
            }
        }
    }
}

impl Probes {
    /// Programs run as this account; `None`: as weir does.
    pub(crate) fn new(account: Option<Account>, ways: Arc<dyn Ways>) -> Self {
        Self { connectors: Connectors::default(), patterns: Arc::default(), account, ways }
    }

    /// Makes one check.
    pub(crate) async fn run(&self, key: &Key) -> Answer {
        let begun = Instant::now();
        let found = match key {
            Key::Check(check, place) => self.check(check, *place).await,
            Key::Agent(agent, at) => agent::ask(agent, *at).await,
            Key::File(path) => agent::read(path).await,
        };
        let took = begun.elapsed();
        match found {
            Ok(Success { detail, weight, limit, says_down }) => {
                Answer { weight, limit, says_down, ..Answer::new(Outcome::Success, detail, took) }
            }
            Err(Failure { outcome, detail }) => Answer::new(outcome, detail, took),
        }
    }

    async fn check(&self, check: &HealthCheck, place: Place) -> Found {
        let tls = match &check.probe {
            // The files that it reads are the director's: the time that they take is none of the server's.
            Probe::Https(_, options) => {
                Some(http::Tls { options, connector: self.connectors.with(options).await? })
            }
            _ => None,
        };
        let limits = Limits::new(check.timeouts.whole);
        let way = match place.through {
            Some(through) => {
                let way = self.ways.reserve(place.at, through);
                Some(way.map_err(|problem| Failure::new(Outcome::Error, problem))?)
            }
            None => None,
        };
        let source = way.as_ref().map(|way| way.source);
        let source = source.or(check.source.map(|address| SocketAddr::new(address, 0)));
        let target = Target { at: place.at, source, timeouts: check.timeouts, limits };
        let found = self.made(check, &target, tls).await;
        // What closes the connection still has to find its way.
        if let Some(way) = way {
            tokio::spawn(async move {
                tokio::time::sleep(WAY_KEPT).await;
                drop(way);
            });
        }
        found
    }

    async fn made(&self, check: &HealthCheck, target: &Target, tls: Option<http::Tls<'_>>) -> Found {
        match &check.probe {
            Probe::Tcp(exchange) => tcp::check(target, exchange).await,
            Probe::Http(http) | Probe::Https(http, _) => http::check(target, http, &self.patterns, tls).await,
            Probe::Udp { exchange, require_reply } => udp::check(target, exchange, *require_reply).await,
            Probe::Dns { query, record } => dns::check(target, query, *record).await,
            Probe::Smtp { helo } => smtp::check(target, helo).await,
            Probe::Ping => ping::check(target).await,
            Probe::Exec { command, dynamic_weight } => {
                exec::check(target, command, *dynamic_weight, self.account.as_ref()).await
            }
        }
    }
}

/// Where a check goes and how long it may take.
struct Target {
    at: SocketAddr,
    /// Comes from there; port 0: any.
    source: Option<SocketAddr>,
    timeouts: weir_config::model::health::Timeouts,
    limits: Limits,
}

impl Target {
    /// A number that the next check hardly has, and that nobody far off the path can guess.
    fn token(&self) -> u64 {
        use std::hash::{BuildHasher, RandomState};
        RandomState::new().hash_one(self.at)
    }
}
