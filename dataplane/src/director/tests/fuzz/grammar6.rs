//! Frames of IPv6 by grammar: requests behind extension headers in any order and number, errors that quote anything, tunnels in
//! tunnels, with lengths that contradict each other.

use std::net::Ipv6Addr;

use super::chance::Chance;
use super::grammar::{self, Recent};
use super::judge::folded;
use super::packets::{GRE, IPIP, IPV6, SCTP, TCP, UDP, sctp, tcp, udp};

const ICMPV6: u8 = 58;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const OPTIONS: u8 = 60;

/// Weir itself, where its tunnels over IPv6 come from.
pub(super) const OWN6: Ipv6Addr = lan(2);
const SERVERS: [Ipv6Addr; 4] = [lan(0x11), lan(0x12), lan(0x13), lan(0x14)];
/// VIPs with virtual servers of one port, of all ports, of VRRP, and of a mark: a host and a network.
const VIPS: [Ipv6Addr; 6] = [
    lan(0x100),
    lan(0x100),
    lan(0x101),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100),
    lan(0x102),
    Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 7),
];
const CLIENTS: [Ipv6Addr; 4] = [
    lan(0x200),
    lan(0x201),
    Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 5),
    Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0xffff, 0, 0, 6),
];
/// Nobody, this host, groups, link-local ones, weir itself, a VIP, one of a mark's network, IPv4 in IPv6's clothes.
const OTHERS: [Ipv6Addr; 10] = [
    Ipv6Addr::UNSPECIFIED,
    Ipv6Addr::LOCALHOST,
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 0x1_3),
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9),
    Ipv6Addr::new(0xfebf, 1, 0, 0, 0, 0, 0, 9),
    lan(2),
    lan(0x100),
    Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 8),
    Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0x0a00, 0x000b),
];

const fn lan(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, last)
}

/// A packet under construction.
struct Ip6 {
    source: Ipv6Addr,
    destination: Ipv6Addr,
    protocol: u8,
    payload: Vec<u8>,
}

/// A packet for one of weir's addresses, mostly.
pub(super) fn packet(recent: &Recent, chance: &mut Chance) -> Vec<u8> {
    match chance.below(20) {
        0..8 => laid_out(request(chance), chance),
        8..12 => laid_out(error(recent, 0, chance), chance),
        12 => laid_out(echo(chance), chance),
        13 => laid_out(tunnel(recent, 0, chance), chance),
        14..16 => laid_out(reply(chance), chance),
        16 | 17 => back(recent, chance),
        18 => recent.packet6(chance).map_or_else(|| laid_out(request(chance), chance), <[u8]>::to_vec),
        _ => {
            let ip = if chance.once_in(2) { request(chance) } else { error(recent, 0, chance) };
            let mut bytes = laid_out(ip, chance);
            for _ in 0..1 + chance.below(3) {
                let at = chance.below(bytes.len());
                bytes[at] ^= 1 << chance.below(8);
            }
            bytes
        }
    }
}

/// A client's packet, as it is in a tunnel.
pub(super) fn inside(recent: &Recent, chance: &mut Chance) -> Vec<u8> {
    let ip = if chance.once_in(5) { error(recent, 2, chance) } else { request(chance) };
    laid_out(ip, chance)
}

/// Something that weir sent comes back from the one that it went to.
fn back(recent: &Recent, chance: &mut Chance) -> Vec<u8> {
    let Some(packet) = recent.packet6(chance) else { return laid_out(reply(chance), chance) };
    let mut packet = packet.to_vec();
    let (source, destination) = packet[8..40].split_at_mut(16);
    source.swap_with_slice(destination);
    if let Some(ports) = packet.get_mut(40..44) {
        ports.rotate_left(2);
    }
    packet
}

fn client(chance: &mut Chance) -> (Ipv6Addr, u16) {
    let address = match chance.below(20) {
        0 => chance.of(&OTHERS),
        1 => Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 1, chance.below(300) as u16),
        _ => chance.of(&CLIENTS),
    };
    let port = match chance.below(16) {
        0 => chance.word(),
        1 => chance.of(&[0, 20, 53]),
        _ => 1_000 + chance.below(6) as u16,
    };
    (address, port)
}

fn service(chance: &mut Chance) -> (u8, u16) {
    chance.of(&[
        (TCP, 80),
        (TCP, 80),
        (TCP, 80),
        (TCP, 21),
        (UDP, 53),
        (UDP, 53),
        (SCTP, 5_000),
        (TCP, 443),
        (TCP, 50_000),
        (UDP, 9),
    ])
}

fn between(protocol: u8, from: (Ipv6Addr, u16), to: (Ipv6Addr, u16), chance: &mut Chance) -> Ip6 {
    let len = match chance.below(20) {
        0 => chance.of(&[1_200, 1_380, 1_400, 1_440, 1_460, 1_600]),
        1..8 => 0,
        _ => chance.below(40),
    };
    let data = chance.bytes(len);
    let payload = match protocol {
        TCP => {
            let flags = chance.of(&[2, 2, 2, 0x10, 0x10, 0x18, 0x11, 4, 0x12, 0, 0x3f]);
            tcp(from.1, to.1, flags, &data, chance)
        }
        UDP => udp(from.1, to.1, &data, chance),
        SCTP => sctp(from.1, to.1, chance),
        _ => data,
    };
    Ip6 { source: from.0, destination: to.0, protocol, payload }
}

