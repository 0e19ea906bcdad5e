//! Marks: which traffic belongs to a virtual server that has no address of its own.
//!
//! IPVS takes marks from netfilter. No netfilter stands before weir, so the file assigns them: the first
//! [`Mark`] of the file that matches a packet gives it its mark, and packets that none matches have none.
//! A packet's mark is looked up before its address and port, and counts only where a virtual server of the
//! packet's family has it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{Config, Protocol};

/// Address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// The name as the file writes it.
    pub fn name(self) -> &'static str {
        match self {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        }
    }

    /// 0.0.0.0 or ::.
    pub fn unspecified(self) -> IpAddr {
        match self {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }
}

/// What makes a virtual server the one it is: no two of a file have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Identity {
    /// Packets to an address and port.
    Address {
        /// The VIP.
        address: IpAddr,
        /// 0: every port.
        port: u16,
        /// Transport protocol.
        protocol: Protocol,
    },
    /// Packets that have a mark.
    Mark {
        /// Above 0.
        mark: u32,
        /// IPv4 and IPv6 packets of one mark are two virtual servers, as in IPVS.
        family: Family,
    },
}

/// L4 ports from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    /// At most `last`.
    pub first: u16,
    /// At least `first`.
    pub last: u16,
}

impl PortRange {
    /// Every port, 0 too.
    pub const ALL: PortRange = PortRange { first: 0, last: u16::MAX };

    /// Whether the port is one of these.
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// A set of transport protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[allow(missing_docs)]
pub struct Protocols {
    pub tcp: bool,
    pub udp: bool,
    pub sctp: bool,
}

impl Protocols {
    /// All three.
    pub const ALL: Protocols = Protocols { tcp: true, udp: true, sctp: true };

    /// Whether the protocol is in the set.
    pub fn contains(self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Tcp => self.tcp,
            Protocol::Udp => self.udp,
            Protocol::Sctp => self.sctp,
        }
    }

    /// Adds a protocol.
    pub fn insert(&mut self, protocol: Protocol) {
        match protocol {
            Protocol::Tcp => self.tcp = true,
            Protocol::Udp => self.udp = true,
            Protocol::Sctp => self.sctp = true,
        }
    }
}

/// `[[mark]]`: traffic that has a mark. A packet must match in each of its four parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// 1 to 4,294,967,295. Several entries may assign the same mark.
    pub mark: u32,
    /// Destinations: networks without host bits, in the order of the file; at least one.
    ///
    /// One of full length (/32, /128) is a VIP: ARP is answered for it as for the address of a virtual
    /// server. A shorter one is not, and does not hold the own addresses of weir's ports: traffic to those
    /// has the mark only where they are written with full length. Nor does it hold what is no host's that clients reach from afar:
    /// multicast, loopback and IPv6 link-local addresses, 0.0.0.0/8 and 240.0.0.0/4, which only networks that begin below can cover.
    pub addresses: Vec<IpNet>,
    /// Destination ports: ascending and apart; at least one range.
    pub ports: Vec<PortRange>,
    /// At least one.
    pub protocols: Protocols,
    /// Networks of clients, without host bits, in the order of the file. Empty: every client.
    pub sources: Vec<IpNet>,
}

impl Mark {
    /// [`MarkRange`]s of a file at most: each packet that opens a connection may be compared with all.
    pub const RANGES_MAX: usize = 1024;

    /// Addresses of a network at most that weir tells from each other: the connections of each are its own, and NAT
    /// knows which of them a client talks to.
    pub const NUMBERED_ADDRESSES: u32 = 4096;

    /// VIPs of a file at most that are told from each other: those of virtual servers, and of marks that virtual servers
    /// have all addresses of networks of at most [`Mark::NUMBERED_ADDRESSES`].
    pub const VIPS_MAX: usize = 49_152;

    /// Whether the addresses of a network are told from each other.
    pub fn is_numbered(net: &IpNet) -> bool {
        u32::from(net.max_prefix_len() - net.prefix_len()) <= Mark::NUMBERED_ADDRESSES.trailing_zeros()
    }

