//! What the file may hold and weir does not serve yet. The one list of it; it shrinks to nothing.

use std::net::{IpAddr, Ipv6Addr};

use super::table::{peek, peeked};
use crate::report::Problem;
use crate::schema::{Field, File, Span, Text, VirtualServer};

/// What is not served yet, in the order of the documentation. Serving the rest without it would do something else
/// than the file says, so it stops weir.
///
/// An entry that is taken out is served; its row of the table in docs/configuration.md goes with it.
const NOT_SERVED: &[Gap] = &[
    stops(
        "an IPv6 virtual server with a `mark`",
        "marks of IPv6 are",
        "write an address and port, or family = \"ipv4\"",
        ipv6_marks,
    ),
    stops(
        "`persistence_timeout` of an IPv6 virtual server",
        "persistence of IPv6 virtual servers is",
        "remove it; the schedulers mh and sh keep clients with their real servers",
        ipv6_persistence,
    ),
    stops(
        "an IPv6 virtual server at an address of `[[vrrp]]`",
        "virtual servers at IPv6 addresses of [[vrrp]] are",
        "write another address",
        ipv6_of_vrrp,
    ),
];

/// Something that is not served yet.
struct Gap {
    /// The first cell of its row in the documentation.
    #[cfg_attr(not(test), expect(dead_code, reason = "a test compares it"))]
    documented: &'static str,
    /// What, with its verb: "gue and gre tunnels are".
    what: &'static str,
    help: &'static str,
    /// The places of a file that want it.
    places: fn(&File) -> Vec<Span>,
}

const fn stops(
    documented: &'static str,
    what: &'static str,
    help: &'static str,
    places: fn(&File) -> Vec<Span>,
) -> Gap {
    Gap { documented, what, help, places }
}

/// A problem for everything not served yet.
pub(crate) fn not_served_yet(file: &File) -> Vec<Problem> {
    let problem = |gap: &Gap, span| {
        let problem = Problem::error(format!("{} not served yet", gap.what));
        problem.at(span, "weir can't do this yet").help(gap.help)
    };
    NOT_SERVED.iter().flat_map(|gap| (gap.places)(file).into_iter().map(move |at| problem(gap, at))).collect()
}

fn servers(file: &File, find: impl Fn(&VirtualServer) -> Option<Span>) -> Vec<Span> {
    peeked(&file.virtual_server).filter_map(|(server, _)| find(server)).collect()
}

fn ipv6_marks(file: &File) -> Vec<Span> {
    servers(file, |server| says(&server.family, |family| family == "ipv6"))
}

fn ipv6_persistence(file: &File) -> Vec<Span> {
    servers(file, |server| ipv6(&server.address).and(peek(&server.persistence_timeout).map(|(_, span)| span)))
}

fn ipv6_of_vrrp(file: &File) -> Vec<Span> {
    let address = |text: &str| text.split('/').next().and_then(|text| text.parse::<Ipv6Addr>().ok());
    let listed = peeked(&file.vrrp).filter_map(|(instance, _)| peek(&instance.addresses));
    let listed = listed.flat_map(|(list, _)| list.0.iter());
    let routers: Vec<Ipv6Addr> =
        listed.filter_map(|text| text.get_ref().0.as_ref().ok().and_then(|text| address(&text.0))).collect();
    servers(file, |server| {
        says(&server.address, |text| address(text).is_some_and(|it| routers.contains(&it)))
    })
}

fn says(field: &Field<Text>, is: impl FnOnce(&str) -> bool) -> Option<Span> {
    peek(field).filter(|(text, _)| is(&text.0)).map(|(_, span)| span)
}

fn ipv6(field: &Field<Text>) -> Option<Span> {
    // An IPv4 address in IPv6's clothes is refused as such.
    let is_ipv6 = |text: &str| text.parse::<Ipv6Addr>().is_ok_and(|a| IpAddr::V6(a).to_canonical().is_ipv6());
    says(field, is_ipv6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_what_is_not_served() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
        let reference = std::fs::read_to_string(path).unwrap();
        let section = reference.split("\n## ").find(|section| section.starts_with("What is not served yet"));
        let rows = section.unwrap_or_default().lines().filter_map(|line| line.strip_prefix("| "));
        let cells: Vec<_> = rows.filter_map(|row| row.split(" | ").next()).skip(1).collect();
        assert_eq!(cells, NOT_SERVED.iter().map(|gap| gap.documented).collect::<Vec<_>>());
    }
}
