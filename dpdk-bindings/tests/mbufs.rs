//! Pools, mbufs and slabs in EAL's memory.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod common;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use common::{frame, pool, shared};
use dpdk::mempool::{CACHE_MAX, HEADROOM, NAME_LEN_MAX};
use dpdk::{Burst, Eal, Line, MemoryError, Mempool, MempoolConfig, MempoolError, Slab, SocketId, free_bulk};

fn eal() -> &'static Eal {
    shared(&["-l", "0"])
}

#[test]
fn a_new_mbuf_is_an_empty_frame_with_headroom() {
    let pool = pool(eal(), "new", 63);
    let mbuf = pool.alloc().unwrap();
    assert_eq!((mbuf.len(), mbuf.segments(), mbuf.bytes().len()), (0, 1, 0));
    assert_eq!((mbuf.headroom(), mbuf.tailroom()), (usize::from(HEADROOM), 2048));
    assert_eq!(mbuf.port(), u16::MAX);
}

#[test]
fn frames_grow_and_shrink_at_both_ends() {
    let pool = pool(eal(), "grow", 63);
    let mut mbuf = pool.alloc_with(&[3, 4, 5, 6]).unwrap();
    assert!(mbuf.prepend(2));
    mbuf.bytes_mut()[..2].copy_from_slice(&[1, 2]);
    assert!(mbuf.append(1));
    mbuf.bytes_mut()[6] = 7;
    assert_eq!((mbuf.bytes(), mbuf.len()), (&[1, 2, 3, 4, 5, 6, 7][..], 7));
    assert!(mbuf.trim_front(1));
    assert!(mbuf.truncate(3));
    assert_eq!((mbuf.bytes(), mbuf.len()), (&[2, 3, 4][..], 3));
    assert_eq!(mbuf.headroom(), usize::from(HEADROOM) - 1);
    assert_eq!(mbuf.headroom() + mbuf.len() + mbuf.tailroom(), usize::from(HEADROOM) + 2048);
}

#[test]
fn a_frame_never_leaves_its_buffer() {
    let pool = pool(eal(), "limits", 63);
    let mut mbuf = pool.alloc_with(&frame(100, 9)).unwrap();
    assert!(!mbuf.prepend(usize::from(HEADROOM) + 1));
    assert!(!mbuf.append(2048 - 100 + 1));
    assert!(!mbuf.trim_front(101));
    assert!(!mbuf.truncate(101));
    for huge in [usize::from(u16::MAX) + 1, usize::MAX] {
        assert!(!mbuf.prepend(huge) && !mbuf.append(huge) && !mbuf.trim_front(huge) && !mbuf.truncate(huge));
    }
    assert_eq!(mbuf.bytes(), frame(100, 9), "a refusal changes nothing");
    assert!(mbuf.prepend(usize::from(HEADROOM)) && mbuf.append(2048 - 100));
    assert_eq!((mbuf.headroom(), mbuf.tailroom(), mbuf.len()), (0, 0, usize::from(HEADROOM) + 2048));
    assert!(mbuf.trim_front(mbuf.len()) && mbuf.bytes().is_empty());
    assert!(pool.alloc_with(&frame(2049, 0)).is_none());
}

#[test]
fn a_pool_counts_what_is_out_and_runs_dry() {
    let pool = pool(eal(), "count", 100);
    assert_eq!((pool.size(), pool.available(), pool.in_use()), (100, 100, 0));
    let (mut first, mut second) = (Burst::new(), Burst::new());
    assert_eq!(pool.alloc_bulk(&mut first, 1000), 64, "a burst has room for 64");
    assert_eq!(pool.alloc_bulk(&mut first, 1), 0);
    assert_eq!(pool.alloc_bulk(&mut second, 10), 10);
    assert_eq!(pool.alloc_bulk(&mut second, 40), 26, "what is left");
    assert_eq!((pool.available(), pool.in_use()), (0, 100));
    assert!(pool.alloc().is_none());

    free_bulk(&mut first);
    assert!(first.is_empty());
    free_bulk(&mut first);
    assert_eq!(pool.in_use(), 36);
    drop(second);
    assert_eq!(pool.in_use(), 0);
    assert_eq!(pool.alloc_bulk(&mut first, 0), 0);
}

#[test]
fn mbufs_may_be_dropped_on_any_thread() {
    let pool = pool(eal(), "threads", 1023);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let pool = pool.clone();
            std::thread::spawn(move || {
                let mut burst = Burst::new();
                for _ in 0..1000 {
                    pool.alloc_bulk(&mut burst, 32);
                    free_bulk(&mut burst);
                }
                pool.alloc_bulk(&mut burst, 32);
                burst
            })
        })
        .collect();
    let bursts: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(pool.in_use(), 4 * 32);
    drop(bursts);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_pool_that_cannot_be_is_refused_in_words() {
    let config = |name: &str, mbufs, cache, data_bytes| MempoolConfig {
        name: name.into(),
        mbufs,
        cache,
        data_bytes,
        socket: SocketId::ANY,
    };
    let refused = |config| Mempool::new(eal(), config).unwrap_err();
    let long = "x".repeat(NAME_LEN_MAX + 1);
    for name in ["", "a\0b", &long] {
        assert_eq!(refused(config(name, 63, 0, 2048)), MempoolError::BadName(name.into()));
    }
    for cache in [43, CACHE_MAX + 1, u32::MAX] {
        let error = refused(config("p", 63, cache, 2048));
        assert_eq!(error, MempoolError::BadCache { name: "p".into(), cache });
    }
    for (mbufs, data_bytes) in [(0, 2048), (63, u16::MAX)] {
        let error = refused(config("p", mbufs, 0, data_bytes));
        assert_eq!(error, MempoolError::BadSize { name: "p".into(), mbufs, data_bytes });
    }
    let error = refused(config("p", 10_000_000, 0, 2048));
    assert!(matches!(error, MempoolError::NoMemory { .. }), "{error}");

    let taken = pool(eal(), "taken", 63);
    assert_eq!(refused(config("taken", 63, 0, 2048)), MempoolError::NameTaken("taken".into()));
    drop(taken);
}

#[test]
fn the_longest_name_is_accepted() {
    pool(eal(), &"x".repeat(NAME_LEN_MAX), 63);
}

#[test]
fn slabs_of_eal_are_zeroed_each_time() {
    for _ in 0..3 {
        let slab = Slab::<Line>::hugepages(eal(), 10_000, SocketId::ANY).unwrap();
        assert!(slab.is_local());
        assert!(slab.as_ptr().is_aligned());
        assert!(slab.iter().flat_map(|line| &line.0).all(|word| word.load(Relaxed) == 0));
        slab.iter().for_each(|line| line.0[5].store(u64::MAX, Relaxed));
    }
}

#[test]
fn a_slab_that_does_not_fit_is_refused() {
    let error = Slab::<AtomicU64>::hugepages(eal(), 1 << 30, SocketId::new(0)).unwrap_err();
    assert_eq!(error, MemoryError::Exhausted { octets: 8 << 30 });
    assert!(Slab::<AtomicU64>::hugepages(eal(), 0, SocketId::ANY).unwrap().is_empty());
}
