//! What goes to the host, as what, and what stays weir's.

mod beside_marks;

use std::net::IpAddr;
use std::sync::Arc;

use weir_config::model::{Config, Neighbor};

use super::*;
use crate::conn::record::ServerId;
use crate::punt::{self, Channel, Punt};
use crate::stats::PuntClass;
use crate::wire::ethernet::Arp;
use crate::wire::ipv6::Ipv6;
use zerocopy::byteorder::network_endian::{U16, U32};

const OWN_ADDRESS: Addr4 = Addr4::new(10, 0, 0, 2);
const PEER: Addr4 = Addr4::new(10, 0, 0, 9);
const PEER_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 9]);
const BROADCAST: MacAddress = MacAddress([0xff; 6]);
const HZ: u64 = 1 << 30;

struct Hosted {
    lab: Lab,
    channel: Channel,
    host: Arc<punt::Hosted>,
}

impl Hosted {
    /// One port with a host interface, and a virtual server at 10.0.0.100.
    fn new() -> Self {
        Self::with_method("dr")
    }

    fn with_method(method: &str) -> Self {
        Self::with_config(config(method, "rr", &[(11, 1), (12, 1)], ""))
    }

    fn with_config(mut config: Config) -> Self {
        config.ports[0].host_interface = Some("weir0".to_owned());
        let mut lab = Lab::new(&config, 1);
        let host = Arc::new(punt::Hosted::new([1, 2], HZ));
        let mut punts = vec![Punt::default()];
        let channel = Channel::connect_host(&mut punts, &host);
        lab.directors = lab.directors.into_iter().zip(punts).map(|(it, punt)| it.with_punt(punt)).collect();
        Self { lab, channel, host }
    }

    /// What the host gets for a frame.
    fn host_gets(&mut self, frame: &[u8]) -> Option<PuntClass> {
        self.lab.send(frame.to_vec());
        let mut taken = Vec::new();
        let punted = self.channel.pop(&mut taken)?;
        assert_eq!(taken, frame, "the host gets it as it came");
        Some(punted.class)
    }
}

