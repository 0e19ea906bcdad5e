//! Control's thread: the HTTP listener, the log of what workers saw, reloading. Never on the packet path.

use std::collections::HashMap;
use std::net::{IpAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use sd_notify::NotifyState;
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};
use weir_dataplane::conn::table::View;
use weir_dataplane::director::{Event, Shared};
use weir_health::checker::Handle;

use crate::announce::Announce;
use crate::apply::Apply;
use crate::certificate;
use crate::filter::Refusals;
use crate::flags::Flags;
use crate::health::PassiveSampler;
use crate::http::{self, HttpState, Keyring};
use crate::kept::Outcome;
use crate::lasting::{Lasting, Said};
use crate::links::Links;
use crate::longest::Watch;
use crate::metrics::Metrics;
use crate::orders::{self, Order};
use crate::proc_files::ProcFiles;
use crate::rates::Sampler;
use crate::reload::{Reload, Step};
use crate::reload_status::ReloadStatus;
use crate::signals;
use crate::socket::ControlSocket;
use crate::sources::{PortSource, Sources};
use crate::standing::{Standing, Stuck};
use crate::supervisor::Supervisor;
use crate::sync::{Sync, Taker};
use crate::vrrp::Vrrp;

/// How often control looks at what workers left for it.
const TICK: Duration = Duration::from_millis(100);
/// Conflicts about the same address are logged this often at most.
const CONFLICT_LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Conflicts whose last time in the log is remembered.
const CONFLICTS_MAX: usize = 1_024;

/// Claims of one address.
struct Conflicts {
    logged: Instant,
    /// How many came since.
    more: u64,
}

/// Where clients come in.
pub(crate) struct Doors {
    /// The TCP listener.
    pub(crate) http: TcpListener,
    /// What it shows and asks for.
    pub(crate) keys: Keyring,
    /// `None`: there is no control socket.
    pub(crate) control: Option<ControlSocket>,
}

/// See the module.
pub(crate) struct Control {
    config: Reload,
    health: Handle,
    vrrp: Vrrp,
    shared: Vec<Shared>,
    http: HttpState,
    orders: Receiver<Order>,
    reloads: Arc<ReloadStatus>,
    lasting: Lasting,
    /// What edits need.
    searching: Lasting,
    /// By port and address: the MAC is the stranger's choice.
    conflicts: HashMap<(usize, IpAddr), Conflicts>,
    sampler: Sampler,
    passive: PassiveSampler,
    watch: Watch,
    links: Links,
    standing: Standing,
    proc_files: ProcFiles,
    sync: Sync,
    refusals: Refusals,
    announce: Option<Announce>,
}

impl Control {
    /// With everything it steers and watches, and the file that it reads again. `ports` by port number, `capacity` records per worker.
    pub(crate) fn new(
        (path, mut apply): (PathBuf, Apply),
        health: Handle,
        (vrrp, announce): (Vrrp, Option<Announce>),
        shared: Vec<Shared>,
        tables: Arc<[View]>,
        ports: Vec<PortSource>,
        (capacity, kept): (u64, Option<Outcome>),
    ) -> Result<Self> {
        let links = Links::new(&ports, Instant::now());
        let sources =
            Sources::new(shared.clone(), tables, ports, apply.publish().shared(), health.clone(), capacity);
        let sources =
            sources.with_vrrp(vrrp.status(), vrrp.reading(), vrrp.writing()).with_processes(vrrp.processes());
        let taker = Taker::new(apply.publish().shared(), shared.clone(), apply.publish().templates());
        let taker = Arc::new(taker);
        let sources = sources.with_templates(apply.publish().templates()).with_kept(kept);
        let sources = sources.with_announce(announce.as_ref().map(Announce::announcements));
        let sources = sources.with_sync(taker.figures().clone());
        let reloads = sources.reload.clone();
        let lasting = Lasting::shown_by(sources.reload_lasts.clone());
        let searching = Lasting::shown_by(sources.search_lasts.clone());
        let standing = Standing::new(sources.stuck.clone(), Instant::now());
        let watch = Watch::new(sources.longest.clone(), Instant::now());
        let (orders, ordered) = orders::channel();
        let proc_lasts = sources.proc_lasts.clone();
        let metrics = Arc::new(Metrics::new(sources)?);
        let proc_files = ProcFiles::new(metrics.clone(), proc_lasts);
        let http = HttpState::new(metrics, &apply.file().http, orders);
        let sampler = Sampler::new(Instant::now());
        let passive = PassiveSampler::new(Instant::now());
        let config = Reload::new(path, apply);
        Ok(Self {
            config,
            health,
            vrrp,
            shared,
            http,
            orders: ordered,
            reloads,
            lasting,
            searching,
            conflicts: HashMap::new(),
            sampler,
            passive,
            watch,
            links,
            standing,
            proc_files,
            sync: Sync::new(taker),
            refusals: Refusals::default(),
            announce,
        })
    }

