//! Captures: frames of the workers as a pcapng file, made while somebody reads it.
//!
//! One at a time. Workers copy into rings of their own (`weir_dataplane::capture`), one thread of control's reads these and
//! writes the file piece by piece. It never waits for the client: a client that does not read costs copies, which are
//! counted as lost, and nothing else. Every capture ends by itself.

pub(crate) mod pcapng;

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tracing::{info, warn};
use weir_dataplane::capture::filter::Filter;
use weir_dataplane::capture::{Capture, Captured, Point};
use weir_dataplane::desk::{Desk, Order};

use crate::sources::Sources;
use pcapng::{Direction, Packet};

/// A piece is sent when it has so many bytes, or when there are no more frames for now.
const PIECE_BYTES: usize = 256 << 10;
/// Between two looks at the rings when there was nothing to do: they hold the copies of some milliseconds at full load.
const PAUSE: Duration = Duration::from_millis(1);
/// How long a worker may take to begin, and to let go of its end.
const LET_GO: Duration = Duration::from_secs(1);
/// How long a client may take to read what there is when the capture has ended.
const LAST_READ: Duration = Duration::from_secs(5);
/// Bytes that a frame takes in the file besides its own, at most: its block, flags and comment.
const BLOCK_BYTES: usize = 128;

/// What is captured, and for how long.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) filter: Filter,
    /// Frames at most.
    pub(crate) count: u64,
    /// Bytes of the file at most, what stands at its end aside.
    pub(crate) bytes: u64,
    pub(crate) time: Duration,
    /// As it was asked for.
    pub(crate) text: String,
}

/// The place for a capture: there is one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Captures(Arc<Mutex<Option<Running>>>);

#[derive(Debug)]
struct Running {
    ends: Instant,
    is_stopped: Arc<AtomicBool>,
}

impl Captures {
    /// The place, for a capture that ends at this time; or when the one that has it ends.
    pub(crate) fn take(&self, ends: Instant) -> Result<Place, Instant> {
        let mut running = self.running();
        if let Some(other) = &*running {
            return Err(other.ends);
        }
        let is_stopped = Arc::<AtomicBool>::default();
        *running = Some(Running { ends, is_stopped: is_stopped.clone() });
        Ok(Place { captures: self.clone(), is_stopped })
    }

    /// Ends the capture that is on. Returns whether there is one.
    pub(crate) fn stop(&self) -> bool {
        let running = self.running();
        if let Some(it) = &*running {
            it.is_stopped.store(true, Relaxed);
        }
        running.is_some()
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a capture, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    captures: Captures,
    is_stopped: Arc<AtomicBool>,
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.captures.running() = None;
    }
}

/// Who reads the file.
pub(crate) trait Client {
    /// Takes a piece, or gives it back: those before have not been read yet.
    fn offer(&mut self, piece: Vec<u8>) -> Result<(), Vec<u8>>;
    /// Whether it has gone.
    fn has_gone(&self) -> bool;
}

/// A capture that runs. Workers let go of their ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Session {
    /// Always there until it is dropped.
    capture: Option<Capture>,
    desks: Vec<Arc<Desk>>,
    wanted: Wanted,
    ends: Instant,
    place: Place,
    clock: WallClock,
    /// Frames in the file, by interface.
    delivered: Vec<u64>,
    /// Frames that found no room in a ring before it ended, by interface.
    lost: Vec<u64>,
    bytes: u64,
}

/// Why a capture does not begin.
#[derive(Debug, thiserror::Error)]
#[error("worker {0} does not take orders, so frames of it can't be captured; weir's log may say why")]
pub(crate) struct Deaf(usize);

impl Session {
    /// Has the workers begin.
    ///
    /// # Errors
    /// One of them stands still.
    pub(crate) fn begin(
        sources: &Sources,
        wanted: Wanted,
        (place, ends): (Place, Instant),
    ) -> Result<Self, Deaf> {
        let (workers, ports) = (sources.workers.len(), sources.ports.len());
        let (capture, taps) = Capture::new(&Arc::new(wanted.filter.clone()), workers, ports);
        let mut session = Self {
            capture: Some(capture),
            desks: Vec::with_capacity(workers),
            wanted,
            ends,
            place,
            clock: WallClock { hz: sources.cycles_per_second.max(1), cycles: 0, nanos: 0 },
            delivered: vec![0; ports + 1],
            lost: Vec::new(),
            bytes: 0,
        };
        for (shared, tap) in sources.workers.iter().zip(taps) {
            if shared.desk.ask(Order::Capture(tap)).is_err() {
                return Err(Deaf(shared.worker));
            }
            session.desks.push(shared.desk.clone());
        }
        // What comes in from now on is captured, so that whoever has been answered misses nothing.
        let deadline = Instant::now() + LET_GO;
        while let Some(worker) = session.desks.iter().position(|desk| desk.is_asked()) {
            if Instant::now() > deadline {
                return Err(Deaf(worker));
            }
            std::thread::sleep(PAUSE);
        }
        info!(
            "frames are being captured, for {} s at most: {}",
            session.wanted.time.as_secs(),
            session.wanted.text
        );
        Ok(session)
    }

