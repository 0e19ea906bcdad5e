//! A packet of IPv6: whose it is. From there on it goes as any other.

use super::{Asked, Outcome, Sketch, Step, Story};
use crate::classify::{Class, Lookup};
use crate::director::ipv6::number_of_vip6;
use crate::director::{Context, Director};
use crate::packet::Frame;
use crate::parse::Packet;
use crate::parse::v6::{self, Ends6};
use crate::snapshot::Ends;
use crate::stats::DropReason;
use crate::wire::ethernet::Vlan;

impl<F: Frame> Director<F> {
    /// As [`Director::read_ipv6`] and [`Director::take_ipv6`].
    pub(super) fn outcome6(&mut self, frame: Sketch, story: &mut Story, context: Context<'_>) -> Outcome {
        let snapshot = context.snapshot;
        let vlan = Vlan::NONE;
        let ends = match v6::ends(frame.bytes(), vlan.header_len()) {
            Ok(ends) => ends,
            Err(reason) => return Outcome::Dropped(reason),
        };
        if !(snapshot.serves_ipv6() && snapshot.is_vip6(ends.destination)) {
            let is_own =
                snapshot.number6(ends.destination).is_some_and(|number| snapshot.local(number).is_some());
            return match is_own {
                true => self.explain_own6(frame, ends, story, context),
                false => self.explain_back_or_others6(&frame, ends, story, context),
            };
        }
        let mut packet = match v6::parse(frame.bytes(), frame.len(), vlan) {
            Ok(packet) => packet,
            Err(reason) => return Outcome::Dropped(reason),
        };
        if ends.source == ends.destination {
            story.say(Step::OwnSource);
            return Outcome::Dropped(DropReason::OwnSource);
        }
        self.ends6 = ends;
        packet.source = self.table.clients.peek(ends.source);
        packet.destination = number_of_vip6(ends.destination, snapshot);
        let asks = Ends {
            source: packet.source,
            destination: packet.destination,
            destination_port: packet.destination_port,
            protocol: packet.protocol,
        };
        match self.lookup(&asks, packet.source_port, snapshot) {
            Some(lookup) => self.explain_request(&Asked { frame, packet, lookup, context }, story),
            None if snapshot.local(packet.destination).is_some() => {
                let asked = Asked { frame, packet, lookup: Lookup::default(), context };
                self.explain_rest(&asked, Class::Local, story)
            }
            None => self.explain_back_or_others6(&frame, ends, story, context),
        }
    }

    /// As [`Director::read_own6`].
    fn explain_own6(
        &mut self,
        frame: Sketch,
        ends: Ends6,
        story: &mut Story,
        context: Context<'_>,
    ) -> Outcome {
        let mut reading = Packet::default();
        match self.read_own6(&frame, &mut reading, ends, context) {
            Some(_) => {
                self.ends6 = ends;
                let packet = Packet { source: self.table.clients.peek(ends.source), ..reading };
                self.explain_rest(
                    &Asked { frame, packet, lookup: Lookup::default(), context },
                    Class::Local,
                    story,
                )
            }
            None => self.explain_others6(&frame, ends.destination, story, context),
        }
    }

    fn explain_back_or_others6(
        &self,
        frame: &Sketch,
        ends: Ends6,
        story: &mut Story,
        context: Context<'_>,
    ) -> Outcome {
        self.explain_back6(frame, ends, story, context)
            .unwrap_or_else(|| self.explain_others6(frame, ends.destination, story, context))
    }

    /// To nobody's virtual server: the host's, if its port has one.
    pub(super) fn explain_others6(
        &self,
        frame: &Sketch,
        destination: std::net::Ipv6Addr,
        story: &mut Story,
        context: Context<'_>,
    ) -> Outcome {
        let is_own = context.snapshot.local6(context.port, destination).is_some();
        story.say(if is_own { Step::Local } else { Step::Foreign });
        match self.host_class(frame.bytes(), context) {
            Some(class) if self.punt.has_limit_left(class, context.now) => Outcome::HandedOver(class),
            Some(_) => Outcome::Dropped(DropReason::PuntRateLimited),
            None => Outcome::Dropped(DropReason::EtherType),
        }
    }
}
