//! Whose advertisements go up to VRRP's thread, and how many.
//!
//! ```text
//!  VRRP on the port -> unknown VRID, unknown unicast peer: dropped
//!                   -> looks as the instance's own routers send it -> the instance's share
//!                   -> does not: another version, password, TTL ... -> a small share, so that it is counted and logged
//! ```
//! Nothing here decides whether an advertisement is believed; VRRP's thread does, by all its rules. This keeps junk from
//! taking the place of what it has to hear. It can't tell forgeries that look right in every field: without an
//! authentication header nothing can, and behind one the thread can, but they share the instance's limit.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hashbrown::HashMap;
use weir_config::model::{Vrrp, VrrpAuthentication};

use crate::clock::Now;
use crate::limit::Bucket;
use crate::stats::{DropReason, PuntClass};
use crate::wire::ipv4;

/// Advertisements of one instance a second, and at once, that a worker passes on: one that advertises every 10 ms, and
/// others that answer it.
pub const SHARE: (u32, u32) = (400, 64);
/// The same of those that VRRP's thread will refuse. Enough to be counted, and logged once a minute.
const DOUBTFUL_SHARE: (u32, u32) = (100, 16);
/// Shares that a worker keeps. In a file with more instances than this some have one in common.
const SHARES: usize = 1_024;

/// TTL and hop limit of what was not forwarded.
const TTL: u8 = 255;
/// Bytes of a message before its addresses.
const FIXED_LEN: usize = 8;
/// Bytes of a password.
const PASSWORD_LEN: usize = 8;
/// Bytes of the authentication header.
const AH_LEN: usize = 24;
/// Places in a message.
const VRID_AT: usize = 1;
const AUTHENTICATION_AT: usize = 4;

/// The instances of a port. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Advertisers(Arc<HashMap<(bool, u8), Instance>>);

/// What the advertisements of an instance's routers look like.
#[derive(Debug)]
struct Instance {
    /// Its place in the file.
    place: usize,
    /// Version and type.
    kind: u8,
    /// None: they go to the group.
    peers: Box<[IpAddr]>,
    ttl: std::ops::RangeInclusive<u8>,
    authentication: Authentication,
}

#[derive(Debug, PartialEq, Eq)]
enum Authentication {
    /// Version 3 has none.
    None,
    /// Version 2: type and data.
    Field(u8, [u8; PASSWORD_LEN]),
    /// Version 2 behind a header, with an empty field of this type.
    Header(u8),
}

/// The part of a worker's limit that an advertisement takes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    instance: usize,
    is_doubtful: bool,
}

/// What of a frame is looked at.
struct Advertisement<'f> {
    source: IpAddr,
    ttl: u8,
    has_header: bool,
    message: &'f [u8],
}

impl Advertisers {
    /// The instances of a file on the port with this number.
    pub fn new(instances: &[Vrrp], port: usize) -> Self {
        let places = instances.iter().enumerate().filter(|(_, vrrp)| vrrp.port == port);
        let instance = |(place, vrrp): (usize, &Vrrp)| {
            let is_ipv6 = vrrp.addresses.first().is_some_and(IpAddr::is_ipv6);
            ((is_ipv6, vrrp.virtual_router_id), Instance::new(place, vrrp))
        };
        Self(Arc::new(places.map(instance).collect()))
    }

    /// What becomes of a frame of VRRP that came in on the port.
    ///
    /// # Errors
    /// It is of no router that an instance listens to.
    pub(crate) fn judge(&self, class: PuntClass, frame: &[u8]) -> Result<Share, DropReason> {
        let read = Advertisement::read(frame).ok_or(DropReason::VrrpUnknownRouter)?;
        let id = *read.message.get(VRID_AT).ok_or(DropReason::VrrpUnknownRouter)?;
        let instance = self.0.get(&(read.source.is_ipv6(), id)).ok_or(DropReason::VrrpUnknownRouter)?;
        let is_to_group = class == PuntClass::VrrpMulticast;
        if !is_to_group && !instance.peers.is_empty() && !instance.peers.contains(&read.source) {
            return Err(DropReason::VrrpUnknownPeer);
        }
        let is_doubtful = is_to_group != instance.peers.is_empty() || !instance.is_plausible(&read);
        Ok(Share { instance: instance.place % SHARES, is_doubtful })
    }
}

