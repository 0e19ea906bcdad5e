//! The checker: asks the judge what is due, makes it so, and passes on what follows. One thread, one tokio runtime.
//!
//! A change reaches the data plane within `SETTLE`. Changes that go on are collected for `GATHER` at a time, so that a
//! thousand servers failing at once are a few snapshots.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{debug, info, warn};
use weir_config::model::health::{Account, Hooks, Probe};
use weir_config::model::{Config, Identity, VirtualServer, VrrpHooks, VrrpTrack, VrrpTracked};

use crate::figures::Figures;
use crate::hooks::HookRunner;
use crate::judge::passive::Sample;
use crate::judge::{Answer, Change, Event, Judge, Moment, Outcome, ServiceListing, TargetId};
use crate::local;
use crate::notices::{Notices, Notifier};
use crate::overlay::{Limit, Overlay};
use crate::probe::Probes;
use crate::scripts::{ScriptListings, Scripts};
use crate::way::{NoWay, Ways};

/// From a change to the data plane hearing of it, when nothing changed shortly before.
const SETTLE: Duration = Duration::from_millis(5);
/// From one telling to the next, while changes go on.
const GATHER: Duration = Duration::from_millis(100);
/// From one turn to the next at most.
const BEAT: Duration = Duration::from_millis(250);
/// What the hooks of `omega` may take in all when weir stops.
const FAREWELL: Duration = Duration::from_secs(5);
/// File descriptors left for everything else in the process.
const FILES_KEPT: u64 = 256;
/// Virtual servers that are listed without a pause for the checker.
const LISTED_AT_ONCE: usize = 8;
/// From one line about a check that can't be made to the next.
const COMPLAINTS_APART: Duration = Duration::from_secs(10);
/// Orders that wait for the checker. It takes them at once; one that does not is given no other configuration.
const ORDERS_MAX: usize = 16;
/// Orders that wait for it in all. Edits come by the hundred.
const ALL_ORDERS_MAX: usize = 512;

/// Why the checker takes no other configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// There is nobody to take it.
    #[error("the checker has ended")]
    Ended,
    /// It does not run.
    #[error("the checker hangs: {ORDERS_MAX} orders before this one wait for it")]
    Hangs,
}

/// A place among the checker's orders: what is put there is taken. Given up by dropping it.
pub struct Place(mpsc::OwnedPermit<Order>, Arc<()>);

impl Place {
    /// Another configuration. Can't fail.
    pub fn configure(self, config: Arc<Config>) {
        self.0.send(Order::Configure(config, self.1));
    }
}

/// As [`Place`], for edits.
pub struct EditPlace(mpsc::OwnedPermit<Order>);

impl EditPlace {
    /// Virtual servers that are gone, and others that are new or changed. Can't fail.
    pub fn edit(self, removed: Vec<Identity>, changed: Vec<VirtualServer>) {
        self.0.send(Order::Edit(removed, changed));
    }
}

/// An order to the checker.
enum Order {
    /// With what tells that it waits.
    Configure(Arc<Config>, Arc<()>),
    Edit(Vec<Identity>, Vec<VirtualServer>),
    Observe(Vec<Sample>),
}

/// Held by every configuration that waits, and once more.
#[derive(Default)]
struct Places(Arc<()>);

/// Whether each virtual server has its quorum, by name.
pub type Quorums = Arc<BTreeMap<String, bool>>;

/// Everybody's end: what is known, and orders. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    judge: Arc<Mutex<Judge>>,
    begun: Instant,
    began: SystemTime,
    orders: mpsc::Sender<Order>,
    places: Arc<Places>,
    stop: Arc<Notify>,
    overlay: watch::Receiver<Arc<Overlay>>,
    quorums: watch::Receiver<Quorums>,
    scripts: watch::Receiver<ScriptListings>,
    notifier: Notifier,
    figures: Arc<Figures>,
}

impl Handle {
    /// A place for another configuration, while that is still being made ready. Never waits.
    ///
    /// # Errors
    /// Why there is none.
    pub fn place(&self) -> Result<Place, NotTaken> {
        let permit = self.permit()?;
        match Arc::strong_count(&self.places.0) <= ORDERS_MAX {
            true => Ok(Place(permit, self.places.0.clone())),
            false => Err(NotTaken::Hangs),
        }
    }

