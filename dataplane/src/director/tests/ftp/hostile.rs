//! Control connections of those who mean ill, or are cut to pieces: nothing is opened that should not be.

use super::*;
use crate::director::ftp::ACTIVE_PER_SECOND;

/// What is found of a client's bytes.
fn heard(command: &str) -> (Lab, u8) {
    let mut lab = Lab::new(&parsed(&file("")), 1);
    let octet = lab.control(Party::V4);
    let got = lab.say(&Party::V4.client_says(CLIENTS_NEXT, NEXT, command)).expect("it is passed on");
    assert_eq!(got.carried, command);
    (lab, octet)
}

/// What becomes of a server's bytes, to a client that has asked for passive connections as often.
fn replied(asked: usize, replies: &[&str]) -> (Lab, Vec<String>) {
    let (mut lab, octet) = heard(&"PASV\r\n".repeat(asked));
    let mut sequence = NEXT;
    let mut got = Vec::new();
    for reply in replies {
        let reply = reply.replace("RIP", &format!("10,0,0,{octet}"));
        got.push(
            lab.say(&Party::V4.server_says(octet, sequence, CLIENTS_NEXT, &reply))
                .expect("passed on")
                .carried,
        );
        sequence = sequence.wrapping_add(reply.len() as u32);
    }
    (lab, got)
}

#[test]
fn a_client_opens_nothing_to_others_and_nothing_to_low_ports() {
    let long = format!("PORT 10,0,0,200,195,80{}\r\n", " ".repeat(500));
    let cases = [
        ("PORT 10,0,0,201,195,80\r\n", Helped::ForeignAddress),
        ("PORT 127,0,0,1,195,80\r\n", Helped::ForeignAddress),
        ("EPRT |1|10.0.0.11|50000|\r\n", Helped::ForeignAddress),
        ("EPRT |2|2001:db8::200|50000|\r\n", Helped::ForeignAddress),
        ("PORT 10,0,0,200,3,255\r\n", Helped::LowPort),
        ("PORT 10,0,0,200,0,0\r\n", Helped::LowPort),
        ("PORT 10,0,0,200,195\r\n", Helped::Malformed),
        ("PORT 10,0,0,200,195,80", Helped::Split),
        (long.as_str(), Helped::Long),
    ];
    for (command, expected) in cases {
        let (lab, _) = heard(command);
        assert_eq!((lab.found(expected), lab.found(Helped::Active)), (1, 0), "{command}");
    }
}

#[test]
fn a_server_opens_nothing_at_others_and_nothing_unasked() {
    let cases = [
        (1, "227 Entering Passive Mode (10,0,0,201,195,80)\r\n", Helped::ForeignAddress),
        (1, "227 Entering Passive Mode (RIP,3,255)\r\n", Helped::LowPort),
        (1, "227 Entering Passive Mode (RIP,195)\r\n", Helped::Malformed),
        (0, "227 Entering Passive Mode (RIP,195,80)\r\n", Helped::Unasked),
        (0, "229 ok (|||50000|)\r\n", Helped::Unasked),
        (1, "229 ok (|||1023|)\r\n", Helped::LowPort),
        (1, "229 ok (|1|10.0.0.11|50000|)\r\n", Helped::Malformed),
        (1, "227 Entering Passive Mode (RIP,195,80)", Helped::Split),
    ];
    for (asked, reply, expected) in cases {
        let (mut lab, got) = replied(asked, &[reply]);
        assert_eq!((lab.found(expected), lab.found(Helped::Passive)), (1, 0), "{reply}");
        assert!(reply.starts_with(&got[0][..16]), "{reply} is {}", got[0]);
        assert_eq!(lab.say(&data_syn(Party::V4, 50_000)).map(|said| said.flags), Some(RST | ACK), "{reply}");
    }
}

