//! What holds for every text: no panic, and an answer that is consistent.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // helpers of tests, as in tests themselves

use std::collections::HashSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use bolero::check;
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
    let started = Instant::now();
    let loaded = weir_config::parse("large.toml", &text).unwrap_or_else(|report| panic!("{report}"));
    let took = started.elapsed();
    assert_eq!(loaded.config.virtual_servers.iter().map(|vs| vs.real_servers.len()).sum::<usize>(), 100_000);
    // Seconds in a debug build on a busy machine; a check of each with each would take minutes.
    assert!(took < Duration::from_secs(60), "{took:?}");

    // As many problems as there are tables, and still an answer.
    let started = Instant::now();
    let report = weir_config::parse("large.toml", &text.replace("weight = 3", "weight = -3")).unwrap_err();
    assert_eq!(report.errors(), 100_000);
    assert!(report.render(false).len() < 1_000_000);
    let took = started.elapsed();
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
    let started = Instant::now();
    examine(&text);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(60), "{took:?}");
}

#[test]
fn texts_that_are_no_toml_take_time_in_proportion() {
    let one_line = |fragment: &str| fragment.repeat((1 << 20) / fragment.len());
    let started = Instant::now();
    for fragment in ["=", "[", "a ", "\"", "a=b ", "\0", "[[port]]", "{", "ä", "a=1,", "]\n", "x=\n"] {
        let text = one_line(fragment);
        examine(&text);
        examine(&text.repeat(2));
    }
    // A whole file on one line, wrong in each of its values.
    let ports = "{ name = \"x\", mtu = 1 }, ".repeat(40_000);
    examine(&format!("port = [{ports}]"));
    let took = started.elapsed();
    assert!(took < Duration::from_secs(120), "{took:?}");
}
