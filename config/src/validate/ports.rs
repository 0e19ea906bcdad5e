//! `[[port]]`

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use ipnet::IpNet;
use toml::Spanned;

use super::fault::Fault;
use super::table::Table;
use super::values;
use crate::model::{MacAddress, Port, Vlan};
use crate::report::{Problem, quoted};
use crate::schema::{self, Span};

/// Devices at most: RTE_MAX_ETHPORTS of DPDK as distributions build it.
const DEVICES_MAX: usize = 32;
/// Ports at most, devices and their VLANs: an address has a bit for each.
const PORTS_MAX: usize = 128;
/// The largest id of a VLAN (IEEE 802.1Q section 9.6).
const VLAN_MAX: i64 = 4_094;
/// Of a port whose VLAN can't be read.
const NO_VLAN: u16 = 0;
/// Ports that are read, some more than there may be: other tables that name one find it.
pub(crate) const READ_MAX: usize = 2 * PORTS_MAX;

/// Receive queues of a port at most: one for each of the 128 lcores DPDK is built for.
const RX_QUEUES_MAX: i64 = 128;

/// Ethernet header and checksum, or one 802.1Q tag instead of the checksum that devices strip.
const FRAME_OVERHEAD_BYTES: u16 = 18;
/// Room in an mbuf where frames lie in several: headers with all their options, and what an answer quotes.
const FIRST_MBUF_BYTES_MIN: u16 = 1_536;

/// What every link of IPv6 takes at least.
const MTU_MIN_V6: u16 = 1280;

/// A port as read; what did not parse is absent, and the report says so.
pub(crate) struct ReadPort {
    /// `None`: the table is wrong in some way.
    pub(crate) port: Option<Port>,
    pub(crate) name: Option<String>,
    pub(crate) at: Span,
    pub(crate) addresses: Vec<Spanned<IpNet>>,
    mtu: Spanned<u16>,
    vlan: Option<ReadVlan>,
    /// Every address of the table parsed: nothing follows from the absence of one.
    pub(crate) complete: bool,
}

/// What is unique among ports.
#[derive(Default)]
pub(crate) struct Taken {
    names: HashMap<String, Span>,
    devices: HashMap<String, Span>,
    vlans: HashMap<(String, u16), Span>,
    macs: HashMap<MacAddress, Span>,
    host_interfaces: HashMap<String, Span>,
}

/// Room for a frame in one mbuf, `[memory] mbuf_data_bytes`.
pub(crate) type MbufDataBytes = Spanned<u16>;

/// What makes a port a VLAN of a device.
pub(crate) struct ReadVlan {
    id: Spanned<u16>,
    /// Where the device is named.
    device: Option<Span>,
    /// It has that of its device otherwise.
    has_mtu: bool,
}

/// Of so many devices, and so many ports in all.
pub(crate) fn limit(devices: usize, ports: usize, table: &mut Table<'_>) {
    let label = if devices > DEVICES_MAX {
        format!("{devices} ports; DPDK has room for {DEVICES_MAX}")
    } else if ports > PORTS_MAX {
        format!("{ports} ports; with VLANs there may be {PORTS_MAX}")
    } else {
        return;
    };
    table.report(Problem::error("too many ports").at(table.at.clone(), label));
}

