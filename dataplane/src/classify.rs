//! Second stage: whose is this packet?
//!
//! Answers by the addresses alone, without touching a connection; what it finds for the connection table (the key
//! and its hash) is enough to prefetch with.

use weir_config::model::Protocol;

use crate::address::Addr4;
use crate::conn::record::{Key, ServiceId, Usual, VipId, reply_hash_input};
use crate::conn::table::Table;
use crate::parse::plain6::{Plain6, Socket6};
use crate::parse::{Packet, Plain, Socket};
use crate::snapshot::{Ends, Snapshot, Target, protocol};
use crate::stats::DropReason;
use crate::wire::ipv4;
use crate::wire::l4::{Tcp, icmp};

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
    destination: Socket,
    /// No protocol is 0, so this stands for none.
    number: u8,
    target: Target,
    usual: Usual,
}

impl LastService {
    /// None was asked for yet.
    pub fn none() -> Self {
        Self {
            destination: Socket::default(),
            number: 0,
            target: Target { service: ServiceId::NONE, vip: VipId(0), any_port: false, is_helped: false },
            usual: Usual::default(),
        }
    }

    /// Whether a plain packet asks for the same virtual server again.
    #[inline]
    pub fn is_asked_by(&self, plain: &Plain) -> bool {
        plain.destination() == self.destination && plain.ip.protocol == self.number
    }

    /// The virtual server itself.
    #[inline]
    pub(crate) fn target(&self) -> Target {
        self.target
    }

    /// A plain packet asks for `target`, as any client's would.
    #[inline]
    pub(crate) fn set(&mut self, plain: &Plain, target: Target) -> Option<&Usual> {
        let (port, number) = (plain.tcp.destination.get(), plain.ip.protocol);
        let usual = target.key(Addr4::UNSPECIFIED, 0, port, protocol(number)?).usual();
        *self = Self { destination: plain.destination(), number, target, usual };
        Some(&self.usual)
    }

    /// What it is in the keys of such packets.
    #[inline]
    pub fn usual(&self) -> &Usual {
        &self.usual
    }

    /// Asks for the virtual server of a packet, and fills in what it is looked up by, its hash aside.
    #[inline(always)]
    fn ask(
        &mut self,
        snapshot: &Snapshot,
        packet: &Packet,
        protocol: Protocol,
        lookup: &mut Lookup,
    ) -> Option<()> {
        let (address, port, number) = (packet.destination, packet.destination_port, packet.protocol);
        let destination = Socket::of(address, port);
        let mut target = self.target;
        if self.destination != destination || self.number != number {
            let ends = Ends {
                source: packet.source,
                destination: address,
                destination_port: port,
                protocol: number,
            };
            let found = snapshot.target(&ends, protocol)?;
            target = found.target;
            // What another client would not find is not kept.
            if found.is_for_all {
                let usual = target.key(Addr4::UNSPECIFIED, 0, port, protocol).usual();
                *self = Self { destination, number, target, usual };
            }
        }
        lookup.service = target.service;
        lookup.key = target.key(packet.source, packet.source_port, port, protocol);
        Some(())
    }
}

/// The virtual server of IPv6 that was asked for last.
#[derive(Debug)]
pub struct LastService6 {
    destination: Socket6,
    protocol: Protocol,
    target: Target,
    usual: Usual,
}

impl LastService6 {
    /// None was asked for yet.
    pub fn none() -> Self {
        let target = Target { service: ServiceId::NONE, vip: VipId(0), any_port: false, is_helped: false };
        let usual = Usual::default();
        Self { destination: Socket6::default(), protocol: Protocol::Tcp, target, usual }
    }

    /// Whether a plain packet asks for the same virtual server again.
    #[inline]
    pub(crate) fn is_asked_by(&self, plain: &Plain6) -> bool {
        plain.destination_socket() == self.destination
    }

    /// As [`LastService::usual`].
    #[inline]
    pub(crate) fn usual(&self) -> Usual {
        self.usual
    }

    /// What a plain packet that asks for it is looked up by, its client aside, with this in place of the hash.
    #[inline]
    pub(crate) fn lookup(&self, plain: &Plain6, hash: u64) -> Lookup {
        let Tcp { source, destination, .. } = &plain.tcp;
        let key = self.target.key(Addr4::UNSPECIFIED, source.get(), destination.get(), self.protocol);
        Lookup { hash, key, service: self.target.service }
    }

    /// Asks for the virtual server of a plain packet. `None`: which one it asks for is not told by its destination alone, or it asks
    /// for none.
    #[inline(never)]
    pub(crate) fn look_up(&mut self, plain: &Plain6, snapshot: &Snapshot) -> Option<()> {
        let (address, port, number) =
            (plain.ip.destination.into(), plain.tcp.destination.get(), plain.ip.next_header);
        let target = snapshot.target_of_all6(address, port, number)?;
        let protocol = protocol(number)?;
        let usual = target.key(Addr4::UNSPECIFIED, 0, port, protocol).usual();
        *self = Self { destination: plain.destination_socket(), protocol, target, usual };
        Some(())
    }
}

/// As [`LastServers`], of IPv6.
#[derive(Debug)]
pub struct LastServers6(Box<[LastServer6; LAST_SERVERS]>);

