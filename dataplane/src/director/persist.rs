//! Persistence: connections of one client reach one real server, by templates that all workers share.
//!
//! New connections, ends of connections and packets of flows without a record come here; packets of known connections don't.

use std::net::Ipv6Addr;

use super::{Director, Finding, PERSISTENT};
use crate::address::Addr4;
use crate::clock::Now;
use crate::conn::record::{Record, ServerId};
use crate::conn::template::{Found, Key, Ledger, Owner, Slot, Template, TemplateKey, TemplateKey6};
use crate::packet::Frame;
use crate::parse::Packet;
use crate::sched::untracked::FlowHash;
use crate::snapshot::Snapshot;
use crate::snapshot::server::Server;
use crate::snapshot::service::{Persistence, Service};

/// The sweep sees a large table of templates through in this time, in milliseconds. It takes little more than that from a
/// real server's number that nothing but templates names to be given to another one.
const TEMPLATE_ROUND_MS: u64 = 20_000;
/// Buckets that it visits in a millisecond at least: a small table is done sooner.
const BUCKETS_PER_MILLI_MIN: u64 = 4;
/// Buckets that one call visits at most.
const SWEEP_BUCKETS_MAX: u64 = 32;

/// What a new connection is told to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice {
    /// The real server to go to.
    pub(super) server: ServerId,
    /// The template to hang on.
    pub(super) template: Option<Hold>,
}

/// A template, as a new connection holds on to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hold {
    slot: Slot,
    key: HeldKey,
    lifetime: u32,
}

/// The key of a template that a new connection holds on to.
#[derive(Debug, Clone, Copy)]
pub(super) enum HeldKey {
    V4(TemplateKey),
    /// Of the client of [`Director::ends6`], and a prefix of so many bits.
    V6(Owner, u8),
    /// Of a call. No connection hangs on it.
    Call(TemplateKey6),
}

/// The key of the template that a connection hangs on.
#[derive(Debug, Clone, Copy)]
pub(super) enum TiedBy {
    V4(TemplateKey),
    V6(TemplateKey6),
}

impl<F: Frame> Director<F> {
    /// The real server for a new connection: that of its client's template if the virtual server is persistent and
    /// the template holds, else one that is scheduled now.
    pub(super) fn choose(
        &self,
        packet: &Packet,
        service: &Service,
        snapshot: &Snapshot,
        now: Now,
    ) -> Option<Choice> {
        let Some(persistence) = service.persistence else {
            return Some(Choice { server: self.schedule(packet, service, snapshot, now)?, template: None });
        };
        let context = (snapshot, now);
        if persistence.engine.is_some() {
            return self.choose_by_call(packet, (service, persistence), context);
        }
        if packet.is_of_ipv6() {
            let key = self.key_of_client6(service, persistence);
            let by = (&self.templates.v6, key, held6(service, persistence));
            return self.choose_by(by, packet, (service, persistence), context);
        }
        let key = template_key(packet.source, service, persistence);
        self.choose_by((&self.templates.v4, key, HeldKey::V4(key)), packet, (service, persistence), context)
    }

    /// As [`Director::choose`], of a persistent virtual server, by the templates of one family. Not inlined: the others' way
    /// stays short.
    #[inline(never)]
    pub(super) fn choose_by<K: Key, const LINES: usize>(
        &self,
        (templates, key, held): (&Ledger<K, LINES>, K, HeldKey),
        packet: &Packet,
        (service, persistence): (&Service, Persistence),
        (snapshot, now): (&Snapshot, Now),
    ) -> Option<Choice> {
        let schedule = || self.schedule(packet, service, snapshot, now);
        let lifetime = persistence.timeout_secs;
        let hold = |slot| Some(Hold { slot, key: held, lifetime });
        if let Some(found) = templates.find(key, lifetime, now.seconds) {
            let known = snapshot.server(found.server);
            let holds = holds(known, service, snapshot);
            if holds && !known.is_former() {
                return Some(Choice { server: found.server, template: hold(found.slot) });
            }
            let server = if holds { known.current } else { schedule()? };
            return match templates.rebind(found.slot, key, found.server, server, now.seconds) {
                Some(server) => Some(Choice { server, template: hold(found.slot) }),
                None => Some(Choice { server, template: None }),
            };
        }
        let server = schedule()?;
        let lifetime_of = |template: Template<K>| lifetime_of(template.owner(), snapshot);
        match templates.bind(key, server, lifetime, now.seconds, lifetime_of) {
            Ok(bound) => Some(Choice { server: bound.server, template: hold(bound.slot) }),
            Err(_) => {
                self.shared.counters.templates_full.add(1);
                Some(Choice { server, template: None })
            }
        }
    }

