//! IPv6 virtual servers by NAT.

mod crowded;
mod explained;
mod marks;

use std::net::Ipv6Addr;

use super::ipv6::{OWN6, VIP6, client, has_right_checksum, packet6, v6};
use super::*;
use crate::wire::checksum::Sum;

const SERVERS: [u8; 2] = [11, 12];
const OTHER_VIP6: &str = "2001:db8::101";

/// A virtual server of each family with the same real servers, as far as their last octets go, at port 8080; a gateway towards
/// clients.
pub(super) fn both(scheduler: &str, servers: &[u8], extra: &str) -> Config {
    parsed(&text_of_both(scheduler, servers, extra))
}

fn parsed(text: &str) -> Config {
    weir_config::parse("test", text).unwrap_or_else(|report| panic!("{report}")).config
}

fn text_of_both(scheduler: &str, servers: &[u8], extra: &str) -> String {
    let mut text = format!(
        "[connections]\ncapacity = 1024\n{extra}\n\
         [[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\", \"{OWN6}/64\"]\n\
         [[route]]\ndestination = \"0.0.0.0/0\"\ngateway = \"10.0.0.254\"\n\
         [[route]]\ndestination = \"::/0\"\ngateway = \"2001:db8::fe\"\n"
    );
    for gateway in ["10.0.0.254", "2001:db8::fe"] {
        text += &format!("[[neighbor]]\naddress = \"{gateway}\"\nmac = \"02:00:00:00:00:cc\"\n");
    }
    for (address, server) in [("10.0.0.100", "10.0.0."), (VIP6, "2001:db8::")] {
        for octet in servers {
            let mac = format!("02:00:00:00:00:{octet:02x}");
            text += &format!("[[neighbor]]\naddress = \"{server}{octet}\"\nmac = \"{mac}\"\n");
        }
        text += &virtual_server(address, (server, servers), (scheduler, 8080));
    }
    text
}

fn virtual_server(
    address: &str,
    (server, octets): (&str, &[u8]),
    (scheduler, server_port): (&str, u16),
) -> String {
    let mut text = format!(
        "[[virtual_server]]\nname = \"{address}\"\naddress = \"{address}\"\nport = 80\nprotocol = \"tcp\"\n\
         scheduler = \"{scheduler}\"\nforwarding = \"nat\"\n"
    );
    for octet in octets {
        text +=
            &format!("[[virtual_server.real_server]]\naddress = \"{server}{octet}\"\nport = {server_port}\n");
    }
    text
}

/// The configuration with a second IPv6 virtual server that has the same real servers at `server_port`.
fn with_another(server_port: u16) -> Config {
    let other = virtual_server(OTHER_VIP6, ("2001:db8::", &SERVERS), ("rr", server_port));
    parsed(&(text_of_both("rr", &SERVERS, "") + &other))
}

fn rip6(octet: u8) -> Ipv6Addr {
    v6(&format!("2001:db8::{octet}"))
}

/// A TCP segment with its checksum, between these.
pub(super) fn segment(
    (source, source_port): (Ipv6Addr, u16),
    (destination, port): (Ipv6Addr, u16),
    flags: u8,
) -> Vec<u8> {
    let mut bytes = [source_port.to_be_bytes(), port.to_be_bytes()].concat();
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 1, 0, 0, 0, 0, 0]);
    let ends = [source.octets(), destination.octets()].concat();
    let sum = Sum::default().bytes(&ends).long(20).word(6).bytes(&bytes).finish();
    bytes[16..18].copy_from_slice(sum.as_bytes());
    packet6(source, destination, (ipv4::TCP, 64), &bytes)
}

fn request(number: u8, port: u16, flags: u8) -> Vec<u8> {
    segment((client(number), port), (v6(VIP6), 80), flags)
}

fn reply(octet: u8, number: u8, port: u16, flags: u8) -> Vec<u8> {
    segment((rip6(octet), 8080), (client(number), port), flags)
}

fn address_at(frame: &[u8], at: usize) -> Ipv6Addr {
    Ipv6Addr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).expect("16 bytes"))
}

/// Source, source port, destination, destination port.
fn ends(frame: &[u8]) -> (Ipv6Addr, u16, Ipv6Addr, u16) {
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    (address_at(frame, 22), port(54), address_at(frame, 38), port(56))
}

/// What became of a packet: the last octet of the MAC that it goes to, and the transport's source port and flags.
fn fate(sent: &[Vec<u8>]) -> Option<(u8, u16, u8)> {
    let frame = sent.first()?;
    let l4 = if frame[12] == 0x86 { 54 } else { 34 };
    let protocol = if frame[12] == 0x86 { frame[20] } else { frame[23] };
    let is_tcp = protocol == ipv4::TCP;
    Some(match is_tcp {
        true => (frame[5], u16::from_be_bytes([frame[l4], frame[l4 + 1]]), frame[l4 + 13]),
        false => (frame[5], 0, 0),
    })
}

