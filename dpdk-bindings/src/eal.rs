//! The environment abstraction layer: started once, ended when its last user is gone.
//!
//! [`Eal`] and everything made from it (memory, pools, ports, queues) hold the same `EalInner`; the order in which
//! they are dropped does not matter. Whoever drops the last one ends EAL, on these conditions, because
//! `rte_eal_cleanup` unmaps all memory EAL ever gave out:
//!
//! * the dropping thread is the one that called [`Eal::init`];
//! * no worker lcore is running a function;
//! * every mbuf is back in its pool.
//!
//! Otherwise EAL is left as it is, and the kernel takes it back when the process exits. The conditions are what makes
//! [`Mbuf`](crate::Mbuf) safe without a reference to its pool: mbufs only move towards their pool once no handle to
//! pools and queues exists, a lcore that is not running is not in the middle of freeing one, and a thread that is not
//! EAL's frees without a per-lcore cache, so that a full count means it has finished.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dpdk_sys as sys;

use crate::error::Errno;
use crate::lcore::{self, LcoreId};

/// How often [`Eal::wait_until`] looks whether a worker is done.
const WAIT_POLL: Duration = Duration::from_millis(1);

/// How long EAL's own thread may take to come to an end of what it was given.
const ERRAND_MAX: Duration = Duration::from_secs(1);

/// What EAL's own thread is given.
type Errand = Box<dyn FnOnce() + Send + 'static>;

static STARTED: AtomicBool = AtomicBool::new(false);

/// The running EAL. Dropping it, and everything made from it, ends EAL.
#[derive(Debug)]
pub struct Eal {
    inner: Arc<EalInner>,
}

/// Why EAL did not start. EAL has written what it found to stderr (its own log) by then.
#[derive(Debug, thiserror::Error)]
pub enum EalError {
    /// This process called [`Eal::init`] before. EAL cannot be started again, not even after a failure.
    #[error("EAL can be started only once in a process")]
    AlreadyStarted,
    /// An argument holds a NUL byte.
    #[error("EAL argument {0:?} contains a NUL byte")]
    NulInArgument(String),
    /// EAL does not accept an argument (`EINVAL`).
    #[error("EAL does not accept its arguments ({args}); its message above says which")]
    BadArguments {
        /// The arguments, with spaces between them.
        args: String,
    },
    /// EAL took this for the first argument that is not an option and ignored the rest.
    #[error("EAL does not know what to do with the argument {0:?}; only options may stand before `--`")]
    UnexpectedArgument(String),
    /// No access to huge pages, devices or the runtime directory (`EACCES`).
    #[error(
        "EAL was refused something it needs: run as root, provide huge pages, or pass --no-huge -m MEGABYTES \
         and --no-pci to do without"
    )]
    PermissionDenied,
    /// Not enough memory, mostly huge pages (`ENOMEM`).
    #[error(
        "EAL got no memory ({0}): provide huge pages (dpdk-hugepages.py --setup 1G, or write to \
         /proc/sys/vm/nr_hugepages and mount hugetlbfs) or pass --no-huge -m MEGABYTES"
    )]
    NoMemory(Errno),
    /// A resource is in use, often by another DPDK process with the same `--file-prefix` (`EAGAIN`, `EBUSY`).
    #[error("EAL found something it needs in use ({0}): another DPDK process with the same --file-prefix?")]
    Busy(Errno),
    /// A device of `--vdev`, `-a` or `-b` has no driver or is no address (`ENODEV`).
    #[error("EAL does not know a device of its arguments ({args}); its message above says which")]
    UnknownDevice {
        /// The arguments, with spaces between them.
        args: String,
    },
    /// A bus cannot be searched or the machine is not supported (`ENOTSUP`).
    #[error(
        "EAL could not search a bus or does not support this machine ({0}); its message above says which"
    )]
    Unsupported(Errno),
    /// The PCI bus cannot be read (`EPROTO`).
    #[error("EAL cannot read the PCI bus; pass --no-pci if there is none")]
    NoPciBus,
    /// Anything else.
    #[error("EAL did not start: {0}")]
    Unknown(Errno),
}

