//! Ethernet devices: found by name, configured once, started, read from any thread.
//!
//! [`Port`] -> [`Port::configure`] -> [`ConfiguredPort`] -> [`ConfiguredPort::start`] -> [`StartedPort`]. The handle of
//! each step is used up by the next. Queues are taken out on the way and hold the device with the port: it is stopped
//! and closed when the last of port, queues and control handles is dropped, so no thread ever polls a stopped device.

mod configure;
mod info;
mod plan;
mod shortcoming;
mod started;

pub use configure::{ConfiguredPort, PortConfig, RssConfig};
pub use info::{DeviceInfo, MacAddress, RssTypes};
pub use shortcoming::{MtuLimit, Shortcoming};
pub use started::{Link, PortFilter, PortStats, PortStatsReader, RssState, StartedPort};

use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use dpdk_sys as sys;

use crate::eal::{Eal, EalInner, lock};
use crate::error::Errno;
use crate::mempool::Mempool;

/// Why an operation on a port failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// EAL has no such device.
    #[error(
        "EAL has no device {device:?}; it has {}. Name it in EAL's options (--vdev, -a); if it is there, EAL's \
         messages above say what is wrong with it",
        list(.available)
    )]
    NoSuchDevice {
        /// The name asked for.
        device: String,
        /// The names there are.
        available: Vec<String>,
    },
    /// The device is configured already, under another handle.
    #[error("device {0} is in use already")]
    InUse(String),
    /// The device vanished or does not say what it is.
    #[error("device {0} does not describe itself: {1}")]
    NoInfo(String, Errno),
    /// Receive queues were asked for without a mempool to receive into.
    #[error("device {0} has receive queues but was given no mempool")]
    NoMempool(String),
    /// The device does not accept the configuration as a whole.
    #[error(
        "device {device} cannot be configured with {rx_queues} receive and {tx_queues} transmit queues: {errno}"
    )]
    Configure {
        /// The device.
        device: String,
        /// Receive queues, after clamping.
        rx_queues: u16,
        /// Transmit queues, after clamping.
        tx_queues: u16,
        /// What DPDK says.
        errno: Errno,
    },
    /// A receive queue cannot be set up.
    #[error(
        "receive queue {queue} of device {device} cannot be set up with {descriptors} descriptors: {errno}"
    )]
    RxQueue {
        /// The device.
        device: String,
        /// The queue.
        queue: u16,
        /// Its size.
        descriptors: u16,
        /// What DPDK says; `ENOMEM`: no memory for the ring, `EINVAL`: mostly mbufs too small for the device.
        errno: Errno,
    },
    /// A transmit queue cannot be set up.
    #[error(
        "transmit queue {queue} of device {device} cannot be set up with {descriptors} descriptors: {errno}"
    )]
    TxQueue {
        /// The device.
        device: String,
        /// The queue.
        queue: u16,
        /// Its size.
        descriptors: u16,
        /// What DPDK says.
        errno: Errno,
    },
    /// The device does not start.
    #[error("device {0} does not start: {1}")]
    Start(String, Errno),
    /// The device does not receive frames for every address.
    #[error("device {device} cannot be made promiscuous: {errno}")]
    Promiscuous {
        /// The device.
        device: String,
        /// What DPDK says.
        errno: Errno,
    },
    /// The device does not take an indirection table.
    #[error("device {device} does not take an indirection table: {errno}")]
    Reta {
        /// The device.
        device: String,
        /// What DPDK says; [`Errno::is_unsupported`] for a device without one.
        errno: Errno,
    },
    /// The device does not give its counters.
    #[error("device {0} does not give its counters: {1}")]
    Stats(String, Errno),
}

/// DPDK's driver for several devices as one.
const BOND: &str = "net_bonding";

/// An Ethernet device that EAL has, not in use yet.
#[derive(Debug)]
pub struct Port {
    id: u16,
    name: String,
    eal: Arc<EalInner>,
}

impl Port {
    /// The device with this name: a PCI address (`0000:03:00.0` or `03:00.0`) or a vdev (`net_af_packet0`).
    ///
    /// # Errors
    /// [`PortError::NoSuchDevice`], which lists the devices there are.
    pub fn by_name(eal: &Eal, device: &str) -> Result<Self, PortError> {
        let mut ports = Self::all(eal);
        match ports.iter().position(|port| port.is_called(device)) {
            Some(found) => Ok(ports.swap_remove(found)),
            None => Err(PortError::NoSuchDevice {
                device: device.to_owned(),
                available: ports.into_iter().map(|port| port.name).collect(),
            }),
        }
    }

