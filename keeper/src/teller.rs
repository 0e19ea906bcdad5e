//! Lines for whoever reads them. Nobody has to: what finds no room is lost and counted, and nothing waits for it.

use std::cell::Cell;
use std::io::{self, Write};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

/// Lines that wait to be written.
const WAITING_MAX: usize = 64;

/// See the module.
pub struct Teller {
    lines: SyncSender<String>,
    lost: Cell<u64>,
}

impl Teller {
    /// Writes to `to`, on a thread of its own.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn new(mut to: impl Write + Send + 'static) -> io::Result<Self> {
        let (lines, waiting) = sync_channel::<String>(WAITING_MAX);
        // A line that can't be written is lost as one that found no room.
        let write = move || waiting.into_iter().for_each(|line| _ = to.write_all(line.as_bytes()));
        thread::Builder::new().name("keeper-log".to_owned()).spawn(write)?;
        Ok(Self { lines, lost: Cell::new(0) })
    }

    /// One more line, with how many were lost before it.
    pub fn tell(&self, line: &str) {
        let lost = self.lost.take();
        let line = match lost {
            0 => format!("{line}\n"),
            _ => format!("{line} ({lost} lines before this one were lost)\n"),
        };
        if self.lines.try_send(line).is_err() {
            self.lost.set(lost + 1);
        }
    }
}