    /// As [`Handle::place`], for edits of a few virtual servers.
    ///
    /// # Errors
    /// Why there is none.
    pub fn place_for_edits(&self) -> Result<EditPlace, NotTaken> {
        self.permit().map(EditPlace)
    }

    fn permit(&self) -> Result<mpsc::OwnedPermit<Order>, NotTaken> {
        self.orders.clone().try_reserve_owned().map_err(|refused| match refused {
            TrySendError::Closed(_) => NotTaken::Ended,
            TrySendError::Full(_) => NotTaken::Hangs,
        })
    }

    /// What the data plane has counted of real servers; to be called about once a second. Left out if the checker is busy.
    pub fn observe(&self, samples: Vec<Sample>) {
        let _ = self.orders.try_send(Order::Observe(samples));
    }

    /// Ends the checker, after the hooks of `omega`.
    pub fn stop(&self) {
        self.stop.notify_one();
    }

    /// The verdicts, and when they change.
    pub fn overlay(&self) -> watch::Receiver<Arc<Overlay>> {
        self.overlay.clone()
    }

    /// The quorums by name, and when one changes. `borrow` needs no runtime.
    pub fn quorums(&self) -> watch::Receiver<Quorums> {
        self.quorums.clone()
    }

    /// Where VRRP says what changes.
    pub fn notifier(&self) -> Notifier {
        self.notifier.clone()
    }

    /// How many of its changes found no room.
    pub fn notices_lost(&self) -> u64 {
        self.notifier.lost()
    }

    /// What is known of the scripts that VRRP tracks, and when that changes.
    pub fn scripts(&self) -> watch::Receiver<ScriptListings> {
        self.scripts.clone()
    }

    /// What is known now, in the order of the file. The judge is asked for a few virtual servers at a time, so that checks go on
    /// meanwhile: all of a large file take longer than a check may be late.
    pub fn listing(&self) -> Vec<ServiceListing> {
        let (mut listed, mut configurations) = (Vec::new(), None);
        loop {
            let judge = lock(&self.judge);
            // Another file: places are others now.
            if configurations.replace(judge.configurations()) != Some(judge.configurations()) {
                listed.clear();
            }
            let some = judge.listing_of(listed.len()..listed.len() + LISTED_AT_ONCE, self.begun.elapsed());
            drop(judge);
            if some.is_empty() {
                return listed;
            }
            listed.extend(some);
            // Whoever waits for the judge is on the same core.
            std::thread::yield_now();
        }
    }

    /// When the checker was made: moments of the listing count from then.
    pub fn began(&self) -> SystemTime {
        self.began
    }

    /// How many things are checked.
    pub fn target_count(&self) -> usize {
        lock(&self.judge).target_count()
    }

    /// What the checker counts about itself.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }
}

fn lock(judge: &Mutex<Judge>) -> MutexGuard<'_, Judge> {
    judge.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See the module.
pub struct Checker {
    judge: Arc<Mutex<Judge>>,
    begun: Instant,
    orders: mpsc::Receiver<Order>,
    stop: Arc<Notify>,
    overlay: watch::Sender<Arc<Overlay>>,
    quorums: watch::Sender<Quorums>,
    figures: Arc<Figures>,
    errors: Complaints,
    probes: Arc<Probes>,
    ways: Arc<dyn Ways>,
    hooks: HookRunner,
    scripts: Scripts,
    notices: Notices,
    under_way: JoinSet<(TargetId, Answer)>,
    /// Checks under way at most.
    room: usize,
    /// When what changed is passed on; `None`: nothing changed.
    tell_at: Option<Instant>,
    told_at: Instant,
}

