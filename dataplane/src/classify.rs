//! Second stage: whose is this packet?
//!
//! Answers by the addresses alone, without touching a connection; what it finds for the connection table (the key
//! and its hash) is enough to prefetch with.

use weir_config::model::{MacAddress, Protocol};

use crate::conn::record::{Key, ServiceId, reply_hash_input};
use crate::conn::table::Table;
use crate::parse::Packet;
use crate::snapshot::{Snapshot, protocol};
use crate::stats::DropReason;
use crate::wire::ipv4;
use crate::wire::l4::icmp;

/// What is to be done with an IPv4 packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// From a client to a virtual server.
    Request(Request),
    /// From a NAT real server to a client, by its addresses.
    Reply(Reply),
    /// ICMP echo request to an address of ours.
    Echo,
    /// An ICMP error, to be judged by the packet it quotes.
    IcmpError,
    /// To an address of ours, but to no virtual server.
    Local,
    /// Nothing of ours.
    Drop(DropReason),
}

/// A client's packet to a virtual server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Of the key.
    pub hash: u64,
    /// What the connection is looked up by.
    pub key: Key,
    /// The virtual server.
    pub service: ServiceId,
    /// Its protocol.
    pub protocol: Protocol,
}

/// A packet from the socket of a NAT real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// Of the client.
    pub hash: u64,
    /// The protocol.
    pub protocol: Protocol,
}

/// The virtual server that was asked for last: consecutive packets of a burst mostly ask for the same one.
#[derive(Debug, Default)]
pub struct LastService(Option<(u32, u16, u8, ServiceId, bool)>);

impl LastService {
    #[inline]
    fn find(&mut self, snapshot: &Snapshot, packet: &Packet) -> Option<(ServiceId, bool)> {
        let (address, port, number) = (packet.destination, packet.destination_port, packet.protocol);
        if let Some((a, p, n, id, any_port)) = self.0
            && a == address
            && p == port
            && n == number
        {
            return Some((id, any_port));
        }
        let id = snapshot.virtual_server(address, port, number)?;
        let any_port = snapshot.service(id).is_some_and(|service| service.port == 0);
        self.0 = Some((address, port, number, id, any_port));
        Some((id, any_port))
    }
}

/// Classifies a packet that was received with destination MAC `to` on a port whose own is `mac`.
#[inline]
pub fn classify(
    packet: &Packet,
    to: MacAddress,
    mac: MacAddress,
    snapshot: &Snapshot,
    table: &Table,
    last: &mut LastService,
) -> Class {
    if to != mac {
        return Class::Drop(DropReason::ForeignMac);
    }
    let Some(protocol) = protocol(packet.protocol) else {
        return classify_other(packet, snapshot);
    };
    if let Some((service, any_port)) = last.find(snapshot, packet) {
        return Class::Request(request(packet, service, any_port, protocol, table));
    }
    if snapshot.local(packet.destination).is_some() {
        return Class::Local;
    }
    match snapshot.nat_server(packet.source, packet.source_port, packet.protocol) {
        Some(any_port) => {
            let input = reply_hash_input(packet.destination, packet.destination_port, any_port);
            Class::Reply(Reply { hash: table.hash(input), protocol })
        }
        None => Class::Drop(DropReason::ForeignAddress),
    }
}

#[inline]
fn request(packet: &Packet, service: ServiceId, any_port: bool, protocol: Protocol, table: &Table) -> Request {
    let key =
        Key::new(packet.source, packet.source_port, service, packet.destination_port, protocol, any_port);
    Request { hash: table.hash(key.hash_input()), key, service, protocol }
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
