//! Neighbours by a clock of the test's own.

use std::net::Ipv6Addr;

use super::*;
use crate::address::Addr4;

const HOP: Hop = hop(0x0a00_0001, 0, 0);
const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const OTHER: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);

/// The neighbour with this number as its address.
const fn hop(number: u32, port: u16, network: u16) -> Hop {
    Hop::at(Addr4::from_bits(number), port, network)
}

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
    let (slot, resolution) = neighbors.resolve(u32::MAX, HOP, (true, None), at(0));
    assert_eq!(resolution, Resolution::Wait { ask: true });
    for frame in 0..3u32 {
        neighbors.wait(slot, frame).expect("there is room");
        assert_eq!(
            neighbors.resolve(slot, HOP, (true, None), at(1)),
            (slot, Resolution::Wait { ask: false })
        );
    }
    let mut sent = Vec::new();
    assert!(neighbors.learn(HOP, MAC, || None, at(2), |frame| sent.push(frame)));
    assert_eq!(sent, [0, 1, 2]);
    assert_eq!(neighbors.resolve(slot, HOP, (true, None), at(3)), (slot, to(MAC)));
    assert_eq!(neighbors.waiting(), 0);
}

#[test]
fn a_silent_next_hop_is_asked_three_times_a_second_apart_then_given_up() {
    let mut neighbors = Neighbors::new();
    let (slot, _) = neighbors.resolve(u32::MAX, HOP, (true, None), at(0));
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
    let (slot, resolution) = neighbors.resolve(slot, HOP, (true, None), at(3_500));
    assert_eq!(resolution, Resolution::Drop(DropReason::NeighborFailed));
    assert_eq!(neighbors.resolve(slot, HOP, (true, None), at(4_000)).1, Resolution::Wait { ask: true });
}

#[test]
fn an_old_answer_is_probed_by_unicast_while_packets_go_on() {
    let mut neighbors = Neighbors::<u32>::new();
    let (slot, _) = neighbors.resolve(u32::MAX, HOP, (true, None), at(0));
    neighbors.learn(HOP, MAC, || None, at(0), |_| ());
    let late = REACHABLE_MS + 5;
    assert_eq!(neighbors.resolve(slot, HOP, (true, None), at(late)).1, to(MAC));
    let mut dropped = Vec::new();
    assert_eq!(asks(&mut neighbors, late, &mut dropped), [Ask { hop: HOP, to: Some(MAC) }]);
    assert_eq!(neighbors.resolve(slot, HOP, (true, None), at(late + 1)).1, to(MAC));
    neighbors.learn(HOP, OTHER, || None, at(late + 2), |_| ());
    assert_eq!(neighbors.resolve(slot, HOP, (true, None), at(late + 3)).1, to(OTHER));
}

#[test]
fn no_arp_packet_changes_a_static_binding() {
    let mut neighbors = Neighbors::<u32>::new();
    assert_eq!(neighbors.resolve(u32::MAX, HOP, (true, Some(MAC)), at(0)).1, to(MAC));
    neighbors.learn(HOP, OTHER, || Some(MAC), at(1), |_| ());
    assert_eq!(neighbors.resolve(u32::MAX, HOP, (true, Some(MAC)), at(1_000_000)).1, to(MAC));
}

#[test]
fn bindings_that_change_hold_at_once_whatever_was_known_before() {
    let mut neighbors = Neighbors::<u32>::new();
    let (slot, _) = neighbors.resolve(u32::MAX, HOP, (true, Some(MAC)), at(0));
    assert!(neighbors.links().get(slot, HOP, at(1)).is_some());
    neighbors.rebind();
    assert_eq!(neighbors.links().get(slot, HOP, at(1)), None, "the hint is of another era");
    let (slot, resolution) = neighbors.resolve(slot, HOP, (true, Some(OTHER)), at(1));
    assert_eq!(resolution, to(OTHER));
    assert!(neighbors.links().get(slot, HOP, at(1)).is_some());
    // Bound no more: packets go on while it is asked.
    neighbors.rebind();
    assert_eq!(neighbors.resolve(slot, HOP, (true, None), at(2)).1, to(OTHER));
    let probe = Ask { hop: HOP, to: Some(OTHER) };
    assert_eq!(asks(&mut neighbors, 2, &mut Vec::new()), [probe]);
    // An answer that comes before it is used again must not get around a new binding.
    neighbors.rebind();
    neighbors.learn(HOP, MAC, || Some(OTHER), at(3), |_| ());
    assert_eq!(neighbors.resolve(slot, HOP, (true, Some(OTHER)), at(3)).1, to(OTHER));
}

