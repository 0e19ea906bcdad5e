//! Several workers: what comes in on another one's queue, and clocks that differ.

use super::*;
use crate::conn::state::{State, tcp};
use crate::director::INBOX_MAX;

/// As devices with several queues and no receive side scaling do.
pub(super) fn let_flows_move(lab: &mut Lab) {
    for director in &mut lab.directors {
        director.shared.flows_move = true;
        director.take_in(&lab.snapshot);
    }
}

impl Lab {
    /// As [`Lab::send_to`], by a worker whose clock is so many milliseconds ahead of the lab's.
    fn send_ahead(&mut self, worker: usize, millis: u64, frame: Vec<u8>) -> Vec<Vec<u8>> {
        let now = self.now;
        self.now.millis += millis;
        self.now.seconds = (self.now.millis / 1000) as u32;
        let sent = self.send_to(worker, frame);
        self.now = now;
        sent
    }

    /// The last octets of the real servers that a client's segment goes to through this worker.
    pub(super) fn servers_through(&mut self, worker: usize, port: u16, segment: u8) -> Vec<u8> {
        let sent = self.send_to(worker, from_client(port, segment));
        sent.iter().filter(|frame| frame[..6] != CLIENT_MAC.0).map(|frame| frame[5]).collect()
    }

    /// States of a worker's connections.
    fn states(&self, worker: usize) -> Vec<State> {
        self.directors[worker].table.iter().map(|record| record.state()).collect()
    }
}

#[test]
fn a_record_that_a_clock_ahead_has_written_is_not_old() {
    for method in ["dr", "tun", "nat"] {
        let mut lab = Lab::new(&config(method, "rr", &[(11, 1), (12, 1)], ""), 2);
        let_flows_move(&mut lab);
        // The last millisecond of a second.
        lab.pass_millis(9_998);
        lab.send_to(0, from_client(1000, SYN));
        let server = lab.servers_through(0, 1000, ACK);
        for ahead in [1, 999, 1_000, 30_000, 60_000] {
            lab.send_ahead(0, ahead, from_client(1000, ACK));
            assert_eq!(lab.servers_through(1, 1000, ACK), server, "{method}, {ahead} ms");
            let answered: u64 = lab.counters.iter().map(|counters| counters.answers(Answer::TcpReset)).sum();
            assert_eq!(answered, 0);
            // What the other worker saw does not move the connection back in time either.
            lab.now.millis += ahead;
            lab.pass_millis(1);
        }
        assert_eq!(lab.states(0), [tcp::ESTABLISHED]);
        lab.assert_counts_equal_a_recount();
    }
}

/// How far the first worker's clock is ahead.
const AHEAD_MS: u64 = 400;
/// The lifetime of a closed connection.
const SHORTEST_LIFE_MS: u64 = 10_000;

/// Whatever two workers with clocks apart are sent, a connection has one real server and is in the state that it has with one
/// worker. (Time ends none: it does as much earlier as a clock is ahead, which is a difference.)
#[test]
fn two_workers_with_clocks_apart_are_as_one() {
    bolero::check!().with_type::<Vec<(u8, u8, u8)>>().for_each(|history| {
        for method in ["dr", "nat"] {
            let config = config(method, "rr", &[(11, 1), (12, 1)], "");
            let (mut one, mut two) = (Lab::new(&config, 1), Lab::new(&config, 2));
            let_flows_move(&mut two);
            // rr takes its turns in each worker.
            let mut real: HashMap<(u16, u8), u8> = HashMap::new();
            let mut left = SHORTEST_LIFE_MS - AHEAD_MS;
            for &(detail, worker, pause) in history {
                let millis = (u64::from(pause % 4) * 333).min(left);
                left -= millis;
                one.pass_millis(millis);
                two.pass_millis(millis);
                let segment = [SYN, ACK, ACK, FIN | ACK, RST][usize::from(detail) % 5];
                let frame = from_client(1000 + u16::from(detail / 5 % 4), segment);
                let worker = usize::from(worker) % 2;
                let expected = one.send(frame.clone());
                // The first worker's clock is ahead.
                let sent = two.send_ahead(worker, AHEAD_MS * (1 - worker as u64), frame.clone());
                two.pass_millis(0);
                assert_eq!(sent.len(), expected.len());
                for (sent, expected) in sent.iter().zip(&expected) {
                    let is_answer = sent[..6] == CLIENT_MAC.0;
                    assert_eq!(is_answer, expected[..6] == CLIENT_MAC.0);
                    if is_answer {
                        continue;
                    }
                    let port = u16::from_be_bytes([frame[34], frame[35]]);
                    let turns = if segment == SYN { real.remove(&(port, expected[5])) } else { None };
                    let server = *real.entry((port, expected[5])).or_insert(sent[5]);
                    assert!(segment == SYN && turns != Some(sent[5]) || server == sent[5]);
                }
            }
            let states = |lab: &Lab| {
                let mut states: Vec<_> = lab
                    .directors
                    .iter()
                    .flat_map(|director| director.table.iter())
                    .map(|record| (record.client_port(), record.state().0))
                    .collect();
                states.sort_unstable();
                states
            };
            assert_eq!(states(&two), states(&one));
            two.assert_counts_equal_a_recount();
        }
    });
}

