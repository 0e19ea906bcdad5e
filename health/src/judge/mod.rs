//! Who is up: targets, real servers, quorums. No socket, no thread, no clock.
//!
//! * A [`target`] is a check of an address. Equal ones are one, and its [`track`] counts its answers.
//! * A real server is up while none of its checks has the verdict "down" (with `alpha`: while all have the verdict "up"), its
//!   agent or file does not say "down", and it is not ejected ([`passive`]).
//! * A virtual server has its quorum while the weights of those that are up add up to enough, with hysteresis.
//!
//! Invariants:
//! 1. One check of a target is under way at a time, and each target is either under way or in the queue, once.
//! 2. A new configuration leaves alone what it has in common with the old one: targets that stay keep their verdict and their
//!    next time, and an answer to a target that is gone changes nothing.
//! 3. An event is made for every change of what [`Judge::overlay`] says of a server being up or a quorum, and for nothing else.

mod edit;
mod listing;
pub mod passive;
mod random;
mod service;
pub mod target;
#[cfg(test)]
mod tests;
pub mod track;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use weir_config::model::health::{Hooks, ServerHooks, ServiceHealth};
use weir_config::model::{Config, Identity};

use crate::overlay::{Limit, Overlay, ServiceStanding, Weight};
pub use listing::{CheckListing, ServerListing, ServiceListing};
use passive::Sample;
use random::Random;
use service::Service;
use target::{Key, Target};
use track::Verdict;

/// Time since some fixed moment that all calls have in common.
pub type Moment = Duration;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// As it should.
    Success,
    /// The host refuses connections, or answers that there is no such port.
    Refused,
    /// There is no way to the host.
    Unreachable,
    /// A stage took too long.
    Timeout,
    /// The answer broke off.
    Closed,
    /// TLS did not come about.
    Tls,
    /// An answer came that is not the one expected.
    Unexpected,
    /// The check itself could not be made.
    Error,
}

impl Outcome {
    /// All of them, in the order of their numbers.
    pub const ALL: [Outcome; 8] = [
        Outcome::Success,
        Outcome::Refused,
        Outcome::Unreachable,
        Outcome::Timeout,
        Outcome::Closed,
        Outcome::Tls,
        Outcome::Unexpected,
        Outcome::Error,
    ];

    /// The label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::Refused => "refused",
            Outcome::Unreachable => "unreachable",
            Outcome::Timeout => "timeout",
            Outcome::Closed => "closed",
            Outcome::Tls => "tls",
            Outcome::Unexpected => "unexpected",
            Outcome::Error => "error",
        }
    }
}

/// What came of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// How it went.
    pub outcome: Outcome,
    /// In words, for people: `status 500, expected 200-299`.
    pub detail: String,
    /// How long it took.
    pub took: Duration,
    /// The weight that the answer tells; `None`: it tells none.
    pub weight: Option<Weight>,
    /// How many connections the server takes, by the answer; `None`: it does not say.
    pub limit: Option<Limit>,
    /// Whether an agent or a file says that the server is down; `None`: it does not say.
    pub says_down: Option<bool>,
}

impl Answer {
    /// One that tells no weight.
    pub fn new(outcome: Outcome, detail: impl Into<String>, took: Duration) -> Self {
        Self { outcome, detail: detail.into(), took, weight: None, limit: None, says_down: None }
    }
}

/// Names a target for as long as it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TargetId {
    number: usize,
    life: u32,
}

/// A check to be made now.
#[derive(Debug, Clone)]
pub struct Due {
    /// To be given back with the answer.
    pub id: TargetId,
    /// What is checked.
    pub key: Key,
    /// How late it is.
    pub lateness: Duration,
}

/// Something changed.
#[derive(Debug, Clone)]
pub struct Event {
    /// The virtual server's name.
    pub virtual_server: String,
    /// Its hooks.
    pub hooks: Hooks,
    /// What changed.
    pub change: Change,
    /// How long it had been as it was.
    pub after: Duration,
}

/// See [`Event`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A real server went up or down.
    Server {
        /// Its address and port.
        server: SocketAddr,
        /// How it is now.
        is_up: bool,
        /// Why, in words.
        reason: String,
    },
    /// An agent or a file changed a weight.
    Weight {
        /// Its address and port.
        server: SocketAddr,
        /// As it was.
        from: u16,
        /// As it is now.
        to: u16,
        /// Who said so.
        source: String,
    },
    /// An agent or a file changed how many connections a real server takes.
    Limit {
        /// Its address and port.
        server: SocketAddr,
        /// As it is now.
        limit: Limit,
        /// Who said so.
        source: String,
    },
    /// The quorum was gained or lost.
    Quorum {
        /// How it is now.
        has_quorum: bool,
        /// Sum of the weights of those that are up.
        weight: u64,
        /// What it is measured by.
        quorum: u32,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Judge {
    services: Vec<Service>,
    /// By number; `None`: free.
    targets: Vec<Option<Target>>,
    /// Numbers that may be used again.
    free: Vec<usize>,
    numbers: HashMap<Key, usize>,
    queue: BinaryHeap<Reverse<(Moment, usize, u32)>>,
    random: Random,
    lives: u32,
    configurations: u64,
    events: Vec<Event>,
    standings: HashMap<Identity, Arc<ServiceStanding>>,
    news: News,
}

/// What changed since somebody asked last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct News {
    /// [`Judge::overlay`] says something else now.
    pub overlay: bool,
    /// [`Judge::quorums`] says something else now.
    pub quorums: bool,
}

