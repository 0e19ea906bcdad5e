//! Whose advertisements go up to VRRP's thread, and how many.
//!
//! ```text
//!  VRRP on the port -> unknown VRID, unknown unicast peer: dropped
//!                   -> looks as the instance's own routers send it -> the instance's share
//!                   -> does not: version, length, checksum, TTL ... -> a small share, so that it is counted and logged
//! ```
//! Nothing here decides whether an advertisement is believed; VRRP's thread does, by all its rules. This keeps junk from
//! taking the place of what it has to hear: each of the thread's reasons to refuse is looked for here too, but for those
//! that need the key (the value of an authentication header or of a trailer), the time or what was heard before (their numbers). And what an owner
//! refuses only because it is one has the instance's share, since it answers that. Forgeries that look right in every field
//! can't be told: without an authentication header nothing can, and behind one the thread can, but they share the
//! instance's limit, from which the first to come takes: the more there are, the rarer a real one gets through.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hashbrown::HashMap;
use weir_config::model::{Config, Vrrp, VrrpAuthentication, VrrpHmacMode};

use crate::clock::Now;
use crate::limit::Bucket;
use crate::stats::{DropReason, PuntClass};
use crate::wire::checksum::Sum;
use crate::wire::ethernet::MacAddress;
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
/// Bytes of the trailer of `auth_hmac`, and its only type.
const TRAILER_LEN: usize = 28;
const TRAILER_KIND: u8 = 1;
/// Bytes of the authentication header.
const AH_LEN: usize = 24;
/// Its length field: words of 32 bits less two.
const AH_WORDS: u8 = 4;
/// Places in a message.
const VRID_AT: usize = 1;
const COUNT_AT: usize = 3;
const AUTHENTICATION_AT: usize = 4;
/// In version 2.
const INTERVAL_AT: usize = 5;

/// The instances of a port. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Advertisers(Arc<HashMap<(bool, u8), Instance>>);

/// What the advertisements of an instance's routers look like.
#[derive(Debug)]
struct Instance {
    /// Its place in the file.
    place: usize,
    /// Its family.
    is_ipv6: bool,
    /// Version and type.
    kind: u8,
    /// None: they go to the group.
    peers: Box<[IpAddr]>,
    ttl: std::ops::RangeInclusive<u8>,
    authentication: Authentication,
    /// What may stand behind the message.
    trailer: Trailer,
    /// Version 2: seconds, which have to be the same on all routers.
    interval: Option<u8>,
    /// The port's own addresses: no other router sends from them.
    own: Box<[IpAddr]>,
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

/// The trailer of `auth_hmac`.
#[derive(Debug, PartialEq, Eq)]
enum Trailer {
    None,
    /// With one of these keys, or there is none.
    Allowed(Box<[u8]>),
    /// With one of these keys.
    Demanded(Box<[u8]>),
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
    destination: IpAddr,
    ttl: u8,
    /// Of IPv4.
    has_options: bool,
    /// The authentication header.
    header: Option<&'f [u8; AH_LEN]>,
    /// Up to the packet's end; what the frame has behind it is padding.
    message: &'f [u8],
}

impl Advertisers {
    /// The instances of a file on the port with this number.
    pub fn new(config: &Config, port: usize) -> Self {
        let own: Box<[IpAddr]> =
            config.ports.get(port).into_iter().flat_map(|it| &it.addresses).map(|net| net.addr()).collect();
        let places = config.vrrp.iter().enumerate().filter(|(_, vrrp)| vrrp.port == port);
        let instance = |(place, vrrp): (usize, &Vrrp)| {
            let is_ipv6 = vrrp.addresses.first().is_some_and(IpAddr::is_ipv6);
            ((is_ipv6, vrrp.virtual_router_id), Instance::new(place, vrrp, own.clone()))
        };
        Self(Arc::new(places.map(instance).collect()))
    }

