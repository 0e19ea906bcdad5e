//! Picks from long lists are those of a walk through the whole list.

use std::cell::Cell;

use weir_config::model::{Config, Forwarding, Protocol};

use super::*;
use crate::conn::record::ServerId;
use crate::conn::state::State;
use crate::conn::state::tcp::{CLOSE, ESTABLISHED};
use crate::sched::{Options, PickKey, least};
use crate::snapshot::Snapshot;
use crate::snapshot::registry::tests::Dice;
use crate::snapshot::registry::{Change, Progress, Registry};
use crate::snapshot::service::Service;
use crate::wire::ethernet::MacAddress;

const WORKERS: usize = 2;

/// What a list says at this moment, and how often its counts were asked for.
struct Plain(Vec<(u32, bool, u32, u32)>, Cell<usize>);

impl Plain {
    fn of(service: &Service, snapshot: &Snapshot) -> Self {
        let of = |id: ServerId| {
            let server = snapshot.server(id);
            let live = &server.live;
            let is_overloaded = server.upper_threshold != 0 && server.is_overloaded();
            (u32::from(server.weight), is_overloaded, live.active(), live.inactive())
        };
        Self(service.list.iter().map(|candidate| of(candidate.id)).collect(), Cell::new(0))
    }
}

impl Servers for Plain {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn weight(&self, index: usize) -> u32 {
        self.0[index].0
    }
    fn overloaded(&self, index: usize) -> bool {
        self.0[index].1
    }
    fn active(&self, index: usize) -> u32 {
        self.1.set(self.1.get() + 1);
        self.0[index].2
    }
    fn inactive(&self, index: usize) -> u32 {
        self.0[index].3
    }
}

/// A virtual server with these real servers, some with thresholds.
fn config(kind: Kind, servers: std::ops::Range<usize>, dice: &mut Dice) -> Config {
    config_of(kind, servers, true, dice)
}

fn config_of(kind: Kind, servers: std::ops::Range<usize>, has_thresholds: bool, dice: &mut Dice) -> Config {
    let mut text = format!(
        "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/8\"]\n\
         [[virtual_server]]\nname = \"web\"\naddress = \"10.9.9.9\"\nport = 80\nscheduler = \"{}\"\n",
        kind.name()
    );
    let few_weights = dice.below(2) == 0;
    for number in servers {
        let weight = if few_weights { 1 + dice.below(2) } else { dice.below(60) };
        text += &format!(
            "[[virtual_server.real_server]]\naddress = \"10.1.{}.{}\"\nweight = {weight}\n",
            number / 200,
            1 + number % 200
        );
        if has_thresholds && dice.below(3) == 0 {
            text += &format!("upper_threshold = {}\n", 1 + dice.below(6));
        }
    }
    weir_config::parse("test", &text).unwrap_or_else(|report| panic!("{report}")).config
}

/// The real servers of the one virtual server, the snapshot that each worker has, and connections: worker, server, whether active.
struct Site {
    registry: Registry,
    newest: Snapshot,
    snapshots: [Snapshot; WORKERS],
    connections: Vec<(usize, ServerId, bool)>,
}

fn state(is_active: bool) -> State {
    if is_active { ESTABLISHED } else { CLOSE }
}

impl Site {
    fn new(config: &Config) -> Self {
        let mut registry = Registry::new(WORKERS, Options::default());
        let newest = registry.snapshot(config, &[MacAddress([2; 6])], Progress::default()).unwrap();
        let snapshots = std::array::from_fn(|_| newest.clone());
        let mut site = Self { registry, newest, snapshots, connections: Vec::new() };
        (0..WORKERS).for_each(|worker| site.adopt(worker));
        site
    }

    /// Makes the next snapshot, which no worker has yet.
    fn publish(&mut self, config: &Config) {
        // No number is given back: connections may name any.
        self.newest = self.registry.snapshot(config, &[MacAddress([2; 6])], Progress::default()).unwrap();
    }

    /// The same, with numbers given back that no worker needs.
    fn publish_thriftily(&mut self, config: &Config) {
        let seen = self.snapshots.iter().map(|snapshot| snapshot.generation).min().unwrap_or_default();
        let progress = Progress { seen, ..Progress::default() };
        self.newest = self.registry.snapshot(config, &[MacAddress([2; 6])], progress).unwrap();
    }

    /// The same as verdicts make it, which leave all but the one virtual server as it is.
    fn amend(&mut self, wanted: &Config, file: &Config) {
        let changed = Change::put_all(&wanted.virtual_servers);
        self.newest =
            self.registry.amend(self.newest.clone(), &changed, file).unwrap().expect("it is no mark");
    }

    fn adopt(&mut self, worker: usize) {
        self.snapshots[worker] = self.newest.clone();
        self.snapshots[worker].adopted_by(worker);
    }

