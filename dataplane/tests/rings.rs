//! Two workers, and NAT replies that come in on the other one's queue.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod rig;

use std::fmt::Debug;
use std::time::Duration;

use rig::{
    GATEWAY, OWN, Rig, SERVER, SERVER_MAC, SERVER6, VIP, VIP6, WORKERS, client, client6, read, read6,
    segment, segment6,
};
use weir_config::model::MacAddress;
use weir_dataplane::director::Shared;
use weir_dataplane::stats::DropReason;
use weir_dataplane::wire::l4::flags::{ACK, FIN, SYN};

#[test]
fn replies_on_the_other_workers_queue_find_their_connections() {
    rig::with_workers(&[11], false, |rig, shared| {
        talk(rig, &Family { client, segment, read, vip: (VIP, 80), server: (SERVER, 8080) });
        talk(
            rig,
            &Family {
                client: client6,
                segment: segment6,
                read: read6,
                vip: (VIP6, 80),
                server: (SERVER6, 8080),
            },
        );
        settle(shared);
    });
}

/// What the two address families differ in; `E` is an address and a port.
struct Family<E> {
    client: fn(u32) -> E,
    segment: fn(MacAddress, MacAddress, E, E, u8) -> Vec<u8>,
    read: fn(&[u8]) -> (MacAddress, E, E, u8),
    vip: E,
    server: E,
}

const CLIENTS: usize = 200;
const ROUNDS: u32 = 20;

/// Rounds of connections, each from SYN to FIN: the client's segments on the owner's queue, the real server's on the other
/// one's, half of the connections owned by each worker.
fn talk<E: Copy + Ord + Debug>(rig: &mut Rig, family: &Family<E>) {
    let Family { client, segment, read, vip, server } = *family;
    for round in 0..ROUNDS {
        for (number, flags) in [SYN, ACK, ACK | FIN].into_iter().enumerate() {
            let own = |worker: usize| {
                let first = (round * WORKERS as u32 + worker as u32) * CLIENTS as u32;
                (first..first + CLIENTS as u32).map(client)
            };
            for worker in 0..WORKERS {
                let requests = own(worker).map(|client| segment(OWN, GATEWAY, client, vip, flags));
                rig.send(worker, &requests.collect::<Vec<_>>());
            }
            let mut asked = Vec::new();
            for worker in 0..WORKERS {
                for frame in rig.receive(worker, CLIENTS) {
                    let (to, source, destination, _) = read(&frame);
                    assert_eq!((to, destination), (SERVER_MAC, server));
                    asked.push((worker, source));
                }
            }
            let replied = if number == 0 { SYN | ACK } else { flags };
            for worker in 0..WORKERS {
                let to_us = asked.iter().filter(|(owner, _)| *owner == worker);
                let replies = to_us.map(|(_, client)| segment(OWN, SERVER_MAC, server, *client, replied));
                rig.send(1 - worker, &replies.collect::<Vec<_>>());
            }
            for worker in 0..WORKERS {
                let mut answered: Vec<E> = Vec::new();
                for frame in rig.receive(1 - worker, CLIENTS) {
                    let (to, source, destination, flags) = read(&frame);
                    assert_eq!((to, source, flags), (GATEWAY, vip, replied));
                    answered.push(destination);
                }
                let mut expected: Vec<E> = own(worker).collect();
                expected.sort_unstable();
                answered.sort_unstable();
                assert_eq!(answered, expected, "round {round}, to clients of worker {worker}");
            }
        }
    }
}

/// What the workers have counted.
fn settle(shared: &[Shared]) {
    // Counters are written by the workers a moment after the last frame is out.
    std::thread::sleep(Duration::from_millis(50));
    for shared in shared {
        let drops = DropReason::ALL.iter().map(|reason| shared.counters.drops(*reason)).sum::<u64>();
        assert_eq!(drops, 0, "worker {}", shared.worker);
        assert_eq!(shared.counters.connections.get(), 2 * u64::from(ROUNDS) * CLIENTS as u64);
        assert_eq!(shared.counters.untracked.get(), 0);
    }
}
