//! Control and data connections of FTP go on in the next process.

use super::super::ftp::{CLIENTS_NEXT, NEXT, Party, data_syn, file, parsed};
use super::*;
use crate::stats::Helped;

#[test]
fn control_and_data_connections_go_on_and_others_are_announced() {
    let (config, shape) = (parsed(&file("")), Shape { workers: 1, capacity: 1_024, templates: 64 });
    let mut process = Process::start(&config, shape, None, Now::default());
    let party = Party::V4;
    let octet = process.lab.control(party);
    let announce = |lab: &mut Lab, from: u32, port: u16| {
        lab.say(&party.client_says(CLIENTS_NEXT, from, "EPSV\r\n")).expect("it is passed on");
        let reply = format!("229 ok (|||{port}|)\r\n");
        lab.say(&party.server_says(octet, from, CLIENTS_NEXT, &reply)).expect("passed on");
        from.wrapping_add(reply.len() as u32)
    };
    let next = announce(&mut process.lab, NEXT, 50_000);
    process.lab.say(&data_syn(party, 50_000)).expect("it is passed on");
    let (files, now) = process.end();
    let mut process = Process::start(&config, shape, Some(files), now);
    let lab = &mut process.lab;
    let got = lab.say(&data_syn(party, 50_000).with_flags(ACK)).expect("it goes on");
    assert_eq!(got.destination, (party.server(octet), 50_000));
    // Where a line begins is known from the end of another one on.
    lab.say(&party.server_says(octet, next, CLIENTS_NEXT, "200 ok\r\n")).expect("it goes on");
    announce(lab, next.wrapping_add(8), 50_001);
    assert_eq!(lab.found(Helped::Passive), 1);
    lab.assert_counts_equal_a_recount();
}
