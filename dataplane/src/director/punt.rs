//! Frames for control: which they are, handing them over, and sending what control has to send.
//!
//! With a host interface on its port, the host gets what is neither a virtual server's nor weir's own: everything to
//! the port's addresses, to addresses that weir does not know, IPv6, other protocols, and what goes to everybody on the
//! link. ARP for VIPs and the port's addresses is weir's to answer; what it learns from ARP goes to the host too.

use weir_config::model::Forwarding;
use zerocopy::{FromBytes, IntoBytes};

use super::pieces::left_reason;
use super::{Context, Director, Pass, Passed};
use crate::address::Addr4;
use crate::classify::Class;
use crate::clock::Now;
use crate::conn::record::ServerId;
use crate::neighbor::{Hop, Hop6};
use crate::packet::{Frame, Wire};
use crate::parse::{self, Packet, parse, v6};
use crate::punt::headers::{self, Content};
use crate::punt::ring::FRAME_LEN_MAX;
use crate::punt::{Owner, class};
use crate::reply::nd;
use crate::snapshot::server::Gauge;
use crate::snapshot::{Ends, Port, Snapshot};
use crate::stats::{DropReason, PuntClass, WorkerCounters};
use crate::wire::ethernet::{self, Arp, FRAME_LEN_MIN, HEADER_LEN, MacAddress, Vlan};
use crate::wire::icmp6::{ICMPV6, kind};
use crate::wire::ipv4::Ipv4;

impl<F: Frame> Director<F> {
    /// Whether an IPv4 packet to the port's MAC that is neither a request nor a reply is for control, and as what.
    pub(super) fn punted_class(
        &self,
        bytes: &[u8],
        packet: &Packet,
        class: Class,
        context: Context<'_>,
    ) -> Option<PuntClass> {
        let vrrp = self.vrrp_class(bytes, packet, context);
        if vrrp.is_some() {
            return vrrp;
        }
        let is_hosts = match class {
            Class::Echo | Class::Local => self.is_hosts(packet.destination, context),
            Class::Drop(DropReason::ForeignAddress) => true,
            _ => false,
        };
        if !is_hosts {
            return None;
        }
        let class = self.host_class(bytes, context)?;
        match self.local_client(packet.source, context.snapshot) {
            None => Some(class),
            // A real server's answer to a check that went to the VIP; nobody else speaks for one.
            Some(local) => (local.is_vip && class == PuntClass::Established).then_some(class),
        }
    }

    fn vrrp_class(&self, bytes: &[u8], packet: &Packet, context: Context<'_>) -> Option<PuntClass> {
        let port = &context.snapshot.ports[context.port];
        if port.has_vrrp && self.punt.is_connected(Owner::Vrrp) {
            class::vrrp(bytes, packet, port)
        } else {
            None
        }
    }

    /// Whether packets to `address` that no virtual server takes are the host's rather than weir's to answer.
    fn is_hosts(&self, address: Addr4, context: Context<'_>) -> bool {
        let snapshot = context.snapshot;
        let is_vip = snapshot.local(address).is_some_and(|local| local.is_vip);
        let port = &snapshot.ports[context.port];
        let is_own6 = || snapshot.address6(address).is_some_and(|address| port.has_address6(address));
        !is_vip || port.has_address(address) || is_own6()
    }

    /// Whether a piece of a packet is the host's, which puts it together: to an own address, or to where no virtual server is.
    fn is_fragment_hosts(&self, bytes: &[u8], vlan: Vlan, context: Context<'_>) -> bool {
        let l3 = vlan.header_len();
        let port = &context.snapshot.ports[context.port];
        let Ok((header, _)) = Ipv4::ref_from_prefix(bytes.get(l3..).unwrap_or_default()) else {
            return false;
        };
        if header.version_ihl >> 4 == 4 {
            let destination = header.destination.get();
            let is_nobodys = || !context.snapshot.may_have_mark(destination);
            return self.is_hosts(destination, context) && (port.has_address(destination) || is_nobodys());
        }
        // A piece of IPv6 is read only where a virtual server may be.
        v6::ends(bytes, l3).is_ok_and(|ends| port.has_address6(ends.destination))
    }

