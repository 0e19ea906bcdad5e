//! What goes to control and what control sends.

use super::*;
use crate::packet::BURST;
use crate::punt::{Channel, Owner, Punt, Punted, Refused};
use crate::stats::PuntClass;
use crate::wire::checksum::Sum;
use crate::wire::ipv6::Ipv6;
use zerocopy::byteorder::network_endian::{U16, U32};

const GROUP: Addr4 = Addr4::new(224, 0, 0, 18);
const GROUP_MAC: MacAddress = MacAddress([0x01, 0, 0x5e, 0, 0, 0x12]);
const GROUP_MAC_V6: MacAddress = MacAddress([0x33, 0x33, 0, 0, 0, 0x12]);
const ROUTER: Addr4 = Addr4::new(10, 0, 0, 3);
const ROUTER_MAC: [u8; 6] = [0, 0, 0x5e, 0, 1, 51];
const OWN_ADDRESS: Addr4 = Addr4::new(10, 0, 0, 2);

const VRRP: &str =
    "[[vrrp]]\nname = \"vi\"\nport = \"lan\"\nvirtual_router_id = 51\naddresses = [\"10.0.0.100\"]\n";

const UNICAST: &str = "[[vrrp]]\nname = \"peers\"\nport = \"lan\"\nvirtual_router_id = 52\n\
    addresses = [\"10.0.0.101\"]\nunicast_peers = [\"10.0.0.3\"]\n\
    [[vrrp]]\nname = \"ah\"\nport = \"lan\"\nvirtual_router_id = 53\naddresses = [\"10.0.0.102\"]\n\
    authentication = { type = \"ah\", password = \"x\" }\n\
    [[vrrp]]\nname = \"v6\"\nport = \"lan\"\nvirtual_router_id = 49\naddresses = [\"fe80::5:1\"]\n";

/// A lab whose workers are connected with VRRP.
fn lab(more: &str, workers: usize) -> (Lab, Channel) {
    let text = format!(
        "[connections]\ncapacity = 1024\n[[port]]\nname = \"lan\"\ndevice = \"x\"\n\
         addresses = [\"10.0.0.2/24\", \"2001:db8::2/64\"]\n{more}"
    );
    let config = weir_config::parse("test", &text).expect("a valid file").config;
    let mut lab = Lab::new(&config, workers);
    let mut punts: Vec<Punt> = (0..workers).map(|_| Punt::default()).collect();
    let channel = Channel::connect(Owner::Vrrp, &mut punts);
    lab.directors = lab.directors.into_iter().zip(punts).map(|(it, punt)| it.with_punt(punt)).collect();
    (lab, channel)
}

