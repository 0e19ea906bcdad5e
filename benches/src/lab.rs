//! Directors with a configuration, a clock that stands still, and frames from a pool.

use std::sync::Arc;

use dpdk::Slab;
use weir_config::model::Config;
use weir_dataplane::clock::Now;
use weir_dataplane::conn::clients::Clients;
use weir_dataplane::conn::table::{HashKey, Table, View};
use weir_dataplane::conn::template::Templates;
use weir_dataplane::director::{Director, Shared};
use weir_dataplane::packet::{BURST, Burst};
use weir_dataplane::sched::Options;
use weir_dataplane::snapshot::Snapshot;
use weir_dataplane::snapshot::registry::{Progress, Registry};
use weir_dataplane::stats::{Answer, DropReason, WorkerCounters};

use crate::frames::OWN;
use crate::pool::{PoolFrame, PoolWire};

/// The secret of the connection tables, the same in each run so that figures are.
pub const HASH_KEY: [u64; 2] = [0x1234_5678_9abc_def1, 0x9e37_79b9_7f4a_7c15];

/// A file with one port, the clients' gateway, and room for `capacity` connections; `extra` goes into
/// `[connections]`. Virtual servers are put behind it, see [`virtual_server`].
pub fn base(capacity: usize, extra: &str) -> String {
    format!(
        "[connections]\ncapacity = {capacity}\n{extra}\n\
         [[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/16\"]\n\
         [[route]]\ndestination = \"0.0.0.0/0\"\ngateway = \"10.0.0.254\"\n\
         [[neighbor]]\naddress = \"10.0.0.254\"\nmac = \"02:00:00:00:00:fe\"\n"
    )
}

/// A virtual server at 10.0.0.100:`port` with `count` real servers, whose MACs are known: from 10.0.0.11 on, or from 10.0.1.0
/// on if they are many. `keys` go into the virtual server's table. A file takes one that `binds` the servers' MACs.
pub fn virtual_server(port: u16, keys: &str, forwarding: &str, count: u16, binds: bool) -> String {
    let mut text = format!(
        "[[virtual_server]]\nname = \"service{port}\"\naddress = \"10.0.0.100\"\nport = {port}\n\
         forwarding = \"{forwarding}\"\n{keys}\n"
    );
    let server_port = if forwarding == "nat" { port + 8_000 } else { port };
    let first: u16 = if count > 64 { 256 } else { 11 };
    let octets = || (first..first + count).map(u16::to_be_bytes);
    for [third, fourth] in octets() {
        text += &format!(
            "[[virtual_server.real_server]]\naddress = \"10.0.{third}.{fourth}\"\nport = {server_port}\nweight = 1000\n"
        );
    }
    for [third, fourth] in octets().filter(|_| binds) {
        text += &format!(
            "[[neighbor]]\naddress = \"10.0.{third}.{fourth}\"\nmac = \"02:00:00:00:{third:02x}:{fourth:02x}\"\n"
        );
    }
    text
}

/// As [`base`], with an IPv6 address of the port and the IPv6 clients' gateway.
pub fn base6(capacity: usize) -> String {
    base(capacity, "").replace("\"10.0.0.2/16\"", "\"10.0.0.2/16\", \"2001:db8::2/64\"")
        + "[[route]]\ndestination = \"::/0\"\ngateway = \"2001:db8::fe\"\n\
           [[neighbor]]\naddress = \"2001:db8::fe\"\nmac = \"02:00:00:00:00:fe\"\n"
}

/// As [`virtual_server`], with four real servers of IPv6 behind tunnels.
pub fn virtual_server4in6(keys: &str) -> String {
    far(&virtual_server(80, keys, "tun", 4, true))
}

/// As [`virtual_server`] with four real servers, all of IPv6.
pub fn virtual_server6(keys: &str, forwarding: &str) -> String {
    far(&virtual_server(80, keys, forwarding, 4, true)).replace("\"10.0.0.100\"", "\"2001:db8::100\"")
}

/// The same with real servers of IPv6.
fn far(near: &str) -> String {
    (11..15).fold(near.to_owned(), |text, octet| {
        text.replace(&format!("\"10.0.0.{octet}\""), &format!("\"2001:db8::{octet}\""))
    })
}

