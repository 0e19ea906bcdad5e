//! A worker: polls its receive queues and takes each burst all the way, on one lcore, to completion.
//!
//! This is where DPDK and the data path meet. [`Worker`] is made by control and sent to its lcore, where
//! [`Worker::run`] turns its queues into polling ones, which can't leave that thread any more.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use dpdk::mbuf::{BURST_MAX, Burst, Mbuf, dropped_by_panic, free_bulk};
use dpdk::mempool::Mempool;
use dpdk::queue::{RxQueue, RxQueueHandle, TxQueue, TxQueueHandle};

use crate::capture::{Noted, Tap};
use crate::clock::{Clock, Now};
use crate::conn::table::{Table, View};
use crate::conn::template::Templates;
use crate::desk::{Desk, Order};
use crate::director::{Director, Shared};
use crate::idle::{Idle, Rest};
use crate::packet::Wire;
use crate::punt::Punt;
use crate::snapshot::Snapshot;
use crate::snapshot::publish::Reader;
use crate::stats::passes::Stopwatch;
use crate::stats::{DropReason, WorkerCounters};
use crate::suspect::{Care, Caution};
use crate::vlan::{self, Sorter, Vlan};

/// Pause instructions between two looks of a worker that has panicked at what there is to send.
const LAST_WORDS: usize = 1_000;
/// Milliseconds between two calls of drivers that have frames of their own to send.
const RESTLESS_MILLIS: u64 = 10;
/// Pause instructions between two polls of a worker that may rest: some hundreds of cycles.
const PAUSES: usize = 16;

/// What a worker is made of.
pub struct Worker {
    /// What it shares with control and the other workers.
    pub shared: Shared,
    /// Its connection table.
    pub table: Table,
    /// The tables of all workers, by number.
    pub views: Arc<[View]>,
    /// The persistence templates, shared by all workers.
    pub templates: Arc<Templates>,
    /// Its view of the configuration.
    pub reader: Reader,
    /// The receive queues it polls, with the numbers of their devices' ports.
    pub receive: Vec<(usize, RxQueueHandle)>,
    /// Its transmit queue on each device, by port number: devices come first.
    pub transmit: Vec<TxQueueHandle>,
    /// The ports behind the devices, which are VLANs of theirs.
    pub vlans: Vec<Vlan>,
    /// Its end of the channels to control.
    pub punt: Punt,
    /// Where frames of its own come from.
    pub pool: Mempool,
    /// Whether its CPU may rest between packets.
    pub sleep: Option<Sleep>,
    /// The cycle at which the clocks of all workers begin, so that their seconds begin together.
    pub epoch: u64,
    /// After a panic of the process before.
    pub caution: Option<Caution>,
}

/// What is left of a panic on a worker.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Crash {
    /// The frame it was at, as it came in; known only with [`Caution`].
    pub culprit: Option<Vec<u8>>,
    /// Frames that it was at, as the panic left them, the first one probably at fault. None: it was at something else.
    pub frames: Vec<Vec<u8>>,
}

/// How a worker's CPU rests; see [`crate::idle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sleep {
    /// The longest sleep where there are no interrupts.
    pub max: Duration,
    /// Whether all devices raise interrupts.
    pub interrupts: bool,
}

