//! Clients that are tied to real servers, through the same.

use std::net::IpAddr;

use weir_config::model::Persistence;

use super::*;
use crate::director::tests::ipv6::{both, fate, segment4, segment6};

const SECONDS: u32 = 3_000;
const NETMASKS: [[u8; 2]; 2] = [[32, 128], [30, 126]];

/// One of sixteen files: some of three real servers of each family, by one of two prefixes.
fn file(number: u8, shape: Shape) -> (Config, Vec<u8>, [u8; 2]) {
    let netmasks = NETMASKS[usize::from(number >> 3 & 1)];
    let mut config = both("wlc", "");
    let is_there = |octet: u8| number >> (octet - 11) & 1 == 0 || octet == 12;
    let last = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(address) => address.octets()[15] / 16 * 10 + address.octets()[15] % 16,
    };
    for (service, netmask) in config.virtual_servers.iter_mut().zip(netmasks) {
        service.persistence = Some(Persistence { timeout_secs: SECONDS, netmask, engine: None });
        service.real_servers.retain(|server| is_there(last(server.address)));
    }
    config.connections.capacity = shape.capacity as u32;
    (config, (11..14).filter(|octet| is_there(*octet)).collect(), netmasks)
}

/// A client: its family, and the last octet of its address.
type Client = (bool, u8);

struct Story {
    process: Process,
    servers: Vec<u8>,
    netmasks: [u8; 2],
    /// Real servers by network of clients.
    ties: HashMap<Client, u8>,
    /// Real servers by connection.
    connections: HashMap<(Client, u16), u8>,
    next_port: u16,
}

impl Story {
    fn ask(&mut self, (is_of_ipv6, number): Client, port: u16, segment: u8) -> Option<u8> {
        let frame =
            if is_of_ipv6 { segment6(number, port, segment) } else { segment4(number, port, segment) };
        let worker = usize::from(port) % self.process.shape.workers;
        fate(&self.process.lab.send_to(worker, frame)).map(|(server, _)| server).filter(|server| *server != 0)
    }

    fn network(&self, (is_of_ipv6, number): Client) -> Client {
        let netmask = self.netmasks[usize::from(is_of_ipv6)];
        let len = if is_of_ipv6 { 128 } else { 32 };
        (is_of_ipv6, number >> (len - netmask) << (len - netmask))
    }

    fn open(&mut self, client: Client) {
        let port = self.next_port;
        self.next_port += 1;
        let server = self.ask(client, port, SYN).expect("somebody serves");
        assert_eq!(self.ask(client, port, ACK), Some(server));
        let network = self.network(client);
        let tied = self.ties.insert(network, server).filter(|tied| self.servers.contains(tied));
        assert!(tied.is_none_or(|tied| tied == server), "{client:?} came to {server}, not {tied:?}");
        self.connections.insert((client, port), server);
    }

    fn check(&mut self) {
        self.process.lab.assert_counts_equal_a_recount();
        self.process.lab.assert_templates_can_end();
        for ((client, port), server) in self.connections.clone() {
            let expected = Some(server).filter(|server| self.servers.contains(server));
            assert_eq!(self.ask(client, port, ACK), expected, "{client:?}, port {port}");
        }
    }

    /// Another file is in force.
    fn take(&mut self, servers: Vec<u8>, netmasks: [u8; 2]) {
        if netmasks != self.netmasks {
            self.ties.clear();
        }
        (self.servers, self.netmasks) = (servers, netmasks);
    }
}

/// What the records of all workers say hangs on templates.
fn hanging(lab: &Lab) -> u32 {
    let records = lab.directors.iter().flat_map(|director| director.table.iter());
    records.filter(|record| record.is_templated()).count() as u32
}

fn play(steps: &[(u8, u8)]) -> Story {
    let mut shape = Shape::of(1);
    let mut number = 0;
    let (config, servers, netmasks) = file(number, shape);
    let mut story = Story {
        process: Process::start(&config, shape, None, Now::default()),
        servers,
        netmasks,
        ties: HashMap::new(),
        connections: HashMap::new(),
        next_port: 1_000,
    };
    for &(step, argument) in steps {
        match step % 8 {
            0..=3 => story.open((argument & 1 != 0, argument >> 1 & 15)),
            4 => story.process.lab.pass_millis(u64::from(argument) * 10),
            5 => {
                number = argument;
                let (config, servers, netmasks) = file(number, shape);
                story.process.reload(&config);
                story.take(servers, netmasks);
            }
            _ => {
                let Story { process, servers, netmasks, ties, connections, next_port } = story;
                let (files, now) = process.end();
                if step & 0x10 != 0 {
                    shape = Shape::of(argument);
                }
                if step & 0x20 != 0 {
                    number = argument;
                }
                let (config, now_servers, now_netmasks) = file(number, shape);
                let process = Process::start(&config, shape, Some(files), now);
                story = Story { process, servers, netmasks, ties, connections, next_port };
                story.take(now_servers, now_netmasks);
                let counted: u32 = story.process.lab.hanging().iter().sum();
                assert_eq!(counted, hanging(&story.process.lab), "counts equal a recount");
            }
        }
        story.check();
    }
    story
}

#[test]
fn clients_return_to_their_servers_through_reloads_and_sudden_ends() {
    bolero::check!().with_type::<Vec<(u8, u8)>>().with_iterations(60).for_each(|steps| drop(play(steps)));
}

#[test]
fn clients_return_after_every_kind_of_end_and_their_templates_end_with_their_time() {
    let open = |count: u8| (0..count).map(|client| (0, client));
    for end in [(6, 0), (6 | 0x10, 4), (6 | 0x10, 0), (6 | 0x20, 1), (6 | 0x30, 6), (6 | 0x20, 8)] {
        let steps: Vec<(u8, u8)> = open(32)
            .chain([end, (4, 200)])
            .chain(open(32))
            .chain([end, (5, 2), (6, 0)])
            .chain(open(32))
            .collect();
        let mut story = play(&steps);
        story.process.lab.assert_that_all_ends();
    }
}
