//! Flows of which one worker gets some packets and another one others, though devices keep flows together: those whose first pieces
//! or extension headers hide the ports from a device.
//!
//! All workers write and read it. A flow is remembered for as long as a connection of its protocol lives; those whose hashes share a seat
//! are remembered together, so none is forgotten, and the others of the seat look for their connections with all workers for nothing.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use weir_config::model::Protocol;

use super::{Context, Director};
use crate::address::Addr4;
use crate::clock::Now;
use crate::conn::record::reply_hash_input;
use crate::packet::Frame;
use crate::parse::Packet;
use crate::parse::plain6::Plain6;
use crate::snapshot::protocol;

/// A power of two. Who sends first pieces from ever other ports takes a seat with each for as long as a connection of UDP lives, 300
/// seconds by default: 73 a second take 15 seats of 100.
const SEATS: usize = 1 << 17;

/// See the module. All are seconds: while one lies ahead, there may be such flows.
pub struct Displaced {
    /// Any at all.
    until: AtomicU32,
    /// Any flow may be one: of those that a process before had nothing is known.
    all_until: AtomicU32,
    /// By hash.
    seats: Box<[AtomicU32]>,
}

impl Default for Displaced {
    fn default() -> Self {
        let seats = (0..SEATS).map(|_| AtomicU32::new(0)).collect();
        Self { until: AtomicU32::new(0), all_until: AtomicU32::new(0), seats }
    }
}

impl Displaced {
    /// Takes every flow for one until this second.
    pub fn suspect_all(&self, until: u32) {
        raise(&self.all_until, until);
        raise(&self.until, until);
    }

    /// Whether there is any such flow.
    #[inline]
    pub(super) fn has_any(&self, now: Now) -> bool {
        now.seconds < self.until.load(Relaxed)
    }

    fn note(&self, hash: u64, until: u32) {
        raise(self.seat(hash), until);
        raise(&self.until, until);
    }

    fn has(&self, hash: u64, now: Now) -> bool {
        now.seconds < self.all_until.load(Relaxed) || now.seconds < self.seat(hash).load(Relaxed)
    }

    fn seat(&self, hash: u64) -> &AtomicU32 {
        &self.seats[hash as usize % SEATS]
    }
}

/// Writes once a second at most.
fn raise(second: &AtomicU32, until: u32) {
    if second.load(Relaxed) < until {
        second.fetch_max(until, Relaxed);
    }
}

impl<F: Frame> Director<F> {
    /// Whether connections of a packet's flow may be with workers that do not get its whole packets.
    #[inline]
    pub(super) fn may_be_displaced(&self, packet: &Packet, now: Now) -> bool {
        self.views.len() > 1 && self.shared.displaced.has_any(now) && self.is_displaced(packet, now)
    }

    #[cold]
    fn is_displaced(&self, packet: &Packet, now: Now) -> bool {
        self.shared.displaced.has(self.flow_of(packet), now)
    }

    /// The same of a plain packet of IPv6.
    #[inline]
    pub(super) fn may_be_displaced6(&self, plain: &Plain6, now: Now) -> bool {
        self.shared.displaced.has_any(now) && self.is_displaced6(plain, now)
    }

    #[cold]
    fn is_displaced6(&self, plain: &Plain6, now: Now) -> bool {
        let input = reply_hash_input(Addr4::UNSPECIFIED, plain.tcp.source.get(), None);
        self.shared.displaced.has(self.turned_by_address(plain.ip.source.into(), input), now)
    }

    /// A packet was one of a flow whose others may come to another worker, for as long as its connection lives.
    #[cold]
    pub(super) fn note_displaced(&self, packet: &Packet, Context { snapshot, now, .. }: Context<'_>) {
        let protocol = protocol(packet.protocol).unwrap_or(Protocol::Tcp);
        let until = now.seconds + snapshot.lifetimes.longest_of(protocol);
        self.shared.displaced.note(self.flow_of(packet), until);
    }

    /// What a client's flow is remembered by. The client of IPv6 is that of [`Director::ends6`].
    fn flow_of(&self, packet: &Packet) -> u64 {
        let input = |client| reply_hash_input(client, packet.source_port, None);
        match packet.is_of_ipv6() {
            true => self.turned_by_address(self.ends6.source, input(Addr4::UNSPECIFIED)),
            false => self.table.hash(input(packet.source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_remembered_by_themselves_for_their_time() {
        let at = |seconds| Now { seconds, ..Now::default() };
        let displaced = Displaced::default();
        assert!(!displaced.has_any(at(0)));
        displaced.note(7, 300);
        displaced.note(8, 400);
        displaced.note(7, 200);
        assert!(displaced.has(7, at(299)) && !displaced.has(7, at(300)) && displaced.has(8, at(399)));
        assert!(!displaced.has(9, at(100)) && displaced.has_any(at(399)) && !displaced.has_any(at(400)));
        displaced.suspect_all(900);
        assert!(displaced.has(9, at(899)) && displaced.has_any(at(899)) && !displaced.has(9, at(900)));
    }

    #[test]
    fn pieces_from_many_ports_leave_most_flows_alone() {
        let displaced = Displaced::default();
        let mut hash = 0x9e37_79b9_7f4a_7c15_u64;
        let mut draw = || {
            hash = hash.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
            hash >> 32
        };
        (0..300 * 73).for_each(|_| displaced.note(draw(), 300));
        let others = (0..10_000).filter(|_| displaced.has(draw(), Now::default())).count();
        assert!(others < 2_000, "{others} of 10,000");
    }
}
