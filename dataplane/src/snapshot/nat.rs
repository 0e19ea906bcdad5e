//! Which virtual servers have which sockets of NAT real servers. Control's; packets are looked up in what comes of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use hashbrown::HashMap;
use weir_config::model::Protocol;

use super::server::Server;
use super::{NatServer, Origin, Snapshot, address_of, socket};
use crate::conn::record::ServiceId;

/// By socket and virtual server.
#[derive(Default)]
pub(super) struct NatSockets(BTreeMap<(Socket, u16), NatServer>);

/// The socket that a real server answers from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Socket {
    V4(u64),
    V6(Socket6),
}

/// Address, port and IP protocol number.
pub(super) type Socket6 = (Ipv6Addr, u16, u8);

/// The sockets of NAT real servers, as packets are looked up by them.
#[derive(Clone, Default)]
pub(super) struct NatServers {
    pub(super) v4: Arc<HashMap<u64, NatServer>>,
    pub(super) v6: Arc<HashMap<Socket6, NatServer>>,
    /// How many of them there are at each address.
    addresses: Arc<HashMap<IpAddr, usize>>,
}

impl Socket {
    fn address(self) -> IpAddr {
        match self {
            Self::V4(socket) => IpAddr::V4(address_of(socket).into()),
            Self::V6((address, ..)) => IpAddr::V6(address),
        }
    }
}

/// See [`Socket`].
pub(super) fn socket_of(server: &Server, protocol: Protocol) -> Socket {
    let (port, protocol) = (server.port, protocol.number());
    match &server.far {
        None => Socket::V4(socket(server.address, port, protocol)),
        Some(far) => Socket::V6((far.address, port, protocol)),
    }
}

impl NatSockets {
    /// Adds a socket of a virtual server. One that it has twice tells nothing about the port that clients talk to.
    pub(super) fn insert(&mut self, server: &Server, protocol: Protocol, its: NatServer) {
        let place = self.0.entry((socket_of(server, protocol), server.service.0));
        place.and_modify(|known| known.origin = None).or_insert(its);
    }

    /// Adds a socket that is left to connections that there are, after all others of the virtual server. Who can open none
    /// any more has no say in what a packet without a record is.
    pub(super) fn insert_left(&mut self, server: &Server, protocol: Protocol, its: NatServer) {
        let left = NatServer { is_left: true, origin: None, ..its };
        self.0.entry((socket_of(server, protocol), server.service.0)).or_insert(left);
    }

    /// Adds that a real server with a helper may send from any port, unless another one is known to.
    pub(super) fn insert_data(&mut self, server: &Server, its: NatServer) {
        let any = Server { port: 0, ..server.clone() };
        self.0.entry((socket_of(&any, Protocol::Tcp), server.service.0)).or_insert(its);
    }

    /// Takes a socket from a virtual server, and says what it had.
    pub(super) fn remove(&mut self, socket: Socket, service: ServiceId) -> Option<NatServer> {
        self.0.remove(&(socket, service.0))
    }

    /// What packets from this socket are looked up by.
    pub(super) fn at(&self, socket: Socket) -> Option<NatServer> {
        let theirs = self.0.range((socket, 0)..=(socket, u16::MAX)).map(|(_, server)| *server);
        theirs.reduce(NatServer::beside)
    }

    /// All sockets.
    pub(super) fn all(&self) -> NatServers {
        let (mut v4, mut v6) = (HashMap::with_capacity(self.0.len()), HashMap::new());
        for ((socket, _), server) in &self.0 {
            let beside = |first: &mut NatServer| *first = first.beside(*server);
            match socket {
                Socket::V4(socket) => _ = v4.entry(*socket).and_modify(beside).or_insert(*server),
                Socket::V6(socket) => _ = v6.entry(*socket).and_modify(beside).or_insert(*server),
            }
        }
        let mut addresses = HashMap::new();
        let v4_addresses = v4.keys().map(|socket| Socket::V4(*socket).address());
        let v6_addresses = v6.keys().map(|socket| Socket::V6(*socket).address());
        for address in v4_addresses.chain(v6_addresses) {
            *addresses.entry(address).or_default() += 1;
        }
        NatServers { v4: Arc::new(v4), v6: Arc::new(v6), addresses: Arc::new(addresses) }
    }
}

