//! The workers' cores, who else uses them, and the clocks.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use super::facts::Facts;
use super::host::list;
use super::process::Worker;

/// A worker that waits longer than this for its core, in thousandths of the time, shares it with somebody.
const WAITS_WARN: u64 = 10;
const WAITS_FAIL: u64 = 200;
/// Fewer between two looks do not show in a worker's passes.
const INTERRUPTS_MIN: u64 = 10;
/// A worker's passes take microseconds.
const PASS_SECONDS_MAX: f64 = 0.001;
/// Programs that keep the time, by the first 15 letters of their names.
const TIME_KEEPERS: [&str; 7] =
    ["chronyd", "ntpd", "ntpsec", "openntpd", "systemd-timesyn", "ptp4l", "phc2sys"];

/// CPUs of all workers.
fn cpus(facts: &Facts) -> BTreeSet<usize> {
    facts.process.workers.iter().flat_map(|it| it.cpus.iter().copied()).collect()
}

fn of_workers(cpus: &BTreeSet<usize>) -> String {
    format!("{} {} of workers", if cpus.len() == 1 { "core" } else { "cores" }, list(cpus))
}

/// Whether the kernel keeps others away.
pub(super) fn isolation(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "isolation";
    let mut found = Vec::new();
    for worker in facts.process.workers.iter().filter(|it| it.cpus.len() > 1) {
        let text =
            format!("worker {} is tied to no core: it may run on {}", worker.number, list(&worker.cpus));
        found.push(Finding::warn(CHECK, text, "start weir with -l and a core for each worker"));
    }
    let pinned: BTreeSet<usize> = facts
        .process
        .workers
        .iter()
        .filter(|it| it.cpus.len() == 1)
        .flat_map(|it| it.cpus.iter().copied())
        .collect();
    if pinned.is_empty() {
        return found;
    }
    let mut isolated = facts.host.cpus("sys/devices/system/cpu/isolated");
    isolated.extend(facts.host.cpus("sys/fs/cgroup/cpuset.cpus.isolated"));
    let quiet = facts.host.cpus("sys/devices/system/cpu/nohz_full");
    let words = |cpus: &BTreeSet<usize>| {
        let cpus = list(cpus);
        format!(
            "add isolcpus={cpus} nohz_full={cpus} rcu_nocbs={cpus} to GRUB_CMDLINE_LINUX in /etc/default/grub, update-grub, reboot"
        )
    };
    let open: BTreeSet<usize> = pinned.difference(&isolated).copied().collect();
    let ticking: BTreeSet<usize> = pinned.difference(&quiet).copied().collect();
    found.push(if !open.is_empty() {
        Finding::warn(CHECK, format!("{} may be given to other programs", of_workers(&open)), words(&pinned))
    } else if !ticking.is_empty() {
        Finding::warn(
            CHECK,
            format!("{} are interrupted by the kernel's tick (nohz_full)", of_workers(&ticking)),
            words(&pinned),
        )
    } else {
        Finding::ok(CHECK, format!("{}: kept from other programs and from the tick", of_workers(&pinned)))
    });
    found
}

