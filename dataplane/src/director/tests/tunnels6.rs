//! IPv6 virtual servers by tunnel, with real servers of either family: what comes out, what is too big, and what routers on the way
//! to a real server say of it.

use std::net::{IpAddr, Ipv6Addr};

use weir_config::model::Family;

use super::*;
use crate::wire::checksum::Sum;
use crate::wire::encap::Encap;
use crate::wire::icmp6::{ICMPV6, kind};
use crate::wire::l4::icmp;

const OWN4: [u8; 4] = [10, 0, 0, 2];
const OWN6: &str = "2001:db8::2";
const VIP6: &str = "2001:db8::100";
const ROUTER6: &str = "2001:db8::fe";
const SERVERS: [&str; 2] = ["2001:db8::11", "10.0.0.11"];
/// The keys of a real server, and what its tunnel's own headers take.
const KINDS: [(&str, u16); 6] = [
    ("", 0),
    ("tunnel = \"gue\"", 12),
    ("tunnel = \"gue\"\ntunnel_port = 666\ntunnel_checksum = \"csum\"", 12),
    ("tunnel = \"gue\"\ntunnel_checksum = \"remcsum\"", 12),
    ("tunnel = \"gre\"", 4),
    ("tunnel = \"gre\"\ntunnel_checksum = \"csum\"", 8),
];
const PORT: u16 = 40_000;

/// One real server, on a port with this MTU. The client is behind a gateway.
fn file(server: &str, keys: &str, mtu: u16) -> Config {
    let text = file_text(server, keys, mtu);
    weir_config::parse("test", &text).unwrap_or_else(|report| panic!("{report}")).config
}

fn file_text(server: &str, keys: &str, mtu: u16) -> String {
    let mut text = format!(
        "[connections]\ncapacity = 1024\n\
         [[port]]\nname = \"lan\"\ndevice = \"x\"\nmtu = {mtu}\naddresses = [\"10.0.0.2/24\", \"{OWN6}/64\"]\n\
         [[route]]\ndestination = \"::/0\"\ngateway = \"2001:db8::cc\"\n\
         [[neighbor]]\naddress = \"2001:db8::cc\"\nmac = \"02:00:00:00:00:cc\"\n"
    );
    for address in SERVERS {
        text += &format!("[[neighbor]]\naddress = \"{address}\"\nmac = \"02:00:00:00:00:11\"\n");
    }
    text += &format!(
        "[[virtual_server]]\nname = \"web\"\naddress = \"{VIP6}\"\nport = 80\nprotocol = \"tcp\"\nforwarding = \"tun\"\n\
         [[virtual_server.real_server]]\naddress = \"{server}\"\n{keys}\n"
    );
    text
}

fn v6(text: &str) -> Ipv6Addr {
    text.parse().expect("an address")
}

fn client() -> Ipv6Addr {
    v6("2001:db8:7::1")
}

fn packet6(ends: (Ipv6Addr, Ipv6Addr), (next, hop_limit): (u8, u8), payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x6b, 0x91, 0x23, 0x45];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, hop_limit]);
    packet.extend(ends.0.octets());
    packet.extend(ends.1.octets());
    packet.extend(payload);
    packet
}

fn packet4(protocol: u8, source: [u8; 4], destination: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let header = Ipv4::new(protocol, source.into(), destination.into(), payload.len(), 64);
    [header.as_bytes(), payload].concat()
}

/// A segment of the client's.
fn segment(flags: u8, len: usize) -> Vec<u8> {
    let mut bytes = PORT.to_be_bytes().to_vec();
    bytes.extend([0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 1, 0, 0, 0, 0, 0]);
    bytes.resize(len - 40, 7);
    packet6((client(), v6(VIP6)), (ipv4::TCP, 64), &bytes)
}

fn on_wire(packet: &[u8]) -> Vec<u8> {
    let kind = if packet[0] >> 4 == 6 { [0x86, 0xdd] } else { [8, 0] };
    [&OWN.0[..], &CLIENT_MAC.0, &kind, packet].concat()
}

/// As it lies in a tunnel, one hop later.
fn later(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[7] -= 1;
    packet
}

fn is_v6(server: &str) -> bool {
    server.contains(':')
}

/// Bytes around a packet, of all headers.
fn overhead(server: &str, shim: u16) -> u16 {
    shim + if is_v6(server) { 40 } else { 20 }
}

