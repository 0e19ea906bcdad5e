//! What is where: own addresses, connected networks, routes; `[[route]]` and `[[neighbor]]`.
//!
//! Every question is answered by hash lookups, one per prefix length in use: a file may hold a hundred
//! thousand real servers.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;
use toml::Spanned;

use super::ports::ReadPort;
use super::table::Table;
use super::values::{self, family};
use crate::model::{Neighbor, Route};
use crate::report::Problem;
use crate::schema::{self, Span};

/// Addresses that are not another machine's, and how others are reached.
#[derive(Default)]
pub(crate) struct Network {
    /// Addresses of the ports.
    own: HashMap<IpAddr, Span>,
    /// VIPs of virtual servers and VRRP instances, with the place of the first mention.
    vips: HashMap<IpAddr, Span>,
    connected: Prefixes<Vec<usize>>,
    /// To the port of the gateway; `None`: it is not known.
    routes: Prefixes<Option<usize>>,
    /// By port, whether the kernel has an interface there; `None`: the table is wrong in some way.
    hosted: Vec<Option<bool>>,
    /// Ports whose IPv6 addresses are all link-local.
    only_link_local: HashSet<usize>,
    /// No `[[port]]` or `[[route]]` is left out for its errors, so that what is not here is not anywhere.
    complete: bool,
}

/// Which port's link an address is on.
#[derive(Debug, PartialEq, Eq)]
enum Link {
    /// Index of the port.
    Port(usize),
    /// Link-local addresses are on every link that has some.
    Several,
    None,
}

impl Network {
    pub(crate) fn new(ports: &[ReadPort], vips: HashMap<IpAddr, Span>, problems: &mut Vec<Problem>) -> Self {
        let mut network = Network { vips, complete: ports.iter().all(|p| p.complete), ..Network::default() };
        let mut links = Vec::new();
        for (index, port) in ports.iter().enumerate() {
            network.hosted.push(port.port.as_ref().map(|port| port.host_interface.is_some()));
            let mut of_ipv6 =
                port.addresses.iter().map(|net| net.get_ref().addr()).filter(IpAddr::is_ipv6).peekable();
            if port.complete && of_ipv6.peek().is_some() && of_ipv6.all(values::is_link_local_v6) {
                network.only_link_local.insert(index);
            }
            let mut on_port = HashSet::new();
            for address in &port.addresses {
                let net = *address.get_ref();
                // One of a link means something else on each.
                let is_of_another_link = on_port.insert(net.addr()) && values::is_link_local_v6(net.addr());
                match network.own.entry(net.addr()) {
                    Entry::Vacant(free) => {
                        free.insert(address.span());
                    }
                    Entry::Occupied(_) if is_of_another_link => {}
                    Entry::Occupied(first) => problems.push(
                        Problem::error("duplicate address")
                            .at(address.span(), "given again here")
                            .related(first.get().clone(), "given first here"),
                    ),
                }
                let on = network.connected.entry(net);
                if !on.contains(&index) {
                    on.push(index);
                }
                if !values::is_link_local_v6(net.addr()) {
                    links.push((net.trunc(), index, address.span()));
                }
            }
        }
        overlaps(links, problems);
        network
    }

    /// Where a port is given this address.
    pub(crate) fn own(&self, address: IpAddr) -> Option<&Span> {
        self.own.get(&address)
    }

    /// Why the address is not another host's, with the place that says so.
    fn not_another_host(&self, address: IpAddr) -> Option<(&'static str, Span)> {
        let own = self.own.get(&address).map(|own| ("weir's own address", own.clone()));
        own.or_else(|| self.vips.get(&address).map(|span| ("a VIP", span.clone())))
    }

    /// As `not_another_host` or the reason why no host of its network can have the address.
    pub(crate) fn refusal(&self, address: IpAddr) -> Option<(String, Option<Span>)> {
        if let Some((what, place)) = self.not_another_host(address) {
            return Some((what.to_owned(), Some(place)));
        }
        self.not_a_host_here(address).map(|why| (why, None))
    }

