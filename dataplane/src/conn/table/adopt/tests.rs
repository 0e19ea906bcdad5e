//! A process that writes into a table is killed, at any moment: each of its connections is there, once, and with nobody else's facts.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Command, Stdio};

use dpdk::{KeptMemory, Pages};
use hashbrown::HashSet;
use weir_config::model::Protocol;

use super::*;
use crate::address::Addr4;
use crate::conn::record::{Key, ServerId, VipId};
use crate::conn::state::tcp;

const CAPACITY: usize = 160;
const CLIENTS: usize = 64;
const VICTIM: &str = "WEIR_TEST_VICTIM";

/// Sends everything to few lines, so that records move all the time.
fn key() -> HashKey {
    HashKey { xor: 0, multiply: 1 }
}

fn pieces(memory: &mut KeptMemory) -> (Slab<Line>, (Slab<Line>, Slab<Line>)) {
    let front = memory.cut(1).expect("a line");
    let table = memory.cut(Table::lines_for(CAPACITY)).expect("lines");
    (front, (table, memory.cut(Clients::lines_for(CLIENTS)).expect("lines")))
}

fn octets() -> usize {
    (1 + Table::lines_for(CAPACITY) + Clients::lines_for(CLIENTS)) * 64
}

/// One of 128 connections; every second one is of an IPv6 client.
fn address6(connection: u32) -> Option<Ipv6Addr> {
    (connection & 1 == 1).then(|| Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(connection / 8)))
}

fn key_of(connection: u32, client: Addr4) -> Key {
    // A chain has room for 64.
    let vip = VipId((connection % 8) as u16);
    Key::new(client, (connection / 16) as u16, vip, 80, Protocol::Tcp, false)
}

/// The next thing that a victim does, told by a number alone.
fn step(table: &mut Table, number: u64) {
    let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let connection = (mixed >> 40) as u32 & 127;
    let client = match address6(connection) {
        Some(address) => table.clients.take(address),
        None => Addr4::from_bits(connection / 8),
    };
    let key = key_of(connection, client);
    let hash = table.hash(key.hash_input());
    match table.find(hash, key) {
        Some((slot, record)) if mixed >> 20 & 3 == 0 => {
            table.update(slot, record.touched(tcp::FIN_WAIT, number as u32));
        }
        Some((slot, _)) => table.remove(slot),
        None => {
            let server = ServerId(connection + 1);
            let record = Record::new(key, server, tcp::ESTABLISHED, number as u32, false);
            let _ = table.insert(hash, record);
        }
    }
    table.clients.settle();
}

/// What a table holds, clients by their addresses.
fn content(table: &Table) -> HashSet<(Option<Ipv6Addr>, u64, u64)> {
    let known = table.iter().map(|record| {
        let client = record.client();
        match client.is_of_ipv6() {
            true => (table.clients.address(client), record.key & u64::from(u32::MAX), record.value),
            false => (None, record.key, record.value),
        }
    });
    let known: HashSet<_> = known.collect();
    assert_eq!(known.len(), table.len(), "each is there once");
    known
}

/// Not a test: the process that is killed.
#[test]
fn victim() {
    let Ok(path) = std::env::var(VICTIM) else { return };
    let file = OpenOptions::new().read(true).write(true).open(path).expect("the memory");
    let mut memory = KeptMemory::adopt(file.into()).expect("kept memory");
    let (front, (lines, clients)) = pieces(&mut memory);
    let mut table = Table::new(lines, CAPACITY, key()).with_clients(clients);
    let done = &front[0].0[0];
    for number in 0.. {
        step(&mut table, number);
        done.store(number + 1, std::sync::atomic::Ordering::Release);
    }
}

fn start(memory: &KeptMemory) -> Child {
    let path = format!("/proc/{}/fd/{}", std::process::id(), memory.as_fd().as_raw_fd());
    let mut victim = Command::new(std::env::current_exe().expect("this program"));
    let victim = victim.args(["--exact", "conn::table::adopt::tests::victim"]).env(VICTIM, path);
    victim.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a victim")
}

