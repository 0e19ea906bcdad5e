//! Programs that VRRP tracks. Each is run by itself, at its interval, and not while its former run goes on: equal ones of several
//! instances once. The first run decides what is known; from then on `rise` and `fall` do. One that goes on at a reload as it was keeps
//! what is known.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};
use weir_config::model::health::Account;
use weir_config::model::{Config, VrrpScript, VrrpTracked};

use crate::local;
use crate::probe::run_script;

/// What is known of each script, by name.
pub type ScriptListings = Arc<BTreeMap<String, ScriptListing>>;

/// One of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScriptListing {
    /// Whether it is up; `None`: it has not run yet.
    pub is_up: Option<bool>,
    /// Runs that ended with status 0.
    pub successes: u64,
    /// Runs that did not, those included that took too long.
    pub failures: u64,
}

struct Script {
    file: Arc<VrrpScript>,
    listing: ScriptListing,
    /// Runs in a row that contradict what is known.
    against: u32,
    due: Instant,
    /// The number of the run that is under way.
    runs: Option<u64>,
}

/// What became of a run.
struct Ended {
    script: String,
    run: u64,
    outcome: Result<(), String>,
}

/// See the module.
pub(crate) struct Scripts {
    account: Option<Account>,
    scripts: HashMap<String, Script>,
    under_way: JoinSet<Ended>,
    runs: u64,
    listings: watch::Sender<ScriptListings>,
}

impl Scripts {
    /// Those of a configuration, and where what is known of them is told. `account` is who programs run as.
    pub(crate) fn new(config: &Config, account: Option<Account>) -> (Self, watch::Receiver<ScriptListings>) {
        let (listings, receiver) = watch::channel(ScriptListings::default());
        let (scripts, under_way) = (HashMap::new(), JoinSet::new());
        let mut scripts = Self { account, scripts, under_way, runs: 0, listings };
        scripts.configure(config, account);
        (scripts, receiver)
    }

    /// Takes over those of another configuration. One that is as before goes on.
    pub(crate) fn configure(&mut self, config: &Config, account: Option<Account>) {
        self.account = account;
        let mut before = std::mem::take(&mut self.scripts);
        for tracked in config.vrrp.iter().flat_map(|vrrp| &vrrp.track) {
            let VrrpTracked::Script(file) = &tracked.what else { continue };
            if self.scripts.contains_key(&file.name) {
                continue;
            }
            let known = before.remove(&file.name).filter(|known| known.file == *file);
            self.scripts.insert(file.name.clone(), known.unwrap_or_else(|| Script::new(file.clone())));
        }
        self.tell();
    }

    /// Runs what is due, and waits until a run has ended or the next is due. Never comes without scripts. May be dropped half-way.
    pub(crate) async fn next(&mut self) {
        self.start(Instant::now());
        let idle = self.scripts.values().filter(|script| script.runs.is_none());
        let due = idle.map(|script| script.due).min();
        let next = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(ended) = self.under_way.join_next() => match ended {
                Ok(ended) => self.take(ended),
                // A run that panics is a fault of weir's, which ends for it as a whole.
                Err(problem) if problem.is_panic() => std::panic::resume_unwind(problem.into_panic()),
                Err(_) => {}
            },
            () = next => {}
        }
    }

    fn start(&mut self, now: Instant) {
        let account = self.account;
        for script in self.scripts.values_mut().filter(|it| it.runs.is_none() && it.due <= now) {
            self.runs += 1;
            let run = self.runs;
            script.runs = Some(run);
            // As a clock does: one that was late is not made up for.
            let next = script.due + script.file.interval;
            script.due = if next > now { next } else { now + script.file.interval };
            let file = script.file.clone();
            self.under_way.spawn(async move {
                let account = account.map(|usual| runner(&file, usual));
                let outcome = run_script(&file.command, account.as_ref(), file.timeout).await;
                Ended { script: file.name.clone(), run, outcome }
            });
        }
    }

    fn take(&mut self, Ended { script: name, run, outcome }: Ended) {
        // One of a script that a reload has changed says nothing about the new one.
        let Some(script) = self.scripts.get_mut(&name).filter(|it| it.runs == Some(run)) else { return };
        script.runs = None;
        let is_news = script.take(outcome.is_ok());
        match (is_news, &outcome) {
            (true, Ok(())) => info!(script = name, "VRRP: a tracked script succeeds"),
            (true, Err(why)) => warn!(script = name, "VRRP: a tracked script fails: {why}"),
            (false, _) => {}
        }
        self.tell();
    }

    fn tell(&self) {
        let listings = self.scripts.iter().map(|(name, script)| (name.clone(), script.listing.clone()));
        self.listings.send_replace(Arc::new(listings.collect()));
    }

    /// Ends what runs.
    pub(crate) async fn shutdown(&mut self) {
        self.under_way.shutdown().await;
    }
}

