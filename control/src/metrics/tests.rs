//! A director without EAL: snapshots from a parsed file, counters set by hand, devices that say what the test says.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, UNIX_EPOCH};

use arc_swap::ArcSwap;
use dpdk::port::PortStats;
use weir_config::model::{Config, MacAddress, Protocol};
use weir_dataplane::conn::state::tcp;
use weir_dataplane::director::Shared;
use weir_dataplane::punt::Owner;
use weir_dataplane::sched::Options;
use weir_dataplane::snapshot::publish::Publisher;
use weir_dataplane::snapshot::registry::{Progress, Registry};
use weir_dataplane::snapshot::server::Server;
use weir_dataplane::stats::passes::Stopwatch;
use weir_dataplane::stats::{Answer, DropReason, Helped, PuntClass};
use weir_health::checker::Checker;

use super::*;
use crate::host::counters::HostDrop;
use crate::http::{Certificate, Tally};
use weir_dataplane::kept::Adopted;

use crate::kept::Outcome;
use crate::lasting::Lasts;
use crate::longest::Longest;
use crate::reload_status::{RefusedBy, ReloadStatus};
use crate::sources::{Device, PortSource, Sources};
use crate::standing::Stuck;
use crate::vrrp::processes::Processes;
use crate::vrrp::status::Status;

/// What the device of a test's port says.
#[derive(Clone, Default)]
pub(crate) struct FakeDevice(pub(crate) Arc<Mutex<(Option<PortStats>, Option<bool>)>>);

impl Device for FakeDevice {
    fn stats(&self) -> Option<PortStats> {
        self.0.lock().unwrap().0
    }
    fn link_up(&self) -> Option<bool> {
        self.0.lock().unwrap().1
    }
}

/// One instance of VRRP, and something that belongs to none.
fn vrrp() -> Status {
    use crate::vrrp::status::Unclaimed;
    use weir_vrrp::router::Router;
    use weir_vrrp::time::Micros;
    let text =
        "[[vrrp]]\nname = \"vi\"\nport = \"lan\"\nvirtual_router_id = 51\naddresses = [\"10.0.9.9\"]\n";
    let macs = [MacAddress([2, 0, 0, 0, 0, 1])];
    let setups = crate::vrrp::settings::setups(&parse(text), &macs, &crate::vrrp::settings::Numbers::new());
    let (mut router, mut peer) = (Router::new(), setups.clone());
    router.configure(setups, &mut |_| weir_vrrp::track::Reading::Up, Micros(0), &mut Vec::new());
    peer[0].settings.priority = 255;
    peer[0].settings.source = "10.0.0.3".parse().unwrap();
    let mut sent = Vec::new();
    Router::new().configure(peer, &mut |_| weir_vrrp::track::Reading::Up, Micros(0), &mut sent);
    for output in sent {
        if let weir_vrrp::router::Output::Advertise { frame, .. } = output {
            router.receive(0, &frame, Micros(1), &mut Vec::new());
        }
    }
    let mut status = Status::of(&router, &["lan".to_owned()], Micros(500_001));
    status.unclaimed.push(Unclaimed { port: "lan".to_owned(), reason: "unknown_router", count: 3 });
    status
}

/// A director whose counters a test sets.
pub(crate) struct Director {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) workers: Vec<Shared>,
    pub(crate) device: FakeDevice,
    registry: Registry,
    publisher: Publisher,
}

const HEAD: &str = r#"
[[port]]
name = "lan"
device = "net_null0"
addresses = ["10.0.0.2/16"]
"#;

const TWO_REAL_SERVERS: &str = r#"
[[virtual_server]]
name = "web"
address = "10.0.0.100"
port = 80
protocol = "tcp"
forwarding = "nat"
scheduler = "rr"
[virtual_server.health_check]
type = "tcp"
[[virtual_server.real_server]]
address = "10.0.0.11"
port = 8080
weight = 3
[[virtual_server.real_server]]
address = "10.0.0.12"
port = 8080
weight = 1

[[virtual_server]]
name = "dns"
address = "10.0.0.101"
port = 53
protocol = "udp"
forwarding = "dr"
scheduler = "wlc"
"#;

/// What the checker runs for VRRP.
const TRACKED: &str = r#"
[[vrrp]]
name = "vi"
port = "lan"
virtual_router_id = 51
addresses = ["10.0.9.9"]
[[vrrp.track]]
script = ["/usr/lib/site/check"]
name = "check"
init_fail = true
"#;

