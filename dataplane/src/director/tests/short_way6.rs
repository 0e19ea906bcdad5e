//! The short way of IPv6 against the common one, on the same frames: what goes out, what is left behind and what is counted
//! is the same.

use std::net::Ipv6Addr;

use super::ipv6::{OWN6, VIP6, client, packet6, v6};
use super::*;
use crate::director::Context;

/// Virtual servers of IPv6 on ports 80 to 84 by TCP and on 53 by UDP, and one of IPv4. One real server's MAC has to be asked for.
fn several(method: &str) -> Config {
    let mut text = format!(
        "[connections]\ncapacity = 1024\n\
         [[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\", \"{OWN6}/64\"]\nmtu = 1400\n\
         [[route]]\ndestination = \"::/0\"\ngateway = \"2001:db8::fe\"\n\
         [[neighbor]]\naddress = \"2001:db8::fe\"\nmac = \"02:00:00:00:00:cc\"\n\
         [[neighbor]]\naddress = \"2001:db8::11\"\nmac = \"02:00:00:00:00:11\"\n\
         [[neighbor]]\naddress = \"2001:db8::12\"\nmac = \"02:00:00:00:00:12\"\n\
         [[neighbor]]\naddress = \"10.0.0.200\"\nmac = \"02:00:00:00:00:cc\"\n\
         [[neighbor]]\naddress = \"10.0.0.11\"\nmac = \"02:00:00:00:00:0b\"\n\
         [[virtual_server]]\nname = \"four\"\naddress = \"10.0.0.100\"\nport = 80\nscheduler = \"rr\"\n\
         [[virtual_server.real_server]]\naddress = \"10.0.0.11\"\n"
    );
    let kinds = [
        (80, "scheduler = \"rr\""),
        (81, "scheduler = \"wlc\""),
        (82, "scheduler = \"rr\"\npersistence_timeout = 300"),
        (83, "scheduler = \"sh\""),
        (84, "scheduler = \"lc\""),
        (53, "scheduler = \"rr\"\nprotocol = \"udp\""),
    ];
    for (port, kind) in kinds {
        text += &format!(
            "[[virtual_server]]\nname = \"s{port}\"\naddress = \"{VIP6}\"\nport = {port}\n{kind}\nforwarding = \"{method}\"\n"
        );
        for number in 11..14 {
            // The last one has none that takes anything.
            let weight = if port == 84 { 0 } else { number - 10 };
            let limit = if number == 12 { 9 } else { 0 };
            let server_port = if method == "nat" { 8_080 } else { port };
            text += &format!(
                "[[virtual_server.real_server]]\naddress = \"2001:db8::{number}\"\nport = {server_port}\n\
                 weight = {weight}\nupper_threshold = {limit}\n"
            );
        }
    }
    weir_config::parse("test", &text).unwrap_or_else(|report| panic!("{report}")).config
}

/// What a frame is made from.
type Seed = (u8, u8, u8, u8, u16);

const FLAGS: [u8; 10] = [SYN, SYN, ACK, ACK, ACK, ACK | 8, FIN | ACK, RST, SYN | ACK, 0];

fn source(seed: u8) -> Ipv6Addr {
    match seed {
        250 => v6(VIP6),
        251 => v6(OWN6),
        252 => Ipv6Addr::UNSPECIFIED,
        253 => v6("ff02::1"),
        254 => v6("2001:db8::11"),
        seed => client(seed % 5),
    }
}

