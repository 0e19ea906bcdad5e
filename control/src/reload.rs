//! Reloads and edits, as control makes them: what takes a while goes on beside it.
//!
//! A large file takes seconds to read and to build. It goes in two steps on threads of tokio's pool. The file is read, checked and, if
//! it is bad, reported with nothing of control's in hand. What is built of it needs the registry, so [`Apply`] goes along for that
//! second step; verdicts of health checks, edits and announcements wait until it is back. It goes along as well for what of these takes
//! a whole snapshot, and for edits that take longer than a moment. What edits need of this host is looked for without it
//! ([`crate::examine`]).

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;
use tracing::{error, info, warn};
use weir_api::edits::{Applied, Kind, Refusal, Reload as Wanted, Reloaded};
use weir_config::Loaded;
use weir_config::edit::Editor;
use weir_config::model::Config;
use weir_config::report::Report;
use weir_dataplane::snapshot::Snapshot;
use weir_dataplane::snapshot::publish::Current;
use weir_health::overlay::Overlay;

use crate::apply::{Apply, Draft, Pace, Refused, Tried};
use crate::compare;
use crate::examine::{Request, Searched, Searches};
use crate::http::{Keyring, Keys};
use crate::orders::{Answer, EditOrder, Order, ReloadOrder, refusal};
use crate::reload_status::RefusedBy;
use crate::routes;
use crate::vrrp::sequence;

/// Reloads that wait for the one that is under way.
const WAITING_MAX: usize = 16;

/// What was done beside control.
pub(crate) enum Step {
    /// The file was read: what it says, warnings, and what the files of `[http]` hold; or why not.
    Read(Result<(Box<Draft>, Option<Report>, Keys), NotReloaded>),
    /// A draft was put in force, or not.
    Applied(Box<Apply>, Result<Reloaded, Refused>),
    /// What is in force was put in force once more.
    Renewed(Box<Apply>),
    /// Edits were tried.
    Edited(Box<Apply>, Box<Request>, Result<Tried, Refusal>),
    /// What edits need was looked for.
    Searched(Searched),
}

/// How a reload ended.
pub(crate) type Outcome = Result<(), NotReloaded>;

/// Why the former configuration stays in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotReloaded {
    /// The file is bad: the report on it.
    #[error("\n{0}")]
    BadFile(Report),
    /// A file of `[http]` changed after the check of weir's own.
    #[error("a file of [http] changed meanwhile: {0}")]
    Keys(String),
    /// Some part does not take it.
    #[error("{0}")]
    Refused(Refused),
}

impl NotReloaded {
    /// Who refused it.
    pub(crate) fn by(&self) -> RefusedBy {
        match self {
            Self::BadFile(_) | Self::Keys(_) => RefusedBy::File,
            Self::Refused(refused) => refused.by(),
        }
    }
}

impl From<&NotReloaded> for Refusal {
    fn from(problem: &NotReloaded) -> Self {
        match problem {
            NotReloaded::BadFile(report) => {
                let text = report.one_liners().next().map_or_else(|| report.tally(), |(_, line)| line);
                Refusal { report: Some(report.to_string()), ..refusal(Kind::Invalid, text) }
            }
            NotReloaded::Keys(_) => refusal(Kind::Invalid, problem.to_string()),
            NotReloaded::Refused(refused) => refused.into(),
        }
    }
}

/// A reload that is under way.
struct UnderWay {
    order: ReloadOrder,
    began: Instant,
    warnings: Vec<String>,
    /// Of the HTTP listener, to be in force with the rest.
    keys: Option<Keys>,
}

/// See the module.
pub(crate) struct Reload {
    path: PathBuf,
    keys: Keyring,
    /// What is in force, while `apply` is elsewhere.
    file: Arc<Config>,
    current: Current,
    /// `None`: something is being built with it.
    apply: Option<Box<Apply>>,
    steps: JoinSet<Step>,
    is_reading: bool,
    /// Was read, and waits for `apply`.
    draft: Option<Box<Draft>>,
    under_way: Option<UnderWay>,
    /// The file is to be read once more for each, since it may have changed after it was read.
    waiting: VecDeque<ReloadOrder>,
    owes_announcement: bool,
    /// What is in force is to be put in force once more.
    owes_renewal: bool,
    /// Requests whose edits were made, and that were refused.
    edited: [u64; 2],
    searches: Searches,
    /// Edits whose needs were found.
    ready: VecDeque<Request>,
}