    /// The addresses written with full length, which are VIPs.
    pub fn vips(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.iter().filter(|net| is_host(net)).map(IpNet::addr)
    }

    /// The entry taken apart: for each address, then each range of ports, then each source of the address's
    /// family, what a packet is compared with. An address without a source of its family yields nothing.
    pub fn ranges(&self) -> impl Iterator<Item = MarkRange> + '_ {
        let has = |family| self.sources.iter().any(|source| Family::of(source.addr()) == family);
        let (has_v4, has_v6) = (has(Family::V4), has(Family::V6));
        let has_clients = move |destination: &&IpNet| match Family::of(destination.addr()) {
            Family::V4 => has_v4 || self.sources.is_empty(),
            Family::V6 => has_v6 || self.sources.is_empty(),
        };
        // All sources are not looked at once more for each address that has none.
        self.addresses.iter().filter(has_clients).flat_map(move |&destination| {
            self.ports.iter().flat_map(move |&ports| {
                let every_client = self.sources.is_empty().then_some(None);
                let is_of_family = move |source: &&IpNet| same_family(source, &destination);
                let some_clients = self.sources.iter().filter(is_of_family).copied().map(Some);
                every_client.into_iter().chain(some_clients).map(move |source| MarkRange {
                    mark: self.mark,
                    destination,
                    ports,
                    protocols: self.protocols,
                    source,
                })
            })
        })
    }
}

/// One destination, range of ports and network of clients of a [`Mark`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkRange {
    /// The mark it assigns.
    pub mark: u32,
    /// A network of destinations; see [`Mark::addresses`] for which addresses it holds.
    pub destination: IpNet,
    /// Destination ports.
    pub ports: PortRange,
    /// Transport protocols.
    pub protocols: Protocols,
    /// A network of clients, of the destination's family. `None`: every client.
    pub source: Option<IpNet>,
}

impl MarkRange {
    /// Whether `destination` is a single address, which is matched even if it is an own address of a port.
    pub fn is_host(&self) -> bool {
        is_host(&self.destination)
    }

    /// Whether a packet from `source` to `destination` and its `port` matches. Whether `destination` is an
    /// own address of weir's is the caller's question; see [`Mark::addresses`].
    pub fn matches(&self, protocol: Protocol, source: IpAddr, destination: IpAddr, port: u16) -> bool {
        self.protocols.contains(protocol)
            && self.ports.contains(port)
            && self.destination.contains(&destination)
            && self.source.is_none_or(|clients| clients.contains(&source))
    }

    /// Whether all that `other` matches is matched.
    pub(crate) fn covers(&self, other: &MarkRange) -> bool {
        let Protocols { tcp, udp, sctp } = other.protocols;
        let protocols =
            (!tcp || self.protocols.tcp) && (!udp || self.protocols.udp) && (!sctp || self.protocols.sctp);
        let sources = match (self.source, other.source) {
            (None, _) => true,
            (Some(clients), None) => clients.prefix_len() == 0,
            (Some(clients), Some(others)) => clients.contains(&others),
        };
        protocols
            && self.ports.first <= other.ports.first
            && other.ports.last <= self.ports.last
            && self.destination.contains(&other.destination)
            && sources
    }

    /// Whether some packet matches both.
    pub(crate) fn overlaps(&self, other: &MarkRange) -> bool {
        let (ours, theirs) = (self.protocols, other.protocols);
        let meet = |a: &IpNet, b: &IpNet| a.contains(b) || b.contains(a);
        let protocols = (ours.tcp && theirs.tcp) || (ours.udp && theirs.udp) || (ours.sctp && theirs.sctp);
        protocols
            && self.ports.first <= other.ports.last
            && other.ports.first <= self.ports.last
            && meet(&self.destination, &other.destination)
            && self.source.is_none_or(|a| other.source.is_none_or(|b| meet(&a, &b)))
    }
}

