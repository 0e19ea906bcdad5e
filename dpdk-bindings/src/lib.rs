//! A safe layer over DPDK, as much of it as a packet forwarder needs, and over the kernel's taps and memory files.
//!
//! This is the only crate of weir with `unsafe` in it. No raw integer, pointer or error number of C leaves it.
//!
//! # Who owns what
//!
//! * [`Eal`] is the running environment, one per process. Memory ([`Slab`]), pools ([`Mempool`]), ports and queues each
//!   keep it alive, so they may be dropped in any order; EAL ends with the last of them, on the conditions that [`eal`]
//!   gives. Drop the last one on the thread that called [`Eal::init`], after the workers have returned.
//! * An [`Mbuf`] is the only reference to its buffer. It is never cloned; dropping it gives the buffer back. It does
//!   not keep its pool alive: a pool with mbufs out is kept until EAL ends, and EAL does not end before they are back.
//! * [`RxQueue::receive`] makes the caller the owner of frames; [`TxQueue::send`] takes ownership of those the device
//!   accepts and leaves the others in the [`Burst`].
//! * A port is stopped and closed when its handle and all its queues are dropped.
//!
//! # Which thread may do what
//!
//! * The thread that calls [`Eal::init`] becomes the main lcore. It is pinned to one CPU, and so is every thread it
//!   starts afterwards: call [`lcore::run_on_cpus`] there. EAL's other lcores are workers, waiting for [`Eal::launch`].
//! * Handles of queues move between threads; a queue that is polled does not ([`RxQueue`] is not `Send`). Nothing can
//!   poll one queue from two threads.
//! * Pools, slabs, ports and counters may be used from any thread. Control functions of a port take turns.
//! * A panic on a worker ends the process with status 1.
//!
//! # On the packet path
//!
//! `receive`, `send`, [`free_bulk`] and [`Mempool::alloc_bulk`] are one call into C for a burst. All accessors of
//! [`Mbuf`] and the functions of [`lcore`] are inlined Rust. Nothing there allocates, locks or makes a system call;
//! whether the device's driver does is the driver's affair.

pub mod eal;
pub mod error;
pub mod files;
pub mod kept;
pub mod lcore;
pub mod log;
pub mod mbuf;
pub mod memory;
pub mod mempool;
pub mod port;
pub mod process;
pub mod queue;
pub mod refused;
pub mod rss;
pub mod tap;

pub use eal::{Eal, EalError, LaunchError, version};
pub use error::Errno;
pub use kept::{KeptError, KeptMemory, Pages};
pub use lcore::{LcoreId, SocketId, prefetch, prefetch_write, tsc, tsc_hz};
pub use mbuf::{BURST_MAX, Burst, Mbuf, free_bulk};
pub use memory::{Line, MemoryError, Slab, Zeroable};
pub use mempool::{Mempool, MempoolConfig, MempoolError};
pub use port::{
    ConfiguredPort, DeviceInfo, Link, MacAddress, MtuLimit, Port, PortConfig, PortError, PortFilter,
    PortStats, PortStatsReader, RssConfig, RssState, RssTypes, Shortcoming, StartedPort,
};
pub use queue::{RxQueue, RxQueueHandle, TxQueue, TxQueueHandle, wait_for_frames};
pub use tap::{KeptTapError, Tap, TapError};
