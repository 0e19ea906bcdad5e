//! Real servers of IPv6: where they are, and the way to them. A tunnel leads there; its packets are IPv4's.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};
use weir_config::model::{Config, MacAddress};

use super::Port;
use crate::neighbor::Hop6;

/// What a real server of IPv6 has that one of IPv4 has in [`super::server::Server`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Far {
    /// Its address.
    pub address: Ipv6Addr,
    /// The way to it; `None`: there is no route.
    pub way: Option<Way6>,
    /// The MAC that the file binds its next hop to.
    pub bound: Option<MacAddress>,
}

/// The way to an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way6 {
    /// The neighbour to hand packets to, on the port's own network.
    pub hop: Hop6,
    /// The own address that they come from.
    pub source: Ipv6Addr,
}

impl Way6 {
    /// By the connected networks and the routes of the file: the longest prefix, of equal ones the connected network, then the
    /// first route.
    pub(super) fn to(address: Ipv6Addr, config: &Config) -> Option<Self> {
        let connected = config
            .ports
            .iter()
            .enumerate()
            .flat_map(|(port, config)| v6_nets(&config.addresses).map(move |net| (net, port, address)));
        let routed = config.routes.iter().filter_map(|route| match (route.destination, route.gateway) {
            (IpNet::V6(net), IpAddr::V6(gateway)) => Some((net, route.port, gateway)),
            // A route from one family into the other has been refused.
            _ => None,
        });
        let ways = connected.chain(routed).filter(|(net, ..)| net.contains(&address));
        // Of equal keys the first one.
        let (_, port, next) = ways.min_by_key(|(net, ..)| u8::MAX - net.prefix_len())?;
        // Behind a router nobody answers an address that is good on the link alone.
        let is_wide = |net: &Ipv6Net| !net.addr().is_unicast_link_local();
        let own: Box<[Ipv6Net]> = v6_nets(&config.ports[port].addresses).filter(is_wide).collect();
        let source = address_towards(&own, next)?;
        Some(Self { hop: Hop6::at(next, port as u16, 0), source })
    }
}

/// The IPv6 networks among these.
pub(super) fn v6_nets(nets: &[IpNet]) -> impl Iterator<Item = Ipv6Net> {
    nets.iter().filter_map(|net| match net {
        IpNet::V6(net) => Some(*net),
        IpNet::V4(_) => None,
    })
}

/// The own address to use towards `peer`: one in its network, else the first that others can answer from afar, else the first.
fn address_towards(own: &[Ipv6Net], peer: Ipv6Addr) -> Option<Ipv6Addr> {
    let near = own.iter().find(|net| net.contains(&peer));
    let wide = || own.iter().find(|net| !net.addr().is_unicast_link_local());
    near.or_else(wide).or(own.first()).map(Ipv6Net::addr)
}

impl Port {
    /// Whether `address` is an own IPv6 address of this port.
    pub fn has_address6(&self, address: Ipv6Addr) -> bool {
        self.addresses6.iter().any(|net| net.addr() == address)
    }

    /// As [`Port::address_towards`].
    pub fn address_towards6(&self, peer: Ipv6Addr) -> Option<Ipv6Addr> {
        address_towards(&self.addresses6, peer)
    }
}