fn request(chance: &mut Chance) -> Ip6 {
    let (protocol, port) = service(chance);
    let protocol =
        if chance.once_in(20) { chance.of(&[IPIP, IPV6, GRE, 59, 89, 112, 255, 1]) } else { protocol };
    let (from, to) = (client(chance), chance.of(&VIPS));
    let to = if chance.once_in(16) { chance.of(&OTHERS) } else { to };
    between(protocol, from, (to, port), chance)
}

/// From a real server, as behind NAT.
fn reply(chance: &mut Chance) -> Ip6 {
    let (protocol, port) = service(chance);
    let (from, to) = (chance.of(&SERVERS), client(chance));
    let port = grammar::server_port(port, chance);
    between(protocol, (from, port), to, chance)
}

fn echo(chance: &mut Chance) -> Ip6 {
    let kind = chance.of(&[128, 128, 128, 129, 130, 133, 134, 137, 143, 200]);
    let payload = [&[kind, 0, 0, 0][..], &chance.bytes(4), &vec![0x5a; chance.below(1_600)]].concat();
    let destination = if chance.once_in(3) { lan(2) } else { chance.of(&VIPS) };
    Ip6 { source: client(chance).0, destination, protocol: ICMPV6, payload }
}

/// An ICMPv6 error, to whom it concerns or not.
fn error(recent: &Recent, depth: usize, chance: &mut Chance) -> Ip6 {
    let quoted = quote(recent, depth, chance);
    let (kind, code) = (chance.of(&[1, 2, 2, 2, 3, 4, 127, 100]), chance.of(&[0, 0, 1, 3, 4]));
    let rest = chance.of(&[0_u32, 1_280, 1_400, 68, 6, 40, u32::MAX]);
    let payload = [&[kind, code, 0, 0][..], &rest.to_be_bytes(), &quoted].concat();
    let sender = quoted.get(8..24).and_then(|bytes| bytes.first_chunk::<16>()).map(|it| Ipv6Addr::from(*it));
    let destination = match chance.below(6) {
        0 => chance.of(&VIPS),
        1 => chance.of(&OTHERS),
        _ => sender.unwrap_or(VIPS[0]),
    };
    let source = if chance.once_in(2) { client(chance).0 } else { lan(0x11) };
    Ip6 { source, destination, protocol: ICMPV6, payload }
}

/// A packet as errors quote it: to a client, to a VIP, an error again, in a tunnel, of IPv4, one that weir sent; whole, or cut
/// anywhere.
fn quote(recent: &Recent, depth: usize, chance: &mut Chance) -> Vec<u8> {
    let ip = match chance.below(15) {
        12.. => {
            // To a NAT real server.
            let (protocol, port) = service(chance);
            let (from, to) = (client(chance), chance.of(&SERVERS));
            let port = grammar::server_port(port, chance);
            between(protocol, from, (to, port), chance)
        }
        0..6 => {
            let (protocol, port) = service(chance);
            let (from, to) = (chance.of(&VIPS), client(chance));
            between(protocol, (from, port), to, chance)
        }
        6 | 7 => request(chance),
        8 if depth < 3 => error(recent, depth + 1, chance),
        9 if depth < 3 => tunnel(recent, depth + 1, chance),
        10 => match recent.packet6(chance) {
            Some(packet) => return cut(packet.to_vec(), chance),
            None => reply(chance),
        },
        11 if chance.once_in(3) => return cut(grammar::packet4(recent, chance), chance),
        _ => reply(chance),
    };
    let bytes = laid_out(ip, chance);
    cut(bytes, chance)
}

/// A packet in a packet in a packet.
fn tunnel(recent: &Recent, depth: usize, chance: &mut Chance) -> Ip6 {
    let (protocol, shim): (u8, &[u8]) = chance.of(&[
        (IPV6, &[][..]),
        (IPIP, &[][..]),
        (GRE, &[0, 0, 0x86, 0xdd][..]),
        (GRE, &[0, 0, 8, 0][..]),
        (GRE, &[0x80, 0, 0x86, 0xdd, 0, 0, 0, 0][..]),
        (UDP, &[0xc0, 1, 0x17, 0xc0, 0, 60, 0, 0, 0, 41, 0, 0][..]),
    ]);
    let inner = match chance.below(4) {
        0 if depth < 4 => laid_out(tunnel(recent, depth + 1, chance), chance),
        1 => grammar::packet4(recent, chance),
        _ => laid_out(request(chance), chance),
    };
    let (source, destination) = (OWN6, chance.of(&[SERVERS[0], SERVERS[1], SERVERS[2], VIPS[0], OWN6]));
    Ip6 { source, destination, protocol, payload: [shim, &inner].concat() }
}

