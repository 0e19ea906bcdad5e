//! Health checks through the forwarding method itself: what the host sends to a VIP from a reserved source port goes to
//! the real server that this port stands for, whatever a scheduler would say, by direct routing or the tunnel as
//! clients' packets do. So a check sees a real server that lacks the VIP, or drops what comes out of the tunnel.
//!
//! A check reserves a port for its time, binds its socket to that port and to an own address, and connects to the
//! virtual server. The real server answers from the VIP, straight to the director, and the answer goes to the host
//! as part of a session of its. NAT needs none of this: its real servers are asked at their own address and port.
//!
//! Written by control, read by the worker that sends for the host, as single words.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crate::conn::record::ServerId;

/// The reserved source ports: above those that the kernel gives to sockets by itself (`ip_local_port_range`).
pub const PORTS: RangeInclusive<u16> = 61_440..=65_535;

/// See the module.
#[derive(Debug)]
pub struct Probes {
    /// By port, from the first of [`PORTS`]: the real server's number. 0: none.
    servers: Box<[AtomicU32]>,
    /// Used in turn, so that a port rests for as long as can be.
    free: Mutex<VecDeque<u16>>,
}

impl Default for Probes {
    fn default() -> Self {
        Self { servers: PORTS.map(|_| AtomicU32::new(0)).collect(), free: Mutex::new(PORTS.collect()) }
    }
}

impl Probes {
    /// Reserves a port for a check of `server`. `None`: all are in use.
    pub fn reserve(self: &Arc<Self>, server: ServerId) -> Option<ProbePort> {
        let port = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop_front()?;
        self.servers[Self::index(port)?].store(server.0, Relaxed);
        Some(ProbePort { probes: self.clone(), port })
    }

    /// Whom packets from this source port are for.
    pub(crate) fn server(&self, port: u16) -> Option<ServerId> {
        let number = self.servers.get(Self::index(port)?)?.load(Relaxed);
        (number != 0).then_some(ServerId(number))
    }

    fn index(port: u16) -> Option<usize> {
        port.checked_sub(*PORTS.start()).map(usize::from)
    }
}

/// A reserved source port, given back when dropped.
#[derive(Debug)]
pub struct ProbePort {
    probes: Arc<Probes>,
    port: u16,
}

impl ProbePort {
    /// What to bind the check's socket to.
    pub fn number(&self) -> u16 {
        self.port
    }
}

impl Drop for ProbePort {
    fn drop(&mut self) {
        if let Some(slot) = Probes::index(self.port).and_then(|index| self.probes.servers.get(index)) {
            slot.store(0, Relaxed);
        }
        self.probes.free.lock().unwrap_or_else(PoisonError::into_inner).push_back(self.port);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_stands_for_its_server_until_it_is_given_back() {
        let probes = Arc::new(Probes::default());
        let held: Vec<_> = PORTS.filter_map(|number| probes.reserve(ServerId(u32::from(number)))).collect();
        assert_eq!(held.len(), PORTS.count());
        assert!(probes.reserve(ServerId(1)).is_none());
        for port in &held {
            assert_eq!(probes.server(port.number()), Some(ServerId(u32::from(port.number()))));
        }
        assert_eq!(probes.server(PORTS.start() - 1), None);
        let first = held[0].number();
        drop(held);
        assert_eq!(probes.server(first), None);
        assert_ne!(probes.reserve(ServerId(1)).map(|port| port.number()), None);
    }
}
