//! Connections that another director has told of ([`crate::foretold`]): looked for where nobody knows a packet's, and taken into the table of
//! the worker that gets the client's packets.
//!
//! A real server's packet takes none: it may come to another worker than its client's do.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use weir_config::model::{Forwarding, Protocol};

use super::open::answer_alike;
use super::request::{Course, course, direction_to};
use super::{Context, Director};
use crate::address::Addr4;
use crate::classify::Lookup;
use crate::conn::record::{Key, Record, ServerId};
use crate::conn::state::{self, Direction};
use crate::foretold::{Busy, Flow, Told};
use crate::packet::Frame;
use crate::parse::Packet;
use crate::parse::v6::Ends6;
use crate::snapshot::server::Server;
use crate::snapshot::service::Service;
use crate::snapshot::{Ends, Snapshot, protocol};

impl<F: Frame> Director<F> {
    /// The real server of a client's packet whose connection was foretold, and goes on with it. It is this worker's from now on, if
    /// there is room for it.
    ///
    /// # Errors
    /// Nobody knows: control was at its place for too long.
    #[cold]
    #[inline(never)]
    pub(super) fn take_foretold<'a>(
        &mut self,
        packet: &Packet,
        lookup: &Lookup,
        context: Context<'a>,
    ) -> Result<Option<&'a Server>, Busy> {
        let Context { snapshot, now, .. } = context;
        let Some((told, record)) = self.foretold_of(packet, lookup, context)? else { return Ok(None) };
        let server = snapshot.server(record.server());
        if !matches!(course(packet, record, snapshot, now), Course::GoesOn(_)) {
            self.shared.foretold.remove(&told.flow);
            return Ok(None);
        }
        let inserted = match server.forwarding {
            Forwarding::Nat => {
                let is_rival = |other: Record| answer_alike(record, other, snapshot);
                self.table.insert_before(lookup.hash, record, is_rival)
            }
            Forwarding::Dr | Forwarding::Tun => self.table.insert(lookup.hash, record),
        };
        let Ok(slot) = inserted else {
            // It goes on waiting, and its packets go where they went.
            self.move_foretold(told, packet.flags, direction_to(server), context);
            self.count_untracked(packet, now);
            return Ok(Some(server));
        };
        let protocol = record.protocol();
        server.bind(self.shared.worker, protocol, record.state());
        let record = match self.hang_on_template(packet, (snapshot, now), server) {
            true => Record::new(lookup.key, server.id, told.state, now.seconds, true),
            false => record,
        };
        self.table.update(slot, record);
        self.follow(slot, record, packet.flags, direction_to(server), context);
        self.shared.foretold.remove(&told.flow);
        self.shared.counters.foretold_taken.add(1);
        Ok(Some(server))
    }

    /// The connection of a client's packet that was foretold, and as a record that is in no table, if its real server is one of the
    /// virtual server's.
    pub(super) fn foretold_of(
        &self,
        packet: &Packet,
        lookup: &Lookup,
        Context { snapshot, now, .. }: Context<'_>,
    ) -> Result<Option<(Told, Record)>, Busy> {
        let Some(service) = snapshot.service(lookup.service) else { return Ok(None) };
        let (client, server) = match packet.is_of_ipv6() {
            true => (self.ends6.source.into(), self.ends6.destination.into()),
            false => (packet.source.into(), packet.destination.into()),
        };
        let flow = Flow {
            protocol: lookup.key.protocol(),
            client: SocketAddr::new(client, packet.source_port),
            server: SocketAddr::new(server, packet.destination_port),
        };
        let told = self.shared.foretold.find(&flow, now.seconds)?;
        Ok(told.and_then(|told| {
            let server = real_server(service, &told, snapshot)?;
            Some((told, Record::new(lookup.key, server.id, told.state, now.seconds, false)))
        }))
    }

    /// The connection of a NAT real server's packet that was foretold, as a record that is in no table. It is moved along.
    ///
    /// # Errors
    /// Nobody knows.
    #[cold]
    #[inline(never)]
    pub(super) fn answer_foretold(
        &mut self,
        packet: &Packet,
        (server, client): (IpAddr, IpAddr),
        context: Context<'_>,
    ) -> Result<Option<Record>, Busy> {
        let Some((told, record)) = self.foretold_to(packet, (server, client), context)? else {
            return Ok(None);
        };
        self.move_foretold(told, packet.flags, Direction::Output, context);
        Ok(Some(record))
    }

    /// The same, left as it is.
    pub(super) fn foretold_to(
        &self,
        packet: &Packet,
        (server, client): (IpAddr, IpAddr),
        Context { snapshot, now, .. }: Context<'_>,
    ) -> Result<Option<(Told, Record)>, Busy> {
        let Some(protocol) = protocol(packet.protocol) else { return Ok(None) };
        let client = SocketAddr::new(client, packet.destination_port);
        let server = SocketAddr::new(server, packet.source_port);
        let told = self.shared.foretold.find_answered(protocol, client, server, now.seconds)?;
        Ok(told.and_then(|told| {
            let to = told.flow.server;
            let vip = match to.ip() {
                IpAddr::V4(vip) => vip.into(),
                IpAddr::V6(vip) => snapshot.number6(vip)?,
            };
            let ends = [(packet.destination, wide(client.ip())), (vip, wide(to.ip()))];
            // Those of a mark have no address of their own.
            let services =
                [service_of(to, protocol, snapshot), service_meant(ends, to.port(), protocol, snapshot)];
            let is_its = |service: &Service| {
                real_server(service, &told, snapshot).filter(|it| it.forwarding == Forwarding::Nat)
            };
            let server = services.into_iter().flatten().find_map(is_its)?;
            let vip = snapshot.vips.own_number(vip)?;
            let key = Key::new(packet.destination, client.port(), vip, to.port(), protocol, false);
            Some((told, Record::new(key, server.id, told.state, now.seconds, false)))
        }))
    }

    /// A packet moves a connection along that goes on waiting.
    fn move_foretold(&self, told: Told, segment: u8, direction: Direction, context: Context<'_>) {
        let Context { snapshot, now, .. } = context;
        let protocol = told.flow.protocol;
        let state = state::next(protocol, direction, segment, told.state, snapshot.switches.secure_tcp);
        let until = now.seconds.saturating_add(snapshot.lifetimes.of(protocol, state));
        self.shared.foretold.renew(told, Told { state, until, ..told });
    }
}

