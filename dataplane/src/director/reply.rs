//! A NAT real server's packet: back to its client as the virtual server's.

use std::net::IpAddr;

use weir_config::model::Forwarding;

use super::{Context, Director, Message, Pass, Passed, trim_surplus};
use crate::address::Addr4;
use crate::classify::Lookup;
use crate::conn::extra::mapped;
use crate::conn::record::{Record, ServerId, reply_hash_input};
use crate::conn::state::{self, Direction, tcp};
use crate::foretold::Busy;
use crate::limit::Asker;
use crate::neighbor::{Hop, NextHop};
use crate::packet::{Frame, Onward, To, Wire};
use crate::parse::Packet;
use crate::reply;
use crate::rewrite::{self, ipv4_mut};
use crate::snapshot::Snapshot;
use crate::snapshot::server::{Gauge, Server};
use crate::stats::DropReason;
use crate::wire::ipv4;
use crate::wire::l4::flags;
use crate::wire::sctp;

impl<F: Frame> Director<F> {
    /// A packet from a NAT real server: back to its client with the virtual server's address.
    #[inline]
    pub(super) fn reply<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        lookup: &Lookup,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let found = self.follow_reply(packet, lookup.hash, pass.context);
        match found.or_else(|| self.follow_reply_hashed_otherwise(packet, pass.context)) {
            Some(record) => self.reply_of(frame, packet, record, pass),
            None => self.stray_reply(frame, packet, lookup.hash, pass),
        }
    }

    /// The connection of a packet from a NAT real server, which may be another worker's, moved along with it.
    #[inline]
    fn follow_reply(&mut self, packet: &Packet, hash: u64, context: Context<'_>) -> Option<Record> {
        let Context { snapshot, .. } = context;
        let is_its = |record: Record| {
            let server = snapshot.server(record.server());
            record.protocol().number() == packet.protocol
                && server.replies_from(packet.source, packet.source_port, record.port())
                && server.forwarding == Forwarding::Nat
        };
        let (client, client_port) = (packet.destination, packet.destination_port);
        let own = self.table.find_reply(hash, client, client_port, is_its);
        if !own.is_some_and(|(_, record)| may_be_answered(packet, record)) {
            // What another worker's connection waits for is not this one's.
            let is_awaited = |record| is_its(record) && may_be_answered(packet, record);
            let elsewhere = self.find_elsewhere(packet, hash, is_awaited, context);
            if elsewhere.is_some() || own.is_none() {
                return elsewhere.or_else(|| self.find_elsewhere(packet, hash, is_its, context));
            }
        }
        let (slot, record) = own?;
        self.follow(slot, record, packet.flags, Direction::Output, context);
        Some(record)
    }

    /// As [`Director::follow_reply`], for a connection made while its virtual server had the other kind of hash, or where
    /// virtual servers of both kinds have the real server.
    #[inline]
    fn follow_reply_hashed_otherwise(&mut self, packet: &Packet, context: Context<'_>) -> Option<Record> {
        if !context.snapshot.has_both_hashes {
            return None;
        }
        let socket = (packet.source, packet.source_port, packet.protocol);
        let client = (packet.destination, packet.destination_port);
        let [_, other] = self.reply_hashes(socket, client, context.snapshot)?;
        self.follow_reply(packet, other, context)
    }

    /// Sends a packet of a connection's real server to its client.
    #[inline]
    pub(super) fn reply_of<W: Wire<Frame = F>>(
        &mut self,
        mut frame: F,
        packet: &Packet,
        record: Record,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let Context { snapshot, .. } = pass.context;
        let Some(vip) = snapshot.vips.address(record.vip()) else {
            return Err((frame, DropReason::StrayReply));
        };
        let server = snapshot.server(record.server());
        let hop = match way_back(&mut frame, packet, snapshot) {
            Ok(hop) => hop,
            Err(obstacle) => return self.end_at(obstacle, frame, packet, Asker::Known, pass),
        };
        self.count_reply(server, packet);
        if packet.flags & (flags::SYN | flags::RST) != 0 {
            self.count_answer(server, packet, record);
            self.clamp_reply(&mut frame, packet, server.service, pass.context);
        }
        if record.is_helped() && record.port() == server.helper_port && packet.protocol == ipv4::TCP {
            let (client, mtu) = (mapped(packet.destination.into()), snapshot.ports[hop.port].mtu);
            return match self.hear_server(&mut frame, packet, (server, vip, client, mtu), pass.context) {
                Ok(packet) => self.return_to_client(
                    frame,
                    &packet,
                    (vip, record.port(), Some(record.server())),
                    hop,
                    pass,
                ),
                Err(reason) => Err((frame, reason)),
            };
        }
        self.return_to_client(frame, packet, (vip, record.port(), Some(record.server())), hop, pass)
    }

    /// Counts what a real server says to a client's SYN, for passive health. `record` is as it was before.
    #[cold]
    pub(super) fn count_answer(&self, server: &Server, packet: &Packet, record: Record) {
        // A client can make data connections fail, and succeed, as it likes.
        let is_data = record.is_helped() && record.port() != server.helper_port;
        if packet.protocol != ipv4::TCP || record.state() != tcp::SYN_RECV || is_data {
            return;
        }
        let tally = &server.tallies[self.shared.worker];
        match packet.flags & flags::RST {
            0 => tally.answered.count(),
            _ => tally.refused.count(),
        }
    }

    /// Where the connections are that a NAT real server's packets from this socket to `client` and its port may belong to:
    /// first by the kind of hash that its virtual servers have.
    pub(super) fn reply_hashes(
        &self,
        (address, port, protocol): (Addr4, u16, u8),
        (client, client_port): (Addr4, u16),
        snapshot: &Snapshot,
    ) -> Option<[u64; 2]> {
        let any_port = snapshot.nat_server(address, port, protocol)?;
        let other = if any_port.is_some() { None } else { Some(port) };
        Some([any_port, other].map(|port| self.table.hash(reply_hash_input(client, client_port, port))))
    }

    /// A packet to a virtual server of a mark that is no request: what a mark matches may hold clients of other virtual
    /// servers. Gives the connection that it belongs to.
    #[cold]
    pub(super) fn find_reply_to_marked(&mut self, packet: &Packet, context: Context<'_>) -> Option<Record> {
        if packet.is_of_ipv6() {
            return self.find_reply_to_marked6(packet, context);
        }
        let socket = (packet.source, packet.source_port, packet.protocol);
        let client = (packet.destination, packet.destination_port);
        let hashes = self.reply_hashes(socket, client, context.snapshot)?;
        hashes.into_iter().find_map(|hash| self.follow_reply(packet, hash, context))
    }

    /// Whether a packet of no connection to a virtual server of a mark is an answer of a NAT real server's all the same: it comes from
    /// the socket of one, and begins nothing. From a real server that answers from any port it may as well be its own; then it has to
    /// answer a SYN, or may be part of a flow without a record.
    #[cold]
    pub(super) fn is_stray_reply_to_marked(&self, packet: &Packet, context: Context<'_>) -> bool {
        let Packet { source, source_port, protocol, flags: segment, .. } = *packet;
        let begins = match protocol {
            ipv4::TCP => segment & (flags::SYN | flags::ACK) == flags::SYN,
            _ => protocol == ipv4::SCTP && segment == sctp::Event::Init as u8,
        };
        if begins {
            return false;
        }
        if packet.is_of_ipv6() {
            return self.is_stray_reply_to_marked6(packet, context);
        }
        let Context { snapshot, now, .. } = context;
        let client = (packet.destination, packet.destination_port);
        let Some([hash, _]) = self.reply_hashes((source, source_port, protocol), client, snapshot) else {
            return false;
        };
        let may_go_on = || {
            snapshot.origin(source, source_port, protocol).is_some() && self.may_answer_untracked(hash, now)
        };
        snapshot.is_nat_socket(source, source_port, protocol)
            || answers_a_syn(packet)
            || is_told_from_first(packet) && may_go_on()
    }

    /// What becomes of what [`Director::is_stray_reply_to_marked`] says is one: the same as if its client were in no network of a mark.
    #[cold]
    pub(super) fn stray_reply_to_marked<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let snapshot = pass.context.snapshot;
        if packet.is_of_ipv6() {
            return match self.reply_to6(packet, snapshot) {
                Some(ends) => self.reply6(frame, packet, ends, pass),
                None => Err((frame, DropReason::StrayReply)),
            };
        }
        let socket = (packet.source, packet.source_port, packet.protocol);
        let client = (packet.destination, packet.destination_port);
        match self.reply_hashes(socket, client, snapshot) {
            Some([hash, _]) => self.stray_reply(frame, packet, hash, pass),
            None => Err((frame, DropReason::StrayReply)),
        }
    }

    /// Sends what [`Director::find_reply_to_marked`] found to be one to its client.
    #[cold]
    pub(super) fn reply_to_marked<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        record: Record,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        match packet.is_of_ipv6() {
            true => self.reply_of6(frame, packet, (record, self.ends6.destination), pass),
            false => self.reply_of(frame, packet, record, pass),
        }
    }

    /// Counts a packet from a real server. One that was removed counts no more, as in the kernel.
    #[inline]
    pub(super) fn count_reply(&self, server: &Server, packet: &Packet) {
        if server.is_present {
            let tally = &server.tallies[self.shared.worker];
            tally.out_packets.add(1);
            tally.out_bytes.add(u64::from(packet.total_len));
        }
    }

    /// The connection of a reply among those of the other workers. Its owner is told when the reply moves it along.
    fn find_elsewhere(
        &self,
        packet: &Packet,
        hash: u64,
        is_its: impl Fn(Record) -> bool,
        context: Context<'_>,
    ) -> Option<Record> {
        let client = (packet.destination, packet.destination_port);
        let (owner, record) = self.find_in_views(hash, client, is_its)?;
        self.tell_owner(owner, record, packet.flags, Direction::Output, context);
        Some(record)
    }

    /// A connection of this client in another worker's table, with that worker's number.
    pub(super) fn find_in_views(
        &self,
        hash: u64,
        (client, client_port): (Addr4, u16),
        is_its: impl Fn(Record) -> bool,
    ) -> Option<(usize, Record)> {
        let mut others = self.views.iter().enumerate().filter(|(worker, _)| *worker != self.shared.worker);
        others.find_map(|(worker, view)| Some((worker, view.find_reply(hash, client, client_port, &is_its)?)))
    }

    /// Tells the worker that has a connection that a packet of it was sent on here, if that moves it along.
    pub(super) fn tell_owner(
        &self,
        owner: usize,
        record: Record,
        segment: u8,
        direction: Direction,
        Context { snapshot, now, .. }: Context<'_>,
    ) {
        let is_secure = snapshot.switches.secure_tcp;
        let state = state::next(record.protocol(), direction, segment, record.state(), is_secure);
        if state != record.state() || record.age(now.seconds) != 0 {
            self.shared.tell(owner, Message::Passed(record, segment, direction));
        }
    }

    /// A real server's packet that can't go on to its client.
    #[cold]
    pub(super) fn end_at<W: Wire<Frame = F>>(
        &mut self,
        obstacle: Obstacle,
        frame: F,
        packet: &Packet,
        asker: Asker,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        match obstacle {
            Obstacle::Drop(reason) => Err((frame, reason)),
            Obstacle::Tell(error) => self.answer_error_to(asker, frame, packet, error, pass),
        }
    }

    /// Sends a real server's packet to its client as the virtual server's.
    #[inline]
    pub(super) fn return_to_client<W: Wire<Frame = F>>(
        &mut self,
        mut frame: F,
        packet: &Packet,
        (vip, port, server): (Addr4, u16, Option<ServerId>),
        hop: NextHop,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let told = pass.wire.sends_on(|| to_client(packet, (vip.into(), port), server));
        if let Err(reason) = told.and_then(|()| trim_surplus(&mut frame, packet)) {
            return Err((frame, reason));
        }
        let bytes = frame.bytes_mut();
        let rewritten = ipv4_mut(bytes, packet.l3())
            .map(|header| header.decrement_ttl())
            .and_then(|()| rewrite::to_client(bytes, packet, vip, port));
        if let Err(reason) = rewritten {
            return Err((frame, reason));
        }
        let is_too_big = packet.total_len > pass.context.snapshot.ports[hop.port].mtu;
        let hop = Hop::new(hop, packet.vlan.network());
        let hint = Gauge::at(self.reply_hint.get());
        let passed = if is_too_big {
            self.send_in_pieces(frame, packet, &hint, hop, pass)
        } else {
            self.send(frame, packet.vlan, &hint, hop, pass)
        };
        self.reply_hint.set(hint.get());
        passed
    }

    /// A packet from a NAT real server's socket that belongs to no connection.
    #[cold]
    fn stray_reply<W: Wire<Frame = F>>(
        &mut self,
        mut frame: F,
        packet: &Packet,
        hash: u64,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let Context { snapshot, now, .. } = pass.context;
        if self.shared.foretold.has_any() {
            let ends = (packet.source.into(), packet.destination.into());
            match self.answer_foretold(packet, ends, pass.context) {
                Ok(Some(record)) => return self.reply_of(frame, packet, record, pass),
                Ok(None) => {}
                Err(Busy) => return Err((frame, DropReason::ForetoldBusy)),
            }
        }
        if let Some(record) = self.open_active(packet, pass.context) {
            return self.reply_of(frame, packet, record, pass);
        }
        let origin = snapshot.origin(packet.source, packet.source_port, packet.protocol);
        let may_pass = |one_packet| one_packet || self.may_answer_untracked(hash, now);
        if let Some(origin) = origin
            && snapshot.may_be_host(packet.destination)
            && (may_pass(origin.one_packet) | self.learn_call(&frame, packet, origin, pass.context))
        {
            let hop = match way_back(&mut frame, packet, snapshot) {
                Ok(hop) => hop,
                Err(obstacle) => {
                    return self.end_at(obstacle, frame, packet, Asker::Stranger, pass);
                }
            };
            self.shared.counters.untracked.add(u64::from(!origin.may_be_without_record()));
            self.clamp_stray(&mut frame, packet, origin, pass.context);
            return self.return_to_client(frame, packet, (origin.vip, origin.port, None), hop, pass);
        }
        let is_real_server = snapshot.has_nat_server(packet.source, packet.source_port, packet.protocol);
        if snapshot.switches.nat_icmp_send && is_real_server && !is_reset(packet) {
            // The kernel notices behind its router, which has taken one from the TTL.
            if let Ok(header) = ipv4_mut(frame.bytes_mut(), packet.l3())
                && header.ttl > 1
            {
                header.decrement_ttl();
            }
            return self.answer_error(frame, packet, reply::Error::PORT_UNREACHABLE, pass);
        }
        Err((frame, DropReason::StrayReply))
    }
}

