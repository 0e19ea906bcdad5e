//! Neighbours by a clock of the test's own.

use super::*;

const HOP: Hop = Hop::at(0x0a00_0001, 0, 0);
const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const OTHER: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);

/// No own MAC is told in these tests.
fn to(mac: MacAddress) -> Resolution {
    let mut link = [0; 12];
    link[..6].copy_from_slice(&mac.0);
    Resolution::To(link)
}

fn at(millis: u64) -> Now {
    Now { cycles: 0, seconds: (millis / 1000) as u32, millis }
}

fn asks(neighbors: &mut Neighbors<u32>, now: u64, dropped: &mut Vec<u32>) -> Vec<Ask> {
    let mut asks = Vec::new();
    neighbors.tick(
        at(now),
        |_| None,
        |due| match due {
            Due::Ask(ask) => asks.push(ask),
            Due::Drop(frame) => dropped.push(frame),
            Due::Send(..) => panic!("nothing is bound"),
        },
    );
    asks
}

#[test]
fn the_first_packet_asks_and_waits_and_an_answer_sends_what_waited_in_order() {
    let mut neighbors = Neighbors::new();
    let (slot, resolution) = neighbors.resolve(u32::MAX, HOP, None, at(0));
    assert_eq!(resolution, Resolution::Wait { ask: true });
    for frame in 0..3u32 {
        neighbors.wait(slot, frame).expect("there is room");
        assert_eq!(neighbors.resolve(slot, HOP, None, at(1)), (slot, Resolution::Wait { ask: false }));
    }
    let mut sent = Vec::new();
    assert!(neighbors.learn(HOP, MAC, None, at(2), |frame| sent.push(frame)));
    assert_eq!(sent, [0, 1, 2]);
    assert_eq!(neighbors.resolve(slot, HOP, None, at(3)), (slot, to(MAC)));
    assert_eq!(neighbors.waiting(), 0);
}

#[test]
fn a_silent_next_hop_is_asked_three_times_a_second_apart_then_given_up() {
    let mut neighbors = Neighbors::new();
    let (slot, _) = neighbors.resolve(u32::MAX, HOP, None, at(0));
    neighbors.wait(slot, 7).expect("there is room");
    let mut dropped = Vec::new();
    let mut asked = Vec::new();
    for millis in (0..10_000).step_by(100) {
        for ask in asks(&mut neighbors, millis, &mut dropped) {
            asked.push((millis, ask.to));
        }
    }
    assert_eq!(asked, [(1000, None), (2000, None)]);
    assert_eq!(dropped, [7]);
    let (slot, resolution) = neighbors.resolve(slot, HOP, None, at(3_500));
    assert_eq!(resolution, Resolution::Drop(DropReason::NeighborFailed));
    assert_eq!(neighbors.resolve(slot, HOP, None, at(4_000)).1, Resolution::Wait { ask: true });
}

#[test]
fn an_old_answer_is_probed_by_unicast_while_packets_go_on() {
    let mut neighbors = Neighbors::<u32>::new();
    let (slot, _) = neighbors.resolve(u32::MAX, HOP, None, at(0));
    neighbors.learn(HOP, MAC, None, at(0), |_| ());
    let late = REACHABLE_MS + 5;
    assert_eq!(neighbors.resolve(slot, HOP, None, at(late)).1, to(MAC));
    let mut dropped = Vec::new();
    assert_eq!(asks(&mut neighbors, late, &mut dropped), [Ask { hop: HOP, to: Some(MAC) }]);
    assert_eq!(neighbors.resolve(slot, HOP, None, at(late + 1)).1, to(MAC));
    neighbors.learn(HOP, OTHER, None, at(late + 2), |_| ());
    assert_eq!(neighbors.resolve(slot, HOP, None, at(late + 3)).1, to(OTHER));
}

#[test]
fn no_arp_packet_changes_a_static_binding() {
    let mut neighbors = Neighbors::<u32>::new();
    assert_eq!(neighbors.resolve(u32::MAX, HOP, Some(MAC), at(0)).1, to(MAC));
    neighbors.learn(HOP, OTHER, Some(MAC), at(1), |_| ());
    assert_eq!(neighbors.resolve(u32::MAX, HOP, Some(MAC), at(1_000_000)).1, to(MAC));
}

#[test]
fn bindings_that_change_hold_at_once_whatever_was_known_before() {
    let mut neighbors = Neighbors::<u32>::new();
    let (slot, _) = neighbors.resolve(u32::MAX, HOP, Some(MAC), at(0));
    assert!(neighbors.links().get(slot, HOP, at(1)).is_some());
    neighbors.rebind();
    assert_eq!(neighbors.links().get(slot, HOP, at(1)), None, "the hint is of another era");
    let (slot, resolution) = neighbors.resolve(slot, HOP, Some(OTHER), at(1));
    assert_eq!(resolution, to(OTHER));
    assert!(neighbors.links().get(slot, HOP, at(1)).is_some());
    // Bound no more: packets go on while it is asked.
    neighbors.rebind();
    assert_eq!(neighbors.resolve(slot, HOP, None, at(2)).1, to(OTHER));
    let probe = Ask { hop: HOP, to: Some(OTHER) };
    assert_eq!(asks(&mut neighbors, 2, &mut Vec::new()), [probe]);
    // An answer that comes before it is used again must not get around a new binding.
    neighbors.rebind();
    neighbors.learn(HOP, MAC, Some(OTHER), at(3), |_| ());
    assert_eq!(neighbors.resolve(slot, HOP, Some(OTHER), at(3)).1, to(OTHER));
}

