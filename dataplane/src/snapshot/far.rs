//! Real servers of IPv6: where they are, and the way to them.

use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv6Net};
use weir_config::model::MacAddress;

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

/// The IPv6 networks among these.
pub(super) fn v6_nets(nets: &[IpNet]) -> impl Iterator<Item = Ipv6Net> {
    nets.iter().filter_map(|net| match net {
        IpNet::V6(net) => Some(*net),
        IpNet::V4(_) => None,
    })
}

/// The own address to use towards `peer`: one in its network, else the first that others can answer from afar, else the first.
pub(super) fn address_towards(own: &[Ipv6Net], peer: Ipv6Addr) -> Option<Ipv6Addr> {
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
