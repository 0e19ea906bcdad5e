//! The half of a scheduler that picks change: one per worker and virtual server.
//!
//! Made of relaxed atomic cells. The worker that owns a state is its only writer, so a cell is read and
//! written without a read-modify-write; control reads while the worker goes on. What control reads for the
//! next version may therefore be a few picks old when the worker gets there: a round of rr then goes over
//! those servers again. The memory of lblc and lblcr is large and must not be forgotten by an edit, so
//! versions share it instead of copying it, and it stays its worker's alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use weir_config::model::Scheduler;

use super::locality::Memory;
use super::round_robin::Wrr;
use super::service::{ServiceDescription, Transition};

/// A 32-bit cell with one writer.
#[derive(Debug, Default)]
pub(super) struct Cell32(AtomicU32);

impl Cell32 {
    pub(super) const fn new(value: u32) -> Self {
        Self(AtomicU32::new(value))
    }
    pub(super) fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
    pub(super) fn set(&self, value: u32) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// A 64-bit cell with one writer.
#[derive(Debug, Default)]
pub(super) struct Cell64(AtomicU64);

impl Cell64 {
    pub(super) const fn new(value: u64) -> Self {
        Self(AtomicU64::new(value))
    }
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
    pub(super) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// What one worker's picks for one virtual server change. Its own cache line.
#[derive(Debug)]
#[repr(align(64))]
pub struct State {
    /// The worker this belongs to; makes the random sequences of workers differ.
    worker: u32,
    /// How many workers there are.
    workers: u32,
    /// rr, wrr: 0 is the head of the list, `i + 1` the server at index `i`, which was picked last.
    pub(super) position: Cell32,
    /// wrr: a server is taken in this pass if it weighs at least this much. 0 only while no server was
    /// ever added with a weight.
    pub(super) pass_weight: Cell32,
    /// twos: state of the generator.
    pub(super) random: Cell64,
    /// lblc, lblcr: the servers of known destinations.
    pub(super) memory: Option<Arc<Memory>>,
}

impl State {
    /// The state of a virtual server that was created empty and then got its real servers one by one, as
    /// `ipvsadm -A` and `-a` line after line do. (wrr tells this from a list that was there before.)
    ///
    /// `worker` is one of `workers`. The first one starts where the kernel does; the others start their rounds of rr and
    /// wrr further on, evenly spread over one round, so that what all of them pick is spread as one round is.
    pub fn new(service: &ServiceDescription, worker: u32, workers: u32) -> Self {
        let state = Self::blank(service, worker, workers);
        state.pass_weight.set(Wrr::pass_weight_after(0, &[], &service.servers));
        state.stagger(service);
        state
    }

    /// The state of a virtual server with real servers when its scheduler is changed (`ipvsadm -E -s`).
    fn bound(service: &ServiceDescription, worker: u32, workers: u32) -> Self {
        let state = Self::blank(service, worker, workers);
        state.pass_weight.set(Wrr::build(&service.servers).top());
        state.stagger(service);
        state
    }

    /// Moves a fresh state on by this worker's part of a round.
    fn stagger(&self, service: &ServiceDescription) {
        let servers = &service.servers;
        let part = |round: u64| round * u64::from(self.worker) / u64::from(self.workers.max(1));
        match service.scheduler {
            Scheduler::Rr => self.position.set(part(servers.len() as u64) as u32),
            Scheduler::Wrr => {
                let wrr = Wrr::build(servers);
                let (pass_weight, position) =
                    wrr.after(servers, self.pass_weight.get(), part(wrr.round(servers)));
                self.pass_weight.set(pass_weight);
                self.position.set(position);
            }
            _ => {}
        }
    }

    fn blank(service: &ServiceDescription, worker: u32, workers: u32) -> Self {
        let options = &service.options;
        let memory = match service.scheduler {
            Scheduler::Lblc => Some(Arc::new(Memory::single(options))),
            Scheduler::Lblcr => Some(Arc::new(Memory::replicated(options))),
            _ => None,
        };
        // Far apart for neighbouring workers; the generator mixes it before use.
        let random = options.twos_seed ^ (u64::from(worker) << 32);
        Self {
            worker,
            workers,
            position: Cell32::new(0),
            pass_weight: Cell32::new(0),
            random: Cell64::new(random),
            memory,
        }
    }

    /// The state for the next version of the virtual server, by the kernel's rules: a deleted server's
    /// place in the round falls to the one before it in the list; any add, delete or edit sends wrr to the
    /// head of the list; lblc and lblcr forget nothing; another scheduler starts fresh.
    ///
    /// Called by control. Changes between the two versions count as deletes, edits and adds in this order,
    /// so a version per change is as the kernel would do it.
    pub fn carry_over(&self, old: &ServiceDescription, new: &ServiceDescription) -> State {
        if old.scheduler != new.scheduler {
            return Self::bound(new, self.worker, self.workers);
        }
        let transition = Transition::between(&old.servers, &new.servers);
        let changed = !transition.is_empty(&old.servers, &new.servers);
        let position = match new.scheduler {
            Scheduler::Wrr if changed => 0,
            _ => self.position_after(&transition),
        };
        let pass_weight = match new.scheduler {
            Scheduler::Wrr if changed => {
                Wrr::pass_weight_after(self.pass_weight.get(), &old.servers, &new.servers)
            }
            _ => self.pass_weight.get(),
        };
        Self {
            worker: self.worker,
            workers: self.workers,
            position: Cell32::new(position),
            pass_weight: Cell32::new(pass_weight),
            random: Cell64::new(self.random.get()),
            memory: self.memory.clone(),
        }
    }

    /// What small things picks change, to be changed without an effect. The memory is shared, and only to be read.
    pub(super) fn copy(&self) -> State {
        Self {
            worker: self.worker,
            workers: self.workers,
            position: Cell32::new(self.position.get()),
            pass_weight: Cell32::new(self.pass_weight.get()),
            random: Cell64::new(self.random.get()),
            memory: self.memory.clone(),
        }
    }

    fn position_after(&self, transition: &Transition) -> u32 {
        let position = self.position.get() as usize;
        let at_or_before = transition.kept.iter().rev().find(|&&(before, _)| before < position);
        at_or_before.map_or(0, |&(_, after)| after as u32 + 1)
    }

    /// Destinations that lblc or lblcr remembers for this worker.
    pub fn destinations(&self) -> u32 {
        self.memory.as_ref().map_or(0, |memory| memory.destinations())
    }
}
