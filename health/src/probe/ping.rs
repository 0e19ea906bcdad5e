//! ICMP echo (RFC 792, RFC 4443 section 4).
//!
//! By a datagram socket where the system lets us (`net.ipv4.ping_group_range`), which gets its own answers only; else by a
//! raw one, which sees those of others and has to tell them apart.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::{Failure, Found, Success, Target};

const ECHO: u8 = 8;
const ECHO_REPLY: u8 = 0;
const ECHO_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;
const HEADER_BYTES: usize = 8;

pub(super) async fn check(target: &Target) -> Found {
    let opened = open(target).map_err(|problem| Failure::local("opening a socket for ICMP", &problem));
    let (socket, is_raw) = opened?;
    let token = target.token().to_be_bytes();
    let request = request(target.at.is_ipv4(), token);
    let converse = async {
        socket.send(&request).await.map_err(|problem| Failure::local("sending", &problem))?;
        let mut answer = [0; 512];
        loop {
            let length = socket.recv(&mut answer).await;
            let length = length.map_err(|problem| Failure::io("waiting for an answer", &problem))?;
            let message = match is_raw && target.at.is_ipv4() {
                true => without_ip_header(&answer[..length]),
                false => &answer[..length],
            };
            if is_reply(target.at.is_ipv4(), message, token) {
                return Ok(Success::new("answered"));
            }
        }
    };
    target.limits.stage(target.timeouts.whole, "echo reply", converse).await
}

/// A socket towards the target, and whether it is a raw one.
fn open(target: &Target) -> io::Result<(UdpSocket, bool)> {
    let (domain, protocol) = match target.at {
        SocketAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        SocketAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let (socket, is_raw) = match Socket::new(domain, Type::DGRAM, Some(protocol)) {
        Ok(socket) => (socket, false),
        Err(problem) if problem.kind() == ErrorKind::PermissionDenied => {
            (Socket::new(domain, Type::RAW, Some(protocol))?, true)
        }
        Err(problem) => return Err(problem),
    };
    if let Some(source) = target.source {
        socket.bind(&source.into())?;
    }
    socket.set_nonblocking(true)?;
    socket.connect(&SocketAddr::new(target.at.ip(), 0).into())?;
    Ok((UdpSocket::from_std(socket.into())?, is_raw))
}

/// The token tells this request from all others; identifier and sequence number are its first bytes. A datagram socket
/// puts an identifier of its own there, so they are not looked at.
fn request(is_ipv4: bool, token: [u8; 8]) -> Vec<u8> {
    let mut message = vec![if is_ipv4 { ECHO } else { ECHO_V6 }, 0, 0, 0];
    message.extend(&token[..4]);
    message.extend(token);
    // The kernel makes the checksum of ICMPv6, and of datagram sockets.
    if is_ipv4 {
        let checksum = checksum(&message);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
    }
    message
}

fn is_reply(is_ipv4: bool, message: &[u8], token: [u8; 8]) -> bool {
    let kind = if is_ipv4 { ECHO_REPLY } else { ECHO_REPLY_V6 };
    message.first() == Some(&kind) && message.get(HEADER_BYTES..) == Some(&token[..])
}

fn without_ip_header(packet: &[u8]) -> &[u8] {
    let length = packet.first().map_or(0, |first| usize::from(first & 0x0f) * 4);
    packet.get(length..).unwrap_or_default()
}

/// RFC 1071.
fn checksum(message: &[u8]) -> u16 {
    let words =
        message.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u32::from(*b)));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_a_checksum_that_adds_up() {
        let request = request(true, [1, 2, 3, 4, 5, 6, 7, 0xf8]);
        assert_eq!(checksum(&request), 0);
        assert!(!is_reply(true, &request, [1, 2, 3, 4, 5, 6, 7, 0xf8]), "an echo of the request is none");
        let mut reply = request.clone();
        reply[0] = ECHO_REPLY;
        assert!(is_reply(true, &reply, [1, 2, 3, 4, 5, 6, 7, 0xf8]));
        assert!(!is_reply(true, &reply, [1, 2, 3, 4, 5, 6, 7, 0xf9]));
        assert_eq!(without_ip_header(&[&[0x45; 20][..], &reply].concat()), reply);
        assert_eq!(without_ip_header(&[0x4f]), [0; 0]);
    }
}
