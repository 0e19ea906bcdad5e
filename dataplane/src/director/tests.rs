//! A director under `cargo test`: frames in, frames out, no EAL.

mod announcements;
mod bursts;
mod calls;
mod chains;
mod clamp;
mod edits;
mod errors;
mod explain;
mod foretold;
mod ftp;
mod fuzz;
mod host;
mod ipv6;
mod kept;
mod locality;
mod mld;
mod pieces;
mod punt;
mod shared_servers;
mod short_way;
mod short_way6;
mod tunnels6;
mod untracked;
mod vrrp;
mod workers;

mod marks;
mod nat6;
mod persistence;

use std::collections::HashMap;
use std::sync::Arc;

use dpdk::Slab;
use hashbrown::HashSet;
use weir_config::model::{Config, MacAddress};
use zerocopy::{FromBytes, IntoBytes};

use super::{Director, Shared};
use crate::address::Addr4;
use crate::clock::Now;
use crate::conn::clients::Clients;
use crate::conn::state::is_active;
use crate::conn::table::{HashKey, Table, View};
use crate::conn::template::Templates;
use crate::packet::heap::{HeapFrame, HeapWire};
use crate::packet::{Burst, Frame};
use crate::sched::Options;
use crate::snapshot::Snapshot;
use crate::snapshot::registry::{Progress, Registry};
use crate::snapshot::server::Openings;
use crate::snapshot::virtual_router::RouterKey;
use crate::stats::{Answer, DropReason, WorkerCounters};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::l4::flags::{ACK, FIN, RST, SYN};

const OWN: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const CLIENT_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 0xcc]);
const CLIENT: Addr4 = Addr4::new(10, 0, 0, 200);
const VIP: Addr4 = Addr4::new(10, 0, 0, 100);

/// One port, one virtual server; `servers` are (last octet, weight), `extra` goes into `[connections]`.
fn config(method: &str, scheduler: &str, servers: &[(u8, u16)], extra: &str) -> Config {
    let mut text = format!(
        "[connections]\ncapacity = 1024\n{extra}\n\
         [[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\"]\n\
         [[neighbor]]\naddress = \"10.0.0.200\"\nmac = \"02:00:00:00:00:cc\"\n\
         [[virtual_server]]\nname = \"web\"\naddress = \"10.0.0.100\"\nport = 80\nprotocol = \"tcp\"\n\
         scheduler = \"{scheduler}\"\nforwarding = \"{method}\"\n"
    );
    for (octet, weight) in servers {
        let port = if method == "nat" { 8080 } else { 80 };
        text += &format!(
            "[[virtual_server.real_server]]\naddress = \"10.0.0.{octet}\"\nport = {port}\nweight = {weight}\n"
        );
    }
    for (octet, _) in servers {
        text +=
            &format!("[[neighbor]]\naddress = \"10.0.0.{octet}\"\nmac = \"02:00:00:00:00:{octet:02x}\"\n");
    }
    weir_config::parse("test", &text).expect("a valid file").config
}

/// Workers that share a configuration, and a clock.
struct Lab {
    registry: Registry,
    snapshot: Snapshot,
    /// Of VRRP.
    masters: HashSet<RouterKey>,
    directors: Vec<Director<HeapFrame>>,
    counters: Vec<Arc<WorkerCounters>>,
    now: Now,
    wire: HeapWire,
}

impl Lab {
    fn new(config: &Config, workers: usize) -> Self {
        Self::with_templates(config, workers, 64)
    }

    /// With room for so many persistence templates.
    fn with_templates(config: &Config, workers: usize, room: usize) -> Self {
        Self::made(config, &[OWN], workers, room)
    }

    /// With one worker, and several ports.
    fn with_macs(config: &Config, macs: &[MacAddress]) -> Self {
        Self::made(config, macs, 1, 64)
    }

