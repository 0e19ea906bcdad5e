//! What is explained of IPv6 packets is what happens, in the steps of IPv4's.

use weir_config::model::{Persistence, Protocol};

use super::*;
use crate::director::explain::{Explanation, Outcome, Question, Segment, Step, Unrecorded};

/// About a segment of [`segment4`], or of [`segment6`].
fn ask(lab: &mut Lab, number: u8, port: u16, segment: Segment, is_v6: bool) -> Explanation {
    let (source, destination): (IpAddr, IpAddr) = match is_v6 {
        true => (client(number).into(), v6(VIP6).into()),
        false => ([10, 0, 7, number].into(), VIP.into()),
    };
    let question = Question {
        port: 0,
        protocol: Protocol::Tcp,
        source: (source, port),
        destination: (destination, 80),
        segment,
        total_len: 0,
    };
    let Lab { directors, snapshot, now, .. } = lab;
    directors[0].explain(&question, snapshot, *now)
}

/// The steps by their names, and how it ends.
fn told(explained: &Explanation) -> (Vec<String>, Option<(u8, u8)>) {
    let name = |step: &Step| {
        let text = format!("{step:?}");
        text.split([' ', '(', '{']).next().unwrap_or_default().replace("NextHop6", "NextHop")
    };
    let end = match explained.outcome {
        Outcome::Sent { mac, .. } => Some((mac.0[5], 0)),
        Outcome::Answered(Answer::TcpReset) => Some((0, RST)),
        _ => None,
    };
    (explained.steps.iter().map(name).collect(), end)
}

#[test]
fn both_families_are_explained_by_one_rule_and_asking_changes_nothing() {
    const SEGMENTS: [(Segment, u8); 5] = [
        (Segment::Syn, SYN),
        (Segment::Syn, SYN),
        (Segment::Ack, ACK),
        (Segment::Fin, FIN | ACK),
        (Segment::Rst, RST),
    ];
    let mut configs = ["rr", "wlc", "lblc"].map(|scheduler| both(scheduler, "")).to_vec();
    let mut lasting = both("wrr", "");
    for (server, netmask) in lasting.virtual_servers.iter_mut().zip([31, 127]) {
        server.persistence = Some(Persistence { timeout_secs: 100, netmask, engine: None });
    }
    configs.push(lasting);
    bolero::check!().with_iterations(120).with_type::<(u8, Vec<(u8, u8, u8)>)>().for_each(
        |(which, steps)| {
            let config = &configs[usize::from(*which) % configs.len()];
            let (mut four, mut six) = (Lab::new(config, 1), Lab::new(config, 1));
            for &(number, port, segment) in steps.iter().take(30) {
                let (number, port) = (number % 5 + 1, 1_000 + u16::from(port % 3));
                let (segment, flags) = SEGMENTS[usize::from(segment) % SEGMENTS.len()];
                let explained = ask(&mut six, number, port, segment, true);
                assert_eq!(ask(&mut six, number, port, segment, true), explained, "asked twice");
                let expected = ask(&mut four, number, port, segment, false);
                assert_eq!(told(&explained), told(&expected), "client {number}, port {port}, {segment:?}");
                let seen = fate(&six.send(segment6(number, port, flags)));
                // What is answered with a RST has one of two kinds of flags.
                let seen = seen.map(|(octet, flags)| (octet, flags & RST));
                assert_eq!(seen, told(&explained).1, "client {number}, port {port}, {segment:?}");
                assert_eq!(
                    fate(&four.send(segment4(number, port, flags))).map(|it| it.0),
                    seen.map(|it| it.0)
                );
                for lab in [&mut four, &mut six] {
                    lab.pass_millis(1);
                }
            }
        },
    );
}

#[test]
fn who_is_nobody_and_who_finds_no_room_is_told() {
    let mut lab = Lab::new(&both("rr", "ipv6_clients = 1024"), 1);
    let to = |lab: &mut Lab, address: &str, port| {
        let question = Question {
            port: 0,
            protocol: Protocol::Tcp,
            source: (client(1).into(), 1_000),
            destination: (v6(address).into(), port),
            segment: Segment::Syn,
            total_len: 60,
        };
        let Lab { directors, snapshot, now, .. } = lab;
        directors[0].explain(&question, snapshot, *now)
    };
    assert_eq!(told(&to(&mut lab, "2001:db8::77", 80)), (vec!["Foreign".to_owned()], None));
    assert_eq!(told(&to(&mut lab, OWN6, 80)), (vec!["Local".to_owned()], Some((0, RST))));
    assert_eq!(told(&to(&mut lab, VIP6, 81)), (vec!["Local".to_owned()], Some((0, RST))));
    let outcome = to(&mut lab, &client(1).to_string(), 80).outcome;
    assert_eq!(outcome, Outcome::Dropped(DropReason::EtherType));
    let lines = Slab::heap(Table::lines_for(1024)).expect("memory");
    lab.directors[0].table = Table::new(lines, 1024, HashKey::new([3, 0x9e37_79b9_7f4a_7c15]));
    let explained = ask(&mut lab, 1, 1_000, Segment::Syn, true);
    assert!(explained.steps.contains(&Step::Unrecorded(Unrecorded::ClientsFull)), "{explained:?}");
    let seen = fate(&lab.send(segment6(1, 1_000, SYN)));
    assert_eq!((told(&explained).1, lab.counters[0].ipv6_clients_full.get()), (seen, 1));
}

#[test]
fn what_is_to_an_own_address_is_explained_as_it_is_answered() {
    let mut lab = Lab::new(&both("rr", ""), 1);
    let question = Question {
        port: 0,
        protocol: Protocol::Tcp,
        source: (client(1).into(), 1_000),
        destination: (v6(OWN6).into(), 80),
        segment: Segment::Syn,
        total_len: 0,
    };
    let Lab { directors, snapshot, now, .. } = &mut lab;
    let explained = directors[0].explain(&question, snapshot, *now);
    assert_eq!(explained.outcome, Outcome::Answered(Answer::TcpReset));
    assert_eq!(explained.steps[..], [Step::Local]);
}
