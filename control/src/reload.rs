//! A reload, beside control: a large file takes seconds to read and to build, and control goes on meanwhile.
//!
//! It goes in two steps on threads of tokio's pool. The file is read, checked and, if it is bad, reported with nothing of control's in
//! hand. What is built of it needs the registry, so [`Publish`] goes along for that second step; verdicts of health checks and
//! announcements wait until it is back.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;
use tracing::{error, info, warn};
use weir_config::Loaded;
use weir_config::model::Config;
use weir_dataplane::snapshot::Snapshot;
use weir_dataplane::snapshot::publish::Current;

use crate::publish::Publish;
use crate::routes;
use crate::vrrp::sequence::{self, Numbers};

/// Where a reload is.
pub(crate) enum Step {
    /// The file was read: what it says, the numbers that were kept of VRRP's new instances, and warnings; or a report.
    Read(Result<(Box<Config>, Numbers, Option<String>), String>),
    /// It was put in force, or not.
    Built(Box<Publish>, Result<(), String>),
}

/// See the module.
pub(crate) struct Reload {
    path: PathBuf,
    /// What the file says.
    file: Arc<Config>,
    current: Current,
    /// Of VRRP's instances that came with the last file that was read.
    numbers: Numbers,
    /// `None`: something is being built with it.
    publish: Option<Box<Publish>>,
    under_way: JoinSet<Step>,
    /// The file is to be read once more, since it may have changed after it was read.
    is_wanted: bool,
    /// When the one that is under way did.
    began: Option<Instant>,
    owes_announcement: bool,
}

impl Reload {
    /// Of the file at `path`.
    pub(crate) fn new(path: PathBuf, publish: Publish) -> Self {
        Self {
            path,
            file: publish.file(),
            current: publish.shared(),
            numbers: Numbers::new(),
            publish: Some(Box::new(publish)),
            under_way: JoinSet::new(),
            is_wanted: false,
            began: None,
            owes_announcement: false,
        }
    }

    /// What the file in force says.
    pub(crate) fn file(&self) -> &Arc<Config> {
        &self.file
    }

    /// The numbers that were kept of VRRP's instances that came with the last reload.
    pub(crate) fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    /// What is in force.
    pub(crate) fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Who puts things in force, unless it is under way.
    pub(crate) fn publish(&mut self) -> Option<&mut Publish> {
        self.publish.as_deref_mut()
    }

    /// Whether it is here.
    pub(crate) fn is_here(&self) -> bool {
        self.publish.is_some()
    }

    /// When the reload that is under way began.
    pub(crate) fn began(&self) -> Option<Instant> {
        self.began
    }

    /// What it does meanwhile, in words.
    pub(crate) fn does(&self) -> &'static str {
        match self.is_here() {
            true => "it reads the file and what that names, and their file system may not answer",
            false => "what the file says is being put in force",
        }
    }

    /// Has the VIPs announced once more, as soon as that can be.
    pub(crate) fn announce(&mut self) {
        match &mut self.publish {
            Some(publish) => publish.announce(),
            None => self.owes_announcement = true,
        }
    }

    /// Reads the file again, after the reload that is under way.
    pub(crate) fn begin(&mut self) {
        if !self.under_way.is_empty() {
            self.is_wanted = true;
            info!("the file is read once more after the reload that is under way");
            return;
        }
        self.began = Some(Instant::now());
        let (path, former) = (self.path.clone(), self.file.clone());
        self.under_way.spawn_blocking(move || {
            let read = weir_config::load(&path).and_then(weir_health::local::examine);
            let read = read.map(routes::look_around);
            let read = read.map_err(|report| format!("\n{report}"));
            Step::Read(read.map(|Loaded { config, warnings, .. }| {
                let numbers = sequence::read_new(&config, Some(&former));
                (Box::new(config), numbers, (!warnings.is_empty()).then(|| format!("\n{warnings}")))
            }))
        });
    }

    /// The next step that is done. Never comes while no reload is under way. May be dropped half-way.
    pub(crate) async fn next(&mut self) -> Step {
        match self.under_way.join_next().await {
            Some(Ok(step)) => step,
            // A panic there is one of control's.
            Some(Err(problem)) if problem.is_panic() => std::panic::resume_unwind(problem.into_panic()),
            Some(Err(_)) | None => std::future::pending().await,
        }
    }

    /// Goes on after a step. Returns whether the reload succeeded, once it has come to its end.
    pub(crate) fn take(&mut self, step: Step) -> Option<bool> {
        let done = match step {
            Step::Read(Ok((config, numbers, warnings))) => {
                self.numbers = numbers;
                if let Some(warnings) = warnings {
                    warn!("{warnings}");
                }
                let mut publish = self.publish.take()?;
                self.under_way.spawn_blocking(move || {
                    let done = publish.put(*config).map_err(|problem| format!("{problem:#}"));
                    Step::Built(publish, done)
                });
                return None;
            }
            Step::Read(Err(report)) => Err(report),
            Step::Built(publish, done) => {
                self.back(publish);
                done
            }
        };
        match &done {
            Ok(()) => {
                let generation = self.current.load().generation;
                info!(file = %self.path.display(), generation, "configuration reloaded");
            }
            Err(problem) => {
                error!("not reloaded, the former configuration stays in force: {problem}");
            }
        }
        self.began = None;
        if std::mem::take(&mut self.is_wanted) {
            self.begin();
        }
        Some(done.is_ok())
    }

    fn back(&mut self, publish: Box<Publish>) {
        let former = std::mem::replace(&mut self.file, publish.file());
        // A large one takes a while to free.
        tokio::task::spawn_blocking(move || drop(former));
        self.publish = Some(publish);
        if std::mem::take(&mut self.owes_announcement) {
            self.announce();
        }
    }
}
