//! What `-L` and `-S` print: the columns of ipvsadm 1.31, blanks at the ends of lines included, since scripts count them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use weir_api::connections::Connection;
use weir_api::edits::Timeouts;
use weir_api::virtual_servers::Figures;

use super::command::{
    Flags, Format, Forwarding, Netmask, Protocol, Tunnel, TunnelChecksum, TunnelKind, Which,
};
use super::names::Names;
use super::table::{Server, Service};

/// The first line of a listing. The size is that of a kernel's hash table which nobody has set; weir has none.
pub(super) const VERSION_LINE: &str = "IP Virtual Server version 1.2.1 (size=4096)\n";

/// Writes listings.
pub(super) struct Show<'a> {
    pub(super) names: &'a dyn Names,
    pub(super) format: Format,
}

impl Show<'_> {
    /// The two lines above services.
    pub(super) fn title(&self) -> String {
        let Format { stats, rate, thresholds, persistent, tunnels, .. } = self.format;
        let address = "Prot LocalAddress:Port";
        let figures = |names: [&str; 5]| {
            let names = names.map(|name| format!(" {name:>8}")).concat();
            format!("{address:<33}{names}\n  -> RemoteAddress:Port\n")
        };
        if stats {
            figures(["Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"])
        } else if rate {
            figures(["CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"])
        } else if thresholds {
            format!(
                "{address:<33} {:<10} {:<10} {:<10} {:<10}\n  -> RemoteAddress:Port\n",
                "Uthreshold", "Lthreshold", "ActiveConn", "InActConn"
            )
        } else if persistent {
            format!(
                "{address:<33} {:<9} {:<11} {:<10} {:<10}\n  -> RemoteAddress:Port\n",
                "Weight", "PersistConn", "ActiveConn", "InActConn"
            )
        } else {
            let tunnel = if tunnels { "TunnelInfo    " } else { "" };
            format!(
                "{address} Scheduler Flags\n  -> RemoteAddress:Port           Forward {tunnel}Weight ActiveConn InActConn\n"
            )
        }
    }

    /// A service with its servers.
    pub(super) fn service(&self, service: &Service) -> String {
        let Format { stats, rate, .. } = self.format;
        let mut name = match service.which {
            Which::Mark { mark, ipv6 } => format!("FWM  {}{}", mark as i32, if ipv6 { " IPv6" } else { "" }),
            Which::Address { protocol, address, port } => {
                let name = self.endpoint(SocketAddr::new(address, port), Some(protocol));
                format!("{:<4} {name}", protocol.name().to_uppercase())
            }
        };
        if !service.which.is_ipv6() {
            cut(&mut name, 33);
        }
        let figures = if stats { service.carried.total } else { service.carried.per_second };
        let mut text = if stats || rate {
            format!("{name:<33}{}\n", columns(&figures).map(|it| self.large(it)).concat())
        } else {
            format!("{name} {}{}\n", service.scheduler, options(service))
        };
        for server in &service.servers {
            text += &self.server(server, service);
        }
        text
    }

    fn server(&self, server: &Server, service: &Service) -> String {
        let Format { stats, rate, thresholds, persistent, tunnels, .. } = self.format;
        let mut name = self.endpoint(server.socket, Some(protocol_of(service.which)));
        if server.socket.is_ipv4() {
            cut(&mut name, 28);
        }
        let Server { active, inactive, weight, upper_threshold, lower_threshold, .. } = server;
        if stats {
            let figures = columns(&server.carried.total).map(|it| self.large(it)).concat();
            format!("  -> {name:<28}{figures}\n")
        } else if rate {
            let [connections, in_packets, out_packets, in_bytes, out_bytes] =
                columns(&server.carried.per_second);
            format!(
                "  -> {name:<28} {connections:>8} {in_packets:>8} {out_packets:>8}{}{}\n",
                self.large(in_bytes),
                self.large(out_bytes)
            )
        } else if thresholds {
            format!(
                "  -> {name:<28} {upper_threshold:<10} {lower_threshold:<10} {active:<10} {inactive:<10}\n"
            )
        } else if persistent {
            format!("  -> {name:<28} {weight:<9} {:<11} {active:<10} {inactive:<10}\n", server.persistent)
        } else {
            let tunnel = if tunnels { format!("{:<13} ", tunnel_info(server)) } else { String::new() };
            format!(
                "  -> {name:<28} {:<7} {tunnel}{weight:<6} {active:<10} {inactive:<10}\n",
                server.forwarding.listed()
            )
        }
    }

    /// The commands that make a service and its servers.
    pub(super) fn rules(&self, service: &Service) -> String {
        let name = match service.which {
            Which::Mark { mark, ipv6 } => format!("-f {}{}", mark as i32, if ipv6 { " -6" } else { "" }),
            Which::Address { protocol, address, port } => {
                let switch = match protocol {
                    Protocol::Tcp => "-t",
                    Protocol::Udp => "-u",
                    Protocol::Sctp => "--sctp-service",
                };
                format!("{switch} {}", self.endpoint(SocketAddr::new(address, port), Some(protocol)))
            }
        };
        let mut text = format!("-A {name} -s {}", service.scheduler);
        if let Some(secs) = service.persistence {
            text += &format!(" -p {secs}");
            text += &partial(service.netmask).map(|mask| format!(" -M {mask}")).unwrap_or_default();
        }
        if let Some(engine) = &service.engine {
            text += &format!(" --pe {engine}");
        }
        if service.one_packet {
            text += " -o";
        }
        if let Some(flags) = flags(service) {
            text += &format!(" -b {flags}");
        }
        text.push('\n');
        for server in &service.servers {
            let socket = self.endpoint(server.socket, Some(protocol_of(service.which)));
            let (switch, weight) = (server.forwarding.switch(), server.weight);
            text += &format!("-a {name} -r {socket} {switch} -w {weight}{}\n", tunnel_options(server));
        }
        text
    }

    /// The line above connections.
    pub(super) fn connection_title(&self) -> String {
        let pe = if self.format.persistent {
            format!("{:<18} {:<16} pe_data", "destination", "pe name")
        } else {
            "destination".to_owned()
        };
        format!(
            "IPVS connection entries\npro expire {:<11} {:<18} {:<18} {pe}\n",
            "state", "source", "virtual"
        )
    }

    /// A connection.
    pub(super) fn connection(&self, connection: &Connection<'_>) -> String {
        let protocol = Protocol::named(&connection.protocol);
        let name = connection.protocol.to_uppercase();
        let end = |address, port| self.endpoint(SocketAddr::new(address, port), protocol);
        // The kernel counts the whole seconds that are left, of which the one that has begun is none.
        let secs = connection.expires.saturating_sub(1);
        let expires = format!("{:02}:{:02}", secs / 60, secs % 60);
        // One of a wide network has no address of its own in the table.
        let address = connection.address.unwrap_or_else(|| unspecified(connection.client));
        let client = end(connection.client, connection.client_port);
        let virtual_server = end(address, connection.port);
        let real_server = end(connection.real_server, connection.real_server_port);
        let end = match (&connection.persistence_engine, &connection.persistence_data) {
            (Some(engine), Some(data)) if self.format.persistent => {
                format!("{real_server:<18} {engine:<16} {data}")
            }
            _ => real_server,
        };
        format!("{name:<3} {expires:<6} {:<11} {client:<18} {virtual_server:<18} {end}\n", connection.state)
    }

    fn endpoint(&self, socket: SocketAddr, protocol: Option<Protocol>) -> String {
        if self.format.numeric {
            return socket.to_string();
        }
        let (address, port) = (socket.ip(), socket.port());
        let host = self.names.host(address).unwrap_or_else(|| address.to_string());
        let service = protocol.and_then(|protocol| self.names.service(port, protocol));
        let service = service.unwrap_or_else(|| port.to_string());
        if address.is_ipv6() { format!("[{host}]:{service}") } else { format!("{host}:{service}") }
    }

    /// A figure in at least nine columns: in K, M, G and T when it is large.
    fn large(&self, figure: u64) -> String {
        const K: u64 = 1_000;
        if self.format.exact {
            let digits = figure.to_string();
            let width = if digits.len() <= 8 { 9 } else { digits.len() + 1 };
            return format!("{digits:>width$}");
        }
        match figure {
            0..100_000_000 => format!("{figure:>9}"),
            100_000_000..1_000_000_000 => format!("{:>8}K", figure / K),
            1_000_000_000..100_000_000_000 => format!("{:>8}M", figure / K.pow(2)),
            100_000_000_000..100_000_000_000_000 => format!("{:>8}G", figure / K.pow(3)),
            _ => format!("{:>8}T", figure / K.pow(4)),
        }
    }
}

