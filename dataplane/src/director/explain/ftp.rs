//! Data connections of FTP: whether one was announced.

use super::{Asked, Flow, Outcome, Step, Story};
use crate::address::Addr4;
use crate::conn::record::Record;
use crate::director::Director;
use crate::packet::Frame;
use crate::stats::DropReason;

impl<F: Frame> Director<F> {
    /// As [`Director::take_data`]. `ended` is the connection whose place it takes; `is_elsewhere` says that there is one elsewhere, which was
    /// told of.
    pub(super) fn explain_data(
        &self,
        asked: &Asked<'_>,
        (ended, is_elsewhere): (Option<Record>, bool),
        story: &mut Story,
    ) -> Outcome {
        let Asked { packet, lookup, context, .. } = asked;
        if !is_elsewhere && let (Some(outcome), _) = self.explain_course_elsewhere(asked, story) {
            return outcome;
        }
        let Some((_, server)) = self.passive_data(packet, *context) else {
            return self.explain_unasked(asked, story);
        };
        story.say(Step::Announced(server.id));
        let has_room = packet.source != Addr4::STRANGER6 && self.has_room_without(lookup.hash, ended);
        match has_room {
            true => self.explain_forward(asked, server, Flow::New, story),
            false => Outcome::Dropped(DropReason::HelperNoRoom),
        }
    }
}
