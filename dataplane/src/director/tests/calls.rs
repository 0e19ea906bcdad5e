//! Calls of SIP: each keeps its real server by its Call-ID, by whatever ways its messages come.

use std::net::IpAddr;

use super::ipv6::{OWN6, VIP6, client, packet6, v6};
use super::*;
use crate::address::Wire4;

/// Seconds that a call is remembered.
const SECONDS: u64 = 100;
/// `[[virtual_server]]` keys of what is usual.
const EACH: &str = "one_packet = true\npersistence_netmask = 0\n";

/// A virtual server of each family that keeps calls together, `keys` among its keys.
pub(super) fn file(method: &str, keys: &str) -> Config {
    let mut text = format!(
        "[connections]\ncapacity = 1024\n\
         [[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\", \"{OWN6}/64\"]\n\
         [[route]]\ndestination = \"0.0.0.0/0\"\ngateway = \"10.0.0.200\"\n\
         [[route]]\ndestination = \"::/0\"\ngateway = \"2001:db8::200\"\n\
         [[neighbor]]\naddress = \"10.0.0.200\"\nmac = \"02:00:00:00:00:cc\"\n\
         [[neighbor]]\naddress = \"2001:db8::200\"\nmac = \"02:00:00:00:00:cc\"\n"
    );
    let port = if method == "nat" { 5070 } else { 5060 };
    for (address, server) in [("10.0.0.100", "10.0.0."), (VIP6, "2001:db8::")] {
        text += &format!(
            "[[virtual_server]]\nname = \"{address}\"\naddress = \"{address}\"\nport = 5060\nprotocol = \"udp\"\n\
             scheduler = \"rr\"\nforwarding = \"{method}\"\npersistence_timeout = {SECONDS}\n\
             persistence_engine = \"sip\"\n{keys}"
        );
        for octet in [11, 12] {
            text +=
                &format!("[[virtual_server.real_server]]\naddress = \"{server}{octet}\"\nport = {port}\n");
        }
        for octet in [11, 12] {
            let mac = format!("02:00:00:00:00:{octet:02x}");
            text += &format!("[[neighbor]]\naddress = \"{server}{octet}\"\nmac = \"{mac}\"\n");
        }
    }
    weir_config::parse("test", &text).unwrap_or_else(|report| panic!("{report}")).config
}

