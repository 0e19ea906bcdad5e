//! Frames that lie in several buffers: what leaves is what would leave if they lay in one.

use zerocopy::byteorder::network_endian::U16;

use super::ipv6::{OWN6, VIP6, client, packet6, v6};
use super::*;
use crate::wire::checksum::Sum;

/// Buffers hold all headers, and what an answer quotes.
const FIRST_MIN: usize = 1_400;
const FAR: [&str; 2] = ["10.1.0.11", "2001:db8:1::11"];

/// A TCP and a UDP virtual server of each family with one real server, of the family that is asked for. Packets of 9,000 bytes come in;
/// the way out takes `mtu`.
fn lab((method, family): (&str, Option<usize>), mtu: u16) -> Lab {
    let (method, keys) = method.split_once(' ').unwrap_or((method, ""));
    let port = if method == "nat" { 8080 } else { 80 };
    let mut text = format!(
        "[connections]\ncapacity = 1024\n[[port]]\nname = \"lan\"\ndevice = \"x\"\nmtu = 9000\naddresses = [\"10.0.0.2/24\", \"{OWN6}/64\"]\n\
         [[port]]\nname = \"far\"\ndevice = \"y\"\nmtu = {mtu}\naddresses = [\"10.1.0.2/24\", \"2001:db8:1::2/64\"]\n\
         [[route]]\ndestination = \"::/0\"\ngateway = \"2001:db8::fe\"\n"
    );
    for hop in ["2001:db8::fe", "10.0.0.200"].into_iter().chain(FAR) {
        text += &format!("[[neighbor]]\naddress = \"{hop}\"\nmac = \"02:00:00:00:00:cc\"\n");
    }
    for (number, vip) in ["10.0.0.100", VIP6].into_iter().enumerate() {
        let server = FAR[family.unwrap_or(number)];
        for protocol in ["tcp", "udp"] {
            text += &format!(
                "[[virtual_server]]\nname = \"{protocol}{number}\"\naddress = \"{vip}\"\nport = 80\n\
                 protocol = \"{protocol}\"\nforwarding = \"{method}\"\n\
                 [[virtual_server.real_server]]\naddress = \"{server}\"\nport = {port}\n{keys}\n"
            );
        }
    }
    let config = weir_config::parse("test", &text).unwrap_or_else(|report| panic!("{report}")).config;
    Lab::with_macs(&config, &[OWN, MacAddress([2, 0, 0, 0, 0, 2])])
}

/// What a lab sends for a frame whose first buffer has so many bytes.
fn sent(lab: &mut Lab, (port, frame): (usize, &[u8]), first: usize) -> Vec<(usize, Vec<u8>)> {
    let mut burst = Burst::new();
    burst.push(HeapFrame::chained(frame, first));
    lab.directors[0].process(&mut burst, port, &lab.snapshot, lab.now, &mut lab.wire);
    lab.wire.sent.drain(..).map(|(port, frame)| (port, frame.whole())).collect()
}

/// A datagram, or a segment with these flags, of so many bytes.
#[derive(Debug, Clone, Copy)]
struct Shape {
    flags: Option<u8>,
    len: usize,
    hops: u8,
    may_be_cut: bool,
    port: u16,
    padding: usize,
}

impl Shape {
    fn l4(&self, pseudo: &[u8]) -> Vec<u8> {
        let mut bytes = [4_000u16.to_be_bytes(), self.port.to_be_bytes()].concat();
        let protocol = match self.flags {
            Some(flags) => {
                bytes.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 1, 0, 0, 0, 0, 0]);
                ipv4::TCP
            }
            None => {
                bytes.extend(((8 + self.len) as u16).to_be_bytes());
                bytes.extend([0, 0]);
                ipv4::UDP
            }
        };
        bytes.extend((0..self.len).map(|n| (n * 7 + n / 250) as u8));
        let at = if self.flags.is_some() { 16 } else { 6 };
        let sum = Sum::default().bytes(pseudo).long(bytes.len() as u32).word(protocol.into()).bytes(&bytes);
        bytes[at..at + 2].copy_from_slice(sum.finish().as_bytes());
        bytes
    }

    fn frame(&self, is_of_ipv6: bool) -> Vec<u8> {
        let protocol = if self.flags.is_some() { ipv4::TCP } else { ipv4::UDP };
        let mut bytes = if is_of_ipv6 {
            let (source, destination) = (client(1), v6(VIP6));
            let l4 = self.l4(&[source.octets(), destination.octets()].concat());
            packet6(source, destination, (protocol, self.hops), &l4)
        } else {
            let l4 = self.l4(&[CLIENT.octets(), VIP.octets()].concat());
            let mut header = Ipv4::new(protocol, CLIENT, VIP, l4.len(), self.hops);
            header.fragment = U16::new(if self.may_be_cut { 0 } else { ipv4::DONT_FRAGMENT });
            header.refresh_checksum();
            [&OWN.0[..], &CLIENT_MAC.0, &[8, 0], header.as_bytes(), &l4].concat()
        };
        bytes.extend(std::iter::repeat_n(0xa5, self.padding));
        bytes
    }
}