impl Instance {
    fn new(place: usize, vrrp: &Vrrp) -> Self {
        let padded = |text: &str| {
            let mut field = [0; PASSWORD_LEN];
            field.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
            field
        };
        let authentication = match &vrrp.authentication {
            _ if vrrp.version != 2 => Authentication::None,
            None => Authentication::Field(0, [0; PASSWORD_LEN]),
            Some(VrrpAuthentication::Pass(text)) => Authentication::Field(1, padded(text)),
            Some(VrrpAuthentication::Ah(_)) => Authentication::Header(2),
        };
        let is_unicast = !vrrp.unicast_peers.is_empty();
        Self {
            place,
            kind: vrrp.version << 4 | 1,
            peers: vrrp.unicast_peers.as_slice().into(),
            ttl: if is_unicast { vrrp.ttl_min..=vrrp.ttl_max } else { TTL..=TTL },
            authentication,
        }
    }

    /// Whether its own routers could have sent this.
    fn is_plausible(&self, read: &Advertisement<'_>) -> bool {
        let has_header = matches!(self.authentication, Authentication::Header(_));
        let is_known = match self.authentication {
            Authentication::None => true,
            Authentication::Header(kind) => read.message.get(AUTHENTICATION_AT) == Some(&kind),
            // What has no password in its field has anything there, by RFC 3768.
            Authentication::Field(0, _) => read.message.get(AUTHENTICATION_AT) == Some(&0),
            Authentication::Field(kind, data) => {
                read.message.get(AUTHENTICATION_AT) == Some(&kind)
                    && read.message.len() >= FIXED_LEN + PASSWORD_LEN
                    && read.message.ends_with(&data)
            }
        };
        is_known
            && read.message.first() == Some(&self.kind)
            && has_header == read.has_header
            && self.ttl.contains(&read.ttl)
    }
}

impl<'f> Advertisement<'f> {
    /// Of a frame of a [`PuntClass`] of VRRP, which is untagged but for a priority.
    fn read(frame: &'f [u8]) -> Option<Self> {
        const TAGGED: [u8; 2] = [0x81, 0];
        let packet = if frame.get(12..14)? == TAGGED { frame.get(18..)? } else { frame.get(14..)? };
        if packet.first()? >> 4 == 6 {
            let len = usize::from(u16::from_be_bytes([*packet.get(4)?, *packet.get(5)?]));
            let source = Ipv6Addr::from(*packet.get(8..24)?.first_chunk::<16>()?);
            let message = packet.get(40..40 + len)?;
            return Some(Self { source: source.into(), ttl: *packet.get(7)?, has_header: false, message });
        }
        let header_len = usize::from(packet.first()? & 0xf) * 4;
        let total_len = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
        let source = Ipv4Addr::from(*packet.get(12..16)?.first_chunk::<4>()?);
        let has_header = *packet.get(9)? == ipv4::AH;
        let message_at = header_len + if has_header { AH_LEN } else { 0 };
        let message = packet.get(message_at..total_len)?;
        Some(Self { source: source.into(), ttl: *packet.get(8)?, has_header, message })
    }
}

/// The shares of all instances, as one worker keeps them.
#[derive(Debug)]
pub(crate) struct Shares(Box<[[Bucket; 2]]>);

impl Default for Shares {
    fn default() -> Self {
        let share = |_| [Bucket::new(SHARE.0, SHARE.1), Bucket::new(DOUBTFUL_SHARE.0, DOUBTFUL_SHARE.1)];
        Self((0..SHARES).map(share).collect())
    }
}