impl Worker {
    /// Polls until `stop` is set; then sends what is still queued. `started` is called when the first poll is done.
    ///
    /// After a panic it forwards nothing any more: `crashed` is called, and until `stop` is set it sends what control has to say, such as
    /// the last advertisements of VRRP. It gives nothing back then, since what it holds may be half changed: the process has to end.
    pub fn run(self, stop: &AtomicBool, started: impl FnOnce(), crashed: impl FnOnce(Crash)) {
        let hz = dpdk::tsc_hz();
        let begin = dpdk::tsc();
        let counters = self.shared.counters.clone();
        let desk = self.shared.desk.clone();
        let mut receive: Vec<_> =
            self.receive.into_iter().map(|(port, queue)| (port, queue.start_polling())).collect();
        let idle = self.sleep.map(|sleep| {
            // Without it sleeps are longer than asked for, which is no reason to stop.
            let _ = dpdk::lcore::sleep_precisely();
            let interrupts = sleep.interrupts && receive.iter_mut().all(|(_, queue)| queue.watch().is_ok());
            Idle::new(hz, begin, sleep.max, interrupts)
        });
        let sorters = Sorter::of_devices(&self.vlans, self.transmit.len());
        let transmit: Vec<_> = self.transmit.into_iter().map(Transmit::new).collect();
        let is_restless = |(_, transmit): &(usize, &Transmit)| transmit.queue.is_restless();
        let restless = transmit.iter().enumerate().filter(is_restless).map(|(port, _)| port).collect();
        let mut polling = Polling {
            receive,
            sorters,
            ports: Ports {
                vlans: Tagged::of(&self.vlans),
                tagged: Vec::with_capacity(self.vlans.len()),
                transmit,
                restless,
                calls_due: 0,
                pool: self.pool,
                released: Burst::new(),
                counters: counters.clone(),
                capture: None,
            },
            desk,
            director: Director::new(self.shared, self.table, self.views, self.templates).with_punt(self.punt),
            reader: self.reader,
            clock: Clock::new(hz, self.epoch),
            now: Now::default(),
            burst: Burst::new(),
            counters,
            last: begin,
            stopwatch: Stopwatch::new(hz),
            was_busy: false,
            idle,
            care: self.caution.map(|caution| Box::new(Care::new(caution, begin, hz))),
        };
        let forward = || {
            polling.poll();
            started();
            while !stop.load(Relaxed) {
                polling.poll();
                polling.rest();
            }
            polling.ports.flush();
        };
        if catch_unwind(AssertUnwindSafe(forward)).is_err() {
            crashed(catch_unwind(AssertUnwindSafe(|| polling.autopsy())).unwrap_or_default());
            // What can't be sent stays unsaid.
            let _ = catch_unwind(AssertUnwindSafe(|| polling.say_last_words(stop)));
            std::mem::forget(polling);
        }
    }
}

/// Does what control asks for.
#[cold]
fn attend(desk: &Desk, ports: &mut Ports, director: &mut Director<Mbuf>) {
    desk.take(|order| match order {
        Order::Capture(tap) => ports.capture = Some(tap),
        Order::EndCapture => ports.capture = None,
        Order::Neighbors(listing) => director.list_neighbors(listing),
    });
}

/// Begins a burst after a panic of the process before.
#[cold]
#[inline(never)]
fn take_care(careful: &mut Option<Box<Care<Mbuf>>>, burst: &mut Burst, now: Now, ports: &mut Ports) {
    let Some(care) = careful.as_mut().filter(|care| !care.is_over(now.cycles)) else {
        *careful = None;
        return;
    };
    care.begin(burst, now.cycles, |frame| {
        ports.counters.dropped(DropReason::Suspect);
        ports.discard(frame, DropReason::Suspect);
    });
}

#[cold]
fn note(counters: &WorkerCounters, noted: Noted) {
    counters.captured.add(noted.captured);
    counters.capture_lost.add(noted.lost);
}

struct Polling {
    receive: Vec<(usize, RxQueue)>,
    /// By port number of devices: takes the frames of VLANs out of a burst. Empty: there are no VLANs.
    sorters: Vec<Option<Sorter<Mbuf>>>,
    ports: Ports,
    desk: Arc<Desk>,
    director: Director<Mbuf>,
    reader: Reader,
    clock: Clock,
    /// Of the last poll.
    now: Now,
    burst: Burst,
    counters: Arc<WorkerCounters>,
    last: u64,
    stopwatch: Stopwatch,
    was_busy: bool,
    /// `None`: it polls on.
    idle: Option<Idle>,
    /// After a panic of the process before, for a while.
    care: Option<Box<Care<Mbuf>>>,
}

