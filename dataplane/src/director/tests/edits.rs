//! Connections of real servers that were edited, or taken out of the file.

use weir_config::model::Forwarding;

use super::*;

/// Two real servers at port 80, by these methods.
fn two(methods: [Forwarding; 2], extra: &str) -> Config {
    let mut config = config("dr", "rr", &[(11, 1), (12, 1)], extra);
    for (server, method) in config.virtual_servers[0].real_servers.iter_mut().zip(methods) {
        server.forwarding = method;
    }
    config
}

/// Source, source port, destination and destination port of the only frame.
fn ends(sent: &[Vec<u8>]) -> Option<(Addr4, u16, Addr4, u16)> {
    let [frame] = sent else { return None };
    let word = |at: usize| Addr4::from(*frame[at..].first_chunk::<4>().expect("four bytes"));
    let half = |at: usize| u16::from_be_bytes(frame[at..at + 2].try_into().expect("two bytes"));
    Some((word(26), half(34), word(30), half(36)))
}

fn rip(octet: u8) -> Addr4 {
    Addr4::new(10, 0, 0, octet)
}

fn answer(octet: u8, client_port: u16, segment: u8) -> Vec<u8> {
    frame(OWN, (rip(octet), 80), (CLIENT, client_port), segment)
}

const DR: [Forwarding; 2] = [Forwarding::Dr, Forwarding::Dr];
const NAT: [Forwarding; 2] = [Forwarding::Nat, Forwarding::Nat];

#[test]
fn connections_keep_the_method_that_they_began_with() {
    for no_express in [false, true] {
        let mut lab = Lab::new(&two(DR, ""), 1);
        lab.directors[0].no_express = no_express;
        let by_dr = Some((CLIENT, 1000, VIP, 80));
        assert_eq!(ends(&lab.send(from_client(1000, SYN))), by_dr);
        assert_eq!(ends(&lab.send(from_client(1000, ACK))), by_dr);
        lab.reload(&two(NAT, ""));
        assert_eq!(ends(&lab.send(from_client(1000, ACK))), by_dr);
        assert_eq!(ends(&lab.send(from_client(2000, SYN))), Some((CLIENT, 2000, rip(11), 80)));
        assert_eq!(ends(&lab.send(answer(11, 2000, SYN | ACK))), Some((VIP, 80, CLIENT, 2000)));
        lab.assert_counts_equal_a_recount();
        lab.reload(&two(DR, ""));
        assert_eq!(ends(&lab.send(from_client(1000, ACK))), by_dr);
        assert_eq!(ends(&lab.send(from_client(2000, ACK))), Some((CLIENT, 2000, rip(11), 80)));
        assert_eq!(ends(&lab.send(answer(11, 2000, ACK))), Some((VIP, 80, CLIENT, 2000)));
        // An edit of the method moves nobody in the round.
        assert_eq!(lab.server_of(3000, SYN), Some(12));
        lab.assert_counts_equal_a_recount();
    }
}

#[test]
fn an_edited_server_is_one_server_with_the_connections_of_both_methods() {
    let mut lab = Lab::new(&two(DR, ""), 1);
    (0..10).for_each(|port| assert!(lab.server_of(1000 + port, SYN).is_some()));
    lab.reload(&two(NAT, ""));
    (0..10).for_each(|port| assert!(lab.server_of(2000 + port, SYN).is_some()));
    let totals: Vec<u32> = lab.snapshot.servers().map(|server| server.live.total()).collect();
    assert_eq!(totals, [10, 10]);
    // Taken out of the file, it is so for all of them.
    let mut none = two(NAT, "");
    none.virtual_servers[0].real_servers.clear();
    lab.reload(&none);
    for port in [1000, 2000] {
        assert_eq!(lab.server_of(port, ACK), None);
    }
    assert_eq!(lab.dropped(DropReason::RealServerRemoved), 2);
    lab.reload(&two(DR, ""));
    assert!(lab.server_of(1000, ACK).is_some() && lab.server_of(2000, ACK).is_some());
    lab.assert_counts_equal_a_recount();
}

#[test]
fn numbers_of_former_methods_are_bounded_and_come_back() {
    let mut lab = Lab::new(&two(DR, ""), 1);
    assert!(lab.server_of(1000, SYN).is_some());
    for _ in 0..50 {
        lab.reload(&two(NAT, ""));
        lab.reload(&two([Forwarding::Tun, Forwarding::Dr], ""));
        lab.reload(&two(DR, ""));
    }
    let highest = |lab: &Lab| lab.snapshot.servers().map(|server| server.id.0).max();
    assert!(highest(&lab) <= Some(5), "{:?}", highest(&lab));
    let mut none = two(DR, "");
    none.virtual_servers[0].real_servers.clear();
    lab.pass_millis(10_000_000);
    lab.sweep();
    lab.reload(&none);
    lab.reload(&none);
    lab.reload(&none);
    assert_eq!(lab.snapshot.servers().count(), 0);
}

