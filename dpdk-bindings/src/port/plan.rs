//! The configuration, cut to what a device can do, and the calls that ask for it.
//!
//! What can be known beforehand (queues, MTU, hash) is cut in [`Plan::new`]; what a device only says when asked (MTU,
//! address, filters) is tried, and noted as a [`Shortcoming`] if it refuses.

use dpdk_sys as sys;

use super::configure::{ETHERNET_MTU, PortConfig, RSS_KEY_LEN_USUAL, RssConfig};
use super::info::{mac_of, raw_info};
use super::shortcoming::{MtuLimit, Shortcoming};
use super::{Device, MacAddress, PortError, RssTypes};
use crate::error::Errno;
use crate::mempool::Mempool;

/// Descriptors where neither the configuration nor the device says how many.
const DEFAULT_DESCRIPTORS: u16 = 1024;

/// What will be asked of a device: the configuration, cut to what it can do.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) rx_queues: u16,
    pub(super) tx_queues: u16,
    pub(super) mtu: u16,
    /// The MTU that it is configured with: less than that where it says that its frames are shorter. It may not know
    /// better, as net_af_packet, and is told the other one later.
    configured_mtu: u16,
    pub(super) rx_offloads: u64,
    pub(super) tx_offloads: u64,
    rss: RssTypes,
    rss_key: Option<Vec<u8>>,
    pub(super) rx_interrupts: bool,
    pub(super) shortcomings: Vec<Shortcoming>,
}

impl Plan {
    pub(super) fn new(
        device: &Device,
        info: &sys::rte_eth_dev_info,
        config: &PortConfig,
    ) -> Result<Self, PortError> {
        let mut shortcomings = Vec::new();
        let rx_queues = config.rx_queues.min(info.max_rx_queues);
        if rx_queues != config.rx_queues {
            shortcomings.push(Shortcoming::RxQueues { asked: config.rx_queues, got: rx_queues });
        }
        let tx_queues = config.tx_queues.min(info.max_tx_queues);
        if tx_queues != config.tx_queues {
            shortcomings.push(Shortcoming::TxQueues { asked: config.tx_queues, got: tx_queues });
        }
        let room = device.pools.iter().map(Mempool::data_bytes).min();
        if rx_queues > 0 && room.is_none() {
            return Err(PortError::NoMempool(device.name.clone()));
        }
        debug_assert!(device.pools.iter().all(|pool| pool.belongs_to(&device.eal)), "one EAL, one guard");

        // Neither checksums nor the hash: the header's checksum is summed while the header is read anyway, TCP's and UDP's
        // are the receiver's affair, and flows are found by their addresses.
        let mut rx_offloads = 0;
        let mtu = plan_mtu(info, config.mtu, room, &mut rx_offloads, &mut shortcomings);
        let (rss, rss_key) = plan_rss(info, config.rss.as_ref(), rx_queues, &mut shortcomings);
        // Not RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE: it demands that all frames of a transmit queue come from one pool, and
        // frames of other ports and of control do not.
        let tx_offloads = info.tx_offload_capa & sys::weir_RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
        shortcomings.extend(plan_chains(info, room, (rx_offloads, tx_offloads)));
        let rx_interrupts = config.rx_interrupts;
        Ok(Self {
            rx_queues,
            tx_queues,
            mtu,
            configured_mtu: configured_mtu(info, mtu),
            rx_offloads,
            tx_offloads,
            rss,
            rss_key,
            rx_interrupts,
            shortcomings,
        })
    }

    /// `rte_eth_dev_configure`, once more without interrupts, and once without RSS if a device that says it can refuses.
    pub(super) fn apply(&mut self, device: &Device) -> Result<(), PortError> {
        let mut result = self.configure(device);
        if result.is_err() && self.rx_interrupts {
            self.rx_interrupts = false;
            result = self.configure(device);
        }
        if result.is_err() && self.rss.any() {
            self.rss = RssTypes::default();
            self.shortcomings.retain(|known| !matches!(known, Shortcoming::RssTypes { .. }));
            self.shortcomings.push(Shortcoming::Rss);
            result = self.configure(device);
        }
        result.map_err(|errno| PortError::Configure {
            device: device.name.clone(),
            rx_queues: self.rx_queues,
            tx_queues: self.tx_queues,
            errno,
        })
    }

