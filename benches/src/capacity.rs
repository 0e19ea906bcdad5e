//! A connection table from empty to full and back: new connections a second by how full it is, packets of known
//! connections, packets that find it full, and connections that all end at once; with the longest pass of each.
//!
//! `cargo run --release -p weir-benches --bin capacity [CONNECTIONS]`, by default 16,777,216. In huge pages if there are
//! any, else in pages of 4 KiB. One worker's whole path on frames of this program: parse, look up, schedule, insert,
//! rewrite, next hop. A pass is a burst of 64 frames and the upkeep that goes with it; making the frames is not timed.

use std::sync::Arc;

use dpdk::{Eal, Line, Slab, SocketId};
use weir_benches::frames::{CLIENT, OWN, VIP, tcp};
use weir_benches::lab::{HASH_KEY, base, read, virtual_server};
use weir_benches::pool::{PoolFrame, PoolWire};
use weir_dataplane::address::Addr4;
use weir_dataplane::clock::Now;
use weir_dataplane::conn::table::{HashKey, Table, View};
use weir_dataplane::conn::template::Templates;
use weir_dataplane::director::{Director, Shared};
use weir_dataplane::packet::{BURST, Burst, Frame};
use weir_dataplane::sched::Options;
use weir_dataplane::snapshot::Snapshot;
use weir_dataplane::snapshot::registry::{Progress, Registry};
use weir_dataplane::stats::WorkerCounters;
use weir_dataplane::wire::l4::flags::{ACK, SYN};

const CONNECTIONS: usize = 16_777_216;
/// Real servers, all of one virtual server.
const SERVERS: u16 = 16;
/// Passes in a millisecond of the clock that the director is given: those of a worker that forwards 20 million packets a
/// second.
const PASSES_PER_MILLI: u64 = 300;
/// Longer than this a pass should never be, in nanoseconds.
const LIMIT_NANOS: f64 = 50_000.0;

/// One worker, its clock and its frames.
struct Bench {
    director: Director<PoolFrame>,
    snapshot: Snapshot,
    counters: Arc<WorkerCounters>,
    wire: PoolWire,
    burst: Box<Burst<PoolFrame>>,
    passes: u64,
    /// Milliseconds that were skipped.
    skipped: u64,
    hz: f64,
    /// SYN and ACK of a client that is filled in.
    syn: Vec<u8>,
    ack: Vec<u8>,
}

impl Bench {
    fn new(capacity: usize, eal: Option<&Eal>) -> Self {
        let file = base(capacity.min(CONNECTIONS), "")
            + &virtual_server(80, "scheduler = \"wlc\"\nprotocol = \"tcp\"", "dr", SERVERS, true);
        let config = read(&file);
        let mut registry = Registry::new(1, Options::default());
        let snapshot =
            registry.snapshot(&config, &[OWN], Progress::default()).expect("a valid configuration");
        let memory = |lines| -> Slab<Line> {
            match eal {
                Some(eal) => Slab::hugepages(eal, lines, SocketId::ANY),
                None => Slab::heap(lines),
            }
            .expect("there is memory for the tables")
        };
        let key = HashKey::new(HASH_KEY);
        let table = Table::new(memory(Table::lines_for(capacity)), capacity, key);
        let lines6 = memory(Templates::lines_for_ipv6(config.ipv6_templates()));
        let templates = Templates::new(memory(Templates::lines_for(config.templates())), lines6, key);
        let views: Arc<[View]> = [table.view()].into();
        let shared = Shared::new(1, 1).remove(0);
        let counters = shared.counters.clone();
        let mut bench = Self {
            director: Director::new(shared, table, views, Arc::new(templates)),
            snapshot,
            counters,
            wire: PoolWire::default(),
            burst: Box::default(),
            passes: 0,
            skipped: 0,
            hz: dpdk::tsc_hz() as f64,
            syn: tcp((Addr4::UNSPECIFIED, 0), (VIP, 80), SYN),
            ack: tcp((Addr4::UNSPECIFIED, 0), (VIP, 80), ACK),
        };
        // Past the announcements of a start.
        (0..20_000).for_each(|_| {
            bench.skipped += 1;
            bench.pass(std::iter::empty(), false);
        });
        bench
    }

    fn connections(&self) -> u64 {
        self.counters.connections.get()
    }

    /// One pass with a frame of each of these flows, 64 at most. Nanoseconds.
    fn pass(&mut self, flows: impl Iterator<Item = u64>, is_first: bool) -> f64 {
        self.wire.recycle();
        let template = if is_first { &mut self.syn } else { &mut self.ack };
        for flow in flows.take(BURST) {
            let mut frame = self.wire.receive(template);
            write_client(frame.bytes_mut(), flow);
            self.burst.push(frame);
        }
        self.passes += 1;
        let millis = self.skipped + self.passes / PASSES_PER_MILLI;
        let begin = dpdk::tsc();
        let now = Now { cycles: begin, seconds: (millis / 1000) as u32, millis };
        self.director.adopt(&self.snapshot);
        self.director.process(&mut self.burst, 0, &self.snapshot, now, &mut self.wire);
        self.director.upkeep(&self.snapshot, now, &mut self.wire);
        (dpdk::tsc() - begin) as f64 / self.hz * 1e9
    }

