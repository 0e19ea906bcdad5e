//! Two routers on one wire whose files change: groups that come together, names that change, splits that heal.

#![allow(clippy::unwrap_used, reason = "helpers of tests as well")]

mod common;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use common::{all_up, settings4};
use weir_vrrp::machine::State;
use weir_vrrp::packet::Version;
use weir_vrrp::router::{Output, Router, Setup};
use weir_vrrp::settings::{Announce, Settings};
use weir_vrrp::time::Micros;

const SECOND: u64 = 1_000_000;
/// How long a frame is under way.
const DELAY: u64 = 200;

/// Routers that hear each other, and what they announced.
struct Wire {
    routers: Vec<Router>,
    now: u64,
    is_split: bool,
    /// Arrival, receiver, port, frame.
    under_way: Vec<(u64, usize, usize, Vec<u8>)>,
    /// When, and who.
    announced: Vec<(u64, usize)>,
    /// When, who, which instance, into which state.
    changes: Vec<(u64, usize, String, State)>,
}

impl Wire {
    fn new(files: Vec<Vec<Settings>>) -> Self {
        let routers = files.iter().map(|_| Router::new()).collect();
        let mut wire = Self {
            routers,
            now: 0,
            is_split: false,
            under_way: Vec::new(),
            announced: Vec::new(),
            changes: Vec::new(),
        };
        for (who, file) in files.into_iter().enumerate() {
            wire.reload(who, file);
        }
        wire
    }

    fn reload(&mut self, who: usize, file: Vec<Settings>) {
        let setups = file.into_iter().map(|settings| Setup { settings, trackers: Vec::new() }).collect();
        let mut out = Vec::new();
        self.routers[who].configure(setups, &mut all_up, Micros(self.now), &mut out);
        self.carry_out(who, out);
    }

    fn carry_out(&mut self, who: usize, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Advertise { port, frame, .. } if !self.is_split => {
                    let others = (0..self.routers.len()).filter(|other| *other != who);
                    self.under_way.extend(others.map(|other| (self.now + DELAY, other, port, frame.clone())));
                }
                Output::Announce { .. } => self.announced.push((self.now, who)),
                Output::Transition { instance, to, .. } => {
                    self.changes.push((self.now, who, instance, to));
                }
                _ => {}
            }
        }
    }

    /// Lets so many microseconds pass.
    fn pass(&mut self, micros: u64) {
        let end = self.now + micros;
        loop {
            let arrival = self.under_way.iter().map(|(at, ..)| *at).min();
            let timers = self.routers.iter().filter_map(Router::deadline).map(|deadline| deadline.0).min();
            let next = [arrival, timers].into_iter().flatten().min().unwrap_or(u64::MAX);
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            if let Some(place) = self.under_way.iter().position(|(at, ..)| *at <= self.now) {
                let (_, who, port, frame) = self.under_way.remove(place);
                let mut out = Vec::new();
                self.routers[who].receive(port, &frame, Micros(self.now), &mut out);
                self.carry_out(who, out);
            }
            for who in 0..self.routers.len() {
                let mut out = Vec::new();
                self.routers[who].run(Micros(self.now), &mut out);
                self.carry_out(who, out);
            }
        }
        self.now = end;
    }

    fn states(&self, who: usize) -> Vec<State> {
        self.routers[who].instances().iter().map(|instance| instance.state()).collect()
    }
}

/// An instance: its name, port, host and priority. The VRID follows from the port.
fn instance(name: &str, port: usize, host: u8, priority: u8) -> Settings {
    Settings {
        port,
        virtual_router_id: 51 + port as u8,
        addresses: vec![IpAddr::V4(Ipv4Addr::new(192, 168, 200, 17 + port as u8))],
        ..settings4(name, host, priority)
    }
}

fn grouped(name: &str, port: usize, host: u8, priority: u8) -> Settings {
    Settings { group: Some("g".into()), ..instance(name, port, host, priority) }
}

use State::{Backup, Master};

