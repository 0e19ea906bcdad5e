//! Control and data connections over time: they end, are edited, and move between workers.

use super::*;
use crate::conn::extra::EXPECTED_SECS;

fn announce(lab: &mut Lab, party: Party, octet: u8) {
    lab.say(&party.client_says(CLIENTS_NEXT, NEXT, "PASV\r\n")).expect("it is passed on");
    let reply = format!("227 (10,0,0,{octet},195,80)\r\n");
    lab.say(&party.server_says(octet, NEXT, CLIENTS_NEXT + 6, &reply)).expect("passed on");
    assert_eq!(lab.found(Helped::Rewritten), 1);
}

/// What the server's next byte is numbered for the client.
fn shift(lab: &mut Lab, party: Party, octet: u8) -> u32 {
    let next = NEXT.wrapping_add(25);
    let got = lab.say(&party.server_says(octet, next, CLIENTS_NEXT, "").with_flags(ACK)).expect("passed on");
    got.sequence.wrapping_sub(next)
}

#[test]
fn an_announcement_is_over_after_its_time() {
    let mut lab = Lab::new(&parsed(&file("")), 1);
    let octet = lab.control(Party::V4);
    announce(&mut lab, Party::V4, octet);
    (0..=EXPECTED_SECS).for_each(|_| lab.pass_millis(1_000));
    assert_eq!(lab.say(&data_syn(Party::V4, 50_000)).map(|said| said.flags), Some(RST | ACK));
}

#[test]
fn a_reply_that_is_cut_otherwise_when_it_is_sent_again_is_the_same() {
    let party = Party::V4;
    let mut lab = Lab::new(&parsed(&file("")), 1);
    let octet = lab.control(party);
    announce(&mut lab, party, octet);
    let reply = format!("227 (10,0,0,{octet},195,80)\r\n");
    for cut in 1..reply.len() {
        let mut got = String::new();
        for (at, part) in [(0, &reply[..cut]), (cut, &reply[cut..])] {
            let said = party.server_says(octet, NEXT.wrapping_add(at as u32), CLIENTS_NEXT + 6, part);
            let heard = lab.say(&said).expect("it is passed on");
            assert_eq!(heard.sequence, NEXT.wrapping_add(got.len() as u32), "cut at {cut}");
            got += &heard.carried;
        }
        assert_eq!(got, "227 (10,0,0,100,195,80)\r\n", "cut at {cut}");
    }
    // Who asks whether the client is there names the byte before the next one.
    let last = NEXT.wrapping_add(24);
    let asked = lab.say(&party.server_says(octet, last, CLIENTS_NEXT + 6, "").with_flags(ACK));
    assert_eq!(asked.expect("it is passed on").sequence, last.wrapping_add(1));
    assert_eq!(shift(&mut lab, party, octet), 1);
}

#[test]
fn a_reply_that_is_sent_again_with_more_behind_it_is_cut_where_its_way_ends() {
    let party = Party::V4;
    let mut lab = Lab::new(&parsed(&file("")), 1);
    let octet = lab.control(party);
    announce(&mut lab, party, octet);
    let reply = format!("227 (10,0,0,{octet},195,80)\r\n");
    let mut say = |at: i32, carried: &str| {
        let said = party.server_says(octet, NEXT.wrapping_add_signed(at), CLIENTS_NEXT + 6, carried);
        lab.say(&said.with_flags(ACK | FIN)).expect("it is passed on")
    };
    // As much as a frame of 1,500 bytes takes.
    let got = say(0, &format!("{reply}{}", "x".repeat(1_460 - reply.len())));
    assert_eq!(got.carried, format!("227 (10,0,0,100,195,80)\r\n{}", "x".repeat(1_435)));
    assert_eq!(got.flags & (ACK | FIN), ACK);
    let rest = say(1_459, "x");
    assert_eq!((rest.sequence, &rest.carried[..]), (NEXT.wrapping_add(1_460), "x"));
    assert_eq!(rest.flags & FIN, FIN);
    // The place that would have to be cut is left out as a whole.
    let before = "y".repeat(1_439);
    let got = say(-1_439, &format!("{before}{}", &reply[..21]));
    assert_eq!((got.sequence, got.carried), (NEXT.wrapping_sub(1_439), before + "227 ("));
    assert_eq!(got.flags & FIN, 0);
}

#[test]
fn what_was_known_of_a_connection_goes_with_it() {
    let party = Party::V4;
    let mut lab = Lab::new(&parsed(&file("")), 1);
    let octet = lab.control(party);
    announce(&mut lab, party, octet);
    assert_eq!(shift(&mut lab, party, octet), 1);
    // By its end, long before another one comes from the same port.
    lab.say(&party.client_says(CLIENTS_NEXT + 6, NEXT, "").with_flags(RST));
    (0..60).for_each(|_| lab.pass_millis(1_000));
    lab.sweep();
    assert_eq!(lab.directors[0].table.len(), 0);
    let octet = lab.control(party);
    assert_eq!(shift(&mut lab, party, octet), 0);
}

