//! What holds for every scheduler and any list.

use std::net::Ipv4Addr;

use weir_config::model::Scheduler as Kind;

use super::director_model::{Director, Lcg, any_key, description, empty, rip};
use super::{PickKey, Scheduler, ServerDescription, Servers, State};

fn random_key(random: &mut Lcg) -> PickKey {
    PickKey {
        source: Ipv4Addr::from(random.below(u32::MAX)).into(),
        destination: Ipv4Addr::from(random.below(50)).into(),
        source_port: random.below(65_536) as u16,
        now_secs: random.below(1_000_000),
    }
}

fn random_weight(random: &mut Lcg) -> u32 {
    match random.below(4) {
        0 => 0,
        1 => random.below(65_536),
        2 => 65_535,
        _ => random.below(10),
    }
}

/// lblc alone overlooks the overload flag, of the server that a destination has.
fn may_pick(kind: Kind, servers: &impl Servers, index: usize) -> bool {
    servers.weight(index) > 0 && (kind == Kind::Lblc || !servers.overloaded(index))
}

#[test]
fn only_usable_servers_are_picked_from_lists_of_any_length() {
    let mut random = Lcg::new(1);
    for kind in Kind::ALL {
        for length in (0..=8).chain([64, 255, 256, 257, 300]) {
            let weights: Vec<u32> = (0..length).map(|_| random_weight(&mut random)).collect();
            let mut director = Director::new(kind, &weights);
            director.service.flags.fallback = random.below(2) == 0;
            director.service.flags.port = random.below(2) == 0;
            director.scheduler = Scheduler::build(&director.service).unwrap();
            for _ in 0..200 {
                for server in &mut director.servers {
                    server.overloaded = random.below(3) == 0;
                    server.active = random.below(2) * random.below(u32::MAX);
                    server.inactive = random.below(2) * random.below(u32::MAX);
                }
                let key = random_key(&mut random);
                director.scheduler.expire(&director.state, key.now_secs);
                let picked = director.scheduler.pick(&director.state, &director.servers, &key);
                if let Some(index) = picked {
                    assert!(may_pick(kind, &director.servers, index), "{} of {weights:?}", kind.name());
                }
            }
        }
    }
}

/// All but those that may refuse although a server is usable: the owner of a bucket, or one with room.
#[test]
fn a_usable_server_is_found() {
    let mut random = Lcg::new(2);
    for kind in Kind::ALL {
        if matches!(kind, Kind::Sh | Kind::Dh | Kind::Mh | Kind::Ovf) {
            continue;
        }
        for _ in 0..300 {
            let weights: Vec<u32> = (0..1 + random.below(20)).map(|_| random_weight(&mut random)).collect();
            let mut director = Director::new(kind, &weights);
            for _ in 0..20 {
                let only = random.below(weights.len() as u32) as usize;
                for (index, server) in director.servers.iter_mut().enumerate() {
                    server.overloaded = index != only;
                }
                let mut key = random_key(&mut random);
                // lblc may stay with a server that is overloaded; each destination is new here.
                key.destination = Ipv4Addr::from(random.below(u32::MAX)).into();
                let picked = director.scheduler.pick(&director.state, &director.servers, &key);
                let expected = (director.servers[only].weight > 0).then_some(only);
                assert_eq!(picked, expected, "{} of {weights:?}", kind.name());
            }
        }
    }
}

