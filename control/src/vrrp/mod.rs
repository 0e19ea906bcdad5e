//! VRRP: a thread of its own for the timers, and its end in control.
//!
//! ```text
//!  workers -- advertisements --> [thread: weir_vrrp::router] -- who is master: one snapshot --> workers
//!     ^ <---- advertisements, announcements ----' ^-- file, readings of what is tracked, claims -- control
//! ```
//! * The thread has real-time priority where the kernel grants it, reads the monotonic clock, and never waits for
//!   control, a file or the log: what it has to say goes into a bounded queue.
//! * An advertisement is sent before the data plane serves the addresses, and they are announced after that.
//! * It goes through the first worker. While that does not take what it is given the thread counts as not running: it
//!   makes no advertisement that would come out late, and takes over nothing.
//! * What a worker serves of a master has a lease ([`weir_dataplane::snapshot::virtual_router`]) that ends when other
//!   routers may take over, and that this thread renews.

pub(crate) mod control;
mod files;
mod messages;
pub(crate) mod orders;
pub(crate) mod port_end;
pub(crate) mod processes;
pub(crate) mod sequence;
pub(crate) mod settings;
pub(crate) mod status;
mod thread;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::sleep;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam::queue::ArrayQueue;
use tokio::sync::Notify;
use tracing::{info, warn};
use weir_config::model::Config;
use weir_dataplane::director::Shared;
use weir_dataplane::punt::{Channel, Owner, Punt};
use weir_dataplane::snapshot::Snapshot;
use weir_dataplane::snapshot::publish::Masters;
use weir_health::checker::Quorums;
use weir_health::notices::Notifier;
use weir_health::scripts::ScriptListings;
use weir_vrrp::discard::Discard;
use weir_vrrp::track::{Reading, Tracked};

use control::VrrpControl;
use files::Files;
use messages::{Claim, Note};
use orders::Orders;
use port_end::PortEnd;
use processes::Processes;
use sequence::Sequences;
use status::{Status, fault_of};
pub(crate) use thread::Thread;

use crate::lasting::Lasts;
use crate::threads::{Role, Threads};

/// Claims that wait for the thread at most: it takes all of them every millisecond.
const CLAIMS_MAX: usize = 1_024;
/// Notes for the log that wait for control at most.
const NOTES_MAX: usize = 1_024;
/// The same refusal is logged this often at most.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Refusals whose last time in the log is remembered.
const REFUSALS_MAX: usize = 1_024;
/// How long a clean stop waits for the last advertisements.
const RESIGN_TIMEOUT: Duration = Duration::from_millis(500);
/// How often it looks whether they are sent.
const RESIGN_LOOK: Duration = Duration::from_millis(1);

/// Control's end.
pub(crate) struct Vrrp {
    ports: Arc<[PortEnd]>,
    orders: Orders,
    claims: SyncSender<Claim>,
    /// There are notes that should not wait.
    news: Arc<Notify>,
    notes: Arc<ArrayQueue<Note>>,
    status: Arc<ArcSwap<Status>>,
    tracked: Vec<Tracked>,
    files: Files,
    processes: Processes,
    readings: HashMap<Tracked, Reading>,
    refusals: HashMap<(Option<String>, Discard), Instant>,
    sequences: Sequences,
}

