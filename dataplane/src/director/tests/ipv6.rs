//! IPv6 virtual servers by direct routing.

mod explain;
mod extended;
mod link_local;
mod marks;
mod options;
mod persistence;
mod renumbered;
mod room;
mod strays;

use std::net::{IpAddr, Ipv6Addr};

use super::*;
use crate::wire::checksum::Sum;

pub(super) const OWN6: &str = "2001:db8::2";
pub(super) const VIP6: &str = "2001:db8::100";
const SERVERS: [u8; 3] = [11, 12, 13];

/// A virtual server of each family with the same real servers, as far as their last octets go.
pub(super) fn both(scheduler: &str, extra: &str) -> Config {
    let mut text = format!(
        "[connections]\ncapacity = 1024\n{extra}\n\
         [[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\", \"{OWN6}/64\"]\n"
    );
    for (address, server) in [("10.0.0.100", "10.0.0."), (VIP6, "2001:db8::")] {
        for octet in SERVERS {
            let mac = format!("02:00:00:00:00:{octet:02x}");
            text += &format!("[[neighbor]]\naddress = \"{server}{octet}\"\nmac = \"{mac}\"\n");
        }
        text += &format!(
            "[[virtual_server]]\nname = \"{address}\"\naddress = \"{address}\"\nport = 80\nprotocol = \"tcp\"\n\
             scheduler = \"{scheduler}\"\n"
        );
        for (octet, weight) in SERVERS.into_iter().zip([1, 2, 1]) {
            text += &format!(
                "[[virtual_server.real_server]]\naddress = \"{server}{octet}\"\nweight = {weight}\n"
            );
        }
    }
    weir_config::parse("test", &text).unwrap_or_else(|report| panic!("{report}")).config
}

pub(super) fn v6(text: &str) -> Ipv6Addr {
    text.parse().expect("an address")
}

pub(super) fn client(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, u16::from(number))
}

/// An IPv6 packet from the client's MAC.
pub(super) fn packet6(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    (next, hop_limit): (u8, u8),
    payload: &[u8],
) -> Vec<u8> {
    let mut frame = [OWN.0, CLIENT_MAC.0].concat();
    frame.extend([0x86, 0xdd, 0x6b, 0x91, 0x23, 0x45]);
    frame.extend((payload.len() as u16).to_be_bytes());
    frame.extend([next, hop_limit]);
    frame.extend(source.octets());
    frame.extend(destination.octets());
    frame.extend(payload);
    let (ends, l4) = frame[22..].split_at_mut(32);
    put_checksum(l4, next, ends);
    frame
}

fn tcp(port: u16, segment: u8, payload: usize) -> Vec<u8> {
    let mut bytes = port.to_be_bytes().to_vec();
    bytes.extend([0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, segment, 1, 0, 0, 0, 0, 0]);
    bytes.resize(20 + payload, 7);
    bytes
}

pub(super) fn segment6(number: u8, port: u16, segment: u8) -> Vec<u8> {
    packet6(client(number), v6(VIP6), (ipv4::TCP, 64), &tcp(port, segment, 0))
}

pub(super) fn segment4(number: u8, port: u16, segment: u8) -> Vec<u8> {
    frame(OWN, (Addr4::new(10, 0, 7, number), port), (VIP, 80), segment)
}

/// What became of a packet: the last octet of the real server's MAC, or 0 and the flags of the RST.
pub(super) fn fate(sent: &[Vec<u8>]) -> Option<(u8, u8)> {
    let frame = sent.first()?;
    let is_back = frame[..6] == CLIENT_MAC.0;
    let flags = if frame[12] == 0x86 { frame[54 + 13] } else { frame[34 + 13] };
    Some(if is_back { (0, flags) } else { (frame[5], 0) })
}

fn states(lab: &Lab) -> Vec<(u8, u16)> {
    let records = lab.directors.iter().flat_map(|director| director.table.iter());
    let mut states: Vec<_> = records.map(|record| (record.state().0, record.client_port())).collect();
    states.sort_unstable();
    states
}

