//! Setting a device up with what it can do.
//!
//! A device that lacks something (RSS, another MTU, another MAC address, promiscuous mode) is used without it; the
//! list of [`Shortcoming`]s says so in sentences for the log.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use dpdk_sys as sys;

use super::info::{mac_of, raw_info, socket_of};
use super::plan::Plan;
use super::{Device, MacAddress, PortError, RssTypes, Shortcoming, StartedPort};
use crate::error::Errno;
use crate::queue::{RxQueueHandle, TxQueueHandle};

/// The MTU every Ethernet device starts with, in octets.
pub(super) const ETHERNET_MTU: u16 = 1500;

/// Octets of an RSS key where the device does not say: what `struct rte_eth_rss_conf` documents.
pub(super) const RSS_KEY_LEN_USUAL: u8 = 40;

/// How a device is to be set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortConfig {
    /// Receive queues. Clamped to what the device has.
    pub rx_queues: u16,
    /// Transmit queues. Clamped to what the device has.
    pub tx_queues: u16,
    /// Descriptors of each receive queue; 0: what the device proposes.
    pub rx_descriptors: u16,
    /// Descriptors of each transmit queue; 0: what the device proposes.
    pub tx_descriptors: u16,
    /// The largest IP packet in octets. Clamped to what the device and its mbufs take.
    pub mtu: u16,
    /// The address to have; `None`: the device's own.
    pub mac: Option<[u8; 6]>,
    /// How to spread frames over the receive queues; `None`: as the device likes.
    pub rss: Option<RssConfig>,
    /// Receive frames for every address.
    pub promiscuous: bool,
    /// Have receive queues raise interrupts when a worker asks for them; left out where the device can't.
    pub rx_interrupts: bool,
}

impl Default for PortConfig {
    fn default() -> Self {
        Self {
            rx_queues: 1,
            tx_queues: 1,
            rx_descriptors: 0,
            tx_descriptors: 0,
            mtu: ETHERNET_MTU,
            mac: None,
            rss: None,
            promiscuous: false,
            rx_interrupts: false,
        }
    }
}

/// How frames are spread over receive queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RssConfig {
    /// The Toeplitz key; `None`: the device's own. Repeated from its start, or cut, to the length the device wants;
    /// the first 40 octets decide the hash of any TCP or UDP packet.
    pub key: Option<Vec<u8>>,
    /// Hash IPv4 and IPv6 addresses.
    pub ip: bool,
    /// Hash addresses and ports of TCP.
    pub tcp: bool,
    /// Hash addresses and ports of UDP.
    pub udp: bool,
}

impl RssConfig {
    pub(super) fn types(&self) -> RssTypes {
        RssTypes { ip: self.ip, tcp: self.tcp, udp: self.udp }
    }
}

/// A device that is set up and not started.
#[derive(Debug)]
pub struct ConfiguredPort {
    device: Arc<Device>,
    mac: MacAddress,
    plan: Plan,
    descriptors: (u16, u16),
    rx: Vec<RxQueueHandle>,
    tx: Vec<TxQueueHandle>,
}

impl ConfiguredPort {
    pub(super) fn new(device: Device, config: PortConfig) -> Result<Self, PortError> {
        let info = raw_info(device.id, &device.name)?;
        let mut plan = Plan::new(&device, &info, &config)?;
        plan.apply(&device)?;
        let descriptors = plan.adjust_descriptors(&device, &info, &config);
        setup_queues(&device, &info, &plan, descriptors)?;
        plan.set_mtu(&device, config.mtu);
        let mac = plan.set_mac(&device, config.mac.map(MacAddress));
        plan.set_filters(&device, config.promiscuous || mac != mac_of(device.id));

        let device = Arc::new(device);
        Ok(Self {
            rx: (0..plan.rx_queues).map(|queue| RxQueueHandle::new(Arc::clone(&device), queue)).collect(),
            tx: (0..plan.tx_queues).map(|queue| TxQueueHandle::new(Arc::clone(&device), queue)).collect(),
            device,
            mac,
            plan,
            descriptors,
        })
    }

    /// What the device does not do of what was asked.
    pub fn shortcomings(&self) -> &[Shortcoming] {
        &self.plan.shortcomings
    }

    /// The queues, receive and transmit, in the order of their numbers. A second call returns none.
    ///
    /// They may be polled once the port is started.
    pub fn take_queues(&mut self) -> (Vec<RxQueueHandle>, Vec<TxQueueHandle>) {
        (std::mem::take(&mut self.rx), std::mem::take(&mut self.tx))
    }

    /// The address to send from: the one asked for, in the device or in software, else the device's own.
    pub fn mac(&self) -> MacAddress {
        self.mac
    }

    /// The MTU in octets, after clamping.
    pub fn mtu(&self) -> u16 {
        self.plan.mtu
    }

    /// The name DPDK gave the device.
    pub fn name(&self) -> &str {
        self.device.name()
    }

    /// The number DPDK gave the device.
    pub fn id(&self) -> u16 {
        self.device.id()
    }

    /// Starts the device: frames flow. Queues that were not taken are dropped.
    ///
    /// # Errors
    /// [`PortError::Start`].
    pub fn start(mut self) -> Result<StartedPort, PortError> {
        let mut started = self.try_start();
        // Some devices find out only now that they have no vectors for interrupts.
        if started.is_err() && self.plan.rx_interrupts {
            self.plan.rx_interrupts = false;
            self.plan.apply(&self.device)?;
            let info = raw_info(self.device.id, &self.device.name)?;
            setup_queues(&self.device, &info, &self.plan, self.descriptors)?;
            started = self.try_start();
        }
        started.map_err(|errno| PortError::Start(self.device.name.clone(), errno))?;
        self.device.started.store(true, Ordering::Release);
        Ok(StartedPort::new(self.device, self.mac, self.plan.mtu, self.plan.rx_interrupts))
    }

    fn try_start(&self) -> Result<(), Errno> {
        // SAFETY: the port is configured with all its queues and not started: `start` uses up the one ConfiguredPort.
        self.device.control(|id| unsafe { sys::rte_eth_dev_start(id) }).map(drop)
    }
}

fn setup_queues(
    device: &Device,
    info: &sys::rte_eth_dev_info,
    plan: &Plan,
    (rx_descriptors, tx_descriptors): (u16, u16),
) -> Result<(), PortError> {
    // The device's node, or any.
    let socket = socket_of(device.id).0 as u32;
    let mut rx_conf = info.default_rxconf;
    rx_conf.offloads = plan.rx_offloads;
    let mut tx_conf = info.default_txconf;
    tx_conf.offloads = plan.tx_offloads;
    for (queue, pool) in (0..plan.rx_queues).zip(device.pools.iter().cycle()) {
        device
            // SAFETY: the port is ours, configured with this queue and not started. `rx_conf` is the device's own, for
            // offloads it has; the pool lives as long as the device, which holds it.
            .control(|id| unsafe {
                sys::rte_eth_rx_queue_setup(id, queue, rx_descriptors, socket, &rx_conf, pool.as_ptr())
            })
            .map_err(|errno| PortError::RxQueue {
                device: device.name.clone(),
                queue,
                descriptors: rx_descriptors,
                errno,
            })?;
    }
    for queue in 0..plan.tx_queues {
        device
            // SAFETY: as above.
            .control(|id| unsafe { sys::rte_eth_tx_queue_setup(id, queue, tx_descriptors, socket, &tx_conf) })
            .map_err(|errno| PortError::TxQueue {
                device: device.name.clone(),
                queue,
                descriptors: tx_descriptors,
                errno,
            })?;
    }
    Ok(())
}
