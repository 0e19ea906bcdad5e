//! The configuration in its checked form.
//!
//! Nothing here can hold a value that weir can't serve: ranges are checked, names are unique and
//! resolved, defaults are filled in. Built by `validate` only.

mod announce;
mod connections;
pub mod health;
pub(crate) mod mark;
mod vrrp;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub use announce::{Announce, AnnounceQuorum, Announced};
pub use connections::{Connections, SctpTimeouts, TcpTimeouts, Timeouts};
use health::{Agent, Health, HealthCheck, OnFail, Probe, ServiceHealth, TlsIdentity};
pub use mark::{Family, Identity, Mark, MarkRange, PortRange, Protocols};
pub use vrrp::{
    Vrrp, VrrpAuthentication, VrrpGarp, VrrpGroup, VrrpHmac, VrrpHmacKey, VrrpHmacMode, VrrpHooks,
    VrrpScript, VrrpTrack, VrrpTracked,
};

/// How long a member of a VRRP group forwards after it has let go: the next master takes over within an interval, and all neighbours hear of it
/// in the same moment.
const LINGER: Duration = Duration::from_secs(1);

/// The whole file.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `[control]`
    pub control: Control,
    /// `[http]`
    pub http: Http,
    /// `[memory]`
    pub memory: Memory,
    /// `[workers]`
    pub workers: Workers,
    /// `[connections]`
    pub connections: Connections,
    /// `[schedulers]`
    pub schedulers: Schedulers,
    /// `[health]`
    pub health: Health,
    /// `[[port]]`, in the order of the file. The index of a port here is its number everywhere in weir.
    pub ports: Vec<Port>,
    /// `[[route]]`, without the connected networks, which follow from the ports' addresses.
    pub routes: Vec<Route>,
    /// `[[neighbor]]`
    pub neighbors: Vec<Neighbor>,
    /// `[[mark]]`, in the order of the file: the first that matches a packet gives it its mark. Taken apart
    /// ([`Mark::ranges`]) they are at most [`Mark::RANGES_MAX`].
    pub marks: Vec<Mark>,
    /// `[[virtual_server]]`, in the order of the file.
    pub virtual_servers: Vec<VirtualServer>,
    /// `[[vrrp]]`
    pub vrrp: Vec<Vrrp>,
    /// Sync groups that something is told of.
    pub vrrp_groups: Vec<VrrpGroup>,
    /// `[[announce]]`, in the order of the file.
    pub announces: Vec<Announce>,
    /// `[sync]`
    pub sync: Option<Sync>,
}

impl Config {
    /// Whether any virtual server has templates among those of a family.
    pub fn is_persistent(&self, family: Family) -> bool {
        self.virtual_servers.iter().any(|server| server.is_persistent(family))
    }

    /// Whether anything in it lets whoever reads it pass for somebody: passwords of VRRP, credentials of health checks.
    pub fn has_secrets(&self) -> bool {
        let mut checks =
            self.virtual_servers.iter().flat_map(|it| &it.real_servers).flat_map(|it| &it.health_checks);
        self.vrrp.iter().any(|it| it.authentication.is_some())
            || checks.any(|check| match &check.probe {
                Probe::Http(http) | Probe::Https(http, _) => {
                    http.fields.iter().any(|(name, _)| name.ends_with("authorization"))
                }
                _ => false,
            })
    }

    /// Whether any virtual server is one of IPv6.
    fn serves_ipv6(&self) -> bool {
        self.virtual_servers.iter().any(|server| server.family() == Family::V6)
    }

    /// The ports that are devices, which come before those that are VLANs of theirs.
    pub fn devices(&self) -> &[Port] {
        let devices = self.ports.iter().take_while(|port| port.vlan.is_none()).count();
        &self.ports[..devices]
    }

    /// The number of the device that a port belongs to.
    pub fn device_of(&self, port: usize) -> usize {
        self.ports.get(port).and_then(|port| port.vlan).map_or(port, |vlan| vlan.device)
    }

    /// Clients with an IPv6 address to make room for, per worker: what the file says, else as many as connections, or one for every
    /// 64 as long as no virtual server is one of IPv6, so that the first one is served when it comes.
    pub fn ipv6_clients(&self) -> usize {
        let capacity = self.connections.capacity as usize;
        match self.connections.ipv6_clients {
            Some(clients) => clients as usize,
            None if self.serves_ipv6() => capacity,
            None => (capacity / 64).max(Connections::IPV6_CLIENTS_MIN as usize),
        }
    }

