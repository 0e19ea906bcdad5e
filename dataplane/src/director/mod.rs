//! The path of a packet, one call a stage: parse, classify, look up or schedule, rewrite, next hop, transmit.
//!
//! A burst passes in three rounds. The first reads every frame and asks the processor for the cache line of its
//! connection; the second finds those lines waiting and makes the frames of connections that go on as they are ready in
//! place (`express`); the third sends these and takes all others in the order they came: most that open a connection by a
//! short way of their own (`fresh`), the rest by the common way. So within one burst a connection's usual packets may pass
//! one that changes its state: they are passed on the same either way, as they are when a network swaps the two. A [`Director`] is one worker's half of the data path: its
//! connection table, its neighbours, its counters. It knows nothing of DPDK; frames and ports are behind
//! [`Wire`].

mod answer;
mod calls;
mod clamp;
pub mod displaced;
mod errors6;
pub mod explain;
mod express;
mod express6;
mod finding;
pub mod foretold;
mod fresh;
mod fresh6;
mod ftp;
mod idents;
mod ipv6;
mod open;
pub mod persist;
mod pieces;
mod punt;
mod read6;
mod reply;
mod reply6;
mod request;
mod scattered;
mod send;
#[cfg(test)]
mod tests;
mod turned_away;
mod untracked;
mod upkeep;

use std::net::Ipv6Addr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use arrayvec::ArrayVec;
use crossbeam::queue::ArrayQueue;

use weir_config::model::{MacAddress, Protocol};
use zerocopy::FromBytes;

use crate::classify::{Class, LastServers, LastServers6, LastService, LastService6, Lookup, classify};
use crate::clock::Now;
use crate::conn::extra::Extras;
use crate::conn::record::Record;
use crate::conn::state::{self, Direction, is_active, tcp};
use crate::conn::table::{Slot, Table, View};
use crate::conn::template::{TemplateKey6, Templates};
use crate::desk::Desk;
use crate::foretold::Foretold;
use crate::limit::{ErrorLimits, RateLimit};
use crate::neighbor::listing::Listing;
use crate::neighbor::{Heard, Hop, Hop6, Link, Neighbors};
use crate::packet::{BURST, Burst, Frame, Wire};
use crate::parse::v6::Ends6;
use crate::parse::{Content, Packet, Plain, Station, parse};
use crate::pieces::Pieces;
use crate::punt::Punt;
use crate::reply::{arp, mld};
use crate::rewrite;
use crate::snapshot::server::Gauge;
use crate::snapshot::{Port, Snapshot};
use crate::stats::{DropReason, WorkerCounters};
use crate::wire::ethernet::{FRAME_LEN_MIN, TYPE_IPV6};
use displaced::Displaced;
use finding::{Finding, Reading};
use fresh::First;
use idents::Idents;
use turned_away::TurnedAway;

/// RSTs that a worker sends per second: a flood of stray segments must not become one of answers.
const RESETS_PER_SECOND: u32 = 10_000;

/// What a worker has to tell control's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Another host claims an address that it can't have.
    Conflict(arp::Conflict),
    /// There is no room for another IPv6 client; told once as long as that goes on.
    ClientsFull,
}

/// What one worker tells another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// An ARP packet said that a next hop has this MAC.
    Learned(Hop, MacAddress),
    /// What neighbour discovery said of a next hop of IPv6.
    Heard(Hop6, Heard),
    /// A packet of this connection, which is the receiver's, moved it along: the TCP flags it had, and which way it went.
    Passed(Record, u8, Direction),
    /// A packet began this connection, which is the receiver's, anew in the table of another worker: the old one is over.
    Over(Record),
}

/// Messages that wait for a worker at most. One that finds no room is lost and counted: neighbours are asked for again, and a
/// connection's next packet says the same. If there is none, as after the last FIN or a RST, its record stays for the time of the state
/// that it is in.
const INBOX_MAX: usize = 4_096;

