//! Clients whose addresses get a number of the file's by a reload, as a VIP or as one of a small network of a mark.

use super::*;

/// As [`both`], with these tables besides.
fn with(more: &str) -> Config {
    let mut config = both("rr", "");
    let own = format!("[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"{OWN6}/64\"]\n");
    let more = weir_config::parse("test", &(own + more)).unwrap_or_else(|report| panic!("{report}")).config;
    config.marks.extend(more.marks);
    config.virtual_servers.extend(more.virtual_servers);
    config
}

/// The clients' addresses are those of a mark, at other ports than theirs.
fn marked() -> Config {
    with(
        "[[mark]]\nmark = 1\naddresses = [\"2001:db8:7::/124\"]\nports = [9]\n\
         [[virtual_server]]\nname = \"marked\"\nmark = 1\nfamily = \"ipv6\"\n\
         [[virtual_server.real_server]]\naddress = \"2001:db8::11\"\n",
    )
}

/// The first client is a VIP.
fn taken() -> Config {
    with(&format!(
        "[[virtual_server]]\nname = \"other\"\naddress = \"{}\"\nport = 9\nprotocol = \"tcp\"\n\
         [[virtual_server.real_server]]\naddress = \"2001:db8::11\"\n",
        client(1)
    ))
}

#[test]
fn connections_go_on_when_the_file_comes_to_know_their_clients_address() {
    // An address of ours opens none with any worker, so another one that gets a packet of the connection refuses it, as of IPv4.
    for (config, workers) in [(marked(), &[0, 1, 0][..]), (taken(), &[0])] {
        let mut lab = Lab::new(&both("rr", ""), 2);
        lab.directors.iter_mut().for_each(|director| director.shared.flows_move = true);
        // With the second worker other clients have these numbers.
        (7..9).for_each(|number| _ = lab.send_to(1, segment6(number, 2_000, SYN)));
        let server = fate(&lab.send(segment6(1, 1_000, SYN)));
        assert!(server.is_some_and(|(octet, _)| octet != 0));
        assert!(lab.snapshot.number6(client(1)).is_none());
        lab.reload(&config);
        assert!(lab.snapshot.number6(client(1)).is_some());
        for &worker in workers {
            assert_eq!(fate(&lab.send_to(worker, segment6(1, 1_000, ACK))), server, "with worker {worker}");
        }
        assert_eq!((lab.directors[0].table.len(), lab.directors[1].table.len()), (1, 2));
        // Once they are over the file's number stands for it.
        lab.send(segment6(1, 1_000, RST));
        lab.pass_millis(20_000);
        lab.sweep();
        assert_eq!(lab.directors[0].table.clients.known(), 0);
        lab.assert_counts_equal_a_recount();
    }
}

#[test]
fn new_connections_of_such_a_client_are_as_they_would_be_without_the_old_ones() {
    let mut lab = Lab::new(&both("rr", ""), 2);
    lab.directors.iter_mut().for_each(|director| director.shared.flows_move = true);
    let old = fate(&lab.send(segment6(1, 1_000, SYN)));
    lab.reload(&marked());
    let new = [0, 1].map(|worker| fate(&lab.send_to(worker, segment6(1, 1_001 + worker as u16, SYN))));
    for (port, server) in [(1_000, old), (1_001, new[0]), (1_002, new[1])] {
        for worker in [0, 1] {
            assert_eq!(fate(&lab.send_to(worker, segment6(1, port, ACK))), server, "{port} at {worker}");
        }
    }
    lab.reload(&taken());
    assert_eq!(fate(&lab.send(segment6(1, 1_000, ACK))), old);
    for worker in [0, 1] {
        assert!(lab.send_to(worker, segment6(1, 1_003, SYN)).is_empty(), "it is an address of ours");
    }
    assert_eq!(lab.dropped(DropReason::OwnSource), 2);
    lab.assert_counts_equal_a_recount();
}
