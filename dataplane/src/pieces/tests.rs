use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::parse::Packet;

const PATIENT: Patience = Patience { v4: 30_000, v6: 60_000 };
const TO: Way = Way::Server(7, [1, 2]);
const REFUSED: Way = Way::Refused(DropReason::FragmentChecksum);

fn at(millis: u64) -> Now {
    Now { millis, ..Now::default() }
}

fn key(ident: u32) -> Key {
    Key::v4(Addr4::new(10, 0, 0, 1), Addr4::new(10, 0, 0, 100), 17, ident)
}

fn piece(start: u16, end: u16, is_last: bool) -> Piece {
    Piece { packet: Packet::default(), protocol: 17, ident: 0, start, end, is_last }
}

struct Table(Pieces);

impl Table {
    fn new(capacity: usize) -> Self {
        Self(Pieces::new(capacity, [0x1234_5678_9abc_def1, 0x9e37_79b9_7f4a_7c15]).expect("memory"))
    }

    fn begin(&self, key: &Key, end: u16, way: Way, now: u64) -> Gone {
        self.0.begin((key, self.0.hash(key)), end, way, at(now), PATIENT)
    }

    fn follow(&self, key: &Key, (start, end, is_last): (u16, u16, bool), now: u64) -> Course {
        self.0.follow((key, self.0.hash(key)), &piece(start, end, is_last), at(now), PATIENT)
    }
}

#[test]
fn pieces_follow_the_first_until_the_packet_is_whole() {
    let table = Table::new(64);
    for way in [TO, Way::Client(None, [3, 4]), Way::Client(Some(ServerId::MAX), [3, 4]), Way::Left, REFUSED] {
        assert_eq!(table.follow(&key(1), (800, 1_000, true), 5), Course::Unknown);
        assert_eq!(table.begin(&key(1), 400, way, 10), Gone::None);
        assert!(table.0.may_have(table.0.hash(&key(1))));
        assert_eq!(table.follow(&key(1), (800, 1_000, true), 11), Course::On(way));
        assert_eq!(table.follow(&key(1), (800, 1_000, true), 11), Course::Duplicate);
        assert_eq!(table.follow(&key(2), (400, 800, false), 11), Course::Unknown);
        assert_eq!(table.follow(&key(1), (400, 800, false), 12), Course::On(way));
        assert_eq!(table.follow(&key(1), (400, 800, false), 13), Course::Unknown);
    }
}

#[test]
fn who_overlaps_ends_the_packet_until_it_begins_anew() {
    let table = Table::new(64);
    table.begin(&key(1), 400, TO, 10);
    assert_eq!(table.follow(&key(1), (392, 800, false), 10), Course::Overlap);
    assert_eq!(table.follow(&key(1), (400, 800, false), 10), Course::Overlap);
    table.begin(&key(1), 400, TO, 10);
    assert_eq!(table.follow(&key(1), (400, 800, true), 10), Course::On(TO));
}

#[test]
fn a_first_piece_that_comes_again_takes_nothing_back() {
    let table = Table::new(64);
    let repeated = |end: u16, now: u64| table.0.repeated((&key(1), table.0.hash(&key(1))), end, at(now));
    assert_eq!(repeated(400, 10), None);
    for way in [REFUSED, Way::Left, TO] {
        assert_eq!(repeated(400, 10), None, "what was not sent on may go this time");
        table.begin(&key(1), 400, way, 10);
    }
    assert_eq!(table.follow(&key(1), (800, 1_000, true), 11), Course::On(TO));
    assert_eq!(repeated(400, 12), Some(Course::Duplicate));
    assert_eq!(table.follow(&key(1), (800, 1_000, true), 12), Course::Duplicate);
    assert_eq!(table.follow(&key(1), (400, 800, false), 13), Course::On(TO), "and it is whole");
    assert_eq!(repeated(400, 14), None);
    // Another one with the same ident.
    table.begin(&key(1), 400, TO, 20);
    assert_eq!(repeated(400, 121), None);
    assert_eq!(repeated(408, 120), Some(Course::Overlap));
    assert_eq!(repeated(400, 120), None, "an overlap ends the packet");
}

#[test]
fn a_new_packet_finds_a_place_beside_those_that_others_change() {
    let table = Table::new(8);
    (1..=8).for_each(|ident| assert_eq!(table.begin(&key(ident), 400, TO, u64::from(ident)), Gone::None));
    let heads = &table.0.heads[0].0;
    let is_old = |at: &usize| [key(1), key(2)].contains(&Place(&table.0.places[*at]).key());
    let old: Vec<usize> = (0..8).filter(is_old).collect();
    old.iter().for_each(|at| _ = heads[*at].fetch_or(TAKEN, Relaxed));
    assert_eq!(table.begin(&key(9), 400, TO, 10), Gone::Young);
    old.iter().for_each(|at| _ = heads[*at].fetch_and(!TAKEN, Relaxed));
    let is_there = |ident: &u32| table.follow(&key(*ident), (400, 800, false), 10) == Course::On(TO);
    assert_eq!((1..=9).filter(is_there).collect::<Vec<_>>(), [1, 2, 4, 5, 6, 7, 8, 9]);
    heads.iter().for_each(|head| _ = head.fetch_or(TAKEN, Relaxed));
    assert_eq!(table.begin(&key(10), 400, TO, 10), Gone::New);
}

