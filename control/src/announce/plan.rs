//! Which routes there may be, and which of them there are to be at a moment.

use std::collections::HashSet;

use ipnet::IpNet;
use weir_config::model::{AnnounceQuorum, Config};
use weir_health::checker::Quorums;

/// All routes that a file may announce, in the order of its entries.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(super) routes: Vec<Planned>,
    /// Devices that the file names, once each.
    pub(super) devices: Vec<String>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Planned {
    pub(super) net: IpNet,
    pub(super) table: u32,
    pub(super) protocol: u8,
    pub(super) interface: String,
    metric: u32,
    draining_metric: Option<u32>,
    quorum: AnnounceQuorum,
    /// Names of virtual servers.
    pub(super) servers: Vec<String>,
    /// Name of the instance of VRRP that the VIP goes with.
    pub(super) instance: Option<String>,
}

/// What the routes hang on at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Moment {
    /// Every worker polls.
    pub(super) is_ready: bool,
    pub(super) is_leaving: bool,
    pub(super) has_failed: bool,
    /// A worker is stuck.
    pub(super) is_stuck: bool,
    /// No port has a link.
    pub(super) is_cut_off: bool,
    /// By name of the virtual server.
    pub(super) quorums: Quorums,
    /// Names of instances.
    pub(super) masters: HashSet<String>,
}

/// What becomes of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Serving,
    /// weir leaves, and what still comes is served.
    Draining,
    Withdrawn(Why),
}

/// Why there is no route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    Starting,
    Leaving,
    Stuck,
    CutOff,
    Backup,
    Quorum,
}

impl State {
    /// The word for listings.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Withdrawn(_) => "withdrawn",
        }
    }

    /// Why there is no route.
    pub(crate) fn why(self) -> Option<&'static str> {
        let Self::Withdrawn(why) = self else { return None };
        Some(match why {
            Why::Starting => "not every worker polls yet",
            Why::Leaving => "weir leaves",
            Why::Stuck => "a worker is stuck",
            Why::CutOff => "no port has a link",
            Why::Backup => "another director is master",
            Why::Quorum => "no quorum",
        })
    }
}

impl Plan {
    /// Of a file.
    pub(crate) fn of(config: &Config) -> Self {
        let planned = |route: weir_config::model::Announced| {
            let entry = &config.announces[route.entry];
            Planned {
                net: route.net,
                table: entry.table,
                protocol: entry.protocol,
                interface: entry.interface.clone(),
                metric: entry.metric,
                draining_metric: entry.draining_metric,
                quorum: entry.quorum,
                servers: route.servers.iter().map(|at| config.virtual_servers[*at].name.clone()).collect(),
                instance: route.instance.map(|at| config.vrrp[at].name.clone()),
            }
        };
        let mut devices: Vec<String> = config.announces.iter().map(|entry| entry.interface.clone()).collect();
        devices.sort();
        devices.dedup();
        Self { routes: config.announced().into_iter().map(planned).collect(), devices }
    }
}

impl Planned {
    /// What becomes of it.
    pub(super) fn state(&self, moment: &Moment) -> State {
        let has_quorum = |name: &String| moment.quorums.get(name).copied().unwrap_or(false);
        let may_be = match self.quorum {
            AnnounceQuorum::Any => self.servers.iter().any(has_quorum),
            AnnounceQuorum::All => self.servers.iter().all(has_quorum),
            AnnounceQuorum::Ignore => true,
        };
        let is_here = self.instance.as_ref().is_none_or(|name| moment.masters.contains(name));
        let why = match () {
            () if moment.has_failed => Why::Leaving,
            () if moment.is_stuck => Why::Stuck,
            () if !moment.is_ready => Why::Starting,
            () if moment.is_leaving && self.draining_metric.is_none() => Why::Leaving,
            () if moment.is_cut_off => Why::CutOff,
            () if !is_here => Why::Backup,
            () if !may_be => Why::Quorum,
            () if moment.is_leaving => return State::Draining,
            () => return State::Serving,
        };
        State::Withdrawn(why)
    }

