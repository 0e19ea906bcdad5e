//! What control says about a virtual server to have its scheduler built, and how one list of real servers
//! came from the one before.
//!
//! Off the packet path: everything here may allocate.

use std::collections::HashMap;
use std::net::IpAddr;

use weir_config::model::{Scheduler, SchedulerFlags};

/// Sizes that the table of `mh` may have: primes, as the kernel's build option offers them.
pub const MAGLEV_TABLE_SIZES: [u32; 10] = [251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131_071];

/// A virtual server as its scheduler sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceDescription {
    /// The method.
    pub scheduler: Scheduler,
    /// Flags of sh and mh.
    pub flags: SchedulerFlags,
    /// Seeds, sizes and times.
    pub options: Options,
    /// In list order: the server added last comes first.
    pub servers: Vec<ServerDescription>,
}

/// A real server as a scheduler sees it when its tables are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerDescription {
    /// Stands for the real server (address and port) within its virtual server, through edits and also
    /// through removal and return, as a kernel's real server comes back from its trash list. Never reused
    /// for another one.
    pub id: u32,
    /// The RIP.
    pub address: IpAddr,
    /// The real server's port; 0 in services that are a mark or have port 0.
    pub port: u16,
    /// 0 to 65,535; 0: quiesced.
    pub weight: u32,
    /// The weight at adding, changed since by edits to another weight than 0 only: `mh` fills its table by
    /// it, so a quiesced server keeps its slots. See [`ServiceDescription::follow`].
    pub last_weight: u32,
    /// Goes up with each edit, so that an edit which changes nothing is seen: it moves the pointer of wrr.
    pub revision: u32,
}

impl ServerDescription {
    /// A server as it is when added.
    pub fn new(id: u32, address: IpAddr, port: u16, weight: u32) -> Self {
        Self { id, address, port, weight, last_weight: weight, revision: 0 }
    }

    /// Sets the weight as an edit of the server does.
    pub fn edit(&mut self, weight: u32) {
        self.weight = weight;
        if weight != 0 {
            self.last_weight = weight;
        }
        self.revision = self.revision.wrapping_add(1);
    }
}

impl ServiceDescription {
    /// Takes over what a kernel would remember from `old`, for descriptions that are made from scratch for
    /// each version instead of with [`ServerDescription::edit`]: the last weight of quiesced servers, and
    /// revisions, which go up where a weight changed.
    ///
    /// Call it before [`crate::sched::Scheduler::build`] and [`crate::sched::State::carry_over`].
    pub fn follow(&mut self, old: &ServiceDescription) {
        let transition = Transition::between(&old.servers, &self.servers);
        for &(before, after) in &transition.kept {
            let weight = self.servers[after].weight;
            self.servers[after] = old.servers[before];
            if weight != old.servers[before].weight {
                self.servers[after].edit(weight);
            }
        }
    }
}

impl ServiceDescription {
    /// Has those of `old` that stayed, and have one of these names, count as edited though they may be as they were. Call it after
    /// [`ServiceDescription::follow`].
    pub fn revise(&mut self, old: &ServiceDescription, names: &[u32]) {
        let known = |server: &ServerDescription| old.servers.iter().find(|before| before.id == server.id);
        for server in self.servers.iter_mut().filter(|server| names.contains(&server.id)) {
            if known(server).is_some_and(|before| before.revision == server.revision) {
                server.edit(server.weight);
            }
        }
    }
}

/// Why a scheduler could not be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Not one of [`MAGLEV_TABLE_SIZES`].
    #[error("{0} is not a table size of mh")]
    TableSize(u32),
    /// Each server needs a slot in the table of `mh`.
    #[error("{servers} real servers are more than the {limit} that mh can serve")]
    TooManyServers {
        /// Real servers in the list.
        servers: usize,
        /// The size of the table, at most 65,534.
        limit: usize,
    },
}

/// Seeds, sizes and times of the schedulers. The defaults are the kernel's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// mh: slots, one of [`MAGLEV_TABLE_SIZES`]. Equal on all directors.
    pub maglev_table_size: u32,
    /// mh: keys of its two hashes. Equal on all directors.
    pub maglev_keys: MaglevKeys,
    /// twos: seed of the random sequences, one per worker.
    pub twos_seed: u64,
    /// lblc, lblcr: destinations per worker beyond which idle ones are dropped early, 16 to 2^24 (else the
    /// nearer of the two). Half as many again are room to spare; beyond that no destination is added.
    /// With the default a worker's memory takes 0.8 MiB for lblc and 1.4 MiB for lblcr.
    pub locality_entries: u32,
    /// lblc, lblcr: key of the hash that finds a destination. No influence on picks. Clients may choose
    /// destinations, so control sets a random key per process.
    pub locality_keys: [u64; 2],
    /// lblc: seconds after which an unused destination is forgotten.
    pub lblc_expiration_secs: u32,
    /// lblcr: seconds after which an unused destination is forgotten, and a set of servers that did not
    /// change loses one.
    pub lblcr_expiration_secs: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            maglev_table_size: 4093,
            maglev_keys: MaglevKeys::default(),
            twos_seed: 0,
            locality_entries: 16 * 1024,
            locality_keys: [0, 0],
            lblc_expiration_secs: 24 * 60 * 60,
            lblcr_expiration_secs: 24 * 60 * 60,
        }
    }
}