#[test]
fn a_client_that_stays_with_its_server_gets_the_new_method() {
    let persistent = |methods| {
        let mut config = two(methods, "");
        let text = "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\"]\n\
                    [[virtual_server]]\nname = \"web\"\naddress = \"10.0.0.100\"\nport = 80\n\
                    persistence_timeout = 60\n[[virtual_server.real_server]]\naddress = \"10.0.0.11\"\n";
        let other = weir_config::parse("test", text).expect("a valid file").config;
        config.virtual_servers[0].persistence = other.virtual_servers[0].persistence;
        config
    };
    let mut lab = Lab::new(&persistent(DR), 1);
    let first = lab.server_of(1000, SYN).expect("it is served");
    lab.reload(&persistent(NAT));
    assert_eq!(ends(&lab.send(from_client(1000, ACK))), Some((CLIENT, 1000, VIP, 80)));
    for port in [2000, 3000] {
        assert_eq!(ends(&lab.send(from_client(port, SYN))), Some((CLIENT, port, rip(first), 80)));
    }
    lab.assert_counts_equal_a_recount();
}

/// As the kernel does (recorded: `dest_deleted`).
#[test]
fn what_a_removed_nat_server_still_sends_reaches_its_client() {
    for no_express in [false, true] {
        let mut lab = Lab::new(&two(NAT, ""), 1);
        lab.directors[0].no_express = no_express;
        let octet = lab.server_of(1000, SYN).expect("it is served");
        assert_eq!(ends(&lab.send(answer(octet, 1000, SYN | ACK))), Some((VIP, 80, CLIENT, 1000)));
        assert!(lab.server_of(1000, ACK).is_some());
        let mut other = two(NAT, "");
        other.virtual_servers[0]
            .real_servers
            .retain(|server| server.address.to_string() != format!("10.0.0.{octet}"));
        lab.reload(&other);
        assert_eq!(lab.server_of(1000, ACK), None, "what comes from the client is dropped");
        for _ in 0..3 {
            assert_eq!(ends(&lab.send(answer(octet, 1000, ACK))), Some((VIP, 80, CLIENT, 1000)));
        }
        assert!(lab.send(answer(octet, 1001, ACK)).is_empty(), "it has no such connection");
        let server = lab.snapshot.servers().find(|server| !server.is_present).expect("its number is in use");
        assert_eq!(server.tallies[0].out_packets.get(), 1, "it counts no more");
        lab.reload(&two(NAT, ""));
        assert!(lab.server_of(1000, ACK).is_some());
        lab.assert_counts_equal_a_recount();
    }
}

#[test]
fn what_a_removed_server_sends_after_expire_nodest_conn_has_ended_the_connection_does_not() {
    let expire = "expire_nodest_conn = true\nnat_icmp_send = true";
    let mut lab = Lab::new(&two(NAT, expire), 1);
    let octet = lab.server_of(1000, SYN).expect("it is served");
    assert!(ends(&lab.send(answer(octet, 1000, SYN | ACK))).is_some());
    let mut other = two(NAT, expire);
    other.virtual_servers[0]
        .real_servers
        .retain(|server| server.address.to_string() != format!("10.0.0.{octet}"));
    lab.reload(&other);
    lab.sweep();
    assert!(lab.send(answer(octet, 1000, ACK)).is_empty());
    assert_eq!(lab.dropped(DropReason::StrayReply), 1);
    lab.assert_counts_equal_a_recount();
}

#[test]
fn a_removed_server_does_not_hide_what_another_virtual_servers_packets_are() {
    let mut both = two(NAT, "");
    let mut dns = both.virtual_servers[0].clone();
    dns.name = "other".into();
    dns.address = "10.0.0.101".parse().expect("an address");
    both.virtual_servers.push(dns);
    let mut lab = Lab::new(&both, 1);
    assert!(lab.server_of(1000, SYN).is_some());
    assert_eq!(lab.snapshot.origin(rip(11), 80, 6), None, "it may be of either");
    let mut one = both.clone();
    one.virtual_servers[1].real_servers.retain(|server| server.address.to_string() != "10.0.0.11");
    lab.reload(&one);
    assert_eq!(lab.snapshot.origin(rip(11), 80, 6).map(|origin| origin.vip), Some(VIP));
}
