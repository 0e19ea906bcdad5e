//! `weirctl add`, `set`, `remove`, `drain`, `enable` and `reload`: what changes a running weir.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;

use serde_json::{Value, json};
use weir_api::edits::{Applied, ByAddress, ByMark, ByName, Edit, Id, Keys, Reload, Reloaded, Socket};
use weir_api::virtual_servers::{Served, VirtualServer};
use weir_config::model::{Config, VirtualServer as VirtualServerOfFile};

use super::{Asked, print};
use crate::ipvsadm::command::Protocol;
use crate::patiently;
use crate::weir::{Problem, Weir};

fn failed(text: impl Into<String>) -> Problem {
    Problem::Failed(text.into())
}

/// How a virtual server is named on the command line: `web`, `tcp/192.0.2.1:80` or `mark/7`.
pub(crate) fn id(text: &str) -> Result<Id, String> {
    let Some((kind, rest)) = text.split_once('/') else {
        return Ok(Id::Name(ByName { name: text.to_owned() }));
    };
    if kind == "mark" {
        let mark = rest.parse().map_err(|_| format!("{rest} is no mark"))?;
        return Ok(Id::Mark(ByMark { mark, family: None }));
    }
    match (Protocol::named(kind), rest.parse::<SocketAddr>()) {
        (Some(protocol), Ok(socket)) => Ok(Id::Address(ByAddress {
            protocol: protocol.name().to_owned(),
            address: socket.ip(),
            port: socket.port(),
        })),
        _ => Err(format!(
            "{text} names no virtual server: write its name, tcp/ADDRESS:PORT (or udp, sctp), or mark/NUMBER"
        )),
    }
}

/// A real server on the command line: an address, with its port unless it is the only one there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Server {
    address: IpAddr,
    port: Option<u16>,
}

/// Reads a [`Server`].
pub(crate) fn server(text: &str) -> Result<Server, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let bracketed = bare.and_then(|text| text.parse::<Ipv6Addr>().ok()).map(IpAddr::V6);
    if let Some(address) = bracketed.or_else(|| text.parse().ok()) {
        return Ok(Server { address, port: None });
    }
    let socket: SocketAddr = text.parse().map_err(|_| format!("{text} is no ADDRESS[:PORT]"))?;
    Ok(Server { address: socket.ip(), port: Some(socket.port()) })
}

/// A key of the file with its value.
pub(crate) type Key = (String, Value);

/// `KEY=VALUE`, the value as the file writes it; texts need no quotes there, and nothing stands for the default.
pub(crate) fn key(text: &str) -> Result<Key, String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text} is no KEY=VALUE"))?;
    if key.is_empty() || !key.bytes().all(|it| it.is_ascii_lowercase() || it == b'_') {
        return Err(format!("{key} is no key of the file"));
    }
    Ok((key.to_owned(), value_of(value)))
}

fn value_of(text: &str) -> Value {
    if text.is_empty() {
        return Value::Null;
    }
    // What is no number, truth, array or table of TOML is a text.
    let read = text.parse::<toml_edit::Value>().ok();
    read.and_then(|value| super::save::json_of(&value)).unwrap_or_else(|| json!(text))
}

fn keys(given: &[Key]) -> Result<Keys, Problem> {
    let mut keys = Keys::new();
    for (key, value) in given {
        if keys.insert(key.clone(), value.clone()).is_some() {
            return Err(failed(format!("{key} is given twice: say which of them it is to be")));
        }
    }
    Ok(keys)
}

/// Adds what the command names itself.
fn add(keys: &mut Keys, key: &str, value: Value) -> Result<(), Problem> {
    match keys.insert(key.to_owned(), value.clone()) {
        None => Ok(()),
        Some(other) => Err(failed(format!(
            "{key} is given twice: {value} by the command and {key}={other}; leave the latter out"
        ))),
    }
}