    fn configure(&mut self, device: &Device) -> Result<(), Errno> {
        let mut conf = sys::rte_eth_conf::default();
        conf.rxmode.mtu = u32::from(self.configured_mtu);
        conf.rxmode.offloads = self.rx_offloads;
        conf.txmode.offloads = self.tx_offloads;
        conf.intr_conf.set_rxq(u32::from(self.rx_interrupts));
        if self.rss.any() {
            conf.rxmode.mq_mode = sys::RTE_ETH_MQ_RX_RSS;
            conf.rx_adv_conf.rss_conf.rss_hf = self.rss_bits(device.id);
            if let Some(key) = &mut self.rss_key {
                conf.rx_adv_conf.rss_conf.rss_key = key.as_mut_ptr();
                // Cut to the device's key length, a u8.
                conf.rx_adv_conf.rss_conf.rss_key_len = key.len() as u8;
            }
        }
        let (rx, tx) = (self.rx_queues, self.tx_queues);
        // SAFETY: the port is ours, by the claim, and not started. `conf` is complete; the key it points to outlives
        // the call, and DPDK does not keep it: drivers copy a key they use.
        device.control(|id| unsafe { sys::rte_eth_dev_configure(id, rx, tx, &conf) }).map(drop)
    }

    /// The bits of the planned kinds that the device has: it knows only some of the bits of one kind, often.
    fn rss_bits(&self, id: u16) -> u64 {
        let capable = raw_info(id, "").map_or(0, |info| info.flow_type_rss_offloads);
        self.rss.bits() & capable
    }

    /// The descriptors of a receive and of a transmit queue.
    pub(super) fn adjust_descriptors(
        &mut self,
        device: &Device,
        info: &sys::rte_eth_dev_info,
        config: &PortConfig,
    ) -> (u16, u16) {
        let choose = |asked: u16, proposed: u16| match (asked, proposed) {
            (0, 0) => DEFAULT_DESCRIPTORS,
            (0, proposed) => proposed,
            (asked, _) => asked,
        };
        let mut rx = choose(config.rx_descriptors, info.default_rxportconf.ring_size);
        let mut tx = choose(config.tx_descriptors, info.default_txportconf.ring_size);
        // SAFETY: the pointers are to two numbers that outlive the call. It leaves them alone where it fails.
        let _ = device.control(|id| unsafe { sys::rte_eth_dev_adjust_nb_rx_tx_desc(id, &mut rx, &mut tx) });
        if config.rx_descriptors != 0 && rx != config.rx_descriptors {
            self.shortcomings.push(Shortcoming::RxDescriptors { asked: config.rx_descriptors, got: rx });
        }
        if config.tx_descriptors != 0 && tx != config.tx_descriptors {
            self.shortcomings.push(Shortcoming::TxDescriptors { asked: config.tx_descriptors, got: tx });
        }
        (rx, tx)
    }

    /// Tells the device the MTU: `rte_eth_dev_configure` only sizes receive buffers for it.
    pub(super) fn set_mtu(&mut self, device: &Device, asked: u16) {
        // SAFETY: the port is ours, by the claim.
        let result = device.control(|id| unsafe { sys::rte_eth_dev_set_mtu(id, self.mtu) });
        let Err(errno) = result else { return };
        // A device without the operation and with the usual MTU is as it should be.
        if errno.is_unsupported() && self.mtu == ETHERNET_MTU {
            return;
        }
        self.shortcomings.retain(|known| !matches!(known, Shortcoming::Mtu { .. }));
        self.shortcomings.push(Shortcoming::Mtu { asked, got: self.mtu, reason: MtuLimit::Refused(errno) });
    }

    /// Sets the address and returns the one to use.
    pub(super) fn set_mac(&mut self, device: &Device, asked: Option<MacAddress>) -> MacAddress {
        let own = mac_of(device.id);
        let Some(asked) = asked.filter(|asked| *asked != own) else { return own };
        let mut raw = sys::rte_ether_addr { addr_bytes: asked.0 };
        // SAFETY: the port is ours, by the claim; the pointer is to an address that is copied.
        let result = device.control(|id| unsafe { sys::rte_eth_dev_default_mac_addr_set(id, &mut raw) });
        if let Err(errno) = result {
            self.shortcomings.push(Shortcoming::Mac { asked, errno });
        }
        asked
    }

    /// Promiscuous mode if wanted, and every multicast frame: ND and VRRP need groups that no device is told of.
    pub(super) fn set_filters(&mut self, device: &Device, promiscuous: bool) {
        // SAFETY: the port is ours, by the claim.
        let enable_promiscuous = || device.control(|id| unsafe { sys::rte_eth_promiscuous_enable(id) });
        if promiscuous {
            match enable_promiscuous() {
                // Promiscuous mode includes multicast frames.
                Ok(_) => return,
                Err(errno) => self.shortcomings.push(Shortcoming::Promiscuous(errno)),
            }
        }
        // SAFETY: the port is ours, by the claim.
        if let Err(errno) = device.control(|id| unsafe { sys::rte_eth_allmulticast_enable(id) }) {
            let promiscuous = !promiscuous && enable_promiscuous().is_ok();
            self.shortcomings.push(Shortcoming::AllMulticast { promiscuous, errno });
        }
    }
}

