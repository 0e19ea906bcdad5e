//! ICMP errors about connections: rewritten as the packets they quote were.
//!
//! An error is never about the sender's own doing but about a packet that passed here before, so everything is read
//! from the quote. Addresses and ports in it are translated and its IP checksum mended; the quoted transport
//! checksum is left alone, as the kernel leaves it (it covers a pseudo-header that the reader can't check).

use std::net::Ipv6Addr;

use zerocopy::FromBytes;

use super::{ipv4_mut, ipv6_mut};
use crate::address::Addr4;
use crate::packet::{Frame, sum_over};
use crate::parse::{Packet, Quoted, v6};
use crate::stats::DropReason;
use crate::wire::checksum::{Delta, Sum};
use crate::wire::icmp6::{self, Icmp6};
use crate::wire::l4::{self, Icmp, Ports};

/// Which end of the quoted packet was ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The quoted packet went to the client: its source is translated.
    Source,
    /// The quoted packet went to the real server: its destination is translated.
    Destination,
}

/// Whether the checksum of the ICMP message is right.
pub fn checksum_is_right<F: Frame>(frame: &F, packet: &Packet) -> bool {
    let end = packet.end().min(frame.len());
    let pseudo = match v6::ends(frame.bytes(), packet.l3()) {
        Ok(ends) if packet.is_of_ipv6() => {
            let len = end.saturating_sub(packet.l4());
            icmp6::pseudo(&ends.source.octets(), &ends.destination.octets(), len)
        }
        _ => Sum::default(),
    };
    pseudo.behind(&[], sum_over(frame, packet.l4(), end)).fold() == 0xffff
}

/// Replaces one end of the quoted packet and brings the quoted IP checksum and the ICMP checksum up to date.
pub fn translate(
    bytes: &mut [u8],
    packet: &Packet,
    quoted: &Quoted,
    end: End,
    (address, port): (Addr4, u16),
) -> Result<(), DropReason> {
    // No byte behind the packet is changed: the checksum says nothing about it.
    let len = packet.end().min(bytes.len());
    let bytes = &mut bytes[..len];
    let header = ipv4_mut(bytes, quoted.l3)?;
    // What changes in the quoted addresses and in the quoted checksum cancels out in the sum over both.
    match end {
        End::Source => header.set_source(address),
        End::Destination => header.set_destination(address),
    };
    let l4 = bytes.get_mut(quoted.l4..).unwrap_or_default();
    let (ports, _) = Ports::mut_from_prefix(l4).map_err(|_| DropReason::Truncated)?;
    let delta: Delta = match end {
        End::Source => ports.set_source(port),
        End::Destination => ports.set_destination(port),
    };
    let icmp = bytes.get_mut(packet.l4()..).unwrap_or_default();
    let (icmp, _) = Icmp::mut_from_prefix(icmp).map_err(|_| DropReason::Truncated)?;
    icmp.checksum = delta.apply(icmp.checksum);
    Ok(())
}

/// As [`translate`], of an ICMPv6 error. No header of IPv6 has a checksum, so the message's says all.
pub fn translate6(
    bytes: &mut [u8],
    packet: &Packet,
    quoted: &Quoted,
    end: End,
    (address, port): (Ipv6Addr, u16),
) -> Result<(), DropReason> {
    let len = packet.end().min(bytes.len());
    let bytes = &mut bytes[..len];
    let header = ipv6_mut(bytes, quoted.l3)?;
    let addresses = match end {
        End::Source => header.set_source(address),
        End::Destination => header.set_destination(address),
    };
    let l4 = bytes.get_mut(quoted.l4..).unwrap_or_default();
    let (ports, _) = Ports::mut_from_prefix(l4).map_err(|_| DropReason::Truncated)?;
    let ports = match end {
        End::Source => ports.set_source(port),
        End::Destination => ports.set_destination(port),
    };
    let icmp = bytes.get_mut(packet.l4()..).unwrap_or_default();
    let (icmp, _) = Icmp6::mut_from_prefix(icmp).map_err(|_| DropReason::Truncated)?;
    icmp.checksum = ports.apply(addresses.apply(icmp.checksum));
    Ok(())
}

/// Has an ICMPv6 error come from `source`.
pub fn set_source6(bytes: &mut [u8], packet: &Packet, source: Ipv6Addr) -> Result<(), DropReason> {
    let addresses = ipv6_mut(bytes, packet.l3())?.set_source(source);
    let icmp = bytes.get_mut(packet.l4()..).unwrap_or_default();
    let (icmp, _) = Icmp6::mut_from_prefix(icmp).map_err(|_| DropReason::Truncated)?;
    icmp.checksum = addresses.apply(icmp.checksum);
    Ok(())
}

/// Offset of the packet that an ICMP error in `packet` quotes.
pub fn quote_offset(packet: &Packet) -> usize {
    packet.l4() + l4::ICMP_LEN
}
