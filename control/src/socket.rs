//! The control socket: where it is, whose it is, and that only its owner can use it.
//!
//! Two weirs never share one. A lock beside it, `weir.sock.lock`, is held as long as weir lives, so that a socket whose lock is free was
//! left behind by one that ended in a hurry, and can be replaced.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use socket2::{Domain, SockAddr, Socket, Type};
use tracing::warn;
use weir_config::model::Control;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[error("no control socket at {} ([control] socket): {why}", .path.display())]
pub(crate) struct SocketError {
    path: PathBuf,
    why: String,
}

/// A socket that listens, and goes when it is dropped.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Held as long as the socket is there.
    _lock: File,
}

impl ControlSocket {
    /// Makes it. Where the file does not say where it is, weir goes on without one; `None`: it does.
    ///
    /// # Errors
    /// A sentence for the user.
    pub(crate) fn of(settings: &Control) -> Result<Option<Self>, SocketError> {
        let made = Self::bind(&settings.socket, settings.is_socket_written);
        match made {
            Ok(socket) => Ok(Some(socket)),
            Err(why) => {
                let problem = SocketError { path: settings.socket.clone(), why };
                if settings.is_socket_written {
                    return Err(problem);
                }
                warn!("weirctl can't reach this weir: {problem}");
                Ok(None)
            }
        }
    }

    fn bind(path: &Path, is_written: bool) -> Result<Self, String> {
        let folder = path.parent().unwrap_or(path);
        if !is_written && !folder.exists() {
            // weir's own; whoever writes another place has made it.
            let made = DirBuilder::new().mode(0o755).create(folder);
            made.map_err(|problem| format!("{} can't be made: {}", folder.display(), reason(&problem)))?;
        }
        if !folder.is_dir() {
            return Err(format!("there is no folder {}: make it, or write another path", folder.display()));
        }
        let lock = lock(path)?;
        match path.symlink_metadata() {
            Ok(found) if !found.file_type().is_socket() => {
                return Err("something else is there, which is no socket: remove it, or write another path"
                    .to_owned());
            }
            Ok(_) if somebody_listens(path) => {
                return Err("another program listens there: end it, or write another path".to_owned());
            }
            // Its owner has ended.
            Ok(_) => std::fs::remove_file(path).map_err(|problem| {
                format!("what an ended weir has left there can't be removed: {}", reason(&problem))
            })?,
            Err(_) => {}
        }
        // From its first moment on.
        let former = rustix::process::umask(Mode::from_raw_mode(0o177));
        let listener = UnixListener::bind(path);
        rustix::process::umask(former);
        let listener = listener.map_err(|problem| reason(&problem))?;
        Ok(Self { listener, path: path.to_owned(), _lock: lock })
    }

    /// What listens.
    pub(crate) fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // The lock says that it is ours.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether there is a program behind a socket. One that takes no more connections listens, too, and is not waited for.
fn somebody_listens(path: &Path) -> bool {
    let tried = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)
        .and_then(|socket| socket.connect(&SockAddr::unix(path)?));
    match tried {
        Ok(()) => true,
        Err(problem) => problem.kind() == ErrorKind::WouldBlock,
    }
}

/// Where the lock of a socket is.
pub(crate) fn lock_of(socket: &Path) -> PathBuf {
    let mut name = socket.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

/// The lock of a socket.
fn lock(path: &Path) -> Result<File, String> {
    let at = lock_of(path);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    // The folder may be of the user that weir becomes, and what lies there may point elsewhere.
    options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    let file = options
        .open(&at)
        .map_err(|problem| format!("{} can't be made: {}", at.display(), reason(&problem)))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err("another weir has it: give each its own path".to_owned()),
        Err(problem) => Err(format!("{} can't be locked: {}", at.display(), reason(&problem.into()))),
    }
}

/// An error of the system without its number.
fn reason(problem: &io::Error) -> String {
    match problem.kind() {
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::ReadOnlyFilesystem => "the file system is read-only".to_owned(),
        _ => problem.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// Whoever listens there may not take its clients in: the start does not wait for it.
    #[test]
    fn a_program_that_takes_no_clients_is_another_program() {
        let folder = std::env::temp_dir().join(format!("weir-socket-full-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("weir.sock");
        let other = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        other.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        other.listen(0).unwrap();
        let clients: Vec<Socket> = std::iter::repeat_with(|| {
            let client = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).unwrap();
            client.connect(&SockAddr::unix(&path).unwrap()).map(|()| client)
        })
        .map_while(Result::ok)
        .take(1_000)
        .collect();
        assert!((1..1_000).contains(&clients.len()), "{}", clients.len());
        let (tell, told) = std::sync::mpsc::channel();
        let at = path.clone();
        std::thread::spawn(move || tell.send(ControlSocket::bind(&at, true).map(drop)));
        let said = told.recv_timeout(std::time::Duration::from_secs(30)).expect("it does not wait");
        assert!(said.unwrap_err().starts_with("another program listens there"));
        assert!(path.exists());
        drop((clients, other));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    /// The folder may be of the user that weir became.
    #[test]
    fn a_lock_that_points_elsewhere_is_not_followed() {
        let folder = std::env::temp_dir().join(format!("weir-socket-link-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (path, elsewhere) = (folder.join("weir.sock"), folder.join("elsewhere"));
        std::os::unix::fs::symlink(&elsewhere, lock_of(&path)).unwrap();
        let refused = ControlSocket::bind(&path, true).unwrap_err();
        assert!(refused.contains("weir.sock.lock can't be made"), "{refused}");
        assert!(!elsewhere.exists());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_socket_is_its_owners_alone_and_a_stale_one_is_replaced() {
        let folder = std::env::temp_dir().join(format!("weir-socket-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("weir.sock");
        let made = |path: &Path| ControlSocket::bind(path, true);
        let first = made(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(made(&path).unwrap_err(), "another weir has it: give each its own path");
        assert!(UnixStream::connect(&path).is_ok(), "it stays the first one's");
        drop(first);
        assert!(!path.exists());
        // Left behind.
        drop(UnixListener::bind(&path).unwrap());
        drop(made(&path).unwrap());
        let other = UnixListener::bind(&path).unwrap();
        assert!(made(&path).unwrap_err().starts_with("another program listens there"));
        drop(other);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "text").unwrap();
        assert!(made(&path).unwrap_err().starts_with("something else is there"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "text");
        let none = made(&folder.join("none/weir.sock")).unwrap_err();
        assert_eq!(
            none,
            format!("there is no folder {}/none: make it, or write another path", folder.display())
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
