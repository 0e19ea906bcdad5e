//! What is refused, with which reason, and that nothing refused touches a timer.

mod common;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use common::{advertisements, settings4, started};
use weir_vrrp::auth::{Authentication, password};
use weir_vrrp::discard::Discard;
use weir_vrrp::packet::{ChecksumForm, Version};
use weir_vrrp::router::{Output, Router};
use weir_vrrp::settings::Settings;
use weir_vrrp::time::Micros;

/// The first frame of an owner with these settings.
fn frame_of(settings: Settings) -> Vec<u8> {
    advertisements(&started([Settings { priority: 255, ..settings }]).1).swap_remove(0)
}

/// What a backup with these settings says to a frame, and whether it moved a timer.
fn judged(settings: Settings, frame: &[u8]) -> (Option<Discard>, bool) {
    let (mut router, _) = started([settings]);
    let before = router.deadline();
    let mut out = Vec::new();
    router.receive(0, frame, Micros(1_000_000), &mut out);
    let reason = out.iter().find_map(|output| match output {
        Output::Discarded { reason, .. } => Some(*reason),
        _ => None,
    });
    let counted = router.instances()[0].counters().discarded;
    let on_port: u64 = router.discarded().flat_map(|(_, counts)| counts).sum();
    assert_eq!(counted.iter().sum::<u64>() + on_port, u64::from(reason.is_some()));
    (reason, router.deadline() != before)
}

/// Computes the checksums anew of an IPv4 frame without authentication header.
fn mend(frame: &mut [u8]) {
    let sum = |bytes: &[u8]| {
        let mut sum: u32 =
            bytes.chunks(2).map(|p| u32::from(p[0]) << 8 | u32::from(p.get(1).copied().unwrap_or(0))).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (!(sum as u16)).to_be_bytes()
    };
    frame[24..26].fill(0);
    let ip = sum(&frame[14..34]);
    frame[24..26].copy_from_slice(&ip);
    frame[40..42].fill(0);
    let message = sum(&frame[34..]);
    frame[40..42].copy_from_slice(&message);
}

#[test]
fn each_rule_has_its_reason() {
    let ours = || settings4("b", 2, 100);
    let theirs = || settings4("a", 1, 200);
    let pass = |word| Authentication::Pass(password(word));
    let ah = |word| Authentication::Ah(password(word));
    let with = |settings: Settings, authentication| Settings { authentication, ..settings };
    let second = Duration::from_secs(2);
    let version3 = |settings| Settings { version: Version::V3, ..settings };
    let peers = |settings, host| {
        let peer = IpAddr::V4(Ipv4Addr::new(192, 168, 200, host));
        Settings { unicast_peers: vec![peer], ..settings }
    };
    for (sent, wanted, ours) in [
        (theirs(), None, ours()),
        (Settings { virtual_router_id: 52, ..theirs() }, Some(Discard::UnknownRouter), ours()),
        (settings4("a", 2, 200), Some(Discard::OwnAddress), ours()),
        (with(theirs(), pass("1111")), Some(Discard::AuthenticationType), ours()),
        (theirs(), Some(Discard::AuthenticationType), with(ours(), pass("1111"))),
        (theirs(), Some(Discard::AuthenticationType), with(ours(), ah("1111"))),
        (with(theirs(), ah("1111")), Some(Discard::AuthenticationType), ours()),
        (with(theirs(), pass("1112")), Some(Discard::AuthenticationData), with(ours(), pass("1111"))),
        (with(theirs(), ah("1112")), Some(Discard::AuthenticationData), with(ours(), ah("1111"))),
        (version3(theirs()), Some(Discard::Version), ours()),
        (theirs(), Some(Discard::Version), version3(ours())),
        (Settings { interval: second, ..theirs() }, Some(Discard::Interval), ours()),
        (Settings { interval: second, ..version3(theirs()) }, None, version3(ours())),
        (Settings { checksum: ChecksumForm::MessageOnly, ..version3(theirs()) }, None, version3(ours())),
        (peers(theirs(), 2), Some(Discard::Destination), ours()),
        (theirs(), Some(Discard::Destination), peers(ours(), 1)),
        (peers(theirs(), 2), Some(Discard::Peer), peers(ours(), 3)),
        (peers(theirs(), 2), None, peers(ours(), 1)),
        (peers(theirs(), 2), Some(Discard::Ttl), Settings { ttl_max: 254, ..peers(ours(), 1) }),
        (peers(theirs(), 2), None, Settings { ttl_min: 255, ..peers(ours(), 1) }),
    ] {
        let frame = frame_of(sent.clone());
        assert_eq!(judged(ours, &frame), (wanted, wanted.is_none()), "{sent:?}");
    }
}