impl Polling {
    /// One pass over all receive queues. Reads the snapshot once, and the clock, which is read again if control has something to send.
    #[inline]
    fn poll(&mut self) {
        let cycles = dpdk::tsc();
        self.account(cycles);
        let now = self.clock.at(cycles);
        let snapshot = self.reader.load();
        self.director.adopt(snapshot);
        if self.desk.is_asked() {
            attend(&self.desk, &mut self.ports, &mut self.director);
        }
        for (port, queue) in &mut self.receive {
            if queue.receive(&mut self.burst) == 0 {
                continue;
            }
            self.was_busy = true;
            let mut way = Way { director: &mut self.director, care: &mut self.care, ports: &mut self.ports };
            if let Some(Some(sorter)) = self.sorters.get_mut(*port) {
                take_tagged((sorter, *port), &mut self.burst, &mut way, snapshot, now);
                if self.burst.is_empty() {
                    continue;
                }
            }
            way.take(&mut self.burst, *port, snapshot, now);
        }
        if let Some(capture) = &mut self.ports.capture {
            capture.leaves_ports();
        }
        if self.director.has_injected() {
            self.was_busy = true;
            // The pass may have stood still since it began, and what is too old now must not look fresh.
            let now = Now { cycles: dpdk::tsc(), ..now };
            self.director.inject(snapshot, now, &mut self.ports);
        }
        self.director.upkeep(snapshot, now, &mut self.ports);
        self.now = now;
        if !self.ports.restless.is_empty() {
            self.ports.call_restless(now);
        }
        self.ports.flush();
    }

    /// What is known of the frames after a panic.
    #[cold]
    fn autopsy(&mut self) -> Crash {
        let mut frames = dropped_by_panic();
        let sorted = self.sorters.iter_mut().flatten().flat_map(Sorter::left);
        frames.extend(sorted.chain(self.burst.drain(..)).map(|frame| frame.bytes().to_vec()));
        Crash { culprit: self.care.as_mut().and_then(|care| care.culprit()), frames }
    }

    /// Sends what control has to say until `stop` is set.
    #[cold]
    fn say_last_words(&mut self, stop: &AtomicBool) {
        while !stop.load(Relaxed) {
            let now = self.clock.at(dpdk::tsc());
            let snapshot = self.reader.load();
            if self.director.has_injected() {
                self.director.inject(snapshot, now, &mut self.ports);
            }
            self.ports.flush();
            (0..LAST_WORDS).for_each(|_| std::hint::spin_loop());
        }
    }

    /// Lets the CPU rest if there is nothing to do and the configuration allows it. The one place where a worker makes
    /// a system call, and no packet waits there but those that come meanwhile.
    #[inline]
    fn rest(&mut self) {
        let Some(idle) = &mut self.idle else { return };
        let has_work = self.was_busy || self.director.is_behind(self.now);
        match idle.after_poll(self.last, has_work) {
            Rest::Not => {}
            Rest::Pause => (0..PAUSES).for_each(|_| std::hint::spin_loop()),
            rest => self.sleep(rest),
        }
    }

    #[cold]
    fn sleep(&mut self, rest: Rest) {
        match rest {
            Rest::Sleep(time) => self.asleep(|| std::thread::sleep(time)),
            Rest::Interrupt(time) => {
                let armed = self.receive.iter_mut().all(|(_, queue)| queue.arm().is_ok());
                // What came before they were armed raises none with some devices.
                self.poll();
                if armed && !self.was_busy {
                    self.asleep(|| dpdk::wait_for_frames(time));
                }
                self.receive.iter_mut().for_each(|(_, queue)| queue.disarm());
            }
            Rest::Not | Rest::Pause => {}
        }
    }

    /// Books the time of `sleep` as idle, and not as part of a pass.
    fn asleep(&mut self, sleep: impl FnOnce()) {
        let begin = dpdk::tsc();
        sleep();
        let slept = dpdk::tsc().wrapping_sub(begin);
        self.counters.sleep_cycles.add(slept);
        self.counters.idle_cycles.add(slept);
        self.last = self.last.wrapping_add(slept);
    }

    /// Books the time since the last poll as busy or idle.
    #[inline]
    fn account(&mut self, cycles: u64) {
        let passed = cycles.wrapping_sub(self.last);
        let counter = if self.was_busy { &self.counters.busy_cycles } else { &self.counters.idle_cycles };
        counter.add(passed);
        self.stopwatch.note(passed, &self.counters.pass_times);
        self.last = cycles;
        self.was_busy = false;
    }
}

/// What a burst passes.
struct Way<'a> {
    director: &'a mut Director<Mbuf>,
    care: &'a mut Option<Box<Care<Mbuf>>>,
    ports: &'a mut Ports,
}

