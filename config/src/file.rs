//! Files that somebody else writes, read without waiting for anybody, or for who writes a pipe only so long.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// For all that is written into a pipe: who writes may have to be asked for a password first.
const PIPE_TIME_MAX: Duration = Duration::from_secs(60);

/// The content of a regular file of at most `bytes_max` bytes.
///
/// Anything else is refused before it is read: a FIFO without a writer would keep its reader for ever, and a device may have no
/// end. Opening does not wait either.
///
/// # Errors
/// What the system says, and [`io::ErrorKind::InvalidInput`] or [`io::ErrorKind::FileTooLarge`] with a phrase such as "it is a
/// FIFO, not a regular file".
pub fn read_file(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let (file, found) = open(path)?;
    match kind(found) {
        Some(kind) => Err(not_regular(kind)),
        None => read_bounded(file, bytes_max),
    }
}

/// As [`read_file`], for who has nothing else to do: takes a pipe as well, such as a shell's `<(...)`, which has to come to its end within
/// a minute.
///
/// # Errors
/// As [`read_file`], and [`io::ErrorKind::TimedOut`].
pub(crate) fn read_any(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    read_any_within(path, bytes_max, PIPE_TIME_MAX)
}

fn read_any_within(path: &Path, bytes_max: u64, limit: Duration) -> io::Result<Vec<u8>> {
    let (file, found) = open(path)?;
    match kind(found) {
        Some(_) if found.is_fifo() => {
            read_bounded(Pipe { file, limit, until: Instant::now() + limit }, bytes_max)
        }
        Some(kind) => Err(not_regular(kind)),
        None => read_bounded(file, bytes_max),
    }
}

fn open(path: &Path) -> io::Result<(File, FileType)> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    // A socket can't be opened at all, and says so in other words.
    let file = file.map_err(|problem| match path.metadata().map(|found| kind(found.file_type())) {
        Ok(Some(kind)) => not_regular(kind),
        _ => problem,
    })?;
    let found = file.metadata()?.file_type();
    Ok((file, found))
}

/// A pipe that does not block, waited for.
struct Pipe {
    file: File,
    limit: Duration,
    until: Instant,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            let left = Timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos().into() };
            // One that nobody has opened for writing yet is silent, though a read of it would find its end.
            match poll(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(&left)) {
                Ok(0) => {
                    let limit = self.limit.as_secs_f64();
                    let text =
                        format!("it is a FIFO, and its writer did not come to an end within {limit} s");
                    return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                }
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(problem) => return Err(problem.into()),
            }
            match self.file.read(buffer) {
                Err(problem) if problem.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }
}

/// All of it, unless that is more than `bytes_max` bytes.
fn read_bounded(file: impl Read, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        let size = match bytes_max {
            0..1024 => format!("{bytes_max} bytes"),
            1024..1_048_576 => format!("{} KiB", bytes_max >> 10),
            _ => format!("{} MiB", bytes_max >> 20),
        };
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {size}")));
    }
    Ok(bytes)
}

fn not_regular(kind: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("it is {kind}, not a regular file"))
}

/// What it is, if it is no regular file.
fn kind(found: FileType) -> Option<&'static str> {
    Some(match found {
        it if it.is_file() => return None,
        it if it.is_dir() => "a directory",
        it if it.is_fifo() => "a FIFO",
        it if it.is_socket() => "a socket",
        _ => "a device",
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixListener;
    use std::process::Command;
    use std::thread;

    use super::*;

    #[test]
    fn only_regular_files_within_the_limit_are_read_and_nothing_is_waited_for() {
        let dir = std::env::temp_dir().join(format!("weir-file-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let [fifo, socket, plain] = ["fifo", "socket", "plain"].map(|name| dir.join(name));
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let _listener = UnixListener::bind(&socket).unwrap();
        std::fs::write(&plain, "12345678").unwrap();
        let said = |path: &Path| read_file(path, 7).unwrap_err().to_string();
        let all = [
            said(&fifo),
            said(&socket),
            said(&dir),
            said(Path::new("/dev/zero")),
            said(&plain),
            said(&dir.join("none")),
        ];
        let read = read_file(&plain, 8);
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(
            all,
            [
                "it is a FIFO, not a regular file",
                "it is a socket, not a regular file",
                "it is a directory, not a regular file",
                "it is a device, not a regular file",
                "it is larger than 7 bytes",
                "No such file or directory (os error 2)",
            ]
        );
        assert_eq!(read.unwrap(), b"12345678");
    }

    #[test]
    fn a_pipe_is_read_to_its_end_unless_that_does_not_come() {
        let fifo = std::env::temp_dir().join(format!("weir-pipe-{}", std::process::id()));
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let soon = Duration::from_millis(20);
        let said = |problem: io::Error| (problem.kind(), problem.to_string());
        let late = "it is a FIFO, and its writer did not come to an end within 0.02 s".to_owned();
        assert_eq!(
            said(read_any_within(&fifo, 7, soon).unwrap_err()),
            (io::ErrorKind::TimedOut, late.clone()),
            "nobody writes it"
        );
        let long = Duration::from_secs(60);
        // Opens it when somebody reads it, and writes in two pieces.
        let read_while_written = |text: &'static str| {
            let path = fifo.clone();
            let writing = thread::spawn(move || {
                let mut file = OpenOptions::new().write(true).open(path).unwrap();
                [&text[..1], &text[1..]].iter().for_each(|piece| file.write_all(piece.as_bytes()).unwrap());
            });
            let read = read_any_within(&fifo, 7, long);
            writing.join().unwrap();
            read
        };
        assert_eq!(read_while_written("1234567").unwrap(), b"1234567");
        assert_eq!(said(read_while_written("12345678").unwrap_err()).1, "it is larger than 7 bytes");
        let mut held = OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
        held.write_all(b"1234567").unwrap();
        assert_eq!(said(read_any_within(&fifo, 7, soon).unwrap_err()).1, late, "it is not closed");
        drop(held);
        std::fs::remove_file(&fifo).unwrap();
        let device = read_any(Path::new("/dev/zero"), 7).unwrap_err().to_string();
        assert_eq!(device, "it is a device, not a regular file");
    }
}
