//! Flows that got no record because the table was full, or the chain where it would have been: how their packets are told from
//! strangers', and what becomes of them and of errors about them.
//!
//! While a table is full, and for [`UNTRACKED_SECS`] after, every packet that belongs to no connection may be one of such a flow. It goes where
//! that flow would have gone; a stranger's does no more harm there than at weir, since a real server answers it as a host does.

use std::sync::atomic::Ordering::Relaxed;

use weir_config::model::Protocol;

use super::open::Opener;
use super::{Context, Director, Event};
use crate::address::Addr4;
use crate::classify::Lookup;
use crate::clock::Now;
use crate::conn::state;
use crate::packet::Frame;
use crate::parse::{Packet, Quoted, v6};
use crate::snapshot::helped::FTP_DATA;
use crate::snapshot::server::Server;
use crate::snapshot::service::Service;
use crate::snapshot::{Ends, Snapshot, protocol};
use crate::wire::l4::flags;
use crate::wire::sctp;

/// A table that was full stays under suspicion for so long, in seconds: flows without a record may live on. So do those that
/// found their chain full.
pub(super) const UNTRACKED_SECS: u32 = 900;
/// A flow's first packets may come to a worker whose table is full, and to one that has room. A SYN is sent again for so long, in seconds: the
/// last of Linux's six repetitions comes after 63.
const REPEATED_SECS: u32 = 64;

/// What an ICMP error says something about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quotes {
    /// A client's packet to a VIP.
    Request,
    /// A packet from a VIP to a client.
    Answer,
}

impl<F: Frame> Director<F> {
    /// What opens a connection for a client's packet. `is_moving`: other workers may get the flow's packets.
    #[inline]
    pub(super) fn opener_of(&self, packet: &Packet, protocol: Protocol, is_moving: bool, now: Now) -> Opener {
        // A datagram may as well be the first of its flow.
        if protocol != Protocol::Udp && !state::is_first(protocol, packet.flags) && self.was_full(packet, now)
        {
            Opener::Untracked
        } else if is_moving && self.was_full_just_now(packet, now) {
            Opener::Anywhere
        } else {
            Opener::Packet
        }
    }

    /// Whether a flow that went without a record so far gets one with this packet, which may open none: it goes on and does not end, the
    /// whole table was full when it began, and now there is room. A quarter of the table is left to those that begin as they should:
    /// a flood of stray segments takes no more than the rest.
    #[inline]
    pub(super) fn gets_record_late(&self, packet: &Packet, protocol: Protocol, now: Now) -> bool {
        leaves_room(self.table.len(), self.table.capacity())
            && self.leaves_room_for_client(packet)
            && self.may_get_record_late(packet, protocol, now)
    }

    /// The same of room for its client.
    #[inline]
    pub(super) fn leaves_room_for_client(&self, packet: &Packet) -> bool {
        let clients = &self.table.clients;
        !packet.is_of_ipv6() || leaves_room(clients.known(), clients.capacity())
    }

    /// The same, room aside.
    #[cold]
    pub(super) fn may_get_record_late(&self, packet: &Packet, protocol: Protocol, now: Now) -> bool {
        let goes_on = match protocol {
            Protocol::Tcp => packet.flags & (flags::SYN | flags::FIN | flags::RST | flags::ACK) == flags::ACK,
            Protocol::Udp => false,
            Protocol::Sctp => packet.flags == sctp::Event::Data as u8,
        };
        goes_on && self.was_full(packet, now)
    }

    /// Whether there was no room for a packet's flow of late, with any worker that it may have begun with.
    #[inline]
    fn was_full(&self, packet: &Packet, now: Now) -> bool {
        let until = match self.may_be_moving(packet, now) {
            true => self.shared.untracked_until.load(Relaxed),
            false => self.untracked_until,
        };
        now.seconds < until || packet.is_of_ipv6() && self.is_under_suspicion6(now)
    }

    /// Whether some worker has no room for it, or had none when a packet came that may be sent again.
    #[cold]
    fn was_full_just_now(&self, packet: &Packet, now: Now) -> bool {
        let second = now.seconds + UNTRACKED_SECS - REPEATED_SECS;
        second < self.shared.untracked_until.load(Relaxed)
            || packet.is_of_ipv6() && second < self.shared.untracked6_until.load(Relaxed)
    }

