//! The thread that runs the routers.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::Receiver;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use crossbeam::queue::ArrayQueue;
use hashbrown::HashSet;
use tokio::sync::Notify;
use weir_dataplane::punt::Channel;
use weir_dataplane::snapshot::publish::Masters;
use weir_dataplane::snapshot::virtual_router::{Fence, RouterKey};
use weir_health::notices::{self, Kind, Notice, Notifier};
use weir_vrrp::instance::Instance;
use weir_vrrp::machine::State;
use weir_vrrp::router::{Output, Router};
use weir_vrrp::time::Micros;
use weir_vrrp::track::{Reading, Tracked};

use super::messages::{Claim, Note};
use super::orders::{Instances, Taker, Wanted};
use super::status::{Status, key_of};
use crate::flags::Flags;
use crate::threads::Pulse;

/// Between two looks at the ring and the timers.
const TURN: Duration = Duration::from_millis(1);
/// The same without instances.
const IDLE: Duration = Duration::from_millis(50);
/// A thread that did not run for this long has missed something.
const STALL: Duration = Duration::from_millis(20);
/// From here on that is worth a line in the log.
const STALL_LOGGED: Duration = Duration::from_millis(100);
/// Between two of those lines.
const STALL_LOG_INTERVAL: Duration = Duration::from_secs(10);
/// How long a frame may wait for the worker.
const FRESH: Duration = Duration::from_millis(50);
/// Between two values for readers.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);
/// Over which lateness is looked back.
const LATENESS_WINDOW: Duration = Duration::from_secs(10);
/// Frames taken from the workers in one turn.
const FRAMES_PER_TURN: usize = 256;
/// Among those below the kernel's own threads, above all that other programs usually take.
const REAL_TIME_PRIORITY: u8 = 50;
/// Workers end a little later than they were to: control looks ten times a second.
const LINGER_MORE: Duration = Duration::from_secs(1);
/// A last advertisement is given to the worker for this long.
const RESIGN_WAIT: Duration = Duration::from_millis(200);

/// What connects it with the rest.
pub(super) struct Ends {
    pub(super) channel: Channel,
    pub(super) orders: Taker,
    pub(super) claimed: Receiver<Claim>,
    pub(super) masters: Masters,
    /// Is told of every state.
    pub(super) notifier: Notifier,
    /// Has control look at the notes.
    pub(super) news: Arc<Notify>,
    pub(super) notes: Arc<ArrayQueue<Note>>,
    pub(super) status: Arc<ArcSwap<Status>>,
    /// Names, by port number.
    pub(super) ports: Vec<String>,
    pub(super) fences: Vec<Arc<Fence>>,
    pub(super) workers: usize,
}

/// See the module.
pub(crate) struct Thread {
    ends: Ends,
    router: Router,
    begin: Instant,
    readings: HashMap<Tracked, Reading>,
    /// What the instances of now are told by, and those of before the last reload.
    hooks: [Instances; 2],
    /// All stop, since weir does.
    resigns: bool,
    /// The data plane does not know yet who is master now.
    owes_masters: bool,
    /// The data plane goes on serving those that were master, until the end.
    lingers: bool,
    /// Frames that wait for the data plane to serve what they announce: port and frame.
    announcements: VecDeque<(usize, Vec<u8>)>,
    last_turn: Micros,
    stuck_since: Option<Micros>,
    /// Whether it has asked for real-time priority.
    has_priority: bool,
    stalls: u64,
    stall_logged: Option<Micros>,
    /// The worst lateness of this window and of the one before.
    lateness: [Duration; 2],
    window_began: Micros,
    status_at: Micros,
    frame: Vec<u8>,
}

impl Thread {
    pub(super) fn new(ends: Ends) -> Self {
        Self {
            ends,
            router: Router::new(),
            begin: Instant::now(),
            readings: HashMap::new(),
            hooks: Default::default(),
            resigns: false,
            owes_masters: false,
            lingers: false,
            announcements: VecDeque::new(),
            last_turn: Micros(0),
            stuck_since: None,
            has_priority: false,
            stalls: 0,
            stall_logged: None,
            lateness: [Duration::ZERO; 2],
            window_began: Micros(0),
            status_at: Micros(0),
            frame: Vec::new(),
        }
    }

    /// Runs until weir leaves, whether or not control knows of that; then its masters resign. Waits until all workers poll: before
    /// that nobody could send.
    pub(crate) fn run(mut self, flags: &Flags, pulse: &Pulse) {
        while !flags.is_leaving() && flags.polling.load(SeqCst) < self.ends.workers {
            pulse.beat();
            sleep(TURN);
        }
        self.last_turn = self.now();
        while !flags.is_leaving() {
            if flags.is_stopping() {
                return;
            }
            pulse.beat();
            self.turn();
            self.rest();
        }
        self.resign(flags.linger());
    }

