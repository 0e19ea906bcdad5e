//! From configuration to snapshots: what keeps its number, its counters and its place in the round from one
//! snapshot to the next. Control's; nothing here runs on the packet path.
//!
//! A change of the configuration is applied as ipvsadm would: real servers that are gone are deleted, those that
//! stay are edited in their place, new ones are added at the head of the list in the order of the file. Lists of methods without a state
//! are in the order of the file (`lists.rs`).
//!
//! A removed real server keeps its number as long as records may name it: until every worker has seen a snapshot
//! without it and has counted all its connections out. Until then it comes back to its old connections if it is
//! configured again, as from the kernel's trash list.

mod addresses;
mod amend;
mod error;
mod lists;
mod numbers;
mod parts;
mod resume;
mod served;
#[cfg(test)]
pub(super) mod tests;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crossbeam::utils::CachePadded;
use hashbrown::{HashMap, HashSet};
use weir_config::model::{
    Config, Engine, Identity, Mark, Persistence, RealServer, Scheduler as Kind, Schedulers, VirtualServer,
};

use super::addressing::Addressing;
use super::destinations::Destinations;
use super::far::Far;
use super::ipv6::{Ipv6, Numbers6};
use super::masters::{Held, VirtualRouters};
use super::nat::NatSockets;
use super::ranks::{Arrivals, Noted, Ranks};
use super::rates::Estimator;
use super::routes::Routes;
use super::server::{Live, Server};
use super::service::{Epoch, Service};
use super::traffic::Traffic;
use super::virtual_router::Fence;
use super::{Bindings, Familiar, Port, Snapshot, address_of};
use crate::conn::record::{ServerId, ServiceId};
use crate::conn::state::Lifetimes;
use crate::conn::template::Templates;
use crate::sched::{MaglevKeys, Options, Scheduler, ServiceDescription, State};
use crate::stats::WorkerCounters;
use crate::wire::ethernet::MacAddress;
use addresses::Addresses;
pub use amend::Change;
use amend::{Journal, with_spare};
pub use error::RegistryError;
use lists::{candidates, entrants, in_order, list};
use numbers::Numbers;
pub use parts::vips;
use parts::{Place, make_bindings, make_port, make_server, make_switches, nobody};
pub use resume::{Named, Resumed, Standing, Ties};
pub use served::{NotServed, check};

/// How far the workers are, those that are furthest behind.
#[derive(Clone, Copy, Default)]
pub struct Progress<'a> {
    /// The oldest generation that any worker may still use.
    pub seen: u64,
    /// No record is left of what was over when this generation came.
    pub swept: u64,
    /// The workers' persistence templates, which may name real servers that have no connections.
    pub templates: Option<&'a Templates>,
}

impl<'a> Progress<'a> {
    /// Of these workers, and their templates. What they counted until then is seen by whoever counts afterwards: see
    /// [`crate::stats::Milestone`].
    pub fn of<'w>(
        workers: impl Iterator<Item = &'w WorkerCounters>,
        templates: Option<&'a Templates>,
    ) -> Self {
        let of = |counters: &WorkerCounters| (counters.generation.get(), counters.swept.get());
        let least = workers.map(of).reduce(|a, b| (a.0.min(b.0), a.1.min(b.1)));
        least.map_or_else(Self::default, |(seen, swept)| Self { seen, swept, templates })
    }
}

/// What identifies a real server within its virtual server.
pub type ServerKey = (IpAddr, u16);

#[derive(Clone)]
struct ServiceEntry {
    id: ServiceId,
    /// `None`: removed.
    current: Option<(VirtualServer, ServiceDescription, Arc<Service>)>,
    servers: HashMap<ServerKey, ServerEntry>,
    /// `None`: its list is walked.
    noted: Option<Noted>,
    epoch: Epoch,
    /// What templates of this epoch are by, see [`Persistence::tied_by`]; `None`: there are none.
    tied_by: Option<(u8, Option<Engine>)>,
    /// What those have carried that are no longer in `servers`: totals of a virtual server never go back.
    retired: Traffic,
}

