//! The table from outside: what was put in is found, whatever else came and went.

use std::collections::HashMap;
use std::sync::Mutex;

use weir_config::model::Protocol;

use super::super::record::{ServerId, VipId, reply_hash_input};
use super::super::state::{UDP, tcp};
use super::*;

const CLIENT: Addr4 = Addr4::new(192, 0, 2, 1);

/// As good as random.
fn random_key() -> HashKey {
    HashKey::new([0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9])
}

fn table(capacity: usize, key: HashKey) -> Table {
    Table::new(Slab::heap(Table::lines_for(capacity)).expect("there is memory"), capacity, key)
}

fn key_of(client: u32) -> Key {
    Key::new(
        Addr4::from_bits(client),
        client as u16,
        VipId(client as u16 % 3),
        80,
        Protocol::Tcp,
        client & 1 == 0,
    )
}

/// From the same client's port.
fn to_another_vip(client: u32) -> Key {
    let mut key = key_of(client);
    key.key ^= 0xff;
    key
}

fn record(client: u32) -> Record {
    Record::new(key_of(client), ServerId(client % 1000 + 1), tcp::ESTABLISHED, 5, false)
}

fn find(table: &Table, client: u32) -> Option<Record> {
    let key = key_of(client);
    table.find(table.hash(key.hash_input()), key).map(|(_, record)| record)
}

/// A hash key that sends everything to few lines, so that lines spill.
fn crowded() -> HashKey {
    HashKey { xor: 0, multiply: 1 }
}

fn compare_with_a_map(hash_key: HashKey, operations: &[(bool, u8)]) {
    let mut table = table(128, hash_key);
    let mut map = HashMap::new();
    for &(insert, client) in operations {
        let client = u32::from(client) << 8;
        let key = key_of(client);
        let hash = table.hash(key.hash_input());
        match (insert, table.find(hash, key)) {
            (true, None) => {
                // No client's port has two connections here, so the short way may take any place that there is. Nobody is at
                // 0.0.0.0, and to that one free slots look like taken ones.
                let vacancy = table.vacancy(hash, key);
                let place = table.insert(hash, record(client)).ok();
                assert_eq!(vacancy, place.filter(|_| client != 0));
                if place.is_some() {
                    map.insert(client, record(client));
                    assert_eq!(table.vacancy(hash, to_another_vip(client)), None);
                }
            }
            (false, Some((slot, _))) => {
                table.remove(slot);
                map.remove(&client);
            }
            (_, found) => assert_eq!(found.map(|(_, record)| record), map.get(&client).copied()),
        }
        assert_eq!(table.len(), map.len());
    }
    for client in (0..=255u32).map(|client| client << 8) {
        assert_eq!(find(&table, client), map.get(&client).copied());
    }
    assert_eq!(table.iter().count(), map.len());
}

#[test]
fn any_operations_agree_with_a_hash_map() {
    bolero::check!().with_type::<Vec<(bool, u8)>>().for_each(|operations| {
        compare_with_a_map(random_key(), operations);
        compare_with_a_map(crowded(), operations);
    });
}

#[test]
fn long_random_histories_agree_with_a_hash_map() {
    let mut random = 88172645463325252u64;
    for _ in 0..200 {
        let operations: Vec<_> = (0..2000)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                (random & 1 == 0, (random >> 8) as u8)
            })
            .collect();
        compare_with_a_map(crowded(), &operations);
    }
}

#[test]
fn full_is_said_and_nothing_is_lost() {
    let mut table = table(1024, random_key());
    let inserted = (0..2000u32)
        .filter(|&client| {
            let hash = table.hash(key_of(client).hash_input());
            table.insert(hash, record(client)).is_ok()
        })
        .count();
    assert_eq!(inserted, 1024);
    assert_eq!((0..2000).filter(|&client| find(&table, client).is_some()).count(), 1024);
}

#[test]
fn a_full_chain_is_no_full_table_and_is_told_by_its_hash() {
    let mut table = table(1024, random_key());
    let key = |vip| Key::new(CLIENT, 2, VipId(vip), 80, Protocol::Tcp, false);
    let hash = table.hash(key(0).hash_input());
    let view = table.view();
    for vip in 0..(PROBES * SLOTS) as u16 {
        assert!(!table.is_crowded(hash) && !view.is_crowded(hash));
        let made = Record::new(key(vip), ServerId(1), tcp::ESTABLISHED, 5, false);
        table.insert(hash, made).expect("there is room in the chain");
    }
    assert!(table.is_crowded(hash) && view.is_crowded(hash));
    let one_more = Record::new(key(64), ServerId(1), tcp::ESTABLISHED, 5, false);
    assert_eq!(table.insert(hash, one_more), Err(NoRoom::Chain));
    let crowded = (0..1000).filter(|&client| table.is_crowded(table.hash(key_of(client).hash_input())));
    assert!(crowded.count() < 10);
    let (slot, _) = table.find(hash, key(7)).expect("it is there");
    table.remove(slot);
    assert!(!table.is_crowded(hash));
    for client in 100_000..102_000 {
        let _ = table.insert(table.hash(key_of(client).hash_input()), record(client));
    }
    assert_eq!(table.len(), table.capacity());
    assert_eq!(table.insert(hash, one_more), Err(NoRoom::Table));
}

