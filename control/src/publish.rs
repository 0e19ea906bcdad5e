//! From configuration to workers: builds snapshots and swaps them in. Reloading is all or nothing.
//!
//! What is served is the file with the verdicts of health checks laid over it ([`weir_health::overlay::effective`]); either of
//! them may change.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use anyhow::Result;
use tracing::{error, warn};
use weir_config::edit::Step;
use weir_config::model::{Config, Family, Identity, MacAddress, VirtualServer};
use weir_dataplane::conn::record::ServiceId;
use weir_dataplane::conn::template::Templates;
use weir_dataplane::director::Shared;
use weir_dataplane::sched::Options;
use weir_dataplane::snapshot::Snapshot;
use weir_dataplane::snapshot::publish::{Current, Masters, Publisher, Reader};
use weir_dataplane::snapshot::registry::{self, Change, Progress, Registry, RegistryError, Standing};
use weir_dataplane::snapshot::server::Server;
use weir_dataplane::snapshot::service::Service;
use weir_dataplane::snapshot::traffic::Traffic;
use weir_dataplane::snapshot::virtual_router::Fence;
use weir_health::checker::Handle;
use weir_health::overlay::{Overlay, effective, effective_service};

use crate::kept::Kept;
use crate::random::random_u64;

/// Real servers that were removed and still have their numbers: they cost memory, and an edit of their virtual server a look.
const LEFT_MAX: usize = 4_096;

/// See the module.
pub(crate) struct Publish {
    /// As the file says.
    file: Arc<Config>,
    /// Another with each change of the file.
    revision: u64,
    /// What health checks say.
    overlay: Arc<Overlay>,
    /// Persistence templates that there is room for, of IPv4 and of IPv6.
    room_for_templates: [usize; 2],
    macs: Vec<MacAddress>,
    registry: Registry,
    publisher: Publisher,
    workers: Vec<Shared>,
    templates: Arc<Templates>,
    /// Where numbers are written down for the next process.
    kept: Option<Kept>,
}

impl Publish {
    /// With the configuration that weir starts with, and who checks it.
    pub(crate) fn new(
        config: Config,
        health: &Handle,
        macs: Vec<MacAddress>,
        fences: Vec<Arc<Fence>>,
        (workers, templates): (Vec<Shared>, Arc<Templates>),
        (kept, standing): (Option<Kept>, &Standing),
    ) -> Result<Self> {
        let locality_keys = [random_u64()?, random_u64()?];
        let registry = Registry::new(workers.len(), Options { locality_keys, ..Options::default() });
        let mut registry = registry.with_fences(fences);
        let overlay = health.overlay().borrow().clone();
        registry::check(&config)?;
        if *standing != Standing::default() {
            registry.resume(&config, standing);
        }
        let first = registry.snapshot(&effective(&config, &overlay), &macs, Progress::default())?;
        first.servers().for_each(Server::recount);
        // Who nobody keeps need not be written down.
        let kept = kept.and_then(|mut kept| kept.begin(&first).then_some(kept));
        let room_for_templates = [config.templates(), config.ipv6_templates()];
        Ok(Self {
            file: Arc::new(config),
            revision: 0,
            overlay,
            room_for_templates,
            macs,
            registry,
            publisher: Publisher::new(first),
            workers,
            templates,
            kept,
        })
    }

    /// Whether connections outlive this process.
    pub(crate) fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// A worker's end.
    pub(crate) fn reader(&self) -> Reader {
        self.publisher.reader()
    }

    /// Persistence templates, which all workers share.
    pub(crate) fn templates(&self) -> Arc<Templates> {
        self.templates.clone()
    }

    /// What the file says.
    pub(crate) fn file(&self) -> Arc<Config> {
        self.file.clone()
    }

    /// Tells [`Publish::file`] from what it was before.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Other verdicts of health checks come into force. `false`: it takes [`Publish::renew`] for that.
    #[must_use]
    pub(crate) fn overlay(&mut self, overlay: Arc<Overlay>) -> bool {
        let former = std::mem::replace(&mut self.overlay, overlay);
        let servers = self.file.virtual_servers.iter();
        let changed = servers.filter(|server| self.overlay.differs(&former, &server.identity()));
        // What health has only heard of, as after an edit, is served already.
        let changed = changed.filter_map(|server| {
            let next = effective_service(server, &self.overlay);
            (next != effective_service(server, &former)).then_some(next)
        });
        let changed: Vec<VirtualServer> = changed.collect();
        if changed.is_empty() {
            return true;
        }
        let base = self.publisher.base(self.registry.amends_since());
        match self.registry.amend(base, &Change::put_all(&changed), &self.file) {
            Ok(Some(next)) => {
                self.put_in_force(next);
                true
            }
            // As a whole it may have numbers again that were given back.
            Ok(None) | Err(_) => false,
        }
    }