    /// Sleeps until the next turn; without instances only a reload brings something to do.
    fn rest(&mut self) {
        if self.router.instances().is_empty() {
            sleep(IDLE);
            self.last_turn = self.now();
        } else {
            if !self.has_priority {
                self.has_priority = true;
                if let Err(problem) = dpdk::lcore::run_in_real_time(REAL_TIME_PRIORITY) {
                    self.note(Note::NotInRealTime(problem));
                }
            }
            sleep(TURN);
        }
    }

    fn now(&self) -> Micros {
        Micros(0) + self.begin.elapsed()
    }

    fn note(&self, note: Note) {
        // When the log can't keep up the counters still tell.
        let _ = self.ends.notes.push(note);
    }

    /// Everything that is due.
    fn turn(&mut self) {
        let now = self.now();
        if self.is_worker_stuck(now) {
            // Orders wait until it goes on.
            return;
        }
        let mut out = Vec::new();
        let gap = now.since(self.last_turn);
        if gap >= STALL {
            self.stalled(gap, now, &mut out);
        }
        self.last_turn = now;
        self.router.tell_time(wall(), now);
        self.take_updates(now, &mut out);
        for _ in 0..FRAMES_PER_TURN {
            let Some(punted) = self.ends.channel.pop(&mut self.frame) else { break };
            self.router.receive(punted.port, &self.frame, now, &mut out);
        }
        if let Some(deadline) = self.router.deadline() {
            self.lateness[0] = self.lateness[0].max(now.since(deadline));
        }
        self.router.run(now, &mut out);
        self.carry_out(out, now);
        self.tell_masters();
        self.send_announcements();
        self.renew_leases(now);
        if now.since(self.status_at) >= STATUS_INTERVAL {
            self.show(now);
        }
    }

    /// Whether the worker has not taken what it was given for longer than a busy one needs.
    fn is_worker_stuck(&mut self, now: Micros) -> bool {
        if self.ends.channel.is_drained() {
            self.stuck_since = None;
            return false;
        }
        now.since(*self.stuck_since.get_or_insert(now)) >= STALL
    }

    fn stalled(&mut self, gap: Duration, now: Micros, out: &mut Vec<Output>) {
        self.stalls += 1;
        let is_news = self.stall_logged.is_none_or(|last| now.since(last) >= STALL_LOG_INTERVAL);
        if gap >= STALL_LOGGED && is_news {
            self.stall_logged = Some(now);
            let by_worker = self.stuck_since.is_some();
            self.note(Note::Stalled { millis: gap.as_millis(), by_worker });
        }
        self.router.stalled(gap, now, out);
    }

    fn take_updates(&mut self, now: Micros, out: &mut Vec<Output>) {
        let Wanted { setups, readings } = self.ends.orders.take(Instant::now());
        let are_new = readings.is_some();
        self.readings = readings.unwrap_or_else(|| std::mem::take(&mut self.readings));
        let readings = &self.readings;
        if let Some(mut instances) = setups {
            let setups = std::mem::take(&mut instances.setups);
            // Those that are gone are told as well.
            self.hooks.swap(0, 1);
            self.hooks[0] = instances;
            self.router.configure(setups, &mut |tracked| read(readings, tracked), now, out);
        } else if are_new {
            self.router.track(&mut |tracked| read(readings, tracked), now, out);
        }
        while let Ok(Claim(port, address)) = self.ends.claimed.try_recv() {
            self.router.claimed(port, address, now, out);
        }
    }

    fn carry_out(&mut self, out: Vec<Output>, now: Micros) {
        let has_transition = out.iter().any(|output| matches!(output, Output::Transition { .. }));
        for output in out {
            match output {
                // The worker knows where a unicast peer is, or finds it out.
                Output::Advertise { port, frame, .. } => self.send(port, &frame),
                Output::Announce { port, frame } => self.announcements.push_back((port, frame)),
                Output::Group { group, state } => self.tell(Kind::Group, &group, state, 0),
                Output::Transition { instance, from, to, cause, fault, priority } => {
                    self.tell(Kind::Instance, &instance, to, priority);
                    self.note(Note::Transition { instance, from, to, cause, fault });
                }
                Output::Discarded { port, instance, source, reason } => {
                    self.note(Note::Refused { port, instance, source, reason });
                }
                Output::AddressMismatch { instance, source } => {
                    self.note(Note::AddressMismatch { instance, source });
                }
            }
        }
        if has_transition {
            self.renew_leases(now);
            self.owes_masters = true;
            self.tell_masters();
            self.show(now);
            self.ends.news.notify_one();
        }
    }

