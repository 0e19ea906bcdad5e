//! Sockets towards what is checked.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use super::{Failure, Target};

/// A TCP connection. Closing it sends a reset, so that thousands of checks leave nothing behind in TIME_WAIT.
pub(super) async fn tcp(target: &Target) -> Result<TcpStream, Failure> {
    let connect = async {
        let stream = open(target).await;
        stream.map_err(|problem| Failure::io("connecting", &problem))
    };
    target.limits.stage(target.timeouts.connect, "connection", connect).await
}

async fn open(target: &Target) -> io::Result<TcpStream> {
    let socket = if target.at.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_zero_linger()?;
    if let Some(source) = target.source {
        socket.bind(source)?;
    }
    let stream = socket.connect(target.at).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
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
    open.await.map_err(|problem| Failure::io("opening a socket", &problem))
}

/// Reads until `is_enough`, the end, or `limit` bytes. True: the peer closed.
pub(super) async fn read_until(
    stream: &mut (impl AsyncRead + Unpin),
    limit: usize,
    mut is_enough: impl FnMut(&[u8]) -> bool,
) -> Result<(Vec<u8>, bool), Failure> {
    let mut answer = Vec::new();
    let mut piece = [0; 2048];
    while answer.len() < limit && !is_enough(&answer) {
        let room = piece.len().min(limit - answer.len());
        let read = stream.read(&mut piece[..room]).await;
        match read.map_err(|problem| Failure::io("reading", &problem))? {
            0 => return Ok((answer, true)),
            count => answer.extend_from_slice(&piece[..count]),
        }
    }
    Ok((answer, false))
}