    /// Every device that is not a part of another one (of a bond, say), in the order of their numbers.
    pub fn all(eal: &Eal) -> Vec<Self> {
        let _none_is_closed = eal.inner().claimed_ports();
        let next = |from: u16| {
            // SAFETY: walks ethdev's table, under ethdev's lock; any start value is allowed.
            let id = unsafe { sys::rte_eth_find_next_owned_by(from, sys::weir_RTE_ETH_DEV_NO_OWNER) };
            (id < sys::weir_RTE_MAX_ETHPORTS).then_some(id as u16)
        };
        std::iter::successors(next(0), |id| next(id + 1))
            .map(|id| Self { id, name: ethdev_name(id), eal: eal.share() })
            .collect()
    }

    /// The number DPDK gave the device, as [`Mbuf::port`](crate::Mbuf::port) reports it.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// The name DPDK gave the device.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the device is and can do.
    ///
    /// # Errors
    /// [`PortError::NoInfo`].
    pub fn info(&self) -> Result<DeviceInfo, PortError> {
        let claimed = self.eal.claimed_ports();
        let info = DeviceInfo::of(self.id, &self.name)?;
        if info.driver != BOND || claimed.contains(&self.id) {
            return Ok(info);
        }
        // It takes its members when it is first configured, and can do what they can from then on.
        let conf = sys::rte_eth_conf::default();
        // SAFETY: nobody has the port, and under the lock nobody gets it; `conf` is complete. What it can't do is told when it is
        // configured for good.
        unsafe { sys::rte_eth_dev_configure(self.id, 1, 1, &conf) };
        DeviceInfo::of(self.id, &self.name)
    }

    /// Takes the device and sets it up, with one mempool for each receive queue or, if there are fewer, used in turn.
    ///
    /// What the device cannot do is left out and listed by [`ConfiguredPort::shortcomings`]; more queues than it has
    /// are clamped.
    ///
    /// # Errors
    /// [`PortError::InUse`], [`PortError::NoInfo`], [`PortError::NoMempool`], [`PortError::Configure`],
    /// [`PortError::RxQueue`], [`PortError::TxQueue`]. The device is closed then, and gone if it is a vdev.
    pub fn configure(self, config: PortConfig, pools: &[Mempool]) -> Result<ConfiguredPort, PortError> {
        let mut claimed = self.eal.claimed_ports();
        if claimed.contains(&self.id) {
            drop(claimed);
            return Err(PortError::InUse(self.name));
        }
        claimed.push(self.id);
        drop(claimed);
        let is_bond = DeviceInfo::of(self.id, &self.name).is_ok_and(|info| info.driver == BOND);
        let device = Device {
            is_bond,
            id: self.id,
            name: self.name,
            started: AtomicBool::new(false),
            control: Mutex::new(()),
            pools: pools.to_vec(),
            eal: self.eal,
        };
        ConfiguredPort::new(device, config)
    }

    fn is_called(&self, device: &str) -> bool {
        // A PCI device may have several ports with names of their own; the first answers to the PCI address.
        let _none_is_closed = self.eal.claimed_ports();
        let bus_name = DeviceInfo::of(self.id, &self.name).ok().and_then(|info| info.bus_name);
        [Some(self.name.as_str()), bus_name.as_deref()]
            .into_iter()
            .flatten()
            .any(|name| name == device || name.strip_prefix("0000:") == Some(device))
    }
}

/// An ethdev in use. Stopped and closed when the last handle is gone.
#[derive(Debug)]
pub(crate) struct Device {
    id: u16,
    is_bond: bool,
    name: String,
    started: AtomicBool,
    /// DPDK wants the control functions of a device called by one thread at a time.
    control: Mutex<()>,
    /// Where the receive queues get their mbufs; alive as long as the device may write to them.
    pools: Vec<Mempool>,
    eal: Arc<EalInner>,
}

impl Device {
    pub(crate) fn id(&self) -> u16 {
        self.id
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn is_bond(&self) -> bool {
        self.is_bond
    }

    pub(crate) fn is_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    /// Calls a control function of DPDK with the device's number, with no other control function running.
    pub(crate) fn control(
        &self,
        call: impl FnOnce(u16) -> std::ffi::c_int,
    ) -> Result<std::ffi::c_int, Errno> {
        let _one_at_a_time = lock(&self.control);
        Errno::check(call(self.id))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let mut claimed = self.eal.claimed_ports();
        if *self.started.get_mut() {
            // SAFETY: the port is ours, by the claim. No queue of it is being polled: a queue holds the device.
            unsafe { sys::rte_eth_dev_stop(self.id) };
        }
        // SAFETY: as above, and the port is stopped. A failure leaves the device to the driver; nothing uses it.
        unsafe { sys::rte_eth_dev_close(self.id) };
        claimed.retain(|port| *port != self.id);
    }
}

fn ethdev_name(id: u16) -> String {
    let mut name = [0; sys::weir_RTE_ETH_NAME_MAX_LEN as usize];
    // SAFETY: the buffer has the length the function writes at most, by its header's constant.
    match unsafe { sys::rte_eth_dev_get_name_by_port(id, name.as_mut_ptr()) } {
        // SAFETY: on success the buffer holds a NUL-terminated string.
        0 => unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned(),
        _ => format!("port {id}"),
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
