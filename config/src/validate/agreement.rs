//! Several directors that serve a VIP at the same time: where nothing says that they pick the same real server for a connection.
//!
//! A router with several ways of equal cost may move a flow from one director to another, when a director comes or goes. It goes on there
//! where the other one picks as the first did: by the client's address, the file, and nothing else.

use std::collections::HashSet;

use super::table::peeked;
use crate::model::{Config, Family, Forwarding, Protocol, Scheduler, VirtualServer};
use crate::report::{Problem, quoted};
use crate::schema::{self, File, Span};

/// One warning for each reason, at the first virtual server that it holds for.
pub(crate) fn among_directors(file: &File, config: &Config, problems: &mut Vec<Problem>) {
    let written: Vec<(&schema::VirtualServer, Span)> = peeked(&file.virtual_server).collect();
    if config.announces.is_empty() || written.len() != config.virtual_servers.len() {
        return;
    }
    let announced = config.announced();
    let together = announced.iter().filter(|route| route.instance.is_none());
    let together: HashSet<usize> = together.flat_map(|route| route.servers.iter().copied()).collect();
    let mut found: Vec<(Why, usize, usize)> = Vec::new();
    for index in 0..config.virtual_servers.len() {
        if !together.contains(&index) {
            continue;
        }
        let Some(why) = Why::of(&config.virtual_servers[index], config) else { continue };
        match found.iter_mut().find(|(known, ..)| *known == why) {
            Some((_, _, more)) => *more += 1,
            None => found.push((why, index, 0)),
        }
    }
    for (why, index, more) in found {
        let (server, at) = &written[index];
        let at = server.scheduler.as_deref().map_or(at.clone(), toml::Spanned::span);
        let name = &config.virtual_servers[index].name;
        let more = match more {
            0 => String::new(),
            1 => ", and of one more virtual server".to_owned(),
            more => format!(", and of {more} more virtual servers"),
        };
        let problem = Problem::warning(format!(
            "another director need not know the connections of {}{more}",
            quoted(name)
        ))
        .at(
            at,
            format!(
                "it is announced without VRRP, so others may serve it at the same time, and {}",
                why.sentence()
            ),
        )
        .help(why.help());
        problems.push(problem);
    }
}

/// What keeps directors from agreeing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    Scheduler(Scheduler),
    Replies,
    Templates,
    Thresholds,
    Passive,
    Weights,
    Sloppy(Protocol),
}

impl Why {
    /// The first reason that there is.
    pub(crate) fn of(server: &VirtualServer, config: &Config) -> Option<Self> {
        let by_client = matches!(server.scheduler, Scheduler::Mh | Scheduler::Sh);
        let is_fixed = by_client || matches!(server.scheduler, Scheduler::Dh | Scheduler::Fo);
        if !is_fixed {
            return Some(Self::Scheduler(server.scheduler));
        }
        let reals = &server.real_servers;
        if reals.iter().any(|real| real.forwarding == Forwarding::Nat) {
            return Some(Self::Replies);
        }
        // A template holds what was picked for the client's first connection.
        let whole = if server.family() == Family::V4 { 32 } else { 128 };
        let is_wide = server.persistence.is_some_and(|it| it.netmask < whole || it.engine.is_some());
        if server.persistence.is_some() && by_client && (is_wide || server.scheduler_flags.port) {
            return Some(Self::Templates);
        }
        if reals.iter().any(|real| real.upper_threshold > 0) {
            return Some(Self::Thresholds);
        }
        if server.health.passive.is_some() {
            return Some(Self::Passive);
        }
        if reals.iter().any(|real| real.has_dynamic_weight()) {
            return Some(Self::Weights);
        }
        match server.protocol {
            Protocol::Tcp if !config.connections.sloppy_tcp => Some(Self::Sloppy(Protocol::Tcp)),
            Protocol::Sctp if !config.connections.sloppy_sctp => Some(Self::Sloppy(Protocol::Sctp)),
            _ => None,
        }
    }

    /// Goes on from "so others may serve it at the same time, and".
    fn sentence(self) -> String {
        match self {
            Self::Scheduler(scheduler) => {
                format!("{} does not pick by the client's address alone", scheduler.name())
            }
            Self::Replies => "replies of nat real servers must come to the director that has the connection".to_owned(),
            Self::Templates => {
                "a client's first connection, which another director need not have seen, decides for its network, its \
                 call or its other ports"
                    .to_owned()
            }
            Self::Thresholds => "each director counts connections for `upper_threshold` by itself".to_owned(),
            Self::Passive => "each director ejects real servers by what it sees itself ([virtual_server.passive])".to_owned(),
            Self::Weights => "weights that agents, programs and files tell reach directors at different times".to_owned(),
            Self::Sloppy(protocol) => {
                format!("without `sloppy_{0}` no {0} connection begins in its middle", protocol.name())
            }
        }
    }

    fn help(self) -> String {
        match self {
            Self::Scheduler(_) => {
                "write `scheduler = \"mh\"`: connections that a router moves go on then".to_owned()
            }
            Self::Replies => "forward by `dr` or `tun`, or hold the VIP by a [[vrrp]]".to_owned(),
            Self::Templates => {
                "leave the persistence out: mh and sh keep a client with its real server by themselves"
                    .to_owned()
            }
            Self::Thresholds => {
                "remove the thresholds, or let it be: they matter while they are exceeded".to_owned()
            }
            Self::Passive => {
                "remove the table, or let it be: it matters while a real server is ejected".to_owned()
            }
            Self::Weights => "let it be: it matters for the time in which weights differ".to_owned(),
            Self::Sloppy(protocol) => format!("write `sloppy_{} = true` in [connections]", protocol.name()),
        }
    }
}
