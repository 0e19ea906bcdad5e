//! From the file as written to the model: every problem, not the first.
//!
//! Tables are read in the order in which they need each other: memory before ports, ports before what is
//! reached through them. No check compares each with each, so a large file takes time in proportion; those of
//! marks and ports do, and their number is limited. What is beyond a limit is not read.

mod advice;
mod agreement;
mod announce;
mod connections;
mod fault;
mod health;
mod http;
mod marks;
mod network;
mod ports;
mod real_servers;
mod schedulers;
mod service;
mod sync;
mod table;
#[cfg(test)]
mod tests;
mod traffic;
pub(crate) mod values;
mod virtual_servers;
mod vrrp;
mod workers;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

pub(crate) use self::advice::Asked;
pub use self::advice::Way;
use self::marks::Marks;
use self::network::Network;
use self::ports::{MbufDataBytes, ReadPort};
use self::table::{Table, peek, peeked, tables};
use crate::model::{Config, Control, Memory, Timeouts, Vrrp};
use crate::report::{Need, Problem};
use crate::schema::{Field, File, Span, Tables, Tabular, Text};

/// Seconds that weir forwards after it was told to stop. With what the stop itself takes that is less than the 90 that systemd gives it.
const LINGER_SECS: std::ops::RangeInclusive<f64> = 0.0..=60.0;

/// Where a problem of the file as a whole is: nowhere.
const NOWHERE: Span = 0..0;

/// Builds the model and adds what is wrong to `problems`. The model means something only when none of them
/// is an error.
pub(crate) fn validate(file: &File, problems: &mut Vec<Problem>) -> (Config, Vec<Asked>) {
    let mut root = Table::new(NOWHERE, problems);
    let control = control(file, &mut root);
    let http = http::http(file, &mut root);
    let (memory, room) = memory(file, &mut root);
    let workers = workers::workers(&file.workers, &mut root);
    let connections = connections::connections(&file.connections, &mut root);
    let schedulers = schedulers::schedulers(&file.schedulers, &mut root);
    let health = health::health(&file.health, &mut root);
    let sync = sync::sync(&file.sync, &mut root);
    let read_ports = read_ports(&file.port, &room, &mut root);
    let routes = tables(&file.route, "route", &mut root);
    let neighbors = tables(&file.neighbor, "neighbor", &mut root);
    let marks = tables(&file.mark, "mark", &mut root);
    let servers = tables(&file.virtual_server, "virtual_server", &mut root);
    let instances = tables(&file.vrrp, "vrrp", &mut root);
    let groups = tables(&file.vrrp_sync_group, "vrrp_sync_group", &mut root);
    let announces = tables(&file.announce, "announce", &mut root);

    let mut network = Network::new(&read_ports, vips(file), problems);
    let routes = network.routes(&routes, problems);
    let mut bound = HashMap::new();
    let neighbors = neighbors
        .into_iter()
        .filter_map(|(neighbor, at)| network.neighbor(neighbor, &mut bound, &mut Table::new(at, problems)))
        .collect();
    let marks = Marks::read(marks, &network, problems);
    let around = virtual_servers::Around {
        network: &network,
        marks: &marks,
        schedulers: &schedulers,
        no_ipv6: connections::no_ipv6(&file.connections),
    };
    let mut taken = virtual_servers::Taken::default();
    let virtual_servers = servers
        .into_iter()
        .filter_map(|(server, at)| {
            virtual_servers::virtual_server(server, &around, &mut taken, &mut Table::new(at, problems))
        })
        .collect();
    marks.compare(taken.identities(), &network, problems);
    marks.vips_fit(taken.identities(), problems);
    let mut taken = vrrp::Taken::new(file);
    let vrrp: Vec<Vrrp> = instances
        .into_iter()
        .filter_map(|(instance, at)| {
            vrrp::vrrp(instance, &read_ports, &network, &mut taken, &mut Table::new(at, problems))
        })
        .collect();
    let vrrp_groups = vrrp::groups(&groups, &vrrp, problems);
    health::default_account(file, &health, problems);
    let announces = announces
        .into_iter()
        .map(|(written, at)| announce::announce(written, &read_ports, &mut Table::new(at, problems)))
        .collect();
    let config = Config {
        control,
        http,
        memory,
        workers,
        connections,
        schedulers,
        health,
        ports: read_ports.into_iter().filter_map(|read| read.port).collect(),
        routes,
        neighbors,
        marks: marks.into_model(),
        virtual_servers,
        vrrp,
        vrrp_groups,
        announces,
        sync,
    };
    announce::served(file, &config, &network, problems);
    agreement::among_directors(file, &config, problems);
    advice::shared_addresses(file, &config, &network, problems);
    let asked = advice::asked(file, &config, &network);
    (config, asked)
}

/// The timeouts of a file, those that are not written as in `others`.
pub(crate) fn timeouts(file: &File, others: &Timeouts, problems: &mut Vec<Problem>) -> Timeouts {
    connections::timeouts_over(&file.connections, others, &mut Table::new(NOWHERE, problems))
}

/// A FIFO; whether it can be one the host says.
fn fifo(field: &Field<Text>, table: &mut Table<'_>) -> Option<PathBuf> {
    let path = table.parsed(field, values::path)?;
    let help = "weir makes it if nothing is there; another program reads it";
    table.report(Need::Fifo(path.get_ref().clone()).at(path.span()).help(help));
    Some(path.into_inner())
}

