//! Sends UDP frames at a fixed pace into a device and measures when each of them comes back: the other end of
//! `benches/latency`, which starts it beside the program that is measured.
//!
//! ```text
//! latency-generator EAL OPTIONS -- --device net_memif0 --rate 1000000 --seconds 3
//! ```
//! One thread sends and receives. A frame carries the time stamp counter of the moment before its burst was handed to
//! the device; its time ends when the burst that it comes back in is handed out. The pace is kept by the clock, not by what comes back, so
//! a program that stalls is not asked less. Prints one JSON object.
#![allow(clippy::print_stdout, reason = "the result goes there")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use dpdk::{Burst, Eal, Mempool, MempoolConfig, Port, PortConfig, RxQueue, SocketId, TxQueue, free_bulk};
use hdrhistogram::Histogram;
use weir_benches::frames::{VIP, client, udp};

/// Frames in flight at most: what is lost must not empty the pool.
const MBUFS: u32 = 65_535;
/// Octets from the start of a frame to its stamp: Ethernet, IPv4 and UDP headers.
const STAMP: usize = 42;
/// Octets of payload of the smallest frame: a stamp and what fills 60 octets.
const PAYLOAD: usize = 18;
/// Frames in a burst at most; a pace that needs more is not kept.
const BURST: u64 = 32;
/// How long the last frames may take to come back.
const DRAIN: Duration = Duration::from_millis(200);
const LINK: Duration = Duration::from_secs(20);
/// Nothing that is measured takes longer; what does is counted as that.
const LONGEST_NS: u64 = 10_000_000_000;

#[derive(Debug, Parser)]
struct Options {
    /// DPDK's name of the device
    #[arg(long)]
    device: String,
    /// Frames a second; 0: as many as the device takes
    #[arg(long)]
    rate: u64,
    /// How long
    #[arg(long)]
    seconds: f64,
    /// How long before that without measuring
    #[arg(long, default_value_t = 0.5)]
    warm_up: f64,
    /// Flows, sent in turn
    #[arg(long, default_value_t = 1000)]
    flows: u32,
    /// UDP port of the virtual server 10.0.0.100
    #[arg(long, default_value_t = 80)]
    port: u16,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            println!("{}", serde_json::json!({ "error": format!("{problem:#}") }));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let split =
        arguments.iter().position(|argument| argument == "--").context("no `--` after EAL's options")?;
    let own = arguments[split + 1..].iter().map(String::as_str);
    let options = Options::try_parse_from(std::iter::once("latency-generator").chain(own))?;
    ensure!(options.flows > 0 && options.seconds > 0.0, "flows and seconds must be above 0");
    let eal = Eal::init(&arguments[..split])?;
    let pool = MempoolConfig {
        name: "generator".into(),
        mbufs: MBUFS,
        cache: 256,
        data_bytes: 2_048,
        socket: SocketId::ANY,
    };
    let pool = Mempool::new(&eal, pool)?;
    let device = Port::by_name(&eal, &options.device)?;
    let mut port = device.configure(PortConfig::default(), std::slice::from_ref(&pool))?;
    let (mut rx, mut tx) = port.take_queues();
    let port = port.start()?;
    let deadline = Instant::now() + LINK;
    while !port.link().up {
        ensure!(Instant::now() < deadline, "nobody is at the other end of {}", options.device);
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut generator = Generator {
        rx: rx.remove(0).start_polling(),
        tx: tx.remove(0).start_polling(),
        frames: (0..options.flows).map(|flow| udp(client(flow), (VIP, options.port), PAYLOAD)).collect(),
        pool,
        next: 0,
        hz: dpdk::tsc_hz(),
        tally: Tally::new()?,
    };
    generator.send_for(Duration::from_secs_f64(options.warm_up), options.rate);
    generator.drain();
    generator.tally = Tally::new()?;
    let before = cpu_time()?;
    let took = generator.send_for(Duration::from_secs_f64(options.seconds), options.rate);
    let cpu = cpu_time()?.saturating_sub(before);
    let within = generator.tally.received;
    generator.drain();
    println!("{}", generator.tally.report(took, cpu, within)?);
    Ok(())
}

/// For how long this thread has had a CPU, by the kernel's account.
fn cpu_time() -> Result<Duration> {
    let account = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = account.split_whitespace().next().context("schedstat is empty")?.parse()?;
    Ok(Duration::from_nanos(nanos))
}

struct Generator {
    rx: RxQueue,
    tx: TxQueue,
    pool: Mempool,
    /// One for each flow.
    frames: Vec<Vec<u8>>,
    next: usize,
    hz: u64,
    tally: Tally,
}

impl Generator {
    /// Sends and receives for that long. Returns how long it took.
    fn send_for(&mut self, time: Duration, rate: u64) -> Duration {
        let began = dpdk::tsc();
        let length = (time.as_secs_f64() * self.hz as f64) as u64;
        let mut sent = 0_u64;
        let mut burst = Burst::new();
        loop {
            let passed = dpdk::tsc().wrapping_sub(began);
            if passed >= length {
                return Duration::from_secs_f64(passed as f64 / self.hz as f64);
            }
            let due = match rate {
                0 => BURST,
                rate => (u128::from(passed) * u128::from(rate) / u128::from(self.hz)) as u64 - sent,
            };
            let count = due.min(BURST);
            if count > 0 {
                sent += count;
                self.tally.late = self.tally.late.max(due - count);
                self.send(&mut burst, count as usize);
            }
            self.receive(&mut burst);
        }
    }

