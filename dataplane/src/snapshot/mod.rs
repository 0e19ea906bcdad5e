//! What a worker reads: one immutable view of everything that was decided.
//!
//! Control builds a [`Snapshot`] ([`registry`] keeps numbers stable from one to the next), swaps one pointer
//! ([`publish`]), and frees the old one when no worker holds it any more. All facts that must agree are in this one
//! value; what changes with packets (counters, scheduler positions) hangs on it by `Arc` and outlives it.
//!
//! What is large hangs on it by `Arc`, too. A verdict of the health checks changes little of it: the snapshot before the one in
//! force, which nobody holds any more, is brought up to date in place and put in force next ([`registry::Registry::amend`]). When VRRP
//! makes this director master or backup, VRRP's thread swaps in a copy that differs in that alone ([`masters`]), which takes
//! microseconds however large the file is.

mod addressing;
pub mod advertisers;
mod destinations;
pub mod far;
pub mod helped;
mod ipv6;
pub mod marks;
pub mod masters;
mod nat;
mod peek;
pub mod publish;
pub mod ranks;
pub mod rates;
pub mod registry;
pub mod routes;
pub mod server;
pub mod service;
pub mod traffic;
pub mod vips;
pub mod virtual_router;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use ipnet::{Ipv4Net, Ipv6Net};
use weir_config::model::{MacAddress, Protocol};

use crate::address::Addr4;
use crate::conn::record::{Key, ServerId, ServiceId, VipId};
use crate::conn::state::Lifetimes;
use crate::neighbor::{Hop, Hop6};
use crate::pieces::Patience;
use advertisers::Advertisers;
use destinations::{Destination, Destinations};
use ipv6::Ipv6;
use marks::{Marked, Marks};
pub use masters::Held6;
use masters::{Held, VirtualRouters};
use nat::NatServers;
use ranks::Arrivals;
use routes::Routes;
use server::Server;
use service::Service;
use traffic::Traffic;
use vips::Vips;
use virtual_router::VirtualMacs;

/// See the module.
#[derive(Clone)]
pub struct Snapshot {
    /// Counts configurations, from 1.
    pub generation: u64,
    /// The generation in which numbers of real servers were given or taken last.
    pub numbers_generation: u64,
    /// Counts snapshots of this generation, which differ in who is master of virtual routers.
    pub edition: u64,
    /// By port number.
    pub ports: Box<[Port]>,
    /// Where packets go.
    pub routes: Routes,
    /// How long connections stay.
    pub lifetimes: Lifetimes,
    /// The `net.ipv4.vs.*` switches.
    pub switches: Switches,
    /// The generation in which static neighbours changed last.
    pub bindings_generation: u64,
    /// VIPs to be announced: port and address, in the order in which they came. One that has gone meanwhile keeps its place, and has no
    /// port: [`Snapshot::NOT_ANNOUNCED`].
    pub announcements: Arc<[(usize, Addr4)]>,
    /// Announcements that came before these, ever.
    pub announcements_first: u64,
    /// Numbers of VIPs.
    pub vips: Vips,
    /// Some connections have the one kind of hash and some the other: who finds nothing by the one asks by the other.
    pub has_both_hashes: bool,
    /// Some connections may go by the number that an address shared, as one of a wide network of a mark, before it got one for itself.
    pub may_share_numbers: bool,
    /// Some virtual server keeps connections of one client together.
    pub has_persistence: bool,
    /// When the youngest epoch of persistence began, of all virtual servers.
    pub epochs_since: u64,
    /// The last generation that came without something of the one before: connections may be over since then, or have lost
    /// their templates. 0: there was none.
    pub ended_since: u64,
    virtual_servers: Arc<Destinations>,
    ipv6: Ipv6,
    /// `None`: no virtual server has a mark.
    marks: Option<Arc<Marks>>,
    services: Arc<[Option<Arc<Service>>]>,
    /// Virtual servers whose schedulers forget with time: lblc and lblcr.
    forgetful: Arc<[ServiceId]>,
    servers: Arc<[Server]>,
    /// By virtual server: what real servers carried that have no number any more.
    retired: Arc<[Traffic]>,
    /// By socket.
    nat_servers: NatServers,
    /// Addresses whose virtual servers have a helper, by what stands for them.
    helped_vips: Arc<HashSet<Addr4>>,
    /// Those of virtual routers aside, which are in `held`.
    locals: Arc<HashMap<Addr4, Local>>,
    virtual_routers: Arc<VirtualRouters>,
    held: Held,
    /// Of all addresses that are not foreign.
    familiar: Familiar,
    /// Static neighbours.
    bindings: Arc<Bindings>,
    /// Which worker has come to it, or to a later one.
    arrivals: Arc<Arrivals>,
}