/// Whether a real server's packet is one that a connection in this state waits for: a SYN answers one that has just begun, and
/// one that is over waits for nothing.
#[inline]
pub(super) fn may_be_answered(packet: &Packet, record: Record) -> bool {
    if packet.protocol == ipv4::TCP && packet.flags & flags::SYN != 0 {
        return matches!(record.state(), tcp::SYN_RECV | tcp::SYN_SENT | tcp::SYNACK);
    }
    !state::is_over(record.protocol(), Direction::Input, record.state(), 1)
}

/// Whether a segment answers a SYN.
pub(super) fn answers_a_syn(packet: &Packet) -> bool {
    packet.protocol == ipv4::TCP && packet.flags & flags::SYN != 0 && packet.flags & flags::ACK != 0
}

/// Whether a packet that begins nothing can be told from a first one.
pub(super) fn is_told_from_first(packet: &Packet) -> bool {
    packet.protocol != ipv4::UDP
}

/// Whether a packet ends what it belongs to, so that it is not answered. The kernel looks at the first chunk alone.
pub(super) fn is_reset(packet: &Packet) -> bool {
    match packet.protocol {
        ipv4::TCP => packet.flags & flags::RST != 0,
        ipv4::SCTP => packet.flags == sctp::Event::Abort as u8,
        _ => false,
    }
}

