//! Programs: checks and hooks. No shell, an empty environment, an account of their own and no privileges, a time limit.
//!
//! At the limit the program is killed with all that it started ([`super::offspring`]). One that runs and does not come to its end
//! is a timeout. One that was not even started by then is a fault of the director's: the file system that it is on does not
//! answer, or the machine has no time for it.
//!
//! weir maps gigabytes. `fork` would copy the tables of all that memory, and make workers fault at each page they write until the
//! child has its own program. So the standard library must be left free to use `posix_spawn`, which shares memory until
//! then: the account is changed by `setpriv` (util-linux) in the child, not by the library before `exec`.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow};
use rustix::process::geteuid;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, configure_capability_in_ambient_set, set_capabilities,
};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};

use super::matching::shown;
use super::offspring::{Errand, Offspring, Pen, Starting};
use super::{Failure, Found, Limits, Success, Target, system_says};
use crate::judge::Outcome;
use crate::overlay::Weight;
use weir_config::model::health::Account;

/// Bytes of a program's output that are kept for the log.
const OUTPUT_BYTES_MAX: usize = 512;
/// What programs find others in.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Changes the account. util-linux, which every Linux system has.
const SETPRIV: &str = "/usr/bin/setpriv";

/// What it needs for that.
const LENT: CapabilitySet = CapabilitySet::SETUID.union(CapabilitySet::SETGID).union(CapabilitySet::SETPCAP);

/// What a shell, and setpriv, end with when the program can't be run.
const NOT_RUN: [i32; 2] = [126, 127];
/// What setpriv calls itself where it complains, also with another status.
const SETPRIV_SAYS: [&[u8]; 2] = [b"setpriv: ", b"/usr/bin/setpriv: "];

pub(super) async fn check(
    target: &Target,
    command: &[String],
    dynamic_weight: bool,
    account: Option<&Account>,
) -> Found {
    let variables = vec![
        ("WEIR_ADDRESS".to_owned(), target.at.ip().to_string()),
        ("WEIR_PORT".to_owned(), target.at.port().to_string()),
    ];
    let (status, output) = run(command, &variables, account, target.limits).await?;
    judge(status, &output, dynamic_weight)
}

/// What the status of a program, and what it said, mean.
fn judge(status: ExitStatus, output: &[u8], dynamic_weight: bool) -> Found {
    let said = output.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let said = if said.is_empty() { String::new() } else { format!(": {}", shown(said)) };
    let detail = |code| format!("status {code}{said}");
    match status.code() {
        Some(0) => Ok(Success {
            detail: detail(0),
            weight: dynamic_weight.then_some(Weight::Configured),
            ..Success::default()
        }),
        Some(code @ 2..=255) if dynamic_weight && !NOT_RUN.contains(&code) => Ok(Success {
            detail: detail(code),
            weight: Some(Weight::Fixed(code as u16 - 2)),
            ..Success::default()
        }),
        Some(code) if NOT_RUN.contains(&code) || is_of_setpriv(output) => {
            Err(Failure::new(Outcome::Error, format!("the program can't be run, {}", detail(code))))
        }
        Some(code) => Err(Failure::new(Outcome::Unexpected, detail(code))),
        None => Err(Failure::new(Outcome::Unexpected, format!("ended by a signal, {status}"))),
    }
}

/// Runs a tracked script to its end.
///
/// # Errors
/// Why it did not end with status 0.
pub(crate) async fn run_script(
    command: &[String],
    account: Option<&Account>,
    limit: Duration,
) -> Result<(), String> {
    let ended = run(command, &[], account, Limits::new(limit)).await;
    let judged = ended.and_then(|(status, output)| judge(status, &output, false));
    judged.map(drop).map_err(|failure| failure.detail)
}

/// Runs a hook to its end.
///
/// # Errors
/// Why it did not end with status 0, in words.
pub(crate) async fn run_hook(
    command: &[String],
    variables: &[(String, String)],
    account: Option<&Account>,
    limit: Duration,
) -> Result<(), String> {
    match run(command, variables, account, Limits::new(limit)).await {
        Ok((status, _)) if status.success() => Ok(()),
        Ok((status, output)) => Err(format!("{status}, said {}", shown(output.trim_ascii()))),
        Err(failure) => Err(failure.detail),
    }
}

/// The status of a program and the beginning of what it said.
async fn run(
    command: &[String],
    variables: &[(String, String)],
    account: Option<&Account>,
    limits: Limits,
) -> Result<(ExitStatus, Vec<u8>), Failure> {
    let Some(starting) = Starting::begin() else {
        return Err(Failure::new(Outcome::Error, "weir ends"));
    };
    let errand = Errand { command: command.to_vec(), variables: variables.to_vec() };
    if let Some(was_started) = errand.is_unended() {
        return Err(unended(was_started));
    }
    let token = Offspring::token();
    let pen = Pen::build();
    let words = words(command, account, pen.as_ref());
    let Some((program, arguments)) = words.split_first() else {
        return Err(Failure::new(Outcome::Error, "there is no program"));
    };
    let spawned = spawn(program, arguments, variables, (&token, account.is_some()));
    let (child, mut output) = spawned.map_err(|problem| {
        let program = command.first().map_or("", String::as_str);
        Failure::new(Outcome::Error, format!("starting {program}: {}", system_says(&problem)))
    })?;
    let mut offspring = Offspring::new(child, token, pen);
    drop(starting);
    // The pipe outlives the wait: a talkative program would end for a closed one before it was looked at.
    let ends = finish(&mut offspring.leader, &mut output);
    let ended = limits.stage(limits.whole, "end of the program", ends).await;
    match ended {
        Err(failure) if failure.outcome == Outcome::Timeout => {
            let was_started = !offspring.waits_for_program(&words, command.len());
            // Kills what is left of it.
            offspring.end(errand, was_started);
            Err(if was_started { failure } else { unstarted(limits.whole) })
        }
        ended => ended,
    }
}