/// Puts devices before their VLANs, and tells each VLAN its device.
pub(crate) fn in_devices(read: &mut [ReadPort], table: &mut Table<'_>) {
    read.sort_by_key(|port| port.vlan.is_some());
    let devices = read.iter().filter(|port| port.vlan.is_none()).count();
    let (devices, vlans) = read.split_at_mut(devices);
    let is_whole = devices.iter().all(|port| port.port.is_some());
    for vlan in vlans {
        let (Some(port), Some(ReadVlan { id, device, has_mtu })) = (&mut vlan.port, &vlan.vlan) else {
            continue;
        };
        let is_its = |it: &ReadPort| it.port.as_ref().is_some_and(|it| it.device == port.device);
        let Some(number) = devices.iter().position(is_its) else {
            // Who can't be read may be the one.
            if is_whole {
                let at = device.clone().unwrap_or_else(|| vlan.at.clone());
                let problem = Problem::error("a VLAN of a device that is no port")
                    .at(at, format!("VLAN {} is taken out of what this device receives", id.get_ref()))
                    .help("write a [[port]] with this `device` and without `vlan`; it needs no `addresses`");
                table.report(problem);
            }
            continue;
        };
        let mtu = &devices[number].mtu;
        if !has_mtu {
            port.mtu = *mtu.get_ref();
            takes_ipv6(mtu, &vlan.addresses, table);
        } else if mtu.get_ref() < vlan.mtu.get_ref() {
            let problem = Problem::error("a VLAN with a larger MTU than its device")
                .at(vlan.mtu.span(), format!("{} bytes", vlan.mtu.get_ref()))
                .related(mtu.span(), format!("the device takes {}", mtu.get_ref()))
                .help(format!("write at most `mtu = {}`, or a larger one for the device", mtu.get_ref()));
            table.report(problem);
        }
        port.vlan = Some(Vlan { id: *id.get_ref(), device: number });
    }
}

pub(crate) fn port(
    port: &schema::Port,
    room: &MbufDataBytes,
    taken: &mut Taken,
    table: &mut Table<'_>,
) -> ReadPort {
    let schema::Port { name, device, vlan, mac, addresses, mtu, rx_queues, proxy_arp, host_interface } = port;
    let vlan = vlan.is_some().then(|| table.integer(vlan, "vlan", 1..=VLAN_MAX, NO_VLAN));
    if let Some(vlan) = &vlan {
        let of_device = [
            ("mac", mac.as_deref().map(Spanned::span)),
            ("rx_queues", rx_queues.as_deref().map(Spanned::span)),
        ];
        for (key, at) in of_device {
            let Some(at) = at else { continue };
            let problem = Problem::error(format!("`{key}` of a VLAN"))
                .at(at, "it has that of its device")
                .related(vlan.span(), "it is a VLAN")
                .help(format!("write `{key}` in the [[port]] of the device that has no `vlan`, if at all"));
            table.report(problem);
        }
    }
    let name = table.required_parsed(name, "name", "name = \"lan\"", values::name);
    let example = "device = \"0000:03:00.0\"";
    let device = table.required_parsed(device, "device", example, values::device);
    let mac = table.parsed(mac, values::station);
    let written = addresses.as_ref();
    let addresses = table.list(addresses, own_address);
    let complete = match written.map(|list| &list.get_ref().0) {
        None => true,
        Some(Ok(list)) => list.0.len() == addresses.len(),
        Some(Err(_)) => false,
    };
    let has_mtu = mtu.is_some() || vlan.is_none();
    let mtu = table.integer(mtu, "mtu", 576..=9600, 1500);
    let rx_queues = table.integer(rx_queues, "rx_queues", 0..=RX_QUEUES_MAX, 0);
    let proxy_arp = table.list(proxy_arp, proxied);
    let host_interface = table.parsed(host_interface, values::interface);

    if let Some(device) = device.as_ref().filter(|d| values::is_interface_of_the_kernel(d.get_ref())) {
        let interface = device.get_ref();
        let problem = Problem::warning(format!("{} looks like an interface of the kernel", quoted(interface)))
            .at(device.span(), "DPDK does not know interfaces by this name")
            .help(format!(
                "write the device's PCI address (ls -l /sys/class/net/{interface}/device), or \"net_af_packet0\" here and \
                 `--vdev net_af_packet0,iface={interface}` on the command line"
            ));
        table.report(problem);
    }
    unique(&mut taken.names, name.as_ref(), "port name", table);
    match &vlan {
        None => unique(&mut taken.devices, device.as_ref(), "device", table),
        Some(vlan) => unique_vlan(&mut taken.vlans, device.as_ref(), vlan, table),
    }
    unique(&mut taken.host_interfaces, host_interface.as_ref(), "host interface", table);
    if let Some(mac) = &mac {
        unique_mac(&mut taken.macs, mac, table);
    }
    if has_mtu {
        fits(&mtu, room, table);
        takes_ipv6(&mtu, &addresses, table);
    }
    let own_networks = in_order(&addresses);
    for proxied in &proxy_arp {
        if let Some(own) = first_within(proxied.get_ref(), &own_networks) {
            let problem = Problem::error("proxy ARP for the port's own network")
                .at(proxied.span(), "weir would answer for every host of the network")
                .related(own.span(), "the port's network")
                .help("write the part of the network that weir shall answer for");
            table.report(problem);
        }
    }
    let read_name = name.as_ref().map(|name| name.get_ref().clone());
    let at_device = device.as_ref().map(Spanned::span);
    let port = name.zip(device).map(|(name, device)| Port {
        name: name.into_inner(),
        device: device.into_inner(),
        vlan: None,
        mac: mac.map(Spanned::into_inner),
        addresses: addresses.iter().map(|address| *address.get_ref()).collect(),
        mtu: *mtu.get_ref(),
        rx_queues: rx_queues.into_inner(),
        proxy_arp: proxy_arp.into_iter().map(Spanned::into_inner).collect(),
        host_interface: host_interface.map(Spanned::into_inner),
    });
    let vlan = vlan.map(|id| ReadVlan { id, device: at_device, has_mtu });
    ReadPort { port, name: read_name, at: table.at.clone(), addresses, mtu, vlan, complete }
}