impl Snapshot {
    /// Shares nothing any more that a change of a few virtual servers writes to.
    fn set_apart(&mut self) {
        self.vips.set_apart();
        Arc::make_mut(&mut self.virtual_servers);
        Arc::make_mut(&mut self.services);
        Arc::make_mut(&mut self.servers);
        self.nat_servers.set_apart();
        Arc::make_mut(&mut self.locals);
        Arc::make_mut(&mut self.familiar.words);
    }

    /// Whether its real servers, which are most of it, are its own: those that differ in who is master share them.
    fn is_apart(&self) -> bool {
        Arc::strong_count(&self.servers) == 1
    }
}

/// Some addresses, as a bit for each of their hashes: most others are told from them by one look.
#[derive(Clone, Default)]
struct Familiar {
    words: Arc<[u64]>,
    /// Bits of a hash that do not name a bit here.
    shift: u32,
}

/// So many real servers, with what is counted for each, are no more than a quarter of a usual second-level cache.
const CACHED_SERVERS: usize = 512;

/// Bits for each address, so that most are unset, and at least so many.
const FAMILIAR_BITS_EACH: usize = 16;
const FAMILIAR_BITS_MIN: usize = 4_096;

impl Familiar {
    fn new(addresses: &HashSet<Addr4>) -> Self {
        let bits = (addresses.len() * FAMILIAR_BITS_EACH).next_power_of_two().max(FAMILIAR_BITS_MIN);
        let shift = u32::BITS - bits.trailing_zeros();
        let mut words = vec![0; bits / 64];
        for bit in addresses.iter().map(|&address| Self::bit(address, shift)) {
            words[bit / 64] |= 1 << (bit % 64);
        }
        Self { words: words.into(), shift }
    }

    /// How many addresses more it takes until too many others look like them.
    fn room(&self) -> usize {
        let set = self.words.iter().map(|word| word.count_ones() as usize).sum();
        (self.words.len() * 64 / (FAMILIAR_BITS_EACH / 2)).saturating_sub(set)
    }

    fn add(&mut self, address: Addr4) {
        let bit = Self::bit(address, self.shift);
        Arc::make_mut(&mut self.words)[bit / 64] |= 1 << (bit % 64);
    }

    #[inline]
    fn may_hold(&self, address: Addr4) -> bool {
        let bit = Self::bit(address, self.shift);
        self.words.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 != 0)
    }

    #[inline]
    fn prefetch(&self, address: Addr4) {
        if let Some(word) = self.words.get(Self::bit(address, self.shift) / 64) {
            dpdk::lcore::prefetch(word);
        }
    }

    /// Fibonacci hashing.
    #[inline]
    fn bit(address: Addr4, shift: u32) -> usize {
        (address.bits().wrapping_mul(0x9e37_79b1) >> shift) as usize
    }
}

/// A port as the data path sees it.
#[derive(Debug, Clone)]
pub struct Port {
    /// Its Ethernet address.
    pub mac: MacAddress,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// Own addresses, with the networks they make.
    pub addresses: Box<[Ipv4Net]>,
    /// The same of IPv6.
    pub addresses6: Box<[Ipv6Net]>,
    /// Prefixes for which ARP is answered.
    pub proxy_arp: Box<[Ipv4Net]>,
    /// Whether a VRRP router runs on it.
    pub has_vrrp: bool,
    /// Whether one of IPv6 runs on it.
    pub hears_vrrp6: bool,
    /// Whose advertisements its VRRP routers hear.
    pub advertisers: Advertisers,
    /// Whether it has a host interface.
    pub has_host: bool,
    /// Whether it is a device whose VLANs are ports of their own, so that nothing with a tag is its.
    pub has_vlans: bool,
    /// The virtual MACs of IPv4 that are received on it.
    pub virtual_macs: VirtualMacs,
}

impl Port {
    /// Whether `address` is an own one of this port.
    pub fn has_address(&self, address: Addr4) -> bool {
        self.addresses.iter().any(|net| Addr4::from(net.addr()) == address)
    }

