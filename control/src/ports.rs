//! From the configuration's ports to running devices, packet buffers and the queues each worker polls.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context, Result, bail, ensure};
use dpdk::mempool::{Mempool, MempoolConfig};
use dpdk::port::{DeviceInfo, Port, PortConfig, StartedPort};
use dpdk::queue::{RxQueueHandle, TxQueueHandle};
use dpdk::{Eal, LcoreId, SocketId};
use tracing::{info, warn};
use weir_config::model::{Config, Family, Idle, MacAddress};
use weir_dataplane::kept::Distribution;
use weir_dataplane::vlan::Vlan;
use weir_dataplane::worker::Sleep;

use crate::memory::{self, DESCRIPTORS, Need, POOL_CACHE, Shortage, Supply, WorkerPlace, mbufs_needed};
use crate::random::follow;
use crate::spread::{self, PortSpread, Spread, Steering};

/// All ports, running.
pub(crate) struct Ports {
    /// The devices, by port number: they come first.
    started: Vec<StartedPort>,
    /// By port number: its device's.
    devices: Vec<usize>,
    /// By port number: what ARP answers with.
    pub(crate) macs: Vec<MacAddress>,
    /// By port number of devices: index of the kernel's interface, 0 if there is none.
    interfaces: Vec<u32>,
    /// By worker.
    pub(crate) queues: Vec<WorkerQueues>,
    /// Whether a device may give a flow's packets to one worker now and to another one later.
    pub(crate) flows_move: bool,
    pools: HashMap<Option<u16>, Mempool>,
    sockets: Vec<SocketId>,
    spread: Spread,
    seed: [u64; 2],
}

/// What one worker polls and sends through.
#[derive(Default)]
pub(crate) struct WorkerQueues {
    /// With port numbers.
    pub(crate) receive: Vec<(usize, RxQueueHandle)>,
    /// By port number.
    pub(crate) transmit: Vec<TxQueueHandle>,
}

impl Ports {
    /// Finds, configures and starts every port for up to `lcores` workers, with keys that follow from `seed`.
    pub(crate) fn start(eal: &Eal, config: &Config, lcores: usize, seed: [u64; 2]) -> Result<Self> {
        let mut found = Vec::new();
        for port in config.devices() {
            let device = Port::by_name(eal, &port.device).with_context(|| format!("port {}", port.name))?;
            let info = device.info().with_context(|| format!("port {}", port.name))?;
            found.push((device, info));
        }
        let infos: Vec<&DeviceInfo> = found.iter().map(|(_, info)| info).collect();
        let workers = worker_count(config, &infos, lcores);
        let spread = Spread::plan(config, &infos, workers, follow(seed));
        let pools = make_pools(eal, config, &infos, workers)?;
        let mut ports = Ports {
            started: Vec::new(),
            macs: Vec::new(),
            devices: (0..config.ports.len()).map(|port| config.device_of(port)).collect(),
            interfaces: infos.iter().map(|info| info.interface_index).collect(),
            queues: (0..workers).map(|_| WorkerQueues::default()).collect(),
            flows_move: workers > 1 && infos.iter().any(|info| !info.rss.any() && info.max_rx_queues > 1),
            sockets: infos.iter().map(|info| info.socket).collect(),
            pools,
            spread,
            seed,
        };
        for (number, (device, _)) in found.into_iter().enumerate() {
            ports.start_one(config, number, device)?;
        }
        ports.macs = ports.devices.iter().map(|device| ports.macs[*device]).collect();
        for (port, vlan) in config.ports.iter().filter_map(|port| Some((port, port.vlan?))) {
            let device = &config.ports[vlan.device].name;
            info!(port = port.name, vlan = vlan.id, of = device, "port started");
        }
        ports.spread_replies(config);
        Ok(ports)
    }