const ONE_REAL_SERVER: &str = r#"
[[virtual_server]]
name = "web"
address = "10.0.0.100"
port = 80
protocol = "tcp"
forwarding = "nat"
scheduler = "rr"
[[virtual_server.real_server]]
address = "10.0.0.11"
port = 8080
weight = 3
"#;

fn parse(tables: &str) -> Config {
    weir_config::parse("weir.toml", &format!("{HEAD}{tables}")).unwrap().config
}

impl Director {
    /// Two workers, one port, these virtual servers.
    pub(crate) fn new(tables: &str) -> Self {
        let mut registry = Registry::new(2, Options::default());
        let snapshot = registry
            .snapshot(&parse(tables), &[MacAddress([2, 0, 0, 0, 0, 1])], Progress::default())
            .unwrap();
        let publisher = Publisher::new(snapshot);
        let workers = Shared::new(2, 1);
        let device = FakeDevice::default();
        let started = UNIX_EPOCH + Duration::from_millis(1_700_000_000_500);
        let tally = Tally::default();
        let certificate = Certificate { file: PathBuf::new(), ends: Some(1_800_000_000), exposed: None };
        tally.certify(Some(&certificate));
        let sources = Sources {
            longest: Longest::of(2),
            stuck: Stuck::none(2, true),
            tables: Arc::new([]),
            templates: None,
            asking: crate::http::Asking::default(),
            workers: workers.clone(),
            ports: vec![
                PortSource::new("lan".to_owned(), device.clone())
                    .with_place("net_null0".to_owned(), Some(7))
                    .with_host(Some(Arc::default())),
            ],
            snapshot: publisher.shared(),
            health: Checker::new(&parse(&format!("{tables}{TRACKED}")), 1).1,
            vrrp: Arc::new(ArcSwap::from_pointee(vrrp())),
            processes: Processes::counted([("nginx".to_owned(), 2)].into()),
            capacity: 1_048_576,
            cycles_per_second: 2_000_000_000,
            reload: Arc::new(ReloadStatus::loaded(started)),
            reload_lasts: Lasts::default(),
            search_lasts: Lasts::default(),
            tracked_lasts: Lasts::default(),
            sequence_lasts: Lasts::default(),
            http: Arc::new(tally),
            proc_lasts: Lasts::default(),
            sync: Arc::default(),
            kept: Some(Outcome {
                by: "weir-keeper",
                told: Adopted { found: 12, kept: 11, ..Adopted::default() },
                how: Some("anew"),
                seconds: 0.25,
                refused: None,
                is_kept: Arc::new(true.into()),
                ..Outcome::default()
            }),
            announce: None,
            started,
            dpdk_version: "22.11.11".to_owned(),
        };
        Self { metrics: Arc::new(Metrics::new(sources).unwrap()), workers, device, registry, publisher }
    }

    /// The usual one.
    pub(crate) fn usual() -> Self {
        Self::new(TWO_REAL_SERVERS)
    }

    /// Reloads with these virtual servers, after which all workers use them.
    fn reload(&mut self, tables: &str) {
        let progress = Progress::of(self.workers.iter().map(|worker| &*worker.counters), None);
        let macs = [MacAddress([2, 0, 0, 0, 0, 1])];
        self.publisher.publish(self.registry.snapshot(&parse(tables), &macs, progress).unwrap());
        for worker in &self.workers {
            worker.counters.generation.set(self.publisher.current().generation);
        }
    }

    pub(crate) fn server(&self, address: [u8; 4]) -> Server {
        let snapshot = self.publisher.current();
        snapshot.servers().find(|server| server.address == address.into()).unwrap().clone()
    }

    fn text(&self) -> String {
        String::from_utf8(self.metrics.page(Wanted::default()).unwrap()).unwrap()
    }

    /// The value of a sample, by its name and labels as the page writes them.
    fn sample(&self, series: &str) -> Option<f64> {
        let text = self.text();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        Some(line.parse().unwrap())
    }
}

/// Counts traffic of one worker for a real server: 1 connection, `n` packets in, half as many out.
pub(crate) fn carry(server: &Server, worker: usize, n: u64) {
    server.bind(worker, Protocol::Tcp, tcp::ESTABLISHED);
    let tally = &server.live.workers[worker];
    tally.in_packets.add(n);
    tally.in_bytes.add(n * 100);
    tally.out_packets.add(n / 2);
    tally.out_bytes.add(n * 500);
}

