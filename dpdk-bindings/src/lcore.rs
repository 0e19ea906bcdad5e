//! What a thread asks of the processor it runs on: which core, what time, bring that line into the cache.

use std::fmt;
use std::io;

use dpdk_sys as sys;

/// One of EAL's lcores, by EAL's number. Without `--lcores` the number is that of the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LcoreId(pub(crate) u32);

impl LcoreId {
    /// EAL's number of the lcore.
    pub fn index(self) -> u32 {
        self.0
    }

    /// The CPU (the kernel's number) the lcore is pinned to; the first of them if `--lcores` gave it several.
    pub fn cpu(self) -> usize {
        // SAFETY: the function checks the number against its table and only reads that table, which EAL filled before
        // it handed out any `LcoreId`.
        let cpu = unsafe { sys::rte_lcore_to_cpu_id(self.0 as i32) };
        cpu as usize
    }

    /// The NUMA node of the lcore.
    pub fn socket(self) -> SocketId {
        // SAFETY: as in `cpu`.
        SocketId(unsafe { sys::rte_lcore_to_socket_id(self.0) } as i32)
    }

    /// The lcore the calling thread is, or `None` on a thread that is not EAL's.
    pub fn current() -> Option<Self> {
        // SAFETY: reads a thread-local integer of libdpdk; nothing is required of the caller.
        let id = unsafe { sys::weir_lcore_id() };
        (u64::from(id) < sys::weir_RTE_MAX_LCORE).then_some(Self(id))
    }
}

impl fmt::Display for LcoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A NUMA node, as DPDK numbers them, or "any of them".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub(crate) i32);

impl SocketId {
    /// No preference.
    // The C value (SOCKET_ID_ANY) is compared with this one by a test.
    pub const ANY: Self = Self(-1);

    /// The node with this number, as the kernel and EAL's `--numa-mem` count them.
    pub fn new(node: u16) -> Self {
        Self(i32::from(node))
    }

    /// The number of the node, `None` for [`SocketId::ANY`].
    pub fn node(self) -> Option<u16> {
        u16::try_from(self.0).ok()
    }
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node() {
            Some(node) => node.fmt(f),
            None => f.write_str("any"),
        }
    }
}

/// The time stamp counter of this core. Monotonic and the same on all cores where the kernel calls it reliable.
#[inline]
pub fn tsc() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: RDTSC exists on every x86-64 processor and touches no memory.
    return unsafe { core::arch::x86_64::_rdtsc() };
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: reads a counter register; nothing is required of the caller.
    return unsafe { sys::weir_rdtsc() };
}

/// Ticks of [`tsc`] in a second, measured when EAL starts; 0 before that.
pub fn tsc_hz() -> u64 {
    // SAFETY: reads a number of libdpdk; nothing is required of the caller.
    unsafe { sys::rte_get_tsc_hz() }
}

/// Asks for the cache line at the start of `place` to be read into all cache levels.
#[inline]
pub fn prefetch<T>(place: &T) {
    prefetch_address((place as *const T).cast());
}

/// As [`prefetch`], for an element of a slice. Nothing comes of an index behind its end.
#[inline]
pub fn prefetch_at<T>(slice: &[T], index: usize) {
    prefetch_address(slice.as_ptr().wrapping_add(index).cast());
}

/// As [`prefetch`], for a line about to be written: a processor that can do so takes it exclusively.
#[inline]
pub fn prefetch_write<T>(place: &T) {
    let address: *const i8 = (place as *const T).cast();
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint that faults on no address; SSE, which it needs, is part of x86-64.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_ET0 }>(address);
    }
    #[cfg(not(target_arch = "x86_64"))]
    prefetch_address(address);
}

/// The hint for an address that need not be that of a Rust value, such as a field of a mbuf.
#[inline]
pub(crate) fn prefetch_address(address: *const i8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as in `prefetch_write`.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(address);
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: a prefetch is a hint that faults on no address.
    unsafe {
        sys::weir_prefetch0(address.cast())
    }
}

