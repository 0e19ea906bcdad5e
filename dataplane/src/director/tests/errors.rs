//! ICMP errors of others, whose packets may end where their frames do not: what lies behind the packet's end is not read, not
//! translated and not passed on. And weir's own: how many there are, and what is cut instead.

use super::*;
use crate::wire::checksum::Sum;
use crate::wire::l4::icmp;

/// A router on the way to the clients, and to the real servers.
const ROUTER: Addr4 = Addr4::new(10, 0, 0, 250);
const SERVER: Addr4 = Addr4::new(10, 0, 0, 11);
const OWN_ADDRESS: Addr4 = Addr4::new(10, 0, 0, 2);
const UNREACHABLE: [u8; 8] = [icmp::UNREACHABLE, 1, 0, 0, 0, 0, 0, 0];
const NEEDS_CUTTING: [u8; 8] = [icmp::UNREACHABLE, icmp::FRAGMENTATION_NEEDED, 0, 0, 0, 0, 5, 0x78];

/// A packet from `source` to `destination`, without its link header.
fn packet_of(protocol: u8, (source, destination): (Addr4, Addr4), payload: &[u8]) -> Vec<u8> {
    [Ipv4::new(protocol, source, destination, payload.len(), 64).as_bytes(), payload].concat()
}

/// An ICMP error to `to` that holds `inside` bytes of `quote`. What is left of it stands behind the packet.
fn error_frame(to: Addr4, head: [u8; 8], quote: &[u8], inside: usize) -> Vec<u8> {
    let mut message = [&head[..], &quote[..inside]].concat();
    let sum = Sum::default().bytes(&message).finish();
    message[2..4].copy_from_slice(sum.as_bytes());
    let link = [&OWN.0[..], &CLIENT_MAC.0, &[8, 0]].concat();
    [link, packet_of(ipv4::ICMP, (ROUTER, to), &message), quote[inside..].to_vec()].concat()
}

/// Lengths of an error's packet are what they have to be and its checksums right.
fn assert_is_sound(frame: &[u8]) {
    let header = Ipv4::read_from_bytes(&frame[14..34]).expect("a header");
    let end = 14 + usize::from(header.total_len.get());
    assert!(ipv4::checksum_is_right(&frame[14..34]));
    assert!(end == frame.len() || end < frame.len() && frame.len() <= 60, "{end} of {}", frame.len());
    assert_eq!(Sum::default().bytes(&frame[34..end]).fold(), 0xffff);
}

/// What a real server was sent in a tunnel for a segment of the client's, which has DF.
fn tunnel_packet() -> Vec<u8> {
    tunnel_packet_with(DF)
}

fn tunnel_packet_with(fragment: u16) -> Vec<u8> {
    let mut inner = from_client(1000, ACK)[14..].to_vec();
    let mut header = Ipv4::read_from_bytes(&inner[..20]).expect("20 bytes");
    header.fragment.set(fragment);
    header.refresh_checksum();
    inner[..20].copy_from_slice(header.as_bytes());
    packet_of(ipv4::IPIP, (OWN_ADDRESS, SERVER), &inner)
}

#[test]
fn a_client_that_lets_its_packets_be_cut_hears_of_no_mtu() {
    let mut lab = Lab::new(&config("tun", "rr", &[(11, 1)], ""), 1);
    lab.send(from_client(1000, SYN));
    let quote = tunnel_packet_with(0);
    assert_eq!(lab.send(error_frame(OWN_ADDRESS, NEEDS_CUTTING, &quote, quote.len())), [[0u8; 0]; 0]);
    assert_eq!(lab.dropped(DropReason::Unasked), 1);
    assert_eq!(lab.send(error_frame(OWN_ADDRESS, UNREACHABLE, &quote, quote.len())).len(), 1);
}

#[test]
fn a_tunnels_mtu_is_told_less_the_outer_header_where_that_leaves_a_way() {
    let mut lab = Lab::new(&config("tun", "rr", &[(11, 1)], ""), 1);
    lab.send(from_client(1000, SYN));
    for mtu in (0..200).chain([1_400, 0xffff]) {
        let mut head = NEEDS_CUTTING;
        head[6..8].copy_from_slice(&u16::to_be_bytes(mtu));
        let quote = tunnel_packet();
        let told = lab.send(error_frame(OWN_ADDRESS, head, &quote, quote.len()));
        let left = if mtu > 88 { mtu - 20 } else { mtu };
        assert_eq!(told[0][38..42], u32::from(left).to_be_bytes(), "the router says {mtu}");
    }
}

