//! A tap: a network interface of the kernel whose wire is this process.
//!
//! Not DPDK's, but the kernel's: what the kernel sends out of the interface is read here, and what is written here it
//! receives, whole Ethernet frames without FCS. It needs `/dev/net/tun` alone. The interface is gone when the [`Tap`]
//! is dropped, or with the process; unless another process holds its file open as well, for the next one to go on with ([`Tap::adopt`]).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};

use crate::error::Errno;

/// The kernel's device.
const DEVICE: &str = "/dev/net/tun";

/// Its numbers (Documentation/admin-guide/devices.txt).
const DEVICE_NUMBER: libc::dev_t = libc::makedev(10, 200);
/// Frames that wait in a tap at most: those of its queue, which has room for 500, and of the interface's.
const WAITING_MAX: usize = 4_096;

/// The longest name of an interface in bytes.
pub const NAME_LEN_MAX: usize = libc::IFNAMSIZ - 1;

/// Why a tap could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TapError {
    /// The kernel has no taps, or this process does not see them.
    #[error("there is no {DEVICE}; load the kernel's module with: modprobe tun")]
    NoDevice,
    /// The process may not make interfaces.
    #[error(
        "no permission to make the interface {0}; weir needs root or the capability CAP_NET_ADMIN for it"
    )]
    PermissionDenied(String),
    /// There is an interface of this name.
    #[error("there is a network interface {0} already; remove it or choose another name")]
    NameTaken(String),
    /// The kernel does not like the name.
    #[error(
        "{0:?} is no name for a network interface: 1 to {NAME_LEN_MAX} bytes without '/', ':' and spaces"
    )]
    BadName(String),
    /// Anything else.
    #[error("the interface {0} could not be made: {1}")]
    Unknown(String, Errno),
}

/// Why a file can't be gone on with as a tap.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeptTapError {
    /// It is something else.
    #[error("it is no tap")]
    NoTap,
    /// Its interface has been removed.
    #[error("its interface is gone")]
    Gone,
    /// It was made by somebody else.
    #[error("the tap {0} is of another kind than weir's")]
    OtherKind(String),
    /// The interface is not in this process's network namespace.
    #[error("the tap {0} is in another network namespace")]
    Elsewhere(String),
    /// Anything else.
    #[error("the kernel does not say what it is: {0}")]
    Unknown(Errno),
}

/// See the module. Reads and writes never wait.
#[derive(Debug)]
pub struct Tap {
    file: File,
}

impl Tap {
    /// Makes the interface `name`, which is down at first and has a MAC of the kernel's choice.
    ///
    /// # Errors
    /// As [`TapError`] lists.
    pub fn create(name: &str) -> Result<Self, TapError> {
        let bad = |c: char| c == '/' || c == ':' || c == '%' || c == '\0' || c.is_whitespace();
        if !(1..=NAME_LEN_MAX).contains(&name.len()) || name.contains(bad) || matches!(name, "." | "..") {
            return Err(TapError::BadName(name.to_owned()));
        }
        let file =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(DEVICE).map_err(
                |problem| match problem.raw_os_error() {
                    Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => TapError::NoDevice,
                    code => TapError::from_code(name, code.unwrap_or_default()),
                },
            )?;
        let mut request = libc::ifreq {
            ifr_name: [0; libc::IFNAMSIZ],
            // Whole frames without a header of the kernel's, and never an interface that exists.
            ifr_ifru: libc::__c_anonymous_ifr_ifru {
                ifru_flags: (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_TUN_EXCL) as libc::c_short,
            },
        };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        // SAFETY: TUNSETIFF reads and writes an `ifreq`, which `request` is, with a name that ends in NUL: it is one byte
        // shorter than its array at least. The descriptor is open, `file` holds it.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
        if result < 0 {
            return Err(TapError::from_code(name, io::Error::last_os_error().raw_os_error().unwrap_or(0)));
        }
        Ok(Self { file })
    }

    /// Goes on with a tap that a process before has made. The file is not trusted to be one. Returns its name as well. What has waited in
    /// it meanwhile is lost.
    ///
    /// # Errors
    /// As [`KeptTapError`] lists.
    pub fn adopt(file: OwnedFd) -> Result<(String, Self), KeptTapError> {
        let file = File::from(file);
        let unknown =
            |problem: io::Error| KeptTapError::Unknown(Errno::new(problem.raw_os_error().unwrap_or(0)));
        let found = file.metadata().map_err(unknown)?;
        if !found.file_type().is_char_device() || found.rdev() != DEVICE_NUMBER {
            return Err(KeptTapError::NoTap);
        }
        let (name, flags) = interface_of(&file)?;
        let kind =
            libc::IFF_TUN | libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;
        if flags & kind != libc::IFF_TAP | libc::IFF_NO_PI {
            return Err(KeptTapError::OtherKind(name));
        }
        let own = std::fs::metadata("/proc/self/ns/net").map_err(unknown)?;
        let its = namespace_of(&file).map_err(unknown)?.metadata().map_err(unknown)?;
        if (its.dev(), its.ino()) != (own.dev(), own.ino()) {
            return Err(KeptTapError::Elsewhere(name));
        }
        // SAFETY: takes and returns numbers; the descriptor is open, `file` holds it.
        let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
        if done < 0 {
            return Err(unknown(io::Error::last_os_error()));
        }
        let tap = Self { file };
        let mut frame = [0; 64];
        let _ = (0..WAITING_MAX).take_while(|_| tap.receive(&mut frame).is_ok()).count();
        Ok((name, tap))
    }

    /// Puts the next frame that the kernel has sent into `frame` and returns its length; what finds no room is cut off.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is none.
    pub fn receive(&self, frame: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(frame)
    }

    /// Gives the kernel a frame.
    ///
    /// # Errors
    /// What the kernel says: EIO while the interface is down.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        (&self.file).write(frame).map(drop)
    }
}

/// The interface of a file of the tap device, and the flags that it was made with.
fn interface_of(file: &File) -> Result<(String, libc::c_int), KeptTapError> {
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: 0 },
    };
    // SAFETY: TUNGETIFF writes an `ifreq`, which `request` is. The descriptor is open, `file` holds it.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNGETIFF, &raw mut request) };
    if result < 0 {
        return Err(match io::Error::last_os_error().raw_os_error() {
            Some(libc::EBADFD) => KeptTapError::Gone,
            code => KeptTapError::Unknown(Errno::new(code.unwrap_or(0))),
        });
    }
    let name = request.ifr_name.iter().map(|c| *c as u8).take_while(|c| *c != 0).collect();
    // SAFETY: TUNGETIFF has written the flags, and any number is one.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok((String::from_utf8(name).map_err(|_| KeptTapError::NoTap)?, flags.into()))
}

/// The network namespace of a tap's interface.
fn namespace_of(file: &File) -> io::Result<File> {
    // SAFETY: takes nothing and returns a new descriptor; the one given is open, `file` holds it.
    let namespace = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNGETDEVNETNS) };
    if namespace < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened it for this process, and nothing else knows of it.
    Ok(unsafe { File::from_raw_fd(namespace) })
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl TapError {
    fn from_code(name: &str, code: i32) -> Self {
        match code {
            libc::EPERM | libc::EACCES => Self::PermissionDenied(name.to_owned()),
            libc::EBUSY | libc::EEXIST => Self::NameTaken(name.to_owned()),
            libc::EINVAL => Self::BadName(name.to_owned()),
            _ => Self::Unknown(name.to_owned(), Errno::new(code)),
        }
    }
}
