//! Where packets go: connected networks and routes, longest prefix first.

use ipnet::Ipv4Net;
use weir_config::model::Config;

use crate::address::{Addr4, v4_net};
use crate::neighbor::NextHop;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Route {
    network: Addr4,
    mask: Addr4,
    port: usize,
    /// `None`: the destination is a neighbour itself.
    gateway: Option<Addr4>,
}

/// A director has a handful of routes, so a scan in order of prefix length beats a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes(Box<[Route]>);

impl Routes {
    /// The connected networks and the routes of the file.
    pub fn new(config: &Config) -> Self {
        let mut routes = Vec::new();
        for (port, config) in config.ports.iter().enumerate() {
            let networks = config.addresses.iter().filter_map(v4_net);
            routes.extend(networks.map(|net| Route::new(net, port, None)));
        }
        for route in &config.routes {
            // A route from one family into the other has been refused.
            if let (Some(net), Some(gateway)) = (v4_net(&route.destination), Addr4::of(route.gateway)) {
                routes.push(Route::new(net, route.port, Some(gateway)));
            }
        }
        // Stable: of equal prefixes the connected one, then the first of the file.
        routes.sort_by_key(|route| std::cmp::Reverse(route.mask));
        Self(routes.into())
    }

    /// The neighbour that is next on the way to `destination`.
    #[inline]
    pub fn next_hop(&self, destination: Addr4) -> Option<NextHop> {
        let route = self.0.iter().find(|route| destination & route.mask == route.network)?;
        Some(NextHop { port: route.port, address: route.gateway.unwrap_or(destination) })
    }

    /// Whether a route of the file goes by this neighbour.
    pub fn has_gateway(&self, hop: NextHop) -> bool {
        self.0.iter().any(|route| route.port == hop.port && route.gateway == Some(hop.address))
    }
}

impl Route {
    fn new(net: Ipv4Net, port: usize, gateway: Option<Addr4>) -> Self {
        Self { network: net.network().into(), mask: net.netmask().into(), port, gateway }
    }
}
