//! A process that writes into a table is killed, at any moment: each of its connections is there, once, and with nobody else's facts.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use dpdk::{KeptMemory, Pages};
use hashbrown::HashSet;
use weir_config::model::Protocol;

use super::*;
use crate::address::Addr4;
use crate::conn::record::{Key, ServerId, VipId};
use crate::conn::state::tcp;
use crate::conn::table::Heir;

const CAPACITY: usize = 160;
const CLIENTS: usize = 64;
const VICTIM: &str = "WEIR_TEST_VICTIM";
/// Its clients are of IPv4.
const OF_IPV4: &str = "WEIR_TEST_VICTIM_OF_IPV4";

/// Sends everything to few lines, so that records move all the time: to one, or that of each IPv4 client to one of sixteen, behind which
/// they spill over from block to block.
fn key(is_of_ipv4: bool) -> HashKey {
    let multiply = if is_of_ipv4 { (1 << 32) / Table::lines_for(CAPACITY) as u64 } else { 1 };
    HashKey { xor: 0, multiply }
}

fn pieces(memory: &mut KeptMemory) -> (Slab<Line>, (Slab<Line>, Slab<Line>)) {
    let front = memory.cut(1).expect("a line");
    let table = memory.cut(Table::lines_for(CAPACITY)).expect("lines");
    (front, (table, memory.cut(Clients::lines_for(CLIENTS)).expect("lines")))
}

fn octets() -> usize {
    (1 + Table::lines_for(CAPACITY) + Clients::lines_for(CLIENTS)) * 64
}

/// One of 128 connections; every second one is of an IPv6 client, in a world that has some.
fn address6(connection: u32, is_of_ipv4: bool) -> Option<Ipv6Addr> {
    (connection & 1 == 1 && !is_of_ipv4)
        .then(|| Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(connection / 8)))
}

fn key_of(connection: u32, client: Addr4) -> Key {
    // A chain has room for 64.
    let vip = VipId((connection % 8) as u16);
    Key::new(client, (connection / 16) as u16, vip, 80, Protocol::Tcp, false)
}

