//! Who is master of the virtual routers, laid over a snapshot.
//!
//! A change of masters touches their addresses and their MACs and nothing else. Everything large is shared with the
//! snapshot before, so this is cheap enough for VRRP's thread to do, and does not wait for control.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use weir_config::model::{Config, MacAddress};

use super::advertisers::Advertisers;
use super::ipv6::Numbers6;
use super::virtual_router::{self, Fence, RouterKey, VirtualMacs};
use super::{Local, Router, Snapshot};
use crate::address::Addr4;
use crate::parse::plain6::words;

/// The virtual routers of the file.
pub(super) struct VirtualRouters {
    list: Box<[VirtualRouter]>,
    /// By port number.
    fences: Box<[Arc<Fence>]>,
    /// By port number.
    advertisers: Box<[Advertisers]>,
    /// The addresses that come and go with a virtual router, of IPv6 as numbers, and its number: its place in the list, from 1.
    /// Those that their port has anyway stay: 0.
    addresses: HashMap<Addr4, u16>,
}

struct VirtualRouter {
    key: RouterKey,
    /// Port number.
    port: usize,
    router: Router,
    addresses: Box<[Addr4]>,
    /// Of those, the ones that the port has anyway, master or not.
    own: Box<[Addr4]>,
    addresses6: Box<[Ipv6Addr]>,
}

impl VirtualRouters {
    /// Of a file; `fences` are the ports'.
    pub(super) fn new(config: &Config, fences: &[Arc<Fence>], numbers6: &Numbers6) -> Self {
        let list: Box<[VirtualRouter]> = config
            .vrrp
            .iter()
            .map(|instance| {
                let named = |address: &IpAddr| numbers6.of(*address);
                let v6 = |address: &IpAddr| match address {
                    IpAddr::V4(_) => None,
                    IpAddr::V6(address) => Some(*address),
                };
                let addresses: Box<[Addr4]> = instance.addresses.iter().filter_map(named).collect();
                let of_port: Vec<Addr4> = config.ports[instance.port]
                    .addresses
                    .iter()
                    .filter_map(|net| named(&net.addr()))
                    .collect();
                VirtualRouter {
                    key: RouterKey::of(instance),
                    port: instance.port,
                    router: Router {
                        id: instance.virtual_router_id,
                        virtual_mac: instance.virtual_mac,
                        // An owner accepts whatever it is told (RFC 9568 section 6.1).
                        accept: instance.accept || instance.priority == u8::MAX,
                    },
                    own: addresses.iter().copied().filter(|address| of_port.contains(address)).collect(),
                    addresses,
                    addresses6: instance.addresses.iter().filter_map(v6).collect(),
                }
            })
            .collect();
        let numbered = list.iter().zip(1..);
        let addresses = numbered
            .flat_map(|(router, number)| {
                router
                    .addresses
                    .iter()
                    .map(move |address| (*address, if router.own.contains(address) { 0 } else { number }))
            })
            .collect();
        let advertisers = (0..config.ports.len()).map(|port| Advertisers::new(config, port)).collect();
        Self { list, fences: fences.into(), advertisers, addresses }
    }

    /// Their addresses, of IPv6 as numbers.
    pub(super) fn addresses(&self) -> impl Iterator<Item = Addr4> {
        self.addresses.keys().copied()
    }

    /// The number of the virtual router that an address comes and goes with; 0: none.
    pub(super) fn router_of(&self, address: Addr4) -> u16 {
        self.addresses.get(&address).copied().unwrap_or_default()
    }

    /// Whether this is an address of one of them that its port has anyway.
    pub(super) fn has_own(&self, address: Addr4) -> bool {
        self.addresses.get(&address) == Some(&0)
    }

    /// Whether this is an address of one of them.
    pub(super) fn has_address(&self, address: Addr4) -> bool {
        self.addresses.contains_key(&address)
    }
}

/// The addresses of virtual routers: what they have where this director is master, `None` where it is not.
#[derive(Debug, Clone, Default)]
pub(super) struct Held {
    addresses: HashMap<Addr4, Option<Local>>,
    /// By number of a virtual router ([`VirtualRouters::router_of`]), as bits: another director is master of it, or may be.
    /// In one cache line or two, where the addresses are in no cache.
    away: Box<[u64]>,
    /// Those of IPv6 once more, with what neighbour discovery says of them.
    v6: HashMap<Ipv6Addr, Held6>,
}

