//! First and second round of untagged frames of IPv6, all of a burst's together.
//!
//! A record names its client by a number, which lies in a line of its own (`conn/clients.rs`). So the first round asks for the
//! clients' lines, the second finds the numbers in them and asks for the records, the third makes the frames ready (`express6`). The
//! number that is found is the address's own, for a client's address is compared in full: what a record is found by is as good as
//! the address.
//!
//! What is known of plain frames is handed on in lists of its own, which hold no others: the rounds pass over nothing, read nothing
//! twice, and find it side by side. The first round goes over the burst twice: once with nothing but what is at hand, so that the
//! loop calls nobody and its values stay in registers, and once over what that left, if it left any.

use arrayvec::ArrayVec;
use zerocopy::FromBytes;

use super::ipv6::is_for6;
use super::{Context, Director, Finding, IPV6};
use crate::classify::Lookup;
use crate::conn::record::{Usual, UsualKey};
use crate::packet::{BURST, Burst, Frame, Wire};
use crate::parse::Station;
use crate::parse::plain6::{Kind, Plain6, Words, is_for_link};
use crate::parse::v6::may_be_source;
use crate::snapshot::Port;

/// What the first round finds in a burst.
struct Seen6 {
    usual: ArrayVec<Usual6, BURST>,
    openings: ArrayVec<Opening6, BURST>,
}

/// A usual frame, from a client or from a NAT real server.
pub(super) struct Usual6 {
    client: Words,
    /// The line where the client's number is.
    home: usize,
    usual: Usual,
    client_port: u16,
    /// Its place in the burst.
    pub(super) number: u8,
}

/// A frame that opens a connection.
struct Opening6 {
    number: u8,
    lookup: Lookup,
}

/// What is the same for the first round of all of a burst.
#[derive(Clone, Copy)]
struct Arrival<'a> {
    context: Context<'a>,
    port: &'a Port,
    /// Whom frames to the port are for.
    own: Station,
}

impl<F: Frame> Director<F> {
    /// An untagged frame of IPv6 is to be looked at in [`Director::take_burst6`].
    #[inline(always)]
    pub(super) fn put_off6(&mut self, bytes: &[u8], finding: &mut Finding) {
        // Most of what follows the addresses lies in the second line; the first was asked for with those of all frames.
        dpdk::lcore::prefetch_at(bytes, size_of::<dpdk::memory::Line>());
        finding.set_unread6();
        self.further |= IPV6;
    }

    /// All rounds of the frames of IPv6. If all of a burst are ready, they are sent.
    #[inline(never)]
    pub(super) fn take_burst6<W: Wire<Frame = F>>(
        &mut self,
        burst: &mut Burst<F>,
        findings: &mut [Finding],
        context: Context<'_>,
        wire: &mut W,
    ) {
        let port = &context.snapshot.ports[context.port];
        let arrival = Arrival { context, port, own: Station::new(port.mac) };
        let mut seen = Seen6 { usual: ArrayVec::new(), openings: ArrayVec::new() };
        let rest = self.read_at_hand6(burst, findings, &mut seen, &arrival);
        if rest != 0 {
            self.read_rest6(rest, burst, findings, &mut seen, &arrival);
        }
        let mut keys = [UsualKey::NONE; BURST];
        self.find_clients6(&seen.usual, &mut keys);
        if !seen.openings.is_empty() {
            self.read_openings6(&seen.openings, burst, findings, context);
        }
        if let Some(exit) = self.make_ready6(burst, findings, &seen.usual, &keys, context) {
            wire.transmit_all(exit.port(), burst);
        }
    }

    /// First round, as far as it goes with what is at hand. Returns a bit for each frame that is still to be read.
    #[inline(never)]
    fn read_at_hand6(
        &self,
        burst: &Burst<F>,
        findings: &[Finding],
        seen: &mut Seen6,
        arrival: &Arrival<'_>,
    ) -> u64 {
        const { assert!(BURST <= u64::BITS as usize) };
        let mut rest = 0u64;
        for (number, (frame, finding)) in (0..).zip(burst.iter().zip(findings)) {
            if finding.is_unread6() && self.read_plain6(number, frame, seen, arrival).is_none() {
                rest |= 1u64 << number;
            }
        }
        rest
    }

    /// First round of the frames that are left: to another virtual server than the one before, or not plain.
    #[inline(never)]
    fn read_rest6(
        &mut self,
        rest: u64,
        burst: &Burst<F>,
        findings: &mut [Finding],
        seen: &mut Seen6,
        arrival: &Arrival<'_>,
    ) {
        for (number, (frame, finding)) in (0..).zip(burst.iter().zip(findings)) {
            if rest & 1u64 << number == 0 {
                continue;
            }
            self.look_up6(frame, arrival.context);
            if self.read_plain6(number, frame, seen, arrival).is_none() {
                self.read_any(frame, finding.set_other(), arrival.context);
            }
        }
    }