/// The next thing that a victim does, told by a number alone.
fn step(table: &mut Table, number: u64, is_of_ipv4: bool) {
    let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let connection = (mixed >> 40) as u32 & 127;
    let client = match address6(connection, is_of_ipv4) {
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
    let is_of_ipv4 = std::env::var(OF_IPV4).is_ok();
    let mut table = Table::new(lines, CAPACITY, key(is_of_ipv4)).with_clients(clients);
    let done = &front[0].0[0];
    for number in 0.. {
        step(&mut table, number, is_of_ipv4);
        done.store(number + 1, std::sync::atomic::Ordering::Release);
    }
}

fn start(memory: &KeptMemory, is_of_ipv4: bool) -> Child {
    let path = format!("/proc/{}/fd/{}", std::process::id(), memory.as_fd().as_raw_fd());
    let mut victim = Command::new(std::env::current_exe().expect("this program"));
    let victim = victim.args(["--exact", "conn::table::adopt::tests::victim"]).env(VICTIM, path);
    if is_of_ipv4 {
        victim.env(OF_IPV4, "");
    }
    victim.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a victim")
}

type Lines = (Slab<Line>, Slab<Line>);
type Content = HashSet<(Option<Ipv6Addr>, u64, u64)>;

/// Kills as many victims as `WEIR_KILLS` says. `check` is told what each has left, and what it had before its last step and after it.
fn kill(is_of_ipv4: bool, mut check: impl FnMut(Lines, [&Content; 2], &str)) -> u64 {
    let kills = std::env::var("WEIR_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(24);
    for round in 0..kills {
        let mut memory = KeptMemory::create("weir-test", octets(), Pages::Ordinary).expect("memory");
        let mut victim = start(&memory, is_of_ipv4);
        let (front, pieces) = pieces(&mut memory);
        let done = || front[0].0[0].load(std::sync::atomic::Ordering::Acquire);
        // Steps differ in length, and so do the moments.
        let until = 200 + (round * 977) % 3_000;
        while done() < until {
            std::hint::spin_loop();
        }
        victim.kill().expect("a process");
        victim.wait().expect("a process");
        let mut model =
            Table::new(Slab::heap(Table::lines_for(CAPACITY)).expect("memory"), CAPACITY, key(is_of_ipv4))
                .with_clients(Slab::heap(Clients::lines_for(CLIENTS)).expect("memory"));
        (0..done()).for_each(|number| step(&mut model, number, is_of_ipv4));
        let before = content(&model);
        step(&mut model, done(), is_of_ipv4);
        let after = content(&model);
        check(pieces, [&before, &after], &format!("round {round}, after {} steps", done()));
    }
    kills
}

/// It works on.
fn assert_empties(table: &mut Table) {
    for record in table.iter().collect::<Vec<_>>() {
        let key = record.lookup_key();
        let (slot, _) = table.find(table.hash(key.hash_input()), key).expect("each is found");
        table.remove(slot);
    }
    assert_eq!((table.len(), table.clients.known()), (0, 0));
}

#[test]
fn killed_at_any_moment_a_process_leaves_what_it_had_before_its_last_step_or_after_it() {
    let mut rebuilt = 0;
    let kills = kill(false, |pieces, ends, when| {
        let (mut table, left) = Table::adopt(pieces, CAPACITY, key(false), |_| Verdict::Keep);
        rebuilt += usize::from(left.rebuilt);
        assert!(ends.contains(&&content(&table)), "{when}");
        assert_empties(&mut table);
    });
    let _ = writeln!(std::io::stderr(), "{kills} kills, {rebuilt} of them while records moved");
}

fn filled(is_of_ipv4: bool) -> (KeptMemory, Table) {
    let mut memory = KeptMemory::create("weir-test", octets(), Pages::Ordinary).expect("memory");
    let (_, (lines, clients)) = pieces(&mut memory);
    let mut table = Table::new(lines, CAPACITY, key(is_of_ipv4)).with_clients(clients);
    (0..500).for_each(|number| step(&mut table, number, is_of_ipv4));
    (memory, table)
}

fn taken_over(memory: &KeptMemory) -> (Table, Left) {
    let file = memory.as_fd().try_clone_to_owned().expect("a descriptor");
    let mut memory = KeptMemory::adopt(file).expect("kept memory");
    let (_, lines) = pieces(&mut memory);
    Table::adopt(lines, CAPACITY, key(false), |_| Verdict::Keep)
}

#[test]
fn what_a_move_leaves_in_two_places_or_with_a_gap_is_put_in_order() {
    for is_moved in [false, true] {
        let (memory, table) = filled(false);
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
        let (memory, table) = filled(false);
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

/// Counts what it takes.
#[derive(Default)]
struct Counting {
    taken: AtomicUsize,
    is_done: AtomicBool,
}

impl Heir for Counting {
    fn goes_on(&self, _: Record) -> bool {
        true
    }

    fn take(&self, _: Record) -> bool {
        self.taken.fetch_add(1, Relaxed);
        true
    }

    fn give_up(&self, _: Record) {
        self.taken.fetch_sub(1, Relaxed);
    }

    fn end(&self, _: usize) {
        self.is_done.store(true, Relaxed);
    }

    fn is_done(&self) -> bool {
        self.is_done.load(Relaxed)
    }
}

fn inherited((lines, clients): Lines) -> (Table, Arc<Counting>) {
    let heir = Arc::<Counting>::default();
    (Table::inherit(lines, CAPACITY, key(true), heir.clone()).with_clients(clients), heir)
}

fn take_over_all(table: &mut Table, heir: &Counting) {
    while table.adopt_more() {}
    assert!(heir.is_done() && !table.is_adopting());
    assert_eq!((heir.taken.load(Relaxed), table.iter().count()), (table.len(), table.len()));
}

#[test]
fn each_connection_is_found_before_the_others_are_looked_at() {
    let mut round = 0;
    kill(true, |pieces, ends, when| {
        round += 1;
        let (mut table, heir) = inherited(pieces);
        // Which are looked for, and when some more are looked at, is another thing each time.
        let mut found = HashSet::new();
        for number in 0..128_u32 {
            let connection = (number * 37 + round) % 128;
            let key = key_of(connection, Addr4::from_bits(connection / 8));
            match table.find(table.hash(key.hash_input()), key) {
                Some((_, record)) => _ = found.insert((None, record.key, record.value)),
                None => {
                    assert!(ends.iter().any(|end| !end.iter().any(|it| it.1 == record_key(key))), "{when}")
                }
            }
            if (connection + round) % 8 == 0 {
                table.adopt_more();
            }
        }
        assert!(ends.contains(&&found), "{when}");
        take_over_all(&mut table, &heir);
        assert!(ends.contains(&&content(&table)), "{when}");
        assert_empties(&mut table);
    });
}

fn record_key(key: Key) -> u64 {
    Record::new(key, ServerId(1), tcp::ESTABLISHED, 0, false).key
}

#[test]
fn what_moved_when_the_end_came_is_put_in_order_when_it_is_looked_at() {
    for is_moved in [false, true] {
        for is_asked_for in [false, true] {
            let (memory, table) = filled(true);
            let whole = content(&table);
            let line =
                (0..table.lines()).find(|line| table.shared.value(*line, 1) != 0).expect("a line with two");
            let (first, second) = (table.shared.read(line, 0), table.shared.read(line, 1));
            table.shared.lines[line].0[SLOTS].store(0, Relaxed);
            if is_moved {
                table.shared.fill(line, 0, second);
            }
            let file = memory.as_fd().try_clone_to_owned().expect("a descriptor");
            let mut again = KeptMemory::adopt(file).expect("kept memory");
            let (mut next, heir) = inherited(pieces(&mut again).1);
            let expected: HashSet<_> =
                whole.into_iter().filter(|(.., value)| *value != first.value).collect();
            for record in expected.iter().filter(|_| is_asked_for) {
                let record = Record { key: record.1, value: record.2 };
                let key = record.lookup_key();
                let found = next.find(next.hash(key.hash_input()), key).map(|(_, found)| found);
                assert_eq!(found, Some(record));
            }
            take_over_all(&mut next, &heir);
            assert_eq!(content(&next), expected, "{is_moved}, {is_asked_for}");
        }
    }
}

#[test]
fn connections_come_and_go_while_whatever_was_left_is_taken_over() {
    bolero::check!().with_type::<(Vec<(u16, u64)>, Vec<u16>)>().with_iterations(200).for_each(
        |(words, steps)| {
            let (memory, table) = filled(true);
            let mut lies = taken(&memory);
            let lines = lies.cut(octets() / 64).expect("lines");
            let table_lines = Table::lines_for(CAPACITY);
            for &(place, word) in words {
                let place = usize::from(place) % (table_lines * 8);
                lines[1 + place / 8].0[place % 8].store(word, Relaxed);
            }
            drop(table);
            let (mut table, heir) = inherited(pieces(&mut taken(&memory)).1);
            for &number in steps {
                if number & 7 == 0 {
                    table.adopt_more();
                }
                // Who ends one counts it out, and who opens one counts it in.
                let before = (table.len(), heir.taken.load(Relaxed));
                step(&mut table, u64::from(number >> 3), true);
                let looked_at = heir.taken.load(Relaxed) as isize - before.1 as isize;
                let own = table.len() as isize - before.0 as isize - looked_at;
                assert!((-1..=1).contains(&own));
                heir.taken.store((heir.taken.load(Relaxed) as isize + own) as usize, Relaxed);
            }
            take_over_all(&mut table, &heir);
            assert!(table.iter().all(Record::is_sound));
            assert_empties(&mut table);
        },
    );
}

fn taken(memory: &KeptMemory) -> KeptMemory {
    let file = memory.as_fd().try_clone_to_owned().expect("a descriptor");
    KeptMemory::adopt(file).expect("kept memory")
}
