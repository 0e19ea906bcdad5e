//! Over real connections, with a client that sends what it likes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use dpdk::PortStats;
use tokio::sync::oneshot;

use super::*;
use crate::metrics::tests::{Director, carry};
use crate::threads::Role;

/// Longer than any test takes, however busy the machine is.
const NEVER: Duration = Duration::from_secs(3_600);
/// No connection ends for its time: one that ends gives way.
const PATIENT: Limits = Limits { header: NEVER, age: NEVER, ..Limits::USUAL };
/// For what has to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server on a port of its own, on a thread of its own.
struct Server {
    address: SocketAddr,
    state: HttpState,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Server {
    fn start(director: &Director, limits: Limits) -> Self {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let state = HttpState::new(director.metrics.clone(), &settings(), crate::orders::channel().0);
        let (stop, stopped) = oneshot::channel();
        let theirs = state.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let door = (listener, theirs.guard.clone());
            runtime.block_on(serve_within(limits, door, router(theirs), async {
                let _ = stopped.await;
            }))
        });
        Self { address, state, stop: Some(stop), thread: Some(thread) }
    }

    fn usual(director: &Director) -> Self {
        Self::start(director, Limits::USUAL)
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Status line and headers in lower case, and body, of one request on a connection of its own.
    fn ask(&self, method: &str, path: &str) -> (String, String) {
        self.ask_with(&format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
    }

    fn ask_with(&self, request: &str) -> (String, String) {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_lowercase(), body.to_owned())
    }

    fn get(&self, path: &str) -> (u16, String) {
        let (head, body) = self.ask("GET", path);
        (head[9..12].parse().unwrap(), body)
    }

    fn stop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn settings() -> Http {
    let listen = "127.0.0.1:0".parse().unwrap();
    Http { listen, hosts: vec!["x".to_owned()], tls: None, token_file: None }
}

/// Moves the cycle counters of workers as polling does, until dropped.
struct Polling(Arc<AtomicBool>, Option<JoinHandle<()>>);

impl Polling {
    fn start(director: &Director, workers: std::ops::Range<usize>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, counters) = (stop.clone(), director.workers[workers].to_vec());
        let poll = move || {
            while !stopped.load(Relaxed) {
                counters.iter().for_each(|worker| worker.counters.idle_cycles.add(1_000));
                thread::sleep(Duration::from_millis(1));
            }
        };
        Self(stop, Some(thread::spawn(poll)))
    }
}

impl Drop for Polling {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
        self.1.take().map(JoinHandle::join);
    }
}

/// What of a page of metrics is the same a moment later: all but what the process takes of the machine.
fn lasting(page: &str) -> Vec<&str> {
    page.lines().filter(|line| !line.starts_with("process_")).collect()
}

#[test]
fn metrics_come_in_the_form_that_is_asked_for() {
    let director = Director::usual();
    let server = Server::usual(&director);
    let ask = |path: &str, lines: &str| {
        let mut stream = server.connect();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|part| part == b"\r\n\r\n").unwrap();
        let head = std::str::from_utf8(&answer[..end]).unwrap().to_lowercase();
        let body = answer.split_off(end + 4);
        if !head.contains("content-encoding: gzip") {
            return (head, String::from_utf8(body).unwrap());
        }
        let mut text = String::new();
        flate2::read::GzDecoder::new(&*body).read_to_string(&mut text).unwrap();
        assert!(body.len() * 3 < text.len(), "{} of {}", body.len(), text.len());
        (head, text)
    };
    let plain = ask("/metrics", "").1;
    let (head, packed) = ask("/metrics", "Accept-Encoding: gzip, deflate\r\n");
    assert!(
        head.contains("content-encoding: gzip") && head.contains("vary: accept, accept-encoding"),
        "{head}"
    );
    assert_eq!(lasting(&packed), lasting(&plain));
    let (head, open) =
        ask("/metrics", "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n");
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{head}"
    );
    assert!(!head.contains("content-encoding") && open.ends_with("# EOF\n"), "{head}");
    let leave_out = |what| ask(&format!("/metrics?leave_out={what}"), "").1;
    assert!(
        !leave_out("real_servers").contains("real_server=")
            && leave_out("real_servers").contains("virtual_server=")
    );
    assert!(!leave_out("real_servers&leave_out=virtual_servers").contains("virtual_server="));
    assert!(!leave_out("virtual_servers&leave_out=real_servers").contains("virtual_server="));
    let (head, why) = ask("/metrics?leave_out=servers", "Accept-Encoding: gzip\r\n");
    assert!(head.starts_with("http/1.1 400") && !head.contains("gzip"), "{head}");
    assert_eq!(why, "leave_out is real_servers or virtual_servers\n");
}

