//! What is known, gathered once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use weir_api::connections;
use weir_api::director::{Counters, Ports, Status};
use weir_api::edits::{Changes, Desired, Reload, Reloaded};
use weir_api::virtual_servers::Listing;
use weir_api::workers;

use super::Where;
use super::host::Host;
use super::plan::Plan;
use super::process::Process;
use crate::client::{Client, Door};
use crate::weir::Problem;

/// For the questions to weir, all together. A listing of 65,535 virtual servers takes it a second or two.
const ANSWERS_MAX: Duration = Duration::from_secs(15);
/// Connections that have not opened yet that are looked at. More are there in a flood.
const OPENING_MAX: usize = 10_000;
/// For one of them.
pub(super) const PATIENCE: Duration = Duration::from_secs(8);

/// What weir says.
#[derive(Debug, Clone)]
pub(super) struct Answers {
    pub(super) status: Status<'static>,
    pub(super) counters: Counters,
    pub(super) servers: Listing<'static>,
    /// TCP connections that have not opened yet, by virtual server and real server; of the first [`OPENING_MAX`].
    pub(super) opening: BTreeMap<(String, SocketAddr), u32>,
    /// Twice: what grows grows between them.
    pub(super) ports: [Ports<'static>; 2],
    pub(super) workers: [workers::Listing; 2],
    /// `None`: asked at a door that does not tell.
    pub(super) in_force: Option<InForce>,
}

/// What is in force against the file.
#[derive(Debug, Clone)]
pub(super) struct InForce {
    pub(super) tables: Desired,
    /// Why the file would be refused now.
    pub(super) refused: Option<String>,
    /// The file says something else than when it was read.
    pub(super) is_file_new: bool,
    /// Edits that the file does not know.
    pub(super) edits: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) host: Host,
    pub(super) process: Process,
    pub(super) door: Door,
    /// What weir says, or why it says nothing.
    pub(super) answers: Result<Answers, String>,
    /// weir's file.
    pub(super) file: PathBuf,
    /// What weir is to do, or what is wrong with its file.
    pub(super) plan: Result<Plan, String>,
    /// Two looks at the workers' cores.
    pub(super) looks: [Look; 2],
}

/// What the kernel has counted up to a moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Look {
    pub(super) at: Option<Instant>,
    /// Nanoseconds that each worker has waited for its core.
    pub(super) waited: Vec<Option<u64>>,
    /// Ticks that a hypervisor took from each CPU, and ticks in all.
    pub(super) stolen: BTreeMap<usize, (u64, u64)>,
    /// By name of the interrupt and CPU.
    pub(super) interrupts: BTreeMap<(String, usize), u64>,
}

impl Facts {
    /// Looks around.
    pub(super) fn gather(place: Where) -> Self {
        let host = Host::new(&place.root);
        let (asked, pid) = asked(&place.door);
        let process = Process::find(&host, pid);
        let before = Look::at(&host, &process);
        let answers = match asked {
            Ok(client) => within(ANSWERS_MAX, move || answers(client, place.between)),
            Err(problem) => {
                thread::sleep(place.between);
                Err(problem)
            }
        };
        let after = Look::at(&host, &process);
        let file = process.file(&host).unwrap_or(place.file);
        let in_force = answers.as_ref().ok().and_then(|it| it.in_force.as_ref());
        let plan = match in_force {
            Some(it) => Ok(Plan::of_tables(&it.tables)),
            None => {
                let file = host.path(&file.to_string_lossy());
                within(PATIENCE, move || Plan::of_file(&file))
            }
        };
        Self { host, process, door: place.door, answers, file, plan, looks: [before, after] }
    }

    /// Whether weir runs.
    pub(super) fn runs(&self) -> bool {
        self.process.pid.is_some() || self.answers.is_ok()
    }

    /// Ports of the plan that are devices, if there is one.
    pub(super) fn ports(&self) -> impl Iterator<Item = &super::plan::Port> {
        self.plan.iter().flat_map(|plan| &plan.ports).filter(|port| !port.is_vlan)
    }
}

/// A client, if somebody listens, and the process that does.
fn asked(door: &Door) -> (Result<Client, String>, Option<u32>) {
    let client = Client::new(door.clone()).map_err(|problem| problem.to_string());
    match client {
        Ok(client) => {
            let mut client = client.with_patience(PATIENCE);
            let pid = client.peer();
            (Ok(client), pid)
        }
        Err(problem) => (Err(problem), None),
    }
}

