//! This director's IPv6 addresses, VIPs and own ones, and what is looked up by them.
//!
//! Each has a number (`Addr4::named6`) that stands for it wherever the data path keeps an address: in the tables of virtual
//! servers, VIPs, own addresses and those of virtual routers. Records name it by the number that it has as a VIP alone (`vips.rs`), and no
//! client goes by it. It has the number until no record is left of when it was one of these; then another address may get it. Real servers are in `far.rs`, with the way to them.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use ipnet::{IpNet, Ipv6Net};
use weir_config::model::{Config, Family, Protocol};

use super::destinations::{Destination, Destinations};
use super::marks::{self, Marked, Marks};
use super::masters::VirtualRouters;
use super::registry::RegistryError;
use super::vips::{FORMER_MAX, shared_number6};
use super::{Ends, Familiar, Local, Snapshot, Target};
use crate::address::Addr4;
use crate::conn::record::ServiceId;
use crate::parse::plain6::{Words, words};
use crate::parse::v6::Ends6;

/// Which address has which number, from one snapshot to the next. Control's.
#[derive(Clone, Default)]
pub(super) struct Numbers6 {
    numbers: Arc<HashMap<Ipv6Addr, Addr4>>,
    /// By place; unspecified: it is nobody's.
    addresses: Arc<[Ipv6Addr]>,
    /// Since which generation the file has those no more that it has not.
    left: Arc<HashMap<Ipv6Addr, u64>>,
    /// Of all of them, by what is seen of each.
    familiar: Familiar,
}

impl Numbers6 {
    /// Those for the configuration of generation `generation`. No record names the numbers any more of addresses that left by generation
    /// `swept`.
    ///
    /// # Errors
    /// There are not enough numbers.
    pub(super) fn next(&self, config: &Config, generation: u64, swept: u64) -> Result<Self, RegistryError> {
        let mut named: HashSet<Ipv6Addr> = named(config).collect();
        let shares = marks::shares_numbers(config);
        let has_left = |address: &&Ipv6Addr| !named.contains(*address) && shares(IpAddr::V6(**address));
        let former: Vec<Ipv6Addr> = self.numbers.keys().filter(has_left).copied().collect();
        // Those that come and go for years are not all kept.
        if former.len() <= FORMER_MAX {
            named.extend(former);
        }
        let mut left = HashMap::new();
        let mut over = Vec::new();
        for &address in self.numbers.keys().filter(|address| !named.contains(*address)) {
            match self.left.get(&address) {
                Some(&since) if since <= swept => over.push(address),
                since => _ = left.insert(address, since.copied().unwrap_or(generation)),
            }
        }
        let mut new: Vec<Ipv6Addr> =
            named.into_iter().filter(|address| !self.numbers.contains_key(address)).collect();
        if new.is_empty() && over.is_empty() {
            return Ok(Self { left: Arc::new(left), ..self.clone() });
        }
        let (mut numbers, mut addresses) = ((*self.numbers).clone(), self.addresses.to_vec());
        for number in over.iter().filter_map(|address| numbers.remove(address)) {
            if let Some(address) = number.place_named6().and_then(|place| addresses.get_mut(place)) {
                *address = Ipv6Addr::UNSPECIFIED;
            }
        }
        // In order, so that equal files get equal numbers.
        new.sort_unstable();
        let mut next = 0;
        for address in new {
            while addresses.get(next).is_some_and(|address| !address.is_unspecified()) {
                next += 1;
            }
            if addresses.len() == next {
                addresses.push(address);
            } else {
                addresses[next] = address;
            }
            let place = u32::try_from(next).ok().filter(|place| *place < Addr4::NAMED6_MAX);
            numbers.insert(address, Addr4::named6(place.ok_or(RegistryError::TooManyVips)?));
        }
        let familiar = numbers.keys().map(|address| seen_of(words(*address))).collect();
        Ok(Self {
            numbers: Arc::new(numbers),
            addresses: addresses.into(),
            left: Arc::new(left),
            familiar: Familiar::new(&familiar),
        })
    }

