//! Replays recordings of a running kernel's IPVS (`testdata/golden/states`) against the state tables.
//!
//! Every recording is one client with one real server. Around the tables there is only what decides which packet
//! reaches them: whether it opens a connection, and whether it begins one anew on a record that is over.
//!
//! Counts are recorded as differences to those before the first packet. The kernel frees a record that is over by a
//! timer, so it may count as inactive for some steps more; and records of connections before the recording may go while
//! it runs. What is compared therefore is the active count exactly and the inactive one within these bounds.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde_json::Value;
use weir_config::model::{SctpTimeouts, TcpTimeouts};

use super::*;
use crate::wire::sctp::{self as wire, chunk};

/// Seconds by which a listing may be behind the packet before it.
const LATE_SECS: i64 = 2;
/// Connections of before a recording that go while it runs: in no recording more than this.
const EARLIER_GONE_MAX: i64 = 1;
/// The kernel's timeout of UDP.
const UDP_SECS: u32 = 300;

/// One recording's director.
struct Replay {
    protocol: Protocol,
    /// Of the client's packets.
    input: Direction,
    is_sloppy: bool,
    is_secure: bool,
    lifetimes: Lifetimes,
    connection: Option<State>,
    /// How many inactive connections the kernel may count beyond this one: those over but not freed, less those of
    /// before that have gone.
    others_most: i64,
}

impl Replay {
    fn new(recording: &Value) -> Self {
        let sysctl = |name: &str| recording["sysctl"][name].as_u64().unwrap_or_default();
        let mut timeouts =
            Timeouts { tcp: TcpTimeouts::default(), udp: UDP_SECS, sctp: SctpTimeouts::default() };
        for command in recording["cmds"].as_array().expect("a list") {
            set_timeouts(&mut timeouts, command.as_str().expect("a command"));
        }
        Self {
            protocol: match recording["proto"].as_str() {
                Some("tcp") => Protocol::Tcp,
                Some("udp") => Protocol::Udp,
                Some("sctp") => Protocol::Sctp,
                other => panic!("protocol {other:?}"),
            },
            input: match recording["mode"].as_str() {
                Some("nat") => Direction::Input,
                Some("dr") => Direction::InputOnly,
                other => panic!("mode {other:?}"),
            },
            is_sloppy: sysctl("sloppy_tcp") + sysctl("sloppy_sctp") != 0,
            is_secure: sysctl("secure_tcp") == 3,
            lifetimes: Lifetimes::new(&timeouts),
            connection: None,
            others_most: 0,
        }
    }

    /// Takes a packet in and returns whether it belongs to a connection.
    fn packet(&mut self, from_client: bool, packet: u8) -> bool {
        const REUSE_MODE: u8 = 1;
        let Self { protocol, input, .. } = *self;
        let direction = if from_client { input } else { Direction::Output };
        if from_client
            && is_first(protocol, packet)
            && let Some(state) = self.connection
            && is_over(protocol, input, state, REUSE_MODE)
        {
            assert!(!is_active(protocol, state));
            self.connection = None;
            self.others_most += 1;
        }
        if self.connection.is_none() && from_client && opens(protocol, packet, self.is_sloppy) {
            self.connection = Some(State::NONE);
        }
        self.connection =
            self.connection.map(|state| next(protocol, direction, packet, state, self.is_secure));
        self.connection.is_some()
    }

    /// Takes one recorded step and says what differs, if anything does.
    fn step(&mut self, step: &Value) -> Result<(), String> {
        let from_client = step["from"] == "client";
        let packet = flags_of(self.protocol, step["pkt"].as_str().expect("a packet"));
        let passes = self.packet(from_client, packet);
        // A stray client's segment may be answered to the client; only a connection leads it to the real server.
        let reached_server = step["out"].as_array().is_some_and(|out| out.iter().any(|port| port == "r0"));
        if from_client && passes != reached_server {
            return Err(format!("passed on: {passes}"));
        }
        let Some(state) = self.connection else {
            let inactive = step["inact_delta"].as_i64().unwrap_or_default();
            let is_none = step["state"].is_null() && step["active_delta"] == 0 && self.counts(0, inactive);
            return if is_none { Ok(()) } else { Err("no connection".into()) };
        };
        let name = name(self.protocol, state);
        if step["state"] != name {
            return Err(format!("state {name}"));
        }
        let lifetime = i64::from(self.lifetimes.of(self.protocol, state));
        let left = step["expires_s"].as_i64().unwrap_or_default();
        if !(lifetime - LATE_SECS..=lifetime).contains(&left) {
            return Err(format!("lifetime {lifetime}"));
        }
        let active = i64::from(is_active(self.protocol, state));
        if step["active_delta"] != active
            || !self.counts(1 - active, step["inact_delta"].as_i64().unwrap_or_default())
        {
            return Err(format!("active {active}, at most {} others inactive", self.others_most));
        }
        Ok(())
    }

