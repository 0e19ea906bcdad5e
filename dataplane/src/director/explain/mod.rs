//! What would become of a packet, and why: the common way once more, of which nothing is left behind.
//!
//! A question comes from control, and the worker answers it itself between two passes, so that it is answered with what
//! packets meet: the worker's own table, the state of its schedulers, its neighbours, its limits in rate. It takes the predicates
//! of the common way (`request`, `open`, `reply`, `answer` beside this) in the order of the common way, and looks
//! where that one changes: a pick is made with a copy of what picks change ([`crate::sched::Scheduler::peek`]), a template is looked
//! for and not made. A question costs a worker what a packet that opens a connection does, once a millisecond at most.
//!
//! A property (`tests/explain.rs`) asks about packets before it sends them, and holds both together.

mod ftp;
mod ipv6;
mod open;
mod questions;
mod reply;
mod reply6;
mod request;
mod sketch;
mod story;

pub use questions::{Number, Questions};
pub use story::{
    Barred, Explanation, Flow, Lapse, Outcome, Question, Replier, Segment, Step, Tie, To, Unrecorded,
};

use super::{Context, Director};
use crate::classify::{Class, LastService, Lookup, classify};
use crate::clock::Now;
use crate::limit::Asker;
use crate::neighbor::Hop;
use crate::neighbor::outlook::Outlook;
use crate::packet::Frame;
use crate::parse::{Content, Packet, parse};
use crate::snapshot::Snapshot;
use crate::stats::{Answer, DropReason};
use crate::wire::ipv4;
use crate::wire::l4::flags;
use crate::wire::sctp;
use sketch::Sketch;
use story::Story;

/// A packet that is asked about, as far as it is known.
struct Asked<'a> {
    frame: Sketch,
    packet: Packet,
    lookup: Lookup,
    context: Context<'a>,
}

impl<F: Frame> Director<F> {
    /// Answers a question of control's, if there is one.
    #[inline]
    pub(super) fn answer_questions(&mut self, snapshot: &Snapshot, now: Now) {
        if !self.shared.questions.is_empty() {
            self.answer_question(snapshot, now);
        }
    }

    #[cold]
    fn answer_question(&mut self, snapshot: &Snapshot, now: Now) {
        if let Some((number, question)) = self.shared.questions.take() {
            let explanation = self.explain(&question, snapshot, now);
            self.shared.questions.put(number, explanation);
        }
    }

    /// What would become of a packet that came in now. Changes nothing but whose packet of IPv6 is under way.
    pub(super) fn explain(&mut self, question: &Question, snapshot: &Snapshot, now: Now) -> Explanation {
        let mut story = Story::default();
        let port = question.port.min(snapshot.ports.len().saturating_sub(1));
        let context = Context { snapshot, now, port };
        let outcome = self.outcome(question, &mut story, context);
        Explanation {
            worker: self.shared.worker,
            generation: snapshot.generation,
            edition: snapshot.edition,
            steps: story.steps,
            to: story.to,
            outcome,
        }
    }

    fn outcome(&mut self, question: &Question, story: &mut Story, context: Context<'_>) -> Outcome {
        let snapshot = context.snapshot;
        let frame = Sketch::of(question, snapshot.ports[context.port].mac);
        let mut packet = Packet::default();
        match parse(&frame, &mut packet) {
            Content::Ipv4 if snapshot.is_broadcast(packet.source) => {
                return Outcome::Dropped(DropReason::BadIpHeader);
            }
            Content::Ipv4 => {}
            Content::Bad(reason) => return Outcome::Dropped(reason),
            Content::Ipv6 => return self.outcome6(frame, story, context),
            Content::Arp => return Outcome::Dropped(DropReason::BadArp),
        }
        let mut lookup = Lookup::default();
        let class = classify(&packet, snapshot, &self.table, &mut LastService::none(), &mut lookup);
        let asked = Asked { frame, packet, lookup, context };
        match class {
            Class::Request => self.explain_request(&asked, story),
            Class::Reply => self.explain_reply(&asked, asked.lookup.hash, story),
            class => self.explain_rest(&asked, class, story),
        }
    }

