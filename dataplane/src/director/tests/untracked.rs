//! Flows that began while the table was full: whatever belongs to them goes where their first packet went, while there is no room
//! and when there is room again, through any worker.

use super::workers::let_flows_move;
use super::*;
use crate::wire::checksum::Sum;
use crate::wire::l4::icmp;
use crate::wire::sctp::chunk;

const CAPACITY: u16 = 1024;
/// Client ports of flows that get no record.
const FLOWS: std::ops::Range<u16> = 5000..5020;
const SERVERS: &[(u8, u16)] = &[(11, 1), (12, 1), (13, 1), (14, 1)];
/// A router on the way.
const ROUTER: Addr4 = Addr4::new(10, 0, 0, 250);
const OWN_ADDRESS: Addr4 = Addr4::new(10, 0, 0, 2);
const METHODS: [&str; 3] = ["dr", "tun", "nat"];

/// Workers that move flows if there are several, the first of which has a full table.
fn full(config: &Config, workers: usize) -> Lab {
    let mut lab = Lab::new(config, workers);
    if workers > 1 {
        let_flows_move(&mut lab);
    }
    for port in 10_000..10_000 + CAPACITY {
        match config.virtual_servers[0].protocol {
            weir_config::model::Protocol::Tcp => lab.send_to(0, from_client(port, SYN)),
            weir_config::model::Protocol::Udp => lab.send_to(0, datagram(port)),
            weir_config::model::Protocol::Sctp => lab.send_to(0, association(port, chunk::INIT)),
        };
    }
    assert_eq!(lab.directors[0].table.len(), usize::from(CAPACITY));
    lab
}

fn of_protocol(protocol: weir_config::model::Protocol, method: &str, extra: &str) -> Config {
    let mut config = config(method, "rr", SERVERS, extra);
    config.virtual_servers[0].protocol = protocol;
    config
}

/// Lets the connections that fill the table time out.
fn make_room(lab: &mut Lab) {
    lab.pass_millis(61_000);
    lab.sweep();
    assert_eq!(lab.directors[0].table.len(), 0);
}

/// The frame of a packet from the client to the VIP.
fn from_client_with(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let header = Ipv4::new(protocol, CLIENT, VIP, payload.len(), 64);
    [&OWN.0[..], &CLIENT_MAC.0, &[8, 0], header.as_bytes(), payload].concat()
}

fn datagram(port: u16) -> Vec<u8> {
    from_client_with(ipv4::UDP, &[port.to_be_bytes(), [0, 80], [0, 8], [0, 0]].concat())
}

/// An SCTP packet of one chunk.
fn association(port: u16, kind: u8) -> Vec<u8> {
    let ends = [port.to_be_bytes(), [0, 80]].concat();
    from_client_with(
        ipv4::SCTP,
        &[&ends[..], &[0, 0, 0, 5, 0, 0, 0, 0], &[kind, 0, 0, 20], &[0; 16]].concat(),
    )
}

/// The real server that one frame goes to through a worker.
fn through(lab: &mut Lab, worker: usize, frame: Vec<u8>) -> Option<u8> {
    let sent = lab.send_to(worker, frame);
    assert!(sent.len() <= 1);
    sent.first().filter(|frame| frame[..6] != CLIENT_MAC.0).map(|frame| frame[5])
}

/// Fragmentation needed, to `to`, about a packet of these ends.
fn error_about(to: Addr4, protocol: u8, source: (Addr4, u16), destination: (Addr4, u16)) -> Vec<u8> {
    let mut quote = frame(OWN, source, destination, ACK)[14..].to_vec();
    let mut header = Ipv4::new(protocol, source.0, destination.0, 20, 64);
    header.fragment.set(ipv4::DONT_FRAGMENT);
    header.refresh_checksum();
    quote[..20].copy_from_slice(header.as_bytes());
    error_with(to, &quote)
}

