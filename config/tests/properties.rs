//! What holds for every text: no panic, and an answer that is consistent.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // helpers of tests, as in tests themselves

use std::collections::HashSet;
use std::fmt::Write as _;
use std::time::Duration;

use bolero::check;
use nix::time::{ClockId, clock_gettime};
use weir_config::model::{Mark, VirtualServer};
use weir_config::report::Severity;

/// Parses, renders in every form, and checks what must hold of the answer.
fn examine(text: &str) {
    match weir_config::parse("fuzz.toml", text) {
        Ok(loaded) => {
            let config = &loaded.config;
            assert_eq!(loaded.warnings.errors(), 0);
            assert!(!config.ports.is_empty());
            assert!(config.routes.iter().all(|route| route.port < config.ports.len()));
            assert!(config.neighbors.iter().all(|neighbor| neighbor.port < config.ports.len()));
            assert!(config.vrrp.iter().all(|vrrp| vrrp.port < config.ports.len()));
            assert!(config.marks.iter().flat_map(Mark::ranges).count() <= Mark::RANGES_MAX);
            let identities: HashSet<_> = config.virtual_servers.iter().map(VirtualServer::identity).collect();
            assert_eq!(identities.len(), config.virtual_servers.len());
            let mut names: Vec<_> = config.virtual_servers.iter().map(|server| &server.name).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), config.virtual_servers.len());
            let _ = loaded.warnings.render(true);
        }
        Err(report) => {
            assert!(report.problems().iter().any(|problem| problem.severity == Severity::Error));
            assert!(report.render(false).contains("error"));
            let _ = report.render(true);
            assert!((1..=report.problems().len()).contains(&report.one_liners().count()));
        }
    }
}

#[test]
fn arbitrary_text_never_panics() {
    check!().for_each(|bytes: &[u8]| examine(&String::from_utf8_lossy(bytes)));
}

/// Whole files of `testdata`, so that a mutation keeps most of the text meaningful.
fn seeds() -> Vec<String> {
    let mut seeds = Vec::new();
    for folder in ["ok", "bad"] {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(folder);
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                seeds.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }
    seeds.sort();
    seeds
}

const FRAGMENTS: [&str; 45] = [
    "",
    "0",
    "-1",
    "1",
    "255",
    "65536",
    "99999999999999999999999999999999999999999",
    "nan",
    "inf",
    "1e400",
    "true",
    "2024-01-01",
    "\"\"",
    "\"",
    "\"\"\"",
    "'",
    "[",
    "]",
    "[]",
    "[[",
    "{}",
    "{ a.b = 1 }",
    "=",
    ".",
    ",",
    "#",
    "\n",
    "\r\n",
    "\t",
    "\0",
    "\u{feff}",
    "ä\u{1f600}",
    "\u{202e}",
    "\n[port]\n",
    "\n[[virtual_server]]\n",
    "\n[[virtual_server.real_server]]\n",
    "\n[[mark]]\n",
    "\n[schedulers]\n",
    "\n[workers]\nidle = \"sleep\"\n",
    "mark = 1\n",
    "\"1-65535\"",
    "\"10.0.0.2\"",
    "\"::\"",
    "\"fe80::1/64\"",
    "x = 1\n",
];

#[test]
fn mutated_files_never_panic() {
    let seeds = seeds();
    check!().with_type::<(u8, [(u16, u8, u8); 4])>().for_each(|(seed, edits)| {
        let mut text = seeds[usize::from(*seed) % seeds.len()].clone();
        for (at, cut, fragment) in edits {
            let start = text.floor_char_boundary(usize::from(*at) % (text.len() + 1));
            let end = text.floor_char_boundary(start + usize::from(*cut) % 24).max(start);
            text.replace_range(start..end, FRAGMENTS[usize::from(*fragment) % FRAGMENTS.len()]);
        }
        examine(&text);
    });
}

