//! The host interfaces: taps through which the kernel uses weir's ports, for ssh, routing daemons and all else on the
//! director that is not a virtual server's.
//!
//! A tap has its port's MAC, MTU and addresses, and is gone with the process unless it is kept ([`crate::kept`]). One thread moves frames between all taps
//! and the workers: what workers punted for the host goes into the tap of the port it came in on, what the kernel sends
//! goes through the first worker out of the tap's port. Both ways are bounded: the rings and limits are those of
//! [`weir_dataplane::punt`], and the kernel's queue in front of a tap is the kernel's.
//!
//! The thread sleeps in the kernel while nothing comes, for a millisecond at most, since workers make no system call to
//! wake it; while traffic flows it looks every 50 microseconds.

pub(crate) mod addresses;
pub(crate) mod counters;
mod interface;
mod netlink;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dpdk::port::PortStatsReader;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::{debug, info};
use weir_config::model::{Config, MacAddress};
use weir_dataplane::punt::probes::Probes;
use weir_dataplane::punt::ring::FRAME_LEN_MAX;
use weir_dataplane::punt::{Channel, Hosted, Punt};

use addresses::{HostControl, Request};
use counters::HostCounters;
use interface::{Interface, Kernel, TURN};

use crate::flags::Flags;
use crate::kept::Taps;
use crate::memory::FRAME_OVERHEAD;
use crate::netlink::Netlink;
use crate::random::random_u64;
use crate::threads::Pulse;

/// How long the thread sleeps when nothing has come for a while.
const IDLE_SLEEP: Duration = Duration::from_millis(1);
/// How long it sleeps while there is traffic.
const BUSY_SLEEP: Duration = Duration::from_micros(50);
/// Traffic counts as flowing for so long after a frame.
const BUSY_FOR: Duration = Duration::from_millis(5);
/// How often the ports' links are looked at.
const LINK_INTERVAL: Duration = Duration::from_millis(200);

/// All host interfaces, ready to run.
pub(crate) struct Host {
    interfaces: Vec<Interface>,
    channel: Channel,
    hosted: Arc<Hosted>,
    netlink: Netlink,
    requests: mpsc::Receiver<Request>,
}

impl Host {
    /// Makes the interfaces that the file asks for; `None` if it asks for none. `macs` and `links` are by port number;
    /// `workers` are connected. Those of the process before go on.
    pub(crate) fn create(
        config: &Config,
        macs: &[MacAddress],
        links: impl Iterator<Item = PortStatsReader>,
        workers: &mut [Punt],
        mut taps: Taps,
    ) -> Result<Option<(Self, HostControl)>> {
        if config.ports.iter().all(|port| port.host_interface.is_none()) {
            taps.keep(&[]);
            return Ok(None);
        }
        let netlink = Netlink::open()?;
        let mut interfaces = Vec::new();
        for (number, ((port, &mac), link)) in config.ports.iter().zip(macs).zip(links).enumerate() {
            let Some(name) = &port.host_interface else { continue };
            let what = || format!("host_interface of port {}", port.name);
            let (tap, is_known) = taps.take(name).with_context(what)?;
            set_switches(name);
            // What the host sends lies in one buffer.
            let mtu = port.mtu.min(config.memory.mbuf_data_bytes - FRAME_OVERHEAD as u16);
            let index = netlink.set_up(name, mac, mtu).with_context(what)?;
            if is_known {
                netlink.go_on(name, index, &port.addresses);
            }
            for &net in &port.addresses {
                netlink.add(name, index, net).with_context(what)?;
            }
            let how = if is_known { "host interface goes on" } else { "host interface ready" };
            info!(port = port.name, interface = name, mac = %dpdk::MacAddress(mac.0), mtu, "{how}");
            interfaces.push(Interface {
                port: number,
                name: name.clone(),
                tap,
                index,
                addresses: port.addresses.clone(),
                change: None,
                counters: Arc::default(),
                link,
                has_carrier: true,
                is_gone: false,
            });
        }
        let files: Vec<_> = interfaces.iter().map(|interface| interface.tap.as_fd()).collect();
        taps.keep(&files);
        let hosted = Arc::new(Hosted::new([random_u64()?, random_u64()?], dpdk::tsc_hz()));
        let channel = Channel::connect_host(workers, &hosted);
        let (control, requests) = HostControl::new();
        Ok(Some((Self { interfaces, channel, hosted, netlink, requests }, control)))
    }

