//! Large arrays, taken at start and zeroed: connection tables, counters.
//!
//! A [`Slab`] of a worker lies in huge pages on the worker's NUMA node, so that a lookup costs one cache miss and
//! hardly ever a TLB miss. Elements are types for which all-zero octets are a value ([`Zeroable`]), mostly atomics:
//! one writer, any reader.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize};

use dpdk_sys as sys;

use crate::eal::{Eal, EalInner};
use crate::kept::{HUGE_PAGE, Mapping};
use crate::lcore::SocketId;

/// Octets in a cache line, and the least alignment of a [`Slab`].
pub const CACHE_LINE: usize = 64;

/// A cache line of atomics, the element of tables that other crates lay out without unsafe code.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct Line(pub [AtomicU64; 8]);

const _: () = assert!(size_of::<Line>() == CACHE_LINE && align_of::<Line>() == CACHE_LINE);

/// Types for which all-zero octets are a valid value and which need no drop.
///
/// # Safety
/// A value whose octets, padding included, are all zero must be valid, and `Drop` must not be implemented for the
/// type or its fields: a [`Slab`] never drops its elements.
pub unsafe trait Zeroable {}

macro_rules! zeroable {
    ($($integer:ty)*) => {$(
        // SAFETY: every bit pattern is a value of an integer, atomic or not; false is zero; neither implements Drop.
        unsafe impl Zeroable for $integer {}
    )*};
}
zeroable! {
    AtomicBool AtomicU8 AtomicU16 AtomicU32 AtomicU64 AtomicUsize AtomicI64
    u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize
}

// SAFETY: an array is its elements one after another.
unsafe impl<T: Zeroable, const N: usize> Zeroable for [T; N] {}

// SAFETY: eight atomics without padding.
unsafe impl Zeroable for Line {}

/// Why there is no memory for a slab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// The size does not fit an address.
    #[error("{len} elements of {element} octets are more than can be addressed")]
    TooLarge {
        /// Elements asked for.
        len: usize,
        /// Octets of one.
        element: usize,
    },
    /// EAL has no such amount left on any node.
    #[error(
        "EAL has no {octets} octets of memory left; provide more huge pages, or raise -m if EAL runs with --no-huge"
    )]
    Exhausted {
        /// Octets asked for.
        octets: usize,
    },
    /// The process heap has no such amount left.
    #[error("there are no {octets} octets of memory left")]
    HeapExhausted {
        /// Octets asked for.
        octets: usize,
    },
}

/// A fixed array, zeroed when made, aligned to a cache line.
///
/// Shared as `&[T]`, which is how lock-free tables of atomics are used, or exclusively as `&mut [T]`.
pub struct Slab<T: Zeroable> {
    start: NonNull<T>,
    len: usize,
    origin: Origin,
}

#[derive(Debug)]
enum Origin {
    /// No memory at all, for a size of zero.
    Nothing,
    /// `rte_zmalloc_socket`; the guard keeps EAL's memory mapped.
    Eal { local: bool, _eal: Arc<EalInner> },
    /// The global allocator, with the layout to give back.
    Heap(Layout),
    /// A piece of memory that outlives the process; the guard keeps it mapped.
    Kept { _mapping: Arc<Mapping> },
}

// SAFETY: a slab owns its elements as a `Vec` does; EAL's allocator and Rust's may be called from any thread.
unsafe impl<T: Zeroable + Send> Send for Slab<T> {}
// SAFETY: a shared slab gives out shared references to its elements only.
unsafe impl<T: Zeroable + Sync> Sync for Slab<T> {}

impl<T: Zeroable> Slab<T> {
    /// `len` zeroed elements in EAL's memory, which is huge pages unless EAL runs with `--no-huge`.
    ///
    /// The memory is on `socket` if there is room, else on any node: a slow table is better than none, and
    /// [`Slab::is_local`] tells.
    ///
    /// # Errors
    /// [`MemoryError::TooLarge`] and [`MemoryError::Exhausted`].
    pub fn hugepages(eal: &Eal, len: usize, socket: SocketId) -> Result<Self, MemoryError> {
        let layout = Self::layout(len)?;
        if layout.size() == 0 {
            return Ok(Self::nothing(len));
        }
        let allocate = |socket: SocketId| {
            // SAFETY: a null name is allowed; the alignment is a power of two, by `Layout`. 4 GiB and more are fine.
            let start = unsafe {
                sys::rte_zmalloc_socket(std::ptr::null(), layout.size(), layout.align() as u32, socket.0)
            };
            NonNull::new(start.cast::<T>())
        };
        let (start, local) = match allocate(socket) {
            Some(start) => (start, true),
            None => {
                let anywhere = (socket != SocketId::ANY).then(|| allocate(SocketId::ANY)).flatten();
                (anywhere.ok_or(MemoryError::Exhausted { octets: layout.size() })?, false)
            }
        };
        Ok(Self { start, len, origin: Origin::Eal { local, _eal: eal.share() } })
    }

    /// `len` zeroed elements on the heap, in transparent huge pages if the kernel gives some
    /// (`/sys/kernel/mm/transparent_hugepage/enabled`). It takes none of those that are set aside for EAL. All of it is written once, so that
    /// no later write waits for a page.
    ///
    /// # Errors
    /// [`MemoryError::TooLarge`] and [`MemoryError::HeapExhausted`].
    pub fn advised(len: usize) -> Result<Self, MemoryError> {
        let layout = Self::layout(len)?;
        if layout.size() < HUGE_PAGE {
            return Self::heap(len);
        }
        // Whole pages, so that the last one is as large as the others.
        let layout = layout.align_to(HUGE_PAGE).map(|layout| layout.pad_to_align());
        let layout = layout.map_err(|_| MemoryError::TooLarge { len, element: size_of::<T>() })?;
        // SAFETY: the size is not zero.
        let start = NonNull::new(unsafe { alloc(layout) });
        let start = start.ok_or(MemoryError::HeapExhausted { octets: layout.size() })?;
        // SAFETY: a hint about this memory alone, which nobody else has: it begins and ends with a page. Small pages do as well.
        unsafe { libc::madvise(start.as_ptr().cast(), layout.size(), libc::MADV_HUGEPAGE) };
        // SAFETY: it has this size.
        unsafe { start.as_ptr().write_bytes(0, layout.size()) };
        Ok(Self { start: start.cast(), len, origin: Origin::Heap(layout) })
    }