#[test]
fn metrics_are_served_in_the_text_format() {
    let director = Director::usual();
    let server = Server::usual(&director);
    let (head, body) = server.ask("GET", "/metrics");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
    assert_eq!(
        lasting(&body),
        lasting(std::str::from_utf8(&director.metrics.page(Wanted::default()).unwrap()).unwrap())
    );
    let (head, body) = server.ask("HEAD", "/metrics");
    assert!(head.starts_with("http/1.1 200") && body.is_empty(), "{head} {body}");
}

#[test]
fn whoever_leaves_is_live_and_not_ready_and_whoever_has_panicked_is_neither() {
    let director = Director::usual();
    let server = Server::usual(&director);
    server.state.flags.leave();
    assert_eq!(server.get("/ready"), (503, "not ready: weir is stopping\n".to_owned()));
    assert_eq!(server.get("/live"), (200, "live\n".to_owned()));
    server.state.flags.threads.panicked(Role::Vrrp);
    server.state.flags.threads.panicked(Role::Worker(1));
    assert_eq!(server.get("/live"), (503, "panicked: worker 1, weir-vrrp\n".to_owned()));
    let lost = "not ready: worker 1 has panicked; weir-vrrp has panicked\n";
    assert_eq!(server.get("/ready"), (503, lost.to_owned()));
}

#[test]
fn ready_says_what_is_missing() {
    let director = Director::usual();
    *director.device.0.lock().unwrap() = (Some(PortStats::default()), Some(true));
    let server = Server::usual(&director);
    assert_eq!(server.get("/live"), (200, "live\n".to_owned()));
    let stuck = &server.state.sources().stuck;
    stuck.set(Role::Health, true);
    stuck.set(Role::Worker(1), true);
    assert_eq!(server.get("/live"), (503, "stuck: worker 1, weir-health\n".to_owned()));
    assert!(server.get("/ready").1.starts_with("not ready: worker 0 does not poll; worker 1 is stuck; "));
    let overview: serde_json::Value = serde_json::from_str(&server.get("/api/v1/overview").1).unwrap();
    assert_eq!(overview["workers"][1]["stuck"], true);
    assert_eq!(overview["problems"][1]["text"], "weir is not ready: worker 1 is stuck.");
    stuck.set(Role::Worker(1), false);
    assert!(server.get("/ready").1.ends_with("; weir-health is stuck\n"));
    stuck.set(Role::Health, false);
    let neither = "not ready: worker 0 does not poll; worker 1 does not poll\n";
    assert_eq!(server.get("/ready"), (503, neither.to_owned()));

    let first = Polling::start(&director, 0..1);
    assert_eq!(server.get("/ready"), (503, "not ready: worker 1 does not poll\n".to_owned()));

    let second = Polling::start(&director, 1..2);
    assert_eq!(server.get("/ready"), (200, "ready\n".to_owned()));

    director.device.0.lock().unwrap().1 = Some(false);
    assert_eq!(server.get("/ready"), (503, "not ready: port lan has no link\n".to_owned()));
    *director.device.0.lock().unwrap() = (None, None);
    assert_eq!(server.get("/ready"), (503, "not ready: port lan does not answer\n".to_owned()));
    director.device.0.lock().unwrap().0 = Some(PortStats::default());
    assert_eq!(server.get("/ready"), (200, "ready\n".to_owned()));

    drop((first, second));
    assert_eq!(server.get("/ready"), (503, neither.to_owned()));
    assert_eq!(server.get("/live"), (200, "live\n".to_owned()));
}

