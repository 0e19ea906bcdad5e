//! Programs that are told of changes. Those of one virtual server, or one instance of VRRP, run one after the other, in the order of
//! the changes, so that "up" never overtakes "down"; different ones do not wait for each other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use tokio::task::JoinSet;
use tracing::{error, warn};
use weir_config::model::health::Account;

use crate::figures::HookFigures;
use crate::judge::{Change, Event};
use crate::probe::run_hook;

/// A hook may take so long.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// A program that does nothing.
const TRUE: &str = "/bin/true";
/// Hooks that wait for others, in all.
const WAITING_MAX: usize = 4096;
/// Hooks that run at a time.
const RUNNING_MAX: usize = 32;

pub(crate) struct Job {
    pub(crate) command: Vec<String>,
    pub(crate) variables: Vec<(String, String)>,
}

/// See the module.
pub(crate) struct HookRunner {
    account: Option<Account>,
    /// Whether the file names any program.
    is_needed: bool,
    figures: Arc<HookFigures>,
    /// By virtual server or the like. One that is here has a hook running, or waits for its turn in `ready`.
    waiting: HashMap<String, VecDeque<Job>>,
    /// Those whose next hook may start.
    ready: VecDeque<String>,
    count: usize,
    running: JoinSet<(String, Result<(), String>)>,
}

impl HookRunner {
    pub(crate) fn new(account: Option<Account>, is_needed: bool, figures: Arc<HookFigures>) -> Self {
        Self {
            account,
            is_needed,
            figures,
            waiting: HashMap::new(),
            ready: VecDeque::new(),
            count: 0,
            running: JoinSet::new(),
        }
    }

    /// From the next hook on they run as this account.
    pub(crate) fn run_as(&mut self, account: Option<Account>, is_needed: bool) {
        self.account = account;
        self.is_needed = is_needed;
    }

    /// Some program is to be run. Returns whether there was none so far.
    pub(crate) fn need_programs(&mut self) -> bool {
        !std::mem::replace(&mut self.is_needed, true)
    }

    /// Says so at once if programs can't be run as their account, instead of when one is needed.
    pub(crate) fn try_account(&self) {
        if !self.is_needed {
            return;
        }
        let account = self.account;
        tokio::spawn(async move {
            let nothing = [TRUE.to_owned()];
            if let Err(problem) = run_hook(&nothing, &[], account.as_ref(), TIME_LIMIT).await {
                let whom = match account {
                    Some(Account { user, group }) => format!("user {user}, group {group} ([health])"),
                    None => "weir's own user".to_owned(),
                };
                error!("programs can't be run as {whom}: {problem}");
            }
        });
    }

    /// Takes in the hook of a change, if there is one.
    pub(crate) fn tell(&mut self, event: &Event) {
        if let Some(job) = job(event) {
            self.add(&event.virtual_server, job);
        }
    }

    /// Takes in a hook of somebody, to be run after the others of the same.
    pub(crate) fn add(&mut self, of: &str, job: Job) {
        if self.count >= WAITING_MAX {
            self.figures.dropped.add_one();
            warn!(of, "too many hooks wait: one is not run");
            return;
        }
        self.count += 1;
        let queue = self.waiting.entry(of.to_owned()).or_insert_with(|| {
            self.ready.push_back(of.to_owned());
            VecDeque::new()
        });
        queue.push_back(job);
        self.start();
    }

    fn start(&mut self) {
        while self.running.len() < RUNNING_MAX
            && let Some(name) = self.ready.pop_front()
        {
            let Some(job) = self.waiting.get_mut(&name).and_then(VecDeque::pop_front) else {
                self.waiting.remove(&name);
                continue;
            };
            self.count -= 1;
            let account = self.account;
            self.running.spawn(async move {
                let done = run_hook(&job.command, &job.variables, account.as_ref(), TIME_LIMIT).await;
                (name, done.map_err(|problem| format!("{}: {problem}", job.command[0])))
            });
        }
    }

    /// Waits until a hook has ended, and starts the next. Never comes while none runs. May be dropped half-way.
    pub(crate) async fn next(&mut self) {
        let Some(ended) = self.running.join_next().await else {
            return std::future::pending().await;
        };
        if let Ok((name, done)) = ended {
            match done {
                Ok(()) => self.figures.succeeded.add_one(),
                Err(problem) => {
                    self.figures.failed.add_one();
                    warn!(of = name, "a hook failed: {problem}");
                }
            }
            self.ready.push_back(name);
        }
        self.start();
    }

    /// Whether all have ended.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.count == 0
    }
}

/// The program for a change and what it finds in its environment.
fn job(event: &Event) -> Option<Job> {
    let mut variables = vec![("WEIR_VIRTUAL_SERVER".to_owned(), event.virtual_server.clone())];
    let mut set = |name: &str, value: String| variables.push((name.to_owned(), value));
    let command = match &event.change {
        Change::Server { server, is_up, reason } => {
            set("WEIR_EVENT", if *is_up { "up" } else { "down" }.to_owned());
            set("WEIR_ADDRESS", server.ip().to_string());
            set("WEIR_PORT", server.port().to_string());
            set("WEIR_REASON", reason.clone());
            if *is_up { &event.hooks.up } else { &event.hooks.down }
        }
        Change::Quorum { has_quorum, weight, quorum } => {
            set("WEIR_EVENT", if *has_quorum { "quorum_up" } else { "quorum_down" }.to_owned());
            set("WEIR_WEIGHT", weight.to_string());
            set("WEIR_QUORUM", quorum.to_string());
            if *has_quorum { &event.hooks.quorum_up } else { &event.hooks.quorum_down }
        }
        Change::Weight { .. } | Change::Limit { .. } => return None,
    };
    (!command.is_empty()).then(|| Job { command: command.to_vec(), variables })
}