    /// Writes the file until the capture ends.
    pub(crate) fn run(mut self, sources: &Sources, client: &mut impl Client) {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        let names: Vec<&str> = sources.ports.iter().map(|port| port.name.as_str()).collect();
        self.head(&mut piece, &names);
        let mut frame = Vec::new();
        let why = loop {
            if client.has_gone() {
                break "the client has gone";
            }
            self.clock.set();
            let taken = self.collect(&mut piece, &mut frame);
            let sent = !piece.is_empty() && offer(client, &mut piece);
            match self.end() {
                Some(why) => break why,
                None if !taken && !sent => std::thread::sleep(PAUSE),
                None => {}
            }
        };
        self.lost = self.count_lost();
        self.let_go();
        let deadline = Instant::now() + LAST_READ;
        let mut is_whole = false;
        while !client.has_gone() && Instant::now() < deadline {
            let taken = self.collect(&mut piece, &mut frame);
            if !taken && !is_whole && piece.len() < PIECE_BYTES {
                self.tail(&mut piece, why);
                is_whole = true;
            }
            if is_whole && piece.is_empty() {
                break;
            }
            if !offer(client, &mut piece) {
                std::thread::sleep(PAUSE);
            }
        }
        let (captured, lost): (u64, u64) = (self.delivered.iter().sum(), self.lost.iter().sum());
        info!("{captured} frames captured, {lost} lost: {why}");
    }

    /// Why it ends now, if it does.
    fn end(&self) -> Option<&'static str> {
        let delivered: u64 = self.delivered.iter().sum();
        if delivered >= self.wanted.count {
            Some("the count is reached")
        } else if !self.has_room(self.wanted.filter.snap_len) {
            Some("the size is reached")
        } else if self.place.is_stopped.load(Relaxed) {
            Some("it was stopped")
        } else if Instant::now() >= self.ends {
            Some("the time is over")
        } else {
            None
        }
    }

    fn has_room(&self, frame: usize) -> bool {
        self.bytes + (frame + BLOCK_BYTES) as u64 <= self.wanted.bytes
    }

    /// Frames that there are now, as long as the piece has room and no limit is reached. Returns whether there were any.
    fn collect(&mut self, piece: &mut Vec<u8>, frame: &mut Vec<u8>) -> bool {
        let before = piece.len();
        let mut left = self.wanted.count.saturating_sub(self.delivered.iter().sum());
        while piece.len() < PIECE_BYTES && left > 0 && self.has_room(self.wanted.filter.snap_len) {
            let Some(captured) = self.capture.as_mut().and_then(|capture| capture.pop(frame)) else { break };
            self.write(piece, &captured, frame);
            left -= 1;
        }
        piece.len() != before
    }

    fn write(&mut self, piece: &mut Vec<u8>, it: &Captured, frame: &[u8]) {
        let begin = piece.len();
        let nowhere = self.delivered.len() - 1;
        let interface = it.port.unwrap_or(nowhere).min(nowhere);
        let (direction, comment) = match it.point {
            Point::Received => (Direction::In, format!("worker {}", it.worker)),
            Point::Sent => (Direction::Out, format!("worker {}", it.worker)),
            Point::Dropped(reason) => {
                (Direction::Nowhere, format!("dropped: {}, worker {}", reason.label(), it.worker))
            }
        };
        let nanos = self.clock.at(it.cycles);
        let packet =
            Packet { interface: interface as u32, nanos, whole: it.whole, direction, comment: &comment };
        pcapng::packet(piece, &packet, frame);
        self.delivered[interface] += 1;
        self.bytes += (piece.len() - begin) as u64;
    }

    /// What stands before the first frame.
    fn head(&mut self, piece: &mut Vec<u8>, ports: &[&str]) {
        pcapng::section(piece, concat!("weir ", env!("CARGO_PKG_VERSION")));
        let snap_len = self.wanted.filter.snap_len;
        for name in ports {
            pcapng::interface(piece, name, &format!("port {name} of weir"), snap_len, &self.wanted.text);
        }
        let nowhere = "dropped while at no port: it waited for a next hop, or was control's";
        pcapng::interface(piece, "weir", nowhere, snap_len, &self.wanted.text);
        self.bytes += piece.len() as u64;
    }

    /// What stands behind the last frame.
    fn tail(&mut self, piece: &mut Vec<u8>, why: &str) {
        self.clock.set();
        for (interface, counts) in self.delivered.iter().zip(&self.lost).enumerate() {
            let (&delivered, &lost) = counts;
            pcapng::statistics(piece, interface as u32, self.clock.nanos, (delivered, lost), why);
        }
    }

    /// Frames lost so far, by interface.
    fn count_lost(&self) -> Vec<u64> {
        let last = self.delivered.len() - 1;
        let lost = |interface: usize| {
            let port = (interface < last).then_some(interface);
            self.capture.as_ref().map_or(0, |capture| capture.lost(port))
        };
        (0..=last).map(lost).collect()
    }

    /// Has the workers let go, and waits until they have.
    fn let_go(&mut self) {
        let deadline = Instant::now() + LET_GO;
        loop {
            self.desks.retain(|desk| desk.ask(Order::EndCapture).is_err());
            let is_over = self.capture.as_ref().is_none_or(Capture::is_over);
            if is_over || Instant::now() > deadline {
                return;
            }
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.let_go();
        if let Some(capture) = self.capture.take().filter(|capture| !capture.is_over()) {
            warn!("a worker that stands still has not let go of a capture; its memory stays taken");
            // Not taken from under a worker that may come back.
            std::mem::forget(capture);
        }
    }
}

