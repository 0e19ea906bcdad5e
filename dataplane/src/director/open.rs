//! New connections: the real server that takes one, and its record.

use weir_config::model::{Forwarding, Protocol};

use super::persist::Choice;
use super::request::direction_to;
use super::untracked::{Quotes, UNTRACKED_SECS, clients_packet};
use super::{Context, Director, Pass, Passed};
use crate::address::Addr4;
use crate::classify::Lookup;
use crate::clock::Now;
use crate::conn::record::{Key, Record, ServerId};
use crate::conn::state::{self, Direction, State};
use crate::conn::table::{NoRoom, Slot};
use crate::packet::{Frame, Wire};
use crate::parse::{Packet, Quoted};
use crate::sched::PickKey;
use crate::snapshot::server::Server;
use crate::snapshot::service::Service;
use crate::snapshot::vips::{shared_number, shared_number6};
use crate::snapshot::{Ends, Snapshot, protocol};
use crate::stats::DropReason;
use crate::wire::l4::flags;

/// What a connection has to go on with a packet of its own when an ICMP error opened it, as in the kernel. Seconds.
const QUOTED_SECS: u32 = 3;

/// What opens a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opener {
    /// A packet of the client's.
    Packet,
    /// A packet of the client's that belongs to a flow which may have begun without a record: it goes where that one went.
    Untracked,
    /// A packet of the client's that may have come before to a worker which had no room, and may do so again.
    Anywhere,
    /// Another host's ICMP error about a packet to the client (`schedule_icmp`).
    Quote,
}

/// What became of a packet that may open a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opened {
    /// It goes to this real server.
    To(ServerId),
    /// There is no room for a record: its flow goes to this real server, each time the same, if there is any.
    Full(Option<ServerId>),
    /// No real server takes it.
    Refused,
}

impl<F: Frame> Director<F> {
    /// Opens a connection for a packet from a client: picks the real server, makes the record and counts it in.
    #[inline]
    pub(super) fn open(
        &mut self,
        packet: &Packet,
        lookup: &Lookup,
        service: &Service,
        opener: Opener,
        context: Context<'_>,
    ) -> Opened {
        let Context { snapshot, now, .. } = context;
        let protocol = lookup.key.protocol();
        let is_one_packet = service.one_packet && protocol == Protocol::Udp;
        let may_go_on = !is_one_packet && !state::is_first(protocol, packet.flags);
        // Its flow had no room until now, and goes on where it went without a record.
        let goes_on = opener == Opener::Untracked
            || may_go_on && self.shared.turned_away.has(self.turned_by(packet, lookup), now);
        let choice = if goes_on {
            self.pick_untracked(packet, service, snapshot, now)
        } else {
            self.choose(packet, service, snapshot, now)
        };
        let choice = match opener {
            Opener::Anywhere if !goes_on => {
                choice.and_then(|choice| self.as_without_room(packet, service, choice))
            }
            _ => choice,
        };
        let Some(choice) = choice else { return Opened::Refused };
        let server = snapshot.server(choice.server);
        if is_one_packet {
            if let Some(hold) = choice.template {
                self.touch(hold, server.id, now);
            }
            server.tallies[self.shared.worker].connections.add(1);
            return Opened::To(server.id);
        }
        let (state, seen) = beginning(packet, protocol, server, opener, context);
        let record = Record::new(lookup.key, server.id, state, seen, false);
        let inserted = if server.forwarding == Forwarding::Nat {
            let is_rival = |other: Record| answer_alike(record, other, snapshot);
            self.table.insert_before(lookup.hash, record, is_rival)
        } else {
            self.table.insert(lookup.hash, record)
        };
        let slot = match inserted {
            Ok(slot) => slot,
            Err(no_room) => {
                // A chain is full for the clients in it alone: the others' segments have their records.
                match no_room {
                    NoRoom::Table => self.suspect_untracked(now),
                    NoRoom::Client => self.suspect_untracked6(now),
                    NoRoom::Chain => {
                        self.shared.turned_away.note(self.turned_by(packet, lookup), now, UNTRACKED_SECS);
                    }
                }
                return Opened::Full(self.turn_away(packet, service, &choice, goes_on, now));
            }
        };
        if choice.template.is_some_and(|hold| self.attach(hold, service, server.id, now)) {
            self.table.update(slot, Record::new(lookup.key, server.id, state, seen, true));
        }
        server.bind(self.shared.worker, protocol, state);
        let is_syn = opener != Opener::Quote && protocol == Protocol::Tcp && packet.flags & flags::SYN != 0;
        if is_syn && direction_to(server) == Direction::Input {
            server.tallies[self.shared.worker].opened.count();
        }
        Opened::To(server.id)
    }

    /// The real server of a flow that gets no record, after `choice` was made for it.
    #[cold]
    fn turn_away(
        &self,
        packet: &Packet,
        service: &Service,
        choice: &Choice,
        goes_on: bool,
        now: Now,
    ) -> Option<ServerId> {
        match choice.template {
            Some(hold) => {
                self.touch(hold, choice.server, now);
                Some(choice.server)
            }
            None if goes_on => Some(choice.server),
            None => self.pick_by_hash(packet, service),
        }
    }

    /// What is chosen for a new connection by a worker that has room, while another one that may get its packets has none: what
    /// that one would choose.
    #[cold]
    fn as_without_room(&self, packet: &Packet, service: &Service, choice: Choice) -> Option<Choice> {
        match choice.template {
            Some(_) => Some(choice),
            None => self.pick_by_hash(packet, service).map(|server| Choice { server, template: None }),
        }
    }

