//! The path of a packet, one call a stage: parse, classify, look up or schedule, rewrite, next hop, transmit.
//!
//! A burst passes in two rounds. The first reads every frame and asks the processor for the cache line of its
//! connection; the second finds those lines waiting. A [`Director`] is one worker's half of the data path: its
//! connection table, its neighbours, its counters. It knows nothing of DPDK; frames and ports are behind
//! [`Wire`].

mod answer;
mod express;
mod persist;
#[cfg(test)]
mod tests;
mod upkeep;

use std::net::Ipv4Addr;
use std::sync::Arc;

use arrayvec::ArrayVec;
use crossbeam::queue::ArrayQueue;

use weir_config::model::{Forwarding, MacAddress, Protocol};
use zerocopy::FromBytes;

use crate::classify::{Class, LastService, Lookup, classify};
use crate::clock::Now;
use crate::conn::record::{Record, ServerId};
use crate::conn::state::{self, Direction, State, is_active, tcp};
use crate::conn::table::{Slot, Table, View};
use crate::conn::template::Templates;
use crate::limit::RateLimit;
use crate::neighbor::{Hop, Link, Neighbors, Resolution};
use crate::packet::{BURST, Burst, Frame, Wire};
use crate::parse::{Content, Packet, Plain, parse};
use crate::reply::{self, arp};
use crate::rewrite::{self, fragment, ipv4_mut};
use crate::sched::PickKey;
use crate::snapshot::Snapshot;
use crate::snapshot::routes::NextHop;
use crate::snapshot::server::{Gauge, Server};
use crate::snapshot::service::Service;
use crate::stats::{DropReason, WorkerCounters};
use crate::wire::ethernet::{FRAME_LEN_MIN, Vlan};
use crate::wire::ipv4;
use crate::wire::l4::flags;

/// ICMP errors that a worker sends per second, as the kernel's `icmp_msgs_per_sec`.
const ICMP_ERRORS_PER_SECOND: u32 = 1_000;
/// RSTs that a worker sends per second: a flood of stray segments must not become one of answers.
const RESETS_PER_SECOND: u32 = 10_000;
/// Source port of active FTP data, which IPVS never schedules.
const FTP_DATA: u16 = 20;
/// A table that was full stays under suspicion for so long, in seconds: flows without a record may live on.
const UNTRACKED_SECS: u32 = 900;

/// What a worker has to tell control's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Another host claims an address that it can't have.
    Conflict(arp::Conflict),
}

/// What one worker tells another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// An ARP packet said that a next hop has this MAC.
    Learned(Hop, MacAddress),
    /// A reply moved this connection, which is the receiver's, along: the TCP flags it had.
    Replied(Record, u8),
}

/// Messages that wait for a worker at most. One that finds no room is lost: neighbours are asked for again, and a
/// connection's next reply says the same.
const INBOX_MAX: usize = 4_096;

/// What a director shares with control and with the other workers.
#[derive(Clone)]
pub struct Shared {
    /// Its number among the workers.
    pub worker: usize,
    /// Its counters.
    pub counters: Arc<WorkerCounters>,
    /// To control's log; full: the event is only counted.
    pub events: Arc<ArrayQueue<Event>>,
    /// What each worker, by number, is told by the others.
    pub inboxes: Arc<[ArrayQueue<Message>]>,
}

impl Shared {
    /// For `workers` workers on `ports` ports.
    pub fn new(workers: usize, ports: usize) -> Vec<Shared> {
        let events = Arc::new(ArrayQueue::new(256));
        let inboxes: Arc<[ArrayQueue<Message>]> = (0..workers).map(|_| ArrayQueue::new(INBOX_MAX)).collect();
        let shared = |worker| Shared {
            worker,
            counters: Arc::new(WorkerCounters::new(ports)),
            events: events.clone(),
            inboxes: inboxes.clone(),
        };
        (0..workers).map(shared).collect()
    }
}

