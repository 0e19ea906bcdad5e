//! All figures of one moment, with what follows from those of the moment before.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use weir_api::overview::{Flow, Problem, Totals};
use weir_api::virtual_servers::Figures;
use weir_health::judge::ServiceListing;

use super::super::servers::per_second;
use super::problems;
use crate::metrics::reading::{PortReading, Reading, RealServerReading, VirtualServerReading};
use crate::reload_status::unix_seconds;

/// A moment so long ago says nothing about what happens in a second now.
const BEFORE_MAX: Duration = Duration::from_secs(30);
/// For how long a moment is now at least, and at most.
const GOOD_FOR: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];
/// In between, so many times as long as it took to read: a core of control's has other work, too.
const SHARE: u32 = 10;

/// See the module.
pub(in crate::http) struct Shot {
    /// The machine's name.
    pub(super) director: String,
    pub(super) reading: Reading,
    /// Of its virtual servers, by their places.
    pub(super) states: Vec<State>,
    /// `None`: there was no moment before.
    pub(super) speeds: Option<Speeds>,
    pub(super) problems: Vec<Problem>,
    pub(super) more_problems: usize,
    pub(super) totals: Totals,
    /// When it was read, in seconds since 1970.
    pub(super) at: f64,
    pub(super) counts: Counts,
    good_for: Duration,
}

/// What checks say of a virtual server, and sums of its real servers' figures.
pub(super) struct State {
    /// Its place among those that health knows.
    pub(super) health: Option<usize>,
    /// How many real servers it has, with those that are out of service.
    pub(super) servers: usize,
    pub(super) servers_down: usize,
    pub(super) word: &'static str,
    pub(super) active: u64,
    pub(super) inactive: u64,
    pub(super) weight: u64,
}

/// Counters whose change matters.
#[derive(Clone)]
pub(super) struct Counts {
    taken: Instant,
    /// Busy cycles of each worker, and all.
    workers: Vec<[u64; 2]>,
    ports: Vec<[u64; 5]>,
    drops: Vec<u64>,
    untracked: u64,
}

/// What happened in a second since the moment before.
pub(super) struct Speeds {
    /// The part of its time that each worker was busy; `None`: it has not polled.
    pub(super) busy: Vec<Option<f64>>,
    pub(super) ports: Vec<Flow>,
    pub(super) drops: Vec<f64>,
    pub(super) untracked: f64,
}

impl Shot {
    /// Reads it; `not_ready` is what readiness misses.
    pub(super) fn take(
        director: &str,
        read: impl FnOnce() -> Reading,
        not_ready: &[String],
        before: Option<&Counts>,
    ) -> Self {
        let begun = Instant::now();
        let reading = read();
        let at = SystemTime::now();
        let counts = Counts::of(&reading);
        let speeds = before.and_then(|before| counts.since(before));
        let states = states(&reading);
        let (problems, more_problems) = problems::list(&reading, &states, not_ready, speeds.as_ref(), at);
        let totals = totals(&reading, &states);
        let good_for = (begun.elapsed() * SHARE).clamp(GOOD_FOR[0], GOOD_FOR[1]);
        let at = unix_seconds(at);
        let director = director.to_owned();
        Self { director, reading, states, speeds, problems, more_problems, totals, at, counts, good_for }
    }

    /// Whether it is now.
    pub(super) fn is_good(&self) -> bool {
        self.counts.taken.elapsed() < self.good_for
    }

    /// What is known of the health of the virtual server at this place.
    pub(super) fn health_of(&self, place: usize) -> Option<&ServiceListing> {
        self.states[place].health.map(|number| &self.reading.health.services[number])
    }
}

impl State {
    /// Whether clients are not served as the file says.
    pub(super) fn is_down(&self) -> bool {
        matches!(self.word, "down" | "sorry")
    }

    /// The worst first.
    pub(super) fn rank(&self) -> u8 {
        match self.word {
            "down" => 0,
            "sorry" => 1,
            "partly" => 2,
            _ => 3,
        }
    }

    fn of(server: &VirtualServerReading, health: Option<(usize, &ServiceListing)>) -> Self {
        let sum = |figure: fn(&RealServerReading) -> u64| server.real_servers.iter().map(figure).sum();
        let down = |service: &ServiceListing| service.servers.iter().filter(|it| !it.is_up).count();
        let servers_down = health.map_or(0, |(_, service)| down(service));
        let word = match health {
            Some((_, service)) if !service.has_quorum && service.has_sorry_server => "sorry",
            Some((_, service)) if !service.has_quorum => "down",
            _ if servers_down > 0 => "partly",
            _ => "up",
        };
        Self {
            health: health.map(|(number, _)| number),
            servers: server.real_servers.len() + health.map_or(0, |(_, service)| absent(service, server)),
            servers_down,
            word,
            active: sum(|real| u64::from(real.active)),
            inactive: sum(|real| u64::from(real.inactive)),
            weight: sum(|real| u64::from(real.weight)),
        }
    }
}

