//! What the model says about files that hold what is not served yet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::model::{Config, Family, Identity, Mark, Persistence, PortRange, Protocol, Protocols, Scheduler};
use crate::report::Severity;

/// The model of a file of `testdata/ok`, whether weir serves it yet or not.
fn load(name: &str) -> Config {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/ok").join(name);
    config(&std::fs::read_to_string(path).unwrap())
}

fn config(text: &str) -> Config {
    let mut problems = Vec::new();
    let config = crate::parse::config(text, &mut problems).unwrap();
    let mut errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
    assert!(errors.all(|error| error.message.ends_with("not served yet")), "{problems:?}");
    config
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn marks_hold_what_the_file_says() {
    let config = load("marks.toml");
    assert_eq!(config.marks.iter().map(|mark| mark.mark).collect::<Vec<_>>(), [2, 1, 1]);
    let [some_clients, many, whole] = &config.marks[..] else { panic!("three marks") };
    assert_eq!(some_clients.protocols, Protocols { tcp: true, ..Protocols::default() });
    assert_eq!(some_clients.ranges().count(), 1); // the IPv6 source is no client of an IPv4 address
    assert_eq!(some_clients.vips().collect::<Vec<_>>(), [ip("192.0.2.7")]);
    let range = |first, last| PortRange { first, last };
    assert_eq!(many.ports, [range(80, 81), range(443, 443), range(8000, 8999)]);
    assert_eq!(many.protocols, Protocols { tcp: true, udp: true, sctp: false });
    assert_eq!(many.ranges().count(), 6);
    assert_eq!((&whole.ports[..], whole.protocols), (&[PortRange::ALL][..], Protocols::ALL));
    assert!(whole.sources.is_empty());
}

#[test]
fn a_virtual_server_of_a_mark_has_no_address() {
    let config = load("marks.toml");
    let [group, group6, some_clients, plain] = &config.virtual_servers[..] else { panic!("four servers") };
    assert_eq!(group.identity(), Identity::Mark { mark: 1, family: Family::V4 });
    assert_eq!((group.mark, group.address, group.port), (Some(1), ip("0.0.0.0"), 0));
    assert_eq!(group.persistence, Some(Persistence { timeout_secs: 300, netmask: 24, engine: None }));
    assert!(group.one_packet && group.scheduler == Scheduler::Lblcr);
    assert!(group.real_servers.iter().all(|real_server| real_server.port == 0));
    assert_eq!(group6.identity(), Identity::Mark { mark: 1, family: Family::V6 });
    assert_eq!((group6.address, group6.family()), (ip("::"), Family::V6));
    assert_eq!(group6.persistence, Some(Persistence { timeout_secs: 60, netmask: 128, engine: None }));
    let ports: Vec<_> = some_clients.real_servers.iter().map(|real_server| real_server.port).collect();
    assert_eq!(ports, [80, 0]);
    let address = ip("192.0.2.7");
    assert_eq!(plain.identity(), Identity::Address { address, port: 25, protocol: Protocol::Tcp });
}

#[test]
fn the_first_mark_that_matches_wins() {
    let config = load("marks.toml");
    let mark =
        |protocol, source, destination, port| config.mark_of(protocol, ip(source), ip(destination), port);
    let (tcp, udp, sctp) = (Protocol::Tcp, Protocol::Udp, Protocol::Sctp);
    assert_eq!(mark(tcp, "10.9.1.1", "192.0.2.7", 8080), Some(2));
    assert_eq!(mark(udp, "10.9.1.1", "192.0.2.7", 8080), Some(1));
    assert_eq!(mark(tcp, "10.8.1.1", "192.0.2.7", 8080), Some(1));
    assert_eq!(mark(tcp, "10.9.1.1", "192.0.2.8", 8080), Some(1));
    assert_eq!(mark(tcp, "10.9.1.1", "192.0.2.7", 25), None);
    assert_eq!(mark(sctp, "10.9.1.1", "192.0.2.8", 80), None);
    assert_eq!(mark(sctp, "10.9.1.1", "198.51.100.2", 65_535), Some(1));
    assert_eq!(mark(tcp, "2001:db8::9", "2001:db8:f::1", 1), Some(1));
    assert_eq!(mark(tcp, "2001:db8::9", "2001:db8:e::1", 1), None);
}

#[test]
fn own_addresses_have_a_mark_only_where_they_are_written() {
    let config = load("mark_warnings.toml");
    let mark = |source, destination| config.mark_of(Protocol::Tcp, ip(source), ip(destination), 80);
    assert_eq!(mark("10.8.0.1", "10.0.0.3"), Some(3));
    assert_eq!(mark("10.9.0.1", "10.0.0.3"), None);
    // By the entry without sources, which says this very address.
    assert_eq!(mark("10.9.0.1", "10.0.0.2"), Some(3));
    let without = Config {
        marks: config
            .marks
            .iter()
            .filter(|mark| mark.vips().next() != Some(ip("10.0.0.2")))
            .cloned()
            .collect(),
        ..config.clone()
    };
    assert_eq!(without.mark_of(Protocol::Tcp, ip("10.8.0.1"), ip("10.0.0.2"), 80), None);
}

#[test]
fn a_file_may_hold_as_many_ranges_as_the_limit_and_no_more() {
    let text = |ports: usize| {
        let ports: Vec<_> = (0..ports).map(|i| (2 * i + 1).to_string()).collect();
        format!(
            "[[port]]\nname = \"lan\"\ndevice = \"net_null0\"\n\
             [[mark]]\nmark = 1\naddresses = [\"192.0.2.1\", \"192.0.2.2\"]\nports = [{}]\n",
            ports.join(", ")
        )
    };
    assert_eq!(config(&text(512)).marks.iter().flat_map(Mark::ranges).count(), Mark::RANGES_MAX);
    let mut problems = Vec::new();
    crate::parse::config(&text(513), &mut problems);
    assert!(problems.iter().any(|problem| problem.message == "too many ranges in the marks"));
}

#[test]
fn persistence_and_ports() {
    let config = load("persistence.toml");
    let [every_port, signalling, dns] = &config.virtual_servers[..] else { panic!("three servers") };
    assert_eq!((every_port.port, every_port.real_servers[1].port), (0, 0));
    assert_eq!(every_port.persistence, Some(Persistence { timeout_secs: 300, netmask: 32, engine: None }));
    assert_eq!(signalling.protocol, Protocol::Sctp);
    assert_eq!(
        signalling.persistence,
        Some(Persistence { timeout_secs: 2_678_400, netmask: 24, engine: None })
    );
    assert!(dns.one_packet && !signalling.one_packet);
    assert!(config.connections.expire_quiescent_template && config.connections.sloppy_sctp);
}

/// The modules of this folder, by path (`health/web`), each with those that it names. A module holds those below it.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/validate");
    let mut texts =
        BTreeMap::from([(String::new(), std::fs::read_to_string(folder.with_extension("rs")).unwrap())]);
    for below in ["", "health"] {
        for entry in std::fs::read_dir(folder.join(below)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&folder).unwrap().with_extension("").display().to_string();
            if path.is_file() && name != "tests" {
                texts.insert(name, std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let modules: BTreeSet<String> = texts.keys().cloned().collect();
    let of = |(name, text): (&String, &String)| {
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let above = || name.rsplit_once('/').map_or("", |(above, _)| above);
        let mut named = BTreeSet::new();
        code.match_indices("super::")
            .for_each(|(at, word)| named.extend(paths(&code[at + word.len()..], above(), &modules)));
        let own = "crate::validate::";
        code.match_indices(own)
            .for_each(|(at, word)| named.extend(paths(&code[at + word.len()..], "", &modules)));
        let is_below = |other: &&String| {
            !other.is_empty()
                && *other != name
                && other.rsplit_once('/').map_or("", |(above, _)| above) == name
        };
        named.extend(modules.iter().filter(is_below).cloned());
        named.remove(name);
        (name.clone(), named)
    };
    texts.iter().map(of).collect()
}

/// The modules that a path leads to from another one: each as far down as there are modules.
fn paths(path: &str, from: &str, modules: &BTreeSet<String>) -> BTreeSet<String> {
    if let Some(group) = path.strip_prefix('{') {
        let mut depth = 0;
        let end = group.find(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            depth < 0
        });
        return group[..end.unwrap_or(group.len())]
            .split(',')
            .flat_map(|item| paths(item.trim(), from, modules))
            .collect();
    }
    let len = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
    let next = [from, &path[..len]].join("/").trim_start_matches('/').to_owned();
    match path[len..].strip_prefix("::") {
        _ if !modules.contains(&next) => BTreeSet::from([from.to_owned()]),
        Some(rest) => paths(rest, &next, modules),
        None => BTreeSet::from([next]),
    }
}

#[test]
fn no_module_leads_back_to_itself() {
    let mut left = imports();
    assert!(left.len() > 15 && left["virtual_servers"].contains("real_servers"), "{left:?}");
    // Those that name nobody who is left go, until none is.
    while let Some(leaf) = left.iter().find(|(_, named)| named.is_empty()).map(|(name, _)| name.clone()) {
        left.remove(&leaf);
        for named in left.values_mut() {
            named.remove(&leaf);
        }
    }
    assert!(left.is_empty(), "modules in circles, or above one: {left:#?}");
}

#[test]
fn ftp_is_for_a_tcp_port_of_an_address_and_automatic_at_port_21() {
    let file = |rest: &str| {
        format!(
            "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\"]\n\
             [[mark]]\nmark = 1\naddresses = [\"10.0.0.101\"]\n\
             [[virtual_server]]\nname = \"ftp\"\n{rest}\n\
             [[virtual_server.real_server]]\naddress = \"10.0.0.11\"\n"
        )
    };
    let is_ftp =
        |rest: &str| crate::parse("test", &file(rest)).map(|read| read.config.virtual_servers[0].is_ftp());
    let at = |port: u16, more: &str| is_ftp(&format!("address = \"10.0.0.100\"\nport = {port}\n{more}"));
    assert_eq!(at(21, "").ok(), Some(true));
    assert_eq!(at(21, "helper = \"none\"").ok(), Some(false));
    assert_eq!(at(2021, "").ok(), Some(false));
    assert_eq!(at(2021, "helper = \"ftp\"").ok(), Some(true));
    assert_eq!(at(21, "protocol = \"udp\"").ok(), Some(false));
    for refused in ["protocol = \"udp\"\nhelper = \"ftp\"", "helper = \"sip\"", "helper = 21"] {
        assert!(at(21, refused).is_err(), "{refused}");
    }
    assert!(at(0, "persistence_timeout = 300\nhelper = \"ftp\"").is_err());
    assert!(is_ftp("mark = 1\nhelper = \"ftp\"").is_err());
}
