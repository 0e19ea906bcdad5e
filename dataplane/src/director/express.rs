//! The short way of most packets: one more of a TCP or UDP connection that is known, goes on as it is, and whose real
//! server's MAC is at hand.
//!
//! It decides nothing: whatever is not as usual takes the common way of [`super::Director::request`], which would do
//! with these packets exactly the same (a test holds the two against each other). It is here because it is fast: what
//! it needs of a frame was looked at in the first round, it has no branch that a processor can't guess, and it can't
//! panic, so that the compiler has nothing to keep in memory for that case.

use weir_config::model::Forwarding;
use zerocopy::{FromBytes, IntoBytes};

use super::idents::Idents;
use super::{Context, Director, Exit, write_link};
use crate::clock::Now;
use crate::conn::record::UsualKey;
use crate::conn::table::UsualRecords;
use crate::neighbor::{Hop, Link, Links, Slot};
use crate::packet::Frame;
use crate::parse::Plain;
use crate::rewrite::plain::{Ends, encapsulate, into_tunnel, to_client, to_server};
use crate::snapshot::Snapshot;
use crate::snapshot::server::{Server, Tally};
use crate::wire::encap::Encap;

/// What the short way looks at besides frames, at hand for the length of a burst.
pub(super) struct Express<'a> {
    records: UsualRecords<'a>,
    links: Links<'a>,
    snapshot: &'a Snapshot,
    now: Now,
    worker: usize,
    reply_hint: Slot,
    idents: &'a mut Idents,
    #[cfg(test)]
    is_closed: bool,
}

impl<F: Frame> Director<F> {
    /// The short way, for a burst.
    #[inline(always)]
    pub(super) fn express<'a>(&'a mut self, Context { snapshot, now, .. }: Context<'a>) -> Express<'a> {
        Express {
            records: self.table.usual_records(now.seconds),
            links: self.neighbors.links(),
            snapshot,
            now,
            worker: self.shared.worker,
            reply_hint: self.reply_hint.get(),
            idents: &mut self.idents,
            #[cfg(test)]
            is_closed: self.no_express,
        }
    }
}

impl Express<'_> {
    /// Makes a usual frame from a client ready for its real server. Returns where it goes out, or `None` if
    /// nothing was done; or if a tunnel's header finds no room, which it finds on the common way no more than here.
    ///
    /// It is asked about every frame that is no usual reply, also about those that have no key: telling them apart would be a branch
    /// more for each frame. What makes that safe is [`UsualKey::NONE`], which stands for their key: with it
    /// [`UsualRecords::go_on`] refuses every record, and nothing before that writes anything or looks at the frame. So keep it the
    /// first step that may do either; one that has to stand before it must ask `key.is_some()`.
    #[inline(always)]
    pub(super) fn request<F: Frame>(&mut self, frame: &mut F, key: UsualKey) -> Option<Exit> {
        #[cfg(test)]
        if self.is_closed {
            return None;
        }
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

    /// Makes a usual frame ready for the real server of its connection, and counts it. Returns where it goes out, or `None`
    /// if nothing was done.
    #[inline(always)]
    pub(super) fn make_ready<F: Frame>(
        &mut self,
        frame: &mut F,
        server: &Server,
        tally: &Tally,
    ) -> Option<Exit> {
        let (plain, _) = Plain::mut_from_prefix(frame.bytes_mut()).ok()?;
        let total_len = plain.ip.total_len.get();
        if total_len > server.mtu {
            return None;
        }
        let link = self.links.get(tally.neighbor.get(), server.hop, self.now)?;
        match server.forwarding {
            Forwarding::Dr => {
                plain.ip.decrement_ttl();
                write_link(plain.as_mut_bytes(), link);
            }
            Forwarding::Nat => {
                to_server(plain, server.address, server.port)?;
                write_link(plain.as_mut_bytes(), link);
            }
            Forwarding::Tun => wrap(frame, server, link, self.snapshot, self.idents)?,
        }
        tally.in_packets.add(1);
        tally.in_bytes.add(u64::from(total_len));
        Exit::new(server.hop.port())
    }

    /// Makes a usual frame from a NAT real server ready for its client; as [`Express::request`] otherwise. Connections of
    /// other workers, and those on templates, take the common way. `key` by reference: by value it would be copied for each call.
    #[inline(never)]
    pub(super) fn reply<F: Frame>(&mut self, frame: &mut F, key: &UsualKey) -> Option<Exit> {
        #[cfg(test)]
        if self.is_closed {
            return None;
        }
        let snapshot = self.snapshot;
        let (slot, record) = self.records.find_reply(*key)?;
        let server = snapshot.get_server(record.server())?;
        let (plain, _) = Plain::mut_from_prefix(frame.bytes_mut()).ok()?;
        let (source, source_port) = (plain.ip.source.get(), plain.tcp.source.get());
        let is_its = server.forwarding == Forwarding::Nat
            && server.usually_replies_from(source, source_port, record.port())
            && !record.is_templated();
        if !is_its {
            return None;
        }
        let vip = snapshot.vips.address(record.vip())?;
        let hop = snapshot.routes.next_hop(plain.ip.destination.get())?;
        let total_len = plain.ip.total_len.get();
        if total_len > snapshot.ports.get(hop.port)?.mtu {
            return None;
        }
        let hop = Hop::new(hop, 0);
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

/// As [`into_tunnel`]. Not inlined: the other methods need the registers.
#[inline(never)]
fn wrap<F: Frame>(
    frame: &mut F,
    server: &Server,
    link: &Link,
    snapshot: &Snapshot,
    idents: &mut Idents,
) -> Option<()> {
    if server.encap != Encap::Ipip {
        return wrap_otherwise(frame, server, link, snapshot, idents);
    }
    into_tunnel(frame, link, ends(server, snapshot, idents))
}

/// As [`encapsulate`]. Not inlined, and with the arguments of [`wrap`]: it needs more registers, and so a jump leads here.
#[inline(never)]
fn wrap_otherwise<F: Frame>(
    frame: &mut F,
    server: &Server,
    link: &Link,
    snapshot: &Snapshot,
    idents: &mut Idents,
) -> Option<()> {
    encapsulate(frame, link, server.encap, ends(server, snapshot, idents))
}

#[inline(always)]
fn ends(server: &Server, snapshot: &Snapshot, idents: &mut Idents) -> Ends {
    let ident = idents.next4();
    let (source, destination) = (server.tunnel_source, server.address);
    Ends { source, destination, keep_df: snapshot.switches.pmtu_disc, ident }
}