/// See the module.
pub struct Director<F> {
    shared: Shared,
    table: Table,
    /// The tables of all workers, by number.
    views: Arc<[View]>,
    /// Shared by all workers.
    templates: Arc<Templates>,
    /// Where the sweep over the templates goes on.
    swept_bucket: usize,
    neighbors: Neighbors<F>,
    /// Where the neighbour of the last reply was found.
    reply_hint: Gauge,
    icmp_errors: RateLimit,
    resets: RateLimit,
    announcer: arp::Announcer,
    generation: u64,
    /// While this lies ahead, segments of unknown flows are taken for flows that got no record. Seconds.
    untracked_until: u32,
    /// Lines of the table that the sweep has visited since the start.
    swept: u64,
    findings: Box<[Finding]>,
    /// Good for the present snapshot.
    last_service: LastService,
    /// Connections that the sweep ended and that still hang on their templates.
    ended_templated: Box<ArrayVec<Record, BURST>>,
    /// Milliseconds of the clock up to which the rest of the upkeep is done.
    kept_until: u64,
    ident: u16,
    /// Tests send packets both ways and compare.
    #[cfg(test)]
    no_express: bool,
}

/// What stays the same over a burst.
#[derive(Clone, Copy)]
struct Context<'a> {
    snapshot: &'a Snapshot,
    now: Now,
    /// Port that the burst came in on.
    port: usize,
}

/// What the first round found out about a frame. Written in place, so nothing is moved between the rounds.
#[derive(Clone, Copy, Default)]
struct Finding {
    step: Step,
    packet: Packet,
    lookup: Lookup,
}

/// What the second round does with a frame.
#[derive(Clone, Copy, Default)]
enum Step {
    /// A plain frame to the virtual server of the one before: its connection's key is known, the rest is not read yet.
    Plain,
    Ipv4(Class),
    #[default]
    Arp,
    Drop(DropReason),
}

/// How a stage ended: with the frame passed on, or given back with the reason to drop it.
type Passed<F> = Result<(), (F, DropReason)>;

impl<F: Frame> Director<F> {
    /// A director with an empty table. `views` are the tables of all workers, by number.
    pub fn new(shared: Shared, table: Table, views: Arc<[View]>, templates: Arc<Templates>) -> Self {
        Self {
            views,
            templates,
            swept_bucket: 0,
            shared,
            table,
            neighbors: Neighbors::new(),
            reply_hint: Gauge::default(),
            icmp_errors: RateLimit::per_second(ICMP_ERRORS_PER_SECOND),
            resets: RateLimit::per_second(RESETS_PER_SECOND),
            announcer: arp::Announcer::default(),
            generation: 0,
            untracked_until: 0,
            swept: 0,
            ended_templated: Box::default(),
            last_service: LastService::none(),
            findings: vec![Finding::default(); BURST].into(),
            kept_until: 0,
            ident: 0,
            #[cfg(test)]
            no_express: false,
        }
    }

    /// Takes a burst from `port` all the way.
    pub fn process<W: Wire<Frame = F>>(
        &mut self,
        burst: &mut Burst<F>,
        port: usize,
        snapshot: &Snapshot,
        now: Now,
        wire: &mut W,
    ) {
        let context = Context { snapshot, now, port };
        // Lent from the director for the burst, so that stages can borrow both.
        let mut findings = std::mem::take(&mut self.findings);
        self.read(burst, &mut findings, context);
        let mut expressed = 0;
        for (mut frame, finding) in burst.drain(..).zip(findings.iter_mut()) {
            let Finding { step, packet, lookup } = finding;
            if let Step::Plain = step {
                if let Some(port) = self.express(&mut frame, lookup, context) {
                    expressed += 1;
                    wire.transmit(port, frame);
                    continue;
                }
                // It is plain and right, so this only fills in the facts.
                parse(&frame, packet);
            }
            let passed = match *step {
                Step::Plain | Step::Ipv4(Class::Request) => {
                    self.request(frame, packet, lookup, context, wire)
                }
                Step::Ipv4(Class::Reply) => self.reply(frame, packet, lookup, context, wire),
                Step::Ipv4(class) => self.answer_or_drop(frame, packet, class, context, wire),
                Step::Arp => self.arp(frame, packet.vlan, context, wire),
                Step::Drop(reason) => Err((frame, reason)),
            };
            if let Err((frame, reason)) = passed {
                self.drop(frame, reason, wire);
            }
        }
        self.shared.counters.forwarded.add(expressed);
        self.findings = findings;
    }