    /// Whether one of its networks holds `address`.
    fn is_near(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.addresses.iter().any(|net| net.contains(&address)),
            IpAddr::V6(address) => self.addresses6.iter().any(|net| net.contains(&address)),
        }
    }

    /// The broadcast addresses of its networks. Those of one or two addresses have none.
    pub fn broadcasts(&self) -> impl Iterator<Item = Addr4> {
        let with_one = self.addresses.iter().filter(|net| net.max_prefix_len() - net.prefix_len() > 1);
        with_one.map(|net| net.broadcast().into())
    }

    /// The own address to use towards `peer`: one in its network, else the first.
    pub fn address_towards(&self, peer: Addr4) -> Option<Addr4> {
        address_towards(self.addresses.iter().copied(), peer)
    }
}

/// The own address among these to use towards `peer`: one in its network, else the first.
fn address_towards(own: impl Iterator<Item = Ipv4Net> + Clone, peer: Addr4) -> Option<Addr4> {
    let near = own.clone().find(|net| net.contains(&Ipv4Addr::from(peer)));
    near.or_else(|| own.clone().next()).map(|net| net.addr().into())
}

/// Switches of `[connections]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Switches {
    /// See [`weir_config::model::Connections`].
    pub sloppy_tcp: bool,
    /// See [`weir_config::model::Connections`].
    pub expire_nodest_conn: bool,
    /// See [`weir_config::model::Connections`].
    pub conn_reuse_mode: u8,
    /// See [`weir_config::model::Connections`].
    pub nat_icmp_send: bool,
    /// See [`weir_config::model::Connections`].
    pub pmtu_disc: bool,
    /// See [`weir_config::model::Connections`].
    pub expire_quiescent_template: bool,
    /// See [`weir_config::model::Connections`].
    pub schedule_icmp: bool,
    /// See [`weir_config::model::Connections`].
    pub sloppy_sctp: bool,
    /// See [`weir_config::model::Connections`].
    pub secure_tcp: bool,
    /// `ipfrag_time` and `ip6frag_time`.
    pub patience: Patience,
}

/// A static neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// Port number.
    pub port: usize,
    /// Its MAC, for good.
    pub mac: MacAddress,
}

/// Static neighbours by address.
#[derive(Debug, Default, PartialEq, Eq)]
struct Bindings {
    v4: HashMap<Addr4, Binding>,
    v6: HashMap<Ipv6Addr, Binding>,
}

impl Bindings {
    fn of(&self, hop: Hop) -> Option<MacAddress> {
        let binding = self.v4.get(&hop.address())?;
        (binding.port == usize::from(hop.port())).then_some(binding.mac)
    }

    fn of6(&self, hop: Hop6) -> Option<MacAddress> {
        let binding = self.v6.get(&hop.address())?;
        (binding.port == usize::from(hop.port())).then_some(binding.mac)
    }
}

/// A packet from a client, as far as it matters for whom it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The client.
    pub source: Addr4,
    /// Whom it talks to.
    pub destination: Addr4,
    /// At which port.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
}

/// The virtual server of a packet from a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Its number. [`ServiceId::NONE`]: only connections are left to this address and port.
    pub service: ServiceId,
    /// The number of the packet's destination.
    pub vip: VipId,
    /// Whether replies come from the port that the client talks to; see [`Key::new`].
    pub any_port: bool,
    /// Whether a helper looks after its connections: see [`Key::helped`].
    pub is_helped: bool,
}

impl Target {
    /// What a packet from a client to `port` is looked up by.
    #[inline]
    pub fn key(&self, client: Addr4, client_port: u16, port: u16, protocol: Protocol) -> Key {
        let key = Key::new(client, client_port, self.vip, port, protocol, self.any_port);
        if self.is_helped { key.helped() } else { key }
    }
}

/// What [`Snapshot::target`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The virtual server.
    pub target: Target,
    /// Whether it is the same for every client.
    pub is_for_all: bool,
}

/// The socket of NAT real servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NatServer {
    /// Whether it is the port that the client talks to.
    any_port: bool,
    /// Only connections that there are know it: it was removed, or edited.
    is_left: bool,
    /// Its virtual server, if it is one alone.
    origin: Option<Origin>,
}

/// The virtual server that a NAT real server's packets belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Its address.
    pub vip: Addr4,
    /// Its port.
    pub port: u16,
    /// Whether its datagrams leave no record.
    pub one_packet: bool,
    /// Whether it keeps calls together, so that real servers may begin them.
    pub keeps_calls: bool,
}

