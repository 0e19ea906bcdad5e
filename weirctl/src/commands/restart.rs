//! `weirctl restart`

use std::ffi::OsStr;
use std::fs;
use std::process::{Command, Output};

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
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    restart(OsStr::new("systemctl"), pid, &cgroups)?;
    let mut again = Asked::new(common)?;
    if !again.is_json {
        print("restarted\n")?;
    }
    again.show("/api/v1/status", status::text)
}

/// Asks systemd, if the process is one of its services by its lines of /proc/PID/cgroup.
fn restart(systemctl: &OsStr, pid: u32, cgroups: &str) -> Result<(), Problem> {
    let Some(unit) = unit_of(cgroups) else { return failed(&alone(pid)) };
    if !is_main(systemctl, &unit, pid).map_err(Problem::Failed)? {
        return failed(&alone(pid));
    }
    let done = output(systemctl, &["restart", &unit]).map_err(Problem::Failed)?;
    match done.status.success() {
        true => Ok(()),
        false => failed(&format!("systemd has not restarted {unit}: {}", why(&done))),
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
///
/// # Errors
/// A sentence: systemd does not say.
fn is_main(systemctl: &OsStr, unit: &str, pid: u32) -> Result<bool, String> {
    let shown = output(systemctl, &["show", "--property=MainPID", "--value", unit])?;
    match shown.status.success() {
        true => Ok(String::from_utf8_lossy(&shown.stdout).trim() == pid.to_string()),
        false => Err(format!("systemd does not say what {unit} runs: {}", why(&shown))),
    }
}

fn output(systemctl: &OsStr, words: &[&str]) -> Result<Output, String> {
    let done = Command::new(systemctl).args(words).output();
    done.map_err(|problem| format!("systemctl can't be run: {problem}"))
}

/// What a program that failed has said, or how it ended.
fn why(done: &Output) -> String {
    let said = String::from_utf8_lossy(&done.stderr);
    match said.trim() {
        "" => done.status.to_string(),
        said => said.to_owned(),
    }
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
        // It is of no service, or the service's main process is another one: echo says no number.
        for (systemctl, cgroups) in [("/bin/false", "0::/\n"), ("/bin/echo", SERVICE)] {
            let text = refused(systemctl, own, cgroups);
            assert!(text.contains(&format!("`kill -TERM {own}`")), "{text}");
        }
    }

    #[test]
    fn what_systemd_does_not_say_is_not_taken_for_a_no() {
        let own = std::process::id();
        let text = refused("/bin/false", own, SERVICE);
        assert!(text.starts_with("systemd does not say what weir.service runs: "), "{text}");
        let text = refused("/nonexistent/systemctl", own, SERVICE);
        assert!(text.starts_with("systemctl can't be run: "), "{text}");
    }

    const SERVICE: &str = "0::/system.slice/weir.service\n";

    fn refused(systemctl: &str, pid: u32, cgroups: &str) -> String {
        match restart(OsStr::new(systemctl), pid, cgroups) {
            Err(Problem::Failed(text)) => text,
            other => panic!("{:?}", other.is_ok()),
        }
    }
}
