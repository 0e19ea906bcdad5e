//! Holds weir's connection tables while weir itself is away, where systemd's store for files does not.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use weir_keeper::{SOCKET, Shelf, Teller, listen, serve};

/// Holds weir's connection tables while weir itself is away. It has to run as weir's user, or as root.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where weir finds it: `keeper` of [connections].
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    socket: PathBuf,
}

fn main() -> ExitCode {
    let Arguments { socket } = Arguments::parse();
    let say = |text: String| _ = writeln!(std::io::stderr(), "weir-keeper: {text}");
    let place = socket.display();
    let folder = socket.parent().unwrap_or(Path::new("/"));
    let listener = match std::fs::create_dir_all(folder).and_then(|()| listen(&socket)) {
        Ok(listener) => listener,
        Err(problem) => {
            say(format!("{place}: {problem}"));
            return ExitCode::FAILURE;
        }
    };
    say(format!("ready at {place}"));
    let teller = match Teller::new(std::io::stderr()) {
        Ok(teller) => teller,
        Err(problem) => {
            say(format!("no thread for the log: {problem}"));
            return ExitCode::FAILURE;
        }
    };
    let complain =
        |problem: &std::io::Error| teller.tell(&format!("weir-keeper: a request was not served: {problem}"));
    if let Err(problem) = serve(&listener, &mut Shelf::default(), complain) {
        say(format!("{place}: {problem}"));
    }
    ExitCode::FAILURE
}