impl Origin {
    /// Whether a datagram may be its that belongs to no connection.
    pub fn may_be_without_record(self) -> bool {
        self.one_packet || self.keeps_calls
    }
}

/// Ports, each a bit.
pub type PortSet = u128;

/// An address that is weir's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Local {
    /// Ports, as a bit set, on which ARP for it is answered.
    pub arp_ports: PortSet,
    /// Whether it is the address of a virtual server.
    pub is_vip: bool,
    /// The virtual router that holds it, as master.
    pub router: Option<Router>,
}

/// What an address of a virtual router has from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Router {
    /// VRID.
    pub id: u8,
    /// ARP is answered with the virtual MAC rather than the port's.
    pub virtual_mac: bool,
    /// Whether the address itself answers, besides virtual servers.
    pub accept: bool,
}

impl Local {
    /// Whether packets to the address itself are taken in.
    pub fn is_accepted(&self) -> bool {
        self.router.is_none_or(|router| router.accept)
    }
}

/// A socket address and protocol as one number.
#[inline]
fn socket(address: Addr4, port: u16, protocol: u8) -> u64 {
    u64::from(address.bits()) << 32 | u64::from(port) << 16 | u64::from(protocol)
}

/// The address of a [`socket`].
fn address_of(socket: u64) -> Addr4 {
    Addr4::from_bits((socket >> 32) as u32)
}

impl Snapshot {
    /// In place of a port, of a VIP that is announced no more.
    pub const NOT_ANNOUNCED: usize = usize::MAX;

    /// The virtual server that a packet asks for: that of its mark, else the one at its address and port, else the one for
    /// all ports. `protocol` is that of [`Ends::protocol`].
    #[inline(always)]
    pub fn target(&self, ends: &Ends, protocol: Protocol) -> Option<Found> {
        match &self.marks {
            None => {
                let &Ends { destination, destination_port, protocol, .. } = ends;
                let target = self.unmarked_target(destination, destination_port, protocol)?;
                Some(Found { target, is_for_all: true })
            }
            Some(_) if self.held.is_elsewhere(ends.destination) => None,
            Some(marks) => self.marked_target(marks, ends, protocol),
        }
    }

    #[inline(never)]
    fn marked_target(&self, marks: &Marks, ends: &Ends, protocol: Protocol) -> Option<Found> {
        let &Ends { source, destination, destination_port, .. } = ends;
        let marks::Found { marked, is_for_all } =
            marks.find(source, (destination, destination_port), protocol);
        let by_mark = |Marked { service, any_port }| {
            Some(Target { service, vip: self.vips.number(ends.destination), any_port, is_helped: false })
        };
        let left = || {
            let vip = self.vips.own_number(ends.destination)?;
            Some(Target { service: ServiceId::NONE, vip, any_port: false, is_helped: false })
        };
        let unmarked = || self.virtual_server(ends).or_else(|| self.data_target(ends));
        let target = marked.and_then(by_mark).or_else(unmarked).or_else(left)?;
        Some(Found { target, is_for_all })
    }

    #[inline]
    fn virtual_server(&self, ends: &Ends) -> Option<Target> {
        let &Ends { destination, destination_port, protocol, .. } = ends;
        Some(self.virtual_servers.get(destination, destination_port, protocol)?.target)
    }

    /// As [`Snapshot::target`] where packets are not compared with marks.
    #[inline]
    pub fn unmarked_target(&self, address: Addr4, port: u16, protocol: u8) -> Option<Target> {
        let Destination { target, router } = self.virtual_servers.get(address, port, protocol)?;
        (!self.held.is_away(router)).then_some(target)
    }

    /// Asks the processor for what [`Snapshot::unmarked_target`] looks at.
    #[inline]
    pub fn prefetch_target(&self, address: Addr4, port: u16, protocol: u8) {
        self.virtual_servers.prefetch(address, port, protocol);
    }

    /// Whether packets are compared with marks.
    #[inline]
    pub fn has_marks(&self) -> bool {
        self.marks.is_some()
    }

    /// Whether packets to an IPv4 address may have a mark that a virtual server has.
    pub fn may_have_mark(&self, destination: Addr4) -> bool {
        self.marks.as_ref().is_some_and(|marks| marks.may_hold(destination))
    }

