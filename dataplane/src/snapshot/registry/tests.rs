//! What is amended is what it would be if it were built anew.

use std::collections::BTreeMap;

use weir_config::model::{Forwarding, Protocol};

use super::*;
use crate::address::Addr4;
use crate::conn::state::tcp::ESTABLISHED;
use crate::snapshot::publish::Publisher;
use crate::snapshot::server::Server;
use crate::snapshot::service::Candidate;
use crate::snapshot::virtual_router::RouterKey;
use crate::snapshot::{NatServer, Origin};

const OWN: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);

/// Virtual servers of all methods; two share NAT real servers.
fn config() -> Config {
    let mut text =
        "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/16\", \"2001:db8::2/64\"]\n\
        [[neighbor]]\naddress = \"2001:db8::4\"\nmac = \"02:00:00:00:00:04\"\n"
            .to_owned();
    let services = [("dr", 80, 1), ("tun", 80, 1), ("nat", 80, 1), ("nat", 443, 1), ("nat", 53, 2)];
    for (number, (forwarding, port, network)) in services.into_iter().enumerate() {
        text += &format!(
            "[[virtual_server]]\nname = \"v{number}\"\naddress = \"10.0.9.{}\"\nport = {port}\nforwarding = \"{forwarding}\"\n",
            number + 1
        );
        for server in 1..=4 {
            let address = match (forwarding, server) {
                ("tun", 3..) => format!("2001:db8::{server}"),
                _ => format!("10.0.{network}.{server}"),
            };
            text += &format!("[[virtual_server.real_server]]\naddress = \"{address}\"\nweight = 3\n");
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
            hop,
            far,
            bound,
            ..
        } = server;
        assert_eq!(*bound, snapshot.binding(*hop));
        let their = |far: &Far| far.way.and_then(|way| snapshot.binding6(way.hop));
        assert_eq!(far.as_ref().and_then(|far| far.bound), far.as_ref().and_then(|far| their(far)));
        let own = format!("{id:?} {current:?} {forwarding:?} {is_present} {address}:{port} {weight}");
        format!("{own} {service:?} {hop:?} {far:?} {bound:?}")
    });
    (services.collect(), servers.collect(), snapshot.nat_servers.v4.iter().map(|(s, n)| (*s, *n)).collect())
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

/// Which real server comes first is what these methods know beside the packet and the weights (`sched/properties.rs`).
#[test]
fn directors_with_the_same_file_have_the_same_list_for_mh_sh_dh_and_fo_whatever_was_before() {
    let mut dice = Dice(0x7b1c_55d3);
    let order = |snapshot: &Snapshot| -> Vec<(IpAddr, u16)> {
        let service = snapshot.services().next().unwrap();
        service
            .list
            .iter()
            .map(|it| snapshot.server(it.id))
            .map(|server| (server.ip(), server.weight))
            .collect()
    };
    for kind in [Kind::Mh, Kind::Sh, Kind::Dh, Kind::Fo, Kind::Wlc] {
        let mut file = config();
        file.virtual_servers[0].scheduler = kind;
        let fresh =
            Registry::new(1, Options::default()).snapshot(&file, &[OWN], Progress::default()).unwrap();
        let expected = order(&fresh);
        let mut differs = false;
        for _ in 0..50 {
            let mut registry = Registry::new(1, Options::default());
            let mut snapshot = registry.snapshot(&file, &[OWN], Progress::default()).unwrap();
            for _ in 0..dice.below(4) {
                let wanted = verdicts(&file.virtual_servers[0], &mut dice);
                match dice.below(2) {
                    0 => {
                        snapshot = registry.amend(snapshot, &[Change::Put(&wanted)], &file).unwrap().unwrap()
                    }
                    _ => {
                        let mut served = file.clone();
                        served.virtual_servers[0] = wanted;
                        snapshot = registry.snapshot(&served, &[OWN], Progress::default()).unwrap();
                    }
                }
            }
            snapshot = registry.snapshot(&file, &[OWN], Progress::default()).unwrap();
            match kind {
                Kind::Wlc => differs |= order(&snapshot) != expected,
                _ => assert_eq!(order(&snapshot), expected, "{}", kind.name()),
            }
        }
        assert_eq!(differs, kind == Kind::Wlc, "the others keep the kernel's order");
    }
}

