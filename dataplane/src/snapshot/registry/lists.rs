//! The list of a virtual server, in the kernel's order, for its scheduler and for picks.

use hashbrown::{HashMap, HashSet};
use weir_config::model::{Scheduler as Kind, VirtualServer};

use super::{ServerEntry, ServiceEntry};
use crate::sched::untracked::{Entrants, ServerHash};
use crate::sched::{ServerDescription, ServiceDescription};
use crate::snapshot::service::Candidate;

/// The real servers of the description's list.
pub(super) fn in_order<'a>(
    entry: &'a ServiceEntry,
    description: &ServiceDescription,
) -> Vec<&'a ServerEntry> {
    let by_name: HashMap<u32, &ServerEntry> =
        entry.servers.values().map(|server| (server.name.0, server)).collect();
    description.servers.iter().filter_map(|server| by_name.get(&server.id).copied()).collect()
}

/// The list as picks read it.
pub(super) fn candidates(in_order: &[&ServerEntry]) -> Box<[Candidate]> {
    let candidate = |ServerEntry { server, .. }: &&ServerEntry| Candidate {
        id: server.id,
        weight: server.weight,
        has_threshold: server.upper_threshold != 0,
        forwarding: server.forwarding,
        tallies: server.tallies.clone(),
    };
    in_order.iter().map(candidate).collect()
}

/// The list as flows that get no record choose from it. Its real servers are told by what the file names them by.
pub(super) fn entrants(in_order: &[&ServerEntry]) -> Entrants {
    let entrant = |ServerEntry { server, .. }: &&ServerEntry| {
        (ServerHash::new(server.ip(), server.named_port), server.weight)
    };
    Entrants::new(in_order.iter().map(entrant))
}

/// The kernel's list: what was there in its place, what is new at the head, the last one first.
///
/// Methods that keep no state have the order of the file instead, as a list that is new. What real servers have been through, as going
/// and coming back, is each director's own, and directors with the same file are to pick alike.
pub(super) fn list(
    entry: &ServiceEntry,
    wanted: &VirtualServer,
    old: Option<&ServiceDescription>,
) -> Vec<ServerDescription> {
    let described: HashMap<u32, ServerDescription> = wanted
        .real_servers
        .iter()
        .map(|real| {
            let id = entry.servers[&(real.address, real.port)].name.0;
            (id, ServerDescription::new(id, real.address, real.port, u32::from(real.weight)))
        })
        .collect();
    let is_by_file = matches!(wanted.scheduler, Kind::Mh | Kind::Sh | Kind::Dh | Kind::Fo);
    let old: &[ServerDescription] = old.filter(|_| !is_by_file).map_or(&[], |old| &old.servers);
    let kept: Vec<_> = old.iter().filter_map(|server| described.get(&server.id).copied()).collect();
    let kept_ids: HashSet<u32> = kept.iter().map(|server| server.id).collect();
    let added = wanted.real_servers.iter().rev().map(|real| entry.servers[&(real.address, real.port)].name.0);
    let added = added.filter(|id| !kept_ids.contains(id)).filter_map(|id| described.get(&id).copied());
    added.chain(kept.iter().copied()).collect()
}
