//! What is amended is what it would be if it were built anew.

use std::collections::BTreeMap;

use weir_config::model::Forwarding;

use super::*;
use crate::snapshot::publish::Publisher;
use crate::snapshot::service::Candidate;
use crate::snapshot::{NatServer, Origin};

const OWN: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);

/// Virtual servers of all methods; two share NAT real servers.
fn config() -> Config {
    let mut text = "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/16\"]\n".to_owned();
    let services = [("dr", 80, 1), ("tun", 80, 1), ("nat", 80, 1), ("nat", 443, 1), ("nat", 53, 2)];
    for (number, (forwarding, port, network)) in services.into_iter().enumerate() {
        text += &format!(
            "[[virtual_server]]\nname = \"v{number}\"\naddress = \"10.0.9.{}\"\nport = {port}\nforwarding = \"{forwarding}\"\n",
            number + 1
        );
        for server in 1..=4 {
            text += &format!(
                "[[virtual_server.real_server]]\naddress = \"10.0.{network}.{server}\"\nweight = 3\n"
            );
            if forwarding == "nat" {
                text += "port = 8080\n";
            }
        }
    }
    parse(&text)
}

fn parse(text: &str) -> Config {
    weir_config::parse("test", text).unwrap_or_else(|report| panic!("{report}")).config
}

/// Everything that packets can see, in words that can be compared.
fn seen(snapshot: &Snapshot) -> (Vec<String>, Vec<String>, BTreeMap<u64, NatServer>) {
    let services = snapshot.services().map(|service| {
        let candidates: Vec<_> = service
            .list
            .iter()
            .map(|Candidate { id, weight, has_threshold, forwarding, tallies }| {
                let server = snapshot.server(*id);
                assert_eq!((*weight, *has_threshold), (server.weight, server.upper_threshold != 0));
                assert_eq!(*forwarding, server.forwarding);
                assert!(Arc::ptr_eq(tallies, &server.tallies));
                (id, weight)
            })
            .collect();
        format!("{} {candidates:?}", service.name)
    });
    let servers = snapshot.servers.iter().filter(|server| server.id != ServerId(0)).map(|server| {
        let Server {
            id,
            current,
            forwarding,
            is_present,
            address,
            port,
            weight,
            service,
            next_hop,
            bound,
            ..
        } = server;
        assert_eq!(*bound, snapshot.binding(server.hop));
        let own = format!("{id:?} {current:?} {forwarding:?} {is_present} {address}:{port} {weight}");
        format!("{own} {service:?} {next_hop:?} {bound:?}")
    });
    (services.collect(), servers.collect(), snapshot.nat_servers.iter().map(|(s, n)| (*s, *n)).collect())
}

/// Numbers that look random (xorshift).
pub(in crate::snapshot) struct Dice(pub(in crate::snapshot) u64);