/// No burst has two packets of one connection: those may pass one another.
fn frame_of(place: usize, (who, what, which, how, size): Seed, method: &str) -> Vec<u8> {
    let port = if what == 77 { 20 } else { 1_000 + place as u16 * 2 + u16::from(what / 32 % 2) };
    let payload = usize::from(match which % 7 {
        0 => size % 1_600,
        _ => size % 24,
    });
    let to = 80 + u16::from(which / 7 % 6);
    let is_udp = which % 3 == 0;
    let mut l4 = [port.to_be_bytes(), if is_udp { 53 } else { to }.to_be_bytes()].concat();
    if is_udp {
        l4.extend((8 + payload as u16).to_be_bytes());
        l4.extend([0x12, 0x34]);
    } else {
        l4.extend([
            0,
            0,
            0,
            1,
            0,
            0,
            0,
            2,
            0x50,
            FLAGS[usize::from(what) % FLAGS.len()],
            1,
            0,
            0xab,
            0xcd,
            0,
            0,
        ]);
    }
    l4.resize(l4.len() + payload, what);
    let protocol = if is_udp { ipv4::UDP } else { ipv4::TCP };
    let hop_limit = [64, 64, 64, 2, 1, 0][usize::from(how) % 6];
    let mut bytes = match how / 6 % 8 {
        // Extension headers, of which some can't be walked.
        0 => {
            let kind = [0, 43, 44, 60, 59, 51][usize::from(how / 48) % 6];
            let headers = [protocol, 0, 1, 4, 0, 0, 0, 0];
            packet6(source(who), v6(VIP6), (kind, hop_limit), &[&headers[..], &l4].concat())
        }
        _ => packet6(source(who), v6(VIP6), (protocol, hop_limit), &l4),
    };
    match how / 6 {
        // A real server's packet to its client.
        8 if method == "nat" => {
            bytes[54..58].copy_from_slice(&[l4[2] | 0x1f, 0x90, l4[0], l4[1]]);
            bytes[22..38].copy_from_slice(&v6(&format!("2001:db8::{}", 11 + which % 3)).octets());
            bytes[38..54].copy_from_slice(&source(who % 5).octets());
        }
        9 => bytes.extend([0; 3]),
        10 => bytes.truncate(bytes.len() - usize::from(size % 30).min(bytes.len())),
        11 => bytes[18..20].copy_from_slice(&size.to_be_bytes()),
        12 => bytes[58..60].copy_from_slice(&size.to_be_bytes()),
        13 => bytes.iter_mut().skip(54 + 12).take(1).for_each(|byte| *byte = size as u8),
        14 => bytes[14] = size as u8,
        15 => bytes[5] = size as u8 & 1,
        16 => bytes[6] = size as u8,
        17 => bytes[53] = size as u8 & 1,
        18 => bytes[12..14].copy_from_slice(&size.to_be_bytes()),
        19 => drop(bytes.splice(12..12, [0x81, 0, 0, size as u8 % 3])),
        20 => bytes = frame(OWN, (CLIENT, port), (VIP, 80), FLAGS[usize::from(what) % FLAGS.len()]),
        21 => bytes[20] = size as u8,
        _ => {}
    }
    bytes
}

fn process(lab: &mut Lab, frames: &[Vec<u8>]) -> Vec<(usize, Vec<u8>)> {
    let mut burst = Burst::new();
    frames.iter().for_each(|frame| burst.push(HeapFrame::new(frame)));
    lab.directors[0].process(&mut burst, 0, &lab.snapshot, lab.now, &mut lab.wire);
    let sent = lab.wire.sent.drain(..).map(|(port, frame)| (port, frame.bytes().to_vec()));
    let mut sent: Vec<_> = sent.collect();
    // Usual packets pass others.
    sent.sort();
    sent
}

/// All that is left behind.
fn left(lab: &Lab) -> impl PartialEq + std::fmt::Debug + use<> {
    let servers: Vec<_> = lab
        .snapshot
        .servers()
        .map(|server| {
            let live = &server.live;
            (live.traffic(), live.openings(), server.is_overloaded(), live.active(), live.inactive())
        })
        .collect();
    let table = &lab.directors[0].table;
    let mut records: Vec<_> =
        table.iter().map(|record| (table.clients.address(record.client()), format!("{record:?}"))).collect();
    records.sort();
    let counters = &lab.counters[0];
    let drops: Vec<_> = DropReason::ALL.iter().map(|&reason| lab.dropped(reason)).collect();
    let answers: Vec<_> = Answer::ALL.iter().map(|&answer| counters.answers(answer)).collect();
    let counts =
        [&counters.forwarded, &counters.untracked, &counters.nd_solicitations, &counters.ipv6_clients_full];
    (servers, records, drops, answers, counts.map(|counter| counter.get()), table.clients.known())
}