    /// An ICMP error about a packet from a VIP to a client that belongs to no connection: opens one, whatever packet is
    /// quoted, and goes to its real server, as in the kernel (`schedule_icmp`).
    #[cold]
    pub(super) fn open_by_error<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        quoted: &Quoted,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let snapshot = pass.context.snapshot;
        let client = clients_packet(packet, quoted, Quotes::Answer);
        let Some((lookup, service)) = self.asked_by(&client, quoted, snapshot) else {
            return Err((frame, DropReason::StrayIcmp));
        };
        let server = match self.open(&client, &lookup, service, Opener::Quote, pass.context) {
            Opened::To(server) => Some(server),
            Opened::Full(server) => server,
            Opened::Refused => None,
        };
        let Some(server) = server else { return Err((frame, DropReason::StrayIcmp)) };
        let server = (snapshot.server(server), client.destination_port);
        self.forward_error(frame, packet, quoted, server, pass)
    }

    /// What a connection of a client's to `destination` may be found by: as it would be opened now, and as it may have been before. Of
    /// IPv6 the address is that of [`Director::ends6`].
    pub(super) fn keys_of(
        &self,
        key: Key,
        destination: Addr4,
        snapshot: &Snapshot,
    ) -> impl Iterator<Item = Key> + use<F> {
        let shared = self.shared_key(key, destination, snapshot);
        // A helper may have come or gone since.
        let may_differ = key.protocol() == Protocol::Tcp && (snapshot.has_helpers() || key.is_helped());
        let otherwise = may_differ.then(|| key.helped_otherwise());
        let has_both = snapshot.has_both_hashes;
        let both = move |key: Key| [Some(key), has_both.then(|| key.hashed_otherwise())];
        [Some(key), shared, otherwise].into_iter().flatten().flat_map(both).flatten()
    }

    /// The key of a flow as it was when its destination lay in a wide network of a mark and had no number for itself. `None`: it was never
    /// so, or still is.
    fn shared_key(&self, key: Key, destination: Addr4, snapshot: &Snapshot) -> Option<Key> {
        if !snapshot.may_share_numbers {
            return None;
        }
        let shared = match destination.is_of_ipv6() {
            true => shared_number6(self.ends6.destination),
            false => shared_number(destination),
        };
        (shared != key.vip()).then(|| key.with_vip(shared))
    }

    /// The connection of a client's packet that began when its destination had no number for itself.
    #[cold]
    pub(super) fn find_by_shared_number(
        &self,
        packet: &Packet,
        lookup: &Lookup,
        snapshot: &Snapshot,
    ) -> Option<(Slot, Record)> {
        let key = self.shared_key(lookup.key, packet.destination, snapshot)?;
        let mut keys = std::iter::once(key).chain(snapshot.has_both_hashes.then(|| key.hashed_otherwise()));
        keys.find_map(|key| self.table.find(self.table.hash(key.hash_input()), key))
    }

    /// What a packet from a client's port is looked up by.
    pub(super) fn lookup(&self, ends: &Ends, client_port: u16, snapshot: &Snapshot) -> Option<Lookup> {
        let protocol = protocol(ends.protocol)?;
        let target = match ends.destination.is_of_ipv6() {
            true => snapshot.target6(ends, self.ends6, protocol),
            false => snapshot.target(ends, protocol).map(|found| found.target),
        };
        let target = target.or_else(|| snapshot.data_target(ends))?;
        let key = target.key(ends.source, client_port, ends.destination_port, protocol);
        Some(Lookup { hash: self.table.hash(key.hash_input()), key, service: target.service })
    }

    pub(super) fn schedule(
        &self,
        packet: &Packet,
        service: &Service,
        snapshot: &Snapshot,
        now: Now,
    ) -> Option<ServerId> {
        if packet.is_of_ipv6() {
            let picked = service.pick(snapshot, self.shared.worker, &self.pick_key6(packet, now));
            return picked.filter(|server| self.may_reach6(*server, snapshot));
        }
        service.pick(snapshot, self.shared.worker, &pick_key(packet, now))
    }
}

/// What a client's packet of IPv4 is scheduled by.
#[inline]
pub(super) fn pick_key(packet: &Packet, now: Now) -> PickKey {
    PickKey {
        source: packet.source.into(),
        destination: packet.destination.into(),
        source_port: packet.source_port,
        now_secs: now.seconds,
    }
}

/// Whether NAT real servers answer two connections of one client's port from the same socket, so that nothing in a reply says
/// which of them it belongs to: the kernel takes the one that began last.
#[inline]
pub(super) fn answer_alike(one: Record, other: Record, snapshot: &Snapshot) -> bool {
    let [server, others] = [one, other].map(|record| snapshot.server(record.server()));
    one.protocol() == other.protocol()
        && others.forwarding == Forwarding::Nat
        && others.replies_from(server.address, server.port_for(one.port()), other.port())
        // Where they are of IPv6 neither has another address.
        && others.far.as_ref().map(|far| far.address) == server.far.as_ref().map(|far| far.address)
}

/// The state of a new connection, and the second of its last packet. A quote moves no state, and what it opens lasts a
/// moment only: as if the last packet had come that much earlier.
#[inline]
fn beginning(
    packet: &Packet,
    protocol: Protocol,
    server: &Server,
    opener: Opener,
    Context { snapshot, now, .. }: Context<'_>,
) -> (State, u32) {
    match opener {
        Opener::Packet | Opener::Untracked | Opener::Anywhere => {
            let is_secure = snapshot.switches.secure_tcp;
            (state::next(protocol, direction_to(server), packet.flags, State::NONE, is_secure), now.seconds)
        }
        Opener::Quote => {
            let early = snapshot.lifetimes.of(protocol, State::NONE).saturating_sub(QUOTED_SECS);
            (State::NONE, now.seconds.wrapping_sub(early))
        }
    }
}
