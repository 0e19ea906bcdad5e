//! How much memory weir takes, from where, and what to say when it is not there. Decisions only: what the machine is
//! like is an argument, so that machines with other nodes can be thought through by tests.

use std::fmt;
use std::path::Path;

use dpdk::Line;
use weir_config::model::Config;
use weir_dataplane::conn::clients::Clients;
use weir_dataplane::conn::table::Table;
use weir_dataplane::conn::template::Templates;
use weir_dataplane::neighbor;
use weir_dataplane::packet::BURST;
use weir_dataplane::pieces;

/// Descriptors per queue: a millisecond of 64-byte frames at a million a second.
pub(crate) const DESCRIPTORS: u16 = 1024;
/// Mbufs that a lcore keeps at hand.
pub(crate) const POOL_CACHE: u32 = 256;
/// Octets of a buffer beside its data: mbuf, headroom, the pool's own header, and what alignment may add.
const MBUF_OVERHEAD: u64 = 128 + 128 + 64 + 64;
/// Octets of a queue's descriptors and what its driver keeps beside each; drivers differ, this is much.
const DESCRIPTOR_OCTETS: u64 = 128;
/// What EAL takes for itself, with as much again for pieces that nothing fits in.
const EAL_OCTETS: u64 = 24 << 20;
const HUGE_PAGE: u64 = 2 << 20;
/// Octets of a frame that are not MTU: the Ethernet header, and a tag or the FCS.
pub(crate) const FRAME_OVERHEAD: usize = 18;

/// Memory that weir takes at start, in octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Need {
    /// Packet buffers and descriptors, on the nodes of the ports.
    buffers: u64,
    /// Connection tables and persistence templates, on the nodes of the workers.
    tables: u64,
}

impl Need {
    /// Of this configuration with so many workers, the ports' devices being on `nodes` NUMA nodes.
    pub(crate) fn of(config: &Config, workers: usize, nodes: usize) -> Self {
        let mbufs = match config.memory.mbufs {
            0 => mbufs_needed(config, workers),
            mbufs => mbufs,
        };
        let pool = u64::from(mbufs) * (u64::from(config.memory.mbuf_data_bytes) + MBUF_OVERHEAD);
        let queues: usize = config
            .devices()
            .iter()
            .map(|port| if port.rx_queues == 0 { workers } else { usize::from(port.rx_queues) } + workers)
            .sum();
        let descriptors = queues as u64 * u64::from(DESCRIPTORS) * DESCRIPTOR_OCTETS;
        let capacity = config.connections.capacity as usize;
        let templates = config.templates();
        let clients = Clients::lines_for(config.ipv6_clients());
        let tables = workers * (Table::lines_beside(capacity, templates) + clients);
        let lines =
            tables + Templates::lines_for(templates) + Templates::lines_for_ipv6(config.ipv6_templates());
        Self {
            buffers: pool * nodes.max(1) as u64 + descriptors + EAL_OCTETS,
            tables: (lines * size_of::<Line>()) as u64,
        }
    }

    /// Huge pages of 2 MiB for all of it.
    pub(crate) fn pages(self) -> u64 {
        (self.buffers + self.tables).div_ceil(HUGE_PAGE)
    }
}

/// What EAL has to work with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Supply {
    /// `--no-huge`: buffers come out of what `-m` says, tables from the heap.
    Ordinary,
    /// Free huge pages, by NUMA node, in octets.
    Huge(Vec<(u16, u64)>),
}

impl Supply {
    /// Of this machine now.
    pub(crate) fn now(has_hugepages: bool) -> Self {
        if !has_hugepages {
            return Self::Ordinary;
        }
        Self::Huge(free_huge_pages(Path::new("/sys/devices/system/node")))
    }
}

/// Why memory ran out, in words that say what to do.
#[derive(Debug)]
pub(crate) struct Shortage {
    /// What is needed.
    pub(crate) need: Need,
    /// What there is.
    pub(crate) supply: Supply,
    /// How many workers the need is that of.
    pub(crate) workers: usize,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |octets: u64| octets.div_ceil(1 << 20);
        let Need { buffers, tables } = self.need;
        let workers = if self.workers == 1 {
            "one worker with this file needs".to_owned()
        } else {
            format!("{} workers with this file need", self.workers)
        };
        write!(
            f,
            "not enough memory: {workers} about {} MiB for packet buffers ([memory]) and {} MiB for \
             connections ([connections] capacity)",
            mib(buffers),
            mib(tables)
        )?;
        match &self.supply {
            Supply::Ordinary => write!(
                f,
                "; with --no-huge the buffers come out of EAL's -m: write -m {} or more",
                mib(buffers)
            ),
            Supply::Huge(free) => {
                let total: u64 = free.iter().map(|(_, octets)| octets).sum();
                write!(f, ": {} hugepages of 2 MiB, and {} are free", self.need.pages(), total / HUGE_PAGE)?;
                if free.len() > 1 {
                    let each =
                        free.iter().map(|(node, octets)| format!("{} on node {node}", octets / HUGE_PAGE));
                    write!(f, " ({})", each.collect::<Vec<_>>().join(", "))?;
                }
                write!(
                    f,
                    "; `weir-hugepages reserve {0}` (scripts/hugepages) takes them until the next boot, vm.nr_hugepages = {0} in \
                     /etc/sysctl.d from boot on; a smaller capacity or fewer mbufs need less",
                    self.need.pages()
                )
            }
        }
    }
}