/// Keys whose values reports show, as they are. Under every other one, and under what is no key, a value may be a secret.
const HARMLESS: [&str; 181] = [
    "accept",
    "active_key",
    "address",
    "addresses",
    "advertisement_interval",
    "alpha",
    "anti_replay",
    "body_limit",
    "capacity",
    "clamp_mss",
    "concurrent_max",
    "conn_reuse_mode",
    "connect_timeout",
    "connections_min",
    "core_dumps",
    "crash_directory",
    "destination",
    "device",
    "draining_metric",
    "dynamic_weight",
    "ejected_percent_max",
    "ejection",
    "ejection_max",
    "excluded_addresses",
    "expect",
    "expect_body",
    "expect_body_regex",
    "expect_hex",
    "expect_md5",
    "expect_sha256",
    "expire_nodest_conn",
    "expire_quiescent_template",
    "failures_percent",
    "fall",
    "family",
    "file",
    "forwarding",
    "garp_interval",
    "garp_lower_prio_delay",
    "garp_lower_prio_repeat",
    "garp_master_delay",
    "garp_master_refresh",
    "garp_master_refresh_repeat",
    "garp_master_repeat",
    "gateway",
    "gna_interval",
    "group",
    "helo",
    "helper",
    "host",
    "host_interface",
    "hosts",
    "hysteresis",
    "id",
    "idle",
    "init_fail",
    "interface",
    "interval",
    "jitter",
    "keep",
    "keeper",
    "kernel",
    "lblc_expiration",
    "lblcr_expiration",
    "linger",
    "listen",
    "lower_threshold",
    "mac",
    "mark",
    "mbuf_data_bytes",
    "mbufs",
    "method",
    "metric",
    "mh_table_size",
    "mode",
    "mtu",
    "name",
    "nat_icmp_send",
    "omega",
    "on_fail",
    "one_packet",
    "persistence_engine",
    "persistence_netmask",
    "persistence_timeout",
    "pmtu_disc",
    "port",
    "ports",
    "preempt",
    "preempt_delay",
    "priority",
    "proc_directory",
    "process",
    "protocol",
    "protocols",
    "proxy_arp",
    "query",
    "quorum",
    "record",
    "require_reply",
    "response_timeout",
    "retry_interval",
    "rise",
    "rx_queues",
    "schedule_icmp",
    "scheduler",
    "scheduler_flags",
    "script_group",
    "script_user",
    "sctp_closed",
    "sctp_cookie",
    "sctp_cookie_echoed",
    "sctp_cookie_replied",
    "sctp_cookie_sent",
    "sctp_cookie_wait",
    "sctp_established",
    "sctp_init",
    "sctp_init1",
    "sctp_none",
    "sctp_rejected",
    "sctp_shutdown_ack_sent",
    "sctp_shutdown_received",
    "sctp_shutdown_sent",
    "secure_tcp",
    "sequence_file",
    "sleep_max_us",
    "sloppy_sctp",
    "sloppy_tcp",
    "socket",
    "sorry_mode",
    "source",
    "source_address",
    "sources",
    "startup_delay",
    "status",
    "sync_group",
    "table",
    "tcp_close",
    "tcp_close_wait",
    "tcp_established",
    "tcp_fin_wait",
    "tcp_last_ack",
    "tcp_listen",
    "tcp_none",
    "tcp_syn_recv",
    "tcp_syn_sent",
    "tcp_synack",
    "tcp_time_wait",
    "templates",
    "time_window",
    "timeout",
    "tls_ca",
    "tls_cert",
    "tls_certificate",
    "tls_key",
    "tls_pin",
    "tls_server_name",
    "tls_timeout",
    "tls_verify",
    "ttl_max",
    "ttl_min",
    "tunnel",
    "tunnel_checksum",
    "tunnel_port",
    "type",
    "udp",
    "unicast_peers",
    "upper_threshold",
    "user",
    "v3_checksum_as_v2",
    "version",
    "via",
    "vips",
    "virtual_mac",
    "virtual_router_id",
    "vlan",
    "virtual_server",
    "vrrp_notify_fifo",
    "warmup",
    "weight",
    "weight_file",
    "window",
];

