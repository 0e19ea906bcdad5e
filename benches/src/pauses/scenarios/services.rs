//! Ten thousand virtual servers with ten real servers each, and snapshots that change all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::{Result, ensure};
use dpdk::Eal;
use weir_benches::lab::read;
use weir_dataplane::address::Addr4;
use weir_dataplane::sched::Options;
use weir_dataplane::snapshot::registry::Registry;
use weir_dataplane::snapshot::virtual_router::{Fence, RouterKey};

use crate::recorder::Recorder;
use crate::rig::Rig;
use crate::traffic::{Flow, Kind, VIPS};

const SERVICES: u32 = 10_000;
const SERVERS: u32 = 10;
const NEIGHBORS: u32 = 1_000;
const FLOWS: u64 = 1 << 20;
/// The real servers' addresses begin here.
const REALS: Addr4 = Addr4::new(10, 0, 16, 0);
/// VRRP instances, and addresses of each.
const INSTANCES: u32 = 40;
const ADDRESSES: u32 = SERVICES / INSTANCES;
/// Three rounds of announcements, a second apart, are over by then.
const ANNOUNCED_MILLIS: u64 = 3_100;
/// Passes in a millisecond while addresses are announced: few, as with long ones.
const PASSES_PER_MILLI: u64 = 20;
/// Packets after each snapshot: what was cold is warm by then.
const AFTER: u64 = 200_000;
const CHANGES: usize = 4;
/// Packets that meet cold caches, in bursts of 64.
const COLD: u64 = 200 * 64;

/// Reloads of everything, scrapes, and the end of nearly all virtual servers.
pub(super) fn services(recorder: &mut Recorder, eal: Option<&Eal>, _: usize) -> Result<()> {
    let files = [read(&file(0, SERVICES)), read(&file(1, SERVICES))];
    let mut rig = Rig::with(recorder, eal, &files[0], Registry::new(1, Options::default()))?;
    let flow = |number| Flow::of_many(number, u64::from(SERVICES));
    rig.step("new connections to 10,000 virtual servers in turn");
    rig.send(Kind::First, (0..FLOWS).map(flow));
    rig.check()?;
    rig.step("packets of known ones, of all virtual servers in turn");
    rig.send(Kind::Middle, (0..FLOWS).map(flow));
    rig.check()?;
    rig.step("the same after reloads that change everything");
    for change in 1..=CHANGES {
        rig.publish(&files[change % 2], [])?;
        rig.send(Kind::Middle, (0..AFTER).map(|n| flow(n * 31 % FLOWS)));
    }
    rig.check()?;
    rig.step("new ones after reloads that change everything");
    for change in 1..=CHANGES {
        rig.publish(&files[change % 2], [])?;
        let first = FLOWS + change as u64 * AFTER;
        rig.send(Kind::First, (first..first + AFTER).map(flow));
    }
    rig.check()?;
    let first = FLOWS + (CHANGES as u64 + 1) * AFTER;
    rig.step("new ones, with cold caches for every pass");
    rig.send_cold(Kind::First, (first..first + COLD).map(flow));
    rig.check()?;
    rig.step("known ones, with cold caches for every pass");
    rig.send_cold(Kind::Middle, (0..COLD).map(|n| flow(n * 31 % FLOWS)));
    rig.check()?;
    rig.step("known ones, beside scrapes without a pause");
    beside_scrapes(&mut rig, |rig| rig.send(Kind::Middle, (0..FLOWS).map(flow)));
    rig.check()?;
    rig.step("all virtual servers but one are removed");
    rig.publish(&read(&file(0, 1)), [])?;
    while rig.counters.connections.get() > FLOWS / 1_000 {
        rig.send(Kind::Middle, (0..64).map(|_| flow(0)));
    }
    rig.check()
}

