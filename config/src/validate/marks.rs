//! `[[mark]]`, alone and beside each other and the virtual servers.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use toml::Spanned;

use super::fault::Fault;
use super::network::Network;
use super::table::{Table, peek, word};
use super::traffic::PROTOCOLS;
use super::values;
use crate::model::mark::same_family;
use crate::model::{Family, Identity, Mark, MarkRange, PortRange, Protocols};
use crate::report::Problem;
use crate::schema::{self, Field, List, Span};

/// Every `[[mark]]` that could be read.
pub(crate) struct Marks {
    read: Vec<ReadMark>,
    /// No `[[mark]]` is left out for its errors.
    complete: bool,
    /// All of them taken apart, each with the index of its entry. Empty if they are too many.
    ranges: Vec<(MarkRange, usize)>,
}

struct ReadMark {
    mark: Mark,
    /// Of the value of `mark`.
    at: Span,
    /// Of each of the mark's addresses.
    address_spans: Vec<Span>,
}

impl Marks {
    pub(crate) fn read(
        written: Vec<(&schema::Mark, Span)>,
        network: &Network,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut marks = Marks { read: Vec::new(), complete: true, ranges: Vec::new() };
        let mut count = 0_usize;
        for (entry, at) in written {
            let mut table = Table::new(at, problems);
            let Some(read) = read(entry, network, &mut table) else {
                marks.complete = false;
                continue;
            };
            // One that matches nothing counts as well: others are compared with it.
            let more = range_count(&read.mark).max(1);
            if count <= Mark::RANGES_MAX && count.saturating_add(more) > Mark::RANGES_MAX {
                too_many(more, &mut table);
            }
            count = count.saturating_add(more);
            match count > Mark::RANGES_MAX {
                true => marks.complete = false,
                false => marks.read.push(read),
            }
        }
        if count <= Mark::RANGES_MAX {
            let entries = marks.read.iter().enumerate();
            marks.ranges = entries.flat_map(|(i, read)| read.mark.ranges().map(move |r| (r, i))).collect();
        }
        marks
    }

