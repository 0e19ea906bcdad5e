//! Second stage: whose is this packet?
//!
//! Answers by the addresses alone, without touching a connection; what it finds for the connection table (the key
//! and its hash) is enough to prefetch with.

use crate::conn::record::{Key, ServiceId, reply_hash_input};
use crate::conn::table::Table;
use crate::parse::Packet;
use crate::snapshot::{Snapshot, protocol, socket};
use crate::stats::DropReason;
use crate::wire::ipv4;
use crate::wire::l4::icmp;

/// What is to be done with an IPv4 packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// From a client to a virtual server: [`Lookup::key`] is its connection's.
    Request,
    /// From a NAT real server to a client, by its addresses.
    Reply,
    /// ICMP echo request to an address of ours.
    Echo,
    /// An ICMP error, to be judged by the packet it quotes.
    IcmpError,
    /// To an address of ours, but to no virtual server.
    Local,
    /// Nothing of ours.
    Drop(DropReason),
}

/// What a request or reply is looked up by in the connection table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lookup {
    /// Of the client's address and port.
    pub hash: u64,
    /// The connection's key. Requests only.
    pub key: Key,
}

/// The virtual server that was asked for last: consecutive packets of a burst mostly ask for the same one.
#[derive(Debug, Default)]
pub struct LastService {
    /// Its address, port and protocol; no socket is 0.
    socket: u64,
    service: ServiceId,
    any_port: bool,
}

impl LastService {
    #[inline]
    fn find(&mut self, snapshot: &Snapshot, packet: &Packet) -> Option<(ServiceId, bool)> {
        let socket = socket(packet.destination, packet.destination_port, packet.protocol);
        if socket != self.socket {
            let service =
                snapshot.virtual_server(packet.destination, packet.destination_port, packet.protocol)?;
            let any_port = snapshot.service(service).is_some_and(|service| service.port == 0);
            *self = Self { socket, service, any_port };
        }
        Some((self.service, self.any_port))
    }
}

/// Classifies a packet, and fills in `lookup` for a request or reply.
#[inline]
pub fn classify(
    packet: &Packet,
    snapshot: &Snapshot,
    table: &Table,
    last: &mut LastService,
    lookup: &mut Lookup,
) -> Class {
    let Some(protocol) = protocol(packet.protocol) else {
        return classify_other(packet, snapshot);
    };
    if let Some((service, any_port)) = last.find(snapshot, packet) {
        lookup.key =
            Key::new(packet.source, packet.source_port, service, packet.destination_port, protocol, any_port);
        lookup.hash = table.hash(lookup.key.hash_input());
        return Class::Request;
    }
    if snapshot.local(packet.destination).is_some() {
        return Class::Local;
    }
    match snapshot.nat_server(packet.source, packet.source_port, packet.protocol) {
        Some(any_port) => {
            let input = reply_hash_input(packet.destination, packet.destination_port, any_port);
            lookup.hash = table.hash(input);
            Class::Reply
        }
        None => Class::Drop(DropReason::ForeignAddress),
    }
}

/// ICMP and everything without ports.
#[cold]
fn classify_other(packet: &Packet, snapshot: &Snapshot) -> Class {
    let is_local = snapshot.local(packet.destination).is_some();
    match (packet.protocol, packet.flags) {
        (ipv4::ICMP, icmp::UNREACHABLE | icmp::SOURCE_QUENCH | icmp::TIME_EXCEEDED) => Class::IcmpError,
        (ipv4::ICMP, icmp::ECHO_REQUEST) if is_local => Class::Echo,
        _ if is_local => Class::Local,
        _ => Class::Drop(DropReason::ForeignAddress),
    }
}
