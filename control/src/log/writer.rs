//! The thread that writes the log: the only one that may wait for whoever reads it.

use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::limit::Limit;
use super::queue::Queue;

/// Between two looks at what was left out.
const LOOK: Duration = Duration::from_secs(1);

/// Writes what comes, for ever, and does something else each second.
pub(super) fn run(queue: &Queue, limit: &Limit, out: impl Write, mut beside: impl FnMut()) {
    let mut writer = Writer::new(out);
    let mut look = Instant::now() + LOOK;
    loop {
        if let Some(line) = queue.next(LOOK)
            && !writer.line(&line)
        {
            queue.lose();
        }
        if Instant::now() >= look {
            look = Instant::now() + LOOK;
            limit.tell(Instant::now());
            beside();
        }
    }
}

/// Standard error, without the lock that others could wait for, and waited for when it does not wait by itself.
pub(super) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let stderr = io::stderr();
            match rustix::io::write(&stderr, bytes) {
                // Somebody else, with whom it is shared, has made it so.
                Err(rustix::io::Errno::AGAIN) => {
                    let mut fds = [PollFd::from_borrowed_fd(stderr.as_fd(), PollFlags::OUT)];
                    let second = Timespec { tv_sec: 1, tv_nsec: 0 };
                    let _ = poll(&mut fds, Some(&second));
                }
                done => return done.map_err(io::Error::from),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes whole lines, and says how many it could not write.
struct Writer<W> {
    out: W,
    failed: u64,
    why: String,
    /// The last thing written is a part of a line.
    is_torn: bool,
}

impl<W: Write> Writer<W> {
    fn new(out: W) -> Self {
        Self { out, failed: 0, why: String::new(), is_torn: false }
    }

    /// Whether it could.
    fn line(&mut self, line: &[u8]) -> bool {
        let tried = self.tell_failures().and_then(|()| self.write(line));
        if let Err(problem) = &tried {
            self.failed += 1;
            self.why = problem.to_string();
        }
        tried.is_ok()
    }

    fn tell_failures(&mut self) -> io::Result<()> {
        if self.is_torn {
            self.write(b"\n")?;
        }
        if self.failed > 0 {
            let (lines, why) = (super::lines(self.failed), &self.why);
            let text = format!("{lines} of the log lost here, which could not be written: {why}");
            self.write(&super::line("WARN", &text))?;
            self.failed = 0;
        }
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let is_whole = bytes.ends_with(b"\n");
        while !bytes.is_empty() {
            match self.out.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    bytes = &bytes[count..];
                    // EAL's lines may come in parts.
                    self.is_torn = is_whole && !bytes.is_empty();
                }
                Err(problem) if problem.kind() == ErrorKind::Interrupted => {}
                Err(problem) => return Err(problem),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with room for so many bytes.
    struct Disk(Vec<u8>, usize);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.1 - self.0.len());
            self.0.extend(&bytes[..count]);
            if count == 0 { Err(ErrorKind::StorageFull.into()) } else { Ok(count) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_could_not_be_written_are_said_when_it_works_again() {
        let mut writer = Writer::new(Disk(Vec::new(), 10));
        let mut tell = |line: &str, room| {
            writer.out.1 = room;
            writer.line(line.as_bytes())
        };
        assert!(tell("first\n", 10));
        assert!(!tell("second\n", 10));
        assert!(!tell("third\n", 10));
        assert!(tell("fourth\n", 1_000));
        assert!(tell("fifth\n", 1_000));
        let said = String::from_utf8(writer.out.0).unwrap();
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[..2], ["first", "seco"]);
        assert!(lines[2].contains("WARN 2 lines of the log lost here"), "{said}");
        assert_eq!(lines[3..], ["fourth", "fifth"]);
    }
}
