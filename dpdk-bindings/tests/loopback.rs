//! Frames through `net_ring`, whose transmit ring is its receive ring.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod common;

use common::{numbered, numbers, pool, start};
use dpdk::{Burst, Port, PortConfig, free_bulk};

/// One test, because the ports of one EAL are what it is about.
#[test]
fn frames_come_back_in_order_and_none_is_lost() {
    let eal = start(&["-l", "0", "--vdev", "net_ring0", "--vdev", "net_ring1"]);
    let pool = pool(&eal, "loopback", 8191);

    let port = Port::by_name(&eal, "net_ring0").unwrap();
    let mut port = port.configure(PortConfig::default(), std::slice::from_ref(&pool)).unwrap();
    let (mut rx, mut tx) = port.take_queues();
    assert_eq!((rx.len(), tx.len()), (1, 1));
    assert!(port.take_queues().0.is_empty(), "each queue exists once");
    let port = port.start().unwrap();
    assert!(port.link().up);
    let (mut rx, mut tx) = (rx.remove(0).start_polling(), tx.remove(0).start_polling());

    let mut burst = numbered(&pool, 1, 64);
    assert_eq!(tx.send(&mut burst), 64);
    assert!(burst.is_empty());
    assert_eq!(tx.send(&mut burst), 0, "an empty burst is no error");
    assert_eq!(pool.in_use(), 64, "they are in the ring");

    let mut back = numbered(&pool, 200, 1);
    assert_eq!(rx.receive(&mut back), 63, "as much as the burst has room for");
    assert_eq!(numbers(&back), [200].into_iter().chain(1..64).collect::<Vec<_>>());
    assert_eq!(rx.receive(&mut back), 0);
    assert!(
        back.iter().all(|mbuf| mbuf.bytes()[1..] == mbuf.bytes()[..mbuf.len() - 1]),
        "the octets are the same"
    );
    free_bulk(&mut back);
    assert_eq!(rx.receive(&mut back), 1);
    free_bulk(&mut back);
    assert_eq!(pool.in_use(), 0);

    let (room, burst) = fill(&mut tx, &pool);
    assert!(room > 0 && !burst.is_empty());
    assert_eq!(pool.in_use() as usize, room + burst.len());
    drop(burst);
    let drained = drain(&mut rx);
    assert_eq!((drained, pool.in_use()), (room, 0));

    let stats = port.stats().unwrap();
    assert_eq!(stats.opackets as usize, 64 + room);
    assert_eq!(stats.ipackets, stats.opackets);
    let reader = port.stats_reader();
    let elsewhere = std::thread::spawn({
        let reader = reader.clone();
        move || reader.stats()
    });
    assert_eq!(elsewhere.join().unwrap(), Some(stats));

    drop(port);
    assert!(reader.stats().is_some(), "the queues hold the device");
    drop((rx, tx));
    assert_eq!(reader.stats(), None, "closed");
    assert!(Port::by_name(&eal, "net_ring0").is_err());
    assert!(Port::by_name(&eal, "net_ring1").is_ok());
    assert_eq!(pool.in_use(), 0);
}

/// Sends until the ring takes no more; returns how many it took and the burst that was cut.
fn fill(tx: &mut dpdk::TxQueue, pool: &dpdk::Mempool) -> (usize, Burst) {
    let mut taken = 0;
    for _ in 0..200 {
        let mut burst = numbered(pool, 10, 50);
        taken += tx.send(&mut burst);
        if !burst.is_empty() {
            let first = 60 - burst.len() as u8;
            assert_eq!(
                numbers(&burst),
                (first..60).collect::<Vec<_>>(),
                "what was not taken is kept, in order"
            );
            return (taken, burst);
        }
    }
    panic!("the ring never fills");
}

fn drain(rx: &mut dpdk::RxQueue) -> usize {
    let mut burst = Burst::new();
    let mut drained = 0;
    while rx.receive(&mut burst) > 0 {
        drained += burst.len();
        free_bulk(&mut burst);
    }
    drained
}
