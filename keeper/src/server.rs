//! The keeper's side.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketAddrUnix, SocketFlags, accept_with, bind, connect};

use crate::wire::{patient_socket, receive, send, socket, trust};

/// Names that things are kept under at most.
const NAMES_MAX: usize = 64;
/// Between two tries when the machine can't give what one takes.
const PAUSE: Duration = Duration::from_millis(200);
/// Connections that wait.
const BACKLOG: i32 = 16;

/// What is kept, by name.
#[derive(Default)]
pub struct Shelf {
    kept: HashMap<String, Vec<OwnedFd>>,
}

impl Shelf {
    /// Does what a request says: the answer, and whether the files of its name go with it.
    fn answer(&mut self, request: &str, files: Vec<OwnedFd>) -> (&'static str, &[OwnedFd]) {
        let Some((word, name)) = request.split_once(' ').filter(|(_, name)| !name.is_empty()) else {
            return ("a request is a word and a name", &[]);
        };
        match word {
            "keep" if files.is_empty() => ("nothing to keep", &[]),
            "keep" if self.kept.len() >= NAMES_MAX && !self.kept.contains_key(name) => {
                ("too many names", &[])
            }
            "keep" => {
                self.kept.insert(name.to_owned(), files);
                ("ok", &[])
            }
            "take" => self.kept.get(name).map_or(("none", &[]), |files| ("ok", files)),
            "drop" => (if self.kept.remove(name).is_some() { "ok" } else { "none" }, &[]),
            _ => ("unknown request", &[]),
        }
    }

    fn attend(&mut self, socket: &OwnedFd) -> io::Result<()> {
        trust(socket)?;
        let (request, files) = receive(socket)?;
        let (answer, files) = self.answer(&request, files);
        let files: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
        send(socket, answer, &files)
    }
}

/// Listens at `path`, for its own user and root alone.
///
/// # Errors
/// Somebody else does, or the path can't be had.
pub fn listen(path: &Path) -> io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let probe = socket()?;
    if connect(&probe, &address).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another keeper listens there"));
    }
    match std::fs::remove_file(path) {
        Err(problem) if problem.kind() != io::ErrorKind::NotFound => return Err(problem),
        _ => {}
    }
    let listener = patient_socket()?;
    let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let bound = bind(&listener, &address);
    rustix::process::umask(mask);
    bound?;
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

/// Serves whoever comes, one after the other. `complain` is told of those that it could not.
///
/// # Errors
/// The socket is no more.
pub fn serve(listener: &OwnedFd, shelf: &mut Shelf, complain: impl Fn(&io::Error)) -> io::Result<()> {
    loop {
        match accept_with(listener, SocketFlags::CLOEXEC) {
            Ok(socket) => {
                if let Err(problem) = shelf.attend(&socket) {
                    complain(&problem);
                }
            }
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(problem @ (Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP)) => {
                return Err(problem.into());
            }
            // The machine lacks something at the moment, such as descriptors. What is kept must not end for that.
            Err(problem) => {
                complain(&problem.into());
                std::thread::sleep(PAUSE);
            }
        }
    }
}
