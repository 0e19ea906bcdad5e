//! Whatever of weir's keepalived can express, written as keepalived.conf and imported, is the same.

use std::collections::BTreeMap;
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
    let (protocol, upper) = [("tcp", "TCP"), ("udp", "UDP"), ("sctp", "SCTP")][chance.below(3) as usize];
    let (kind, forwarding) = [("NAT", "nat"), ("DR", "dr"), ("TUN", "tun")][chance.below(3) as usize];
    let scheduler = chance.of(&["rr", "wrr", "lc", "wlc", "sh", "mh", "fo"]);
    let (address, port) = (format!("192.0.2.{}", number + 1), 80 + chance.below(3));
    let is_group = chance.below(4) == 0;
    match is_group {
        true => {
            let range = format!("192.0.2.{}-{}", 100 + 3 * number, 102 + 3 * number);
            let group = format!("virtual_server_group G{number} {{\n{address} {port}\n{range} {port}\n}}");
            let _ = writeln!(both.theirs, "{group}\nvirtual_server group G{number} {{");
        }
        false => {
            let _ = writeln!(both.theirs, "virtual_server {address} {port} {{");
        }
    }
    let before = std::mem::take(&mut both.ours);
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
    if protocol == "udp" && chance.is() {
        both.put("ops", "one_packet = true");
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
        // As many as a quorum is: keepalived lowers others.
        let weight = chance.below(97) + 3;
        both.put(
            &format!(" real_server {address} {port} {{"),
            &format!("[[virtual_server.real_server]]\naddress = \"{address}\"\nport = {port}"),
        );
        both.put(&format!(" weight {weight}"), &format!("weight = {weight}"));
        if chance.is() {
            both.put("notify_up \"/bin/u x\"", "notify_up = [\"/bin/u\", \"x\"]");
        }
        match chance.below(5) {
            0 => both.put("inhibit_on_failure", "on_fail = \"quiesce\""),
            1 => both.put("inhibit_on_failure off", "on_fail = \"remove\""),
            2 if kind == "TUN" => both.put(
                "lvs_method TUN type gue port 6080 csum",
                "forwarding = \"tun\"\ntunnel = \"gue\"\ntunnel_port = 6080\ntunnel_checksum = \"csum\"",
            ),
            3 if kind == "DR" => both.put("lvs_method TUN", "forwarding = \"tun\""),
            _ => {}
        }
        if chance.is() {
            both.put("uthreshold 100\nlthreshold 50", "upper_threshold = 100\nlower_threshold = 50");
        }
        check(chance, delay, both);
        both.put("}", "");
    }
    both.put("}", "");
    let body = std::mem::replace(&mut both.ours, before);
    let others = if is_group { 3 } else { 0 };
    let range = (0..others).map(|it| format!("192.0.2.{}", 100 + 3 * number + it));
    for address in std::iter::once(address).chain(range) {
        let head = format!("name = \"{protocol}-{address}-{port}\"\naddress = \"{address}\"\nport = {port}");
        let _ = writeln!(both.ours, "[[virtual_server]]\n{head}\n{body}");
    }
}