#[test]
fn a_sweep_removes_what_is_over_and_only_that() {
    for hash_key in [random_key(), crowded()] {
        let mut table = table(4096, hash_key);
        for client in 0..2000u32 {
            let hash = table.hash(key_of(client).hash_input());
            let _ = table.insert(hash, record(client));
        }
        let before = table.iter().count();
        let over = table.iter().filter(|record| record.client().bits() % 3 == 0).count();
        // A record that moves back over the end of the table is seen in the next round.
        let mut left = 2 * table.lines();
        while left > 0 {
            let before = table.len();
            left -= table.sweep(left, None, |record| Verdict::end_if(record.client().bits() % 3 == 0));
            assert!(before - table.len() <= ENDED_MAX + SLOTS);
        }
        assert_eq!(table.len(), before - over);
        for client in 0..2000 {
            assert!(client % 3 != 0 || find(&table, client).is_none());
        }
        let found = (0..2000).filter(|&client| find(&table, client).is_some()).count();
        assert_eq!(found, table.len());
    }
}

#[test]
fn a_sweep_asks_about_every_record_that_is_old_for_its_state() {
    let file = "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\"]\n";
    let config = weir_config::parse("test", file).expect("a valid file").config;
    let lifetimes = Lifetimes::new(&config.connections.timeouts);
    let states = [tcp::SYN_RECV, tcp::ESTABLISHED, tcp::CLOSE, tcp::TIME_WAIT];
    bolero::check!().with_type::<(u16, Vec<(u8, u8, u16)>)>().for_each(|(now, connections)| {
        let now = 100_000 + u32::from(*now);
        let mut table = table(64, random_key());
        for &(client, state, age) in connections.iter().take(64) {
            let protocol = [Protocol::Tcp, Protocol::Udp][usize::from(state) / 4 % 2];
            let state = if protocol == Protocol::Udp { UDP } else { states[usize::from(state) % 4] };
            let key = Key::new(Addr4::from_bits(client.into()), 1, VipId(1), 80, protocol, false);
            let hash = table.hash(key.hash_input());
            if table.find(hash, key).is_none() {
                let made = Record::new(key, ServerId(1), state, now - u32::from(age), false);
                let _ = table.insert(hash, made);
            }
        }
        let is_old = |record: &Record| record.age(now) > lifetimes.of(record.protocol(), record.state());
        let mut expected: Vec<_> = table.iter().filter(is_old).map(|record| record.client()).collect();
        let mut asked = Vec::new();
        let lines = table.lines();
        table.sweep(lines, Some((&lifetimes, now)), |record| {
            asked.extend(is_old(&record).then_some(record.client()));
            Verdict::Keep
        });
        expected.sort_unstable();
        asked.sort_unstable();
        assert_eq!(asked, expected);
    });
}

#[test]
fn no_record_goes_on_with_the_key_of_no_connection() {
    let file = "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\"]\n";
    let config = weir_config::parse("test", file).expect("a valid file").config;
    let lifetimes = Lifetimes::new(&config.connections.timeouts);
    let table = Mutex::new(table(64, random_key()));
    let place = Slot { line: 0, slot: 0 };
    bolero::check!().with_type::<(u64, u64, u32)>().for_each(|&(key, value, now)| {
        // What comes nearest: nothing but a real server, seen in this very second or at some other time.
        let server = value & u64::from(ServerId::MAX);
        let nearest = Record { key: 0, value: server }.touched(super::super::state::State::NONE, now);
        for record in [Record { key, value }, Record { key: 0, value: server }, nearest] {
            let mut table = table.lock().expect("nobody panics");
            let gone_on = table.usual_records(now).go_on(place, record, UsualKey::NONE, &lifetimes);
            assert_eq!(gone_on, None, "{record:?} at {now}");
        }
    });
    assert_eq!(table.into_inner().expect("nobody panics").iter().count(), 0, "nothing was written");
}

