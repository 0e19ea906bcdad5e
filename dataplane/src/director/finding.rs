//! What the first round finds out about a frame, for the rounds after it.
//!
//! A finding is the key of a usual frame, what an opening frame is looked up by, nothing yet for one that is put off or of IPv6,
//! where one of IPv6 goes out that is ready, or what was read of any other. [`Found`] says which. It is not kept as that enum:
//! most frames are usual, and loops over the burst would look at its tag before they touch a key, which costs each established
//! packet 13 instructions on top of 237 (`benches/instructions`). So the key has a place of its own, which holds [`UsualKey::NONE`] for all frames
//! but usual ones, and the tag is looked at only then. The fields are private: what sets one of these unsets the others.

use super::{Exit, Step};
use crate::classify::Lookup;
use crate::conn::record::UsualKey;
use crate::parse::Packet;

/// See the module. Written in place, so nothing is moved between the rounds.
#[derive(Clone, Copy)]
pub(super) struct Finding {
    key: UsualKey,
    /// Means nothing while there is a key.
    unusual: Unusual,
    reading: Reading,
}

/// What a frame without a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unusual {
    /// `reading` holds what it is looked up by, and no more.
    Opening,
    PutOff,
    Other,
    Unread6,
    /// As `Opening`, but for its client and its hash, in whose place is the line where its client's number is.
    Opening6,
    Ready(Exit),
}

/// What a finding can be.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// Of a usual frame, whose connection has this key if there is one.
    Usual(UsualKey),
    /// Of a frame that opens a connection, unless there is one by this.
    Opening(&'a Lookup),
    /// Of a frame that is looked at later in the round. Nothing is that when the round is over.
    PutOff,
    /// Of an untagged frame of IPv6 that is looked at later in the round. When the round is over: of a usual one that is not ready.
    Unread6,
    /// Of a frame of IPv6 that opens a connection, unless there is one by this. Its client is not in it, and in place of the hash is
    /// the line where the client's number is.
    Opening6(&'a Lookup),
    /// Of a frame of IPv6 that is ready to be sent.
    Ready(Exit),
    /// Of a frame that takes the common way: [`Finding::reading_or`] gives what was read of it.
    Other,
}

/// What parsing and classifying say about a frame.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reading {
    /// What is to be done with it.
    pub(super) step: Step,
    pub(super) packet: Packet,
    pub(super) lookup: Lookup,
}

impl Finding {
    /// About no frame.
    pub(super) fn none() -> Self {
        Self { key: UsualKey::NONE, unusual: Unusual::Other, reading: Reading::default() }
    }

    /// The key of a usual frame. All others have [`UsualKey::NONE`], with which no connection goes on: whoever looks for
    /// connections that go on need not ask first what a finding is.
    #[inline(always)]
    pub(super) fn key(&self) -> &UsualKey {
        &self.key
    }

