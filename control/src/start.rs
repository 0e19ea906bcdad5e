//! The start order on one screen.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use arc_swap::ArcSwap;
use dpdk::{Eal, EalError};
use tracing::error;
use weir_config::Loaded;
use weir_config::edit::Editor;
use weir_config::lasting::watched;

use crate::cli::CommandLine;
use crate::control::Doors;
use crate::flags::{BAD_INPUT, FAILED, Flags};
use crate::http::{Keyring, Keys};
use crate::memory::Need;
use crate::rights::Identity;
use crate::socket::ControlSocket;
use crate::{
    bonds, crash, early, http, kept, lasting, lifecycle, log, nodes, ports, rights, routes, signals,
};

/// Does what the command line says. Returns the exit status.
pub fn weir(arguments: &[String]) -> ExitCode {
    let line = match CommandLine::parse(arguments) {
        Ok(line) => line,
        Err(problem) => {
            // Help and version are "problems" that go to stdout.
            let _ = problem.print();
            return ExitCode::from(if problem.use_stderr() { BAD_INPUT } else { 0 });
        }
    };
    if line.own.check { check(&line) } else { serve(&line) }
}

/// Reads the file and says what is wrong with it.
fn check(line: &CommandLine) -> ExitCode {
    let file = line.own.config.display().to_string();
    let say = move |lasts: Duration| {
        let text = format!(
            "weir: {file} and what it names are waited for, for {:.0} s: a pipe's writer, or their file system, may not answer",
            lasts.as_secs_f64()
        );
        let _ = writeln!(std::io::stderr(), "{text}");
    };
    // Who only asks may hand over a pipe; whoever serves must be able to read the file again, without waiting.
    let read = || weir_config::load_any(&line.own.config).and_then(weir_health::local::examine);
    let (loaded, _) = watched(say, read);
    let (report, good) = match loaded.map(|loaded| routes::look_around(loaded, &line.own.config)) {
        Ok(loaded) => {
            if let Some(sentence) = bonds::member_as_port(&line.eal_arguments(), &loaded.config) {
                let _ = writeln!(std::io::stderr(), "error: {sentence}");
                return ExitCode::from(BAD_INPUT);
            }
            let good = good(&line.own.config, &loaded);
            (loaded.warnings, Some(good))
        }
        Err(report) => (report, None),
    };
    if !report.is_empty() {
        let mut stderr = std::io::stderr();
        // The status says it as well, should nobody want to read it.
        let _ = writeln!(stderr, "{}", report.render(stderr.is_terminal()));
    }
    // The process ends with it. To free a hundred thousand problems one by one takes as long as to show them.
    std::mem::forget(report);
    let Some(good) = good else { return ExitCode::from(BAD_INPUT) };
    let _ = writeln!(std::io::stdout(), "{good}");
    ExitCode::SUCCESS
}

/// Serves until it is told to stop.
fn serve(line: &CommandLine) -> ExitCode {
    let flags = Flags::default();
    let limited = rights::begin();
    let begun = signals::leave()
        .and_then(|()| log::start(line.own.log_level.into()))
        .and_then(|()| signals::start(flags.clone()));
    if let Err(problem) = limited {
        tracing::warn!("weir may do more than it needs: {problem}");
    }
    let status = match begun {
        Ok(()) => load_and_run(line, flags),
        Err(problem) => {
            error!("weir does not start, for lack of a thread: {problem}");
            FAILED
        }
    };
    log::flush();
    ExitCode::from(status)
}

