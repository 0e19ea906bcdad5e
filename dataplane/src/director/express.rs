//! The short way of most packets: one more of a TCP or UDP connection that is known, goes on as it is, and whose real
//! server's MAC is at hand.
//!
//! It decides nothing: whatever is not as usual takes the common way of [`super::Director::request`], which would do
//! with these packets exactly the same (a test holds the two against each other). It is here because it is fast: what
//! it needs of a frame was looked at in the first round, it has no branch that a processor can't guess, and it can't
//! panic, so that the compiler has nothing to keep in memory for that case.

use weir_config::model::Forwarding;
use zerocopy::{FromBytes, IntoBytes};

use super::{Context, Director, write_link};
use crate::conn::record::UsualKey;
use crate::neighbor::{Hop, Link};
use crate::packet::Frame;
use crate::parse::Plain;
use crate::rewrite::plain::{into_tunnel, to_client, to_server};
use crate::snapshot::Snapshot;
use crate::snapshot::server::{Server, Tally};

impl<F: Frame> Director<F> {
    /// Makes a usual frame from a client ready for its real server. Returns the port to send it out of, or `None` if
    /// nothing was done; or if a tunnel's header finds no room, which it finds on the common way no more than here.
    #[inline(always)]
    pub(super) fn express(&mut self, frame: &mut F, key: UsualKey, context: Context<'_>) -> Option<u16> {
        #[cfg(test)]
        if self.no_express {
            return None;
        }
        let Context { snapshot, now, .. } = context;
        let (slot, record) = self.table.find_usual(key)?;
        let server = snapshot.get_server(record.server())?;
        if !server.is_present {
            return None;
        }
        let tally = server.tallies.get(self.shared.worker)?;
        let age = record.age(now.seconds);
        if age != 0 {
            if age > snapshot.lifetimes.of(record.protocol(), record.state()) {
                return None;
            }
            self.table.update(slot, record.touched(record.state(), now.seconds));
        }
        self.make_ready(frame, server, tally, context)
    }

    /// Makes a usual frame ready for the real server of its connection, and counts it. Returns the port to send it out of,
    /// or `None` if nothing was done.
    #[inline(always)]
    pub(super) fn make_ready(
        &mut self,
        frame: &mut F,
        server: &Server,
        tally: &Tally,
        context: Context<'_>,
    ) -> Option<u16> {
        let Context { snapshot, now, .. } = context;
        let (plain, _) = Plain::mut_from_prefix(frame.bytes_mut()).ok()?;
        let total_len = plain.ip.total_len.get();
        if total_len > server.mtu {
            return None;
        }
        let link = self.neighbors.link(tally.neighbor.get(), server.hop, now)?;
        match server.forwarding {
            Forwarding::Dr => {
                plain.ip.decrement_ttl();
                write_link(plain.as_mut_bytes(), link);
            }
            Forwarding::Nat => {
                to_server(plain, server.address, server.port)?;
                write_link(plain.as_mut_bytes(), link);
            }
            Forwarding::Tun => wrap(frame, server, link, snapshot, &mut self.ident)?,
        }
        tally.in_packets.add(1);
        tally.in_bytes.add(u64::from(total_len));
        Some(server.hop.port)
    }
}

impl<F: Frame> Director<F> {
    /// Makes a usual frame from a NAT real server ready for its client; as [`Director::express`] otherwise. Connections of
    /// other workers, and those on templates, take the common way.
    #[inline(never)]
    pub(super) fn express_reply(
        &mut self,
        frame: &mut F,
        key: UsualKey,
        context: Context<'_>,
    ) -> Option<u16> {
        #[cfg(test)]
        if self.no_express {
            return None;
        }
        let Context { snapshot, now, .. } = context;
        let (slot, record) = self.table.find_usual_reply(key)?;
        let server = snapshot.get_server(record.server())?;
        let (plain, _) = Plain::mut_from_prefix(frame.bytes_mut()).ok()?;
        let (source, source_port) = (plain.ip.source.get(), plain.tcp.source.get());
        let is_its = server.forwarding == Forwarding::Nat
            && server.replies_from(source, source_port, record.port())
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
        let link = self.neighbors.link(self.reply_hint.get(), hop, now)?;
        let tally = server.tallies.get(self.shared.worker)?;
        to_client(plain, vip, record.port())?;
        write_link(plain.as_mut_bytes(), link);
        if record.age(now.seconds) != 0 {
            self.table.update(slot, record.touched(record.state(), now.seconds));
        }
        // One that was removed counts no more, as in the kernel.
        if server.is_present {
            tally.out_packets.add(1);
            tally.out_bytes.add(u64::from(total_len));
        }
        Some(hop.port)
    }
}

/// As [`into_tunnel`]. Not inlined: the other methods need the registers.
#[inline(never)]
fn wrap<F: Frame>(
    frame: &mut F,
    server: &Server,
    link: &Link,
    snapshot: &Snapshot,
    ident: &mut u16,
) -> Option<()> {
    *ident = ident.wrapping_add(1);
    let ends = (server.tunnel_source, server.address);
    into_tunnel(frame, link, ends, snapshot.switches.pmtu_disc, *ident)
}
