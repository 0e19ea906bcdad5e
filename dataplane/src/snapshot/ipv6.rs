//! This director's IPv6 addresses, VIPs and own ones, and what is looked up by them.
//!
//! Each has a number (`Addr4::named6`) that stands for it wherever the data path keeps an address: in the tables of virtual
//! servers, VIPs and own addresses. It keeps that number as long as the process lives, so no table can mean another address
//! by it. Real servers are in `far.rs`, with the way to them.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use hashbrown::HashMap;
use ipnet::IpNet;
use weir_config::model::Config;

use super::destinations::Destinations;
use super::{Ends, Local, Snapshot, Target};
use crate::address::Addr4;

/// Which address has which number, from one snapshot to the next. Control's.
#[derive(Clone, Default)]
pub(super) struct Numbers6 {
    numbers: Arc<HashMap<Ipv6Addr, Addr4>>,
    addresses: Arc<[Ipv6Addr]>,
}

impl Numbers6 {
    /// Those of one more configuration.
    pub(super) fn take_in(&mut self, config: &Config) {
        let ports = config.ports.iter().flat_map(|port| port.addresses.iter().map(IpNet::addr));
        let vips = config.virtual_servers.iter().map(|service| service.address);
        let named = ports.chain(vips).filter_map(v6).filter(|it| !it.is_unspecified());
        let mut new: Vec<Ipv6Addr> = named.filter(|address| !self.numbers.contains_key(address)).collect();
        new.sort_unstable();
        new.dedup();
        if new.is_empty() {
            return;
        }
        let known = self.addresses.len() as u32;
        let numbered = new.iter().copied().zip((known..).map(Addr4::named6));
        Arc::make_mut(&mut self.numbers).extend(numbered);
        self.addresses = self.addresses.iter().copied().chain(new.iter().copied()).collect();
    }

    /// What stands for an address: an IPv4 one itself, for one of IPv6 its number.
    pub(super) fn of(&self, address: IpAddr) -> Option<Addr4> {
        match address {
            IpAddr::V4(address) => Some(address.into()),
            IpAddr::V6(address) => self.numbers.get(&address).copied(),
        }
    }
}

/// What packets of IPv6 are looked up in.
#[derive(Clone)]
pub(super) struct Ipv6 {
    names: Numbers6,
    virtual_servers: Arc<Destinations>,
    is_served: bool,
}

impl Ipv6 {
    /// Of these virtual servers, by socket.
    pub(super) fn new(names: Numbers6, targets: HashMap<u64, Target>) -> Self {
        let is_served = !targets.is_empty();
        let virtual_servers = Arc::new(Destinations::new(targets.into_iter(), |_| 0));
        Self { names, virtual_servers, is_served }
    }
}

impl Snapshot {
    /// Whether any virtual server is one of IPv6.
    #[inline]
    pub fn serves_ipv6(&self) -> bool {
        self.ipv6.is_served
    }

    /// The number of an IPv6 address of ours.
    #[inline]
    pub fn number6(&self, address: Ipv6Addr) -> Option<Addr4> {
        self.ipv6.names.numbers.get(&address).copied()
    }

    /// The IPv6 address of ours that goes by a number.
    pub fn address6(&self, number: Addr4) -> Option<Ipv6Addr> {
        self.ipv6.names.addresses.get(number.place_named6()?).copied()
    }

    /// What the number of an IPv6 address stands for; an IPv4 address itself.
    pub fn ip(&self, address: Addr4) -> IpAddr {
        self.address6(address).map_or_else(|| address.into(), IpAddr::V6)
    }

    /// As [`Snapshot::target`], of an IPv6 packet.
    pub fn target6(&self, ends: &Ends) -> Option<Target> {
        let &Ends { destination, destination_port, protocol, .. } = ends;
        Some(self.ipv6.virtual_servers.get(destination, destination_port, protocol)?.target)
    }

    /// What an IPv6 address of ours is for others on `port`.
    pub fn local6(&self, port: usize, address: Ipv6Addr) -> Option<Local> {
        let local = self.local(self.number6(address)?)?;
        (local.arp_ports & 1 << port != 0).then_some(local)
    }
}

/// `None`: it is an IPv4 address.
fn v6(address: IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(address),
    }
}
