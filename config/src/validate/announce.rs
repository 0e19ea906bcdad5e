//! `[[announce]]`

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;
use toml::Spanned;

use super::fault::Fault;
use super::network::Network;
use super::ports::ReadPort;
use super::table::{Table, peek, peeked};
use super::values::{self, family};
use crate::model::{Announce, AnnounceQuorum, Announced, Config};
use crate::report::{Problem, quoted};
use crate::schema::{self, File, Span};

/// The device of the routes unless the file says otherwise.
const INTERFACE: &str = "weir-vips";
/// What is announced is preferred to what drains by so much at least, where nothing is written.
const METRIC: u32 = 100;
/// The kernel's table of its own addresses.
const LOCAL: u32 = 255;
/// Numbers of who made a route that mean the kernel or an administrator (linux/rtnetlink.h).
const KERNELS: std::ops::RangeInclusive<u8> = 0..=4;
/// Those of routing daemons, which take such routes as their own and remove them: zebra and BIRD, babeld, OpenR, and the daemons of FRR.
const DAEMONS: [std::ops::RangeInclusive<u8>; 4] = [11..=12, 42..=42, 99..=99, 186..=199];

pub(crate) fn announce(written: &schema::Announce, ports: &[ReadPort], table: &mut Table<'_>) -> Announce {
    let vips = table.list(&written.vips, vip);
    let words =
        [("any", AnnounceQuorum::Any), ("all", AnnounceQuorum::All), ("ignore", AnnounceQuorum::Ignore)];
    let quorum = table.word(&written.quorum, "quorum of a VIP", &words, &[("none", "ignore")]);
    let number = 1..=i64::from(u32::MAX);
    let of_kernel = table.integer(&written.table, "table", number.clone(), Announce::MAIN);
    if *of_kernel.get_ref() == LOCAL {
        let problem = Problem::error("a route in the kernel's own table")
            .at(of_kernel.span(), "this table holds the addresses of the host itself")
            .help(format!(
                "write another number, or leave `table` out for {}, which is main",
                Announce::MAIN
            ));
        table.report(problem);
    }
    let metric = table.integer(&written.metric, "metric", number.clone(), METRIC);
    let draining = draining(written, &metric, table);
    let protocol = table.integer(&written.protocol, "protocol", 0..=255, Announce::PROTOCOL);
    is_free(&protocol, table);
    let interface = table.parsed(&written.interface, values::interface);
    let interface = table.or(interface, INTERFACE.to_owned());
    is_own(&interface, ports, table);
    Announce {
        vips: vips.into_iter().map(Spanned::into_inner).collect(),
        quorum: quorum.map_or(AnnounceQuorum::Any, Spanned::into_inner),
        table: of_kernel.into_inner(),
        metric: metric.into_inner(),
        draining_metric: draining,
        protocol: protocol.into_inner(),
        interface: interface.into_inner(),
    }
}

/// A VIP, or a network.
fn vip(text: &str) -> Result<IpNet, Fault> {
    match text.contains('/') || values::is_everything(text) {
        true => values::network(text),
        false => values::address(text).map(IpNet::from),
    }
}

fn draining(written: &schema::Announce, metric: &Spanned<u32>, table: &mut Table<'_>) -> Option<u32> {
    written.draining_metric.as_ref()?;
    let number = 1..=i64::from(u32::MAX);
    let draining = table.integer(&written.draining_metric, "draining_metric", number, u32::MAX);
    if draining.get_ref() <= metric.get_ref() {
        let problem = Problem::error("`draining_metric` is not above `metric`")
            .at(draining.span(), "the lowest metric is preferred")
            .related(metric.span(), format!("while it serves it is {}", metric.get_ref()))
            .help("write a higher one, or remove the line: then there is no route while weir lingers");
        table.report(problem);
    }
    Some(draining.into_inner())
}

/// Others take routes of some numbers as their own.
fn is_free(protocol: &Spanned<u8>, table: &mut Table<'_>) {
    let number = protocol.get_ref();
    let whose = match number {
        _ if KERNELS.contains(number) => "the kernel's, or means that nobody says who made the route",
        _ if DAEMONS.iter().any(|theirs| theirs.contains(number)) => {
            "a routing daemon's, which takes such routes as its own and removes them"
        }
        _ => return,
    };
    let problem = Problem::error(format!("`protocol` {number} is not free"))
        .at(protocol.span(), format!("it is {whose}"))
        .help(format!(
            "write one that /etc/iproute2/rt_protos does not have, or leave it out for {}",
            Announce::PROTOCOL
        ));
    table.report(problem);
}

