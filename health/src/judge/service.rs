//! A virtual server and its real servers: from verdicts to who is up, and to the quorum.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use weir_config::model::health::{ServerHooks, ServiceHealth};
use weir_config::model::{Identity, RealServer, VirtualServer};

use super::listing::{CheckListing, ServerListing, ServiceListing};
use super::passive::{Ejection, Sample};
use super::target::{Key, Target};
use super::track::Verdict;
use super::{Change, Event, Moment, Outcome};
use crate::overlay::{Limit, ServiceStanding, Standing, Weight};

/// See the module.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) identity: Identity,
    pub(super) health: Arc<ServiceHealth>,
    pub(super) members: Vec<Member>,
    pub(super) has_quorum: bool,
    quorum_since: Moment,
    /// It was there before the configuration that is being taken over.
    is_known: bool,
}

/// A real server of it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) address: IpAddr,
    pub(super) port: u16,
    /// Its weight in the file.
    configured: u16,
    /// Told of it instead of those of all.
    hooks: Option<Arc<ServerHooks>>,
    /// Numbers of its targets: checks, agent, file.
    pub(super) targets: Vec<usize>,
    pub(super) is_up: bool,
    pub(super) weight: Weight,
    pub(super) limit: Limit,
    since: Moment,
    /// Why it is as it is.
    reason: String,
    pub(super) ejection: Ejection,
    is_known: bool,
}

/// The targets of a real server: checks, agent, file.
pub(super) fn keys<'f>(
    service: &'f VirtualServer,
    server: &'f RealServer,
) -> impl Iterator<Item = Key> + use<'f> {
    let checks = server.health_checks.iter().map(move |check| Key::of_check(check, service, server));
    let agent = server.agent.iter().map(move |agent| Key::of_agent(agent, server));
    checks.chain(agent).chain(server.weight_file.iter().cloned().map(Key::File))
}

impl Service {
    /// As the file says, with what is known from before.
    pub(super) fn new(file: &VirtualServer, old: Option<Self>, now: Moment) -> Self {
        let known = old.as_ref().map(|old| (old.has_quorum, old.quorum_since));
        let mut before: hashbrown::HashMap<_, Member> = old
            .into_iter()
            .flat_map(|old| old.members)
            .map(|member| ((member.address, member.port), member))
            .collect();
        let members = file.real_servers.iter().map(|real| match before.remove(&(real.address, real.port)) {
            Some(old) => Member {
                configured: real.weight,
                hooks: real.hooks.clone(),
                targets: Vec::new(),
                is_known: true,
                ..old
            },
            None => Member::new(real, now),
        });
        Self {
            members: members.collect(),
            name: file.name.clone(),
            identity: file.identity(),
            health: Arc::new(file.health.clone()),
            has_quorum: known.is_none_or(|(has_quorum, _)| has_quorum),
            quorum_since: known.map_or(now, |(_, since)| since),
            is_known: known.is_some(),
        }
    }

    /// After a configuration was taken over. Who is new begins as it is, without an event.
    pub(super) fn settle(&mut self, targets: &[Option<Target>], now: Moment, events: &mut Vec<Event>) {
        for place in 0..self.members.len() {
            let mut silent = Vec::new();
            let events = if self.members[place].is_known { &mut *events } else { &mut silent };
            self.review(place, targets, now, events);
        }
        if self.is_known {
            self.count(now, events);
        } else {
            self.has_quorum = self.weight() >= u64::from(self.health.quorum.weight);
        }
    }

