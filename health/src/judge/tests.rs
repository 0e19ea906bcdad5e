//! The judge on a virtual clock.

mod many;
mod passive;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use bolero::check;
use weir_config::model::Config;
use weir_config::model::health::HealthCheck;

use super::passive::Sample;
use super::target::Place;
use super::track::{Track, Verdict};
use super::*;
use crate::overlay::{Limit, effective};

const HEAD: &str = r#"
[[port]]
name = "lan"
device = "net_null0"
addresses = ["10.0.0.2/16"]
"#;

/// Two real servers of "web", and one of them again in "admin", with the same check.
const SHARED: &str = r#"
[[virtual_server]]
name = "web"
address = "10.0.0.100"
port = 80
quorum = 3
hysteresis = 1
[virtual_server.health_check]
type = "tcp"
interval = 2
retry_interval = 1
timeout = 1
fall = 2
rise = 2
warmup = 0
jitter = 0
[virtual_server.sorry_server]
address = "10.0.0.99"
[[virtual_server.real_server]]
address = "10.0.0.11"
weight = 3
[[virtual_server.real_server]]
address = "10.0.0.12"
weight = 2
on_fail = "quiesce"

[[virtual_server]]
name = "admin"
address = "10.0.0.101"
port = 80
[virtual_server.health_check]
type = "tcp"
interval = 2
retry_interval = 1
timeout = 1
fall = 2
rise = 2
warmup = 0
jitter = 0
[[virtual_server.real_server]]
address = "10.0.0.11"
"#;

fn parse(tables: &str) -> Config {
    weir_config::parse("weir.toml", &format!("{HEAD}{tables}")).unwrap_or_else(|r| panic!("{r}")).config
}

fn seconds(seconds: f64) -> Moment {
    Duration::from_secs_f64(seconds)
}

/// A judge with its clock, and servers that answer as they are told.
struct Bench {
    config: Config,
    judge: Judge,
    now: Moment,
    /// Addresses that fail.
    dead: Vec<SocketAddr>,
    /// Checks can't be made.
    is_blind: bool,
    events: Vec<Event>,
    checks: HashMap<SocketAddr, u32>,
}

impl Bench {
    fn new(tables: &str) -> Self {
        let config = parse(tables);
        let mut judge = Judge::new(1);
        judge.configure(&config, Duration::ZERO);
        Self {
            config,
            judge,
            now: Duration::ZERO,
            dead: vec![],
            is_blind: false,
            events: vec![],
            checks: HashMap::new(),
        }
    }

    /// Makes every check that is due until then. Each takes no time.
    fn run_until(&mut self, end: f64) {
        while let Some(due) = self.judge.next_due().filter(|due| *due <= seconds(end)) {
            self.now = due;
            while let Some(due) = self.judge.begin(self.now) {
                let Key::Check(_, Place { at, .. }) = due.key else { panic!("{:?}", due.key) };
                *self.checks.entry(at).or_default() += 1;
                let (outcome, detail) = match self.dead.contains(&at) {
                    _ if self.is_blind => (Outcome::Error, "no descriptor"),
                    true => (Outcome::Refused, "as told"),
                    false => (Outcome::Success, "as told"),
                };
                self.judge.answer(due.id, self.now, Answer::new(outcome, detail, Duration::ZERO));
            }
        }
        self.now = seconds(end);
        self.events.extend(self.judge.events());
    }

    fn kill(&mut self, address: &str) {
        self.dead.push(address.parse().unwrap());
    }

    /// `10.0.0.11:3` for each real server of a virtual server, with the weight that is served.
    fn served(&self, name: &str) -> Vec<String> {
        let served = effective(&self.config, &self.judge.overlay());
        let server = served.virtual_servers.iter().find(|it| it.name == name).unwrap();
        server.real_servers.iter().map(|real| format!("{}:{}", real.address, real.weight)).collect()
    }

    fn changes(&mut self) -> Vec<(String, Change)> {
        self.events.drain(..).map(|event| (event.virtual_server, event.change)).collect()
    }
}