/// See the module.
pub struct Lab {
    registry: Registry,
    /// What the directors read.
    pub snapshot: Snapshot,
    directors: Vec<Director<PoolFrame>>,
    /// By worker.
    pub counters: Vec<Arc<WorkerCounters>>,
    /// The time.
    pub now: Now,
    /// Where frames come from and go to.
    pub wire: PoolWire,
    burst: Box<Burst<PoolFrame>>,
}

impl Lab {
    /// Directors of `workers` workers that serve a file.
    ///
    /// # Panics
    /// If the file is not valid.
    pub fn new(file: &str, workers: usize) -> Self {
        let config = read(file);
        let mut registry = Registry::new(workers, Options::default());
        let snapshot =
            registry.snapshot(&config, &[OWN], Progress::default()).expect("a valid configuration");
        let capacity = config.connections.capacity as usize;
        let key = HashKey::new(HASH_KEY);
        let tables: Vec<Table> = (0..workers)
            .map(|_| {
                let clients = Slab::heap(Clients::lines_for(config.ipv6_clients())).expect("memory");
                let lines = Slab::heap(Table::lines_for(capacity)).expect("memory");
                Table::new(lines, capacity, key).with_clients(clients)
            })
            .collect();
        let views: Arc<[View]> = tables.iter().map(Table::view).collect();
        let lines = Slab::heap(Templates::lines_for(capacity)).expect("memory");
        let lines6 = Slab::heap(Templates::lines_for_ipv6(capacity)).expect("memory");
        let templates = Arc::new(Templates::new(lines, lines6, key));
        let shared = Shared::new(workers, 1);
        let counters = shared.iter().map(|shared| shared.counters.clone()).collect();
        let directors = shared
            .into_iter()
            .zip(tables)
            .map(|(shared, table)| Director::new(shared, table, views.clone(), templates.clone()))
            .collect();
        let burst = Box::default();
        let wire = PoolWire::default();
        let mut lab = Self { registry, snapshot, directors, counters, now: Now::default(), wire, burst };
        // Past the announcements of a start.
        lab.pass_millis(20_000);
        lab
    }

    /// Takes another file. What the directors do with it waits for [`Lab::pass_millis`].
    ///
    /// # Panics
    /// If the file is not valid.
    pub fn reload(&mut self, file: &str) {
        let progress = Progress::of(self.counters.iter().map(|counters| &**counters), None);
        self.snapshot = self.registry.snapshot(&read(file), &[OWN], progress).expect("a valid configuration");
    }

    /// Lets every worker poll once without frames, so much later.
    pub fn pass_millis(&mut self, millis: u64) {
        self.now.millis += millis;
        self.now.seconds = (self.now.millis / 1000) as u32;
        for director in &mut self.directors {
            director.adopt(&self.snapshot);
            director.upkeep(&self.snapshot, self.now, &mut self.wire);
        }
        self.wire.recycle();
    }

    /// Fills the burst with up to 64 frames.
    pub fn load(&mut self, frames: &[Vec<u8>]) {
        self.wire.recycle();
        for bytes in frames.iter().take(BURST) {
            let frame = self.wire.receive(bytes);
            self.burst.push(frame);
        }
    }

    /// Takes the burst all the way, as `worker`. What is sent stays in the wire until the next burst is loaded.
    #[inline]
    pub fn process(&mut self, worker: usize) {
        self.directors[worker].process(&mut self.burst, 0, &self.snapshot, self.now, &mut self.wire);
    }

    /// Takes any number of frames all the way, burst by burst.
    pub fn send(&mut self, worker: usize, frames: &[Vec<u8>]) {
        for burst in frames.chunks(BURST) {
            self.load(burst);
            self.process(worker);
        }
    }

    /// Packets forwarded so far, by all workers.
    pub fn forwarded(&self) -> u64 {
        self.counters.iter().map(|counters| counters.forwarded.get()).sum()
    }

    /// Frames dropped for `reason` so far, by all workers.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.counters.iter().map(|counters| counters.drops(reason)).sum()
    }

    /// Frames answered with `answer` so far, by all workers.
    pub fn answered(&self, answer: Answer) -> u64 {
        self.counters.iter().map(|counters| counters.answers(answer)).sum()
    }
}

/// The configuration that a file holds.
///
/// # Panics
/// If the file is not valid.
pub fn read(file: &str) -> Config {
    match weir_config::parse("bench", file) {
        Ok(loaded) => loaded.config,
        Err(report) => panic!("{report}\n{file}"),
    }
}