/// Connections that are opened before their first packets are sent on: a whole burst's, so that it waits once for what they
/// need of their real servers.
const OPENED_MAX: usize = BURST;

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
    /// Whether devices may give a flow's packets to one worker now and to another one later, as those do that have several
    /// queues and no receive side scaling: a tap's, and so virtio's, follow the queue that was last sent from.
    pub flows_move: bool,
    /// While this second lies ahead, some worker's table was full a while ago.
    pub untracked_until: Arc<AtomicU32>,
    /// While this one lies ahead, some worker had no room for another IPv6 client a while ago.
    pub untracked6_until: Arc<AtomicU32>,
    /// Those who ask on each port which groups are heard as RFC 2710 has it.
    pub old_queriers: Arc<mld::OldQueriers>,
    /// Flows of which some packets come to one worker and some to another one, for what lies before their ports or in their place.
    pub displaced: Arc<Displaced>,
    /// Where packets go whose pieces are under way, of all workers.
    pub pieces: Arc<Pieces>,
    /// Control connections of FTP and what they have announced, of all workers.
    pub extras: Arc<Extras>,
    /// What the identifications of packets that may be cut begin with.
    pub first_idents: u64,
    /// Connections that another director has told of.
    pub foretold: Arc<Foretold>,
    /// Flows that found no room in their chain, of all workers.
    pub turned_away: Arc<TurnedAway>,
    /// Where control asks it what would become of a packet.
    pub questions: Arc<explain::Questions>,
    /// What else control asks of it.
    pub desk: Arc<Desk>,
}

/// Packets in pieces that [`Shared::new`] has room for.
const PIECES_DEFAULT: usize = 1_024;
/// What their hash begins with there.
const PIECES_HASH: [u64; 2] = [0x243f_6a88_85a3_08d3, 0x9e37_79b9_7f4a_7c15];
/// Control connections that it has room for.
const CONTROLS_DEFAULT: usize = 256;
/// Connections that were foretold.
const FORETOLD_DEFAULT: usize = 256;

impl Shared {
    /// For `workers` workers on `ports` ports, whose devices keep each flow with one worker. The room for packets in pieces is small, and
    /// its hash no secret, and so are the first identifications: who starts workers for good puts in others.
    pub fn new(workers: usize, ports: usize) -> Vec<Shared> {
        let events = Arc::new(ArrayQueue::new(256));
        let inboxes: Arc<[ArrayQueue<Message>]> = (0..workers).map(|_| ArrayQueue::new(INBOX_MAX)).collect();
        let untracked_until = Arc::<AtomicU32>::default();
        let untracked6_until = Arc::<AtomicU32>::default();
        let displaced = Arc::<Displaced>::default();
        let pieces =
            Arc::new(Pieces::new(PIECES_DEFAULT, PIECES_HASH).expect("memory for some thousand lines"));
        let extras = Arc::new(Extras::new(CONTROLS_DEFAULT, [0; 2]));
        let foretold = Arc::new(Foretold::new(FORETOLD_DEFAULT, [0; 2]));
        let old_queriers = Arc::<mld::OldQueriers>::default();
        let turned_away = Arc::<TurnedAway>::default();
        let shared = |worker| Shared {
            worker,
            counters: Arc::new(WorkerCounters::new(ports)),
            events: events.clone(),
            inboxes: inboxes.clone(),
            flows_move: false,
            untracked_until: untracked_until.clone(),
            untracked6_until: untracked6_until.clone(),
            displaced: displaced.clone(),
            pieces: pieces.clone(),
            extras: extras.clone(),
            first_idents: 0,
            foretold: foretold.clone(),
            old_queriers: old_queriers.clone(),
            turned_away: turned_away.clone(),
            questions: Arc::default(),
            desk: Arc::default(),
        };
        (0..workers).map(shared).collect()
    }

