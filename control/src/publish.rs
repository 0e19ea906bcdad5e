//! From configuration to workers: builds snapshots and swaps them in. Reloading is all or nothing.
//!
//! What is served is the file with the verdicts of health checks laid over it ([`weir_health::overlay::effective`]); either of
//! them may change.

use std::sync::Arc;

use anyhow::{Context, Result};
use tracing::{error, warn};
use weir_config::model::{Config, MacAddress, VirtualServer};
use weir_dataplane::conn::template::Templates;
use weir_dataplane::director::Shared;
use weir_dataplane::sched::Options;
use weir_dataplane::snapshot::publish::{Current, Masters, Publisher, Reader};
use weir_dataplane::snapshot::registry::{Progress, Registry};
use weir_dataplane::snapshot::virtual_router::Fence;
use weir_health::checker::Handle;
use weir_health::overlay::{Overlay, effective, effective_service};

use crate::host::HostControl;
use crate::restart::needs_restart;

/// See the module.
pub(crate) struct Publish {
    /// As the file says.
    file: Arc<Config>,
    /// What health checks say.
    overlay: Arc<Overlay>,
    /// Persistence templates that there is room for.
    room_for_templates: usize,
    macs: Vec<MacAddress>,
    registry: Registry,
    publisher: Publisher,
    workers: Vec<Shared>,
    templates: Arc<Templates>,
    host: Option<HostControl>,
}

impl Publish {
    /// With the configuration that weir starts with, and who checks it.
    pub(crate) fn new(
        config: Config,
        health: &Handle,
        macs: Vec<MacAddress>,
        fences: Vec<Arc<Fence>>,
        (workers, templates): (Vec<Shared>, Arc<Templates>),
    ) -> Result<Self> {
        let locality_keys = [random_u64()?, random_u64()?];
        let registry = Registry::new(workers.len(), Options { locality_keys, ..Options::default() });
        let mut registry = registry.with_fences(fences);
        let overlay = health.overlay().borrow().clone();
        let first = registry.snapshot(&effective(&config, &overlay), &macs, Progress::default())?;
        let room_for_templates = config.templates();
        Ok(Self {
            file: Arc::new(config),
            overlay,
            room_for_templates,
            macs,
            registry,
            publisher: Publisher::new(first),
            workers,
            templates,
            host: None,
        })
    }

    /// Has the host interfaces follow the configuration.
    pub(crate) fn with_host(self, host: Option<HostControl>) -> Self {
        Self { host, ..self }
    }

    /// A worker's end.
    pub(crate) fn reader(&self) -> Reader {
        self.publisher.reader()
    }

    /// What the file says.
    pub(crate) fn file(&self) -> Arc<Config> {
        self.file.clone()
    }

    /// Other verdicts of health checks come into force.
    pub(crate) fn overlay(&mut self, overlay: Arc<Overlay>) {
        let former = std::mem::replace(&mut self.overlay, overlay);
        let servers = self.file.virtual_servers.iter();
        let changed = servers.filter(|server| self.overlay.differs(&former, &server.identity()));
        let changed: Vec<VirtualServer> =
            changed.map(|server| effective_service(server, &self.overlay)).collect();
        if changed.is_empty() {
            return;
        }
        if let Err(problem) = self.amend(&changed) {
            // Only numbers may run out, and then with a server that comes back while many linger.
            error!("what health checks found can't be served: {problem:#}");
        }
    }

    /// Has the VIPs announced once more.
    pub(crate) fn announce(&mut self) {
        self.registry.announce();
        if let Err(problem) = self.publish(&self.file.clone()) {
            error!("VIPs can't be announced: {problem:#}");
        }
    }

    /// Puts some virtual servers in force as they are now, and leaves the others alone.
    fn amend(&mut self, changed: &[VirtualServer]) -> Result<()> {
        match self.registry.amend(self.publisher.base(), changed, &self.file) {
            Ok(Some(next)) => {
                self.publisher.publish(next);
                Ok(())
            }
            // As a whole it may have numbers again that were given back.
            Ok(None) | Err(_) => self.publish(&self.file.clone()),
        }
    }

    /// For readers that are not workers.
    pub(crate) fn shared(&self) -> Current {
        self.publisher.shared()
    }

    /// Puts another file in force: all of it, or nothing changes. Takes its time with a large one.
    pub(crate) fn put(&mut self, config: Config) -> Result<()> {
        if let Some(keys) = needs_restart(&self.file, &config) {
            anyhow::bail!(keys);
        }
        self.publish(&config)?;
        if let Some(host) = &self.host {
            host.set_addresses(&config);
        }
        if self.file.connections.templates == 0 && !self.file.is_persistent() && config.is_persistent() {
            warn!(
                room = self.room_for_templates,
                "a virtual server is persistent now and none was at the start: should templates run out, restart weir"
            );
        }
        self.file = Arc::new(config);
        Ok(())
    }

    /// For VRRP's thread, which says by itself who is master.
    pub(crate) fn masters(&self) -> Masters {
        self.publisher.masters()
    }

    /// Puts a file in force, with what health checks say.
    fn publish(&mut self, file: &Config) -> Result<()> {
        let workers = self.workers.iter().map(|worker| &*worker.counters);
        let progress = Progress::of(workers, Some(&self.templates));
        let next = self.registry.snapshot(&effective(file, &self.overlay), &self.macs, progress)?;
        self.publisher.publish(next);
        Ok(())
    }

    /// Frees what workers no longer hold.
    pub(crate) fn reclaim(&mut self) {
        self.publisher.reclaim();
    }
}

/// From the kernel.
pub(crate) fn random_u64() -> Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).context("the kernel gives no random numbers")?;
    Ok(u64::from_ne_bytes(bytes))
}