#[test]
fn broken_bytes_have_their_reason() {
    let whole = frame_of(settings4("a", 1, 200));
    let change = |mend_it: bool, change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = whole.clone();
        change(&mut frame);
        if mend_it {
            mend(&mut frame);
        }
        judged(settings4("b", 2, 100), &frame).0
    };
    let set = |at: usize, byte: u8| move |frame: &mut Vec<u8>| frame[at] = byte;
    assert_eq!(change(true, &set(22, 255)), None);
    assert_eq!(change(true, &set(22, 254)), Some(Discard::Ttl));
    assert_eq!(change(true, &set(36, 255)), None);
    assert_eq!(change(true, &set(34, 0x22)), Some(Discard::Type));
    assert_eq!(change(true, &set(34, 0x41)), Some(Discard::Version));
    assert_eq!(change(true, &set(37, 2)), Some(Discard::Length));
    assert_eq!(change(true, &set(37, 0)), Some(Discard::Length));
    assert_eq!(change(false, &set(41, 0)), Some(Discard::Checksum));
    assert_eq!(change(false, &set(24, 0)), Some(Discard::Malformed));
    assert_eq!(change(true, &set(20, 0x20)), Some(Discard::Malformed));
    assert_eq!(change(true, &set(23, 113)), Some(Discard::Malformed));
    assert_eq!(change(false, &|frame| frame.truncate(40)), Some(Discard::Malformed));
    // Frames are padded to what the wire carries.
    assert_eq!(change(false, &|frame| frame.resize(60, 0xaa)), None);
}

#[test]
fn a_peer_that_is_farther_away_than_it_should_be_is_not_believed() {
    let peer = |host| vec![IpAddr::V4(Ipv4Addr::new(192, 168, 200, host))];
    let mut frame = frame_of(Settings { unicast_peers: peer(2), ..settings4("a", 1, 200) });
    for (ttl, ttl_min, wanted) in
        [(1, 0, None), (1, 255, Some(Discard::Ttl)), (253, 254, Some(Discard::Ttl)), (254, 254, None)]
    {
        frame[22] = ttl;
        mend(&mut frame);
        let ours = Settings { unicast_peers: peer(1), ttl_min, ..settings4("b", 2, 100) };
        assert_eq!(judged(ours, &frame).0, wanted, "{ttl}, at least {ttl_min}");
    }
}

#[test]
fn what_was_sent_once_is_not_accepted_twice() {
    let key = Authentication::Ah(password("secret"));
    let (mut master, out) = started([Settings { authentication: key, ..settings4("a", 1, 255) }]);
    let mut frames = advertisements(&out);
    let mut out = Vec::new();
    master.run(Micros(1_000_000), &mut out);
    frames.extend(advertisements(&out));
    let (mut backup, _) = started([Settings { authentication: key, ..settings4("b", 2, 100) }]);
    let mut hear = |frame: &[u8]| {
        let mut out = Vec::new();
        backup.receive(0, frame, Micros(0), &mut out);
        match out[..] {
            [] => None,
            [Output::Discarded { reason, .. }] => Some(reason),
            _ => panic!("{out:?}"),
        }
    };
    assert_eq!(hear(&frames[0]), None);
    assert_eq!(hear(&frames[0]), Some(Discard::Replay));
    assert_eq!(hear(&frames[1]), None);
    assert_eq!(hear(&frames[0]), Some(Discard::Replay));
    let mut forged = frames[1].clone();
    forged[14 + 20 + 11] = 9;
    assert_eq!(hear(&forged), Some(Discard::AuthenticationData));
}