impl Checker {
    /// For a configuration, with everybody's end. The overlay there is of use at once. `seed` is random.
    pub fn new(config: &Config, seed: u64) -> (Self, Handle) {
        let begun = Instant::now();
        let mut judge = Judge::new(seed);
        judge.configure(config, Duration::ZERO);
        let (overlay, overlay_receiver) = watch::channel(Arc::new(judge.overlay()));
        let (quorums, quorums_receiver) = watch::channel(quorums(&judge));
        // Who holds these ends knows.
        judge.news();
        let (orders, orders_receiver) = mpsc::channel(ALL_ORDERS_MAX);
        let judge = Arc::new(Mutex::new(judge));
        let figures = Arc::new(Figures::new());
        let account = account(config);
        let stop = Arc::new(Notify::new());
        let (notices, notifier) = Notices::new(config, account, figures.clone());
        let (scripts, scripts_receiver) = Scripts::new(config, account);
        let checker = Self {
            judge: judge.clone(),
            begun,
            orders: orders_receiver,
            stop: stop.clone(),
            overlay,
            quorums,
            figures: figures.clone(),
            errors: Complaints::default(),
            probes: Arc::new(Probes::new(account, Arc::new(NoWay))),
            ways: Arc::new(NoWay),
            hooks: HookRunner::new(account, runs_programs(config), figures.hooks.clone()),
            scripts,
            notices,
            under_way: JoinSet::new(),
            room: room(config.health.concurrent_max as usize),
            tell_at: None,
            told_at: begun,
        };
        let handle = Handle {
            judge,
            begun,
            began: SystemTime::now(),
            orders,
            places: Arc::default(),
            overlay: overlay_receiver,
            quorums: quorums_receiver,
            scripts: scripts_receiver,
            notifier,
            figures,
            stop,
        };
        (checker, handle)
    }

    /// Knows the ways that clients' packets take.
    pub fn with_ways(self, config: &Config, ways: Arc<dyn Ways>) -> Self {
        let probes = Arc::new(Probes::new(account(config), ways.clone()));
        Self { ways, probes, ..self }
    }

    /// Checks until [`Handle::stop`], or until nobody is left who wants to know. Calls `beat` with each turn, every quarter of a
    /// second at least unless it hangs.
    pub async fn run(mut self, beat: impl Fn()) {
        let stop = self.stop.clone();
        // Memory for tables was taken since the checker was made; what was due meanwhile would all come at once.
        lock(&self.judge).postpone(self.begun.elapsed());
        self.hooks.try_account();
        loop {
            beat();
            self.begin_what_is_due();
            let again = Instant::now() + BEAT;
            let next = lock(&self.judge).next_due().map(|due| self.begun + due);
            let next =
                next.filter(|_| self.under_way.len() < self.room).map_or(again, |next| next.min(again));
            tokio::select! {
                biased;
                () = stop.notified() => break,
                order = self.orders.recv() => match order {
                    Some(Order::Configure(config, place)) => {
                        self.configure(&config);
                        // It waits no more.
                        drop(place);
                    }
                    Some(Order::Edit(removed, changed)) => self.edit(&removed, &changed),
                    Some(Order::Observe(samples)) => {
                        let is_change = lock(&self.judge).observe(self.begun.elapsed(), &samples);
                        self.follow(is_change);
                    }
                    None => break,
                },
                () = self.notices.next() => {}
                () = self.scripts.next() => {}
                () = at(self.tell_at) => self.tell(),
                Some(ended) = self.under_way.join_next() => self.take(ended),
                () = self.hooks.next() => {}
                () = sleep_until(next) => {}
            }
        }
        self.farewell().await;
    }

    /// Takes an answer in.
    fn take(&mut self, ended: Result<(TargetId, Answer), JoinError>) {
        match ended {
            Ok((id, answer)) => {
                self.figures.under_way.set(self.under_way.len() as u64);
                self.figures.duration.record(answer.took);
                if answer.outcome != Outcome::Success {
                    self.log_failure(id, &answer);
                }
                let is_change = lock(&self.judge).answer(id, self.begun.elapsed(), answer);
                self.follow(is_change);
            }
            // A check that panics is a fault of weir's, which ends for it as a whole.
            Err(problem) if problem.is_panic() => std::panic::resume_unwind(problem.into_panic()),
            Err(_) => {}
        }
    }

