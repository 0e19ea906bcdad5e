//! `/api/v1/overview`: what the status page shows, as JSON.
//!
//! A reading of 10,000 virtual servers takes longer than what somebody looks at of it. So one is taken at a time, all who
//! ask within a second share it, and it is forgotten when nobody asks any more. Nothing of it is control's own thread's work.

mod problems;
mod query;
mod shot;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::{JoinError, spawn_blocking};
use weir_api::overview::{Dropped, Link, Load, Overview, Router, Row, Server};
use weir_dataplane::snapshot::rates::Rates;
use weir_dataplane::snapshot::traffic::Traffic;
use weir_dataplane::stats::DropReason;
use weir_health::judge::{ServerListing, ServiceListing};

use super::servers::{carried, served};
use super::{HttpState, readiness};
use crate::log;
use crate::metrics::reading::{PortReading, RealServerReading, VirtualServerReading, WorkerReading};
use crate::reload_status::unix_seconds;
use crate::vrrp::status::InstanceStatus;
pub(super) use query::Query;
use shot::{Shot, lost, socket};

/// Real servers of an answer at most.
const REAL_SERVERS_MAX: usize = 1_000;
/// Addresses of an instance of VRRP that are listed.
const ADDRESSES_MAX: usize = 8;
/// When nobody has asked for so long, what was read is forgotten.
const IDLE: Duration = Duration::from_secs(30);

/// The last reading. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Shots(Arc<Mutex<Option<Arc<Shot>>>>);

impl Shots {
    /// That of now, for all who ask within a second.
    ///
    /// # Errors
    /// It panicked.
    pub(super) async fn now(self, state: HttpState) -> Result<Arc<Shot>, JoinError> {
        let mut last = self.0.clone().lock_owned().await;
        if let Some(shot) = last.as_ref().filter(|shot| shot.is_good()) {
            return Ok(shot.clone());
        }
        // A client that leaves meanwhile does not end it, so nobody has more than one taken at a time.
        let taken = tokio::spawn(async move {
            let not_ready = readiness::missing(state.sources(), &state.flags).await;
            let before = last.take();
            let take = move || {
                // What it knows beyond its counts goes before the next one is read: of many real servers it is large.
                let before = before.map(|shot| shot.counts.clone());
                let read = || state.metrics.read();
                Arc::new(Shot::take(state.hosts.own(), read, &not_ready, before.as_ref()))
            };
            let shot = spawn_blocking(take).await?;
            *last = Some(shot.clone());
            tokio::spawn(self.forget_unused(Arc::downgrade(&shot)));
            Ok::<_, JoinError>(shot)
        });
        taken.await?
    }

    async fn forget_unused(self, shot: Weak<Shot>) {
        tokio::time::sleep(IDLE).await;
        let mut last = self.0.lock().await;
        if last.as_ref().is_some_and(|last| std::ptr::eq(Arc::as_ptr(last), shot.as_ptr())) {
            let unused = last.take();
            // Of many real servers it takes a while.
            spawn_blocking(move || drop(unused));
        }
    }
}

/// The answer to `query`.
pub(super) fn render(shot: &Shot, query: &Query) -> Result<Vec<u8>, String> {
    serde_json::to_vec(&overview(shot, query)).map_err(|problem| problem.to_string())
}

fn overview<'a>(shot: &'a Shot, query: &Query) -> Overview<'a> {
    let it = &shot.reading;
    let matching = query.matching(shot);
    // Who asks for what is beyond the last ones, since there are fewer than before, gets those.
    let last_page = matching.len().saturating_sub(1) / query.limit * query.limit;
    let first = if query.first < matching.len() { query.first } else { last_page };
    let mut room = REAL_SERVERS_MAX;
    let shown = matching.iter().skip(first).take(query.limit);
    Overview {
        director: (&shot.director).into(),
        version: it.version.into(),
        dpdk_version: (&it.dpdk_version).into(),
        at: shot.at,
        started: unix_seconds(it.started),
        generation: it.generation,
        reload_at: it.reload_at,
        problems: shot.problems.clone(),
        more_problems: shot.more_problems,
        newest_event: log::newest(),
        totals: shot.totals.clone(),
        workers: workers(shot),
        ports: ports(shot),
        vrrp: it.vrrp.instances.iter().map(|instance| router(instance, shot.at)).collect(),
        drops: drops(shot),
        matching: matching.len(),
        first,
        virtual_servers: shown.map(|&place| row(shot, place, query, &mut room)).collect(),
    }
}

fn workers(shot: &Shot) -> Vec<Load> {
    let it = &shot.reading;
    let load = |(number, worker): (usize, &WorkerReading)| Load {
        worker: number,
        busy: shot.speeds.as_ref().and_then(|speeds| *speeds.busy.get(number)?),
        stuck: worker.is_stuck,
        connections: worker.connections,
        capacity: worker.capacity,
        longest_pass_seconds: worker.longest_cycles as f64 / it.cycles_per_second as f64,
        generation: worker.generation,
    };
    it.workers.iter().enumerate().map(load).collect()
}

