//! The FIFO that VRRP's changes of state are written into. Opening one may take as long as its file system likes, so another thread does
//! it. It is held open for reading as well: without a reader, lines wait in the pipe, which holds 64 KiB of them, and what finds no room is
//! lost. Writing never waits.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::io::Errno;
use tokio::task::{JoinError, JoinSet, spawn_blocking};
use tracing::{info, warn};

use crate::figures::Figures;

/// Lines that wait for the FIFO to be opened.
const WAITING_MAX: usize = 1024;

pub(super) struct Fifo {
    path: Option<PathBuf>,
    file: Option<File>,
    waiting: VecDeque<String>,
    /// It is to be opened, for the first time or again.
    is_wanted: bool,
    opening: JoinSet<(PathBuf, io::Result<File>)>,
    /// That it is not written to was said.
    is_told: bool,
    figures: Arc<Figures>,
}

impl Fifo {
    pub(super) fn new(path: Option<PathBuf>, figures: Arc<Figures>) -> Self {
        let is_wanted = path.is_some();
        let (waiting, opening) = (VecDeque::new(), JoinSet::new());
        Self { path, file: None, waiting, is_wanted, opening, is_told: false, figures }
    }

    /// Another one, or the same again: somebody may have made it anew.
    pub(super) fn configure(&mut self, path: Option<PathBuf>) {
        if path != self.path {
            self.file = None;
            self.lose_waiting();
        }
        self.is_wanted = path.is_some();
        self.path = path;
        self.is_told = false;
    }

    /// Begins to open it if that is wanted. One attempt at a time.
    pub(super) fn open(&mut self) {
        if self.is_wanted
            && self.opening.is_empty()
            && let Some(path) = self.path.clone()
        {
            self.is_wanted = false;
            self.opening.spawn(async move {
                let at = path.clone();
                let opened = spawn_blocking(move || open(&at)).await;
                (path, opened.unwrap_or_else(|problem: JoinError| Err(io::Error::other(problem))))
            });
        }
    }

    /// Waits until it was opened, or can't be. Never comes while nobody tries. May be dropped half-way.
    pub(super) async fn next(&mut self) {
        let Some(Ok((path, opened))) = self.opening.join_next().await else {
            return std::future::pending().await;
        };
        if self.path.as_ref() != Some(&path) {
            return;
        }
        match opened {
            Ok(file) => {
                self.file = Some(file);
                for line in std::mem::take(&mut self.waiting) {
                    self.write_now(&line);
                }
            }
            Err(problem) => {
                self.say(&format!("it can't be opened: {problem}"));
                if self.file.is_none() {
                    self.lose_waiting();
                }
            }
        }
    }

    /// Writes a line, as soon as there is something to write to.
    pub(super) fn write(&mut self, line: String) {
        if self.path.is_none() {
            return;
        }
        if self.file.is_some() {
            return self.write_now(&line);
        }
        // Whoever was to make it may have by now.
        self.is_wanted = true;
        if self.waiting.len() >= WAITING_MAX {
            self.figures.fifo_lost.add_one();
            return;
        }
        self.waiting.push_back(line);
    }

    fn write_now(&mut self, line: &str) {
        let Some(file) = &mut self.file else { return };
        // A line is shorter than what a pipe takes whole or not at all.
        match file.write_all(line.as_bytes()) {
            Ok(()) => {
                self.figures.fifo_written.add_one();
                if std::mem::take(&mut self.is_told) {
                    info!("VRRP: vrrp_notify_fifo takes lines again");
                }
            }
            Err(problem) => {
                self.figures.fifo_lost.add_one();
                let why = match problem.kind() {
                    io::ErrorKind::WouldBlock => "nobody reads it, and it is full".to_owned(),
                    _ => problem.to_string(),
                };
                self.say(&why);
            }
        }
    }

    /// Says once that lines are lost.
    fn say(&mut self, why: &str) {
        if !std::mem::replace(&mut self.is_told, true) {
            let path = self.path.as_deref().unwrap_or(Path::new(""));
            warn!(fifo = %path.display(), "VRRP: lines for vrrp_notify_fifo are lost: {why}");
        }
    }

    fn lose_waiting(&mut self) {
        self.waiting.drain(..).for_each(|_| self.figures.fifo_lost.add_one());
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// Opens a FIFO, which is made if nothing is there. Something else is left alone: a device would take what is written for its own.
fn open(path: &Path) -> io::Result<File> {
    match mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(problem) => return Err(problem.into()),
    }
    let other = || io::Error::new(io::ErrorKind::InvalidInput, "it is no FIFO");
    if !path.symlink_metadata()?.file_type().is_fifo() {
        return Err(other());
    }
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    if file.metadata()?.file_type().is_fifo() { Ok(file) } else { Err(other()) }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[tokio::test]
    async fn lines_wait_in_the_pipe_and_what_finds_no_room_is_counted() {
        let path = std::env::temp_dir().join(format!("weir-fifo-{}", std::process::id()));
        let figures = Arc::new(Figures::new());
        std::fs::write(&path, "no FIFO").unwrap();
        let mut fifo = Fifo::new(Some(path.clone()), figures.clone());
        let counts = || (figures.fifo_written.get(), figures.fifo_lost.get());
        fifo.write("first\n".to_owned());
        fifo.open();
        fifo.next().await;
        assert_eq!((counts(), std::fs::read(&path).unwrap()), ((0, 1), b"no FIFO".to_vec()));
        std::fs::remove_file(&path).unwrap();
        // The next line has it tried again, and it is made.
        fifo.write("second\n".to_owned());
        fifo.open();
        fifo.next().await;
        assert_eq!((counts(), fifo.is_idle()), ((1, 1), true));
        let line = format!("{}\n", "x".repeat(63));
        (0..2000).for_each(|_| fifo.write(line.clone()));
        let (written, lost) = counts();
        assert!((1 + 65536 / 64 - 64..1100).contains(&written), "{written}");
        assert_eq!(written + lost, 2002);
        // The same one again: what is in it stays.
        fifo.configure(Some(path.clone()));
        fifo.open();
        fifo.next().await;
        let mut reader = open(&path).unwrap();
        let mut read = [0; 7];
        reader.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"second\n");
        fifo.configure(None);
        fifo.write("nobody wants it\n".to_owned());
        assert_eq!((counts(), fifo.is_idle()), ((written, lost), true));
        std::fs::remove_file(&path).unwrap();
    }
}
