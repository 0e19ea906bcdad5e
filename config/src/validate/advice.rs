//! What the file may say and hardly anybody means: warnings about whole virtual servers, and about what tables say
//! together. They follow from what was read without errors; each looks at its tables once.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;
use toml::Spanned;

use super::marks;
use super::network::Network;
use super::table::{Table, peek, peeked};
use super::traffic::Traffic;
use crate::model::health::{OnFail, Probe, ServiceHealth};
use crate::model::{
    Config, Forwarding, Identity, Protocol, RealServer, Scheduler, SchedulerFlags, VirtualServer, Vrrp,
};
use crate::report::{Problem, quoted};
use crate::schema::{self, File, Span};

/// About one virtual server and its real servers.
pub(crate) fn virtual_server(
    written: &schema::VirtualServer,
    real_servers: &[RealServer],
    health: &ServiceHealth,
    (scheduler, flags): (&Spanned<Scheduler>, SchedulerFlags),
    table: &mut Table<'_>,
) {
    let count = peeked(&written.real_server).count();
    let is_readable = written.real_server.as_ref().is_none_or(|list| list.get_ref().0.is_ok());
    if count == 0 && is_readable && written.sorry_server.is_none() {
        let problem = Problem::warning("a virtual server without real servers")
            .at(table.at.clone(), "its clients are refused")
            .help("write a [[virtual_server.real_server]] with an `address`");
        table.report(problem);
    }
    // One that could not be read would have had a weight.
    if count > 0 && count == real_servers.len() {
        quorum(written, real_servers, health, table);
    }
    hash_without_fallback(written, real_servers, (scheduler, flags), table);
    clamp_before_tunnel(written, real_servers, table);
}

/// What a client announces says how much it takes, not how much it sends: that is said by the real server's SYN/ACK, which passes
/// weir with NAT alone.
fn clamp_before_tunnel(written: &schema::VirtualServer, real_servers: &[RealServer], table: &mut Table<'_>) {
    let Some((_, span)) = peek(&written.clamp_mss) else { return };
    if real_servers.iter().any(|real| real.forwarding == Forwarding::Tun) {
        let problem = Problem::warning("`clamp_mss` makes no segment smaller that goes through a tunnel")
            .at(
                span,
                "it bounds what real servers send; what clients send is bounded by the real server's SYN/ACK, which does not \
                 pass weir",
            )
            .help(
                "let the tun real servers ask for less, or give the port an `mtu` with room for the tunnel \
                 (docs/real-servers.md)",
            );
        table.report(problem);
    }
}

/// A quorum that the weights of all real servers together do not reach.
fn quorum(
    written: &schema::VirtualServer,
    real_servers: &[RealServer],
    health: &ServiceHealth,
    table: &mut Table<'_>,
) {
    if real_servers.iter().any(RealServer::has_dynamic_weight) {
        return;
    }
    let sum: u64 = real_servers.iter().map(|real| u64::from(real.weight)).sum();
    let (quorum, hysteresis) = (u64::from(health.quorum.weight), u64::from(health.quorum.hysteresis));
    let at = |field: &schema::Field<schema::Integer>| field.as_deref().map(Spanned::span);
    let problem = if sum == 0 {
        let at = real_servers_at(written).unwrap_or(table.at.clone());
        Problem::warning("no real server has a weight above 0")
            .at(at, "this virtual server sends no connection to any of them")
            .help("write a `weight` of 1 or more for those that are to serve")
    } else if quorum > sum {
        Problem::warning("the quorum is never reached")
            .at(at(&written.quorum).unwrap_or(table.at.clone()), format!("all weights together are {sum}"))
            .help(format!("write a `quorum` of at most {sum}, or higher weights"))
    } else if quorum + hysteresis > sum {
        Problem::warning("a quorum that was lost is never gained again")
            .at(
                at(&written.hysteresis).unwrap_or(table.at.clone()),
                format!("it is gained at {}; all weights together are {sum}", quorum + hysteresis),
            )
            .help(format!("write a `hysteresis` of at most {}, or higher weights", sum - quorum))
    } else {
        return;
    };
    table.report(problem);
}

/// `sh` and `mh` go on sending a client to its real server while that has weight 0, and refuse the client then.
fn hash_without_fallback(
    written: &schema::VirtualServer,
    real_servers: &[RealServer],
    (scheduler, flags): (&Spanned<Scheduler>, SchedulerFlags),
    table: &mut Table<'_>,
) {
    let name = match scheduler.get_ref() {
        Scheduler::Sh | Scheduler::Mh if !flags.fallback => scheduler.get_ref().name(),
        _ => return,
    };
    let is_checked = |real: &RealServer| !real.health_checks.is_empty();
    if !real_servers.iter().any(|real| real.on_fail == OnFail::Quiesce && is_checked(real)) {
        return;
    }
    let on_fail = |field: &schema::Field<schema::Text>| {
        peek(field).filter(|(text, _)| text.0 == "quiesce").map(|(_, span)| span)
    };
    let of_a_server = || peeked(&written.real_server).find_map(|(real, _)| on_fail(&real.on_fail));
    let Some(at) = on_fail(&written.on_fail).or_else(of_a_server) else { return };
    let problem = Problem::warning(format!("{name} refuses the clients of a server that is quiesced"))
        .at(at, "while one is down its clients get no connection")
        .related(scheduler.span(), format!("{name} looks for no other server"))
        .help(format!("write `scheduler_flags = [\"{name}-fallback\"]`, or `on_fail = \"remove\"`"));
    table.report(problem);
}

