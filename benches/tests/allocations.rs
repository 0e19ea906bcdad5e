//! Nothing on the path of a packet allocates or frees, whatever the packet. Every test here first shows that the packets
//! really went the way it is about.

use allocation_counter::{AllocationInfo, measure};
use weir_benches::Lab;
use weir_benches::frames::{
    CLIENT, End, GATEWAY, OWN, VIP, VIP6, arp, client, client6, icmp, ipv4, sctp, server, server6, tagged,
    tcp, tcp6, udp, with_fragment, with_ttl,
};
use weir_benches::lab::{base, base6, virtual_server, virtual_server4in6, virtual_server6};
use weir_config::model::{MacAddress, Scheduler};
use weir_dataplane::address::Addr4;
use weir_dataplane::packet::BURST;
use weir_dataplane::stats::{Answer, DropReason};
use weir_dataplane::wire::ethernet::Arp;
use weir_dataplane::wire::ipv4::{DONT_FRAGMENT, MORE_FRAGMENTS, TCP};
use weir_dataplane::wire::l4::flags::{ACK, FIN, RST, SYN};

const FLOWS: u32 = 1_000;
const WEB: End = (VIP, 80);

/// Sends frames, burst by burst, and fails if the director allocates or frees anything.
fn send_counted(lab: &mut Lab, worker: usize, frames: &[Vec<u8>]) {
    for burst in frames.chunks(BURST) {
        lab.load(burst);
        assert_nothing(measure(|| lab.process(worker)));
    }
}

/// Lets time pass and fails if the upkeep allocates or frees anything.
fn pass_counted(lab: &mut Lab, millis: u64) {
    assert_nothing(measure(|| lab.pass_millis(millis)));
}

fn assert_nothing(info: AllocationInfo) {
    // A free without an allocation makes `count_current` negative.
    assert_eq!((info.count_total, info.count_current), (0, 0), "{info:?}");
}

fn segments(flows: u32, flags: u8) -> Vec<Vec<u8>> {
    (0..flows).map(|flow| tcp(client(flow), WEB, flags)).collect()
}

fn one_service(keys: &str, forwarding: &str) -> Lab {
    Lab::new(&(base(4_096, "") + &virtual_server(80, keys, forwarding, 4, true)), 1)
}

const TCP_RR: &str = "protocol = \"tcp\"\nscheduler = \"rr\"";

#[test]
fn the_counter_sees_allocations_and_frees() {
    let mut kept = None;
    assert_eq!(measure(|| kept = Some(Box::new(1))).count_total, 1);
    assert_eq!(measure(|| kept = None).count_current, -1);
}

#[test]
fn the_life_of_a_connection_by_each_method() {
    let over_ipv6 = || Lab::new(&(base6(4_096) + &virtual_server4in6(TCP_RR)), 1);
    for method in ["dr", "tun", "nat", "tun over IPv6"] {
        let mut lab = if method == "tun over IPv6" { over_ipv6() } else { one_service(TCP_RR, method) };
        for flags in [SYN, ACK, ACK, FIN | ACK, ACK, SYN, RST] {
            let frames = segments(FLOWS, flags);
            let before = lab.forwarded();
            send_counted(&mut lab, 0, &frames);
            assert_eq!(lab.forwarded() - before, u64::from(FLOWS), "{method} {flags}");
        }
        assert_eq!(lab.counters[0].untracked.get(), 0);
    }
}

#[test]
fn the_life_of_an_ipv6_connection_by_each_method() {
    for method in ["dr", "tun", "nat"] {
        let mut lab = Lab::new(&(base6(4_096) + &virtual_server6(TCP_RR, method)), 1);
        for flags in [SYN, ACK, ACK, FIN | ACK, ACK, SYN, RST] {
            let frames: Vec<_> = (0..FLOWS).map(|flow| tcp6(client6(flow), (VIP6, 80), flags)).collect();
            let before = lab.forwarded();
            send_counted(&mut lab, 0, &frames);
            assert_eq!(lab.forwarded() - before, u64::from(FLOWS), "{method} {flags}");
        }
        let replies: Vec<_> = (0..FLOWS)
            .flat_map(|flow| {
                (0x11..0x15).map(move |number| tcp6((server6(number), 8_080), client6(flow), ACK))
            })
            .collect();
        send_counted(&mut lab, 0, &replies);
        assert_eq!(lab.counters[0].untracked.get(), 0);
    }
}

#[test]
fn datagrams_and_sctp_and_frames_with_a_tag() {
    for method in ["dr", "tun", "nat"] {
        for (protocol, make) in [
            ("udp", (|flow| udp(client(flow), WEB, 18)) as fn(u32) -> Vec<u8>),
            ("sctp", |flow| sctp(client(flow), WEB, 1)),
            ("tcp", |flow| tagged(&tcp(client(flow), WEB, SYN), 7)),
        ] {
            let mut lab = one_service(&format!("protocol = \"{protocol}\"\nscheduler = \"rr\""), method);
            let frames: Vec<_> = (0..FLOWS).map(make).collect();
            for _ in 0..3 {
                send_counted(&mut lab, 0, &frames);
            }
            let waited = lab.dropped(DropReason::NeighborQueueFull) + lab.counters[0].arp_requests.get();
            assert!(protocol == "tcp" || waited == 0);
            assert!(lab.forwarded() >= 2 * u64::from(FLOWS), "{method} {protocol}");
        }
    }
}