impl Judge {
    /// Without anything to check. `seed` spreads checks over time.
    pub fn new(seed: u64) -> Self {
        Self {
            services: Vec::new(),
            targets: Vec::new(),
            free: Vec::new(),
            numbers: HashMap::new(),
            queue: BinaryHeap::new(),
            random: Random::new(seed),
            lives: 0,
            configurations: 0,
            events: Vec::new(),
            standings: HashMap::new(),
            news: News::default(),
        }
    }

    /// Takes over a configuration: what is new is checked after its warm-up, what is gone is forgotten.
    pub fn configure(&mut self, config: &Config, now: Moment) {
        self.configurations += 1;
        let mut old: HashMap<_, Service> =
            std::mem::take(&mut self.services).into_iter().map(|it| (it.identity, it)).collect();
        for target in self.targets.iter_mut().flatten() {
            target.members.clear();
        }
        for (number, file) in config.virtual_servers.iter().enumerate() {
            self.services.push(Service::new(file, old.remove(&file.identity()), now));
            self.attach(number, file, now);
        }
        (0..self.targets.len()).for_each(|number| self.forget_if_left(number));
        for service in &mut self.services {
            service.settle(&self.targets, now, &mut self.events);
        }
        let present: HashSet<Identity> = self.services.iter().map(|service| service.identity).collect();
        let before = self.standings.len();
        self.standings.retain(|identity, _| present.contains(identity));
        self.news.overlay |= self.standings.len() != before;
        (0..self.services.len()).for_each(|number| self.stand(number));
        // One may have another name.
        self.news.quorums = true;
    }

    /// Takes down where a virtual server stands now.
    fn stand(&mut self, number: usize) {
        let service = &self.services[number];
        let now = service.standing();
        let known = self.standings.get(&service.identity);
        if known.is_none_or(|known| **known != now) {
            self.news.overlay = true;
            self.news.quorums |= known.is_none_or(|known| known.has_quorum != now.has_quorum);
            self.standings.insert(service.identity, Arc::new(now));
        }
    }

    /// The number of the target with this key, made if there is none. A new one of a real server that is `known` begins with
    /// its verdict: to change a check brings no dead server back, and takes no living one out.
    fn target(&mut self, key: Key, known: Verdict, now: Moment) -> usize {
        if let Some(&number) = self.numbers.get(&key) {
            return number;
        }
        let number = self.free.pop().unwrap_or(self.targets.len());
        self.lives = self.lives.wrapping_add(1);
        let due = now + key.warmup(&mut self.random);
        let target = Target::new(key.clone(), self.lives, known, due);
        self.queue.push(Reverse((due, number, self.lives)));
        self.numbers.insert(key, number);
        match self.targets.get_mut(number) {
            Some(free) => *free = Some(target),
            None => self.targets.push(Some(target)),
        }
        number
    }

    /// Forgets a target that nobody looks at any more.
    fn forget_if_left(&mut self, number: usize) {
        let place = &mut self.targets[number];
        if let Some(gone) = place.take_if(|target| target.members.is_empty()) {
            self.numbers.remove(&gone.key);
            self.free.push(number);
        }
    }

    /// Moves every check by this much: nothing could be made so far.
    pub fn postpone(&mut self, by: Duration) {
        for target in self.targets.iter_mut().flatten() {
            target.due += by;
        }
        let later = |Reverse((due, number, life))| Reverse((due + by, number, life));
        self.queue = std::mem::take(&mut self.queue).into_iter().map(later).collect();
    }

    /// When the next check is due; `None`: all are under way, or there is none.
    pub fn next_due(&mut self) -> Option<Moment> {
        while let Some(Reverse((due, number, life))) = self.queue.peek().copied() {
            if self.targets[number].as_ref().is_some_and(|target| target.life == life) {
                return Some(due);
            }
            self.queue.pop();
        }
        None
    }

    /// The next check to be made, if one is due. It is under way from then on.
    pub fn begin(&mut self, now: Moment) -> Option<Due> {
        let due = self.next_due().filter(|due| *due <= now)?;
        let Reverse((_, number, life)) = self.queue.pop()?;
        let target = self.targets[number].as_mut()?;
        target.is_under_way = true;
        // The next one is counted from when this one was due, or lateness would add up and targets that were late together
        // stay together. Times that were missed altogether are left out: nothing is made up for after a stall.
        target.due = target.last_due(now);
        Some(Due { id: TargetId { number, life }, key: target.key.clone(), lateness: now - due })
    }

