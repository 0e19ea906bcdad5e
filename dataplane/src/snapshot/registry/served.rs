//! What a configuration may say and workers can't do. [`weir_config`] refuses such a file at its place in the text; here is
//! the second net, so that nothing that got past the first is ever served as something else.

use std::net::IpAddr;

use weir_config::model::{Config, Family, Forwarding, RealServer, Tunnel, VirtualServer};

use super::RegistryError;
use crate::wire::encap::Encap;

/// What is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotServed {
    /// From a virtual server of one family to a real server of the other, by another method than a tunnel.
    #[error("{} does not lead from {} to {}; write an {} address of this real server", .0.name(), ip(.1), ip(.2), ip(.1))]
    Across(Forwarding, Family, Family),
}

fn ip(family: &Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

/// A real server's address, and how a tunnel to it wraps packets.
type Reach = (IpAddr, Encap);

/// Whether workers can do all that a configuration says. It may be one that verdicts of health checks are not laid over.
///
/// # Errors
/// The first thing that they can't.
pub fn check(config: &Config) -> Result<(), RegistryError> {
    for route in &config.routes {
        let (destination, gateway) = (Family::of(route.destination.addr()), Family::of(route.gateway));
        if destination != gateway {
            return Err(RegistryError::Route { destination: route.destination, gateway: route.gateway });
        }
    }
    config.virtual_servers.iter().try_for_each(check_service)
}

/// Whether workers can do what a virtual server says, its sorry server included.
pub(super) fn check_service(service: &VirtualServer) -> Result<(), RegistryError> {
    let mut servers = service.real_servers.iter().chain(&service.health.sorry_server);
    servers.try_for_each(|real| reach(service, real).map(|_| ()))
}

/// How a real server is reached.
pub(super) fn reach(service: &VirtualServer, real: &RealServer) -> Result<Reach, RegistryError> {
    reach_of(service.family(), real).map_err(|what| RegistryError::NotServed {
        name: service.name.clone(),
        server: Some((real.address, real.port).into()),
        what,
    })
}

fn reach_of(family: Family, real: &RealServer) -> Result<Reach, NotServed> {
    let theirs = Family::of(real.address);
    match real.forwarding {
        Forwarding::Tun => {}
        method if theirs != family => return Err(NotServed::Across(method, family, theirs)),
        Forwarding::Dr | Forwarding::Nat => {}
    }
    let encap = match real.tunnel {
        Tunnel::Ipip => Encap::Ipip,
        Tunnel::Gue { port, checksum } => Encap::Gue { port, checksum },
        Tunnel::Gre { checksum } => Encap::Gre { checksum },
    };
    Ok((real.address, encap))
}

#[cfg(test)]
mod tests {
    use weir_config::model::{Identity, TunnelChecksum};

    use super::*;
    use crate::address::Addr4;
    use crate::sched::Options;
    use crate::snapshot::registry::{Change, Progress, Registry};
    use crate::wire::ethernet::MacAddress;

    const OWN: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);

    /// A file in which all is served: tun with a sorry server, dr, nat, and a mark.
    fn file() -> Config {
        let mut text =
            "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\", \"2001:db8::2/64\"]\n\
            [[route]]\ndestination = \"192.0.2.0/24\"\ngateway = \"10.0.0.254\"\n\
            [[mark]]\nmark = 1\naddresses = [\"10.0.0.110\", \"2001:db8::110\"]\n"
                .to_owned();
        for (number, (method, at)) in
            [("tun", "address = \"10.0.0.100\""), ("dr", "address = \"10.0.0.101\""), ("nat", "mark = 1")]
                .into_iter()
                .enumerate()
        {
            let port = if at.starts_with("mark") { "" } else { "port = 80" };
            text += &format!(
                "[[virtual_server]]\nname = \"{method}\"\n{at}\n{port}\nforwarding = \"{method}\"\n"
            );
            if number == 0 {
                text += "[virtual_server.sorry_server]\naddress = \"10.0.0.12\"\n";
            }
            text += "[[virtual_server.real_server]]\naddress = \"10.0.0.11\"\n";
        }
        weir_config::parse("test", &text).unwrap_or_else(|report| panic!("{report}")).config
    }

    fn v6(address: &str) -> IpAddr {
        address.parse().expect("an address")
    }

    /// What configurations could say, were they not read by [`weir_config`]: the virtual server, and what is refused.
    type Case = (fn(&mut Config), &'static str);

    const OF_REAL_SERVERS: [Case; 2] = [
        (
            |file| file.virtual_servers[1].real_servers[0].address = v6("2001:db8::b"),
            "virtual server dr, real server [2001:db8::b]:80: dr does not lead from IPv4 to IPv6; write an IPv4 address of \
             this real server",
        ),
        (
            |file| file.virtual_servers[2].real_servers[0].address = v6("2001:db8::b"),
            "virtual server nat, real server [2001:db8::b]:0: nat does not lead from IPv4 to IPv6; write an IPv4 address of \
             this real server",
        ),
    ];

    const OF_ALL_ELSE: [Case; 3] = [
        (
            |file| file.virtual_servers[1].address = v6("2001:db8::101"),
            "virtual server dr, real server 10.0.0.11:80: dr does not lead from IPv6 to IPv4; write an IPv6 address of \
             this real server",
        ),
        (
            |file| {
                file.virtual_servers[1].address = v6("2001:db8::101");
                file.virtual_servers[1].real_servers[0].forwarding = Forwarding::Nat;
            },
            "virtual server dr, real server 10.0.0.11:80: nat does not lead from IPv6 to IPv4; write an IPv6 address of \
             this real server",
        ),
        (
            |file| file.routes[0].gateway = v6("2001:db8::fe"),
            "route to 192.0.2.0/24: its gateway 2001:db8::fe is of another address family; write one of the same",
        ),
    ];

    /// All that of a registry which decides what comes next.
    fn standing(registry: &Registry) -> (u64, Vec<Identity>, (usize, u32)) {
        let mut services: Vec<_> = registry.services.keys().copied().collect();
        services.sort_by_key(|identity| format!("{identity:?}"));
        (registry.generation, services, registry.numbers.state())
    }

    #[test]
    fn what_is_not_served_is_refused_in_a_whole_configuration_and_changes_nothing() {
        for (change, expected) in OF_REAL_SERVERS.into_iter().chain(OF_ALL_ELSE) {
            let mut bad = file();
            change(&mut bad);
            let mut registry = Registry::new(1, Options::default());
            let refused = |registry: &mut Registry| match registry.snapshot(&bad, &[OWN], Progress::default())
            {
                Ok(_) => panic!("it is served: {expected}"),
                Err(problem) => problem.to_string(),
            };
            assert_eq!(refused(&mut registry), expected, "from the start");
            assert_eq!(check(&bad).map_err(|problem| problem.to_string()), Err(expected.to_owned()));
            registry.snapshot(&file(), &[OWN], Progress::default()).expect("it is served");
            let before = standing(&registry);
            assert_eq!(refused(&mut registry), expected);
            assert_eq!(standing(&registry), before, "{expected}");
            let next = registry.snapshot(&file(), &[OWN], Progress::default()).expect("it is served");
            assert_eq!((next.generation, next.servers().count()), (2, 3));
        }
    }

    #[test]
    fn what_is_not_served_is_refused_in_a_few_virtual_servers_and_changes_nothing() {
        for (change, expected) in OF_REAL_SERVERS {
            let (good, mut bad) = (file(), file());
            change(&mut bad);
            let mut registry = Registry::new(1, Options::default());
            let base = registry.snapshot(&good, &[OWN], Progress::default()).expect("it is served");
            let before = standing(&registry);
            let changed: Vec<_> =
                bad.virtual_servers.iter().filter(|it| it.mark.is_none()).cloned().collect();
            match registry.amend(base, &Change::put_all(&changed), &good) {
                Err(problem) => assert_eq!(problem.to_string(), expected),
                // Marks take a whole configuration.
                Ok(amended) => assert!(amended.is_some() && expected.contains("server nat"), "{expected}"),
            }
            if !expected.contains("server nat") {
                assert_eq!(standing(&registry), before, "{expected}");
            }
        }
    }

    #[test]
    fn what_is_served_has_its_address_and_the_bytes_around_a_packet() {
        let registry = &mut Registry::new(1, Options::default());
        let mut over_ipv6 = file();
        over_ipv6.virtual_servers[0].real_servers[0].address = v6("2001:db8::b");
        over_ipv6.virtual_servers[0].real_servers[0].tunnel = Tunnel::Gre { checksum: TunnelChecksum::Csum };
        let snapshot = registry.snapshot(&over_ipv6, &[OWN], Progress::default()).expect("it is served");
        let far = snapshot.servers().find(|server| server.far.is_some()).expect("a real server of IPv6");
        let way = far.far.as_ref().and_then(|far| far.way).expect("a way to it");
        assert_eq!((far.ip(), far.mtu, far.next_hop(), far.exit()), (v6("2001:db8::b"), 1452, None, Some(0)));
        assert_eq!((way.hop.address().into(), way.source.into()), (v6("2001:db8::b"), v6("2001:db8::2")));
        over_ipv6.virtual_servers[0].address = v6("2001:db8::101");
        let snapshot = registry.snapshot(&over_ipv6, &[OWN], Progress::default()).expect("it is served");
        let mut there = snapshot.servers().filter(|server| server.is_present);
        let far = there.find(|server| server.far.is_some()).expect("a real server of IPv6");
        assert_eq!((far.ip(), far.mtu, far.exit()), (v6("2001:db8::b"), 1452, Some(0)));
        over_ipv6.virtual_servers[0].real_servers[0].address =
            file().virtual_servers[0].real_servers[0].address;
        let snapshot = registry.snapshot(&over_ipv6, &[OWN], Progress::default()).expect("it is served");
        let near = snapshot.servers().find(|server| server.mtu == 1472).expect("a real server of IPv4");
        let source = near.tunnel_source.get();
        assert_eq!((near.address, source), (Addr4::new(10, 0, 0, 11), Addr4::new(10, 0, 0, 2)));
        assert_eq!((near.exit(), near.far.is_none()), (Some(0), true));
        let snapshot = registry.snapshot(&file(), &[OWN], Progress::default()).expect("it is served");
        for server in snapshot.servers().filter(|server| server.is_present) {
            let is_tun = server.forwarding == Forwarding::Tun;
            assert_eq!(server.address, Addr4::new(10, 0, 0, 11));
            assert_eq!(server.mtu, if is_tun { 1480 } else { 1500 });
            assert_eq!(server.tunnel_source.get(), Addr4::new(10, 0, 0, 2));
        }
    }
}
