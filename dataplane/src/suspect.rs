//! Frames that a worker panics at: what tells their flow from others, and how it is found out which one it is.
//!
//! A worker that panics has been at a burst, and the frame at fault may be any of it, half rewritten. So after a panic the next process is
//! cautious for a while ([`Caution`]): it takes bursts frame by frame, with a copy of each. When it panics too, the copy is the frame. The
//! process after that one drops the frame's flow, before anything else looks at it.
//!
//! All of this lies beside the path: without a caution a worker tests for it twice in a burst. What is read of a frame is read here anew,
//! since the fault may be where it is read otherwise.

use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use arrayvec::ArrayVec;

use crate::packet::{BURST, Burst, Frame};

/// Octets of a frame that is no IP packet which are its flow.
const HEAD: usize = 32;
/// Of both MACs.
const MACS: usize = 12;
/// Of a VLAN tag, of which there may be so many.
const TAG: usize = 4;
const TAGS_MAX: usize = 2;
/// Octets that are copied of a frame at most.
const COPY_MAX: usize = 2_048;

/// What the frames of a flow have in common: addresses, protocol and ports, or the type of ICMP; or how a frame begins, behind its MACs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow(ArrayVec<u8, 64>);

impl Flow {
    /// That of a frame, whatever it is.
    pub fn of(frame: &[u8]) -> Self {
        let mut at = MACS;
        while at < MACS + TAGS_MAX * TAG && matches!(frame.get(at..at + 2), Some([0x81, 0] | [0x88, 0xa8])) {
            at += TAG;
        }
        let packet = frame.get(at + 2..).unwrap_or_default();
        let ip = match frame.get(at..at + 2) {
            Some([8, 0]) => Self::of_ipv4(packet),
            Some([0x86, 0xdd]) => Self::of_ipv6(packet),
            _ => None,
        };
        ip.unwrap_or_else(|| Self::new(&[&[0], frame.get(MACS..).unwrap_or_default()]))
    }

    /// That of a frame that a worker panicked at. `None`: without such frames the director would lose its next hops or take itself for the
    /// only one, so none is dropped: ARP, neighbour discovery, groups of multicast, VRRP. Nor is their sender always at fault: an answer
    /// lets go of the packets that have waited for it.
    pub fn to_be_dropped(frame: &[u8]) -> Option<Self> {
        let flow = Self::of(frame);
        let is_needed = match *flow.0 {
            [4 | 6, 112, ..] | [0, 8, 6, ..] => true,
            [6, 58, ref rest @ ..] => matches!(rest.get(32), Some(130..=137 | 143)),
            // Behind a tag, or options of a hop before a report of groups.
            [0, 0x81, 0, _, _, 8, 6, ..] | [0, 0x88, 0xa8, _, _, 8, 6, ..] | [6, 0, ..] => true,
            _ => false,
        };
        (!is_needed).then_some(flow)
    }

    fn of_ipv4(packet: &[u8]) -> Option<Self> {
        let header = packet.first_chunk::<20>()?;
        let len = usize::from(header[0] & 0xf) * 4;
        let is_first = header[6] & 0x1f == 0 && header[7] == 0;
        let rest = packet.get(len..).filter(|_| is_first).unwrap_or_default();
        Some(Self::new(&[&[4, header[9]], &header[12..20], ports(header[9], rest)]))
    }

    fn of_ipv6(packet: &[u8]) -> Option<Self> {
        let (header, rest) = packet.split_first_chunk::<40>()?;
        Some(Self::new(&[&[6, header[6]], &header[8..40], ports(header[6], rest)]))
    }

    fn new(parts: &[&[u8]]) -> Self {
        let octets = parts.iter().copied().flatten().copied();
        let most = if parts[0] == [0] { HEAD + 1 } else { usize::MAX };
        Self(octets.take(most).take(64).collect())
    }

    /// As digits, for a file.
    pub fn to_digits(&self) -> String {
        self.0.iter().fold(String::new(), |mut digits, octet| {
            // Writing to a string can't fail.
            let _ = write!(digits, "{octet:02x}");
            digits
        })
    }

    /// What [`Flow::to_digits`] wrote.
    pub fn from_digits(digits: &str) -> Option<Self> {
        let pairs = digits.as_bytes().chunks(2);
        if digits.is_empty() || pairs.len() > 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let octet = |pair: &[u8]| {
            let text = std::str::from_utf8(pair).ok().filter(|text| text.len() == 2)?;
            u8::from_str_radix(text, 16).ok()
        };
        Some(Self(pairs.map(octet).collect::<Option<_>>()?))
    }
}

