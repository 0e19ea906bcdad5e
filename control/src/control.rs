//! Control's thread: signals, the HTTP listener, the log of what workers saw, reloading. Never on the packet path.

use std::collections::HashMap;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, error, info, warn};
use weir_config::model::MacAddress;
use weir_dataplane::conn::table::View;
use weir_dataplane::director::{Event, Shared};
use weir_health::checker::Handle;

use crate::health::PassiveSampler;
use crate::http::{self, HttpState};
use crate::lifecycle::Flags;
use crate::links::Links;
use crate::metrics::longest::Watch;
use crate::metrics::{Metrics, PortSource, ReloadStatus, Sources};
use crate::publish::Publish;
use crate::rates::Sampler;
use crate::vrrp::Vrrp;

/// How often control looks at what workers left for it.
const TICK: Duration = Duration::from_millis(100);
/// The same conflict is logged this often at most.
const CONFLICT_LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Conflicts whose last time in the log is remembered.
const CONFLICTS_MAX: usize = 1_024;

/// See the module.
pub(crate) struct Control {
    publish: Publish,
    health: Handle,
    vrrp: Vrrp,
    shared: Vec<Shared>,
    http: HttpState,
    reload: Arc<ReloadStatus>,
    conflicts: HashMap<(IpAddr, MacAddress), Instant>,
    sampler: Sampler,
    passive: PassiveSampler,
    watch: Watch,
    links: Links,
}

impl Control {
    /// With everything it steers and watches. `ports` by port number, `capacity` records per worker.
    pub(crate) fn new(
        publish: Publish,
        health: Handle,
        vrrp: Vrrp,
        shared: Vec<Shared>,
        tables: Arc<[View]>,
        ports: Vec<PortSource>,
        capacity: u64,
    ) -> Result<Self> {
        let links = Links::new(&ports, Instant::now());
        let sources = Sources::new(shared.clone(), tables, ports, publish.shared(), health.clone(), capacity);
        let sources = sources.with_vrrp(vrrp.status());
        let reload = sources.reload.clone();
        let watch = Watch::new(sources.longest.clone(), Instant::now());
        let http = HttpState::new(Arc::new(Metrics::new(sources)?), &publish.file().http);
        let sampler = Sampler::new(Instant::now());
        let passive = PassiveSampler::new(Instant::now());
        let conflicts = HashMap::new();
        Ok(Self { publish, health, vrrp, shared, http, reload, conflicts, sampler, passive, watch, links })
    }

    /// Runs until a signal or a worker's end stops it. `workers` is how many have to poll for weir to be ready.
    pub(crate) fn run(self, listener: TcpListener, flags: &Flags, workers: usize) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.serve(listener, flags, workers))
    }

    async fn serve(mut self, listener: TcpListener, flags: &Flags, workers: usize) -> Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let stop = Arc::new(Notify::new());
        let stopped = stop.clone();
        let http =
            tokio::spawn(http::serve(listener, self.http.clone(), async move { stopped.notified().await }));
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_ready = false;
        let mut overlay = self.health.overlay();
        let mut quorums = self.health.quorums();
        while !flags.stop.load(SeqCst) {
            tokio::select! {
                _ = terminate.recv() => { info!("SIGTERM: stopping"); break }
                _ = interrupt.recv() => { info!("SIGINT: stopping"); break }
                _ = hangup.recv() => self.reload(),
                Ok(()) = overlay.changed() => {
                    let verdicts = overlay.borrow_and_update().clone();
                    self.publish.overlay(verdicts);
                }
                Ok(()) = quorums.changed() => self.track(),
                () = self.vrrp.changed() => self.vrrp.log(),
                _ = tick.tick() => {
                    if !is_ready && flags.polling.load(SeqCst) == workers {
                        is_ready = true;
                        info!("every worker polls: ready");
                        tell_supervisor(NotifyState::Ready);
                    }
                    self.publish.reclaim();
                    self.watch.run(&self.shared, Instant::now());
                    self.sampler.run(&self.publish.current(), Instant::now());
                    let (file, snapshot) = (self.publish.file(), self.publish.current());
                    self.passive.run(&file, &snapshot, &self.health, Instant::now());
                    self.log_events();
                    if self.links.look(&self.http.sources().ports, Instant::now()) {
                        self.publish.announce();
                    }
                    self.track();
                    self.vrrp.log();
                }
            }
        }
        tell_supervisor(NotifyState::Stopping);
        // While the workers still send.
        self.vrrp.stop();
        self.vrrp.log();
        flags.stop();
        stop.notify_one();
        http.await??;
        Ok(())
    }

    fn reload(&mut self) {
        let successful = self.publish.reload();
        if successful && !self.health.configure(self.publish.file()) {
            error!("health checks do not take the new configuration; those of the former one go on");
        }
        self.reload.record(successful, SystemTime::now());
        if successful {
            self.vrrp.configure(&self.publish.file());
        }
    }

    fn track(&mut self) {
        let ports = &self.http.sources().ports;
        let is_up = |port: usize| ports.get(port).and_then(|port| port.device.link_up()).unwrap_or(true);
        let quorums = self.health.quorums().borrow().clone();
        self.vrrp.track(&self.publish.current(), &quorums, is_up);
    }

    fn log_events(&mut self) {
        let Some(first) = self.shared.first() else { return };
        while let Some(Event::Conflict(conflict)) = first.events.pop() {
            let now = Instant::now();
            self.vrrp.claimed(conflict.port, conflict.address);
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
            let address = conflict.address;
            let mac = dpdk::MacAddress(conflict.mac.0);
            let ports = &self.http.sources().ports;
            let port = ports.get(conflict.port).map_or("", |port| port.name.as_str());
            warn!(port, %address, %mac, "another host claims an address of ours or a bound one");
        }
    }
}

/// Without systemd there is nobody to tell.
fn tell_supervisor(state: NotifyState<'_>) {
    if let Err(problem) = sd_notify::notify(&[state]) {
        debug!("systemd is not told: {problem}");
    }
}