/// What a tunnel packet in a frame holds: its tunnel and the packet inside, after a look at the outer header.
fn unwrapped(frame: &[u8], server: &str) -> (Encap, Vec<u8>) {
    let packet = &frame[14..];
    let at = if is_v6(server) {
        assert_eq!((&frame[12..14], packet[0] >> 4), (&[0x86, 0xdd][..], 6));
        assert_eq!((&packet[8..24], &packet[24..40]), (&v6(OWN6).octets()[..], &v6(server).octets()[..]));
        assert_eq!(usize::from(u16::from_be_bytes([packet[4], packet[5]])), packet.len() - 40);
        40
    } else {
        assert_eq!((&frame[12..14], packet[0]), (&[8, 0][..], 0x45));
        assert!(ipv4::checksum_is_right(&packet[..20]));
        assert_eq!((&packet[12..16], &packet[16..20]), (&OWN4[..], &[10, 0, 0, 11][..]));
        assert_eq!(packet[6..8], [0, 0], "it may be cut");
        assert_eq!(usize::from(u16::from_be_bytes([packet[2], packet[3]])), packet.len());
        20
    };
    let (encap, family, shim) =
        Encap::read(packet[if at == 40 { 6 } else { 9 }], &packet[at..]).expect("a tunnel");
    assert_eq!(family, Family::V6);
    (encap, packet[at + shim..].to_vec())
}

/// A router's error about a packet of weir's, to its source.
fn error_about(packet: &[u8], (kind, code, rest): (u8, u8, u32)) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(rest.to_be_bytes());
    message.extend_from_slice(packet);
    if packet[0] >> 4 == 4 {
        let sum = Sum::default().bytes(&message).finish();
        message[2..4].copy_from_slice(sum.as_bytes());
        return on_wire(&packet4(ipv4::ICMP, [10, 0, 0, 250], OWN4, &message));
    }
    error_from(ROUTER6, packet, (kind, code, rest))
}

/// The same about a packet over IPv6, from this address.
fn error_from(source: &str, packet: &[u8], (kind, code, rest): (u8, u8, u32)) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(rest.to_be_bytes());
    message.extend_from_slice(packet);
    let ends = (v6(source), v6(OWN6));
    let pseudo = Sum::default().bytes(&ends.0.octets()).bytes(&ends.1.octets());
    let sum = pseudo.long(message.len() as u32).word(ICMPV6.into()).bytes(&message).finish();
    message[2..4].copy_from_slice(sum.as_bytes());
    on_wire(&packet6(ends, (ICMPV6, 64), &message))
}

/// What an ICMPv6 error says that goes to the client: type, code, the word behind the checksum, what it quotes.
fn told(frame: &[u8], source: &str) -> (u8, u8, u32, Vec<u8>) {
    assert_eq!((&frame[..6], &frame[12..14], frame[20]), (&CLIENT_MAC.0[..], &[0x86, 0xdd][..], ICMPV6));
    assert_eq!((&frame[22..38], &frame[38..54]), (&v6(source).octets()[..], &client().octets()[..]));
    assert!(frame.len() <= 14 + 1_280);
    assert_eq!(usize::from(u16::from_be_bytes([frame[18], frame[19]])), frame.len() - 54);
    let sum = Sum::default().bytes(&frame[22..54]).long(frame.len() as u32 - 54).word(ICMPV6.into());
    assert_eq!(sum.bytes(&frame[54..]).fold(), 0xffff);
    let rest = u32::from_be_bytes(frame[58..62].try_into().expect("four bytes"));
    (frame[54], frame[55], rest, frame[62..].to_vec())
}

/// Each kind of tunnel to a real server of each family.
fn each(mtu: u16, mut test: impl FnMut(Lab, &str, u16)) {
    for server in SERVERS {
        for (keys, shim) in KINDS {
            let mut lab = Lab::new(&file(server, keys, mtu), 1);
            lab.send(on_wire(&segment(SYN, 60)));
            test(lab, server, shim);
        }
    }
}

