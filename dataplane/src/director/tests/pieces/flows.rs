//! Which server and which worker the pieces of a flow come to, and what they count for.

use super::*;

#[test]
fn pieces_and_whole_datagrams_of_a_flow_go_to_one_server_whichever_worker_gets_them() {
    for (is_v6, pieces_first) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut lab = Lab::new(&file("dr", &[11, 12], 1500), 2);
        let mut macs = HashSet::new();
        for port in 4_000..4_010 {
            let flow = request(is_v6, port);
            let small = whole_frame(&flow, &datagram(&flow, 20, 1));
            let large = cut(&flow, port, &datagram(&flow, 1_000, 2), 504);
            let mut sent = Vec::new();
            if !pieces_first {
                sent.extend(lab.send_to(0, small.clone()));
            }
            large.into_iter().for_each(|piece| sent.extend(lab.send_to(1, piece)));
            sent.extend(lab.send_to(0, small));
            let to: HashSet<u8> = sent.iter().map(|frame| frame[5]).collect();
            assert_eq!((sent.len(), to.len()), (if pieces_first { 3 } else { 4 }, 1), "{port} {is_v6}");
            macs.extend(to);
        }
        assert_eq!(macs.len(), 2, "both servers have flows");
        lab.assert_counts_equal_a_recount();
    }
}

#[test]
fn whole_datagrams_stay_with_the_server_of_the_pieces_for_as_long_as_either_come() {
    for (is_v6, are_whole) in [(false, true), (false, false), (true, true), (true, false)] {
        let mut lab = Lab::new(&file("dr", &[11, 12], 1500), 2);
        let first = |port: u16| {
            let flow = request(is_v6, port);
            piece(&flow, port, &datagram(&flow, 1_000, 2), (0, 504))
        };
        let small = |port: u16| {
            let flow = request(is_v6, port);
            whole_frame(&flow, &datagram(&flow, 20, 1))
        };
        let to = |sent: Vec<Vec<u8>>| sent.iter().map(|frame| frame[5]).collect::<HashSet<_>>();
        let servers: Vec<_> = (4_000..4_010).map(|port| to(lab.send_to(1, first(port)))).collect();
        for _ in 0..20 {
            lab.pass_millis(100_000);
            for (port, server) in (4_000..).zip(&servers) {
                let sent = if are_whole { lab.send_to(0, small(port)) } else { lab.send_to(1, first(port)) };
                assert_eq!(to(sent), *server, "{is_v6} {are_whole}");
            }
        }
        for (port, server) in (4_000..).zip(&servers) {
            assert_eq!(to(lab.send_to(0, small(port))), *server, "{is_v6} {are_whole}");
        }
    }
}

#[test]
fn only_flows_of_pieces_are_looked_for_with_all_workers_and_for_as_long_as_their_protocol_says() {
    for is_v6 in [false, true] {
        let mut lab = Lab::new(&file("dr", &[11, 12], 1500), 2);
        let flow = request(is_v6, 4_000);
        lab.send_to(1, piece(&flow, 1, &datagram(&flow, 1_000, 2), (0, 504)));
        // Others are with the worker that gets them, whatever another one has.
        for port in 5_000..5_008 {
            let other = request(is_v6, port);
            for worker in [0, 1] {
                assert_eq!(lab.send_to(worker, whole_frame(&other, &datagram(&other, 20, 1))).len(), 1);
            }
        }
        assert_eq!(lab.directors.iter().map(|director| director.table.len()).collect::<Vec<_>>(), [8, 9]);
        assert!(lab.directors[0].shared.displaced.has_any(lab.now));
        lab.pass_millis(301_000);
        assert!(!lab.directors[0].shared.displaced.has_any(lab.now), "of UDP they last 300 seconds");
    }
}

#[test]
fn after_a_start_with_kept_connections_any_flow_may_be_with_another_worker() {
    let mut lab = Lab::new(&file("dr", &[11, 12], 1500), 2);
    let flow = request(false, 4_000);
    lab.send_to(1, piece(&flow, 1, &datagram(&flow, 1_000, 2), (0, 504)));
    // The next process has the tables and not this.
    let displaced = Arc::new(crate::director::displaced::Displaced::default());
    lab.directors.iter_mut().for_each(|director| director.shared.displaced = displaced.clone());
    displaced.suspect_all(lab.now.seconds + 900);
    lab.send_to(0, whole_frame(&flow, &datagram(&flow, 20, 1)));
    assert_eq!(lab.directors.iter().map(|director| director.table.len()).collect::<Vec<_>>(), [0, 1]);
    lab.pass_millis(100_000);
    displaced.suspect_all(0);
    lab.send_to(0, whole_frame(&flow, &datagram(&flow, 20, 1)));
    assert_eq!(lab.directors.iter().map(|director| director.table.len()).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn all_who_wait_are_looked_at_each_millisecond() {
    let mut lab = Lab::new(&file("dr", &[11], 1500), 2);
    let flow = request(false, 4_000);
    let whole = datagram(&flow, 1_000, 2);
    for round in 0..10u16 {
        let idents = round * 250..(round + 1) * 250;
        for ident in idents.clone() {
            assert!(lab.send_to(0, piece(&flow, ident, &whole, (504, 1_008))).is_empty());
        }
        for ident in idents {
            assert_eq!(lab.send_to(1, piece(&flow, ident, &whole, (0, 504))).len(), 1);
        }
        assert_eq!(lab.settle(1).len(), 250);
    }
    assert_eq!((lab.dropped(DropReason::FragmentRoomFull), lab.directors[0].held.waiting()), (0, 0));
}

#[test]
fn pieces_of_answers_count_for_their_real_server() {
    for is_v6 in [false, true] {
        let mut lab = Lab::new(&file("nat", &[11], 1500), 2);
        let mut pieces = 0;
        for flow in [request(is_v6, 4_000), reply(is_v6, 4_000)] {
            for (at, piece) in cut(&flow, 1, &datagram(&flow, 6_000, 1), 1_208).into_iter().enumerate() {
                pieces += 1;
                assert_eq!(lab.send_to(at % 2, piece).len() + lab.settle(1).len(), 1);
            }
        }
        let counted = |count: fn(&crate::snapshot::server::Tally) -> u64| -> u64 {
            lab.snapshot.servers().flat_map(|server| server.tallies.iter()).map(|tally| count(tally)).sum()
        };
        assert_eq!(counted(|tally| tally.in_packets.get()), pieces / 2);
        assert_eq!(counted(|tally| tally.out_packets.get()), pieces / 2);
        assert_eq!(counted(|tally| tally.out_bytes.get()), counted(|tally| tally.in_bytes.get()));
    }
}
