//! Packets in pieces: what arrives whole before weir is the same datagram behind it, or nothing.

mod flows;
mod reasons;
mod refused;

use std::net::IpAddr;

use super::ipv6::{OWN6, VIP6, client, packet6, v6};
use super::*;
use crate::wire::checksum::Sum;

const FRAGMENT: u8 = 44;
/// Inside of a datagram, ports and all; the checksum is right.
type Datagram = Vec<u8>;

/// A UDP virtual server of each family at port 53 by this method, whose real servers end on these octets.
fn file(method: &str, servers: &[u8], mtu: u16) -> Config {
    let mut text = format!(
        "[connections]\ncapacity = 1024\n\
         [[port]]\nname = \"lan\"\ndevice = \"x\"\nmtu = {mtu}\naddresses = [\"10.0.0.2/24\", \"{OWN6}/64\"]\n\
         [[route]]\ndestination = \"0.0.0.0/0\"\ngateway = \"10.0.0.254\"\n\
         [[route]]\ndestination = \"::/0\"\ngateway = \"2001:db8::fe\"\n"
    );
    for gateway in ["10.0.0.254", "2001:db8::fe", "10.0.0.200"] {
        text += &format!("[[neighbor]]\naddress = \"{gateway}\"\nmac = \"02:00:00:00:00:cc\"\n");
    }
    for (address, network) in [("10.0.0.100", "10.0.0."), (VIP6, "2001:db8::")] {
        for octet in servers {
            let mac = format!("02:00:00:00:00:{octet:02x}");
            text += &format!("[[neighbor]]\naddress = \"{network}{octet}\"\nmac = \"{mac}\"\n");
        }
        for protocol in ["udp", "sctp", "tcp"] {
            text += &format!(
                "[[virtual_server]]\nname = \"{protocol}-{address}\"\naddress = \"{address}\"\nport = 53\nprotocol = \"{protocol}\"\n\
                 scheduler = \"rr\"\nforwarding = \"{method}\"\n"
            );
            let port = if method == "nat" { 5353 } else { 53 };
            for octet in servers {
                text += &format!(
                    "[[virtual_server.real_server]]\naddress = \"{network}{octet}\"\nport = {port}\n"
                );
            }
        }
    }
    weir_config::parse("test", &text).unwrap_or_else(|report| panic!("{report}")).config
}

/// Between whom a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Flow {
    source: IpAddr,
    source_port: u16,
    destination: IpAddr,
    port: u16,
}

fn request(is_v6: bool, source_port: u16) -> Flow {
    match is_v6 {
        false => Flow {
            source: IpAddr::V4(CLIENT.into()),
            source_port,
            destination: IpAddr::V4(VIP.into()),
            port: 53,
        },
        true => Flow { source: client(1).into(), source_port, destination: v6(VIP6).into(), port: 53 },
    }
}

fn reply(is_v6: bool, client_port: u16) -> Flow {
    let Flow { source, .. } = request(is_v6, 0);
    let server = if is_v6 { v6("2001:db8::11").into() } else { "10.0.0.11".parse().expect("an address") };
    Flow { source: server, source_port: 5353, destination: source, port: client_port }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn pseudo(flow: &Flow, len: usize) -> Sum {
    let ends = [octets(flow.source), octets(flow.destination)].concat();
    Sum::default().bytes(&ends).word(17).word(len as u16)
}

/// With `len` bytes of data that depend on `salt`.
fn datagram(flow: &Flow, len: usize, salt: u8) -> Datagram {
    let total = 8 + len;
    let mut bytes = [flow.source_port, flow.port, total as u16, 0].map(u16::to_be_bytes).concat();
    bytes.extend((0..len).map(|at| (at as u8).wrapping_mul(31).wrapping_add((at >> 8) as u8) ^ salt));
    let sum = pseudo(flow, total).bytes(&bytes).finish();
    bytes[6..8].copy_from_slice(sum.as_bytes());
    bytes
}

/// The part of a datagram from `start` to `end` as a frame.
fn piece(flow: &Flow, ident: u16, whole: &[u8], (start, end): (usize, usize)) -> Vec<u8> {
    raw_piece(flow, (17, ident), &whole[start..end.min(whole.len())], (start, end < whole.len()))
}

fn raw_piece(
    flow: &Flow,
    (protocol, ident): (u8, u16),
    data: &[u8],
    (start, more): (usize, bool),
) -> Vec<u8> {
    let offset = start as u16 / 8;
    match (flow.source, flow.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut header = Ipv4::new(protocol, source.into(), destination.into(), data.len(), 64);
            header.ident.set(ident);
            header.fragment.set(offset | if more { ipv4::MORE_FRAGMENTS } else { 0 });
            header.refresh_checksum();
            [&OWN.0[..], &CLIENT_MAC.0, &[8, 0], header.as_bytes(), data].concat()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let control = (offset << 3 | u16::from(more)).to_be_bytes();
            let head = [protocol, 0, control[0], control[1], 0, 0, (ident >> 8) as u8, ident as u8];
            packet6(source, destination, (FRAGMENT, 64), &[&head[..], data].concat())
        }
        _ => panic!("two families"),
    }
}

