//! A real server that several virtual servers have: whose connection its packets to a client's port belong to, when that
//! client has used the port for more than one of them.

use super::*;
use crate::conn::state::{State, tcp};
use crate::wire::checksum::Sum;
use crate::wire::l4::icmp;

const OTHER_VIP: Addr4 = Addr4::new(10, 0, 0, 101);
const SERVER: Addr4 = Addr4::new(10, 0, 0, 11);
const PORT: u16 = 1000;

/// Both VIPs with the same real server.
fn both(method: &str) -> Config {
    let virtual_server = |name: &str, address: Addr4| {
        format!(
            "[[virtual_server]]\nname = \"{name}\"\naddress = \"{address}\"\nport = 80\nprotocol = \"tcp\"\n\
             scheduler = \"rr\"\nforwarding = \"{method}\"\n\
             [[virtual_server.real_server]]\naddress = \"10.0.0.11\"\nport = 8080\n"
        )
    };
    let text = format!(
        "[connections]\ncapacity = 1024\n\
         [[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\"]\n\
         [[neighbor]]\naddress = \"10.0.0.200\"\nmac = \"02:00:00:00:00:cc\"\n\
         [[neighbor]]\naddress = \"10.0.0.11\"\nmac = \"02:00:00:00:00:0b\"\n{}{}",
        virtual_server("web", VIP),
        virtual_server("other", OTHER_VIP)
    );
    weir_config::parse("test", &text).expect("a valid file").config
}

fn lab(workers: usize, no_express: bool) -> Lab {
    let mut lab = Lab::new(&both("nat"), workers);
    lab.directors.iter_mut().for_each(|director| director.no_express = no_express);
    lab
}

impl Lab {
    fn ask(&mut self, worker: usize, vip: Addr4, segment: u8) {
        let sent = self.send_to(worker, frame(OWN, (CLIENT, PORT), (vip, 80), segment));
        assert_eq!(sent.len(), 1, "{vip} is asked");
    }

    /// The source of what the client gets when the real server sends this.
    fn answered_from(&mut self, worker: usize, segment: u8) -> Addr4 {
        let sent = self.send_to(worker, from_server(11, PORT, segment));
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0][34..36], [0, 80]);
        Addr4::from([sent[0][26], sent[0][27], sent[0][28], sent[0][29]])
    }

    fn state_of(&self, worker: usize, vip: Addr4) -> Option<State> {
        let number = self.snapshot.vips.number(vip);
        self.directors[worker].table.iter().find(|record| record.vip() == number).map(|record| record.state())
    }
}

#[test]
fn the_connection_that_began_last_is_answered_on_either_way() {
    for (no_express, [first, second]) in
        [false, true].into_iter().flat_map(|no| [(no, [VIP, OTHER_VIP]), (no, [OTHER_VIP, VIP])])
    {
        let mut lab = lab(1, no_express);
        lab.ask(0, first, SYN);
        assert_eq!(lab.answered_from(0, SYN | ACK), first);
        lab.ask(0, first, ACK);
        assert_eq!(lab.answered_from(0, ACK), first);
        lab.ask(0, second, SYN);
        assert_eq!(lab.answered_from(0, SYN | ACK), second);
        lab.ask(0, second, ACK);
        for segment in [ACK, ACK | 8, FIN | ACK] {
            assert_eq!(lab.answered_from(0, segment), second);
        }
        // Its end gives the real server back to the one before.
        lab.ask(0, second, RST);
        lab.pass_millis(11_000);
        lab.sweep();
        assert_eq!((lab.state_of(0, second), lab.answered_from(0, ACK)), (None, first));
        lab.assert_counts_equal_a_recount();
    }
}

#[test]
fn a_connection_that_is_over_is_not_revived_by_the_answer_to_another_ones_syn() {
    for (workers, no_express) in [(1, false), (1, true), (2, false), (2, true)] {
        let mut lab = lab(workers, no_express);
        let other = workers - 1;
        lab.ask(0, VIP, SYN);
        lab.answered_from(0, SYN | ACK);
        lab.ask(0, VIP, ACK);
        lab.ask(0, VIP, RST);
        lab.ask(other, OTHER_VIP, SYN);
        for worker in 0..workers {
            assert_eq!(lab.answered_from(worker, SYN | ACK), OTHER_VIP);
        }
        lab.ask(other, OTHER_VIP, ACK);
        for worker in 0..workers {
            assert_eq!(lab.answered_from(worker, ACK), OTHER_VIP);
        }
        lab.pass_millis(1);
        assert_eq!(lab.state_of(0, VIP), Some(tcp::CLOSE));
        assert_eq!(lab.state_of(other, OTHER_VIP), Some(tcp::ESTABLISHED));
        // The port is used for the first one again.
        lab.ask(0, VIP, SYN);
        for worker in 0..workers {
            assert_eq!(lab.answered_from(worker, SYN | ACK), VIP);
        }
        lab.assert_counts_equal_a_recount();
    }
}

#[test]
fn passive_health_counts_the_answer_for_the_virtual_server_that_was_asked() {
    let mut lab = lab(1, false);
    for vip in [VIP, OTHER_VIP] {
        lab.ask(0, vip, SYN);
        lab.answered_from(0, SYN | ACK);
        lab.ask(0, vip, ACK);
    }
    let expected = Openings { opened: 1, answered: 1, refused: 0 };
    let openings: Vec<_> = lab.snapshot.servers().map(|server| server.live.openings()).collect();
    assert_eq!(openings, [expected, expected]);
}

#[test]
fn an_error_about_a_packet_to_the_real_server_comes_from_the_vip_that_was_asked_last() {
    for vips in [[VIP, OTHER_VIP], [OTHER_VIP, VIP]] {
        let mut lab = lab(1, false);
        for vip in vips {
            lab.ask(0, vip, SYN);
            let quote = frame(OWN, (CLIENT, PORT), (SERVER, 8080), SYN)[14..].to_vec();
            let mut message = [&[icmp::UNREACHABLE, 1, 0, 0, 0, 0, 0, 0][..], &quote].concat();
            let sum = Sum::default().bytes(&message).finish();
            message[2..4].copy_from_slice(sum.as_bytes());
            let header = Ipv4::new(ipv4::ICMP, Addr4::new(10, 0, 0, 250), CLIENT, message.len(), 64);
            let error = [&OWN.0[..], &CLIENT_MAC.0, &[8, 0], header.as_bytes(), &message].concat();
            let sent = lab.send(error);
            assert_eq!(sent.len(), 1);
            assert_eq!(sent[0][26..30], vip.octets());
            // So does the destination of what it quotes.
            assert_eq!(sent[0][58..62], vip.octets());
        }
    }
}