#[test]
fn what_was_learned_stays_when_bindings_of_others_change() {
    let mut neighbors = Neighbors::<u32>::new();
    let (slot, _) = neighbors.resolve(u32::MAX, HOP, (true, None), at(0));
    neighbors.learn(HOP, MAC, || None, at(0), |_| ());
    neighbors.rebind();
    assert_eq!(neighbors.resolve(slot, HOP, (true, None), at(1)).1, to(MAC));
    assert_eq!(asks(&mut neighbors, 1, &mut Vec::new()), []);
}

#[test]
fn no_hint_outlives_all_eras() {
    let mut neighbors = Neighbors::<u32>::new();
    let (slot, _) = neighbors.resolve(u32::MAX, HOP, (true, Some(MAC)), at(0));
    (0..1 << (32 - INDEX_BITS)).for_each(|_| neighbors.rebind());
    assert_eq!(neighbors.links().get(slot, HOP, at(1)), None);
    assert_eq!(neighbors.resolve(slot, HOP, (true, Some(OTHER)), at(1)).1, to(OTHER));
}

#[test]
fn a_new_binding_sends_what_waited() {
    let mut neighbors = Neighbors::new();
    let (slot, _) = neighbors.resolve(u32::MAX, HOP, (true, None), at(0));
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
fn what_waited_for_a_guest_leaves_when_a_packet_finds_it_bound() {
    let mut neighbors = Neighbors::new();
    let (slot, _) = neighbors.resolve(u32::MAX, HOP, (false, None), at(0));
    neighbors.wait(slot, 7).expect("there is room");
    neighbors.rebind();
    assert_eq!(neighbors.resolve(slot, HOP, (false, Some(MAC)), at(1)).1, to(MAC));
    let mut sent = Vec::new();
    neighbors.tick(at(1), |_| Some(MAC), |due| sent.push(due));
    let Resolution::To(link) = to(MAC) else { unreachable!() };
    assert_eq!(sent, [Due::Send(HOP, link, 7)]);
    assert_sound(&neighbors);
}

#[test]
fn many_silent_next_hops_are_all_asked_and_given_up_in_bounded_steps() {
    let mut neighbors = Neighbors::<u32>::new();
    let hops: Vec<Hop> = (0..5_000).map(|address| hop(address, 0, 0)).collect();
    for hop in &hops {
        assert_eq!(neighbors.resolve(u32::MAX, *hop, (true, None), at(0)).1, Resolution::Wait { ask: true });
    }
    let mut asked = vec![0; hops.len()];
    for millis in 0..4_000 {
        let asks = asks(&mut neighbors, millis, &mut Vec::new());
        assert!(asks.len() <= VISITS_MAX);
        asks.iter().for_each(|ask| asked[ask.hop.address().bits() as usize] += 1);
    }
    assert!(asked.iter().all(|&count| count == usize::from(TRIES_MAX) - 1));
    assert!(neighbors.pending.iter().all(Vec::is_empty));
}

#[test]
fn strangers_teach_nothing() {
    let mut neighbors = Neighbors::<u32>::new();
    assert!(!neighbors.learn(HOP, MAC, || None, at(1), |_| ()));
    assert_eq!(neighbors.entries.len(), 0);
}

/// Lets a next hop be asked for, and so many packets wait for it. Returns how many did.
fn ask(neighbors: &mut Neighbors<u32>, hop: Hop, is_named: bool, packets: usize, now: u64) -> usize {
    let (slot, resolution) = neighbors.resolve(u32::MAX, hop, (is_named, None), at(now));
    if !matches!(resolution, Resolution::Wait { .. }) {
        while neighbors.take_spilled().is_some() {}
        return 0;
    }
    let waited = (0..packets as u32).filter(|&frame| neighbors.wait(slot, frame).is_ok()).count();
    while neighbors.take_spilled().is_some() {}
    waited
}

fn is_known(neighbors: &Neighbors<u32>, hop: Hop) -> bool {
    neighbors.get(hop).is_some()
}

/// The counts that are kept agree with a recount, and every entry is found and in a list.
fn assert_sound(neighbors: &Neighbors<u32>) {
    let mut packets = [0u16; 256];
    let mut waiting = 0;
    for (slot, entry) in neighbors.entries.iter().enumerate() {
        assert_eq!(neighbors.get(entry.hop), Some(slot as Slot));
        let list = neighbors.order.list_of(slot as Slot).expect("a list");
        packets[Shares::account(entry.hop, list)] += entry.queue.len();
        waiting += usize::from(entry.queue.len());
        let is_waiting =
            list == named_waiting(entry.hop) || Group::of(list).is_some_and(|group| list == group.waiting());
        assert_eq!(is_waiting, entry.queue.len() > 0);
        if Group::of(list).is_some() {
            assert!(!matches!(entry.state, State::Reachable | State::Probing));
        } else if list == PROVEN {
            assert!(matches!(entry.state, State::Reachable | State::Probing) && entry.queue.len() == 0);
        }
    }
    assert_eq!(neighbors.waiting(), waiting);
    for (account, expected) in packets.iter().enumerate().take(128) {
        assert_eq!(neighbors.shares.packets_of(account), *expected, "account {account}");
    }
}

#[test]
fn queues_are_bounded_for_one_and_for_all() {
    for is_named in [true, false] {
        let mut neighbors = Neighbors::new();
        assert_eq!(ask(&mut neighbors, HOP, is_named, 200, 0), usize::from(WAITING_PER_HOP_MAX));
        for address in 0..200 {
            assert!(ask(&mut neighbors, hop(address, 0, 0), is_named, 200, 0) > 0, "one at least for each");
            assert!(neighbors.waiting() <= WAITING_MAX);
        }
        assert_sound(&neighbors);
    }
}

#[test]
fn next_hops_of_the_file_wait_whatever_guests_do_on_whatever_tags() {
    let mut neighbors = Neighbors::new();
    neighbors.set_own([MAC, OTHER].into_iter());
    for number in 0..20_000 {
        // The file's own real server on tags that nobody has, and clients that there are none of.
        ask(&mut neighbors, hop(7, 0, 1 + (number % 4000) as u16), true, 3, 0);
        ask(&mut neighbors, hop(1000 + number, (number % 2) as u16, 0), false, 3, 0);
    }
    assert_sound(&neighbors);
    for server in 0..8 {
        assert!(ask(&mut neighbors, hop(server, (server % 2) as u16, 0), true, 32, 1) == 32);
    }
}

#[test]
fn a_port_that_waits_for_silent_servers_leaves_the_others_their_share() {
    let mut neighbors = Neighbors::new();
    neighbors.set_own([MAC, OTHER].into_iter());
    (0..500).for_each(|server| _ = ask(&mut neighbors, hop(server, 0, 0), true, 64, 0));
    assert_eq!(ask(&mut neighbors, hop(1, 1, 0), true, 64, 0), 64);
    assert_sound(&neighbors);
}

#[test]
fn a_flood_of_guests_that_do_not_answer_leaves_room_for_all_others() {
    let mut neighbors = Neighbors::<u32>::new();
    neighbors.set_own([MAC, OTHER].into_iter());
    // Clients that have answered before.
    let known = |number: u32| hop(0x0a01_0000 + number, 0, 0);
    for number in 0..1_000 {
        ask(&mut neighbors, known(number), false, 1, 0);
        assert!(neighbors.learn(known(number), MAC, || None, at(0), |_| ()));
    }
    let mut honest = 0;
    for number in 0..60_000u32 {
        let now = u64::from(number / 20);
        ask(&mut neighbors, hop(0x0a02_0000 + number, 0, 0), false, 1, now);
        if number % 1_000 == 0 {
            // A new client, which answers a millisecond later, after twenty others.
            let client = hop(0x0a03_0000 + number, 0, 0);
            assert_eq!(ask(&mut neighbors, client, false, 1, now), 1);
            for other in 0..20 {
                ask(&mut neighbors, hop(0x0a04_0000 + number * 32 + other, 0, 0), false, 1, now);
            }
            let mut sent = 0;
            assert!(neighbors.learn(client, MAC, || None, at(now + 1), |_| sent += 1));
            honest += sent;
            // One of the file, new by a reload.
            assert!(ask(&mut neighbors, hop(0x0a05_0000 + number, 1, 0), true, 16, now) == 16);
        }
        if number % 20 == 0 {
            asks(&mut neighbors, now, &mut Vec::new());
        }
    }
    assert_eq!(honest, 60);
    assert!((0..1_000).all(|number| is_known(&neighbors, known(number))));
    assert_sound(&neighbors);
}

#[test]
fn next_hops_of_the_file_fill_the_cache_and_are_asked_first() {
    let mut neighbors = Neighbors::<u32>::new();
    for number in 0..20_000 {
        ask(&mut neighbors, hop(0x0a01_0000 + number, 0, 0), false, 1, 0);
    }
    let server = |number: u32| hop(0x0a02_0000 + number, 0, 0);
    for number in 0..ENTRIES_MAX as u32 {
        let resolution = neighbors.resolve(u32::MAX, server(number), (true, None), at(1)).1;
        assert_eq!(resolution, Resolution::Wait { ask: true }, "server {number}");
    }
    assert!((0..ENTRIES_MAX as u32).all(|number| is_known(&neighbors, server(number))));
    let full = Resolution::Drop(DropReason::NeighborTableFull);
    assert_eq!(neighbors.resolve(u32::MAX, HOP, (true, None), at(1)).1, full);
    assert_eq!(neighbors.resolve(u32::MAX, HOP, (false, None), at(1)).1, full);
    assert_sound(&neighbors);

    let mut neighbors = Neighbors::<u32>::new();
    (0..2_000).for_each(|number| _ = ask(&mut neighbors, hop(0x0a01_0000 + number, 0, 0), false, 1, 0));
    (0..100).for_each(|number| _ = ask(&mut neighbors, server(number), true, 1, 0));
    let first = asks(&mut neighbors, RETRY_MS, &mut Vec::new());
    assert!(
        first[..100].iter().all(|ask| ask.hop.address() >= Addr4::new(10, 2, 0, 0)),
        "the file's come first"
    );
    assert_eq!(first.len(), VISITS_MAX, "and guests have their turn");
}

#[test]
fn a_full_cache_of_guests_that_answer_forgets_the_one_that_did_so_longest_ago() {
    let mut neighbors = Neighbors::<u32>::with_limit(6);
    for address in 0..6 {
        ask(&mut neighbors, hop(address, 0, 0), false, 1, 0);
        neighbors.learn(hop(address, 0, 0), MAC, || None, at(u64::from(address)), |_| ());
    }
    neighbors.learn(hop(0, 0, 0), MAC, || None, at(10), |_| ());
    assert_eq!(ask(&mut neighbors, hop(9, 0, 0), false, 1, 11), 1);
    assert!(is_known(&neighbors, hop(0, 0, 0)) && !is_known(&neighbors, hop(1, 0, 0)));
    assert_sound(&neighbors);
}

#[test]
fn a_next_hop_of_the_file_that_nobody_uses_makes_room_for_another() {
    let mut neighbors = Neighbors::<u32>::with_limit(4);
    for address in 0..4 {
        ask(&mut neighbors, hop(address, 0, 0), true, 0, 0);
        neighbors.learn(hop(address, 0, 0), MAC, || None, at(0), |_| ());
    }
    let full = Resolution::Drop(DropReason::NeighborTableFull);
    assert_eq!(neighbors.resolve(u32::MAX, hop(9, 0, 0), (true, None), at(1)).1, full);
    let late = REACHABLE_MS + IDLE_MS;
    let resolution = neighbors.resolve(u32::MAX, hop(9, 0, 0), (true, None), at(late)).1;
    assert_eq!(resolution, Resolution::Wait { ask: true });
    assert_sound(&neighbors);
}

#[test]
fn a_real_server_on_a_vlan_is_the_files_once_somebody_has_answered_there() {
    let mut neighbors = Neighbors::<u32>::new();
    let server = hop(7, 0, 31);
    ask(&mut neighbors, server, true, 1, 0);
    let is_named = |neighbors: &Neighbors<u32>| neighbors.is_named(neighbors.get(server).expect("an entry"));
    assert!(!is_named(&neighbors));
    neighbors.learn(server, MAC, || None, at(1), |_| ());
    neighbors.resolve(u32::MAX, server, (true, None), at(2));
    assert!(is_named(&neighbors));
    assert_sound(&neighbors);
}

#[test]
fn counts_agree_after_any_history() {
    bolero::check!().with_type::<Vec<(u8, u8, u8)>>().for_each(|steps| {
        let mut neighbors = Neighbors::<u32>::with_limit(8);
        neighbors.set_own([MAC, OTHER].into_iter());
        let mut now = 0;
        for &(what, who, more) in steps {
            let hop = hop(u32::from(who % 24), u16::from(who / 24 % 2), u16::from(more % 3));
            match what % 8 {
                0..=2 => _ = ask(&mut neighbors, hop, what % 2 == 0, usize::from(more % 8), now),
                3 => _ = neighbors.learn(hop, MAC, || None, at(now), |_| ()),
                4 => now += u64::from(more) * 20,
                5 => _ = neighbors.resolve(u32::MAX, hop, (true, Some(OTHER)), at(now)),
                6 => neighbors.rebind(),
                _ => neighbors.expect(hop, at(now)),
            }
            if what % 8 == 4 {
                neighbors.tick(at(now), |_| None, |_| ());
            }
            assert_sound(&neighbors);
        }
    });
}

/// A cache of IPv6 that has asked for this neighbour, for a packet that waits.
fn asking(hop: Hop6) -> Neighbors<u32, Hop6> {
    let mut neighbors = Neighbors::new();
    let (slot, resolution) = neighbors.resolve(0, hop, (true, None), at(0));
    assert_eq!(resolution, Resolution::Wait { ask: true });
    neighbors.wait(slot, 7).expect("there is room");
    neighbors
}

const HOP6: Hop6 = Hop6::at(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 0, 0);

fn heard(mac: Option<MacAddress>, is_solicited: bool, overrides: bool) -> Heard {
    Heard { mac, is_solicited, overrides }
}

/// What is sent on because of a message.
fn hears(neighbors: &mut Neighbors<u32, Hop6>, hop: Hop6, what: Heard, now: u64) -> (bool, Vec<u32>) {
    let mut sent = Vec::new();
    let is_known = neighbors.hear(hop, what, || None, at(now), |_, frame| sent.push(frame));
    (is_known, sent)
}

#[test]
fn only_an_advertisement_with_a_mac_ends_the_waiting_for_it() {
    let mut neighbors = asking(HOP6);
    assert_eq!(hears(&mut neighbors, HOP6, heard(None, true, true), 1), (true, vec![]));
    let other = Hop6::at(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1), 0, 0);
    for elsewhere in [other, HOP6.on(7), Hop6::at(HOP6.address(), 1, 0)] {
        assert_eq!(hears(&mut neighbors, elsewhere, heard(Some(OTHER), true, true), 2), (false, vec![]));
    }
    assert_eq!(hears(&mut neighbors, HOP6, heard(Some(MAC), true, false), 3), (true, vec![7]));
    assert_eq!(neighbors.resolve(0, HOP6, (true, None), at(4)).1, to(MAC));
}

