//! Which virtual servers have which sockets of NAT real servers. Control's; packets are looked up in what comes of it.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use weir_config::model::Protocol;

use super::server::Server;
use super::{NatServer, socket};
use crate::conn::record::ServiceId;

/// By socket and virtual server.
#[derive(Default)]
pub(super) struct NatSockets(BTreeMap<(u64, u16), NatServer>);

/// The socket that a real server answers from.
pub(super) fn socket_of(server: &Server, protocol: Protocol) -> u64 {
    socket(server.address, server.port, protocol.number())
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

    /// Takes a socket from a virtual server, and says what it had.
    pub(super) fn remove(&mut self, socket: u64, service: ServiceId) -> Option<NatServer> {
        self.0.remove(&(socket, service.0))
    }

    /// What packets from this socket are looked up by.
    pub(super) fn at(&self, socket: u64) -> Option<NatServer> {
        let theirs = self.0.range((socket, 0)..=(socket, u16::MAX)).map(|(_, server)| *server);
        theirs.reduce(NatServer::beside)
    }

    /// All sockets.
    pub(super) fn all(&self) -> HashMap<u64, NatServer> {
        let mut all: HashMap<u64, NatServer> = HashMap::with_capacity(self.0.len());
        for ((socket, _), server) in &self.0 {
            all.entry(*socket).and_modify(|first| *first = first.beside(*server)).or_insert(*server);
        }
        all
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
