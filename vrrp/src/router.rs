//! All instances of a director: frames and time in, frames and transitions out.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::discard::Discard;
use crate::frame::Packet;
use crate::group::Group;
use crate::instance::{Instance, Outgoing};
use crate::machine::{Action, Cause, Event, State};
use crate::receive::Accepted;
use crate::settings::Settings;
use crate::time::Micros;
use crate::track::{Condition, Reading, Tracked, Tracker};

/// Refused packets that belong to no instance, of one port: in the order of [`Discard::ALL`].
pub type PortDiscards = [u64; Discard::ALL.len()];

/// What an instance is told, and what it tracks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// Its settings.
    pub settings: Settings,
    /// What it tracks, its own port's link included if that is wanted.
    pub trackers: Vec<Tracker>,
}

/// What a router wants done or known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send an advertisement.
    Advertise {
        /// Out of this port.
        port: usize,
        /// To this host, whose Ethernet address is to be put into the frame; `None`: the frame is complete.
        peer: Option<IpAddr>,
        /// An Ethernet frame.
        frame: Vec<u8>,
    },
    /// Send an announcement of an address, after the data plane serves it.
    Announce {
        /// Out of this port.
        port: usize,
        /// An Ethernet frame.
        frame: Vec<u8>,
    },
    /// An instance changed its state. Whether it is master decides what the data plane serves.
    Transition {
        /// Name of the instance.
        instance: String,
        /// Its former state.
        from: State,
        /// Its state now.
        to: State,
        /// Why.
        cause: Cause,
        /// What is down, when the cause is tracking.
        fault: Option<Tracked>,
        /// Its priority now.
        priority: u8,
    },
    /// All members of a sync group are in one state now.
    Group {
        /// Its name.
        group: String,
        /// That state.
        state: State,
    },
    /// A packet was refused.
    Discarded {
        /// Port on which it came.
        port: usize,
        /// Name of the instance that it was for, if there is one.
        instance: Option<String>,
        /// Who sent it, as far as it can be read.
        source: Option<IpAddr>,
        /// Why.
        reason: Discard,
    },
    /// An accepted advertisement lists other addresses than ours.
    AddressMismatch {
        /// Name of the instance.
        instance: String,
        /// Who sent it.
        source: IpAddr,
    },
}

/// See the module.
#[derive(Debug, Default)]
pub struct Router {
    instances: Vec<Instance>,
    trackers: Vec<Vec<Tracker>>,
    groups: Vec<Group>,
    /// By port, family (IPv6 or not) and VRID.
    by_key: HashMap<(usize, bool, u8), usize>,
    discarded: BTreeMap<usize, PortDiscards>,
    /// All stop: groups do after their members.
    stops: bool,
    /// The time since 1970 at which the monotonic clock was 0.
    began: Duration,
}

impl Router {
    /// Without instances.
    pub fn new() -> Self {
        Self::default()
    }

    /// The instances, in the order of the configuration.
    pub fn instances(&self) -> &[Instance] {
        &self.instances
    }

    /// Refused packets that belong to no instance, by port.
    pub fn discarded(&self) -> impl Iterator<Item = (usize, &PortDiscards)> {
        self.discarded.iter().map(|(port, counts)| (*port, counts))
    }

    /// Says what time it is since 1970, which trailers need and which may go in leaps.
    pub fn tell_time(&mut self, wall: Duration, now: Micros) {
        self.began = wall.saturating_sub(now.since(Micros(0)));
    }

    fn wall(&self, now: Micros) -> Duration {
        self.began + now.since(Micros(0))
    }

    /// Brings the instances in line with `setups`. One whose virtual router is as before ([`Settings::key`]) keeps its
    /// state, its counters and its timers, whatever its name is now; the others stop, or start by way of `read`, which says how things are that they track.
    pub fn configure(
        &mut self,
        setups: Vec<Setup>,
        read: &mut dyn FnMut(&Tracked) -> Reading,
        now: Micros,
        out: &mut Vec<Output>,
    ) {
        let keys: HashSet<_> = setups.iter().map(|setup| setup.settings.key()).collect();
        let stays = |instance: &Instance| keys.contains(&instance.settings().key());
        for index in 0..self.instances.len() {
            if !stays(&self.instances[index]) {
                self.step(index, Event::Shutdown, now, out);
            }
        }
        let mut old: Vec<_> = std::mem::take(&mut self.instances).into_iter().filter(|i| stays(i)).collect();
        self.trackers.clear();
        for Setup { settings, trackers } in setups {
            let instance = match old.iter().position(|i| i.is_same_router(&settings)) {
                Some(place) => {
                    let mut instance = old.swap_remove(place);
                    instance.reconfigure(settings, now);
                    instance
                }
                None => Instance::new(settings),
            };
            self.instances.push(instance);
            self.trackers.push(trackers);
        }
        let groups = Group::all(&self.instances, &self.groups);
        self.groups = groups;
        let keys = self.instances.iter().enumerate().map(|(index, i)| (i.settings().key(), index));
        self.by_key = keys.collect();
        self.track(read, now, out);
    }