    fn reload(&mut self, config: &Config) {
        self.publish(config);
        (0..WORKERS).for_each(|worker| self.adopt(worker));
    }

    fn service_of(&self, worker: usize) -> &Service {
        self.snapshots[worker].services().next().expect("a virtual server")
    }

    /// A connection is made, moves or ends.
    fn step(&mut self, dice: &mut Dice) {
        match dice.below(5) {
            0 | 1 => {
                let (worker, is_active) = (dice.below(WORKERS), dice.below(2) == 0);
                let list = &self.service_of(worker).list;
                let id = list[dice.below(list.len())].id;
                self.snapshots[worker].server(id).bind(worker, Protocol::Tcp, state(is_active));
                self.connections.push((worker, id, is_active));
            }
            2 if !self.connections.is_empty() => {
                let at = dice.below(self.connections.len());
                let (worker, id, is_active) = &mut self.connections[at];
                let (from, to) = (state(*is_active), state(!*is_active));
                self.snapshots[*worker].server(*id).change(*worker, Protocol::Tcp, from, to);
                *is_active = !*is_active;
            }
            _ if !self.connections.is_empty() => {
                let at = dice.below(self.connections.len());
                let (worker, id, is_active) = self.connections.swap_remove(at);
                self.snapshots[worker].server(id).unbind(worker, Protocol::Tcp, state(is_active));
            }
            _ => (),
        }
    }

    /// Some worker picks what a walk finds; and connects to it.
    fn pick(&mut self, dice: &mut Dice) {
        let worker = dice.below(WORKERS);
        let (service, snapshot) = (self.service_of(worker), &self.snapshots[worker]);
        let Some(ranks) = &service.ranks else { return };
        let plain = Plain::of(service, snapshot);
        let wanted = least(&plain, 0..plain.len(), ranks.measure).map(|(place, _)| place);
        assert!(ranks.least(worker, &plain).is_none_or(|found| found == wanted));
        if ranks.seeks_plenty {
            let found = ranks.some_have_plenty(worker, &plain);
            assert!(found.is_none_or(|found| found == plain.some_have_plenty()));
            return;
        }
        let address = std::net::IpAddr::from([10, 0, 0, 9]);
        let key = PickKey { source: address, destination: address, source_port: 1, now_secs: 1 };
        let picked = service.pick(snapshot, worker, &key);
        assert_eq!(picked, wanted.map(|place| service.list[place].id));
        if let Some(id) = picked {
            snapshot.server(id).bind(worker, Protocol::Tcp, CLOSE);
            self.connections.push((worker, id, false));
        }
    }

    /// How many servers' counts the next pick of a worker asks for; `None`: it walks the list.
    fn looks(&self, worker: usize) -> Option<usize> {
        let service = self.service_of(worker);
        let plain = Plain::of(service, &self.snapshots[worker]);
        service.ranks.as_ref()?.least(worker, &plain)?;
        Some(plain.1.get())
    }
}

#[test]
fn picks_are_those_of_a_walk_through_the_list() {
    let mut dice = Dice(0x5eed_0001);
    for kind in [Kind::Lc, Kind::Wlc, Kind::Sed, Kind::Nq, Kind::Lblc, Kind::Lblcr] {
        for len in [SHORT_MAX + 1, 32, 65, 300] {
            let mut site = Site::new(&config(kind, 0..len, &mut dice));
            for _ in 0..6 {
                for _ in 0..400 {
                    // Now and then more than a ring holds.
                    let steps = if dice.below(50) == 0 { 100 } else { 1 };
                    (0..steps).for_each(|_| site.step(&mut dice));
                    site.pick(&mut dice);
                }
                assert!(site.looks(0).is_some() && site.looks(1).is_some(), "{len} servers");
                // Some leave, some come, some return; others have another weight or threshold.
                let first = dice.below(40);
                let last = first + SHORT_MAX + 1 + dice.below(len);
                site.reload(&config(kind, first..last, &mut dice));
            }
        }
    }
}

#[test]
fn picks_are_those_of_a_walk_while_a_worker_has_a_former_list_or_method() {
    let mut dice = Dice(0x5eed_0002);
    let kinds = [Kind::Wlc, Kind::Rr, Kind::Lc, Kind::Wlc, Kind::Sed, Kind::Nq, Kind::Mh];
    let mut site = Site::new(&config_of(Kind::Wlc, 0..5, false, &mut dice));
    let mut ranked = 0;
    for _ in 0..300 {
        let kind = kinds[dice.below(kinds.len())];
        let first = dice.below(20);
        let len = [1 + dice.below(SHORT_MAX), 20, 60, 200][dice.below(4)];
        site.publish(&config_of(kind, first..first + len, false, &mut dice));
        for worker in [0, 1, 0, 1] {
            for _ in 0..dice.below(20) {
                site.step(&mut dice);
                site.pick(&mut dice);
            }
            if dice.below(3) != 0 {
                site.adopt(worker);
            }
        }
        ranked += usize::from(site.looks(0).is_some());
    }
    assert!(ranked > 50, "{ranked}");
}

