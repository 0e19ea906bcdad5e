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
use std::time::Duration;

use dpdk_sys as sys;

use crate::error::Errno;
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
    /// First, since it ends before the hold on the device does.
    watch: Option<Watch>,
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
        RxQueue { watch: None, queue: self.queue, _stays_on_its_thread: PhantomData }
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

    /// Makes the queue's interrupt one that [`wait_for_frames`] waits for on this thread, once it is armed. Ends when
    /// the thread gives the queue up.
    ///
    /// # Errors
    /// The device has no such interrupts, or was configured without (`PortConfig::rx_interrupts`).
    pub fn watch(&mut self) -> Result<(), Errno> {
        if self.watch.is_some() {
            return Ok(());
        }
        let queue = self.queue.queue;
        // SAFETY: the port is started, and stays so while the queue holds its device. What the call leaves in this
        // thread's epoll instance is taken out by the `Watch`, on this thread, before the device closes.
        self.queue.device.control(|id| unsafe { sys::weir_rx_intr_watch(id, queue, true) })?;
        self.watch = Some(Watch { queue, device: Arc::clone(&self.queue.device) });
        Ok(())
    }

    /// Has the device raise an interrupt when a frame comes. Poll once more before waiting: some devices tell nothing of
    /// what came before.
    ///
    /// # Errors
    /// What the driver says; do not wait then.
    pub fn arm(&mut self) -> Result<(), Errno> {
        let queue = self.queue.queue;
        // SAFETY: the port is started, by `start_polling`.
        match self.queue.device.control(|id| unsafe { sys::rte_eth_dev_rx_intr_enable(id, queue) }) {
            // Some drivers always raise them.
            Err(errno) if !errno.is_unsupported() => Err(errno),
            _ => Ok(()),
        }
    }

    /// Undoes [`RxQueue::arm`].
    pub fn disarm(&mut self) {
        let queue = self.queue.queue;
        // SAFETY: as in `arm`. What can't be disarmed wakes the worker once more than needed.
        let _ = self.queue.device.control(|id| unsafe { sys::rte_eth_dev_rx_intr_disable(id, queue) });
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
}

impl TxQueue {
    /// Whether the driver has frames of its own to send, and does when it is called alone, be it without any: those of LACP. It
    /// wants to be at least every 100 ms.
    pub fn is_restless(&self) -> bool {
        self.queue.device.is_bond()
    }

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
}

/// The registration of a queue's interrupt with the thread that polls the queue.
#[derive(Debug)]
struct Watch {
    queue: u16,
    device: Arc<Device>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        // SAFETY: the port is started, by the device it holds, and the queue is registered with this thread: the queue
        // that holds this does not change threads. A failure leaves what the device's end takes away.
        let _ = self.device.control(|id| unsafe { sys::weir_rx_intr_watch(id, self.queue, false) });
    }
}

/// Waits until a device raises an interrupt for one of the queues that this thread watches and has armed; `timeout`,
/// rounded up to milliseconds, is the most it takes.
pub fn wait_for_frames(timeout: Duration) {
    let millis = timeout.as_micros().div_ceil(1_000).min(60_000) as i32;
    // SAFETY: waits on this thread's epoll instance and writes to events of its own. Which queue it was does not
    // matter, and a signal is as good as an interrupt.
    unsafe { sys::weir_rx_intr_wait(millis) };
}

impl RawQueue {
    fn assert_started(&self) {
        assert!(self.device.is_started(), "device {} is polled before it is started", self.device.name());
    }
}
