//! Changes of a few virtual servers, as verdicts of the health checks are: what they cost is in proportion to them, not to
//! the configuration.
//!
//! A [`Journal`] remembers which virtual servers changed in which generation. A snapshot that is not in force any more is
//! behind by a generation or two: it is brought up to date in place, by what the journal says, and is the next one. What it
//! shares with one that is still held is copied first ([`Arc::make_mut`]), so that it does not matter who holds what.
//!
//! Numbers of real servers that are gone are given back by whole configurations alone.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use weir_config::model::{Config, Forwarding, Identity, VirtualServer};

use super::numbers::Numbers;
use super::{Draft, Registry, RegistryError, ServerEntry, ServiceEntry, all_servers, nobody, served};
use crate::address::Addr4;
use crate::snapshot::nat::socket_of;
use crate::snapshot::server::Server;
use crate::snapshot::{NatServer, Origin, Snapshot};

/// Generations of amendments that are remembered. Whoever holds a snapshot for longer costs a copy.
const REMEMBERED: usize = 64;
/// Room for real servers beyond the highest number, so that one more does not mean another place for all.
const SPARE_SERVERS: usize = 64;

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

impl Registry {
    /// The next snapshot, which differs from the last one in the real servers of these virtual servers and in their weights.
    /// `config` is what the last whole snapshot was made of, as far as that matters here: its real servers need not agree.
    /// `base` is any snapshot of this registry; it takes the least time with one that nobody else holds.
    ///
    /// `None`: this takes a whole snapshot, for a mark or a virtual server of all ports is among them, or one that is
    /// new, or `base` is too old.
    ///
    /// # Errors
    /// The registry is then as it was.
    pub fn amend(
        &mut self,
        base: Snapshot,
        changed: &[VirtualServer],
        config: &Config,
    ) -> Result<Option<Snapshot>, RegistryError> {
        // What replies of the others are looked up by may depend on who else is there.
        let is_plain = |wanted: &VirtualServer| {
            let known = self.services.get(&wanted.identity());
            wanted.mark.is_none() && wanted.port != 0 && known.is_some_and(|entry| entry.current.is_some())
        };
        let Some(mut behind) = self.journal.after(base.generation) else { return Ok(None) };
        if !changed.iter().all(is_plain) {
            return Ok(None);
        }
        changed.iter().try_for_each(served::check_service)?;
        let generation = self.generation + 1;
        let numbers = mem::take(&mut self.numbers);
        let before = numbers.state();
        let services = HashMap::with_capacity(changed.len());
        let mut draft =
            Draft { services, used_services: HashSet::new(), next_service: 0, numbers, relieved: Vec::new() };
        let placed = changed.iter().try_for_each(|wanted| {
            let key = wanted.identity();
            draft.services.insert(key, self.services[&key].clone());
            self.place(&mut draft, wanted, config, &base.routes)
        });
        if let Err(refused) = placed {
            // What was taken in vain is free again.
            self.numbers = Numbers::without(all_servers(&self.services).map(|server| server.id));
            return Err(refused);
        }
        draft.relieve();
        self.numbers = draft.numbers;
        if self.numbers.state() != before {
            self.numbers_generation = generation;
        }
        for (key, mut entry) in draft.services {
            let gone = entry.servers.values_mut().filter(|server| !server.server.is_present);
            for server in gone {
                if *server.removed.get_or_insert(generation) == generation {
                    self.ended_since = generation;
                }
            }
            self.services.insert(key, entry);
            self.renew_sockets(&key);
        }
        self.generation = generation;
        let changed: Vec<Identity> = changed.iter().map(VirtualServer::identity).collect();
        behind.extend(&changed);
        self.journal.write(generation, changed);
        Ok(Some(self.brought_up_to_date(base, &behind)))
    }

    /// Which of its sockets a virtual server has now.
    fn renew_sockets(&mut self, key: &Identity) {
        let Some(entry) = self.services.get(key) else { return };
        let Some((wanted, ..)) = &entry.current else { return };
        for server in nat_servers(entry) {
            self.nat_sockets.remove(socket_of(server, wanted.protocol), entry.id);
        }
        let Some(vip) = Addr4::of(wanted.address) else { return };
        let origin = Origin { vip, port: wanted.port, one_packet: wanted.one_packet };
        let its = NatServer { any_port: false, is_left: false, origin: Some(origin) };
        for server in nat_servers(entry).filter(|server| !server.is_left()) {
            self.nat_sockets.insert(server, wanted.protocol, its);
        }
        for server in nat_servers(entry).filter(|server| server.is_left()) {
            self.nat_sockets.insert_left(server, wanted.protocol, its);
        }
    }

    fn brought_up_to_date(&self, mut base: Snapshot, behind: &HashSet<Identity>) -> Snapshot {
        base.generation = self.generation;
        base.numbers_generation = self.numbers_generation;
        base.ended_since = self.ended_since;
        let entries = || behind.iter().filter_map(|key| self.services.get(key));
        let numbers = entries().flat_map(|entry| entry.servers.values()).flat_map(ServerEntry::all);
        let numbers = numbers.map(|server| server.id.index());
        let highest = numbers.max().unwrap_or_default();
        if base.servers.len() <= highest {
            let mut servers = base.servers.to_vec();
            servers.resize(highest + SPARE_SERVERS, nobody(self.workers));
            base.servers = servers.into();
        }
        let services = Arc::make_mut(&mut base.services);
        let servers = Arc::make_mut(&mut base.servers);
        let sockets = Arc::make_mut(&mut base.nat_servers);
        for entry in entries() {
            let Some((wanted, _, service)) = &entry.current else { continue };
            services[usize::from(entry.id.0)] = Some(service.clone());
            for server in entry.servers.values().flat_map(ServerEntry::all) {
                servers[server.id.index()] = self.bound(server);
            }
            for socket in nat_servers(entry).map(|server| socket_of(server, wanted.protocol)) {
                match self.nat_sockets.at(socket) {
                    Some(server) => _ = sockets.insert(socket, server),
                    None => _ = sockets.remove(&socket),
                }
            }
        }
        base
    }
}

fn nat_servers(entry: &ServiceEntry) -> impl Iterator<Item = &Server> {
    let servers = entry.servers.values().flat_map(ServerEntry::all);
    servers.filter(|server| server.forwarding == Forwarding::Nat)
}