/// A string of a file: where its content is, and whether a report may show it.
fn strings(text: &str) -> Vec<(std::ops::Range<usize>, bool)> {
    let mut found = Vec::new();
    let (mut start, mut key) = (0, String::new());
    for line in text.split_inclusive('\n') {
        // In what stands outside of quotes is the key; what is in them is the string.
        let mut at = start;
        for (index, part) in line.split('"').enumerate() {
            let range = at..at + part.len();
            at = range.end + 1;
            if index % 2 == 1 {
                found.push((range, HARMLESS.contains(&key.as_str())));
            } else if part.contains('#') {
                break;
            } else if let Some(own) = key_before(part) {
                key = own.to_owned();
            }
        }
        start += line.len();
    }
    found
}

/// The key of the last equals sign.
fn key_before(text: &str) -> Option<&str> {
    let (before, _) = text.rsplit_once('=')?;
    before.trim_end().rsplit(|c: char| c.is_whitespace() || "{,.".contains(c)).next()
}

#[test]
fn no_report_shows_a_value_that_may_be_a_secret() {
    const PASSWORD: &str = "hunter2Wq7Zx";
    let seeds: Vec<String> = seeds().into_iter().filter(|seed| seed.len() < 6000).collect();
    check!().with_type::<(u16, u16, u8, [(u16, u8, u8); 2])>().for_each(|(seed, place, form, faults)| {
        let seed = &seeds[usize::from(*seed) % seeds.len()];
        let mut places = strings(seed);
        places.retain(|(_, is_harmless)| !is_harmless);
        if places.is_empty() {
            return;
        }
        let (range, _) = places[usize::from(*place) % places.len()].clone();
        let value = match form / 8 % 8 {
            4 => format!("/usr/lib/chk -p {PASSWORD} --db=main"),
            5 => format!("/x?{PASSWORD}=1"),
            6 => format!("/x?a={PASSWORD}=b, c"),
            7 => format!("a={PASSWORD}"),
            0 => format!("Authorization: {PASSWORD}"),
            1 => format!("/status?key={PASSWORD}"),
            2 => format!("https://admin:{PASSWORD}@10.0.0.1/"),
            _ => PASSWORD.to_owned(),
        };
        let begin = seed[..range.start].rfind('\n').map_or(0, |at| at + 1);
        let end = range.end + seed[range.end..].find('\n').unwrap_or(seed.len() - range.end);
        let (mut before, mut after) = (seed[begin..range.start].to_owned(), seed[range.end..end].to_owned());
        // Without its quotes, or with those of a word processor.
        let is_bare = form & 3 > 1 && before.ends_with('"') && after.starts_with('"');
        if is_bare {
            let (open, close) = if form & 1 == 0 { ("", "") } else { ("“", "”") };
            before.replace_range(before.len() - 1.., open);
            after.replace_range(..1, close);
        }
        // Two more could make another key of it whose value is shown.
        for (at, cut, fragment) in &faults[usize::from(is_bare)..] {
            let side = if at & 1 == 0 { &mut before } else { &mut after };
            let from = side.floor_char_boundary(usize::from(at / 2) % (side.len() + 1));
            let to = side.floor_char_boundary(from + usize::from(cut % 4)).max(from);
            let fault = FAULTS[usize::from(*fragment) % FAULTS.len()];
            // A line break in front of it may make `host` of `virtualhost`, whose value is shown.
            if at & 1 == 1 || !fault.contains('\n') {
                side.replace_range(from..to, fault);
            }
        }
        // `quorum` that was `quorum_up` has a value that is shown.
        let word = || before.trim_start().split(|c: char| !c.is_alphanumeric() && c != '_').next();
        if key_before(&before).or_else(word).is_some_and(|key| HARMLESS.contains(&key)) {
            return;
        }
        let line = format!("{before}{value}{after}");
        // Twice in half of the cases: then TOML has something to say about it.
        let line = if form & 4 == 0 { line } else { format!("{line}\n{line}") };
        let text = format!("{}{line}{}", &seed[..begin], &seed[end..]);
        let report = weir_config::parse("t", &text).map_or_else(|report| report, |loaded| loaded.warnings);
        let lines = report.one_liners().map(|(_, line)| line);
        for said in lines.chain([report.render(false)]) {
            assert!(!said.contains(PASSWORD), "{said}\n---- of\n{line}");
        }
    });
}

