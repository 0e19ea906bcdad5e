//! Where packets go: connected networks and routes, longest prefix first.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use weir_config::model::Config;

use super::far::{Way6, address_towards, v6_nets};
use crate::address::{Addr4, v4_net};
use crate::neighbor::{Hop6, NextHop};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Route {
    network: Addr4,
    mask: Addr4,
    port: usize,
    /// `None`: the destination is a neighbour itself.
    gateway: Option<Addr4>,
}

/// A route of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Route6 {
    network: u128,
    mask: u128,
    port: u16,
    /// `None`: the destination is a neighbour itself.
    gateway: Option<Ipv6Addr>,
}

/// A director has a handful of routes, so a scan in order of prefix length beats a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes {
    v4: Box<[Route]>,
    v6: Box<[Route6]>,
    /// The own IPv6 networks by port, link-local ones aside: behind a router nobody answers an address that is good on the
    /// link alone.
    own6: Box<[Box<[Ipv6Net]>]>,
}

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
        let is_wide = |net: &Ipv6Net| !net.addr().is_unicast_link_local();
        let own6 = config.ports.iter().map(|port| v6_nets(&port.addresses).filter(is_wide).collect());
        Self { v4: routes.into(), v6: routes6(config), own6: own6.collect() }
    }

    /// The way to an IPv6 address.
    pub fn way6(&self, destination: Ipv6Addr) -> Option<Way6> {
        let route = self.v6.iter().find(|route| route.holds(destination))?;
        let next = route.gateway.unwrap_or(destination);
        let source = address_towards(self.own6.get(usize::from(route.port))?, next)?;
        Some(Way6 { hop: Hop6::at(next, route.port, 0), source })
    }

    /// As [`Routes::has_gateway`].
    pub fn has_gateway6(&self, hop: Hop6) -> bool {
        self.v6.iter().any(|route| route.port == hop.port() && route.gateway == Some(hop.address()))
    }

    /// The neighbour that is next on the way to `destination`.
    #[inline]
    pub fn next_hop(&self, destination: Addr4) -> Option<NextHop> {
        let route = self.v4.iter().find(|route| destination & route.mask == route.network)?;
        Some(NextHop { port: route.port, address: route.gateway.unwrap_or(destination) })
    }

    /// Whether a route of the file goes by this neighbour.
    pub fn has_gateway(&self, hop: NextHop) -> bool {
        self.v4.iter().any(|route| route.port == hop.port && route.gateway == Some(hop.address))
    }
}

/// Those of IPv6: the longest prefix first, of equal ones the connected network, then the first of the file.
fn routes6(config: &Config) -> Box<[Route6]> {
    let connected =
        config.ports.iter().enumerate().flat_map(|(port, config)| {
            v6_nets(&config.addresses).map(move |net| Route6::new(net, port, None))
        });
    let routed = config.routes.iter().filter_map(|route| match (route.destination, route.gateway) {
        (IpNet::V6(net), IpAddr::V6(gateway)) => Some(Route6::new(net, route.port, Some(gateway))),
        // A route from one family into the other has been refused.
        _ => None,
    });
    let mut routes: Vec<_> = connected.chain(routed).collect();
    routes.sort_by_key(|route| std::cmp::Reverse(route.mask));
    routes.into()
}

impl Route {
    fn new(net: Ipv4Net, port: usize, gateway: Option<Addr4>) -> Self {
        Self { network: net.network().into(), mask: net.netmask().into(), port, gateway }
    }
}

impl Route6 {
    fn new(net: Ipv6Net, port: usize, gateway: Option<Ipv6Addr>) -> Self {
        let (network, mask) = (net.network().to_bits(), net.netmask().to_bits());
        Self { network, mask, port: port as u16, gateway }
    }

    #[inline]
    fn holds(&self, address: Ipv6Addr) -> bool {
        address.to_bits() & self.mask == self.network
    }
}

impl Routes {
    /// As [`Routes::next_hop`], of IPv6, on the port's own network. No router passes on what is for a link alone.
    #[inline]
    pub fn next_hop6(&self, destination: Ipv6Addr) -> Option<Hop6> {
        let is_for_link = destination.is_unicast_link_local();
        let leads_there =
            |route: &&Route6| route.holds(destination) && (route.gateway.is_none() || !is_for_link);
        let route = self.v6.iter().find(leads_there)?;
        Some(Hop6::at(route.gateway.unwrap_or(destination), route.port, 0))
    }

    /// The way to a client of a packet that came in on `port`: to one on a link alone it is the packet's own.
    pub fn back6(&self, client: Ipv6Addr, port: usize) -> Option<Hop6> {
        match client.is_unicast_link_local() {
            true => Some(Hop6::at(client, port as u16, 0)),
            false => self.next_hop6(client),
        }
    }
}
