//! `weirctl ipvsadm`, and the program under the name `ipvsadm`: ipvsadm 1.31's commands, formats, messages and exit statuses, with
//! weir in the kernel's place. Help is in our own words.
//!
//! | file | what |
//! |---|---|
//! | `options` | options and how words are taken apart into them |
//! | `parse` | from words to a `command`, with every complaint |
//! | `edits` | commands as edits of weir's |
//! | `restore` | files of rules |
//! | `table`, `show` | what weir lists, and how it is printed |
//! | `names` | names of hosts and ports |

pub mod command;
mod edits;
mod help;
pub mod names;
mod options;
pub mod parse;
mod restore;
mod show;
pub mod table;
#[cfg(test)]
pub(crate) mod tests;

use std::io::{self, BufRead, Write};

use crate::weir::{Problem, Weir};
use command::{Command, Format, What, Which};
pub(crate) use edits::flags;
use names::Names;
use parse::{Refusal, parse};
use show::Show;
pub(crate) use show::unspecified;
use table::Service;

/// ipvsadm's status for what the kernel refuses: its -1.
const REFUSED: u8 = 255;

/// One run of ipvsadm.
pub struct Ipvsadm<'a> {
    /// Who is asked.
    pub weir: &'a mut dyn Weir,
    /// Who knows names.
    pub names: &'a dyn Names,
    /// For `-R`.
    pub input: &'a mut dyn BufRead,
    /// stdout.
    pub out: &'a mut dyn Write,
    /// stderr.
    pub err: &'a mut dyn Write,
}

/// What stops a listing.
enum Stop {
    /// A message and a status.
    Message(String, u8),
    /// Nobody reads any more.
    Unread,
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Stop::Unread
    }
}

impl Ipvsadm<'_> {
    /// Does what the arguments behind the program's name say. Returns the exit status.
    pub fn run(&mut self, arguments: &[String]) -> u8 {
        if arguments.is_empty() {
            return self.ended(Command::List(What::All, Format::default())).0;
        }
        match parse(arguments, self.names) {
            Ok(Command::Restore) => self.restore(),
            Ok(command) => self.ended(command).0,
            Err(Refusal { status, text, .. }) => self.complain(&text, status),
        }
    }

    /// Does one command. Returns its status, and whether ipvsadm would end with it even within `-R`.
    fn ended(&mut self, command: Command) -> (u8, bool) {
        let done = match command {
            Command::Help => {
                let _ = write!(self.out, "{}", help::TEXT);
                return (0, true);
            }
            Command::Version => {
                let _ = write!(self.out, "{}", help::version());
                return (0, true);
            }
            Command::List(what, format) => self.list(what, format),
            Command::Save(format) => self.save(format),
            Command::StartDaemon => Err(Stop::Message(
                "weir synchronises connections by its file: [sync] kernel = \"receive\" hears what a kernel's IPVS tells, \
                 and nothing tells others yet; after a take-over by VRRP, sh and mh send clients to the real servers that they had"
                    .to_owned(),
                REFUSED,
            )),
            Command::StopDaemon => Err(Stop::Message("No daemon is running".to_owned(), REFUSED)),
            command => self.change(&command),
        };
        match done {
            Ok(()) => (0, false),
            Err(Stop::Unread) => (1, true),
            // As ipvsadm, which ends when it can't list.
            Err(Stop::Message(text, status)) => {
                (self.complain(&format!("{text}\n"), status), status != REFUSED)
            }
        }
    }

    fn complain(&mut self, text: &str, status: u8) -> u8 {
        // The status says it as well, should stderr be closed.
        let _ = self.err.write_all(text.as_bytes());
        status
    }

    fn change(&mut self, command: &Command) -> Result<(), Stop> {
        let refused = |text: String| Stop::Message(text, REFUSED);
        let edit = match edits::edit(command) {
            Ok(Some(edit)) => edit,
            Ok(None) => return Ok(()),
            // What the kernel finds wrong it says only of a service that is there, or of a new one.
            Err(text) => {
                let which = edits::service_of(command);
                let is_there = which.map(|which| self.find(which)).transpose()?.flatten().is_some();
                return Err(refused(edits::presence(command, is_there).map_or(text, str::to_owned)));
            }
        };
        match self.weir.edit(vec![edit]) {
            Ok(_) => Ok(()),
            Err(Problem::Refused(refusal)) => Err(refused(edits::words(command, &refusal))),
            Err(problem) => Err(unreachable(problem)),
        }
    }

    fn services(&mut self, count_templates: bool) -> Result<Vec<Service>, Stop> {
        let listed = self.weir.virtual_servers(count_templates).map_err(unreachable)?;
        Ok(listed.iter().filter_map(Service::of).collect())
    }

    fn find(&mut self, which: Which) -> Result<Option<Service>, Stop> {
        Ok(self.services(false)?.into_iter().find(|service| service.which == which))
    }

    fn list(&mut self, what: What, format: Format) -> Result<(), Stop> {
        let show = Show { names: self.names, format };
        match what {
            What::Timeouts => {
                let timeouts = self.weir.timeouts().map_err(unreachable)?;
                write!(self.out, "{}", show::timeouts(&timeouts))?;
            }
            // weir has none.
            What::Daemons => {}
            What::Connections => {
                write!(self.out, "{}", show.connection_title())?;
                let out = &mut self.out;
                let print = &mut |connection: weir_api::connections::Connection<'_>| {
                    out.write_all(show.connection(&connection).as_bytes())
                };
                self.weir.connections("&templates=yes", print).map_err(unreachable)?;
            }
            What::Service(which) => {
                let counts = format.persistent && !(format.stats || format.rate || format.thresholds);
                let mut services = self.services(counts)?;
                services.retain(|service| service.which == which);
                if services.is_empty() {
                    return Err(Stop::Message("No such service".to_owned(), 1));
                }
                write!(self.out, "{}", show.title())?;
                self.print(&mut services, format, |service| show.service(service))?;
            }
            What::All => {
                let counts = format.persistent && !(format.stats || format.rate || format.thresholds);
                let mut services = self.services(counts)?;
                write!(self.out, "{}{}", show::VERSION_LINE, show.title())?;
                self.print(&mut services, format, |service| show.service(service))?;
            }
        }
        self.out.flush()?;
        Ok(())
    }

    fn save(&mut self, format: Format) -> Result<(), Stop> {
        let show = Show { names: self.names, format };
        let mut services = self.services(false)?;
        self.print(&mut services, format, |service| show.rules(service))?;
        self.out.flush()?;
        Ok(())
    }

    fn print(
        &mut self,
        services: &mut [Service],
        format: Format,
        text: impl Fn(&Service) -> String,
    ) -> Result<(), Stop> {
        if !format.unsorted {
            Service::sort(services);
        }
        for service in services {
            self.out.write_all(text(service).as_bytes())?;
        }
        Ok(())
    }
}

/// weir can't be asked: as ipvsadm without a kernel that has IPVS.
fn unreachable(problem: Problem) -> Stop {
    match problem {
        Problem::Unread => Stop::Unread,
        problem => Stop::Message(format!("Can't initialize ipvs: {problem}"), 2),
    }
}
