//! Whom a virtual server would give a new connection: for who asks.

use std::sync::Arc;

use super::Snapshot;
use super::service::{Service, View};
use crate::conn::record::{Record, ServerId};
use crate::conn::state::is_active;
use crate::sched::{Peeked, PickKey, Servers};

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
        let state = self.state.get(worker)?;
        let view = View { snapshot, list: &self.list, service: self, worker };
        let peeked = match ended {
            None => self.scheduler.peek(state, &view, key),
            Some(record) => self.scheduler.peek(state, &Without { view, record }, key),
        };
        Some(peeked.and_then(|index| Some(self.list.get(index)?.id)))
    }
}

/// The real servers without one connection. A long list is walked, since it is kept with that connection.
struct Without<'a> {
    view: View<'a>,
    record: Record,
}

impl Without<'_> {
    /// Whether the connection is this real server's, under whatever number.
    fn is_of(&self, index: usize) -> bool {
        let its = &self.view.snapshot.server(self.record.server()).tallies;
        Arc::ptr_eq(its, &self.view.list[index].tallies)
    }
}

impl Servers for Without<'_> {
    fn len(&self) -> usize {
        self.view.len()
    }
    fn weight(&self, index: usize) -> u32 {
        self.view.weight(index)
    }
    fn overloaded(&self, index: usize) -> bool {
        let has_threshold = self.view.list[index].has_threshold;
        match has_threshold && self.is_of(index) {
            true => self.view.snapshot.server(self.view.list[index].id).is_overloaded_without_one(),
            false => self.view.overloaded(index),
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
        match (self.is_of(index), is_active(self.record.protocol(), self.record.state())) {
            (false, _) => (active, inactive),
            (true, true) => (active.saturating_sub(1), inactive),
            (true, false) => (active, inactive.saturating_sub(1)),
        }
    }
}
