//! Which worker gets a packet: the key and the indirection table of each port's receive side scaling.
//!
//! A connection's record is in the table of the worker that got its first packet. A reply of a NAT real server that
//! comes in on another worker's queue is found there too, at the price of another core's cache line, so this is about
//! speed: with the keys chosen here, both directions of a connection come in on one worker. What devices hash
//! is in [`key`]; which port receives what is taken from the routes of the file.

mod key;
mod steering;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use dpdk::port::{DeviceInfo, RssConfig, RssState};
use siphasher::sip::SipHasher24;
use weir_config::model::{Config, Family, Forwarding, Port, RealServer, VirtualServer};
use weir_dataplane::snapshot::routes::Routes;

pub(crate) use self::steering::Steering;

use self::key::{INDEX_BITS_MAX, KEY_LEN, Keys, Pair, Role, Traffic};

/// Entries of the indirection table for each worker, as a power of two: shares differ by a sixteenth at most.
const ENTRIES_PER_WORKER_LOG2: u32 = 4;

/// What one port is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortSpread {
    /// The key.
    pub(crate) key: [u8; KEY_LEN],
    /// Queues by the low bits of the hash.
    pub(crate) queues: Vec<u16>,
}

/// How packets are spread over workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Spread {
    /// There is nothing to choose: one worker, or no NAT.
    Free,
    /// By the client, alike in both directions, by port number.
    ByClient {
        /// By port number.
        ports: Vec<PortSpread>,
        /// Whether the client's address counts beside its port.
        by_address: bool,
        /// The family whose replies may come in anywhere all the same: there was no key for both.
        without: Option<Family>,
    },
    /// As the devices like; replies may come in anywhere.
    Anyhow(Obstacle),
}

/// Why both directions can't be had on one worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// A device has no RSS with a key, or no table whose size is a power of two.
    Device {
        /// The port's name.
        port: String,
        /// What it lacks.
        lacks: &'static str,
    },
    /// A port has fewer receive queues than there are workers.
    Queues {
        /// The port's name.
        port: String,
    },
    /// Both directions pass one port, and its servers' addresses leave no key.
    Servers,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device { port, lacks } => write!(f, "port {port} has no {lacks}"),
            Self::Queues { port } => write!(f, "port {port} has fewer receive queues than there are workers"),
            Self::Servers => f.write_str(
                "clients and NAT real servers share a port, and no hash key leaves out all of the servers' addresses \
                 and ports; it takes fewer of them, or a port for the real servers alone",
            ),
        }
    }
}

impl Spread {
    /// Chooses keys and tables for the ports of the file on these devices. `random` gives 64 random bits.
    pub(crate) fn plan(
        config: &Config,
        devices: &[&DeviceInfo],
        workers: usize,
        mut random: impl FnMut() -> u64,
    ) -> Self {
        let traffic = nat(config);
        if workers < 2 || traffic.is_empty() {
            return Self::Free;
        }
        let worker_bits = workers.next_power_of_two().ilog2();
        let mut bits = (worker_bits + ENTRIES_PER_WORKER_LOG2).min(INDEX_BITS_MAX);
        for (port, device) in config.ports.iter().zip(devices) {
            if let Err(obstacle) = check(port, device, workers) {
                return Self::Anyhow(obstacle);
            }
            bits = bits.min(device.reta_size.ilog2());
        }
        // IPv4 first, if there is no key for both families.
        let mut choices = vec![(&traffic[..], None)];
        if let [v4, v6] = &traffic[..] {
            choices.push((std::slice::from_ref(v4), Some(v6.family)));
            choices.push((std::slice::from_ref(v6), Some(v4.family)));
        }
        let found = choices.into_iter().find_map(|(traffic, without)| {
            Some((Keys::find((bits, worker_bits.min(bits)), traffic, &mut random)?, without))
        });
        let Some((Keys { keys, by_address }, without)) = found else {
            return Self::Anyhow(Obstacle::Servers);
        };
        let ports = config.ports.iter().zip(devices).zip(keys).map(|((port, device), key)| PortSpread {
            key,
            queues: queues(bits, workers, queue_count(port, device, workers)),
        });
        Self::ByClient { ports: ports.collect(), by_address, without }
    }

    /// What a port with several receive queues is configured with.
    pub(crate) fn rss(&self, port: usize) -> RssConfig {
        let key = match self {
            Self::ByClient { ports, .. } => Some(ports[port].key.to_vec()),
            Self::Free | Self::Anyhow(_) => None,
        };
        RssConfig { key, ip: true, tcp: true, udp: true }
    }
}

