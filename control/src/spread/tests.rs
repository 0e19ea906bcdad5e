//! Requests and replies meet on one queue, by a model of the devices: Toeplitz and the table, as DPDK has them.

use std::net::{Ipv4Addr, Ipv6Addr};

use dpdk::SocketId;
use dpdk::port::{DeviceInfo, MacAddress, RssState, RssTypes};
use dpdk::rss::input_ipv4;

use super::*;

/// A deterministic stand-in for the kernel's random numbers (splitmix64).
fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// What devices hash.
fn input(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let ports = [source.port(), destination.port()];
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            input_ipv4([source.to_bits(), destination.to_bits()], ports).to_vec()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let ports = ports.map(u16::to_be_bytes).concat();
            [&source.octets()[..], &destination.octets(), &ports].concat()
        }
        ends => panic!("{ends:?}"),
    }
}

/// Anybody of a family.
fn anybody(family: Family, next: &mut impl FnMut() -> u64) -> SocketAddr {
    let address: IpAddr = match family {
        Family::V4 => Ipv4Addr::from_bits(next() as u32).into(),
        Family::V6 => Ipv6Addr::from_bits(u128::from(next()) << 64 | u128::from(next())).into(),
    };
    SocketAddr::new(address, next() as u16)
}

/// A NIC with everything that is needed.
fn nic(reta_size: u16) -> DeviceInfo {
    DeviceInfo {
        name: "0000:03:00.0".into(),
        bus_name: None,
        driver: "net_model".into(),
        mac: MacAddress([2, 0, 0, 0, 0, 1]),
        socket: SocketId::ANY,
        interface_index: 0,
        max_rx_queues: 64,
        max_tx_queues: 64,
        default_rx_descriptors: 0,
        default_tx_descriptors: 0,
        default_rx_burst: 0,
        default_tx_burst: 0,
        min_mtu: 68,
        max_mtu: 9000,
        max_rx_frame: 9018,
        max_mac_addresses: 1,
        reta_size,
        rss_key_len: 40,
        rss: RssTypes { ip: true, tcp: true, udp: true },
        rx_offloads: 0,
        tx_offloads: 0,
    }
}

/// The configuration of a file with these ports, routes and virtual servers.
fn config(text: &str) -> Config {
    weir_config::parse("weir.toml", text).unwrap_or_else(|report| panic!("{report}")).config
}

const TWO_PORTS: &str = r#"
[[port]]
name = "outer"
device = "a"
addresses = ["192.0.2.2/24"]

[[port]]
name = "inner"
device = "b"
addresses = ["10.0.0.2/24"]

[[route]]
destination = "0.0.0.0/0"
gateway = "192.0.2.1"
"#;

const ONE_PORT: &str = r#"
[[port]]
name = "lan"
device = "a"
addresses = ["10.0.0.2/24"]

[[route]]
destination = "0.0.0.0/0"
gateway = "10.0.0.254"
"#;

fn web(vip: &str, servers: &[&str], port: u16) -> String {
    let mut text = format!(
        "[[virtual_server]]\nname = \"w{vip}\"\naddress = \"{vip}\"\nport = 80\nforwarding = \"nat\"\n"
    );
    for server in servers {
        text += &format!("[[virtual_server.real_server]]\naddress = \"{server}\"\nport = {port}\n");
    }
    text
}

/// The devices as they are after the start, and who polls what.
struct Machine {
    ports: Vec<RssState>,
    workers: u16,
}

impl Machine {
    fn new(spread: &Spread, reta_size: u16, workers: usize) -> Self {
        let Spread::ByClient { ports, .. } = spread else { panic!("{spread:?}") };
        let state = |port: &PortSpread| RssState {
            key: port.key.to_vec(),
            types: RssTypes { ip: true, tcp: true, udp: true },
            reta: port.queues.iter().copied().cycle().take(usize::from(reta_size)).collect(),
        };
        Self { ports: ports.iter().map(state).collect(), workers: workers as u16 }
    }

    /// The worker that a packet comes to.
    fn worker(&self, port: usize, source: SocketAddr, destination: SocketAddr) -> u16 {
        self.ports[port].queue(&input(source, destination)).unwrap() % self.workers
    }
}

