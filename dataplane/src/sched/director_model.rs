//! For tests: a virtual server whose real servers count connections as a director does, and random numbers.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use weir_config::model::{Scheduler as Kind, SchedulerFlags};

use super::{Options, PickKey, Scheduler, ServerDescription, Servers, ServiceDescription, State};

/// Linear congruential numbers, the same in each run.
pub(super) struct Lcg(u64);

impl Lcg {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number in `0..range`.
    pub(super) fn below(&mut self, range: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (((self.0 >> 32) * u64::from(range)) >> 32) as u32
    }
}

/// A real server's counters and thresholds.
#[derive(Debug, Clone, Default)]
pub(super) struct Server {
    pub(super) weight: u32,
    pub(super) active: u32,
    pub(super) inactive: u32,
    pub(super) upper: u32,
    pub(super) lower: u32,
    pub(super) overloaded: bool,
}

impl Server {
    /// Counts a new connection, which is inactive.
    pub(super) fn bind(&mut self) {
        self.inactive += 1;
        if self.upper != 0 && self.active + self.inactive >= self.upper {
            self.overloaded = true;
        }
    }

    /// Sets weight and thresholds, as adding and editing do.
    fn update(&mut self, weight: u32, upper: u32, lower: u32) {
        if upper == 0 || upper > self.upper {
            self.overloaded = false;
        }
        (self.weight, self.upper, self.lower) = (weight, upper, lower);
    }
}

impl Servers for Vec<Server> {
    fn len(&self) -> usize {
        self.as_slice().len()
    }
    fn weight(&self, index: usize) -> u32 {
        self[index].weight
    }
    fn overloaded(&self, index: usize) -> bool {
        self[index].overloaded
    }
    fn active(&self, index: usize) -> u32 {
        self[index].active
    }
    fn inactive(&self, index: usize) -> u32 {
        self[index].inactive
    }
}

/// A virtual server without real servers.
pub(super) fn empty(kind: Kind) -> ServiceDescription {
    let (flags, options) = (SchedulerFlags::default(), Options::default());
    ServiceDescription { scheduler: kind, flags, options, servers: Vec::new() }
}

/// A virtual server with the real servers 10.0.0.1:80, 10.0.0.2:80, ... added in this order.
pub(super) fn description(kind: Kind, weights: &[u32]) -> ServiceDescription {
    let server = |(index, &weight)| {
        let id = index as u32 + 1;
        ServerDescription::new(id, rip(id), 80, weight)
    };
    ServiceDescription { servers: weights.iter().enumerate().map(server).rev().collect(), ..empty(kind) }
}

/// The address of the real server with this id.
pub(super) fn rip(id: u32) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 + id).into()
}

/// A key of a client at 192.0.2.1:40000, for methods that don't look at it.
pub(super) fn any_key() -> PickKey {
    PickKey {
        source: Ipv4Addr::new(192, 0, 2, 1).into(),
        destination: Ipv4Addr::new(10, 0, 0, 100).into(),
        source_port: 40_000,
        now_secs: 0,
    }
}

/// A virtual server at work, with one worker.
pub(super) struct Director {
    pub(super) service: ServiceDescription,
    pub(super) scheduler: Scheduler,
    pub(super) state: State,
    /// In list order.
    pub(super) servers: Vec<Server>,
    /// Deleted servers by id: their connections may still count.
    pub(super) trash: HashMap<u32, Server>,
}

impl Director {
    pub(super) fn from_service(service: ServiceDescription) -> Self {
        Self {
            scheduler: Scheduler::build(&service).unwrap(),
            state: State::new(&service, 0, 1),
            servers: service
                .servers
                .iter()
                .map(|s| Server { weight: s.weight, ..Server::default() })
                .collect(),
            trash: HashMap::new(),
            service,
        }
    }

    /// Real servers as in [`description`].
    pub(super) fn new(kind: Kind, weights: &[u32]) -> Self {
        Self::from_service(description(kind, weights))
    }

    /// Changes the description the way control does.
    pub(super) fn publish(&mut self, next: ServiceDescription) {
        self.scheduler = Scheduler::build(&next).unwrap();
        self.state = self.state.carry_over(&self.service, &next);
        self.service = next;
    }

    pub(super) fn add(&mut self, server: ServerDescription, upper: u32, lower: u32) {
        let mut counters = self.trash.remove(&server.id).unwrap_or_default();
        counters.update(server.weight, upper, lower);
        self.servers.insert(0, counters);
        let mut next = self.service.clone();
        next.servers.insert(0, server);
        self.publish(next);
    }

    pub(super) fn delete(&mut self, index: usize) {
        let mut next = self.service.clone();
        let server = next.servers.remove(index);
        self.trash.insert(server.id, self.servers.remove(index));
        self.publish(next);
    }

    /// Sets the weight and leaves the thresholds.
    pub(super) fn edit(&mut self, index: usize, weight: u32) {
        let Server { upper, lower, .. } = self.servers[index];
        self.edit_all(index, weight, upper, lower);
    }

    pub(super) fn edit_all(&mut self, index: usize, weight: u32, upper: u32, lower: u32) {
        self.servers[index].update(weight, upper, lower);
        let mut next = self.service.clone();
        next.servers[index].edit(weight);
        self.publish(next);
    }

    pub(super) fn index_of(&self, id: u32) -> Option<usize> {
        self.service.servers.iter().position(|server| server.id == id)
    }

    pub(super) fn by_id(&mut self, id: u32) -> &mut Server {
        match self.index_of(id) {
            Some(index) => &mut self.servers[index],
            None => self.trash.entry(id).or_default(),
        }
    }

    /// Asks the scheduler and counts the connection: active for TCP, inactive else.
    pub(super) fn connect(&mut self, key: &PickKey, tcp: bool) -> Option<usize> {
        let index = self.scheduler.pick(&self.state, &self.servers, key)?;
        self.servers[index].bind();
        if tcp {
            self.servers[index].inactive -= 1;
            self.servers[index].active += 1;
        }
        Some(index)
    }

    /// `count` picks as letters: A was added first. `-` is none.
    pub(super) fn picks(&mut self, count: usize, tcp: bool) -> String {
        let letter = |id: u32| char::from(b'@' + id as u8);
        let mut pick = |_| self.connect(&any_key(), tcp).map_or('-', |i| letter(self.service.servers[i].id));
        (0..count).map(&mut pick).collect()
    }
}