    /// Puts at hand what a frame is for, if it is plain and for anybody.
    #[inline(never)]
    fn look_up6(&mut self, frame: &F, Context { snapshot, .. }: Context<'_>) {
        let Ok((plain, _)) = Plain6::ref_from_prefix(frame.bytes()) else { return };
        if self.last_service6.is_asked_by(plain) {
            return;
        }
        if snapshot.is_surely_foreign6(plain.destination()) {
            self.last_servers6.look_up(plain, snapshot);
        } else {
            self.last_service6.look_up(plain, snapshot);
        }
    }

    /// First round of a plain frame to the virtual server of the one before, or from a NAT real server that sent of late. `None`: it is
    /// none, or is to be read as any.
    #[inline(always)]
    fn read_plain6(&self, number: u8, frame: &F, seen: &mut Seen6, arrival: &Arrival<'_>) -> Option<()> {
        #[cfg(test)]
        if self.no_express {
            return None;
        }
        let (plain, _) = Plain6::ref_from_prefix(frame.bytes()).ok()?;
        if !(plain.is_for(arrival.own) || is_for_other6(frame.bytes(), arrival.port)) {
            return None;
        }
        // Each arm has its own way to the end, with nothing to be kept for where they meet. A burst holds no more than the lists.
        match plain.kind(frame.len())? {
            Kind::Usual if self.last_service6.is_asked_by(plain) => {
                let (client, client_port) = (plain.source(), plain.tcp.source.get());
                let (home, usual) = (self.home6(client, arrival)?, self.last_service6.usual());
                seen.usual.try_push(Usual6 { client, home, usual, client_port, number }).ok()
            }
            Kind::Usual => {
                let usual = self.last_servers6.usual(plain)?;
                let (client, client_port) = (plain.destination(), plain.tcp.destination.get());
                let home = self.home6(client, arrival)?;
                seen.usual.try_push(Usual6 { client, home, usual, client_port, number }).ok()
            }
            Kind::Opening if self.last_service6.is_asked_by(plain) => {
                let home = self.home6(plain.source(), arrival)?;
                let lookup = self.last_service6.lookup(plain, home as u64);
                seen.openings.try_push(Opening6 { number, lookup }).ok()
            }
            Kind::Opening => None,
        }
    }

    /// The line where a client's number is, which is asked for. `None`: the client may be an address of ours, or it is one of its link
    /// alone.
    #[inline(always)]
    fn home6(&self, client: Words, arrival: &Arrival<'_>) -> Option<usize> {
        if !arrival.context.snapshot.is_surely_foreign6(client) || is_for_link(client) {
            return None;
        }
        let home = self.table.clients.home(client);
        self.table.clients.prefetch(home);
        Some(home)
    }

    /// Second round: finds the clients' numbers, and asks the processor for the records.
    #[inline(never)]
    fn find_clients6(&self, usual: &[Usual6], keys: &mut [UsualKey; BURST]) {
        let table = &self.table;
        for (Usual6 { client, home, usual, client_port, .. }, key) in usual.iter().zip(keys) {
            if let Some(client) = table.clients.number_from(*home, *client) {
                *key = table.usual_key(usual, client, *client_port);
                table.prefetch_usual(*key);
            }
        }
    }

    /// Second round of frames that open connections: asks the processor for where their records most likely come to lie.
    #[inline(never)]
    fn read_openings6(
        &mut self,
        openings: &[Opening6],
        burst: &Burst<F>,
        findings: &mut [Finding],
        context: Context<'_>,
    ) {
        for &Opening6 { number, lookup } in openings {
            let number = usize::from(number);
            let (Some(frame), Some(finding)) = (burst.get(number), findings.get_mut(number)) else {
                continue;
            };
            let Ok((plain, _)) = Plain6::ref_from_prefix(frame.bytes()) else { continue };
            // Who has a connection is a host; of others none is opened.
            if !may_be_source(plain.ip.source.into()) {
                self.read_any(frame, finding.set_other(), context);
                continue;
            }
            finding.set_opening6(lookup);
            if let Some(client) = self.table.clients.likely_number(lookup.hash as usize, plain.source()) {
                self.table.prefetch(self.table.hash(lookup.key.with_client(client).hash_input()));
            }
        }
    }
}

/// As [`is_for6`]. Not inlined: most frames are to the port itself.
#[cold]
#[inline(never)]
fn is_for_other6(bytes: &[u8], port: &Port) -> bool {
    is_for6(bytes, port)
}
