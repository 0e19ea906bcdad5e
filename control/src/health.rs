//! The checker's thread, beside control's, and what the data plane tells it.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tracing::warn;
use weir_config::model::{Config, Forwarding, Identity, VirtualServer};
use weir_dataplane::snapshot::Snapshot;
use weir_dataplane::snapshot::server::{Openings, Server};
use weir_health::checker::{Checker, Handle};
use weir_health::judge::passive::Sample;

use crate::lifecycle::Flags;

/// Checks real servers until it is told to stop.
pub(crate) struct HealthThread {
    handle: Handle,
    thread: JoinHandle<()>,
}

impl HealthThread {
    /// On these cores, which are control's. A checker that fails ends weir: without it dead servers would stay.
    pub(crate) fn start(checker: Checker, handle: Handle, flags: Flags, cpus: Vec<usize>) -> Result<Self> {
        let run = move || {
            if let Err(problem) = dpdk::lcore::run_on_cpus(&cpus) {
                warn!("health checks run on a worker's core: {problem}");
            }
            let check = || -> Result<()> {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(checker.run());
                Ok(())
            };
            match catch_unwind(AssertUnwindSafe(check)) {
                Ok(Ok(())) => {}
                Ok(Err(problem)) => {
                    tracing::error!("health checks do not start: {problem:#}");
                    flags.fail();
                }
                Err(_) => flags.fail(),
            }
        };
        let thread = thread::Builder::new().name("weir-health".to_owned()).spawn(run);
        Ok(Self { handle, thread: thread.context("the thread of health checks does not start")? })
    }

    /// Ends it, after the hooks that the file wants to be told.
    pub(crate) fn stop(self) {
        self.handle.stop();
        // What a panic said is in the log, and `flags` knows of it.
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