    /// What becomes of a frame of VRRP that came in on the port, which has this MAC.
    ///
    /// # Errors
    /// It is of no router that an instance listens to.
    pub(crate) fn judge(&self, class: PuntClass, mac: MacAddress, frame: &[u8]) -> Result<Share, DropReason> {
        let read = Advertisement::read(frame).ok_or(DropReason::VrrpUnknownRouter)?;
        let id = *read.message.get(VRID_AT).ok_or(DropReason::VrrpUnknownRouter)?;
        let instance = self.0.get(&(read.source.is_ipv6(), id)).ok_or(DropReason::VrrpUnknownRouter)?;
        let is_to_group = class == PuntClass::VrrpMulticast;
        if !is_to_group && !instance.peers.is_empty() && !instance.peers.contains(&read.source) {
            return Err(DropReason::VrrpUnknownPeer);
        }
        let is_doubtful = is_to_group != instance.peers.is_empty() || !instance.is_plausible(&read, mac);
        Ok(Share { instance: instance.place % SHARES, is_doubtful })
    }
}

impl Instance {
    fn new(place: usize, vrrp: &Vrrp, own: Box<[IpAddr]>) -> Self {
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
        let trailer = vrrp.auth_hmac.as_ref().map_or(Trailer::None, |hmac| {
            let keys = hmac.keys.iter().map(|key| key.id).collect();
            match hmac.mode {
                VrrpHmacMode::Enforce => Trailer::Demanded(keys),
                VrrpHmacMode::Permissive | VrrpHmacMode::ReceiveOnly => Trailer::Allowed(keys),
            }
        });
        Self {
            trailer,
            place,
            is_ipv6: vrrp.addresses.first().is_some_and(IpAddr::is_ipv6),
            kind: vrrp.version << 4 | 1,
            peers: vrrp.unicast_peers.as_slice().into(),
            ttl: if is_unicast { vrrp.ttl_min..=vrrp.ttl_max } else { TTL..=TTL },
            authentication,
            interval: (vrrp.version == 2).then_some(vrrp.advertisement_interval.as_secs() as u8),
            own,
        }
    }

    /// Whether its own routers could have sent this. The checksum is last, as it costs most.
    fn is_plausible(&self, read: &Advertisement<'_>, mac: MacAddress) -> bool {
        let Some(message) = self.message_of(read.message) else { return false };
        let at = |place: usize| message.get(place).copied();
        let is_known = match self.authentication {
            Authentication::None => read.header.is_none(),
            Authentication::Header(kind) => at(AUTHENTICATION_AT) == Some(kind) && read.has_sound_header(),
            // What has no password in its field has anything there, by RFC 3768.
            Authentication::Field(0, _) => read.header.is_none() && at(AUTHENTICATION_AT) == Some(0),
            Authentication::Field(kind, data) => {
                read.header.is_none() && at(AUTHENTICATION_AT) == Some(kind) && message.ends_with(&data)
            }
        };
        let is_own = self.own.contains(&read.source) || read.source == IpAddr::V6(link_local(mac));
        is_known
            && !is_own
            && at(0) == Some(self.kind)
            && self.ttl.contains(&read.ttl)
            && self.interval.is_none_or(|interval| at(INTERVAL_AT) == Some(interval))
            && self.has_right_checksum(read, message)
    }

    /// What comes before the trailer; `None`: the message has not the addresses it says it has, not even one, or something else behind
    /// them, or a trailer that no key of ours could have made, or has none and should.
    fn message_of<'f>(&self, payload: &'f [u8]) -> Option<&'f [u8]> {
        let count = usize::from(*payload.get(COUNT_AT)?);
        let address_len = if self.is_ipv6 { 16 } else { 4 };
        let behind = if self.is_version_2() { PASSWORD_LEN } else { 0 };
        let (message, trailer) = payload.split_at_checked(FIXED_LEN + count * address_len + behind)?;
        let is_right = match &self.trailer {
            Trailer::None => trailer.is_empty(),
            Trailer::Allowed(keys) => trailer.is_empty() || is_trailer(trailer, keys),
            Trailer::Demanded(keys) => is_trailer(trailer, keys),
        };
        (count != 0 && is_right).then_some(message)
    }

    /// As VRRP's thread has it: version 3 over IPv4 has two right ones, and that of IPv6 covers the trailer.
    fn has_right_checksum(&self, read: &Advertisement<'_>, message: &[u8]) -> bool {
        const RIGHT: u16 = 0xffff;
        let summed_up = if self.is_ipv6 { read.message } else { message };
        let sum = Sum::default().bytes(summed_up);
        let with_pseudo = || {
            let sum = match (read.source, read.destination) {
                (IpAddr::V4(source), IpAddr::V4(destination)) => {
                    sum.bytes(&source.octets()).bytes(&destination.octets())
                }
                (IpAddr::V6(source), IpAddr::V6(destination)) => {
                    sum.bytes(&source.octets()).bytes(&destination.octets())
                }
                (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
            };
            sum.long(summed_up.len() as u32).word(ipv4::VRRP.into()).fold() == RIGHT
        };
        let is_plain = self.is_version_2() || read.source.is_ipv4();
        is_plain && sum.fold() == RIGHT || !self.is_version_2() && with_pseudo()
    }

    fn is_version_2(&self) -> bool {
        self.kind >> 4 == 2
    }
}

