//! The state machine of one instance (RFC 9568 section 6.4): `(state, event, now)` to actions.
//!
//! ```text
//!                    startup                  down timer fires
//!   Initialize ------------------> Backup ------------------------> Master
//!       ^  \_____ owner _____________|_____________________________^  |
//!       |                            | <------ higher priority -------|
//!       |                            v                                |
//!       +---- shutdown ---------- Fault <------- tracking says so ----+
//! ```
//! Fault is a state that keepalived added: something that is tracked is down, so this router must not be master. It
//! leaves by way of Backup.
//!
//! A master that did not run for as long as backups wait for one has been replaced, whatever it believes: when it runs
//! again it goes to Backup and listens for one interval before it takes over anew. A backup that did not run has not
//! listened either, so its timer stands still meanwhile.

use std::net::IpAddr;
use std::time::Duration;

use crate::packet::Version;
use crate::settings::{OWNER, Settings};
use crate::time::Micros;

/// A master that hears another one that has to go says so at once, but not more often than this.
const ASSERTION_INTERVAL: Duration = Duration::from_millis(100);
/// Advertisements that may be missed before a backup takes over.
const DOWN_ADVERTISEMENTS: u32 = 3;

/// Where an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Not started, or stopped.
    Initialize = 0,
    /// Another router has the addresses.
    Backup = 1,
    /// This router has them.
    Master = 2,
    /// Something that is tracked is down.
    Fault = 3,
}

impl State {
    /// As it stands in the log and the API.
    pub fn name(self) -> &'static str {
        match self {
            State::Initialize => "initialize",
            State::Backup => "backup",
            State::Master => "master",
            State::Fault => "fault",
        }
    }
}

/// Why a state was left for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// weir started, or the instance came with a reload.
    Started,
    /// The owner does not wait.
    Owner,
    /// No master was heard for the down interval.
    Silence,
    /// The master said that it stops.
    Resigned,
    /// A master of lower priority was heard, and preemption is on.
    Preemption,
    /// A master with a higher priority was heard.
    HigherPriority {
        /// Its priority.
        priority: u8,
        /// Its address.
        from: IpAddr,
    },
    /// A master with the same priority and a higher address was heard.
    HigherAddress {
        /// Its address.
        from: IpAddr,
    },
    /// Something tracked went down.
    Tracking,
    /// What was down came back.
    Recovered,
    /// It did not run for so long that another must have taken over.
    Stall,
    /// Another instance of its sync group did the same.
    Group,
    /// No sequence numbers are left for the authentication header.
    SequenceExhausted,
    /// weir stops, or a reload took the instance away.
    Stopped,
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Cause::Started => f.write_str("started"),
            Cause::Owner => f.write_str("it owns the addresses"),
            Cause::Silence => f.write_str("no master was heard"),
            Cause::Resigned => f.write_str("the master stopped"),
            Cause::Preemption => f.write_str("the master has a lower priority"),
            Cause::HigherPriority { priority, from } => {
                write!(f, "{from} has the higher priority {priority}")
            }
            Cause::HigherAddress { from } => write!(f, "{from} has the same priority and a higher address"),
            Cause::Tracking => f.write_str("something tracked is down"),
            Cause::Recovered => f.write_str("everything tracked is up again"),
            Cause::Stall => f.write_str("weir did not run for longer than backups wait"),
            Cause::Group => f.write_str("its sync group"),
            Cause::SequenceExhausted => f.write_str("no sequence numbers are left"),
            Cause::Stopped => f.write_str("stopped"),
        }
    }
}

/// An accepted advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// 0: its sender stops being master.
    pub priority: u8,
    /// Its sender.
    pub from: IpAddr,
    /// How often its sender advertises.
    pub interval: Duration,
}

/// What can happen to an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Begin.
    Startup,
    /// End; a master tells the others.
    Shutdown,
    /// [`Machine::deadline`] has come.
    Deadline,
    /// An advertisement was accepted.
    Advertisement(Heard),
    /// Another router claims the addresses that this one owns.
    Rival,
    /// Tracking changed the priority.
    Priority(u8),
    /// It must not be master.
    Fault(Cause),
    /// It may be again.
    Recovered,
    /// It was not run for this long, which ends now.
    Stalled(Duration),
    /// All of the sync group want to be master.
    GroupMaster,
    /// One of the sync group stopped being master.
    GroupBackup,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send an advertisement with this priority.
    Advertise(u8),
    /// Announce the addresses: just become master.
    Announce,
    /// Announce them again: another router may have.
    AnnounceAgain,
    /// The state changed.
    Become {
        /// It was this.
        from: State,
        /// It is this.
        to: State,
        /// For this reason.
        cause: Cause,
    },
    /// The down timer of an instance in a sync group fired: [`Event::GroupMaster`] follows when all others want it too.
    WantsMaster,
}

