//! One instance: its settings, its state machine, what it counts and remembers.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::announce::{Announcer, DEFENCE_INTERVAL};
use crate::auth::{AH_LEN, Authentication, Sequence};
use crate::discard::Discard;
use crate::frame::{self, PROTOCOL, PROTOCOL_AH, Packet};
use crate::machine::{Heard, Machine, State};
use crate::receive::{Accepted, Seen, judge};
use crate::settings::{Mac, Settings};
use crate::time::Micros;
use crate::track::Condition;
use crate::trailer::{Numbers, TRAILER_LEN};

/// What an instance counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counters {
    /// Advertisements accepted.
    pub received: u64,
    /// Advertisements sent, each copy for a unicast peer.
    pub sent: u64,
    /// Of the accepted ones, those of priority 0.
    pub priority_zero_received: u64,
    /// Of the sent ones, those of priority 0.
    pub priority_zero_sent: u64,
    /// Advertisements refused, in the order of [`Discard::ALL`].
    pub discarded: [u64; Discard::ALL.len()],
    /// Accepted advertisements without a trailer, though we have keys for one.
    pub unsigned: u64,
    /// Accepted advertisements whose addresses are not ours.
    pub address_mismatches: u64,
    /// Times it became master.
    pub became_master: u64,
    /// Times it stopped being master.
    pub released_master: u64,
    /// Announcements of addresses sent: gratuitous ARP and unsolicited neighbour advertisements.
    pub announcements: u64,
    /// Of those, answers to others that claim an address.
    pub defences: u64,
}

/// The last accepted advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastHeard {
    /// When.
    pub at: Micros,
    /// What.
    pub heard: Heard,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Instance {
    settings: Settings,
    pub(crate) machine: Machine,
    pub(crate) announcer: Announcer,
    pub(crate) counters: Counters,
    /// What its own trackers say.
    pub(crate) condition: Condition,
    /// Whether it was told to be in fault, by its own trackers or its group's.
    pub(crate) is_faulted: bool,
    pub(crate) is_exhausted: bool,
    last_heard: Option<LastHeard>,
    last_transition: Micros,
    sequence: Sequence,
    /// Of trailers. They are kept over a change of keys.
    numbers: Numbers,
    ident: u16,
    defended: HashMap<IpAddr, Micros>,
}

/// An advertisement's frame.
pub(crate) struct Outgoing {
    /// `None`: it goes to the group. Else the peer, whose Ethernet address is left to the sender.
    pub(crate) peer: Option<IpAddr>,
    pub(crate) frame: Vec<u8>,
}