#[test]
fn a_port_of_another_virtual_server_is_not_taken_from_it() {
    let web = "[[virtual_server]]\nname = \"web\"\naddress = \"10.0.0.100\"\nport = 50000\nprotocol = \"tcp\"\n\
               forwarding = \"nat\"\n[[virtual_server.real_server]]\naddress = \"10.0.0.12\"\nport = 80\n";
    let mut lab = Lab::new(&parsed(&(file("") + web)), 1);
    let octet = lab.control(Party::V4);
    lab.say(&Party::V4.client_says(CLIENTS_NEXT, NEXT, "EPSV\r\n")).expect("it is passed on");
    lab.say(&Party::V4.server_says(octet, NEXT, CLIENTS_NEXT, "229 ok (|||50000|)\r\n")).expect("passed on");
    assert_eq!(lab.found(Helped::Taken), 1);
    let got = lab.say(&data_syn(Party::V4, 50_000)).expect("it is the other one's");
    assert_eq!(got.destination, (Party::V4.server(12), 80));
}

#[test]
fn two_servers_that_announce_one_port_to_one_client_do_not_get_mixed_up() {
    let mut lab = Lab::new(&parsed(&file("")), 1);
    let parties = [Party::V4, Party { client_port: 40_001, ..Party::V4 }];
    let octets = parties.map(|party| {
        let octet = lab.control(party);
        lab.say(&party.client_says(CLIENTS_NEXT, NEXT, "EPSV\r\n")).expect("it is passed on");
        lab.say(&party.server_says(octet, NEXT, CLIENTS_NEXT, "229 ok (|||50000|)\r\n")).expect("passed on");
        octet
    });
    assert_ne!(octets[0], octets[1]);
    assert_eq!((lab.found(Helped::Passive), lab.found(Helped::Taken)), (1, 1));
    let got = lab.say(&data_syn(Party::V4, 50_000)).expect("it is passed on");
    assert_eq!(got.destination.0, Party::V4.server(octets[0]));
}

#[test]
fn a_reply_that_only_looks_like_one_since_a_segment_begins_there_is_none() {
    // A client can have the server say anything within a line, and cut it where it likes by its window.
    let parts = ["550 no such file: ", "227 Entering Passive Mode (RIP,195,80)\r\n"];
    let (lab, got) = replied(1, &parts);
    assert_eq!((lab.found(Helped::Passive), lab.found(Helped::Rewritten)), (0, 0));
    assert!(got[1].contains("(10,0,0,1"), "{got:?}");
    // The reply itself comes behind it.
    let (lab, _) = replied(1, &[parts[0], parts[1], "227 Entering Passive Mode (RIP,195,80)\r\n"]);
    assert_eq!((lab.found(Helped::Passive), lab.found(Helped::Rewritten)), (1, 1));
}

#[test]
fn several_lines_in_a_segment_are_each_read_and_no_more_are_changed_than_may_be() {
    let reply = "227 Entering Passive Mode (RIP,195,80)\r\n";
    let (lab, got) = replied(2, &[&format!("200 fine\r\n{reply}150 \r\n{}", reply.replace("80", "81"))]);
    assert_eq!(got[0].matches("(10,0,0,100,").count(), 2, "{got:?}");
    assert_eq!((lab.found(Helped::Passive), lab.found(Helped::Rewritten)), (2, 2));
    let (lab, got) = replied(6, &[&(0..6).map(|n| reply.replace("80", &n.to_string())).collect::<String>()]);
    assert_eq!(got[0].matches("(10,0,0,100,").count(), 4, "{got:?}");
    assert_eq!((lab.found(Helped::Passive), lab.found(Helped::NoRoom)), (4, 2));
}

#[test]
fn a_reply_that_would_not_fit_the_way_is_left_alone() {
    let filler = format!("200 {}\r\n", "x".repeat(1_430));
    let (lab, got) = replied(1, &[&format!("{filler}227 (RIP,195,80)\r\n")]);
    assert_eq!((lab.found(Helped::NoRoom), lab.found(Helped::Passive)), (1, 0), "{}", got[0].len());
}

