//! Who keeps memory and host interfaces while weir is away: systemd's store for files, or `weir-keeper`.

use std::env;
use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr};
use tracing::{debug, warn};
use weir_config::model::Config;
use weir_keeper::{Keeper, SOCKET};

/// What the two files are called: the book and the tables.
pub(super) const NAMES: [&str; 2] = ["weir-book", "weir-tables"];

/// What the files of host interfaces are called, all of them.
const TAP: &str = "weir-tap";

/// How long systemd may take to listen.
const PATIENCE: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Clone)]
pub(super) enum Holder {
    Systemd,
    /// For the tables, and for host interfaces.
    Keeper(Keeper, Arc<TapShelf>),
}

impl Holder {
    /// The one that the file names; else systemd, if it runs this process; else a keeper where it usually is.
    pub(super) fn find(config: &Config) -> Option<Self> {
        let at = |socket: &Path| {
            let [tables, taps] = keepers(config, socket);
            Self::Keeper(tables, Arc::new(TapShelf::new(taps)))
        };
        if let Some(socket) = &config.connections.keeper {
            return Some(at(socket));
        }
        if notify_socket().is_some() {
            return Some(Self::Systemd);
        }
        let [tables, _] = keepers(config, Path::new(SOCKET));
        match tables.take() {
            Ok(_) => Some(at(Path::new(SOCKET))),
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
            Self::Keeper(..) => "weir-keeper",
        }
    }

    /// Whether it tells weirs apart by their control sockets. To be asked by one that has none, which is said.
    pub(super) fn knows_by_socket(&self) -> bool {
        let is_keeper = matches!(self, Self::Keeper(..));
        if is_keeper {
            warn!(
                "connections end with this process: weir-keeper tells weirs apart by their control sockets, and this one has \
                 none; write `socket` in [control]"
            );
        }
        is_keeper
    }

    /// What it has; systemd has passed it.
    pub(super) fn left(&self, passed: &mut Vec<(String, OwnedFd)>) -> Option<[OwnedFd; 2]> {
        match self {
            Self::Systemd => {
                let mut take = |name: &str| {
                    let at = passed.iter().position(|(its, _)| its == name)?;
                    Some(passed.swap_remove(at).1)
                };
                Some([take(NAMES[0])?, take(NAMES[1])?])
            }
            Self::Keeper(keeper, _) => match keeper.take() {
                Ok(files) => <[OwnedFd; 2]>::try_from(files?).ok(),
                Err(problem) => {
                    warn!("no connection is taken over: weir-keeper does not answer: {problem}");
                    None
                }
            },
        }
    }

    /// The host interfaces that it has; systemd has passed them.
    pub(super) fn left_taps(&self, passed: Vec<(String, OwnedFd)>) -> Vec<OwnedFd> {
        match self {
            Self::Systemd => {
                passed.into_iter().filter(|(name, _)| name == TAP).map(|(_, file)| file).collect()
            }
            // That it does not answer was said of the tables.
            Self::Keeper(_, taps) => taps.keeper.take().ok().flatten().unwrap_or_default(),
        }
    }

    /// Has it keep these host interfaces and no others.
    pub(super) fn keep_taps(&self, files: &[BorrowedFd<'_>]) -> io::Result<()> {
        match self {
            Self::Systemd => {
                tell_systemd(&format!("FDSTOREREMOVE=1\nFDNAME={TAP}"), None)?;
                let keep =
                    |file: &BorrowedFd<'_>| tell_systemd(&format!("FDSTORE=1\nFDNAME={TAP}"), Some(*file));
                files.iter().try_for_each(keep)
            }
            Self::Keeper(_, taps) => taps.keep(files),
        }
    }

    /// Has it keep these tables and no others of ours.
    pub(super) fn keep(&self, files: &[BorrowedFd<'_>; 2]) -> io::Result<()> {
        match self {
            Self::Systemd => {
                forget_in_systemd(&NAMES);
                NAMES.into_iter().zip(files).try_for_each(|(name, file)| {
                    tell_systemd(&format!("FDSTORE=1\nFDNAME={name}"), Some(*file))
                })
            }
            Self::Keeper(keeper, _) => keeper.keep(files),
        }
    }

    /// Has it keep no tables of ours.
    pub(super) fn forget(&self) {
        match self {
            Self::Systemd => forget_in_systemd(&NAMES),
            Self::Keeper(keeper, _) => {
                if let Err(problem) = keeper.forget() {
                    debug!("weir-keeper keeps what it has: {problem}");
                }
            }
        }
    }
}

/// The host interfaces that a keeper is to have. One that begins anew has to be told again, so they are held here as well.
pub(super) struct TapShelf {
    keeper: Keeper,
    held: Mutex<HeldTaps>,
}

#[derive(Default)]
struct HeldTaps {
    files: Vec<OwnedFd>,
    /// The keeper has not heard of them.
    is_news: bool,
}

impl TapShelf {
    pub(super) fn new(keeper: Keeper) -> Self {
        Self { keeper, held: Mutex::default() }
    }

    /// It is to have these and no others.
    pub(super) fn keep(&self, files: &[BorrowedFd<'_>]) -> io::Result<()> {
        let own = files.iter().map(BorrowedFd::try_clone_to_owned).collect::<io::Result<_>>()?;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        *held = HeldTaps { files: own, is_news: true };
        held.tell(&self.keeper)
    }

    /// How many it is to have.
    pub(super) fn len(&self) -> usize {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).files.len()
    }

    /// Tells it what it does not know: all if it has begun anew.
    pub(super) fn look(&self, has_begun_anew: bool) -> io::Result<()> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.is_news |= has_begun_anew;
        held.tell(&self.keeper)
    }
}

impl HeldTaps {
    fn tell(&mut self, keeper: &Keeper) -> io::Result<()> {
        if !self.is_news {
            return Ok(());
        }
        let files: Vec<BorrowedFd<'_>> = self.files.iter().map(AsFd::as_fd).collect();
        match files.is_empty() {
            true => keeper.forget()?,
            false => keeper.keep(&files)?,
        }
        self.is_news = false;
        Ok(())
    }
}

/// The two names of this weir at a keeper: for tables, and for host interfaces. Several processes of weir may share a keeper, but not a
/// control socket.
fn keepers(config: &Config, socket: &Path) -> [Keeper; 2] {
    let name = config.control.socket.display().to_string();
    [Keeper::new(socket, &name), Keeper::new(socket, &format!("{name} host interfaces"))]
}

/// Has a keeper, if there is one, keep nothing of ours. Whether it had something.
pub(super) fn forget_all_in_keeper(config: &Config) -> bool {
    let socket = config.connections.keeper.as_deref().unwrap_or(Path::new(SOCKET));
    if !socket.exists() {
        return false;
    }
    let mut had = false;
    for keeper in keepers(config, socket) {
        had |= matches!(keeper.take(), Ok(Some(_)));
        if let Err(problem) = keeper.forget() {
            debug!("weir-keeper keeps what it has: {problem}");
        }
    }
    had
}

/// Has systemd keep nothing at all of ours.
pub(super) fn forget_all_in_systemd() {
    forget_in_systemd(&NAMES);
    forget_in_systemd(&[TAP]);
}

fn forget_in_systemd(names: &[&str]) {
    for name in names {
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
