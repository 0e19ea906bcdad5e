//! Two workers on their own threads, with a queue each over `net_ring`, and the wire at the other end of their queues.
//!
//! What a ring device sends on a queue comes back on the queue with its number. So the workers' port is two devices: its
//! receive queues are those of one, of which the test has the transmit queues, and its transmit queues those of the
//! other, of which the test has the receive queues.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]
#![allow(dead_code, unreachable_pub, reason = "each test uses some of it")]

use std::net::Ipv6Addr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dpdk::{
    Burst, Eal, Mempool, MempoolConfig, Port, PortConfig, RxQueue, RxQueueHandle, Slab, SocketId,
    StartedPort, TxQueue, TxQueueHandle,
};
use weir_config::model::MacAddress;
use weir_dataplane::address::Addr4;
use weir_dataplane::conn::clients::Clients;
use weir_dataplane::conn::table::{HashKey, Table, View};
use weir_dataplane::conn::template::Templates;
use weir_dataplane::director::Shared;
use weir_dataplane::punt::Punt;
use weir_dataplane::sched::Options;
use weir_dataplane::snapshot::publish::Publisher;
use weir_dataplane::snapshot::registry::{Progress, Registry};
use weir_dataplane::suspect::Caution;
use weir_dataplane::wire::ethernet::{TYPE_IPV4, TYPE_IPV6, Vlan, write_header};
use weir_dataplane::wire::ipv4::{self, Ipv4};
use weir_dataplane::worker::{Crash, Worker};
use zerocopy::IntoBytes;

pub const WORKERS: usize = 2;
pub const OWN: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
pub const GATEWAY: MacAddress = MacAddress([2, 0, 0, 0, 0, 0xfe]);
pub const SERVER_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 11]);
pub const VIP: Addr4 = Addr4::new(10, 0, 0, 100);
pub const SERVER: Addr4 = Addr4::new(10, 0, 0, 11);
pub const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 0x100);
pub const SERVER6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 0x11);
const CONFIG: &str = r#"
[connections]
capacity = 16384

[[port]]
name = "lan"
device = "net_ring0"
addresses = ["10.0.0.2/24", "fd99::2/64"]

[[route]]
destination = "0.0.0.0/0"
gateway = "10.0.0.254"

[[route]]
destination = "::/0"
gateway = "fd99::fe"

[[neighbor]]
address = "10.0.0.254"
mac = "02:00:00:00:00:fe"

[[neighbor]]
address = "fd99::fe"
mac = "02:00:00:00:00:fe"

[[neighbor]]
address = "fd99::11"
mac = "02:00:00:00:00:0b"

[[virtual_server]]
name = "web6"
address = "fd99::100"
port = 80
forwarding = "nat"
scheduler = "rr"

[[virtual_server.real_server]]
address = "fd99::11"
port = 8080

[[virtual_server]]
name = "web"
address = "10.0.0.100"
port = 80
forwarding = "nat"
scheduler = "rr"

"#;

/// The file, with NAT real servers at these last octets; their MACs end so, too.
fn config(servers: &[u8]) -> weir_config::model::Config {
    let mut text = CONFIG.to_owned();
    for octet in servers {
        text += &format!("[[virtual_server.real_server]]\naddress = \"10.0.0.{octet}\"\nport = 8080\n");
    }
    for octet in servers {
        text +=
            &format!("[[neighbor]]\naddress = \"10.0.0.{octet}\"\nmac = \"02:00:00:00:00:{octet:02x}\"\n");
    }
    weir_config::parse("test", &text).unwrap().config
}

pub type End = (Addr4, u16);

/// A client's address and port: addresses far apart, ports close to each other.
pub fn client(number: u32) -> End {
    (Addr4::new(100, 64, 0, 0).plus(number * 7_919), 30_000 + (number % 1_000) as u16)
}

pub fn segment(to: MacAddress, from: MacAddress, source: End, destination: End, flags: u8) -> Vec<u8> {
    let mut tcp = Vec::with_capacity(20);
    tcp.extend_from_slice(&source.1.to_be_bytes());
    tcp.extend_from_slice(&destination.1.to_be_bytes());
    tcp.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 1, 0, 0, 0, 0, 0]);
    let sum = !checksum(source.0, destination.0, &tcp);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    let mut frame = vec![0; 18];
    let len = write_header(&mut frame, to, from, Vlan::NONE, TYPE_IPV4);
    frame.truncate(len);
    frame.extend_from_slice(Ipv4::new(ipv4::TCP, source.0, destination.0, tcp.len(), 64).as_bytes());
    frame.extend_from_slice(&tcp);
    frame.resize(60, 0);
    frame
}

/// The folded sum of pseudo header and segment: 0xffff where the checksum in it is right.
fn checksum(source: Addr4, destination: Addr4, tcp: &[u8]) -> u16 {
    let pseudo = [&source.octets()[..], &destination.octets(), &[0, 6], &(tcp.len() as u16).to_be_bytes()];
    checksum_of(&[&pseudo.concat(), tcp].concat())
}