    /// Which threads stand still.
    pub(crate) fn stuck(&self) -> Stuck {
        self.http.sources().stuck.clone()
    }

    /// Runs until a signal or a worker's end stops it. `workers` is how many have to poll for weir to be ready.
    pub(crate) fn run(self, doors: Doors, flags: &Flags, workers: usize) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // Here, since a thread runs where the one does that starts it, and control is made on the main one, which may be a worker's.
        let supervisor = Supervisor::start()?;
        let done = runtime.block_on(self.serve(doors, supervisor, flags, workers));
        // A reload may be under way, or a page.
        runtime.shutdown_background();
        done
    }

    async fn serve(
        mut self,
        Doors { http: listener, keys, control: socket }: Doors,
        mut supervisor: Supervisor,
        flags: &Flags,
        workers: usize,
    ) -> Result<()> {
        flags.wishes.control_runs();
        let (stop, stopped) = watch::channel(false);
        let until = |mut stopped: watch::Receiver<bool>| async move {
            // An end that is dropped is one, too.
            let _ = stopped.wait_for(|is| *is).await;
        };
        self.config.renews(keys.clone());
        let mut certificate = certificate::Watch::new(keys.clone(), self.http.sources().http.clone());
        let pages = self.http.clone().with_flags(flags.clone()).with_keys(keys);
        let http = tokio::spawn(http::serve(listener, pages.clone(), until(stopped.clone())));
        let control = match socket.as_ref().map(ControlSocket::listener).transpose()? {
            Some(socket) => tokio::spawn(http::serve_control(socket, pages, until(stopped))),
            None => tokio::spawn(async { Ok(()) }),
        };
        self.proc_files.follow(&self.config.file());
        self.sync.follow(&self.config.file());
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_ready = false;
        let mut overlay = self.health.overlay();
        let mut quorums = self.health.quorums();
        let mut scripts = self.health.scripts();
        let mut left: Option<Instant> = None;
        while !flags.is_stopping() && left.is_none_or(|left| left.elapsed() < flags.linger()) {
            flags.wishes.linger_for(self.config.file().linger());
            tokio::select! {
                () = flags.wishes.stop.notified() => {
                    left.get_or_insert_with(|| leave(flags, &supervisor));
                }
                () = flags.wishes.reload.notified() => self.config.begin(),
                step = self.config.next() => self.go_on(step),
                Ok(()) = overlay.changed(), if self.config.takes_orders() => {
                    let verdicts = overlay.borrow_and_update().clone();
                    self.config.verdicts(verdicts);
                }
                Some(order) = self.orders.recv(), if self.config.takes_orders() => self.config.order(order),
                Ok(()) = quorums.changed() => self.track(),
                Ok(()) = scripts.changed() => self.track(),
                () = self.vrrp.changed() => self.vrrp.log(),
                _ = tick.tick() => {
                    if !is_ready && flags.polling.load(SeqCst) == workers {
                        is_ready = true;
                        info!("every worker polls: ready");
                        supervisor.tell(NotifyState::Ready);
                    }
                    let now = Instant::now();
                    self.look(is_ready, flags, now);
                    certificate.look(SystemTime::now());
                    if is_ready && self.http.sources().stuck.roles().next().is_none() {
                        supervisor.feed(now);
                    }
                }
            }
        }
        left.get_or_insert_with(|| leave(flags, &supervisor));
        self.proc_files.end();
        self.sync.end();
        // While the workers still send.
        self.vrrp.resigned(&flags.threads);
        self.vrrp.log();
        flags.stop();
        // Whoever waits for an answer hears that there will be none.
        drop(self.orders);
        self.config.dismiss();
        stop.send_replace(true);
        http.await??;
        control.await??;
        drop(socket);
        Ok(())
    }

    /// What is looked at all the time.
    fn look(&mut self, is_ready: bool, flags: &Flags, now: Instant) {
        self.config.reclaim();
        self.sync.sweep();
        if let Some((counts, since)) = self.config.edits() {
            self.reloads.edited(counts, since);
        }
        self.look_at_files(now);
        self.watch.run(&self.shared, now);
        self.refusals.look(now);
        if is_ready {
            self.standing.look(&self.shared, &flags.threads, now);
        }
        let snapshot = self.config.current();
        self.sampler.run(&snapshot, now);
        self.passive.run(&self.config.file(), &snapshot, &self.health, now);
        drop(snapshot);
        self.vrrp.log();
        if flags.is_leaving() {
            // Others have the addresses now, and say so.
            return;
        }
        self.log_events();
        if self.links.look(&self.http.sources().ports, now) {
            self.config.announce();
        }
        if let Some(announce) = &mut self.announce {
            announce.linked(self.links.has_any());
            if let Some(revision) = self.config.revision() {
                announce.follow(revision, || self.config.file());
            }
        }
        self.track();
    }

    /// Those that are being read, if they come.
    fn look_at_files(&mut self, now: Instant) {
        self.vrrp.look_at_files(now);
        self.proc_files.look(now);
        match self.lasting.look(self.config.began(), now) {
            Some(Said::GoesOn(lasts)) => warn!(
                "a reload has been under way for {:.0} s, and the former configuration stays in force until its end: {}",
                lasts.as_secs_f64(),
                self.config.does()
            ),
            Some(Said::Ended(lasted)) => {
                info!("the reload came to its end, after {:.0} s", lasted.as_secs_f64())
            }
            None => {}
        }
        self.config.look_at_searches(now);
        let (what, began) = self.config.looks_for().unwrap_or_default();
        match self.searching.look(began, now) {
            Some(Said::GoesOn(lasts)) => warn!(
                "an edit has waited for {:.0} s, and others do not wait for it: {what} is looked for, and its file system may not answer",
                lasts.as_secs_f64()
            ),
            Some(Said::Ended(lasted)) => {
                info!("what an edit names was looked for to the end, after {:.0} s", lasted.as_secs_f64())
            }
            None => {}
        }
    }

    fn go_on(&mut self, step: Step) {
        let Some(outcome) = self.config.take(step) else { return };
        if outcome.is_ok() {
            self.vrrp.follow(&self.config.file());
            self.proc_files.follow(&self.config.file());
            self.sync.follow(&self.config.file());
        }
        self.reloads.record(outcome.map_err(|problem| problem.by()), SystemTime::now());
    }

    fn track(&mut self) {
        let Sources { ports, stuck, .. } = self.http.sources();
        let is_up = |port: usize| ports.get(port).and_then(|port| port.device.link_up()).unwrap_or(true);
        let quorums = self.health.quorums().borrow().clone();
        let scripts = self.health.scripts().borrow().clone();
        self.vrrp.track(&self.config.current(), (&quorums, &scripts), is_up, !stuck.has_worker());
    }

    fn log_events(&mut self) {
        if let Some(kept) = &self.http.sources().kept {
            kept.tell_of_end();
        }
        let Some(first) = self.shared.first() else { return };
        while let Some(event) = first.events.pop() {
            let conflict = match event {
                Event::Conflict(conflict) => conflict,
                Event::ClientsFull => {
                    let clients = first.counters.ipv6_clients_capacity.get();
                    warn!(
                        clients,
                        "no room for another IPv6 client: flows of further ones go without a record; raise `ipv6_clients` of [connections] and restart"
                    );
                    continue;
                }
            };
            let now = Instant::now();
            self.vrrp.claimed(conflict.port, conflict.address);
            let key = (conflict.port, conflict.address);
            let seen = self.conflicts.get_mut(&key);
            if let Some(seen) = seen.filter(|seen| now - seen.logged < CONFLICT_LOG_INTERVAL) {
                seen.more += 1;
                continue;
            }
            if self.conflicts.len() >= CONFLICTS_MAX {
                self.conflicts.retain(|_, seen| now - seen.logged < CONFLICT_LOG_INTERVAL);
            }
            let more = self.conflicts.get(&key).map_or(0, |seen| seen.more);
            // Beyond what is remembered the log's own limit holds.
            if self.conflicts.len() < CONFLICTS_MAX {
                self.conflicts.insert(key, Conflicts { logged: now, more: 0 });
            }
            let address = conflict.address;
            let mac = dpdk::MacAddress(conflict.mac.0);
            let ports = &self.http.sources().ports;
            let port = ports.get(conflict.port).map_or("", |port| port.name.as_str());
            if more == 0 {
                warn!(port, %address, %mac, "another host claims an address of ours or a bound one");
            } else {
                warn!(port, %address, %mac, more, "another host claims an address of ours or a bound one, and more claims came since the last line");
            }
        }
    }
}

/// weir leaves: the stop has its bound from now on. Returns when that was.
fn leave(flags: &Flags, supervisor: &Supervisor) -> Instant {
    signals::bound(flags, true);
    supervisor.tell(NotifyState::Stopping);
    let linger = flags.linger();
    if !linger.is_zero() {
        info!("what still comes is forwarded for {} s", linger.as_secs_f64());
    }
    Instant::now()
}