/// The virtual servers' addresses come and go with VRRP.
pub(super) fn vrrp(recorder: &mut Recorder, eal: Option<&Eal>, _: usize) -> Result<()> {
    let mut text = file(0, SERVICES);
    let mut masters = Vec::new();
    let fence = Arc::new(Fence::default());
    for instance in 0..INSTANCES {
        let addresses: Vec<_> =
            (0..ADDRESSES).map(|n| format!("\"{}\"", VIPS.plus(instance * ADDRESSES + n))).collect();
        text += &format!(
            "[[vrrp]]\nname = \"i{instance}\"\nport = \"lan\"\nvirtual_router_id = {}\npriority = 100\n\
             virtual_mac = true\naddresses = [{}]\n",
            instance + 1,
            addresses.join(", ")
        );
        fence.renew(false, instance as u8 + 1, u64::MAX);
        masters.push(RouterKey { port: 0, is_ipv6: false, id: instance as u8 + 1 });
    }
    let config = read(&text);
    let registry = Registry::new(1, Options::default()).with_fences(vec![fence]);
    let mut rig = Rig::with(recorder, eal, &config, registry)?;
    let flow = |number| Flow::of_many(number, u64::from(SERVICES));
    rig.publish(&config, masters.clone())?;
    rig.step("new connections as master of 10,000 addresses");
    rig.send(Kind::First, (0..FLOWS).map(flow));
    rig.check()?;
    rig.step("the same, with cold caches for every pass");
    rig.send_cold(Kind::First, (FLOWS..FLOWS + COLD).map(flow));
    rig.check()?;
    rig.step("packets after becoming backup, and master again");
    for change in 0..CHANGES {
        rig.set_masters(if change % 2 == 0 { Vec::new() } else { masters.clone() })?;
        rig.send(Kind::Middle, (0..AFTER).map(|n| flow(n * 31 % FLOWS)));
    }
    rig.check()?;
    rig.step("without VRRP: 10,000 addresses are announced");
    rig.publish(&read(&file(0, SERVICES)), [])?;
    let (begin, mut milli) = (rig.arp_sent, 0);
    while rig.arp_sent < begin + 3 * u64::from(SERVICES) {
        milli += 1;
        ensure!(milli <= ANNOUNCED_MILLIS, "{} announcements in {milli} ms", rig.arp_sent - begin);
        rig.skip_millis(1);
        for pass in 0..PASSES_PER_MILLI {
            let first = (milli * PASSES_PER_MILLI + pass) * 64;
            rig.send(Kind::Middle, (first..first + 64).map(|n| flow(n % FLOWS)));
        }
    }
    rig.check()
}

/// Reads all that a scrape reads of real servers, round and round on another thread, while `work` goes on.
fn beside_scrapes(rig: &mut Rig<'_>, work: impl FnOnce(&mut Rig<'_>)) {
    let snapshot = rig.snapshot();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                for server in snapshot.servers() {
                    let live = &server.live;
                    std::hint::black_box((live.traffic(), live.active(), live.inactive(), live.openings()));
                }
            }
        });
        work(rig);
        is_over.store(true, Relaxed);
    });
}

/// A file whose variants differ in every virtual server, weight and static neighbour.
fn file(variant: u32, services: u32) -> String {
    let mut text = format!(
        "[connections]\ncapacity = {}\nsloppy_tcp = true\n\
         [[port]]\nname = \"lan\"\ndevice = \"x\"\nmac = \"02:00:00:00:00:01\"\naddresses = [\"10.0.0.2/16\"]\n\
         [[route]]\ndestination = \"0.0.0.0/0\"\ngateway = \"10.0.0.254\"\n\
         [[neighbor]]\naddress = \"10.0.0.254\"\nmac = \"02:00:00:00:00:fe\"\n",
        FLOWS * 2
    );
    for n in 0..NEIGHBORS {
        let mac = format!("02:00:{variant:02x}:00:{:02x}:{:02x}", n >> 8, n & 255);
        text += &format!("[[neighbor]]\naddress = \"{}\"\nmac = \"{mac}\"\n", REALS.plus(n));
    }
    for service in 0..services {
        text += &format!(
            "[[virtual_server]]\nname = \"s{service}\"\naddress = \"{}\"\nport = 80\nscheduler = \"wrr\"\n",
            VIPS.plus(service)
        );
        for n in 0..SERVERS + variant {
            let real = REALS.plus((service * 7 + n) % NEIGHBORS);
            let weight = 1 + variant + n % 3;
            text += &format!("[[virtual_server.real_server]]\naddress = \"{real}\"\nweight = {weight}\n");
        }
    }
    text
}
