//! The machine as /proc and /sys show it. Below another directory than `/` it is one that a test has made.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The most that is read of a file.
const BYTES_MAX: u64 = 4 << 20;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Host {
    root: PathBuf,
}

impl Host {
    /// The one below this directory.
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Where `path`, from the root and without its first slash, is.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// What a file says, without blanks at its ends; `None`: there is no such file.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        let mut bytes = Vec::new();
        File::open(self.path(path)).ok()?.take(BYTES_MAX).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// The number in a file.
    pub(super) fn number(&self, path: &str) -> Option<i64> {
        self.text(path)?.parse().ok()
    }

    /// What a directory holds.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(path)) else { return Vec::new() };
        let mut names: Vec<_> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// The numbers among them.
    pub(super) fn numbers(&self, path: &str) -> Vec<u32> {
        self.names(path).iter().filter_map(|name| name.parse().ok()).collect()
    }

    /// Whether there is something.
    pub(super) fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// The last part of where a link leads.
    pub(super) fn link(&self, path: &str) -> Option<String> {
        fs::read_link(self.path(path)).ok()?.file_name()?.to_str().map(str::to_owned)
    }

    /// The CPUs in a file such as `isolated`: `1,4-7`.
    pub(super) fn cpus(&self, path: &str) -> BTreeSet<usize> {
        self.text(path).map_or_else(BTreeSet::new, |text| cpus(&text))
    }

    /// The value behind `key:` in a file such as /proc/PID/status.
    pub(super) fn field(&self, path: &str, key: &str) -> Option<String> {
        let text = self.text(path)?;
        text.lines().find_map(|line| Some(line.strip_prefix(key)?.strip_prefix(':')?.trim().to_owned()))
    }

    /// The NUMA node of a CPU.
    pub(super) fn node_of(&self, cpu: usize) -> Option<u32> {
        let nodes = self.names("sys/devices/system/node");
        let mut nodes = nodes.iter().filter_map(|name| name.strip_prefix("node")?.parse().ok());
        nodes.find(|node| self.cpus(&format!("sys/devices/system/node/node{node}/cpulist")).contains(&cpu))
    }
}

/// `1,4-7` as CPUs.
pub(super) fn cpus(text: &str) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<usize>(), last.trim().parse::<usize>()) {
            // No machine has more; a file that says so is none of the kernel's.
            found.extend(first..=last.min(first + 8_192));
        }
    }
    found
}

/// CPUs as `1,4-7`.
pub(super) fn list(cpus: &BTreeSet<usize>) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => parts.push((cpu, cpu)),
        }
    }
    let text = |&(first, last): &(usize, usize)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    parts.iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_read_and_written() {
        for text in ["", "0", "0-3", "1,4-7,9"] {
            assert_eq!(list(&cpus(text)), text);
        }
        assert_eq!(list(&cpus("3,1-2,x")), "1-3");
    }
}
