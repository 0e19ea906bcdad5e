//! Addresses that mean something on one link alone: what comes from there stays there (RFC 4291 section 2.5.6).

use super::*;

/// Two links, with a client of the same address on each; of the real servers, all on the first, one is behind a router.
fn config(method: &str) -> Config {
    let mut text = "[connections]\ncapacity = 1024\n\
         [[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\", \"2001:db8::2/64\", \"fe80::2/64\"]\n\
         [[port]]\nname = \"wan\"\ndevice = \"y\"\naddresses = [\"2001:db8:1::2/64\", \"fe80::3/64\"]\n\
         [[route]]\ndestination = \"::/0\"\ngateway = \"2001:db8::fe\"\n"
        .to_owned();
    for (address, mac) in [("2001:db8::11", 11), ("2001:db8::fe", 0xfe), ("10.0.0.11", 11)] {
        text += &format!("[[neighbor]]\naddress = \"{address}\"\nmac = \"02:00:00:00:00:{mac:02x}\"\n");
    }
    let far = if method == "tun" { "10.0.0.11" } else { "2001:db8::11" };
    for (vip, server) in [(VIP6, "2001:db8::11"), ("2001:db8::101", far)] {
        text += &format!(
            "[[virtual_server]]\nname = \"{vip}\"\naddress = \"{vip}\"\nport = 80\nprotocol = \"tcp\"\n\
             scheduler = \"rr\"\nforwarding = \"{method}\"\n\
             [[virtual_server.real_server]]\naddress = \"{server}\"\n"
        );
    }
    if method != "dr" {
        text += &format!(
            "[[virtual_server]]\nname = \"routed\"\naddress = \"2001:db8::102\"\nport = 80\nprotocol = \"tcp\"\n\
             scheduler = \"rr\"\nforwarding = \"{method}\"\n\
             [[virtual_server.real_server]]\naddress = \"2001:db8:9::1\"\n"
        );
    }
    weir_config::parse("test", &text).unwrap_or_else(|report| panic!("{report}")).config
}

fn lab(method: &str) -> Lab {
    Lab::with_macs(&config(method), &[OWN, MacAddress([2, 0, 0, 0, 0, 2])])
}

impl Lab {
    /// Gives a frame to the worker from a port; where what it sends goes out, and the last octet of whose MAC.
    fn send_on(&mut self, port: usize, mut frame: Vec<u8>) -> Vec<(usize, u8)> {
        frame[..6].copy_from_slice(&self.snapshot.ports[port].mac.0);
        let mut burst = Burst::new();
        burst.push(HeapFrame::new(&frame));
        self.directors[0].process(&mut burst, port, &self.snapshot, self.now, &mut self.wire);
        self.wire.sent.drain(..).map(|(port, frame)| (port, frame.bytes()[5])).collect()
    }
}

/// From the client that each link has.
fn segment(vip: &str, port: u16, flags: u8) -> Vec<u8> {
    packet6(v6("fe80::c"), v6(vip), (ipv4::TCP, 64), &tcp(port, flags, 0))
}

#[test]
fn who_has_but_its_link_is_served_there_and_nowhere_else() {
    for method in ["dr", "nat"] {
        let mut lab = lab(method);
        for flags in [SYN, ACK, ACK, FIN | ACK] {
            assert_eq!(lab.send_on(0, segment(VIP6, 1_000, flags)), [(0, 11)], "{method}, {flags:#x}");
            // Of the same connection, by its ends, and of one of its own.
            for port in [1_000, 1_001] {
                let sent = lab.send_on(1, segment(VIP6, port, flags));
                assert!(sent.iter().all(|(port, mac)| (*port, *mac) == (1, 0xcc)), "{method}: {sent:?}");
            }
        }
        // Of its own only what would open one: the rest is answered as of no connection.
        assert_eq!(lab.dropped(DropReason::LinkLocal), 4 + 1);
        lab.assert_counts_equal_a_recount();
    }
}

#[test]
fn who_has_the_address_on_another_link_does_nothing_to_its_connection_and_leaves_nothing_behind() {
    for method in ["dr", "nat"] {
        let mut lab = lab(method);
        for flags in [SYN, ACK] {
            assert_eq!(lab.send_on(0, segment(VIP6, 1_000, flags)), [(0, 11)]);
        }
        let seen = |lab: &Lab| {
            let record = lab.directors[0].table.iter().next().expect("its record");
            (lab.directors[0].table.len(), record.state(), record.age(lab.now.seconds))
        };
        let before = seen(&lab);
        lab.pass_millis(5_000);
        let given = lab.snapshot.servers().next().expect("a real server").live.traffic();
        for flags in [RST, FIN | ACK, ACK, SYN] {
            assert_eq!(lab.send_on(1, segment(VIP6, 1_000, flags)), []);
        }
        assert_eq!(lab.send_on(1, segment(VIP6, 1_001, SYN)), []);
        assert_eq!(lab.dropped(DropReason::LinkLocal), 5);
        assert_eq!(seen(&lab), (1, before.1, before.2 + 5), "{method}");
        let taken = lab.snapshot.servers().next().expect("a real server").live.traffic();
        assert_eq!((taken.in_packets, taken.connections), (given.in_packets, given.connections));
        assert_eq!(lab.directors[0].table.clients.known(), 1);
        // Its own link's do.
        lab.send_on(0, segment(VIP6, 1_000, RST));
        assert_ne!(seen(&lab).1, before.1);
        lab.assert_counts_equal_a_recount();
    }
}

