//! The lines of a table under every order in which the language lets two threads see each other's stores: `lines.rs` itself,
//! compiled with the memory of `loom`.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use weir_config::model::Protocol;

use super::HashKey;
use crate::address::Addr4;
use crate::conn::record::{Key, Record, ServerId, VipId};
use crate::conn::state::tcp;

#[allow(clippy::duplicate_mod, reason = "the other one has real memory")]
#[allow(dead_code, unreachable_pub, reason = "the table uses the rest")]
#[path = "lines.rs"]
mod lines;

/// See `sync` of `table.rs`.
mod sync {
    pub(super) use loom::sync::atomic::{AtomicU64, fence};
    pub(super) use loom::thread::yield_now as spin_loop;

    /// As `dpdk::memory::Line`.
    #[derive(Default)]
    pub(super) struct Line(pub(super) [AtomicU64; 8]);

    pub(super) type Memory = Box<[Line]>;

    pub(super) fn prefetch_at(_: &Memory, _: usize) {}
}

use lines::{Glance, Lines, SLOTS, Slot};

/// All keys belong to the first of two lines.
fn lines() -> Arc<Lines> {
    let memory = (0..2).map(|_| sync::Line::default()).collect();
    Arc::new(Lines::new(memory, HashKey { xor: 0, multiply: 1 }))
}

/// The connection of client port `number` to this real server.
fn record(number: u16, server: u32) -> Record {
    let key = Key::new(Addr4::UNSPECIFIED, number, VipId(1), 80, Protocol::Tcp, false);
    Record::new(key, ServerId(server), tcp::ESTABLISHED, 5, false)
}

fn insert(lines: &Lines, record: Record) {
    lines.insert(0, record).expect("there is room");
}

fn remove(lines: &Lines, number: u16) {
    let key = record(number, 1).key;
    let (slot, _) = lines.find(0, |candidate| candidate == key, |_| true).expect("it is there");
    lines.remove(slot, |_, _| ());
}

/// What another thread sees of the connection of client port `number`.
fn glance(lines: &Lines, number: u16) -> Glance {
    let key = record(number, 1).key;
    lines.glance(0, |candidate| candidate == key, |_| true)
}

/// Asserts that a connection that is there all the time, in one of these versions, is seen as it is unless records move.
fn assert_seen(lines: &Lines, versions: &[Record]) {
    let seen = glance(lines, versions[0].client_port());
    match seen.found {
        Some(found) => assert!(versions.contains(&found), "{found:?}"),
        None => assert!(!seen.is_settled, "it slipped past"),
    }
}

/// Runs the worker and a reader in all orders in which the processor switches between them up to three times where it need not.
fn in_all_orders(before: &[Record], worker: fn(&Lines), reader: fn(&Lines)) {
    let before = before.to_vec();
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let lines = lines();
        before.iter().for_each(|record| insert(&lines, *record));
        let thread = {
            let lines = lines.clone();
            loom::thread::spawn(move || reader(&lines))
        };
        worker(&lines);
        thread.join().expect("the reader sees what may be seen");
    });
}

#[test]
fn a_record_that_moves_in_its_line_is_seen_as_it_is() {
    in_all_orders(
        &[record(1, 1), record(2, 2)],
        |lines| remove(lines, 1),
        |lines| assert_seen(lines, &[record(2, 2)]),
    );
}

#[test]
fn a_record_that_moves_back_to_its_home_is_seen_as_it_is() {
    const SPILLED: u16 = SLOTS as u16 + 1;
    let before: Vec<Record> = (1..=SPILLED).map(|number| record(number, number.into())).collect();
    in_all_orders(
        &before,
        |lines| remove(lines, 2),
        |lines| assert_seen(lines, &[record(SPILLED, SPILLED.into())]),
    );
}

/// Puts a record before those of other client ports: which are its rivals makes no difference here.
fn insert_before(lines: &Lines, record: Record) {
    lines.insert_before(0, record, |_| true).expect("there is room");
}

