//! Frames from one thread to another, by copy, through a bounded ring of bytes.
//!
//! By copy, because a buffer that changed hands would be freed by the other thread: a pool's ring makes whoever comes
//! second wait for whoever came first, and the threads of control can be preempted at any instruction. Here neither
//! side ever waits: the writer finds room or does not, the reader finds a frame or does not. It costs 20 to 100 ns a
//! frame, on frames that are limited in rate.

use rtrb::{Consumer, Producer, RingBuffer};

/// The longest frame a ring takes, in bytes.
pub const FRAME_LEN_MAX: usize = 16_384;

/// What goes before each frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// Port number.
    pub port: u16,
    /// For the two ends to agree upon.
    pub tag: u8,
    /// Length of the whole frame in bytes, where only its beginning goes through; for the two ends to agree upon.
    pub whole: u16,
    /// Cycles of the time stamp counter.
    pub cycles: u64,
}

/// Length, length of the whole, port, tag and cycles.
const HEAD_LEN: usize = 16;
const _: () = assert!(FRAME_LEN_MAX <= u16::MAX as usize);

/// The ring has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// The end that frames are put into. There is one, so it needs no lock.
#[derive(Debug)]
pub struct Writer(Producer<u8>);

/// The end that frames are taken from. There is one, so it needs no lock.
#[derive(Debug)]
pub struct Reader(Consumer<u8>);

/// A ring of `bytes` bytes, heads included; at least one frame of the greatest length fits.
pub fn ring(bytes: usize) -> (Writer, Reader) {
    let (mut producer, mut consumer) = RingBuffer::new(bytes.max(HEAD_LEN + FRAME_LEN_MAX));
    // Touches every page now, so that the kernel has nothing to do when the first frames come.
    let mut block = [0; 4096];
    while !producer.is_full() {
        let _ = producer.push_partial_slice(&block);
    }
    while !consumer.is_empty() {
        let _ = consumer.pop_partial_slice(&mut block);
    }
    (Writer(producer), Reader(consumer))
}

impl Writer {
    /// Puts a frame of at most [`FRAME_LEN_MAX`] bytes in.
    #[inline]
    pub fn push(&mut self, head: Head, frame: &[u8]) -> Result<(), Full> {
        let mut bytes = [0; HEAD_LEN];
        bytes[..2].copy_from_slice(&(frame.len() as u16).to_ne_bytes());
        bytes[2..4].copy_from_slice(&head.whole.to_ne_bytes());
        bytes[4] = head.tag;
        bytes[6..8].copy_from_slice(&head.port.to_ne_bytes());
        bytes[8..].copy_from_slice(&head.cycles.to_ne_bytes());
        if frame.len() > FRAME_LEN_MAX || self.0.slots() < HEAD_LEN + frame.len() {
            return Err(Full);
        }
        // The reader takes nothing before all of a frame is there, so these may be two steps.
        self.0.push_entire_slice(&bytes).map_err(|_| Full)?;
        self.0.push_entire_slice(frame).map_err(|_| Full)
    }

    /// Whether the reader has taken everything.
    pub fn is_drained(&self) -> bool {
        self.0.slots() == self.0.buffer().capacity()
    }
}

impl Reader {
    /// Whether the writer is gone. What it has put in can still be taken.
    pub fn is_abandoned(&self) -> bool {
        self.0.is_abandoned()
    }

    /// Whether there is nothing to take: one load.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The head and length in bytes of the next frame, if all of it is there.
    #[inline]
    pub fn peek(&mut self) -> Option<(Head, usize)> {
        let slots = self.0.slots();
        let chunk = self.0.read_chunk(HEAD_LEN.min(slots)).ok()?;
        let (one, two) = chunk.as_slices();
        let mut bytes = [0; HEAD_LEN];
        bytes.get_mut(..one.len())?.copy_from_slice(one);
        bytes.get_mut(one.len()..one.len() + two.len())?.copy_from_slice(two);
        let [a, b, c, d, tag, _, e, f, cycles @ ..] = bytes;
        let len = usize::from(u16::from_ne_bytes([a, b]));
        let head = Head {
            port: u16::from_ne_bytes([e, f]),
            tag,
            whole: u16::from_ne_bytes([c, d]),
            cycles: u64::from_ne_bytes(cycles),
        };
        (slots >= HEAD_LEN + len && slots >= HEAD_LEN).then_some((head, len))
    }

