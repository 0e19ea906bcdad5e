//! A weir for tests: what the contract of edits and listings says, without checks of values.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};
use weir_api::Text;
use weir_api::connections::Connection;
use weir_api::edits::{Applied, Edit, Id, Keys, Kind, Refusal, Socket, Timeouts};
use weir_api::virtual_servers::{Carried, Figures, RealServer, Served, VirtualServer};

use crate::weir::{Each, Problem, Weir};

/// See the module.
#[derive(Default)]
pub(crate) struct Model {
    pub(crate) services: Vec<VirtualServer<'static>>,
    pub(crate) connections: Vec<Connection<'static>>,
    pub(crate) timeouts: Option<Timeouts>,
}

fn refused(kind: Kind, text: &str) -> Problem {
    Problem::Refused(Refusal { edit: Some(0), kind, text: text.to_owned(), report: None })
}

fn carried() -> Carried {
    let none = Figures { connections: 0, in_packets: 0, out_packets: 0, in_bytes: 0, out_bytes: 0 };
    Carried { total: none, per_second: none }
}

fn text(keys: &Keys, key: &str) -> Option<Text<'static>> {
    keys.get(key).and_then(Value::as_str).map(|text| text.to_owned().into())
}

fn number(keys: &Keys, key: &str) -> Option<u64> {
    keys.get(key).and_then(Value::as_u64)
}

fn address(keys: &Keys) -> IpAddr {
    text(keys, "address").unwrap().parse().unwrap()
}

impl Model {
    fn place(&self, id: &Id) -> Result<usize, Problem> {
        let is = |service: &VirtualServer<'_>| match (id, &service.traffic) {
            (Id::Name(by), _) => service.name == by.name,
            (Id::Address(by), Served::Address { address, port, protocol }) => {
                (by.address, by.port, by.protocol.as_str()) == (*address, *port, protocol)
            }
            (Id::Mark(by), Served::Mark { mark, family }) => {
                by.mark == *mark && by.family.as_deref().unwrap_or("ipv4") == family
            }
            _ => false,
        };
        self.services.iter().position(is).ok_or_else(|| refused(Kind::UnknownVirtualServer, "no such one"))
    }

    fn server(&mut self, id: &Id, socket: Socket) -> Result<(usize, usize), Problem> {
        let service = self.place(id)?;
        let servers = &self.services[service].real_servers;
        let place = servers.iter().position(|it| (it.address, it.port) == (socket.address, socket.port));
        Ok((service, place.ok_or_else(|| refused(Kind::UnknownRealServer, "no such one"))?))
    }

    fn apply(&mut self, edit: &Edit) -> Result<(), Problem> {
        match edit {
            Edit::AddVirtualServer { virtual_server: keys } => {
                let traffic = match number(keys, "mark") {
                    Some(mark) => Served::Mark {
                        mark: mark as u32,
                        family: text(keys, "family").unwrap_or("ipv4".into()),
                    },
                    None => Served::Address {
                        address: address(keys),
                        port: number(keys, "port").unwrap() as u16,
                        protocol: text(keys, "protocol").unwrap(),
                    },
                };
                if self.services.iter().any(|service| service.traffic == traffic) {
                    return Err(refused(Kind::Exists, "there is one"));
                }
                let ipv6 = keys.get("address").and_then(Value::as_str).is_some_and(|it| it.contains(':'));
                let mut service = VirtualServer {
                    name: format!("{traffic:?}").into(),
                    traffic,
                    scheduler: "wlc".into(),
                    scheduler_flags: Vec::new(),
                    persistence_timeout: 0,
                    persistence_netmask: if ipv6 { 128 } else { 32 },
                    persistence_engine: None,
                    one_packet: false,
                    active: 0,
                    inactive: 0,
                    carried: carried(),
                    real_servers: Vec::new(),
                };
                set_service(&mut service, keys);
                self.services.push(service);
            }
            Edit::SetVirtualServer { virtual_server, keys } => {
                let place = self.place(virtual_server)?;
                set_service(&mut self.services[place], keys);
            }
            Edit::RemoveVirtualServer { virtual_server } => {
                let place = self.place(virtual_server)?;
                self.services.remove(place);
            }
            Edit::AddRealServer { virtual_server, real_server } => {
                let place = self.place(virtual_server)?;
                let socket = Socket {
                    address: address(real_server),
                    port: number(real_server, "port").unwrap() as u16,
                };
                if self.server(virtual_server, socket).is_ok() {
                    return Err(refused(Kind::Exists, "there is one"));
                }
                let mut server = RealServer {
                    real_server: SocketAddr::new(socket.address, socket.port).to_string().into(),
                    address: socket.address,
                    port: socket.port,
                    forwarding: "dr".into(),
                    tunnel: None,
                    tunnel_port: None,
                    tunnel_checksum: None,
                    weight: 1,
                    active: 0,
                    inactive: 0,
                    upper_threshold: 0,
                    lower_threshold: 0,
                    persistent: None,
                    carried: carried(),
                };
                set_server(&mut server, real_server)?;
                self.services[place].real_servers.push(server);
            }
            Edit::SetRealServer { virtual_server, real_server, keys } => {
                let (service, place) = self.server(virtual_server, *real_server)?;
                set_server(&mut self.services[service].real_servers[place], keys)?;
            }
            Edit::RemoveRealServer { virtual_server, real_server } => {
                let (service, place) = self.server(virtual_server, *real_server)?;
                self.services[service].real_servers.remove(place);
            }
            Edit::Clear => self.services.clear(),
            Edit::Zero { virtual_server } => {
                virtual_server.as_ref().map(|id| self.place(id)).transpose()?;
            }
            Edit::SetTimeouts { tcp_established, tcp_fin_wait, udp } => {
                let mut timeouts = self.timeouts()?;
                let secs = |given: &Option<u32>, before| given.filter(|&secs| secs != 0).unwrap_or(before);
                timeouts.tcp_established = secs(tcp_established, timeouts.tcp_established);
                timeouts.tcp_fin_wait = secs(tcp_fin_wait, timeouts.tcp_fin_wait);
                timeouts.udp = secs(udp, timeouts.udp);
                self.timeouts = Some(timeouts);
            }
        }
        Ok(())
    }
}