    /// What stands for an address: an IPv4 one itself, for one of IPv6 its number.
    pub(super) fn of(&self, address: IpAddr) -> Option<Addr4> {
        match address {
            IpAddr::V4(address) => Some(address.into()),
            IpAddr::V6(address) => self.numbers.get(&address).copied(),
        }
    }

    /// The address that goes by a number of IPv6.
    fn address(&self, number: Addr4) -> Option<Ipv6Addr> {
        let address = self.addresses.get(number.place_named6()?).copied();
        address.filter(|address| !address.is_unspecified())
    }

    /// What a number stands for, an IPv4 address for itself.
    pub(super) fn ip(&self, number: Addr4) -> IpAddr {
        self.address(number).map_or_else(|| number.into(), IpAddr::V6)
    }
}

/// What packets of IPv6 are looked up in.
#[derive(Clone)]
pub(super) struct Ipv6 {
    names: Numbers6,
    pub(super) virtual_servers: Arc<Destinations>,
    /// `None`: no virtual server of IPv6 has a mark.
    marks: Option<Arc<Marks<Ipv6Net>>>,
    is_served: bool,
}

impl Ipv6 {
    /// Of these virtual servers, by socket and by mark.
    pub(super) fn new(
        names: Numbers6,
        targets: HashMap<u64, Target>,
        marks: Option<Arc<Marks<Ipv6Net>>>,
        routers: &VirtualRouters,
    ) -> Self {
        let is_served = !targets.is_empty() || marks.is_some();
        let virtual_servers = Arc::new(Destinations::new(targets.into_iter(), |vip| routers.router_of(vip)));
        Self { names, virtual_servers, marks, is_served }
    }
}

impl Snapshot {
    /// Whether any virtual server is one of IPv6.
    #[inline]
    pub fn serves_ipv6(&self) -> bool {
        self.ipv6.is_served
    }

    /// Whether any IPv6 address is ours, or one that clients talk to.
    pub fn has_ipv6(&self) -> bool {
        self.ipv6.is_served || !self.ipv6.names.numbers.is_empty()
    }

    /// The number of an IPv6 address of ours.
    #[inline]
    pub fn number6(&self, address: Ipv6Addr) -> Option<Addr4> {
        self.ipv6.names.numbers.get(&address).copied()
    }

    /// Whether an address is certainly none of ours: neither a VIP nor an own one.
    #[inline]
    pub fn is_surely_foreign6(&self, address: Words) -> bool {
        !self.ipv6.names.familiar.may_hold(seen_of(address))
    }

    /// The virtual server that any client's packet to this socket asks for. `None`: there is none, or clients are told apart.
    pub fn target_of_all6(&self, destination: Ipv6Addr, port: u16, protocol: u8) -> Option<Target> {
        if self.ipv6.marks.is_some() || !self.is_vip6(destination) {
            return None;
        }
        let destination = self.number6(destination)?;
        let ends = Ends { source: Addr4::STRANGER6, destination, destination_port: port, protocol };
        self.unmarked_target6(&ends)
    }

    /// As [`Snapshot::nat_server6`], where packets to an address that is none of ours are certainly for no virtual server.
    pub fn nat_server_of_all6(&self, address: Ipv6Addr, port: u16, protocol: u8) -> Option<Option<u16>> {
        if self.ipv6.marks.is_some() { None } else { self.nat_server6(address, port, protocol) }
    }

    /// All IPv6 addresses that are ours, or were, by number.
    pub fn numbered6(&self) -> &[Ipv6Addr] {
        &self.ipv6.names.addresses
    }

    /// Tells apart the groups of IPv6 that are heard: another one says that some may have come.
    pub fn hearing_mark(&self) -> u64 {
        // Each by itself: where all have gone, the sum of the first two is what it was.
        let counts =
            [self.announcements_first, self.announcements.len() as u64, self.numbered6().len() as u64];
        let ports = self.ports.iter().map(|port| u64::from(port.hears_vrrp6) + 2);
        let own = self.ports.iter().flat_map(|port| port.addresses6.iter().flat_map(|net| words(net.addr())));
        let parts = counts.into_iter().chain(ports).chain(own).chain(self.held.words());
        parts.fold(1, |mark, part| (mark ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29))
    }

