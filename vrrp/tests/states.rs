//! States and timers of one router, and of two that hear each other at once.

#![allow(clippy::unwrap_used, reason = "helpers of tests as well")]

mod common;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use common::{advertisements, all_up, settings4, started, transitions};
use weir_vrrp::discard::Discard;
use weir_vrrp::machine::{Cause, State, down_interval, skew};
use weir_vrrp::packet::Version;
use weir_vrrp::router::{Output, Router, Setup};
use weir_vrrp::settings::Settings;
use weir_vrrp::time::Micros;
use weir_vrrp::track::{Effect, Reading, Tracked, Tracker};

const SECOND: u64 = 1_000_000;

/// An advertisement as another router sends it.
fn advertisement(settings: Settings) -> Vec<u8> {
    let (_, out) = started([Settings { priority: 255, ..settings.clone() }]);
    let mut frame = advertisements(&out).swap_remove(0);
    let authentic = settings.priority;
    // The message's checksum follows the priority byte: the low half of a word of its own.
    let sum = u16::from_be_bytes([frame[40], frame[41]]);
    let sum = !sum as u32 + u32::from(authentic) * 256 + 0xffff - 255 * 256;
    let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    frame[36] = authentic;
    frame[40..42].copy_from_slice(&sum.to_be_bytes());
    frame
}

fn hear(router: &mut Router, settings: Settings, now: u64) -> Vec<Output> {
    let mut out = Vec::new();
    router.receive(0, &advertisement(settings), Micros(now), &mut out);
    assert!(!out.iter().any(|output| matches!(output, Output::Discarded { .. })), "{out:?}");
    out
}

fn run(router: &mut Router, now: u64) -> Vec<Output> {
    let mut out = Vec::new();
    router.run(Micros(now), &mut out);
    out
}

fn state(router: &Router) -> State {
    router.instances()[0].state()
}

fn deadline(router: &Router) -> u64 {
    router.deadline().unwrap().0
}

#[test]
fn timers_are_not_cut() {
    let second = Duration::from_secs(1);
    for (priority, down) in [
        (100, 3.609375),
        (150, 3.4140625),
        (200, 3.21875),
        (254, 3.0078125),
        (255, 3.00390625),
        (1, 3.99609375),
    ] {
        for version in [Version::V2, Version::V3] {
            assert_eq!(down_interval(version, priority, second), Duration::from_secs_f64(down));
        }
    }
    assert_eq!(skew(Version::V3, 128, Duration::from_millis(10)), Duration::from_millis(5));
    assert_eq!(skew(Version::V2, 128, Duration::from_secs(10)), Duration::from_millis(500));
}

#[test]
fn a_backup_takes_over_from_silence() {
    let (mut router, out) = started([settings4("a", 1, 100)]);
    assert_eq!(transitions(&out), [("a", State::Backup, Cause::Started)]);
    assert_eq!(deadline(&router), 3_609_375);
    assert_eq!(run(&mut router, 3_609_374), []);
    let out = run(&mut router, 3_609_375);
    assert_eq!(transitions(&out), [("a", State::Master, Cause::Silence)]);
    // The advertisement first, then what the data plane has to do, then the announcement.
    let order: Vec<_> = out
        .iter()
        .map(|output| match output {
            Output::Advertise { .. } => 'a',
            Output::Transition { .. } => 't',
            Output::Announce { .. } => 'n',
            _ => '?',
        })
        .collect();
    assert_eq!(order, ['a', 't', 'n']);
    assert_eq!(advertisements(&run(&mut router, 4_609_374)).len(), 0);
    assert_eq!(advertisements(&run(&mut router, 4_609_375)).len(), 1);
}

#[test]
fn an_owner_does_not_wait() {
    let (router, out) = started([settings4("a", 1, 255)]);
    assert_eq!(transitions(&out), [("a", State::Master, Cause::Owner)]);
    assert_eq!(router.instances()[0].lease_end(), Some(Micros(3 * SECOND)));
}

