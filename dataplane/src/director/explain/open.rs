//! A packet that may open a connection: the real server that would take it, and whether there is room for its record.

use std::sync::atomic::Ordering::Relaxed;

use weir_config::model::Protocol;

use super::{Asked, Flow, Outcome, Step, Story, Tie, Unrecorded};
use crate::address::Addr4;
use crate::clock::Now;
use crate::conn::record::{Record, ServerId};
use crate::conn::state;
use crate::conn::template::{Found, Template, TemplateKey, TemplateKey6};
use crate::director::open::Opener;
use crate::director::persist::{holds, lifetime_of, owner};
use crate::director::{Context, Director};
use crate::limit::Asker;
use crate::packet::Frame;
use crate::parse::Packet;
use crate::snapshot::service::{Persistence, Service};
use crate::stats::Answer;

/// What a new connection would be told to do.
struct Chosen {
    server: ServerId,
    /// Its client is tied to that one, or is going to be.
    is_tied: bool,
}

impl<F: Frame> Director<F> {
    /// As [`Director::open`], and what comes of it. `ended` is the connection whose place it takes.
    pub(super) fn explain_open(
        &self,
        asked: &Asked<'_>,
        service: &Service,
        (opener, ended): (Opener, Option<Record>),
        story: &mut Story,
    ) -> Outcome {
        let Asked { packet, lookup, context, .. } = asked;
        let Context { snapshot, now, .. } = *context;
        let protocol = lookup.key.protocol();
        let is_one_packet = service.one_packet && protocol == Protocol::Udp;
        if is_one_packet {
            story.say(Step::OnePacket);
        }
        let may_go_on = !is_one_packet && !state::is_first(protocol, packet.flags);
        let goes_on = opener == Opener::Untracked
            || may_go_on && self.shared.turned_away.has(self.turned_by(packet, lookup), now);
        let chosen = if goes_on {
            story.say(Step::Unrecorded(Unrecorded::TurnedAway));
            self.peek_untracked(asked, service, story).map(|server| Chosen { server, is_tied: false })
        } else {
            self.peek_choice(asked, service, ended, story)
        };
        let chosen = match chosen {
            Some(chosen) if opener == Opener::Anywhere && !goes_on && !chosen.is_tied => {
                let server = self.by_ends(packet, service);
                story.say(Step::Unrecorded(Unrecorded::FullElsewhere));
                story.say(Step::ByEnds(server));
                server.map(|server| Chosen { server, is_tied: false })
            }
            chosen => chosen,
        };
        let Some(chosen) = chosen else {
            return self.explain_error(asked, Asker::Stranger, Answer::PortUnreachable);
        };
        let server = snapshot.server(chosen.server);
        if is_one_packet {
            return self.explain_forward(asked, server, Flow::OnePacket, story);
        }
        let freed = usize::from(ended.is_some());
        let no_room = if self.table.len() - freed >= self.table.capacity() {
            Some(Unrecorded::TableFull)
        } else if packet.source == Addr4::STRANGER6 {
            Some(Unrecorded::ClientsFull)
        } else if self.is_crowded_without(lookup.hash, ended) {
            Some(Unrecorded::ChainFull)
        } else {
            None
        };
        let Some(no_room) = no_room else {
            return self.explain_forward(asked, server, Flow::New, story);
        };
        story.say(Step::Unrecorded(no_room));
        let server = if chosen.is_tied || goes_on {
            Some(chosen.server)
        } else {
            let by_ends = self.by_ends(packet, service);
            story.say(Step::ByEnds(by_ends));
            by_ends
        };
        self.explain_untracked(asked, server, story)
    }

    /// As [`Director::choose`], which ties the client, and [`Director::pick_untracked`] after it.
    pub(super) fn explain_untracked_after_choice(
        &self,
        asked: &Asked<'_>,
        service: &Service,
        ended: Option<Record>,
        story: &mut Story,
    ) -> Option<ServerId> {
        if service.persistence.is_some()
            && let Some(chosen) = self.peek_choice(asked, service, ended, story)
            && chosen.is_tied
        {
            return Some(asked.context.snapshot.server(chosen.server).current);
        }
        let by_ends = self.by_ends(&asked.packet, service);
        story.say(Step::ByEnds(by_ends));
        by_ends
    }

    /// As [`Director::choose`].
    fn peek_choice(
        &self,
        asked: &Asked<'_>,
        service: &Service,
        ended: Option<Record>,
        story: &mut Story,
    ) -> Option<Chosen> {
        let Asked { packet, context, .. } = asked;
        let Context { snapshot, now, .. } = *context;
        let pick = |story: &mut Story| {
            let key = match packet.is_of_ipv6() {
                true => self.pick_key6(packet, now),
                false => crate::director::open::pick_key(packet, now),
            };
            let peeked = service.peek(snapshot, self.shared.worker, &key, ended)?;
            story.say(Step::Picked(peeked));
            peeked.picked
        };
        let Some(persistence) = service.persistence else {
            return Some(Chosen { server: pick(story)?, is_tied: false });
        };
        if persistence.engine.is_some() {
            story.say(Step::Tie(Tie::ByCall));
            return Some(Chosen { server: pick(story)?, is_tied: true });
        }
        let found = self.peek_template(asked, service, persistence);
        if let Some(found) = found {
            let known = snapshot.server(found.server);
            if holds(known, service, snapshot) {
                story.say(Step::Tie(Tie::Holds(known.current)));
                return Some(Chosen { server: known.current, is_tied: true });
            }
            story.say(Step::Tie(Tie::Broken(found.server)));
            return Some(Chosen { server: pick(story)?, is_tied: true });
        }
        let server = pick(story)?;
        let is_tied = self.has_room_for_template(asked, service, persistence);
        story.say(Step::Tie(if is_tied { Tie::Made } else { Tie::NoRoom }));
        Some(Chosen { server, is_tied })
    }

