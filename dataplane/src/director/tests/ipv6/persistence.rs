//! Persistence of IPv6 clients: by the rules of IPv4's, with prefixes of theirs.

use weir_config::model::Persistence;

use super::*;

/// [`both`] with persistence by these prefixes, of IPv4 and of IPv6.
fn lasting(timeout_secs: u32, netmasks: [u8; 2]) -> Config {
    let mut config = both("wrr", "");
    for (server, netmask) in config.virtual_servers.iter_mut().zip(netmasks) {
        server.persistence = Some(Persistence { timeout_secs, netmask, engine: None });
    }
    config
}

/// Of each template: the last octet of its network, connections, whether it is assured, and its real server's last octet.
fn templates(lab: &Lab) -> Vec<(u8, u32, bool, u8)> {
    let last = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(address) => address.octets()[15],
    };
    let alive =
        lab.directors[0].templates.listed().filter(|(_, it)| it.expires_in(100, lab.now.seconds).is_some());
    let listed = alive.map(|(network, template)| {
        let server = lab.snapshot.server(template.server());
        let server = if server.far.is_some() { last(server.ip()) } else { server.address.octets()[3] };
        // 2001:db8::11 is written in hexadecimal.
        let server = if server > 15 { (server >> 4) * 10 + (server & 15) } else { server };
        (last(network), template.connections(), template.is_assured(), server)
    });
    let mut listed: Vec<_> = listed.collect();
    listed.sort_unstable();
    listed
}

#[test]
fn both_families_tie_clients_by_one_rule() {
    const FLAGS: [u8; 6] = [SYN, SYN, ACK, FIN | ACK, RST, ACK | 8];
    let configs = [[32, 128], [31, 127], [30, 126]].map(|netmasks| lasting(100, netmasks));
    bolero::check!().with_iterations(150).with_type::<(u8, Vec<(u8, u8, u8, u8)>)>().for_each(
        |(which, steps)| {
            let config = &configs[usize::from(*which) % configs.len()];
            let (mut four, mut six) = (Lab::new(config, 1), Lab::new(config, 1));
            for &(number, port, flags, secs) in steps.iter().take(40) {
                let (number, port) = (number % 6 + 1, 1_000 + u16::from(port % 4));
                let flags = FLAGS[usize::from(flags) % FLAGS.len()];
                let seen =
                    [four.send(segment4(number, port, flags)), six.send(segment6(number, port, flags))]
                        .map(|sent| fate(&sent));
                assert_eq!(seen[0], seen[1], "client {number}, port {port}, flags {flags:#x}");
                assert_eq!((states(&four), templates(&four)), (states(&six), templates(&six)));
                for lab in [&mut four, &mut six] {
                    lab.pass_millis(if secs > 240 { 70_000 } else { u64::from(secs) });
                    if secs > 240 {
                        // Connections and templates that are over go.
                        lab.sweep();
                    }
                }
            }
            six.assert_counts_equal_a_recount();
            six.assert_templates_can_end();
            six.assert_that_all_ends();
            assert!(six.directors[0].table.clients.known() == 0);
        },
    );
}

#[test]
fn all_connections_of_a_network_reach_one_real_server_whichever_worker_they_come_to() {
    let mut lab = Lab::new(&lasting(300, [24, 64]), 2);
    let host = |number| Ipv6Addr::new(0x2001, 0xdb8, 7, 0, number, 0, 0, number);
    let from = |host: Ipv6Addr| packet6(host, v6(VIP6), (ipv4::TCP, 64), &tcp(1_000, SYN, 0));
    let servers: HashSet<_> =
        (1..40).map(|number| fate(&lab.send_to(usize::from(number) % 2, from(host(number))))).collect();
    assert_eq!(servers.len(), 1, "{servers:?}");
    assert_eq!(lab.hanging(), [39]);
    let beside = Ipv6Addr::new(0x2001, 0xdb8, 7, 1, 0, 0, 0, 1);
    lab.send(from(beside));
    assert_eq!(lab.hanging(), [1, 39]);
    assert!(lab.directors[0].templates.listed().all(|(network, _)| network.is_ipv6()));
    lab.assert_templates_can_end();
    lab.assert_that_all_ends();
}

#[test]
fn a_client_without_room_for_a_template_is_scheduled_without() {
    let mut lab = Lab::with_templates(&lasting(300, [32, 128]), 1, 14);
    let servers: Vec<_> = (1..=200).map(|number| fate(&lab.send(segment6(number, 1_000, SYN)))).collect();
    let full = lab.counters[0].templates_full.get();
    let tied = lab.hanging();
    assert_eq!((tied.len() + full as usize, tied.iter().max()), (200, Some(&1)));
    assert!(full > 100, "{full}");
    for (number, server) in (1..=200).zip(&servers) {
        assert!(server.is_some_and(|(octet, _)| octet != 0));
        assert_eq!(fate(&lab.send(segment6(number, 1_000, ACK))), *server);
    }
    // Room comes back with time.
    for _ in 0..3 {
        lab.pass_millis(1_000_000);
        lab.sweep();
    }
    assert_eq!(lab.hanging(), [0; 0]);
    lab.send(segment6(201, 1_000, SYN));
    assert_eq!((lab.hanging(), lab.counters[0].templates_full.get()), (vec![1], full));
}

#[test]
fn a_changed_prefix_begins_with_new_templates() {
    let mut lab = Lab::new(&lasting(300, [24, 64]), 1);
    let server = fate(&lab.send(segment6(1, 1_000, SYN)));
    assert_eq!(fate(&lab.send(segment6(2, 1_000, SYN))), server);
    lab.reload(&lasting(300, [32, 128]));
    assert_eq!(fate(&lab.send(segment6(1, 1_000, ACK))), server, "what it has goes on");
    lab.sweep();
    lab.sweep();
    let servers: HashSet<_> = (1..=4).map(|number| fate(&lab.send(segment6(number, 1_001, SYN)))).collect();
    assert!(servers.len() > 1, "each client has a template of its own: {servers:?}");
    lab.assert_templates_can_end();
    lab.assert_counts_equal_a_recount();
    lab.assert_that_all_ends();
}