/// What `promtool check metrics` says; empty: nothing.
fn promtool(text: &str) -> String {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is there: apt-get install prometheus");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    format!("{}{}", if output.status.success() { "" } else { "failed: " }, String::from_utf8(said).unwrap())
}

#[test]
fn promtool_has_nothing_to_say() {
    let director = Director::usual();
    *director.device.0.lock().unwrap() = (Some(PortStats::default()), Some(true));
    let text = director.text();
    assert_eq!(promtool(&text), "");
    for family in FAMILIES {
        assert!(text.contains(&format!("# TYPE {} ", family.name)), "{} has no sample", family.name);
    }
    // The check itself can fail.
    assert_ne!(promtool("# TYPE weir_drops counter\nweir_drops 1\n"), "");
}

#[test]
fn a_director_without_virtual_servers_and_device_counters_is_fine_too() {
    let director = Director::new("");
    let text = director.text();
    assert_eq!(promtool(&text), "");
    assert!(!text.contains("virtual_server"), "{text}");
    assert_eq!(director.sample("weir_port_up{port=\"lan\"}"), None);
    assert_eq!(director.sample("weir_port_receive_missed_total{port=\"lan\"}"), None);
    assert_eq!(director.sample("weir_port_receive_packets_total{port=\"lan\"}"), Some(0.0));
}

#[test]
fn a_registry_accepts_the_collector() {
    let director = Director::usual();
    *director.device.0.lock().unwrap() = (Some(PortStats::default()), Some(true));
    let registry = prometheus::Registry::new();
    let metrics = Arc::into_inner(director.metrics).unwrap();
    registry.register(Box::new(metrics)).unwrap();
    assert_eq!(registry.gather().len(), FAMILIES.len());
}

#[test]
fn every_drop_reason_and_answer_is_there_from_the_start() {
    let director = Director::usual();
    for reason in DropReason::ALL {
        assert_eq!(director.sample(&format!("weir_drops_total{{reason=\"{}\"}}", reason.label())), Some(0.0));
    }
    for answer in Answer::ALL {
        assert_eq!(director.sample(&format!("weir_answers_total{{kind=\"{}\"}}", answer.label())), Some(0.0));
    }
}

