//! `[[virtual_server]]`

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

use toml::Spanned;

use super::network::Network;
use super::real_servers::{self, Service};
use super::table::{Fault, Table, word};
use super::{health, ports, values};
use crate::model::{Forwarding, Persistence, Protocol, RealServer, Scheduler, SchedulerFlags, VirtualServer};
use crate::report::{Problem, quoted};
use crate::schema::{self, Field, Integer, List, Span, Text};

const PROTOCOLS: [(&str, Protocol); 3] =
    [("tcp", Protocol::Tcp), ("udp", Protocol::Udp), ("sctp", Protocol::Sctp)];

pub(crate) const FORWARDING: [(&str, Forwarding); 3] =
    [("dr", Forwarding::Dr), ("tun", Forwarding::Tun), ("nat", Forwarding::Nat)];

/// ipvsadm's and the kernel's names of the forwarding methods.
pub(crate) const FORWARDING_SYNONYMS: [(&str, &str); 8] = [
    ("route", "dr"),
    ("gatewaying", "dr"),
    ("gateway", "dr"),
    ("tunnel", "tun"),
    ("ipip", "tun"),
    ("masq", "nat"),
    ("masquerading", "nat"),
    ("masquerade", "nat"),
];

/// A service stays with a client for 31 days at most, as in ipvsadm.
const PERSISTENCE_SECS_MAX: i64 = 2_678_400;

/// What is unique among virtual servers.
#[derive(Default)]
pub(crate) struct Taken {
    names: HashMap<String, Span>,
    services: HashMap<(IpAddr, u16, Protocol), Span>,
}

pub(crate) fn virtual_server(
    written: &schema::VirtualServer,
    network: &Network,
    taken: &mut Taken,
    table: &mut Table<'_>,
) -> Option<VirtualServer> {
    let schema::VirtualServer {
        name,
        address,
        port,
        protocol,
        forwarding,
        scheduler,
        scheduler_flags,
        persistence_timeout,
        persistence_netmask,
        one_packet,
        health_check,
        real_server,
    } = written;
    let name = table.required_parsed(name, "name", "name = \"web\"", values::name);
    ports::unique(&mut taken.names, name.as_ref(), "virtual server name", table);
    let address =
        table.required_parsed(address, "address", "address = \"10.0.0.100\"", values::routable_host);
    let port = table.required_integer::<u16>(port, "port", 0..=65_535, "port = 80");
    let protocol = table.parsed(protocol, |text| word("protocol", &PROTOCOLS, &[], text));
    let protocol = table.or(protocol, Protocol::Tcp);
    let forwarding =
        table.parsed(forwarding, |text| word("forwarding method", &FORWARDING, &FORWARDING_SYNONYMS, text));
    let forwarding = table.or(forwarding, Forwarding::Dr).into_inner();
    let scheduler = table.parsed(scheduler, self::scheduler);
    let scheduler = table.or(scheduler, Scheduler::Wlc);
    let scheduler_flags = flags(scheduler_flags, &scheduler, table);
    let persistence = persistence(persistence_timeout, persistence_netmask, address.as_ref(), table);
    let one_packet = table.boolean(one_packet, false);
    one_packet_is_for_udp(&one_packet, &protocol, table);
    port_zero_is_persistent(port.as_ref(), persistence.as_ref(), table);
    let health_check = health::health_check(health_check, table);
    if let (Some(address), Some(port)) = (&address, &port) {
        unique_service(taken, address, port, *protocol.get_ref(), table);
    }
    let service = Service {
        address: address.as_ref().map(|address| *address.get_ref()),
        port: port.as_ref().map(|port| *port.get_ref()),
        forwarding,
        health_check,
        network,
    };
    let real_servers = real_servers::real_servers(real_server, &service, table);
    if let Some(address) = &address {
        vip(address, &real_servers, network, table);
    }
    surprises(&scheduler, &protocol, real_servers.len(), table);
    let ((name, address), port) = name.zip(address).zip(port)?;
    Some(VirtualServer {
        name: name.into_inner(),
        address: address.into_inner(),
        port: port.into_inner(),
        protocol: protocol.into_inner(),
        scheduler: scheduler.into_inner(),
        scheduler_flags,
        persistence,
        one_packet: one_packet.into_inner(),
        real_servers,
    })
}

fn one_packet_is_for_udp(one_packet: &Spanned<bool>, protocol: &Spanned<Protocol>, table: &mut Table<'_>) {
    if *one_packet.get_ref() && *protocol.get_ref() != Protocol::Udp {
        let problem = Problem::error("one-packet scheduling is for UDP alone")
            .at(one_packet.span(), format!("this virtual server's protocol is {}", protocol.get_ref().name()))
            .help("remove `one_packet`, or write `protocol = \"udp\"`");
        table.report(problem);
    }
}

/// IPVS's rule, in IPVS's words.
fn port_zero_is_persistent(
    port: Option<&Spanned<u16>>,
    persistence: Option<&Persistence>,
    table: &mut Table<'_>,
) {
    if let Some(port) = port.filter(|port| *port.get_ref() == 0)
        && persistence.is_none()
    {
        let problem = Problem::error("zero port specified for non-persistent service")
            .at(port.span(), "port 0 stands for every port and needs persistence")
            .help("write the port, or a `persistence_timeout` such as 300");
        table.report(problem);
    }
}

