//! What is of no connection and no virtual server, and what may not be answered.

use super::*;

#[test]
fn an_error_that_can_not_go_on_is_not_answered_whatever_its_type() {
    let mut lab = Lab::new(&both("rr", ""), 1);
    lab.send(segment6(1, 1_000, SYN));
    let mut answer = tcp(80, ACK, 0);
    answer[2..4].copy_from_slice(&1_000_u16.to_be_bytes());
    let quote = packet6(v6(VIP6), client(1), (ipv4::TCP, 60), &answer)[14..].to_vec();
    for kind in 0..128 {
        let sent = lab.send(icmp6(VIP6, (kind, 1), &[&[0, 0, 5, 0][..], &quote].concat()));
        assert_eq!(sent, Vec::<Vec<u8>>::new(), "type {kind}");
    }
    assert_eq!(lab.dropped(DropReason::TtlExceeded), 128);
}

#[test]
fn of_what_asks_and_tells_a_vip_answers_echo_requests_alone() {
    let mut lab = Lab::new(&both("rr", ""), 1);
    for kind in 128..=255 {
        let sent = lab.send(icmp6(VIP6, (kind, 64), &[1, 2, 3, 4, 5, 6, 7, 8]));
        assert_eq!(sent.len(), usize::from(kind == 128), "type {kind}");
    }
    assert_eq!(lab.counters[0].answers(Answer::Echo), 1);
}

#[test]
fn headers_with_nothing_behind_them_are_no_unknown_protocol() {
    let mut lab = Lab::new(&both("rr", ""), 1);
    let bare = packet6(client(1), v6(VIP6), (59, 64), &[]);
    let behind = packet6(client(1), v6(VIP6), (60, 64), &[59, 0, 1, 4, 0, 0, 0, 0, 1, 2, 3]);
    for frame in [bare, behind] {
        assert_eq!(lab.send(frame), Vec::<Vec<u8>>::new());
    }
    assert_eq!(lab.dropped(DropReason::NotServed), 2);
}

#[test]
fn what_comes_from_no_host_is_neither_served_nor_answered() {
    let mut lab = Lab::new(&both("rr", ""), 1);
    for (number, source) in
        ["::ffff:192.0.2.1", "::ffff:127.0.0.1", "::1", "::", "ff02::1"].into_iter().enumerate()
    {
        for flags in [SYN, ACK] {
            let segment = packet6(v6(source), v6(VIP6), (ipv4::TCP, 64), &tcp(80, flags, 0));
            assert_eq!(lab.send(segment), Vec::<Vec<u8>>::new(), "{source}");
        }
        let mut message = [128, 0, 0, 0, 0, 1, 0, 1];
        let ends = [v6(source).octets(), v6(VIP6).octets()].concat();
        let sum = Sum::default().bytes(&ends).long(8).word(58).bytes(&message).finish();
        message[2..4].copy_from_slice(sum.as_bytes());
        assert_eq!(
            lab.send(packet6(v6(source), v6(VIP6), (58, 64), &message)),
            Vec::<Vec<u8>>::new(),
            "{source}"
        );
        assert_eq!(lab.dropped(DropReason::BadIpHeader), 3 * (number as u64 + 1), "{source}");
    }
    assert_eq!(lab.directors[0].table.len(), 0);
}

#[test]
fn an_own_address_answers_as_a_host_does_where_nothing_listens() {
    let mut lab = Lab::new(&both("rr", ""), 1);
    let own = |protocol, bytes: &[u8]| packet6(client(1), v6(OWN6), (protocol, 64), bytes);
    let reset = lab.send(own(ipv4::TCP, &tcp(1_000, SYN, 0)));
    assert_eq!(fate(&reset), Some((0, RST | ACK)));
    assert_eq!((&reset[0][22..38], &reset[0][38..54]), (&v6(OWN6).octets()[..], &client(1).octets()[..]));
    let init = [&[3, 232, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 20][..], &[0; 16]].concat();
    for (protocol, bytes, said) in
        [(ipv4::UDP, &[3, 232, 0, 53, 0, 8, 0, 0][..], [1, 4]), (ipv4::SCTP, &init[..], [4, 1])]
    {
        let sent = lab.send(own(protocol, bytes));
        assert_eq!((sent.len(), &sent[0][54..56]), (1, &said[..]), "protocol {protocol}");
    }
    assert_eq!(lab.send(own(ipv4::TCP, &tcp(1_000, RST, 0))), Vec::<Vec<u8>>::new());
    assert_eq!(lab.dropped(DropReason::NotServed), 1);
    let spoofed = packet6(v6(VIP6), v6(OWN6), (ipv4::TCP, 64), &tcp(1_000, SYN, 0));
    assert_eq!(lab.send(spoofed), Vec::<Vec<u8>>::new());
    assert_eq!(lab.dropped(DropReason::OwnSource), 1);
}

#[test]
fn what_came_with_a_wrong_checksum_is_not_answered() {
    let mut lab = Lab::new(&both("rr", ""), 1);
    let udp = [3, 232, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4];
    let mut of_ipv4 = [&OWN.0[..], &CLIENT_MAC.0, &[8, 0]].concat();
    of_ipv4.extend(Ipv4::new(ipv4::UDP, CLIENT, VIP, udp.len(), 64).as_bytes());
    of_ipv4.extend(udp);
    // A datagram of IPv4 may have none.
    assert_eq!(lab.send(of_ipv4.clone()).len(), 1);
    let (ends, l4) = of_ipv4[26..].split_at_mut(8);
    put_checksum(l4, ipv4::UDP, ends);
    let syn = frame(OWN, (CLIENT, 1_000), (VIP, 81), SYN);
    let mut syn6 = segment6(1, 1_000, SYN);
    (syn6[57], syn6[71]) = (81, syn6[71] - 1);
    let datagrams = [VIP6, OWN6].map(|to| packet6(client(1), v6(to), (ipv4::UDP, 64), &udp));
    let [to_vip, to_own] = datagrams;
    let strays = [segment4(9, 1_000, ACK), segment6(9, 1_000, ACK)];
    let all = [of_ipv4, syn, syn6, to_vip, to_own].into_iter().chain(strays);
    for (number, right) in (0..).zip(all) {
        assert_eq!(lab.send(right.clone()).len(), 1, "{number}");
        let mut wrong = right;
        *wrong.last_mut().expect("it has bytes") ^= 1;
        assert_eq!(lab.send(wrong), Vec::<Vec<u8>>::new(), "{number}");
        assert_eq!(lab.dropped(DropReason::BadL4Header), number + 1);
    }
    let mut none = packet6(client(1), v6(VIP6), (ipv4::UDP, 64), &udp);
    none[60..62].fill(0);
    assert_eq!(lab.send(none), Vec::<Vec<u8>>::new(), "one of IPv6 has to have one");
    assert_eq!(lab.dropped(DropReason::BadL4Header), 8);
}
