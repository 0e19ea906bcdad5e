//! A client's packet: to its connection's real server, or to one that is scheduled now; rewritten and sent.

use weir_config::model::{Forwarding, Protocol};

use super::ipv6::exceeds_all_ways;
use super::open::Opened;
use super::untracked::{UNTRACKED_SECS, may_go_on_untracked};
use super::{Context, Director, Message, Pass, Passed, trim_surplus};
use crate::classify::{Class, Lookup, classify_unasked};
use crate::clock::Now;
use crate::conn::record::{Key, Record, ServerId};
use crate::conn::state::{self, Direction};
use crate::conn::table::Slot;
use crate::foretold::Busy;
use crate::limit::Asker;
use crate::neighbor::Hop;
use crate::packet::{Frame, Onward, To, Wire};
use crate::parse::Packet;
use crate::reply;
use crate::rewrite::far::{Outer6, into_tunnel6};
use crate::rewrite::{self, Outer, ipv4_mut};
use crate::snapshot::Snapshot;
use crate::snapshot::helped::FTP_DATA;
use crate::snapshot::server::Server;
use crate::snapshot::service::Service;
use crate::snapshot::vips::is_shared;
use crate::stats::DropReason;
use crate::wire::ipv6::MTU_MIN;
use crate::wire::l4::flags;

