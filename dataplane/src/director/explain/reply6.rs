//! As `reply`, of IPv6.

use std::net::Ipv6Addr;

use super::{Asked, Flow, Outcome, Replier, Sketch, Step, Story, To, outcome_at};
use crate::address::Addr4;
use crate::classify::{Class, Lookup};
use crate::conn::record::{Record, reply_hash_input};
use crate::director::reply::is_reset;
use crate::director::reply6::{Pair6, Place};
use crate::director::{Context, Director, Step as Round};
use crate::limit::Asker;
use crate::packet::Frame;
use crate::parse::Packet;
use crate::parse::v6::{Ends6, may_be_source};
use crate::stats::{Answer, DropReason};
use crate::wire::ipv6::MTU_MIN;

impl<F: Frame> Director<F> {
    /// As [`Director::read_back6`]. `None`: it is no NAT real server's packet.
    pub(super) fn explain_back6(
        &self,
        frame: &Sketch,
        ends: Ends6,
        story: &mut Story,
        context: Context<'_>,
    ) -> Option<Outcome> {
        let mut packet = Packet::default();
        let read = self.read_back6(frame, &mut packet, ends, context)?;
        let Round::Ipv6(Class::Reply) = read else { return None };
        let asked = Asked { frame: frame.clone(), packet, lookup: Lookup::default(), context };
        Some(self.explain_reply6(&asked, ends, story))
    }

    /// As [`Director::unasked6`].
    pub(super) fn explain_unasked6(&self, asked: &Asked<'_>, story: &mut Story) -> Outcome {
        let Asked { frame, packet, context, .. } = asked;
        if context.snapshot.local(packet.destination).is_some() {
            return self.explain_rest(asked, Class::Local, story);
        }
        match self.reply_to6(packet, context.snapshot) {
            Some(ends) => self.explain_reply6(asked, ends, story),
            None => self.explain_others6(frame, self.ends6.destination, story, *context),
        }
    }

    /// As [`Director::find_reply_to_marked6`] and what follows.
    pub(super) fn explain_marked_reply6(&self, asked: &Asked<'_>, story: &mut Story) -> Option<Outcome> {
        let pair = Pair6::of(&asked.packet, self.reply_to6(&asked.packet, asked.context.snapshot)?);
        let found = self.find_reply6(asked, &pair);
        if found.is_none() && !self.is_stray_reply_to_marked(&asked.packet, asked.context) {
            return None;
        }
        story.say(Step::FromServer);
        Some(match found {
            Some(found) => self.explain_return6(asked, &pair, found, story),
            None => self.explain_stray6(asked, &pair, story),
        })
    }

    /// As [`Director::reply6`].
    fn explain_reply6(&self, asked: &Asked<'_>, ends: Ends6, story: &mut Story) -> Outcome {
        let pair = Pair6::of(&asked.packet, ends);
        story.say(Step::FromServer);
        match self.find_reply6(asked, &pair) {
            Some(found) => self.explain_return6(asked, &pair, found, story),
            None => self.explain_stray6(asked, &pair, story),
        }
    }

    fn find_reply6(&self, asked: &Asked<'_>, pair: &Pair6) -> Option<(Place, Record)> {
        let snapshot = asked.context.snapshot;
        pair.kinds(snapshot).find_map(|kind| self.find_answered6(&asked.packet, pair, kind, snapshot))
    }

    /// As [`Director::reply_of6`].
    fn explain_return6(
        &self,
        asked: &Asked<'_>,
        pair: &Pair6,
        (place, record): (Place, Record),
        story: &mut Story,
    ) -> Outcome {
        let worker = match place {
            Place::Here(_) => self.shared.worker,
            Place::There(worker) => worker,
        };
        self.tell_record(record, worker, asked.context, story);
        let Some(vip) = asked.context.snapshot.vips.address(record.vip()) else {
            return Outcome::Dropped(DropReason::StrayReply);
        };
        story.to = Some(To::Client(Replier::Server(record.server()), Flow::Known));
        self.explain_way_back6(asked, (vip, record.port()), (pair.client, Asker::Known), story)
    }

    /// As `way_back6` and [`Director::return_to_client6`].
    fn explain_way_back6(
        &self,
        asked: &Asked<'_>,
        (vip, port): (Addr4, u16),
        (client, asker): (Ipv6Addr, Asker),
        story: &mut Story,
    ) -> Outcome {
        let Asked { packet, context, .. } = asked;
        let snapshot = context.snapshot;
        story.say(Step::Returned(vip, port));
        let Some(hop) = snapshot.routes.back6(client, context.port) else {
            story.say(Step::NoRoute);
            return Outcome::Dropped(DropReason::NoRoute);
        };
        let mtu = snapshot.ports[usize::from(hop.port())].mtu;
        if packet.total_len > mtu {
            story.say(Step::TooBig { mtu: mtu.max(MTU_MIN), is_cut: false });
            return self.explain_error(asked, asker, Answer::FragmentationNeeded);
        }
        let known = (snapshot.routes.has_gateway6(hop), snapshot.binding6(hop));
        let outlook = self.neighbors6.outlook(self.reply_hint6.get(), hop, known, context.now);
        story.say(Step::NextHop6 { hop, outlook });
        outcome_at(hop.port(), outlook)
    }

    /// As [`Director::stray_reply6`].
    fn explain_stray6(&self, asked: &Asked<'_>, pair: &Pair6, story: &mut Story) -> Outcome {
        let Asked { packet, context, .. } = asked;
        let Context { snapshot, now, .. } = *context;
        let &Pair6 { server, server_port, protocol, client, .. } = pair;
        if let Ok(Some((_, record))) = self.foretold_to(packet, (server.into(), client.into()), *context) {
            story.say(Step::Foretold(record.server()));
            let Some(vip) = snapshot.vips.address(record.vip()) else {
                return Outcome::Dropped(DropReason::StrayReply);
            };
            story.to = Some(To::Client(Replier::Server(record.server()), Flow::Known));
            return self.explain_way_back6(asked, (vip, record.port()), (client, Asker::Known), story);
        }
        story.say(Step::NoRecord);
        let may_pass = |one_packet: bool| {
            (one_packet || self.may_answer_untracked6(pair, snapshot, now)) && may_be_source(client)
        };
        if let Some((expected, it)) = self.active_data(packet, (server, client), *context) {
            let number = self.table.clients.peek(client);
            let hash = self.table.hash(reply_hash_input(number, packet.destination_port, None));
            if number != Addr4::STRANGER6 && self.has_room_without(hash, None) {
                story.say(Step::Announced(it.id));
                story.to = Some(To::Client(Replier::Server(it.id), Flow::New));
                return self.explain_way_back6(
                    asked,
                    (expected.vip, server_port),
                    (client, Asker::Known),
                    story,
                );
            }
        }
        let origin = snapshot.origin6(server, server_port, protocol);
        if let Some(origin) = origin.filter(|origin| may_pass(origin.may_be_without_record())) {
            let flow = if origin.may_be_without_record() { Flow::OnePacket } else { Flow::Untracked };
            story.to = Some(To::Client(Replier::Origin, flow));
            return self.explain_way_back6(
                asked,
                (origin.vip, origin.port),
                (client, Asker::Stranger),
                story,
            );
        }
        let is_real_server = snapshot.has_nat_server6(server, server_port, protocol);
        if snapshot.switches.nat_icmp_send && is_real_server && !is_reset(packet) {
            return self.explain_error(asked, Asker::Stranger, Answer::PortUnreachable);
        }
        Outcome::Dropped(DropReason::StrayReply)
    }
}
