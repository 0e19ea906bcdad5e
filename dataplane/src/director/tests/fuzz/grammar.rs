//! Frames by grammar: all that a director may meet, and what nobody who means well would send it.
//!
//! Addresses and ports come from short lists, so that most frames are of a connection that lives, and errors quote one.

use std::collections::VecDeque;

use super::case::Arrival;
use super::chance::Chance;
use super::grammar6;
use super::packets::{End, GRE, GUE_PORT, ICMP, IPIP, IPV6, Ip, SCTP, TCP, UDP, arp, icmp, sctp, tcp, udp};
use crate::address::Addr4;

pub(super) const OWN_MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];
const VIRTUAL_MAC: [u8; 6] = [0, 0, 0x5e, 0, 1, 51];
const VIRTUAL_MAC6: [u8; 6] = [0, 0, 0x5e, 0, 2, 52];
const BROADCAST: [u8; 6] = [0xff; 6];

pub(super) const OWN: [Addr4; 2] = [Addr4::new(10, 0, 0, 2), Addr4::new(198, 51, 100, 2)];
pub(super) const VIPS: [Addr4; 3] =
    [Addr4::new(10, 0, 0, 100), Addr4::new(10, 0, 0, 101), Addr4::new(10, 0, 0, 102)];
const CLIENTS: [Addr4; 4] = [
    Addr4::new(10, 0, 0, 200),
    Addr4::new(10, 0, 0, 201),
    Addr4::new(203, 0, 113, 5),
    Addr4::new(198, 51, 100, 9),
];
const FIRST_SERVER: Addr4 = Addr4::new(10, 0, 0, 11);
/// A stranger, another on-link one, this network, loopback, a group, everybody, the link's broadcast address.
const OTHERS: [Addr4; 7] = [
    Addr4::new(8, 8, 8, 8),
    Addr4::new(10, 0, 0, 77),
    Addr4::UNSPECIFIED,
    Addr4::new(127, 0, 0, 1),
    Addr4::new(224, 0, 0, 18),
    Addr4::new(255, 255, 255, 255),
    Addr4::new(10, 0, 0, 255),
];
const FLAGS: [u8; 10] = [2, 2, 0x10, 0x10, 0x18, 0x11, 4, 0x12, 0, 0x3f];
/// Frames that weir sent lately, at most.
const RECENT_MAX: usize = 24;

/// What has been sent lately, to be answered, repeated or quoted.
#[derive(Default)]
pub(super) struct Recent(VecDeque<Vec<u8>>);

impl Recent {
    pub(super) fn note(&mut self, frame: &[u8]) {
        if self.0.len() == RECENT_MAX {
            self.0.pop_front();
        }
        self.0.push_back(frame.to_vec());
    }

    /// The IPv4 packet of one of them.
    fn packet(&self, chance: &mut Chance) -> Option<&[u8]> {
        let frame = self.0.get(chance.below(RECENT_MAX))?;
        let l3 = if frame.get(12) == Some(&0x81) { 18 } else { 14 };
        frame.get(l3..).filter(|packet| packet.len() >= 20 && packet[0] >> 4 == 4)
    }

    /// The IPv6 packet of one of them.
    pub(super) fn packet6(&self, chance: &mut Chance) -> Option<&[u8]> {
        let frame = self.0.get(chance.below(RECENT_MAX))?;
        let l3 = if frame.get(12) == Some(&0x81) { 18 } else { 14 };
        frame.get(l3..).filter(|packet| packet.len() >= 40 && packet[0] >> 4 == 6)
    }
}

