//! mh: Maglev hashing, a table of prime size that each server fills along its own permutation.
//!
//! It keeps no state: directors with the same list, table size and keys pick alike. When a server goes,
//! nearly all clients of the others keep theirs.

use std::net::IpAddr;

use siphasher::sip::SipHasher13;
use weir_config::model::SchedulerFlags;

use super::hash::address_key;
use super::service::{BuildError, MAGLEV_TABLE_SIZES, Options, ServerDescription};
use super::{PickKey, Servers, gcd};

/// The kernel's keyed hash of a number (`hsiphash_1u32` on 64-bit machines): SipHash-1-3 over its four
/// bytes, little endian, cut to 32 bits. Both key words are the same.
#[derive(Debug, Clone, Copy)]
struct NumberHash(SipHasher13);

impl NumberHash {
    fn new(key: u64) -> Self {
        Self(SipHasher13::new_with_keys(key, key))
    }

    fn of(&self, number: u32) -> u32 {
        self.0.hash(&number.to_le_bytes()) as u32
    }
}

/// The table of mh.
#[derive(Debug)]
pub(super) struct Maglev {
    /// Index of the server per slot; empty if no server ever had a weight.
    table: Box<[u16]>,
    hash: NumberHash,
    flags: SchedulerFlags,
}

impl Maglev {
    /// Fills the table.
    pub(super) fn build(
        servers: &[ServerDescription],
        flags: SchedulerFlags,
        options: &Options,
    ) -> Result<Self, BuildError> {
        let size = options.maglev_table_size;
        let Some(position) = MAGLEV_TABLE_SIZES.iter().position(|&known| known == size) else {
            return Err(BuildError::TableSize(size));
        };
        let limit = (size as usize).min(usize::from(u16::MAX) - 1);
        if servers.len() > limit {
            return Err(BuildError::TooManyServers { servers: servers.len(), limit });
        }
        // The kernel's sizes are those of its build indices 8 to 17; half the index is the number of bits
        // that a server's turns may have.
        let bits = (8 + position as u32) / 2;
        let offset = NumberHash::new(options.maglev_keys.offset);
        let skip = NumberHash::new(options.maglev_keys.skip);
        let turns = turns(servers, bits);
        let walks = servers.iter().zip(turns).enumerate().filter(|&(_, (_, turns))| turns > 0);
        let walks = walks
            .map(|(index, (server, turns))| {
                let key = u32::from(server.port).wrapping_add(address_key(server.address));
                // Indices are below the limit checked above.
                let owner = index as u16;
                Permutation { owner, turns, slot: offset.of(key) % size, skip: skip.of(key) % (size - 1) + 1 }
            })
            .collect();
        Ok(Self { table: fill(walks, size), hash: offset, flags })
    }

    /// The slot of a client, how many there are, and whose it is.
    pub(super) fn place(&self, key: &PickKey) -> (u32, u32, Option<usize>) {
        if self.table.is_empty() {
            return (0, 0, None);
        }
        let slot = self.slot(self.number(key));
        (slot, self.table.len() as u32, self.table.get(slot as usize).map(|owner| usize::from(*owner)))
    }

    /// What a client is to the hash.
    #[inline(always)]
    fn number(&self, key: &PickKey) -> u32 {
        let port = if self.flags.port { u32::from(key.source_port) } else { 0 };
        address_key(key.source).wrapping_add(port)
    }

    pub(super) fn pick(&self, servers: &impl Servers, key: &PickKey) -> Option<usize> {
        if self.table.is_empty() {
            return None;
        }
        let number = self.number(key);
        let owner = |slot: u32| Some(usize::from(self.table[slot as usize])).filter(|&i| servers.usable(i));
        let first_slot = self.slot(number);
        let first = owner(first_slot);
        if first.is_some() || !self.flags.fallback {
            return first;
        }
        // With no server to be found the search would go over the whole table for nothing.
        if !(0..servers.len()).any(|i| servers.usable(i)) {
            return None;
        }
        let size = self.table.len() as u32;
        let number_at = |offset: u32| number.wrapping_add((offset + first_slot) % size);
        (0..size).find_map(|offset| owner(self.slot(number_at(offset))))
    }

    /// Whose slot a client of this address and port has, whatever becomes of that real server.
    pub(super) fn owner(&self, source: IpAddr, source_port: u16) -> Option<usize> {
        if self.table.is_empty() {
            return None;
        }
        let port = if self.flags.port { u32::from(source_port) } else { 0 };
        Some(usize::from(self.table[self.slot(address_key(source).wrapping_add(port)) as usize]))
    }

    /// The slot of a client, for a table that is not empty.
    #[inline]
    pub(super) fn slot(&self, number: u32) -> u32 {
        self.hash.of(number) % self.table.len() as u32
    }
}