/// A datagram as a whole packet.
fn whole_frame(flow: &Flow, datagram: &[u8]) -> Vec<u8> {
    match (flow.source, flow.destination) {
        (IpAddr::V6(source), IpAddr::V6(destination)) => packet6(source, destination, (17, 64), datagram),
        _ => raw_piece(flow, (17, 0), datagram, (0, false)),
    }
}

/// In pieces of at most `step` bytes.
fn cut(flow: &Flow, ident: u16, whole: &[u8], step: usize) -> Vec<Vec<u8>> {
    (0..whole.len()).step_by(step).map(|start| piece(flow, ident, whole, (start, start + step))).collect()
}

/// Where a part begins and ends, what is in it, and whether it is the last.
type Part = (usize, usize, Vec<u8>, bool);

/// A receiver that puts packets together as Linux does: who overlaps ends the packet, and what repeats is passed over.
#[derive(Default)]
struct Receiver {
    parts: HashMap<(IpAddr, IpAddr, u32), Vec<Part>>,
    whole: Vec<(IpAddr, IpAddr, Datagram)>,
}

impl Receiver {
    /// Takes a packet that begins with its IP header, in a tunnel or not.
    fn take(&mut self, packet: &[u8]) {
        let address4 = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&packet[at..at + 4]).expect("four"));
        let address6 = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).expect("16"));
        let (ends, protocol, ident, start, more, data) = if packet[0] >> 4 == 4 {
            let header = Ipv4::ref_from_bytes(&packet[..20]).expect("a header");
            assert!(header.plain_checksum_is_right(), "{packet:02x?}");
            let fragment = header.fragment.get();
            let more = fragment & ipv4::MORE_FRAGMENTS != 0;
            let start = usize::from(fragment & ipv4::FRAGMENT_OFFSET) * 8;
            let data = &packet[20..usize::from(header.total_len.get())];
            let ident = u32::from(header.ident.get());
            ((address4(12), address4(16)), header.protocol, ident, start, more, data)
        } else {
            let end = 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]]));
            let data = &packet[40..end];
            match packet[6] {
                FRAGMENT => {
                    let control = u16::from_be_bytes([data[2], data[3]]);
                    let ident = u32::from_be_bytes([data[4], data[5], data[6], data[7]]);
                    let start = usize::from(control & !7);
                    ((address6(8), address6(24)), data[0], ident, start, control & 1 != 0, &data[8..])
                }
                next => ((address6(8), address6(24)), next, 0, 0, false, data),
            }
        };
        if start == 0 && !more {
            return self.take_whole(ends, protocol, data.to_vec());
        }
        let key = (ends.0, ends.1, ident);
        let parts = self.parts.entry(key).or_default();
        let end = start + data.len();
        let known_end = parts.iter().find(|part| part.3).map(|part| part.1);
        let is_beyond = known_end.is_some_and(|known| end > known || !more && end != known);
        let is_short = !more && parts.iter().any(|part| part.1 > end);
        let mut there = vec![false; 70_000];
        parts.iter().for_each(|part| there[part.0..part.1].fill(true));
        if is_beyond || is_short {
            self.parts.remove(&key);
            return;
        }
        if there[start..end].iter().all(|&there| there) {
            if !more && let Some(part) = parts.iter_mut().find(|part| part.1 == end) {
                part.3 = true;
            }
            return;
        }
        if there[start..end].iter().any(|&there| there) {
            self.parts.remove(&key);
            return;
        }
        parts.push((start, end, data.to_vec(), !more));
        there[start..end].fill(true);
        let known_end = parts.iter().find(|part| part.3).map(|part| part.1);
        if known_end.is_some_and(|end| there[..end].iter().all(|&there| there)) {
            parts.sort();
            let whole: Vec<u8> = parts.iter().flat_map(|part| part.2.clone()).collect();
            self.parts.remove(&key);
            self.take_whole(ends, protocol, whole);
        }
    }

    fn take_whole(&mut self, ends: (IpAddr, IpAddr), protocol: u8, whole: Vec<u8>) {
        match protocol {
            4 | 41 => self.take(&whole),
            _ => self.whole.push((ends.0, ends.1, whole)),
        }
    }

    fn take_frames(&mut self, frames: &[Vec<u8>]) {
        frames.iter().for_each(|frame| self.take(&frame[14..]));
    }
}