/// What hands do to a line.
const FAULTS: [&str; 28] = [
    "", "", "", "", "x", "_", "-", " ", "\t", "=", ".", ",", ":", "#", "\"", "'", "“", "”", "\"\"\"", "[",
    "]", "[[", "{", "}", "1", "true", "\n", "x = 1\n",
];

#[test]
fn values_of_every_type_under_every_key_never_panic() {
    let values =
        ["1", "-1.5", "true", "\"x\"", "[]", "[1]", "{}", "[[1]]", "1979-05-27T07:32:00Z", "\"10.0.0.9\""];
    for seed in seeds() {
        let keys: Vec<&str> =
            seed.lines().filter_map(|line| line.split_once('=')).map(|(key, _)| key).collect();
        for (index, key) in keys.iter().enumerate() {
            let value = values[index % values.len()];
            let text = seed.replacen(&format!("{key}="), &format!("{key}= {value} #"), 1);
            examine(&text);
        }
    }
}

#[test]
fn a_hundred_thousand_real_servers_take_time_in_proportion() {
    let mut text = String::from(
        "[[port]]\nname = \"lan\"\ndevice = \"net_null0\"\naddresses = [\"10.0.0.1/8\"]\n\
         [[route]]\ndestination = \"0.0.0.0/0\"\ngateway = \"10.0.0.2\"\n",
    );
    for server in 0..10_000 {
        let (high, low) = (server / 250, server % 250 + 1);
        writeln!(
            text,
            "[[virtual_server]]\nname = \"vs-{server}\"\naddress = \"172.16.{high}.{low}\"\nport = 80\n\
             forwarding = \"nat\"\nscheduler = \"wrr\""
        )
        .unwrap();
        for real_server in 0..10 {
            let (high, low) = (server % 250, server / 250 + 1);
            writeln!(
                text,
                "[[virtual_server.real_server]]\naddress = \"10.{}.{high}.{low}\"\nport = 8080\nweight = 3",
                real_server + 1
            )
            .unwrap();
        }
    }
    let started = cpu_time();
    let loaded = weir_config::parse("large.toml", &text).unwrap_or_else(|report| panic!("{report}"));
    let took = cpu_time() - started;
    assert_eq!(loaded.config.virtual_servers.iter().map(|vs| vs.real_servers.len()).sum::<usize>(), 100_000);
    // Seconds in a debug build; a check of each with each would take minutes.
    assert!(took < Duration::from_secs(60), "{took:?}");

    // As many problems as there are tables, and still an answer.
    let started = cpu_time();
    let report = weir_config::parse("large.toml", &text.replace("weight = 3", "weight = -3")).unwrap_err();
    assert_eq!(report.errors(), 100_000);
    assert!(report.render(false).len() < 1_000_000);
    let took = cpu_time() - started;
    assert!(took < Duration::from_secs(90), "{took:?}");
}

#[test]
fn as_many_marks_as_there_may_be_take_seconds() {
    let mut text = String::from(
        "[[port]]\nname = \"lan\"\ndevice = \"net_null0\"\naddresses = [\"10.0.0.1/8\"]\n\
         [[route]]\ndestination = \"0.0.0.0/0\"\ngateway = \"10.0.0.2\"\n",
    );
    for mark in 1..=1024 {
        let (net, port) = (mark / 256, 1000 + mark);
        writeln!(
            text,
            "[[mark]]\nmark = {mark}\naddresses = [\"172.16.{net}.0/24\"]\nports = [\"{port}-{}\"]\n\
             [[virtual_server]]\nname = \"mark-{mark}\"\nmark = {mark}",
            port + 1
        )
        .unwrap();
    }
    for server in 0..10_000 {
        let (high, low) = (server / 250, server % 250 + 1);
        writeln!(
            text,
            "[[virtual_server]]\nname = \"vs-{server}\"\naddress = \"172.16.{high}.{low}\"\nport = 80"
        )
        .unwrap();
    }
    let started = cpu_time();
    examine(&text);
    let took = cpu_time() - started;
    assert!(took < Duration::from_secs(60), "{took:?}");
}

/// What this thread has had of a processor: a busy machine makes that no longer.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