#[test]
fn replies_find_the_record_of_their_client() {
    let mut table = table(1024, random_key());
    let key = Key::new(CLIENT, 2, VipId(3), 80, Protocol::Tcp, false);
    let made = Record::new(key, ServerId(9), tcp::SYN_RECV, 0, false);
    let hash = table.hash(key.hash_input());
    table.insert(hash, made).expect("there is room");
    let hash = table.hash(reply_hash_input(CLIENT, 2, None));
    let found = table.find_reply(hash, CLIENT, 2, |record| record.server() == ServerId(9));
    assert_eq!(found.map(|(_, record)| record), Some(made));
    assert!(table.find_reply(hash, CLIENT, 2, |record| record.server() == ServerId(8)).is_none());
    assert!(table.find_reply(hash, CLIENT, 3, |_| true).is_none());
}

/// Of the connections that one real server answers from one socket a reply finds the one that began last, wherever others of the
/// client's port and of other clients come, go and make them move.
#[test]
fn of_a_clients_connections_to_one_real_server_a_reply_finds_the_newest() {
    bolero::check!().with_type::<Vec<(bool, u8)>>().for_each(|operations| {
        for hash_key in [random_key(), crowded()] {
            let mut table = table(128, hash_key);
            let view = table.view();
            // Oldest first.
            let mut there: Vec<Record> = Vec::new();
            for &(insert, detail) in operations {
                let (client_port, server) = (u16::from(detail >> 6), u32::from(detail % 3) + 1);
                let vip = VipId(u16::from(detail & 63));
                let key = Key::new(CLIENT, client_port, vip, 80, Protocol::Tcp, false);
                let hash = table.hash(key.hash_input());
                match (insert, table.find(hash, key)) {
                    (true, None) => {
                        let made = Record::new(key, ServerId(server), tcp::ESTABLISHED, 5, false);
                        let is_rival = |other: Record| other.server() == ServerId(server);
                        if let Ok(slot) = table.insert_before(hash, made, is_rival) {
                            assert_eq!(table.find(hash, key), Some((slot, made)));
                            there.push(made);
                        }
                    }
                    (false, Some((slot, record))) => {
                        table.remove(slot);
                        there.retain(|other| *other != record);
                    }
                    _ => {}
                }
            }
            for (client_port, server) in (0..4).flat_map(|port| (1..4).map(move |n| (port, ServerId(n)))) {
                let is_its =
                    |record: &Record| record.client_port() == client_port && record.server() == server;
                let newest = there.iter().rev().copied().find(is_its);
                let hash = table.hash(reply_hash_input(CLIENT, client_port, None));
                let found = table.find_reply(hash, CLIENT, client_port, |record| is_its(&record));
                assert_eq!(found.map(|(_, record)| record), newest);
                assert_eq!(view.find_reply(hash, CLIENT, client_port, |record| is_its(&record)), newest);
            }
            assert_eq!((table.iter().count(), table.len()), (there.len(), there.len()));
        }
    });
}

#[test]
fn a_view_finds_a_record_that_stays_while_others_come_and_go() {
    let mut table = table(256, crowded());
    let key = Key::new(CLIENT, 7, VipId(1), 80, Protocol::Tcp, false);
    let stays = Record::new(key, ServerId(5), tcp::ESTABLISHED, 0, false);
    let hash = table.hash(key.hash_input());
    let view = table.view();
    let others: Vec<u32> = (8..40).collect();
    for &client in &others[..10] {
        let hash = table.hash(key_of(client).hash_input());
        table.insert(hash, record(client)).expect("there is room");
    }
    table.insert(hash, stays).expect("there is room");
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            (0..200_000)
                .filter(|_| {
                    view.find_reply(hash, CLIENT, 7, |record| record.server() == ServerId(5)).is_none()
                })
                .count()
        });
        let mut turn = 0;
        while !reader.is_finished() {
            let client = others[turn % others.len()];
            let hash = table.hash(key_of(client).hash_input());
            match table.find(hash, key_of(client)) {
                Some((slot, _)) => table.remove(slot),
                None => drop(table.insert(hash, record(client))),
            }
            turn += 1;
        }
        // A reader may give up when records never stop moving, as they do here on purpose; never often.
        assert!(reader.join().expect("the reader does not panic") < 2_000);
    });
}

#[test]
fn hashes_spread_evenly_over_lines() {
    let key = random_key();
    let mut lines = vec![0u32; 1024];
    for n in 0..102_400u64 {
        lines[(key.hash((n / 64) << 32 | (n % 64) << 16) >> 54) as usize] += 1;
    }
    // 100 expected, standard deviation 10.
    assert!(lines.iter().all(|&count| (40..=170).contains(&count)), "{lines:?}");
}
