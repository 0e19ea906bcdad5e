//! Which neighbour to hand a packet to: of IPv4, in one number that packets are compared by, and of IPv6, in full.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use crate::address::Addr4;
use crate::conn::table::HashKey;

/// The neighbour to hand a packet to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// Port number.
    pub port: usize,
    /// The neighbour's address.
    pub address: Addr4,
}

/// A next hop of one address family, as the cache sees it.
pub trait AnyHop: Copy + Eq + fmt::Debug {
    /// No next hop: there is no such port.
    const NOWHERE: Self;

    /// Port number.
    fn port(self) -> u16;
    /// See [`crate::wire::ethernet::Vlan::network`].
    fn network(self) -> u16;
    /// The neighbour's address.
    fn ip(self) -> IpAddr;
    /// A hash that depends on all of it. Neighbours differ in a few bits of their address alone: hashed once, some keys
    /// would put them into a few homes, the product being as regular as they are.
    fn hash(self, key: &HashKey) -> u64;
}

/// A next hop on one of the networks (by VLAN) of its port. In one number: it is compared for each packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hop(u64);

impl Hop {
    /// No next hop: there is no such port.
    pub const NOWHERE: Hop = Hop::at(Addr4::UNSPECIFIED, u16::MAX, 0);

    /// The neighbour with this address. `network` is [`crate::wire::ethernet::Vlan::network`].
    #[inline]
    pub const fn at(address: Addr4, port: u16, network: u16) -> Self {
        Self(address.bits() as u64 | (port as u64) << 32 | (network as u64) << 48)
    }

    /// `hop` as seen from a network.
    #[inline]
    pub fn new(hop: NextHop, network: u16) -> Self {
        Self::at(hop.address, hop.port as u16, network)
    }

    /// The same neighbour as seen from a network.
    #[inline]
    pub const fn on(self, network: u16) -> Self {
        Self(self.0 & (u64::MAX >> 16) | (network as u64) << 48)
    }

    /// The neighbour's address.
    #[inline]
    pub fn address(self) -> Addr4 {
        Addr4::from_bits(self.0 as u32)
    }

    /// Port number.
    #[inline]
    pub fn port(self) -> u16 {
        (self.0 >> 32) as u16
    }

    /// See [`crate::wire::ethernet::Vlan::network`].
    #[inline]
    pub fn network(self) -> u16 {
        (self.0 >> 48) as u16
    }
}

impl AnyHop for Hop {
    const NOWHERE: Self = Hop::NOWHERE;

    #[inline]
    fn port(self) -> u16 {
        self.port()
    }

    #[inline]
    fn network(self) -> u16 {
        self.network()
    }

    fn ip(self) -> IpAddr {
        self.address().into()
    }

    fn hash(self, key: &HashKey) -> u64 {
        let input =
            u64::from(self.address().bits()) << 32 | u64::from(self.port()) << 16 | u64::from(self.network());
        key.hash(key.hash(input))
    }
}

impl fmt::Debug for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by port {}, network {}", self.address(), self.port(), self.network())
    }
}

/// As [`Hop`], of IPv6. Compared in full, but in three words: one that only looks like another would get the other's packets.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hop6 {
    /// Upper half first.
    address: [u64; 2],
    /// The port, and above it the network.
    place: u32,
}

impl Hop6 {
    /// The neighbour with this address, which may be a link-local one.
    pub const fn at(address: Ipv6Addr, port: u16, network: u16) -> Self {
        let bits = address.to_bits();
        Self { address: [(bits >> 64) as u64, bits as u64], place: port as u32 | (network as u32) << 16 }
    }

    /// The same neighbour as seen from a network.
    #[inline]
    pub fn on(self, network: u16) -> Self {
        Self { place: u32::from(self.port()) | u32::from(network) << 16, ..self }
    }

    /// The neighbour's address.
    pub fn address(self) -> Ipv6Addr {
        let [upper, lower] = self.address;
        Ipv6Addr::from_bits(u128::from(upper) << 64 | u128::from(lower))
    }

    /// Port number.
    #[inline]
    pub fn port(self) -> u16 {
        self.place as u16
    }

    /// See [`crate::wire::ethernet::Vlan::network`].
    #[inline]
    pub fn network(self) -> u16 {
        (self.place >> 16) as u16
    }
}

impl AnyHop for Hop6 {
    const NOWHERE: Self = Hop6::at(Ipv6Addr::UNSPECIFIED, u16::MAX, 0);

    #[inline]
    fn port(self) -> u16 {
        self.port()
    }

    #[inline]
    fn network(self) -> u16 {
        self.network()
    }

    fn ip(self) -> IpAddr {
        self.address().into()
    }

    fn hash(self, key: &HashKey) -> u64 {
        let [upper, lower] = self.address;
        let above = key.hash(upper ^ u64::from(self.port()) << 16 ^ u64::from(self.network()));
        key.hash(key.hash(above ^ lower))
    }
}

impl fmt::Debug for Hop6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by port {}, network {}", self.address(), self.port(), self.network())
    }
}