    /// How long workers forward after weir was told to stop: what the file says. Else a second with VRRP or where something is announced, in
    /// which others learn where the addresses are now, and no time without, since nobody takes over what is forwarded meanwhile.
    pub fn linger(&self) -> Duration {
        let others = !self.vrrp.is_empty() || !self.announces.is_empty();
        let usual = if others { LINGER } else { Duration::ZERO };
        self.control.linger.unwrap_or(usual)
    }

    /// Persistence templates of IPv4 clients to make room for: what the file says, else one for every four connections of a
    /// worker, or one for every 64 if nothing is persistent yet.
    pub fn templates(&self) -> usize {
        let capacity = self.connections.capacity as usize;
        match self.connections.templates {
            0 if self.is_persistent(Family::V4) => capacity / 4,
            0 => capacity / 64,
            templates => templates as usize,
        }
    }

    /// The same of IPv6 clients, and of the calls of a `persistence_engine`; none if there is no room for any client, and no such engine.
    pub fn ipv6_templates(&self) -> usize {
        let capacity = self.connections.capacity as usize;
        match self.connections.ipv6_templates {
            0 if self.is_persistent(Family::V6) => capacity / 4,
            0 if self.connections.ipv6_clients == Some(0) => 0,
            0 => capacity / 64,
            templates => templates as usize,
        }
    }
}

/// `[control]`: where weirctl knocks, and what is kept for other programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// Path of the unix socket, mode 0600.
    pub socket: PathBuf,
    /// Whether the file says so: weir does not go on without it then.
    pub is_socket_written: bool,
    /// Where `net/ip_vs` and `net/ip_vs_stats` are kept for those who read them in /proc otherwise.
    pub proc_directory: Option<PathBuf>,
    /// Who weir is once ports run, by name or number. Without it, who started it.
    pub user: Option<String>,
    /// Its group; without it the user's own. Only there with `user`.
    pub group: Option<String>,
    /// The numbers of both, once the host was asked.
    pub account: Option<health::Account>,
    /// Whether a crash may leave an image of the memory.
    pub core_dumps: bool,
    /// What the file says; see [`Config::linger`].
    pub linger: Option<Duration>,
    /// Where panics and the frames of them are kept; `None`: nowhere.
    pub crash_directory: Option<PathBuf>,
    /// VRRP's changes of state are written into this FIFO.
    pub vrrp_notify_fifo: Option<PathBuf>,
}

impl Control {
    /// Where panics are kept unless the file says otherwise: weir's own place.
    pub const CRASH_DIRECTORY: &str = "/var/lib/weir";
}

/// `[http]`: metrics, readiness, API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Address and TCP port to listen on.
    pub listen: SocketAddr,
    /// Names by which clients may ask, besides addresses, `localhost` and the machine's own name.
    pub hosts: Vec<String>,
    /// With it the listener speaks TLS and nothing else.
    pub tls: Option<TlsIdentity>,
    /// The file of bearer tokens. Only there with `tls`.
    pub token_file: Option<PathBuf>,
}

impl Http {
    /// Whether only this machine reaches the listener.
    pub fn is_loopback(&self) -> bool {
        self.listen.ip().to_canonical().is_loopback()
    }
}

/// `[sync]`: other directors that know of connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sync {
    /// What is done with the protocol of the kernel's IPVS.
    pub kernel: SyncKernel,
    /// The interface of the host that it goes over.
    pub interface: String,
    /// Who belongs together; 0: all.
    pub id: u8,
    /// The group of multicast.
    pub group: IpAddr,
    /// The UDP port.
    pub port: u16,
}

/// What is done with the protocol of the kernel's IPVS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncKernel {
    /// weir takes what others tell.
    Receive,
}

/// `[workers]`: the threads that poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workers {
    /// What a worker does when nothing comes.
    pub idle: Idle,
    /// The longest sleep of [`Idle::Sleep`] where a device has no interrupts: 1 to 1000 microseconds.
    pub sleep_max: Duration,
}

/// What a worker does when nothing comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// It polls on: no packet waits for it.
    Poll,
    /// It sleeps, longer and longer up to a bound, or until a device that can wakes it.
    Sleep,
}

/// `[memory]`: packet buffers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// Packet buffers per NUMA node; 0: computed from ports, queues and workers.
    pub mbufs: u32,
    /// Room for a frame in one mbuf, headroom aside, in bytes: 128 to 16384.
    pub mbuf_data_bytes: u16,
}

