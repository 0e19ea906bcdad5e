//! Which virtual server a packet's mark leads to: `[[mark]]` as the data path looks it up.
//!
//! [`weir_config::model::Config::mark_of`] says what the entries mean: the first that matches wins. Here they stand by
//! destination network, so that a packet is compared only with those that can match it.

use std::net::Ipv4Addr;

use hashbrown::{HashMap, HashSet};
use ipnet::{IpNet, Ipv4Net};
use weir_config::model::{Config, Mark, PortRange, Protocol, Protocols};

use super::Ends;
use crate::address::{Addr4, v4_net};
use crate::conn::record::ServiceId;

/// The marks of a file.
pub struct Marks {
    /// Lengths of the networks there are.
    lengths: Box<[u8]>,
    /// By network and length; entries in the order of the file.
    networks: HashMap<u64, Box<[Entry]>>,
    /// Own addresses, which no network holds.
    own: HashSet<Addr4>,
}

/// A virtual server of a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marked {
    /// Its number.
    pub service: ServiceId,
    /// Whether replies come from the port that the client talks to.
    pub any_port: bool,
}

/// What a packet's mark leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// `None`: no mark, or no virtual server has it; address and port decide.
    pub marked: Option<Marked>,
    /// Whether it is the same for every client.
    pub is_for_all: bool,
}

#[derive(Clone, Copy)]
struct Entry {
    /// Its place in the file.
    order: u32,
    ports: PortRange,
    protocols: Protocols,
    sources: Option<Ipv4Net>,
    marked: Option<Marked>,
}

impl Marks {
    /// The marks of `config`; `marked` are the IPv4 virtual servers that have one.
    pub fn new(config: &Config, marked: &HashMap<u32, Marked>) -> Self {
        let mut networks: HashMap<u64, Vec<Entry>> = HashMap::new();
        let mut lengths = Vec::new();
        for (range, order) in config.marks.iter().flat_map(Mark::ranges).zip(0..) {
            // IPv4 packets are compared with the entries of their family.
            let Some(network) = v4_net(&range.destination) else { continue };
            let sources = match range.source {
                Some(IpNet::V4(sources)) => Some(sources),
                Some(IpNet::V6(_)) => continue,
                None => None,
            };
            lengths.push(network.prefix_len());
            networks.entry(place(network.network().into(), network.prefix_len())).or_default().push(Entry {
                order,
                ports: range.ports,
                protocols: range.protocols,
                sources,
                marked: marked.get(&range.mark).copied(),
            });
        }
        lengths.sort_unstable();
        lengths.dedup();
        let own = config.ports.iter().flat_map(|port| &port.addresses);
        Self {
            lengths: lengths.into(),
            networks: networks.into_iter().map(|(place, entries)| (place, entries.into())).collect(),
            own: own.filter_map(|net| Addr4::of(net.addr())).collect(),
        }
    }

    /// What the mark of a packet leads to.
    pub fn find(&self, ends: &Ends, protocol: Protocol) -> Found {
        let mut first: Option<&Entry> = None;
        // The place of the first entry that some clients match and others do not.
        let mut asked = u32::MAX;
        for &length in &self.lengths {
            let network = ends.destination.network(length);
            let Some(entries) = self.networks.get(&place(network, length)) else { continue };
            if length < 32 && self.own.contains(&ends.destination) {
                continue;
            }
            let limit = first.map_or(u32::MAX, |entry| entry.order);
            for entry in entries.iter().take_while(|entry| entry.order < limit) {
                if !entry.ports.contains(ends.destination_port) || !entry.protocols.contains(protocol) {
                    continue;
                }
                if let Some(sources) = entry.sources {
                    asked = asked.min(entry.order);
                    if !sources.contains(&Ipv4Addr::from(ends.source)) {
                        continue;
                    }
                }
                first = Some(entry);
                break;
            }
        }
        let order = first.map_or(u32::MAX, |entry| entry.order);
        Found { marked: first.and_then(|entry| entry.marked), is_for_all: asked == u32::MAX || order < asked }
    }
}

/// The addresses of a mark that have a number of their own: those that the file writes, and all of networks that are not
/// too wide.
pub(super) fn numbered(mark: &Mark) -> impl Iterator<Item = Addr4> + '_ {
    let networks = mark.addresses.iter().filter(|net| Mark::is_numbered(net)).filter_map(v4_net);
    networks.flat_map(Addr4::all_of)
}