impl<F: Frame> Director<F> {
    /// A client's packet: to its connection's real server, or to one that is scheduled now. Always inlined: packets of IPv6 come
    /// here too, and each of IPv4 would pay a call for that.
    #[inline(always)]
    pub(super) fn request<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        lookup: &Lookup,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let Context { snapshot, now, .. } = pass.context;
        let found = self.table.find(lookup.hash, lookup.key);
        if let Some((slot, record)) = found.or_else(|| self.find_hashed_otherwise(lookup, snapshot)) {
            match course(packet, record, snapshot, now) {
                Course::GoesOn(server) => {
                    self.follow(slot, record, packet.flags, direction_to(server), pass.context);
                    return self.forward(frame, packet, server, pass);
                }
                Course::ServerRemoved => return Err((frame, DropReason::RealServerRemoved)),
                Course::Over => self.end(slot, record, pass.context),
            }
        }
        self.new_connection(frame, packet, lookup, pass)
    }

    /// The connection of a client's packet, made while its virtual server had the other kind of hash.
    #[inline]
    pub(super) fn find_hashed_otherwise(
        &self,
        lookup: &Lookup,
        snapshot: &Snapshot,
    ) -> Option<(Slot, Record)> {
        if !snapshot.has_both_hashes {
            return None;
        }
        let key = lookup.key.hashed_otherwise();
        self.table.find(self.table.hash(key.hash_input()), key)
    }

    /// The connection of a client's packet, made before an edit gave its virtual server a helper or took it away.
    #[cold]
    pub(super) fn find_helped_otherwise(&self, lookup: &Lookup) -> Option<(Slot, Record)> {
        self.table.find(lookup.hash, lookup.key.helped_otherwise())
    }

    /// A packet to a virtual server that belongs to no connection.
    #[inline(never)]
    fn new_connection<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        lookup: &Lookup,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let Context { snapshot, now, .. } = pass.context;
        let protocol = lookup.key.protocol();
        if snapshot.may_share_numbers
            && !is_shared(lookup.key.vip())
            && let Some((slot, record)) = self.find_by_shared_number(packet, lookup, snapshot)
        {
            match course(packet, record, snapshot, now) {
                Course::GoesOn(server) => {
                    self.follow(slot, record, packet.flags, direction_to(server), pass.context);
                    return self.forward(frame, packet, server, pass);
                }
                Course::ServerRemoved => return Err((frame, DropReason::RealServerRemoved)),
                Course::Over => self.end(slot, record, pass.context),
            }
        }
        if protocol == Protocol::Tcp
            && packet.flags & flags::SYN == 0
            && (snapshot.has_helpers() || lookup.key.is_helped())
            && let Some((slot, record)) = self.find_helped_otherwise(lookup)
            && let Course::GoesOn(server) = course(packet, record, snapshot, now)
        {
            self.follow(slot, record, packet.flags, direction_to(server), pass.context);
            return self.forward(frame, packet, server, pass);
        }
        if self.local_client(packet.source, snapshot).is_some() {
            return Err((frame, DropReason::OwnSource));
        }
        // Of whatever virtual server: it may be from before an edit that took a mark away, or that set `one_packet`.
        let is_moving = self.may_be_moving(packet, now);
        if is_moving {
            match self.course_elsewhere(packet, lookup, pass.context) {
                Some(Course::GoesOn(server)) => return self.forward(frame, packet, server, pass),
                Some(Course::ServerRemoved) => return Err((frame, DropReason::RealServerRemoved)),
                Some(Course::Over) | None => {}
            }
        }
        if self.shared.foretold.has_any() {
            match self.take_foretold(packet, lookup, pass.context) {
                Ok(Some(server)) => return self.forward(frame, packet, server, pass),
                Ok(None) => {}
                Err(Busy) => return Err((frame, DropReason::ForetoldBusy)),
            }
        }
        let Some(service) = snapshot.service(lookup.service) else {
            return match lookup.key.is_helped() {
                true => self.take_data(frame, packet, lookup, pass),
                false => self.unasked(frame, packet, pass),
            };
        };
        if service.mark.is_some() && snapshot.has_nat() {
            if let Some(record) = self.find_reply_to_marked(packet, pass.context) {
                return self.reply_to_marked(frame, packet, record, pass);
            }
            if self.is_stray_reply_to_marked(packet, pass.context) {
                return self.stray_reply_to_marked(frame, packet, pass);
            }
        }
        if service.mark.is_some() && packet.source == packet.destination {
            return Err((frame, DropReason::OwnSource));
        }
        if let Some(persistence) = service.persistence
            && persistence.engine.is_some()
        {
            return self.take_call(frame, packet, (lookup, service, persistence), is_moving, pass);
        }
        self.take_new(frame, packet, (lookup, service), is_moving, pass)
    }

    /// A packet that may open a connection to this virtual server. `is_moving`: other workers may get the flow's packets.
    #[inline(always)]
    pub(super) fn take_new<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        (lookup, service): (&Lookup, &Service),
        is_moving: bool,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let Context { snapshot, now, .. } = pass.context;
        let protocol = lookup.key.protocol();
        // Whether another worker may have turned the connection away for lack of room.
        let may_be_elsewhere = is_moving && !(service.one_packet && protocol == Protocol::Udp);
        if !may_open(packet, protocol, snapshot) {
            if !(may_go_on_untracked(packet, protocol) && self.may_be_untracked(packet, lookup, now)) {
                return self.answer_local(frame, packet, pass);
            }
            self.shared.turned_away.renew(self.turned_by(packet, lookup), now, UNTRACKED_SECS);
            if !self.gets_record_late(packet, protocol, now) {
                return self.untracked(frame, packet, lookup, pass);
            }
        }
        if may_be_elsewhere && self.is_crowded_anywhere(packet, lookup) {
            self.shared.turned_away.note(self.turned_by(packet, lookup), now, UNTRACKED_SECS);
            if service.persistence.is_some() {
                // It gets the template that it will be told by.
                let _ = self.choose(packet, service, snapshot, now);
            }
            return self.untracked(frame, packet, lookup, pass);
        }
        let opener = self.opener_of(packet, protocol, may_be_elsewhere, now);
        if is_moving {
            self.note_extended(packet, pass.context);
        }
        match self.open(packet, lookup, service, opener, pass.context) {
            Opened::To(server) => self.forward_first(frame, packet, snapshot.server(server), pass),
            Opened::Full(server) => self.forward_untracked(frame, packet, server, pass),
            Opened::Refused => self.refused(frame, packet, service, pass),
        }
    }

    /// Whether other workers may get some packets of a packet's flow.
    #[inline]
    pub(super) fn may_be_moving(&self, packet: &Packet, now: Now) -> bool {
        self.shared.flows_move
            || self.is_displaced
            || self.may_be_displaced(packet, now)
            || packet.is_of_ipv6() && self.may_be_moving6(packet)
    }

    /// What becomes of another worker's connection with a client's packet, where flows move. That worker is told.
    #[cold]
    pub(super) fn course_elsewhere<'a>(
        &self,
        packet: &Packet,
        lookup: &Lookup,
        context: Context<'a>,
    ) -> Option<Course<'a>> {
        let (owner, record) = self.find_request_elsewhere(packet, lookup, context.snapshot)?;
        let course = course(packet, record, context.snapshot, context.now);
        match course {
            Course::GoesOn(server) => {
                self.tell_owner(owner, record, packet.flags, direction_to(server), context);
                // As long as any of its packets come here.
                if !self.shared.flows_move {
                    self.note_displaced(packet, context);
                }
            }
            Course::ServerRemoved => {}
            Course::Over => self.shared.tell(owner, Message::Over(record)),
        }
        Some(course)
    }

    /// The connection of a client's packet among those of the other workers, with its owner's number. SYNs are looked for too:
    /// one that is sent again may come in here, and its connection has a real server already.
    #[cold]
    pub(super) fn find_request_elsewhere(
        &self,
        packet: &Packet,
        lookup: &Lookup,
        snapshot: &Snapshot,
    ) -> Option<(usize, Record)> {
        let find = |key: Key| {
            if packet.is_of_ipv6() {
                return self.find_elsewhere6(key, packet.source_port);
            }
            let hash = self.table.hash(key.hash_input());
            self.find_in_views(hash, (packet.source, packet.source_port), |record| record.lookup_key() == key)
        };
        self.keys_of(lookup.key, packet.destination, snapshot).find_map(find)
    }

    /// A packet to a VIP of a mark that it does not have, and of no connection that began when it had: as any other
    /// packet that asks for no virtual server.
    #[cold]
    pub(super) fn unasked<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        if packet.is_of_ipv6() {
            return self.unasked6(frame, packet, pass);
        }
        let mut lookup = Lookup::default();
        match classify_unasked(packet, pass.context.snapshot, &self.table, &mut lookup) {
            Class::Reply => self.reply(frame, packet, &lookup, pass),
            class => match self.punted_class(frame.bytes(), packet, class, pass.context) {
                Some(class) => self.hand_over(frame, class, pass),
                None => self.answer_or_drop(frame, packet, class, pass),
            },
        }
    }

    /// Forwards a packet that gets no record, the same way each time.
    #[cold]
    pub(super) fn untracked<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        lookup: &Lookup,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let Context { snapshot, now, .. } = pass.context;
        let service = snapshot.service(lookup.service);
        let server = service.and_then(|service| match service.persistence {
            None => self.pick_by_hash(packet, service),
            Some(_) => Some(self.pick_untracked(packet, service, snapshot, now)?.server),
        });
        self.forward_untracked(frame, packet, server, pass)
    }

    /// As [`Director::untracked`], to this real server, if there is any.
    #[inline]
    fn forward_untracked<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        server: Option<ServerId>,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        match server {
            Some(server) => {
                self.count_untracked(packet, pass.context.now);
                self.forward_first(frame, packet, pass.context.snapshot.server(server), pass)
            }
            None => self.answer_error(frame, packet, reply::Error::PORT_UNREACHABLE, pass),
        }
    }

    /// Rewrites a packet of a known connection for its real server and sends it there.
    pub(super) fn forward<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        server: &Server,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        self.forward_of(Asker::Known, frame, packet, server, pass)
    }

    /// As [`Director::forward`], for a packet that opens a connection or has none.
    pub(super) fn forward_first<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        server: &Server,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        self.forward_of(Asker::Stranger, frame, packet, server, pass)
    }

    /// Rewrites a client's packet for its real server and sends it there.
    fn forward_of<W: Wire<Frame = F>>(
        &mut self,
        asker: Asker,
        mut frame: F,
        packet: &Packet,
        server: &Server,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        if let Err(reason) = pass.wire.sends_on(|| onward(packet, server)) {
            return Err((frame, reason));
        }
        let tally = &server.tallies[self.shared.worker];
        tally.in_packets.add(1);
        tally.in_bytes.add(u64::from(packet.total_len));
        let hop = server.hop;
        if hop == Hop::NOWHERE || packet.is_of_ipv6() {
            return self.forward_far(asker, frame, packet, server, pass);
        }
        let is_too_big = match made_ready(&mut frame, packet, server, pass.context.snapshot) {
            Ok(is_too_big) => is_too_big,
            Err(Unfit::Dropped(reason)) => return Err((frame, reason)),
            Err(Unfit::Told(error)) => return self.answer_error_to(asker, frame, packet, error, pass),
        };
        if packet.is_syn() {
            self.clamp_request(&mut frame, packet, server, pass.context);
        }
        let rewritten = match server.forwarding {
            Forwarding::Dr => Ok(()),
            Forwarding::Nat if server.is_helped() => {
                self.translate_helped(&mut frame, packet, server, pass.context)
            }
            Forwarding::Nat => rewrite::to_server(frame.bytes_mut(), packet, server.address, server.port),
            Forwarding::Tun => {
                let outer = outer(server, pass.context.snapshot, self.idents.next4());
                rewrite::into_tunnel(&mut frame, packet, &outer)
            }
        };
        if let Err(reason) = rewritten {
            return Err((frame, reason));
        }
        let hop = hop.on(packet.vlan.network());
        if is_too_big {
            return self.send_in_pieces(frame, packet, &tally.neighbor, hop, pass);
        }
        self.send_to_server(frame, packet.vlan, (server, &tally.neighbor), hop, pass)
    }

    /// As [`Director::forward_of`], where IPv6 is at either end: a packet of IPv4 goes through a tunnel.
    #[inline(never)]
    fn forward_far<W: Wire<Frame = F>>(
        &mut self,
        asker: Asker,
        mut frame: F,
        packet: &Packet,
        server: &Server,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        if packet.is_of_ipv6() {
            return self.forward6(asker, frame, packet, server, pass);
        }
        let far = server.far.as_deref().and_then(|far| Some((far, far.way?)));
        let Some((far, way)) = far else { return Err((frame, DropReason::NoRoute)) };
        let Context { snapshot, now, .. } = pass.context;
        let is_too_big = match made_ready(&mut frame, packet, server, snapshot) {
            Ok(is_too_big) => is_too_big,
            Err(Unfit::Dropped(reason)) => return Err((frame, reason)),
            Err(Unfit::Told(error)) => return self.answer_error_to(asker, frame, packet, error, pass),
        };
        if packet.is_syn() {
            self.clamp_request(&mut frame, packet, server, pass.context);
        }
        let mtu = snapshot.ports[usize::from(way.hop.port())].mtu;
        let mut pieces = is_too_big.then_some(mtu);
        if exceeds_all_ways(packet, server)
            && server.live.is_narrow(now)
            && ipv4_mut(frame.bytes_mut(), packet.l3()).is_ok_and(|header| !header.dont_fragment())
        {
            pieces = Some(mtu.min(MTU_MIN));
        }
        let outer = Outer6 { encap: server.encap, source: way.source, destination: far.address };
        if let Err(reason) = into_tunnel6(&mut frame, packet, &outer) {
            return Err((frame, reason));
        }
        let hint = &server.tallies[self.shared.worker].neighbor;
        self.send_to_far(frame, packet, (hint, way, far.bound), pieces, pass)
    }
}

