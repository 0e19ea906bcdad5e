//! The kernel's IPv4 routes, as far as health checks need them: is there a way to a real server at all?

use std::fs::Metadata;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use weir_config::{Loaded, Way};

/// The route is usable (linux/route.h).
const RTF_UP: u32 = 0x1;
/// It refuses what it holds.
const RTF_REJECT: u32 = 0x200;

/// What a file says, with a warning for checks that have no way from this machine as it is now, and for a mode that lets everybody read
/// its passwords.
pub(crate) fn look_around(mut loaded: Loaded, file: &Path) -> Loaded {
    // A pipe is gone when it has been read.
    if let Some(found) = file.metadata().ok().filter(Metadata::is_file) {
        loaded.look_at_mode(found.permissions().mode());
    }
    let routes = Routes::now();
    loaded.look_around(|address| routes.way_to(address));
    loaded
}

/// The routes of the main table at one moment.
///
/// `None`: the kernel does not show them, so that nothing can be said.
struct Routes(Option<Vec<(Ipv4Addr, Ipv4Addr)>>);

impl Routes {
    /// As they are now.
    fn now() -> Self {
        std::fs::read_to_string("/proc/self/net/route").map_or(Self(None), |table| Self::of(&table))
    }

    /// From the text of /proc/net/route: addresses are hexadecimal words in the order of this machine's bytes.
    fn of(table: &str) -> Self {
        let address =
            |word: &str| u32::from_str_radix(word, 16).ok().map(|word| Ipv4Addr::from(word.to_ne_bytes()));
        let route = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [_, destination, _, flags, _, _, _, mask, ..] = words[..] else { return None };
            let flags = u32::from_str_radix(flags, 16).ok()?;
            (flags & (RTF_UP | RTF_REJECT) == RTF_UP).then_some((address(destination)?, address(mask)?))
        };
        Self(Some(table.lines().skip(1).filter_map(route).collect()))
    }

    /// How the kernel sends to an address.
    fn way_to(&self, address: IpAddr) -> Way {
        let (IpAddr::V4(address), Some(routes)) = (address, &self.0) else { return Way::Route };
        let holds = |&(net, mask): &(Ipv4Addr, Ipv4Addr)| address & mask == net;
        let mut ways = routes.iter().filter(|route| holds(route));
        match ways.clone().any(|(_, mask)| !mask.is_unspecified()) {
            true => Way::Route,
            false if ways.next().is_some() => Way::Default,
            false => Way::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_tells_the_way() {
        let word = |address: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(address));
        let line = |to: [u8; 4], flags: &str, mask: [u8; 4]| {
            format!("eth0\t{}\t00000000\t{flags}\t0\t0\t0\t{}\t0\t0\t0\n", word(to), word(mask))
        };
        let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
        let local = line([10, 0, 0, 0], "0001", [255, 255, 255, 0]);
        let refused = line([10, 0, 1, 0], "0201", [255, 255, 255, 0]);
        let way = |table: &str, to: [u8; 4]| Routes::of(&format!("{head}{table}")).way_to(IpAddr::from(to));
        assert_eq!(way(&local, [10, 0, 0, 9]), Way::Route);
        assert_eq!(way(&local, [10, 0, 1, 9]), Way::None);
        assert_eq!(way(&refused, [10, 0, 1, 9]), Way::None);
        let default = line([0; 4], "0003", [0; 4]);
        assert_eq!(way(&format!("{default}{local}"), [10, 0, 1, 9]), Way::Default);
        assert_eq!(way(&format!("{default}{local}"), [10, 0, 0, 9]), Way::Route);
        assert_eq!(way("", [10, 0, 0, 9]), Way::None);
    }
}