    fn made(config: &Config, macs: &[MacAddress], workers: usize, room: usize) -> Self {
        let mut registry = Registry::new(workers, Options::default());
        let snapshot = registry.snapshot(config, macs, Progress::default()).expect("a valid configuration");
        let capacity = config.connections.capacity as usize;
        let key = HashKey::new([0x1234_5678_9abc_def1, 0x9e37_79b9_7f4a_7c15]);
        let tables: Vec<Table> = (0..workers)
            .map(|_| {
                let clients = Slab::heap(Clients::lines_for(config.ipv6_clients())).expect("memory");
                let lines = Slab::heap(Table::lines_for(capacity)).expect("memory");
                Table::new(lines, capacity, key).with_clients(clients)
            })
            .collect();
        let views: Arc<[View]> = tables.iter().map(Table::view).collect();
        let lines = Slab::heap(Templates::lines_for(room)).expect("memory");
        let lines6 = Slab::heap(Templates::lines_for_ipv6(room)).expect("memory");
        let templates = Arc::new(Templates::new(lines, lines6, key));
        let shared = Shared::new(workers, macs.len());
        let counters = shared.iter().map(|shared| shared.counters.clone()).collect();
        let directors = shared
            .into_iter()
            .zip(tables)
            .map(|(shared, table)| Director::new(shared, table, views.clone(), templates.clone()));
        let mut lab = Self {
            registry,
            snapshot,
            masters: HashSet::new(),
            directors: directors.collect(),
            counters,
            now: Now::default(),
            wire: HeapWire::default(),
        };
        lab.pass_millis(1);
        lab
    }

    fn reload(&mut self, config: &Config) {
        let templates = self.directors[0].templates.clone();
        let progress = Progress::of(self.counters.iter().map(|counters| &**counters), Some(&templates));
        self.snapshot = self.registry.snapshot(config, &[OWN], progress).expect("a valid configuration");
        self.snapshot.set_masters(&self.masters);
        self.now.millis += 1;
        self.keep_up();
    }

    fn pass_millis(&mut self, millis: u64) {
        self.now.millis += millis;
        self.now.seconds = (self.now.millis / 1000) as u32;
        self.keep_up();
    }

    /// Has every worker do once what it does beside packets.
    fn keep_up(&mut self) {
        for director in &mut self.directors {
            director.adopt(&self.snapshot);
            director.upkeep(&self.snapshot, self.now, &mut self.wire);
        }
        self.wire.sent.clear();
    }

    /// Lets every worker sweep its whole table.
    fn sweep(&mut self) {
        (0..3_000).for_each(|_| self.pass_millis(1));
    }

    /// The same while no second passes, so that no connection is over in its midst.
    fn sweep_within_a_second(&mut self) {
        for _ in 0..3_000 {
            self.now.millis += 1;
            self.keep_up();
        }
    }

    /// Gives a frame to a worker and returns what it sends.
    fn send_to(&mut self, worker: usize, frame: Vec<u8>) -> Vec<Vec<u8>> {
        let mut burst = Burst::new();
        burst.push(HeapFrame::new(&frame));
        self.directors[worker].process(&mut burst, 0, &self.snapshot, self.now, &mut self.wire);
        self.wire.sent.drain(..).map(|(_, frame)| frame.bytes().to_vec()).collect()
    }

    fn send(&mut self, frame: Vec<u8>) -> Vec<Vec<u8>> {
        self.send_to(0, frame)
    }

    /// The last octet of the MAC that a client's segment is sent to.
    fn server_of(&mut self, client_port: u16, segment: u8) -> Option<u8> {
        let sent = self.send(from_client(client_port, segment));
        let is_forwarded = |frame: &&Vec<u8>| frame[..6] != CLIENT_MAC.0;
        sent.iter().find(is_forwarded).map(|frame| frame[5])
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.counters.iter().map(|counters| counters.drops(reason)).sum()
    }

    /// As the function of this name.
    fn assert_counts_equal_a_recount(&self) {
        assert_counts_equal_a_recount(self.directors.iter().map(|director| &director.table), &self.snapshot);
    }
}

