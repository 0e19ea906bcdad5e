//! One packet buffer, owned.
//!
//! An [`Mbuf`] is the only reference to its buffer: whoever holds it may read and write the frame, and dropping it
//! gives it back to its pool. A frame is one segment unless the device scattered it over several; weir's own frames
//! always are one. Fields are read and written in place, in the first cache line of `rte_mbuf`; calls into DPDK are
//! made to free, and to cut or read what lies in several segments.

use std::cell::RefCell;
use std::fmt;
use std::ptr::NonNull;
use std::thread;

use arrayvec::ArrayVec;
use dpdk_sys as sys;

use crate::lcore::prefetch_address;

/// The most frames taken from or given to a device at once.
pub const BURST_MAX: usize = 64;

/// Frames on their way together.
pub type Burst = ArrayVec<Mbuf, BURST_MAX>;

/// An owned packet buffer.
///
/// It may move to another thread, and may be dropped on any.
#[repr(transparent)]
pub struct Mbuf(NonNull<sys::rte_mbuf>);

// `receive` and `send` treat a burst as an array of pointers.
const _: () = assert!(size_of::<Mbuf>() == size_of::<*mut sys::rte_mbuf>());

// SAFETY: an Mbuf is the only reference to its buffer, and pools take buffers back from any thread.
unsafe impl Send for Mbuf {}
// SAFETY: `&Mbuf` only reads fields and data, which nothing writes while it exists.
unsafe impl Sync for Mbuf {}

impl Mbuf {
    /// # Safety
    /// `mbuf` is a valid packet that the caller owns: one reference, in no queue, and every segment's `data_off` and
    /// `data_len` within its buffer.
    #[inline]
    pub(crate) unsafe fn from_raw(mbuf: NonNull<sys::rte_mbuf>) -> Self {
        Self(mbuf)
    }

    /// The fields of the first cache line, through a raw place: never a reference to all of it, as C owns some fields.
    #[inline]
    fn head(&self) -> *mut sys::MbufHead {
        self.0.as_ptr().cast()
    }

    /// Octets in the frame, all segments together.
    #[inline]
    #[allow(clippy::len_without_is_empty, reason = "a length of zero never arrives")]
    pub fn len(&self) -> usize {
        // SAFETY: `from_raw` demands a valid mbuf; the field is only written through `&mut self`.
        unsafe { (*self.head()).pkt_len as usize }
    }

    /// Segments the frame is spread over; 1 for all but frames larger than the room of an mbuf.
    #[inline]
    pub fn segments(&self) -> usize {
        // SAFETY: as in `len`.
        usize::from(unsafe { (*self.head()).nb_segs })
    }

