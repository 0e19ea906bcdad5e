//! Frames for control: which they are, handing them over, and sending what control has to send.
//!
//! With a host interface on its port, the host gets what is neither a virtual server's nor weir's own: everything to
//! the port's addresses, to addresses that weir does not know, IPv6, other protocols, and what goes to everybody on the
//! link. ARP for VIPs and the port's addresses is weir's to answer; what it learns from ARP goes to the host too.

use zerocopy::FromBytes;

use super::{Context, Director, Passed};
use crate::classify::Class;
use crate::clock::Now;
use crate::neighbor::Hop;
use crate::packet::{Frame, Wire};
use crate::parse::Packet;
use crate::punt::{Owner, class};
use crate::snapshot::Snapshot;
use crate::stats::{DropReason, PuntClass};
use crate::wire::ethernet::FRAME_LEN_MIN;
use crate::wire::ipv4::Ipv4;

impl<F: Frame> Director<F> {
    /// Whether an IPv4 packet to the port's MAC that is neither a request nor a reply is for control, and as what.
    pub(super) fn punted_class(
        &self,
        frame: &F,
        packet: &Packet,
        class: Class,
        context: Context<'_>,
    ) -> Option<PuntClass> {
        let vrrp = self.vrrp_class(frame, packet, context);
        if vrrp.is_some() {
            return vrrp;
        }
        let is_hosts = match class {
            Class::Echo | Class::Local => self.is_hosts(packet.destination, context),
            Class::Drop(DropReason::ForeignAddress) => true,
            _ => false,
        };
        let is_own_source = || context.snapshot.local(packet.source).is_some();
        if is_hosts && !is_own_source() { self.host_class(frame, context) } else { None }
    }

    fn vrrp_class(&self, frame: &F, packet: &Packet, context: Context<'_>) -> Option<PuntClass> {
        let port = &context.snapshot.ports[context.port];
        if port.has_vrrp && self.punt.is_connected(Owner::Vrrp) {
            class::vrrp(frame.bytes(), packet, port)
        } else {
            None
        }
    }

    /// Whether packets to `address` that no virtual server takes are the host's rather than weir's to answer.
    fn is_hosts(&self, address: u32, context: Context<'_>) -> bool {
        let snapshot = context.snapshot;
        let is_vip = snapshot.local(address).is_some_and(|local| local.is_vip);
        !is_vip || snapshot.ports[context.port].has_address(address)
    }

    /// What a frame for the host is taken for, if its port has a host interface.
    pub(super) fn host_class(&self, frame: &F, context: Context<'_>) -> Option<PuntClass> {
        let port = &context.snapshot.ports[context.port];
        let flows = self.punt.flows().filter(|_| port.has_host)?;
        Some(class::host(frame.bytes(), flows, context.now.cycles))
    }

    /// A frame that the data path would drop: it may be for control. `packet` holds the packet if the reason is its MAC,
    /// and the tag if the reason lies in an IPv4 packet.
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
        let vrrp = match reason {
            DropReason::ForeignMac => self.vrrp_class(&frame, packet, context),
            DropReason::EtherType if port.has_vrrp && self.punt.is_connected(Owner::Vrrp) => {
                class::vrrp_v6(frame.bytes(), port)
            }
            _ => None,
        };
        let is_hosts = || match (frame.bytes().first_chunk::<12>(), reason) {
            (Some(&[a, b, c, d, e, f, source, ..]), DropReason::ForeignMac | DropReason::EtherType) => {
                let to = [a, b, c, d, e, f];
                let is_to_port = reason == DropReason::EtherType && to == port.mac.0;
                source & 1 == 0 && (is_to_port || class::is_link_group(to))
            }
            (Some(macs), DropReason::Fragment) => {
                let header = frame.bytes().get(packet.vlan.header_len()..).unwrap_or_default();
                let is_hosts = |header: &Ipv4| self.is_hosts(header.destination.get(), context);
                macs.starts_with(&port.mac.0)
                    && macs[6] & 1 == 0
                    && Ipv4::ref_from_prefix(header).is_ok_and(|(header, _)| is_hosts(header))
            }
            _ => false,
        };
        let class = vrrp.or_else(|| if is_hosts() { self.host_class(&frame, context) } else { None });
        match class {
            Some(class) => self.hand_over(frame, class, context, wire),
            None => Err((frame, reason)),
        }
    }

    /// An ICMP error about no connection of weir's: it may be about one of the host's.
    pub(super) fn punt_stray_error<W: Wire<Frame = F>>(
        &mut self,
        passed: Passed<F>,
        packet: &Packet,
        context: Context<'_>,
        wire: &mut W,
    ) -> Passed<F> {
        match passed {
            Err((frame, DropReason::StrayIcmp)) if self.is_hosts(packet.destination, context) => {
                match self.host_class(&frame, context) {
                    Some(class) => self.hand_over(frame, class, context, wire),
                    None => Err((frame, DropReason::StrayIcmp)),
                }
            }
            passed => passed,
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
    pub fn inject<W: Wire<Frame = F>>(&mut self, snapshot: &Snapshot, now: Now, wire: &mut W) -> bool {
        let is_due = self.punt.has_injected();
        if is_due {
            self.send_injected(snapshot, now, wire);
        }
        is_due
    }

    #[cold]
    fn send_injected<W: Wire<Frame = F>>(&mut self, snapshot: &Snapshot, now: Now, wire: &mut W) {
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
                if owner == Owner::Host
                    && let Some(address) = class::asked_by_host(bytes)
                    && snapshot.local(address).is_none()
                {
                    // The answer teaches weir as well as the host.
                    self.neighbors.expect(Hop { address, port: head.port, network: 0 }, now);
                }
                counters.inject(owner, 1);
                wire.transmit(port, frame);
            }
        }
    }
}