impl Way<'_> {
    /// Takes a burst of a device all the way.
    #[inline(always)]
    fn take(&mut self, burst: &mut Burst, port: usize, snapshot: &Snapshot, now: Now) {
        self.note_received(burst, port);
        self.process(burst, port, snapshot, now);
    }

    #[inline(always)]
    fn note_received(&mut self, burst: &Burst, port: usize) {
        let Ports { counters, capture, .. } = &mut *self.ports;
        let figures = &counters.ports[port];
        figures.receive_packets.add(burst.len() as u64);
        figures.receive_bytes.add(octets(burst));
        if let Some(capture) = capture {
            note(counters, capture.received(burst, port, dpdk::tsc()));
        }
    }

    /// Ends frames with a tag of no port.
    #[inline(never)]
    fn drop_nobodys(&mut self, frames: &mut Burst, device: usize) {
        self.note_received(frames, device);
        for frame in frames.drain(..) {
            self.ports.counters.dropped(DropReason::Vlan);
            self.ports.discard(frame, DropReason::Vlan);
        }
    }

    #[inline(always)]
    fn process(&mut self, burst: &mut Burst, port: usize, snapshot: &Snapshot, now: Now) {
        if self.care.is_some() {
            take_care(self.care, burst, now, self.ports);
        }
        loop {
            self.director.process(burst, port, snapshot, now, self.ports);
            if self.care.as_mut().is_none_or(|care| !care.next(burst)) {
                break;
            }
        }
    }
}

/// Takes the frames with tags in a burst of a device all the way, those of one VLAN together, and leaves the others.
#[inline(never)]
fn take_tagged(
    (sorter, device): (&mut Sorter<Mbuf>, usize),
    burst: &mut Burst,
    way: &mut Way<'_>,
    snapshot: &Snapshot,
    now: Now,
) {
    let nobodys = sorter.sort(burst);
    if !nobodys.is_empty() {
        way.drop_nobodys(nobodys, device);
    }
    while let Some((port, part)) = sorter.next() {
        // As they came over the wire.
        way.note_received(part, port);
        part.iter_mut().for_each(|frame| _ = vlan::untag(frame));
        way.process(part, port, snapshot, now);
    }
}

/// The ports on one side, the pool on the other.
struct Ports {
    /// Of devices.
    transmit: Vec<Transmit>,
    /// Which of these have drivers that want to be called without frames.
    restless: Vec<usize>,
    /// When they do, in milliseconds of the clock.
    calls_due: u64,
    /// Of the ports behind them.
    vlans: Vec<Tagged>,
    /// Which of these have something to send.
    tagged: Vec<usize>,
    pool: Mempool,
    released: Burst,
    counters: Arc<WorkerCounters>,
    /// Where copies go while somebody captures.
    capture: Option<Tap>,
}

/// A transmit queue and what is on its way there.
struct Transmit {
    queue: TxQueue,
    burst: Burst,
    /// Bytes in `burst`.
    bytes: u64,
}

impl Transmit {
    fn new(queue: TxQueueHandle) -> Self {
        Self { queue: queue.start_polling(), burst: Burst::new(), bytes: 0 }
    }
}

/// What is on its way to a VLAN.
struct Tagged {
    vlan: Vlan,
    burst: Burst,
}

impl Tagged {
    fn of(vlans: &[Vlan]) -> Vec<Self> {
        vlans.iter().map(|&vlan| Self { vlan, burst: Burst::new() }).collect()
    }
}

impl Ports {
    /// Hands everything over to the devices and the pool.
    #[inline]
    fn flush(&mut self) {
        if !self.tagged.is_empty() {
            self.flush_vlans();
        }
        for port in 0..self.transmit.len() {
            self.flush_port(port);
        }
        free_bulk(&mut self.released);
    }

    /// Has drivers send what they have to say, if it is time.
    #[inline(never)]
    fn call_restless(&mut self, now: Now) {
        if now.millis < self.calls_due {
            return;
        }
        self.calls_due = now.millis + RESTLESS_MILLIS;
        for port in &self.restless {
            self.transmit[*port].queue.send(&mut Burst::new());
        }
    }

