//! Replays recordings of a running kernel's IPVS (`testdata/golden/sched`) against the schedulers.
//!
//! The rest of a director is a model here: connections in a map, the TCP states that the recordings use,
//! persistence templates. No time passes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr};

use flate2::read::GzDecoder;
use serde_json::Value;
use weir_config::model::Scheduler as Kind;

use super::director_model::{Director, empty};
use super::{PickKey, ServerDescription, ServiceDescription};

/// A flow as the recordings name it: protocol, client, VIP.
type Flow = (String, IpAddr, u64, IpAddr, u64);

/// TCP states that occur in the recordings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tcp {
    None,
    Established,
    SynSent,
    SynRecv,
    FinWait,
    TimeWait,
    Close,
    CloseWait,
}

/// A connection: which server counts it, and as what.
struct Connection {
    server: u32,
    state: Tcp,
    active: bool,
}

/// Direction of a packet of a NAT connection.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    In,
    Out,
}

/// The state after a packet with these flags.
fn next_state(state: Tcp, way: Way, flags: &str) -> Tcp {
    use Tcp::{Close, CloseWait, Established, FinWait, None, SynRecv, SynSent, TimeWait};
    let event = ['R', 'S', 'F', 'A'].into_iter().find(|&flag| flags.contains(flag));
    match (way, event.unwrap_or('-'), state) {
        (Way::In, 'S', None | FinWait | TimeWait | Close | CloseWait) => SynRecv,
        (Way::In, 'S', SynSent) => Established,
        (Way::In, 'F', None) => Close,
        (Way::In, 'F', Established) => CloseWait,
        (Way::In, 'F', SynRecv | FinWait) => TimeWait,
        (Way::In, 'A', None | SynRecv) => Established,
        (Way::In, 'R', None | Established | SynSent | FinWait | TimeWait | CloseWait) => Close,
        (Way::Out, 'S', None | FinWait | TimeWait | Close | CloseWait) => SynSent,
        (Way::Out, 'F', None | SynRecv | CloseWait) => TimeWait,
        (Way::Out, 'F', Established) => FinWait,
        (Way::Out, 'A', None | SynRecv) => Established,
        (Way::Out, 'R', None | Established | SynRecv | FinWait | CloseWait) => Close,
        (_, '-', _) => Close,
        _ => state,
    }
}

/// A director with one virtual server, driven by ipvsadm's commands and by flows.
struct Replay {
    director: Option<Director>,
    /// Ids by address and port, for ever.
    ids: HashMap<(IpAddr, u16), u32>,
    connections: HashMap<Flow, Connection>,
    /// Server of a client network and VIP.
    templates: HashMap<(u32, Option<Flow>), u32>,
    by_number: HashMap<u64, Flow>,
    one_packet: bool,
    persistence_mask: Option<u32>,
    /// One template for all ports and VIPs of a client: the service is a mark or has port 0.
    group: bool,
    expire_quiescent: bool,
    compared: usize,
    differing: Vec<String>,
}

/// The word behind a flag of ipvsadm.
fn option<'a>(words: &[&'a str], flag: &str) -> Option<&'a str> {
    words.iter().position(|&word| word == flag).map(|at| words[at + 1])
}

fn number(words: &[&str], flag: &str) -> u32 {
    option(words, flag).map_or(0, |word| word.parse().unwrap())
}

fn address(value: &Value) -> IpAddr {
    value.as_str().unwrap().parse().unwrap()
}

fn flow(entry: &Value) -> Flow {
    let port = |name: &str| entry[name].as_u64().unwrap();
    let protocol = entry["proto"].as_str().unwrap().to_owned();
    (protocol, address(&entry["cip"]), port("cport"), address(&entry["vip"]), port("vport"))
}

impl Replay {
    fn new(scenario: &Value) -> Self {
        let mut replay = Self {
            director: None,
            ids: HashMap::new(),
            connections: HashMap::new(),
            templates: HashMap::new(),
            by_number: HashMap::new(),
            one_packet: false,
            persistence_mask: None,
            group: false,
            expire_quiescent: scenario["sysctl"]["expire_quiescent_template"] == 1,
            compared: 0,
            differing: Vec::new(),
        };
        for command in scenario["setup"].as_array().unwrap() {
            replay.command(command.as_str().unwrap());
        }
        replay
    }

    fn director(&mut self) -> &mut Director {
        self.director.as_mut().unwrap()
    }

