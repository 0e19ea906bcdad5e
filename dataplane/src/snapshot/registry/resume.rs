//! Numbers that connections of a process before have: the registry begins as if it had given them itself, and what the file says now is
//! to it a reload of what was in force then.

use std::net::IpAddr;

use hashbrown::{HashMap, HashSet};
use weir_config::model::{Config, Engine, Forwarding, Identity, RealServer, VirtualServer};

use super::parts::{Place, make_server, nobody};
use super::{Former, Registry, ServerEntry, ServerKey, ServiceEntry};
use crate::conn::record::{ServerId, ServiceId, VipId};
use crate::snapshot::routes::Routes;
use crate::snapshot::server::{Live, Server};
use crate::snapshot::service::Epoch;
use crate::snapshot::traffic::Traffic;

/// What the number of a real server means, whoever reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// Its virtual server.
    pub service: Identity,
    /// The number of that.
    pub service_id: ServiceId,
    /// What it is known by within its virtual server.
    pub server: ServerKey,
    /// How packets reach it.
    pub forwarding: Forwarding,
    /// The port to which they are translated; 0: none.
    pub port: u16,
}

/// What the templates of a virtual server with persistence are by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ties {
    /// The virtual server.
    pub service: Identity,
    /// The number of the epoch.
    pub epoch: u16,
    /// What they are by, see [`weir_config::model::Persistence::tied_by`].
    pub by: (u8, Option<Engine>),
}

/// A real server that connections or templates name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resumed {
    /// Its number.
    pub id: ServerId,
    /// What that means.
    pub named: Named,
    /// Active and inactive connections, by worker.
    pub counts: Vec<[u32; 2]>,
}

/// All that connections and templates of a process before name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// Addresses that clients talk to.
    pub vips: Vec<(VipId, IpAddr)>,
    /// Real servers of virtual servers that the file has, each with another number.
    pub servers: Vec<Resumed>,
    /// Virtual servers with persistence.
    pub ties: Vec<Ties>,
    /// Kinds of hash that connections have: by the client, by the client and the port.
    pub hashes: [bool; 2],
    /// Some connections go by a number that addresses of a wide network share.
    pub shares_numbers: bool,
}

impl Registry {
    /// Begins with these numbers. For one that has made no snapshot yet.
    pub fn resume(&mut self, config: &Config, standing: &Standing) {
        if let Ok(numbers6) = self.numbers6.next(config, 0, 0) {
            self.numbers6 = numbers6;
        }
        self.had_wide_marks = standing.shares_numbers;
        let vips = standing.vips.iter().filter_map(|(number, vip)| Some((self.numbers6.of(*vip)?, *number)));
        self.addresses.resume(vips);
        self.hashes = standing.hashes;
        self.has_resumed = true;
        let routes = Routes::new(config);
        let wanted: HashMap<Identity, &VirtualServer> =
            config.virtual_servers.iter().map(|server| (server.identity(), server)).collect();
        let mut by_service: HashMap<Identity, HashMap<ServerKey, Vec<&Resumed>>> = HashMap::new();
        for server in &standing.servers {
            let named = &server.named;
            by_service.entry(named.service).or_default().entry(named.server).or_default().push(server);
        }
        let ties: HashMap<Identity, &Ties> = standing.ties.iter().map(|ties| (ties.service, ties)).collect();
        let mut used = HashSet::new();
        for (identity, servers) in by_service {
            let (Some(wanted), Some(first)) = (wanted.get(&identity), servers.values().flatten().next())
            else {
                continue;
            };
            let id = free_number(first.named.service_id, &mut used);
            let make = |server: &Resumed, name, live| {
                let place = Place { id: server.id, name, service: id, journal: None, live };
                make_gone(wanted, &server.named, config, &routes, place)
            };
            let servers = servers
                .into_iter()
                .map(|(key, numbers)| (key, self.entry_of(&numbers, make)))
                .filter_map(|(key, entry)| Some((key, entry?)))
                .collect();
            let entry = ServiceEntry {
                id,
                current: None,
                servers,
                noted: None,
                epoch: ties
                    .get(&identity)
                    .map_or_else(Epoch::default, |its| Epoch { number: its.epoch, since: 0 }),
                tied_by: ties.get(&identity).map(|its| its.by),
                retired: Traffic::default(),
            };
            self.services.insert(identity, entry);
        }
    }

    /// A real server by all its numbers.
    fn entry_of(
        &self,
        numbers: &[&Resumed],
        make: impl Fn(&Resumed, ServerId, std::sync::Arc<Live>) -> Server,
    ) -> Option<ServerEntry> {
        let (first, others) = numbers.split_first()?;
        let live = Live::new(self.workers);
        for (worker, tally) in live.workers.iter().enumerate() {
            let counts = numbers.iter().filter_map(|number| number.counts.get(worker));
            let [active, inactive] = counts.fold([0; 2], |sum, its| [sum[0] + its[0], sum[1] + its[1]]);
            tally.active.set(active);
            tally.inactive.set(inactive);
        }
        let former = |number: &&Resumed| Former {
            server: Server { current: first.id, ..make(number, first.id, live.clone()) },
            // Some connection may have it until the workers have looked at all of them.
            since: 1,
        };
        Some(ServerEntry {
            name: first.id,
            upper_threshold: 0,
            removed: None,
            server: make(first, first.id, live.clone()),
            formers: others.iter().map(former).collect(),
            live,
        })
    }
}

/// The number that it had, if nobody else has it.
fn free_number(wanted: ServiceId, used: &mut HashSet<u16>) -> ServiceId {
    let mut numbers = std::iter::once(wanted.0).chain(0..u16::MAX);
    let number = numbers.find(|number| *number != u16::MAX && used.insert(*number));
    number.map_or(ServiceId::NONE, ServiceId)
}

/// A real server that is not there, unless the file says so: with the method and the port that its connections began with.
fn make_gone(
    wanted: &VirtualServer,
    named: &Named,
    config: &Config,
    routes: &Routes,
    place: Place,
) -> Server {
    let (id, service, workers) = (place.id, place.service, place.live.workers.len());
    let (live, name) = (place.live.clone(), place.name.0);
    let (address, port) = named.server;
    let alike = wanted.real_servers.iter().find(|real| (real.address, real.port) == named.server);
    let made = alike.or(wanted.real_servers.first()).and_then(|real| {
        let real = RealServer { address, port, forwarding: named.forwarding, ..real.clone() };
        make_server(wanted, &real, config, routes, place).ok()
    });
    let nobody =
        || Server { id, current: id, service, tallies: live.workers.clone(), name, live, ..nobody(workers) };
    Server {
        is_present: false,
        is_ranked: false,
        port: named.port,
        forwarding: named.forwarding,
        ..made.unwrap_or_else(nobody)
    }
}
