//! weirctl's own commands. Each asks once and prints; how it looks is a function of the answer.

mod announce;
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
mod restart;
mod save;
mod status;
mod top;
mod vrrp;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::json;
use weir_api::edits::Reload;
use weir_api::{
    announce as announce_api, director, explain as explain_api, health as health_api, virtual_servers,
    vrrp as vrrp_api, workers,
};
use weir_config::report::Severity;

use crate::cli::{Add, Command, Common, FILE, Remove, Set, encoded};
use crate::client::{Client, Door};
use crate::doctor;
use crate::patiently;
use crate::screen::Screen;
use crate::shell;
use crate::weir::Problem;
use change::Change;
pub(crate) use status::certificate;

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
        Command::Neighbors(wanted) => neighbors::run(&mut asked, wanted),
        Command::Announce => asked.show("/api/v1/announce", |it: &announce_api::Listing<'static>, screen| {
            Ok(announce::text(it, screen))
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
            change::enable(&mut asked, &server.virtual_server, server.real_server, (*weight, file.as_deref()))
        }
        Command::Reload { dry_run, keep_edits } => {
            change::reload(&mut asked, Reload { dry_run: *dry_run, keep_edits: *keep_edits })
        }
        Command::Restart => restart::run(&mut asked, common),
        Command::Check { file } => check(file, &asked),
        Command::Save { file, dry_run } => save::run(&mut asked, file.as_deref(), *dry_run),
        Command::Proc { directory: Some(directory), interval, .. } => {
            proc_files::keep(&mut asked, directory, Duration::from_secs(*interval))
        }
        Command::Proc { file, .. } => file.map_or(Ok(()), |file| proc_files::run(&mut asked, file)),
        Command::Man { directory: Some(directory), .. } => shell::write_pages(directory).map_err(|problem| {
            Problem::Failed(format!("{} can't be written: {problem}", directory.display()))
        }),
        // They have their own ways in.
        Command::Doctor { .. }
        | Command::Import { .. }
        | Command::Ipvsadm { .. }
        | Command::Completions { .. }
        | Command::Man { .. } => Ok(()),
    }
}

/// `check`: the file alone, without the machine that it is for.
fn check(path: &Path, asked: &Asked) -> Result<(), Problem> {
    let is_coloured = asked.screen.is_coloured();
    let loaded = patiently(path, || weir_config::load_any(path));
    if asked.is_json {
        let report = loaded.as_ref().map_or_else(|report| report, |loaded| &loaded.warnings);
        let problems: Vec<_> = report
            .one_liners()
            .map(|(severity, text)| json!({"error": severity == Severity::Error, "text": text}))
            .collect();
        asked.print_json(&json!({"file": path, "good": loaded.is_ok(), "problems": problems}))?;
    }
    match loaded {
        Ok(_) if asked.is_json => Ok(()),
        Ok(loaded) => {
            let warnings = loaded.warnings;
            if !warnings.is_empty() {
                let _ = writeln!(io::stderr(), "{}", warnings.render(is_coloured));
            }
            print(&format!("{}: good\n", path.display()))
        }
        Err(_) if asked.is_json => Err(Problem::Failed(format!("{} is not accepted", path.display()))),
        Err(report) => {
            let report = report.render(is_coloured);
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
        if !self.is_json {
            let text = text(&self.client.get(path)?, &self.screen)?;
            return print(&text);
        }
        // As it came, once it is known to be what a program expects; what is wrong with it is as wrong as it is for people.
        let (answer, as_it_came) = self.client.get_with_text(path)?;
        print(&(as_it_came + "\n"))?;
        text(&answer, &self.screen).map(drop)
    }

    /// Prints what weirctl itself has to say.
    fn print_json(&self, what: &impl serde::Serialize) -> Result<(), Problem> {
        let text = serde_json::to_string(what).map_err(|problem| Problem::Failed(problem.to_string()))?;
        print(&(text + "\n"))
    }

    /// The file that weir reads, which its process says; `None`: it is another machine's.
    fn file(&mut self) -> Option<PathBuf> {
        if !matches!(self.client.door(), Door::Socket(_)) {
            return None;
        }
        let named = self.client.peer().and_then(doctor::file_of);
        Some(named.unwrap_or_else(|| FILE.into()))
    }

    /// The one that is named, or the one that weir reads.
    ///
    /// # Errors
    /// None is named, and weir's is not on this machine.
    fn file_or(&mut self, named: Option<&Path>) -> Result<PathBuf, Problem> {
        match named {
            Some(named) => Ok(named.to_owned()),
            None => self.file().ok_or_else(|| {
                Problem::Failed(
                    "weir's own file is looked for beside its socket only: name a file".to_owned(),
                )
            }),
        }
    }
}

/// To stdout.
pub(crate) fn print(text: &str) -> Result<(), Problem> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}
