//! Picks from long lists are those of a walk through the whole list.

use weir_config::model::{Config, Protocol};

use super::*;
use crate::conn::record::ServerId;
use crate::conn::state::tcp::{CLOSE, ESTABLISHED};
use crate::sched::{Options, PickKey};
use crate::snapshot::Snapshot;
use crate::snapshot::registry::tests::Dice;
use crate::snapshot::registry::{Progress, Registry};
use crate::snapshot::service::Service;
use crate::wire::ethernet::MacAddress;

const WORKERS: usize = 2;

/// What a list says at this moment.
struct Plain(Vec<(u32, bool, u32, u32)>);

impl Plain {
    fn of(service: &Service, snapshot: &Snapshot) -> Self {
        let of = |id: ServerId| {
            let server = snapshot.server(id);
            let live = &server.live;
            let is_overloaded = server.upper_threshold != 0 && server.is_overloaded();
            (u32::from(server.weight), is_overloaded, live.active(), live.inactive())
        };
        Self(service.list.iter().map(|candidate| of(candidate.id)).collect())
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
        self.0[index].2
    }
    fn inactive(&self, index: usize) -> u32 {
        self.0[index].3
    }
}

/// A virtual server with this many real servers, the first of them not the first of all.
fn config(kind: Kind, servers: std::ops::Range<usize>, dice: &mut Dice) -> Config {
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
        if dice.below(3) == 0 {
            text += &format!("upper_threshold = {}\n", 1 + dice.below(6));
        }
    }
    weir_config::parse("test", &text).unwrap_or_else(|report| panic!("{report}")).config
}

/// The real servers of the one virtual server, the snapshot that workers have, and connections: worker, server, whether active.
struct Site {
    registry: Registry,
    snapshot: Snapshot,
    connections: Vec<(usize, ServerId, bool)>,
}

impl Site {
    fn new(config: &Config) -> Self {
        let mut registry = Registry::new(WORKERS, Options::default());
        let snapshot = registry.snapshot(config, &[MacAddress([2; 6])], Progress::default()).unwrap();
        Self { registry, snapshot, connections: Vec::new() }
    }

    fn reload(&mut self, config: &Config) {
        // No number is given back: connections may name any.
        self.snapshot = self.registry.snapshot(config, &[MacAddress([2; 6])], Progress::default()).unwrap();
    }

    fn service(&self) -> &Service {
        self.snapshot.services().next().expect("a virtual server")
    }

    /// A connection is made, moves or ends.
    fn step(&mut self, dice: &mut Dice) {
        let state = |is_active| if is_active { ESTABLISHED } else { CLOSE };
        match dice.below(5) {
            0 | 1 => {
                let list = &self.service().list;
                let server = list[dice.below(list.len())].id;
                let connection = (dice.below(WORKERS), server, dice.below(2) == 0);
                let (worker, id, is_active) = connection;
                self.snapshot.server(id).bind(worker, Protocol::Tcp, state(is_active));
                self.connections.push(connection);
            }
            2 if !self.connections.is_empty() => {
                let at = dice.below(self.connections.len());
                let (worker, id, is_active) = &mut self.connections[at];
                let (from, to) = (state(*is_active), state(!*is_active));
                self.snapshot.server(*id).change(*worker, Protocol::Tcp, from, to);
                *is_active = !*is_active;
            }
            _ if !self.connections.is_empty() => {
                let at = dice.below(self.connections.len());
                let (worker, id, is_active) = self.connections.swap_remove(at);
                self.snapshot.server(id).unbind(worker, Protocol::Tcp, state(is_active));
            }
            _ => (),
        }
    }

    /// Either worker picks what a walk finds; and connects to it.
    fn pick(&mut self, kind: Kind, dice: &mut Dice) {
        let worker = dice.below(WORKERS);
        let service = self.service();
        let plain = Plain::of(service, &self.snapshot);
        let measure = Measure::of(kind).expect("it has one");
        let wanted = least(&plain, 0..plain.len(), measure).map(|(place, _)| service.list[place].id);
        if let Some(ranks) = &service.ranks {
            let found = ranks.least(worker, &plain).map(|place| service.list[place].id);
            assert_eq!(found, wanted);
            if matches!(kind, Kind::Lblc | Kind::Lblcr) {
                assert_eq!(ranks.some_have_plenty(worker, &plain), plain.some_have_plenty());
            }
        }
        if matches!(kind, Kind::Lblc | Kind::Lblcr) {
            return;
        }
        let address = std::net::IpAddr::from([10, 0, 0, 9]);
        let key = PickKey { source: address, destination: address, source_port: 1, now_secs: 1 };
        let picked = service.pick(&self.snapshot, worker, &key);
        assert_eq!(picked, wanted, "{}", kind.name());
        if let Some(id) = picked {
            self.snapshot.server(id).bind(worker, Protocol::Tcp, CLOSE);
            self.connections.push((worker, id, false));
        }
    }
}