    /// First round: parse, classify, prefetch.
    #[inline]
    fn read(&mut self, burst: &Burst<F>, findings: &mut [Finding], context: Context<'_>) {
        for frame in burst {
            frame.prefetch();
        }
        let mac = context.snapshot.ports[context.port].mac;
        for (frame, Finding { step, packet, lookup }) in burst.iter().zip(findings) {
            let bytes = frame.bytes();
            if let Ok((plain, _)) = Plain::ref_from_prefix(bytes)
                && let Some(key) = self.last_service.key_of(plain)
                && is_for(bytes, mac)
                && plain.is_right(frame.len())
            {
                lookup.key = key;
                lookup.hash = self.table.hash(key.hash_input());
                self.table.prefetch(lookup.hash);
                *step = Step::Plain;
                continue;
            }
            *step = match parse(frame, packet) {
                Content::Ipv4 if !is_for(bytes, mac) => Step::Drop(DropReason::ForeignMac),
                Content::Ipv4 => Step::Ipv4(self.classify(packet, lookup, context)),
                Content::Arp => Step::Arp,
                Content::Bad(reason) => Step::Drop(reason),
            };
        }
    }

    #[inline]
    fn classify(&mut self, packet: &Packet, lookup: &mut Lookup, context: Context<'_>) -> Class {
        let class = classify(packet, context.snapshot, &self.table, &mut self.last_service, lookup);
        match class {
            Class::Request => self.table.prefetch(lookup.hash),
            // The queue it came in on says nothing about whose connection it is.
            Class::Reply => self.views.iter().for_each(|view| view.prefetch(lookup.hash)),
            _ => {}
        }
        class
    }

