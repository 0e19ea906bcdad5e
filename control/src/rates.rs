//! Keeps the rates of virtual and real servers up to date: a sample of each every two seconds, as IPVS takes them.
//!
//! Virtual servers are sampled in [`TURNS`] turns, each with all its real servers, so that a hundred thousand of them cost
//! control a millisecond or two at a time. The estimates themselves hang on the servers and survive reloads
//! ([`weir_dataplane::snapshot::rates`]); what is kept here is only whose turn it is.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use weir_dataplane::conn::record::{ServerId, ServiceId};
use weir_dataplane::snapshot::Snapshot;
use weir_dataplane::snapshot::rates::INTERVAL_MS;

/// Turns in which all virtual servers are sampled.
const TURNS: usize = 20;
/// Time between two turns.
const TURN: Duration = Duration::from_millis(INTERVAL_MS / TURNS as u64);

/// See the module.
pub(crate) struct Sampler {
    /// When the next turn is due.
    due: Instant,
    turn: usize,
    /// When each turn was taken last.
    taken: [Instant; TURNS],
    /// By turn.
    groups: [Groups; TURNS],
}

/// The virtual servers of a turn.
#[derive(Default)]
struct Groups {
    /// The numbers that they are of.
    generation: u64,
    all: Vec<Group>,
}

/// A virtual server and all its real servers, removed ones too.
struct Group {
    service: ServiceId,
    servers: Vec<ServerId>,
}

impl Sampler {
    /// Nothing sampled yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self { due: now + TURN, turn: 0, taken: [now; TURNS], groups: Default::default() }
    }

    /// Takes the samples that are due. To be called more often than every 100 ms on the whole; turns that are late are
    /// made up for, and what was carried is divided by the time that really passed.
    pub(crate) fn run(&mut self, snapshot: &Snapshot, now: Instant) {
        for _ in 0..TURNS {
            if now < self.due {
                return;
            }
            self.sample(snapshot, now);
            self.due += TURN;
        }
        // More than a round behind: each was sampled once now, and that is all that can be made up for.
        self.due = self.due.max(now);
    }

    fn sample(&mut self, snapshot: &Snapshot, now: Instant) {
        let elapsed = now.saturating_duration_since(self.taken[self.turn]).as_millis() as u64;
        // After a gap a turn may come round again soon; it waits for the next round then.
        if elapsed >= INTERVAL_MS / 2 {
            let groups = &mut self.groups[self.turn];
            if groups.generation != snapshot.numbers_generation {
                *groups = groups_of(snapshot, self.turn);
            }
            for Group { service, servers } in &groups.all {
                let mut total = snapshot.retired(*service);
                for server in servers.iter().map(|&id| snapshot.server(id)) {
                    let traffic = server.live.traffic();
                    server.live.rates.sample(traffic, elapsed);
                    total += traffic;
                }
                if let Some(service) = snapshot.service(*service) {
                    service.rates.sample(total, elapsed);
                }
            }
            self.taken[self.turn] = now;
        }
        self.turn = (self.turn + 1) % TURNS;
    }
}

/// Those of one turn alone: while edits bring and take real servers, each turn has this to do.
fn groups_of(snapshot: &Snapshot, turn: usize) -> Groups {
    let is_due = |id: ServiceId| usize::from(id.0) % TURNS == turn;
    let mut servers: HashMap<ServiceId, Vec<ServerId>> = HashMap::new();
    for server in snapshot.servers().filter(|server| is_due(server.service)) {
        servers.entry(server.service).or_default().push(server.id);
    }
    let services = snapshot.services().filter(|service| is_due(service.id));
    let group = |service: ServiceId| Group { service, servers: servers.remove(&service).unwrap_or_default() };
    Groups {
        generation: snapshot.numbers_generation,
        all: services.map(|service| service.id).map(group).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use weir_config::model::MacAddress;
    use weir_dataplane::sched::Options;
    use weir_dataplane::snapshot::rates::Rates;
    use weir_dataplane::snapshot::registry::{Progress, Registry};

    use super::*;

    /// A virtual server for each of `numbers`, with two real servers.
    fn snapshot(registry: &mut Registry, numbers: impl Iterator<Item = u8>) -> Snapshot {
        let mut text = "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/16\"]\n".to_owned();
        for number in numbers {
            text += &format!(
                "[[virtual_server]]\nname = \"v{number}\"\naddress = \"10.0.1.{number}\"\nport = 80\n"
            );
            for server in [11, 12] {
                text += &format!("[[virtual_server.real_server]]\naddress = \"10.0.2.{server}\"\n");
            }
        }
        let config = weir_config::parse("weir.toml", &text).unwrap().config;
        registry.snapshot(&config, &[MacAddress([2, 0, 0, 0, 0, 1])], Progress::default()).unwrap()
    }

    fn rates_of(snapshot: &Snapshot, number: u8) -> Rates {
        let address = Ipv4Addr::new(10, 0, 1, number);
        snapshot.services().find(|service| service.address == address).unwrap().rates.rates()
    }

    /// Every real server makes `each` connections every 100 ms.
    fn carry(snapshot: &Snapshot, each: u64) {
        snapshot.servers().for_each(|server| server.live.workers[0].connections.add(each));
    }

    #[test]
    fn every_server_is_sampled_every_two_seconds_however_ticks_fall() {
        let mut registry = Registry::new(1, Options::default());
        let first = snapshot(&mut registry, 1..=50);
        let begin = Instant::now();
        let mut sampler = Sampler::new(begin);
        // Ticks that are late by turns, and control away for a while.
        let pauses = [100, 130, 70, 100, 260, 100, 100, 5_000].into_iter().cycle();
        let mut now = begin;
        for pause in pauses.take(800) {
            for _ in 0..pause / 10 {
                now += Duration::from_millis(10);
                carry(&first, 1);
            }
            sampler.run(&first, now);
        }
        for number in 1..=50 {
            assert_eq!(rates_of(&first, number).connections, 200, "virtual server {number}");
        }
        assert!(first.servers().all(|server| server.live.rates.rates().connections == 100));
    }

    #[test]
    fn rates_survive_a_reload_and_new_servers_start_at_zero() {
        let mut registry = Registry::new(1, Options::default());
        let first = snapshot(&mut registry, 1..=2);
        let begin = Instant::now();
        let mut sampler = Sampler::new(begin);
        let mut now = begin;
        let mut pass = |snapshot: &Snapshot, each, ticks| {
            for _ in 0..ticks {
                now += Duration::from_millis(100);
                carry(snapshot, each);
                sampler.run(snapshot, now);
            }
        };
        pass(&first, 10, 801);
        assert_eq!(rates_of(&first, 1).connections, 200);
        let second = snapshot(&mut registry, 1..=3);
        assert_eq!((rates_of(&second, 1).connections, rates_of(&second, 3).connections), (200, 0));
        // Its last sample was taken just before. One of nothing takes a quarter away.
        pass(&second, 0, 20);
        assert_eq!((rates_of(&second, 1).connections, rates_of(&second, 3).connections), (150, 0));
    }

    #[test]
    fn a_virtual_server_without_real_servers_comes_to_rest() {
        let mut registry = Registry::new(1, Options::default());
        let first = snapshot(&mut registry, 1..=1);
        let mut now = Instant::now();
        let mut sampler = Sampler::new(now);
        for tick in 0..2_000 {
            now += Duration::from_millis(100);
            carry(&first, u64::from(tick < 100));
            sampler.run(&first, now);
        }
        assert_eq!(rates_of(&first, 1), Rates::default());
    }
}
