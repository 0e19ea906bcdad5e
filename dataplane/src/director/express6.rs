//! As `express`, of IPv6: one more packet of a TCP or UDP connection that is known and goes on as it is.
//!
//! It begins in `read6`; here is its third round, and what becomes of frames that do not get through it. It decides nothing: whatever is
//! not as usual takes the common way of [`super::ipv6`], which would do the same. All of it comes at the end of the first round,
//! where bursts of IPv4 alone never come.

use weir_config::model::Forwarding;
use zerocopy::{FromBytes, IntoBytes};

use super::finding::Found;
use super::read6::Usual6;
use super::{Context, Director, Exit, Finding, Pass, write_link};
use crate::clock::Now;
use crate::conn::record::UsualKey;
use crate::conn::table::UsualRecords;
use crate::neighbor::{Hop6, Link, Links, Slot};
use crate::packet::{BURST, Burst, Frame, Wire};
use crate::parse::plain6::Plain6;
use crate::rewrite::plain6::{into_tunnel6, to_client, to_server};
use crate::snapshot::Snapshot;
use crate::snapshot::far::Far;
use crate::snapshot::server::{Server, Tally};
use crate::wire::encap::Encap;
use crate::wire::ethernet;
use crate::wire::ipv6::{self, MTU_MIN};

/// What the short way of IPv6 looks at besides frames, at hand for the length of a burst.
pub(super) struct Express6<'a> {
    records: UsualRecords<'a>,
    links: Links<'a, Hop6>,
    snapshot: &'a Snapshot,
    servers: &'a [Server],
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
            servers: snapshot.by_number(),
            now,
            worker: self.shared.worker,
            reply_hint: self.reply_hint6.get(),
        }
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

    /// Third round of usual frames. Returns where all of the burst go out, if all are ready and go out of one port.
    #[inline(never)]
    pub(super) fn make_ready6(
        &mut self,
        burst: &mut Burst<F>,
        findings: &mut [Finding],
        usual: &[Usual6],
        keys: &[UsualKey; BURST],
        context: Context<'_>,
    ) -> Option<Exit> {
        let mut exits = [None; BURST];
        let mut express = self.express6(context);
        for ((Usual6 { number, .. }, key), exit) in usual.iter().zip(keys).zip(&mut exits) {
            if let Some(frame) = burst.get_mut(usize::from(*number)) {
                *exit =
                    if key.is_reply() { express.reply(frame, *key) } else { express.request(frame, *key) };
            }
        }
        let out_of = |exit| exits.iter().map(|other| u16::from(*other == exit)).sum::<u16>();
        self.shared.counters.forwarded.add(BURST as u64 - u64::from(out_of(None)));
        let all = exits[0].filter(|exit| usize::from(out_of(Some(*exit))) == burst.len());
        if all.is_none() {
            for (Usual6 { number, .. }, exit) in usual.iter().zip(exits) {
                if let (Some(exit), Some(finding)) = (exit, findings.get_mut(usize::from(*number))) {
                    finding.set_ready(exit);
                }
            }
        }
        all
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
        let server = self.servers.get(record.server().index())?;
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
        let far = server.far.as_deref()?;
        let way = far.way.as_ref()?;
        let link = self.links.get(tally.neighbor.get(), way.hop, self.now)?;
        let (plain, _) = Plain6::mut_from_prefix(frame.bytes_mut()).ok()?;
        let total_len = plain.total_len();
        if total_len > server.mtu {
            return None;
        }
        match server.forwarding {
            Forwarding::Dr => {
                plain.ip.hop_limit -= 1;
                write_link(plain.as_mut_bytes(), link);
            }
            Forwarding::Nat => translate(plain, far, server.port, link)?,
            Forwarding::Tun => wrap(frame, server, far, link, &self.now)?,
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
            && server.usually_replies_from6(plain.ip.source.into(), plain.tcp.source.get(), record.port())
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

/// As [`to_server`]. Not inlined, as [`wrap`]: direct routing needs the registers.
#[inline(never)]
fn translate(plain: &mut Plain6, far: &Far, port: u16, link: &Link) -> Option<()> {
    to_server(plain, far.address, port)?;
    write_link(plain.as_mut_bytes(), link);
    Some(())
}

/// As [`into_tunnel6`]. Other tunnels than the plain one, and packets that are to be cut, take the common way.
#[inline(never)]
fn wrap<F: Frame>(frame: &mut F, server: &Server, far: &Far, link: &Link, now: &Now) -> Option<()> {
    // In a tunnel it exceeds what every way takes.
    const EXCEEDING: usize = ethernet::HEADER_LEN + MTU_MIN as usize - ipv6::HEADER_LEN;
    if server.encap != Encap::Ipip || frame.len() > EXCEEDING && server.live.is_narrow(*now) {
        return None;
    }
    into_tunnel6(frame, link, (far.way.as_ref()?.source, far.address))
}
