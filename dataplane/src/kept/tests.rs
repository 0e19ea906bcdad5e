//! What is refused, and what the book remembers.

use std::sync::atomic::Ordering::Relaxed;

use dpdk::memory::{Line, Slab};
use dpdk::{KeptMemory, Pages};
use hashbrown::HashSet;
use weir_config::model::{Config, Engine, Identity};

use super::*;
use crate::conn::clients::Clients;
use crate::conn::record::{ServerId, VipId};
use crate::conn::table::Table;
use crate::conn::template::Templates;
use crate::sched::Options;
use crate::snapshot::registry::{Progress, Registry, Resumed, Standing};
use crate::wire::ethernet::MacAddress;

const MACHINE: Machine =
    Machine { boot: [1, 2], cycles: 9_000_000_000, hz: 1_000_000_000, boot_millis: 500_000 };

fn header() -> Header {
    Header {
        boot: MACHINE.boot,
        session: 77,
        workers: 2,
        capacity: 1_024,
        table_lines: Table::lines_for(1_024) as u64,
        client_lines: Clients::lines_for(16) as u64,
        template_lines: [Templates::lines_for(8) as u64, Templates::lines_for_ipv6(8) as u64],
        key: [3, 5],
    }
}

/// A book that holds all it should, in memory that can be read again, and the tables' first line.
fn written() -> (KeptMemory, Slab<Line>) {
    let mut memory = KeptMemory::create("weir-test", BOOK_LINES * 64, Pages::Sparse).expect("memory");
    let front = Slab::heap(1).expect("memory");
    let lines = memory.cut(BOOK_LINES).expect("as many as asked for");
    Book::begin(lines, &front[0], &header(), &Clock::new(&MACHINE)).complete();
    (memory, front)
}

fn again(memory: &KeptMemory) -> Slab<Line> {
    let file = std::os::fd::AsFd::as_fd(memory).try_clone_to_owned().expect("a descriptor");
    KeptMemory::adopt(file).expect("kept memory").cut(BOOK_LINES).expect("lines")
}

fn read(memory: &KeptMemory, machine: &Machine) -> Result<(Header, Clock), Refusal> {
    Book::read(again(memory), machine).map(|(_, header, clock)| (header, clock))
}

#[test]
fn a_header_is_read_as_it_was_written_and_refused_when_any_word_of_it_is_another_one() {
    let (memory, _) = written();
    assert_eq!(read(&memory, &MACHINE).map(|(header, _)| header), Ok(header()));
    let lines = again(&memory);
    // The spare words of the line of states say nothing, and of the clock there are two.
    let said = (0..17).map(|word| (word / 8, word % 8));
    for (line, word) in said {
        for bit in [0, 17, 63] {
            let place = &lines[line].0[word];
            let old = place.load(Relaxed);
            place.store(old ^ 1 << bit, Relaxed);
            let refusal = read(&memory, &MACHINE).expect_err("damaged");
            let expected = match (line, word) {
                (0, 0) => Refusal::NotWeirs,
                (0, 1) => Refusal::Layout { found: old ^ 1 << bit },
                (2, _) => Refusal::Unfinished,
                _ => Refusal::Damaged,
            };
            assert_eq!(refusal, expected, "line {line}, word {word}");
            place.store(old, Relaxed);
        }
    }
    assert!(read(&memory, &MACHINE).is_ok());
    for word in &lines[3].0 {
        let old = word.load(Relaxed);
        word.store(!old, Relaxed);
        assert_eq!(read(&memory, &MACHINE), Err(Refusal::Damaged), "the clock");
        word.store(old, Relaxed);
    }
}

#[test]
fn another_boot_and_a_counter_that_has_jumped_are_refused() {
    let (memory, _) = written();
    let other = Machine { boot: [1, 3], ..MACHINE };
    assert_eq!(read(&memory, &other), Err(Refusal::OtherBoot));
    // Ten seconds of both.
    let later = Machine { cycles: MACHINE.cycles + 10_000_000_000, boot_millis: 510_000, ..MACHINE };
    let (_, clock) = read(&memory, &later).expect("the same boot");
    assert_eq!(clock, Clock::new(&MACHINE), "it goes on");
    for cycles in [MACHINE.cycles - 1, MACHINE.cycles + 200_000_000_000] {
        assert_eq!(read(&memory, &Machine { cycles, ..later }), Err(Refusal::Clock));
    }
    assert_eq!(read(&memory, &Machine { boot_millis: 0, ..later }), Err(Refusal::Clock));
    // Another frequency for the same counter: the seconds of records stay what they are.
    let hz = 1_000_100_000;
    let (_, clock) = read(&memory, &Machine { hz, ..later }).expect("the same boot");
    let passed = later.cycles.wrapping_sub(clock.epoch) / (hz / 1_000);
    assert_eq!((passed, clock.hz), (10_000, hz));
    let (book, ..) = Book::read(again(&memory), &later).expect("the same boot");
    book.go_on(&clock);
    assert_eq!(Clock::read(&again(&memory)), Ok(clock));
    let third = Clock { epoch: 5, ..clock };
    book.go_on(&third);
    assert_eq!(Clock::read(&again(&memory)), Ok(third));
}