    fn command(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[1] {
            "-A" => self.add_service(&words),
            "-E" => {
                let service = self.service(&words);
                let next = ServiceDescription { servers: self.director().service.servers.clone(), ..service };
                self.director().publish(next);
            }
            "-a" => {
                let (id, address, port) = self.server(&words);
                let server = ServerDescription::new(id, address, port, number(&words, "-w"));
                self.director().add(server, number(&words, "-x"), number(&words, "-y"));
            }
            "-e" => {
                let (id, ..) = self.server(&words);
                let index = self.director().index_of(id).unwrap();
                let [weight, upper, lower] = ["-w", "-x", "-y"].map(|flag| number(&words, flag));
                self.director().edit_all(index, weight, upper, lower);
            }
            "-d" => {
                let (id, ..) = self.server(&words);
                let index = self.director().index_of(id).unwrap();
                self.director().delete(index);
            }
            "-Z" => (),
            other => panic!("command {other}"),
        }
    }

    fn add_service(&mut self, words: &[&str]) {
        let service = self.service(words);
        self.director = Some(Director::from_service(service));
        self.one_packet = words.contains(&"-o");
        if words.contains(&"-p") {
            let mask =
                option(words, "-M").map_or(u32::MAX, |mask| mask.parse::<Ipv4Addr>().unwrap().to_bits());
            self.persistence_mask = Some(mask);
        }
        self.group = words[2] == "-f" || words[3].ends_with(":0");
    }

    fn service(&self, words: &[&str]) -> ServiceDescription {
        let name = option(words, "-s").unwrap();
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name).unwrap();
        let mut service = empty(kind);
        let flags = option(words, "-b").unwrap_or_default();
        service.flags.fallback = flags.contains("fallback");
        service.flags.port = flags.contains("port");
        service
    }

    /// Id, address and port of the real server that a command names.
    fn server(&mut self, words: &[&str]) -> (u32, IpAddr, u16) {
        let name = option(words, "-r").unwrap();
        let (address, port) = name.split_once(':').unwrap_or((name, "0"));
        let (address, port) = (address.parse().unwrap(), port.parse().unwrap());
        let new = self.ids.len() as u32 + 1;
        (*self.ids.entry((address, port)).or_insert(new), address, port)
    }

    /// The server that gets the packet that opens (or belongs to) a flow.
    fn open(&mut self, flow: &Flow) -> Option<IpAddr> {
        if let Some(connection) = self.connections.get(flow) {
            return Some(self.address_of(connection.server));
        }
        let id = self.template(flow).or_else(|| self.schedule(flow))?;
        if let Some(key) = self.template_key(flow) {
            self.templates.insert(key, id);
        }
        if !self.one_packet {
            self.director().by_id(id).bind();
            let connection = Connection { server: id, state: Tcp::None, active: false };
            self.connections.insert(flow.clone(), connection);
            if flow.0 == "tcp" {
                self.packet(flow, Way::In, "S");
            }
        }
        Some(self.address_of(id))
    }

    fn address_of(&self, id: u32) -> IpAddr {
        self.ids.iter().find(|&(_, &known)| known == id).unwrap().0.0
    }

    fn schedule(&mut self, flow: &Flow) -> Option<u32> {
        let (_, source, source_port, destination, _) = *flow;
        let key = PickKey { source, destination, source_port: source_port as u16, now_secs: 0 };
        let director = self.director();
        let index = director.scheduler.pick(&director.state, &director.servers, &key)?;
        Some(director.service.servers[index].id)
    }

    fn template_key(&self, flow: &Flow) -> Option<(u32, Option<Flow>)> {
        let IpAddr::V4(client) = flow.1 else { panic!("an IPv6 client") };
        let network = client.to_bits() & self.persistence_mask?;
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let vip = (!self.group).then(|| (flow.0.clone(), any, 0, flow.3, flow.4));
        Some((network, vip))
    }

    fn template(&mut self, flow: &Flow) -> Option<u32> {
        let id = *self.templates.get(&self.template_key(flow)?)?;
        let expire_quiescent = self.expire_quiescent;
        let director = self.director();
        let index = director.index_of(id)?;
        let valid = !(expire_quiescent && director.servers[index].weight == 0);
        valid.then_some(id)
    }

    /// A packet of a known connection moves its state and how it counts.
    fn packet(&mut self, flow: &Flow, way: Way, flags: &str) {
        let Some(connection) = self.connections.get_mut(flow) else { return };
        connection.state = next_state(connection.state, way, flags);
        let active = matches!(connection.state, Tcp::Established | Tcp::SynSent | Tcp::SynRecv);
        if active != connection.active {
            connection.active = active;
            let server = connection.server;
            let counters = self.director.as_mut().unwrap().by_id(server);
            let (up, down) = if active {
                (&mut counters.active, &mut counters.inactive)
            } else {
                (&mut counters.inactive, &mut counters.active)
            };
            *up += 1;
            *down -= 1;
        }
    }

    /// Carries out one entry of a recording and compares what came of it.
    fn entry(&mut self, entry: &Value) {
        if let Some(command) = entry["cmd"].as_str() {
            return self.command(command);
        }
        match entry["op"].as_str() {
            None | Some("syn") => {
                let flow = flow(entry);
                let picked = self.open(&flow);
                if let Some(id) = entry["id"].as_u64() {
                    self.by_number.insert(id, flow);
                }
                let expected = (!entry["picked"].is_null()).then(|| address(&entry["picked"]));
                self.compare(picked, expected, entry);
            }
            Some("counts") => self.counts(&entry["counts"]),
            Some(way @ ("client" | "rs")) => {
                let flow = self.by_number[&entry["id"].as_u64().unwrap()].clone();
                let way = if way == "rs" { Way::Out } else { Way::In };
                self.packet(&flow, way, entry["tcp"].as_str().unwrap());
            }
            Some(other) => panic!("operation {other}"),
        }
    }

    /// Compares weights and counts of all servers in list order.
    fn counts(&mut self, expected: &Value) {
        let expected: Vec<[u64; 3]> = (expected.as_array().unwrap().iter())
            .map(|server| ["weight", "active", "inact"].map(|name| server[name].as_u64().unwrap()))
            .collect();
        let servers = &self.director().servers;
        let counted: Vec<[u64; 3]> =
            servers.iter().map(|s| [s.weight, s.active, s.inactive].map(u64::from)).collect();
        self.compare(&counted, &expected, &Value::Null);
    }

    fn compare<T: PartialEq + std::fmt::Debug>(&mut self, ours: T, expected: T, entry: &Value) {
        self.compared += 1;
        if ours != expected {
            self.differing.push(format!("{ours:?} instead of {expected:?}: {entry}"));
        }
    }
}