#[test]
fn a_packet_goes_to_real_servers_of_either_family_as_it_is() {
    each(1_500, |mut lab, server, shim| {
        let given = segment(ACK, 333);
        let sent = lab.send([&on_wire(&given)[..], &[0xee; 4]].concat());
        assert_eq!((sent.len(), &sent[0][..6]), (1, &[2, 0, 0, 0, 0, 0x11][..]));
        let (_, inside) = unwrapped(&sent[0], server);
        assert_eq!(inside, later(&given));
        assert_eq!(sent[0].len() - 14, 333 + usize::from(overhead(server, shim)));
        let carried = lab.snapshot.servers().next().expect("a real server").live.traffic();
        assert_eq!((carried.in_packets, carried.in_bytes), (2, 60 + 333));
        lab.assert_counts_equal_a_recount();
    });
}

#[test]
fn what_is_too_big_for_the_tunnel_is_told_to_the_client_and_never_less_than_1280() {
    for mtu in [1_500, 1_400, 1_300, 1_280] {
        each(mtu, |mut lab, server, shim| {
            let fits = mtu - overhead(server, shim);
            let least = fits.max(1_280);
            let sent = lab.send(on_wire(&segment(ACK, usize::from(least))));
            let count = 1 + usize::from(fits < 1_280);
            assert_eq!(sent.len(), count, "{least} bytes through {fits} of {mtu}");
            let told_of = segment(ACK, usize::from(least) + 1);
            let answer = lab.send(on_wire(&told_of));
            let (kind, code, rest, quote) = told(&answer[0], OWN6);
            assert_eq!((kind, code, rest), (kind::TOO_BIG, 0, u32::from(least)));
            assert_eq!(quote, later(&told_of)[..1_280 - 48]);
        });
    }
}

#[test]
fn what_no_sender_can_make_smaller_is_cut_outside() {
    each(1_280, |mut lab, server, _| {
        let given = segment(ACK, 1_280);
        let sent = lab.send(on_wire(&given));
        let mut whole = Vec::new();
        for piece in &sent {
            let packet = &piece[14..];
            assert!(packet.len() <= 1_280);
            if is_v6(server) {
                assert_eq!(packet[6], 44);
                assert_eq!(usize::from(u16::from_be_bytes([packet[42], packet[43]]) & !7), whole.len());
                whole.extend_from_slice(&packet[48..]);
            } else {
                assert!(ipv4::checksum_is_right(&packet[..20]));
                let offset = u16::from_be_bytes([packet[6], packet[7]]) & 0x1fff;
                assert_eq!(usize::from(offset) * 8, whole.len());
                whole.extend_from_slice(&packet[20..]);
            }
        }
        assert_eq!(sent.len(), 2);
        assert!(whole.ends_with(&later(&given)));
    });
}

#[test]
fn errors_about_the_outer_packet_are_told_to_the_client_about_its_own() {
    each(1_500, |mut lab, server, shim| {
        let given = segment(ACK, 400);
        let sent = lab.send(on_wire(&given));
        let outer = &sent[0][14..];
        let too_big = |mtu: u32| {
            if is_v6(server) {
                (kind::TOO_BIG, 0, mtu)
            } else {
                (icmp::UNREACHABLE, icmp::FRAGMENTATION_NEEDED, mtu)
            }
        };
        // The last is a real server's, which lacks the tunnel's device.
        let (gone, late, unknown) = if is_v6(server) {
            ((kind::UNREACHABLE, 3, 0), (kind::TIME_EXCEEDED, 0, 0), (kind::PARAMETER_PROBLEM, 1, 6))
        } else {
            ((icmp::UNREACHABLE, 1, 0), (icmp::TIME_EXCEEDED, 0, 0), (icmp::UNREACHABLE, 2, 0))
        };
        let over = u32::from(overhead(server, shim));
        let unreachable = (kind::UNREACHABLE, 3, 0);
        for (said, meant) in [
            (too_big(1_400), (kind::TOO_BIG, 0, 1_400 - over)),
            (too_big(1_290), (kind::TOO_BIG, 0, 1_280)),
            (too_big(0), (kind::TOO_BIG, 0, 1_280)),
            (gone, unreachable),
            (late, unreachable),
            (unknown, unreachable),
        ] {
            let answer = lab.send(error_about(outer, said));
            assert_eq!(answer.len(), 1, "{said:?} about {server}");
            let (kind, code, rest, quote) = told(&answer[0], VIP6);
            assert_eq!((kind, code, rest), meant, "{said:?} about {server}");
            assert_eq!(quote, later(&given));
        }
    });
}

