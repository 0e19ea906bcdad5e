//! Files by chance: what stays as long as a director runs, and edits of all that a reload may change.

use std::fmt::Write;

use weir_config::model::Config;

use super::chance::Chance;
use super::grammar::VIPS;
use crate::address::Addr4;

/// Usual schedulers more often than those that take much memory.
const SCHEDULERS: &[&str] =
    &["rr", "wrr", "lc", "wlc", "sh", "dh", "sed", "nq", "fo", "ovf", "twos", "rr", "wrr", "wlc"];
const LARGE_SCHEDULERS: &[&str] = &["lblc", "lblcr", "mh"];
const METHODS: &[&str] = &["dr", "tun", "nat"];
const TUNNELS: &[&str] = &[
    "",
    "",
    "tunnel = \"gue\"\n",
    "tunnel = \"gue\"\ntunnel_checksum = \"csum\"\n",
    "tunnel = \"gue\"\ntunnel_port = 53\n",
    "tunnel = \"gre\"\n",
    "tunnel = \"gre\"\ntunnel_checksum = \"csum\"\n",
];

/// What a reload can't change, and some files that have it in common. The first one is in force at the start.
pub(in crate::director::tests) fn files(chance: &mut Chance) -> Vec<String> {
    let wan_mtu = chance.of(&[1_500, 1_500, 576, 1_400]);
    let host = if chance.once_in(2) { "host_interface = \"weir0\"\n" } else { "" };
    let fixed = format!(
        "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/24\", \"2001:db8:1::2/64\"]\n{host}\
         [[port]]\nname = \"wan\"\ndevice = \"y\"\naddresses = [\"198.51.100.2/24\"]\nmtu = {wan_mtu}\n\
         [[route]]\ndestination = \"0.0.0.0/0\"\ngateway = \"198.51.100.1\"\n\
         [[route]]\ndestination = \"::/0\"\ngateway = \"2001:db8:1::fe\"\n"
    );
    let vrrp = if chance.once_in(3) {
        "[[vrrp]]\nname = \"vi\"\nport = \"lan\"\nvirtual_router_id = 51\nversion = 3\n\
         addresses = [\"10.0.0.100\"]\n\
         [[vrrp]]\nname = \"six\"\nport = \"lan\"\nvirtual_router_id = 52\nversion = 3\n\
         addresses = [\"fe80::100\", \"2001:db8::100\"]\n"
    } else {
        ""
    };
    let mut files = Vec::new();
    while files.len() < 5 {
        let text = format!("{}{fixed}{}{vrrp}", connections(chance), services(chance));
        // What chance puts together may not be allowed.
        if weir_config::parse("fuzz", &text).is_ok() {
            files.push(text);
        }
    }
    files
}

/// The VIPs that weir has under each of the files. Others may be somebody else's when weir begins to ask for them.
pub(super) fn lasting_vips(files: &[String]) -> Vec<Addr4> {
    let names = ["address = \"10.0.0.100\"\nport", "address = \"10.0.0.101\"\nport", "\"10.0.0.102\""];
    let lasts = |vip: Addr4, name: &str| {
        files.iter().all(|file| file.contains(name) && !(vip == VIPS[0] && file.contains("[[vrrp]]")))
    };
    VIPS.into_iter().zip(names).filter(|(vip, name)| lasts(*vip, name)).map(|(vip, _)| vip).collect()
}

/// A file as the data path takes it.
pub(in crate::director::tests) fn parsed(text: &str) -> Config {
    weir_config::parse("fuzz", text).unwrap_or_else(|report| panic!("{report}")).config
}

fn connections(chance: &mut Chance) -> String {
    let mut text = "[connections]\ncapacity = 1024\n".to_owned();
    for switch in [
        "sloppy_tcp",
        "sloppy_sctp",
        "expire_nodest_conn",
        "expire_quiescent_template",
        "nat_icmp_send",
        "pmtu_disc",
        "schedule_icmp",
        "secure_tcp",
    ] {
        if chance.once_in(3) {
            let _ = writeln!(text, "{switch} = {}", chance.once_in(2));
        }
    }
    let _ = writeln!(text, "conn_reuse_mode = {}", chance.below(2));
    if chance.once_in(2) {
        let _ = writeln!(text, "[connections.timeouts]\ntcp_established = 20\ntcp_fin_wait = 3\nudp = 5");
    }
    text
}

