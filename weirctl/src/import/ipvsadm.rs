//! What `ipvsadm -S` and `ipvsadm -S -n` print.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::Path;

use super::ends::{End, Ends};
use super::map::Map;
use super::servers::{TABLES_MAX, too_many};
use super::source::{Fate, Place, Plain, Source};
use super::write::{Item, texts};
use super::{Device, Made, finish};
use crate::ipvsadm::command::{
    Command, Forwarding, Netmask, ServerKeys, ServiceKeys, TunnelChecksum, TunnelKind, Which,
};
use crate::ipvsadm::flags;
use crate::ipvsadm::names::Names;
use crate::ipvsadm::parse::parse;

/// Makes weir's file of rules.
///
/// # Errors
/// A sentence: nothing can be made of it.
pub(super) fn import(
    name: &Path,
    bytes: &[u8],
    devices: &[Device],
    names: &dyn Names,
) -> Result<Made, String> {
    let text = String::from_utf8_lossy(bytes);
    if let Some(line) = text.lines().position(|line| line.contains('\0')) {
        let name = name.display();
        return Err(format!("{name}: line {} holds a byte of 0: these are no rules of ipvsadm", line + 1));
    }
    let mut map = Map::default();
    map.devices(devices);
    let (mut places, mut ends) = (HashMap::new(), Ends::default());
    let (mut items, mut is_full) = (Vec::<Item>::new(), false);
    for (line, number) in text.lines().zip(1..) {
        let place = Place { file: 0, line: number };
        let words =
            line.split_ascii_whitespace().skip_while(|word| word.rsplit('/').next() == Some("ipvsadm"));
        let words: Vec<String> = words.map(str::to_owned).collect();
        if words.first().is_none_or(|word| word.starts_with('#')) {
            continue;
        }
        let told = Plain(line.trim()).to_string();
        if is_full {
            ends.set(place, End::LeftOut);
            continue;
        }
        ends.set(place, End::Carried);
        if map.made >= TABLES_MAX {
            is_full = true;
            let why = too_many();
            map.note(
                place,
                Fate::LeftOut,
                format!("`{told}`: {why}: this rule and those behind it are left out"),
            );
            continue;
        }
        match parse(&words, names) {
            Ok(Command::AddService(which, keys)) => {
                if places.contains_key(&which) {
                    map.note(place, Fate::LeftOut, format!("`{told}`: this service is there already"));
                    continue;
                }
                places.insert(which, items.len());
                let item = service(&mut map, which, &keys, told, place);
                map.made += 1;
                items.push(item);
            }
            Ok(Command::AddServer(which, server, keys)) => match places.get(&which) {
                Some(&at) => {
                    let item = real_server(&mut map, which, server, &keys, told, place);
                    map.made += 1;
                    items[at].below.push(item);
                }
                None => {
                    map.note(place, Fate::LeftOut, format!("`{told}`: no rule before it adds this service"))
                }
            },
            Ok(Command::SetTimeouts { tcp, tcp_fin, udp }) => {
                let mut item = Item::new("[connections.timeouts]", told, Some(place));
                for (key, secs) in [("tcp_established", tcp), ("tcp_fin_wait", tcp_fin), ("udp", udp)] {
                    if secs > 0 {
                        item.set(key, i64::from(secs));
                    }
                }
                let former = map.tables.timeouts.replace(item);
                if let Some(former) = former.and_then(|former| former.place) {
                    let text = format!("line {number} sets the timeouts again, and the last one counts");
                    map.note(former, Fate::LeftOut, text);
                }
            }
            Ok(Command::Clear) => {}
            Ok(_) => map.note(
                place,
                Fate::LeftOut,
                format!("`{told}`: this command is no rule that a file could hold"),
            ),
            Err(refusal) => {
                let text = refusal.text.lines().next().unwrap_or_default().to_owned();
                let hint = if text.contains("address[:port]") {
                    "; weirctl asks this machine for names of hosts and services: `ipvsadm -S -n` writes numbers"
                } else {
                    ""
                };
                map.note(place, Fate::LeftOut, format!("`{told}`: ipvsadm says: {text}{hint}"));
            }
        }
    }
    map.tables.servers = items;
    let source = Source { files: vec![name.display().to_string()], ends, ..Source::default() };
    let mut head = Item::new("", String::new(), None);
    head.remark(
        "Rules of ipvsadm hold no health checks: add a [virtual_server.health_check] to each virtual server.",
    );
    Ok(finish(source, &[], map, head))
}