/// As many as `WEIR_KILLS` says.
#[test]
fn killed_at_any_moment_a_process_leaves_what_it_had_before_its_last_step_or_after_it() {
    let kills = std::env::var("WEIR_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(24);
    let mut rebuilt = 0;
    for round in 0..kills {
        let mut memory = KeptMemory::create("weir-test", octets(), Pages::Ordinary).expect("memory");
        let mut victim = start(&memory);
        let (front, pieces) = pieces(&mut memory);
        let done = || front[0].0[0].load(std::sync::atomic::Ordering::Acquire);
        // Steps differ in length, and so do the moments.
        let until = 200 + (round * 977) % 3_000;
        while done() < until {
            std::hint::spin_loop();
        }
        victim.kill().expect("a process");
        victim.wait().expect("a process");
        let mut model = Table::new(Slab::heap(Table::lines_for(CAPACITY)).expect("memory"), CAPACITY, key())
            .with_clients(Slab::heap(Clients::lines_for(CLIENTS)).expect("memory"));
        (0..done()).for_each(|number| step(&mut model, number));
        let before = content(&model);
        step(&mut model, done());
        let after = content(&model);
        let (mut table, left) = Table::adopt(pieces, CAPACITY, key(), |_| Verdict::Keep);
        rebuilt += usize::from(left.rebuilt);
        let found = content(&table);
        assert!(found == before || found == after, "round {round}, after {} steps", done());
        // It works on.
        for record in table.iter().collect::<Vec<_>>() {
            let key = record.lookup_key();
            let (slot, _) = table.find(table.hash(key.hash_input()), key).expect("each is found");
            table.remove(slot);
        }
        assert_eq!((table.len(), table.clients.known()), (0, 0));
    }
    let _ = writeln!(std::io::stderr(), "{kills} kills, {rebuilt} of them while records moved");
}

fn filled() -> (KeptMemory, Table) {
    let mut memory = KeptMemory::create("weir-test", octets(), Pages::Ordinary).expect("memory");
    let (_, (lines, clients)) = pieces(&mut memory);
    let mut table = Table::new(lines, CAPACITY, key()).with_clients(clients);
    (0..500).for_each(|number| step(&mut table, number));
    (memory, table)
}

fn taken_over(memory: &KeptMemory) -> (Table, Left) {
    let file = memory.as_fd().try_clone_to_owned().expect("a descriptor");
    let mut memory = KeptMemory::adopt(file).expect("kept memory");
    let (_, lines) = pieces(&mut memory);
    Table::adopt(lines, CAPACITY, key(), |_| Verdict::Keep)
}

#[test]
fn what_a_move_leaves_in_two_places_or_with_a_gap_is_put_in_order() {
    for is_moved in [false, true] {
        let (memory, table) = filled();
        let whole = content(&table);
        let (again, left) = taken_over(&memory);
        assert_eq!((&content(&again), left.rebuilt), (&whole, false));
        // The first record of a line is being taken out, and the second one comes into its place.
        let line =
            (0..table.lines()).find(|line| table.shared.value(*line, 1) != 0).expect("a line with two");
        let (first, second) = (table.shared.read(line, 0), table.shared.read(line, 1));
        table.shared.lines[line].0[SLOTS].store(0, Relaxed);
        if is_moved {
            table.shared.fill(line, 0, second);
        }
        let (again, left) = taken_over(&memory);
        assert!(left.rebuilt, "{is_moved}");
        // Each step has its own second, so no two values are alike.
        let expected: HashSet<_> = whole.into_iter().filter(|(.., value)| *value != first.value).collect();
        assert_eq!(content(&again), expected);
    }
}

#[test]
fn any_bits_at_all_are_taken_for_what_they_may_be_and_harm_nobody() {
    bolero::check!().with_type::<Vec<(u16, u64)>>().with_iterations(200).for_each(|words| {
        let (memory, table) = filled();
        let file = memory.as_fd().try_clone_to_owned().expect("a descriptor");
        let mut lies = KeptMemory::adopt(file).expect("kept memory");
        let lines = lies.cut(octets() / 64).expect("lines");
        for &(place, word) in words {
            let place = usize::from(place) % (lines.len() * 8);
            lines[place / 8].0[place % 8].store(word, Relaxed);
        }
        drop(table);
        let (mut table, _) = taken_over(&memory);
        assert_eq!(table.iter().count(), table.len());
        assert!(table.iter().all(Record::is_sound));
        let clients = table.clients.known();
        for record in table.iter().collect::<Vec<_>>() {
            let key = record.lookup_key();
            let (slot, found) = table.find(table.hash(key.hash_input()), key).expect("each is found");
            assert_eq!(found, record);
            table.remove(slot);
        }
        assert!(table.is_empty() && table.clients.known() == 0, "of {clients}");
    });
}
