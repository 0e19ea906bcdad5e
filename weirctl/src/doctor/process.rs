//! The process of a running weir, and what its unit says where none runs.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::host::{Host, cpus};

/// Where units are, in the order in which systemd looks.
const UNITS: [&str; 3] = [
    "etc/systemd/system/weir.service",
    "usr/lib/systemd/system/weir.service",
    "lib/systemd/system/weir.service",
];

/// What DPDK calls the threads of workers, before the number of their lcores: 22.11 to 23.03, later ones, earlier ones.
const WORKERS: [&str; 3] = ["rte-worker", "dpdk-worker", "lcore-worker"];

/// A thread that polls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Worker {
    /// Its number.
    pub(super) number: usize,
    /// The kernel's for it; `None`: nothing runs yet.
    pub(super) thread: Option<u32>,
    /// Where it may run.
    pub(super) cpus: BTreeSet<usize>,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Process {
    /// `None`: nothing runs; the rest is its unit's.
    pub(super) pid: Option<u32>,
    /// How it was called, or is going to be.
    pub(super) arguments: Vec<String>,
    /// Workers.
    pub(super) workers: Vec<Worker>,
    /// The unit's text, where nothing runs.
    pub(super) unit: Option<String>,
}

impl Process {
    /// The one that `pid` says, or else the only one that is called weir, or else its unit's.
    pub(super) fn find(host: &Host, pid: Option<u32>) -> Self {
        // Another network namespace is another director's.
        let network = |of: &str| host.link(&format!("proc/{of}/ns/net"));
        let called_weir = |pid: &u32| {
            host.text(&format!("proc/{pid}/comm")).as_deref() == Some("weir")
                && network(&pid.to_string()) == network("self")
        };
        let pid = pid.filter(|pid| host.has(&format!("proc/{pid}/comm")));
        match pid.or_else(|| host.numbers("proc").into_iter().find(called_weir)) {
            Some(pid) => Self::running(host, pid),
            None => Self::planned(host),
        }
    }

    fn running(host: &Host, pid: u32) -> Self {
        let line = host.text(&format!("proc/{pid}/cmdline")).unwrap_or_default();
        let arguments = line.trim_end_matches('\0').split('\0').map(str::to_owned).collect();
        let mut threads: Vec<(u32, u32)> = Vec::new();
        for thread in host.numbers(&format!("proc/{pid}/task")) {
            let name = host.text(&format!("proc/{pid}/task/{thread}/comm")).unwrap_or_default();
            let lcore = WORKERS.iter().find_map(|prefix| name.strip_prefix(prefix));
            if let Some(lcore) = lcore {
                threads.push((lcore.trim_start_matches('-').parse().unwrap_or(u32::MAX), thread));
            }
        }
        threads.sort_unstable();
        if threads.is_empty() {
            // With one lcore the main thread is the worker.
            threads.push((0, pid));
        }
        let worker = |(number, (_, thread)): (usize, (u32, u32))| {
            let status = format!("proc/{pid}/task/{thread}/status");
            let allowed = host.field(&status, "Cpus_allowed_list").unwrap_or_default();
            Worker { number, thread: Some(thread), cpus: cpus(&allowed) }
        };
        let workers = threads.into_iter().enumerate().map(worker).collect();
        Self { pid: Some(pid), arguments, workers, unit: None }
    }

    fn planned(host: &Host) -> Self {
        let Some(unit) = UNITS.iter().find_map(|path| host.text(path)) else { return Self::default() };
        let start = unit.lines().find_map(|line| line.trim().strip_prefix("ExecStart="));
        let arguments: Vec<String> =
            start.unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        let mut planned = Self { arguments, unit: Some(unit), ..Self::default() };
        let lcores: Vec<usize> = planned.option("-l").map(|list| cpus(&list)).into_iter().flatten().collect();
        let of_workers = if lcores.len() > 1 { &lcores[1..] } else { &lcores[..] };
        planned.workers = of_workers
            .iter()
            .enumerate()
            .map(|(number, cpu)| Worker { number, thread: None, cpus: [*cpu].into() })
            .collect();
        planned
    }

    /// EAL's options.
    fn eal(&self) -> &[String] {
        let end = self.arguments.iter().position(|it| it == "--").unwrap_or(self.arguments.len());
        &self.arguments[..end]
    }

    /// Whether EAL has this option.
    pub(super) fn has(&self, option: &str) -> bool {
        self.eal().iter().any(|it| it == option)
    }

    fn option(&self, option: &str) -> Option<String> {
        value(self.eal(), &[option])
    }

    /// The kernel's interface below a virtual device of the file, such as `net_af_packet0`.
    pub(super) fn interface_of(&self, device: &str) -> Option<String> {
        let words = self.eal().iter().map(|word| word.strip_prefix("--vdev=").unwrap_or(word));
        let mut devices = words.filter_map(|word| {
            let (name, arguments) = word.split_once(',')?;
            let interface = arguments.split(',').find_map(|it| it.strip_prefix("iface="))?;
            (name == device).then(|| interface.to_owned())
        });
        // Of the last one that is given, as with EAL.
        devices.next_back()
    }

    /// weir's file, if the command line names one.
    pub(super) fn file(&self, host: &Host) -> Option<PathBuf> {
        let own = &self.arguments[self.arguments.len().min(self.eal().len() + 1)..];
        let file = PathBuf::from(value(own, &["-c", "--config"])?);
        match self.pid {
            Some(pid) if file.is_relative() => {
                Some(std::fs::read_link(host.path(&format!("proc/{pid}/cwd"))).ok()?.join(file))
            }
            _ => Some(file),
        }
    }
}

/// The value of an option: behind it, behind `=`, or joined to a short one.
fn value(words: &[String], names: &[&str]) -> Option<String> {
    for (place, word) in words.iter().enumerate() {
        for name in names {
            let Some(rest) = word.strip_prefix(name) else { continue };
            return match rest.strip_prefix('=') {
                Some(value) => Some(value.to_owned()),
                None if rest.is_empty() => words.get(place + 1).cloned(),
                None if !name.starts_with("--") => Some(rest.to_owned()),
                None => continue,
            };
        }
    }
    None
}
