//! Clients whose port has more connections than there is room for, and workers that have other numbers for them.

use super::super::workers::let_flows_move;
use super::*;

/// Virtual servers at 70 ports of one address, whose real servers answer from one of two ports: all connections of a client's port
/// lie in one chain.
fn many_ports() -> Config {
    let mut config = both("rr", &[11, 12, 13], "");
    let first = config.virtual_servers.iter().find(|server| server.address.is_ipv6()).expect("one").clone();
    config.virtual_servers = (0..70_u16)
        .map(|number| {
            let mut server = first.clone();
            server.name = format!("web{number}");
            server.port = 80 + number;
            server.real_servers.iter_mut().for_each(|real| real.port = 8080 + number % 2);
            server
        })
        .collect();
    config
}

fn to_port(number: u8, port: u16, flags: u8) -> Vec<u8> {
    segment((client(number), 1_000), (v6(VIP6), port), flags)
}

/// The last octet of the real server that a packet went to; 0: it went back.
fn server(sent: &[Vec<u8>]) -> u8 {
    let frame = &sent[0];
    if frame[..6] == CLIENT_MAC.0 { 0 } else { frame[53] }
}

#[test]
fn flows_that_another_workers_full_chain_turned_away_go_on_and_nobody_elses_do() {
    let mut lab = Lab::new(&many_ports(), 2);
    let_flows_move(&mut lab);
    // With the second worker others have the numbers that the client has with the first.
    for number in 50..60 {
        lab.send_to(1, to_port(number, 80, SYN));
    }
    let first: Vec<u8> = (80..150).map(|port| server(&lab.send_to(0, to_port(1, port, SYN)))).collect();
    assert_eq!((lab.directors[0].table.len(), lab.counters[0].untracked.get()), (64, 6));
    for flags in [SYN, ACK] {
        for (port, first) in (80..150).zip(&first) {
            assert_eq!(server(&lab.send_to(1, to_port(1, port, flags))), *first, "port {port}, {flags:#x}");
        }
    }
    assert_eq!((lab.directors[1].table.len(), lab.counters[1].answers(Answer::TcpReset)), (10, 0));
    // Others' stray segments are strays, though their number with one worker is the client's with the other.
    for number in 50..60 {
        for worker in [0, 1] {
            assert_eq!(server(&lab.send_to(worker, to_port(number, 99, ACK))), 0, "client {number}");
        }
    }
    // The owner takes in what it was told.
    (0..10).for_each(|_| lab.pass_millis(1));
    // Their chain has room again, and the client another number with each.
    for port in 80..150 {
        lab.send_to(0, to_port(1, port, RST));
    }
    lab.pass_millis(20_000);
    lab.sweep();
    assert_eq!(lab.directors[0].table.clients.known(), 0);
    for number in 70..75 {
        lab.send_to(0, to_port(number, 80, SYN));
    }
    for worker in [0, 1] {
        assert_eq!(server(&lab.send_to(worker, to_port(1, 149, ACK))), first[69], "worker {worker}");
        for number in 70..80 {
            assert_eq!(server(&lab.send_to(worker, to_port(number, 149, ACK))), 0, "client {number}");
        }
    }
    lab.assert_counts_equal_a_recount();
}
