//! What every test file that starts EAL needs. EAL starts once in a process, and each file is a process.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of this")]

use std::sync::{Mutex, OnceLock};

use dpdk::{Burst, Eal, Mempool, MempoolConfig, RxQueue, SocketId};

/// EAL with `extra` arguments, without huge pages, PCI, or anything that could meet another test's process.
pub fn start(extra: &[&str]) -> Eal {
    Eal::init(&arguments(extra)).expect("EAL starts without huge pages")
}

pub fn arguments(extra: &[&str]) -> Vec<String> {
    ["--no-huge", "-m", "256", "--no-pci", "--no-telemetry", "--no-shconf", "--log-level", "error"]
        .iter()
        .chain(extra)
        .map(|arg| (*arg).to_owned())
        .collect()
}

/// The one EAL of a test file whose tests share it.
pub fn shared(extra: &[&str]) -> &'static Eal {
    static EAL: OnceLock<Eal> = OnceLock::new();
    static STARTING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = STARTING.lock().unwrap();
    EAL.get_or_init(|| start(extra))
}

pub fn pool(eal: &Eal, name: &str, mbufs: u32) -> Mempool {
    let config =
        MempoolConfig { name: name.into(), mbufs, cache: 0, data_bytes: 2048, socket: SocketId::ANY };
    Mempool::new(eal, config).expect("256 MB are enough for a test's pool")
}

/// A frame of `len` octets, each of them `fill`.
pub fn frame(len: usize, fill: u8) -> Vec<u8> {
    vec![fill; len]
}

/// A burst of frames of 60 octets that begin with their number, counted from `first`.
pub fn numbered(pool: &Mempool, first: u8, count: u8) -> Burst {
    (first..first + count).map(|n| pool.alloc_with(&frame(60, n)).expect("the pool has mbufs")).collect()
}

/// The first octet of each frame.
pub fn numbers(burst: &Burst) -> Vec<u8> {
    burst.iter().map(|mbuf| mbuf.bytes()[0]).collect()
}

/// Polls until `wanted` frames are in the burst, or for two seconds.
pub fn receive(queue: &mut RxQueue, wanted: usize) -> Burst {
    let mut burst = Burst::new();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(2);
    while burst.len() < wanted && std::time::Instant::now() < deadline {
        queue.receive(&mut burst);
    }
    burst
}
