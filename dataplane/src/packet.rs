//! What the data path needs from a frame buffer, and a heap twin of it for tests.
//!
//! The packet logic never names DPDK: in production the buffer is an mbuf, under `cargo test` a `Vec`.

use std::net::IpAddr;

use arrayvec::ArrayVec;

use crate::stats::DropReason;
use crate::wire::checksum::Sum;

/// Most frames in one burst.
pub const BURST: usize = 64;

/// Up to [`BURST`] frames on their way.
pub type Burst<F> = ArrayVec<F, BURST>;

/// One received or made frame, owned.
pub trait Frame {
    /// Length of the whole frame, FCS aside, in bytes.
    fn len(&self) -> usize;
    /// Whether there is nothing in it yet.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The first segment: all of the frame unless it is longer than one buffer.
    fn bytes(&self) -> &[u8];
    /// The first segment, to be changed.
    fn bytes_mut(&mut self) -> &mut [u8];
    /// Adds `count` bytes of any content in front. False: no room, nothing changed.
    fn prepend(&mut self, count: usize) -> bool;
    /// Takes `count` bytes away in front. False: the first segment is shorter, nothing changed.
    fn trim_front(&mut self, count: usize) -> bool;
    /// Cuts a frame to `len` bytes, or grows one of a single segment; new bytes have any content. False: no room, or it would have to
    /// grow and has more than one segment; nothing changed.
    fn resize(&mut self, len: usize) -> bool;
    /// Copies what the frame holds from `at` on, whatever segments that lies in. False: it has less, nothing is copied.
    fn copy_to(&self, at: usize, to: &mut [u8]) -> bool;
    /// Asks the processor for the first cache line of the bytes.
    fn prefetch(&self);
    /// Whether the frame lies in one piece.
    fn is_contiguous(&self) -> bool {
        self.len() == self.bytes().len()
    }
}

impl Frame for dpdk::mbuf::Mbuf {
    #[inline]
    fn len(&self) -> usize {
        self.len()
    }
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.bytes()
    }
    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes_mut()
    }
    #[inline]
    fn prepend(&mut self, count: usize) -> bool {
        self.prepend(count)
    }
    #[inline]
    fn trim_front(&mut self, count: usize) -> bool {
        self.trim_front(count)
    }
    fn resize(&mut self, len: usize) -> bool {
        match len.checked_sub(self.len()) {
            Some(0) => true,
            Some(more) => self.append(more),
            None => self.truncate(len),
        }
    }
    fn copy_to(&self, at: usize, to: &mut [u8]) -> bool {
        self.copy_to(at, to)
    }
    #[inline]
    fn prefetch(&self) {
        self.prefetch_data();
    }
}

/// Copies of a frame in one piece, as [`Frame::copy_to`] has it.
pub(crate) fn copy_of_one_piece(bytes: &[u8], at: usize, to: &mut [u8]) -> bool {
    let from = at.checked_add(to.len()).and_then(|end| bytes.get(at..end));
    if let Some(from) = from {
        to.copy_from_slice(from);
    }
    from.is_some()
}

/// The sum over what a frame holds from `from` to `to`, whatever segments that lies in; of what is not there nothing.
pub(crate) fn sum_over<F: Frame>(frame: &F, from: usize, to: usize) -> Sum {
    let bytes = frame.bytes();
    if let Some(bytes) = bytes.get(from..to) {
        return Sum::default().bytes(bytes);
    }
    // An even length: only the last part may end with half a word.
    let mut part = [0; 512];
    let parts = (from..to.min(frame.len())).step_by(part.len());
    parts.fold(Sum::default(), |sum, at| {
        let len = part.len().min(to.min(frame.len()) - at);
        let part = &mut part[..len];
        if frame.copy_to(at, part) { sum.bytes(part) } else { sum }
    })
}

/// Where a packet is sent on to, for whoever follows the pieces of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Onward {
    /// To whom.
    pub to: To,
    /// The number of the real server that it goes to or comes from, unless it has no connection.
    pub server: Option<u32>,
    /// The real server's address, or the one that the client sees it come from.
    pub address: IpAddr,
    /// Whether NAT gives it another address.
    pub is_translated: bool,
    /// And another port.
    pub has_new_port: bool,
}

/// Who gets a packet that is sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// A real server.
    Server,
    /// A client of a NAT real server's.
    Client,
}