/// Free huge pages of all sizes, in octets, by node. Empty where the kernel has no such folder.
pub(crate) fn free_huge_pages(nodes: &Path) -> Vec<(u16, u64)> {
    let mut free: Vec<(u16, u64)> = numbered(nodes, "node")
        .into_iter()
        .map(|(node, folder)| {
            let octets = numbered(&folder.join("hugepages"), "hugepages-").into_iter().map(|(kib, pool)| {
                let pages = std::fs::read_to_string(pool.join("free_hugepages")).unwrap_or_default();
                pages.trim().parse::<u64>().unwrap_or(0) * u64::from(kib) * 1024
            });
            (u16::try_from(node).unwrap_or(u16::MAX), octets.sum())
        })
        .collect();
    free.sort_unstable();
    free
}

/// Folders `{prefix}{number}` (and `kB` behind it, as pools of huge pages are called).
fn numbered(folder: &Path, prefix: &str) -> Vec<(u32, std::path::PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let number = name.strip_prefix(prefix)?.trim_end_matches("kB").parse().ok()?;
            Some((number, entry.path()))
        })
        .collect()
}

/// Where a worker runs and what it polls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WorkerPlace {
    /// Its lcore's number.
    pub(crate) lcore: u32,
    /// The lcore's NUMA node.
    pub(crate) node: Option<u16>,
    /// The ports it polls.
    pub(crate) ports: Vec<usize>,
}

/// A port's place: its name in the file and its device's NUMA node, if it has one.
pub(crate) type PortPlace<'a> = (&'a str, Option<u16>);