#[test]
fn no_errors_are_believed_about_it_on_another_link() {
    let mut file = config("dr");
    file.connections.schedule_icmp = true;
    let mut lab = Lab::with_macs(&file, &[OWN, MacAddress([2, 0, 0, 0, 0, 2])]);
    lab.send_on(0, segment(VIP6, 1_000, SYN));
    let error = |client_port: u16| {
        let mut quote = tcp(80, ACK, 0);
        quote[2..4].copy_from_slice(&client_port.to_be_bytes());
        let quote = packet6(v6(VIP6), v6("fe80::c"), (ipv4::TCP, 60), &quote)[14..].to_vec();
        let mut message = [&[1, 4, 0, 0, 0, 0, 0, 0][..], &quote].concat();
        let ends = [v6("2001:db8:77::1").octets(), v6(VIP6).octets()].concat();
        let sum = Sum::default().bytes(&ends).long(message.len() as u32).word(58).bytes(&message).finish();
        message[2..4].copy_from_slice(sum.as_bytes());
        packet6(v6("2001:db8:77::1"), v6(VIP6), (58, 64), &message)
    };
    assert_eq!(lab.send_on(0, error(1_000)), [(0, 11)]);
    assert_eq!(lab.send_on(1, error(1_000)), []);
    assert_eq!(lab.dropped(DropReason::LinkLocal), 1);
    for port in [0, 1] {
        assert_eq!(lab.send_on(port, error(1_001)), []);
    }
    assert_eq!((lab.dropped(DropReason::StrayIcmp), lab.directors[0].table.len()), (2, 1));
}

#[test]
fn a_router_or_a_tunnel_leads_off_its_link() {
    for (method, vips) in
        [("nat", &["2001:db8::102"][..]), ("tun", &[VIP6, "2001:db8::101", "2001:db8::102"])]
    {
        let mut lab = lab(method);
        for vip in vips {
            for port in [0, 1] {
                assert_eq!(lab.send_on(port, segment(vip, 1_000, SYN)), [], "{method}, {vip}");
            }
        }
        assert_eq!(lab.dropped(DropReason::LinkLocal), 2 * vips.len() as u64);
        assert_eq!(lab.directors[0].table.len(), 0);
    }
}

#[test]
fn what_goes_back_to_it_goes_out_where_it_came_in() {
    let mut lab = lab("nat");
    lab.send_on(0, segment(VIP6, 1_000, SYN));
    let answer = |flags| {
        let mut answer = tcp(80, flags, 0);
        answer[2..4].copy_from_slice(&1_000_u16.to_be_bytes());
        packet6(v6("2001:db8::11"), v6("fe80::c"), (ipv4::TCP, 64), &answer)
    };
    // It is asked for on that link, whatever others it may be on.
    let sent = lab.send_on(0, answer(SYN | ACK));
    assert_eq!(sent, [(0, 0x0c)], "a solicitation to its group");
    lab.pass_millis(5_000);
    let sent = lab.send_on(0, answer(ACK));
    assert!(sent.iter().all(|(port, _)| *port == 0), "{sent:?}");
}

#[test]
fn an_error_from_a_link_leaves_it_as_one_of_weirs() {
    let mut lab = lab("dr");
    lab.send_on(1, packet6(client(1), v6(VIP6), (ipv4::TCP, 64), &tcp(1_000, SYN, 0)));
    let mut quote = tcp(80, ACK, 0);
    quote[2..4].copy_from_slice(&1_000_u16.to_be_bytes());
    let quote = packet6(v6(VIP6), client(1), (ipv4::TCP, 60), &quote)[14..].to_vec();
    let error = |source: &str| {
        let mut message = [&[2, 0, 0, 0, 0, 0, 5, 0][..], &quote].concat();
        let ends = [v6(source).octets(), v6(VIP6).octets()].concat();
        let sum = Sum::default().bytes(&ends).long(message.len() as u32).word(58).bytes(&message).finish();
        message[2..4].copy_from_slice(sum.as_bytes());
        packet6(v6(source), v6(VIP6), (58, 64), &message)
    };
    // A router may have no other address on the link; the real server is on port 0.
    for (port, source, as_from) in
        [(1, "2001:db8:1::1", "2001:db8:1::1"), (1, "fe80::1", "2001:db8:1::2"), (0, "fe80::1", "fe80::1")]
    {
        let mut frame = error(source);
        frame[..6].copy_from_slice(&lab.snapshot.ports[port].mac.0);
        let mut burst = Burst::new();
        burst.push(HeapFrame::new(&frame));
        lab.directors[0].process(&mut burst, port, &lab.snapshot, lab.now, &mut lab.wire);
        let sent: Vec<_> =
            lab.wire.sent.drain(..).map(|(port, frame)| (port, frame.bytes()[14..].to_vec())).collect();
        let mut expected = error(as_from)[14..].to_vec();
        expected[7] -= 1;
        assert_eq!(sent, [(0, expected)], "from {source} on port {port}");
    }
    assert_eq!(lab.dropped(DropReason::LinkLocal), 0);
}

#[test]
fn what_would_become_of_it_is_told() {
    use crate::director::explain::{Outcome, Question, Segment};
    let mut lab = lab("dr");
    let asked = |lab: &mut Lab, port| {
        let question = Question {
            port,
            protocol: weir_config::model::Protocol::Tcp,
            source: (v6("fe80::c").into(), 1_000),
            destination: (v6(VIP6).into(), 80),
            segment: Segment::Syn,
            total_len: 0,
        };
        let Lab { directors, snapshot, now, .. } = lab;
        directors[0].explain(&question, snapshot, *now).outcome
    };
    assert!(matches!(asked(&mut lab, 0), Outcome::Sent { port: 0, .. }));
    assert_eq!(asked(&mut lab, 1), Outcome::Dropped(DropReason::LinkLocal));
}
