//! What a worker reads: one immutable view of everything that was decided.
//!
//! Control builds a [`Snapshot`] ([`registry`] keeps numbers stable from one to the next), swaps one pointer
//! ([`publish`]), and frees the old one when no worker holds it any more. All facts that must agree are in this one
//! value; what changes with packets (counters, scheduler positions) hangs on it by `Arc` and outlives it.

pub mod publish;
pub mod rates;
pub mod registry;
pub mod routes;
pub mod server;
pub mod service;
pub mod traffic;

use std::net::Ipv4Addr;
use std::sync::Arc;

use hashbrown::HashMap;
use ipnet::Ipv4Net;
use weir_config::model::{MacAddress, Protocol};

use crate::conn::record::{ServerId, ServiceId};
use crate::conn::state::Lifetimes;
use crate::neighbor::Hop;
use routes::Routes;
use server::Server;
use service::Service;
use traffic::Traffic;

/// See the module.
pub struct Snapshot {
    /// Counts snapshots, from 1.
    pub generation: u64,
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
    /// VIPs to be announced: port and address.
    pub announcements: Box<[(usize, u32)]>,
    virtual_servers: HashMap<u64, ServiceId>,
    services: Box<[Option<Arc<Service>>]>,
    servers: Box<[Server]>,
    /// By virtual server: what real servers carried that have no number any more.
    retired: Box<[Traffic]>,
    /// By socket; the value is its virtual server, if it is one alone.
    nat_servers: HashMap<u64, Option<Origin>>,
    locals: HashMap<u32, Local>,
    /// Static neighbours by address.
    bindings: Arc<HashMap<u32, Binding>>,
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
    /// Prefixes for which ARP is answered.
    pub proxy_arp: Box<[Ipv4Net]>,
    /// Whether a VRRP router runs on it.
    pub has_vrrp: bool,
}

impl Port {
    /// Whether `address` is an own one of this port.
    pub fn has_address(&self, address: u32) -> bool {
        self.addresses.iter().any(|net| u32::from(net.addr()) == address)
    }

    /// The own address to use towards `peer`: one in its network, else the first.
    pub fn address_towards(&self, peer: u32) -> Option<u32> {
        let near = self.addresses.iter().find(|net| net.contains(&Ipv4Addr::from(peer)));
        near.or(self.addresses.first()).map(|net| net.addr().into())
    }
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
    pub sloppy_sctp: bool,
    /// See [`weir_config::model::Connections`].
    pub secure_tcp: bool,
}

/// A static neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// Port number.
    pub port: usize,
    /// Its MAC, for good.
    pub mac: MacAddress,
}

/// The virtual server that a NAT real server's packets belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Its address.
    pub vip: u32,
    /// Its port.
    pub port: u16,
    /// Whether its datagrams leave no record.
    pub one_packet: bool,
}

/// An address that is weir's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Local {
    /// Ports, as a bit set, on which ARP for it is answered.
    pub arp_ports: u64,
}

/// A socket address and protocol as one number.
#[inline]
fn socket(address: u32, port: u16, protocol: u8) -> u64 {
    u64::from(address) << 32 | u64::from(port) << 16 | u64::from(protocol)
}

impl Snapshot {
    /// The virtual server at an address, port and IP protocol: the exact one, else the one for all ports.
    #[inline]
    pub fn virtual_server(&self, address: u32, port: u16, protocol: u8) -> Option<ServiceId> {
        let exact = self.virtual_servers.get(&socket(address, port, protocol));
        exact.or_else(|| self.virtual_servers.get(&socket(address, 0, protocol))).copied()
    }

    /// The virtual server with this number.
    #[inline]
    pub fn service(&self, id: ServiceId) -> Option<&Service> {
        self.services.get(usize::from(id.0))?.as_deref()
    }

    /// The virtual servers there are.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.iter().flatten()
    }

    /// The real server with this number; [`Server::is_present`] tells whether it is still configured.
    #[inline]
    pub fn server(&self, id: ServerId) -> &Server {
        self.servers.get(id.index()).unwrap_or(&self.servers[0])
    }

    /// Every real server that has a number, in the order of the numbers, with removed ones that connections may
    /// still name.
    pub fn servers(&self) -> impl Iterator<Item = &Server> {
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
    pub fn nat_server(&self, address: u32, port: u16, protocol: u8) -> Option<Option<u16>> {
        if self.nat_servers.contains_key(&socket(address, port, protocol)) {
            return Some(None);
        }
        self.nat_servers.contains_key(&socket(address, 0, protocol)).then_some(Some(port))
    }

    /// What a NAT real server's packet without a record goes out as, if only one virtual server has that real server.
    pub fn origin(&self, address: u32, port: u16, protocol: u8) -> Option<Origin> {
        match self.nat_servers.get(&socket(address, port, protocol)) {
            Some(origin) => *origin,
            None => {
                self.nat_servers.get(&socket(address, 0, protocol))?.map(|origin| Origin { port, ..origin })
            }
        }
    }

    /// Whether `address` is a VIP or an own address.
    #[inline]
    pub fn local(&self, address: u32) -> Option<Local> {
        self.locals.get(&address).copied()
    }

    /// The MAC to which `address` is bound by a static neighbour.
    pub fn bound_mac(&self, address: u32) -> Option<MacAddress> {
        self.bindings.get(&address).map(|binding| binding.mac)
    }

    /// The MAC to which a static neighbour binds a next hop, on whatever VLAN of its port.
    pub fn binding(&self, hop: Hop) -> Option<MacAddress> {
        let binding = self.bindings.get(&hop.address)?;
        (binding.port == usize::from(hop.port)).then_some(binding.mac)
    }

    /// Whether ARP requests for `address` are answered on `port`: VIPs and own addresses there, proxied prefixes.
    pub fn answers_arp(&self, port: usize, address: u32) -> bool {
        let is_ours = self.local(address).is_some_and(|local| local.arp_ports & 1 << port != 0);
        is_ours || self.ports[port].proxy_arp.iter().any(|net| net.contains(&Ipv4Addr::from(address)))
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