/// Keys of the two hashes of `mh`, each standing for both words of a SipHash key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaglevKeys {
    /// For the offset of a server's permutation, and for clients.
    pub offset: u64,
    /// For the skip of a server's permutation.
    pub skip: u64,
}

impl MaglevKeys {
    /// The keys for a seed from the file: the kernel's, each plus the seed. Seed 0 picks as the kernel.
    pub fn from_seed(seed: u64) -> Self {
        Self { offset: 2_654_435_761_u64.wrapping_add(seed), skip: 2_654_446_892_u64.wrapping_add(seed) }
    }
}

impl Default for MaglevKeys {
    fn default() -> Self {
        Self::from_seed(0)
    }
}

/// How a list became another one by the kernel's operations: servers are deleted anywhere, edited in place
/// and added at the head.
///
/// A server deleted and added again between the two lists counts as both, which shows in its place before
/// servers that it stood behind. (Not if it was at the head already; only the pointer of rr would tell.)
#[derive(Debug)]
pub(super) struct Transition {
    /// Index in the old and in the new list of the servers that stayed, in list order.
    pub(super) kept: Vec<(usize, usize)>,
    /// The first so many servers of the new list were added.
    pub(super) added: usize,
}

impl Transition {
    pub(super) fn between(old: &[ServerDescription], new: &[ServerDescription]) -> Self {
        let old_index: HashMap<u32, usize> = old.iter().enumerate().map(|(i, s)| (s.id, i)).collect();
        let mut kept = Vec::with_capacity(old.len().min(new.len()));
        let mut bound = old.len();
        // From the tail, since what was kept stands behind all that was added.
        for (after, server) in new.iter().enumerate().rev() {
            match old_index.get(&server.id) {
                Some(&before) if before < bound => {
                    kept.push((before, after));
                    bound = before;
                }
                _ => break,
            }
        }
        kept.reverse();
        Self { added: new.len() - kept.len(), kept }
    }

    /// Whether nothing was added, deleted or edited.
    pub(super) fn is_empty(&self, old: &[ServerDescription], new: &[ServerDescription]) -> bool {
        self.added == 0
            && self.kept.len() == old.len()
            && self.kept.iter().all(|&(before, after)| !edited(&old[before], &new[after]))
    }
}

/// Whether a server that stayed was edited between two versions.
pub(super) fn edited(old: &ServerDescription, new: &ServerDescription) -> bool {
    old.weight != new.weight || old.revision != new.revision
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn list(ids: &[u32]) -> Vec<ServerDescription> {
        ids.iter().map(|&id| ServerDescription::new(id, Ipv4Addr::from(id).into(), 80, 1)).collect()
    }

    #[test]
    fn a_server_added_again_counts_as_deleted_and_added() {
        let transition = Transition::between(&list(&[3, 2, 1]), &list(&[1, 3, 2]));
        assert_eq!((transition.added, transition.kept), (1, vec![(0, 1), (1, 2)]));
    }

    #[test]
    fn deletes_and_adds_are_told_apart() {
        let transition = Transition::between(&list(&[5, 4, 3, 2, 1]), &list(&[7, 6, 5, 3, 1]));
        assert_eq!((transition.added, transition.kept), (2, vec![(0, 2), (2, 3), (4, 4)]));
        let transition = Transition::between(&list(&[2, 1]), &list(&[]));
        assert_eq!((transition.added, transition.kept), (0, vec![]));
    }

    #[test]
    fn a_followed_list_keeps_the_last_weight_of_quiesced_servers() {
        let service = |weights: &[(u32, u32)]| ServiceDescription {
            scheduler: Scheduler::Mh,
            flags: SchedulerFlags::default(),
            options: Options::default(),
            servers: weights
                .iter()
                .map(|&(id, weight)| ServerDescription::new(id, Ipv4Addr::from(id).into(), 80, weight))
                .collect(),
        };
        let mut versions = vec![service(&[(2, 5), (1, 3)])];
        for next in
            [service(&[(2, 0), (1, 3)]), service(&[(3, 0), (2, 0), (1, 4)]), service(&[(2, 0), (3, 0)])]
        {
            let mut next = next;
            next.follow(&versions[versions.len() - 1]);
            versions.push(next);
        }
        let seen: Vec<Vec<_>> = versions
            .iter()
            .map(|v| v.servers.iter().map(|s| (s.id, s.weight, s.last_weight, s.revision)).collect())
            .collect();
        assert_eq!(seen[1], [(2, 0, 5, 1), (1, 3, 3, 0)]);
        assert_eq!(seen[2], [(3, 0, 0, 0), (2, 0, 5, 1), (1, 4, 4, 1)]);
        // 2 went to the head: deleted and added again, with weight 0.
        assert_eq!(seen[3], [(2, 0, 0, 0), (3, 0, 0, 0)]);
    }
}
