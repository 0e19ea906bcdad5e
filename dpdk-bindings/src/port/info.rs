//! What a device is and can do, before it is configured.

use std::ffi::{CStr, c_char};
use std::fmt;

use dpdk_sys as sys;

use super::PortError;
use crate::error::Errno;
use crate::lcore::SocketId;

/// An Ethernet address. Prints as `02:00:00:00:00:01`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The kinds of packets whose addresses (and ports) take part in the RSS hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RssTypes {
    /// IPv4 and IPv6, by their addresses.
    pub ip: bool,
    /// TCP, by addresses and ports.
    pub tcp: bool,
    /// UDP, by addresses and ports.
    pub udp: bool,
}

impl RssTypes {
    /// Whether any kind is hashed.
    pub fn any(self) -> bool {
        self.ip || self.tcp || self.udp
    }

    pub(super) fn from_bits(bits: u64) -> Self {
        Self {
            ip: bits & sys::weir_RTE_ETH_RSS_IP != 0,
            tcp: bits & sys::weir_RTE_ETH_RSS_TCP != 0,
            udp: bits & sys::weir_RTE_ETH_RSS_UDP != 0,
        }
    }

    pub(super) fn bits(self) -> u64 {
        [
            (self.ip, sys::weir_RTE_ETH_RSS_IP),
            (self.tcp, sys::weir_RTE_ETH_RSS_TCP),
            (self.udp, sys::weir_RTE_ETH_RSS_UDP),
        ]
        .into_iter()
        .filter_map(|(wanted, bits)| wanted.then_some(bits))
        .fold(0, |all, bits| all | bits)
    }
}

impl fmt::Display for RssTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = [(self.ip, "IP"), (self.tcp, "TCP"), (self.udp, "UDP")]
            .into_iter()
            .filter_map(|(set, name)| set.then_some(name))
            .collect();
        f.write_str(if names.is_empty() { "nothing" } else { "" })?;
        f.write_str(&names.join(", "))
    }
}

/// What a device is and can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The name DPDK gave the port.
    pub name: String,
    /// The name on its bus: the PCI address or the name of the vdev.
    pub bus_name: Option<String>,
    /// The driver, such as `net_af_packet`.
    pub driver: String,
    /// The address of the device as it came.
    pub mac: MacAddress,
    /// The NUMA node of the device, [`SocketId::ANY`] if it has none.
    pub socket: SocketId,
    /// The interface of the kernel that the device works on, 0 if there is none.
    pub interface_index: u32,
    /// Receive queues it has.
    pub max_rx_queues: u16,
    /// Transmit queues it has.
    pub max_tx_queues: u16,
    /// Descriptors of a receive queue that it proposes, 0 if it does not care.
    pub default_rx_descriptors: u16,
    /// Descriptors of a transmit queue that it proposes, 0 if it does not care.
    pub default_tx_descriptors: u16,
    /// Frames to receive at once that it proposes, 0 if it does not care.
    pub default_rx_burst: u16,
    /// Frames to send at once that it proposes, 0 if it does not care.
    pub default_tx_burst: u16,
    /// The smallest MTU in octets.
    pub min_mtu: u16,
    /// The largest MTU in octets; 65535 if it does not care.
    pub max_mtu: u16,
    /// The longest frame it receives in octets.
    pub max_rx_frame: u32,
    /// MAC addresses it filters on.
    pub max_mac_addresses: u32,
    /// Entries of the RSS indirection table, 0 if it has none.
    pub reta_size: u16,
    /// Octets of the RSS key, 0 if it does not say.
    pub rss_key_len: u8,
    /// What it can compute an RSS hash of.
    pub rss: RssTypes,
    /// Receive offloads it can do (`RTE_ETH_RX_OFFLOAD_*`).
    pub rx_offloads: u64,
    /// Transmit offloads it can do (`RTE_ETH_TX_OFFLOAD_*`).
    pub tx_offloads: u64,
}