/// Active and inactive connections by real server, counted in the tables and as kept.
fn assert_counts_equal_a_recount<'a>(tables: impl Iterator<Item = &'a Table>, snapshot: &Snapshot) {
    let mut recount: HashMap<u32, (u32, u32)> = HashMap::new();
    for record in tables.flat_map(Table::iter) {
        let counts = recount.entry(snapshot.server(record.server()).current.0).or_default();
        if is_active(record.protocol(), record.state()) { counts.0 += 1 } else { counts.1 += 1 }
    }
    for server in snapshot.servers() {
        let expected = recount.remove(&server.id.0).unwrap_or_default();
        assert_eq!((server.live.active(), server.live.inactive()), expected, "server {:?}", server.id);
    }
    assert!(recount.is_empty(), "connections of servers that the snapshot does not know: {recount:?}");
}

fn frame(to: MacAddress, source: (Addr4, u16), destination: (Addr4, u16), segment: u8) -> Vec<u8> {
    let mut frame = to.0.to_vec();
    frame.extend_from_slice(&CLIENT_MAC.0);
    frame.extend_from_slice(&[8, 0]);
    frame.extend_from_slice(Ipv4::new(ipv4::TCP, source.0, destination.0, 20, 64).as_bytes());
    frame.extend_from_slice(&source.1.to_be_bytes());
    frame.extend_from_slice(&destination.1.to_be_bytes());
    frame.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 2, 0x50, segment, 1, 0, 0, 0, 0, 0]);
    let (ends, l4) = frame[26..].split_at_mut(8);
    put_checksum(l4, ipv4::TCP, ends);
    frame
}

/// Puts its checksum into a segment or datagram that has none. `ends` are the addresses of its packet.
fn put_checksum(l4: &mut [u8], protocol: u8, ends: &[u8]) {
    let at = if protocol == ipv4::UDP { 6 } else { 16 };
    if matches!(protocol, ipv4::TCP | ipv4::UDP) && l4.get(at..at + 2) == Some(&[0, 0]) {
        let sum = crate::wire::checksum::Sum::default()
            .bytes(ends)
            .long(l4.len() as u32)
            .word(protocol.into())
            .bytes(l4);
        l4[at..at + 2].copy_from_slice(sum.finish().as_bytes());
    }
}

fn from_client(port: u16, segment: u8) -> Vec<u8> {
    frame(OWN, (CLIENT, port), (VIP, 80), segment)
}

fn from_server(octet: u8, client_port: u16, segment: u8) -> Vec<u8> {
    frame(OWN, (Addr4::new(10, 0, 0, octet), 8080), (CLIENT, client_port), segment)
}

#[test]
fn a_connection_stays_with_its_server_and_others_take_turns() {
    let mut lab = Lab::new(&config("dr", "rr", &[(11, 1), (12, 1)], ""), 1);
    assert_eq!(lab.server_of(1000, SYN), Some(12));
    assert_eq!(lab.server_of(1001, SYN), Some(11));
    for _ in 0..5 {
        assert_eq!(lab.server_of(1000, ACK), Some(12));
        assert_eq!(lab.server_of(1001, ACK), Some(11));
    }
    lab.assert_counts_equal_a_recount();
}

#[test]
fn nat_replies_come_back_as_the_virtual_server_on_any_worker() {
    let mut lab = Lab::new(&config("nat", "rr", &[(11, 1)], ""), 2);
    let sent = lab.send_to(0, from_client(1000, SYN));
    assert_eq!(&sent[0][30..38], [10, 0, 0, 11, 0x03, 0xe8, 0x1f, 0x90]);
    for worker in [0, 1] {
        let sent = lab.send_to(worker, from_server(11, 1000, SYN | ACK));
        assert_eq!(sent.len(), 1);
        assert_eq!(&sent[0][..6], CLIENT_MAC.0);
        assert_eq!(&sent[0][26..30], [10, 0, 0, 100]);
        assert_eq!(&sent[0][34..36], [0, 80]);
    }
    lab.assert_counts_equal_a_recount();
}