/// A frame for one of the ports.
pub(super) fn frame(port: usize, recent: &Recent, chance: &mut Chance) -> Arrival {
    let mut to = OWN_MACS[port];
    let mut ether_type = 0x0800;
    let payload;
    match chance.below(52) {
        40.. => {
            ether_type = 0x86dd;
            to = if chance.once_in(8) { VIRTUAL_MAC6 } else { to };
            payload = grammar6::packet(recent, chance);
        }
        0..12 => payload = laid_out(request(chance), recent, chance),
        12..20 => payload = laid_out(reply(chance), recent, chance),
        20..30 => payload = laid_out(error(recent, 0, chance), recent, chance),
        30 => payload = laid_out(echo(chance), recent, chance),
        31 => payload = laid_out(other(chance), recent, chance),
        32..34 => payload = back(recent, chance),
        34 | 35 => {
            ether_type = 0x0806;
            to = chance.of(&[to, BROADCAST, BROADCAST]);
            payload = neighbor(port, chance);
        }
        36 => {
            to = chance.of(&[[1, 0, 0x5e, 0, 0, 0x12], to]);
            payload = vrrp(chance).bytes(chance);
        }
        37 => {
            (to, ether_type, payload) = {
                let groups = [to, to, [0x33, 0x33, 0, 0, 0, 0x12], [0x33, 0x33, 0xff, 0, 0, 2]];
                (chance.of(&groups), 0x86dd, ipv6(recent, chance))
            }
        }
        38 => payload = flipped(recent, chance),
        _ => {
            let len = chance.below(90);
            (ether_type, payload) = (chance.of(&[0x0800, 0x0806, 0x88cc, 0x8100]), chance.bytes(len));
        }
    }
    to = if chance.once_in(25) { chance.of(&[VIRTUAL_MAC, BROADCAST, ROUTER_MAC]) } else { to };
    on_the_wire(to, ether_type, payload, chance)
}

/// Puts a link header in front, tags, padding behind, and lets it lie in one segment or in two.
fn on_the_wire(to: [u8; 6], ether_type: u16, payload: Vec<u8>, chance: &mut Chance) -> Arrival {
    let from =
        if chance.once_in(40) { chance.of(&[BROADCAST, OWN_MACS[0], [1; 6]]) } else { station(chance) };
    let mut bytes = [to, from].concat();
    let tags = if chance.once_in(8) { 1 + chance.below(2) / 2 + usize::from(chance.once_in(9)) } else { 0 };
    for _ in 0..tags {
        bytes.extend([0x81, 0]);
        bytes.extend(chance.of(&[7_u16, 7, 0, 0xe007, 0x0fff]).to_be_bytes());
    }
    bytes.extend(ether_type.to_be_bytes());
    bytes.extend(payload);
    match chance.below(12) {
        0..8 if bytes.len() < 60 => bytes.resize(60, 0),
        8 => bytes.extend(chance.bytes(100)),
        9 if chance.once_in(6) => bytes.truncate(chance.below(bytes.len() + 1)),
        _ => {}
    }
    let is_in_two = bytes.len() > 1_900 || chance.once_in(30);
    let first = if is_in_two { chance.below(bytes.len().min(1_900) + 1) } else { bytes.len() };
    // A driver puts some of a frame into its first segment.
    Arrival { first: first.max(bytes.len().min(14)), bytes }
}

fn station(chance: &mut Chance) -> [u8; 6] {
    chance.of(&[ROUTER_MAC, [2, 0, 0, 0, 0, 200], [2, 0, 0, 0, 0, 11], [2, 0, 0, 0, 0, 12]])
}

