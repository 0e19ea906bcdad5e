//! Addresses of VRRP: what a master serves, what a backup and a master whose lease is over leave alone.

mod ipv6;
mod nd;
use weir_config::model::Protocol;

use super::*;
use crate::snapshot::virtual_router;
use crate::wire::ethernet::{Arp, BROADCAST};

const VIRTUAL_ROUTER: u8 = 51;

/// One port, one virtual server of an instance of VRRP.
fn lab(more: &str) -> (Lab, Config) {
    let text = format!(
        "[connections]\ncapacity = 1024\n\
         [[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\"]\n\
         [[virtual_server]]\nname = \"web\"\naddress = \"10.0.0.100\"\nport = 80\nprotocol = \"tcp\"\n\
         forwarding = \"dr\"\n[[virtual_server.real_server]]\naddress = \"10.0.0.11\"\n\
         [[neighbor]]\naddress = \"10.0.0.11\"\nmac = \"02:00:00:00:00:0b\"\n\
         [[vrrp]]\nname = \"vi\"\nport = \"lan\"\nvirtual_router_id = {VIRTUAL_ROUTER}\n\
         addresses = [\"10.0.0.100\"]\n{more}"
    );
    let config = weir_config::parse("test", &text).expect("a valid file").config;
    (Lab::new(&config, 1), config)
}

impl Lab {
    fn become_master(&mut self, config: &Config, is_master: bool) {
        self.masters = config.vrrp.iter().filter(|_| is_master).map(RouterKey::of).collect();
        self.reload(config);
    }

    fn drops(&self, reason: DropReason) -> u64 {
        self.counters[0].drops(reason)
    }
}

fn mac() -> MacAddress {
    virtual_router::mac(VIRTUAL_ROUTER)
}

fn to(mac: MacAddress, client_port: u16, segment: u8) -> Vec<u8> {
    frame(mac, (CLIENT, client_port), (VIP, 80), segment)
}

fn arp(operation: u16, sender: (MacAddress, Addr4), target: Addr4) -> Vec<u8> {
    let mut frame = BROADCAST.0.to_vec();
    frame.extend_from_slice(&sender.0.0);
    frame.extend_from_slice(&[8, 6]);
    frame.extend_from_slice(Arp::new(operation, sender, (MacAddress([0; 6]), target)).as_bytes());
    frame
}

fn who_has() -> Vec<u8> {
    arp(Arp::REQUEST, (CLIENT_MAC, CLIENT), VIP)
}

#[test]
fn a_backup_answers_no_arp_and_serves_nothing() {
    let (mut lab, _) = lab("");
    assert_eq!(lab.send(who_has()), Vec::<Vec<u8>>::new());
    assert_eq!(lab.send(to(mac(), 1000, SYN)), Vec::<Vec<u8>>::new());
    assert_eq!(lab.drops(DropReason::VrrpBackup), 1);
    // Its real servers are known for all that, to who checks them.
    let known = |lab: &Lab, port| {
        lab.snapshot
            .service_at(std::net::Ipv4Addr::from(VIP).into(), port, Protocol::Tcp)
            .map(|service| service.name.clone())
    };
    assert_eq!((known(&lab, 80), known(&lab, 81)), (Some("web".to_owned()), None));
    assert_eq!(lab.send(to(OWN, 1000, SYN)), Vec::<Vec<u8>>::new());
    assert_eq!(lab.drops(DropReason::ForeignAddress), 1);
    assert!(lab.snapshot.announcements.is_empty());
}

#[test]
fn a_master_is_at_the_virtual_mac_and_keeps_the_connections_it_had() {
    let (mut lab, config) = lab("");
    lab.become_master(&config, true);
    let answer = lab.send(who_has()).swap_remove(0);
    assert_eq!(
        (&answer[..6], &answer[6..12], &answer[22..28]),
        (&CLIENT_MAC.0[..], &mac().0[..], &mac().0[..])
    );
    assert_eq!(lab.send(to(mac(), 1000, SYN)).len(), 1);
    assert_eq!(lab.send(to(mac(), 1000, ACK)).len(), 1);
    assert_eq!(lab.send(to(OWN, 1000, ACK)).len(), 1, "neighbours may still know the port's MAC");
    lab.become_master(&config, false);
    assert_eq!(lab.send(to(mac(), 1000, ACK)), Vec::<Vec<u8>>::new());
    lab.become_master(&config, true);
    // A segment of an unknown connection would get a RST.
    assert_eq!(lab.send(to(mac(), 1000, ACK))[0][..6], [2, 0, 0, 0, 0, 11]);
}

#[test]
fn without_a_virtual_mac_the_ports_own_is_told() {
    let (mut lab, config) = lab("virtual_mac = false\n");
    lab.become_master(&config, true);
    let answer = lab.send(who_has()).swap_remove(0);
    assert_eq!((&answer[6..12], &answer[22..28]), (&OWN.0[..], &OWN.0[..]));
    assert_eq!(lab.send(to(mac(), 1000, SYN)), Vec::<Vec<u8>>::new());
    assert_eq!(lab.drops(DropReason::ForeignMac), 1);
}

#[test]
fn a_master_whose_lease_is_over_is_silent() {
    let (mut lab, config) = lab("");
    lab.become_master(&config, true);
    lab.now.cycles = 1;
    lab.pass_millis(1);
    assert_eq!(lab.counters[0].vrrp_fenced.get(), 1);
    assert_eq!(lab.send(who_has()), Vec::<Vec<u8>>::new());
    assert_eq!(lab.send(to(mac(), 1000, SYN)), Vec::<Vec<u8>>::new());
    assert_eq!(lab.drops(DropReason::VrrpBackup), 1);
}

#[test]
fn claims_of_others_are_conflicts_and_the_groups_are_not() {
    let (mut lab, config) = lab("");
    lab.become_master(&config, true);
    lab.send(arp(Arp::REQUEST, (mac(), VIP), VIP));
    assert_eq!(lab.counters[0].arp_conflicts.get(), 0);
    lab.send(arp(Arp::REPLY, (MacAddress([2, 0, 0, 0, 0, 0x66]), VIP), CLIENT));
    assert_eq!(lab.counters[0].arp_conflicts.get(), 1);
}

#[test]
fn with_accept_off_only_virtual_servers_are_served() {
    for (accept, expected) in [(true, 0), (false, 1)] {
        let (mut lab, config) = lab(&format!("accept = {accept}\n"));
        lab.become_master(&config, true);
        assert_eq!(lab.send(to(mac(), 1000, SYN)).len(), 1);
        lab.send(frame(mac(), (CLIENT, 1000), (VIP, 81), SYN));
        assert_eq!(lab.drops(DropReason::NotAccepted), expected);
    }
}