#[test]
fn a_record_that_makes_room_for_a_newer_one_is_seen_as_it_is() {
    for number in [1, 2] {
        let reader = [
            |lines: &Lines| assert_seen(lines, &[record(1, 1)]),
            |lines: &Lines| assert_seen(lines, &[record(2, 2)]),
        ][number - 1];
        in_all_orders(&[record(1, 1), record(2, 2)], |lines| insert_before(lines, record(3, 3)), reader);
    }
}

#[test]
fn a_newer_record_is_seen_first_or_not_yet() {
    in_all_orders(
        &[record(1, 1)],
        |lines| insert_before(lines, record(2, 2)),
        |lines| {
            let seen = lines.find_from_outside(0, |_| true, |_| true);
            assert!(seen == Some(record(1, 1)) || seen == Some(record(2, 2)), "{seen:?}");
        },
    );
}

#[test]
fn the_next_record_of_a_slot_does_not_get_the_value_of_the_last() {
    for number in [1, 2] {
        let reader = [
            |lines: &Lines| assert!(glance(lines, 1).found.is_none_or(|found| found == record(1, 1))),
            |lines: &Lines| assert!(glance(lines, 2).found.is_none_or(|found| found == record(2, 2))),
        ][number - 1];
        in_all_orders(
            &[record(1, 1)],
            |lines| {
                remove(lines, 1);
                insert(lines, record(2, 2));
            },
            reader,
        );
    }
}

#[test]
fn a_key_that_comes_back_has_one_of_its_own_values_unless_records_move() {
    in_all_orders(
        &[record(1, 1)],
        |lines| {
            remove(lines, 1);
            insert(lines, record(2, 2));
            remove(lines, 2);
            insert(lines, record(1, 3));
        },
        |lines| {
            let seen = glance(lines, 1);
            if let Some(found) = seen.found.filter(|_| seen.is_settled) {
                assert!(found == record(1, 1) || found == record(1, 3), "{found:?}");
            }
        },
    );
}

#[test]
fn a_later_version_of_a_record_that_moves_is_seen_whole() {
    in_all_orders(
        &[record(1, 1), record(2, 2)],
        |lines| {
            remove(lines, 1);
            let key = record(2, 2).key;
            let (slot, present) = lines.find(0, |candidate| candidate == key, |_| true).expect("there");
            lines.update(slot, present.touched(tcp::CLOSE, 6));
        },
        |lines| assert_seen(lines, &[record(2, 2), record(2, 2).touched(tcp::CLOSE, 6)]),
    );
}

#[test]
fn a_listing_has_real_connections_only() {
    in_all_orders(
        &[record(1, 1), record(2, 2)],
        |lines| {
            remove(lines, 1);
            insert(lines, record(3, 3));
        },
        |lines| {
            let real = [record(1, 1), record(2, 2), record(3, 3)];
            let seen = lines.records().find(|found| !real.contains(found));
            assert_eq!(seen, None);
        },
    );
}

#[test]
fn a_search_that_waits_for_a_move_ends() {
    in_all_orders(
        &[record(1, 1)],
        |lines| remove(lines, 1),
        |lines| {
            let key = record(1, 1).key;
            let found = lines.find_from_outside(0, |candidate| candidate == key, |_| true);
            assert!(found.is_none_or(|found| found == record(1, 1)));
        },
    );
}

#[test]
fn a_record_is_seen_as_it_is_while_one_beside_it_is_set_to_nobody_and_taken_out() {
    in_all_orders(
        &[record(1, 1), record(2, 2)],
        |lines| {
            let first = Slot { line: 0, slot: 0 };
            lines.exchange(first, Record::NOBODY);
            lines.remove(first, |_, _| ());
        },
        |lines| assert_seen(lines, &[record(2, 2)]),
    );
}

#[test]
fn a_record_behind_a_gap_is_seen_as_it_is_while_that_is_closed() {
    in_all_orders(
        &[record(1, 1), record(2, 2)],
        |lines| {
            lines.lines[0].0[SLOTS].store(0, Relaxed);
            lines.close_gaps(0);
        },
        |lines| assert_seen(lines, &[record(2, 2)]),
    );
}