#[test]
fn a_syn_that_is_sent_again_goes_to_the_first_ones_server_through_any_worker() {
    for (method, no_express) in [("dr", false), ("dr", true), ("nat", false), ("tun", false)] {
        let mut lab = Lab::new(&config(method, "rr", &[(11, 1), (12, 1)], ""), 2);
        let_flows_move(&mut lab);
        lab.directors.iter_mut().for_each(|director| director.no_express = no_express);
        for port in 1000..1020 {
            let first = lab.servers_through(usize::from(port % 2), port, SYN);
            assert_eq!(first.len(), 1);
            for worker in [0, 1] {
                assert_eq!(lab.servers_through(worker, port, SYN), first, "{method}, client port {port}");
            }
        }
        assert_eq!((lab.directors[0].table.len(), lab.directors[1].table.len()), (10, 10));
        lab.assert_counts_equal_a_recount();
    }
}

#[test]
fn a_syn_after_the_end_of_another_workers_connection_begins_a_new_one() {
    let mut lab = Lab::new(&config("dr", "rr", &[(11, 1), (12, 1)], ""), 2);
    let_flows_move(&mut lab);
    let old = lab.servers_through(0, 1000, SYN);
    for segment in [ACK, RST] {
        lab.send_to(0, from_client(1000, segment));
    }
    // Until it is the other real server's turn there.
    let others = (1001..).find(|&port| lab.servers_through(1, port, SYN) == old);
    assert!(others.is_some_and(|port| port < 1003));
    let new = lab.servers_through(1, 1000, SYN);
    assert_ne!(new, old);
    lab.pass_millis(1);
    for worker in [0, 1] {
        assert_eq!(lab.servers_through(worker, 1000, ACK), new);
    }
    assert_eq!(lab.directors[0].table.len(), 0, "the old record is gone");
    assert!(lab.directors[1].table.iter().any(|record| record.client_port() == 1000));
    lab.assert_counts_equal_a_recount();
}

#[test]
fn a_removed_servers_connection_is_as_over_on_one_worker_as_on_another() {
    for (extra, expected) in [("", vec![]), ("expire_nodest_conn = true", vec![11])] {
        let mut lab = Lab::new(&config("dr", "rr", &[(11, 1), (12, 1)], extra), 2);
        let_flows_move(&mut lab);
        assert_eq!(lab.servers_through(0, 1000, SYN), [12]);
        lab.reload(&config("dr", "rr", &[(11, 1)], extra));
        assert_eq!(lab.servers_through(1, 1000, SYN), expected);
        assert_eq!(lab.dropped(DropReason::RealServerRemoved), u64::from(extra.is_empty()));
        lab.pass_millis(1);
        lab.assert_counts_equal_a_recount();
    }
}

/// Virtual servers at 70 ports of one address, whose real server answers from one port: all connections of a client's port lie
/// in one chain.
fn many_ports() -> Config {
    many_ports_of(&[11])
}

