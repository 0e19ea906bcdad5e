//! From the routes that are to be to those that the kernel has.
//!
//! What is to be and is not there is added, then what is there and is not to be is removed: a route that gets another metric is never away.
//! What fails is tried again with the next review.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ipnet::IpNet;
use tracing::{error, info, warn};

use super::plan::{Moment, Plan, Planned, State};
use super::status::{Announcement, Announcements};

/// Routes that are looked at in one review: each is a system call or two.
const REVIEWED_MAX: usize = 500;
/// Routes that are named in the log one by one when they change.
const NAMED_MAX: usize = 16;
/// From one line about a device that can't be had to the next.
const SAID_AGAIN: Duration = Duration::from_secs(60);

/// A route of the kernel's: at most one of its table has all of this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) net: IpNet,
    pub(super) table: u32,
    pub(super) metric: u32,
}

impl Place {
    /// Of this network in this table.
    fn all_of((net, table): (IpNet, u32)) -> std::ops::RangeInclusive<Self> {
        Self { net, table, metric: 0 }..=Self { net, table, metric: u32::MAX }
    }
}

/// A route with who made it and where it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) protocol: u8,
    pub(super) interface: String,
}

/// The part of the kernel that has devices and routes.
pub(super) trait Kernel {
    /// A device that is gone when this is dropped.
    type Device;
    /// Makes a device and sets it up.
    fn make(&self, name: &str) -> Result<Self::Device, String>;
    /// Sets it up again if somebody has set it down. `false`: it is gone.
    fn look_after(&self, device: &Self::Device) -> bool;
    /// Adds a route that leads to the device. An error of the kind `AlreadyExists`: there is one in its place.
    fn add(&self, device: &Self::Device, place: Place, protocol: u8) -> io::Result<()>;
    /// Removes such a route. An error of the kind `NotFound`: there is none.
    fn remove(&self, device: &Self::Device, place: Place, protocol: u8) -> io::Result<()>;
}

/// What is to be.
pub(super) struct Desired<'a> {
    routes: Vec<(&'a Planned, State)>,
    devices: &'a [String],
}

impl<'a> Desired<'a> {
    /// Of a plan at a moment.
    pub(super) fn at(plan: &'a Plan, moment: &Moment) -> Self {
        let routes = plan.routes.iter().map(|planned| (planned, planned.state(moment))).collect();
        Self { routes, devices: &plan.devices }
    }
}

/// See the module.
pub(super) struct Table<K: Kernel> {
    kernel: K,
    /// By name.
    devices: BTreeMap<String, K::Device>,
    /// Devices that can't be had, with when that was said.
    missing: BTreeMap<String, (String, Instant)>,
    there: BTreeMap<Place, Route>,
    /// What the kernel refused.
    refused: BTreeMap<Place, String>,
    /// From where the next review goes on.
    reviewed: Option<Place>,
    since: HashMap<(IpNet, u32), (State, SystemTime)>,
    announcements: Arc<Announcements>,
}

impl<K: Kernel> Table<K> {
    /// With no route yet.
    pub(super) fn new(kernel: K, announcements: Arc<Announcements>) -> Self {
        Self {
            kernel,
            devices: BTreeMap::new(),
            missing: BTreeMap::new(),
            there: BTreeMap::new(),
            refused: BTreeMap::new(),
            reviewed: None,
            since: HashMap::new(),
            announcements,
        }
    }

    /// Has the kernel have what is to be. A review looks whether it still has what it had, and tries again what it refused.
    pub(super) fn be(&mut self, desired: &Desired<'_>, is_review: bool, now: Instant) {
        let mut wanted = BTreeMap::new();
        for (planned, state) in &desired.routes {
            if let Some(metric) = planned.metric(*state) {
                let place = Place { net: planned.net, table: planned.table, metric };
                wanted.insert(
                    place,
                    Route { protocol: planned.protocol, interface: planned.interface.clone() },
                );
            }
        }
        // First what is not to be at all: nobody waits for it behind what is new. Another metric comes before the former one goes.
        let stays: HashSet<(IpNet, u32)> = wanted.keys().map(|place| (place.net, place.table)).collect();
        let goes = self.there.iter().filter(|(place, route)| {
            !stays.contains(&(place.net, place.table)) || wanted.get(place).is_some_and(|it| it != *route)
        });
        let goes: Vec<Place> = goes.map(|(place, _)| *place).collect();
        self.remove_all(&goes);
        self.refused.retain(|place, _| wanted.contains_key(place) || self.there.contains_key(place));
        if is_review {
            self.look_after(desired.devices, now);
            self.review();
        }
        let comes: Vec<Place> = wanted
            .keys()
            .filter(|place| {
                !self.there.contains_key(place) && (is_review || !self.refused.contains_key(place))
            })
            .copied()
            .collect();
        self.add_all(&comes, &wanted);
        let goes: Vec<Place> =
            self.there.keys().filter(|place| !wanted.contains_key(place)).copied().collect();
        self.remove_all(&goes);
        self.tell(desired);
    }

    /// Has the devices that are named, and no others. Where one is gone its routes are, too.
    fn look_after(&mut self, names: &[String], now: Instant) {
        let names: BTreeSet<&String> = names.iter().collect();
        let mut gone = Vec::new();
        for (name, device) in &self.devices {
            let is_gone = !self.kernel.look_after(device);
            if is_gone && names.contains(name) {
                warn!(interface = name, "the device of the announced routes is gone; it is made again");
            }
            if is_gone || !names.contains(name) {
                gone.push(name.clone());
            }
        }
        for name in gone {
            self.devices.remove(&name);
            self.there.retain(|_, route| route.interface != name);
        }
        self.missing.retain(|name, _| names.contains(name));
        for name in names {
            if !self.devices.contains_key(name) {
                self.make(name, now);
            }
        }
    }