    /// The frame, as far as the first segment holds it.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `from_raw` demands that `data_off` and `data_len` stay within the segment's buffer, and every setter
        // here keeps that. Nothing writes the octets while `self` is borrowed. Buffers are initialized memory: they were
        // mapped by the kernel, zeroed.
        unsafe {
            let head = self.head();
            let start = (*head).buf_addr.cast::<u8>().add(usize::from((*head).data_off));
            std::slice::from_raw_parts(start, usize::from((*head).data_len))
        }
    }

    /// The frame, as far as the first segment holds it, to be written.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; the Mbuf is the only reference to its buffer and is borrowed exclusively.
        unsafe {
            let head = self.head();
            let start = (*head).buf_addr.cast::<u8>().add(usize::from((*head).data_off));
            std::slice::from_raw_parts_mut(start, usize::from((*head).data_len))
        }
    }

    /// Octets free in front of the frame.
    #[inline]
    pub fn headroom(&self) -> usize {
        // SAFETY: as in `len`.
        usize::from(unsafe { (*self.head()).data_off })
    }

    /// Octets free behind the first segment's part of the frame.
    #[inline]
    pub fn tailroom(&self) -> usize {
        // SAFETY: as in `len`.
        let (room, offset, length) =
            unsafe { ((*self.head()).buf_len, (*self.head()).data_off, (*self.head()).data_len) };
        usize::from(room).saturating_sub(usize::from(offset) + usize::from(length))
    }

    /// Makes the frame longer by `count` octets at its start. What they hold is undefined but harmless (an earlier
    /// frame's octets): write them. False, and nothing changed, if the headroom is smaller.
    #[inline]
    #[must_use]
    pub fn prepend(&mut self, count: usize) -> bool {
        if count > self.headroom() || count > usize::from(u16::MAX - self.data_len()) {
            return false;
        }
        // SAFETY: `count` fits 16 bits and the headroom, so the segment still begins within its buffer.
        unsafe {
            (*self.head()).data_off -= count as u16;
            (*self.head()).data_len += count as u16;
            (*self.head()).pkt_len += count as u32;
        }
        true
    }

    /// Cuts `count` octets off the start. False, and nothing changed, if the first segment has fewer.
    #[inline]
    #[must_use]
    pub fn trim_front(&mut self, count: usize) -> bool {
        if count > usize::from(self.data_len()) {
            return false;
        }
        // SAFETY: `count` is no more than the segment's data, so the data still ends where it did.
        unsafe {
            (*self.head()).data_off += count as u16;
            (*self.head()).data_len -= count as u16;
            (*self.head()).pkt_len -= count as u32;
        }
        true
    }

    /// Makes a frame of one segment longer by `count` octets at its end; as [`Mbuf::prepend`] otherwise. False, and
    /// nothing changed, if the tailroom is smaller or there are more segments.
    #[inline]
    #[must_use]
    pub fn append(&mut self, count: usize) -> bool {
        if self.segments() != 1 || count > self.tailroom() {
            return false;
        }
        // SAFETY: `count` is no more than the tailroom, so the segment still ends within its buffer.
        unsafe {
            (*self.head()).data_len += count as u16;
            (*self.head()).pkt_len += count as u32;
        }
        true
    }

    /// Cuts a frame down to `len` octets, such as Ethernet padding off an IP packet; segments behind its end go back to
    /// their pool. False, and nothing changed, if it is shorter already.
    #[inline]
    #[must_use]
    pub fn truncate(&mut self, len: usize) -> bool {
        if len > self.len() {
            return false;
        }
        if self.segments() != 1 {
            // SAFETY: the Mbuf owns its packet, every segment of it, and the packet has `len` octets or more.
            unsafe { sys::weir_mbuf_cut(self.0.as_ptr(), len as u32) };
            return true;
        }
        // SAFETY: the segment gets shorter.
        unsafe {
            (*self.head()).data_len = len as u16;
            (*self.head()).pkt_len = len as u32;
        }
        true
    }

    /// Copies the octets from `offset` on, out of whatever segments they lie in. False, and nothing copied, if the frame
    /// has fewer.
    #[must_use]
    pub fn copy_to(&self, offset: usize, to: &mut [u8]) -> bool {
        if offset.checked_add(to.len()).is_none_or(|end| end > self.len()) {
            return false;
        }
        // At the packet's end there is no segment to look into.
        if to.is_empty() {
            return true;
        }
        // SAFETY: the packet has these octets, at least one, as just seen, which fit 32 bits as its length does; C writes no more than
        // `to` holds.
        unsafe { sys::weir_mbuf_copy_out(self.0.as_ptr(), offset as u32, to.len() as u32, to.as_mut_ptr()) };
        true
    }

    /// The ethdev that received the frame, by its number; `u16::MAX` for a frame that was made here.
    #[inline]
    pub fn port(&self) -> u16 {
        // SAFETY: as in `len`.
        unsafe { (*self.head()).port }
    }

    /// Brings the start of the frame into the cache. Reads the header, so prefetch that some packets earlier.
    #[inline]
    pub fn prefetch_data(&self) {
        prefetch_address(self.bytes().as_ptr().cast());
    }

    #[inline]
    fn data_len(&self) -> u16 {
        // SAFETY: as in `len`.
        unsafe { (*self.head()).data_len }
    }
}

thread_local! {
    /// See [`dropped_by_panic`].
    static DROPPED: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// What the frames held that a panic of this thread has dropped since this was asked last, the innermost function's first: what is
/// left of those that it was at. At most [`BURST_MAX`].
pub fn dropped_by_panic() -> Vec<Vec<u8>> {
    DROPPED.take()
}

#[cold]
#[inline(never)]
fn remember(frame: &[u8]) {
    // It is called while a thread ends that may hold it: then there is one frame less.
    let _ = DROPPED.try_with(|dropped| {
        if let Ok(mut dropped) = dropped.try_borrow_mut()
            && dropped.len() < BURST_MAX
        {
            dropped.push(frame.to_vec());
        }
    });
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        if thread::panicking() {
            remember(self.bytes());
        }
        // SAFETY: the Mbuf owns its packet, and nobody sees it after this. Its pool is alive: see `eal` for why.
        unsafe { sys::weir_mbuf_free(self.0.as_ptr()) }
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf")
            .field("len", &self.len())
            .field("segments", &self.segments())
            .field("port", &self.port())
            .finish_non_exhaustive()
    }
}

/// Gives all frames of a burst back to their pools, in one call into DPDK.
#[inline]
pub fn free_bulk(burst: &mut Burst) {
    let count = burst.len();
    // SAFETY: the first `count` elements move to C below; shortening the burst first means they are not dropped too.
    unsafe { burst.set_len(0) };
    // SAFETY: `Mbuf` is `repr(transparent)` over a non-null pointer, so this is an array of `count` packets, owned by
    // nobody else since the line above.
    unsafe { sys::rte_pktmbuf_free_bulk(burst.as_mut_ptr().cast(), count as u32) };
}

/// Takes the first `count` packets out of a burst without freeing them: they belong to C now.
///
/// # Safety
/// `count` is no more than the burst's length, and C owns those packets.
#[inline]
pub(crate) unsafe fn forget_front(burst: &mut Burst, count: usize) {
    let rest = burst.len() - count;
    // SAFETY: moves the `rest` pointers behind the first `count` to the front, within the burst, then cuts the burst to
    // them; the caller says that the overwritten ones are not ours any more.
    unsafe {
        burst.set_len(0);
        let start = burst.as_mut_ptr();
        if rest > 0 {
            std::ptr::copy(start.add(count), start, rest);
        }
        burst.set_len(rest);
    }
}
