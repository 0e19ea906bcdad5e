//! Against recordings: sessions of ipvsadm 1.31 with a running kernel (`kernel`), and command lines of all kinds given to the same
//! program with a stand-in for the kernel (`recorded`). Everything is compared to the letter, with [`Model`] in the place of weir.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use flate2::read::GzDecoder;
use serde::Deserialize;
use weir_api::connections::Connection;
use weir_api::virtual_servers::{Served, VirtualServer};

use super::command::Protocol;
use super::names::{Names, Services};
use super::*;
use crate::model::Model;

#[derive(Deserialize)]
struct Session {
    session: String,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    /// As one line, or as words.
    cmd: Option<String>,
    args: Option<Vec<String>>,
    stdin: Option<String>,
    rc: u8,
    stdout: String,
    stderr: String,
}

impl Step {
    fn arguments(&self) -> Vec<String> {
        match (&self.args, &self.cmd) {
            (Some(args), _) => args.clone(),
            (None, Some(line)) => line.split(' ').skip(1).map(str::to_owned).collect(),
            (None, None) => panic!("a step without a command"),
        }
    }
}

fn sessions(name: &str) -> Vec<Session> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/ipvsadm").join(name);
    let lines = BufReader::new(GzDecoder::new(File::open(path).unwrap())).lines();
    lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
}

/// The names that the recordings have.
struct Book(Services);

impl Book {
    fn new() -> Self {
        Self(Services::parse(
            "tcpmux 1/tcp\ndomain 53/tcp\ndomain 53/udp\ntftp 69/udp\nhttp 80/tcp\nkerberos 88/tcp\nhttp-alt 8080/tcp\n",
        ))
    }
}

impl Names for Book {
    fn host(&self, address: IpAddr) -> Option<String> {
        (address == Ipv4Addr::LOCALHOST).then(|| "localhost".to_owned())
    }
    fn address(&self, name: &str) -> Option<Ipv4Addr> {
        (name == "localhost").then_some(Ipv4Addr::LOCALHOST)
    }
    fn service(&self, port: u16, protocol: Protocol) -> Option<String> {
        self.0.name(port, protocol)
    }
    fn port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        self.0.port(name, protocol)
    }
}

/// A weir after these commands.
pub(crate) fn after(commands: &[&str]) -> Model {
    let mut model = Model::default();
    for command in commands {
        let (status, _, err) = run(&mut model, &words(command), "");
        assert_eq!((status, err.as_str()), (0, ""), "{command}");
    }
    model
}

/// What a run with these arguments returns and prints.
fn run(model: &mut Model, arguments: &[String], stdin: &str) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = Ipvsadm {
        weir: model,
        names: &Book::new(),
        input: &mut stdin.as_bytes(),
        out: &mut out,
        err: &mut err,
    }
    .run(arguments);
    (status, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

/// The place in a file of rules is weirctl's own addition.
fn without_places(err: &str) -> String {
    err.split_inclusive('\n').filter(|line| !line.starts_with("ipvsadm: that was line ")).collect()
}

/// Steps whose recorded answer weir does not give, each with the reason.
const OTHERWISE: &[(&str, &str, &str)] = &[
    ("weights", "-w 65536", "weights are 0 to 65535, as ipvsadm's manual says"),
    ("weights", "-Ln", "the same"),
    ("daemon", "-daemon", "weir synchronises connections by its file"),
];

fn is_otherwise(session: &str, arguments: &[String]) -> bool {
    let line = arguments.join(" ");
    OTHERWISE.iter().any(|(name, part, _)| *name == session && line.contains(part))
}

/// Plays a recording, and returns everything that differs.
fn play(session: &Session) -> Vec<String> {
    let mut model = Model::default();
    let mut differences = Vec::new();
    for step in &session.steps {
        let arguments = step.arguments();
        feed(&mut model, step);
        let (status, out, err) = run(&mut model, &arguments, step.stdin.as_deref().unwrap_or_default());
        let err = without_places(&err);
        if (status, out.as_str(), err.as_str()) != (step.rc, &step.stdout, &step.stderr)
            && !is_otherwise(&session.session, &arguments)
        {
            differences.push(format!(
                "{}: ipvsadm {arguments:?} {:?}\nrecorded {}\n{}{}\nis {status}\n{out}{err}\n",
                session.session, step.stdin, step.rc, step.stdout, step.stderr
            ));
        }
    }
    differences
}

/// Gives the model the connections that a recorded listing shows, or the counts of one.
fn feed(model: &mut Model, step: &Step) {
    let mut lines = step.stdout.lines();
    match lines.next() {
        Some("IPVS connection entries") => model.connections = lines.skip(1).map(connection).collect(),
        Some(title) if title.starts_with("IP Virtual Server") && step.stdout.contains("Forward Weight") => {
            for line in lines.filter_map(|line| line.strip_prefix("  -> ")) {
                let words: Vec<&str> = line.split_whitespace().collect();
                let Ok(socket) = words[0].parse::<SocketAddr>() else { continue };
                let servers = model.services.iter_mut().flat_map(|service| &mut service.real_servers);
                for server in servers.filter(|it| SocketAddr::new(it.address, it.port) == socket) {
                    server.active = words[3].parse().unwrap();
                    server.inactive = words[4].parse().unwrap();
                }
            }
        }
        _ => {}
    }
}

fn connection(line: &str) -> Connection<'static> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [protocol, expires, state, client, virtual_server, real_server] = words[..] else {
        panic!("no connection: {line}");
    };
    let socket = |text: &str| -> std::net::SocketAddrV4 { text.parse().unwrap() };
    let (client, virtual_server, real_server) = (socket(client), socket(virtual_server), socket(real_server));
    let (minutes, seconds) = expires.split_once(':').unwrap();
    Connection {
        worker: 0,
        protocol: protocol.to_lowercase().into(),
        client: (*client.ip()).into(),
        client_port: client.port(),
        virtual_server: "".into(),
        address: Some((*virtual_server.ip()).into()),
        port: virtual_server.port(),
        real_server: (*real_server.ip()).into(),
        real_server_port: real_server.port(),
        state: state.to_owned().into(),
        expires: minutes.parse::<u32>().unwrap() * 60 + seconds.parse::<u32>().unwrap() + 1,
        persistent: false,
        persistence_engine: None,
        persistence_data: None,
    }
}