/// Reports a name that another table has already.
pub(crate) fn unique(
    taken: &mut HashMap<String, Span>,
    name: Option<&Spanned<String>>,
    what: &str,
    table: &mut Table<'_>,
) {
    let Some(name) = name else { return };
    match taken.entry(name.get_ref().clone()) {
        Entry::Vacant(free) => {
            free.insert(name.span());
        }
        Entry::Occupied(first) => table.report(
            Problem::error(format!("duplicate {what} {}", quoted(name.get_ref())))
                .at(name.span(), "used again here")
                .related(first.get().clone(), "used first here")
                .help(format!("give each its own {what}")),
        ),
    }
}

fn unique_vlan(
    taken: &mut HashMap<(String, u16), Span>,
    device: Option<&Spanned<String>>,
    vlan: &Spanned<u16>,
    table: &mut Table<'_>,
) {
    let Some(device) = device.filter(|_| *vlan.get_ref() != NO_VLAN) else { return };
    match taken.entry((device.get_ref().clone(), *vlan.get_ref())) {
        Entry::Vacant(free) => {
            free.insert(vlan.span());
        }
        Entry::Occupied(first) => table.report(
            Problem::error(format!(
                "duplicate VLAN {} of device {}",
                vlan.get_ref(),
                quoted(device.get_ref())
            ))
            .at(vlan.span(), "used again here")
            .related(first.get().clone(), "used first here")
            .help("give all addresses of a VLAN to one port"),
        ),
    }
}

fn unique_mac(taken: &mut HashMap<MacAddress, Span>, mac: &Spanned<MacAddress>, table: &mut Table<'_>) {
    match taken.entry(*mac.get_ref()) {
        Entry::Vacant(free) => {
            free.insert(mac.span());
        }
        Entry::Occupied(first) => table.report(
            Problem::error("duplicate MAC address")
                .at(mac.span(), "used again here")
                .related(first.get().clone(), "used first here")
                .help("give each port its own MAC address, or leave `mac` out to keep the device's"),
        ),
    }
}

