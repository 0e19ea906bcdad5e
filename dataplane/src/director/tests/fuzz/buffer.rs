//! Frames as devices give them, in one segment or in two, and a wire that keeps book of each.

use crate::packet::{Frame, Wire, copy_of_one_piece};

const HEADROOM: usize = 128;
/// Room for a frame in one buffer.
const ROOM: usize = 2_048;
/// What new bytes hold: rubbish.
const RUBBISH: u8 = 0xee;

/// A buffer. It ends where the wire takes it; one that is let go of anywhere else is missing in the books.
pub(super) struct Buffer {
    /// The frame as it was received; `None`: weir made it.
    came: Option<Box<[u8]>>,
    start: usize,
    bytes: Vec<u8>,
    /// The second segment.
    rest: Vec<u8>,
}

impl Buffer {
    /// A received frame whose first segment has `first` bytes.
    pub(super) fn received(frame: &[u8], first: usize) -> Self {
        let (head, rest) = frame.split_at(first);
        let mut bytes = vec![RUBBISH; HEADROOM];
        bytes.extend_from_slice(head);
        Self { came: Some(frame.into()), start: HEADROOM, bytes, rest: rest.into() }
    }

    /// The frame as it was received; `None`: weir made it.
    pub(super) fn came(&self) -> Option<&[u8]> {
        self.came.as_deref()
    }

    /// All of the frame.
    pub(super) fn whole(&self) -> Vec<u8> {
        [self.bytes(), &self.rest].concat()
    }
}

impl Frame for Buffer {
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
        let start = self.start.checked_sub(count);
        self.start = start.unwrap_or(self.start);
        self.bytes[self.start..][..count * usize::from(start.is_some())].fill(RUBBISH);
        start.is_some()
    }
    fn trim_front(&mut self, count: usize) -> bool {
        let fits = count <= self.bytes().len();
        self.start += if fits { count } else { 0 };
        fits
    }
    fn resize(&mut self, len: usize) -> bool {
        let first = self.bytes().len();
        let fits = len <= self.len() || self.rest.is_empty() && self.start + len <= HEADROOM + ROOM;
        if fits {
            self.rest.truncate(len.saturating_sub(first));
            let first = if self.rest.is_empty() { len } else { first };
            self.bytes.resize(self.start + first, RUBBISH);
        }
        fits
    }
    fn copy_to(&self, at: usize, to: &mut [u8]) -> bool {
        copy_of_one_piece(&self.whole(), at, to)
    }
    fn prefetch(&self) {}
}

/// Keeps what was sent, and counts every buffer from where it came to where it went.
#[derive(Default)]
pub(super) struct Books {
    /// Sent and not yet looked at.
    pub(super) sent: Vec<(usize, Buffer)>,
    /// Whether the pool has nothing to give.
    pub(super) is_dry: bool,
    /// Buffers that came in with a frame.
    pub(super) received: u64,
    pub(super) allocated: u64,
    pub(super) transmitted: u64,
    pub(super) released: u64,
    /// Announcements of addresses.
    pub(super) announced: u64,
    /// Packets of which the first piece went somewhere.
    pub(super) cut: u64,
    /// Pieces of echo replies, the first ones aside.
    pub(super) echo_pieces: u64,
    /// What tells the packet that an echo reply's first piece is of.
    echoed: Vec<u8>,
    /// Whether the pool ever had nothing to give.
    pub(super) was_dry: bool,
}

impl Books {
    fn note_piece(&mut self, frame: &Buffer) {
        let bytes = frame.bytes();
        let l3 = if bytes.get(12..14) == Some(&[0x81, 0]) { 18 } else { 14 };
        let is_made_ip = frame.came.is_none() && bytes.get(l3 - 2..l3) == Some(&[8, 0]);
        // More follow, and nothing came before.
        let is_first = bytes.get(l3 + 6..l3 + 8) == Some(&[0x20, 0]);
        let is_first6 = bytes.get(l3 - 2..l3) == Some(&[0x86, 0xdd])
            && bytes.get(l3 + 6) == Some(&44)
            && bytes.get(l3 + 42..l3 + 44) == Some(&[0, 1]);
        self.cut += u64::from(is_made_ip && is_first || frame.came.is_none() && is_first6);
        if !is_made_ip || bytes.len() < l3 + 21 || bytes[l3 + 9] != 1 {
            return;
        }
        let packet = [&bytes[l3 + 4..l3 + 6], &bytes[l3 + 12..l3 + 20]].concat();
        let l4 = l3 + usize::from(bytes[l3] & 15) * 4;
        if is_first {
            // One of another kind is forwarded, and counted with each piece.
            self.echoed = if bytes.get(l4) == Some(&0) { packet } else { Vec::new() };
        } else {
            self.echo_pieces += u64::from(packet == self.echoed);
        }
    }
}

impl Wire for Books {
    type Frame = Buffer;

    fn transmit(&mut self, port: usize, frame: Buffer) {
        self.transmitted += 1;
        self.note_piece(&frame);
        self.sent.push((port, frame));
    }

    fn release(&mut self, frame: Buffer) {
        self.released += 1;
        self.note_piece(&frame);
    }

    fn allocate(&mut self) -> Option<Buffer> {
        if self.is_dry {
            self.was_dry = true;
            return None;
        }
        self.allocated += 1;
        Some(Buffer { came: None, start: HEADROOM, bytes: vec![RUBBISH; HEADROOM], rest: Vec::new() })
    }
}