#[test]
fn a_link_on_the_way_that_takes_no_more_than_any_has_tunnel_packets_cut_for_a_while() {
    for (keys, shim) in KINDS {
        let mut lab = Lab::new(&file(SERVERS[0], keys, 1_500), 1);
        lab.send(on_wire(&segment(SYN, 60)));
        let full = || on_wire(&segment(ACK, 1_280));
        let sent = lab.send(full());
        assert_eq!(sent.len(), 1);
        let narrow = |mtu| error_about(&sent[0][14..], (kind::TOO_BIG, 0, mtu));
        // That leaves what the client can do.
        lab.send(narrow(u32::from(1_280 + overhead(SERVERS[0], shim))));
        assert_eq!(lab.send(full()).len(), 1);
        // Nobody's link takes so little, and no such host tells of it.
        for mtu in [0, 1_279] {
            lab.send(narrow(mtu));
        }
        for source in ["ff02::1", "::ffff:1.1.1.1", "::1", "::"] {
            let quote = &sent[0][14..];
            lab.send(error_from(source, quote, (kind::TOO_BIG, 0, 1_280)));
        }
        assert_eq!(lab.send(full()).len(), 1);
        let answer = lab.send(narrow(1_280));
        assert_eq!(told(&answer[0], VIP6).2, 1_280);
        let pieces = lab.send(full());
        assert_eq!(pieces.iter().map(|piece| usize::from(piece.len() - 14 <= 1_280)).sum::<usize>(), 2);
        assert_eq!(
            lab.send(on_wire(&segment(ACK, 1_280 - usize::from(overhead(SERVERS[0], shim))))).len(),
            1
        );
        lab.pass_millis(599_000);
        assert_eq!(lab.send(full()).len(), 2);
        lab.pass_millis(1_000);
        assert_eq!(lab.send(full()).len(), 1, "the way may have become wider");
    }
}

/// A client's segment of IPv4 with so many bytes behind the header, and these flags for pieces.
fn segment4(fragment: [u8; 2], len: usize) -> Vec<u8> {
    let mut payload = segment(ACK, 20 + len)[40..].to_vec();
    payload[13] = if len == 40 { SYN } else { ACK };
    let mut packet = packet4(ipv4::TCP, [10, 0, 0, 7], [10, 0, 0, 100], &payload);
    packet[6..8].copy_from_slice(&fragment);
    let header = Ipv4::mut_from_bytes(&mut packet[..20]).expect("20 bytes");
    header.refresh_checksum();
    packet
}

#[test]
fn who_says_nothing_of_the_way_has_nothing_cut() {
    for (keys, shim) in KINDS {
        let mut text = file_text(SERVERS[0], keys, 1_500);
        text += "[[port]]\nname = \"clients\"\ndevice = \"y\"\naddresses = [\"10.1.0.2/24\"]\n";
        let mut config = weir_config::parse("test", &text).unwrap_or_else(|report| panic!("{report}")).config;
        config.virtual_servers[0].address = IpAddr::from([10, 0, 0, 100]);
        let mut lab = Lab::with_macs(&config, &[OWN, MacAddress([2, 0, 0, 0, 0, 2])]);
        lab.send(on_wire(&segment4([0, 0], 40)));
        let full = || on_wire(&segment4([0, 0], 1_400));
        let sent = lab.send(full());
        assert_eq!(sent.len(), 1);
        let outer = sent[0][14..].to_vec();
        let said = |mtu: usize| (kind::TOO_BIG, 0, mtu as u32);
        // No less than the port's own MTU, or than the packet had.
        for mtu in [outer.len(), 1_500, 1_501, 9_000, 65_536] {
            lab.send(error_about(&outer, said(mtu)));
            assert_eq!(lab.send(full()).len(), 1, "{mtu} of {keys}");
        }
        // From where the clients are.
        let mut frame = error_about(&outer, said(1_280));
        frame[5] = 2;
        let mut burst = Burst::new();
        burst.push(HeapFrame::new(&frame));
        lab.directors[0].process(&mut burst, 1, &lab.snapshot, lab.now, &mut lab.wire);
        lab.wire.sent.clear();
        assert_eq!(lab.send(full()).len(), 1, "{keys}");
        // About a packet that has another port than its flow.
        if shim == 12 {
            let mut of_another = outer.clone();
            of_another[41] ^= 1;
            assert_eq!(lab.send(error_about(&of_another, said(1_280))), [[0_u8; 0]; 0]);
            assert_eq!(lab.send(full()).len(), 1, "{keys}");
        }
        lab.send(error_about(&outer, said(1_280)));
        assert_eq!(lab.send(full()).len(), 2, "{keys}");
    }
}

