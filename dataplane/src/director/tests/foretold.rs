//! Connections that another director has told of.

use std::net::{IpAddr, SocketAddr};

use weir_config::model::Protocol;

use super::ipv6::v6;
use super::*;
use crate::conn::state::{State, tcp};
use crate::foretold::{Flow, Put, Told};

impl Lab {
    /// Another director tells of a connection of the client's port, of IPv4, to a real server.
    fn tell(&mut self, port: u16, octet: u8, real_port: u16, state: State) {
        let real = SocketAddr::new(Addr4::new(10, 0, 0, octet).into(), real_port);
        let ends = [SocketAddr::new(CLIENT.into(), port), SocketAddr::new(VIP.into(), 80)];
        self.tell_of(ends, real, state);
    }

    fn tell_of(&mut self, [client, server]: [SocketAddr; 2], real_server: SocketAddr, state: State) {
        let flow = Flow { protocol: Protocol::Tcp, client, server };
        let told = Told { flow, real_server, state, until: self.now.seconds + 60 };
        assert_eq!(self.directors[0].shared.foretold.put(told, self.now.seconds), Put::New);
        self.pass_millis(1);
    }

    fn waiting(&self) -> usize {
        self.directors[0].shared.foretold.total()
    }

    fn taken(&self) -> u64 {
        self.counters.iter().map(|counters| counters.foretold_taken.get()).sum()
    }
}

#[test]
fn a_segment_goes_where_its_connection_was_told_to_go_and_the_worker_has_it_from_then_on() {
    for (method, port) in [("dr", 80), ("nat", 8080), ("tun", 80)] {
        // wrr would pick the first one.
        let mut lab = Lab::new(&config(method, "wrr", &[(11, 1), (12, 100)], ""), 2);
        assert_eq!(lab.send(from_client(1000, ACK)).len(), 1, "a RST, as ever");
        lab.tell(1000, 11, port, tcp::ESTABLISHED);
        assert_eq!(lab.server_of(1000, ACK), Some(11), "{method}");
        assert_eq!((lab.waiting(), lab.taken(), lab.directors[0].table.len()), (0, 1, 1));
        assert_eq!(lab.server_of(1000, ACK), Some(11));
        lab.assert_counts_equal_a_recount();
        assert_eq!(lab.server_of(1001, ACK), None, "another one is a stranger");
        let state = |lab: &Lab| lab.directors[0].table.iter().next().map(|record| record.state());
        assert_eq!(state(&lab), Some(tcp::ESTABLISHED));
        lab.server_of(1000, RST);
        assert_eq!(state(&lab), Some(tcp::CLOSE));
    }
}

#[test]
fn a_real_servers_packet_goes_back_and_leaves_the_connection_to_its_clients_worker() {
    let mut lab = Lab::new(&config("nat", "rr", &[(11, 1), (12, 1)], ""), 2);
    lab.tell(1000, 11, 8080, tcp::ESTABLISHED);
    assert!(lab.send_to(1, from_server(12, 1000, ACK)).iter().all(|frame| frame[26..30] != [10, 0, 0, 100]));
    let sent = lab.send_to(1, from_server(11, 1000, ACK));
    assert_eq!(
        (&sent[0][..6], &sent[0][26..30], &sent[0][34..36]),
        (&CLIENT_MAC.0[..], &[10, 0, 0, 100][..], &[0, 80][..])
    );
    assert_eq!((lab.waiting(), lab.taken()), (1, 0));
    // Its time begins anew with each packet.
    lab.pass_millis(100_000);
    assert_eq!(lab.send_to(1, from_server(11, 1000, FIN | ACK)).len(), 1);
    assert_eq!(lab.server_of(1000, ACK), Some(11));
    assert_eq!((lab.waiting(), lab.taken(), lab.directors[0].table.len()), (0, 1, 1));
    assert!(
        lab.directors[0].table.iter().all(|record| record.state() != tcp::ESTABLISHED),
        "the FIN was seen"
    );
    lab.assert_counts_equal_a_recount();
}

#[test]
fn a_real_servers_packet_goes_back_also_where_a_mark_makes_the_virtual_server() {
    let mut text = "[connections]\ncapacity = 1024\n\
         [[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\"]\n\
         [[mark]]\nmark = 1\naddresses = [\"10.0.0.100\", \"10.0.0.101\"]\n\
         [[virtual_server]]\nname = \"web\"\nmark = 1\nscheduler = \"rr\"\nforwarding = \"nat\"\n\
         [[virtual_server.real_server]]\naddress = \"10.0.0.11\"\nport = 8080\n"
        .to_owned();
    for (octet, mac) in [(11, "0b"), (200, "cc")] {
        text += &format!("[[neighbor]]\naddress = \"10.0.0.{octet}\"\nmac = \"02:00:00:00:00:{mac}\"\n");
    }
    let config = weir_config::parse("test", &text).unwrap_or_else(|report| panic!("{report}")).config;
    let mut lab = Lab::new(&config, 2);
    lab.tell(1000, 11, 8080, tcp::ESTABLISHED);
    let sent = lab.send_to(1, from_server(11, 1000, ACK));
    assert_eq!((sent.len(), &sent[0][26..30], &sent[0][34..36]), (1, &[10, 0, 0, 100][..], &[0, 80][..]));
    assert_eq!((lab.waiting(), lab.taken()), (1, 0));
    assert_eq!(lab.server_of(1000, ACK), Some(11));
    assert_eq!((lab.waiting(), lab.taken()), (0, 1));
    lab.assert_counts_equal_a_recount();
}

