//! ICMPv6 errors of others: to the real server whose packet they are about, or to the client, from the VIP, if NAT passed its
//! packet on.
//!
//! What a mark matches may hold clients of other virtual servers. So an error to an address that clients talk to is about an
//! answer from there, or about a request that came from there.

use std::net::Ipv6Addr;

use zerocopy::FromBytes;

use super::ipv6::{leaves_its_link, number_of_vip6};
use super::reply6::Pair6;
use super::{Context, Director, Pass, Passed, trim_surplus};
use crate::packet::{Frame, Wire};
use crate::parse::v6::{self, Ends6, may_be_source};
use crate::parse::{Packet, Quoted};
use crate::reply::tunnel6::AboutTunnel;
use crate::rewrite::{ipv6_mut, nat6, quoted};
use crate::snapshot::protocol;
use crate::snapshot::server::{Gauge, Server};
use crate::stats::DropReason;
use crate::wire::ipv6::Ipv6;

/// What an error about a packet to a NAT real server goes to its client from.
struct Own<'a> {
    /// The VIP.
    address: Ipv6Addr,
    port: u16,
    /// For whom it counts. `None`: it is about a flow without a record.
    server: Option<&'a Server>,
}

impl<F: Frame> Director<F> {
    /// As [`Director::icmp_error`], of one whose checksum is right.
    #[cold]
    pub(super) fn icmp_error6<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let snapshot = pass.context.snapshot;
        let read = v6::parse_quoted(packet.within(frame.bytes()), quoted::quote_offset(packet));
        let (mut quoted, ends) = match read {
            Ok(read) => read,
            Err(reason) => return Err((frame, reason)),
        };
        // The addresses say so, and not their numbers: who has none has that of all such.
        if self.ends6.destination != ends.source {
            return Err((frame, DropReason::StrayIcmp));
        }
        if !snapshot.is_vip6(ends.source) {
            return match self.own_end6(&quoted, ends, pass.context) {
                Some(own) => self.error_to_client6(frame, packet, &quoted, (ends.source, own), pass),
                None => Err((frame, DropReason::StrayIcmp)),
            };
        }
        self.ends6 = Ends6 { source: ends.destination, destination: ends.source };
        quoted.source = number_of_vip6(ends.source, snapshot);
        quoted.destination = self.number6(ends.destination);
        // Hosts of several links may have one address: who is on another one says nothing about a connection of this one's.
        let is_for_link = ends.destination.is_unicast_link_local();
        if let Some(record) = self.find_client(&quoted, snapshot, quoted.source, quoted.destination) {
            let server = snapshot.server(record.server());
            if is_for_link && leaves_its_link(ends.destination, server, pass.context.port) {
                return Err((frame, DropReason::LinkLocal));
            }
            return self.error_to_server(frame, packet, &quoted, record, pass);
        }
        // The address that tunnels come from may be a VIP as well.
        if let Ok((header, _)) = Ipv6::ref_from_prefix(packet.within(frame.bytes()).from(packet.l3()))
            && let Some(about) =
                AboutTunnel::read(frame.bytes(), packet.vlan, (header, packet.l4()), snapshot)
        {
            return self.tunnel_error6(frame, &about, pass);
        }
        if let Some(own) = self.own_end6(&quoted, ends, pass.context) {
            return self.error_to_client6(frame, packet, &quoted, (ends.source, own), pass);
        }
        // No router has seen a packet to such a client, so what an error would open is nobody's.
        if is_for_link {
            return Err((frame, DropReason::StrayIcmp));
        }
        if snapshot.switches.schedule_icmp {
            // It may open the connection of the client that it is about.
            quoted.destination = self.table.clients.take(ends.destination);
        }
        self.error_about_unknown(frame, packet, &quoted, pass)
    }

    /// The end of ours of a quoted packet between these ends, if it is a client's to a NAT real server.
    fn own_end6<'a>(
        &self,
        quoted: &Quoted,
        Ends6 { source: client, destination: server }: Ends6,
        Context { snapshot, now, .. }: Context<'a>,
    ) -> Option<Own<'a>> {
        let pair = Pair6 {
            server,
            server_port: quoted.destination_port,
            protocol: quoted.protocol,
            client,
            client_port: quoted.source_port,
        };
        if quoted.is_later_fragment || protocol(quoted.protocol).is_none() {
            return None;
        }
        if let Some(record) = self.find_between6(&pair, snapshot) {
            let address = snapshot.address6(snapshot.vips.address(record.vip())?)?;
            let server = Some(snapshot.server(record.server()));
            return Some(Own { address, port: record.port(), server });
        }
        let origin = snapshot.origin6(server, pair.server_port, pair.protocol)?;
        let may_be_its =
            !origin.one_packet && may_be_source(client) && self.may_answer_untracked6(&pair, snapshot, now);
        let address = snapshot.address6(origin.vip).filter(|_| may_be_its)?;
        Some(Own { address, port: origin.port, server: None })
    }

    /// Sends an error to this client, from the VIP and with its port in the quote.
    fn error_to_client6<W: Wire<Frame = F>>(
        &mut self,
        mut frame: F,
        packet: &Packet,
        quoted: &Quoted,
        (client, own): (Ipv6Addr, Own<'_>),
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let snapshot = pass.context.snapshot;
        let Some(hop) = snapshot.routes.back6(client, pass.context.port) else {
            return Err((frame, DropReason::NoRoute));
        };
        if let Err(reason) = trim_surplus(&mut frame, packet) {
            return Err((frame, reason));
        }
        let is_too_big = packet.total_len > snapshot.ports[usize::from(hop.port())].mtu;
        let bytes = frame.bytes_mut();
        let rewritten = ipv6_mut(bytes, packet.l3())
            .and_then(|header| match header.hop_limit {
                0 | 1 => Err(DropReason::TtlExceeded),
                // An error is not answered with another.
                _ if is_too_big => Err(DropReason::TooBig),
                _ => {
                    header.hop_limit -= 1;
                    Ok(())
                }
            })
            .and_then(|()| {
                let own = (own.address, own.port);
                quoted::translate6(bytes, packet, quoted, quoted::End::Destination, own)
            })
            .and_then(|()| nat6::to_client(bytes, packet, own.address, own.port));
        if let Err(reason) = rewritten {
            return Err((frame, reason));
        }
        match own.server {
            Some(server) => self.count_reply(server, packet),
            None => self.count_untracked6(pass.context.now),
        }
        self.send6(frame, packet.vlan, &Gauge::default(), hop.on(packet.vlan.network()), pass)
    }
}
