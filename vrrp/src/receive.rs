//! The rules by which an advertisement is accepted, in keepalived's order, so that counters mean the same on both sides.

use crate::auth::{Authentication, Sequence};
use crate::discard::Discard;
use crate::frame::{Packet, TTL, group};
use crate::machine::Heard;
use crate::packet::Version;
use crate::settings::Settings;

/// What an accepted advertisement says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) heard: Heard,
    /// Whether it lists our addresses and no others. If not that is reported and no more (RFC 9568 section 7.1).
    pub(crate) lists_ours: bool,
}

/// Judges a packet for the instance of its port, family and VRID.
///
/// # Errors
/// The first rule it breaks.
pub(crate) fn judge(
    settings: &Settings,
    sequence: &mut Sequence,
    packet: &Packet<'_>,
) -> Result<Accepted, Discard> {
    let message = &packet.message;
    let is_unicast = !settings.unicast_peers.is_empty();
    if packet.source == settings.source {
        return Err(Discard::OwnAddress);
    }
    if packet.ah.is_some() != matches!(settings.authentication, Authentication::Ah(_)) {
        return Err(Discard::AuthenticationType);
    }
    if message.version() != settings.version as u8 {
        return Err(Discard::Version);
    }
    if !message.has_right_length(settings.version) {
        return Err(Discard::Length);
    }
    // A peer may be some routers away.
    let ttls = if is_unicast { settings.ttl_min..=settings.ttl_max } else { TTL..=TTL };
    if !ttls.contains(&packet.ttl) {
        return Err(Discard::Ttl);
    }
    let interval = message.interval(settings.version);
    if settings.version == Version::V2 {
        authenticate(settings, sequence, packet, is_unicast)?;
        if interval != settings.interval {
            return Err(Discard::Interval);
        }
    }
    if !message.is_advertisement() {
        return Err(Discard::Type);
    }
    if !message.has_right_checksum(settings.version, packet.source, packet.destination) {
        return Err(Discard::Checksum);
    }
    if is_unicast == (packet.destination == group(settings.is_ipv6())) {
        return Err(Discard::Destination);
    }
    if is_unicast && !settings.unicast_peers.contains(&packet.source) {
        return Err(Discard::Peer);
    }
    // RFC 9568 section 7.1. After the authentication header, whose number an owner has to go on from.
    if settings.is_owner() {
        return Err(Discard::Owner);
    }
    let mut listed: Vec<_> = message.addresses().collect();
    let mut ours = settings.advertised().to_vec();
    listed.sort_unstable();
    ours.sort_unstable();
    let heard = Heard { priority: message.priority(), from: packet.source, interval };
    Ok(Accepted { heard, lists_ours: listed == ours })
}

fn authenticate(
    settings: &Settings,
    sequence: &mut Sequence,
    packet: &Packet<'_>,
    is_unicast: bool,
) -> Result<(), Discard> {
    settings.authentication.check_field(packet.message.authentication())?;
    match (settings.authentication, packet.ip, packet.ah) {
        (Authentication::Ah(key), Some(ip), Some(ah)) => {
            sequence.check(&key, ip, ah, packet.message.bytes(), is_unicast)
        }
        _ => Ok(()),
    }
}