fn ports<'a>(shot: &'a Shot) -> Vec<Link<'a>> {
    let ports = shot.reading.ports.iter().enumerate();
    let link = |(number, port): (usize, &'a PortReading)| Link {
        port: (&port.name).into(),
        vlan: port.vlan,
        link_up: port.link_up,
        per_second: shot.speeds.as_ref().and_then(|speeds| speeds.ports.get(number).copied()),
        receive_packets: port.receive_packets,
        transmit_packets: port.transmit_packets,
        lost: lost(port),
    };
    ports.map(link).collect()
}

fn router(it: &InstanceStatus, now: f64) -> Router<'_> {
    Router {
        instance: (&it.instance).into(),
        port: (&it.port).into(),
        virtual_router_id: it.virtual_router_id,
        state: it.state.into(),
        changed_at: now - it.since_transition_seconds,
        priority: it.priority,
        addresses: it.addresses.iter().take(ADDRESSES_MAX).copied().collect(),
        more_addresses: it.addresses.len().saturating_sub(ADDRESSES_MAX),
        fault: it.fault_sentence.as_deref().map(Into::into),
        heard_from: it.last_heard.as_ref().map(|heard| heard.from),
        heard_seconds_ago: it.last_heard.as_ref().map(|heard| heard.age_seconds),
        became_master: it.became_master,
    }
}

fn drops(shot: &Shot) -> Vec<Dropped<'_>> {
    let all = shot.reading.drops.iter().enumerate().filter(|(_, (_, count))| *count > 0);
    let dropped = |(place, (reason, count)): (usize, &(DropReason, u64))| Dropped {
        reason: reason.label().into(),
        meaning: reason.help().into(),
        total: *count,
        per_second: shot.speeds.as_ref().and_then(|speeds| speeds.drops.get(place).copied()),
    };
    all.map(dropped).collect()
}

/// The virtual server at this place, with as many of its real servers as there is room for, if they are asked for.
fn row<'a>(shot: &'a Shot, place: usize, query: &Query, room: &mut usize) -> Row<'a> {
    let (server, state) = (&shot.reading.virtual_servers[place], &shot.states[place]);
    let real_servers = query.opens(&server.name).then(|| {
        let shown = state.servers.min(*room);
        *room -= shown;
        real_servers(shot.health_of(place), server, shown, shot.at)
    });
    Row {
        name: (&server.name).into(),
        traffic: served(server),
        scheduler: server.scheduler.into(),
        state: state.word.into(),
        servers: state.servers,
        servers_down: state.servers_down,
        weight: state.weight,
        active: state.active,
        inactive: state.inactive,
        carried: carried(&server.since_zero, &server.rates),
        real_servers,
    }
}

/// The first ones of the file. Those that are down may be out of service: health alone knows them then.
fn real_servers<'a>(
    health: Option<&'a ServiceListing>,
    server: &'a VirtualServerReading,
    count: usize,
    now: f64,
) -> Vec<Server<'a>> {
    let known = health.map_or(&[][..], |service| &service.servers);
    let mut present: HashMap<SocketAddr, &RealServerReading> =
        server.real_servers.iter().map(|real| (socket(real), real)).collect();
    let mut all: Vec<Server<'a>> = known
        .iter()
        .take(count)
        .map(|health| real_server(present.remove(&health.server), Some(health), now))
        .collect();
    // Such as a sorry server.
    let others = server.real_servers.iter().filter(|real| present.contains_key(&socket(real)));
    all.extend(others.take(count - all.len()).map(|real| real_server(Some(real), None, now)));
    all
}

fn real_server<'a>(
    real: Option<&'a RealServerReading>,
    health: Option<&'a ServerListing>,
    now: f64,
) -> Server<'a> {
    let is_up = health.is_none_or(|health| health.is_up);
    let checks = health.into_iter().flat_map(|health| &health.checks);
    let last = checks.filter_map(|check| check.last.as_ref()).max_by_key(|last| last.at);
    let weight = real.map_or(0, |real| real.weight);
    let state = match weight {
        _ if !is_up => "down",
        0 => "drained",
        _ => "up",
    };
    let name = real.map(|real| (&real.socket).into());
    let carried = real.map(|real| carried(&real.since_zero, &real.rates));
    Server {
        real_server: name.or(health.map(|health| health.server.to_string().into())).unwrap_or_default(),
        forwarding: real.map(|real| real.forwarding.name().into()),
        state: state.into(),
        changed_at: health.map(|health| now - health.since.as_secs_f64()),
        reason: health.map(|health| (&health.reason).into()),
        last_check: last.map(|last| (&last.detail).into()),
        weight,
        active: real.map_or(0, |real| real.active),
        inactive: real.map_or(0, |real| real.inactive),
        carried: carried.unwrap_or_else(|| super::servers::carried(&Traffic::default(), &Rates::default())),
    }
}