/// The virtual server that a client's packet to this port would be of, by mark as well. Both ends as numbers and as addresses of IPv6,
/// if they are such.
pub(super) fn service_meant(
    [(client, client6), (vip, vip6)]: [(Addr4, Ipv6Addr); 2],
    port: u16,
    protocol: Protocol,
    snapshot: &Snapshot,
) -> Option<&Service> {
    let ends = Ends { source: client, destination: vip, destination_port: port, protocol: protocol.number() };
    let target = match client.is_of_ipv6() {
        true => snapshot.target6(&ends, Ends6 { source: client6, destination: vip6 }, protocol)?,
        false => snapshot.target(&ends, protocol)?.target,
    };
    snapshot.service(target.service)
}

/// An address of IPv6; of IPv4 nobody's.
fn wide(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(_) => Ipv6Addr::UNSPECIFIED,
        IpAddr::V6(address) => address,
    }
}

/// The virtual server at an address and port, or at all ports of it.
pub fn service_of(to: SocketAddr, protocol: Protocol, snapshot: &Snapshot) -> Option<&Service> {
    [to.port(), 0].into_iter().find_map(|port| snapshot.service_at(to.ip(), port, protocol))
}

/// The real server of a virtual server's that is where it was told to be.
fn real_server<'a>(service: &Service, told: &Told, snapshot: &'a Snapshot) -> Option<&'a Server> {
    let server = server_at(service, told.real_server, told.flow.server.port(), snapshot)?;
    Some(snapshot.server(server))
}

/// The real server of a virtual server's at this address, and at this port for connections to `port`. Its port 0 is any.
pub fn server_at(service: &Service, at: SocketAddr, port: u16, snapshot: &Snapshot) -> Option<ServerId> {
    let is_it = |server: &Server| {
        server.ip() == at.ip() && (at.port() == 0 || server.port_for(port) == at.port()) && server.is_present
    };
    service.list.iter().map(|candidate| candidate.id).find(|id| is_it(snapshot.server(*id)))
}