#[test]
fn an_error_about_a_tunnel_is_read_no_further_than_its_packet_goes() {
    for head in [UNREACHABLE, NEEDS_CUTTING] {
        let mut lab = Lab::new(&config("tun", "rr", &[(11, 1)], ""), 1);
        lab.send(from_client(1000, SYN));
        let quote = tunnel_packet();
        // Both headers, and the ports behind them.
        let needed = 20 + 20 + 4;
        for inside in 0..=quote.len() {
            let before = lab.dropped(DropReason::Truncated);
            let sent = lab.send(error_frame(OWN_ADDRESS, head, &quote, inside));
            assert_eq!(sent.len(), usize::from(inside >= needed), "{inside} bytes quoted");
            assert_eq!(lab.dropped(DropReason::Truncated) - before, u64::from(inside < needed));
            for told in sent {
                assert_is_sound(&told);
                assert_eq!((&told[26..30], &told[30..34]), (&VIP.octets()[..], &CLIENT.octets()[..]));
                assert_eq!(&told[42..], &quote[20..inside], "{inside} bytes quoted");
            }
        }
    }
}

#[test]
fn an_error_about_a_nat_connection_is_translated_no_further_than_its_packet_goes() {
    let mut lab = Lab::new(&config("nat", "rr", &[(11, 1)], ""), 1);
    lab.send(from_client(1000, SYN));
    // To the real server about what it sent, and to the client about what it sent.
    let of_server = frame(OWN, (VIP, 80), (CLIENT, 1000), ACK)[14..].to_vec();
    let of_client = frame(OWN, (CLIENT, 1000), (SERVER, 8080), ACK)[14..].to_vec();
    for (to, quote, ours) in
        [(VIP, of_server, (12, [10, 0, 0, 11])), (CLIENT, of_client, (16, [10, 0, 0, 100]))]
    {
        for inside in 0..=quote.len() {
            let before = lab.dropped(DropReason::Truncated);
            let sent = lab.send(error_frame(to, UNREACHABLE, &quote, inside));
            assert_eq!(sent.len(), usize::from(inside >= 24), "{inside} bytes quoted to {to}");
            assert_eq!(lab.dropped(DropReason::Truncated) - before, u64::from(inside < 24));
            for told in sent {
                assert_is_sound(&told);
                let at = 42 + ours.0;
                assert_eq!(told[at..at + 4], ours.1);
            }
        }
    }
}

#[test]
fn an_error_about_a_later_piece_of_a_tunnel_packet_is_stray() {
    let mut lab = Lab::new(&config("tun", "rr", &[(11, 1)], ""), 1);
    lab.send(from_client(1000, SYN));
    let mut quote = tunnel_packet();
    quote[6..8].copy_from_slice(&[0, 9]);
    let mut header = Ipv4::read_from_bytes(&quote[..20]).expect("20 bytes");
    header.refresh_checksum();
    quote[..20].copy_from_slice(header.as_bytes());
    let whole = quote.len();
    assert_eq!(lab.send(error_frame(OWN_ADDRESS, UNREACHABLE, &quote, whole)), [[0u8; 0]; 0]);
    assert_eq!(lab.dropped(DropReason::StrayIcmp), 1);
}

#[test]
fn errors_that_quote_errors_or_nested_tunnels_are_stray_wherever_they_end() {
    let mut lab = Lab::new(&config("tun", "rr", &[(11, 1)], ""), 1);
    lab.send(from_client(1000, SYN));
    let nested = packet_of(ipv4::IPIP, (OWN_ADDRESS, SERVER), &tunnel_packet());
    let about_error = error_frame(OWN_ADDRESS, UNREACHABLE, &tunnel_packet(), 60)[14..].to_vec();
    for quote in [nested, about_error] {
        for inside in 0..=quote.len() {
            assert_eq!(lab.send(error_frame(OWN_ADDRESS, UNREACHABLE, &quote, inside)), [[0u8; 0]; 0]);
        }
    }
    let ends = [DropReason::StrayIcmp, DropReason::Truncated].map(|reason| lab.dropped(reason));
    assert_eq!(ends.iter().sum::<u64>(), 81 + 89);
}

const DF: u16 = ipv4::DONT_FRAGMENT;

/// A packet that is larger than the port's MTU.
fn large(
    protocol: u8,
    source: (Addr4, u16),
    destination: (Addr4, u16),
    segment: u8,
    fragment: u16,
) -> Vec<u8> {
    let mut frame = frame(OWN, source, destination, segment);
    frame.resize(14 + 1_600, 0x5a);
    let mut header = Ipv4::new(protocol, source.0, destination.0, 1_580, 64);
    header.ident.set(0x4711);
    header.fragment.set(fragment);
    header.refresh_checksum();
    frame[14..34].copy_from_slice(header.as_bytes());
    if protocol == ipv4::UDP {
        frame[38..42].copy_from_slice(&[(1_580u16 >> 8) as u8, 1_580u16 as u8, 0x12, 0x34]);
    }
    frame
}

