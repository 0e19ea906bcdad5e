//! First pieces that are not sent on, what is nobody's, and what never becomes whole.

use super::*;

fn lab(method: &str) -> Lab {
    Lab::new(&file(method, &[11], 1500), 1)
}

/// What becomes of a later piece that comes before the first one, and of one behind it.
fn others(lab: &mut Lab, flow: &Flow, protocol: u8, first: Vec<u8>, reason: DropReason) -> Vec<Vec<u8>> {
    let before = lab.dropped(reason);
    assert!(lab.send(raw_piece(flow, (protocol, 21), &[1; 400], (800, false))).is_empty());
    assert_eq!(lab.directors[0].held.waiting(), 1);
    let told = lab.send(first);
    assert!(lab.send(raw_piece(flow, (protocol, 21), &[1; 400], (400, true))).is_empty());
    assert_eq!((lab.directors[0].held.waiting(), lab.settle(2)), (0, vec![]), "{reason:?}");
    // And the first one, if it was not answered.
    assert_eq!(lab.dropped(reason) - before, if told.is_empty() { 3 } else { 2 }, "{reason:?}");
    told
}

#[test]
fn where_the_first_piece_is_refused_the_others_are_with_its_reason() {
    for is_v6 in [false, true] {
        let flow = request(is_v6, 4_000);
        let whole = datagram(&flow, 1_192, 1);
        let first = piece(&flow, 21, &whole, (0, 400));
        let mut expired = first.clone();
        match is_v6 {
            true => expired[21] = 1,
            false => {
                let mut header = Ipv4::read_from_bytes(&expired[14..34]).expect("a header");
                header.ttl = 1;
                header.refresh_checksum();
                expired[14..34].copy_from_slice(header.as_bytes());
            }
        }
        // One that is answered.
        let told = others(&mut lab("dr"), &flow, 17, expired, DropReason::FragmentRefused);
        assert_eq!((told.len(), told[0][if is_v6 { 54 } else { 34 }]), (1, if is_v6 { 3 } else { 11 }));
        // One that can't be read.
        let tiny = raw_piece(&flow, (6, 21), &whole[..16], (0, true));
        assert!(others(&mut lab("dr"), &flow, 6, tiny, DropReason::FragmentTiny).is_empty());
        // A segment of no connection: there is no knowing whether its sum is right.
        let mut stray =
            [&flow.source_port.to_be_bytes()[..], &53u16.to_be_bytes(), &[0, 0, 0, 1, 0, 0, 0, 2, 0x50, ACK]]
                .concat();
        stray.extend([0; 386]);
        let stray = raw_piece(&flow, (6, 21), &stray, (0, true));
        assert!(others(&mut lab("dr"), &flow, 6, stray, DropReason::NotServed).is_empty());
        // There is no real server.
        let mut lab = Lab::new(&file("dr", &[], 1500), 1);
        let told = others(&mut lab, &flow, 17, first, DropReason::FragmentRefused);
        assert_eq!(told.len(), 1, "port unreachable");
    }
}

#[test]
fn a_packet_that_says_it_is_of_the_last_protocol_is_told_that_nobody_speaks_it() {
    let flow = request(false, 4_000);
    let told = lab("dr").send(raw_piece(&flow, (255, 1), &[1; 40], (0, false)));
    assert_eq!((told.len(), told[0][23], told[0][34], told[0][35]), (1, 1, 3, 2));
}

#[test]
fn pieces_that_are_nobodys_take_no_seats() {
    for method in ["dr", "nat"] {
        for is_v6 in [false, true] {
            let mut lab = lab(method);
            let flow = request(is_v6, 4_000);
            let elsewhere = match is_v6 {
                false => "192.0.2.1".parse().expect("an address"),
                true => IpAddr::V6(client(9)),
            };
            let foreign = Flow { destination: elsewhere, ..flow };
            let icmp = if is_v6 { 58 } else { 1 };
            for (flow, protocol) in [(foreign, 17), (flow, icmp), (flow, 50)] {
                for start in [400, 0] {
                    let piece = raw_piece(&flow, (protocol, 5), &[8; 400], (start, true));
                    assert!(lab.send(piece).is_empty(), "{method} {is_v6} {protocol}");
                    assert_eq!(lab.directors[0].held.waiting(), 0, "{method} {is_v6} {protocol}");
                }
            }
            let dropped = [DropReason::Fragment, DropReason::EtherType].map(|reason| lab.dropped(reason));
            assert_eq!(dropped, if is_v6 { [4, 2] } else { [6, 0] }, "{method}");
            // What may be an answer of a real server's waits.
            let answer = reply(is_v6, 4_000);
            assert!(lab.send(raw_piece(&answer, (17, 6), &[8; 400], (400, true))).is_empty());
            assert_eq!(lab.directors[0].held.waiting(), usize::from(method == "nat"), "{is_v6}");
        }
    }
}

#[test]
fn what_does_not_become_whole_is_counted_when_its_time_is_over() {
    for is_v6 in [false, true] {
        let mut lab = lab("dr");
        let flow = request(is_v6, 4_000);
        let whole = datagram(&flow, 1_192, 1);
        for ident in 1..=5 {
            assert_eq!(lab.send(piece(&flow, ident, &whole, (0, 400))).len(), 1);
        }
        assert_eq!(lab.send(piece(&flow, 1, &whole, (400, 1_200))).len(), 1);
        let patience = if is_v6 { 59_970 } else { 29_970 };
        lab.pass_millis(patience);
        lab.settle(20);
        assert_eq!(lab.counters[0].pieces_incomplete.get(), 0);
        lab.pass_millis(20);
        lab.settle(20);
        assert_eq!(lab.counters[0].pieces_incomplete.get(), 4, "{is_v6}");
    }
}

#[test]
fn a_first_piece_that_comes_twice_is_dropped_once_and_takes_nothing_back() {
    for is_v6 in [false, true] {
        let mut lab = lab("dr");
        let flow = request(is_v6, 4_000);
        let whole = datagram(&flow, 1_192, 1);
        let at = |start: usize, end: usize| piece(&flow, 1, &whole, (start, end));
        assert_eq!(lab.send(at(0, 400)).len(), 1);
        assert_eq!(lab.send(at(800, 1_200)).len(), 1);
        assert!(lab.send(at(0, 400)).is_empty());
        assert!(lab.send(at(800, 1_200)).is_empty());
        assert_eq!(lab.dropped(DropReason::FragmentDuplicate), 2);
        assert_eq!(lab.send(at(400, 800)).len(), 1);
        lab.pass_millis(if is_v6 { 61_000 } else { 31_000 });
        lab.settle(20);
        assert_eq!(lab.counters[0].pieces_incomplete.get(), 0, "it was whole");
    }
}