    /// Who the reserved source ports stand for.
    pub(crate) fn probes(&self) -> Arc<Probes> {
        self.hosted.probes.clone()
    }

    /// The counters of a port's interface, if it has one.
    pub(crate) fn counters(&self, port: usize) -> Option<Arc<HostCounters>> {
        self.interfaces.iter().find(|it| it.port == port).map(|it| it.counters.clone())
    }

    /// Moves frames until weir stops.
    pub(crate) fn run(mut self, flags: &Flags, pulse: &Pulse) {
        let mut frame = Vec::with_capacity(FRAME_LEN_MAX);
        let mut busy_until = Instant::now();
        let mut links_due = Instant::now();
        while !flags.stop.load(SeqCst) {
            pulse.beat();
            while let Ok(request) = self.requests.try_recv() {
                let kernel = Kernel { netlink: &self.netlink, pulse };
                addresses::serve(request, &mut self.interfaces, kernel);
            }
            let mut moved = self.deliver(&mut frame);
            frame.resize(FRAME_LEN_MAX, 0);
            for interface in &mut self.interfaces {
                moved += interface.collect(&mut self.channel, &self.hosted, &mut frame);
            }
            let now = Instant::now();
            if now >= links_due {
                links_due = now + LINK_INTERVAL;
                self.follow(pulse);
            }
            if moved > 0 {
                busy_until = now + BUSY_FOR;
            } else {
                self.sleep(if now < busy_until { BUSY_SLEEP } else { IDLE_SLEEP });
            }
        }
    }

    /// What workers punted, into the taps. Returns how many frames.
    fn deliver(&mut self, frame: &mut Vec<u8>) -> usize {
        for moved in 0..TURN {
            let Some(punted) = self.channel.pop(frame) else { return moved };
            if let Some(interface) = self.interfaces.iter().find(|it| it.port == punted.port) {
                interface.give(frame);
            }
        }
        TURN
    }

    /// Sleeps until the kernel has something to send, for `longest` at most.
    fn sleep(&self, longest: Duration) {
        let present = self.interfaces.iter().filter(|it| !it.is_gone);
        let mut taps: Vec<PollFd<'_>> =
            present.map(|it| PollFd::from_borrowed_fd(it.tap.as_fd(), PollFlags::IN)).collect();
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(longest.subsec_nanos()) };
        if let Err(problem) = poll(&mut taps, Some(&timeout)) {
            debug!("poll: {problem}");
        }
    }

    /// Follows changes of the ports' links.
    fn follow(&mut self, pulse: &Pulse) {
        for interface in &mut self.interfaces {
            pulse.beat();
            let Some(is_up) = interface.link.link().map(|link| link.up) else { continue };
            if is_up == interface.has_carrier || interface.is_gone {
                continue;
            }
            interface.has_carrier = is_up;
            if let Err(problem) = self.netlink.set_carrier(interface.index, is_up) {
                debug!(interface = interface.name, "the kernel is not told about the link: {problem:#}");
            }
        }
    }
}

/// Sets the kernel's switches that a host interface needs. Where they can't be written, their defaults do for most.
fn set_switches(name: &str) {
    let switches = [
        // Removing the first address of a network takes the others with it otherwise.
        ("promote_secondaries", "1"),
        // A director's traffic comes in on another port than it goes out on as often as not: the source has to be
        // reachable, not by this interface.
        ("rp_filter", "2"),
    ];
    for (switch, value) in switches {
        let path = format!("/proc/sys/net/ipv4/conf/{name}/{switch}");
        if let Err(problem) = std::fs::write(&path, value) {
            debug!("{path}: {problem}");
        }
    }
}
