//! Who keeps memory while weir is away: systemd's store for files, or `weir-keeper`.

use std::env;
use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr};
use tracing::{debug, warn};
use weir_config::model::Config;
use weir_keeper::{Keeper, SOCKET};

/// What the two files are called: the book and the tables.
pub(super) const NAMES: [&str; 2] = ["weir-book", "weir-tables"];

/// How long systemd may take to listen.
const PATIENCE: Duration = Duration::from_secs(2);

/// See the module.
pub(super) enum Holder {
    Systemd,
    Keeper(Keeper),
}

impl Holder {
    /// The one that the file names; else systemd, if it runs this process; else a keeper where it usually is.
    pub(super) fn find(config: &Config) -> Option<Self> {
        // Several processes of weir may share a keeper, but not a control socket.
        let name = config.control.socket.display().to_string();
        if let Some(socket) = &config.connections.keeper {
            return Some(Self::Keeper(Keeper::new(socket, &name)));
        }
        if notify_socket().is_some() {
            return Some(Self::Systemd);
        }
        let keeper = Keeper::new(Path::new(SOCKET), &name);
        match keeper.take() {
            Ok(_) => Some(Self::Keeper(keeper)),
            Err(problem) => {
                warn!(
                    "connections end with this process: it is not run by systemd, and weir-keeper at {SOCKET} does not \
                     answer: {problem}"
                );
                None
            }
        }
    }

    /// What it is called.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::Keeper(_) => "weir-keeper",
        }
    }

    /// What it has; systemd has passed it.
    pub(super) fn left(&self, passed: Vec<(String, OwnedFd)>) -> Option<[OwnedFd; 2]> {
        match self {
            Self::Systemd => {
                let mut passed = passed;
                let mut take = |name: &str| {
                    let at = passed.iter().position(|(its, _)| its == name)?;
                    Some(passed.swap_remove(at).1)
                };
                Some([take(NAMES[0])?, take(NAMES[1])?])
            }
            Self::Keeper(keeper) => match keeper.take() {
                Ok(files) => <[OwnedFd; 2]>::try_from(files?).ok(),
                Err(problem) => {
                    warn!("no connection is taken over: weir-keeper does not answer: {problem}");
                    None
                }
            },
        }
    }

    /// Has it keep these and nothing else of ours.
    pub(super) fn keep(&self, files: &[BorrowedFd<'_>; 2]) -> io::Result<()> {
        match self {
            Self::Systemd => {
                forget_in_systemd();
                NAMES.into_iter().zip(files).try_for_each(|(name, file)| {
                    tell_systemd(&format!("FDSTORE=1\nFDNAME={name}"), Some(*file))
                })
            }
            Self::Keeper(keeper) => keeper.keep(files),
        }
    }

    /// Has it keep nothing of ours.
    pub(super) fn forget(&self) {
        match self {
            Self::Systemd => forget_in_systemd(),
            Self::Keeper(keeper) => {
                if let Err(problem) = keeper.forget() {
                    debug!("weir-keeper keeps what it has: {problem}");
                }
            }
        }
    }
}

/// Has systemd keep nothing of ours.
pub(super) fn forget_in_systemd() {
    for name in NAMES {
        if let Err(problem) = tell_systemd(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), None) {
            debug!("systemd is not told: {problem}");
        }
    }
}

fn notify_socket() -> Option<OsString> {
    env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty())
}

fn tell_systemd(text: &str, file: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let path = notify_socket().ok_or(io::ErrorKind::NotFound)?;
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name)?,
        path => SocketAddrUnix::new(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    // It may have much to do, or hang.
    socket.set_write_timeout(Some(PATIENCE))?;
    let files: Vec<BorrowedFd<'_>> = file.into_iter().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() {
        beside.push(SendAncillaryMessage::ScmRights(&files));
    }
    sendmsg_addr(&socket, &address, &[IoSlice::new(text.as_bytes())], &mut beside, SendFlags::NOSIGNAL)?;
    Ok(())
}