/// A datagram from a client, or from the real server of this last octet to it.
fn datagram(is_v6: bool, (client_number, client_port): (u8, u16), from: Option<u8>, said: &str) -> Vec<u8> {
    let (source, destination) = match from {
        None => (client_port, 5060),
        Some(_) => (5070, client_port),
    };
    let mut bytes = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    bytes.extend((8 + said.len() as u16).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(said.as_bytes());
    if is_v6 {
        let server = |octet: u8| v6(&format!("2001:db8::{octet}"));
        let (source, destination) = match from {
            None => (client(client_number), v6(VIP6)),
            Some(octet) => (server(octet), client(client_number)),
        };
        return packet6(source, destination, (ipv4::UDP, 64), &bytes);
    }
    let client = Addr4::new(10, 0, 7, client_number);
    let (source, destination) = match from {
        None => (client, VIP),
        Some(octet) => (Addr4::new(10, 0, 0, octet), client),
    };
    let mut frame = [OWN.0, CLIENT_MAC.0].concat();
    frame.extend([8, 0]);
    frame.extend(Ipv4::new(ipv4::UDP, source, destination, bytes.len(), 64).as_bytes());
    frame.extend(bytes);
    let (ends, l4) = frame[26..].split_at_mut(8);
    put_checksum(l4, ipv4::UDP, ends);
    frame
}

fn message(call: &str) -> String {
    format!(
        "INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1\r\n\
         Max-Forwards: 70\r\nCall-ID: {call}\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
    )
}

impl Lab {
    /// Where a message of a call goes: the last octet of the real server.
    pub(super) fn call(&mut self, is_v6: bool, from: (u8, u16), call: &str) -> Option<u8> {
        let worker = usize::from(from.1) % self.directors.len();
        let sent = self.send_to(worker, datagram(is_v6, from, None, &message(call)));
        Some(sent.first()?[5])
    }

    /// Where a frame goes whose first buffer has so many bytes.
    fn in_two(&mut self, frame: &[u8], first: usize) -> Option<u8> {
        let mut burst = Burst::new();
        burst.push(HeapFrame::chained(frame, first));
        self.directors[0].process(&mut burst, 0, &self.snapshot, self.now, &mut self.wire);
        let (_, sent) = self.wire.sent.drain(..).next()?;
        sent.whole().get(5).copied()
    }

    pub(super) fn calls(&self) -> usize {
        self.directors[0].templates.listed().count()
    }
}

#[test]
fn a_call_keeps_its_server_over_ports_and_addresses_by_every_method() {
    for method in ["dr", "tun", "nat"] {
        for keys in [EACH, "persistence_netmask = 0\n"] {
            let mut lab = Lab::new(&file(method, keys), 2);
            for is_v6 in [false, true] {
                let first = lab.call(is_v6, (1, 5_060), "one@example.com");
                let second = lab.call(is_v6, (1, 5_061), "two@example.com");
                assert!(
                    first.is_some() && second.is_some() && first != second,
                    "{method} {first:?} {second:?}"
                );
                for (client, port) in [(1, 5_062), (1, 5_063), (2, 5_060), (9, 40_001), (200, 1_025)] {
                    let way = (method, keys, is_v6, client, port);
                    assert_eq!(lab.call(is_v6, (client, port), "one@example.com"), first, "{way:?}");
                    assert_eq!(lab.call(is_v6, (client, port + 100), "two@example.com"), second, "{way:?}");
                }
            }
            assert_eq!(lab.calls(), 4);
            lab.assert_counts_equal_a_recount();
            lab.assert_templates_can_end();
            lab.assert_that_all_ends();
        }
    }
}

#[test]
fn calls_between_the_same_sockets_are_told_apart_if_each_datagram_is_scheduled() {
    let one = ["a@x", "b@x", "c@x", "d@x"];
    for is_v6 in [false, true] {
        let mut lab = Lab::new(&file("nat", EACH), 1);
        let servers = one.map(|call| lab.call(is_v6, (1, 5_060), call));
        assert_eq!((servers[0], servers[1]), (servers[2], servers[3]));
        assert_ne!(servers[0], servers[1]);
        assert_eq!(one.map(|call| lab.call(is_v6, (1, 5_060), call)), servers);
        assert_eq!(lab.directors[0].table.len(), 0);
        // Without it the sockets' connection decides, as in the kernel.
        let mut lab = Lab::new(&file("nat", ""), 1);
        let servers = one.map(|call| lab.call(is_v6, (1, 5_060), call));
        assert!(servers.iter().all(|server| *server == servers[0]), "{servers:?}");
        assert_eq!((lab.directors[0].table.len(), lab.calls()), (1, 1));
    }
}

#[test]
fn the_network_of_the_client_is_part_of_what_a_call_is_told_by() {
    for is_v6 in [false, true] {
        let mut lab = Lab::new(&file("dr", "one_packet = true\n"), 1);
        let first = lab.call(is_v6, (1, 5_060), "a@x");
        assert_eq!(lab.call(is_v6, (1, 5_061), "a@x"), first);
        let other = lab.call(is_v6, (2, 5_060), "a@x");
        assert_ne!(other, first);
        assert_eq!((lab.call(is_v6, (1, 9), "a@x"), lab.call(is_v6, (2, 9), "a@x")), (first, other));
    }
    let mut lab = Lab::new(&file("dr", "one_packet = true\npersistence_netmask = 30\n"), 1);
    let first = lab.call(false, (5, 5_060), "a@x");
    assert_eq!(lab.call(false, (6, 5_060), "a@x"), first);
    assert_ne!(lab.call(false, (8, 5_060), "a@x"), first);
}

#[test]
fn what_is_of_no_call_is_dropped_by_a_name_of_its_own_and_opens_nothing() {
    for keys in [EACH, ""] {
        let mut lab = Lab::new(&file("nat", keys), 1);
        let long = message(&"x".repeat(256));
        let said = ["", "\r\n\r\n", "OPTIONS sip:x SIP/2.0\r\n\r\n", &long, "\0\0\0\0", &"i".repeat(1_200)];
        for is_v6 in [false, true] {
            for said in said {
                assert!(lab.send(datagram(is_v6, (1, 5_060), None, said)).is_empty());
            }
        }
        assert_eq!(lab.dropped(DropReason::NoCallId), 2 * said.len() as u64);
        assert_eq!((lab.directors[0].table.len(), lab.calls()), (0, 0));
    }
}

#[test]
fn a_call_id_that_begins_or_ends_behind_the_first_buffer_is_read() {
    for method in ["dr", "tun", "nat"] {
        let mut lab = Lab::new(&file(method, EACH), 1);
        for is_v6 in [false, true] {
            for call in ["one@example.com", "two@example.com"] {
                let server = lab.call(is_v6, (1, 5_060), call);
                let frame = datagram(is_v6, (2, 5_061), None, &message(call));
                for first in 62..frame.len() {
                    assert_eq!(lab.in_two(&frame, first), server, "{method} {is_v6} {first}");
                }
            }
        }
        assert_eq!((lab.dropped(DropReason::NoCallId), lab.calls()), (0, 4));
    }
}

#[test]
fn what_a_nat_server_says_in_several_buffers_ties_its_call() {
    let mut lab = Lab::new(&file("nat", EACH), 1);
    for (number, octet) in [11, 11, 12, 12].into_iter().enumerate() {
        for is_v6 in [false, true] {
            let call = format!("{number}@inside");
            lab.in_two(&datagram(is_v6, (1, 5_060), Some(octet), &message(&call)), 80);
            assert_eq!(lab.call(is_v6, (2, 5_061), &call), Some(octet));
        }
    }
}

#[test]
fn a_known_flow_goes_on_without_a_look_at_what_it_says() {
    let mut lab = Lab::new(&file("nat", ""), 1);
    for is_v6 in [false, true] {
        let server = lab.call(is_v6, (1, 5_060), "a@x");
        let sent = lab.send(datagram(is_v6, (1, 5_060), None, "\r\n\r\n"));
        assert_eq!(Some(sent[0][5]), server);
    }
    assert_eq!(lab.dropped(DropReason::NoCallId), 0);
}

#[test]
fn answers_of_nat_servers_come_from_the_virtual_server() {
    for keys in [EACH, ""] {
        let mut lab = Lab::new(&file("nat", keys), 2);
        for is_v6 in [false, true] {
            let server = lab.call(is_v6, (1, 5_060), "a@x");
            let sent = lab.send_to(1, datagram(is_v6, (1, 5_060), server, &message("a@x")));
            let port = if is_v6 { 54 } else { 34 };
            assert_eq!(sent[0][port..port + 4], [0x13, 0xc4, 0x13, 0xc4], "{keys}");
            let source: IpAddr = match is_v6 {
                true => <[u8; 16]>::try_from(&sent[0][22..38]).expect("an address").into(),
                false => <[u8; 4]>::try_from(&sent[0][26..30]).expect("an address").into(),
            };
            assert_eq!(source, if is_v6 { v6(VIP6).into() } else { IpAddr::from([10, 0, 0, 100]) });
        }
    }
}

#[test]
fn a_call_that_a_nat_server_begins_is_its() {
    for keys in [EACH, "persistence_netmask = 0\n"] {
        for is_v6 in [false, true] {
            let mut lab = Lab::new(&file("nat", keys), 2);
            // Whoever would be picked.
            for (number, octet) in [11, 11, 12, 12, 11].into_iter().enumerate() {
                let call = message(&format!("{number}@inside"));
                let port = 5_060 + number as u16;
                let sent = lab.send_to(number % 2, datagram(is_v6, (1, port), Some(octet), &call));
                let at = if is_v6 { 54 } else { 34 };
                assert_eq!(sent[0][at..at + 2], [0x13, 0xc4], "{keys}");
                for (client, port) in [(1, port), (2, port + 100), (3, port + 201)] {
                    assert_eq!(lab.call(is_v6, (client, port), &format!("{number}@inside")), Some(octet));
                }
            }
            assert_eq!((lab.calls(), lab.counters[0].untracked.get()), (5, 0));
            // A call that goes on elsewhere is the last one's that says something of it.
            lab.send(datagram(is_v6, (4, 9_000), Some(11), &message("2@inside")));
            assert_eq!(lab.call(is_v6, (5, 9_001), "2@inside"), Some(11));
            // What is of none is what it is without an engine.
            let before = lab.dropped(DropReason::StrayReply);
            let sent = lab.send(datagram(is_v6, (6, 9_002), Some(11), "\r\n\r\n"));
            assert_eq!(sent.len(), usize::from(keys == EACH));
            assert_eq!(lab.dropped(DropReason::StrayReply) - before, u64::from(keys != EACH));
            lab.assert_counts_equal_a_recount();
            lab.assert_that_all_ends();
        }
    }
}

#[test]
fn who_can_be_no_host_begins_no_call_by_what_a_nat_server_sends_there() {
    for keys in [EACH, "persistence_netmask = 0\n"] {
        let mut lab = Lab::new(&file("nat", keys), 1);
        let mut frame = datagram(false, (1, 5_060), Some(11), &message("1@group"));
        let ip = Ipv4::mut_from_bytes(&mut frame[14..34]).expect("20 bytes");
        ip.destination = Wire4::new(Addr4::new(224, 0, 1, 75));
        ip.refresh_checksum();
        assert!(lab.send(frame).is_empty(), "{keys}");
        assert_eq!(lab.calls(), 0);
    }
}

#[test]
fn a_call_is_forgotten_when_its_time_has_passed_since_its_last_datagram() {
    let mut lab = Lab::new(&file("dr", EACH), 1);
    let first = lab.call(false, (1, 1), "a@x");
    for _ in 0..5 {
        lab.pass_millis((SECONDS - 1) * 1_000);
        assert_eq!(lab.call(false, (1, 1), "a@x"), first);
    }
    lab.pass_millis((SECONDS + 1) * 1_000);
    assert_ne!(lab.call(false, (1, 1), "a@x"), first);
    assert_eq!(lab.calls(), 1);
}

#[test]
fn a_flood_of_calls_fills_no_more_than_there_is_room_for_and_takes_no_call_apart() {
    let mut lab = Lab::with_templates(&file("dr", EACH), 1, 28);
    let calls: Vec<String> = (0..400).map(|number| format!("{number}@flood")).collect();
    let first: Vec<_> = calls.iter().map(|call| lab.call(false, (1, 5_060), call)).collect();
    let mut seen = HashSet::new();
    for (call, server) in calls.iter().zip(first) {
        seen.insert(server);
        for client in 2..5 {
            assert_eq!(lab.call(false, (client, 5_060), call), server, "{call}");
        }
    }
    assert_eq!(seen.len(), 2);
    assert!(lab.counters[0].templates_full.get() > 0 && lab.calls() < 100, "{}", lab.calls());
}

#[test]
fn calls_of_a_removed_server_go_elsewhere_and_stay_there() {
    let both = file("dr", EACH);
    let mut lab = Lab::new(&both, 1);
    let first = lab.call(false, (1, 1), "a@x");
    let mut one = both.clone();
    let gone = IpAddr::from([10, 0, 0, first.expect("a server")]);
    one.virtual_servers[0].real_servers.retain(|server| server.address != gone);
    lab.reload(&one);
    let next = lab.call(false, (2, 2), "a@x");
    assert!(next.is_some() && next != first);
    lab.reload(&both);
    assert_eq!(lab.call(false, (3, 3), "a@x"), next);
}

#[test]
fn with_another_engine_templates_mean_something_else_and_all_end() {
    let by_call = file("dr", "");
    let mut by_client = by_call.clone();
    for server in &mut by_client.virtual_servers {
        if let Some(persistence) = &mut server.persistence {
            persistence.engine = None;
        }
    }
    let mut lab = Lab::new(&by_client, 2);
    for (step, config) in [&by_call, &by_client, &by_call, &by_client].into_iter().enumerate() {
        for is_v6 in [false, true] {
            for port in 0..4_u16 {
                let port = 1_000 + port + step as u16 * 10;
                assert!(lab.call(is_v6, (1, port), "a@x").is_some());
            }
        }
        lab.reload(config);
        lab.assert_templates_can_end();
        lab.pass_millis(2_000);
    }
    lab.assert_counts_equal_a_recount();
    lab.assert_that_all_ends();
}

#[test]
fn calls_of_a_mark_are_kept_together_and_its_other_protocols_are_of_none() {
    let text = "[connections]\ncapacity = 1024\n\
         [[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\"]\n\
         [[mark]]\nmark = 7\naddresses = [\"10.0.0.100\"]\nports = [5060, 80]\nprotocols = [\"tcp\", \"udp\"]\n\
         [[virtual_server]]\nname = \"m\"\nmark = 7\nscheduler = \"rr\"\nforwarding = \"dr\"\n\
         persistence_timeout = 100\npersistence_engine = \"sip\"\npersistence_netmask = 0\none_packet = true\n\
         [[virtual_server.real_server]]\naddress = \"10.0.0.11\"\n\
         [[virtual_server.real_server]]\naddress = \"10.0.0.12\"\n\
         [[neighbor]]\naddress = \"10.0.0.11\"\nmac = \"02:00:00:00:00:0b\"\n\
         [[neighbor]]\naddress = \"10.0.0.12\"\nmac = \"02:00:00:00:00:0c\"\n";
    let config = weir_config::parse("test", text).unwrap_or_else(|report| panic!("{report}")).config;
    let mut lab = Lab::new(&config, 1);
    let [first, second] = ["a@x", "b@x"].map(|call| lab.call(false, (1, 1), call));
    assert!(first.is_some() && first != second);
    assert_eq!((lab.call(false, (2, 2), "a@x"), lab.call(false, (2, 2), "b@x")), (first, second));
    assert_eq!(lab.server_of(1_000, SYN), None);
    assert_eq!(lab.dropped(DropReason::NoCallId), 1);
}

#[test]
fn a_message_in_pieces_follows_the_one_with_the_call_id() {
    let piece = |ident: u16, said: &[u8], start: usize, more: u16| {
        let mut header = Ipv4::new(ipv4::UDP, Addr4::new(10, 0, 7, 9), VIP, said.len(), 64);
        header.ident.set(ident);
        header.fragment.set((start as u16 / 8) | more);
        header.refresh_checksum();
        [&OWN.0[..], &CLIENT_MAC.0, &[8, 0], header.as_bytes(), said].concat()
    };
    let mut lab = Lab::new(&file("dr", EACH), 1);
    let servers = ["a@x", "b@x"].map(|call| lab.call(false, (1, 5_060), call));
    for (ident, server) in [(1, servers[0]), (2, servers[1]), (3, servers[0]), (4, servers[1])] {
        let call = if server == servers[0] { "a@x" } else { "b@x" };
        let whole =
            datagram(false, (9, 5_060), None, &(message(call) + &"v=0\r\n".repeat(100)))[34..].to_vec();
        let pieces =
            [piece(ident, &whole[..400], 0, ipv4::MORE_FRAGMENTS), piece(ident, &whole[400..], 400, 0)];
        let sent: Vec<_> = match ident {
            1 | 2 => pieces.into_iter().flat_map(|piece| lab.send(piece)).collect(),
            // The last one first.
            _ => pieces.into_iter().rev().flat_map(|piece| lab.send(piece)).collect(),
        };
        assert_eq!(sent.iter().map(|frame| Some(frame[5])).collect::<Vec<_>>(), [server; 2], "{ident}");
    }
}

#[test]
fn a_quote_opens_no_call() {
    // What comes before says a Call-ID, which is not the quote's.
    let mut config = file("nat", EACH);
    config.connections.schedule_icmp = true;
    let mut lab = Lab::new(&config, 1);
    assert!(lab.call(false, (1, 5_060), "a@x").is_some());
    let quoted = datagram(false, (2, 5_060), Some(100), "");
    let mut icmp = [&[3, 3, 0, 0, 0, 0, 0, 0][..], &quoted[14..42]].concat();
    icmp[8 + 20..8 + 22].copy_from_slice(&5_060_u16.to_be_bytes());
    let sum = crate::wire::checksum::Sum::default().bytes(&icmp).finish();
    icmp[2..4].copy_from_slice(sum.as_bytes());
    let mut frame = [OWN.0, CLIENT_MAC.0].concat();
    frame.extend([8, 0]);
    let header = Ipv4::new(ipv4::ICMP, Addr4::new(10, 0, 7, 2), VIP, icmp.len(), 64);
    frame.extend(header.as_bytes());
    frame.extend(icmp);
    assert!(lab.send(frame).is_empty());
    assert_eq!((lab.dropped(DropReason::StrayIcmp), lab.calls()), (1, 1));
}