    /// Takes in what came of a check. True: [`Judge::overlay`] may say something else now.
    pub fn answer(&mut self, id: TargetId, now: Moment, answer: Answer) -> bool {
        let known = self.targets.get_mut(id.number).and_then(Option::as_mut);
        let Some(target) = known.filter(|target| target.life == id.life && target.is_under_way) else {
            return false;
        };
        let took = answer.took;
        let is_change = target.answer(now, answer);
        target.is_under_way = false;
        let pause = target.pause(&mut self.random);
        let next = target.due + pause;
        // One that took longer than its interval is followed by the next at once. An answer that was only heard late leaves its
        // target the place that it had: all that were heard late together would be made together from then on.
        target.due = if took < pause { next } else { next.max(now) };
        self.queue.push(Reverse((target.due, id.number, id.life)));
        if !is_change {
            return false;
        }
        let members = target.members.clone();
        for (number, place) in members {
            let service = &mut self.services[number];
            service.review(place, &self.targets, now, &mut self.events);
            service.count(now, &mut self.events);
            self.stand(number);
        }
        // The doubt that led here is over.
        if let Some(target) = &mut self.targets[id.number]
            && !target.track.is_in_doubt()
        {
            target.doubt_since = None;
        }
        true
    }

    /// What a target is, in a few words; `None`: it is gone.
    pub fn describe(&self, id: TargetId) -> Option<String> {
        let target = self.targets.get(id.number)?.as_ref().filter(|target| target.life == id.life)?;
        Some(target.key.describe())
    }

    /// Takes in what the data plane counted for the real servers of virtual servers with passive health. True:
    /// [`Judge::overlay`] may say something else now. To be called about once a second, also without samples, so that ejections end.
    pub fn observe(&mut self, now: Moment, samples: &[Sample]) -> bool {
        let mut is_change = false;
        let mut by_service: HashMap<_, Vec<&Sample>> = HashMap::new();
        for sample in samples {
            by_service.entry(sample.service).or_default().push(sample);
        }
        for number in 0..self.services.len() {
            let service = &mut self.services[number];
            if service.health.passive.is_none() {
                continue;
            }
            let seen = by_service.get(&service.identity).map(Vec::as_slice).unwrap_or_default();
            if service.observe(now, seen, &self.targets, &mut self.events) {
                is_change = true;
                self.stand(number);
            }
        }
        is_change
    }

    /// What changed since the last call, in order.
    pub fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// What changed since the last call.
    pub fn news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    /// The verdicts now.
    pub fn overlay(&self) -> Overlay {
        Overlay { services: self.standings.clone() }
    }

    /// Virtual servers by name, with whether each has its quorum.
    pub fn quorums(&self) -> impl Iterator<Item = (&str, bool)> {
        self.services.iter().map(|service| (service.name.as_str(), service.has_quorum))
    }

    /// The events of a stop: with `omega` all that is up goes down.
    pub fn farewell(&mut self, now: Moment) -> Vec<Event> {
        let services = self.services.iter_mut().filter(|service| service.health.omega);
        services.flat_map(|service| service.farewell(now)).collect()
    }

    /// Everything that is known, in the order of the file.
    pub fn listing(&self, now: Moment) -> Vec<ServiceListing> {
        self.listing_of(0..self.services.len(), now)
    }

    /// As [`Judge::listing`], of some virtual servers, by their place in the file.
    pub fn listing_of(&self, places: std::ops::Range<usize>, now: Moment) -> Vec<ServiceListing> {
        let services = self.services.iter().skip(places.start).take(places.len());
        services.map(|service| service.listing(&self.targets, now)).collect()
    }

    /// Counts configurations.
    pub fn configurations(&self) -> u64 {
        self.configurations
    }

    /// How many targets there are.
    pub fn target_count(&self) -> usize {
        self.numbers.len()
    }

    /// How many checks are under way.
    pub fn under_way(&self) -> usize {
        self.targets.iter().flatten().filter(|target| target.is_under_way).count()
    }
}

impl Event {
    fn new(name: &str, health: &Arc<ServiceHealth>, after: Duration, change: Change) -> Self {
        Self { virtual_server: name.to_owned(), hooks: health.hooks.clone(), change, after }
    }

    /// With the hooks of the real server that it is about, where it has some.
    fn told_by(mut self, own: Option<&ServerHooks>) -> Self {
        if let Some(ServerHooks { up, down }) = own {
            if !up.is_empty() {
                self.hooks.up = up.clone();
            }
            if !down.is_empty() {
                self.hooks.down = down.clone();
            }
        }
        self
    }
}
