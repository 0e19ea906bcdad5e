//! System calls that threads of weir's have no use for once it runs, and that somebody who had talked one into doing what he wants would
//! have: other programs, other processes' memory, the kernel, other accounts. They are refused (`EPERM`), so that a slip here ends
//! nothing, and counted ([`dpdk::refused`]), since a slip is what they are.
//!
//! The thread of health checks starts programs, which have its filter as well: it refuses what neither needs. Programs have no handler that
//! could count, so the kernel refuses by itself there.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use dpdk::refused::{Refused, refused};
use seccompiler::{BpfProgram, Error, SeccompAction, SeccompFilter, TargetArch, apply_filter};
use tracing::{error, warn};

/// What a thread has a use for beside what all have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Uses {
    Nothing,
    /// It starts some, as another user.
    Programs,
    /// It closes some, and drivers then undo what they did at the start.
    Devices,
}

/// To start programs, and what these may need that have no rights.
const OF_PROGRAMS: [i64; 12] = [
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
];

/// `net_af_xdp` takes its program from the interface.
const OF_DEVICES: [i64; 1] = [libc::SYS_bpf];

/// Nobody's.
const OF_NOBODY: [i64; 25] = [
    // Other processes, and what they may do.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_setns,
    libc::SYS_unshare,
    // File systems.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    // The kernel, and its doors that faults were found behind.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    // The clock of everybody.
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
];

/// How often it is said at most that calls were refused.
const PAUSE: Duration = Duration::from_secs(60);

/// Whether somebody counts.
static IS_COUNTED: LazyLock<bool> = LazyLock::new(|| match dpdk::refused::count() {
    Ok(()) => true,
    Err(problem) => {
        warn!("system calls that are refused are not counted: {problem}");
        false
    }
});

/// The calling thread, and those that it starts, make no calls from now on that they have no use for.
///
/// # Errors
/// What is wrong: a kernel without filters, say.
pub(crate) fn refuse(uses: Uses) -> Result<(), Error> {
    let also: [&[i64]; 2] = match uses {
        Uses::Nothing => [&OF_PROGRAMS, &OF_DEVICES],
        Uses::Programs => [&[], &OF_DEVICES],
        Uses::Devices => [&OF_PROGRAMS, &[]],
    };
    let calls = OF_NOBODY.iter().chain(also.into_iter().flatten());
    let rules: BTreeMap<i64, Vec<_>> = calls.map(|call| (*call, Vec::new())).collect();
    let refused = match uses != Uses::Programs && *IS_COUNTED {
        true => SeccompAction::Trap,
        false => SeccompAction::Errno(libc::EPERM as u32),
    };
    let architecture = TargetArch::try_from(ARCH)?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, architecture)?;
    apply_filter(&BpfProgram::try_from(filter)?)
}

/// Says which calls were refused.
#[derive(Default)]
pub(crate) struct Refusals {
    said: u64,
    at: Option<Instant>,
}

impl Refusals {
    /// To be called now and then.
    pub(crate) fn look(&mut self, now: Instant) {
        let Refused { count, call, thread } = refused();
        if count == self.said || self.at.is_some_and(|at| now.saturating_duration_since(at) < PAUSE) {
            return;
        }
        let name = std::fs::read_to_string(format!("/proc/self/task/{thread}/comm"));
        let name = name.map_or_else(|_| "one that has ended".to_owned(), |name| name.trim().to_owned());
        let new = count - self.said;
        error!(
            thread = name,
            call,
            new,
            "a thread made a system call that it has no use for, and was refused: a fault of weir's, or somebody else's doing"
        );
        (self.said, self.at) = (count, Some(now));
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, ExitStatus};
    use std::thread;

    use super::*;

    /// What the kernel says to a call that weir has no use for.
    fn stray_call() -> Option<ErrorKind> {
        std::os::unix::fs::chroot("/").err().map(|problem| problem.kind())
    }

    fn program() -> ExitStatus {
        Command::new("/bin/true").status().unwrap()
    }

    #[test]
    fn a_thread_behind_it_starts_no_program_and_does_all_else_and_what_it_tries_is_counted() {
        let tried = thread::spawn(|| {
            assert!(program().success());
            refuse(Uses::Nothing).unwrap();
            let before = refused().count;
            assert_eq!(stray_call(), Some(ErrorKind::PermissionDenied));
            let after = refused();
            assert!(after.count > before, "{after:?}");
            // Who is started by it neither; and a program that has its filter ends before it begins.
            assert_eq!(thread::spawn(stray_call).join().unwrap(), Some(ErrorKind::PermissionDenied));
            assert_eq!(program().signal(), Some(libc::SIGSYS));
            assert!(std::fs::read_to_string("/proc/self/status").unwrap().contains("Seccomp:"));
            refuse(Uses::Nothing).unwrap();
            assert_eq!(stray_call(), Some(ErrorKind::PermissionDenied));
        });
        tried.join().unwrap();
        assert!(program().success(), "other threads are as they were");
    }

    #[test]
    fn who_starts_programs_and_who_closes_devices_may_do_that_and_no_more() {
        let tried = thread::spawn(|| {
            refuse(Uses::Programs).unwrap();
            assert!(program().success());
            assert_eq!(stray_call(), Some(ErrorKind::PermissionDenied));
            // It has no handler, and is not ended for it.
            let tried = Command::new("chroot").args(["/", "/bin/true"]).output().unwrap();
            assert_eq!(tried.status.code(), Some(125), "{tried:?}");
        });
        tried.join().unwrap();
        let tried = thread::spawn(|| {
            refuse(Uses::Devices).unwrap();
            assert_eq!(stray_call(), Some(ErrorKind::PermissionDenied));
            assert_eq!(program().signal(), Some(libc::SIGSYS));
        });
        tried.join().unwrap();
    }
}