impl ServiceEntry {
    /// It is not served any more. Connections of its real servers may linger.
    fn remove(&mut self) {
        self.current = None;
        self.tied_by = None;
        self.servers.values_mut().for_each(ServerEntry::set_absent);
    }

    /// What it has carried so far, with that of removed real servers.
    fn carried(&self) -> Traffic {
        let mut sum = self.retired;
        self.servers.values().for_each(|server| sum += server.live.traffic());
        sum
    }
}

#[derive(Clone)]
struct ServerEntry {
    /// What its scheduler knows it by, through all edits: the number that it had first.
    name: ServerId,
    live: Arc<Live>,
    upper_threshold: u32,
    /// The generation that came without it.
    removed: Option<u64>,
    /// As of the last snapshot that had it.
    server: Server,
    /// What it was before edits of its method or port, for connections that began then. At most one for each of those.
    formers: Vec<Former>,
}

#[derive(Clone)]
struct Former {
    server: Server,
    /// The generation that made it one.
    since: u64,
}

impl ServerEntry {
    /// With all its numbers.
    fn all(&self) -> impl Iterator<Item = &Server> {
        std::iter::once(&self.server).chain(self.formers.iter().map(|former| &former.server))
    }

    /// Whether an edit takes its overload flag away, as in the kernel: it has no upper threshold then, or a higher one.
    fn gets_room(&self, real: &RealServer) -> bool {
        real.upper_threshold == 0 || real.upper_threshold > self.upper_threshold
    }

    fn set_absent(&mut self) {
        self.server.is_present = false;
        self.formers.iter_mut().for_each(|former| former.server.is_present = false);
    }

    /// Its numbers that no record names any more, if `progress` is as told.
    fn idle(&self, progress: &Progress<'_>) -> impl Iterator<Item = ServerId> {
        let is_over = move |since: u64| since <= progress.seen && self.live.total() == 0;
        let whole = self.removed.is_some_and(is_over).then_some(self.server.id);
        let formers = self.formers.iter().filter(move |former| is_over(former.since));
        whole.into_iter().chain(formers.map(|former| former.server.id))
    }
}

/// See the module.
pub struct Registry {
    workers: usize,
    options: Options,
    generation: u64,
    /// See [`Snapshot::ended_since`].
    ended_since: u64,
    services: HashMap<Identity, ServiceEntry>,
    /// Numbers of virtual servers are free from here on.
    services_end: u16,
    addresses: Addresses,
    numbers6: Numbers6,
    /// When the youngest epoch of persistence began.
    epochs_since: u64,
    /// `None`: there was no snapshot yet.
    lifetimes: Option<Lifetimes>,
    /// Real servers that were edited, though they may be as they were: for the next whole configuration.
    edited: HashMap<Identity, Vec<ServerKey>>,
    /// Kinds of hash that connections may have had so far: by the client, by the client and the port.
    hashes: [bool; 2],
    /// Some virtual server has or had persistence.
    was_persistent: bool,
    /// Some mark has or had a network whose addresses share numbers.
    had_wide_marks: bool,
    /// Static neighbours, and the generation that brought them.
    bindings: (Arc<Bindings>, u64),
    /// By port number.
    fences: Vec<Arc<Fence>>,
    arrivals: Arc<Arrivals>,
    /// Those of real servers that are free.
    numbers: Numbers,
    /// The generation in which some were given or taken.
    numbers_generation: u64,
    nat_sockets: NatSockets,
    journal: Journal,
    /// Real servers that amendments have removed.
    left: usize,
    /// It began with numbers of a process before.
    has_resumed: bool,
}