fn error_with(to: Addr4, quote: &[u8]) -> Vec<u8> {
    let head = [icmp::UNREACHABLE, icmp::FRAGMENTATION_NEEDED, 0, 0, 0, 0, 5, 0x78];
    let mut message = [&head[..], quote].concat();
    let sum = Sum::default().bytes(&message).finish();
    message[2..4].copy_from_slice(sum.as_bytes());
    let header = Ipv4::new(ipv4::ICMP, ROUTER, to, message.len(), 64);
    [&OWN.0[..], &CLIENT_MAC.0, &[8, 0], header.as_bytes(), &message].concat()
}

#[test]
fn a_flow_keeps_its_server_when_there_is_room_again() {
    for (extra, method) in
        ["", "sloppy_tcp = true"].into_iter().flat_map(|extra| METHODS.map(|method| (extra, method)))
    {
        let mut lab = full(&config(method, "rr", SERVERS, extra), 1);
        let first: Vec<_> = FLOWS.map(|port| lab.server_of(port, SYN)).collect();
        let again: Vec<_> = FLOWS.map(|port| lab.server_of(port, ACK)).collect();
        assert!(first == again && SERVERS.iter().all(|(octet, _)| first.contains(&Some(*octet))));
        make_room(&mut lab);
        let tracked = lab.counters[0].untracked.get();
        // Longer than the table is under suspicion.
        for _ in 0..20 {
            let later: Vec<_> = FLOWS.map(|port| lab.server_of(port, ACK)).collect();
            assert_eq!(later, first, "{method} {extra}");
            lab.pass_millis(100_000);
        }
        assert_eq!((lab.directors[0].table.len(), lab.counters[0].untracked.get()), (FLOWS.len(), tracked));
        lab.assert_counts_equal_a_recount();
    }
}

#[test]
fn what_ends_a_flow_gets_it_no_record() {
    let mut lab = full(&config("dr", "rr", SERVERS, ""), 1);
    let first: Vec<_> = FLOWS.map(|port| lab.server_of(port, SYN)).collect();
    make_room(&mut lab);
    for segment in [FIN | ACK, RST, RST | ACK] {
        assert_eq!(FLOWS.map(|port| lab.server_of(port, segment)).collect::<Vec<_>>(), first);
    }
    assert_eq!(lab.directors[0].table.len(), 0);
}

#[test]
fn stray_segments_leave_room_for_new_connections() {
    let mut lab = full(&config("dr", "rr", SERVERS, ""), 1);
    lab.server_of(5000, SYN);
    make_room(&mut lab);
    for port in 20_000..22_000 {
        assert!(lab.server_of(port, ACK).is_some());
    }
    let strays = usize::from(CAPACITY) * 3 / 4;
    assert_eq!(lab.directors[0].table.len(), strays);
    lab.server_of(5001, SYN);
    assert_eq!(lab.directors[0].table.len(), strays + 1);
    lab.assert_counts_equal_a_recount();
}

#[test]
fn a_persistent_clients_flow_hangs_on_its_template_when_there_is_room_again() {
    for extra in ["", "sloppy_tcp = true"] {
        let mut lab = full(&persistent(SERVERS, extra), 1);
        let server = lab.server_of(5000, SYN);
        make_room(&mut lab);
        assert_eq!(lab.server_of(5000, ACK), server);
        let templates: Vec<_> = lab.directors[0].templates.v4.iter().collect();
        assert_eq!(templates.iter().map(|template| template.connections()).collect::<Vec<_>>(), [1]);
        lab.assert_counts_equal_a_recount();
    }
}