/// How many slots in a row each server takes per round: its last weight by the greatest common divisor,
/// shifted so that the greatest has at most `bits` bits, and at least 1 unless the weight is 0.
fn turns(servers: &[ServerDescription], bits: u32) -> Vec<u32> {
    let divisor = servers.iter().fold(0, |divisor, server| gcd(divisor, server.last_weight)).max(1);
    let max = servers.iter().map(|server| server.last_weight / divisor).max().unwrap_or(0);
    let shift = (u32::BITS - max.leading_zeros()).saturating_sub(bits);
    let turns = |server: &ServerDescription| match server.last_weight {
        0 => 0,
        weight => ((weight / divisor) >> shift).max(1),
    };
    servers.iter().map(turns).collect()
}

/// A server's walk over the slots.
struct Permutation {
    owner: u16,
    turns: u32,
    slot: u32,
    skip: u32,
}

/// Lets the servers take slots in turn until the table is full.
fn fill(mut walks: Vec<Permutation>, size: u32) -> Box<[u16]> {
    /// No server: more than the index of any.
    const FREE: u16 = u16::MAX;
    if walks.is_empty() {
        return Box::default();
    }
    let mut table = vec![FREE; size as usize].into_boxed_slice();
    let mut free = size;
    loop {
        for walk in &mut walks {
            for _ in 0..walk.turns {
                while table[walk.slot as usize] != FREE {
                    walk.slot = (walk.slot + walk.skip) % size;
                }
                table[walk.slot as usize] = walk.owner;
                free -= 1;
                if free == 0 {
                    return table;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_config::model::Scheduler;

    use super::*;
    use crate::sched::director_model::description;
    use crate::sched::service::MaglevKeys;

    fn table(weights: &[u32]) -> Maglev {
        let service = description(Scheduler::Mh, weights);
        Maglev::build(&service.servers, service.flags, &service.options).unwrap()
    }

    /// The owners' letters, servers being added as A, B, C.
    fn letters(maglev: &Maglev, servers: u8) -> String {
        maglev.table.iter().map(|&owner| char::from(b'A' + servers - 1 - owner as u8)).collect()
    }

    #[test]
    fn hashes_are_the_kernels() {
        let keys = MaglevKeys::default();
        assert_eq!(NumberHash::new(keys.offset).of(1), 0x16ec_66b2);
        assert_eq!(NumberHash::new(keys.skip).of(1), 0x8210_aad1);
        assert_eq!(NumberHash::new(keys.offset).of(0xc000_0201), 0x9288_9c88);
    }

    #[test]
    fn tables_are_filled_as_the_kernels() {
        for (weights, counts, start) in [
            ([1, 1, 1], [1364, 1364, 1365], "ABBCCABCCAABBAACBBAACBCCBABAACCB"),
            ([3, 2, 1], [2046, 1364, 683], "AABBAABCCAABBAACBBAACBCCBABAAAAB"),
        ] {
            let letters = letters(&table(&weights), 3);
            assert_eq!(counts, ['A', 'B', 'C'].map(|server| letters.matches(server).count()));
            assert_eq!(&letters[..32], start);
        }
    }

    #[test]
    fn great_weights_are_cut_to_the_tables_bits() {
        let service = description(Scheduler::Mh, &[65_535, 1, 0, 1024]);
        // List order is the reverse: 1024, 0, 1, 65535.
        assert_eq!(turns(&service.servers, 6), [1, 0, 1, 63]);
    }

    #[test]
    fn only_a_fraction_moves_when_a_server_goes() {
        let (with, without) = (table(&[1; 10]), table(&[1; 9]));
        // The tenth, added last, is at the head: the others' indices are one less without it.
        let moved = with.table.iter().zip(&without.table).filter(|&(&a, &b)| a != 0 && a - 1 != b).count();
        // Maglev's promise is few moves, not none: the paper measures some percent at this ratio.
        assert!(moved * 100 < with.table.len() * 5, "{moved} of {} slots moved", with.table.len());
    }

    #[test]
    fn every_size_fills_and_bad_ones_are_refused() {
        for size in MAGLEV_TABLE_SIZES {
            let mut service = description(Scheduler::Mh, &[2, 1, 0, 5]);
            service.options.maglev_table_size = size;
            let maglev = Maglev::build(&service.servers, service.flags, &service.options).unwrap();
            assert_eq!(maglev.table.len(), size as usize);
            assert!(maglev.table.iter().all(|&owner| [0, 2, 3].contains(&owner)));
        }
        let mut service = description(Scheduler::Mh, &[1; 252]);
        service.options.maglev_table_size = 251;
        let error = Maglev::build(&service.servers, service.flags, &service.options).unwrap_err();
        assert_eq!(error, BuildError::TooManyServers { servers: 252, limit: 251 });
        service.options.maglev_table_size = 4096;
        let error = Maglev::build(&service.servers, service.flags, &service.options).unwrap_err();
        assert_eq!(error, BuildError::TableSize(4096));
    }
}
