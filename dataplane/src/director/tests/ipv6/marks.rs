//! Marks of IPv6 networks: their addresses, ports, protocols and clients.

use super::*;

const WIDE: &str = "2001:db8:9::/64";
const SMALL: &str = "2001:db8:a::40/124";

/// A virtual server of mark 1 with real servers 11 and 12, and one of mark 2 with 13; `marks` are the tables that give them.
fn marked(marks: &str, of_first: &str) -> Config {
    let mut text = format!(
        "[connections]\ncapacity = 1024\n\
         [[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\", \"{OWN6}/64\"]\n{marks}\n"
    );
    for (mark, servers, more) in [(1, &SERVERS[..2], of_first), (2, &SERVERS[2..], "")] {
        text += &format!(
            "[[virtual_server]]\nname = \"vs{mark}\"\nmark = {mark}\nfamily = \"ipv6\"\nscheduler = \"rr\"\n{more}\n"
        );
        for octet in servers {
            text += &format!("[[virtual_server.real_server]]\naddress = \"2001:db8::{octet}\"\n");
        }
    }
    for octet in SERVERS {
        let mac = format!("02:00:00:00:00:{octet:02x}");
        text += &format!("[[neighbor]]\naddress = \"2001:db8::{octet}\"\nmac = \"{mac}\"\n");
    }
    weir_config::parse("test", &text).unwrap_or_else(|report| panic!("{report}")).config
}

fn mark(number: u8, addresses: &[&str], more: &str) -> String {
    format!("[[mark]]\nmark = {number}\naddresses = {addresses:?}\n{more}\n")
}

/// What became of a client's segment to an address and port.
fn send_to(lab: &mut Lab, number: u8, vip: (&str, u16), segment: u8) -> Option<(u8, u8)> {
    let mut payload = tcp(1_000, segment, 0);
    payload[2..4].copy_from_slice(&vip.1.to_be_bytes());
    fate(&lab.send(packet6(client(number), v6(vip.0), (ipv4::TCP, 64), &payload)))
}

#[test]
fn a_mark_takes_turns_over_all_its_addresses_and_ports() {
    let marks = mark(1, &[VIP6, WIDE, SMALL], "") + &mark(2, &["2001:db8:b::/48"], "");
    let mut lab = Lab::new(&marked(&marks, ""), 1);
    let whom = [(VIP6, 80), ("2001:db8:9::1", 80), ("2001:db8:a::4f", 443), ("2001:db8:9::ffff:1", 9)];
    for segment in [SYN, ACK] {
        let picks = whom.map(|vip| send_to(&mut lab, 1, vip, segment));
        assert_eq!(picks, [12, 11, 12, 11].map(|octet| Some((octet, 0))));
    }
    assert_eq!(lab.directors[0].table.len(), 4, "each has a connection of its own");
    assert_eq!(send_to(&mut lab, 1, ("2001:db8:b:1::7", 80), SYN), Some((13, 0)));
    for nobodys in ["2001:db8:a::50", "2001:db8:9:1::1"] {
        assert_eq!(send_to(&mut lab, 1, (nobodys, 80), SYN), None, "{nobodys}");
    }
    assert_eq!(lab.dropped(DropReason::EtherType), 2);
    assert_eq!(send_to(&mut lab, 1, (OWN6, 80), SYN), Some((0, RST | ACK)));
    lab.assert_counts_equal_a_recount();
}

#[test]
fn a_mark_of_everything_leaves_the_link_and_own_addresses_alone() {
    let marks = mark(1, &["::/0"], "") + &mark(2, &["2001:db8:b::/48"], "");
    let mut lab = Lab::new(&marked(&marks, ""), 1);
    let answer = lab.send(who_has(OWN6));
    assert_eq!((answer.len(), answer[0][54], &answer[0][80..86]), (1, 136, &OWN.0[..]));
    let ping = icmp6(OWN6, (128, 64), &[1, 2, 3, 4, 5, 6]);
    assert_eq!(lab.send(ping).first().map(|frame| frame[54]), Some(129));
    assert_eq!(send_to(&mut lab, 1, (OWN6, 80), SYN), Some((0, RST | ACK)));
    for nobodys in ["fe80::1", "ff02::5", "ff0e::1", "::1", "::"] {
        assert_eq!(send_to(&mut lab, 1, (nobodys, 80), SYN), None, "{nobodys}");
    }
    assert_eq!((lab.dropped(DropReason::EtherType), lab.directors[0].table.len()), (5, 0));
    assert_eq!(send_to(&mut lab, 1, ("2001:db8:9::1", 80), SYN), Some((12, 0)));
}