fn set_service(service: &mut VirtualServer<'static>, keys: &Keys) {
    if let Some(scheduler) = text(keys, "scheduler") {
        service.scheduler = scheduler;
    }
    if let Some(flags) = keys.get("scheduler_flags").and_then(Value::as_array) {
        service.scheduler_flags = flags.iter().map(|flag| flag.as_str().unwrap().to_owned()).collect();
    }
    if let Some(secs) = number(keys, "persistence_timeout") {
        service.persistence_timeout = secs as u32;
    }
    if let Some(bits) = number(keys, "persistence_netmask") {
        service.persistence_netmask = bits as u8;
    }
    if let Some(engine) = keys.get("persistence_engine") {
        service.persistence_engine = engine.as_str().map(|engine| engine.to_owned().into());
    }
    if let Some(one_packet) = keys.get("one_packet").and_then(Value::as_bool) {
        service.one_packet = one_packet;
    }
}

fn set_server(server: &mut RealServer<'static>, keys: &Keys) -> Result<(), Problem> {
    if let Some(weight) = number(keys, "weight") {
        server.weight =
            u16::try_from(weight).map_err(|_| refused(Kind::Invalid, "`weight` is out of range"))?;
    }
    if let Some(forwarding) = text(keys, "forwarding") {
        server.forwarding = forwarding;
    }
    if let Some(tunnel) = keys.get("tunnel") {
        server.tunnel = tunnel.as_str().map(|it| it.to_owned().into());
    }
    if let Some(port) = keys.get("tunnel_port") {
        server.tunnel_port = port.as_u64().map(|port| port as u16);
    }
    if let Some(checksum) = keys.get("tunnel_checksum") {
        server.tunnel_checksum = checksum.as_str().map(|it| it.to_owned().into());
    }
    if let Some(threshold) = number(keys, "upper_threshold") {
        server.upper_threshold = threshold as u32;
    }
    if let Some(threshold) = number(keys, "lower_threshold") {
        server.lower_threshold = threshold as u32;
    }
    Ok(())
}

impl Weir for Model {
    fn virtual_servers(&mut self, _: bool) -> Result<Vec<VirtualServer<'static>>, Problem> {
        Ok(self.services.clone())
    }

    fn connections(&mut self, _: &str, each: &mut Each<'_>) -> Result<(), Problem> {
        self.connections.iter().try_for_each(|connection| each(connection.clone()))?;
        Ok(())
    }

    fn timeouts(&mut self) -> Result<Timeouts, Problem> {
        let usual = Timeouts { tcp_established: 900, tcp_fin_wait: 120, udp: 300 };
        Ok(self.timeouts.unwrap_or(usual))
    }

    /// What is sent is what weir takes: it goes through JSON, as on the wire.
    fn edit(&mut self, edits: Vec<Edit>) -> Result<Applied, Problem> {
        let sent: Vec<Edit> = serde_json::from_value(json!(edits)).unwrap();
        let before = self.services.clone();
        for (place, edit) in sent.iter().enumerate() {
            if let Err(problem) = self.apply(edit) {
                self.services = before;
                return Err(match problem {
                    Problem::Refused(refusal) => Problem::Refused(Refusal { edit: Some(place), ..refusal }),
                    problem => problem,
                });
            }
        }
        Ok(Applied { applied: sent.len(), warnings: Vec::new() })
    }
}
