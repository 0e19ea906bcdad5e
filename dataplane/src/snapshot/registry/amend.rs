//! Changes of a few virtual servers, as verdicts of the health checks and edits are: what they cost is in proportion to them, not
//! to the configuration.
//!
//! A [`Journal`] remembers which virtual servers changed in which generation. A snapshot that is not in force any more is
//! behind by a generation or two: it is brought up to date in place, by what the journal says, and is the next one. What it
//! shares with one that is still held is copied first ([`Arc::make_mut`]), so that it does not matter who holds what.
//!
//! Numbers of real servers that are gone are given back by whole configurations alone.

use std::collections::VecDeque;
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use weir_config::model::{Config, Forwarding, Identity, Timeouts, VirtualServer};

use super::numbers::Numbers;
use super::{
    Draft, Registry, RegistryError, ServerEntry, ServerKey, ServiceEntry, all_servers, forgetful, nobody,
    served,
};
use crate::address::Addr4;
use crate::conn::state::Lifetimes;
use crate::snapshot::destinations::Destination;
use crate::snapshot::helped;
use crate::snapshot::nat::socket_of;
use crate::snapshot::routes::Routes;
use crate::snapshot::server::Server;
use crate::snapshot::traffic::Traffic;
use crate::snapshot::{NatServer, Origin, Snapshot, Target, socket};

/// Generations of amendments that are remembered. Whoever holds a snapshot for longer costs a copy.
const REMEMBERED: usize = 64;
/// Room beyond the highest number, at least.
const SPARE_MIN: usize = 64;
/// And in proportion to it: one for so many.
const SPARE_PART: usize = 8;

/// See the module.
#[derive(Default)]
pub(super) struct Journal {
    /// Snapshots from this generation on can be brought up to date.
    since: u64,
    /// By generation, rising.
    changes: VecDeque<(u64, Vec<Identity>)>,
}

impl Journal {
    /// Of a whole configuration.
    pub(super) fn begin(generation: u64) -> Self {
        Self { since: generation, changes: VecDeque::new() }
    }

    fn write(&mut self, generation: u64, changed: Vec<Identity>) {
        if self.changes.len() == REMEMBERED
            && let Some((forgotten, _)) = self.changes.pop_front()
        {
            self.since = forgotten;
        }
        self.changes.push_back((generation, changed));
    }

    /// What changed after this generation; `None`: that is not known any more.
    fn after(&self, generation: u64) -> Option<HashSet<Identity>> {
        let changes = self.changes.iter().filter(|(at, _)| *at > generation);
        (generation >= self.since).then(|| changes.flat_map(|(_, changed)| changed.iter().copied()).collect())
    }
}