#[test]
fn the_first_mark_that_matches_wins_by_port_protocol_and_client() {
    let marks = mark(2, &[WIDE], "sources = [\"2001:db8:7::2\"]")
        + &mark(2, &[VIP6, WIDE], "ports = [\"8000-8999\"]")
        + &mark(1, &[VIP6, WIDE], "ports = [80]\nprotocols = [\"tcp\"]");
    let mut lab = Lab::new(&marked(&marks, ""), 1);
    let host = "2001:db8:9::1";
    for (number, vip, expected) in [
        (1, (host, 80), Some((12, 0))),
        (2, (host, 80), Some((13, 0))),
        (2, (host, 9), Some((13, 0))),
        (2, (VIP6, 80), Some((11, 0))),
        (1, (VIP6, 8_500), Some((13, 0))),
        // Of a VIP weir answers for the rest, as a host does; of a network it does not.
        (1, (VIP6, 81), Some((0, RST | ACK))),
        (1, (host, 81), None),
    ] {
        assert_eq!(send_to(&mut lab, number, vip, SYN), expected, "client {number} to {vip:?}");
    }
    let datagram = [&1_000_u16.to_be_bytes()[..], &80_u16.to_be_bytes(), &[0, 8, 0, 0]].concat();
    let datagram = packet6(client(1), v6(host), (ipv4::UDP, 64), &datagram);
    assert!(lab.send(datagram).is_empty(), "another protocol");
}

#[test]
fn connections_go_on_when_their_address_loses_the_mark() {
    let marks = mark(1, &[VIP6], "") + &mark(2, &[WIDE], "");
    let mut lab = Lab::new(&marked(&marks, ""), 1);
    let server = send_to(&mut lab, 1, (VIP6, 443), SYN);
    lab.reload(&marked(&(mark(1, &[VIP6], "ports = [80]") + &mark(2, &[WIDE], "")), ""));
    assert_eq!(send_to(&mut lab, 1, (VIP6, 443), ACK), server);
    assert_eq!(send_to(&mut lab, 2, (VIP6, 443), SYN), Some((0, RST | ACK)));
    lab.assert_counts_equal_a_recount();
}

#[test]
fn persistence_holds_over_all_addresses_and_ports_of_a_mark() {
    let marks = mark(1, &[VIP6, WIDE], "") + &mark(2, &[SMALL], "");
    let lasting = "persistence_timeout = 60\npersistence_netmask = 127";
    let mut lab = Lab::new(&marked(&marks, lasting), 1);
    for vip in [(VIP6, 80), ("2001:db8:9::1", 443), ("2001:db8:9::2", 8_080)] {
        assert_eq!(send_to(&mut lab, 2, vip, SYN), Some((12, 0)));
    }
    assert_eq!(send_to(&mut lab, 3, (VIP6, 80), SYN), Some((12, 0)), "of the same network");
    assert_eq!(send_to(&mut lab, 4, (VIP6, 80), SYN), Some((11, 0)));
    assert_eq!(lab.hanging(), [1, 4]);
    lab.assert_that_all_ends();
}

#[test]
fn an_error_is_about_the_address_that_it_quotes_and_no_other_of_the_network() {
    let marks = mark(1, &[WIDE], "") + &mark(2, &[SMALL], "");
    let mut lab = Lab::new(&marked(&marks, ""), 1);
    let (host, other) = ("2001:db8:9::1", "2001:db8:9::2");
    let server = send_to(&mut lab, 1, (host, 80), SYN);
    let error = |to: &str, about: &str| {
        let mut answer = tcp(80, ACK, 0);
        answer[2..4].copy_from_slice(&1_000_u16.to_be_bytes());
        let quote = packet6(v6(about), client(1), (ipv4::TCP, 60), &answer)[14..].to_vec();
        let mut message = [&[2, 0, 0, 0, 0, 0, 5, 0][..], &quote].concat();
        let ends = [v6("2001:db8:99::1").octets(), v6(to).octets()].concat();
        let sum = Sum::default().bytes(&ends).long(message.len() as u32).word(58).bytes(&message).finish();
        message[2..4].copy_from_slice(sum.as_bytes());
        packet6(v6("2001:db8:99::1"), v6(to), (58, 64), &message)
    };
    assert_eq!(fate(&lab.send(error(host, host))), server);
    for (to, about) in [(host, other), (other, host), (other, other)] {
        assert!(lab.send(error(to, about)).is_empty(), "to {to} about {about}");
    }
    assert_eq!(lab.dropped(DropReason::StrayIcmp), 3);
}

