//! Taps, in a network namespace of the test's own. Needs root; without it the test says so and stops.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::io::ErrorKind;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use dpdk::{Tap, TapError};

const INSIDE: &str = "WEIR_DPDK_TEST_INSIDE";

fn ip(args: &[&str]) -> Output {
    Command::new("ip").args(args).output().expect("iproute2 is installed")
}

fn must_ip(args: &[&str]) {
    let done = ip(args);
    assert!(done.status.success(), "ip {}: {}", args.join(" "), String::from_utf8_lossy(&done.stderr));
}

/// Runs the test of this name again inside a namespace.
#[allow(clippy::print_stderr, reason = "whoever runs the test should know that it did nothing")]
fn inside_a_namespace(test: &str, body: impl FnOnce()) {
    if std::env::var(INSIDE).is_ok() {
        return body();
    }
    // SAFETY: returns a number of the process; nothing is required.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("{test} needs root to make a network namespace: not run");
        return;
    }
    let status = Command::new("unshare")
        .arg("--net")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed in its namespace");
}

/// The next frame that `is_wanted`, within two seconds.
fn receive(tap: &Tap, is_wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let deadline = Instant::now() + Duration::from_secs(2);
    let mut frame = vec![0; 2048];
    while Instant::now() < deadline {
        match tap.receive(&mut frame) {
            Ok(len) if is_wanted(&frame[..len]) => return frame[..len].to_vec(),
            Ok(_) => {}
            Err(problem) if problem.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(problem) => panic!("{problem}"),
        }
    }
    panic!("no such frame came");
}

#[test]
fn the_kernel_answers_what_is_sent_into_a_tap() {
    inside_a_namespace("the_kernel_answers_what_is_sent_into_a_tap", || {
        let tap = Tap::create("weir-t0").unwrap();
        // Down as it is, it takes nothing.
        assert!(tap.send(&[0; 60]).is_err());
        must_ip(&["address", "add", "10.0.0.1/24", "dev", "weir-t0"]);
        must_ip(&["link", "set", "weir-t0", "address", "02:00:00:00:00:01", "up"]);
        // Who has 10.0.0.1? Tell 10.0.0.2.
        let mut request = vec![0xff; 6];
        request.extend([2, 0, 0, 0, 0, 2, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        request.extend([2, 0, 0, 0, 0, 2, 10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1]);
        tap.send(&request).unwrap();
        let is_answer = |frame: &[u8]| frame[12..14] == [8, 6] && frame[20..22] == [0, 2];
        let answer = receive(&tap, is_answer);
        assert_eq!(answer[..12], [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
        assert_eq!(answer[28..32], [10, 0, 0, 1]);
    });
}

#[test]
fn a_tap_is_gone_when_dropped_and_takes_no_name_twice() {
    inside_a_namespace("a_tap_is_gone_when_dropped_and_takes_no_name_twice", || {
        let tap = Tap::create("weir-t0").unwrap();
        let again = Tap::create("weir-t0").map(drop);
        assert_eq!(again, Err(TapError::NameTaken("weir-t0".to_owned())));
        assert_eq!(Tap::create("lo").map(drop), Err(TapError::NameTaken("lo".to_owned())));
        drop(tap);
        assert!(!ip(&["link", "show", "weir-t0"]).status.success());
        Tap::create("weir-t0").unwrap();
    });
}

#[test]
fn names_that_no_interface_can_have_are_refused() {
    for name in ["", "sixteen-letters-", "a b", "a/b", "a:b", ".", "..", "tap%d", "a\0b"] {
        assert_eq!(Tap::create(name).map(drop), Err(TapError::BadName(name.to_owned())), "{name:?}");
    }
}
