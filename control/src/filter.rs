//! System calls that no thread of weir's has a use for once it runs, and that somebody who had talked one into doing what he wants would
//! have: other programs, other processes' memory, the kernel, other accounts. They are refused (`EPERM`), so that a slip here ends
//! nothing.
//!
//! The thread of health checks has no such filter: it starts programs, which would inherit it. Nor have the first thread, which starts
//! that one, and EAL's for interrupts.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use seccompiler::{BpfProgram, Error, SeccompAction, SeccompFilter, TargetArch, apply_filter};

/// By their numbers.
const REFUSED: [i64; 38] = [
    // Programs.
    libc::SYS_execve,
    libc::SYS_execveat,
    // Other processes, and what they may do.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_setns,
    libc::SYS_unshare,
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
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    // The clock of everybody.
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
];

/// The calling thread, and those that it starts, make none of these calls from now on.
///
/// # Errors
/// What is wrong: a kernel without filters, say.
pub(crate) fn refuse() -> Result<(), Error> {
    let rules: BTreeMap<i64, Vec<_>> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    let architecture = TargetArch::try_from(ARCH)?;
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, architecture)?;
    apply_filter(&BpfProgram::try_from(filter)?)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::process::Command;
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_behind_it_starts_no_program_and_does_all_else() {
        let tried = thread::spawn(|| {
            assert!(Command::new("/bin/true").status().unwrap().success());
            refuse().unwrap();
            let refused = Command::new("/bin/true").status();
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::PermissionDenied);
            // Who is started by it neither.
            let refused = thread::spawn(|| Command::new("/bin/true").status()).join().unwrap();
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::PermissionDenied);
            assert!(std::fs::read_to_string("/proc/self/status").unwrap().contains("Seccomp:"));
            refuse().unwrap();
        });
        tried.join().unwrap();
        assert!(Command::new("/bin/true").status().unwrap().success(), "other threads are as they were");
    }
}