/// Clamps the MTU; sets the scatter offload if a frame needs more than one mbuf and the device can spread it.
fn plan_mtu(
    info: &sys::rte_eth_dev_info,
    asked: u16,
    room: Option<u16>,
    rx_offloads: &mut u64,
    shortcomings: &mut Vec<Shortcoming>,
) -> u16 {
    let mut mtu = asked.clamp(info.min_mtu, info.max_mtu.max(info.min_mtu));
    if mtu != asked {
        shortcomings.push(Shortcoming::Mtu { asked, got: mtu, reason: MtuLimit::DeviceRange });
    }
    let overhead = frame_overhead(info);
    let frame = u32::from(mtu) + overhead;
    let room = u32::from(room.unwrap_or(u16::MAX));
    if frame > room {
        if info.rx_offload_capa & sys::weir_RTE_ETH_RX_OFFLOAD_SCATTER != 0 {
            *rx_offloads |= sys::weir_RTE_ETH_RX_OFFLOAD_SCATTER;
        } else {
            mtu = (room.saturating_sub(overhead) as u16).max(info.min_mtu);
            shortcomings.retain(|known| !matches!(known, Shortcoming::Mtu { .. }));
            shortcomings.push(Shortcoming::Mtu { asked, got: mtu, reason: MtuLimit::MbufRoom });
        }
    }
    mtu
}

/// Whether frames of several mbufs may come that the device may not send. Those of other devices are as short as its own before they
/// get here: it has their MTU, or they are cut.
fn plan_chains(
    info: &sys::rte_eth_dev_info,
    room: Option<u16>,
    (rx_offloads, tx_offloads): (u64, u64),
) -> Option<Shortcoming> {
    let may_come = rx_offloads & sys::weir_RTE_ETH_RX_OFFLOAD_SCATTER != 0;
    let longest = u32::from(room?).saturating_sub(frame_overhead(info)) as u16;
    (may_come && tx_offloads == 0).then_some(Shortcoming::Chains { longest })
}

/// What ethdev takes for this MTU when a device is configured.
fn configured_mtu(info: &sys::rte_eth_dev_info, mtu: u16) -> u16 {
    let most = info.max_rx_pktlen.saturating_sub(frame_overhead(info));
    // A device that says nothing, or nonsense, is asked.
    if most < u32::from(ETHERNET_MTU) { mtu } else { u16::try_from(most).map_or(mtu, |most| mtu.min(most)) }
}

/// Octets of a frame that are not MTU, as ethdev computes them: what the device says, else Ethernet header and FCS.
fn frame_overhead(info: &sys::rte_eth_dev_info) -> u32 {
    const ETHERNET_HEADER_AND_FCS: u32 = 14 + 4;
    if info.max_mtu != u16::MAX && info.max_rx_pktlen > u32::from(info.max_mtu) {
        info.max_rx_pktlen - u32::from(info.max_mtu)
    } else {
        ETHERNET_HEADER_AND_FCS
    }
}

