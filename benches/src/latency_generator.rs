//! Sends UDP frames at a fixed pace into a device and measures when each of them comes back: the other end of
//! `benches/latency`, which starts it beside the program that is measured.
//!
//! ```text
//! latency-generator EAL OPTIONS -- --device net_memif0 --rate 1000000 --seconds 3
//! ```
//! One thread sends and receives. A frame carries the time stamp counter of the moment before its burst was handed to
//! the device; its time ends when the burst that it comes back in is handed out. The pace is kept by the clock, not by what comes back, so
//! a program that stalls is not asked less.
//!
//! When the generator itself is held up, because a timer, another process or the hypervisor has its CPU, neither what would have been due
//! nor what comes back meanwhile says anything about the program that is measured: the one would be sent as a flood, the other
//! would be taken for late. Both are left out and counted, as `skipped` and `untimed`. Prints one JSON object.
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
/// Octets that a tunnel adds.
const TUNNEL_HEADER: usize = 20;
/// Octets of payload of the smallest frame: a stamp and what fills 60 octets.
const PAYLOAD: usize = 18;
/// Frames in a burst at most; a pace that needs more is not kept.
const BURST: u64 = 32;
/// A turn of sending and receiving that takes longer was held up: two full bursts take a third of that.
const TURN: Duration = Duration::from_micros(5);
/// Bursts that the rings can hold, and more.
const IN_FLIGHT: usize = 1_000;
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
        held_until: 0,
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
    println!("{}", generator.tally.report(took, cpu, within, generator.hz)?);
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
    /// The end of the last turn that was held up.
    held_until: u64,
    tally: Tally,
}

impl Generator {
    /// Sends and receives for that long. Returns how long it took.
    fn send_for(&mut self, time: Duration, rate: u64) -> Duration {
        let began = dpdk::tsc();
        let length = self.cycles(time);
        let longest_turn = self.cycles(TURN);
        let (mut due_before, mut last) = (0_u64, began);
        let mut burst = Burst::new();
        loop {
            let mut now = dpdk::tsc();
            let was_held = rate > 0 && now.wrapping_sub(last) > longest_turn;
            if was_held {
                now = self.start_anew(&mut burst, last);
            }
            last = now;
            let passed = now.wrapping_sub(began);
            if passed >= length {
                return Duration::from_secs_f64(passed as f64 / self.hz as f64);
            }
            let mut due = match rate {
                0 => BURST,
                rate => (u128::from(passed) * u128::from(rate) / u128::from(self.hz)) as u64 - due_before,
            };
            if was_held {
                self.tally.skipped += due;
                due_before += due;
                due = 0;
            }
            let count = due.min(BURST);
            if count > 0 {
                due_before += count;
                self.tally.behind = self.tally.behind.max(due - count);
                self.send(&mut burst, count as usize);
            }
            self.receive(&mut burst);
        }
    }

    /// Lets what came back while the generator was held up since `last` not keep up what is sent from now on. Returns the time.
    fn start_anew(&mut self, burst: &mut Burst, last: u64) -> u64 {
        self.held_until = dpdk::tsc();
        let mut left = IN_FLIGHT;
        while left > 0 && self.receive(burst) > 0 {
            left -= 1;
        }
        let now = dpdk::tsc();
        self.tally.held += 1;
        self.tally.held_cycles += now.wrapping_sub(last);
        now
    }

    fn cycles(&self, time: Duration) -> u64 {
        (time.as_secs_f64() * self.hz as f64) as u64
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

    /// Takes a burst. Returns how many frames it had.
    fn receive(&mut self, burst: &mut Burst) -> usize {
        let received = self.rx.receive(burst);
        if received == 0 {
            return 0;
        }
        let now = dpdk::tsc();
        for mbuf in burst.iter() {
            let bytes = mbuf.bytes();
            if let Some(stamp) = stamp_of(bytes) {
                self.tally.received += 1;
                if stamp < self.held_until {
                    self.tally.untimed += 1;
                } else {
                    let cycles = now.wrapping_sub(stamp);
                    self.tally.take(u128::from(cycles) * 1_000_000_000 / u128::from(self.hz));
                }
            }
        }
        free_bulk(burst);
        received
    }

    fn drain(&mut self) {
        let mut burst = Burst::new();
        let deadline = Instant::now() + DRAIN;
        while Instant::now() < deadline {
            self.receive(&mut burst);
        }
    }
}

/// The stamp of a frame that comes back, as it was sent or in an IPv4 tunnel. Whatever else the other end says, such as ARP, has none.
fn stamp_of(frame: &[u8]) -> Option<u64> {
    if frame.get(12..14) != Some(&[8, 0]) {
        return None;
    }
    let at = match frame.get(23) {
        Some(17) => STAMP,
        Some(4) => STAMP + TUNNEL_HEADER,
        _ => return None,
    };
    frame.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes)
}

struct Tally {
    sent: u64,
    /// That the device did not take, or for which there was no buffer.
    unsent: u64,
    received: u64,
    /// That were due while the generator was held up, and never sent.
    skipped: u64,
    /// That were on their way when the generator was held up.
    untimed: u64,
    /// How often it was held up, and for how long in all.
    held: u64,
    held_cycles: u64,
    /// Most frames that were due and not sent yet: a pace that the generator does not keep.
    behind: u64,
    nanos: Histogram<u64>,
}

impl Tally {
    fn new() -> Result<Self> {
        let nanos = Histogram::new_with_bounds(1, LONGEST_NS, 3)?;
        Ok(Self {
            sent: 0,
            unsent: 0,
            received: 0,
            skipped: 0,
            untimed: 0,
            held: 0,
            held_cycles: 0,
            behind: 0,
            nanos,
        })
    }

    fn take(&mut self, nanos: u128) {
        self.nanos.saturating_record(u64::try_from(nanos).unwrap_or(LONGEST_NS).min(LONGEST_NS));
    }

    /// What was measured, as JSON. `within` came back while it was sending.
    fn report(&self, took: Duration, cpu: Duration, within: u64, hz: u64) -> Result<serde_json::Value> {
        if self.nanos.is_empty() {
            bail!("none of {} frames came back in time", self.sent);
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
            "skipped": self.skipped,
            "untimed": self.untimed,
            "held": self.held,
            "held_seconds": self.held_cycles as f64 / hz as f64,
            "behind_frames": self.behind,
            "mean_ns": self.nanos.mean(),
            "p50_ns": self.nanos.value_at_quantile(0.5),
            "p99_ns": self.nanos.value_at_quantile(0.99),
            "p999_ns": self.nanos.value_at_quantile(0.999),
            "max_ns": self.nanos.max(),
            "curve": curve,
        }))
    }
}