    /// Tells another worker.
    fn tell(&self, worker: usize, message: Message) {
        if self.inboxes[worker].push(message).is_err() {
            self.counters.messages_lost.add(1);
        }
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
    /// Whose turn it is to forget destinations.
    forgetful_turn: usize,
    /// Buckets of the templates that are to be swept now.
    buckets_due: u64,
    neighbors: Neighbors<F>,
    neighbors6: Neighbors<F, Hop6>,
    /// Where the neighbour of the last reply was found.
    reply_hint: Gauge,
    /// The same of IPv6.
    reply_hint6: Gauge,
    icmp_errors: ErrorLimits,
    resets: RateLimit,
    /// Of data connections that clients announce.
    announced_limit: RateLimit,
    announcer: arp::Announcer,
    reporter: Box<mld::Reporter>,
    punt: Punt,
    generation: u64,
    edition: u64,
    /// Generation and edition of which the groups that are heard were looked at.
    reported: (u64, u64),
    bindings_generation: u64,
    /// While this lies ahead, segments of unknown flows are taken for flows that got no record. Seconds.
    untracked_until: u32,
    /// Whether a connection's record has one place where it can be: flows do not move to other workers' tables, there is one
    /// kind of hash, and none was foretold.
    has_one_place: bool,
    /// The table's records, or the counts of real servers, are still being taken over.
    is_taking_over: bool,
    /// Real servers, by number, whose counts were taken over.
    counted_servers: usize,
    /// Lines of the table that the sweep has visited since the start.
    swept: u64,
    /// The packet under way is a first piece, whose connection may be with any worker.
    is_displaced: bool,
    /// Pieces that wait.
    held: pieces::Held<F>,
    round: Round,
    findings: Box<[Finding]>,
    /// What is left to do for the burst in [`Director::read_further`]: [`SCATTERED`], [`PERSISTENT`], [`IPV6`].
    further: u8,
    /// First packets of connections that were opened, until [`Director::forward_opened`].
    opened: ArrayVec<First<F>, OPENED_MAX>,
    /// Good for the present snapshot.
    last_service: LastService,
    /// Good for the present snapshot.
    last_servers: LastServers,
    /// Good for the present snapshot.
    last_service6: LastService6,
    /// Good for the present snapshot.
    last_servers6: LastServers6,
    /// Connections that the sweep ended and that still hang on their templates. Has its memory from the start.
    ended_templated: Vec<Record>,
    /// The same of IPv6, with their clients.
    ended_templated6: Vec<(Record, Ipv6Addr)>,
    /// Milliseconds of the clock up to which the rest of the upkeep is done.
    kept_until: u64,
    /// Of tunnel packets over IPv4.
    idents: Idents,
    /// Of packets of IPv6 that are cut.
    idents6: Idents,
    /// Of answers to pings over IPv4, which tell whoever asks where they are.
    echo_idents: Idents,
    /// Of the packet of IPv6 that is under way: from the client to the virtual server, or to the real server that NAT put in its
    /// place. If it is an ICMPv6 error, of the packet that it is about, in that direction.
    ends6: Ends6,
    /// The template of the call that the packet under way is of; `None`: calls are nothing to its virtual server.
    call: Option<TemplateKey6>,
    /// Where that packet came in, if it is a client's.
    port6: usize,
    /// What control is being told of the neighbours.
    listing: Option<Listing>,
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

/// Frames wait for [`Director::read_scattered`].
const SCATTERED: u8 = 1;
/// Frames open connections to persistent virtual servers.
const PERSISTENT: u8 = 2;
/// Frames of IPv6 wait for [`Director::take_burst6`].
const IPV6: u8 = 4;

/// What every step of a frame is given: what stays the same over its burst, and the way out.
struct Pass<'a, W> {
    context: Context<'a>,
    wire: &'a mut W,
}

/// A round of the sweep over the whole table.
#[derive(Clone, Copy)]
struct Round {
    /// Of the snapshot when it began.
    generation: u64,
    /// Lines visited so far.
    lines: u64,
    /// It has seen every record, and ended all that were over.
    is_whole: bool,
}

/// A port that a frame goes out of: its number plus one, so that an option of it is as small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Exit(NonZeroU16);

impl Exit {
    #[inline]
    fn new(port: u16) -> Option<Self> {
        NonZeroU16::new(port.wrapping_add(1)).map(Self)
    }

