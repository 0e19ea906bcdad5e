//! What real servers have carried, as plain numbers: to be summed, and to be kept when a real server is gone.

use std::ops::AddAssign;

use super::server::Live;

/// What one or several real servers have carried since they were added, all workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Connections made.
    pub connections: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Bytes from clients, IP header included.
    pub in_bytes: u64,
    /// Packets to clients.
    pub out_packets: u64,
    /// Bytes to clients, IP header included.
    pub out_bytes: u64,
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.connections = self.connections.wrapping_add(other.connections);
        self.in_packets = self.in_packets.wrapping_add(other.in_packets);
        self.in_bytes = self.in_bytes.wrapping_add(other.in_bytes);
        self.out_packets = self.out_packets.wrapping_add(other.out_packets);
        self.out_bytes = self.out_bytes.wrapping_add(other.out_bytes);
    }
}

impl Live {
    /// What it has carried so far.
    pub fn traffic(&self) -> Traffic {
        let mut sum = Traffic::default();
        for tally in self.workers.iter() {
            sum += Traffic {
                connections: tally.connections.get(),
                in_packets: tally.in_packets.get(),
                in_bytes: tally.in_bytes.get(),
                out_packets: tally.out_packets.get(),
                out_bytes: tally.out_bytes.get(),
            };
        }
        sum
    }
}
