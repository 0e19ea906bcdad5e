//! As `reply`, of IPv6: a NAT real server's packet back to its client as the virtual server's, and the connection that it
//! belongs to.
//!
//! A client's number is each worker's own, so every table that is searched is asked by the number that its owner has given.

use std::net::Ipv6Addr;

use weir_config::model::Forwarding;

use super::reply::{Obstacle, answers_a_syn, is_reset, is_told_from_first, may_be_answered, to_client};
use super::{Context, Director, Pass, Passed, trim_surplus};
use crate::address::Addr4;
use crate::clock::Now;
use crate::conn::record::{Record, ServerId, reply_hash_input};
use crate::conn::state::Direction;
use crate::conn::table::{Slot, View};
use crate::foretold::Busy;
use crate::limit::Asker;
use crate::neighbor::Hop6;
use crate::packet::{Frame, Wire};
use crate::parse::Packet;
use crate::parse::v6::{Ends6, may_be_source};
use crate::reply;
use crate::rewrite::{ipv6_mut, nat6};
use crate::snapshot::Snapshot;
use crate::snapshot::server::Gauge;
use crate::stats::{DropReason, WorkerCounters};
use crate::wire::ethernet::Vlan;
use crate::wire::ipv4;
use crate::wire::ipv6::MTU_MIN;
use crate::wire::l4::flags;

/// A NAT real server and a client that talk to each other, by what stands in the real server's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair6 {
    pub(super) server: Ipv6Addr,
    pub(super) server_port: u16,
    /// IP protocol number.
    pub(super) protocol: u8,
    pub(super) client: Ipv6Addr,
    pub(super) client_port: u16,
}

impl Pair6 {
    /// Of a real server's packet between these ends.
    pub(super) fn of(packet: &Packet, ends: Ends6) -> Self {
        Self {
            server: ends.source,
            server_port: packet.source_port,
            protocol: packet.protocol,
            client: ends.destination,
            client_port: packet.destination_port,
        }
    }

    /// Whether a connection of the client's port is theirs.
    fn has(&self, record: Record, snapshot: &Snapshot) -> bool {
        let server = snapshot.server(record.server());
        record.protocol().number() == self.protocol
            && server.replies_from6(self.server, self.server_port, record.port())
            && server.forwarding == Forwarding::Nat
    }

    /// What their connection may be hashed with, besides the client: first as the real server's virtual servers have it.
    pub(super) fn kinds(&self, snapshot: &Snapshot) -> impl Iterator<Item = Option<u16>> + use<> {
        let any_port = snapshot.nat_server6(self.server, self.server_port, self.protocol).flatten();
        let other = if any_port.is_some() { None } else { Some(self.server_port) };
        std::iter::once(any_port).chain(snapshot.has_both_hashes.then_some(other))
    }

    fn hash_input(&self, client: Addr4, kind: Option<u16>) -> u64 {
        reply_hash_input(client, self.client_port, kind)
    }
}

/// Where a connection is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Here(Slot),
    /// With the worker of this number.
    There(usize),
}

impl<F: Frame> Director<F> {
    /// Between whom the packet under way goes, if it may be a NAT real server's to a client.
    pub(super) fn reply_to6(&self, packet: &Packet, snapshot: &Snapshot) -> Option<Ends6> {
        let ends = self.ends6;
        snapshot.nat_server6(ends.source, packet.source_port, packet.protocol)?;
        may_be_source(ends.destination).then_some(ends)
    }

    /// As [`Director::find_reply_to_marked`].
    #[cold]
    pub(super) fn find_reply_to_marked6(&mut self, packet: &Packet, context: Context<'_>) -> Option<Record> {
        let pair = Pair6::of(packet, self.reply_to6(packet, context.snapshot)?);
        pair.kinds(context.snapshot).find_map(|kind| self.follow_reply6(packet, &pair, kind, context))
    }