#[test]
fn unknown_paths_and_methods_are_refused_in_plain_text() {
    let director = Director::usual();
    let server = Server::usual(&director);
    let (head, body) = server.ask("GET", "/metric");
    assert!(head.starts_with("http/1.1 404") && head.contains("content-type: text/plain"), "{head}");
    assert_eq!(
        body,
        "there is no /metric here; try /, /metrics, /api/v1/status, /api/v1/virtual_servers, /api/v1/overview, /api/v1/events, /api/v1/workers, /api/v1/ports, /api/v1/counters, /api/v1/connections, /api/v1/explain, /api/v1/health, /api/v1/neighbors, /api/v1/vrrp, /api/v1/announce, /api/v1/timeouts, /api/v1/openapi.json, /live or /ready\n"
    );
    for method in ["POST", "DELETE", "BREW"] {
        let (head, body) = server.ask(method, "/metrics");
        assert!(head.starts_with("http/1.1 405") && head.contains("content-type: text/plain"), "{head}");
        assert_eq!(head.matches("allow:").count(), 1, "{head}");
        assert!(head.contains("allow: get, head") || head.contains("allow: get,head"), "{head}");
        assert_eq!(body, "only GET and HEAD are answered here\n");
    }
}

#[test]
fn all_that_is_answered_is_described_and_served_as_a_document() {
    let described: std::collections::BTreeSet<_> =
        weir_api::openapi::OPERATIONS.iter().map(|it| it.path).collect();
    let answered = READING.iter().chain(INNER).chain(CHANGING).chain(SUPERVISING).map(|(path, _)| *path);
    // The page for people is no part of the API.
    let answered: std::collections::BTreeSet<_> = answered.collect();
    assert_eq!(described, answered, "OPERATIONS of api/src/openapi.rs describes what is answered");
    let director = Director::usual();
    let server = Server::usual(&director);
    let (status, body) = server.get("/api/v1/openapi.json");
    assert_eq!(status, 200, "{body}");
    let served: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(served, weir_api::openapi::document());
}

#[test]
fn the_status_page_is_whole_and_may_ask_nobody_else() {
    let director = Director::usual();
    let server = Server::usual(&director);
    let kinds = [
        ("/", "text/html; charset=utf-8"),
        // As bookmarks of the page before have it.
        ("/?page=2&refresh=5", "text/html; charset=utf-8"),
        ("/page.css", "text/css; charset=utf-8"),
        ("/page.js", "text/javascript; charset=utf-8"),
        ("/page.svg", "image/svg+xml"),
    ];
    for (path, kind) in kinds {
        let (head, body) = server.ask("GET", path);
        assert!(
            head.starts_with("http/1.1 200") && head.contains(&format!("content-type: {kind}")),
            "{head}"
        );
        for header in [
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; ",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cache-control: no-store",
        ] {
            assert!(head.contains(header), "{path}: {header} is missing in {head}");
        }
        let elsewhere = body.replace("http://www.w3.org/2000/svg", "");
        for foreign in ["http://", "https://", "//cdn", "innerHTML", " style=", " onclick", "<style"] {
            assert!(!elsewhere.contains(foreign), "{path}: {foreign}");
        }
        assert_eq!(server.ask("POST", path).0[9..12].parse(), Ok(405));
    }
    let page = server.get("/").1;
    assert!(page.contains("<noscript>") && page.contains("href=\"/metrics\"") && page.contains("weirctl"));
    assert_eq!(page.matches("<script").count(), 1);
    // What the page refers to is there.
    for part in page.split("=\"/").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert_ne!(server.get(&format!("/{part}")).0, 404, "{part}");
    }
}

#[test]
fn virtual_servers_are_listed_with_counters_and_rates() {
    let director = Director::usual();
    let first = director.server([10, 0, 0, 11]);
    carry(&first, 0, 10);
    first.live.rates.sample(first.live.traffic(), 2_000);
    let server = Server::usual(&director);
    let listed = |path: &str| -> serde_json::Value {
        let (status, body) = server.get(path);
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    };
    let all = listed("/api/v1/virtual_servers");
    assert_eq!(all["virtual_servers"].as_array().unwrap().len(), 2);
    let web = &listed("/api/v1/virtual_servers?name=web")["virtual_servers"];
    assert_eq!(web.as_array().unwrap().len(), 1);
    assert_eq!((web[0]["port"].as_u64(), web[0]["active"].as_u64()), (Some(80), Some(1)));
    assert_eq!(web[0]["total"]["in_packets"], 10);
    let real = web[0]["real_servers"].as_array().unwrap();
    let real = real.iter().find(|real| real["real_server"] == "10.0.0.11:8080").unwrap();
    assert_eq!(real["total"]["in_bytes"], 1_000);
    // A quarter of 10 packets and 1,000 bytes in two seconds.
    assert_eq!(real["per_second"]["in_packets"], 1);
    assert_eq!(real["per_second"]["in_bytes"], 125);
    assert_eq!(listed("/api/v1/virtual_servers?name=none")["virtual_servers"].as_array().unwrap().len(), 0);
    assert_eq!(server.get("/api/v1/virtual_servers?page=1").0, 400);
}

