//! Packets in pieces: the first piece takes the way of any packet, and the others follow it.
//!
//! Here comes what the parser gives up as a piece. Whether it may be a virtual server's is told by its addresses; all others stay
//! what they were, the host's or nobody's. A first piece is read, classified and passed on like a whole packet, by a [`Following`] wire that sees
//! where it goes; that is remembered ([`crate::pieces`]). A later one is sent the same way, and of NAT gets the address alone: ports and
//! checksum stand in the first. If there was no first one yet, it waits ([`waiting`]).

mod waiting;

use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;

use zerocopy::FromBytes;

use super::ipv6::{is_for6, number_of_vip6};
use super::reply::{Obstacle, way_back};
use super::reply6::way_back6;
use super::{Context, Director, Pass, Passed, is_for};
use crate::classify::{Class, Lookup};
use crate::conn::record::ServerId;
use crate::packet::{Frame, Onward, Wire};
use crate::parse::Packet;
use crate::parse::pieces::{Piece, read4, read6};
use crate::parse::plain6::words;
use crate::parse::v6::{self, Ends6, may_be_source};
use crate::pieces::{Course, Gone, Key, WAITING_MAX, Way};
use crate::snapshot::Snapshot;
use crate::snapshot::server::Server;
use crate::stats::DropReason;
use crate::wire::ethernet::{self, TYPE_IPV4, TYPE_IPV6, Vlan};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::l4::Udp;
use waiting::{Room, Seat};

/// Seats that are looked at in a millisecond.
const LOOKS: usize = 64;

/// What a worker keeps of pieces.
pub(super) struct Held<F>(Room<F>);

impl<F> Held<F> {
    pub(super) fn new() -> Self {
        Self(Room::new(WAITING_MAX))
    }

    /// Pieces that wait.
    pub(super) fn waiting(&self) -> usize {
        self.0.taken()
    }
}

/// A piece, and what its packet is known by.
#[derive(Clone, Copy)]
struct Known {
    piece: Piece,
    key: Key,
    hash: u64,
}

/// A wire that notes where a first piece goes.
struct Following<'a, F> {
    wire: &'a mut (dyn Wire<Frame = F> + 'a),
    /// Whether a change of NAT's takes more than this piece, if it has another port; or if it has another address.
    needs_all: (bool, bool),
    way: Option<Way>,
}

impl<F: Frame> Wire for Following<'_, F> {
    type Frame = F;

    fn transmit(&mut self, port: usize, frame: F) {
        self.wire.transmit(port, frame);
    }

    fn release(&mut self, frame: F) {
        self.wire.release(frame);
    }

    fn discard(&mut self, frame: F, reason: DropReason) {
        self.wire.discard(frame, reason);
    }

    fn allocate(&mut self) -> Option<F> {
        self.wire.allocate()
    }

    fn sends_on(&mut self, onward: impl FnOnce() -> Onward) -> Result<(), DropReason> {
        let Onward { server, address, is_translated, has_new_port } = onward();
        let (by_port, by_address) = self.needs_all;
        if is_translated && (by_port && has_new_port || by_address) {
            return Err(DropReason::FragmentChecksum);
        }
        let address = address_words(address);
        self.way = Some(match server {
            Some(number) => Way::Server(number, address),
            None => Way::Client(address),
        });
        Ok(())
    }
}