/// Where a client's packet goes.
fn onward(packet: &Packet, server: &Server) -> Onward {
    Onward {
        to: To::Server,
        server: Some(server.id.0),
        address: server.ip(),
        is_translated: server.forwarding == Forwarding::Nat,
        has_new_port: server.port_for(packet.destination_port) != packet.destination_port,
    }
}

/// Why a packet does not go on to its real server.
enum Unfit {
    /// It is dropped.
    Dropped(DropReason),
    /// Its sender is told.
    Told(reply::Error),
}

/// Cuts what stands behind a client's packet and lowers its TTL. Returns whether it is too big for its way and has to be cut.
#[inline(always)]
fn made_ready<F: Frame>(
    frame: &mut F,
    packet: &Packet,
    server: &Server,
    snapshot: &Snapshot,
) -> Result<bool, Unfit> {
    trim_surplus(frame, packet).map_err(Unfit::Dropped)?;
    let header = ipv4_mut(frame.bytes_mut(), packet.l3()).map_err(Unfit::Dropped)?;
    if header.ttl <= 1 {
        return Err(Unfit::Told(reply::Error::TIME_EXCEEDED));
    }
    header.decrement_ttl();
    let in_tunnel = server.forwarding == Forwarding::Tun;
    let may_refuse = header.dont_fragment() && (!in_tunnel || snapshot.switches.pmtu_disc);
    let is_too_big = packet.total_len > server.mtu;
    if is_too_big && may_refuse {
        return Err(Unfit::Told(reply::Error::fragmentation_needed(server.mtu)));
    }
    Ok(is_too_big)
}