impl Reload {
    /// Of the file at `path`.
    pub(crate) fn new(path: PathBuf, mut apply: Apply) -> Self {
        Self {
            path,
            keys: Keyring::default(),
            file: Arc::new(without_servers(&apply.file())),
            current: apply.publish().shared(),
            apply: Some(Box::new(apply)),
            steps: JoinSet::new(),
            is_reading: false,
            draft: None,
            under_way: None,
            waiting: VecDeque::new(),
            owes_announcement: false,
            owes_renewal: false,
            edited: [0; 2],
            searches: Searches::default(),
            ready: VecDeque::new(),
        }
    }

    /// Puts what the HTTP listener shows and asks for there, at each reload.
    pub(crate) fn renews(&mut self, keys: Keyring) {
        self.keys = keys;
    }

    /// What is in force: the file, and the edits since.
    pub(crate) fn file(&self) -> Arc<Config> {
        self.apply.as_ref().map_or_else(|| self.file.clone(), |apply| apply.file())
    }

    /// Tells [`Reload::file`] from what it was before; `None`: the next one is being made.
    pub(crate) fn revision(&self) -> Option<u64> {
        self.apply.as_ref().map(|apply| apply.revision())
    }

    /// What is in force.
    pub(crate) fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Whether verdicts and orders can be taken, which they can't while something is built.
    pub(crate) fn takes_orders(&self) -> bool {
        self.apply.is_some()
    }

