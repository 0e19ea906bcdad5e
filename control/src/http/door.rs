//! Where clients come in: the TCP listener and the control socket.

use std::any::Any;
use std::fmt;
use std::future::pending;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::sleep;
use tokio_rustls::server::TlsStream;

use super::guard::{Guard, Way};
use super::tls::Stranger;

/// How often a connection is looked at whose request is being answered.
pub(super) const LOOKED_AT: Duration = Duration::from_millis(500);

/// What bytes go through.
pub(super) trait Stream: AsyncRead + AsyncWrite + Any + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Any + Send + Unpin> Stream for T {}

/// The far end of a connection, for who wants to know whether anybody is there while nothing is read.
pub(super) struct FarEnd(Option<(OwnedFd, PollFlags)>);

impl FarEnd {
    /// Of a stream.
    pub(super) fn of(stream: &dyn Stream) -> Self {
        let stream: &dyn Any = stream;
        let local = stream.downcast_ref::<UnixStream>().map(AsFd::as_fd);
        let plain = || stream.downcast_ref::<TcpStream>().map(AsFd::as_fd);
        let secret =
            || stream.downcast_ref::<TlsStream<TcpStream>>().map(|stream| stream.get_ref().0.as_fd());
        let own = |socket: BorrowedFd<'_>, ends| Some((socket.try_clone_to_owned().ok()?, ends));
        let both_ways = PollFlags::HUP | PollFlags::ERR;
        Self(match (local.or_else(plain), secret()) {
            (Some(socket), _) => own(socket, both_ways),
            // Who speaks TLS and closes one way closes both: no client of HTTPS goes on to read.
            (None, Some(socket)) => own(socket, both_ways | PollFlags::RDHUP),
            (None, None) => None,
        })
    }

    /// Returns when it has closed both ways. One that has only said that it sends no more, and not in TLS, waits for its answer.
    pub(super) async fn has_gone(&self) {
        let Some((socket, ended)) = &self.0 else { return pending().await };
        loop {
            sleep(LOOKED_AT).await;
            let mut asked = [PollFd::new(socket, *ended)];
            let ended = *ended;
            if poll(&mut asked, Some(&Timespec::default())).is_ok() && asked[0].revents().intersects(ended) {
                return;
            }
        }
    }
}

/// Who is at the other end: what shares its room with nobody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// A host.
    Host(IpAddr),
    /// A process of this machine; 0: it is not known which.
    Process(i32),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(address) => write!(f, "{address}"),
            Self::Process(process) => write!(f, "process {process}"),
        }
    }
}

impl From<IpAddr> for Who {
    fn from(address: IpAddr) -> Self {
        Self::Host(address)
    }
}

/// One who has come in.
pub(super) enum Arrival {
    /// What it sends is HTTP.
    Plain(Box<dyn Stream>),
    /// TLS comes first, on another thread.
    Tls(Stranger),
}

impl Arrival {
    /// What HTTP goes through, and how that is; `None`: no handshake within `limit`.
    pub(super) async fn come_in(self, limit: Duration) -> Option<(Box<dyn Stream>, Way)> {
        Some(match self {
            Self::Plain(stream) => (stream, Way { is_tls: false }),
            Self::Tls(stranger) => (Box::new(stranger.meet(limit).await?), Way { is_tls: true }),
        })
    }
}

/// See the module.
pub(super) enum Door {
    /// Of `[http]`.
    Tcp(TcpListener, Arc<Guard>),
    /// Of `[control]`.
    Unix(UnixListener),
}

impl TryFrom<(std::net::TcpListener, Arc<Guard>)> for Door {
    type Error = io::Error;

    fn try_from((listener, guard): (std::net::TcpListener, Arc<Guard>)) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self::Tcp(TcpListener::from_std(listener)?, guard))
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
    pub(super) async fn accept(&self) -> io::Result<(Arrival, Who)> {
        match self {
            Self::Tcp(listener, guard) => {
                let (stream, peer) = listener.accept().await?;
                // Answers are written as a whole, so there is nothing to collect into larger segments.
                let _ = stream.set_nodelay(true);
                let arrival = match guard.tls() {
                    None => Arrival::Plain(Box::new(stream)),
                    Some(config) => {
                        let tally = guard.tally().clone();
                        Arrival::Tls(Stranger { stream: stream.into_std()?, config, tally })
                    }
                };
                Ok((arrival, Who::Host(peer.ip())))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let process = stream.peer_cred().ok().and_then(|peer| peer.pid()).unwrap_or(0);
                Ok((Arrival::Plain(Box::new(stream)), Who::Process(process)))
            }
        }
    }
}
