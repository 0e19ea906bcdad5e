//! Virtual servers at IPv6 addresses of VRRP, as those at IPv4 ones.

use std::net::Ipv6Addr;

use zerocopy::IntoBytes;

use super::*;
use crate::wire::checksum::Sum;

const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100);
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x100);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 1);

/// As [`super::lab`].
fn lab6(more: &str) -> (Lab, Config) {
    let text = format!(
        "[connections]\ncapacity = 1024\n\
         [[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\", \"2001:db8::2/64\"]\n\
         [[virtual_server]]\nname = \"web\"\naddress = \"{VIP6}\"\nport = 80\nprotocol = \"tcp\"\n\
         [[virtual_server.real_server]]\naddress = \"2001:db8::b\"\n\
         [[neighbor]]\naddress = \"2001:db8::b\"\nmac = \"02:00:00:00:00:0b\"\n\
         [[vrrp]]\nname = \"vi\"\nport = \"lan\"\nvirtual_router_id = {VIRTUAL_ROUTER}\n\
         addresses = [\"{LINK_LOCAL}\", \"{VIP6}\"]\n{more}"
    );
    let config = weir_config::parse("test", &text).unwrap_or_else(|report| panic!("{report}")).config;
    (Lab::new(&config, 1), config)
}

fn mac6() -> MacAddress {
    virtual_router::mac6(VIRTUAL_ROUTER)
}

fn to6(link: MacAddress, destination: Ipv6Addr, ports: (u16, u16), segment: u8) -> Vec<u8> {
    let mut frame = [link.0, CLIENT_MAC.0].concat();
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, ipv4::TCP, 64]);
    frame.extend(CLIENT6.octets().iter().chain(&destination.octets()));
    frame.extend([ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, segment, 1, 0, 0, 0, 0, 0]);
    let (ends, l4) = frame[22..].split_at_mut(32);
    put_checksum(l4, ipv4::TCP, ends);
    frame
}

fn to_web(link: MacAddress, segment: u8) -> Vec<u8> {
    to6(link, VIP6, (1000, 80), segment)
}

#[test]
fn a_backup_serves_nothing() {
    let (mut lab, _) = lab6("");
    assert_eq!(lab.send(to_web(mac6(), SYN)), Vec::<Vec<u8>>::new());
    assert_eq!(lab.drops(DropReason::VrrpBackup), 1);
    assert_eq!(lab.send(to_web(OWN, SYN)), Vec::<Vec<u8>>::new());
    assert_eq!(lab.drops(DropReason::EtherType), 1);
    assert!(lab.snapshot.announcements.is_empty() && lab.directors[0].table.is_empty());
}

#[test]
fn a_master_is_at_the_virtual_mac_and_keeps_the_connections_it_had() {
    let (mut lab, config) = lab6("");
    lab.become_master(&config, true);
    for (link, segment) in [(mac6(), SYN), (mac6(), ACK), (OWN, ACK)] {
        let sent = lab.send(to_web(link, segment));
        assert_eq!(
            (sent.len(), &sent[0][..12]),
            (1, &[2, 0, 0, 0, 0, 11, OWN.0[0], OWN.0[1], 0, 0, 0, 1][..])
        );
    }
    assert_eq!(lab.send(to_web(mac(), ACK)), Vec::<Vec<u8>>::new(), "the MAC of IPv4");
    assert_eq!(lab.drops(DropReason::ForeignMac), 1);
    lab.become_master(&config, false);
    assert_eq!(lab.send(to_web(mac6(), ACK)), Vec::<Vec<u8>>::new());
    lab.become_master(&config, true);
    // A segment of an unknown connection would get a RST.
    assert_eq!(lab.send(to_web(mac6(), ACK))[0][..6], [2, 0, 0, 0, 0, 11]);
    lab.assert_counts_equal_a_recount();
}

#[test]
fn without_a_virtual_mac_the_ports_own_serves() {
    let (mut lab, config) = lab6("virtual_mac = false\n");
    lab.become_master(&config, true);
    assert_eq!(lab.send(to_web(OWN, SYN)).len(), 1);
    assert_eq!(lab.send(to_web(mac6(), SYN)), Vec::<Vec<u8>>::new());
    assert_eq!(lab.drops(DropReason::ForeignMac), 1);
}

#[test]
fn a_master_whose_lease_is_over_serves_nothing_at_the_virtual_mac() {
    let (mut lab, config) = lab6("");
    lab.become_master(&config, true);
    lab.now.cycles = 1;
    lab.pass_millis(1);
    assert_eq!(lab.counters[0].vrrp_fenced.get(), 1);
    assert_eq!(lab.send(to_web(mac6(), SYN)), Vec::<Vec<u8>>::new());
    assert_eq!(lab.drops(DropReason::VrrpBackup), 1);
    let ask = |link| {
        let body = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &VIP6.octets()].concat();
        let ends = [CLIENT6.octets(), VIP6.octets()].concat();
        let sum = Sum::default().bytes(&ends).long(body.len() as u32).word(58);
        let sum = sum.bytes(&body).finish();
        let mut frame = to6(link, VIP6, (0, 0), 0);
        frame.truncate(54);
        (frame[19], frame[20], frame[21]) = (body.len() as u8, 58, 255);
        frame.extend(body);
        frame[56..58].copy_from_slice(sum.as_bytes());
        frame
    };
    for link in [mac6(), OWN] {
        assert_eq!(lab.send(ask(link)), Vec::<Vec<u8>>::new(), "it does not say where the address is");
    }
}

#[test]
fn with_accept_off_only_virtual_servers_are_served() {
    for (accept, expected) in [(true, [0, 2]), (false, [2, 0])] {
        let (mut lab, config) = lab6(&format!("accept = {accept}\n"));
        lab.become_master(&config, true);
        assert_eq!(lab.send(to_web(mac6(), SYN)).len(), 1);
        let answers = [VIP6, LINK_LOCAL].map(|address| lab.send(to6(mac6(), address, (1000, 81), SYN)).len());
        let seen = [lab.drops(DropReason::NotAccepted), answers.iter().sum::<usize>() as u64];
        assert_eq!(seen, expected);
    }
}

#[test]
fn an_owner_serves_its_own_address_whether_it_is_master_or_not() {
    let mut config = lab6("").1;
    config.vrrp[0].priority = u8::MAX;
    let own = [LINK_LOCAL, VIP6].map(|address| ipnet::IpNet::new(address.into(), 64).expect("a network"));
    config.ports[0].addresses.extend(own);
    let mut lab = Lab::new(&config, 1);
    for is_master in [false, true, false] {
        lab.become_master(&config, is_master);
        assert_eq!(lab.send(to_web(OWN, SYN)).len(), 1, "master: {is_master}");
        assert_eq!(lab.send(to_web(mac6(), SYN)).len(), usize::from(is_master));
    }
}