    fn start_one(&mut self, config: &Config, number: usize, device: Port) -> Result<()> {
        let port = &config.ports[number];
        let workers = self.queues.len();
        let rx_queues = if port.rx_queues == 0 { workers as u16 } else { port.rx_queues };
        let wanted = PortConfig {
            rx_queues,
            tx_queues: workers as u16,
            rx_descriptors: DESCRIPTORS,
            tx_descriptors: DESCRIPTORS,
            mtu: port.mtu,
            mac: port.mac.map(|mac| mac.0),
            rss: (rx_queues > 1).then(|| self.spread.rss(number)),
            promiscuous: false,
            rx_interrupts: config.workers.idle == Idle::Sleep,
        };
        let pool = self.pool(self.sockets[number]).clone();
        let mut configured =
            device.configure(wanted, &[pool]).with_context(|| format!("port {}", port.name))?;
        for shortcoming in configured.shortcomings() {
            warn!(port = port.name, device = port.device, "{shortcoming}");
        }
        if configured.mtu() < port.mtu {
            warn!(
                port = port.name,
                "frames longer than the device's MTU of {} may be lost",
                configured.mtu()
            );
        }
        let (receive, transmit) = configured.take_queues();
        if transmit.len() < workers {
            bail!(
                "port {}: the device has {} transmit queues for {workers} workers",
                port.name,
                transmit.len()
            );
        }
        for (queue, handle) in receive.into_iter().enumerate() {
            self.queues[queue % workers].receive.push((number, handle));
        }
        for (worker, handle) in transmit.into_iter().enumerate() {
            self.queues[worker].transmit.push(handle);
        }
        let started = configured.start().with_context(|| format!("port {}", port.name))?;
        let mac = MacAddress(started.mac().0);
        let link = started.link();
        info!(
            port = port.name,
            device = port.device,
            mac = %started.mac(),
            link = if link.up { "up" } else { "down" },
            "port started"
        );
        self.macs.push(mac);
        self.started.push(started);
        Ok(())
    }

    /// The device of each port, by port number, with the index of the kernel's interface below it; 0: there is none.
    pub(crate) fn by_number(&self) -> impl Iterator<Item = (&StartedPort, u32)> {
        self.devices.iter().map(|device| (&self.started[*device], self.interfaces[*device]))
    }

    /// The ports that are VLANs of devices, in the order of their numbers.
    pub(crate) fn vlans(config: &Config) -> Vec<Vlan> {
        let vlans = config.ports.iter().filter_map(|port| port.vlan);
        vlans.map(|vlan| Vlan { device: vlan.device, id: vlan.id }).collect()
    }

    /// Has the devices spread packets by client, in both directions alike, and says once whether they do.
    fn spread_replies(&self, config: &Config) {
        let obstacle = match &self.spread {
            Spread::Free => return,
            Spread::Anyhow(obstacle) => obstacle.to_string(),
            Spread::ByClient { ports, by_address, without } => {
                let mut told = self.started.iter().zip(ports).zip(&config.ports);
                let refused = told.find_map(|((port, wanted), config)| {
                    tell(port, wanted).err().map(|problem| format!("port {}: {problem:#}", config.name))
                });
                let Some(refused) = refused else {
                    let by = if *by_address { "the client's address and port" } else { "the client's port" };
                    let but = match without {
                        None => String::new(),
                        Some(family) => format!("; no hash key does that for {} as well", label(*family)),
                    };
                    info!("requests and NAT replies come to the same worker, by {by}{but}");
                    return;
                };
                refused
            }
        };
        warn!(
            "NAT replies may come to another worker than their requests, which costs some speed: {obstacle}"
        );
    }

    /// How the devices give flows to workers.
    pub(crate) fn distribution(&self) -> Distribution {
        let states = self.started.iter().map(|port| port.rss());
        Distribution { seed: self.seed, print: spread::print(self.queues.len(), states) }
    }

    /// Which worker will get whose packets.
    pub(crate) fn steering(&self, config: &Config) -> Steering {
        Steering::new(config, self.queues.len(), self.by_number().map(|(port, _)| port.rss()))
    }

    /// The pool of a NUMA node.
    fn pool(&self, socket: SocketId) -> &Mempool {
        &self.pools[&socket.node()]
    }

    /// The pool that a worker makes frames of its own from: that of its first port.
    pub(crate) fn pool_of(&self, queues: &WorkerQueues) -> Mempool {
        self.pool(self.socket_of(queues)).clone()
    }

    /// Says which workers are on another NUMA node than a port they poll.
    pub(crate) fn warn_of_distance(&self, config: &Config, lcores: &[LcoreId]) {
        let place = |(lcore, queues): (&LcoreId, &WorkerQueues)| WorkerPlace {
            lcore: lcore.index(),
            node: lcore.socket().node(),
            ports: queues.receive.iter().map(|(port, _)| *port).collect(),
        };
        let workers: Vec<WorkerPlace> = lcores.iter().zip(&self.queues).map(place).collect();
        let names = config.ports.iter().map(|port| port.name.as_str());
        let ports: Vec<_> = names.zip(self.sockets.iter().map(|socket| socket.node())).collect();
        for sentence in memory::misplaced(&workers, &ports, memory::cpus_of_node) {
            warn!("{sentence}");
        }
    }