#[test]
fn what_nat_servers_say_to_a_syn_is_counted_once_and_for_dr_nothing() {
    let openings = |lab: &Lab, octet: u8| {
        let mut servers = lab.snapshot.servers();
        servers.find(|server| server.address.octets()[3] == octet).unwrap().live.openings()
    };
    let mut lab = Lab::new(&config("nat", "rr", &[(11, 1)], ""), 2);
    for port in 1000..1003 {
        lab.send_to(0, from_client(port, SYN));
    }
    lab.send_to(0, from_server(11, 1000, SYN | ACK));
    lab.send_to(1, from_server(11, 1001, RST | ACK));
    lab.send_to(0, from_client(1000, ACK));
    // Later resets and answers of connections that stand are not about the SYN.
    lab.send_to(0, from_server(11, 1000, RST));
    assert_eq!(openings(&lab, 11), Openings { opened: 3, answered: 1, refused: 1 });
    let mut lab = Lab::new(&config("dr", "rr", &[(11, 1)], ""), 1);
    lab.send_to(0, from_client(1000, SYN));
    assert_eq!(openings(&lab, 11), Openings::default());
}

#[test]
fn a_reply_on_another_worker_moves_the_connection_along() {
    let mut lab = Lab::new(&config("nat", "rr", &[(11, 1)], ""), 2);
    lab.send_to(0, from_client(1000, SYN));
    lab.send_to(0, from_client(1000, ACK));
    lab.send_to(1, from_server(11, 1000, RST));
    lab.pass_millis(1);
    let states: Vec<_> = lab.directors[0].table.iter().map(|record| record.state()).collect();
    assert_eq!(states, [crate::conn::state::tcp::CLOSE]);
    lab.assert_counts_equal_a_recount();
}

#[test]
fn a_connection_ends_when_its_time_is_over() {
    let mut lab = Lab::new(&config("dr", "rr", &[(11, 1)], ""), 1);
    lab.server_of(1000, SYN);
    lab.server_of(1000, ACK);
    lab.server_of(1000, RST);
    lab.pass_millis(10_000);
    lab.sweep();
    assert_eq!(lab.directors[0].table.len(), 0);
    lab.assert_counts_equal_a_recount();
    // Gone: an ACK is a stray segment now.
    assert_eq!(lab.server_of(1000, ACK), None);
    assert_eq!(lab.counters[0].answers(Answer::TcpReset), 1);
}

#[test]
fn a_full_table_still_forwards_each_flow_to_one_server() {
    let mut lab = Lab::new(&config("nat", "rr", &[(11, 1), (12, 1)], ""), 1);
    for port in 1000..1000 + 1024 {
        assert!(lab.server_of(port, SYN).is_some());
    }
    let mut seen = HashMap::new();
    for port in 5000..5100u16 {
        seen.insert(port, lab.server_of(port, SYN).expect("forwarded without a record"));
    }
    assert!(seen.values().any(|&server| server == 11) && seen.values().any(|&server| server == 12));
    for (port, server) in seen {
        assert_eq!(lab.server_of(port, ACK), Some(server));
        let back = lab.send(from_server(server, port, ACK));
        assert_eq!(&back[0][26..30], [10, 0, 0, 100]);
    }
    assert_eq!(lab.counters[0].untracked.get(), 300);
    lab.assert_counts_equal_a_recount();
}

#[test]
fn a_removed_server_gets_nothing_and_a_returned_one_its_connections() {
    let both = config("dr", "rr", &[(11, 1), (12, 1)], "");
    let one = config("dr", "rr", &[(11, 1)], "");
    let mut lab = Lab::new(&both, 1);
    assert_eq!(lab.server_of(1000, SYN), Some(12));
    assert_eq!(lab.server_of(1000, ACK), Some(12));
    lab.reload(&one);
    assert_eq!(lab.server_of(1000, ACK), None);
    assert_eq!(lab.dropped(DropReason::RealServerRemoved), 1);
    lab.reload(&both);
    assert_eq!(lab.server_of(1000, ACK), Some(12));
    lab.assert_counts_equal_a_recount();
}