#[derive(Debug, Clone, Copy, Default)]
struct LastServer6 {
    source: Socket6,
    usual: Usual,
}

impl LastServers6 {
    /// None sent yet.
    pub fn none() -> Self {
        Self(Box::new([LastServer6::default(); LAST_SERVERS]))
    }

    /// Forgets them all.
    pub fn clear(&mut self) {
        self.0.fill(LastServer6::default());
    }

    /// If a plain packet is another one of a real server's, what is the same in the keys of such packets.
    #[inline]
    pub(crate) fn usual(&self, plain: &Plain6) -> Option<Usual> {
        let source = plain.source_socket();
        let last = &self.0[source.hash()];
        (last.source == source).then_some(last.usual)
    }

    /// Remembers the real server of a plain packet to an address that is none of ours, if it is a NAT real server's.
    #[inline(never)]
    pub(crate) fn look_up(&mut self, plain: &Plain6, snapshot: &Snapshot) -> Option<()> {
        let (address, port, number) = (plain.ip.source.into(), plain.tcp.source.get(), plain.ip.next_header);
        let any_port = snapshot.nat_server_of_all6(address, port, number)?;
        let (source, usual) = (plain.source_socket(), Usual::of_server(protocol(number)?, any_port));
        self.0[source.hash()] = LastServer6 { source, usual };
        Some(())
    }
}

/// NAT real servers that sent of late: their packets to clients are told without asking for virtual servers.
#[derive(Debug)]
pub struct LastServers(Box<[LastServer; LAST_SERVERS]>);

/// Each real server has one place among these, by [`Socket::hash`].
const LAST_SERVERS: usize = 256;

#[derive(Debug, Clone, Copy, Default)]
struct LastServer {
    source: Socket,
    /// No protocol is 0, so this stands for none.
    number: u8,
    usual: Usual,
}

impl LastServers {
    /// None sent yet.
    pub fn none() -> Self {
        Self(Box::new([LastServer::default(); LAST_SERVERS]))
    }

    /// Forgets them all.
    pub fn clear(&mut self) {
        self.0.fill(LastServer::default());
    }

    /// If a plain packet is another one of a real server's to somebody who is certainly no virtual server, what is the
    /// same in the keys of such packets.
    #[inline]
    pub fn usual(&self, plain: &Plain, snapshot: &Snapshot) -> Option<&Usual> {
        let source = plain.source();
        let last = &self.0[source.hash()];
        let is_its = last.source == source
            && last.number == plain.ip.protocol
            && snapshot.is_surely_foreign(plain.ip.destination.get());
        is_its.then_some(&last.usual)
    }

    /// Remembers the real server of a reply. With marks any address may be one that clients talk to.
    #[inline]
    pub fn remember(&mut self, packet: &Packet, snapshot: &Snapshot) {
        let (address, port, number) = (packet.source, packet.source_port, packet.protocol);
        let source = Socket::of(address, port);
        let last = &mut self.0[source.hash()];
        if snapshot.has_marks() || last.source == source && last.number == number {
            return;
        }
        if let Some(protocol) = protocol(number)
            && let Some(any_port) = snapshot.nat_server(address, port, number)
        {
            *last = LastServer { source, number, usual: Usual::of_server(protocol, any_port) };
        }
    }
}

/// Classifies a packet, and fills in `lookup` for a request or reply. Always inlined: each packet of the common way goes through it.
#[inline(always)]
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
    match classify_unasked(packet, snapshot, table, lookup) {
        Class::Local if snapshot.has_helpers() => classify_data(packet, snapshot, table, lookup),
        class => class,
    }
}

/// A packet to an address of ours that asks for no virtual server: it may be a data connection's, which a helper looks after.
#[cold]
fn classify_data(packet: &Packet, snapshot: &Snapshot, table: &Table, lookup: &mut Lookup) -> Class {
    let &Packet { source, destination, destination_port, protocol, .. } = packet;
    let Some(target) = snapshot.data_target(&Ends { source, destination, destination_port, protocol }) else {
        return Class::Local;
    };
    let key = target.key(source, packet.source_port, destination_port, Protocol::Tcp);
    *lookup = Lookup { hash: table.hash(key.hash_input()), key, service: target.service };
    Class::Request
}

/// As [`classify`], for a packet that asks for no virtual server.
#[inline(always)]
pub fn classify_unasked(packet: &Packet, snapshot: &Snapshot, table: &Table, lookup: &mut Lookup) -> Class {
    if snapshot.local(packet.destination).is_some()
        && (!packet.destination.is_of_ipv6() || packet.is_of_ipv6())
    {
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
    let is_local = snapshot.local(packet.destination).is_some() && !packet.destination.is_of_ipv6();
    match (packet.protocol, packet.flags) {
        (ipv4::ICMP, icmp::UNREACHABLE | icmp::SOURCE_QUENCH | icmp::TIME_EXCEEDED) => Class::IcmpError,
        (ipv4::ICMP, icmp::ECHO_REQUEST) if is_local => Class::Echo,
        _ if is_local => Class::Local,
        _ => Class::Drop(DropReason::ForeignAddress),
    }
}