fn packet(to: MacAddress, protocol: u8, ends: (Addr4, Addr4), payload: &[u8]) -> Vec<u8> {
    let mut frame = to.0.to_vec();
    frame.extend_from_slice(&PEER_MAC.0);
    frame.extend_from_slice(&[8, 0]);
    frame.extend_from_slice(Ipv4::new(protocol, ends.0, ends.1, payload.len(), 255).as_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn segment(source: (Addr4, u16), destination: (Addr4, u16), flags: u8) -> Vec<u8> {
    let mut frame = frame(OWN, source, destination, flags);
    frame[6..12].copy_from_slice(&PEER_MAC.0);
    frame
}

fn datagram(to: MacAddress, destination: (Addr4, u16)) -> Vec<u8> {
    let port = destination.1.to_be_bytes();
    packet(to, 17, (PEER, destination.0), &[0x30, 0, port[0], port[1], 0, 12, 0, 0, 1, 2, 3, 4])
}

fn echo(destination: Addr4) -> Vec<u8> {
    packet(OWN, 1, (PEER, destination), &[8, 0, 0xe5, 0xca, 0x12, 0x34, 0, 1])
}

fn arp(to: MacAddress, operation: u16, sender: Addr4, target: Addr4) -> Vec<u8> {
    let mut frame = to.0.to_vec();
    frame.extend_from_slice(&PEER_MAC.0);
    frame.extend_from_slice(&[8, 6]);
    let packet = Arp::new(operation, (PEER_MAC, sender), (MacAddress([0; 6]), target));
    frame.extend_from_slice(packet.as_bytes());
    frame
}

fn icmp_v6(to: MacAddress, kind: u8) -> Vec<u8> {
    let mut source = [0; 16];
    source[0] = 0xfe;
    let header = Ipv6 {
        version_class_flow: U32::new(6 << 28),
        payload_len: U16::new(8),
        next_header: 58,
        hop_limit: 255,
        source,
        destination: source,
    };
    let mut frame = to.0.to_vec();
    frame.extend_from_slice(&PEER_MAC.0);
    frame.extend_from_slice(&[0x86, 0xdd]);
    frame.extend_from_slice(header.as_bytes());
    frame.extend_from_slice(&[kind, 0, 0, 0, 0, 0, 0, 0]);
    frame
}

fn tagged(mut frame: Vec<u8>) -> Vec<u8> {
    frame.splice(12..12, [0x81, 0, 0, 7]);
    frame
}

fn with_checksum(mut frame: Vec<u8>) -> Vec<u8> {
    Ipv4::mut_from_bytes(&mut frame[14..34]).expect("20 bytes").refresh_checksum();
    frame
}

#[test]
fn the_host_gets_what_is_not_weirs() {
    let mut hosted = Hosted::new();
    let mut fragment = datagram(OWN, (OWN_ADDRESS, 500));
    fragment[20] = 0x20;
    let cases = [
        (PuntClass::TcpSyn, segment((PEER, 4000), (OWN_ADDRESS, 22), SYN)),
        (PuntClass::Tcp, segment((PEER, 4000), (OWN_ADDRESS, 22), ACK)),
        (PuntClass::Tcp, segment((PEER, 4000), (OWN_ADDRESS, 22), SYN | ACK)),
        (PuntClass::Udp, datagram(OWN, (OWN_ADDRESS, 123))),
        (PuntClass::Icmp, echo(OWN_ADDRESS)),
        (PuntClass::Other, packet(OWN, 47, (PEER, OWN_ADDRESS), &[0; 20])),
        // An address that the operator has given the interface himself.
        (PuntClass::TcpSyn, segment((PEER, 4000), (Addr4::new(10, 0, 0, 77), 22), SYN)),
        (PuntClass::Icmp, echo(Addr4::new(10, 0, 0, 77))),
        (PuntClass::Routing, packet(OWN, 89, (PEER, OWN_ADDRESS), &[0; 24])),
        (
            PuntClass::Routing,
            packet(MacAddress([1, 0, 0x5e, 0, 0, 5]), 89, (PEER, Addr4::new(224, 0, 0, 5)), &[0; 24]),
        ),
        (PuntClass::Routing, datagram(OWN, (OWN_ADDRESS, 3784))),
        (PuntClass::Group, datagram(BROADCAST, (Addr4::new(255, 255, 255, 255), 67))),
        (PuntClass::Group, datagram(MacAddress([1, 0, 0x5e, 0, 0, 251]), (Addr4::new(224, 0, 0, 251), 5353))),
        (PuntClass::Fragments, with_checksum(fragment)),
        (PuntClass::Neighbor, icmp_v6(OWN, 136)),
        (PuntClass::Neighbor, icmp_v6(MacAddress([0x33, 0x33, 0, 0, 0, 1]), 134)),
        (PuntClass::Icmp, icmp_v6(OWN, 128)),
        (PuntClass::Other, [OWN.0, PEER_MAC.0].concat().into_iter().chain([0x88, 0x63, 1, 2]).collect()),
        (
            PuntClass::Group,
            [[1, 0x80, 0xc2, 0, 0, 0x0e], PEER_MAC.0].concat().into_iter().chain([0x88, 0xcc, 1]).collect(),
        ),
        (PuntClass::ArpRequest, arp(BROADCAST, Arp::REQUEST, PEER, Addr4::new(10, 0, 0, 77))),
        (PuntClass::ArpReply, arp(OWN, Arp::REPLY, PEER, OWN_ADDRESS)),
        (PuntClass::Udp, tagged(datagram(OWN, (OWN_ADDRESS, 123)))),
        (PuntClass::ArpRequest, tagged(arp(BROADCAST, Arp::REQUEST, PEER, Addr4::new(10, 0, 0, 77)))),
    ];
    for (count, (class, frame)) in cases.iter().enumerate() {
        assert_eq!(hosted.host_gets(frame), Some(*class), "case {count}");
    }
    let punted: u64 = PuntClass::ALL.iter().map(|class| hosted.lab.counters[0].punted(*class)).sum();
    assert_eq!(punted, cases.len() as u64);
}

#[test]
fn the_host_gets_nothing_that_is_weirs_or_nobodys() {
    let mut hosted = Hosted::new();
    let mut fragment = datagram(OWN, (VIP, 80));
    fragment[20] = 0x20;
    let mut broken = datagram(OWN, (OWN_ADDRESS, 123));
    broken[25] ^= 1;
    let cases = [
        segment((PEER, 4000), (VIP, 80), SYN),
        segment((PEER, 4000), (VIP, 81), SYN),
        echo(VIP),
        datagram(OWN, (VIP, 53)),
        with_checksum(fragment),
        broken,
        // To other stations, to a group of another link, from a group.
        datagram(PEER_MAC, (OWN_ADDRESS, 123)),
        datagram(MacAddress([1, 0, 0x5e, 1, 0, 5]), (Addr4::new(224, 1, 0, 5), 123)),
        [OWN.0, BROADCAST.0].concat().into_iter().chain([0x88, 0x63, 1, 2]).collect(),
        // Who has weir's addresses is weir's to say, and what others claim of them is nobody's to hear.
        arp(BROADCAST, Arp::REQUEST, PEER, VIP),
        arp(BROADCAST, Arp::REQUEST, PEER, OWN_ADDRESS),
        arp(BROADCAST, Arp::REPLY, OWN_ADDRESS, OWN_ADDRESS),
        arp(BROADCAST, Arp::REQUEST, VIP, VIP),
        packet(OWN, 17, (OWN_ADDRESS, OWN_ADDRESS), &[0, 1, 0, 2, 0, 8, 0, 0]),
    ];
    for (count, frame) in cases.iter().enumerate() {
        assert_eq!(hosted.host_gets(frame), None, "case {count}");
    }
    assert_eq!(hosted.lab.counters[0].answers(Answer::Arp), 2);
    assert_eq!(hosted.lab.counters[0].answers(Answer::Echo), 1);
    assert_eq!(hosted.lab.dropped(DropReason::Conflict), 2);
}

#[test]
fn an_icmp_error_goes_to_who_sent_what_it_is_about() {
    let mut hosted = Hosted::new();
    hosted.lab.send(from_client(1000, SYN));
    let about = |source: (Addr4, u16), destination: (Addr4, u16)| {
        let quoted = &frame(OWN, source, destination, ACK)[14..42];
        let mut message = vec![3, 1, 0, 0, 0, 0, 0, 0];
        message.extend_from_slice(quoted);
        let sum = crate::wire::checksum::Sum::default().bytes(&message).finish();
        message[2..4].copy_from_slice(sum.as_bytes());
        packet(OWN, 1, (PEER, source.0), &message)
    };
    assert_eq!(hosted.host_gets(&about((OWN_ADDRESS, 5000), (PEER, 179))), Some(PuntClass::Icmp));
    assert_eq!(hosted.host_gets(&about((VIP, 80), (CLIENT, 1000))), None);
    assert_eq!(hosted.host_gets(&about((VIP, 80), (CLIENT, 1001))), None);
    assert_eq!(hosted.lab.dropped(DropReason::StrayIcmp), 1);
}

#[test]
fn a_flood_from_strangers_leaves_the_hosts_sessions_alone() {
    let mut hosted = Hosted::new();
    let ours = segment((OWN_ADDRESS, 179), (PEER, 4000), ACK);
    match punt::headers::read(&ours).1 {
        punt::headers::Content::Ip(ip) => assert!(hosted.host.flows.sent(&ip, 0)),
        other => panic!("{other:?}"),
    }
    let mut taken = Vec::new();
    for n in 0..5_000u32 {
        hosted.lab.send(segment((Addr4::new(11, 0, 0, 0).plus(n), 4000), (OWN_ADDRESS, 179), SYN));
        hosted.lab.send(segment((Addr4::new(11, 0, 0, 0).plus(n), 4000), (OWN_ADDRESS, 179), ACK));
        hosted.lab.send(echo(OWN_ADDRESS));
        if n % 10 == 0 {
            hosted.lab.send(segment((PEER, 4000), (OWN_ADDRESS, 179), ACK));
            let class = hosted.channel.pop(&mut taken).map(|punted| punted.class);
            assert_eq!(class, Some(PuntClass::Established), "they are taken first");
        }
    }
    let counters = &hosted.lab.counters[0];
    assert_eq!(counters.punted(PuntClass::Established), 500);
    for class in [PuntClass::TcpSyn, PuntClass::Tcp, PuntClass::Icmp] {
        assert_eq!(counters.punted(class), 128, "{class:?}");
        assert_eq!(counters.punt_drops(class), 4_872, "{class:?}");
    }
    let strangers = std::iter::from_fn(|| hosted.channel.pop(&mut taken)).count();
    assert_eq!(strangers, 3 * 128);
}

#[test]
fn an_answer_to_the_hosts_arp_teaches_weir_too() {
    let mut hosted = Hosted::new();
    hosted
        .channel
        .push(0, &arp(BROADCAST, Arp::REQUEST, OWN_ADDRESS, Addr4::new(10, 0, 0, 20)))
        .expect("room");
    hosted.lab.directors[0].inject(&hosted.lab.snapshot, hosted.lab.now, &mut hosted.lab.wire);
    assert_eq!(hosted.lab.wire.sent.len(), 1);
    hosted.lab.wire.sent.clear();
    assert_eq!(
        hosted.host_gets(&arp(OWN, Arp::REPLY, Addr4::new(10, 0, 0, 20), OWN_ADDRESS)),
        Some(PuntClass::ArpReply),
        "the host gets it"
    );
    let hop = crate::neighbor::Hop::at(Addr4::new(10, 0, 0, 20), 0, 0);
    let (_, resolution) =
        hosted.lab.directors[0].neighbors.resolve(u32::MAX, hop, (true, None), hosted.lab.now);
    assert_eq!(resolution, crate::neighbor::Resolution::To(crate::neighbor::link(PEER_MAC, OWN)));
}

#[test]
fn without_a_host_interface_everything_is_answered_and_dropped_as_ever() {
    let mut hosted = Hosted::new();
    hosted.lab.reload(&config("dr", "rr", &[(11, 1)], ""));
    assert_eq!(hosted.host_gets(&echo(OWN_ADDRESS)), None);
    assert_eq!(hosted.host_gets(&segment((PEER, 4000), (OWN_ADDRESS, 22), SYN)), None);
    assert_eq!(hosted.host_gets(&arp(OWN, Arp::REPLY, PEER, OWN_ADDRESS)), None);
    assert_eq!(hosted.host_gets(&icmp_v6(OWN, 136)), None);
    assert_eq!(hosted.lab.counters[0].answers(Answer::Echo), 1);
    assert_eq!(hosted.lab.counters[0].answers(Answer::TcpReset), 1);
    assert_eq!(hosted.lab.dropped(DropReason::ForeignArp), 1);
    assert_eq!(hosted.lab.dropped(DropReason::EtherType), 1);
}

/// Has the host send a frame; what goes out.
fn host_sends(hosted: &mut Hosted, frame: &[u8]) -> Vec<Vec<u8>> {
    hosted.channel.push(0, frame).expect("room");
    let lab = &mut hosted.lab;
    lab.directors[0].inject(&lab.snapshot, lab.now, &mut lab.wire);
    lab.wire.sent.drain(..).map(|(_, frame)| frame.bytes().to_vec()).collect()
}

fn number_of(hosted: &Hosted, octet: u8) -> ServerId {
    let address = Addr4::new(10, 0, 0, octet);
    hosted.lab.snapshot.servers().find(|server| server.address == address).expect("a real server").id
}

#[test]
fn a_probe_reaches_its_real_server_by_the_forwarding_method_and_the_answer_the_host() {
    for (method, octet) in [("dr", 11), ("dr", 12), ("tun", 11), ("tun", 12)] {
        let mut hosted = Hosted::with_method(method);
        let probe = hosted.host.probes.reserve(number_of(&hosted, octet)).expect("a port");
        let mut syn = segment((OWN_ADDRESS, probe.number()), (VIP, 80), SYN);
        syn[6..12].copy_from_slice(&OWN.0);
        match punt::headers::read(&syn).1 {
            // The host's thread does this before it hands the frame over.
            punt::headers::Content::Ip(ip) => assert!(hosted.host.flows.sent(&ip, 0)),
            other => panic!("{other:?}"),
        }
        let sent = host_sends(&mut hosted, &syn);
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0][..12], [2, 0, 0, 0, 0, octet, 2, 0, 0, 0, 0, 1]);
        let inner = if method == "dr" { 14 } else { 34 };
        assert_eq!(
            sent[0][inner + 12..inner + 24],
            syn[26..38],
            "from the host to the VIP, inside a tunnel or not"
        );
        if method == "tun" {
            assert_eq!(sent[0][30..34], [10, 0, 0, octet]);
        }
        let answer = segment((VIP, 80), (OWN_ADDRESS, probe.number()), SYN | ACK);
        assert_eq!(hosted.host_gets(&answer), Some(PuntClass::Established));
        // Somebody who pretends to be the VIP is nobody's concern.
        let forged = segment((VIP, 80), (OWN_ADDRESS, probe.number() - 1), SYN | ACK);
        assert_eq!(hosted.host_gets(&forged), None);
        assert_eq!(hosted.lab.dropped(DropReason::OwnSource), 1);
        assert_eq!(hosted.lab.directors[0].table.len(), 0, "no connection is made");
    }
}

