//! Which addresses lead to which virtual server, and which sockets of NAT real servers lead back.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use ipnet::{IpNet, Ipv6Net};
use weir_config::model::{Config, Family, Forwarding, Mark, PortRange, Protocol, VirtualServer};

use super::helped::is_helped;
use super::ipv6::Numbers6;
use super::marks::{Marked, Marks};
use super::masters::VirtualRouters;
use super::nat::NatSockets;
use super::server::Server;
use super::vips::Vips;
use super::{Local, NatServer, Origin, Port, PortSet, Target, socket};
use crate::address::Addr4;
use crate::conn::record::ServiceId;

/// Grows by one virtual server after the other.
pub(super) struct Addressing<'a> {
    config: &'a Config,
    ports: &'a [Port],
    vips: &'a Vips,
    numbers6: &'a Numbers6,
    virtual_routers: &'a VirtualRouters,
    pub(super) virtual_servers: HashMap<u64, Target>,
    /// Those of IPv6.
    pub(super) virtual_servers6: HashMap<u64, Target>,
    pub(super) nat_sockets: NatSockets,
    pub(super) locals: HashMap<Addr4, Local>,
    /// VIPs to be announced: port and address.
    pub(super) announcements: Vec<(usize, Addr4)>,
    marked: HashMap<u32, Marked>,
    /// Those of IPv6.
    marked6: HashMap<u32, Marked>,
    /// Kinds of hash that there are: by the client, by the client and the port.
    pub(super) hashes: [bool; 2],
    /// See [`super::Snapshot::data_target`].
    pub(super) helped_vips: HashSet<Addr4>,
}

impl<'a> Addressing<'a> {
    /// Without virtual servers: own addresses only.
    pub(super) fn new(
        config: &'a Config,
        ports: &'a [Port],
        (vips, numbers6): (&'a Vips, &'a Numbers6),
        virtual_routers: &'a VirtualRouters,
    ) -> Self {
        Self {
            config,
            ports,
            vips,
            numbers6,
            virtual_routers,
            virtual_servers: HashMap::new(),
            virtual_servers6: HashMap::new(),
            nat_sockets: NatSockets::default(),
            locals: own_addresses(ports, numbers6),
            announcements: Vec::new(),
            marked: HashMap::new(),
            marked6: HashMap::new(),
            hashes: [false; 2],
            helped_vips: HashSet::new(),
        }
    }

