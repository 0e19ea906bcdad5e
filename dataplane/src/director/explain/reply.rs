//! A NAT real server's packet: whose connection it answers, and which way it goes back to the client.

use weir_config::model::Forwarding;

use super::{Asked, Flow, Outcome, Replier, Step, Story, To};
use crate::address::Addr4;
use crate::conn::extra::mapped;
use crate::conn::record::Record;
use crate::director::reply::may_be_answered;
use crate::director::send::known;
use crate::director::{Context, Director};
use crate::limit::Asker;
use crate::neighbor::Hop;
use crate::packet::Frame;
use crate::parse::Packet;
use crate::stats::{Answer, DropReason};
use crate::wire::ipv4;
use crate::wire::l4::flags;
use crate::wire::sctp;

impl<F: Frame> Director<F> {
    /// As [`Director::reply`]. `hash` is that of its connection.
    pub(super) fn explain_reply(&self, asked: &Asked<'_>, hash: u64, story: &mut Story) -> Outcome {
        let Asked { packet, context, .. } = asked;
        story.say(Step::FromServer);
        let found = self.find_answered(packet, hash, *context).or_else(|| {
            if !context.snapshot.has_both_hashes {
                return None;
            }
            let [_, other] = self.hashes_of(packet, *context)?;
            self.find_answered(packet, other, *context)
        });
        match found {
            Some((worker, record)) => {
                let lifetime = context.snapshot.lifetimes.of(record.protocol(), record.state());
                story.say(Step::Record { record, worker, age: record.age(context.now.seconds), lifetime });
                self.explain_return(asked, record, story)
            }
            None => self.explain_stray(asked, hash, story),
        }
    }

    /// As [`Director::find_reply_to_marked`] and [`Director::reply_to_marked`].
    pub(super) fn explain_marked_reply(&self, asked: &Asked<'_>, story: &mut Story) -> Option<Outcome> {
        if asked.packet.is_of_ipv6() {
            return self.explain_marked_reply6(asked, story);
        }
        let hashes = self.hashes_of(&asked.packet, asked.context)?;
        let found =
            hashes.into_iter().find_map(|hash| self.find_answered(&asked.packet, hash, asked.context));
        let Some((worker, record)) = found else {
            if !self.is_stray_reply_to_marked(&asked.packet, asked.context) {
                return None;
            }
            story.say(Step::FromServer);
            let [hash, _] = hashes;
            return Some(self.explain_stray(asked, hash, story));
        };
        story.say(Step::FromServer);
        self.tell_record(record, worker, asked.context, story);
        Some(self.explain_return(asked, record, story))
    }

    fn hashes_of(&self, packet: &Packet, context: Context<'_>) -> Option<[u64; 2]> {
        let socket = (packet.source, packet.source_port, packet.protocol);
        self.reply_hashes(socket, (packet.destination, packet.destination_port), context.snapshot)
    }

    /// The connection that [`Director::follow_reply`] finds, with the worker that has it.
    fn find_answered(&self, packet: &Packet, hash: u64, context: Context<'_>) -> Option<(usize, Record)> {
        let snapshot = context.snapshot;
        let is_its = |record: Record| {
            let server = snapshot.server(record.server());
            record.protocol().number() == packet.protocol
                && server.replies_from(packet.source, packet.source_port, record.port())
                && server.forwarding == Forwarding::Nat
        };
        let client = (packet.destination, packet.destination_port);
        let own = self.table.find_reply(hash, client.0, client.1, is_its).map(|(_, record)| record);
        if !own.is_some_and(|record| may_be_answered(packet, record)) {
            let is_awaited = |record| is_its(record) && may_be_answered(packet, record);
            let elsewhere = self.find_in_views(hash, client, is_awaited);
            if elsewhere.is_some() || own.is_none() {
                return elsewhere.or_else(|| self.find_in_views(hash, client, is_its));
            }
        }
        Some((self.shared.worker, own?))
    }

    /// As [`Director::reply_of`].
    fn explain_return(&self, asked: &Asked<'_>, record: Record, story: &mut Story) -> Outcome {
        let Some(vip) = asked.context.snapshot.vips.address(record.vip()) else {
            return Outcome::Dropped(DropReason::StrayReply);
        };
        story.to = Some(To::Client(Replier::Server(record.server()), Flow::Known));
        self.explain_way_back(asked, (vip, record.port()), Asker::Known, story)
    }

    /// As `way_back` and [`Director::return_to_client`].
    fn explain_way_back(
        &self,
        asked: &Asked<'_>,
        (vip, port): (Addr4, u16),
        asker: Asker,
        story: &mut Story,
    ) -> Outcome {
        let Asked { packet, context, .. } = asked;
        let snapshot = context.snapshot;
        story.say(Step::Returned(vip, port));
        let Some(next_hop) = snapshot.routes.next_hop(packet.destination) else {
            story.say(Step::NoRoute);
            return Outcome::Dropped(DropReason::NoRoute);
        };
        let mtu = snapshot.ports[next_hop.port].mtu;
        if packet.total_len > mtu {
            story.say(Step::TooBig { mtu, is_cut: false });
            return self.explain_error(asked, asker, Answer::FragmentationNeeded);
        }
        let hop = Hop::new(next_hop, 0);
        self.explain_hop(story, self.reply_hint.get(), hop, known(hop, *context), context.now)
    }

    /// As [`Director::stray_reply`].
    fn explain_stray(&self, asked: &Asked<'_>, hash: u64, story: &mut Story) -> Outcome {
        let Asked { packet, context, .. } = asked;
        let Context { snapshot, now, .. } = *context;
        let (address, port, protocol) = (packet.source, packet.source_port, packet.protocol);
        let told = self.foretold_to(packet, (address.into(), packet.destination.into()), *context);
        if let Ok(Some((_, record))) = told {
            story.say(Step::Foretold(record.server()));
            return self.explain_return(asked, record, story);
        }
        story.say(Step::NoRecord);
        let may_pass = |one_packet| {
            (one_packet || self.may_answer_untracked(hash, now)) && snapshot.may_be_host(packet.destination)
        };
        let ends = (mapped(address.into()), mapped(packet.destination.into()));
        if let Some((expected, server)) = self.active_data(packet, ends, *context)
            && self.has_room_without(hash, None)
        {
            story.say(Step::Announced(server.id));
            story.to = Some(To::Client(Replier::Server(server.id), Flow::New));
            return self.explain_way_back(asked, (expected.vip, port), Asker::Known, story);
        }
        let origin = snapshot.origin(address, port, protocol);
        if let Some(origin) = origin.filter(|origin| may_pass(origin.may_be_without_record())) {
            let flow = if origin.may_be_without_record() { Flow::OnePacket } else { Flow::Untracked };
            story.to = Some(To::Client(Replier::Origin, flow));
            return self.explain_way_back(asked, (origin.vip, origin.port), Asker::Stranger, story);
        }
        let is_reset = match protocol {
            ipv4::TCP => packet.flags & flags::RST != 0,
            ipv4::SCTP => packet.flags == sctp::Event::Abort as u8,
            _ => false,
        };
        let is_real_server = snapshot.has_nat_server(address, port, protocol);
        if snapshot.switches.nat_icmp_send && is_real_server && !is_reset {
            return self.explain_error(asked, Asker::Stranger, Answer::PortUnreachable);
        }
        Outcome::Dropped(DropReason::StrayReply)
    }
}
