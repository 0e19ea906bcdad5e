//! What a template is looked up by: a network of clients, a virtual server, and the epoch of its persistence. The port,
//! which IPVS has here, follows from the virtual server: its own, or 0 for all ports.
//!
//! ```text
//!  IPv4  | client network 32 | virtual server + 1, 16 | epoch 16 |
//!  IPv6  | client network 128 |  then  | virtual server + 1, 16 | epoch 16 |
//! ```
//!
//! Of a virtual server that keeps calls together, of either family, the digest of call and network stands in the place of an IPv6 network.

use std::fmt::Debug;
use std::hash::Hasher;
use std::net::{IpAddr, Ipv6Addr};

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::address::Addr4;
use crate::conn::record::ServiceId;
use crate::conn::table::HashKey;

/// Whose a template is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The virtual server.
    pub service: ServiceId,
    /// The epoch of its persistence.
    pub epoch: u16,
}

impl Owner {
    /// The lowest bits of a word.
    fn of(word: u64) -> Self {
        Self { service: ServiceId(((word >> 16) as u16).wrapping_sub(1)), epoch: word as u16 }
    }

    fn word(self) -> u64 {
        debug_assert!(self.service.0 != u16::MAX);
        (u64::from(self.service.0) + 1) << 16 | u64::from(self.epoch)
    }
}

/// A key, which lies in a table as words that are written one by one.
pub trait Key: Copy + Eq + Debug {
    /// How many.
    const WORDS: usize;

    /// The key with these words, by number.
    fn read(word: impl Fn(usize) -> u64) -> Self;

    /// Hands over its words with their numbers.
    fn write(self, put: impl Fn(usize, u64));

    /// Where its template belongs.
    fn hash(self, key: &HashKey) -> u64;

    /// Whose template it is.
    fn owner(self) -> Owner;

    /// First address of the client network.
    fn address(self) -> IpAddr;

    /// Whether it may be one, whoever has written it.
    fn is_sound(self) -> bool;

    /// Whether it is of the same virtual server and the same epoch as `other`.
    fn is_beside(self, other: Self) -> bool;
}

/// Of a network of IPv4 clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TemplateKey(pub(super) u64);

impl TemplateKey {
    /// The network of `client` that has a prefix of `prefix` bits (0 to 32), towards `service`. `epoch` is another one
    /// when the prefix is.
    #[inline]
    pub fn new(client: Addr4, prefix: u8, service: ServiceId, epoch: u16) -> Self {
        debug_assert!(prefix <= 32);
        let network = client.network(prefix);
        Self(u64::from(network.bits()) << 32 | Owner { service, epoch }.word())
    }

    /// First address of the client network.
    pub fn client(self) -> Addr4 {
        Addr4::from_bits((self.0 >> 32) as u32)
    }
}

impl Key for TemplateKey {
    const WORDS: usize = 1;

    #[inline(always)]
    fn read(word: impl Fn(usize) -> u64) -> Self {
        Self(word(0))
    }

    #[inline(always)]
    fn write(self, put: impl Fn(usize, u64)) {
        put(0, self.0);
    }

    #[inline(always)]
    fn hash(self, key: &HashKey) -> u64 {
        key.hash(self.0)
    }

    #[inline(always)]
    fn owner(self) -> Owner {
        Owner::of(self.0)
    }

    fn address(self) -> IpAddr {
        self.client().into()
    }

    fn is_sound(self) -> bool {
        self.owner().service != ServiceId::NONE
    }

    #[inline(always)]
    fn is_beside(self, other: Self) -> bool {
        (self.0 ^ other.0) as u32 == 0
    }
}

/// Of a network of IPv6 clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TemplateKey6 {
    /// Upper half first.
    network: [u64; 2],
    owner: u64,
}

impl TemplateKey6 {
    /// As [`TemplateKey::new`], with a prefix of 0 to 128 bits.
    pub fn new(client: Ipv6Addr, prefix: u8, service: ServiceId, epoch: u16) -> Self {
        debug_assert!(prefix <= 128);
        let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
        let network = client.to_bits() & mask;
        Self { network: [(network >> 64) as u64, network as u64], owner: Owner { service, epoch }.word() }
    }

