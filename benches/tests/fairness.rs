//! How far several workers may stray from one: the bounds that `docs/schedulers.md` promises.

use weir_benches::fairness::{Load, Order};

const WORKERS: [usize; 3] = [2, 4, 8];
const FLOWS: usize = 3_000;
const LISTS: [&[u16]; 4] = [&[1; 8], &[5, 3, 1], &[1, 2], &[100, 1, 1, 1, 1, 1, 1, 1, 1, 1]];

fn load<'a>(scheduler: &'a str, weights: &'a [u16]) -> Load<'a> {
    Load { scheduler, weights, threshold: 0, flows: FLOWS, open: 0 }
}

#[test]
fn one_worker_is_one_worker() {
    for scheduler in ["rr", "wrr", "lc", "wlc", "sed", "nq"] {
        for order in Order::ALL {
            let strayed = load(scheduler, LISTS[1]).compare(1, order);
            assert_eq!((strayed.picks, strayed.open, strayed.excess), (0, 0, 0), "{scheduler}");
        }
    }
}

#[test]
fn rounds_of_several_workers_are_never_further_apart_than_one_pick_each() {
    for workers in WORKERS {
        for order in Order::ALL {
            for weights in LISTS {
                let strayed = load("rr", weights).compare(workers, order);
                assert!(strayed.picks <= workers as u32, "{workers} {order:?} {weights:?}: {strayed:?}");
            }
        }
    }
}

#[test]
fn rounds_by_weight_stray_by_a_part_of_a_round_for_each_worker_and_shares_come_out_right() {
    for workers in WORKERS {
        for order in Order::ALL {
            for weights in LISTS {
                let strayed = load("wrr", weights).compare(workers, order);
                // In a row a real server is picked at most as often as it is heavier than the next one.
                let mut sorted = weights.to_vec();
                sorted.sort_unstable();
                let run = u32::from(sorted[sorted.len() - 1] - sorted[sorted.len() - 2]).max(1);
                assert!(
                    strayed.picks <= run * workers as u32,
                    "{workers} {order:?} {weights:?}: {strayed:?}"
                );
                assert!(strayed.share < 0.012, "{workers} {order:?} {weights:?}: {strayed:?}");
            }
        }
    }
}

#[test]
fn workers_that_start_apart_stray_less_than_rounds_that_start_together_would() {
    // Eight rounds that start together are seven picks apart when flows come in turn.
    let strayed = load("rr", LISTS[0]).compare(8, Order::Turns);
    assert!(strayed.picks <= 1, "{strayed:?}");
    let strayed = load("wrr", LISTS[3]).compare(8, Order::Turns);
    assert!(strayed.picks <= 12, "{strayed:?}");
}

#[test]
fn least_connection_schedulers_pick_as_one_worker_unless_picks_fall_on_the_same_instant() {
    for scheduler in ["lc", "wlc", "sed", "nq"] {
        for workers in WORKERS {
            for weights in LISTS {
                for open in [0, 200] {
                    let load = Load { open, ..load(scheduler, weights) };
                    for order in [Order::Rss, Order::Turns, Order::Bursts] {
                        let strayed = load.compare(workers, order);
                        assert_eq!((strayed.picks, strayed.open), (0, 0), "{scheduler} {workers} {order:?}");
                    }
                    let strayed = load.compare(workers, Order::AtOnce);
                    // As many workers as there are take the same real server for the lightest.
                    let bound = if open == 0 { 0.03 } else { 1.0 };
                    assert!(strayed.share < bound, "{scheduler} {workers} {weights:?}: {strayed:?}");
                    assert!(strayed.open <= 10 * workers as u32, "{scheduler} {workers}: {strayed:?}");
                }
            }
        }
    }
}

#[test]
fn thresholds_are_exceeded_by_one_connection_less_than_there_are_workers_at_most() {
    for scheduler in ["rr", "wrr", "lc", "wlc", "sed", "nq"] {
        for workers in WORKERS {
            for order in Order::ALL {
                let load = Load { threshold: 50, open: 500, ..load(scheduler, LISTS[0]) };
                let strayed = load.compare(workers, order);
                let bound = if order == Order::AtOnce { workers as u32 - 1 } else { 0 };
                assert!(strayed.excess <= bound, "{scheduler} {workers} {order:?}: {strayed:?}");
            }
        }
    }
}

#[test]
fn workers_on_threads_of_their_own_keep_shares_and_thresholds() {
    for scheduler in ["rr", "wrr", "lc", "wlc", "sed", "nq"] {
        let race = Load { flows: 20_000, ..load(scheduler, LISTS[1]) };
        assert!(race.race(4).share < 0.005, "{scheduler}");
        let limited = Load { threshold: 2_000, ..Load { weights: LISTS[0], ..race } };
        // Each thread has one pick at most that is not counted yet.
        assert!(limited.race(4).excess <= 3, "{scheduler}");
    }
}