    /// The template of a packet's client.
    fn peek_template(&self, asked: &Asked<'_>, service: &Service, persistence: Persistence) -> Option<Found> {
        let (lifetime, now) = (persistence.timeout_secs, asked.context.now.seconds);
        match asked.packet.is_of_ipv6() {
            true => self.templates.v6.find(self.key_of_client6(service, persistence), lifetime, now),
            false => self.templates.v4.find(key4(asked, service, persistence), lifetime, now),
        }
    }

    /// Whether there is room for one.
    fn has_room_for_template(&self, asked: &Asked<'_>, service: &Service, persistence: Persistence) -> bool {
        let Context { snapshot, now, .. } = asked.context;
        match asked.packet.is_of_ipv6() {
            true => {
                let lifetime_of = |it: Template<TemplateKey6>| lifetime_of(it.owner(), snapshot);
                self.templates.v6.has_room(
                    self.key_of_client6(service, persistence),
                    now.seconds,
                    lifetime_of,
                )
            }
            false => {
                let lifetime_of = |it: Template<TemplateKey>| lifetime_of(it.owner(), snapshot);
                self.templates.v4.has_room(key4(asked, service, persistence), now.seconds, lifetime_of)
            }
        }
    }

    /// As [`Director::pick_untracked`].
    pub(super) fn peek_untracked(
        &self,
        asked: &Asked<'_>,
        service: &Service,
        story: &mut Story,
    ) -> Option<ServerId> {
        let Asked { packet, context, .. } = asked;
        let snapshot = context.snapshot;
        if let Some(persistence) = service.persistence.filter(|it| it.engine.is_none()) {
            let found = self.peek_template(asked, service, persistence);
            if let Some(found) = found.filter(|found| holds(snapshot.server(found.server), service, snapshot))
            {
                let server = snapshot.server(found.server).current;
                story.say(Step::Tie(Tie::Holds(server)));
                return Some(server);
            }
        }
        let by_ends = self.by_ends(packet, service);
        story.say(Step::ByEnds(by_ends));
        by_ends
    }

    /// As [`Director::pick_by_hash`], which is compiled into those that packets take.
    #[cold]
    #[inline(never)]
    fn by_ends(&self, packet: &Packet, service: &Service) -> Option<ServerId> {
        self.pick_by_hash(packet, service)
    }

    /// Whether a connection would find room, once `ended` is gone.
    pub(super) fn has_room_without(&self, hash: u64, ended: Option<Record>) -> bool {
        self.table.len() - usize::from(ended.is_some()) < self.table.capacity()
            && !self.is_crowded_without(hash, ended)
    }

    /// Whether a connection would find no room where its hash puts it, once `ended` is gone.
    fn is_crowded_without(&self, hash: u64, ended: Option<Record>) -> bool {
        !self.frees_a_place(hash, ended) && self.table.is_crowded(hash)
    }

    /// As [`Director::is_crowded_anywhere`], once `ended` is gone from the own table.
    pub(super) fn is_crowded_anywhere_without(&self, asked: &Asked<'_>, ended: Option<Record>) -> bool {
        let Asked { packet, lookup, .. } = asked;
        let frees = self.frees_a_place(lookup.hash, ended);
        let mut workers = 0..self.views.len();
        workers.any(|worker| {
            !(frees && worker == self.shared.worker) && self.is_crowded_with(worker, packet, lookup)
        })
    }

    /// As [`Director::may_be_untracked`], once `ended` is gone.
    pub(super) fn may_be_untracked_without(
        &self,
        asked: &Asked<'_>,
        ended: Option<Record>,
        now: Now,
    ) -> bool {
        let hash = asked.lookup.hash;
        if asked.packet.is_of_ipv6() && self.is_under_suspicion6(now) {
            return true;
        }
        let (until, is_crowded) = match self.may_be_moving(&asked.packet, now) {
            true => {
                (self.shared.untracked_until.load(Relaxed), self.is_crowded_anywhere_without(asked, ended))
            }
            false => (self.untracked_until, self.is_crowded_without(hash, ended)),
        };
        let turned_by = self.turned_by(&asked.packet, &asked.lookup);
        now.seconds < until || is_crowded || self.shared.turned_away.has(turned_by, now)
    }

    fn frees_a_place(&self, hash: u64, ended: Option<Record>) -> bool {
        ended.is_some_and(|record| self.table.hash(record.lookup_key().hash_input()) == hash)
    }
}

fn key4(asked: &Asked<'_>, service: &Service, persistence: Persistence) -> TemplateKey {
    let owner = owner(service);
    TemplateKey::new(asked.packet.source, persistence.netmask, owner.service, owner.epoch)
}