impl Config {
    /// The mark of a packet that a client at `source` sends to `destination` and its `port`, by the first
    /// entry that matches.
    ///
    /// Says what the entries mean; it looks at one after the other, so the data path has its own way.
    pub fn mark_of(&self, protocol: Protocol, source: IpAddr, destination: IpAddr, port: u16) -> Option<u32> {
        let mut ports = self.ports.iter();
        let is_own = ports.any(|port| port.addresses.iter().any(|own| own.addr() == destination));
        let is_meant = !is_own && is_reached_from_afar(destination);
        let mut ranges = self.marks.iter().flat_map(Mark::ranges);
        let first = ranges.find(|range| {
            (range.is_host() || is_meant) && range.matches(protocol, source, destination, port)
        });
        first.map(|range| range.mark)
    }
}

/// Whether an address can be that of a host which clients reach from afar: `::ffff:0:0/96` is on no wire.
fn is_reached_from_afar(address: IpAddr) -> bool {
    let is_reserved = match address {
        IpAddr::V4(address) => matches!(address.octets()[0], 0 | 240..),
        IpAddr::V6(address) => address.is_unicast_link_local() || address.to_ipv4_mapped().is_some(),
    };
    !(is_reserved || address.is_multicast() || address.is_loopback() || address.is_unspecified())
}

fn is_host(net: &IpNet) -> bool {
    net.prefix_len() == net.max_prefix_len()
}

pub(crate) fn same_family(a: &IpNet, b: &IpNet) -> bool {
    matches!((a, b), (IpNet::V4(_), IpNet::V4(_)) | (IpNet::V6(_), IpNet::V6(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(destination: &str, (first, last): (u16, u16), source: Option<&str>) -> MarkRange {
        MarkRange {
            mark: 1,
            destination: destination.parse().unwrap(),
            ports: PortRange { first, last },
            protocols: Protocols { tcp: true, udp: true, sctp: false },
            source: source.map(|net| net.parse().unwrap()),
        }
    }

    #[test]
    fn an_entry_is_taken_apart_by_family() {
        let mark = Mark {
            mark: 7,
            addresses: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::1/128".parse().unwrap()],
            ports: vec![PortRange { first: 80, last: 80 }, PortRange { first: 8000, last: 8999 }],
            protocols: Protocols::ALL,
            sources: vec!["10.0.0.0/8".parse().unwrap(), "172.16.0.0/12".parse().unwrap()],
        };
        let apart: Vec<_> =
            mark.ranges().map(|r| (r.destination.to_string(), r.ports.first, r.source)).collect();
        assert_eq!(apart.len(), 4, "{apart:?}");
        assert_eq!(apart[1], ("192.0.2.0/24".into(), 80, Some("172.16.0.0/12".parse().unwrap())));
        assert_eq!(mark.vips().collect::<Vec<_>>(), ["2001:db8::1".parse::<IpAddr>().unwrap()]);
        let everybody = Mark { sources: Vec::new(), ..mark };
        assert_eq!(everybody.ranges().count(), 4);
        assert!(everybody.ranges().all(|range| range.source.is_none() && range.mark == 7));
    }

    #[test]
    fn covering_and_overlapping_look_at_every_part() {
        let all = range("192.0.2.0/24", (1, 1000), None);
        let one = range("192.0.2.7/32", (80, 80), Some("10.0.0.0/8"));
        assert!(all.covers(&one) && !one.covers(&all) && all.overlaps(&one) && one.overlaps(&all));
        assert!(all.covers(&all) && all.overlaps(&all));
        let crossing = range("192.0.0.0/16", (1000, 2000), None);
        assert!(crossing.overlaps(&all) && !crossing.covers(&all) && !all.covers(&crossing));
        assert!(!one.overlaps(&range("192.0.2.0/24", (81, 90), None)));
        assert!(!one.overlaps(&range("192.0.2.0/29", (80, 80), Some("11.0.0.0/8"))));
        assert!(range("192.0.2.0/24", (80, 80), Some("0.0.0.0/0")).covers(&range(
            "192.0.2.0/25",
            (80, 80),
            None
        )));
        let sctp = MarkRange { protocols: Protocols { sctp: true, ..Protocols::default() }, ..all };
        assert!(!sctp.overlaps(&all) && !all.covers(&sctp));
        assert!(!range("::/0", (0, 65_535), None).overlaps(&range("0.0.0.0/0", (0, 65_535), None)));
    }
}
