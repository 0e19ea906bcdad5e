//! Whatever of weir's keepalived can express, written as keepalived.conf and imported, is the same.

use std::fmt::Write as _;

use super::*;

/// Numbers that chance picks, the same at each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn is(&mut self) -> bool {
        self.below(2) == 0
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len() as u64) as usize]
    }
}

/// The same in both languages.
#[derive(Default)]
struct Both {
    theirs: String,
    ours: String,
}

impl Both {
    fn put(&mut self, theirs: &str, ours: &str) {
        let _ = writeln!(self.theirs, "{theirs}");
        let _ = writeln!(self.ours, "{ours}");
    }
}

fn server(chance: &mut Chance, number: u64, both: &mut Both) {
    let (protocol, upper) = if chance.is() { ("tcp", "TCP") } else { ("udp", "UDP") };
    let (kind, forwarding) = [("NAT", "nat"), ("DR", "dr"), ("TUN", "tun")][chance.below(3) as usize];
    let scheduler = chance.of(&["rr", "wrr", "lc", "wlc", "sh", "mh", "fo"]);
    let (address, port) = (format!("192.0.2.{}", number + 1), 80 + chance.below(3));
    both.put(&format!("virtual_server {address} {port} {{"), "[[virtual_server]]");
    both.put("", &format!("name = \"{protocol}-{address}-{port}\"\naddress = \"{address}\"\nport = {port}"));
    both.put(&format!(" lvs_method {kind}"), &format!("forwarding = \"{forwarding}\""));
    both.put(&format!(" lvs_sched {scheduler}"), &format!("scheduler = \"{scheduler}\""));
    both.put(&format!(" protocol {upper}"), &format!("protocol = \"{protocol}\""));
    if matches!(scheduler, "sh" | "mh") && chance.is() {
        both.put(&format!(" {scheduler}-port"), &format!("scheduler_flags = [\"{scheduler}-port\"]"));
    }
    if chance.is() {
        let secs = chance.below(5000) + 1;
        both.put(&format!(" persistence_timeout {secs}"), &format!("persistence_timeout = {secs}"));
        both.put(" persistence_granularity 255.255.240.0", "persistence_netmask = 20");
    }
    for (theirs, ours) in [
        ("inhibit_on_failure", "on_fail = \"quiesce\""),
        ("alpha", "alpha = true"),
        ("omega", "omega = true"),
    ] {
        if chance.is() {
            both.put(theirs, ours);
        }
    }
    if chance.is() {
        both.put("quorum 3\nhysteresis 2", "quorum = 3\nhysteresis = 2");
    }
    if chance.is() {
        both.put("quorum_up \"/bin/up a 'b c'\"", "quorum_up = [\"/bin/up\", \"a\", \"b c\"]");
    }
    let delay = chance.below(60) + 1;
    let _ = writeln!(both.theirs, " delay_loop {delay}");
    if chance.is() {
        both.put(" sorry_server 10.0.0.250", "[virtual_server.sorry_server]\naddress = \"10.0.0.250\"");
    }
    for real in 0..chance.below(4) {
        let address = format!("10.0.0.{}", real + 1);
        let port = if kind == "NAT" { 8000 + chance.below(3) } else { port };
        let weight = chance.below(100);
        both.put(
            &format!(" real_server {address} {port} {{"),
            &format!("[[virtual_server.real_server]]\naddress = \"{address}\"\nport = {port}"),
        );
        both.put(&format!(" weight {weight}"), &format!("weight = {weight}"));
        if chance.is() {
            both.put("uthreshold 100\nlthreshold 50", "upper_threshold = 100\nlower_threshold = 50");
        }
        check(chance, delay, both);
        both.put("}", "");
    }
    both.put("}", "");
}

