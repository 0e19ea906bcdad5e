//! The table of services as ipvsadm sees it, made of what weir lists.

use std::cmp::Ordering;
use std::net::SocketAddr;

use weir_api::virtual_servers::{Carried, RealServer, Served, VirtualServer};

use super::command::{Flags, Forwarding, Netmask, Protocol, Tunnel, TunnelChecksum, TunnelKind, Which};

/// A service with its servers.
#[derive(Debug, Clone)]
pub struct Service {
    pub(super) which: Which,
    pub(super) scheduler: String,
    pub(super) flags: Flags,
    pub(super) persistence: Option<u32>,
    pub(super) netmask: Netmask,
    pub(super) engine: Option<String>,
    pub(super) one_packet: bool,
    pub(super) carried: Carried,
    pub(super) servers: Vec<Server>,
}

/// A real server.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) socket: SocketAddr,
    pub(super) forwarding: Forwarding,
    pub(super) tunnel: Tunnel,
    pub(super) weight: u16,
    pub(super) active: u32,
    pub(super) inactive: u32,
    pub(super) persistent: u32,
    pub(super) upper_threshold: u32,
    pub(super) lower_threshold: u32,
    pub(super) carried: Carried,
}

impl Service {
    /// `None`: weir lists what this program does not know.
    pub fn of(listed: &VirtualServer<'_>) -> Option<Self> {
        let which = which(&listed.traffic)?;
        let netmask = match which.is_ipv6() {
            true => Netmask::V6(listed.persistence_netmask),
            false => {
                Netmask::V4(u32::MAX.checked_shl(32 - u32::from(listed.persistence_netmask)).unwrap_or(0))
            }
        };
        Some(Self {
            which,
            flags: listed.scheduler_flags.iter().fold(Flags::default(), |all, name| all.with(flag(name))),
            scheduler: listed.scheduler.to_string(),
            persistence: Some(listed.persistence_timeout).filter(|&secs| secs != 0),
            netmask,
            engine: listed.persistence_engine.as_ref().map(|engine| engine.to_string()),
            one_packet: listed.one_packet,
            carried: listed.carried,
            servers: listed.real_servers.iter().filter_map(server).collect(),
        })
    }

    /// In ipvsadm's order, servers too.
    pub(super) fn sort(services: &mut [Service]) {
        services.sort_by(|a, b| a.which.order(&b.which));
        for service in services {
            service.servers.sort_by_key(|server| server.socket);
        }
    }
}

/// What a listed virtual server is called on a command line.
pub fn which(served: &Served<'_>) -> Option<Which> {
    Some(match served {
        Served::Mark { mark, family } => Which::Mark { mark: *mark, ipv6: family == "ipv6" },
        Served::Address { address, port, protocol } => {
            Which::Address { protocol: Protocol::named(protocol)?, address: *address, port: *port }
        }
    })
}

fn server(listed: &RealServer<'_>) -> Option<Server> {
    let tunnel = Tunnel {
        kind: listed.tunnel.as_deref().and_then(TunnelKind::named).unwrap_or(TunnelKind::Ipip),
        port: listed.tunnel_port.unwrap_or_default(),
        checksum: listed
            .tunnel_checksum
            .as_deref()
            .and_then(TunnelChecksum::named)
            .unwrap_or(TunnelChecksum::None),
    };
    Some(Server {
        socket: SocketAddr::new(listed.address, listed.port),
        forwarding: Forwarding::named(&listed.forwarding)?,
        tunnel,
        weight: listed.weight,
        active: listed.active,
        inactive: listed.inactive,
        persistent: listed.persistent.unwrap_or_default(),
        upper_threshold: listed.upper_threshold,
        lower_threshold: listed.lower_threshold,
        carried: listed.carried,
    })
}

/// The bit of a flag that the file names.
fn flag(name: &str) -> Flags {
    match name {
        "sh-fallback" | "mh-fallback" | "flag-1" => Flags::FIRST,
        "sh-port" | "mh-port" | "flag-2" => Flags::SECOND,
        "flag-3" => Flags::THIRD,
        _ => Flags::default(),
    }
}

impl Which {
    pub(super) fn is_ipv6(&self) -> bool {
        match self {
            Which::Address { address, .. } => address.is_ipv6(),
            Which::Mark { ipv6, .. } => *ipv6,
        }
    }

    /// ipvsadm's order: services without a mark first, by family, protocol, address and port; then marks. It takes marks for signed
    /// numbers.
    fn order(&self, other: &Which) -> Ordering {
        let key = |which: &Which| match *which {
            Which::Address { protocol, address, port } => {
                (0, which.is_ipv6(), protocol.number(), Some(address), port)
            }
            Which::Mark { mark, ipv6 } => (mark as i32, ipv6, Protocol::Tcp.number(), None, 0),
        };
        key(self).cmp(&key(other))
    }
}