/// What goes before the program still waits for it.
fn unstarted(limit: Duration) -> Failure {
    let limit = limit.as_secs_f64();
    Failure::new(
        Outcome::Error,
        format!("the program was not started within {limit} s: its file system may not answer"),
    )
}

/// One of before was killed and does not end, since it waits in the kernel. What that was is what another one would come to.
fn unended(was_started: bool) -> Failure {
    match was_started {
        true => Failure::new(Outcome::Timeout, "no end of the program of before, though it was killed"),
        false => Failure::new(
            Outcome::Error,
            "the program of before was never started and has not ended yet: its file system may not answer",
        ),
    }
}

/// Whether it was not the program that said it, but what should have started it.
fn is_of_setpriv(output: &[u8]) -> bool {
    SETPRIV_SAYS.iter().any(|name| output.starts_with(name))
}

/// The command with what goes before it: into the pen, then out of weir's account and privileges.
pub(super) fn words(command: &[String], account: Option<&Account>, pen: Option<&Pen>) -> Vec<String> {
    let mut words = pen.map(Pen::enter).unwrap_or_default();
    words.push(SETPRIV.to_owned());
    // Numbers, so that nobody reads them as something else than weir did.
    if let Some(Account { user, group }) = account {
        words.extend([format!("--reuid={user}"), format!("--regid={group}"), "--clear-groups".to_owned()]);
        words.push("--bounding-set=-all".to_owned());
    }
    // What weir may do, such as open raw sockets, is not for programs: neither what a service manager handed on (ambient,
    // inheritable) nor what a file would give.
    words.extend(["--ambient-caps=-all", "--inh-caps=-all", "--no-new-privs", "--"].map(str::to_owned));
    words.extend_from_slice(command);
    words
}

/// A child that leads a group, and what it says on standard output and error.
fn spawn(
    program: &str,
    arguments: &[String],
    variables: &[(String, String)],
    (token, changes_account): (&str, bool),
) -> io::Result<(Child, Receiver)> {
    let (output, input) = io::pipe()?;
    let mut ready = Command::new(program);
    ready
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env(Offspring::VARIABLE, token)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(input.try_clone()?)
        .stderr(input)
        .process_group(0);
    let mut start = || unblocked(|| ready.spawn());
    let child = if changes_account { lending(start) } else { start() }??;
    Ok((child, Receiver::from_owned_fd(output.into())?))
}

/// Does something while this thread blocks no signal. A child inherits what its parent blocks, and weir's threads leave SIGTERM and
/// others to one of them: a program that inherited that would not end when it is asked to.
fn unblocked<T>(act: impl FnOnce() -> T) -> io::Result<T> {
    let blocked = SigSet::empty().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let done = act();
    blocked.thread_set_mask()?;
    Ok(done)
}

/// Does something while what this thread starts gets of it what `setpriv` needs to change the account. root hands it on anyway; an
/// account of weir's own has to say so. `setpriv` takes it away before it starts the program.
fn lending<T>(act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let own = capabilities(None)?;
    let lent = own.permitted & LENT;
    if geteuid().is_root() || lent.is_empty() {
        return act();
    }
    set_capabilities(None, CapabilitySets { inheritable: lent, ..own })?;
    let raised = lent.iter().try_for_each(|it| configure_capability_in_ambient_set(it, true));
    let done = raised.map_err(io::Error::from).and_then(|()| act());
    // What can't be inherited goes from the ambient set as well.
    set_capabilities(None, own)?;
    done
}

/// Waits for the end of a child and keeps the beginning of its output; the rest is read and thrown away, so that a talkative
/// program does not stop half-way.
async fn finish(child: &mut Child, pipe: &mut Receiver) -> Result<(ExitStatus, Vec<u8>), Failure> {
    let mut output = Vec::new();
    let mut piece = [0; 1024];
    let mut pipe = Some(pipe);
    while let Some(reader) = &mut pipe {
        tokio::select! {
            biased;
            read = reader.read(&mut piece) => match read {
                Ok(0) | Err(_) => pipe = None,
                Ok(count) => {
                    let room = OUTPUT_BYTES_MAX - output.len();
                    output.extend_from_slice(&piece[..count.min(room)]);
                }
            },
            // It may end while something it started holds the pipe.
            _ = child.wait() => break,
        }
    }
    let status = child.wait().await.map_err(|problem| Failure::local("waiting for the program", &problem))?;
    Ok((status, output))
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::Signal;

    use super::*;

    #[tokio::test]
    async fn a_program_blocks_no_signal_though_this_thread_does() {
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).unwrap();
        let words = ["SigBlk".to_owned(), "/proc/self/status".to_owned()];
        let (mut child, mut pipe) = spawn("/usr/bin/grep", &words, &[], ("token", false)).unwrap();
        assert!(SigSet::thread_get_mask().unwrap().contains(Signal::SIGTERM));
        before.thread_set_mask().unwrap();
        let (_, output) = finish(&mut child, &mut pipe).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&output).trim(), "SigBlk:\t0000000000000000");
    }
}