/// The first real server's table.
fn real_servers_at(written: &schema::VirtualServer) -> Option<Span> {
    peeked(&written.real_server).next().map(|(_, at)| at)
}

/// The place of the address of a virtual server's real server, by its index among those that could be read.
fn address_at(written: &schema::VirtualServer, index: usize) -> Option<Span> {
    let (real, at) = peeked(&written.real_server).nth(index)?;
    Some(real.address.as_deref().map_or(at, Spanned::span))
}

/// Real servers behind `nat` that answer datagrams, with the place of the first mention.
#[derive(Default)]
pub(crate) struct TakenReplies(HashMap<(IpAddr, u16), (Span, bool)>);

/// Replies of a virtual server's real servers.
pub(crate) struct Replies<'a> {
    pub(crate) traffic: &'a Traffic,
    pub(crate) is_one_packet: bool,
}

impl Replies<'_> {
    /// One-packet scheduling leaves no connection, so that a reply's virtual server is known by the real server's
    /// address and port alone.
    pub(crate) fn are_told_apart(
        &self,
        written: &schema::VirtualServer,
        real_servers: &[RealServer],
        taken: &mut TakenReplies,
        table: &mut Table<'_>,
    ) {
        if !self.traffic.is_mark && *self.traffic.protocol.get_ref() != Protocol::Udp {
            return;
        }
        let mut shared = None;
        for (index, real) in real_servers.iter().enumerate().filter(|(_, r)| r.forwarding == Forwarding::Nat)
        {
            match taken.0.entry((real.address, real.port)) {
                Entry::Vacant(free) => {
                    if let Some(at) = address_at_once(written, real_servers, index) {
                        free.insert((at, self.is_one_packet));
                    }
                }
                Entry::Occupied(first) if self.is_one_packet || first.get().1 => {
                    shared.get_or_insert((index, first.get().0.clone()));
                }
                Entry::Occupied(_) => {}
            }
        }
        let Some((index, first)) = shared else { return };
        let Some(at) = address_at(written, index).filter(|at| *at != first) else { return };
        let problem = Problem::warning("replies to one-packet clients are dropped")
            .at(at, "two virtual servers have this address and port, and a reply does not say whose it is")
            .related(first, "in the other one")
            .help("give each virtual server a port of its own on the real server, or remove `one_packet`");
        table.report(problem);
    }
}

/// As `address_at` in one step where every real server could be read.
fn address_at_once(
    written: &schema::VirtualServer,
    real_servers: &[RealServer],
    index: usize,
) -> Option<Span> {
    let (list, _) = peek(&written.real_server)?;
    let element = list.0.get(index).filter(|_| list.0.len() == real_servers.len())?;
    let real = &element.get_ref().0.as_ref().ok()?.0;
    Some(real.address.as_deref().map_or(element.span(), Spanned::span))
}

/// In a file with VRRP: what one director alone should have, and both do.
pub(crate) fn shared_addresses(file: &File, config: &Config, network: &Network, problems: &mut Vec<Problem>) {
    if config.vrrp.is_empty() {
        return;
    }
    let mut holders: HashMap<IpAddr, &Vrrp> = HashMap::new();
    for instance in &config.vrrp {
        holders.extend(instance.addresses.iter().map(|address| (*address, instance)));
    }
    vips_of_both(file, &holders, network, problems);
    if peeked(&file.virtual_server).count() == config.virtual_servers.len() {
        gateways(file, config, &holders, network, problems);
    }
}

/// VIPs on a link that no instance holds: both directors answer for them.
fn vips_of_both(
    file: &File,
    holders: &HashMap<IpAddr, &Vrrp>,
    network: &Network,
    problems: &mut Vec<Problem>,
) {
    let mut said = HashSet::new();
    let mut look = |address: IpAddr, at: Span| {
        // What is routed to is the affair of who routes it; an own address is another one on each director.
        let is_shared = network.connected_to(address).is_some() && network.own(address).is_none();
        if is_shared && !holders.contains_key(&address) && said.insert(address) {
            let by = if address.is_ipv4() { "ARP" } else { "neighbour solicitations" };
            let why =
                format!("every director with this file answers {by} for it, and serves it, at the same time");
            let problem = Problem::warning("no [[vrrp]] holds this VIP")
                .at(at, why)
                .help("add it to the `addresses` of a [[vrrp]]");
            problems.push(problem);
        }
    };
    for (server, _) in peeked(&file.virtual_server) {
        if let Some((text, at)) = peek(&server.address).filter(|_| server.mark.is_none())
            && let Ok(address) = text.0.parse()
        {
            look(address, at);
        }
    }
    for (mark, _) in peeked(&file.mark) {
        let list = peek(&mark.addresses).map(|(list, _)| list.0.as_slice()).unwrap_or_default();
        for written in list {
            if let Ok(text) = &written.get_ref().0
                && let Some(address) = marks::host(&text.0)
            {
                look(address, written.span());
            }
        }
    }
}

