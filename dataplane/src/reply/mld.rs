//! Multicast listener discovery: which groups of IPv6 are heard on a port. Switches that snoop pass on what goes to a group to
//! those alone who say that they hear it, so without this neither solicitations nor advertisements of VRRP would arrive.
//!
//! Reports are those of RFC 3810; a query of RFC 2710 is answered as RFC 2710 has it, and for as long as such a querier may be
//! there, what nobody asked for is reported in that form too. Heard are the groups of the addresses that neighbour discovery answers for, and that of VRRP.
//! All of them are reported, twice, when some come or go and when a link returns, and with them those that are heard no more.
//!
//! A worker answers the queries that it receives; the first one reports what comes. A report is a walk through all addresses, a
//! few each millisecond, as there may be thousands.

use std::net::Ipv6Addr;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use arrayvec::ArrayVec;
use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, IntoBytes};

use super::nd::{self, group_mac, solicited_node};
use crate::clock::Now;
use crate::limit::Bucket;
use crate::packet::{Frame, Wire};
use crate::snapshot::advertisers::link_local;
use crate::snapshot::{Port, PortSet, Snapshot};
use crate::wire::ethernet::{self, TYPE_IPV6, Vlan};
use crate::wire::icmp6::{self, ICMPV6};
use crate::wire::ipv6::{self, Ipv6, next};

/// ICMPv6 type of a query.
const QUERY: u8 = 130;
/// ICMPv6 type of a report of version 1.
const REPORT_OLD: u8 = 131;
/// ICMPv6 type of a report of version 2.
const REPORT: u8 = 143;
/// ICMPv6 type that says, in version 1, that a group is heard no more.
const DONE_OLD: u8 = 132;
/// Record type: it is heard no more.
const TO_INCLUDE: u8 = 3;
/// Record type: everything to the group is heard.
const IS_EXCLUDE: u8 = 2;
/// Record type: it is from now on.
const TO_EXCLUDE: u8 = 4;
/// Where reports of version 2 go: ff02::16.
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
/// Where version 1 says that a group is heard no more: ff02::2.
const OLD_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// The hop-by-hop header of each message: the router alert of MLD, and padding (RFC 2711).
const ALERT: [u8; 8] = [ICMPV6, 0, 5, 2, 0, 0, 1, 0];
/// A report of version 2 without its records.
const HEAD_LEN: usize = 8;
/// A record without sources.
const RECORD_LEN: usize = 20;
/// A message of version 1.
const OLD_LEN: usize = 24;
/// The least of a query of version 2.
const QUERY_LEN_MIN: usize = 28;
/// Records of a report at most: those that fit an MTU of 1,500.
const RECORDS_MAX: usize = 72;
/// The longest that an answer is put off, whatever the querier allows.
const DELAY_MAX_MS: u64 = 10_000;
/// Rounds in which what has come is reported: one may be lost (RFC 3810 section 9.1).
const ROUNDS: u8 = 2;
/// From one of them to the next (RFC 3810 section 9.11).
const ROUND_INTERVAL_MS: u64 = 1_000;
/// Rounds a second that begin at once when something comes; and so many when nothing came for long.
const CHANGES: (u32, u32) = (1, 4);
/// Between two answers about all groups of a port. A query that comes meanwhile waits, and those that wait share one answer.
const ANSWER_INTERVAL_MS: u64 = 250;
/// Queries a second about one group, or on a VLAN, that are answered, and so many at once.
const ANSWERS: (u32, u32) = (4, 16);
/// Walks at once: more than the limits let there be.
const WALKS_MAX: usize = 6 * PORTS_MAX;
/// Addresses that are looked at in a millisecond.
const LOOKS_PER_MILLI: usize = 256;
/// So many addresses are compared with one in the time of a look.
const COMPARED_PER_LOOK: usize = 32;
/// Reports in a millisecond.
const REPORTS_PER_MILLI: usize = 8;
/// How long a querier of version 1 is believed to be there after its query, in seconds (RFC 3810 section 9.12).
const OLD_SECS: u32 = 260;
/// As many ports as DPDK has room for.
const PORTS_MAX: usize = PortSet::BITS as usize;
/// Addresses whose groups are known to have been reported. What becomes of others a switch finds out in time.
const TOLD_MAX: usize = 1 << 16;

/// A valid query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    vlan: Vlan,
    /// Of version 1.
    is_old: bool,
    /// `None`: all groups.
    group: Option<Ipv6Addr>,
    /// The answer has to come within so many milliseconds.
    delay: u64,
}