    /// Why the address is no host's in the connected network it lies in, or `None`.
    pub(crate) fn not_a_host_here(&self, address: IpAddr) -> Option<String> {
        let (net, _) = self.connected.lookup(address)?;
        values::not_a_host_within(address, &net)
    }

    /// The connected network or the route by which the address is reached.
    pub(crate) fn way(&self, address: IpAddr) -> Option<IpNet> {
        self.connected_to(address).or_else(|| self.routes.lookup(address).map(|(net, _)| net))
    }

    /// The connected network that the address is in.
    pub(crate) fn connected_to(&self, address: IpAddr) -> Option<IpNet> {
        self.connected.lookup(address).map(|(net, _)| net)
    }

    /// Whether it is known that the address is on no connected network.
    pub(crate) fn is_elsewhere(&self, address: IpAddr) -> bool {
        self.complete && self.link(address) == Link::None
    }

    /// Whether it is known that no port and no route leads to the address.
    pub(crate) fn is_unreachable(&self, address: IpAddr) -> bool {
        self.is_elsewhere(address) && self.routes.lookup(address).is_none()
    }

    /// Whether it is known that packets to the address leave by a port without a host interface.
    pub(crate) fn is_beyond_the_host(&self, address: IpAddr) -> bool {
        let port = match self.link(address) {
            Link::Port(port) => Some(port),
            Link::Several => None,
            Link::None => self.routes.lookup(address).and_then(|(_, port)| *port),
        };
        port.is_some_and(|port| self.hosted.get(port) == Some(&Some(false)))
    }

    fn link(&self, address: IpAddr) -> Link {
        match self.connected.lookup(address) {
            None => Link::None,
            Some((_, ports)) => match ports.as_slice() {
                [port] => Link::Port(*port),
                _ => Link::Several,
            },
        }
    }

    /// The port whose link another host's address is on; reports why there is none.
    fn port_of(&self, address: &Spanned<IpAddr>, what: &str, table: &mut Table<'_>) -> Option<usize> {
        // Whichever router answers for that.
        let is_anycast = |address| {
            self.connected.lookup(address).is_some_and(|(net, _)| values::is_anycast(address, &net))
        };
        let refusal = self.refusal(*address.get_ref()).filter(|_| !is_anycast(*address.get_ref()));
        if let Some((why, place)) = refusal {
            let problem =
                Problem::error(format!("the {what} is not another host's address")).at(address.span(), why);
            table.report(match place {
                Some(place) => problem.related(place, "it is given here"),
                None => problem,
            });
            return None;
        }
        match self.link(*address.get_ref()) {
            Link::Port(port) => Some(port),
            Link::Several => {
                let problem = Problem::error(format!("the {what}'s port is not known"))
                    .at(address.span(), "link-local addresses are on more than one port")
                    .help("write an address that is not link-local");
                table.report(problem);
                None
            }
            Link::None if self.complete => {
                let problem = Problem::error(format!("the {what} is on no connected network"))
                    .at(address.span(), "no [[port]] has an address in its network")
                    .help(format!("correct it, or add an address of its network to a [[port]]: {}", {
                        let usual = if address.get_ref().is_ipv4() { 24 } else { 64 };
                        format!("addresses = [\".../{usual}\"]")
                    }));
                table.report(problem);
                None
            }
            Link::None => None,
        }
    }