    /// Makes edits in what is served. False: it takes a whole snapshot ([`Publish::put_edited`]), and nothing has changed.
    ///
    /// # Errors
    /// Nothing has changed.
    pub(crate) fn amend(&mut self, steps: &[Step]) -> Result<bool, RegistryError> {
        let effective: Vec<Option<VirtualServer>> = steps
            .iter()
            .map(|step| match step {
                Step::Put(server) | Step::Edit(server, _) => Some(effective_service(server, &self.overlay)),
                Step::Remove(_) | Step::Timeouts(_) | Step::Zero(_) => None,
            })
            .collect();
        let change = |(step, server)| -> Option<Change<'_>> {
            let (step, server): (&_, &Option<_>) = (step, server);
            match (step, server) {
                (Step::Edit(_, edited), Some(server)) => Some(Change::Edit(server, edited)),
                (_, Some(server)) => Some(Change::Put(server)),
                (Step::Remove(identity), None) => Some(Change::Remove(*identity)),
                (Step::Timeouts(timeouts), None) => Some(Change::Timeouts(timeouts)),
                _ => None,
            }
        };
        let changes: Vec<Change<'_>> = steps.iter().zip(&effective).filter_map(change).collect();
        if !changes.is_empty() {
            let base = self.publisher.base(self.registry.amends_since());
            match self.registry.amend(base, &changes, &self.file)? {
                Some(next) => self.put_in_force(next),
                None => return Ok(false),
            }
        }
        let is_persistent = |step: &Step, family: Family| match step {
            Step::Put(server) | Step::Edit(server, _) => server.is_persistent(family),
            _ => false,
        };
        self.warn_of_templates(|family| steps.iter().any(|step| is_persistent(step, family)));
        self.zero(steps);
        Ok(true)
    }

    /// Makes edits in what is served, of which `file` comes, as a whole. Takes its time with a large one.
    ///
    /// # Errors
    /// Nothing has changed.
    pub(crate) fn put_edited(&mut self, file: Config, steps: &[Step]) -> Result<(), RegistryError> {
        for step in steps {
            if let Step::Edit(server, edited) = step {
                edited.iter().for_each(|key| self.registry.edited_in_whole(server.identity(), *key));
            }
        }
        self.put(Arc::new(file))?;
        self.zero(steps);
        Ok(())
    }

    /// What is desired, to be changed as what is served was ([`Publish::amend`]).
    pub(crate) fn file_mut(&mut self) -> &mut Config {
        self.revision += 1;
        Arc::make_mut(&mut self.file)
    }

    /// Counters of listings begin at 0 where a step says so.
    fn zero(&self, steps: &[Step]) {
        let which =
            || steps.iter().filter_map(|step| if let Step::Zero(which) = step { Some(which) } else { None });
        if which().next().is_none() {
            return;
        }
        // For all of them at once: a list may have one for each virtual server.
        let is_all = which().any(Option::is_none);
        let identities: HashSet<Identity> = which().copied().flatten().collect();
        let named = self.file.virtual_servers.iter().filter(|server| identities.contains(&server.identity()));
        let names: HashSet<&str> = named.map(|server| server.name.as_str()).collect();
        let snapshot = self.publisher.current();
        let mut totals: HashMap<ServiceId, (Arc<Service>, Traffic)> = snapshot
            .services()
            .filter(|service| is_all || names.contains(service.name.as_str()))
            .map(|service| (service.id, (service.clone(), snapshot.retired(service.id))))
            .collect();
        for server in snapshot.servers() {
            if let Some((_, total)) = totals.get_mut(&server.service) {
                let carried = server.live.traffic();
                *total += carried;
                server.live.rates.zero(carried);
            }
        }
        totals.into_values().for_each(|(service, total)| service.rates.zero(total));
    }

    /// What is put in force next has the VIPs announced once more.
    pub(crate) fn announce(&mut self) {
        self.registry.announce();
    }

    /// Whether edits have left so much behind that it is worth a [`Publish::renew`], which clears it away.
    pub(crate) fn is_cluttered(&self) -> bool {
        self.registry.left() > LEFT_MAX
    }

    /// Puts what the file says in force once more, with what health checks say now. Takes its time with a large one.
    pub(crate) fn renew(&mut self) {
        if let Err(problem) = self.publish(&self.file.clone()) {
            // Only numbers may run out, and then with a server that comes back while many linger.
            error!(
                "verdicts of health checks, or announcements of VIPs, wait for the next reload: {problem}"
            );
        }
    }

    /// For readers that are not workers.
    pub(crate) fn shared(&self) -> Current {
        self.publisher.shared()
    }

    /// Puts another file in force: all of it, or nothing changes. Takes its time with a large one.
    pub(crate) fn put(&mut self, file: Arc<Config>) -> Result<(), RegistryError> {
        self.publish(&file)?;
        self.warn_of_templates(|family| file.is_persistent(family));
        self.file = file;
        self.revision += 1;
        Ok(())
    }

    /// Before the first virtual server is there that has templates among those of a family.
    fn warn_of_templates(&self, will_be_persistent: impl Fn(Family) -> bool) {
        let connections = &self.file.connections;
        let families = [(Family::V4, connections.templates), (Family::V6, connections.ipv6_templates)];
        for ((family, written), room) in families.into_iter().zip(self.room_for_templates) {
            if written == 0 && !self.file.is_persistent(family) && will_be_persistent(family) {
                warn!(
                    room,
                    family = family.name(),
                    "a virtual server is persistent now and none was at the start: should templates run out, restart weir"
                );
            }
        }
    }

    /// For VRRP's thread, which says by itself who is master.
    pub(crate) fn masters(&self) -> Masters {
        self.publisher.masters()
    }

    /// Puts a file in force, with what health checks say.
    fn publish(&mut self, file: &Config) -> Result<(), RegistryError> {
        let workers = self.workers.iter().map(|worker| &*worker.counters);
        let progress = Progress::of(workers, Some(&self.templates));
        // What verdicts leave out now may serve later: real servers that are down, and sorry servers.
        registry::check(file)?;
        let next = self.registry.snapshot(&effective(file, &self.overlay), &self.macs, progress)?;
        self.note(&next);
        self.publisher.publish_whole(next);
        Ok(())
    }

    /// An amended snapshot comes into force.
    fn put_in_force(&mut self, next: Snapshot) {
        self.note(&next);
        self.publisher.publish(next);
    }

    /// What the numbers of a snapshot mean is written down before any record can name them.
    fn note(&mut self, next: &Snapshot) {
        if let Some(kept) = &mut self.kept {
            kept.note(next);
        }
    }

    /// Frees what workers no longer hold.
    pub(crate) fn reclaim(&mut self) {
        self.publisher.reclaim();
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use dpdk::Slab;
    use weir_config::model::Forwarding;
    use weir_dataplane::conn::table::HashKey;
    use weir_health::checker::Checker;

    use super::*;

    const FILE: &str = "[[port]]\nname = \"lan\"\ndevice = \"net_null0\"\naddresses = [\"10.0.0.2/24\"]\n\
        [[virtual_server]]\nname = \"web\"\naddress = \"10.0.0.100\"\nport = 80\nforwarding = \"tun\"\n\
        [virtual_server.sorry_server]\naddress = \"10.0.0.12\"\n\
        [[virtual_server.real_server]]\naddress = \"10.0.0.11\"\n";

    #[test]
    fn a_file_that_workers_can_not_serve_is_refused_and_the_former_stays_in_force() {
        let file = weir_config::parse("weir.toml", FILE).unwrap_or_else(|report| panic!("{report}")).config;
        let (_checker, health) = Checker::new(&file, 1);
        let lines = Slab::heap(Templates::lines_for(64)).unwrap();
        let lines6 = Slab::heap(Templates::lines_for_ipv6(0)).unwrap();
        let templates = Arc::new(Templates::new(lines, lines6, HashKey::new([1, 2])));
        let workers = (Shared::new(1, 1), templates);
        let macs = vec![MacAddress([2, 0, 0, 0, 0, 1])];
        let standing = Standing::default();
        let nothing = (None, &standing);
        let mut publish =
            Publish::new(file.clone(), &health, macs.clone(), Vec::new(), workers.clone(), nothing).unwrap();
        let far: IpAddr = "2001:db8::b".parse().unwrap();
        // Neither shows while all is well: a sorry server does not serve, and what is down may be left out.
        let changes: [fn(&mut VirtualServer, IpAddr); 2] = [
            |web, far| {
                let real = &mut web.real_servers[0];
                (real.address, real.forwarding) = (far, Forwarding::Dr);
            },
            |web, far| {
                let sorry = web.health.sorry_server.as_mut().unwrap();
                (sorry.address, sorry.forwarding) = (far, Forwarding::Dr);
            },
        ];
        for change in changes {
            let mut bad = file.clone();
            change(&mut bad.virtual_servers[0], far);
            let expected = "virtual server web, real server [2001:db8::b]:80: dr does not lead from IPv4 to IPv6; \
                write an IPv4 address of this real server";
            assert_eq!(publish.put(Arc::new(bad.clone())).unwrap_err().to_string(), expected);
            let in_force = publish.shared().load().clone();
            assert_eq!((in_force.generation, in_force.servers().count()), (1, 1));
            assert_eq!(*publish.file(), file);
            let started =
                Publish::new(bad, &health, macs.clone(), Vec::new(), workers.clone(), (None, &standing));
            assert_eq!(started.err().unwrap().to_string(), expected);
        }
        publish.put(Arc::new(file)).unwrap();
        assert_eq!(publish.shared().load().generation, 2);
    }
}
