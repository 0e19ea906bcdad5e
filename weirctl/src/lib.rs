//! What an operator types. `weirctl` asks weir through its unix socket; under the name `ipvsadm` it speaks ipvsadm's language.
//!
//! Needs nothing of DPDK: the types of the API are those of `weir-api`.

mod cli;
pub mod client;
mod commands;
mod doctor;
mod import;
pub mod ipvsadm;
#[cfg(test)]
mod model;
mod proc;
mod screen;
mod shell;
mod web;
pub mod weir;

use std::io::{self, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;

use cli::{Cli, Command};
use client::{Client, Door};
use ipvsadm::Ipvsadm;
use ipvsadm::names::Local;
use screen::Screen;
use weir::Problem;

/// Where weir's socket is unless its file, `--socket` or `$WEIR_SOCKET` says otherwise.
pub const SOCKET: &str = "/run/weir/weir.sock";
/// It was not done.
const FAILED: u8 = 1;
/// Bad usage.
const USAGE: u8 = 2;

/// Does what the command line says, the program's name included. Returns the exit status.
pub fn main(arguments: &[String]) -> ExitCode {
    let (program, rest) =
        arguments.split_first().map_or(("weirctl", &[][..]), |(first, rest)| (first.as_str(), rest));
    let name = Path::new(program).file_name().and_then(|name| name.to_str()).unwrap_or("weirctl");
    if matches!(name, "ipvsadm" | "ipvsadm-save" | "ipvsadm-restore") {
        return ExitCode::from(ipvsadm(name, rest, Door::Socket(usual_socket())));
    }
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(problem) => {
            // Help and version are "problems" that go to stdout.
            let _ = problem.print();
            return ExitCode::from(if problem.use_stderr() { USAGE } else { 0 });
        }
    };
    if let Command::Ipvsadm { arguments } = &cli.command {
        return ExitCode::from(match cli.common.door() {
            Ok(door) => ipvsadm("ipvsadm", arguments, door),
            Err(problem) => {
                let _ = writeln!(io::stderr(), "ipvsadm: {problem}");
                FAILED
            }
        });
    }
    if let Command::Doctor { file, root } = &cli.command {
        if cli.common.url.is_some() {
            let text = "weirctl: doctor looks at the machine that it runs on: call it there, without --url";
            let _ = writeln!(io::stderr(), "{text}");
            return ExitCode::from(USAGE);
        }
        let place = doctor::Where {
            door: cli.common.http.map_or_else(|| Door::Socket(cli.common.socket()), Door::Http),
            file: file.clone(),
            root: root.clone(),
            between: doctor::BETWEEN,
        };
        let (text, fails) = doctor::report(&doctor::examine(place), cli.common.json, &Screen::stdout());
        return match commands::print(&text) {
            Ok(()) => ExitCode::from(if fails { FAILED } else { 0 }),
            problem => ended(problem),
        };
    }
    if let Command::Import { what } = &cli.command {
        return ExitCode::from(import::run(what));
    }
    if let Some(text) = shell::text(&cli.command) {
        return ended(commands::print(&text));
    }
    ended(commands::run(&cli.command, &cli.common))
}

/// Where weir's socket is if no option says so.
pub(crate) fn usual_socket() -> PathBuf {
    let named = std::env::var_os("WEIR_SOCKET").filter(|it| !it.is_empty());
    named.map_or_else(|| SOCKET.into(), PathBuf::from)
}

fn ended(done: Result<(), Problem>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever has gone needs no sentence.
        Err(Problem::Unread) => ExitCode::from(FAILED),
        Err(problem) => {
            let _ = writeln!(io::stderr(), "weirctl: {problem}");
            ExitCode::from(FAILED)
        }
    }
}

/// Does work that reads or opens a file. That may wait, but not in silence.
pub(crate) fn patiently<T>(file: &Path, work: impl FnOnce() -> T) -> T {
    let file = file.display().to_string();
    let say = move |lasts: Duration| {
        let lasts = lasts.as_secs_f64();
        let text = format!(
            "weirctl: {file} is waited for, for {lasts:.0} s: the other end of a pipe, or its file system, may not answer"
        );
        let _ = writeln!(io::stderr(), "{text}");
    };
    weir_config::lasting::watched(say, work).0
}

/// One of ipvsadm's programs.
fn ipvsadm(name: &str, arguments: &[String], door: Door) -> u8 {
    let mut client = match Client::new(door) {
        Ok(client) => client,
        Err(problem) => {
            let _ = writeln!(io::stderr(), "{name}: {problem}");
            return FAILED;
        }
    };
    let mut program = Ipvsadm {
        weir: &mut client,
        names: &Local::new(),
        input: &mut BufReader::new(io::stdin()),
        out: &mut BufWriter::new(io::stdout()),
        err: &mut io::stderr(),
    };
    match (name, arguments) {
        ("ipvsadm-restore", []) => program.replace_all(),
        ("ipvsadm-save", []) => program.run(&["-S".to_owned()]),
        ("ipvsadm-save", [numeric]) if numeric == "-n" => program.run(&["-Sn".to_owned()]),
        ("ipvsadm-restore" | "ipvsadm-save", _) => {
            let usage =
                if name == "ipvsadm-save" { "ipvsadm-save [-n] > FILE" } else { "ipvsadm-restore < FILE" };
            let _ = writeln!(io::stderr(), "usage: {usage}");
            1
        }
        _ => program.run(arguments),
    }
}
