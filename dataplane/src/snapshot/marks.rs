//! Which virtual server a packet's mark leads to: `[[mark]]` as the data path looks it up.
//!
//! [`weir_config::model::Config::mark_of`] says what the entries mean: the first that matches wins. Here they stand by
//! destination network, so that a packet is compared only with those that can match it.

use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hashbrown::{HashMap, HashSet};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use weir_config::model::{Config, Family, Mark, PortRange, Protocol, Protocols};

use crate::address::{Addr4, v4_net};
use crate::conn::record::ServiceId;
use crate::parse::v6::may_be_source;

/// The marks of a file, for packets of one family.
pub struct Marks<N: Net = Ipv4Net> {
    /// Lengths of the networks there are.
    lengths: Box<[u8]>,
    /// By network and length; entries in the order of the file.
    networks: HashMap<N::Place, Box<[Entry<N>]>>,
    /// Own addresses, which no network holds.
    own: HashSet<N::Address>,
}

/// A network of one family.
pub trait Net: Copy {
    /// As packets have it.
    type Address: Copy + Eq + Hash;
    /// A network as one value.
    type Place: Copy + Eq + Hash;
    /// Bits of an address.
    const BITS: u8;
    /// Networks with prefixes of at least so many bits hold addresses of hosts alone: the configuration takes no others.
    const HOSTS: u8;

    /// `None`: it is of the other family.
    fn of(net: &IpNet) -> Option<Self>;

    /// `None`: it is of the other family.
    fn address(address: IpAddr) -> Option<Self::Address>;

    /// Bits of its prefix, and where it is.
    fn length_and_place(self) -> (u8, Self::Place);

    /// The network with a prefix of `length` bits that holds `address`.
    fn place(address: Self::Address, length: u8) -> Self::Place;

    /// Whether it holds `address`.
    fn holds(&self, address: Self::Address) -> bool;

    /// Whether `address` can be that of a host which clients reach from afar.
    fn is_host(address: Self::Address) -> bool;
}

impl Net for Ipv4Net {
    type Address = Addr4;
    type Place = u64;
    const BITS: u8 = 32;
    const HOSTS: u8 = 8;

    fn of(net: &IpNet) -> Option<Self> {
        v4_net(net)
    }

    fn address(address: IpAddr) -> Option<Addr4> {
        Addr4::of(address)
    }

    fn length_and_place(self) -> (u8, u64) {
        (self.prefix_len(), Self::place(self.network().into(), self.prefix_len()))
    }

    #[inline(always)]
    fn place(address: Addr4, length: u8) -> u64 {
        u64::from(address.network(length).bits()) << 8 | u64::from(length)
    }

    #[inline(always)]
    fn holds(&self, address: Addr4) -> bool {
        self.contains(&Ipv4Addr::from(address))
    }

    fn is_host(address: Addr4) -> bool {
        address.is_unicast()
    }
}

impl Net for Ipv6Net {
    type Address = Ipv6Addr;
    type Place = (u128, u8);
    const BITS: u8 = 128;
    const HOSTS: u8 = 10;

    fn of(net: &IpNet) -> Option<Self> {
        match net {
            IpNet::V4(_) => None,
            IpNet::V6(net) => Some(*net),
        }
    }

    fn address(address: IpAddr) -> Option<Ipv6Addr> {
        match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address),
        }
    }

    fn length_and_place(self) -> (u8, (u128, u8)) {
        (self.prefix_len(), Self::place(self.addr(), self.prefix_len()))
    }

    fn place(address: Ipv6Addr, length: u8) -> (u128, u8) {
        let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        (address.to_bits() & mask, length)
    }

    fn holds(&self, address: Ipv6Addr) -> bool {
        self.contains(&address)
    }

    fn is_host(address: Ipv6Addr) -> bool {
        may_be_source(address) && !address.is_unicast_link_local()
    }
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
struct Entry<N> {
    /// Its place in the file.
    order: u32,
    ports: PortRange,
    protocols: Protocols,
    sources: Option<N>,
    marked: Option<Marked>,
}