#[test]
fn a_probe_reaches_a_real_server_of_ipv6_through_its_tunnel() {
    let far: IpAddr = "2001:db8::11".parse().expect("an address");
    let mac = MacAddress([2, 0, 0, 0, 0, 0x11]);
    let mut config = config("tun", "rr", &[(11, 1), (12, 1)], "");
    config.ports[0].addresses.push("2001:db8::2/64".parse().expect("a network"));
    config.neighbors.push(Neighbor { address: far, mac, port: 0 });
    config.virtual_servers[0].real_servers[0].address = far;
    let mut hosted = Hosted::with_config(config);
    let id = hosted.lab.snapshot.servers().find(|server| server.ip() == far).expect("a real server").id;
    let probe = hosted.host.probes.reserve(id).expect("a port");
    let mut syn = segment((OWN_ADDRESS, probe.number()), (VIP, 80), SYN);
    syn[6..12].copy_from_slice(&OWN.0);
    let sent = host_sends(&mut hosted, &syn);
    assert_eq!(sent.len(), 1);
    assert_eq!((&sent[0][..6], &sent[0][12..14], sent[0][20]), (&mac.0[..], &[0x86, 0xdd][..], 4));
    assert_eq!(IpAddr::from(*sent[0][38..].first_chunk::<16>().expect("an address")), far);
    assert_eq!(sent[0][66..78], syn[26..38], "from the host to the VIP, inside the tunnel");
}

