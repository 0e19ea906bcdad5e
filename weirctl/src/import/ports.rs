//! `[[port]]`: interfaces become devices of DPDK, and get addresses. keepalived's file holds neither, so what the command line does
//! not say is made up, and said to be.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::write::{Item, texts};

/// An interface.
#[derive(Debug, Clone, Default)]
pub(super) struct Interface {
    pub(super) name: String,
    /// `--interface NAME=DEVICE`
    pub(super) device: Option<String>,
    pub(super) addresses: Vec<Address>,
}

#[derive(Debug, Clone)]
pub(super) struct Address {
    pub(super) address: IpAddr,
    pub(super) length: u8,
    /// What is to be said of it; `None`: somebody wrote it.
    pub(super) remark: Option<String>,
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
    needs: Vec<Need>,
    /// Networks that prefix lengths tell of.
    hints: Vec<(IpAddr, u8, usize)>,
    /// Destinations of routes.
    routes: Vec<(IpAddr, u8)>,
    /// Addresses that somebody has.
    taken: HashSet<IpAddr>,
    /// Interfaces that have to have an address of this family.
    sources: Vec<(usize, bool, IpAddr)>,
}

impl Ports {
    /// The place of an interface, new or not.
    pub(super) fn place(&mut self, name: &str) -> usize {
        if let Some(place) = self.interfaces.iter().position(|it| it.name == name) {
            return place;
        }
        self.interfaces.push(Interface { name: name.to_owned(), ..Interface::default() });
        self.interfaces.len() - 1
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
            self.hints.push((address, length, place));
        }
    }

    pub(super) fn needs(&mut self, address: IpAddr, interface: Option<&str>, is_far: bool) {
        let interface = interface.map(|name| self.place(name));
        self.taken.insert(address);
        self.needs.push(Need { address, interface, is_far });
    }

    pub(super) fn routed(&mut self, address: IpAddr, length: u8) {
        self.routes.push((address, length));
    }

    /// The interface sends from an address of this one's family, best of its network.
    pub(super) fn sends(&mut self, interface: &str, like: IpAddr) {
        let place = self.place(interface);
        self.sources.push((place, like.is_ipv4(), like));
    }

    /// An own address that the source names.
    pub(super) fn own(
        &mut self,
        interface: &str,
        address: IpAddr,
        length: Option<u8>,
        remark: Option<String>,
    ) {
        let place = self.place(interface);
        if self.interfaces[place].addresses.iter().any(|own| own.address == address)
            || self.taken.contains(&address)
        {
            return;
        }
        if self.interfaces[place].addresses.iter().any(|own| covers(own.address, own.length, address)) {
            return;
        }
        let hint =
            self.hints.iter().find(|(near, length, at)| *at == place && covers(*near, *length, address));
        let length = length.or(hint.map(|it| it.1)).unwrap_or(usual(address));
        self.takes(address);
        self.interfaces[place].addresses.push(Address { address, length, remark });
    }

    /// Makes up what is missing, and the tables.
    pub(super) fn finish(&mut self) -> Vec<Item> {
        if self.interfaces.is_empty() {
            self.place("lan");
        }
        for (place, is_ipv4, like) in std::mem::take(&mut self.sources) {
            let has = |own: &Address| own.address.is_ipv4() == is_ipv4 && !is_link_local(own.address);
            if !self.interfaces[place].addresses.iter().any(has) {
                self.make_up(like, place);
            }
        }
        for Need { address, interface, is_far } in std::mem::take(&mut self.needs) {
            let is_here = |own: &Address| covers(own.address, own.length, address);
            let is_routed = is_far && self.routes.iter().any(|(to, length)| covers(*to, *length, address));
            if is_routed || self.interfaces.iter().flat_map(|it| &it.addresses).any(is_here) {
                continue;
            }
            let hinted = self.hints.iter().find(|(near, length, _)| covers(*near, *length, address));
            let place = interface.or(hinted.map(|it| it.2)).unwrap_or(self.interfaces.len() - 1);
            self.make_up(address, place);
        }
        self.interfaces.iter().map(item).collect()
    }

    /// An address beside this one.
    fn make_up(&mut self, like: IpAddr, place: usize) {
        let hint = self.hints.iter().find(|(near, length, _)| covers(*near, *length, like)).map(|it| it.1);
        let lengths: &[u8] = if like.is_ipv4() { &[24, 26, 28, 30] } else { &[64, 112, 120, 126] };
        let overlaps = |length: u8| {
            let others = self.interfaces.iter().enumerate().filter(|(at, _)| *at != place);
            others
                .flat_map(|(_, it)| &it.addresses)
                .any(|own| covers(own.address, own.length.min(length), like))
        };
        let Some(length) = hint.into_iter().chain(lengths.iter().copied()).find(|length| !overlaps(*length))
        else {
            return;
        };
        // From the end of the network on, where gateways are seldom.
        let free = (1_u32..=5000)
            .map(|back| from_end(like, length, back))
            .find(|it| covers(*it, length, like) && !self.taken.contains(it));
        let Some(address) = free else { return };
        let remark =
            format!("FILL IN: {address}/{length} is made up; write this director's own address there");
        self.takes(address);
        self.interfaces[place].addresses.push(Address { address, length, remark: Some(remark) });
    }
}

fn item(interface: &Interface) -> Item {
    let Interface { name, device, addresses } = interface;
    let mut item = Item::new("[[port]]", format!("interface {name}"), None);
    item.set("name", port_name(name));
    match device {
        Some(device) => item.set("device", device.as_str()),
        None => {
            let remark = format!(
                "FILL IN: the PCI address of {name} (`dpdk-devbind.py -s` lists them), or give --interface {name}=0000:03:00.0"
            );
            item.set_remarked("device", format!("FILL-IN-{}", port_name(name)), remark);
        }
    }
    if !addresses.is_empty() {
        let remarks: Vec<&str> = addresses.iter().filter_map(|own| own.remark.as_deref()).collect();
        let list = texts(addresses.iter().map(|own| format!("{}/{}", own.address, own.length)));
        match remarks.is_empty() {
            true => item.set("addresses", list),
            false => item.set_remarked("addresses", list, remarks.join("; ")),
        }
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
