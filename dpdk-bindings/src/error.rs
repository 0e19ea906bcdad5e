//! Error numbers as DPDK reports them.
//!
//! DPDK returns causes in two ways: as a negative return value, or as -1 with `rte_errno` set for the thread. Both
//! become an [`Errno`] on the spot; what it means for an operation is said by that operation's own error enum.

use std::ffi::{CStr, c_int};
use std::fmt;

use dpdk_sys as sys;

/// An error number of the C library or of DPDK (`rte_errno.h` adds a few above 1000). Always positive.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(c_int);

impl Errno {
    /// From a return value whose sign says nothing: DPDK returns `-EINVAL`, `rte_errno` holds `EINVAL`.
    pub(crate) fn new(code: c_int) -> Self {
        Self(code.saturating_abs())
    }

    /// `rte_errno` of the calling thread, as the last failed call left it.
    pub(crate) fn last() -> Self {
        // SAFETY: reads a thread-local integer of libdpdk; nothing is required of the caller.
        Self::new(unsafe { sys::weir_errno() })
    }

    /// `Ok` for a return value of zero or above, the cause otherwise.
    pub(crate) fn check(result: c_int) -> Result<c_int, Self> {
        if result < 0 { Err(Self::new(result)) } else { Ok(result) }
    }

    /// The number, comparable with the constants of the `libc` crate.
    pub fn code(self) -> i32 {
        self.0
    }

    /// Whether the device or driver has no such operation, as opposed to one that failed.
    pub fn is_unsupported(self) -> bool {
        matches!(self.0, libc::ENOTSUP | libc::ENOSYS)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: accepts any number; returns a NUL-terminated string in a buffer of this thread, which is read before
        // this thread can call the function again.
        let text = unsafe { CStr::from_ptr(sys::rte_strerror(self.0)) };
        write!(f, "{} (error {})", text.to_string_lossy(), self.0)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Errno({}: {self})", self.0)
    }
}

impl std::error::Error for Errno {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_signs_are_the_same_error() {
        assert_eq!(Errno::new(-libc::EINVAL), Errno::new(libc::EINVAL));
        assert_eq!(Errno::check(-libc::ENOMEM), Err(Errno::new(libc::ENOMEM)));
        assert_eq!(Errno::check(3), Ok(3));
    }

    #[test]
    fn display_names_the_cause_and_the_number() {
        assert_eq!(Errno::new(libc::EINVAL).to_string(), "Invalid argument (error 22)");
    }

    #[test]
    fn an_unknown_number_is_still_printed() {
        assert!(Errno::new(987_654).to_string().ends_with("(error 987654)"));
    }
}
