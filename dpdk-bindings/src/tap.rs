//! A tap: a network interface of the kernel whose wire is this process.
//!
//! Not DPDK's, but the kernel's: what the kernel sends out of the interface is read here, and what is written here it
//! receives, whole Ethernet frames without FCS. It needs `/dev/net/tun` alone. The interface is gone when the [`Tap`]
//! is dropped, or with the process.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use crate::error::Errno;

/// The kernel's device.
const DEVICE: &str = "/dev/net/tun";

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