#[test]
fn a_group_that_a_reload_makes_of_two_halves_is_master_on_one_side_alone() {
    // The priorities of the halves as they were, or one for each director.
    for [a_out, a_in, b_out, b_in] in [[200, 100, 100, 200], [200, 200, 100, 100], [100, 100, 200, 200]] {
        for later in [0, 1_000, 300_000, 900_000, 2 * SECOND] {
            let mut wire =
                Wire::new(vec![vec![instance("out", 0, 1, 200), instance("in", 1, 1, 100)], vec![]]);
            wire.pass(SECOND / 3);
            wire.reload(1, vec![instance("out", 0, 2, 100), instance("in", 1, 2, 200)]);
            wire.pass(10 * SECOND);
            assert_eq!([wire.states(0), wire.states(1)], [[Master, Backup], [Backup, Master]]);
            wire.reload(0, vec![grouped("out", 0, 1, a_out), grouped("in", 1, 1, a_in)]);
            wire.pass(later);
            wire.reload(1, vec![grouped("out", 0, 2, b_out), grouped("in", 1, 2, b_in)]);
            wire.pass(10 * SECOND);
            let both = [wire.states(0), wire.states(1)];
            assert!(both.contains(&vec![Master, Master]) && both.contains(&vec![Backup, Backup]), "{both:?}");
        }
    }
}

#[test]
fn a_group_that_is_split_on_one_director_alone_lets_go_of_what_it_has() {
    let mut wire = Wire::new(vec![
        vec![instance("out", 0, 1, 200), instance("in", 1, 1, 100)],
        vec![instance("out", 0, 2, 100), instance("in", 1, 2, 200)],
    ]);
    wire.pass(10 * SECOND);
    wire.reload(0, vec![grouped("out", 0, 1, 150), grouped("in", 1, 1, 150)]);
    wire.pass(10 * SECOND);
    // The other one has no group, and a higher priority for one of the two: it has both.
    assert_eq!([wire.states(0), wire.states(1)], [[Backup, Backup], [Master, Master]]);
}

#[test]
fn an_instance_that_joins_a_master_group_costs_nothing_unless_another_router_has_it() {
    let with_new = || vec![grouped("out", 0, 1, 150), grouped("in", 1, 1, 150)];
    let mut wire = Wire::new(vec![vec![grouped("out", 0, 1, 150)], vec![instance("in", 1, 2, 200)]]);
    wire.pass(10 * SECOND);
    assert_eq!([wire.states(0), wire.states(1)], [[Master], [Master]]);
    wire.reload(0, with_new());
    wire.pass(2 * SECOND);
    assert_eq!(wire.states(0), [Backup, Backup], "together or not at all");
    wire.pass(20 * SECOND);
    assert_eq!(wire.states(0), [Backup, Backup]);
    // And when the other one goes it has both.
    wire.reload(1, Vec::new());
    wire.pass(10 * SECOND);
    assert_eq!(wire.states(0), [Master, Master]);

    let mut wire = Wire::new(vec![vec![grouped("out", 0, 1, 150)]]);
    wire.pass(10 * SECOND);
    wire.changes.clear();
    wire.reload(0, with_new());
    wire.pass(10 * SECOND);
    assert_eq!(wire.states(0), [Master, Master]);
    assert!(wire.changes.iter().all(|(_, _, name, _)| name == "in"), "{:?}", wire.changes);
}

#[test]
fn a_group_that_two_masters_join_with_a_backup_that_waits_is_master_without_a_gap() {
    // "in" has waited for a partner in a group of its own that never wanted: here it just listens.
    let mut wire = Wire::new(vec![vec![instance("out", 0, 1, 150), instance("in", 1, 1, 150)]]);
    wire.pass(10 * SECOND);
    wire.changes.clear();
    wire.reload(0, vec![grouped("out", 0, 1, 150), grouped("in", 1, 1, 150)]);
    wire.pass(10 * SECOND);
    assert_eq!((wire.states(0), wire.changes), (vec![Master, Master], Vec::new()));
}

