//! What is checked: each target once, however many virtual servers look at it.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use weir_config::model::health::{Agent, HealthCheck, Probe};
use weir_config::model::{Protocol, RealServer, VirtualServer};

use super::random::Random;
use super::track::{Track, Verdict};
use super::{Answer, Moment, Outcome};

/// How often a weight file is read.
const FILE_INTERVAL: Duration = Duration::from_secs(1);

/// What makes a target the one it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// A health check of a place.
    Check(Arc<HealthCheck>, Place),
    /// An agent that tells a weight.
    Agent(Arc<Agent>, SocketAddr),
    /// A file that holds a weight.
    File(PathBuf),
}

/// Where a check goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// Address and port; the port is 0 where the check has no use for one.
    pub at: SocketAddr,
    /// Whom it is to reach there, if that takes more than the address.
    pub through: Option<Through>,
}

/// A real server that is reached at its VIP, by the way of clients' packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Through {
    /// The virtual server's protocol.
    pub protocol: Protocol,
    /// The real server's address.
    pub address: IpAddr,
    /// The real server's port.
    pub port: u16,
}

impl From<SocketAddr> for Place {
    fn from(at: SocketAddr) -> Self {
        Self { at, through: None }
    }
}

impl Key {
    /// The target of one check of a real server.
    pub fn of_check(check: &Arc<HealthCheck>, service: &VirtualServer, server: &RealServer) -> Self {
        if check.via_forwarding {
            let through = Through { protocol: service.protocol, address: server.address, port: server.port };
            let at = SocketAddr::new(service.address, service.port);
            return Key::Check(check.clone(), Place { at, through: Some(through) });
        }
        let address = check.address.unwrap_or(server.address);
        let port = match check.probe {
            Probe::Ping => 0,
            _ => check.port.unwrap_or(server.port),
        };
        Key::Check(check.clone(), SocketAddr::new(address, port).into())
    }

    /// The target of a real server's agent.
    pub fn of_agent(agent: &Arc<Agent>, server: &RealServer) -> Self {
        Key::Agent(agent.clone(), SocketAddr::new(agent.address.unwrap_or(server.address), agent.port))
    }

    /// What it is, in a few words for a log: `http check of 10.0.0.11:80`.
    pub fn describe(&self) -> String {
        match self {
            Key::Check(check, Place { at, through: None }) if at.port() == 0 => {
                format!("{} check of {}", check.probe.name(), at.ip())
            }
            Key::Check(check, Place { at, through: None }) => format!("{} check of {at}", check.probe.name()),
            Key::Check(check, Place { at, through: Some(through) }) => {
                format!("{} check of {at} at {}", check.probe.name(), through.address)
            }
            Key::Agent(_, at) => format!("agent at {at}"),
            Key::File(path) => format!("weight file {}", path.display()),
        }
    }

    /// The address that is asked; `None`: a file.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Key::Check(_, place) => Some(place.at.ip()),
            Key::Agent(_, at) => Some(at.ip()),
            Key::File(_) => None,
        }
    }

    fn intervals(&self) -> (Duration, Duration) {
        match self {
            Key::Check(check, _) => (check.interval, check.retry_interval),
            Key::Agent(agent, _) => (agent.interval, agent.interval),
            Key::File(_) => (FILE_INTERVAL, FILE_INTERVAL),
        }
    }

    /// Where chance is allowed it spreads checks over their interval.
    fn jitter_permille(&self) -> u64 {
        match self {
            Key::Check(check, _) => u64::from(check.jitter_permille),
            Key::Agent(..) | Key::File(_) => 100,
        }
    }

    /// The time until the first check.
    pub(super) fn warmup(&self, random: &mut Random) -> Duration {
        match self {
            Key::Check(check, _) => random.below(check.warmup),
            Key::Agent(agent, _) => random.below(agent.interval),
            Key::File(_) => Duration::ZERO,
        }
    }
}