/// Four times as much of the same takes little more than four times as long, good or bad.
#[test]
fn long_lists_take_time_in_proportion() {
    const PORT: &str = "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [\"10.0.0.2/8\"]\n";
    const SERVER: &str = "[[virtual_server]]\nname = \"web\"\naddress = \"10.0.9.1\"\nport = 80\n";
    let list = |count: usize, element: &str| format!("[{}]\n", format!("{element}, ").repeat(count));
    let each = |count: usize, of: fn(usize) -> String| (0..count).map(of).collect::<String>();
    let check = |count, key: &str, element: &str| {
        format!(
            "{PORT}{SERVER}health_check = {{ type = \"https\", {key} = {} }}\n",
            list(count, element).trim_end()
        )
    };
    type Text<'a> = Box<dyn Fn(usize) -> String + 'a>;
    let texts: [(&str, Text<'_>); 9] = [
        (
            "ports of a mark",
            Box::new(|count| {
                format!(
                    "{PORT}[[mark]]\nmark = 7\naddresses = [\"192.0.2.1\"]\nports = {}",
                    list(count, "\"x\"")
                )
            }),
        ),
        (
            "scheduler flags",
            Box::new(|count| format!("{PORT}{SERVER}scheduler_flags = {}", list(count, "\"mh-port\""))),
        ),
        ("fingerprints", Box::new(|count| check(count, "tls_pin", "\"aa\""))),
        ("header fields", Box::new(|count| check(count, "request_header", "\"x\""))),
        (
            "sources",
            Box::new(|count| {
                let sources = list(count, "\"2001:db8::/32\"");
                format!(
                    "{PORT}[[mark]]\nmark = 7\naddresses = {}sources = {sources}",
                    list(count, "\"192.0.2.1\"")
                )
            }),
        ),
        (
            "unknown keys",
            Box::new(|count| format!("{PORT}[http]\n{}", each(count, |it| format!("k{it} = 1\n")))),
        ),
        (
            "names that VRRP tracks",
            Box::new(|count| {
                let servers = each(count, |it| format!("[[virtual_server]]\nname = \"s{it}\"\n"));
                let tracks = each(count, |it| format!("[[vrrp.track]]\nvirtual_server = \"t{it}\"\n"));
                format!("{PORT}{servers}[[vrrp]]\nname = \"vi\"\n{tracks}")
            }),
        ),
        (
            "proxy ARP",
            Box::new(|count| {
                let own = each(count, |it| format!("\"10.1.{}.{}/8\", ", it / 250, it % 250 + 1));
                let others = each(count, |it| format!("\"11.1.{}.{}/32\", ", it / 250, it % 250));
                format!(
                    "[[port]]\nname = \"lan\"\ndevice = \"x\"\naddresses = [{own}]\nproxy_arp = [{others}]\n"
                )
            }),
        ),
        (
            "checks",
            Box::new(|count| {
                let real_servers =
                    each(count, |it| format!("{{ address = \"10.1.{}.{}\" }}, ", it / 250, it % 250 + 1));
                let checks = list(count, "{ type = \"tcp\" }");
                format!("{PORT}{SERVER}health_check = {checks}real_server = [{real_servers}]\n")
            }),
        ),
    ];
    let took = |text: String| {
        let started = cpu_time();
        examine(&text);
        cpu_time() - started
    };
    for (what, text) in &texts {
        let (few, many) = (took(text(5_000)), took(text(20_000)));
        assert!(many < few * 8 + Duration::from_secs(3), "{what}: {few:?} and {many:?}");
    }
}

#[test]
fn texts_that_are_no_toml_take_time_in_proportion() {
    let one_line = |fragment: &str| fragment.repeat((1 << 20) / fragment.len());
    let started = cpu_time();
    for fragment in
        ["=", "[", "a ", "\"", "a=b ", "\0", "[[port]]", "{", "ä", "a=1,", "]\n", "x=\n", "a=", "“ "]
    {
        let text = one_line(fragment);
        examine(&text);
        examine(&text.repeat(2));
    }
    // A whole file on one line, wrong in each of its values.
    let ports = "{ name = \"x\", mtu = 1 }, ".repeat(40_000);
    examine(&format!("port = [{ports}]"));
    let took = cpu_time() - started;
    assert!(took < Duration::from_secs(120), "{took:?}");
}
