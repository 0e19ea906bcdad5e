//! NAT of IPv6 and marks: clients that a mark holds, marks whose real servers have NAT.

use super::*;

/// A virtual server by NAT at [`VIP6`], to real server 11, one of mark 1 by direct routing, to 13, and one of mark 2 by NAT, to 12.
pub(super) fn marked(marks: &str, of_second: &str) -> Config {
    let mut text = text_of_both("rr", &SERVERS[..1], "");
    text += marks;
    text += "[[virtual_server]]\nname = \"marked\"\nmark = 1\nfamily = \"ipv6\"\n\
             [[virtual_server.real_server]]\naddress = \"2001:db8::13\"\n";
    text += &format!(
        "[[virtual_server]]\nname = \"nat\"\nmark = 2\nfamily = \"ipv6\"\nforwarding = \"nat\"\n{of_second}\n\
         [[virtual_server.real_server]]\naddress = \"2001:db8::12\"\nport = 5353\n"
    );
    for octet in [12, 13] {
        let mac = format!("02:00:00:00:00:{octet:02x}");
        text += &format!("[[neighbor]]\naddress = \"2001:db8::{octet}\"\nmac = \"{mac}\"\n");
    }
    parsed(&text)
}

pub(super) fn mark(number: u8, addresses: &[&str], more: &str) -> String {
    format!("[[mark]]\nmark = {number}\naddresses = {addresses:?}\n{more}\n")
}

/// The network of clients, and a part of it whose addresses have numbers.
const NETWORKS: [&str; 2] = ["2001:db8:7::/64", "2001:db8:7::/120"];

#[test]
fn replies_and_errors_to_clients_that_a_mark_holds_are_no_requests() {
    for network in NETWORKS {
        for more in ["", "ports = [80]"] {
            let marks = mark(1, &[network], more) + &mark(2, &["2001:db8:b::1"], "");
            let mut lab = Lab::new(&marked(&marks, ""), 2);
            (50..55).for_each(|number| _ = lab.send_to(1, request(number, 1_000, SYN)));
            let to_server = lab.send_to(0, request(1, 1_000, SYN)).remove(0);
            assert_eq!(to_server[5], 11);
            for worker in [0, 1] {
                let back = lab.send_to(worker, reply(11, 1, 1_000, SYN | ACK));
                assert_eq!(back.len(), 1, "{network} {more}, worker {worker}");
                assert_eq!(ends(&back[0]), (v6(VIP6), 80, client(1), 1_000));
                assert!(has_right_checksum(&back[0]) && back[0][..6] == CLIENT_MAC.0);
                let told = lab.send_to(worker, error(v6("2001:db8:9::1"), client(1), &to_server[14..]));
                assert_eq!(told.len(), 1, "{network} {more}, worker {worker}");
                assert_eq!((address_at(&told[0], 22), address_at(&told[0], 38)), (v6(VIP6), client(1)));
                let quoted = [&told[0][..14], &told[0][62..]].concat();
                assert_eq!(ends(&quoted), (client(1), 1_000, v6(VIP6), 80));
                assert!(has_right_checksum(&told[0]) && told[0][..6] == CLIENT_MAC.0);
            }
            assert_eq!(lab.directors[0].table.len(), 1, "no reply has opened a connection");
            lab.pass_millis(1);
            lab.assert_counts_equal_a_recount();
            // Of no connection, so it asks for the mark as anybody else, or is a stray one.
            let stray = lab.send(segment((rip6(11), 8080), (client(1), 9), SYN));
            match more {
                "" => assert_eq!(stray[0][5], 13),
                _ => assert_eq!((stray.len(), lab.dropped(DropReason::StrayReply)), (0, 1)),
            }
        }
    }
}

