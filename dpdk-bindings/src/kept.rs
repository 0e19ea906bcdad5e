//! Memory that outlives the process: a memfd that somebody else holds open as well.
//!
//! Its size is sealed before it is mapped, so that nobody can take away a page that is in use. Pieces of it are handed out as
//! [`Slab`]s of [`Line`]s, for which all bits are values, whoever has written them.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use crate::memory::{Line, Slab};

pub(crate) const HUGE_PAGE: usize = 2 << 20;
const PAGE: usize = 4 << 10;
/// Nobody can change the size, or these seals.
const SEALS: libc::c_int = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;

/// Which pages it is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// Huge ones of 2 MiB, all of them at once.
    Huge,
    /// Ordinary ones, all of them at once.
    Ordinary,
    /// Ordinary ones, each when it is first touched.
    Sparse,
}

/// Why memory can't be made, or taken over.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// The kernel has none.
    #[error("there is no memory for it: {0}")]
    NoMemory(io::Error),
    /// The descriptor is something else.
    #[error("what was kept is no memory file")]
    NotMemory,
    /// Whoever made it left its size open.
    #[error("the size of what was kept is not sealed")]
    NotSealed,
    /// Another process has it.
    #[error("another process is using what was kept")]
    InUse,
}

/// See the module.
#[derive(Debug)]
pub struct KeptMemory {
    file: OwnedFd,
    mapping: Arc<Mapping>,
    /// Octets that were handed out.
    cut: usize,
}

/// The whole file in this process's memory.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    octets: usize,
}

// SAFETY: the mapping is memory as any other; what is shared of it are pieces of atomics, see `KeptMemory::cut`.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl KeptMemory {
    /// Zeroed memory of so many octets at least.
    ///
    /// # Errors
    /// [`KeptError::NoMemory`].
    pub fn create(name: &str, octets: usize, pages: Pages) -> Result<Self, KeptError> {
        let name = CString::new(name).unwrap_or_default();
        let (page, huge) = match pages {
            Pages::Huge => (HUGE_PAGE, libc::MFD_HUGETLB | libc::MFD_HUGE_2MB),
            Pages::Ordinary | Pages::Sparse => (PAGE, 0),
        };
        let octets = octets.max(1).next_multiple_of(page);
        // SAFETY: the name ends in NUL; the flags are memfd's.
        let code =
            unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | huge) };
        let number = done(code).map_err(KeptError::NoMemory)?;
        // SAFETY: the kernel has just given this descriptor, and nobody else has it.
        let file = unsafe { OwnedFd::from_raw_fd(number) };
        // SAFETY: changes the size of a file that nobody has mapped.
        done(unsafe { libc::ftruncate(number, octets as libc::off_t) }).map_err(KeptError::NoMemory)?;
        // SAFETY: F_ADD_SEALS takes an integer.
        done(unsafe { libc::fcntl(number, libc::F_ADD_SEALS, SEALS) }).map_err(KeptError::NoMemory)?;
        Self::map(file, octets, pages != Pages::Sparse)
    }

    /// What another process has left.
    ///
    /// # Errors
    /// As [`KeptError`] lists.
    pub fn adopt(file: OwnedFd) -> Result<Self, KeptError> {
        // SAFETY: F_GET_SEALS takes nothing. It fails for whatever is no memfd.
        let seals = done(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) })
            .map_err(|_| KeptError::NotMemory)?;
        if seals & SEALS != SEALS {
            return Err(KeptError::NotSealed);
        }
        // SAFETY: all-zero octets are a value of it, integers throughout.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: writes a `stat`, which it is given.
        done(unsafe { libc::fstat(file.as_raw_fd(), &raw mut stat) }).map_err(|_| KeptError::NotMemory)?;
        let octets = usize::try_from(stat.st_size).map_err(|_| KeptError::NotMemory)?;
        if octets == 0 {
            return Err(KeptError::NotMemory);
        }
        // Huge pages are few, so that whoever reads them first need not wait for the kernel.
        Self::map(file, octets, stat.st_blksize == HUGE_PAGE as libc::blksize_t)
    }

    fn map(file: OwnedFd, octets: usize, populate: bool) -> Result<Self, KeptError> {
        let populate = if populate { libc::MAP_POPULATE } else { 0 };
        // SAFETY: a new mapping where the kernel likes. The file has this size and is sealed, so every page of it is there.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                octets,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | populate,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(KeptError::NoMemory(io::Error::last_os_error()));
        }
        let start = NonNull::new(start.cast()).ok_or(KeptError::NotMemory)?;
        Ok(Self { file, mapping: Arc::new(Mapping { start, octets }), cut: 0 })
    }

    /// Makes it this process's alone, until that ends: who else asks is told [`KeptError::InUse`].
    ///
    /// # Errors
    /// [`KeptError::InUse`].
    pub fn lock(&self) -> Result<(), KeptError> {
        let whole = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        // SAFETY: F_SETLK reads a `flock`.
        let code = unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_SETLK, &raw const whole) };
        done(code).map(drop).map_err(|_| KeptError::InUse)
    }

    /// How large it is.
    pub fn octets(&self) -> usize {
        self.mapping.octets
    }

    /// The next so many lines, which nobody else gets. `None`: there are not so many left.
    pub fn cut(&mut self, lines: usize) -> Option<Slab<Line>> {
        if lines == 0 {
            return Some(Slab::empty());
        }
        let octets = lines.checked_mul(size_of::<Line>())?;
        let end = self.cut.checked_add(octets)?;
        if end > self.mapping.octets {
            return None;
        }
        // SAFETY: `cut` is within the mapping, by the line above.
        let start = unsafe { self.mapping.start.add(self.cut) }.cast::<Line>();
        self.cut = end;
        // SAFETY: the piece lies in the mapping, which the slab keeps; it begins at a multiple of a line, since the mapping does
        // and each piece is whole lines; no other slab has any of it. A line is atomics, of which all bits are a value.
        Some(unsafe { Slab::kept(start, lines, self.mapping.clone()) })
    }
}