impl Lab {
    /// Lets so many milliseconds pass, and returns what is sent.
    fn settle(&mut self, millis: u64) -> Vec<Vec<u8>> {
        for _ in 0..millis {
            self.now.millis += 1;
            self.now.seconds = (self.now.millis / 1_000) as u32;
            for director in &mut self.directors {
                director.upkeep(&self.snapshot, self.now, &mut self.wire);
            }
        }
        let is_own = |frame: &Vec<u8>| frame[12..14] == [8, 6] || frame[0] == 0x33;
        let sent = self.wire.sent.drain(..).map(|(_, frame)| frame.bytes().to_vec());
        sent.filter(|frame| !is_own(frame)).collect()
    }
}

/// What a real server gets of a datagram to the virtual server, or a client of one from a real server.
fn translated(method: &str, flow: &Flow, whole: &[u8]) -> (IpAddr, IpAddr, Datagram) {
    let is_v6 = flow.source.is_ipv6();
    let mut after = *flow;
    if method == "nat" && flow.port == 53 {
        let server = reply(is_v6, 0);
        (after.destination, after.port) = (server.source, server.source_port);
    } else if method == "nat" {
        let vip = request(is_v6, 0);
        (after.source, after.source_port) = (vip.destination, vip.port);
    }
    let mut bytes = whole.to_vec();
    bytes[..2].copy_from_slice(&after.source_port.to_be_bytes());
    bytes[2..4].copy_from_slice(&after.port.to_be_bytes());
    bytes[6..8].fill(0);
    let sum = pseudo(&after, bytes.len()).bytes(&bytes).finish();
    bytes[6..8].copy_from_slice(sum.as_bytes());
    (after.source, after.destination, bytes)
}

const METHODS: [&str; 3] = ["dr", "tun", "nat"];

#[test]
fn a_datagram_in_pieces_arrives_whole_by_every_method_in_any_order_over_any_workers() {
    for (method, is_v6, workers) in METHODS
        .into_iter()
        .flat_map(|method| [(method, false, 1), (method, false, 2), (method, true, 1), (method, true, 2)])
    {
        let mut lab = Lab::new(&file(method, &[11], 1500), workers);
        let mut receiver = Receiver::default();
        let mut expected = Vec::new();
        let flows = [request(is_v6, 4_000), reply(is_v6, 4_000)];
        for (number, &flow) in flows.iter().enumerate().take(if method == "nat" { 2 } else { 1 }) {
            for (ident, len) in [(1, 2_000), (2, 65_000), (3, 65_000), (4, 9_000)] {
                let whole = datagram(&flow, len, ident as u8);
                let mut pieces = cut(&flow, ident + 10 * number as u16, &whole, 1_208);
                match ident {
                    2 => pieces.reverse(),
                    3 => pieces.sort_by_key(|piece| piece[100].wrapping_mul(97)),
                    _ => {}
                }
                for (at, piece) in pieces.into_iter().enumerate() {
                    let sent = lab.send_to(at % workers, piece);
                    receiver.take_frames(&sent);
                }
                receiver.take_frames(&lab.settle(20));
                expected.push(translated(method, &flow, &whole));
            }
        }
        assert_eq!(receiver.whole.len(), expected.len(), "{method} {is_v6} {workers}");
        assert!(receiver.whole == expected, "{method} {is_v6} {workers}");
        assert_eq!(lab.directors.iter().map(|director| director.held.waiting()).sum::<usize>(), 0);
        let records: usize = lab.directors.iter().map(|director| director.table.len()).sum();
        assert_eq!(records, 1, "{method} {is_v6} {workers}: one flow, one connection");
        lab.assert_counts_equal_a_recount();
    }
}

/// A cut that somebody means well with, or not: which datagram, where, how long, what is done, and to which worker.
type Step = (u8, u8, u8, u8);

/// A datagram with more behind it.
fn longer(whole: &[u8]) -> Vec<u8> {
    [whole, &[7; 300]].concat()
}

fn is_hostile((_, _, kind, _): Step) -> bool {
    kind <= 30
}

