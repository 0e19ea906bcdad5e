//! What an instance is told: the checked form of a `[[vrrp]]` table, with what the port adds.

use std::net::IpAddr;
use std::time::Duration;

use crate::auth::Authentication;
use crate::packet::{Advertisement, ChecksumForm, Version};
use crate::trailer::{Origin, Trailers};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Priority of the router that has the addresses as its own (RFC 9568 section 5.2.4).
pub const OWNER: u8 = 255;

/// One virtual router, from this router's side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Unique.
    pub name: String,
    /// Number of the port it lives on.
    pub port: usize,
    /// VRID, 1 to 255.
    pub virtual_router_id: u8,
    /// Protocol version.
    pub version: Version,
    /// Before tracking: 1 to 255.
    pub priority: u8,
    /// Between our advertisements.
    pub interval: Duration,
    /// Whether a higher priority takes over from a lower one.
    pub preempt: bool,
    /// From the first advertisement of a lower priority until we do.
    pub preempt_delay: Duration,
    /// For how long it listens at least before it becomes master, from its start and from the moment its fault was
    /// mended: ports of switches may be deaf at first. It ends with the first advertisement that is accepted.
    pub startup_delay: Duration,
    /// Virtual addresses, all of one family: at least one that is advertised, then those that are not.
    pub addresses: Vec<IpAddr>,
    /// How many of them are not advertised.
    pub excluded: usize,
    /// Where advertisements go instead of the group.
    pub unicast_peers: Vec<IpAddr>,
    /// The least TTL or hop limit of an advertisement from one of them.
    pub ttl_min: u8,
    /// The largest.
    pub ttl_max: u8,
    /// Version 2 only.
    pub authentication: Authentication,
    /// The trailer behind its advertisements and others'.
    pub trailers: Option<Trailers>,
    /// With an authentication header: no number up to this one is believed, and ours go on after it. Looked at when the
    /// instance starts.
    pub first_sequence: u32,
    /// What version 3 over IPv4 sums up when sending; both are accepted.
    pub checksum: ChecksumForm,
    /// Where advertisements come from, and what breaks a tie between equal priorities.
    pub source: IpAddr,
    /// Ethernet address of advertisements and announcements: the virtual one or the port's.
    pub mac: Mac,
    /// Gratuitous ARP and unsolicited neighbour advertisements.
    pub announce: Announce,
    /// Name of its sync group.
    pub group: Option<String>,
}

/// How often the addresses are announced. keepalived's words and defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announce {
    /// Announcements of each address in a burst.
    pub repeat: u8,
    /// From becoming master to the second burst; zero: there is none.
    pub delay: Duration,
    /// Between later announcements; zero: there are none.
    pub refresh: Duration,
    /// Announcements of each address at each of those.
    pub refresh_repeat: u8,
    /// As `repeat`, after a router of lower priority was heard as master.
    pub lower_priority_repeat: u8,
    /// As `delay`, after that.
    pub lower_priority_delay: Duration,
    /// Between two announcements; zero: a few are sent at a time.
    pub interval: Duration,
}

impl Default for Announce {
    fn default() -> Self {
        Self {
            repeat: 5,
            delay: Duration::from_secs(5),
            refresh: Duration::ZERO,
            refresh_repeat: 1,
            lower_priority_repeat: 5,
            lower_priority_delay: Duration::from_secs(5),
            interval: Duration::ZERO,
        }
    }
}

impl Settings {
    /// Whether it is one of IPv6.
    pub fn is_ipv6(&self) -> bool {
        self.source.is_ipv6()
    }

    /// The advertisement that says this priority.
    pub(crate) fn advertisement(&self, priority: u8) -> Advertisement<'_> {
        Advertisement {
            version: self.version,
            virtual_router_id: self.virtual_router_id,
            priority,
            interval: self.interval,
            addresses: self.advertised(),
            authentication: self.authentication.field(),
        }
    }

    /// What a trailer from this address is bound to.
    pub(crate) fn origin(&self, source: IpAddr) -> Origin {
        Origin { version: self.version as u8, virtual_router_id: self.virtual_router_id, source }
    }

    /// The addresses that stand in advertisements.
    pub fn advertised(&self) -> &[IpAddr] {
        &self.addresses[..self.addresses.len().saturating_sub(self.excluded)]
    }

    /// What tells it from all others: port, family (IPv6 or not) and VRID. Its name is a label.
    pub fn key(&self) -> (usize, bool, u8) {
        (self.port, self.is_ipv6(), self.virtual_router_id)
    }

    /// Whether it is the addresses' owner.
    pub fn is_owner(&self) -> bool {
        self.priority == OWNER
    }
}

/// The virtual router's Ethernet address (RFC 9568 section 7.3).
pub fn virtual_mac(is_ipv6: bool, virtual_router_id: u8) -> Mac {
    [0x00, 0x00, 0x5e, 0x00, if is_ipv6 { 2 } else { 1 }, virtual_router_id]
}