    /// Of a call of clients of a network: in its place stands the digest of both, so that there is one for each call. `secret` is
    /// that of the table.
    pub fn of_call(
        id: &[u8],
        (client, prefix): (Ipv6Addr, u8),
        Owner { service, epoch }: Owner,
        secret: &HashKey,
    ) -> Self {
        let network = Self::new(client, prefix, service, epoch).network;
        let [one, other] = secret.parts();
        let mut hasher = SipHasher13::new_with_keys(one, other);
        network.into_iter().for_each(|half| hasher.write(&half.to_le_bytes()));
        hasher.write(id);
        let digest = hasher.finish128();
        Self { network: [digest.h1, digest.h2], owner: Owner { service, epoch }.word() }
    }

    /// The network, or the digest of a call.
    pub fn network(self) -> [u64; 2] {
        self.network
    }
}

impl Key for TemplateKey6 {
    const WORDS: usize = 3;

    fn read(word: impl Fn(usize) -> u64) -> Self {
        Self { network: [word(0), word(1)], owner: word(2) }
    }

    fn write(self, put: impl Fn(usize, u64)) {
        let [upper, lower] = self.network;
        [upper, lower, self.owner].into_iter().enumerate().for_each(|(number, word)| put(number, word));
    }

    fn hash(self, key: &HashKey) -> u64 {
        let [upper, lower] = self.network;
        key.hash(key.hash(key.hash(lower) ^ upper) ^ self.owner)
    }

    fn owner(self) -> Owner {
        Owner::of(self.owner)
    }

    fn address(self) -> IpAddr {
        let [upper, lower] = self.network;
        Ipv6Addr::from_bits(u128::from(upper) << 64 | u128::from(lower)).into()
    }

    fn is_sound(self) -> bool {
        let owner = self.owner();
        owner.service != ServiceId::NONE && owner.word() == self.owner
    }

    fn is_beside(self, other: Self) -> bool {
        self.owner == other.owner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL_ONES: Addr4 = Addr4::new(255, 255, 255, 255);

    #[test]
    fn keys_hold_the_network_the_virtual_server_and_the_epoch() {
        let key = TemplateKey::new(Addr4::new(10, 1, 2, 255), 24, ServiceId(65_534), 443);
        let owner = Owner { service: ServiceId(65_534), epoch: 443 };
        assert_eq!((key.client(), key.owner()), (Addr4::new(10, 1, 2, 0), owner));
        assert_eq!(key, TemplateKey::new(Addr4::new(10, 1, 2, 7), 24, ServiceId(65_534), 443));
        assert_eq!(TemplateKey::new(ALL_ONES, 0, ServiceId(0), 0).client(), Addr4::UNSPECIFIED);
        assert_eq!(TemplateKey::new(ALL_ONES, 1, ServiceId(0), 0).client(), Addr4::new(128, 0, 0, 0));
        assert_eq!(TemplateKey::new(ALL_ONES, 32, ServiceId(0), 0).client(), ALL_ONES);
        assert_ne!(TemplateKey::new(Addr4::UNSPECIFIED, 32, ServiceId(0), 0).0, 0);
    }

    #[test]
    fn keys_of_ipv6_hold_the_network_of_every_prefix() {
        bolero::check!().with_type::<([u8; 16], u8, u16, u16)>().for_each(
            |&(octets, prefix, service, epoch)| {
                let (client, prefix) = (Ipv6Addr::from(octets), prefix % 129);
                let owner = Owner { service: ServiceId(service % u16::MAX), epoch };
                let key = TemplateKey6::new(client, prefix, owner.service, epoch);
                let net = ipnet::Ipv6Net::new(client, prefix).expect("a prefix length");
                assert_eq!((key.address(), key.owner()), (net.network().into(), owner));
                assert_eq!(key, TemplateKey6::new(net.broadcast(), prefix, owner.service, epoch));
                let other = Ipv6Addr::from_bits(client.to_bits() ^ 1 << (128 - u32::from(prefix)).min(127));
                let other = TemplateKey6::new(other, prefix, owner.service, epoch);
                assert_eq!(other == key, prefix == 0);
                assert!(other.is_beside(key) && TemplateKey6::read(|word| words(key)[word]) == key);
            },
        );
    }

    fn words(key: TemplateKey6) -> [u64; 3] {
        let words: [std::cell::Cell<u64>; 3] = Default::default();
        key.write(|number, word| words[number].set(word));
        words.map(|word| word.get())
    }
}
