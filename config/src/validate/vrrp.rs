//! `[[vrrp]]`

mod hmac;
mod names;
mod track;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;

use self::names::{Known, port_index};
use super::fault::Fault;
use super::health::program::hook;
use super::network::Network;
use super::ports::{self, ReadPort};
use super::table::{Table, peek, word};
use super::values::{self, family};
use crate::model::{Vrrp, VrrpAuthentication, VrrpGarp, VrrpGroup, VrrpHooks};
use crate::report::{Problem, quoted};
use crate::schema::{self, Field, List, Number, OneTable, Span, Tabular, Text};

/// Bytes of a version 2 password: the field of the packet.
const PASSWORD_BYTES: usize = 8;

/// Addresses of an instance: the packet counts them in one byte.
const ADDRESSES_MAX: usize = 255;

/// Addresses of an instance that are not advertised: each is announced by itself.
const EXCLUDED_MAX: usize = 4096;

/// Priority of the router that has the addresses as its own.
const OWNER: u8 = 255;

/// What is unique among instances, and what they may name.
#[derive(Default)]
pub(crate) struct Taken {
    known: Known,
    names: HashMap<String, Span>,
    /// By port, family (IPv6 or not) and VRID.
    routers: HashMap<(usize, bool, u8), Span>,
    addresses: HashMap<IpAddr, Span>,
    sequence_files: HashMap<PathBuf, Span>,
}

impl Taken {
    /// Nothing yet, in this file.
    pub(crate) fn new(file: &schema::File) -> Self {
        Self { known: Known::new(file), ..Self::default() }
    }
}

pub(crate) fn vrrp(
    written: &schema::Vrrp,
    read_ports: &[ReadPort],
    network: &Network,
    taken: &mut Taken,
    table: &mut Table<'_>,
) -> Option<Vrrp> {
    let name = table.required_parsed(&written.name, "name", "name = \"vi_1\"", values::name);
    ports::unique(&mut taken.names, name.as_ref(), "VRRP instance name", table);
    let port =
        table.required_parsed(&written.port, "port", "port = \"lan\"", |text| port_index(text, read_ports));
    let example = "virtual_router_id = 51";
    let router =
        table.required_integer::<u8>(&written.virtual_router_id, "virtual_router_id", 1..=255, example);
    let priority = table.integer(&written.priority, "priority", 1..=255, 100);
    let mut addresses = addresses(&written.addresses, *priority.get_ref(), network, taken, table);
    let excluded =
        excluded(&written.excluded_addresses, &addresses, *priority.get_ref(), network, taken, table);
    let is_ipv6 = addresses.first().is_some_and(|first| first.get_ref().is_ipv6());
    let version = version(&written.version, is_ipv6, table);
    let timing = timing(written, *priority.get_ref(), *version.get_ref(), table);
    let virtual_mac = table.boolean(&written.virtual_mac, true);
    let read_port = port.as_ref().map(|port| &read_ports[*port.get_ref()]);
    let unicast_peers = peers(&written.unicast_peers, &addresses, (network, read_port), table);
    let ttls = ttls(&written.ttl_min, &written.ttl_max, unicast_peers.is_empty(), table);
    let (authentication, sequence_file) =
        authentication(&written.authentication, &version, taken, table).unzip();
    let of_version_2 = written.authentication.as_ref().map(|table| table.span());
    let auth_hmac = hmac::auth_hmac(&written.auth_hmac, of_version_2, timing.interval, table);
    let accept = table.boolean(&written.accept, true);
    let sync_group = table.parsed(&written.sync_group, values::name);
    let checksum = checksum(&written.v3_checksum_as_v2, &version, is_ipv6, table);
    let garp = garp(written, is_ipv6, table);
    let hooks = VrrpHooks {
        master: hook(&written.notify_master, table),
        backup: hook(&written.notify_backup, table),
        fault: hook(&written.notify_fault, table),
        stop: hook(&written.notify_stop, table),
        any: hook(&written.notify, table),
    };
    let track = track::trackers(&written.track, read_ports, &mut taken.known, table);
    let is_multicast = unicast_peers.is_empty();
    let source_address = source_address(&written.source_address, (is_ipv6, is_multicast), read_port, table);
    if let (Some(port), Some(router)) = (&port, &router) {
        unique_router(taken, *port.get_ref(), is_ipv6, router, table);
        source(port, &read_ports[*port.get_ref()], is_ipv6, table);
    }
    let ((name, port), router) = name.zip(port).zip(router)?;
    let excluded_count = excluded.len();
    addresses.extend(excluded);
    Some(Vrrp {
        name: name.into_inner(),
        port: port.into_inner(),
        virtual_router_id: router.into_inner(),
        version: version.into_inner(),
        priority: priority.into_inner(),
        advertisement_interval: timing.interval,
        preempt: timing.preempt,
        preempt_delay: timing.preempt_delay,
        startup_delay: timing.startup_delay,
        virtual_mac: virtual_mac.into_inner(),
        addresses: addresses.into_iter().map(Spanned::into_inner).collect(),
        excluded: excluded_count,
        source_address,
        unicast_peers,
        ttl_min: *ttls.start(),
        ttl_max: *ttls.end(),
        accept: accept.into_inner(),
        sync_group: sync_group.map(Spanned::into_inner),
        v3_checksum_as_v2: checksum,
        garp,
        track,
        authentication,
        auth_hmac: auth_hmac.map(Arc::new),
        sequence_file: sequence_file.flatten(),
        hooks: Arc::new(hooks),
    })
}

