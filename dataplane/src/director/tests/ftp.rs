//! FTP through NAT: control connections are rewritten, and their data connections find the same real server.

mod hostile;
mod lives;

use std::net::{IpAddr, Ipv6Addr};

use super::ipv6::{OWN6, VIP6, packet6, v6};
use super::*;
use crate::director::explain::{Flow, Outcome, Question, Segment, To};
use crate::stats::Helped;

const PSH: u8 = 8;
/// The server's sequence numbers begin here: they pass zero with the first reply.
const SERVERS_FIRST: u32 = u32::MAX - 20;
const CLIENTS_FIRST: u32 = 5_000;

/// Who talks to whom: the family, and the ports of the client's and the control connection's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Party {
    is_v6: bool,
    client_port: u16,
}

/// What a segment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    source: (IpAddr, u16),
    pub(super) destination: (IpAddr, u16),
    sequence: u32,
    acknowledged: u32,
    options: Vec<u8>,
    flags: u8,
    carried: String,
}

pub(super) fn file(extra: &str) -> String {
    let mut text = format!(
        "[connections]\ncapacity = 1024\n\
         [[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\", \"{OWN6}/64\"]\n\
         [[neighbor]]\naddress = \"10.0.0.200\"\nmac = \"02:00:00:00:00:cc\"\n\
         [[neighbor]]\naddress = \"10.0.0.201\"\nmac = \"02:00:00:00:00:cc\"\n\
         [[neighbor]]\naddress = \"2001:db8::200\"\nmac = \"02:00:00:00:00:cc\"\n"
    );
    for (address, server) in [("10.0.0.100", "10.0.0."), (VIP6, "2001:db8::")] {
        text += &format!(
            "[[virtual_server]]\nname = \"ftp-{address}\"\naddress = \"{address}\"\nport = 21\nprotocol = \"tcp\"\n\
             scheduler = \"rr\"\nforwarding = \"nat\"\n{extra}"
        );
        for octet in [11, 12] {
            text += &format!("[[virtual_server.real_server]]\naddress = \"{server}{octet}\"\nport = 2121\n");
        }
        for octet in [11, 12] {
            let mac = format!("02:00:00:00:00:{octet:02x}");
            text += &format!("[[neighbor]]\naddress = \"{server}{octet}\"\nmac = \"{mac}\"\n");
        }
    }
    text
}

pub(super) fn parsed(text: &str) -> Config {
    weir_config::parse("test", text).unwrap_or_else(|report| panic!("{report}")).config
}

impl Party {
    pub(super) const V4: Self = Self { is_v6: false, client_port: 40_000 };
    const V6: Self = Self { is_v6: true, client_port: 40_000 };

    fn client(self) -> IpAddr {
        if self.is_v6 { v6("2001:db8::200").into() } else { IpAddr::V4(CLIENT.into()) }
    }

    fn vip(self) -> IpAddr {
        if self.is_v6 { v6(VIP6).into() } else { IpAddr::V4(VIP.into()) }
    }

    pub(super) fn server(self, octet: u8) -> IpAddr {
        match self.is_v6 {
            true => v6(&format!("2001:db8::{octet}")).into(),
            false => IpAddr::V4(Addr4::new(10, 0, 0, octet).into()),
        }
    }

    pub(super) fn client_says(self, sequence: u32, acknowledged: u32, carried: &str) -> Said {
        Said {
            source: (self.client(), self.client_port),
            destination: (self.vip(), 21),
            sequence,
            acknowledged,
            options: Vec::new(),
            flags: ACK | PSH,
            carried: carried.to_owned(),
        }
    }

    pub(super) fn server_says(self, octet: u8, sequence: u32, acknowledged: u32, carried: &str) -> Said {
        Said {
            source: (self.server(octet), 2_121),
            destination: (self.client(), self.client_port),
            ..self.client_says(sequence, acknowledged, carried)
        }
    }
}

impl Said {
    pub(super) fn with_flags(self, flags: u8) -> Self {
        Self { flags, ..self }
    }

