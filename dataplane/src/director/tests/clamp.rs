//! `clamp_mss`: what a SYN and its answer announce on the way through.

use super::ipv6::{OWN6, VIP6, client, packet6, v6};
use super::*;
use crate::wire::checksum::Sum;

/// A virtual server of each family by a method, and a port whose MTU is 1400. The real server of IPv4 is 10.0.0.11, that of IPv6
/// 2001:db8::11.
fn lab(method: &str, clamp: &str, capacity: u32) -> Lab {
    let port = if method == "nat" { 8080 } else { 80 };
    let service = |address: &str, server: &str| {
        format!(
            "[[virtual_server]]\nname = \"{address}\"\naddress = \"{address}\"\nport = 80\nprotocol = \"tcp\"\n{clamp}\n\
             forwarding = \"{method}\"\n[[virtual_server.real_server]]\naddress = \"{server}\"\nport = {port}\n\
             [[neighbor]]\naddress = \"{server}\"\nmac = \"02:00:00:00:00:0b\"\n"
        )
    };
    let text = format!(
        "[connections]\ncapacity = {capacity}\n\
         [[port]]\nname = \"lan\"\ndevice = \"x\"\nmtu = 1400\naddresses = [\"10.0.0.2/24\", \"{OWN6}/64\"]\n\
         [[route]]\ndestination = \"::/0\"\ngateway = \"2001:db8::fe\"\n\
         [[neighbor]]\naddress = \"2001:db8::fe\"\nmac = \"02:00:00:00:00:cc\"\n\
         [[neighbor]]\naddress = \"10.0.0.200\"\nmac = \"02:00:00:00:00:cc\"\n{}{}",
        service("10.0.0.100", "10.0.0.11"),
        service(VIP6, "2001:db8::11")
    );
    let config = weir_config::parse("test", &text).unwrap_or_else(|report| panic!("{report}")).config;
    Lab::new(&config, 1)
}

/// A segment of IPv4 that announces 1460 octets, behind an option of one octet.
fn announcing(source: (Addr4, u16), destination: (Addr4, u16), segment: u8) -> Vec<u8> {
    let mut bytes = frame(OWN, source, destination, segment);
    bytes.extend([1, 2, 4, 0x05, 0xb4, 1, 1, 1]);
    bytes[46] = 0x70;
    bytes[14..34].copy_from_slice(Ipv4::new(ipv4::TCP, source.0, destination.0, 28, 64).as_bytes());
    bytes[50..52].fill(0);
    let (ends, l4) = bytes[26..].split_at_mut(8);
    put_checksum(l4, ipv4::TCP, ends);
    bytes
}

/// The same of IPv6.
fn announcing6(
    (source, source_port): (std::net::Ipv6Addr, u16),
    (destination, port): (std::net::Ipv6Addr, u16),
    flags: u8,
) -> Vec<u8> {
    let mut bytes = [source_port.to_be_bytes(), port.to_be_bytes()].concat();
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x70, flags, 1, 0, 0, 0, 0, 0, 1, 2, 4, 0x05, 0xb4, 1, 1, 1]);
    let ends = [source.octets(), destination.octets()].concat();
    let sum = Sum::default().bytes(&ends).long(28).word(6).bytes(&bytes).finish();
    bytes[16..18].copy_from_slice(sum.as_bytes());
    packet6(source, destination, (ipv4::TCP, 64), &bytes)
}

/// What the one frame that was sent announces, if its checksum is right. `l4`: where its segment begins.
fn announced(sent: &[Vec<u8>], l4: usize) -> Option<u16> {
    let [frame] = sent else { return None };
    // The addresses of IPv4 take 8 octets in front, those of IPv6 32.
    let sums_up = |len: usize| {
        let (ends, segment) = (&frame[l4 - len..l4], &frame[l4..]);
        Sum::default().bytes(ends).long(segment.len() as u32).word(6).bytes(segment).fold() == 0xffff
    };
    assert!(sums_up(8) || sums_up(32), "{frame:x?}");
    Some(u16::from_be_bytes([frame[l4 + 23], frame[l4 + 24]]))
}