    /// Verdicts are what matters; single failures are for who looks closely. A fault of weir's own makes no verdict, so it is said,
    /// if not each time.
    fn log_failure(&mut self, id: TargetId, answer: &Answer) {
        if answer.outcome == Outcome::Error {
            self.figures.errors.add_one();
            if let Some(unsaid) = self.errors.take(Instant::now())
                && let Some(what) = lock(&self.judge).describe(id)
            {
                let others = match unsaid {
                    0 => String::new(),
                    count => format!(" ({count} more such errors of all checks since the last line)"),
                };
                warn!(
                    "{what} can't be made, so what is known of the server stays: {}{others}",
                    answer.detail
                );
            }
            return;
        }
        if tracing::enabled!(tracing::Level::DEBUG)
            && let Some(what) = lock(&self.judge).describe(id)
        {
            debug!("{what}: {}", answer.detail);
        }
    }

    fn begin_what_is_due(&mut self) {
        let now: Moment = self.begun.elapsed();
        let mut judge = lock(&self.judge);
        while self.under_way.len() < self.room
            && let Some(due) = judge.begin(now)
        {
            self.figures.checks.add_one();
            self.figures.lateness.record(due.lateness);
            let probes = self.probes.clone();
            self.under_way.spawn(async move { (due.id, probes.run(&due.key).await) });
        }
        if self.under_way.len() >= self.room && judge.next_due().is_some_and(|due| due <= now) {
            self.figures.crowded.add_one();
        }
        self.figures.under_way.set(self.under_way.len() as u64);
    }

    fn configure(&mut self, config: &Config) {
        let account = account(config);
        // Certificates are read again.
        self.probes = Arc::new(Probes::new(account, self.ways.clone()));
        self.hooks.run_as(account, runs_programs(config));
        self.hooks.try_account();
        self.scripts.configure(config, account);
        self.notices.configure(config, account);
        self.room = room(config.health.concurrent_max as usize);
        lock(&self.judge).configure(config, self.begun.elapsed());
        self.follow(true);
    }

    fn edit(&mut self, removed: &[Identity], changed: &[VirtualServer]) {
        if changed.iter().any(has_programs) && self.hooks.need_programs() {
            self.hooks.try_account();
        }
        lock(&self.judge).edit(removed, changed, self.begun.elapsed());
        self.follow(true);
    }

    /// What follows from something that the judge heard.
    fn follow(&mut self, is_change: bool) {
        if !is_change {
            return;
        }
        let events = lock(&self.judge).events();
        for event in &events {
            log(event);
            self.hooks.tell(event);
        }
        let earliest = (Instant::now() + SETTLE).max(self.told_at + GATHER);
        self.tell_at.get_or_insert(earliest);
    }

    fn tell(&mut self) {
        self.tell_at = None;
        self.told_at = Instant::now();
        let mut judge = lock(&self.judge);
        // A first success changes a verdict and nothing that is served.
        let news = judge.news();
        let overlay = news.overlay.then(|| Arc::new(judge.overlay()));
        let quorums = news.quorums.then(|| quorums(&judge));
        drop(judge);
        if let Some(overlay) = overlay {
            self.figures.overlays.add_one();
            self.overlay.send_replace(overlay);
        }
        if let Some(quorums) = quorums {
            self.quorums.send_replace(quorums);
        }
    }

    /// Tells hooks of the end where the file wants it, and gives them a little time.
    async fn farewell(mut self) {
        self.under_way.shutdown().await;
        self.scripts.shutdown().await;
        let events = lock(&self.judge).farewell(self.begun.elapsed());
        for event in &events {
            self.hooks.tell(event);
        }
        self.notices.drain();
        let end = Instant::now() + FAREWELL;
        while !self.hooks.is_idle() || !self.notices.is_idle() {
            let next = async {
                tokio::select! {
                    () = self.hooks.next() => {}
                    () = self.notices.next() => {}
                }
            };
            if timeout_at(end, next).await.is_err() {
                warn!("hooks are still running; they are ended");
                break;
            }
        }
    }
}

/// Limits lines of one kind.
#[derive(Default)]
struct Complaints {
    next: Option<Instant>,
    unsaid: u64,
}

