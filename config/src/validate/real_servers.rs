//! `[[virtual_server.real_server]]`

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;

use toml::Spanned;

use super::health::program::hook;
use super::network::Network;
use super::table::{Table, tables, word};
use super::{health, values};
use crate::model::health::{Agent, HealthCheck, OnFail, ServerHooks};
use crate::model::{Family, Forwarding, RealServer, Tunnel, TunnelChecksum};
use crate::report::Problem;
use crate::schema::{self, Field, Integer, Span, Tables, Text};

const FORWARDING: [(&str, Forwarding); 3] =
    [("dr", Forwarding::Dr), ("tun", Forwarding::Tun), ("nat", Forwarding::Nat)];

/// ipvsadm's and the kernel's names of the forwarding methods.
const FORWARDING_SYNONYMS: [(&str, &str); 8] = [
    ("route", "dr"),
    ("gatewaying", "dr"),
    ("gateway", "dr"),
    ("tunnel", "tun"),
    ("ipip", "tun"),
    ("masq", "nat"),
    ("masquerading", "nat"),
    ("masquerade", "nat"),
];

/// UDP port of GUE: ipvsadm's documentation and the Linux FOU examples use it.
const GUE_PORT: u16 = 6080;

/// What a real server takes from its virtual server.
pub(crate) struct Service<'n> {
    /// `None`: did not parse.
    pub(crate) family: Option<Family>,
    /// `None`: did not parse. With a mark 0.
    pub(crate) port: Option<u16>,
    pub(crate) is_mark: bool,
    pub(crate) is_persistent: bool,
    pub(crate) forwarding: Forwarding,
    pub(crate) health_checks: Vec<Arc<HealthCheck>>,
    pub(crate) on_fail: OnFail,
    pub(crate) agent: Option<Arc<Agent>>,
    pub(crate) network: &'n Network,
}

#[derive(Clone, Copy)]
enum TunnelKind {
    Ipip,
    Gue,
    Gre,
}

pub(crate) fn real_servers(
    field: &Tables<schema::RealServer>,
    service: &Service<'_>,
    table: &mut Table<'_>,
) -> Vec<RealServer> {
    let mut taken: HashMap<(IpAddr, u16), Span> = HashMap::new();
    let written = tables(field, "virtual_server.real_server", table);
    let mut read = Vec::with_capacity(written.len());
    for (real_server, at) in written {
        let mut table = table.inner(at);
        read.extend(self::real_server(real_server, service, &mut taken, &mut table));
    }
    read
}

/// One that stands beside the list.
pub(crate) fn alone(
    written: &schema::RealServer,
    service: &Service<'_>,
    table: &mut Table<'_>,
) -> Option<RealServer> {
    real_server(written, service, &mut HashMap::new(), table)
}

fn real_server(
    written: &schema::RealServer,
    service: &Service<'_>,
    taken: &mut HashMap<(IpAddr, u16), Span>,
    table: &mut Table<'_>,
) -> Option<RealServer> {
    let schema::RealServer {
        address,
        port,
        weight,
        forwarding,
        upper_threshold,
        lower_threshold,
        tunnel,
        tunnel_port,
        tunnel_checksum,
        health_check,
        on_fail,
        agent,
        weight_file,
        notify_up,
        notify_down,
    } = written;
    let address = table.required_parsed(address, "address", "address = \"10.0.0.11\"", values::routable_host);
    let forwarding = self::forwarding(forwarding, service.forwarding, table);
    let knows_port = port.is_some() || service.port.is_some();
    let port = self::port(port, service, &forwarding, table);
    let weight = table.integer(weight, "weight", 0..=65_535, 1);
    let (upper_threshold, lower_threshold) = thresholds(upper_threshold, lower_threshold, table);
    let tunnel = self::tunnel(tunnel, tunnel_port, tunnel_checksum, *forwarding.get_ref(), table);
    let health_checks = health::health_checks(health_check, table);
    let health_checks = health_checks.unwrap_or_else(|| service.health_checks.clone());
    let on_fail = health::on_fail(on_fail, service.on_fail, table);
    let agent = health::agent(agent, table).or_else(|| service.agent.clone());
    let weight_file = table.parsed(weight_file, health::file);
    let hooks = ServerHooks { up: hook(notify_up, table), down: hook(notify_down, table) };
    let address = address?;
    if knows_port {
        checks_have_ports(&health_checks, *port.get_ref(), &address, table);
    }
    checks_have_a_way(&health_checks, service, *forwarding.get_ref(), on_fail, &address, table);
    place(&address, service, &forwarding, table);
    match taken.entry((*address.get_ref(), *port.get_ref())) {
        Entry::Vacant(free) => {
            free.insert(address.span());
        }
        Entry::Occupied(first) => table.report(
            Problem::error("duplicate real server")
                .at(address.span(), format!("{} port {} again", address.get_ref(), port.get_ref()))
                .related(first.get().clone(), "first here")
                .help("remove one of them; to send it more connections raise its `weight`"),
        ),
    }
    Some(RealServer {
        address: address.into_inner(),
        port: port.into_inner(),
        weight: weight.into_inner(),
        forwarding: forwarding.into_inner(),
        tunnel,
        upper_threshold,
        lower_threshold,
        health_checks,
        on_fail,
        agent,
        weight_file: weight_file.map(Spanned::into_inner),
        hooks: (hooks != ServerHooks::default()).then(|| Arc::new(hooks)),
    })
}