fn datagram_to_a_closed_port(client_port: u16) -> Vec<u8> {
    let mut frame = frame(OWN, (CLIENT, client_port), (VIP, 9), 0);
    frame[14..34].copy_from_slice(Ipv4::new(ipv4::UDP, CLIENT, VIP, 20, 64).as_bytes());
    frame[38..42].copy_from_slice(&[0, 20, 0, 0]);
    frame
}

#[test]
fn strangers_keep_no_known_connection_from_hearing_what_is_too_big() {
    for method in ["dr", "nat", "tun"] {
        let mut lab = Lab::new(&config(method, "rr", &[(11, 1)], ""), 1);
        lab.send(from_client(1000, SYN));
        (0..2_000).for_each(|port| _ = lab.send(datagram_to_a_closed_port(port)));
        // Connections that strangers open with packets which are too big.
        (2_000..4_000).for_each(|port| _ = lab.send(large(ipv4::TCP, (CLIENT, port), (VIP, 80), SYN, DF)));
        assert_eq!(lab.counters[0].answers(Answer::PortUnreachable), 1_000);
        assert_eq!(lab.counters[0].answers(Answer::FragmentationNeeded), 1_000);
        assert_eq!(lab.dropped(DropReason::IcmpRateLimited), 2_000);
        for _ in 0..2_000 {
            assert_eq!(lab.send(large(ipv4::TCP, (CLIENT, 1000), (VIP, 80), ACK, DF))[0][34..36], [3, 4]);
        }
        if method == "nat" {
            assert_eq!(
                lab.send(large(ipv4::TCP, (SERVER, 8080), (CLIENT, 1000), ACK, DF))[0][34..36],
                [3, 4]
            );
        }
        if method == "tun" {
            let relayed = |lab: &mut Lab, head| {
                let quote = tunnel_packet();
                let told =
                    |lab: &mut Lab| lab.send(error_frame(OWN_ADDRESS, head, &quote, quote.len())).len();
                (0..2_000).map(|_| told(lab)).sum::<usize>()
            };
            assert_eq!((relayed(&mut lab, UNREACHABLE), relayed(&mut lab, NEEDS_CUTTING)), (1_000, 2_000));
        }
    }
}

/// What pieces of a packet carry, put together.
fn reassembled(pieces: &[Vec<u8>]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (number, piece) in pieces.iter().enumerate() {
        assert!(piece.len() <= 14 + 1_500);
        assert!(ipv4::checksum_is_right(&piece[14..34]));
        let header = Ipv4::read_from_bytes(&piece[14..34]).expect("a header");
        let fragment = header.fragment.get();
        assert_eq!(usize::from(fragment & ipv4::FRAGMENT_OFFSET) * 8, payload.len());
        assert_eq!(fragment & ipv4::MORE_FRAGMENTS == 0, number + 1 == pieces.len());
        assert_eq!(fragment & DF, 0);
        assert_ne!(header.ident.get(), 0);
        payload.extend_from_slice(&piece[34..14 + usize::from(header.total_len.get())]);
    }
    payload
}

/// Replies without a record: of a virtual server that makes none, and of one whose table was full.
fn labs_without_records() -> Vec<(Lab, u8)> {
    let one_packet = "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\"]\n\
         [[neighbor]]\naddress = \"10.0.0.200\"\nmac = \"02:00:00:00:00:cc\"\n\
         [[virtual_server]]\nname = \"dns\"\naddress = \"10.0.0.100\"\nport = 80\nprotocol = \"udp\"\n\
         one_packet = true\nforwarding = \"nat\"\n\
         [[virtual_server.real_server]]\naddress = \"10.0.0.11\"\nport = 8080\n\
         [connections]\ncapacity = 1024\n";
    let one_packet =
        weir_config::parse("test", one_packet).unwrap_or_else(|report| panic!("{report}")).config;
    let mut full = Lab::new(&config("nat", "rr", &[(11, 1)], ""), 1);
    let now = full.now;
    full.directors[0].suspect_untracked(now);
    vec![(Lab::new(&one_packet, 1), ipv4::UDP), (full, ipv4::TCP)]
}

