//! The socket at which other directors are heard: member of their group on one interface of the host.

use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use rustix::net::netdevice::name_to_index;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use weir_config::model;

use super::PAUSE;

/// What waits for the thread at most: some ten thousand connections, which a kernel sends in a burst.
const BUFFER_BYTES: usize = 4 << 20;

/// The socket, and the number of its interface.
///
/// # Errors
/// The kernel's: there may be no such interface yet.
pub(super) fn open(settings: &model::Sync) -> io::Result<(Socket, u32)> {
    let domain = match settings.group {
        IpAddr::V4(_) => Domain::IPV4,
        IpAddr::V6(_) => Domain::IPV6,
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    let index = index_of(&socket, &settings.interface)?;
    socket.set_reuse_address(true)?;
    socket.set_read_timeout(Some(PAUSE))?;
    // Less is no reason not to listen.
    let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
    match settings.group {
        IpAddr::V4(group) => {
            // What others on this machine have asked for on other interfaces is not for it.
            socket.set_multicast_all_v4(false)?;
            socket.bind(&SocketAddr::new(group.into(), settings.port).into())?;
            socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(index))?;
        }
        IpAddr::V6(group) => {
            socket.set_only_v6(true)?;
            socket.set_multicast_all_v6(false)?;
            // The group's alone: at any other address it would hear whoever can reach the host.
            socket.bind(&SocketAddrV6::new(group, settings.port, 0, index).into())?;
            socket.join_multicast_v6(&group, index)?;
        }
    }
    Ok((socket, index))
}

/// The number of an interface.
///
/// # Errors
/// There is no such interface.
pub(super) fn index_of(socket: &Socket, interface: &str) -> io::Result<u32> {
    Ok(name_to_index(socket, interface)?)
}

/// The next datagram; returns its length.
///
/// # Errors
/// The kernel's: none came for [`PAUSE`].
pub(super) fn receive(mut socket: &Socket, datagram: &mut [u8]) -> io::Result<usize> {
    socket.read(datagram)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use weir_config::model::SyncKernel;

    use super::*;

    #[test]
    fn a_group_is_heard_on_the_interface_of_the_file_and_a_missing_one_is_said() {
        let group = Ipv4Addr::new(224, 0, 0, 81);
        let settings = |interface: &str| model::Sync {
            kernel: SyncKernel::Receive,
            interface: interface.to_owned(),
            id: 0,
            group: group.into(),
            port: 18_848,
        };
        let (socket, index) = open(&settings("lo")).unwrap();
        let sender = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        sender.bind(&SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0).into()).unwrap();
        sender.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
        sender.send_to(b"told", &SocketAddr::new(group.into(), 18_848).into()).unwrap();
        let mut datagram = [0; 16];
        assert_eq!((receive(&socket, &mut datagram).unwrap(), &datagram[..4]), (4, &b"told"[..]));
        assert!(receive(&socket, &mut datagram).is_err(), "and nobody waits for ever");
        assert_eq!(index_of(&socket, "lo").unwrap(), index);
        assert!(open(&settings("no-such-one")).is_err());
    }

    #[test]
    fn nobody_is_heard_who_does_not_speak_to_the_group() {
        for (group, other) in [("224.0.0.81", "127.0.0.1"), ("ff02::81", "::1"), ("ff05::81", "::1")] {
            let group: IpAddr = group.parse().unwrap();
            let port = if group.is_ipv4() { 18_849 } else { 18_850 };
            let settings =
                model::Sync { kernel: SyncKernel::Receive, interface: "lo".to_owned(), id: 0, group, port };
            let (socket, _) = open(&settings).unwrap();
            let other: IpAddr = other.parse().unwrap();
            let sender = std::net::UdpSocket::bind((other, 0)).unwrap();
            sender.send_to(b"told", (other, port)).unwrap();
            assert!(receive(&socket, &mut [0; 16]).is_err(), "{group}");
        }
    }
}