#[test]
fn a_target_is_checked_once_however_many_virtual_servers_have_it() {
    let mut bench = Bench::new(SHARED);
    assert_eq!(bench.judge.target_count(), 2);
    bench.run_until(10.0);
    assert_eq!(bench.checks[&"10.0.0.11:80".parse().unwrap()], 6);
    assert_eq!(bench.checks[&"10.0.0.12:80".parse().unwrap()], 6);
}

#[test]
fn a_dead_server_leaves_every_virtual_server_after_fall_failures_and_returns_after_rise_successes() {
    let mut bench = Bench::new(SHARED);
    bench.run_until(4.5);
    bench.kill("10.0.0.11:80");
    bench.run_until(6.5);
    assert_eq!(bench.served("admin"), ["10.0.0.11:1"], "one failure is not enough");
    bench.run_until(7.0);
    assert_eq!(bench.served("admin"), [""; 0], "the second came after the retry interval");
    // 2 of 5 are left, and the quorum is 3 - 1: it holds.
    assert_eq!(bench.served("web"), ["10.0.0.12:2"]);
    let changes = bench.changes();
    let down = "tcp check of 10.0.0.11:80: as told (2 failures in a row within 1.0 s)";
    let server = "10.0.0.11:80".parse().unwrap();
    let expected = Change::Server { server, is_up: false, reason: down.to_owned() };
    assert_eq!(changes[..2], [("web".to_owned(), expected.clone()), ("admin".to_owned(), expected)]);
    assert_eq!(changes[2], ("admin".to_owned(), Change::Quorum { has_quorum: false, weight: 0, quorum: 1 }));
    bench.dead.clear();
    bench.run_until(9.5);
    assert_eq!(bench.served("admin"), [""; 0], "one success is not enough");
    bench.run_until(10.0);
    assert_eq!(bench.served("admin"), ["10.0.0.11:1"]);
    assert_eq!(bench.served("web"), ["10.0.0.11:3", "10.0.0.12:2"]);
}

#[test]
fn a_real_server_s_own_hooks_stand_in_for_those_of_all() {
    let all = "[[virtual_server]]\nnotify_up = [\"/all\"]\nnotify_down = [\"/all\"]\n";
    let own = "address = \"10.0.0.11\"\nnotify_down = [\"/own\", \"x\"]\n";
    let text = SHARED.replacen("[[virtual_server]]\n", all, 1).replacen("address = \"10.0.0.11\"\n", own, 1);
    let mut bench = Bench::new(&text);
    bench.run_until(4.5);
    bench.kill("10.0.0.11:80");
    bench.kill("10.0.0.12:80");
    bench.run_until(10.0);
    let mut told = |is_up: bool| {
        let hook = |event: Event| {
            let hooks = if is_up { event.hooks.up } else { event.hooks.down };
            matches!(event.change, Change::Server { .. })
                .then(|| format!("{}{}", event.virtual_server, hooks.join(" ")))
        };
        let mut told: Vec<String> = bench.events.drain(..).filter_map(hook).collect();
        told.sort();
        bench.dead.clear();
        bench.run_until(20.0);
        told
    };
    assert_eq!(told(false), ["admin", "web/all", "web/own x"]);
    assert_eq!(told(true), ["admin", "web/all", "web/all"]);
}