#[test]
fn connections_go_on_when_their_address_gets_a_number_of_its_own() {
    let host = "2001:db8:9::1";
    let plain = format!(
        "[[virtual_server]]\nname = \"plain\"\naddress = \"{host}\"\nport = 80\nprotocol = \"tcp\"\n\
         [[virtual_server.real_server]]\naddress = \"2001:db8::13\"\n"
    );
    let others = mark(2, &[SMALL], "");
    for marks in [
        mark(1, &[WIDE], "") + &plain,
        mark(1, &[host, WIDE], ""),
        mark(1, &["2001:db8:b::/64"], "") + &plain,
    ] {
        let mut lab = Lab::new(&marked(&(mark(1, &[WIDE], "") + &others), ""), 2);
        lab.directors.iter_mut().for_each(|director| director.shared.flows_move = true);
        (50..55).for_each(|number| _ = lab.send_to(1, segment6(number, 2_000, SYN)));
        let server = send_to(&mut lab, 1, (host, 80), SYN);
        assert_eq!(server, Some((12, 0)));
        // Virtual servers that the tables name come after the others.
        let mut config = marked(&(others.clone() + &marks), "");
        config.virtual_servers.sort_by_key(|server| server.name == "plain");
        lab.reload(&config);
        assert!(lab.snapshot.vips.own_number(lab.snapshot.number6(v6(host)).expect("a number")).is_some());
        for _ in 0..2 {
            assert_eq!(send_to(&mut lab, 1, (host, 80), ACK), server, "{marks}");
        }
        let mut answer = tcp(80, ACK, 0);
        answer[2..4].copy_from_slice(&1_000_u16.to_be_bytes());
        let quote = packet6(v6(host), client(1), (ipv4::TCP, 60), &answer)[14..].to_vec();
        let mut message = [&[2, 0, 0, 0, 0, 0, 5, 0][..], &quote].concat();
        let ends = [v6("2001:db8:99::1").octets(), v6(host).octets()].concat();
        let sum = Sum::default().bytes(&ends).long(message.len() as u32).word(58).bytes(&message).finish();
        message[2..4].copy_from_slice(sum.as_bytes());
        let error = packet6(v6("2001:db8:99::1"), v6(host), (58, 64), &message);
        for worker in [0, 1] {
            assert_eq!(fate(&lab.send_to(worker, error.clone())), server, "an error at {worker}");
            let segment = packet6(client(1), v6(host), (ipv4::TCP, 64), &tcp(1_000, ACK, 0));
            assert_eq!(fate(&lab.send_to(worker, segment)), server, "worker {worker}");
        }
        assert_eq!((lab.directors[0].table.len(), lab.directors[1].table.len()), (1, 0));
        lab.pass_millis(1);
        lab.assert_counts_equal_a_recount();
    }
}

#[test]
fn connections_go_on_when_their_address_loses_its_number_to_a_wide_network() {
    let host = "2001:db8:9::1";
    let other = mark(2, &[SMALL], "");
    let mut lab = Lab::new(&marked(&(mark(1, &[host, WIDE], "") + &other), ""), 1);
    let server = send_to(&mut lab, 1, (host, 80), SYN);
    assert_eq!(server, Some((12, 0)));
    for _ in 0..2 {
        lab.reload(&marked(&(mark(1, &[WIDE], "") + &other), ""));
        lab.sweep();
        assert_eq!(send_to(&mut lab, 1, (host, 80), ACK), server);
        assert_eq!(lab.directors[0].table.len(), 1);
    }
    lab.reload(&marked(&(mark(1, &["2001:db8:b::/64"], "") + &other), ""));
    lab.sweep();
    assert!(lab.directors[0].table.is_empty());
    lab.reload(&marked(&(mark(1, &["2001:db8:b::/64"], "") + &other), ""));
    assert_eq!(lab.snapshot.number6(v6(host)), None);
    lab.assert_counts_equal_a_recount();
}