/// What is under construction; the registry changes only when all of it stands.
struct Draft {
    services: HashMap<Identity, ServiceEntry>,
    used_services: HashSet<u16>,
    next_service: u16,
    numbers: Numbers,
    /// Real servers that an edit gives room: none is overloaded any more when this stands.
    relieved: Vec<Arc<Live>>,
}

impl Registry {
    /// For this many workers. `options` holds the schedulers' seeds and sizes.
    pub fn new(workers: usize, options: Options) -> Self {
        Self {
            workers,
            options,
            generation: 0,
            ended_since: 0,
            services: HashMap::new(),
            services_end: 0,
            addresses: Addresses::default(),
            numbers6: Numbers6::default(),
            epochs_since: 0,
            lifetimes: None,
            edited: HashMap::new(),
            hashes: [false; 2],
            was_persistent: false,
            had_wide_marks: false,
            bindings: Default::default(),
            fences: Vec::new(),
            arrivals: Arrivals::new(workers),
            numbers: Numbers::default(),
            numbers_generation: 0,
            nat_sockets: NatSockets::default(),
            journal: Journal::default(),
            left: 0,
            has_resumed: false,
        }
    }

    /// The next snapshot has all VIPs announced, though they are the same as before.
    pub fn announce(&mut self) {
        self.addresses.announce();
    }

    /// With the fences of the ports' virtual routers, by port number.
    pub fn with_fences(self, fences: Vec<Arc<Fence>>) -> Self {
        Self { fences, ..self }
    }

    /// The snapshot of `config`, without a virtual router that is master ([`Snapshot::set_masters`]). `macs` are the ports'
    /// Ethernet addresses.
    ///
    /// # Errors
    /// The registry is then as it was.
    pub fn snapshot(
        &mut self,
        config: &Config,
        macs: &[MacAddress],
        progress: Progress<'_>,
    ) -> Result<Snapshot, RegistryError> {
        let edited = std::mem::take(&mut self.edited);
        check(config)?;
        let generation = self.generation + 1;
        let numbers6 = self.numbers6.next(config, generation, progress.swept)?;
        let routes = Routes::new(config);
        let mut draft = self.draft(&progress);
        let mut wanted = HashSet::new();
        for virtual_server in &config.virtual_servers {
            let identity = virtual_server.identity();
            wanted.insert(identity);
            let edited = edited.get(&identity).map_or(&[][..], Vec::as_slice);
            self.place(&mut draft, (virtual_server, edited), config, &routes)?;
        }
        for (_, entry) in draft.services.iter_mut().filter(|(key, _)| !wanted.contains(*key)) {
            entry.remove();
        }
        for entry in draft.services.values_mut() {
            for server in entry.servers.values_mut().filter(|server| !server.server.is_present) {
                server.removed.get_or_insert(generation);
            }
        }
        self.addresses.renumber((config, &numbers6), generation, progress.swept)?;
        draft.relieve();
        self.numbers6 = numbers6;
        self.services = draft.services;
        self.numbers = draft.numbers;
        self.numbers_generation = generation;
        // The first one ends nothing, if no process was before. Which of the others do is not worth finding out.
        self.ended_since = if self.generation == 0 && !self.has_resumed { 0 } else { generation };
        self.generation = generation;
        self.journal = Journal::begin(generation);
        self.left = 0;
        self.was_persistent |= config.virtual_servers.iter().any(|server| server.persistence.is_some());
        self.had_wide_marks |=
            config.marks.iter().flat_map(|mark| &mark.addresses).any(|net| !Mark::is_numbered(net));
        let bindings = make_bindings(config);
        if bindings != *self.bindings.0 {
            self.bindings = (Arc::new(bindings), generation);
        }
        Ok(self.assemble(config, macs, routes))
    }

