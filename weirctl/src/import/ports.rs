//! `[[port]]`: interfaces become devices of DPDK, and get addresses. keepalived's file holds neither, so what the command line does
//! not say is made up, and said to be.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::write::{Item, texts};

/// An interface.
#[derive(Debug, Clone, Default)]
pub(super) struct Interface {
    pub(super) name: String,
    /// `--interface NAME=DEVICE`
    pub(super) device: Option<String>,
    addresses: Vec<Address>,
    /// Networks of its addresses.
    near: Networks,
    /// Networks that prefix lengths tell of.
    hints: Networks,
    /// Whether it has an address that is not link-local, of IPv6 and of IPv4.
    has_address: [bool; 2],
}

#[derive(Debug, Clone)]
struct Address {
    address: IpAddr,
    length: u8,
    /// What is to be said of it; `None`: somebody wrote it.
    remark: Option<String>,
}

impl Interface {
    /// The interface that it is a VLAN of, by the name that the kernel's tools give such a one, and which. One that has a device
    /// of its own is none.
    fn vlan(&self) -> Option<(&str, u16)> {
        let (device, id) = self.name.rsplit_once('.').filter(|_| self.device.is_none())?;
        let id = id.parse().ok().filter(|id| (1..=4094).contains(id))?;
        (!device.is_empty() && !device.contains('.')).then_some((device, id))
    }
}

/// Somebody who has to be reached.
struct Need {
    address: IpAddr,
    interface: Option<usize>,
    /// A route will do.
    is_far: bool,
}

#[derive(Default)]
pub(super) struct Ports {
    pub(super) interfaces: Vec<Interface>,
    /// Their places by their names.
    places: HashMap<String, usize>,
    needs: Vec<Need>,
    /// Networks that prefix lengths tell of, and those of own addresses.
    hints: Networks,
    near: Networks,
    /// Destinations of routes.
    routes: Networks,
    /// Addresses that somebody has.
    taken: HashSet<IpAddr>,
    /// Interfaces that have to have an address of this family.
    sources: Vec<(usize, bool, IpAddr)>,
}