    #[inline(never)]
    fn flush_vlans(&mut self) {
        while let Some(number) = self.tagged.pop() {
            self.flush_vlan(number);
        }
    }

    /// Hands what is on its way to the VLAN of this number, behind the devices, over to its device.
    fn flush_vlan(&mut self, number: usize) {
        let Self { transmit, vlans, counters, capture, .. } = self;
        let (port, Tagged { vlan, burst }) = (transmit.len() + number, &mut vlans[number]);
        burst.retain(|frame| {
            let is_tagged = vlan::tag(frame, vlan.id);
            if !is_tagged {
                counters.dropped(DropReason::NoBuffer);
                if let Some(capture) = capture {
                    note(counters, capture.dropped(frame, DropReason::NoBuffer, Some(port), dpdk::tsc()));
                }
            }
            is_tagged
        });
        let bytes = octets(burst);
        send(&mut transmit[vlan.device].queue, burst, bytes, port, (counters, capture));
    }

    #[inline(never)]
    fn transmit_to_vlan(&mut self, port: usize, frame: Mbuf) {
        let number = port - self.transmit.len();
        match self.vlans[number].burst.len() {
            0 => self.tagged.push(number),
            BURST_MAX => self.flush_vlan(number),
            _ => {}
        }
        self.vlans[number].burst.push(frame);
    }

    #[inline]
    fn flush_port(&mut self, port: usize) {
        let Transmit { queue, burst, bytes } = &mut self.transmit[port];
        if !burst.is_empty() {
            send(queue, burst, std::mem::take(bytes), port, (&self.counters, &mut self.capture));
        }
    }
}

/// Hands the frames of `burst`, of so many octets, over to the device of `port`. Those that it has no room for are dropped.
#[inline]
fn send(
    queue: &mut TxQueue,
    burst: &mut Burst,
    bytes: u64,
    port: usize,
    (counters, capture): (&WorkerCounters, &mut Option<Tap>),
) {
    // Before the device has them: it may give their memory to others at any time then.
    if let Some(capture) = capture {
        note(counters, capture.sent(burst, port, dpdk::tsc()));
    }
    let sent = queue.send(burst);
    let left = octets(burst);
    let figures = &counters.ports[port];
    figures.transmit_packets.add(sent as u64);
    figures.transmit_bytes.add(bytes - left);
    if !burst.is_empty() {
        for frame in &*burst {
            counters.dropped(DropReason::TransmitFull);
            if let Some(capture) = capture {
                let cycles = dpdk::tsc();
                note(counters, capture.dropped(frame, DropReason::TransmitFull, Some(port), cycles));
            }
        }
        free_bulk(burst);
    }
}

#[inline]
fn octets(burst: &Burst) -> u64 {
    burst.iter().map(|frame| frame.len() as u64).sum()
}

impl Wire for Ports {
    type Frame = Mbuf;

    #[inline]
    fn transmit(&mut self, port: usize, frame: Mbuf) {
        if port >= self.transmit.len() {
            return self.transmit_to_vlan(port, frame);
        }
        if self.transmit[port].burst.is_full() {
            self.flush_port(port);
        }
        let transmit = &mut self.transmit[port];
        transmit.bytes += frame.len() as u64;
        transmit.burst.push(frame);
    }

    #[inline]
    fn transmit_all(&mut self, port: usize, burst: &mut Burst) {
        if port >= self.transmit.len() {
            burst.drain(..).for_each(|frame| self.transmit_to_vlan(port, frame));
            return;
        }
        self.flush_port(port);
        let (bytes, queue) = (octets(burst), &mut self.transmit[port].queue);
        send(queue, burst, bytes, port, (&self.counters, &mut self.capture));
    }

    #[inline]
    fn release(&mut self, frame: Mbuf) {
        if self.released.is_full() {
            free_bulk(&mut self.released);
        }
        self.released.push(frame);
    }

    #[inline]
    fn discard(&mut self, frame: Mbuf, reason: DropReason) {
        if let Some(capture) = &mut self.capture {
            note(&self.counters, capture.dropped(&frame, reason, None, dpdk::tsc()));
        }
        self.release(frame);
    }

    fn allocate(&mut self) -> Option<Mbuf> {
        self.pool.alloc()
    }
}
