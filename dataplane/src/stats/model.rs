//! Milestones under every order in which the language lets two threads see each other's stores: `milestone.rs` itself,
//! compiled with the memory of `loom`.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use loom::sync::atomic::AtomicU64;
use loom::thread;

#[allow(clippy::duplicate_mod, reason = "the other one has real memory")]
#[allow(unreachable_pub, reason = "all workers have it")]
#[path = "milestone.rs"]
mod milestone;

/// See `sync` of `stats.rs`.
mod sync {
    pub(super) use loom::sync::atomic::AtomicU64;
}

#[test]
fn who_sees_a_worker_in_a_generation_sees_what_it_counted_before() {
    loom::model(|| {
        // As `Gauge` and `Counter` are written.
        let shared = Arc::new((AtomicU64::new(0), milestone::Milestone::default()));
        let worker = {
            let shared = shared.clone();
            thread::spawn(move || {
                let (connections, generation) = &*shared;
                connections.store(1, Relaxed);
                generation.set(2);
                connections.store(2, Relaxed);
            })
        };
        let (connections, generation) = &*shared;
        if generation.get() == 2 {
            assert_ne!(connections.load(Relaxed), 0);
        }
        worker.join().expect("the worker ends");
    });
}
