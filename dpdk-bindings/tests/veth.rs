//! Devices over interfaces of the kernel: `net_af_packet` and `net_af_xdp` on the ends of a veth pair, and `net_tap`,
//! in a network namespace of the test's own. Needs root; without it the test says so and stops.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod common;

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::{numbered, pool, receive, start};
use dpdk::{Burst, Eal, Mempool, Port, PortConfig, RxQueue, Shortcoming, StartedPort, TxQueue};

const INSIDE: &str = "WEIR_DPDK_TEST_INSIDE";

/// Taken away when the test ends, however it ends.
struct Namespace(String);

impl Namespace {
    fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let namespace = Self(format!("dpdkb-{}-{number}", std::process::id()));
        ip(&["netns", "add", &namespace.0]);
        ip(&["-n", &namespace.0, "link", "add", "wd0", "type", "veth", "peer", "name", "wd1"]);
        ip(&["-n", &namespace.0, "link", "set", "wd0", "up"]);
        ip(&["-n", &namespace.0, "link", "set", "wd1", "up"]);
        namespace
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn ip(args: &[&str]) {
    let status = Command::new("ip").args(args).status().expect("iproute2 is installed");
    assert!(status.success(), "ip {}", args.join(" "));
}

/// Runs `test` of this program again inside a namespace with the veth pair wd0, wd1.
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
    let namespace = Namespace::new();
    let program = std::env::current_exe().unwrap();
    let status = Command::new("ip")
        .args(["netns", "exec", &namespace.0])
        .arg(program)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} in its namespace: {status}");
}

fn open(eal: &Eal, pool: &Mempool, device: &str, config: PortConfig) -> (StartedPort, RxQueue, TxQueue) {
    let port = Port::by_name(eal, device).unwrap();
    let mut port = port.configure(config, std::slice::from_ref(pool)).unwrap();
    // AF_XDP sees what the interface receives and has no mode for multicast frames.
    let lacks = port.shortcomings().iter();
    let lacks: Vec<_> =
        lacks.filter(|lack| !matches!(lack, Shortcoming::AllMulticast { promiscuous: true, .. })).collect();
    assert!(lacks.is_empty(), "{device}: {lacks:?}");
    let (mut rx, mut tx) = port.take_queues();
    let port = port.start().unwrap();
    (port, rx.remove(0).start_polling(), tx.remove(0).start_polling())
}

/// Frames of 60 octets that no part of the kernel answers: to a locally administered address, of an unused type.
fn frames(pool: &Mempool, first: u8, count: u8) -> Burst {
    let mut burst = numbered(pool, first, count);
    for mbuf in &mut burst {
        mbuf.bytes_mut()[..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5]);
    }
    burst
}

/// The numbers of those among the next frames of `queue`; the kernel adds some of its own (IPv6).
fn arrived(queue: &mut RxQueue, wanted: usize) -> Vec<u8> {
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut numbers = Vec::new();
    while numbers.len() < wanted && Instant::now() < deadline {
        let mut burst = Burst::new();
        queue.receive(&mut burst);
        let ours = burst.iter().filter(|mbuf| mbuf.bytes().get(12..14) == Some(&[0x88, 0xb5]));
        numbers.extend(ours.map(|mbuf| mbuf.bytes()[20]));
    }
    numbers
}

fn interface(name: &str, attribute: &str) -> String {
    std::fs::read_to_string(format!("/sys/class/net/{name}/{attribute}")).unwrap().trim().to_owned()
}

#[test]
fn af_packet_sends_receives_and_sets_mac_and_mtu() {
    inside_a_namespace("af_packet_sends_receives_and_sets_mac_and_mtu", || {
        let eal =
            start(&["-l", "0", "--vdev", "net_af_packet0,iface=wd0", "--vdev", "net_af_packet1,iface=wd1"]);
        let pool = pool(&eal, "packet", 4095);
        let config = PortConfig { mtu: 1400, mac: Some([2, 0, 0, 0, 0, 7]), ..PortConfig::default() };
        let (near, mut near_rx, mut near_tx) = open(&eal, &pool, "net_af_packet0", config);
        let (_far, mut far_rx, mut far_tx) = open(&eal, &pool, "net_af_packet1", PortConfig::default());
        assert_eq!(
            (interface("wd0", "address").as_str(), interface("wd0", "mtu").as_str()),
            ("02:00:00:00:00:07", "1400")
        );
        assert_eq!((near.mac(), near.mtu()), (near.device_mac(), 1400));

        let mut burst = frames(&pool, 1, 20);
        assert_eq!(near_tx.send(&mut burst), 20);
        assert_eq!(arrived(&mut far_rx, 20), (1..21).collect::<Vec<_>>());
        let mut burst = frames(&pool, 50, 5);
        assert_eq!(far_tx.send(&mut burst), 5);
        assert_eq!(arrived(&mut near_rx, 5), (50..55).collect::<Vec<_>>());
        assert!(near.stats().unwrap().ipackets >= 5 && near.stats().unwrap().opackets >= 20);
        drop((near, near_rx, near_tx, _far, far_rx, far_tx));
        assert_eq!(pool.in_use(), 0);
    });
}