/// What weir says of itself.
fn answers(mut client: Client, between: Duration) -> Result<Answers, String> {
    let mut ask = || -> Result<Answers, Problem> {
        let status = client.get("/api/v1/status")?;
        let early = (client.get("/api/v1/ports")?, client.get("/api/v1/workers")?);
        let began = Instant::now();
        let counters = client.get("/api/v1/counters")?;
        let servers = client.get("/api/v1/virtual_servers")?;
        let opening: connections::Listing<'static> =
            client.get(&format!("/api/v1/connections?protocol=tcp&state=SYN_RECV&limit={OPENING_MAX}"))?;
        let in_force = match client.door() {
            Door::Socket(_) => Some(in_force(&mut client)?),
            Door::Http(_) | Door::Web(_) => None,
        };
        thread::sleep(between.saturating_sub(began.elapsed()));
        let late = (client.get("/api/v1/ports")?, client.get("/api/v1/workers")?);
        Ok(Answers {
            status,
            counters,
            servers,
            opening: by_server(&opening),
            ports: [early.0, late.0],
            workers: [early.1, late.1],
            in_force,
        })
    };
    let answers = ask().map_err(|problem| problem.to_string());
    if answers.is_err() {
        thread::sleep(between);
    }
    answers
}

fn by_server(listing: &connections::Listing<'_>) -> BTreeMap<(String, SocketAddr), u32> {
    let mut found = BTreeMap::new();
    for it in &listing.connections {
        let server = SocketAddr::new(it.real_server, it.real_server_port);
        *found.entry((it.virtual_server.to_string(), server)).or_default() += 1;
    }
    found
}

/// Asks what a reload would do, and has none done.
fn in_force(client: &mut Client) -> Result<InForce, Problem> {
    let tables = client.get("/api/v1/desired")?;
    let mut would = |keep_edits| -> Result<Result<Reloaded, String>, Problem> {
        match client.post("/api/v1/reload", &Reload { dry_run: true, keep_edits }) {
            Ok(told) => Ok(Ok(told)),
            Err(Problem::Refused(refusal)) => Ok(Err(refusal.text)),
            Err(problem) => Err(problem),
        }
    };
    let (kept, dropped) = (would(true)?, would(false)?);
    Ok(InForce {
        tables,
        is_file_new: kept.as_ref().is_ok_and(|told| told.changed != Changes::default()),
        edits: dropped.as_ref().map_or(0, |told| told.dropped_edits),
        refused: dropped.err().or(kept.err()),
    })
}

/// What `work` gives, if it does so in time.
pub(super) fn within<T: Send + 'static>(
    time: Duration,
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let (say, said) = channel();
    let started = thread::Builder::new().spawn(move || say.send(work()));
    started.map_err(|problem| problem.to_string())?;
    said.recv_timeout(time).unwrap_or_else(|_| Err(format!("no answer within {} s", time.as_secs())))
}

impl Look {
    fn at(host: &Host, process: &Process) -> Self {
        let waited = process.workers.iter().map(|worker| {
            let path = format!("proc/{}/task/{}/schedstat", process.pid?, worker.thread?);
            host.text(&path)?.split_whitespace().nth(1)?.parse().ok()
        });
        let waited = waited.collect();
        let stolen = host.text("proc/stat").unwrap_or_default();
        let stolen = stolen.lines().filter_map(|line| {
            let mut words = line.strip_prefix("cpu")?.split_whitespace();
            let cpu = words.next()?.parse().ok()?;
            let ticks: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
            // user nice system idle iowait irq softirq steal; guests are in user.
            Some((cpu, (*ticks.get(7)?, ticks.iter().take(8).sum())))
        });
        Self { at: Some(Instant::now()), waited, stolen: stolen.collect(), interrupts: interrupts(host) }
    }
}

/// The numbered lines of /proc/interrupts: those of devices.
fn interrupts(host: &Host) -> BTreeMap<(String, usize), u64> {
    let text = host.text("proc/interrupts").unwrap_or_default();
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let cpus: Vec<usize> =
        head.split_whitespace().filter_map(|it| it.strip_prefix("CPU")?.parse().ok()).collect();
    let mut found = BTreeMap::new();
    for line in lines {
        let Some((number, rest)) = line.trim().split_once(':') else { continue };
        if number.parse::<u32>().is_err() {
            continue;
        }
        let words: Vec<&str> = rest.split_whitespace().collect();
        let name = words.get(cpus.len()..).and_then(<[_]>::last).unwrap_or(&"");
        for (cpu, count) in cpus.iter().zip(&words) {
            if let Ok(count) = count.parse() {
                found.insert((format!("{number} {name}"), *cpu), count);
            }
        }
    }
    found
}
