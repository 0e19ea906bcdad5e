//! Neighbour discovery and echo for IPv6 addresses of VRRP.

use std::net::Ipv6Addr;

use super::*;
use crate::wire::checksum::Sum;

const VIP6: &str = "2001:db8::100";
const CLIENT6: &str = "2001:db8::c8";
const ALL_NODES: &str = "ff02::1";
const GROUP: &str = "ff02::1:ff00:100";
const GROUP_MAC: MacAddress = MacAddress([0x33, 0x33, 0xff, 0, 1, 0]);
const EVIL: MacAddress = MacAddress([2, 0, 0, 0, 0, 0x66]);

fn lab6(more: &str, is_master: bool) -> Lab {
    let text = format!(
        "[connections]\ncapacity = 1024\n\
         [[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\"]\n\
         [[vrrp]]\nname = \"vi\"\nport = \"lan\"\nvirtual_router_id = {VIRTUAL_ROUTER}\nversion = 3\n\
         addresses = [\"fe80::100\", \"{VIP6}\"]\n{more}"
    );
    let config = weir_config::parse("test", &text).expect("a valid file").config;
    let mut lab = Lab::new(&config, 1);
    lab.become_master(&config, is_master);
    lab
}

fn mac6() -> MacAddress {
    virtual_router::mac6(VIRTUAL_ROUTER)
}

fn octets(address: &str) -> [u8; 16] {
    address.parse::<Ipv6Addr>().expect("an address").octets()
}

fn checksum(source: &[u8], destination: &[u8], message: &[u8]) -> [u8; 2] {
    let sum = Sum::default().bytes(source).bytes(destination).long(message.len() as u32).word(58);
    sum.bytes(message).finish().to_bytes()
}

/// An ICMPv6 message without its checksum, on its way.
fn icmp6(link: (MacAddress, MacAddress), ends: (&str, &str), hop_limit: u8, message: &[u8]) -> Vec<u8> {
    let (source, destination) = (octets(ends.0), octets(ends.1));
    let mut frame = [link.1.0, link.0.0].concat();
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, message.len() as u8, 58, hop_limit]);
    frame.extend(source.iter().chain(&destination));
    let at = frame.len() + 2;
    frame.extend(message);
    frame[at..at + 2].copy_from_slice(&checksum(&source, &destination, message));
    frame
}

fn message(kind: u8, flags: u8, target: &str, options: &[u8]) -> Vec<u8> {
    [&[kind, 0, 0, 0, flags, 0, 0, 0][..], &octets(target), options].concat()
}

fn option(kind: u8, mac: MacAddress) -> Vec<u8> {
    [&[kind, 1][..], &mac.0].concat()
}

fn who_has6() -> Vec<u8> {
    let message = message(135, 0, VIP6, &option(1, CLIENT_MAC));
    icmp6((CLIENT_MAC, GROUP_MAC), (CLIENT6, GROUP), 255, &message)
}

/// The advertisement that answers.
fn answer(to: (MacAddress, &str), flags: u8, mac: MacAddress) -> Vec<u8> {
    icmp6((mac, to.0), (VIP6, to.1), 255, &message(136, flags, VIP6, &option(2, mac)))
}

#[test]
fn a_master_is_at_the_virtual_mac_and_a_backup_says_nothing() {
    let mut lab = lab6("", false);
    assert_eq!(lab.send(who_has6()), Vec::<Vec<u8>>::new());
    assert_eq!(lab.drops(DropReason::EtherType), 1);
    let ping = icmp6((CLIENT_MAC, mac6()), (CLIENT6, VIP6), 64, &[128, 0, 0, 0, 1, 2, 3, 4, 5]);
    assert_eq!(lab.send(ping.clone()), Vec::<Vec<u8>>::new());
    assert_eq!(lab.drops(DropReason::VrrpBackup), 1);
    let mut lab = lab6("", true);
    assert_eq!(lab.send(who_has6()), [answer((CLIENT_MAC, CLIENT6), 0xe0, mac6())]);
    assert_eq!(lab.counters[0].answers(Answer::Nd), 1);
    let pong = icmp6((mac6(), CLIENT_MAC), (VIP6, CLIENT6), 64, &[129, 0, 0, 0, 1, 2, 3, 4, 5]);
    assert_eq!(lab.send(ping), [pong]);
    lab.now.cycles = 1;
    lab.pass_millis(1);
    assert_eq!(lab.counters[0].vrrp_fenced.get(), 1, "its lease is over");
    assert_eq!(lab.send(who_has6()), Vec::<Vec<u8>>::new());
}

