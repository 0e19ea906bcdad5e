//! Open files of the process.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

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

/// The files that systemd has passed to this process (`LISTEN_FDS`), with their names. They are given out once.
pub fn passed_by_systemd() -> Vec<(String, OwnedFd)> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let number = |name: &str| std::env::var(name).ok()?.parse::<libc::c_int>().ok();
    // They may be another process's, that has left its environment to this one.
    let is_ours = number("LISTEN_PID").is_some_and(|pid| i64::from(pid) == i64::from(std::process::id()));
    let count = number("LISTEN_FDS").unwrap_or(0).clamp(0, 1024);
    if !is_ours || TAKEN.swap(true, Relaxed) {
        return Vec::new();
    }
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names = names.split(':').map(str::to_owned).chain(std::iter::repeat(String::new()));
    let first = FIRST as libc::c_int;
    // SAFETY: F_GETFD takes nothing, and fails for a descriptor that is not open.
    let is_open = |file: &libc::c_int| unsafe { libc::fcntl(*file, libc::F_GETFD) } >= 0;
    let open = (first..first + count).zip(names).filter(|(file, _)| is_open(file));
    // SAFETY: each is open. systemd has opened them for this process and says so by its number; nothing else in it knows of them,
    // and they are taken once.
    open.map(|(file, name)| (name, unsafe { OwnedFd::from_raw_fd(file) })).collect()
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
