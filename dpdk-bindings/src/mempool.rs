//! Pools of mbufs.
//!
//! A pool has a cache for each lcore, so a worker takes and gives mbufs without touching a shared line most of the
//! time. Threads that are not EAL's may use a pool too; they go to the shared ring each time.

use std::ffi::CString;
use std::ptr::NonNull;
use std::sync::Arc;

use dpdk_sys as sys;

use crate::eal::{Eal, EalInner, RetiredPool};
use crate::error::Errno;
use crate::lcore::SocketId;
use crate::mbuf::{Burst, Mbuf};

/// Octets in front of a new frame, for headers to be prepended.
pub const HEADROOM: u16 = sys::weir_RTE_PKTMBUF_HEADROOM as u16;

/// The longest name of a pool in octets. DPDK prefixes it and keeps it in a fixed array.
pub const NAME_LEN_MAX: usize = sys::weir_RTE_MEMPOOL_NAMESIZE as usize - 1;

/// The most mbufs a pool keeps aside for one lcore.
pub const CACHE_MAX: u32 = sys::weir_RTE_MEMPOOL_CACHE_MAX_SIZE as u32;

/// What a pool is to be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MempoolConfig {
    /// A name no other pool has, at most [`NAME_LEN_MAX`] octets.
    pub name: String,
    /// How many mbufs. A power of two less one uses memory best.
    pub mbufs: u32,
    /// How many mbufs to keep aside for each lcore; 0: none. At most [`CACHE_MAX`], and two thirds of `mbufs`.
    pub cache: u32,
    /// Room for a frame in one mbuf in octets, headroom aside.
    pub data_bytes: u16,
    /// The NUMA node for the memory, if it has room, else any node.
    pub socket: SocketId,
}

/// Why a pool could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MempoolError {
    /// The name is empty, too long or holds a NUL byte.
    #[error("mempool name {0:?} must have 1 to {NAME_LEN_MAX} octets, none of them NUL")]
    BadName(String),
    /// A pool of this name exists.
    #[error("a mempool named {0:?} exists already")]
    NameTaken(String),
    /// The numbers do not fit each other.
    #[error(
        "mempool {name:?}: a cache of {cache} mbufs per lcore needs a pool of {} or more, and {CACHE_MAX} is the limit",
        cache.saturating_mul(3).div_ceil(2)
    )]
    BadCache {
        /// The pool.
        name: String,
        /// The cache size asked for.
        cache: u32,
    },
    /// A pool without mbufs, or mbufs too large for their 16-bit length.
    #[error(
        "mempool {name:?}: {mbufs} mbufs of {data_bytes} octets; there must be one at least, of no more than {} octets",
        u16::MAX - HEADROOM
    )]
    BadSize {
        /// The pool.
        name: String,
        /// The number asked for.
        mbufs: u32,
        /// The room asked for.
        data_bytes: u16,
    },
    /// EAL has not that much memory.
    #[error(
        "EAL has no memory for mempool {name:?} ({mbufs} mbufs of {data_bytes} octets); provide more huge pages, \
         or raise -m if EAL runs with --no-huge"
    )]
    NoMemory {
        /// The pool.
        name: String,
        /// The number asked for.
        mbufs: u32,
        /// The room asked for.
        data_bytes: u16,
    },
    /// Anything else.
    #[error("mempool {0:?} could not be made: {1}")]
    Unknown(String, Errno),
}

/// A handle to a pool of mbufs. Clones are handles to the same pool, for any thread.
///
/// The memory is freed with the last handle if that is dropped on the thread that called [`Eal::init`], no worker runs
/// and every mbuf is back; else it stays until EAL ends, and so does the name.
#[derive(Debug, Clone)]
pub struct Mempool {
    inner: Arc<MempoolInner>,
}

#[derive(Debug)]
struct MempoolInner {
    pool: NonNull<sys::rte_mempool>,
    config: MempoolConfig,
    local: bool,
    eal: Arc<EalInner>,
}

// SAFETY: DPDK's pktmbuf pools are multi-producer and multi-consumer: any thread may take from and give to one.
unsafe impl Send for MempoolInner {}
// SAFETY: as for Send; the other fields are read only.
unsafe impl Sync for MempoolInner {}

impl Mempool {
    /// Makes a pool.
    ///
    /// # Errors
    /// As [`MempoolError`] lists.
    pub fn new(eal: &Eal, config: MempoolConfig) -> Result<Self, MempoolError> {
        let name = config.validate()?;
        let create = |socket: SocketId| {
            // SAFETY: `name` is NUL-terminated and copied by the call; the numbers were checked. EAL is running, by
            // `eal`, and kept so by the guard below.
            NonNull::new(unsafe {
                sys::rte_pktmbuf_pool_create(
                    name.as_ptr(),
                    config.mbufs,
                    config.cache,
                    0,
                    HEADROOM + config.data_bytes,
                    socket.0,
                )
            })
            .ok_or_else(Errno::last)
        };
        let (pool, local) = match create(config.socket) {
            Ok(pool) => (pool, true),
            Err(errno)
                if matches!(errno.code(), libc::ENOMEM | libc::ENOBUFS) && config.socket != SocketId::ANY =>
            {
                (create(SocketId::ANY).map_err(|errno| config.error(errno))?, false)
            }
            Err(errno) => return Err(config.error(errno)),
        };
        Ok(Self { inner: Arc::new(MempoolInner { pool, config, local, eal: eal.share() }) })
    }