fn syn(port: u16) -> Vec<u8> {
    announcing((CLIENT, port), (VIP, 80), SYN)
}

fn answer(port: u16) -> Vec<u8> {
    announcing((Addr4::new(10, 0, 0, 11), 8080), (CLIENT, port), SYN | ACK)
}

fn syn6(port: u16) -> Vec<u8> {
    announcing6((client(1), port), (v6(VIP6), 80), SYN)
}

fn answer6(port: u16) -> Vec<u8> {
    announcing6((v6("2001:db8::11"), 8080), (client(1), port), SYN | ACK)
}

#[test]
fn both_ends_of_nat_announce_what_fits_the_ways_of_weir() {
    for (clamp, of_ipv4, of_ipv6, count) in
        [("clamp_mss = \"auto\"", 1360, 1340, 5), ("clamp_mss = 1200", 1200, 1200, 5), ("", 1460, 1460, 0)]
    {
        let mut lab = lab("nat", clamp, 1024);
        assert_eq!(announced(&lab.send(syn(1000)), 34), Some(of_ipv4), "{clamp}");
        assert_eq!(announced(&lab.send(syn(1000)), 34), Some(of_ipv4), "sent again, {clamp}");
        assert_eq!(announced(&lab.send(answer(1000)), 34), Some(of_ipv4), "{clamp}");
        assert_eq!(announced(&lab.send(syn6(1000)), 54), Some(of_ipv6), "{clamp}");
        assert_eq!(announced(&lab.send(answer6(1000)), 54), Some(of_ipv6), "{clamp}");
        assert_eq!(lab.counters[0].clamped.get(), count, "{clamp}");
        // Only a SYN announces anything.
        let sent = lab.send(announcing((CLIENT, 1000), (VIP, 80), ACK));
        assert_eq!(announced(&sent, 34), Some(1460), "{clamp}");
        lab.assert_counts_equal_a_recount();
    }
}

#[test]
fn a_syn_that_goes_no_further_is_not_clamped() {
    for method in ["dr", "tun", "nat"] {
        let mut lab = lab(method, "clamp_mss = 1200", 1024);
        let (mut last, mut last6) = (syn(1000), syn6(1000));
        last[22] = 1;
        last[24..26].fill(0);
        let sum = Sum::default().bytes(&last[14..34]).finish();
        last[24..26].copy_from_slice(sum.as_bytes());
        last6[21] = 1;
        for last in [last, last6] {
            assert_eq!(lab.send(last).len(), 1, "{method}: its sender is told");
        }
        assert_eq!(lab.counters[0].clamped.get(), 0, "{method}");
        lab.send(syn(1000));
        lab.send(syn6(1000));
        assert_eq!(lab.counters[0].clamped.get(), 2, "{method}");
    }
}

#[test]
fn auto_leaves_room_for_a_tunnel() {
    let mut direct = lab("dr", "clamp_mss = \"auto\"", 1024);
    assert_eq!(announced(&direct.send(syn(1000)), 34), Some(1360));
    assert_eq!(announced(&direct.send(syn6(1000)), 54), Some(1340));
    let mut tunnel = lab("tun", "clamp_mss = \"auto\"", 1024);
    assert_eq!(announced(&tunnel.send(syn(1000)), 54), Some(1340));
    assert_eq!(announced(&tunnel.send(syn6(1000)), 94), Some(1300));
}

#[test]
fn connections_without_a_record_are_clamped_too() {
    let mut lab = lab("nat", "clamp_mss = \"auto\"", 1024);
    for port in 1000..1000 + 1024 {
        lab.send(from_client(port, SYN));
    }
    let mut sent = 0;
    for port in 5000..5004 {
        assert_eq!(announced(&lab.send(syn(port)), 34), Some(1360));
        assert_eq!(announced(&lab.send(answer(port)), 34), Some(1360));
        assert_eq!(announced(&lab.send(syn6(port)), 54), Some(1340));
        assert_eq!(announced(&lab.send(answer6(port)), 54), Some(1340));
        sent += 4;
    }
    assert!(lab.counters[0].untracked.get() > 0);
    assert_eq!(lab.counters[0].clamped.get(), sent);
}