fn check(chance: &mut Chance, delay: u64, both: &mut Both) {
    let (retry, between, limit) = (chance.below(5) + 1, delay + chance.below(5) + 1, chance.below(8) + 1);
    let head = "[virtual_server.real_server.health_check]";
    let times = format!("interval = {delay}.0\nretry_interval = {between}.0\nfall = {}", retry + 1);
    let theirs = format!("retry {retry}\ndelay_before_retry {between}\nconnect_timeout {limit}");
    match chance.below(6) {
        0 => both.put(
            &format!("TCP_CHECK {{\n{theirs}\nconnect_port 9\nbindto 10.0.0.200\n}}"),
            &format!("{head}\ntype = \"tcp\"\n{times}\ntimeout = {limit}.0\nport = 9\nsource = \"10.0.0.200\""),
        ),
        1 => both.put(
            &format!("HTTP_GET {{\n{theirs}\nvirtualhost h\nurl {{\npath /x\nstatus_code 200 301-302\n}}\n}}"),
            &format!(
                "{head}\ntype = \"http\"\n{times}\ntimeout = {}.0\nconnect_timeout = {limit}.0\nresponse_timeout = {limit}.0\nhost = \"h\"\npath = \"/x\"\nstatus = [200, \"301-302\"]",
                2 * limit
            ),
        ),
        2 => both.put(
            &format!("PING_CHECK {{\n{theirs}\n}}"),
            &format!("{head}\ntype = \"ping\"\n{times}\ntimeout = {limit}.0"),
        ),
        3 => both.put(
            &format!("DNS_CHECK {{\n{theirs}\ntype a\nname example.com\n}}"),
            &format!("{head}\ntype = \"dns\"\n{times}\ntimeout = {limit}.0\nrecord = \"A\"\nquery = \"example.com\""),
        ),
        4 => both.put(
            &format!("MISC_CHECK {{\n{theirs}\nmisc_path \"/bin/check x\"\nmisc_timeout 3\nmisc_dynamic\n}}"),
            &format!("{head}\ntype = \"exec\"\n{times}\ntimeout = 3.0\ncommand = [\"/bin/check\", \"x\"]\ndynamic_weight = true"),
        ),
        _ => {}
    }
}

fn instance(chance: &mut Chance, number: u64, both: &mut Both) {
    let id = number + 1;
    both.put(
        &format!("vrrp_instance VI_{id} {{\n interface eth0"),
        &format!("[[vrrp]]\nname = \"VI_{id}\"\nport = \"eth0\""),
    );
    both.put(&format!(" virtual_router_id {id}"), &format!("virtual_router_id = {id}"));
    let priority = chance.below(254) + 1;
    both.put(&format!(" priority {priority}"), &format!("priority = {priority}"));
    let version = 2 + chance.below(2);
    both.put(&format!(" version {version}"), &format!("version = {version}"));
    let secs = if version == 2 { chance.of(&["1.0", "5.0"]) } else { chance.of(&["0.05", "1.0", "2.5"]) };
    both.put(&format!(" advert_int {secs}"), &format!("advertisement_interval = {secs}"));
    match chance.is() {
        true => both.put(" use_vmac", "virtual_mac = true"),
        false => both.put("", "virtual_mac = false"),
    }
    match chance.below(3) {
        0 => both.put(" nopreempt", "preempt = false"),
        1 => both.put(" preempt_delay 30", "preempt_delay = 30.0"),
        _ => {}
    }
    if chance.is() {
        both.put(" no_accept", "accept = false");
    }
    if chance.is() {
        both.put(
            " garp_master_delay 7\n garp_master_repeat 2",
            "garp_master_delay = 7.0\ngarp_master_repeat = 2",
        );
    }
    both.put(
        &format!(" virtual_ipaddress {{\n 198.51.100.{id}/24\n }}"),
        &format!("addresses = [\"198.51.100.{id}\"]"),
    );
    if chance.is() {
        both.put(" unicast_peer {\n 198.51.100.99\n }", "unicast_peers = [\"198.51.100.99\"]");
    }
    if version == 2 && chance.is() {
        both.put(
            " authentication {\n auth_type AH\n auth_pass key\n }",
            "[vrrp.authentication]\ntype = \"ah\"\npassword = \"key\"",
        );
    }
    both.put("}", "");
}

#[test]
fn what_keepalived_can_express_is_the_same_model() {
    for seed in 0..300 {
        let mut chance = Chance(seed * 7919 + 1);
        let mut both = Both::default();
        both.put(
            "",
            "[[port]]\nname = \"eth0\"\ndevice = \"0000:03:00.0\"\naddresses = [\"198.51.100.200/24\"]\n\
             [[port]]\nname = \"eth1\"\ndevice = \"0000:03:00.1\"\naddresses = [\"10.0.0.254/24\"]",
        );
        for number in 0..chance.below(5) + 1 {
            server(&mut chance, number, &mut both);
        }
        for number in 0..chance.below(3) {
            instance(&mut chance, number, &mut both);
        }
        let Both { theirs, ours } = both;
        let interfaces = ["eth0=0000:03:00.0,198.51.100.200/24", "eth1=0000:03:00.1,10.0.0.254/24"];
        let made = imported_for(&theirs, &interfaces, None).unwrap();
        let wanted = weir_config::parse("ours", &ours);
        let wanted = wanted.unwrap_or_else(|report| panic!("{}\n{ours}", report.render(false))).config;
        assert_eq!(model(&made), wanted, "{theirs}\n{}", made.text);
        contains(&made.report, "left out: 0");
    }
}