#[test]
fn a_master_that_resigns_is_followed_after_the_skew_time() {
    let (mut router, _) = started([settings4("a", 1, 100)]);
    hear(&mut router, settings4("b", 2, 200), SECOND);
    assert_eq!(deadline(&router), 4_609_375);
    hear(&mut router, settings4("b", 2, 0), 2 * SECOND);
    assert_eq!(deadline(&router), 2_609_375);
    assert_eq!(transitions(&run(&mut router, 2_609_375)), [("a", State::Master, Cause::Resigned)]);
}

#[test]
fn a_lower_priority_is_preempted_and_a_higher_one_obeyed() {
    let (mut router, _) = started([settings4("a", 1, 100)]);
    hear(&mut router, settings4("b", 2, 99), 3 * SECOND);
    assert_eq!(deadline(&router), 3_609_375);
    assert_eq!(transitions(&run(&mut router, 3_609_375)), [("a", State::Master, Cause::Preemption)]);
    let out = hear(&mut router, settings4("b", 2, 99), 4 * SECOND);
    assert_eq!((advertisements(&out).len(), state(&router)), (1, State::Master), "it is told at once");
    let out = hear(&mut router, settings4("b", 2, 99), 4 * SECOND + 99_999);
    assert_eq!(advertisements(&out).len(), 0, "but not for each that it sends");
    let out = hear(&mut router, settings4("b", 2, 101), 5 * SECOND);
    let from = IpAddr::V4(Ipv4Addr::new(192, 168, 200, 2));
    assert_eq!(transitions(&out), [("a", State::Backup, Cause::HigherPriority { priority: 101, from })]);
    assert_eq!(deadline(&router), 5 * SECOND + 3_609_375);
}

#[test]
fn equal_priorities_are_decided_by_address() {
    for (own, stays) in [(1, false), (3, true)] {
        let (mut router, _) = started([settings4("a", own, 100)]);
        run(&mut router, 4 * SECOND);
        hear(&mut router, settings4("b", 2, 100), 5 * SECOND);
        assert_eq!(state(&router) == State::Master, stays);
    }
    // A backup leaves an equal master alone.
    let (mut router, _) = started([settings4("a", 3, 100)]);
    hear(&mut router, settings4("b", 2, 100), 3 * SECOND);
    assert_eq!(deadline(&router), 6_609_375);
}

#[test]
fn without_preemption_a_lower_priority_keeps_it() {
    let (mut router, _) = started([Settings { preempt: false, ..settings4("a", 1, 200) }]);
    hear(&mut router, settings4("b", 2, 100), 3 * SECOND);
    assert_eq!(deadline(&router), 3 * SECOND + 3_218_750);
    hear(&mut router, settings4("b", 2, 0), 4 * SECOND);
    assert_eq!(transitions(&run(&mut router, 5 * SECOND)), [("a", State::Master, Cause::Resigned)]);
}

#[test]
fn the_delay_of_preemption_counts_from_the_first_lower_priority() {
    let delay = Duration::from_secs(10);
    let (mut router, _) = started([Settings { preempt_delay: delay, ..settings4("a", 1, 200) }]);
    let mut now = 0;
    while now < 11 * SECOND {
        now += SECOND;
        hear(&mut router, settings4("b", 2, 100), now);
        assert_eq!(run(&mut router, now), []);
    }
    // Heard first at 1 s, so from 11 s on it is not followed any more: the timer runs from 10 s on.
    assert_eq!(deadline(&router), 10 * SECOND + 3_218_750);
    hear(&mut router, settings4("b", 2, 100), 13 * SECOND);
    assert_eq!(transitions(&run(&mut router, 13_218_750)), [("a", State::Master, Cause::Preemption)]);
    // A master that falls silent is not waited for.
    let (mut router, _) = started([Settings { preempt_delay: delay, ..settings4("a", 1, 200) }]);
    hear(&mut router, settings4("b", 2, 100), SECOND);
    assert_eq!(transitions(&run(&mut router, 4_218_750)), [("a", State::Master, Cause::Silence)]);
}

#[test]
fn version_3_follows_the_masters_interval() {
    let slow = Duration::from_secs(4);
    let v3 = |settings| Settings { version: Version::V3, ..settings };
    let (mut router, _) = started([v3(settings4("a", 1, 128))]);
    hear(&mut router, v3(Settings { interval: slow, ..settings4("b", 2, 200) }), 0);
    assert_eq!(deadline(&router), 14 * SECOND);
    run(&mut router, 14 * SECOND);
    assert_eq!(router.instances()[0].lease_end(), Some(Micros(17 * SECOND)), "its own interval again");
}

