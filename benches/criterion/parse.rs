//! Reading frames.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use weir_benches::frames::{VIP, client, sctp, tagged, tcp, udp, with_fragment};
use weir_benches::pool::PoolWire;
use weir_dataplane::parse::{Packet, parse};
use weir_dataplane::wire::l4::flags::ACK;

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    group.throughput(Throughput::Elements(1));
    let plain = tcp(client(0), (VIP, 80), ACK);
    let frames = [
        ("tcp", plain.clone()),
        ("udp", udp(client(0), (VIP, 80), 18)),
        ("sctp", sctp(client(0), (VIP, 80), 0)),
        ("vlan", tagged(&plain, 7)),
        ("fragment", with_fragment(plain, 0x2000)),
    ];
    let mut wire = PoolWire::default();
    for (name, bytes) in frames {
        let frame = wire.receive(&bytes);
        let mut packet = Packet::default();
        group.bench_function(name, |bencher| bencher.iter(|| parse(black_box(&frame), &mut packet)));
    }
}

criterion_group!(all, benches);
criterion_main!(all);
