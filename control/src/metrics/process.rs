//! What weir takes of the machine, under the names that exporters have for it everywhere.
//!
//! `/proc` may be out of reach: what it would say is absent then.

use std::fs;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// The process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessReading {
    /// Time on CPUs, of all threads.
    pub(crate) cpu_seconds: f64,
    /// Memory in pages of the usual size.
    pub(crate) resident_bytes: Option<u64>,
    /// Addresses that are taken.
    pub(crate) virtual_bytes: Option<u64>,
    /// Threads, those of workers and drivers among them.
    pub(crate) threads: Option<u64>,
    /// Open file descriptors.
    pub(crate) open_files: Option<u64>,
    /// As many as may be; `None`: any number.
    pub(crate) files_max: Option<u64>,
}

impl ProcessReading {
    /// All figures now.
    pub(super) fn take() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Self {
            cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
            resident_bytes: bytes(&status, "VmRSS:"),
            virtual_bytes: bytes(&status, "VmSize:"),
            threads: number(&status, "Threads:"),
            // One is the folder's, while it is read.
            open_files: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|files| (files.count() as u64).saturating_sub(1)),
            files_max: getrlimit(Resource::Nofile).current,
        }
    }
}

/// The number behind a word at the beginning of a line.
fn number(status: &str, word: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(word))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The same, where it is in units of 1024 bytes.
fn bytes(status: &str, word: &str) -> Option<u64> {
    number(status, word)?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read_and_what_it_does_not_say_is_absent() {
        let status = "Name:\tweir VmRSS: 9\nVmSize:\t  2048 kB\nVmRSS:\t    12 kB\nThreads:\t7\n";
        assert_eq!(bytes(status, "VmRSS:"), Some(12 * 1024));
        assert_eq!(bytes(status, "VmSize:"), Some(2048 * 1024));
        assert_eq!(number(status, "Threads:"), Some(7));
        assert_eq!((number(status, "VmSwap:"), bytes("VmRSS:\n", "VmRSS:")), (None, None));
        assert_eq!(bytes("VmRSS: 18446744073709551615 kB", "VmRSS:"), None);
    }

    #[test]
    fn figures_of_this_process_are_plausible() {
        let before = ProcessReading::take();
        let held: Vec<_> = (0..20).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        let after = ProcessReading::take();
        assert!(before.cpu_seconds > 0.0 && after.cpu_seconds >= before.cpu_seconds);
        // Other tests open and close some meanwhile.
        assert!(after.open_files.unwrap() >= held.len() as u64);
        assert!(after.open_files.unwrap() <= after.files_max.unwrap_or(u64::MAX));
        assert!(after.virtual_bytes.unwrap() >= after.resident_bytes.unwrap());
        assert!(after.resident_bytes.unwrap() > 1 << 20 && after.threads.unwrap() > 1);
    }
}
