//! Two workers on a device that moves flows from queue to queue: to a client the two are one.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod rig;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rig::{End, GATEWAY, OWN, Rig, VIP, WORKERS, client, read, segment};
use weir_config::model::MacAddress;
use weir_dataplane::director::Shared;
use weir_dataplane::wire::l4::flags::{ACK, SYN};

const CLIENTS: u32 = 200;
/// Seconds that begin while segments of the connections come in on both queues.
const SECONDS: u64 = 3;

#[test]
fn connections_stay_with_their_real_servers_whichever_queue_their_segments_come_in_on() {
    rig::with_workers(&[11, 12], true, talk);
}

/// Sends a segment of each connection to a worker; the real servers that they go to, by client. An answer to a client is none.
fn go(rig: &mut Rig, worker: usize, flags: u8) -> HashMap<End, MacAddress> {
    let segments: Vec<_> =
        (0..CLIENTS).map(|number| segment(OWN, GATEWAY, client(number), (VIP, 80), flags)).collect();
    rig.send(worker, &segments);
    let sent = rig.receive(worker, segments.len());
    let sent = sent.iter().map(|frame| read(frame)).map(|(to, source, _, answer)| {
        assert_ne!(
            to, GATEWAY,
            "a segment with flags {flags:#x} was answered with {answer:#x} to {source:?}"
        );
        (source, to)
    });
    sent.collect()
}

fn talk(rig: &mut Rig, shared: &[Shared]) {
    let servers = go(rig, 0, SYN);
    assert_eq!(servers.len(), CLIENTS as usize);
    assert_eq!(go(rig, 1, SYN), servers, "SYNs that were sent again");
    assert_eq!(go(rig, 0, ACK), servers);
    let seconds = |worker: usize| shared[worker].counters.seconds.get();
    let (until, deadline) = (seconds(0) + SECONDS, Instant::now() + Duration::from_secs(60));
    let mut rounds = 0;
    while (0..WORKERS).any(|worker| seconds(worker) < until) && Instant::now() < deadline {
        for worker in 0..WORKERS {
            assert_eq!(go(rig, worker, ACK), servers, "round {rounds}, worker {worker}");
        }
        rounds += 1;
    }
    assert!(
        (0..WORKERS).all(|worker| seconds(worker) >= until),
        "the clocks stand still after {rounds} rounds"
    );
}