impl Complaints {
    /// `None`: not now. Else how many were not said since the last one that was.
    fn take(&mut self, now: Instant) -> Option<u64> {
        if self.next.is_some_and(|next| now < next) {
            self.unsaid += 1;
            return None;
        }
        self.next = Some(now + COMPLAINTS_APART);
        Some(std::mem::take(&mut self.unsaid))
    }
}

/// That moment; never, if there is none.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn quorums(judge: &Judge) -> Quorums {
    Arc::new(judge.quorums().map(|(name, has_quorum)| (name.to_owned(), has_quorum)).collect())
}

/// Programs have an account of their own where weir could give them any.
fn account(config: &Config) -> Option<Account> {
    if !local::began_as_root() {
        return None;
    }
    // Whoever loaded the file has looked it up. One that is not there is nobody, and never root.
    let account = config.health.account.map_or_else(|| local::account(&config.health), Ok);
    Some(account.unwrap_or(local::NOBODY))
}

/// Whether anything in the file is a program.
fn runs_programs(config: &Config) -> bool {
    let is_script = |track: &VrrpTrack| matches!(track.what, VrrpTracked::Script(_));
    config.virtual_servers.iter().any(has_programs)
        || config.vrrp.iter().flat_map(|it| &it.track).any(is_script)
        || vrrp_hooks(config).any(|hooks| hooks.all().next().is_some())
}

fn vrrp_hooks(config: &Config) -> impl Iterator<Item = &VrrpHooks> {
    let of_groups = config.vrrp_groups.iter().map(|group| &*group.hooks);
    config.vrrp.iter().map(|vrrp| &*vrrp.hooks).chain(of_groups)
}

fn has_programs(server: &VirtualServer) -> bool {
    let Hooks { up, down, quorum_up, quorum_down } = &server.health.hooks;
    let mut checks = server.real_servers.iter().flat_map(|real| &real.health_checks);
    [up, down, quorum_up, quorum_down].iter().any(|hook| !hook.is_empty())
        || server.real_servers.iter().any(|real| real.hooks.is_some())
        || checks.any(|check| matches!(check.probe, Probe::Exec { .. }))
}

/// How many checks may be under way: what the file says, within what the process may open.
fn room(wanted: usize) -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    // The soft limit protects programs that use select(2); none is here.
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum {
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => limit = getrlimit(Resource::Nofile),
            Err(problem) => debug!("the limit of open files stays: {problem}"),
        }
    }
    let files = limit.current.unwrap_or(u64::MAX).saturating_sub(FILES_KEPT).max(1);
    let room = usize::try_from(files).unwrap_or(usize::MAX).min(wanted);
    if room < wanted {
        info!(checks = room, "the limit of open files bounds how many checks are under way at a time");
    }
    room
}

