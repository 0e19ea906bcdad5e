//! Announcing: VIPs that are served are routes of the kernel's, which a routing daemon beside weir learns and passes on.
//!
//! ```text
//!  control -- plan (file, edits) --> [thread: who is served? what has the kernel?] -- netlink --> the kernel's table <-- BIRD, FRR
//!  quorums, VRRP, stuck workers, leaving -----^
//! ```
//! The routes lead to a device that weir makes for them and whose file this process alone holds. So the kernel takes them away, of both
//! families, when the process is gone, whatever ended it: nothing needs to run for that. Nothing else does it. IPv4 routes have no time
//! at which they end, those of IPv6 that have one end without a word to anybody before the kernel's next collection, which may be half a
//! minute later, and a host interface may be kept for the next process. While weir runs, this thread takes them away.
//!
//! A route is added only where there is none of its kind, and only what was added is removed: nobody else's is touched.

mod kernel;
mod plan;
pub(crate) mod status;
mod table;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tracing::info;
use weir_config::model::Config;
use weir_health::checker::Quorums;

use crate::flags::Flags;
use crate::netlink::Netlink;
use crate::standing::Stuck;
use crate::threads::Pulse;
use crate::vrrp::status::Status as VrrpStatus;
use plan::{Moment, Plan};
use status::Announcements;
use table::{Desired, Table};

/// How often the thread looks at what has no other way to wake it.
const TURN: Duration = Duration::from_millis(20);
/// How often it looks whether the kernel still has the routes, and tries again what failed.
const REVIEW: Duration = Duration::from_secs(1);

/// What the thread and others share.
#[derive(Default)]
struct Shared {
    plan: ArcSwap<Plan>,
    /// No port has a link.
    is_cut_off: AtomicBool,
    announcements: Arc<Announcements>,
}

/// Control's end.
pub(crate) struct Announce {
    shared: Arc<Shared>,
    /// Of the file that the plan is of.
    revision: Option<u64>,
}

impl Announce {
    /// With the plan of this file, and what it takes to follow it. `None`: the file announces nothing, and no thread does.
    pub(crate) fn new(
        config: &Config,
        (quorums, vrrp): (watch::Receiver<Quorums>, Arc<ArcSwap<VrrpStatus>>),
        workers: usize,
    ) -> Option<(Self, Thread)> {
        if config.announces.is_empty() {
            return None;
        }
        let shared = Arc::new(Shared::default());
        shared.plan.store(Arc::new(Plan::of(config)));
        let thread = Thread { shared: shared.clone(), quorums, vrrp, workers };
        Some((Self { shared, revision: None }, thread))
    }

    /// For who shows it.
    pub(crate) fn announcements(&self) -> Arc<Announcements> {
        self.shared.announcements.clone()
    }

    /// The file in force may be another, of this revision.
    pub(crate) fn follow(&mut self, revision: u64, config: impl FnOnce() -> Arc<Config>) {
        if self.revision.replace(revision) != Some(revision) {
            self.shared.plan.store(Arc::new(Plan::of(&config())));
        }
    }

    /// Whether any port has a link.
    pub(crate) fn linked(&self, has_link: bool) {
        self.shared.is_cut_off.store(!has_link, Relaxed);
    }
}

/// See the module.
pub(crate) struct Thread {
    shared: Arc<Shared>,
    quorums: watch::Receiver<Quorums>,
    vrrp: Arc<ArcSwap<VrrpStatus>>,
    /// That have to poll.
    workers: usize,
}

impl Thread {
    /// Announces until weir stops.
    ///
    /// # Errors
    /// There is no netlink.
    pub(crate) fn run(mut self, flags: &Flags, pulse: &Pulse, stuck: &Stuck) -> anyhow::Result<()> {
        let netlink = Netlink::open()?;
        let mut table = Table::new(kernel::Linux::new(&netlink, pulse), self.shared.announcements.clone());
        let mut review = Instant::now();
        let mut seen: Option<(Arc<Plan>, Moment)> = None;
        while !flags.stop.load(SeqCst) {
            pulse.beat();
            let plan = self.shared.plan.load_full();
            let moment = self.moment(flags, stuck);
            let now = Instant::now();
            let is_new = seen.as_ref().is_none_or(|(of, _)| !Arc::ptr_eq(of, &plan));
            let is_review = is_new || now >= review;
            let is_known = seen.as_ref().is_some_and(|(_, at)| *at == moment);
            if is_review || !is_known {
                table.be(&Desired::at(&plan, &moment), is_review, now);
                seen = Some((plan, moment));
            }
            if is_review {
                review = now + REVIEW;
            }
            netlink.wait(self.quorums.changed(), TURN);
        }
        info!("announced routes are withdrawn");
        Ok(())
    }

    /// What the routes hang on, now.
    fn moment(&mut self, flags: &Flags, stuck: &Stuck) -> Moment {
        let vrrp = self.vrrp.load();
        let masters = vrrp.instances.iter().filter(|instance| instance.state == "master");
        Moment {
            is_ready: flags.polling.load(SeqCst) == self.workers,
            is_leaving: flags.is_leaving(),
            has_failed: flags.failed.load(SeqCst),
            is_stuck: stuck.has_worker(),
            is_cut_off: self.shared.is_cut_off.load(Relaxed),
            quorums: self.quorums.borrow_and_update().clone(),
            masters: masters.map(|instance| instance.instance.clone()).collect::<HashSet<_>>(),
        }
    }
}