fn packet(to: MacAddress, protocol: u8, destination: Addr4, payload: &[u8]) -> Vec<u8> {
    let mut frame = to.0.to_vec();
    frame.extend_from_slice(&ROUTER_MAC);
    frame.extend_from_slice(&[8, 0]);
    frame.extend_from_slice(Ipv4::new(protocol, ROUTER, destination, payload.len(), 255).as_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A message of version 2 with so many addresses, all of them made of one byte.
fn message(id: u8, count: u8, byte: u8) -> Vec<u8> {
    let mut message = vec![0x21, id, 100, count, 0, 1, 0, 0];
    message.resize(8 + usize::from(count) * 4, byte);
    message.extend([0; 8]);
    let sum = Sum::default().bytes(&message).finish();
    message[6..8].copy_from_slice(sum.as_bytes());
    message
}

fn advertisement() -> Vec<u8> {
    packet(GROUP_MAC, 112, GROUP, &message(51, 1, 10))
}

/// An advertisement of this VRID from the peer of the instances that have one.
fn unicast(id: u8) -> Vec<u8> {
    packet(OWN, 112, OWN_ADDRESS, &message(id, 1, 10))
}

/// As that, behind an authentication header.
fn authenticated(to: MacAddress, destination: Addr4) -> Vec<u8> {
    let mut payload = [112; 44];
    payload[24..32].copy_from_slice(&[0x21, 53, 100, 1, 2, 1, 0, 0]);
    packet(to, 51, destination, &payload)
}

fn packet_v6(to: MacAddress, next_header: u8, destination: [u8; 16]) -> Vec<u8> {
    let mut source = [0; 16];
    source[..2].copy_from_slice(&[0xfe, 0x80]);
    let header = Ipv6 {
        version_class_flow: U32::new(6 << 28),
        payload_len: U16::new(24),
        next_header,
        hop_limit: 255,
        source,
        destination,
    };
    let mut frame = to.0.to_vec();
    frame.extend_from_slice(&ROUTER_MAC);
    frame.extend_from_slice(&[0x86, 0xdd]);
    frame.extend_from_slice(header.as_bytes());
    frame.extend_from_slice(&[0x31; 24]);
    frame
}

fn group_v6(last: u8) -> [u8; 16] {
    let mut group = [0; 16];
    group[..2].copy_from_slice(&[0xff, 0x02]);
    group[15] = last;
    group
}

fn tagged(mut frame: Vec<u8>) -> Vec<u8> {
    frame.splice(12..12, [0x81, 0, 0, 7]);
    frame
}

/// With a tag that tells a priority alone.
fn prioritized(mut frame: Vec<u8>) -> Vec<u8> {
    frame.splice(12..12, [0x81, 0, 0xe0, 0]);
    frame
}

#[test]
fn advertisements_of_every_kind_reach_vrrp_as_they_came() {
    let (mut lab, mut channel) = lab(&format!("{VRRP}{UNICAST}"), 2);
    let cases = [
        (PuntClass::VrrpMulticast, advertisement()),
        (PuntClass::VrrpMulticast, authenticated(GROUP_MAC, GROUP)),
        (PuntClass::VrrpMulticast, packet_v6(GROUP_MAC_V6, 112, group_v6(0x12))),
        (PuntClass::VrrpUnicast, unicast(52)),
        (PuntClass::VrrpUnicast, authenticated(OWN, OWN_ADDRESS)),
        (PuntClass::VrrpUnicast, packet_v6(OWN, 112, [0x20; 16])),
        (PuntClass::VrrpMulticast, prioritized(advertisement())),
        (PuntClass::VrrpUnicast, prioritized(unicast(52))),
        (PuntClass::VrrpMulticast, prioritized(packet_v6(GROUP_MAC_V6, 112, group_v6(0x12)))),
    ];
    let mut taken = Vec::new();
    for worker in [0, 1] {
        for (class, frame) in &cases {
            assert_eq!(lab.send_to(worker, frame.clone()), Vec::<Vec<u8>>::new());
            let punted = Punted { port: 0, class: *class, cycles: lab.now.cycles };
            assert_eq!(channel.pop(&mut taken), Some(punted));
            assert_eq!(&taken, frame);
        }
    }
    assert_eq!(channel.pop(&mut taken), None);
    let punted: u64 = lab.counters.iter().map(|it| it.punted(PuntClass::VrrpUnicast)).sum();
    assert_eq!(punted, 8);
    assert_eq!(lab.wire.released, 18);
}

#[test]
fn what_only_looks_like_vrrp_is_dropped_as_ever() {
    let (mut lab, mut channel) = lab(VRRP, 1);
    let mut cut = packet_v6(GROUP_MAC_V6, 112, group_v6(0x12));
    cut.pop();
    let cases = [
        // Another group, the group's address at another MAC and the other way round, tags, other protocols.
        (DropReason::ForeignMac, packet(GROUP_MAC, 112, GROUP.plus(1), &[0x21; 20])),
        (DropReason::ForeignMac, packet(MacAddress([1, 0, 0x5e, 0, 0, 5]), 112, GROUP, &[0x21; 20])),
        (DropReason::ForeignAddress, packet(OWN, 112, GROUP, &[0x21; 20])),
        (DropReason::ForeignMac, tagged(advertisement())),
        (DropReason::ForeignMac, packet(GROUP_MAC, 89, GROUP, &[112; 20])),
        (DropReason::ForeignMac, packet(GROUP_MAC, 51, GROUP, &[6; 44])),
        (DropReason::ForeignMac, packet(GROUP_MAC, 51, GROUP, &[])),
        // What says VRRP stands behind the packet's end.
        (DropReason::ForeignMac, [packet(GROUP_MAC, 51, GROUP, &[]), vec![112; 44]].concat()),
        (DropReason::ForeignAddress, packet(OWN, 112, OWN_ADDRESS.plus(1), &[0x21; 20])),
        (DropReason::EtherType, packet_v6(GROUP_MAC_V6, 112, group_v6(0x13))),
        (DropReason::EtherType, tagged(packet_v6(GROUP_MAC_V6, 112, group_v6(0x12)))),
        (DropReason::EtherType, packet_v6(GROUP_MAC_V6, 89, group_v6(0x12))),
        (DropReason::EtherType, packet_v6(OWN, 112, group_v6(0x12))),
        (DropReason::EtherType, cut),
        (DropReason::VrrpUnknownRouter, unicast(33)),
        (DropReason::VrrpUnknownRouter, packet(GROUP_MAC, 112, GROUP, &[0x21])),
        (DropReason::VrrpUnknownRouter, packet_v6(GROUP_MAC_V6, 112, group_v6(0x12))),
    ];
    for (count, (reason, frame)) in cases.into_iter().enumerate() {
        let before = lab.dropped(reason);
        lab.send(frame);
        assert_eq!(lab.dropped(reason), before + 1, "case {count}");
    }
    assert_eq!(channel.pop(&mut Vec::new()), None);
}

#[test]
fn without_a_router_on_the_port_or_a_reader_nothing_is_punted() {
    let (mut unconfigured, mut channel) = lab("", 1);
    unconfigured.send(advertisement());
    assert_eq!(unconfigured.dropped(DropReason::ForeignMac), 1);
    assert_eq!(channel.pop(&mut Vec::new()), None);
    let (mut unread, _channel) = lab(VRRP, 1);
    let director = unread.directors.remove(0);
    unread.directors.push(director.with_punt(Punt::default()));
    unread.send(advertisement());
    assert_eq!(unread.dropped(DropReason::ForeignMac), 1);
}

#[test]
fn junk_of_vrrp_leaves_the_share_of_every_instance_alone() {
    let (mut lab, mut channel) = lab(&format!("{VRRP}{UNICAST}"), 1);
    let mut taken = Vec::new();
    let mut flood = |lab: &mut Lab, frame: Vec<u8>| {
        let before =
            lab.counters[0].punted(PuntClass::VrrpUnicast) + lab.counters[0].punted(PuntClass::VrrpMulticast);
        for _ in 0..1_000 {
            lab.send(frame.clone());
            channel.pop(&mut taken);
        }
        lab.counters[0].punted(PuntClass::VrrpUnicast) + lab.counters[0].punted(PuntClass::VrrpMulticast)
            - before
    };
    // An unknown router, and one that is no peer.
    assert_eq!(flood(&mut lab, unicast(99)), 0);
    let mut stranger = unicast(52);
    let header = Ipv4::new(112, ROUTER.plus(6), OWN_ADDRESS, 20, 255);
    stranger[14..34].copy_from_slice(header.as_bytes());
    assert_eq!(flood(&mut lab, stranger), 0);
    assert_eq!(
        (lab.dropped(DropReason::VrrpUnknownRouter), lab.dropped(DropReason::VrrpUnknownPeer)),
        (1_000, 1_000)
    );
    // What can't be an instance's own has little of it.
    let mut wrong = advertisement();
    wrong[34] = 0x31;
    assert_eq!(flood(&mut lab, wrong), 16);
    let mut unsummed = advertisement();
    unsummed[40] ^= 1;
    assert_eq!(flood(&mut lab, unsummed), 0);
    assert_eq!(flood(&mut lab, advertisement()), 64);
    // And another instance has its own.
    assert_eq!(flood(&mut lab, unicast(52)), 64);
    assert_eq!(lab.dropped(DropReason::PuntRateLimited), 984 + 1_000 + 936 + 936);
    // A tenth of a second is worth 40 more.
    lab.pass_millis(100);
    assert_eq!(flood(&mut lab, unicast(52)), 40);
}

#[test]
fn a_ring_that_nobody_empties_gets_full_and_loses_the_newest() {
    let (mut lab, mut channel) = lab(VRRP, 1);
    for n in 0..100 {
        lab.send(packet(GROUP_MAC, 112, GROUP, &message(51, 255, n)));
    }
    let passed = lab.counters[0].punted(PuntClass::VrrpMulticast);
    assert!((54..62).contains(&passed), "{passed} of 1,070 bytes in 64 KiB");
    assert_eq!(lab.dropped(DropReason::PuntFull), 64 - passed);
    let mut taken = Vec::new();
    for n in 0..passed {
        channel.pop(&mut taken).expect("one of those that fitted in");
        assert_eq!(taken[44], n as u8);
    }
    assert_eq!(channel.pop(&mut taken), None);
}

#[test]
fn the_first_worker_sends_what_control_has_a_few_each_pass() {
    let (mut lab, mut channel) = lab(VRRP, 2);
    for n in 0..20 {
        channel.push(0, &[n; 54]).expect("room");
    }
    let mut sent = Vec::new();
    let mut passes = Vec::new();
    for worker in [1, 0, 0, 0] {
        let had_some = lab.directors[worker].has_injected();
        lab.directors[worker].inject(&lab.snapshot, lab.now, &mut lab.wire);
        passes.push((had_some, lab.wire.sent.len()));
        sent.extend(lab.wire.sent.drain(..).map(|(port, frame)| (port, frame.bytes().to_vec())));
    }
    assert_eq!(passes, [(false, 0), (true, 16), (true, 4), (false, 0)]);
    let expected: Vec<_> = (0..20).map(|n| (0, [vec![n; 54], vec![0; 6]].concat())).collect();
    assert_eq!(sent, expected);
    assert_eq!(lab.counters[0].injected(Owner::Vrrp), 20);
}

#[test]
fn control_hears_when_the_worker_takes_no_more() {
    let (mut lab, mut channel) = lab(VRRP, 1);
    assert_eq!(channel.push(0, &[0; 13]), Err(Refused::Length));
    assert_eq!(channel.push(0, &[0; 20_000]), Err(Refused::Length));
    let pushed = (0..10_000).take_while(|_| channel.push(0, &[0; 1514]).is_ok()).count();
    assert!((40..50).contains(&pushed), "{pushed}");
    assert_eq!(channel.push(0, &[0; 1514]), Err(Refused::Full));
    lab.directors[0].inject(&lab.snapshot, lab.now, &mut lab.wire);
    assert_eq!(channel.push(0, &[0; 1514]), Ok(()));
    // There is no such port, and no buffer that long.
    let (mut lab, mut channel) = self::lab(VRRP, 1);
    channel.push(7, &[0; 60]).expect("room");
    channel.push(0, &[0; 9_000]).expect("room");
    lab.directors[0].inject(&lab.snapshot, lab.now, &mut lab.wire);
    assert_eq!((lab.wire.sent.len(), lab.dropped(DropReason::NoBuffer)), (0, 2));
}

#[test]
fn vrrp_goes_before_the_host() {
    let mut punts = vec![Punt::default()];
    let mut host = Channel::connect(Owner::Host, &mut punts);
    let mut vrrp = Channel::connect(Owner::Vrrp, &mut punts);
    let (mut lab, _) = lab(VRRP, 1);
    let director = lab.directors.remove(0).with_punt(punts.remove(0));
    lab.directors.push(director);
    (0..BURST).for_each(|_| host.push(0, &[2; 60]).expect("room"));
    vrrp.push(0, &[1; 60]).expect("room");
    lab.directors[0].inject(&lab.snapshot, lab.now, &mut lab.wire);
    let first: Vec<u8> = lab.wire.sent.iter().map(|(_, frame)| frame.bytes()[0]).collect();
    assert_eq!(first, [vec![1], vec![2; 32]].concat());
}

#[test]
fn what_control_sends_too_late_is_not_sent() {
    let (mut lab, mut channel) = lab(VRRP, 1);
    channel.push_until(0, &advertisement(), 1_000).expect("room");
    channel.push_until(0, &advertisement(), 2_000).expect("room");
    let now = Now { cycles: 1_001, ..Now::default() };
    lab.directors[0].inject(&lab.snapshot, now, &mut lab.wire);
    assert_eq!((lab.wire.sent.len(), lab.counters[0].drops(DropReason::Stale)), (1, 1));
    assert!(channel.is_drained());
}

#[test]
fn a_packet_without_a_mac_goes_to_its_next_hop() {
    let (mut lab, mut channel) =
        lab(&format!("{VRRP}[[neighbor]]\naddress = \"10.0.0.3\"\nmac = \"02:00:00:00:00:33\"\n"), 1);
    let unicast = packet(MacAddress([0; 6]), 112, ROUTER, &[0x21; 20]);
    channel.push(0, &unicast).expect("room");
    lab.directors[0].inject(&lab.snapshot, lab.now, &mut lab.wire);
    let sent = lab.wire.sent.pop().expect("a frame").1;
    assert_eq!(sent.bytes()[..12], [2, 0, 0, 0, 0, 0x33, 2, 0, 0, 0, 0, 1]);
    assert_eq!(sent.bytes()[14..34], unicast[14..34]);
}

#[test]
fn a_packet_of_ipv6_without_a_mac_goes_to_its_next_hop() {
    let bound = "[[neighbor]]\naddress = \"2001:db8::3\"\nmac = \"02:00:00:00:00:33\"\n";
    let wide = [&[0x20, 1, 0x0d, 0xb8][..], &[0; 11], &[3]].concat();
    let near = [&[0xfe, 0x80][..], &[0; 13], &[3]].concat();
    let no_mac = MacAddress([0; 6]);
    let send = |more: &str, peer: &[u8]| {
        let (mut lab, mut channel) = lab(&format!("{VRRP}{more}"), 1);
        let peer = *peer.first_chunk::<16>().expect("an address");
        channel.push(0, &packet_v6(no_mac, 112, peer)).expect("room");
        lab.directors[0].inject(&lab.snapshot, lab.now, &mut lab.wire);
        let sent = lab.wire.sent.drain(..).map(|(_, frame)| frame.bytes().to_vec()).collect::<Vec<_>>();
        (sent, lab)
    };
    let (sent, _) = send(bound, &wide);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0][..12], [2, 0, 0, 0, 0, 0x33, 2, 0, 0, 0, 0, 1]);
    // Who is not bound is asked for, and what a stranger sends from its address changes nothing.
    for peer in [wide, near] {
        let (asked, mut lab) = send("", &peer);
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0][..6], [0x33, 0x33, 0xff, 0, 0, 3]);
        assert_eq!((asked[0][54], &asked[0][62..78]), (135, &peer[..]));
        let mut stranger = packet_v6(OWN, 112, [0x20; 16]);
        stranger[22..38].copy_from_slice(&peer);
        assert_eq!(lab.send(stranger), Vec::<Vec<u8>>::new());
    }
}