/// The groups that something is told of.
pub(crate) fn groups(
    written: &[(&schema::VrrpSyncGroup, Span)],
    instances: &[Vrrp],
    problems: &mut Vec<Problem>,
) -> Vec<VrrpGroup> {
    let mut first = HashMap::new();
    let mut groups = Vec::new();
    for (group, at) in written {
        let mut table = Table::new(at.clone(), problems);
        let schema::VrrpSyncGroup { name, notify_master, notify_backup, notify_fault, notify_stop, notify } =
            group;
        let hooks = VrrpHooks {
            master: hook(notify_master, &mut table),
            backup: hook(notify_backup, &mut table),
            fault: hook(notify_fault, &mut table),
            stop: hook(notify_stop, &mut table),
            any: hook(notify, &mut table),
        };
        let Some(name) = table.required_parsed(name, "name", "name = \"g_1\"", values::name) else {
            continue;
        };
        ports::unique(&mut first, Some(&name), "sync group", &mut table);
        if !instances.iter().any(|instance| instance.sync_group.as_ref() == Some(name.get_ref())) {
            let problem = Problem::error(format!("unknown sync group {}", quoted(name.get_ref())))
                .at(name.span(), "no [[vrrp]] has this `sync_group`")
                .help("write `sync_group` with this name in each [[vrrp]] of the group");
            table.report(problem);
        }
        groups.push(VrrpGroup { name: name.into_inner(), hooks: Arc::new(hooks) });
    }
    groups
}

/// Version 2 by default, as by keepalived, where it will do.
fn version(field: &Field<schema::Integer>, is_ipv6: bool, table: &mut Table<'_>) -> Spanned<u8> {
    let version = table.integer::<u8>(field, "version", 2..=3, if is_ipv6 { 3 } else { 2 });
    if is_ipv6 && *version.get_ref() == 2 {
        let problem = Problem::error("VRRP version 2 has no IPv6")
            .at(version.span(), "the addresses of this instance are IPv6")
            .help("write `version = 3`");
        table.report(problem);
    }
    version
}

/// When an instance speaks, and when it takes over.
struct Timing {
    interval: Duration,
    preempt: bool,
    preempt_delay: Duration,
    startup_delay: Duration,
}

fn timing(written: &schema::Vrrp, priority: u8, version: u8, table: &mut Table<'_>) -> Timing {
    let interval = interval(&written.advertisement_interval, version, table);
    let preempt = table.boolean(&written.preempt, true);
    let delay = table.seconds(&written.preempt_delay, "preempt_delay", 0.0..=1000.0, 0.0);
    let startup_delay = table.seconds(&written.startup_delay, "startup_delay", 0.0..=1000.0, 0.0);
    preemption(&preempt, &delay, priority, table);
    Timing {
        interval,
        preempt: preempt.into_inner(),
        preempt_delay: Duration::from_secs_f64(delay.into_inner()),
        startup_delay: Duration::from_secs_f64(startup_delay.into_inner()),
    }
}

