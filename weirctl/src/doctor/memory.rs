//! Huge pages, the heap, limits of the process, room for the log.

use std::path::{Path, PathBuf};

use super::facts::Facts;
use super::{Finding, Level};

/// Beside connection tables, at least: packet buffers, and what EAL takes for itself.
const OTHER_MIB: u64 = 160;
/// A connection's record, rounded up, with its share of persistence.
const CONNECTION_BYTES: u64 = 61;
/// With fewer virtual servers it does not show where the heap is.
const MANY_SERVERS: usize = 1_000;
/// Files that weir may open: checks take one each, clients of its pages as well.
const FILES_MIN: u64 = 4_096;
/// CAP_IPC_LOCK: no limit to locked memory.
const IPC_LOCK: u64 = 1 << 14;

/// MiB of huge pages: all, and those that are free.
fn pool(facts: &Facts, folder: &str) -> (u64, u64) {
    let mut sum = (0, 0);
    for name in facts.host.names(folder) {
        let size = name.strip_prefix("hugepages-").and_then(|it| it.strip_suffix("kB")?.parse::<u64>().ok());
        let Some(kib) = size else { continue };
        let of =
            |file: &str| facts.host.number(&format!("{folder}/{name}/{file}")).unwrap_or(0).max(0) as u64;
        sum = (sum.0 + of("nr_hugepages") * kib / 1024, sum.1 + of("free_hugepages") * kib / 1024);
    }
    sum
}

/// Huge pages.
pub(super) fn hugepages(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "hugepages";
    let (all, free) = pool(facts, "sys/kernel/mm/hugepages");
    let workers = facts.process.workers.len().max(1) as u64;
    let capacity = facts.plan.as_ref().map_or(1_048_576, |plan| plan.capacity);
    let need = workers * capacity * CONNECTION_BYTES / (1 << 20) + OTHER_MIB;
    let mend = format!(
        "echo vm.nr_hugepages={} > /etc/sysctl.d/80-weir.conf && sysctl -p /etc/sysctl.d/80-weir.conf",
        (all / 2 + need.saturating_sub(free).div_ceil(2)).max(512)
    );
    let mut found = Vec::new();
    if facts.process.has("--no-huge") {
        let text = "weir does without huge pages (--no-huge), which costs it speed";
        found.push(Finding::warn(CHECK, text, format!("{mend}, and start weir without --no-huge and -m")));
    } else if let Some(pid) = facts.process.pid {
        let used = facts.host.field(&format!("proc/{pid}/status"), "HugetlbPages");
        let used = used.and_then(|it| it.split(' ').next()?.parse::<u64>().ok()).unwrap_or(0) / 1024;
        found.push(Finding::ok(
            CHECK,
            format!("weir has {used} MiB in huge pages; {free} of {all} MiB are free"),
        ));
    } else if all == 0 {
        found.push(Finding::fail(CHECK, "no huge pages are reserved, and weir does not start without", mend));
    } else if free < need {
        let text = format!(
            "{free} of {all} MiB of huge pages are free, and weir needs about {need} for {workers} worker(s) with this file"
        );
        found.push(Finding::fail(CHECK, text, mend));
    } else {
        found.push(Finding::ok(CHECK, format!("{free} of {all} MiB are free; weir needs about {need}")));
    }
    found.extend(on_each_node(facts));
    found
}

/// Drivers take some on the node of their device, and nowhere else.
fn on_each_node(facts: &Facts) -> Vec<Finding> {
    let nodes = facts.ports().filter_map(|port| {
        let node = facts.host.number(&format!("sys/bus/pci/devices/{}/numa_node", port.pci()?))?;
        u32::try_from(node).ok()
    });
    let mut nodes: Vec<u32> = nodes.collect();
    nodes.sort_unstable();
    nodes.dedup();
    let bare = nodes
        .into_iter()
        .filter(|node| pool(facts, &format!("sys/devices/system/node/node{node}/hugepages")).0 == 0);
    bare.map(|node| {
        let text = format!("NUMA node {node} has none, and a port's device is there");
        let path = format!("/sys/devices/system/node/node{node}/hugepages/hugepages-2048kB/nr_hugepages");
        Finding::fail("hugepages", text, format!("echo 512 > {path}"))
    })
    .collect()
}

/// What workers read of the configuration lies in the heap.
pub(super) fn heap(facts: &Facts) -> Vec<Finding> {
    let servers = facts.answers.as_ref().map_or(0, |it| it.status.virtual_servers);
    let Some(pid) = facts.process.pid.filter(|_| servers >= MANY_SERVERS) else { return Vec::new() };
    let environment = facts.host.text(&format!("proc/{pid}/environ")).unwrap_or_default();
    let is_huge = environment.contains("glibc.malloc.hugetlb=");
    let kernel = facts.host.text("sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let finding = if !is_huge {
        let text = format!(
            "{servers} virtual servers lie in ordinary pages: the first packets after a change wait longer"
        );
        Finding::warn("heap", text, "Environment=GLIBC_TUNABLES=glibc.malloc.hugetlb=1 in weir's unit")
    } else if kernel.contains("[never]") {
        let text = "the kernel gives the heap no huge pages";
        Finding::warn("heap", text, "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled")
    } else {
        Finding::ok("heap", "in huge pages where the kernel has some free")
    };
    vec![finding]
}

