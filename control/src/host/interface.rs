//! One host interface: its frames and its addresses.

use std::io::ErrorKind;
use std::sync::Arc;

use anyhow::Result;
use dpdk::Tap;
use dpdk::port::PortStatsReader;
use ipnet::IpNet;
use tracing::{error, info, warn};
use weir_dataplane::punt::headers::{self, Content};
use weir_dataplane::punt::{Channel, Hosted};

use super::counters::{HostCounters, HostDrop};
use crate::netlink::Netlink;
use crate::threads::Pulse;

/// Frames one way before the other way has its turn.
pub(super) const TURN: usize = 64;

/// See the module.
pub(super) struct Interface {
    /// Port number.
    pub(super) port: usize,
    pub(super) name: String,
    pub(super) tap: Tap,
    /// The kernel's number for it.
    pub(super) index: u32,
    /// Those that weir has given it.
    pub(super) addresses: Vec<IpNet>,
    /// Of another configuration, which is being prepared.
    pub(super) change: Option<Change>,
    pub(super) counters: Arc<HostCounters>,
    pub(super) link: PortStatsReader,
    /// As the kernel was told last.
    pub(super) has_carrier: bool,
    /// Somebody removed it.
    pub(super) is_gone: bool,
}

/// An interface's addresses between the two steps.
pub(super) struct Change {
    wanted: Vec<IpNet>,
    /// Of those, the ones that the kernel had not.
    added: Vec<IpNet>,
}

/// The kernel, asked by a thread that goes on: each answer may wait for others who change interfaces.
#[derive(Clone, Copy)]
pub(super) struct Kernel<'a> {
    pub(super) netlink: &'a Netlink,
    pub(super) pulse: &'a Pulse,
}

impl Kernel<'_> {
    fn add_new(self, name: &str, index: u32, net: IpNet) -> Result<bool> {
        self.pulse.beat();
        self.netlink.add_new(name, index, net)
    }

    fn remove(self, index: u32, net: IpNet) -> Result<()> {
        self.pulse.beat();
        self.netlink.remove(index, net)
    }
}

impl Interface {
    /// Gives the kernel a frame.
    pub(super) fn give(&self, frame: &[u8]) {
        match self.tap.send(frame) {
            Ok(()) => {
                self.counters.receive_packets.add(1);
                self.counters.receive_bytes.add(frame.len() as u64);
            }
            Err(problem) if problem.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                self.counters.dropped(HostDrop::InterfaceDown);
            }
            Err(_) => self.counters.dropped(HostDrop::Refused),
        }
    }

    /// What the kernel sends, to the worker. Returns how many frames.
    pub(super) fn collect(&mut self, channel: &mut Channel, hosted: &Hosted, buffer: &mut [u8]) -> usize {
        for moved in 0..TURN {
            if self.is_gone {
                return moved;
            }
            let frame = match self.tap.receive(buffer) {
                Ok(len) => &buffer[..len],
                Err(problem) => {
                    if !matches!(problem.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) {
                        error!(
                            interface = self.name,
                            "the host interface is gone until weir is restarted: {problem}"
                        );
                        self.is_gone = true;
                    }
                    return moved;
                }
            };
            if let (_, Content::Ip(ip)) = headers::read(frame) {
                hosted.flows.sent(&ip, dpdk::tsc());
            }
            match channel.push(self.port, frame) {
                Ok(()) => {
                    self.counters.transmit_packets.add(1);
                    self.counters.transmit_bytes.add(frame.len() as u64);
                }
                Err(_) => self.counters.dropped(HostDrop::InjectFull),
            }
        }
        TURN
    }

    /// Adds what it has not. One that somebody removed is done without.
    pub(super) fn add(&mut self, kernel: Kernel<'_>, wanted: &[IpNet]) -> Result<(), String> {
        if self.is_gone {
            return Ok(());
        }
        let change = self.change.insert(Change { wanted: wanted.to_vec(), added: Vec::new() });
        for net in wanted.iter().filter(|net| !self.addresses.contains(net)) {
            let is_new = kernel.add_new(&self.name, self.index, *net);
            if is_new.map_err(|problem| format!("{}: {problem:#}", self.name))? {
                change.added.push(*net);
            }
        }
        Ok(())
    }

    /// Gives back what weir gave it and it is not to have. What others have added is not touched, also if the file had it
    /// for a while.
    pub(super) fn settle(&mut self, kernel: Kernel<'_>) {
        let Some(Change { wanted, added }) = self.change.take() else { return };
        added.iter().for_each(|net| info!(interface = self.name, "address {net} added"));
        let (mut given, former): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.addresses).into_iter().partition(|net| wanted.contains(net));
        given.extend(added);
        self.addresses = given;
        for net in former {
            if self.remove(kernel, net) {
                info!(interface = self.name, "address {net} removed");
            }
        }
    }

    /// Whether the kernel has given it back, else that is logged.
    fn remove(&self, kernel: Kernel<'_>, net: IpNet) -> bool {
        let done = kernel.remove(self.index, net);
        if let Err(problem) = &done {
            warn!(interface = self.name, "{problem:#}");
        }
        done.is_ok()
    }

    /// Gives back what was added.
    pub(super) fn undo(&mut self, kernel: Kernel<'_>) {
        let Some(change) = self.change.take() else { return };
        for net in change.added {
            self.remove(kernel, net);
        }
    }
}