impl<F: Frame> Director<F> {
    /// Takes a piece that came at this time, in milliseconds, or gives it back if it is none of a virtual server's.
    #[inline(never)]
    pub(super) fn take_piece<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        since: u64,
        pass: &mut Pass<'_, W>,
    ) -> Result<Passed<F>, F> {
        let Some((_, vlan, ether_type, _)) = ethernet::read(frame.bytes()) else { return Err(frame) };
        let read = match ether_type {
            TYPE_IPV4 => self.read_piece4(&frame, vlan, pass.context),
            TYPE_IPV6 => self.read_piece6(&frame, vlan, pass.context),
            _ => None,
        };
        match read {
            None => Err(frame),
            Some(Err(reason)) => Ok(Err((frame, reason))),
            Some(Ok(known)) if known.piece.is_first() => self.first_piece(frame, known, pass),
            Some(Ok(known)) => self.later_piece((frame, since), known, pass),
        }
    }

    /// Reads a piece of IPv4. `None`: it is to be left to others.
    fn read_piece4(&self, frame: &F, vlan: Vlan, context: Context<'_>) -> Option<Result<Known, DropReason>> {
        let snapshot = context.snapshot;
        let bytes = frame.bytes();
        let (header, _) = Ipv4::ref_from_prefix(bytes.get(vlan.header_len()..)?).ok()?;
        let (source, destination) = (header.source.get(), header.destination.get());
        let is_ours = match snapshot.local(destination) {
            Some(local) => local.is_vip,
            None => snapshot.has_nat4() && snapshot.may_be_host(destination),
        };
        let is_ours = is_ours || snapshot.may_have_mark(destination);
        let port = &snapshot.ports[context.port];
        // The host puts together what is to its addresses, whatever is served there.
        let is_hosts = port.has_host && port.has_address(destination);
        if !is_ours || is_hosts || !is_for(bytes, port) || snapshot.is_broadcast(source) {
            return None;
        }
        let key = |piece: &Piece| Key::v4(source, destination, piece.protocol, piece.ident);
        Some(read4(bytes, vlan).map(|piece| self.known(piece, key(&piece))))
    }

    /// The same of IPv6.
    fn read_piece6(&self, frame: &F, vlan: Vlan, context: Context<'_>) -> Option<Result<Known, DropReason>> {
        let snapshot = context.snapshot;
        let bytes = frame.bytes();
        let Ends6 { source, destination } = v6::ends(bytes, vlan.header_len()).ok()?;
        let is_vip = snapshot.serves_ipv6() && snapshot.is_vip6(destination);
        let is_others = || snapshot.number6(destination).and_then(|number| snapshot.local(number)).is_some();
        let is_ours = is_vip || snapshot.has_nat6() && may_be_source(destination) && !is_others();
        let port = &snapshot.ports[context.port];
        let is_hosts = port.has_host && port.has_address6(destination);
        if !is_ours || is_hosts || source == destination || !is_for6(bytes, port) {
            return None;
        }
        // Hosts of several links may have one address that is theirs there alone.
        let link = source.is_unicast_link_local().then_some(context.port);
        let key = |piece: &Piece| Key::v6(source, destination, piece.ident, link);
        Some(read6(bytes, frame.len(), vlan).map(|piece| self.known(piece, key(&piece))))
    }

    fn known(&self, piece: Piece, key: Key) -> Known {
        Known { piece, key, hash: self.shared.pieces.hash(&key) }
    }

    /// A first piece: as a whole packet.
    fn first_piece<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        known: Known,
        pass: &mut Pass<'_, W>,
    ) -> Result<Passed<F>, F> {
        let context = pass.context;
        let mut packet = known.piece.packet;
        let mut lookup = Lookup::default();
        let class = match packet.is_of_ipv6() {
            false => Some(self.classify(&packet, &mut lookup, context)),
            true => self.classify_piece6(&frame, &mut packet, &mut lookup, context.snapshot),
        };
        let Some(class) = class.filter(|class| matches!(class, Class::Request | Class::Reply)) else {
            self.remember(&known, Way::Left, context);
            self.release_waiting(known.hash, pass);
            return Err(frame);
        };
        let mut following =
            Following { wire: &mut *pass.wire, needs_all: needs_all(frame.bytes(), &known.piece), way: None };
        // The device may give whole packets of its flow to another worker.
        let is_parted = self.views.len() > 1;
        let was_displaced = std::mem::replace(&mut self.displaced, is_parted);
        let to = &mut Pass { context, wire: &mut following };
        let passed = match (packet.is_of_ipv6(), class) {
            (true, class) => self.take_ipv6(frame, (&packet, &lookup), class, to),
            (false, Class::Reply) => self.reply(frame, &packet, &lookup, to),
            (false, _) => self.request(frame, &packet, &lookup, to),
        };
        let way = match passed {
            // Nor was it sent on if it was the host's, or answered.
            Ok(()) => following.way.unwrap_or(Way::Left),
            Err(_) => Way::Refused,
        };
        self.displaced = was_displaced;
        // As long as first pieces come, and not only for what the first of them opened.
        if is_parted && matches!(way, Way::Server(..)) && !packet.is_of_ipv6() {
            self.note_displaced(context);
        }
        self.remember(&known, way, context);
        self.release_waiting(known.hash, pass);
        Ok(passed)
    }

    /// As the first round does it with a packet of IPv6: what it is, and the numbers of its ends.
    fn classify_piece6(
        &mut self,
        frame: &F,
        packet: &mut Packet,
        lookup: &mut Lookup,
        snapshot: &Snapshot,
    ) -> Option<Class> {
        let ends = v6::ends(frame.bytes(), packet.l3()).ok()?;
        self.ends6 = ends;
        if snapshot.serves_ipv6() && snapshot.is_vip6(ends.destination) {
            packet.source = self.number6(ends.source);
            packet.destination = number_of_vip6(ends.destination, snapshot);
            let class = self.classify6(packet, lookup, snapshot);
            if class.is_some() {
                return class;
            }
        }
        snapshot.nat_server6(ends.source, packet.source_port, packet.protocol)?;
        packet.destination = self.number6(ends.destination);
        Some(Class::Reply)
    }

    /// A connection was opened by a first piece: whole packets of its flow may come to another worker as long as it lives.
    pub(super) fn note_displaced(&self, Context { snapshot, now, .. }: Context<'_>) {
        let until = now.seconds + snapshot.lifetimes.longest();
        // Written once a second at most.
        if self.shared.displaced_until.load(Relaxed) < until {
            self.shared.displaced_until.fetch_max(until, Relaxed);
        }
    }

    fn remember(&self, known: &Known, way: Way, context: Context<'_>) {
        let Known { piece, key, hash } = known;
        let pieces = &self.shared.pieces;
        let counter =
            match pieces.begin((key, *hash), piece, way, context.now, context.snapshot.switches.patience) {
                Gone::None => return,
                Gone::Incomplete => &self.shared.counters.pieces_incomplete,
                Gone::Young | Gone::New => &self.shared.counters.pieces_full,
            };
        counter.add(1);
    }

    /// A piece that is not the first.
    fn later_piece<W: Wire<Frame = F>>(
        &mut self,
        (frame, since): (F, u64),
        known: Known,
        pass: &mut Pass<'_, W>,
    ) -> Result<Passed<F>, F> {
        let Known { piece, key, hash } = known;
        let Context { snapshot, now, port } = pass.context;
        let reason = match self.shared.pieces.follow((&key, hash), &piece, now, snapshot.switches.patience) {
            Course::On(Way::Server(number, address)) => {
                return Ok(self.piece_to_server(frame, &piece, (number, address), pass));
            }
            Course::On(Way::Client(address)) => return Ok(self.piece_to_client(frame, &piece, address, pass)),
            Course::On(Way::Left) => return Err(frame),
            Course::On(Way::Refused) => DropReason::FragmentRefused,
            Course::Duplicate => DropReason::FragmentDuplicate,
            Course::Overlap => DropReason::FragmentOverlap,
            Course::Unknown => {
                if let Some(gone) = self.held.0.push(Seat { frame, key, hash, port, since }) {
                    self.drop(gone.frame, DropReason::FragmentRoomFull, pass.wire);
                }
                return Ok(Ok(()));
            }
        };
        Ok(Err((frame, reason)))
    }

    /// To where the first piece went.
    fn piece_to_server<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        piece: &Piece,
        (number, address): (u32, [u64; 2]),
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let server = pass.context.snapshot.get_server(ServerId(number));
        let is_it = |server: &&Server| server.is_present && address_words(server.ip()) == address;
        let Some(server) = server.filter(is_it) else { return Err((frame, DropReason::RealServerRemoved)) };
        if piece.packet.is_of_ipv6() {
            match v6::ends(frame.bytes(), piece.packet.l3()) {
                Ok(ends) => self.ends6 = ends,
                Err(reason) => return Err((frame, reason)),
            }
        }
        self.forward(frame, &piece.packet, server, pass)
    }

    /// To the client, as the first piece went.
    fn piece_to_client<W: Wire<Frame = F>>(
        &mut self,
        mut frame: F,
        piece: &Piece,
        vip: [u64; 2],
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let (packet, snapshot) = (&piece.packet, pass.context.snapshot);
        let drop_for = |obstacle| match obstacle {
            Obstacle::Drop(reason) => reason,
            // Nobody is told about a piece that is not the first.
            Obstacle::Tell(error) if error.is_too_big() => DropReason::TooBig,
            Obstacle::Tell(_) => DropReason::TtlExceeded,
        };
        match address_of(vip) {
            IpAddr::V4(vip) => match way_back(&mut frame, packet, snapshot) {
                Ok(hop) => self.return_to_client(frame, packet, (vip.into(), 0), hop, pass),
                Err(obstacle) => Err((frame, drop_for(obstacle))),
            },
            IpAddr::V6(vip) => {
                let ends = v6::ends(frame.bytes(), packet.l3());
                let hop = ends
                    .map_err(Obstacle::Drop)
                    .and_then(|ends| way_back6(&mut frame, packet, ends.destination, pass.context));
                match hop {
                    Ok(hop) => self.return_to_client6(frame, packet, (vip, 0), hop, pass),
                    Err(obstacle) => Err((frame, drop_for(obstacle))),
                }
            }
        }
    }

    /// Sends on what waited for a first piece.
    fn release_waiting<W: Wire<Frame = F>>(&mut self, hash: u64, pass: &mut Pass<'_, W>) {
        let mut from = 0;
        // Only forwards: who has to wait on may have got another seat.
        while self.held.0.taken() > 0
            && let Some((at, seat)) = self.held.0.take(hash, from)
        {
            from = at + 1;
            self.try_waiting(seat, pass);
        }
    }

    /// Sends a waiting piece on if its first piece was here by now; it waits on if not, for its time.
    fn try_waiting<W: Wire<Frame = F>>(&mut self, seat: Seat<F>, pass: &mut Pass<'_, W>) {
        let Seat { frame, since, port, .. } = seat;
        let context = Context { port, ..pass.context };
        let pass = &mut Pass { context, wire: &mut *pass.wire };
        if is_late(&seat.key, since, context) {
            return self.drop(frame, DropReason::FragmentNoFirst, pass.wire);
        }
        let passed = match self.take_piece(frame, since, pass) {
            Ok(passed) => passed,
            Err(frame) => self.leave_piece(frame, pass),
        };
        if let Err((frame, reason)) = passed {
            self.drop(frame, reason, pass.wire);
        }
    }

    /// What becomes of a piece that waited, and is none of a virtual server's.
    fn leave_piece<W: Wire<Frame = F>>(&mut self, frame: F, pass: &mut Pass<'_, W>) -> Passed<F> {
        let vlan = ethernet::read(frame.bytes()).map_or(Vlan::NONE, |(_, vlan, ..)| vlan);
        let reason = left_reason(&frame, vlan, pass.context.snapshot);
        self.punt_or_drop_rest(frame, &Packet { vlan, ..Packet::default() }, reason, pass)
    }

    /// Looks at some of the pieces that wait: their first pieces may have come to other workers, or their time may be over. Once a
    /// millisecond.
    pub(super) fn look_at_waiting<W: Wire<Frame = F>>(&mut self, pass: &mut Pass<'_, W>) {
        for _ in 0..LOOKS {
            let (pieces, context) = (&self.shared.pieces, pass.context);
            let is_to_go =
                |seat: &Seat<F>| pieces.may_have(seat.hash) || is_late(&seat.key, seat.since, context);
            if let Some(seat) = self.held.0.look(is_to_go) {
                self.try_waiting(seat, pass);
            }
        }
    }
}