fn unique_service(
    taken: &mut Taken,
    address: &Spanned<IpAddr>,
    port: &Spanned<u16>,
    protocol: Protocol,
    table: &mut Table<'_>,
) {
    match taken.services.entry((*address.get_ref(), *port.get_ref(), protocol)) {
        Entry::Vacant(free) => {
            free.insert(address.span());
        }
        Entry::Occupied(first) => {
            let service = format!("{} port {} {}", address.get_ref(), port.get_ref(), protocol.name());
            let problem = Problem::error("duplicate virtual server")
                .at(address.span(), format!("{service} is served already"))
                .related(first.get().clone(), "by this virtual server")
                .help("put the real servers of both into one, or change address, port or protocol");
            table.report(problem);
        }
    }
}

/// The VIP must be an address of a host, and may be weir's own only where nothing else holds it.
///
/// A real server behind `dr` or `tun` has the VIP on its loopback device. An ARP request whose sender
/// address is one of its own, or a tunnel packet from such an address, is a martian to it and goes
/// unanswered; weir's ARP requests and tunnel packets come from its own addresses. A real server behind
/// `nat` does not know the VIP, so a director with a single address can serve it.
fn vip(address: &Spanned<IpAddr>, real_servers: &[RealServer], network: &Network, table: &mut Table<'_>) {
    if let Some(why) = network.not_a_host_here(*address.get_ref()) {
        table.report(Problem::error("not an address of a host").at(address.span(), why));
    }
    let Some(own) = network.own(*address.get_ref()) else { return };
    let elsewhere = real_servers.iter().map(|rs| rs.forwarding).find(|f| *f != Forwarding::Nat);
    if let Some(forwarding) = elsewhere {
        let problem = Problem::error("the VIP is weir's own address")
            .at(
                address.span(),
                format!(
                    "a {} real server holds this address too and ignores what comes from it",
                    forwarding.name()
                ),
            )
            .related(own.clone(), "weir's own address")
            .help("give the port or the virtual server another address, or forward by \"nat\"");
        table.report(problem);
    }
}

fn scheduler(text: &str) -> Result<Scheduler, Fault> {
    let words = Scheduler::ALL.map(|scheduler| (scheduler.name(), scheduler));
    let synonyms = [
        ("roundrobin", "rr"),
        ("round-robin", "rr"),
        ("leastconn", "lc"),
        ("least-connection", "lc"),
        ("maglev", "mh"),
        ("source", "sh"),
    ];
    word("scheduler", &words, &synonyms, text)
}

/// `scheduler_flags`: each must belong to the scheduler.
fn flags(field: &Field<List<Text>>, scheduler: &Spanned<Scheduler>, table: &mut Table<'_>) -> SchedulerFlags {
    let words = [
        ("sh-fallback", (Scheduler::Sh, "fallback")),
        ("sh-port", (Scheduler::Sh, "port")),
        ("mh-fallback", (Scheduler::Mh, "fallback")),
        ("mh-port", (Scheduler::Mh, "port")),
    ];
    let mut flags = SchedulerFlags::default();
    let written = table.list(field, |text| {
        word("scheduler flag", &words, &[], text).map(|(of, flag)| (of, flag, text.to_owned()))
    });
    for flag in written {
        let span = flag.span();
        let (of, flag, text) = flag.into_inner();
        if of != *scheduler.get_ref() {
            let problem = Problem::error(format!("{} is not a flag of this scheduler", quoted(&text)))
                .at(span, format!("it belongs to the scheduler \"{}\"", of.name()))
                .related(scheduler.span(), format!("the scheduler is \"{}\"", scheduler.get_ref().name()))
                .help(match scheduler.get_ref() {
                    Scheduler::Sh | Scheduler::Mh => {
                        format!("write \"{}-{flag}\"", scheduler.get_ref().name())
                    }
                    _ => format!("remove the flag, or write `scheduler = \"{}\"`", of.name()),
                });
            table.report(problem);
        }
        match flag {
            "fallback" => flags.fallback = true,
            _ => flags.port = true,
        }
    }
    flags
}

fn persistence(
    timeout: &Field<Integer>,
    netmask: &Field<Integer>,
    address: Option<&Spanned<IpAddr>>,
    table: &mut Table<'_>,
) -> Option<Persistence> {
    let timeout = table.integer::<u32>(timeout, "persistence_timeout", 0..=PERSISTENCE_SECS_MAX, 0);
    let longest = match address.map(Spanned::get_ref) {
        Some(IpAddr::V4(_)) => 32_u8,
        _ => 128,
    };
    let netmask = table.integer(netmask, "persistence_netmask", 1..=i64::from(longest), longest);
    let (timeout_secs, netmask) = (timeout.into_inner(), netmask.into_inner());
    (timeout_secs > 0).then_some(Persistence { timeout_secs, netmask })
}

/// What IPVS users complain about: schedulers that do not do what their names promise.
fn surprises(
    scheduler: &Spanned<Scheduler>,
    protocol: &Spanned<Protocol>,
    real_servers: usize,
    table: &mut Table<'_>,
) {
    if real_servers < 2 {
        return;
    }
    let name = scheduler.get_ref().name();
    match (scheduler.get_ref(), protocol.get_ref()) {
        (Scheduler::Sed | Scheduler::Nq | Scheduler::Ovf, Protocol::Udp) => {
            let problem = Problem::warning(format!("{name} does not spread UDP"))
                .at(scheduler.span(), "it counts active connections, and UDP has none")
                .help("write \"wlc\", \"wrr\" or \"sh\"");
            table.report(problem);
        }
        (Scheduler::Dh, _) => {
            let problem = Problem::warning("dh sends every connection to one real server")
                .at(scheduler.span(), "it hashes the destination address, and this virtual server has one")
                .help("write \"sh\" to hash the client's address");
            table.report(problem);
        }
        _ => {}
    }
}