    /// Looks at everything that is tracked.
    pub fn track(&mut self, read: &mut dyn FnMut(&Tracked) -> Reading, now: Micros, out: &mut Vec<Output>) {
        for (instance, trackers) in self.instances.iter_mut().zip(&self.trackers) {
            instance.condition = Condition::of(trackers, read);
        }
        for index in 0..self.instances.len() {
            let condition = self.condition(index);
            let instance = &mut self.instances[index];
            // What was in fault waits until everything is known.
            let is_faulted = condition.fault.is_some() || instance.is_exhausted;
            let is_faulted = is_faulted || instance.is_faulted && condition.is_unknown;
            let was_faulted = std::mem::replace(&mut instance.is_faulted, is_faulted);
            let priority = condition.priority(instance.settings().priority);
            if priority != instance.priority() {
                self.step(index, Event::Priority(priority), now, out);
            }
            if is_faulted {
                let instance = &self.instances[index];
                let cause = match (&instance.condition.fault, instance.is_exhausted) {
                    (_, true) => Cause::SequenceExhausted,
                    (Some(_), _) => Cause::Tracking,
                    (None, _) => Cause::Group,
                };
                self.step(index, Event::Fault(cause), now, out);
            } else if was_faulted {
                self.step(index, Event::Recovered, now, out);
            }
            if !condition.is_unknown {
                // Those that run already do nothing.
                self.step(index, Event::Startup, now, out);
            }
        }
        self.settle(now, out);
    }

    /// What an instance's trackers say, or those of all its group.
    fn condition(&self, index: usize) -> Condition {
        match self.groups.iter().find(|group| group.members.contains(&index)) {
            Some(group) => group.condition(&self.instances),
            None => self.instances[index].condition.clone(),
        }
    }

    /// Takes a frame that came in on `port`.
    pub fn receive(&mut self, port: usize, frame: &[u8], now: Micros, out: &mut Vec<Output>) {
        let packet = match Packet::read(frame) {
            Ok(packet) => packet,
            Err(reason) => return self.discard(port, None, reason, out),
        };
        let key = (port, packet.source.is_ipv6(), packet.message.virtual_router_id());
        let Some(&index) = self.by_key.get(&key) else {
            return self.discard(port, Some(packet.source), Discard::UnknownRouter, out);
        };
        let wall = self.wall(now);
        let instance = &mut self.instances[index];
        match instance.receive(&packet, now, wall) {
            Ok(Accepted { heard, lists_ours, .. }) => {
                if !lists_ours {
                    let instance = instance.settings().name.clone();
                    out.push(Output::AddressMismatch { instance, source: packet.source });
                }
                self.step(index, Event::Advertisement(heard), now, out);
                if self.instances[index].machine.is_following() {
                    self.demote_group(index, now, out);
                }
                self.settle(now, out);
            }
            Err(reason) => {
                let instance = Some(instance.settings().name.clone());
                let source = Some(packet.source);
                out.push(Output::Discarded { port, instance, source, reason });
                if reason == Discard::Owner {
                    self.step(index, Event::Rival, now, out);
                }
            }
        }
    }

    fn discard(&mut self, port: usize, source: Option<IpAddr>, reason: Discard, out: &mut Vec<Output>) {
        self.discarded.entry(port).or_default()[reason as usize] += 1;
        out.push(Output::Discarded { port, instance: None, source, reason });
    }

    /// When [`Router::run`] has something to do.
    pub fn deadline(&self) -> Option<Micros> {
        self.instances.iter().filter_map(Instance::deadline).min()
    }

    /// Does what is due.
    pub fn run(&mut self, now: Micros, out: &mut Vec<Output>) {
        for index in 0..self.instances.len() {
            if self.instances[index].machine.deadline().is_some_and(|deadline| deadline <= now) {
                self.step(index, Event::Deadline, now, out);
            }
        }
        self.settle(now, out);
        for instance in &mut self.instances {
            if instance.announcer.deadline().is_some_and(|deadline| deadline <= now) {
                let port = instance.settings().port;
                out.extend(
                    instance.announcements(now).into_iter().map(|frame| Output::Announce { port, frame }),
                );
            }
        }
    }

