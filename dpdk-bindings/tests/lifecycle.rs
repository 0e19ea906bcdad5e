//! How EAL starts, ends and fails. Each case is a process of its own: the test runs this program again, with the name of
//! the case in the environment, and looks at how that ended.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod common;

use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use common::{arguments, numbered, pool, start};
use dpdk::{Eal, EalError, LaunchError, LcoreId, Line, Mempool, Port, PortConfig, Slab, SocketId};

const CASE: &str = "WEIR_DPDK_TEST_CASE";

/// Runs `case` in a process of its own, which runs the test named `case` only.
fn run(case: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", case, "--nocapture", "--test-threads", "1"])
        .env(CASE, case)
        .output()
        .unwrap()
}

/// Runs the case in a child if this is the parent, and wants it to succeed; runs it here if this is the child.
fn in_a_process_of_its_own(case: &str, body: impl FnOnce()) {
    if std::env::var(CASE).is_ok_and(|running| running == case) {
        return body();
    }
    let output = run(case);
    assert!(output.status.success(), "{case} in its process: {}", text(&output));
}

fn text(output: &Output) -> String {
    format!(
        "{}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn init(args: &[&str]) -> Result<Eal, EalError> {
    Eal::init(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
}

/// Whether what was launched there ends in time.
fn returns(eal: &Eal, worker: LcoreId) -> bool {
    eal.wait_until(worker, Instant::now() + Duration::from_secs(10))
}

#[test]
fn a_panic_on_a_worker_ends_the_process_with_status_1() {
    let case = "a_panic_on_a_worker_ends_the_process_with_status_1";
    if std::env::var(CASE).is_ok() {
        let eal = start(&["--lcores", "0@0,1@0"]);
        let worker = eal.worker_lcores()[0];
        eal.launch(worker, Box::new(|| panic!("the worker found a bug"))).unwrap();
        assert!(!returns(&eal, worker), "the process has ended by then");
        return;
    }
    let output = run(case);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("the worker found a bug"), "the hook has run: {stderr}");
}

#[test]
fn workers_run_what_they_are_given() {
    in_a_process_of_its_own("workers_run_what_they_are_given", || {
        let eal = start(&["--lcores", "4@0,7@0,9@0"]);
        let workers = eal.worker_lcores();
        assert_eq!(eal.main_lcore().index(), 4);
        assert_eq!(workers.iter().map(|lcore| lcore.index()).collect::<Vec<_>>(), [7, 9]);
        assert_eq!(LcoreId::current(), Some(eal.main_lcore()));
        assert_eq!((workers[0].cpu(), workers[0].socket()), (0, SocketId::new(0)));
        assert!(!eal.has_hugepages());
        assert!(dpdk::tsc_hz() > 1_000_000);
        assert_eq!(
            eal.launch(eal.main_lcore(), Box::new(|| ())),
            Err(LaunchError::NotAWorker(eal.main_lcore()))
        );

        let (ran, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        for &worker in &workers {
            let (ran, stop) = (Arc::clone(&ran), Arc::clone(&stop));
            let work = move || {
                assert_eq!(LcoreId::current(), Some(worker));
                ran.fetch_add(1, Ordering::SeqCst);
                while !stop.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
            };
            eal.launch(worker, Box::new(work)).unwrap();
        }
        let dropped = Arc::new(());
        let held = Arc::clone(&dropped);
        assert_eq!(eal.launch(workers[0], Box::new(move || drop(held))), Err(LaunchError::Busy(workers[0])));
        assert_eq!(Arc::strong_count(&dropped), 1, "work that was refused is dropped");
        stop.store(true, Ordering::SeqCst);
        assert!(workers.iter().all(|worker| returns(&eal, *worker)));
        assert_eq!(ran.load(Ordering::SeqCst), 2);

        let again = Arc::clone(&ran);
        eal.launch(
            workers[1],
            Box::new(move || {
                again.fetch_add(1, Ordering::SeqCst);
            }),
        )
        .unwrap();
        assert!(returns(&eal, workers[1]));
        assert_eq!(ran.load(Ordering::SeqCst), 3, "a lcore can be used again");
    });
}

#[test]
fn threads_get_their_cpus_back() {
    in_a_process_of_its_own("threads_get_their_cpus_back", || {
        let eal = start(&["-l", "0"]);
        let all = eal.initial_cpus().to_vec();
        std::thread::spawn(move || {
            let pinned = std::thread::available_parallelism().unwrap().get();
            dpdk::lcore::run_on_cpus(&all).unwrap();
            let free = std::thread::available_parallelism().unwrap().get();
            assert_eq!((pinned, free), (1, all.len()));
        })
        .join()
        .unwrap();
    });
}

#[test]
fn eal_starts_once() {
    in_a_process_of_its_own("eal_starts_once", || {
        assert!(matches!(init(&["a\0b"]), Err(EalError::NulInArgument(_))), "this one does not count");
        drop(start(&["-l", "0"]));
        assert!(matches!(init(&["--no-huge"]), Err(EalError::AlreadyStarted)));
    });
}

#[test]
fn bad_options_are_told_from_other_causes() {
    in_a_process_of_its_own("bad_options_are_told_from_other_causes", || {
        let error = init(&["--no-huge", "--no-such-option"]).unwrap_err();
        assert!(matches!(error, EalError::BadArguments { .. }), "{error}");
        assert!(error.to_string().contains("--no-huge --no-such-option"), "{error}");
    });
}

#[test]
fn a_stray_word_is_not_ignored() {
    in_a_process_of_its_own("a_stray_word_is_not_ignored", || {
        let mut args = arguments(&["-l", "0"]);
        args.insert(1, "stray".into());
        let error = Eal::init(&args).unwrap_err();
        assert!(matches!(&error, EalError::UnexpectedArgument(word) if word == "stray"), "{error}");
    });
}

#[test]
fn a_device_without_a_driver_is_told_from_bad_options() {
    in_a_process_of_its_own("a_device_without_a_driver_is_told_from_bad_options", || {
        let error = Eal::init(&arguments(&["-l", "0", "--vdev", "net_no_such_driver0"])).unwrap_err();
        assert!(matches!(error, EalError::UnknownDevice { .. }), "{error:?}");
    });
}

#[test]
fn too_little_memory_is_told_from_bad_options() {
    in_a_process_of_its_own("too_little_memory_is_told_from_bad_options", || {
        let error =
            init(&["--no-huge", "-m", "100000000", "--no-pci", "--no-shconf", "-l", "0"]).unwrap_err();
        assert!(matches!(error, EalError::NoMemory(_)), "{error:?}");
    });
}

/// Everything made from EAL, as a caller may hold it.
struct Users {
    pool: Mempool,
    slab: Slab<Line>,
    queues: (Vec<dpdk::RxQueueHandle>, Vec<dpdk::TxQueueHandle>),
    port: dpdk::StartedPort,
}

fn users(eal: &Eal) -> Users {
    let pool = pool(eal, "users", 1023);
    let slab = Slab::hugepages(eal, 100, SocketId::ANY).unwrap();
    let port = Port::by_name(eal, "net_null0").unwrap();
    let mut port = port.configure(PortConfig::default(), std::slice::from_ref(&pool)).unwrap();
    let queues = port.take_queues();
    Users { pool, slab, queues, port: port.start().unwrap() }
}

#[test]
fn what_eal_gave_out_outlives_its_handle() {
    in_a_process_of_its_own("what_eal_gave_out_outlives_its_handle", || {
        let eal = start(&["-l", "0", "--vdev", "net_null0"]);
        let Users { pool, slab, queues, port } = users(&eal);
        drop(eal);
        slab[99].0[7].store(1, Ordering::Relaxed);
        assert_eq!(port.mtu(), 1500);
        drop(port);
        let mut rx = queues.0.into_iter().next().unwrap().start_polling();
        assert_eq!(common::receive(&mut rx, 64).len(), 64);
        drop((rx, queues.1));
        assert_eq!(pool.in_use(), 0);
        drop(pool);
        assert_eq!(slab[99].0[7].load(Ordering::Relaxed), 1);
    });
}

#[test]
fn frames_outlive_their_pool_and_eal() {
    in_a_process_of_its_own("frames_outlive_their_pool_and_eal", || {
        let eal = start(&["-l", "0", "--vdev", "net_null0"]);
        let Users { pool, .. } = users(&eal);
        let burst = numbered(&pool, 1, 5);
        drop(pool);
        drop(eal);
        assert_eq!(common::numbers(&burst), [1, 2, 3, 4, 5]);
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || sender.send(Box::new(burst)).unwrap()).join().unwrap();
        drop(receiver.recv().unwrap());
    });
}

#[test]
fn a_name_is_free_again_once_its_pool_is_gone() {
    in_a_process_of_its_own("a_name_is_free_again_once_its_pool_is_gone", || {
        let eal = start(&["-l", "0"]);
        for _ in 0..3 {
            let pool = pool(&eal, "again", 1023);
            drop(numbered(&pool, 0, 60));
        }
        let kept = numbered(&pool(&eal, "kept", 63), 0, 1);
        let config = dpdk::MempoolConfig {
            name: "kept".into(),
            mbufs: 63,
            cache: 0,
            data_bytes: 2048,
            socket: SocketId::ANY,
        };
        assert_eq!(Mempool::new(&eal, config).unwrap_err(), dpdk::MempoolError::NameTaken("kept".into()));
        assert_eq!(common::numbers(&kept), [0]);
    });
}

#[test]
fn polling_before_the_start_is_refused() {
    in_a_process_of_its_own("polling_before_the_start_is_refused", || {
        let eal = start(&["-l", "0", "--vdev", "net_null0"]);
        let pool = pool(&eal, "early", 1023);
        let port = Port::by_name(&eal, "net_null0").unwrap();
        let mut port = port.configure(PortConfig::default(), std::slice::from_ref(&pool)).unwrap();
        let (mut rx, _) = port.take_queues();
        let rx = rx.remove(0);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| rx.start_polling())).unwrap_err();
    });
}

#[test]
fn the_version_is_known_without_eal() {
    assert!(dpdk::version().starts_with("DPDK 2"), "{}", dpdk::version());
}
