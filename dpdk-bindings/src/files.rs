//! Open files of the process.

use std::io;

/// The first descriptor that is not standard input, output or error.
const FIRST: libc::c_uint = 3;

/// Marks every file that is open now so that programs started by this process do not get it. Drivers of DPDK open packet
/// sockets and devices without that mark, and a program of another user must not read the network through them.
///
/// To be called again when more was opened by libdpdk; the standard library's own files have the mark from the start.
///
/// # Errors
/// What the kernel says, such as `ENOSYS` and `EINVAL` of one before 5.11.
pub fn close_on_exec() -> io::Result<()> {
    // SAFETY: with this flag nothing is closed. What changes is a mark on the process's own descriptors that is looked at by
    // `execve` alone, so no owner of a descriptor can notice.
    let done =
        unsafe { libc::close_range(FIRST, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::process::Command;

    #[test]
    fn programs_get_no_file_that_was_open() {
        let file = std::fs::File::open("/proc/self/status").unwrap();
        // SAFETY: clears the mark of a descriptor that `file` holds open; nothing is closed or read by it.
        let cleared = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) };
        assert_eq!(cleared, 0);
        let sees_it = || {
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            Command::new("test").args(["-e", &path]).status().unwrap().success()
        };
        assert!(sees_it());
        super::close_on_exec().unwrap();
        assert!(!sees_it());
    }
}