#[test]
fn a_check_that_can_not_be_made_changes_no_verdict_and_breaks_no_row() {
    let mut bench = Bench::new(SHARED);
    bench.run_until(4.5);
    bench.is_blind = true;
    bench.run_until(60.0);
    assert_eq!(bench.served("web"), ["10.0.0.11:3", "10.0.0.12:2"], "whoever was up stays up");
    let listed = &bench.judge.listing(bench.now)[0].servers[0];
    assert!(listed.checks[0].counts[Outcome::Error as usize] > 10, "{listed:?}");
    assert_eq!(bench.changes(), []);
    // A failure before and one after are two in a row; the reason is the server's, whatever was last.
    bench.is_blind = false;
    bench.kill("10.0.0.11:80");
    let failures = |bench: &Bench| bench.judge.listing(bench.now)[1].servers[0].checks[0].against;
    while failures(&bench) == 0 {
        bench.run_until(bench.now.as_secs_f64() + 0.1);
    }
    bench.is_blind = true;
    bench.run_until(bench.now.as_secs_f64() + 20.0);
    assert_eq!(bench.served("admin"), ["10.0.0.11:1"]);
    bench.is_blind = false;
    bench.run_until(bench.now.as_secs_f64() + 2.5);
    assert_eq!(bench.served("admin"), [""; 0]);
    // Whoever is down stays down.
    bench.dead.clear();
    bench.is_blind = true;
    bench.run_until(bench.now.as_secs_f64() + 60.0);
    assert_eq!(bench.served("admin"), [""; 0]);
    let reason = &bench.judge.listing(bench.now)[1].servers[0].reason;
    assert!(reason.starts_with("tcp check of 10.0.0.11:80: as told"), "{reason}");
}

#[test]
fn an_agent_s_limit_of_connections_is_served_until_it_is_taken_back() {
    let file = parse(
        r#"
[[virtual_server]]
name = "web"
address = "10.0.0.100"
port = 80
[virtual_server.agent]
port = 5480
[[virtual_server.real_server]]
address = "10.0.0.11"
upper_threshold = 100
lower_threshold = 60
"#,
    );
    let mut judge = Judge::new(1);
    judge.configure(&file, Duration::ZERO);
    let mut tell = |limit| {
        let now = judge.next_due().unwrap();
        let due = judge.begin(now).unwrap();
        let answer = Answer::new(Outcome::Success, "told", Duration::ZERO);
        judge.answer(due.id, now, Answer { weight: Some(Weight::Configured), limit: Some(limit), ..answer });
        let events = judge.events().len();
        let served = effective(&file, &judge.overlay());
        let real = &served.virtual_servers[0].real_servers[0];
        (real.upper_threshold, real.lower_threshold, events)
    };
    assert_eq!(tell(Limit::Configured), (100, 60, 0));
    assert_eq!(tell(Limit::Fixed(30)), (30, 30, 1));
    assert_eq!(tell(Limit::Fixed(30)), (30, 30, 0));
    assert_eq!(tell(Limit::Fixed(0)), (0, 0, 1), "no limit");
    assert_eq!(tell(Limit::Configured), (100, 60, 1));
}

#[test]
fn a_quorum_has_hysteresis_and_the_sorry_server_replaces_who_is_left() {
    let mut bench = Bench::new(SHARED);
    bench.kill("10.0.0.11:80");
    bench.run_until(5.0);
    assert_eq!(bench.served("web"), ["10.0.0.12:2"]);
    bench.kill("10.0.0.12:80");
    bench.run_until(10.0);
    assert_eq!(bench.served("web"), ["10.0.0.12:0", "10.0.0.99:1"], "it is quiesced, the other removed");
    // 2 of 5 were enough to keep the quorum; to gain it again takes 3 + 1.
    bench.dead.retain(|at| *at != "10.0.0.12:80".parse().unwrap());
    bench.run_until(20.0);
    assert_eq!(bench.served("web"), ["10.0.0.12:0", "10.0.0.99:1"], "up, but replaced");
    bench.dead.clear();
    bench.run_until(30.0);
    assert_eq!(bench.served("web"), ["10.0.0.11:3", "10.0.0.12:2"]);
    bench.config.virtual_servers[0].health.sorry_mode = weir_config::model::health::SorryMode::Add;
    bench.kill("10.0.0.11:80");
    bench.kill("10.0.0.12:80");
    bench.run_until(40.0);
    bench.dead.remove(1);
    bench.run_until(50.0);
    assert_eq!(bench.served("web"), ["10.0.0.12:2", "10.0.0.99:1"], "beside it");
}

