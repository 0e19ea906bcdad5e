//! ARP for IPv4 over Ethernet (RFC 826): what is answered, what is learned, what is refused, and the gratuitous
//! announcements of VIPs.
//!
//! Nobody else can have an address of ours or that of a static neighbour: ARP that says so is a conflict, counted
//! and never believed.

use std::net::IpAddr;

use zerocopy::{FromBytes, IntoBytes};

use super::write_arp;
use crate::address::Addr4;
use crate::clock::Now;
use crate::packet::{Frame, Wire};
use crate::rewrite::trim;
use crate::snapshot::Snapshot;
use crate::stats::DropReason;
use crate::wire::ethernet::{self, Arp, Ethernet, MacAddress, Vlan};

/// Rounds in which VIPs are announced after they appear, a second apart: one frame may be lost.
const ANNOUNCE_ROUNDS: u8 = 3;
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
    if sender_mac == mac || sender_mac == snapshot.mac_of(port, senders) {
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
        && (!is_own_business || targets.is_some());
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

/// Announces VIPs by gratuitous ARP (RFC 5227 section 3) when a snapshot brings them, a few frames at a time.
#[derive(Debug, Default)]
pub struct Announcer {
    generation: u64,
    round: u8,
    next: usize,
    due: u64,
    /// What may be sent now.
    allowance: usize,
}

impl Announcer {
    /// A millisecond has passed: allows for what is due.
    pub fn tick(&mut self, snapshot: &Snapshot, now: Now) {
        if self.generation != snapshot.announcements_generation {
            *self = Announcer {
                generation: snapshot.announcements_generation,
                round: ANNOUNCE_ROUNDS,
                due: now.millis,
                ..Announcer::default()
            };
        }
        if self.round != 0 && now.millis >= self.due {
            self.allowance = (self.allowance + ANNOUNCE_PER_MILLI).min(ANNOUNCE_ARREARS_MAX);
        }
    }

    /// Whether [`Announcer::run`] has something to send.
    #[inline]
    pub fn has_more(&self) -> bool {
        self.allowance != 0
    }

    /// Sends some of what is allowed for.
    pub fn run<W: Wire>(&mut self, wire: &mut W, snapshot: &Snapshot, now: Now) {
        // Those that are left of another generation wait for the next tick.
        if self.generation != snapshot.announcements_generation {
            return;
        }
        let count = self.allowance.min(ANNOUNCE_BATCH);
        for &(port, address) in snapshot.announcements.iter().skip(self.next).take(count) {
            let mac = snapshot.ports[port].mac;
            let packet = Arp::new(Arp::REQUEST, (mac, address), (MacAddress([0; 6]), address));
            send(wire, port, ethernet::BROADCAST, mac, Vlan::NONE, &packet);
        }
        self.next += count;
        self.allowance -= count;
        if self.next >= snapshot.announcements.len() {
            self.next = 0;
            self.allowance = 0;
            self.round -= 1;
            self.due = now.millis + 1_000;
        }
    }
}
