//! Commands as edits of weir's, and weir's refusals in ipvsadm's words.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};
use weir_api::edits::{ByAddress, ByMark, Edit, Id, Keys, Kind, Refusal, Socket};
use weir_config::model::Scheduler;

use super::command::{
    Command, Flags, Forwarding, Netmask, ServerKeys, ServiceKeys, Tunnel, TunnelKind, Which,
};

/// What the kernel says of an address that is none of a host.
const INVALID: &str = "Invalid operation.  Possibly wrong module version, address not unicast, ...";
const NO_SCHEDULER: &str = "Scheduler or persistence engine not found";
const OUT_OF_RANGE: &str = "Numerical result out of range";

/// The edit that a command is; `None`: it is none. Or what the kernel says of it, once it has found the service.
pub(super) fn edit(command: &Command) -> Result<Option<Edit>, String> {
    Ok(Some(match command {
        Command::AddService(which, keys) => {
            Edit::AddVirtualServer { virtual_server: new_service(*which, keys)? }
        }
        Command::EditService(which, keys) => {
            Edit::SetVirtualServer { virtual_server: id(*which), keys: service_keys(keys)? }
        }
        Command::DeleteService(which) => Edit::RemoveVirtualServer { virtual_server: id(*which) },
        Command::AddServer(which, server, keys) => {
            acceptable(*server, keys)?;
            let mut table = server_keys(keys);
            // Of a new one only what is not as usual, so that a file it is saved to stays short.
            table.retain(|_, value| !value.is_null() && *value != json!(0) || value.is_string());
            table.insert("weight".to_owned(), json!(keys.weight));
            table.insert("address".to_owned(), json!(server.ip()));
            table.insert("port".to_owned(), json!(server.port()));
            Edit::AddRealServer { virtual_server: id(*which), real_server: table }
        }
        Command::EditServer(which, server, keys) => {
            acceptable(*server, keys)?;
            let (virtual_server, real_server) = (id(*which), socket(*server));
            Edit::SetRealServer { virtual_server, real_server, keys: server_keys(keys) }
        }
        Command::DeleteServer(which, server) => {
            Edit::RemoveRealServer { virtual_server: id(*which), real_server: socket(*server) }
        }
        Command::Clear => Edit::Clear,
        Command::Zero(which) => Edit::Zero { virtual_server: which.map(id) },
        &Command::SetTimeouts { tcp, tcp_fin, udp } => {
            let secs = |secs| Some(secs).filter(|&secs| secs != 0);
            Edit::SetTimeouts { tcp_established: secs(tcp), tcp_fin_wait: secs(tcp_fin), udp: secs(udp) }
        }
        _ => return Ok(None),
    }))
}

/// Whose service a command is about.
pub(super) fn service_of(command: &Command) -> Option<Which> {
    match command {
        Command::AddService(which, _)
        | Command::EditService(which, _)
        | Command::DeleteService(which)
        | Command::AddServer(which, ..)
        | Command::EditServer(which, ..)
        | Command::DeleteServer(which, _) => Some(*which),
        Command::Zero(which) => *which,
        _ => None,
    }
}

/// What ipvsadm says when the service is there or not, although the command needs it otherwise.
pub(super) fn presence(command: &Command, is_there: bool) -> Option<&'static str> {
    match (command, is_there) {
        (Command::AddService(..), true) => Some("Service already exists"),
        (Command::EditService(..) | Command::DeleteService(_) | Command::Zero(_), false) => {
            Some("No such service")
        }
        (Command::AddServer(..) | Command::EditServer(..) | Command::DeleteServer(..), false) => {
            Some("Service not defined")
        }
        _ => None,
    }
}

/// weir's refusal as ipvsadm says it.
pub(super) fn words(command: &Command, refusal: &Refusal) -> String {
    let known = match refusal.kind {
        Kind::Exists if matches!(command, Command::AddServer(..)) => Some("Destination already exists"),
        Kind::Exists => presence(command, true),
        Kind::UnknownVirtualServer => presence(command, false),
        Kind::UnknownRealServer => Some("No such destination"),
        _ => None,
    };
    known.map_or_else(|| refusal.text.clone(), str::to_owned)
}

/// How weir names a service.
pub(super) fn id(which: Which) -> Id {
    match which {
        Which::Address { protocol, address, port } => {
            Id::Address(ByAddress { protocol: protocol.name().to_owned(), address, port })
        }
        Which::Mark { mark, ipv6 } => Id::Mark(ByMark { mark, family: ipv6.then(|| "ipv6".to_owned()) }),
    }
}