    /// Of the route in this state; `None`: there is no route.
    pub(super) fn metric(&self, state: State) -> Option<u32> {
        match state {
            State::Serving => Some(self.metric),
            State::Draining => self.draining_metric,
            State::Withdrawn(_) => None,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;

    pub(crate) const FILE: &str = "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\"]\n\
        [[vrrp]]\nname = \"vi\"\nport = \"lan\"\nvirtual_router_id = 1\naddresses = [\"10.0.0.9\"]\n\
        [[virtual_server]]\nname = \"web\"\naddress = \"192.0.2.1\"\nport = 80\nforwarding = \"dr\"\nscheduler = \"mh\"\n\
        real_server = [{ address = \"10.0.0.11\" }]\n\
        [[virtual_server]]\nname = \"tls\"\naddress = \"192.0.2.1\"\nport = 443\nforwarding = \"dr\"\nscheduler = \"mh\"\n\
        real_server = [{ address = \"10.0.0.11\" }]\n\
        [[virtual_server]]\nname = \"held\"\naddress = \"10.0.0.9\"\nport = 80\nforwarding = \"dr\"\nscheduler = \"mh\"\n\
        real_server = [{ address = \"10.0.0.11\" }]\n";

    pub(crate) fn plan(entries: &str) -> Plan {
        let loaded = weir_config::parse("test", &format!("{FILE}{entries}"));
        Plan::of(&loaded.unwrap_or_else(|report| panic!("{report}")).config)
    }

    /// Everything is well, and these have their quorum.
    pub(crate) fn well(quorums: &[&str]) -> Moment {
        let quorums = quorums.iter().map(|name| ((*name).to_owned(), true)).collect();
        Moment { is_ready: true, quorums: Arc::new(quorums), ..Moment::default() }
    }

    fn states(plan: &Plan, moment: &Moment) -> Vec<State> {
        plan.routes.iter().map(|route| route.state(moment)).collect()
    }

    #[test]
    fn a_vip_is_announced_while_its_virtual_servers_have_what_the_entry_asks_for() {
        let of = |quorum: &str, well_ones: &[&str]| {
            let plan = plan(&format!("[[announce]]\nvips = [\"192.0.2.1\"]\nquorum = \"{quorum}\"\n"));
            states(&plan, &well(well_ones))
        };
        let lost = State::Withdrawn(Why::Quorum);
        assert_eq!(of("any", &[]), [lost]);
        assert_eq!(of("any", &["tls"]), [State::Serving]);
        assert_eq!(of("all", &["tls"]), [lost]);
        assert_eq!(of("all", &["web", "tls"]), [State::Serving]);
        assert_eq!(of("ignore", &[]), [State::Serving]);
    }

    #[test]
    fn a_vip_of_vrrp_is_announced_by_the_master() {
        let plan = plan("[[announce]]\n");
        let mut moment = well(&["web", "tls", "held"]);
        assert_eq!(states(&plan, &moment), [State::Serving, State::Withdrawn(Why::Backup)]);
        moment.masters.insert("vi".to_owned());
        assert_eq!(states(&plan, &moment), [State::Serving, State::Serving]);
    }

    #[test]
    fn nothing_is_announced_that_does_not_come_through_and_leaving_is_told_apart() {
        let all = "[[announce]]\nvips = [\"192.0.2.1\"]\n";
        let lasting = plan(&format!("{all}metric = 7\ndraining_metric = 9\n"));
        let plain = plan(all);
        let at = |plan: &Plan, change: fn(&mut Moment)| {
            let mut moment = well(&["web"]);
            change(&mut moment);
            let state = plan.routes[0].state(&moment);
            (state, plan.routes[0].metric(state))
        };
        assert_eq!(at(&lasting, |_| {}), (State::Serving, Some(7)));
        assert_eq!(at(&lasting, |it| it.is_leaving = true), (State::Draining, Some(9)));
        assert_eq!(at(&plain, |it| it.is_leaving = true), (State::Withdrawn(Why::Leaving), None));
        let is = |why| (State::Withdrawn(why), None);
        for plan in [&lasting, &plain] {
            assert_eq!(at(plan, |it| it.is_stuck = true), is(Why::Stuck));
            assert_eq!(at(plan, |it| it.is_ready = false), is(Why::Starting));
            assert_eq!(at(plan, |it| it.is_cut_off = true), is(Why::CutOff));
            assert_eq!(at(plan, |it| (it.is_leaving, it.has_failed) = (true, true)), is(Why::Leaving));
        }
    }

    #[test]
    fn the_first_entry_of_a_table_has_a_vip() {
        let plan = plan(
            "[[announce]]\nvips = [\"192.0.2.1\"]\ntable = 7\n[[announce]]\ntable = 7\nprotocol = 77\n[[announce]]\n",
        );
        let of = |route: &Planned| (route.net.to_string(), route.table, route.protocol);
        let found: Vec<_> = plan.routes.iter().map(of).collect();
        let expected = [
            ("192.0.2.1/32", 7, 119),
            ("10.0.0.9/32", 7, 77),
            ("192.0.2.1/32", 254, 119),
            ("10.0.0.9/32", 254, 119),
        ];
        assert_eq!(found, expected.map(|(net, table, protocol)| (net.to_owned(), table, protocol)));
        assert_eq!((plan.routes[0].servers.len(), plan.devices), (2, vec!["weir-vips".to_owned()]));
    }
}