/// One change of what is served. Several are made in their order, as ipvsadm's commands are.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// A virtual server is as told here; it may be new.
    Put(&'a VirtualServer),
    /// The same, and these of its real servers were edited, though they may be as they were: wrr begins its round anew.
    Edit(&'a VirtualServer, &'a [ServerKey]),
    /// A virtual server is gone.
    Remove(Identity),
    /// How long connections stay.
    Timeouts(&'a Timeouts),
}

impl<'a> Change<'a> {
    /// These virtual servers, each as told.
    pub fn put_all(servers: &'a [VirtualServer]) -> Vec<Self> {
        servers.iter().map(Self::Put).collect()
    }

    fn identity(&self) -> Option<Identity> {
        match self {
            Self::Put(wanted) | Self::Edit(wanted, _) => Some(wanted.identity()),
            Self::Remove(identity) => Some(*identity),
            Self::Timeouts(_) => None,
        }
    }
}

impl Registry {
    /// The generation from which on snapshots can be the `base` of [`Registry::amend`].
    pub fn amends_since(&self) -> u64 {
        self.journal.since
    }

    /// The next snapshot, which differs from the last one by these changes. `config` is what the last whole snapshot was made of, as
    /// far as that matters here: its virtual servers need not agree. `base` is any snapshot of this registry; it takes the least time
    /// with one that nobody else holds.
    ///
    /// `None`: this takes a whole snapshot, for a mark or a virtual server of all ports is among them, or one comes or goes
    /// beside marks or where there is no room left for it, or `base` is too old.
    ///
    /// # Errors
    /// The registry is then as it was.
    pub fn amend(
        &mut self,
        base: Snapshot,
        changes: &[Change<'_>],
        config: &Config,
    ) -> Result<Option<Snapshot>, RegistryError> {
        let Some(mut behind) = self.journal.after(base.generation) else { return Ok(None) };
        if !self.can_amend(&base, changes) {
            return Ok(None);
        }
        let numbers = mem::take(&mut self.numbers);
        let before = numbers.state();
        let mut draft = Draft {
            services: HashMap::with_capacity(changes.len()),
            used_services: HashSet::new(),
            next_service: self.services_end,
            numbers,
            relieved: Vec::new(),
        };
        let drawn = changes.iter().try_for_each(|change| self.draw(&mut draft, change, config, &base.routes));
        if let Err(refused) = drawn {
            // What was taken in vain is free again.
            self.numbers = Numbers::without(all_servers(&self.services).map(|server| server.id));
            return Err(refused);
        }
        draft.relieve();
        self.generation += 1;
        let Draft { services, used_services, numbers, .. } = draft;
        self.numbers = numbers;
        if self.numbers.state() != before {
            self.numbers_generation = self.generation;
        }
        self.services_end = used_services.into_iter().map(|id| id + 1).fold(self.services_end, u16::max);
        for (key, entry) in services {
            self.take(key, entry, &base);
        }
        for change in changes {
            if let Change::Timeouts(timeouts) = change {
                self.lifetimes = Some(Lifetimes::new(timeouts));
            }
        }
        let changed: Vec<Identity> = changes.iter().filter_map(Change::identity).collect();
        behind.extend(&changed);
        self.journal.write(self.generation, changed);
        Ok(Some(self.brought_up_to_date(base, &behind)))
    }

    /// Whether nothing of it reaches further than the virtual servers themselves and their addresses.
    fn can_amend(&self, base: &Snapshot, changes: &[Change<'_>]) -> bool {
        // What replies of the others are looked up by may depend on who else is there.
        let is_plain = |identity: Identity| matches!(identity, Identity::Address { port: 1.., .. });
        let is_served =
            |identity: &Identity| self.services.get(identity).is_some_and(|entry| entry.current.is_some());
        let come_or_go = |change: &&Change<'_>| match change {
            Change::Remove(_) => true,
            _ => change.identity().is_some_and(|identity| !is_served(&identity)),
        };
        let is_ipv6 = |change: &Change<'_>| {
            matches!(change.identity(), Some(Identity::Address { address: IpAddr::V6(_), .. }))
        };
        // Data connections have sockets and an address of their own.
        let is_helped = |change: &Change<'_>| {
            let current =
                change.identity().and_then(|identity| self.services.get(&identity)?.current.as_ref());
            let wanted = match change {
                Change::Put(wanted) | Change::Edit(wanted, _) => Some(*wanted),
                Change::Remove(_) | Change::Timeouts(_) => None,
            };
            wanted.into_iter().chain(current.map(|(known, ..)| known)).any(helped::is_helped)
        };
        if changes.iter().any(is_helped) {
            return false;
        }
        let count = changes.iter().filter(come_or_go).count();
        let has_room = || {
            base.marks.is_none()
                && self.addresses.have_room(count)
                && usize::from(u16::MAX - self.services_end) > count
        };
        changes.iter().filter_map(Change::identity).all(is_plain)
            && (count == 0 || has_room())
            && (count == 0 || !changes.iter().filter(come_or_go).any(is_ipv6))
    }

    /// Makes a change in the draft.
    fn draw(
        &self,
        draft: &mut Draft,
        change: &Change<'_>,
        config: &Config,
        routes: &Routes,
    ) -> Result<(), RegistryError> {
        let Some(identity) = change.identity() else { return Ok(()) };
        if !draft.services.contains_key(&identity)
            && let Some(known) = self.services.get(&identity)
        {
            draft.services.insert(identity, known.clone());
        }
        let (wanted, edited): (&VirtualServer, &[ServerKey]) = match change {
            Change::Put(wanted) => (wanted, &[]),
            Change::Edit(wanted, edited) => (wanted, edited),
            Change::Remove(_) => {
                draft.services.get_mut(&identity).into_iter().for_each(ServiceEntry::remove);
                return Ok(());
            }
            Change::Timeouts(_) => return Ok(()),
        };
        served::check_service(wanted)?;
        self.place(draft, (wanted, edited), config, routes)
    }

    /// Takes a virtual server over from a draft that stands.
    fn take(&mut self, key: Identity, mut entry: ServiceEntry, base: &Snapshot) {
        let generation = self.generation;
        for server in entry.servers.values_mut().filter(|server| !server.server.is_present) {
            if *server.removed.get_or_insert(generation) == generation {
                self.ended_since = generation;
                self.left += 1;
            }
        }
        let (was, is) =
            (self.services.get(&key).is_some_and(|entry| entry.current.is_some()), entry.current.is_some());
        self.epochs_since = self.epochs_since.max(entry.epoch.since);
        self.was_persistent |=
            entry.current.as_ref().is_some_and(|(wanted, ..)| wanted.persistence.is_some());
        let former = self.services.insert(key, entry);
        if !former.is_some_and(|former| answers_alike(&former, &self.services[&key])) {
            self.renew_sockets(&key);
        }
        if let Identity::Address { address, .. } = key
            && let Some(vip) = Addr4::of(address)
        {
            match (was, is) {
                (false, true) => {
                    self.hashes[0] = true;
                    self.addresses.comes(vip, base);
                }
                (true, false) => {
                    self.ended_since = generation;
                    self.addresses.goes(vip, generation);
                }
                _ => {}
            }
        }
    }

    /// Which of its sockets a virtual server has now.
    fn renew_sockets(&mut self, key: &Identity) {
        let (Some(entry), Identity::Address { address, port, protocol }) = (self.services.get(key), *key)
        else {
            return;
        };
        for server in nat_servers(entry) {
            self.nat_sockets.remove(socket_of(server, protocol), entry.id);
        }
        let (Some((wanted, ..)), Some(vip)) = (&entry.current, self.numbers6.of(address)) else { return };
        let origin = Origin { vip, port, one_packet: wanted.one_packet, keeps_calls: wanted.keeps_calls() };
        let its = NatServer { any_port: false, is_left: false, origin: Some(origin) };
        for server in nat_servers(entry).filter(|server| !server.is_left()) {
            self.nat_sockets.insert(server, protocol, its);
        }
        for server in nat_servers(entry).filter(|server| server.is_left()) {
            self.nat_sockets.insert_left(server, protocol, its);
        }
    }

    /// Of what this writes to, [`Snapshot::set_apart`] makes copies.
    fn brought_up_to_date(&mut self, mut base: Snapshot, behind: &HashSet<Identity>) -> Snapshot {
        base.generation = self.generation;
        base.numbers_generation = self.numbers_generation;
        base.ended_since = self.ended_since;
        base.epochs_since = self.epochs_since;
        base.has_both_hashes = self.hashes == [true; 2];
        if let Some(lifetimes) = &self.lifetimes {
            base.lifetimes.clone_from(lifetimes);
        }
        self.addresses.bring_up_to_date(&mut base, behind);
        self.make_room(&mut base, behind);
        let entries = || behind.iter().filter_map(|key| Some((key, self.services.get(key)?)));
        let services = Arc::make_mut(&mut base.services);
        let servers = Arc::make_mut(&mut base.servers);
        let mut forget = false;
        for (key, entry) in entries() {
            let Identity::Address { address, port, protocol } = *key else { continue };
            let place = &mut services[usize::from(entry.id.0)];
            let service = entry.current.as_ref().map(|(_, _, service)| service.clone());
            forget |= [place.as_ref(), service.as_ref()]
                .into_iter()
                .flatten()
                .any(|service| service.scheduler.forgets());
            base.has_persistence |= service.as_ref().is_some_and(|service| service.persistence.is_some());
            *place = service;
            for server in entry.servers.values().flat_map(ServerEntry::all) {
                servers[server.id.index()] = self.bound(server);
            }
            for socket in nat_servers(entry).map(|server| socket_of(server, protocol)) {
                base.nat_servers.set(socket, self.nat_sockets.at(socket));
            }
            let Some(vip) = Addr4::of(address) else { continue };
            let target =
                Target { service: entry.id, vip: base.vips.number(vip), any_port: false, is_helped: false };
            let to = Destination { target, router: base.virtual_routers.router_of(vip) };
            let to = entry.current.is_some().then_some(to);
            let socket = socket(vip, port, protocol.number());
            if base.virtual_servers.find(socket) != to {
                Arc::make_mut(&mut base.virtual_servers).set(socket, to);
            }
        }
        if forget {
            base.forgetful = forgetful(&base.services);
        }
        base
    }

    /// Room for the numbers of these virtual servers and of their real servers.
    fn make_room(&self, base: &mut Snapshot, behind: &HashSet<Identity>) {
        let entries = || behind.iter().filter_map(|key| self.services.get(key));
        let numbers = entries().flat_map(|entry| entry.servers.values()).flat_map(ServerEntry::all);
        let numbers = numbers.map(|server| server.id.index());
        let highest = numbers.max().unwrap_or_default();
        if base.servers.len() <= highest {
            let mut servers = base.servers.to_vec();
            servers.resize(with_spare(highest), nobody(self.workers));
            base.servers = servers.into();
        }
        let highest = entries().map(|entry| usize::from(entry.id.0)).max().unwrap_or_default();
        if base.services.len() <= highest {
            let (mut services, mut retired) = (base.services.to_vec(), base.retired.to_vec());
            services.resize(with_spare(highest), None);
            retired.resize(with_spare(highest), Traffic::default());
            (base.services, base.retired) = (services.into(), retired.into());
        }
    }
}