fn log(event: &Event) {
    let (name, after) = (&event.virtual_server, event.after.as_secs_f64());
    match &event.change {
        Change::Server { server, is_up: true, reason } => {
            info!("real server {server} of {name} is up after {after:.1} s: {reason}");
        }
        Change::Server { server, is_up: false, reason } => {
            warn!("real server {server} of {name} is down after {after:.1} s: {reason}");
        }
        Change::Weight { server, from, to, source } => {
            info!("real server {server} of {name} has weight {to} instead of {from}, says the {source}");
        }
        Change::Limit { server, limit, source } => {
            let limit = match limit {
                Limit::Configured => "as many connections as the file says".to_owned(),
                Limit::Fixed(0) => "connections without a limit".to_owned(),
                Limit::Fixed(most) => format!("at most {most} connections"),
            };
            info!("real server {server} of {name} takes {limit}, says the {source}");
        }
        Change::Quorum { has_quorum: true, weight, quorum } => {
            info!("{name} has its quorum again after {after:.1} s: weight {weight} of {quorum} is up");
        }
        Change::Quorum { has_quorum: false, weight, quorum } => {
            warn!("{name} has lost its quorum after {after:.1} s: weight {weight} of {quorum} is up");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, TcpListener};
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::thread::{self, JoinHandle};

    use super::*;

    /// `count` real servers on addresses of the loopback device, checked by tcp.
    fn config(count: u32, port: u16) -> Config {
        let mut text = format!(
            "[[port]]\nname = \"lan\"\ndevice = \"net_null0\"\naddresses = [\"10.0.0.2/8\"]\n\
             [[virtual_server]]\nname = \"web\"\naddress = \"10.0.0.100\"\nport = {port}\n\
             [virtual_server.health_check]\ntype = \"tcp\"\ninterval = 0.4\nwarmup = 0.4\ntimeout = 20\nfall = 1\n"
        );
        for number in 0..count {
            text += &format!(
                "[[virtual_server.real_server]]\naddress = \"10.1.{}.{}\"\n",
                number >> 8,
                number & 255
            );
        }
        let mut config = weir_config::parse("t", &text).unwrap_or_else(|report| panic!("{report}")).config;
        for (number, real) in config.virtual_servers[0].real_servers.iter_mut().enumerate() {
            real.address = IpAddr::V4(Ipv4Addr::from(0x7f01_0001 + number as u32));
        }
        config
    }

    /// Takes connections on all addresses of the loopback device until it is told to stop.
    fn serve(port: u16, is_serving: Arc<AtomicBool>) -> JoinHandle<()> {
        let listener = TcpListener::bind(("0.0.0.0", port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        thread::spawn(move || {
            while is_serving.load(Relaxed) {
                if listener.accept().is_err() {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        })
    }

    #[test]
    fn a_thousand_failures_are_a_few_changes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let is_serving = Arc::new(AtomicBool::new(true));
        let server = serve(port, is_serving.clone());
        let (checker, handle) = Checker::new(&config(1000, port), 1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let up = |handle: &Handle| handle.listing()[0].servers.iter().filter(|server| server.is_up).count();
        runtime.block_on(async {
            let checking = tokio::spawn(checker.run(|| {}));
            while handle.figures().duration.count() < 2000 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert_eq!((up(&handle), handle.figures().overlays.get()), (1000, 0));
            let mut quorums = handle.quorums();
            assert!(quorums.borrow_and_update()["web"]);
            let begun = Instant::now();
            is_serving.store(false, Relaxed);
            let lost = tokio::time::timeout(Duration::from_secs(60), quorums.changed());
            lost.await.unwrap().unwrap();
            assert_eq!((up(&handle), quorums.borrow()["web"]), (0, false));
            let most = begun.elapsed().as_millis() / GATHER.as_millis() + 2;
            let told = handle.figures().overlays.get();
            assert!(u128::from(told) <= most, "{told} in {:?}", begun.elapsed());
            handle.stop();
            checking.await.unwrap();
        });
        server.join().unwrap();
        assert_eq!(handle.place().err(), Some(NotTaken::Ended));
    }

    #[test]
    fn a_checker_that_takes_no_orders_has_no_place_until_one_is_given_up() {
        let (_checker, handle) = Checker::new(&config(1, 1), 1);
        let mut places: Vec<Place> = (0..ORDERS_MAX).map(|_| handle.place().unwrap()).collect();
        assert_eq!(handle.place().err(), Some(NotTaken::Hangs));
        places.pop();
        handle.place().unwrap().configure(Arc::new(config(2, 1)));
        assert_eq!(handle.place().err(), Some(NotTaken::Hangs));
    }

    #[test]
    fn a_listing_in_pieces_is_whole_and_in_order() {
        let mut text =
            "[[port]]\nname = \"lan\"\ndevice = \"net_null0\"\naddresses = [\"10.0.0.2/8\"]\n".to_owned();
        let names: Vec<String> = (0..3 * LISTED_AT_ONCE + 1).map(|number| format!("v{number}")).collect();
        for (number, name) in names.iter().enumerate() {
            text +=
                &format!("[[virtual_server]]\nname = \"{name}\"\naddress = \"10.0.1.{number}\"\nport = 80\n");
        }
        let config = weir_config::parse("t", &text).unwrap_or_else(|report| panic!("{report}")).config;
        let (_checker, handle) = Checker::new(&config, 1);
        let listed: Vec<String> = handle.listing().into_iter().map(|service| service.name).collect();
        assert_eq!(listed, names);
    }
}