#[test]
fn a_flow_has_one_server_though_one_worker_has_room_and_another_has_none() {
    for (extra, method) in
        ["", "sloppy_tcp = true"].into_iter().flat_map(|extra| METHODS.map(|method| (extra, method)))
    {
        let mut lab = full(&config(method, "rr", SERVERS, extra), 2);
        for port in FLOWS {
            let first = lab.servers_through(0, port, SYN);
            for (worker, segment) in [(1, ACK), (0, ACK), (1, SYN), (1, ACK), (0, SYN), (0, ACK)] {
                assert_eq!(lab.servers_through(worker, port, segment), first, "{method} {extra} port {port}");
            }
        }
        // One whose first packet comes to the worker that has room, as well.
        for port in 6000..6020 {
            let first = lab.servers_through(1, port, SYN);
            for (worker, segment) in [(0, SYN), (0, ACK), (1, ACK)] {
                assert_eq!(lab.servers_through(worker, port, segment), first, "{method} {extra} port {port}");
            }
        }
        lab.pass_millis(1);
        lab.assert_counts_equal_a_recount();
        // A minute later turns are taken again.
        make_room(&mut lab);
        lab.pass_millis(10_000);
        let turns: Vec<_> = (7000..7004).flat_map(|port| lab.servers_through(1, port, SYN)).collect();
        assert_eq!(turns.iter().collect::<HashSet<_>>().len(), 4, "{turns:?}");
    }
}

#[test]
fn datagrams_have_one_server_though_one_worker_has_room_and_another_has_none() {
    for method in METHODS {
        let mut lab = full(&of_protocol(weir_config::model::Protocol::Udp, method, ""), 2);
        for port in FLOWS {
            let first = through(&mut lab, 0, datagram(port));
            for worker in [1, 0, 1] {
                assert_eq!(through(&mut lab, worker, datagram(port)), first, "{method} port {port}");
            }
        }
    }
}

#[test]
fn associations_go_on_without_a_record() {
    let later = [
        chunk::COOKIE_ECHO,
        chunk::DATA,
        chunk::SACK,
        chunk::HEARTBEAT,
        chunk::SHUTDOWN,
        chunk::SHUTDOWN_COMPLETE,
        chunk::ABORT,
    ];
    for (extra, method) in
        ["", "sloppy_sctp = true"].into_iter().flat_map(|extra| METHODS.map(|method| (extra, method)))
    {
        let config = of_protocol(weir_config::model::Protocol::Sctp, method, extra);
        let mut lab = full(&config, 1);
        let first: Vec<_> = FLOWS.map(|port| through(&mut lab, 0, association(port, chunk::INIT))).collect();
        assert!(first.iter().all(Option::is_some));
        for kind in later {
            let now: Vec<_> = FLOWS.map(|port| through(&mut lab, 0, association(port, kind))).collect();
            assert_eq!(now, first, "{method} {extra} chunk {kind}");
        }
        if method == "nat" {
            let reply = |octet: u8, port: u16| {
                let ends = [[0x1f, 0x90], port.to_be_bytes()].concat();
                let payload =
                    [&ends[..], &[0, 0, 0, 5, 0, 0, 0, 0], &[chunk::SACK, 0, 0, 20], &[0; 16]].concat();
                let header = Ipv4::new(ipv4::SCTP, Addr4::new(10, 0, 0, octet), CLIENT, payload.len(), 64);
                [&OWN.0[..], &CLIENT_MAC.0, &[8, 0], header.as_bytes(), &payload].concat()
            };
            let sent = lab.send(reply(11, 5000));
            assert_eq!((&sent[0][..6], &sent[0][26..30]), (&CLIENT_MAC.0[..], &VIP.octets()[..]));
        }
        lab.pass_millis(61_000);
        lab.sweep();
        let again: Vec<_> = FLOWS.map(|port| through(&mut lab, 0, association(port, chunk::DATA))).collect();
        assert_eq!(again, first, "{method} {extra}");
        lab.assert_counts_equal_a_recount();
    }
}

#[test]
fn a_flows_end_reaches_its_server_without_a_record() {
    for (extra, method) in
        ["", "sloppy_tcp = true"].into_iter().flat_map(|extra| METHODS.map(|method| (extra, method)))
    {
        let mut lab = full(&config(method, "rr", SERVERS, extra), 1);
        for port in FLOWS {
            let first = lab.server_of(port, SYN);
            for segment in [ACK, FIN | ACK, RST, RST | ACK] {
                assert_eq!(lab.server_of(port, segment), first, "{method} {extra} flags {segment}");
            }
        }
        // From FTP's data port nothing is ever scheduled.
        for segment in [SYN, ACK, RST] {
            assert_eq!(lab.server_of(20, segment), None);
        }
    }
}