impl<N: Net> Marks<N> {
    /// The marks of `config`; `marked` are the virtual servers of the family that have one.
    pub fn new(config: &Config, marked: &HashMap<u32, Marked>) -> Self {
        let mut networks: HashMap<N::Place, Vec<Entry<N>>> = HashMap::new();
        let mut lengths = Vec::new();
        for (range, order) in config.marks.iter().flat_map(Mark::ranges).zip(0..) {
            // Packets are compared with the entries of their family.
            let Some(network) = N::of(&range.destination) else { continue };
            let sources = match &range.source {
                Some(sources) => match N::of(sources) {
                    Some(sources) => Some(sources),
                    None => continue,
                },
                None => None,
            };
            let (length, place) = network.length_and_place();
            lengths.push(length);
            networks.entry(place).or_default().push(Entry {
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
            own: own.filter_map(|net| N::address(net.addr())).collect(),
        }
    }

    /// Whether packets to this address may have a mark.
    pub fn may_hold(&self, destination: N::Address) -> bool {
        let may_hold = |&length: &u8| {
            self.networks.contains_key(&N::place(destination, length)) && self.is_meant(destination, length)
        };
        self.lengths.iter().any(may_hold)
    }

    /// Whether a network of this length means an address that lies in it: none means own addresses, which it would have to say,
    /// or those of groups and of the link alone, which lie in `0.0.0.0/0` and `::/0` as well.
    fn is_meant(&self, destination: N::Address, length: u8) -> bool {
        length == N::BITS
            || !self.own.contains(&destination) && (length >= N::HOSTS || N::is_host(destination))
    }

    /// What the mark leads to of a packet from a client to an address and its port.
    pub fn find(
        &self,
        source: N::Address,
        (destination, port): (N::Address, u16),
        protocol: Protocol,
    ) -> Found {
        let mut first: Option<&Entry<N>> = None;
        // The place of the first entry that some clients match and others do not.
        let mut asked = u32::MAX;
        for &length in &self.lengths {
            let Some(entries) = self.networks.get(&N::place(destination, length)) else { continue };
            if !self.is_meant(destination, length) {
                continue;
            }
            let limit = first.map_or(u32::MAX, |entry| entry.order);
            for entry in entries.iter().take_while(|entry| entry.order < limit) {
                if !entry.ports.contains(port) || !entry.protocols.contains(protocol) {
                    continue;
                }
                if let Some(sources) = entry.sources {
                    asked = asked.min(entry.order);
                    if !sources.holds(source) {
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

/// Whether an address lies in a network of a mark that is so wide that its addresses share numbers. One that has had a number for itself
/// keeps it there: its connections are known by that.
pub(super) fn shares_numbers(config: &Config) -> impl Fn(IpAddr) -> bool {
    let wide = config.marks.iter().flat_map(|mark| &mark.addresses).filter(|net| !Mark::is_numbered(net));
    let wide: Vec<IpNet> = wide.copied().collect();
    move |address| wide.iter().any(|net| net.contains(&address))
}

/// The addresses of one family of a mark that have a number of their own: those that the file writes, and all of networks that
/// are not too wide.
pub(super) fn numbered(mark: &Mark, family: Family) -> impl Iterator<Item = IpAddr> + '_ {
    let is_its = move |net: &&IpNet| Mark::is_numbered(net) && Family::of(net.addr()) == family;
    let all = |net: &IpNet| match *net {
        IpNet::V4(net) => (Some(Addr4::all_of(net).map(IpAddr::from)), None),
        IpNet::V6(net) => {
            let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
            (None, Some((first..=last).map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)))))
        }
    };
    let both = mark.addresses.iter().filter(is_its).map(all);
    both.flat_map(|(v4, v6)| v4.into_iter().flatten().chain(v6.into_iter().flatten()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(marks: &str) -> Config {
        let own = [
            "10.0.0.2/24".to_owned(),
            "10.0.1.3/24".to_owned(),
            in_ipv6("10.0.0.2/24"),
            in_ipv6("10.0.1.3/24"),
        ];
        let text = format!("[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = {own:?}\n{marks}");
        weir_config::parse("test", &text).expect("a valid file").config
    }

    /// The IPv6 network or address that has an IPv4 one at its end.
    fn in_ipv6(net: &str) -> String {
        let (address, length) = net.split_once('/').unwrap_or((net, "32"));
        let length: u8 = length.parse().expect("a length");
        match length {
            0 => "::/0".to_owned(),
            length => format!("{}/{}", six(address.parse().expect("an address")), length + 96),
        }
    }

    fn six(address: Ipv4Addr) -> Ipv6Addr {
        Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(address.to_bits()))
    }

    /// `[[mark]]`s made of few words, so that they overlap.
    fn written(entries: &[(u8, u8, u8, u8, u8)], is_v6: bool) -> String {
        let networks = ["10.0.0.7/32", "10.0.0.0/30", "10.0.0.0/24", "10.0.1.3", "10.0.0.0/15", "0.0.0.0/0"];
        let networks = networks.map(|net| if is_v6 { in_ipv6(net) } else { net.to_owned() });
        let ports = ["", "ports = [80]", "ports = [\"80-90\", 443]", "ports = [\"1-79\"]"];
        let protocols = ["", "protocols = [\"tcp\"]", "protocols = [\"udp\", \"sctp\"]"];
        let sources: [&[&str]; 3] = [&[], &["192.0.2.0/25"], &["192.0.2.200", "192.0.2.0/26"]];
        let sources = sources.map(|nets| match nets {
            [] => String::new(),
            _ if is_v6 => format!("sources = {:?}", nets.iter().map(|net| in_ipv6(net)).collect::<Vec<_>>()),
            _ => format!("sources = {nets:?}"),
        });
        fn pick<T: AsRef<str>>(words: &[T], n: u8) -> &str {
            words[usize::from(n) % words.len()].as_ref()
        }
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

    /// Compares what marks lead to with what the file says, of packets of one family.
    fn compare<N: Net>(config: &Config, address: impl Fn(Ipv4Addr) -> IpAddr) {
        // Mark 4 is nobody's.
        let marked: HashMap<u32, Marked> =
            (1..4).map(|mark| (mark, Marked { service: ServiceId(mark as u16), any_port: false })).collect();
        let marks = Marks::<N>::new(config, &marked);
        let its = |address| N::address(address).expect("an address of the family");
        for destination in [
            [10, 0, 0, 7],
            [10, 0, 0, 2],
            [10, 0, 1, 3],
            [10, 0, 0, 1],
            [10, 1, 0, 1],
            [8, 8, 8, 8],
            [224, 0, 0, 5],
        ] {
            let destination = address(Ipv4Addr::from(destination));
            for (port, protocol) in
                [(80, Protocol::Tcp), (85, Protocol::Udp), (443, Protocol::Sctp), (0, Protocol::Tcp)]
            {
                let found = [[192, 0, 2, 1], [192, 0, 2, 100], [192, 0, 2, 200]].map(|source| {
                    let source = address(Ipv4Addr::from(source));
                    let found = marks.find(its(source), (its(destination), port), protocol);
                    let mark = config.mark_of(protocol, source, destination, port);
                    assert_eq!(found.marked, mark.and_then(|mark| marked.get(&mark).copied()));
                    assert!(mark.is_none() || marks.may_hold(its(destination)));
                    found
                });
                let is_same = found.iter().all(|one| one.marked == found[0].marked);
                assert!(is_same || found.iter().all(|one| !one.is_for_all), "{found:?}");
            }
        }
    }

    #[test]
    fn a_packet_has_the_mark_that_the_file_says() {
        bolero::check!().with_type::<(bool, Vec<(u8, u8, u8, u8, u8)>)>().for_each(|(is_v6, entries)| {
            let config = config(&written(entries, *is_v6));
            compare::<Ipv4Net>(&config, IpAddr::V4);
            compare::<Ipv6Net>(&config, |address| six(address).into());
        });
    }

    #[test]
    fn a_wide_network_holds_hosts_alone() {
        let all = config("[[mark]]\nmark = 1\naddresses = [\"0.0.0.0/0\", \"fe00::/7\", \"::/0\"]\n");
        let (v4, v6) =
            (Marks::<Ipv4Net>::new(&all, &HashMap::new()), Marks::<Ipv6Net>::new(&all, &HashMap::new()));
        for (address, is_held) in [
            ("192.0.2.1", true),
            ("10.0.0.2", false),
            ("127.0.0.1", false),
            ("224.0.0.18", false),
            ("240.0.0.1", false),
            ("255.255.255.255", false),
            ("0.0.0.0", false),
            ("2001:db8:1::1", true),
            ("2001:db8::a00:2", false),
            ("fe80::1", false),
            ("ff02::1", false),
            ("ff02::1:ff00:1", false),
            ("ff0e::1", false),
            ("::1", false),
            ("::", false),
        ] {
            let address: IpAddr = address.parse().expect("an address");
            let may_hold = match address {
                IpAddr::V4(address) => v4.may_hold(address.into()),
                IpAddr::V6(address) => v6.may_hold(address),
            };
            assert_eq!(may_hold, is_held, "{address}");
            let source = if address.is_ipv4() { "192.0.2.9" } else { "2001:db8:2::9" };
            let source = source.parse().expect("an address");
            assert_eq!(all.mark_of(Protocol::Tcp, source, address, 80).is_some(), is_held, "{address}");
        }
    }

    #[test]
    fn only_entries_with_sources_make_the_client_matter() {
        let all = "[[mark]]\nmark = 1\naddresses = [\"192.0.2.0/24\"]\n";
        let some = "[[mark]]\nmark = 2\naddresses = [\"192.0.2.1\"]\nsources = [\"10.0.0.0/8\"]\n";
        let marked: HashMap<u32, Marked> =
            [(1, Marked { service: ServiceId(1), any_port: false })].into_iter().collect();
        let is_for_all = |text: &str, destination: [u8; 4]| {
            let marks = Marks::<Ipv4Net>::new(&config(text), &marked);
            marks.find(Addr4::new(192, 0, 2, 1), (destination.into(), 80), Protocol::Tcp).is_for_all
        };
        assert!(is_for_all(&format!("{all}{some}"), [192, 0, 2, 1]), "decided before");
        assert!(!is_for_all(&format!("{some}{all}"), [192, 0, 2, 1]));
        assert!(is_for_all(&format!("{some}{all}"), [192, 0, 2, 2]));
        assert!(!is_for_all(some, [192, 0, 2, 1]));
        assert!(is_for_all("", [192, 0, 2, 1]));
    }
}
