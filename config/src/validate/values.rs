//! Strings of the file that stand for something: addresses, prefixes, Ethernet addresses, names.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;

use super::fault::Fault;
use crate::model::MacAddress;
use crate::report::quoted;

/// Characters of a name at most; it is a label in metrics and a column of listings.
const NAME_CHARS_MAX: usize = 63;

/// Bytes of a unix socket's path at most: `sun_path` less its closing zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Bytes of DPDK's device name at most: RTE_DEV_NAME_MAX_LEN less its closing zero.
const DEVICE_BYTES_MAX: usize = 63;

/// Bytes of the name of a network interface at most: the kernel's IFNAMSIZ less its closing zero.
const INTERFACE_BYTES_MAX: usize = 15;

/// Types of health checks.
pub(crate) const CHECKS: [&str; 8] = ["tcp", "http", "https", "udp", "dns", "smtp", "ping", "exec"];

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

/// The path of the control socket.
pub(crate) fn socket_path(text: &str) -> Result<PathBuf, Fault> {
    let fault = |label: String| Fault::new("invalid socket path", label);
    if !text.starts_with('/') {
        return Err(fault("the path must be absolute".into())
            .help("write a path from the root, such as \"/run/weir/weir.sock\""));
    }
    if text.ends_with('/') {
        return Err(fault("this is a directory".into())
            .help(format!("add a file name: \"{}weir.sock\"", text.escape_default())));
    }
    if text.len() > SOCKET_PATH_BYTES_MAX {
        return Err(fault(format!("{} bytes long; a unix socket has {SOCKET_PATH_BYTES_MAX}", text.len())));
    }
    if text.contains('\0') {
        return Err(fault("a path holds no zero byte".into()));
    }
    Ok(PathBuf::from(text))
}

/// A file to be read.
pub(crate) fn path(text: &str) -> Result<PathBuf, Fault> {
    let fault = |label: &str| Fault::new("invalid path", label);
    if !text.starts_with('/') {
        return Err(fault("the path must be absolute").help("write a path from the root"));
    }
    if text.ends_with('/') || text.contains('\0') {
        return Err(fault("this is no file"));
    }
    Ok(PathBuf::from(text))
}

/// Address and TCP port of the HTTP listener.
pub(crate) fn listen(text: &str) -> Result<SocketAddr, Fault> {
    const HELP: &str = "write address and port, such as \"127.0.0.1:9292\" or \"[::1]:9292\"";
    let invalid = |label: &str| Fault::new("invalid address to listen on", label);
    let fault = |label: &str| Err(invalid(label).help(HELP));
    let port_of = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => fault("port 0 would be another one at each start"),
        Ok(address) if address.ip().is_multicast() => fault("a multicast address"),
        Ok(address) => Ok(address),
        Err(_) => {
            let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
            Err(match (text.parse::<IpAddr>(), host, port_of(port)) {
                (Ok(address), ..) => invalid("the port is missing")
                    .help(format!("write \"{}\"", SocketAddr::from((address, 9292)))),
                (_, "", Some(port)) => {
                    invalid("the address is missing").help(format!("write \"127.0.0.1:{port}\""))
                }
                (_, "localhost", Some(port)) => {
                    invalid("host names are not looked up").help(format!("write \"127.0.0.1:{port}\""))
                }
                (_, "*", Some(port)) => {
                    invalid("every address is written as 0.0.0.0").help(format!("write \"0.0.0.0:{port}\""))
                }
                _ => invalid("not an address and a port").help(HELP),
            })
        }
    }
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

/// The seconds of a duration with its unit, as other programs write one: "500ms", "5 min".
pub(crate) fn seconds(text: &str) -> Option<f64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let number: f64 = text[..digits].parse().ok()?;
    Some(match text[digits..].trim() {
        "ms" => number / 1000.0,
        "s" | "sec" | "second" | "seconds" => number,
        "m" | "min" | "minute" | "minutes" => number * 60.0,
        "h" | "hour" | "hours" => number * 3600.0,
        "d" | "day" | "days" => number * 86_400.0,
        _ => return None,
    })
}

/// Whether a key of weir's holds a number of seconds.
pub(crate) fn is_in_seconds(key: &str) -> bool {
    const ENDS: [&str; 8] =
        ["timeout", "interval", "delay", "expiration", "refresh", "warmup", "window", "ejection"];
    key == "ejection_max"
        || ENDS.iter().any(|end| key.ends_with(end))
        || crate::keys_of("connections.timeouts").is_some_and(|keys| keys.contains(&key))
}