#[test]
fn with_expire_nodest_conn_a_removed_servers_connection_starts_anew() {
    let expire = "expire_nodest_conn = true";
    let mut lab = Lab::new(&config("dr", "rr", &[(11, 1), (12, 1)], expire), 1);
    assert_eq!(lab.server_of(1000, SYN), Some(12));
    lab.reload(&config("dr", "rr", &[(11, 1)], expire));
    assert_eq!(lab.server_of(1000, ACK), None);
    assert_eq!(lab.server_of(1000, SYN), Some(11));
    lab.assert_counts_equal_a_recount();
}

#[test]
fn a_syn_on_a_closed_connection_is_scheduled_in_the_same_packet() {
    let mut lab = Lab::new(&config("dr", "rr", &[(11, 1), (12, 1)], ""), 1);
    assert_eq!(lab.server_of(1000, SYN), Some(12));
    lab.server_of(1000, ACK);
    lab.server_of(1000, RST);
    assert_eq!(lab.server_of(1000, SYN), Some(11));
    lab.assert_counts_equal_a_recount();
}

/// The configuration of [`config`] with a persistent virtual server.
fn persistent(servers: &[(u8, u16)], extra: &str) -> Config {
    let mut config = config("dr", "rr", servers, extra);
    config.virtual_servers[0].persistence =
        Some(weir_config::model::Persistence { timeout_secs: 300, netmask: 24, engine: None });
    config
}

#[test]
fn a_client_network_stays_with_its_server_on_every_worker() {
    let mut lab = Lab::new(&persistent(&[(11, 1), (12, 1)], ""), 2);
    assert_eq!(lab.server_of(1000, SYN), Some(12));
    for port in 1001..1020u16 {
        let sent = lab.send_to(usize::from(port) % 2, from_client(port, SYN));
        assert_eq!(sent[0][5], 12);
    }
    // Another network is another client.
    let sent = lab.send(frame(OWN, (Addr4::new(10, 0, 1, 200), 1000), (VIP, 80), SYN));
    assert_eq!(sent[0][5], 11);
    lab.assert_counts_equal_a_recount();
}

#[test]
fn a_quiesced_server_keeps_its_clients_unless_told_otherwise() {
    for (extra, expected) in [("", 12), ("expire_quiescent_template = true", 11)] {
        let mut lab = Lab::new(&persistent(&[(11, 1), (12, 1)], extra), 1);
        assert_eq!(lab.server_of(1000, SYN), Some(12));
        lab.reload(&persistent(&[(11, 1), (12, 0)], extra));
        assert_eq!(lab.server_of(1001, SYN), Some(expected));
    }
}

#[test]
fn a_removed_servers_clients_go_elsewhere_and_stay_there() {
    let mut lab = Lab::new(&persistent(&[(11, 1), (12, 1), (13, 1)], ""), 1);
    assert_eq!(lab.server_of(1000, SYN), Some(13));
    lab.reload(&persistent(&[(11, 1), (12, 1)], ""));
    let next = lab.server_of(1001, SYN);
    assert!(next.is_some());
    for port in 1002..1010 {
        assert_eq!(lab.server_of(port, SYN), next);
    }
    lab.assert_counts_equal_a_recount();
}

#[test]
fn a_template_goes_when_its_connections_and_its_time_are_over() {
    let mut lab = Lab::new(&persistent(&[(11, 1)], ""), 1);
    lab.server_of(1000, SYN);
    let templates = lab.directors[0].templates.clone();
    assert_eq!(templates.v4.iter().map(|template| template.connections()).collect::<Vec<_>>(), [1]);
    lab.pass_millis(70_000);
    lab.sweep();
    assert_eq!(templates.v4.iter().map(|template| template.connections()).collect::<Vec<_>>(), [0]);
    lab.pass_millis(300_000);
    lab.sweep();
    assert_eq!(templates.v4.iter().count(), 0);
}