#[test]
fn who_asks_for_reachability_or_before_it_has_an_address_is_answered() {
    let mut lab = lab6("", true);
    let unicast = icmp6((CLIENT_MAC, mac6()), (CLIENT6, VIP6), 255, &message(135, 0, VIP6, &[]));
    assert_eq!(lab.send(unicast), [answer((CLIENT_MAC, CLIENT6), 0xe0, mac6())]);
    let nonce = [14, 1, 1, 2, 3, 4, 5, 6];
    let probe = icmp6((CLIENT_MAC, GROUP_MAC), ("::", GROUP), 255, &message(135, 0, VIP6, &nonce));
    let everybody = MacAddress([0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(lab.send(probe), [answer((everybody, ALL_NODES), 0xa0, mac6())]);
}

fn tagged(mut frame: Vec<u8>, control: u16) -> Vec<u8> {
    let [a, b] = control.to_be_bytes();
    frame.splice(12..12, [0x81, 0, a, b]);
    frame
}

#[test]
fn a_tag_that_tells_a_priority_alone_is_of_the_ports_own_network() {
    let mut lab = lab6("", true);
    let answer = answer((CLIENT_MAC, CLIENT6), 0xe0, mac6());
    assert_eq!(lab.send(tagged(who_has6(), 0xa000)), [tagged(answer, 0xa000)]);
    let ping = icmp6((CLIENT_MAC, mac6()), (CLIENT6, VIP6), 64, &[128, 0, 0, 0, 1, 2, 3, 4, 5]);
    let pong = icmp6((mac6(), CLIENT_MAC), (VIP6, CLIENT6), 64, &[129, 0, 0, 0, 1, 2, 3, 4, 5]);
    assert_eq!(lab.send(tagged(ping.clone(), 0xa000)), [tagged(pong, 0xa000)]);
    for frame in [who_has6(), ping] {
        assert_eq!(lab.send(tagged(frame, 0xa007)), Vec::<Vec<u8>>::new(), "another network");
    }
}

#[test]
fn without_a_virtual_mac_it_is_the_ports_own() {
    let mut lab = lab6("virtual_mac = false\n", true);
    assert_eq!(lab.send(who_has6()), [answer((CLIENT_MAC, CLIENT6), 0xe0, OWN)]);
}

#[test]
fn what_is_not_valid_is_refused() {
    let ask =
        |link, ends, hop_limit, options: &[u8]| icmp6(link, ends, hop_limit, &message(135, 0, VIP6, options));
    let link = (CLIENT_MAC, GROUP_MAC);
    let source = option(1, CLIENT_MAC);
    let mut code = message(135, 0, VIP6, &source);
    code[1] = 1;
    let mut checksum = who_has6();
    checksum[56] ^= 1;
    let cases = [
        ("came over a router", ask(link, (CLIENT6, GROUP), 254, &source)),
        ("option without a length", ask(link, (CLIENT6, GROUP), 255, &[1, 0, 0, 0, 0, 0, 0, 0])),
        ("option cut", ask(link, (CLIENT6, GROUP), 255, &source[..7])),
        ("probe with a MAC", ask(link, ("::", GROUP), 255, &source)),
        ("probe to one", ask((CLIENT_MAC, mac6()), ("::", VIP6), 255, &[])),
        ("from a group", ask(link, ("ff02::5", GROUP), 255, &source)),
        ("from an address of IPv4", ask(link, ("::ffff:10.0.0.7", GROUP), 255, &source)),
        ("from the loopback address", ask(link, ("::1", GROUP), 255, &source)),
        ("MAC of a group", ask(link, (CLIENT6, GROUP), 255, &option(1, GROUP_MAC))),
        ("no MAC", ask(link, (CLIENT6, GROUP), 255, &option(1, MacAddress([0; 6])))),
        ("MAC of weir's", ask(link, (CLIENT6, GROUP), 255, &option(1, OWN))),
        ("virtual MAC", ask(link, (CLIENT6, GROUP), 255, &option(1, mac6()))),
        ("code", icmp6(link, (CLIENT6, GROUP), 255, &code)),
        ("checksum", checksum),
    ];
    let mut lab = lab6("", true);
    for (number, (name, frame)) in cases.into_iter().enumerate() {
        assert_eq!(lab.send(frame), Vec::<Vec<u8>>::new(), "{name}");
        assert_eq!(lab.drops(DropReason::BadNd), number as u64 + 1, "{name}");
    }
    // What asks for others' addresses, or in a frame to somebody else, is none of weir's business.
    let cases = [
        icmp6(link, (CLIENT6, "ff02::1:ff00:101"), 255, &message(135, 0, "2001:db8::101", &source)),
        ask((CLIENT_MAC, EVIL), (CLIENT6, VIP6), 255, &source),
        ask((CLIENT_MAC, GROUP_MAC), (CLIENT6, ALL_NODES), 255, &source),
    ];
    for frame in cases {
        assert_eq!(lab.send(frame), Vec::<Vec<u8>>::new());
    }
    assert_eq!(lab.drops(DropReason::EtherType), 3);
}

#[test]
fn claims_of_others_are_conflicts_and_the_groups_are_not() {
    let mut lab = lab6("", true);
    let claim = |mac, ends: (&str, &str)| {
        icmp6(
            (mac, MacAddress([0x33, 0x33, 0, 0, 0, 1])),
            ends,
            255,
            &message(136, 0x20, VIP6, &option(2, mac)),
        )
    };
    lab.send(claim(mac6(), (VIP6, ALL_NODES)));
    assert_eq!(lab.counters[0].arp_conflicts.get(), 0);
    lab.send(claim(EVIL, (VIP6, ALL_NODES)));
    lab.send(claim(EVIL, ("fe80::66", ALL_NODES)));
    lab.send(icmp6(
        (EVIL, GROUP_MAC),
        (VIP6, GROUP),
        255,
        &message(135, 0, "2001:db8::c8", &option(1, EVIL)),
    ));
    assert_eq!((lab.counters[0].arp_conflicts.get(), lab.drops(DropReason::Conflict)), (3, 3));
}

#[test]
fn with_accept_off_it_is_found_but_does_not_answer_pings() {
    let mut lab = lab6("accept = false\n", true);
    assert_eq!(lab.send(who_has6()).len(), 1);
    let ping =
        |destination| icmp6((CLIENT_MAC, mac6()), (CLIENT6, destination), 64, &[128, 0, 0, 0, 1, 2, 3, 4]);
    assert_eq!(lab.send(ping(VIP6)), Vec::<Vec<u8>>::new());
    assert_eq!(lab.drops(DropReason::NotAccepted), 1);
}

#[test]
fn the_checksum_of_an_echo_is_that_of_a_full_computation_for_ipv6_too() {
    let mut lab = lab6("", true);
    for word in 0..=u16::MAX {
        let [a, b] = word.to_be_bytes();
        let ping = icmp6((CLIENT_MAC, mac6()), (CLIENT6, VIP6), 64, &[128, 0, 0, 0, a, b, 0, 0]);
        let reply = icmp6((mac6(), CLIENT_MAC), (VIP6, CLIENT6), 64, &[129, 0, 0, 0, a, b, 0, 0]);
        assert_eq!(lab.send(ping), [reply]);
    }
}

#[test]
fn an_echo_is_padded_no_more_than_it_must_and_no_longer_than_the_mtu() {
    let mut lab = lab6("", true);
    let ping = |message: &[u8]| {
        let mut frame = icmp6((CLIENT_MAC, mac6()), (CLIENT6, VIP6), 64, message);
        frame[18..20].copy_from_slice(&(message.len() as u16).to_be_bytes());
        frame
    };
    let short = ping(&[128, 0, 0, 0, 1, 2, 3, 4]);
    assert_eq!(lab.send([&short[..], &[0xaa; 700]].concat())[0].len(), 62);
    let of = |len: usize| [&[128, 0, 0, 0][..], &vec![7; len - 4]].concat();
    assert_eq!(lab.send(ping(&of(1_460))).len(), 1);
    assert_eq!(lab.send(ping(&of(1_461))), Vec::<Vec<u8>>::new());
    assert_eq!(lab.drops(DropReason::TooBig), 1);
}