impl DeviceInfo {
    pub(super) fn of(id: u16, name: &str) -> Result<Self, PortError> {
        let raw = raw_info(id, name)?;
        // SAFETY: the device pointer is null or that of the device under the port, which lives as long as the port.
        let bus_name = (!raw.device.is_null()).then(|| unsafe { sys::rte_dev_name(raw.device) });
        // SAFETY: names of devices are NUL-terminated and live as long as the device.
        let bus_name = bus_name.and_then(|text| unsafe { owned_text(text) });
        // SAFETY: names of drivers are NUL-terminated constants of the driver.
        let driver = unsafe { owned_text(raw.driver_name) }.unwrap_or_default();
        let limit =
            if has_one_queue(&driver, bus_name.as_deref().and_then(pci_device)) { 1 } else { u16::MAX };
        Ok(Self {
            name: name.to_owned(),
            bus_name,
            driver,
            mac: mac_of(id),
            socket: socket_of(id),
            interface_index: raw.if_index,
            max_rx_queues: raw.max_rx_queues.min(limit),
            max_tx_queues: raw.max_tx_queues.min(limit),
            default_rx_descriptors: raw.default_rxportconf.ring_size,
            default_tx_descriptors: raw.default_txportconf.ring_size,
            default_rx_burst: raw.default_rxportconf.burst_size,
            default_tx_burst: raw.default_txportconf.burst_size,
            min_mtu: raw.min_mtu,
            max_mtu: raw.max_mtu,
            max_rx_frame: raw.max_rx_pktlen,
            max_mac_addresses: raw.max_mac_addrs,
            reta_size: raw.reta_size,
            rss_key_len: raw.hash_key_size,
            rss: RssTypes::from_bits(raw.flow_type_rss_offloads),
            rx_offloads: raw.rx_offload_capa,
            tx_offloads: raw.tx_offload_capa,
        })
    }
}

/// Whether a device has one queue each way, whatever its driver says: Intel's 82540, 82545 and 82546. DPDK's driver for them
/// promises two, as their successors have, and what is sent on the second is lost.
fn has_one_queue(driver: &str, pci_device: Option<u16>) -> bool {
    const SINGLE: [u16; 6] = [0x100e, 0x100f, 0x1010, 0x1011, 0x1012, 0x101d];
    driver == "net_e1000_em" && pci_device.is_some_and(|device| SINGLE.contains(&device))
}

/// The device number of what is at a PCI address.
fn pci_device(address: &str) -> Option<u16> {
    let text = std::fs::read_to_string(format!("/sys/bus/pci/devices/{address}/device")).ok()?;
    u16::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
}

/// DPDK's own description of a device.
pub(super) fn raw_info(id: u16, name: &str) -> Result<sys::rte_eth_dev_info, PortError> {
    let mut raw = sys::rte_eth_dev_info::default();
    // SAFETY: the function checks the number and fills a whole rte_eth_dev_info, which `raw` is.
    let result = unsafe { sys::rte_eth_dev_info_get(id, &mut raw) };
    Errno::check(result).map_err(|errno| PortError::NoInfo(name.to_owned(), errno))?;
    Ok(raw)
}

/// The address of the device, zeros if it does not say.
pub(super) fn mac_of(id: u16) -> MacAddress {
    let mut mac = sys::rte_ether_addr::default();
    // SAFETY: the function checks the number and fills a whole rte_ether_addr, which `mac` is.
    unsafe { sys::rte_eth_macaddr_get(id, &mut mac) };
    MacAddress(mac.addr_bytes)
}

pub(super) fn socket_of(id: u16) -> SocketId {
    // SAFETY: the function checks the number and reads ethdev's table.
    SocketId(unsafe { sys::rte_eth_dev_socket_id(id) }.max(SocketId::ANY.0))
}

/// # Safety
/// `text` is null or a NUL-terminated string.
unsafe fn owned_text(text: *const c_char) -> Option<String> {
    // SAFETY: not null here, and NUL-terminated, says the caller.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rss_types_survive_the_bits_of_dpdk() {
        for (ip, tcp, udp) in
            [(true, false, false), (false, true, false), (false, false, true), (true, true, true)]
        {
            let types = RssTypes { ip, tcp, udp };
            assert_eq!(RssTypes::from_bits(types.bits()), types);
        }
        assert_eq!(RssTypes::default().bits(), 0);
    }

    #[test]
    fn display_is_what_a_log_line_wants() {
        assert_eq!(MacAddress([2, 0, 0, 0, 0xab, 1]).to_string(), "02:00:00:00:ab:01");
        assert_eq!(RssTypes { ip: true, tcp: true, udp: false }.to_string(), "IP, TCP");
        assert_eq!(RssTypes::default().to_string(), "nothing");
    }

    #[test]
    fn conventional_e1000_have_one_queue_and_others_what_their_drivers_say() {
        assert!(has_one_queue("net_e1000_em", Some(0x100e)));
        assert!(!has_one_queue("net_e1000_em", Some(0x10d3)), "82574L");
        assert!(!has_one_queue("net_e1000_em", None));
        assert!(!has_one_queue("net_virtio", Some(0x100e)));
        assert_eq!(pci_device("no address"), None);
    }
}