    /// As [`Director::answer_or_drop`].
    fn explain_rest(&self, asked: &Asked<'_>, class: Class, story: &mut Story) -> Outcome {
        let Asked { frame, packet, context, .. } = asked;
        let snapshot = context.snapshot;
        story.say(if class == Class::Local { Step::Local } else { Step::Foreign });
        if let Some(punted) = self.punted_class(frame.bytes(), packet, class, *context) {
            return match self.punt.has_limit_left(punted, context.now) {
                true => Outcome::HandedOver(punted),
                false => Outcome::Dropped(DropReason::PuntRateLimited),
            };
        }
        let local = snapshot.local(packet.destination);
        match class {
            Class::Local if self.local_client(packet.source, snapshot).is_some() => {
                Outcome::Dropped(DropReason::OwnSource)
            }
            Class::Local if local.is_some_and(|local| !local.is_accepted()) => {
                Outcome::Dropped(DropReason::NotAccepted)
            }
            Class::Local => self.explain_local(asked),
            Class::Drop(reason) => Outcome::Dropped(reason),
            _ => Outcome::Dropped(DropReason::NotServed),
        }
    }

    /// As [`Director::answer_local`].
    fn explain_local(&self, asked: &Asked<'_>) -> Outcome {
        let Packet { protocol, flags: segment, .. } = asked.packet;
        match protocol {
            ipv4::TCP if segment & flags::RST != 0 => Outcome::Dropped(DropReason::NotServed),
            ipv4::TCP if self.resets.has(asked.context.now) => Outcome::Answered(Answer::TcpReset),
            ipv4::TCP => Outcome::Dropped(DropReason::IcmpRateLimited),
            ipv4::SCTP if segment == sctp::Event::Abort as u8 => Outcome::Dropped(DropReason::NotServed),
            _ => self.explain_error(asked, Asker::Stranger, Answer::PortUnreachable),
        }
    }

    /// As [`Director::answer_error_to`].
    fn explain_error(&self, asked: &Asked<'_>, asker: Asker, answer: Answer) -> Outcome {
        let Context { snapshot, now, port } = asked.context;
        if !self.icmp_errors.has(answer, asker, now) {
            return Outcome::Dropped(DropReason::IcmpRateLimited);
        }
        let has_source = asked.packet.is_of_ipv6()
            || super::answer::speaks_for_destination(&asked.packet, snapshot)
            || snapshot.ports[port].address_towards(asked.packet.source).is_some();
        if has_source { Outcome::Answered(answer) } else { Outcome::Dropped(DropReason::NotServed) }
    }

    /// As [`Director::send`]; `known` is whether the file names the next hop, and what it binds it to.
    fn explain_hop(
        &self,
        story: &mut Story,
        hint: u32,
        hop: Hop,
        known: (bool, Option<crate::wire::ethernet::MacAddress>),
        now: Now,
    ) -> Outcome {
        let outlook = self.neighbors.outlook(hint, hop, known, now);
        story.say(Step::NextHop { hop, outlook });
        outcome_at(hop.port(), outlook)
    }
}

/// What becomes of a packet for a next hop by this port.
fn outcome_at(port: u16, outlook: Outlook) -> Outcome {
    match outlook {
        Outlook::Bound(mac) | Outlook::Reachable(mac) | Outlook::Late(mac) => {
            Outcome::Sent { port: usize::from(port), mac }
        }
        Outlook::Ask => Outcome::Waits { asks: true },
        Outlook::Asked => Outcome::Waits { asks: false },
        Outlook::Failed => Outcome::Dropped(DropReason::NeighborFailed),
        Outlook::Crowded => Outcome::Dropped(DropReason::NeighborQueueFull),
    }
}