/// What the timer of a backup waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// The next advertisement, for the down interval.
    Down,
    /// Our turn after the master stopped, for the skew time.
    Skew,
    /// Anybody, for one interval and the skew time.
    Listen,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Machine {
    state: State,
    version: Version,
    /// With tracking.
    priority: u8,
    interval: Duration,
    preempt: bool,
    preempt_delay: Duration,
    startup_delay: Duration,
    source: IpAddr,
    in_group: bool,
    /// How often the master that is heard advertises (version 3); ours before any is.
    active_interval: Duration,
    wait: Wait,
    /// Since when the timer of a backup runs.
    waiting_since: Micros,
    /// The timer does not fire before this: the delay of the start.
    not_before: Micros,
    /// Whether a master of lower priority lets that timer run on.
    preempting: bool,
    /// Whether the last it heard was a master that it leaves alone.
    follows: bool,
    /// When it may preempt, from the first lower priority it hears.
    preempt_at: Option<Micros>,
    /// In a sync group: the timer fired, and it waits for the others.
    wants_master: bool,
    /// Master: when the last regular advertisement was due, and when it was sent.
    advertised: Micros,
    next_advertisement: Micros,
    asserted: Option<Micros>,
}

/// The time by which a backup of this priority waits longer than one of 256 (RFC 9568 section 6.1, RFC 3768 section
/// 6.1: there by the second).
pub fn skew(version: Version, priority: u8, interval: Duration) -> Duration {
    let base = if version == Version::V2 { Duration::from_secs(1) } else { interval };
    base * (256 - u32::from(priority)) / 256
}

/// How long a backup waits for a master that advertises at this interval.
pub fn down_interval(version: Version, priority: u8, interval: Duration) -> Duration {
    interval * DOWN_ADVERTISEMENTS + skew(version, priority, interval)
}

impl Machine {
    /// In [`State::Initialize`].
    pub fn new(settings: &Settings) -> Self {
        Self {
            state: State::Initialize,
            version: settings.version,
            priority: settings.priority,
            interval: settings.interval,
            preempt: settings.preempt,
            preempt_delay: settings.preempt_delay,
            startup_delay: settings.startup_delay,
            source: settings.source,
            in_group: settings.group.is_some(),
            active_interval: settings.interval,
            wait: Wait::Down,
            waiting_since: Micros(0),
            not_before: Micros(0),
            preempting: false,
            follows: false,
            preempt_at: None,
            wants_master: false,
            advertised: Micros(0),
            next_advertisement: Micros(0),
            asserted: None,
        }
    }