/// Gives a packet options, a TTL that ends, pieces, and a total length that leaves some of it, and maybe a quote of
/// something else, behind the packet.
fn laid_out(mut ip: Ip, recent: &Recent, chance: &mut Chance) -> Vec<u8> {
    ip.ttl = chance.of(&[64, 64, 64, 64, 255, 2, 1, 0]);
    if chance.once_in(12) {
        ip.options = chance
            .of::<&[u8]>(&[
                &[1, 1, 1],
                &[7, 7, 4, 0, 0, 0, 0],
                &[0x94, 4, 0, 0],
                &[0x83, 7, 4, 10, 0, 0, 1],
                &[7, 0],
                &[1; 40],
                &[0x44, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            ])
            .to_vec();
    }
    let fragment = chance.of(&[0x4000, 0x4000, 0, 0x2000, 1, 0x2001]);
    ip.fragment = if chance.once_in(10) { fragment } else { fragment & 0x4000 };
    let len = ip.payload.len();
    match chance.below(16) {
        0 => ip.covered = Some(chance.below(len + 1)),
        1 => {
            ip.covered = Some(chance.of(&[8, 20, 28, 36, 40]).min(len));
        }
        2 => {
            // All of it, and a packet behind.
            ip.covered = Some(len);
            let behind = quote(recent, 0, chance);
            ip.payload.extend(behind);
        }
        3 if chance.once_in(4) => ip.covered = Some(chance.below(0xffff)),
        _ => {}
    }
    ip.bytes(chance)
}

/// One that is in a tunnel over IPv6, or quoted there.
pub(super) fn packet4(recent: &Recent, chance: &mut Chance) -> Vec<u8> {
    let ip = if chance.once_in(4) { error(recent, 2, chance) } else { request(chance) };
    ip.bytes(chance)
}

fn vip(chance: &mut Chance) -> Addr4 {
    VIPS[chance.below(8) % 3]
}

fn client(chance: &mut Chance) -> End {
    let address = match chance.below(20) {
        0 => chance.of(&OTHERS),
        1 => chance.of(&[OWN[0], OWN[1], VIPS[0], FIRST_SERVER]),
        2 => Addr4::new(10, 0, 0, chance.below(256) as u8),
        _ => chance.of(&CLIENTS),
    };
    let port = match chance.below(16) {
        0 => chance.word(),
        1 => chance.of(&[0, 20, 53]),
        _ => 1_000 + chance.below(6) as u16,
    };
    (address, port)
}

fn server(chance: &mut Chance) -> Addr4 {
    FIRST_SERVER.plus(chance.below(4) as u32)
}

/// Protocol, and the port of its virtual server.
fn service(chance: &mut Chance) -> (u8, u16) {
    chance.of(&[
        (TCP, 80),
        (TCP, 80),
        (TCP, 80),
        (TCP, 21),
        (TCP, 21),
        (UDP, 53),
        (UDP, 53),
        (SCTP, 5_000),
        (TCP, 443),
        (TCP, 50_000),
        (TCP, 20),
        (UDP, 9),
    ])
}

fn data(chance: &mut Chance) -> Vec<u8> {
    let len = match chance.below(24) {
        0 => chance.of(&[1_400, 1_460, 1_480, 1_500, 1_600, 2_900]),
        1 => 500 + chance.below(200),
        2..8 => 0,
        _ => chance.below(40),
    };
    chance.bytes(len)
}

/// A packet of a protocol between two ends.
fn between(protocol: u8, from: End, to: End, chance: &mut Chance) -> Ip {
    let is_ftp = protocol == TCP && (to.1 == 21 || from.1 == 2_121) && !chance.once_in(4);
    let data = if is_ftp { ftp_lines(chance) } else { data(chance) };
    let payload = match protocol {
        TCP => {
            let flags = chance.of(&FLAGS);
            tcp(from.1, to.1, flags, &data, chance)
        }
        UDP => udp(from.1, to.1, &data, chance),
        SCTP => sctp(from.1, to.1, chance),
        _ => data,
    };
    Ip::new(protocol, from.0, to.0, payload)
}

/// What the ends of a control connection of FTP say, and what looks like it.
pub(super) fn ftp_lines(chance: &mut Chance) -> Vec<u8> {
    let mut text = String::new();
    for _ in 0..chance.below(5) {
        text += chance.of(&[
            "PASV\r\n",
            "EPSV\r\n",
            "220 hello\r\n",
            "PORT 10,0,0,200,3,232\r\n",
            "PORT 10,0,0,200,4,",
            "EPRT |2|2001:db8:7::1|1234|\r\n",
            "227 Entering Passive Mode (10,0,0,11,195,80).\r\n",
            "227 Entering Passive Mode (10,0,0,12,4,1)\r\n",
            "227 (10,0,0,13,",
            "229 ok (|||50000|)\r\n",
            "\n",
            "550 ",
        ]);
    }
    text.into_bytes()
}

fn request(chance: &mut Chance) -> Ip {
    let (protocol, port) = service(chance);
    let (from, to) = (client(chance), vip(chance));
    between(protocol, from, (to, port), chance)
}

/// The port of a NAT real server.
pub(super) fn server_port(port: u16, chance: &mut Chance) -> u16 {
    let translated = match port {
        80 => 8_080,
        53 => 5_353,
        5_000 => 5_001,
        21 => 2_121,
        other => other,
    };
    chance.of(&[translated, translated, port])
}

fn reply(chance: &mut Chance) -> Ip {
    let (protocol, port) = service(chance);
    let (from, to) = (server(chance), client(chance));
    let port = server_port(port, chance);
    between(protocol, (from, port), to, chance)
}

fn echo(chance: &mut Chance) -> Ip {
    let to = chance.of(&[OWN[0], OWN[1], VIPS[0], VIPS[1], OTHERS[0]]);
    let message = match chance.below(4) {
        0 => icmp(8, 0, 0, &[0; 32]),
        1 => icmp(chance.word() as u8, 0, chance.word().into(), &data(chance)),
        _ => icmp(8, 0, chance.next() as u32, &data(chance)),
    };
    Ip::new(ICMP, client(chance).0, to, message)
}

/// Another protocol, or one of those to an address that is weir's or nobody's.
fn other(chance: &mut Chance) -> Ip {
    let from = client(chance);
    let to = (chance.of(&[OWN[0], OWN[1], VIPS[0], OTHERS[0], OTHERS[5]]), chance.of(&[80, 22, 53, 33_434]));
    let protocol = chance.of(&[TCP, UDP, SCTP, IPIP, 47, 89, 255, 41]);
    between(protocol, from, to, chance)
}

/// An ICMP error, to whom it concerns or not.
fn error(recent: &Recent, depth: usize, chance: &mut Chance) -> Ip {
    let quoted = quote(recent, depth, chance);
    let kind = chance.of(&[3, 3, 3, 11, 12, 4, 5]);
    let code = chance.of(&[0, 1, 3, 4, 4]);
    let message = icmp(kind, code, chance.of(&[0, 1_400, 576, 68, 0, 0xffff_ffff]), &quoted);
    let from = match chance.below(3) {
        0 => server(chance),
        1 => OTHERS[0],
        _ => client(chance).0,
    };
    let sender =
        quoted.get(12..16).and_then(|bytes| bytes.first_chunk::<4>()).map(|octets| Addr4::from(*octets));
    let to = match chance.below(6) {
        0 => chance.of(&[OWN[0], VIPS[0], VIPS[1], OTHERS[0]]),
        _ => sender.unwrap_or(VIPS[0]),
    };
    Ip::new(ICMP, from, to, message)
}

/// A packet as errors quote it: of a connection's way out or back, in a tunnel, an error again, one that weir sent;
/// whole, or cut anywhere.
fn quote(recent: &Recent, depth: usize, chance: &mut Chance) -> Vec<u8> {
    let mut ip = match chance.below(12) {
        0..3 => {
            // To the client, from the VIP.
            let (protocol, port) = service(chance);
            let (from, to) = (vip(chance), client(chance));
            between(protocol, (from, port), to, chance)
        }
        3..6 => {
            // To a NAT real server.
            let (protocol, port) = service(chance);
            let (from, to) = (client(chance), server(chance));
            let port = server_port(port, chance);
            between(protocol, from, (to, port), chance)
        }
        6..9 => {
            if chance.once_in(3) {
                return cut(around6(recent, chance), chance);
            }
            let inner = request(chance);
            let mut inner =
                if depth < 3 && chance.once_in(4) { error(recent, depth + 1, chance) } else { inner };
            inner.may_be_wrong = chance.once_in(4);
            let (protocol, shim) = tunnel(chance);
            Ip::new(protocol, chance.of(&OWN), server(chance), [shim, inner.bytes(chance)].concat())
        }
        9 if depth < 3 => error(recent, depth + 1, chance),
        10 => match recent.packet(chance) {
            Some(packet) => return cut(packet.to_vec(), chance),
            None => echo(chance),
        },
        _ => request(chance),
    };
    ip.may_be_wrong = chance.once_in(4);
    if chance.once_in(8) {
        ip.options = vec![1; 4 * (1 + chance.below(10))];
    }
    if chance.once_in(8) {
        ip.covered = Some(chance.below(1_500));
    }
    if chance.once_in(12) {
        ip.fragment = chance.of(&[0x2000, 1, 0x2001, 0x4000]);
    }
    let bytes = ip.bytes(chance);
    cut(bytes, chance)
}

/// What stands around a packet in a tunnel: the outer protocol and what follows the outer header; right, or almost.
fn tunnel(chance: &mut Chance) -> (u8, Vec<u8>) {
    let (protocol, mut shim) = match chance.below(4) {
        0 => {
            let options = chance.of(&[0, 0, 0, 1, 31]);
            let ports = [chance.below(1 << 16) as u16, chance.of(&[GUE_PORT, GUE_PORT, 53])];
            let mut shim: Vec<u8> = ports.iter().flat_map(|port| port.to_be_bytes()).collect();
            shim.extend([0, 60, 0, chance.below(2) as u8, options, IPIP, 0, 0]);
            shim.resize(shim.len() + usize::from(options) * 4, 0xa5);
            (UDP, shim)
        }
        1 => (GRE, vec![0, 0, 8, 0]),
        2 => (GRE, vec![0x80, 0, 8, 0, 0, 0, 0, 0]),
        _ => return (IPIP, Vec::new()),
    };
    if chance.once_in(6) {
        let at = chance.below(shim.len());
        shim[at] ^= 1 << chance.below(8);
    }
    (protocol, shim)
}

/// A tunnel packet to a real server of IPv4 with a packet of IPv6 inside.
fn around6(recent: &Recent, chance: &mut Chance) -> Vec<u8> {
    let (protocol, mut shim) = tunnel(chance);
    let at = if protocol == UDP { 9 } else { 2 };
    let (protocol, kind): (u8, &[u8]) = match protocol {
        UDP => (UDP, &[IPV6]),
        GRE => (GRE, &[0x86, 0xdd]),
        _ => (IPV6, &[]),
    };
    if let Some(field) = shim.get_mut(at..at + kind.len()) {
        field.copy_from_slice(kind);
    }
    let inner = grammar6::inside(recent, chance);
    Ip::new(protocol, chance.of(&OWN), server(chance), [shim, inner].concat()).bytes(chance)
}

/// A tunnel packet to a real server of IPv6, as errors quote it; whole, or cut anywhere.
fn quote6((from, to): ([u8; 16], [u8; 16]), recent: &Recent, chance: &mut Chance) -> Vec<u8> {
    let mut inner = if chance.once_in(5) { error(recent, 2, chance) } else { request(chance) };
    inner.may_be_wrong = chance.once_in(6);
    let (protocol, shim) = tunnel(chance);
    let fragment = if chance.once_in(5) {
        vec![protocol, 0, 0, chance.of(&[1, 0, 8, 9]), 1, 2, 3, 4]
    } else {
        Vec::new()
    };
    let next = if fragment.is_empty() { protocol } else { 44 };
    let behind = [fragment, shim, inner.bytes(chance)].concat();
    let len = if chance.once_in(10) { chance.word() } else { behind.len() as u16 };
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend(len.to_be_bytes());
    bytes.extend([next, chance.of(&[63, 1, 255])]);
    let (from, to) = if chance.once_in(8) { (to, from) } else { (from, to) };
    bytes.extend(from);
    bytes.extend(to);
    bytes.extend(behind);
    cut(bytes, chance)
}

fn cut(mut bytes: Vec<u8>, chance: &mut Chance) -> Vec<u8> {
    match chance.below(6) {
        0 => bytes.truncate(28),
        1 => bytes.truncate(chance.below(60)),
        2 => bytes.truncate(548),
        _ => {}
    }
    bytes
}

/// Something that weir sent comes back: as it was, or from the one that it went to.
fn back(recent: &Recent, chance: &mut Chance) -> Vec<u8> {
    let Some(packet) = recent.packet(chance) else { return request(chance).bytes(chance) };
    let mut packet = packet.to_vec();
    if !chance.once_in(4) {
        let (source, destination) = packet[12..20].split_at_mut(4);
        source.swap_with_slice(destination);
        let l4 = usize::from(packet[0] & 15) * 4;
        if let Some(ports) = packet.get_mut(l4..l4 + 4) {
            ports.rotate_left(2);
        }
    }
    packet
}

/// Some bits of a packet turned.
fn flipped(recent: &Recent, chance: &mut Chance) -> Vec<u8> {
    let ip = if chance.once_in(2) { request(chance) } else { error(recent, 0, chance) };
    let mut bytes = ip.bytes(chance);
    for _ in 0..1 + chance.below(3) {
        let at = chance.below(bytes.len());
        bytes[at] ^= 1 << chance.below(8);
    }
    bytes
}

fn neighbor(port: usize, chance: &mut Chance) -> Vec<u8> {
    let octet = chance.of(&[11, 12, 13, 14, 200, 201, 100, 2]);
    let known = chance.of(&[
        Addr4::new(10, 0, 0, octet),
        Addr4::new(198, 51, 100, 1),
        Addr4::new(198, 51, 100, 9),
        Addr4::UNSPECIFIED,
    ]);
    let mac = match chance.below(8) {
        0 => chance.of(&[BROADCAST, OWN_MACS[0], VIRTUAL_MAC, [0; 6]]),
        _ => [2, 0, 0, 0, 0, known.octets()[3]],
    };
    let asked = chance.of(&[OWN[0], OWN[1], VIPS[0], VIPS[1], VIPS[2], known, OTHERS[0]]);
    let target = (chance.of(&[OWN_MACS[port], [0; 6]]), asked);
    arp(chance.of(&[1, 1, 2, 2, 2, 3]), (mac, known), target, chance)
}

fn vrrp(chance: &mut Chance) -> Ip {
    let to = chance.of(&[Addr4::new(224, 0, 0, 18), OWN[0], VIPS[0]]);
    let mut ip = Ip::new(chance.of(&[112, 51, 112]), Addr4::new(10, 0, 0, 3), to, chance.bytes(12));
    ip.ttl = chance.of(&[255, 254]);
    ip
}

/// Neighbour discovery, echo and VRRP for IPv6.
fn ipv6(recent: &Recent, chance: &mut Chance) -> Vec<u8> {
    // Of VRRP, the port's own, and of real servers.
    let lan = |last: u8| [0x20, 1, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
    let vip = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    let server = lan(chance.of(&[0x11, 0x12, 0x13, 0x14, 0xfe]));
    let vip = chance.of(&[vip, lan(2), server]);
    let mut group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, vip[14], vip[15]];
    group[15] ^= u8::from(chance.once_in(8));
    let peer = match chance.below(3) {
        0 => [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9],
        _ => server,
    };
    let mut message = vec![chance.of(&[135, 135, 136, 136, 128, 134, 1, 2, 3]), 0, 0, 0, 0, 0, 0, 0];
    let is_error = message[0] < 128;
    if is_error {
        message[6..8].copy_from_slice(&chance.of(&[1_400, 1_280, 0, 0xffff_u16]).to_be_bytes());
        message.extend(quote6((lan(2), server), recent, chance));
    } else {
        message[4] = chance.of(&[0, 0x20, 0x40, 0x60, 0xe0]);
        message.extend(vip);
    }
    if !is_error && !chance.once_in(3) {
        message.extend([
            chance.of(&[1, 2]),
            chance.of(&[1, 1, 1, 0, 9]),
            2,
            0,
            0,
            0,
            0,
            chance.of(&[9, 17, 18]),
        ]);
    }
    if chance.once_in(8) {
        message.truncate(chance.below(message.len()));
    }
    let (next, hops) = (chance.of(&[58, 58, 58, 112, 0]), chance.of(&[255, 255, 64]));
    let source = if chance.once_in(5) { [0; 16] } else { peer };
    let destination = if is_error { lan(2) } else { chance.of(&[vip, group, group, lan(2), peer]) };
    let len = if chance.once_in(20) { chance.word() } else { message.len() as u16 };
    if let Some(field) = message.get_mut(2..4) {
        field.fill(0);
        let pseudo = [&source[..], &destination, &u32::from(len).to_be_bytes(), &[0, 0, 0, 58]].concat();
        let sum = !super::judge::folded(&message, super::judge::folded(&pseudo, 0));
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend(len.to_be_bytes());
    bytes.extend([next, hops]);
    bytes.extend(source);
    bytes.extend(destination);
    bytes.extend(message);
    bytes
}
