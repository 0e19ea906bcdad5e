//! Packets in pieces: the first piece takes the way of any packet, and the others follow it.
//!
//! Here comes what the parser gives up as a piece. Whether it may be a virtual server's is told by its addresses; all others stay
//! what they were, the host's or nobody's. A first piece is read, classified and passed on like a whole packet, by a [`Following`] wire that sees
//! where it goes; that is remembered ([`crate::pieces`]). A later one is sent the same way, and of NAT gets the address alone: ports and
//! checksum stand in the first. If there was no first one yet, it waits ([`waiting`]).

mod waiting;

use std::net::IpAddr;

use zerocopy::FromBytes;

use super::ipv6::{is_for6, number_of_vip6};
use super::reply::{Obstacle, way_back};
use super::reply6::way_back6;
use super::{Context, Director, Pass, Passed, is_for};
use crate::classify::{Class, Lookup};
use crate::conn::record::ServerId;
use crate::packet::{Frame, Onward, To, Wire};
use crate::parse::Packet;
use crate::parse::pieces::{First, Piece, Unread, header4, read4, read6};
use crate::parse::plain6::words;
use crate::parse::v6::{self, Ends6, may_be_source};
use crate::pieces::{Course, Gone, Key, WAITING_MAX, Way};
use crate::snapshot::Snapshot;
use crate::snapshot::server::Server;
use crate::stats::DropReason;
use crate::wire::ethernet::{self, TYPE_IPV4, TYPE_IPV6, Vlan};
use crate::wire::ipv4;
use crate::wire::ipv6::next;
use crate::wire::l4::Udp;
use waiting::{Room, Seat};

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