/// `[schedulers]`: sizes, seeds and times of the scheduling methods, for all virtual servers. The defaults are
/// the kernel's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedulers {
    /// mh: slots of the table, one of [`Schedulers::MH_TABLE_SIZES`]. Equal on all directors.
    pub mh_table_size: u32,
    /// mh: added to the kernel's hash keys, so 0 picks as the kernel does. Equal on all directors.
    pub mh_seed: u64,
    /// lblc: seconds after which an unused destination is forgotten: 1 to 2,678,400.
    pub lblc_expiration: u32,
    /// lblcr: seconds after which an unused destination is forgotten and a set of servers that did not
    /// change loses one: 1 to 2,678,400.
    pub lblcr_expiration: u32,
}

impl Schedulers {
    /// Sizes that the table of mh may have: primes, as the kernel's build option offers them.
    pub const MH_TABLE_SIZES: [u32; 10] = [251, 509, 1021, 2039, 4093, 8191, 16_381, 32_749, 65_521, 131_071];

    /// Real servers that a virtual server with mh has at most: each needs a slot, and slots hold 16 bits.
    pub fn mh_real_servers_max(&self) -> usize {
        (self.mh_table_size as usize).min(65_534)
    }
}

impl Default for Schedulers {
    fn default() -> Self {
        Self { mh_table_size: 4093, mh_seed: 0, lblc_expiration: 86_400, lblcr_expiration: 86_400 }
    }
}

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddress(pub [u8; 6]);

/// `[[port]]`: one DPDK ethdev.
#[derive(Debug, Clone, PartialEq)]
pub struct Port {
    /// weir's name for it: unique, the label in metrics.
    pub name: String,
    /// DPDK's name: a PCI address or a vdev.
    pub device: String,
    /// The VLAN of the device that it is, if it is not the device itself.
    pub vlan: Option<Vlan>,
    /// Set on the device, else kept in software with promiscuous mode. `None`: the device's own.
    pub mac: Option<MacAddress>,
    /// Own addresses with their prefix lengths; each makes a connected network.
    pub addresses: Vec<IpNet>,
    /// Largest IP packet, in bytes: 576 to 9,600.
    pub mtu: u16,
    /// Receive queues; 0: one per worker.
    pub rx_queues: u16,
    /// Prefixes for whose addresses ARP is answered on this port besides VIPs and own addresses.
    pub proxy_arp: Vec<IpNet>,
    /// The kernel's interface that carries what is not for weir: unique, a name that the kernel accepts.
    pub host_interface: Option<String>,
}

/// The frames of a device that have this tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vlan {
    /// 1 to 4,094.
    pub id: u16,
    /// Index into [`Config::ports`]: the port that is the device.
    pub device: usize,
}

/// `[[route]]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where packets go.
    pub destination: IpNet,
    /// By whom: an address within a connected network of `port`.
    pub gateway: IpAddr,
    /// Index into [`Config::ports`]: the port whose network holds the gateway.
    pub port: usize,
}

/// `[[neighbor]]`: a static binding; ARP and ND never replace it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbor {
    /// An address within a connected network of `port`.
    pub address: IpAddr,
    /// Its Ethernet address: unicast, not zero.
    pub mac: MacAddress,
    /// Index into [`Config::ports`].
    pub port: usize,
}

/// Transport protocol of a virtual server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// The IP protocol number.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// The name as the file writes it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

/// How packets reach a real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Forwarding {
    /// Direct routing: only the destination MAC changes.
    Dr,
    /// An outer IP header around the client's packet.
    Tun,
    /// Addresses and ports are rewritten both ways.
    Nat,
}

impl Forwarding {
    /// The name as the file writes it.
    pub fn name(self) -> &'static str {
        match self {
            Forwarding::Dr => "dr",
            Forwarding::Tun => "tun",
            Forwarding::Nat => "nat",
        }
    }
}

/// Outer headers of a `tun` real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tunnel {
    /// IP in IP: protocol 4 (or 41).
    Ipip,
    /// Generic UDP encapsulation.
    Gue {
        /// UDP destination port.
        port: u16,
        /// How the UDP checksum is made.
        checksum: TunnelChecksum,
    },
    /// GRE version 0.
    Gre {
        /// Whether the checksum field is there; never `RemCsum`.
        checksum: TunnelChecksum,
    },
}

/// Checksum of a tunnel's outer header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum TunnelChecksum {
    None,
    Csum,
    RemCsum,
}

impl TunnelChecksum {
    /// The word in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Csum => "csum",
            Self::RemCsum => "remcsum",
        }
    }
}

