//! What another director tells, in this one's terms: which virtual server it is of, and whether it can go on here.

use std::net::SocketAddr;
use std::sync::Arc;

use weir_config::model::{Family, Protocol};
use weir_dataplane::conn::state::State;
use weir_dataplane::conn::template::{Templates, begins_network};
use weir_dataplane::director::Shared;
use weir_dataplane::director::foretold::{server_at, service_of};
use weir_dataplane::director::persist::{lifetime_of, owner};
use weir_dataplane::foretold::{Flow, Foretold, Put, Told};
use weir_dataplane::snapshot::publish::Current;
use weir_dataplane::snapshot::service::Service;
use weir_dataplane::snapshot::{Snapshot, protocol};
use weir_sync::{Datagram, Entry, Flags};

use super::{Figures, Kind, Reason};

/// Nothing waits for longer, whatever it was told: ten days, as the longest timeout of the file.
const SECS_MAX: u32 = 864_000;

/// See the module.
pub(crate) struct Taker {
    snapshot: Current,
    workers: Vec<Shared>,
    templates: Arc<Templates>,
    figures: Arc<Figures>,
}

impl Taker {
    /// Of these workers, by the snapshot in force.
    pub(crate) fn new(snapshot: Current, workers: Vec<Shared>, templates: Arc<Templates>) -> Self {
        Self { snapshot, workers, templates, figures: Arc::default() }
    }

    /// What came in.
    pub(crate) fn figures(&self) -> &Arc<Figures> {
        &self.figures
    }

    /// What waits for its first packet.
    pub(super) fn foretold(&self) -> &Foretold {
        &self.workers[0].foretold
    }

    /// The workers' clock.
    pub(super) fn seconds(&self) -> u32 {
        self.workers.iter().map(|worker| worker.counters.seconds.get() as u32).max().unwrap_or(0)
    }

    /// Takes a datagram of this sync id.
    pub(super) fn take(&self, datagram: &[u8], id: u8) {
        self.figures.count_datagram();
        let read = Datagram::read(datagram).and_then(|datagram| datagram.of_id(id));
        let entries = match read {
            Ok(datagram) => datagram.entries(),
            Err(refused) => return self.figures.count(Err(Reason::Unreadable(refused))),
        };
        let (snapshot, now) = (self.snapshot.load_full(), self.seconds());
        for entry in entries {
            let outcome = entry.map_err(Reason::Unreadable);
            self.figures.count(outcome.and_then(|entry| self.take_entry(&entry, &snapshot, now)));
        }
    }

    fn take_entry(&self, entry: &Entry<'_>, snapshot: &Snapshot, now: u32) -> Result<Kind, Reason> {
        if entry.flags.has(Flags::TEMPLATE) {
            return self.take_template(entry, snapshot, now);
        }
        let protocol = protocol(entry.protocol).ok_or(Reason::Protocol)?;
        let state = State::of_number(protocol, entry.state).ok_or(Reason::Protocol)?;
        service_for(entry, protocol, snapshot).ok_or(Reason::VirtualServer)?;
        if entry.sequences.is_some_and(|sequences| sequences.shift_anything()) {
            // Its ends would take each other's segments for others.
            return Err(Reason::Sequences);
        }
        let secs = match entry.timeout_secs {
            0 => snapshot.lifetimes.of(protocol, state),
            secs => secs.min(SECS_MAX),
        };
        let flow = Flow { protocol, client: entry.client, server: entry.virtual_server };
        let told = Told { flow, real_server: entry.real_server, state, until: now.saturating_add(secs) };
        match self.foretold().put(told, now) {
            Put::New | Put::Renewed => Ok(Kind::Connection),
            Put::Full => Err(Reason::Full),
        }
    }

    fn take_template(&self, entry: &Entry<'_>, snapshot: &Snapshot, now: u32) -> Result<Kind, Reason> {
        if entry.engine.is_some() {
            return Err(Reason::Engine);
        }
        let service = match protocol(entry.protocol) {
            Some(protocol) => service_for(entry, protocol, snapshot),
            None => service_of_mark(entry, snapshot),
        };
        let service = service.ok_or(Reason::VirtualServer)?;
        let client = entry.client.ip();
        let is_alike = |netmask: u8| begins_network(client, netmask);
        let persistence = service.persistence.filter(|it| it.engine.is_none() && is_alike(it.netmask));
        let persistence = persistence.ok_or(Reason::Persistence)?;
        let server = server_at(service, entry.real_server, entry.virtual_server.port(), snapshot);
        let tie = (owner(service), server.ok_or(Reason::RealServer)?, entry.state != 0);
        let times = (persistence.timeout_secs, now);
        let lifetime_of = |owner| lifetime_of(owner, snapshot);
        match self.templates.foretell((client, persistence.netmask), tie, times, lifetime_of) {
            Ok(true) => Ok(Kind::Template),
            Ok(false) => Err(Reason::Tied),
            Err(_) => Err(Reason::Full),
        }
    }
}

/// The virtual server of an entry, whoever is master of its address now.
fn service_for<'a>(entry: &Entry<'_>, protocol: Protocol, snapshot: &'a Snapshot) -> Option<&'a Service> {
    service_of(entry.virtual_server, protocol, snapshot).or_else(|| service_of_mark(entry, snapshot))
}

/// The same, by its mark.
fn service_of_mark<'a>(entry: &Entry<'_>, snapshot: &'a Snapshot) -> Option<&'a Service> {
    let is_it = |service: &&Service| {
        service.mark.is_some_and(|mark| mark.get() == entry.mark)
            && Family::of(service.address) == family(entry.client)
    };
    (entry.mark != 0).then(|| snapshot.services().map(|service| &**service).find(is_it))?
}

fn family(socket: SocketAddr) -> Family {
    Family::of(socket.ip())
}