impl Vrrp {
    /// All ends, with the instances of the file, which start when the thread runs. `workers` are the ends of the
    /// workers' channels, `masters` is where the thread says who is master, and
    /// `notifier` where it says what changes.
    pub(crate) fn new(
        config: &Config,
        ports: Vec<PortEnd>,
        workers: &mut [Punt],
        shared: &[Shared],
        (masters, notifier): (Masters, Notifier),
    ) -> (Self, VrrpControl, Thread) {
        let ports: Arc<[PortEnd]> = ports.into();
        let (orders, taker) = Orders::new();
        let (claims, claimed) = sync_channel(CLAIMS_MAX);
        let news = Arc::new(Notify::new());
        let notes = Arc::new(ArrayQueue::new(NOTES_MAX));
        let status = Arc::new(ArcSwap::from_pointee(Status::default()));
        let ends = thread::Ends {
            channel: Channel::connect(Owner::Vrrp, workers),
            orders: taker,
            claimed,
            masters,
            notifier,
            news: news.clone(),
            notes: notes.clone(),
            status: status.clone(),
            ports: ports.iter().map(|port| port.name.clone()).collect(),
            fences: ports.iter().map(|port| port.fence.clone()).collect(),
            workers: shared.len(),
        };
        let mut control = VrrpControl::new(ports.clone(), orders.clone());
        let setups = control.setups(config, &sequence::read_new(config, None));
        control.commit(setups);
        let mut vrrp = Self {
            ports,
            orders,
            claims,
            news,
            notes,
            status,
            tracked: Vec::new(),
            files: Files::new(),
            processes: Processes::default(),
            readings: HashMap::new(),
            refusals: HashMap::new(),
            sequences: Sequences::new(),
        };
        vrrp.follow(config);
        (vrrp, control, Thread::new(ends))
    }

    /// For whoever shows it.
    pub(crate) fn status(&self) -> Arc<ArcSwap<Status>> {
        self.status.clone()
    }

    /// Tracked processes.
    pub(crate) fn processes(&self) -> Processes {
        self.processes.clone()
    }

    /// How long the read of a tracked file that is under way lasts.
    pub(crate) fn reading(&self) -> Lasts {
        self.files.reading()
    }

    /// The same of the write of a sequence file.
    pub(crate) fn writing(&self) -> Lasts {
        self.sequences.writing()
    }

    /// Says so if a tracked file does not come, or a sequence file is not written.
    pub(crate) fn look_at_files(&mut self, now: Instant) {
        self.files.look(now);
        self.sequences.look(now);
    }

    /// Looks at what the instances of another file track, and keeps the numbers that they want kept.
    pub(crate) fn follow(&mut self, config: &Config) {
        self.sequences.configure(config);
        self.tracked = config.vrrp.iter().flat_map(settings::trackers).map(|tracker| tracker.what).collect();
        self.tracked.sort_by_key(|tracked| format!("{tracked:?}"));
        self.tracked.dedup();
        let (mut paths, mut names) = (Vec::new(), BTreeSet::new());
        for tracked in &self.tracked {
            match tracked {
                Tracked::File(path) => paths.push(path.clone()),
                Tracked::Process(name, _) => drop(names.insert(name.clone())),
                Tracked::Port(_) | Tracked::VirtualServer(_) | Tracked::Script(_) | Tracked::Workers => {}
            }
        }
        self.files.watch(paths);
        self.processes.watch(names);
    }

    /// Waits until an instance has changed its state.
    pub(crate) async fn changed(&self) {
        self.news.notified().await;
    }

    /// Another host claims an address.
    pub(crate) fn claimed(&self, port: usize, address: IpAddr) {
        let _ = self.claims.try_send(Claim(port, address));
    }

    /// Looks at everything that is tracked. `link_up` by port number; what does not say is taken to be up. `quorums` are
    /// what health checks say and `scripts` what their programs do, `are_well` whether every worker polls.
    pub(crate) fn track(
        &mut self,
        snapshot: &Snapshot,
        (quorums, scripts): (&Quorums, &ScriptListings),
        link_up: impl Fn(usize) -> bool,
        are_well: bool,
    ) {
        self.keep_sequences();
        let counts = self.processes.look();
        let mut readings = HashMap::with_capacity(self.tracked.len());
        for tracked in &self.tracked {
            let up = |up| if up { Reading::Up } else { Reading::Down };
            let reading = match tracked {
                Tracked::Port(port) => up(link_up(*port)),
                Tracked::Workers => up(are_well),
                Tracked::VirtualServer(name) => {
                    up(quorums.get(name).copied().unwrap_or_else(|| has_usable_server(snapshot, name)))
                }
                Tracked::Script(name) => {
                    scripts.get(name).and_then(|script| script.is_up).map_or(Reading::Unknown, up)
                }
                Tracked::Process(name, quorum) => {
                    counts.get(name).map_or(Reading::Unknown, |count| up(count >= quorum))
                }
                Tracked::File(path) => match self.files.number(path) {
                    Some(number) => Reading::Number(number),
                    // Not a number now: what it said before stays.
                    None => self.readings.get(tracked).copied().unwrap_or(Reading::Number(0)),
                },
            };
            readings.insert(tracked.clone(), reading);
        }
        if readings != self.readings {
            self.readings = readings.clone();
            self.orders.read(readings);
        }
    }