/// Whether a key of these could have made it.
fn is_trailer(trailer: &[u8], keys: &[u8]) -> bool {
    trailer.len() == TRAILER_LEN
        && trailer[0] == TRAILER_KIND
        && keys.contains(&trailer[1])
        && trailer[2..4] == [0; 2]
}

/// The address that a port with this MAC gives itself (RFC 4291 appendix A), from which VRRP over IPv6 is sent.
pub(crate) fn link_local(mac: MacAddress) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

impl<'f> Advertisement<'f> {
    /// Of a frame of a [`PuntClass`] of VRRP, which is untagged but for a priority.
    fn read(frame: &'f [u8]) -> Option<Self> {
        const TAGGED: [u8; 2] = [0x81, 0];
        let packet = if frame.get(12..14)? == TAGGED { frame.get(18..)? } else { frame.get(14..)? };
        if packet.first()? >> 4 == 6 {
            let len = usize::from(u16::from_be_bytes([*packet.get(4)?, *packet.get(5)?]));
            let source = Ipv6Addr::from(*packet.get(8..24)?.first_chunk::<16>()?);
            let destination = Ipv6Addr::from(*packet.get(24..40)?.first_chunk::<16>()?);
            return Some(Self {
                source: source.into(),
                destination: destination.into(),
                ttl: *packet.get(7)?,
                has_options: false,
                header: None,
                message: packet.get(40..40 + len)?,
            });
        }
        let header_len = usize::from(packet.first()? & 0xf) * 4;
        let total_len = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
        let source = Ipv4Addr::from(*packet.get(12..16)?.first_chunk::<4>()?);
        let destination = Ipv4Addr::from(*packet.get(16..20)?.first_chunk::<4>()?);
        let payload = packet.get(header_len..total_len)?;
        let (header, message) = if *packet.get(9)? == ipv4::AH {
            let (header, message) = payload.split_first_chunk()?;
            (Some(header), message)
        } else {
            (None, payload)
        };
        Some(Self {
            source: source.into(),
            destination: destination.into(),
            ttl: *packet.get(8)?,
            has_options: header_len != ipv4::HEADER_LEN,
            header,
            message,
        })
    }

    /// Whether there is an authentication header, and it is right in what needs no key: its first bytes, the sender's
    /// address as SPI, a number that is not 0, and no options of IP in front of it.
    fn has_sound_header(&self) -> bool {
        let (Some(header), IpAddr::V4(source)) = (self.header, self.source) else { return false };
        header.starts_with(&[ipv4::VRRP, AH_WORDS])
            && header[4..8] == source.octets()
            && header[8..12] != [0; 4]
            && !self.has_options
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
[[vrrp]]
name = "v6"
port = "lan"
version = 3
virtual_router_id = 4
addresses = ["fe80::5:1"]
[[vrrp]]
name = "v3"
port = "lan"
version = 3
virtual_router_id = 5
addresses = ["10.0.0.103"]
"#;
    const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);

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

    /// With its checksum, which covers these bytes as well.
    fn summed(mut message: Vec<u8>, pseudo: &[u8]) -> Vec<u8> {
        let sum = Sum::default().bytes(&message).bytes(pseudo).finish();
        message[6..8].copy_from_slice(&sum.get().to_be_bytes());
        message
    }

    fn v2(id: u8, kind: u8, data: [u8; 8]) -> Vec<u8> {
        summed([&[0x21, id, 100, 1, kind, 1, 0, 0, 10, 0, 0, 100], &data[..]].concat(), &[])
    }

    fn v3(id: u8) -> Vec<u8> {
        vec![0x31, id, 100, 1, 0, 100, 0, 0, 10, 0, 0, 102]
    }

    /// An authentication header from this source.
    fn header(source: u8, number: u8) -> [u8; AH_LEN] {
        let mut header = [0xaa; AH_LEN];
        header[..12].copy_from_slice(&[112, 4, 0, 0, 10, 0, 0, source, 0, 0, 0, number]);
        header
    }