    /// The table is full: flows without a record may live on for a while.
    #[cold]
    pub(super) fn suspect_untracked(&mut self, now: Now) {
        self.untracked_until = now.seconds + UNTRACKED_SECS;
        if self.shared.untracked_until.load(Relaxed) < self.untracked_until {
            self.shared.untracked_until.store(self.untracked_until, Relaxed);
        }
    }

    /// There is no room for another client of IPv6: their flows without a record may live on for a while. Nobody else's are taken
    /// for such.
    #[cold]
    pub(super) fn suspect_untracked6(&mut self, now: Now) {
        let until = now.seconds + UNTRACKED_SECS;
        // Written once a second at most, and told when it begins.
        if self.shared.untracked6_until.load(Relaxed) < until
            && self.shared.untracked6_until.fetch_max(until, Relaxed) <= now.seconds
        {
            // When the log can't keep up, the counter still tells.
            let _ = self.shared.events.push(Event::ClientsFull);
        }
    }

    /// Whether there was no room for another client of IPv6 of late, with some worker.
    #[cold]
    pub(super) fn is_under_suspicion6(&self, now: Now) -> bool {
        now.seconds < self.shared.untracked6_until.load(Relaxed)
    }

    /// Counts a packet of IPv6 that was sent on without a record, by what there was no room for.
    #[cold]
    pub(super) fn count_untracked6(&self, now: Now) {
        let counters = &self.shared.counters;
        match self.is_under_suspicion6(now) && !self.is_under_suspicion(now) {
            true => counters.ipv6_clients_full.add(1),
            false => counters.untracked.add(1),
        }
    }

    /// Counts a packet that was sent on without a record.
    #[inline]
    pub(super) fn count_untracked(&self, packet: &Packet, now: Now) {
        match packet.is_of_ipv6() {
            true => self.count_untracked6(now),
            false => self.shared.counters.untracked.add(1),
        }
    }

    /// Whether a client's packet may be one of a flow that got no record: the table was full of late, or there is or was no room
    /// where the record would have been.
    #[cold]
    pub(super) fn may_be_untracked(&self, packet: &Packet, lookup: &Lookup, now: Now) -> bool {
        if self.was_full(packet, now) {
            return true;
        }
        if self.may_be_moving(packet, now) {
            return self.may_be_untracked_anywhere(packet, lookup, now);
        }
        self.table.is_crowded(lookup.hash) || self.shared.turned_away.has(self.turned_by(packet, lookup), now)
    }

    /// The same of a flow that may have begun with any worker.
    #[cold]
    fn may_be_untracked_anywhere(&self, packet: &Packet, lookup: &Lookup, now: Now) -> bool {
        self.is_under_suspicion(now)
            || self.is_crowded_anywhere(packet, lookup)
            || self.shared.turned_away.has(self.turned_by(packet, lookup), now)
    }

    /// What flows of a packet's client are remembered by that were turned away, with all workers.
    #[inline]
    pub(super) fn turned_by(&self, packet: &Packet, lookup: &Lookup) -> u64 {
        if packet.is_of_ipv6() { self.turned_by6(lookup.key) } else { lookup.hash }
    }

    /// Whether some worker has no room for connections like a packet's. It forwards those that it had to turn away without a record,
    /// and so must whoever else gets their packets.
    #[cold]
    pub(super) fn is_crowded_anywhere(&self, packet: &Packet, lookup: &Lookup) -> bool {
        (0..self.views.len()).any(|worker| self.is_crowded_with(worker, packet, lookup))
    }

    /// The same of one worker.
    pub(super) fn is_crowded_with(&self, worker: usize, packet: &Packet, lookup: &Lookup) -> bool {
        let view = &self.views[worker];
        let hash = match packet.is_of_ipv6() && worker != self.shared.worker {
            true => self.hash_elsewhere6(view, lookup.key),
            false => Some(lookup.hash),
        };
        hash.is_some_and(|hash| view.is_crowded(hash))
    }

    /// The same for a real server's packet of IPv4, whose connection may be any worker's.
    #[cold]
    pub(super) fn may_answer_untracked(&self, hash: u64, now: Now) -> bool {
        self.is_under_suspicion(now)
            || self.views.iter().any(|view| view.is_crowded(hash))
            || self.shared.turned_away.has(hash, now)
    }