fn check(chance: &mut Chance, delay: u64, both: &mut Both) {
    let (retry, between, limit) = (chance.below(5) + 1, delay + chance.below(5) + 1, chance.below(8) + 1);
    let head = "[virtual_server.real_server.health_check]";
    let times = format!("interval = {delay}.0\nretry_interval = {between}.0\nfall = {}", retry + 1);
    let tries = format!("retry {retry}\ndelay_before_retry {between}");
    let theirs = format!("{tries}\nconnect_timeout {limit}");
    match chance.below(10) {
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
            &format!("MISC_CHECK {{\n{tries}\nmisc_path \"/bin/check x\"\nmisc_timeout 3\nmisc_dynamic\n}}"),
            &format!("{head}\ntype = \"exec\"\n{times}\ntimeout = 3.0\ncommand = [\"/bin/check\", \"x\"]\ndynamic_weight = true"),
        ),
        5 => both.put(
            &format!("SSL_GET {{\n{theirs}\nenable_sni\nvirtualhost h.example\nurl {{\npath /s\nregex ^ok\n}}\n}}"),
            &format!(
                "{head}\ntype = \"https\"\n{times}\ntimeout = {}.0\nconnect_timeout = {limit}.0\ntls_timeout = {limit}.0\nresponse_timeout = {limit}.0\nhost = \"h.example\"\ntls_server_name = \"h.example\"\npath = \"/s\"\nexpect_body_regex = \"^ok\"",
                3 * limit
            ),
        ),
        6 => both.put(
            &format!("SMTP_CHECK {{\n{theirs}\nhelo_name mx.example\nconnect_ip 10.0.0.99\n}}"),
            &format!(
                "{head}\ntype = \"smtp\"\n{times}\ntimeout = {}.0\nconnect_timeout = {limit}.0\nresponse_timeout = {limit}.0\nhelo = \"mx.example\"\naddress = \"10.0.0.99\"",
                2 * limit
            ),
        ),
        7 => both.put(
            &format!("UDP_CHECK {{\n{theirs}\nwarmup 2\npayload aabb\nrequire_reply cc\n}}"),
            &format!("{head}\ntype = \"udp\"\n{times}\ntimeout = {limit}.0\nwarmup = 2.0\nsend_hex = \"aabb\"\nrequire_reply = true\nexpect_hex = \"cc\""),
        ),
        8 => {
            let digest = "0123456789abcdef0123456789abcdef";
            both.put(
                &format!("HTTP_GET {{\n{theirs}\nurl {{\npath /a\nstatus_code 200\n}}\nurl {{\npath /b\ndigest {digest}\n}}\n}}"),
                &format!(
                    "{head}\ntype = \"http\"\n{times}\ntimeout = {}.0\nconnect_timeout = {limit}.0\nresponse_timeout = {limit}.0\nurl = [{{ path = \"/a\", status = [200] }}, {{ path = \"/b\", expect_md5 = \"{digest}\" }}]",
                    4 * limit
                ),
            );
        }
        _ => {}
    }
}

fn instance(chance: &mut Chance, number: u64, is_late: bool, both: &mut Both) {
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
        both.put(
            " unicast_peer {\n 198.51.100.99 min_ttl 250 max_ttl 254\n }",
            "unicast_peers = [\"198.51.100.99\"]\nttl_min = 250\nttl_max = 254",
        );
    }
    if is_late {
        both.put("", "startup_delay = 9.0");
    }
    if chance.is() {
        both.put(
            " notify_master \"/bin/m x\"\n notify /bin/n",
            "notify_master = [\"/bin/m\", \"x\"]\nnotify = [\"/bin/n\"]",
        );
    }
    if chance.is() {
        both.put(
            &format!(" virtual_ipaddress_excluded {{\n 198.51.100.1{id}0/24\n }}"),
            &format!("excluded_addresses = [\"198.51.100.1{id}0\"]"),
        );
    }
    if chance.is() {
        both.put(" mcast_src_ip 198.51.100.200", "source_address = \"198.51.100.200\"");
    }
    if is_late {
        both.put("", "garp_interval = 0.05");
    }
    if number < 2 {
        both.put("", "sync_group = \"S\"");
    }
    if chance.below(3) == 0 {
        let key = "1 hex:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
        let phrase = "9 a-passphrase-of-more-than-thirty-two-bytes";
        both.put(
            &format!(" auth_hmac {{\n key {key}\n key {phrase}\n active_key 9\n mode permissive\n time_window 9\n }}"),
            &format!("[vrrp.auth_hmac]\nkeys = [\"{key}\", \"{phrase}\"]\nactive_key = 9\nmode = \"permissive\"\ntime_window = 9.0"),
        );
    } else if version == 2 && chance.is() {
        both.put(
            " authentication {\n auth_type AH\n auth_pass key\n }",
            "[vrrp.authentication]\ntype = \"ah\"\npassword = \"key\"",
        );
    }
    if chance.is() {
        both.put(" track_interface {\n eth1 weight -20\n }", "[[vrrp.track]]\nport = \"eth1\"\nweight = -20");
    }
    if chance.is() {
        both.put(
            " track_script {\n s weight 5\n }",
            "[[vrrp.track]]\nscript = [\"/bin/s\"]\nname = \"s\"\ninterval = 7.0\nfall = 2\nweight = 5",
        );
    }
    if chance.is() {
        both.put(" track_process {\n p\n }", "[[vrrp.track]]\nprocess = \"bird\"\nquorum = 2\nweight = -9");
    }
    if chance.is() {
        both.put(" track_file {\n f weight 3\n }", "[[vrrp.track]]\nfile = \"/run/f\"\nweight = 3");
    }
    both.put("}", "");
}