#[test]
fn no_two_workers_give_pieces_to_a_real_server_one_identification() {
    const WORKERS: usize = 3;
    for server in SERVERS {
        let mut lab = Lab::new(&file(server, "", 1_280), WORKERS);
        let mut idents = HashSet::new();
        for number in 0..60_u8 {
            let of = |flags, len| {
                let mut packet = segment(flags, len);
                packet[23] = number;
                on_wire(&packet)
            };
            let worker = usize::from(number) % WORKERS;
            assert_eq!(lab.send_to(worker, of(SYN, 60)).len(), 1);
            let pieces = lab.send_to(worker, of(ACK, 1_280));
            assert_eq!(pieces.len(), 2);
            let of_pieces: HashSet<Vec<u8>> = pieces
                .iter()
                .map(|piece| if is_v6(server) { piece[58..62].to_vec() } else { piece[18..20].to_vec() })
                .collect();
            assert_eq!(of_pieces.len(), 1, "of one packet");
            idents.extend(of_pieces);
        }
        assert_eq!(idents.len(), 60, "to {server}");
    }
}

#[test]
fn a_client_of_ipv4_that_lets_its_packets_be_cut_has_them_cut_for_the_way_over_ipv6() {
    let mut config = file(SERVERS[0], "", 1_500);
    config.virtual_servers[0].address = IpAddr::from([10, 0, 0, 100]);
    let mut lab = Lab::new(&config, 1);
    lab.send(on_wire(&segment4([0, 0], 40)));
    let (cut, whole) = (segment4([0, 0], 1_400), segment4([0x40, 0], 1_400));
    let sent = lab.send(on_wire(&cut));
    assert_eq!((sent.len(), sent[0].len()), (1, 14 + 40 + 1_400));
    assert!(lab.send(error_about(&sent[0][14..], (kind::TOO_BIG, 0, 1_400))).is_empty());
    assert_eq!(lab.dropped(DropReason::Unasked), 1);
    let pieces = lab.send(on_wire(&cut));
    assert_eq!(pieces.iter().map(|piece| usize::from(piece.len() - 14 <= 1_280)).sum::<usize>(), 2);
    assert_eq!(lab.send(on_wire(&whole)).len(), 1, "its sender learns what fits");
}

#[test]
fn errors_about_the_outer_packet_are_read_no_further_than_they_go() {
    each(1_500, |mut lab, server, shim| {
        let sent = lab.send(on_wire(&segment(ACK, 100)));
        let outer = &sent[0][14..];
        let said = if is_v6(server) { (kind::UNREACHABLE, 3, 0) } else { (icmp::UNREACHABLE, 1, 0) };
        // Both headers, and the ports behind them.
        let needed = usize::from(overhead(server, shim)) + 40 + 4;
        for len in 1..=outer.len() {
            let answer = lab.send([error_about(&outer[..len], said), outer[len..].to_vec()].concat());
            assert_eq!(answer.len(), usize::from(len >= needed), "{len} bytes quoted of {server}");
            for frame in answer {
                assert_eq!(told(&frame, VIP6).3, outer[needed - 44..len]);
            }
        }
    });
}