/// What is said about workers on another node than their ports: one sentence for each pair of nodes, with what to
/// write instead. `cpus_of` says which CPUs a node has.
pub(crate) fn misplaced(
    workers: &[WorkerPlace],
    ports: &[PortPlace<'_>],
    cpus_of: impl Fn(u16) -> String,
) -> Vec<String> {
    let mut sentences = Vec::new();
    for (number, (name, node)) in ports.iter().enumerate() {
        let Some(node) = *node else { continue };
        let far = workers.iter().filter(|worker| worker.ports.contains(&number) && worker.node != Some(node));
        let far: Vec<String> =
            far.filter(|worker| worker.node.is_some()).map(|worker| worker.lcore.to_string()).collect();
        if far.is_empty() {
            continue;
        }
        let (word, verb) = if far.len() == 1 { ("lcore", "is") } else { ("lcores", "are") };
        let cpus = cpus_of(node);
        let instead =
            if cpus.is_empty() { "lcores of that node".to_owned() } else { format!("lcores out of {cpus}") };
        sentences.push(format!(
            "port {name} is on NUMA node {node}, {word} {} of its workers {verb} not: each packet crosses nodes; take \
             {instead} for workers (-l)",
            far.join(", ")
        ));
    }
    sentences
}

/// CPUs of a node as the kernel lists them (`0-7,16-23`), empty if it does not.
pub(crate) fn cpus_of_node(node: u16) -> String {
    let list = std::fs::read_to_string(format!("/sys/devices/system/node/node{node}/cpulist"));
    list.unwrap_or_default().trim().to_owned()
}

/// Every descriptor of every queue filled, what each worker may hold, and as much again in caches.
pub(crate) fn mbufs_needed(config: &Config, workers: usize) -> u32 {
    let queues: usize = config
        .devices()
        .iter()
        .map(|port| if port.rx_queues == 0 { workers } else { usize::from(port.rx_queues) } + workers)
        .sum();
    // A descriptor is of one buffer; a frame that is held may lie in several.
    let longest = config.ports.iter().map(|port| usize::from(port.mtu) + FRAME_OVERHEAD).max();
    let buffers = longest.unwrap_or_default().div_ceil(usize::from(config.memory.mbuf_data_bytes)).max(1);
    let held = buffers * (4 * BURST + neighbor::WAITING_MAX) + 2 * POOL_CACHE as usize;
    let mbufs = queues * usize::from(DESCRIPTORS) + workers * (held + buffers * pieces::WAITING_MAX) + held;
    // One less than a power of two is what a mempool's ring holds without waste.
    (mbufs.next_power_of_two() - 1) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(lcore: u32, node: Option<u16>, ports: &[usize]) -> WorkerPlace {
        WorkerPlace { lcore, node, ports: ports.to_vec() }
    }

    fn cpus(node: u16) -> String {
        ["0-7,16-23", "8-15,24-31"].get(usize::from(node)).copied().unwrap_or_default().to_owned()
    }

    #[test]
    fn workers_far_from_their_port_are_told_where_to_go() {
        let ports = [("wan", Some(0)), ("lan", Some(1))];
        let both = [0, 1];
        let workers = [worker(1, Some(0), &both), worker(2, Some(0), &both), worker(9, Some(1), &[1])];
        assert_eq!(
            misplaced(&workers, &ports, cpus),
            [
                "port lan is on NUMA node 1, lcores 1, 2 of its workers are not: each packet crosses nodes; take lcores \
                 out of 8-15,24-31 for workers (-l)"
            ]
        );
        let alone = misplaced(&[worker(9, Some(1), &[0])], &ports[..1], |_| String::new());
        assert_eq!(
            alone,
            [
                "port wan is on NUMA node 0, lcore 9 of its workers is not: each packet crosses nodes; take lcores of \
                 that node for workers (-l)"
            ]
        );
    }

    #[test]
    fn nothing_is_said_where_nodes_agree_or_are_not_known() {
        let workers = [worker(1, Some(0), &[0, 1]), worker(2, None, &[0, 1])];
        assert!(misplaced(&workers, &[("vdev", None), ("wan", Some(0))], cpus).is_empty());
        assert!(
            misplaced(&[worker(1, Some(1), &[])], &[("wan", Some(0))], cpus).is_empty(),
            "it polls nothing"
        );
    }

    fn config(tables: &str) -> Config {
        let port = "[[port]]\nname = \"lan\"\ndevice = \"a\"\naddresses = [\"10.0.0.2/24\"]\n";
        weir_config::parse("weir.toml", &format!("{tables}{port}"))
            .unwrap_or_else(|report| panic!("{report}"))
            .config
    }

    #[test]
    fn the_need_grows_with_what_takes_memory() {
        let small = "[memory]\nmbufs = 1024\n[connections]\ncapacity = 1024\n";
        let need = |tables: &str, workers, nodes| Need::of(&config(tables), workers, nodes);
        let least = need(small, 1, 1);
        let more_mbufs = need(&small.replace("mbufs = 1024", "mbufs = 1000000"), 1, 1);
        assert!(more_mbufs.buffers > least.buffers + 1_000_000 * 2_048 && more_mbufs.tables == least.tables);
        let million = need("[connections]\ncapacity = 1048576\n", 1, 1).tables;
        // 60 bytes for a connection, and for every 64 a template of each family and an IPv6 client while nothing asks for more.
        assert!((60 << 20..=63 << 20).contains(&million), "{million}");
        let none = need("[connections]\ncapacity = 1048576\nipv6_clients = 0\n", 1, 1).tables;
        assert!(none <= 61 << 20, "{none}");
        let two = need("[connections]\ncapacity = 1048576\n", 2, 1).tables;
        assert!(two >= million + (60 << 20), "{two}");
        let nodes = need(small, 1, 2);
        assert!(nodes.buffers > least.buffers + 1_024 * 2_048, "a pool for each node");
    }

    #[test]
    fn a_shortage_says_what_to_do() {
        let need = Need { buffers: 100 << 20, tables: (60 << 20) + 1 };
        let said = |supply, workers| Shortage { need, supply, workers }.to_string();
        let text = said(Supply::Huge(vec![(0, 6 << 20)]), 1);
        assert!(text.starts_with("not enough memory: one worker with this file needs"), "{text}");
        assert!(
            text.contains("about 100 MiB for packet buffers ([memory]) and 61 MiB for connections"),
            "{text}"
        );
        assert!(
            text.contains(": 81 hugepages of 2 MiB, and 3 are free; `weir-hugepages reserve 81`"),
            "{text}"
        );
        let text = said(Supply::Huge(vec![(0, 4 << 20), (1, 1 << 30)]), 2);
        assert!(text.contains("514 are free (2 on node 0, 512 on node 1)"), "{text}");
        let text = said(Supply::Ordinary, 2);
        assert!(
            text.ends_with("with --no-huge the buffers come out of EAL's -m: write -m 100 or more"),
            "{text}"
        );
    }

    #[test]
    fn free_pages_are_read_as_the_kernel_lists_them() {
        let root = std::env::temp_dir().join(format!("weir-nodes-{}", std::process::id()));
        for (node, kib, free) in [(1, 2_048, "3\n"), (0, 2_048, "5\n"), (0, 1_048_576, "1\n")] {
            let pool = root.join(format!("node{node}/hugepages/hugepages-{kib}kB"));
            std::fs::create_dir_all(&pool).unwrap();
            std::fs::write(pool.join("free_hugepages"), free).unwrap();
        }
        std::fs::create_dir_all(root.join("power")).unwrap();
        let free = free_huge_pages(&root);
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(free, [(0, (10 << 20) + (1 << 30)), (1, 6 << 20)]);
        assert_eq!(free_huge_pages(Path::new("/nowhere")), []);
    }
}