/// A frame of a packet of `mtu` bytes must fit into one mbuf, or the first of several must hold its headers.
fn fits(mtu: &Spanned<u16>, room: &MbufDataBytes, table: &mut Table<'_>) {
    let needed = mtu.get_ref() + FRAME_OVERHEAD_BYTES;
    if needed <= *room.get_ref() || *room.get_ref() >= FIRST_MBUF_BYTES_MIN {
        return;
    }
    let problem = Problem::error("a frame of this MTU lies in several mbufs that are too small")
        .at(mtu.span(), format!("mtu {} makes frames of {needed} bytes", mtu.get_ref()))
        .help(format!("write `mbuf_data_bytes = {FIRST_MBUF_BYTES_MIN}` or more under [memory]: the first mbuf has to hold all headers"));
    let problem = match room.span() {
        default if default.is_empty() => problem,
        written => problem.related(written, format!("room for {} bytes", room.get_ref())),
    };
    table.report(problem);
}

/// Every link of IPv6 takes packets of [`MTU_MIN_V6`] bytes, and nobody who uses it asks for less (RFC 8200 section 5).
fn takes_ipv6(mtu: &Spanned<u16>, addresses: &[Spanned<IpNet>], table: &mut Table<'_>) {
    let of_ipv6 = addresses.iter().find(|address| address.get_ref().addr().is_ipv6());
    let Some(address) = of_ipv6.filter(|_| *mtu.get_ref() < MTU_MIN_V6) else { return };
    let problem = Problem::error("the MTU is too small for IPv6")
        .at(mtu.span(), format!("a link of IPv6 takes packets of {MTU_MIN_V6} bytes"))
        .related(address.span(), "an IPv6 address of this port")
        .help(format!("write `mtu = {MTU_MIN_V6}` or more, or take the port's IPv6 addresses out"));
    table.report(problem);
}

/// Own networks in the order of their addresses, wider ones first.
fn in_order(addresses: &[Spanned<IpNet>]) -> Vec<&Spanned<IpNet>> {
    let mut networks: Vec<&Spanned<IpNet>> = addresses.iter().collect();
    let place = |own: &&Spanned<IpNet>| (own.get_ref().network(), own.get_ref().prefix_len());
    networks.sort_by_key(place);
    networks.dedup_by_key(|own| place(own));
    networks
}

/// One of these networks that this one holds.
fn first_within<'a>(outer: &IpNet, networks: &[&'a Spanned<IpNet>]) -> Option<&'a Spanned<IpNet>> {
    let from = networks.partition_point(|own| own.get_ref().network() < outer.network());
    // Two networks are apart or one holds the other, so a wider one begins where this one does.
    let mut near = networks[from..].iter().take_while(|own| outer.contains(&own.get_ref().network()));
    near.find(|own| outer.contains(&own.get_ref().trunc())).copied()
}

/// An own address: one that a host can have, with the length of its network's prefix.
fn own_address(text: &str) -> Result<IpNet, Fault> {
    let net = values::prefix(text)?;
    if let Some(why) = values::not_a_host(net.addr()) {
        return Err(Fault::new("not an address of a host", why));
    }
    if let Some(why) = values::not_a_host_within(net.addr(), &net) {
        return Err(Fault::new("not an address of a host", why));
    }
    if net.prefix_len() == 0 {
        return Err(Fault::new("invalid prefix length", "every address would be on this port's link")
            .help("write the prefix length of the link's network here, and a [[route]] for the rest"));
    }
    Ok(net)
}

/// A prefix for whose addresses ARP is answered.
fn proxied(text: &str) -> Result<IpNet, Fault> {
    let net = values::network(text)?;
    match net {
        IpNet::V6(_) => Err(Fault::new("not an IPv4 prefix", "ARP is for IPv4 alone")),
        IpNet::V4(_) if net.prefix_len() == 0 => {
            Err(Fault::new("proxy ARP for every address", "weir would answer for every host of the link")
                .help("write the prefixes that weir shall answer for"))
        }
        IpNet::V4(_) => Ok(net),
    }
}
