//! A pick of each scheduler, from lists of 4 and 64 real servers with weights and connections.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use weir_benches::frames::{VIP, client, server};
use weir_config::model::{Scheduler as Kind, SchedulerFlags};
use weir_dataplane::sched::{
    Options, PickKey, Scheduler, ServerDescription, Servers, ServiceDescription, State,
};

/// Real servers whose connections stand still.
struct Standing {
    weights: Vec<u32>,
}

impl Servers for Standing {
    fn len(&self) -> usize {
        self.weights.len()
    }
    fn weight(&self, index: usize) -> u32 {
        self.weights[index]
    }
    fn overloaded(&self, _index: usize) -> bool {
        false
    }
    fn active(&self, index: usize) -> u32 {
        (index as u32).wrapping_mul(2_654_435_761) >> 24
    }
    fn inactive(&self, index: usize) -> u32 {
        (index as u32).wrapping_mul(2_246_822_519) >> 24
    }
}

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scheduler");
    for kind in Kind::ALL {
        for count in [4, 64] {
            let weights: Vec<u32> = (0..count).map(|index| 1 + index % 5).collect();
            let servers = (0..count)
                .zip(&weights)
                .map(|(index, &weight)| {
                    let address = server(11 + index as u8).into();
                    ServerDescription::new(index + 1, address, 80, weight)
                })
                .collect();
            let service = ServiceDescription {
                scheduler: kind,
                flags: SchedulerFlags::default(),
                options: Options::default(),
                servers,
            };
            let scheduler = Scheduler::build(&service).expect("mh has room for 64");
            let state = State::new(&service, 0, 1);
            let standing = Standing { weights };
            let mut flow = 0;
            group.bench_function(BenchmarkId::new(kind.name(), count), |bencher| {
                bencher.iter(|| {
                    flow = (flow + 1_001) % 1_000_000;
                    let (address, source_port) = client(flow);
                    let key =
                        PickKey { source: address.into(), destination: VIP.into(), source_port, now_secs: 1 };
                    scheduler.pick(&state, &standing, black_box(&key))
                });
            });
        }
    }
}

criterion_group!(all, benches);
criterion_main!(all);
