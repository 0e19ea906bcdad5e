//! Two to five routers on a virtual clock and a bad network: loss, delay, duplication, partition, drifting clocks,
//! routers that crash, stop, start again and do not run for a while. Then the network heals, and the rules must hold.
//!
//! `cargo test` runs a few thousand histories. All of them: `cargo test --release -p weir-vrrp --test simulation --
//! --ignored`; `WEIR_HISTORIES=N` chooses the number and `WEIR_SEED=N` the first. A history that breaks a rule says its
//! seed, and that seed alone is run again with `WEIR_HISTORIES=1`.

mod common;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use common::{all_up, settings4};
use weir_vrrp::auth::{Authentication, password};
use weir_vrrp::machine::State;
use weir_vrrp::packet::{ChecksumForm, Version};
use weir_vrrp::router::{Output, Router, Setup};
use weir_vrrp::settings::Settings;
use weir_vrrp::time::Micros;

/// Frames need at most this long, in microseconds.
const DELAY_MAX: u64 = 20_000;
/// Clocks are off by at most one part in this.
const DRIFT: i64 = 500;
/// A master answers others' advertisements this often at most.
const ANSWER_INTERVAL: u64 = 100_000;
/// How long a history is bad.
const TROUBLE: u64 = 60_000_000;

/// SplitMix64: the same numbers everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// What happens at a moment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Arrives {
        at: usize,
        frame: Vec<u8>,
    },
    /// A router's timer may be due.
    Wakes {
        router: usize,
    },
    Pauses {
        router: usize,
        micros: u64,
    },
    Resumes {
        router: usize,
        paused_at: u64,
    },
    Crashes {
        router: usize,
    },
    Stops {
        router: usize,
    },
    Starts {
        router: usize,
    },
    Splits {
        sides: u64,
    },
    Heals,
}

struct Node {
    settings: Settings,
    router: Option<Router>,
    /// Its clock gains or loses one part in this; 0: it is exact.
    drift: i64,
    /// Frames that came while it did not run.
    waiting: Option<Vec<Vec<u8>>>,
    /// The moment its next wake-up is planned for.
    wakes: u64,
}

impl Node {
    fn clock(&self, now: u64) -> Micros {
        let gain = if self.drift == 0 { 0 } else { now as i64 / self.drift };
        Micros((now as i64 + 10_000_000 + gain) as u64)
    }

    /// The first moment at which its clock shows this or more.
    fn moment(&self, clock: Micros, now: u64) -> u64 {
        let mut moment = now;
        while self.clock(moment) < clock {
            let ahead = clock.0 - self.clock(moment).0;
            // A clock that gains is there a little earlier.
            moment += (ahead - ahead / (DRIFT.unsigned_abs() / 2)).max(1);
        }
        moment
    }

    fn is_master(&self) -> bool {
        self.router.as_ref().is_some_and(|router| router.instances()[0].state() == State::Master)
    }
}