fn place(network: Addr4, length: u8) -> u64 {
    u64::from(network.bits()) << 8 | u64::from(length)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn config(marks: &str) -> Config {
        let text = format!(
            "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\", \"10.0.1.3/24\"]\n{marks}"
        );
        weir_config::parse("test", &text).expect("a valid file").config
    }

    /// `[[mark]]`s made of few words, so that they overlap.
    fn written(entries: &[(u8, u8, u8, u8, u8)]) -> String {
        let networks = ["10.0.0.7/32", "10.0.0.0/30", "10.0.0.0/24", "10.0.1.3", "10.0.0.0/15", "0.0.0.0/0"];
        let ports = ["", "ports = [80]", "ports = [\"80-90\", 443]", "ports = [\"1-79\"]"];
        let protocols = ["", "protocols = [\"tcp\"]", "protocols = [\"udp\", \"sctp\"]"];
        let sources = ["", "sources = [\"192.0.2.0/25\"]", "sources = [\"192.0.2.200\", \"192.0.2.0/26\"]"];
        let pick = |words: &[&'static str], n: u8| words[usize::from(n) % words.len()];
        let mut text = String::new();
        for &(mark, network, port, protocol, source) in entries.iter().take(12) {
            let (network, other) = (pick(&networks, network), pick(&networks, network / 8));
            let both = if network == other { String::new() } else { format!(", \"{other}\"") };
            text += &format!(
                "[[mark]]\nmark = {}\naddresses = [\"{network}\"{both}]\n{}\n{}\n{}\n",
                mark % 4 + 1,
                pick(&ports, port),
                pick(&protocols, protocol),
                pick(&sources, source),
            );
        }
        text
    }

    #[test]
    fn a_packet_has_the_mark_that_the_file_says() {
        bolero::check!().with_type::<Vec<(u8, u8, u8, u8, u8)>>().for_each(|entries| {
            let config = config(&written(entries));
            // Mark 4 is nobody's.
            let marked: HashMap<u32, Marked> = (1..4)
                .map(|mark| (mark, Marked { service: ServiceId(mark as u16), any_port: false }))
                .collect();
            let marks = Marks::new(&config, &marked);
            for destination in
                [[10, 0, 0, 7], [10, 0, 0, 2], [10, 0, 1, 3], [10, 0, 0, 1], [10, 1, 0, 1], [8, 8, 8, 8]]
            {
                let destination = Ipv4Addr::from(destination);
                for (port, protocol) in
                    [(80, Protocol::Tcp), (85, Protocol::Udp), (443, Protocol::Sctp), (0, Protocol::Tcp)]
                {
                    let found = [[192, 0, 2, 1], [192, 0, 2, 100], [192, 0, 2, 200]].map(|source| {
                        let source = Ipv4Addr::from(source);
                        let ends = Ends {
                            source: source.into(),
                            destination: destination.into(),
                            destination_port: port,
                            protocol: protocol.number(),
                        };
                        let found = marks.find(&ends, protocol);
                        let mark =
                            config.mark_of(protocol, IpAddr::V4(source), IpAddr::V4(destination), port);
                        assert_eq!(found.marked, mark.and_then(|mark| marked.get(&mark).copied()));
                        found
                    });
                    let is_same = found.iter().all(|one| one.marked == found[0].marked);
                    assert!(is_same || found.iter().all(|one| !one.is_for_all), "{found:?}");
                }
            }
        });
    }

    #[test]
    fn only_entries_with_sources_make_the_client_matter() {
        let all = "[[mark]]\nmark = 1\naddresses = [\"192.0.2.0/24\"]\n";
        let some = "[[mark]]\nmark = 2\naddresses = [\"192.0.2.1\"]\nsources = [\"10.0.0.0/8\"]\n";
        let marked: HashMap<u32, Marked> =
            [(1, Marked { service: ServiceId(1), any_port: false })].into_iter().collect();
        let is_for_all = |text: &str, destination: [u8; 4]| {
            let ends = Ends {
                source: Addr4::new(192, 0, 2, 1),
                destination: destination.into(),
                destination_port: 80,
                protocol: Protocol::Tcp.number(),
            };
            Marks::new(&config(text), &marked).find(&ends, Protocol::Tcp).is_for_all
        };
        assert!(is_for_all(&format!("{all}{some}"), [192, 0, 2, 1]), "decided before");
        assert!(!is_for_all(&format!("{some}{all}"), [192, 0, 2, 1]));
        assert!(is_for_all(&format!("{some}{all}"), [192, 0, 2, 2]));
        assert!(!is_for_all(some, [192, 0, 2, 1]));
        assert!(is_for_all("", [192, 0, 2, 1]));
    }
}
