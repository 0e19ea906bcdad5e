//! As `express`, of IPv6: one more packet of a TCP or UDP connection that is known and goes on as it is.
//!
//! A record names its client by a number, which lies in a line of its own (`conn/clients.rs`). So a burst passes here in
//! steps of its own: the first round asks for the clients' lines, the second finds the numbers in them and asks for the
//! records, the third makes the frames ready. The number that is found is the address's own, for a client's address is compared in
//! full: what a record is found by is as good as the address.
//!
//! It decides nothing: whatever is not as usual takes the common way of [`super::ipv6`], which would do the same. All of it comes at the
//! end of the first round, where bursts of IPv4 alone never come.

use std::net::Ipv6Addr;

use weir_config::model::Forwarding;
use zerocopy::{FromBytes, IntoBytes};

use super::finding::Found;
use super::ipv6::is_for6;
use super::{Context, Director, Exit, Finding, IPV6, Pass, write_link};
use crate::classify::Lookup;
use crate::clock::Now;
use crate::conn::record::UsualKey;
use crate::conn::table::UsualRecords;
use crate::neighbor::{Hop6, Link, Links, Slot};
use crate::packet::{BURST, Burst, Frame, Wire};
use crate::parse::Station;
use crate::parse::plain6::{Kind, Plain6};
use crate::parse::v6::may_be_source;
use crate::rewrite::plain6::{into_tunnel6, to_client, to_server};
use crate::snapshot::Snapshot;
use crate::snapshot::far::Way6;
use crate::snapshot::server::{Server, Tally};
use crate::wire::encap::Encap;
use crate::wire::ethernet;
use crate::wire::ipv6::{self, MTU_MIN};

/// What the short way of IPv6 looks at besides frames, at hand for the length of a burst.
pub(super) struct Express6<'a> {
    records: UsualRecords<'a>,
    links: Links<'a, Hop6>,
    snapshot: &'a Snapshot,
    now: Now,
    worker: usize,
    reply_hint: Slot,
}

impl<F: Frame> Director<F> {
    /// The short way, for a burst.
    #[inline]
    pub(super) fn express6<'a>(&'a mut self, Context { snapshot, now, .. }: Context<'a>) -> Express6<'a> {
        Express6 {
            records: self.table.usual_records(now.seconds),
            links: self.neighbors6.links(),
            snapshot,
            now,
            worker: self.shared.worker,
            reply_hint: self.reply_hint6.get(),
        }
    }

    /// First round of an IPv6 frame. Not inlined: frames of IPv4 pass where it is called.
    #[inline(never)]
    pub(super) fn read_other6(&mut self, frame: &F, finding: &mut Finding, context: Context<'_>) {
        if !self.read_plain6(frame, finding, context) {
            self.read_any(frame, finding.set_other(), context);
        }
    }

    /// First round of a plain frame. False: it is to be read as any frame.
    #[inline(always)]
    fn read_plain6(&mut self, frame: &F, finding: &mut Finding, context: Context<'_>) -> bool {
        #[cfg(test)]
        if self.no_express {
            return false;
        }
        let Context { snapshot, port, .. } = context;
        let bytes = frame.bytes();
        let Ok((plain, _)) = Plain6::ref_from_prefix(bytes) else { return false };
        let Some(kind) = plain.kind(frame.len()) else { return false };
        if !self.last_service6.is_asked_by(plain) {
            if snapshot.is_surely_foreign6(plain.destination()) {
                return kind == Kind::Usual && self.read_reply6(frame, plain, finding, context);
            }
            if self.last_service6.look_up(plain, snapshot).is_none() {
                return false;
            }
        }
        let source = plain.source();
        let port = &snapshot.ports[port];
        let is_right = (plain.is_for(Station::new(port.mac)) || is_for6(bytes, port))
            && snapshot.is_surely_foreign6(source)
            // Who has a connection is a host.
            && (kind == Kind::Usual || may_be_source(plain.ip.source.into()));
        if !is_right {
            return false;
        }
        let home = self.table.clients.home(source);
        self.table.clients.prefetch(home);
        finding.set_plain6(kind, self.last_service6.lookup(plain, home as u64));
        self.further |= IPV6;
        true
    }