fn all_are_answered(name: &str, at_least: usize) {
    let sessions = sessions(name);
    let steps: usize = sessions.iter().map(|session| session.steps.len()).sum();
    assert!(steps >= at_least, "{steps} steps in {name}");
    let differences: Vec<String> = sessions.iter().flat_map(play).collect();
    let shown = differences.iter().take(20).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(differences.is_empty(), "{} of {steps} steps differ\n{shown}", differences.len());
}

#[test]
fn sessions_with_a_kernel_are_answered_to_the_letter() {
    all_are_answered("kernel.jsonl.gz", 150);
}

#[test]
fn command_lines_of_all_kinds_are_answered_to_the_letter() {
    all_are_answered("recorded.jsonl.gz", 1_450);
}

#[test]
fn what_is_answered_otherwise_is_in_the_recordings() {
    let sessions = sessions("kernel.jsonl.gz");
    let used: BTreeSet<_> = OTHERWISE
        .iter()
        .filter(|(name, part, _)| {
            let of_name = sessions.iter().filter(|session| session.session == *name);
            of_name.flat_map(|session| &session.steps).any(|step| step.arguments().join(" ").contains(part))
        })
        .collect();
    assert_eq!(used.len(), OTHERWISE.len());
}

/// What `-S` prints makes the same table again, whatever is in it.
#[test]
fn saved_rules_restore_what_was_saved() {
    for session in sessions("recorded.jsonl.gz").iter().chain(&sessions("kernel.jsonl.gz")) {
        let mut model = Model::default();
        for step in &session.steps {
            run(&mut model, &step.arguments(), step.stdin.as_deref().unwrap_or_default());
        }
        let save = ["-Sn".to_owned()];
        // ipvsadm takes marks from 2^31 on for negative, and does not read those.
        model
            .services
            .retain(|service| !matches!(service.traffic, Served::Mark { mark, .. } if mark >> 31 == 1));
        let (_, rules, _) = run(&mut model, &save, "");
        let mut other = Model::default();
        let (status, _, err) = run(&mut other, &["-R".to_owned()], &rules);
        assert_eq!((status, err.as_str()), (0, ""), "{}: {rules}", session.session);
        assert_eq!(run(&mut other, &save, "").1, rules, "{}", session.session);
    }
}

#[test]
fn the_place_of_a_refused_rule_is_said() {
    let rules = "-A -t 192.0.2.1:80\n\n-A -t 192.0.2.1:80\n-A -t 192.0.2.1:81\n-A -x\n-A -t 192.0.2.1:82\n";
    let mut model = Model::default();
    let (status, _, err) = run(&mut model, &["-R".to_owned()], rules);
    assert_eq!(status, 0);
    let expected = "Service already exists\n\
        ipvsadm: that was line 3 of the rules, `-A -t 192.0.2.1:80`; carried out before it: 1; the lines behind it were tried\n\
        -x: missing argument\n\
        ipvsadm: that was line 5 of the rules, `-A -x`; carried out before it: 2; the lines behind it were tried\n";
    assert_eq!(err, expected);
}

