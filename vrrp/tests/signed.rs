//! Trailers behind advertisements: their bytes, who believes whom, and what a change of keys does.

#![allow(clippy::unwrap_used, reason = "helpers of tests as well")]

mod common;

use std::net::IpAddr;
use std::time::Duration;

use common::{advertisements, all_up, hex, settings4, transitions};
use weir_vrrp::auth::Authentication;
use weir_vrrp::discard::Discard;
use weir_vrrp::machine::State;
use weir_vrrp::packet::{Advertisement, ChecksumForm, Version};
use weir_vrrp::router::{Output, Router, Setup};
use weir_vrrp::settings::Settings;
use weir_vrrp::time::Micros;
use weir_vrrp::trailer::{Key, Mode, Numbers, Origin, Trailers};

/// Seconds, and a half, so that the number is 0x6800_0000_8000_0000.
const WALL: Duration = Duration::from_millis(0x6800_0000 * 1000 + 500);

/// Ids with their secrets.
type Keys<'a> = &'a [(u8, &'a [u8])];

fn trailers(mode: Mode, keys: Keys<'_>, active: u8) -> Option<Trailers> {
    let keys = keys.iter().map(|(id, secret)| Key { id: *id, secret: secret.to_vec() }).collect();
    Some(Trailers { mode, keys, active, window: Some(Duration::from_secs(5)) })
}

const SECRET: [u8; 32] = [0x5a; 32];
const OTHER: [u8; 32] = [0xa5; 32];

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Computed by Python's `hmac`; the first and the last are those of the draft's appendix.
#[test]
fn messages_are_the_computed_ones() {
    let counting: Vec<u8> = (0..32).collect();
    let phrase = b"a passphrase of more than thirty-two bytes";
    let (pseudo, alone) = (ChecksumForm::PseudoHeader, ChecksumForm::MessageOnly);
    for (version, priority, key, route, form, vips, wanted) in [
        (
            Version::V3,
            200,
            (1, &counting[..]),
            ["198.51.100.10", "224.0.0.18"],
            alone,
            &["192.0.2.100"][..],
            "3133c80100644402c0000264 01010000 68000000 80000000 1b84bc4e8e43892dc6d98448f8ee2265",
        ),
        (
            Version::V2,
            100,
            (1, &counting[..]),
            ["192.168.200.1", "224.0.0.18"],
            pseudo,
            &["192.168.200.17"][..],
            "213364010001f20fc0a8c811 0000000000000000 01010000 68000000 80000000 1d7fb4370aa4540cde92526446a6fcc6",
        ),
        (
            Version::V3,
            100,
            (1, &counting[..]),
            ["192.168.200.1", "224.0.0.18"],
            pseudo,
            &["192.168.200.17"][..],
            "3133640100647873c0a8c811 01010000 68000000 80000000 13a28bda0ca9664975246e954c9727a4",
        ),
        (
            Version::V3,
            100,
            (200, &phrase[..]),
            ["192.168.200.1", "224.0.0.18"],
            alone,
            &["192.168.200.17"][..],
            "313364010064e1acc0a8c811 01c80000 68000000 80000000 c54ce1c45bd4f2cb47a76d2fb1452f83",
        ),
        (
            Version::V3,
            100,
            (1, &counting[..]),
            ["fe80::1", "ff02::12"],
            pseudo,
            &["fe80::5:1", "2001:db8::1"][..],
            "313364020064e183 fe800000000000000000000000050001 20010db8000000000000000000000001 \
             01010000 68000000 80000000 d14d5c5b566909c55c6cf74b21607264",
        ),
        (
            Version::V3,
            200,
            (1, &counting[..]),
            ["fe80::10", "fe80::20"],
            pseudo,
            &["fe80::100"][..],
            "3133c8010064a2e9 fe800000000000000000000000000100 01010000 68000000 80000000 c8c56146ebfd66ee10ec4d8186461b78",
        ),
    ] {
        let [source, destination] = route.map(|text| text.parse().unwrap());
        let listed = addresses(vips);
        let advertisement = Advertisement {
            version,
            virtual_router_id: 51,
            priority,
            interval: Duration::from_secs(1),
            addresses: &listed,
            authentication: Authentication::None.field(),
        };
        let trailers = trailers(Mode::Enforce, &[key], key.0).unwrap();
        let origin = Origin { version: version as u8, virtual_router_id: 51, source };
        let message = advertisement.without_checksum();
        let trailer = Numbers::default().sign(&trailers, &origin, &message, WALL).unwrap();
        assert_eq!(advertisement.encode_with((source, destination), form, &trailer), hex(wanted), "{wanted}");
    }
}

/// Of each family, by multicast and unicast, of both versions.
fn kinds(host: u8, priority: u8) -> Vec<Settings> {
    let v2 = settings4("v2", host, priority);
    let v3 = Settings { version: Version::V3, ..v2.clone() };
    let unicast = Settings { unicast_peers: vec![IpAddr::from([192, 168, 200, 3 - host])], ..v3.clone() };
    let v6 = Settings {
        source: format!("fe80::{host}").parse().unwrap(),
        addresses: addresses(&["fe80::5:1", "2001:db8::1"]),
        ..v3.clone()
    };
    let unicast6 = Settings { unicast_peers: addresses(&[&format!("fe80::{}", 3 - host)]), ..v6.clone() };
    vec![v2, v3, unicast, v6, unicast6]
}

fn setups(settings: Settings) -> Vec<Setup> {
    vec![Setup { settings, trackers: Vec::new() }]
}

fn router(settings: Settings) -> (Router, Vec<Output>) {
    let (mut router, mut out) = (Router::new(), Vec::new());
    router.tell_time(WALL, Micros(0));
    router.configure(setups(settings), &mut all_up, Micros(0), &mut out);
    (router, out)
}

/// What an owner with these trailers sends first, and what a backup with those says to it.
fn heard(
    sender: &Settings,
    theirs: Option<Trailers>,
    hearer: &Settings,
    ours: Option<Trailers>,
) -> Option<Discard> {
    let sent = router(Settings { trailers: theirs, priority: 255, ..sender.clone() }).1;
    let (mut hearer, mut out) = router(Settings { trailers: ours, ..hearer.clone() });
    out.clear();
    hearer.receive(0, &advertisements(&sent)[0], Micros(1), &mut out);
    out.iter().find_map(|output| match output {
        Output::Discarded { reason, .. } => Some(*reason),
        _ => None,
    })
}

#[test]
fn each_mode_believes_what_it_should() {
    let key: Keys<'_> = &[(1, &SECRET)];
    let signed = || trailers(Mode::Enforce, key, 1);
    let (receive_only, permissive) =
        (trailers(Mode::ReceiveOnly, key, 1), trailers(Mode::Permissive, key, 1));
    let wrong = || trailers(Mode::Enforce, &[(1, &OTHER)], 1);
    let unknown = || trailers(Mode::Enforce, &[(2, &SECRET)], 2);
    for (sender, hearer) in kinds(1, 255).iter().zip(kinds(2, 100)) {
        for (theirs, ours, wanted) in [
            (None, None, None),
            (signed(), None, Some(Discard::Length)),
            (signed(), signed(), None),
            (None, signed(), Some(Discard::TrailerMissing)),
            (receive_only.clone(), signed(), Some(Discard::TrailerMissing)),
            (permissive.clone(), signed(), None),
            (None, permissive.clone(), None),
            (None, receive_only.clone(), None),
            (signed(), receive_only.clone(), None),
            (wrong(), signed(), Some(Discard::TrailerValue)),
            (wrong(), permissive.clone(), Some(Discard::TrailerValue)),
            (wrong(), receive_only.clone(), Some(Discard::TrailerValue)),
            (unknown(), permissive.clone(), Some(Discard::TrailerKey)),
        ] {
            let told = format!("{theirs:?} to {ours:?}, {:?} {}", sender.version, sender.source);
            assert_eq!(heard(sender, theirs, &hearer, ours), wanted, "{told}");
        }
    }
}

#[test]
fn what_is_not_signed_is_counted_where_it_is_believed() {
    let (mut backup, _) = router(Settings {
        trailers: trailers(Mode::Permissive, &[(1, &SECRET)], 1),
        ..settings4("b", 2, 100)
    });
    for (sender, wanted) in [(None, 1), (trailers(Mode::Enforce, &[(1, &SECRET)], 1), 1), (None, 2)] {
        let sent = router(Settings { trailers: sender, ..settings4("a", 1, 255) }).1;
        backup.receive(0, &advertisements(&sent)[0], Micros(1), &mut Vec::new());
        assert_eq!(backup.instances()[0].counters().unsigned, wanted);
    }
    assert_eq!(backup.instances()[0].counters().received, 3);
}

#[test]
fn a_wrong_key_neither_preempts_nor_holds_back() {
    let with = |secret: &[u8], host, priority| Settings {
        trailers: trailers(Mode::Enforce, &[(1, secret)], 1),
        ..settings4("x", host, priority)
    };
    let (mut ours, mut out) = router(with(&SECRET, 1, 100));
    let (mut forger, mut forged) = router(with(&OTHER, 2, 254));
    for now in (0..8_000_000).step_by(100_000).map(Micros) {
        ours.run(now, &mut out);
        forged.clear();
        forger.run(now, &mut forged);
        for frame in advertisements(&forged) {
            ours.receive(0, &frame, now, &mut out);
        }
    }
    let states: Vec<State> = transitions(&out).iter().map(|(_, state, _)| *state).collect();
    assert_eq!(states, [State::Backup, State::Master]);
    assert_eq!(ours.instances()[0].last_transition(), Micros(3_700_000));
    assert!(ours.instances()[0].counters().discarded[Discard::TrailerValue as usize] > 3);
}

#[test]
fn what_was_recorded_is_refused() {
    let with = |host, priority| Settings {
        trailers: trailers(Mode::Enforce, &[(1, &SECRET)], 1),
        ..settings4("x", host, priority)
    };
    let (mut master, mut out) = router(with(1, 255));
    master.run(Micros(1_000_000), &mut out);
    let frames = advertisements(&out);
    let (mut backup, _) = router(with(2, 100));
    let mut hear = |frame: &[u8], seconds| {
        let mut out = Vec::new();
        backup.tell_time(WALL + Duration::from_secs(seconds), Micros(0));
        backup.receive(0, frame, Micros(0), &mut out);
        match out[..] {
            [] => None,
            [Output::Discarded { reason, .. }] => Some(reason),
            _ => panic!("{out:?}"),
        }
    };
    assert_eq!(hear(&frames[0], 0), None);
    assert_eq!(hear(&frames[0], 0), Some(Discard::TrailerReplay));
    assert_eq!(hear(&frames[1], 1), None);
    assert_eq!(hear(&frames[0], 1), Some(Discard::TrailerReplay));
    assert_eq!(hear(&frames[1], 60), Some(Discard::TrailerStale));
}

#[test]
fn keys_change_under_way_without_a_change_of_state() {
    let both: Keys<'_> = &[(1, &SECRET), (2, &OTHER)];
    let steps: [(Keys<'_>, u8); 4] = [(&both[..1], 1), (both, 1), (both, 2), (&both[1..], 2)];
    let with = |host, priority, (keys, active)| Settings {
        trailers: trailers(Mode::Enforce, keys, active),
        ..settings4("x", host, priority)
    };
    let (mut master, mut sent) = router(with(1, 200, steps[0]));
    let (mut backup, mut out) = router(with(2, 100, steps[0]));
    let mut told = Vec::new();
    for now in (0..30_000_000_u64).step_by(100_000) {
        // Each step reaches the two directors at different times.
        let at = |begin: u64| usize::try_from(now / 1_000_000).unwrap().saturating_sub(begin as usize) / 6;
        if now.is_multiple_of(1_000_000) {
            let (first, second) = (at(5).min(3), at(7).min(3));
            // A key goes when nobody sends it any more, and comes before anybody does.
            master.configure(setups(with(1, 200, steps[first])), &mut all_up, Micros(now), &mut sent);
            backup.configure(setups(with(2, 100, steps[second])), &mut all_up, Micros(now), &mut out);
        }
        master.run(Micros(now), &mut sent);
        for frame in advertisements(&sent) {
            backup.receive(0, &frame, Micros(now), &mut out);
        }
        told.extend(transitions(&sent).iter().map(|(_, state, _)| *state));
        sent.clear();
        backup.run(Micros(now), &mut out);
    }
    assert_eq!(told, [State::Backup, State::Master]);
    let states: Vec<State> = transitions(&out).iter().map(|(_, state, _)| *state).collect();
    assert_eq!(states, [State::Backup]);
    assert_eq!(backup.instances()[0].counters().discarded.iter().sum::<u64>(), 0);
}

#[test]
fn copies_for_several_peers_bear_one_trailer() {
    let peers = addresses(&["192.168.200.2", "192.168.200.3"]);
    let settings = Settings {
        version: Version::V3,
        unicast_peers: peers,
        trailers: trailers(Mode::Enforce, &[(1, &SECRET)], 1),
        ..settings4("a", 1, 255)
    };
    let frames = advertisements(&router(settings).1);
    assert_eq!(frames.len(), 2);
    let trailer = |frame: &[u8]| frame[14 + 20 + 12..].to_vec();
    assert_eq!(trailer(&frames[0]), trailer(&frames[1]));
    assert_eq!(trailer(&frames[0]).len(), 28);
    assert_ne!(frames[0][40..42], frames[1][40..42], "the checksum covers the destination");
}
