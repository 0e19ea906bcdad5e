//! `[[virtual_server]]`

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use toml::Spanned;

use super::marks::Marks;
use super::network::Network;
use super::real_servers::{self, Service};
use super::table::{Table, word};
use super::traffic::Traffic;
use super::{advice, health, ports, service, values};
use crate::model::health::OnFail;
use crate::model::{
    ClampMss, Engine, Family, Forwarding, Helper, Identity, Mark, Persistence, Protocol, RealServer,
    Scheduler, SchedulerFlags, Schedulers, VirtualServer,
};
use crate::report::{Problem, quoted};
use crate::schema::{self, Field, List, Span, Text};

/// A service stays with a client for 31 days at most, as in ipvsadm.
const PERSISTENCE_SECS_MAX: i64 = 2_678_400;

/// What is unique among virtual servers.
#[derive(Default)]
pub(crate) struct Taken {
    names: HashMap<String, Span>,
    identities: HashMap<Identity, Span>,
    replies: advice::TakenReplies,
}

impl Taken {
    /// Every virtual server whose identity could be read, with its place.
    pub(crate) fn identities(&self) -> &HashMap<Identity, Span> {
        &self.identities
    }
}

/// What virtual servers are read against.
pub(crate) struct Around<'a> {
    pub(crate) network: &'a Network,
    pub(crate) marks: &'a Marks,
    pub(crate) schedulers: &'a Schedulers,
    /// `ipv6_clients = 0`, which leaves no room for IPv6.
    pub(crate) no_ipv6: Option<Span>,
}

pub(crate) fn virtual_server(
    written: &schema::VirtualServer,
    around: &Around<'_>,
    taken: &mut Taken,
    table: &mut Table<'_>,
) -> Option<VirtualServer> {
    let name = table.required_parsed(&written.name, "name", "name = \"web\"", values::name);
    ports::unique(&mut taken.names, name.as_ref(), "virtual server name", table);
    let traffic = match &written.mark {
        Some(_) => Traffic::of_mark(written, table),
        None => Traffic::of_address(written, table),
    };
    let forwarding = real_servers::forwarding(&written.forwarding, Forwarding::Dr, table).into_inner();
    let scheduler = scheduler(&written.scheduler, table);
    let scheduler_flags = flags(&written.scheduler_flags, &scheduler, table);
    let persistence = persistence(written, &traffic, table);
    let one_packet = table.boolean(&written.one_packet, false);
    one_packet_is_for_udp(&one_packet, &traffic, table);
    let clamp_mss = clamp_mss(written, &traffic, table);
    let helper = helper(&written.helper, &traffic, table);
    port_zero_is_persistent(&traffic, persistence.as_ref(), table);
    let health_checks = health::health_checks(&written.health_check, table);
    let on_fail = health::on_fail(&written.on_fail, OnFail::default(), table);
    let agent = health::agent(&written.agent, table);
    traffic.is_unique(&mut taken.identities, table);
    let service = Service {
        family: traffic.family,
        port: traffic.port.as_ref().map(|port| *port.get_ref()),
        is_mark: traffic.is_mark,
        is_persistent: persistence.is_some(),
        forwarding,
        health_checks: health_checks.unwrap_or_default(),
        on_fail,
        agent,
        network: around.network,
    };
    let real_servers = real_servers::real_servers(&written.real_server, &service, table);
    let health = service::service_health(written, &service, table);
    service::passive_sees_answers(written, &real_servers, table);
    advice::virtual_server(written, &real_servers, &health, (&scheduler, scheduler_flags), table);
    let replies = advice::Replies { traffic: &traffic, is_one_packet: *one_packet.get_ref() };
    replies.are_told_apart(written, &real_servers, &mut taken.replies, table);
    has_room(&traffic, around, table);
    vips(&traffic, &real_servers, around, table);
    fits_maglev(&scheduler, &real_servers, around.schedulers, table);
    surprises(&scheduler, &traffic, real_servers.len(), table);
    let (mark, address, port) = traffic.read()?;
    Some(VirtualServer {
        name: name?.into_inner(),
        mark,
        address,
        port,
        protocol: traffic.protocol.into_inner(),
        scheduler: scheduler.into_inner(),
        scheduler_flags,
        persistence,
        one_packet: one_packet.into_inner(),
        clamp_mss,
        helper,
        real_servers,
        health,
    })
}

