//! Addresses, prefixes and Ethernet addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;

use crate::model::MacAddress;
use crate::validate::fault::Fault;

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
        IpAddr::V4(v4) if v4.octets()[0] >= 240 => Some("an address of 240.0.0.0/4, which is reserved"),
        _ => None,
    }
}

/// Why the address can't be a host's within the network it lies in, or `None`.
pub(crate) fn not_a_host_within(address: IpAddr, net: &IpNet) -> Option<String> {
    // RFC 3021 and RFC 6164: both addresses of a /31 and of a /127 are hosts.
    if net.max_prefix_len() - net.prefix_len() < 2 {
        return None;
    }
    let IpNet::V4(v4) = net else {
        // IPv6 has no broadcast.
        let is_anycast = is_anycast(address, net);
        return is_anycast
            .then(|| format!("the address of all routers of {} (subnet-router anycast)", net.trunc()));
    };
    if address == IpAddr::V4(v4.network()) {
        return Some(format!("the address of the network {} itself", net.trunc()));
    }
    (address == IpAddr::V4(v4.broadcast())).then(|| format!("the broadcast address of {}", net.trunc()))
}

/// Whether the address is that of all routers of an IPv6 network (RFC 4291 section 2.6.1).
pub(crate) fn is_anycast(address: IpAddr, net: &IpNet) -> bool {
    address.is_ipv6() && address == net.network() && net.max_prefix_len() - net.prefix_len() > 1
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
        let anycast =
            |address: &str, net: &str| not_a_host_within(address.parse().unwrap(), &net.parse().unwrap());
        assert!(anycast("2001:db8:0:1::", "2001:db8:0:1::2/64").unwrap().contains("anycast"));
        for (address, net) in [
            ("2001:db8:0:1::1", "2001:db8:0:1::2/64"),
            ("2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:1::2/64"),
            ("2001:db8::", "2001:db8::1/127"),
            ("2001:db8::", "2001:db8::/128"),
        ] {
            assert!(anycast(address, net).is_none(), "{address}");
        }
    }
}