impl Instance {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            machine: Machine::new(&settings),
            sequence: Sequence::after(settings.first_sequence),
            settings,
            announcer: Announcer::default(),
            counters: Counters::default(),
            condition: Condition::default(),
            is_faulted: false,
            is_exhausted: false,
            last_heard: None,
            last_transition: Micros(0),
            numbers: Numbers::default(),
            ident: 0,
            defended: HashMap::new(),
        }
    }

    /// What it was told.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.machine.state()
    }

    /// Its priority with tracking.
    pub fn priority(&self) -> u8 {
        self.machine.priority()
    }

    /// What it counts.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What its own trackers say.
    pub fn condition(&self) -> &Condition {
        &self.condition
    }

    /// The last accepted advertisement.
    pub fn last_heard(&self) -> Option<&LastHeard> {
        self.last_heard.as_ref()
    }

    /// The highest number of authentication headers that it has sent or accepted.
    pub fn sequence(&self) -> u32 {
        self.sequence.last()
    }

    /// When the state last changed.
    pub fn last_transition(&self) -> Micros {
        self.last_transition
    }

    /// How long it waits for a master now.
    pub fn down_interval(&self) -> Duration {
        self.machine.down_interval()
    }

    /// See [`Machine::lease_end`].
    pub fn lease_end(&self) -> Option<Micros> {
        self.machine.lease_end()
    }

    pub(crate) fn deadline(&self) -> Option<Micros> {
        [self.machine.deadline(), self.announcer.deadline()].into_iter().flatten().min()
    }

    pub(crate) fn transition(&mut self, from: State, to: State, now: Micros) {
        self.last_transition = now;
        self.counters.became_master += u64::from(to == State::Master);
        self.counters.released_master += u64::from(from == State::Master);
        self.announcer.stop();
        self.defended.clear();
    }

    /// Whether the same virtual router is meant, so that changed settings can be taken over in place.
    pub(crate) fn is_same_router(&self, settings: &Settings) -> bool {
        self.settings.key() == settings.key()
    }

    /// Takes over changed settings in place.
    pub(crate) fn reconfigure(&mut self, settings: Settings, now: Micros) {
        let has_new = settings.addresses.iter().any(|address| !self.settings.addresses.contains(address))
            || settings.mac != self.settings.mac;
        // A new password begins a new count; with the old one nothing that was sent before may be believed.
        if settings.authentication != self.settings.authentication {
            self.sequence = Sequence::default();
            self.is_exhausted = false;
        }
        self.machine.reconfigure(&settings);
        self.settings = settings;
        if self.state() == State::Master && has_new {
            self.announcer.restart(&self.settings.announce, now);
        }
    }

    /// Judges and counts a received packet.
    pub(crate) fn receive(
        &mut self,
        packet: &Packet<'_>,
        now: Micros,
        wall: Duration,
    ) -> Result<Accepted, Discard> {
        let mut seen = Seen { sequence: &mut self.sequence, numbers: &mut self.numbers, wall };
        let judged = judge(&self.settings, &mut seen, packet);
        match &judged {
            Ok(Accepted { heard, lists_ours, is_unsigned }) => {
                self.counters.received += 1;
                self.counters.unsigned += u64::from(*is_unsigned);
                self.counters.priority_zero_received += u64::from(heard.priority == 0);
                self.counters.address_mismatches += u64::from(!lists_ours);
                self.last_heard = Some(LastHeard { at: now, heard: *heard });
            }
            Err(discard) => self.counters.discarded[*discard as usize] += 1,
        }
        judged
    }

    /// The frames of one advertisement: one, or one for each unicast peer. `None`: no sequence numbers are left.
    pub(crate) fn advertise(&mut self, priority: u8, wall: Duration) -> Option<Vec<Outgoing>> {
        let to_group = [frame::group(self.settings.is_ipv6())];
        let is_unicast = !self.settings.unicast_peers.is_empty();
        if matches!(self.settings.authentication, Authentication::Ah(_)) && !self.sequence.advance() {
            return None;
        }
        let trailer = self.trailer(priority, wall);
        let destinations = if is_unicast { self.settings.unicast_peers.clone() } else { to_group.to_vec() };
        let mut frames = Vec::with_capacity(destinations.len());
        for destination in destinations {
            let to = if is_unicast { [0; 6] } else { frame::group_mac(destination) };
            let frame = self.advertisement_to(destination, to, priority, trailer.as_ref())?;
            frames.push(Outgoing { peer: is_unicast.then_some(destination), frame });
        }
        self.counters.sent += frames.len() as u64;
        self.counters.priority_zero_sent += if priority == 0 { frames.len() as u64 } else { 0 };
        Some(frames)
    }

    /// The trailer of all copies of an advertisement.
    fn trailer(&mut self, priority: u8, wall: Duration) -> Option<[u8; TRAILER_LEN]> {
        let trailers = self.settings.trailers.as_ref()?;
        let message = self.settings.advertisement(priority).without_checksum();
        self.numbers.sign(trailers, &self.settings.origin(self.settings.source), &message, wall)
    }

    fn advertisement_to(
        &mut self,
        destination: IpAddr,
        to: Mac,
        priority: u8,
        trailer: Option<&[u8; TRAILER_LEN]>,
    ) -> Option<Vec<u8>> {
        let Settings { source, mac, checksum, .. } = self.settings;
        let advertisement = self.settings.advertisement(priority);
        let message = match trailer {
            Some(trailer) => advertisement.encode_with((source, destination), checksum, trailer),
            None => advertisement.encode(source, destination, checksum),
        };
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                self.ident = self.ident.wrapping_add(1);
                self.frame4((to, mac), (source, destination), &message)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                Some(frame::advertisement6(to, mac, (source, destination), &message))
            }
            _ => None,
        }
    }

    fn frame4(
        &mut self,
        (to, from): (Mac, Mac),
        (source, destination): (Ipv4Addr, Ipv4Addr),
        message: &[u8],
    ) -> Option<Vec<u8>> {
        let header = |protocol, len| frame::ipv4_header(source, destination, self.ident, protocol, len);
        let Authentication::Ah(key) = self.settings.authentication else {
            return Some(frame::ipv4_frame(to, from, header(PROTOCOL, message.len()), &[message]));
        };
        let ip = header(PROTOCOL_AH, AH_LEN + message.len());
        let is_unicast = !self.settings.unicast_peers.is_empty();
        let ah = self.sequence.sign(&key, &ip, message, is_unicast);
        Some(frame::ipv4_frame(to, from, ip, &[&ah, message]))
    }

    /// Addresses that are due for announcement, as frames.
    pub(crate) fn announcements(&mut self, now: Micros) -> Vec<Vec<u8>> {
        let Settings { announce, addresses, mac, .. } = &self.settings;
        let due = self.announcer.due(announce, addresses, now);
        self.counters.announcements += due.len() as u64;
        due.iter().map(|address| frame::announcement(*address, *mac)).collect()
    }

    /// The frame that answers another host's claim to an address of this master, unless one was sent just now.
    pub(crate) fn defend(&mut self, address: IpAddr, now: Micros) -> Option<Vec<u8>> {
        if self.state() != State::Master || !self.settings.addresses.contains(&address) {
            return None;
        }
        if self.defended.get(&address).is_some_and(|last| now.since(*last) < DEFENCE_INTERVAL) {
            return None;
        }
        self.defended.insert(address, now);
        self.counters.announcements += 1;
        self.counters.defences += 1;
        Some(frame::announcement(address, self.settings.mac))
    }
}