#[test]
fn what_was_learned_stays_when_bindings_of_others_change() {
    let mut neighbors = Neighbors::<u32>::new();
    let (slot, _) = neighbors.resolve(u32::MAX, HOP, None, at(0));
    neighbors.learn(HOP, MAC, None, at(0), |_| ());
    neighbors.rebind();
    assert_eq!(neighbors.resolve(slot, HOP, None, at(1)).1, to(MAC));
    assert_eq!(asks(&mut neighbors, 1, &mut Vec::new()), []);
}

#[test]
fn no_hint_outlives_all_eras() {
    let mut neighbors = Neighbors::<u32>::new();
    let (slot, _) = neighbors.resolve(u32::MAX, HOP, Some(MAC), at(0));
    (0..1 << (32 - INDEX_BITS)).for_each(|_| neighbors.rebind());
    assert_eq!(neighbors.links().get(slot, HOP, at(1)), None);
    assert_eq!(neighbors.resolve(slot, HOP, Some(OTHER), at(1)).1, to(OTHER));
}

#[test]
fn a_new_binding_sends_what_waited() {
    let mut neighbors = Neighbors::new();
    let (slot, _) = neighbors.resolve(u32::MAX, HOP, None, at(0));
    neighbors.wait(slot, 7).expect("there is room");
    neighbors.rebind();
    let mut sent = Vec::new();
    neighbors.tick(
        at(1),
        |_| Some(MAC),
        |due| match due {
            Due::Send(hop, link, frame) => sent.push((hop, Resolution::To(link), frame)),
            due => panic!("{due:?}"),
        },
    );
    assert_eq!((sent, neighbors.waiting()), (vec![(HOP, to(MAC), 7)], 0));
}

#[test]
fn many_silent_next_hops_are_all_asked_and_given_up_in_bounded_steps() {
    let mut neighbors = Neighbors::<u32>::new();
    let hops: Vec<Hop> = (0..5_000).map(|address| Hop::at(address, 0, 0)).collect();
    for hop in &hops {
        assert_eq!(neighbors.resolve(u32::MAX, *hop, None, at(0)).1, Resolution::Wait { ask: true });
    }
    let mut asked = vec![0; hops.len()];
    for millis in 0..4_000 {
        let asks = asks(&mut neighbors, millis, &mut Vec::new());
        assert!(asks.len() <= VISITS_MAX);
        asks.iter().for_each(|ask| asked[ask.hop.address() as usize] += 1);
    }
    assert!(asked.iter().all(|&count| count == usize::from(TRIES_MAX) - 1));
    assert!(neighbors.pending.is_empty());
}

#[test]
fn strangers_teach_nothing() {
    let mut neighbors = Neighbors::<u32>::new();
    assert!(!neighbors.learn(HOP, MAC, None, at(1), |_| ()));
    assert_eq!(neighbors.entries.len(), 0);
}

#[test]
fn queues_are_bounded_for_one_and_for_all() {
    let mut neighbors = Neighbors::new();
    let (slot, _) = neighbors.resolve(u32::MAX, HOP, None, at(0));
    let waited = (0..200).filter(|&frame| neighbors.wait(slot, frame).is_ok()).count();
    assert_eq!(waited, usize::from(WAITING_PER_HOP_MAX));
    let mut all = waited;
    for address in 0..100 {
        let (slot, _) = neighbors.resolve(u32::MAX, Hop::at(address, 0, 0), None, at(0));
        all += (0..200).filter(|&frame| neighbors.wait(slot, frame).is_ok()).count();
    }
    assert_eq!(all, WAITING_MAX);
}

#[test]
fn a_full_cache_makes_room_by_forgetting_idle_entries_only() {
    let mut neighbors = Neighbors::<u32>::with_limit(4);
    for address in 0..4 {
        let hop = Hop::at(address, 0, 0);
        neighbors.resolve(u32::MAX, hop, None, at(0));
        neighbors.learn(hop, MAC, None, at(0), |_| ());
    }
    let (_, resolution) = neighbors.resolve(u32::MAX, Hop::at(9, 0, 0), None, at(1));
    assert_eq!(resolution, Resolution::Drop(DropReason::NeighborTableFull));
    let late = REACHABLE_MS + IDLE_MS;
    asks(&mut neighbors, late, &mut Vec::new());
    let (_, resolution) = neighbors.resolve(u32::MAX, Hop::at(9, 0, 0), None, at(late));
    assert_eq!(resolution, Resolution::Wait { ask: true });
}