#[test]
fn bytes_with_a_wrong_checksum_say_nothing() {
    let mut lab = Lab::new(&parsed(&file("")), 1);
    lab.control(Party::V4);
    let mut frame = Party::V4.client_says(CLIENTS_NEXT, NEXT, "PORT 10,0,0,200,195,80\r\n").frame();
    frame[50] ^= 1;
    assert_eq!(lab.send(frame).len(), 1, "it is for the real server to see that");
    assert_eq!(lab.found(Helped::Active), 0);
}

#[test]
fn a_flood_of_announcements_has_a_limit_and_leaves_a_control_connection_its_last_ones() {
    let mut lab = Lab::new(&parsed(&file("")), 1);
    let octet = lab.control(Party::V4);
    let (mut sequence, count) = (CLIENTS_NEXT, ACTIVE_PER_SECOND + 100);
    for number in 0..count {
        let command = format!("PORT 10,0,0,200,{},{}\r\n", 16 + number / 256, number % 256);
        lab.say(&Party::V4.client_says(sequence, NEXT, &command)).expect("it is passed on");
        sequence += command.len() as u32;
    }
    assert_eq!(lab.found(Helped::Active), u64::from(ACTIVE_PER_SECOND));
    assert_eq!(lab.found(Helped::Limited), 100);
    let comes = |lab: &mut Lab, number: u32| {
        let syn = Said {
            source: (Party::V4.server(octet), 20),
            destination: (Party::V4.client(), 4_096 + number as u16),
            ..Party::V4.client_says(1, 0, "").with_flags(SYN)
        };
        lab.say(&syn).is_some()
    };
    let last = ACTIVE_PER_SECOND - 1;
    assert_eq!(
        [last, last - 3, last - 4, 0].map(|number| comes(&mut lab, number)),
        [true, true, false, false]
    );
}

#[test]
fn a_segment_announces_one_port_and_sent_again_none() {
    let command = "PORT 10,0,0,200,195,80\r\nPORT 10,0,0,200,195,81\r\n";
    let (mut lab, _) = heard(command);
    for _ in 0..2 {
        assert_eq!([Helped::Active, Helped::Limited].map(|it| lab.found(it)), [1, 1]);
        lab.say(&Party::V4.client_says(CLIENTS_NEXT, NEXT, command)).expect("it is passed on");
    }
}

#[test]
fn no_bytes_of_either_end_panic_or_break_a_checksum() {
    let config = parsed(&file(""));
    let words: [&[u8]; 12] = [
        b"PASV\r\n",
        b"EPSV\r\n",
        b"PORT 10,0,0,200,",
        b"195,80",
        b"\r\n",
        b"227 (10,0,0,11,195,80)\r\n",
        b"227 ",
        b"(10,0,0,12,",
        b"229 (|||50000|)\r\n",
        b"EPRT |1|10.0.0.200|",
        b"\n",
        b"220-",
    ];
    bolero::check!().with_iterations(60).with_type::<Vec<(u8, u16, Vec<u8>, bool)>>().for_each(|steps| {
        let mut lab = Lab::new(&config, 1);
        let octet = lab.control(Party::V4);
        for (what, at, bytes, is_clients) in steps.iter().take(30) {
            let text: Vec<u8> = bytes
                .iter()
                .take(12)
                .flat_map(|byte| {
                    words.get(usize::from(*byte) % 14).map_or(vec![*byte & 127], |word| word.to_vec())
                })
                .collect();
            let carried = String::from_utf8(text).expect("seven bits");
            let sequence = NEXT.wrapping_add(u32::from(at % 64)).wrapping_sub(u32::from(*what) % 2 * 40);
            let said = match is_clients {
                true => Party::V4.client_says(sequence, NEXT, &carried),
                false => Party::V4.server_says(octet, sequence, 1, &carried),
            };
            // What comes out is read, and its checksums looked at.
            lab.say(&said);
        }
        lab.assert_counts_equal_a_recount();
    });
}
