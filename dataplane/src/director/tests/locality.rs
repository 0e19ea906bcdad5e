//! What lblc and lblcr remember of destinations, and forget.

use super::*;

/// A mark over a network of destinations, served by DR.
fn cache(scheduler: &str) -> Config {
    let text = format!(
        "[connections]\ncapacity = 65536\n[schedulers]\nlblc_expiration = 600\nlblcr_expiration = 600\n\
         [[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\"]\n\
         [[mark]]\nmark = 1\naddresses = [\"172.16.0.0/16\"]\n\
         [[virtual_server]]\nname = \"caches\"\nmark = 1\nscheduler = \"{scheduler}\"\nforwarding = \"dr\"\n\
         [[virtual_server.real_server]]\naddress = \"10.0.0.11\"\n\
         [[virtual_server.real_server]]\naddress = \"10.0.0.12\"\n\
         [[neighbor]]\naddress = \"10.0.0.11\"\nmac = \"02:00:00:00:00:0b\"\n\
         [[neighbor]]\naddress = \"10.0.0.12\"\nmac = \"02:00:00:00:00:0c\"\n"
    );
    weir_config::parse("test", &text).unwrap_or_else(|report| panic!("{report}")).config
}

impl Lab {
    fn ask_for(&mut self, destinations: std::ops::Range<u32>) {
        for destination in destinations {
            let sent =
                self.send(frame(OWN, (CLIENT, 1000), (Addr4::new(172, 16, 0, 0).plus(destination), 80), SYN));
            assert_eq!(sent.len(), 1, "destination {destination}");
        }
    }

    fn remembered(&self) -> u32 {
        let service = self.snapshot.services().next().expect("a virtual server");
        service.state.iter().map(|state| state.destinations()).sum()
    }
}

#[test]
fn destinations_that_nobody_asks_for_are_forgotten() {
    for scheduler in ["lblc", "lblcr"] {
        let config = cache(scheduler);
        let mut lab = Lab::new(&config, 1);
        lab.ask_for(0..20);
        assert_eq!(lab.remembered(), 20);
        // The kernel's clock: every thirtieth minute it looks at all of them. A reload does not set it back.
        (0..14).for_each(|_| lab.pass_millis(60_000));
        lab.reload(&config);
        lab.ask_for(0..5);
        assert_eq!(lab.remembered(), 20);
        (0..17).for_each(|_| lab.pass_millis(60_000));
        (0..100).for_each(|_| lab.pass_millis(1));
        assert_eq!(lab.remembered(), 0, "{scheduler}");
    }
}

#[test]
fn a_full_memory_takes_new_destinations_again_when_old_ones_were_not_asked_for() {
    let mut lab = Lab::new(&cache("lblc"), 1);
    lab.ask_for(0..24_576 + 100);
    assert_eq!(lab.remembered(), 24_576);
    // Six minutes later those in excess go, with some to spare.
    (0..7).for_each(|_| lab.pass_millis(60_000));
    (0..100).for_each(|_| lab.pass_millis(1));
    let left = lab.remembered();
    assert!(left <= 16_384, "{left}");
    lab.ask_for(30_000..30_100);
    assert_eq!(lab.remembered(), left + 100);
}

#[test]
fn each_of_many_virtual_servers_has_its_turn() {
    let mut config = cache("lblc");
    for number in 2..40u32 {
        let mut mark = config.marks[0].clone();
        let mut server = config.virtual_servers[0].clone();
        mark.mark = number;
        mark.addresses = vec![format!("172.{}.0.0/16", 16 + number).parse().expect("a network")];
        server.mark = Some(number);
        server.name = format!("caches{number}");
        config.marks.push(mark);
        config.virtual_servers.push(server);
    }
    let mut lab = Lab::new(&config, 1);
    for network in 2..40 {
        lab.ask_for(network << 16..(network << 16) + 3);
    }
    (0..40).for_each(|_| lab.pass_millis(1));
    for _ in 0..60 {
        lab.pass_millis(60_000);
        (0..40).for_each(|_| lab.pass_millis(1));
    }
    for service in lab.snapshot.services() {
        assert_eq!(service.state[0].destinations(), 0, "{}", service.name);
    }
}