fn socket(server: SocketAddr) -> Socket {
    Socket { address: server.ip(), port: server.port() }
}

fn new_service(which: Which, keys: &ServiceKeys) -> Result<Keys, String> {
    let mut table = service_keys(keys)?;
    let is_usual = |key: &str, value: &Value| match key {
        "persistence_netmask" => keys.persistence.is_none() || *value == json!(32),
        "persistence_timeout" => *value == json!(0),
        "scheduler_flags" => *value == json!([]),
        "one_packet" => *value == json!(false),
        "persistence_engine" => value.is_null(),
        _ => false,
    };
    table.retain(|key, value| !is_usual(key, value));
    match which {
        Which::Address { protocol, address, port } => {
            table.insert("protocol".to_owned(), json!(protocol.name()));
            table.insert("address".to_owned(), json!(address));
            table.insert("port".to_owned(), json!(port));
        }
        Which::Mark { mark, ipv6 } => {
            table.insert("mark".to_owned(), json!(mark));
            if ipv6 {
                table.insert("family".to_owned(), json!("ipv6"));
            }
        }
    }
    Ok(table)
}

/// Everything that `-E` sets: what is left out goes back to its default, as with ipvsadm.
fn service_keys(keys: &ServiceKeys) -> Result<Keys, String> {
    if !Scheduler::ALL.iter().any(|it| it.name() == keys.scheduler)
        || !matches!(keys.engine.as_str(), "" | "sip")
    {
        return Err(NO_SCHEDULER.to_owned());
    }
    let netmask = match keys.netmask {
        Netmask::V6(bits) => Some(u32::from(bits)),
        Netmask::V4(mask) => Some(mask.leading_ones()).filter(|ones| mask.count_ones() == *ones),
    };
    let netmask = match (netmask, keys.persistence) {
        (Some(bits), Some(_)) => bits,
        // It means nothing without persistence.
        (_, None) => {
            if matches!(keys.netmask, Netmask::V6(_)) {
                128
            } else {
                32
            }
        }
        (None, Some(_)) => {
            return Err("the mask is no prefix of a network, such as 255.255.255.0, and weir keeps no others together".to_owned());
        }
    };
    let table = json!({
        "scheduler": keys.scheduler,
        "scheduler_flags": flags(keys.flags, &keys.scheduler),
        "persistence_timeout": keys.persistence.unwrap_or_default(),
        "persistence_netmask": netmask,
        "persistence_engine": Some(&keys.engine).filter(|engine| !engine.is_empty()),
        "one_packet": keys.one_packet,
    });
    Ok(object(table))
}

/// Flags by their names in weir's file.
pub(crate) fn flags(flags: Flags, scheduler: &str) -> Vec<String> {
    let first_two = match scheduler {
        "sh" | "mh" => [format!("{scheduler}-fallback"), format!("{scheduler}-port")],
        _ => ["flag-1".to_owned(), "flag-2".to_owned()],
    };
    let [first, second] = first_two;
    let all = [(Flags::FIRST, first), (Flags::SECOND, second), (Flags::THIRD, "flag-3".to_owned())];
    all.into_iter().filter(|(flag, _)| flags.has(*flag)).map(|(_, name)| name).collect()
}

/// Everything that `-e` sets, with null for what does not go with the method.
fn server_keys(keys: &ServerKeys) -> Keys {
    let Tunnel { kind, port, checksum } = keys.tunnel;
    let is_tunnel = keys.forwarding == Forwarding::Tunnel && kind != TunnelKind::Ipip;
    let with = |is_there: bool, value: Value| if is_there { value } else { Value::Null };
    object(json!({
        "forwarding": keys.forwarding.in_file(),
        "weight": keys.weight,
        "upper_threshold": keys.upper_threshold,
        "lower_threshold": keys.lower_threshold,
        "tunnel": with(is_tunnel, json!(kind.name())),
        "tunnel_port": with(is_tunnel && kind == TunnelKind::Gue, json!(port)),
        "tunnel_checksum": with(is_tunnel, json!(checksum.in_file())),
    }))
}

fn object(value: Value) -> Keys {
    match value {
        Value::Object(keys) => keys,
        _ => Keys::new(),
    }
}

/// What the kernel asks of a real server.
fn acceptable(server: SocketAddr, keys: &ServerKeys) -> Result<(), String> {
    if let IpAddr::V4(address) = server.ip()
        && (address.octets()[0] == 0 || address.is_multicast() || address.is_broadcast())
    {
        return Err(INVALID.to_owned());
    }
    if keys.lower_threshold > keys.upper_threshold {
        return Err(OUT_OF_RANGE.to_owned());
    }
    Ok(())
}
