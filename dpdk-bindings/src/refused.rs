//! System calls that a filter of the kernel's does not let through (`SECCOMP_RET_TRAP`): they are counted here, and fail with EPERM.
//!
//! The thread that makes one gets SIGSYS instead. The handler does what the kernel would do if the filter said `SECCOMP_RET_ERRNO`, and
//! remembers who asked for what. It touches the thread's registers and a few atomics, and nothing else. A program that is started by such a
//! thread would have the filter and no handler, and end.

use std::io;
use std::mem::zeroed;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU64, Ordering::Relaxed};

/// `si_code` of a SIGSYS that a filter has caused.
const SYS_SECCOMP: libc::c_int = 1;

static COUNT: AtomicU64 = AtomicU64::new(0);
static LAST_CALL: AtomicI64 = AtomicI64::new(0);
static LAST_THREAD: AtomicI32 = AtomicI32::new(0);

/// What was refused so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// How many calls.
    pub count: u64,
    /// The kernel's number of the last one.
    pub call: i64,
    /// The kernel's number of the thread that made it.
    pub thread: i32,
}

/// So far, of all threads.
pub fn refused() -> Refused {
    Refused { count: COUNT.load(Relaxed), call: LAST_CALL.load(Relaxed), thread: LAST_THREAD.load(Relaxed) }
}

/// From now on such calls are counted, on all threads that do not block SIGSYS. Without this the first one ends the process.
///
/// # Errors
/// What the kernel says; `Unsupported` on processors whose registers are not known here.
pub fn count() -> io::Result<()> {
    if !registers::ARE_KNOWN {
        return Err(io::ErrorKind::Unsupported.into());
    }
    // SAFETY: integers, for which zeros mean no flag and an empty mask.
    let mut action: libc::sigaction = unsafe { zeroed() };
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = refuse;
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    // SAFETY: `action` is whole, and its handler is one for SA_SIGINFO that lives as long as the program and calls nothing that a signal
    // may not interrupt.
    let done = unsafe { libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

extern "C" fn refuse(_: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel calls this with the signal's facts.
    if unsafe { (*info).si_code } != SYS_SECCOMP {
        // Somebody's `kill -SYS`.
        return;
    }
    // SAFETY: the kernel calls this with the thread's context, which is nobody else's until this returns.
    let call = unsafe { registers::fail(&mut *context.cast::<libc::ucontext_t>(), libc::EPERM) };
    LAST_CALL.store(call, Relaxed);
    // SAFETY: takes nothing and can't fail, so it leaves `errno` alone.
    let thread = unsafe { libc::syscall(libc::SYS_gettid) };
    LAST_THREAD.store(thread as i32, Relaxed);
    COUNT.fetch_add(1, Relaxed);
}

#[cfg(target_arch = "x86_64")]
mod registers {
    pub(super) const ARE_KNOWN: bool = true;

    /// The call that was not made is said to have failed; returns its number.
    pub(super) fn fail(context: &mut libc::ucontext_t, error: libc::c_int) -> i64 {
        let result = &mut context.uc_mcontext.gregs[libc::REG_RAX as usize];
        std::mem::replace(result, libc::greg_t::from(-error))
    }
}

#[cfg(target_arch = "aarch64")]
mod registers {
    pub(super) const ARE_KNOWN: bool = true;

    /// The call that was not made is said to have failed; returns its number.
    pub(super) fn fail(context: &mut libc::ucontext_t, error: libc::c_int) -> i64 {
        let registers = &mut context.uc_mcontext.regs;
        registers[0] = i64::from(-error) as u64;
        registers[8] as i64
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod registers {
    pub(super) const ARE_KNOWN: bool = false;

    /// Nobody comes here, since nothing is counted.
    pub(super) fn fail(_: &mut libc::ucontext_t, _: libc::c_int) -> i64 {
        0
    }
}