impl Script {
    fn new(file: Arc<VrrpScript>) -> Self {
        let is_up = file.init_fail.then_some(false);
        let listing = ScriptListing { is_up, ..ScriptListing::default() };
        Self { file, listing, against: 0, due: Instant::now(), runs: None }
    }

    /// Takes the end of a run in, and says whether it changes what is known.
    fn take(&mut self, is_success: bool) -> bool {
        let listing = &mut self.listing;
        listing.successes += u64::from(is_success);
        listing.failures += u64::from(!is_success);
        if listing.is_up == Some(is_success) {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let needed = match (listing.is_up, is_success) {
            (None, _) => 1,
            (_, true) => self.file.rise,
            (_, false) => self.file.fall,
        };
        if self.against < needed {
            return false;
        }
        (listing.is_up, self.against) = (Some(is_success), 0);
        true
    }
}

/// Who a script runs as, where weir can run it as anybody.
fn runner(file: &VrrpScript, usual: Account) -> Account {
    match (&file.user, file.account) {
        (None, _) => usual,
        // Whoever loaded the file has looked it up. One that is not there is nobody, and never root.
        (Some(_), account) => account.unwrap_or(local::NOBODY),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn config(tracks: &str) -> Config {
        let text = format!(
            "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\"]\n\
             [[vrrp]]\nname = \"vi\"\nport = \"lan\"\nvirtual_router_id = 51\naddresses = [\"10.0.0.100\"]\n\
             track = [{tracks}]\n"
        );
        weir_config::parse("t", &text).unwrap_or_else(|report| panic!("{report}")).config
    }

    /// What is known after each of these ends, from the beginning.
    fn known(tracks: &str, ends: &str) -> String {
        let config = config(tracks);
        let VrrpTracked::Script(file) = &config.vrrp[0].track[0].what else { panic!("a script") };
        let mut script = Script::new(file.clone());
        let take = |end| {
            script.take(end == '0');
            script.listing.is_up.map_or('?', |is_up| if is_up { 'u' } else { 'd' })
        };
        ends.chars().map(take).collect()
    }

    #[test]
    fn the_first_run_decides_and_then_rise_and_fall_do() {
        let usual = r#"{ script = ["/bin/true"] }"#;
        assert_eq!(known(usual, "0101"), "udud");
        let slow = r#"{ script = ["/bin/true"], rise = 2, fall = 3 }"#;
        assert_eq!(known(slow, "0110111100"), "uuuuuudddu");
        assert_eq!(known(slow, "1010011"), "dddduuu");
        let failed = r#"{ script = ["/bin/true"], rise = 2, init_fail = true }"#;
        assert_eq!(known(failed, "010010"), "dddudd");
    }

    #[tokio::test]
    async fn scripts_run_again_and_again_and_one_that_is_as_before_keeps_what_is_known() {
        let path = std::env::temp_dir().join(format!("weir-script-{}", std::process::id()));
        let quick = |more: &str| {
            format!(
                "{{ script = [\"/bin/sh\", \"-c\", \"test -e {}\"], name = \"file\", interval = 0.1{more} }}, \
                 {{ script = [\"/bin/sleep\", \"60\"], name = \"slow\", timeout = 0.2 }}",
                path.display()
            )
        };
        let (mut scripts, known) = Scripts::new(&config(&quick("")), None);
        let up = |name: &str| known.borrow()[name].is_up;
        assert_eq!((up("file"), up("slow")), (None, None));
        let end = Instant::now() + Duration::from_secs(60);
        while up("file") != Some(false) || up("slow") != Some(false) {
            assert!(Instant::now() < end);
            scripts.next().await;
        }
        std::fs::write(&path, "").unwrap();
        while up("file") != Some(true) {
            assert!(Instant::now() < end);
            scripts.next().await;
        }
        scripts.configure(&config(&quick("")), None);
        assert_eq!(up("file"), Some(true));
        scripts.configure(&config(&quick(", fall = 2")), None);
        assert_eq!((up("file"), up("slow")), (None, Some(false)));
        std::fs::remove_file(&path).unwrap();
        scripts.configure(&config(""), None);
        assert!(known.borrow().is_empty());
        scripts.shutdown().await;
    }
}