    /// What it is.
    #[inline]
    pub(super) fn found(&self) -> Found<'_> {
        if self.key.is_some() {
            return Found::Usual(self.key);
        }
        match self.unusual {
            Unusual::Opening => Found::Opening(&self.reading.lookup),
            Unusual::PutOff => Found::PutOff,
            Unusual::Unread6 => Found::Unread6,
            Unusual::Opening6 => Found::Opening6(&self.reading.lookup),
            Unusual::Ready(exit) => Found::Ready(exit),
            Unusual::Other => Found::Other,
        }
    }

    /// What a frame that opens a connection is looked up by. `None`: it is any other.
    #[inline]
    pub(super) fn opening(&self) -> Option<&Lookup> {
        // Two branches that are well guessed, and not the conjunction of both: that is fewer instructions.
        if self.key.is_some() {
            return None;
        }
        if self.unusual == Unusual::Opening { Some(&self.reading.lookup) } else { None }
    }

    /// Whether it is of a frame of IPv6 that is or was on its short way.
    #[inline]
    pub(super) fn is_short6(&self) -> bool {
        !self.key.is_some() && !matches!(self.unusual, Unusual::Opening | Unusual::PutOff | Unusual::Other)
    }

    /// Whether it is of a frame of IPv6 that was not looked at yet.
    #[inline]
    pub(super) fn is_unread6(&self) -> bool {
        !self.key.is_some() && self.unusual == Unusual::Unread6
    }

    /// The frame is a usual one.
    #[inline(always)]
    pub(super) fn set_usual(&mut self, key: UsualKey) {
        self.key = key;
    }

    /// The frame opens a connection.
    #[inline]
    pub(super) fn set_opening(&mut self, lookup: Lookup) {
        self.reading.lookup = lookup;
        self.set_unusual(Unusual::Opening);
    }

    /// The frame is one of IPv6, to be looked at later in the round.
    #[inline]
    pub(super) fn set_unread6(&mut self) {
        self.set_unusual(Unusual::Unread6);
    }

    /// The frame of IPv6 opens a connection: see [`Found::Opening6`].
    #[inline]
    pub(super) fn set_opening6(&mut self, lookup: Lookup) {
        self.reading.lookup = lookup;
        self.set_unusual(Unusual::Opening6);
    }

    /// The frame of IPv6 is ready to be sent.
    #[inline]
    pub(super) fn set_ready(&mut self, exit: Exit) {
        self.set_unusual(Unusual::Ready(exit));
    }

    /// The frame is to be looked at later in the round.
    #[inline]
    pub(super) fn put_off(&mut self) {
        self.set_unusual(Unusual::PutOff);
    }

    /// The frame is any other. Its reading is to be filled in, all of it.
    #[inline]
    pub(super) fn set_other(&mut self) -> &mut Reading {
        self.set_unusual(Unusual::Other);
        &mut self.reading
    }

    /// What was read of the frame. If that was not needed so far, `read` does it now.
    #[inline]
    pub(super) fn reading_or(&mut self, read: impl FnOnce(&mut Reading)) -> &Reading {
        if !matches!(self.found(), Found::Other) {
            read(self.set_other());
        }
        &self.reading
    }

    #[inline]
    fn set_unusual(&mut self, unusual: Unusual) {
        self.key = UsualKey::NONE;
        self.unusual = unusual;
    }
}

#[cfg(test)]
mod tests {
    use dpdk::Slab;
    use weir_config::model::Protocol;

    use super::*;
    use crate::address::Addr4;
    use crate::conn::record::{Key, ServiceId, VipId};
    use crate::conn::table::{HashKey, Table};

    #[test]
    fn a_finding_is_what_it_was_last_set_to_and_only_that_of_a_usual_frame_has_a_key() {
        let key = Key::new(Addr4::UNSPECIFIED, 0, VipId(0), 0, Protocol::Tcp, false);
        let lines = Slab::heap(Table::lines_for(1)).expect("memory");
        let usual = Table::new(lines, 1, HashKey::new([1, 3])).usual_key(&key.usual(), Addr4::UNSPECIFIED, 0);
        let lookup = Lookup { hash: 1, key, service: ServiceId(2) };
        let set: [fn(&mut Finding, UsualKey, Lookup); 7] = [
            |finding, usual, _| finding.set_usual(usual),
            |finding, _, lookup| finding.set_opening(lookup),
            |finding, _, _| finding.put_off(),
            |finding, _, _| finding.set_other().packet.l4 = 34,
            |finding, _, lookup| finding.set_opening6(lookup),
            |finding, _, _| finding.set_ready(Exit::new(7).expect("a port")),
            |finding, _, _| finding.set_unread6(),
        ];
        for (before, set_before) in set.iter().enumerate() {
            for (after, set_after) in set.iter().enumerate() {
                let mut finding = Finding::none();
                set_before(&mut finding, usual, lookup);
                set_after(&mut finding, usual, lookup);
                let is_right = match finding.found() {
                    Found::Usual(key) => after == 0 && key == usual,
                    Found::Opening(found) => after == 1 && *found == lookup,
                    Found::PutOff => after == 2,
                    Found::Opening6(found) => after == 4 && *found == lookup,
                    Found::Ready(exit) => after == 5 && exit.port() == 7,
                    Found::Unread6 => after == 6,
                    Found::Other => after == 3 && finding.reading_or(|_| ()).packet.l4 == 34,
                };
                assert!(is_right, "{before}, then {after}: {:?}", finding.found());
                assert_eq!(finding.key().is_some(), after == 0, "{before}, then {after}");
                assert_eq!(finding.is_unread6(), after == 6, "{before}, then {after}");
                let opening = finding.opening().filter(|found| **found == lookup);
                assert_eq!(opening.is_some(), after == 1, "{before}, then {after}");
            }
        }
    }
}