const VIP6: &str = "2001:db8::100";

/// One port with a host interface, and a virtual server at an IPv6 address.
fn hosted6() -> Hosted {
    let mut config = config("dr", "rr", &[(11, 1), (12, 1)], "");
    config.ports[0].addresses.push("2001:db8::2/64".parse().expect("a network"));
    config.virtual_servers[0].address = VIP6.parse().expect("an address");
    for server in &mut config.virtual_servers[0].real_servers {
        let IpAddr::V4(address) = server.address else { panic!("it is of IPv4") };
        let [.., octet] = address.octets();
        server.address = format!("2001:db8::{octet:x}").parse().expect("an address");
        let mac = MacAddress([2, 0, 0, 0, 0, octet]);
        config.neighbors.push(Neighbor { address: server.address, mac, port: 0 });
    }
    Hosted::with_config(config)
}

/// An IPv6 packet with this source MAC to the port's.
fn packet6(from: MacAddress, ends: (&str, &str), next: u8, payload: &[u8]) -> Vec<u8> {
    let [source, destination] =
        [ends.0, ends.1].map(|text| text.parse::<std::net::Ipv6Addr>().expect("an address").octets());
    let header = Ipv6 {
        version_class_flow: U32::new(6 << 28),
        payload_len: U16::new(payload.len() as u16),
        next_header: next,
        hop_limit: if next == 58 { 255 } else { 64 },
        source,
        destination,
    };
    [&OWN.0[..], &from.0, &[0x86, 0xdd], header.as_bytes(), payload].concat()
}

