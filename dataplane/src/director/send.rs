//! The last steps of a packet: its next hop, and cutting it when it is larger than the way out allows.

use arrayvec::ArrayVec;

use super::{Context, Director, Pass, Passed, write_link};
use crate::neighbor::{AnyHop, Hop, Hop6, NextHop, Resolution};
use crate::packet::{Frame, Wire};
use crate::parse::Packet;
use crate::reply::{arp, nd};
use crate::rewrite::{far, fragment};
use crate::snapshot::far::Way6;
use crate::snapshot::server::{Gauge, Server};
use crate::stats::{Answer, DropReason, WorkerCounters};
use crate::wire::ethernet::{MacAddress, Vlan};

impl<F: Frame> Director<F> {
    /// Writes the MACs and sends, or lets the frame wait for its next hop. `hint` is where that is cached.
    pub(super) fn send<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        vlan: Vlan,
        hint: &Gauge,
        hop: Hop,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let context = pass.context;
        self.send_known(frame, vlan, hint, hop, || known(hop, context), pass)
    }

    /// As [`Director::send`], to a real server, whose binding is at hand: after a reload that changes bindings all of them are
    /// looked up anew, and a map of thousands would be in no cache.
    pub(super) fn send_to_server<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        vlan: Vlan,
        (server, hint): (&Server, &Gauge),
        hop: Hop,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        self.send_known(frame, vlan, hint, hop, || (true, server.bound), pass)
    }

    /// As [`Director::send`]; whether the file names `hop`, and what it binds it to, is asked for only when its link is not
    /// known.
    #[inline]
    fn send_known<W: Wire<Frame = F>>(
        &mut self,
        mut frame: F,
        vlan: Vlan,
        hint: &Gauge,
        hop: Hop,
        known: impl FnOnce() -> (bool, Option<MacAddress>),
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        match self.neighbors.links().get(hint.get(), hop, pass.context.now) {
            Some(link) => {
                write_link(frame.bytes_mut(), link);
                self.shared.counters.forwarded.add(1);
                pass.wire.transmit(usize::from(hop.port()), frame);
                Ok(())
            }
            None => {
                let forwarded = |counters: &WorkerCounters| counters.forwarded.add(1);
                self.resolve_and_send(frame, vlan, hint, (hop, known(), forwarded), pass)
            }
        }
    }

    /// As [`Director::send`], of what weir has made of a packet. It is counted as this answer; only if it has to wait for
    /// its next hop, as whatever comes of that.
    #[cold]
    pub(super) fn send_made<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        vlan: Vlan,
        hop: Hop,
        answer: Answer,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let answered = |counters: &WorkerCounters| counters.answer(answer);
        let known = known(hop, pass.context);
        self.resolve_and_send(frame, vlan, &Gauge::default(), (hop, known, answered), pass)
    }

    /// As [`Director::send`], when the hint does not lead to a next hop that is known to be there. `count` is for a frame that
    /// is sent at once.
    #[cold]
    fn resolve_and_send<W: Wire<Frame = F>>(
        &mut self,
        mut frame: F,
        vlan: Vlan,
        hint: &Gauge,
        (hop, known, count): (Hop, (bool, Option<MacAddress>), impl FnOnce(&WorkerCounters)),
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        if is_taken_by_vlans(hop, pass.context) {
            return Err((frame, DropReason::Vlan));
        }
        let port = usize::from(hop.port());
        let (slot, resolution) = self.neighbors.resolve(hint.get(), hop, known, pass.context.now);
        hint.set(slot);
        let passed = match resolution {
            Resolution::To(link) => {
                write_link(frame.bytes_mut(), &link);
                count(&self.shared.counters);
                pass.wire.transmit(port, frame);
                Ok(())
            }
            Resolution::Wait { ask } => {
                if ask && arp::request(pass.wire, pass.context.snapshot, (port, vlan), hop.address(), None) {
                    self.shared.counters.arp_requests.add(1);
                }
                self.neighbors.wait(slot, frame)
            }
            Resolution::Drop(reason) => Err((frame, reason)),
        };
        self.drop_spilled(pass.wire);
        passed
    }

    /// Sends a packet to a real server of IPv6, in pieces of at most so many bytes if it is too big for the way, or lets it wait for
    /// its next hop.
    #[cold]
    pub(super) fn send_to_far<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        (hint, way, bound): (&Gauge, Way6, Option<MacAddress>),
        pieces: Option<u16>,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let hop = way.hop.on(packet.vlan.network());
        let forwarded = |counters: &WorkerCounters| counters.forwarded.add(1);
        let Some(mtu) = pieces else {
            return self.resolve_and_send6(frame, packet.vlan, hint, (hop, (true, bound), forwarded), pass);
        };
        let mtu = usize::from(mtu);
        let mut pieces = Pieces::<F>::new();
        let cut =
            far::cut(&frame, packet.l3(), (mtu, self.idents6.next()), pass.wire, |piece| pieces.push(piece));
        if let Err(reason) = cut {
            pieces.drain(..).for_each(|piece| pass.wire.release(piece));
            return Err((frame, reason));
        }
        for piece in pieces {
            let way = (hop, (true, bound), forwarded);
            let sent = self.resolve_and_send6(piece, packet.vlan, hint, way, pass);
            if let Err((piece, reason)) = sent {
                self.drop(piece, reason, pass.wire);
            }
        }
        pass.wire.release(frame);
        Ok(())
    }

    /// As [`Director::send_made`], to a next hop of IPv6.
    #[cold]
    pub(super) fn send_made6<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        vlan: Vlan,
        hop: Hop6,
        answer: Answer,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let answered = |counters: &WorkerCounters| counters.answer(answer);
        let snapshot = pass.context.snapshot;
        let known = (snapshot.routes.has_gateway6(hop), snapshot.binding6(hop));
        self.resolve_and_send6(frame, vlan, &Gauge::default(), (hop, known, answered), pass)
    }

    /// As [`Director::resolve_and_send`], to a next hop of IPv6.
    pub(super) fn resolve_and_send6<W: Wire<Frame = F>>(
        &mut self,
        mut frame: F,
        vlan: Vlan,
        hint: &Gauge,
        (hop, known, count): (Hop6, (bool, Option<MacAddress>), impl FnOnce(&WorkerCounters)),
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let Context { snapshot, now, .. } = pass.context;
        let port = usize::from(hop.port());
        if let Some(link) = self.neighbors6.links().get(hint.get(), hop, now) {
            write_link(frame.bytes_mut(), link);
            count(&self.shared.counters);
            pass.wire.transmit(port, frame);
            return Ok(());
        }
        if is_taken_by_vlans(hop, pass.context) {
            return Err((frame, DropReason::Vlan));
        }
        let (slot, resolution) = self.neighbors6.resolve(hint.get(), hop, known, now);
        hint.set(slot);
        let passed = match resolution {
            Resolution::To(link) => {
                write_link(frame.bytes_mut(), &link);
                count(&self.shared.counters);
                pass.wire.transmit(port, frame);
                Ok(())
            }
            Resolution::Wait { ask } => {
                if ask && nd::solicit(pass.wire, snapshot, (port, vlan), hop.address(), None) {
                    self.shared.counters.nd_solicitations.add(1);
                }
                self.neighbors6.wait(slot, frame)
            }
            Resolution::Drop(reason) => Err((frame, reason)),
        };
        self.drop_spilled(pass.wire);
        passed
    }

    /// Drops packets that waited for next hops which made room for others.
    pub(super) fn drop_spilled<W: Wire<Frame = F>>(&mut self, wire: &mut W) {
        while let Some(frame) = self.neighbors.take_spilled().or_else(|| self.neighbors6.take_spilled()) {
            self.drop(frame, DropReason::NeighborQueueFull, wire);
        }
    }

    /// As [`Director::send`], for a packet that exceeds the MTU and may be cut.
    #[cold]
    pub(super) fn send_in_pieces<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        hint: &Gauge,
        hop: Hop,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let mtu = usize::from(pass.context.snapshot.ports[usize::from(hop.port())].mtu);
        let pieces = match pieces_of(&frame, packet, mtu, pass.wire) {
            Ok(pieces) => pieces,
            Err(reason) => return Err((frame, reason)),
        };
        for piece in pieces {
            if let Err((piece, reason)) = self.send(piece, packet.vlan, hint, hop, pass) {
                self.drop(piece, reason, pass.wire);
            }
        }
        pass.wire.release(frame);
        Ok(())
    }
}