    /// The present state less what nothing refers to any more.
    fn draft(&self, progress: &Progress<'_>) -> Draft {
        let mut services = self.services.clone();
        let servers = services.values().flat_map(|entry| entry.servers.values());
        let idle: HashSet<ServerId> = servers.flat_map(|server| server.idle(progress)).collect();
        // Reads the whole table of templates, so it is left out where there can't be any.
        let named = match progress.templates {
            Some(templates) if self.was_persistent && !idle.is_empty() => templates.names(&idle),
            _ => HashSet::new(),
        };
        let is_used = |server: &Server| !idle.contains(&server.id) || named.contains(&server.id);
        services.retain(|_, entry| {
            entry.servers.retain(|_, known| {
                let is_needed = known.all().any(is_used);
                if !is_needed {
                    entry.retired += known.live.traffic();
                }
                let name = known.name;
                known.formers.retain(|former| former.server.id == name || is_used(&former.server));
                is_needed
            });
            entry.current.is_some() || !entry.servers.is_empty()
        });
        Draft {
            numbers: Numbers::without(all_servers(&services).map(|server| server.id)),
            used_services: services.values().map(|entry| entry.id.0).collect(),
            services,
            next_service: 0,
            relieved: Vec::new(),
        }
    }

    /// How many real servers are gone whose numbers only a whole configuration gives back.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Has the next whole configuration take this real server as edited, though it may be as it was.
    pub fn edited_in_whole(&mut self, service: Identity, server: ServerKey) {
        self.edited.entry(service).or_default().push(server);
    }

    /// Puts one virtual server into the draft, with those of its real servers that were edited though they may be as they were.
    fn place(
        &self,
        draft: &mut Draft,
        (wanted, edited): (&VirtualServer, &[ServerKey]),
        config: &Config,
        routes: &Routes,
    ) -> Result<(), RegistryError> {
        let key = wanted.identity();
        let mut entry = match draft.services.remove(&key) {
            Some(entry) => entry.in_epoch_of(wanted, self.generation + 1),
            None => ServiceEntry {
                id: draft.service_id()?,
                current: None,
                servers: HashMap::new(),
                noted: None,
                epoch: Epoch::default(),
                tied_by: wanted.persistence.map(Persistence::tied_by),
                retired: Traffic::default(),
            },
        };
        entry.servers.values_mut().for_each(ServerEntry::set_absent);
        entry.renew_journal(wanted, self.workers, self.generation + 1);
        for real in &wanted.real_servers {
            let key = (real.address, real.port);
            let old = entry.servers.remove(&key);
            let (live, name, id) = match &old {
                Some(old) => (old.live.clone(), old.name, old.server.id),
                None => {
                    let id = draft.numbers.take()?;
                    (Live::new(self.workers), id, id)
                }
            };
            let journal = entry.noted.as_ref().map(|noted| &noted.journal);
            let make = |real: &RealServer, id| {
                let (journal, live) = (journal.cloned(), live.clone());
                make_server(
                    wanted,
                    real,
                    config,
                    routes,
                    Place { id, name, service: entry.id, journal, live },
                )
            };
            let next = match old {
                Some(old) => {
                    if old.gets_room(real) {
                        draft.relieved.push(live.clone());
                    }
                    self.changed(old, real, make, &mut draft.numbers)?
                }
                None => ServerEntry {
                    name,
                    upper_threshold: real.upper_threshold,
                    removed: None,
                    server: make(real, id)?,
                    formers: Vec::new(),
                    live,
                },
            };
            entry.servers.insert(key, next);
        }
        entry.current = Some(self.renew(&entry, (wanted, edited), &config.schedulers)?);
        draft.services.insert(key, entry);
        Ok(())
    }

