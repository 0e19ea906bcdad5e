//! Packets with files beside them.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socket_with,
};

/// Files beside one packet at most: a host interface for each port that a file can have.
pub(crate) const FILES_MAX: usize = 32;
/// Octets of a packet at most.
pub(crate) const PACKET_MAX: usize = 512;
/// How long the other side may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// A socket of packets. It waits for nobody for long: not for room among those that wait to be served either.
pub(crate) fn socket() -> io::Result<OwnedFd> {
    let socket = patient_socket()?;
    be_impatient(&socket)?;
    Ok(socket)
}

/// The same for who waits for requests.
pub(crate) fn patient_socket() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

fn be_impatient(socket: &OwnedFd) -> io::Result<()> {
    set_socket_timeout(socket, Timeout::Recv, Some(PATIENCE))?;
    Ok(set_socket_timeout(socket, Timeout::Send, Some(PATIENCE))?)
}

/// From here on neither side waits for the other for long, and the other is who it should be.
pub(crate) fn trust(socket: &OwnedFd) -> io::Result<()> {
    be_impatient(socket)?;
    let (other, own) = (socket_peercred(socket)?.uid, rustix::process::geteuid());
    if other.is_root() || other == own {
        return Ok(());
    }
    let text = format!("the other side is user {}, neither root nor {}", other.as_raw(), own.as_raw());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

/// Sends a packet.
pub(crate) fn send(socket: &OwnedFd, text: &str, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many files"));
    }
    sendmsg(socket, &[IoSlice::new(text.as_bytes())], &mut beside, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one.
pub(crate) fn receive(socket: &OwnedFd) -> io::Result<(String, Vec<OwnedFd>)> {
    let mut octets = [0; PACKET_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let into = &mut [IoSliceMut::new(&mut octets)];
    let received = recvmsg(socket.as_fd(), into, &mut beside, RecvFlags::CMSG_CLOEXEC)?;
    let mut files = Vec::new();
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(its) = message {
            files.extend(its);
        }
    }
    let invalid = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text.to_owned());
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(invalid("a packet was too long"));
    }
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let text = octets.get(..received.bytes).unwrap_or_default();
    let text = std::str::from_utf8(text).map_err(|_| invalid("a packet was no text"))?;
    Ok((text.to_owned(), files))
}