fn states(lab: &Lab) -> Vec<(u8, u16)> {
    let records = lab.directors.iter().flat_map(|director| director.table.iter());
    let mut states: Vec<_> = records.map(|record| (record.state().0, record.client_port())).collect();
    states.sort_unstable();
    states
}

#[test]
fn both_families_translate_follow_and_count_by_one_rule() {
    const FLAGS: [u8; 6] = [SYN, ACK, FIN | ACK, RST, SYN | ACK, ACK | 8];
    let configs = ["rr", "wlc"].map(|scheduler| both(scheduler, &SERVERS, ""));
    let without = ["rr", "wlc"].map(|scheduler| both(scheduler, &SERVERS[..1], "expire_nodest_conn = true"));
    bolero::check!().with_iterations(120).with_type::<(bool, Vec<(u8, u8, u8, u8)>)>().for_each(
        |(which, steps)| {
            let config = &configs[usize::from(*which)];
            let (mut four, mut six) = (Lab::new(config, 2), Lab::new(config, 2));
            for &(number, port, flags, what) in steps.iter().take(40) {
                let (number, port) = (number % 3 + 1, 1_000 + u16::from(port % 4));
                let (flags, worker) = (FLAGS[usize::from(flags) % FLAGS.len()], usize::from(what / 16 % 2));
                let octet = SERVERS[usize::from(what) % 2];
                match what % 16 {
                    0..=7 => {
                        let client4 = (Addr4::new(10, 0, 7, number), port);
                        let seen = [
                            four.send_to(0, frame(OWN, client4, (VIP, 80), flags)),
                            six.send_to(0, request(number, port, flags)),
                        ];
                        assert_eq!(fate(&seen[0]), fate(&seen[1]), "request of {number}: {flags:#x}");
                    }
                    8..=13 => {
                        let server4 = (Addr4::new(10, 0, 0, octet), 8080);
                        let client4 = (Addr4::new(10, 0, 7, number), port);
                        let seen = [
                            four.send_to(worker, frame(OWN, server4, client4, flags)),
                            six.send_to(worker, reply(octet, number, port, flags)),
                        ];
                        assert_eq!(fate(&seen[0]), fate(&seen[1]), "reply of {octet}: {flags:#x}");
                    }
                    14 => _ = [&mut four, &mut six].map(|lab| lab.reload(&without[usize::from(*which)])),
                    _ => _ = [&mut four, &mut six].map(|lab| lab.reload(config)),
                }
                for lab in [&mut four, &mut six] {
                    lab.now.seconds += if what > 250 { 70 } else { 0 };
                    lab.now.millis += 1;
                    lab.keep_up();
                    // Each family's connections lie elsewhere: what ends by the sweep is compared after a whole round, and seconds pass
                    // before one alone.
                    if what > 250 || what % 16 == 14 {
                        lab.sweep_within_a_second();
                    }
                }
                assert_eq!(states(&four), states(&six));
                let kept = [&four, &six].map(|lab| {
                    let dropped = DropReason::ALL.iter().map(|reason| lab.dropped(*reason)).sum::<u64>();
                    let traffic = lab.snapshot.servers().filter(|it| it.is_present).map(|it| {
                        let traffic = it.live.traffic();
                        (it.port, traffic.in_packets, traffic.out_packets, traffic.connections)
                    });
                    let mut traffic: Vec<_> = traffic.collect();
                    traffic.sort_unstable();
                    (dropped, traffic)
                });
                assert_eq!(kept[0], kept[1]);
            }
            four.assert_counts_equal_a_recount();
            six.assert_counts_equal_a_recount();
        },
    );
}

#[test]
fn what_another_worker_saw_keeps_a_connection_from_the_next_sweep() {
    let config = both("rr", &SERVERS[..1], "");
    // Wherever the sweep stands.
    for step in 0..15 {
        let mut lab = Lab::new(&config, 2);
        (0..step).for_each(|_| lab.pass_millis(134));
        // An inbox takes in that many messages with one call.
        for number in 1..=8 {
            let (client4, server4) =
                ((Addr4::new(10, 0, 7, number), 1_000), (Addr4::new(10, 0, 0, 11), 8080));
            lab.send_to(0, frame(OWN, client4, (VIP, 80), SYN));
            lab.send_to(0, request(number, 1_000, SYN));
            lab.send_to(1, frame(OWN, server4, client4, ACK));
            lab.send_to(1, reply(11, number, 1_000, ACK));
        }
        lab.pass_millis(70_000);
        lab.sweep();
        assert_eq!(states(&lab), [(1, 1_000); 16]);
    }
}