impl AsFd for KeptMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this one's, and no slab has any of it any more: each keeps it.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.octets) };
    }
}

fn done(code: libc::c_int) -> io::Result<libc::c_int> {
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(code) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    fn again(memory: &KeptMemory) -> OwnedFd {
        memory.as_fd().try_clone_to_owned().unwrap()
    }

    #[test]
    fn what_one_wrote_the_next_one_reads() {
        let mut memory = KeptMemory::create("weir-test", 3 * 64, Pages::Ordinary).unwrap();
        let kept = again(&memory);
        let (first, second) = (memory.cut(2).unwrap(), memory.cut(1).unwrap());
        first[1].0[7].store(5, Relaxed);
        second[0].0[0].store(6, Relaxed);
        drop((first, memory));
        second[0].0[1].store(7, Relaxed);
        drop(second);
        let mut memory = KeptMemory::adopt(kept).unwrap();
        assert_eq!(memory.octets(), PAGE);
        let (first, second) = (memory.cut(2).unwrap(), memory.cut(1).unwrap());
        assert_eq!((first[1].0[7].load(Relaxed), first[0].0[0].load(Relaxed)), (5, 0));
        assert_eq!((second[0].0[0].load(Relaxed), second[0].0[1].load(Relaxed)), (6, 7));
    }

    #[test]
    fn no_more_is_handed_out_than_there_is() {
        let mut memory = KeptMemory::create("weir-test", PAGE, Pages::Sparse).unwrap();
        assert!(memory.cut(65).is_none() && memory.cut(usize::MAX).is_none());
        assert_eq!(memory.cut(64).unwrap().len(), 64);
        assert!(memory.cut(1).is_none());
        assert_eq!(memory.cut(0).unwrap().len(), 0);
    }

    #[test]
    fn what_is_not_sealed_or_no_memory_is_refused() {
        let file = File::open("/proc/self/status").unwrap();
        assert!(matches!(KeptMemory::adopt(file.into()), Err(KeptError::NotMemory)));
        // SAFETY: the name ends in NUL, and the descriptor is nobody else's.
        let open = unsafe {
            OwnedFd::from_raw_fd(libc::memfd_create(c"weir-test".as_ptr(), libc::MFD_ALLOW_SEALING))
        };
        assert!(matches!(KeptMemory::adopt(open), Err(KeptError::NotSealed)));
    }

    #[test]
    fn a_lock_holds_while_its_process_lives() {
        let memory = KeptMemory::create("weir-test", 1, Pages::Ordinary).unwrap();
        memory.lock().unwrap();
        let path = format!("/proc/{}/fd/{}", std::process::id(), memory.as_fd().as_raw_fd());
        let script = "import fcntl, sys\nf = open(sys.argv[1], 'r+b')\n\
                      try: fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)\nexcept OSError: sys.exit(7)";
        let mut other = std::process::Command::new("python3");
        other.args(["-c", script, &path]);
        assert_eq!(other.status().unwrap().code(), Some(7));
        drop(memory);
    }
}
