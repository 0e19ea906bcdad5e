//! Which virtual server is at an address and port. A look-up reads one cache line, nearly always, and that can be asked
//! for beforehand: with thousands of virtual servers in use it is in no cache.
//!
//! Open addressing, linear probing. Packets see it as it is; control changes one that nobody sees. Keys are the file's, so nobody
//! outside can make long runs.

use super::{Target, address_of, socket};
use crate::address::Addr4;
use crate::conn::record::{ServiceId, VipId};

/// See the module.
#[derive(Clone)]
pub(super) struct Destinations {
    /// A power of two, more than a quarter of them free.
    entries: Box<[Entry]>,
    /// Bits of a hash that are not the place.
    shift: u32,
    /// How many are there.
    len: usize,
    /// Whether some virtual server has all ports.
    has_any_port: bool,
}

/// Four to a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
struct Entry {
    /// See [`socket`]. 0, which none is: free.
    socket: u64,
    target: Target,
    /// See [`Destination::router`].
    router: u16,
}

/// A free place.
const NOBODY: Entry = Entry {
    socket: 0,
    target: Target { service: ServiceId::NONE, vip: VipId(0), any_port: false, is_helped: false },
    router: 0,
};

/// A virtual server as its address and port tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) target: Target,
    /// The virtual router that the address comes and goes with, by number; 0: none.
    pub(super) router: u16,
}

const _: () = assert!(size_of::<Entry>() == 16);

impl Destinations {
    /// Of these sockets, each of which is there once. `router_of` tells an address's [`Destination::router`].
    pub(super) fn new(
        targets: impl ExactSizeIterator<Item = (u64, Target)>,
        router_of: impl Fn(Addr4) -> u16,
    ) -> Self {
        let mut destinations = Self::with_room(targets.len());
        for (socket, target) in targets {
            destinations.put(Entry { socket, target, router: router_of(address_of(socket)) });
        }
        destinations
    }

    fn with_room(count: usize) -> Self {
        let len = (count * 4 / 3 + 2).next_power_of_two();
        Self {
            entries: vec![NOBODY; len].into(),
            shift: u64::BITS - len.trailing_zeros(),
            len: 0,
            has_any_port: false,
        }
    }

    /// Puts in one that is not there, where there is room.
    fn put(&mut self, entry: Entry) {
        let mut at = self.home(entry.socket);
        while self.entries[at].socket != 0 {
            at = (at + 1) & (self.entries.len() - 1);
        }
        self.entries[at] = entry;
        self.len += 1;
        self.has_any_port |= entry.socket >> 16 & 0xffff == 0;
    }

    /// Has a socket lead there, or nowhere.
    pub(super) fn set(&mut self, socket: u64, to: Option<Destination>) {
        self.remove(socket);
        let Some(Destination { target, router }) = to else { return };
        if (self.len + 1) * 4 > self.entries.len() * 3 {
            let mut larger = Self::with_room(self.len * 2 + 1);
            self.entries.iter().filter(|entry| entry.socket != 0).for_each(|entry| larger.put(*entry));
            *self = larger;
        }
        self.put(Entry { socket, target, router });
    }