    /// The real server for a flow that gets no record: that of its client's template, which lives on by that, if the virtual
    /// server is persistent and the template holds; else the one that its two ends and the weights tell, each time the same.
    pub(super) fn pick_untracked(
        &self,
        packet: &Packet,
        service: &Service,
        snapshot: &Snapshot,
        now: Now,
    ) -> Option<Choice> {
        if let Some(persistence) = service.persistence {
            let lifetime = persistence.timeout_secs;
            let (found, key) = self.find_template(packet, service, persistence, now)?;
            if let Some(found) = found.filter(|found| holds(snapshot.server(found.server), service, snapshot))
            {
                let hold = Hold { slot: found.slot, key, lifetime };
                self.touch(hold, found.server, now);
                let known = snapshot.server(found.server);
                let template = (!known.is_former()).then_some(hold);
                return Some(Choice { server: known.current, template });
            }
        }
        self.pick_by_hash(packet, service).map(|server| Choice { server, template: None })
    }

    /// The real server of a flow without record and template: the one that its two ends and the weights tell.
    #[inline(always)]
    pub(super) fn pick_by_hash(&self, packet: &Packet, service: &Service) -> Option<ServerId> {
        match packet.is_of_ipv6() {
            true => self.pick_by_hash6(packet, service),
            false => pick_by_hash(packet, service),
        }
    }

    /// First round of a frame that opens a connection to this virtual server: asks the processor for its client's template, if
    /// the virtual server is persistent.
    #[inline]
    pub(super) fn prefetch_template(&mut self, service: &Service, client: Addr4) {
        if let Some(persistence) = service.persistence {
            self.templates.v4.prefetch(template_key(client, service, persistence));
            self.further |= PERSISTENT;
        }
    }

    /// The end of the first round of such frames: asks for what the templates' buckets lead to.
    pub(super) fn prefetch_templates_behind(&self, findings: &[Finding], snapshot: &Snapshot) {
        for lookup in findings.iter().filter_map(Finding::opening) {
            if let Some(service) = snapshot.service(lookup.service)
                && let Some(persistence) = service.persistence
            {
                self.templates.v4.prefetch_behind(template_key(lookup.key.client(), service, persistence));
            }
        }
    }

    /// Connections of IPv4 clients that hang on templates are over.
    pub(super) fn detach_all(&self, records: &[Record], snapshot: &Snapshot, now: Now) {
        // In a loop of their own: the processor waits for all of them at once.
        for record in records {
            if let Some((TiedBy::V4(key), _)) = self.template_of(*record, snapshot) {
                self.templates.v4.prefetch(key);
            }
        }
        records.iter().for_each(|record| self.detach(*record, snapshot, now));
    }

    /// The same of IPv6 clients, whose records are gone, and maybe their numbers.
    pub(super) fn detach_all6(&self, ended: &[(Record, Ipv6Addr)], snapshot: &Snapshot, now: Now) {
        let tied = |(record, client): &(Record, Ipv6Addr)| {
            let (owner, persistence) = self.owner_of_template(*record, snapshot)?;
            let key = TemplateKey6::new(*client, persistence.netmask, owner.service, owner.epoch);
            Some((key, persistence.timeout_secs, record.server()))
        };
        ended.iter().filter_map(tied).for_each(|(key, ..)| self.templates.v6.prefetch(key));
        for (key, lifetime, server) in ended.iter().filter_map(tied) {
            self.templates.v6.detach(key, server, lifetime, now.seconds);
        }
    }

    /// Hangs a new connection on its template. False: it has just changed, or connections of a former epoch are not told
    /// from new ones yet, so the connection goes without.
    pub(super) fn attach(&self, hold: Hold, service: &Service, server: ServerId, now: Now) -> bool {
        if self.shared.counters.swept.get() < service.epoch.since {
            self.touch(hold, server, now);
            return false;
        }
        let Hold { slot, key, lifetime } = hold;
        match key {
            HeldKey::V4(key) => self.templates.v4.attach(slot, key, server, lifetime, now.seconds),
            HeldKey::V6(owner, prefix) => {
                let key = self.key6(owner, prefix);
                self.templates.v6.attach(slot, key, server, lifetime, now.seconds)
            }
            HeldKey::Call(_) => {
                self.touch(hold, server, now);
                false
            }
        }
    }