#[test]
fn what_ipvsadm_lists_of_a_virtual_server_is_there() {
    let director = Director::new(
        "[[virtual_server]]\nname = \"web\"\naddress = \"192.0.2.1\"\nport = 80\nscheduler = \"sh\"\n\
         scheduler_flags = [\"sh-port\"]\npersistence_timeout = 50\npersistence_netmask = 24\n\
         [[virtual_server.real_server]]\naddress = \"10.0.0.11\"\nforwarding = \"tun\"\nupper_threshold = 9\nlower_threshold = 7\n\
         [[virtual_server]]\nname = \"dns\"\naddress = \"192.0.2.1\"\nport = 53\nprotocol = \"udp\"\none_packet = true\n\
         scheduler = \"rr\"\nscheduler_flags = [\"flag-1\", \"flag-3\"]\n\
         [[virtual_server.real_server]]\naddress = \"10.0.0.12\"\nport = 5353\nforwarding = \"nat\"\n",
    );
    let server = Server::usual(&director);
    let listing: weir_api::virtual_servers::Listing<'static> =
        serde_json::from_str(&server.get("/api/v1/virtual_servers").1).unwrap();
    let [web, dns] = &listing.virtual_servers[..] else { panic!("{listing:?}") };
    assert_eq!((&*web.scheduler, &web.scheduler_flags[..]), ("sh", &["sh-port".to_owned()][..]));
    assert_eq!((web.persistence_timeout, web.persistence_netmask, web.one_packet), (50, 24, false));
    let real = &web.real_servers[0];
    assert_eq!((real.address.to_string(), real.port), ("10.0.0.11".to_owned(), 80));
    assert_eq!((real.upper_threshold, real.lower_threshold, real.tunnel.as_deref()), (9, 7, Some("ipip")));
    assert_eq!(real.persistent, None);
    assert_eq!((dns.persistence_timeout, dns.persistence_netmask, dns.one_packet), (0, 32, true));
    assert_eq!(dns.scheduler_flags, ["flag-1", "flag-3"]);
    assert_eq!((dns.real_servers[0].port, dns.real_servers[0].tunnel.as_deref()), (5353, None));
    assert_eq!(server.get("/api/v1/virtual_servers?templates=count").0, 200);
}

#[test]
fn the_director_as_a_whole_is_told() {
    let director = Director::usual();
    let counters = &director.workers[0].counters;
    counters.dropped(weir_dataplane::stats::DropReason::TooBig);
    counters.ports[0].receive_packets.add(9);
    director.device.0.lock().unwrap().1 = Some(true);
    let polling = Polling::start(&director, 0..2);
    let server = Server::usual(&director);
    let read = |path: &str| -> serde_json::Value { serde_json::from_str(&server.get(path).1).unwrap() };
    let status = read("/api/v1/status");
    assert_eq!(status["not_ready"], serde_json::json!([]), "{status}");
    assert_eq!((&status["virtual_servers"], &status["real_servers_serving"]), (&2.into(), &2.into()));
    assert_eq!((&status["reload_successful"], &status["vrrp_instances"]), (&true.into(), &1.into()));
    drop(polling);
    assert_eq!(read("/api/v1/status")["not_ready"].as_array().unwrap().len(), 2);
    let ports = read("/api/v1/ports");
    assert_eq!(
        (&ports["ports"][0]["port"], &ports["ports"][0]["receive_packets"]),
        (&"lan".into(), &9.into())
    );
    assert_eq!(
        (&ports["ports"][0]["device_name"], &ports["ports"][0]["vlan"]),
        (&"net_null0".into(), &7.into())
    );
    assert_eq!(read("/api/v1/overview")["ports"][0]["vlan"], 7);
    let counted = read("/api/v1/counters");
    assert_eq!(counted["dropped"][weir_dataplane::stats::DropReason::TooBig.label()], 1);
}