/// Why a function was not started on a lcore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    /// The lcore is the main one, which runs the thread that called [`Eal::init`].
    #[error("lcore {0} is not a worker lcore")]
    NotAWorker(LcoreId),
    /// The lcore is still running an earlier function.
    #[error("lcore {0} is busy")]
    Busy(LcoreId),
    /// Anything else.
    #[error("lcore {0} could not be started: {1}")]
    Unknown(LcoreId, Errno),
}

impl Eal {
    /// Starts EAL with `args`, the options of DPDK without a program name in front and without `--` at the end.
    ///
    /// The calling thread becomes the main lcore and is pinned to its CPU; see [`lcore::run_on_cpus`] for threads that
    /// are started from it later. `--help` prints EAL's usage and ends the process, which is EAL's doing.
    ///
    /// # Errors
    /// As [`EalError`] lists. After any of them except [`EalError::NulInArgument`], this process cannot try again.
    pub fn init(args: &[String]) -> Result<Self, EalError> {
        let argv = c_arguments(args)?;
        if STARTED.swap(true, Ordering::SeqCst) {
            return Err(EalError::AlreadyStarted);
        }
        let initial_cpus = lcore::allowed_cpus();
        // EAL permutes the array and may write to the strings, so both are given to it for good: a few hundred octets,
        // once. The pointer after the last is null, as C's main gets it.
        let count = argv.len() as c_int;
        let argv: Vec<*mut c_char> =
            argv.into_iter().map(CString::into_raw).chain([std::ptr::null_mut()]).collect();
        let argv = argv.leak();
        // To an argument that it does not like EAL answers with a hundred lines of usage on stdout. What it logs goes
        // to stderr.
        let asked = args.iter().any(|arg| arg == "-h" || arg == "--help");
        let silence = if asked { None } else { Silence::of_stdout() };
        // SAFETY: `argv` holds `count` pointers to NUL-terminated strings that live for ever and that nothing else
        // refers to. The flag above makes this the only call in the process.
        let parsed = unsafe { sys::rte_eal_init(count, argv.as_mut_ptr()) };
        drop(silence);
        if parsed < 0 {
            return Err(EalError::from_init(Errno::last(), args));
        }
        let eal = Self { inner: Arc::new(EalInner::new(initial_cpus)) };
        // getopt has moved what is no option to the end; EAL leaves the program's name at `parsed`, before that.
        match argv[..count as usize].get(parsed as usize + 1) {
            None => Ok(eal),
            Some(&argument) => {
                // SAFETY: the array holds the strings made above, in another order, each still NUL-terminated.
                let argument = unsafe { CStr::from_ptr(argument) };
                Err(EalError::UnexpectedArgument(argument.to_string_lossy().into_owned()))
            }
        }
    }

    /// The lcore of the thread that called [`Eal::init`].
    pub fn main_lcore(&self) -> LcoreId {
        main_lcore()
    }

    /// Every other lcore, in ascending order. Empty if EAL was given one lcore.
    pub fn worker_lcores(&self) -> Vec<LcoreId> {
        worker_lcores().collect()
    }

    /// The CPUs this process was allowed to use before EAL pinned the calling thread.
    pub fn initial_cpus(&self) -> &[usize] {
        &self.inner.initial_cpus
    }

    /// Whether EAL's memory is in huge pages; false with `--no-huge`.
    pub fn has_hugepages(&self) -> bool {
        // SAFETY: reads EAL's configuration, which no longer changes once EAL runs.
        unsafe { sys::rte_eal_has_hugepages() != 0 }
    }