    /// Looks at one real server again after one of its targets changed.
    pub(super) fn review(
        &mut self,
        place: usize,
        targets: &[Option<Target>],
        now: Moment,
        events: &mut Vec<Event>,
    ) {
        let member = &mut self.members[place];
        let theirs = || member.targets.iter().filter_map(|&number| targets[number].as_ref());
        let down = theirs().find_map(|target| why_down(target, self.health.alpha, now));
        let down = down.or_else(|| member.ejection.reason(now));
        // The last one that tells a weight wins: the file, which is the operator's hand, before the agent and the check.
        let told = theirs().rfind(|target| target.weight != Weight::Configured);
        let weight = told.map_or(Weight::Configured, |target| target.weight);
        let source = told.map_or_else(|| "configuration".to_owned(), |target| target.key.describe());
        let reason = down.clone().unwrap_or_else(|| why_up(theirs()));
        let server = SocketAddr::new(member.address, member.port);
        let (from, to) = (member.weight.of(member.configured), weight.of(member.configured));
        if member.weight != weight && from != to {
            let change = Change::Weight { server, from, to, source };
            events.push(Event::new(&self.name, &self.health, now.saturating_sub(member.since), change));
        }
        member.weight = weight;
        let told = theirs().rfind(|target| target.limit != Limit::Configured);
        let limit = told.map_or(Limit::Configured, |target| target.limit);
        if member.limit != limit {
            let source = told.map_or_else(|| "configuration".to_owned(), |target| target.key.describe());
            let change = Change::Limit { server, limit, source };
            events.push(Event::new(&self.name, &self.health, now.saturating_sub(member.since), change));
            member.limit = limit;
        }
        if member.is_up != down.is_none() {
            member.is_up = down.is_none();
            let change = Change::Server { server, is_up: member.is_up, reason: reason.clone() };
            let after = now.saturating_sub(member.since);
            events.push(Event::new(&self.name, &self.health, after, change).told_by(member.hooks.as_deref()));
            member.since = now;
        }
        member.reason = reason;
    }

    /// Looks at the quorum again.
    pub(super) fn count(&mut self, now: Moment, events: &mut Vec<Event>) {
        let quorum = self.health.quorum;
        let weight = self.weight();
        let has_quorum = if self.has_quorum {
            weight != 0 && weight >= u64::from(quorum.weight - quorum.hysteresis.min(quorum.weight))
        } else {
            weight >= u64::from(quorum.weight) + u64::from(quorum.hysteresis)
        };
        if has_quorum != self.has_quorum {
            self.has_quorum = has_quorum;
            let change = Change::Quorum { has_quorum, weight, quorum: quorum.weight };
            let after = now.saturating_sub(self.quorum_since);
            events.push(Event::new(&self.name, &self.health, after, change));
            self.quorum_since = now;
        }
    }

    /// Sum of the weights of those that are up.
    fn weight(&self) -> u64 {
        let up = self.members.iter().filter(|member| member.is_up);
        up.map(|member| u64::from(member.weight.of(member.configured))).sum()
    }

    /// See [`super::Judge::observe`].
    pub(super) fn observe(
        &mut self,
        now: Moment,
        samples: &[&Sample],
        targets: &[Option<Target>],
        events: &mut Vec<Event>,
    ) -> bool {
        let Some(passive) = self.health.passive else { return false };
        let room = self.members.len() * usize::from(passive.ejected_percent_max) / 100;
        let mut ejected = self.members.iter().filter(|member| member.ejection.is_out(now)).count();
        let mut is_change = false;
        for place in 0..self.members.len() {
            let member = &mut self.members[place];
            let was_out = member.ejection.was_out();
            let sample = samples.iter().find(|it| (it.address, it.port) == (member.address, member.port));
            if let Some(sample) = sample {
                let may_eject = ejected < room && member.is_up;
                if member.ejection.observe(now, sample, &passive, may_eject) {
                    ejected += 1;
                }
            }
            if member.ejection.renew(now) != was_out {
                self.review(place, targets, now, events);
                is_change = true;
            }
        }
        if is_change {
            self.count(now, events);
        }
        is_change
    }

    pub(super) fn standing(&self) -> ServiceStanding {
        let servers = self.members.iter().map(|member| {
            let standing = Standing { is_up: member.is_up, weight: member.weight, limit: member.limit };
            ((member.address, member.port), standing)
        });
        ServiceStanding { has_quorum: self.has_quorum, servers: servers.collect() }
    }

