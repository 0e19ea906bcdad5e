//! ICMPv6 errors about tunnel packets of ours: what they quote, and what they mean to the client whose packet was inside.

use std::net::Ipv6Addr;

use weir_config::model::Family;
use zerocopy::FromBytes;

use super::Error;
use crate::address::Addr4;
use crate::parse::{Packet, Quoted};
use crate::snapshot::{Port, Snapshot};
use crate::wire::encap::{self, Encap, Flow};
use crate::wire::ethernet::Vlan;
use crate::wire::icmp6::{ICMPV6, Icmp6, kind};
use crate::wire::ipv6::{self, FRAGMENT_LEN, Fragment, Ipv6, MTU_MIN};

/// Whether a message of this kind may be an error about a packet of ours. A real server without its tunnel's device has a parameter
/// problem: it does not know what stands behind the outer header.
pub fn is_error(kind: u8) -> bool {
    matches!(kind, kind::UNREACHABLE | kind::TOO_BIG | kind::TIME_EXCEEDED | kind::PARAMETER_PROBLEM)
}

/// What a router or a real server says about a tunnel packet of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AboutTunnel {
    /// The message, as far as it matters where it stands; its addresses are not of IPv4.
    pub packet: Packet,
    /// The real server that the tunnel leads to.
    pub server: Ipv6Addr,
    /// The tunnel.
    pub encap: Encap,
    /// Of what family the client's packet in it is.
    pub family: Family,
    /// Offset of the client's packet in the frame.
    pub inner: usize,
    /// Length of the tunnel packet, as its header has it.
    outer_len: u32,
    /// The port that it came from, if its tunnel has ports.
    from: u16,
    told: Icmp6,
}

impl AboutTunnel {
    /// Reads a message whose checksum is right, at offset `l4` of a frame, behind this header. `None`: it is about nothing of ours,
    /// or says nothing that a client has to know.
    pub fn read(bytes: &[u8], vlan: Vlan, (header, l4): (&Ipv6, usize), snapshot: &Snapshot) -> Option<Self> {
        let l3 = vlan.header_len();
        let end = l3 + ipv6::HEADER_LEN + usize::from(header.payload_len.get());
        let (told, quote) = Icmp6::ref_from_prefix(bytes.get(l4..end)?).ok()?;
        let is_said = is_error(told.kind);
        let (outer, behind) = Ipv6::ref_from_prefix(quote).ok()?;
        let source = Ipv6Addr::from(outer.source);
        // Whoever notices tells the sender.
        let is_ours = outer.version() == 6
            && outer.source == header.destination
            && snapshot.ports.iter().any(|port: &Port| port.has_address6(source));
        if !is_said || !is_ours {
            return None;
        }
        let (protocol, behind, before) = match outer.next_header {
            ipv6::FRAGMENT => {
                let (piece, rest) = Fragment::ref_from_prefix(behind).ok()?;
                // What a later piece quotes lies somewhere in the client's packet.
                (piece.offset_flags.get() & !7 == 0).then_some((piece.next_header, rest, FRAGMENT_LEN))?
            }
            protocol => (protocol, behind, 0),
        };
        let (encap, family, shim) = Encap::read(protocol, behind)?;
        let packet = Packet {
            vlan,
            l3: l3 as u8,
            l4: u8::try_from(l4).ok()?,
            protocol: ICMPV6,
            flags: told.kind,
            total_len: (ipv6::HEADER_LEN as u16).checked_add(header.payload_len.get())?,
            source_port: 0,
            destination_port: 0,
            source: Addr4::UNSPECIFIED,
            destination: Addr4::UNSPECIFIED,
        };
        let inner = l4 + size_of::<Icmp6>() + ipv6::HEADER_LEN + before + shim;
        let outer_len = (ipv6::HEADER_LEN + usize::from(outer.payload_len.get())) as u32;
        let (server, from) = (outer.destination.into(), encap::source_of(behind));
        Some(Self { packet, server, encap, family, inner, outer_len, from, told: *told })
    }

    /// Whether the packet that it is about came from the port that such a tunnel gives this flow of the client's.
    pub fn is_of(&self, encap: Encap, flow: Flow) -> bool {
        encap.comes_from(flow, self.from)
    }

    /// Whether the way takes less than the client can make its packets, by a tunnel whose headers take so many bytes and whose first
    /// link takes `known`. Who tells of more than that, or of more than the packet had, says nothing; and every link of IPv6
    /// takes [`MTU_MIN`], so who tells of less is not believed (RFC 8201 section 4).
    pub fn is_narrow(&self, overhead: u16, known: u16, inner: &Quoted) -> bool {
        let mtu = self.told.rest.get();
        let is_news = mtu < u32::from(known).min(self.outer_len);
        let leaves_too_little = match self.family {
            Family::V4 => !inner.dont_fragment,
            Family::V6 => mtu < u32::from(MTU_MIN + overhead),
        };
        self.told.kind == kind::TOO_BIG && mtu >= u32::from(MTU_MIN) && is_news && leaves_too_little
    }

    /// What it means to the client, whose way is narrower by `overhead` bytes. Who tells an MTU that no link of IPv6 has is not
    /// believed (RFC 8200 section 5). RFC 2473 section 8.4: whatever is wrong with a tunnel is wrong with the host behind it,
    /// and the client can do nothing about a tunnel's hops or ports.
    pub fn to_client(&self, overhead: u16) -> Error {
        let least = match self.family {
            Family::V4 => 0,
            Family::V6 => MTU_MIN,
        };
        match self.told.kind {
            kind::TOO_BIG => {
                let mtu = self.told.rest.get().clamp(u32::from(MTU_MIN), u32::from(u16::MAX)) as u16;
                Error::fragmentation_needed((mtu - overhead).max(least))
            }
            _ => Error::HOST_UNREACHABLE,
        }
    }
}
