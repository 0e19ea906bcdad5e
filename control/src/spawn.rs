//! Control's threads: started, named, kept on control's cores, and the end of weir if one of them panics.
//!
//! With several lcores the first is control's: its threads are pinned to that core, where no worker is. With one lcore that is the
//! worker's, and control floats: its threads may run on every core that the process was started with, the worker's among them, and
//! the kernel finds one that is free. Nowhere else does control run on several cores.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use core_affinity::CoreId;
use tracing::{error, warn};

use crate::flags::Flags;
use crate::rights::Rights;
use crate::threads::{Pulse, Role};

/// Where control's threads run.
#[derive(Debug, Clone)]
pub(crate) enum Cores {
    /// On the first lcore's core, and on no other.
    Own(usize),
    /// On any of these: see the module.
    Floating(Arc<[usize]>),
}

impl Cores {
    /// All of them.
    pub(crate) fn all(&self) -> &[usize] {
        match self {
            Self::Own(core) => std::slice::from_ref(core),
            Self::Floating(cores) => cores,
        }
    }

    /// Has the calling thread, and those that it starts, run there.
    fn take(&self, role: Role) {
        match self {
            Self::Own(core) if core_affinity::set_for_current(CoreId { id: *core }) => {}
            Self::Own(core) => {
                warn!("{role} may run on a worker's core: the kernel does not keep it on core {core}");
            }
            Self::Floating(cores) => {
                if let Err(problem) = dpdk::lcore::run_on_cpus(cores) {
                    warn!("{role} runs on the worker's core: {problem}");
                }
            }
        }
    }
}

/// What the end of a thread means that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtEnd {
    /// The end of weir.
    Stop,
    /// The thread was told to end.
    GoOn,
}

/// Starts control's threads.
#[derive(Clone)]
pub(crate) struct Spawner {
    flags: Flags,
    cores: Cores,
    rights: Rights,
}

impl Spawner {
    /// On these cores, with no more than they need of these rights.
    pub(crate) fn new(flags: Flags, cores: Cores, rights: Rights) -> Self {
        Self { flags, cores, rights }
    }

    /// Starts a thread. If `work` fails, or panics, weir fails and stops.
    pub(crate) fn spawn(
        &self,
        role: Role,
        at_end: AtEnd,
        work: impl FnOnce(&Flags, &Pulse) -> Result<()> + Send + 'static,
    ) -> Result<JoinHandle<()>> {
        let Self { flags, cores, rights } = self.clone();
        let run = move || {
            let presence = flags.threads.enter(role);
            cores.take(role);
            rights.take(role);
            guarded(&flags, role, at_end, || work(&flags, presence.pulse()));
        };
        let thread = thread::Builder::new().name(role.to_string()).spawn(run);
        // Those that run already are told.
        thread.inspect_err(|_| self.flags.fail()).with_context(|| format!("the thread {role} does not start"))
    }
}

/// Does work whose failure or panic is the end of weir.
pub(crate) fn guarded(flags: &Flags, role: Role, at_end: AtEnd, work: impl FnOnce() -> Result<()>) {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) if at_end == AtEnd::GoOn => {}
        Ok(Ok(())) => flags.stop(),
        Ok(Err(problem)) => {
            error!("{problem:#}");
            flags.fail();
        }
        Err(_) => flags.panicked(role),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use rustix::thread::{CpuSet, sched_getaffinity};

    use super::*;

    const RIGHTS: Rights = Rights { has_kernel_ports: false };

    fn allowed() -> Vec<usize> {
        let set = sched_getaffinity(None).unwrap();
        (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
    }

    #[test]
    fn threads_run_on_controls_cores_under_their_names() {
        let all = allowed();
        let one = *all.last().unwrap();
        for (cores, expected) in [(Cores::Own(one), vec![one]), (Cores::Floating(all.clone().into()), all)] {
            let spawner = Spawner::new(Flags::default(), cores, RIGHTS);
            let (say, said) = channel();
            let work = move |_: &Flags, _: &Pulse| {
                say.send((allowed(), thread::current().name().map(str::to_owned)))?;
                // Those that it starts run there as well.
                say.send((thread::spawn(allowed).join().unwrap(), None))?;
                Ok(())
            };
            spawner.spawn(Role::Vrrp, AtEnd::GoOn, work).unwrap().join().unwrap();
            assert_eq!(said.recv().unwrap(), (expected.clone(), Some("weir-vrrp".to_owned())));
            assert_eq!(said.recv().unwrap().0, expected);
        }
    }

    #[test]
    fn a_thread_that_fails_or_panics_ends_weir() {
        let mut said = Vec::new();
        let mut ends = |at_end, work: fn() -> Result<()>| {
            let flags = Flags::default();
            let spawner = Spawner::new(flags.clone(), Cores::Floating(allowed().into()), RIGHTS);
            spawner.spawn(Role::Host, at_end, move |_, _| work()).unwrap().join().unwrap();
            assert!(flags.threads.roles().is_empty());
            said.push(flags.threads.that_panicked());
            (flags.is_stopping(), flags.failed.load(std::sync::atomic::Ordering::SeqCst))
        };
        assert_eq!(ends(AtEnd::GoOn, || Ok(())), (false, false));
        assert_eq!(ends(AtEnd::Stop, || Ok(())), (true, false));
        assert_eq!(ends(AtEnd::GoOn, || anyhow::bail!("no runtime")), (true, true));
        assert_eq!(ends(AtEnd::GoOn, || panic!("a fault")), (true, true));
        assert_eq!(said, [vec![], vec![], vec![], vec![Role::Host]]);
    }
}
