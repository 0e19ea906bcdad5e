//! The checker's thread, beside control's.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use tracing::warn;
use weir_health::checker::{Checker, Handle};

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