/// Another place for a hundred thousand real servers takes control 20 milliseconds, so that is not to happen with every few that come.
#[test]
fn real_servers_that_come_by_edits_find_room() {
    let mut file = config();
    let template = file.virtual_servers[0].real_servers[0].clone();
    let real = |number: usize| RealServer {
        address: IpAddr::from([10, 0, 4 + (number / 250) as u8, (number % 250) as u8 + 1]),
        ..template.clone()
    };
    file.virtual_servers[0].real_servers = (0..4_000).map(real).collect();
    let mut registry = Registry::new(1, Options::default());
    let mut snapshot = registry.snapshot(&file, &[OWN], Progress::default()).unwrap();
    let mut places = HashSet::new();
    for number in 4_000..4_300 {
        places.insert(snapshot.servers.as_ptr() as usize);
        let mut wanted = file.virtual_servers[1].clone();
        wanted.real_servers = vec![real(number)];
        snapshot = registry.amend(snapshot, &[Change::Put(&wanted)], &file).unwrap().expect("an edit");
    }
    assert_eq!(places.len(), 1);
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
                // A tunnel alone leads to IPv6.
                let near = wanted.real_servers.iter_mut().filter(|real| real.address.is_ipv4());
                near.for_each(|real| real.forwarding = methods[dice.below(3)]);
            }
        }
        let next = if dice.below(50) == 0 {
            amended.snapshot(&now, &[OWN], Progress::default()).unwrap()
        } else {
            let changed: Vec<_> = numbers.iter().map(|&number| now.virtual_servers[number].clone()).collect();
            let base = publisher.base(amended.amends_since());
            match amended.amend(base, &Change::put_all(&changed), &file).unwrap() {
                Some(next) => next,
                None => panic!("a base that is behind the last whole one"),
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

/// Where packets to addresses and ports go, what is answered for, and what is announced: numbers aside, which depend on the past.
fn reached(snapshot: &Snapshot) -> Vec<String> {
    let mut reached = Vec::new();
    for octet in 1..=6 {
        let vip = Addr4::new(10, 0, 9, octet);
        reached.push(format!("{vip} {:?}", snapshot.local(vip)));
        for (port, protocol) in [(80, 6), (443, 6), (53, 17)] {
            let target = snapshot.unmarked_target(vip, port, protocol);
            let service = target.and_then(|target| snapshot.service(target.service));
            let numbered = target.is_some_and(|target| snapshot.vips.address(target.vip) == Some(vip));
            assert_eq!(numbered, target.is_some(), "{vip}:{port}");
            let servers = service.map(|service| {
                let list = service.list.iter().map(|it| snapshot.server(it.id));
                assert!(list.clone().all(|server| server.service == service.id && server.is_present));
                let mut servers: Vec<_> = list.map(|server| (server.ip(), server.weight)).collect();
                // Their order is that of the edits.
                servers.sort_unstable();
                servers
            });
            let persistence = service.map(|service| (service.name.clone(), service.persistence));
            reached.push(format!("{port} {servers:?} {persistence:?} {:?}", target.map(|it| it.any_port)));
        }
    }
    for server in snapshot.servers().filter(|server| !server.is_present) {
        assert!(
            snapshot
                .service(server.service)
                .is_none_or(|service| { service.list.iter().all(|candidate| candidate.id != server.id) })
        );
    }
    let mut sockets: Vec<_> = snapshot.nat_servers.v4.iter().filter(|(_, its)| !its.is_left).collect();
    sockets.sort_by_key(|(socket, _)| **socket);
    reached.push(format!("{sockets:?}"));
    reached
}

#[test]
fn virtual_servers_that_come_and_go_alone_are_as_in_a_file_with_them() {
    let file = config();
    let mut dice = Dice(0x0dd_ba11);
    let mut registry = Registry::new(2, Options::default());
    let mut publisher = Publisher::new(registry.snapshot(&file, &[OWN], Progress::default()).unwrap());
    let mut now = file.clone();
    let (mut held, mut whole) = (Vec::new(), 0);
    for step in 0..1_000 {
        let mut next = now.clone();
        let mut steps = Vec::new();
        for _ in 0..1 + dice.below(3) {
            let number = dice.below(file.virtual_servers.len());
            let mut wanted = verdicts(&file.virtual_servers[number], &mut dice);
            // Several virtual servers of one address, and one of an address that the port has itself.
            wanted.address = IpAddr::from([10, 0, 9, 1 + dice.below(6) as u8]);
            if dice.below(8) == 0 {
                wanted.scheduler = [Kind::Lblc, Kind::Wrr, Kind::Sh][dice.below(3)];
            }
            let identity = wanted.identity();
            wanted.name = format!("{identity:?}");
            next.virtual_servers.retain(|server| server.identity() != identity);
            if dice.below(3) == 0 {
                steps.push((identity, None));
            } else {
                next.virtual_servers.push(wanted.clone());
                steps.push((identity, Some(wanted)));
            }
        }
        let change = |(identity, wanted): &(Identity, Option<VirtualServer>)| match wanted {
            Some(_) => None,
            None => Some(Change::Remove(*identity)),
        };
        let changes: Vec<Change<'_>> = steps
            .iter()
            .map(|step| change(step).unwrap_or_else(|| Change::Put(step.1.as_ref().unwrap())))
            .collect();
        let base = publisher.base(registry.amends_since());
        let made = match registry.amend(base, &changes, &file).unwrap() {
            Some(made) => made,
            None => {
                whole += 1;
                registry.snapshot(&next, &[OWN], Progress::default()).unwrap()
            }
        };
        publisher.publish(made);
        now = next;
        let mut fresh = Registry::new(2, Options::default());
        let fresh = fresh.snapshot(&now, &[OWN], Progress::default()).unwrap();
        let current = publisher.current();
        assert_eq!(reached(&current), reached(&fresh), "step {step}");
        // Of an address that was a VIP once bits may be left, which cost a look and decide nothing.
        let is_foreign = |vip: &Addr4| current.is_surely_foreign(*vip) && !fresh.is_surely_foreign(*vip);
        assert!((1..=6).map(|octet| Addr4::new(10, 0, 9, octet)).find(is_foreign).is_none());
        let forgets = |snapshot: &Snapshot| snapshot.forgetful.len();
        assert_eq!(forgets(&current), forgets(&fresh), "step {step}");
        if dice.below(4) == 0 {
            held.push((current.clone(), reached(&current)));
        }
        if dice.below(3) == 0 && !held.is_empty() {
            let (snapshot, before) = held.swap_remove(dice.below(held.len()));
            assert_eq!(reached(&snapshot), before, "what is held does not change");
        }
    }
    assert!(whole < 300, "{whole}");
}

#[test]
fn an_edit_that_changes_nothing_sends_wrr_to_its_beginning_and_a_reload_does_not() {
    let mut file = config();
    file.virtual_servers[0].scheduler = Kind::Wrr;
    let key = (IpAddr::from([10, 0, 1, 1]), 80);
    let picks = |snapshot: &Snapshot, count: usize| -> Vec<ServerId> {
        let service = snapshot.services().next().unwrap();
        let client = IpAddr::from([10, 0, 0, 1]);
        let key = crate::sched::PickKey { source: client, destination: client, source_port: 1, now_secs: 0 };
        (0..count).map(|_| service.pick(snapshot, 0, &key).unwrap()).collect()
    };
    let mut registry = Registry::new(1, Options::default());
    let first = registry.snapshot(&file, &[OWN], Progress::default()).unwrap();
    let round = picks(&first, 4);
    picks(&first, 1);
    let reloaded = registry.snapshot(&file, &[OWN], Progress::default()).unwrap();
    assert_eq!(picks(&reloaded, 1), round[1..2], "goes on");
    let put = [Change::Put(&file.virtual_servers[0])];
    let same = registry.amend(reloaded, &put, &file).unwrap().unwrap();
    assert_eq!(picks(&same, 1), round[2..3], "as a verdict that changes nothing");
    let edit = [Change::Edit(&file.virtual_servers[0], &[key])];
    let edited = registry.amend(same, &edit, &file).unwrap().unwrap();
    assert_eq!(picks(&edited, 2), round[..2], "anew");
    registry.edited_in_whole(file.virtual_servers[0].identity(), key);
    let whole = registry.snapshot(&file, &[OWN], Progress::default()).unwrap();
    assert_eq!(picks(&whole, 4), round, "as a whole, too");
    picks(&whole, 1);
    let again = registry.snapshot(&file, &[OWN], Progress::default()).unwrap();
    assert_eq!(picks(&again, 1), round[1..2], "once");
}

#[test]
fn a_former_snapshot_is_brought_up_to_date_in_place() {
    let places = places_of(24, |_, _| {});
    assert_eq!(places.iter().collect::<HashSet<_>>().len(), 3, "the one in force and two spare ones");
    assert_eq!(places[..21], places[3..]);
}

/// As by a worker that waits for its core while two edits come, or by a reader of all figures.
#[test]
fn one_that_is_held_for_a_while_costs_no_copy() {
    let mut held = Vec::new();
    let places = places_of(24, |round, publisher| {
        held.clear();
        if round % 4 == 0 {
            held.push(publisher.current());
        }
    });
    assert_eq!(places.iter().collect::<HashSet<_>>().len(), 3);
    // For ever, from the first one on: the two others are enough.
    let mut held = None;
    let places = places_of(24, |_, publisher| _ = held.get_or_insert_with(|| publisher.current()));
    assert_eq!(places.iter().collect::<HashSet<_>>().len(), 2);
}

#[test]
fn one_that_was_held_for_long_is_no_base() {
    let mut held = None;
    // Each comes by a change of what is remembered.
    places_of(200, |round, publisher| match round % 90 {
        0 => held = Some(publisher.current()),
        80 => held = None,
        _ => {}
    });
}

#[test]
fn who_is_master_costs_one_copy() {
    let mut masters = HashSet::new();
    let places = places_of(24, |round, publisher| {
        if round == 12 {
            masters.insert(RouterKey { port: 0, is_ipv6: false, id: 51 });
            assert!(publisher.masters().try_set(&masters));
        }
    });
    assert!(places.iter().collect::<HashSet<_>>().len() <= 4);
}

/// Where the real servers lie after each of so many edits, before which something is done.
fn places_of(count: usize, mut before: impl FnMut(usize, &Publisher)) -> Vec<*const Server> {
    let file = config();
    let mut registry = Registry::new(1, Options::default());
    let mut publisher = Publisher::new(registry.snapshot(&file, &[OWN], Progress::default()).unwrap());
    let mut dice = Dice(7);
    let edit = |round| {
        before(round, &publisher);
        let changed = [verdicts(&file.virtual_servers[2], &mut dice)];
        let base = publisher.base(registry.amends_since());
        let next = registry.amend(base, &Change::put_all(&changed), &file).unwrap();
        publisher.publish(next.expect("a base that is not too old"));
        publisher.current().servers.as_ptr()
    };
    (0..count).map(edit).collect()
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
        registry.amend(first.clone(), &[Change::Put(server)], &file).unwrap().is_some()
    };
    let [all, web] = &file.virtual_servers[..] else { panic!() };
    assert!(!amend(&mut registry, all));
    assert!(amend(&mut registry, web));
    let mut new = web.clone();
    new.port = 81;
    assert!(amend(&mut registry, &new));
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
    let next = registry.amend(base, &[Change::Put(&without)], &file).unwrap().unwrap();
    assert_eq!(
        origin(&next),
        Some(Origin { vip: Addr4::new(10, 0, 9, 4), port: 443, one_packet: false, keeps_calls: false })
    );
    let next = registry.amend(next, &[Change::Put(&file.virtual_servers[2])], &file).unwrap().unwrap();
    assert_eq!(origin(&next), None);
}

#[test]
fn announcements_are_made_once() {
    let file = config();
    let mut registry = Registry::new(1, Options::default());
    let mut whole = |file: &Config| registry.snapshot(file, &[OWN], Progress::default()).unwrap();
    let (all, again) = (whole(&file), whole(&file));
    let count = all.announcements.len() as u64;
    assert_eq!((all.announcements_first, again.announcements_first), (0, 0));
    let mut fewer = file.clone();
    fewer.virtual_servers.pop();
    let without = whole(&fewer);
    assert_eq!(without.announcements_first, count);
    let next = count + without.announcements.len() as u64;
    registry.announce();
    let mut whole = |file: &Config| registry.snapshot(file, &[OWN], Progress::default()).unwrap();
    assert_eq!(whole(&fewer).announcements_first, next, "the next one brings them again");
    assert_eq!(whole(&fewer).announcements_first, next);
}

#[test]
fn only_what_takes_something_away_has_the_sweep_look_at_every_connection() {
    let file = config();
    let whole = file.virtual_servers[0].clone();
    let mut registry = Registry::new(1, Options::default());
    let first = registry.snapshot(&file, &[OWN], Progress::default()).unwrap();
    assert_eq!((first.generation, first.ended_since), (1, 0));
    let mut amend = |base: Snapshot, wanted: &VirtualServer| {
        registry.amend(base, &[Change::Put(wanted)], &file).unwrap().unwrap()
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
    assert_eq!(registry.left(), 1);
    let fifth = registry.snapshot(&file, &[OWN], Progress::default()).unwrap();
    assert_eq!(registry.left(), 0);
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
            server.bind(0, Protocol::Tcp, ESTABLISHED);
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
    assert!(
        registry
            .amend(base.clone(), &Change::put_all(&refused.virtual_servers), &file)
            .is_err_and(is_too_many)
    );
    assert_eq!((overloaded(&base), registry.numbers.state()), (8, before), "a part");
    assert_eq!(seen(&registry.amend(base.clone(), &[], &file).unwrap().unwrap()), seen(&base));
    // One that stands gives them room.
    let room = with_limits(2, 0).virtual_servers;
    let next = registry.amend(base, &Change::put_all(&room[..1]), &file).unwrap().unwrap();
    assert_eq!(overloaded(&next), 5);
    let next = registry.snapshot(&with_limits(2, 0), &[OWN], Progress::default()).unwrap();
    assert_eq!(overloaded(&next), 0);
}

/// Workers go on with the former snapshot while the next one is built, and may reach its threshold once more.
#[test]
fn a_raised_threshold_gives_room_though_a_worker_still_has_the_former_one() {
    let mut file = config();
    let of = |file: &mut Config, upper: u32| {
        file.virtual_servers[0].real_servers.iter_mut().for_each(|real| real.upper_threshold = upper);
    };
    of(&mut file, 2);
    let mut registry = Registry::new(1, Options::default());
    let former = registry.snapshot(&file, &[OWN], Progress::default()).unwrap();
    let id = former.services().find(|service| service.name == "v0").unwrap().list[0].id;
    let count = |snapshot: &Snapshot, connections: usize| {
        (0..connections).for_each(|_| snapshot.server(id).bind(0, Protocol::Tcp, ESTABLISHED));
        snapshot.server(id).is_overloaded()
    };
    assert!(count(&former, 2));
    of(&mut file, 10);
    let raised = registry.snapshot(&file, &[OWN], Progress::default()).unwrap();
    assert!(count(&former, 1), "that is what the former one says");
    assert!(!count(&raised, 0), "3 of 10");
    assert!(count(&raised, 7));
    // Lowered, it stays overloaded; and an end of a connection is heard of whatever was reached.
    of(&mut file, 5);
    let lowered = registry.snapshot(&file, &[OWN], Progress::default()).unwrap();
    assert!(count(&lowered, 0));
    (0..7).for_each(|_| lowered.server(id).unbind(0, Protocol::Tcp, ESTABLISHED));
    assert!(!count(&lowered, 0), "3 of 5, below three quarters");
    of(&mut file, 2);
    let lowest = registry.snapshot(&file, &[OWN], Progress::default()).unwrap();
    assert!(!count(&lowest, 0), "as in the kernel, until the next one comes");
    assert!(count(&lowest, 1));
}

#[test]
fn the_number_of_an_ipv6_address_that_has_left_is_given_away_when_no_record_can_name_it() {
    let file = |vip: u16| {
        parse(&format!(
            "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"2001:db8::2/64\"]\n\
             [[virtual_server]]\nname = \"v\"\naddress = \"2001:db8:1::{vip:x}\"\nport = 80\n\
             [[virtual_server.real_server]]\naddress = \"2001:db8::9\"\n"
        ))
    };
    let vip = |vip: u16| format!("2001:db8:1::{vip:x}").parse().expect("an address");
    let mut registry = Registry::new(1, Options::default());
    let mut numbers = HashSet::new();
    for number in 1..=100_u16 {
        // Workers are behind by two generations.
        let behind = u64::from(number).saturating_sub(2);
        let progress = Progress { seen: behind, swept: behind, templates: None };
        let snapshot = registry.snapshot(&file(number), &[OWN], progress).expect("a valid configuration");
        let own = snapshot.number6(vip(number)).expect("a number");
        assert_eq!(snapshot.address6(own), Some(vip(number)));
        assert!(snapshot.is_vip6(vip(number)));
        for former in 1..number {
            let left = snapshot.number6(vip(former));
            assert!(left != Some(own) && !snapshot.is_vip6(vip(former)));
            assert_eq!(left.is_some(), former + 2 >= number, "{former} of {number}");
        }
        numbers.insert(own);
    }
    assert!(numbers.len() <= 5, "{numbers:?}");
    // One that comes back in time has the number that it had.
    let progress = Progress { seen: 100, swept: 98, templates: None };
    let mut snapshot =
        |number| registry.snapshot(&file(number), &[OWN], progress).expect("a valid configuration");
    let before = snapshot(101).number6(vip(100));
    assert!(before.is_some());
    assert_eq!(snapshot(100).number6(vip(100)), before);
}
