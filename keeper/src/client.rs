//! weir's side.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::net::{SocketAddrUnix, connect};

use crate::wire::{receive, send, socket, trust};

/// A keeper at a socket. Each request is a connection of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keeper {
    socket: PathBuf,
    name: String,
}

impl Keeper {
    /// The one at `socket`, which keeps things for us under `name`.
    pub fn new(socket: &Path, name: &str) -> Self {
        Self { socket: socket.to_owned(), name: name.to_owned() }
    }

    /// What it has. It has it still afterwards.
    ///
    /// # Errors
    /// There is no keeper, or it says no.
    pub fn take(&self) -> io::Result<Option<Vec<OwnedFd>>> {
        let (answer, files) = self.ask("take", &[])?;
        Ok((answer == "ok").then_some(files))
    }

    /// Has it keep these instead of whatever it has.
    ///
    /// # Errors
    /// As [`Keeper::take`].
    pub fn keep(&self, files: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.ask("keep", files).map(drop)
    }

    /// Has it keep nothing any more.
    ///
    /// # Errors
    /// As [`Keeper::take`].
    pub fn forget(&self) -> io::Result<()> {
        self.ask("drop", &[]).map(drop)
    }

    fn ask(&self, word: &str, files: &[BorrowedFd<'_>]) -> io::Result<(String, Vec<OwnedFd>)> {
        let socket = socket()?;
        connect(&socket, &SocketAddrUnix::new(&self.socket)?)?;
        trust(&socket)?;
        send(&socket, &format!("{word} {}", self.name), files)?;
        let (answer, files) = receive(&socket)?;
        match answer.as_str() {
            "ok" | "none" => Ok((answer, files)),
            _ => Err(io::Error::other(answer)),
        }
    }
}