    /// Takes the next frame, that [`Reader::peek`] said is of `frame.len()` bytes.
    #[inline]
    pub fn pop(&mut self, frame: &mut [u8]) {
        self.skip_bytes(HEAD_LEN);
        let _ = self.0.pop_partial_slice(frame);
    }

    /// Throws the next frame away, that [`Reader::peek`] said is of `len` bytes.
    pub fn skip(&mut self, len: usize) {
        self.skip_bytes(HEAD_LEN + len);
    }

    fn skip_bytes(&mut self, count: usize) {
        if let Ok(chunk) = self.0.read_chunk(count) {
            chunk.commit_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    fn take(reader: &mut Reader) -> Option<(Head, Vec<u8>)> {
        let (head, len) = reader.peek()?;
        let mut frame = vec![0; len];
        reader.pop(&mut frame);
        Some((head, frame))
    }

    #[test]
    fn frames_come_out_as_they_went_in_whatever_the_order_of_both_ends() {
        bolero::check!().with_type::<Vec<(bool, u16, u64)>>().for_each(|steps| {
            let (mut writer, mut reader) = ring(20_000);
            let mut model: VecDeque<(Head, Vec<u8>)> = VecDeque::new();
            let mut held = 0;
            for &(is_push, size, cycles) in steps {
                if is_push {
                    let frame = vec![size as u8; usize::from(size) % FRAME_LEN_MAX];
                    let head = Head { port: size, tag: cycles as u8, whole: !size, cycles };
                    let fits = held + HEAD_LEN + frame.len() <= 20_000;
                    assert_eq!(writer.push(head, &frame), if fits { Ok(()) } else { Err(Full) });
                    if fits {
                        held += HEAD_LEN + frame.len();
                        model.push_back((head, frame));
                    }
                } else {
                    assert_eq!(reader.is_empty(), model.is_empty());
                    let expected = model.pop_front();
                    held -= expected.as_ref().map_or(0, |(_, frame)| HEAD_LEN + frame.len());
                    assert_eq!(take(&mut reader), expected);
                }
            }
        });
    }

    #[test]
    fn two_threads_pass_frames_of_all_lengths_on_in_order() {
        let (mut writer, mut reader) = ring(0);
        let frame = |n: usize| vec![n as u8; n * 37 % 9_018];
        let sender = std::thread::spawn(move || {
            for n in 0..20_000 {
                let head = Head { port: 1, tag: 2, whole: 0, cycles: n as u64 };
                while writer.push(head, &frame(n)).is_err() {
                    std::thread::yield_now();
                }
            }
        });
        for n in 0..20_000 {
            let (head, taken) = loop {
                match take(&mut reader) {
                    Some(taken) => break taken,
                    None => std::thread::yield_now(),
                }
            };
            assert_eq!(head.cycles, n as u64);
            assert_eq!(taken, frame(n));
        }
        sender.join().expect("the sender ends");
        assert!(reader.is_empty());
    }

    #[test]
    fn a_frame_too_long_finds_no_room_and_one_can_be_skipped() {
        let (mut writer, mut reader) = ring(0);
        assert_eq!(writer.push(Head::default(), &[0; FRAME_LEN_MAX + 1]), Err(Full));
        assert_eq!(writer.push(Head::default(), &[1; 60]), Ok(()));
        assert_eq!(writer.push(Head { port: 3, ..Head::default() }, &[2; 61]), Ok(()));
        let (_, len) = reader.peek().expect("a frame");
        reader.skip(len);
        assert_eq!(take(&mut reader), Some((Head { port: 3, ..Head::default() }, vec![2; 61])));
        assert_eq!(reader.peek(), None);
    }
}