impl Query {
    /// Reads a frame that is no message of neighbour discovery. `None`: it is no query, or not a valid one (RFC 3810 sections 5.1.14 and 6.2).
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (link, vlan, ether_type, rest) = ethernet::read(bytes)?;
        let (header, rest) = Ipv6::ref_from_prefix(rest).ok()?;
        let is_local = Ipv6Addr::from(header.source).is_unicast_link_local();
        let is_it =
            ether_type == TYPE_IPV6 && header.version() == 6 && header.next_header == next::HOP_BY_HOP;
        if !(is_it && is_local && header.hop_limit == 1 && link.source[0] & 1 == 0) {
            return None;
        }
        let payload = rest.get(..usize::from(header.payload_len.get()))?;
        let options_len = (usize::from(*payload.get(1)?) + 1) * 8;
        let (options, message) = payload.split_at_checked(options_len)?;
        if options[0] != ICMPV6 || !has_alert(&options[2..]) || *message.first()? != QUERY {
            return None;
        }
        let is_old = message.len() == OLD_LEN;
        let is_long_enough = is_old || message.len() >= QUERY_LEN_MIN;
        if !is_long_enough || icmp6::checksum(header, message).fold() != 0xffff {
            return None;
        }
        let code = u16::from_be_bytes([message[4], message[5]]);
        let group = Ipv6Addr::from(*message.get(8..24)?.first_chunk::<16>()?);
        Some(Self {
            // A tag of priority alone names no network (IEEE 802.1Q).
            vlan: Vlan::of_network(vlan.network()),
            is_old,
            group: (!group.is_unspecified()).then_some(group),
            delay: if is_old { u64::from(code) } else { delay(code) }.min(DELAY_MAX_MS),
        })
    }
}

/// Milliseconds of a code of version 2 (RFC 3810 section 5.1.3).
fn delay(code: u16) -> u64 {
    match code {
        0..0x8000 => code.into(),
        _ => (u64::from(code & 0xfff) | 0x1000) << ((code >> 12 & 7) + 3),
    }
}

/// Whether the options of a hop-by-hop header hold the router alert of MLD.
fn has_alert(mut options: &[u8]) -> bool {
    loop {
        options = match *options {
            [] | [_] => return false,
            [5, 2, 0, 0, ..] => return true,
            [0, ref rest @ ..] => rest,
            [_, len, ref rest @ ..] => rest.get(usize::from(len)..).unwrap_or_default(),
        }
    }
}

/// A report that is to be made, or being made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Walk {
    port: usize,
    vlan: Vlan,
    is_old: bool,
    /// Of this group alone.
    only: Option<Ipv6Addr>,
    /// Nobody asked for it.
    is_news: bool,
    /// Milliseconds of the worker's clock.
    due: u64,
    /// It must not begin earlier.
    not_before: u64,
    /// It is the last that tells of what has gone: those behind it know it no more.
    is_last: bool,
    /// How far it is: the group of VRRP comes first, then the addresses by their numbers.
    at: usize,
}

/// A group, and what is said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Said {
    group: Ipv6Addr,
    is_heard: bool,
}

impl Walk {
    fn answers_as(&self, other: &Walk) -> bool {
        let of = |walk: &Walk| (walk.port, walk.vlan, walk.is_old, walk.is_news);
        of(self) == of(other) && (self.only.is_none() || self.only == other.only) && self.at == 0
    }

    /// What is to be said of the group that it is at.
    fn say(
        &self,
        snapshot: &Snapshot,
        port: &Port,
        (told, looks): (&mut [PortSet], &mut usize),
    ) -> Option<Said> {
        let (group, is_heard) = self.group(snapshot, port)?;
        let mut is_heard_alike = || {
            *looks = looks.saturating_sub(snapshot.numbered6().len() / COMPARED_PER_LOOK);
            let low = |address: &Ipv6Addr| address.to_bits() as u32 & 0xff_ffff;
            let is_alike = |it: &&Ipv6Addr| low(it) == low(&group) && solicited_node(**it) == group;
            let mut alike = snapshot.numbered6().iter().filter(is_alike);
            alike.any(|address| nd::answers_for(self.port, self.vlan, *address, snapshot))
        };
        if !self.is_news {
            return (is_heard && self.only.is_none_or(|only| only == group))
                .then_some(Said { group, is_heard });
        }
        let (mut nowhere, bit) = (0, 1 << (self.port % PORTS_MAX));
        let told = told.get_mut(self.at).unwrap_or(&mut nowhere);
        let was_told = *told & bit != 0;
        match is_heard {
            true => *told |= bit,
            false if self.is_last => *told &= !bit,
            false => {}
        }
        (is_heard || was_told && !is_heard_alike()).then_some(Said { group, is_heard })
    }

