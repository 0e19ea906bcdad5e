//! Passive checks: traffic that is not answered ejects, and for how long.

use super::*;

const PASSIVE: &str = r#"
[[virtual_server]]
name = "web"
address = "10.0.0.100"
port = 80
forwarding = "nat"
[virtual_server.passive]
window = 10
connections_min = 20
failures_percent = 50
ejection = 30
ejection_max = 100
ejected_percent_max = 50
[[virtual_server.real_server]]
address = "10.0.0.11"
[[virtual_server.real_server]]
address = "10.0.0.12"
[[virtual_server.real_server]]
address = "10.0.0.13"
"#;

/// Traffic of 100 connections a second to each real server; who is `silent` answers none.
struct Traffic {
    judge: Judge,
    config: Config,
    second: u64,
    counts: [(u64, u64); 3],
    events: Vec<Event>,
}

impl Traffic {
    fn new() -> Self {
        let config = parse(PASSIVE);
        let mut judge = Judge::new(1);
        judge.configure(&config, Duration::ZERO);
        Self { judge, config, second: 0, counts: [(0, 0); 3], events: vec![] }
    }

    fn run(&mut self, seconds: u64, silent: &[usize]) {
        for _ in 0..seconds {
            self.second += 1;
            let service = &self.config.virtual_servers[0];
            let now = Duration::from_secs(self.second);
            let overlay = self.judge.overlay();
            let standing = &overlay.services[&service.identity()];
            let mut samples = Vec::new();
            for (place, real) in service.real_servers.iter().enumerate() {
                let (opened, answered) = &mut self.counts[place];
                if standing.servers[&(real.address, real.port)].is_up {
                    *opened += 100;
                    *answered += if silent.contains(&place) { 0 } else { 100 };
                }
                let (opened, answered) = (*opened, *answered);
                let (address, port) = (real.address, real.port);
                samples.push(Sample { service: service.identity(), address, port, opened, answered });
            }
            self.judge.observe(now, &samples);
            self.events.extend(self.judge.events());
        }
    }

    fn up(&self) -> Vec<bool> {
        self.judge.listing(Duration::from_secs(self.second))[0].servers.iter().map(|it| it.is_up).collect()
    }
}

#[test]
fn a_server_that_does_not_answer_is_ejected_and_comes_back() {
    let mut traffic = Traffic::new();
    traffic.run(60, &[]);
    assert_eq!(traffic.up(), [true; 3]);
    traffic.run(10, &[1]);
    assert_eq!(traffic.up(), [true, false, true]);
    let Change::Server { reason, .. } = &traffic.events[0].change else { panic!() };
    assert!(reason.contains("connections failed within 10 s; out for 30 s"), "{reason}");
    traffic.run(35, &[]);
    assert_eq!(traffic.up(), [true; 3], "its time is over");
    traffic.run(10, &[2]);
    assert_eq!(traffic.up(), [true, true, false]);
}

#[test]
fn the_time_out_doubles_up_to_its_limit_and_shrinks_again() {
    let mut traffic = Traffic::new();
    traffic.run(400, &[1]);
    let downs: Vec<f64> = traffic
        .events
        .iter()
        .filter(|event| matches!(event.change, Change::Server { is_up: true, .. }))
        .map(|event| event.after.as_secs_f64())
        .collect();
    assert_eq!(downs[..3], [30.0, 60.0, 100.0]);
    traffic.run(1000, &[]);
    traffic.events.clear();
    traffic.run(60, &[1]);
    let up = traffic.events.iter().find(|event| matches!(event.change, Change::Server { is_up: true, .. }));
    assert_eq!(up.unwrap().after.as_secs_f64(), 30.0);
}

#[test]
fn no_more_are_ejected_than_may_be_out() {
    let mut traffic = Traffic::new();
    traffic.run(20, &[0, 1, 2]);
    assert_eq!(traffic.up().iter().filter(|up| !**up).count(), 1, "half of three, rounded down");
}

#[test]
fn too_few_connections_say_nothing() {
    let mut traffic = Traffic::new();
    let service = traffic.config.virtual_servers[0].clone();
    let real = &service.real_servers[0];
    for second in 1..100 {
        let sample = Sample {
            service: service.identity(),
            address: real.address,
            port: real.port,
            opened: second,
            answered: 0,
        };
        assert!(!traffic.judge.observe(Duration::from_secs(second), &[sample]));
    }
}

#[test]
fn who_answers_in_time_is_never_ejected_however_traffic_comes() {
    let config = parse(PASSIVE);
    let service = &config.virtual_servers[0];
    let real = &service.real_servers[0];
    check!().with_type::<Vec<(u8, bool)>>().for_each(|seconds| {
        let mut judge = Judge::new(1);
        judge.configure(&config, Duration::ZERO);
        let (mut opened, mut answered, mut waiting) = (0, 0, 0);
        for (second, (connections, is_slow)) in seconds.iter().enumerate() {
            answered += std::mem::take(&mut waiting);
            opened += u64::from(*connections);
            // A second is all that a slow one takes.
            *(if *is_slow { &mut waiting } else { &mut answered }) += u64::from(*connections);
            let (address, port) = (real.address, real.port);
            let sample = Sample { service: service.identity(), address, port, opened, answered };
            assert!(!judge.observe(Duration::from_secs(second as u64 + 1), &[sample]));
        }
    });
}

#[test]
fn a_share_of_failures_below_the_limit_is_borne_and_above_it_is_not() {
    for (percent, is_up) in [(60, true), (40, false)] {
        let config = parse(PASSIVE);
        let service = &config.virtual_servers[0];
        let real = &service.real_servers[0];
        let mut judge = Judge::new(1);
        judge.configure(&config, Duration::ZERO);
        for second in 1..30 {
            let (opened, answered) = (second * 100, second * percent);
            let (address, port) = (real.address, real.port);
            let sample = Sample { service: service.identity(), address, port, opened, answered };
            judge.observe(Duration::from_secs(second), &[sample]);
        }
        assert_eq!(judge.listing(seconds(30.0))[0].servers[0].is_up, is_up, "{percent} % answered");
    }
}
