//! Clients for whom there is no room (`ipv6_clients`): their flows go without a record, and nobody else's do.

use super::*;
use crate::director::Event;

/// So many lines of three clients each: fewer than the file may ask for.
const LINES: usize = 16;

/// Workers that have room for so few clients, the first of which has none left.
fn full(config: &Config, workers: usize) -> Lab {
    let mut lab = Lab::new(config, workers);
    let key = HashKey::new([0x1234_5678_9abc_def1, 0x9e37_79b9_7f4a_7c15]);
    let tables: Vec<Table> = (0..workers)
        .map(|_| {
            let (lines, clients) =
                (Slab::heap(Table::lines_for(1024)), Slab::heap(Clients::lines_for(LINES)));
            Table::new(lines.expect("memory"), 1024, key).with_clients(clients.expect("memory"))
        })
        .collect();
    let views: Arc<[View]> = tables.iter().map(Table::view).collect();
    for (director, table) in lab.directors.iter_mut().zip(tables) {
        (director.table, director.views) = (table, views.clone());
    }
    for number in 100..=255 {
        lab.send(segment6(number, 1_000, SYN));
    }
    assert_eq!(lab.directors[0].table.clients.known(), 3 * LINES);
    lab
}

fn without_record(lab: &Lab) -> (u64, u64) {
    let sum = |of: fn(&WorkerCounters) -> u64| lab.counters.iter().map(|counters| of(counters)).sum();
    (sum(|counters| counters.untracked.get()), sum(|counters| counters.ipv6_clients_full.get()))
}

#[test]
fn they_go_on_when_there_is_room_again_and_are_counted_as_theirs() {
    let mut lab = full(&both("rr", ""), 1);
    let before = without_record(&lab);
    assert_eq!(before.0, 0, "the table has room");
    let servers: Vec<_> = (1..=40).map(|number| fate(&lab.send(segment6(number, 1_000, SYN)))).collect();
    assert!(SERVERS.iter().all(|octet| servers.contains(&Some((*octet, 0)))), "{servers:?}");
    for (number, server) in (1..=40).zip(&servers) {
        assert_eq!(fate(&lab.send(segment6(number, 1_000, ACK))), *server);
    }
    assert_eq!(without_record(&lab), (0, before.1 + 80));
    assert_eq!(lab.directors[0].shared.events.pop(), Some(Event::ClientsFull));
    assert_eq!(lab.directors[0].shared.events.pop(), None, "told once");
    // The others' time is over.
    lab.pass_millis(61_000);
    lab.sweep();
    assert_eq!(lab.directors[0].table.len(), 0);
    for (number, server) in (1..=40).zip(&servers) {
        assert_eq!(fate(&lab.send(segment6(number, 1_000, ACK))), *server, "client {number}");
    }
    // A part of the room is left to those that begin as they should.
    assert_eq!(lab.directors[0].table.clients.known(), LINES / 4 * 3 - 1);
    lab.pass_millis(900_000);
    lab.sweep();
    assert_eq!(fate(&lab.send(segment6(40, 1_000, ACK))), Some((0, RST)), "nothing is left of it");
    lab.assert_counts_equal_a_recount();
}

#[test]
fn whose_last_connection_is_over_leaves_room_for_another() {
    let mut lab = Lab::new(&both("rr", ""), 1);
    for port in [1_000, 1_001] {
        assert!(fate(&lab.send(segment6(1, port, SYN))).is_some());
        assert_eq!(lab.directors[0].table.clients.known(), 1);
        lab.pass_millis(61_000);
        lab.sweep();
        assert_eq!((lab.directors[0].table.len(), lab.directors[0].table.clients.known()), (0, 0));
    }
}

#[test]
fn the_other_family_is_not_taken_for_flows_without_a_record() {
    for workers in [1, 2] {
        let mut lab = full(&both("rr", "sloppy_tcp = false"), workers);
        lab.directors.iter_mut().for_each(|director| director.shared.flows_move = workers > 1);
        for worker in 0..workers {
            let stray = lab.send_to(worker, segment4(1, 1_000, ACK));
            assert_eq!(fate(&stray), Some((0, RST)), "an answer as any other time");
        }
        // As if there were room for all: in turn, and with a template.
        let mut lab = full(&both("rr", "sloppy_tcp = true"), workers);
        lab.directors.iter_mut().for_each(|director| director.shared.flows_move = workers > 1);
        let picks: Vec<_> = (1..=4).map(|number| fate(&lab.send(segment4(number, 1_000, ACK)))).collect();
        let mut without = Lab::new(&both("rr", "sloppy_tcp = true"), 1);
        let expected: Vec<_> =
            (1..=4).map(|number| fate(&without.send(segment4(number, 1_000, ACK)))).collect();
        assert_eq!(picks, expected);
    }
}

#[test]
fn replies_and_errors_find_them_through_any_worker() {
    let mut lab = full(&nat(), 2);
    let to_server = lab.send(segment6(1, 1_000, SYN)).remove(0);
    assert_eq!(without_record(&lab).0, 0);
    for worker in [0, 1] {
        let server = v6(&format!("2001:db8::{}", to_server[5]));
        let mut answer = tcp(80, SYN | ACK, 0);
        answer[2..4].copy_from_slice(&1_000_u16.to_be_bytes());
        let back = lab.send_to(worker, packet6(server, client(1), (ipv4::TCP, 64), &answer));
        assert_eq!(back.len(), 1, "worker {worker}");
        assert_eq!((&back[0][..6], &back[0][22..38]), (&CLIENT_MAC.0[..], &v6(VIP6).octets()[..]));
    }
    assert_eq!(without_record(&lab).0, 0);
}

/// The virtual server of IPv6 by NAT.
fn nat() -> Config {
    let mut text = format!(
        "[connections]\ncapacity = 1024\n\
         [[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\", \"{OWN6}/64\"]\n\
         [[route]]\ndestination = \"::/0\"\ngateway = \"2001:db8::fe\"\n\
         [[neighbor]]\naddress = \"2001:db8::fe\"\nmac = \"02:00:00:00:00:cc\"\n\
         [[virtual_server]]\nname = \"nat\"\naddress = \"{VIP6}\"\nport = 80\nforwarding = \"nat\"\n"
    );
    for octet in SERVERS {
        let mac = format!("02:00:00:00:00:{octet:02x}");
        text += &format!("[[virtual_server.real_server]]\naddress = \"2001:db8::{octet}\"\nport = 80\n");
        text += &format!("[[neighbor]]\naddress = \"2001:db8::{octet}\"\nmac = \"{mac}\"\n");
    }
    weir_config::parse("test", &text).unwrap_or_else(|report| panic!("{report}")).config
}