impl NatServers {
    /// Shares nothing with another snapshot any more.
    pub(super) fn set_apart(&mut self) {
        Arc::make_mut(&mut self.v4);
        Arc::make_mut(&mut self.v6);
        Arc::make_mut(&mut self.addresses);
    }

    /// What packets from this socket are looked up by is another thing now.
    pub(super) fn set(&mut self, socket: Socket, server: Option<NatServer>) {
        let (is_there, address) = (server.is_some(), socket.address());
        let former = match (socket, server) {
            (Socket::V4(socket), Some(server)) => Arc::make_mut(&mut self.v4).insert(socket, server),
            (Socket::V4(socket), None) => Arc::make_mut(&mut self.v4).remove(&socket),
            (Socket::V6(socket), Some(server)) => Arc::make_mut(&mut self.v6).insert(socket, server),
            (Socket::V6(socket), None) => Arc::make_mut(&mut self.v6).remove(&socket),
        };
        if former.is_some() == is_there {
            return;
        }
        let addresses = Arc::make_mut(&mut self.addresses);
        match is_there {
            true => *addresses.entry(address).or_default() += 1,
            false if addresses.get(&address).is_none_or(|count| *count <= 1) => {
                _ = addresses.remove(&address)
            }
            false => _ = addresses.entry(address).and_modify(|count| *count -= 1),
        }
    }
}

impl Snapshot {
    /// Whether there are NAT real servers of IPv6.
    #[inline]
    pub fn has_nat6(&self) -> bool {
        !self.nat_servers.v6.is_empty()
    }

    /// Whether there may be answers of any NAT real server.
    #[inline]
    pub(crate) fn has_nat(&self) -> bool {
        self.has_nat6() || !self.nat_servers.v4.is_empty()
    }

    /// Whether a NAT real server answers from this address.
    pub fn is_nat_address(&self, address: IpAddr) -> bool {
        self.nat_servers.addresses.contains_key(&address)
    }

    /// As [`Snapshot::nat_server`], of IPv6.
    pub fn nat_server6(&self, address: Ipv6Addr, port: u16, protocol: u8) -> Option<Option<u16>> {
        let server = self.nat_socket6(address, port, protocol)?;
        Some(server.any_port.then_some(port))
    }

    /// As [`Snapshot::is_nat_socket`], of IPv6.
    pub fn is_nat_socket6(&self, address: Ipv6Addr, port: u16, protocol: u8) -> bool {
        port != 0 && self.nat_servers.v6.contains_key(&(address, port, protocol))
    }

    /// As [`Snapshot::has_nat_server`], of IPv6.
    pub fn has_nat_server6(&self, address: Ipv6Addr, port: u16, protocol: u8) -> bool {
        self.nat_socket6(address, port, protocol).is_some_and(|server| !server.is_left)
    }

    /// As [`Snapshot::origin`], of IPv6.
    pub fn origin6(&self, address: Ipv6Addr, port: u16, protocol: u8) -> Option<Origin> {
        match self.nat_servers.v6.get(&(address, port, protocol)) {
            Some(server) => server.origin,
            None => {
                let server = self.nat_servers.v6.get(&(address, 0, protocol))?;
                server.origin.map(|origin| Origin { port, ..origin })
            }
        }
    }

    fn nat_socket6(&self, address: Ipv6Addr, port: u16, protocol: u8) -> Option<&NatServer> {
        let sockets = &self.nat_servers.v6;
        sockets.get(&(address, port, protocol)).or_else(|| sockets.get(&(address, 0, protocol)))
    }
}

impl NatServer {
    /// With that of another virtual server at the same socket.
    fn beside(self, other: Self) -> Self {
        match (self.is_left, other.is_left) {
            (false, false) => Self { origin: None, ..self },
            (true, false) => other,
            (_, true) => self,
        }
    }
}
