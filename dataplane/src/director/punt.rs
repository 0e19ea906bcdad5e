//! Frames for control: which they are, handing them over, and sending what control has to send.

use super::{Context, Director, Passed};
use crate::packet::{Frame, Wire};
use crate::parse::Packet;
use crate::punt::{Owner, class};
use crate::snapshot::Snapshot;
use crate::stats::{DropReason, PuntClass};
use crate::wire::ethernet::FRAME_LEN_MIN;

impl<F: Frame> Director<F> {
    /// Whether an IPv4 packet that is neither a request nor a reply is for control, and as what.
    pub(super) fn punted_class(&self, frame: &F, packet: &Packet, context: Context<'_>) -> Option<PuntClass> {
        let port = &context.snapshot.ports[context.port];
        if port.has_vrrp && self.punt.is_connected(Owner::Vrrp) {
            return class::vrrp(frame.bytes(), packet, port);
        }
        None
    }

    /// A frame that the data path would drop: it may be for control. `packet` holds the packet if the reason is its MAC.
    #[cold]
    pub(super) fn punt_or_drop<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        reason: DropReason,
        context: Context<'_>,
        wire: &mut W,
    ) -> Passed<F> {
        let port = &context.snapshot.ports[context.port];
        let class = match reason {
            DropReason::ForeignMac => self.punted_class(&frame, packet, context),
            DropReason::EtherType if port.has_vrrp && self.punt.is_connected(Owner::Vrrp) => {
                class::vrrp_v6(frame.bytes(), port)
            }
            _ => None,
        };
        match class {
            Some(class) => self.hand_over(frame, class, context, wire),
            None => Err((frame, reason)),
        }
    }

    /// Gives control a copy of a frame and ends it.
    pub(super) fn hand_over<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        class: PuntClass,
        context: Context<'_>,
        wire: &mut W,
    ) -> Passed<F> {
        let offered = if frame.is_contiguous() {
            self.punt.offer(class, context.port, frame.bytes(), context.now)
        } else {
            Err(DropReason::TooBig)
        };
        match offered {
            Ok(()) => {
                self.shared.counters.punt(class);
                wire.release(frame);
                Ok(())
            }
            Err(reason) => {
                self.shared.counters.punt_dropped(class);
                Err((frame, reason))
            }
        }
    }

    /// Sends what control has to send, so many frames at most. Called once a pass; costs a load for each channel when
    /// there is nothing. Returns whether there was something.
    #[inline]
    pub fn inject<W: Wire<Frame = F>>(&mut self, snapshot: &Snapshot, wire: &mut W) -> bool {
        let is_due = self.punt.has_injected();
        if is_due {
            self.send_injected(snapshot, wire);
        }
        is_due
    }

    #[cold]
    fn send_injected<W: Wire<Frame = F>>(&mut self, snapshot: &Snapshot, wire: &mut W) {
        let counters = &self.shared.counters;
        for (owner, reader, per_pass) in self.punt.injected() {
            for _ in 0..per_pass {
                let Some((head, len)) = reader.peek() else { break };
                let port = usize::from(head.port);
                let room = wire.allocate().filter(|_| port < snapshot.ports.len());
                let Some(mut frame) = room else {
                    reader.skip(len);
                    counters.dropped(DropReason::NoBuffer);
                    continue;
                };
                if !frame.resize(len.max(FRAME_LEN_MIN)) {
                    reader.skip(len);
                    counters.dropped(DropReason::NoBuffer);
                    wire.release(frame);
                    continue;
                }
                let (bytes, padding) = frame.bytes_mut().split_at_mut(len);
                reader.pop(bytes);
                padding.fill(0);
                counters.inject(owner, 1);
                wire.transmit(port, frame);
            }
        }
    }
}