    /// The VIPs of a mark with their places.
    pub(crate) fn vips(&self, mark: u32, family: Family) -> impl Iterator<Item = Spanned<IpAddr>> + '_ {
        let entries = self.read.iter().filter(move |read| read.mark.mark == mark);
        entries.flat_map(move |read| {
            let spans = read.address_spans.iter();
            let hosts = read.mark.addresses.iter().zip(spans).filter(|(net, _)| is_host(net));
            let hosts = hosts.map(|(net, span)| Spanned::new(span.clone(), net.addr()));
            hosts.filter(move |host| Family::of(*host.get_ref()) == family)
        })
    }

    /// The place of a network of a mark that is too wide for its addresses to be told from each other.
    pub(crate) fn wide_network(&self, mark: u32, family: Family) -> Option<Span> {
        let entries = self.read.iter().filter(|read| read.mark.mark == mark);
        let mut networks = entries.flat_map(|read| read.mark.addresses.iter().zip(&read.address_spans));
        let is_wide = |net: &IpNet| Family::of(net.addr()) == family && !Mark::is_numbered(net);
        networks.find(|(net, _)| is_wide(net)).map(|(_, span)| span.clone())
    }

    /// Reports more VIPs than can be told from each other, where they become too many.
    pub(crate) fn vips_fit(&self, servers: &HashMap<Identity, Span>, problems: &mut Vec<Problem>) {
        let mut vips: HashSet<IpAddr> = HashSet::new();
        for identity in servers.keys() {
            if let Identity::Address { address, .. } = identity {
                vips.insert(*address);
            }
        }
        let is_served = |mark, family| servers.contains_key(&Identity::Mark { mark, family });
        let networks = self.read.iter().flat_map(|read| {
            let places = read.mark.addresses.iter().zip(&read.address_spans);
            places.filter(|(net, _)| is_served(read.mark.mark, Family::of(net.addr())))
        });
        for (net, span) in networks {
            if Mark::is_numbered(net) {
                vips.extend(all_of(net));
            }
            if vips.len() > Mark::VIPS_MAX {
                let limit = Mark::VIPS_MAX;
                let problem = Problem::error("too many VIPs")
                    .at(span.clone(), format!("with this network the file has more than {limit}"))
                    .help(format!(
                        "each address of a network of up to {} counts; those of wider ones do not",
                        Mark::NUMBERED_ADDRESSES
                    ));
                problems.push(problem);
                return;
            }
        }
        if vips.len() > Mark::VIPS_MAX {
            problems.push(Problem::error(format!("more than {} VIPs in the file", Mark::VIPS_MAX)));
        }
    }

    /// Warns of marks that hide each other or virtual servers, and of marks that lead nowhere.
    pub(crate) fn compare(
        &self,
        servers: &HashMap<Identity, Span>,
        network: &Network,
        problems: &mut Vec<Problem>,
    ) {
        for index in 0..self.read.len() {
            problems.extend(self.behind_others(index, network));
        }
        let mut seen = HashSet::new();
        for ReadMark { mark: Mark { mark, .. }, at, .. } in &self.read {
            let of = |family| servers.contains_key(&Identity::Mark { mark: *mark, family });
            if seen.insert(mark) && !of(Family::V4) && !of(Family::V6) {
                problems.push(
                    Problem::warning(format!("no virtual server has the mark {mark}"))
                        .at(at.clone(), "this traffic is looked up by address and port instead")
                        .help(format!("write `mark = {mark}` in a [[virtual_server]]")),
                );
            }
        }
        for (identity, at) in servers {
            problems.extend(match identity {
                Identity::Mark { mark, family } => self.unassigned(*mark, *family, at),
                Identity::Address { .. } => self.server_behind(identity, at, servers, network),
            });
        }
    }

    pub(crate) fn into_model(self) -> Vec<Mark> {
        self.read.into_iter().map(|read| read.mark).collect()
    }

    /// An entry that earlier ones hide, wholly or in part. One that holds all of an earlier one is not in
    /// question: an exception stands before its rule.
    fn behind_others(&self, index: usize, network: &Network) -> Option<Problem> {
        let start = self.ranges.partition_point(|(_, entry)| *entry < index);
        let end = self.ranges.partition_point(|(_, entry)| *entry <= index);
        let (earlier, mine) = (&self.ranges[..start], &self.ranges[start..end]);
        let this = &self.read[index];
        let hider = |range: &MarkRange| {
            earlier.iter().find(|(other, _)| other.covers(range) && is_within_reach(other, range, network))
        };
        if !mine.is_empty() && mine.iter().all(|(range, _)| hider(range).is_some()) {
            let (_, first) = mine.first().and_then(|(range, _)| hider(range))?;
            return Some(
                Problem::warning("this [[mark]] is never reached")
                    .at(this.at.clone(), "earlier ones match all of its traffic, and the first match wins")
                    .related(self.read[*first].at.clone(), "this one matches before")
                    .help("remove it, or put it first"),
            );
        }
        let crosses = |other: &MarkRange| {
            let meets = |range: &MarkRange| other.overlaps(range) && is_within_reach(other, range, network);
            other.mark != this.mark.mark
                && mine.iter().any(|(range, _)| meets(range))
                && !mine.iter().any(|(range, _)| range.covers(other))
        };
        let (other, first) = earlier.iter().find(|(other, _)| crosses(other))?;
        Some(
            Problem::warning("marks overlap")
                .at(this.at.clone(), format!("a part of this traffic has the mark {} already", other.mark))
                .related(self.read[*first].at.clone(), "this one matches before")
                .help("write addresses, ports or sources that are apart; the first match wins"),
        )
    }

    /// A virtual server whose mark no packet can have.
    fn unassigned(&self, mark: u32, family: Family, at: &Span) -> Option<Problem> {
        let is_of_family = |net: &IpNet| Family::of(net.addr()) == family;
        let assigns =
            |read: &ReadMark| read.mark.mark == mark && read.mark.addresses.iter().any(is_of_family);
        if !self.complete || self.read.iter().any(assigns) {
            return None;
        }
        let ip = values::family(family.unspecified());
        Some(
            Problem::warning(format!("no {ip} traffic has the mark {mark}"))
                .at(at.clone(), "no [[mark]] assigns it, so this virtual server gets nothing")
                .help(format!("write a [[mark]] with `mark = {mark}` and `addresses`")),
        )
    }

    /// A virtual server whose traffic a mark takes to another one.
    fn server_behind(
        &self,
        identity: &Identity,
        at: &Span,
        servers: &HashMap<Identity, Span>,
        network: &Network,
    ) -> Option<Problem> {
        let Identity::Address { address, port, protocol } = *identity else { return None };
        let mut protocols = Protocols::default();
        protocols.insert(protocol);
        let ports = if port == 0 { PortRange::ALL } else { PortRange { first: port, last: port } };
        let its = MarkRange { mark: 0, destination: address.into(), ports, protocols, source: None };
        let mut near = self.ranges.iter();
        let (first, entry) =
            near.find(|(range, _)| range.overlaps(&its) && is_within_reach(range, &its, network))?;
        let marked = Identity::Mark { mark: first.mark, family: Family::of(address) };
        if !first.covers(&its) || !servers.contains_key(&marked) {
            return None;
        }
        Some(
            Problem::warning("this virtual server gets nothing")
                .at(at.clone(), format!("its traffic has the mark {}, which another one serves", first.mark))
                .related(self.read[*entry].at.clone(), "assigned here")
                .help("remove this virtual server, or take its address and port out of the [[mark]]"),
        )
    }
}

