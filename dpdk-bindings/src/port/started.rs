//! A running device: its link, its counters, its addresses.

use std::ffi::c_int;
use std::sync::{Arc, Weak};

use dpdk_sys as sys;

use super::configure::RSS_KEY_LEN_USUAL;
use super::info::{mac_of, raw_info};
use super::{Device, MacAddress, PortError, RssTypes};
use crate::error::Errno;

/// The state of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Whether frames can be sent.
    pub up: bool,
    /// Speed in Mbit/s; 0 if the link is down or the device does not say.
    pub speed_mbps: u32,
    /// Whether it sends and receives at the same time.
    pub full_duplex: bool,
}

/// The counters of a device since it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PortStats {
    /// Frames received and handed out.
    pub ipackets: u64,
    /// Octets in those.
    pub ibytes: u64,
    /// Frames sent.
    pub opackets: u64,
    /// Octets in those.
    pub obytes: u64,
    /// Frames lost because a receive queue was full: the workers are too slow.
    pub imissed: u64,
    /// Frames lost to errors, such as a wrong frame check sequence.
    pub ierrors: u64,
    /// Frames that could not be sent.
    pub oerrors: u64,
    /// Frames lost because no mbuf was free.
    pub rx_nombuf: u64,
}

/// The RSS state of a device, from which the queue of a flow can be computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RssState {
    /// The Toeplitz key.
    pub key: Vec<u8>,
    /// What is hashed.
    pub types: RssTypes,
    /// The indirection table: the queue for a hash is entry `hash % reta.len()`. Empty if the device does not say.
    pub reta: Vec<u16>,
}

/// A device that receives and sends.
#[derive(Debug)]
pub struct StartedPort {
    device: Arc<Device>,
    mac: MacAddress,
    mtu: u16,
    rx_interrupts: bool,
}

impl StartedPort {
    pub(super) fn new(device: Arc<Device>, mac: MacAddress, mtu: u16, rx_interrupts: bool) -> Self {
        Self { device, mac, mtu, rx_interrupts }
    }

    /// Whether its receive queues raise interrupts. The driver of a device that was configured for them and has none
    /// complains on stderr.
    pub fn has_rx_interrupts(&self) -> bool {
        // SAFETY: the port is ours, by the claim, and started; the function reads what the driver set up.
        let descriptor = |id| unsafe { sys::rte_eth_dev_rx_intr_ctl_q_get_fd(id, 0) };
        self.rx_interrupts && self.device.control(descriptor).is_ok()
    }

    /// The address to send from: the one asked for, in the device or in software, else the device's own.
    pub fn mac(&self) -> MacAddress {
        self.mac
    }

    /// The address the device itself has now.
    pub fn device_mac(&self) -> MacAddress {
        mac_of(self.device.id)
    }

    /// The MTU in octets, after clamping.
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// The name DPDK gave the device.
    pub fn name(&self) -> &str {
        self.device.name()
    }

    /// The number DPDK gave the device.
    pub fn id(&self) -> u16 {
        self.device.id()
    }

    /// The state of the link, as the device knows it now. A device that cannot say is taken to be down.
    pub fn link(&self) -> Link {
        link(&self.device).unwrap_or(Link { up: false, speed_mbps: 0, full_duplex: false })
    }

    /// The counters.
    ///
    /// # Errors
    /// [`PortError::Stats`], for a device that keeps none.
    pub fn stats(&self) -> Result<PortStats, PortError> {
        stats(&self.device)
    }

    /// A handle that reads the counters from any thread and does not keep the device open.
    pub fn stats_reader(&self) -> PortStatsReader {
        PortStatsReader { device: Arc::downgrade(&self.device) }
    }

    /// A handle that changes what is received from any thread and does not keep the device open.
    pub fn filter(&self) -> PortFilter {
        PortFilter { device: Arc::downgrade(&self.device) }
    }

    /// Whether the device receives frames for every address.
    pub fn is_promiscuous(&self) -> bool {
        // SAFETY: the function checks the number and reads ethdev's table.
        unsafe { sys::rte_eth_promiscuous_get(self.device.id) == 1 }
    }

    /// How the device spreads frames over its queues, or `None` if it has no RSS or does not tell.
    pub fn rss(&self) -> Option<RssState> {
        let info = raw_info(self.device.id, self.name()).ok()?;
        let mut key = vec![0; usize::from(info.hash_key_size.max(RSS_KEY_LEN_USUAL))];
        // The key's length is at most 255: the device's is a u8.
        let (rss_key, rss_key_len) = (key.as_mut_ptr(), key.len() as u8);
        let mut conf = sys::rte_eth_rss_conf { rss_key, rss_key_len, ..Default::default() };
        // SAFETY: the port is ours, by the claim; `conf` points to a buffer of the length it says, which is no less
        // than what the device writes, by its own `hash_key_size` (a device that gives none uses 40).
        let result = self.device.control(|id| unsafe { sys::rte_eth_dev_rss_hash_conf_get(id, &mut conf) });
        result.ok()?;
        let types = RssTypes::from_bits(conf.rss_hf);
        key.truncate(usize::from(conf.rss_key_len));
        types.any().then(|| RssState { key, types, reta: self.reta(info.reta_size) })
    }