#[test]
fn a_stopped_master_says_so() {
    let (mut router, _) = started([settings4("a", 1, 100)]);
    run(&mut router, 4 * SECOND);
    let mut out = Vec::new();
    router.stop(Micros(5 * SECOND), &mut out);
    assert_eq!(advertisements(&out)[0][36], 0);
    assert_eq!(transitions(&out), [("a", State::Initialize, Cause::Stopped)]);
    assert_eq!(router.deadline(), None);
}

#[test]
fn a_master_that_did_not_run_listens_before_it_takes_over_again() {
    let (mut router, _) = started([settings4("a", 1, 100)]);
    run(&mut router, 3_609_375);
    let stalled = |router: &mut Router, gap, now| {
        let mut out = Vec::new();
        router.stalled(Duration::from_micros(gap), Micros(now), &mut out);
        out
    };
    assert_eq!(stalled(&mut router, 2 * SECOND, 6_609_374), []);
    let out = stalled(&mut router, 3 * SECOND, 6_609_375);
    assert_eq!(transitions(&out), [("a", State::Backup, Cause::Stall)]);
    assert_eq!(advertisements(&out).len(), 0, "nothing stale goes out");
    assert_eq!(deadline(&router), 6_609_375 + SECOND + 609_375);
    // A new master of higher priority is obeyed; without one it goes on.
    assert_eq!(transitions(&run(&mut router, 8_218_750)), [("a", State::Master, Cause::Silence)]);
}

#[test]
fn a_backup_that_did_not_run_does_not_take_over_for_it() {
    let (mut router, _) = started([settings4("a", 1, 100)]);
    hear(&mut router, settings4("b", 2, 200), SECOND);
    let mut out = Vec::new();
    router.stalled(Duration::from_millis(200), Micros(4_700_000), &mut out);
    assert_eq!(deadline(&router), 4_609_375 + 200_000);
    hear(&mut router, settings4("b", 2, 200), 5 * SECOND);
    router.stalled(Duration::from_secs(65), Micros(70 * SECOND), &mut out);
    assert_eq!(deadline(&router), 71_609_375, "at most an interval and the skew time from now");
    assert_eq!(out, []);
}

#[test]
fn tracking_changes_the_priority_or_forbids() {
    let setup = |effect| Setup {
        settings: settings4("a", 1, 100),
        trackers: vec![Tracker { what: Tracked::VirtualServer("web".into()), effect }],
    };
    let (mut router, mut out) = (Router::new(), Vec::new());
    router.configure(vec![setup(Effect::Weight(-30))], &mut all_up, Micros(0), &mut out);
    run(&mut router, 4 * SECOND);
    out.clear();
    router.track(&mut |_| Reading::Down, Micros(4 * SECOND + 1), &mut out);
    assert_eq!((advertisements(&out)[0][36], state(&router)), (70, State::Master), "others learn at once");

    let (mut router, mut out) = (Router::new(), Vec::new());
    router.configure(vec![setup(Effect::Fault)], &mut |_| Reading::Down, Micros(0), &mut out);
    assert_eq!(transitions(&out), [("a", State::Fault, Cause::Tracking)]);
    hear(&mut router, settings4("b", 2, 1), SECOND);
    assert_eq!((run(&mut router, 100 * SECOND), router.deadline()), (Vec::new(), None));
    let mut out = Vec::new();
    router.track(&mut all_up, Micros(100 * SECOND), &mut out);
    assert_eq!(transitions(&out), [("a", State::Backup, Cause::Recovered)]);
    run(&mut router, 104 * SECOND);
    out.clear();
    router.track(&mut |_| Reading::Down, Micros(105 * SECOND), &mut out);
    assert_eq!((advertisements(&out)[0][36], state(&router)), (0, State::Fault));
}