    #[inline]
    fn port(self) -> usize {
        usize::from(self.0.get() - 1)
    }
}

/// What the third round does with a frame on its common way.
#[derive(Debug, Clone, Copy, Default)]
enum Step {
    Ipv4(Class),
    Ipv6(Class),
    #[default]
    Arp,
    Drop(DropReason),
}

/// How a stage ended: with the frame passed on, or given back with the reason to drop it.
type Passed<F> = Result<(), (F, DropReason)>;

impl<F: Frame> Director<F> {
    /// A director with an empty table. `views` are the tables of all workers, by number.
    pub fn new(shared: Shared, table: Table, views: Arc<[View]>, templates: Arc<Templates>) -> Self {
        let first = shared.first_idents;
        let idents = |first| Idents::new(first, shared.worker, shared.inboxes.len());
        Self {
            idents: idents(first as u32),
            idents6: idents((first >> 32) as u32),
            echo_idents: idents((first >> 16) as u32),
            views,
            templates,
            swept_bucket: 0,
            buckets_due: 0,
            shared,
            is_taking_over: table.is_adopting(),
            counted_servers: 0,
            table,
            forgetful_turn: 0,
            neighbors: Neighbors::new(),
            neighbors6: Neighbors::new(),
            reply_hint: Gauge::default(),
            reply_hint6: Gauge::default(),
            icmp_errors: ErrorLimits::new(),
            resets: RateLimit::per_second(RESETS_PER_SECOND),
            announced_limit: RateLimit::per_second(ftp::ACTIVE_PER_SECOND),
            announcer: arp::Announcer::default(),
            reporter: Box::default(),
            punt: Punt::default(),
            generation: 0,
            edition: 0,
            reported: (0, 0),
            bindings_generation: 0,
            untracked_until: 0,
            has_one_place: false,
            is_displaced: false,
            held: pieces::Held::new(),
            swept: 0,
            round: Round { generation: 0, lines: 0, is_whole: true },
            ended_templated: Vec::with_capacity(upkeep::ENDED_TEMPLATED_MAX),
            ended_templated6: Vec::with_capacity(upkeep::ENDED_TEMPLATED_MAX),
            last_service: LastService::none(),
            last_servers: LastServers::none(),
            last_service6: LastService6::none(),
            last_servers6: LastServers6::none(),
            findings: vec![Finding::none(); BURST].into(),
            further: 0,
            opened: ArrayVec::new(),
            kept_until: 0,
            ends6: Ends6::NONE,
            call: None,
            port6: 0,
            listing: None,
            #[cfg(test)]
            no_express: false,
        }
    }

    /// Hands what is not for the data path over to control.
    pub fn with_punt(self, punt: Punt) -> Self {
        Self { punt, ..self }
    }

    /// Tells control of the neighbours, some with each millisecond.
    pub fn list_neighbors(&mut self, listing: Listing) {
        self.listing = Some(listing);
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
        self.read(burst, &mut findings, context, wire);
        let mut exits = [None; BURST];
        let mut express = self.express(context);
        for ((frame, finding), exit) in burst.iter_mut().zip(findings.iter()).zip(&mut exits) {
            let key = finding.key();
            *exit = if key.is_reply() { express.reply(frame, key) } else { express.request(frame, *key) };
        }
        let ready: u16 = exits.iter().map(|exit| u16::from(exit.is_some())).sum();
        self.shared.counters.forwarded.add(u64::from(ready));
        if let Some(exit) = exits[0]
            && exits[..burst.len()].iter().fold(true, |same, other| same & (*other == Some(exit)))
        {
            wire.transmit_all(exit.port(), burst);
        }
        let pass = &mut Pass { context, wire };
        for ((frame, finding), exit) in burst.drain(..).zip(findings.iter_mut()).zip(&exits) {
            match exit {
                Some(exit) => pass.wire.transmit(exit.port(), frame),
                None => self.take_other_way(frame, finding, pass),
            }
        }
        if !self.opened.is_empty() {
            self.forward_opened(pass);
        }
        self.findings = findings;
    }

    /// Third round of a frame that is not of a known connection that goes on as it is. Not inlined: the loop that calls it is
    /// left with few enough values to keep them in registers.
    #[inline(never)]
    fn take_other_way<W: Wire<Frame = F>>(
        &mut self,
        mut frame: F,
        finding: &mut Finding,
        pass: &mut Pass<'_, W>,
    ) {
        if finding.is_short6() {
            return self.take_other_way6(frame, finding, pass);
        }
        if let Some(lookup) = finding.opening() {
            match self.open_fresh(frame, lookup, pass) {
                Ok(()) => return,
                Err(given_back) => frame = given_back,
            }
        }
        // Connections that have just been opened come first: the frame may be of one of them.
        if !self.opened.is_empty() {
            self.forward_opened(pass);
        }
        self.take_common_way(frame, finding, pass);
    }

