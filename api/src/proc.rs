//! `net/ip_vs` and `net/ip_vs_stats` as they would stand in /proc (ip_vs_ctl.c), and how they are kept in a directory for whoever reads
//! them there.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use crate::virtual_servers::{Figures, Served, VirtualServer};

/// The kernel counts persistence in ticks; Debian's have 250 a second.
const TICKS_PER_SECOND: u64 = 250;
/// The files that are kept.
const NAMES: [&str; 2] = ["ip_vs", "ip_vs_stats"];

/// Writes `net/ip_vs` and `net/ip_vs_stats` in `directory`, which is made if it is not there. Whoever reads meanwhile reads the former or
/// the new text of a file. Everybody may read them.
///
/// # Errors
/// The file system's.
pub fn keep(directory: &Path, virtual_servers: &[VirtualServer<'_>]) -> io::Result<()> {
    let net = directory.join("net");
    for place in [directory, &net] {
        if !place.is_dir() {
            DirBuilder::new().recursive(true).mode(0o755).create(place)?;
            // Whatever the umask is.
            fs::set_permissions(place, Permissions::from_mode(0o755))?;
        }
    }
    for (name, text) in NAMES.into_iter().zip([ip_vs(virtual_servers), ip_vs_stats(virtual_servers)]) {
        let new = net.join(format!(".{name}.new"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&new)?;
        // Whatever the umask is.
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.write_all(text.as_bytes())?;
        fs::rename(&new, net.join(name))?;
    }
    Ok(())
}

/// Removes what [`keep`] wrote: without a weir there is no IPVS.
pub fn remove(directory: &Path) {
    for name in NAMES {
        for name in [name.to_owned(), format!(".{name}.new")] {
            // Not there is what it shall be.
            let _ = fs::remove_file(directory.join("net").join(name));
        }
    }
}

/// `ip_vs`. Real servers stand newest first, as in the kernel's lists.
pub fn ip_vs(virtual_servers: &[VirtualServer<'_>]) -> String {
    let mut text = "IP Virtual Server version 1.2.1 (size=4096)\n\
        Prot LocalAddress:Port Scheduler Flags\n  \
        -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n"
        .to_owned();
    for it in virtual_servers {
        let (scheduler, ops) = (&it.scheduler, if it.one_packet { "ops " } else { "" });
        let is_ipv6 = match &it.traffic {
            Served::Address { address, .. } => address.is_ipv6(),
            Served::Mark { family, .. } => family == "ipv6",
        };
        text += &match &it.traffic {
            Served::Address { address, port, protocol } if is_ipv6 => {
                format!("{}  {} {scheduler} ", protocol.to_uppercase(), endpoint(*address, *port))
            }
            Served::Address { address, port, protocol } => {
                let protocol = protocol.to_uppercase();
                format!("{protocol}  {} {scheduler} {ops} ", endpoint(*address, *port))
            }
            Served::Mark { mark, .. } => format!("FWM  {mark:08X} {scheduler} {ops}"),
        };
        if it.persistence_timeout > 0 {
            // Of IPv6 the kernel keeps the length of the prefix as it is, and writes it as a mask that comes from the network.
            let length = u32::from(it.persistence_netmask);
            let mask = match is_ipv6 {
                true => length.swap_bytes(),
                false => u32::MAX.checked_shl(32 - length.min(32)).unwrap_or(0),
            };
            let ticks = u64::from(it.persistence_timeout) * TICKS_PER_SECOND;
            text += &format!("persistent {ticks} {mask:08X}");
        }
        text.push('\n');
        for real in it.real_servers.iter().rev() {
            let forwarding = listed(&real.forwarding);
            text += &format!(
                "  -> {}      {forwarding:<7} {:<6} {:<10} {:<10}\n",
                endpoint(real.address, real.port),
                real.weight,
                real.active,
                real.inactive
            );
        }
    }
    text
}

/// `ip_vs_stats`: all virtual servers together.
pub fn ip_vs_stats(virtual_servers: &[VirtualServer<'_>]) -> String {
    let sum = |figures: fn(&VirtualServer<'_>) -> Figures| {
        let figures = virtual_servers.iter().map(figures);
        let total =
            figures.map(|it| [it.connections, it.in_packets, it.out_packets, it.in_bytes, it.out_bytes]);
        let [a, b, c, d, e] = total
            .fold([0_u64; 5], |sum, it| std::array::from_fn(|place| sum[place].saturating_add(it[place])));
        format!("{a:>8X} {b:>8X} {c:>8X} {d:>16X} {e:>16X}\n")
    };
    format!(
        "   Total Incoming Outgoing         Incoming         Outgoing\n   \
        Conns  Packets  Packets            Bytes            Bytes\n{}\n \
        Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n{}",
        sum(|it| it.carried.total),
        sum(|it| it.carried.per_second)
    )
}

/// A forwarding method in the kernel's word.
fn listed(forwarding: &str) -> &'static str {
    match forwarding {
        "dr" => "Route",
        "tun" => "Tunnel",
        "nat" => "Masq",
        _ => "",
    }
}

fn endpoint(address: IpAddr, port: u16) -> String {
    match address {
        IpAddr::V4(address) => format!("{:08X}:{port:04X}", address.to_bits()),
        IpAddr::V6(address) => {
            let groups = address.segments().map(|group| format!("{group:04x}"));
            format!("[{}]:{port:04X}", groups.join(":"))
        }
    }
}