#[test]
fn connections_come_as_a_page_or_as_a_stream_of_lines() {
    let server = Server::usual(&Director::usual());
    let (status, page) = server.get("/api/v1/connections");
    assert_eq!((status, page.as_str()), (200, "{\"total\":0,\"connections\":[]}"));
    let (head, body) = server.ask("GET", "/api/v1/connections?stream=yes&templates=yes");
    assert!(head.contains("content-type: application/x-ndjson"), "{head}");
    // The end of a body in pieces.
    assert_eq!(body, "0\r\n\r\n");
    assert_eq!(server.get("/api/v1/connections?stream=no").0, 400);
}

#[test]
fn a_virtual_server_of_a_mark_is_listed_by_its_mark() {
    let director = Director::new(
        "[[mark]]\nmark = 7\naddresses = [\"192.0.2.0/24\"]\n\
         [[virtual_server]]\nname = \"group\"\nmark = 7\n\
         [[virtual_server.real_server]]\naddress = \"10.0.0.11\"\n\
         [[virtual_server]]\nname = \"plain\"\naddress = \"198.51.100.1\"\nport = 80\n\
         [[virtual_server.real_server]]\naddress = \"10.0.0.11\"\n",
    );
    let (_, body) = Server::usual(&director).get("/api/v1/virtual_servers");
    let listed: serde_json::Value = serde_json::from_str(&body).unwrap();
    let [group, plain] = &listed["virtual_servers"].as_array().unwrap()[..] else { panic!("{body}") };
    assert_eq!((group["mark"].as_u64(), group["family"].as_str()), (Some(7), Some("ipv4")));
    assert!(["address", "port", "protocol"].iter().all(|key| group.get(key).is_none()), "{body}");
    assert_eq!((plain["address"].as_str(), plain["port"].as_u64()), (Some("198.51.100.1"), Some(80)));
    assert!(plain.get("mark").is_none(), "{body}");
}

#[test]
fn workers_are_listed_with_their_passes() {
    let director = Director::usual();
    let counters = &director.workers[1].counters;
    counters.ports[0].receive_packets.add(9);
    counters.forwarded.add(7);
    counters.dropped(weir_dataplane::stats::DropReason::TooBig);
    counters.answer(weir_dataplane::stats::Answer::Echo);
    // 15 microseconds of the test's clock.
    weir_dataplane::stats::passes::Stopwatch::new(2_000_000_000).note(30_000, &counters.pass_times);
    let (status, body) = Server::usual(&director).get("/api/v1/workers");
    assert_eq!(status, 200, "{body}");
    let listed: serde_json::Value = serde_json::from_str(&body).unwrap();
    let worker = &listed["workers"][1];
    let figures = ["worker", "received", "forwarded", "dropped", "answered", "passes"];
    assert_eq!(figures.map(|name| worker[name].as_u64().unwrap()), [1, 9, 7, 1, 1, 1]);
    let within: Vec<u64> =
        worker["passes_within"].as_array().unwrap().iter().map(|it| it["passes"].as_u64().unwrap()).collect();
    assert_eq!(within[..2], [0, 1]);
    assert_eq!(listed["workers"][0]["passes"], 0);
}

#[test]
fn pages_at_a_time_are_limited_and_given_back() {
    let director = Director::usual();
    let server = Server::usual(&director);
    for _ in 0..3 * PAGES_MAX {
        assert_eq!(server.get("/metrics").0, 200);
    }
    let taken: Vec<_> =
        (0..PAGES_MAX).map(|_| server.state.pages.clone().try_acquire_owned().unwrap()).collect();
    let (head, body) = server.ask("GET", "/metrics");
    assert!(head.starts_with("http/1.1 503") && head.contains("retry-after: 1"), "{head}");
    assert_eq!(body, "too many pages are being made; try again in a second\n");
    assert_eq!(server.get("/live").0, 200);
    drop(taken);
    assert_eq!(server.get("/api/v1/overview").0, 200);
}