#[test]
fn replies_come_back_as_the_virtual_server_on_any_worker_whatever_numbers_clients_have() {
    let mut lab = Lab::new(&both("rr", &SERVERS, ""), 2);
    // Each worker gives its numbers to other clients.
    (50..60).for_each(|number| _ = lab.send_to(1, request(number, 1_000, SYN)));
    for number in 1..=9 {
        let sent = lab.send_to(0, request(number, 1_000, SYN));
        let (_, port, server, server_port) = ends(&sent[0]);
        assert!(has_right_checksum(&sent[0]) && sent[0][21] == 63);
        assert_eq!((port, server_port), (1_000, 8080));
        let octet = sent[0][5];
        assert_eq!(server, rip6(octet));
        for worker in [0, 1] {
            let sent = lab.send_to(worker, reply(octet, number, 1_000, SYN | ACK));
            assert_eq!(ends(&sent[0]), (v6(VIP6), 80, client(number), 1_000), "by worker {worker}");
            assert!(has_right_checksum(&sent[0]) && sent[0][..6] == CLIENT_MAC.0 && sent[0][21] == 63);
        }
        // Of the other real server there is no such connection.
        let other = SERVERS.into_iter().find(|it| *it != octet).expect("another one");
        assert!(lab.send_to(0, reply(other, number, 1_000, ACK)).is_empty());
    }
    lab.send_to(1, reply(12, 1, 1_000, RST));
    lab.send_to(1, reply(11, 1, 1_000, RST));
    lab.pass_millis(1);
    let records = lab.directors[0].table.iter();
    let closed = records.filter(|record| record.state() == crate::conn::state::tcp::CLOSE).count();
    assert_eq!(closed, 1, "a reset by way of the other worker moves the connection");
    assert_eq!(lab.directors[1].table.len(), 10);
    assert_eq!(lab.dropped(DropReason::StrayReply), 10);
    lab.assert_counts_equal_a_recount();
}

#[test]
fn a_reply_to_one_port_of_two_virtual_servers_is_of_the_connection_that_began_last() {
    let other = |flags| segment((client(1), 1_000), (v6(OTHER_VIP6), 80), flags);
    let of = |lab: &mut Lab, octet: u8, port: u16| {
        let sent = lab.send(segment((rip6(octet), port), (client(1), 1_000), ACK));
        sent.first().map(|frame| ends(frame).0)
    };
    // Real servers that share a socket.
    let mut lab = Lab::new(&with_another(8080), 1);
    let first = lab.send(request(1, 1_000, SYN))[0][5];
    assert_eq!(lab.send(other(SYN))[0][5], first);
    assert_eq!(of(&mut lab, first, 8080), Some(v6(OTHER_VIP6)));
    // The second pick of each is the other real server's: nothing is shared then.
    lab.send(other(ACK));
    lab.send(other(RST));
    assert_eq!(lab.send(other(SYN))[0][5], if first == 11 { 12 } else { 11 });
    assert_eq!(of(&mut lab, first, 8080), Some(v6(VIP6)));
    // Each has a port of its own there.
    let mut lab = Lab::new(&with_another(8081), 1);
    let first = lab.send(request(1, 1_000, SYN))[0][5];
    let second = lab.send(other(SYN))[0][5];
    assert_eq!(
        (of(&mut lab, first, 8080), of(&mut lab, second, 8081)),
        (Some(v6(VIP6)), Some(v6(OTHER_VIP6)))
    );
}

#[test]
fn flows_without_a_record_come_back_too() {
    let mut lab = Lab::new(&both("rr", &SERVERS, ""), 2);
    for port in 1_000..1_000 + 1_024_u16 {
        assert!(!lab.send(request((port % 200) as u8 + 1, port, SYN)).is_empty());
    }
    assert_eq!(lab.directors[0].table.len(), 1_024);
    for number in 1..=40 {
        let octet = lab.send(request(number, 9_000, SYN))[0][5];
        assert_eq!(lab.send(request(number, 9_000, ACK))[0][5], octet);
        for worker in [0, 1] {
            let back = lab.send_to(worker, reply(octet, number, 9_000, ACK));
            assert_eq!(ends(&back[0]), (v6(VIP6), 80, client(number), 9_000));
        }
    }
    assert_eq!(lab.counters.iter().map(|counters| counters.untracked.get()).sum::<u64>(), 160);
    lab.assert_counts_equal_a_recount();
}