/// The virtual addresses: of one family, each in one instance only.
fn addresses(
    field: &Field<List<Text>>,
    priority: u8,
    network: &Network,
    taken: &mut Taken,
    table: &mut Table<'_>,
) -> Vec<Spanned<IpAddr>> {
    let example = "addresses = [\"10.0.0.100\"]";
    let count = match table.required(field, "addresses", example) {
        Some((list, span)) if list.0.is_empty() => {
            let label = "an instance without addresses does nothing";
            table.report(Problem::error("`addresses` is empty").at(span, label));
            return Vec::new();
        }
        Some((list, span)) => {
            if list.0.len() > ADDRESSES_MAX {
                let label = format!("{} addresses; a VRRP packet holds {ADDRESSES_MAX}", list.0.len());
                table.report(Problem::error("too many addresses").at(span, label));
            }
            list.0.len()
        }
        None => return Vec::new(),
    };
    let addresses = own_addresses(field, priority, network, taken, table);
    let first = addresses.first();
    for odd in
        addresses.iter().filter(|a| first.is_some_and(|f| f.get_ref().is_ipv4() != a.get_ref().is_ipv4()))
    {
        let problem = Problem::error("addresses of both families in one instance")
            .at(odd.span(), format!("the first address is not {}", family(*odd.get_ref())))
            .help("write one [[vrrp]] per family; they may share the virtual router id");
        table.report(problem);
    }
    // RFC 9568 section 5.2.9: the first address of an IPv6 router is its link-local address.
    if let Some(first) = first.filter(|first| {
        addresses.len() == count && first.get_ref().is_ipv6() && !values::is_link_local_v6(*first.get_ref())
    }) {
        let problem = Problem::error("the first IPv6 address must be link-local")
            .at(first.span(), "RFC 9568: the virtual router's link-local address comes first")
            .help("put an address such as \"fe80::5:1\" before it");
        table.report(problem);
    }
    addresses
}

/// Those of one list, with what each must be.
fn own_addresses(
    field: &Field<List<Text>>,
    priority: u8,
    network: &Network,
    taken: &mut Taken,
    table: &mut Table<'_>,
) -> Vec<Spanned<IpAddr>> {
    let mut addresses = Vec::new();
    for read in table.list(field, virtual_address) {
        let (address, prefix) = *read.get_ref();
        let address = Spanned::new(read.span(), address);
        unique_address(taken, &address, table);
        ownership(&address, priority, network, table);
        if prefix.is_some()
            && !values::is_link_local_v6(*address.get_ref())
            && network.is_elsewhere(*address.get_ref())
        {
            let problem = Problem::warning("this prefix length connects no network")
                .at(read.span(), "no port is in the network of this address")
                .help("an address of VRRP's brings no network along: give the port an address in it, or leave the length out");
            table.report(problem);
        }
        addresses.push(address);
    }
    addresses
}

/// An address, with a prefix length as keepalived's files have it. A whole one is none.
fn virtual_address(text: &str) -> Result<(IpAddr, Option<u8>), Fault> {
    let Some((host, length)) = text.split_once('/') else { return Ok((values::host(text)?, None)) };
    let address = values::host(host)?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let plain = length.bytes().all(|byte| byte.is_ascii_digit());
    match length.parse::<u8>() {
        Ok(length) if plain && (1..=longest).contains(&length) => {
            Ok((address, Some(length).filter(|length| *length < longest)))
        }
        _ => Err(Fault::new(
            format!("invalid prefix length {}", quoted(length)),
            format!("must be 1 to {longest}"),
        )),
    }
}