#[test]
fn any_burst_of_ipv6_ends_the_same_on_the_short_and_the_common_way() {
    let configs = ["dr", "tun", "nat"].map(|method| {
        let mut few = several(method);
        few.connections.ipv6_clients = Some(16);
        (method, [several(method), few])
    });
    bolero::check!().with_type::<(u8, Vec<(u8, Vec<Seed>)>)>().for_each(|(kind, history)| {
        let (method, kinds) = &configs[usize::from(*kind) % configs.len()];
        let config = &kinds[usize::from(kind / 100 == 1)];
        let mut labs = [Lab::new(config, 1), Lab::new(config, 1)];
        labs[1].directors[0].no_express = true;
        for (pause, burst) in history.iter().take(8) {
            let seeds = burst.iter().take(64).enumerate();
            let frames: Vec<_> = seeds.map(|(place, seed)| frame_of(place, *seed, method)).collect();
            let sent = labs.each_mut().map(|lab| {
                match pause {
                    200.. => {
                        lab.pass_millis(70_000);
                        lab.sweep();
                    }
                    pause => lab.pass_millis(u64::from(pause % 3) * 500),
                }
                process(lab, &frames)
            });
            assert_eq!(sent[0], sent[1]);
            let left = labs.each_ref().map(left);
            assert_eq!(left[0], left[1]);
        }
        labs[0].assert_counts_equal_a_recount();
    });
}

/// A client's segments, one after the other, burst by burst of one.
fn talk(lab: &mut Lab, number: u8, segments: &[u8]) -> Vec<Vec<u8>> {
    segments.iter().flat_map(|flags| lab.send(segment(number, *flags))).collect()
}

fn segment(number: u8, flags: u8) -> Vec<u8> {
    segment_to(80, number, flags)
}

/// From another port for each: of those of one client's port that go to one address, one alone goes the short way.
fn segment_to(port: u8, number: u8, flags: u8) -> Vec<u8> {
    let l4 = [0x0f, port + 80, 0, port, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 1, 0, 0xab, 0xcd, 0, 0];
    packet6(client(number), v6(VIP6), (ipv4::TCP, 64), &l4)
}

/// How many frames of a burst are not sent before any takes another way than the short one.
fn left_by_the_first_round(lab: &mut Lab, frames: &[Vec<u8>]) -> usize {
    let Lab { directors, snapshot, now, wire, .. } = lab;
    let director = &mut directors[0];
    let mut findings = std::mem::take(&mut director.findings);
    let mut burst = Burst::new();
    frames.iter().for_each(|frame| burst.push(HeapFrame::new(frame)));
    let context = Context { snapshot, now: *now, port: 0 };
    director.read(&mut burst, &mut findings, context, wire);
    director.findings = findings;
    burst.len()
}

#[test]
fn established_connections_of_several_virtual_servers_go_the_short_way_in_one_burst() {
    let mut lab = Lab::new(&several("nat"), 1);
    let mut frames = Vec::new();
    for number in 0..8 {
        for port in [80, 81, 83] {
            lab.send(segment_to(port, number, SYN));
            // One real server's MAC has to be asked for.
            if lab.send(segment_to(port, number, ACK)).iter().any(|sent| sent[0] & 1 == 0) {
                frames.push(segment_to(port, number, ACK));
            }
        }
    }
    assert!(frames.len() > 6, "{}", frames.len());
    assert_eq!(left_by_the_first_round(&mut lab, &frames), 0);
    assert_eq!(lab.wire.sent.len(), frames.len());
    frames.push(segment(9, ACK));
    assert_eq!(left_by_the_first_round(&mut lab, &frames), frames.len(), "one of them has no connection");
}

#[test]
fn an_established_connection_goes_the_short_way() {
    for method in ["dr", "tun", "nat"] {
        let config = several(method);
        let mut labs = [Lab::new(&config, 1), Lab::new(&config, 1)];
        labs[1].directors[0].no_express = true;
        // The first client's real server has a MAC to be asked for.
        let [Some(mut lab), Some(mut common)] = labs.map(|mut lab| {
            talk(&mut lab, 2, &[SYN]);
            (talk(&mut lab, 1, &[SYN, ACK]).len() == 2).then_some(lab)
        }) else {
            panic!("{method}")
        };
        for bytes in [Some(segment(1, ACK)), (method == "nat").then(reply)].into_iter().flatten() {
            // The second one finds the way at hand.
            lab.send(bytes.clone());
            let expected = common.send(bytes.clone());
            assert_eq!(left_by_the_first_round(&mut lab, &[bytes]), 0, "{method}: it is sent at once");
            assert_eq!(lab.wire.sent.remove(0).1.bytes(), expected[0], "{method}");
        }
    }
}

/// The answer of the first client's real server.
fn reply() -> Vec<u8> {
    let l4 = [0x1f, 0x90, 0x0f, 0xa0, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, ACK, 1, 0, 0xab, 0xcd, 0, 0];
    packet6(v6("2001:db8::12"), client(1), (ipv4::TCP, 64), &l4)
}