#[test]
fn a_known_mac_is_replaced_only_by_who_says_so_and_is_asked_for_again() {
    let known = || {
        let mut neighbors = asking(HOP6);
        hears(&mut neighbors, HOP6, heard(Some(MAC), true, true), 0);
        neighbors
    };
    // What is said, whose MAC packets get then, and whom that is asked of.
    let cases = [
        (heard(Some(OTHER), false, false), MAC, Some(MAC)),
        (heard(Some(OTHER), true, false), MAC, Some(MAC)),
        (heard(Some(OTHER), true, true), OTHER, None),
        (heard(Some(OTHER), false, true), OTHER, Some(OTHER)),
        (heard(Some(MAC), false, true), MAC, None),
        (heard(None, false, false), MAC, None),
    ];
    for (what, mac, asked) in cases {
        let mut neighbors = known();
        assert!(hears(&mut neighbors, HOP6, what, 10).0);
        assert_eq!(neighbors.resolve(0, HOP6, (true, None), at(20)).1, to(mac), "{what:?}");
        let mut asks = Vec::new();
        neighbors.tick(
            at(20),
            |_| None,
            |due| {
                if let Due::Ask(ask) = due {
                    asks.push(ask);
                }
            },
        );
        let expected = asked.map(|mac| Ask { hop: HOP6, to: Some(mac) });
        assert_eq!(asks, Vec::from_iter(expected), "{what:?}");
    }
    // An answer makes it good for as long again, with or without a MAC in it.
    let mut neighbors = known();
    hears(&mut neighbors, HOP6, heard(None, true, false), 20_000);
    assert!(neighbors.links().get(0, HOP6, at(20_000 + REACHABLE_MS - 1)).is_some());
    assert!(neighbors.links().get(0, HOP6, at(20_000 + REACHABLE_MS)).is_none());
}

#[test]
fn a_bound_neighbour_of_ipv6_believes_nobody() {
    let mut neighbors = Neighbors::<u32, Hop6>::new();
    assert_eq!(neighbors.resolve(0, HOP6, (true, Some(MAC)), at(0)).1, to(MAC));
    assert_eq!(hears(&mut neighbors, HOP6, heard(Some(OTHER), true, true), 1), (true, vec![]));
    assert_eq!(neighbors.resolve(0, HOP6, (true, Some(MAC)), at(2)).1, to(MAC));
}
