//! IPv4 addresses: as the data path handles them, and as they stand in a packet.
//!
//! `std`'s type holds bytes. Here each packet's addresses are compared, looked up and put into words, so they are kept as
//! the number that these want, in host order. Only this file makes numbers and bytes of addresses, and addresses of those.
//!
//! IPv6 addresses go by numbers of the same size: this director's own by one that the registry gave them
//! (`snapshot/ipv6.rs`), those of clients by the place where a worker keeps them (`conn/clients.rs`). These numbers lie in
//! 240.0.0.0/5, where no host of IPv4 is: no packet of IPv4 gets past the parser that comes from there, and to weir nobody is
//! there that one could go to. So a connection's record, the schedulers' state and all that is looked up by address serve
//! both families as they are, and a packet's source tells its family.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::BitAnd;

use ipnet::{IpNet, Ipv4Net};
use zerocopy::byteorder::network_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The first number of IPv6 addresses, 240.0.0.0, and how many there are: half of them for those of the file.
const FIRST6: u32 = 0xf000_0000;
const NUMBERS6: u32 = 1 << 27;

/// An IPv4 address, or the number of an IPv6 one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Addr4(u32);

impl Addr4 {
    /// 0.0.0.0, which nobody has. Stands where there is no address.
    pub const UNSPECIFIED: Self = Self(0);

    /// The address a.b.c.d.
    pub const fn new(a: u8, b: u8, c: u8, d: u8) -> Self {
        Self(u32::from_be_bytes([a, b, c, d]))
    }

    /// The address of a number.
    #[inline]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// As a number: the first byte above.
    #[inline]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// As it goes over the wire.
    #[inline]
    pub const fn octets(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }

    /// The address that comes so many after this one.
    pub const fn plus(self, count: u32) -> Self {
        Self(self.0.wrapping_add(count))
    }

    /// In place of the number of an IPv6 client that has none: nobody's, so that no connection is found by it.
    pub const STRANGER6: Self = Self(FIRST6 + NUMBERS6 - 1);

    /// In place of the number of an IPv6 address that clients talk to and that has none: one of a wide network of a mark's.
    pub const WIDE6: Self = Self(FIRST6 + NUMBERS6 - 2);

    /// That of an IPv6 address of this director's, by its place among these.
    pub(crate) const fn named6(place: u32) -> Self {
        debug_assert!(place < Self::NAMED6_MAX);
        Self(FIRST6 + place)
    }

    /// That of an IPv6 client, by the place where its worker keeps it.
    pub(crate) const fn client6(place: u32) -> Self {
        debug_assert!(place < Self::CLIENTS6_MAX);
        Self(FIRST6 + NUMBERS6 / 2 + place)
    }

    /// Places for IPv6 addresses of this director's that can have numbers.
    pub(crate) const NAMED6_MAX: u32 = NUMBERS6 / 2;

    /// Places for IPv6 clients that can have numbers.
    pub(crate) const CLIENTS6_MAX: u32 = NUMBERS6 / 2 - 2;

    /// Whether it is the number of an IPv6 address.
    #[inline]
    pub const fn is_of_ipv6(self) -> bool {
        self.0 >> 27 == FIRST6 >> 27
    }

    /// The place of an IPv6 address of this director's.
    pub(crate) fn place_named6(self) -> Option<usize> {
        let place = self.0.wrapping_sub(FIRST6);
        (place < Self::NAMED6_MAX).then_some(place as usize)
    }

    /// The place of an IPv6 client.
    #[inline]
    pub(crate) fn place_client6(self) -> Option<usize> {
        let place = self.0.wrapping_sub(FIRST6 + NUMBERS6 / 2);
        (place < Self::CLIENTS6_MAX).then_some(place as usize)
    }

    /// `None`: it is an IPv6 address.
    pub fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Some(address.into()),
            IpAddr::V6(_) => None,
        }
    }

    /// The first address of the network with a prefix of `length` bits (0 to 32) that this one lies in.
    #[inline]
    pub fn network(self, length: u8) -> Self {
        debug_assert!(length <= 32);
        Self(self.0 & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0))
    }

    /// All addresses of a network.
    pub fn all_of(net: Ipv4Net) -> impl Iterator<Item = Self> {
        (u32::from(net.network())..=u32::from(net.broadcast())).map(Self)
    }

    /// Whether it can be one host's on a wire: not unspecified, loopback, multicast or broadcast.
    #[inline]
    pub fn is_unicast(self) -> bool {
        let first = self.0 >> 24;
        first.wrapping_sub(1) < 223 && first != 127
    }
}

/// `None`: it is an IPv6 network.
pub fn v4_net(net: &IpNet) -> Option<Ipv4Net> {
    match net {
        IpNet::V4(net) => Some(*net),
        IpNet::V6(_) => None,
    }
}