#[test]
fn alpha_waits_for_the_first_success() {
    let text =
        SHARED.replace("quorum = 3\nhysteresis = 1", "alpha = true").replace("warmup = 0", "warmup = 4");
    let mut bench = Bench::new(&text);
    assert_eq!(bench.served("web"), ["10.0.0.12:0", "10.0.0.99:1"], "down, and so the sorry server");
    assert_eq!(bench.served("admin"), ["10.0.0.11:1"], "taken to be up");
    bench.run_until(4.0);
    assert_eq!(bench.served("web"), ["10.0.0.11:3", "10.0.0.12:2"], "one success, although rise is 2");
}

#[test]
fn a_reload_keeps_what_is_known() {
    let mut bench = Bench::new(SHARED);
    bench.kill("10.0.0.11:80");
    bench.run_until(5.0);
    let before = bench.served("web");
    let next = bench.judge.next_due();
    bench.judge.configure(&bench.config, bench.now);
    assert_eq!((bench.served("web"), bench.judge.next_due()), (before, next));
    // A changed check begins with the verdict, too.
    let slower = parse(&SHARED.replace("interval = 2", "interval = 3"));
    bench.judge.configure(&slower, bench.now);
    assert_eq!(bench.served("admin"), [""; 0]);
    bench.events.clear();
    bench.run_until(20.0);
    assert_eq!(bench.changes(), []);
    // Without the check it is up, and said to be.
    let start = SHARED.find("[[virtual_server]]\nname = \"admin\"").unwrap();
    let unchecked = SHARED[start..].replace("[virtual_server.health_check]\ntype = \"tcp\"", "");
    let unchecked: String = unchecked
        .lines()
        .filter(|line| {
            !["interval", "retry", "timeout", "fall", "rise", "warmup", "jitter"]
                .iter()
                .any(|key| line.starts_with(key))
        })
        .map(|line| format!("{line}\n"))
        .collect();
    bench.config = parse(&unchecked);
    bench.judge.configure(&bench.config, bench.now);
    bench.run_until(30.0);
    assert_eq!(bench.served("admin"), ["10.0.0.11:1"]);
    let [(_, up), (_, Change::Quorum { has_quorum: true, .. })] = &bench.changes()[..] else { panic!() };
    let server = "10.0.0.11:80".parse().unwrap();
    assert_eq!(*up, Change::Server { server, is_up: true, reason: "not checked".to_owned() });
    assert_eq!(bench.judge.target_count(), 0);
}

#[test]
fn an_answer_to_a_target_that_is_gone_changes_nothing() {
    let mut bench = Bench::new(SHARED);
    let due = bench.judge.begin(Duration::ZERO).unwrap();
    bench.judge.configure(&parse(""), Duration::ZERO);
    bench.judge.configure(&bench.config, Duration::ZERO);
    let answer =
        Answer { weight: Some(Weight::Fixed(9)), ..Answer::new(Outcome::Success, "", Duration::ZERO) };
    assert!(!bench.judge.answer(due.id, Duration::ZERO, answer));
    assert_eq!(bench.served("admin"), ["10.0.0.11:1"]);
}

#[test]
fn weights_come_from_checks_agents_and_files() {
    let text = SHARED.replace("on_fail = \"quiesce\"", "weight_file = \"/run/weight\"");
    let config = parse(
        &text
            .replace(
                "[[virtual_server.real_server]]",
                "[virtual_server.agent]\nport = 9\n[[virtual_server.real_server]]",
            )
            .replacen(
                "[virtual_server.agent]\nport = 9\n[[virtual_server.real_server]]\naddress = \"10.0.0.12\"",
                "[[virtual_server.real_server]]\naddress = \"10.0.0.12\"",
                1,
            ),
    );
    let mut judge = Judge::new(1);
    judge.configure(&config, Duration::ZERO);
    let now = seconds(10.0);
    while let Some(due) = judge.begin(now) {
        let mut answer = Answer::new(Outcome::Success, "told", Duration::ZERO);
        answer.weight = match &due.key {
            Key::Check(..) => None,
            Key::Agent(_, at) if at.ip().to_string() == "10.0.0.11" => Some(Weight::Percent(50)),
            Key::Agent(..) => Some(Weight::Fixed(1)),
            Key::File(_) => Some(Weight::Fixed(7)),
        };
        judge.answer(due.id, now, answer);
    }
    let weights: Vec<_> = effective(&config, &judge.overlay()).virtual_servers[0]
        .real_servers
        .iter()
        .map(|real| real.weight)
        .collect();
    assert_eq!(weights, [2, 7], "half of three, rounded up; the file wins over the agent");
    let told = judge.events();
    assert!(told.iter().any(|event| matches!(&event.change,
        Change::Weight { from: 3, to: 2, source, .. } if source == "agent at 10.0.0.11:9")));
}

