//! Each rewrite of a frame, there and back again so that it can be done any number of times.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use weir_benches::frames::{CLIENT, VIP, client, icmp, ipv4, sctp, server, tcp, udp};
use weir_benches::pool::{PoolFrame, PoolWire};
use weir_dataplane::packet::{Frame, Wire};
use weir_dataplane::parse::{Packet, parse, parse_quoted};
use weir_dataplane::rewrite::{Outer, fragment, into_tunnel, ipv4_mut, quoted, to_client, to_server};
use weir_dataplane::wire::encap::Encap;
use weir_dataplane::wire::ipv4::{HEADER_LEN, TCP};
use weir_dataplane::wire::l4::flags::ACK;

fn received(wire: &mut PoolWire, bytes: &[u8]) -> (PoolFrame, Packet) {
    let frame = wire.receive(bytes);
    let mut packet = Packet::default();
    parse(&frame, &mut packet);
    (frame, packet)
}

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rewrite");
    group.throughput(Throughput::Elements(1));
    let mut wire = PoolWire::default();
    let (mut frame, _) = received(&mut wire, &tcp(client(0), (VIP, 80), ACK));
    group.bench_function("ttl", |bencher| {
        bencher.iter(|| {
            let header = ipv4_mut(black_box(frame.bytes_mut()), 14).expect("it is there");
            header.decrement_ttl();
            header.ttl = 64;
        });
    });

    let flow = (client(0), (VIP, 80));
    let chunks = [
        ("tcp", tcp(flow.0, flow.1, ACK)),
        ("udp", udp(flow.0, flow.1, 18)),
        ("sctp", sctp(flow.0, flow.1, 0)),
    ];
    for (name, bytes) in chunks {
        let (mut frame, packet) = received(&mut wire, &bytes);
        group.bench_function(format!("nat to server, {name}"), |bencher| {
            bencher.iter(|| to_server(black_box(frame.bytes_mut()), &packet, server(11), 8_080));
        });
        group.bench_function(format!("nat to client, {name}"), |bencher| {
            bencher.iter(|| to_client(black_box(frame.bytes_mut()), &packet, VIP, 80));
        });
    }

    let (mut frame, packet) = received(&mut wire, &tcp(client(0), (VIP, 80), ACK));
    let (encap, source, destination) = (Encap::Ipip, server(2), server(11));
    let outer = Outer { encap, source, destination, keep_df: true, ident: 1 };
    group.bench_function("tunnel", |bencher| {
        bencher.iter(|| {
            let wrapped = into_tunnel(black_box(&mut frame), &packet, &outer);
            assert!(frame.trim_front(HEADER_LEN));
            // The link header went with the outer one.
            frame.bytes_mut()[12..15].copy_from_slice(&[8, 0, 0x45]);
            wrapped
        });
    });

    let (large, packet) = received(&mut wire, &ipv4(TCP, CLIENT, VIP, &[1; 1_480]));
    group.bench_function("cut in two", |bencher| {
        bencher.iter(|| {
            let mut pieces = [const { None }; 2];
            let mut free = pieces.iter_mut();
            let cut = fragment::cut(&large, packet.l3(), 1_480, &mut wire, |piece| {
                *free.next().expect("two pieces") = Some(piece);
            });
            pieces.into_iter().flatten().for_each(|piece| wire.release(piece));
            cut
        });
    });

    let quote = &tcp((server(11), 8_080), client(0), ACK)[14..42];
    let (mut frame, packet) = received(&mut wire, &icmp(CLIENT, VIP, (3, 4), 1_400, quote));
    group.bench_function("icmp error", |bencher| {
        bencher.iter(|| {
            let quoted = parse_quoted(packet.within(frame.bytes()), quoted::quote_offset(&packet))
                .expect("it is whole");
            quoted::translate(black_box(frame.bytes_mut()), &packet, &quoted, quoted::End::Source, (VIP, 80))
        });
    });
}

criterion_group!(all, benches);
criterion_main!(all);