    /// Takes over changed settings of the same virtual router without a change of state. The priority follows by
    /// [`Event::Priority`].
    pub fn reconfigure(&mut self, settings: &Settings) {
        if self.active_interval == self.interval {
            self.active_interval = settings.interval;
        }
        self.version = settings.version;
        self.interval = settings.interval;
        self.startup_delay = settings.startup_delay;
        self.preempt = settings.preempt;
        self.preempt_delay = settings.preempt_delay;
        self.source = settings.source;
        self.in_group = settings.group.is_some();
        if !self.in_group {
            self.wants_master = false;
        }
        let next = self.advertised + self.interval;
        self.next_advertisement = self.next_advertisement.min(next);
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// Its priority, tracking included.
    pub fn priority(&self) -> u8 {
        self.priority
    }

    /// Whether it waits for its sync group.
    pub fn wants_master(&self) -> bool {
        self.wants_master || self.state == State::Master
    }

    /// Whether another router is its master, so that its sync group can't have all of its addresses.
    pub fn is_following(&self) -> bool {
        self.state == State::Backup && self.follows
    }

    /// How long it waits for a master now, or would if it were a backup.
    pub fn down_interval(&self) -> Duration {
        down_interval(self.version, self.priority, self.active_interval)
    }

    /// Until when no other router can believe that this master is gone: backups wait at least three intervals.
    pub fn lease_end(&self) -> Option<Micros> {
        (self.state == State::Master).then(|| self.advertised + self.interval * DOWN_ADVERTISEMENTS)
    }

    /// When [`Event::Deadline`] is due.
    pub fn deadline(&self) -> Option<Micros> {
        match self.state {
            State::Initialize | State::Fault => None,
            State::Backup if self.wants_master => None,
            State::Backup => Some((self.waiting_since + self.wait_time()).max(self.not_before)),
            State::Master => Some(self.next_advertisement),
        }
    }

    fn wait_time(&self) -> Duration {
        let skew = skew(self.version, self.priority, self.active_interval);
        match self.wait {
            Wait::Down => self.down_interval(),
            Wait::Skew => skew,
            Wait::Listen => self.active_interval + skew,
        }
    }

    /// Takes one event at `now`, and adds what is to be done to `actions`.
    pub fn step(&mut self, event: Event, now: Micros, actions: &mut Vec<Action>) {
        use State::{Backup, Fault, Initialize, Master};
        match (self.state, event) {
            (Initialize, Event::Startup) => self.begin(Cause::Started, now, actions),
            (Initialize | Fault, Event::Priority(priority)) => self.priority = priority,
            (Initialize | Backup, Event::Fault(cause)) => self.enter(Fault, cause, actions),
            (Backup, Event::Shutdown) | (Fault, Event::Shutdown) => {
                self.enter(Initialize, Cause::Stopped, actions);
            }
            (Backup, Event::Deadline) => self.timer_fired(now, actions),
            (Backup, Event::Advertisement(heard)) => self.backup_hears(heard, now),
            // The timer is computed from the priority, so it moves by itself.
            (Backup, Event::Priority(priority)) => self.priority = priority,
            (Backup, Event::Stalled(gap)) => self.backup_stalled(gap, now),
            (Backup, Event::GroupMaster) => {
                let cause = if self.wants_master { self.silence() } else { Cause::Group };
                self.become_master(cause, now, actions);
            }
            (Master, Event::Shutdown) => {
                actions.push(Action::Advertise(0));
                self.enter(Initialize, Cause::Stopped, actions);
            }
            (Master, Event::Deadline) => self.advertise(now, actions),
            (Master, Event::Advertisement(heard)) => self.master_hears(heard, now, actions),
            (Master, Event::Rival) => self.assert(now, actions),
            (Master, Event::Priority(priority)) => {
                if self.priority != priority {
                    self.priority = priority;
                    self.advertise(now, actions);
                }
            }
            (Master, Event::Fault(cause)) => {
                actions.push(Action::Advertise(0));
                self.enter(Fault, cause, actions);
            }
            (Master, Event::Stalled(_)) => self.master_stalled(now, actions),
            (Master, Event::GroupBackup) => {
                // The others of the group are another's now, and it can't take this one before our lease has run out.
                actions.push(Action::Advertise(0));
                self.become_backup(Wait::Down, Cause::Group, now, actions);
            }
            (Fault, Event::Recovered) => self.begin(Cause::Recovered, now, actions),
            (Initialize, Event::Shutdown | Event::Deadline | Event::Advertisement(_) | Event::Recovered)
            | (Initialize | Backup | Fault, Event::Rival)
            | (Initialize | Fault, Event::Stalled(_) | Event::GroupMaster | Event::GroupBackup)
            | (Backup, Event::Startup | Event::Recovered | Event::GroupBackup)
            | (Master, Event::Startup | Event::Recovered | Event::GroupMaster)
            | (Fault, Event::Startup | Event::Deadline | Event::Advertisement(_) | Event::Fault(_)) => {}
        }
    }

    /// RFC 9568 section 6.4.1.
    fn begin(&mut self, cause: Cause, now: Micros, actions: &mut Vec<Action>) {
        self.active_interval = self.interval;
        let is_owner = self.priority == OWNER && self.startup_delay.is_zero();
        if is_owner && !self.in_group {
            self.become_master(Cause::Owner, now, actions);
        } else {
            self.become_backup(Wait::Down, cause, now, actions);
            self.not_before = now + self.startup_delay;
            self.wants_master = is_owner;
            if self.wants_master {
                actions.push(Action::WantsMaster);
            }
        }
    }

    fn enter(&mut self, to: State, cause: Cause, actions: &mut Vec<Action>) {
        let from = std::mem::replace(&mut self.state, to);
        self.preempt_at = None;
        self.preempting = false;
        self.follows = false;
        self.not_before = Micros(0);
        self.wants_master = false;
        self.asserted = None;
        actions.push(Action::Become { from, to, cause });
    }

    fn become_backup(&mut self, wait: Wait, cause: Cause, now: Micros, actions: &mut Vec<Action>) {
        self.enter(State::Backup, cause, actions);
        self.wait = wait;
        self.waiting_since = now;
    }

    /// The advertisement goes first, so that the former master lets go before neighbours learn where the addresses are.
    fn become_master(&mut self, cause: Cause, now: Micros, actions: &mut Vec<Action>) {
        self.advertised = now;
        self.next_advertisement = now + self.interval;
        actions.push(Action::Advertise(self.priority));
        self.enter(State::Master, cause, actions);
        self.active_interval = self.interval;
        actions.push(Action::Announce);
    }

    fn silence(&self) -> Cause {
        match self.wait {
            Wait::Skew => Cause::Resigned,
            Wait::Down if self.priority == OWNER => Cause::Owner,
            Wait::Down | Wait::Listen if self.preempting => Cause::Preemption,
            Wait::Down | Wait::Listen => Cause::Silence,
        }
    }

    fn timer_fired(&mut self, now: Micros, actions: &mut Vec<Action>) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        self.follows = false;
        if self.in_group {
            self.wants_master = true;
            actions.push(Action::WantsMaster);
        } else {
            self.become_master(self.silence(), now, actions);
        }
    }

