//! What a kernel's IPVS sent as master: every octet is understood, and written the same way again.

use std::io::Read as _;
use std::path::Path;

use flate2::read::GzDecoder;
use serde_json::Value;
use weir_sync::{Datagram, Entry, Flags, Version, Writer};

/// Ethernet, IPv4 and UDP before a datagram.
const HEADERS: usize = 14 + 20 + 8;
const RECORDINGS: [&str; 4] = ["v0-nat", "v1-dr", "v1-nat", "v1-nat-persist"];

fn recording(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("testdata/{name}.jsonl.gz"));
    let mut text = String::new();
    let file = std::fs::File::open(path).expect("it is there");
    GzDecoder::new(file).read_to_string(&mut text).expect("it is packed");
    serde_json::from_str(&text).expect("JSON")
}

fn datagrams(recording: &Value) -> Vec<Vec<u8>> {
    let phases = recording["phases"].as_array().into_iter().flatten();
    let messages = phases.filter_map(|phase| phase["messages"].as_array()).flatten();
    let octet = |digits: &str| u8::from_str_radix(digits, 16).expect("hexadecimal digits");
    let octets =
        |text: &str| -> Vec<u8> { (0..text.len() / 2).map(|at| octet(&text[2 * at..2 * at + 2])).collect() };
    messages.filter_map(Value::as_str).map(|message| octets(message)[HEADERS..].to_vec()).collect()
}

/// An entry as `/proc/net/ip_vs_conn` has it, without what is left of its time.
fn line(entry: &Entry<'_>) -> String {
    const STATES: [&str; 8] =
        ["NONE", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT", "TIME_WAIT", "CLOSE", "CLOSE_WAIT"];
    let socket = |socket: std::net::SocketAddr| match socket {
        std::net::SocketAddr::V4(it) => format!("{:08X} {:04X}", it.ip().to_bits(), it.port()),
        std::net::SocketAddr::V6(_) => unreachable!("the recordings are of IPv4"),
    };
    let (protocol, state) = match entry.protocol {
        _ if entry.flags.has(Flags::TEMPLATE) => ("TCP", "ASSURED"),
        6 => ("TCP", STATES[usize::from(entry.state)]),
        _ => ("UDP", "UDP"),
    };
    let [client, virtual_server, real] = [entry.client, entry.virtual_server, entry.real_server].map(socket);
    format!("{protocol} {client} {virtual_server} {real} {state}")
}

#[test]
fn every_octet_is_understood_and_written_the_same_way_again() {
    for name in RECORDINGS {
        let recorded = datagrams(&recording(name));
        assert!(!recorded.is_empty(), "{name}");
        for bytes in recorded {
            let datagram = Datagram::read(&bytes).unwrap();
            let version = if name.starts_with("v0") { Version::V0 } else { Version::V1 };
            assert_eq!((datagram.version, datagram.id), (version, 7), "{name}");
            let mut writer = Writer::new(version, 7, bytes.len());
            for entry in datagram.entries() {
                assert!(writer.push(&entry.unwrap()), "{name}");
            }
            assert_eq!(writer.take(), bytes, "{name}");
        }
    }
}

#[test]
fn the_kernels_backup_has_what_stands_in_the_datagrams() {
    for name in RECORDINGS {
        let recording = recording(name);
        let lists = recording["backup_with_services"]["after_each_message"].as_array().unwrap();
        let mut known: Vec<String> = Vec::new();
        for (bytes, list) in datagrams(&recording).iter().zip(lists) {
            for entry in Datagram::read(bytes).unwrap().entries() {
                let line = line(&entry.unwrap());
                let flow = |line: &str| line.split(' ').take(5).collect::<Vec<_>>().join(" ");
                known.retain(|it| flow(it) != flow(&line));
                known.push(line);
            }
            let listed = list.as_array().unwrap().iter().map(|it| it.as_str().unwrap());
            let mut listed: Vec<&str> =
                listed.map(|it| it.rsplit_once(" SYNC").unwrap().0.trim_end()).collect();
            listed.sort_unstable();
            known.sort_unstable();
            if !name.starts_with("v1-nat-persist") {
                assert_eq!(known, listed, "{name}");
            }
            assert!(listed.iter().all(|it| known.contains(&(*it).to_owned())), "{name} {known:?} {listed:?}");
        }
    }
}
