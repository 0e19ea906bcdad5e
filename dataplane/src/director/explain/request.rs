//! A client's packet: whether it belongs to a connection, and which way it goes to its real server.

use weir_config::model::{Forwarding, Protocol};

use super::{Asked, Barred, Flow, Lapse, Outcome, Step, Story, To, Unrecorded, outcome_at};
use crate::classify::{Class, Lookup, classify_unasked};
use crate::conn::record::{Record, ServerId};
use crate::director::ipv6::{is_cut, leaves_its_link};
use crate::director::request::{Course, course, may_open};
use crate::director::untracked::{leaves_room, may_go_on_untracked};
use crate::director::{Context, Director};
use crate::limit::Asker;
use crate::packet::Frame;
use crate::snapshot::helped::FTP_DATA;
use crate::snapshot::server::Server;
use crate::snapshot::service::Service;
use crate::stats::{Answer, DropReason};
use crate::wire::ipv4;
use crate::wire::l4::flags;

impl<F: Frame> Director<F> {
    /// As [`Director::request`].
    pub(super) fn explain_request(&self, asked: &Asked<'_>, story: &mut Story) -> Outcome {
        let Asked { packet, lookup, context, .. } = asked;
        let Context { snapshot, now, .. } = *context;
        story.say(match snapshot.service(lookup.service) {
            Some(service) => Step::Asks(service.id),
            None if lookup.key.is_helped() => Step::MayBeData,
            None => Step::Unmarked,
        });
        let found = self.table.find(lookup.hash, lookup.key);
        let mut ended = None;
        let found = found.or_else(|| self.find_hashed_otherwise(lookup, snapshot));
        if let Some((_, record)) = found.or_else(|| self.find_by_shared_number(packet, lookup, snapshot)) {
            self.tell_record(record, self.shared.worker, *context, story);
            match course(packet, record, snapshot, now) {
                Course::GoesOn(server) => {
                    return self.explain_forward(asked, server, Flow::Known, story);
                }
                Course::ServerRemoved => {
                    story.say(Step::Lapsed(Lapse::ServerRemoved));
                    return Outcome::Dropped(DropReason::RealServerRemoved);
                }
                Course::Over => {
                    story.say(Step::Lapsed(lapse(record, *context)));
                    ended = Some(record);
                }
            }
        }
        if ended.is_none()
            && packet.protocol == ipv4::TCP
            && packet.flags & flags::SYN == 0
            && let Some((_, record)) = self.find_helped_otherwise(lookup)
            && let Course::GoesOn(server) = course(packet, record, snapshot, now)
        {
            self.tell_record(record, self.shared.worker, *context, story);
            return self.explain_forward(asked, server, Flow::Known, story);
        }
        self.explain_new(asked, ended, story)
    }

    pub(super) fn tell_record(&self, record: Record, worker: usize, context: Context<'_>, story: &mut Story) {
        let lifetime = context.snapshot.lifetimes.of(record.protocol(), record.state());
        story.say(Step::Record { record, worker, age: record.age(context.now.seconds), lifetime });
    }

    /// As [`Director::new_connection`]. `ended` is the connection whose place it takes.
    fn explain_new(&self, asked: &Asked<'_>, ended: Option<Record>, story: &mut Story) -> Outcome {
        let Asked { packet, lookup, context, .. } = asked;
        let Context { snapshot, now, .. } = *context;
        let protocol = lookup.key.protocol();
        if self.local_client(packet.source, snapshot).is_some() {
            story.say(Step::OwnSource);
            return Outcome::Dropped(DropReason::OwnSource);
        }
        let (outcome, is_elsewhere) = self.explain_elsewhere(asked, story);
        if let Some(outcome) = outcome {
            return outcome;
        }
        if let Ok(Some((_, record))) = self.foretold_of(packet, lookup, *context)
            && let Course::GoesOn(server) = course(packet, record, snapshot, now)
        {
            story.say(Step::Foretold(server.id));
            return self.explain_forward(asked, server, Flow::Known, story);
        }
        let Some(service) = snapshot.service(lookup.service) else {
            return match lookup.key.is_helped() {
                true => self.explain_data(asked, (ended, is_elsewhere), story),
                false => self.explain_unasked(asked, story),
            };
        };
        if service.mark.is_some()
            && let Some(outcome) = self.explain_marked_reply(asked, story)
        {
            return outcome;
        }
        if service.mark.is_some() && packet.source == packet.destination {
            story.say(Step::OwnSource);
            return Outcome::Dropped(DropReason::OwnSource);
        }
        if !is_elsewhere && ended.is_none() {
            story.say(Step::NoRecord);
        }
        let may_be_elsewhere =
            self.may_be_moving(packet, now) && !(service.one_packet && protocol == Protocol::Udp);
        if !may_open(packet, protocol, snapshot) {
            let freed = usize::from(ended.is_some());
            let may_go_on =
                may_go_on_untracked(packet, protocol) && self.may_be_untracked_without(asked, ended, now);
            let gets_record = leaves_room(self.table.len() - freed, self.table.capacity())
                && self.leaves_room_for_client(packet)
                && self.may_get_record_late(packet, protocol, now);
            if !(may_go_on && gets_record) {
                return self.explain_barred(asked, service, may_go_on, story);
            }
        }
        if may_be_elsewhere && self.is_crowded_anywhere_without(asked, ended) {
            story.say(Step::Unrecorded(Unrecorded::CrowdedElsewhere));
            let server = self.explain_untracked_after_choice(asked, service, ended, story);
            return self.explain_untracked(asked, server, story);
        }
        let opener = self.opener_of(packet, protocol, may_be_elsewhere, now);
        self.explain_open(asked, service, (opener, ended), story)
    }