fn tcp6(ports: (u16, u16), flags: u8) -> Vec<u8> {
    let ports = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    [&ports[..], &[0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 1, 0, 0, 0, 0, 0]].concat()
}

#[test]
fn a_probe_reaches_a_real_server_of_an_ipv6_virtual_server_and_the_answer_the_host() {
    let mut hosted = hosted6();
    for octet in [11, 12] {
        let far: IpAddr = format!("2001:db8::{octet:x}").parse().expect("an address");
        let id = hosted.lab.snapshot.servers().find(|server| server.ip() == far).expect("a real server").id;
        let probe = hosted.host.probes.reserve(id).expect("a port");
        let syn = packet6(OWN, ("2001:db8::2", VIP6), 6, &tcp6((probe.number(), 80), SYN));
        match punt::headers::read(&syn).1 {
            punt::headers::Content::Ip(ip) => assert!(hosted.host.flows.sent(&ip, 0)),
            other => panic!("{other:?}"),
        }
        let sent = host_sends(&mut hosted, &syn);
        assert_eq!((sent.len(), &sent[0][..6]), (1, &[2, 0, 0, 0, 0, octet][..]));
        assert_eq!((sent[0][21], &sent[0][22..]), (63, &syn[22..]), "as a client's packet");
        let answer = packet6(PEER_MAC, (VIP6, "2001:db8::2"), 6, &tcp6((80, probe.number()), SYN | ACK));
        assert_eq!(hosted.host_gets(&answer), Some(PuntClass::Established));
        let elsewhere = packet6(OWN, ("2001:db8::2", VIP6), 6, &tcp6((probe.number(), 81), SYN));
        assert_eq!(host_sends(&mut hosted, &elsewhere).len(), 0);
    }
    assert_eq!(hosted.lab.dropped(DropReason::NotServed), 2);
    assert_eq!(hosted.lab.directors[0].table.len(), 0, "no connection is made");
}