/// Replays all scenarios of a file. `least` guards against a file that was cut short.
fn replay(file: &str, least: usize) {
    let path = format!("{}/testdata/golden/sched/{file}.jsonl.gz", env!("CARGO_MANIFEST_DIR"));
    let lines = BufReader::new(GzDecoder::new(File::open(&path).unwrap())).lines();
    let (mut scenarios, mut compared, mut differing) = (0, 0, 0);
    for line in lines {
        let scenario: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let mut replay = Replay::new(&scenario);
        // Where there are scripted connections, `flows` repeats the picks alone.
        let entries = ["ops", "flows"].into_iter().find_map(|name| scenario[name].as_array()).unwrap();
        for entry in entries {
            replay.entry(entry);
        }
        if !scenario["counts_after"].is_null() {
            replay.counts(&scenario["counts_after"]);
        }
        if let Some(first) = replay.differing.first() {
            println!("{}: {} differ, first {first}", scenario["scenario"], replay.differing.len());
        }
        scenarios += 1;
        compared += replay.compared;
        differing += replay.differing.len();
    }
    println!("{file}: {scenarios} scenarios, {compared} compared, {differing} differing");
    assert_eq!(differing, 0, "{file}");
    assert!(compared >= least, "{file}: only {compared} compared");
}

#[test]
fn picks_of_every_scheduler_are_the_kernels() {
    replay("basic", 46_000);
}

#[test]
fn picks_by_flags_of_the_hash_schedulers_are_the_kernels() {
    replay("hashflags", 35_000);
}

#[test]
fn picks_around_changes_are_the_kernels() {
    replay("reconfig", 3800);
}

#[test]
fn picks_at_thresholds_are_the_kernels() {
    replay("thresholds", 2200);
}

#[test]
fn picks_behind_a_mark_are_the_kernels() {
    replay("fwmark", 12_800);
}

#[test]
fn picks_and_counts_along_connections_are_the_kernels() {
    replay("conns", 10_000);
    replay("conns2", 3000);
}

#[test]
fn picks_per_datagram_are_the_kernels() {
    replay("ops", 2800);
}

#[test]
fn picks_of_persistent_services_are_the_kernels() {
    replay("persist", 3800);
}