/// ipvsadm's rule: one-packet scheduling is only for UDP virtual services, and marks.
fn one_packet_is_for_udp(one_packet: &Spanned<bool>, traffic: &Traffic, table: &mut Table<'_>) {
    let protocol = *traffic.protocol.get_ref();
    if *one_packet.get_ref() && !traffic.is_mark && protocol != Protocol::Udp {
        let problem = Problem::error("one-packet scheduling is only for UDP and for marks")
            .at(one_packet.span(), format!("this virtual server's protocol is {}", protocol.name()))
            .help("remove `one_packet`, or write `protocol = \"udp\"`");
        table.report(problem);
    }
}

/// `clamp_mss`: a number of octets, or "auto".
fn clamp_mss(written: &schema::VirtualServer, traffic: &Traffic, table: &mut Table<'_>) -> Option<ClampMss> {
    let (text, span) = table.value(&written.clamp_mss)?;
    let protocol = *traffic.protocol.get_ref();
    if !traffic.is_mark && protocol != Protocol::Tcp {
        let problem = Problem::error("`clamp_mss` is only for TCP and for marks")
            .at(span.clone(), format!("this virtual server's protocol is {}", protocol.name()))
            .help("remove `clamp_mss`");
        table.report(problem);
    }
    let range = ClampMss::MIN..=ClampMss::MAX;
    let number = text.0.parse::<i128>();
    let fits = number.as_ref().ok().and_then(|number| u16::try_from(*number).ok());
    match (text.0.as_str(), fits.filter(|number| range.contains(number))) {
        ("auto", _) => return Some(ClampMss::Auto),
        (_, Some(number)) => return Some(ClampMss::To(number)),
        _ => {}
    }
    let problem = match number {
        Ok(_) => Problem::error("`clamp_mss` is out of range")
            .at(span, format!("must be {} to {} octets, or \"auto\"", range.start(), range.end()))
            .help("leave it out to let segments be as large as their ends announce"),
        Err(_) => Problem::error(format!("unknown `clamp_mss` {}", quoted(&text.0)))
            .at(span, "neither a number nor \"auto\"")
            .help("write \"auto\", or a number of octets such as 1440"),
    };
    table.report(problem);
    None
}

/// FTP's control connections are TCP, to a port of an address.
fn helper(field: &Field<Text>, traffic: &Traffic, table: &mut Table<'_>) -> Helper {
    let words = [("ftp", Helper::Ftp), ("none", Helper::Off)];
    let Some(helper) = table.word(field, "helper", &words, &[("off", "none")]) else {
        return Helper::default();
    };
    let has_no_port = traffic.port.as_ref().is_some_and(|port| *port.get_ref() == 0);
    let why = match traffic.protocol.get_ref() {
        _ if traffic.is_mark => Some("this virtual server serves a mark".to_owned()),
        Protocol::Tcp if has_no_port => Some("this virtual server has every port".to_owned()),
        Protocol::Tcp => None,
        protocol => Some(format!("this virtual server's protocol is {}", protocol.name())),
    };
    if let Some(why) = why.filter(|_| *helper.get_ref() == Helper::Ftp) {
        let problem = Problem::error("helper \"ftp\" is for a TCP port of an address")
            .at(helper.span(), why)
            .help("remove `helper`, or write a virtual server of its own for FTP's port");
        table.report(problem);
    }
    helper.into_inner()
}

/// IPVS's rule, in IPVS's words.
fn port_zero_is_persistent(traffic: &Traffic, persistence: Option<&Persistence>, table: &mut Table<'_>) {
    if let Some(port) = traffic.port.as_ref().filter(|port| *port.get_ref() == 0)
        && !traffic.is_mark
        && persistence.is_none()
    {
        let problem = Problem::error("zero port specified for non-persistent service")
            .at(port.span(), "port 0 stands for every port and needs persistence")
            .help("write the port, or a `persistence_timeout` such as 300, or assign the address a [[mark]]");
        table.report(problem);
    }
}