#[test]
fn any_sequence_of_changes_and_picks_keeps_to_the_list() {
    let mut random = Lcg::new(3);
    for kind in Kind::ALL {
        let mut director = Director::from_service(empty(kind));
        for step in 0..1500 {
            let len = director.servers.len() as u32;
            match random.below(12) {
                0 if len < 12 => {
                    let id = 1 + random.below(15);
                    if director.index_of(id).is_none() {
                        let weight = random.below(5);
                        director.add(ServerDescription::new(id, rip(id), 80, weight), random.below(9), 0);
                    }
                }
                1 if len > 0 => director.delete(random.below(len) as usize),
                2 if len > 0 => director.edit(random.below(len) as usize, random.below(5)),
                _ => {
                    let mut key = random_key(&mut random);
                    key.now_secs = step * 40;
                    director.scheduler.expire(&director.state, key.now_secs);
                    if let Some(index) = director.connect(&key, random.below(2) == 0) {
                        assert!(director.servers[index].weight > 0);
                    }
                }
            }
        }
    }
}

/// A version that holds several changes is as one version per change, in the order deletes, edits, adds.
#[test]
fn changes_at_once_are_changes_one_by_one() {
    let mut random = Lcg::new(4);
    for kind in [Kind::Rr, Kind::Wrr] {
        for _ in 0..500 {
            let weights: Vec<u32> = (0..random.below(8)).map(|_| random.below(13) * 2).collect();
            let [mut one_by_one, mut at_once] = [(); 2].map(|()| Director::new(kind, &weights));
            let picks = random.below(9) as usize;
            assert_eq!(one_by_one.picks(picks, true), at_once.picks(picks, true));
            for _ in 0..random.below(3).min(one_by_one.servers.len() as u32) {
                one_by_one.delete(random.below(one_by_one.servers.len() as u32) as usize);
            }
            // From the head to the tail, as they are taken from a version that holds them all.
            for index in 0..one_by_one.servers.len() {
                if random.below(4) == 0 {
                    one_by_one.edit(index, random.below(13) * 2);
                }
            }
            for id in 20..20 + random.below(3) {
                one_by_one.add(ServerDescription::new(id, rip(id), 80, random.below(13)), 0, 0);
            }
            at_once.publish(one_by_one.service.clone());
            at_once.servers = one_by_one.servers.clone();
            assert_eq!(one_by_one.picks(30, true), at_once.picks(30, true), "{} {weights:?}", kind.name());
        }
    }
}

#[test]
fn a_cycle_of_wrr_gives_each_server_its_weight() {
    let mut random = Lcg::new(5);
    for _ in 0..300 {
        let factor = 1 + random.below(50);
        let weights: Vec<u32> = (0..1 + random.below(12)).map(|_| random.below(40) * factor).collect();
        let mut director = Director::new(Kind::Wrr, &weights);
        let divisor = weights.iter().fold(0, |divisor, &weight| super::gcd(divisor, weight)).max(1);
        let cycle: u32 = weights.iter().map(|weight| weight / divisor).sum();
        let mut picked = vec![0; weights.len()];
        for _ in 0..3 * cycle {
            picked[director.connect(&any_key(), false).unwrap()] += 1;
        }
        let expected: Vec<u32> = weights.iter().rev().map(|weight| 3 * weight / divisor).collect();
        assert_eq!(picked, expected);
    }
}

#[test]
fn connections_by_wlc_and_sed_are_in_proportion_to_the_weights() {
    for kind in [Kind::Wlc, Kind::Sed] {
        let weights = [1, 20, 300, 7];
        let mut director = Director::new(kind, &weights);
        let total: u32 = weights.iter().sum();
        director.picks(10 * total as usize, true);
        for (server, weight) in director.servers.iter().zip(weights.iter().rev()) {
            assert!(server.active.abs_diff(10 * weight) <= 2, "{} of {weight}", server.active);
        }
    }
}

#[test]
fn twos_levels_the_load_by_weight() {
    let weights = [1, 2, 3, 4];
    let mut director = Director::new(Kind::Twos, &weights);
    for _ in 0..20_000 {
        director.connect(&any_key(), true);
    }
    for (server, weight) in director.servers.iter().zip(weights.iter().rev()) {
        assert!(server.active.abs_diff(2000 * weight) < 200, "{} of weight {weight}", server.active);
    }
}