#[test]
fn a_port_with_too_many_connections_gets_its_answers_from_all_of_them() {
    let mut config = both("rr", &SERVERS[..1], "");
    let one = config.virtual_servers[1].clone();
    for number in 0..80 {
        let mut more = one.clone();
        more.address = v6(&format!("2001:db8::2:{number}")).into();
        more.name = format!("more{number}");
        more.real_servers[0].port = 9_000 + number;
        config.virtual_servers.push(more);
    }
    let mut lab = Lab::new(&config, 2);
    for number in 0..80_u16 {
        let vip = v6(&format!("2001:db8::2:{number}"));
        assert_eq!(lab.send(segment((client(1), 1_000), (vip, 80), SYN)).len(), 1);
        for worker in [0, 1] {
            let back = lab.send_to(worker, segment((rip6(11), 9_000 + number), (client(1), 1_000), ACK));
            assert_eq!(
                ends(&back[0]),
                (vip, 80, client(1), 1_000),
                "virtual server {number}, worker {worker}"
            );
        }
    }
    assert!(lab.directors[0].table.len() < 80, "some found no room");
}

/// An ICMPv6 error from `source` about what `quote` begins with.
fn error(source: Ipv6Addr, destination: Ipv6Addr, quote: &[u8]) -> Vec<u8> {
    let mut message = [&[2, 0, 0, 0, 0, 0, 5, 0][..], quote].concat();
    let ends = [source.octets(), destination.octets()].concat();
    let sum = Sum::default().bytes(&ends).long(message.len() as u32).word(58).bytes(&message).finish();
    message[2..4].copy_from_slice(sum.as_bytes());
    packet6(source, destination, (58, 64), &message)
}

#[test]
fn errors_are_translated_both_ways_on_any_worker() {
    let mut lab = Lab::new(&both("rr", &SERVERS, ""), 2);
    (50..60).for_each(|number| _ = lab.send_to(1, request(number, 1_000, SYN)));
    let router = v6("2001:db8:9::1");
    let to_server = lab.send_to(0, request(1, 1_000, SYN)).remove(0);
    let octet = to_server[5];
    let to_client = lab.send_to(0, reply(octet, 1, 1_000, SYN | ACK)).remove(0);
    for worker in [0, 1] {
        let sent = lab.send_to(worker, error(router, v6(VIP6), &to_client[14..]));
        assert_eq!(sent.len(), 1, "about an answer, worker {worker}");
        assert_eq!((address_at(&sent[0], 22), address_at(&sent[0], 38)), (router, rip6(octet)));
        let quoted = [&sent[0][..14], &sent[0][62..]].concat();
        assert_eq!(ends(&quoted), (rip6(octet), 8080, client(1), 1_000));
        assert!(has_right_checksum(&sent[0]) && sent[0][5] == octet);
        let sent = lab.send_to(worker, error(router, client(1), &to_server[14..]));
        assert_eq!(sent.len(), 1, "about a request, worker {worker}");
        assert_eq!((address_at(&sent[0], 22), address_at(&sent[0], 38)), (v6(VIP6), client(1)));
        let quoted = [&sent[0][..14], &sent[0][62..]].concat();
        assert_eq!(ends(&quoted), (client(1), 1_000, v6(VIP6), 80));
        assert!(has_right_checksum(&sent[0]) && sent[0][..6] == CLIENT_MAC.0);
    }
    // Whose numbers are alike, for they have none, are not the same for that.
    assert!(lab.send(error(router, client(201), &reply(octet, 200, 1, ACK)[14..])).is_empty());
    let about = segment((client(200), 1), (rip6(octet), 8080), ACK);
    assert!(lab.send(error(router, client(201), &about[14..])).is_empty());
    assert_eq!(lab.dropped(DropReason::StrayIcmp), 2);
}

#[test]
fn edits_change_where_replies_come_from_as_over_ipv4() {
    let mut lab = Lab::new(&both("rr", &SERVERS[..1], ""), 1);
    lab.send(request(1, 1_000, SYN));
    lab.send(request(1, 1_000, ACK));
    lab.reload(&both("rr", &SERVERS[1..], ""));
    assert!(lab.send(request(1, 1_000, ACK)).is_empty());
    assert_eq!(lab.dropped(DropReason::RealServerRemoved), 1);
    let sent = lab.send(reply(11, 1, 1_000, ACK));
    assert_eq!(ends(&sent[0]), (v6(VIP6), 80, client(1), 1_000), "what it still sends reaches its client");
    lab.reload(&both("rr", &SERVERS, ""));
    assert_eq!(lab.send(request(1, 1_000, ACK))[0][5], 11);
}