/// Whether workers get their cores.
pub(super) fn load(facts: &Facts) -> Vec<Finding> {
    let [before, after] = &facts.looks;
    let (Some(began), Some(ended)) = (before.at, after.at) else { return Vec::new() };
    let nanos = (ended - began).as_nanos().max(1) as u64;
    let mut found = Vec::new();
    let mut is_measured = false;
    for (place, worker) in facts.process.workers.iter().enumerate() {
        let waited = |look: &super::facts::Look| look.waited.get(place).copied().flatten();
        let (Some(before), Some(after)) = (waited(before), waited(after)) else { continue };
        is_measured = true;
        let share = after.saturating_sub(before) * 1_000 / nanos;
        if share >= WAITS_WARN {
            let others = others_on(facts, worker);
            let who = if others.is_empty() {
                String::new()
            } else {
                format!(", which {} use as well", others.join(", "))
            };
            let text = format!(
                "worker {} has waited {}.{} % of the time for core {}{who}",
                worker.number,
                share / 10,
                share % 10,
                list(&worker.cpus)
            );
            let mend = "keep them off: isolcpus= (see isolation), or AllowedCPUs= of their slices (systemctl set-property user.slice AllowedCPUs=0)";
            found.push(if share >= WAITS_FAIL {
                Finding::fail("load", text, mend)
            } else {
                Finding::warn("load", text, mend)
            });
        }
    }
    for cpu in cpus(facts) {
        let ticks = |look: &super::facts::Look| look.stolen.get(&cpu).copied().unwrap_or_default();
        let (before, after) = (ticks(before), ticks(after));
        let (stolen, all) = (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1).max(1));
        if stolen * 1_000 / all >= WAITS_WARN {
            let text = format!(
                "the hypervisor has given core {cpu} to others for {} % of the time",
                stolen * 100 / all
            );
            found.push(Finding::warn(
                "load",
                text,
                "no more virtual CPUs than the host has cores, and the worker's pinned to one of them",
            ));
        }
    }
    if let Ok(answers) = &facts.answers {
        let longest = answers.workers[1].workers.iter().map(|it| it.longest_pass_seconds).fold(0.0, f64::max);
        if longest > PASS_SECONDS_MAX {
            let text = format!(
                "the longest pass of a worker in the last minute took {:.1} ms: something took its core",
                longest * 1e3
            );
            found.push(Finding::warn(
                "load",
                text,
                "see isolation, interrupts and siblings; in a virtual machine the host's load as well",
            ));
        }
    }
    if found.is_empty() && is_measured {
        found.push(Finding::ok("load", "workers get their cores"));
    }
    found
}

/// Programs whose threads were last on a worker's core and want to run.
fn others_on(facts: &Facts, worker: &Worker) -> Vec<String> {
    let mut names: BTreeMap<String, u32> = BTreeMap::new();
    for pid in facts.host.numbers("proc") {
        for thread in facts.host.numbers(&format!("proc/{pid}/task")) {
            if Some(thread) == worker.thread {
                continue;
            }
            let Some(stat) = facts.host.text(&format!("proc/{pid}/task/{thread}/stat")) else { continue };
            // pid (name) state ...; the CPU is the 39th field. A name may hold anything.
            let Some((name, rest)) = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')) else {
                continue;
            };
            let fields: Vec<&str> = rest.split_whitespace().collect();
            let cpu = fields.get(36).and_then(|it| it.parse().ok());
            if fields.first() == Some(&"R") && cpu.is_some_and(|cpu| worker.cpus.contains(&cpu)) {
                *names.entry(name.to_owned()).or_default() += 1;
            }
        }
    }
    names.into_keys().take(5).collect()
}

/// Whether devices interrupt workers.
pub(super) fn interrupts(facts: &Facts) -> Vec<Finding> {
    let [before, after] = &facts.looks;
    let cpus = cpus(facts);
    if cpus.is_empty() || after.interrupts.is_empty() {
        return Vec::new();
    }
    let others: BTreeSet<usize> =
        facts.host.cpus("sys/devices/system/cpu/online").difference(&cpus).copied().collect();
    let to = if others.is_empty() { "another core".to_owned() } else { list(&others) };
    let mut found = Vec::new();
    for ((name, cpu), count) in &after.interrupts {
        // Those of weir's own devices wake a sleeping worker.
        if !cpus.contains(cpu) || name.contains("vfio") {
            continue;
        }
        let grown =
            count.saturating_sub(before.interrupts.get(&(name.clone(), *cpu)).copied().unwrap_or(*count));
        if grown >= INTERRUPTS_MIN {
            let (number, device) = name.split_once(' ').unwrap_or((name, ""));
            let text = format!(
                "interrupt {number} ({device}) came to core {cpu} of a worker {grown} times meanwhile"
            );
            found.push(Finding::warn(
                "interrupts",
                text,
                format!("echo {to} > /proc/irq/{number}/smp_affinity_list"),
            ));
        }
    }
    if found.is_empty() {
        found.push(Finding::ok("interrupts", format!("next to none came to {}", of_workers(&cpus))));
    }
    found
}