    fn make(&mut self, name: &str, now: Instant) {
        match self.kernel.make(name) {
            Ok(device) => {
                info!(interface = name, "device of announced routes ready");
                self.missing.remove(name);
                self.devices.insert(name.to_owned(), device);
            }
            Err(why) => {
                self.announcements.failures.add(1);
                let said = self.missing.get(name).filter(|(said, at)| *said == why && now < *at + SAID_AGAIN);
                let at = said.map_or(now, |(_, at)| *at);
                if said.is_none() {
                    error!("nothing is announced ([[announce]]), and it is tried again each second: {why}");
                }
                self.missing.insert(name.to_owned(), (why, at));
            }
        }
    }

    /// Puts back what somebody else has removed.
    fn review(&mut self) {
        let from = self.reviewed.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.there.range((from, Bound::Unbounded));
        let some: Vec<Place> = behind.map(|(place, _)| *place).take(REVIEWED_MAX).collect();
        self.reviewed = some.last().filter(|_| some.len() == REVIEWED_MAX).copied();
        for place in some {
            let Some(route) = self.there.get(&place) else { continue };
            let Some(device) = self.devices.get(&route.interface) else { continue };
            match self.kernel.add(device, place, route.protocol) {
                Ok(()) => {
                    self.refused.remove(&place);
                    self.announcements.restored.add(1);
                    warn!(
                        table = place.table,
                        "announced route {} had been removed by somebody else, and is there again", place.net
                    );
                }
                Err(problem) if problem.kind() == io::ErrorKind::AlreadyExists => {
                    self.refused.remove(&place);
                }
                // It may be there all the same, and is to be removed once it must not be.
                Err(problem) => self.refuse(place, &problem),
            }
        }
    }

    fn add_all(&mut self, places: &[Place], wanted: &BTreeMap<Place, Route>) {
        let mut added = Vec::new();
        for &place in places {
            let route = &wanted[&place];
            let Some(device) = self.devices.get(&route.interface) else { continue };
            match self.kernel.add(device, place, route.protocol) {
                Ok(()) => {
                    self.announcements.announced.add(1);
                    self.refused.remove(&place);
                    self.there.insert(place, route.clone());
                    added.push(place);
                }
                Err(problem) => {
                    // Whoever gave no answer may have done it.
                    if problem.kind() == io::ErrorKind::TimedOut {
                        self.there.insert(place, route.clone());
                    }
                    self.refuse(place, &problem);
                }
            }
        }
        say("announced", &added);
    }

    fn remove_all(&mut self, places: &[Place]) {
        let mut removed = Vec::new();
        for &place in places {
            let Some(route) = self.there.get(&place) else { continue };
            let done = match self.devices.get(&route.interface) {
                Some(device) => self.kernel.remove(device, place, route.protocol),
                None => Ok(()),
            };
            match done {
                Err(problem) if problem.kind() != io::ErrorKind::NotFound => self.refuse(place, &problem),
                _ => {
                    self.announcements.withdrawn.add(1);
                    self.there.remove(&place);
                    removed.push(place);
                }
            }
        }
        say("withdrawn", &removed);
    }

    /// The kernel does not do it. Said when it is new.
    fn refuse(&mut self, place: Place, problem: &io::Error) {
        self.announcements.failures.add(1);
        let why = match problem.kind() {
            io::ErrorKind::AlreadyExists => {
                "another route of this network and metric is there, which is not weir's".to_owned()
            }
            _ => problem.to_string(),
        };
        if self.refused.get(&place) != Some(&why) {
            let Place { net, table, metric } = place;
            warn!(
                table,
                metric,
                "announced route {net} is not as it is to be, and it is tried again each second: {why}"
            );
            self.refused.insert(place, why);
        }
    }

    /// What others may know.
    fn tell(&mut self, desired: &Desired<'_>) {
        let now = SystemTime::now();
        let mut since = HashMap::with_capacity(desired.routes.len());
        let routes = desired.routes.iter().map(|(planned, state)| {
            let key = (planned.net, planned.table);
            let begun =
                self.since.get(&key).filter(|(former, _)| former == state).map_or(now, |(_, begun)| *begun);
            since.insert(key, (*state, begun));
            let metric = planned.metric(*state);
            let there = self.there.range(Place::all_of(key)).next().map(|(place, _)| place.metric);
            let refused = self.refused.range(Place::all_of(key)).next().map(|(_, why)| why);
            let missing = metric.and_then(|_| self.missing.get(&planned.interface)).map(|(why, _)| why);
            Announcement {
                net: planned.net,
                table: planned.table,
                interface: planned.interface.clone(),
                state: *state,
                metric: there,
                since: begun,
                virtual_servers: planned.servers.clone(),
                instance: planned.instance.clone(),
                problem: refused.or(missing).cloned(),
            }
        });
        self.announcements.set(routes.collect());
        self.since = since;
    }
}

/// In the log: one by one if they are few.
fn say(what: &str, places: &[Place]) {
    for Place { net, table, metric } in places.iter().take(NAMED_MAX) {
        info!(table, metric, "route {net} {what}");
    }
    if let Some(more) = places.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
        info!("{more} more routes {what}");
    }
}

#[cfg(test)]
mod tests;