    /// Adds a virtual server and its real servers, those that are left to connections among them.
    pub(super) fn add<'s>(
        &mut self,
        virtual_server: &VirtualServer,
        service: ServiceId,
        servers: impl Iterator<Item = &'s Server> + Clone,
    ) {
        let (left, servers) =
            (servers.clone().filter(|server| server.is_left()), servers.filter(|server| !server.is_left()));
        let any_port = servers.clone().all(|server| server.port == 0)
            && (virtual_server.mark.is_some() || virtual_server.port == 0);
        self.hashes[usize::from(any_port)] = true;
        let is_nat = |server: &&Server| server.forwarding == Forwarding::Nat;
        let (nat_servers, left) = (servers.filter(is_nat), left.filter(is_nat));
        match virtual_server.mark {
            Some(mark) => {
                let family = virtual_server.family();
                let marked = match family {
                    Family::V4 => &mut self.marked,
                    Family::V6 => &mut self.marked6,
                };
                marked.insert(mark, Marked { service, any_port });
                let is_of_family = |net: &IpNet| Family::of(net.addr()) == family;
                let entries = self.config.marks.iter().filter(|entry| entry.mark == mark);
                let entries = entries.filter(|entry| entry.addresses.iter().any(is_of_family));
                let entries: Vec<&Mark> = entries.collect();
                for entry in &entries {
                    for address in entry.vips().filter(|vip| Family::of(*vip) == family) {
                        self.numbers6.of(address).into_iter().for_each(|vip| self.add_vip(vip, address));
                    }
                }
                let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter();
                let protocols = protocols.filter(|protocol| has_protocol(&entries, *protocol));
                for (server, protocol) in nat_servers.flat_map(|s| protocols.clone().map(move |p| (s, p))) {
                    let one_packet = virtual_server.one_packet && protocol == Protocol::Udp;
                    let origin = origin_of_mark(&entries, family, server.port);
                    let origin = origin.and_then(|(vip, port)| Some((self.numbers6.of(vip)?, port)));
                    let keeps_calls = virtual_server.keeps_calls() && protocol == Protocol::Udp;
                    let origin = origin.map(|(vip, port)| Origin { vip, port, one_packet, keeps_calls });
                    self.nat_sockets.insert(server, protocol, NatServer { any_port, is_left: false, origin });
                }
                let its = NatServer { any_port, is_left: true, origin: None };
                for (server, protocol) in left.flat_map(|s| protocols.clone().map(move |p| (s, p))) {
                    self.nat_sockets.insert_left(server, protocol, its);
                }
            }
            None => {
                let Some(vip) = self.numbers6.of(virtual_server.address) else { return };
                let VirtualServer { port, protocol, one_packet, .. } = *virtual_server;
                let helped = nat_servers.clone().chain(left.clone()).filter(|server| server.is_helped());
                let is_helped = is_helped(virtual_server) && helped.clone().next().is_some();
                let target = Target { service, vip: self.vips.number(vip), any_port, is_helped };
                if helped.clone().next().is_some() {
                    self.helped_vips.insert(vip);
                }
                // Data connections come from any port of theirs.
                let of_data = NatServer { any_port: false, is_left: true, origin: None };
                helped.for_each(|server| self.nat_sockets.insert_data(server, of_data));
                let targets = match virtual_server.address {
                    IpAddr::V4(_) => &mut self.virtual_servers,
                    IpAddr::V6(_) => &mut self.virtual_servers6,
                };
                targets.insert(socket(vip, port, protocol.number()), target);
                self.add_vip(vip, virtual_server.address);
                let keeps_calls = virtual_server.keeps_calls();
                let origin = Some(Origin { vip, port, one_packet, keeps_calls });
                let its = NatServer { any_port, is_left: false, origin };
                nat_servers.for_each(|server| self.nat_sockets.insert(server, protocol, its));
                left.for_each(|server| self.nat_sockets.insert_left(server, protocol, its));
            }
        }
    }

    /// The marks of IPv4 packets, if any virtual server has one.
    pub(super) fn marks(&self) -> Option<Arc<Marks>> {
        (!self.marked.is_empty()).then(|| Arc::new(Marks::new(self.config, &self.marked)))
    }

    /// The same of IPv6.
    pub(super) fn marks6(&self) -> Option<Arc<Marks<Ipv6Net>>> {
        (!self.marked6.is_empty()).then(|| Arc::new(Marks::new(self.config, &self.marked6)))
    }

    fn add_vip(&mut self, vip: Addr4, address: IpAddr) {
        // VRRP answers for its addresses, and announces them.
        if self.virtual_routers.has_address(vip) {
            return;
        }
        let arp_ports = ports_of_vip(self.ports, address);
        let local = self.locals.entry(vip).or_default();
        if local.arp_ports | arp_ports != local.arp_ports {
            self.announcements.extend(bits(arp_ports).map(|port| (port, vip)));
        }
        local.arp_ports |= arp_ports;
        local.is_vip = true;
    }
}

fn has_protocol(entries: &[&Mark], protocol: Protocol) -> bool {
    entries.iter().any(|entry| entry.protocols.contains(protocol))
}

/// The address and port that clients of a mark talk to when they have a single one, as far as they are of this family; the port
/// is 0 where it is the real server's, whose port is `server_port`.
fn origin_of_mark(entries: &[&Mark], family: Family, server_port: u16) -> Option<(IpAddr, u16)> {
    let [Mark { addresses, ports, .. }] = entries else { return None };
    let mut nets = addresses.iter().filter(|net| Family::of(net.addr()) == family);
    let (Some(net), None) = (nets.next(), nets.next()) else { return None };
    let port = match ports[..] {
        _ if server_port == 0 => 0,
        [PortRange { first, last }] if first == last => first,
        _ => return None,
    };
    (net.prefix_len() == net.max_prefix_len()).then_some((net.addr(), port))
}

fn own_addresses(ports: &[Port], numbers6: &Numbers6) -> HashMap<Addr4, Local> {
    let mut locals: HashMap<Addr4, Local> = HashMap::new();
    for (number, port) in ports.iter().enumerate() {
        let own6 = port.addresses6.iter().filter_map(|net| numbers6.of(net.addr().into()));
        for address in port.addresses.iter().map(|net| net.addr().into()).chain(own6) {
            locals.entry(address).or_default().arp_ports |= 1 << number;
        }
    }
    locals
}

/// A VIP is answered where its network is; a VIP in no network of ours (one that is routed here) on every port.
pub(super) fn ports_of_vip(ports: &[Port], vip: IpAddr) -> PortSet {
    let near = ports.iter().enumerate().filter(|(_, port)| port.is_near(vip));
    let near = near.fold(0, |set, (number, _)| set | 1 << number);
    if near != 0 { near } else { (0..ports.len()).fold(0, |set, number| set | 1 << number) }
}

/// The numbers of the bits that are set.
pub(super) fn bits(set: PortSet) -> impl Iterator<Item = usize> {
    (0..PortSet::BITS as usize).filter(move |bit| set & 1 << bit != 0)
}