#[test]
fn errors_about_flows_without_a_record_reach_who_they_concern() {
    for (extra, method) in
        ["", "schedule_icmp = true"].into_iter().flat_map(|extra| METHODS.map(|method| (extra, method)))
    {
        // What the error is about may have been any worker's.
        for worker in [0, 1] {
            let mut lab = full(&config(method, "rr", SERVERS, extra), 2);
            for director in &mut lab.directors {
                director.shared.flows_move = false;
            }
            for port in FLOWS {
                let first = lab.servers_through(0, port, SYN);
                // From the client's side, about a packet to the client.
                let to_server = error_about(VIP, ipv4::TCP, (VIP, 80), (CLIENT, port));
                let sent = lab.send_to(worker, to_server);
                assert_eq!(sent.iter().map(|frame| frame[5]).collect::<Vec<_>>(), first, "{method} {extra}");
                match (method, first[0]) {
                    ("nat", server) => {
                        assert_eq!(
                            (&sent[0][30..34], &sent[0][54..58]),
                            (&[10, 0, 0, server][..], &[10, 0, 0, server][..])
                        );
                        // And from the servers' side, about a packet to the real server.
                        let about = (Addr4::new(10, 0, 0, server), 8080);
                        let sent = lab.send_to(worker, error_about(CLIENT, ipv4::TCP, (CLIENT, port), about));
                        assert_eq!((&sent[0][..6], &sent[0][26..30]), (&CLIENT_MAC.0[..], &VIP.octets()[..]));
                        assert_eq!((&sent[0][58..62], &sent[0][64..66]), (&VIP.octets()[..], &[0, 80][..]));
                    }
                    ("tun", server) => {
                        let inner = error_about(VIP, ipv4::TCP, (CLIENT, port), (VIP, 80))[42..].to_vec();
                        let about = |server: u8| {
                            let header = Ipv4::new(
                                ipv4::IPIP,
                                OWN_ADDRESS,
                                Addr4::new(10, 0, 0, server),
                                inner.len(),
                                64,
                            );
                            error_with(OWN_ADDRESS, &[header.as_bytes(), &inner].concat())
                        };
                        let sent = lab.send_to(worker, about(server));
                        assert_eq!((&sent[0][..6], &sent[0][26..30]), (&CLIENT_MAC.0[..], &VIP.octets()[..]));
                        assert_eq!(lab.send_to(worker, about(99)), [[0u8; 0]; 0], "of no tunnel of its");
                    }
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn errors_about_strangers_flows_go_nowhere_when_no_table_was_full() {
    for method in METHODS {
        let mut lab = Lab::new(&config(method, "rr", SERVERS, ""), 1);
        let inner = error_about(VIP, ipv4::TCP, (CLIENT, 5000), (VIP, 80))[42..].to_vec();
        let header = Ipv4::new(ipv4::IPIP, OWN_ADDRESS, Addr4::new(10, 0, 0, 11), inner.len(), 64);
        for error in [
            error_about(VIP, ipv4::TCP, (VIP, 80), (CLIENT, 5000)),
            error_about(CLIENT, ipv4::TCP, (CLIENT, 5000), (Addr4::new(10, 0, 0, 11), 8080)),
            error_with(OWN_ADDRESS, &[header.as_bytes(), &inner].concat()),
        ] {
            assert_eq!(lab.send(error), [[0u8; 0]; 0]);
        }
        assert_eq!(lab.counters[0].untracked.get(), 0);
    }
}

/// Edits, on devices that move flows.
#[test]
fn a_connection_that_an_edit_leaves_without_a_mark_goes_on_through_any_worker() {
    for method in ["dr", "nat"] {
        let with_ports = |ports: &str| {
            let text = format!(
                "[connections]\ncapacity = 1024\n[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\"]\n\
                 [[neighbor]]\naddress = \"10.0.0.200\"\nmac = \"02:00:00:00:00:cc\"\n\
                 [[neighbor]]\naddress = \"10.0.0.11\"\nmac = \"02:00:00:00:00:0b\"\n\
                 [[mark]]\nmark = 1\naddresses = [\"10.0.0.100\"]\nports = [{ports}]\n\
                 [[virtual_server]]\nname = \"web\"\nmark = 1\nforwarding = \"{method}\"\n\
                 [[virtual_server.real_server]]\naddress = \"10.0.0.11\"\n"
            );
            weir_config::parse("test", &text).unwrap_or_else(|report| panic!("{report}")).config
        };
        let mut lab = Lab::new(&with_ports("80, 443"), 2);
        let_flows_move(&mut lab);
        lab.send_to(0, from_client(1000, SYN));
        lab.reload(&with_ports("443"));
        for worker in [0, 1, 1, 0] {
            assert_eq!(lab.servers_through(worker, 1000, ACK), [11], "{method} worker {worker}");
        }
        lab.send_to(1, from_client(1001, ACK));
        assert_eq!(lab.counters[1].answers(Answer::TcpReset), 1, "of no connection");
        lab.pass_millis(1);
        lab.send_to(1, from_client(1000, RST));
        lab.pass_millis(1);
        assert!(lab.servers_through(1, 1000, SYN).is_empty(), "it is over, and may not begin again");
        lab.assert_counts_equal_a_recount();
    }
}

#[test]
fn datagrams_from_before_an_edit_to_one_packet_keep_their_server_through_any_worker() {
    let with = |one_packet| {
        let mut config = of_protocol(weir_config::model::Protocol::Udp, "dr", "");
        config.virtual_servers[0].one_packet = one_packet;
        config
    };
    let mut lab = Lab::new(&with(false), 2);
    let_flows_move(&mut lab);
    let first = through(&mut lab, 0, datagram(1000));
    lab.reload(&with(true));
    for worker in [0, 1, 1, 0, 1, 1] {
        assert_eq!(through(&mut lab, worker, datagram(1000)), first);
    }
    // Others are scheduled one by one.
    let others: HashSet<_> = (0..4).map(|_| through(&mut lab, 1, datagram(1001))).collect();
    assert_eq!(others.len(), 4);
    lab.pass_millis(301_000);
    lab.sweep();
    let turns: HashSet<_> = (0..4).map(|_| through(&mut lab, 1, datagram(1000))).collect();
    assert_eq!(turns.len(), 4);
}

/// As on two directors with the advice of docs/vrrp.md, one of which takes over from the other in a flood.
#[test]
fn with_mh_a_flow_has_one_server_with_a_record_and_without_one() {
    let config = |set| config("dr", "mh", set, "sloppy_tcp = true");
    let client = |number: u8| (Addr4::new(10, 0, 1, number), 1000);
    let servers = |lab: &mut Lab, segment: u8| -> Vec<_> {
        let clients = (1..200).map(|number| frame(OWN, client(number), (VIP, 80), segment));
        clients.map(|segment| through(lab, 0, segment)).collect()
    };
    let mut free = Lab::new(&config(SERVERS), 1);
    let with_records = servers(&mut free, SYN);
    let mut full = full(&config(SERVERS), 1);
    assert_eq!(servers(&mut full, SYN), with_records);
    assert_eq!(full.counters[0].untracked.get(), 199);
    make_room(&mut full);
    assert_eq!(servers(&mut full, ACK), with_records);
    assert_eq!(full.directors[0].table.len(), 199);
    // Only those of a real server that takes none any more go elsewhere.
    let mut quiesced = SERVERS.to_vec();
    quiesced[1].1 = 0;
    let mut other = Lab::new(&config(SERVERS), 1);
    other.reload(&config(&quiesced));
    let now = other.now;
    other.directors[0].suspect_untracked(now);
    for (with_record, without) in with_records.iter().zip(servers(&mut other, ACK)) {
        assert!(without.is_some() && (without == *with_record) == (*with_record != Some(12)));
    }
}