#[test]
fn what_workers_count_is_summed() {
    let director = Director::usual();
    for (worker, n) in director.workers.iter().zip([3, 40]) {
        let counters = &worker.counters;
        counters.ports[0].receive_packets.add(n);
        counters.ports[0].receive_bytes.add(n * 64);
        counters.ports[0].transmit_packets.add(n * 2);
        counters.ports[0].transmit_bytes.add(n * 128);
        counters.forwarded.add(n);
        counters.absorbed.add(n * 2);
        counters.untracked.add(n * 3);
        counters.clamped.add(n * 7);
        counters.templates_full.add(n * 5);
        counters.ipv6_clients_full.add(n * 8);
        counters.ipv6_clients.set(n * 9);
        counters.ipv6_clients_capacity.set(n * 10);
        counters.captured.add(n * 6);
        counters.capture_lost.add(n * 7);
        counters.messages_lost.add(n * 6);
        counters.foretold_taken.add(n * 3);
        counters.waiting.set(n);
        counters.pieces_waiting.set(n * 2);
        counters.pieces_full.add(n * 7);
        counters.pieces_incomplete.add(n * 9);
        counters.arp_requests.add(n * 4);
        counters.nd_solicitations.add(n * 8);
        counters.mld_reports.add(n * 3);
        counters.mld_queries.add(n * 2);
        counters.mld_unanswered.add(n);
        counters.arp_conflicts.add(n * 5);
        counters.busy_cycles.add(n);
        counters.idle_cycles.add(n * 10);
        counters.connections.set(n * 7);
        Stopwatch::new(2_000_000_000).note(n * 1_000, &counters.pass_times);
        Stopwatch::new(2_000_000_000).note(n, &counters.pass_times);
        counters.generation.set(1);
        (0..n).for_each(|_| counters.dropped(DropReason::TooBig));
        (0..n).for_each(|_| counters.answer(Answer::Echo));
        (0..n).for_each(|_| counters.punt(PuntClass::VrrpMulticast));
        (0..n * 2).for_each(|_| counters.punt_dropped(PuntClass::VrrpUnicast));
        counters.inject(Owner::Vrrp, n * 3);
        let host = director.metrics.sources().ports[0].host.clone().unwrap();
        host.receive_packets.add(n);
        host.transmit_bytes.add(n * 100);
        (0..n).for_each(|_| host.dropped(HostDrop::Refused));
    }
    let mut watch = crate::longest::Watch::new(director.metrics.sources().longest.clone(), Instant::now());
    watch.run(&director.workers, Instant::now());
    let build = format!("weir_build_info{{version=\"{}\",dpdk=\"22.11.11\"}}", env!("CARGO_PKG_VERSION"));
    let stats = PortStats { imissed: 1, ierrors: 2, oerrors: 3, rx_nombuf: 4, ..PortStats::default() };
    *director.device.0.lock().unwrap() = (Some(stats), Some(false));
    let expected = [
        (build.as_str(), 1.0),
        ("weir_start_time_seconds", 1_700_000_000.5),
        ("weir_config_generation", 1.0),
        ("weir_config_last_reload_successful", 1.0),
        ("weir_config_last_reload_timestamp_seconds", 1_700_000_000.5),
        ("weir_port_up{port=\"lan\"}", 0.0),
        ("weir_port_receive_packets_total{port=\"lan\"}", 43.0),
        ("weir_port_receive_bytes_total{port=\"lan\"}", 43.0 * 64.0),
        ("weir_port_transmit_packets_total{port=\"lan\"}", 86.0),
        ("weir_port_transmit_bytes_total{port=\"lan\"}", 86.0 * 64.0),
        ("weir_port_receive_missed_total{port=\"lan\"}", 1.0),
        ("weir_port_receive_errors_total{port=\"lan\"}", 2.0),
        ("weir_port_transmit_errors_total{port=\"lan\"}", 3.0),
        ("weir_port_receive_no_buffer_total{port=\"lan\"}", 4.0),
        ("weir_forwarded_packets_total", 43.0),
        ("weir_absorbed_packets_total", 86.0),
        ("weir_untracked_packets_total", 129.0),
        ("weir_mss_clamped_total", 301.0),
        ("weir_templates_full_total", 215.0),
        ("weir_ipv6_clients_full_total", 344.0),
        ("weir_captured_frames_total", 258.0),
        ("weir_capture_lost_frames_total", 301.0),
        ("weir_worker_messages_lost_total", 258.0),
        ("weir_foretold_taken_total", 129.0),
        ("weir_foretold_connections", 0.0),
        ("weir_neighbor_waiting_packets", 43.0),
        ("weir_fragments_waiting_packets", 86.0),
        ("weir_fragments_full_total", 301.0),
        ("weir_fragments_incomplete_total", 387.0),
        ("weir_arp_requests_total", 172.0),
        ("weir_nd_solicitations_total", 344.0),
        ("weir_mld_reports_total", 129.0),
        ("weir_mld_queries_total", 86.0),
        ("weir_mld_unanswered_queries_total", 43.0),
        ("weir_arp_conflicts_total", 215.0),
        ("weir_drops_total{reason=\"too_big\"}", 43.0),
        ("weir_answers_total{kind=\"echo\"}", 43.0),
        ("weir_punted_packets_total{class=\"vrrp_multicast\"}", 43.0),
        ("weir_punt_drops_total{class=\"vrrp_unicast\"}", 86.0),
        ("weir_host_receive_packets_total{port=\"lan\"}", 43.0),
        ("weir_host_transmit_bytes_total{port=\"lan\"}", 4300.0),
        ("weir_host_drops_total{port=\"lan\",reason=\"refused\"}", 43.0),
        ("weir_injected_packets_total{owner=\"vrrp\"}", 129.0),
        ("weir_worker_cycles_total{worker=\"0\",state=\"busy\"}", 3.0),
        ("weir_worker_cycles_total{worker=\"1\",state=\"idle\"}", 400.0),
        ("weir_worker_cycle_frequency_hertz", 2e9),
        ("weir_worker_config_generation{worker=\"1\"}", 1.0),
        ("weir_worker_pass_seconds_count{worker=\"1\"}", 2.0),
        ("weir_worker_pass_seconds_sum{worker=\"1\"}", 440.0 / 2e9),
        ("weir_worker_pass_seconds_bucket{worker=\"1\",le=\"0.00001\"}", 1.0),
        ("weir_worker_pass_seconds_bucket{worker=\"1\",le=\"0.00002\"}", 2.0),
        ("weir_worker_longest_pass_seconds{worker=\"1\"}", 20e-6),
        ("weir_connections{worker=\"0\"}", 21.0),
        ("weir_connections{worker=\"1\"}", 280.0),
        ("weir_connections_capacity{worker=\"1\"}", 1_048_576.0),
    ];
    for (series, value) in expected {
        assert_eq!(director.sample(series), Some(value), "{series}");
    }
}

