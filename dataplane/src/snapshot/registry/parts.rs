//! What the file says, as workers read it: real servers, ports, static neighbours, switches.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashSet;
use weir_config::model::{Config, Forwarding, RealServer, VirtualServer};

use super::{RegistryError, served};
use crate::address::{Addr4, Wire4, v4_net};
use crate::conn::record::{ServerId, ServiceId};
use crate::neighbor::{Hop, NextHop};
use crate::pieces::Patience;
use crate::snapshot::advertisers::Advertisers;
use crate::snapshot::far::{Far, v6_nets};
use crate::snapshot::helped::is_helped;
use crate::snapshot::ranks::journal::Journal;
use crate::snapshot::routes::Routes;
use crate::snapshot::server::{Live, Server};
use crate::snapshot::virtual_router::VirtualMacs;
use crate::snapshot::{Binding, Bindings, Port, Switches, address_towards, marks};
use crate::wire::encap::Encap;
use crate::wire::ethernet::MacAddress;

/// What a real server is beside what the file says of it.
pub(super) struct Place {
    pub(super) id: ServerId,
    pub(super) name: ServerId,
    pub(super) service: ServiceId,
    pub(super) journal: Option<Arc<Journal>>,
    pub(super) live: Arc<Live>,
}

/// A real server of a virtual server.
pub(super) fn make_server(
    virtual_server: &VirtualServer,
    real: &RealServer,
    config: &Config,
    routes: &Routes,
    Place { id, name, service, journal, live }: Place,
) -> Result<Server, RegistryError> {
    let (address, encap) = served::reach(virtual_server, real)?;
    let (near, far) = match address {
        IpAddr::V4(address) => (Some(Addr4::from(address)), None),
        IpAddr::V6(address) => {
            let way = routes.way6(address);
            let way = way.filter(|way| real.forwarding != Forwarding::Dr || way.hop.address() == address);
            (None, Some(Far { address, way, bound: None }))
        }
    };
    let next_hop = near.and_then(|near| routes.next_hop(near).map(|hop| (near, hop)));
    let next_hop = next_hop.filter(|(near, hop)| {
        // Direct routing puts the real server's own MAC on the frame, so there can be no router in between.
        real.forwarding != Forwarding::Dr || hop.address == *near
    });
    // The network of each next hop has an own address. Without one there is nothing that a tunnel could come from.
    let way = next_hop.and_then(|(_, hop)| Some((hop, own_address(config, hop)?)));
    let far_exit = far.and_then(|far| far.way).map(|way| usize::from(way.hop.port()));
    let exit = way.map(|(hop, _)| hop.port).or(far_exit);
    let overhead = match (real.forwarding, far) {
        (Forwarding::Tun, None) => encap.header_len() as u16,
        (Forwarding::Tun, Some(_)) => encap.header_len6() as u16,
        (Forwarding::Dr | Forwarding::Nat, _) => 0,
    };
    Ok(Server {
        id,
        current: id,
        is_present: true,
        is_ranked: journal.is_some(),
        forwarding: real.forwarding,
        address: near.unwrap_or_default(),
        port: server_port(virtual_server, real),
        helper_port: match real.forwarding {
            Forwarding::Nat if is_helped(virtual_server) => virtual_server.port,
            _ => 0,
        },
        named_port: real.port,
        weight: real.weight,
        mtu: exit.map_or(0, |port| config.ports[port].mtu.saturating_sub(overhead)),
        hop: way.map_or(Hop::NOWHERE, |(hop, _)| Hop::new(hop, 0)),
        far: far.map(Arc::new),
        encap,
        tunnel_source: Wire4::new(way.map_or(Addr4::UNSPECIFIED, |(_, source)| source)),
        service,
        upper_threshold: real.upper_threshold,
        lower_threshold: real.lower_threshold,
        bound: None,
        tallies: live.workers.clone(),
        name: name.0,
        journal,
        live,
    })
}