    fn frame(&self) -> Vec<u8> {
        let mut l4 = [self.source.1, self.destination.1].map(u16::to_be_bytes).concat();
        l4.extend([self.sequence, self.acknowledged].map(u32::to_be_bytes).concat());
        l4.extend([((20 + self.options.len()) as u8 / 4) << 4, self.flags, 1, 0, 0, 0, 0, 0]);
        l4.extend(&self.options);
        l4.extend(self.carried.bytes());
        match (self.source.0, self.destination.0) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut frame = [&OWN.0[..], &CLIENT_MAC.0, &[8, 0]].concat();
                let ip = Ipv4::new(ipv4::TCP, source.into(), destination.into(), l4.len(), 64);
                frame.extend_from_slice(ip.as_bytes());
                frame.extend(l4);
                let (ends, l4) = frame[26..].split_at_mut(8);
                put_checksum(l4, ipv4::TCP, ends);
                frame
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                packet6(source, destination, (ipv4::TCP, 64), &l4)
            }
            _ => panic!("two families"),
        }
    }

    /// Reads a frame, whose lengths and checksums are right.
    fn read(frame: &[u8]) -> Self {
        let is_v6 = frame[12] == 0x86;
        let (l4, end) = match is_v6 {
            true => (54, 54 + usize::from(u16::from_be_bytes([frame[18], frame[19]]))),
            false => {
                assert!(ipv4::checksum_is_right(&frame[14..34]));
                (34, 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]])))
            }
        };
        assert!(end <= frame.len() && (end == frame.len() || frame.len() <= 60), "{end} of {}", frame.len());
        let addresses = if is_v6 { &frame[22..54] } else { &frame[26..34] };
        let sum = crate::wire::checksum::Sum::default().bytes(addresses).long((end - l4) as u32).word(6);
        assert_eq!(sum.bytes(&frame[l4..end]).fold(), 0xffff, "the checksum");
        let address = |number: usize| match is_v6 {
            true => {
                let octets: [u8; 16] = addresses[16 * number..][..16].try_into().expect("16");
                IpAddr::V6(Ipv6Addr::from(octets))
            }
            false => {
                let octets: [u8; 4] = addresses[4 * number..][..4].try_into().expect("4");
                IpAddr::V4(octets.into())
            }
        };
        let word = |at: usize| u16::from_be_bytes([frame[l4 + at], frame[l4 + at + 1]]);
        let long = |at: usize| u32::from(word(at)) << 16 | u32::from(word(at + 2));
        let carried = l4 + usize::from(frame[l4 + 12] >> 4) * 4;
        Self {
            source: (address(0), word(0)),
            destination: (address(1), word(2)),
            sequence: long(4),
            acknowledged: long(8),
            options: frame[l4 + 20..carried].to_vec(),
            flags: frame[l4 + 13],
            carried: String::from_utf8(frame[carried..end].to_vec()).expect("text"),
        }
    }
}

impl Lab {
    /// What comes out for a segment, if it is passed on, on any worker.
    pub(super) fn say_to(&mut self, worker: usize, said: &Said) -> Option<Said> {
        let sent = self.send_to(worker, said.frame());
        assert!(sent.len() <= 1);
        sent.first().map(|frame| Said::read(frame))
    }

    pub(super) fn say(&mut self, said: &Said) -> Option<Said> {
        self.say_to(0, said)
    }

    pub(super) fn found(&self, what: Helped) -> u64 {
        self.counters.iter().map(|counters| counters.found_by_helpers(what)).sum()
    }

    /// A control connection that is established, and whose server has said hello in 20 bytes: then `SERVERS_FIRST` + 21 is next. Returns the
    /// last octet of the real server.
    pub(super) fn control(&mut self, party: Party) -> u8 {
        let syn = party.client_says(CLIENTS_FIRST, 0, "").with_flags(SYN);
        let syn = self.say(&syn).expect("it opens a connection");
        assert_eq!(syn.destination.1, 2_121);
        let octet = match syn.destination.0 {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(address) => match address.segments()[7] {
                0x11 => 11,
                _ => 12,
            },
        };
        let hello = "220 hello, friends\r\n";
        for said in [
            party.server_says(octet, SERVERS_FIRST, CLIENTS_FIRST + 1, "").with_flags(SYN | ACK),
            party.client_says(CLIENTS_FIRST + 1, SERVERS_FIRST.wrapping_add(1), "").with_flags(ACK),
            party.server_says(octet, SERVERS_FIRST.wrapping_add(1), CLIENTS_FIRST + 1, hello),
        ] {
            assert_eq!(self.say(&said).map(|it| it.carried), Some(said.carried));
        }
        octet
    }
}

/// The server's next number behind its hello.
pub(super) const NEXT: u32 = SERVERS_FIRST.wrapping_add(21);
pub(super) const CLIENTS_NEXT: u32 = CLIENTS_FIRST + 1;