    /// Packets of these flows, burst by burst.
    fn send(&mut self, flows: impl Iterator<Item = u64>, is_first: bool) -> Times {
        let mut flows = flows.peekable();
        let mut times = Times::default();
        while flows.peek().is_some() {
            times.add(self.pass(flows.by_ref(), is_first));
        }
        times
    }
}

/// Client address and port of a flow, and the right IP checksum. The numbers are scattered, as clients' are.
fn write_client(frame: &mut [u8], flow: u64) {
    let scattered = (flow + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
    // 22 bits of 100.64.0.0/10 and 15 bits of port: different for different flows, since the product's are.
    let bits = (flow & 0x1f_ffff_ffff) ^ (scattered << 25 & 0x1f_fe00_0000);
    let client = CLIENT.plus((bits >> 15) as u32 & 0x3f_ffff);
    frame[26..30].copy_from_slice(&client.octets());
    frame[34..36].copy_from_slice(&(0x8000 | bits as u16 & 0x7fff).to_be_bytes());
    frame[24..26].fill(0);
    let sum: u32 = frame[14..34].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
}

/// What passes took.
#[derive(Default)]
struct Times {
    nanos: Vec<f32>,
}

impl Times {
    fn add(&mut self, nanos: f64) {
        self.nanos.push(nanos as f32);
    }

    fn row(&mut self, what: &str, packets: usize) -> String {
        self.nanos.sort_unstable_by(f32::total_cmp);
        let at = |share: f64| self.nanos[((self.nanos.len() - 1) as f64 * share) as usize] / 1e3;
        let beyond = self.nanos.iter().filter(|&&nanos| f64::from(nanos) > LIMIT_NANOS).count();
        // The median pass, since a mean holds what the machine did meanwhile.
        let each = f64::from(at(0.5)) * 1e3 / packets.min(BURST) as f64;
        format!(
            "{what:<34}{:>10.1}{:>10.1}{:>10.2}{:>10.2}{:>10.2}{:>9}",
            1e3 / each,
            each,
            at(0.5),
            at(0.9999),
            at(1.0),
            beyond
        )
    }
}

/// Whether the kernel has huge pages that nobody uses.
fn has_hugepages() -> bool {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free = memory.lines().find_map(|line| line.strip_prefix("HugePages_Free:"));
    free.and_then(|pages| pages.trim().parse().ok()).is_some_and(|pages: u64| pages > 0)
}

#[expect(clippy::print_stdout, reason = "the table is what the program is for")]
fn main() {
    let capacity = std::env::args().nth(1).map_or(CONNECTIONS, |arg| {
        arg.replace('_', "").parse().expect("the argument is a number of connections, 1,024 to 16,777,216")
    });
    // EAL can be started only once, so it is not tried with huge pages where there are none.
    let memory: &[&str] = if has_hugepages() { &["--in-memory"] } else { &["--no-huge", "-m", "64"] };
    let eal = ["--no-pci", "--no-telemetry", "--log-level", "error", "-l", "0"];
    let eal: Vec<String> = eal.iter().chain(memory).map(|&argument| argument.to_owned()).collect();
    let eal = Eal::init(&eal).expect("EAL starts; its message above says why not");
    // It goes on: the clock is EAL's.
    let eal = Some(&eal).filter(|eal| eal.has_hugepages());
    let mut bench = Bench::new(capacity, eal);
    let lines = Table::lines_for(capacity) + Templates::lines_for(capacity / 64);
    println!(
        "{capacity} connections, {} MiB in {}: {:.1} bytes for each with the least room for templates\n",
        (lines * size_of::<Line>()) >> 20,
        if eal.is_some() { "huge pages" } else { "pages of 4 KiB" },
        (lines * size_of::<Line>()) as f64 / capacity as f64
    );
    println!(
        "{:<34}{:>10}{:>10}{:>10}{:>10}{:>10}{:>9}",
        "", "M/s", "ns each", "pass µs", "99.99 %", "longest", "> 50 µs"
    );
    let all = capacity as u64;
    for tenth in 0..10u64 {
        let flows = all * tenth / 10..all * (tenth + 1) / 10;
        let mut times = bench.send(flows, true);
        println!("{}", times.row(&format!("new, {} to {} % full", tenth * 10, (tenth + 1) * 10), BURST));
    }
    assert_eq!(bench.counters.forwarded.get(), all, "every SYN is forwarded");
    bench.skipped += 1;
    bench.pass(std::iter::empty(), false);
    let made = bench.connections();
    println!("{made} connections; {} flows went without a record", bench.counters.untracked.get());
    let known = (0..4_000_000u64).map(|n| n.wrapping_mul(7_919) % all);
    println!("{}", bench.send(known, false).row("known, full", BURST));
    println!("{}", bench.send(all..all + 2_000_000, true).row("new, full: without a record", BURST));
    // Everything that is there ends at once; some new ones come meanwhile.
    bench.skipped += 1_000_000;
    let mut times = Times::default();
    let first = all + 2_000_000;
    let mut flow = first;
    let begin = bench.passes;
    while bench.connections() > flow - first || bench.passes == begin {
        times.add(bench.pass(flow..flow + 4, true));
        flow += 4;
        assert!(bench.passes - begin < all + 4_000_000, "connections that are over are swept away");
    }
    println!("{}", times.row("4 new, while all others end", 4));
    println!("{} connections are left after {} passes", bench.connections(), bench.passes - begin);
}