#[test]
fn real_servers_add_up_to_their_virtual_server() {
    let director = Director::usual();
    let [first, second] = [[10, 0, 0, 11], [10, 0, 0, 12]].map(|address| director.server(address));
    carry(&first, 0, 10);
    carry(&first, 1, 20);
    carry(&second, 1, 100);
    second.change(1, Protocol::Tcp, tcp::ESTABLISHED, tcp::FIN_WAIT);
    let of_first = |name: &str, more: &str| {
        director.sample(&format!("{name}{{virtual_server=\"web\",real_server=\"10.0.0.11:8080\"{more}}}"))
    };
    let of_second = |name: &str| {
        director.sample(&format!("{name}{{virtual_server=\"web\",real_server=\"10.0.0.12:8080\"}}"))
    };
    assert_eq!(of_first("weir_real_server_connections_total", ""), Some(2.0));
    assert_eq!(of_first("weir_real_server_packets_total", ",direction=\"in\""), Some(30.0));
    assert_eq!(of_first("weir_real_server_packets_total", ",direction=\"out\""), Some(15.0));
    assert_eq!(of_first("weir_real_server_bytes_total", ",direction=\"in\""), Some(3_000.0));
    assert_eq!(of_first("weir_real_server_bytes_total", ",direction=\"out\""), Some(15_000.0));
    assert_eq!(of_first("weir_real_server_active_connections", ""), Some(2.0));
    assert_eq!(of_first("weir_real_server_weight", ""), Some(3.0));
    assert_eq!(of_first("weir_real_server_up", ""), Some(1.0));
    assert_eq!(of_second("weir_real_server_active_connections"), Some(0.0));
    assert_eq!(of_second("weir_real_server_inactive_connections"), Some(1.0));
    let of_web = |name: &str, more: &str| director.sample(&format!("{name}{{virtual_server=\"web\"{more}}}"));
    assert_eq!(of_web("weir_virtual_server_connections_total", ""), Some(3.0));
    assert_eq!(of_web("weir_virtual_server_packets_total", ",direction=\"in\""), Some(130.0));
    assert_eq!(of_web("weir_virtual_server_packets_total", ",direction=\"out\""), Some(65.0));
    assert_eq!(of_web("weir_virtual_server_bytes_total", ",direction=\"in\""), Some(13_000.0));
    assert_eq!(of_web("weir_virtual_server_bytes_total", ",direction=\"out\""), Some(65_000.0));
    assert_eq!(director.sample("weir_virtual_server_connections_total{virtual_server=\"dns\"}"), Some(0.0));
}

#[test]
fn totals_of_a_virtual_server_survive_its_real_servers() {
    let mut director = Director::usual();
    let packets = "weir_virtual_server_packets_total{virtual_server=\"web\",direction=\"in\"}";
    let removed = "weir_real_server_weight{virtual_server=\"web\",real_server=\"10.0.0.12:8080\"}";
    carry(&director.server([10, 0, 0, 11]), 0, 10);
    let second = director.server([10, 0, 0, 12]);
    carry(&second, 1, 100);
    assert_eq!(director.sample(packets), Some(110.0));

    director.reload(ONE_REAL_SERVER);
    assert_eq!(director.sample(removed), None);
    second.live.workers[1].in_packets.add(5);
    assert_eq!(director.sample(packets), Some(115.0), "its connection goes on");

    director.reload(ONE_REAL_SERVER);
    second.unbind(1, Protocol::Tcp, tcp::ESTABLISHED);
    assert_eq!(director.sample(packets), Some(115.0));
    director.reload(ONE_REAL_SERVER);
    let knows_it = |director: &Director| {
        director.publisher.current().servers().any(|server| server.address == second.address)
    };
    assert!(!knows_it(&director), "its number is free again");
    assert_eq!(director.sample(packets), Some(115.0));

    director.reload(TWO_REAL_SERVERS);
    assert_eq!(director.sample(removed), Some(1.0));
    carry(&director.server([10, 0, 0, 12]), 0, 1);
    assert_eq!(director.sample(packets), Some(116.0));
    director.reload("");
    director.reload("");
    assert_eq!(director.sample(packets), None);
}