/// Of each length: to a virtual server, with and without leave to cut it, padded, at its last hop, and to nobody.
fn shapes(flags: Option<u8>, len: usize) -> [Shape; 5] {
    let usual = Shape { flags, len, hops: 64, may_be_cut: true, port: 80, padding: 0 };
    [
        Shape { may_be_cut: false, ..usual },
        Shape { padding: 600, ..usual },
        Shape { hops: 1, ..usual },
        Shape { port: 81, ..usual },
        usual,
    ]
}

#[test]
fn a_frame_in_several_buffers_leaves_as_one_in_one_by_every_method() {
    const LENGTHS: [(Option<u8>, usize); 9] = [
        (Some(SYN), 0),
        (Some(ACK), 0),
        (None, 10),
        (None, 1_501),
        (Some(ACK), 2_001),
        (Some(ACK), 8_900),
        (None, 8_900),
        (None, 4_001),
        (Some(ACK), 1_400),
    ];
    let gue = "tun tunnel = \"gue\"\ntunnel_port = 6080\ntunnel_checksum = \"csum\"";
    let gre = "tun tunnel = \"gre\"\ntunnel_checksum = \"csum\"";
    let mixed = ["tun", gue, gre].into_iter().flat_map(|method| [(method, Some(0)), (method, Some(1))]);
    for method in [("dr", None), ("nat", None)].into_iter().chain(mixed) {
        for mtu in [9_000, 1_500] {
            let (mut one, mut several) = (lab(method, mtu), lab(method, mtu));
            let mut forwarded = 0;
            for shape in LENGTHS.into_iter().flat_map(|(flags, len)| shapes(flags, len)) {
                for is_of_ipv6 in [false, true] {
                    let frame = shape.frame(is_of_ipv6);
                    let alone = sent(&mut one, (0, &frame), frame.len());
                    let chained = sent(&mut several, (0, &frame), FIRST_MIN + shape.len % 7);
                    assert!(alone == chained, "{method:?} over {mtu}, {shape:?} of {is_of_ipv6}");
                    forwarded += usize::from(chained.iter().any(|(port, _)| *port == 1));
                }
            }
            assert!(forwarded > 25, "{method:?} over {mtu}: {forwarded}");
            for &reason in DropReason::ALL {
                assert_eq!(one.dropped(reason), several.dropped(reason), "{method:?} over {mtu}: {reason:?}");
            }
            assert_eq!(several.dropped(DropReason::LongFrame), 0);
            several.assert_counts_equal_a_recount();
        }
    }
}

#[test]
fn headers_that_lie_across_two_buffers_are_dropped_by_name() {
    let mut lab = lab(("nat", None), 9_000);
    let what = Shape { flags: Some(SYN), len: 100, hops: 64, may_be_cut: false, port: 80, padding: 0 };
    let mut dropped = 0;
    for is_of_ipv6 in [false, true] {
        let frame = what.frame(is_of_ipv6);
        // Where a packet goes that has not even its addresses there, nobody knows: no device gives so little.
        let (addresses, headers) = if is_of_ipv6 { (54, 74) } else { (34, 54) };
        for first in addresses..headers {
            assert_eq!(sent(&mut lab, (0, &frame), first), [], "{first}");
            dropped += 1;
            assert_eq!(lab.dropped(DropReason::LongFrame), dropped, "{first} of {is_of_ipv6}");
        }
        assert_eq!(sent(&mut lab, (0, &frame), headers).len(), 1);
    }
}