/// The headers of a tunnel to this real server.
#[inline]
pub(super) fn outer(server: &Server, snapshot: &Snapshot, ident: u16) -> Outer {
    let (source, destination) = (server.tunnel_source.get(), server.address);
    Outer { encap: server.encap, source, destination, keep_df: snapshot.switches.pmtu_disc, ident }
}

/// The direction of a client's packets to this real server.
#[inline]
pub(super) fn direction_to(server: &Server) -> Direction {
    direction_by(server.forwarding)
}

/// The direction of a client's packets that are forwarded so.
#[inline]
pub(super) fn direction_by(forwarding: Forwarding) -> Direction {
    match forwarding {
        Forwarding::Nat => Direction::Input,
        Forwarding::Dr | Forwarding::Tun => Direction::InputOnly,
    }
}

/// What becomes of a connection with a client's packet.
pub(super) enum Course<'a> {
    /// It goes on, to this real server.
    GoesOn(&'a Server),
    /// Its real server was removed, and it is not to have another one.
    ServerRemoved,
    /// Its time is over, or the packet begins another one in its place.
    Over,
}

#[inline]
pub(super) fn course<'a>(packet: &Packet, record: Record, snapshot: &'a Snapshot, now: Now) -> Course<'a> {
    let server = snapshot.server(record.server());
    let age = record.age(now.seconds);
    let is_current = age == 0 || age <= snapshot.lifetimes.of(record.protocol(), record.state());
    if is_current && server.is_present && !starts_anew(packet, record, server, snapshot) {
        return Course::GoesOn(server);
    }
    if is_current && !server.is_present && !is_rescheduled(record.protocol(), snapshot) {
        return Course::ServerRemoved;
    }
    Course::Over
}