/// Ports, where a protocol has them; of ICMP its type.
fn ports(protocol: u8, rest: &[u8]) -> &[u8] {
    match protocol {
        6 | 17 | 132 => rest.get(..4).unwrap_or_default(),
        // The type.
        1 | 58 => rest.get(..1).unwrap_or_default(),
        _ => &[],
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, rest) = self.0.split_first().unwrap_or((&0, &[]));
        let (protocol, rest) = rest.split_first().unwrap_or((&0, &[]));
        let (from, to, ports) = match (kind, rest.first_chunk::<8>(), rest.first_chunk::<32>()) {
            (4, Some([a, b, c, d, e, g, h, i]), _) => {
                let (from, to) = (Ipv4Addr::new(*a, *b, *c, *d), Ipv4Addr::new(*e, *g, *h, *i));
                (IpAddr::V4(from), IpAddr::V4(to), &rest[8..])
            }
            (6, _, Some(both)) => {
                let end =
                    |at: usize| Ipv6Addr::from(std::array::from_fn::<u8, 16, _>(|octet| both[at + octet]));
                (IpAddr::V6(end(0)), IpAddr::V6(end(16)), &rest[32..])
            }
            _ => {
                return write!(f, "frames that begin with {}", self.to_digits().get(2..).unwrap_or_default());
            }
        };
        match ports {
            [a, b, c, d] => {
                let (source, destination) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
                write!(f, "{from} port {source} to {to} port {destination}, protocol {protocol}")
            }
            [kind] => write!(f, "{from} to {to}, protocol {protocol} type {kind}"),
            _ => write!(f, "{from} to {to}, protocol {protocol}"),
        }
    }
}

/// What workers are told after a panic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caution {
    /// For so long they take bursts frame by frame.
    pub careful: Duration,
    /// Flows that are dropped, each for so long.
    pub flows: Vec<(Flow, Duration)>,
}

/// A worker that is cautious.
pub(crate) struct Care<F> {
    /// Each up to this cycle.
    flows: Vec<(Flow, u64)>,
    careful_until: u64,
    /// Frames of a burst that are to come, the last one first.
    waiting: ArrayVec<F, BURST>,
    /// The frame that is under way, as it came in.
    copy: Option<Vec<u8>>,
    /// Has its memory from the start.
    spare: Vec<u8>,
}

impl<F: Frame> Care<F> {
    /// From this cycle on.
    pub(crate) fn new(caution: Caution, cycles: u64, hz: u64) -> Self {
        let after = |time: Duration| {
            let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            cycles.saturating_add(millis.saturating_mul(hz / 1_000))
        };
        Self {
            careful_until: after(caution.careful),
            flows: caution.flows.into_iter().map(|(flow, dropped)| (flow, after(dropped))).collect(),
            waiting: ArrayVec::new(),
            copy: None,
            spare: Vec::with_capacity(COPY_MAX),
        }
    }

    /// Whether there is nothing to be cautious about any more.
    pub(crate) fn is_over(&self, cycles: u64) -> bool {
        cycles >= self.careful_until && self.flows.iter().all(|(_, until)| cycles >= *until)
    }

    /// Takes out of a burst what is to be dropped, and all but its first frame if it is to be taken frame by frame.
    pub(crate) fn begin(&mut self, burst: &mut Burst<F>, cycles: u64, mut drop: impl FnMut(F)) {
        let is_careful = cycles < self.careful_until;
        self.flows.retain(|(_, until)| cycles < *until);
        let flows = &self.flows;
        let is_dropped = |frame: &F| {
            let flow = Flow::of(frame.bytes());
            flows.iter().any(|(dropped, _)| *dropped == flow)
        };
        let mut kept = ArrayVec::new();
        for frame in burst.drain(..) {
            match !flows.is_empty() && is_dropped(&frame) {
                true => drop(frame),
                false => kept.push(frame),
            }
        }
        match is_careful {
            true => {
                kept.reverse();
                self.waiting = kept;
                self.next(burst);
            }
            false => *burst = kept,
        }
    }

    /// Puts the next frame into the burst, which is done with. False: there is none.
    pub(crate) fn next(&mut self, burst: &mut Burst<F>) -> bool {
        if let Some(copy) = self.copy.take() {
            self.spare = copy;
        }
        let Some(frame) = self.waiting.pop() else { return false };
        let mut copy = std::mem::take(&mut self.spare);
        copy.clear();
        let octets = frame.bytes();
        copy.extend_from_slice(&octets[..octets.len().min(COPY_MAX)]);
        self.copy = Some(copy);
        burst.push(frame);
        true
    }

    /// The frame that was under way.
    pub(crate) fn culprit(&mut self) -> Option<Vec<u8>> {
        self.copy.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::heap::HeapFrame;

    /// An IPv4 frame with a tag or none.
    fn ipv4(tag: &[u8], protocol: u8, fragment: [u8; 2], client: u8) -> Vec<u8> {
        let mut frame = [&[2; 12], tag, &[8, 0, 0x45, 0, 0, 40, 0, 1]].concat();
        frame.extend(fragment);
        frame.extend([64, protocol, 0, 0, 192, 0, 2, client, 10, 0, 0, 100]);
        frame.extend([0x30, 0x39, 0, 80, 1, 2, 3, 4]);
        frame
    }

    fn ipv6(protocol: u8) -> Vec<u8> {
        let head = [&[2; 12][..], &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, protocol, 64]].concat();
        let ends = ["2001:db8::1", "2001:db8::64"].map(|end| end.parse::<Ipv6Addr>().unwrap().octets());
        [&head[..], &ends.concat(), &[0x30, 0x39, 0, 80, 1, 2, 3, 4]].concat()
    }