#[test]
fn a_datagram_of_ipv6_without_a_checksum_gets_one_whatever_buffers_it_lies_in() {
    for len in [1_001, 4_000] {
        let mut frame =
            Shape { flags: None, len, hops: 64, may_be_cut: true, port: 80, padding: 0 }.frame(true);
        frame[60..62].fill(0);
        let (mut one, mut several) = (lab(("nat", None), 9_000), lab(("nat", None), 9_000));
        let alone = sent(&mut one, (0, &frame), frame.len());
        assert_eq!(alone.len(), 1);
        assert_ne!(alone[0].1[60..62], [0, 0]);
        for first in [FIRST_MIN, FIRST_MIN + 1, 900] {
            assert!(alone == sent(&mut several, (0, &frame), first), "{len} {first}");
        }
    }
}

#[test]
fn a_long_ping_is_answered_in_either_family() {
    let (mut one, mut several) = (lab(("dr", None), 9_000), lab(("dr", None), 9_000));
    for len in [1_400_usize, 2_001, 8_900] {
        let data: Vec<u8> = (0..len).map(|n| (n * 3) as u8).collect();
        for is_of_ipv6 in [false, true] {
            let mut message = vec![if is_of_ipv6 { 128 } else { 8 }, 0, 0, 0, 0, 7, 0, 1];
            message.extend(&data);
            let pseudo = [client(1).octets(), v6(OWN6).octets()].concat();
            let sum = match is_of_ipv6 {
                true => Sum::default().bytes(&pseudo).long(message.len() as u32).word(58),
                false => Sum::default(),
            };
            let sum = sum.bytes(&message).finish();
            message[2..4].copy_from_slice(sum.as_bytes());
            let frame = if is_of_ipv6 {
                packet6(client(1), v6(OWN6), (58, 64), &message)
            } else {
                let mut header = Ipv4::new(ipv4::ICMP, CLIENT, Addr4::new(10, 0, 0, 2), message.len(), 64);
                header.refresh_checksum();
                [&OWN.0[..], &CLIENT_MAC.0, &[8, 0], header.as_bytes(), &message].concat()
            };
            let alone = sent(&mut one, (0, &frame), frame.len());
            assert_eq!(sent(&mut several, (0, &frame), FIRST_MIN), alone, "{len} of {is_of_ipv6}");
            let [(0, answer)] = &alone[..] else { panic!("{} frames for {len}", alone.len()) };
            assert!(answer.ends_with(&data));
            let mut wrong = frame.clone();
            *wrong.last_mut().expect("a byte") ^= 1;
            assert_eq!(sent(&mut several, (0, &wrong), FIRST_MIN), []);
        }
    }
    assert_eq!(several.dropped(DropReason::BadL4Header), 6);
}

#[test]
fn a_datagram_of_ipv6_without_checksum_gets_one_by_nat_both_ways() {
    let (mut one, mut several) = (lab(("nat", None), 9_000), lab(("nat", None), 9_000));
    let bare = |ends: (&str, &str), ports: [u16; 2], len: usize| {
        let mut l4 = [ports[0].to_be_bytes(), ports[1].to_be_bytes()].concat();
        l4.extend(((8 + len) as u16).to_be_bytes());
        l4.extend([0, 0]);
        l4.extend((0..len).map(|n| (n * 5) as u8));
        let mut frame = packet6(v6(ends.0), v6(ends.1), (ipv4::UDP, 64), &l4);
        frame[60..62].fill(0);
        frame
    };
    let who = client(1).to_string();
    for len in [1_400, 2_001, 8_900] {
        let mut there = bare((&who, VIP6), [4_000, 80], len);
        let mut back = bare((FAR[1], &who), [8_080, 4_000], len);
        for (port, frame) in [(0, &mut there), (1, &mut back)] {
            frame[5] = port as u8 + 1;
            let alone = sent(&mut one, (port, frame), frame.len());
            let chained = sent(&mut several, (port, frame), FIRST_MIN);
            assert_eq!(chained, alone, "{len} from port {port}");
            let [(to, out)] = &chained[..] else { panic!("{} frames", chained.len()) };
            assert_eq!(*to, 1 - port);
            let pseudo = Sum::default().bytes(&out[22..54]).word((8 + len) as u16).word(ipv4::UDP.into());
            assert_eq!(pseudo.bytes(&out[54..]).fold(), 0xffff, "{len} from port {port}");
        }
    }
}