#[test]
fn replies_without_a_record_are_cut_or_refused_as_those_with_one() {
    for (mut lab, protocol) in labs_without_records() {
        let reply = |fragment| large(protocol, (SERVER, 8080), (CLIENT, 5_000), ACK, fragment);
        let refused = lab.send(reply(DF));
        assert_eq!((refused.len(), lab.counters[0].answers(Answer::FragmentationNeeded)), (1, 1));
        assert_eq!((&refused[0][30..34], &refused[0][34..36]), (&SERVER.octets()[..], &[3, 4][..]));
        let pieces = lab.send(reply(0));
        assert_eq!(pieces.len(), 2);
        assert!(pieces.iter().all(|piece| piece[26..30] == VIP.octets()));
        assert_eq!(reassembled(&pieces)[20..], reply(0)[54..]);
        let mut late = from_server(11, 5_000, ACK);
        late[14..34].copy_from_slice(Ipv4::new(protocol, SERVER, CLIENT, 20, 1).as_bytes());
        late[38..42].copy_from_slice(&[0, 20, 0x12, 0x34]);
        assert_eq!(lab.send(late)[0][34..36], [icmp::TIME_EXCEEDED, 0]);
    }
}

#[test]
fn errors_to_clients_are_cut_or_dropped_when_they_are_too_big() {
    let mut lab = Lab::new(&config("nat", "rr", &[(11, 1)], ""), 1);
    lab.send(from_client(1000, SYN));
    let mut quote = frame(OWN, (CLIENT, 1000), (SERVER, 8080), ACK)[14..].to_vec();
    quote.resize(1_572, 0x77);
    let mut error = error_frame(CLIENT, UNREACHABLE, &quote, quote.len());
    let mut with = |lab: &mut Lab, fragment: u16| {
        let mut header = Ipv4::read_from_bytes(&error[14..34]).expect("a header");
        header.fragment.set(fragment);
        header.ident.set(7);
        header.refresh_checksum();
        error[14..34].copy_from_slice(header.as_bytes());
        lab.send(error.clone())
    };
    let pieces = with(&mut lab, 0);
    assert_eq!(pieces.len(), 2);
    assert!(pieces.iter().all(|piece| piece[26..34] == [VIP.octets(), CLIENT.octets()].concat()));
    let message = reassembled(&pieces);
    assert_eq!((message.len(), Sum::default().bytes(&message).fold()), (1_580, 0xffff));
    assert_eq!(with(&mut lab, DF), [[0u8; 0]; 0]);
    assert_eq!(lab.dropped(DropReason::TooBig), 1);
}

/// An echo request to the VIP.
fn ping(message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    message[..4].copy_from_slice(&[icmp::ECHO_REQUEST, 0, 0, 0]);
    let sum = Sum::default().bytes(&message).finish();
    message[2..4].copy_from_slice(sum.as_bytes());
    let link = [&OWN.0[..], &CLIENT_MAC.0, &[8, 0]].concat();
    [link, packet_of(ipv4::ICMP, (CLIENT, VIP), &message)].concat()
}

#[test]
fn an_echo_is_cut_when_it_is_too_big_and_padded_no_more_than_it_must() {
    let mut lab = Lab::new(&config("dr", "rr", &[(11, 1)], ""), 1);
    let pieces = lab.send(ping(&[0x33; 1_580]));
    assert_eq!((pieces.len(), lab.counters[0].answers(Answer::Echo)), (2, 1));
    assert!(pieces.iter().all(|piece| piece[..6] == CLIENT_MAC.0));
    let message = reassembled(&pieces);
    assert_eq!((message[0], message.len()), (icmp::ECHO_REPLY, 1_580));
    assert_eq!(Sum::default().bytes(&message).fold(), 0xffff);
    assert_eq!(lab.send([ping(&[1; 12]), vec![0xaa; 900]].concat())[0].len(), 60);
}

#[test]
fn the_checksum_of_an_echo_is_that_of_a_full_computation() {
    let mut lab = Lab::new(&config("dr", "rr", &[(11, 1)], ""), 1);
    let is_full = |lab: &mut Lab, words: &[u16]| {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let mut reply = lab.send(ping(&[&[0; 4][..], &bytes].concat())).swap_remove(0)[34..].to_vec();
        let updated = [reply[2], reply[3]];
        reply[2..4].fill(0);
        assert_eq!(updated, Sum::default().bytes(&reply).finish().to_bytes(), "{words:x?}");
    };
    for words in [&[0, 0][..], &[0; 40], &[0, 0xffff], &[0xffff, 0xffff], &[0xfffe, 1], &[1, 0xfffe, 0, 0]] {
        is_full(&mut lab, words);
    }
    (0..=u16::MAX).for_each(|word| is_full(&mut lab, &[word, 0]));
}
