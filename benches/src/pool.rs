//! Twins of mbuf and port: buffers that are taken from a pool and go back to it.

use weir_dataplane::packet::{Burst, Frame, Wire};

/// Free bytes in front of a received frame, as in an mbuf.
const HEADROOM: usize = 128;
/// Bytes of a buffer: headroom and the room of an mbuf.
const BUFFER: usize = HEADROOM + 2048;
/// Buffers in a pool: those that wait for neighbours, the pieces of one packet and a few bursts.
const BUFFERS: usize = 4096;

/// A frame in a buffer of its own.
pub struct PoolFrame {
    buffer: Box<[u8; BUFFER]>,
    start: usize,
    end: usize,
}

impl PoolFrame {
    fn new() -> Self {
        Self { buffer: Box::new([0; BUFFER]), start: HEADROOM, end: HEADROOM }
    }
}

impl Frame for PoolFrame {
    #[inline]
    fn len(&self) -> usize {
        self.end - self.start
    }
    #[inline]
    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }
    /// As few instructions as an mbuf's, so it is never called either.
    #[inline(always)]
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.end]
    }
    #[inline]
    fn prepend(&mut self, count: usize) -> bool {
        let fits = count <= self.start;
        if fits {
            self.start -= count;
        }
        fits
    }
    #[inline]
    fn trim_front(&mut self, count: usize) -> bool {
        let fits = count <= self.len();
        if fits {
            self.start += count;
        }
        fits
    }
    fn resize(&mut self, len: usize) -> bool {
        let fits = self.start + len <= BUFFER;
        if fits {
            self.end = self.start + len;
        }
        fits
    }
    fn copy_to(&self, at: usize, to: &mut [u8]) -> bool {
        let from = self.bytes().get(at..).and_then(|bytes| bytes.get(..to.len()));
        if let Some(from) = from {
            to.copy_from_slice(from);
        }
        from.is_some()
    }
    #[inline]
    fn prefetch(&self) {}
}

/// The ports on one side, the pool on the other.
pub struct PoolWire {
    free: Vec<PoolFrame>,
    /// What was sent since the last [`PoolWire::recycle`].
    pub sent: Vec<PoolFrame>,
    /// Frames ended since the start.
    pub released: usize,
}

impl Default for PoolWire {
    fn default() -> Self {
        Self {
            free: (0..BUFFERS).map(|_| PoolFrame::new()).collect(),
            sent: Vec::with_capacity(BUFFERS),
            released: 0,
        }
    }
}

impl PoolWire {
    /// A frame with these bytes, as if received.
    ///
    /// # Panics
    /// If the pool is empty.
    pub fn receive(&mut self, bytes: &[u8]) -> PoolFrame {
        let mut frame = self.allocate().expect("frames go back to the pool");
        frame.end = frame.start + bytes.len();
        frame.bytes_mut().copy_from_slice(bytes);
        frame
    }

    /// Gives what was sent back to the pool.
    pub fn recycle(&mut self) {
        self.free.append(&mut self.sent);
    }
}

impl Wire for PoolWire {
    type Frame = PoolFrame;
    #[inline]
    fn transmit(&mut self, _port: usize, frame: PoolFrame) {
        self.sent.push(frame);
    }
    #[inline]
    fn transmit_all(&mut self, _port: usize, burst: &mut Burst<PoolFrame>) {
        self.sent.extend(burst.drain(..));
    }
    #[inline]
    fn release(&mut self, frame: PoolFrame) {
        self.released += 1;
        self.free.push(frame);
    }
    fn allocate(&mut self) -> Option<PoolFrame> {
        let mut frame = self.free.pop()?;
        (frame.start, frame.end) = (HEADROOM, HEADROOM);
        Some(frame)
    }
}