/// Scheduling methods, by ipvsadm's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Scheduler {
    Rr,
    Wrr,
    Lc,
    Wlc,
    Lblc,
    Lblcr,
    Dh,
    Sh,
    Sed,
    Nq,
    Fo,
    Ovf,
    Mh,
    Twos,
}

impl Scheduler {
    /// Every method.
    pub const ALL: [Scheduler; 14] = [
        Scheduler::Rr,
        Scheduler::Wrr,
        Scheduler::Lc,
        Scheduler::Wlc,
        Scheduler::Lblc,
        Scheduler::Lblcr,
        Scheduler::Dh,
        Scheduler::Sh,
        Scheduler::Sed,
        Scheduler::Nq,
        Scheduler::Fo,
        Scheduler::Ovf,
        Scheduler::Mh,
        Scheduler::Twos,
    ];

    /// The name as ipvsadm and the file write it.
    pub fn name(self) -> &'static str {
        match self {
            Scheduler::Rr => "rr",
            Scheduler::Wrr => "wrr",
            Scheduler::Lc => "lc",
            Scheduler::Wlc => "wlc",
            Scheduler::Lblc => "lblc",
            Scheduler::Lblcr => "lblcr",
            Scheduler::Dh => "dh",
            Scheduler::Sh => "sh",
            Scheduler::Sed => "sed",
            Scheduler::Nq => "nq",
            Scheduler::Fo => "fo",
            Scheduler::Ovf => "ovf",
            Scheduler::Mh => "mh",
            Scheduler::Twos => "twos",
        }
    }
}

/// `scheduler_flags`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SchedulerFlags {
    /// `sh-fallback`, `mh-fallback` or `flag-1`: look further when the server found can't take the connection.
    pub fallback: bool,
    /// `sh-port`, `mh-port` or `flag-2`: the client's port goes into the hash.
    pub port: bool,
    /// `flag-3`, which no scheduler looks at.
    pub third: bool,
}

impl SchedulerFlags {
    /// Those that are set, as ipvsadm and the file write them for a scheduler of this name.
    pub fn names(self, scheduler: &str) -> Vec<String> {
        let [first, second] = match scheduler {
            "sh" | "mh" => [format!("{scheduler}-fallback"), format!("{scheduler}-port")],
            _ => ["flag-1", "flag-2"].map(str::to_owned),
        };
        let set = [(self.fallback, first), (self.port, second), (self.third, "flag-3".to_owned())];
        set.into_iter().filter(|(is_set, _)| *is_set).map(|(_, name)| name).collect()
    }
}

/// The port of FTP's control connections.
pub const FTP_PORT: u16 = 21;

/// `helper`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Helper {
    /// As the port says: [`FTP_PORT`] is FTP's.
    #[default]
    Automatic,
    /// Nobody.
    Off,
    /// FTP's: it follows data connections through NAT.
    Ftp,
}

/// `persistence_engine`: what keeps packets together besides their client's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// The Call-ID of SIP.
    Sip,
}

impl Engine {
    /// As the file and ipvsadm write it.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Sip => "sip",
        }
    }
}

/// `persistence_timeout`, `persistence_netmask` and `persistence_engine`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Persistence {
    /// How long a client stays with its server after its last new connection: 1 to 2,678,400 seconds.
    pub timeout_secs: u32,
    /// Prefix length of the client network that shares a template. 0, all clients, with an engine only.
    pub netmask: u8,
    /// What else tells templates apart; `None`: nothing.
    pub engine: Option<Engine>,
}

impl Persistence {
    /// What its templates are by: those of another prefix or engine mean something else.
    pub fn tied_by(self) -> (u8, Option<Engine>) {
        (self.netmask, self.engine)
    }
}

/// How large a segment a SYN may announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClampMss {
    /// As large as fits through the ways that weir knows.
    Auto,
    /// So many octets, at least [`ClampMss::MIN`].
    To(u16),
}

impl ClampMss {
    /// What an end may be sent that announces nothing (RFC 9293 section 3.7.1), so that less could not be held to.
    pub const MIN: u16 = 536;
    /// What fits into the largest packet of IPv4.
    pub const MAX: u16 = u16::MAX - 40;
}