/// Plans for one machine after the other and asks each of them about thousands of connections, of each family that has NAT
/// but for `without`.
fn meets(text: &str, (requests, replies): (usize, usize), without: Option<Family>) {
    let config = config(text);
    for (workers, reta) in [(2, 128), (3, 128), (4, 64), (8, 512), (16, 128), (2, 16)] {
        for seed in 0..4 {
            let device = nic(reta);
            let devices = vec![&device; config.ports.len()];
            let spread = Spread::plan(&config, &devices, workers, random(seed));
            let machine = Machine::new(&spread, reta, workers);
            assert!(matches!(spread, Spread::ByClient { without: it, .. } if it == without), "{spread:?}");
            let mut next = random(seed + 1_000);
            for Traffic { family, pairs, .. } in nat(&config) {
                if Some(family) == without {
                    continue;
                }
                let mut shares = vec![0_u32; workers];
                const CONNECTIONS: u32 = 4_000;
                for _ in 0..CONNECTIONS {
                    let client = anybody(family, &mut next);
                    let mut homes = BTreeSet::new();
                    for Pair { vip, server, .. } in &pairs {
                        homes.insert(machine.worker(requests, client, *vip));
                        homes.insert(machine.worker(replies, *server, client));
                    }
                    assert_eq!(homes.len(), 1, "{workers} workers, table of {reta}, {client:?}");
                    shares[usize::from(*homes.first().unwrap())] += 1;
                }
                // The table gives a worker a sixteenth more or less at most (an eighth where it is small); the rest is chance.
                let fair = CONNECTIONS / workers as u32;
                let slack = fair / 4 + 3 * (fair as f64).sqrt() as u32;
                assert!(
                    shares.iter().all(|share| share.abs_diff(fair) <= slack),
                    "{workers} workers, table of {reta}: {shares:?}"
                );
            }
        }
    }
}

const TWO_PORTS_OF_BOTH: &str = r#"
[[port]]
name = "outer"
device = "a"
addresses = ["192.0.2.2/24", "2001:db8::2/64"]

[[port]]
name = "inner"
device = "b"
addresses = ["10.0.0.2/24", "fd99::2/64"]

[[route]]
destination = "0.0.0.0/0"
gateway = "192.0.2.1"

[[route]]
destination = "::/0"
gateway = "2001:db8::1"
"#;

#[test]
fn both_directions_of_ipv6_meet_as_those_of_ipv4_do() {
    let of_ipv6 = web("2001:db8::100", &["fd99::11", "fd99::12", "fd99::1:77", "fd99:1::5"], 8080);
    let behind = "[[route]]\ndestination = \"fd99:1::/32\"\ngateway = \"fd99::fe\"\n";
    meets(&[TWO_PORTS_OF_BOTH, behind, &of_ipv6].concat(), (0, 1), None);
    let one_port = ONE_PORT.replace("10.0.0.2/24\"", "10.0.0.2/24\", \"fd99::2/64\"");
    let near = web("fd99::100", &["fd99::11", "fd99::12", "fd99::13"], 80);
    meets(&[one_port, near].concat(), (0, 0), None);
}

#[test]
fn one_key_serves_both_families_where_the_servers_addresses_allow_it() {
    let of_ipv4 = web("192.0.2.100", &["10.0.0.11", "10.0.0.12", "10.0.0.13", "10.0.0.14"], 8080);
    let near = web("2001:db8::100", &["fd99::11", "fd99::12", "fd99::1:77"], 8080);
    meets(&[TWO_PORTS_OF_BOTH, &of_ipv4, &near].concat(), (0, 1), None);
    // Real servers in networks that differ in all bits: there is no such key, and IPv4 comes first.
    let mut next = random(7);
    let mut far =
        || Ipv6Addr::from_bits(0xfd << 120 | u128::from(next()) << 56 | u128::from(next()) >> 8).to_string();
    let far: Vec<String> = (0..120).map(|_| far()).collect();
    let far: Vec<&str> = far.iter().map(String::as_str).collect();
    let behind = "[[route]]\ndestination = \"fd00::/8\"\ngateway = \"fd99::fe\"\n";
    let far = web("2001:db8::100", &far, 8080);
    meets(&[TWO_PORTS_OF_BOTH, behind, &of_ipv4, &far].concat(), (0, 1), Some(Family::V6));
}

#[test]
fn both_directions_meet_when_clients_and_servers_have_ports_of_their_own() {
    let servers = ["10.0.0.11", "10.0.0.12", "10.0.0.77", "10.0.0.200", "10.0.0.13"];
    let text =
        [TWO_PORTS, &web("192.0.2.100", &servers, 8080), &web("198.51.100.7", &servers[..3], 80)].concat();
    meets(&text, (0, 1), None);
}

#[test]
fn both_directions_meet_on_one_port() {
    meets(
        &[ONE_PORT, &web("10.0.0.100", &["10.0.0.11", "10.0.0.12", "10.0.0.13"], 80)].concat(),
        (0, 0),
        None,
    );
    meets(&[ONE_PORT, &web("192.0.2.1", &["10.0.0.11", "10.0.0.12"], 80)].concat(), (0, 0), None);
    meets(&[ONE_PORT, &web("10.0.0.100", &["10.0.0.11"], 8080)].concat(), (0, 0), None);
}