/// What a command changes.
#[derive(Debug)]
pub(crate) enum Change<'a> {
    AddVirtual(&'a str, &'a [Key]),
    SetVirtual(&'a Id, &'a [Key]),
    RemoveVirtual(&'a Id),
    AddReal(&'a Id, Server, &'a [Key]),
    SetReal(&'a Id, Server, &'a [Key]),
    RemoveReal(&'a Id, Server),
}

/// Makes a change, or with `dry_run` says what would come of it.
pub(super) fn run(asked: &mut Asked, change: &Change<'_>, dry_run: bool) -> Result<(), Problem> {
    let edit = edit(change, &mut asked.client)?;
    let request = weir_api::edits::Request { edits: vec![edit], dry_run };
    let applied: Applied = asked.client.post("/api/v1/edits", &request)?;
    if asked.is_json {
        let text = serde_json::to_string(&applied).map_err(|problem| failed(problem.to_string()))?;
        return print(&(text + "\n"));
    }
    print(&applied.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect::<String>())
}

fn edit(change: &Change<'_>, weir: &mut dyn Weir) -> Result<Edit, Problem> {
    Ok(match *change {
        Change::AddVirtual(name, given) => {
            let mut table = keys(given)?;
            add(&mut table, "name", json!(name))?;
            Edit::AddVirtualServer { virtual_server: table }
        }
        Change::SetVirtual(id, given) => {
            Edit::SetVirtualServer { virtual_server: id.clone(), keys: keys(given)? }
        }
        Change::RemoveVirtual(id) => Edit::RemoveVirtualServer { virtual_server: id.clone() },
        Change::AddReal(id, server, given) => {
            let mut table = keys(given)?;
            add(&mut table, "address", json!(server.address))?;
            if let Some(port) = server.port {
                add(&mut table, "port", json!(port))?;
            }
            Edit::AddRealServer { virtual_server: id.clone(), real_server: table }
        }
        Change::SetReal(id, server, given) => Edit::SetRealServer {
            real_server: find(id, server, weir)?,
            virtual_server: id.clone(),
            keys: keys(given)?,
        },
        Change::RemoveReal(id, server) => {
            Edit::RemoveRealServer { real_server: find(id, server, weir)?, virtual_server: id.clone() }
        }
    })
}

/// The virtual server that is named so.
fn named<'a>(id: &Id, listed: &'a [VirtualServer<'static>]) -> Option<&'a VirtualServer<'static>> {
    listed.iter().find(|it| match (id, &it.traffic) {
        (Id::Name(by), _) => it.name == by.name,
        (Id::Address(by), Served::Address { address, port, protocol }) => {
            (by.address, by.port, by.protocol.as_str()) == (*address, *port, protocol)
        }
        (Id::Mark(by), Served::Mark { mark, .. }) => by.mark == *mark,
        _ => false,
    })
}

/// The real server, with the port that it is listed with.
fn find(id: &Id, server: Server, weir: &mut dyn Weir) -> Result<Socket, Problem> {
    let Server { address, port } = server;
    if let Some(port) = port {
        return Ok(Socket { address, port });
    }
    let listed = weir.virtual_servers(false)?;
    let real_servers = named(id, &listed).map_or(&[][..], |it| &it.real_servers);
    let mut ports = real_servers.iter().filter(|it| it.address == address).map(|it| it.port);
    match (ports.next(), ports.next()) {
        (Some(port), None) => Ok(Socket { address, port }),
        (Some(_), Some(_)) => {
            Err(failed(format!("{address} is there with several ports; write {address}:PORT")))
        }
        // weir says what is missing.
        (None, _) => Ok(Socket { address, port: 0 }),
    }
}

/// `drain`: no new connections; those that there are go on.
pub(super) fn drain(asked: &mut Asked, id: &Id, server: Server) -> Result<(), Problem> {
    let zero = [("weight".to_owned(), json!(0))];
    run(asked, &Change::SetReal(id, server, &zero), false)?;
    if asked.is_json {
        return Ok(());
    }
    let socket = find(id, server, &mut asked.client)?;
    let listed = asked.client.virtual_servers(false)?;
    let real_servers = named(id, &listed).map_or(&[][..], |it| &it.real_servers);
    let left = real_servers.iter().find(|it| (it.address, it.port) == (socket.address, socket.port));
    let left = left.map_or(0, |it| u64::from(it.active) + u64::from(it.inactive));
    print(&format!("it gets no new connections; {left} go on\n"))
}

/// `enable`: with the weight that is wanted, or the one that the file has.
pub(super) fn enable(
    asked: &mut Asked,
    id: &Id,
    server: Server,
    (weight, file): (Option<u32>, Option<&Path>),
) -> Result<(), Problem> {
    let weight = match weight {
        Some(weight) => weight,
        None => {
            let file = asked.file_or(file)?;
            let socket = find(id, server, &mut asked.client)?;
            weight_in_file(id, socket, &file)?.ok_or_else(|| {
                failed(format!("{} has no weight for it above 0; say which: --weight", file.display()))
            })?
        }
    };
    let keys = [("weight".to_owned(), json!(weight))];
    run(asked, &Change::SetReal(id, server, &keys), false)
}

fn weight_in_file(id: &Id, server: Socket, file: &Path) -> Result<Option<u32>, Problem> {
    let loaded = patiently(file, || weir_config::load_any(file)).map_err(|report| {
        let why = report.one_liners().next().map_or_else(|| report.tally(), |(_, line)| line);
        failed(format!("{why}; mend it, or say which: --weight"))
    })?;
    Ok(weight_in(&loaded.config, id, server))
}

fn weight_in(config: &Config, id: &Id, server: Socket) -> Option<u32> {
    let is = |it: &VirtualServerOfFile| match id {
        Id::Name(by) => it.name == by.name,
        Id::Address(by) => {
            let own = (it.address, it.port, it.protocol.name());
            it.mark.is_none() && own == (by.address, by.port, by.protocol.as_str())
        }
        Id::Mark(by) => it.mark == Some(by.mark),
    };
    let real_servers = &config.virtual_servers.iter().find(|it| is(it))?.real_servers;
    let found = real_servers.iter().find(|it| (it.address, it.port) == (server.address, server.port))?;
    Some(u32::from(found.weight)).filter(|&weight| weight > 0)
}

/// `reload`
pub(super) fn reload(asked: &mut Asked, wanted: Reload) -> Result<(), Problem> {
    let reloaded = asked.client.post::<Reloaded>("/api/v1/reload", &wanted);
    match reloaded {
        Ok(reloaded) if asked.is_json => {
            let text = serde_json::to_string(&reloaded).map_err(|problem| failed(problem.to_string()))?;
            print(&(text + "\n"))
        }
        Ok(reloaded) => print(&reload_text(&reloaded, wanted.dry_run)),
        // The report says more than the sentence, at the places in the file.
        Err(Problem::Refused(refusal)) if refusal.report.is_some() && !asked.is_json => {
            Err(failed(format!("{}\n{}", refusal.text, refusal.report.unwrap_or_default().trim_end())))
        }
        Err(problem) => Err(problem),
    }
}

fn reload_text(it: &Reloaded, dry_run: bool) -> String {
    let mut text = String::new();
    // Writing to a string can't fail.
    let mut line = |it: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{it}");
    };
    for change in &it.changed.objects {
        let what = match &change.real_server {
            Some(real_server) => format!("{} {real_server}", change.virtual_server),
            None => change.virtual_server.clone(),
        };
        line(format_args!("{:<8}{what}, {} connections", change.change, change.connections));
    }
    for table in &it.changed.tables {
        line(format_args!("changed [{table}]"));
    }
    let counts = [("virtual servers", it.changed.virtual_servers), ("real servers", it.changed.real_servers)];
    let mut parts = Vec::new();
    for (what, counts) in counts {
        for (count, how) in
            [(counts.added, "added"), (counts.changed, "changed"), (counts.removed, "removed")]
        {
            if count > 0 {
                parts.push(format!("{count} {what} {how}"));
            }
        }
    }
    let touched = it.changed.connections_removed + it.changed.connections_changed;
    if parts.is_empty() && it.changed.tables.is_empty() {
        line(format_args!("nothing {}", if dry_run { "would change" } else { "has changed" }));
    } else if !parts.is_empty() {
        line(format_args!(
            "{}; {touched} connections touched, {} of them of what is removed",
            parts.join(", "),
            it.changed.connections_removed
        ));
    }
    for edit in &it.dropped {
        line(format_args!("dropped {edit}"));
    }
    let unnamed = it.dropped_edits.saturating_sub(it.dropped.len());
    if unnamed > 0 {
        line(format_args!("dropped {unnamed} more edits"));
    }
    for warning in &it.warnings {
        line(format_args!("warning: {warning}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use weir_api::edits::{Change as Changed, Changes, Counts};

    use super::*;
    use crate::model::Model;

    #[test]
    fn virtual_servers_have_names_addresses_or_marks() {
        assert_eq!(id("web"), Ok(Id::Name(ByName { name: "web".to_owned() })));
        assert_eq!(id("mark/7"), Ok(Id::Mark(ByMark { mark: 7, family: None })));
        let by = ByAddress { protocol: "udp".to_owned(), address: "192.0.2.1".parse().unwrap(), port: 53 };
        assert_eq!(id("udp/192.0.2.1:53"), Ok(Id::Address(by)));
        assert!(id("icmp/192.0.2.1:53").is_err() && id("tcp/192.0.2.1").is_err() && id("mark/x").is_err());
    }

    #[test]
    fn values_are_read_as_the_file_has_them_and_texts_need_no_quotes() {
        let read = |text: &str| key(text).unwrap().1;
        assert_eq!(key("weight=3"), Ok(("weight".to_owned(), json!(3))));
        assert_eq!(read("scheduler=wrr"), json!("wrr"));
        assert_eq!(read("address=192.0.2.1"), json!("192.0.2.1"));
        assert_eq!(read("address=2001:db8::1"), json!("2001:db8::1"));
        assert_eq!(read("one_packet=true"), json!(true));
        assert_eq!(read("name=\"7\""), json!("7"));
        assert_eq!(read("scheduler_flags=[\"sh-port\"]"), json!(["sh-port"]));
        assert_eq!(
            read("health_check={type = \"tcp\", interval = 1.5}"),
            json!({"type": "tcp", "interval": 1.5})
        );
        assert_eq!(read("persistence_timeout="), Value::Null);
        // Not null, which would take the key away.
        assert_eq!(["weight=nan", "weight=-inf"].map(read), [json!("nan"), json!("-inf")]);
        assert!(key("weight").is_err() && key("=3").is_err() && key("Weight=3").is_err());
    }

    #[test]
    fn what_is_said_twice_is_refused() {
        let mut model = Model::default();
        let web = id("web").unwrap();
        let said = |model: &mut Model, change: &Change<'_>| edit(change, model).unwrap_err().to_string();
        let given = |texts: &[&str]| texts.iter().map(|it| key(it).unwrap()).collect::<Vec<_>>();
        let address = server("10.0.0.1:80").unwrap();
        assert_eq!(
            said(&mut model, &Change::AddReal(&web, address, &given(&["address=10.0.0.2"]))),
            "address is given twice: \"10.0.0.1\" by the command and address=\"10.0.0.2\"; leave the latter out"
        );
        assert!(said(&mut model, &Change::AddReal(&web, address, &given(&["port=81"]))).contains("port=81"));
        let alone = server("10.0.0.1").unwrap();
        assert!(edit(&Change::AddReal(&web, alone, &given(&["port=81"])), &mut model).is_ok());
        assert!(
            said(&mut model, &Change::AddVirtual("web", &given(&["name=other"]))).contains("name=\"other\"")
        );
        let twice = given(&["weight=1", "weight=2"]);
        assert!(
            said(&mut model, &Change::SetReal(&web, address, &twice)).starts_with("weight is given twice")
        );
    }

    #[test]
    fn a_real_server_without_a_port_is_looked_up() {
        let mut model = Model::default();
        let web = id("tcp/192.0.2.1:80").unwrap();
        let given = ["protocol=tcp", "address=192.0.2.1", "port=80"].map(|it| key(it).unwrap());
        let mut make = |change: &Change<'_>| {
            let edit = edit(change, &mut model)?;
            model.edit(vec![edit])
        };
        make(&Change::AddVirtual("web", &given)).unwrap();
        for socket in ["10.0.0.11:8080", "10.0.0.12:8080", "10.0.0.12:8081"] {
            make(&Change::AddReal(&web, server(socket).unwrap(), &[])).unwrap();
        }
        let weight = [key("weight=7").unwrap()];
        make(&Change::SetReal(&web, server("10.0.0.11").unwrap(), &weight)).unwrap();
        let problem = make(&Change::SetReal(&web, server("10.0.0.12").unwrap(), &weight)).unwrap_err();
        assert_eq!(problem.to_string(), "10.0.0.12 is there with several ports; write 10.0.0.12:PORT");
        make(&Change::RemoveReal(&web, server("10.0.0.12:8081").unwrap())).unwrap();
        make(&Change::SetReal(&web, server("10.0.0.12").unwrap(), &weight)).unwrap();
        assert!(model.services[0].real_servers.iter().all(|it| it.weight == 7));
    }

    #[test]
    fn an_address_of_ipv6_may_stand_in_brackets() {
        let alone = Server { address: "fd99::17".parse().unwrap(), port: None };
        assert_eq!(["[fd99::17]", "fd99::17"].map(server), [Ok(alone), Ok(alone)]);
        assert_eq!(server("[fd99::17]:80"), Ok(Server { port: Some(80), ..alone }));
        assert!(["[10.0.0.1]", "[fd99::17", "[]", "fd99::17]"].iter().all(|text| server(text).is_err()));
    }

    #[test]
    fn a_weight_is_found_in_the_file_by_name_and_by_address() {
        let path = std::env::temp_dir().join(format!("weirctl-enable-{}.toml", std::process::id()));
        std::fs::write(
            &path,
            "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/16\"]\n\
             [[virtual_server]]\nname = \"web\"\naddress = \"192.0.2.1\"\nport = 80\n\
             [[virtual_server.real_server]]\naddress = \"10.0.0.11\"\nweight = 7\n\
             [[virtual_server.real_server]]\naddress = \"10.0.0.12\"\nweight = 0\n",
        )
        .unwrap();
        let weight = |name: &str, address: &str| {
            let socket = Socket { address: address.parse().unwrap(), port: 80 };
            weight_in_file(&id(name).unwrap(), socket, &path).unwrap()
        };
        assert_eq!((weight("web", "10.0.0.11"), weight("tcp/192.0.2.1:80", "10.0.0.11")), (Some(7), Some(7)));
        assert_eq!((weight("web", "10.0.0.12"), weight("web", "10.0.0.13")), (None, None));
        assert_eq!((weight("dns", "10.0.0.11"), weight("mark/7", "10.0.0.11")), (None, None));
        let socket = Socket { address: "10.0.0.11".parse().unwrap(), port: 80 };
        std::fs::write(&path, "[[port]]\nnam = 3\n").unwrap();
        let problem = weight_in_file(&id("web").unwrap(), socket, &path).unwrap_err().to_string();
        assert!(problem.contains("nam") && problem.ends_with("--weight"), "{problem}");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_reload_is_told_object_by_object() {
        let mut reloaded = Reloaded {
            changed: Changes {
                virtual_servers: Counts { added: 1, changed: 0, removed: 0 },
                real_servers: Counts { added: 2, changed: 0, removed: 1 },
                connections_removed: 5,
                connections_changed: 1,
                objects: vec![Changed {
                    change: "removed".to_owned(),
                    virtual_server: "web".to_owned(),
                    real_server: Some("10.0.0.11:80".to_owned()),
                    connections: 5,
                }],
                tables: vec!["connections".to_owned()],
            },
            dropped_edits: 3,
            dropped: vec!["weight of web 10.0.0.12:80".to_owned()],
            warnings: Vec::new(),
        };
        assert_eq!(
            reload_text(&reloaded, false),
            "removed web 10.0.0.11:80, 5 connections\n\
             changed [connections]\n\
             1 virtual servers added, 2 real servers added, 1 real servers removed; 6 connections touched, 5 of them of what is \
             removed\n\
             dropped weight of web 10.0.0.12:80\n\
             dropped 2 more edits\n"
        );
        (reloaded.changed, reloaded.dropped_edits, reloaded.dropped) = (Changes::default(), 0, Vec::new());
        assert_eq!(reload_text(&reloaded, true), "nothing would change\n");
    }
}