/// The device is weir's own and ends with it, which a port's interface may not.
fn is_own(interface: &Spanned<String>, ports: &[ReadPort], table: &mut Table<'_>) {
    let has = |port: &&ReadPort| {
        port.port.as_ref().and_then(|port| port.host_interface.as_ref()) == Some(interface.get_ref())
    };
    let Some(port) = ports.iter().find(has) else { return };
    let problem = Problem::error("the routes' device is a port's host interface")
        .at(interface.span(), "weir makes this device by itself, and it has to end when weir does")
        .related(port.at.clone(), "this port")
        .help(format!("write another name, or leave `interface` out for {}", quoted(INTERFACE)));
    table.report(problem);
}

/// What is announced, beside what else the file says.
pub(crate) fn served(file: &File, config: &Config, network: &Network, problems: &mut Vec<Problem>) {
    let written: Vec<_> = peeked(&file.announce).collect();
    if written.len() != config.announces.len()
        || peeked(&file.virtual_server).count() != config.virtual_servers.len()
    {
        return;
    }
    let announced = config.announced();
    for (index, (table, at)) in written.iter().enumerate() {
        let routes: Vec<&Announced> = announced.iter().filter(|it| it.entry == index).collect();
        nothing(table, at, &config.announces[index], &routes, problems);
    }
    let said = &mut HashSet::new();
    let servers: Vec<_> = peeked(&file.virtual_server).map(|(server, _)| server).collect();
    for route in &announced {
        let entry = &config.announces[route.entry];
        checks_go_astray(&servers, config, route, entry, said, problems);
        let address = servers[route.servers[0]].address.as_deref().map(Spanned::span);
        if let Some(at) = address.filter(|_| route.instance.is_none() && config.vrrp.is_empty()) {
            on_a_link(route.net.addr(), at, network, problems);
        }
    }
}

/// An entry, or a line of it, that stands for no VIP.
fn nothing(
    written: &schema::Announce,
    at: &Span,
    entry: &Announce,
    routes: &[&Announced],
    problems: &mut Vec<Problem>,
) {
    if entry.vips.is_empty() {
        if routes.is_empty() && written.vips.is_none() {
            let problem = Problem::warning("nothing to announce")
                .at(at.clone(), "no virtual server has a VIP that another [[announce]] does not have")
                .help("a network of a [[mark]] is announced where `vips` has it");
            problems.push(problem);
        }
        return;
    }
    let Some((list, _)) = peek(&written.vips).filter(|(list, _)| list.0.len() == entry.vips.len()) else {
        return;
    };
    for (line, vip) in list.0.iter().zip(&entry.vips) {
        if !routes.iter().any(|route| vip.contains(&route.net)) {
            let problem = Problem::warning("no VIP to announce")
                .at(line.span(), format!("no virtual server has {}", what(vip)))
                .help("write the `address` of a [[virtual_server]], or a network that holds some");
            problems.push(problem);
        }
    }
}

fn what(vip: &IpNet) -> String {
    match vip.prefix_len() == vip.max_prefix_len() {
        true => format!("this {} address", family(vip.addr())),
        false => "an address in this network, or another [[announce]] has it".to_owned(),
    }
}

/// Checks through the forwarding method go to the VIP, by the kernel's route, and that is another one now.
fn checks_go_astray(
    written: &[&schema::VirtualServer],
    config: &Config,
    route: &Announced,
    entry: &Announce,
    said: &mut HashSet<usize>,
    problems: &mut Vec<Problem>,
) {
    if entry.table != Announce::MAIN {
        return;
    }
    for &index in &route.servers {
        let server = &config.virtual_servers[index];
        let mut checks = server.real_servers.iter().flat_map(|real| &real.health_checks);
        if !checks.any(|check| check.via_forwarding) || !said.insert(index) {
            continue;
        }
        let Some(at) = written[index].address.as_deref().map(Spanned::span) else { continue };
        let problem = Problem::error("checks through the forwarding method would not get to this VIP")
            .at(at, "they go by the kernel's route to it, and that would be the announced one")
            .help(
                "write such as `table = 119` in the [[announce]], and have the routing daemon learn from that table; or remove \
                 `via = \"forwarding\"` from the checks",
            );
        problems.push(problem);
    }
}

/// Several directors announce a VIP, and on a link all of them would answer for it besides.
fn on_a_link(vip: IpAddr, at: Span, network: &Network, problems: &mut Vec<Problem>) {
    if network.connected_to(vip).is_none() || network.own(vip).is_some() {
        return;
    }
    let by = if vip.is_ipv4() { "ARP" } else { "neighbour solicitations" };
    let problem = Problem::warning("an announced VIP on a link of weir's")
        .at(at, format!("every director with this file answers {by} for it, so who is on the link does not go by the route"))
        .help("take a VIP of no connected network, or add it to the `addresses` of a [[vrrp]]");
    problems.push(problem);
}