/// `--timeout`
pub(super) fn timeouts(timeouts: &Timeouts) -> String {
    let Timeouts { tcp_established, tcp_fin_wait, udp } = timeouts;
    format!("Timeout (tcp tcpfin udp): {tcp_established} {tcp_fin_wait} {udp}\n")
}

fn columns(figures: &Figures) -> [u64; 5] {
    let Figures { connections, in_packets, out_packets, in_bytes, out_bytes } = *figures;
    [connections, in_packets, out_packets, in_bytes, out_bytes]
}

/// No address, of the same family.
pub(crate) fn unspecified(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// What stands behind the scheduler.
fn options(service: &Service) -> String {
    let mut text = flags(service).map(|flags| format!(" ({flags})")).unwrap_or_default();
    if let Some(secs) = service.persistence {
        text += &format!(" persistent {secs}");
        text += &partial(service.netmask).map(|mask| format!(" mask {mask}")).unwrap_or_default();
    }
    if let Some(engine) = &service.engine {
        text += &format!(" pe {engine}");
    }
    if service.one_packet {
        text += " ops";
    }
    text
}

/// Flags of a scheduler, by its names for them; `None`: none is set.
fn flags(service: &Service) -> Option<String> {
    let names: &[(Flags, &str)] = match service.scheduler.as_str() {
        "sh" => &[(Flags::FIRST, "sh-fallback"), (Flags::SECOND, "sh-port")],
        "mh" => &[(Flags::FIRST, "mh-fallback"), (Flags::SECOND, "mh-port")],
        _ => &[(Flags::FIRST, "flag-1"), (Flags::SECOND, "flag-2"), (Flags::THIRD, "flag-3")],
    };
    let set = names.iter().filter(|(flag, _)| service.flags.has(*flag)).map(|(_, name)| *name);
    (service.flags != Flags::default()).then(|| set.collect::<Vec<_>>().join(","))
}

/// A mask that is not that of a single address.
fn partial(mask: Netmask) -> Option<String> {
    match mask {
        Netmask::V4(u32::MAX) | Netmask::V6(128) => None,
        Netmask::V4(mask) => Some(Ipv4Addr::from_bits(mask).to_string()),
        Netmask::V6(bits) => Some(bits.to_string()),
    }
}

fn tunnel_info(server: &Server) -> String {
    if server.forwarding != Forwarding::Tunnel {
        return "n/a".to_owned();
    }
    let Tunnel { kind, port, checksum } = server.tunnel;
    let checksum = match checksum {
        TunnelChecksum::None => "-c",
        TunnelChecksum::Full => "+c",
        TunnelChecksum::Remote => "r+c",
    };
    match kind {
        TunnelKind::Ipip => "ipip".to_owned(),
        TunnelKind::Gue => format!("gue:{port}:{checksum}"),
        TunnelKind::Gre => format!("gre:{checksum}"),
    }
}

fn tunnel_options(server: &Server) -> String {
    if server.forwarding != Forwarding::Tunnel {
        return String::new();
    }
    let Tunnel { kind, port, checksum } = server.tunnel;
    let checksum = match checksum {
        TunnelChecksum::None => "--tun-nocsum",
        TunnelChecksum::Full => "--tun-csum",
        TunnelChecksum::Remote => "--tun-remcsum",
    };
    match kind {
        TunnelKind::Ipip => " --tun-type ipip".to_owned(),
        TunnelKind::Gue => format!(" --tun-type gue --tun-port {port} {checksum}"),
        TunnelKind::Gre => format!(" --tun-type gre {checksum}"),
    }
}

/// The protocol whose names ports have. A mark counts as TCP.
fn protocol_of(which: Which) -> Protocol {
    match which {
        Which::Address { protocol, .. } => protocol,
        Which::Mark { .. } => Protocol::Tcp,
    }
}

fn cut(text: &mut String, length: usize) {
    if let Some((end, _)) = text.char_indices().nth(length) {
        text.truncate(end);
    }
}