    /// The group that it is at, and whether it is heard.
    fn group(&self, snapshot: &Snapshot, port: &Port) -> Option<(Ipv6Addr, bool)> {
        let Some(place) = self.at.checked_sub(1) else {
            return Some((ipv6::VRRP_GROUP.into(), port.hears_vrrp6 && self.vlan == Vlan::NONE));
        };
        let address = *snapshot.numbered6().get(place)?;
        let is_heard = nd::answers_for(self.port, self.vlan, address, snapshot);
        Some((solicited_node(address), is_heard)).filter(|_| !address.is_unspecified())
    }
}

/// Where queriers of version 1 are, whichever worker has heard them.
#[derive(Debug)]
pub struct OldQueriers {
    /// By port: until when, in seconds of the workers' clock.
    until: [AtomicU32; PORTS_MAX],
}

impl Default for OldQueriers {
    fn default() -> Self {
        Self { until: [const { AtomicU32::new(0) }; PORTS_MAX] }
    }
}

impl OldQueriers {
    fn heard(&self, port: usize, now: Now) {
        if let Some(until) = self.until.get(port) {
            until.fetch_max(now.seconds.saturating_add(OLD_SECS), Relaxed);
        }
    }

    fn are_there(&self, port: usize, now: Now) -> bool {
        self.until.get(port).is_some_and(|until| now.seconds < until.load(Relaxed))
    }
}

/// See the module.
#[derive(Debug)]
pub struct Reporter {
    walks: ArrayVec<Walk, WALKS_MAX>,
    answers: Bucket,
    changes: Bucket,
    /// What was heard when it was looked at last: see [`Snapshot::hearing_mark`].
    mark: u64,
    rounds: u8,
    next_round: u64,
    /// By port: when the next answer about all groups may come.
    next_answer: [u64; PORTS_MAX],
    /// By place of a walk: on which ports the group was reported without having been asked for.
    told: Box<[PortSet]>,
}

impl Default for Reporter {
    fn default() -> Self {
        Self {
            walks: ArrayVec::new(),
            answers: Bucket::new(ANSWERS.0, ANSWERS.1),
            changes: Bucket::new(CHANGES.0, CHANGES.1),
            mark: 0,
            rounds: 0,
            next_round: 0,
            next_answer: [0; PORTS_MAX],
            told: vec![0; TOLD_MAX].into(),
        }
    }
}