    /// As [`Director::explain_course_elsewhere`], where flows move.
    fn explain_elsewhere(&self, asked: &Asked<'_>, story: &mut Story) -> (Option<Outcome>, bool) {
        match self.may_be_moving(&asked.packet, asked.context.now) {
            true => self.explain_course_elsewhere(asked, story),
            false => (None, false),
        }
    }

    /// As [`Director::course_elsewhere`], and whether there is a connection elsewhere, which may be over.
    pub(super) fn explain_course_elsewhere(
        &self,
        asked: &Asked<'_>,
        story: &mut Story,
    ) -> (Option<Outcome>, bool) {
        let Asked { packet, lookup, context, .. } = asked;
        let Context { snapshot, now, .. } = *context;
        let Some((owner, record)) = self.find_request_elsewhere(packet, lookup, snapshot) else {
            return (None, false);
        };
        self.tell_record(record, owner, *context, story);
        let outcome = match course(packet, record, snapshot, now) {
            Course::GoesOn(server) => Some(self.explain_forward(asked, server, Flow::Known, story)),
            Course::ServerRemoved => {
                story.say(Step::Lapsed(Lapse::ServerRemoved));
                Some(Outcome::Dropped(DropReason::RealServerRemoved))
            }
            Course::Over => {
                story.say(Step::Lapsed(lapse(record, *context)));
                None
            }
        };
        (outcome, true)
    }

    /// A packet that may open no connection, and gets no record.
    fn explain_barred(
        &self,
        asked: &Asked<'_>,
        service: &Service,
        may_go_on: bool,
        story: &mut Story,
    ) -> Outcome {
        let is_from_ftp = asked.packet.source_port == FTP_DATA;
        if may_go_on {
            story.say(Step::Unrecorded(Unrecorded::TurnedAway));
            let server = self.peek_untracked(asked, service, story);
            return self.explain_untracked(asked, server, story);
        }
        story.say(Step::Barred(if is_from_ftp { Barred::FtpData } else { Barred::Segment }));
        self.explain_local(asked)
    }

    /// As [`Director::unasked`].
    pub(super) fn explain_unasked(&self, asked: &Asked<'_>, story: &mut Story) -> Outcome {
        if asked.packet.is_of_ipv6() {
            return self.explain_unasked6(asked, story);
        }
        let mut lookup = Lookup::default();
        match classify_unasked(&asked.packet, asked.context.snapshot, &self.table, &mut lookup) {
            Class::Reply => self.explain_reply(asked, lookup.hash, story),
            class => self.explain_rest(asked, class, story),
        }
    }

    /// As [`Director::forward_untracked`].
    pub(super) fn explain_untracked(
        &self,
        asked: &Asked<'_>,
        server: Option<ServerId>,
        story: &mut Story,
    ) -> Outcome {
        match server {
            Some(server) => {
                let server = asked.context.snapshot.server(server);
                self.explain_forward(asked, server, Flow::Untracked, story)
            }
            None => self.explain_error(asked, Asker::Stranger, Answer::PortUnreachable),
        }
    }

    /// As [`Director::forward_of`].
    pub(super) fn explain_forward(
        &self,
        asked: &Asked<'_>,
        server: &Server,
        flow: Flow,
        story: &mut Story,
    ) -> Outcome {
        let Asked { packet, context, .. } = asked;
        story.to = Some(To::Server(server.id, flow));
        story.say(Step::Forwarded(server.id));
        if server.exit().is_none() {
            story.say(Step::NoRoute);
            return Outcome::Dropped(DropReason::NoRoute);
        }
        if packet.is_of_ipv6() && leaves_its_link(self.ends6.source, server, context.port) {
            return Outcome::Dropped(DropReason::LinkLocal);
        }
        if packet.total_len > server.mtu {
            let is_cut = match packet.is_of_ipv6() {
                true => is_cut(packet, server),
                false => server.forwarding == Forwarding::Tun && !context.snapshot.switches.pmtu_disc,
            };
            story.say(Step::TooBig { mtu: server.mtu, is_cut });
            if !is_cut {
                let asker = if flow == Flow::Known { Asker::Known } else { Asker::Stranger };
                return self.explain_error(asked, asker, Answer::FragmentationNeeded);
            }
        }
        let hint = server.tallies[self.shared.worker].neighbor.get();
        match server.far.as_deref().and_then(|far| Some((far.way?.hop, far.bound))) {
            Some((hop, bound)) => {
                let outlook = self.neighbors6.outlook(hint, hop, (true, bound), context.now);
                story.say(Step::NextHop6 { hop, outlook });
                outcome_at(hop.port(), outlook)
            }
            None => self.explain_hop(story, hint, server.hop, (true, server.bound), context.now),
        }
    }
}

/// Why a connection is over, or begins anew with a packet, that does not go on.
fn lapse(record: Record, Context { snapshot, now, .. }: Context<'_>) -> Lapse {
    let age = record.age(now.seconds);
    if age > snapshot.lifetimes.of(record.protocol(), record.state()) {
        Lapse::Expired
    } else if !snapshot.server(record.server()).is_present {
        Lapse::Rescheduled
    } else {
        Lapse::Reused
    }
}