    /// Runs `work` on a worker lcore and returns at once.
    ///
    /// A panic in `work` ends the process with status 1, right after the panic hook has run: a director whose worker
    /// is gone must not look alive, and no destructor may run into what the worker left half done.
    ///
    /// # Errors
    /// As [`LaunchError`] lists; `work` is dropped then.
    pub fn launch(
        &self,
        lcore: LcoreId,
        work: Box<dyn FnOnce() + Send + 'static>,
    ) -> Result<(), LaunchError> {
        if !worker_lcores().any(|worker| worker == lcore) {
            return Err(LaunchError::NotAWorker(lcore));
        }
        // DPDK wants launches from one thread only; one at a time is what that protects.
        let _one_at_a_time = lock(&self.inner.launching);
        let argument = Box::into_raw(Box::new(work));
        // SAFETY: `run_work` takes ownership of `argument` on the worker, once; it is Send and 'static. If the call
        // fails, the worker never sees it.
        let result = unsafe { sys::rte_eal_remote_launch(Some(run_work), argument.cast(), lcore.0) };
        match Errno::check(result) {
            Ok(_) => Ok(()),
            Err(errno) => {
                // SAFETY: the launch failed, so `argument` is still only ours and came from `Box::into_raw` above.
                drop(unsafe { Box::from_raw(argument) });
                Err(match errno.code() {
                    libc::EBUSY => LaunchError::Busy(lcore),
                    _ => LaunchError::Unknown(lcore, errno),
                })
            }
        }
    }

    /// Runs `work` on EAL's own thread, which waits for devices' interrupts, and waits for its end, a second at most. Returns whether it
    /// ended.
    ///
    /// A panic in `work` goes no further than that.
    pub fn on_interrupt_thread(&self, work: Box<dyn FnOnce() + Send + 'static>) -> bool {
        let (done, wait) = channel();
        let work: Errand = Box::new(move || {
            let ended = catch_unwind(AssertUnwindSafe(work)).is_ok();
            let _ = done.send(ended);
        });
        let argument = Box::into_raw(Box::new(work));
        // SAFETY: `run_errand` takes ownership of `argument` on EAL's thread, once: an alarm goes off once, and none is taken back. It is
        // Send and 'static. If the call fails, nobody sees it.
        let result = unsafe { sys::rte_eal_alarm_set(1, Some(run_errand), argument.cast()) };
        if Errno::check(result).is_err() {
            // SAFETY: no alarm was set, so `argument` is still only ours and came from `Box::into_raw` above.
            drop(unsafe { Box::from_raw(argument) });
            return false;
        }
        wait.recv_timeout(ERRAND_MAX).unwrap_or(false)
    }

    /// Waits until the function launched on `lcore` has returned, but not longer than that; returns at once if none was.
    /// Sleeps meanwhile. Returns whether it has returned.
    pub fn wait_until(&self, lcore: LcoreId, deadline: Instant) -> bool {
        while LcoreId::current() != Some(lcore) && is_running(lcore) {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(WAIT_POLL);
        }
        true
    }

    pub(crate) fn inner(&self) -> &EalInner {
        &self.inner
    }

    pub(crate) fn share(&self) -> Arc<EalInner> {
        Arc::clone(&self.inner)
    }
}

/// The version of the DPDK this process is running with, such as `DPDK 22.11.11`.
pub fn version() -> String {
    // SAFETY: returns a static NUL-terminated string, valid before EAL starts.
    unsafe { CStr::from_ptr(sys::rte_version()) }.to_string_lossy().into_owned()
}

/// What keeps EAL alive. One per process, shared by everything that uses EAL's memory or devices.
#[derive(Debug)]
pub(crate) struct EalInner {
    initial_cpus: Vec<usize>,
    /// Held while a function is started on a lcore, and while none must be.
    launching: Mutex<()>,
    /// See [`EalInner::claimed_ports`].
    claimed_ports: Mutex<Vec<u16>>,
    /// Pools without a handle that had mbufs out when their last handle went.
    retired_pools: Mutex<Vec<RetiredPool>>,
}

