//! The link of a port that works on an interface of the kernel.
//!
//! DPDK's drivers for such interfaces (`net_af_packet`, `net_af_xdp`) say that the link is up as long as they run; whether
//! the interface has a carrier stands in sysfs.

use std::path::PathBuf;

use dpdk::port::{PortStats, PortStatsReader};

use crate::sources::Device;

/// A device, and where its interface's carrier stands.
pub(crate) struct Carrier {
    device: PortStatsReader,
    file: Option<PathBuf>,
    /// It stands for a VLAN, and the device's counts are those of the device's port.
    is_vlan: bool,
}

impl Carrier {
    /// Of a device, or of a VLAN of it, on the kernel's interface with this index; 0: on none.
    pub(crate) fn new(device: PortStatsReader, interface_index: u32, is_vlan: bool) -> Self {
        Self {
            device,
            file: (interface_index != 0).then(|| carrier_file(interface_index)).flatten(),
            is_vlan,
        }
    }
}

impl Device for Carrier {
    fn stats(&self) -> Option<PortStats> {
        if self.is_vlan { None } else { self.device.stats() }
    }

    fn link_up(&self) -> Option<bool> {
        // An interface that is set down has no carrier to read.
        let has_carrier = self
            .file
            .as_ref()
            .is_none_or(|file| std::fs::read_to_string(file).is_ok_and(|text| text.trim() == "1"));
        self.device.link().map(|link| link.up && has_carrier)
    }
}

fn carrier_file(index: u32) -> Option<PathBuf> {
    let interfaces = std::fs::read_dir("/sys/class/net").ok()?;
    let mut folders = interfaces.filter_map(|entry| Some(entry.ok()?.path()));
    let is_it = |folder: &PathBuf| {
        let text = std::fs::read_to_string(folder.join("ifindex"));
        text.is_ok_and(|text| text.trim().parse() == Ok(index))
    };
    // Without a sysfs of this network namespace there is nothing to read, and nothing is claimed.
    folders.find(is_it).map(|folder| folder.join("carrier"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_found_by_its_index() {
        if let Some(file) = carrier_file(1) {
            assert_eq!(file, PathBuf::from("/sys/class/net/lo/carrier"));
        }
        assert_eq!(carrier_file(u32::MAX), None);
    }
}