    /// As [`Director::read_plain6`], of a usual frame that is to nobody here: a NAT real server's, maybe.
    #[inline(never)]
    fn read_reply6(
        &mut self,
        frame: &F,
        plain: &Plain6,
        finding: &mut Finding,
        context: Context<'_>,
    ) -> bool {
        let Context { snapshot, port, .. } = context;
        if !is_for6(frame.bytes(), &snapshot.ports[port]) {
            return false;
        }
        let Some(lookup) = self.last_servers6.ask(plain, snapshot) else { return false };
        let home = self.table.clients.home(plain.destination());
        self.table.clients.prefetch(home);
        finding.set_reply6(Lookup { hash: home as u64, ..lookup });
        self.further |= IPV6;
        true
    }

    /// As [`Director::take_other_way`], of a plain frame of IPv6.
    #[inline(never)]
    pub(super) fn take_other_way6<W: Wire<Frame = F>>(
        &mut self,
        mut frame: F,
        finding: &mut Finding,
        pass: &mut Pass<'_, W>,
    ) {
        match finding.found() {
            Found::Ready(exit) => return pass.wire.transmit(exit.port(), frame),
            Found::Opening6(lookup) => match self.open_fresh6(frame, *lookup, pass) {
                Ok(()) => return,
                Err(given_back) => frame = given_back,
            },
            _ => {}
        }
        // It is none of these from here on.
        self.read_any(&frame, finding.set_other(), pass.context);
        self.take_other_way(frame, finding, pass);
    }

    /// The second and third round of plain frames of IPv6. If all of a burst are ready, they are sent.
    pub(super) fn take_plain6<W: Wire<Frame = F>>(
        &mut self,
        burst: &mut Burst<F>,
        findings: &mut [Finding],
        context: Context<'_>,
        wire: &mut W,
    ) {
        let mut keys = [UsualKey::NONE; BURST];
        self.find_clients6(burst, findings, &mut keys);
        if let Some(exit) = self.make_ready6(burst, findings, &keys, context) {
            wire.transmit_all(exit.port(), burst);
        }
    }

    /// Finds the clients' numbers, and asks the processor for the records.
    #[inline(never)]
    fn find_clients6(&self, burst: &Burst<F>, findings: &[Finding], keys: &mut [UsualKey; BURST]) {
        for ((frame, finding), key) in burst.iter().zip(findings).zip(keys) {
            let found = finding.found();
            let (Found::Usual6(lookup) | Found::Opening6(lookup) | Found::Reply6(lookup)) = found else {
                continue;
            };
            let Ok((plain, _)) = Plain6::ref_from_prefix(frame.bytes()) else { continue };
            let (home, clients) = (lookup.hash as usize, &self.table.clients);
            *key = match found {
                Found::Usual6(_) => {
                    let Some(client) = clients.number_from(home, plain.source()) else { continue };
                    self.table.usual_key_of(lookup.key.with_client(client))
                }
                Found::Reply6(_) => {
                    let Some(client) = clients.number_from(home, plain.destination()) else { continue };
                    self.table.usual_reply_key_of(lookup.key.with_client(client))
                }
                _ => {
                    if let Some(client) = clients.likely_number(home, plain.source()) {
                        self.table.prefetch_usual(self.table.usual_key_of(lookup.key.with_client(client)));
                    }
                    continue;
                }
            };
            self.table.prefetch_usual(*key);
        }
    }

    /// Makes usual frames ready. Returns where all of the burst go out, if all are ready and go out of one port.
    #[inline(never)]
    fn make_ready6(
        &mut self,
        burst: &mut Burst<F>,
        findings: &mut [Finding],
        keys: &[UsualKey; BURST],
        context: Context<'_>,
    ) -> Option<Exit> {
        let mut express = self.express6(context);
        let (mut first, mut ready, mut is_same) = (None, 0, true);
        for ((frame, finding), key) in burst.iter_mut().zip(findings.iter_mut()).zip(keys) {
            if !key.is_some() {
                continue;
            }
            let exit = if key.is_reply() { express.reply(frame, *key) } else { express.request(frame, *key) };
            if let Some(exit) = exit {
                finding.set_ready(exit);
                ready += 1;
                is_same &= *first.get_or_insert(exit) == exit;
            }
        }
        self.shared.counters.forwarded.add(ready as u64);
        first.filter(|_| is_same && ready == burst.len())
    }
}