    /// What to say if there is not enough memory for tables.
    pub(crate) fn shortage(&self, eal: &Eal, config: &Config) -> impl Fn() -> Shortage + Copy + use<> {
        let workers = self.queues.len();
        let need = Need::of(config, workers, self.pools.len());
        let has_hugepages = eal.has_hugepages();
        move || Shortage { need, supply: Supply::now(has_hugepages), workers }
    }

    /// How workers rest, which is said once.
    pub(crate) fn sleep(&self, config: &Config) -> Option<Sleep> {
        if config.workers.idle == Idle::Poll {
            return None;
        }
        let without = self.started.iter().zip(&config.ports).find(|(port, _)| !port.has_rx_interrupts());
        let max = config.workers.sleep_max;
        match without {
            Some((_, port)) => info!(
                port = port.name,
                "idle workers sleep up to {} microseconds: the device has no receive interrupts",
                max.as_micros()
            ),
            None => info!("idle workers sleep until a device wakes them"),
        }
        Some(Sleep { max, interrupts: without.is_none() })
    }

    /// The NUMA node of the first port, where what all workers share lies.
    pub(crate) fn first_socket(&self) -> SocketId {
        self.sockets[0]
    }

    /// The NUMA node a worker's memory should come from: that of its first port.
    pub(crate) fn socket_of(&self, queues: &WorkerQueues) -> SocketId {
        self.sockets[queues.receive.first().map_or(0, |(port, _)| *port)]
    }
}

fn label(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

/// Sets the indirection table and looks whether the device has the key and the table now.
fn tell(port: &StartedPort, wanted: &PortSpread) -> Result<()> {
    port.set_reta(&wanted.queues)?;
    let now = port.rss().context("the device does not say how it hashes")?;
    let has_key =
        now.key.starts_with(&wanted.key[..now.key.len().min(wanted.key.len())]) && !now.key.is_empty();
    ensure!(has_key, "the device keeps a hash key of its own");
    ensure!(now.types.tcp && now.types.udp, "the device hashes {} only", now.types);
    let has_table =
        !now.reta.is_empty() && now.reta.iter().zip(wanted.queues.iter().cycle()).all(|(a, b)| a == b);
    ensure!(has_table, "the device keeps an indirection table of its own");
    Ok(())
}

/// Each worker needs a transmit queue of its own on every port.
fn worker_count(config: &Config, infos: &[&DeviceInfo], lcores: usize) -> usize {
    let mut workers = lcores;
    for (port, info) in config.ports.iter().zip(infos) {
        let queues = usize::from(info.max_tx_queues).max(1);
        if queues < workers {
            warn!(
                port = port.name,
                "the device has {queues} transmit queues, so {queues} of {lcores} worker lcores are used"
            );
            workers = queues;
        }
    }
    workers
}

fn make_pools(
    eal: &Eal,
    config: &Config,
    infos: &[&DeviceInfo],
    workers: usize,
) -> Result<HashMap<Option<u16>, Mempool>> {
    let mut pools = HashMap::new();
    for info in infos {
        let node = info.socket.node();
        if pools.contains_key(&node) {
            continue;
        }
        let mbufs = match config.memory.mbufs {
            0 => mbufs_needed(config, workers),
            mbufs => mbufs,
        };
        let wanted = MempoolConfig {
            name: format!("weir_{}", node.map_or_else(|| "any".to_owned(), |node| node.to_string())),
            mbufs,
            cache: POOL_CACHE,
            data_bytes: config.memory.mbuf_data_bytes,
            socket: info.socket,
        };
        let pool = Mempool::new(eal, wanted).with_context(|| {
            let need = Need::of(config, workers, node_count(infos));
            Shortage { need, supply: Supply::now(eal.has_hugepages()), workers }
        })?;
        if let Some(node) = node.filter(|_| !pool.is_local()) {
            warn!(
                "packet buffers are not on NUMA node {node}, where device {} is, for lack of hugepages there: expect \
                 less speed",
                info.name
            );
        }
        pools.insert(node, pool);
    }
    Ok(pools)
}

/// On how many NUMA nodes the devices are.
fn node_count(infos: &[&DeviceInfo]) -> usize {
    infos.iter().map(|info| info.socket.node()).collect::<BTreeSet<_>>().len()
}