/// Whether a worker shares the units of its core with others (hyper-threading).
pub(super) fn siblings(facts: &Facts) -> Vec<Finding> {
    let cpus = cpus(facts);
    let isolated = facts.host.cpus("sys/devices/system/cpu/isolated");
    let mut found = Vec::new();
    let mut is_known = false;
    for &cpu in &cpus {
        let shared =
            facts.host.cpus(&format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"));
        is_known |= !shared.is_empty();
        let others: BTreeSet<usize> = shared.into_iter().filter(|it| *it != cpu).collect();
        let worker = others.intersection(&cpus).next();
        if let Some(other) = worker.filter(|other| **other > cpu) {
            let text = format!(
                "workers on {cpu} and {other} share one core: together they do little more than one of them"
            );
            found.push(Finding::warn(
                "siblings",
                text,
                "start weir with -l and one thread of each core (lscpu -e)",
            ));
        }
        let open: Vec<usize> =
            others.difference(&cpus).filter(|it| !isolated.contains(it)).copied().collect();
        if let Some(other) = open.first() {
            let text =
                format!("core {cpu} of a worker shares its units with {other}, where other programs may run");
            found.push(Finding::warn(
                "siblings",
                text,
                format!("echo 0 > /sys/devices/system/cpu/cpu{other}/online"),
            ));
        }
    }
    if found.is_empty() && is_known {
        found.push(Finding::ok("siblings", "no worker shares its core's units"));
    }
    found
}

/// The speed of the workers' cores.
pub(super) fn governor(facts: &Facts) -> Vec<Finding> {
    let mut slow: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    let mut is_known = false;
    for cpu in cpus(facts) {
        let path = format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
        let Some(governor) = facts.host.text(&path) else { continue };
        is_known = true;
        if governor != "performance" {
            slow.entry(governor).or_default().insert(cpu);
        }
    }
    let mut found: Vec<Finding> = slow
        .iter()
        .map(|(governor, cpus)| {
            let text = format!("{} follow the governor {governor}, which slows them down", of_workers(cpus));
            Finding::warn(
                "governor",
                text,
                format!("cpupower -c {} frequency-set -g performance", list(cpus)),
            )
        })
        .collect();
    if found.is_empty() && is_known {
        found.push(Finding::ok("governor", "performance"));
    }
    found
}

/// weir's clock is the processor's counter.
pub(super) fn clock(facts: &Facts) -> Vec<Finding> {
    const FOLDER: &str = "sys/devices/system/clocksource/clocksource0";
    let Some(current) = facts.host.text(&format!("{FOLDER}/current_clocksource")) else { return Vec::new() };
    let available = facts.host.text(&format!("{FOLDER}/available_clocksource")).unwrap_or_default();
    let processor = facts.host.text("proc/cpuinfo").unwrap_or_default();
    let flags = processor.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let is_x86 = !flags.is_empty();
    let lacks: Vec<&str> = ["constant_tsc", "nonstop_tsc"]
        .into_iter()
        .filter(|flag| !flags.split_whitespace().any(|it| it == *flag))
        .collect();
    let finding = if is_x86 && !available.split_whitespace().any(|it| it == "tsc") {
        let text = format!(
            "the kernel holds the processor's counter (tsc) for unstable and uses {current}; weir measures all times with it"
        );
        Finding::warn(
            "clock",
            text,
            "dmesg | grep -i tsc says why; in a virtual machine pass the counter on (invariant TSC)",
        )
    } else if is_x86 && !lacks.is_empty() {
        let text =
            format!("the processor does not say {}: its counter may change its pace", lacks.join(" and "));
        Finding::warn(
            "clock",
            text,
            "switch frequency changes off in the firmware, or in a virtual machine pass the flags on (host CPU model)",
        )
    } else {
        Finding::ok("clock", format!("{current}; the processor's counter is steady"))
    };
    vec![finding]
}

/// The time of day, for logs, certificates and VRRP's sequence numbers.
pub(super) fn time(facts: &Facts) -> Vec<Finding> {
    if facts.host.has("run/systemd/timesync/synchronized") {
        return vec![Finding::ok("time", "set by systemd-timesyncd")];
    }
    let pids = facts.host.numbers("proc");
    let names = pids.iter().filter_map(|pid| facts.host.text(&format!("proc/{pid}/comm")));
    let keeper = names.into_iter().find(|name| TIME_KEEPERS.contains(&name.as_str()));
    let finding = match keeper.as_deref() {
        Some("systemd-timesyn") => Finding::warn(
            "time",
            "systemd-timesyncd runs, and has not reached a server yet",
            "timedatectl timesync-status",
        ),
        Some(keeper) => Finding::ok("time", format!("kept by {keeper}")),
        None => Finding::warn(
            "time",
            "nothing keeps this machine's clock right: lines of two directors' logs can't be compared, and certificates expire early or late",
            "apt-get install chrony",
        ),
    };
    vec![finding]
}