/// The roles of ports are those that the documentation gives.
#[test]
fn routes_say_what_a_port_receives() {
    let of_nat = web("192.0.2.100", &["10.0.0.11"], 80);
    let of = |text: &str| {
        let config = config(&[text, &of_nat].concat());
        nat(&config).remove(0).roles
    };
    assert_eq!(of(TWO_PORTS), [Role::Requests, Role::Replies]);
    assert_eq!(of(ONE_PORT), [Role::Both]);
    let more = |route: &str| [TWO_PORTS, "\n[[route]]\n", route, "\n"].concat();
    let elsewhere = "destination = \"172.16.0.0/12\"\ngateway = \"10.0.0.1\"";
    assert_eq!(of(&more(elsewhere)), [Role::Requests, Role::Both], "clients behind the inner port too");
    let no_default = TWO_PORTS.split("[[route]]").next().unwrap();
    assert_eq!(of(no_default), [Role::Requests, Role::Replies]);
    let no_route = ONE_PORT.split("[[route]]").next().unwrap();
    assert_eq!(of(no_route), [Role::Both], "then everything passes that port");
}

#[test]
fn every_worker_gets_its_share_of_one_client_and_of_one_network() {
    let config = config(&[TWO_PORTS, &web("192.0.2.100", &["10.0.0.11"], 80)].concat());
    for seed in 0..50 {
        let spread = Spread::plan(&config, &[&nic(128), &nic(128)], 2, random(seed));
        let machine = Machine::new(&spread, 128, 2);
        let share = |clients: &mut dyn Iterator<Item = SocketAddr>| {
            let (mut second, mut all) = (0, 0);
            for client in clients {
                second += u32::from(machine.worker(0, client, socket("192.0.2.100:80")));
                all += 1;
            }
            f64::from(second) / f64::from(all)
        };
        let client = |host: u32, port: u16| {
            let first: Ipv4Addr = "203.0.113.0".parse().unwrap();
            SocketAddr::new(Ipv4Addr::from_bits(first.to_bits() + host).into(), port)
        };
        // Linux takes ports of one parity for connect().
        let one_client = share(&mut (32_768..61_000).step_by(2).map(|port| client(9, port)));
        assert!((0.45..0.55).contains(&one_client), "seed {seed}: {one_client}");
        let one_network =
            share(&mut (0..=255).flat_map(|host| (0..32).map(move |at| client(host, 33_000 + at * 97))));
        assert!((0.35..0.65).contains(&one_network), "seed {seed}: {one_network}");
    }
}