/// `mh` gives each real server a place in its table.
fn fits_maglev(
    scheduler: &Spanned<Scheduler>,
    real_servers: &[RealServer],
    options: &Schedulers,
    table: &mut Table<'_>,
) {
    let (limit, count) = (options.mh_real_servers_max(), real_servers.len());
    if *scheduler.get_ref() == Scheduler::Mh && count > limit {
        let problem = Problem::error("too many real servers for mh")
            .at(scheduler.span(), format!("{count} of them; the table of mh has room for {limit}"))
            .help("write a larger `mh_table_size` under [schedulers]");
        table.report(problem);
    }
}

/// Memory for the clients of IPv6 is taken at start, unless the file wants none.
fn has_room(traffic: &Traffic, around: &Around<'_>, table: &mut Table<'_>) {
    let Some(key) = around.no_ipv6.as_ref().filter(|_| traffic.family == Some(Family::V6)) else { return };
    let at = traffic.address.as_ref().map_or_else(|| table.at.clone(), Spanned::span);
    let problem = Problem::error("there is no room for IPv6 clients")
        .at(at, "`ipv6_clients` of [connections] is 0")
        .related(key.clone(), "memory for none is taken at start")
        .help("leave `ipv6_clients` out, or write at least 1024, and restart weir");
    table.report(problem);
}

/// The VIPs of a virtual server must be addresses of hosts, and what they must be for its real servers.
fn vips(traffic: &Traffic, real_servers: &[RealServer], around: &Around<'_>, table: &mut Table<'_>) {
    if let Some(address) = &traffic.address {
        if let Some(why) = around.network.not_a_host_here(*address.get_ref()) {
            table.report(Problem::error("not an address of a host").at(address.span(), why));
        }
        vip(address, real_servers, around.network, table);
    }
    if let Some((mark, family)) = traffic.mark.as_ref().zip(traffic.family) {
        // A word about the first: the others have the same real servers.
        let is_own = |vip: &Spanned<IpAddr>| around.network.own(*vip.get_ref()).is_some();
        if let Some(own) = around.marks.vips(*mark.get_ref(), family).find(is_own) {
            vip(&own, real_servers, around.network, table);
        }
        let has_nat = real_servers.iter().any(|rs| rs.forwarding == Forwarding::Nat);
        if let Some(wide) = around.marks.wide_network(*mark.get_ref(), family).filter(|_| has_nat) {
            let addresses = Mark::NUMBERED_ADDRESSES;
            let shortest = match family {
                Family::V4 => Ipv4Addr::BITS - addresses.ilog2(),
                Family::V6 => Ipv6Addr::BITS - addresses.ilog2(),
            };
            let problem = Problem::error("nat for a network that is too wide")
                .at(
                    mark.span(),
                    "a real server behind nat has to be answered for with the address that was asked",
                )
                .related(
                    wide,
                    format!("weir tells at most {addresses} addresses of a network from each other"),
                )
                .help(format!("write networks of /{shortest} or longer, or forward by \"dr\" or \"tun\""));
            table.report(problem);
        }
    }
}

