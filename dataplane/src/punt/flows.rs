//! What the host itself takes part in: connections and requests of which it has sent a packet.
//!
//! A flood at the director's own address must not starve the sessions that are up (BGP, ssh). Which those are is known
//! from what the host sends: a segment of a connection that is neither a SYN+ACK nor a RST, a SYN or datagram of its own, an
//! echo request. None of these is an answer that strangers can have by asking, apart from answered datagrams, so a
//! flood of SYNs or stray segments does not get in here.
//!
//! Written by the host's thread alone and read by all workers, as single words. The hash is keyed, so nobody can aim at
//! the place of another's session. A set that is full forgets the one that was quiet for longest: it is then limited
//! as strangers are, no more.

use std::hash::Hasher;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use siphasher::sip::SipHasher13;

use super::headers::{ECHO_V4, ECHO_V6, Ip};
use crate::wire::ipv4;
use crate::wire::l4::flags;

/// How long a session stays known after the host's last packet, in seconds: several keepalives of BGP.
const LIFETIME_SECS: u64 = 600;
/// Sets of four sessions.
const SETS: usize = 1_024;
/// Cycles in a unit of the time that words hold, as a power of two: half a second or less.
const UNIT_SHIFT: u32 = 30;

/// See the module.
#[derive(Debug)]
pub struct Flows {
    key: [u64; 2],
    /// In units.
    lifetime: u32,
    /// Above, the upper half of the hash; below, the time of the host's last packet. 0: free.
    sets: Box<[[AtomicU64; 4]]>,
}

impl Flows {
    /// Knows none. `key` is random; `hz` the frequency of the time stamp counter.
    pub fn new(key: [u64; 2], hz: u64) -> Self {
        Self {
            key,
            lifetime: ((LIFETIME_SECS * hz) >> UNIT_SHIFT) as u32,
            sets: (0..SETS).map(|_| Default::default()).collect(),
        }
    }

    /// The host sent this packet at `cycles`. Returns whether the answers to it will be known.
    pub fn sent(&self, ip: &Ip, cycles: u64) -> bool {
        let is_session = match ip.protocol {
            ipv4::TCP => {
                let marks = ip.detail & (flags::SYN | flags::ACK | flags::RST);
                marks == flags::SYN || marks == flags::ACK
            }
            ipv4::UDP => true,
            _ => ip.is_echo() && ip.detail == if ip.is_v6 { ECHO_V6[0] } else { ECHO_V4[0] },
        };
        if !is_session || ip.is_fragment {
            return false;
        }
        let (set, tag) = self.place(ip.protocol, &ip.destination, ip.destination_port, ip.source_port);
        let time = (cycles >> UNIT_SHIFT) as u32;
        let word = u64::from(tag) << 32 | u64::from(time);
        let age = |word: u64| if word == 0 { u32::MAX } else { time.wrapping_sub(word as u32) };
        let own = set.iter().find(|slot| (slot.load(Relaxed) >> 32) as u32 == tag);
        let slot = own.or_else(|| set.iter().max_by_key(|slot| age(slot.load(Relaxed))));
        if let Some(slot) = slot
            && slot.load(Relaxed) != word
        {
            slot.store(word, Relaxed);
        }
        true
    }

    /// Whether a received packet belongs to something that the host takes part in.
    pub fn knows(&self, ip: &Ip, cycles: u64) -> bool {
        let (set, tag) = self.place(ip.protocol, &ip.source, ip.source_port, ip.destination_port);
        let time = (cycles >> UNIT_SHIFT) as u32;
        set.iter().map(|slot| slot.load(Relaxed)).any(|word| {
            // The host's thread may have read the counter later than this worker, whose pass may stand still: that is no age.
            let age = time.wrapping_sub(word as u32) as i32;
            (word >> 32) as u32 == tag && i64::from(age) <= i64::from(self.lifetime)
        })
    }