fn control(file: &File, root: &mut Table<'_>) -> Control {
    let mut control = Control {
        socket: PathBuf::from("/run/weir/weir.sock"),
        is_socket_written: false,
        proc_directory: None,
        user: None,
        group: None,
        account: None,
        core_dumps: false,
        linger: None,
        crash_directory: Some(PathBuf::from(Control::CRASH_DIRECTORY)),
        vrrp_notify_fifo: None,
    };
    let Some((Tabular(written), at)) = root.value(&file.control) else { return control };
    let mut table = root.inner(at);
    if let Some(socket) = table.parsed(&written.socket, values::socket_path) {
        control.socket = socket.into_inner();
        control.is_socket_written = true;
    }
    control.proc_directory =
        table.parsed(&written.proc_directory, values::proc_directory).map(Spanned::into_inner);
    control.vrrp_notify_fifo = fifo(&written.vrrp_notify_fifo, &mut table);
    control.core_dumps = table.boolean(&written.core_dumps, false).into_inner();
    let linger = table.seconds(&written.linger, "linger", LINGER_SECS, 0.0).into_inner();
    control.linger = written.linger.is_some().then(|| Duration::from_secs_f64(linger));
    if let Some(directory) = table.parsed(&written.crash_directory, values::crash_directory) {
        control.crash_directory = directory.into_inner();
    }
    let user = table.parsed(&written.user, health::own_account);
    let group = table.parsed(&written.group, health::own_account);
    match (&user, &group) {
        (None, Some(group)) if written.user.is_none() => {
            let problem = Problem::error("a group without a user").at(group.span(), "goes with `user`");
            table.report(problem.help("write `user` as well: weir becomes both when its ports run"));
        }
        (Some(user), None) if written.group.is_none() && user.get_ref().parse::<u32>().is_ok() => {
            let problem = Problem::error("no group").at(user.span(), "a number has no group of its own");
            table.report(problem.help("write `group` as well"));
        }
        _ => {}
    }
    for (account, need) in [(&user, Need::OwnUser as fn(String) -> Need), (&group, Need::OwnGroup)] {
        if let Some(account) = account {
            let problem = need(account.get_ref().clone()).at(account.span());
            table.report(problem.help("weir becomes them when its ports run ([control])"));
        }
    }
    control.user = user.map(Spanned::into_inner);
    control.group = group.map(Spanned::into_inner);
    control
}

fn memory(file: &File, root: &mut Table<'_>) -> (Memory, MbufDataBytes) {
    let mut memory = Memory { mbufs: 0, mbuf_data_bytes: 2048 };
    let mut room = root.or(None, memory.mbuf_data_bytes);
    if let Some((Tabular(written), at)) = root.value(&file.memory) {
        let mut table = root.inner(at);
        room = table.integer(&written.mbuf_data_bytes, "mbuf_data_bytes", 128..=16_384, *room.get_ref());
        memory.mbuf_data_bytes = *room.get_ref();
        let mbufs = table.integer::<u32>(&written.mbufs, "mbufs", 0..=67_108_864, 0);
        if (1..1024).contains(mbufs.get_ref()) {
            let problem = Problem::error("too few mbufs")
                .at(mbufs.span(), "must be 0 or 1024 to 67108864")
                .help("write 0 to have them computed from ports, queues and workers");
            table.report(problem);
        }
        memory.mbufs = mbufs.into_inner();
    }
    (memory, room)
}

fn read_ports(
    field: &Tables<crate::schema::Port>,
    room: &MbufDataBytes,
    root: &mut Table<'_>,
) -> Vec<ReadPort> {
    let written = tables(field, "port", root);
    match (&written[..], field) {
        ([], None) => root.report(
            Problem::error("no [[port]] in the file")
                .help("weir needs a device to receive on: write a [[port]] with `name` and `device`"),
        ),
        ([], Some(empty)) if matches!(&empty.get_ref().0, Ok(list) if list.0.is_empty()) => {
            root.report(Problem::error("no [[port]] in the file").at(empty.span(), "at least one is needed"));
        }
        _ => {}
    }
    if let Some((_, last)) = written.last() {
        let devices = written.iter().filter(|(port, _)| port.vlan.is_none()).count();
        ports::limit(devices, written.len(), &mut root.inner(last.clone()));
    }
    let mut taken = ports::Taken::default();
    let has_more = written.len() > ports::READ_MAX;
    let written = written.into_iter().take(ports::READ_MAX);
    let mut read: Vec<ReadPort> =
        written.map(|(port, at)| ports::port(port, room, &mut taken, &mut root.inner(at))).collect();
    if let Some(last) = read.last_mut().filter(|_| has_more) {
        last.complete = false;
    }
    ports::in_devices(&mut read, root);
    read
}

/// Every VIP, of virtual servers, marks and VRRP instances: needed before the tables that must not hold one are
/// read. What does not parse is reported where it is read.
fn vips(file: &File) -> HashMap<IpAddr, Span> {
    let mut vips = HashMap::new();
    let mut add = |address: Option<IpAddr>, span: Span| {
        if let Some(address) = address {
            vips.entry(address).or_insert(span);
        }
    };
    for (server, _) in peeked(&file.virtual_server) {
        if let Some((text, span)) = peek(&server.address) {
            add(text.0.parse().ok(), span);
        }
    }
    for (mark, _) in peeked(&file.mark) {
        let list = peek(&mark.addresses).map(|(list, _)| list.0.as_slice()).unwrap_or_default();
        for address in list {
            if let Ok(text) = &address.get_ref().0 {
                add(marks::host(&text.0), address.span());
            }
        }
    }
    for (instance, _) in peeked(&file.vrrp) {
        let lists = [&instance.addresses, &instance.excluded_addresses];
        for address in lists.into_iter().filter_map(peek).flat_map(|(list, _)| &list.0) {
            if let Ok(text) = &address.get_ref().0 {
                let host = text.0.split_once('/').map_or(&text.0[..], |(host, _)| host);
                add(host.parse().ok(), address.span());
            }
        }
    }
    vips
}