fn checksum_of(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// What a frame says: destination MAC, both ends, flags. Its checksum must be right.
pub fn read(frame: &[u8]) -> (MacAddress, End, End, u8) {
    let word = |at: usize| Addr4::from(*frame[at..].first_chunk::<4>().unwrap());
    let half = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let (source, destination) = ((word(26), half(34)), (word(30), half(36)));
    assert_eq!(checksum(source.0, destination.0, &frame[34..54]), 0xffff, "the checksum of {frame:x?}");
    (MacAddress(frame[..6].try_into().unwrap()), source, destination, frame[47])
}

pub type End6 = (Ipv6Addr, u16);

/// As [`client`], of IPv6.
pub fn client6(number: u32) -> End6 {
    let [a, b, c, d] = (number * 7_919).to_be_bytes();
    let (upper, lower) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    (Ipv6Addr::new(0x2001, 0xdb8, upper, 0, 0, 0, 0, lower), 30_000 + (number % 1_000) as u16)
}

/// As [`segment`], of IPv6.
pub fn segment6(to: MacAddress, from: MacAddress, source: End6, destination: End6, flags: u8) -> Vec<u8> {
    let mut tcp = [source.1.to_be_bytes(), destination.1.to_be_bytes()].concat();
    tcp.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 1, 0, 0, 0, 0, 0]);
    let sum = !checksum6(source.0, destination.0, &tcp);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    let mut frame = vec![0; 18];
    let len = write_header(&mut frame, to, from, Vlan::NONE, TYPE_IPV6);
    frame.truncate(len);
    frame.extend_from_slice(&[0x60, 0, 0, 0, 0, 20, 6, 64]);
    frame.extend_from_slice(&[source.0.octets(), destination.0.octets()].concat());
    frame.extend_from_slice(&tcp);
    frame
}

fn checksum6(source: Ipv6Addr, destination: Ipv6Addr, tcp: &[u8]) -> u16 {
    let pseudo = [&source.octets()[..], &destination.octets()].concat();
    checksum_of(&[&pseudo[..], &[0, 6], &(tcp.len() as u16).to_be_bytes(), tcp].concat())
}

/// As [`read`], of IPv6.
pub fn read6(frame: &[u8]) -> (MacAddress, End6, End6, u8) {
    let address = |at: usize| Ipv6Addr::from(*frame[at..].first_chunk::<16>().unwrap());
    let half = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let (source, destination) = ((address(22), half(54)), (address(38), half(56)));
    assert_eq!(checksum6(source.0, destination.0, &frame[54..74]), 0xffff, "the checksum of {frame:x?}");
    (MacAddress(frame[..6].try_into().unwrap()), source, destination, frame[67])
}

fn is_tcp(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([8, 0]) => frame.len() >= 54 && frame[23] == 6,
        Some([0x86, 0xdd]) => frame.len() >= 74 && frame[20] == 6,
        _ => false,
    }
}

/// The wire: what goes to the workers' queues, and what comes from them.
pub struct Rig {
    pool: Mempool,
    towards: Vec<TxQueue>,
    from: Vec<RxQueue>,
    _ports: [StartedPort; 2],
}

impl Rig {
    pub fn send(&mut self, queue: usize, frames: &[Vec<u8>]) {
        for frames in frames.chunks(32) {
            let mut burst: Burst = frames.iter().map(|frame| self.pool.alloc_with(frame).unwrap()).collect();
            while !burst.is_empty() {
                self.towards[queue].send(&mut burst);
            }
        }
    }

    /// `count` TCP frames that a worker sent through its queue; what else it says, such as ARP, is not counted.
    pub fn receive(&mut self, queue: usize, count: usize) -> Vec<Vec<u8>> {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut frames = Vec::new();
        while frames.len() < count && Instant::now() < deadline {
            let mut burst = Burst::new();
            self.from[queue].receive(&mut burst);
            let bytes = burst.iter().map(|mbuf| mbuf.bytes().to_vec());
            frames.extend(bytes.filter(|frame| is_tcp(frame)));
        }
        assert_eq!(frames.len(), count, "frames of queue {queue}");
        frames
    }
}

type Queues<T> = Vec<T>;

fn open(
    eal: &Eal,
    pool: &Mempool,
    device: &str,
) -> (StartedPort, Queues<RxQueueHandle>, Queues<TxQueueHandle>) {
    let config = PortConfig { rx_queues: WORKERS as u16, tx_queues: WORKERS as u16, ..PortConfig::default() };
    let mut port = Port::by_name(eal, device).unwrap().configure(config, std::slice::from_ref(pool)).unwrap();
    let (receive, transmit) = port.take_queues();
    assert_eq!((receive.len(), transmit.len()), (WORKERS, WORKERS));
    (port.start().unwrap(), receive, transmit)
}