struct World {
    random: Random,
    nodes: Vec<Node>,
    agenda: BinaryHeap<Reverse<(u64, u64, Happening)>>,
    count: u64,
    now: u64,
    /// Which side each router is on, by bit.
    sides: u64,
    loss_percent: u64,
    duplicates: bool,
    is_healed: bool,
    /// Since when there is more than one master.
    many_since: Option<u64>,
    /// The longest such time since the network is quiet.
    longest_many: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let count = 2 + random.below(4) as usize;
        let version = if random.one_in(2) { Version::V2 } else { Version::V3 };
        let interval = match version {
            Version::V2 => Duration::from_secs(1 + random.below(2)),
            Version::V3 => Duration::from_millis([100, 250, 1000, 2000][random.below(4) as usize]),
        };
        let preempts = !random.one_in(4);
        let authentication = match (version, random.below(3)) {
            (Version::V2, 0) => Authentication::Pass(password("secret")),
            (Version::V2, 1) => Authentication::Ah(password("secret")),
            _ => Authentication::None,
        };
        let mixed = version == Version::V3 && random.one_in(2);
        let is_unicast = random.one_in(4);
        // There is one owner at most: it listens to nobody.
        let mut has_owner = false;
        let mut priority = |random: &mut Random| {
            let priority = [100, 100, 150, 200, 254, 1, 255][random.below(7) as usize];
            if priority == 255 && std::mem::replace(&mut has_owner, true) { 253 } else { priority }
        };
        let address = |host: usize| IpAddr::V4(Ipv4Addr::new(192, 168, 200, host as u8 + 1));
        let nodes = (0..count)
            .map(|host| {
                let peers = (0..count).filter(|peer| is_unicast && *peer != host).map(address).collect();
                let slower = if mixed && random.one_in(2) { 2 } else { 1 };
                let settings = Settings {
                    version,
                    interval: interval * slower,
                    preempt: preempts || random.one_in(2),
                    authentication,
                    unicast_peers: peers,
                    checksum: if random.one_in(2) {
                        ChecksumForm::PseudoHeader
                    } else {
                        ChecksumForm::MessageOnly
                    },
                    ..settings4("r", host as u8 + 1, priority(&mut random))
                };
                let drift = [0, DRIFT, -DRIFT][random.below(3) as usize];
                Node { settings, router: None, drift, waiting: None, wakes: u64::MAX }
            })
            .collect();
        let mut world = Self {
            loss_percent: random.below(60),
            duplicates: random.one_in(2),
            random,
            nodes,
            agenda: BinaryHeap::new(),
            count: 0,
            now: 0,
            sides: 0,
            is_healed: false,
            many_since: None,
            longest_many: 0,
        };
        world.plan_trouble();
        world
    }

    fn plan(&mut self, at: u64, happening: Happening) {
        self.count += 1;
        self.agenda.push(Reverse((at, self.count, happening)));
    }

    fn plan_trouble(&mut self) {
        for router in 0..self.nodes.len() {
            let at = self.random.below(5_000_000);
            self.plan(at, Happening::Starts { router });
        }
        for _ in 0..self.random.below(8) {
            let at = self.random.below(TROUBLE);
            let router = self.random.below(self.nodes.len() as u64) as usize;
            let happening = match self.random.below(4) {
                0 => Happening::Splits { sides: self.random.next() },
                1 => Happening::Pauses { router, micros: self.random.below(15_000_000) },
                2 => Happening::Crashes { router },
                _ => Happening::Stops { router },
            };
            if matches!(happening, Happening::Crashes { .. } | Happening::Stops { .. }) {
                let again = (at + self.random.below(20_000_000)).min(TROUBLE);
                self.plan(again, Happening::Starts { router });
            }
            self.plan(at, happening);
        }
        self.plan(TROUBLE, Happening::Heals);
    }

    /// Runs up to a moment.
    fn run_until(&mut self, end: u64) {
        while let Some(Reverse((at, _, _))) = self.agenda.peek()
            && *at <= end
            && let Some(Reverse((at, _, happening))) = self.agenda.pop()
        {
            self.now = at;
            self.happen(happening);
            self.watch();
        }
        self.now = end;
        self.watch();
    }

    /// Measures how long there is more than one master.
    fn watch(&mut self) {
        // A router that does not run serves nothing: its lease ends.
        let masters = self.nodes.iter().filter(|node| node.is_master() && node.waiting.is_none()).count();
        match (masters > 1, self.many_since) {
            (true, None) => self.many_since = Some(self.now),
            (true, Some(since)) => self.longest_many = self.longest_many.max(self.now - since),
            (false, _) => self.many_since = None,
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrives { at, frame } => match &mut self.nodes[at].waiting {
                Some(waiting) => waiting.push(frame),
                None => self.with_router(at, |router, now, out| router.receive(0, &frame, now, out)),
            },
            Happening::Wakes { router } => {
                if self.nodes[router].wakes == self.now && self.nodes[router].waiting.is_none() {
                    self.with_router(router, |router, now, out| router.run(now, out));
                }
            }
            Happening::Pauses { router, micros } => {
                if self.nodes[router].waiting.is_none() {
                    self.nodes[router].waiting = Some(Vec::new());
                    let resumes = (self.now + micros).min(TROUBLE);
                    self.plan(resumes, Happening::Resumes { router, paused_at: self.now });
                }
            }
            Happening::Resumes { router: index, paused_at } => {
                let node = &mut self.nodes[index];
                let frames = node.waiting.take().unwrap_or_default();
                let gap = node.clock(self.now).since(node.clock(paused_at));
                self.with_router(index, |router, now, out| {
                    router.stalled(gap, now, out);
                    // A port's queue is short.
                    frames.iter().rev().take(8).rev().for_each(|frame| router.receive(0, frame, now, out));
                    router.run(now, out);
                });
            }
            Happening::Crashes { router } => self.nodes[router].router = None,
            Happening::Stops { router: index } => {
                self.with_router(index, |router, now, out| router.stop(now, out));
                self.nodes[index].router = None;
            }
            Happening::Starts { router: index } => {
                let node = &mut self.nodes[index];
                if node.router.is_none() && !node.settings.addresses.is_empty() {
                    let settings = node.settings.clone();
                    node.router = Some(Router::new());
                    self.with_router(index, |router, now, out| {
                        let setup = Setup { settings, trackers: Vec::new() };
                        router.configure(vec![setup], &mut all_up, now, out);
                    });
                }
            }
            Happening::Splits { sides } => self.sides = if self.is_healed { 0 } else { sides },
            Happening::Heals => {
                self.is_healed = true;
                self.sides = 0;
            }
        }
    }

    fn with_router(&mut self, index: usize, step: impl FnOnce(&mut Router, Micros, &mut Vec<Output>)) {
        let node = &mut self.nodes[index];
        let clock = node.clock(self.now);
        let mut out = Vec::new();
        let Some(router) = &mut node.router else { return };
        step(router, clock, &mut out);
        if let Some(deadline) = router.deadline() {
            let node = &mut self.nodes[index];
            let wakes = node.moment(deadline, self.now);
            if wakes != node.wakes {
                node.wakes = wakes;
                self.plan(wakes, Happening::Wakes { router: index });
            }
        }
        for output in out {
            if let Output::Advertise { peer, frame, .. } = output {
                self.send(index, peer, &frame);
            }
        }
    }

    fn send(&mut self, from: usize, peer: Option<IpAddr>, frame: &[u8]) {
        for to in 0..self.nodes.len() {
            let is_meant = to != from && peer.is_none_or(|peer| peer == self.nodes[to].settings.source);
            let is_apart = (self.sides >> to ^ self.sides >> from) & 1 == 1;
            if !is_meant || is_apart {
                continue;
            }
            let copies = if self.is_healed {
                1
            } else if self.random.below(100) < self.loss_percent {
                0
            } else {
                1 + u64::from(self.duplicates && self.random.one_in(5))
            };
            for _ in 0..copies {
                let at = self.now + 1 + self.random.below(DELAY_MAX);
                self.plan(at, Happening::Arrives { at: to, frame: frame.to_vec() });
            }
        }
    }

    fn masters(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&index| self.nodes[index].is_master()).collect()
    }
}

