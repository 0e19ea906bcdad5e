//! The kernel's side of interfaces, addresses and routes, for threads that may wait for its answers.

use std::io;
use std::time::Duration;

use anyhow::{Context, Result};
use rtnetlink::Handle;
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// A netlink socket, and what it takes to talk through it and wait for the answer.
pub(crate) struct Netlink {
    pub(crate) runtime: Runtime,
    pub(crate) handle: Handle,
}

impl Netlink {
    /// Opens the socket. Not from within a runtime: its calls wait.
    pub(crate) fn open() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection()?;
            tokio::spawn(connection);
            Ok::<_, io::Error>(handle)
        });
        Ok(Self { handle: handle.context("no netlink socket")?, runtime })
    }

    /// Waits for something else than an answer, for so long at most.
    pub(crate) fn wait<T>(&self, event: impl Future<Output = T>, longest: Duration) {
        let _ = self.runtime.block_on(async { timeout(longest, event).await });
    }
}

/// The kernel's answer in its own words.
pub(crate) fn said(problem: rtnetlink::Error) -> io::Error {
    match problem {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}
