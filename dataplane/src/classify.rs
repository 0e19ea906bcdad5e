//! Second stage: whose is this packet?
//!
//! Answers by the addresses alone, without touching a connection; what it finds for the connection table (the key
//! and its hash) is enough to prefetch with.

use weir_config::model::Protocol;
use zerocopy::byteorder::network_endian::{U16, U32};

use crate::conn::record::{Key, ServiceId, VipId, reply_hash_input};
use crate::conn::table::Table;
use crate::parse::{Packet, Plain};
use crate::snapshot::{Ends, Snapshot, Target, protocol};
use crate::stats::DropReason;
use crate::wire::ipv4;
use crate::wire::l4::icmp;

/// What is to be done with an IPv4 packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// From a client to a virtual server: [`Lookup::key`] is its connection's. Or to a VIP of a mark that the packet does
    /// not have: it may still be part of a connection.
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
    /// The virtual server that a new connection goes to; none has the number [`ServiceId::NONE`]. Requests only.
    pub service: ServiceId,
}

/// The virtual server that was asked for last: consecutive packets of a burst mostly ask for the same one.
#[derive(Debug)]
pub struct LastService {
    destination: U32,
    port: U16,
    /// No protocol is 0, so this stands for none.
    number: u8,
    protocol: Protocol,
    target: Target,
}

impl LastService {
    /// None was asked for yet.
    pub fn none() -> Self {
        Self {
            destination: U32::ZERO,
            port: U16::ZERO,
            number: 0,
            protocol: Protocol::Tcp,
            target: Target { service: ServiceId::NONE, vip: VipId(0), any_port: false },
        }
    }

    /// Fills in what a plain packet is looked up by, its hash aside, if it asks for the same virtual server again.
    #[inline]
    pub fn is_asked_again(&self, plain: &Plain, lookup: &mut Lookup) -> bool {
        let Plain { ip, tcp, .. } = plain;
        let is_same =
            ip.destination == self.destination && tcp.destination == self.port && ip.protocol == self.number;
        if is_same {
            lookup.service = self.target.service;
            lookup.key =
                self.target.key(ip.source.get(), tcp.source.get(), tcp.destination.get(), self.protocol);
        }
        is_same
    }

    /// Asks for the virtual server of a packet, and fills in what it is looked up by, its hash aside.
    #[inline]
    fn ask(
        &mut self,
        snapshot: &Snapshot,
        packet: &Packet,
        protocol: Protocol,
        lookup: &mut Lookup,
    ) -> Option<()> {
        let (destination, port, number) = (packet.destination, packet.destination_port, packet.protocol);
        let mut target = self.target;
        if self.destination.get() != destination || self.port.get() != port || self.number != number {
            let ends = Ends { source: packet.source, destination, destination_port: port, protocol: number };
            let found = snapshot.target(&ends, protocol)?;
            target = found.target;
            // What another client would not find is not kept.
            if found.is_for_all {
                *self = Self {
                    destination: U32::new(destination),
                    port: U16::new(port),
                    number,
                    protocol,
                    target,
                };
            }
        }
        lookup.service = target.service;
        lookup.key = target.key(packet.source, packet.source_port, port, protocol);
        Some(())
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
    if last.ask(snapshot, packet, protocol, lookup).is_some() {
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