/// How many real servers are out of service: those that health knows, and the data plane does not.
fn absent(service: &ServiceListing, server: &VirtualServerReading) -> usize {
    if service.servers.len() == server.real_servers.len() && service.servers.iter().all(|it| it.is_up) {
        return 0;
    }
    let present: HashSet<SocketAddr> = server.real_servers.iter().map(socket).collect();
    service.servers.iter().filter(|it| !present.contains(&it.server)).count()
}

/// By what health knows a real server.
pub(super) fn socket(real: &RealServerReading) -> SocketAddr {
    SocketAddr::new(real.address, real.port)
}

fn states(reading: &Reading) -> Vec<State> {
    let services = reading.health.services.iter().enumerate();
    let by_name: HashMap<&str, _> = services.map(|it| (it.1.name.as_str(), it)).collect();
    let all = reading.virtual_servers.iter();
    all.map(|server| State::of(server, by_name.get(server.name.as_str()).copied())).collect()
}

fn totals(reading: &Reading, states: &[State]) -> Totals {
    let mut each = Figures { connections: 0, in_packets: 0, out_packets: 0, in_bytes: 0, out_bytes: 0 };
    for more in reading.virtual_servers.iter().map(|server| per_second(&server.rates)) {
        each.connections += more.connections;
        each.in_packets += more.in_packets;
        each.out_packets += more.out_packets;
        each.in_bytes += more.in_bytes;
        each.out_bytes += more.out_bytes;
    }
    Totals {
        virtual_servers: states.len(),
        virtual_servers_down: states.iter().filter(|state| state.is_down()).count(),
        real_servers: states.iter().map(|state| state.servers).sum(),
        real_servers_down: states.iter().map(|state| state.servers_down).sum(),
        active: states.iter().map(|state| state.active).sum(),
        inactive: states.iter().map(|state| state.inactive).sum(),
        connections: reading.workers.iter().map(|worker| worker.connections).sum(),
        capacity: reading.workers.iter().map(|worker| worker.capacity).sum(),
        per_second: each,
    }
}

/// Frames that a port's device lost; `None`: it keeps no counters.
pub(super) fn lost(port: &PortReading) -> Option<u64> {
    port.device.map(|device| device.imissed + device.rx_nombuf + device.ierrors + device.oerrors)
}

impl Counts {
    fn of(reading: &Reading) -> Self {
        let port = |port: &PortReading| {
            [
                port.receive_packets,
                port.receive_bytes,
                port.transmit_packets,
                port.transmit_bytes,
                lost(port).unwrap_or_default(),
            ]
        };
        Self {
            taken: Instant::now(),
            workers: reading.workers.iter().map(|worker| [worker.busy_cycles, worker.cycles()]).collect(),
            ports: reading.ports.iter().map(port).collect(),
            drops: reading.drops.iter().map(|(_, count)| *count).collect(),
            untracked: reading.untracked,
        }
    }

    /// `None`: that is too long ago.
    fn since(&self, before: &Self) -> Option<Speeds> {
        let passed = self.taken.duration_since(before.taken);
        if passed > BEFORE_MAX {
            return None;
        }
        let seconds = passed.as_secs_f64().max(1e-3);
        let per_second = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        let busy = self.workers.iter().zip(&before.workers).map(|(now, then)| {
            let [busy, all] = [0, 1].map(|which| now[which].wrapping_sub(then[which]));
            (all > 0).then(|| busy as f64 / all as f64)
        });
        let ports = self.ports.iter().zip(&before.ports).map(|(now, then)| {
            let [receive_packets, receive_bytes, transmit_packets, transmit_bytes, lost] =
                [0, 1, 2, 3, 4].map(|which| per_second(now[which], then[which]));
            Flow { receive_packets, receive_bytes, transmit_packets, transmit_bytes, lost }
        });
        Some(Speeds {
            busy: busy.collect(),
            ports: ports.collect(),
            drops: self.drops.iter().zip(&before.drops).map(|(now, then)| per_second(*now, *then)).collect(),
            untracked: per_second(self.untracked, before.untracked),
        })
    }
}
