//! A process that takes over a table with IPv6 clients is killed, at any moment: the next one finds the same connections, and so does the
//! one after that.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering::{Acquire, Release};

use dpdk::{KeptMemory, Pages};
use hashbrown::HashSet;
use weir_config::model::Protocol;

use super::*;
use crate::address::Addr4;
use crate::conn::record::{Key, ServerId, VipId};
use crate::conn::state::tcp;

const CAPACITY: usize = 160;
const CLIENTS: usize = 64;
const HEIR: &str = "WEIR_TEST_HEIR";

fn key() -> HashKey {
    HashKey::new([0x1234_5678_9abc_def1, 0x9e37_79b9_7f4a_7c15])
}

fn octets() -> usize {
    (1 + Table::lines_for(CAPACITY) + Clients::lines_for(CLIENTS)) * 64
}

/// A line to count in, and the table's.
fn pieces(memory: &mut KeptMemory) -> (Slab<Line>, (Slab<Line>, Slab<Line>)) {
    let front = memory.cut(1).expect("a line");
    let table = memory.cut(Table::lines_for(CAPACITY)).expect("lines");
    (front, (table, memory.cut(Clients::lines_for(CLIENTS)).expect("lines")))
}

/// A memory with 84 connections, of 14 clients of IPv6 and as many of IPv4; clients of IPv6 have come and gone besides.
fn filled() -> KeptMemory {
    let mut memory = KeptMemory::create("weir-test", octets(), Pages::Ordinary).expect("memory");
    let (_, (lines, clients)) = pieces(&mut memory);
    let mut table = Table::new(lines, CAPACITY, key()).with_clients(clients);
    let mut slots = Vec::new();
    for number in 0..126_u32 {
        let address = Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(number % 21));
        let client = match number & 1 {
            0 => table.clients.take(address),
            _ => Addr4::from_bits(number % 21),
        };
        let port = (number / 21) as u16;
        let key = Key::new(client, port, VipId((number % 3) as u16), 80, Protocol::Tcp, false);
        let record = Record::new(key, ServerId(number + 1), tcp::ESTABLISHED, number, false);
        table.insert(table.hash(key.hash_input()), record).expect("there is room");
        slots.push(key);
    }
    for key in slots.into_iter().enumerate().filter(|(number, _)| number % 21 % 3 == 0).map(|(_, key)| key) {
        let (slot, _) = table.find(table.hash(key.hash_input()), key).expect("it was put in");
        table.remove(slot);
    }
    table.clients.settle();
    memory
}

fn taken_over(memory: &mut KeptMemory) -> (Table, Left) {
    Table::adopt(pieces(memory).1, CAPACITY, key(), |_| Verdict::Keep)
}

fn again(memory: &KeptMemory) -> KeptMemory {
    KeptMemory::adopt(memory.as_fd().try_clone_to_owned().expect("a descriptor")).expect("kept memory")
}

/// What a table holds, clients by their addresses.
fn content(table: &Table) -> HashSet<(Option<Ipv6Addr>, u64)> {
    let known = table.iter().map(|record| {
        let client = record.client();
        (client.is_of_ipv6().then(|| table.clients.address(client).expect("an address")), record.value)
    });
    let known: HashSet<_> = known.collect();
    assert_eq!(known.len(), table.len(), "each is there once");
    known
}

/// Not a test: the process that is killed. It takes over what is there again and again, and counts when it begins and when it is done.
#[test]
fn heir() {
    let Ok(path) = std::env::var(HEIR) else { return };
    loop {
        let file = OpenOptions::new().read(true).write(true).open(&path).expect("the memory");
        let mut memory = KeptMemory::adopt(file.into()).expect("kept memory");
        let (front, lines) = pieces(&mut memory);
        front[0].0[0].fetch_add(1, Release);
        drop(Table::adopt(lines, CAPACITY, key(), |_| Verdict::Keep));
        front[0].0[0].fetch_add(1, Release);
    }
}

fn start(memory: &KeptMemory) -> Child {
    let path = format!("/proc/{}/fd/{}", std::process::id(), memory.as_fd().as_raw_fd());
    let mut heir = Command::new(std::env::current_exe().expect("this program"));
    let heir = heir.args(["--exact", "conn::table::adopt::interrupted::heir"]).env(HEIR, path);
    heir.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("an heir")
}

/// As many as `WEIR_KILLS` says.
#[test]
fn killed_at_any_moment_of_taking_over_a_process_leaves_what_there_was() {
    let kills = std::env::var("WEIR_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(24);
    let memory = filled();
    let whole = content(&taken_over(&mut again(&memory)).0);
    assert_eq!(whole.len(), 84);
    let mut interrupted = 0;
    for round in 0..kills {
        let mut counting = again(&memory);
        let (front, _) = pieces(&mut counting);
        let count = &front[0].0[0];
        count.store(0, Release);
        let mut heir = start(&memory);
        // Odd: it is taking over.
        while count.load(Acquire) < 2 * (1 + round % 7) + 1 {
            std::hint::spin_loop();
        }
        (0..round * 977 % 3_000).for_each(|_| std::hint::spin_loop());
        heir.kill().expect("a process");
        heir.wait().expect("a process");
        interrupted += count.load(Acquire) & 1;
        let (table, left) = taken_over(&mut again(&memory));
        assert_eq!((content(&table), left.rebuilt), (whole.clone(), false), "round {round}");
        assert_eq!(table.clients.known(), 14, "round {round}");
    }
    let _ = writeln!(std::io::stderr(), "{kills} kills, {interrupted} of them while it took over");
    assert!(kills == 0 || interrupted > 0);
    // It works on.
    let (mut table, _) = taken_over(&mut again(&memory));
    for record in table.iter().collect::<Vec<_>>() {
        let key = record.lookup_key();
        let (slot, _) = table.find(table.hash(key.hash_input()), key).expect("each is found");
        table.remove(slot);
    }
    assert_eq!((table.len(), table.clients.known()), (0, 0));
}