#[test]
fn what_is_not_known_yet_keeps_an_instance_and_its_group_from_starting_and_stops_none_that_runs() {
    let setup = |settings, effect| Setup {
        settings,
        trackers: vec![Tracker { what: Tracked::Script("check".into()), effect }],
    };
    let both = || {
        vec![setup(grouped("in", 0, 100), Effect::Fault), setup(grouped("out", 1, 100), Effect::Weight(5))]
    };
    let mut unknown = |_: &Tracked| Reading::Unknown;
    let (mut router, mut out) = (Router::new(), Vec::new());
    router.configure(both(), &mut unknown, Micros(0), &mut out);
    router.track(&mut unknown, Micros(SECOND), &mut out);
    assert_eq!((&out[..], router.deadline()), (&[][..], None));
    router.track(&mut all_up, Micros(2 * SECOND), &mut out);
    let started = [("in", State::Backup, Cause::Started), ("out", State::Backup, Cause::Started)];
    assert_eq!(transitions(&out), started);
    assert_eq!(
        run(&mut router, 6 * SECOND).iter().filter(|it| matches!(it, Output::Transition { .. })).count(),
        2
    );
    // Other scripts after a reload.
    out.clear();
    router.configure(both(), &mut unknown, Micros(7 * SECOND), &mut out);
    assert_eq!((transitions(&out), state(&router)), (Vec::new(), State::Master));
    router.track(&mut |_| Reading::Down, Micros(8 * SECOND), &mut out);
    assert_eq!(state(&router), State::Fault);
    // In fault it waits for what is known.
    router.track(&mut unknown, Micros(9 * SECOND), &mut out);
    assert_eq!(state(&router), State::Fault);
    router.track(&mut all_up, Micros(10 * SECOND), &mut out);
    assert_eq!(state(&router), State::Backup);
}

#[test]
fn a_raised_priority_shortens_the_wait() {
    let tracker = Tracker { what: Tracked::Port(1), effect: Effect::Weight(100) };
    let setup = Setup { settings: settings4("a", 1, 100), trackers: vec![tracker] };
    let (mut router, mut out) = (Router::new(), Vec::new());
    router.configure(vec![setup], &mut |_| Reading::Down, Micros(0), &mut out);
    assert_eq!(deadline(&router), 3_609_375);
    router.track(&mut all_up, Micros(SECOND), &mut out);
    assert_eq!(deadline(&router), 3_218_750);
}

fn grouped(name: &str, port: usize, priority: u8) -> Settings {
    Settings { port, group: Some("g".into()), ..settings4(name, 1, priority) }
}

#[test]
fn a_group_waits_for_all_of_its_members() {
    let (mut router, _) = started([grouped("in", 0, 100), grouped("out", 1, 100)]);
    let mut out = Vec::new();
    router.receive(1, &advertisement(settings4("b", 2, 200)), Micros(SECOND), &mut out);
    assert_eq!(run(&mut router, 4 * SECOND), [], "one of them hears a master");
    let out = run(&mut router, 4_609_375);
    let states: Vec<_> = transitions(&out).into_iter().map(|(name, to, _)| (name, to)).collect();
    assert_eq!(states, [("in", State::Master), ("out", State::Master)]);
    // And leaves together.
    let mut out = Vec::new();
    router.receive(0, &advertisement(settings4("b", 2, 200)), Micros(5 * SECOND), &mut out);
    let states: Vec<_> = transitions(&out).into_iter().map(|(name, to, _)| (name, to)).collect();
    assert_eq!(states, [("in", State::Backup), ("out", State::Backup)]);
    assert_eq!(advertisements(&out).iter().map(|frame| frame[36]).collect::<Vec<_>>(), [100, 0]);
}

#[test]
fn excluded_addresses_are_announced_and_not_advertised() {
    let extra = "192.168.200.18".parse().unwrap();
    let mut settings = settings4("a", 1, 100);
    settings.addresses.push(extra);
    settings.excluded = 1;
    let (mut router, _) = started([settings.clone()]);
    let out = run(&mut router, 4 * SECOND);
    assert_eq!(advertisements(&out)[0], advertisement(settings4("a", 1, 100)));
    let announced = out.iter().filter(|output| matches!(output, Output::Announce { .. })).count();
    assert_eq!(announced, 2, "both");
    // Nor are they missed in what others advertise.
    let mut out = Vec::new();
    router.receive(0, &advertisement(settings4("b", 2, 200)), Micros(4 * SECOND), &mut out);
    assert!(!out.iter().any(|output| matches!(output, Output::AddressMismatch { .. })), "{out:?}");
}