    fn send(&mut self, burst: &mut Burst, count: usize) {
        let made = self.pool.alloc_bulk(burst, count);
        self.tally.unsent += (count - made) as u64;
        for mbuf in burst.iter_mut() {
            let frame = &self.frames[self.next];
            self.next = (self.next + 1) % self.frames.len();
            if mbuf.append(frame.len()) {
                mbuf.bytes_mut().copy_from_slice(frame);
            }
        }
        let stamp = dpdk::tsc().to_ne_bytes();
        burst.iter_mut().for_each(|mbuf| mbuf.bytes_mut()[STAMP..STAMP + 8].copy_from_slice(&stamp));
        self.tally.sent += self.tx.send(burst) as u64;
        self.tally.unsent += burst.len() as u64;
        free_bulk(burst);
    }

    fn receive(&mut self, burst: &mut Burst) {
        if self.rx.receive(burst) == 0 {
            return;
        }
        let now = dpdk::tsc();
        for mbuf in burst.iter() {
            let bytes = mbuf.bytes();
            // Whatever else the other end says, such as ARP, is not ours.
            let is_udp = bytes.get(12..14) == Some(&[8, 0]) && bytes.get(23) == Some(&17);
            let stamp = bytes.get(STAMP..STAMP + 8).and_then(|stamp| stamp.try_into().ok());
            if let Some(stamp) = stamp.filter(|_| is_udp) {
                let cycles = now.wrapping_sub(u64::from_ne_bytes(stamp));
                self.tally.take(u128::from(cycles) * 1_000_000_000 / u128::from(self.hz));
            }
        }
        free_bulk(burst);
    }

    fn drain(&mut self) {
        let mut burst = Burst::new();
        let deadline = Instant::now() + DRAIN;
        while Instant::now() < deadline {
            self.receive(&mut burst);
        }
    }
}

struct Tally {
    sent: u64,
    /// That the device did not take, or for which there was no buffer.
    unsent: u64,
    received: u64,
    /// Most frames that were due and not sent yet: the generator itself was held up.
    late: u64,
    nanos: Histogram<u64>,
}

impl Tally {
    fn new() -> Result<Self> {
        let nanos = Histogram::new_with_bounds(1, LONGEST_NS, 3)?;
        Ok(Self { sent: 0, unsent: 0, received: 0, late: 0, nanos })
    }

    fn take(&mut self, nanos: u128) {
        self.received += 1;
        self.nanos.saturating_record(u64::try_from(nanos).unwrap_or(LONGEST_NS).min(LONGEST_NS));
    }

    /// What was measured, as JSON. `within` came back while it was sending.
    fn report(&self, took: Duration, cpu: Duration, within: u64) -> Result<serde_json::Value> {
        if self.received == 0 {
            bail!("none of {} frames came back", self.sent);
        }
        // From the middle to the one in a hundred thousand, evenly on the scale of a plot.
        let points = (0..=50).map(|step| 1.0 - 10_f64.powf(-f64::from(step) / 10.0));
        let curve: Vec<_> = points.map(|share| (share, self.nanos.value_at_quantile(share))).collect();
        Ok(serde_json::json!({
            "seconds": took.as_secs_f64(),
            "generator_cpu": cpu.as_secs_f64() / took.as_secs_f64(),
            "sent": self.sent,
            "unsent": self.unsent,
            "received": self.received,
            "received_per_second": within as f64 / took.as_secs_f64(),
            "behind_frames": self.late,
            "mean_ns": self.nanos.mean(),
            "p50_ns": self.nanos.value_at_quantile(0.5),
            "p99_ns": self.nanos.value_at_quantile(0.99),
            "p999_ns": self.nanos.value_at_quantile(0.999),
            "max_ns": self.nanos.max(),
            "curve": curve,
        }))
    }
}