/// Why a real server's packet can't go on to its client.
pub(super) enum Obstacle {
    /// And the real server need not know.
    Drop(DropReason),
    /// And the real server is told.
    Tell(reply::Error),
}

/// What a client gets of a packet of this real server's, if the packet has a connection.
pub(super) fn to_client(packet: &Packet, (vip, port): (IpAddr, u16), server: Option<ServerId>) -> Onward {
    let has_new_port = packet.source_port != port;
    Onward { to: To::Client, server: server.map(|id| id.0), address: vip, is_translated: true, has_new_port }
}

/// Where a real server's packet goes out to its client.
#[inline]
pub(super) fn way_back<F: Frame>(
    frame: &mut F,
    packet: &Packet,
    snapshot: &Snapshot,
) -> Result<NextHop, Obstacle> {
    let header = ipv4_mut(frame.bytes_mut(), packet.l3()).map_err(Obstacle::Drop)?;
    if header.ttl <= 1 {
        return Err(Obstacle::Tell(reply::Error::TIME_EXCEEDED));
    }
    let hop = snapshot.routes.next_hop(packet.destination).ok_or(Obstacle::Drop(DropReason::NoRoute))?;
    let mtu = snapshot.ports[hop.port].mtu;
    if packet.total_len > mtu && header.dont_fragment() {
        return Err(Obstacle::Tell(reply::Error::fragmentation_needed(mtu)));
    }
    Ok(hop)
}