impl Express6<'_> {
    /// Makes a usual frame from a client ready for its real server. Returns where it goes out, or `None` if nothing was done.
    #[inline]
    fn request<F: Frame>(&mut self, frame: &mut F, key: UsualKey) -> Option<Exit> {
        let Some((slot, record)) = self.records.find(key) else {
            self.records.prefetch_next(key);
            return None;
        };
        let server = self.snapshot.get_server(record.server())?;
        if !server.is_present {
            return None;
        }
        let tally = server.tallies.get(self.worker)?;
        self.records.go_on(slot, record, key, &self.snapshot.lifetimes)?;
        self.make_ready(frame, server, tally)
    }

    /// As [`Express6::make_ready`], of a first packet.
    #[inline(never)]
    pub(super) fn make_first_ready<F: Frame>(
        &mut self,
        frame: &mut F,
        server: &Server,
        tally: &Tally,
    ) -> Option<Exit> {
        self.make_ready(frame, server, tally)
    }

    /// Makes a plain frame ready for the real server of its connection, and counts it. Returns where it goes out, or `None` if nothing
    /// was done.
    #[inline(always)]
    fn make_ready<F: Frame>(&mut self, frame: &mut F, server: &Server, tally: &Tally) -> Option<Exit> {
        let (plain, _) = Plain6::mut_from_prefix(frame.bytes_mut()).ok()?;
        let total_len = plain.total_len();
        let far = server.far.as_deref()?;
        let way = far.way.as_ref()?;
        if total_len > server.mtu {
            return None;
        }
        let link = self.links.get(tally.neighbor.get(), way.hop, self.now)?;
        match server.forwarding {
            Forwarding::Dr => {
                plain.ip.hop_limit -= 1;
                write_link(plain.as_mut_bytes(), link);
            }
            Forwarding::Nat => {
                to_server(plain, far.address, server.port)?;
                write_link(plain.as_mut_bytes(), link);
            }
            Forwarding::Tun => wrap(frame, (server, far.address), way, link, self.now)?,
        }
        tally.in_packets.add(1);
        tally.in_bytes.add(u64::from(total_len));
        Exit::new(way.hop.port())
    }

    /// Makes a usual frame from a NAT real server ready for its client; as [`Express6::request`] otherwise. Connections of other workers,
    /// and those on templates, take the common way.
    #[inline(never)]
    fn reply<F: Frame>(&mut self, frame: &mut F, key: UsualKey) -> Option<Exit> {
        let snapshot = self.snapshot;
        let (slot, record) = self.records.find_reply(key)?;
        let server = snapshot.get_server(record.server())?;
        let (plain, _) = Plain6::mut_from_prefix(frame.bytes_mut()).ok()?;
        let is_its = server.forwarding == Forwarding::Nat
            && server.replies_from6(plain.ip.source.into(), plain.tcp.source.get(), record.port())
            && !record.is_templated();
        if !is_its {
            return None;
        }
        let vip = snapshot.address6(snapshot.vips.address(record.vip())?)?;
        let hop = snapshot.routes.next_hop6(plain.ip.destination.into())?;
        let total_len = plain.total_len();
        if total_len > snapshot.ports.get(usize::from(hop.port()))?.mtu {
            return None;
        }
        let link = self.links.get(self.reply_hint, hop, self.now)?;
        let tally = server.tallies.get(self.worker)?;
        to_client(plain, vip, record.port())?;
        write_link(plain.as_mut_bytes(), link);
        self.records.touch(slot, record);
        // One that was removed counts no more, as in the kernel.
        if server.is_present {
            tally.out_packets.add(1);
            tally.out_bytes.add(u64::from(total_len));
        }
        Exit::new(hop.port())
    }
}

/// As [`into_tunnel6`]. Other tunnels than the plain one, and packets that are to be cut, take the common way.
#[inline(never)]
fn wrap<F: Frame>(
    frame: &mut F,
    (server, address): (&Server, Ipv6Addr),
    way: &Way6,
    link: &Link,
    now: Now,
) -> Option<()> {
    // In a tunnel it exceeds what every way takes.
    const EXCEEDING: usize = ethernet::HEADER_LEN + MTU_MIN as usize - ipv6::HEADER_LEN;
    if server.encap != Encap::Ipip || frame.len() > EXCEEDING && server.live.is_narrow(now) {
        return None;
    }
    into_tunnel6(frame, link, (way.source, address))
}