impl Ports {
    /// The place of an interface, new or not.
    pub(super) fn place(&mut self, name: &str) -> usize {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        self.places.insert(name.to_owned(), self.interfaces.len());
        self.interfaces.push(Interface { name: name.to_owned(), ..Interface::default() });
        self.interfaces.len() - 1
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// The name of the port that an interface becomes.
    pub(super) fn port(&mut self, name: &str) -> String {
        self.place(name);
        port_name(name)
    }

    pub(super) fn takes(&mut self, address: IpAddr) {
        self.taken.insert(address);
    }

    pub(super) fn is_taken(&self, address: IpAddr) -> bool {
        self.taken.contains(&address)
    }

    pub(super) fn hint(&mut self, address: IpAddr, length: u8, interface: &str) {
        let place = self.place(interface);
        let useful = if address.is_ipv4() { 8..=30 } else { 16..=126 };
        if useful.contains(&length) && !is_link_local(address) {
            self.hints.add(address, length, place);
            self.interfaces[place].hints.add(address, length, place);
        }
    }

    pub(super) fn needs(&mut self, address: IpAddr, interface: Option<&str>, is_far: bool) {
        let interface = interface.map(|name| self.place(name));
        self.taken.insert(address);
        // Nobody is beside these; weir refuses them by themselves.
        let is_none = match address {
            IpAddr::V4(it) => it.is_loopback() || it.octets()[0] == 0 || it.octets()[0] >= 224,
            IpAddr::V6(it) => it.is_loopback() || it.is_unspecified() || it.is_multicast(),
        };
        if is_none {
            return;
        }
        self.needs.push(Need { address, interface, is_far });
    }

    pub(super) fn routed(&mut self, address: IpAddr, length: u8) {
        self.routes.add(address, length, 0);
    }

    /// The interface sends from an address of this one's family, best of its network.
    pub(super) fn sends(&mut self, interface: &str, like: IpAddr) {
        let place = self.place(interface);
        self.sources.push((place, like.is_ipv4(), like));
    }

    /// An own address that the source names.
    pub(super) fn own(&mut self, interface: &str, address: IpAddr, length: Option<u8>) {
        let place = self.place(interface);
        let there = &self.interfaces[place];
        if self.taken.contains(&address) || there.near.of(address).is_some() {
            return;
        }
        let known = length.or(there.hints.of(address).map(|(length, _)| length));
        let length = known.unwrap_or(usual(address));
        let guessed = || format!("FILL IN: the length of {address}/{length} is a guess; write its network's");
        let remark = known.is_none().then(guessed);
        self.put(place, Address { address, length, remark });
    }

    pub(super) fn is_own(&self, interface: &str, address: IpAddr) -> bool {
        let place = self.places.get(interface);
        place.is_some_and(|place| self.interfaces[*place].addresses.iter().any(|own| own.address == address))
    }

    fn put(&mut self, place: usize, own: Address) {
        let Address { address, length, .. } = own;
        self.takes(address);
        self.near.add(address, length, place);
        let there = &mut self.interfaces[place];
        there.near.add(address, length, place);
        there.has_address[usize::from(address.is_ipv4())] |= !is_link_local(address);
        there.addresses.push(own);
    }

    /// Makes up what is missing, and the tables.
    pub(super) fn finish(&mut self) -> Vec<Item> {
        if self.interfaces.is_empty() {
            self.place("lan");
        }
        for (place, is_ipv4, like) in std::mem::take(&mut self.sources) {
            if !self.interfaces[place].has_address[usize::from(is_ipv4)] {
                self.make_up(like, place);
            }
        }
        for Need { address, interface, is_far } in std::mem::take(&mut self.needs) {
            let is_routed = is_far && self.routes.of(address).is_some();
            if is_routed || self.near.of(address).is_some() {
                continue;
            }
            let hinted = self.hints.of(address).map(|(_, place)| place);
            let place = interface.or(hinted).unwrap_or(self.interfaces.len() - 1);
            self.make_up(address, place);
        }
        let named = self.interfaces.len();
        for place in 0..named {
            if let Some((device, _)) = self.interfaces[place].vlan() {
                let device = device.to_owned();
                self.place(&device);
            }
        }
        let below = |it: &Interface| {
            let (device, vlan) = it.vlan()?;
            Some((&self.interfaces[*self.places.get(device)?], vlan))
        };
        let items = self.interfaces.iter().enumerate().map(|(number, it)| item(it, below(it), number));
        items.collect()
    }

    /// An address beside this one.
    fn make_up(&mut self, like: IpAddr, place: usize) {
        let hint = self.hints.of(like).map(|(length, _)| length);
        let lengths: &[u8] =
            if like.is_ipv4() { &[24, 23, 22, 20, 16, 26, 28, 30] } else { &[64, 112, 120, 126] };
        let overlaps = |length: u8| {
            let others = self.interfaces.iter().enumerate().filter(|(at, _)| *at != place);
            others
                .flat_map(|(_, it)| &it.addresses)
                .any(|own| covers(own.address, own.length.min(length), like))
        };
        // Whose address would be that of the network, or its broadcast address, would be no host.
        let is_edge = |length: u8| {
            [first(like, length), from_end(like, length, 0)].iter().any(|edge| self.taken.contains(edge))
        };
        let mut lengths = hint.into_iter().chain(lengths.iter().copied());
        let Some(length) = lengths.find(|length| !(overlaps(*length) || like.is_ipv4() && is_edge(*length)))
        else {
            return;
        };
        // From the end of the network on, where gateways are seldom.
        let free = (1_u32..=5000)
            .map(|back| from_end(like, length, back))
            .take_while(|it| covers(*it, length, like))
            .find(|it| !self.taken.contains(it));
        let Some(address) = free else { return };
        let remark =
            format!("FILL IN: {address}/{length} is made up; write this director's own address there");
        self.put(place, Address { address, length, remark: Some(remark) });
    }
}

/// Networks, found by an address in them.
#[derive(Debug, Clone, Default)]
struct Networks {
    /// By family, prefix length and the bits before its end: the number and the interface of the first one.
    first: HashMap<(bool, u8, u128), (usize, usize)>,
    lengths: BTreeSet<(bool, u8)>,
}

impl Networks {
    fn add(&mut self, address: IpAddr, length: u8, interface: usize) {
        let number = self.first.len();
        self.lengths.insert((address.is_ipv4(), length));
        self.first.entry(prefix(address, length)).or_insert((number, interface));
    }