/// A forwarding method. An unknown word is read as `nat`, of which the fewest rules hold, so that nothing else is said
/// for it.
pub(crate) fn forwarding(
    field: &Field<Text>,
    default: Forwarding,
    table: &mut Table<'_>,
) -> Spanned<Forwarding> {
    let read = table.word(field, "forwarding method", &FORWARDING, &FORWARDING_SYNONYMS);
    table.or(read, if field.is_some() { Forwarding::Nat } else { default })
}

/// A check that goes as clients' packets do needs weir to know the way also while the server is down.
fn checks_have_a_way(
    checks: &[Arc<HealthCheck>],
    service: &Service<'_>,
    forwarding: Forwarding,
    on_fail: OnFail,
    address: &Spanned<IpAddr>,
    table: &mut Table<'_>,
) {
    if !checks.iter().any(|check| check.via_forwarding) {
        return;
    }
    let (why, help) = if forwarding == Forwarding::Nat {
        ("a nat real server is reached at its own address", "write `via = \"address\"`, or remove the line")
    } else if service.is_mark || service.port == Some(0) {
        ("the virtual server has no one address and port", "write `via = \"address\"` and a `port`")
    } else if on_fail == OnFail::Remove {
        ("one that is removed is on no way any more", "write `on_fail = \"quiesce\"`")
    } else if service.network.is_beyond_the_host(*address.get_ref()) {
        (
            "the port towards it has no host interface, and checks are the kernel's",
            "write `host_interface = \"weir0\"` at that [[port]], or `via = \"address\"`",
        )
    } else {
        return;
    };
    let problem = Problem::error("no way for a check with `via = \"forwarding\"`");
    table.report(problem.at(address.span(), why).help(help));
}

/// A server of every port does not say where to look.
fn checks_have_ports(
    checks: &[Arc<HealthCheck>],
    port: u16,
    address: &Spanned<IpAddr>,
    table: &mut Table<'_>,
) {
    let lost = checks.iter().find(|check| port == 0 && check.port.is_none() && check.probe.needs_port());
    if let Some(check) = lost {
        let problem = Problem::error("a health check without a port")
            .at(address.span(), "this real server has no port of its own")
            .help(format!("write the `port` of the {} check", check.probe.name()));
        table.report(problem);
    }
}

/// The real server's port: the virtual server's, unless NAT translates it.
fn port(
    field: &Field<Integer>,
    service: &Service<'_>,
    forwarding: &Spanned<Forwarding>,
    table: &mut Table<'_>,
) -> Spanned<u16> {
    let port = table.integer(field, "port", 0..=65_535, service.port.unwrap_or_default());
    let method = *forwarding.get_ref();
    let Some(service_port) = service.port.filter(|service_port| service_port != port.get_ref()) else {
        return port;
    };
    let problem = if service.is_mark {
        // ipvsadm and keepalived take it, and so it stands in many files.
        let why = match method {
            Forwarding::Nat if !service.is_persistent => return port,
            Forwarding::Nat => "with persistence a connection keeps the port its client chose".to_owned(),
            _ => format!("{} leaves the port as it is", method.name()),
        };
        Problem::warning("`port` has no effect").at(port.span(), why).help("remove the line")
    } else if service_port == 0 {
        Problem::error("a port for a virtual server of every port")
            .at(port.span(), "a connection keeps the port its client chose")
            .help("remove `port`")
    } else if *port.get_ref() == 0 {
        Problem::error("`port` is out of range").at(port.span(), "must be 1 to 65535")
    } else if method != Forwarding::Nat {
        Problem::error(format!("{} can't change the port", method.name()))
            .at(port.span(), format!("the virtual server's port is {service_port}"))
            .help(format!("write `port = {service_port}` or remove it; only \"nat\" translates ports"))
    } else {
        return port;
    };
    table.report(problem);
    port
}

fn thresholds(upper: &Field<Integer>, lower: &Field<Integer>, table: &mut Table<'_>) -> (u32, u32) {
    let range = 0..=i64::from(u32::MAX);
    let upper = table.integer::<u32>(upper, "upper_threshold", range.clone(), 0);
    let lower = table.integer::<u32>(lower, "lower_threshold", range, 0);
    if lower.get_ref() > upper.get_ref() {
        let problem = Problem::error("`lower_threshold` is above `upper_threshold`")
            .at(lower.span(), format!("must be at most {}, the upper threshold", upper.get_ref()))
            .help("the server takes no connections from the upper threshold on until it has fewer than the lower");
        table.report(problem);
    }
    (upper.into_inner(), lower.into_inner())
}