#[test]
fn both_families_pick_follow_and_count_by_one_rule() {
    const FLAGS: [u8; 6] = [SYN, ACK, FIN | ACK, RST, SYN | ACK, ACK | 8];
    let configs = ["rr", "wrr", "wlc", "lc", "sed", "nq", "twos"].map(|scheduler| both(scheduler, ""));
    bolero::check!().with_iterations(150).with_type::<(u8, Vec<(u8, u8, u8, u8)>)>().for_each(
        |(which, steps)| {
            let config = &configs[usize::from(*which) % configs.len()];
            let (mut four, mut six) = (Lab::new(config, 1), Lab::new(config, 1));
            for &(number, port, flags, secs) in steps.iter().take(40) {
                let (number, port) = (number % 3 + 1, 1_000 + u16::from(port % 4));
                let flags = FLAGS[usize::from(flags) % FLAGS.len()];
                let seen =
                    [four.send(segment4(number, port, flags)), six.send(segment6(number, port, flags))]
                        .map(|sent| fate(&sent));
                assert_eq!(seen[0], seen[1], "client {number}, port {port}, flags {flags:#x}");
                assert_eq!(states(&four), states(&six));
                for lab in [&mut four, &mut six] {
                    lab.pass_millis(if secs > 250 { 70_000 } else { u64::from(secs) });
                    if secs > 250 {
                        // Counts are right when what is over is counted out.
                        lab.sweep();
                    }
                }
            }
            four.assert_counts_equal_a_recount();
            six.assert_counts_equal_a_recount();
            let clients: HashSet<Addr4> =
                six.directors[0].table.iter().map(|record| record.client()).collect();
            assert_eq!(six.directors[0].table.clients.known(), clients.len(), "each client has one number");
        },
    );
}

#[test]
fn a_packet_keeps_all_but_its_hop_limit() {
    let mut lab = Lab::new(&both("rr", ""), 1);
    let given = segment6(1, 1_000, SYN);
    let sent = lab.send(given.clone());
    assert_eq!(sent.len(), 1);
    assert_eq!((&sent[0][..6], &sent[0][6..12]), (&[2, 0, 0, 0, 0, 13][..], &OWN.0[..]));
    assert_eq!((sent[0][21], &sent[0][12..21], &sent[0][22..]), (63, &given[12..21], &given[22..]));
}

#[test]
fn a_client_comes_back_to_its_connection_and_none_other_does() {
    let mut lab = Lab::new(&both("rr", ""), 1);
    let servers: Vec<_> = (1..=100).map(|number| fate(&lab.send(segment6(number, 1_000, SYN)))).collect();
    for (number, server) in (1..=100).zip(&servers) {
        assert_eq!(fate(&lab.send(segment6(number, 1_000, ACK))), *server);
    }
    lab.pass_millis(1);
    let counters = &lab.counters[0];
    assert_eq!((counters.ipv6_clients.get(), counters.ipv6_clients_capacity.get()), (100, 1_024));
    let view = lab.directors[0].table.view();
    let mut seen: Vec<_> = view.records().filter_map(|record| view.client(record)).collect();
    seen.sort();
    assert_eq!(seen, (1..=100).map(|number| IpAddr::V6(client(number))).collect::<Vec<_>>());
    // Stray segments of others are answered, and leave nothing behind.
    assert_eq!(fate(&lab.send(segment6(200, 1_000, ACK))), Some((0, RST)));
    assert_eq!(lab.directors[0].table.clients.known(), 100);
    (1..=100).for_each(|number| _ = lab.send(segment6(number, 1_000, RST)));
    lab.pass_millis(20_000);
    lab.sweep();
    assert!(lab.directors[0].table.is_empty() && lab.directors[0].table.clients.known() == 0);
    lab.assert_counts_equal_a_recount();
}

#[test]
fn flows_of_clients_without_room_go_by_their_addresses() {
    let mut lab = Lab::new(&both("rr", "ipv6_clients = 1024"), 1);
    let table = Table::new(
        Slab::heap(Table::lines_for(1024)).expect("memory"),
        1024,
        HashKey::new([3, 0x9e37_79b9_7f4a_7c15]),
    );
    lab.directors[0].table = table;
    let servers: Vec<_> = (1..=60).map(|number| fate(&lab.send(segment6(number, 1_000, SYN)))).collect();
    for (number, server) in (1..=60).zip(&servers) {
        assert_eq!(fate(&lab.send(segment6(number, 1_000, ACK))), *server);
    }
    assert!(SERVERS.iter().all(|octet| servers.contains(&Some((*octet, 0)))), "{servers:?}");
    assert_eq!((lab.directors[0].table.len(), lab.counters[0].untracked.get()), (0, 0));
    assert_eq!(lab.counters[0].ipv6_clients_full.get(), 120);
}

