//! Virtual routers of VRRP as the data path sees them: whose MAC is received, and until when.
//!
//! A master that VRRP's thread does not keep up is one no longer: once other routers may have taken over, its lease is
//! over, and workers fence it by themselves: they answer no ARP for its addresses and drop frames to its MAC, so that no
//! switch or neighbour is led back here by a director that only half runs.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};

use weir_config::model::Vrrp;

use crate::wire::ethernet::MacAddress;

/// The virtual MACs of IPv4 but for the last byte (RFC 9568 section 7.3).
const PREFIX: [u8; 5] = [0x00, 0x00, 0x5e, 0x00, 0x01];
/// The same of IPv6.
const PREFIX6: [u8; 5] = [0x00, 0x00, 0x5e, 0x00, 0x02];

/// The MAC of the virtual router of IPv4 with this VRID.
pub fn mac(id: u8) -> MacAddress {
    let [a, b, c, d, e] = PREFIX;
    MacAddress([a, b, c, d, e, id])
}

/// The MAC of the virtual router of IPv6 with this VRID.
pub fn mac6(id: u8) -> MacAddress {
    let [a, b, c, d, e] = PREFIX6;
    MacAddress([a, b, c, d, e, id])
}

/// What tells a virtual router from all others: names are labels, and may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RouterKey {
    /// Port number.
    pub port: usize,
    /// Its family.
    pub is_ipv6: bool,
    /// VRID.
    pub id: u8,
}

impl RouterKey {
    /// Of an instance of the file.
    pub fn of(vrrp: &Vrrp) -> Self {
        let is_ipv6 = vrrp.addresses.first().is_some_and(IpAddr::is_ipv6);
        Self { port: vrrp.port, is_ipv6, id: vrrp.virtual_router_id }
    }
}

/// A set of VRIDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ids([u64; 4]);

impl Ids {
    /// Adds one.
    pub fn insert(&mut self, id: u8) {
        self.0[usize::from(id >> 6)] |= 1 << (id & 63);
    }

    /// Whether it is in the set.
    #[inline]
    pub fn contains(&self, id: u8) -> bool {
        self.0[usize::from(id >> 6)] >> (id & 63) & 1 == 1
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }
}

/// The leases of a port's virtual routers, kept up by VRRP's thread and watched by the workers. Outlives snapshots. A VRID
/// stands for two routers, one of IPv4 and one of IPv6.
#[derive(Debug, Default)]
pub struct Fence {
    v4: Leases,
    v6: Leases,
    is_silent: AtomicBool,
}

#[derive(Debug)]
struct Leases {
    /// By VRID: the cycle up to which it may be served.
    until: Box<[AtomicU64]>,
    /// By VRID: the last of those that a worker saw pass. Another worker, whose pass began before that, must not take it for
    /// one that still lasts.
    passed: Box<[AtomicU64]>,
    expired: [AtomicU64; 4],
}

impl Default for Leases {
    fn default() -> Self {
        let never = || (0..256).map(|_| AtomicU64::new(0)).collect();
        Self { until: never(), passed: never(), expired: Default::default() }
    }
}

impl Leases {
    #[inline]
    fn is_over(&self, id: u8) -> bool {
        self.expired[usize::from(id >> 6)].load(Acquire) >> (id & 63) & 1 == 1
    }

    /// See [`VirtualMacs::watch`].
    fn watch(&self, masters: &Ids, cycles: u64) -> u64 {
        if masters.is_empty() {
            return 0;
        }
        let mut fenced = 0;
        for id in (1..=u8::MAX).filter(|id| masters.contains(*id)) {
            let until = self.until[usize::from(id)].load(Relaxed);
            let is_over = cycles > until;
            if is_over != self.is_over(id) {
                let (word, bit) = (&self.expired[usize::from(id >> 6)], 1 << (id & 63));
                let passed = &self.passed[usize::from(id)];
                if is_over {
                    passed.store(until, Relaxed);
                    fenced += u64::from(word.fetch_or(bit, Release) & bit == 0);
                } else if passed.load(Relaxed) != until {
                    word.fetch_and(!bit, Relaxed);
                }
            }
        }
        fenced
    }
}