    /// A client's packet: to its connection's real server, or to one that is scheduled now.
    fn request<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        lookup: &Lookup,
        context: Context<'_>,
        wire: &mut W,
    ) -> Passed<F> {
        let Context { snapshot, now, .. } = context;
        if let Some((slot, record)) = self.table.find(lookup.hash, lookup.key) {
            let server = snapshot.server(record.server());
            let age = record.age(now.seconds);
            let is_current = age == 0 || age <= snapshot.lifetimes.of(record.protocol(), record.state());
            if is_current && server.is_present && !starts_anew(packet, record, server, snapshot) {
                self.advance(slot, record, packet, server, context);
                return self.forward(frame, packet, server, context, wire);
            }
            if is_current && !server.is_present && !is_rescheduled(record.protocol(), snapshot) {
                return Err((frame, DropReason::RealServerRemoved));
            }
            self.end(slot, record, context);
        }
        self.new_connection(frame, packet, lookup, context, wire)
    }

    /// Moves a connection along with a packet from its client. Written only when something changed.
    fn advance(
        &mut self,
        slot: Slot,
        record: Record,
        packet: &Packet,
        server: &Server,
        context: Context<'_>,
    ) {
        self.follow(slot, record, packet.flags, direction_to(server), context);
    }

    fn follow(
        &mut self,
        slot: Slot,
        record: Record,
        segment: u8,
        direction: Direction,
        context: Context<'_>,
    ) {
        let Context { snapshot, now, .. } = context;
        let protocol = record.protocol();
        let state = state::next(protocol, direction, segment, record.state(), snapshot.switches.secure_tcp);
        if state != record.state() || record.age(now.seconds) != 0 {
            self.table.update(slot, record.touched(state, now.seconds));
            let server = snapshot.server(record.server());
            server.change(self.shared.worker, protocol, record.state(), state);
        }
        if record.is_templated() {
            let is_answered = protocol == Protocol::Udp && direction == Direction::Output;
            let is_established = state != record.state() && is_active(protocol, state);
            if is_answered || is_established && state != tcp::SYN_RECV {
                self.assure(record, snapshot);
            }
        }
    }

    /// Ends a connection.
    fn end(&mut self, slot: Slot, record: Record, context: Context<'_>) {
        let server = context.snapshot.server(record.server());
        server.unbind(self.shared.worker, record.protocol(), record.state());
        if record.is_templated() {
            self.detach(record, context.snapshot, context.now);
        }
        self.table.remove(slot);
    }

    /// A packet to a virtual server that belongs to no connection.
    #[inline(never)]
    fn new_connection<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        lookup: &Lookup,
        context: Context<'_>,
        wire: &mut W,
    ) -> Passed<F> {
        let Context { snapshot, now, .. } = context;
        let protocol = lookup.key.protocol();
        if snapshot.local(packet.source).is_some() {
            return Err((frame, DropReason::OwnSource));
        }
        let is_suspect = now.seconds < self.untracked_until;
        if !may_open(packet, protocol, snapshot) {
            if is_suspect && packet.flags & flags::RST == 0 && protocol == Protocol::Tcp {
                return self.untracked(frame, packet, lookup, context, wire);
            }
            return self.answer_local(frame, packet, context, wire);
        }
        let Some(service) = snapshot.service(lookup.key.service()) else {
            return Err((frame, DropReason::NotServed));
        };
        let Some(choice) = self.choose(packet, service, snapshot, now) else {
            return self.answer_error(frame, packet, reply::Error::PORT_UNREACHABLE, context, wire);
        };
        let server = snapshot.server(choice.server);
        if service.one_packet {
            if let Some(hold) = choice.template {
                self.touch(hold, server.id, now);
            }
            server.live.workers[self.shared.worker].connections.add(1);
            return self.forward(frame, packet, server, context, wire);
        }
        let direction = direction_to(server);
        let state = state::next(protocol, direction, packet.flags, State::NONE, snapshot.switches.secure_tcp);
        let record = Record::new(lookup.key, server.id, state, now.seconds, false);
        let Ok(slot) = self.table.insert(lookup.hash, record) else {
            self.untracked_until = now.seconds + UNTRACKED_SECS;
            return self.untracked(frame, packet, lookup, context, wire);
        };
        if choice.template.is_some_and(|hold| self.attach(hold, server.id, now)) {
            self.table.update(slot, Record::new(lookup.key, server.id, state, now.seconds, true));
        }
        server.bind(self.shared.worker, protocol, state);
        self.forward(frame, packet, server, context, wire)
    }

    fn schedule(
        &self,
        packet: &Packet,
        service: &Service,
        snapshot: &Snapshot,
        now: Now,
    ) -> Option<ServerId> {
        let key = PickKey {
            source: Ipv4Addr::from(packet.source).into(),
            destination: Ipv4Addr::from(packet.destination).into(),
            source_port: packet.source_port,
            now_secs: now.seconds,
        };
        service.pick(snapshot, self.shared.worker, &key)
    }

    /// Forwards a packet that gets no record: by its hash alone, the same way each time.
    #[cold]
    fn untracked<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        lookup: &Lookup,
        context: Context<'_>,
        wire: &mut W,
    ) -> Passed<F> {
        let snapshot = context.snapshot;
        let service = snapshot.service(lookup.key.service());
        match service.and_then(|service| service.pick_untracked(snapshot, lookup.hash)) {
            Some(server) => {
                self.shared.counters.untracked.add(1);
                self.forward(frame, packet, snapshot.server(server), context, wire)
            }
            None => self.answer_error(frame, packet, reply::Error::PORT_UNREACHABLE, context, wire),
        }
    }

    /// Rewrites a client's packet for its real server and sends it there.
    fn forward<W: Wire<Frame = F>>(
        &mut self,
        mut frame: F,
        packet: &Packet,
        server: &Server,
        context: Context<'_>,
        wire: &mut W,
    ) -> Passed<F> {
        let tally = &server.live.workers[self.shared.worker];
        tally.in_packets.add(1);
        tally.in_bytes.add(u64::from(packet.total_len));
        let Some(hop) = server.next_hop else { return Err((frame, DropReason::NoRoute)) };
        if let Err(reason) = trim_surplus(&mut frame, packet) {
            return Err((frame, reason));
        }
        let header = match ipv4_mut(frame.bytes_mut(), packet.l3()) {
            Ok(header) => header,
            Err(reason) => return Err((frame, reason)),
        };
        if header.ttl <= 1 {
            return self.answer_error(frame, packet, reply::Error::TIME_EXCEEDED, context, wire);
        }
        header.decrement_ttl();
        let in_tunnel = server.forwarding == Forwarding::Tun;
        let may_refuse = header.dont_fragment() && (!in_tunnel || context.snapshot.switches.pmtu_disc);
        let is_too_big = packet.total_len > server.mtu;
        if is_too_big && may_refuse {
            let error = reply::Error::fragmentation_needed(server.mtu);
            return self.answer_error(frame, packet, error, context, wire);
        }
        let rewritten = match server.forwarding {
            Forwarding::Dr => Ok(()),
            Forwarding::Nat => rewrite::to_server(frame.bytes_mut(), packet, server.address, server.port),
            Forwarding::Tun => {
                self.ident = self.ident.wrapping_add(1);
                let ends = (server.tunnel_source, server.address);
                let keep_df = context.snapshot.switches.pmtu_disc;
                rewrite::into_tunnel(&mut frame, packet, ends, keep_df, self.ident)
            }
        };
        if let Err(reason) = rewritten {
            return Err((frame, reason));
        }
        let hop = Hop::new(hop, packet.vlan.network());
        if is_too_big {
            return self.send_in_pieces(frame, packet, &tally.neighbor, hop, context, wire);
        }
        self.send(frame, packet.vlan, &tally.neighbor, hop, context, wire)
    }

    /// A packet from a NAT real server: back to its client with the virtual server's address.
    #[inline]
    fn reply<W: Wire<Frame = F>>(
        &mut self,
        mut frame: F,
        packet: &Packet,
        lookup: &Lookup,
        context: Context<'_>,
        wire: &mut W,
    ) -> Passed<F> {
        let Context { snapshot, .. } = context;
        let is_its = |record: Record| {
            record.protocol().number() == packet.protocol
                && snapshot.server(record.server()).is_at(packet.source, packet.source_port)
                && snapshot.server(record.server()).forwarding == Forwarding::Nat
        };
        let (client, client_port) = (packet.destination, packet.destination_port);
        let record = match self.table.find_reply(lookup.hash, client, client_port, is_its) {
            Some((slot, record)) => {
                self.follow(slot, record, packet.flags, Direction::Output, context);
                record
            }
            None => match self.find_elsewhere(packet, lookup, is_its, context) {
                Some(record) => record,
                None => return self.stray_reply(frame, packet, context, wire),
            },
        };
        let server = snapshot.server(record.server());
        let header = match ipv4_mut(frame.bytes_mut(), packet.l3()) {
            Ok(header) => header,
            Err(reason) => return Err((frame, reason)),
        };
        if header.ttl <= 1 {
            return self.answer_error(frame, packet, reply::Error::TIME_EXCEEDED, context, wire);
        }
        let df = header.dont_fragment();
        let Some(hop) = snapshot.routes.next_hop(packet.destination) else {
            return Err((frame, DropReason::NoRoute));
        };
        let mtu = snapshot.ports[hop.port].mtu;
        if packet.total_len > mtu && df {
            let error = reply::Error::fragmentation_needed(mtu);
            return self.answer_error(frame, packet, error, context, wire);
        }
        let tally = &server.live.workers[self.shared.worker];
        tally.out_packets.add(1);
        tally.out_bytes.add(u64::from(packet.total_len));
        self.return_to_client(frame, packet, (server.vip, record.port()), hop, context, wire)
    }

    /// The connection of a reply among those of the other workers. Its owner is told when the reply moves it along.
    fn find_elsewhere(
        &self,
        packet: &Packet,
        lookup: &Lookup,
        is_its: impl Fn(Record) -> bool,
        Context { snapshot, now, .. }: Context<'_>,
    ) -> Option<Record> {
        let (client, client_port) = (packet.destination, packet.destination_port);
        for (worker, view) in
            self.views.iter().enumerate().filter(|(worker, _)| *worker != self.shared.worker)
        {
            if let Some(record) = view.find_reply(lookup.hash, client, client_port, &is_its) {
                let is_secure = snapshot.switches.secure_tcp;
                let state = state::next(
                    record.protocol(),
                    Direction::Output,
                    packet.flags,
                    record.state(),
                    is_secure,
                );
                if state != record.state() || record.age(now.seconds) != 0 {
                    let _ = self.shared.inboxes[worker].push(Message::Replied(record, packet.flags));
                }
                return Some(record);
            }
        }
        None
    }

    /// Sends a real server's packet to its client as the virtual server's.
    #[inline]
    fn return_to_client<W: Wire<Frame = F>>(
        &mut self,
        mut frame: F,
        packet: &Packet,
        (vip, port): (u32, u16),
        hop: NextHop,
        context: Context<'_>,
        wire: &mut W,
    ) -> Passed<F> {
        if let Err(reason) = trim_surplus(&mut frame, packet) {
            return Err((frame, reason));
        }
        let bytes = frame.bytes_mut();
        let rewritten = ipv4_mut(bytes, packet.l3())
            .map(|header| header.decrement_ttl())
            .and_then(|()| rewrite::to_client(bytes, packet, vip, port));
        if let Err(reason) = rewritten {
            return Err((frame, reason));
        }
        let is_too_big = packet.total_len > context.snapshot.ports[hop.port].mtu;
        let hop = Hop::new(hop, packet.vlan.network());
        let hint = Gauge::at(self.reply_hint.get());
        let passed = if is_too_big {
            self.send_in_pieces(frame, packet, &hint, hop, context, wire)
        } else {
            self.send(frame, packet.vlan, &hint, hop, context, wire)
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
        context: Context<'_>,
        wire: &mut W,
    ) -> Passed<F> {
        let Context { snapshot, now, .. } = context;
        let origin = snapshot.origin(packet.source, packet.source_port, packet.protocol);
        if let Some(origin) = origin.filter(|origin| origin.one_packet || now.seconds < self.untracked_until)
            && let Some(hop) = snapshot.routes.next_hop(packet.destination)
            && ipv4_mut(frame.bytes_mut(), packet.l3()).is_ok_and(|header| header.ttl > 1)
        {
            self.shared.counters.untracked.add(u64::from(!origin.one_packet));
            return self.return_to_client(frame, packet, (origin.vip, origin.port), hop, context, wire);
        }
        let is_reset = packet.protocol == ipv4::TCP && packet.flags & flags::RST != 0;
        if snapshot.switches.nat_icmp_send && !is_reset {
            // The kernel notices behind its router, which has taken one from the TTL.
            if let Ok(header) = ipv4_mut(frame.bytes_mut(), packet.l3())
                && header.ttl > 1
            {
                header.decrement_ttl();
            }
            return self.answer_error(frame, packet, reply::Error::PORT_UNREACHABLE, context, wire);
        }
        Err((frame, DropReason::StrayReply))
    }

    /// Writes the MACs and sends, or lets the frame wait for its next hop. `hint` is where that is cached.
    fn send<W: Wire<Frame = F>>(
        &mut self,
        mut frame: F,
        vlan: Vlan,
        hint: &Gauge,
        hop: Hop,
        context: Context<'_>,
        wire: &mut W,
    ) -> Passed<F> {
        match self.neighbors.link(hint.get(), hop, context.now) {
            Some(link) => {
                write_link(frame.bytes_mut(), link);
                self.shared.counters.forwarded.add(1);
                wire.transmit(usize::from(hop.port), frame);
                Ok(())
            }
            None => self.resolve_and_send(frame, vlan, hint, hop, context, wire),
        }
    }

    /// As [`Director::send`], when the hint does not lead to a next hop that is known to be there.
    #[cold]
    fn resolve_and_send<W: Wire<Frame = F>>(
        &mut self,
        mut frame: F,
        vlan: Vlan,
        hint: &Gauge,
        hop: Hop,
        context: Context<'_>,
        wire: &mut W,
    ) -> Passed<F> {
        let port = usize::from(hop.port);
        let (slot, resolution) = self.neighbors.resolve(hint.get(), hop, context.now);
        hint.set(slot);
        match resolution {
            Resolution::To(link) => {
                write_link(frame.bytes_mut(), &link);
                self.shared.counters.forwarded.add(1);
                wire.transmit(port, frame);
                Ok(())
            }
            Resolution::Wait { ask } => {
                if ask && arp::request(wire, context.snapshot, (port, vlan), hop.address, None) {
                    self.shared.counters.arp_requests.add(1);
                }
                self.neighbors.wait(slot, frame)
            }
            Resolution::Drop(reason) => Err((frame, reason)),
        }
    }

    /// As [`Director::send`], for a packet that exceeds the MTU and may be cut.
    #[cold]
    fn send_in_pieces<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        hint: &Gauge,
        hop: Hop,
        context: Context<'_>,
        wire: &mut W,
    ) -> Passed<F> {
        let mtu = usize::from(context.snapshot.ports[usize::from(hop.port)].mtu);
        let mut pieces = ArrayVec::<F, { fragment::PIECES_MAX }>::new();
        let cut = fragment::cut(&frame, packet.l3(), mtu, wire, |piece| pieces.push(piece));
        if let Err(reason) = cut {
            pieces.drain(..).for_each(|piece| wire.release(piece));
            return Err((frame, reason));
        }
        for piece in pieces {
            if let Err((piece, reason)) = self.send(piece, packet.vlan, hint, hop, context, wire) {
                self.drop(piece, reason, wire);
            }
        }
        wire.release(frame);
        Ok(())
    }

    fn drop<W: Wire<Frame = F>>(&mut self, frame: F, reason: DropReason, wire: &mut W) {
        self.shared.counters.dropped(reason);
        wire.release(frame);
    }
}