    /// The virtual server with this number.
    #[inline]
    pub fn service(&self, id: ServiceId) -> Option<&Service> {
        self.services.get(usize::from(id.0))?.as_deref()
    }

    /// The virtual server with this address, port and protocol, also while another director is master of its address.
    pub fn service_at(&self, address: IpAddr, port: u16, protocol: Protocol) -> Option<&Service> {
        let found = match address {
            IpAddr::V4(address) => self.virtual_servers.find(socket(address.into(), port, protocol.number())),
            IpAddr::V6(address) => {
                let number = self.number6(address)?;
                self.ipv6.virtual_servers.find(socket(number, port, protocol.number()))
            }
        };
        self.service(found?.target.service)
    }

    /// Asks the processor for what [`Snapshot::service`] leads to.
    #[inline]
    pub(crate) fn prefetch_service(&self, id: ServiceId) {
        if let Some(service) = self.service(id) {
            dpdk::lcore::prefetch(service);
            dpdk::lcore::prefetch(&service.scheduler);
        }
    }

    /// Asks the processor for what [`Snapshot::is_surely_foreign`] looks at for a client, and for what leads to the virtual
    /// server that it asks for.
    #[inline]
    pub(crate) fn prefetch_opening(&self, id: ServiceId, client: Addr4) {
        if let Some(place) = self.services.get(usize::from(id.0)) {
            dpdk::lcore::prefetch(place);
        }
        self.familiar.prefetch(client);
    }

    /// Asks the processor for what packets need of a real server.
    #[inline]
    pub(crate) fn prefetch_server(&self, id: ServerId) {
        if let Some(server) = self.servers.get(id.index()) {
            dpdk::lcore::prefetch(server);
        }
    }

    /// A virtual server whose scheduler forgets with time, by a turn that goes round all of them.
    pub(crate) fn forgetful(&self, turn: usize) -> Option<&Service> {
        let at = turn.checked_rem(self.forgetful.len())?;
        self.service(*self.forgetful.get(at)?)
    }

