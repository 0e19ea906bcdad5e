//! The connection table: hash, lookup, insert, expire. 100,000 records in room for 131,072, so that most lines come
//! from the second or third level of the cache.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use dpdk::Slab;
use weir_benches::frames::client;
use weir_benches::lab::{HASH_KEY, base, read};
use weir_config::model::Protocol;
use weir_dataplane::conn::record::{Key, Record, ServerId, VipId};
use weir_dataplane::conn::state::{Lifetimes, tcp};
use weir_dataplane::conn::table::{HashKey, Table, Verdict};

const CAPACITY: usize = 131_072;
const RECORDS: u32 = 100_000;
/// Operations of one measurement: a burst's.
const BATCH: u32 = 64;

fn key(flow: u32) -> Key {
    let (address, port) = client(flow);
    Key::new(address, port, VipId(0), 80, Protocol::Tcp, false)
}

fn record(flow: u32) -> Record {
    Record::new(key(flow), ServerId(1), tcp::ESTABLISHED, 0, false)
}

fn table(records: u32) -> Table {
    let lines = Slab::heap(Table::lines_for(CAPACITY)).expect("memory");
    let mut table = Table::new(lines, CAPACITY, HashKey::new(HASH_KEY));
    for flow in 0..records {
        let hash = table.hash(key(flow).hash_input());
        table.insert(hash, record(flow)).expect("there is room");
    }
    table
}

/// As the director looks a burst up: all lines asked for, then all read.
fn find_burst(table: &Table, first: u32) -> usize {
    let mut hashes = [0; BATCH as usize];
    for (hash, flow) in hashes.iter_mut().zip(first..) {
        *hash = table.hash(key(flow).hash_input());
        table.prefetch(*hash);
    }
    hashes.iter().zip(first..).filter(|&(&hash, flow)| table.find(hash, key(flow)).is_some()).count()
}

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("table");
    let full = table(RECORDS);
    group.throughput(Throughput::Elements(1));
    group.bench_function("hash", |bencher| bencher.iter(|| full.hash(black_box(key(7)).hash_input())));

    group.throughput(Throughput::Elements(u64::from(BATCH)));
    let mut first = 0;
    let mut next = move || {
        // A stride that is no multiple of anything visits the whole table before it comes by again.
        first = (first + 7_919 * BATCH) % (RECORDS - BATCH);
        first
    };
    group.bench_function("hit", |bencher| bencher.iter(|| find_burst(&full, black_box(next()))));
    group.bench_function("miss", |bencher| bencher.iter(|| find_burst(&full, black_box(RECORDS + next()))));

    let insert = |table: &mut Table| {
        for flow in RECORDS..RECORDS + BATCH {
            let hash = table.hash(key(flow).hash_input());
            table.insert(hash, record(flow)).expect("there is room");
        }
    };
    let remove = |table: &mut Table| {
        for flow in RECORDS..RECORDS + BATCH {
            let hash = table.hash(key(flow).hash_input());
            let (slot, _) = table.find(hash, key(flow)).expect("it was inserted");
            table.remove(slot);
        }
    };
    let mut changing = table(RECORDS);
    group.bench_function("insert and remove", |bencher| {
        bencher.iter(|| {
            insert(&mut changing);
            remove(&mut changing);
        });
    });

    // Each record is looked at as the sweep does; none is over.
    let lifetimes = Lifetimes::new(&read(&base(CAPACITY, "")).connections.timeouts);
    let lines = 64;
    group.throughput(Throughput::Elements(lines));
    group.bench_function("sweep, nothing over", |bencher| {
        bencher.iter(|| {
            changing.sweep(lines as usize, None, |record| {
                Verdict::end_if(record.age(black_box(1)) > lifetimes.of(record.protocol(), record.state()))
            });
        });
    });
    group.bench_function("sweep, young ones only", |bencher| {
        bencher.iter(|| {
            changing.sweep(lines as usize, Some((&lifetimes, black_box(1))), |_| Verdict::End);
        });
    });
    group.bench_function("sweep, all over", |bencher| {
        bencher.iter_batched_ref(
            || table(RECORDS / 8),
            |table| {
                table
                    .sweep(lines as usize, None, |record| Verdict::end_if(record.age(black_box(1_000)) > 900))
            },
            BatchSize::LargeInput,
        );
    });
}

criterion_group!(all, benches);
criterion_main!(all);