    /// What a frame for the host is taken for, if its port has a host interface.
    pub(super) fn host_class(&self, bytes: &[u8], context: Context<'_>) -> Option<PuntClass> {
        let port = &context.snapshot.ports[context.port];
        let host = self.punt.host().filter(|_| port.has_host)?;
        Some(class::host(bytes, &host.flows, context.now.cycles))
    }

    /// A frame that the data path would drop: it may be for control. `packet` holds the packet if the reason is its MAC,
    /// and the tag if the reason lies in an IPv4 packet.
    #[cold]
    pub(super) fn punt_or_drop<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        reason: DropReason,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        if reason != DropReason::Fragment {
            return self.punt_or_drop_rest(frame, packet, reason, pass);
        }
        match self.take_piece(frame, pass.context.now.millis, pass) {
            Ok(passed) => passed,
            Err(frame) => {
                let reason = left_reason(&frame, packet.vlan, pass.context.snapshot);
                self.punt_or_drop_rest(frame, packet, reason, pass)
            }
        }
    }

    /// As [`Director::punt_or_drop`], of what is no piece of a virtual server's packet.
    pub(super) fn punt_or_drop_rest<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        packet: &Packet,
        reason: DropReason,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let port = &pass.context.snapshot.ports[pass.context.port];
        let (frame, reason) = match reason {
            DropReason::UnknownOption => return self.refuse(frame, packet.vlan, None, pass),
            DropReason::EtherType if pass.context.snapshot.has_ipv6() => match self.discovery(frame, pass) {
                Ok(passed) => return passed,
                Err(frame) if port.virtual_macs.is_for_another(frame.bytes()) => {
                    (frame, DropReason::VrrpBackup)
                }
                Err(frame) => (frame, reason),
            },
            _ => (frame, reason),
        };
        let vrrp = match reason {
            DropReason::ForeignMac => self.vrrp_class(frame.bytes(), packet, pass.context),
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
                macs.starts_with(&port.mac.0)
                    && macs[6] & 1 == 0
                    && self.is_fragment_hosts(frame.bytes(), packet.vlan, pass.context)
            }
            _ => false,
        };
        let class =
            vrrp.or_else(|| if is_hosts() { self.host_class(frame.bytes(), pass.context) } else { None });
        match class {
            Some(class) => self.hand_over(frame, class, pass),
            None => Err((frame, reason)),
        }
    }

    /// An ICMP error about no connection of weir's: it may be about one of the host's.
    pub(super) fn punt_stray_error<W: Wire<Frame = F>>(
        &mut self,
        passed: Passed<F>,
        packet: &Packet,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        match passed {
            Err((frame, DropReason::StrayIcmp)) if self.is_hosts(packet.destination, pass.context) => {
                match self.host_class(frame.bytes(), pass.context) {
                    Some(class) => self.hand_over(frame, class, pass),
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
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let Context { snapshot, now, port } = pass.context;
        let offered = if !frame.is_contiguous() {
            self.offer_long(&frame, class, pass.context)
        } else if class.owner() == Owner::Vrrp {
            let Port { mac, advertisers, .. } = &snapshot.ports[port];
            let share = advertisers.judge(class, *mac, frame.bytes());
            share.and_then(|share| self.punt.offer_advertisement(class, share, port, frame.bytes(), now))
        } else {
            self.punt.offer(class, port, frame.bytes(), now)
        };
        match offered {
            Ok(()) => {
                self.shared.counters.punt(class);
                pass.wire.release(frame);
                Ok(())
            }
            Err(reason) => {
                self.shared.counters.punt_dropped(class);
                Err((frame, reason))
            }
        }
    }

    /// Gives the host a copy of a frame that lies in several buffers. No message of VRRP does.
    #[cold]
    #[inline(never)]
    fn offer_long(&mut self, frame: &F, class: PuntClass, context: Context<'_>) -> Result<(), DropReason> {
        // It costs more to copy than to refuse.
        if !self.punt.has_limit_left(class, context.now) {
            return Err(DropReason::PuntRateLimited);
        }
        let mut copy = [0; FRAME_LEN_MAX];
        let Some(whole) = copy.get_mut(..frame.len()).filter(|_| class.owner() == Owner::Host) else {
            return Err(DropReason::LongFrame);
        };
        match frame.copy_to(0, whole) {
            true => self.punt.offer(class, context.port, whole, context.now),
            false => Err(DropReason::LongFrame),
        }
    }

    /// Whether control has something to send. Asked once a pass; costs a load for each channel.
    #[inline]
    pub fn has_injected(&self) -> bool {
        self.punt.has_injected()
    }

    /// Sends what control has to send, so many frames at most, unless it is too old at `now`.
    #[cold]
    pub fn inject<W: Wire<Frame = F>>(&mut self, snapshot: &Snapshot, now: Now, wire: &mut W) {
        for (way, (owner, per_pass)) in self.punt.ways_down().into_iter().enumerate() {
            for _ in 0..per_pass {
                let Some((head, len, reader)) = self.punt.next_injected(way) else { break };
                let port = usize::from(head.port);
                if now.cycles > head.cycles {
                    reader.skip(len);
                    self.shared.counters.dropped(DropReason::Stale);
                    continue;
                }
                let room = wire.allocate().filter(|_| port < snapshot.ports.len());
                let Some(mut frame) = room else {
                    reader.skip(len);
                    self.shared.counters.dropped(DropReason::NoBuffer);
                    continue;
                };
                if !frame.resize(len.max(FRAME_LEN_MIN)) {
                    reader.skip(len);
                    self.drop(frame, DropReason::NoBuffer, wire);
                    continue;
                }
                let (bytes, padding) = frame.bytes_mut().split_at_mut(len);
                reader.pop(bytes);
                padding.fill(0);
                self.shared.counters.inject(owner, 1);
                let pass = &mut Pass { context: Context { snapshot, now, port }, wire };
                match owner {
                    Owner::Host => self.send_for_host(frame, pass),
                    Owner::Vrrp if is_unaddressed(frame.bytes()) => self.address_and_send(frame, pass),
                    Owner::Vrrp => pass.wire.transmit(port, frame),
                }
            }
        }
    }

    /// Sends a packet of control's to its next hop, whose MAC control left to the worker.
    fn address_and_send<W: Wire<Frame = F>>(&mut self, frame: F, pass: &mut Pass<'_, W>) {
        if frame.bytes().get(12..14) == Some(&ethernet::TYPE_IPV6.to_be_bytes()) {
            return self.address_and_send6(frame, pass);
        }
        /// Where an untagged frame has the destination of its IPv4 packet.
        const DESTINATION: std::ops::Range<usize> = 30..34;
        let destination = frame.bytes().get(DESTINATION).and_then(|bytes| bytes.first_chunk::<4>());
        let routes = &pass.context.snapshot.routes;
        let next_hop = destination.and_then(|octets| routes.next_hop(Addr4::from(*octets)));
        let Some(next_hop) = next_hop else { return self.drop(frame, DropReason::NoRoute, pass.wire) };
        let hint = Gauge::default();
        let hop = Hop::new(next_hop, 0);
        if let Err((frame, reason)) = self.send(frame, Vlan::NONE, &hint, hop, pass) {
            self.drop(frame, reason, pass.wire);
        }
    }

    /// As [`Director::address_and_send`], of IPv6.
    fn address_and_send6<W: Wire<Frame = F>>(&mut self, frame: F, pass: &mut Pass<'_, W>) {
        let Context { snapshot, port, .. } = pass.context;
        let ends = v6::ends(frame.bytes(), HEADER_LEN);
        let hop =
            ends.ok().map(|ends| ends.destination).and_then(|peer| match peer.is_unicast_link_local() {
                true => Some(Hop6::at(peer, port as u16, 0)),
                false => snapshot.routes.next_hop6(peer),
            });
        let Some(hop) = hop else { return self.drop(frame, DropReason::NoRoute, pass.wire) };
        let forwarded = |counters: &WorkerCounters| counters.forwarded.add(1);
        let way = (hop, (true, snapshot.binding6(hop)), forwarded);
        if let Err((frame, reason)) = self.resolve_and_send6(frame, Vlan::NONE, &Gauge::default(), way, pass)
        {
            self.drop(frame, reason, pass.wire);
        }
    }

    /// A frame of the host: out of its port, unless it is a matter between the host and weir.
    fn send_for_host<W: Wire<Frame = F>>(&mut self, frame: F, pass: &mut Pass<'_, W>) {
        let Context { snapshot, now, port } = pass.context;
        let (vlan, content) = headers::read(frame.bytes());
        match content {
            _ if vlan.network() != 0 => {}
            Content::Arp(Arp::REQUEST, address) if address.is_of_ipv6() => {}
            Content::Arp(Arp::REQUEST, address) => match snapshot.local(address) {
                Some(local) if local.is_vip => {
                    self.tell_host_of_vip(&frame, vlan, pass.context);
                    return pass.wire.release(frame);
                }
                Some(_) => {}
                // The answer teaches weir as well as the host.
                None => self.neighbors.expect(Hop::at(address, port as u16, 0), now),
            },
            Content::Ip(ip) if (ip.protocol, ip.detail) == (ICMPV6, kind::SOLICITATION) => {
                if let Some(answer) = nd::tell_host(frame.bytes(), port, snapshot) {
                    // One that is lost is asked for again.
                    let _ = self.punt.offer(PuntClass::Neighbor, port, &answer, now);
                    return pass.wire.release(frame);
                }
            }
            Content::Ip(ip) => {
                let probed = self.punt.host().and_then(|host| host.probes.server(ip.source_port));
                if let Some(server) = probed {
                    if let Err((frame, reason)) = self.send_probe(frame, server, pass) {
                        self.drop(frame, reason, pass.wire);
                    }
                    return;
                }
            }
            _ => {}
        }
        pass.wire.transmit(port, frame);
    }

    /// The host asks who has a VIP: nobody on the wire does, weir has it.
    fn tell_host_of_vip(&mut self, frame: &F, vlan: Vlan, context: Context<'_>) {
        let mac = context.snapshot.ports[context.port].mac;
        let asked = frame.bytes().get(vlan.header_len()..).and_then(|bytes| Arp::ref_from_prefix(bytes).ok());
        let Some((asked, _)) = asked else { return };
        let mut answer = [0; HEADER_LEN + Arp::LEN];
        let arp = Arp::new(
            Arp::REPLY,
            (mac, asked.target.get()),
            (MacAddress(asked.sender_mac), asked.sender.get()),
        );
        let at = ethernet::write_header(&mut answer, mac, mac, Vlan::NONE, ethernet::TYPE_ARP);
        answer[at..].copy_from_slice(arp.as_bytes());
        // One that is lost is asked for again.
        let _ = self.punt.offer(PuntClass::ArpReply, context.port, &answer, context.now);
    }

    /// A check of one real server, as a client's packet: only to the virtual server that it belongs to.
    fn send_probe<W: Wire<Frame = F>>(
        &mut self,
        frame: F,
        server: ServerId,
        pass: &mut Pass<'_, W>,
    ) -> Passed<F> {
        let snapshot = pass.context.snapshot;
        let mut packet = Packet::default();
        let read = match parse(&frame, &mut packet) {
            parse::Content::Ipv4 => Ok(()),
            parse::Content::Ipv6 => self.read_probe6(&frame, &mut packet, snapshot),
            _ => Err(DropReason::BadIpHeader),
        };
        if let Err(reason) = read {
            return Err((frame, reason));
        }
        let server = snapshot.server(server);
        let Packet { source, destination, destination_port, protocol, .. } = packet;
        let ends = Ends { source, destination, destination_port, protocol };
        let asked = self.lookup(&ends, packet.source_port, snapshot);
        if !server.is_present || asked.is_none_or(|found| found.service != server.service) {
            return Err((frame, DropReason::NotServed));
        }
        // An ICMP error would go out to the wire: the host is told by its socket's time-out.
        if packet.total_len > server.mtu || server.forwarding == Forwarding::Nat {
            return Err((frame, DropReason::TooBig));
        }
        self.forward(frame, &packet, server, pass)
    }
}

/// Whether a frame holds an IP packet and no MAC to send it to.
fn is_unaddressed(frame: &[u8]) -> bool {
    frame.starts_with(&[0; 6]) && matches!(frame.get(12..14), Some([8, 0] | [0x86, 0xdd]))
}