/// What to hash, and the key in the device's length.
fn plan_rss(
    info: &sys::rte_eth_dev_info,
    config: Option<&RssConfig>,
    rx_queues: u16,
    shortcomings: &mut Vec<Shortcoming>,
) -> (RssTypes, Option<Vec<u8>>) {
    let Some(config) = config else { return (RssTypes::default(), None) };
    let asked = config.types();
    let got = RssTypes::from_bits(asked.bits() & info.flow_type_rss_offloads);
    if got == RssTypes::default() {
        // With one queue there is nothing to spread, and a missing hash is no loss.
        if asked.any() && rx_queues > 1 {
            shortcomings.push(Shortcoming::Rss);
        }
        return (got, None);
    }
    if got != asked {
        shortcomings.push(Shortcoming::RssTypes { asked, got });
    }
    let key = config.key.as_deref().filter(|key| !key.is_empty()).map(|key| {
        // A driver that names no length reads this many octets, so there must never be fewer.
        let length = if info.hash_key_size == 0 { RSS_KEY_LEN_USUAL } else { info.hash_key_size };
        key.iter().copied().cycle().take(usize::from(length)).collect()
    });
    (got, key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(rss: RssTypes, hash_key_size: u8) -> sys::rte_eth_dev_info {
        sys::rte_eth_dev_info {
            min_mtu: 68,
            max_mtu: 9000,
            max_rx_pktlen: 9018,
            flow_type_rss_offloads: rss.bits(),
            hash_key_size,
            ..Default::default()
        }
    }

    const TCP: RssTypes = RssTypes { ip: false, tcp: true, udp: false };
    const NONE: RssTypes = RssTypes { ip: false, tcp: false, udp: false };

    fn rss(key: &[u8], udp: bool) -> RssConfig {
        RssConfig { key: Some(key.to_vec()), ip: false, tcp: true, udp }
    }

    #[test]
    fn a_key_has_the_length_of_the_device() {
        for (device_says, expected) in [(0, 40), (40, 40), (52, 52)] {
            let key =
                plan_rss(&device(TCP, device_says), Some(&rss(&[1, 2, 3], false)), 2, &mut vec![]).1.unwrap();
            assert_eq!((key.len(), &key[..5]), (expected, &[1, 2, 3, 1, 2][..]));
        }
        let long = plan_rss(&device(TCP, 40), Some(&rss(&[7; 52], false)), 2, &mut vec![]).1.unwrap();
        assert_eq!(long, [7; 40]);
        assert_eq!(plan_rss(&device(TCP, 40), Some(&rss(&[], false)), 2, &mut vec![]).1, None);
    }

    #[test]
    fn rss_of_less_than_was_asked_is_told() {
        let mut told = vec![];
        let (got, _) = plan_rss(&device(TCP, 40), Some(&rss(&[1], true)), 2, &mut told);
        assert_eq!((got, told.len()), (TCP, 1));
        assert_eq!(told[0].to_string(), "its receive side scaling hashes TCP, not TCP, UDP");
        let mut told = vec![];
        assert_eq!(plan_rss(&device(NONE, 40), Some(&rss(&[1], true)), 2, &mut told), (NONE, None));
        assert_eq!(told, [Shortcoming::Rss]);
        let mut told = vec![];
        assert_eq!(plan_rss(&device(NONE, 40), Some(&rss(&[1], true)), 1, &mut told), (NONE, None));
        assert_eq!(told, [], "one queue needs no spreading");
    }

    #[test]
    fn the_mtu_keeps_to_the_device_and_to_its_mbufs() {
        let plain = device(NONE, 0);
        let scatters = sys::rte_eth_dev_info {
            rx_offload_capa: sys::weir_RTE_ETH_RX_OFFLOAD_SCATTER,
            ..device(NONE, 0)
        };
        let limited = |asked, got, reason| vec![Shortcoming::Mtu { asked, got, reason }];
        for (info, asked, room, mtu, offload, told) in [
            (&plain, 1500, 2048, 1500, false, vec![]),
            (&plain, 2030, 2048, 2030, false, vec![]),
            (&plain, 2031, 2048, 2030, false, limited(2031, 2030, MtuLimit::MbufRoom)),
            (&plain, 9000, 2048, 2030, false, limited(9000, 2030, MtuLimit::MbufRoom)),
            (&plain, 9600, 16_384, 9000, false, limited(9600, 9000, MtuLimit::DeviceRange)),
            (&plain, 60, 2048, 68, false, limited(60, 68, MtuLimit::DeviceRange)),
            (&scatters, 1500, 2048, 1500, false, vec![]),
            (&scatters, 9000, 2048, 9000, true, vec![]),
        ] {
            let (mut offloads, mut shortcomings) = (0, vec![]);
            let planned = plan_mtu(info, asked, Some(room), &mut offloads, &mut shortcomings);
            assert_eq!((planned, offloads != 0, shortcomings), (mtu, offload, told), "{asked} in {room}");
        }
    }

    #[test]
    fn a_device_that_gets_frames_of_several_mbufs_and_may_not_send_them_is_told_of() {
        let info = device(NONE, 0);
        let (scatter, chains) =
            (sys::weir_RTE_ETH_RX_OFFLOAD_SCATTER, sys::weir_RTE_ETH_TX_OFFLOAD_MULTI_SEGS);
        assert_eq!(plan_chains(&info, Some(2048), (scatter, 0)), Some(Shortcoming::Chains { longest: 2030 }));
        for offloads in [(scatter, chains), (0, 0), (0, chains)] {
            assert_eq!(plan_chains(&info, Some(2048), offloads), None);
        }
        assert_eq!(plan_chains(&info, None, (scatter, 0)), None);
    }

    #[test]
    fn a_device_that_knows_of_no_long_frames_is_configured_for_the_longest_it_knows() {
        let info =
            |max_mtu, max_rx_pktlen| sys::rte_eth_dev_info { max_mtu, max_rx_pktlen, ..device(NONE, 0) };
        // As net_af_packet, net_tap, a NIC, and a device that says nothing.
        for (info, mtu, configured) in [
            (info(u16::MAX, 1518), 9000, 1500),
            (info(u16::MAX, 1518), 1400, 1400),
            (info(u16::MAX, 1522), 9000, 1504),
            (info(9000, 9018), 9000, 9000),
            (info(u16::MAX, u32::MAX), 9000, 9000),
            (info(u16::MAX, 0), 9000, 9000),
        ] {
            assert_eq!(configured_mtu(&info, mtu), configured);
        }
    }
}
