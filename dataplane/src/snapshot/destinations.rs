//! Which virtual server is at an address and port. A look-up reads one cache line, nearly always, and that can be asked
//! for beforehand: with thousands of virtual servers in use it is in no cache.
//!
//! Open addressing, linear probing, never changed once made. Keys are the file's, so nobody outside can make long runs.

use super::{Target, address_of, socket};
use crate::address::Addr4;
use crate::conn::record::{ServiceId, VipId};

/// See the module.
pub(super) struct Destinations {
    /// A power of two, more than a quarter of them free.
    entries: Box<[Entry]>,
    /// Bits of a hash that are not the place.
    shift: u32,
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
        let len = (targets.len() * 4 / 3 + 2).next_power_of_two();
        let nobody = Target { service: ServiceId::NONE, vip: VipId(0), any_port: false };
        let mut destinations = Self {
            entries: vec![Entry { socket: 0, target: nobody, router: 0 }; len].into(),
            shift: u64::BITS - len.trailing_zeros(),
            has_any_port: false,
        };
        for (socket, target) in targets {
            let mut at = destinations.home(socket);
            while destinations.entries[at].socket != 0 {
                at = (at + 1) % len;
            }
            destinations.entries[at] = Entry { socket, target, router: router_of(address_of(socket)) };
            destinations.has_any_port |= socket >> 16 & 0xffff == 0;
        }
        destinations
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