/// The addresses of a network, of which there are not too many.
fn all_of(net: &IpNet) -> impl Iterator<Item = IpAddr> {
    let (first, last) = match net {
        IpNet::V4(net) => (u128::from(net.network().to_bits()), u128::from(net.broadcast().to_bits())),
        IpNet::V6(net) => (net.network().to_bits(), net.broadcast().to_bits()),
    };
    let is_v4 = net.addr().is_ipv4();
    (first..=last).map(move |bits| match is_v4 {
        true => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
        false => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    })
}

/// An own address of weir's has a mark only by an entry that says that very address.
fn is_within_reach(range: &MarkRange, other: &MarkRange, network: &Network) -> bool {
    range.is_host() || !other.is_host() || network.own(other.destination.addr()).is_none()
}

fn read(written: &schema::Mark, network: &Network, table: &mut Table<'_>) -> Option<ReadMark> {
    let schema::Mark { mark, addresses, ports, protocols, sources } = written;
    let mark = table.required_integer::<u32>(mark, "mark", 1..=i64::from(u32::MAX), "mark = 7");
    if addresses.is_none() {
        table.required(addresses, "addresses", "addresses = [\"192.0.2.0/24\"]");
    }
    let addresses = full_list(addresses, table, |table, list| table.list(list, destination));
    for address in addresses.iter().filter(|address| is_host(address.get_ref())) {
        if let Some(why) = network.not_a_host_here(address.get_ref().addr()) {
            table.report(Problem::error("not an address of a host").at(address.span(), why));
        }
    }
    let ports = full_list(ports, table, |table, list| table.list(list, port_range));
    let words = full_list(protocols, table, |table, list| {
        table.list(list, |text| word("protocol", &PROTOCOLS, &[], text))
    });
    let sources = full_list(sources, table, |table, list| table.list(list, client));
    let sources: Vec<IpNet> = sources.into_iter().map(Spanned::into_inner).collect();
    if !sources.is_empty() {
        let has = |family| sources.iter().any(|source| Family::of(source.addr()) == family);
        have_clients(&addresses, [has(Family::V4), has(Family::V6)], table);
    }
    let mut protocols = if words.is_empty() { Protocols::ALL } else { Protocols::default() };
    words.into_iter().for_each(|word| protocols.insert(word.into_inner()));
    let mark = mark.filter(|_| !addresses.is_empty())?;
    Some(ReadMark {
        at: mark.span(),
        address_spans: addresses.iter().map(Spanned::span).collect(),
        mark: Mark {
            mark: mark.into_inner(),
            addresses: addresses.into_iter().map(Spanned::into_inner).collect(),
            ports: merged(ports.into_iter().map(Spanned::into_inner).collect()),
            protocols,
            sources,
        },
    })
}

