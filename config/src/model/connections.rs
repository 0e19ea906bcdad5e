//! `[connections]` in its checked form: the connection table, the switches of the kernel's IPVS, and how long connections stay.

use std::path::PathBuf;

impl Connections {
    /// [`Connections::ipv6_clients`] are so many at least, where there are any.
    pub const IPV6_CLIENTS_MIN: u32 = 1_024;
}

/// `[connections]`: the connection table and the `net.ipv4.vs.*` switches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connections {
    /// Connections outlive the process: somebody else keeps the memory of their tables.
    pub keep: bool,
    /// The socket of that one; `None`: systemd, or a keeper at its usual place.
    pub keeper: Option<PathBuf>,
    /// Connections per worker; memory is taken at start. 1,024 to 16,777,216.
    pub capacity: u32,
    /// Clients with an IPv6 address per worker; memory is taken at start. 1,024 to 16,777,216, or 0 where no virtual server is to be
    /// one of IPv6. `None`: see [`Config::ipv6_clients`](super::Config::ipv6_clients).
    pub ipv6_clients: Option<u32>,
    /// Persistence templates that all workers share; memory is taken at start. 1,024 to 67,108,864, or 0: see
    /// [`Config::templates`](super::Config::templates).
    pub templates: u32,
    /// The same of IPv6 clients: see [`Config::ipv6_templates`](super::Config::ipv6_templates).
    pub ipv6_templates: u32,
    /// Packets in pieces that may be under way, of all workers; memory is taken at start. 1,024 to 16,777,216.
    pub fragments: u32,
    /// The pieces of an IPv4 packet are waited for so long, in seconds (1 to 864,000).
    pub ipfrag_time: u32,
    /// The same of IPv6.
    pub ip6frag_time: u32,
    /// A TCP segment without SYN may open a connection (unless RST).
    pub sloppy_tcp: bool,
    /// An SCTP packet whose first chunk is not INIT may open a connection (unless ABORT).
    pub sloppy_sctp: bool,
    /// A connection whose real server is gone is expired at its next packet, which is then scheduled anew.
    pub expire_nodest_conn: bool,
    /// A persistence template whose real server has weight 0 is not used any more.
    pub expire_quiescent_template: bool,
    /// Bit 0: a SYN on a closing connection is scheduled anew; bit 1: on one in FIN_WAIT too.
    pub conn_reuse_mode: u8,
    /// A reply of a NAT real server that belongs to no connection is answered with port unreachable.
    pub nat_icmp_send: bool,
    /// Tunnels copy DF to the outer header and answer frames that do not fit.
    pub pmtu_disc: bool,
    /// An ICMP error about an unknown flow is scheduled by the packet it quotes.
    pub schedule_icmp: bool,
    /// The TCP table against floods is used.
    pub secure_tcp: bool,
    /// `[connections.timeouts]`
    pub timeouts: Timeouts,
}

/// `[connections.timeouts]`: how long a connection stays after its last packet, by state, in seconds (1 to
/// 864,000). Names follow the states of IPVS in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP states.
    pub tcp: TcpTimeouts,
    /// UDP, after each packet in either direction.
    pub udp: u32,
    /// SCTP states.
    pub sctp: SctpTimeouts,
}

/// Seconds per TCP state.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct TcpTimeouts {
    pub none: u32,
    pub established: u32,
    pub syn_sent: u32,
    pub syn_recv: u32,
    pub fin_wait: u32,
    pub time_wait: u32,
    pub close: u32,
    pub close_wait: u32,
    pub last_ack: u32,
    pub listen: u32,
    pub synack: u32,
}

impl Default for TcpTimeouts {
    /// The kernel's defaults (`tcp_timeouts` of ip_vs_proto_tcp).
    fn default() -> Self {
        Self {
            none: 2,
            established: 900,
            syn_sent: 120,
            syn_recv: 60,
            fin_wait: 120,
            time_wait: 120,
            close: 10,
            close_wait: 60,
            last_ack: 30,
            listen: 120,
            synack: 120,
        }
    }
}

/// Seconds per SCTP state.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct SctpTimeouts {
    pub none: u32,
    pub init1: u32,
    pub init: u32,
    pub cookie_sent: u32,
    pub cookie_replied: u32,
    pub cookie_wait: u32,
    pub cookie: u32,
    pub cookie_echoed: u32,
    pub established: u32,
    pub shutdown_sent: u32,
    pub shutdown_received: u32,
    pub shutdown_ack_sent: u32,
    pub rejected: u32,
    pub closed: u32,
}

impl Default for SctpTimeouts {
    /// The kernel's defaults (`sctp_timeouts` of ip_vs_proto_sctp).
    fn default() -> Self {
        Self {
            none: 2,
            init1: 4,
            init: 61,
            cookie_sent: 61,
            cookie_replied: 61,
            cookie_wait: 61,
            cookie: 61,
            cookie_echoed: 61,
            established: 900,
            shutdown_sent: 61,
            shutdown_received: 61,
            shutdown_ack_sent: 61,
            rejected: 4,
            closed: 61,
        }
    }
}