/// Pieces of three datagrams of 10 x 160 bytes, two of one flow; `step` may repeat one, or one that overlaps others.
fn hostile(flow: [Flow; 3], wholes: &[Datagram], (which, at, kind, _): Step) -> Vec<u8> {
    let which = usize::from(which) % 3;
    let whole = &wholes[which];
    let (mut start, mut end) = (usize::from(at) % 10 * 160, usize::from(at) % 10 * 160 + 160);
    match kind {
        0..=8 => start += 8,
        9..=16 => end += 8,
        17..=22 => end = whole.len() + 64,
        23..=30 => end += 160,
        _ => {}
    }
    let longer = longer(whole);
    let data = &longer[start..end];
    let more = end < whole.len();
    raw_piece(&flow[which], (17, which as u16 + 1), data, (start, more))
}

#[test]
fn what_arrives_whole_before_weir_is_the_same_behind_it() {
    let files: Vec<_> = METHODS.into_iter().map(|method| (method, file(method, &[11], 1500))).collect();
    bolero::check!().with_iterations(300).with_type::<(u8, bool, bool, Vec<Step>)>().for_each(
        |(which, is_v6, has_two, steps)| {
            let (method, config) = &files[usize::from(*which) % files.len()];
            let workers = 1 + usize::from(*has_two);
            let mut lab = Lab::new(config, workers);
            let flows = [request(*is_v6, 4_000), request(*is_v6, 4_000), request(*is_v6, 4_001)];
            let wholes: Vec<_> =
                flows.iter().enumerate().map(|(salt, flow)| datagram(flow, 1_592, salt as u8)).collect();
            let (mut before, mut behind) = (Receiver::default(), Receiver::default());
            let steps = steps.iter().copied().chain((0..30).map(|n| (n / 10, n % 10, 255, n)));
            let seen: Vec<Step> = steps.take(120).collect();
            for &step in &seen {
                let frame = hostile(flows, &wholes, step);
                before.take(&frame[14..]);
                let mut sent = lab.send_to(usize::from(step.3) % workers, frame);
                sent.extend(lab.settle(5));
                // A first piece of IPv6 may be too big for the way, and its sender is told.
                sent.retain(|frame| frame[..6] != CLIENT_MAC.0);
                behind.take_frames(&sent);
            }
            // Of pieces that overlap, some arrive; never is one datagram's part in another one, or to somebody else.
            for (source, destination, whole) in &behind.whole {
                let is_of = |(flow, sent): (&Flow, &Datagram)| {
                    let sent = longer(sent);
                    let (from, to, like) = translated(method, flow, &sent[..whole.len().min(sent.len())]);
                    (from, to) == (*source, *destination)
                        && like[..4] == whole[..4]
                        && like[8..] == whole[8..]
                };
                assert!(
                    flows.iter().zip(&wholes).any(is_of),
                    "{method}: a datagram that nobody sent, {whole:02x?}"
                );
            }
            if !seen.iter().copied().any(is_hostile) {
                let all = |whole: &Vec<(IpAddr, IpAddr, Datagram)>| {
                    whole.iter().map(|(_, _, data)| data[8..].to_vec()).collect::<HashSet<_>>()
                };
                assert_eq!(all(&before.whole), all(&behind.whole), "{method}");
            }
        },
    );
}

#[test]
fn a_piece_that_is_too_big_is_cut_again_and_of_ipv6_told_to_its_sender() {
    for method in METHODS {
        let mut lab = Lab::new(&file(method, &[11], 1_300), 1);
        let flow = request(false, 4_000);
        let whole = datagram(&flow, 6_000, 3);
        let mut receiver = Receiver::default();
        for piece in cut(&flow, 7, &whole, 1_480) {
            let sent = lab.send(piece);
            assert!(sent.iter().all(|frame| frame.len() <= 14 + 1_300));
            receiver.take_frames(&sent);
        }
        assert_eq!(receiver.whole, [translated(method, &flow, &whole)], "{method}");
        let flow = request(true, 4_000);
        let [first, later, ..] = &cut(&flow, 7, &datagram(&flow, 6_000, 3), 1_400)[..] else {
            panic!("five pieces")
        };
        let told = lab.send(first.clone());
        assert_eq!((told.len(), told[0][20], told[0][54]), (1, 58, 2), "{method}");
        assert!(lab.send(later.clone()).is_empty());
        assert_eq!((lab.dropped(DropReason::FragmentRefused), lab.directors[0].held.waiting()), (1, 0));
    }
}
