//! From a verdict of the health checks to a snapshot for the workers: one real server of 10,000 virtual servers with ten
//! each goes down or comes back. What is measured runs on control's cores; the workers meet its end, a pointer.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use weir_benches::frames::OWN;
use weir_config::model::Config;
use weir_dataplane::sched::Options;
use weir_dataplane::snapshot::Snapshot;
use weir_dataplane::snapshot::publish::Publisher;
use weir_dataplane::snapshot::registry::{Change, Progress, Registry};
use weir_health::judge::{Answer, Judge, Outcome};
use weir_health::overlay::{effective, effective_service};

/// `cargo test` runs each bench once, without optimization.
const SERVICES: u32 = if cfg!(debug_assertions) { 100 } else { 10_000 };
const PER_SERVICE: u32 = 10;

fn config() -> Config {
    let mut text = "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/8\"]\n".to_owned();
    for service in 0..SERVICES {
        let vip = std::net::Ipv4Addr::from(0xc000_0000 + service);
        text += &format!(
            "[[virtual_server]]\nname = \"v{service}\"\naddress = \"{vip}\"\nport = 80\nforwarding = \"nat\"\n\
             [virtual_server.health_check]\ntype = \"tcp\"\nfall = 1\nwarmup = 0\n"
        );
        for server in 0..PER_SERVICE {
            let rip = std::net::Ipv4Addr::from(0x0a01_0000 + service * PER_SERVICE + server);
            text += &format!("[[virtual_server.real_server]]\naddress = \"{rip}\"\nport = 8080\n");
        }
    }
    weir_config::parse("bench", &text).unwrap_or_else(|report| panic!("{report}")).config
}

fn benches(criterion: &mut Criterion) {
    let config = config();
    let mut judge = Judge::new(1);
    judge.configure(&config, Duration::ZERO);
    let mut registry = Registry::new(1, Options::default());
    let progress = Progress::default();
    let first = registry.snapshot(&effective(&config, &judge.overlay()), &[OWN], progress);
    let mut publisher = Publisher::new(first.expect("valid"));
    let mut group = criterion.benchmark_group("verdicts");
    group.sample_size(20);
    let mut now = Duration::from_secs(1);
    let mut verdict = |judge: &mut Judge| {
        let due = judge.begin(now).expect("a check is due");
        now += Duration::from_micros(30);
        judge.answer(due.id, now, Answer::new(Outcome::Refused, "told", Duration::ZERO));
        judge.events();
    };
    group.bench_function("judge", |bencher| {
        bencher.iter(|| {
            verdict(&mut judge);
            black_box(judge.news());
            black_box(judge.overlay())
        });
    });
    let mut former = judge.overlay();
    group.bench_function("one in force", |bencher| {
        bencher.iter_batched(
            || {
                verdict(&mut judge);
                judge.overlay()
            },
            |overlay| {
                let servers = config.virtual_servers.iter();
                let changed = servers.filter(|server| overlay.differs(&former, &server.identity()));
                let changed: Vec<_> = changed.map(|server| effective_service(server, &overlay)).collect();
                let base = publisher.base(registry.amends_since());
                let next = registry.amend(base, &Change::put_all(&changed), &config).expect("valid");
                publisher.publish(next.expect("plain virtual servers"));
                former = overlay;
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("a copy first", |bencher| {
        bencher.iter(|| {
            let changed = [effective_service(&config.virtual_servers[0], &former)];
            let held = publisher.current();
            let next =
                registry.amend(Snapshot::clone(&held), &Change::put_all(&changed), &config).expect("valid");
            publisher.publish(next.expect("plain virtual servers"));
        });
    });
    let effective = effective(&config, &former);
    group.bench_function("all built anew", |bencher| {
        bencher.iter(|| publisher.publish(registry.snapshot(&effective, &[OWN], progress).expect("valid")));
    });
    group.finish();
}

criterion_group!(verdicts, benches);
criterion_main!(verdicts);