    /// Whether the kernel's count of inactive connections can be right when this one adds `own`. One that is gone does
    /// not come back.
    fn counts(&mut self, own: i64, recorded: i64) -> bool {
        let others = recorded - own;
        let fits = (-EARLIER_GONE_MAX..=self.others_most).contains(&others);
        self.others_most = others;
        fits
    }
}

/// `ipvsadm --set tcp tcpfin udp`; 0 leaves a timeout as it is.
fn set_timeouts(timeouts: &mut Timeouts, command: &str) {
    let seconds = command.strip_prefix("--set ").expect("no other command is recorded");
    let seconds: Vec<u32> = seconds.split(' ').map(|seconds| seconds.parse().expect("seconds")).collect();
    let fields = [&mut timeouts.tcp.established, &mut timeouts.tcp.fin_wait, &mut timeouts.udp];
    for (field, &seconds) in fields.into_iter().zip(&seconds) {
        if seconds != 0 {
            *field = seconds;
        }
    }
}

/// What parsing would say about the recorded packet: letters of TCP's flags, names of SCTP's chunks joined by `+`.
fn flags_of(protocol: Protocol, packet: &str) -> u8 {
    match protocol {
        Protocol::Tcp => packet.chars().fold(0, |segment, letter| segment | 1 << letter_bit(letter)),
        Protocol::Udp => 0,
        Protocol::Sctp => {
            let chunks = packet.split('+').flat_map(|name| [chunk_of(name), 0, 0, wire::CHUNK_LEN as u8]);
            wire::event(&chunks.collect::<Vec<u8>>()) as u8
        }
    }
}

fn letter_bit(letter: char) -> usize {
    "FSRPAU".find(letter).expect("a letter of the recordings")
}

fn chunk_of(name: &str) -> u8 {
    match name {
        "DATA" => chunk::DATA,
        "INIT" => chunk::INIT,
        "INIT_ACK" => chunk::INIT_ACK,
        "SACK" => chunk::SACK,
        "HEARTBEAT" => chunk::HEARTBEAT,
        "HEARTBEAT_ACK" => chunk::HEARTBEAT_ACK,
        "ABORT" => chunk::ABORT,
        "SHUTDOWN" => chunk::SHUTDOWN,
        "SHUTDOWN_ACK" => chunk::SHUTDOWN_ACK,
        "ERROR" => chunk::ERROR,
        "COOKIE_ECHO" => chunk::COOKIE_ECHO,
        "COOKIE_ACK" => chunk::COOKIE_ACK,
        "SHUTDOWN_COMPLETE" => chunk::SHUTDOWN_COMPLETE,
        other => panic!("chunk {other}"),
    }
}

/// The recorded files, in order of their names.
fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/golden/states");
    let entries = folder.read_dir().expect("the recordings are there");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    files.sort();
    files
}

fn recordings(path: &Path) -> impl Iterator<Item = Value> {
    let file = File::open(path).expect("readable");
    let lines = BufReader::new(GzDecoder::new(file)).lines();
    lines.map(|line| serde_json::from_str(&line.expect("text")).expect("JSON"))
}

#[test]
#[allow(clippy::print_stdout)]
fn every_recorded_connection_goes_through_the_kernels_states() {
    let (mut compared, mut steps_compared, mut differing) = (0, 0, Vec::new());
    for path in files() {
        let (mut connections, mut steps) = (0, 0);
        for recording in recordings(&path) {
            let mut replay = Replay::new(&recording);
            for step in recording["steps"].as_array().expect("a list") {
                steps += 1;
                if let Err(difference) = replay.step(step) {
                    differing.push(format!("{} {}: {step}: {difference}", path.display(), connections + 1));
                    break;
                }
            }
            connections += 1;
        }
        let file = path.file_name().unwrap_or_default().display();
        println!("{file}: {connections} connections, {steps} steps compared");
        compared += connections;
        steps_compared += steps;
    }
    println!(
        "{compared} connections, {steps_compared} steps compared, {} connections differ",
        differing.len()
    );
    assert!(compared != 0 && differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn a_letter_more_or_less_in_a_recording_would_be_noticed() {
    let path = files().into_iter().find(|path| path.ends_with("tcp-nat.jsonl.gz")).expect("it is there");
    let mut recording = recordings(&path).next().expect("one connection");
    for (field, wrong) in [
        ("state", "CLOSE".into()),
        ("expires_s", 57.into()),
        ("active_delta", 0.into()),
        ("inact_delta", 1.into()),
    ] {
        let right = std::mem::replace(&mut recording["steps"][0][field], wrong);
        assert!(Replay::new(&recording).step(&recording["steps"][0]).is_err(), "{field}");
        recording["steps"][0][field] = right;
    }
    assert_eq!(Replay::new(&recording).step(&recording["steps"][0]), Ok(()));
}