/// The same with several real servers.
fn many_ports_of(addresses: &[u8]) -> Config {
    let servers: Vec<(u8, u16)> = addresses.iter().map(|&address| (address, 1)).collect();
    let mut config = config("nat", "rr", &servers, "");
    let first = config.virtual_servers[0].clone();
    config.virtual_servers = (0..70u16)
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

fn to_port(client_port: u16, port: u16, segment: u8) -> Vec<u8> {
    frame(OWN, (CLIENT, client_port), (VIP, port), segment)
}

#[test]
fn a_clients_full_chain_makes_nobody_elses_segments_believed() {
    let mut lab = Lab::new(&many_ports(), 1);
    for port in 80..150 {
        assert_eq!(lab.send(to_port(1000, port, SYN)).len(), 1);
    }
    assert_eq!((lab.directors[0].table.len(), lab.counters[0].untracked.get()), (64, 6));
    // A flow that found no room goes on without a record, while there is none.
    let sent = lab.send(to_port(1000, 149, ACK));
    assert_eq!(sent[0][30..34], [10, 0, 0, 11]);
    // Others' stray segments are strays, as before.
    for client_port in 2000..2100 {
        let sent = lab.send(to_port(client_port, 80, ACK));
        assert_eq!(&sent[0][..6], CLIENT_MAC.0, "client port {client_port}");
    }
    assert_eq!(lab.counters[0].answers(Answer::TcpReset), 100);
    lab.send(frame(OWN, (Addr4::new(10, 0, 0, 11), 8080), (CLIENT, 2000), ACK));
    assert_eq!(lab.dropped(DropReason::StrayReply) + lab.counters[0].answers(Answer::PortUnreachable), 1);
    // That client's own are not when there is room again: those that were turned away go on.
    for segment in [ACK, RST] {
        lab.send(to_port(1000, 80, segment));
    }
    lab.pass_millis(20_000);
    lab.sweep();
    assert_eq!(lab.directors[0].table.len(), 63);
    assert_eq!(lab.send(to_port(1000, 149, ACK))[0][30..34], [10, 0, 0, 11]);
    lab.pass_millis(800_000);
    assert_eq!(lab.send(to_port(1000, 149, ACK))[0][30..34], [10, 0, 0, 11]);
    lab.pass_millis(800_000);
    assert_eq!(
        lab.send(to_port(1000, 149, ACK))[0][30..34],
        [10, 0, 0, 11],
        "it has sent something meanwhile"
    );
    // Until whoever is left has had the time to end.
    lab.pass_millis(900_000);
    assert_eq!(lab.send(to_port(1000, 149, ACK))[0][..6], CLIENT_MAC.0);
    lab.assert_counts_equal_a_recount();
}

#[test]
fn flows_that_another_workers_full_chain_turned_away_go_on_as_it_sends_them() {
    let mut lab = Lab::new(&many_ports_of(&[11, 12, 13]), 2);
    let_flows_move(&mut lab);
    let server = |sent: Vec<Vec<u8>>| sent[0][30..34].to_vec();
    let first: Vec<_> = (80..150).map(|port| server(lab.send_to(0, to_port(1000, port, SYN)))).collect();
    assert_eq!((lab.directors[0].table.len(), lab.counters[0].untracked.get()), (64, 6));
    for segment in [SYN, ACK] {
        for (port, first) in (80..150).zip(&first) {
            assert_eq!(server(lab.send_to(1, to_port(1000, port, segment))), *first, "port {port}");
        }
    }
    assert_eq!((lab.directors[1].table.len(), lab.counters[1].answers(Answer::TcpReset)), (0, 0));
    // They go on when the chain has room again. (The owner first takes in what it was told.)
    lab.pass_millis(1);
    for segment in [ACK, RST] {
        lab.send_to(0, to_port(1000, 80, segment));
    }
    lab.pass_millis(20_000);
    lab.sweep();
    assert_eq!(lab.directors[0].table.len(), 63);
    for worker in [1, 0] {
        assert_eq!(server(lab.send_to(worker, to_port(1000, 149, ACK))), first[69], "worker {worker}");
    }
    // Other clients have room.
    lab.send_to(1, to_port(2000, 80, SYN));
    assert_eq!(lab.directors[1].table.len(), 1);
    lab.assert_counts_equal_a_recount();
}

#[test]
fn datagrams_of_a_flow_that_was_turned_away_stay_with_their_real_server_when_there_is_room() {
    let mut config = many_ports_of(&[11, 12, 13]);
    for server in &mut config.virtual_servers {
        server.protocol = weir_config::model::Protocol::Udp;
    }
    let mut lab = Lab::new(&config, 1);
    let datagram = |port: u16| {
        let mut frame = to_port(1000, port, 0);
        frame.truncate(34);
        frame[14..34].copy_from_slice(Ipv4::new(ipv4::UDP, CLIENT, VIP, 8, 64).as_bytes());
        frame.extend([1000u16.to_be_bytes(), port.to_be_bytes(), [0, 8], [0, 0]].concat());
        frame
    };
    let server = |lab: &mut Lab, port: u16| lab.send(datagram(port))[0][30..34].to_vec();
    // The second datagrams of all but six find records, and keep those alive.
    let first: Vec<_> = (80..150).map(|port| server(&mut lab, port)).collect();
    assert_eq!((lab.directors[0].table.len(), lab.counters[0].untracked.get()), (64, 6));
    // Each asks the scheduler again, which is at another real server then.
    for port in (144..150).flat_map(|port| std::iter::repeat_n(port, usize::from(port % 3))) {
        assert_eq!(server(&mut lab, port), first[usize::from(port - 80)], "port {port}");
    }
    lab.pass_millis(200_000);
    for port in 80..100 {
        assert_eq!(server(&mut lab, port), first[usize::from(port - 80)]);
    }
    lab.pass_millis(200_000);
    lab.sweep();
    assert_eq!(lab.directors[0].table.len(), 20, "there is room again");
    let tracked = lab.counters[0].untracked.get();
    for _ in 0..2 {
        for port in 144..150 {
            assert_eq!(server(&mut lab, port), first[usize::from(port - 80)], "port {port}");
        }
    }
    assert_eq!(
        (lab.directors[0].table.len(), lab.counters[0].untracked.get()),
        (26, tracked),
        "with records now"
    );
    lab.assert_counts_equal_a_recount();
}

#[test]
fn replies_of_flows_without_a_record_pass_through_any_worker() {
    let mut lab = Lab::new(&config("nat", "rr", &[(11, 1)], ""), 2);
    for port in 1000..1000 + 1024 {
        lab.send_to(0, from_client(port, SYN));
    }
    lab.send_to(0, from_client(5000, SYN));
    assert_eq!(lab.counters[0].untracked.get(), 1);
    for worker in [0, 1] {
        let back = lab.send_to(worker, from_server(11, 5000, SYN | ACK));
        assert_eq!((&back[0][..6], &back[0][26..30]), (&CLIENT_MAC.0[..], &[10, 0, 0, 100][..]));
    }
    // The other worker's table was not full, and its clients' flows do not move.
    assert_eq!(lab.send_to(1, from_client(6000, ACK))[0][..6], CLIENT_MAC.0);
    let_flows_move(&mut lab);
    assert_eq!(lab.servers_through(1, 6000, ACK), [11]);
}

#[test]
fn a_connection_whose_packets_move_to_another_worker_goes_on() {
    let mut lab = Lab::new(&config("nat", "rr", &[(11, 1), (12, 1)], ""), 2);
    let_flows_move(&mut lab);
    lab.send_to(0, from_client(1000, SYN));
    let sent = lab.send_to(1, from_client(1000, ACK));
    assert_eq!(&sent[0][30..34], [10, 0, 0, 12], "to the real server that was picked");
    lab.pass_millis(1);
    assert_eq!(lab.states(0), [tcp::ESTABLISHED]);
    lab.send_to(1, from_client(1000, RST));
    lab.pass_millis(1);
    assert_eq!((lab.states(0), lab.states(1)), (vec![tcp::CLOSE], vec![]));
    lab.assert_counts_equal_a_recount();
}

#[test]
fn what_is_lost_before_another_worker_hears_it_is_counted() {
    let mut lab = Lab::new(&config("dr", "rr", &[(11, 1)], ""), 2);
    let_flows_move(&mut lab);
    lab.send_to(0, from_client(1000, SYN));
    // Each says that the connection is established, until the owner takes that in.
    (0..INBOX_MAX + 3).for_each(|_| _ = lab.send_to(1, from_client(1000, ACK)));
    assert_eq!([0, 1].map(|worker| lab.counters[worker].messages_lost.get()), [0, 3]);
    lab.pass_millis(1);
    lab.send_to(1, from_client(1000, ACK));
    assert_eq!(lab.counters[1].messages_lost.get(), 3);
}

#[test]
fn datagrams_that_move_to_another_worker_stay_with_their_real_server() {
    let mut config = config("nat", "rr", &[(11, 1), (12, 1)], "");
    config.virtual_servers[0].protocol = weir_config::model::Protocol::Udp;
    let mut lab = Lab::new(&config, 2);
    let_flows_move(&mut lab);
    let datagram = |port: u16| {
        let mut frame = from_client(port, 0);
        frame.truncate(34);
        frame[14..34].copy_from_slice(Ipv4::new(ipv4::UDP, CLIENT, VIP, 8, 64).as_bytes());
        frame.extend([port.to_be_bytes(), [0, 80], [0, 8], [0, 0]].concat());
        frame
    };
    for port in 1000..1004 {
        let first = lab.send_to(0, datagram(port));
        let second = lab.send_to(1, datagram(port));
        assert_eq!(first[0][30..34], second[0][30..34], "of client port {port}");
    }
    assert_eq!((lab.directors[0].table.len(), lab.directors[1].table.len()), (4, 0));
    lab.assert_counts_equal_a_recount();
}

#[test]
fn what_belongs_to_no_workers_connection_is_answered_though_flows_move() {
    let mut lab = Lab::new(&config("nat", "rr", &[(11, 1)], ""), 2);
    let_flows_move(&mut lab);
    lab.send_to(0, from_client(1000, SYN));
    lab.send_to(1, from_client(1001, ACK));
    assert_eq!(lab.counters[1].answers(Answer::TcpReset), 1);
    lab.assert_counts_equal_a_recount();
}
