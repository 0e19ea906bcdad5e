//! Extension headers and several workers: devices that spread packets by their ports find none behind such a header, so it may
//! come to another worker than the rest of its flow.

use super::*;

/// The segment behind a header of eight bytes: hop-by-hop options, destination options or a routing header that is done.
fn behind(header: u8, number: u8, port: u16, segment: u8) -> Vec<u8> {
    let mut l4 = tcp(port, segment, 0);
    put_checksum(&mut l4, ipv4::TCP, &[client(number).octets(), v6(VIP6).octets()].concat());
    let payload = [&[ipv4::TCP, 0, 1, 4, 0, 0, 0, 0][..], &l4].concat();
    packet6(client(number), v6(VIP6), (header, 64), &payload)
}

const HEADERS: [u8; 2] = [0, 60];

fn to(sent: &[Vec<u8>]) -> Option<u8> {
    sent.first().map(|frame| if frame[..6] == CLIENT_MAC.0 { 0 } else { frame[5] })
}

#[test]
fn a_flows_packets_are_its_connections_through_any_worker() {
    for header in HEADERS {
        let mut lab = Lab::new(&both("rr", ""), 2);
        // The second worker gives its numbers to other clients.
        (50..60).for_each(|number| _ = lab.send_to(1, segment6(number, 2_000, SYN)));
        for number in 1..=6 {
            let server = to(&lab.send_to(0, segment6(number, 1_000, SYN)));
            assert!(server.is_some_and(|octet| octet != 0));
            for segment in [SYN, ACK, ACK | 8] {
                let sent = lab.send_to(1, behind(header, number, 1_000, segment));
                assert_eq!(to(&sent), server, "client {number}, header {header}, segment {segment:#x}");
            }
            assert_eq!(to(&lab.send_to(0, segment6(number, 1_000, ACK))), server);
        }
        lab.send_to(1, behind(header, 1, 1_000, RST));
        lab.pass_millis(1);
        assert_eq!((lab.directors[0].table.len(), lab.directors[1].table.len()), (6, 10));
        let closed = |record: &crate::conn::record::Record| record.state() == crate::conn::state::tcp::CLOSE;
        assert_eq!(lab.directors[0].table.iter().filter(closed).count(), 1, "it moves the connection along");
        lab.assert_counts_equal_a_recount();
    }
}

#[test]
fn a_flow_that_such_a_packet_began_goes_on_with_others_through_another_worker() {
    let mut lab = Lab::new(&both("rr", ""), 2);
    let first = to(&lab.send_to(1, behind(0, 1, 1_000, SYN)));
    assert_eq!((lab.directors[0].table.len(), lab.directors[1].table.len()), (0, 1));
    assert_eq!(to(&lab.send_to(0, segment6(1, 1_000, SYN))), first, "it is sent again, by another way");
    for pause in [0, 1, 800, 800, 800] {
        lab.pass_millis(pause * 1_000);
        // One that would begin it may be the first, sent again.
        for segment in [SYN, ACK] {
            let sent = lab.send_to(0, segment6(1, 1_000, segment));
            assert_eq!(to(&sent), first, "{segment:#x} after {pause} s");
        }
        lab.pass_millis(1);
    }
    assert_eq!((lab.directors[0].table.len(), lab.directors[1].table.len()), (0, 1));
    // Of no connection anywhere.
    assert_eq!(to(&lab.send_to(0, segment6(2, 1_000, ACK))), Some(0));
    assert_eq!(to(&lab.send_to(1, behind(60, 2, 1_000, ACK))), Some(0));
    lab.assert_counts_equal_a_recount();
}

#[test]
fn where_nobody_sends_such_packets_no_other_table_is_looked_at() {
    let mut lab = Lab::new(&both("rr", ""), 2);
    lab.send_to(0, segment6(1, 1_000, SYN));
    lab.send_to(1, segment6(1, 1_000, SYN));
    assert_eq!((lab.directors[0].table.len(), lab.directors[1].table.len()), (1, 1));
    assert!(!lab.directors[0].shared.displaced.has_any(lab.now));
}
