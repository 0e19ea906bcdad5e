//! Control's thread: signals, the HTTP listener, the log of what workers saw, reloading. Never on the packet path.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dpdk::port::PortStatsReader;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};
use weir_config::model::MacAddress;
use weir_dataplane::director::{Event, Shared};

use crate::lifecycle::Flags;
use crate::publish::Publish;

/// How often control looks at what workers left for it.
const TICK: Duration = Duration::from_millis(100);
/// The same conflict is logged this often at most.
const CONFLICT_LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Conflicts whose last time in the log is remembered.
const CONFLICTS_MAX: usize = 1_024;

/// The HTTP listener, bound before anything else starts.
pub(crate) type Listener = TcpListener;

/// Binds the HTTP listener, so that an address in use is said before a device is touched.
pub(crate) fn bind(listen: SocketAddr) -> Result<Listener> {
    let bind = || {
        let listener = TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        Ok::<_, std::io::Error>(listener)
    };
    bind().with_context(|| format!("HTTP can't listen on {listen} ([http] listen)"))
}

/// See the module.
pub(crate) struct Control {
    publish: Publish,
    shared: Vec<Shared>,
    conflicts: HashMap<(u32, MacAddress), Instant>,
}

impl Control {
    /// With everything it steers and watches.
    pub(crate) fn new(
        publish: Publish,
        shared: Vec<Shared>,
        _ports: Vec<(String, PortStatsReader)>,
        _capacity: u64,
        _listen: SocketAddr,
    ) -> Self {
        Self { publish, shared, conflicts: HashMap::new() }
    }

    /// Runs until a signal or a worker's end stops it.
    pub(crate) fn run(self, listener: Listener, flags: &Flags, workers: usize) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.serve(listener, flags, workers))
    }

    async fn serve(mut self, _listener: Listener, flags: &Flags, workers: usize) -> Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_ready = false;
        while !flags.stop.load(SeqCst) {
            tokio::select! {
                _ = terminate.recv() => { info!("SIGTERM: stopping"); break }
                _ = interrupt.recv() => { info!("SIGINT: stopping"); break }
                _ = hangup.recv() => { self.publish.reload(); }
                _ = tick.tick() => {
                    if !is_ready && flags.polling.load(SeqCst) == workers {
                        is_ready = true;
                        info!("every worker polls: ready");
                        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
                    }
                    self.publish.reclaim();
                    self.log_events();
                }
            }
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        flags.stop();
        Ok(())
    }

    fn log_events(&mut self) {
        let Some(first) = self.shared.first() else { return };
        while let Some(Event::Conflict(conflict)) = first.events.pop() {
            let now = Instant::now();
            let key = (conflict.address, conflict.mac);
            if self.conflicts.get(&key).is_some_and(|last| now - *last < CONFLICT_LOG_INTERVAL) {
                continue;
            }
            if self.conflicts.len() >= CONFLICTS_MAX {
                self.conflicts.retain(|_, last| now - *last < CONFLICT_LOG_INTERVAL);
            }
            if self.conflicts.len() < CONFLICTS_MAX {
                self.conflicts.insert(key, now);
            }
            let address = std::net::Ipv4Addr::from(conflict.address);
            warn!(port = conflict.port, %address, mac = ?conflict.mac, "another host claims an address of ours or a bound one");
        }
    }
}
