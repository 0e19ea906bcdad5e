//! Which worker will get a client's packets, before any has come.

use std::net::IpAddr;

use arrayvec::ArrayVec;
use dpdk::port::RssState;
use weir_config::model::{Config, Protocol};
use weir_dataplane::kept::Asked;
use weir_dataplane::snapshot::routes::Routes;

use super::exit;

/// Octets that a device hashes at most: two addresses of IPv6 and two ports.
const INPUT_MAX: usize = 36;

/// The tables of all ports, by number, for so many workers.
pub(crate) struct Steering {
    ports: Vec<Option<RssState>>,
    routes: Routes,
    workers: usize,
}

impl Steering {
    /// With what the devices say.
    pub(crate) fn new(
        config: &Config,
        workers: usize,
        ports: impl Iterator<Item = Option<RssState>>,
    ) -> Self {
        Self { ports: ports.collect(), routes: Routes::new(config), workers }
    }

    /// The worker for packets of this client's, if they come in where they leave for it, and if the device there says how it hashes.
    pub(crate) fn worker(&self, asked: Asked) -> Option<usize> {
        let Asked { client, server, protocol } = asked;
        let state = self.ports.get(exit(&self.routes, client.ip())?)?.as_ref()?;
        let has_ports = match protocol {
            Protocol::Tcp => state.types.tcp,
            Protocol::Udp => state.types.udp,
            Protocol::Sctp => false,
        };
        if state.key.is_empty() || !(has_ports || state.types.ip) {
            return None;
        }
        // Asked for each of millions of connections: nothing is allocated.
        let mut input = ArrayVec::<u8, INPUT_MAX>::new();
        match (client.ip(), server.ip()) {
            (IpAddr::V4(client), IpAddr::V4(server)) => {
                input.extend([client, server].iter().flat_map(|it| it.octets()));
            }
            (IpAddr::V6(client), IpAddr::V6(server)) => {
                input.extend([client, server].iter().flat_map(|it| it.octets()));
            }
            _ => return None,
        }
        if has_ports {
            input.extend([client.port(), server.port()].into_iter().flat_map(u16::to_be_bytes));
        }
        // A queue's worker is its number modulo the workers'.
        Some(usize::from(state.queue(&input)?) % self.workers)
    }
}

#[cfg(test)]
mod tests {
    use dpdk::port::RssTypes;
    use dpdk::rss::input_ipv4;

    use super::*;

    const FILE: &str = r#"
[[port]]
name = "outer"
device = "a"
addresses = ["192.0.2.2/24"]

[[port]]
name = "inner"
device = "b"
addresses = ["10.0.0.2/24", "2001:db8::2/64"]

[[route]]
destination = "0.0.0.0/0"
gateway = "192.0.2.1"
"#;

    fn state(types: RssTypes, first: u16) -> RssState {
        RssState { key: (1..=40).collect(), types, reta: (first..first + 128).collect() }
    }

    fn asked(client: &str, protocol: Protocol) -> Asked {
        let client: std::net::SocketAddr = client.parse().unwrap();
        let server = if client.is_ipv4() { "198.51.100.1:80" } else { "[2001:db8:1::1]:80" };
        Asked { client, server: server.parse().unwrap(), protocol }
    }

    #[test]
    fn a_clients_packets_come_to_the_worker_that_its_port_says() {
        let config = weir_config::parse("weir.toml", FILE).unwrap_or_else(|report| panic!("{report}")).config;
        let all = RssTypes { ip: true, tcp: true, udp: true };
        let without_udp = RssTypes { udp: false, ..all };
        let ports = || [Some(state(without_udp, 0)), Some(state(all, 1))].into_iter();
        let steering = Steering::new(&config, 3, ports());
        let server = 0xc633_6401;
        for number in 0..200_u16 {
            let address = 0x0808_0800 + u32::from(number);
            let client = format!("{}:{}", std::net::Ipv4Addr::from_bits(address), 1_000 + number);
            let with_ports = input_ipv4([address, server], [1_000 + number, 80]);
            let worker =
                |input: &[u8]| ports().next().flatten().unwrap().queue(input).map(|it| usize::from(it) % 3);
            assert_eq!(steering.worker(asked(&client, Protocol::Tcp)), worker(&with_ports));
            assert_eq!(
                steering.worker(asked(&client, Protocol::Udp)),
                worker(&with_ports[..8]),
                "no ports of UDP"
            );
            assert_eq!(steering.worker(asked(&client, Protocol::Sctp)), worker(&with_ports[..8]));
        }
        // Another port has another table.
        let near = input_ipv4([0x0a00_0009, server], [9, 80]);
        let queue = state(all, 1).queue(&near).map(|it| usize::from(it) % 3);
        assert_eq!(steering.worker(asked("10.0.0.9:9", Protocol::Udp)), queue);
        assert!(steering.worker(asked("[2001:db8::9]:9", Protocol::Tcp)).is_some());
        assert_eq!(steering.worker(asked("[2001:db9::9]:9", Protocol::Tcp)), None, "no way there");
        let silent = Steering::new(
            &config,
            3,
            [None, Some(RssState { key: Vec::new(), ..state(all, 0) })].into_iter(),
        );
        assert_eq!(silent.worker(asked("8.8.8.8:9", Protocol::Tcp)), None);
        assert_eq!(silent.worker(asked("10.0.0.9:9", Protocol::Tcp)), None);
    }
}
