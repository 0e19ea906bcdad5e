//! Extension headers in front of what is for weir itself, and options that say what to do with a packet.

use super::*;

/// An extension header of these options, with `following` behind it.
fn options(following: u8, options: &[u8]) -> Vec<u8> {
    let mut header = [&[following, 0][..], options].concat();
    let surplus = (8 - header.len() % 8) % 8;
    match surplus {
        0 => {}
        1 => header.push(0),
        _ => {
            header.extend([1, surplus as u8 - 2]);
            header.extend(std::iter::repeat_n(0, surplus - 2));
        }
    }
    header[1] = (header.len() / 8 - 1) as u8;
    header
}

/// A message of a client's with its checksum, behind extension headers.
fn message(to: Ipv6Addr, hop_limit: u8, first: u8, headers: &[Vec<u8>], message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    let ends = [client(9).octets(), to.octets()].concat();
    let sum = Sum::default().bytes(&ends).long(message.len() as u32).word(58).bytes(&message).finish();
    message[2..4].copy_from_slice(sum.as_bytes());
    let mut frame = packet6(client(9), to, (first, hop_limit), &[headers.concat(), message].concat());
    if to.is_multicast() {
        let [.., a, b, c, d] = to.octets();
        frame[..6].copy_from_slice(&[0x33, 0x33, a, b, c, d]);
    }
    frame
}

fn ping(to: &str, first: u8, headers: &[Vec<u8>]) -> Vec<u8> {
    message(v6(to), 64, first, headers, &[128, 0, 0, 0, 0, 7, 0, 1, 0xde, 0xad, 0xbe, 0xef])
}

fn solicitation(target: &str, to: Ipv6Addr, first: u8, headers: &[Vec<u8>]) -> Vec<u8> {
    let asked = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &v6(target).octets(), &[1, 1], &CLIENT_MAC.0].concat();
    message(to, 255, first, headers, &asked)
}

/// The group of [`VIP6`].
const GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0x100);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

const PADDING: [u8; 6] = [1, 4, 0, 0, 0, 0];
const WHOLE: [u8; 8] = [58, 0, 0, 0, 0, 0, 0, 9];

/// Chains that say nothing of what is behind them, with the type of their first header.
fn chains() -> Vec<(u8, Vec<Vec<u8>>)> {
    vec![
        (0, vec![options(58, &PADDING)]),
        (0, vec![options(58, &[5, 2, 0, 0])]),
        (60, vec![options(58, &[0x3e, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9])]),
        (0, vec![options(60, &PADDING), options(43, &PADDING), options(58, &[0; 6])]),
        (44, vec![WHOLE.to_vec()]),
    ]
}

#[test]
fn a_ping_behind_extension_headers_is_answered_as_one_without() {
    for address in [VIP6, OWN6] {
        let mut lab = Lab::new(&both("rr", ""), 1);
        let expected = lab.send(ping(address, 58, &[]));
        assert_eq!((expected.len(), expected[0][20], expected[0][54]), (1, 58, 129));
        for (first, chain) in chains() {
            let sent = lab.send(ping(address, first, &chain));
            assert_eq!(sent, expected, "{address}: {first}, {chain:?}");
        }
        // What can't be walked is not looked behind.
        let routed = [58, 0, 0, 1, 0, 0, 0, 0].to_vec();
        assert!(lab.send(ping(address, 43, &[routed])).is_empty());
        assert!(lab.send(ping(address, 44, &[[58, 0, 0, 1, 0, 0, 0, 9].to_vec()])).is_empty());
        assert_eq!(lab.counters[0].answers(Answer::Echo), 6);
    }
}

#[test]
fn a_solicitation_behind_extension_headers_is_answered_unless_it_may_be_of_pieces() {
    let mut lab = Lab::new(&both("rr", ""), 1);
    let expected = lab.send(solicitation(VIP6, GROUP, 58, &[]));
    assert_eq!((expected.len(), expected[0][54]), (1, 136));
    for (first, chain) in chains() {
        let sent = lab.send(solicitation(VIP6, GROUP, first, &chain));
        match first {
            44 => assert!(sent.is_empty(), "RFC 6980"),
            _ => assert_eq!(sent, expected, "{chain:?}"),
        }
    }
    assert_eq!(lab.dropped(DropReason::BadNd), 1);
}

