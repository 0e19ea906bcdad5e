//! Names: weir's own, and those of interfaces, devices and hosts.

use std::net::IpAddr;

use crate::report::quoted;
use crate::validate::fault::Fault;

/// Characters of a name at most; it is a label in metrics and a column of listings.
const NAME_CHARS_MAX: usize = 63;

/// Bytes of DPDK's device name at most: RTE_DEV_NAME_MAX_LEN less its closing zero.
const DEVICE_BYTES_MAX: usize = 63;

/// Bytes of the name of a network interface at most: the kernel's IFNAMSIZ less its closing zero.
const INTERFACE_BYTES_MAX: usize = 15;

/// A name: of a port, a virtual server, a VRRP instance.
pub(crate) fn name(text: &str) -> Result<String, Fault> {
    let fault = |label: String| {
        Err(Fault::new("invalid name", label)
            .help(format!("write 1 to {NAME_CHARS_MAX} letters, digits and any of - _ . : @")))
    };
    if text.is_empty() {
        return fault("a name is not empty".into());
    }
    if let Some(odd) = text.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_.:@".contains(*c)) {
        let what = if odd.is_whitespace() { "a blank".to_owned() } else { quoted(&odd.to_string()) };
        return fault(format!("{what} does not belong in a name"));
    }
    if text.len() > NAME_CHARS_MAX {
        return fault(format!("{} characters long", text.len()));
    }
    Ok(text.to_owned())
}

/// The name of a network interface of the kernel.
pub(crate) fn interface(text: &str) -> Result<String, Fault> {
    let fault = |label: String| {
        Err(Fault::new("invalid interface name", label)
            .help(format!("write 1 to {INTERFACE_BYTES_MAX} letters, digits and any of - _ .")))
    };
    if text.is_empty() {
        return fault("a name is not empty".into());
    }
    if let Some(odd) = text.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_.".contains(*c)) {
        let what = if odd.is_whitespace() { "a blank".to_owned() } else { quoted(&odd.to_string()) };
        return fault(format!("{what} does not belong in an interface name"));
    }
    if text.len() > INTERFACE_BYTES_MAX {
        return fault(format!("{} characters long", text.len()));
    }
    if matches!(text, "." | ".." | "lo" | "all" | "default") {
        return fault("the kernel uses this name itself".into());
    }
    Ok(text.to_owned())
}

/// The name of a DPDK device, without its arguments.
pub(crate) fn device(text: &str) -> Result<String, Fault> {
    if text.is_empty() {
        return Err(Fault::new("invalid device", "a device name is not empty")
            .help("write a PCI address such as \"0000:03:00.0\" or a vdev such as \"net_af_packet0\""));
    }
    if let Some(address) = pci_address(text).filter(|whole| whole != text) {
        return Err(Fault::new("invalid device", "a PCI address without its domain").help(format!(
            "write \"{address}\": that is the device's name, however short it was for EAL's `-a`"
        )));
    }
    if let Some((device, _)) = text.split_once(',') {
        return Err(Fault::new("invalid device", "arguments of a device do not belong here").help(format!(
            "write {} here and the arguments on the command line, after --vdev or -a",
            quoted(device)
        )));
    }
    if text.len() > DEVICE_BYTES_MAX {
        return Err(Fault::new("invalid device", format!("longer than {DEVICE_BYTES_MAX} bytes")));
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Fault::new("invalid device", "a device name has no blanks"));
    }
    Ok(text.to_owned())
}

/// The whole address of a PCI device, whose domain, 0000, may be left out as lspci does.
pub(crate) fn pci_address(text: &str) -> Option<String> {
    let is_hex = |part: &str, digits| part.len() == digits && part.bytes().all(|b| b.is_ascii_hexdigit());
    let parts: Vec<&str> = text.split([':', '.']).collect();
    let (domain, rest) = match parts.len() {
        3 => ("0000", &parts[..]),
        _ => (*parts.first()?, &parts[1..]),
    };
    let [bus, device, function] = *rest else { return None };
    let is_one = is_hex(domain, 4) && is_hex(bus, 2) && is_hex(device, 2) && is_hex(function, 1);
    is_one.then(|| format!("{domain}:{bus}:{device}.{function}"))
}

/// Whether a device's name is what the kernel and its tools call network interfaces: `eth0`, `enp3s0f1`, `bond0`.
pub(crate) fn is_interface_of_the_kernel(device: &str) -> bool {
    let numbered = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    let counted = ["eth", "em", "bond", "team", "br", "veth", "vlan", "tap", "tun", "wlan", "dummy", "ib"];
    counted.iter().any(|kind| device.strip_prefix(kind).is_some_and(numbered))
        // systemd's: by board, slot, path and MAC address.
        || ["eno", "ens", "enp", "enP", "wlp", "wls", "ibp", "ibs"]
            .iter()
            .any(|kind| device.strip_prefix(kind).is_some_and(numbered))
        || device.strip_prefix("enx").is_some_and(|mac| mac.len() == 12)
        || device == "lo"
}

/// A name by which HTTP clients may ask.
pub(crate) fn host_name(text: &str) -> Result<String, Fault> {
    let fault = |label: &str, help: &str| Err(Fault::new("invalid host name", label).help(help));
    let is_label = |label: &str| {
        let letters = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        (1..=63).contains(&label.len()) && letters
    };
    if text.parse::<IpAddr>().is_ok() {
        return fault("an address, which is answered anyway", "remove it");
    }
    if text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        return fault("a name has no port", "write the name alone: any port is right");
    }
    if text.contains('*') {
        return fault("every name must be written out", "write such as \"director1.example.com\"");
    }
    if text.len() > 253 || !text.split('.').all(is_label) {
        return fault("not a host name", "write such as \"director1.example.com\"");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn label<T: std::fmt::Debug>(result: Result<T, Fault>) -> String {
        result.unwrap_err().label
    }

    #[test]
    fn interfaces_of_the_kernel_are_told_from_devices() {
        for kernels in
            ["eth0", "enp3s0f1", "eno1", "ens192", "enx020000000001", "bond0", "br0", "veth1", "lo"]
        {
            assert!(is_interface_of_the_kernel(kernels), "{kernels}");
        }
        for device in [
            "0000:03:00.0",
            "03:00.0",
            "net_af_packet0",
            "net_tap1",
            "eth_af_packet0",
            "net_bonding0",
            "mlx5_0",
        ] {
            assert!(!is_interface_of_the_kernel(device), "{device}");
        }
    }

    #[test]
    fn names_of_weirs_interfaces_and_devices() {
        assert!(name("web-1.example:80").is_ok());
        assert!(label(name("web 1")).contains("a blank"));
        assert!(label(name(&"x".repeat(64))).contains("64"));
        assert!(interface("weir0.100").is_ok());
        assert!(label(interface("weir 0")).contains("a blank"));
        assert!(label(interface(&"x".repeat(16))).contains("16"));
        assert!(label(interface("lo")).contains("itself"));
        assert!(device("0000:03:00.0").is_ok() && device("mlx5_0").is_ok());
        assert!(device("03:00.0").unwrap_err().help.unwrap().starts_with("write \"0000:03:00.0\""));
        for other in ["0000:03:00", "03:00", "x3:00.0", "0000:03:00.10", "00:03:00.0"] {
            assert_eq!(pci_address(other), None, "{other}");
        }
        assert!(device("net_pcap0,rx_pcap=a").unwrap_err().help.unwrap().contains("`net_pcap0`"));
    }
}