    /// A real server that was there before, as the file has it now. Connections keep the method and the port that they began
    /// with, as in the kernel: an edit of these gives it another number, and leaves the one before to them.
    fn changed(
        &self,
        mut entry: ServerEntry,
        real: &RealServer,
        make: impl Fn(&RealServer, ServerId) -> Result<Server, RegistryError>,
        numbers: &mut Numbers,
    ) -> Result<ServerEntry, RegistryError> {
        let mut server = make(real, entry.server.id)?;
        let is_bound_alike =
            |other: &Server| (other.forwarding, other.port) == (server.forwarding, server.port);
        if !is_bound_alike(&entry.server) {
            // What it was before it may become again.
            let known = entry.formers.iter().position(|former| is_bound_alike(&former.server));
            let id = match known {
                Some(at) => entry.formers.swap_remove(at).server.id,
                None => numbers.take()?,
            };
            entry.formers.push(Former { server: entry.server.clone(), since: self.generation + 1 });
            server = Server { id, current: id, ..server };
        }
        if server.helper_port == 0 && server.forwarding == entry.server.forwarding {
            server.helper_port = entry.server.helper_port;
        }
        for former in &mut entry.formers {
            let Server { id, port, forwarding, .. } = former.server;
            let as_before = make(&RealServer { forwarding, ..real.clone() }, id)?;
            let helper_port = former.server.helper_port;
            former.server = Server { port, helper_port, current: server.id, ..as_before };
        }
        Ok(ServerEntry { upper_threshold: real.upper_threshold, removed: None, server, ..entry })
    }

    /// The scheduler and its state for the new list of a virtual server.
    fn renew(
        &self,
        entry: &ServiceEntry,
        (wanted, edited): (&VirtualServer, &[ServerKey]),
        schedulers: &Schedulers,
    ) -> Result<(VirtualServer, ServiceDescription, Arc<Service>), RegistryError> {
        let options = self.options(schedulers);
        if let Some(current) = &entry.current
            && current.0 == *wanted
            && current.1.options == options
            && edited.is_empty()
        {
            return Ok(current.clone());
        }
        let old = entry.current.as_ref();
        let mut description = ServiceDescription {
            scheduler: wanted.scheduler,
            flags: wanted.scheduler_flags,
            options,
            servers: list(entry, wanted, old.map(|(_, description, _)| description)),
        };
        if let Some((_, old, _)) = old {
            description.follow(old);
            let names = edited.iter().filter_map(|key| Some(entry.servers.get(key)?.name.0));
            description.revise(old, &names.collect::<Vec<_>>());
        }
        let scheduler = Scheduler::build(&description)
            .map_err(|source| RegistryError::Scheduler { name: wanted.name.clone(), source })?;
        let state = (0..self.workers)
            .map(|worker| {
                CachePadded::new(match old {
                    Some((_, old, service)) => service.state[worker].carry_over(old, &description),
                    None => State::new(&description, worker as u32, self.workers as u32),
                })
            })
            .collect();
        let in_order = in_order(entry, &description);
        let service = Service {
            id: entry.id,
            name: wanted.name.clone(),
            mark: wanted.mark.and_then(NonZeroU32::new),
            address: wanted.address,
            port: wanted.port,
            protocol: wanted.protocol,
            persistence: wanted.persistence,
            epoch: entry.epoch,
            one_packet: wanted.one_packet,
            is_simple: wanted.persistence.is_none() && wanted.mark.is_none() && wanted.clamp_mss.is_none(),
            clamp_mss: wanted.clamp_mss,
            ranks: self.ranks(&in_order, wanted.scheduler, entry.noted.clone()),
            list: candidates(&in_order),
            entrants: Box::new(entrants(&in_order)),
            scheduler,
            state,
            rates: match old {
                Some((_, _, service)) => service.rates.clone(),
                None => Arc::new(Estimator::new(entry.carried())),
            },
            method: wanted.scheduler,
            scheduler_flags: wanted.scheduler_flags,
        };
        Ok((wanted.clone(), description, Arc::new(service)))
    }