#[test]
fn a_port_that_is_used_again_begins_without_a_shift() {
    let party = Party::V4;
    let mut lab = Lab::new(&parsed(&file("")), 1);
    let octet = lab.control(party);
    announce(&mut lab, party, octet);
    lab.say(&party.client_says(CLIENTS_NEXT + 6, NEXT, "").with_flags(RST));
    let octet = lab.control(party);
    assert_eq!(shift(&mut lab, party, octet), 0);
}

#[test]
fn a_syn_within_a_connection_takes_nothing_from_it() {
    let party = Party::V4;
    let mut lab = Lab::new(&parsed(&file("")), 1);
    let octet = lab.control(party);
    announce(&mut lab, party, octet);
    lab.say(&party.client_says(77, 0, "").with_flags(SYN));
    assert_eq!(shift(&mut lab, party, octet), 1);
}

#[test]
fn a_port_that_a_client_announces_to_two_servers_is_one_servers_at_a_time() {
    for (workers, second) in [(1, 0), (2, 0), (2, 1)] {
        let mut lab = Lab::new(&parsed(&file("")), workers);
        let parties = [40_000, 40_001].map(|client_port| Party { client_port, ..Party::V4 });
        let [one, other] = parties.map(|party| {
            let octet = lab.control(party);
            let said = party.client_says(CLIENTS_NEXT, NEXT, "PORT 10,0,0,200,195,80\r\n");
            lab.say(&said).expect("it is passed on");
            octet
        });
        assert_ne!(one, other);
        let from = |octet: u8, flags: u8| Said {
            source: (Party::V4.server(octet), 20),
            destination: (Party::V4.client(), 50_000),
            ..Party::V4.client_says(1, 0, "").with_flags(flags)
        };
        let to = |flags: u8| Said {
            source: (Party::V4.client(), 50_000),
            destination: (Party::V4.vip(), 20),
            ..Party::V4.client_says(1, 0, "").with_flags(flags)
        };
        let server_of = |said: Option<Said>| said.map(|said| said.destination.0);
        assert!(lab.say(&from(one, SYN)).is_some());
        assert_eq!(server_of(lab.say(&to(SYN | ACK))), Some(Party::V4.server(one)));
        // As long as that one goes on, the client could not tell them apart.
        assert_eq!(lab.say_to(second, &from(other, SYN)), None);
        assert_eq!(lab.found(Helped::Taken), 1);
        lab.say(&from(one, ACK | FIN)).expect("it is passed on");
        lab.say(&to(ACK | FIN)).expect("it is passed on");
        lab.say(&from(one, ACK)).expect("it is passed on");
        assert!(lab.say_to(second, &from(other, SYN)).is_some(), "{workers} {second}");
        lab.pass_millis(1);
        assert_eq!(
            server_of(lab.say_to(second, &to(SYN | ACK))),
            Some(Party::V4.server(other)),
            "{workers} {second}"
        );
        lab.assert_counts_equal_a_recount();
    }
}

#[test]
fn a_helper_that_comes_or_goes_leaves_connections_as_they_are() {
    let party = Party::V4;
    let [with, without] = ["", "helper = \"none\"\n"].map(|extra| parsed(&file(extra)));
    for (before, after) in [(&with, &without), (&without, &with)] {
        let mut lab = Lab::new(before, 1);
        let octet = lab.control(party);
        let is_helped = std::ptr::eq(before, &with);
        let mut expected = 0;
        if is_helped {
            announce(&mut lab, party, octet);
            lab.say(&data_syn(party, 50_000)).expect("it is passed on");
            expected = 1;
        }
        lab.reload(after);
        for _ in 0..3 {
            assert_eq!(shift(&mut lab, party, octet), expected, "{is_helped}");
            let said = party.client_says(CLIENTS_NEXT + 6, NEXT.wrapping_add(25 + expected), "");
            let got = lab.say(&said.with_flags(ACK)).expect("it is passed on");
            assert_eq!(got.acknowledged, NEXT.wrapping_add(25));
        }
        if is_helped {
            let got = lab.say(&data_syn(party, 50_000).with_flags(ACK)).expect("it goes on");
            assert_eq!(got.destination, (party.server(octet), 50_000));
        } else {
            // One from before is not looked after; the next one is.
            let party = Party { client_port: 40_009, ..party };
            let octet = lab.control(party);
            announce(&mut lab, party, octet);
            lab.say(&data_syn(party, 50_000)).expect("it is passed on");
        }
        lab.assert_counts_equal_a_recount();
    }
}

