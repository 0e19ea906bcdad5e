//! Templates and the connections that hang on them, through edits of the virtual server.

use ipnet::IpNet;

use super::*;
use crate::conn::record::ServerId;

/// The configuration of [`config`] with persistence: seconds and prefix length.
fn lasting(servers: &[(u8, u16)], timeout_secs: u32, netmask: u8) -> Config {
    let mut config = config("dr", "rr", servers, "");
    config.virtual_servers[0].persistence =
        Some(weir_config::model::Persistence { timeout_secs, netmask, engine: None });
    config
}

impl Lab {
    /// Connections that hang on each template, in no order.
    pub(super) fn hanging(&self) -> Vec<u32> {
        let mut counts: Vec<u32> =
            self.directors[0].templates.listed().map(|(_, template)| template.connections()).collect();
        counts.sort_unstable();
        counts
    }

    /// No template counts more connections than hang on it: it would never end.
    pub(super) fn assert_templates_can_end(&self) {
        for (network, template) in self.directors[0].templates.listed() {
            let owner = template.whose();
            let Some(service) = self.snapshot.service(owner.service) else { continue };
            let Some(persistence) = service.persistence.filter(|_| service.epoch.number == owner.epoch)
            else {
                continue;
            };
            let network = IpNet::new(network, persistence.netmask).expect("a prefix length");
            let records = self.directors.iter().flat_map(|director| {
                let view = director.table.view();
                director.table.iter().map(move |record| (record, view.client(record)))
            });
            let hang = records.filter(|(record, client)| {
                record.is_templated()
                    && client.is_some_and(|client| network.contains(&client))
                    && record.server() == template.server()
                    && self.snapshot.server(record.server()).service == service.id
            });
            let hang = hang.count() as u32;
            assert!(template.connections() <= hang, "{} counted, {hang} hang on it", template.connections());
        }
    }

    /// Lets everything end that can.
    pub(super) fn assert_that_all_ends(&mut self) {
        for _ in 0..3 {
            self.pass_millis(2_000_000);
            self.sweep();
        }
        assert_eq!(self.directors.iter().map(|director| director.table.len()).sum::<usize>(), 0);
        assert_eq!(self.hanging(), [0; 0]);
    }
}

/// A client of its own for each number.
fn datagram(number: u32) -> Vec<u8> {
    let mut frame = from(number);
    frame.truncate(34);
    let header = Ipv4::new(ipv4::UDP, Addr4::new(11, 0, 0, 0).plus(number), VIP, 8, 64);
    frame[14..34].copy_from_slice(header.as_bytes());
    frame.extend([[0x10, 0], [0, 80], [0, 8], [0, 0]].concat());
    frame
}

/// The same with a SYN.
fn from(number: u32) -> Vec<u8> {
    frame(OWN, (Addr4::new(11, 0, 0, 0).plus(number), 1000), (VIP, 80), SYN)
}

#[test]
fn clients_find_room_beside_templates_that_are_over() {
    let mut config = lasting(&[(11, 1), (12, 1)], 5, 32);
    config.virtual_servers[0].protocol = weir_config::model::Protocol::Udp;
    config.virtual_servers[0].one_packet = true;
    let mut lab = Lab::new(&config, 1);
    // Many times as many clients as there is room for, of whom a few are alive; and no sweep comes by.
    for second in 0..600u32 {
        lab.now.seconds = second;
        lab.now.millis = u64::from(second) * 1_000;
        for client in second * 5..second * 5 + 5 {
            let server = lab.send(datagram(client))[0][5];
            assert_eq!(lab.send(datagram(client))[0][5], server);
        }
    }
    assert_eq!(lab.counters[0].templates_full.get(), 0);
}

#[test]
fn the_sweep_over_a_large_table_of_templates_takes_twenty_seconds() {
    let mut lab = Lab::with_templates(&lasting(&[(11, 1)], 1, 32), 1, 1 << 20);
    let clients = 1_000;
    (0..clients).for_each(|client| drop(lab.send(from(client))));
    // Their connections end.
    lab.pass_millis(1_000_000);
    lab.sweep();
    assert_eq!(lab.directors[0].table.len(), 0);
    (0..20_000).for_each(|_| lab.pass_millis(1));
    lab.pass_millis(61_000);
    let left = lab.hanging().len();
    assert!(left > 900, "{left} wait for the sweep");
    // Passes follow each other as fast as they can while something is due.
    for _ in 0..20_000 {
        lab.pass_millis(1);
        while lab.directors[0].buckets_due != 0 {
            assert!(lab.directors[0].is_behind(lab.now));
            lab.pass_millis(0);
        }
    }
    assert_eq!(lab.hanging(), [0; 0]);
}