fn service(map: &mut Map, which: Which, keys: &ServiceKeys, told: String, place: Place) -> Item {
    let mut item = Item::new("[[virtual_server]]", told, Some(place));
    match which {
        Which::Address { protocol, address, port } => {
            let name = map.name("server", &format!("{}-{address}-{port}", protocol.name()));
            map.ports.takes(address);
            item.set("name", name);
            item.set("address", address.to_string());
            item.set("port", i64::from(port));
            item.set("protocol", protocol.name());
        }
        Which::Mark { mark, ipv6 } => {
            let name = map.name("server", &format!("mark-{mark}"));
            item.set("name", name);
            item.set("mark", i64::from(mark));
            if ipv6 {
                item.set("family", "ipv6");
            }
            map.marks.insert((mark, ipv6), place);
        }
    }
    item.set("scheduler", keys.scheduler.as_str());
    let flags = flags(keys.flags, &keys.scheduler);
    if !flags.is_empty() {
        item.set("scheduler_flags", texts(flags));
    }
    if let Some(secs) = keys.persistence {
        item.set("persistence_timeout", i64::from(secs));
    }
    match keys.netmask {
        Netmask::V4(bits) if bits.leading_ones() != bits.count_ones() => {
            let text = format!(
                "the mask {} is no prefix of a network, such as 255.255.255.0, and weir keeps no others together: each client is kept alone",
                Ipv4Addr::from_bits(bits)
            );
            item.remark(format!("left out: -M: {text}"));
            map.note(place, Fate::LeftOut, format!("`-M`: {text}"));
        }
        Netmask::V4(bits) if bits != u32::MAX => {
            item.set("persistence_netmask", i64::from(bits.count_ones()))
        }
        Netmask::V6(length) if length != 128 => item.set("persistence_netmask", i64::from(length)),
        _ => {}
    }
    if keys.one_packet {
        item.set("one_packet", true);
    }
    if keys.engine == "sip" {
        item.set("persistence_engine", "sip");
    } else if !keys.engine.is_empty() {
        let text = format!("there is no persistence engine {}", Plain(&keys.engine));
        item.remark(format!("left out: {text}"));
        map.note(place, Fate::LeftOut, format!("`--pe`: {text}"));
    }
    item
}

fn real_server(
    map: &mut Map,
    which: Which,
    server: std::net::SocketAddr,
    keys: &ServerKeys,
    told: String,
    place: Place,
) -> Item {
    let mut item = Item::new("[[virtual_server.real_server]]", told, Some(place));
    let usual = match which {
        Which::Address { port, .. } => port,
        Which::Mark { .. } => 0,
    };
    item.set("address", server.ip().to_string());
    if server.port() != usual {
        item.set("port", i64::from(server.port()));
    }
    item.set("forwarding", keys.forwarding.in_file());
    item.set("weight", i64::from(keys.weight));
    for (key, many) in [("upper_threshold", keys.upper_threshold), ("lower_threshold", keys.lower_threshold)]
    {
        if many > 0 {
            item.set(key, i64::from(many));
        }
    }
    if keys.forwarding == Forwarding::Tunnel && keys.tunnel.kind != TunnelKind::Ipip {
        item.set("tunnel", keys.tunnel.kind.name());
        if keys.tunnel.kind == TunnelKind::Gue {
            item.set("tunnel_port", i64::from(keys.tunnel.port));
        }
        if keys.tunnel.checksum != TunnelChecksum::None {
            item.set("tunnel_checksum", keys.tunnel.checksum.in_file());
        }
    }
    map.ports.needs(server.ip(), None, keys.forwarding != Forwarding::Route);
    item
}