/// A piece that can't be read, and if it is the first of a packet what that is known by and where it ends.
type Unknown = (DropReason, Option<(Key, u64, u16)>);

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
        let Onward { to, server, address, is_translated, has_new_port } = onward();
        let (by_port, by_address) = self.needs_all;
        if is_translated && (by_port && has_new_port || by_address) {
            return Err(DropReason::FragmentChecksum);
        }
        let address = address_words(address);
        self.way = match to {
            To::Server => server.map(|number| Way::Server(number, address)),
            To::Client => Some(Way::Client(server, address)),
        };
        Ok(())
    }

    fn answers(&mut self) {
        self.way = Some(Way::Refused(DropReason::FragmentRefused));
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
            Some(Err((reason, first))) => {
                let Some((key, hash, end)) = first else { return Ok(Err((frame, reason))) };
                // What can't be read takes nothing from a packet that was.
                if let Some(reason) = self.repeated((&key, hash), end, pass.context) {
                    return Ok(Err((frame, reason)));
                }
                self.remember((&key, hash), end, Way::Refused(reason), pass);
                Ok(Err((frame, reason)))
            }
            Some(Ok(known)) if known.piece.is_first() => self.first_piece(frame, known, pass),
            Some(Ok(known)) => self.later_piece((frame, since), known, pass),
        }
    }

    /// Asks the processor for the places of a piece of IPv4 in the table, and for the record of the connection that a first one is of.
    #[inline(never)]
    pub(super) fn prefetch_piece4(&mut self, frame: &F, vlan: Vlan, context: Context<'_>) {
        let Some(header) = header4(frame.bytes(), vlan.header_len()) else { return };
        let ends = (header.source.get(), header.destination.get());
        let key = Key::v4(ends.0, ends.1, header.protocol, u32::from(header.ident.get()));
        self.shared.pieces.prefetch(self.shared.pieces.hash(&key));
        if is_served(header.protocol)
            && header.fragment.get() & ipv4::FRAGMENT_OFFSET == 0
            && let Ok(piece) = read4(frame.bytes(), vlan)
        {
            self.classify(&piece.packet, &mut Lookup::default(), context);
        }
    }

    /// Reads a piece of IPv4. `None`: it is to be left to others.
    fn read_piece4(&self, frame: &F, vlan: Vlan, context: Context<'_>) -> Option<Result<Known, Unknown>> {
        let snapshot = context.snapshot;
        let bytes = frame.bytes();
        let header = header4(bytes, vlan.header_len())?;
        let (source, destination) = (header.source.get(), header.destination.get());
        let is_ours = match snapshot.local(destination) {
            Some(local) => local.is_vip,
            None => snapshot.is_nat_address(IpAddr::V4(source.into())) && snapshot.may_be_host(destination),
        };
        let is_ours = is_served(header.protocol) && (is_ours || snapshot.may_have_mark(destination));
        let port = &snapshot.ports[context.port];
        // The host puts together what is to its addresses, whatever is served there.
        let is_hosts = port.has_host && port.has_address(destination);
        if !is_ours || is_hosts || !is_for(bytes, port) || snapshot.is_broadcast(source) {
            return None;
        }
        let key = |protocol, ident| Key::v4(source, destination, protocol, ident);
        Some(self.read_known(read4(bytes, vlan), key))
    }

    /// The same of IPv6.
    fn read_piece6(&self, frame: &F, vlan: Vlan, context: Context<'_>) -> Option<Result<Known, Unknown>> {
        let snapshot = context.snapshot;
        let bytes = frame.bytes();
        let Ends6 { source, destination } = v6::ends(bytes, vlan.header_len()).ok()?;
        let is_vip = snapshot.serves_ipv6() && snapshot.is_vip6(destination);
        let is_others = || snapshot.number6(destination).and_then(|number| snapshot.local(number)).is_some();
        let is_back = || snapshot.is_nat_address(source.into()) && may_be_source(destination) && !is_others();
        let is_ours = is_vip || is_back();
        let port = &snapshot.ports[context.port];
        let is_hosts = port.has_host && port.has_address6(destination);
        if !is_ours || is_hosts || source == destination || !is_for6(bytes, port) {
            return None;
        }
        let read = read6(bytes, frame.len(), vlan);
        // What lies before the ports of a later piece may hide them.
        let may_be_served = |piece: &Piece| match piece.protocol {
            next::HOP_BY_HOP | next::ROUTING | next::DESTINATION_OPTIONS => !piece.is_first(),
            protocol => is_served(protocol),
        };
        if read.as_ref().is_ok_and(|piece| !may_be_served(piece)) {
            return None;
        }
        // Hosts of several links may have one address that is theirs there alone.
        let link = source.is_unicast_link_local().then_some(context.port);
        Some(self.read_known(read, |_, ident| Key::v6(source, destination, ident, link)))
    }

    /// What was read, and by what its packet is known.
    fn read_known(
        &self,
        read: Result<Piece, Unread>,
        key: impl FnOnce(u8, u32) -> Key,
    ) -> Result<Known, Unknown> {
        match read {
            Ok(piece) => Ok(self.known(piece, key(piece.protocol, piece.ident))),
            Err(Unread { reason, first: None }) => Err((reason, None)),
            Err(Unread { reason, first: Some(First { protocol, ident, end }) }) => {
                let key = key(protocol, ident);
                Err((reason, Some((key, self.shared.pieces.hash(&key), end))))
            }
        }
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
        let Known { piece, key, hash } = known;
        if let Some(reason) = self.repeated((&key, hash), piece.end, context) {
            return Ok(Err((frame, reason)));
        }
        let mut packet = piece.packet;
        let mut lookup = Lookup::default();
        let class = match packet.is_of_ipv6() {
            false => Some(self.classify(&packet, &mut lookup, context)),
            true => self.classify_piece6(&frame, &mut packet, &mut lookup, context.snapshot),
        };
        let Some(class) = class.filter(|class| matches!(class, Class::Request | Class::Reply)) else {
            self.remember((&key, hash), piece.end, Way::Left, pass);
            return Err(frame);
        };
        let mut following =
            Following { wire: &mut *pass.wire, needs_all: needs_all(frame.bytes(), &piece), way: None };
        // The device may give whole packets of its flow to another worker.
        let is_parted = self.views.len() > 1;
        let was_displaced = std::mem::replace(&mut self.is_displaced, is_parted);
        let to = &mut Pass { context, wire: &mut following };
        let passed = match (packet.is_of_ipv6(), class) {
            (true, class) => self.take_ipv6(frame, (&packet, &lookup), class, to),
            (false, Class::Reply) => self.reply(frame, &packet, &lookup, to),
            (false, _) => self.request(frame, &packet, &lookup, to),
        };
        let way = match &passed {
            // It was the host's, if it went nowhere.
            Ok(()) => following.way.unwrap_or(Way::Left),
            Err((_, reason)) => Way::Refused(*reason),
        };
        self.is_displaced = was_displaced;
        // As long as first pieces come, and not only for what the first of them opened.
        if is_parted && matches!(way, Way::Server(..)) {
            self.note_displaced(&packet, context);
        }
        self.remember((&key, hash), piece.end, way, pass);
        Ok(passed)
    }

    /// Why a first piece that ends there is dropped, if its packet was here a moment ago and was sent on.
    fn repeated(&self, packet: (&Key, u64), end: u16, context: Context<'_>) -> Option<DropReason> {
        match self.shared.pieces.repeated(packet, end, context.now)? {
            Course::Overlap => Some(DropReason::FragmentOverlap),
            _ => Some(DropReason::FragmentDuplicate),
        }
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

    /// Notes what became of a first piece, which ends there, and lets the others of its packet that wait go the same way.
    fn remember<W: Wire<Frame = F>>(
        &mut self,
        (key, hash): (&Key, u64),
        end: u16,
        way: Way,
        pass: &mut Pass<'_, W>,
    ) {
        let Context { snapshot, now, .. } = pass.context;
        let (pieces, counters) = (&self.shared.pieces, &self.shared.counters);
        match pieces.begin((key, hash), end, way, now, snapshot.switches.patience) {
            Gone::None => {}
            Gone::Incomplete => counters.pieces_incomplete.add(1),
            Gone::Young | Gone::New => counters.pieces_full.add(1),
        }
        if self.held.waiting() > 0 {
            self.release_waiting(hash, pass);
        }
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
            Course::On(Way::Client(number, address)) => {
                return Ok(self.piece_to_client(frame, &piece, (number, address), pass));
            }
            Course::On(Way::Left) => return Err(frame),
            Course::On(Way::Refused(reason)) => reason,
            Course::Duplicate => DropReason::FragmentDuplicate,
            Course::Overlap => DropReason::FragmentOverlap,
            unknown @ (Course::Unknown | Course::Late) => {
                self.shared.counters.pieces_incomplete.add(u64::from(unknown == Course::Late));
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
        (number, vip): (Option<u32>, [u64; 2]),
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let (packet, snapshot) = (&piece.packet, pass.context.snapshot);
        let server = number.and_then(|number| snapshot.get_server(ServerId(number)));
        let drop_for = |obstacle| match obstacle {
            Obstacle::Drop(reason) => reason,
            // Nobody is told about a piece that is not the first.
            Obstacle::Tell(error) if error.is_too_big() => DropReason::TooBig,
            Obstacle::Tell(_) => DropReason::TtlExceeded,
        };
        match address_of(vip) {
            IpAddr::V4(vip) => match way_back(&mut frame, packet, snapshot) {
                Ok(hop) => {
                    self.count_later(
                        server.filter(|server| server.ip() == IpAddr::V4(packet.source.into())),
                        packet,
                    );
                    self.return_to_client(frame, packet, (vip.into(), 0, None), hop, pass)
                }
                Err(obstacle) => Err((frame, drop_for(obstacle))),
            },
            IpAddr::V6(vip) => {
                let ends = match v6::ends(frame.bytes(), packet.l3()) {
                    Ok(ends) => ends,
                    Err(reason) => return Err((frame, reason)),
                };
                match way_back6(&mut frame, packet, ends.destination, pass.context) {
                    Ok(hop) => {
                        self.count_later(
                            server.filter(|server| server.ip() == IpAddr::V6(ends.source)),
                            packet,
                        );
                        self.return_to_client6(frame, packet, (vip, 0, None), hop, pass)
                    }
                    Err(obstacle) => Err((frame, drop_for(obstacle))),
                }
            }
        }
    }

    /// Counts a piece from a real server, unless the number is another one's by now.
    fn count_later(&self, server: Option<&Server>, packet: &Packet) {
        if let Some(server) = server {
            self.count_reply(server, packet);
        }
    }

    /// Sends on what waited for a first piece.
    fn release_waiting<W: Wire<Frame = F>>(&mut self, hash: u64, pass: &mut Pass<'_, W>) {
        while let Some(seat) = self.held.0.take(hash) {
            let left = self.held.0.taken();
            self.try_waiting(seat, pass);
            // It has to wait on, and so would the others.
            if self.held.0.taken() > left {
                return;
            }
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

    /// Looks at the pieces that wait: their first pieces may have come to other workers, or their time may be over. Once a
    /// millisecond.
    pub(super) fn look_at_waiting<W: Wire<Frame = F>>(&mut self, pass: &mut Pass<'_, W>) {
        let (is_parted, context) = (self.views.len() > 1, pass.context);
        let mut next = self.held.0.oldest();
        // Who has to wait on comes behind all others.
        for _ in 0..self.held.waiting() {
            let Some(at) = next else { return };
            next = self.held.0.behind(at);
            let is_to_go = self.held.0.get(at).is_some_and(|seat| {
                is_parted && self.shared.pieces.may_have(seat.hash) || is_late(&seat.key, seat.since, context)
            });
            if is_to_go && let Some(seat) = self.held.0.take_at(at) {
                self.try_waiting(seat, pass);
            }
        }
    }

    /// Ends packets whose pieces did not all come in time, some with each of so many milliseconds.
    pub(super) fn sweep_pieces(&self, passed: u64, Context { snapshot, now, .. }: Context<'_>) {
        for _ in 0..passed.min(SWEEPS_MAX) {
            let incomplete = self.shared.pieces.sweep(now, snapshot.switches.patience);
            self.shared.counters.pieces_incomplete.add(incomplete);
        }
    }
}

/// Sweeps over parts of the table that one call makes at most.
const SWEEPS_MAX: u64 = 8;

/// Whether a piece that came at this time, in milliseconds, has waited for long enough.
fn is_late(key: &Key, since: u64, Context { snapshot, now, .. }: Context<'_>) -> bool {
    now.millis.saturating_sub(since) > u64::from(snapshot.switches.patience.of(key))
}

/// Whether virtual servers have this protocol. All others are the host's, if they are anybody's.
fn is_served(protocol: u8) -> bool {
    matches!(protocol, ipv4::TCP | ipv4::UDP | ipv4::SCTP)
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
