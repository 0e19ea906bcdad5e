//! Receive and transmit queues, each polled by one thread.
//!
//! A device's queue exists once in the program: the port hands it out as a handle that may move to a worker, and the
//! worker turns it into a queue that may not move any further. DPDK requires that no two threads poll the same queue;
//! `&mut self` on a value that exists once, and stays on its thread, is that rule in types.
//!
//! ```compile_fail,E0277
//! fn moves_to_another_thread<T: Send>() {}
//! moves_to_another_thread::<dpdk::RxQueue>();
//! ```
//! ```compile_fail,E0277
//! fn moves_to_another_thread<T: Send>() {}
//! moves_to_another_thread::<dpdk::TxQueue>();
//! ```
//! ```compile_fail,E0599
//! fn exists_twice(queue: &dpdk::RxQueueHandle) -> dpdk::RxQueueHandle {
//!     queue.clone::<>()
//! }
//! ```
//! ```
//! fn moves_to_another_thread<T: Send>() {}
//! moves_to_another_thread::<dpdk::RxQueueHandle>();
//! moves_to_another_thread::<dpdk::TxQueueHandle>();
//! moves_to_another_thread::<dpdk::Mbuf>();
//! ```

use std::marker::PhantomData;
use std::sync::Arc;

use dpdk_sys as sys;

use crate::mbuf::{BURST_MAX, Burst, forget_front};
use crate::port::Device;

// Counts of frames go to DPDK as u16.
const _: () = assert!(BURST_MAX <= u16::MAX as usize);

/// A receive queue that is not polled: it may move to its worker.
#[derive(Debug)]
pub struct RxQueueHandle {
    queue: RawQueue,
}

/// A receive queue, polled by the thread that has it.
#[derive(Debug)]
pub struct RxQueue {
    queue: RawQueue,
    _stays_on_its_thread: PhantomData<*mut ()>,
}

/// A transmit queue that is not used: it may move to its worker.
#[derive(Debug)]
pub struct TxQueueHandle {
    queue: RawQueue,
}

/// A transmit queue, used by the thread that has it.
#[derive(Debug)]
pub struct TxQueue {
    queue: RawQueue,
    _stays_on_its_thread: PhantomData<*mut ()>,
}

/// What DPDK calls a queue by, and the hold on its device.
#[derive(Debug)]
struct RawQueue {
    port: u16,
    queue: u16,
    device: Arc<Device>,
}

impl RxQueueHandle {
    pub(crate) fn new(device: Arc<Device>, queue: u16) -> Self {
        Self { queue: RawQueue { port: device.id(), queue, device } }
    }

    /// Ties the queue to the calling thread.
    ///
    /// # Panics
    /// If the port is not started: DPDK does not allow polling then.
    pub fn start_polling(self) -> RxQueue {
        self.queue.assert_started();
        RxQueue { queue: self.queue, _stays_on_its_thread: PhantomData }
    }

    /// The number of the port.
    pub fn port(&self) -> u16 {
        self.queue.port
    }

    /// The number of the queue on its port.
    pub fn index(&self) -> u16 {
        self.queue.queue
    }
}

impl RxQueue {
    /// Receives into the free room of `burst`, behind what it holds, and returns how many frames came. Never waits.
    /// One call into DPDK.
    #[inline]
    pub fn receive(&mut self, burst: &mut Burst) -> usize {
        let filled = burst.len();
        let room = burst.remaining_capacity() as u16; // at most BURST_MAX
        // SAFETY: the port is started, by `start_polling`, and stays so while the queue holds its device. No other
        // thread polls this queue: it exists once and is borrowed exclusively. `Mbuf` is `repr(transparent)` over a
        // non-null pointer, and the burst has `room` of them behind the first `filled`.
        let received = unsafe {
            sys::weir_rx_burst(self.queue.port, self.queue.queue, burst.as_mut_ptr().add(filled).cast(), room)
        };
        let received = usize::from(received);
        debug_assert!(received <= usize::from(room), "a driver returned more frames than it was asked for");
        // SAFETY: the driver wrote `received` packets, no more than `room`, that the caller owns.
        unsafe { burst.set_len(filled + received) };
        received
    }

    /// Unties the queue from the thread, so that another may have it.
    pub fn stop_polling(self) -> RxQueueHandle {
        RxQueueHandle { queue: self.queue }
    }

    /// The number of the port.
    pub fn port(&self) -> u16 {
        self.queue.port
    }

    /// The number of the queue on its port.
    pub fn index(&self) -> u16 {
        self.queue.queue
    }
}

impl TxQueueHandle {
    pub(crate) fn new(device: Arc<Device>, queue: u16) -> Self {
        Self { queue: RawQueue { port: device.id(), queue, device } }
    }

    /// Ties the queue to the calling thread.
    ///
    /// # Panics
    /// If the port is not started: DPDK does not allow sending then.
    pub fn start_polling(self) -> TxQueue {
        self.queue.assert_started();
        TxQueue { queue: self.queue, _stays_on_its_thread: PhantomData }
    }

    /// The number of the port.
    pub fn port(&self) -> u16 {
        self.queue.port
    }

    /// The number of the queue on its port.
    pub fn index(&self) -> u16 {
        self.queue.queue
    }
}

impl TxQueue {
    /// Sends from the front of `burst` and returns how many frames the device took. The others stay in the burst, in
    /// order, for the caller to try again or drop. One call into DPDK.
    #[inline]
    pub fn send(&mut self, burst: &mut Burst) -> usize {
        let offered = burst.len() as u16; // at most BURST_MAX
        // SAFETY: the port is started, by `start_polling`, and stays so while the queue holds its device. No other
        // thread uses this queue: it exists once and is borrowed exclusively. `Mbuf` is `repr(transparent)` over a
        // non-null pointer, so the burst is an array of `offered` packets, of which DPDK takes the first ones.
        let sent = unsafe {
            sys::weir_tx_burst(self.queue.port, self.queue.queue, burst.as_mut_ptr().cast(), offered)
        };
        let sent = usize::from(sent.min(offered));
        // SAFETY: the driver owns the first `sent` packets now, no more than were offered.
        unsafe { forget_front(burst, sent) };
        sent
    }

    /// Unties the queue from the thread, so that another may have it.
    pub fn stop_polling(self) -> TxQueueHandle {
        TxQueueHandle { queue: self.queue }
    }

    /// The number of the port.
    pub fn port(&self) -> u16 {
        self.queue.port
    }

    /// The number of the queue on its port.
    pub fn index(&self) -> u16 {
        self.queue.queue
    }
}

impl RawQueue {
    fn assert_started(&self) {
        assert!(self.device.is_started(), "device {} is polled before it is started", self.device.name());
    }
}