/// What verdicts leave of a file: some real servers are gone, some quiesced, some weigh something else, some are reached otherwise,
/// though no verdict does that.
fn verdicts(file: &Config, dice: &mut Dice) -> Config {
    let mut config = file.clone();
    let reals = &mut config.virtual_servers[0].real_servers;
    let (gone, changed) = (1 + dice.below(9), 1 + dice.below(9));
    reals.retain(|_| dice.below(gone) == 0 || dice.below(4) != 0);
    for real in reals {
        if dice.below(changed) != 0 {
            continue;
        }
        match dice.below(4) {
            0 => real.weight = 0,
            1 => real.weight = dice.below(60) as u16,
            2 => real.forwarding = Forwarding::Tun,
            _ => real.upper_threshold = dice.below(8) as u32,
        }
    }
    config
}

#[test]
fn picks_are_those_of_a_walk_through_edits_verdicts_and_numbers_that_come_back() {
    let mut dice = Dice(0x5eed_0007);
    for kind in [Kind::Lc, Kind::Wlc, Kind::Sed, Kind::Nq] {
        let mut file = config(kind, 0..40, &mut dice);
        let mut site = Site::new(&file);
        let mut ranked = 0;
        for _ in 0..200 {
            match dice.below(4) {
                0 => {
                    let first = dice.below(80);
                    file = config(kind, first..first + SHORT_MAX + dice.below(60), &mut dice);
                    site.publish_thriftily(&file);
                }
                1 => site.publish_thriftily(&verdicts(&file, &mut dice)),
                _ => site.amend(&verdicts(&file, &mut dice), &file),
            }
            // A flag that control takes away is news to a worker with the former list.
            (0..WORKERS).for_each(|worker| site.adopt(worker));
            for _ in 0..40 {
                (0..dice.below(4)).for_each(|_| site.step(&mut dice));
                site.pick(&mut dice);
            }
            ranked += usize::from(site.looks(0).is_some());
        }
        assert!(ranked > 100, "{ranked}");
    }
}

#[test]
fn a_list_is_ranked_whole_however_it_came_to_be_long() {
    let mut dice = Dice(0x5eed_0003);
    let mut site = Site::new(&config(Kind::Wlc, 0..1, &mut dice));
    for len in 2..400 {
        site.reload(&config(Kind::Wlc, 0..len, &mut dice));
        assert_eq!(site.looks(1).is_some(), len > SHORT_MAX, "{len} servers");
        site.step(&mut dice);
        if len > SHORT_MAX {
            assert!(site.looks(1) <= Some(1), "{len} servers");
        }
    }
}

#[test]
fn a_pick_asks_for_the_counts_of_servers_that_changed() {
    let mut dice = Dice(0x5eed_0004);
    let site = Site::new(&config_of(Kind::Wlc, 0..320, false, &mut dice));
    let bind = |worker: usize, place: usize| {
        let server = site.snapshots[worker].server(site.service_of(worker).list[place].id);
        server.bind(worker, Protocol::Tcp, ESTABLISHED);
    };
    // Each worker looks at all of them once.
    assert!(site.looks(0).is_some_and(|looks| looks > 300));
    assert_eq!(site.looks(0), Some(0));
    bind(0, 7);
    bind(1, 200);
    assert_eq!(site.looks(0), Some(2));
    assert!(site.looks(1).is_some_and(|looks| looks > 300));
    assert_eq!((site.looks(0), site.looks(1)), (Some(0), Some(0)));
    // Who is far behind looks at all of them.
    (0..200).for_each(|place| bind(1, place));
    assert!(site.looks(0).is_some_and(|looks| looks > 300));
    assert_eq!(site.looks(0), Some(0));
}

#[test]
fn a_list_is_walked_until_every_worker_has_come_to_it() {
    let mut dice = Dice(0x5eed_0005);
    let long = |kind, dice: &mut Dice| config_of(kind, 0..100, false, dice);
    let mut site = Site::new(&long(Kind::Rr, &mut dice));
    site.publish(&long(Kind::Wlc, &mut dice));
    site.adopt(0);
    assert_eq!(site.looks(0), None);
    // The other one does what nobody notes.
    let server = site.snapshots[1].server(site.service_of(1).list[50].id);
    server.bind(1, Protocol::Tcp, ESTABLISHED);
    assert_eq!(site.looks(0), None);
    site.adopt(1);
    assert!(site.looks(0).is_some_and(|looks| looks > 90));
    // An edit costs nobody that.
    site.publish(&long(Kind::Wlc, &mut dice));
    site.adopt(0);
    assert!(site.looks(0).is_some());
}