    /// `[[route]]`, all of them.
    pub(crate) fn routes(
        &mut self,
        routes: &[(&schema::Route, Span)],
        problems: &mut Vec<Problem>,
    ) -> Vec<Route> {
        let mut first: HashMap<IpNet, Span> = HashMap::new();
        let mut read = Vec::with_capacity(routes.len());
        for (route, at) in routes {
            let mut table = Table::new(at.clone(), problems);
            let schema::Route { destination, gateway } = route;
            let example = "destination = \"0.0.0.0/0\"";
            let destination = table.required_parsed(destination, "destination", example, values::network);
            let example = "gateway = \"10.0.0.254\"";
            let gateway = table.required_parsed(gateway, "gateway", example, values::host);
            match &destination {
                Some(destination) => self.destination(destination, &mut first, &mut table),
                None => self.complete = false,
            }
            let port = gateway.as_ref().and_then(|gateway| self.port_of(gateway, "gateway", &mut table));
            if let (Some(gateway), Some(port)) = (&gateway, port) {
                self.has_source(gateway, port, &mut table);
            }
            if let Some(destination) = &destination {
                *self.routes.entry(*destination.get_ref()) = port;
            }
            let Some((destination, gateway)) = destination.zip(gateway) else { continue };
            if destination.get_ref().addr().is_ipv4() != gateway.get_ref().is_ipv4() {
                let problem = Problem::error("address families of a route differ")
                    .at(gateway.span(), format!("an {} gateway", family(*gateway.get_ref())))
                    .related(
                        destination.span(),
                        format!("an {} destination", family(destination.get_ref().addr())),
                    );
                table.report(problem);
            }
            read.extend(port.map(|port| Route {
                destination: destination.into_inner(),
                gateway: gateway.into_inner(),
                port,
            }));
        }
        read
    }

    /// Who is behind a link-local gateway can't answer a link-local address.
    fn has_source(&self, gateway: &Spanned<IpAddr>, port: usize, table: &mut Table<'_>) {
        if values::is_link_local_v6(*gateway.get_ref()) && self.only_link_local.contains(&port) {
            let problem = Problem::error("no address to send from by this gateway")
                .at(gateway.span(), "its port has no IPv6 address but link-local ones")
                .help("add an address of a wider scope to the [[port]]: addresses = [\".../64\"]");
            table.report(problem);
        }
    }

    fn destination(
        &mut self,
        destination: &Spanned<IpNet>,
        first: &mut HashMap<IpNet, Span>,
        table: &mut Table<'_>,
    ) {
        let net = *destination.get_ref();
        if values::not_a_host(net.addr()).is_some() && net.prefix_len() != 0 {
            let problem = Problem::error("not a destination of packets")
                .at(destination.span(), "weir forwards nothing to this network");
            table.report(problem);
        }
        if self.connected.get(&net).is_some() {
            let problem = Problem::error("route to a connected network")
                .at(destination.span(), "a [[port]] is on this network: its hosts are reached directly")
                .help("remove the route, or correct the port's prefix length");
            table.report(problem);
        }
        match first.entry(net) {
            Entry::Vacant(free) => {
                free.insert(destination.span());
            }
            Entry::Occupied(first) => table.report(
                Problem::error("duplicate route")
                    .at(destination.span(), "given again here")
                    .related(first.get().clone(), "given first here")
                    .help("weir uses one gateway per destination: remove one of them"),
            ),
        }
    }

    /// `[[neighbor]]`
    pub(crate) fn neighbor(
        &self,
        neighbor: &schema::Neighbor,
        first: &mut HashMap<IpAddr, Span>,
        table: &mut Table<'_>,
    ) -> Option<Neighbor> {
        let schema::Neighbor { address, mac } = neighbor;
        let example = "address = \"10.0.0.11\"";
        let address = table.required_parsed(address, "address", example, values::host);
        let example = "mac = \"02:00:00:00:00:11\"";
        let mac = table.required_parsed(mac, "mac", example, values::station);
        let address = address?;
        match first.entry(*address.get_ref()) {
            Entry::Vacant(free) => {
                free.insert(address.span());
            }
            Entry::Occupied(first) => table.report(
                Problem::error("duplicate neighbor")
                    .at(address.span(), "bound again here")
                    .related(first.get().clone(), "bound first here"),
            ),
        }
        let port = self.port_of(&address, "neighbor", table)?;
        mac.map(|mac| Neighbor { address: address.into_inner(), mac: mac.into_inner(), port })
    }
}