#[test]
fn a_new_name_costs_nothing() {
    let mut wire = Wire::new(vec![vec![instance("old", 0, 1, 150)], vec![instance("b", 0, 2, 100)]]);
    wire.pass(10 * SECOND);
    let sent = wire.routers[0].instances()[0].counters().sent;
    wire.changes.clear();
    wire.reload(0, vec![instance("new", 0, 1, 150)]);
    wire.pass(5 * SECOND);
    assert_eq!((wire.states(0), wire.states(1), &wire.changes), (vec![Master], vec![Backup], &Vec::new()));
    let renamed = &wire.routers[0].instances()[0];
    assert_eq!((renamed.settings().name.as_str(), renamed.counters().sent), ("new", sent + 5));
    // Two that change their names with each other stay what they are.
    let mut wire = Wire::new(vec![
        vec![instance("a", 0, 1, 150), instance("b", 1, 1, 90)],
        vec![instance("b", 1, 2, 100)],
    ]);
    wire.pass(10 * SECOND);
    wire.changes.clear();
    wire.reload(0, vec![instance("b", 0, 1, 150), instance("a", 1, 1, 90)]);
    wire.pass(5 * SECOND);
    assert_eq!((wire.states(0), &wire.changes), (vec![Master, Backup], &Vec::new()));
}

#[test]
fn another_version_is_spoken_by_the_same_instance() {
    let mut wire = Wire::new(vec![vec![instance("a", 0, 1, 150)], vec![instance("b", 0, 2, 100)]]);
    wire.pass(10 * SECOND);
    wire.changes.clear();
    let v3 = |settings| Settings { version: Version::V3, ..settings };
    wire.reload(0, vec![v3(instance("a", 0, 1, 150))]);
    wire.reload(1, vec![v3(instance("b", 0, 2, 100))]);
    wire.pass(10 * SECOND);
    assert_eq!((wire.states(0), &wire.changes), (vec![Master], &Vec::new()));
    assert_eq!(wire.routers[1].instances()[0].counters().discarded.iter().sum::<u64>(), 0);
}

/// The winner announces its addresses after the other one has stopped answering for them, whoever hears whom first.
#[test]
fn when_a_split_heals_the_one_that_stays_announces_after_the_other_has_let_go() {
    for phase in (0..SECOND).step_by(50_000) {
        let quiet = Announce { delay: Duration::from_secs(1), ..Announce::default() };
        let one =
            |name: &str, host, priority| Settings { announce: quiet, ..instance(name, 0, host, priority) };
        let mut wire = Wire::new(vec![vec![one("a", 1, 200)], vec![one("b", 2, 100)]]);
        wire.is_split = true;
        // Their beats lie apart by what the split's beginning makes of it.
        wire.reload(1, Vec::new());
        wire.pass(10 * SECOND + phase);
        wire.reload(1, vec![one("b", 2, 100)]);
        wire.pass(20 * SECOND);
        assert_eq!([wire.states(0), wire.states(1)], [[Master], [Master]]);
        wire.is_split = false;
        (wire.announced, wire.changes) = (Vec::new(), Vec::new());
        wire.pass(3 * SECOND);
        assert_eq!([wire.states(0), wire.states(1)], [[Master], [Backup]]);
        let gone = wire.changes.iter().find(|(_, who, ..)| *who == 1).unwrap().0;
        let after = wire.announced.iter().find(|(at, who)| *who == 0 && *at >= gone);
        let after = after.unwrap_or_else(|| panic!("{phase}: nothing was announced after {gone}")).0;
        assert!(after - gone < 1_100_000, "{phase}: {} us later", after - gone);
    }
}

#[test]
fn the_one_that_stays_announces_again_when_the_other_stops() {
    let mut wire = Wire::new(vec![vec![instance("a", 0, 1, 200)], vec![instance("b", 0, 2, 100)]]);
    wire.is_split = true;
    wire.pass(20 * SECOND);
    assert_eq!([wire.states(0), wire.states(1)], [[Master], [Master]]);
    wire.is_split = false;
    wire.announced.clear();
    // A clean stop before either has heard the other.
    wire.reload(1, Vec::new());
    wire.pass(SECOND / 2);
    assert!(wire.announced.iter().any(|(_, who)| *who == 0), "it says that it stops, so it was master");
}