    fn place(&self, protocol: u8, peer: &[u8; 16], peer_port: u16, port: u16) -> (&[AtomicU64; 4], u32) {
        let mut hasher = SipHasher13::new_with_keys(self.key[0], self.key[1]);
        hasher.write(peer);
        hasher.write_u64(u64::from(protocol) << 32 | u64::from(peer_port) << 16 | u64::from(port));
        let hash = hasher.finish();
        // No tag is 0, which stands for a free place.
        (&self.sets[hash as usize % SETS], (hash >> 32) as u32 | 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::punt::headers::{Content, read};
    use crate::wire::l4::flags::{ACK, FIN, RST, SYN};

    const HZ: u64 = 2_000_000_000;

    fn ip(protocol: u8, ends: (u8, u16, u8, u16), detail: u8) -> Ip {
        let wide = |last| [10, 0, 0, last, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        Ip {
            is_v6: false,
            source: wide(ends.0),
            destination: wide(ends.2),
            protocol,
            hop_limit: 64,
            is_fragment: false,
            source_port: ends.1,
            destination_port: ends.3,
            detail,
        }
    }

    fn from_peer(protocol: u8, detail: u8) -> Ip {
        ip(protocol, (9, 4000, 2, 179), detail)
    }

    fn from_host(protocol: u8, detail: u8) -> Ip {
        ip(protocol, (2, 179, 9, 4000), detail)
    }

    #[test]
    fn what_answers_a_stranger_makes_him_no_friend() {
        let flows = Flows::new([1, 2], HZ);
        for detail in [SYN | ACK, RST, RST | ACK, SYN | RST, FIN] {
            assert!(!flows.sent(&from_host(ipv4::TCP, detail), 0));
        }
        assert!(!flows.sent(&from_host(ipv4::ICMP, 3), 0));
        assert!(!flows.sent(&from_host(ipv4::ICMP, 0), 0), "an echo reply");
        assert!(!flows.knows(&from_peer(ipv4::TCP, ACK), 0));
    }

    #[test]
    fn a_session_is_known_while_the_host_speaks_in_it_and_ten_minutes_longer() {
        for detail in [ACK, ACK | FIN, SYN] {
            let flows = Flows::new([1, 2], HZ);
            let at = |seconds: u64| 1_000 * HZ + seconds * HZ;
            assert!(flows.sent(&from_host(ipv4::TCP, detail), at(0)));
            for seconds in [0, 1, 599] {
                assert!(flows.knows(&from_peer(ipv4::TCP, ACK), at(seconds)), "{seconds}");
            }
            for earlier in [HZ / 10, HZ, 5 * HZ] {
                assert!(
                    flows.knows(&from_peer(ipv4::TCP, ACK), at(0) - earlier),
                    "seen by a worker whose pass began {earlier} cycles earlier"
                );
            }
            assert!(!flows.knows(&from_peer(ipv4::TCP, ACK), at(605)));
            assert!(!flows.knows(&ip(ipv4::TCP, (9, 4001, 2, 179), ACK), at(0)), "another port");
            assert!(!flows.knows(&ip(ipv4::UDP, (9, 4000, 2, 179), 0), at(0)), "another protocol");
            assert!(flows.sent(&from_host(ipv4::TCP, ACK), at(500)));
            assert!(flows.knows(&from_peer(ipv4::TCP, ACK), at(1_000)));
        }
    }

    #[test]
    fn a_full_set_forgets_the_one_that_was_quiet_for_longest() {
        let flows = Flows::new([1, 2], HZ);
        let busy = from_host(ipv4::TCP, ACK);
        let mut lost = 0;
        for n in 0..40_000u64 {
            let now = (n + 1) * HZ / 1_000;
            flows.sent(&busy, now);
            flows.sent(&ip(ipv4::TCP, (2, 22, 7, n as u16), ACK), now);
            lost += u32::from(!flows.knows(&from_peer(ipv4::TCP, ACK), now));
        }
        assert_eq!(lost, 0);
    }

    #[test]
    fn both_directions_of_real_frames_meet() {
        let flows = Flows::new([3, 4], HZ);
        let frame = |source: u8, destination: u8, kind: u8| {
            let mut frame = vec![2; 12];
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 58, 64]);
            frame.extend([[0x20; 15].as_slice(), &[source], &[0x20; 15], &[destination]].concat());
            frame.extend([kind, 0, 0, 0, 0x12, 0x34, 0, 1]);
            match read(&frame) {
                (_, Content::Ip(ip)) => ip,
                other => panic!("{other:?}"),
            }
        };
        assert!(flows.sent(&frame(2, 9, 128), 0));
        assert!(flows.knows(&frame(9, 2, 129), 0));
        assert!(!flows.knows(&frame(8, 2, 129), 0));
    }
}