/// What the data path does with frames: the ports on one side, a buffer pool on the other.
pub trait Wire {
    /// The kind of buffer.
    type Frame: Frame;
    /// Sends `frame` out of `port`. Whether the device takes it is seen and counted when the burst is flushed.
    fn transmit(&mut self, port: usize, frame: Self::Frame);
    /// Sends all of `burst` out of `port`, behind what waits to be flushed, and leaves it empty.
    fn transmit_all(&mut self, port: usize, burst: &mut Burst<Self::Frame>) {
        burst.drain(..).for_each(|frame| self.transmit(port, frame));
    }
    /// Ends `frame`.
    fn release(&mut self, frame: Self::Frame);
    /// Ends `frame`, which is dropped for `reason`.
    #[inline]
    fn discard(&mut self, frame: Self::Frame, reason: DropReason) {
        let _ = reason;
        self.release(frame);
    }
    /// An empty frame, or none when the pool is empty.
    fn allocate(&mut self) -> Option<Self::Frame>;
    /// A packet is about to be sent on, unless this says why it can't be. Nobody but who follows pieces wants to know, so for all
    /// others it is nothing, down to the making of what it is told.
    ///
    /// # Errors
    /// It is to be dropped for this reason.
    #[inline(always)]
    fn sends_on(&mut self, onward: impl FnOnce() -> Onward) -> Result<(), DropReason>
    where
        Self: Sized,
    {
        let _ = onward;
        Ok(())
    }
    /// A packet is about to be answered in place of being sent on. For who follows pieces, as well.
    #[inline(always)]
    fn answers(&mut self) {}
}

/// Test twins of mbuf and port.
#[cfg(test)]
pub(crate) mod heap {
    use super::{Frame, Wire, copy_of_one_piece};

    const HEADROOM: usize = 128;
    const ROOM: usize = 2048;

    /// A frame in a `Vec`, with headroom as an mbuf has; what does not fit into one buffer lies in others.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub(crate) struct HeapFrame {
        start: usize,
        bytes: Vec<u8>,
        rest: Vec<u8>,
    }

    impl HeapFrame {
        pub(crate) fn new(frame: &[u8]) -> Self {
            Self::chained(frame, frame.len())
        }

        /// With so many bytes in the first segment.
        pub(crate) fn chained(frame: &[u8], first: usize) -> Self {
            let (first, rest) = frame.split_at(first.min(frame.len()));
            let mut bytes = vec![0xee; HEADROOM];
            bytes.extend_from_slice(first);
            Self { start: HEADROOM, bytes, rest: rest.to_vec() }
        }

        /// All of the frame.
        pub(crate) fn whole(&self) -> Vec<u8> {
            [self.bytes(), &self.rest].concat()
        }
    }

    impl Frame for HeapFrame {
        fn len(&self) -> usize {
            self.bytes.len() - self.start + self.rest.len()
        }
        fn bytes(&self) -> &[u8] {
            &self.bytes[self.start..]
        }
        fn bytes_mut(&mut self) -> &mut [u8] {
            &mut self.bytes[self.start..]
        }
        fn prepend(&mut self, count: usize) -> bool {
            match self.start.checked_sub(count) {
                Some(start) => {
                    self.start = start;
                    true
                }
                None => false,
            }
        }
        fn trim_front(&mut self, count: usize) -> bool {
            let fits = count <= self.bytes().len();
            if fits {
                self.start += count;
            }
            fits
        }
        fn resize(&mut self, len: usize) -> bool {
            let first = self.bytes().len();
            let fits = len <= self.len() || self.rest.is_empty() && len <= ROOM;
            if fits {
                self.rest.truncate(len.saturating_sub(first));
                let first = if self.rest.is_empty() { len } else { first };
                self.bytes.resize(self.start + first, 0xee);
            }
            fits
        }
        fn copy_to(&self, at: usize, to: &mut [u8]) -> bool {
            copy_of_one_piece(&self.whole(), at, to)
        }
        fn prefetch(&self) {}
    }

    /// Keeps what was sent and released.
    #[derive(Debug, Default)]
    pub(crate) struct HeapWire {
        pub(crate) sent: Vec<(usize, HeapFrame)>,
        pub(crate) released: usize,
        pub(crate) allocated: usize,
    }

    impl Wire for HeapWire {
        type Frame = HeapFrame;
        fn transmit(&mut self, port: usize, frame: HeapFrame) {
            self.sent.push((port, frame));
        }
        fn release(&mut self, _frame: HeapFrame) {
            self.released += 1;
        }
        fn allocate(&mut self) -> Option<HeapFrame> {
            self.allocated += 1;
            Some(HeapFrame::new(&[]))
        }
    }
}