/// Addresses that are moved along and not advertised.
fn excluded(
    field: &Field<List<Text>>,
    advertised: &[Spanned<IpAddr>],
    priority: u8,
    network: &Network,
    taken: &mut Taken,
    table: &mut Table<'_>,
) -> Vec<Spanned<IpAddr>> {
    let mut addresses = own_addresses(field, priority, network, taken, table);
    if let Some(more) = addresses.get(EXCLUDED_MAX) {
        let label = format!("{} of them; at most {EXCLUDED_MAX}", addresses.len());
        table.report(Problem::error("too many excluded addresses").at(more.span(), label));
        addresses.truncate(EXCLUDED_MAX);
    }
    let Some(first) = advertised.first() else { return addresses };
    for odd in addresses.iter().filter(|it| it.get_ref().is_ipv4() != first.get_ref().is_ipv4()) {
        let problem = Problem::error("addresses of both families in one instance")
            .at(odd.span(), format!("`addresses` are not {}", family(*odd.get_ref())))
            .help("write a [[vrrp]] of this family, and the same `sync_group` in both");
        table.report(problem);
    }
    addresses
}

/// Where advertisements come from.
fn source_address(
    field: &Field<Text>,
    (is_ipv6, is_multicast): (bool, bool),
    port: Option<&ReadPort>,
    table: &mut Table<'_>,
) -> Option<IpAddr> {
    let source = table.parsed(field, values::host)?;
    let address = *source.get_ref();
    let is_own = port.is_none_or(|port| {
        !port.complete || port.addresses.iter().any(|own| own.get_ref().addr() == address)
    });
    let needs_link_local = is_ipv6 && is_multicast;
    let problem = if address.is_ipv6() != is_ipv6 {
        let label = format!("the virtual addresses are not {}", family(address));
        Problem::error("address families differ").at(source.span(), label)
    } else if needs_link_local && !values::is_link_local_v6(address) {
        Problem::error("not a link-local address")
            .at(source.span(), "RFC 9568: advertisements to the group of IPv6 come from a link-local address")
            .help("write such as \"fe80::2\", or remove the line")
    } else if !is_own && !needs_link_local {
        Problem::error("the source is not an address of the port")
            .at(source.span(), "the instance's port does not have it")
            .help("add it to the `addresses` of the [[port]]")
    } else {
        return Some(address);
    };
    table.report(problem);
    None
}

fn unique_address(taken: &mut Taken, address: &Spanned<IpAddr>, table: &mut Table<'_>) {
    match taken.addresses.entry(*address.get_ref()) {
        Entry::Vacant(free) => {
            free.insert(address.span());
        }
        Entry::Occupied(first) => table.report(
            Problem::error("duplicate virtual address")
                .at(address.span(), "given again here")
                .related(first.get().clone(), "given first here"),
        ),
    }
}

/// RFC 9568 section 5.2.4: the owner of an address has priority 255, and nobody else has it as its own.
fn ownership(address: &Spanned<IpAddr>, priority: u8, network: &Network, table: &mut Table<'_>) {
    if let Some(why) = network.not_a_host_here(*address.get_ref()) {
        table.report(Problem::error("not an address of a host").at(address.span(), why));
    }
    if let Some(own) = network.own(*address.get_ref()).filter(|_| priority != OWNER) {
        let problem = Problem::error("the virtual address is weir's own address")
            .at(address.span(), "only the address owner, of priority 255, has it as its own")
            .related(own.clone(), "weir's own address")
            .help("give the port another address, or write `priority = 255`");
        table.report(problem);
    }
}

/// Version 2 counts whole seconds, version 3 hundredths.
fn interval(field: &Field<Number>, version: u8, table: &mut Table<'_>) -> Duration {
    let key = "advertisement_interval";
    if version == 2
        && let Some((&Number(seconds), span)) = peek(field)
        && (0.01..1.0).contains(&seconds)
    {
        let problem = Problem::error(format!("`{key}` is out of range"))
            .at(span, "version 2 counts whole seconds, from 1 on")
            .help("write `version = 3`, which counts hundredths, on every director of the group");
        table.report(problem);
        return Duration::from_secs(1);
    }
    let range = if version == 2 { 1.0..=255.0 } else { 0.01..=40.95 };
    let seconds = table.seconds(field, key, range, 1.0);
    let units = if version == 2 { *seconds.get_ref() } else { *seconds.get_ref() * 100.0 };
    // Hundredths are not exact in binary: 0.07 * 100 is a little more than 7.
    if (units - units.round()).abs() > 1e-6 {
        let (label, help) = if version == 2 {
            ("version 2 counts whole seconds", "write whole seconds, or `version = 3`")
        } else {
            ("version 3 counts hundredths of a second", "write at most two digits after the point")
        };
        table.report(Problem::error(format!("`{key}` is too fine")).at(seconds.span(), label).help(help));
    }
    let hundredths = if version == 2 { units.round() * 100.0 } else { units.round() };
    Duration::from_millis(hundredths as u64 * 10)
}