fn cut(mut bytes: Vec<u8>, chance: &mut Chance) -> Vec<u8> {
    match chance.below(6) {
        0 => bytes.truncate(48),
        1 => bytes.truncate(chance.below(100)),
        2 => bytes.truncate(1_232),
        _ => {}
    }
    bytes
}

/// One header, and whether it is whole.
fn extension(kind: u8, next: u8, chance: &mut Chance) -> Vec<u8> {
    let mut header = vec![next, 0];
    match kind {
        FRAGMENT => {
            header[1] = chance.of(&[0, 0, 9]);
            let control = chance.of(&[0_u16, 0, 0, 1, 8, 9, 0xfff8, 6]);
            header.extend(control.to_be_bytes());
            header.extend(chance.bytes(4));
        }
        ROUTING => {
            let units = chance.of(&[0, 0, 2, 4]);
            header[1] = units;
            header.extend([chance.of(&[0, 2, 3, 4]), chance.of(&[0, 0, 0, 1, 255]), 0, 0, 0, 0]);
            header.resize(8 + usize::from(units) * 8, 7);
        }
        _ => {
            let units = chance.of(&[0, 0, 0, 1, 3, 20]);
            header[1] = units;
            let len = 6 + usize::from(units) * 8;
            match chance.once_in(3) {
                // One that pads all of it.
                true => {
                    header.extend([1, (len - 2) as u8]);
                    header.resize(2 + len, 0);
                }
                false => header.extend(options(len, chance)),
            }
        }
    }
    if chance.once_in(12) {
        header[1] = chance.of(&[0, 1, 2, 40, 255]);
    }
    if chance.once_in(30) {
        header.truncate(chance.below(header.len()));
    }
    header
}

/// Options of all kinds, each of which says what to do with it, mostly as long as they say.
fn options(len: usize, chance: &mut Chance) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < len {
        let kind = chance.of(&[0, 0, 1, 1, 1, 1, 1, 4, 5, 7, 0x1e, 0x3e, 0x5e, 0x9e, 0xc2, 0xde]);
        bytes.push(kind);
        if kind == 0 || bytes.len() == len {
            continue;
        }
        let room = len - bytes.len() - 1;
        let wanted = chance.of(&[0, 2, 4, 4, 5, room]).min(room);
        bytes.push(if chance.once_in(30) { chance.next() as u8 } else { wanted as u8 });
        let is_padding = kind == 1 && !chance.once_in(20);
        bytes.extend(if is_padding { vec![0; wanted] } else { chance.bytes(wanted) });
    }
    bytes
}

/// Puts the checksum in, extension headers in front, and the fixed header before them, with a length that is right or almost.
fn laid_out(mut ip: Ip6, chance: &mut Chance) -> Vec<u8> {
    fill_checksum(&mut ip, chance);
    let count = match chance.below(12) {
        0..7 => 0,
        7 | 8 => 1,
        9 => 2,
        10 => chance.of(&[3, 8, 9]),
        _ => chance.below(12),
    };
    let kinds: Vec<u8> = (0..count)
        .map(|number| match number {
            0 => chance.of(&[HOP_BY_HOP, OPTIONS, ROUTING, FRAGMENT]),
            _ => chance.of(&[OPTIONS, OPTIONS, ROUTING, FRAGMENT, HOP_BY_HOP, 51, 135]),
        })
        .collect();
    let mut behind = ip.payload;
    let mut next = ip.protocol;
    for kind in kinds.into_iter().rev() {
        behind = [extension(kind, next, chance), behind].concat();
        next = kind;
    }
    let len = match chance.below(20) {
        0 => chance.word(),
        1 => chance.of(&[0, 8, 20, 40]),
        2 => chance.below(behind.len() + 1) as u16,
        3 => behind.len() as u16 + chance.of(&[1, 8, 40]),
        _ => behind.len() as u16,
    };
    let mut bytes = vec![0x60 | chance.below(16) as u8, chance.next() as u8, chance.next() as u8, 7];
    if chance.once_in(60) {
        bytes[0] ^= chance.of(&[0x20, 0x10, 0x70]);
    }
    bytes.extend(len.to_be_bytes());
    bytes.extend([next, chance.of(&[64, 64, 64, 64, 255, 2, 1, 0])]);
    bytes.extend(ip.source.octets());
    bytes.extend(ip.destination.octets());
    bytes.extend(behind);
    if chance.once_in(16) {
        // A packet behind the packet.
        bytes.extend(chance.bytes(60));
    }
    bytes
}

fn fill_checksum(ip: &mut Ip6, chance: &mut Chance) {
    let at = match ip.protocol {
        TCP => 16,
        UDP => 6,
        ICMPV6 => 2,
        _ => return,
    };
    let Some(field) = ip.payload.get_mut(at..at + 2) else { return };
    field.fill(0);
    let pseudo = [
        &ip.source.octets()[..],
        &ip.destination.octets(),
        &(ip.payload.len() as u32).to_be_bytes(),
        &[0, 0, 0, ip.protocol],
    ];
    let mut sum = !folded(&ip.payload, folded(&pseudo.concat(), 0));
    if chance.once_in(20) {
        sum ^= 1 << chance.below(16);
    }
    ip.payload[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}
