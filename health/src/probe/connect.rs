//! Sockets towards what is checked.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::{Failure, Target, is_cut};

/// A TCP connection. Closing it sends a reset, so that thousands of checks leave nothing behind in TIME_WAIT.
pub(super) async fn tcp(target: &Target) -> Result<TcpStream, Failure> {
    let connect = async {
        let stream = begin(target).map_err(|problem| Failure::local("connecting", &problem))?;
        connected(stream).await.map_err(|problem| Failure::io("connecting", &problem))
    };
    target.limits.stage(target.timeouts.connect, "connection", connect).await
}

/// A connection that is being made. What fails here has failed on this host: no packet was answered yet.
fn begin(target: &Target) -> io::Result<TcpStream> {
    let domain = if target.at.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = target.source {
        socket.bind(&source.into())?;
    }
    match socket.connect(&target.at.into()) {
        Err(problem) if problem.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => {
            return Err(problem);
        }
        _ => {}
    }
    TcpStream::from_std(socket.into())
}

/// Waits for the server's answer, or that of a router on the way.
async fn connected(stream: TcpStream) -> io::Result<TcpStream> {
    stream.writable().await?;
    match stream.take_error()? {
        Some(problem) => Err(problem),
        None => Ok(stream),
    }
}

/// A UDP socket that takes only what comes from the target, and its ICMP errors.
pub(super) async fn udp(target: &Target) -> Result<UdpSocket, Failure> {
    let any = match target.at {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let open = async {
        let socket = UdpSocket::bind(target.source.unwrap_or(any)).await?;
        socket.connect(target.at).await?;
        io::Result::Ok(socket)
    };
    open.await.map_err(|problem| Failure::local("opening a socket", &problem))
}

/// Sends, and lets a peer have closed its side: what it said before that is its answer, and is still to be read. If it said nothing,
/// reading tells.
pub(super) async fn say(stream: &mut (impl AsyncWrite + Unpin), text: &[u8]) -> Result<(), Failure> {
    match stream.write_all(text).await {
        Err(problem) if !is_cut(&problem) => Err(Failure::io("sending", &problem)),
        _ => Ok(()),
    }
}

/// Adds to `answer` until `is_enough`, the end, or `limit` bytes. True: the peer closed. A reset behind the answer is an end like any
/// other: whoever closes without having read all that was sent to him resets.
pub(super) async fn read_until(
    stream: &mut (impl AsyncRead + Unpin),
    answer: &mut Vec<u8>,
    limit: usize,
    mut is_enough: impl FnMut(&[u8]) -> bool,
) -> Result<bool, Failure> {
    let mut piece = [0; 2048];
    while answer.len() < limit && !is_enough(answer) {
        let room = piece.len().min(limit - answer.len());
        match stream.read(&mut piece[..room]).await {
            Ok(0) => return Ok(true),
            Ok(count) => answer.extend_from_slice(&piece[..count]),
            Err(problem) if is_cut(&problem) && !answer.is_empty() => return Ok(true),
            Err(problem) => return Err(Failure::io("reading", &problem)),
        }
    }
    Ok(false)
}