#[test]
fn what_stands_in_the_way_is_said() {
    let two = config(&[TWO_PORTS, &web("192.0.2.100", &["10.0.0.11"], 80)].concat());
    let plan = |config: &Config, device: &DeviceInfo, workers| {
        Spread::plan(config, &vec![device; config.ports.len()], workers, random(1))
    };
    let said = |spread| match spread {
        Spread::Anyhow(obstacle) => obstacle.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(plan(&two, &nic(128), 1), Spread::Free);
    assert_eq!(plan(&config(TWO_PORTS), &nic(128), 2), Spread::Free, "no NAT, nothing to meet");
    let none = DeviceInfo { rss: RssTypes::default(), ..nic(128) };
    assert_eq!(said(plan(&two, &none, 2)), "port outer has no receive side scaling by TCP and UDP ports");
    assert_eq!(said(plan(&two, &nic(0), 2)), "port outer has no indirection table that can be used");
    assert_eq!(said(plan(&two, &nic(48), 2)), "port outer has no indirection table that can be used");
    let few = DeviceInfo { max_rx_queues: 2, ..nic(128) };
    assert_eq!(said(plan(&two, &few, 4)), "port outer has fewer receive queues than there are workers");
    // Ports that differ in any way between request and reply leave nothing of the port, without which one client
    // would have one worker.
    let pairs =
        [(80, 8081), (443, 9443), (25, 2587), (1, 40_000), (7, 50_001), (9, 333), (11, 61_007), (13, 4_096)];
    let text = pairs.iter().zip(1..).fold(ONE_PORT.to_owned(), |text, ((port, server_port), at)| {
        let plus = |[a, b, c, d]: [u8; 4], more: u32| {
            Ipv4Addr::from_bits(Ipv4Addr::new(a, b, c, d).to_bits() + more)
        };
        let (vip, server) = (plus([192, 0, 2, 0], at * 37), plus([10, 0, 0, 1], at * 29));
        text + &web(&vip.to_string(), &[&server.to_string()], *server_port)
            .replace("port = 80\n", &format!("port = {port}\n"))
    });
    assert!(said(plan(&config(&text), &nic(128), 16)).contains("share a port"));
}

#[test]
fn tables_use_all_queues_of_a_worker_and_no_other() {
    assert_eq!(queues(3, 2, 2), [0, 0, 0, 0, 1, 1, 1, 1]);
    assert_eq!(queues(3, 2, 4), [0, 2, 0, 2, 1, 3, 1, 3]);
    assert_eq!(queues(3, 2, 3), [0, 2, 0, 2, 1, 1, 1, 1]);
    assert_eq!(queues(3, 3, 3), [0, 0, 0, 1, 1, 1, 2, 2]);
}

/// Any roles, any servers that there is a key for: the keys do what the equations say, for any client.
#[test]
fn keys_solve_their_equations() {
    bolero::check!().with_iterations(200).with_type::<(u64, u8)>().for_each(|&(seed, shape)| {
        let bits = u32::from(shape & 7) + 1;
        let roles = match shape >> 3 & 3 {
            0 => vec![Role::Requests, Role::Replies],
            1 => vec![Role::Both],
            2 => vec![Role::Requests, Role::Both],
            _ => vec![Role::Requests, Role::Replies, Role::Both],
        };
        let families = match shape >> 5 & 3 {
            0 => vec![Family::V4],
            1 => vec![Family::V6],
            _ => vec![Family::V4, Family::V6],
        };
        let mut next = random(seed);
        let of = |family: Family| {
            let pair = |next: &mut dyn FnMut() -> u64| Pair {
                vip: anybody(family, &mut || next()),
                server: anybody(family, &mut || next()),
                replies: roles.iter().position(|role| *role != Role::Requests),
            };
            let pairs = (0..1 + usize::from(shape >> 7)).map(|_| pair(&mut next)).collect();
            Traffic { family, roles: roles.clone(), pairs }
        };
        let traffic: Vec<Traffic> = families.into_iter().map(of).collect();
        let Some(Keys { keys, .. }) = Keys::find((bits, 1), &traffic, random(seed)) else { return };
        let mut next = random(seed ^ 1);
        for Traffic { family, pairs, .. } in &traffic {
            let (client, anyone) = (anybody(*family, &mut next), anybody(*family, &mut next));
            let low = |port: usize, source, destination| {
                dpdk::rss::toeplitz(&keys[port], &input(source, destination)) & ((1 << bits) - 1)
            };
            let mut seen = BTreeSet::new();
            for (port, role) in roles.iter().enumerate() {
                match role {
                    Role::Requests => _ = seen.insert(low(port, client, anyone)),
                    Role::Replies if traffic.len() == 1 => _ = seen.insert(low(port, anyone, client)),
                    Role::Replies | Role::Both => {}
                }
                for Pair { vip, server, replies } in pairs {
                    if *role != Role::Replies {
                        seen.insert(low(port, client, *vip));
                    }
                    if *replies == Some(port) {
                        seen.insert(low(port, *server, client));
                    }
                }
            }
            // Where requests and replies pass one port, each pair has a place of its own.
            let places = if roles.contains(&Role::Requests) { 1 } else { pairs.len() };
            assert!(seen.len() <= places, "{roles:?}, {family:?}: {seen:?}");
        }
    });
}

#[test]
fn a_print_is_that_of_keys_tables_and_workers() {
    let state = |key: u8, last: u16| RssState {
        key: vec![key; 40],
        types: RssTypes { ip: true, tcp: true, udp: true },
        reta: vec![0, 1, last],
    };
    let of = |workers, ports: [Option<RssState>; 2]| print(workers, ports.into_iter());
    let both = |key, last| [Some(state(key, last)), Some(state(2, 0))];
    let first = of(2, both(1, 0));
    assert_eq!((first, first != 0), (of(2, both(1, 0)), true));
    assert!([of(3, both(1, 0)), of(2, both(7, 0)), of(2, both(1, 1))].iter().all(|other| *other != first));
    assert_eq!(of(2, [Some(state(1, 0)), None]), 0);
    assert_eq!(of(2, [Some(state(1, 0)), Some(RssState { reta: Vec::new(), ..state(1, 0) })]), 0);
}

#[test]
fn keys_that_follow_from_one_seed_are_the_same_and_from_another_one_others() {
    use crate::random::follow;
    let drawn = |seed| {
        let mut next = follow(seed);
        [next(), next(), next()]
    };
    assert_eq!(drawn([1, 2]), drawn([1, 2]));
    let all: BTreeSet<u64> = [[1, 2], [2, 1], [1, 3]].into_iter().flat_map(drawn).collect();
    assert_eq!(all.len(), 9);
}