    /// Requests whose edits were made and that were refused so far, and what was edited since the file was read; `None`: that is not
    /// known now.
    pub(crate) fn edits(&self) -> Option<([u64; 2], usize)> {
        self.apply.as_ref().map(|apply| (self.edited, apply.desired().edits()))
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
        self.under_way.as_ref().map(|under_way| under_way.began)
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

    /// Reads the file again, after the reload that is under way: a signal wants it.
    pub(crate) fn begin(&mut self) {
        // One that waits for its turn reads what there is then.
        if self.waiting.iter().any(|order| order.answer.is_none()) {
            return;
        }
        if self.under_way.is_some() {
            info!("the file is read once more after the reload that is under way");
        }
        self.waiting.push_back(ReloadOrder { wanted: Wanted::default(), answer: None });
        self.go_on();
    }

    /// Does what a client of the control socket asks for.
    pub(crate) fn order(&mut self, order: Order) {
        match order {
            Order::Edit(order) => self.edit(order),
            Order::Reload(order) if self.waiting.len() >= WAITING_MAX => {
                let text = format!("{WAITING_MAX} other reloads wait for the one that is under way");
                answer(order.answer, Err(refusal(Kind::Busy, text)));
            }
            Order::Reload(order) => {
                self.waiting.push_back(order);
                self.go_on();
            }
            Order::Desired(reply) => {
                if let Some(apply) = &self.apply {
                    // Who asked may be gone.
                    let _ = reply.send(apply.desired().shown());
                }
            }
        }
    }

    fn edit(&mut self, order: EditOrder) {
        self.try_edits(Request::new(order));
        self.go_on();
    }

    /// Makes edits, at once or beside control.
    fn try_edits(&mut self, request: Request) {
        let EditOrder { edits, is_dry_run, answer } = &request.order;
        // Nobody would hear of it.
        if answer.is_closed() {
            return;
        }
        let Some(mut apply) = self.apply.take() else {
            self.ready.push_back(request);
            return;
        };
        match apply.edit(edits, *is_dry_run, Pace::AtOnce, &request.found) {
            Ok(Tried::TakesLonger) => {
                self.lend(&apply);
                self.steps.spawn_blocking(move || {
                    let EditOrder { edits, is_dry_run, .. } = &request.order;
                    let tried = apply.edit(edits, *is_dry_run, Pace::Beside, &request.found);
                    Step::Edited(apply, Box::new(request), tried)
                });
            }
            tried => {
                self.owes_renewal |= apply.publish().is_cluttered();
                self.apply = Some(apply);
                self.tried(request, tried);
            }
        }
    }

    /// Answers, or looks for what the edits need first.
    fn tried(&mut self, request: Request, tried: Result<Tried, Refusal>) {
        match tried {
            Ok(Tried::Made(applied)) => self.answer_edits(request, Ok(applied)),
            Ok(Tried::TakesLonger) => {
                self.answer_edits(request, Err(refusal(Kind::Busy, "it was not done")));
            }
            Ok(Tried::Needs(needs, health)) => match self.searches.begin(request, needs, health) {
                Ok(search) => _ = self.steps.spawn_blocking(move || Step::Searched(search.make())),
                Err(refused) => {
                    let (request, refused) = *refused;
                    self.answer_edits(request, Err(refused));
                }
            },
            Err(refused) => self.answer_edits(request, Err(refused)),
        }
    }

    fn answer_edits(&mut self, request: Request, done: Result<Applied, Refusal>) {
        let EditOrder { is_dry_run, answer, .. } = request.order;
        if !is_dry_run {
            self.edited[usize::from(done.is_err())] += 1;
        }
        // Who asked may be gone.
        let _ = answer.send(done);
    }

    /// Tells those whose edits name something that does not come.
    pub(crate) fn look_at_searches(&mut self, now: Instant) {
        for (request, refused) in self.searches.late(now) {
            self.answer_edits(request, Err(refused));
        }
    }

    /// What edits need that has been looked for for the longest, and since when.
    pub(crate) fn looks_for(&self) -> Option<(&str, Option<Instant>)> {
        self.searches.oldest()
    }

    /// Whoever waits for an answer hears that there will be none.
    pub(crate) fn dismiss(&mut self) {
        self.ready.clear();
        self.waiting.clear();
        self.searches.dismiss();
        if let Some(under_way) = &mut self.under_way {
            under_way.order.answer = None;
        }
    }

    /// What is in force stays known while `apply` is elsewhere.
    fn lend(&mut self, apply: &Apply) {
        self.file = apply.file();
    }

    fn back(&mut self, apply: Box<Apply>) {
        // Edits change it in place, which nobody else must hold for that. A large one takes a while to free.
        let small = Arc::new(without_servers(&self.file));
        let former = std::mem::replace(&mut self.file, small);
        tokio::task::spawn_blocking(move || drop(former));
        self.apply = Some(apply);
    }

    fn read(&mut self, order: ReloadOrder) {
        self.is_reading = true;
        self.under_way = Some(UnderWay { order, began: Instant::now(), warnings: Vec::new(), keys: None });
        let (path, former) = (self.path.clone(), without_servers(&self.file()));
        self.steps.spawn_blocking(move || {
            let read = weir_config::load(&path).and_then(weir_health::local::examine);
            let read = read.map(|loaded| routes::look_around(loaded, &path)).map_err(NotReloaded::BadFile);
            Step::Read(read.and_then(|Loaded { config, warnings, source, .. }| {
                let keys = Keys::read(&config.http).map_err(NotReloaded::Keys)?;
                let editor = Editor::new(source, &config);
                let numbers = sequence::read_new(&config, Some(&former));
                let draft = Box::new(Draft::new(config, editor, numbers));
                Ok((draft, (!warnings.is_empty()).then_some(warnings), keys))
            }))
        });
    }

    /// The next step that is done. Never comes while nothing is under way. May be dropped half-way.
    pub(crate) async fn next(&mut self) -> Step {
        match self.steps.join_next().await {
            Some(Ok(step)) => step,
            // A panic there is one of control's.
            Some(Err(problem)) if problem.is_panic() => std::panic::resume_unwind(problem.into_panic()),
            Some(Err(_)) | None => std::future::pending().await,
        }
    }

    /// Goes on after a step. Returns how a reload ended, once it has come to its end.
    pub(crate) fn take(&mut self, step: Step) -> Option<Outcome> {
        let done = match step {
            Step::Read(read) => {
                self.is_reading = false;
                match read {
                    Ok((draft, warnings, keys)) => {
                        self.warn(warnings);
                        if let Some(under_way) = &mut self.under_way {
                            under_way.keys = Some(keys);
                        }
                        self.draft = Some(draft);
                        None
                    }
                    Err(problem) => Some(Err(problem)),
                }
            }
            Step::Applied(apply, done) => {
                self.back(apply);
                Some(done.map_err(NotReloaded::Refused))
            }
            Step::Renewed(apply) => {
                self.back(apply);
                None
            }
            Step::Edited(apply, request, tried) => {
                self.back(apply);
                self.tried(*request, tried);
                None
            }
            Step::Searched(searched) => {
                match self.searches.end(searched) {
                    Some((request, Ok(()))) => self.ready.push_back(request),
                    Some((request, Err(missing))) => self.answer_edits(request, Err(missing)),
                    None => {}
                }
                None
            }
        };
        let outcome = done.and_then(|done| self.end(done));
        self.go_on();
        outcome
    }

    fn warn(&mut self, warnings: Option<Report>) {
        let Some((warnings, under_way)) = warnings.zip(self.under_way.as_mut()) else { return };
        under_way.warnings = warnings.one_liners().map(|(_, line)| line).collect();
        if !under_way.order.wanted.dry_run {
            warn!("\n{warnings}");
        }
    }

    /// A reload has come to its end. `None`: it was none that changes anything.
    fn end(&mut self, done: Result<Reloaded, NotReloaded>) -> Option<Outcome> {
        let UnderWay { order, warnings, keys, .. } = self.under_way.take()?;
        let done = done.map(|reloaded| Reloaded { warnings, ..reloaded });
        answer(order.answer, done.as_ref().map(Reloaded::clone).map_err(Refusal::from));
        if order.wanted.dry_run {
            return None;
        }
        match &done {
            Ok(reloaded) => {
                if let Some(keys) = keys {
                    self.keys.store(Arc::new(keys));
                }
                // It comes with what was owed.
                self.owes_renewal = false;
                let generation = self.current.load().generation;
                let differs = compare::in_words(&reloaded.changed);
                info!(file = %self.path.display(), generation, "configuration reloaded: {differs}");
                if reloaded.dropped_edits > 0 {
                    warn!(
                        edits = reloaded.dropped_edits,
                        "the reload has dropped edits: {}",
                        reloaded.dropped.join("; ")
                    );
                }
            }
            Err(problem) => {
                error!("not reloaded, the former configuration stays in force: {problem}");
            }
        }
        Some(done.map(drop))
    }

    /// Begins what waits, if it can be.
    fn go_on(&mut self) {
        while self.apply.is_some()
            && let Some(request) = self.ready.pop_front()
        {
            self.try_edits(request);
        }
        if let Some(mut apply) = self.apply.take() {
            if std::mem::take(&mut self.owes_announcement) {
                apply.publish().announce();
                self.owes_renewal = true;
            }
            let wanted = self.under_way.as_ref().map_or_else(Wanted::default, |it| it.order.wanted);
            if let Some(draft) = self.draft.take() {
                self.lend(&apply);
                self.steps.spawn_blocking(move || {
                    let done = apply.apply(*draft, wanted);
                    Step::Applied(apply, done)
                });
            } else if std::mem::take(&mut self.owes_renewal) {
                self.lend(&apply);
                self.steps.spawn_blocking(move || {
                    apply.publish().renew();
                    Step::Renewed(apply)
                });
            } else {
                self.apply = Some(apply);
            }
        }
        if self.apply.is_some()
            && self.under_way.is_none()
            && let Some(order) = self.waiting.pop_front()
        {
            self.read(order);
        }
    }
}

/// Answers whoever waits for it.
fn answer<T>(to: Option<Answer<T>>, answer: Result<T, Refusal>) {
    if let Some(to) = to {
        let _ = to.send(answer);
    }
}

/// All that is small of a configuration.
fn without_servers(config: &Config) -> Config {
    Config {
        virtual_servers: Vec::new(),
        control: config.control.clone(),
        http: config.http.clone(),
        memory: config.memory.clone(),
        workers: config.workers.clone(),
        connections: config.connections.clone(),
        schedulers: config.schedulers,
        health: config.health.clone(),
        ports: config.ports.clone(),
        routes: config.routes.clone(),
        neighbors: config.neighbors.clone(),
        marks: config.marks.clone(),
        vrrp: config.vrrp.clone(),
        vrrp_groups: config.vrrp_groups.clone(),
        announces: config.announces.clone(),
        sync: config.sync.clone(),
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
            let announced = |reload: &Reload| reload.current().announcements_first;
            std::fs::write(path, text("10.0.0.2", 2, 51)).unwrap();
            reload.announce();
            assert!(!reload.takes_orders(), "it is built");
            reload.begin();
            end(&mut reload).await.unwrap();
            assert_eq!((reload.current().generation, announced(&reload)), (3, 1));
            // Beside a reload: with it or after it.
            reload.begin();
            reload.announce();
            end(&mut reload).await.unwrap();
            while !reload.steps.is_empty() {
                let step = reload.next().await;
                assert!(reload.take(step).is_none());
            }
            assert!(announced(&reload) > 1 && reload.takes_orders());
        });
    }
}