#[test]
fn a_solicitation_is_answered_wherever_a_host_would_hear_it() {
    let mut lab = Lab::new(&both("rr", ""), 1);
    for target in [VIP6, OWN6] {
        for to in [ALL_NODES, v6(VIP6), v6(OWN6)] {
            let sent = lab.send(solicitation(target, to, 58, &[]));
            assert_eq!((sent.len(), sent[0][54]), (1, 136), "{target} at {to}");
            assert_eq!((address_at(&sent[0], 62), address_at(&sent[0], 38)), (v6(target), client(9)));
        }
    }
    // In a frame of its own (RFC 6085).
    let mut frame = solicitation(VIP6, ALL_NODES, 58, &[]);
    frame[..6].copy_from_slice(&OWN.0);
    assert_eq!(lab.send(frame).len(), 1);
    // Other groups than those that it listens to; and who looks whether an address is taken asks that one's group.
    let others = [v6("ff02::2"), v6("ff05::1"), client(7)];
    for to in others {
        assert!(lab.send(solicitation(VIP6, to, 58, &[])).is_empty(), "{to}");
    }
    let mut tentative = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &v6(VIP6).octets()].concat();
    let ends = [[0; 16], ALL_NODES.octets()].concat();
    let sum = Sum::default().bytes(&ends).long(24).word(58).bytes(&tentative).finish();
    tentative[2..4].copy_from_slice(sum.as_bytes());
    let mut frame = packet6(Ipv6Addr::UNSPECIFIED, ALL_NODES, (58, 255), &tentative);
    frame[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1]);
    assert!(lab.send(frame).is_empty());
    assert_eq!(lab.dropped(DropReason::BadNd), 1);
}

fn address_at(frame: &[u8], at: usize) -> Ipv6Addr {
    Ipv6Addr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).expect("16 bytes"))
}

/// What became of a packet with an option: `None`, nothing; 0, it was passed on; else the code and the pointer of the parameter problem.
fn verdict(sent: &[Vec<u8>]) -> Option<(u8, u32)> {
    let frame = sent.first()?;
    if frame[..6] != CLIENT_MAC.0 {
        return Some((0, 0));
    }
    assert_eq!((frame[20], frame[54], has_right_checksum(frame)), (58, 4, true));
    Some((frame[55], u32::from_be_bytes([frame[58], frame[59], frame[60], frame[61]])))
}

/// Options with the four actions, and what becomes of what has them.
const ACTIONS: [(u8, Option<(u8, u32)>); 4] =
    [(0x1e, Some((0, 0))), (0x5e, None), (0x9e, Some((2, 42))), (0xde, Some((2, 42)))];

#[test]
fn an_option_for_every_hop_is_obeyed_and_one_for_the_destination_is_its_affair() {
    let segment = |header: u8, option: u8, flags| {
        let payload = [options(ipv4::TCP, &[option, 2, 7, 7]), tcp(1_000, flags, 0)].concat();
        packet6(client(1), v6(VIP6), (header, 64), &payload)
    };
    for known in [false, true] {
        let mut lab = Lab::new(&both("rr", ""), 1);
        if known {
            lab.send(segment6(1, 1_000, SYN));
        }
        let flags = if known { ACK } else { SYN };
        for (option, expected) in ACTIONS {
            let given = segment(0, option, flags);
            let sent = lab.send(given.clone());
            assert_eq!(verdict(&sent), expected, "{option:#x}");
            if let (Some((2, _)), [answer]) = (expected, &sent[..]) {
                assert_eq!(address_at(answer, 22), v6(OWN6));
                assert_eq!(answer[62..], given[14..14 + answer.len() - 62]);
            }
            assert_eq!(verdict(&lab.send(segment(60, option, flags))), Some((0, 0)), "{option:#x}");
        }
        // A payload of that size is in no frame.
        let jumbo = [options(ipv4::TCP, &[0xc2, 4, 0, 1, 0, 0]), tcp(1_000, flags, 0)].concat();
        let sent = lab.send(packet6(client(1), v6(VIP6), (0, 64), &jumbo));
        assert_eq!(verdict(&sent), Some((0, 42)));
        assert_eq!(lab.dropped(DropReason::UnknownOption), 1);
        assert_eq!(lab.counters[0].answers(Answer::ParameterProblem), 3);
        lab.assert_counts_equal_a_recount();
    }
}

#[test]
fn of_what_is_its_own_weir_obeys_both_kinds_of_options() {
    for address in [VIP6, OWN6] {
        let mut lab = Lab::new(&both("rr", ""), 1);
        for header in [0, 60] {
            for (option, expected) in ACTIONS {
                let sent = lab.send(ping(address, header, &[options(58, &[option, 2, 7, 7])]));
                match expected {
                    Some((0, _)) => assert_eq!(sent[0][54], 129),
                    expected => assert_eq!(verdict(&sent), expected, "{header}: {option:#x}"),
                }
                // Of discovery nobody is told.
                let asked = solicitation(address, v6(address), header, &[options(58, &[option, 2, 7, 7])]);
                assert_eq!(lab.send(asked).len(), usize::from(option == 0x1e), "{header}: {option:#x}");
            }
        }
        assert_eq!(lab.dropped(DropReason::UnknownOption), 2 * (1 + 3));
    }
}