    /// Keeps the numbers of authentication headers over a restart.
    fn keep_sequences(&mut self) {
        let status = self.status.load();
        let numbers = status.instances.iter().filter_map(|instance| Some((instance.key?, instance.sequence)));
        self.sequences.keep(numbers);
    }

    /// Waits until the masters have resigned, as they do by themselves when weir leaves.
    pub(crate) fn resigned(&self, threads: &Threads) {
        let begun = Instant::now();
        while threads.pulse(Role::Vrrp).is_some() && begun.elapsed() < RESIGN_TIMEOUT {
            sleep(RESIGN_LOOK);
        }
    }

    /// Writes what the thread has to say to the log.
    pub(crate) fn log(&mut self) {
        while let Some(note) = self.notes.pop() {
            self.log_one(note);
        }
    }

    fn log_one(&mut self, note: Note) {
        let names: Vec<String> = self.ports.iter().map(|port| port.name.clone()).collect();
        match note {
            Note::Transition { instance, from, to, cause, fault } => {
                let (from, to) = (from.name(), to.name());
                match fault {
                    Some(fault) => {
                        let mut why = fault_of(&fault, &names);
                        if let Some(Reading::Number(number)) = self.readings.get(&fault) {
                            why = format!("{why} ({number})");
                        }
                        warn!(instance, from, to, "VRRP: {why}");
                    }
                    None => info!(instance, from, to, "VRRP: {cause}"),
                }
            }
            Note::Refused { reason: Discard::UnknownRouter, .. } => {}
            Note::Refused { port, instance, source, reason } => {
                if self.may_log((instance.clone(), reason)) {
                    let (port, instance) = (&names[port], instance.unwrap_or_default());
                    let source = source.map(|source| source.to_string()).unwrap_or_default();
                    warn!(port, instance, source, "VRRP: advertisement refused: {}", reason.help());
                }
            }
            Note::AddressMismatch { instance, source } => {
                if self.may_log((Some(instance.clone()), Discard::UnknownRouter)) {
                    warn!(instance, %source, "VRRP: the other router lists other addresses than ours");
                }
            }
            Note::Stalled { millis, by_worker } => {
                let who = if by_worker { "the first worker" } else { "VRRP's thread" };
                warn!(millis, "VRRP: {who} did not run; the machine is too busy or was stopped");
            }
            Note::NotInRealTime(problem) => {
                warn!("VRRP runs without real-time priority, so a busy machine may delay it: {problem}");
            }
            Note::Unsent { port, why } => warn!(port = names[port], "VRRP: not sent: {why}"),
        }
    }

    fn may_log(&mut self, key: (Option<String>, Discard)) -> bool {
        let now = Instant::now();
        if self.refusals.get(&key).is_some_and(|last| now - *last < REFUSAL_LOG_INTERVAL) {
            return false;
        }
        if self.refusals.len() >= REFUSALS_MAX {
            self.refusals.retain(|_, last| now - *last < REFUSAL_LOG_INTERVAL);
        }
        self.refusals.len() < REFUSALS_MAX && self.refusals.insert(key, now).is_none_or(|_| true)
    }
}

/// For a virtual server that health checks know nothing of yet.
fn has_usable_server(snapshot: &Snapshot, name: &str) -> bool {
    let Some(service) = snapshot.services().find(|service| service.name == name) else { return false };
    snapshot.servers().any(|server| server.service == service.id && server.is_present && server.weight > 0)
}