/// An address, and its port where there is one: "10.0.0.1", "10.0.0.1:80", "10.0.0.1 80".
pub(crate) fn address_and_port(text: &str) -> Option<(IpAddr, Option<u16>)> {
    if let Ok(both) = text.parse::<SocketAddr>() {
        return Some((both.ip(), Some(both.port())));
    }
    let mut words = text.split_whitespace();
    let address = words.next()?.parse().ok()?;
    let port = words.next().map(str::parse).transpose().ok()?;
    words.next().is_none().then_some((address, port))
}

/// An IP address, without prefix length or port.
pub(crate) fn address(text: &str) -> Result<IpAddr, Fault> {
    let address = text.parse::<IpAddr>().map_err(|_| explain_address(text))?;
    match address {
        // Two ways to write one address would let a duplicate slip by.
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => Err(Fault::new("invalid address", "an IPv4 address written as IPv6")
                .help(format!("write \"{v4}\""))),
            None => Ok(address),
        },
        IpAddr::V4(_) => Ok(address),
    }
}

/// Why a string is not an address.
fn explain_address(text: &str) -> Fault {
    let fault = |label: String| Fault::new("invalid address", label);
    if let Some((before, _)) = text.split_once('/')
        && before.parse::<IpAddr>().is_ok()
    {
        return fault("no prefix length belongs here".into()).help(format!("write \"{before}\""));
    }
    if let Ok(both) = text.parse::<SocketAddr>() {
        return fault("no port belongs here".into()).help(format!(
            "write \"{}\" here and the port under its own key: port = {}",
            both.ip(),
            both.port()
        ));
    }
    if text.trim() != text && text.trim().parse::<IpAddr>().is_ok() {
        return fault("blanks around the address".into()).help(format!("write \"{}\"", text.trim()));
    }
    if text.contains(':') {
        return fault("not an IPv6 address".into());
    }
    let octets: Vec<&str> = text.split('.').collect();
    if !text.is_empty() && octets.iter().all(|octet| octet.bytes().all(|b| b.is_ascii_digit())) {
        for octet in &octets {
            if octet.len() > 1 && octet.starts_with('0') {
                return fault(format!("octet {octet} has a leading zero"));
            }
            if !octet.is_empty() && octet.parse::<u8>().is_err() {
                return fault(format!("octet {} is out of range", cut(octet)));
            }
        }
        if octets.len() != 4 {
            return fault(format!("{} octets instead of 4", octets.len()));
        }
    }
    if text.chars().any(|c| c.is_ascii_alphabetic()) {
        return fault("not an address".into()).help("host names are not looked up: write the address");
    }
    fault("not an address".into())
}

/// The start of a text that may be long.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(12)]
}

/// The prefix length that somebody wrote as a mask, "255.255.255.0", or with its slash, "/24".
pub(crate) fn prefix_length(text: &str) -> Option<u32> {
    if let Some(length) = text.strip_prefix('/') {
        return length.parse().ok().filter(|length| *length <= 128);
    }
    let mask = u32::from(text.parse::<Ipv4Addr>().ok()?);
    (mask != 0 && mask.leading_ones() == mask.count_ones()).then(|| mask.count_ones())
}

/// An address with the prefix length of its network.
pub(crate) fn prefix(text: &str) -> Result<IpNet, Fault> {
    let Some((before, length)) = text.split_once('/') else {
        let ip = address(text)?;
        let usual = if ip.is_ipv4() { 24 } else { 64 };
        return Err(Fault::new("missing prefix length", "an address with its prefix length belongs here")
            .help(format!("write such as \"{ip}/{usual}\"")));
    };
    let ip = address(before)?;
    let longest = if ip.is_ipv4() { 32 } else { 128 };
    length.parse::<u8>().ok().and_then(|length| IpNet::new(ip, length).ok()).ok_or_else(|| {
        if let Some(length) = prefix_length(length).filter(|_| ip.is_ipv4()) {
            return Fault::new("invalid prefix length", "a mask instead of a length")
                .help(format!("write \"{ip}/{length}\""));
        }
        Fault::new("invalid prefix length", format!("must be 0 to {longest}, as in \"{ip}/{longest}\""))
    })
}