/// How the outer header of a `tun` real server looks.
fn tunnel(
    kind: &Field<Text>,
    port: &Field<Integer>,
    checksum: &Field<Text>,
    forwarding: Forwarding,
    table: &mut Table<'_>,
) -> Tunnel {
    let kinds = [("ipip", TunnelKind::Ipip), ("gue", TunnelKind::Gue), ("gre", TunnelKind::Gre)];
    let checksums = [
        ("none", TunnelChecksum::None),
        ("csum", TunnelChecksum::Csum),
        ("remcsum", TunnelChecksum::RemCsum),
    ];
    let synonyms = [("nocsum", "none")];
    let kind = table.parsed(kind, |text| word("tunnel", &kinds, &[], text));
    let port_read = table.integer(port, "tunnel_port", 1..=65_535, GUE_PORT);
    let checksum_read = table.parsed(checksum, |text| word("tunnel checksum", &checksums, &synonyms, text));
    let port_written = port.is_some().then(|| port_read.span());
    let checksum_written = checksum_read.as_ref().map(Spanned::span);
    let checksum = checksum_read.map_or(TunnelChecksum::None, Spanned::into_inner);
    let port = port_read.into_inner();

    let idle = |span: Option<Span>, key: &str, why: &str, table: &mut Table<'_>| {
        if let Some(span) = span {
            table.report(
                Problem::warning(format!("`{key}` has no effect")).at(span, why).help("remove the line"),
            );
        }
    };
    if forwarding != Forwarding::Tun {
        let why = format!("the forwarding method is {}, not tun", forwarding.name());
        idle(kind.map(|kind| kind.span()), "tunnel", &why, table);
        idle(port_written, "tunnel_port", &why, table);
        idle(checksum_written, "tunnel_checksum", &why, table);
        return Tunnel::Ipip;
    }
    match kind.map_or(TunnelKind::Ipip, Spanned::into_inner) {
        TunnelKind::Ipip => {
            idle(port_written, "tunnel_port", "an ipip tunnel has no port", table);
            idle(checksum_written, "tunnel_checksum", "an ipip tunnel has no checksum of its own", table);
            Tunnel::Ipip
        }
        TunnelKind::Gue => Tunnel::Gue { port, checksum },
        TunnelKind::Gre => {
            idle(port_written, "tunnel_port", "a gre tunnel has no port", table);
            if let (TunnelChecksum::RemCsum, Some(span)) = (checksum, checksum_written) {
                let problem = Problem::error("gre has no remote checksum offload")
                    .at(span, "only gue has it")
                    .help("write \"csum\" or \"none\", or `tunnel = \"gue\"`");
                table.report(problem);
            }
            Tunnel::Gre { checksum }
        }
    }
}

/// The real server must be another host, of the right family, and where its method can reach it.
fn place(
    address: &Spanned<IpAddr>,
    service: &Service<'_>,
    forwarding: &Spanned<Forwarding>,
    table: &mut Table<'_>,
) {
    let rip = *address.get_ref();
    let method = *forwarding.get_ref();
    if let Some(family) = service.family.filter(|family| *family != Family::of(rip))
        && method != Forwarding::Tun
    {
        let (theirs, ours) = (values::family(rip), values::family(family.unspecified()));
        let (what, change) = match service.is_mark {
            true => ("virtual server", format!("`family = \"{}\"` for the mark", Family::of(rip).name())),
            false => ("VIP", "an address of the VIP's family".to_owned()),
        };
        let problem = Problem::error("different address family is allowed only for tunneling servers")
            .at(address.span(), format!("an {theirs} real server of an {ours} {what}"))
            .help(format!("write {change}, or `forwarding = \"tun\"`"));
        table.report(problem);
        return;
    }
    if let Some((why, place)) = service.network.refusal(rip) {
        let problem =
            Problem::error("a real server must be another host").at(address.span(), format!("this is {why}"));
        table.report(match place {
            Some(place) => problem.related(place, "given here"),
            None => problem,
        });
    } else if method == Forwarding::Dr && service.network.is_elsewhere(rip) {
        let problem = Problem::error("a dr real server must be on a connected network")
            .at(address.span(), "no [[port]] has an address in its network")
            .help("add an address of its network to a [[port]], or write `forwarding = \"tun\"` or \"nat\"");
        table.report(problem);
    } else if service.network.is_unreachable(rip) {
        let problem = Problem::error("no way to this real server")
            .at(address.span(), "it is on no connected network and no [[route]] leads to it")
            .help("add a [[route]] to its network, or an address of its network to a [[port]]");
        table.report(problem);
    }
}