#[test]
fn the_next_check_is_never_later_than_the_interval_and_never_twice_at_a_time() {
    let mut bench = Bench::new(&SHARED.replace("jitter = 0", "jitter = 0.5"));
    let mut last: HashMap<usize, Moment> = HashMap::new();
    let mut pauses = Vec::new();
    for _ in 0..400 {
        let Some(now) = bench.judge.next_due() else { panic!("nothing is due") };
        let due = bench.judge.begin(now).unwrap();
        if let Some(before) = last.insert(due.id.number, now) {
            pauses.push((now - before).as_secs_f64());
        }
        assert_eq!(bench.judge.under_way(), 1);
        bench.judge.answer(due.id, now, Answer::new(Outcome::Success, "", Duration::ZERO));
    }
    let (least, most) =
        (pauses.iter().copied().fold(9.0, f64::min), pauses.iter().copied().fold(0.0, f64::max));
    assert!((1.0..1.2).contains(&least) && (1.8..=2.0).contains(&most), "{least} {most}");
    // One that takes longer than its interval is followed by the next at once, and is alone until then.
    let due = std::iter::from_fn(|| bench.judge.begin(seconds(1e6))).last().unwrap();
    assert_eq!(bench.judge.next_due(), None);
    bench.judge.answer(due.id, seconds(1e6 + 5.0), Answer::new(Outcome::Timeout, "", seconds(5.0)));
    assert_eq!(bench.judge.next_due(), Some(seconds(1e6 + 5.0)));
}

#[test]
fn omega_says_that_all_is_down() {
    let mut bench = Bench::new(&SHARED.replace("quorum = 3", "omega = true\nquorum = 3"));
    let events = bench.judge.farewell(bench.now);
    assert_eq!(events.len(), 3, "two real servers and the quorum of web");
    assert!(events.iter().all(|event| event.virtual_server == "web"));
}

#[test]
fn a_track_is_what_a_count_of_the_last_answers_says() {
    let config = parse(SHARED);
    let check = &config.virtual_servers[0].real_servers[0].health_checks[0];
    check!().with_type::<(u8, u8, Vec<bool>)>().for_each(|(fall, rise, answers)| {
        let check = HealthCheck {
            fall: u32::from(fall % 5) + 1,
            rise: u32::from(rise % 5) + 1,
            ..HealthCheck::clone(check)
        };
        let mut track = Track::from(Verdict::Untried);
        let mut model = Verdict::Untried;
        let run =
            |answers: &[bool], of: bool| answers.iter().rev().take_while(|it| **it == of).count() as u32;
        for end in 1..=answers.len() {
            let change = track.answer(&check, answers[end - 1]);
            let next = match model {
                Verdict::Untried if answers[end - 1] => Verdict::Up,
                Verdict::Untried | Verdict::Up if run(&answers[..end], false) >= check.fall => Verdict::Down,
                Verdict::Down if run(&answers[..end], true) >= check.rise => Verdict::Up,
                same => same,
            };
            assert_eq!(change, (next != model).then_some(next));
            assert_eq!(track.verdict(), next);
            model = next;
        }
    });
}