/// The VIP may be weir's own address only where nothing else holds it.
///
/// A real server behind `dr` or `tun` has the VIP on its loopback device. An ARP request whose sender
/// address is one of its own, or a tunnel packet from such an address, is a martian to it and goes
/// unanswered; weir's ARP requests and tunnel packets come from its own addresses. A real server behind
/// `nat` does not know the VIP, so a director with a single address can serve it.
fn vip(address: &Spanned<IpAddr>, real_servers: &[RealServer], network: &Network, table: &mut Table<'_>) {
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

fn scheduler(field: &Field<Text>, table: &mut Table<'_>) -> Spanned<Scheduler> {
    let words = Scheduler::ALL.map(|scheduler| (scheduler.name(), scheduler));
    let synonyms = [
        ("roundrobin", "rr"),
        ("round-robin", "rr"),
        ("leastconn", "lc"),
        ("least-connection", "lc"),
        ("maglev", "mh"),
        ("source", "sh"),
    ];
    let scheduler = table.word(field, "scheduler", &words, &synonyms);
    table.or(scheduler, Scheduler::Wlc)
}

/// `scheduler_flags`: each must belong to the scheduler, but for those that ipvsadm calls by their number.
fn flags(field: &Field<List<Text>>, scheduler: &Spanned<Scheduler>, table: &mut Table<'_>) -> SchedulerFlags {
    let words = [
        ("sh-fallback", (Some(Scheduler::Sh), "fallback")),
        ("sh-port", (Some(Scheduler::Sh), "port")),
        ("mh-fallback", (Some(Scheduler::Mh), "fallback")),
        ("mh-port", (Some(Scheduler::Mh), "port")),
        ("flag-1", (None, "fallback")),
        ("flag-2", (None, "port")),
        ("flag-3", (None, "third")),
    ];
    let mut flags = SchedulerFlags::default();
    let written = table.list(field, |text| {
        word("scheduler flag", &words, &[], text).map(|(of, flag)| (of, flag, text.to_owned()))
    });
    for flag in written {
        let span = flag.span();
        let (of, flag, text) = flag.into_inner();
        if let Some(of) = of.filter(|of| of != scheduler.get_ref()) {
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
            "port" => flags.port = true,
            _ => flags.third = true,
        }
    }
    flags
}

fn persistence(
    written: &schema::VirtualServer,
    traffic: &Traffic,
    table: &mut Table<'_>,
) -> Option<Persistence> {
    let schema::VirtualServer { persistence_timeout: timeout, persistence_netmask: netmask, .. } = written;
    let timeout = table.integer::<u32>(timeout, "persistence_timeout", 0..=PERSISTENCE_SECS_MAX, 0);
    let timeout_secs = timeout.into_inner();
    let engine = engine(&written.persistence_engine, timeout_secs, traffic, table);
    let longest = match traffic.family {
        Some(Family::V4) => 32_u8,
        _ => 128,
    };
    // All clients together are one that goes to one real server, unless something else tells them apart.
    let shortest = i64::from(engine.is_none());
    let netmask = table.integer(netmask, "persistence_netmask", shortest..=i64::from(longest), longest);
    (timeout_secs > 0).then_some(Persistence { timeout_secs, netmask: netmask.into_inner(), engine })
}

/// SIP over UDP alone says in each packet which call it is of, and a call is remembered by a template.
fn engine(
    field: &Field<Text>,
    timeout_secs: u32,
    traffic: &Traffic,
    table: &mut Table<'_>,
) -> Option<Engine> {
    let engine = table.word(field, "persistence_engine", &[("sip", Engine::Sip)], &[])?;
    let protocol = *traffic.protocol.get_ref();
    let (title, why, help) = if !traffic.is_mark && protocol != Protocol::Udp {
        (
            "persistence engine \"sip\" is only for UDP and for marks",
            format!("this virtual server's protocol is {}", protocol.name()),
            "remove `persistence_engine`, or write `protocol = \"udp\"`",
        )
    } else if timeout_secs == 0 {
        (
            "a persistence engine without persistence",
            "this virtual server remembers no calls".to_owned(),
            "write how many seconds a call keeps its real server, such as `persistence_timeout = 300`",
        )
    } else {
        return Some(engine.into_inner());
    };
    table.report(Problem::error(title).at(engine.span(), why).help(help));
    Some(engine.into_inner())
}

/// What IPVS users complain about: schedulers that do not do what their names promise.
fn surprises(scheduler: &Spanned<Scheduler>, traffic: &Traffic, real_servers: usize, table: &mut Table<'_>) {
    // A mark has many addresses and protocols.
    if real_servers < 2 || traffic.is_mark {
        return;
    }
    let name = scheduler.get_ref().name();
    match (scheduler.get_ref(), traffic.protocol.get_ref()) {
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
        (Scheduler::Lblc | Scheduler::Lblcr, _) => {
            let problem = Problem::warning(format!("{name} has one destination to remember"))
                .at(scheduler.span(), "it keeps each destination address with its real server")
                .help("write \"wlc\"; lblc and lblcr are for marks, which hold many addresses");
            table.report(problem);
        }
        _ => {}
    }
}