    /// Whether some worker's table was full of late.
    #[cold]
    pub(super) fn is_under_suspicion(&self, now: Now) -> bool {
        now.seconds < self.shared.untracked_until.load(Relaxed)
    }

    /// The real server of a flow without a record that an ICMP error is about.
    #[cold]
    pub(super) fn server_of_untracked<'a>(
        &self,
        packet: &Packet,
        quoted: &Quoted,
        quotes: Quotes,
        context: Context<'a>,
    ) -> Option<&'a Server> {
        let Context { snapshot, now, .. } = context;
        let client = clients_packet(packet, quoted, quotes);
        let (lookup, service) = self.asked_by(&client, quoted, snapshot)?;
        let is_one_packet = service.one_packet && lookup.key.protocol() == Protocol::Udp;
        // The error may come to another worker than the flow's packets.
        let may_be_untracked = self.may_be_untracked_anywhere(&client, &lookup, now)
            || client.is_of_ipv6() && self.is_under_suspicion6(now);
        if is_one_packet || !may_be_untracked {
            return None;
        }
        let choice = self.pick_untracked(&client, service, snapshot, now)?;
        Some(snapshot.server(choice.server))
    }

    /// Address and port of the virtual server whose flow without a record sent the quoted packet to a NAT real server.
    #[cold]
    pub(super) fn origin_of_untracked(
        &self,
        quoted: &Quoted,
        Context { snapshot, now, .. }: Context<'_>,
    ) -> Option<(Addr4, u16)> {
        let (address, port) = (quoted.destination, quoted.destination_port);
        let client = (quoted.source, quoted.source_port);
        let origin = snapshot.origin(address, port, quoted.protocol)?;
        let [hash, _] = self.reply_hashes((address, port, quoted.protocol), client, snapshot)?;
        let may_be_its = !quoted.is_later_fragment
            && !origin.one_packet
            && snapshot.may_be_host(client.0)
            && self.may_answer_untracked(hash, now);
        may_be_its.then_some((origin.vip, origin.port))
    }

    /// What a client's packet, known from a quote, asks for: a virtual server that may have such a client.
    pub(super) fn asked_by<'a>(
        &self,
        client: &Packet,
        quoted: &Quoted,
        snapshot: &'a Snapshot,
    ) -> Option<(Lookup, &'a Service)> {
        protocol(client.protocol)?;
        let ends = Ends {
            source: client.source,
            destination: client.destination,
            destination_port: client.destination_port,
            protocol: client.protocol,
        };
        let may_be_host = match client.is_of_ipv6() {
            true => v6::may_be_source(self.ends6.source),
            false => snapshot.may_be_host(client.source),
        };
        let may_be_client = may_be_host && self.local_client(client.source, snapshot).is_none();
        if quoted.is_later_fragment || !may_be_client || client.source_port == FTP_DATA {
            return None;
        }
        let lookup = self.lookup(&ends, client.source_port, snapshot)?;
        Some((lookup, snapshot.service(lookup.service)?))
    }
}

/// Whether a packet that may open no connection is of a kind that flows without a record have.
#[inline]
pub(super) fn may_go_on_untracked(packet: &Packet, protocol: Protocol) -> bool {
    protocol != Protocol::Udp && packet.source_port != FTP_DATA
}

/// Whether a table with so many connections has room for flows that get their records late.
#[inline]
pub(super) fn leaves_room(taken: usize, capacity: usize) -> bool {
    taken < capacity / 4 * 3
}

/// What a client sent or would have sent, to whose flow the packet belongs that `packet` quotes.
pub(super) fn clients_packet(packet: &Packet, quoted: &Quoted, quotes: Quotes) -> Packet {
    let source = (quoted.source, quoted.source_port);
    let destination = (quoted.destination, quoted.destination_port);
    let (client, vip) = match quotes {
        Quotes::Request => (source, destination),
        Quotes::Answer => (destination, source),
    };
    Packet {
        protocol: quoted.protocol,
        source: client.0,
        source_port: client.1,
        destination: vip.0,
        destination_port: vip.1,
        // It may be any segment of the flow's: the message's own type is none.
        flags: 0,
        ..*packet
    }
}