/// Packets of known connections go out the same, and leave the same behind, whether they take the short way or not.
#[test]
fn the_express_way_does_what_the_common_way_does() {
    bolero::check!().with_type::<Vec<(u8, u8, u8)>>().for_each(|history| {
        for method in ["dr", "tun", "nat"] {
            let config = config(method, "rr", &[(11, 1), (12, 1)], "");
            let mut labs = [Lab::new(&config, 1), Lab::new(&config, 1)];
            labs[1].directors[0].no_express = true;
            for &(detail, ttl, pause) in history {
                let segment = [SYN, ACK, ACK, ACK, FIN | ACK, RST, SYN | ACK][usize::from(detail) % 7];
                let port = 1000 + u16::from(detail / 7 % 4);
                let mut frame = match detail % 3 {
                    0 if method == "nat" => from_server(11 + pause / 3 % 2, port, segment),
                    _ => from_client(port, segment),
                };
                frame[22] = ttl % 4;
                let header = Ipv4::mut_from_bytes(&mut frame[14..34]).expect("20 bytes");
                header.refresh_checksum();
                frame.resize(54 + usize::from(detail) % 12, 0);
                let sent = labs.each_mut().map(|lab| {
                    lab.pass_millis(u64::from(pause % 3) * 500);
                    lab.send(frame.clone())
                });
                assert_eq!(sent[0], sent[1]);
            }
            let left = labs.each_ref().map(|lab| {
                let tallies = lab.snapshot.servers().map(|server| server.live.traffic()).collect::<Vec<_>>();
                (lab.directors[0].table.iter().collect::<Vec<_>>(), tallies, lab.counters[0].forwarded.get())
            });
            assert_eq!(left[0], left[1]);
        }
    });
}

/// Any sequence of packets, edits and time keeps the counts right and never reaches a removed real server.
#[test]
fn counts_equal_a_recount_after_any_history() {
    bolero::check!().with_type::<Vec<(u8, u8)>>().for_each(|history| {
        for method in ["dr", "nat"] {
            run_history(method, history);
        }
    });
}

fn run_history(method: &str, history: &[(u8, u8)]) {
    let sets: [&[(u8, u16)]; 5] =
        [&[(11, 1), (12, 1)], &[(11, 3)], &[(12, 0), (13, 2)], &[], &[(13, 1), (12, 1), (11, 1)]];
    let configs: Vec<Config> = sets
        .iter()
        .enumerate()
        .map(|(n, set)| config(method, "wlc", set, if n % 2 == 0 { "" } else { "expire_nodest_conn = true" }))
        .collect();
    let mut lab = Lab::new(&configs[0], 2);
    let mut present: Vec<u8> = sets[0].iter().map(|(octet, _)| *octet).collect();
    for &(what, detail) in history {
        let segment = [SYN, ACK, FIN | ACK, RST, SYN | ACK][usize::from(detail) % 5];
        let port = 1000 + u16::from(detail / 5 % 8);
        let worker = usize::from(detail) % 2;
        match what % 8 {
            0 => {
                let set = usize::from(detail) % sets.len();
                lab.reload(&configs[set]);
                present = sets[set].iter().map(|(octet, _)| *octet).collect();
            }
            1 => lab.pass_millis(u64::from(detail) * 1_000),
            2 => lab.sweep(),
            3 => drop(lab.send_to(worker, from_server(11 + detail % 3, port, segment))),
            _ => {
                for frame in lab.send_to(worker, from_client(port, segment)) {
                    let is_answer = frame[..6] == CLIENT_MAC.0;
                    assert!(is_answer || present.contains(&frame[5]), "sent to a removed real server");
                }
            }
        }
        lab.assert_counts_equal_a_recount();
    }
}