#[test]
fn flows_come_to_the_same_workers_only_if_nothing_says_otherwise() {
    let (memory, _) = written();
    let (book, ..) = Book::read(again(&memory), &MACHINE).expect("a book");
    assert_eq!(book.distribution(), None);
    let known = Distribution { seed: [3, 4], print: 5 };
    assert!(!known.goes_on(None));
    book.spread_by(known);
    assert_eq!(book.distribution(), Some(known));
    for (print, before, goes_on) in [(5, 5, true), (5, 6, false), (0, 0, false), (5, 0, false), (0, 5, false)]
    {
        let now = Distribution { print, ..known };
        assert_eq!(now.goes_on(Some(Distribution { print: before, ..known })), goes_on, "{before}, {print}");
    }
    for word in &again(&memory)[5].0 {
        let old = word.load(Relaxed);
        word.store(old ^ 1 << 9, Relaxed);
        assert_eq!(book.distribution(), None);
        word.store(old, Relaxed);
    }
    // Lines that nobody has written have a sum as well.
    store_sealed(&again(&memory)[5], [0; 7]);
    assert_eq!(book.distribution(), None);
}

#[test]
fn tables_that_are_others_or_cut_are_refused() {
    let (memory, front) = written();
    let (book, header, _) = Book::read(again(&memory), &MACHINE).expect("a book");
    let octets = header.lines() * 64;
    assert_eq!(book.check(&header, &front[0], octets), Ok(()));
    assert_eq!(book.check(&header, &front[0], octets.next_multiple_of(2 << 20)), Ok(()));
    for found in [octets - 1, octets + (2 << 20), 0] {
        assert_eq!(book.check(&header, &front[0], found), Err(Refusal::Truncated { found, wanted: octets }));
    }
    for word in &front[0].0 {
        let old = word.load(Relaxed);
        word.store(old ^ 1 << 40, Relaxed);
        assert_eq!(book.check(&header, &front[0], octets), Err(Refusal::OtherTables));
        word.store(old, Relaxed);
    }
    // Whoever wrote it: sizes that no table has.
    for (table_lines, client_lines) in [(0, 0), (63, 0), (64, 3), (64, u64::MAX), (u64::MAX, 0)] {
        let lying = Header { table_lines, client_lines, ..header };
        lying.write(&again(&memory));
        Header::complete(&again(&memory));
        let refused = read(&memory, &MACHINE).and_then(|(header, _)| header.check(&front[0], octets));
        assert!(refused.is_err(), "{table_lines} and {client_lines}");
    }
    for template_lines in [[0, 16], [8, 0], [9, 16], [8, 18], [u64::MAX, 16], [8, u64::MAX - 3]] {
        let lying = Header { template_lines, ..header };
        lying.write(&again(&memory));
        Header::complete(&again(&memory));
        let refused = read(&memory, &MACHINE).and_then(|(header, _)| header.check(&front[0], octets));
        assert!(refused.is_err(), "{template_lines:?}");
    }
}

fn config(text: &str) -> Config {
    let port = "[[port]]\nname = \"lan\"\ndevice = \"net_null0\"\naddresses = [\"10.0.0.2/24\", \"2001:db8::2/64\"]\n";
    weir_config::parse("weir.toml", &format!("{port}{text}"))
        .unwrap_or_else(|report| panic!("{report}"))
        .config
}

fn service(address: &str, method: &str, servers: &[&str]) -> String {
    let servers =
        servers.iter().map(|server| format!("[[virtual_server.real_server]]\naddress = \"{server}\"\n"));
    format!(
        "[[virtual_server]]\nname = \"{address}\"\naddress = \"{address}\"\nport = 80\nforwarding = \"{method}\"\n{}",
        servers.collect::<String>()
    )
}