/// A data connection from the client's port 50,001 to a port of the virtual server's.
pub(super) fn data_syn(party: Party, port: u16) -> Said {
    Said {
        source: (party.client(), 50_001),
        destination: (party.vip(), port),
        ..party.client_says(1, 0, "").with_flags(SYN)
    }
}

#[test]
fn a_passive_reply_names_the_virtual_server_and_its_connection_reaches_the_real_one() {
    for workers in [1, 2] {
        let mut lab = Lab::new(&parsed(&file("")), workers);
        let party = Party::V4;
        let octet = lab.control(party);
        lab.say(&party.client_says(CLIENTS_NEXT, NEXT, "PASV\r\n")).expect("it is passed on");
        // 10.0.0.1x is shorter than 10.0.0.100 by a byte.
        let reply = format!("227 Entering Passive Mode (10,0,0,{octet},195,80).\r\n");
        let said = party.server_says(octet, NEXT, CLIENTS_NEXT + 6, &reply);
        let changed = "227 Entering Passive Mode (10,0,0,100,195,80).\r\n";
        for worker in 0..workers {
            let got = lab.say_to(worker, &said).expect("it is passed on");
            assert_eq!((got.carried.as_str(), got.sequence), (changed, NEXT), "the same each time");
            assert_eq!(got.source, (party.vip(), 21));
        }
        // What follows is shifted by one, both ways.
        let next = NEXT.wrapping_add(reply.len() as u32);
        let more =
            lab.say(&party.server_says(octet, next, CLIENTS_NEXT + 6, "150 ok\r\n")).expect("passed on");
        assert_eq!(more.sequence, next.wrapping_add(1));
        let edges = [NEXT, next.wrapping_add(1)].map(u32::to_be_bytes).concat();
        let mut ack = party.client_says(CLIENTS_NEXT + 6, next.wrapping_add(9), "");
        ack.options = [&[1, 1, 5, 10][..], &edges].concat();
        let ack = lab.say(&ack).expect("passed on");
        assert_eq!(ack.destination, (party.server(octet), 2_121), "{ack:?}");
        assert_eq!(ack.acknowledged, next.wrapping_add(8), "{ack:?}");
        assert_eq!(ack.options[4..], [NEXT, next].map(u32::to_be_bytes).concat());
        // The data connection.
        let (data, back) = (data_syn(party, 50_000), 50_000);
        let syn = lab.say_to(workers - 1, &data).expect("it is passed on");
        assert_eq!(syn.destination, (party.server(octet), back));
        let answer = Said { source: syn.destination, destination: syn.source, ..syn }.with_flags(SYN | ACK);
        for worker in 0..workers {
            let answer = lab.say_to(worker, &answer).expect("it is passed on");
            assert_eq!((answer.source, answer.destination), (data.destination, data.source));
        }
        let ack = lab.say_to(workers - 1, &data.clone().with_flags(ACK)).expect("it is passed on");
        assert_eq!(ack.destination, (party.server(octet), back));
        assert_eq!(lab.found(Helped::Opened), 1);
        lab.assert_counts_equal_a_recount();
        let port = |said: Said| said.source.1;
        assert_eq!(
            lab.say(&data_syn(party, 50_001)).map(port),
            Some(50_001),
            "a reset: nobody has announced that"
        );
        // A connection is there for one.
        let again = Said { source: (party.client(), 50_002), ..data };
        assert_eq!(lab.say(&again).map(|said| said.flags), Some(RST | ACK));
    }
}

#[test]
fn an_extended_passive_reply_is_passed_on_as_it_is_in_both_families() {
    for party in [Party::V4, Party::V6] {
        let mut lab = Lab::new(&parsed(&file("")), 2);
        let octet = lab.control(party);
        lab.say(&party.client_says(CLIENTS_NEXT, NEXT, "EPSV\r\n")).expect("it is passed on");
        let reply = "229 Entering Extended Passive Mode (|||50000|)\r\n";
        let got = lab.say(&party.server_says(octet, NEXT, CLIENTS_NEXT + 6, reply)).expect("passed on");
        assert_eq!((got.carried.as_str(), got.source), (reply, (party.vip(), 21)));
        let data = data_syn(party, 50_000);
        let syn = lab.say_to(1, &data).expect("it is passed on");
        assert_eq!(syn.destination, (party.server(octet), 50_000));
        let answer = Said { source: syn.destination, destination: syn.source, ..syn }.with_flags(SYN | ACK);
        for worker in [0, 1] {
            let answer = lab.say_to(worker, &answer).expect("it is passed on");
            assert_eq!((answer.source, answer.destination), (data.destination, data.source));
        }
        assert_eq!(lab.found(Helped::Passive), 1);
        lab.assert_counts_equal_a_recount();
    }
}

