//! What the files of IPVS in /proc/net would say of weir: `ip_vs`, `ip_vs_stats`, `ip_vs_conn` (ip_vs_ctl.c, ip_vs_conn.c).

use std::net::{IpAddr, Ipv4Addr};

use weir_api::connections::Connection;
use weir_api::virtual_servers::{Figures, Served, VirtualServer};

use crate::ipvsadm::command::Forwarding;

/// The kernel counts persistence in ticks; Debian's have 250 a second.
const TICKS_PER_SECOND: u64 = 250;

/// `ip_vs`. Real servers stand newest first, as in the kernel's lists.
pub(crate) fn ip_vs(virtual_servers: &[VirtualServer<'_>]) -> String {
    let mut text = "IP Virtual Server version 1.2.1 (size=4096)\n\
        Prot LocalAddress:Port Scheduler Flags\n  \
        -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n"
        .to_owned();
    for it in virtual_servers {
        let (scheduler, ops) = (&it.scheduler, if it.one_packet { "ops " } else { "" });
        text += &match &it.traffic {
            Served::Address { address, port, protocol } => {
                let protocol = protocol.to_uppercase();
                format!("{protocol}  {} {scheduler} {ops} ", endpoint(*address, *port))
            }
            Served::Mark { mark, .. } => format!("FWM  {mark:08X} {scheduler} {ops}"),
        };
        if it.persistence_timeout > 0 {
            let mask = u32::MAX.checked_shl(32 - u32::from(it.persistence_netmask.min(32))).unwrap_or(0);
            let ticks = u64::from(it.persistence_timeout) * TICKS_PER_SECOND;
            text += &format!("persistent {ticks} {mask:08X}");
        }
        text.push('\n');
        for real in it.real_servers.iter().rev() {
            let forwarding = Forwarding::named(&real.forwarding).map_or("", Forwarding::listed);
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
pub(crate) fn ip_vs_stats(virtual_servers: &[VirtualServer<'_>]) -> String {
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

/// The first line of `ip_vs_conn`.
pub(crate) const CONNECTION_TITLE: &str =
    "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n";

/// A line of `ip_vs_conn`.
pub(crate) fn connection(it: &Connection<'_>) -> String {
    let real_server = match it.real_server {
        IpAddr::V4(address) => format!("{:08X}", address.to_bits()),
        IpAddr::V6(address) => address.to_string(),
    };
    format!(
        "{:<3} {:08X} {:04X} {:08X} {:04X} {real_server} {:04X} {:<11} {:>7}\n",
        it.protocol.to_uppercase(),
        it.client.to_bits(),
        it.client_port,
        it.address.unwrap_or(Ipv4Addr::UNSPECIFIED).to_bits(),
        it.port,
        it.real_server_port,
        it.state,
        // As in listings: the second that has begun does not count.
        it.expires.saturating_sub(1)
    )
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipvsadm::tests::after;

    /// As a kernel wrote it after the same commands.
    #[test]
    fn ip_vs_is_as_the_kernel_has_it() {
        let weir = after(&[
            "-A -t 192.0.2.1:80 -s wlc -p 60",
            "-a -t 192.0.2.1:80 -r 10.99.0.11:80 -g -w 5",
            "-a -t 192.0.2.1:80 -r 10.99.0.12:80 -g -w 3",
            "-A -u 192.0.2.1:53 -s rr -o",
            "-A -t 192.0.2.1:81 -s rr",
            "-a -t 192.0.2.1:81 -r 10.99.0.13:81 -m",
            "-A -f 7 -s rr -p 60 -M 255.255.255.0",
            "-a -f 7 -r 10.99.0.11 -i",
        ]);
        assert_eq!(
            ip_vs(&weir.services),
            "IP Virtual Server version 1.2.1 (size=4096)\n\
             Prot LocalAddress:Port Scheduler Flags\n  \
             -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n\
             TCP  C0000201:0050 wlc  persistent 15000 FFFFFFFF\n  \
             -> 0A63000C:0050      Route   3      0          0         \n  \
             -> 0A63000B:0050      Route   5      0          0         \n\
             UDP  C0000201:0035 rr ops  \n\
             TCP  C0000201:0051 rr  \n  \
             -> 0A63000D:0051      Masq    1      0          0         \n\
             FWM  00000007 rr persistent 15000 FFFFFF00\n  \
             -> 0A63000B:0000      Tunnel  1      0          0         \n"
        );
    }

    #[test]
    fn ip_vs_stats_has_the_lines_that_agents_count() {
        let mut weir = after(&["-A -t 192.0.2.1:80", "-A -t 192.0.2.1:81"]);
        weir.services[0].carried.total.in_bytes = u64::MAX;
        weir.services[1].carried.total.in_packets = 0xAB;
        weir.services[1].carried.per_second.connections = 16;
        assert_eq!(
            ip_vs_stats(&weir.services),
            "   Total Incoming Outgoing         Incoming         Outgoing\n   \
             Conns  Packets  Packets            Bytes            Bytes\n       \
             0       AB        0 FFFFFFFFFFFFFFFF                0\n\n \
             Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n      \
             10        0        0                0                0\n"
        );
    }

    #[test]
    fn a_connection_is_a_line_of_ip_vs_conn() {
        let it = Connection {
            worker: 0,
            protocol: "tcp".into(),
            client: Ipv4Addr::new(203, 0, 113, 50),
            client_port: 40_001,
            virtual_server: "web".into(),
            address: Some(Ipv4Addr::new(192, 0, 2, 1)),
            port: 80,
            real_server: Ipv4Addr::new(10, 99, 0, 11).into(),
            real_server_port: 80,
            state: "ESTABLISHED".into(),
            expires: 897,
            persistent: false,
        };
        assert_eq!(connection(&it), "TCP CB007132 9C41 C0000201 0050 0A63000B 0050 ESTABLISHED     896\n");
    }
}