/// Ends the workers however the test ends: EAL must not outlive what they hold.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Starts the workers, whose devices move flows or do not, and lets `talk` be the wire.
pub fn with_workers(servers: &[u8], flows_move: bool, talk: impl FnOnce(&mut Rig, &[Shared])) {
    let crashes = with_cautious_workers(servers, flows_move, None, |rig, shared, _| talk(rig, shared));
    assert_eq!(crashes, []);
}

/// What workers have left that panicked.
pub type Crashes = Arc<Mutex<Vec<Crash>>>;

/// As [`with_workers`], after panics of a process before. Returns what is left of those of these workers.
pub fn with_cautious_workers(
    servers: &[u8],
    flows_move: bool,
    caution: Option<Caution>,
    talk: impl FnOnce(&mut Rig, &[Shared], &Crashes),
) -> Vec<Crash> {
    let crashed = Crashes::default();
    let cpus = std::thread::available_parallelism().unwrap().get();
    let lcores = format!("0@0,1@0,2@{}", cpus.min(2) - 1);
    let arguments =
        ["--lcores", &lcores, "--no-huge", "-m", "256", "--no-pci", "--no-telemetry", "--no-shconf"];
    let rings = ["--log-level", "error", "--vdev", "net_ring0", "--vdev", "net_ring1"];
    let arguments: Vec<String> = arguments.iter().chain(&rings).map(|text| (*text).to_owned()).collect();
    let eal = Eal::init(&arguments).unwrap();
    let pool = MempoolConfig {
        name: "rings".into(),
        mbufs: 16_383,
        cache: 128,
        data_bytes: 2_048,
        socket: SocketId::ANY,
    };
    let pool = Mempool::new(&eal, pool).unwrap();
    let (in_port, in_rx, in_tx) = open(&eal, &pool, "net_ring0");
    let (out_port, out_rx, out_tx) = open(&eal, &pool, "net_ring1");
    let mut rig = Rig {
        pool: pool.clone(),
        towards: in_tx.into_iter().map(TxQueueHandle::start_polling).collect(),
        from: out_rx.into_iter().map(RxQueueHandle::start_polling).collect(),
        _ports: [in_port, out_port],
    };

    let config = config(servers);
    let mut registry = Registry::new(WORKERS, Options::default());
    let publisher = Publisher::new(registry.snapshot(&config, &[OWN], Progress::default()).unwrap());
    let mut shared = Shared::new(WORKERS, 1);
    shared.iter_mut().for_each(|shared| shared.flows_move = flows_move);
    let capacity = config.connections.capacity as usize;
    let key = HashKey::new([0x1234_5678_9abc_def1, 0x9e37_79b9_7f4a_7c15]);
    let lines = || Slab::heap(Table::lines_for(capacity)).unwrap();
    let clients = || Slab::heap(Clients::lines_for(config.ipv6_clients())).unwrap();
    let table = |_| Table::new(lines(), capacity, key).with_clients(clients());
    let tables: Vec<Table> = (0..WORKERS).map(table).collect();
    let views: Arc<[View]> = tables.iter().map(Table::view).collect();
    let [lines, lines6] =
        [Templates::lines_for(64), Templates::lines_for_ipv6(64)].map(|count| Slab::heap(count).unwrap());
    let templates = Arc::new(Templates::new(lines, lines6, key));
    let (stop, polling) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let stopping = Stop(stop.clone());
    let lcores = eal.worker_lcores();
    let epoch = dpdk::tsc();
    let queues = in_rx.into_iter().zip(out_tx);
    for (((shared, table), (receive, transmit)), lcore) in shared.iter().zip(tables).zip(queues).zip(&lcores)
    {
        let worker = Worker {
            shared: shared.clone(),
            table,
            views: views.clone(),
            templates: templates.clone(),
            reader: publisher.reader(),
            receive: vec![(0, receive)],
            transmit: vec![transmit],
            vlans: Vec::new(),
            punt: Punt::default(),
            pool: pool.clone(),
            sleep: None,
            // Clocks of two threads differ: here by as much as if one had stood still.
            epoch: epoch + shared.worker as u64 * dpdk::tsc_hz() / 2,
            caution: caution.clone(),
        };
        let (stop, polling, crashed) = (stop.clone(), polling.clone(), crashed.clone());
        let run = move || {
            let started = || {
                polling.fetch_add(1, SeqCst);
            };
            worker.run(&stop, started, |crash| crashed.lock().unwrap().push(crash));
        };
        eal.launch(*lcore, Box::new(run)).unwrap();
    }
    while polling.load(SeqCst) < WORKERS {
        std::thread::yield_now();
    }

    talk(&mut rig, &shared, &crashed);
    drop(stopping);
    let deadline = Instant::now() + Duration::from_secs(20);
    assert!(lcores.iter().all(|lcore| eal.wait_until(*lcore, deadline)), "every worker stops");
    std::mem::take(&mut *crashed.lock().unwrap())
}
