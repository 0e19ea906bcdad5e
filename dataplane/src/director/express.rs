//! The short way of most packets: one more of a TCP or UDP connection that is known, goes on as it is, and whose real
//! server's MAC is at hand.
//!
//! It decides nothing: whatever is not as usual takes the common way of [`super::Director::request`], which would do
//! with these packets exactly the same (a test holds the two against each other). It is here because it is fast.

use weir_config::model::Forwarding;
use zerocopy::{FromBytes, IntoBytes};

use super::{Context, Director, write_link};
use crate::classify::Lookup;
use crate::packet::Frame;
use crate::parse::Plain;
use crate::rewrite;
use crate::wire::ethernet::{FRAME_LEN_MIN, HEADER_LEN};

impl<F: Frame> Director<F> {
    /// Makes a plain frame from a client ready for its real server. Returns the port to send it out of, or `None` if
    /// nothing was done; or if a tunnel's header finds no room, which it finds on the common way no more than here.
    #[inline(always)]
    pub(super) fn express(&mut self, frame: &mut F, lookup: &Lookup, context: Context<'_>) -> Option<usize> {
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
        let frame_len = frame.len();
        let (plain, _) = Plain::mut_from_prefix(frame.bytes_mut()).ok()?;
        let total_len = plain.ip.total_len.get();
        let is_usual = server.is_present
            && record.goes_on(plain.flags())
            && plain.ip.ttl > 1
            && total_len <= server.mtu
            && frame_len <= (HEADER_LEN + usize::from(total_len)).max(FRAME_LEN_MIN);
        if !is_usual {
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
        if server.forwarding == Forwarding::Dr {
            write_link(plain.as_mut_bytes(), link);
        } else {
            let packet = plain.packet();
            if server.forwarding == Forwarding::Nat {
                rewrite::to_server(frame.bytes_mut(), &packet, server.address, server.port).ok()?;
            } else {
                self.ident = self.ident.wrapping_add(1);
                let ends = (server.tunnel_source, server.address);
                rewrite::into_tunnel(frame, &packet, ends, snapshot.switches.pmtu_disc, self.ident).ok()?;
            }
            write_link(frame.bytes_mut(), link);
        }
        tally.in_packets.add(1);
        tally.in_bytes.add(u64::from(total_len));
        Some(usize::from(hop.port))
    }
}
