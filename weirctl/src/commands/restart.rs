//! `weirctl restart`

use std::ffi::OsStr;
use std::fs;
use std::process::Command;

use weir_api::director::Status;

use super::{Asked, print, status};
use crate::cli::Common;
use crate::client::Door;
use crate::patiently;
use crate::weir::Problem;

/// Has systemd start weir again, once it is known that there is a file to start with. Shows what became of it.
///
/// # Errors
/// Nobody would start it again, or systemd does not; weir goes on as it is where it can.
pub(super) fn run(asked: &mut Asked, common: &Common) -> Result<(), Problem> {
    if !matches!(asked.client.door(), Door::Socket(_)) {
        return failed("restart is for a weir on this machine: leave --http and --url out");
    }
    let _: Status<'static> = asked.client.get("/api/v1/status")?;
    let Some(pid) = asked.client.peer() else {
        return failed("the kernel does not say which process listens at the socket");
    };
    if let Some(file) = asked.file()
        && let Err(report) = patiently(&file, || weir_config::load_any(&file))
    {
        let report = report.render(asked.screen.is_coloured());
        let file = file.display();
        return failed(&format!("{file} is not accepted, and weir goes on as it is\n{report}"));
    }
    restart(OsStr::new("systemctl"), pid)?;
    let mut again = Asked::new(common)?;
    if !again.is_json {
        print("restarted\n")?;
    }
    again.show("/api/v1/status", status::text)
}

/// Asks systemd.
fn restart(systemctl: &OsStr, pid: u32) -> Result<(), Problem> {
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let unit = unit_of(&cgroups).filter(|unit| is_main(systemctl, unit, pid));
    let Some(unit) = unit else { return failed(&alone(pid)) };
    let done = Command::new(systemctl).args(["restart", &unit]).output();
    match done {
        Ok(done) if done.status.success() => Ok(()),
        Ok(done) => {
            let why = String::from_utf8_lossy(&done.stderr);
            failed(&format!("systemd has not restarted {unit}: {}", why.trim()))
        }
        Err(problem) => failed(&format!("systemctl can't be run: {problem}")),
    }
}

/// What to do where nobody would start it again.
fn alone(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    format!(
        "systemd does not run this weir, so nobody would start it again: end it with `kill -TERM {pid}`, and start it as \
         before: {}",
        words.join(" ").trim_end()
    )
}

/// The service that a process is of, by its lines of /proc/PID/cgroup.
fn unit_of(cgroups: &str) -> Option<String> {
    let paths = cgroups.lines().filter_map(|line| match line.splitn(3, ':').collect::<Vec<_>>()[..] {
        // Version 2, and systemd's own of version 1.
        [_, "" | "name=systemd", path] => Some(path),
        _ => None,
    });
    let units = paths.filter_map(|path| path.rsplit('/').next());
    units.filter(|unit| unit.ends_with(".service")).map(str::to_owned).next()
}

/// Whether the process is what the unit runs, and not something that another unit's has started.
fn is_main(systemctl: &OsStr, unit: &str, pid: u32) -> bool {
    let shown = Command::new(systemctl).args(["show", "--property=MainPID", "--value", unit]).output();
    shown.is_ok_and(|shown| String::from_utf8_lossy(&shown.stdout).trim() == pid.to_string())
}

fn failed(text: &str) -> Result<(), Problem> {
    Err(Problem::Failed(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_found_in_both_kinds_of_cgroups() {
        assert_eq!(unit_of("0::/system.slice/weir.service\n").as_deref(), Some("weir.service"));
        let first = "12:pids:/system.slice/x.service\n1:name=systemd:/system.slice/weir@a.service\n0::/\n";
        assert_eq!(unit_of(first).as_deref(), Some("weir@a.service"));
        for none in ["", "0::/\n", "0::/user.slice/user-0.slice/session-3.scope\n", "0::/a.service/b\n", "0:"]
        {
            assert_eq!(unit_of(none), None, "{none}");
        }
    }

    #[test]
    fn what_systemd_does_not_run_is_told_how_to_be_restarted() {
        let own = std::process::id();
        let Err(Problem::Failed(text)) = restart(OsStr::new("/bin/false"), own) else { panic!("restarted") };
        assert!(text.contains(&format!("`kill -TERM {own}`")), "{text}");
    }
}