/// Replies of NAT real servers must come back through the director that is master of the VIP, so their gateway has to
/// be an address that goes where the VIP goes.
fn gateways(
    file: &File,
    config: &Config,
    holders: &HashMap<IpAddr, &Vrrp>,
    network: &Network,
    problems: &mut Vec<Problem>,
) {
    // Where instances that are master together have addresses.
    let mut reached: HashSet<(Together<'_>, IpNet)> = HashSet::new();
    for instance in &config.vrrp {
        let nets = instance.addresses.iter().filter_map(|address| network.connected_to(*address));
        reached.extend(nets.map(|net| (together(instance), net)));
    }
    for (server, (written, _)) in config.virtual_servers.iter().zip(peeked(&file.virtual_server)) {
        let Some(holder) = vips_of(server, config).find_map(|vip| holders.get(&vip)) else { continue };
        let nat = server.real_servers.iter().enumerate().filter(|(_, r)| r.forwarding == Forwarding::Nat);
        for (index, real) in nat {
            let Some(net) = network.connected_to(real.address) else { continue };
            // Said once for each.
            if !reached.insert((together(holder), net)) {
                continue;
            }
            let Some(at) = address_at(written, index) else { continue };
            let group = match &holder.sync_group {
                Some(group) => format!("`sync_group = \"{group}\"`, as in {}", quoted(&holder.name)),
                None => format!("one `sync_group` in it and in {}", quoted(&holder.name)),
            };
            let problem = Problem::warning("no gateway of this NAT real server follows the VIP")
                .at(
                    at,
                    format!(
                        "replies must go to the master, and no [[vrrp]] that is master together with {} has an \
                         address in {net}",
                        quoted(&holder.name)
                    ),
                )
                .help(format!(
                    "write a [[vrrp]] with an address of {net} and {group}, and make that address the real servers' gateway"
                ));
            problems.push(problem);
        }
    }
}

/// What instances that are master together have in common.
fn together(instance: &Vrrp) -> Together<'_> {
    match &instance.sync_group {
        Some(group) => Together::Group(group),
        None => Together::Alone(&instance.name),
    }
}

#[derive(PartialEq, Eq, Hash)]
enum Together<'c> {
    Group(&'c str),
    Alone(&'c str),
}

/// How the kernel of this machine sends to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By a route to a network that holds it.
    Route,
    /// By its default route.
    Default,
    /// Not at all.
    None,
}

/// Where the kernel's sockets must come to, by a port that the kernel has no interface at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) address: IpAddr,
    /// In a connected network of weir's.
    is_on_link: bool,
    at: Span,
}

impl Asked {
    /// What is wrong with the kernel's way there.
    pub(crate) fn problem(&self, way: Way) -> Option<Problem> {
        let why = match way {
            Way::None => "checks are the kernel's, and this host has no route to it: it will be down",
            // Whoever routes may know a way to a network further away.
            Way::Default if self.is_on_link => {
                "checks are the kernel's, and this host has but its default route to it, not the port's link"
            }
            _ => return None,
        };
        let problem =
            Problem::warning("health checks do not reach this real server").at(self.at.clone(), why);
        Some(problem.help(
            "write `host_interface = \"weir0\"` at the [[port]] towards it, or give this host a route to its network",
        ))
    }
}

/// The first checked real server of each network that the kernel reaches by other ways than weir's ports.
pub(crate) fn asked(file: &File, config: &Config, network: &Network) -> Vec<Asked> {
    let mut asked = Vec::new();
    let mut known = HashSet::new();
    for (server, (written, _)) in config.virtual_servers.iter().zip(peeked(&file.virtual_server)) {
        for (index, real) in server.real_servers.iter().enumerate() {
            let checks = real.health_checks.iter();
            let sockets = checks.filter(|c| !c.via_forwarding && !matches!(c.probe, Probe::Exec { .. }));
            let agent = real.agent.iter().map(|agent| agent.address);
            for target in sockets.map(|check| check.address).chain(agent) {
                let address = target.unwrap_or(real.address);
                if !network.is_beyond_the_host(address) || !known.insert(network.way(address)) {
                    continue;
                }
                let at = address_at(written, index).unwrap_or_default();
                asked.push(Asked { address, is_on_link: network.connected_to(address).is_some(), at });
            }
        }
    }
    asked
}

fn vips_of<'c>(server: &VirtualServer, config: &'c Config) -> Box<dyn Iterator<Item = IpAddr> + 'c> {
    match server.identity() {
        Identity::Address { address, .. } => Box::new(std::iter::once(address)),
        Identity::Mark { mark, .. } => Box::new(
            config.marks.iter().filter(move |entry| entry.mark == mark).flat_map(|entry| entry.vips()),
        ),
    }
}