    /// What is remembered of a list for picks of the least loaded server, if it is long.
    fn ranks(&self, in_order: &[&ServerEntry], method: Kind, noted: Option<Noted>) -> Option<Box<Ranks>> {
        let names: Vec<u32> = in_order.iter().map(|server| server.name.0).collect();
        Ranks::new(&names, method, noted?, self.arrivals.clone()).map(Box::new)
    }

    /// Seeds of the process, sizes and times of the file.
    fn options(&self, schedulers: &Schedulers) -> Options {
        Options {
            maglev_table_size: schedulers.mh_table_size,
            maglev_keys: MaglevKeys::from_seed(schedulers.mh_seed),
            lblc_expiration_secs: schedulers.lblc_expiration,
            lblcr_expiration_secs: schedulers.lblcr_expiration,
            ..self.options.clone()
        }
    }

    /// A real server as workers see it, with its static neighbour.
    fn bound(&self, server: &Server) -> Server {
        let bindings = &self.bindings.0;
        let bind = |far: &Far| Far { bound: far.way.and_then(|way| bindings.of6(way.hop)), ..*far };
        let far = server.far.as_deref().map(|far| Arc::new(bind(far)));
        Server { bound: bindings.of(server.hop), far, ..server.clone() }
    }

    fn assemble(&mut self, config: &Config, macs: &[MacAddress], routes: Routes) -> Snapshot {
        let ports: Box<[Port]> =
            (0..config.ports.len()).zip(macs).map(|(number, mac)| make_port(config, number, *mac)).collect();
        let virtual_routers = VirtualRouters::new(config, &self.fences, &self.numbers6);
        let size = self.services.values().map(|entry| usize::from(entry.id.0) + 1).max().unwrap_or(0);
        self.services_end = size as u16;
        let mut services: Vec<Option<Arc<Service>>> = vec![None; size];
        let mut retired = vec![Traffic::default(); size];
        let mut servers = vec![nobody(self.workers)];
        let vips = self.addresses.vips();
        let mut addressing = Addressing::new(config, &ports, (&vips, &self.numbers6), &virtual_routers);
        for entry in self.services.values() {
            retired[usize::from(entry.id.0)] = entry.retired;
            for server in entry.servers.values().flat_map(ServerEntry::all) {
                if servers.len() <= server.id.index() {
                    servers.resize(server.id.index() + 1, servers[0].clone());
                }
                servers[server.id.index()] = self.bound(server);
            }
            if let Some((wanted, _, service)) = &entry.current {
                services[usize::from(entry.id.0)] = Some(service.clone());
                let servers: Vec<&Server> = entry.servers.values().flat_map(ServerEntry::all).collect();
                addressing.add(wanted, entry.id, servers.iter().copied());
            }
        }
        servers.resize(with_spare(servers.len()), servers[0].clone());
        services.resize(with_spare(size), None);
        retired.resize(with_spare(size), Traffic::default());
        let (marks, marks6) = (addressing.marks(), addressing.marks6());
        let Addressing {
            virtual_servers,
            virtual_servers6,
            nat_sockets,
            locals,
            mut announcements,
            hashes,
            helped_vips,
            ..
        } = addressing;
        let asked_for = virtual_servers.keys().map(|socket| address_of(*socket));
        let broadcasts = ports.iter().flat_map(Port::broadcasts);
        let own = locals.keys().copied().chain(broadcasts);
        let familiar = own.chain(virtual_routers.addresses()).chain(asked_for).collect();
        let familiar = Familiar::new(&familiar);
        announcements.sort_unstable();
        self.addresses.assembled(announcements, familiar.room());
        self.epochs_since = self.services.values().map(|entry| entry.epoch.since).max().unwrap_or(0);
        let lifetimes = Lifetimes::new(&config.connections.timeouts);
        self.lifetimes = Some(lifetimes.clone());
        self.nat_sockets = nat_sockets;
        let has_marks = marks.is_some() || marks6.is_some();
        self.hashes = [self.hashes[0] || hashes[0] || has_marks, self.hashes[1] || hashes[1]];
        let (bindings, bindings_generation) = self.bindings.clone();
        let mut snapshot = Snapshot {
            generation: self.generation,
            numbers_generation: self.numbers_generation,
            edition: 0,
            routes,
            lifetimes,
            switches: make_switches(config),
            bindings,
            bindings_generation,
            announcements: self.addresses.announcements().list.clone(),
            announcements_first: self.addresses.announcements().first,
            ports,
            vips,
            epochs_since: self.epochs_since,
            ended_since: self.ended_since,
            has_persistence: services.iter().flatten().any(|service| service.persistence.is_some()),
            has_both_hashes: self.hashes == [true; 2],
            may_share_numbers: self.had_wide_marks,
            virtual_servers: Arc::new(Destinations::new(virtual_servers.into_iter(), |address| {
                virtual_routers.router_of(address)
            })),
            ipv6: Ipv6::new(self.numbers6.clone(), virtual_servers6, marks6, &virtual_routers),
            marks,
            forgetful: forgetful(&services),
            services: services.into(),
            servers: servers.into(),
            retired: retired.into(),
            nat_servers: self.nat_sockets.all(),
            helped_vips: Arc::new(helped_vips),
            locals: Arc::new(locals),
            familiar,
            virtual_routers: Arc::new(virtual_routers),
            arrivals: self.arrivals.clone(),
            held: Held::default(),
        };
        snapshot.set_masters(&HashSet::new());
        snapshot
    }
}