impl Fence {
    #[inline]
    fn leases(&self, is_v6: bool) -> &Leases {
        if is_v6 { &self.v6 } else { &self.v4 }
    }

    /// From now on frames to masters are taken as before, and nobody is told that their addresses are here: this director lets go of them.
    pub fn be_silent(&self) {
        self.is_silent.store(true, Relaxed);
    }

    /// Lets a master be served until its lease ends, in cycles of the time stamp counter.
    pub fn renew(&self, is_v6: bool, id: u8, until: u64) {
        self.leases(is_v6).until[usize::from(id)].store(until, Relaxed);
    }
}

/// The virtual MACs of one port.
#[derive(Debug, Clone, Default)]
pub struct VirtualMacs {
    v4: Routers,
    v6: Routers,
    fence: Arc<Fence>,
}

/// The virtual routers of one family.
#[derive(Debug, Clone, Copy, Default)]
struct Routers {
    /// Of which this one is master.
    masters: Ids,
    /// Of those, the ones whose virtual MAC is used.
    received: Ids,
    /// With a virtual MAC, and of which it is not.
    backups: Ids,
}

impl VirtualMacs {
    /// On a port with this fence.
    pub fn new(fence: Arc<Fence>) -> Self {
        Self { fence, ..Self::default() }
    }

    /// Adds a virtual router.
    pub fn insert(&mut self, is_v6: bool, id: u8, virtual_mac: bool, is_master: bool) {
        let routers = if is_v6 { &mut self.v6 } else { &mut self.v4 };
        if is_master {
            routers.masters.insert(id);
        }
        match (virtual_mac, is_master) {
            (true, true) => routers.received.insert(id),
            (true, false) => routers.backups.insert(id),
            (false, _) => {}
        }
    }

    /// Whether the frame goes to the MAC of a virtual router of IPv4 that is master here.
    #[inline]
    pub fn receives(&self, frame: &[u8]) -> bool {
        match frame.first_chunk() {
            Some([a, b, c, d, e, id]) => {
                [*a, *b, *c, *d, *e] == PREFIX
                    && self.v4.received.contains(*id)
                    && !self.is_fenced(false, *id)
            }
            None => false,
        }
    }

    /// As [`VirtualMacs::receives`], of IPv6.
    pub fn receives6(&self, frame: &[u8]) -> bool {
        match frame.first_chunk() {
            Some([a, b, c, d, e, id]) => {
                [*a, *b, *c, *d, *e] == PREFIX6
                    && self.v6.received.contains(*id)
                    && !self.is_fenced(true, *id)
            }
            None => false,
        }
    }

    /// Whether the frame goes to the MAC of a virtual router that another director is master of, or may be.
    pub fn is_for_another(&self, frame: &[u8]) -> bool {
        let Some([a, b, c, d, e, id]) = frame.first_chunk() else { return false };
        let is_v6 = match [*a, *b, *c, *d, *e] {
            PREFIX => false,
            PREFIX6 => true,
            _ => return false,
        };
        let routers = if is_v6 { &self.v6 } else { &self.v4 };
        routers.backups.contains(*id) || routers.received.contains(*id) && self.is_fenced(is_v6, *id)
    }

    /// Whether the lease of a master is over.
    #[inline]
    pub fn is_fenced(&self, is_v6: bool, id: u8) -> bool {
        self.fence.leases(is_v6).is_over(id)
    }

    /// Whether others are told that a master's addresses are here.
    #[inline]
    pub fn is_told_of(&self, is_v6: bool, id: u8) -> bool {
        !self.is_fenced(is_v6, id) && !self.fence.is_silent.load(Relaxed)
    }