/// The elements of an array, which must have some: whoever writes an empty one may mean none or all.
fn full_list<T, V>(
    field: &Field<List<T>>,
    table: &mut Table<'_>,
    read: impl FnOnce(&mut Table<'_>, &Field<List<T>>) -> Vec<Spanned<V>>,
) -> Vec<Spanned<V>> {
    if let Some((_, span)) = peek(field).filter(|(list, _)| list.0.is_empty()) {
        let problem = Problem::error("an empty array matches nothing")
            .at(span, "write what it shall match")
            .help("only `addresses` is required: leave the others out to match all");
        table.report(problem);
    }
    read(table, field)
}

/// The address of a text that is an address, or a network of full length.
pub(crate) fn host(text: &str) -> Option<IpAddr> {
    let net: Option<IpNet> = text.parse().ok();
    net.filter(is_host).map(|net| net.addr()).or_else(|| text.parse().ok())
}

fn is_host(net: &IpNet) -> bool {
    net.prefix_len() == net.max_prefix_len()
}

/// A network, or an address, which is one of full length.
fn network_or_host(text: &str) -> Result<IpNet, Fault> {
    match text.contains('/') || values::is_everything(text) {
        true => values::network(text),
        false => values::address(text).map(IpNet::from),
    }
}

/// Where marked traffic goes.
fn destination(text: &str) -> Result<IpNet, Fault> {
    let net = network_or_host(text)?;
    match values::not_a_host(net.addr()).filter(|_| net.prefix_len() > 0) {
        Some(why) if is_host(&net) => Err(Fault::new("not an address of a host", why)),
        Some(_) => Err(Fault::new("not a destination of packets", "weir balances nothing to this network")),
        None if values::is_link_local_v6(net.addr()) => {
            Err(Fault::new("link-local address", "weir balances nothing to fe80::/10"))
        }
        None => Ok(net),
    }
}

/// Where marked traffic comes from.
fn client(text: &str) -> Result<IpNet, Fault> {
    let net = network_or_host(text)?;
    match values::not_a_host(net.addr()).filter(|_| net.prefix_len() > 0) {
        Some(_) => Err(Fault::new("not a network of clients", "no packet comes from there")),
        None => Ok(net),
    }
}

/// "80" or "8000-8999".
fn port_range(text: &str) -> Result<PortRange, Fault> {
    let port = |text: &str| -> Result<u16, Fault> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse::<u16>().ok().filter(|port| digits && *port > 0) {
            Some(port) => Ok(port),
            None if digits && text.bytes().all(|b| b == b'0') => {
                Err(Fault::new("invalid port", "must be 1 to 65535").help("leave `ports` out for every port"))
            }
            None if digits => Err(Fault::new("invalid port", "must be 1 to 65535")),
            None => Err(Fault::new("invalid ports", "not a port or a range of ports")
                .help("write such as \"80\" or \"8000-8999\"; names of services are not looked up")),
        }
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first.trim())?, port(last.trim())?);
    if first > last {
        return Err(Fault::new("invalid ports", format!("{first} is above {last}"))
            .help(format!("write \"{last}-{first}\"")));
    }
    Ok(PortRange { first, last })
}

/// Ranges in order; those that touch become one. None: every port.
fn merged(mut ranges: Vec<PortRange>) -> Vec<PortRange> {
    ranges.sort_unstable();
    let mut apart: Vec<PortRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match apart.last_mut() {
            Some(before) if u32::from(range.first) <= u32::from(before.last) + 1 => {
                before.last = before.last.max(range.last);
            }
            _ => apart.push(range),
        }
    }
    if apart.is_empty() {
        apart.push(PortRange::ALL);
    }
    apart
}

/// `clients` tells of IPv4 and of IPv6 whether there are any.
fn have_clients(addresses: &[Spanned<IpNet>], clients: [bool; 2], table: &mut Table<'_>) {
    let has_none = |address: &&Spanned<IpNet>| match address.get_ref() {
        IpNet::V4(_) => !clients[0],
        IpNet::V6(_) => !clients[1],
    };
    for address in addresses.iter().filter(has_none) {
        let family = values::family(address.get_ref().addr());
        let problem = Problem::warning("these addresses have no clients")
            .at(address.span(), format!("`sources` holds no {family} network"))
            .help("add one, or write a [[mark]] for each family");
        table.report(problem);
    }
}