fn services(chance: &mut Chance) -> String {
    let mut text = String::new();
    for octet in [200, 11, 12, 14] {
        if !chance.once_in(4) {
            let _ = writeln!(
                text,
                "[[neighbor]]\naddress = \"10.0.0.{octet}\"\nmac = \"02:00:00:00:00:{octet:02x}\""
            );
        }
    }
    for octet in ["11", "12", "14", "fe"] {
        if !chance.once_in(4) {
            let _ = writeln!(
                text,
                "[[neighbor]]\naddress = \"2001:db8:1::{octet}\"\nmac = \"02:00:00:00:00:{octet}\""
            );
        }
    }
    if chance.once_in(2) {
        let _ = writeln!(text, "[[neighbor]]\naddress = \"198.51.100.1\"\nmac = \"02:00:00:00:00:fe\"");
    }
    let has_mark = chance.once_in(3);
    if has_mark {
        text += "[[mark]]\nmark = 1\naddresses = [\"10.0.0.96/29\", \"10.0.0.102\"]\nports = [80, 443]\n";
    }
    // Name, what makes it, port of its real servers with NAT.
    let kinds: [(&str, &str, u16); 7] = [
        ("web", "address = \"10.0.0.100\"\nport = 80", 8_080),
        ("dns", "address = \"10.0.0.100\"\nport = 53\nprotocol = \"udp\"", 5_353),
        ("sig", "address = \"10.0.0.100\"\nport = 5000\nprotocol = \"sctp\"", 5_001),
        ("all", "address = \"10.0.0.101\"\nport = 0\npersistence_timeout = 30", 0),
        ("ftp", "address = \"10.0.0.100\"\nport = 21", 2_121),
        ("udp", "address = \"10.0.0.101\"\nport = 53\nprotocol = \"udp\"", 53),
        ("mark", "mark = 1", 0),
    ];
    for (name, what, nat_port) in kinds {
        let is_there = if name == "mark" { has_mark } else { !chance.once_in(8) };
        if is_there {
            service(&mut text, chance, (name, what, nat_port));
        }
    }
    services6(&mut text, chance);
    text
}

/// Virtual servers of IPv6.
fn services6(text: &mut String, chance: &mut Chance) {
    if chance.once_in(4) {
        return;
    }
    // NAT takes small networks alone.
    let network = chance.of(&["2001:db8:9::/64", "2001:db8:9::/120", "2001:db8:9::/116"]);
    let has_mark = chance.once_in(2);
    if has_mark {
        let _ = writeln!(
            text,
            "[[mark]]\nmark = 2\naddresses = [\"2001:db8:1::102\", \"{network}\"]\nports = [80, 53]\n\
             sources = [\"2001:db8:1::/64\", \"2001:db8:7:0:0::/80\"]"
        );
    }
    // It holds the others' clients.
    let clients = chance.of(&["2001:db8:7::/64", "2001:db8:7::/120", "2001:db8:1::200/121"]);
    let has_clients = chance.once_in(3);
    if has_clients {
        let ports = chance.of(&["", "ports = [80]"]);
        let _ = writeln!(text, "[[mark]]\nmark = 3\naddresses = [\"{clients}\"]\n{ports}");
    }
    for (name, what, nat_port) in [
        ("web6", "address = \"2001:db8:1::100\"\nport = 80", 8_080),
        ("dns6", "address = \"2001:db8:1::100\"\nport = 53\nprotocol = \"udp\"", 5_353),
        ("sig6", "address = \"2001:db8:1::100\"\nport = 5000\nprotocol = \"sctp\"", 5_001),
        (
            "all6",
            "address = \"2001:db8:1::101\"\nport = 0\npersistence_timeout = 30\npersistence_netmask = 64",
            0,
        ),
        ("ftp6", "address = \"2001:db8:1::100\"\nport = 21", 2_121),
        ("vr6", "address = \"2001:db8::100\"\nport = 80", 8_080),
        ("mark6", "mark = 2\nfamily = \"ipv6\"", 0),
        ("clients6", "mark = 3\nfamily = \"ipv6\"", 0),
    ] {
        let is_there = match name {
            "mark6" => has_mark,
            "clients6" => has_clients,
            _ => !chance.once_in(5),
        };
        if is_there {
            service(text, chance, (name, what, nat_port));
        }
    }
}

fn service(text: &mut String, chance: &mut Chance, (name, what, nat_port): (&str, &str, u16)) {
    let schedulers = if chance.once_in(24) { LARGE_SCHEDULERS } else { SCHEDULERS };
    let method = chance.of(METHODS);
    let _ = writeln!(
        text,
        "[[virtual_server]]\nname = \"{name}\"\n{what}\nscheduler = \"{}\"\nforwarding = \"{method}\"",
        chance.of(schedulers)
    );
    if !what.contains("persistence") && chance.once_in(4) {
        let _ = writeln!(text, "persistence_timeout = {}", chance.of(&[1, 30, 300]));
    }
    if what.contains("udp") && chance.once_in(3) {
        let _ = writeln!(text, "one_packet = true");
    }
    let vip_port = match name {
        "web" | "web6" | "vr6" => 80,
        "dns" | "dns6" | "udp" => 53,
        "sig" | "sig6" => 5_000,
        "ftp" | "ftp6" => 21,
        _ => 0,
    };
    for octet in 11..15 {
        if chance.once_in(4) {
            continue;
        }
        let own = if chance.once_in(5) { chance.of(METHODS) } else { method };
        let port = if own == "nat" { nat_port } else { vip_port };
        let weight = chance.of(&[0, 1, 1, 1, 2, 3]);
        let of_ipv6 = name.ends_with('6') != (own == "tun" && chance.once_in(2));
        let network = if of_ipv6 { "2001:db8:1::" } else { "10.0.0." };
        let _ = writeln!(
            text,
            "[[virtual_server.real_server]]\naddress = \"{network}{octet}\"\nweight = {weight}\nforwarding = \"{own}\""
        );
        if port != 0 {
            let _ = writeln!(text, "port = {port}");
        }
        if own == "tun" {
            text.push_str(chance.of(TUNNELS));
        }
        if chance.once_in(6) {
            let _ = writeln!(text, "upper_threshold = {}", chance.of(&[2, 5, 9]));
        }
    }
}