impl Reporter {
    /// A query came in on `port`. False: it gets no answer, as there are too many.
    pub fn asked(&mut self, query: &Query, port: usize, old: &OldQueriers, now: Now) -> bool {
        let Query { vlan, is_old, group, delay } = *query;
        if is_old && vlan == Vlan::NONE {
            old.heard(port, now);
        }
        let next_answer = self.next_answer.get_mut(port).filter(|_| vlan == Vlan::NONE && group.is_none());
        let not_before = next_answer.as_deref().copied().unwrap_or_default();
        // Answers of many hosts come one after the other.
        let spread = (now.cycles ^ port as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let wanted = now.millis + spread % (delay + 1);
        let due = wanted.max(not_before);
        let walk =
            Walk { port, vlan, is_old, only: group, is_news: false, due, not_before, is_last: false, at: 0 };
        if let Some(pending) = self.walks.iter_mut().find(|pending| pending.answers_as(&walk)) {
            // The earlier time wins (RFC 3810 section 6.2).
            pending.due = pending.due.min(wanted).max(pending.not_before);
            return true;
        }
        match next_answer {
            Some(next) => *next = now.millis.max(not_before) + ANSWER_INTERVAL_MS,
            None if !self.answers.take(now) => return false,
            None => {}
        }
        self.walks.try_push(walk).is_ok()
    }

    /// A snapshot came: reports what is heard from now on, if that is other than before.
    pub fn look(&mut self, snapshot: &Snapshot, now: Now) {
        let mark = snapshot.hearing_mark();
        if std::mem::replace(&mut self.mark, mark) != mark {
            self.rounds = ROUNDS;
            if self.changes.take(now) {
                self.next_round = now.millis;
            }
        }
    }

    /// Whether there is something to do.
    pub fn is_busy(&self) -> bool {
        self.rounds != 0 || !self.walks.is_empty()
    }

    /// A millisecond has passed. Returns how many reports were sent.
    pub fn tick<W: Wire>(&mut self, wire: &mut W, snapshot: &Snapshot, old: &OldQueriers, now: Now) -> usize {
        if self.rounds != 0 && now.millis >= self.next_round {
            self.rounds -= 1;
            self.next_round = now.millis + ROUND_INTERVAL_MS;
            self.begin_round(snapshot, old, now);
        }
        let (mut looks, mut reports) = (LOOKS_PER_MILLI, REPORTS_PER_MILLI);
        let Self { walks, told, .. } = self;
        walks.retain(|walk| {
            walk.due > now.millis || !go_on(walk, wire, (snapshot, told), (&mut looks, &mut reports))
        });
        REPORTS_PER_MILLI - reports
    }

    fn begin_round(&mut self, snapshot: &Snapshot, old: &OldQueriers, now: Now) {
        // Those that are not at their end are made anew.
        self.walks.retain(|walk| !walk.is_news);
        for port in 0..snapshot.ports.len() {
            let has_old = old.are_there(port, now);
            for is_old in [false, true].into_iter().take(1 + usize::from(has_old)) {
                let (vlan, due) = (Vlan::NONE, now.millis);
                let (only, not_before) = (None, due);
                let is_last = self.rounds == 0 && is_old == has_old;
                let walk = Walk { port, vlan, is_old, only, is_news: true, due, not_before, is_last, at: 0 };
                // There is room: see the constant.
                let _ = self.walks.try_push(walk);
            }
        }
    }
}

/// Goes on with a walk, by as much as is left for this millisecond. Returns whether it is at its end.
fn go_on<W: Wire>(
    walk: &mut Walk,
    wire: &mut W,
    (snapshot, told): (&Snapshot, &mut [PortSet]),
    (looks, reports): (&mut usize, &mut usize),
) -> bool {
    let Some(port) = snapshot.ports.get(walk.port) else { return true };
    let fit = usize::from(port.mtu).saturating_sub(ipv6::HEADER_LEN + ALERT.len() + HEAD_LEN) / RECORD_LEN;
    let most = if walk.is_old { 1 } else { fit.clamp(1, RECORDS_MAX) };
    while *reports != 0 && *looks != 0 && walk.at <= snapshot.numbered6().len() {
        let mut groups = ArrayVec::<Said, RECORDS_MAX>::new();
        while *looks != 0 && groups.len() < most && walk.at <= snapshot.numbered6().len() {
            *looks -= 1;
            groups.extend(walk.say(snapshot, port, (told, looks)).filter(|said| groups.last() != Some(said)));
            walk.at += 1;
        }
        if !groups.is_empty() {
            *reports -= usize::from(report(wire, walk, port, &groups));
        }
        if walk.only.is_some() && !groups.is_empty() {
            return true;
        }
    }
    walk.at > snapshot.numbered6().len()
}

/// False: no buffer.
fn report<W: Wire>(wire: &mut W, walk: &Walk, port: &Port, groups: &[Said]) -> bool {
    let Some(mut frame) = wire.allocate() else { return false };
    let at = walk.vlan.header_len();
    let message_len = if walk.is_old { OLD_LEN } else { HEAD_LEN + groups.len() * RECORD_LEN };
    let (Some(first), true) =
        (groups.first(), frame.resize(at + ipv6::HEADER_LEN + ALERT.len() + message_len))
    else {
        wire.release(frame);
        return false;
    };
    let destination = match (walk.is_old, first.is_heard) {
        (true, true) => first.group,
        (true, false) => OLD_ROUTERS,
        (false, _) => ALL_ROUTERS,
    };
    let own = port.addresses6.iter().map(|net| net.addr()).find(Ipv6Addr::is_unicast_link_local);
    let header = Ipv6 {
        version_class_flow: U32::new(6 << 28),
        payload_len: U16::new((ALERT.len() + message_len) as u16),
        next_header: next::HOP_BY_HOP,
        hop_limit: 1,
        source: own.unwrap_or_else(|| link_local(port.mac)).octets(),
        destination: destination.octets(),
    };
    let bytes = frame.bytes_mut();
    ethernet::write_header(bytes, group_mac(destination), port.mac, walk.vlan, TYPE_IPV6);
    let (front, message) = bytes[at..].split_at_mut(ipv6::HEADER_LEN + ALERT.len());
    front[..ipv6::HEADER_LEN].copy_from_slice(header.as_bytes());
    front[ipv6::HEADER_LEN..].copy_from_slice(&ALERT);
    message.fill(0);
    if walk.is_old {
        message[0] = if first.is_heard { REPORT_OLD } else { DONE_OLD };
        message[8..24].copy_from_slice(&first.group.octets());
    } else {
        message[0] = REPORT;
        message[6..8].copy_from_slice(&(groups.len() as u16).to_be_bytes());
        for (record, Said { group, is_heard }) in message[HEAD_LEN..].chunks_exact_mut(RECORD_LEN).zip(groups)
        {
            record[0] = match (is_heard, walk.is_news) {
                (false, _) => TO_INCLUDE,
                (true, true) => TO_EXCLUDE,
                (true, false) => IS_EXCLUDE,
            };
            record[4..].copy_from_slice(&group.octets());
        }
    }
    let checksum = icmp6::checksum(&header, message).finish();
    message[2..4].copy_from_slice(checksum.as_bytes());
    wire.transmit(walk.port, frame);
    true
}