/// `[[virtual_server]]`
#[derive(Debug, Clone, PartialEq)]
pub struct VirtualServer {
    /// Unique; the label in metrics.
    pub name: String,
    /// Serves the packets that have this mark, above 0, in the family of `address`. `None`: those to
    /// `address`, `port` and `protocol`. See [`VirtualServer::identity`].
    pub mark: Option<u32>,
    /// The VIP. With a mark 0.0.0.0 or ::.
    pub address: IpAddr,
    /// 0: every port, and with a mark.
    pub port: u16,
    /// Transport protocol. Means nothing with a mark, whose [`Mark::protocols`] may be several; `Tcp` then.
    pub protocol: Protocol,
    /// How a real server is picked.
    pub scheduler: Scheduler,
    /// Flags of the scheduler; only those that belong to it.
    pub scheduler_flags: SchedulerFlags,
    /// `None`: connections of one client are scheduled one by one.
    pub persistence: Option<Persistence>,
    /// Every datagram is scheduled by itself. UDP, or with a mark: then its UDP packets.
    pub one_packet: bool,
    /// What the largest segment that a SYN announces is lowered to. TCP, or with a mark: then its TCP packets.
    pub clamp_mss: Option<ClampMss>,
    /// Who looks into its connections.
    pub helper: Helper,
    /// In the order of the file, which is the order of adding.
    pub real_servers: Vec<RealServer>,
    /// What follows from the health of its real servers.
    pub health: ServiceHealth,
}

impl VirtualServer {
    /// What makes it the one it is: its mark, or its address, port and protocol.
    pub fn identity(&self) -> Identity {
        match self.mark {
            Some(mark) => Identity::Mark { mark, family: self.family() },
            None => Identity::Address { address: self.address, port: self.port, protocol: self.protocol },
        }
    }

    /// The family of its packets.
    pub fn family(&self) -> Family {
        Family::of(self.address)
    }

    /// Whether what it serves is FTP: control connections, which announce others.
    pub fn is_ftp(&self) -> bool {
        let may_be = self.mark.is_none() && self.protocol == Protocol::Tcp && self.port != 0;
        may_be
            && match self.helper {
                Helper::Ftp => true,
                Helper::Automatic => self.port == FTP_PORT,
                Helper::Off => false,
            }
    }

    /// Whether it keeps packets together by what they say.
    pub fn keeps_calls(&self) -> bool {
        self.persistence.is_some_and(|it| it.engine.is_some())
    }

    /// Whether its templates are among those of this family: those of calls are among IPv6's.
    pub fn is_persistent(&self, family: Family) -> bool {
        self.persistence.is_some_and(|it| match it.engine {
            None => self.family() == family,
            Some(Engine::Sip) => family == Family::V6,
        })
    }
}

/// `[[virtual_server.real_server]]`
#[derive(Debug, Clone, PartialEq)]
pub struct RealServer {
    /// The RIP. Same family as the VIP, except with `tun`.
    pub address: IpAddr,
    /// As the virtual server's, except with NAT. 0: a connection keeps the port its client chose; always so
    /// where the virtual server's port is 0, but a mark's real server behind NAT may have a port, to which
    /// every port is translated.
    ///
    /// With a mark, `dr` and `tun` may also have a port, and so may NAT with persistence. Then it is no more
    /// than a part of the real server's name (and of its hash in mh), as in IPVS.
    pub port: u16,
    /// 0 to 65,535; 0: quiesced.
    pub weight: u16,
    /// How packets reach it.
    pub forwarding: Forwarding,
    /// `Ipip` unless `forwarding` is `Tun`.
    pub tunnel: Tunnel,
    /// Connections at which it takes no more; 0: no limit.
    pub upper_threshold: u32,
    /// Connections below which it takes new ones again; 0: three quarters of the upper threshold.
    pub lower_threshold: u32,
    /// How its health is checked, from here or from the virtual server: it is up while all of them succeed.
    pub health_checks: Vec<Arc<HealthCheck>>,
    /// What becomes of it when it is down.
    pub on_fail: OnFail,
    /// Where a program of its tells its weight.
    pub agent: Option<Arc<Agent>>,
    /// A file of the director that holds its weight.
    pub weight_file: Option<PathBuf>,
    /// Programs that are told when it comes up or goes down, instead of the virtual server's.
    pub hooks: Option<Arc<health::ServerHooks>>,
}

impl RealServer {
    /// Whether its weight comes from elsewhere, so that it may be anything.
    pub(crate) fn has_dynamic_weight(&self) -> bool {
        let tells = |probe: &Probe| matches!(probe, Probe::Exec { dynamic_weight: true, .. });
        self.agent.is_some()
            || self.weight_file.is_some()
            || self.health_checks.iter().any(|check| tells(&check.probe))
    }
}
