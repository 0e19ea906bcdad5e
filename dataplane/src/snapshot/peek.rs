//! Whom a virtual server would give a new connection: for who asks.

use std::sync::Arc;

use super::Snapshot;
use super::service::{Candidate, Service, View};
use crate::conn::record::{Record, ServerId};
use crate::conn::state::is_active;
use crate::sched::{Measure, Peeked, PickKey, Servers};

impl Service {
    /// What [`Service::pick`] would pick, and why. `ended` is a connection whose place the new one takes, and which is counted
    /// out before. To be called by the worker itself: long lists are asked for as its picks ask.
    pub(crate) fn peek(
        &self,
        snapshot: &Snapshot,
        worker: usize,
        key: &PickKey,
        ended: Option<Record>,
    ) -> Option<Peeked<ServerId>> {
        let view = View { snapshot, list: &self.list, service: self, worker };
        let peeked = self.scheduler.peek(self.state.get(worker)?, &Asked { view, ended }, key);
        Some(peeked.and_then(|index| Some(self.list.get(index)?.id)))
    }
}

/// The real servers as picks see them, or without one connection: a long list is walked then, since it is kept with that one.
///
/// A type of its own, so that what picks go through is compiled for them alone.
struct Asked<'a> {
    view: View<'a>,
    ended: Option<Record>,
}

impl Asked<'_> {
    /// The connection that counts no more, if it is this real server's, under whatever number.
    fn ended_of(&self, index: usize) -> Option<Record> {
        let is_its = |record: &Record| {
            let its = &self.view.snapshot.server(record.server()).tallies;
            Arc::ptr_eq(its, &self.view.list[index].tallies)
        };
        self.ended.filter(is_its)
    }
}

impl Servers for Asked<'_> {
    fn len(&self) -> usize {
        self.view.len()
    }
    fn weight(&self, index: usize) -> u32 {
        self.view.weight(index)
    }
    fn overloaded(&self, index: usize) -> bool {
        let Candidate { id, has_threshold, .. } = self.view.list[index];
        let server = || self.view.snapshot.server(id);
        has_threshold
            && match self.ended_of(index) {
                Some(_) => server().is_overloaded_without_one(),
                None => server().is_overloaded(),
            }
    }
    fn least(&self, measure: Measure) -> Option<usize> {
        match self.ended {
            None => least_of(&self.view, measure),
            Some(_) => crate::sched::least(self, 0..self.len(), measure).map(|(index, _)| index),
        }
    }
    fn some_have_plenty(&self) -> bool {
        match self.ended {
            None => some_of_have_plenty(&self.view),
            Some(_) => (0..self.len()).any(|index| crate::sched::has_plenty(self, index)),
        }
    }
    fn active(&self, index: usize) -> u32 {
        self.connections(index).0
    }
    fn inactive(&self, index: usize) -> u32 {
        self.connections(index).1
    }
    fn connections(&self, index: usize) -> (u32, u32) {
        let (active, inactive) = self.view.connections(index);
        match self.ended_of(index).map(|record| is_active(record.protocol(), record.state())) {
            None => (active, inactive),
            Some(true) => (active.saturating_sub(1), inactive),
            Some(false) => (active, inactive.saturating_sub(1)),
        }
    }
}

#[cold]
#[inline(never)]
fn least_of(view: &View<'_>, measure: Measure) -> Option<usize> {
    view.least(measure)
}

#[cold]
#[inline(never)]
fn some_of_have_plenty(view: &View<'_>) -> bool {
    view.some_have_plenty()
}
