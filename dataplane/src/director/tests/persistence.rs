//! Templates and the connections that hang on them, through edits of the virtual server.

use super::*;
use crate::conn::record::ServerId;

/// The configuration of [`config`] with persistence: seconds and prefix length.
fn lasting(servers: &[(u8, u16)], timeout_secs: u32, netmask: u8) -> Config {
    let mut config = config("dr", "rr", servers, "");
    config.virtual_servers[0].persistence = Some(weir_config::model::Persistence { timeout_secs, netmask });
    config
}

impl Lab {
    /// Connections that hang on each template, in no order.
    fn hanging(&self) -> Vec<u32> {
        let mut counts: Vec<u32> =
            self.directors[0].templates.iter().map(|template| template.connections()).collect();
        counts.sort_unstable();
        counts
    }

    /// No template counts more connections than hang on it: it would never end.
    pub(super) fn assert_templates_can_end(&self) {
        for template in self.directors[0].templates.iter() {
            let key = template.key();
            let Some(service) = self.snapshot.service(key.service()) else { continue };
            let Some(persistence) = service.persistence.filter(|_| service.epoch.number == key.epoch())
            else {
                continue;
            };
            let mask = u32::MAX.checked_shl(32 - u32::from(persistence.netmask)).unwrap_or(0);
            let records = self.directors.iter().flat_map(|director| director.table.iter());
            let hang = records.filter(|record| {
                record.is_templated()
                    && record.client() & mask == key.client()
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
        let is_it =
            |server: &&crate::snapshot::server::Server| server.address == 0x0a00_0000 | u32::from(octet);
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