/// How long a network may need to settle after it healed: an old advertisement of the slowest master, the longest down
/// interval, the same again when that one is preempted, and clocks that are off.
fn settling(world: &World) -> u64 {
    let slowest = world.nodes.iter().map(|node| node.settings.interval).max().unwrap_or_default();
    // A router's advertisement that overtakes its own resignation costs one more down interval.
    let down = slowest.as_micros() as u64 * 4;
    let settled = 3 * down + 10 * DELAY_MAX;
    settled + settled / DRIFT.unsigned_abs()
}

fn history(seed: u64) {
    let mut world = World::new(seed);
    world.run_until(TROUBLE);
    let settled = TROUBLE + settling(&world);
    world.run_until(settled);
    let alive: Vec<usize> = (0..world.nodes.len()).filter(|&i| world.nodes[i].router.is_some()).collect();
    assert!(!alive.is_empty(), "seed {seed}: everybody was started again");
    let masters = world.masters();
    assert_eq!(masters.len(), 1, "seed {seed}: masters {masters:?} of {alive:?}");
    let priority = |index: usize| world.nodes[index].settings.priority;
    if alive.iter().all(|&index| world.nodes[index].settings.preempt) {
        let highest = alive.iter().map(|&index| priority(index)).max();
        assert_eq!(Some(priority(masters[0])), highest, "seed {seed}: a lower priority keeps it");
    }
    // From now on nothing changes.
    world.longest_many = 0;
    let states = |world: &World| {
        let transitions = world.nodes.iter().flat_map(|node| &node.router);
        transitions.map(|router| router.instances()[0].last_transition()).collect::<Vec<_>>()
    };
    let before = states(&world);
    world.run_until(settled + 30_000_000);
    assert_eq!(states(&world), before, "seed {seed}: a healthy network does not settle");
    assert_eq!(world.longest_many, 0, "seed {seed}: two masters in a healthy network");
}

/// Two masters that hear each other are one within the time of an advertisement.
fn overlap(seed: u64) {
    let mut world = World::new(seed);
    world.run_until(TROUBLE);
    let slowest = world.nodes.iter().map(|node| node.settings.interval).max().unwrap_or_default();
    let interval = slowest.as_micros() as u64;
    world.longest_many = 0;
    world.many_since = None;
    world.run_until(TROUBLE + settling(&world));
    // Each hears the other by its next advertisement. One that is authenticated may take a second round: where more than
    // two claim to be master, their answers bear the same number, and only one of those is taken.
    let is_numbered = matches!(world.nodes[0].settings.authentication, Authentication::Ah(_));
    let rounds = if is_numbered { 2 } else { 1 };
    let limit = rounds * (interval + interval / DRIFT.unsigned_abs() + 4 * DELAY_MAX) + ANSWER_INTERVAL;
    assert!(world.longest_many <= limit, "seed {seed}: two masters for {} of {limit} us", world.longest_many);
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn run(histories: u64) {
    let first = from_environment("WEIR_SEED", 0);
    for seed in first..first + histories {
        history(seed);
        overlap(seed);
    }
}

#[test]
fn every_bad_history_ends_with_one_master() {
    run(from_environment("WEIR_HISTORIES", 2_000));
}

#[test]
#[ignore = "minutes; see the module"]
fn a_hundred_thousand_bad_histories_end_with_one_master() {
    run(from_environment("WEIR_HISTORIES", 100_000));
}