/// How many [`MarkRange`]s an entry makes, without making them.
fn range_count(mark: &Mark) -> usize {
    let (v4, v6) = mark.addresses.iter().partition::<Vec<&IpNet>, _>(|net| net.addr().is_ipv4());
    let of = |addresses: Vec<&IpNet>| {
        let Some(address) = addresses.first() else { return 0 };
        let sources = match mark.sources.len() {
            0 => 1,
            _ => mark.sources.iter().filter(|source| same_family(source, address)).count(),
        };
        addresses.len().saturating_mul(mark.ports.len()).saturating_mul(sources)
    };
    of(v4).saturating_add(of(v6))
}

fn too_many(more: usize, table: &mut Table<'_>) {
    let limit = Mark::RANGES_MAX;
    let problem = Problem::error("too many ranges in the marks")
        .at(table.at.clone(), format!("with {more} more from here the file has more than {limit}"))
        .help(
            "each address counts with each range of ports and each source: write wider networks and ranges",
        );
    table.report(problem);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_numbers_or_ranges() {
        assert_eq!(port_range("80"), Ok(PortRange { first: 80, last: 80 }));
        assert_eq!(port_range("8000-8999"), Ok(PortRange { first: 8000, last: 8999 }));
        assert_eq!(port_range("1 - 65535"), Ok(PortRange { first: 1, last: 65_535 }));
        for bad in ["", "-", "80-", "-80", "0", "0-80", "65536", "80-70000", "90-80", "http", "+80", "1-2-3"]
        {
            assert!(port_range(bad).is_err(), "{bad}");
        }
        assert_eq!(port_range("90-80").unwrap_err().help.unwrap(), "write \"80-90\"");
    }

    #[test]
    fn ranges_of_ports_end_up_in_order_and_apart() {
        let range = |first, last| PortRange { first, last };
        assert_eq!(merged(vec![]), [PortRange::ALL]);
        assert_eq!(merged(vec![range(443, 443), range(80, 80)]), [range(80, 80), range(443, 443)]);
        assert_eq!(merged(vec![range(90, 99), range(80, 89), range(85, 95)]), [range(80, 99)]);
        let everything = [range(2, 65_535), range(1, 1), range(65_535, 65_535)];
        assert_eq!(merged(everything.to_vec()), [range(1, 65_535)]);
    }

    #[test]
    fn a_destination_is_a_network_or_an_address() {
        assert_eq!(destination("192.0.2.1").unwrap().to_string(), "192.0.2.1/32");
        assert_eq!(destination("0.0.0.0/0").unwrap().to_string(), "0.0.0.0/0");
        assert_eq!(destination("2001:db8::/64").unwrap().to_string(), "2001:db8::/64");
        for bad in
            ["192.0.2.1/24", "224.0.0.0/4", "127.0.0.1", "0.0.0.0", "fe80::/64", "x", "ff02::1", "::/128"]
        {
            assert!(destination(bad).is_err(), "{bad}");
        }
        assert_eq!(host("192.0.2.1"), host("192.0.2.1/32"));
        assert_eq!(host("192.0.2.0/24"), None);
    }

    #[test]
    fn ranges_are_counted_as_they_are_made() {
        let nets = |texts: &[&str]| texts.iter().map(|net| net.parse().unwrap()).collect::<Vec<IpNet>>();
        for sources in [&[][..], &["10.0.0.0/8"], &["10.0.0.0/8", "172.16.0.0/12", "2001:db8::/32"]] {
            let mark = Mark {
                mark: 1,
                addresses: nets(&["192.0.2.1/32", "198.51.100.0/24", "2001:db8::/64"]),
                ports: vec![PortRange { first: 1, last: 2 }, PortRange { first: 5, last: 6 }],
                protocols: Protocols::ALL,
                sources: nets(sources),
            };
            assert_eq!(range_count(&mark), mark.ranges().count());
        }
    }
}
