use super::*;

type List = Vec<(ServerHash, u16)>;

fn server(number: u32) -> ServerHash {
    ServerHash::new(Addr4::new(10, 0, 0, 0).plus(number).into(), 80)
}

fn list(weights: &[u16]) -> List {
    weights.iter().enumerate().map(|(number, &weight)| (server(number as u32), weight)).collect()
}

fn client(number: u32) -> FlowHash {
    let source = (Addr4::new(198, 18, 0, 0).plus(number / 50), 1_024 + (number % 50) as u16);
    FlowHash::new(source, (Addr4::new(192, 0, 2, 1), 80), 6)
}

/// Where so many flows go, by the real server's hash.
fn picks(list: &List, flows: u32) -> Vec<Option<ServerHash>> {
    let entrants = entrants(list);
    (0..flows).map(|flow| entrants.pick(client(flow)).map(|place| list[place].0)).collect()
}

fn entrants(list: &[(ServerHash, u16)]) -> Entrants {
    Entrants::new(list.iter().copied())
}

/// The place with the least number, and of two with the same the one with the lesser hash; by a look at all.
fn walked(flow: FlowHash, list: &[(ServerHash, u16)]) -> Option<usize> {
    let number = |(hash, weight): (ServerHash, u16)| {
        let draw = draw(flow.mixed(hash), flow.order().rank(hash)) / (1u32 << DRAW_BITS) as f32;
        exponential(draw) / f32::from(weight)
    };
    let places = (0..list.len()).filter(|place| list[*place].1 > 0);
    places.min_by(|one, other| {
        let (one, other) = (list[*one], list[*other]);
        number(one).total_cmp(&number(other)).then(one.0.cmp(&other.0))
    })
}

#[test]
fn the_number_is_that_of_the_logarithm() {
    for bits in (0..1 << 23).step_by(97).chain([0, 1, (1 << 23) - 1]) {
        let even = (bits as f32 + 0.5) * (1.0 / (1u32 << 23) as f32);
        let exact = -(-f64::from(even)).ln_1p();
        let number = exponential(even);
        assert!((f64::from(number) / exact - 1.0).abs() < 2e-6, "{even}: {number}, not {exact}");
        assert!(number * 1.0001 > even);
    }
}

#[test]
fn shares_are_in_proportion_to_the_weights() {
    let hundreds: Vec<u16> = (0..100).map(|number| [100, 300][number % 2]).collect();
    for weights in [&[1, 1, 1][..], &[1, 2, 3, 4], &[0, 5, 0, 15], &[1, 30_000, 65_535], &hundreds] {
        let flows = 200_000;
        let list = list(weights);
        let picks = picks(&list, flows);
        let total: u32 = weights.iter().map(|&weight| u32::from(weight)).sum();
        for &(server, weight) in &list {
            let share = picks.iter().filter(|&&picked| picked == Some(server)).count() as f64;
            let expected = f64::from(flows) * f64::from(weight) / f64::from(total);
            // Five standard deviations, and half of a percent.
            let tolerance = 5.0 * expected.sqrt() + expected * 0.005;
            assert!((share - expected).abs() <= tolerance, "{weights:?}: {share}, not {expected}");
        }
    }
}

#[test]
fn flows_of_one_clients_ports_and_of_neighbours_are_spread_as_well() {
    let list = entrants(&list(&[1; 4]));
    let vip = (Addr4::new(192, 0, 2, 1), 80);
    for of in
        [&|n: u32| (Addr4::new(10, 9, 8, 7), n as u16), &|n: u32| (Addr4::new(10, 9, 0, 0).plus(n), 40_000)]
            as [&dyn Fn(u32) -> (Addr4, u16); 2]
    {
        let mut counts = [0u32; 4];
        for n in 0..40_000 {
            counts[list.pick(FlowHash::new(of(n), vip, 17)).expect("one")] += 1;
        }
        assert!(counts.iter().all(|count| count.abs_diff(10_000) < 500), "{counts:?}");
    }
}

/// Whatever one real server's weight becomes, or if it leaves: only flows that it had or gets move. So many as its share
/// changes by.
#[test]
fn only_flows_of_the_changed_real_server_move() {
    bolero::check!().with_type::<(Vec<u16>, u8, u16)>().for_each(|(weights, place, weight)| {
        let mut list: List = list(&weights[..weights.len().min(40)]);
        if list.is_empty() {
            return;
        }
        let place = usize::from(*place) % list.len();
        let (changed, former) = list[place];
        let before = picks(&list, 200);
        list[place].1 = *weight;
        let after = picks(&list, 200);
        for (before, after) in before.iter().zip(&after) {
            let is_its = if *weight < former { *before } else { *after } == Some(changed);
            assert!(before == after || is_its && *weight != former);
            assert!(*weight != 0 || *after != Some(changed));
        }
        list[place].1 = former;
        list.remove(place);
        for (before, after) in before.iter().zip(picks(&list, 200)) {
            assert!(*before == after || *before == Some(changed));
        }
    });
}

#[test]
fn no_more_move_than_the_share_changes_by() {
    let (before, after) = (picks(&list(&[1, 1, 1]), 60_000), picks(&list(&[2, 1, 1]), 60_000));
    let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    // From a third to a half.
    assert!((9_500..10_500).contains(&moved), "{moved}");
}

#[test]
fn the_order_of_the_list_and_other_directors_make_no_difference() {
    let list = list(&[3, 1, 4, 1, 5, 9, 2, 6]);
    let backwards: List = list.iter().rev().copied().collect();
    let picked = picks(&list, 5_000);
    assert_eq!(picked, picks(&backwards, 5_000));
    // These numbers are those of every other director: they never change.
    let first: Vec<usize> = (0..12).map(|flow| entrants(&list).pick(client(flow)).expect("one")).collect();
    assert_eq!(first, [7, 5, 5, 5, 7, 5, 5, 5, 5, 2, 5, 0]);
}