#[test]
fn a_connection_is_found_with_whichever_worker_has_it_where_flows_move() {
    let mut lab = Lab::new(&both("rr", ""), 2);
    lab.directors.iter_mut().for_each(|director| director.shared.flows_move = true);
    // The second worker gives its numbers to other clients.
    (50..60).for_each(|number| _ = lab.send_to(1, segment6(number, 2_000, SYN)));
    let servers: Vec<_> = (1..=9).map(|number| fate(&lab.send_to(0, segment6(number, 2_000, SYN)))).collect();
    for (number, server) in (1..=9).zip(&servers) {
        assert_eq!(fate(&lab.send_to(1, segment6(number, 2_000, ACK))), *server, "client {number}");
    }
    assert_eq!(lab.directors[1].table.len(), 10);
}

/// Whether the checksum of the ICMPv6 message or the TCP segment in a frame is right.
pub(super) fn has_right_checksum(frame: &[u8]) -> bool {
    let sum = Sum::default().bytes(&frame[22..54]).long(frame.len() as u32 - 54).word(frame[20].into());
    sum.bytes(&frame[54..]).fold() == 0xffff
}

#[test]
fn what_can_not_go_on_is_answered() {
    let mut lab = Lab::new(&both("rr", ""), 1);
    let to_vip = |limit, payload: &[u8]| packet6(client(1), v6(VIP6), (ipv4::TCP, limit), payload);
    let unknown = packet6(client(1), v6(VIP6), (47, 64), &[0; 24]);
    let behind = [&[47, 0, 1, 4, 0, 0, 0, 0][..], &[0; 24]].concat();
    let behind = packet6(client(1), v6(VIP6), (60, 64), &behind);
    lab.send(segment6(1, 1_000, SYN));
    for (given, kind, code, rest) in [
        (to_vip(1, &tcp(1_000, ACK, 0)), 3, 0, 0),
        (to_vip(0, &tcp(1_000, ACK, 0)), 3, 0, 0),
        (to_vip(64, &tcp(1_000, ACK, 1_500)), 2, 0, 1_500_u32),
        (unknown, 4, 1, 6),
        (behind, 4, 1, 40),
    ] {
        let sent = lab.send(given.clone());
        assert_eq!(sent.len(), 1);
        let answer = &sent[0];
        assert_eq!((&answer[..6], &answer[22..38]), (&CLIENT_MAC.0[..], &v6(OWN6).octets()[..]));
        assert_eq!((answer[54], answer[55], &answer[58..62]), (kind, code, &rest.to_be_bytes()[..]));
        assert!(has_right_checksum(answer) && answer.len() <= 14 + 1_280);
        let mut quoted = given[14..14 + answer.len() - 62].to_vec();
        quoted[7] -= u8::from(kind == 2);
        assert_eq!(answer[62..], quoted, "it is quoted as it was when it could not go on");
    }
    let reset = lab.send(segment6(9, 1_000, ACK));
    assert!(has_right_checksum(&reset[0]));
    assert_eq!(reset[0][22..38], v6(VIP6).octets());
}

#[test]
fn errors_about_answers_go_to_the_real_server_that_sent_them() {
    let mut lab = Lab::new(&both("rr", ""), 1);
    let server = fate(&lab.send(segment6(1, 1_000, SYN)));
    let quote = |number| {
        let mut answer = tcp(80, ACK, 0);
        answer[2..4].copy_from_slice(&1_000_u16.to_be_bytes());
        packet6(v6(VIP6), client(number), (ipv4::TCP, 60), &answer)[14..].to_vec()
    };
    let error = |number, spoil: u8| {
        let mut message = [&[2, 0, 0, 0, 0, 0, 5, 0][..], &quote(number)].concat();
        let ends = [v6("2001:db8:9::1").octets(), v6(VIP6).octets()].concat();
        let sum = Sum::default().bytes(&ends).long(message.len() as u32).word(58).bytes(&message).finish();
        message[2..4].copy_from_slice(sum.as_bytes());
        message[7] ^= spoil;
        packet6(v6("2001:db8:9::1"), v6(VIP6), (58, 64), &message)
    };
    let sent = lab.send(error(1, 0));
    assert_eq!((fate(&sent), sent.len()), (server, 1));
    assert_eq!(lab.send(error(2, 0)), Vec::<Vec<u8>>::new(), "about no connection");
    assert_eq!(lab.send(error(1, 1)), Vec::<Vec<u8>>::new(), "with a wrong checksum");
    assert_eq!((lab.dropped(DropReason::StrayIcmp), lab.dropped(DropReason::BadL4Header)), (1, 1));
}