impl Dice {
    pub(in crate::snapshot) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// Some real servers are gone, some quiesced; a sorry server may have come.
fn verdicts(file: &VirtualServer, dice: &mut Dice) -> VirtualServer {
    let mut wanted = file.clone();
    wanted.real_servers.retain(|_| dice.below(3) != 0);
    wanted.real_servers.iter_mut().for_each(|real| real.weight = dice.below(4) as u16);
    if dice.below(4) == 0 {
        let mut sorry = file.real_servers[0].clone();
        sorry.address = IpAddr::from([10, 0, 3, 1 + dice.below(2) as u8]);
        wanted.real_servers.push(sorry);
    }
    wanted
}

#[test]
fn amended_is_as_built_anew() {
    let file = config();
    let mut dice = Dice(0x1234_5678_9abc_def1);
    let (mut amended, mut anew) =
        (Registry::new(2, Options::default()), Registry::new(2, Options::default()));
    let first = amended.snapshot(&file, &[OWN], Progress::default()).unwrap();
    let mut publisher = Publisher::new(first);
    anew.snapshot(&file, &[OWN], Progress::default()).unwrap();
    let mut now = file.clone();
    let mut held = Vec::new();
    for step in 0..2_000 {
        let numbers: Vec<usize> = (0..file.virtual_servers.len()).filter(|_| dice.below(3) == 0).collect();
        for &number in &numbers {
            let wanted = &mut now.virtual_servers[number];
            *wanted = verdicts(&file.virtual_servers[number], &mut dice);
            // No verdict does this; the file may, and it has to come to the same.
            if dice.below(4) == 0 {
                let methods = [Forwarding::Dr, Forwarding::Tun, Forwarding::Nat];
                wanted.real_servers.iter_mut().for_each(|real| real.forwarding = methods[dice.below(3)]);
            }
        }
        let next = if dice.below(50) == 0 {
            amended.snapshot(&now, &[OWN], Progress::default()).unwrap()
        } else {
            let changed: Vec<_> = numbers.iter().map(|&number| now.virtual_servers[number].clone()).collect();
            let base = publisher.base();
            match amended.amend(base, &changed, &file).unwrap() {
                Some(next) => next,
                // What was held for long is behind the last whole one.
                None => amended.snapshot(&now, &[OWN], Progress::default()).unwrap(),
            }
        };
        publisher.publish(next);
        let whole = anew.snapshot(&now, &[OWN], Progress::default()).unwrap();
        assert_eq!(seen(&publisher.current()), seen(&whole), "step {step}");
        assert_eq!(publisher.current().generation, whole.generation);
        // Somebody reads for some time.
        if dice.below(4) == 0 {
            held.push((publisher.current(), seen(&publisher.current())));
        }
        if dice.below(3) == 0 && !held.is_empty() {
            let (snapshot, before) = held.swap_remove(dice.below(held.len()));
            assert_eq!(seen(&snapshot), before, "what is held does not change");
        }
    }
}

#[test]
fn a_former_snapshot_is_brought_up_to_date_in_place() {
    let file = config();
    let mut registry = Registry::new(1, Options::default());
    let mut publisher = Publisher::new(registry.snapshot(&file, &[OWN], Progress::default()).unwrap());
    let mut dice = Dice(7);
    let mut places = Vec::new();
    for _ in 0..6 {
        let changed = [verdicts(&file.virtual_servers[2], &mut dice)];
        let next = registry.amend(publisher.base(), &changed, &file).unwrap().unwrap();
        publisher.publish(next);
        places.push(publisher.current().servers.as_ptr());
    }
    assert_eq!((places[2], places[3]), (places[4], places[5]));
    assert_ne!(places[4], places[5]);
}

#[test]
fn a_change_that_reaches_further_is_left_to_a_whole_configuration() {
    let file = parse(
        "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/16\"]\n\
         [[virtual_server]]\nname = \"all\"\naddress = \"10.0.9.1\"\nport = 0\npersistence_timeout = 300\n\
         [[virtual_server.real_server]]\naddress = \"10.0.1.1\"\n\
         [[virtual_server]]\nname = \"web\"\naddress = \"10.0.9.2\"\nport = 80\n\
         [[virtual_server.real_server]]\naddress = \"10.0.1.1\"\n",
    );
    let mut registry = Registry::new(1, Options::default());
    let first = registry.snapshot(&file, &[OWN], Progress::default()).unwrap();
    let amend = |registry: &mut Registry, server: &VirtualServer| {
        registry.amend(first.clone(), std::slice::from_ref(server), &file).unwrap().is_some()
    };
    let [all, web] = &file.virtual_servers[..] else { panic!() };
    assert!(!amend(&mut registry, all));
    assert!(amend(&mut registry, web));
    let mut unknown = web.clone();
    unknown.port = 81;
    assert!(!amend(&mut registry, &unknown));
    registry.snapshot(&file, &[OWN], Progress::default()).unwrap();
    assert!(!amend(&mut registry, web), "the base is older than the configuration");
}

#[test]
fn a_socket_that_virtual_servers_share_has_no_origin_until_one_is_left() {
    let file = config();
    let mut registry = Registry::new(1, Options::default());
    let base = registry.snapshot(&file, &[OWN], Progress::default()).unwrap();
    let origin = |snapshot: &Snapshot| snapshot.origin(Addr4::new(10, 0, 1, 1), 8080, 6);
    assert_eq!(origin(&base), None);
    let mut without = file.virtual_servers[2].clone();
    without.real_servers.remove(0);
    let next = registry.amend(base, &[without.clone()], &file).unwrap().unwrap();
    assert_eq!(origin(&next), Some(Origin { vip: Addr4::new(10, 0, 9, 4), port: 443, one_packet: false }));
    let next = registry.amend(next, &[file.virtual_servers[2].clone()], &file).unwrap().unwrap();
    assert_eq!(origin(&next), None);
}

#[test]
fn announcements_are_of_the_generation_that_brought_them() {
    let file = config();
    let mut registry = Registry::new(1, Options::default());
    let mut whole = |file: &Config| registry.snapshot(file, &[OWN], Progress::default()).unwrap();
    assert_eq!(whole(&file).announcements_generation, 1);
    assert_eq!(whole(&file).announcements_generation, 1);
    let mut fewer = file.clone();
    fewer.virtual_servers.pop();
    assert_eq!(whole(&fewer).announcements_generation, 3);
    registry.announce();
    let mut whole = |file: &Config| registry.snapshot(file, &[OWN], Progress::default()).unwrap();
    assert_eq!(whole(&fewer).announcements_generation, 4, "the next one brings them again");
    assert_eq!(whole(&fewer).announcements_generation, 4);
}

#[test]
fn only_what_takes_something_away_has_the_sweep_look_at_every_connection() {
    let file = config();
    let whole = file.virtual_servers[0].clone();
    let mut registry = Registry::new(1, Options::default());
    let first = registry.snapshot(&file, &[OWN], Progress::default()).unwrap();
    assert_eq!((first.generation, first.ended_since), (1, 0));
    let mut amend = |base: Snapshot, wanted: &VirtualServer| {
        registry.amend(base, std::slice::from_ref(wanted), &file).unwrap().unwrap()
    };
    let mut quiesced = whole.clone();
    quiesced.real_servers[1].weight = 0;
    let second = amend(first, &quiesced);
    assert_eq!((second.generation, second.ended_since), (2, 0));
    let mut fewer = quiesced.clone();
    fewer.real_servers.remove(2);
    let third = amend(second, &fewer);
    assert_eq!((third.generation, third.ended_since), (3, 3));
    // Its connections are looked for once.
    let fourth = amend(third, &quiesced);
    assert_eq!((fourth.generation, fourth.ended_since), (4, 3));
    let fifth = registry.snapshot(&file, &[OWN], Progress::default()).unwrap();
    assert_eq!((fifth.generation, fifth.ended_since), (5, 5));
}

/// Three virtual servers: with real servers of this upper threshold, and with more real servers than the table of mh has room for.
fn with_limits(upper: u32, too_many: usize) -> Config {
    let mut text = "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/16\"]\n".to_owned();
    for (name, scheduler, servers) in [("a", "wlc", 3), ("b", "mh", 2), ("c", "wlc", 3)] {
        text += &format!(
            "[[virtual_server]]\nname = \"{name}\"\naddress = \"10.0.9.{}\"\nport = 80\nscheduler = \"{scheduler}\"\n",
            name.as_bytes()[0]
        );
        for server in 1..=servers {
            text += &format!(
                "[[virtual_server.real_server]]\naddress = \"10.0.1.{server}\"\nupper_threshold = {upper}\n"
            );
        }
    }
    let mut config = parse(&text);
    config.schedulers.mh_table_size = 251;
    let more = config.virtual_servers[1].real_servers[0].clone();
    for number in 0..too_many {
        let address = IpAddr::from([10, 0, 2 + (number / 200) as u8, 1 + (number % 200) as u8]);
        config.virtual_servers[1].real_servers.push(RealServer { address, ..more.clone() });
    }
    config
}

#[test]
fn a_refused_configuration_leaves_real_servers_and_numbers_as_they_were() {
    let file = with_limits(1, 0);
    let mut registry = Registry::new(1, Options::default());
    let base = registry.snapshot(&file, &[OWN], Progress::default()).unwrap();
    let overload = |snapshot: &Snapshot| {
        for server in snapshot.servers() {
            server.bind(0, weir_config::model::Protocol::Tcp, crate::conn::state::tcp::ESTABLISHED);
        }
    };
    let overloaded = |snapshot: &Snapshot| snapshot.servers().filter(|server| server.is_overloaded()).count();
    overload(&base);
    assert_eq!(overloaded(&base), 8);
    let refused = with_limits(2, 300);
    let is_too_many = |refused: RegistryError| matches!(refused, RegistryError::Scheduler { .. });
    let before = registry.numbers.state();
    assert!(registry.snapshot(&refused, &[OWN], Progress::default()).is_err_and(is_too_many));
    assert_eq!((overloaded(&base), registry.numbers.state()), (8, before), "a whole one");
    assert!(registry.amend(base.clone(), &refused.virtual_servers, &file).is_err_and(is_too_many));
    assert_eq!((overloaded(&base), registry.numbers.state()), (8, before), "a part");
    assert_eq!(seen(&registry.amend(base.clone(), &[], &file).unwrap().unwrap()), seen(&base));
    // One that stands gives them room.
    let room = with_limits(2, 0).virtual_servers;
    let next = registry.amend(base, &room[..1], &file).unwrap().unwrap();
    assert_eq!(overloaded(&next), 5);
    let next = registry.snapshot(&with_limits(2, 0), &[OWN], Progress::default()).unwrap();
    assert_eq!(overloaded(&next), 0);
}