    fn remove(&mut self, socket: u64) {
        let mask = self.entries.len() - 1;
        let mut hole = self.home(socket);
        while self.entries[hole].socket != socket {
            if self.entries[hole].socket == 0 {
                return;
            }
            hole = (hole + 1) & mask;
        }
        self.len -= 1;
        // Whoever was put further on for want of this place moves up.
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let entry = self.entries[at];
            if entry.socket == 0 {
                break;
            }
            let past_home = at.wrapping_sub(self.home(entry.socket)) & mask;
            if past_home >= at.wrapping_sub(hole) & mask {
                self.entries[hole] = entry;
                hole = at;
            }
        }
        self.entries[hole] = NOBODY;
    }

    /// The virtual server at an address and port, else the one for all ports of the address. `protocol` is the IP
    /// protocol number.
    #[inline]
    pub(super) fn get(&self, address: Addr4, port: u16, protocol: u8) -> Option<Destination> {
        let exact = self.find(socket(address, port, protocol));
        if exact.is_none() && self.has_any_port {
            return self.find(socket(address, 0, protocol));
        }
        exact
    }

    /// Asks the processor for the line that [`Destinations::get`] begins with.
    #[inline]
    pub(super) fn prefetch(&self, address: Addr4, port: u16, protocol: u8) {
        if let Some(entry) = self.entries.get(self.home(socket(address, port, protocol))) {
            dpdk::lcore::prefetch(entry);
        }
    }

    /// The virtual server of exactly this [`socket`].
    #[inline]
    pub(super) fn find(&self, socket: u64) -> Option<Destination> {
        let mut at = self.home(socket);
        loop {
            // One entry at least is free, so this ends.
            let entry = self.entries.get(at)?;
            if entry.socket == socket {
                return Some(Destination { target: entry.target, router: entry.router });
            }
            if entry.socket == 0 {
                return None;
            }
            at = (at + 1) & (self.entries.len() - 1);
        }
    }

    /// Fibonacci hashing.
    #[inline]
    fn home(&self, socket: u64) -> usize {
        (socket.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }
}

#[cfg(test)]
mod tests {
    use hashbrown::HashMap;

    use super::*;

    #[test]
    fn what_is_set_and_removed_one_by_one_is_found_as_in_a_map() {
        bolero::check!().with_type::<Vec<(u8, Option<u8>)>>().for_each(|changes| {
            let mut model = HashMap::new();
            let mut destinations = Destinations::new(std::iter::empty(), |_| 0);
            for &(port, service) in changes {
                let socket = socket(Addr4::new(10, 0, 0, 1), u16::from(port) + 1, 6);
                let to = service.map(|service| Destination {
                    target: Target {
                        service: ServiceId(service.into()),
                        vip: VipId(1),
                        any_port: false,
                        is_helped: false,
                    },
                    router: 0,
                });
                destinations.set(socket, to);
                match to {
                    Some(to) => _ = model.insert(socket, to),
                    None => _ = model.remove(&socket),
                }
                assert_eq!(destinations.len, model.len());
                assert!(destinations.len < destinations.entries.len());
            }
            for port in 0..=u8::MAX {
                let socket = socket(Addr4::new(10, 0, 0, 1), u16::from(port) + 1, 6);
                assert_eq!(destinations.find(socket), model.get(&socket).copied());
            }
        });
    }

    #[test]
    fn they_are_found_as_in_a_map() {
        bolero::check!().with_type::<Vec<(u8, u8, bool)>>().for_each(|sockets| {
            let mut model = HashMap::new();
            let of = |address: u8| Addr4::from_bits(address.into());
            for (number, &(address, port, is_udp)) in sockets.iter().enumerate() {
                let protocol = if is_udp { 17 } else { 6 };
                let target = Target {
                    service: ServiceId(number as u16),
                    vip: VipId(address.into()),
                    any_port: port == 0,
                    is_helped: false,
                };
                model.insert(socket(of(address), port.into(), protocol), target);
            }
            let destinations =
                Destinations::new(model.iter().map(|(socket, target)| (*socket, *target)), |address| {
                    address.bits() as u16 + 1
                });
            for address in 0..=u8::MAX {
                for port in 0..=u8::MAX {
                    for protocol in [6, 17] {
                        let exact = model.get(&socket(of(address), port.into(), protocol));
                        let expected =
                            exact.or_else(|| model.get(&socket(of(address), 0, protocol))).copied();
                        let expected =
                            expected.map(|target| Destination { target, router: u16::from(address) + 1 });
                        assert_eq!(destinations.get(of(address), port.into(), protocol), expected);
                    }
                }
            }
        });
    }
}