#[test]
fn what_is_told_wrong_leads_nowhere() {
    let mut lab = Lab::new(&config("dr", "rr", &[(11, 1), (12, 1)], ""), 1);
    // No such real server; and one of another port.
    lab.tell(1000, 13, 80, tcp::ESTABLISHED);
    lab.tell(1001, 11, 81, tcp::ESTABLISHED);
    // To nobody here.
    let stranger = SocketAddr::new(Addr4::new(10, 0, 0, 101).into(), 80);
    let client = SocketAddr::new(CLIENT.into(), 1002);
    lab.tell_of([client, stranger], SocketAddr::new(Addr4::new(10, 0, 0, 11).into(), 80), tcp::ESTABLISHED);
    for port in 1000..1003 {
        assert_eq!(lab.server_of(port, ACK), None);
    }
    assert_eq!((lab.taken(), lab.directors[0].table.len()), (0, 0));
    // What is over is no connection any more, and a SYN is scheduled as ever.
    lab.tell(1003, 11, 80, tcp::ESTABLISHED);
    lab.pass_millis(61_000);
    assert_eq!(lab.server_of(1003, ACK), None);
    assert_eq!(lab.server_of(1003, SYN), Some(12));
    lab.assert_counts_equal_a_recount();
}

#[test]
fn a_syn_goes_to_the_same_real_server_unless_its_connection_is_over() {
    let mut lab = Lab::new(&config("dr", "wrr", &[(11, 1), (12, 100)], ""), 1);
    lab.tell(1000, 11, 80, tcp::SYN_RECV);
    lab.tell(1001, 11, 80, tcp::TIME_WAIT);
    assert_eq!(lab.server_of(1000, SYN), Some(11), "it was sent again");
    assert_eq!(lab.server_of(1001, SYN), Some(12), "it begins another one");
    assert_eq!((lab.waiting(), lab.taken(), lab.directors[0].table.len()), (0, 1, 2));
    lab.assert_counts_equal_a_recount();
}

#[test]
fn a_full_table_sends_its_packets_there_all_the_same() {
    let mut lab = Lab::new(&config("dr", "wrr", &[(11, 1), (12, 100)], ""), 1);
    (2000..2000 + 1024).for_each(|port| _ = lab.server_of(port, SYN));
    lab.tell(1000, 11, 80, tcp::ESTABLISHED);
    assert_eq!([lab.server_of(1000, ACK), lab.server_of(1000, ACK)], [Some(11); 2]);
    assert_eq!((lab.waiting(), lab.taken()), (1, 0));
}

#[test]
fn where_control_is_at_it_for_long_nothing_is_answered() {
    let mut lab = Lab::new(&config("dr", "rr", &[(11, 1)], ""), 1);
    lab.tell(1000, 11, 80, tcp::ESTABLISHED);
    let foretold = lab.directors[0].shared.foretold.clone();
    foretold.while_held(|| assert_eq!(lab.send(from_client(1000, ACK)), Vec::<Vec<u8>>::new()));
    assert_eq!(lab.dropped(DropReason::ForetoldBusy), 1);
    assert_eq!(lab.server_of(1000, ACK), Some(11));
}

#[test]
fn ipv6_is_as_ipv4() {
    let mut lab = Lab::new(&nat6::both("wrr", &[11, 12], ""), 2);
    let (client, vip) = (v6("2001:db8:1::9"), v6(ipv6::VIP6));
    let real = v6("2001:db8::11");
    let socket = |address: std::net::Ipv6Addr, port| SocketAddr::new(IpAddr::V6(address), port);
    lab.tell_of([socket(client, 1000), socket(vip, 80)], socket(real, 8080), tcp::ESTABLISHED);
    let back = lab.send_to(1, nat6::segment((real, 8080), (client, 1000), ACK));
    assert_eq!((&back[0][22..38], &back[0][54..56]), (&vip.octets()[..], &[0, 80][..]));
    assert_eq!((lab.waiting(), lab.taken()), (1, 0));
    for _ in 0..2 {
        let sent = lab.send_to(0, nat6::segment((client, 1000), (vip, 80), ACK));
        assert_eq!(&sent[0][38..54], real.octets());
    }
    assert_eq!((lab.waiting(), lab.taken(), lab.directors[0].table.len()), (0, 1, 1));
    lab.assert_counts_equal_a_recount();
}