#[test]
fn the_book_says_what_every_number_means_and_the_next_registry_gives_the_same() {
    let text = service("10.0.0.100", "nat", &["10.0.0.11", "10.0.0.12"])
        + &service("2001:db8::100", "tun", &["2001:db8::11", "10.0.0.11"]);
    let first = config(&text);
    let macs = [MacAddress([2, 0, 0, 0, 0, 1])];
    let mut registry = Registry::new(1, Options::default());
    let snapshot = registry.snapshot(&first, &macs, Progress::default()).expect("served");
    let (memory, _) = written();
    let (mut book, ..) = Book::read(again(&memory), &MACHINE).expect("a book");
    book.note(&snapshot);
    let numbers = book.numbers();
    assert_eq!((numbers.vips.len(), numbers.servers.len()), (2, 4));
    for server in snapshot.servers() {
        let named = numbers.servers[&server.id];
        assert_eq!(named.server, (server.ip(), server.named_port));
        assert_eq!(
            (named.forwarding, named.port, named.service_id),
            (server.forwarding, server.port, server.service)
        );
    }
    let identities: HashSet<Identity> = first.virtual_servers.iter().map(|it| it.identity()).collect();
    assert_eq!(numbers.servers.values().map(|named| named.service).collect::<HashSet<_>>(), identities);
    // An entry that is not whole says nothing.
    let lines = again(&memory);
    let id = *numbers.servers.keys().next().expect("a server");
    let line = lines.iter().rposition(|line| line.0[7].load(Relaxed) != 0).expect("an entry");
    lines[line].0[7].store(1, Relaxed);
    let (torn, ..) = Book::read(again(&memory), &MACHINE).expect("a book");
    assert_eq!(torn.numbers().servers.len(), 3, "{id:?}");
}

#[test]
fn the_book_says_nothing_of_numbers_that_are_free() {
    let macs = [MacAddress([2, 0, 0, 0, 0, 1])];
    let both = service("10.0.0.100", "nat", &["10.0.0.11", "10.0.0.12"])
        + &service("2001:db8::100", "tun", &["2001:db8::11"]);
    let one = config(&service("10.0.0.100", "nat", &["10.0.0.11"]));
    let mut registry = Registry::new(1, Options::default());
    let (memory, _) = written();
    let (mut book, ..) = Book::read(again(&memory), &MACHINE).expect("a book");
    let mut known = |config: &Config, seen| {
        let progress = Progress { seen, swept: seen, templates: None };
        book.note(&registry.snapshot(config, &macs, progress).expect("served"));
        let numbers = book.numbers();
        (numbers.vips.len(), numbers.servers.len())
    };
    assert_eq!(known(&config(&both), 0), (2, 3));
    assert_eq!(known(&one, 1), (2, 3), "some connection may name them");
    assert_eq!(known(&one, 2), (1, 1));
    assert_eq!(known(&config(&both), 3), (2, 3));
}

#[test]
fn the_book_says_what_templates_mean_and_a_reload_gives_them_up_as_ever() {
    let macs = [MacAddress([2, 0, 0, 0, 0, 1])];
    const SIP: Option<Engine> = Some(Engine::Sip);
    let lasting = |by: Option<(u8, Option<Engine>)>| {
        let lines = by.map_or_else(String::new, |(netmask, engine)| {
            let engine = engine.map_or("", |_| "persistence_engine = \"sip\"\n");
            format!("persistence_timeout = 300\npersistence_netmask = {netmask}\n{engine}")
        });
        let text = service("10.0.0.100", "dr", &["10.0.0.11"]);
        config(&text.replacen("forwarding", &format!("protocol = \"udp\"\n{lines}forwarding"), 1))
    };
    let (memory, _) = written();
    let (mut book, ..) = Book::read(again(&memory), &MACHINE).expect("a book");
    let mut registry = Registry::new(1, Options::default());
    let mut epochs = Vec::new();
    for by in [
        None,
        Some((24, None)),
        Some((24, None)),
        Some((16, None)),
        Some((16, SIP)),
        Some((0, SIP)),
        None,
        Some((16, None)),
    ] {
        let snapshot = registry.snapshot(&lasting(by), &macs, Progress::default()).expect("served");
        book.note(&snapshot);
        let service = snapshot.services().next().expect("one");
        let ties = book.numbers().ties.get(&service.id).copied();
        assert_eq!(ties.map(|ties| ties.by), by);
        assert!(ties.is_none_or(|ties| ties.epoch == service.epoch.number));
        epochs.push(service.epoch.number);
    }
    assert_eq!(epochs, [0, 1, 1, 2, 3, 4, 5, 6]);
    // The next process goes on with the epoch, unless its file means another one.
    let numbers = book.numbers();
    for (by, epoch) in [(Some((16, None)), 6), (Some((24, None)), 7), (Some((16, SIP)), 7), (None, 7)] {
        let servers = numbers.servers.iter();
        let servers = servers.map(|(id, named)| Resumed { id: *id, named: *named, counts: vec![[0, 0]] });
        let standing = Standing {
            servers: servers.collect(),
            ties: numbers.ties.values().copied().collect(),
            ..Standing::default()
        };
        let mut next = Registry::new(1, Options::default());
        next.resume(&lasting(by), &standing);
        let resumed = next.snapshot(&lasting(by), &macs, Progress::default()).expect("served");
        assert_eq!(resumed.services().next().expect("one").epoch.number, epoch);
    }
}