    /// Has programs and the FIFO hear of a state.
    fn tell(&self, kind: Kind, name: &str, state: State, priority: u8) {
        let state = match state {
            State::Master => notices::State::Master,
            State::Backup => notices::State::Backup,
            State::Fault => notices::State::Fault,
            State::Initialize if self.resigns => notices::State::Stop,
            State::Initialize => notices::State::Gone,
        };
        let of = |instances: &Instances| match kind {
            Kind::Instance => instances.hooks.get(name).cloned(),
            Kind::Group => instances.group_hooks.get(name).cloned(),
        };
        let hooks = self.hooks.iter().find_map(of).unwrap_or_default();
        self.ends.notifier.tell(Notice { kind, name: name.to_owned(), state, priority, hooks });
    }

    fn masters(&self) -> impl Iterator<Item = &Instance> {
        self.router.instances().iter().filter(|instance| instance.state() == State::Master)
    }

    fn send(&mut self, port: usize, frame: &[u8]) {
        let expires = dpdk::tsc().saturating_add(cycles(FRESH));
        if self.ends.channel.push_until(port, frame, expires).is_err() {
            self.note(Note::Unsent { port, why: "the worker does not take it" });
        }
    }

    /// Has the data plane serve who is master, unless control puts something in force right now: next turn then.
    fn tell_masters(&mut self) {
        if self.owes_masters && !self.lingers {
            let keys: HashSet<RouterKey> = self.masters().map(|its| key_of(its.settings())).collect();
            self.owes_masters = !self.ends.masters.try_set(&keys);
        }
    }

    /// Announces what the data plane serves by now.
    fn send_announcements(&mut self) {
        while !self.owes_masters
            && let Some((port, frame)) = self.announcements.pop_front()
        {
            self.send(port, &frame);
        }
    }

    /// Lets the workers serve masters until others may take over.
    fn renew_leases(&self, now: Micros) {
        let begin = dpdk::tsc();
        for instance in self.router.instances() {
            let settings = instance.settings();
            if let Some(end) = instance.lease_end() {
                let until = begin.saturating_add(cycles(end.since(now)));
                self.ends.fences[settings.port].renew(settings.is_ipv6(), settings.virtual_router_id, until);
            }
        }
    }

    fn show(&mut self, now: Micros) {
        self.status_at = now;
        if now.since(self.window_began) >= LATENESS_WINDOW {
            self.window_began = now;
            self.lateness = [Duration::ZERO, self.lateness[0]];
        }
        let mut status = Status::of(&self.router, &self.ends.ports, now);
        status.stalls = self.stalls;
        status.lateness_seconds = self.lateness[0].max(self.lateness[1]).as_secs_f64();
        self.ends.status.store(Arc::new(status));
    }

    /// Stops all instances and waits until the worker has sent that. What still comes to their addresses is served for `linger`, and nobody
    /// is told any more that they are here.
    fn resign(mut self, linger: Duration) {
        let now = self.now();
        if !linger.is_zero() {
            self.lingers = true;
            self.ends.fences.iter().for_each(|fence| fence.be_silent());
            let until = dpdk::tsc().saturating_add(cycles(linger + LINGER_MORE));
            for instance in self.masters() {
                let settings = instance.settings();
                let fence = &self.ends.fences[settings.port];
                fence.renew(settings.is_ipv6(), settings.virtual_router_id, until);
            }
        }
        self.resigns = true;
        let mut out = Vec::new();
        self.router.tell_time(wall(), now);
        self.router.stop(now, &mut out);
        self.announcements.clear();
        self.carry_out(out, now);
        while !self.ends.channel.is_drained() && self.now().since(now) < RESIGN_WAIT {
            sleep(TURN);
        }
        // The worker takes a frame a little before the device does.
        sleep(TURN);
    }
}

#[cfg(test)]
impl Thread {
    /// The instances that it is to run from now on, if it was told others.
    pub(crate) fn ordered(&self) -> Option<Vec<weir_vrrp::router::Setup>> {
        self.ends.orders.take(Instant::now()).setups.map(|instances| instances.setups)
    }
}

/// Since 1970.
fn wall() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// So many of the time stamp counter.
fn cycles(time: Duration) -> u64 {
    let cycles = time.as_micros() * u128::from(dpdk::tsc_hz()) / 1_000_000;
    u64::try_from(cycles).unwrap_or(u64::MAX)
}

/// What nobody has looked at yet is taken to be up, unless it takes its time.
fn read(readings: &HashMap<Tracked, Reading>, tracked: &Tracked) -> Reading {
    let unread = match tracked {
        Tracked::Script(_) | Tracked::Process(..) => Reading::Unknown,
        Tracked::Port(_) | Tracked::VirtualServer(_) | Tracked::File(_) | Tracked::Workers => Reading::Up,
    };
    readings.get(tracked).copied().unwrap_or(unread)
}