fn load_and_run(line: &CommandLine, flags: Flags) -> u8 {
    flags.wishes.waiting_for("the start");
    let file = &line.own.config;
    let loaded = lasting::at_start(file, || {
        let loaded = weir_config::load(file).and_then(weir_health::local::examine)?;
        let keys = Keys::read(&loaded.config.http);
        Ok((loaded, keys))
    });
    let (loaded, keys) = match loaded {
        Ok((loaded, keys)) => (routes::look_around(loaded, file), keys),
        Err(report) => {
            say(&report);
            return BAD_INPUT;
        }
    };
    if !loaded.warnings.is_empty() {
        say(&loaded.warnings);
    }
    let keys = match keys {
        Ok(keys) => Keyring::new(ArcSwap::from_pointee(keys)),
        Err(problem) => {
            error!("a file of [http] changed while weir started: {problem}");
            return FAILED;
        }
    };
    match run(line, loaded, keys, flags) {
        Ok(()) => 0,
        Err(problem) => {
            error!("{problem:#}");
            exit_status(&problem)
        }
    }
}

/// From a valid configuration to a director that forwards, until it is told to stop. Whatever was started is stopped
/// in reverse order, also when a later step fails.
fn run(
    line: &CommandLine,
    Loaded { config, source, .. }: Loaded,
    keys: Keyring,
    flags: Flags,
) -> anyhow::Result<()> {
    let listener = http::bind(config.http.listen)?;
    let control = lasting::at_start(&config.control.socket, || ControlSocket::of(&config.control))?;
    let doors = Doors { http: listener, keys, control };
    let crash_directory = config.control.crash_directory.clone();
    let lesson = crash::learn(crash_directory.as_deref());
    let (offer, taps) = kept::Offer::of(&config, doors.control.is_some(), lesson.distrust);
    let identity = Identity::of(&config, &line.own.config, (doors.control.is_some(), lesson.is_away));
    let arguments = line.eal_arguments();
    if let Some(sentence) = bonds::member_as_port(&arguments, &config) {
        anyhow::bail!(sentence);
    }
    let devices: Vec<&str> = config.devices().iter().map(|port| port.device.as_str()).collect();
    for sentence in nodes::bare(&arguments, &devices, Path::new("/sys")) {
        tracing::warn!("{sentence}");
    }
    if flags.is_stopping() {
        return Ok(());
    }
    let eal = Eal::init(&arguments).map_err(|problem| lifecycle::explain_eal(problem, &config))?;
    log::take_standard_streams();
    let lcores = lifecycle::Lcores::of(&eal);
    early::move_to(lcores.control_cpus());
    if flags.is_stopping() {
        return Ok(());
    }
    let mut ports = ports::Ports::start(&eal, &config, lcores.workers(), offer.seed()?)?;
    if flags.is_stopping() {
        return Ok(());
    }
    let editor = Editor::new(source, &config);
    let prepared = lifecycle::prepare(
        (&eal, &lcores),
        &line.own.config,
        (config, editor),
        &mut ports,
        (offer, taps, &lesson),
    )?;
    let crashes = (crash_directory.as_deref(), &lesson);
    lifecycle::run((&eal, &lcores), prepared, doors, (&identity, crashes), flags)
    // Ports close, memory goes back and EAL ends as `ports` and `eal` are dropped.
}

/// A report is laid out for reading, so it goes to the log as it is.
fn say(report: &weir_config::report::Report) {
    log::say(format!("{}\n", report.render(std::io::stderr().is_terminal())));
}

/// What `--check` found that found nothing wrong.
fn good(file: &Path, loaded: &Loaded) -> String {
    let Loaded { config, warnings, .. } = loaded;
    let verdict = match warnings.is_empty() {
        true => "is good".to_owned(),
        false => format!("can be served, with {}", warnings.tally()),
    };
    let real_servers = config.virtual_servers.iter().map(|server| server.real_servers.len()).sum();
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let pages = |workers| Need::of(config, workers, 1).pages();
    format!(
        "{} {verdict}: {}, {}, {}, {}\none worker takes {} hugepages of 2 MiB, two take {}",
        file.display(),
        count(config.ports.len(), "port"),
        count(config.virtual_servers.len(), "virtual server"),
        count(real_servers, "real server"),
        count(config.vrrp.len(), "VRRP instance"),
        pages(1),
        pages(2),
    )
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