#[test]
fn a_server_connects_from_its_data_port_to_where_the_client_has_said() {
    let commands = [(Party::V4, "PORT 10,0,0,200,195,80\r\n"), (Party::V4, "EPRT |1|10.0.0.200|50000|\r\n")];
    let commands = commands.into_iter().chain([(Party::V6, "EPRT |2|2001:db8::200|50000|\r\n")]);
    for ((party, command), server_port) in commands.flat_map(|it| [(it, 20), (it, 2_120)]) {
        let mut lab = Lab::new(&parsed(&file("")), 2);
        let octet = lab.control(party);
        let said = lab.say(&party.client_says(CLIENTS_NEXT, NEXT, command)).expect("it is passed on");
        assert_eq!(said.carried, command, "the real server sees the client's own address");
        assert_eq!(lab.found(Helped::Active), 1);
        let syn = Said {
            source: (party.server(octet), server_port),
            destination: (party.client(), 50_000),
            ..party.client_says(1, 0, "").with_flags(SYN)
        };
        let other = Said { source: (party.server(23 - octet), server_port), ..syn.clone() };
        assert_eq!(lab.say(&other), None, "another real server's");
        let beside = Said { source: (party.server(octet), 2_119), ..syn.clone() };
        assert_eq!(lab.say(&beside), None, "from another port");
        let got = lab.say_to(1, &syn).expect("it is passed on");
        assert_eq!((got.source, got.destination), ((party.vip(), server_port), syn.destination));
        let answer = Said { source: syn.destination, destination: got.source, ..got }.with_flags(SYN | ACK);
        for worker in [0, 1] {
            let answer = lab.say_to(worker, &answer).expect("it is passed on");
            assert_eq!(answer.destination, syn.source, "{command}");
        }
        assert_eq!(lab.found(Helped::Opened), 1);
        lab.assert_counts_equal_a_recount();
    }
}

#[test]
fn what_is_explained_of_data_connections_is_what_happens() {
    for party in [Party::V4, Party::V6] {
        let mut lab = Lab::new(&parsed(&file("")), 1);
        let octet = lab.control(party);
        let asked = |lab: &mut Lab, said: &Said| {
            let question = Question {
                protocol: weir_config::model::Protocol::Tcp,
                source: said.source,
                destination: said.destination,
                segment: if said.flags == SYN { Segment::Syn } else { Segment::Ack },
                port: 0,
                total_len: 60,
            };
            let (snapshot, now) = (lab.snapshot.clone(), lab.now);
            let told = lab.directors[0].explain(&question, &snapshot, now);
            (told.to, matches!(told.outcome, Outcome::Sent { .. }))
        };
        let data = data_syn(party, 50_000);
        assert_eq!(asked(&mut lab, &data), (None, false));
        lab.say(&party.client_says(CLIENTS_NEXT, NEXT, "EPSV\r\n")).expect("it is passed on");
        lab.say(&party.server_says(octet, NEXT, CLIENTS_NEXT + 6, "229 ok (|||50000|)\r\n"))
            .expect("passed on");
        let to = asked(&mut lab, &data);
        assert!(matches!(to, (Some(To::Server(_, Flow::New)), true)), "{to:?}");
        lab.say(&data).expect("it is passed on");
        let to = asked(&mut lab, &data.clone().with_flags(ACK));
        assert!(matches!(to, (Some(To::Server(_, Flow::Known)), true)), "{to:?}");
        let command =
            if party.is_v6 { "EPRT |2|2001:db8::200|50003|\r\n" } else { "PORT 10,0,0,200,195,83\r\n" };
        let syn = Said {
            source: (party.server(octet), 20),
            destination: (party.client(), 50_003),
            ..party.client_says(1, 0, "").with_flags(SYN)
        };
        assert_eq!(asked(&mut lab, &syn), (None, false));
        lab.say(&party.client_says(CLIENTS_NEXT + 6, NEXT, command)).expect("it is passed on");
        let to = asked(&mut lab, &syn);
        assert!(matches!(to, (Some(To::Client(_, Flow::New)), true)), "{to:?}");
    }
}