#[test]
fn without_weight_nobody_is_picked() {
    assert_eq!(entrants(&list(&[])).pick(client(1)), None);
    assert_eq!(entrants(&list(&[0, 0])).pick(client(1)), None);
    assert_eq!(entrants(&list(&[0, 1, 0])).pick(client(1)), Some(1));
}

#[test]
fn each_order_has_every_seat_once_at_its_rank() {
    for flow in 0..500 {
        let order = client(flow).order();
        let (first, step) = order.seats();
        for rank in 0..SEATS {
            let seat = first.wrapping_add(step.wrapping_mul(rank));
            // Whatever lies above the seat.
            for above in [0, 7, 0xf_ffff] {
                let server = ServerHash(u64::from((seat % SEATS) | (above << SEAT_BITS)));
                assert_eq!(order.rank(server), rank << FINE_BITS);
                assert_eq!(server.seat(), (seat % SEATS) as usize);
            }
        }
    }
}

/// Lists that are looked at in other ways: short, long, of one weight, of all weights, of many light ones and a few heavy ones.
fn lists() -> Vec<List> {
    let mut random = 0x9e37_79b9_u32;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        random
    };
    let mut lists = Vec::new();
    for len in [1, 2, 16, 140, 150, 450, 1_000, 5_000] {
        let mut weights: [Vec<u16>; 6] = std::array::from_fn(|_| vec![1; len]);
        weights[1].iter_mut().for_each(|weight| *weight = next() as u16);
        weights[2].iter_mut().for_each(|weight| *weight = 1 << (next() % 16));
        weights[3].iter_mut().for_each(|weight| *weight = if next() % 64 == 0 { 65_535 } else { 1 });
        weights[4].iter_mut().for_each(|weight| *weight = (next() % 3) as u16 * 100);
        weights[5].iter_mut().for_each(|weight| *weight = if next() % 50 == 0 { 3 } else { 0 });
        lists.extend(weights.iter().map(|weights| list(weights)));
    }
    lists
}

#[test]
fn a_pick_is_that_of_a_look_at_all() {
    for list in lists() {
        let entrants = entrants(&list);
        for flow in 0..if list.len() < 500 { 400 } else { 60 } {
            let flow = client(flow);
            assert_eq!(entrants.pick(flow), walked(flow, &list), "{} real servers", list.len());
        }
    }
}

#[test]
fn the_order_of_a_long_list_makes_no_difference() {
    // Many draw the same number as another one, some of them the least.
    let list = list(&[1; 2_000]);
    let backwards: List = list.iter().rev().copied().collect();
    let (one, other) = (picks(&list, 100_000), picks(&backwards, 100_000));
    assert_eq!(one.iter().zip(&other).filter(|(one, other)| one != other).count(), 0);
}

#[test]
fn in_a_long_list_only_flows_of_those_that_leave_move_until_it_is_short() {
    let mut list = list(&[2; 260]);
    while list.len() > 150 {
        let before = picks(&list, 300);
        let (gone, _) = list.remove(list.len() * 7 % 13);
        let without = picks(&list, 300);
        for (before, after) in before.iter().zip(&without) {
            assert!(before == after || *before == Some(gone));
        }
        let place = list.len() * 5 % 31;
        let heavier = &mut list[place];
        heavier.1 += 40;
        let heavier = heavier.0;
        for (before, after) in without.iter().zip(picks(&list, 300)) {
            assert!(*before == after || after == Some(heavier));
        }
    }
}

#[test]
fn long_lists_share_as_well() {
    for (len, weights) in [(1_000, [100, 100]), (1_000, [100, 300]), (3_000, [1, 1])] {
        let list = list(&(0..len).map(|number| weights[number % 2]).collect::<Vec<u16>>());
        let mean = 400;
        let picks = picks(&list, mean * len as u32);
        let mut counts = hashbrown::HashMap::<u64, f64>::new();
        picks.iter().flatten().for_each(|server| *counts.entry(server.0).or_default() += 1.0);
        let total: f64 = list.iter().map(|(_, weight)| f64::from(*weight)).sum();
        let mut squares = 0.0;
        for (server, weight) in &list {
            let expected = f64::from(mean) * len as f64 * f64::from(*weight) / total;
            let off = counts.get(&server.0).copied().unwrap_or_default() - expected;
            // Chance aside, up to an eighth where some have their seat together.
            assert!(off.abs() < 5.0 * expected.sqrt() + expected / 8.0, "{len}: {off} beside {expected}");
            squares += off * off / expected;
        }
        // By chance alone 1.
        assert!((0.8..1.8).contains(&(squares / len as f64)), "{len}: {}", squares / len as f64);
    }
}

#[test]
fn of_a_long_list_few_are_looked_at() {
    for list in lists().into_iter().filter(|list| list.len() >= 1_000) {
        let entrants = entrants(&list);
        let looks: Vec<usize> = (0..1_000).map(|flow| entrants.least(client(flow)).looks).collect();
        assert!(looks.iter().sum::<usize>() / 1_000 < list.len().min(2_000) / 2, "{}", list.len());
        // Who has bad luck goes by as many seats as a walk takes, and then walks.
        assert!(looks.iter().all(|&looks| looks <= 4 * list.len() + 1), "{}", list.len());
    }
    let looks = |len| {
        let entrants = entrants(&list(&vec![1; len]));
        (0..1_000).map(|flow| entrants.least(client(flow)).looks).sum::<usize>() / 1_000
    };
    assert!(looks(1_000) < 100 && looks(10_000) < 40, "{}, {}", looks(1_000), looks(10_000));
}
