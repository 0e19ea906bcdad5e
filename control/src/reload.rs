//! A reload, beside control: a large file takes seconds to read and to build, and control goes on meanwhile.
//!
//! It goes in two steps on threads of tokio's pool. The file is read, checked and, if it is bad, reported with nothing of control's in
//! hand. What is built of it needs the registry, so [`Apply`] goes along for that second step; verdicts of health checks and
//! announcements wait until it is back. It goes along as well for what of these takes a whole snapshot.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;
use tracing::{error, info, warn};
use weir_config::Loaded;
use weir_config::model::Config;
use weir_dataplane::snapshot::Snapshot;
use weir_dataplane::snapshot::publish::Current;
use weir_health::overlay::Overlay;

use crate::apply::{Apply, Draft, Refused};
use crate::reload_status::RefusedBy;
use crate::routes;
use crate::vrrp::sequence;

/// What was done beside control.
pub(crate) enum Step {
    /// The file was read: what it says, and warnings; or a report.
    Read(Result<(Box<Draft>, Option<String>), String>),
    /// A draft was put in force, or not.
    Applied(Box<Apply>, Result<(), Refused>),
    /// What is in force was put in force once more.
    Renewed(Box<Apply>),
}

/// How a reload ended.
pub(crate) type Outcome = Result<(), NotReloaded>;

/// Why the former configuration stays in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotReloaded {
    /// The file is bad: the report on it.
    #[error("{0}")]
    BadFile(String),
    /// Some part does not take it.
    #[error("{0}")]
    Refused(Refused),
}

impl NotReloaded {
    /// Who refused it.
    pub(crate) fn by(&self) -> RefusedBy {
        match self {
            Self::BadFile(_) => RefusedBy::File,
            Self::Refused(refused) => refused.by(),
        }
    }
}

/// See the module.
pub(crate) struct Reload {
    path: PathBuf,
    /// What the file says.
    file: Arc<Config>,
    current: Current,
    /// `None`: something is being built with it.
    apply: Option<Box<Apply>>,
    under_way: JoinSet<Step>,
    is_reading: bool,
    /// Was read, and waits for `apply`.
    draft: Option<Box<Draft>>,
    /// The file is to be read once more, since it may have changed after it was read.
    is_wanted: bool,
    /// When the reload that is under way did.
    began: Option<Instant>,
    owes_announcement: bool,
    /// What is in force is to be put in force once more.
    owes_renewal: bool,
}

impl Reload {
    /// Of the file at `path`.
    pub(crate) fn new(path: PathBuf, mut apply: Apply) -> Self {
        Self {
            path,
            file: apply.file(),
            current: apply.publish().shared(),
            apply: Some(Box::new(apply)),
            under_way: JoinSet::new(),
            is_reading: false,
            draft: None,
            is_wanted: false,
            began: None,
            owes_announcement: false,
            owes_renewal: false,
        }
    }

    /// What the file in force says.
    pub(crate) fn file(&self) -> &Arc<Config> {
        &self.file
    }

    /// What is in force.
    pub(crate) fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Whether verdicts can be taken, which they can't while something is built.
    pub(crate) fn takes_verdicts(&self) -> bool {
        self.apply.is_some()
    }

    /// Other verdicts of health checks come into force.
    pub(crate) fn verdicts(&mut self, overlay: Arc<Overlay>) {
        if let Some(apply) = &mut self.apply {
            self.owes_renewal |= !apply.publish().overlay(overlay);
        }
        self.go_on();
    }

    /// Frees what workers no longer hold.
    pub(crate) fn reclaim(&mut self) {
        if let Some(apply) = &mut self.apply {
            apply.publish().reclaim();
        }
    }

    /// When the reload that is under way began.
    pub(crate) fn began(&self) -> Option<Instant> {
        self.began
    }

