//! ICMPv6 errors from the servers' side, about packets that NAT passed on to a real server: to the client, from the VIP.

use std::net::Ipv6Addr;

use super::reply6::Pair6;
use super::{Context, Director, Pass, Passed, trim_surplus};
use crate::packet::{Frame, Wire};
use crate::parse::v6::{Ends6, may_be_source};
use crate::parse::{Packet, Quoted};
use crate::rewrite::{ipv6_mut, nat6, quoted};
use crate::snapshot::protocol;
use crate::snapshot::server::{Gauge, Server};
use crate::stats::DropReason;

impl<F: Frame> Director<F> {
    /// An error about a packet from the client to the real server of [`Director::ends6`].
    #[cold]
    pub(super) fn error_to_client6<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        quoted: &Quoted,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let Context { snapshot, now, .. } = pass.context;
        let Ends6 { source: client, destination: server } = self.ends6;
        let pair = Pair6 {
            server,
            server_port: quoted.destination_port,
            protocol: quoted.protocol,
            client,
            client_port: quoted.source_port,
        };
        if quoted.is_later_fragment || protocol(quoted.protocol).is_none() {
            return Err((frame, DropReason::StrayIcmp));
        }
        if let Some(record) = self.find_between6(&pair, snapshot) {
            let Some(vip) = snapshot.vips.address(record.vip()).and_then(|vip| snapshot.address6(vip)) else {
                return Err((frame, DropReason::StrayIcmp));
            };
            let server = Some(snapshot.server(record.server()));
            return self.send_error6(frame, packet, quoted, (vip, record.port()), server, pass);
        }
        let origin = snapshot.origin6(server, pair.server_port, pair.protocol);
        let may_be_its = |one_packet: bool| {
            !one_packet && may_be_source(client) && self.may_answer_untracked6(&pair, snapshot, now)
        };
        let origin = origin.filter(|origin| may_be_its(origin.one_packet));
        match origin.and_then(|origin| Some((snapshot.address6(origin.vip)?, origin.port))) {
            Some(origin) => {
                self.shared.counters.untracked.add(1);
                self.send_error6(frame, packet, quoted, origin, None, pass)
            }
            None => Err((frame, DropReason::StrayIcmp)),
        }
    }

    /// Sends it from the VIP and with its port in the quote. Counts for `server`.
    fn send_error6<W: Wire<Frame = F>>(
        &mut self,
        mut frame: F,
        packet: &Packet,
        quoted: &Quoted,
        own: (Ipv6Addr, u16),
        server: Option<&Server>,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let snapshot = pass.context.snapshot;
        let Some(hop) = snapshot.routes.next_hop6(self.ends6.source) else {
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
            .and_then(|()| quoted::translate6(bytes, packet, quoted, quoted::End::Destination, own))
            .and_then(|()| nat6::to_client(bytes, packet, own.0, own.1));
        if let Err(reason) = rewritten {
            return Err((frame, reason));
        }
        if let Some(server) = server {
            self.count_reply(server, packet);
        }
        self.send6(frame, packet.vlan, &Gauge::default(), hop.on(packet.vlan.network()), pass)
    }
}
