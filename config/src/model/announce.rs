//! Announcing in its checked form: which VIPs become routes of the kernel's, for a routing daemon beside weir to pass on.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::mark::Family;
use super::{Config, VirtualServer};

/// `[[announce]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announce {
    /// VIPs, and networks whose VIPs are meant. Empty: every VIP of the file.
    pub vips: Vec<IpNet>,
    /// What its virtual servers must have.
    pub quorum: AnnounceQuorum,
    /// The kernel's table: not 0, and not its own (255).
    pub table: u32,
    /// The metric of the routes, above 0: those of 0 are not one thing in both families.
    pub metric: u32,
    /// The metric while weir lingers, above `metric`. `None`: there is no route then.
    pub draining_metric: Option<u32>,
    /// The number that says who made a route: none of the kernel's or of a routing daemon.
    pub protocol: u8,
    /// The device that weir makes for the routes to lead to. No `host_interface` of a port.
    pub interface: String,
}

impl Announce {
    /// The kernel's table `main`.
    pub const MAIN: u32 = 254;
    /// What [`Announce::protocol`] is unless the file says otherwise: free in /etc/iproute2/rt_protos.
    pub const PROTOCOL: u8 = 119;
}

/// How many of the virtual servers of a VIP must have their quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnnounceQuorum {
    /// One of them.
    Any,
    /// Each.
    All,
    /// Not even one.
    Ignore,
}

/// A route that is to be there while its VIP is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// A VIP with full length, or a network of a mark.
    pub net: IpNet,
    /// Index into [`Config::announces`].
    pub entry: usize,
    /// Indexes into [`Config::virtual_servers`], ascending, at least one.
    pub servers: Vec<usize>,
    /// Index into [`Config::vrrp`]: the instance that the VIP comes and goes with.
    pub instance: Option<usize>,
}

impl Config {
    /// Every route that may be announced, by entry and in the order of virtual servers. What two entries would put into one table, the
    /// first one does.
    pub fn announced(&self) -> Vec<Announced> {
        if self.announces.is_empty() {
            return Vec::new();
        }
        let held = self.vrrp.iter().enumerate();
        let held: HashMap<IpAddr, usize> =
            held.flat_map(|(index, it)| it.addresses.iter().map(move |address| (*address, index))).collect();
        let mut routes: Vec<Announced> = Vec::new();
        let mut places = HashMap::new();
        for (entry, announce) in self.announces.iter().enumerate() {
            for (server, net) in self.served_nets() {
                if !announce.has(net) {
                    continue;
                }
                match places.entry((net, announce.table)) {
                    Entry::Occupied(place) => {
                        let route: &mut Announced = &mut routes[*place.get()];
                        if route.entry == entry && route.servers.last() != Some(&server) {
                            route.servers.push(server);
                        }
                    }
                    Entry::Vacant(free) => {
                        free.insert(routes.len());
                        let instance = held
                            .get(&net.addr())
                            .copied()
                            .filter(|_| net.prefix_len() == net.max_prefix_len());
                        routes.push(Announced { net, entry, servers: vec![server], instance });
                    }
                }
            }
        }
        routes
    }

    /// What each virtual server serves, with its index.
    fn served_nets(&self) -> impl Iterator<Item = (usize, IpNet)> + '_ {
        let mut marked: HashMap<(u32, Family), HashSet<IpNet>> = HashMap::new();
        for mark in &self.marks {
            for net in &mark.addresses {
                marked.entry((mark.mark, Family::of(net.addr()))).or_default().insert(*net);
            }
        }
        let nets = move |server: &VirtualServer| match server.mark {
            None => vec![IpNet::from(server.address)],
            Some(mark) => {
                let nets = marked.get(&(mark, server.family())).into_iter().flatten();
                let mut nets: Vec<IpNet> = nets.copied().collect();
                nets.sort();
                nets
            }
        };
        let servers = self.virtual_servers.iter().enumerate();
        servers.flat_map(move |(index, server)| nets(server).into_iter().map(move |net| (index, net)))
    }
}

impl Announce {
    /// Whether this is to be announced. A network is only where one is written that holds it: a mark may stand for the whole Internet.
    fn has(&self, net: IpNet) -> bool {
        let is_host = net.prefix_len() == net.max_prefix_len();
        self.vips.is_empty() && is_host || self.vips.iter().any(|wanted| wanted.contains(&net))
    }
}