#[test]
fn what_was_recorded_before_a_restart_is_not_accepted_after_it() {
    let key = Authentication::Ah(password("secret"));
    let (mut master, mut out) = started([Settings { authentication: key, ..settings4("a", 1, 255) }]);
    for second in 1..10 {
        master.run(Micros(second * 1_000_000), &mut out);
    }
    let recorded = advertisements(&out);
    for (first_sequence, believed) in [(0, 10), (5, 5), (10, 0)] {
        let ours = Settings { authentication: key, first_sequence, ..settings4("b", 2, 100) };
        let (mut backup, _) = started([ours]);
        for frame in &recorded {
            backup.receive(0, frame, Micros(0), &mut Vec::new());
        }
        let counters = backup.instances()[0].counters();
        assert_eq!(
            (counters.received, counters.discarded[Discard::Replay as usize]),
            (believed, 10 - believed)
        );
        assert_eq!(backup.instances()[0].sequence(), 10);
    }
}

#[test]
fn a_router_that_takes_over_counts_on() {
    let with_key = |host, priority| {
        let key = Authentication::Ah(password("secret"));
        Settings { authentication: key, ..settings4("x", host, priority) }
    };
    let (mut first, mut out) = started([with_key(1, 255)]);
    for second in 1..100 {
        first.run(Micros(second * 1_000_000), &mut out);
    }
    let (mut second, _) = started([with_key(2, 100)]);
    let mut sent = advertisements(&out);
    second.receive(0, &sent.pop().unwrap(), Micros(0), &mut Vec::new());
    let mut out = Vec::new();
    second.run(Micros(10_000_000), &mut out);
    let number = |frame: &[u8]| u32::from_be_bytes(frame[42..46].try_into().unwrap());
    assert_eq!(number(&advertisements(&out)[0]), 101);
}

#[test]
fn other_addresses_are_reported_and_accepted() {
    let other = vec![IpAddr::V4(Ipv4Addr::new(192, 168, 200, 18))];
    let frame = frame_of(Settings { addresses: other, ..settings4("a", 1, 200) });
    let (mut router, _) = started([settings4("b", 2, 100)]);
    let mut out = Vec::new();
    router.receive(0, &frame, Micros(0), &mut out);
    assert!(matches!(out[..], [Output::AddressMismatch { .. }]), "{out:?}");
    assert_eq!(router.instances()[0].counters().address_mismatches, 1);
    assert_eq!(router.instances()[0].counters().received, 1);
}

#[test]
fn a_flood_of_refused_advertisements_does_not_keep_a_backup_waiting() {
    let forged = frame_of(Settings { interval: Duration::from_secs(9), ..settings4("a", 1, 200) });
    let (mut router, _) = started([settings4("b", 2, 100)]);
    let mut out = Vec::new();
    for now in (0..3_700_000).step_by(1_000) {
        router.receive(0, &forged, Micros(now), &mut out);
        router.run(Micros(now), &mut out);
    }
    assert_eq!(router.instances()[0].state(), weir_vrrp::machine::State::Master);
    assert_eq!(router.instances()[0].last_transition(), Micros(3_610_000));
}

#[test]
fn no_bytes_upset_a_router() {
    let instances = || {
        let ah = Settings { authentication: Authentication::Ah(password("x")), ..settings4("ah", 2, 100) };
        let v6 = Settings {
            name: "v6".into(),
            version: Version::V3,
            source: "fe80::1".parse().unwrap(),
            addresses: vec!["fe80::5:1".parse().unwrap()],
            ..settings4("v6", 2, 100)
        };
        [ah, v6]
    };
    let seed =
        frame_of(Settings { authentication: Authentication::Ah(password("x")), ..settings4("a", 1, 200) });
    bolero::check!().with_type::<(Vec<u8>, Vec<(u8, u8)>)>().for_each(|(bytes, changes)| {
        let (mut router, mut out): (Router, _) = started(instances());
        router.receive(0, bytes, Micros(1), &mut out);
        let mut frame = seed.clone();
        for (at, byte) in changes {
            let at = usize::from(*at) % frame.len();
            frame[at] = *byte;
        }
        router.receive(0, &frame, Micros(1), &mut out);
    });
}

#[test]
fn copies_for_several_peers_bear_one_number() {
    let peers = [2, 3, 4].map(|host| IpAddr::V4(Ipv4Addr::new(192, 168, 200, host))).to_vec();
    let key = Authentication::Ah(password("secret"));
    let settings = Settings { unicast_peers: peers, authentication: key, ..settings4("a", 1, 255) };
    let frames = advertisements(&started([settings]).1);
    let numbers: Vec<&[u8]> = frames.iter().map(|frame| &frame[42..46]).collect();
    assert_eq!(numbers, [[0, 0, 0, 1]; 3]);
}
