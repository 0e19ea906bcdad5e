//! The short way of most packets: one more of a TCP or UDP connection that is known, goes on as it is, and whose real
//! server's MAC is at hand.
//!
//! It decides nothing: whatever is not as usual takes the common way of [`super::Director::request`], which would do
//! with these packets exactly the same (a test holds the two against each other). It is here because it is fast.

use weir_config::model::Forwarding;
use zerocopy::FromBytes;

use super::{Context, Director, write_link};
use crate::classify::Lookup;
use crate::packet::Frame;
use crate::parse::{Packet, Plain};
use crate::rewrite;
use crate::wire::ethernet::FRAME_LEN_MIN;

impl<F: Frame> Director<F> {
    /// Makes a client's packet ready for its real server. Returns the port to send it out of, or `None` if nothing was
    /// done.
    #[inline(always)]
    pub(super) fn express(
        &mut self,
        frame: &mut F,
        packet: &Packet,
        lookup: &Lookup,
        context: Context<'_>,
    ) -> Option<usize> {
        #[cfg(test)]
        if self.no_express {
            return None;
        }
        let Context { snapshot, now, .. } = context;
        let (slot, record) = self.table.find(lookup.hash, lookup.key)?;
        let server = snapshot.server(record.server());
        let hop = server.hop;
        let tally = &server.live.workers[self.shared.worker];
        let link = self.neighbors.link(tally.neighbor.get(), hop, now)?;
        let fits = packet.total_len <= server.mtu
            && frame.len() <= (packet.l3() + usize::from(packet.total_len)).max(FRAME_LEN_MIN);
        let (plain, _) = Plain::mut_from_prefix(frame.bytes_mut()).ok()?;
        if !(packet.is_plain() && fits && server.is_present && plain.ip.ttl > 1) {
            return None;
        }
        if !record.goes_on(packet.flags) {
            return None;
        }
        let age = record.age(now.seconds);
        if age != 0 {
            if age > snapshot.lifetimes.of(record.protocol(), record.state()) {
                return None;
            }
            self.table.update(slot, record.touched(record.state(), now.seconds));
        }
        plain.ip.decrement_ttl();
        match server.forwarding {
            Forwarding::Dr => {}
            Forwarding::Nat => {
                rewrite::to_server(frame.bytes_mut(), packet, server.address, server.port).ok()?;
            }
            Forwarding::Tun => {
                self.ident = self.ident.wrapping_add(1);
                let ends = (server.tunnel_source, server.address);
                rewrite::into_tunnel(frame, packet, ends, snapshot.switches.pmtu_disc, self.ident).ok()?;
            }
        }
        write_link(frame.bytes_mut(), link);
        tally.in_packets.add(1);
        tally.in_bytes.add(u64::from(packet.total_len));
        Some(usize::from(hop.port))
    }
}