#[test]
fn what_is_over_is_swept_and_counted_once() {
    let table = Table::new(256);
    let six = |ident: u32| Key::v6(1.into(), 2.into(), ident, None);
    for ident in 0..40 {
        table.begin(&key(ident), 400, TO, 1_000);
        table.begin(&six(ident), 400, TO, 1_000);
    }
    // Nobody waits for the rest of one that was not sent on, or that somebody has overlapped.
    table.begin(&key(100), 400, REFUSED, 1_000);
    table.begin(&key(101), 400, Way::Left, 1_000);
    table.begin(&key(102), 400, TO, 1_000);
    assert_eq!(table.follow(&key(102), (392, 800, false), 1_000), Course::Overlap);
    // One is whole, and one is gone already.
    table.follow(&key(0), (400, 800, true), 1_000);
    assert_eq!(table.follow(&key(1), (400, 800, true), 31_001), Course::Late);
    let swept = |now| (0..4).map(|_| table.0.sweep(at(now), PATIENT)).collect::<Vec<_>>();
    assert_eq!(swept(31_000).iter().sum::<u64>(), 0);
    let first = swept(31_001);
    assert!(first.iter().all(|count| *count < 30), "a part each time: {first:?}");
    assert_eq!(first.iter().sum::<u64>(), 38);
    assert_eq!([61_000, 61_001, 90_000].map(|now| swept(now).iter().sum::<u64>()), [0, 40, 0]);
}

#[test]
fn each_family_waits_for_its_time() {
    let table = Table::new(64);
    let six = Key::v6(1.into(), 2.into(), 77, None);
    table.begin(&key(1), 400, TO, 1_000);
    table.begin(&six, 400, TO, 1_000);
    assert_eq!(table.follow(&key(1), (400, 800, false), 31_000), Course::On(TO));
    assert_eq!(table.follow(&key(1), (800, 1_200, false), 31_001), Course::Late);
    assert_eq!(table.follow(&six, (400, 800, false), 61_000), Course::On(TO));
    assert_eq!(table.follow(&six, (800, 1_200, false), 61_001), Course::Late);
    // Nearly a turn of the clock later it is not new.
    let turn = u64::from(u32::MAX);
    table.begin(&key(3), 400, TO, 1_000);
    assert_eq!(table.follow(&key(3), (400, 800, false), turn - 100_000), Course::Late);
    // A clock that is behind the one of who began it.
    table.begin(&key(2), 400, TO, 1_000);
    assert_eq!(table.follow(&key(2), (400, 800, false), 0), Course::On(TO));
}

#[test]
fn a_flood_of_first_pieces_throws_out_the_oldest() {
    let table = Table::new(64);
    let (mut young, mut free) = (0, 0);
    for ident in 0..1_000 {
        match table.begin(&key(ident), 400, TO, u64::from(ident)) {
            Gone::None => free += 1,
            Gone::Young => young += 1,
            gone => panic!("{gone:?}"),
        }
        assert_eq!(table.follow(&key(ident), (400, 800, false), u64::from(ident)), Course::On(TO));
    }
    assert!(free <= 64 && young >= 936, "{free} {young}");
    let known = |ident: &u32| table.follow(&key(*ident), (800, 1_200, false), 1_000) != Course::Unknown;
    let there: Vec<_> = (0..1_000).filter(known).collect();
    assert!(there.len() > 48 && there.iter().all(|&ident| ident > 500), "{there:?}");
    assert_eq!(table.begin(&key(5_000), 400, TO, 100_000), Gone::Incomplete);
}

#[test]
fn two_threads_get_every_piece_on_its_way_and_each_duplicate_once() {
    let table = Table::new(256);
    let (on, twice, waits) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    const PACKETS: u32 = 64;
    for ident in 0..PACKETS {
        table.begin(&key(ident), 8, Way::Server(ident + 1, [u64::from(ident), 9]), 10);
    }
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for part in 1..=10 {
                    for ident in 0..PACKETS {
                        match table.follow(&key(ident), (part * 8, part * 8 + 8, false), 10) {
                            Course::On(way) => {
                                assert_eq!(way, Way::Server(ident + 1, [u64::from(ident), 9]));
                                on.fetch_add(1, Relaxed);
                            }
                            Course::Duplicate => _ = twice.fetch_add(1, Relaxed),
                            Course::Unknown => _ = waits.fetch_add(1, Relaxed),
                            Course::Overlap | Course::Late => panic!("none does"),
                        }
                    }
                }
            });
        }
    });
    let [on, twice, waits] = [on, twice, waits].map(AtomicUsize::into_inner);
    assert!(on <= 640 && on + waits >= 640 && on + twice + waits == 1_280, "{on} {twice} {waits}");
}