/// A print of where the ports of so many workers send flows, for the next process; 0: one of them does not say.
pub(crate) fn print(workers: usize, ports: impl Iterator<Item = Option<RssState>>) -> u64 {
    // One whose outcome is the same with any toolchain.
    let mut hasher = SipHasher24::new();
    workers.hash(&mut hasher);
    for port in ports {
        let Some(RssState { key, types, reta }) =
            port.filter(|port| !port.key.is_empty() && !port.reta.is_empty())
        else {
            return 0;
        };
        (key, reta, [types.ip, types.tcp, types.udp]).hash(&mut hasher);
    }
    hasher.finish() | 1
}

fn check(port: &Port, device: &DeviceInfo, workers: usize) -> Result<(), Obstacle> {
    let lacks = |lacks| Err(Obstacle::Device { port: port.name.clone(), lacks });
    if queue_count(port, device, workers) < workers {
        return Err(Obstacle::Queues { port: port.name.clone() });
    }
    if !(device.rss.tcp && device.rss.udp) {
        return lacks("receive side scaling by TCP and UDP ports");
    }
    if !device.reta_size.is_power_of_two() || usize::from(device.reta_size) < workers.next_power_of_two() {
        return lacks("indirection table that can be used");
    }
    Ok(())
}

fn queue_count(port: &Port, device: &DeviceInfo, workers: usize) -> usize {
    let asked = if port.rx_queues == 0 { workers } else { usize::from(port.rx_queues) };
    asked.min(usize::from(device.max_rx_queues))
}

/// The indirection table: each worker gets as long a run of entries as the others, by one, and uses its queues (the
/// numbers that are its own modulo the workers') in turn.
fn queues(bits: u32, workers: usize, queues: usize) -> Vec<u16> {
    let entries = 1_usize << bits;
    let entry = |at: usize| {
        let worker = at * workers / entries;
        let own = (queues - worker).div_ceil(workers);
        (worker + at % own * workers) as u16
    };
    (0..entries).map(entry).collect()
}

/// NAT of each family that has any, IPv4 first. Virtual servers of marks have many addresses and are left out.
fn nat(config: &Config) -> Vec<Traffic> {
    let routes = Routes::new(config);
    let pair = |service: &VirtualServer, server: &RealServer| {
        let is_one = service.mark.is_none() && server.forwarding == Forwarding::Nat;
        is_one.then(|| Pair {
            vip: SocketAddr::new(service.address, service.port),
            server: SocketAddr::new(server.address, server.port),
            replies: exit(&routes, server.address).map(|port| config.device_of(port)),
        })
    };
    let services = config.virtual_servers.iter();
    let pairs: Vec<Pair> = services
        .flat_map(|service| service.real_servers.iter().filter_map(move |server| pair(service, server)))
        .collect();
    let of = |family: Family| {
        let pairs: Vec<Pair> =
            pairs.iter().filter(|pair| Family::of(pair.vip.ip()) == family).copied().collect();
        (!pairs.is_empty()).then(|| Traffic { family, roles: roles(config, family, &pairs), pairs })
    };
    [Family::V4, Family::V6].into_iter().filter_map(of).collect()
}

/// The port on the way to an address.
fn exit(routes: &Routes, address: IpAddr) -> Option<usize> {
    match address {
        IpAddr::V4(address) => routes.next_hop(address.into()).map(|hop| hop.port),
        IpAddr::V6(address) => routes.next_hop6(address).map(|hop| usize::from(hop.port())),
    }
}

/// What each port receives. Replies: where a NAT real server is next on the way. Requests: where the default route
/// leads, where another route leads on which no NAT real server lies, and where no replies come in.
fn roles(config: &Config, family: Family, pairs: &[Pair]) -> Vec<Role> {
    let replies: BTreeSet<usize> = pairs.iter().filter_map(|pair| pair.replies).collect();
    let has_servers = |route: &weir_config::model::Route| {
        route.destination.prefix_len() != 0
            && pairs.iter().any(|pair| route.destination.contains(&pair.server.ip()))
    };
    let routes = config.routes.iter().filter(|route| Family::of(route.destination.addr()) == family);
    let mut requests: BTreeSet<usize> =
        routes.filter(|route| !has_servers(route)).map(|route| config.device_of(route.port)).collect();
    let devices = config.devices().len();
    requests.extend((0..devices).filter(|port| !replies.contains(port)));
    let has_requests = !requests.is_empty();
    let role = |port| match (!has_requests || requests.contains(&port), replies.contains(&port)) {
        (true, true) => Role::Both,
        (false, true) => Role::Replies,
        (_, false) => Role::Requests,
    };
    (0..devices).map(role).collect()
}
