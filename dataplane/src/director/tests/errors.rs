//! ICMP errors of others whose packets end where their frames do not: what lies behind the packet's end is not read, not
//! translated and not passed on.

use super::*;
use crate::wire::checksum::Sum;
use crate::wire::l4::icmp;

/// A router on the way to the clients, and to the real servers.
const ROUTER: u32 = 0x0a00_00fa;
const SERVER: u32 = 0x0a00_000b;
const OWN_ADDRESS: u32 = 0x0a00_0002;
const UNREACHABLE: [u8; 8] = [icmp::UNREACHABLE, 1, 0, 0, 0, 0, 0, 0];
const NEEDS_CUTTING: [u8; 8] = [icmp::UNREACHABLE, icmp::FRAGMENTATION_NEEDED, 0, 0, 0, 0, 5, 0x78];

/// A packet from `source` to `destination`, without its link header.
fn packet_of(protocol: u8, (source, destination): (u32, u32), payload: &[u8]) -> Vec<u8> {
    [Ipv4::new(protocol, source, destination, payload.len(), 64).as_bytes(), payload].concat()
}

/// An ICMP error to `to` that holds `inside` bytes of `quote`. What is left of it stands behind the packet.
fn error_frame(to: u32, head: [u8; 8], quote: &[u8], inside: usize) -> Vec<u8> {
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

/// What a real server was sent in a tunnel for a segment of the client's.
fn tunnel_packet() -> Vec<u8> {
    let inner = from_client(1000, ACK)[14..].to_vec();
    packet_of(ipv4::IPIP, (OWN_ADDRESS, SERVER), &inner)
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
                assert_eq!(
                    (&told[26..30], &told[30..34]),
                    (&VIP.to_be_bytes()[..], &CLIENT.to_be_bytes()[..])
                );
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
            assert_eq!(sent.len(), usize::from(inside >= 24), "{inside} bytes quoted to {to:x}");
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