#[test]
fn the_host_is_told_who_has_an_ipv6_vip_and_left_alone_when_it_looks_for_another() {
    let mut hosted = hosted6();
    let solicitation = |source: &str, target: &str| {
        let target: std::net::Ipv6Addr = target.parse().expect("an address");
        let body = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target.octets(), &[1, 1], &OWN.0].concat();
        packet6(OWN, (source, "ff02::1:ff00:100"), 58, &body)
    };
    assert_eq!(host_sends(&mut hosted, &solicitation("2001:db8::2", VIP6)).len(), 0);
    let (mut answer, mut same) = (Vec::new(), Vec::new());
    hosted.channel.pop(&mut answer).expect("an answer");
    let mut prioritized = solicitation("2001:db8::2", VIP6);
    prioritized.splice(12..12, [0x81, 0, 0xe0, 0]);
    assert_eq!(host_sends(&mut hosted, &prioritized).len(), 0);
    hosted.channel.pop(&mut same).expect("an answer");
    assert_eq!(same, answer);
    assert_eq!((&answer[..12], answer[54], answer[58]), (&[OWN.0, OWN.0].concat()[..], 136, 0x60));
    assert_eq!(
        (&answer[22..38], &answer[62..78]),
        (&answer[62..78], &answer[22..38]),
        "from the VIP about it"
    );
    assert_eq!((&answer[38..54], &answer[80..86]), (&solicitation("2001:db8::2", VIP6)[22..38], &OWN.0[..]));
    let sum =
        crate::wire::checksum::Sum::default().bytes(&answer[22..54]).long(32).word(58).bytes(&answer[54..]);
    assert_eq!(sum.fold(), 0xffff);
    for asks in [solicitation("2001:db8::2", "2001:db8::77"), solicitation("::", VIP6)] {
        assert_eq!(host_sends(&mut hosted, &asks), [asks]);
        assert!(hosted.channel.pop(&mut Vec::new()).is_none());
    }
}

#[test]
fn a_probe_goes_nowhere_but_to_the_virtual_server_of_its_real_server() {
    let mut hosted = Hosted::new();
    let probe = hosted.host.probes.reserve(number_of(&hosted, 11)).expect("a port");
    let number = probe.number();
    let elsewhere = segment((OWN_ADDRESS, number), (VIP, 81), SYN);
    assert_eq!(host_sends(&mut hosted, &elsewhere).len(), 0);
    let gone = hosted.host.probes.reserve(ServerId(999)).expect("a port");
    assert_eq!(host_sends(&mut hosted, &segment((OWN_ADDRESS, gone.number()), (VIP, 80), SYN)).len(), 0);
    assert_eq!(hosted.lab.dropped(DropReason::NotServed), 2);
    drop(probe);
    let plain = segment((OWN_ADDRESS, number), (VIP, 80), SYN);
    assert_eq!(host_sends(&mut hosted, &plain), [[&plain[..], &[0; 6]].concat()]);
}

#[test]
fn the_host_is_told_who_has_a_vip() {
    let mut hosted = Hosted::new();
    let mut request = arp(BROADCAST, Arp::REQUEST, OWN_ADDRESS, VIP);
    request[6..12].copy_from_slice(&OWN.0);
    request[22..28].copy_from_slice(&OWN.0);
    assert_eq!(host_sends(&mut hosted, &request).len(), 0);
    let mut answer = Vec::new();
    hosted.channel.pop(&mut answer).expect("an answer");
    let expected = Arp::new(Arp::REPLY, (OWN, VIP), (OWN, OWN_ADDRESS));
    assert_eq!(answer, [&OWN.0[..], &OWN.0, &[8, 6], expected.as_bytes()].concat());
}