    /// Sets the indirection table: the queue for a hash is `queues[hash % queues.len()]` from now on.
    ///
    /// `queues` is repeated over the table of the device, which has to have a multiple of its entries; each entry is
    /// one of the port's receive queues.
    ///
    /// # Errors
    /// [`PortError::Reta`]: `ENOTSUP` for a device without a table, `EINVAL` for a size or queue that does not fit.
    pub fn set_reta(&self, queues: &[u16]) -> Result<(), PortError> {
        let failed = |errno| PortError::Reta { device: self.name().to_owned(), errno };
        let size = raw_info(self.device.id, self.name())?.reta_size;
        if size == 0 {
            return Err(failed(Errno::new(libc::ENOTSUP)));
        }
        if queues.is_empty() || !usize::from(size).is_multiple_of(queues.len()) {
            return Err(failed(Errno::new(libc::EINVAL)));
        }
        let group = sys::weir_RTE_ETH_RETA_GROUP_SIZE as usize;
        let mut table = vec![sys::rte_eth_rss_reta_entry64::default(); usize::from(size).div_ceil(group)];
        for (entry, queue) in queues.iter().cycle().take(usize::from(size)).enumerate() {
            table[entry / group].mask |= 1 << (entry % group);
            table[entry / group].reta[entry % group] = *queue;
        }
        // SAFETY: the port is ours, by the claim; the table has as many groups as `size` entries take. Queues are
        // checked by ethdev against those the port is configured with.
        let update = |id| unsafe { sys::rte_eth_dev_rss_reta_update(id, table.as_mut_ptr(), size) };
        self.device.control(update).map(drop).map_err(failed)
    }

    fn reta(&self, size: u16) -> Vec<u16> {
        let group = sys::weir_RTE_ETH_RETA_GROUP_SIZE as u16;
        // Every entry is asked for.
        let entry = sys::rte_eth_rss_reta_entry64 { mask: u64::MAX, ..Default::default() };
        let mut table = vec![entry; usize::from(size.div_ceil(group))];
        // SAFETY: the port is ours, by the claim; the table has as many groups as `size` entries take.
        let query = |id| unsafe { sys::rte_eth_dev_rss_reta_query(id, table.as_mut_ptr(), size) };
        if size == 0 || self.device.control(query).is_err() {
            return Vec::new();
        }
        table.iter().flat_map(|entry| entry.reta).take(usize::from(size)).collect()
    }
}

/// Changes what a port receives from any thread. Cheap to clone; does not keep the device open.
#[derive(Debug, Clone)]
pub struct PortFilter {
    device: Weak<Device>,
}

impl PortFilter {
    /// Receives frames for one more unicast address: in the device's filter, else by receiving everything. Returns
    /// whether it is the latter; `Ok(false)` once the port is closed.
    ///
    /// # Errors
    /// [`PortError::Promiscuous`], for a device that can do neither.
    pub fn receive_for(&self, mac: [u8; 6]) -> Result<bool, PortError> {
        let Some(device) = self.device.upgrade() else { return Ok(false) };
        let mut raw = sys::rte_ether_addr { addr_bytes: mac };
        // SAFETY: the port is ours, by the claim; the pointer is to an address that is copied; pool 0 is no VMDq pool.
        let added = device.control(|id| unsafe { sys::rte_eth_dev_mac_addr_add(id, &mut raw, 0) });
        if added.is_ok() {
            return Ok(false);
        }
        // SAFETY: the port is ours, by the claim.
        let promiscuous = device.control(|id| unsafe { sys::rte_eth_promiscuous_enable(id) });
        let failed = |errno| PortError::Promiscuous { device: device.name().to_owned(), errno };
        promiscuous.map(|_| true).map_err(failed)
    }
}

/// Reads the counters and the link of a port from any thread. Cheap to clone; does not keep the device open.
#[derive(Debug, Clone)]
pub struct PortStatsReader {
    device: Weak<Device>,
}

impl PortStatsReader {
    /// The counters, or `None` once the port is closed or if the device keeps none.
    pub fn stats(&self) -> Option<PortStats> {
        stats(&*self.device.upgrade()?).ok()
    }

    /// The state of the link, or `None` once the port is closed or if the device cannot say.
    pub fn link(&self) -> Option<Link> {
        link(&*self.device.upgrade()?)
    }
}

fn link(device: &Device) -> Option<Link> {
    let (mut speed, mut duplex, mut status) = (0, 0, 0);
    let result = device.control(|id| {
        // SAFETY: the port is ours, by the claim; the pointers are to three numbers that outlive the call.
        unsafe { sys::weir_link_get_nowait(id, &mut speed, &mut duplex, &mut status) }
    });
    result.is_ok().then(|| Link {
        up: u64::from(status) == sys::weir_RTE_ETH_LINK_UP,
        speed_mbps: if u64::from(speed) == sys::weir_RTE_ETH_SPEED_NUM_UNKNOWN { 0 } else { speed },
        full_duplex: u64::from(duplex) == sys::weir_RTE_ETH_LINK_FULL_DUPLEX,
    })
}

fn stats(device: &Device) -> Result<PortStats, PortError> {
    let mut raw = sys::rte_eth_stats::default();
    let call = |id| -> c_int {
        // SAFETY: the port is ours, by the claim; the function fills a whole rte_eth_stats, which `raw` is.
        unsafe { sys::rte_eth_stats_get(id, &mut raw) }
    };
    let result: Result<_, Errno> = device.control(call);
    result.map_err(|errno| PortError::Stats(device.name.clone(), errno))?;
    Ok(PortStats {
        ipackets: raw.ipackets,
        ibytes: raw.ibytes,
        opackets: raw.opackets,
        obytes: raw.obytes,
        imissed: raw.imissed,
        ierrors: raw.ierrors,
        oerrors: raw.oerrors,
        rx_nombuf: raw.rx_nombuf,
    })
}