/// Refuses what contradicts itself: complaints about preemption are as old as keepalived.
fn preemption(preempt: &Spanned<bool>, delay: &Spanned<f64>, priority: u8, table: &mut Table<'_>) {
    if *preempt.get_ref() {
        return;
    }
    if *delay.get_ref() > 0.0 {
        let problem = Problem::error("`preempt_delay` without preemption")
            .at(delay.span(), "there is nothing to delay")
            .related(preempt.span(), "preemption is off")
            .help("remove `preempt_delay`, or write `preempt = true`");
        table.report(problem);
    }
    if priority == OWNER {
        let problem = Problem::warning("the address owner preempts always")
            .at(preempt.span(), "priority 255 takes over whatever is written here")
            .help("write a priority of 254 or less, or remove the line");
        table.report(problem);
    }
}

fn peers(
    field: &Field<List<Text>>,
    addresses: &[Spanned<IpAddr>],
    (network, port): (&Network, Option<&ReadPort>),
    table: &mut Table<'_>,
) -> Vec<IpAddr> {
    let mut first: HashMap<IpAddr, Span> = HashMap::new();
    let peers = table.list(field, values::host);
    for peer in &peers {
        let address = *peer.get_ref();
        if let Some((why, _)) = network.refusal(address) {
            let label = format!("this is {why}");
            table.report(Problem::error("a peer must be another host").at(peer.span(), label));
        } else if addresses.first().is_some_and(|first| first.get_ref().is_ipv4() != address.is_ipv4()) {
            let label = format!("the virtual addresses are not {}", family(address));
            table.report(Problem::error("address families differ").at(peer.span(), label));
        } else if let Some(port) = port.filter(|port| !has_source_for(peer, &peers, port)) {
            table.report(no_source_for(peer, &peers, port));
        } else if network.is_unreachable(address) {
            let problem = Problem::error("no way to this peer")
                .at(peer.span(), "it is on no connected network and no [[route]] leads to it");
            table.report(problem);
        }
        match first.entry(address) {
            Entry::Vacant(free) => {
                free.insert(peer.span());
            }
            Entry::Occupied(first) => table.report(
                Problem::error("duplicate peer")
                    .at(peer.span(), "given again here")
                    .related(first.get().clone(), "given first here"),
            ),
        }
    }
    peers.into_iter().map(Spanned::into_inner).collect()
}

/// Whether advertisements come from an address that an IPv6 peer can know: all of an instance's come from one, which is link-local if
/// the first peer's is, and of a wider scope else.
fn has_source_for(peer: &Spanned<IpAddr>, peers: &[Spanned<IpAddr>], port: &ReadPort) -> bool {
    let is_link_local = values::is_link_local_v6(*peer.get_ref());
    let is_of_scope = |own: IpAddr| own.is_ipv6() && values::is_link_local_v6(own) == is_link_local;
    let has_own = || port.addresses.iter().any(|own| is_of_scope(own.get_ref().addr()));
    peer.get_ref().is_ipv4() || scope_of(peers) == Some(is_link_local) && (!port.complete || has_own())
}

/// Whether the first peer of IPv6 is link-local.
fn scope_of(peers: &[Spanned<IpAddr>]) -> Option<bool> {
    let first = peers.iter().find(|peer| peer.get_ref().is_ipv6())?;
    Some(values::is_link_local_v6(*first.get_ref()))
}

fn no_source_for(peer: &Spanned<IpAddr>, peers: &[Spanned<IpAddr>], port: &ReadPort) -> Problem {
    let is_link_local = values::is_link_local_v6(*peer.get_ref());
    if scope_of(peers) != Some(is_link_local) {
        return Problem::error("peers of different scopes")
            .at(peer.span(), "all advertisements come from one address: link-local, or not")
            .help("write either the link-local addresses of all peers, or none of them");
    }
    let (label, help) = match is_link_local {
        true => ("the port has no link-local address that this peer could name", "fe80::2/64"),
        false => ("the port has no IPv6 address that this peer could name", "2001:db8::2/64"),
    };
    Problem::error("no address to advertise from to this peer")
        .at(peer.span(), label)
        .related(port.at.clone(), "this port")
        .help(format!("give the port an address: addresses = [\"{help}\"]"))
}