#[test]
fn errors_about_others_tunnels_are_stray() {
    each(1_500, |mut lab, server, _| {
        let outer = lab.send(on_wire(&segment(ACK, 100)))[0][14..].to_vec();
        let said = if is_v6(server) { (kind::UNREACHABLE, 3, 0) } else { (icmp::UNREACHABLE, 1, 0) };
        assert_eq!(lab.send(error_about(&outer, said)).len(), 1);
        // To another host, from another client, and about a tunnel of another kind.
        let mut elsewhere = outer.clone();
        elsewhere[if is_v6(server) { 39 } else { 19 }] ^= 1;
        let mut stranger = outer.clone();
        let client_at = stranger.windows(16).position(|bytes| bytes == client().octets());
        stranger[client_at.expect("the client's address") + 15] ^= 1;
        let (encap, inside) = unwrapped(&on_wire(&outer), server);
        let another = match (encap, is_v6(server)) {
            (Encap::Ipip, true) => {
                [&packet6((v6(OWN6), v6(server)), (47, 63), &[0, 0, 0x86, 0xdd])[..], &inside]
            }
            (Encap::Ipip, false) => [&packet4(47, OWN4, [10, 0, 0, 11], &[0, 0, 0x86, 0xdd])[..], &inside],
            (_, true) => [&packet6((v6(OWN6), v6(server)), (41, 63), &[])[..], &inside],
            (_, false) => [&packet4(41, OWN4, [10, 0, 0, 11], &[])[..], &inside],
        };
        for quote in [elsewhere, stranger, another.concat()] {
            assert_eq!(lab.send(error_about(&quote, said)), [[0_u8; 0]; 0]);
        }
    });
}

#[test]
fn a_gue_flow_keeps_its_port_and_others_have_others() {
    for server in SERVERS {
        let mut lab = Lab::new(&file(server, "tunnel = \"gue\"", 1_500), 1);
        let at = if is_v6(server) { 54 } else { 34 };
        let mut ports = HashSet::new();
        for number in 0..64_u8 {
            let of = |flags| {
                let mut packet = segment(flags, 60);
                packet[23] = number;
                packet
            };
            let seen = [SYN, ACK].map(|flags| lab.send(on_wire(&of(flags)))[0][at..at + 2].to_vec());
            assert_eq!(seen[0], seen[1]);
            ports.insert(seen[0].clone());
        }
        assert!(ports.len() > 56, "{} of 64", ports.len());
    }
}

#[test]
fn families_may_stand_side_by_side_in_one_virtual_server() {
    let mut config = file(SERVERS[0], "", 1_500);
    let mut near = config.virtual_servers[0].real_servers[0].clone();
    near.address = "10.0.0.11".parse::<IpAddr>().expect("an address");
    config.virtual_servers[0].real_servers.push(near);
    let mut lab = Lab::new(&config, 1);
    let kinds: Vec<_> = (0..6_u8)
        .map(|number| {
            let mut packet = segment(SYN, 60);
            packet[23] = number;
            lab.send(on_wire(&packet))[0][12]
        })
        .collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == 0x86).count(), 3, "{kinds:?}");
    lab.assert_counts_equal_a_recount();
}

/// A neighbour tells that `target` is at a MAC.
fn advertisement(target: &str, mac: MacAddress) -> Vec<u8> {
    let mut message = vec![136, 0, 0, 0, 0x60, 0, 0, 0];
    message.extend(v6(target).octets());
    message.extend([2, 1]);
    message.extend(mac.0);
    let ends = (v6(target), v6(OWN6));
    let pseudo = Sum::default().bytes(&ends.0.octets()).bytes(&ends.1.octets());
    let sum = pseudo.long(message.len() as u32).word(ICMPV6.into()).bytes(&message).finish();
    message[2..4].copy_from_slice(sum.as_bytes());
    on_wire(&packet6(ends, (ICMPV6, 255), &message))
}

#[test]
fn no_neighbour_is_believed_to_be_where_weir_is_or_where_nobody_can_be() {
    let mut config = file(SERVERS[0], "", 1_500);
    config.neighbors.retain(|neighbor| neighbor.address != IpAddr::from(v6(SERVERS[0])));
    let mut lab = Lab::new(&config, 1);
    let asked = lab.send(on_wire(&segment(SYN, 60)));
    assert_eq!((asked.len(), asked[0][54]), (1, 135), "who has the real server's address?");
    let wrong = [OWN, MacAddress([0; 6]), MacAddress([0xff; 6]), MacAddress([0x33, 0x33, 0, 0, 0, 1])];
    for mac in wrong {
        assert_eq!(lab.send(advertisement(SERVERS[0], mac)), Vec::<Vec<u8>>::new(), "{mac:?}");
    }
    assert_eq!(lab.counters[0].drops(DropReason::EtherType), 4);
    let right = MacAddress([2, 0, 0, 0, 0, 0x11]);
    let sent = lab.send(advertisement(SERVERS[0], right));
    assert_eq!((sent.len(), &sent[0][..6]), (1, &right.0[..]));
}