/// A mempool nothing refers to any more, except mbufs perhaps.
#[derive(Debug)]
pub(crate) struct RetiredPool(*mut sys::rte_mempool);

// SAFETY: only `EalInner::drop` uses the pointer, on whichever thread that runs, and mempools are bound to no thread.
unsafe impl Send for RetiredPool {}

impl RetiredPool {
    pub(crate) fn new(pool: *mut sys::rte_mempool) -> Self {
        Self(pool)
    }

    /// Frees the pool, or gives it back if mbufs of it are still out.
    ///
    /// # Safety
    /// The pointer is that of a living mempool which no handle, queue or port refers to, and [`is_quiescent`] holds.
    unsafe fn free(self) -> Result<(), Self> {
        // SAFETY: the pool is alive, says the caller. Nothing allocates from it any more (no handle, no queue) and no
        // lcore cache of it is being changed (quiescent), so the count does not exceed the truth: an mbuf that a
        // foreign thread is giving back is counted only when the ring is done with it.
        let all_back = unsafe { sys::rte_mempool_avail_count(self.0) == sys::weir_mempool_size(self.0) };
        if !all_back {
            return Err(self);
        }
        // SAFETY: no handle and, by the count, no mbuf refers to the pool.
        unsafe { sys::rte_mempool_free(self.0) };
        Ok(())
    }
}

impl EalInner {
    fn new(initial_cpus: Vec<usize>) -> Self {
        Self {
            initial_cpus,
            launching: Mutex::new(()),
            claimed_ports: Mutex::new(Vec::new()),
            retired_pools: Mutex::new(Vec::new()),
        }
    }

    /// The ports in use, by number. Ports are looked up, claimed and closed with this held: DPDK's table of devices
    /// must not lose one while another thread reads it.
    pub(crate) fn claimed_ports(&self) -> MutexGuard<'_, Vec<u16>> {
        lock(&self.claimed_ports)
    }

    /// Frees a pool whose last handle is gone, or keeps it until EAL ends if something may still refer to it.
    ///
    /// # Safety
    /// The pointer is that of a living mempool which no handle, queue or port refers to.
    pub(crate) unsafe fn give_up_pool(&self, pool: RetiredPool) {
        // No worker can start while this is held, so quiescence lasts until the pool is gone.
        let _no_launch = lock(&self.launching);
        let leftover = if is_quiescent() {
            // SAFETY: the caller says that nothing but mbufs refers to the pool; quiescence holds.
            unsafe { pool.free() }.err()
        } else {
            Some(pool)
        };
        lock(&self.retired_pools).extend(leftover);
    }
}

impl Drop for EalInner {
    fn drop(&mut self) {
        // The conditions of the module's documentation; where one does not hold, the memory stays mapped.
        if !is_quiescent() {
            return;
        }
        let pools = std::mem::take(&mut *lock(&self.retired_pools));
        let all_freed = pools.into_iter().fold(true, |all, pool| {
            // SAFETY: this is the last user of EAL, so no handle, queue or port exists; quiescence was checked, and
            // stays: only `Eal::launch` could end it, and there is no `Eal`.
            all & unsafe { pool.free() }.is_ok()
        });
        if all_freed {
            // SAFETY: nothing made from EAL exists any more: whatever holds its memory holds this value, except
            // mbufs, and those are all back.
            unsafe { sys::rte_eal_cleanup() };
        }
    }
}

/// Whether this is the main thread and no worker runs: no thread is inside a per-lcore cache of a mempool.
fn is_quiescent() -> bool {
    LcoreId::current() == Some(main_lcore()) && !worker_lcores().any(is_running)
}

fn main_lcore() -> LcoreId {
    // SAFETY: reads EAL's configuration, which no longer changes once EAL runs.
    LcoreId(unsafe { sys::rte_get_main_lcore() })
}

