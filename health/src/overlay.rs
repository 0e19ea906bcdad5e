//! What health changes in the file: the verdicts, and the function that lays them over a configuration.
//!
//! Verdicts go by identity (virtual server; address and port of the real server), so an overlay stays good for the servers
//! that two versions of a file have in common.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;
use weir_config::model::health::{OnFail, ServiceHealth, SorryMode};
use weir_config::model::{Config, Identity, RealServer, VirtualServer};

/// All verdicts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overlay {
    /// By virtual server. One that is missing is as its file says.
    pub services: HashMap<Identity, Arc<ServiceStanding>>,
}

impl Overlay {
    /// Whether a virtual server stands differently in another overlay.
    pub fn differs(&self, other: &Self, service: &Identity) -> bool {
        match (self.services.get(service), other.services.get(service)) {
            (Some(one), Some(other)) => !Arc::ptr_eq(one, other) && one != other,
            (one, other) => one.is_some() != other.is_some(),
        }
    }
}

/// Where a virtual server stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceStanding {
    /// Whether enough of its real servers are up.
    pub has_quorum: bool,
    /// By address and port.
    pub servers: HashMap<(IpAddr, u16), Standing>,
}

/// Where a real server stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Whether it gets new connections.
    pub is_up: bool,
    /// What its weight is.
    pub weight: Weight,
    /// How many connections it takes.
    pub limit: Limit,
}

impl Standing {
    /// Before anything is known of it.
    pub fn unknown(service: &ServiceHealth, server: &RealServer) -> Self {
        Self {
            is_up: !service.alpha || server.health_checks.is_empty(),
            weight: Weight::Configured,
            limit: Limit::Configured,
        }
    }
}

/// What an agent or a file says about the weight of a real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Weight {
    /// Nothing: it is as in the configuration.
    #[default]
    Configured,
    /// So many percent of the configured one, rounded up: only 0 percent is weight 0.
    Percent(u16),
    /// This one.
    Fixed(u16),
}

impl Weight {
    /// The weight of a real server that is configured with `configured`.
    pub fn of(self, configured: u16) -> u16 {
        match self {
            Weight::Configured => configured,
            Weight::Percent(percent) => {
                let weight = (u32::from(configured) * u32::from(percent)).div_ceil(100);
                u16::try_from(weight).unwrap_or(u16::MAX)
            }
            Weight::Fixed(weight) => weight,
        }
    }
}

/// What an agent or a file says about how many connections a real server takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Limit {
    /// Nothing: its thresholds are as in the configuration.
    #[default]
    Configured,
    /// So many, in place of `upper_threshold`; 0: no limit.
    Fixed(u32),
}

impl Limit {
    /// The upper and lower threshold of a real server.
    pub fn of(self, real: &RealServer) -> (u32, u32) {
        match self {
            Limit::Configured => (real.upper_threshold, real.lower_threshold),
            Limit::Fixed(upper) => (upper, real.lower_threshold.min(upper)),
        }
    }
}

/// What is to be served: the file, less what is down, with weights as they are now and sorry servers where they serve.
///
/// Health tables do not reach the result: nothing below has a use for them, and a change of them alone is no change there.
pub fn effective(file: &Config, overlay: &Overlay) -> Config {
    let virtual_servers = file.virtual_servers.iter();
    Config {
        virtual_servers: virtual_servers.map(|server| effective_service(server, overlay)).collect(),
        control: file.control.clone(),
        http: file.http.clone(),
        memory: file.memory.clone(),
        workers: file.workers.clone(),
        connections: file.connections.clone(),
        schedulers: file.schedulers,
        health: file.health.clone(),
        ports: file.ports.clone(),
        routes: file.routes.clone(),
        neighbors: file.neighbors.clone(),
        marks: file.marks.clone(),
        vrrp: file.vrrp.clone(),
        vrrp_groups: file.vrrp_groups.clone(),
        announces: file.announces.clone(),
        sync: file.sync.clone(),
    }
}

/// What is to be served of one virtual server of the file.
pub fn effective_service(file: &VirtualServer, overlay: &Overlay) -> VirtualServer {
    let standing = overlay.services.get(&file.identity());
    let sorry = file.health.sorry_server.as_ref().filter(|_| standing.is_some_and(|it| !it.has_quorum));
    let replaces = sorry.is_some() && file.health.sorry_mode == SorryMode::Replace;
    let mut real_servers = Vec::with_capacity(file.real_servers.len() + 1);
    for real in &file.real_servers {
        let key = (real.address, real.port);
        if sorry.is_some_and(|sorry| (sorry.address, sorry.port) == key) {
            continue;
        }
        let known = standing.and_then(|it| it.servers.get(&key)).copied();
        let known = known.unwrap_or_else(|| Standing::unknown(&file.health, real));
        let weight = match (known.is_up, real.on_fail) {
            (true, _) if replaces => 0,
            (true, _) => known.weight.of(real.weight),
            (false, OnFail::Quiesce) => 0,
            (false, OnFail::Remove) => continue,
        };
        real_servers.push(bare(real, weight, known.limit));
    }
    real_servers.extend(sorry.map(|sorry| bare(sorry, sorry.weight, Limit::Configured)));
    VirtualServer {
        name: file.name.clone(),
        mark: file.mark,
        address: file.address,
        port: file.port,
        protocol: file.protocol,
        scheduler: file.scheduler,
        scheduler_flags: file.scheduler_flags,
        persistence: file.persistence,
        one_packet: file.one_packet,
        clamp_mss: file.clamp_mss,
        helper: file.helper,
        real_servers,
        health: ServiceHealth::default(),
    }
}

fn bare(real: &RealServer, weight: u16, limit: Limit) -> RealServer {
    let (upper_threshold, lower_threshold) = limit.of(real);
    RealServer {
        address: real.address,
        port: real.port,
        weight,
        forwarding: real.forwarding,
        tunnel: real.tunnel,
        upper_threshold,
        lower_threshold,
        health_checks: Vec::new(),
        on_fail: OnFail::default(),
        agent: None,
        weight_file: None,
        hooks: None,
    }
}
