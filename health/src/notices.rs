//! Who is told of VRRP's changes of state: programs and a FIFO, in keepalived's words.
//!
//! VRRP's thread says what changed and goes on; it never waits. Programs run one after the other for each instance and sync group, and
//! as those of health checks do. The FIFO takes what fits into its pipe. Whatever finds no room is counted.

mod fifo;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::mpsc;
use weir_config::model::health::Account;
use weir_config::model::{Config, VrrpHooks};

use crate::figures::Figures;
use crate::hooks::{HookRunner, Job};
use fifo::Fifo;

/// Notices that wait for the checker's thread at most: each instance may have gone to and fro a few times.
const NOTICES_MAX: usize = 4096;

/// Whose state changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An instance's.
    Instance,
    /// A sync group's: all of its members are in that state.
    Group,
}

/// A state, as keepalived tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has the addresses.
    Master,
    /// Another router may have them.
    Backup,
    /// It can't be master.
    Fault,
    /// weir ends.
    Stop,
    /// A reload has taken it away. keepalived calls it a fault, and runs the program for all states alone.
    Gone,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Master => "MASTER",
            State::Backup => "BACKUP",
            State::Fault | State::Gone => "FAULT",
            State::Stop => "STOP",
        }
    }
}

/// A change of state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Whose.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Its state now.
    pub state: State,
    /// Its priority now; a group's is 0.
    pub priority: u8,
    /// The programs that are to be run.
    pub hooks: Arc<VrrpHooks>,
}

impl Notice {
    /// What keepalived passes to its programs.
    fn words(&self) -> [String; 4] {
        let kind = match self.kind {
            Kind::Instance => "INSTANCE",
            Kind::Group => "GROUP",
        };
        [kind.to_owned(), self.name.clone(), self.state.word().to_owned(), self.priority.to_string()]
    }

    /// What keepalived writes into its FIFO.
    fn line(&self) -> String {
        let [kind, name, state, priority] = self.words();
        format!("{kind} \"{name}\" {state} {priority}\n")
    }

    /// The programs, in order.
    fn jobs(&self) -> impl Iterator<Item = Job> {
        let of_state = match self.state {
            State::Master => &self.hooks.master[..],
            State::Backup => &self.hooks.backup[..],
            State::Fault => &self.hooks.fault[..],
            State::Stop => &self.hooks.stop[..],
            State::Gone => &[][..],
        };
        let any = &self.hooks.any;
        let any = if any.is_empty() { Vec::new() } else { any.iter().cloned().chain(self.words()).collect() };
        let commands = [of_state.to_vec(), any].into_iter().filter(|command| !command.is_empty());
        commands.map(|command| Job { command, variables: Vec::new() })
    }
}

/// VRRP's end. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Notifier {
    sender: mpsc::Sender<Notice>,
    lost: Arc<AtomicU64>,
}

impl Notifier {
    /// Passes a notice on. Never waits: without room it is lost, and counted.
    pub fn tell(&self, notice: Notice) {
        if self.sender.try_send(notice).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }
}

/// See the module.
pub(crate) struct Notices {
    receiver: mpsc::Receiver<Notice>,
    hooks: HookRunner,
    fifo: Fifo,
}

impl Notices {
    /// For a configuration, with VRRP's end.
    pub(crate) fn new(config: &Config, account: Option<Account>, figures: Arc<Figures>) -> (Self, Notifier) {
        let (sender, receiver) = mpsc::channel(NOTICES_MAX);
        let hooks = HookRunner::new(account, false, figures.vrrp_hooks.clone());
        let fifo = Fifo::new(config.control.vrrp_notify_fifo.clone(), figures);
        (Self { receiver, hooks, fifo }, Notifier { sender, lost: Arc::default() })
    }

    /// Another configuration. What a notice runs it brings along.
    pub(crate) fn configure(&mut self, config: &Config, account: Option<Account>) {
        self.hooks.run_as(account, false);
        self.fifo.configure(config.control.vrrp_notify_fifo.clone());
    }

    /// Waits for a notice, the end of a program, or the FIFO, and goes on with it. May be dropped half-way.
    pub(crate) async fn next(&mut self) {
        self.fifo.open();
        tokio::select! {
            biased;
            Some(notice) = self.receiver.recv() => self.take(&notice),
            () = self.hooks.next() => {}
            () = self.fifo.next() => {}
        }
    }

    fn take(&mut self, notice: &Notice) {
        self.fifo.write(notice.line());
        let [kind, name, ..] = notice.words();
        let of = format!("{kind} {name}");
        notice.jobs().for_each(|job| self.hooks.add(&of, job));
    }

    /// Takes in what was said last; whoever told it has ended.
    pub(crate) fn drain(&mut self) {
        while let Ok(notice) = self.receiver.try_recv() {
            self.take(&notice);
        }
    }

    /// Whether all programs have ended, and nothing waits for the FIFO.
    pub(crate) fn is_idle(&self) -> bool {
        self.hooks.is_idle() && self.fifo.is_idle()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(state: State) -> Notice {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect();
        let hooks = VrrpHooks {
            master: words("/m"),
            backup: words("/b"),
            fault: words("/f"),
            stop: words("/s x"),
            any: words("/any -v"),
        };
        Notice { kind: Kind::Instance, name: "web".to_owned(), state, priority: 150, hooks: Arc::new(hooks) }
    }

    fn commands(notice: &Notice) -> Vec<String> {
        notice.jobs().map(|job| job.command.join(" ")).collect()
    }

    #[test]
    fn programs_and_lines_are_keepaliveds() {
        assert_eq!(commands(&notice(State::Master)), ["/m", "/any -v INSTANCE web MASTER 150"]);
        assert_eq!(commands(&notice(State::Stop)), ["/s x", "/any -v INSTANCE web STOP 150"]);
        assert_eq!(commands(&notice(State::Gone)), ["/any -v INSTANCE web FAULT 150"]);
        assert_eq!(notice(State::Backup).line(), "INSTANCE \"web\" BACKUP 150\n");
        let group = Notice { kind: Kind::Group, priority: 0, ..notice(State::Fault) };
        assert_eq!(group.line(), "GROUP \"web\" FAULT 0\n");
        let none = Notice { hooks: Arc::default(), ..group };
        assert!(commands(&none).is_empty());
    }
}