/// A target and what became of it.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) key: Key,
    /// Agents and files have one too, which nobody asks.
    pub(super) track: Track,
    /// Real servers that look at it: virtual server, place in it.
    pub(super) members: Vec<(usize, usize)>,
    /// When the next check is due; while one is under way, when that was.
    pub(super) due: Moment,
    pub(super) is_under_way: bool,
    /// Tells answers to this target from those to an earlier one of the same number.
    pub(super) life: u32,
    /// When the failures or successes began that may change the verdict.
    pub(super) doubt_since: Option<Moment>,
    pub(super) last: Option<Last>,
    /// What was last found against the server, or said by its agent or file.
    pub(super) complaint: String,
    /// By [`Outcome`].
    pub(super) counts: [u64; Outcome::ALL.len()],
    /// The last weight that was told.
    pub(super) weight: crate::overlay::Weight,
    /// The last limit that was told.
    pub(super) limit: crate::overlay::Limit,
    /// Agents and files may tell that the server is down.
    pub(super) says_down: bool,
}

/// The last answer.
#[derive(Debug, Clone)]
pub struct Last {
    /// How it went.
    pub outcome: Outcome,
    /// In words.
    pub detail: String,
    /// How long it took.
    pub took: Duration,
    /// When it came.
    pub at: Moment,
}

impl Target {
    pub(super) fn new(key: Key, life: u32, known: Verdict, due: Moment) -> Self {
        Self {
            key,
            track: Track::from(known),
            members: Vec::new(),
            due,
            is_under_way: false,
            life,
            doubt_since: None,
            last: None,
            complaint: String::new(),
            counts: [0; Outcome::ALL.len()],
            weight: crate::overlay::Weight::Configured,
            limit: crate::overlay::Limit::Configured,
            says_down: false,
        }
    }

    /// Takes an answer in and says whether anything follows from it for its real servers.
    pub(super) fn answer(&mut self, now: Moment, answer: Answer) -> bool {
        self.counts[answer.outcome as usize] += 1;
        let is_success = answer.outcome == Outcome::Success;
        let mut is_change = false;
        // A fault of the checker's own says nothing about the server.
        if let Key::Check(check, _) = &self.key
            && answer.outcome != Outcome::Error
        {
            if !is_success {
                self.complaint.clone_from(&answer.detail);
            }
            is_change = self.track.answer(check, is_success).is_some();
            if self.track.is_in_doubt() {
                self.doubt_since.get_or_insert(now.saturating_sub(answer.took));
            } else if !is_change {
                self.doubt_since = None;
            }
        }
        // An agent that can't be reached says nothing: what it said last holds.
        if let Some(weight) = answer.weight {
            is_change |= self.weight != weight;
            self.weight = weight;
        }
        if let Some(limit) = answer.limit {
            is_change |= self.limit != limit;
            self.limit = limit;
        }
        if let Some(says_down) = answer.says_down {
            is_change |= self.says_down != says_down;
            self.says_down = says_down;
            if says_down {
                self.complaint.clone_from(&answer.detail);
            }
        }
        self.last = Some(Last { outcome: answer.outcome, detail: answer.detail, took: answer.took, at: now });
        is_change
    }

    /// The last of the times by `now` at which it was due, if it was due once in each interval.
    pub(super) fn last_due(&self, now: Moment) -> Moment {
        let late = now.saturating_sub(self.due);
        let missed = late.as_nanos().checked_rem(self.interval().as_nanos());
        now - missed.and_then(|past| u64::try_from(past).ok()).map_or(Duration::ZERO, Duration::from_nanos)
    }

    fn interval(&self) -> Duration {
        let (interval, retry) = self.key.intervals();
        if self.track.is_in_doubt() { retry } else { interval }
    }

    /// From the time of this check to that of the next.
    pub(super) fn pause(&self, random: &mut Random) -> Duration {
        let pause = self.interval();
        let share = pause.mul_f64(self.key.jitter_permille() as f64 / 1000.0);
        pause - random.below(share)
    }
}