    /// Third round of a frame on the way of any frame.
    #[inline]
    fn take_common_way<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        finding: &mut Finding,
        pass: &mut Pass<'_, W>,
    ) {
        // Of most all that is known is what they are looked up by.
        let reading = finding.reading_or(|reading| self.read_any(&frame, reading, pass.context));
        let Reading { step, packet, lookup } = reading;
        let passed = match *step {
            Step::Ipv4(Class::Request) => self.request(frame, packet, lookup, pass),
            Step::Ipv4(Class::Reply) => self.reply(frame, packet, lookup, pass),
            Step::Ipv4(class) => self.answer_or_drop(frame, packet, class, pass),
            Step::Ipv6(class) => self.take_ipv6(frame, (packet, lookup), class, pass),
            Step::Arp => self.arp(frame, packet.vlan, pass),
            Step::Drop(reason) => self.punt_or_drop(frame, packet, reason, pass),
        };
        if let Err((frame, reason)) = passed {
            self.drop(frame, reason, pass.wire);
        }
    }

    /// First round: parse, classify, prefetch.
    #[inline]
    fn read<W: Wire<Frame = F>>(
        &mut self,
        burst: &mut Burst<F>,
        findings: &mut [Finding],
        context: Context<'_>,
        wire: &mut W,
    ) {
        for frame in burst.iter() {
            frame.prefetch();
        }
        let port = &context.snapshot.ports[context.port];
        let own = Station::new(port.mac);
        for (frame, finding) in burst.iter().zip(findings.iter_mut()) {
            if let Ok((plain, _)) = Plain::ref_from_prefix(frame.bytes())
                && (plain.is_for(own) || is_for(frame.bytes(), port))
                && plain.is_usual(frame.len())
            {
                let Plain { ip, tcp, .. } = plain;
                if self.last_service.is_asked_by(plain) {
                    let usual = self.last_service.usual();
                    let key = self.table.usual_key(usual, ip.source.get(), tcp.source.get());
                    finding.set_usual(key);
                    continue;
                }
                if let Some(usual) = self.last_servers.usual(plain, context.snapshot) {
                    let key = self.table.usual_key(usual, ip.destination.get(), tcp.destination.get());
                    finding.set_usual(key);
                    continue;
                }
            }
            self.read_otherwise(frame, finding, context);
        }
        // In a loop of their own: the processor waits for the page of each, and so waits for many at once.
        let records = self.table.usual_records(context.now.seconds);
        for finding in &findings[..burst.len()] {
            records.prefetch(*finding.key());
        }
        let further = std::mem::take(&mut self.further);
        if further != 0 {
            self.read_further(further, burst, findings, context, wire);
        }
    }

    /// The end of the first round where a look at one frame after the other was not enough.
    #[inline(never)]
    fn read_further<W: Wire<Frame = F>>(
        &mut self,
        further: u8,
        burst: &mut Burst<F>,
        findings: &mut [Finding],
        context: Context<'_>,
        wire: &mut W,
    ) {
        if further & IPV6 != 0 {
            self.take_burst6(burst, findings, context, wire);
        }
        if further & SCATTERED != 0 {
            self.read_scattered(burst, findings, context);
        }
        let further = further | std::mem::take(&mut self.further);
        if further & PERSISTENT != 0 {
            self.prefetch_templates_behind(&findings[..burst.len()], context.snapshot);
        }
    }

    /// First round of a frame that is anything but a usual one to the virtual server of the one before. Not inlined, as
    /// [`Director::take_other_way`].
    #[inline(never)]
    fn read_otherwise(&mut self, frame: &F, finding: &mut Finding, context: Context<'_>) {
        let bytes = frame.bytes();
        if is_of_type(bytes, TYPE_IPV6) {
            return self.put_off6(bytes, finding);
        }
        let port = &context.snapshot.ports[context.port];
        if let Ok((plain, _)) = Plain::ref_from_prefix(bytes)
            && is_for(bytes, port)
            && (plain.is_opening(frame.len()) && self.read_opening(plain, finding, context)
                || plain.is_usual(frame.len()) && self.put_off(plain, finding, context))
        {
            return;
        }
        self.read_any(frame, finding.set_other(), context);
    }