#[test]
fn idle_connections_keep_nobody_out() {
    let director = Director::usual();
    let server = Server::start(&director, Limits { connections: 8, ..PATIENT });
    let mut idle: Vec<_> = (0..32).map(|_| server.connect()).collect();
    for stream in &mut idle {
        // Some have given way to the next ones already.
        let _ = stream.write_all(b"GET /live HTTP/1.1\r\nX: ");
        stream.set_nonblocking(true).unwrap();
    }
    for path in ["/live", "/metrics", "/live"] {
        assert_eq!(server.get(path).0, 200, "{path}");
    }
    let began = Instant::now();
    let is_open = |stream: &mut TcpStream| matches!(stream.read(&mut [0; 1]), Err(problem) if problem.kind() == ErrorKind::WouldBlock);
    while idle.len() > 8 {
        idle.retain_mut(is_open);
        assert!(began.elapsed() < PATIENCE, "{} have not given way", idle.len());
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_header_that_does_not_come_ends_its_connection() {
    let director = Director::usual();
    let server = Server::start(&director, Limits { header: Duration::from_millis(300), ..Limits::USUAL });
    let began = Instant::now();
    let mut slow = server.connect();
    // On a busy machine it may be over by then.
    let _ = slow.write_all(b"GET /live HTTP/1.1\r\nX: ");
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest);
    assert!(!rest.starts_with(b"HTTP/1.1 200"));
    assert!(began.elapsed() >= Duration::from_millis(250), "{:?}", began.elapsed());
}

/// Ten thousand real servers: a page of metrics that no socket's buffers hold.
fn large() -> Director {
    let mut tables = String::new();
    for number in 0..40 {
        tables += &format!(
            "[[virtual_server]]\nname = \"s{number}\"\naddress = \"10.0.1.{number}\"\nport = 80\nprotocol = \"tcp\"\n\
             forwarding = \"dr\"\nscheduler = \"rr\"\n"
        );
        for real in 0..250 {
            let address = format!("10.0.{}.{}", 10 + number, 1 + real);
            tables += &format!("[[virtual_server.real_server]]\naddress = \"{address}\"\nport = 80\n");
        }
    }
    Director::new(&tables)
}

#[test]
fn clients_that_do_not_read_keep_nobody_out_and_hold_a_bounded_amount() {
    let director = large();
    let page = director.metrics.page(Wanted::default()).unwrap().len();
    assert!(page > 8 << 20, "{page} bytes");
    let server = Server::start(&director, Limits { held_bytes: 3 * page, ..PATIENT });
    let mut deaf: Vec<_> = (0..6).map(|_| server.connect()).collect();
    for stream in &mut deaf {
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
    }
    let (status, body) = server.get("/metrics");
    // What the process takes has a digit more or less.
    assert!(status == 200 && body.len().abs_diff(page) < 50, "{status}, {} of {page}", body.len());
    assert_eq!(server.get("/live").0, 200);
    let mut whole = 0;
    for mut stream in deaf {
        let mut rest = Vec::new();
        // The page has no end that a reader could wait for: the connection is kept alive.
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let _ = stream.read_to_end(&mut rest);
        whole += usize::from(rest.len() > page);
    }
    assert!(whole <= 3, "{whole} pages were held for clients that do not read");
}

#[test]
fn pages_are_refused_to_who_calls_weir_by_a_strange_name() {
    let director = Director::usual();
    let server = Server::usual(&director);
    let ask = |path: &str, host: &str| {
        let request = format!("GET {path} HTTP/1.1\r\n{host}Connection: close\r\n\r\n");
        let (head, body) = server.ask_with(&request);
        (head[9..12].parse::<u16>().unwrap(), body)
    };
    for path in ["/", "/metrics", "/api/v1/virtual_servers", "/nothing"] {
        let (status, body) = ask(path, "Host: rebound.example:9292\r\n");
        assert_eq!(status, 421, "{path}");
        let text = "rebound.example:9292 is no name of this director; ask by its address, or write the name into hosts of [http]\n";
        assert_eq!(body, text);
    }
    for host in ["Host: 127.0.0.1:9292\r\n", "Host: [::1]\r\n", "Host: localhost\r\n", "Host: X:1\r\n"] {
        assert_eq!(ask("/metrics", host).0, 200, "{host}");
    }
    // Who names no host is no browser.
    assert!(server.ask_with("GET /metrics HTTP/1.0\r\n\r\n").0.starts_with("http/1.0 200"));
    assert_eq!(ask("http://rebound.example/metrics", "Host: x\r\n").0, 421);
    for path in ["/live", "/ready"] {
        assert_ne!(ask(path, "Host: rebound.example\r\n").0, 421, "{path}");
    }
}

#[test]
fn a_request_without_one_host_is_bad_whatever_it_asks_for() {
    let director = Director::usual();
    let server = Server::usual(&director);
    for path in ["/", "/live", "/ready", "/metrics", "/nothing", "http://x/live"] {
        for (host, said) in [
            ("", "a request of HTTP/1.1 needs a Host line, and this one has none (RFC 9112, 3.2)\n"),
            (
                "Host: x\r\nHost: x\r\n",
                "a request has one Host line, and this one has several (RFC 9112, 3.2)\n",
            ),
            ("Host: x y\r\n", "\"x y\" is no host, with a port or without (RFC 9112, 3.2)\n"),
        ] {
            let (head, body) =
                server.ask_with(&format!("GET {path} HTTP/1.1\r\n{host}Connection: close\r\n\r\n"));
            assert!(head.starts_with("http/1.1 400"), "{path} {host:?}: {head}");
            assert_eq!(body, said);
        }
    }
}

#[test]
fn a_connection_serves_many_requests_but_not_for_ever() {
    let director = Director::usual();
    let limits = Limits { age: Duration::from_secs(1), header: NEVER, ..Limits::USUAL };
    let server = Server::start(&director, limits);
    let mut stream = server.connect();
    let began = Instant::now();
    let mut answered = 0;
    let mut answer = [0; 1024];
    loop {
        let sent = stream.write_all(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n");
        match sent.and_then(|()| stream.read(&mut answer)) {
            Ok(0) | Err(_) => break,
            Ok(_) => answered += 1,
        }
        assert!(began.elapsed() < PATIENCE, "still open after {answered} requests");
        thread::sleep(Duration::from_millis(10));
    }
    assert!(answered > 3, "{answered}");
}

#[test]
fn oversized_requests_are_refused() {
    let director = Director::usual();
    let server = Server::usual(&director);
    let mut stream = server.connect();
    let header = format!("GET /live HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(64 << 10));
    let _ = stream.write_all(header.as_bytes());
    let mut answer = [0; 12];
    // The rest of the request may still be on its way when the connection is closed, which resets it.
    if stream.read_exact(&mut answer).is_ok() {
        assert_eq!(&answer, b"HTTP/1.1 431");
    }
    let many = "X: y\r\n".repeat(500);
    let (head, _) = server.ask_with(&format!("GET /live HTTP/1.1\r\n{many}\r\n"));
    assert!(head.starts_with("http/1.1 431"), "{head}");
    let (head, _) = server.ask_with("nonsense\r\n\r\n");
    assert!(head.starts_with("http/1.1 400"), "{head}");
    assert_eq!(server.get("/live").0, 200);
}

#[test]
fn a_stop_waits_for_no_idle_connection_and_frees_the_address() {
    let director = Director::usual();
    let mut server = Server::start(&director, PATIENT);
    let _idle = server.connect();
    let mut reader = server.connect();
    reader.write_all(b"GET /live HTTP/1.1\r\n").unwrap();
    assert_eq!(server.get("/live").0, 200);
    let began = Instant::now();
    server.stop();
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    assert!(bind(server.address).is_ok());
}

#[test]
fn an_address_that_can_not_be_had_is_said_in_a_sentence() {
    let first = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = first.local_addr().unwrap();
    let problem = bind(address).unwrap_err().to_string();
    let expected = "([http] listen): the address is in use; is another weir running?";
    assert_eq!(problem, format!("HTTP can't listen on {address} {expected}"));
    let problem = bind("192.0.2.1:9292".parse().unwrap()).unwrap_err().to_string();
    assert_eq!(
        problem,
        "HTTP can't listen on 192.0.2.1:9292 ([http] listen): this machine has no such address"
    );
}

#[test]
fn a_client_reads_all_that_is_answered() {
    fn read<T: serde::Serialize + serde::de::DeserializeOwned>(server: &Server, path: &str) -> T {
        let (status, body) = server.get(path);
        assert_eq!(status, 200, "{body}");
        let read: T = serde_json::from_str(&body).unwrap();
        let said: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), said, "{path}: nothing is left out");
        read
    }
    let director = Director::usual();
    let server = Server::usual(&director);
    let served: weir_api::virtual_servers::Listing<'static> = read(&server, "/api/v1/virtual_servers");
    assert_eq!((&*served.virtual_servers[0].name, served.virtual_servers[0].real_servers.len()), ("web", 2));
    let health: weir_api::health::Listing<'static> = read(&server, "/api/v1/health");
    assert!(!health.virtual_servers[0].real_servers[0].checks.is_empty());
    let vrrp: weir_api::vrrp::Listing<'static> = read(&server, "/api/v1/vrrp");
    assert_eq!((&*vrrp.instances[0].instance, vrrp.unclaimed[0].count), ("vi", 3));
    assert!(vrrp.instances[0].last_heard.is_some());
    let workers: weir_api::workers::Listing = read(&server, "/api/v1/workers");
    assert_eq!(workers.workers.len(), 2);
    let _: weir_api::connections::Listing<'static> = read(&server, "/api/v1/connections");
    // Nobody works at these desks.
    let neighbors: weir_api::neighbors::Listing<'static> = read(&server, "/api/v1/neighbors");
    assert_eq!((neighbors.neighbors.len(), neighbors.silent_workers), (0, vec![0, 1]));
}

#[test]
fn who_does_not_answer_what_is_asked_is_named_and_bad_questions_are_refused() {
    let director = Director::usual();
    let server = Server::usual(&director);
    let ends = "protocol=tcp&source=198.51.100.7:4000&destination=192.0.2.1:80";
    let (status, body) = server.get(&format!("/api/v1/explain?{ends}"));
    let told: weir_api::explain::Explanation<'static> = serde_json::from_str(&body).unwrap();
    assert_eq!((status, told.verdicts.len(), told.silent), (200, 0, vec![0, 1]), "no worker polls here");
    assert_eq!(
        (told.packet.segment.as_deref(), &*told.packet.port, told.packet.length),
        (Some("syn"), "lan", 40)
    );
    for (query, sentence) in [
        ("protocol=tcp".to_owned(), "the query holds protocol"),
        (format!("{ends}&port=wan"), "there is no port wan; there are lan"),
        (format!("{ends}&worker=2"), "there is no worker 2; there are 0 to 1"),
        (format!("{ends}&protocol=udp"), "protocol is there twice"),
        (ends.replace(":80", ""), "destination is 192.0.2.1, which is no address with a port"),
    ] {
        let (status, body) = server.get(&format!("/api/v1/explain?{query}"));
        assert!(status == 400 && body.starts_with(sentence) && body.ends_with('\n'), "{status} {body}");
    }
}

#[test]
fn of_two_values_neither_counts() {
    let director = Director::usual();
    let server = Server::usual(&director);
    for path in [
        "virtual_servers?name=web&name=dns",
        "connections?limit=1&l%69mit=2",
        "health?virtual_server=a&virtual_server=b",
    ] {
        let (status, body) = server.get(&format!("/api/v1/{path}"));
        assert!(status == 400 && body.ends_with(" is there twice\n"), "{path}: {status} {body}");
    }
}

#[test]
fn keys_that_nobody_knows_are_refused_all_over_the_api() {
    let director = Director::usual();
    let server = Server::usual(&director);
    for (path, _) in READING.iter().filter(|(path, _)| path.starts_with("/api/v1/")) {
        for query in ["x=1", "x"] {
            let (status, body) = server.get(&format!("{path}?{query}"));
            assert!(status == 400 && body.ends_with('\n'), "{path}?{query}: {status} {body}");
        }
        if *path != "/api/v1/explain" {
            assert_eq!(server.get(&format!("{path}?")).0, 200, "{path}: nothing is asked for");
        }
    }
    assert_eq!(server.get("/api/v1/ports?port=lan").1, "/api/v1/ports takes no query\n");
    // Scrapers and supervisors may write what they like there.
    assert_eq!((server.get("/metrics?x").0, server.get("/live?x").0), (200, 200));
    let (status, body) = server.get("/api/v1/connections?state=foo");
    assert!(status == 400 && body.starts_with("no protocol has the state FOO; there are NONE, "), "{body}");
}
