//! Copies of frames for control, while somebody captures: as they came in, as they go out, and those that are dropped.
//!
//! A [`Tap`] is a worker's end, a [`Capture`] control's. A worker has a tap only as long as a capture is on ([`crate::desk`]);
//! without one, a burst costs it one look at whether there is. A tap copies the beginning of a frame that the filter wants
//! into a bounded ring of its worker, as [`crate::punt`] does: it never waits, and what finds no room is lost and counted.

pub mod filter;

use std::sync::Arc;

use crate::packet::Frame;
use crate::punt::ring::{FRAME_LEN_MAX, Head, Reader, Writer, ring};
use crate::stats::{Counter, DropReason};
use filter::Filter;

/// Bytes of copies that wait for control, for each worker: 15,000 frames of 256 bytes.
const RING_BYTES: usize = 4 << 20;
/// The longest beginning of a frame that is copied, in bytes.
pub const SNAP_LEN_MAX: usize = FRAME_LEN_MAX;
/// Of frames at no port: they waited for a next hop, or are control's.
const NOWHERE: u16 = u16::MAX;

/// Where a frame was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// As it came in.
    Received,
    /// As it was handed to the device.
    Sent,
    /// As it was when it was dropped.
    Dropped(DropReason),
}

const RECEIVED: u8 = 0;
const SENT: u8 = 1;
const DROPPED: u8 = 2;

impl Point {
    fn tag(self) -> u8 {
        match self {
            Self::Received => RECEIVED,
            Self::Sent => SENT,
            Self::Dropped(reason) => DROPPED + reason as u8,
        }
    }

    fn of_tag(tag: u8) -> Option<Self> {
        match tag {
            RECEIVED => Some(Self::Received),
            SENT => Some(Self::Sent),
            _ => DropReason::ALL.get(usize::from(tag - DROPPED)).copied().map(Self::Dropped),
        }
    }
}

/// What a worker counts of a capture on one port, or at none.
#[derive(Debug, Default)]
struct Count {
    captured: Counter,
    lost: Counter,
}

/// A worker's end.
#[derive(Debug)]
pub struct Tap {
    filter: Arc<Filter>,
    /// By port number; the last is of frames at no port.
    counts: Arc<[Count]>,
    /// Port of the burst that the worker is at.
    port: u16,
    /// Last, so that it goes last: when it is gone control may give everything back.
    writer: Writer,
}

impl Tap {
    /// Frames as they came in on `port`, at this cycle. What is dropped from now on came in there.
    #[cold]
    pub fn received<F: Frame>(&mut self, frames: &[F], port: usize, cycles: u64) -> Noted {
        self.port = port as u16;
        let mut noted = Noted::default();
        if self.filter.received {
            frames.iter().for_each(|frame| self.note(frame, Point::Received, self.port, cycles, &mut noted));
        }
        noted
    }

    /// Frames as they go out of `port`.
    #[cold]
    pub fn sent<F: Frame>(&mut self, frames: &[F], port: usize, cycles: u64) -> Noted {
        let mut noted = Noted::default();
        if self.filter.sent {
            frames.iter().for_each(|frame| self.note(frame, Point::Sent, port as u16, cycles, &mut noted));
        }
        noted
    }

    /// A frame that is dropped: where `port` does not say it, at the port of the burst that the worker is at.
    #[cold]
    pub fn dropped<F: Frame>(
        &mut self,
        frame: &F,
        reason: DropReason,
        port: Option<usize>,
        cycles: u64,
    ) -> Noted {
        let mut noted = Noted::default();
        if self.filter.wants_drop(reason) {
            let port = port.map_or(self.port, |port| port as u16);
            self.note(frame, Point::Dropped(reason), port, cycles, &mut noted);
        }
        noted
    }

    /// The worker is at no port's burst any more.
    #[cold]
    pub fn leaves_ports(&mut self) {
        self.port = NOWHERE;
    }

    fn note<F: Frame>(&mut self, frame: &F, point: Point, port: u16, cycles: u64, noted: &mut Noted) {
        let (bytes, len) = (frame.bytes(), frame.len());
        if !self.filter.wants(bytes, port) {
            return;
        }
        let bytes = &bytes[..bytes.len().min(self.filter.snap_len)];
        let whole = len.min(usize::from(u16::MAX)) as u16;
        let pushed = self.writer.push(Head { port, tag: point.tag(), whole, cycles }, bytes);
        let at = usize::from(port).min(self.counts.len() - 1);
        match pushed {
            Ok(()) => {
                self.counts[at].captured.add(1);
                noted.captured += 1;
            }
            Err(_) => {
                self.counts[at].lost.add(1);
                noted.lost += 1;
            }
        }
    }
}

/// What came of some frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Noted {
    /// Copied.
    pub captured: u64,
    /// Wanted, and lost since the ring was full.
    pub lost: u64,
}

/// Control's end. To be kept until [`Capture::is_over`]: the last one to go frees the memory.
#[derive(Debug)]
pub struct Capture {
    workers: Vec<Source>,
}

/// What comes from one worker.
#[derive(Debug)]
struct Source {
    reader: Reader,
    counts: Arc<[Count]>,
}