#[test]
fn an_error_about_an_answer_from_any_address_of_a_mark_reaches_the_real_server() {
    let router = v6("2001:db8:9::1");
    for network in ["2001:db8:a::40/124", "2001:db8:a::/116", "2001:db8:a::/64"] {
        let marks = mark(1, &[network], "") + &mark(2, &["2001:db8:b::40/124", "2001:db8:b::1"], "");
        let mut lab = Lab::new(&marked(&marks, ""), 2);
        for (number, vip, octet, port) in [(1, "2001:db8:a::41", 13, 80), (2, "2001:db8:b::4f", 12, 5353)] {
            assert_eq!(lab.send(segment((client(number), 1_000), (v6(vip), 80), SYN))[0][5], octet);
            let answer = segment((v6(vip), 80), (client(number), 1_000), ACK);
            for worker in [0, 1] {
                let sent = lab.send_to(worker, error(router, v6(vip), &answer[14..]));
                assert_eq!(sent.len(), 1, "{network}: about {vip}, worker {worker}");
                assert_eq!((sent[0][5], has_right_checksum(&sent[0])), (octet, true));
                let quoted = [&sent[0][..14], &sent[0][62..]].concat();
                let from = if octet == 12 { rip6(12) } else { v6(vip) };
                assert_eq!(ends(&quoted), (from, port, client(number), 1_000));
            }
        }
        assert_eq!(lab.dropped(DropReason::StrayIcmp), 0);
    }
}

#[test]
fn one_packet_answers_of_a_mark_with_one_address_come_from_there_in_either_family() {
    let datagram = |from: (Ipv6Addr, u16), to: (Ipv6Addr, u16)| {
        let mut bytes = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
        bytes.extend([0, 8, 0, 0]);
        let ends = [from.0.octets(), to.0.octets()].concat();
        let sum = Sum::default().bytes(&ends).long(8).word(17).bytes(&bytes).finish();
        bytes[6..8].copy_from_slice(sum.as_bytes());
        packet6(from.0, to.0, (ipv4::UDP, 64), &bytes)
    };
    let vip = "2001:db8::102";
    for (addresses, comes_back) in [
        (&[vip][..], true),
        // Those of the other family say nothing about it.
        (&[vip, "10.0.0.99", "10.1.0.0/16"], true),
        (&[vip, "2001:db8::103"], false),
        (&["2001:db8::100/126"], false),
    ] {
        let marks = mark(1, &["2001:db8:a::/64"], "") + &mark(2, addresses, "ports = [53]");
        let mut lab = Lab::new(&marked(&marks, "one_packet = true"), 1);
        let there = lab.send(datagram((client(1), 1_000), (v6(vip), 53)));
        assert_eq!(ends(&there[0]), (client(1), 1_000, rip6(12), 5353), "{addresses:?}");
        let back = lab.send(datagram((rip6(12), 5353), (client(1), 1_000)));
        let seen = back.first().map(|frame| (ends(frame), has_right_checksum(frame)));
        let expected = ((v6(vip), 53, client(1), 1_000), true);
        assert_eq!(seen, comes_back.then_some(expected), "{addresses:?}");
        assert_eq!(lab.directors[0].table.len(), 0);
    }
}

#[test]
fn an_answer_of_a_nat_real_server_without_a_record_is_no_request_for_the_mark_of_its_client() {
    let datagram = || {
        let mut bytes = [8080_u16.to_be_bytes(), 1_000_u16.to_be_bytes()].concat();
        bytes.extend([0, 8, 1, 1]);
        packet6(rip6(11), client(1), (ipv4::UDP, 64), &bytes)
    };
    for network in NETWORKS {
        let marks = mark(1, &[network], "") + &mark(2, &["2001:db8:b::1"], "");
        let config = marked(&marks, "");
        let mut lab = Lab::new(&config, 1);
        for segment in [SYN | ACK, ACK] {
            assert!(lab.send(reply(11, 1, 1_000, segment)).is_empty(), "{network}, {segment:#x}");
        }
        assert_eq!((lab.dropped(DropReason::StrayReply), lab.directors[0].table.len()), (2, 0));
        // It is the socket of no virtual server of UDP.
        assert_eq!(lab.send(datagram())[0][5], 13);
        let mut telling = config.clone();
        telling.connections.nat_icmp_send = true;
        lab.reload(&telling);
        let told = lab.send(reply(11, 1, 1_000, SYN | ACK));
        assert_eq!((told.len(), told[0][20], told[0][54], told[0][55]), (1, 58, 1, 4));
        lab.reload(&config);
        for port in 2_000..2_000 + 1_024 {
            lab.send(request(2, port, SYN));
        }
        lab.send(request(1, 1_000, SYN));
        assert_eq!(lab.counters[0].untracked.get(), 2, "one has none for the datagram");
        for segment in [SYN | ACK, ACK] {
            let back = lab.send(reply(11, 1, 1_000, segment));
            assert_eq!(ends(&back[0]), (v6(VIP6), 80, client(1), 1_000));
        }
    }
}
