//! weirctl's own commands. Each asks once and prints; how it looks is a function of the answer.

mod capture;
pub(crate) mod change;
mod connections;
mod events;
mod explain;
mod health;
mod list;
mod machine;
mod neighbors;
mod proc_files;
mod save;
mod status;
mod top;
mod vrrp;

use std::io::{self, Write};
use std::time::Duration;

use serde::de::DeserializeOwned;
use weir_api::edits::Reload;
use weir_api::{
    director, explain as explain_api, health as health_api, neighbors as neighbors_api, virtual_servers,
    vrrp as vrrp_api, workers,
};

use crate::cli::{Add, Command, Common, Remove, Set, encoded};
use crate::client::Client;
use crate::screen::Screen;
use crate::shell;
use crate::weir::Problem;
use change::Change;

/// Does a command.
///
/// # Errors
/// A sentence for the user.
pub(crate) fn run(command: &Command, common: &Common) -> Result<(), Problem> {
    let mut asked = Asked::new(common)?;
    match command {
        Command::Status => asked.show("/api/v1/status", status::text),
        Command::List { name } => {
            let path = format!("/api/v1/virtual_servers{}", name_is("name", name));
            asked.show(&path, |listing: &virtual_servers::Listing<'static>, screen| {
                list::text(listing, name.as_deref(), screen)
            })
        }
        Command::Connections(wanted) => connections::run(&mut asked, wanted),
        Command::Stats { all } => asked.show("/api/v1/counters", |it: &director::Counters, screen| {
            Ok(machine::counters(it, *all, screen))
        }),
        Command::Workers => {
            asked.show("/api/v1/workers", |it: &workers::Listing, screen| Ok(machine::workers(it, screen)))
        }
        Command::Ports => asked
            .show("/api/v1/ports", |it: &director::Ports<'static>, screen| Ok(machine::ports(it, screen))),
        Command::Explain(packet) => {
            let path = format!("/api/v1/explain?{}", packet.query());
            asked.show(&path, |it: &explain_api::Explanation<'static>, screen| explain::text(it, screen))
        }
        Command::Capture(wanted) => capture::run(&mut asked, wanted),
        Command::Neighbors(wanted) => asked
            .show("/api/v1/neighbors", |it: &neighbors_api::Listing<'static>, screen| {
                neighbors::text(it, wanted, screen)
            }),
        Command::Vrrp => {
            asked.show("/api/v1/vrrp", |it: &vrrp_api::Listing<'static>, screen| Ok(vrrp::text(it, screen)))
        }
        Command::Health { name } => {
            let path = format!("/api/v1/health{}", name_is("virtual_server", name));
            asked.show(&path, |it: &health_api::Listing<'static>, screen| {
                health::text(it, name.as_deref(), screen)
            })
        }
        Command::Top { interval } => top::run(&mut asked, Duration::from_secs(*interval)),
        Command::Events { count } => events::run(&mut asked, *count),
        Command::Add { what, dry_run } => match what {
            Add::VirtualServer { name, keys } => {
                change::run(&mut asked, &Change::AddVirtual(name, keys), *dry_run)
            }
            Add::RealServer { server, keys } => {
                let change = Change::AddReal(&server.virtual_server, server.real_server, keys);
                change::run(&mut asked, &change, *dry_run)
            }
        },
        Command::Set { what, dry_run } => match what {
            Set::VirtualServer { virtual_server, keys } => {
                change::run(&mut asked, &Change::SetVirtual(virtual_server, keys), *dry_run)
            }
            Set::RealServer { server, keys } => {
                let change = Change::SetReal(&server.virtual_server, server.real_server, keys);
                change::run(&mut asked, &change, *dry_run)
            }
        },
        Command::Remove { what, dry_run } => match what {
            Remove::VirtualServer { virtual_server } => {
                change::run(&mut asked, &Change::RemoveVirtual(virtual_server), *dry_run)
            }
            Remove::RealServer(server) => {
                let change = Change::RemoveReal(&server.virtual_server, server.real_server);
                change::run(&mut asked, &change, *dry_run)
            }
        },
        Command::Drain(server) => change::drain(&mut asked, &server.virtual_server, server.real_server),
        Command::Enable { server, weight, file } => {
            change::enable(&mut asked, &server.virtual_server, server.real_server, (*weight, file))
        }
        Command::Reload { dry_run, keep_edits } => {
            change::reload(&mut asked, Reload { dry_run: *dry_run, keep_edits: *keep_edits })
        }
        Command::Check { file } => check(file, &asked.screen),
        Command::Save { file, dry_run } => save::run(&mut asked, file, *dry_run),
        Command::Proc { directory: Some(directory), interval, .. } => {
            proc_files::keep(&mut asked, directory, Duration::from_secs(*interval))
        }
        Command::Proc { file, .. } => file.map_or(Ok(()), |file| proc_files::run(&mut asked, file)),
        Command::Man { directory: Some(directory), .. } => shell::write_pages(directory).map_err(|problem| {
            Problem::Failed(format!("{} can't be written: {problem}", directory.display()))
        }),
        // They have their own ways in.
        Command::Doctor { .. }
        | Command::Ipvsadm { .. }
        | Command::Completions { .. }
        | Command::Man { .. } => Ok(()),
    }
}

/// `check`: the file alone, without the machine that it is for.
fn check(path: &std::path::Path, screen: &Screen) -> Result<(), Problem> {
    match weir_config::load_any(path) {
        Ok(loaded) => {
            let warnings = loaded.warnings;
            if !warnings.is_empty() {
                let _ = writeln!(io::stderr(), "{}", warnings.render(screen.is_coloured()));
            }
            print(&format!("{}: good\n", path.display()))
        }
        Err(report) => {
            let report = report.render(screen.is_coloured());
            Err(Problem::Failed(format!("{} is not accepted\n{report}", path.display())))
        }
    }
}

fn name_is(key: &str, name: &Option<String>) -> String {
    name.as_ref().map(|name| format!("?{key}={}", encoded(name))).unwrap_or_default()
}

/// Said of a name that weir does not know.
pub(crate) fn no_such(name: &str) -> Problem {
    Problem::Failed(format!("there is no virtual server {name}; `weirctl list` shows their names"))
}

/// Said where nothing is listed: of all virtual servers, or of the one of this name.
fn nothing(name: Option<&str>) -> Result<String, Problem> {
    match name {
        Some(name) => Err(no_such(name)),
        None => Ok("no virtual servers\n".to_owned()),
    }
}

/// A weir that is asked, and how its answers are printed.
pub(crate) struct Asked {
    pub(crate) client: Client,
    pub(crate) is_json: bool,
    pub(crate) screen: Screen,
}

impl Asked {
    fn new(common: &Common) -> Result<Self, Problem> {
        let client = Client::new(common.door()?).map_err(|problem| Problem::Failed(problem.to_string()))?;
        Ok(Self { client, is_json: common.json, screen: Screen::stdout() })
    }

    /// Prints what is at `path`: as it is, or as `text` has it.
    fn show<T: DeserializeOwned>(
        &mut self,
        path: &str,
        text: impl Fn(&T, &Screen) -> Result<String, Problem>,
    ) -> Result<(), Problem> {
        let text = if self.is_json {
            self.client.text(path)? + "\n"
        } else {
            text(&self.client.get(path)?, &self.screen)?
        };
        print(&text)
    }
}

/// To stdout.
pub(crate) fn print(text: &str) -> Result<(), Problem> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}