/// The network that an address lies in, by its mask.
impl BitAnd for Addr4 {
    type Output = Self;
    #[inline]
    fn bitand(self, mask: Self) -> Self {
        Self(self.0 & mask.0)
    }
}

impl From<Ipv4Addr> for Addr4 {
    #[inline]
    fn from(address: Ipv4Addr) -> Self {
        Self(address.to_bits())
    }
}

impl From<[u8; 4]> for Addr4 {
    #[inline]
    fn from(octets: [u8; 4]) -> Self {
        Self(u32::from_be_bytes(octets))
    }
}

impl From<Addr4> for Ipv4Addr {
    #[inline]
    fn from(address: Addr4) -> Self {
        Self::from_bits(address.0)
    }
}

impl From<Addr4> for IpAddr {
    #[inline]
    fn from(address: Addr4) -> Self {
        Self::V4(address.into())
    }
}

impl fmt::Display for Addr4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ipv4Addr::from(*self).fmt(f)
    }
}

impl fmt::Debug for Addr4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ipv4Addr::from(*self).fmt(f)
    }
}

/// An IPv4 address in a header, in network order.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(transparent)]
pub struct Wire4(U32);

impl Wire4 {
    /// For a header.
    #[inline]
    pub fn new(address: Addr4) -> Self {
        Self(U32::new(address.0))
    }

    /// The address that stands there.
    #[inline]
    pub fn get(self) -> Addr4 {
        Addr4(self.0.get())
    }

    /// The bytes that stand there.
    #[inline]
    pub fn octets(self) -> [u8; 4] {
        self.0.to_bytes()
    }
}

impl fmt::Debug for Wire4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_the_same_as_number_bytes_text_and_in_a_header() {
        bolero::check!().with_type::<[u8; 4]>().for_each(|octets| {
            let [a, b, c, d] = *octets;
            let (address, std) = (Addr4::new(a, b, c, d), Ipv4Addr::from(*octets));
            assert_eq!((address, Addr4::from(std)), (Addr4::from(*octets), Addr4::from_bits(std.to_bits())));
            assert_eq!((address.octets(), Ipv4Addr::from(address)), (*octets, std));
            assert_eq!((address.to_string(), format!("{address:?}")), (std.to_string(), std.to_string()));
            assert_eq!((Addr4::of(std.into()), IpAddr::from(address)), (Some(address), std.into()));
            let wire = Wire4::new(address);
            assert_eq!((wire.as_bytes(), wire.octets(), wire.get()), (&octets[..], *octets, address));
            let is_host = !(std.is_loopback() || std.is_multicast() || a == 0 || a >= 240);
            assert_eq!(address.is_unicast(), is_host);
        });
        assert_eq!(Addr4::of("2001:db8::1".parse().expect("an address")), None);
    }

    #[test]
    fn a_number_of_ipv6_is_no_host_of_ipv4_and_leads_back_to_its_place() {
        for place in [0, 1, Addr4::CLIENTS6_MAX - 1] {
            let (named, client) = (Addr4::named6(place), Addr4::client6(place));
            assert_eq!((named.place_named6(), named.place_client6()), (Some(place as usize), None));
            assert_eq!((client.place_client6(), client.place_named6()), (Some(place as usize), None));
            assert!([named, client].into_iter().all(|it| it.is_of_ipv6() && !it.is_unicast()));
        }
        for nobody in [Addr4::STRANGER6, Addr4::WIDE6] {
            assert!(
                nobody.is_of_ipv6() && nobody.place_client6().is_none() && nobody.place_named6().is_none()
            );
        }
        bolero::check!().with_type::<[u8; 4]>().for_each(|octets| {
            assert_eq!(Addr4::from(*octets).is_of_ipv6(), (240..=247).contains(&octets[0]));
        });
    }

    #[test]
    fn networks_are_those_of_ipnet() {
        bolero::check!().with_type::<([u8; 4], u8)>().for_each(|&(octets, length)| {
            let net = Ipv4Net::new(octets.into(), length % 33).expect("a prefix length");
            let address = Addr4::from(octets);
            assert_eq!(address.network(length % 33), net.network().into());
            assert_eq!(address & net.netmask().into(), net.network().into());
            let mut all = Addr4::all_of(net);
            assert_eq!(all.next(), Some(net.network().into()));
            assert_eq!(all.next(), (length % 33 < 32).then(|| Addr4::from(net.network()).plus(1)));
            if length % 33 > 20 {
                assert_eq!(
                    (Addr4::all_of(net).last(), net.contains(&Ipv4Addr::from(octets))),
                    (Some(net.broadcast().into()), true)
                );
            }
        });
    }
}