    /// RFC 9568 section 6.4.2.
    fn backup_hears(&mut self, heard: Heard, now: Micros) {
        // Who hears is not deaf.
        self.not_before = Micros(0);
        if heard.priority == 0 {
            self.wait = Wait::Skew;
            self.waiting_since = now;
            self.preempting = false;
            self.follows = false;
            return;
        }
        let is_lower = heard.priority < self.priority;
        if is_lower && self.preempt && self.may_preempt(now) {
            self.preempting = true;
            self.follows = false;
            return;
        }
        if !is_lower {
            self.preempt_at = None;
        }
        self.follow(heard, now);
    }

    /// The delay counts from the first advertisement of a lower priority.
    fn may_preempt(&mut self, now: Micros) -> bool {
        if self.preempt_delay.is_zero() {
            return true;
        }
        now >= *self.preempt_at.get_or_insert(now + self.preempt_delay)
    }

    /// Lets the master that was heard be master for another down interval.
    fn follow(&mut self, heard: Heard, now: Micros) {
        if self.version == Version::V3 && !heard.interval.is_zero() {
            self.active_interval = heard.interval;
        }
        self.wait = Wait::Down;
        self.waiting_since = now;
        self.wants_master = false;
        self.preempting = false;
        self.follows = true;
    }

    fn backup_stalled(&mut self, gap: Duration, now: Micros) {
        let Some(deadline) = self.deadline() else { return };
        let listening = now + self.active_interval + skew(self.version, self.priority, self.active_interval);
        let extended = (deadline + gap).min(listening);
        self.waiting_since += extended.since(deadline);
    }

    /// RFC 9568 section 6.4.3.
    fn master_hears(&mut self, heard: Heard, now: Micros, actions: &mut Vec<Action>) {
        if heard.priority == 0 {
            // It was master as well, and neighbours may have learned the addresses from it.
            self.advertise(now, actions);
            actions.push(Action::AnnounceAgain);
            return;
        }
        let cause = if heard.priority > self.priority {
            Cause::HigherPriority { priority: heard.priority, from: heard.from }
        } else if heard.priority == self.priority && heard.from > self.source {
            Cause::HigherAddress { from: heard.from }
        } else {
            self.assert(now, actions);
            return;
        };
        // The other may not know that there were two. With this it does, and announces the addresses again after this
        // router has stopped answering for them (keepalived's `higher_prio_send_advert`).
        actions.push(Action::Advertise(self.priority));
        self.become_backup(Wait::Down, cause, now, actions);
        self.follow(heard, now);
    }

    /// Another master, which has to go, learns that at once, and neighbours where the addresses are.
    fn assert(&mut self, now: Micros, actions: &mut Vec<Action>) {
        match self.asserted.map(|last| last + ASSERTION_INTERVAL).filter(|next| now < *next) {
            Some(next) => self.next_advertisement = self.next_advertisement.min(next),
            None => {
                self.asserted = Some(now);
                actions.push(Action::Advertise(self.priority));
            }
        }
        actions.push(Action::AnnounceAgain);
    }

    fn master_stalled(&mut self, now: Micros, actions: &mut Vec<Action>) {
        if self.lease_end().is_some_and(|end| now >= end) {
            self.become_backup(Wait::Listen, Cause::Stall, now, actions);
        }
    }

    /// A regular advertisement. The next is due one interval after this one was, unless it was late by more.
    fn advertise(&mut self, now: Micros, actions: &mut Vec<Action>) {
        actions.push(Action::Advertise(self.priority));
        let due = self.next_advertisement.min(now);
        let on_time = now.since(due) < self.interval;
        self.next_advertisement =
            if on_time && now >= self.next_advertisement { due } else { now } + self.interval;
        self.advertised = now;
    }
}