    /// As [`Director::is_stray_reply_to_marked`].
    pub(super) fn is_stray_reply_to_marked6(&self, packet: &Packet, context: Context<'_>) -> bool {
        let Context { snapshot, now, .. } = context;
        let Some(ends) = self.reply_to6(packet, snapshot) else { return false };
        let pair = Pair6::of(packet, ends);
        let (server, port, protocol) = (pair.server, pair.server_port, pair.protocol);
        let may_go_on = || {
            snapshot.origin6(server, port, protocol).is_some()
                && self.may_answer_untracked6(&pair, snapshot, now)
        };
        snapshot.is_nat_socket6(server, port, protocol)
            || answers_a_syn(packet)
            || is_told_from_first(packet) && may_go_on()
    }

    /// A packet from a NAT real server of IPv6 to a client.
    pub(super) fn reply6<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        ends: Ends6,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let pair = Pair6::of(packet, ends);
        self.ends6 = Ends6 { source: ends.destination, destination: ends.source };
        let mut kinds = pair.kinds(pass.context.snapshot);
        match kinds.find_map(|kind| self.follow_reply6(packet, &pair, kind, pass.context)) {
            Some(record) => self.reply_of6(frame, packet, (record, pair.client), pass),
            None => self.stray_reply6(frame, packet, &pair, pass),
        }
    }

    /// As [`Director::follow_reply`].
    fn follow_reply6(
        &mut self,
        packet: &Packet,
        pair: &Pair6,
        kind: Option<u16>,
        context: Context<'_>,
    ) -> Option<Record> {
        let (place, record) = self.find_answered6(packet, pair, kind, context.snapshot)?;
        match place {
            Place::Here(slot) => self.follow(slot, record, packet.flags, Direction::Output, context),
            Place::There(owner) => self.tell_owner(owner, record, packet.flags, Direction::Output, context),
        }
        Some(record)
    }

    /// The connection between these two that waits for this packet, or else one that does not.
    pub(super) fn find_answered6(
        &self,
        packet: &Packet,
        pair: &Pair6,
        kind: Option<u16>,
        snapshot: &Snapshot,
    ) -> Option<(Place, Record)> {
        let is_its = |record| pair.has(record, snapshot);
        let own = self.find_own6(pair, kind, is_its);
        if !own.is_some_and(|(_, record)| may_be_answered(packet, record)) {
            // What another worker's connection waits for is not this one's.
            let is_awaited = |record| is_its(record) && may_be_answered(packet, record);
            let elsewhere = self.find_others6(pair, kind, is_awaited);
            let elsewhere = match own {
                None => elsewhere.or_else(|| self.find_others6(pair, kind, is_its)),
                Some(_) => elsewhere,
            };
            if let Some((owner, record)) = elsewhere {
                return Some((Place::There(owner), record));
            }
        }
        own.map(|(slot, record)| (Place::Here(slot), record))
    }

    /// The connection between these two, whichever worker has it.
    #[cold]
    pub(super) fn find_between6(&self, pair: &Pair6, snapshot: &Snapshot) -> Option<Record> {
        let is_its = |record| pair.has(record, snapshot);
        pair.kinds(snapshot).find_map(|kind| {
            let own = self.find_own6(pair, kind, is_its).map(|(_, record)| record);
            own.or_else(|| self.find_others6(pair, kind, is_its).map(|(_, record)| record))
        })
    }

    fn find_own6(
        &self,
        pair: &Pair6,
        kind: Option<u16>,
        is_its: impl Fn(Record) -> bool,
    ) -> Option<(Slot, Record)> {
        let client = self.table.clients.number(pair.client)?;
        let hash = self.table.hash(pair.hash_input(client, kind));
        self.table.find_reply(hash, client, pair.client_port, is_its)
    }

    /// Among the other workers' connections, with the owner's number.
    fn find_others6(
        &self,
        pair: &Pair6,
        kind: Option<u16>,
        is_its: impl Fn(Record) -> bool,
    ) -> Option<(usize, Record)> {
        let find = |view: &View| {
            let client = view.clients().number(pair.client)?;
            let hash = self.table.hash(pair.hash_input(client, kind));
            let record = view.find_reply(hash, client, pair.client_port, &is_its)?;
            // Unless the number became another address's meanwhile.
            (view.client(record) == Some(pair.client.into())).then_some(record)
        };
        let mut others = self.views.iter().enumerate().filter(|(worker, _)| *worker != self.shared.worker);
        others.find_map(|(worker, view)| Some((worker, find(view)?)))
    }

    /// As [`Director::may_answer_untracked`], of connections between these two.
    #[cold]
    pub(super) fn may_answer_untracked6(&self, pair: &Pair6, snapshot: &Snapshot, now: Now) -> bool {
        let kind = pair.kinds(snapshot).next().flatten();
        let is_crowded = |view: &View| {
            let number = view.clients().number(pair.client);
            number.is_some_and(|client| view.is_crowded(self.table.hash(pair.hash_input(client, kind))))
        };
        let turned_by = self.turned_by_address(pair.client, pair.hash_input(Addr4::UNSPECIFIED, kind));
        self.is_under_suspicion(now)
            || self.is_under_suspicion6(now)
            || self.views.iter().any(is_crowded)
            || self.shared.turned_away.has(turned_by, now)
    }

    /// As [`Director::reply_of`].
    pub(super) fn reply_of6<W: Wire<Frame = F>>(
        &mut self,
        mut frame: F,
        packet: &Packet,
        (record, client): (Record, Ipv6Addr),
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let Context { snapshot, .. } = pass.context;
        let Some(vip) = snapshot.vips.address(record.vip()).and_then(|vip| snapshot.address6(vip)) else {
            return Err((frame, DropReason::StrayReply));
        };
        let server = snapshot.server(record.server());
        let hop = match way_back6(&mut frame, packet, client, pass.context) {
            Ok(hop) => hop,
            Err(obstacle) => return self.end_at(obstacle, frame, packet, Asker::Known, pass),
        };
        self.count_reply(server, packet);
        if packet.flags & (flags::SYN | flags::RST) != 0 {
            self.count_answer(server, packet, record);
            self.clamp_reply(&mut frame, packet, server.service, pass.context);
        }
        if record.is_helped() && record.port() == server.helper_port && packet.protocol == ipv4::TCP {
            let vip = snapshot.vips.address(record.vip()).unwrap_or_default();
            let mtu = snapshot.ports[usize::from(hop.port())].mtu;
            if let Err(reason) =
                self.hear_server(&mut frame, packet, (server, vip, client, mtu), pass.context)
            {
                return Err((frame, reason));
            }
        }
        self.return_to_client6(frame, packet, (vip, record.port(), Some(record.server())), hop, pass)
    }

    /// As [`Director::return_to_client`]. No router cuts a packet of IPv6.
    pub(super) fn return_to_client6<W: Wire<Frame = F>>(
        &mut self,
        mut frame: F,
        packet: &Packet,
        (vip, port, server): (Ipv6Addr, u16, Option<ServerId>),
        hop: Hop6,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let told = pass.wire.sends_on(|| to_client(packet, (vip.into(), port), server));
        if let Err(reason) = told.and_then(|()| trim_surplus(&mut frame, packet)) {
            return Err((frame, reason));
        }
        if !frame.is_contiguous()
            && let Err(reason) = nat6::give_checksum(&mut frame, packet)
        {
            return Err((frame, reason));
        }
        let bytes = frame.bytes_mut();
        let rewritten = ipv6_mut(bytes, packet.l3())
            .map(|header| header.hop_limit -= 1)
            .and_then(|()| nat6::to_client(bytes, packet, vip, port));
        if let Err(reason) = rewritten {
            return Err((frame, reason));
        }
        let hint = Gauge::at(self.reply_hint6.get());
        let passed = self.send6(frame, packet.vlan, &hint, hop.on(packet.vlan.network()), pass);
        self.reply_hint6.set(hint.get());
        passed
    }

    /// As [`Director::send`].
    pub(super) fn send6<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        vlan: Vlan,
        hint: &Gauge,
        hop: Hop6,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let snapshot = pass.context.snapshot;
        let known = (snapshot.routes.has_gateway6(hop), snapshot.binding6(hop));
        let forwarded = |counters: &WorkerCounters| counters.forwarded.add(1);
        self.resolve_and_send6(frame, vlan, hint, (hop, known, forwarded), pass)
    }

    /// As [`Director::stray_reply`].
    #[cold]
    fn stray_reply6<W: Wire<Frame = F>>(
        &mut self,
        mut frame: F,
        packet: &Packet,
        pair: &Pair6,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let Context { snapshot, now, .. } = pass.context;
        let Pair6 { server, server_port, protocol, client, .. } = *pair;
        if self.shared.foretold.has_any() {
            match self.answer_foretold(packet, (server.into(), client.into()), pass.context) {
                Ok(Some(record)) => return self.reply_of6(frame, packet, (record, client), pass),
                Ok(None) => {}
                Err(Busy) => return Err((frame, DropReason::ForetoldBusy)),
            }
        }
        if let Some(record) = self.open_active(packet, pass.context) {
            return self.reply_of6(frame, packet, (record, client), pass);
        }
        let may_pass = |one_packet: bool| {
            (one_packet || self.may_answer_untracked6(pair, snapshot, now)) && may_be_source(client)
        };
        let origin = snapshot.origin6(server, server_port, protocol);
        let origin = origin.filter(|origin| {
            may_pass(origin.one_packet) | self.learn_call(&frame, packet, *origin, pass.context)
        });
        if let Some((origin, vip)) = origin.and_then(|origin| Some((origin, snapshot.address6(origin.vip)?)))
        {
            let hop = match way_back6(&mut frame, packet, client, pass.context) {
                Ok(hop) => hop,
                Err(obstacle) => return self.end_at(obstacle, frame, packet, Asker::Stranger, pass),
            };
            if !origin.may_be_without_record() {
                self.count_untracked6(now);
            }
            self.clamp_stray(&mut frame, packet, origin, pass.context);
            return self.return_to_client6(frame, packet, (vip, origin.port, None), hop, pass);
        }
        let is_real_server = snapshot.has_nat_server6(server, server_port, protocol);
        if snapshot.switches.nat_icmp_send && is_real_server && !is_reset(packet) {
            // The kernel notices behind its router, which has taken one from the hop limit.
            if let Ok(header) = ipv6_mut(frame.bytes_mut(), packet.l3())
                && header.hop_limit > 1
            {
                header.hop_limit -= 1;
            }
            return self.answer_error(frame, packet, reply::Error::PORT_UNREACHABLE, pass);
        }
        Err((frame, DropReason::StrayReply))
    }
}

/// Where a real server's packet goes out to its client.
pub(super) fn way_back6<F: Frame>(
    frame: &mut F,
    packet: &Packet,
    client: Ipv6Addr,
    Context { snapshot, port, .. }: Context<'_>,
) -> Result<Hop6, Obstacle> {
    let header = ipv6_mut(frame.bytes_mut(), packet.l3()).map_err(Obstacle::Drop)?;
    if header.hop_limit <= 1 {
        return Err(Obstacle::Tell(reply::Error::TIME_EXCEEDED));
    }
    let hop = snapshot.routes.back6(client, port).ok_or(Obstacle::Drop(DropReason::NoRoute))?;
    let mtu = snapshot.ports[usize::from(hop.port())].mtu;
    if packet.total_len > mtu {
        // Every way takes that much (RFC 8200 section 5).
        return Err(Obstacle::Tell(reply::Error::fragmentation_needed(mtu.max(MTU_MIN))));
    }
    Ok(hop)
}