/// Reports networks of two ports that share addresses: weir would not know which link a host is on.
fn overlaps(mut links: Vec<(IpNet, usize, Span)>, problems: &mut Vec<Problem>) {
    links.sort_by_key(|(net, _, span)| (net.network(), net.prefix_len(), span.start));
    // Two networks are apart or one holds the other; these hold the one at hand.
    let mut around: Vec<(IpNet, usize, Span)> = Vec::new();
    for (net, port, span) in links {
        while around.last().is_some_and(|(outer, ..)| !outer.contains(&net)) {
            around.pop();
        }
        if let Some((outer, _, place)) = around.iter().rev().find(|(_, other, _)| *other != port) {
            problems.push(
                Problem::error("connected networks overlap")
                    .at(span.clone(), format!("{net} shares addresses with {outer} of another port"))
                    .related(place.clone(), "the other port's network")
                    .help("give each port a network of its own, or narrow the prefix lengths"),
            );
        }
        // A network of the same port that is there already would only be found in its stead.
        if around.last().is_none_or(|(outer, other, _)| *outer != net || *other != port) {
            around.push((net, port, span));
        }
    }
}

/// Longest-prefix match by one hash map per prefix length.
struct Prefixes<T>(BTreeMap<(bool, Reverse<u8>), HashMap<IpAddr, T>>);

impl<T> Default for Prefixes<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Default> Prefixes<T> {
    fn entry(&mut self, net: IpNet) -> &mut T {
        let length = (net.network().is_ipv4(), Reverse(net.prefix_len()));
        self.0.entry(length).or_default().entry(net.network()).or_default()
    }

    fn get(&self, net: &IpNet) -> Option<&T> {
        self.0.get(&(net.network().is_ipv4(), Reverse(net.prefix_len())))?.get(&net.network())
    }

    /// The longest prefix that holds the address.
    fn lookup(&self, address: IpAddr) -> Option<(IpNet, &T)> {
        let is_ipv4 = address.is_ipv4();
        self.0.range((is_ipv4, Reverse(128))..=(is_ipv4, Reverse(0))).find_map(|((_, length), nets)| {
            let net = IpNet::new(address, length.0).ok()?.trunc();
            nets.get(&net.addr()).map(|value| (net, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlapping(links: &[(&str, usize)]) -> usize {
        let links = links
            .iter()
            .enumerate()
            .map(|(i, (net, port))| (net.parse::<IpNet>().unwrap().trunc(), *port, i..i + 1))
            .collect();
        let mut problems = Vec::new();
        overlaps(links, &mut problems);
        problems.len()
    }

    #[test]
    fn the_longest_prefix_of_the_family_wins() {
        let mut prefixes = Prefixes::<u32>::default();
        for (i, net) in ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32"].iter().enumerate() {
            *prefixes.entry(net.parse().unwrap()) = i as u32;
        }
        let lookup = |a: &str| prefixes.lookup(a.parse().unwrap()).map(|(net, i)| (net.to_string(), *i));
        assert_eq!(lookup("10.1.2.3"), Some(("10.1.0.0/16".into(), 2)));
        assert_eq!(lookup("10.2.2.3"), Some(("10.0.0.0/8".into(), 1)));
        assert_eq!(lookup("192.0.2.1"), Some(("0.0.0.0/0".into(), 0)));
        assert_eq!(lookup("2001:db8::1"), Some(("2001:db8::/32".into(), 3)));
        assert_eq!(lookup("2001:db9::1"), None);
    }

    #[test]
    fn networks_of_two_ports_must_be_apart() {
        assert_eq!(overlapping(&[("10.0.0.0/24", 0), ("10.0.1.0/24", 1)]), 0);
        assert_eq!(overlapping(&[("10.0.0.0/24", 0), ("10.0.0.0/24", 0)]), 0);
        assert_eq!(overlapping(&[("10.0.0.0/24", 0), ("10.0.0.0/24", 1)]), 1);
        assert_eq!(overlapping(&[("10.1.0.0/16", 1), ("10.0.0.0/8", 0)]), 1);
        // The overlap is found behind a network of the same port.
        assert_eq!(overlapping(&[("10.0.0.0/8", 0), ("10.1.0.0/16", 1), ("10.1.1.0/24", 1)]), 2);
        assert_eq!(overlapping(&[("0.0.0.0/1", 0), ("::/1", 1)]), 0);
    }
}