#[test]
fn ipvsadm_restore_replaces_all_or_nothing() {
    let restore = |model: &mut Model, rules: &str| {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let status = Ipvsadm {
            weir: model,
            names: &Book::new(),
            input: &mut rules.as_bytes(),
            out: &mut out,
            err: &mut err,
        }
        .replace_all();
        (status, String::from_utf8(err).unwrap())
    };
    let saved = |model: &mut Model| run(model, &["-Sn".to_owned()], "").1;
    let mut model = after(&["-A -t 192.0.2.1:80", "-a -t 192.0.2.1:80 -r 10.99.0.11:80 -m"]);
    let before = saved(&mut model);
    for (rules, status, said) in [
        (
            "-A -t 192.0.2.9:80\n\n-A -t 192.0.2.9:80\n",
            255,
            "Service already exists\nipvsadm: that was line 3",
        ),
        ("-A -t 192.0.2.9:80\n-A -t 192.0.2.9\n", 2, "Zero port specified"),
        ("-A -t 192.0.2.9:80\n-L\n", 2, "such a command is no rule"),
        ("-A -t 192.0.2.9:80 -s best\n", 255, "Scheduler or persistence engine not found"),
    ] {
        let (ended, err) = restore(&mut model, rules);
        assert_eq!(ended, status, "{err}");
        assert!(err.starts_with(said) && err.ends_with("; nothing has changed\n"), "{err}");
        assert_eq!(saved(&mut model), before, "{rules}");
    }
    let rules = "-A -t 192.0.2.1:80 -s rr\n-A -u 192.0.2.1:53 -s wlc\n";
    assert_eq!(restore(&mut model, &format!("# saved\n{rules}")), (0, String::new()));
    assert_eq!(saved(&mut model), rules);
}

#[test]
fn large_figures_are_cut_to_their_column() {
    let show = |figure: u64, arguments: &str| {
        let mut model = Model::default();
        run(&mut model, &words("-A -t 192.0.2.1:80"), "");
        run(&mut model, &words("-a -t 192.0.2.1:80 -r 10.99.0.11:80 -m"), "");
        let service: &mut VirtualServer<'static> = &mut model.services[0];
        service.carried.total.in_bytes = figure;
        service.real_servers[0].carried.per_second.connections = figure;
        let (_, out, _) = run(&mut model, &words(arguments), "");
        out.lines().skip(3).map(str::to_owned).collect::<Vec<_>>()
    };
    let line = |figures: &str| format!("TCP  192.0.2.1:80                {figures}");
    for (figure, shown) in [
        (99_999_999, "        0        0        0 99999999        0"),
        (100_000_000, "        0        0        0  100000K        0"),
        (999_999_999, "        0        0        0  999999K        0"),
        (1_000_000_000, "        0        0        0    1000M        0"),
        (99_999_999_999, "        0        0        0   99999M        0"),
        (100_000_000_000, "        0        0        0     100G        0"),
        (u64::MAX, "        0        0        018446744T        0"),
    ] {
        assert_eq!(show(figure, "-Ln --stats")[0], line(shown), "{figure}");
    }
    assert_eq!(
        show(123_456_789, "-Ln --stats --exact")[0],
        line("        0        0        0 123456789        0")
    );
    // Rates of real servers keep all their digits, but for bytes.
    let rate = "  -> 10.99.0.11:80                123456789        0        0        0        0";
    assert_eq!(show(123_456_789, "-Ln --rate")[1], rate);
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

#[test]
fn help_and_version_need_no_weir() {
    let mut model = Model::default();
    let (status, out, _) = run(&mut model, &words("-v"), "");
    assert_eq!((status, out.starts_with("ipvsadm v1.31 ")), (0, true));
    let (status, out, err) = run(&mut model, &words("--help"), "");
    assert_eq!((status, out.as_str(), err.as_str()), (0, help::TEXT, ""));
    assert!(out.lines().all(|line| line.chars().count() <= 120), "{out}");
}

/// In the order of ipvsadm's own print_service_entry.
#[test]
fn a_persistence_engine_is_set_saved_listed_and_taken_away() {
    let line = "-A -u 192.0.2.1:5060 -s rr -p 60 -M 0.0.0.0 --pe sip -o";
    let mut model = after(&[line]);
    assert_eq!(run(&mut model, &words("-Sn"), "").1, format!("{line}\n"));
    let listed = run(&mut model, &words("-Ln"), "").1;
    assert!(listed.ends_with("UDP  192.0.2.1:5060 rr persistent 60 mask 0.0.0.0 pe sip ops\n"), "{listed}");
    assert_eq!(run(&mut model, &words("-E -u 192.0.2.1:5060 -s rr -p 60"), "").0, 0);
    assert_eq!(run(&mut model, &words("-Sn"), "").1, "-A -u 192.0.2.1:5060 -s rr -p 60\n");
    assert_eq!(run(&mut model, &words("-E -u 192.0.2.1:5060 -s rr -p 60 --pe other"), "").0, 255);
    let client = "UDP 00:59 NONE 0.0.0.0:0 192.0.2.1:5060 10.0.0.11:5060";
    let it = Connection {
        persistence_engine: Some("sip".into()),
        persistence_data: Some("00ff".into()),
        ..connection(client)
    };
    let names = Book::new();
    for (persistent, end) in
        [(true, "10.0.0.11:5060     sip              00ff\n"), (false, " 10.0.0.11:5060\n")]
    {
        let format = Format { numeric: true, persistent, ..Format::default() };
        let line = Show { names: &names, format }.connection(&it);
        assert!(line.ends_with(end), "{line}");
    }
}