impl ServiceEntry {
    /// The entry with a new epoch, if the templates that there are lose their meaning with `wanted`.
    fn in_epoch_of(mut self, wanted: &VirtualServer, generation: u64) -> Self {
        let tied_by = wanted.persistence.map(Persistence::tied_by);
        if self.tied_by != tied_by {
            self.epoch = Epoch { number: self.epoch.number.wrapping_add(1), since: generation };
            self.tied_by = tied_by;
        }
        self
    }
}

impl ServiceEntry {
    /// Lets changes be noted, or no more, as it is good for what is wanted.
    fn renew_journal(&mut self, wanted: &VirtualServer, workers: usize, generation: u64) {
        let list_len = wanted.real_servers.len();
        let before = self.noted.take();
        let mut noted = Noted::beside(before, list_len, wanted.scheduler, workers, generation);
        if let Some(Noted { journal, since }) = &mut noted {
            // One that returns may have been without for a while.
            let notes =
                |server: &Server| server.journal.as_ref().is_some_and(|its| Arc::ptr_eq(its, journal));
            let mut old =
                wanted.real_servers.iter().filter_map(|real| self.servers.get(&(real.address, real.port)));
            if old.any(|old| !notes(&old.server)) {
                *since = generation;
            }
        }
        self.noted = noted;
    }
}

impl Draft {
    fn relieve(&self) {
        self.relieved.iter().for_each(|live| live.overloaded.store(0, Relaxed));
    }

    fn service_id(&mut self) -> Result<ServiceId, RegistryError> {
        while self.used_services.contains(&self.next_service) {
            self.next_service = self
                .next_service
                .checked_add(1)
                .filter(|&id| id != u16::MAX)
                .ok_or(RegistryError::TooManyServices)?;
        }
        self.used_services.insert(self.next_service);
        Ok(ServiceId(self.next_service))
    }
}

/// Every real server that has a number, with all its numbers.
fn all_servers(services: &HashMap<Identity, ServiceEntry>) -> impl Iterator<Item = &Server> {
    services.values().flat_map(|entry| entry.servers.values()).flat_map(ServerEntry::all)
}

/// Virtual servers whose schedulers forget with time.
fn forgetful(services: &[Option<Arc<Service>>]) -> Arc<[ServiceId]> {
    services
        .iter()
        .flatten()
        .filter(|service| service.scheduler.forgets())
        .map(|service| service.id)
        .collect()
}