/// How far away unicast peers may be. keepalived's default: anywhere.
fn ttls(
    least: &Field<schema::Integer>,
    largest: &Field<schema::Integer>,
    is_multicast: bool,
    table: &mut Table<'_>,
) -> RangeInclusive<u8> {
    let min = table.integer::<u8>(least, "ttl_min", 0..=255, 0);
    let max = table.integer::<u8>(largest, "ttl_max", 0..=255, 255);
    if min.get_ref() > max.get_ref() {
        let problem = Problem::error("`ttl_min` is larger than `ttl_max`")
            .at(min.span(), "no advertisement would be believed")
            .help("write 255 for peers on the link, and one less for each router between");
        table.report(problem);
    }
    for (key, written, ttl) in [("ttl_min", least.is_some(), &min), ("ttl_max", largest.is_some(), &max)] {
        if written && is_multicast {
            let problem = Problem::error(format!("`{key}` without `unicast_peers`"))
                .at(ttl.span(), "what comes to the group must have 255 anyway")
                .help("remove the line, or write `unicast_peers`");
            table.report(problem);
        }
    }
    *min.get_ref()..=*max.get_ref()
}

fn authentication(
    field: &OneTable<schema::VrrpAuthentication>,
    version: &Spanned<u8>,
    taken: &mut Taken,
    table: &mut Table<'_>,
) -> Option<(VrrpAuthentication, Option<PathBuf>)> {
    let (Tabular(written), at) = table.value(field)?;
    if *version.get_ref() != 2 {
        let problem = Problem::error("VRRP version 3 has no authentication")
            .at(at.clone(), "not part of version 3")
            .related(version.span(), "version 3")
            .help("remove this table, or write [vrrp.auth_hmac] on every director, or `version = 2`");
        table.report(problem);
    }
    let mut table = table.inner(at);
    let schema::VrrpAuthentication { r#type, password, sequence_file } = written;
    let kinds = [
        ("pass", VrrpAuthentication::Pass as fn(String) -> VrrpAuthentication),
        ("ah", VrrpAuthentication::Ah as fn(String) -> VrrpAuthentication),
    ];
    let kind = table
        .required_parsed(r#type, "type", "type = \"pass\"", |text| word("authentication", &kinds, &[], text));
    let password = table.required_parsed(password, "password", "password = \"secret\"", |text| {
        if (1..=PASSWORD_BYTES).contains(&text.len()) {
            return Ok(text.to_owned());
        }
        let label = format!("{} bytes; must be 1 to {PASSWORD_BYTES}", text.len());
        let fault = Fault::new("password of a wrong length", label);
        Err(match text.len() {
            0 => fault,
            _ => fault.help("keepalived uses the first 8 bytes of a longer one: write those"),
        })
    });
    let sequence_file = table.parsed(sequence_file, values::path);
    let (kind, password) = kind.zip(password)?;
    let authentication = kind.into_inner()(password.into_inner());
    if let Some(file) = &sequence_file {
        self::sequence_file(file, &authentication, taken, &mut table);
    }
    Some((authentication, sequence_file.map(Spanned::into_inner)))
}

/// Each instance counts by itself, and only the header has a number.
fn sequence_file(
    file: &Spanned<PathBuf>,
    authentication: &VrrpAuthentication,
    taken: &mut Taken,
    table: &mut Table<'_>,
) {
    if matches!(authentication, VrrpAuthentication::Pass(_)) {
        let problem = Problem::error("`sequence_file` without an authentication header")
            .at(file.span(), "a password in the clear has no number")
            .help("remove the line, or write `type = \"ah\"`");
        table.report(problem);
    }
    match taken.sequence_files.entry(file.get_ref().clone()) {
        Entry::Vacant(free) => {
            free.insert(file.span());
        }
        Entry::Occupied(first) => table.report(
            Problem::error("duplicate sequence file")
                .at(file.span(), "given again here")
                .related(first.get().clone(), "given first here")
                .help("give each instance a file of its own"),
        ),
    }
}

/// Only version 3 over IPv4 has a choice.
fn checksum(
    field: &Field<schema::Boolean>,
    version: &Spanned<u8>,
    is_ipv6: bool,
    table: &mut Table<'_>,
) -> bool {
    let as_v2 = table.boolean(field, false);
    if *as_v2.get_ref() && (*version.get_ref() == 2 || is_ipv6) {
        let problem = Problem::warning("`v3_checksum_as_v2` has no effect")
            .at(as_v2.span(), "only version 3 over IPv4 has two forms of the checksum")
            .help("remove the line");
        table.report(problem);
    }
    as_v2.into_inner()
}

fn garp(written: &schema::Vrrp, is_ipv6: bool, table: &mut Table<'_>) -> VrrpGarp {
    let delay = table.seconds(&written.garp_master_delay, "garp_master_delay", 0.0..=1000.0, 5.0);
    let delay = delay.into_inner();
    let repeat = table.integer(&written.garp_master_repeat, "garp_master_repeat", 0..=60, 5).into_inner();
    let refresh = table.seconds(&written.garp_master_refresh, "garp_master_refresh", 0.0..=86_400.0, 0.0);
    let refresh_repeat = &written.garp_master_refresh_repeat;
    let refresh_repeat = table.integer(refresh_repeat, "garp_master_refresh_repeat", 1..=60, 1);
    let lower_delay = &written.garp_lower_prio_delay;
    let lower_delay = table.seconds(lower_delay, "garp_lower_prio_delay", 0.0..=1000.0, delay);
    let lower_repeat = &written.garp_lower_prio_repeat;
    let lower_repeat = table.integer(lower_repeat, "garp_lower_prio_repeat", 0..=60, repeat);
    let intervals = [("garp_interval", &written.garp_interval), ("gna_interval", &written.gna_interval)];
    let [of_ipv4, of_ipv6] = intervals.map(|(key, field)| {
        let interval = table.seconds(field, key, 0.0..=60.0, 0.0);
        if field.is_some() && is_ipv6 != (key == "gna_interval") {
            let label =
                format!("the addresses of this instance are {}", if is_ipv6 { "IPv6" } else { "IPv4" });
            let problem = Problem::warning(format!("`{key}` has no effect")).at(interval.span(), label);
            table.report(problem.help("remove the line"));
        }
        Duration::from_secs_f64(interval.into_inner())
    });
    VrrpGarp {
        interval: if is_ipv6 { of_ipv6 } else { of_ipv4 },
        master_delay: Duration::from_secs_f64(delay),
        master_repeat: repeat,
        master_refresh: Duration::from_secs_f64(refresh.into_inner()),
        master_refresh_repeat: refresh_repeat.into_inner(),
        lower_prio_delay: Duration::from_secs_f64(lower_delay.into_inner()),
        lower_prio_repeat: lower_repeat.into_inner(),
    }
}

fn unique_router(taken: &mut Taken, port: usize, is_ipv6: bool, router: &Spanned<u8>, table: &mut Table<'_>) {
    match taken.routers.entry((port, is_ipv6, *router.get_ref())) {
        Entry::Vacant(free) => {
            free.insert(router.span());
        }
        Entry::Occupied(first) => table.report(
            Problem::error("duplicate virtual router id")
                .at(router.span(), "used again here")
                .related(first.get().clone(), "used first here, on the same port")
                .help("give each instance of a port its own id, or put the addresses into one instance"),
        ),
    }
}

/// IPv4 advertisements come from the port's primary address. IPv6 ones come from its link-local address,
/// which every port has.
fn source(port: &Spanned<usize>, read: &ReadPort, is_ipv6: bool, table: &mut Table<'_>) {
    let has_ipv4 = read.addresses.iter().any(|address| address.get_ref().addr().is_ipv4());
    if !is_ipv6 && read.complete && !has_ipv4 {
        let problem = Problem::error("the port has no IPv4 address")
            .at(port.span(), "advertisements need an address to come from")
            .related(read.at.clone(), "this port")
            .help("give the port an address: addresses = [\"10.0.0.2/24\"]");
        table.report(problem);
    }
}