/// Whether it is a word of other programs for the network of all addresses.
pub(crate) fn is_everything(text: &str) -> bool {
    ["default", "any", "all", "*"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// A network: a prefix without host bits.
pub(crate) fn network(text: &str) -> Result<IpNet, Fault> {
    if is_everything(text) {
        return Err(Fault::new("invalid network", "all addresses are a network, too")
            .help("write \"0.0.0.0/0\", or \"::/0\" for IPv6"));
    }
    let net = prefix(text)?;
    if net.trunc() == net {
        return Ok(net);
    }
    Err(Fault::new(
        "address bits after the prefix",
        format!("{} is not the start of a /{} network", net.addr(), net.prefix_len()),
    )
    .help(format!("write \"{}\"", net.trunc())))
}

/// An Ethernet address of one station.
pub(crate) fn station(text: &str) -> Result<MacAddress, Fault> {
    let fault = |label: &str| {
        Err(Fault::new("invalid MAC address", label).help("write such as \"02:00:00:00:00:01\""))
    };
    let separator = if text.contains('-') { '-' } else { ':' };
    let mut bytes = [0_u8; 6];
    let mut parts = text.split(separator);
    for byte in &mut bytes {
        match parts.next() {
            Some(part) if part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()) => {
                *byte = u8::from_str_radix(part, 16).unwrap_or_default();
            }
            Some(_) => return fault("each byte is two hexadecimal digits"),
            None => return fault("six bytes are needed"),
        }
    }
    if parts.next().is_some() {
        return fault("six bytes are needed");
    }
    match bytes {
        [0, 0, 0, 0, 0, 0] => fault("the zero address belongs to no station"),
        [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => fault("the broadcast address belongs to no station"),
        [first, ..] if first & 1 == 1 => fault("a multicast address (its first byte is odd)"),
        _ => Ok(MacAddress(bytes)),
    }
}

/// An address that one machine can have.
pub(crate) fn host(text: &str) -> Result<IpAddr, Fault> {
    let address = address(text)?;
    match not_a_host(address) {
        Some(why) => Err(Fault::new("not an address of a host", why)),
        None => Ok(address),
    }
}

/// As `host`, and reachable from other links: weir would not know on which port a link-local address is.
pub(crate) fn routable_host(text: &str) -> Result<IpAddr, Fault> {
    let address = host(text)?;
    if is_link_local_v6(address) {
        return Err(Fault::new("link-local address", "its port is not known")
            .help("write an address that is not within fe80::/10"));
    }
    Ok(address)
}

/// Why no machine can have this address, or `None`.
pub(crate) fn not_a_host(address: IpAddr) -> Option<&'static str> {
    if address.is_unspecified() {
        return Some("the unspecified address");
    }
    if address.is_multicast() {
        return Some("a multicast address");
    }
    if address.is_loopback() {
        return Some("a loopback address");
    }
    match address {
        IpAddr::V4(Ipv4Addr::BROADCAST) => Some("the broadcast address"),
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("an address of 0.0.0.0/8, which means this network"),
        _ => None,
    }
}

/// Why the address can't be a host's within the network it lies in, or `None`.
pub(crate) fn not_a_host_within(address: IpAddr, net: &IpNet) -> Option<String> {
    // RFC 3021: both addresses of a /31 are hosts; IPv6 has no broadcast.
    let IpNet::V4(v4) = net else { return None };
    if v4.prefix_len() > 30 {
        return None;
    }
    if address == IpAddr::V4(v4.network()) {
        return Some(format!("the address of the network {} itself", net.trunc()));
    }
    (address == IpAddr::V4(v4.broadcast())).then(|| format!("the broadcast address of {}", net.trunc()))
}

pub(crate) fn is_link_local_v6(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// "IPv4" or "IPv6".
pub(crate) fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn label<T: std::fmt::Debug>(result: Result<T, Fault>) -> String {
        result.unwrap_err().label
    }

    #[test]
    fn addresses_say_why_they_are_none() {
        assert_eq!(address("10.0.0.1").unwrap().to_string(), "10.0.0.1");
        assert_eq!(label(address("10.0.0.300")), "octet 300 is out of range");
        assert_eq!(label(address("10.0.0.01")), "octet 01 has a leading zero");
        assert_eq!(label(address("10.0.1")), "3 octets instead of 4");
        assert_eq!(label(address("10.0.0.1/24")), "no prefix length belongs here");
        assert_eq!(label(address("10.0.0.1:80")), "no port belongs here");
        assert_eq!(label(address("[2001:db8::1]:80")), "no port belongs here");
        assert_eq!(label(address(" 10.0.0.1")), "blanks around the address");
        assert_eq!(label(address("www.example.org")), "not an address");
        assert_eq!(label(address("2001:db8::g")), "not an IPv6 address");
        assert_eq!(label(address("")), "not an address");
        assert_eq!(label(address("::ffff:10.0.0.1")), "an IPv4 address written as IPv6");
    }

    #[test]
    fn prefixes_have_a_length_and_networks_no_host_bits() {
        assert_eq!(prefix("10.0.0.2/24").unwrap().to_string(), "10.0.0.2/24");
        assert_eq!(prefix("10.0.0.2").unwrap_err().help.unwrap(), "write such as \"10.0.0.2/24\"");
        assert_eq!(label(prefix("10.0.0.2/33")), "must be 0 to 32, as in \"10.0.0.2/32\"");
        assert_eq!(label(prefix("2001:db8::/129")), "must be 0 to 128, as in \"2001:db8::/128\"");
        assert!(network("10.0.0.0/24").is_ok());
        assert_eq!(network("10.0.0.2/24").unwrap_err().help.unwrap(), "write \"10.0.0.0/24\"");
    }

    #[test]
    fn masks_are_known_as_prefix_lengths() {
        assert_eq!(prefix_length("255.255.255.0"), Some(24));
        assert_eq!(prefix_length("255.255.255.255"), Some(32));
        assert_eq!(prefix_length("/24"), Some(24));
        for other in ["255.0.255.0", "0.0.0.0", "10.0.0.1", "24", "", "/", "/129"] {
            assert_eq!(prefix_length(other), None, "{other}");
        }
        assert_eq!(prefix("10.0.0.2/255.255.254.0").unwrap_err().help.unwrap(), "write \"10.0.0.2/23\"");
    }

    #[test]
    fn durations_of_other_programs_are_numbers_of_seconds() {
        for (text, wanted) in
            [("500ms", 0.5), ("5m", 300.0), ("2 h", 7200.0), ("1.5s", 1.5), ("1 day", 86_400.0)]
        {
            assert_eq!(seconds(text), Some(wanted), "{text}");
        }
        for text in ["", "5", "m", "5x", "five min", "5m5s", "."] {
            assert_eq!(seconds(text), None, "{text}");
        }
        let plain = ["capacity", "weight", "mtu", "quorum", "fall", "jitter", "port", "sleep_max_us", "type"];
        assert!(plain.iter().all(|key| !is_in_seconds(key)));
        let times = ["persistence_timeout", "tcp_fin_wait", "interval", "preempt_delay", "udp"];
        assert!(times.iter().all(|key| is_in_seconds(key)));
    }

    #[test]
    fn addresses_with_a_port_are_taken_apart() {
        let taken = |text: &str| address_and_port(text).map(|(address, port)| (address.to_string(), port));
        assert_eq!(taken("10.0.0.9 80"), Some(("10.0.0.9".to_owned(), Some(80))));
        assert_eq!(taken("10.0.0.9:80"), Some(("10.0.0.9".to_owned(), Some(80))));
        assert_eq!(taken("[::1]:80"), Some(("::1".to_owned(), Some(80))));
        assert_eq!(taken("10.0.0.9"), Some(("10.0.0.9".to_owned(), None)));
        for text in ["", "hunter2", "10.0.0.9 x", "10.0.0.9 80 90", "10.0.0.9 65536"] {
            assert_eq!(taken(text), None, "{text}");
        }
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
    fn a_station_has_a_unicast_address() {
        assert_eq!(station("02:00:00:00:00:0a").unwrap(), MacAddress([2, 0, 0, 0, 0, 10]));
        assert_eq!(station("02-00-00-00-00-0A").unwrap(), MacAddress([2, 0, 0, 0, 0, 10]));
        assert!(label(station("00:00:00:00:00:00")).contains("zero"));
        assert!(label(station("ff:ff:ff:ff:ff:ff")).contains("broadcast"));
        assert!(label(station("01:00:5e:00:00:01")).contains("multicast"));
        assert!(label(station("02:00:00:00:00")).contains("six"));
        assert!(label(station("02:00:00:00:00:01:02")).contains("six"));
        assert!(label(station("2:0:0:0:0:1")).contains("two hexadecimal"));
        assert!(label(station("02:00:00:00:00:+1")).contains("two hexadecimal"));
    }

    #[test]
    fn hosts_are_unicast() {
        for bad in
            ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.18", "255.255.255.255", "::", "::1", "ff02::1"]
        {
            assert!(host(bad).is_err(), "{bad}");
        }
        assert!(host("fe80::1").is_ok());
        assert!(routable_host("fe80::1").is_err());
        let net = "10.0.0.2/24".parse().unwrap();
        assert!(not_a_host_within("10.0.0.255".parse().unwrap(), &net).unwrap().contains("broadcast"));
        assert!(not_a_host_within("10.0.0.0".parse().unwrap(), &net).unwrap().contains("itself"));
        assert!(not_a_host_within("10.0.0.1".parse().unwrap(), &"10.0.0.0/31".parse().unwrap()).is_none());
    }

    #[test]
    fn names_devices_paths_and_listeners() {
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
        assert!(socket_path("weir.sock").is_err());
        assert!(socket_path("/run/weir/").is_err());
        assert!(socket_path(&format!("/{}", "x".repeat(107))).is_err());
        assert!(socket_path(&format!("/{}", "x".repeat(106))).is_ok());
        assert_eq!(label(listen("127.0.0.1")), "the port is missing");
        assert_eq!(label(listen(":9292")), "the address is missing");
        assert_eq!(label(listen("localhost:9292")), "host names are not looked up");
        assert_eq!(label(listen("director:9292")), "not an address and a port");
        assert!(listen("[::]:9292").is_ok());
    }
}