#[test]
fn what_keepalived_can_express_is_the_same_model() {
    let mut wanted_words = BTreeMap::new();
    let mut honest = honest::Honest::default();
    for seed in 0..300 {
        let mut chance = Chance(seed * 7919 + 1);
        let mut both = Both::default();
        both.put(
            "",
            "[[port]]\nname = \"eth0\"\ndevice = \"0000:03:00.0\"\naddresses = [\"198.51.100.200/24\"]\nhost_interface = \"weir0\"\n\
             [[port]]\nname = \"eth1\"\ndevice = \"0000:03:00.1\"\naddresses = [\"10.0.0.254/24\"]\nhost_interface = \"weir1\"",
        );
        let _ = writeln!(
            both.theirs,
            "vrrp_script s {{\nscript /bin/s\ninterval 7\nfall 2\n}}\nvrrp_track_process p {{\nprocess bird\nquorum 2\nweight -9\n}}\nvrrp_sync_group S {{\ngroup {{\nVI_1\nVI_2\n}}\nsync_group_tracking_weight\n}}\nvrrp_track_file f {{\nfile /run/f\n}}"
        );
        let is_late = chance.is();
        if is_late {
            both.put(
                "global_defs {\nlvs_timeouts tcp 900 tcpfin 120 udp 300\nvrrp_startup_delay 9\nvrrp_garp_interval 0.05\n}",
                "[connections.timeouts]\ntcp_established = 900\ntcp_fin_wait = 120\nudp = 300",
            );
        }
        if chance.is() {
            both.put(
                "static_routes {\n10.9.0.0/16 via 10.0.0.1 dev eth1\n}",
                "[[route]]\ndestination = \"10.9.0.0/16\"\ngateway = \"10.0.0.1\"",
            );
        }
        for number in 0..chance.below(5) + 1 {
            server(&mut chance, number, &mut both);
        }
        for number in 0..chance.below(3) {
            instance(&mut chance, number, is_late, &mut both);
        }
        let Both { theirs, ours } = both;
        let interfaces = ["eth0=0000:03:00.0,198.51.100.200/24", "eth1=0000:03:00.1,10.0.0.254/24"];
        let made = imported_for(&theirs, &interfaces, None).unwrap();
        let wanted = weir_config::parse("ours", &ours);
        let wanted = wanted.unwrap_or_else(|report| panic!("{}\n{ours}", report.render(false))).config;
        assert_eq!(model(&made), wanted, "{theirs}\n{}", made.text);
        // What no instance tracks is left out, and a group without any.
        let tracked = [" track_script {", " track_process {", " track_file {", "vrrp_instance VI_2"];
        let is_all = tracked.into_iter().all(|word| theirs.contains(word));
        assert!(!is_all || made.report.contains("left out: 0"), "{}", made.report);
        wanted_by(&theirs, &interfaces, &made.text, &mut wanted_words);
        // Without an instance nothing uses what is said for all of them.
        if seed < 20 && theirs.contains("vrrp_instance VI_2") {
            honest.look(&theirs, &interfaces, None);
        }
    }
    honest.end(&[]);
    let idle: Vec<_> =
        wanted_words.iter().filter(|(_, is_wanted)| !**is_wanted).map(|(word, _)| word).collect();
    assert!(idle.is_empty(), "carried, and never to be seen: {idle:?}");
}

/// Which words of a file change what is made of it when their line goes.
fn wanted_by(theirs: &str, interfaces: &[&str], made: &str, words: &mut BTreeMap<String, bool>) {
    let lines: Vec<&str> = theirs.lines().collect();
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| !line.contains(['{', '}'])) {
        let Some(word) = line.split_ascii_whitespace().next() else { continue };
        let is_wanted = words.entry(word.to_owned()).or_default();
        if !*is_wanted {
            let rest = [&lines[..at], &lines[at + 1..]].concat().join("\n");
            *is_wanted = imported_for(&rest, interfaces, None).unwrap().text != made;
        }
    }
}
