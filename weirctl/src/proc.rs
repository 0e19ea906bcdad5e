//! What the files of IPVS in /proc/net would say of weir: `ip_vs` and `ip_vs_stats` are [`weir_api::proc`]'s, `ip_vs_conn` is here
//! (ip_vs_conn.c).

use std::net::IpAddr;

use weir_api::connections::Connection;
pub(crate) use weir_api::proc::{ip_vs, ip_vs_stats, keep, remove};

use crate::ipvsadm::unspecified;

/// The first line of `ip_vs_conn`.
pub(crate) const CONNECTION_TITLE: &str =
    "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n";

/// A line of `ip_vs_conn`.
pub(crate) fn connection(it: &Connection<'_>) -> String {
    format!(
        "{:<3} {} {:04X} {} {:04X} {} {:04X} {:<11} {:>7}{}\n",
        it.protocol.to_uppercase(),
        digits(it.client),
        it.client_port,
        digits(it.address.unwrap_or_else(|| unspecified(it.client))),
        it.port,
        digits(it.real_server),
        it.real_server_port,
        it.state,
        // As in listings: the second that has begun does not count.
        it.expires.saturating_sub(1),
        match (&it.persistence_engine, &it.persistence_data) {
            (Some(engine), Some(data)) => format!(" {engine} {data}"),
            _ => String::new(),
        }
    )
}

/// An address as the kernel writes it there: no part of an IPv6 one is left out.
fn digits(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("{:08X}", address.to_bits()),
        IpAddr::V6(address) => address.segments().map(|segment| format!("{segment:04x}")).join(":"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

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
        let weir = after(&["-A -t 192.0.2.1:80 -s rr", "-a -t 192.0.2.1:80 -r [fd99::12]:80 -i"]);
        let line =
            "  -> [fd99:0000:0000:0000:0000:0000:0000:0012]:0050      Tunnel  1      0          0         ";
        assert_eq!(ip_vs(&weir.services).lines().last(), Some(line));
    }

    /// By ip_vs_info_seq_show: no `ops`, and the prefix length stands where IPv4 has a mask in the network's order.
    #[test]
    fn services_of_ipv6_are_as_the_kernel_has_them() {
        let weir = after(&[
            "-A -t [2001:db8::1]:80 -s rr -p 60",
            "-A -t [2001:db8::1]:81 -s rr -p 60 -M 64",
            "-A -u [2001:db8::1]:53 -s rr -o",
            "-A -f 7 -6 -s rr -p 60 -M 56",
        ]);
        let address = "[2001:0db8:0000:0000:0000:0000:0000:0001]";
        let lines = [
            format!("TCP  {address}:0050 rr persistent 15000 80000000"),
            format!("TCP  {address}:0051 rr persistent 15000 40000000"),
            format!("UDP  {address}:0035 rr "),
            "FWM  00000007 rr persistent 15000 38000000".to_owned(),
        ];
        assert_eq!(ip_vs(&weir.services).lines().skip(3).collect::<Vec<_>>(), lines);
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
            client: Ipv4Addr::new(203, 0, 113, 50).into(),
            client_port: 40_001,
            virtual_server: "web".into(),
            address: Some(Ipv4Addr::new(192, 0, 2, 1).into()),
            port: 80,
            real_server: Ipv4Addr::new(10, 99, 0, 11).into(),
            real_server_port: 80,
            state: "ESTABLISHED".into(),
            expires: 897,
            persistent: false,
            persistence_engine: None,
            persistence_data: None,
        };
        assert_eq!(connection(&it), "TCP CB007132 9C41 C0000201 0050 0A63000B 0050 ESTABLISHED     896\n");
        let v6 = |text: &str| text.parse::<IpAddr>().unwrap();
        let (client, address) = (v6("2001:db8::9"), Some(v6("2001:db8::1")));
        let it = Connection { client, address, real_server: v6("fd99::11"), ..it };
        assert_eq!(
            connection(&it),
            "TCP 2001:0db8:0000:0000:0000:0000:0000:0009 9C41 2001:0db8:0000:0000:0000:0000:0000:0001 0050 \
             fd99:0000:0000:0000:0000:0000:0000:0011 0050 ESTABLISHED     896\n"
        );
        let of_call = Connection {
            persistence_engine: Some("sip".into()),
            persistence_data: Some("00ff".into()),
            ..it.clone()
        };
        assert!(connection(&of_call).ends_with(" ESTABLISHED     896 sip 00ff\n"));
        let wide = connection(&Connection { address: None, ..it });
        assert!(wide.contains(" 9C41 0000:0000:0000:0000:0000:0000:0000:0000 0050 "), "{wide}");
    }
}
