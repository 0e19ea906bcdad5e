//! sh and dh: a table of 256 buckets dealt to the servers, indexed by a hash of the client's address (sh)
//! or of the address it talks to (dh).
//!
//! They keep no state: equal tables pick alike on every worker and director. A server's index is below 256
//! in the table, since the list is dealt from its head and each server gets a bucket at least.

use std::net::IpAddr;

use weir_config::model::SchedulerFlags;

use super::service::ServerDescription;
use super::{PickKey, Servers};

/// Buckets in a table.
const BUCKETS: usize = 256;

/// An address as hash schedulers see it: an IPv4 address as a number, of an IPv6 address the exclusive or
/// of its four words.
pub(super) fn address_key(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            // Each `as` takes the lowest word.
            (bits >> 96) as u32 ^ (bits >> 64) as u32 ^ (bits >> 32) as u32 ^ bits as u32
        }
    }
}

/// The kernel's multiplicative hash (`hash_32`), cut to the 8 bits of a bucket number.
pub(super) fn bucket_hash(key: u32) -> u8 {
    (key.wrapping_mul(0x61c8_8647) >> 24) as u8
}

/// The table of sh.
#[derive(Debug)]
pub(super) struct SourceHash {
    /// Index of the server per bucket; `None` if the list is empty.
    table: Option<Box<[u8; BUCKETS]>>,
    flags: SchedulerFlags,
}

impl SourceHash {
    /// Deals the buckets: as many in a row as the weight says, one to a quiesced server, round and round.
    pub(super) fn build(servers: &[ServerDescription], flags: SchedulerFlags) -> Self {
        let rows = servers.iter().map(|server| server.weight.max(1) as usize);
        Self { table: deal(rows), flags }
    }

    /// The bucket of a client, how many there are, and whose it is.
    pub(super) fn place(&self, key: &PickKey) -> (u32, u32, Option<usize>) {
        place_of(self.table.as_deref(), self.hash(key))
    }

    #[inline(always)]
    fn hash(&self, key: &PickKey) -> u8 {
        let port = if self.flags.port { u32::from(key.source_port) } else { 0 };
        bucket_hash(address_key(key.source).wrapping_add(port))
    }

    pub(super) fn pick(&self, servers: &impl Servers, key: &PickKey) -> Option<usize> {
        let table = self.table.as_deref()?;
        let hash = self.hash(key);
        let owner = |bucket: u8| Some(usize::from(table[usize::from(bucket)])).filter(|&i| servers.usable(i));
        let first = owner(hash);
        if first.is_some() || !self.flags.fallback {
            return first;
        }
        // The kernel adds the offset to the bucket number and takes that very number as the first offset,
        // so the search begins at twice the bucket's number.
        (0..=u8::MAX).find_map(|offset| owner(hash.wrapping_add(hash).wrapping_add(offset)))
    }
}

/// The table of dh.
#[derive(Debug)]
pub(super) struct DestinationHash {
    /// Index of the server per bucket; `None` if the list is empty.
    table: Option<Box<[u8; BUCKETS]>>,
}

impl DestinationHash {
    /// Deals the buckets one by one. The weights have no part in it, so an edit changes nothing.
    pub(super) fn build(servers: &[ServerDescription]) -> Self {
        Self { table: deal(servers.iter().map(|_| 1)) }
    }

    /// The bucket of a destination, how many there are, and whose it is.
    pub(super) fn place(&self, key: &PickKey) -> (u32, u32, Option<usize>) {
        place_of(self.table.as_deref(), bucket_hash(address_key(key.destination)))
    }

    pub(super) fn pick(&self, servers: &impl Servers, key: &PickKey) -> Option<usize> {
        let table = self.table.as_deref()?;
        let bucket = bucket_hash(address_key(key.destination));
        Some(usize::from(table[usize::from(bucket)])).filter(|&i| servers.usable(i))
    }
}

fn place_of(table: Option<&[u8; BUCKETS]>, bucket: u8) -> (u32, u32, Option<usize>) {
    (u32::from(bucket), BUCKETS as u32, table.map(|table| usize::from(table[usize::from(bucket)])))
}

/// Fills a table with rows of the given lengths (each at least 1), over and over until it is full.
fn deal(rows: impl ExactSizeIterator<Item = usize> + Clone) -> Option<Box<[u8; BUCKETS]>> {
    if rows.len() == 0 {
        return None;
    }
    let mut table = Box::new([0; BUCKETS]);
    let owners = rows.enumerate().cycle().flat_map(|(index, row)| std::iter::repeat_n(index as u8, row));
    table.iter_mut().zip(owners).for_each(|(bucket, owner)| *bucket = owner);
    Some(table)
}
