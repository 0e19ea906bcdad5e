//! The checker's thread, beside control's, and what the data plane tells it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use weir_config::model::{Config, Forwarding, Identity, VirtualServer};
use weir_dataplane::address::Addr4;
use weir_dataplane::punt::probes::Probes;
use weir_dataplane::snapshot::Snapshot;
use weir_dataplane::snapshot::publish::Current;
use weir_dataplane::snapshot::server::{Openings, Server};
use weir_health::checker::{Checker, Handle};
use weir_health::judge::passive::Sample;
use weir_health::judge::target::Through;
use weir_health::way::{Way, Ways};

use crate::flags::Flags;
use crate::spawn::{AtEnd, Spawner};
use crate::threads::{Pulse, Role};

/// Checks real servers until it is told to stop.
pub(crate) struct HealthThread {
    handle: Handle,
    thread: JoinHandle<()>,
}

impl HealthThread {
    /// A checker that fails ends weir: without it dead servers would stay.
    pub(crate) fn start(checker: Checker, handle: Handle, spawner: &Spawner) -> Result<Self> {
        let check = |_: &Flags, pulse: &Pulse| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.context("health checks do not start")?;
            runtime.block_on(checker.run(|| pulse.beat()));
            // A file that is being read on a file system that hangs is not waited for.
            runtime.shutdown_background();
            Ok(())
        };
        Ok(Self { handle, thread: spawner.spawn(Role::Health, AtEnd::GoOn, check)? })
    }

    /// Ends it, after the hooks that the file wants to be told.
    pub(crate) fn stop(self) {
        self.handle.stop();
        // What a panic said is in the log, and the flags know of it.
        let _ = self.thread.join();
    }
}

/// Time between two looks at what the data plane counted.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Passes on what became of clients' connections, for virtual servers with passive health.
pub(crate) struct PassiveSampler {
    due: Instant,
}

impl PassiveSampler {
    pub(crate) fn new(now: Instant) -> Self {
        Self { due: now + SAMPLE_INTERVAL }
    }

    /// Takes samples if they are due.
    pub(crate) fn run(&mut self, file: &Config, snapshot: &Snapshot, handle: &Handle, now: Instant) {
        if now < self.due {
            return;
        }
        self.due = now + SAMPLE_INTERVAL;
        let is_passive = |server: &&VirtualServer| server.health.passive.is_some();
        let identities: HashMap<&str, Identity> = file
            .virtual_servers
            .iter()
            .filter(is_passive)
            .map(|it| (it.name.as_str(), it.identity()))
            .collect();
        if identities.is_empty() {
            return;
        }
        let sample = |server: &Server| {
            let service = identities.get(snapshot.service(server.service)?.name.as_str())?;
            let Openings { opened, answered, .. } = server.live.openings();
            let (address, port) = (server.ip(), server.named_port);
            Some(Sample { service: *service, address, port, opened, answered })
        };
        let is_watched = |server: &&Server| server.is_present && server.forwarding == Forwarding::Nat;
        handle.observe(snapshot.servers().filter(is_watched).filter_map(sample).collect());
    }
}

/// Ways by the forwarding methods: a reserved source port for each check, which the worker that sends for the host knows the
/// real server by.
pub(crate) struct ForwardingWays {
    snapshot: Current,
    probes: Arc<Probes>,
}

impl ForwardingWays {
    pub(crate) fn new(snapshot: Current, probes: Arc<Probes>) -> Self {
        Self { snapshot, probes }
    }
}

impl Ways for ForwardingWays {
    fn reserve(&self, at: SocketAddr, through: Through) -> Result<Way, String> {
        let snapshot = self.snapshot.load();
        let service = snapshot.service_at(at.ip(), at.port(), through.protocol);
        let service = service.ok_or("the virtual server is not served now")?;
        let mut servers = service.list.iter().map(|candidate| snapshot.server(candidate.id));
        let server = servers.find(|it| it.ip() == through.address && it.named_port == through.port);
        let server = server.ok_or("the real server is not served now")?;
        let exit = server.exit().ok_or("there is no route to the real server")?;
        // The packet inside a tunnel is of the virtual server's family, whatever the real server's is.
        let port = &snapshot.ports[exit];
        let source: Option<IpAddr> = match at.ip() {
            IpAddr::V4(_) => {
                let towards = server.next_hop().map_or(Addr4::UNSPECIFIED, |hop| hop.address);
                port.address_towards(towards).map(IpAddr::from)
            }
            IpAddr::V6(vip) => {
                let towards =
                    server.far.as_deref().and_then(|far| far.way).map_or(vip, |way| way.hop.address());
                port.address_towards6(towards).map(IpAddr::V6)
            }
        };
        let source = source.ok_or("the port towards the real server has no address")?;
        let port = self.probes.reserve(server.id).ok_or("all source ports of such checks are in use")?;
        let source = SocketAddr::new(source, port.number());
        Ok(Way { source, hold: Box::new(port) })
    }
}