    /// `len` zeroed elements on the heap: for tests without EAL.
    ///
    /// # Errors
    /// [`MemoryError::TooLarge`] and [`MemoryError::HeapExhausted`].
    pub fn heap(len: usize) -> Result<Self, MemoryError> {
        let layout = Self::layout(len)?;
        if layout.size() == 0 {
            return Ok(Self::nothing(len));
        }
        // SAFETY: the size is not zero.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) }.cast::<T>());
        let start = start.ok_or(MemoryError::HeapExhausted { octets: layout.size() })?;
        Ok(Self { start, len, origin: Origin::Heap(layout) })
    }

    /// No elements.
    pub fn empty() -> Self {
        Self::nothing(0)
    }

    /// Whether the memory is on the NUMA node asked for. True for heap memory, which asks for none.
    pub fn is_local(&self) -> bool {
        !matches!(self.origin, Origin::Eal { local: false, .. })
    }

    /// Elements in kept memory.
    ///
    /// # Safety
    /// `len` elements at `start`, aligned to a cache line, lie in `mapping` and in no other slab, and whatever bits are there are values.
    pub(crate) unsafe fn kept(start: NonNull<T>, len: usize, mapping: Arc<Mapping>) -> Self {
        Self { start, len, origin: Origin::Kept { _mapping: mapping } }
    }

    fn nothing(len: usize) -> Self {
        Self { start: NonNull::dangling(), len, origin: Origin::Nothing }
    }

    fn layout(len: usize) -> Result<Layout, MemoryError> {
        Layout::array::<T>(len)
            .and_then(|layout| layout.align_to(CACHE_LINE))
            .map_err(|_| MemoryError::TooLarge { len, element: size_of::<T>() })
    }
}

impl<T: Zeroable> Deref for Slab<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: the slab owns `len` elements at `start` (or its size is zero and `start` dangles, aligned); they were
        // zeroed, which is a valid T, or are what `Slab::kept` was promised, and are reachable through this slab only.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Zeroable> DerefMut for Slab<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; `&mut self` makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T: Zeroable> Drop for Slab<T> {
    fn drop(&mut self) {
        match &self.origin {
            // The mapping goes with the last of its slabs.
            Origin::Nothing | Origin::Kept { .. } => {}
            // SAFETY: the pointer came from `rte_zmalloc_socket`, is freed once, and EAL is alive by the guard, which
            // is dropped after this.
            Origin::Eal { .. } => unsafe { sys::rte_free(self.start.as_ptr().cast()) },
            // SAFETY: the pointer came from `alloc_zeroed` or `alloc` with this layout and is freed once.
            Origin::Heap(layout) => unsafe { dealloc(self.start.as_ptr().cast(), *layout) },
        }
    }
}

impl<T: Zeroable> fmt::Debug for Slab<T> {
    /// The elements may be millions, so only their number is printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slab").field("len", &self.len).field("origin", &self.origin).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn heap_slabs_are_zeroed_and_aligned() {
        let slab = Slab::<AtomicU8>::heap(1000).unwrap();
        assert_eq!(slab.len(), 1000);
        assert!(slab.iter().all(|octet| octet.load(Relaxed) == 0));
        assert_eq!(slab.as_ptr() as usize % CACHE_LINE, 0);
        assert!(slab.is_local());
    }

    #[test]
    fn lines_are_written_by_one_thread_and_read_by_another() {
        let mut slab = Slab::<Line>::heap(16).unwrap();
        *slab[3].0[7].get_mut() = 5;
        std::thread::scope(|scope| {
            let slab = &slab;
            scope.spawn(move || slab[15].0[0].store(9, Relaxed)).join().unwrap();
        });
        assert_eq!((slab[3].0[7].load(Relaxed), slab[15].0[0].load(Relaxed)), (5, 9));
    }

    #[test]
    fn large_slabs_begin_with_a_huge_page_and_small_ones_with_a_line() {
        for (len, align) in [(100_000, HUGE_PAGE), (100, CACHE_LINE), (HUGE_PAGE / CACHE_LINE, HUGE_PAGE)] {
            let slab = Slab::<Line>::advised(len).unwrap();
            assert_eq!((slab.len(), slab.as_ptr() as usize % align), (len, 0));
            assert!(slab.iter().flat_map(|line| &line.0).all(|word| word.load(Relaxed) == 0));
        }
    }

    #[test]
    fn an_empty_slab_needs_no_memory() {
        assert!(Slab::<[AtomicU64; 8]>::heap(0).unwrap().is_empty());
        assert!(Slab::<[AtomicU64; 8]>::advised(0).unwrap().is_empty());
        assert_eq!(Slab::<[AtomicU64; 0]>::heap(7).unwrap().len(), 7);
    }

    #[test]
    fn a_size_beyond_the_address_space_is_an_error() {
        let error = Slab::<u64>::heap(usize::MAX / 4).unwrap_err();
        assert_eq!(error, MemoryError::TooLarge { len: usize::MAX / 4, element: 8 });
    }
}