#[test]
fn new_connections_by_each_scheduler() {
    for scheduler in Scheduler::ALL {
        let keys = format!("protocol = \"tcp\"\nscheduler = \"{}\"", scheduler.name());
        let mut lab = one_service(&keys, "dr");
        send_counted(&mut lab, 0, &segments(FLOWS, SYN));
        assert_eq!(lab.forwarded(), u64::from(FLOWS), "{}", scheduler.name());
    }
}

#[test]
fn replies_of_real_servers_to_either_worker() {
    let file = base(4_096, "") + &virtual_server(80, TCP_RR, "nat", 1, true);
    let mut lab = Lab::new(&file, 2);
    send_counted(&mut lab, 0, &segments(FLOWS, SYN));
    let replies: Vec<_> = (0..FLOWS).map(|flow| tcp((server(11), 8_080), client(flow), SYN | ACK)).collect();
    for worker in [0, 1] {
        let before = lab.forwarded();
        send_counted(&mut lab, worker, &replies);
        assert_eq!(lab.forwarded() - before, u64::from(FLOWS));
    }
    // The owner hears of what the other one sent.
    pass_counted(&mut lab, 1);
}

#[test]
fn a_reply_of_no_connection_and_a_segment_to_nobody() {
    let mut lab = one_service(TCP_RR, "nat");
    let frames = [
        tcp((server(11), 8_080), client(1), ACK),
        tcp(client(1), (VIP, 81), ACK),
        tcp(client(1), (Addr4::new(8, 8, 8, 8), 80), ACK),
        tcp(client(1), WEB, ACK),
        udp(client(1), (VIP, 53), 18),
        ipv4(99, CLIENT, VIP, &[0; 40]),
        vec![0; 60],
        tcp(client(1), WEB, ACK)[..30].to_vec(),
    ];
    send_counted(&mut lab, 0, &frames);
    assert_eq!(lab.forwarded(), 0);
    assert!(lab.answered(Answer::TcpReset) > 0);
    assert!(lab.answered(Answer::PortUnreachable) > 0);
    assert!(lab.dropped(DropReason::ForeignAddress) > 0);
    assert!(lab.dropped(DropReason::Truncated) > 0);
}

#[test]
fn arp_from_question_to_answer_and_packets_that_wait() {
    let mut lab = Lab::new(&(base(4_096, "") + &virtual_server(80, TCP_RR, "dr", 2, false)), 1);
    let nobody = MacAddress([0; 6]);
    let question = arp(Arp::REQUEST, (GATEWAY, server(254)), (nobody, VIP));
    send_counted(&mut lab, 0, &[question.clone(), question]);
    assert_eq!(lab.answered(Answer::Arp), 2);

    // More packets than may wait for two real servers whose MACs nobody knows.
    send_counted(&mut lab, 0, &segments(300, SYN));
    assert_eq!(lab.counters[0].arp_requests.get(), 2);
    assert!(lab.dropped(DropReason::NeighborQueueFull) > 0);
    assert_eq!(lab.forwarded(), 0);
    let mac = MacAddress([2, 0, 0, 0, 0, 11]);
    send_counted(&mut lab, 0, &[arp(Arp::REPLY, (mac, server(11)), (OWN, server(2)))]);
    assert_eq!(lab.forwarded(), 64);

    // The other one never answers.
    for _ in 0..8 {
        pass_counted(&mut lab, 1_000);
    }
    assert_eq!(lab.dropped(DropReason::NeighborFailed), 64);

    // Another host claims the VIP.
    send_counted(&mut lab, 0, &[arp(Arp::REQUEST, (mac, VIP), (nobody, VIP))]);
    assert_eq!(lab.dropped(DropReason::Conflict), 1);
}

