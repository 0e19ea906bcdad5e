//! What EAL and the drivers have to say.
//!
//! By itself EAL writes to standard error and to syslog, and waits for whoever reads those. Here it is handed to a function
//! that does not wait.

use std::ffi::{c_char, c_void};
use std::panic::catch_unwind;
use std::sync::OnceLock;

use dpdk_sys as sys;

/// Takes a text, most often one line, and its level: 1 is the worst, 8 is debug.
pub type Sink = fn(&[u8], u32);

static SINK: OnceLock<Sink> = OnceLock::new();

/// Hands over what EAL's log gets from now on, on any thread; to be called before [`Eal::init`](crate::Eal::init), and once. Where the
/// C library can't do it, EAL's log stays as it is.
pub fn send_to(sink: Sink) {
    if SINK.set(sink).is_ok() {
        // SAFETY: `take` has the signature that the function's type says, and may be called on any thread and for ever.
        unsafe { sys::weir_log_open(Some(take)) };
    }
}

/// Hands over what is written to the C library's `stdout` and `stderr` from now on as well, as drivers do here and there. Without
/// [`send_to`] nothing changes.
pub fn take_standard_streams() {
    // SAFETY: assigns two variables of the C library that it reads as a whole, to a stream that is never closed.
    unsafe { sys::weir_log_take_streams() };
}

/// What the C library calls to write.
///
/// # Safety
/// `text` points to `size` octets.
unsafe extern "C" fn take(_: *mut c_void, text: *const c_char, size: usize) -> isize {
    if let Some(sink) = SINK.get()
        && size > 0
    {
        // SAFETY: the caller says so; the octets are looked at before this function returns.
        let text = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), size) };
        // SAFETY: reads a number that EAL keeps for each lcore, or for threads that are none.
        let level = unsafe { sys::rte_log_cur_msg_loglevel() };
        // Unwinding must not reach C, and a line that is lost is no reason to fail.
        let _ = catch_unwind(|| sink(text, u32::try_from(level).unwrap_or(0)));
    }
    // The C library would only try again.
    size as isize
}