/// An IPv6 address that this director has as master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held6 {
    /// Port number.
    pub port: usize,
    /// The virtual router.
    pub router: Router,
    /// Where the address is.
    pub mac: MacAddress,
}

impl Held {
    /// Tells apart who is master, and of which IPv6 addresses; these in any order.
    pub(super) fn words(&self) -> impl Iterator<Item = u64> + '_ {
        let mixed = |address: &Ipv6Addr| {
            let [upper, lower] = words(*address);
            let mixed = (upper.rotate_left(29) ^ lower).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            mixed ^ mixed >> 32
        };
        let addresses = self.v6.keys().map(mixed).fold(0, u64::wrapping_add);
        self.away.iter().copied().chain([addresses])
    }

    /// Whether another director is master of this address, or may be.
    #[inline]
    pub(super) fn is_elsewhere(&self, address: Addr4) -> bool {
        self.addresses.get(&address).is_some_and(Option::is_none)
    }

    /// As [`Held::is_elsewhere`], for an address that comes and goes with this virtual router.
    #[inline]
    pub(super) fn is_away(&self, router: u16) -> bool {
        self.away.get(usize::from(router) / 64).is_some_and(|word| word >> (router % 64) & 1 != 0)
    }

    /// What the address is as long as this director is master.
    #[inline]
    pub(super) fn local(&self, address: Addr4) -> Option<Local> {
        *self.addresses.get(&address)?
    }
}

impl Snapshot {
    /// Makes these instances master, and no others.
    pub fn set_masters(&mut self, masters: &HashSet<RouterKey>) {
        self.edition += 1;
        let routers = self.virtual_routers.clone();
        for (port, fence) in self.ports.iter_mut().zip(&routers.fences) {
            port.virtual_macs = VirtualMacs::new(fence.clone());
        }
        for (port, advertisers) in self.ports.iter_mut().zip(&routers.advertisers) {
            port.advertisers = advertisers.clone();
        }
        let away = vec![0; routers.list.len() / 64 + 1].into();
        let mut held = Held { away, ..Held::default() };
        for (at, router) in routers.list.iter().enumerate() {
            let VirtualRouter { key, port, router, addresses, own, addresses6 } = router;
            let number = *port;
            let port = &mut self.ports[number];
            port.has_vrrp = true;
            port.hears_vrrp6 |= key.is_ipv6;
            let is_master = masters.contains(key);
            let bit = at + 1;
            held.away[bit / 64] |= u64::from(!is_master) << (bit % 64);
            port.virtual_macs.insert(key.is_ipv6, router.id, router.virtual_mac, is_master);
            let local =
                is_master.then_some(Local { arp_ports: 1 << number, is_vip: true, router: Some(*router) });
            // The owner's own address stays its own.
            let has_left = |address: &&Addr4| is_master || !own.contains(address);
            held.addresses.extend(addresses.iter().filter(has_left).map(|address| (*address, local)));
            if is_master {
                let mac = if router.virtual_mac { virtual_router::mac6(router.id) } else { port.mac };
                let its = Held6 { port: number, router: *router, mac };
                held.v6.extend(addresses6.iter().map(|address| (*address, its)));
            }
        }
        self.held = held;
    }

    /// What is known of an IPv6 address that this director has on `port` as master of its virtual router, for those who ask where it is.
    pub fn held6(&self, port: usize, address: Ipv6Addr) -> Option<&Held6> {
        let held = self.held.v6.get(&address).filter(|held| held.port == port)?;
        self.ports[port].virtual_macs.is_told_of(true, held.router.id).then_some(held)
    }

    /// Whether `mac` is where this director itself is: a port's, or on `port` that of a virtual router of the family whose master it
    /// is.
    pub fn is_own_mac(&self, port: usize, is_v6: bool, mac: MacAddress) -> bool {
        let virtual_macs = &self.ports[port].virtual_macs;
        let is_virtual = if is_v6 { virtual_macs.receives6(&mac.0) } else { virtual_macs.receives(&mac.0) };
        is_virtual || self.ports.iter().any(|port| port.mac == mac)
    }
}