    #[test]
    fn a_flow_is_both_ends_and_the_protocol() {
        let flow = |frame: &[u8]| Flow::of(frame).to_string();
        let tcp = ipv4(&[], 6, [0x40, 0], 7);
        assert_eq!(flow(&tcp), "192.0.2.7 port 12345 to 10.0.0.100 port 80, protocol 6");
        assert_eq!(Flow::of(&ipv4(&[0x81, 0, 0, 9], 6, [0, 0], 7)), Flow::of(&tcp), "whatever its tag");
        assert_ne!(Flow::of(&ipv4(&[], 17, [0, 0], 7)), Flow::of(&tcp));
        assert_ne!(Flow::of(&ipv4(&[], 6, [0, 0], 8)), Flow::of(&tcp));
        assert_eq!(flow(&ipv4(&[], 6, [0, 5], 7)), "192.0.2.7 to 10.0.0.100, protocol 6");
        assert_eq!(flow(&ipv4(&[], 1, [0, 0], 7)), "192.0.2.7 to 10.0.0.100, protocol 1 type 48");
        assert_eq!(flow(&ipv6(17)), "2001:db8::1 port 12345 to 2001:db8::64 port 80, protocol 17");
        assert_eq!(flow(&ipv6(58)), "2001:db8::1 to 2001:db8::64, protocol 58 type 48");
        assert!(flow(&[2; 60]).starts_with("frames that begin with 0202"));
    }

    #[test]
    fn what_keeps_the_director_on_its_link_is_never_dropped() {
        let is_dropped = |frame: &[u8]| Flow::to_be_dropped(frame).is_some();
        let arp = |tag: &[u8]| [&[2; 12], tag, &[8, 6], &[1; 28]].concat();
        let of58 = |kind: u8| {
            let mut frame = ipv6(58);
            frame[54] = kind;
            frame
        };
        for needed in [
            arp(&[]),
            arp(&[0x81, 0, 0, 9]),
            ipv4(&[], 112, [0, 0], 7),
            ipv6(112),
            ipv6(0),
            of58(135),
            of58(136),
            of58(143),
        ] {
            assert!(!is_dropped(&needed), "{needed:?}");
        }
        for other in [
            ipv4(&[], 6, [0, 0], 7),
            ipv4(&[], 1, [0, 0], 7),
            ipv6(17),
            of58(128),
            of58(2),
            vec![2; 60],
            Vec::new(),
        ] {
            assert!(is_dropped(&other), "{other:?}");
        }
    }

    #[test]
    fn any_frame_has_a_flow_that_can_be_written_and_read() {
        bolero::check!().for_each(|frame: &[u8]| {
            let flow = Flow::of(frame);
            assert_eq!(Flow::from_digits(&flow.to_digits()), Some(flow.clone()));
            assert!(!flow.to_string().is_empty());
        });
        for wrong in ["", "0", "0g", "+1", &"00".repeat(65)] {
            assert_eq!(Flow::from_digits(wrong), None, "{wrong}");
        }
        bolero::check!().for_each(|digits: &[u8]| {
            if let Some(flow) = std::str::from_utf8(digits).ok().and_then(Flow::from_digits) {
                assert!(!flow.to_string().is_empty());
            }
        });
    }

    fn burst(clients: &[u8]) -> Burst<HeapFrame> {
        clients.iter().map(|client| HeapFrame::new(&ipv4(&[], 6, [0, 0], *client))).collect()
    }

    #[test]
    fn a_burst_is_taken_frame_by_frame_without_what_is_dropped() {
        let flows = vec![(Flow::of(&ipv4(&[], 6, [0, 0], 2)), Duration::from_secs(2))];
        let mut care = Care::new(Caution { careful: Duration::from_secs(1), flows }, 0, 1_000);
        let mut frames = burst(&[1, 2, 3, 2]);
        let mut gone = 0;
        care.begin(&mut frames, 999, |_| gone += 1);
        assert_eq!((gone, frames.clone()), (2, burst(&[1])));
        assert_eq!(care.copy.as_deref(), Some(burst(&[1])[0].bytes()));
        // The path rewrites and takes it.
        frames[0].bytes_mut().fill(0);
        frames.clear();
        assert!(care.next(&mut frames));
        assert_eq!(frames, burst(&[3]));
        frames.clear();
        assert!(!care.next(&mut frames) && care.culprit().is_none());
        // Then it only drops, and then neither.
        let mut frames = burst(&[1, 2, 3]);
        care.begin(&mut frames, 1_000, |_| gone += 1);
        assert_eq!((gone, &frames, care.is_over(1_999)), (3, &burst(&[1, 3]), false));
        assert!(!care.next(&mut frames));
        let mut frames = burst(&[2]);
        care.begin(&mut frames, 2_000, |_| gone += 1);
        assert_eq!((gone, frames, care.is_over(2_000)), (3, burst(&[2]), true));
    }
}