#[test]
fn numbers_stay_with_what_they_mean_when_the_file_is_another_one() {
    let macs = [MacAddress([2, 0, 0, 0, 0, 1])];
    let before = config(&service("10.0.0.100", "nat", &["10.0.0.11", "10.0.0.12", "10.0.0.13"]));
    let mut registry = Registry::new(1, Options::default());
    let snapshot = registry.snapshot(&before, &macs, Progress::default()).expect("served");
    let number_of = |snapshot: &crate::snapshot::Snapshot, last: u8| -> ServerId {
        let is_it = |server: &&crate::snapshot::server::Server| {
            server.address.octets()[3] == last && !server.is_former()
        };
        snapshot.numbered().find(is_it).expect("a server").id
    };
    let standing = |last: u8| Resumed {
        id: number_of(&snapshot, last),
        named: {
            let (memory, _) = written();
            let (mut book, ..) = Book::read(again(&memory), &MACHINE).expect("a book");
            book.note(&snapshot);
            book.numbers().servers[&number_of(&snapshot, last)]
        },
        counts: vec![[u32::from(last), 1]],
    };
    let vip = snapshot.vips.own().next().expect("a VIP").0;
    let standing = Standing {
        vips: vec![(vip, "10.0.0.100".parse().expect("an address"))],
        servers: vec![standing(12), standing(13)],
        ties: Vec::new(),
        hashes: [true, false],
        shares_numbers: false,
    };
    // Others in front of it, and one is gone; another method, too.
    let text = service("10.0.0.90", "dr", &["10.0.0.11", "10.0.0.14"])
        + &service("10.0.0.100", "nat", &["10.0.0.10", "10.0.0.12"]);
    let after = config(&text);
    let mut next = Registry::new(1, Options::default());
    next.resume(&after, &standing);
    let resumed = next.snapshot(&after, &macs, Progress::default()).expect("served");
    assert!(!resumed.may_share_numbers, "nothing is looked up once more");
    let (twelve, thirteen) = (number_of(&snapshot, 12), number_of(&snapshot, 13));
    let stays = resumed.server(twelve);
    assert!(stays.is_present && stays.address.octets()[3] == 12 && stays.current == twelve);
    assert_eq!((stays.live.active(), stays.live.inactive()), (12, 1));
    let gone = resumed.server(thirteen);
    assert!(!gone.is_present && gone.address.octets()[3] == 13, "its packets are dropped");
    assert_eq!((gone.live.active(), gone.live.inactive()), (13, 1));
    assert_eq!(resumed.ended_since, 1, "the sweep looks at every connection");
    let others: HashSet<ServerId> =
        [(90, 11), (90, 14), (100, 10)].into_iter().map(|(_, last)| number_of(&resumed, last)).collect();
    assert!(others.len() == 3 && !others.contains(&twelve) && !others.contains(&thirteen));
    assert_eq!(resumed.vips.own_number(crate::address::Addr4::new(10, 0, 0, 100)), Some(vip));
    assert_ne!(resumed.vips.own_number(crate::address::Addr4::new(10, 0, 0, 90)), Some(VipId(vip.0)));
    // Another method: a number of its own, and the connections keep theirs.
    let changed = config(&service("10.0.0.100", "dr", &["10.0.0.12"]));
    let mut next = Registry::new(1, Options::default());
    next.resume(&changed, &standing);
    let resumed = next.snapshot(&changed, &macs, Progress::default()).expect("served");
    let kept = resumed.server(twelve);
    assert!(kept.is_former() && kept.forwarding == weir_config::model::Forwarding::Nat);
    assert_eq!(resumed.server(kept.current).forwarding, weir_config::model::Forwarding::Dr);
}