/// The direction of a client's packets to this real server.
#[inline]
fn direction_to(server: &Server) -> Direction {
    match server.forwarding {
        Forwarding::Nat => Direction::Input,
        Forwarding::Dr | Forwarding::Tun => Direction::InputOnly,
    }
}

/// A packet that begins a connection, on the record of one that is over or whose real server is quiesced, is scheduled
/// anew (`conn_reuse_mode`), unless a persistence template holds the record.
#[inline]
fn starts_anew(packet: &Packet, record: Record, server: &Server, snapshot: &Snapshot) -> bool {
    let switches = &snapshot.switches;
    if switches.conn_reuse_mode == 0 || !state::is_first(record.protocol(), packet.flags) {
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
fn may_open(packet: &Packet, protocol: Protocol, snapshot: &Snapshot) -> bool {
    let is_sloppy = match protocol {
        Protocol::Tcp => snapshot.switches.sloppy_tcp,
        Protocol::Udp => false,
        Protocol::Sctp => snapshot.switches.sloppy_sctp,
    };
    packet.source_port != FTP_DATA && state::opens(protocol, packet.flags, is_sloppy)
}

/// Takes away padding that no Ethernet asks for: it could make a frame longer than the MTU of the way out.
#[inline]
fn trim_surplus<F: Frame>(frame: &mut F, packet: &Packet) -> Result<(), DropReason> {
    rewrite::trim(frame, (packet.l3() + usize::from(packet.total_len)).max(FRAME_LEN_MIN))
}

/// Whether a frame goes to `mac` and comes from a single station.
#[inline]
fn is_for(bytes: &[u8], mac: MacAddress) -> bool {
    bytes.first_chunk::<12>().is_some_and(|macs| macs.starts_with(&mac.0) && macs[6] & 1 == 0)
}

#[inline]
fn write_link(bytes: &mut [u8], link: &Link) {
    if let Some(macs) = bytes.first_chunk_mut::<12>() {
        *macs = *link;
    }
}