/// Whether a next hop is behind a tag on a device whose tags are its VLAN ports'.
fn is_taken_by_vlans(hop: impl AnyHop, Context { snapshot, .. }: Context<'_>) -> bool {
    hop.network() != 0 && snapshot.ports.get(usize::from(hop.port())).is_some_and(|port| port.has_vlans)
}

/// Whether the file names a next hop as a gateway, and what it binds it to.
pub(super) fn known(hop: Hop, Context { snapshot, .. }: Context<'_>) -> (bool, Option<MacAddress>) {
    let next = NextHop { port: usize::from(hop.port()), address: hop.address() };
    (snapshot.routes.has_gateway(next), snapshot.binding(hop))
}

/// What a frame is cut into.
type Pieces<F> = ArrayVec<F, { fragment::PIECES_MAX }>;

/// The packet in pieces of at most `mtu` bytes: all of them, or none and the reason.
pub(super) fn pieces_of<W: Wire>(
    frame: &W::Frame,
    packet: &Packet,
    mtu: usize,
    wire: &mut W,
) -> Result<Pieces<W::Frame>, DropReason> {
    let mut pieces = Pieces::new();
    match fragment::cut(frame, packet.l3(), mtu, wire, |piece| pieces.push(piece)) {
        Ok(()) => Ok(pieces),
        Err(reason) => {
            pieces.drain(..).for_each(|piece| wire.release(piece));
            Err(reason)
        }
    }
}