    /// Hangs a connection on its client's template, if there is one that says where it goes. It has begun elsewhere.
    pub(super) fn hang_on_template(
        &self,
        packet: &Packet,
        (snapshot, now): (&Snapshot, Now),
        server: &Server,
    ) -> bool {
        let service = snapshot.service(server.service);
        // None hangs on the template of a call.
        let client = |it: &Service| it.persistence.filter(|persistence| persistence.engine.is_none());
        let Some((service, persistence)) = service.and_then(|it| Some((it, client(it)?))) else {
            return false;
        };
        let lifetime = persistence.timeout_secs;
        let Some((found, key)) = self.find_template(packet, service, persistence, now) else { return false };
        found.is_some_and(|found| {
            found.server == server.id
                && self.attach(Hold { slot: found.slot, key, lifetime }, service, server.id, now)
        })
    }

    /// The template of a packet's client, or of its call. `None`: nothing says which call it is of.
    fn find_template(
        &self,
        packet: &Packet,
        service: &Service,
        persistence: Persistence,
        now: Now,
    ) -> Option<(Option<Found>, HeldKey)> {
        let lifetime = persistence.timeout_secs;
        Some(if persistence.engine.is_some() {
            let key = self.call?;
            (self.templates.v6.find(key, lifetime, now.seconds), HeldKey::Call(key))
        } else if packet.is_of_ipv6() {
            let key = self.key_of_client6(service, persistence);
            (self.templates.v6.find(key, lifetime, now.seconds), held6(service, persistence))
        } else {
            let key = template_key(packet.source, service, persistence);
            (self.templates.v4.find(key, lifetime, now.seconds), HeldKey::V4(key))
        })
    }

    /// Restarts the timer of a template for a packet that leaves no record.
    pub(super) fn touch(&self, hold: Hold, server: ServerId, now: Now) {
        let Hold { slot, key, lifetime } = hold;
        match key {
            HeldKey::V4(key) => _ = self.templates.v4.touch(slot, key, server, lifetime, now.seconds),
            HeldKey::V6(owner, prefix) => {
                let key = self.key6(owner, prefix);
                self.templates.v6.touch(slot, key, server, lifetime, now.seconds);
            }
            HeldKey::Call(key) => _ = self.templates.v6.touch(slot, key, server, lifetime, now.seconds),
        }
    }

    /// A connection that hangs on a template is established, or its UDP was answered.
    #[cold]
    pub(super) fn assure(&self, record: Record, snapshot: &Snapshot) {
        match self.template_of(record, snapshot) {
            Some((TiedBy::V4(key), _)) => _ = self.templates.v4.assure(key, record.server()),
            Some((TiedBy::V6(key), _)) => _ = self.templates.v6.assure(key, record.server()),
            None => {}
        }
    }

    /// A connection that hangs on a template is over.
    #[cold]
    pub(super) fn detach(&self, record: Record, snapshot: &Snapshot, now: Now) {
        let (server, now) = (record.server(), now.seconds);
        match self.template_of(record, snapshot) {
            Some((TiedBy::V4(key), lifetime)) => _ = self.templates.v4.detach(key, server, lifetime, now),
            Some((TiedBy::V6(key), lifetime)) => _ = self.templates.v6.detach(key, server, lifetime, now),
            None => {}
        }
    }

    /// Allows the sweep over the templates what `passed` milliseconds are worth. One worker does it for all.
    pub(super) fn allow_template_sweep(&mut self, passed: u64) {
        let buckets = self.templates.buckets() as u64;
        let per_milli = buckets.div_ceil(TEMPLATE_ROUND_MS).max(BUCKETS_PER_MILLI_MIN);
        self.buckets_due = self.buckets_due.saturating_add(passed.saturating_mul(per_milli)).min(buckets);
    }