/// The states that groups are said to be in, among those of their members.
fn told(out: &[Output]) -> String {
    let letter = |state: &State| state.name().chars().next().unwrap().to_uppercase().to_string();
    let one = |output: &Output| match output {
        Output::Transition { instance, to, .. } => Some(format!("{instance}{}", letter(to))),
        Output::Group { group, state } => Some(format!("{group}{}", letter(state))),
        _ => None,
    };
    out.iter().filter_map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_group_is_told_of_after_its_members() {
    let (mut router, out) = started([
        grouped("in", 0, 100),
        grouped("out", 1, 100),
        Settings { port: 2, ..settings4("x", 1, 100) },
    ]);
    assert_eq!(told(&out), "inB outB gB xB");
    assert_eq!(told(&run(&mut router, 4 * SECOND)), "xM inM outM gM");
    let mut out = Vec::new();
    router.receive(0, &advertisement(settings4("b", 2, 200)), Micros(5 * SECOND), &mut out);
    assert_eq!(told(&out), "inB outB gB");
    // A group that goes on is not told of again, and one that is taken away never.
    let setup = |settings| Setup { settings, trackers: Vec::new() };
    let both = [grouped("in", 0, 100), grouped("out", 1, 100)].map(setup);
    out.clear();
    router.configure(both.to_vec(), &mut all_up, Micros(6 * SECOND), &mut out);
    assert_eq!(told(&out), "xI");
    out.clear();
    router.stop(Micros(7 * SECOND), &mut out);
    assert_eq!(told(&out), "inI outI gI");
}

#[test]
fn a_fault_of_one_is_a_fault_of_its_group() {
    let own_link = |settings: Settings| {
        let what = Tracked::Port(settings.port);
        Setup { settings, trackers: vec![Tracker { what, effect: Effect::Fault }] }
    };
    let (mut router, mut out) = (Router::new(), Vec::new());
    let setups = vec![own_link(grouped("in", 0, 100)), own_link(grouped("out", 1, 255))];
    router.configure(setups, &mut all_up, Micros(0), &mut out);
    run(&mut router, 4 * SECOND);
    assert!(router.instances().iter().all(|instance| instance.state() == State::Master));
    out.clear();
    let port0_down =
        &mut |tracked: &Tracked| if *tracked == Tracked::Port(0) { Reading::Down } else { Reading::Up };
    router.track(port0_down, Micros(5 * SECOND), &mut out);
    assert_eq!(
        transitions(&out),
        [("in", State::Fault, Cause::Tracking), ("out", State::Fault, Cause::Group)]
    );
    out.clear();
    router.track(&mut all_up, Micros(6 * SECOND), &mut out);
    assert!(router.instances().iter().all(|instance| instance.state() == State::Backup));
    run(&mut router, 10 * SECOND);
    assert!(router.instances().iter().all(|instance| instance.state() == State::Master));
}

#[test]
fn what_a_reload_leaves_alone_keeps_its_state() {
    let setup = |settings| Setup { settings, trackers: Vec::new() };
    let (mut router, _) = started([settings4("a", 1, 100)]);
    run(&mut router, 4 * SECOND);
    let sent = router.instances()[0].counters().sent;
    let mut out = Vec::new();
    let other = Settings { virtual_router_id: 52, ..settings4("b", 1, 100) };
    let setups = vec![setup(other), setup(Settings { priority: 120, ..settings4("a", 1, 100) })];
    router.configure(setups, &mut all_up, Micros(4 * SECOND), &mut out);
    assert_eq!(transitions(&out), [("b", State::Backup, Cause::Started)]);
    let [_, a] = router.instances() else { panic!() };
    assert_eq!((a.state(), a.priority(), a.counters().sent), (State::Master, 120, sent + 1));
    // What is another virtual router now stops and starts.
    out.clear();
    let other = setup(Settings { virtual_router_id: 9, ..settings4("a", 1, 100) });
    router.configure(vec![other], &mut all_up, Micros(5 * SECOND), &mut out);
    let states: Vec<_> = transitions(&out).into_iter().map(|(name, to, _)| (name, to)).collect();
    assert_eq!(states, [("b", State::Initialize), ("a", State::Initialize), ("a", State::Backup)]);
}

#[test]
fn a_claim_is_answered_by_the_master_and_not_more_than_once_a_second() {
    let (mut router, _) = started([settings4("a", 1, 100)]);
    run(&mut router, 4 * SECOND);
    let vip = router.instances()[0].settings().addresses[0];
    let claim = |router: &mut Router, address, now| {
        let mut out = Vec::new();
        router.claimed(0, address, Micros(now), &mut out);
        out.len()
    };
    assert_eq!(claim(&mut router, vip, 4 * SECOND), 1);
    assert_eq!(claim(&mut router, vip, 5 * SECOND - 1), 0);
    assert_eq!(claim(&mut router, vip, 5 * SECOND), 1);
    assert_eq!(claim(&mut router, IpAddr::V4(Ipv4Addr::LOCALHOST), 5 * SECOND), 0);
    assert_eq!(router.instances()[0].counters().defences, 2);
    hear(&mut router, settings4("b", 9, 255), 6 * SECOND);
    assert_eq!((state(&router), claim(&mut router, vip, 9 * SECOND)), (State::Backup, 0));
}

#[test]
fn an_owner_believes_nobody() {
    let (mut router, _) = started([settings4("a", 1, 255)]);
    let mut out = Vec::new();
    for (priority, now) in [(255, SECOND), (255, 2 * SECOND), (0, 3 * SECOND), (100, 4 * SECOND)] {
        router.receive(0, &advertisement(settings4("b", 9, priority)), Micros(now), &mut out);
        assert_eq!(state(&router), State::Master);
    }
    assert_eq!(transitions(&out), [], "RFC 9568 section 7.1: the owner discards");
    let refused = &router.instances()[0].counters().discarded;
    assert_eq!((refused[Discard::Owner as usize], refused.iter().sum::<u64>()), (4, 4));
    assert_eq!(router.instances()[0].counters().received, 0);
    // Who spoke for the addresses may have announced them too.
    assert!(router.deadline().unwrap().0 <= 4 * SECOND);
    // Without a right to be master it does not take over for what it hears either.
    let (mut router, _) = started([grouped("in", 0, 255), grouped("out", 1, 100)]);
    router.receive(0, &advertisement(settings4("b", 9, 100)), Micros(SECOND), &mut out);
    assert_eq!(state(&router), State::Backup);
}

#[test]
fn a_delay_of_the_start_is_waited_for_unless_a_master_is_heard() {
    let delay = Duration::from_secs(30);
    let slow = || Settings { startup_delay: delay, preempt: false, ..settings4("a", 1, 200) };
    let (mut router, _) = started([slow()]);
    assert_eq!(deadline(&router), 30 * SECOND);
    // The port hears at last: from here on it is as ever.
    hear(&mut router, settings4("b", 2, 100), 5 * SECOND);
    assert_eq!(deadline(&router), 5 * SECOND + 3_218_750);
    // An owner waits as well, and takes over then.
    let (mut router, out) = started([Settings { priority: 255, ..slow() }]);
    assert_eq!(transitions(&out), [("a", State::Backup, Cause::Started)]);
    assert_eq!(transitions(&run(&mut router, 30 * SECOND)), [("a", State::Master, Cause::Owner)]);
}

#[test]
fn a_link_that_came_is_listened_to_for_a_down_interval_and_the_delay() {
    for (startup_delay, waits) in [(0, 3_218_750), (3, 3_218_750), (10, 10 * SECOND)] {
        let startup_delay = Duration::from_secs(startup_delay);
        let settings = Settings { startup_delay, preempt: false, ..settings4("a", 1, 200) };
        let tracker = Tracker { what: Tracked::Port(0), effect: Effect::Fault };
        let setup = Setup { settings, trackers: vec![tracker] };
        let (mut router, mut out) = (Router::new(), Vec::new());
        router.configure(vec![setup], &mut |_| Reading::Down, Micros(0), &mut out);
        router.track(&mut all_up, Micros(20 * SECOND), &mut out);
        assert_eq!(deadline(&router), 20 * SECOND + waits);
    }
}