    /// First round of any frame.
    #[inline(never)]
    fn read_any(&mut self, frame: &F, reading: &mut Reading, context: Context<'_>) {
        #[cfg(feature = "panic-on")]
        panic_on(frame.bytes());
        let port = &context.snapshot.ports[context.port];
        reading.step = match parse(frame, &mut reading.packet) {
            Content::Ipv4 if !is_for(frame.bytes(), port) => Step::Drop(foreign(frame.bytes(), port)),
            // As Linux has it (`fib_validate_source`).
            Content::Ipv4 if context.snapshot.is_broadcast(reading.packet.source) => {
                Step::Drop(DropReason::BadIpHeader)
            }
            Content::Ipv4 => Step::Ipv4(self.classify(&reading.packet, &mut reading.lookup, context)),
            Content::Ipv6 => self.read_ipv6(frame, reading, context),
            Content::Arp => Step::Arp,
            Content::Bad(DropReason::Fragment) => {
                self.prefetch_piece4(frame, reading.packet.vlan, context);
                Step::Drop(DropReason::Fragment)
            }
            Content::Bad(reason) => Step::Drop(reason),
        };
        if let Step::Drop(DropReason::Truncated) = reading.step
            && !frame.is_contiguous()
        {
            // The frame has more: its headers lie across two buffers.
            reading.step = Step::Drop(DropReason::LongFrame);
        }
    }

    #[inline]
    fn classify(&mut self, packet: &Packet, lookup: &mut Lookup, context: Context<'_>) -> Class {
        let class = classify(packet, context.snapshot, &self.table, &mut self.last_service, lookup);
        match class {
            Class::Request => self.table.prefetch(lookup.hash),
            // The queue it came in on says nothing about whose connection it is.
            Class::Reply => {
                self.views.iter().for_each(|view| view.prefetch(lookup.hash));
                self.last_servers.remember(packet, context.snapshot);
            }
            _ => {}
        }
        class
    }

    /// Moves a connection along with a packet from either end. Written only when something changed.
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
        if record.is_helped() {
            self.forget_helped(record, context.snapshot);
        }
        self.table.remove(slot);
    }

    fn drop<W: Wire<Frame = F>>(&mut self, frame: F, reason: DropReason, wire: &mut W) {
        self.shared.counters.dropped(reason);
        wire.discard(frame, reason);
    }
}

/// For tests of what a panic leads to.
#[cfg(feature = "panic-on")]
fn panic_on(frame: &[u8]) {
    const WORDS: &[u8] = b"weir, panic";
    assert!(!frame.windows(WORDS.len()).any(|words| words == WORDS), "a frame says so");
}

/// Takes away padding that no Ethernet asks for: it could make a frame longer than the MTU of the way out.
#[inline]
fn trim_surplus<F: Frame>(frame: &mut F, packet: &Packet) -> Result<(), DropReason> {
    rewrite::trim(frame, packet.end().max(FRAME_LEN_MIN))
}

/// Why a frame to another MAC is dropped.
#[cold]
fn foreign(bytes: &[u8], port: &Port) -> DropReason {
    if port.virtual_macs.is_for_another(bytes) { DropReason::VrrpBackup } else { DropReason::ForeignMac }
}

/// Whether a frame goes to the port, or to a virtual router that is master there, and comes from a single station.
#[inline]
fn is_for(bytes: &[u8], port: &Port) -> bool {
    let Some(macs) = bytes.first_chunk::<12>() else { return false };
    macs[6] & 1 == 0 && (macs.starts_with(&port.mac.0) || port.virtual_macs.receives(macs))
}

/// Whether this is what an untagged frame holds.
#[inline]
fn is_of_type(bytes: &[u8], ether_type: u16) -> bool {
    bytes.first_chunk::<14>().is_some_and(|head| u16::from_be_bytes([head[12], head[13]]) == ether_type)
}

#[inline]
fn write_link(bytes: &mut [u8], link: &Link) {
    if let Some(macs) = bytes.first_chunk_mut::<12>() {
        *macs = *link;
    }
}