#[test]
fn a_real_server_that_is_gone_takes_its_connections_along() {
    let party = Party::V4;
    let text = file("");
    let mut lab = Lab::new(&parsed(&text), 1);
    let octet = lab.control(party);
    announce(&mut lab, party, octet);
    let server = format!("[[virtual_server.real_server]]\naddress = \"10.0.0.{octet}\"\nport = 2121\n");
    lab.reload(&parsed(&text.replace(&server, "")));
    assert_eq!(lab.say(&data_syn(party, 50_000)).map(|said| said.flags), Some(RST | ACK));
    lab.assert_counts_equal_a_recount();
}

#[test]
fn with_direct_routing_nothing_is_read() {
    let text = file("").replace("\"nat\"", "\"dr\"").replace("port = 2121", "port = 21");
    let mut lab = Lab::new(&parsed(&text), 1);
    let party = Party::V4;
    lab.send(party.client_says(CLIENTS_FIRST, 0, "").with_flags(SYN).frame());
    let frame = party.client_says(CLIENTS_NEXT, NEXT, "PORT 10,0,0,200,195,80\r\n").frame();
    assert_eq!(lab.send(frame).len(), 1);
    assert_eq!(lab.found(Helped::Active), 0);
    assert!(lab.directors[0].table.iter().all(|record| !record.is_helped()));
}

#[test]
fn another_port_is_ftps_if_the_file_says_so() {
    let party = Party::V4;
    for (extra, expected) in [("", 0), ("helper = \"ftp\"\n", 1)] {
        let text = file(extra).replace("port = 21\n", "port = 2021\n");
        let mut lab = Lab::new(&parsed(&text), 1);
        let to = |said: Said| Said { destination: (party.vip(), 2_021), ..said };
        lab.say(&to(party.client_says(CLIENTS_FIRST, 0, "").with_flags(SYN))).expect("it opens a connection");
        lab.say(&to(party.client_says(CLIENTS_NEXT, NEXT, "PORT 10,0,0,200,195,80\r\n"))).expect("passed on");
        assert_eq!(lab.found(Helped::Active), expected);
    }
}

#[test]
fn control_connections_move_between_workers_as_others_do() {
    let party = Party::V4;
    let mut lab = Lab::new(&parsed(&file("")), 2);
    lab.directors.iter_mut().for_each(|director| director.shared.flows_move = true);
    let octet = lab.control(party);
    let said = party.client_says(CLIENTS_NEXT, NEXT, "PASV\r\n");
    assert_eq!(lab.say_to(1, &said).map(|it| it.destination), Some((party.server(octet), 2_121)));
    let reply = format!("227 (10,0,0,{octet},195,80)\r\n");
    let got = lab.say_to(1, &party.server_says(octet, NEXT, CLIENTS_NEXT + 6, &reply)).expect("passed on");
    assert_eq!(got.carried, "227 (10,0,0,100,195,80)\r\n");
    lab.say_to(0, &data_syn(party, 50_000)).expect("it is passed on");
    for worker in [1, 0] {
        let got = lab.say_to(worker, &data_syn(party, 50_000).with_flags(ACK)).expect("it goes on");
        assert_eq!(got.destination, (party.server(octet), 50_000));
    }
}

#[test]
fn by_direct_routing_and_tunnel_data_connections_follow_by_persistence_of_port_0() {
    for method in ["dr", "tun"] {
        let text = file("persistence_timeout = 300\n").replace("\"nat\"", &format!("\"{method}\""));
        let text = text.replace("port = 21\n", "port = 0\n").replace("port = 2121\n", "");
        let party = Party::V4;
        let to_port = |port: u16, client_port: u16, flags: u8| {
            Said {
                source: (party.client(), client_port),
                destination: (party.vip(), port),
                ..party.client_says(1, 0, "")
            }
            .with_flags(flags)
            .frame()
        };
        let mut lab = Lab::new(&parsed(&text), 1);
        let mac = |sent: Vec<Vec<u8>>| sent.first().map(|frame| frame[5]);
        let octet = mac(lab.send(to_port(21, 40_000, SYN)));
        assert!(octet.is_some(), "{method}");
        // Passive connections of the client's, and what it answers to active ones, whose SYN nobody here has seen.
        for (port, client_port, flags) in
            [(50_000, 40_001, SYN), (50_001, 40_002, SYN), (20, 40_003, SYN | ACK)]
        {
            assert_eq!(mac(lab.send(to_port(port, client_port, flags))), octet, "{method} {port}");
            assert_eq!(mac(lab.send(to_port(port, client_port, ACK))), octet, "{method} {port}");
        }
        lab.assert_counts_equal_a_recount();
    }
}