/// Lets the calling thread, and the threads it starts from now on, run on exactly these CPUs.
///
/// [`Eal::init`](crate::Eal::init) pins the thread that calls it to the main lcore, and every thread started later
/// inherits that. Control's threads get their freedom back by calling this with what
/// [`Eal::initial_cpus`](crate::Eal::initial_cpus) says, minus the workers' CPUs.
///
/// # Errors
/// What the kernel says: `EINVAL` if none of the CPUs exists or is allowed to this process.
pub fn run_on_cpus(cpus: &[usize]) -> io::Result<()> {
    // SAFETY: a cpu_set_t is an array of integers, for which zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for &cpu in cpus.iter().filter(|cpu| **cpu < libc::CPU_SETSIZE as usize) {
        // SAFETY: `cpu` is below the number of bits in the set, by the filter.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    // SAFETY: 0 is the calling thread; the pointer is to a whole cpu_set_t that outlives the call.
    match unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has the kernel run the calling thread before every ordinary one, as soon as it can run: `SCHED_FIFO` with this priority,
/// 1 to 99. For threads that mostly sleep.
///
/// # Errors
/// What the kernel says: `EPERM` without `CAP_SYS_NICE` and with too small an `RLIMIT_RTPRIO`, `EINVAL` for a priority out
/// of range.
pub fn run_in_real_time(priority: u8) -> io::Result<()> {
    // SAFETY: a sched_param is made of integers, for which zero is a value.
    let mut parameter: libc::sched_param = unsafe { std::mem::zeroed() };
    parameter.sched_priority = i32::from(priority);
    // SAFETY: 0 is the calling thread; the pointer is to a whole sched_param that outlives the call.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameter) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets the calling thread sleep as precisely as the kernel can: without this it adds up to 50 microseconds.
///
/// # Errors
/// What the kernel says.
pub fn sleep_precisely() -> io::Result<()> {
    // SAFETY: sets a number of the calling thread, in nanoseconds; 1 is the least.
    match unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_u64) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The CPUs the calling thread may run on.
pub(crate) fn allowed_cpus() -> Vec<usize> {
    // SAFETY: as in `run_on_cpus`.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: 0 is the calling thread; the pointer is to a whole cpu_set_t that outlives the call.
    if unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) } != 0 {
        return Vec::new();
    }
    // SAFETY: the numbers are below the number of bits in the set.
    (0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_socket_is_the_constant_of_the_header() {
        // SAFETY: returns a constant.
        assert_eq!(SocketId::ANY.0, unsafe { sys::weir_socket_id_any() });
        assert_eq!(SocketId::ANY.node(), None);
        assert_eq!(SocketId::new(1).to_string(), "1");
    }

    #[test]
    fn a_thread_of_rust_is_no_lcore() {
        assert_eq!(std::thread::spawn(LcoreId::current).join().unwrap(), None);
    }

    #[test]
    fn the_counter_goes_up() {
        let before = tsc();
        assert!(tsc() > before);
    }

    #[test]
    fn real_time_is_granted_or_refused_in_words() {
        let policy_of = || {
            // SAFETY: 0 is the calling thread.
            unsafe { libc::sched_getscheduler(0) }
        };
        std::thread::spawn(move || match run_in_real_time(10) {
            Ok(()) => assert_eq!(policy_of(), libc::SCHED_FIFO),
            Err(problem) => assert_eq!(problem.raw_os_error(), Some(libc::EPERM)),
        })
        .join()
        .unwrap();
        assert!(run_in_real_time(0).is_err());
        assert_ne!(policy_of(), libc::SCHED_FIFO);
    }

    #[test]
    fn affinity_is_what_was_set() {
        std::thread::spawn(|| {
            let first = allowed_cpus()[0];
            run_on_cpus(&[first]).unwrap();
            assert_eq!(allowed_cpus(), [first]);
            assert!(run_on_cpus(&[]).is_err());
        })
        .join()
        .unwrap();
    }
}
