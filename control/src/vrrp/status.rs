//! What VRRP's thread lets others see: a value that it replaces, so that nobody who reads makes it wait.

use std::net::IpAddr;
use std::time::Duration;

use weir_dataplane::snapshot::virtual_router::RouterKey;
use weir_vrrp::discard::Discard;
use weir_vrrp::instance::Instance;
use weir_vrrp::router::Router;
use weir_vrrp::settings::Settings;
use weir_vrrp::time::Micros;
use weir_vrrp::track::Tracked;

/// All of it at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Status {
    /// In the order of the file.
    pub(crate) instances: Vec<InstanceStatus>,
    /// Refused advertisements that belong to no instance: port, reason, how many.
    pub(crate) unclaimed: Vec<Unclaimed>,
    /// Times that the thread did not run for 20 ms or more.
    pub(crate) stalls: u64,
    /// By how much its latest advertisement or take-over was late at worst in the last 10 s, in seconds.
    pub(crate) lateness_seconds: f64,
}

/// Refused advertisements that belong to no instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unclaimed {
    /// Name of the port.
    pub(crate) port: String,
    /// Why they were refused.
    pub(crate) reason: &'static str,
    /// How many.
    pub(crate) count: u64,
}

/// One instance.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct InstanceStatus {
    pub(crate) instance: String,
    /// What the data plane and the files of sequence numbers know it by.
    pub(crate) key: Option<RouterKey>,
    /// The highest number of authentication headers that it has sent or accepted; 0 without them.
    pub(crate) sequence: u32,
    /// Mode and key of `auth_hmac`.
    pub(crate) auth_hmac: Option<(&'static str, u8)>,
    pub(crate) port: String,
    pub(crate) virtual_router_id: u8,
    pub(crate) version: u8,
    pub(crate) state: &'static str,
    /// 0 initialize, 1 backup, 2 master, 3 fault.
    pub(crate) state_number: u8,
    pub(crate) priority: u8,
    pub(crate) configured_priority: u8,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) sync_group: Option<String>,
    /// What is down and forbids being master.
    pub(crate) fault: Option<String>,
    /// The same as a sentence.
    pub(crate) fault_sentence: Option<String>,
    /// Since the state last changed, in seconds.
    pub(crate) since_transition_seconds: f64,
    /// How long it waits for a master before it takes over, in seconds.
    pub(crate) down_interval_seconds: f64,
    /// The last advertisement that was accepted.
    pub(crate) last_heard: Option<HeardStatus>,
    pub(crate) advertisements_received: u64,
    pub(crate) advertisements_sent: u64,
    pub(crate) priority_zero_received: u64,
    pub(crate) priority_zero_sent: u64,
    pub(crate) became_master: u64,
    pub(crate) released_master: u64,
    pub(crate) unsigned: u64,
    pub(crate) address_mismatches: u64,
    pub(crate) announcements: u64,
    pub(crate) defences: u64,
    /// Refused advertisements by reason, in the order of [`Discard::ALL`].
    pub(crate) discarded: [u64; Discard::ALL.len()],
}

/// What was heard last.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HeardStatus {
    pub(crate) from: IpAddr,
    pub(crate) priority: u8,
    pub(crate) age_seconds: f64,
}

/// What is tracked, in words.
fn name_of(tracked: &Tracked, ports: &[String]) -> String {
    match tracked {
        Tracked::Port(port) => format!("the link of port {}", name(ports, *port)),
        Tracked::VirtualServer(name) => format!("virtual server {name}"),
        Tracked::File(path) => format!("file {path}"),
        Tracked::Script(name) => format!("script {name}"),
        Tracked::Process(name, 1) => format!("process {name}"),
        Tracked::Process(name, quorum) => format!("process {name} ({quorum} of them)"),
        Tracked::Workers => "one of the workers".to_owned(),
    }
}

/// What the data plane knows an instance by.
pub(super) fn key_of(settings: &Settings) -> RouterKey {
    RouterKey { port: settings.port, is_ipv6: settings.is_ipv6(), id: settings.virtual_router_id }
}

/// Why it forbids being master. A file is not down: it says so by its number.
pub(crate) fn fault_of(tracked: &Tracked, ports: &[String]) -> String {
    match tracked {
        Tracked::File(path) => format!("the number in file {path} is a fault"),
        Tracked::Script(name) => format!("script {name} fails"),
        Tracked::Process(name, 1) => format!("no process {name} runs"),
        Tracked::Process(name, quorum) => format!("fewer than {quorum} processes {name} run"),
        other => format!("{} is down", name_of(other, ports)),
    }
}

fn name(ports: &[String], port: usize) -> &str {
    ports.get(port).map_or("?", String::as_str)
}

impl Status {
    /// Of a router at `now`; `ports` are their names.
    pub(crate) fn of(router: &Router, ports: &[String], now: Micros) -> Self {
        let counts = router.discarded().flat_map(|(port, counts)| {
            let counts = Discard::ALL.iter().zip(counts).filter(|(_, count)| **count > 0);
            counts.map(move |(reason, count)| (port, reason.label(), *count))
        });
        let unclaimed = counts.map(|(port, reason, count)| Unclaimed {
            port: name(ports, port).to_owned(),
            reason,
            count,
        });
        Self {
            instances: router.instances().iter().map(|i| InstanceStatus::of(i, ports, now)).collect(),
            unclaimed: unclaimed.collect(),
            ..Self::default()
        }
    }
}

impl InstanceStatus {
    fn of(instance: &Instance, ports: &[String], now: Micros) -> Self {
        let (settings, counters) = (instance.settings(), instance.counters());
        let seconds = |span: Duration| span.as_secs_f64();
        Self {
            instance: settings.name.clone(),
            key: Some(key_of(settings)),
            sequence: instance.sequence(),
            auth_hmac: settings.trailers.as_ref().map(|it| (it.mode.name(), it.active)),
            port: name(ports, settings.port).to_owned(),
            virtual_router_id: settings.virtual_router_id,
            version: settings.version as u8,
            state: instance.state().name(),
            state_number: instance.state() as u8,
            priority: instance.priority(),
            configured_priority: settings.priority,
            addresses: settings.addresses.clone(),
            sync_group: settings.group.clone(),
            fault: instance.condition().fault.as_ref().map(|fault| name_of(fault, ports)),
            fault_sentence: instance.condition().fault.as_ref().map(|fault| fault_of(fault, ports)),
            since_transition_seconds: seconds(now.since(instance.last_transition())),
            down_interval_seconds: seconds(instance.down_interval()),
            last_heard: instance.last_heard().map(|last| HeardStatus {
                from: last.heard.from,
                priority: last.heard.priority,
                age_seconds: seconds(now.since(last.at)),
            }),
            advertisements_received: counters.received,
            advertisements_sent: counters.sent,
            priority_zero_received: counters.priority_zero_received,
            priority_zero_sent: counters.priority_zero_sent,
            became_master: counters.became_master,
            released_master: counters.released_master,
            unsigned: counters.unsigned,
            address_mismatches: counters.address_mismatches,
            announcements: counters.announcements,
            defences: counters.defences,
            discarded: counters.discarded,
        }
    }
}