    /// Fences masters whose lease is over at this cycle, and lets those that were renewed go on. Returns how many were
    /// fenced just now.
    pub fn watch(&self, cycles: u64) -> u64 {
        self.fence.v4.watch(&self.v4.masters, cycles) + self.fence.v6.watch(&self.v6.masters, cycles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_whose_clock_is_behind_does_not_lift_the_fence_of_another() {
        let mut macs = VirtualMacs::new(Arc::new(Fence::default()));
        macs.insert(false, 51, true, true);
        macs.fence.renew(false, 51, 1_000);
        let worker = macs.clone();
        assert_eq!((macs.watch(1_001), macs.is_fenced(false, 51)), (1, true));
        assert_eq!((worker.watch(900), macs.is_fenced(false, 51)), (0, true));
        assert_eq!((macs.watch(1_002), worker.watch(1_003)), (0, 0), "counted once");
        macs.fence.renew(false, 51, 2_000);
        assert_eq!((worker.watch(900), macs.is_fenced(false, 51)), (0, false), "the lease is another one");
    }

    #[test]
    fn a_master_whose_lease_is_over_is_fenced_until_it_is_renewed() {
        let fence = Arc::new(Fence::default());
        let mut macs = VirtualMacs::new(fence.clone());
        macs.insert(false, 51, true, true);
        macs.insert(false, 200, true, false);
        let frame = |id| [mac(id).0.as_slice(), &[0; 54]].concat();
        fence.renew(false, 51, 1_000);
        assert_eq!((macs.watch(1_000), macs.receives(&frame(51))), (0, true));
        assert_eq!((macs.watch(1_001), macs.receives(&frame(51))), (1, false));
        assert_eq!((macs.watch(1_002), macs.is_for_another(&frame(51))), (0, true));
        fence.renew(false, 51, 2_000);
        assert_eq!((macs.watch(1_003), macs.receives(&frame(51))), (0, true));
        assert!(!macs.receives(&frame(200)) && macs.is_for_another(&frame(200)));
        assert!(!macs.receives(&frame(52)) && !macs.is_for_another(&frame(52)));
        assert!(!macs.receives(&[0, 0, 0x5e, 0, 1]));
    }

    #[test]
    fn who_lets_go_receives_and_tells_nobody() {
        let fence = Arc::new(Fence::default());
        let mut macs = VirtualMacs::new(fence.clone());
        macs.insert(false, 51, true, true);
        fence.renew(false, 51, 1_000);
        let frame = [mac(51).0.as_slice(), &[0; 54]].concat();
        assert!(macs.receives(&frame) && macs.is_told_of(false, 51));
        fence.be_silent();
        assert!(macs.receives(&frame) && !macs.is_told_of(false, 51) && !macs.is_for_another(&frame));
        assert_eq!((macs.watch(1_001), macs.receives(&frame), macs.is_told_of(false, 51)), (1, false, false));
    }

    #[test]
    fn each_family_has_masters_and_leases_of_its_own() {
        let fence = Arc::new(Fence::default());
        let mut macs = VirtualMacs::new(fence.clone());
        macs.insert(true, 51, true, true);
        macs.insert(true, 52, true, false);
        let frame = |mac: MacAddress| [mac.0.as_slice(), &[0; 54]].concat();
        fence.renew(true, 51, 1_000);
        assert_eq!((macs.watch(1_000), macs.receives6(&frame(mac6(51)))), (0, true));
        assert!(!macs.receives(&frame(mac6(51))) && !macs.receives6(&frame(mac(51))));
        assert!(!macs.receives6(&frame(mac6(52))) && macs.is_for_another(&frame(mac6(52))));
        fence.renew(false, 51, 2_000);
        assert_eq!((macs.watch(1_001), macs.receives6(&frame(mac6(51)))), (1, false));
        assert!(macs.is_for_another(&frame(mac6(51))) && !macs.receives6(&[0, 0, 0x5e, 0, 2]));
    }
}