fn worker_lcores() -> impl Iterator<Item = LcoreId> {
    let next = |after: u32| {
        // SAFETY: walks EAL's table of lcores, which no longer changes once EAL runs; any start value is allowed.
        let id = unsafe { sys::rte_get_next_lcore(after, 1, 0) };
        (u64::from(id) < sys::weir_RTE_MAX_LCORE).then_some(id)
    };
    // EAL's macro starts from -1, the lcore before the first.
    std::iter::successors(next(u32::MAX), move |id| next(*id)).map(LcoreId)
}

fn is_running(lcore: LcoreId) -> bool {
    // SAFETY: an `LcoreId` is one of EAL's; the function reads the lcore's state.
    unsafe { sys::rte_eal_get_lcore_state(lcore.0) != sys::WAIT }
}

/// The entry point on a worker lcore.
///
/// # Safety
/// `argument` came from `Box::into_raw` of a boxed closure that is Send, and is given away by this call.
unsafe extern "C" fn run_work(argument: *mut c_void) -> c_int {
    // SAFETY: the caller gives the box away, says the contract above.
    let work = unsafe { Box::from_raw(argument.cast::<Box<dyn FnOnce() + Send + 'static>>()) };
    // Unwinding must not reach C. Nothing is looked at after a panic, so unwind safety is no question.
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        // SAFETY: ends the process at once, without running anything of it.
        unsafe { libc::_exit(1) }
    }
    0
}

/// The function EAL's own thread runs.
///
/// # Safety
/// `argument` came from `Box::into_raw` of an [`Errand`] that does not panic, and is given away by this call.
unsafe extern "C" fn run_errand(argument: *mut c_void) {
    // SAFETY: the caller gives the box away, says the contract above.
    let work = unsafe { Box::from_raw(argument.cast::<Errand>()) };
    work();
}

fn c_arguments(args: &[String]) -> Result<Vec<CString>, EalError> {
    ["weir"]
        .into_iter()
        .chain(args.iter().map(String::as_str))
        .map(|arg| CString::new(arg).map_err(|_| EalError::NulInArgument(arg.to_owned())))
        .collect()
}

/// What is written to stdout goes nowhere while this lives.
struct Silence {
    stdout: OwnedFd,
}

impl Silence {
    /// `None`: there is no stdout, or no other place for it.
    fn of_stdout() -> Option<Self> {
        let stdout = std::io::stdout().as_fd().try_clone_to_owned().ok()?;
        let nowhere = std::fs::File::options().write(true).open("/dev/null").ok()?;
        replace_stdout(nowhere.as_fd()).then_some(Self { stdout })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        replace_stdout(self.stdout.as_fd());
    }
}

/// Has stdout go where `by` goes, once what C's library holds of it has gone where it went. False: it stays.
fn replace_stdout(by: BorrowedFd<'_>) -> bool {
    // SAFETY: null stands for every stream; flushing has no other requirement. Both descriptors are open: one is
    // borrowed, and the other is stdout's number, which dup2 makes another file's in one step.
    unsafe {
        libc::fflush(std::ptr::null_mut());
        libc::dup2(by.as_raw_fd(), libc::STDOUT_FILENO) >= 0
    }
}

impl EalError {
    fn from_init(errno: Errno, args: &[String]) -> Self {
        match errno.code() {
            libc::EINVAL => Self::BadArguments { args: args.join(" ") },
            libc::EACCES | libc::EPERM => Self::PermissionDenied,
            libc::ENOMEM => Self::NoMemory(errno),
            libc::ENODEV => Self::UnknownDevice { args: args.join(" ") },
            libc::EAGAIN | libc::EBUSY => Self::Busy(errno),
            libc::ENOTSUP => Self::Unsupported(errno),
            libc::EPROTO => Self::NoPciBus,
            libc::EALREADY => Self::AlreadyStarted,
            _ => Self::Unknown(errno),
        }
    }
}

/// A mutex whose poison means nothing: each holder leaves plain collections in a valid state.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