#[test]
fn af_xdp_sends_and_receives() {
    inside_a_namespace("af_xdp_sends_and_receives", || {
        let eal =
            start(&["-l", "0", "--vdev", "net_af_xdp0,iface=wd0", "--vdev", "net_af_packet1,iface=wd1"]);
        let pool = pool(&eal, "xdp", 8191);
        let (_near, mut near_rx, mut near_tx) = open(&eal, &pool, "net_af_xdp0", PortConfig::default());
        let (_far, mut far_rx, mut far_tx) = open(&eal, &pool, "net_af_packet1", PortConfig::default());
        let mut burst = frames(&pool, 1, 20);
        assert_eq!(near_tx.send(&mut burst), 20);
        assert_eq!(arrived(&mut far_rx, 20), (1..21).collect::<Vec<_>>());
        let mut burst = frames(&pool, 50, 5);
        assert_eq!(far_tx.send(&mut burst), 5);
        assert_eq!(arrived(&mut near_rx, 5), (50..55).collect::<Vec<_>>());
    });
}

#[test]
fn a_tap_has_several_queues() {
    inside_a_namespace("a_tap_has_several_queues", || {
        let eal = start(&["-l", "0", "--vdev", "net_tap0,iface=wtap0"]);
        let pool = pool(&eal, "tap", 16_383);
        let port = Port::by_name(&eal, "net_tap0").unwrap();
        let config = PortConfig { rx_queues: 2, tx_queues: 2, mtu: 1400, ..PortConfig::default() };
        let mut port = port.configure(config, std::slice::from_ref(&pool)).unwrap();
        let (rx, tx) = port.take_queues();
        assert_eq!((rx.len(), tx.len()), (2, 2));
        let port = port.start().unwrap();
        assert_eq!(interface("wtap0", "mtu"), "1400");
        assert!(port.link().up);
        drop((port, rx, tx));
        assert_eq!(pool.in_use(), 0);
    });
}

#[test]
fn a_tap_wakes_the_thread_that_waits_for_frames() {
    inside_a_namespace("a_tap_wakes_the_thread_that_waits_for_frames", || {
        let eal = start(&["-l", "0", "--vdev", "net_tap0,iface=wtap0", "--vdev", "net_af_packet1,iface=wd1"]);
        let pool = pool(&eal, "tap", 16_383);
        let wakes = PortConfig { rx_interrupts: true, ..PortConfig::default() };
        let (port, mut rx, _tx) = open(&eal, &pool, "net_tap0", wakes.clone());
        assert!(port.has_rx_interrupts());
        rx.watch().unwrap();
        rx.watch().unwrap();

        let frame_in = |after: Duration| {
            std::thread::spawn(move || {
                std::thread::sleep(after);
                // An address of the interface's own network that nobody has: the kernel asks for it.
                Command::new("ping")
                    .args(["-c", "1", "-W", "1", "-I", "wtap0", "192.0.2.9"])
                    .output()
                    .unwrap();
            })
        };
        std::fs::write("/proc/sys/net/ipv6/conf/wtap0/disable_ipv6", "1").unwrap();
        ip(&["address", "add", "192.0.2.1/24", "dev", "wtap0"]);
        settle(&mut rx);
        let long = Duration::from_secs(3);
        let (began, sender) = (Instant::now(), frame_in(Duration::from_millis(300)));
        rx.arm().unwrap();
        dpdk::wait_for_frames(long);
        let waited = began.elapsed();
        rx.disarm();
        assert!(waited >= Duration::from_millis(250) && waited < long, "{waited:?}");
        // The driver hands it out once its own signal handler has run too.
        assert!(!receive(&mut rx, 1).is_empty(), "the interrupt was for a frame");
        sender.join().unwrap();

        settle(&mut rx);
        let began = Instant::now();
        dpdk::wait_for_frames(Duration::from_millis(50));
        assert!(began.elapsed() >= Duration::from_millis(50), "without a frame the time passes");

        // Without interrupts a device is not watched.
        let (port, mut rx, _tx) = open(&eal, &pool, "net_af_packet1", wakes);
        assert!(!port.has_rx_interrupts());
        assert!(rx.watch().is_err());
    });
}

/// Takes what the kernel sends by itself until it has been quiet for a while.
fn settle(queue: &mut RxQueue) {
    let mut quiet = Instant::now();
    while quiet.elapsed() < Duration::from_millis(300) {
        let mut burst = Burst::new();
        if queue.receive(&mut burst) > 0 {
            quiet = Instant::now();
        }
    }
}