/// A packet that begins a connection is scheduled anew on the record of one whose real server is quiesced
/// (`expire_nodest_conn`), or of one that is over (`conn_reuse_mode`) and not held by a persistence template.
#[inline]
fn starts_anew(packet: &Packet, record: Record, server: &Server, snapshot: &Snapshot) -> bool {
    let switches = &snapshot.switches;
    if !state::is_first(record.protocol(), packet.flags) {
        return false;
    }
    if switches.expire_nodest_conn && server.weight == 0 {
        return true;
    }
    let direction = direction_to(server);
    !record.is_templated()
        && state::is_over(record.protocol(), direction, record.state(), switches.conn_reuse_mode)
}

/// Whether a connection to a removed real server is scheduled anew. UDP always is: clients that keep their port
/// would be sent into the void for the length of the timeout.
fn is_rescheduled(protocol: Protocol, snapshot: &Snapshot) -> bool {
    snapshot.switches.expire_nodest_conn || protocol == Protocol::Udp
}

/// Whether a packet without connection may open one.
#[inline(always)]
pub(super) fn may_open(packet: &Packet, protocol: Protocol, snapshot: &Snapshot) -> bool {
    let is_sloppy = match protocol {
        Protocol::Tcp => snapshot.switches.sloppy_tcp,
        Protocol::Udp => false,
        Protocol::Sctp => snapshot.switches.sloppy_sctp,
    };
    packet.source_port != FTP_DATA && state::opens(protocol, packet.flags, is_sloppy)
}