#[test]
fn a_changed_netmask_begins_with_new_templates_and_leaves_none_that_lives_for_ever() {
    let servers = [(11, 1), (12, 1)];
    let mut lab = Lab::new(&lasting(&servers, 300, 24), 2);
    assert_eq!(lab.server_of(1000, SYN), Some(12));
    assert_eq!(lab.server_of(1001, SYN), Some(12));
    assert_eq!(lab.hanging(), [2]);
    lab.reload(&lasting(&servers, 300, 32));
    // By the new mask nobody knows the client; what it has goes on.
    assert_eq!(lab.server_of(1000, ACK), Some(12));
    assert_eq!(lab.server_of(1002, SYN), Some(11));
    assert_eq!(lab.server_of(1003, SYN), Some(11));
    lab.assert_templates_can_end();
    // An old connection ends while it can't be told from new ones by its record.
    lab.server_of(1000, RST);
    lab.server_of(1000, SYN);
    lab.sweep();
    lab.sweep();
    assert_eq!(lab.server_of(1004, SYN), Some(11));
    lab.assert_templates_can_end();
    assert_eq!(lab.hanging().iter().max(), Some(&1), "the first one after a sweep that counts");
    lab.assert_counts_equal_a_recount();
    lab.assert_that_all_ends();
}

#[test]
fn persistence_switched_off_and_on_leaves_no_template_that_lives_for_ever() {
    let servers = [(11, 1), (12, 1)];
    let mut lab = Lab::new(&lasting(&servers, 300, 32), 1);
    assert_eq!(lab.server_of(1000, SYN), Some(12));
    lab.reload(&config("dr", "rr", &servers, ""));
    assert_eq!(lab.server_of(1001, SYN), Some(11));
    lab.reload(&lasting(&servers, 300, 32));
    assert_eq!(lab.server_of(1002, SYN), Some(12));
    assert_eq!(lab.server_of(1003, SYN), Some(12));
    lab.assert_templates_can_end();
    lab.assert_counts_equal_a_recount();
    lab.assert_that_all_ends();
}

#[test]
fn a_number_that_a_template_names_is_not_given_to_another_real_server() {
    let number_of = |lab: &Lab, octet: u8| -> ServerId {
        let is_it = |server: &&crate::snapshot::server::Server| server.address == Addr4::new(10, 0, 0, octet);
        lab.snapshot.servers().find(is_it).expect("it is configured").id
    };
    let mut lab = Lab::new(&lasting(&[(11, 1), (12, 1), (13, 1)], 300, 32), 1);
    assert_eq!(lab.server_of(1000, SYN), Some(13));
    let former = number_of(&lab, 13);
    lab.pass_millis(70_000);
    lab.sweep();
    assert_eq!(lab.hanging(), [0], "its connections are over, the template is not");
    lab.reload(&lasting(&[(11, 1), (12, 1)], 300, 32));
    lab.reload(&lasting(&[(11, 1), (12, 1), (14, 1)], 300, 32));
    assert_ne!(number_of(&lab, 14), former);
    // The client is scheduled anew, and its template names another from now on.
    let next = lab.server_of(1001, SYN);
    assert!(next.is_some() && lab.server_of(1002, SYN) == next);
    lab.reload(&lasting(&[(11, 1), (12, 1), (14, 1)], 300, 32));
    lab.reload(&lasting(&[(11, 1), (12, 1), (14, 1), (15, 1)], 300, 32));
    assert_eq!(number_of(&lab, 15), former);
    lab.assert_counts_equal_a_recount();
    lab.assert_that_all_ends();
}

#[test]
fn a_removed_virtual_server_that_comes_back_knows_no_client() {
    let servers = [(11, 1), (12, 1)];
    let mut none = lasting(&servers, 300, 32);
    none.virtual_servers.clear();
    let mut lab = Lab::new(&lasting(&servers, 300, 32), 1);
    assert_eq!(lab.server_of(1000, SYN), Some(12));
    lab.reload(&none);
    lab.reload(&lasting(&servers, 300, 32));
    assert_eq!(lab.server_of(1001, SYN), Some(12), "a round of its own");
    assert_eq!(lab.server_of(1002, SYN), Some(12));
    lab.assert_templates_can_end();
    lab.assert_that_all_ends();
}