impl Shares {
    /// Whether one more may go up; takes it.
    pub(crate) fn take(&mut self, share: Share, now: Now) -> bool {
        let buckets = self.0.get_mut(share.instance);
        buckets.is_some_and(|buckets| buckets[usize::from(share.is_doubtful)].take(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
[[port]]
name = "lan"
device = "x"
addresses = ["10.0.0.2/24"]
[[vrrp]]
name = "pass"
port = "lan"
virtual_router_id = 1
addresses = ["10.0.0.100"]
authentication = { type = "pass", password = "abc" }
[[vrrp]]
name = "ah"
port = "lan"
virtual_router_id = 2
addresses = ["10.0.0.101"]
authentication = { type = "ah", password = "abc" }
[[vrrp]]
name = "unicast"
port = "lan"
version = 3
virtual_router_id = 3
addresses = ["10.0.0.102"]
unicast_peers = ["10.0.0.3"]
ttl_min = 254
"#;

    fn frame(source: u8, ttl: u8, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        let len = (20 + payload.len()) as u8;
        frame.extend([
            8, 0, 0x45, 0, 0, len, 0, 0, 0, 0, ttl, protocol, 0, 0, 10, 0, 0, source, 224, 0, 0, 18,
        ]);
        frame.extend(payload);
        frame.resize(80, 0xaa);
        frame
    }

    fn v2(id: u8, kind: u8, data: [u8; 8]) -> Vec<u8> {
        [&[0x21, id, 100, 1, kind, 1, 0, 0, 10, 0, 0, 100], &data[..]].concat()
    }

    #[test]
    fn each_instance_has_a_share_and_junk_another() {
        let config = weir_config::parse("test", FILE).unwrap().config;
        let advertisers = Advertisers::new(&config.vrrp, 0);
        let group = |frame: Vec<u8>| advertisers.judge(PuntClass::VrrpMulticast, &frame);
        let unicast = |frame: Vec<u8>| advertisers.judge(PuntClass::VrrpUnicast, &frame);
        let share = |instance, is_doubtful| Ok(Share { instance, is_doubtful });
        let abc = *b"abc\0\0\0\0\0";
        assert_eq!(group(frame(9, 255, 112, &v2(1, 1, abc))), share(0, false));
        for junk in [
            frame(9, 255, 112, &v2(1, 1, *b"abd\0\0\0\0\0")),
            frame(9, 255, 112, &v2(1, 0, [0; 8])),
            frame(9, 254, 112, &v2(1, 1, abc)),
            frame(9, 255, 112, &[0x31, 1, 100, 1, 0, 100, 0, 0, 10, 0, 0, 100]),
            frame(9, 255, 112, &[0x21, 1]),
        ] {
            assert_eq!(group(junk), share(0, true));
        }
        assert_eq!(unicast(frame(9, 255, 112, &v2(1, 1, abc))), share(0, true));
        let ah = |kind| [&[0; 24][..], &v2(2, kind, [0; 8])].concat();
        assert_eq!(group(frame(9, 255, 51, &ah(2))), share(1, false));
        assert_eq!(group(frame(9, 255, 51, &ah(1))), share(1, true));
        assert_eq!(group(frame(9, 255, 112, &v2(2, 2, [0; 8]))), share(1, true));
        let v3 = [0x31, 3, 100, 1, 0, 100, 0, 0, 10, 0, 0, 102];
        assert_eq!(unicast(frame(3, 254, 112, &v3)), share(2, false));
        assert_eq!(unicast(frame(3, 253, 112, &v3)), share(2, true));
        assert_eq!(unicast(frame(4, 255, 112, &v3)), Err(DropReason::VrrpUnknownPeer));
        assert_eq!(group(frame(3, 255, 112, &v3)), share(2, true));
        assert_eq!(group(frame(9, 255, 112, &v2(4, 0, [0; 8]))), Err(DropReason::VrrpUnknownRouter));
        assert_eq!(group(frame(9, 255, 112, &[])), Err(DropReason::VrrpUnknownRouter));
        assert_eq!(group(vec![0; 20]), Err(DropReason::VrrpUnknownRouter));
        assert_eq!(
            Advertisers::default().judge(PuntClass::VrrpMulticast, &frame(9, 255, 112, &v2(1, 1, abc))),
            Err(DropReason::VrrpUnknownRouter)
        );
    }
}