    /// Removes templates that are over, a few at a time.
    pub(super) fn sweep_templates(&mut self, snapshot: &Snapshot, now: Now) {
        let count = self.buckets_due.min(SWEEP_BUCKETS_MAX);
        let (from, end) = (self.swept_bucket, self.templates.buckets());
        let to = (from + count as usize).min(end);
        self.buckets_due -= (to - from) as u64;
        self.swept_bucket = if to == end { 0 } else { to };
        self.templates.sweep(from..to, now.seconds, |owner| lifetime_of(owner, snapshot));
    }

    /// The template that a connection of a virtual server that still exists hangs on, and how long that one lives.
    fn template_of(&self, record: Record, snapshot: &Snapshot) -> Option<(TiedBy, u32)> {
        let (owner, persistence) = self.owner_of_template(record, snapshot)?;
        let Owner { service, epoch } = owner;
        let (client, prefix) = (record.client(), persistence.netmask);
        let key = if client.is_of_ipv6() {
            let address = self.table.clients.address(client)?;
            TiedBy::V6(TemplateKey6::new(address, prefix, service, epoch))
        } else {
            TiedBy::V4(TemplateKey::new(client, prefix, service, epoch))
        };
        Some((key, persistence.timeout_secs))
    }

    /// Whose template a connection hangs on, by the record.
    #[inline]
    fn owner_of_template(&self, record: Record, snapshot: &Snapshot) -> Option<(Owner, Persistence)> {
        if !hangs_on_template(record, snapshot, self.shared.counters.swept.get()) {
            return None;
        }
        let service = snapshot.service(snapshot.server(record.server()).service)?;
        Some((owner(service), service.persistence?))
    }

    /// The key of the template of the client of [`Director::ends6`].
    #[cold]
    pub(super) fn key_of_client6(&self, service: &Service, persistence: Persistence) -> TemplateKey6 {
        self.key6(owner(service), persistence.netmask)
    }

    fn key6(&self, Owner { service, epoch }: Owner, prefix: u8) -> TemplateKey6 {
        TemplateKey6::new(self.ends6.source, prefix, service, epoch)
    }
}

fn held6(service: &Service, persistence: Persistence) -> HeldKey {
    HeldKey::V6(owner(service), persistence.netmask)
}

/// Whose the templates of a virtual server are.
#[inline]
pub fn owner(service: &Service) -> Owner {
    Owner { service: service.id, epoch: service.epoch.number }
}

/// As [`Director::pick_by_hash`], of a packet of IPv4.
#[inline(always)]
pub(super) fn pick_by_hash(packet: &Packet, service: &Service) -> Option<ServerId> {
    let source = (packet.source, packet.source_port);
    let destination = (packet.destination, packet.destination_port);
    let owner = service.owner(source.0.into(), source.1);
    owner.or_else(|| service.pick_untracked(FlowHash::new(source, destination, packet.protocol)))
}

/// How long a template lives after its last use; `None`: it means nothing any more.
#[inline]
pub fn lifetime_of(owner: Owner, snapshot: &Snapshot) -> Option<u32> {
    let service = snapshot.service(owner.service)?;
    let persistence = service.persistence.filter(|_| owner.epoch == service.epoch.number)?;
    Some(persistence.timeout_secs)
}

/// Whether the template that a connection hangs on, by its record, is of the present epoch. `swept` is the generation of
/// the last whole sweep over the worker's table: up to one that began in the epoch, records that say so are older.
#[inline]
pub(super) fn hangs_on_template(record: Record, snapshot: &Snapshot, swept: u64) -> bool {
    let is_settled = |service: &Service| swept >= service.epoch.since;
    swept >= snapshot.epochs_since
        || snapshot.service(snapshot.server(record.server()).service).is_none_or(is_settled)
}

#[inline]
fn template_key(client: Addr4, service: &Service, persistence: Persistence) -> TemplateKey {
    TemplateKey::new(client, persistence.netmask, service.id, service.epoch.number)
}

/// Whether a template may go on sending clients to its real server. Weight 0 and thresholds do not count, unless
/// `expire_quiescent_template` makes weight 0 count. A number that was given to another virtual server's real server
/// since does not hold.
#[inline]
pub(super) fn holds(server: &Server, service: &Service, snapshot: &Snapshot) -> bool {
    server.is_present
        && server.service == service.id
        && !(snapshot.switches.expire_quiescent_template && server.weight == 0)
}
