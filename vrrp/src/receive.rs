//! The rules by which an advertisement is accepted, in keepalived's order, so that counters mean the same on both sides.

use std::time::Duration;

use crate::auth::{Authentication, Sequence};
use crate::discard::Discard;
use crate::frame::{Packet, TTL, group};
use crate::machine::Heard;
use crate::packet::{Received, Version};
use crate::settings::Settings;
use crate::trailer::{Mode, Numbers, TRAILER_LEN};

/// What an accepted advertisement says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) heard: Heard,
    /// Whether it lists our addresses and no others. If not that is reported and no more (RFC 9568 section 7.1).
    pub(crate) lists_ours: bool,
    /// Whether it lacks a trailer that ours have, or would have.
    pub(crate) is_unsigned: bool,
}

/// What an instance has seen, against replay.
pub(crate) struct Seen<'a> {
    /// Of authentication headers.
    pub(crate) sequence: &'a mut Sequence,
    /// Of trailers.
    pub(crate) numbers: &'a mut Numbers,
    /// Since 1970.
    pub(crate) wall: Duration,
}

/// Judges a packet for the instance of its port, family and VRID.
///
/// # Errors
/// The first rule it breaks.
pub(crate) fn judge(
    settings: &Settings,
    seen: &mut Seen<'_>,
    packet: &Packet<'_>,
) -> Result<Accepted, Discard> {
    let (message, trailer) = match settings.trailers {
        Some(_) => packet.message.split(settings.version),
        None => (packet.message, None),
    };
    let message = &message;
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
        settings.authentication.check_field(message.authentication())?;
        authenticate(settings, seen.sequence, packet, is_unicast)?;
        if interval != settings.interval {
            return Err(Discard::Interval);
        }
    }
    if !message.is_advertisement() {
        return Err(Discard::Type);
    }
    // That of IPv6 covers the trailer.
    let summed_up = if settings.is_ipv6() { &packet.message } else { message };
    if !summed_up.has_right_checksum(settings.version, packet.source, packet.destination) {
        return Err(Discard::Checksum);
    }
    if is_unicast == (packet.destination == group(settings.is_ipv6())) {
        return Err(Discard::Destination);
    }
    if is_unicast && !settings.unicast_peers.contains(&packet.source) {
        return Err(Discard::Peer);
    }
    let is_unsigned = verify(settings, seen, packet, message, trailer)?;
    // RFC 9568 section 7.1. After the authentication header, whose number an owner has to go on from.
    if settings.is_owner() {
        return Err(Discard::Owner);
    }
    let mut listed: Vec<_> = message.addresses().collect();
    let mut ours = settings.advertised().to_vec();
    listed.sort_unstable();
    ours.sort_unstable();
    let heard = Heard { priority: message.priority(), from: packet.source, interval };
    Ok(Accepted { heard, lists_ours: listed == ours, is_unsigned })
}

/// Judges the trailer, once all is right that takes no key. Returns whether there should be one and is none.
fn verify(
    settings: &Settings,
    seen: &mut Seen<'_>,
    packet: &Packet<'_>,
    message: &Received<'_>,
    trailer: Option<&[u8; TRAILER_LEN]>,
) -> Result<bool, Discard> {
    let Some(trailers) = &settings.trailers else { return Ok(false) };
    let Some(trailer) = trailer else {
        return if trailers.mode == Mode::Enforce { Err(Discard::TrailerMissing) } else { Ok(true) };
    };
    let origin = settings.origin(packet.source);
    seen.numbers.check(trailers, &origin, message.bytes(), trailer, seen.wall)?;
    Ok(false)
}

fn authenticate(
    settings: &Settings,
    sequence: &mut Sequence,
    packet: &Packet<'_>,
    is_unicast: bool,
) -> Result<(), Discard> {
    match (settings.authentication, packet.ip, packet.ah) {
        (Authentication::Ah(key), Some(ip), Some(ah)) => {
            sequence.check(&key, ip, ah, packet.message.bytes(), is_unicast)
        }
        _ => Ok(()),
    }
}