/// Of the running process, or of the unit.
pub(super) fn limits(facts: &Facts) -> Vec<Finding> {
    match (facts.process.pid, &facts.process.unit) {
        (Some(pid), _) => of_process(facts, pid),
        (None, Some(unit)) => vec![of_unit(unit)],
        (None, None) => Vec::new(),
    }
}

fn of_process(facts: &Facts, pid: u32) -> Vec<Finding> {
    let Some(limits) = facts.host.text(&format!("proc/{pid}/limits")) else { return Vec::new() };
    let soft = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
        let word = line.split_whitespace().next()?;
        Some(if word == "unlimited" { u64::MAX } else { word.parse().ok()? })
    };
    let status = format!("proc/{pid}/status");
    let capabilities = facts.host.field(&status, "CapEff");
    let capabilities = capabilities.and_then(|it| u64::from_str_radix(&it, 16).ok()).unwrap_or(0);
    let mut found = Vec::new();
    let locked = soft("Max locked memory").unwrap_or(u64::MAX);
    // weir gives up the capability when its devices have their memory: as root it had it before.
    let is_root =
        facts.host.field(&status, "Uid").is_some_and(|ids| ids.split_whitespace().nth(1) == Some("0"));
    if locked != u64::MAX && !is_root && capabilities & IPC_LOCK == 0 {
        let text = format!(
            "weir may lock {} KiB of memory, and devices behind vfio need all that they use",
            locked / 1024
        );
        found.push(Finding::warn("limits", text, "LimitMEMLOCK=infinity in weir's unit"));
    }
    let files = soft("Max open files").unwrap_or(u64::MAX);
    if files < FILES_MIN {
        let text =
            format!("weir may open {files} files; health checks and clients of its pages take one each");
        found.push(Finding::warn("limits", text, "LimitNOFILE=65536 in weir's unit"));
    }
    if found.is_empty() {
        found.push(Finding::ok("limits", "memory may be locked, and files opened, as many as are needed"));
    }
    found
}

fn of_unit(unit: &str) -> Finding {
    let has = |line: &str| unit.lines().any(|it| it.trim() == line);
    let wanted = [
        ("Type=notify", "systemd knows when weir is ready"),
        ("LimitMEMLOCK=infinity", "devices behind vfio can be used"),
        ("RestartPreventExitStatus=2", "a bad file is not tried over and over"),
    ];
    let missing: Vec<_> = wanted.iter().filter(|(line, _)| !has(line)).collect();
    match missing.as_slice() {
        [] => Finding::ok("limits", "the unit has what weir needs"),
        missing => {
            let lines: Vec<_> = missing.iter().map(|(line, _)| *line).collect();
            let why: Vec<_> = missing.iter().map(|(_, why)| *why).collect();
            Finding::warn(
                "limits",
                format!("weir's unit lacks a line so that {}", why.join("; ")),
                lines.join(", "),
            )
        }
    }
}

/// Room where the log goes.
pub(super) fn log(facts: &Facts) -> Vec<Finding> {
    let Some(pid) = facts.process.pid else { return Vec::new() };
    let Ok(target) = std::fs::read_link(facts.host.path(&format!("proc/{pid}/fd/2"))) else {
        return Vec::new();
    };
    let place = if target.is_absolute() && !target.starts_with("/dev") {
        target
    } else if target.to_string_lossy().starts_with("socket:") {
        // The journal, on disk or in memory.
        let kept = ["/var/log/journal", "/run/log/journal"].into_iter().find(|it| facts.host.has(it));
        let Some(kept) = kept else { return Vec::new() };
        PathBuf::from(kept)
    } else {
        return vec![Finding::ok("log", format!("goes to {}", target.display()))];
    };
    vec![room(facts, &place)]
}

fn room(facts: &Facts, place: &Path) -> Finding {
    let shown = place.display();
    let Ok(space) = rustix::fs::statvfs(facts.host.path(&place.to_string_lossy())) else {
        return Finding::warn(
            "log",
            format!("the disk of {shown} can't be looked at"),
            format!("df {shown}"),
        );
    };
    let mib = space.f_bavail.saturating_mul(space.f_frsize) >> 20;
    let text = format!("the disk of {shown} has {mib} MiB free");
    let mend = match place.ends_with("journal") {
        true => "journalctl --vacuum-size=200M".to_owned(),
        false => format!("df {shown}, and remove what is old"),
    };
    match enough(mib) {
        Level::Ok => Finding::ok("log", text),
        status => Finding { status, ..Finding::warn("log", text, mend) },
    }
}

/// What so many MiB are to a log: beyond its limits weir writes some lines a second.
fn enough(mib: u64) -> Level {
    match mib {
        0..10 => Level::Fail,
        10..500 => Level::Warn,
        _ => Level::Ok,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_nearly_full_is_said() {
        let levels = [0, 9, 10, 499, 500].map(enough);
        assert_eq!(levels, [Level::Fail, Level::Fail, Level::Warn, Level::Warn, Level::Ok]);
    }
}
