//! ARP for IPv4 over Ethernet (RFC 826): what is answered, what is learned, what is refused, and the gratuitous
//! announcements of VIPs.
//!
//! Nobody else can have an address of ours or that of a static neighbour: ARP that says so is a conflict, counted
//! and never believed.

use std::net::IpAddr;

use zerocopy::{FromBytes, IntoBytes};

use super::{nd, write_arp};
use crate::address::Addr4;
use crate::clock::Now;
use crate::packet::{Frame, Wire};
use crate::rewrite::trim;
use crate::snapshot::Snapshot;
use crate::stats::DropReason;
use crate::wire::ethernet::{self, Arp, Ethernet, MacAddress, Vlan};

/// Rounds in which VIPs are announced after they appear, a second apart: one frame may be lost.
const ANNOUNCE_ROUNDS: usize = 3;
/// From one round to the next.
const ANNOUNCE_INTERVAL_MS: u64 = 1_000;
/// Announcements in a millisecond: what a slow network takes, and 10,000 VIPs in a third of a second.
const ANNOUNCE_PER_MILLI: usize = 32;
/// Announcements per call, so that thousands of VIPs do not hold up packets.
const ANNOUNCE_BATCH: usize = 4;
/// What was not sent in its millisecond, since no call came, is made up for; no more than this at once.
const ANNOUNCE_ARREARS_MAX: usize = 4 * ANNOUNCE_PER_MILLI;

/// What is to be done with a received ARP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The frame has become the answer: send it back.
    pub is_reply: bool,
    /// The sender's address and MAC, unless it has none yet.
    pub sender: Option<(Addr4, MacAddress)>,
}

/// Another host claims an address that it can't have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict {
    /// Port number on which it was heard.
    pub port: usize,
    /// The address.
    pub address: IpAddr,
    /// The MAC that claims it.
    pub mac: MacAddress,
}

/// Why an ARP packet ends here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// See [`Conflict`].
    Conflict(Conflict),
    /// Any other reason.
    Drop(DropReason),
}

/// Reads an ARP packet behind `vlan` received on `port` and makes its answer in place, if it gets one.
pub fn receive<F: Frame>(
    frame: &mut F,
    port: usize,
    vlan: Vlan,
    snapshot: &Snapshot,
) -> Result<Outcome, Refused> {
    let mac = snapshot.ports[port].mac;
    let bytes = frame.bytes();
    let at = vlan.header_len();
    let (link, _) = Ethernet::ref_from_prefix(bytes).map_err(|_| Refused::Drop(DropReason::Truncated))?;
    let is_ours = link.destination == mac.0 || snapshot.ports[port].virtual_macs.receives(bytes);
    if !is_ours && link.destination != ethernet::BROADCAST.0 {
        return Err(Refused::Drop(DropReason::ForeignMac));
    }
    let (arp, _) = Arp::ref_from_prefix(&bytes[at..]).map_err(|_| Refused::Drop(DropReason::Truncated))?;
    let (sender, target) = (arp.sender.get(), arp.target.get());
    let sender_mac = MacAddress(arp.sender_mac);
    // One that probes has none yet.
    let has_address = sender != Addr4::UNSPECIFIED;
    if !arp.is_valid() || has_address && !snapshot.may_be_host(sender) {
        return Err(Refused::Drop(DropReason::BadArp));
    }
    // A router of our group that was master a moment ago has its addresses at the virtual MAC as well.
    let senders = snapshot.local(sender);
    if snapshot.is_own_mac(port, false, sender_mac) || sender_mac == snapshot.mac_of(port, senders) {
        return Err(Refused::Drop(DropReason::ForeignArp));
    }
    if senders.is_some() || snapshot.bound_mac(sender).is_some_and(|bound| bound != sender_mac) {
        return Err(Refused::Conflict(Conflict { port, address: sender.into(), mac: sender_mac }));
    }
    let targets = snapshot.local(target);
    // A host that probes for or announces its own address must not hear that a proxied prefix holds it.
    let is_own_business = !has_address || sender == target;
    let is_reply = arp.operation.get() == Arp::REQUEST
        && snapshot.answers_arp(port, target, targets)
        && (!is_own_business || targets.is_some())
        && !target.is_of_ipv6();
    if is_reply {
        // Padding goes back no more than Ethernet asks for.
        trim(frame, (at + Arp::LEN).max(ethernet::FRAME_LEN_MIN)).map_err(Refused::Drop)?;
        let bytes = frame.bytes_mut();
        let mac = snapshot.mac_of(port, targets);
        let answer = Arp::new(Arp::REPLY, (mac, target), (sender_mac, sender));
        bytes[at..at + Arp::LEN].copy_from_slice(answer.as_bytes());
        bytes[..6].copy_from_slice(&sender_mac.0);
        bytes[6..12].copy_from_slice(&mac.0);
    }
    Ok(Outcome { is_reply, sender: has_address.then_some((sender, sender_mac)) })
}