    /// The length and interface of the first that was added of those that hold the address.
    fn of(&self, address: IpAddr) -> Option<(u8, usize)> {
        let lengths = self.lengths.range((address.is_ipv4(), 0)..=(address.is_ipv4(), u8::MAX));
        let found = lengths.filter_map(|(_, length)| {
            self.first.get(&prefix(address, *length)).map(|(number, place)| (*number, *length, *place))
        });
        found.min().map(|(_, length, place)| (length, place))
    }
}

fn prefix(address: IpAddr, length: u8) -> (bool, u8, u128) {
    let before = bits(address).checked_shr(128_u32.saturating_sub(length.into())).unwrap_or(0);
    (address.is_ipv4(), length, before)
}

fn item(interface: &Interface, below: Option<(&Interface, u16)>, number: usize) -> Item {
    let Interface { name, addresses, .. } = interface;
    let mut item = Item::new("[[port]]", format!("interface {name}"), None);
    item.set("name", port_name(name));
    let device = below.map_or(interface, |(device, _)| device);
    match &device.device {
        Some(device) => item.set("device", device.as_str()),
        None => {
            let name = &device.name;
            let remark = format!(
                "FILL IN: the PCI address of {name} (`dpdk-devbind.py -s` lists them), or give --interface {name}=0000:03:00.0"
            );
            item.set_remarked("device", format!("FILL-IN-{}", port_name(name)), remark);
        }
    }
    if let Some((_, vlan)) = below {
        item.set("vlan", i64::from(vlan));
    }
    if !addresses.is_empty() {
        let remarks: Vec<&str> = addresses.iter().filter_map(|own| own.remark.as_deref()).collect();
        let list = texts(addresses.iter().map(|own| format!("{}/{}", own.address, own.length)));
        match remarks.is_empty() {
            true => item.set("addresses", list),
            false => item.set_remarked("addresses", list, remarks.join("; ")),
        }
        let remark = format!(
            "{name} is gone from the kernel once weir has it. What used its addresses there (ssh, health checks, other daemons) goes by this interface; routes by it are made anew: see docs/operating.md"
        );
        item.set_remarked("host_interface", format!("weir{number}"), remark);
    }
    item
}

pub(super) fn port_name(interface: &str) -> String {
    let letters =
        interface.chars().map(|it| if it.is_ascii_alphanumeric() || "-_.:@".contains(it) { it } else { '_' });
    letters.take(63).collect()
}

fn usual(address: IpAddr) -> u8 {
    if address.is_ipv4() { 24 } else { 64 }
}

pub(super) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.segments()[0] & 0xffc0 == 0xfe80)
}

/// An address as bits of its family, the first at the left.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Whether the network of the first address, of this prefix length, holds the other.
pub(super) fn covers(network: IpAddr, length: u8, address: IpAddr) -> bool {
    let shift = 128 - u32::from(length);
    network.is_ipv4() == address.is_ipv4()
        && (bits(network) ^ bits(address)).checked_shr(shift).is_none_or(|differs| differs == 0)
}

/// The first address of the network.
fn first(like: IpAddr, length: u8) -> IpAddr {
    match like {
        IpAddr::V4(address) => {
            let host = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & !host).into()
        }
        IpAddr::V6(address) => {
            let host = u128::MAX.checked_shr(u32::from(length)).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & !host).into()
        }
    }
}

/// So many addresses before the end of the network.
fn from_end(like: IpAddr, length: u8, back: u32) -> IpAddr {
    match like {
        IpAddr::V4(address) => {
            let host = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
            Ipv4Addr::from_bits((address.to_bits() | host).saturating_sub(back)).into()
        }
        IpAddr::V6(address) => {
            let host = u128::MAX.checked_shr(u32::from(length)).unwrap_or(0);
            Ipv6Addr::from_bits((address.to_bits() | host).saturating_sub(u128::from(back))).into()
        }
    }
}