/// A captured frame, its bytes aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Captured {
    /// Number of the worker that had it.
    pub worker: usize,
    /// Number of the port it came in on or goes out of; `None`: it was dropped at no port.
    pub port: Option<usize>,
    /// Where it was seen.
    pub point: Point,
    /// Length of the whole frame in bytes.
    pub whole: usize,
    /// When, in cycles of the time stamp counter.
    pub cycles: u64,
}

impl Capture {
    /// For so many workers, on so many ports. The taps are for the workers, in the order of their numbers.
    pub fn new(filter: &Arc<Filter>, workers: usize, ports: usize) -> (Self, Vec<Tap>) {
        let (mut sources, mut taps) = (Vec::with_capacity(workers), Vec::with_capacity(workers));
        for _ in 0..workers {
            let (writer, reader) = ring(RING_BYTES);
            let counts: Arc<[Count]> = (0..=ports).map(|_| Count::default()).collect();
            taps.push(Tap { filter: filter.clone(), counts: counts.clone(), port: NOWHERE, writer });
            sources.push(Source { reader, counts });
        }
        (Self { workers: sources }, taps)
    }

    /// Puts the next frame into `frame`, whatever that held: of those that there are now, the first one. `None`: there is none.
    pub fn pop(&mut self, frame: &mut Vec<u8>) -> Option<Captured> {
        let heads = self.workers.iter_mut().enumerate();
        let heads = heads.filter_map(|(worker, source)| Some((worker, source.reader.peek()?)));
        let (worker, (head, len)) = heads.min_by_key(|(_, (head, _))| head.cycles)?;
        frame.resize(len, 0);
        self.workers[worker].reader.pop(frame);
        Some(Captured {
            worker,
            port: (head.port != NOWHERE).then(|| usize::from(head.port)),
            point: Point::of_tag(head.tag)?,
            whole: usize::from(head.whole).max(len),
            cycles: head.cycles,
        })
    }

    /// Frames lost so far at a port, or at none.
    pub fn lost(&self, port: Option<usize>) -> u64 {
        let of = |source: &Source| {
            let at = port.unwrap_or(usize::MAX).min(source.counts.len() - 1);
            source.counts[at].lost.get()
        };
        self.workers.iter().map(of).sum()
    }

    /// Whether all workers have let go of their taps.
    pub fn is_over(&self) -> bool {
        self.workers.iter().all(|source| source.reader.is_abandoned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::heap::HeapFrame;

    fn everything(snap_len: usize) -> Arc<Filter> {
        let filter = Filter { received: true, sent: true, snap_len, ..Filter::NOTHING };
        Arc::new(filter.with_drops(DropReason::ALL))
    }

    #[test]
    fn frames_come_out_in_the_order_of_time_with_where_they_were_seen() {
        let filter = everything(64);
        let (mut capture, mut taps) = Capture::new(&filter, 2, 3);
        let frame = |fill: u8| [HeapFrame::new(&[fill; 100])];
        taps[1].sent(&frame(1), 2, 50);
        taps[0].received(&frame(2), 1, 40);
        taps[0].dropped(&frame(3)[0], DropReason::NoRoute, None, 60);
        taps[0].dropped(&frame(4)[0], DropReason::TransmitFull, Some(2), 70);
        taps[0].leaves_ports();
        taps[0].dropped(&frame(5)[0], DropReason::NeighborFailed, None, 80);
        let mut bytes = Vec::new();
        let mut seen = Vec::new();
        while let Some(it) = capture.pop(&mut bytes) {
            assert_eq!((it.whole, bytes.len()), (100, 64));
            seen.push((bytes[0], it.worker, it.port, it.point));
        }
        let dropped = Point::Dropped;
        assert_eq!(
            seen,
            [
                (2, 0, Some(1), Point::Received),
                (1, 1, Some(2), Point::Sent),
                (3, 0, Some(1), dropped(DropReason::NoRoute)),
                (4, 0, Some(2), dropped(DropReason::TransmitFull)),
                (5, 0, None, dropped(DropReason::NeighborFailed)),
            ]
        );
        assert!(!capture.is_over());
        drop(taps);
        assert!(capture.is_over());
    }

    #[test]
    fn every_point_comes_back_from_its_tag() {
        let points = DropReason::ALL.iter().map(|&reason| Point::Dropped(reason));
        for point in points.chain([Point::Received, Point::Sent]) {
            assert_eq!(Point::of_tag(point.tag()), Some(point));
        }
    }

    #[test]
    fn what_finds_no_room_is_lost_and_counted_at_its_port() {
        let filter = everything(SNAP_LEN_MAX);
        let (mut capture, mut taps) = Capture::new(&filter, 1, 2);
        let frames = [HeapFrame::new(&[7; 9_000])];
        let mut noted = Noted::default();
        for _ in 0..1_000 {
            let now = taps[0].received(&frames, 1, 0);
            noted = Noted { captured: noted.captured + now.captured, lost: noted.lost + now.lost };
        }
        assert_eq!(noted.captured + noted.lost, 1_000);
        assert!(noted.lost > 500 && noted.captured > 400, "{noted:?}");
        assert_eq!((capture.lost(Some(1)), capture.lost(Some(0)), capture.lost(None)), (noted.lost, 0, 0));
        let mut bytes = Vec::new();
        assert_eq!(std::iter::from_fn(|| capture.pop(&mut bytes)).count() as u64, noted.captured);
        assert_eq!(taps[0].received(&frames, 1, 0).captured, 1, "and there is room again");
    }
}
