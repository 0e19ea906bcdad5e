//! What is explained of NAT real servers' packets of IPv6 is what happens to them.

use weir_config::model::Protocol;

use super::super::fuzz::chance::Chance;
use super::marks::{mark, marked};
use super::*;
use crate::director::explain::{Outcome, Question, Replier, Segment, Step, To};

/// Asks a worker about a segment, sends it there, and holds what came of it against what was told. Returns who it was for.
fn asked(
    lab: &mut Lab,
    worker: usize,
    from: (Ipv6Addr, u16),
    to: (Ipv6Addr, u16),
    segment: Segment,
) -> Option<To> {
    let flags = match segment {
        Segment::Syn => SYN,
        Segment::SynAck => SYN | ACK,
        Segment::Ack => ACK,
        Segment::Fin => FIN | ACK,
        Segment::Rst => RST,
    };
    let ends_of = |(address, port): (Ipv6Addr, u16)| (address.into(), port);
    let question = Question {
        port: 0,
        protocol: Protocol::Tcp,
        source: ends_of(from),
        destination: ends_of(to),
        segment,
        total_len: 60,
    };
    let dropped = |lab: &Lab| DropReason::ALL.iter().map(|it| lab.dropped(*it)).collect::<Vec<_>>();
    let before = (dropped(lab), states(lab));
    let explained = lab.directors[worker].explain(&question, &lab.snapshot, lab.now);
    assert_eq!((dropped(lab), states(lab)), before, "asking changed something");
    let sent = lab.send_to(worker, super::segment(from, to, flags));
    let told = || format!("{question:?} by worker {worker}: {explained:?}");
    match explained.outcome {
        Outcome::Sent { mac, .. } => {
            assert_eq!(sent[0][..6], mac.0, "{}", told());
            let vip = explained.steps.iter().find_map(|step| match step {
                Step::Returned(vip, port) => Some((lab.snapshot.ip(*vip), *port)),
                _ => None,
            });
            if let Some((vip, port)) = vip {
                let (source, source_port, ..) = ends(&sent[0]);
                assert_eq!((source.into(), source_port), (vip, port), "{}", told());
            }
        }
        Outcome::Answered(_) => assert!(sent.len() == 1 && address_at(&sent[0], 38) == from.0, "{}", told()),
        Outcome::Dropped(reason) => {
            let at = DropReason::ALL.iter().position(|it| *it == reason).expect("one of all");
            assert_eq!((sent.len(), dropped(lab)[at]), (0, before.0[at] + 1), "{}", told());
        }
        Outcome::Waits { .. } | Outcome::HandedOver(_) => panic!("{}", told()),
    }
    explained.to
}

#[test]
fn what_is_told_of_an_answer_is_what_happens_to_it() {
    let marks = mark(1, &["2001:db8:7::/120"], "ports = [1000]") + &mark(2, &["2001:db8:b::1"], "");
    let marked = marked(&marks, "");
    for config in [
        both("rr", &SERVERS, ""),
        with_another(8080),
        with_another(8081),
        marked,
        both("rr", &SERVERS, "nat_icmp_send = true"),
    ] {
        let mut lab = Lab::new(&config, 2);
        let mut chance = Chance::new(7);
        let mut answered = 0;
        for _ in 0..3_000 {
            let worker = chance.below(2);
            let port = 1_000 + chance.below(4) as u16;
            let peer = (client(1 + chance.below(3) as u8), port);
            let all = [Segment::Syn, Segment::SynAck, Segment::Ack, Segment::Ack, Segment::Fin, Segment::Rst];
            let segment = chance.of(&all);
            if chance.once_in(2) {
                let vip = chance.of(&[VIP6, OTHER_VIP6]);
                lab.send_to(
                    0,
                    super::segment(peer, (v6(vip), 80), if chance.once_in(2) { SYN } else { ACK }),
                );
            }
            let server = (rip6(chance.of(&[11, 12, 14])), chance.of(&[8080, 8080, 8081, 5353]));
            let to = asked(&mut lab, worker, server, peer, segment);
            answered += usize::from(matches!(to, Some(To::Client(Replier::Server(_), _))));
            lab.pass_millis(if chance.once_in(100) { 130_000 } else { 1 });
        }
        assert!(answered > 300, "{answered}");
    }
}