    /// One mbuf with an empty frame, or `None` if the pool is empty.
    #[inline]
    pub fn alloc(&self) -> Option<Mbuf> {
        // SAFETY: the pool is alive by the handle and was made for mbufs.
        let mbuf = unsafe { sys::weir_mbuf_alloc(self.as_ptr()) };
        // SAFETY: a fresh mbuf has one reference and one segment, and the caller of DPDK owns it.
        NonNull::new(mbuf).map(|mbuf| unsafe { Mbuf::from_raw(mbuf) })
    }

    /// One mbuf with a copy of `frame`, or `None` if the pool is empty or the frame longer than an mbuf's room.
    pub fn alloc_with(&self, frame: &[u8]) -> Option<Mbuf> {
        let mut mbuf = self.alloc()?;
        mbuf.append(frame.len()).then(|| {
            mbuf.bytes_mut().copy_from_slice(frame);
            mbuf
        })
    }

    /// Adds up to `count` mbufs with empty frames to `burst`, as far as it has room and the pool has mbufs, and returns
    /// how many. One call into DPDK unless the pool runs dry.
    pub fn alloc_bulk(&self, burst: &mut Burst, count: usize) -> usize {
        let wanted = count.min(burst.remaining_capacity());
        if wanted == 0 {
            return 0;
        }
        let filled = burst.len();
        // SAFETY: the pool is alive by the handle. `Mbuf` is `repr(transparent)` over a non-null pointer, and the burst
        // has room for `wanted` of them behind its `filled`.
        let result = unsafe {
            sys::weir_mbuf_alloc_bulk(
                self.as_ptr(),
                burst.as_mut_ptr().add(filled).cast(),
                wanted as u32, // at most a burst
            )
        };
        if result == 0 {
            // SAFETY: the call is all or nothing: it wrote `wanted` owned mbufs behind the first `filled`.
            unsafe { burst.set_len(filled + wanted) };
            return wanted;
        }
        burst.extend(std::iter::from_fn(|| self.alloc()).take(wanted));
        burst.len() - filled
    }

    /// How many mbufs can be taken. Not exact while other threads use the pool; walks every lcore's cache.
    pub fn available(&self) -> u32 {
        // SAFETY: the pool is alive by the handle. The count is of a moment, and DPDK keeps it within the pool's size.
        unsafe { sys::rte_mempool_avail_count(self.as_ptr()) }
    }

    /// How many mbufs are out: in bursts, in the rings of devices, in the hands of control. As exact as
    /// [`Mempool::available`].
    pub fn in_use(&self) -> u32 {
        self.size() - self.available()
    }

    /// How many mbufs the pool was made with.
    pub fn size(&self) -> u32 {
        self.inner.config.mbufs
    }

    /// Room for a frame in one mbuf in octets, headroom aside.
    pub fn data_bytes(&self) -> u16 {
        self.inner.config.data_bytes
    }

    /// The pool's name.
    pub fn name(&self) -> &str {
        &self.inner.config.name
    }

    /// Whether the memory is on the NUMA node asked for.
    pub fn is_local(&self) -> bool {
        self.inner.local
    }

    pub(crate) fn as_ptr(&self) -> *mut sys::rte_mempool {
        self.inner.pool.as_ptr()
    }

    /// Whether the pool is of this EAL. There is one EAL, so it always is; ports say what they rely on.
    pub(crate) fn belongs_to(&self, eal: &Arc<EalInner>) -> bool {
        Arc::ptr_eq(&self.inner.eal, eal)
    }
}

impl Drop for MempoolInner {
    fn drop(&mut self) {
        // SAFETY: this was the last handle, and queues and ports hold handles, so only mbufs can refer to the pool.
        unsafe { self.eal.give_up_pool(RetiredPool::new(self.pool.as_ptr())) };
    }
}

impl MempoolConfig {
    fn validate(&self) -> Result<CString, MempoolError> {
        let name = CString::new(self.name.as_str()).ok();
        let name = name
            .filter(|name| (1..=NAME_LEN_MAX).contains(&name.count_bytes()))
            .ok_or_else(|| MempoolError::BadName(self.name.clone()))?;
        if self.mbufs == 0 || self.data_bytes > u16::MAX - HEADROOM {
            return Err(self.error_bad_size());
        }
        // DPDK flushes a cache at one and a half times its size, which must fit the pool.
        if self.cache > CACHE_MAX || self.cache + self.cache / 2 > self.mbufs {
            return Err(MempoolError::BadCache { name: self.name.clone(), cache: self.cache });
        }
        Ok(name)
    }

    fn error_bad_size(&self) -> MempoolError {
        MempoolError::BadSize { name: self.name.clone(), mbufs: self.mbufs, data_bytes: self.data_bytes }
    }

    fn error(&self, errno: Errno) -> MempoolError {
        let name = self.name.clone();
        match errno.code() {
            libc::EEXIST => MempoolError::NameTaken(name),
            libc::ENOMEM | libc::ENOBUFS => {
                MempoolError::NoMemory { name, mbufs: self.mbufs, data_bytes: self.data_bytes }
            }
            libc::ENAMETOOLONG => MempoolError::BadName(name),
            _ => MempoolError::Unknown(name, errno),
        }
    }
}