#[test]
fn hashes_spread_clients_by_weight_and_keep_them_when_a_server_is_quiesced() {
    for (kind, tolerance) in [(Kind::Sh, 0.02), (Kind::Mh, 0.02)] {
        let weights = [3, 2, 1];
        let mut director = Director::new(kind, &weights);
        let clients: Vec<PickKey> = {
            let mut random = Lcg::new(6);
            (0..30_000).map(|_| random_key(&mut random)).collect()
        };
        let picks = |director: &Director| -> Vec<Option<usize>> {
            clients
                .iter()
                .map(|key| director.scheduler.pick(&director.state, &director.servers, key))
                .collect()
        };
        let before = picks(&director);
        for (index, weight) in weights.iter().rev().enumerate() {
            let share = before.iter().filter(|&&p| p == Some(index)).count() as f64 / 30_000.0;
            assert!((share - f64::from(*weight) / 6.0).abs() < tolerance, "{} {share}", kind.name());
        }
        if kind == Kind::Mh {
            director.edit(1, 0);
            for (before, after) in before.iter().zip(picks(&director)) {
                assert_eq!(after, before.filter(|&index| index != 1));
            }
        }
    }
}

#[test]
fn directors_with_the_same_list_pick_alike_by_hash() {
    let mut random = Lcg::new(8);
    for kind in [Kind::Sh, Kind::Dh, Kind::Mh] {
        let [first, mut second] = [(); 2].map(|()| Director::new(kind, &[3, 2, 1, 7]));
        second.state = State::new(&second.service, 5, 8);
        for _ in 0..1000 {
            let key = random_key(&mut random);
            let picks = [&first, &second].map(|d| d.scheduler.pick(&d.state, &d.servers, &key));
            assert_eq!(picks[0], picks[1]);
        }
    }
}

#[test]
fn a_seed_changes_the_picks_of_mh() {
    let mut random = Lcg::new(9);
    let [kernel, mut seeded] = [(); 2].map(|()| description(Kind::Mh, &[1; 8]));
    seeded.options.maglev_keys = super::MaglevKeys::from_seed(1);
    let [kernel, seeded] = [kernel, seeded].map(Director::from_service);
    let differing = (0..1000).filter(|_| {
        let key = random_key(&mut random);
        let [a, b] = [&kernel, &seeded].map(|d| d.scheduler.pick(&d.state, &d.servers, &key));
        a != b
    });
    assert!(differing.count() > 800);
}

/// What is peeked at is what is picked, by every method, in the middle of rounds and with full memories; and a look changes
/// nothing.
#[test]
fn a_peek_is_the_pick_that_follows_and_changes_nothing() {
    let mut random = Lcg::new(10);
    for kind in Kind::ALL {
        for length in [0, 1, 2, 5, 20] {
            let weights: Vec<u32> = (0..length).map(|_| random_weight(&mut random)).collect();
            let mut service = description(kind, &weights);
            service.options.locality_entries = 16;
            service.flags.fallback = random.below(2) == 0;
            service.flags.port = random.below(2) == 0;
            let mut director = Director::from_service(service);
            let mut now_secs = 0;
            for _ in 0..200 {
                for server in &mut director.servers {
                    server.overloaded = random.below(4) == 0;
                    server.active = random.below(3) * random.below(100);
                    server.inactive = random.below(100);
                }
                now_secs += random.below(3) * random.below(40_000);
                let key = PickKey { now_secs, ..random_key(&mut random) };
                director.scheduler.expire(&director.state, now_secs);
                let before = format!("{:?}", director.state);
                let peeked = director.scheduler.peek(&director.state, &director.servers, &key);
                assert_eq!(format!("{:?}", director.state), before, "{}", kind.name());
                let picked = director.scheduler.pick(&director.state, &director.servers, &key);
                assert_eq!(peeked.picked, picked, "{} of {weights:?}", kind.name());
            }
        }
    }
}
