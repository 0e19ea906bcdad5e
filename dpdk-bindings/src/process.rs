//! Processes: the end of this one, and one that reads a file apart from it.

use std::ffi::{CStr, CString};
use std::io::{self, PipeReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Where the reader writes. Nothing else is open there but the file.
const OUT: libc::c_int = 3;
/// How long the end of a reader that was killed is waited for. One that the kernel does not let go ends when it does.
const END_MAX: Duration = Duration::from_millis(50);
const END_LOOK: Duration = Duration::from_millis(1);

/// Ends the process at once, as a crash would: nothing is given back, no destructor of Rust or C runs. For when a thread that can't be
/// stopped still uses what would be given back.
pub fn end_now(status: u8) -> ! {
    // SAFETY: does not return, and runs nothing of this process.
    unsafe { libc::_exit(status.into()) }
}

/// What is in a regular file, at most so many octets of it, read by a process of its own: a thread that waits for a file system that does not
/// answer can't change its account, and all others would wait for it when they do.
///
/// # Errors
/// What the kernel says of the file; `TimedOut` after `patience`.
pub fn read_apart(path: &Path, most: usize, patience: Duration) -> io::Result<Vec<u8>> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let (here, there) = io::pipe()?;
    // SAFETY: the child calls what may be called behind a fork of one of several threads, and nothing else, and ends by that.
    let child = unsafe { libc::fork() };
    match child {
        ..0 => return Err(io::Error::last_os_error()),
        // SAFETY: it is the child, and this thread its only one.
        0 => unsafe { read_and_end(&path, there.as_raw_fd(), most) },
        _ => drop(there),
    }
    let found = receive(here, most, Instant::now() + patience);
    if found.is_err() {
        // SAFETY: a child that nobody has waited for has its number still.
        unsafe { libc::kill(child, libc::SIGKILL) };
    }
    match (end_of(child), found) {
        (Some(0), found) => found,
        (_, Err(problem)) => Err(problem),
        (Some(code), Ok(_)) => Err(io::Error::from_raw_os_error(code)),
        (None, Ok(_)) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// What comes until the other end is closed.
fn receive(mut pipe: PipeReader, most: usize, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut found = Vec::new();
    let mut part = [0; 4096];
    while found.len() < most {
        let left = deadline.saturating_duration_since(Instant::now()).as_millis();
        let mut look = libc::pollfd { fd: pipe.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: looks at one descriptor, which is open, and writes into `look`.
        match unsafe { libc::poll(&raw mut look, 1, left.try_into().unwrap_or(libc::c_int::MAX)) } {
            0 => return Err(io::ErrorKind::TimedOut.into()),
            1.. => match pipe.read(&mut part)? {
                0 => break,
                count => found.extend_from_slice(&part[..count]),
            },
            _ => match io::Error::last_os_error() {
                problem if problem.kind() == io::ErrorKind::Interrupted => {}
                problem => return Err(problem),
            },
        }
    }
    found.truncate(most);
    Ok(found)
}

/// With what a child ends that is about to; `None`: it does not, or was killed.
fn end_of(child: libc::pid_t) -> Option<i32> {
    let begun = Instant::now();
    loop {
        let mut status = 0;
        // SAFETY: waits for nothing and writes into `status`.
        let done = unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) };
        match done {
            0 if begun.elapsed() < END_MAX => sleep(END_LOOK),
            _ if done == child && libc::WIFEXITED(status) => return Some(libc::WEXITSTATUS(status)),
            _ => return None,
        }
    }
}

/// Writes what is in the file into `to` and ends, with the kernel's number of what is wrong.
///
/// # Safety
/// The calling process is a child of [`read_apart`]'s.
unsafe fn read_and_end(path: &CStr, to: libc::c_int, most: usize) -> ! {
    // SAFETY: no call takes memory or a lock of this process. Nobody here uses the files that are closed: what holds a lock or a socket must
    // not outlive the parent in this process.
    unsafe {
        if to != OUT && libc::dup2(to, OUT) < 0 {
            libc::_exit(last());
        }
        for file in 0..OUT {
            libc::close(file);
        }
        if libc::close_range(OUT as libc::c_uint + 1, libc::c_uint::MAX, 0) < 0 {
            libc::_exit(last());
        }
        let file = libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let mut stat = std::mem::MaybeUninit::<libc::stat>::zeroed();
        if file < 0 || libc::fstat(file, stat.as_mut_ptr()) < 0 {
            libc::_exit(last());
        }
        if stat.assume_init().st_mode & libc::S_IFMT != libc::S_IFREG {
            libc::_exit(libc::EINVAL);
        }
        let mut left = most;
        let mut part = [0_u8; 4096];
        while left > 0 {
            let count = libc::read(file, part.as_mut_ptr().cast(), part.len().min(left));
            let Ok(count) = usize::try_from(count) else { libc::_exit(last()) };
            if count == 0 {
                break;
            }
            left -= count;
            let mut written = 0;
            while written < count {
                let more = libc::write(OUT, part.as_ptr().add(written).cast(), count - written);
                let Ok(more) = usize::try_from(more) else { libc::_exit(last()) };
                written += more;
            }
        }
        libc::_exit(0)
    }
}

fn last() -> libc::c_int {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn a_file_is_read_as_far_as_it_may_be() {
        let path = std::env::temp_dir().join(format!("weir-apart-{}", std::process::id()));
        let text: Vec<u8> = (0..100_000).map(|at| (at % 251) as u8).collect();
        fs::write(&path, &text).unwrap();
        assert_eq!(read_apart(&path, 1 << 20, PATIENCE).unwrap(), text);
        assert_eq!(read_apart(&path, 70_001, PATIENCE).unwrap(), text[..70_001]);
        assert_eq!(read_apart(&path, 0, PATIENCE).unwrap(), []);
        fs::remove_file(&path).unwrap();
        assert_eq!(read_apart(&path, 9, PATIENCE).unwrap_err().kind(), ErrorKind::NotFound);
        let folder = std::env::temp_dir();
        assert_eq!(read_apart(&folder, 9, PATIENCE).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn a_reader_that_gets_nothing_is_given_up() {
        let (here, there) = io::pipe().unwrap();
        let late = receive(here, 9, Instant::now() + Duration::from_millis(1));
        assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
        drop(there);
    }
}