/// Whether a piece that came at this time, in milliseconds, has waited for long enough.
fn is_late(key: &Key, since: u64, Context { snapshot, now, .. }: Context<'_>) -> bool {
    now.millis.saturating_sub(since) > u64::from(snapshot.switches.patience.of(key))
}

/// What a piece is dropped for that is none of a virtual server's, unless the host gets it.
pub(super) fn left_reason<F: Frame>(frame: &F, vlan: Vlan, snapshot: &Snapshot) -> DropReason {
    match v6::ends(frame.bytes(), vlan.header_len()) {
        Ok(ends) if is_ipv6(frame.bytes()) && !snapshot.is_vip6(ends.destination) => DropReason::EtherType,
        _ => DropReason::Fragment,
    }
}

fn is_ipv6(bytes: &[u8]) -> bool {
    ethernet::read(bytes).is_some_and(|(_, _, ether_type, _)| ether_type == TYPE_IPV6)
}

/// Whether the checksum of what a piece begins can't be mended with this piece alone: where its port changes, and where its
/// address does.
fn needs_all(bytes: &[u8], piece: &Piece) -> (bool, bool) {
    let is_without_checksum = || {
        let l4 = piece.packet.l4_bytes(bytes);
        Udp::ref_from_prefix(l4).is_ok_and(|(udp, _)| udp.checksum.get() == 0)
    };
    let is_bare = piece.protocol == ipv4::UDP && piece.packet.is_of_ipv6() && is_without_checksum();
    (piece.protocol == ipv4::SCTP, is_bare)
}

/// An address as two words: the second one of IPv4 says so.
fn address_words(address: IpAddr) -> [u64; 2] {
    match address {
        IpAddr::V4(address) => words(address.to_ipv6_mapped()),
        IpAddr::V6(address) => words(address),
    }
}

fn address_of([upper, lower]: [u64; 2]) -> IpAddr {
    let bits = u128::from(upper) << 64 | u128::from(lower);
    std::net::Ipv6Addr::from_bits(bits).to_canonical()
}