    /// The virtual servers there are.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.iter().flatten()
    }

    /// The worker has no use for any former one from now on.
    pub fn adopted_by(&self, worker: usize) {
        self.arrivals.set(worker, self.generation);
    }

    /// The real server with this number; [`Server::is_present`] tells whether it is still configured.
    #[inline]
    pub fn server(&self, id: ServerId) -> &Server {
        self.servers.get(id.index()).unwrap_or(&self.servers[0])
    }

    /// As [`Snapshot::server`], for a path that has no place for a panic.
    #[inline]
    pub fn get_server(&self, id: ServerId) -> Option<&Server> {
        self.servers.get(id.index())
    }

    /// What [`Snapshot::get_server`] looks in.
    #[inline]
    pub(crate) fn by_number(&self) -> &[Server] {
        &self.servers
    }

    /// Whether there are so many real servers that those in use may be in no cache.
    #[inline]
    pub(crate) fn has_many_servers(&self) -> bool {
        self.servers.len() > CACHED_SERVERS
    }

    /// Every real server that has a number, in the order of the numbers, with removed ones that connections may
    /// still name. One that was edited is there once, with all its connections.
    pub fn servers(&self) -> impl Iterator<Item = &Server> {
        self.servers.iter().filter(|server| server.id != ServerId(0) && !server.is_former())
    }

    /// Every number of a real server that a connection may name.
    pub fn numbered(&self) -> impl Iterator<Item = &Server> {
        self.servers.iter().filter(|server| server.id != ServerId(0))
    }

    /// What was carried by real servers of this virtual server that are gone for good: neither in
    /// [`Snapshot::servers`] nor named by any connection.
    pub fn retired(&self, id: ServiceId) -> Traffic {
        self.retired.get(usize::from(id.0)).copied().unwrap_or_default()
    }

    /// How replies of the NAT real server at this socket are looked up: `None`, it is not one;
    /// `Some(None)`, by the client; `Some(Some(port))`, by the client and this port.
    #[inline]
    pub fn nat_server(&self, address: Addr4, port: u16, protocol: u8) -> Option<Option<u16>> {
        let exact = self.nat_servers.v4.get(&socket(address, port, protocol));
        let server = exact.or_else(|| self.nat_servers.v4.get(&socket(address, 0, protocol)))?;
        Some(server.any_port.then_some(port))
    }

    /// Whether a NAT real server answers from this socket itself, and not from any port.
    pub fn is_nat_socket(&self, address: Addr4, port: u16, protocol: u8) -> bool {
        port != 0 && self.nat_servers.v4.contains_key(&socket(address, port, protocol))
    }

    /// Whether new connections may go to a NAT real server at this socket.
    pub fn has_nat_server(&self, address: Addr4, port: u16, protocol: u8) -> bool {
        let exact = self.nat_servers.v4.get(&socket(address, port, protocol));
        let server = exact.or_else(|| self.nat_servers.v4.get(&socket(address, 0, protocol)));
        server.is_some_and(|server| !server.is_left)
    }

    /// What a NAT real server's packet without a record goes out as, if only one virtual server has that real server and
    /// a single address and port.
    pub fn origin(&self, address: Addr4, port: u16, protocol: u8) -> Option<Origin> {
        match self.nat_servers.v4.get(&socket(address, port, protocol)) {
            Some(server) => server.origin,
            None => {
                let server = self.nat_servers.v4.get(&socket(address, 0, protocol))?;
                server.origin.map(|origin| Origin { port, ..origin })
            }
        }
    }

    /// Whether `address` is certainly neither a VIP, nor an own address, nor a broadcast one. Marks aside: see
    /// [`Snapshot::has_marks`].
    #[inline]
    pub fn is_surely_foreign(&self, address: Addr4) -> bool {
        !self.familiar.may_hold(address)
    }

    /// Whether `address` is the broadcast address of a network that a port is in, and so nobody's.
    #[inline]
    pub fn is_broadcast(&self, address: Addr4) -> bool {
        self.familiar.may_hold(address)
            && self.ports.iter().flat_map(Port::broadcasts).any(|broadcast| broadcast == address)
    }

    /// Whether `address` can be one host's: see [`Addr4::is_unicast`] and [`Snapshot::is_broadcast`].
    #[inline]
    pub fn may_be_host(&self, address: Addr4) -> bool {
        address.is_unicast() && !self.is_broadcast(address)
    }

    /// Whether `address` is a VIP or an own address.
    #[inline]
    pub fn local(&self, address: Addr4) -> Option<Local> {
        self.held.local(address).or_else(|| self.locals.get(&address).copied())
    }

    /// The MAC to which `address` is bound by a static neighbour.
    pub fn bound_mac(&self, address: Addr4) -> Option<MacAddress> {
        self.bindings.v4.get(&address).map(|binding| binding.mac)
    }

    /// As [`Snapshot::bound_mac`].
    pub fn bound_mac6(&self, address: Ipv6Addr) -> Option<MacAddress> {
        self.bindings.v6.get(&address).map(|binding| binding.mac)
    }

    /// The MAC to which a static neighbour binds a next hop, on whatever VLAN of its port.
    pub fn binding(&self, hop: Hop) -> Option<MacAddress> {
        self.bindings.of(hop)
    }

    /// As [`Snapshot::binding`].
    pub fn binding6(&self, hop: Hop6) -> Option<MacAddress> {
        self.bindings.of6(hop)
    }

    /// The MAC that an address is at, for others on `port`, by what [`Snapshot::local`] says of it.
    pub fn mac_of(&self, port: usize, local: Option<Local>) -> MacAddress {
        let router = local.and_then(|local| local.router);
        match router.filter(|router| router.virtual_mac) {
            Some(router) => virtual_router::mac(router.id),
            None => self.ports[port].mac,
        }
    }

    /// Whether ARP requests for `address` are answered on `port`: VIPs and own addresses there, proxied prefixes. `local` is
    /// what [`Snapshot::local`] says of it.
    pub fn answers_arp(&self, port: usize, address: Addr4, local: Option<Local>) -> bool {
        let is_ours = local.is_some_and(|local| {
            let router = local.router.map(|router| router.id);
            local.arp_ports & 1 << port != 0
                && router.is_none_or(|id| self.ports[port].virtual_macs.is_told_of(false, id))
        });
        let is_proxied =
            || self.ports[port].proxy_arp.iter().any(|net| net.contains(&Ipv4Addr::from(address)));
        is_ours || is_proxied() && !self.is_broadcast(address)
    }
}

/// The protocol of a virtual server, by IP protocol number.
#[inline]
pub fn protocol(number: u8) -> Option<Protocol> {
    match number {
        6 => Some(Protocol::Tcp),
        17 => Some(Protocol::Udp),
        132 => Some(Protocol::Sctp),
        _ => None,
    }
}