#[test]
fn rates_are_those_of_the_last_sample() {
    let director = Director::usual();
    let first = director.server([10, 0, 0, 11]);
    carry(&first, 0, 800);
    first.live.rates.sample(first.live.traffic(), 2_000);
    let snapshot = director.publisher.current();
    let web = snapshot.services().find(|service| service.name == "web").unwrap();
    web.rates.sample(first.live.traffic(), 2_000);
    for labels in ["virtual_server=\"web\"", "virtual_server=\"web\",real_server=\"10.0.0.11:8080\""] {
        let kind = if labels.contains("real") { "real" } else { "virtual" };
        let value = |figure: &str, more: &str| {
            director.sample(&format!("weir_{kind}_server_{figure}_per_second{{{labels}{more}}}"))
        };
        assert_eq!(value("connections", ""), Some(0.0));
        assert_eq!(value("packets", ",direction=\"in\""), Some(100.0));
        assert_eq!(value("packets", ",direction=\"out\""), Some(50.0));
        assert_eq!(value("bytes", ",direction=\"in\""), Some(10_000.0));
        assert_eq!(value("bytes", ",direction=\"out\""), Some(50_000.0));
    }
}

#[test]
fn a_failed_reload_is_seen() {
    let director = Director::usual();
    director
        .metrics
        .sources()
        .reload
        .record(Err(RefusedBy::Health), UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    assert_eq!(director.sample("weir_config_last_reload_successful"), Some(0.0));
    assert_eq!(director.sample("weir_config_last_reload_timestamp_seconds"), Some(1_800_000_000.0));
    let refused = |by| director.sample(&format!("weir_config_reloads_refused_total{{by=\"{by}\"}}"));
    assert_eq!((refused("health"), refused("registry")), (Some(1.0), Some(0.0)));
}

#[test]
fn the_docs_have_every_metric_and_every_reason_as_the_program_has_them() {
    let docs = include_str!("../../../docs/metrics.md");
    let rows: HashMap<&str, Vec<&str>> = docs
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |")?.split_once("` | "))
        .map(|(name, rest)| (name, rest.split(" | ").collect()))
        .collect();
    let mut known = 0;
    for family in FAMILIES {
        let kind = format!("{:?}", family.kind).to_lowercase();
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = if labels.is_empty() { "none".to_owned() } else { labels.join(", ") };
        assert_eq!(rows.get(family.name), Some(&vec![&*kind, &labels, family.help]), "{}", family.name);
        known += 1;
    }
    for reason in DropReason::ALL {
        assert_eq!(rows.get(reason.label()), Some(&vec![reason.help()]), "{reason:?}");
        known += 1;
    }
    for answer in Answer::ALL {
        assert_eq!(rows.get(answer.label()), Some(&vec![answer.help()]), "{answer:?}");
        known += 1;
    }
    for what in Helped::ALL {
        assert_eq!(rows.get(what.label()), Some(&vec![what.help()]), "{what:?}");
        known += 1;
    }
    for reason in HostDrop::ALL {
        assert_eq!(rows.get(reason.label()), Some(&vec![reason.help()]), "{reason:?}");
        known += 1;
    }
    for class in PuntClass::ALL {
        let (per_second, burst) = class.limit();
        let limit = format!("{}, {}", thousands(per_second), thousands(burst));
        assert_eq!(rows.get(class.label()), Some(&vec![class.help(), &limit]), "{class:?}");
        known += 1;
    }
    for reason in weir_vrrp::discard::Discard::ALL {
        let (first, rest) = reason.help().split_at(1);
        let sentence = format!("{}{rest}.", first.to_uppercase());
        assert_eq!(rows.get(reason.label()), Some(&vec![&*sentence]), "{reason:?}");
        known += 1;
    }
    assert_eq!(rows.len(), known, "the docs have rows that the program does not know");
}

/// A number below a million as the docs write it.
fn thousands(number: u32) -> String {
    if number < 1_000 { number.to_string() } else { format!("{},{:03}", number / 1_000, number % 1_000) }
}