    /// What it does meanwhile, in words.
    pub(crate) fn does(&self) -> &'static str {
        match self.is_reading {
            true => "it reads the file and what that names, and their file system may not answer",
            false => "what the file says is being put in force",
        }
    }

    /// Has the VIPs announced once more, as soon as that can be.
    pub(crate) fn announce(&mut self) {
        self.owes_announcement = true;
        self.go_on();
    }

    /// Reads the file again, after the reload that is under way.
    pub(crate) fn begin(&mut self) {
        if self.is_reading || self.draft.is_some() || self.apply.is_none() {
            self.is_wanted = true;
            if self.began.is_some() {
                info!("the file is read once more after the reload that is under way");
            }
            return;
        }
        self.is_reading = true;
        self.began = Some(Instant::now());
        let (path, former) = (self.path.clone(), self.file.clone());
        self.under_way.spawn_blocking(move || {
            let read = weir_config::load(&path).and_then(weir_health::local::examine);
            let read = read.map(routes::look_around);
            let read = read.map_err(|report| format!("\n{report}"));
            Step::Read(read.map(|Loaded { config, warnings, .. }| {
                let numbers = sequence::read_new(&config, Some(&former));
                let draft = Box::new(Draft::new(config, numbers));
                (draft, (!warnings.is_empty()).then(|| format!("\n{warnings}")))
            }))
        });
    }

    /// The next step that is done. Never comes while nothing is under way. May be dropped half-way.
    pub(crate) async fn next(&mut self) -> Step {
        match self.under_way.join_next().await {
            Some(Ok(step)) => step,
            // A panic there is one of control's.
            Some(Err(problem)) if problem.is_panic() => std::panic::resume_unwind(problem.into_panic()),
            Some(Err(_)) | None => std::future::pending().await,
        }
    }

    /// Goes on after a step. Returns how a reload ended, once it has come to its end.
    pub(crate) fn take(&mut self, step: Step) -> Option<Outcome> {
        let outcome = match step {
            Step::Read(read) => {
                self.is_reading = false;
                match read {
                    Ok((draft, warnings)) => {
                        if let Some(warnings) = warnings {
                            warn!("{warnings}");
                        }
                        self.draft = Some(draft);
                        None
                    }
                    Err(report) => Some(Err(NotReloaded::BadFile(report))),
                }
            }
            Step::Applied(apply, done) => {
                self.back(apply);
                // It comes with what was owed.
                self.owes_renewal &= done.is_err();
                Some(done.map_err(NotReloaded::Refused))
            }
            Step::Renewed(apply) => {
                self.apply = Some(apply);
                None
            }
        };
        if outcome.is_some() {
            self.began = None;
        }
        match &outcome {
            Some(Ok(())) => {
                let generation = self.current.load().generation;
                info!(file = %self.path.display(), generation, "configuration reloaded");
            }
            Some(Err(problem)) => {
                error!("not reloaded, the former configuration stays in force: {problem}");
            }
            None => {}
        }
        self.go_on();
        outcome
    }

    fn back(&mut self, apply: Box<Apply>) {
        let former = std::mem::replace(&mut self.file, apply.file());
        // A large one takes a while to free.
        tokio::task::spawn_blocking(move || drop(former));
        self.apply = Some(apply);
    }

    /// Begins what waits, if it can be.
    fn go_on(&mut self) {
        if let Some(mut apply) = self.apply.take() {
            if std::mem::take(&mut self.owes_announcement) {
                apply.publish().announce();
                self.owes_renewal = true;
            }
            if let Some(draft) = self.draft.take() {
                self.under_way.spawn_blocking(move || {
                    let done = apply.apply(*draft);
                    Step::Applied(apply, done)
                });
            } else if std::mem::take(&mut self.owes_renewal) {
                self.under_way.spawn_blocking(move || {
                    apply.publish().renew();
                    Step::Renewed(apply)
                });
            } else {
                self.apply = Some(apply);
            }
        }
        if self.apply.is_some() && !self.is_reading && std::mem::take(&mut self.is_wanted) {
            self.begin();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::apply::tests::{Bench, text};

    /// Goes on until a reload has come to its end.
    async fn end(reload: &mut Reload) -> Outcome {
        loop {
            let step = reload.next().await;
            if let Some(outcome) = reload.take(step) {
                return outcome;
            }
        }
    }

    fn with_file(test: impl AsyncFn(&Path)) {
        let path = std::env::temp_dir().join(format!(
            "weir-reload-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(&path));
        std::fs::remove_file(&path).unwrap();
    }

    fn parsed(text: &str) -> Config {
        weir_config::parse("test", text).unwrap_or_else(|report| panic!("{report}")).config
    }

    #[test]
    fn a_reload_ends_with_who_refused_the_file() {
        with_file(async |path| {
            let bench = Bench::new(parsed(&text("10.0.0.2", 1, 51)));
            let weight = |reload: &Reload| reload.file().virtual_servers[0].real_servers[0].weight;
            let places = bench.places();
            let mut reload = Reload::new(path.to_owned(), bench.apply);
            std::fs::write(path, "nonsense").unwrap();
            reload.begin();
            assert_eq!(end(&mut reload).await.unwrap_err().by(), RefusedBy::File);
            std::fs::write(path, text("10.0.0.2", 2, 51)).unwrap();
            reload.begin();
            assert_eq!(end(&mut reload).await.unwrap_err().by(), RefusedBy::Health);
            assert_eq!(weight(&reload), 1);
            drop(places);
            reload.begin();
            end(&mut reload).await.unwrap();
            assert_eq!(weight(&reload), 2);
        });
    }

    #[test]
    fn what_is_wanted_while_something_is_built_comes_after_it() {
        with_file(async |path| {
            let bench = Bench::new(parsed(&text("10.0.0.2", 1, 51)));
            let mut reload = Reload::new(path.to_owned(), bench.apply);
            let announced = |reload: &Reload| reload.current().announcements_generation;
            std::fs::write(path, text("10.0.0.2", 2, 51)).unwrap();
            reload.announce();
            assert!(!reload.takes_verdicts(), "it is built");
            reload.begin();
            end(&mut reload).await.unwrap();
            assert_eq!((reload.current().generation, announced(&reload)), (3, 2));
            // Beside a reload: with it or after it.
            reload.begin();
            reload.announce();
            end(&mut reload).await.unwrap();
            while !reload.under_way.is_empty() {
                let step = reload.next().await;
                assert!(reload.take(step).is_none());
            }
            assert!(announced(&reload) > 2 && reload.takes_verdicts());
        });
    }
}
