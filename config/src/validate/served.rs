//! What the file may hold and weir does not serve yet. The one list of it; it shrinks to nothing.

use std::net::{IpAddr, Ipv6Addr};

use super::peeked;
use super::table::peek;
use crate::report::Problem;
use crate::schema::{
    Connections, Field, File, HealthCheck, OneTable, RealServer, Span, Tabular, Text, VirtualServer,
};

/// Schedulers that are served.
const SCHEDULERS: [&str; 6] = ["rr", "wrr", "lc", "wlc", "sh", "dh"];

/// A problem for everything not served yet. Where serving the rest without it would do something else than
/// the file says, it is an error; where it only adds to the rest, a warning.
pub(crate) fn not_served_yet(file: &File) -> Vec<Problem> {
    let mut found = Vec::new();
    if let Some((Tabular(connections), _)) = peek(&file.connections) {
        switches(connections, &mut found);
    }
    for (server, _) in peeked(&file.virtual_server) {
        virtual_server(server, &mut found);
    }
    for (_, at) in peeked(&file.vrrp) {
        found.push(
            Problem::warning("vrrp is not served yet")
                .at(at, "its addresses are served from the start")
                .help("start no second director with the same addresses"),
        );
    }
    found
}

fn switches(connections: &Connections, found: &mut Vec<Problem>) {
    let secure_tcp = peek(&connections.secure_tcp).map(|(on, span)| ("secure_tcp", on.0, span));
    let schedule_icmp = peek(&connections.schedule_icmp).map(|(on, span)| ("schedule_icmp", on.0, span));
    for (key, on, span) in [secure_tcp, schedule_icmp].into_iter().flatten() {
        if on {
            found.push(Problem::warning(format!("`{key}` is not served yet")).at(span, "has no effect"));
        }
    }
}

fn virtual_server(server: &VirtualServer, found: &mut Vec<Problem>) {
    if let Some(span) = ipv6(&server.address) {
        found.push(stop("IPv6 virtual servers are not served yet", span, "remove this virtual server"));
    }
    if let Some(span) = says(&server.protocol, |protocol| protocol == "sctp") {
        found.push(stop("sctp is not served yet", span, "remove this virtual server"));
    }
    if let Some((scheduler, span)) = peek(&server.scheduler)
        && is_known_scheduler(&scheduler.0)
        && !SCHEDULERS.contains(&scheduler.0.as_str())
    {
        let help = format!("write one of {}", SCHEDULERS.join(", "));
        found.push(stop(format!("the scheduler {} is not served yet", scheduler.0), span, help));
    }
    if let Some((_, span)) = peek(&server.persistence_timeout).filter(|(secs, _)| secs.0 > 0) {
        found.push(stop(
            "persistence is not served yet",
            span,
            "remove `persistence_timeout`; the scheduler \"sh\" keeps a client with its server",
        ));
    }
    if let Some((_, span)) = peek(&server.one_packet).filter(|(on, _)| on.0) {
        found.push(stop("one-packet scheduling is not served yet", span, "remove `one_packet`"));
    }
    health_check(&server.health_check, found);
    for (real_server, _) in peeked(&server.real_server) {
        self::real_server(server, real_server, found);
    }
}

fn real_server(server: &VirtualServer, real_server: &RealServer, found: &mut Vec<Problem>) {
    let is_tun = |field| says(field, |method| method == "tun").is_some();
    if is_tun(&real_server.forwarding) || (real_server.forwarding.is_none() && is_tun(&server.forwarding)) {
        if let Some(span) = says(&real_server.tunnel, |tunnel| matches!(tunnel, "gue" | "gre")) {
            found.push(stop("gue and gre tunnels are not served yet", span, "write `tunnel = \"ipip\"`"));
        }
        if let Some(span) = ipv6(&real_server.address).filter(|_| ipv6(&server.address).is_none()) {
            let help = "write an IPv4 address of this real server";
            found.push(stop("tunnels over IPv6 are not served yet", span, help));
        }
    }
    health_check(&real_server.health_check, found);
}

fn health_check(field: &OneTable<HealthCheck>, found: &mut Vec<Problem>) {
    if let Some((_, at)) = peek(field) {
        found.push(
            Problem::warning("health checks are not served yet")
                .at(at, "real servers are taken to be up")
                .help("set `weight = 0` to take one out"),
        );
    }
}

fn stop(message: impl Into<String>, span: Span, help: impl Into<String>) -> Problem {
    Problem::error(message).at(span, "weir can't do this yet").help(help)
}

fn says(field: &Field<Text>, is: impl FnOnce(&str) -> bool) -> Option<Span> {
    peek(field).filter(|(text, _)| is(&text.0)).map(|(_, span)| span)
}

fn ipv6(field: &Field<Text>) -> Option<Span> {
    // An IPv4 address in IPv6's clothes is refused as such.
    let is_ipv6 = |text: &str| text.parse::<Ipv6Addr>().is_ok_and(|a| IpAddr::V6(a).to_canonical().is_ipv6());
    says(field, is_ipv6)
}

fn is_known_scheduler(word: &str) -> bool {
    crate::model::Scheduler::ALL.iter().any(|scheduler| scheduler.name() == word)
}
