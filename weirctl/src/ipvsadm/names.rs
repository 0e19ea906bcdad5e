//! Names of hosts and services, which ipvsadm reads and writes in place of numbers.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs};

use super::command::Protocol;

/// Who knows names. Tests have a book of their own.
pub trait Names {
    /// The name of an address.
    fn host(&self, address: IpAddr) -> Option<String>;
    /// The first IPv4 address of a name.
    fn address(&self, name: &str) -> Option<Ipv4Addr>;
    /// What a port is called.
    fn service(&self, port: u16, protocol: Protocol) -> Option<String>;
    /// The port of a name.
    fn port(&self, name: &str, protocol: Protocol) -> Option<u16>;
}

/// What this machine knows: its resolver for hosts, `/etc/services` for ports.
pub struct Local {
    services: Services,
}

impl Local {
    /// Reads `/etc/services`; without it no port has a name.
    pub fn new() -> Self {
        Self { services: Services::parse(&std::fs::read_to_string("/etc/services").unwrap_or_default()) }
    }
}

impl Default for Local {
    fn default() -> Self {
        Self::new()
    }
}

impl Names for Local {
    fn host(&self, address: IpAddr) -> Option<String> {
        dns_lookup::lookup_addr(&address).ok().filter(|name| *name != address.to_string())
    }

    fn address(&self, name: &str) -> Option<Ipv4Addr> {
        let addresses = (name, 0).to_socket_addrs().ok()?;
        addresses.map(|socket| socket.ip()).find_map(|ip| match ip {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
    }

    fn service(&self, port: u16, protocol: Protocol) -> Option<String> {
        self.services.name(port, protocol)
    }

    fn port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        self.services.port(name, protocol)
    }
}

/// `/etc/services` (services(5)).
#[derive(Default)]
pub struct Services {
    names: HashMap<(u16, String), String>,
    ports: HashMap<(String, String), u16>,
}

impl Services {
    /// Reads its text. The first line that gives a port a name, or a name a port, holds.
    pub fn parse(text: &str) -> Self {
        let mut services = Self::default();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let (Some(name), Some((port, protocol))) =
                (words.next(), words.next().and_then(|it| it.split_once('/')))
            else {
                continue;
            };
            let Ok(port) = port.parse() else { continue };
            services.names.entry((port, protocol.to_owned())).or_insert_with(|| name.to_owned());
            for name in std::iter::once(name).chain(words) {
                services.ports.entry((name.to_owned(), protocol.to_owned())).or_insert(port);
            }
        }
        services
    }

    /// What a port is called.
    pub fn name(&self, port: u16, protocol: Protocol) -> Option<String> {
        self.names.get(&(port, protocol.name().to_owned())).cloned()
    }

    /// The port of a name.
    pub fn port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        self.ports.get(&(name.to_owned(), protocol.name().to_owned())).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_have_names_and_aliases_by_protocol() {
        let text = "# comment\nhttp\t80/tcp\twww\t# WorldWideWeb\ndomain 53/tcp\ndomain 53/udp\nbad x/tcp\nlone\n\
            other 80/tcp\n";
        let services = Services::parse(text);
        assert_eq!(services.name(80, Protocol::Tcp).as_deref(), Some("http"));
        assert_eq!(services.name(80, Protocol::Udp), None);
        assert_eq!(services.port("www", Protocol::Tcp), Some(80));
        assert_eq!(services.port("domain", Protocol::Udp), Some(53));
        assert_eq!(services.port("domain", Protocol::Sctp), None);
        assert_eq!(services.port("bad", Protocol::Tcp), None);
    }
}
