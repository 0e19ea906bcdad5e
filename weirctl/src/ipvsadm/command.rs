//! What a command line of ipvsadm asks for.

use std::net::{IpAddr, SocketAddr};

/// A command with all that it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `-A`
    AddService(Which, ServiceKeys),
    /// `-E`
    EditService(Which, ServiceKeys),
    /// `-D`
    DeleteService(Which),
    /// `-a`
    AddServer(Which, SocketAddr, ServerKeys),
    /// `-e`
    EditServer(Which, SocketAddr, ServerKeys),
    /// `-d`
    DeleteServer(Which, SocketAddr),
    /// `-C`
    Clear,
    /// `-Z`, of one service or of all
    Zero(Option<Which>),
    /// `--set`, in seconds; 0 leaves one as it is
    SetTimeouts {
        /// TCP, established.
        tcp: u32,
        /// TCP after a FIN.
        tcp_fin: u32,
        /// UDP.
        udp: u32,
    },
    /// `--start-daemon`
    StartDaemon,
    /// `--stop-daemon`
    StopDaemon,
    /// `-R`
    Restore,
    /// `-S`
    Save(Format),
    /// `-L`
    List(What, Format),
    /// `-h`
    Help,
    /// `-v`
    Version,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// As weir's file and `/etc/services` write it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }

    /// The protocol of this name.
    pub fn named(name: &str) -> Option<Self> {
        [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|it| it.name() == name)
    }

    /// Its number in an IP header.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}

/// A virtual service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Which {
    /// `-t`, `-u`, `--sctp-service`
    Address {
        /// The protocol.
        protocol: Protocol,
        /// The VIP.
        address: IpAddr,
        /// 0: every port.
        port: u16,
    },
    /// `-f`
    Mark {
        /// Above 0.
        mark: u32,
        /// `-6`
        ipv6: bool,
    },
}

/// What `-A` and `-E` set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceKeys {
    /// `-s`, `wlc` without it.
    pub scheduler: String,
    /// `-b`
    pub flags: Flags,
    /// `-p`, in seconds; `None`: no persistence.
    pub persistence: Option<u32>,
    /// `-M`: an IPv4 mask, or the length of an IPv6 prefix.
    pub netmask: Netmask,
    /// `-o`
    pub one_packet: bool,
    /// `--pe`
    pub engine: String,
}

/// Which clients stay together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Netmask {
    /// As typed, dotted.
    V4(u32),
    /// Bits.
    V6(u8),
}

/// Flags of a scheduler: three bits that each scheduler reads in its own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(pub u8);

impl Flags {
    /// The first: `sh-fallback`, `mh-fallback`.
    pub const FIRST: Flags = Flags(1);
    /// The second: `sh-port`, `mh-port`.
    pub const SECOND: Flags = Flags(2);
    /// The third.
    pub const THIRD: Flags = Flags(4);

    /// With those of another.
    pub fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// Whether those of another are all set.
    pub fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What `-a` and `-e` set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerKeys {
    /// `-g`, `-i`, `-m`
    pub forwarding: Forwarding,
    /// `-w`
    pub weight: u32,
    /// `-x`
    pub upper_threshold: u32,
    /// `-y`
    pub lower_threshold: u32,
    /// With `-i`.
    pub tunnel: Tunnel,
}

/// How packets reach a real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarding {
    /// `-g`
    Route,
    /// `-i`
    Tunnel,
    /// `-m`
    Masq,
}

impl Forwarding {
    /// As weir's file writes it.
    pub fn in_file(self) -> &'static str {
        match self {
            Forwarding::Route => "dr",
            Forwarding::Tunnel => "tun",
            Forwarding::Masq => "nat",
        }
    }

    /// As listings write it.
    pub fn listed(self) -> &'static str {
        match self {
            Forwarding::Route => "Route",
            Forwarding::Tunnel => "Tunnel",
            Forwarding::Masq => "Masq",
        }
    }

    /// As a command writes it.
    pub fn switch(self) -> &'static str {
        match self {
            Forwarding::Route => "-g",
            Forwarding::Tunnel => "-i",
            Forwarding::Masq => "-m",
        }
    }

    /// The method of weir's file that is called so.
    pub fn named(name: &str) -> Option<Self> {
        [Forwarding::Route, Forwarding::Tunnel, Forwarding::Masq].into_iter().find(|it| it.in_file() == name)
    }
}

/// The outer header of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tunnel {
    /// `--tun-type`
    pub kind: TunnelKind,
    /// `--tun-port`; 0 without one.
    pub port: u16,
    /// `--tun-csum` and its kin.
    pub checksum: TunnelChecksum,
}

impl Tunnel {
    /// IP in IP.
    pub const IPIP: Tunnel = Tunnel { kind: TunnelKind::Ipip, port: 0, checksum: TunnelChecksum::None };
}

/// `--tun-type`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum TunnelKind {
    Ipip,
    Gue,
    Gre,
}

impl TunnelKind {
    /// As ipvsadm and weir's file write it.
    pub fn name(self) -> &'static str {
        match self {
            TunnelKind::Ipip => "ipip",
            TunnelKind::Gue => "gue",
            TunnelKind::Gre => "gre",
        }
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        [TunnelKind::Ipip, TunnelKind::Gue, TunnelKind::Gre].into_iter().find(|it| it.name() == name)
    }
}

/// The checksum of a tunnel's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelChecksum {
    /// `--tun-nocsum`
    None,
    /// `--tun-csum`
    Full,
    /// `--tun-remcsum`
    Remote,
}

impl TunnelChecksum {
    /// As weir's file writes it.
    pub fn in_file(self) -> &'static str {
        match self {
            TunnelChecksum::None => "none",
            TunnelChecksum::Full => "csum",
            TunnelChecksum::Remote => "remcsum",
        }
    }

    /// The one that weir's file calls so.
    pub fn named(name: &str) -> Option<Self> {
        [TunnelChecksum::None, TunnelChecksum::Full, TunnelChecksum::Remote]
            .into_iter()
            .find(|it| it.in_file() == name)
    }
}

/// What `-L` lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// All services.
    All,
    /// One.
    Service(Which),
    /// `-c`
    Connections,
    /// `--timeout`
    Timeouts,
    /// `--daemon`
    Daemons,
}

/// How `-L` and `-S` write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Format {
    /// `-n`
    pub numeric: bool,
    /// `--stats`
    pub stats: bool,
    /// `--rate`
    pub rate: bool,
    /// `--thresholds`
    pub thresholds: bool,
    /// `--persistent-conn`
    pub persistent: bool,
    /// `--nosort`
    pub unsorted: bool,
    /// `--exact`
    pub exact: bool,
    /// `--tun-info`
    pub tunnels: bool,
}