/// The port to which a real server's packets are translated; 0: they keep the one that the client chose. With a mark it
/// is the kernel's rule: a persistent connection keeps its port, since it differs from the virtual server's, which is 0.
fn server_port(virtual_server: &VirtualServer, real: &RealServer) -> u16 {
    let is_translated = match virtual_server.mark {
        None => virtual_server.port != 0,
        Some(_) => real.forwarding == Forwarding::Nat && virtual_server.persistence.is_none(),
    };
    if is_translated { real.port } else { 0 }
}

/// The addresses that have a number of their own: those of virtual servers, and of marks that virtual servers have.
pub fn vips(config: &Config) -> HashSet<IpAddr> {
    let mut vips = HashSet::new();
    for virtual_server in &config.virtual_servers {
        match virtual_server.mark {
            Some(mark) => {
                let its = config.marks.iter().filter(|entry| entry.mark == mark);
                let family = virtual_server.family();
                vips.extend(its.flat_map(|entry| marks::numbered(entry, family)));
            }
            None => _ = vips.insert(virtual_server.address),
        }
    }
    vips
}

/// The own address towards a next hop.
fn own_address(config: &Config, hop: NextHop) -> Option<Addr4> {
    address_towards(config.ports[hop.port].addresses.iter().filter_map(v4_net), hop.address)
}

/// A port.
pub(super) fn make_port(config: &Config, number: usize, mac: MacAddress) -> Port {
    let port = &config.ports[number];
    Port {
        mac,
        mtu: port.mtu,
        addresses: port.addresses.iter().filter_map(v4_net).collect(),
        addresses6: v6_nets(&port.addresses).collect(),
        proxy_arp: port.proxy_arp.iter().filter_map(v4_net).collect(),
        has_vrrp: false,
        hears_vrrp6: false,
        advertisers: Advertisers::default(),
        has_host: port.host_interface.is_some(),
        has_vlans: config.ports.iter().any(|port| port.vlan.is_some_and(|vlan| vlan.device == number)),
        virtual_macs: VirtualMacs::default(),
    }
}

/// Static neighbours by address.
pub(super) fn make_bindings(config: &Config) -> Bindings {
    let mut bindings = Bindings::default();
    for neighbor in &config.neighbors {
        let binding = Binding { port: neighbor.port, mac: neighbor.mac };
        match neighbor.address {
            IpAddr::V4(address) => _ = bindings.v4.insert(address.into(), binding),
            IpAddr::V6(address) => _ = bindings.v6.insert(address, binding),
        }
    }
    bindings
}

/// The `net.ipv4.vs.*` switches.
pub(super) fn make_switches(config: &Config) -> Switches {
    let connections = &config.connections;
    Switches {
        sloppy_tcp: connections.sloppy_tcp,
        expire_nodest_conn: connections.expire_nodest_conn,
        conn_reuse_mode: connections.conn_reuse_mode,
        nat_icmp_send: connections.nat_icmp_send,
        pmtu_disc: connections.pmtu_disc,
        schedule_icmp: connections.schedule_icmp,
        expire_quiescent_template: connections.expire_quiescent_template,
        sloppy_sctp: connections.sloppy_sctp,
        secure_tcp: connections.secure_tcp,
        patience: Patience { v4: connections.ipfrag_time * 1_000, v6: connections.ip6frag_time * 1_000 },
    }
}

/// Stands where there is no real server, so that looking one up can't fail.
pub(super) fn nobody(workers: usize) -> Server {
    let live = Live::new(workers);
    Server {
        id: ServerId(0),
        current: ServerId(0),
        is_present: false,
        is_ranked: false,
        forwarding: Forwarding::Dr,
        address: Addr4::UNSPECIFIED,
        port: 0,
        helper_port: 0,
        named_port: 0,
        weight: 0,
        mtu: 0,
        hop: Hop::NOWHERE,
        far: None,
        encap: Encap::Ipip,
        tunnel_source: Wire4::new(Addr4::UNSPECIFIED),
        service: ServiceId(u16::MAX),
        upper_threshold: 0,
        lower_threshold: 0,
        bound: None,
        tallies: live.workers.clone(),
        name: 0,
        journal: None,
        live,
    }
}