    /// The IPv6 address of ours that goes by a number.
    pub fn address6(&self, number: Addr4) -> Option<Ipv6Addr> {
        self.ipv6.names.address(number)
    }

    /// What the number of an IPv6 address stands for; an IPv4 address itself.
    pub fn ip(&self, address: Addr4) -> IpAddr {
        self.ipv6.names.ip(address)
    }

    /// As [`Snapshot::target`], of an IPv6 packet between these addresses.
    pub fn target6(&self, ends: &Ends, ends6: Ends6, protocol: Protocol) -> Option<Target> {
        match &self.ipv6.marks {
            None => self.unmarked_target6(ends),
            Some(_) if self.held.is_elsewhere(ends.destination) => None,
            Some(marks) => self.marked_target6(marks, ends, ends6, protocol),
        }
    }

    /// As [`Snapshot::marked_target`].
    fn marked_target6(
        &self,
        marks: &Marks<Ipv6Net>,
        ends: &Ends,
        ends6: Ends6,
        protocol: Protocol,
    ) -> Option<Target> {
        let &Ends { destination, destination_port, .. } = ends;
        let marks::Found { marked, .. } =
            marks.find(ends6.source, (ends6.destination, destination_port), protocol);
        let by_mark = |Marked { service, any_port }| {
            let own = self.vips.own_number(destination);
            let vip = own.unwrap_or_else(|| shared_number6(ends6.destination));
            Some(Target { service, vip, any_port, is_helped: false })
        };
        let left = || {
            let vip = self.vips.own_number(destination)?;
            Some(Target { service: ServiceId::NONE, vip, any_port: false, is_helped: false })
        };
        let unmarked = || self.unmarked_target6(ends).or_else(|| self.data_target(ends));
        marked.and_then(by_mark).or_else(unmarked).or_else(left)
    }

    /// As [`Snapshot::unmarked_target`].
    fn unmarked_target6(&self, ends: &Ends) -> Option<Target> {
        let &Ends { destination, destination_port, protocol, .. } = ends;
        let found = self.ipv6.virtual_servers.get(destination, destination_port, protocol)?;
        let Destination { target, router } = found;
        (!self.held.is_away(router)).then_some(target)
    }

    /// Whether packets to an IPv6 address may be a virtual server's. An owner's own address is one, whether it is master or not.
    pub fn is_vip6(&self, address: Ipv6Addr) -> bool {
        let is_vip = |number, local: Local| local.is_vip || self.virtual_routers.has_own(number);
        let is_local = |number| self.local(number).is_some_and(|local| is_vip(number, local));
        self.number6(address).is_some_and(is_local)
            || self.ipv6.marks.as_ref().is_some_and(|marks| marks.may_hold(address))
    }

    /// What an IPv6 address of ours is for others on `port`.
    pub fn local6(&self, port: usize, address: Ipv6Addr) -> Option<Local> {
        let local = self.local(self.number6(address)?)?;
        (local.arp_ports & 1 << port != 0).then_some(local)
    }
}

/// As many bits of an address as [`Familiar`] looks at, which depend on all of it.
#[inline]
fn seen_of([upper, lower]: Words) -> Addr4 {
    let mixed = upper.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ lower;
    Addr4::from_bits((mixed ^ mixed >> 32) as u32)
}

/// The addresses of a configuration that have numbers.
fn named(config: &Config) -> impl Iterator<Item = Ipv6Addr> + '_ {
    let ports = config.ports.iter().flat_map(|port| port.addresses.iter().map(IpNet::addr));
    let vips = config.virtual_servers.iter().map(|service| service.address);
    let routers = config.vrrp.iter().flat_map(|instance| instance.addresses.iter().copied());
    let of_mark = |mark: u32| config.marks.iter().filter(move |entry| entry.mark == mark);
    let marked = config.virtual_servers.iter().filter(|service| service.family() == Family::V6);
    let marked = marked.filter_map(|service| service.mark).flat_map(of_mark);
    let marked = marked.flat_map(|entry| marks::numbered(entry, Family::V6));
    ports.chain(vips).chain(routers).chain(marked).filter_map(v6).filter(|it| !it.is_unspecified())
}

/// `None`: it is an IPv4 address.
fn v6(address: IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(address),
    }
}