#[test]
fn picks_are_those_of_a_walk_through_the_list() {
    let mut dice = Dice(0x5eed_0001);
    for kind in [Kind::Lc, Kind::Wlc, Kind::Sed, Kind::Nq, Kind::Lblc, Kind::Lblcr] {
        for len in [49, 64, 65, 300] {
            let mut site = Site::new(&config(kind, 0..len, &mut dice));
            assert!(site.service().ranks.is_some(), "{len} servers");
            for _ in 0..6 {
                for _ in 0..400 {
                    site.step(&mut dice);
                    site.pick(kind, &mut dice);
                }
                // Some leave, some come, some return; others have another weight or threshold.
                let first = dice.below(40);
                let last = first + 1 + dice.below(len);
                site.reload(&config(kind, first..last, &mut dice));
            }
        }
    }
}

#[test]
fn a_list_that_grows_and_a_method_that_changes_keep_to_the_walk() {
    let mut dice = Dice(0x5eed_0002);
    let mut site = Site::new(&config(Kind::Wlc, 0..20, &mut dice));
    assert!(site.service().ranks.is_none(), "a short list");
    for (kind, len) in [
        (Kind::Wlc, 30),
        (Kind::Wlc, 200),
        (Kind::Nq, 210),
        (Kind::Rr, 210),
        (Kind::Lc, 220),
        (Kind::Sed, 40),
        (Kind::Wlc, 100),
    ] {
        site.reload(&config(kind, 0..len, &mut dice));
        for _ in 0..500 {
            site.step(&mut dice);
            if Measure::of(kind).is_some() {
                site.pick(kind, &mut dice);
            }
        }
    }
    let loose = site.service().list.iter().filter(|one| site.snapshot.server(one.id).live.block.is_none());
    assert_eq!(loose.count(), 30, "those that came while the list was short");
}

#[test]
fn blocks_have_their_number_of_servers_and_are_filled_again() {
    let seats = Seats::beside(std::iter::empty(), LOOSE_MAX, 1);
    assert!(seats.is_none());
    let mut seats = Seats::beside(std::iter::empty(), 100, 1).unwrap();
    let taken: Vec<_> = (0..100).map(|_| seats.take()).collect();
    let sizes: Vec<usize> = taken.chunk_by(Arc::ptr_eq).map(<[_]>::len).collect();
    assert_eq!(sizes, [BLOCK_LEN, BLOCK_LEN, BLOCK_LEN, 4]);
    // Ten of the first block leave.
    let mut seats = Seats::beside(taken[10..].iter(), 200, 1).unwrap();
    let of_first = (0..10 + BLOCK_LEN).filter(|_| Arc::ptr_eq(&seats.take(), &taken[10])).count();
    assert_eq!(of_first, 10);
}

#[test]
fn a_pick_looks_through_no_block_in_which_nothing_changed() {
    let mut dice = Dice(0x5eed_0003);
    let site = Site::new(&config(Kind::Wlc, 0..320, &mut dice));
    let service = site.service();
    let ranks = service.ranks.as_ref().unwrap();
    let mut plain = Plain::of(service, &site.snapshot);
    assert!(ranks.least(0, &plain).is_some());
    // Nobody has said that these counts changed.
    plain.0.iter_mut().for_each(|server| server.1 = true);
    assert!(ranks.least(0, &plain).is_some());
    let changed = site.snapshot.server(service.list[7].id);
    changed.bind(0, Protocol::Tcp, ESTABLISHED);
    assert!(ranks.least(0, &plain).is_some(), "of the nine others");
    assert!(ranks.least(1, &plain).is_none(), "the other worker looks for itself");
}
