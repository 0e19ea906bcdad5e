//! What differs between two configurations, and how many live connections each difference touches.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use weir_api::edits::{Change, Changes, Counts};
use weir_config::model::{Config, Identity, RealServer, VirtualServer};
use weir_dataplane::snapshot::Snapshot;

/// Differences that are told one by one.
const OBJECTS_MAX: usize = 1_000;

/// Live connections by virtual and real server.
struct Live(HashMap<(Identity, IpAddr, u16), u64>);

impl Live {
    fn of(former: &Config, snapshot: &Snapshot) -> Self {
        let identities: HashMap<&str, Identity> =
            former.virtual_servers.iter().map(|server| (server.name.as_str(), server.identity())).collect();
        let mut live = HashMap::new();
        for server in snapshot.servers().filter(|server| server.is_present) {
            let service = snapshot.service(server.service);
            let identity = service.and_then(|service| identities.get(service.name.as_str()));
            if let Some(identity) = identity {
                live.insert((*identity, server.ip(), server.named_port), u64::from(server.live.total()));
            }
        }
        Self(live)
    }

    fn at(&self, service: &VirtualServer, real: &RealServer) -> u64 {
        self.0.get(&(service.identity(), real.address, real.port)).copied().unwrap_or(0)
    }

    fn all(&self, service: &VirtualServer) -> u64 {
        service.real_servers.iter().map(|real| self.at(service, real)).sum()
    }
}

/// From what is in force to what is to be.
pub(crate) fn changes(former: &Config, next: &Config, snapshot: &Snapshot) -> Changes {
    let live = Live::of(former, snapshot);
    let mut changes = Changes { tables: tables(former, next), ..Changes::default() };
    let known: HashMap<Identity, &VirtualServer> =
        former.virtual_servers.iter().map(|server| (server.identity(), server)).collect();
    let wanted: HashMap<Identity, &VirtualServer> =
        next.virtual_servers.iter().map(|server| (server.identity(), server)).collect();
    for server in former.virtual_servers.iter().filter(|it| !wanted.contains_key(&it.identity())) {
        let connections = live.all(server);
        changes.virtual_servers.removed += 1;
        changes.connections_removed += connections;
        tell(&mut changes, "removed", server, None, connections);
        for real in &server.real_servers {
            changes.real_servers.removed += 1;
            tell(&mut changes, "removed", server, Some(real), live.at(server, real));
        }
    }
    for server in &next.virtual_servers {
        match known.get(&server.identity()) {
            None => {
                changes.virtual_servers.added += 1;
                tell(&mut changes, "added", server, None, 0);
                for real in &server.real_servers {
                    changes.real_servers.added += 1;
                    tell(&mut changes, "added", server, Some(real), 0);
                }
            }
            Some(former) if *former != server => within(&mut changes, former, server, &live),
            Some(_) => {}
        }
    }
    changes
}

/// Whether nothing differs.
pub(crate) fn is_same(former: &Config, next: &Config) -> bool {
    let known: HashMap<Identity, &VirtualServer> =
        former.virtual_servers.iter().map(|server| (server.identity(), server)).collect();
    let is_known = |server: &VirtualServer| known.get(&server.identity()) == Some(&server);
    former.virtual_servers.len() == next.virtual_servers.len()
        && next.virtual_servers.iter().all(is_known)
        && tables(former, next).is_empty()
}

/// How many there are of each, for the log.
pub(crate) fn in_words(changes: &Changes) -> String {
    let of = |what: &str, counts: &Counts| {
        let parts = [(counts.added, "added"), (counts.changed, "changed"), (counts.removed, "removed")];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, how)| format!("{count} {how}"))
            .collect();
        (!parts.is_empty()).then(|| format!("{what} {}", parts.join(", ")))
    };
    let mut parts: Vec<String> = Vec::new();
    parts.extend(of("virtual servers", &changes.virtual_servers));
    parts.extend(of("real servers", &changes.real_servers));
    if !changes.tables.is_empty() {
        parts.push(format!("other in {}", changes.tables.join(", ")));
    }
    match parts.is_empty() {
        true => "nothing differs".to_owned(),
        false => parts.join("; "),
    }
}

/// Of a virtual server that stays.
fn within(changes: &mut Changes, former: &VirtualServer, next: &VirtualServer, live: &Live) {
    let itself = |server: &VirtualServer| VirtualServer { real_servers: Vec::new(), ..server.clone() };
    if itself(former) != itself(next) {
        changes.virtual_servers.changed += 1;
        changes.connections_changed += live.all(former);
        tell(changes, "changed", next, None, live.all(former));
    }
    let key = |real: &RealServer| (real.address, real.port);
    let known: HashMap<_, _> = former.real_servers.iter().map(|real| (key(real), real)).collect();
    let wanted: HashMap<_, _> = next.real_servers.iter().map(|real| (key(real), real)).collect();
    for real in former.real_servers.iter().filter(|real| !wanted.contains_key(&key(real))) {
        changes.real_servers.removed += 1;
        changes.connections_removed += live.at(former, real);
        tell(changes, "removed", next, Some(real), live.at(former, real));
    }
    for real in &next.real_servers {
        match known.get(&key(real)) {
            None => {
                changes.real_servers.added += 1;
                tell(changes, "added", next, Some(real), 0);
            }
            Some(former_real) if *former_real != real => {
                changes.real_servers.changed += 1;
                changes.connections_changed += live.at(former, real);
                tell(changes, "changed", next, Some(real), live.at(former, real));
            }
            Some(_) => {}
        }
    }
}

fn tell(
    changes: &mut Changes,
    what: &str,
    server: &VirtualServer,
    real: Option<&RealServer>,
    connections: u64,
) {
    if changes.objects.len() < OBJECTS_MAX {
        changes.objects.push(Change {
            change: what.to_owned(),
            virtual_server: server.name.clone(),
            real_server: real.map(|real| SocketAddr::new(real.address, real.port).to_string()),
            connections,
        });
    }
}

/// Other tables that differ, by name.
fn tables(former: &Config, next: &Config) -> Vec<String> {
    let differ = [
        ("control", former.control != next.control),
        ("http", former.http != next.http),
        ("memory", former.memory != next.memory),
        ("workers", former.workers != next.workers),
        ("connections", former.connections != next.connections),
        ("schedulers", former.schedulers != next.schedulers),
        ("health", former.health != next.health),
        ("port", former.ports != next.ports),
        ("route", former.routes != next.routes),
        ("neighbor", former.neighbors != next.neighbors),
        ("mark", former.marks != next.marks),
        ("vrrp", former.vrrp != next.vrrp),
        ("vrrp_sync_group", former.vrrp_groups != next.vrrp_groups),
        ("announce", former.announces != next.announces),
    ];
    differ.iter().filter(|(_, differs)| *differs).map(|(name, _)| (*name).to_owned()).collect()
}