#[test]
fn no_packet_of_ipv4_can_mean_an_ipv6_address_by_its_number() {
    let mut lab = Lab::new(&both("rr", ""), 1);
    lab.send(segment6(1, 1_000, SYN));
    let vip = lab.snapshot.number6(v6(VIP6)).expect("a number");
    let client = lab.directors[0].table.iter().next().expect("a record").client();
    for flags in [SYN, ACK] {
        assert!(lab.send(frame(OWN, (CLIENT, 1_000), (vip, 80), flags)).is_empty());
        assert!(lab.send(frame(OWN, (client, 1_000), (vip, 80), flags)).is_empty());
        assert!(lab.send(frame(OWN, (client, 1_000), (VIP, 80), flags)).is_empty());
        assert!(lab.send(frame(OWN, (Addr4::new(10, 0, 0, 11), 80), (client, 1_000), flags)).is_empty());
    }
    let dropped = [DropReason::BadIpHeader, DropReason::ForeignAddress].map(|reason| lab.dropped(reason));
    assert_eq!(dropped, [4, 4]);
    let mut question = [[0xff; 6], CLIENT_MAC.0].concat();
    question.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    question.extend(CLIENT_MAC.0.iter().chain(&CLIENT.octets()).chain(&[0; 6]).chain(&vip.octets()));
    assert!(lab.send(question).is_empty(), "ARP has no answer");
    lab.assert_counts_equal_a_recount();
}

/// An ICMPv6 message of a client's, with its checksum.
fn icmp6(to: &str, (kind, hop_limit): (u8, u8), rest: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, 0, 0, 0][..], rest].concat();
    let ends = [client(9).octets(), v6(to).octets()].concat();
    let sum = Sum::default().bytes(&ends).long(message.len() as u32).word(58).bytes(&message).finish();
    message[2..4].copy_from_slice(sum.as_bytes());
    packet6(client(9), v6(to), (58, hop_limit), &message)
}

/// A solicitation of a client's for an address, to its group.
pub(super) fn who_has(target: &str) -> Vec<u8> {
    let mut question =
        [&[135, 0, 0, 0, 0, 0, 0, 0][..], &v6(target).octets(), &[1, 1], &CLIENT_MAC.0].concat();
    let [.., a, b, c] = v6(target).octets();
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
    let ends = [client(1).octets(), group.octets()].concat();
    let sum = Sum::default().bytes(&ends).long(question.len() as u32).word(58).bytes(&question).finish();
    question[2..4].copy_from_slice(sum.as_bytes());
    let mut question = packet6(client(1), group, (58, 255), &question);
    question[..6].copy_from_slice(&[0x33, 0x33, 0xff, a, b, c]);
    question
}

#[test]
fn its_vip_is_announced_and_found_by_neighbour_discovery() {
    let mut lab = Lab::new(&both("rr", ""), 1);
    let mut told = Vec::new();
    for _ in 0..50 {
        lab.now.millis += 1;
        let Lab { directors, snapshot, now, wire, .. } = &mut lab;
        directors[0].upkeep(snapshot, *now, wire);
        told.extend(lab.wire.sent.drain(..).map(|(_, frame)| frame.bytes().to_vec()));
    }
    let is_told =
        |frame: &&Vec<u8>| frame.get(12..14) == Some(&[0x86, 0xdd]) && frame[62..78] == v6(VIP6).octets();
    let announced = told.iter().find(is_told).expect("an announcement");
    assert_eq!((&announced[..6], announced[54]), (&[0x33, 0x33, 0, 0, 0, 1][..], 136));
    assert!(has_right_checksum(announced) && announced[80..86] == OWN.0);
    let answer = lab.send(who_has(VIP6));
    assert_eq!((answer.len(), answer[0][54], &answer[0][80..86]), (1, 136, &OWN.0[..]));
    assert!(has_right_checksum(&answer[0]));
}
