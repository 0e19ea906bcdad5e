//! Where clients come in: the TCP listener and the control socket.

use std::io;
use std::net::IpAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

/// What bytes go through.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Who is at the other end: what shares its room with nobody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// A host.
    Host(IpAddr),
    /// A process of this machine; 0: it is not known which.
    Process(i32),
}

impl From<IpAddr> for Who {
    fn from(address: IpAddr) -> Self {
        Self::Host(address)
    }
}

/// See the module.
pub(super) enum Door {
    /// Of `[http]`.
    Tcp(TcpListener),
    /// Of `[control]`.
    Unix(UnixListener),
}

impl TryFrom<std::net::TcpListener> for Door {
    type Error = io::Error;

    fn try_from(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener).map(Self::Tcp)
    }
}

impl TryFrom<std::os::unix::net::UnixListener> for Door {
    type Error = io::Error;

    fn try_from(listener: std::os::unix::net::UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener).map(Self::Unix)
    }
}

impl Door {
    /// The next client.
    pub(super) async fn accept(&self) -> io::Result<(Box<dyn Stream>, Who)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Answers are written as a whole, so there is nothing to collect into larger segments.
                let _ = stream.set_nodelay(true);
                Ok((Box::new(stream), Who::Host(peer.ip())))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let process = stream.peer_cred().ok().and_then(|peer| peer.pid()).unwrap_or(0);
                Ok((Box::new(stream), Who::Process(process)))
            }
        }
    }
}