    /// Everything that is up, going down.
    pub(super) fn farewell(&mut self, now: Moment) -> Vec<Event> {
        let mut events = Vec::new();
        for member in self.members.iter().filter(|member| member.is_up) {
            let server = SocketAddr::new(member.address, member.port);
            let change = Change::Server { server, is_up: false, reason: "weir stops".to_owned() };
            let after = now.saturating_sub(member.since);
            events.push(Event::new(&self.name, &self.health, after, change).told_by(member.hooks.as_deref()));
        }
        if self.has_quorum {
            let (weight, quorum) = (0, self.health.quorum.weight);
            let change = Change::Quorum { has_quorum: false, weight, quorum };
            let after = now.saturating_sub(self.quorum_since);
            events.push(Event::new(&self.name, &self.health, after, change));
        }
        events
    }

    pub(super) fn listing(&self, targets: &[Option<Target>], now: Moment) -> ServiceListing {
        let check = |&number: &usize| {
            let target = targets[number].as_ref()?;
            Some(CheckListing {
                what: target.key.describe(),
                verdict: match target.key {
                    Key::Check(..) => Some(target.track.verdict()),
                    Key::Agent(..) | Key::File(_) => None,
                },
                against: target.track.against(),
                last: target.last.clone(),
                counts: target.counts,
            })
        };
        let server = |member: &Member| ServerListing {
            server: SocketAddr::new(member.address, member.port),
            is_up: member.is_up,
            configured_weight: member.configured,
            weight: member.weight.of(member.configured),
            since: now.saturating_sub(member.since),
            changed_at: member.since,
            reason: member.reason.clone(),
            ejections: member.ejection.count(),
            checks: member.targets.iter().filter_map(check).collect(),
        };
        ServiceListing {
            name: self.name.clone(),
            identity: self.identity,
            has_quorum: self.has_quorum,
            quorum: self.health.quorum,
            weight: self.weight(),
            since: now.saturating_sub(self.quorum_since),
            has_sorry_server: self.health.sorry_server.is_some(),
            servers: self.members.iter().map(server).collect(),
        }
    }
}

impl Member {
    fn new(real: &RealServer, now: Moment) -> Self {
        Self {
            address: real.address,
            port: real.port,
            configured: real.weight,
            hooks: real.hooks.clone(),
            targets: Vec::new(),
            is_up: true,
            weight: Weight::Configured,
            limit: Limit::Configured,
            since: now,
            reason: String::new(),
            ejection: Ejection::default(),
            is_known: false,
        }
    }

    /// What a new check of it begins with.
    pub(super) fn known(&self) -> Verdict {
        match (self.is_known, self.is_up) {
            (false, _) => Verdict::Untried,
            // An ejection is not the checks' verdict and ends by itself.
            (true, false) if !self.ejection.was_out() => Verdict::Down,
            (true, _) => Verdict::Up,
        }
    }
}

/// Why a target takes its real servers out, if it does.
fn why_down(target: &Target, alpha: bool, now: Moment) -> Option<String> {
    let what = target.key.describe();
    if target.says_down {
        return Some(format!("{what} says {}", target.complaint));
    }
    let Key::Check(check, _) = &target.key else { return None };
    let is_success = target.last.as_ref().is_some_and(|last| last.outcome == Outcome::Success);
    match target.track.verdict() {
        Verdict::Up => None,
        Verdict::Untried => alpha.then(|| format!("{what} has not succeeded yet")),
        Verdict::Down if !is_success && !target.complaint.is_empty() => {
            let mut text = format!("{what}: {}", target.complaint);
            if let Some(since) = target.doubt_since {
                let seconds = now.saturating_sub(since).as_secs_f64();
                text += &format!(" ({} failures in a row within {seconds:.1} s)", check.fall);
            }
            Some(text)
        }
        Verdict::Down => Some(format!("{what} is failing")),
    }
}

fn why_up<'t>(targets: impl Iterator<Item = &'t Target>) -> String {
    let mut checks = 0;
    let mut untried = 0;
    for target in targets.filter(|target| matches!(target.key, Key::Check(..))) {
        checks += 1;
        untried += usize::from(target.track.verdict() == Verdict::Untried);
    }
    match (checks, untried) {
        (0, _) => "not checked".to_owned(),
        (_, 0) => "every check succeeds".to_owned(),
        _ => "not checked yet".to_owned(),
    }
}
