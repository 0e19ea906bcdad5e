//! Where packets go: connected networks and routes, longest prefix first.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use weir_config::model::Config;

/// The neighbour to hand a packet to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// Port number.
    pub port: usize,
    /// The neighbour's address.
    pub address: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Route {
    network: u32,
    mask: u32,
    port: usize,
    /// `None`: the destination is a neighbour itself.
    gateway: Option<u32>,
}

/// A director has a handful of routes, so a scan in order of prefix length beats a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes(Box<[Route]>);

impl Routes {
    /// The connected networks and the routes of the file.
    pub fn new(config: &Config) -> Self {
        let mut routes = Vec::new();
        for (port, config) in config.ports.iter().enumerate() {
            for net in &config.addresses {
                if let IpNet::V4(net) = net {
                    routes.push(Route::new(*net, port, None));
                }
            }
        }
        for route in &config.routes {
            if let (IpNet::V4(net), IpAddr::V4(gateway)) = (route.destination, route.gateway) {
                routes.push(Route::new(net, route.port, Some(gateway.into())));
            }
        }
        // Stable: of equal prefixes the connected one, then the first of the file.
        routes.sort_by_key(|route| std::cmp::Reverse(route.mask));
        Self(routes.into())
    }

    /// The neighbour that is next on the way to `destination`.
    #[inline]
    pub fn next_hop(&self, destination: u32) -> Option<NextHop> {
        let route = self.0.iter().find(|route| destination & route.mask == route.network)?;
        Some(NextHop { port: route.port, address: route.gateway.unwrap_or(destination) })
    }

    /// Whether a route of the file goes by this neighbour.
    pub fn has_gateway(&self, hop: NextHop) -> bool {
        self.0.iter().any(|route| route.port == hop.port && route.gateway == Some(hop.address))
    }
}

impl Route {
    fn new(net: Ipv4Net, port: usize, gateway: Option<u32>) -> Self {
        Self { network: net.network().into(), mask: net.netmask().into(), port, gateway }
    }
}
