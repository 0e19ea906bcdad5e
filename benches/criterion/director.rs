//! Whole bursts through a director: the cases whose instructions are counted, those that can be repeated, by time.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use weir_benches::cases::{ALL, run};

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("director");
    for case in ALL.iter().filter(|case| case.passes > 1) {
        let (mut lab, frames) = (case.prepare)();
        group.throughput(Throughput::Elements(frames.len() as u64));
        group.bench_function(case.name, |bencher| bencher.iter(|| run(&mut lab, &frames, 1)));
    }
}

criterion_group!(all, benches);
criterion_main!(all);
