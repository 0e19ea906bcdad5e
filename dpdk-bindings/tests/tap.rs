//! Taps, in a network namespace of the test's own. Needs root; without it the test says so and stops.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use dpdk::{KeptTapError, Tap, TapError};

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

#[test]
fn a_tap_that_somebody_holds_is_gone_on_with() {
    inside_a_namespace("a_tap_that_somebody_holds_is_gone_on_with", || {
        let tap = Tap::create("weir-t0").unwrap();
        must_ip(&["address", "add", "10.0.0.1/24", "dev", "weir-t0"]);
        must_ip(&["link", "set", "weir-t0", "up"]);
        let held = tap.as_fd().try_clone_to_owned().unwrap();
        drop(tap);
        let shown = ip(&["address", "show", "dev", "weir-t0"]);
        assert!(String::from_utf8_lossy(&shown.stdout).contains("10.0.0.1/24"));
        let (name, tap) = Tap::adopt(held).unwrap();
        assert_eq!(name, "weir-t0");
        // Nothing is left of what the kernel has sent, and it does not wait.
        let problem = tap.receive(&mut [0; 2048]).unwrap_err();
        assert_eq!(problem.kind(), ErrorKind::WouldBlock);
        must_ip(&["link", "del", "weir-t0"]);
        let gone = Tap::adopt(tap.as_fd().try_clone_to_owned().unwrap()).map(|(name, _)| name);
        assert_eq!(gone, Err(KeptTapError::Gone));
    });
}

#[test]
fn what_is_no_tap_of_weirs_is_not_gone_on_with() {
    inside_a_namespace("what_is_no_tap_of_weirs_is_not_gone_on_with", || {
        let adopted = |file: File| Tap::adopt(file.into()).map(|(name, _)| name);
        for path in ["/proc/self/status", "/dev/null", "/"] {
            assert_eq!(adopted(File::open(path).unwrap()), Err(KeptTapError::NoTap), "{path}");
        }
        let device = || File::options().read(true).write(true).open("/dev/net/tun").unwrap();
        assert_eq!(adopted(device()), Err(KeptTapError::Gone), "it has no interface");
        must_ip(&["tuntap", "add", "dev", "tun0", "mode", "tun"]);
        let tun = device();
        let mut request = [0_u8; 40];
        request[..4].copy_from_slice(b"tun0");
        request[16..18].copy_from_slice(&((libc::IFF_TUN | libc::IFF_NO_PI) as u16).to_ne_bytes());
        // SAFETY: TUNSETIFF reads and writes an `ifreq`, and `request` is as large as one. The descriptor is open.
        assert_eq!(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, request.as_mut_ptr()) }, 0);
        assert_eq!(adopted(tun), Err(KeptTapError::OtherKind("tun0".to_owned())));
        let tap = Tap::create("weir-t0").unwrap();
        let held = tap.as_fd().try_clone_to_owned().unwrap();
        must_ip(&["netns", "add", "weir-t-elsewhere"]);
        must_ip(&["link", "set", "weir-t0", "netns", "weir-t-elsewhere"]);
        let elsewhere = Tap::adopt(held).map(|(name, _)| name);
        must_ip(&["netns", "del", "weir-t-elsewhere"]);
        assert_eq!(elsewhere, Err(KeptTapError::Elsewhere("weir-t0".to_owned())));
    });
}