/// Room for so many numbers and for more, so that one more does not mean another place for all: with a hundred thousand real servers that
/// takes control 20 milliseconds.
pub(super) fn with_spare(numbers: usize) -> usize {
    numbers + SPARE_MIN.max(numbers / SPARE_PART)
}

/// Whether replies of a virtual server's real servers are found as before: so it is while weights change.
fn answers_alike(former: &ServiceEntry, entry: &ServiceEntry) -> bool {
    let without_record = |entry: &ServiceEntry| {
        entry.current.as_ref().map(|(wanted, ..)| (wanted.one_packet, wanted.keeps_calls()))
    };
    let of = |server: &Server| (server.forwarding, server.address, server.port, server.is_left());
    let is_known = |(key, it): (&ServerKey, &ServerEntry)| {
        former.servers.get(key).is_some_and(|known| known.all().map(of).eq(it.all().map(of)))
    };
    without_record(entry).is_some()
        && without_record(former) == without_record(entry)
        && former.servers.len() == entry.servers.len()
        && entry.servers.iter().all(is_known)
}

fn nat_servers(entry: &ServiceEntry) -> impl Iterator<Item = &Server> {
    let servers = entry.servers.values().flat_map(ServerEntry::all);
    servers.filter(|server| server.forwarding == Forwarding::Nat)
}