    /// Nothing was run for `gap`, up to `now`. To be said before frames that came meanwhile are handed in.
    pub fn stalled(&mut self, gap: Duration, now: Micros, out: &mut Vec<Output>) {
        for index in 0..self.instances.len() {
            self.step(index, Event::Stalled(gap), now, out);
        }
        self.settle(now, out);
    }

    /// Another host on `port` claims `address` by ARP or a neighbour advertisement.
    pub fn claimed(&mut self, port: usize, address: IpAddr, now: Micros, out: &mut Vec<Output>) {
        for instance in self.instances.iter_mut().filter(|instance| instance.settings().port == port) {
            if let Some(frame) = instance.defend(address, now) {
                out.push(Output::Announce { port, frame });
            }
        }
    }

    /// Stops all instances; masters tell the others.
    pub fn stop(&mut self, now: Micros, out: &mut Vec<Output>) {
        self.stops = true;
        for index in 0..self.instances.len() {
            self.step(index, Event::Shutdown, now, out);
        }
        let stopped = |group: &Group| Output::Group { group: group.name.clone(), state: State::Initialize };
        out.extend(self.groups.iter().map(stopped));
    }

    /// Says so if an instance was the last of its group to get into a state.
    fn tell_group(&mut self, index: usize, state: State, out: &mut Vec<Output>) {
        let group = self.groups.iter_mut().find(|group| group.members.contains(&index));
        let Some(group) = group.filter(|group| group.told != Some(state)) else { return };
        if group.members.iter().all(|member| self.instances[*member].state() == state) {
            group.told = Some(state);
            out.push(Output::Group { group: group.name.clone(), state });
        }
    }

    fn step(&mut self, index: usize, event: Event, now: Micros, out: &mut Vec<Output>) {
        let (mut actions, wall) = (Vec::new(), self.wall(now));
        let instance = &mut self.instances[index];
        instance.machine.step(event, now, &mut actions);
        let (mut is_exhausted, mut takes_group_along, mut became) = (false, false, None);
        let plan = instance.settings().announce;
        for action in actions {
            match action {
                Action::Advertise(priority) => match instance.advertise(priority, wall) {
                    Some(frames) => {
                        let port = instance.settings().port;
                        let outputs = frames.into_iter().map(|Outgoing { peer, frame }| (peer, frame));
                        out.extend(outputs.map(|(peer, frame)| Output::Advertise { port, peer, frame }));
                    }
                    None => is_exhausted = true,
                },
                Action::Announce => instance.announcer.start(&plan, now),
                Action::AnnounceAgain => instance.announcer.again(&plan, now),
                Action::Become { from, to, cause } => {
                    instance.transition(from, to, now);
                    let name = instance.settings().name.clone();
                    let fault = instance.condition.fault.clone().filter(|_| cause == Cause::Tracking);
                    let priority = instance.priority();
                    out.push(Output::Transition { instance: name, from, to, cause, fault, priority });
                    became = Some(to);
                    // A fault of tracking is one of the whole group anyway.
                    takes_group_along = from == State::Master
                        && (to == State::Backup && cause != Cause::Group
                            || cause == Cause::SequenceExhausted);
                }
                Action::WantsMaster => {}
            }
        }
        if let Some(state) = became.filter(|state| *state != State::Initialize && !self.stops) {
            self.tell_group(index, state, out);
        }
        if takes_group_along {
            self.demote_group(index, now, out);
        }
        let instance = &mut self.instances[index];
        if is_exhausted && !std::mem::replace(&mut instance.is_exhausted, true) {
            instance.is_faulted = true;
            self.step(index, Event::Fault(Cause::SequenceExhausted), now, out);
        }
    }

    /// Who loses mastership, or leaves it to another router, takes its sync group along.
    fn demote_group(&mut self, index: usize, now: Micros, out: &mut Vec<Output>) {
        let group = self.groups.iter().find(|group| group.members.contains(&index));
        for member in group.map(|group| group.members.clone()).unwrap_or_default() {
            if member != index {
                self.step(member, Event::GroupBackup, now, out);
            }
        }
    }

    /// Sync groups whose members all want to be master become it.
    fn settle(&mut self, now: Micros, out: &mut Vec<Output>) {
        for place in 0..self.groups.len() {
            if self.groups[place].is_ready(&self.instances) {
                for member in self.groups[place].members.clone() {
                    self.step(member, Event::GroupMaster, now, out);
                }
            }
        }
    }
}
