//! Lowers the largest segment that a SYN announces, for virtual servers that ask for it (`clamp_mss`).
//!
//! What an end announces is how much it takes, so it bounds what the other end sends: a client's SYN bounds the real server's
//! segments, and the real server's SYN/ACK, which comes by here with NAT alone, the client's.

use std::net::Ipv6Addr;

use weir_config::model::{ClampMss, Forwarding};

use super::{Context, Director};
use crate::address::Addr4;
use crate::conn::record::ServiceId;
use crate::packet::Frame;
use crate::parse::Packet;
use crate::parse::v6::{self, Ends6};
use crate::rewrite::mss::clamp;
use crate::snapshot::server::Server;
use crate::snapshot::{Ends, Origin, protocol};
use crate::wire::{ipv4, ipv6, l4};

impl<F: Frame> Director<F> {
    /// Of a client's SYN, before it is rewritten for its real server.
    #[cold]
    #[inline(never)]
    pub(super) fn clamp_request(
        &self,
        frame: &mut F,
        packet: &Packet,
        server: &Server,
        context: Context<'_>,
    ) {
        let Some(how) = clamp_of(server.service, context) else { return };
        // Replies that don't come by here go ways that nobody knows.
        let back = match server.forwarding {
            Forwarding::Nat => mtu_to(End::Source, frame, packet, context),
            Forwarding::Dr | Forwarding::Tun => None,
        };
        self.clamp(frame, packet, how, [Some(server.mtu), back]);
    }

    /// Of a NAT real server's segment, before it is rewritten for its client.
    #[cold]
    #[inline(never)]
    pub(super) fn clamp_reply(
        &self,
        frame: &mut F,
        packet: &Packet,
        service: ServiceId,
        context: Context<'_>,
    ) {
        let Some(how) = clamp_of(service, context).filter(|_| packet.is_syn()) else { return };
        let ways = [End::Source, End::Destination].map(|end| mtu_to(end, frame, packet, context));
        self.clamp(frame, packet, how, ways);
    }

    /// As [`Director::clamp_reply`], of a connection without a record.
    #[cold]
    #[inline(never)]
    pub(super) fn clamp_stray(&self, frame: &mut F, packet: &Packet, origin: Origin, context: Context<'_>) {
        if !packet.is_syn() {
            return;
        }
        let ends = Ends {
            source: packet.destination,
            destination: origin.vip,
            destination_port: origin.port,
            protocol: packet.protocol,
        };
        let snapshot = context.snapshot;
        let target = protocol(packet.protocol).and_then(|protocol| match snapshot.address6(origin.vip) {
            Some(vip) => {
                let client = v6::ends(frame.bytes(), packet.l3()).ok()?.destination;
                snapshot.target6(&ends, Ends6 { source: client, destination: vip }, protocol)
            }
            None => Some(snapshot.target(&ends, protocol)?.target),
        });
        if let Some(target) = target {
            self.clamp_reply(frame, packet, target.service, context);
        }
    }

    fn clamp(&self, frame: &mut F, packet: &Packet, how: ClampMss, ways: [Option<u16>; 2]) {
        let limit = match how {
            ClampMss::To(limit) => limit,
            ClampMss::Auto => fitting(ways.into_iter().flatten(), packet.is_of_ipv6()),
        };
        if clamp(frame.bytes_mut(), packet, limit) {
            self.shared.counters.clamped.add(1);
        }
    }
}

/// An end of the packet that is under way.
#[derive(Clone, Copy)]
enum End {
    Source,
    Destination,
}

fn clamp_of(service: ServiceId, context: Context<'_>) -> Option<ClampMss> {
    context.snapshot.service(service)?.clamp_mss
}

/// The MTU of the port that packets to one end go out of.
fn mtu_to<F: Frame>(
    end: End,
    frame: &F,
    packet: &Packet,
    Context { snapshot, port, .. }: Context<'_>,
) -> Option<u16> {
    let exit = if packet.is_of_ipv6() {
        let ends = v6::ends(frame.bytes(), packet.l3()).ok()?;
        let to: Ipv6Addr = match end {
            End::Source => ends.source,
            End::Destination => ends.destination,
        };
        usize::from(snapshot.routes.back6(to, port)?.port())
    } else {
        let to: Addr4 = match end {
            End::Source => packet.source,
            End::Destination => packet.destination,
        };
        snapshot.routes.next_hop(to)?.port
    };
    Some(snapshot.ports.get(exit)?.mtu)
}

/// The largest segment without options (RFC 6691) that fits into packets of all these lengths, and that may be asked for.
fn fitting(mtus: impl Iterator<Item = u16>, is_of_ipv6: bool) -> u16 {
    let (mtu_min, header) = match is_of_ipv6 {
        // Every link takes that much (RFC 8200 section 5).
        true => (ipv6::MTU_MIN, ipv6::HEADER_LEN),
        false => (0, ipv4::HEADER_LEN),
    };
    let mtu = mtus.min().unwrap_or(u16::MAX).max(mtu_min);
    mtu.saturating_sub((header + l4::TCP_LEN) as u16).max(ClampMss::MIN)
}