/// Hands the piece over, which is empty then. False: there is no room now.
fn offer(client: &mut impl Client, piece: &mut Vec<u8>) -> bool {
    match client.offer(std::mem::take(piece)) {
        Ok(()) => true,
        Err(given_back) => {
            *piece = given_back;
            false
        }
    }
}

/// Turns cycles into the time of day: both are read together before frames are, which are some milliseconds old at most.
#[derive(Debug)]
struct WallClock {
    hz: u64,
    cycles: u64,
    nanos: u64,
}

impl WallClock {
    fn set(&mut self) {
        self.cycles = dpdk::tsc();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.nanos = now.as_nanos() as u64;
    }

    fn at(&self, cycles: u64) -> u64 {
        let passed = self.cycles.wrapping_sub(cycles) as i64;
        let nanos = i128::from(passed) * 1_000_000_000 / i128::from(self.hz);
        (i128::from(self.nanos) - nanos).max(0) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::tests::Director;

    #[test]
    fn there_is_one_place_until_it_is_given_back() {
        let captures = Captures::default();
        assert!(!captures.stop());
        let ends = Instant::now();
        let place = captures.take(ends).unwrap();
        assert_eq!(captures.take(ends + LET_GO).unwrap_err(), ends);
        assert!(captures.stop() && place.is_stopped.load(Relaxed));
        drop(place);
        assert!(!captures.take(ends).unwrap().is_stopped.load(Relaxed));
    }

    /// Keeps what it is offered, unless it has gone.
    #[derive(Default)]
    struct Reader {
        pieces: Vec<Vec<u8>>,
        has_gone: bool,
    }

    impl Client for Reader {
        fn offer(&mut self, piece: Vec<u8>) -> Result<(), Vec<u8>> {
            self.pieces.push(piece);
            Ok(())
        }
        fn has_gone(&self) -> bool {
            self.has_gone
        }
    }

    fn wanted(count: u64) -> Wanted {
        let filter = Filter { received: true, snap_len: 64, ..Filter::NOTHING };
        Wanted { filter, count, bytes: 1 << 20, time: Duration::from_secs(60), text: String::new() }
    }

    fn begin(sources: &Sources, captures: &Captures, wanted: Wanted) -> Result<Session, Deaf> {
        let ends = Instant::now() + wanted.time;
        Session::begin(sources, wanted, (captures.take(ends).unwrap(), ends))
    }

    #[test]
    fn a_worker_that_takes_no_orders_is_named_and_the_place_is_free_again() {
        let (director, captures) = (Director::usual(), Captures::default());
        let problem = begin(director.metrics.sources(), &captures, wanted(1)).unwrap_err();
        assert!(problem.to_string().starts_with("worker 0 does not take orders"), "{problem}");
        assert!(captures.take(Instant::now()).is_ok());
    }

    #[test]
    fn it_ends_when_its_client_goes_and_the_workers_let_go() {
        let (director, captures) = (Director::usual(), Captures::default());
        let sources = director.metrics.sources();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for worker in &director.workers {
                let (desk, is_over) = (worker.desk.clone(), &is_over);
                scope.spawn(move || {
                    let mut tap = None;
                    while !is_over.load(Relaxed) {
                        desk.take(|order| match order {
                            Order::Capture(given) => tap = Some(given),
                            _ => tap = None,
                        });
                        std::thread::sleep(PAUSE);
                    }
                    assert!(tap.is_none(), "it was told that the capture is over");
                });
            }
            // Also when a step below fails.
            let _end = OnDrop(&is_over);
            let session = begin(sources, &captures, wanted(u64::MAX)).unwrap();
            let mut client = Reader { has_gone: true, ..Reader::default() };
            session.run(sources, &mut client);
            assert!(client.pieces.is_empty());
            let session = begin(sources, &captures, wanted(u64::MAX)).unwrap();
            assert!(captures.stop());
            let mut client = Reader::default();
            session.run(sources, &mut client);
            assert!(client.pieces.concat().len() > 100, "a file without frames is one, too");
        });
        assert!(!captures.stop());
    }

    struct OnDrop<'a>(&'a AtomicBool);

    impl Drop for OnDrop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }

    #[test]
    fn cycles_become_the_time_of_day_before_and_after_both_were_read() {
        let clock = WallClock { hz: 2_000_000_000, cycles: u64::MAX - 1, nanos: 5_000 };
        assert_eq!(
            (clock.at(u64::MAX - 2_001), clock.at(u64::MAX - 1), clock.at(1_998)),
            (4_000, 5_000, 6_000)
        );
    }
}