/// Any sequence of reloads, answers and time: events tell the overlay, every target is either under way or due, and the
/// quorum is what its definition says.
#[test]
fn events_tell_the_whole_story() {
    let variants = [
        SHARED.to_owned(),
        SHARED.replace("weight = 2", "weight = 5").replace("fall = 2", "fall = 1"),
        SHARED.replace(
            "[[virtual_server.real_server]]\naddress = \"10.0.0.12\"",
            "[[virtual_server.real_server]]\naddress = \"10.0.0.13\"",
        ),
        SHARED.replace("quorum = 3\nhysteresis = 1", "quorum = 1\nalpha = true"),
    ]
    .map(|text| parse(&text));
    check!().with_type::<(u64, Vec<(u8, u8)>)>().for_each(|(seed, steps)| {
        let mut judge = Judge::new(*seed);
        let mut config = &variants[0];
        let mut now = Duration::ZERO;
        judge.configure(config, now);
        judge.events();
        let mut told = judge.overlay();
        let quorums =
            |judge: &Judge| -> Vec<_> { judge.quorums().map(|(name, has)| (name.to_owned(), has)).collect() };
        let mut heard = (judge.overlay(), quorums(&judge));
        judge.news();
        let mut under_way: Vec<Due> = Vec::new();
        for (what, value) in steps {
            match what % 4 {
                0 => now += Duration::from_millis(u64::from(*value) * 20),
                1 => under_way.extend(judge.begin(now)),
                2 if !under_way.is_empty() => {
                    let due = under_way.swap_remove(usize::from(*value) % under_way.len());
                    let outcome = Outcome::ALL[usize::from(value / 16 % 2) * 3];
                    judge.answer(due.id, now, Answer::new(outcome, "", Duration::ZERO));
                }
                3 if value % 8 == 0 => {
                    config = &variants[usize::from(value / 8) % variants.len()];
                    judge.configure(config, now);
                    // Who is new begins without an event.
                    let fresh = judge.overlay();
                    told.services.retain(|identity, _| fresh.services.contains_key(identity));
                    for (identity, standing) in fresh.services {
                        let known = told.services.entry(identity).or_insert(standing.clone());
                        let known = Arc::make_mut(known);
                        known.servers.retain(|key, _| standing.servers.contains_key(key));
                        for (&key, &standing) in &standing.servers {
                            known.servers.entry(key).or_insert(standing);
                        }
                    }
                }
                _ => {}
            }
            for event in judge.events() {
                let file = config.virtual_servers.iter().find(|it| it.name == event.virtual_server).unwrap();
                let service = Arc::make_mut(told.services.get_mut(&file.identity()).unwrap());
                match event.change {
                    Change::Server { server, is_up, .. } => {
                        let standing = service.servers.get_mut(&(server.ip(), server.port())).unwrap();
                        assert_ne!(standing.is_up, is_up, "an event without a change");
                        standing.is_up = is_up;
                    }
                    Change::Quorum { has_quorum, .. } => {
                        assert_ne!(service.has_quorum, has_quorum);
                        service.has_quorum = has_quorum;
                    }
                    Change::Weight { .. } | Change::Limit { .. } => panic!("nobody tells weights here"),
                }
            }
            assert_eq!(judge.overlay(), told);
            let news = judge.news();
            assert!(news.overlay || judge.overlay() == heard.0, "a change that nobody is told");
            assert!(news.quorums || quorums(&judge) == heard.1, "a quorum that nobody is told");
            heard = (judge.overlay(), quorums(&judge));
            assert_eq!(
                judge.under_way()
                    + judge
                        .queue
                        .iter()
                        .filter(|Reverse((_, number, life))| {
                            judge.targets[*number].as_ref().is_some_and(|target| target.life == *life)
                        })
                        .count(),
                judge.target_count()
            );
            for listing in judge.listing(now) {
                let up: u64 =
                    listing.servers.iter().filter(|it| it.is_up).map(|it| u64::from(it.weight)).sum();
                assert_eq!(listing.weight, up);
                let (quorum, slack) =
                    (u64::from(listing.quorum.weight), u64::from(listing.quorum.hysteresis));
                assert!(!listing.has_quorum || (up > 0 && up >= quorum - slack), "{listing:?}");
                assert!(listing.has_quorum || up < quorum + slack, "{listing:?}");
            }
        }
    });
}