#[test]
fn so_many_senders_are_told_in_a_second_and_nobody_of_an_address_of_ours() {
    let mut lab = Lab::new(&both("rr", ""), 1);
    let asks = |source: Ipv6Addr| {
        let payload = [options(ipv4::TCP, &[0x9e, 2, 7, 7]), tcp(1_000, SYN, 0)].concat();
        packet6(source, v6(VIP6), (0, 64), &payload)
    };
    let told = (0..2_000).filter(|_| !lab.send(asks(client(1))).is_empty()).count();
    assert_eq!((told, lab.dropped(DropReason::IcmpRateLimited)), (1_000, 1_000));
    lab.pass_millis(1_000);
    assert!(lab.send(asks(v6(OWN6))).is_empty());
    assert_eq!(lab.dropped(DropReason::OwnSource), 1);
}

/// As [`both`], with a second port that has addresses of its own.
fn with_another_port() -> Config {
    let mut config = both("rr", "");
    let text = "[[port]]\nname = \"wan\"\ndevice = \"y\"\naddresses = [\"192.0.2.2/24\", \"2001:db8:2::2/64\", \"fe80::2/64\"]\n";
    let other = weir_config::parse("test", text).unwrap_or_else(|report| panic!("{report}")).config;
    config.ports.extend(other.ports);
    config
}

#[test]
fn a_ping_to_the_address_of_another_port_is_answered_as_of_ipv4_and_nobody_pings_from_one_of_ours() {
    let mut lab = Lab::with_macs(&with_another_port(), &[OWN, MacAddress([2, 0, 0, 0, 0, 2])]);
    let answer = lab.send(ping("2001:db8:2::2", 58, &[]));
    assert_eq!((answer.len(), answer[0][54], &answer[0][6..12]), (1, 129, &OWN.0[..]));
    assert_eq!((address_at(&answer[0], 22), address_at(&answer[0], 38)), (v6("2001:db8:2::2"), client(9)));
    assert!(lab.send(ping("fe80::2", 58, &[])).is_empty(), "it means somebody else here");
    let mut echo4 = frame(OWN, (CLIENT, 0), (Addr4::new(192, 0, 2, 2), 0), 0);
    echo4.truncate(34);
    echo4[14..34].copy_from_slice(Ipv4::new(ipv4::ICMP, CLIENT, Addr4::new(192, 0, 2, 2), 8, 64).as_bytes());
    echo4.extend([8, 0, 0xf7, 0xfe, 0, 0, 0, 1]);
    assert_eq!(lab.send(echo4).len(), 1, "of IPv4");
    // Others may have the addresses of another link here.
    let from = |source: &str, to: &str| {
        let mut message = vec![128, 0, 0, 0, 0, 7, 0, 1];
        let ends = [v6(source).octets(), v6(to).octets()].concat();
        let sum = Sum::default().bytes(&ends).long(8).word(58).bytes(&message).finish();
        message[2..4].copy_from_slice(sum.as_bytes());
        packet6(v6(source), v6(to), (58, 64), &message)
    };
    assert_eq!(lab.send(from("fe80::2", OWN6)).len(), 1);
    for (number, source) in [OWN6, VIP6, "2001:db8:2::2"].into_iter().enumerate() {
        for (to, dropped) in [(OWN6, 1), (VIP6, 2), ("2001:db8:2::2", 3)] {
            assert!(lab.send(from(source, to)).is_empty(), "from {source} to {to}");
            assert_eq!(lab.dropped(DropReason::OwnSource), number as u64 * 3 + dropped);
        }
    }
    // To find the station is that port's affair alone.
    assert!(lab.send(solicitation("2001:db8:2::2", v6(OWN6), 58, &[])).is_empty());
}

#[test]
fn what_a_host_would_answer_is_not_answered_behind_a_forbidden_option() {
    let mut lab = Lab::new(&both("rr", ""), 1);
    let udp = [3, 232, 0, 53, 0, 8, 0, 0];
    for to in [VIP6, OWN6] {
        for (protocol, l4) in [(ipv4::TCP, &tcp(1_000, ACK, 0)[..]), (ipv4::UDP, &udp[..])] {
            let mut l4 = l4.to_vec();
            put_checksum(&mut l4, protocol, &[client(9).octets(), v6(to).octets()].concat());
            for first in [0, 60] {
                let behind = |option: u8| {
                    let header = options(protocol, &[option, 4, 0, 0, 0, 0]);
                    packet6(client(9), v6(to), (first, 64), &[header, l4.clone()].concat())
                };
                let told = lab.send(behind(0x9e));
                assert_eq!(
                    (told.len(), &told[0][54..56], &told[0][58..62]),
                    (1, &[4, 2][..], &[0, 0, 0, 42][..])
                );
                assert_eq!(lab.send(behind(0x5e)), Vec::<Vec<u8>>::new());
                let answered = lab.send(behind(0x1e));
                assert_eq!(
                    (answered.len(), answered[0][20]),
                    (1, if protocol == ipv4::TCP { 6 } else { 58 })
                );
            }
        }
    }
    assert_eq!(lab.dropped(DropReason::UnknownOption), 8);
}