#[test]
fn icmp_in_all_its_roles() {
    let mut lab = one_service(TCP_RR, "nat");
    send_counted(&mut lab, 0, &segments(FLOWS, SYN));
    let octet = 14; // the real server that was added last is picked first
    let quote = &tcp((VIP, 80), client(0), ACK)[14..42];
    let inside = &tcp(client(0), (server(octet), 8_080), ACK)[14..42];
    let before = lab.forwarded();
    send_counted(
        &mut lab,
        0,
        &[
            icmp(CLIENT, VIP, (8, 0), 7, b"ping"),
            icmp(CLIENT, VIP, (3, 4), 1_400, quote),
            icmp(server(octet), CLIENT, (3, 3), 0, inside),
            icmp(CLIENT, VIP, (3, 4), 1_400, &tcp((VIP, 80), (CLIENT, 1), ACK)[14..42]),
            icmp(CLIENT, VIP, (3, 4), 1_400, &[0x45; 4]),
        ],
    );
    assert_eq!(lab.answered(Answer::Echo), 1);
    assert_eq!(lab.forwarded() - before, 2);
    assert_eq!(lab.dropped(DropReason::StrayIcmp), 1);

    // Errors of weir's own.
    let mut too_large = vec![0; 1_480];
    too_large[..20].copy_from_slice(&tcp(client(0), WEB, ACK)[34..54]);
    let too_large = with_fragment(ipv4(TCP, CLIENT, VIP, &too_large), DONT_FRAGMENT);
    let mut lab = one_service(TCP_RR, "tun");
    send_counted(&mut lab, 0, &segments(FLOWS, SYN));
    send_counted(&mut lab, 0, &[with_ttl(tcp(client(0), WEB, ACK), 1), too_large]);
    assert_eq!(lab.answered(Answer::TimeExceeded), 1);
    assert_eq!(lab.answered(Answer::FragmentationNeeded), 1);
}

#[test]
fn packets_that_are_pieces_and_packets_that_are_cut() {
    let mut lab = one_service(TCP_RR, "tun");
    send_counted(&mut lab, 0, &segments(FLOWS, SYN));
    // In order; one that comes before the first, waits and follows it; one that there was; one of nobody's.
    let first = [&tcp(client(0), WEB, ACK)[34..54], &[0; 4]].concat();
    let piece = |payload: &[u8], fragment| with_fragment(ipv4(TCP, CLIENT, VIP, payload), fragment);
    let (begin, more) = (piece(&first, MORE_FRAGMENTS), piece(&[0; 16], 3 | MORE_FRAGMENTS));
    let before = lab.forwarded();
    send_counted(&mut lab, 0, &[piece(&[0; 16], 7), begin, more.clone(), more]);
    assert_eq!(lab.forwarded() - before, 3);
    assert_eq!(lab.dropped(DropReason::FragmentDuplicate), 1);
    let stray = with_fragment(ipv4(TCP, CLIENT, server(1), &[0; 16]), 3);
    send_counted(&mut lab, 0, &[stray]);
    assert_eq!(lab.dropped(DropReason::Fragment), 1);

    let mut large = vec![0; 1_480];
    large[..20].copy_from_slice(&tcp(client(0), WEB, ACK)[34..54]);
    let before = lab.forwarded();
    send_counted(&mut lab, 0, &[ipv4(TCP, CLIENT, VIP, &large)]);
    assert_eq!(lab.forwarded() - before, 2, "a packet of 1,500 bytes and a tunnel's header make two pieces");
}

#[test]
fn a_table_that_is_full_and_one_that_empties() {
    let mut lab = Lab::new(&(base(1_024, "") + &virtual_server(80, TCP_RR, "dr", 4, true)), 1);
    send_counted(&mut lab, 0, &segments(3_000, SYN));
    assert_eq!(lab.forwarded(), 3_000);
    assert_eq!(lab.counters[0].untracked.get(), 3_000 - 1_024);
    for _ in 0..100 {
        pass_counted(&mut lab, 1_000);
    }
    assert_eq!(lab.counters[0].connections.get(), 0);
}

#[test]
fn persistence_and_one_packet() {
    let mut lab = one_service(&format!("{TCP_RR}\npersistence_timeout = 300"), "dr");
    for flags in [SYN, ACK, FIN | ACK] {
        send_counted(&mut lab, 0, &segments(FLOWS, flags));
    }
    assert_eq!(lab.forwarded(), 3 * u64::from(FLOWS));
    for _ in 0..500 {
        pass_counted(&mut lab, 1_000);
    }
    assert_eq!(lab.counters[0].connections.get(), 0);

    let mut lab = one_service("protocol = \"udp\"\nscheduler = \"rr\"\none_packet = true", "dr");
    let frames: Vec<_> = (0..FLOWS).map(|flow| udp(client(flow), WEB, 18)).collect();
    send_counted(&mut lab, 0, &frames);
    assert_eq!(lab.forwarded(), u64::from(FLOWS));
    assert_eq!(lab.counters[0].connections.get(), 0);
}

#[test]
fn a_new_snapshot_with_other_real_servers() {
    let file = |servers| base(4_096, "") + &virtual_server(80, TCP_RR, "dr", servers, true);
    let mut lab = Lab::new(&file(4), 1);
    send_counted(&mut lab, 0, &segments(FLOWS, SYN));
    for servers in [2, 8, 1] {
        lab.reload(&file(servers));
        pass_counted(&mut lab, 1);
        send_counted(&mut lab, 0, &segments(FLOWS, ACK));
    }
    assert!(lab.dropped(DropReason::RealServerRemoved) > 0);
}