    /// A frame of version 3 over IPv6 from this address, with a checksum that is wrong by so much.
    fn frame_v6(source: Ipv6Addr, wrong: u8) -> Vec<u8> {
        let group: Ipv6Addr = "ff02::12".parse().unwrap();
        let addresses = [source.octets(), group.octets()].concat();
        let message = [&[0x31, 4, 100, 1, 0, 100, 0, 0][..], &[0xfe; 16]].concat();
        let mut message = summed(message, &[&addresses[..], &[0, 0, 0, 24, 0, 0, 0, 112]].concat());
        message[7] ^= wrong;
        let mut frame = vec![0; 12];
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 24, 112, 255]);
        frame.extend(addresses);
        frame.extend(message);
        frame
    }

    #[test]
    fn what_the_thread_refuses_without_a_key_is_doubtful() {
        let config = weir_config::parse("test", FILE).unwrap().config;
        let advertisers = Advertisers::new(&config, 0);
        let is_doubtful = |frame: Vec<u8>| {
            advertisers.judge(PuntClass::VrrpMulticast, MAC, &frame).expect("a known router").is_doubtful
        };
        let pass = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut message = v2(1, 1, *b"abc\0\0\0\0\0");
            change(&mut message);
            frame(9, 255, 112, &message)
        };
        let resummed = |message: &mut Vec<u8>| {
            message[6..8].fill(0);
            *message = summed(std::mem::take(message), &[]);
        };
        assert!(!is_doubtful(pass(&|_| {})));
        // Its checksum, its length either way, its interval, no address, an address that is not there.
        assert!(is_doubtful(pass(&|message| message[7] ^= 1)));
        for change in [
            &(|message: &mut Vec<u8>| drop(message.drain(8..10))) as &dyn Fn(&mut Vec<u8>),
            &|message| message.splice(8..8, [0; 4]).for_each(drop),
            &|message| message[INTERVAL_AT] = 2,
            &|message| message[COUNT_AT] = 2,
            &|message| {
                message[COUNT_AT] = 0;
                message.drain(8..12).for_each(drop);
            },
        ] {
            assert!(is_doubtful(pass(&|message| {
                change(message);
                resummed(message);
            })));
        }
        // What is behind the packet's end is padding, whatever the count says.
        let mut cut = pass(&|_| {});
        cut[17] -= 4;
        assert!(is_doubtful(cut));
        // From our own address.
        assert!(is_doubtful(frame(2, 255, 112, &v2(1, 1, *b"abc\0\0\0\0\0"))));
        // Version 3 over IPv4 has both checksums.
        let pseudo = [10, 0, 0, 9, 224, 0, 0, 18, 0, 0, 0, 12, 0, 0, 0, 112];
        assert!(!is_doubtful(frame(9, 255, 112, &summed(v3(5), &[]))));
        assert!(!is_doubtful(frame(9, 255, 112, &summed(v3(5), &pseudo))));
        assert!(is_doubtful(frame(8, 255, 112, &summed(v3(5), &pseudo))));
        assert!(is_doubtful(frame(9, 255, 112, &v3(5))));
        let router: Ipv6Addr = "fe80::9".parse().unwrap();
        assert!(!is_doubtful(frame_v6(router, 0)));
        assert!(is_doubtful(frame_v6(router, 1)));
        assert!(is_doubtful(frame_v6("fe80::ff:fe00:1".parse().unwrap(), 0)));
        // The authentication header: SPI, number, length.
        let ah = |header: [u8; AH_LEN]| frame(9, 255, 51, &[&header, &v2(2, 2, [0; 8])[..]].concat());
        assert!(!is_doubtful(ah(header(9, 1))));
        assert!(is_doubtful(ah(header(8, 1))));
        assert!(is_doubtful(ah(header(9, 0))));
        let mut long = header(9, 1);
        long[1] = 5;
        assert!(is_doubtful(ah(long)));
    }

    #[test]
    fn a_trailer_that_no_key_could_have_made_is_doubtful() {
        let keys = "keys = [\"1 a-passphrase-of-more-than-thirty-two-bytes\"]";
        let with = |mode: &str| {
            let table = format!("[vrrp.auth_hmac]\nmode = \"{mode}\"\n{keys}\n");
            let ours = FILE
                .replace("addresses = [\"10.0.0.103\"]\n", &format!("addresses = [\"10.0.0.103\"]\n{table}"));
            let ours = ours
                .replace("addresses = [\"fe80::5:1\"]\n", &format!("addresses = [\"fe80::5:1\"]\n{table}"));
            Advertisers::new(&weir_config::parse("test", &ours).unwrap().config, 0)
        };
        let (enforce, permissive) = (with("enforce"), with("permissive"));
        let is_doubtful = |advertisers: &Advertisers, frame: Vec<u8>| {
            advertisers.judge(PuntClass::VrrpMulticast, MAC, &frame).expect("a known router").is_doubtful
        };
        let trailer = |head: [u8; 4]| [&head[..], &[0x77; TRAILER_LEN - 4]].concat();
        let message = |behind: &[u8]| frame(9, 255, 112, &[&summed(v3(5), &[])[..], behind].concat());
        let right = message(&trailer([1, 1, 0, 0]));
        assert!(!is_doubtful(&enforce, right.clone()) && !is_doubtful(&permissive, right));
        assert!(is_doubtful(&enforce, message(&[])) && !is_doubtful(&permissive, message(&[])));
        for wrong in
            [&trailer([1, 2, 0, 0])[..], &trailer([2, 1, 0, 0]), &trailer([1, 1, 0, 1]), &[0; 27], &[0; 29]]
        {
            assert!(
                is_doubtful(&enforce, message(wrong)) && is_doubtful(&permissive, message(wrong)),
                "{wrong:?}"
            );
        }
        // The checksum of IPv6 covers it.
        let source: Ipv6Addr = "fe80::9".parse().unwrap();
        let group: Ipv6Addr = "ff02::12".parse().unwrap();
        let payload = [&[0x31, 4, 100, 1, 0, 100, 0, 0][..], &[0xfe; 16], &trailer([1, 1, 0, 0])].concat();
        let len = payload.len() as u8;
        let pseudo = [&source.octets()[..], &group.octets(), &[0, 0, 0, len, 0, 0, 0, 112]].concat();
        for (wrong, wanted) in [(0, false), (1, true)] {
            let mut payload = summed(payload.clone(), &pseudo);
            payload[7] ^= wrong;
            let head = [&[0; 12][..], &[0x86, 0xdd, 0x60, 0, 0, 0, 0, len, 112, 255]].concat();
            let frame = [&head[..], &source.octets(), &group.octets(), &payload].concat();
            assert_eq!(is_doubtful(&enforce, frame), wanted);
        }
    }

    #[test]
    fn each_instance_has_a_share_and_junk_another() {
        let config = weir_config::parse("test", FILE).unwrap().config;
        let advertisers = Advertisers::new(&config, 0);
        let group = |frame: Vec<u8>| advertisers.judge(PuntClass::VrrpMulticast, MAC, &frame);
        let unicast = |frame: Vec<u8>| advertisers.judge(PuntClass::VrrpUnicast, MAC, &frame);
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
        let ah = |kind| [&header(9, 1), &v2(2, kind, [0; 8])[..]].concat();
        assert_eq!(group(frame(9, 255, 51, &ah(2))), share(1, false));
        assert_eq!(group(frame(9, 255, 51, &ah(1))), share(1, true));
        assert_eq!(group(frame(9, 255, 112, &v2(2, 2, [0; 8]))), share(1, true));
        let v3 = summed(v3(3), &[]);
        assert_eq!(unicast(frame(3, 254, 112, &v3)), share(2, false));
        assert_eq!(unicast(frame(3, 253, 112, &v3)), share(2, true));
        assert_eq!(unicast(frame(4, 255, 112, &v3)), Err(DropReason::VrrpUnknownPeer));
        assert_eq!(group(frame(3, 255, 112, &v3)), share(2, true));
        assert_eq!(group(frame(9, 255, 112, &v2(9, 0, [0; 8]))), Err(DropReason::VrrpUnknownRouter));
        assert_eq!(group(frame(9, 255, 112, &[])), Err(DropReason::VrrpUnknownRouter));
        assert_eq!(group(vec![0; 20]), Err(DropReason::VrrpUnknownRouter));
        assert_eq!(
            Advertisers::default().judge(PuntClass::VrrpMulticast, MAC, &frame(9, 255, 112, &v2(1, 1, abc))),
            Err(DropReason::VrrpUnknownRouter)
        );
    }
}
