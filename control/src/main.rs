//! `weir`, the daemon: the start order on one screen.

mod carrier;
mod cli;
mod control;
mod health;
mod host;
mod http;
mod lifecycle;
mod links;
mod memory;
mod metrics;
mod nodes;
mod ports;
mod publish;
mod rates;
mod spread;
mod vrrp;

use std::path::Path;
use std::process::ExitCode;

use dpdk::{Eal, EalError};
use tracing::error;
use tracing::level_filters::LevelFilter;
use weir_config::Loaded;

use cli::CommandLine;

/// Could not start, or failed.
const FAILED: u8 = 1;
/// Bad usage or bad configuration.
const BAD_INPUT: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    let line = match CommandLine::parse(&arguments) {
        Ok(line) => line,
        Err(problem) => {
            // Help and version are "problems" that go to stdout.
            let _ = problem.print();
            return ExitCode::from(if problem.use_stderr() { BAD_INPUT } else { 0 });
        }
    };
    start_log(line.own.log_level.into());
    // Who only asks may hand over a pipe; whoever serves must be able to read the file again, without waiting.
    let load = if line.own.check { weir_config::load_any } else { weir_config::load };
    let loaded = match load(&line.own.config) {
        Ok(loaded) => loaded,
        Err(report) => {
            say(&report);
            return ExitCode::from(BAD_INPUT);
        }
    };
    if !loaded.warnings.is_empty() {
        say(&loaded.warnings);
    }
    if line.own.check {
        return ExitCode::SUCCESS;
    }
    match run(&line, loaded) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            error!("{problem:#}");
            ExitCode::from(exit_status(&problem))
        }
    }
}

/// From a valid configuration to a director that forwards, until it is told to stop. Whatever was started is stopped
/// in reverse order, also when a later step fails.
fn run(line: &CommandLine, Loaded { config, .. }: Loaded) -> anyhow::Result<()> {
    let listener = http::bind(config.http.listen)?;
    let arguments = line.eal_arguments();
    let devices: Vec<&str> = config.ports.iter().map(|port| port.device.as_str()).collect();
    for sentence in nodes::bare(&arguments, &devices, Path::new("/sys")) {
        tracing::warn!("{sentence}");
    }
    let eal = Eal::init(&arguments).map_err(|problem| lifecycle::explain_eal(problem, &config))?;
    let lcores = lifecycle::Lcores::of(&eal);
    let mut ports = ports::Ports::start(&eal, &config, lcores.workers())?;
    let prepared = lifecycle::prepare(&eal, &lcores, &line.own.config, config, &mut ports)?;
    // Health checks and hooks may be programs of another user. Only now, for the memory of tables has files, too.
    if let Err(problem) = dpdk::files::close_on_exec() {
        tracing::warn!("programs started by weir will have its files open: {problem}");
    }
    lifecycle::run(&eal, &lcores, prepared, listener)
    // Ports close, memory goes back and EAL ends as `ports` and `eal` are dropped.
}

fn start_log(level: LevelFilter) {
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr)
        .init();
}

/// A report is laid out for reading, so it goes to stderr as it is.
#[expect(clippy::print_stderr, reason = "it is what the user asked for")]
fn say(report: &weir_config::report::Report) {
    use std::io::IsTerminal;
    eprintln!("{}", report.render(std::io::stderr().is_terminal()));
}

/// Arguments that EAL refuses are bad usage; what it lacks is a failure.
fn exit_status(problem: &anyhow::Error) -> u8 {
    match problem.downcast_ref::<EalError>() {
        Some(
            EalError::BadArguments { .. } | EalError::NulInArgument(_) | EalError::UnexpectedArgument(_),
        ) => BAD_INPUT,
        _ => FAILED,
    }
}
