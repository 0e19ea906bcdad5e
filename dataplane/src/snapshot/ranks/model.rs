//! The journal under every order in which the language lets two threads see each other's stores: `journal.rs` itself,
//! compiled with the memory of `loom`.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use loom::sync::atomic::AtomicU32;

#[allow(clippy::duplicate_mod, reason = "the other one has real memory")]
#[allow(dead_code, unreachable_pub, reason = "ranks use the rest")]
#[path = "journal.rs"]
mod journal;

/// See `sync` of `ranks.rs`.
mod sync {
    pub(super) use loom::sync::atomic::{AtomicU32, AtomicU64, fence};

    pub(super) const CHUNK_LEN: usize = 4;

    #[derive(Debug, Default)]
    pub(super) struct Chunk([AtomicU32; CHUNK_LEN]);

    impl std::ops::Deref for Chunk {
        type Target = [AtomicU32];

        fn deref(&self) -> &[AtomicU32] {
            &self.0
        }
    }
}

use journal::Journal;

/// Whose counts change, one after the other. The last two lie in the place of the first two, which were others.
const CHANGED: [u32; 6] = [0, 1, 1, 0, 1, 0];

/// As one worker changes counts, the other reads of every change and sees it, or is told that it does not.
#[test]
fn who_reads_of_a_change_sees_it_and_who_is_lapped_is_told() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let shared = Arc::new((Journal::new(1, 1), [AtomicU32::new(0), AtomicU32::new(0)]));
        let reader = {
            let shared = shared.clone();
            loom::thread::spawn(move || read_twice(&shared.0, &shared.1))
        };
        let (journal, counts) = &*shared;
        for name in CHANGED {
            let count = &counts[name as usize];
            count.store(count.load(Relaxed) + 1, Relaxed);
            journal.note(0, name);
        }
        reader.join().expect("the reader sees what may be seen");
    });
}

/// Asserts that what is read is what was written, and that the counts are no older.
fn read_twice(journal: &Journal, counts: &[AtomicU32; 2]) {
    let mut read = Vec::new();
    let first = journal.read(0, 0, |name| read.push(name));
    let Ok(to) = first.and_then(|first| journal.read(0, first, |name| read.push(name))) else { return };
    let seen = &CHANGED[..to as usize];
    assert_eq!(read, seen);
    for name in 0..2 {
        let least = seen.iter().filter(|changed| **changed == name).count();
        assert!(counts[name as usize].load(Relaxed) as usize >= least);
    }
}