/// Sends a request for `address` out of `port`, to everybody or to the MAC it had. False: no buffer.
pub fn request<W: Wire>(
    wire: &mut W,
    snapshot: &Snapshot,
    (port, vlan): (usize, Vlan),
    address: Addr4,
    to: Option<MacAddress>,
) -> bool {
    let mac = snapshot.ports[port].mac;
    let own = snapshot.ports[port].address_towards(address).unwrap_or(Addr4::UNSPECIFIED);
    let packet = Arp::new(Arp::REQUEST, (mac, own), (MacAddress([0; 6]), address));
    send(wire, port, to.unwrap_or(ethernet::BROADCAST), mac, vlan, &packet)
}

fn send<W: Wire>(
    wire: &mut W,
    port: usize,
    to: MacAddress,
    from: MacAddress,
    vlan: Vlan,
    packet: &Arp,
) -> bool {
    let Some(mut frame) = wire.allocate() else { return false };
    if write_arp(&mut frame, to, from, vlan, packet) {
        wire.transmit(port, frame);
        true
    } else {
        wire.release(frame);
        false
    }
}

/// Announces VIPs by gratuitous ARP (RFC 5227 section 3) when snapshots bring them, a few frames at a time.
///
/// The rounds go through the list one behind the other. So each VIP has all of them, also when more come while it has not had its last,
/// and one that comes has its first soon.
#[derive(Debug, Default)]
pub struct Announcer {
    rounds: [Round; ANNOUNCE_ROUNDS],
    /// What may be sent now.
    allowance: usize,
}

/// How far a round is. Announcements are counted from the first one ever.
#[derive(Debug, Default, Clone, Copy)]
struct Round {
    next: u64,
    /// It goes up to this one...
    until: u64,
    /// ... from this millisecond on.
    due: u64,
}

impl Round {
    fn sends(&self, now: Now) -> bool {
        self.next < self.until && now.millis >= self.due
    }
}

impl Announcer {
    /// A millisecond has passed: allows for what is due.
    pub fn tick(&mut self, snapshot: &Snapshot, now: Now) {
        let first = snapshot.announcements_first;
        for round in &mut self.rounds {
            // What another list took the place of stands in that.
            round.next = round.next.max(first);
            round.until = round.until.max(first);
        }
        self.rounds[0].until = first + snapshot.announcements.len() as u64;
        for place in 1..ANNOUNCE_ROUNDS {
            let before = self.rounds[place - 1];
            let round = &mut self.rounds[place];
            if round.next == round.until && before.next > round.until && !before.sends(now) {
                round.until = before.next;
                round.due = now.millis + ANNOUNCE_INTERVAL_MS;
            }
        }
        self.allowance = match self.rounds.iter().any(|round| round.sends(now)) {
            true => (self.allowance + ANNOUNCE_PER_MILLI).min(ANNOUNCE_ARREARS_MAX),
            false => 0,
        };
    }

    /// Whether [`Announcer::run`] has something to send.
    #[inline]
    pub fn has_more(&self) -> bool {
        self.allowance != 0
    }

    /// Sends some of what is allowed for.
    pub fn run<W: Wire>(&mut self, wire: &mut W, snapshot: &Snapshot, now: Now) {
        let Some(round) = self.rounds.iter_mut().find(|round| round.sends(now)) else {
            self.allowance = 0;
            return;
        };
        // Of another list: the next tick looks at that.
        let Some(place) = round.next.checked_sub(snapshot.announcements_first) else { return };
        let left = usize::try_from(round.until - round.next).unwrap_or(usize::MAX);
        let count = self.allowance.min(ANNOUNCE_BATCH).min(left);
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        for &(port, address) in snapshot.announcements.iter().skip(place).take(count) {
            // One that has gone has no port.
            let Some(port_of) = snapshot.ports.get(port) else { continue };
            if let Some(address) = snapshot.address6(address) {
                nd::announce(wire, port, port_of.mac, address);
                continue;
            }
            let packet = Arp::new(Arp::REQUEST, (port_of.mac, address), (MacAddress([0; 6]), address));
            send(wire, port, ethernet::BROADCAST, port_of.mac, Vlan::NONE, &packet);
        }
        round.next += count as u64;
        self.allowance -= count;
        if !self.rounds.iter().any(|round| round.sends(now)) {
            self.allowance = 0;
        }
    }
}
