//! ipvsadm's options, and how a command line is taken apart into them: as popt does it, which ipvsadm is built with.
//!
//! Short options join (`-Ln`, `-At ADDRESS`), a value may follow its option in the same word (`-p5`, `-p=5`, `--opt=value`) or in the
//! next, whatever that begins with. Only a value that may be left out is never a word that begins with a dash. Words that are
//! no options are kept for the end, and `--` ends the options. Long options are written out.

use std::collections::VecDeque;

/// What is to be done. Every command line has one, in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    AddService,
    EditService,
    DeleteService,
    Clear,
    Restore,
    Save,
    AddServer,
    EditServer,
    DeleteServer,
    List,
    Zero,
    Set,
    StartDaemon,
    StopDaemon,
}

impl Verb {
    /// As complaints call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Verb::AddService => "add-service",
            Verb::EditService => "edit-service",
            Verb::DeleteService => "delete-service",
            Verb::Clear => "flush",
            Verb::Restore => "restore",
            Verb::Save => "save",
            Verb::AddServer => "add-server",
            Verb::EditServer => "edit-server",
            Verb::DeleteServer => "delete-server",
            Verb::List => "list",
            Verb::Zero => "zero",
            Verb::Set => "set",
            Verb::StartDaemon => "start-daemon",
            Verb::StopDaemon => "stop-daemon",
        }
    }

    /// What goes with it: options that it needs, that it may have, and of which it takes one.
    fn rules(self) -> [&'static [Opt]; 3] {
        use Opt::*;
        const SERVICE: &[Opt] = &[Scheduler, Persistent, Netmask, Ops, Pe, SchedFlags];
        const SERVER: &[Opt] =
            &[Forward, Weight, UThreshold, LThreshold, TunType, TunPort, TunNoCsum, TunCsum, TunRemCsum];
        match self {
            Verb::AddService | Verb::EditService => [&[Service], SERVICE, &[]],
            Verb::DeleteService => [&[Service], &[], &[]],
            Verb::AddServer | Verb::EditServer => [&[Service, Server], SERVER, &[]],
            Verb::DeleteServer => [&[Service, Server], &[], &[]],
            Verb::Clear | Verb::Restore | Verb::Set => [&[], &[], &[]],
            Verb::Save => [&[], &[Numeric], &[]],
            Verb::Zero => [&[], &[Service], &[]],
            Verb::List => [
                &[],
                &[Numeric, Stats, Rate, Thresholds, PersistentConn, NoSort, SyncId, Exact, TunInfo],
                &[Connection, Service, Timeout, Daemon],
            ],
            Verb::StartDaemon => {
                [&[], &[McastInterface, SyncId, McastGroup, McastPort, McastTtl, SyncMaxlen], &[]]
            }
            Verb::StopDaemon => [&[], &[SyncId], &[]],
        }
    }

    /// The first thing that is wrong with the options given.
    pub(super) fn complaint(self, given: Given) -> Option<String> {
        let [needed, allowed, one_of] = self.rules();
        let name = self.name();
        let mut one = None;
        for option in Opt::ALL {
            let option_name = option.name();
            if !given.has(option) {
                if needed.contains(&option) {
                    return Some(format!(
                        "You need to supply the '{option_name}' option for the '{name}' command"
                    ));
                }
            } else if one_of.contains(&option) {
                if let Some(other) = one.replace(option_name) {
                    return Some(format!(
                        "The option '{option_name}' conflicts with the '{other}' option in the '{name}' command"
                    ));
                }
            } else if !needed.contains(&option) && !allowed.contains(&option) {
                return Some(format!("Illegal '{option_name}' option with the '{name}' command"));
            }
        }
        None
    }
}

/// What goes with a command, in the order in which complaints look for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opt {
    Numeric,
    Connection,
    Service,
    Scheduler,
    Persistent,
    Netmask,
    Server,
    Forward,
    Weight,
    UThreshold,
    LThreshold,
    McastInterface,
    Timeout,
    Daemon,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    NoSort,
    SyncId,
    Exact,
    Ops,
    Pe,
    SchedFlags,
    McastGroup,
    McastPort,
    McastTtl,
    SyncMaxlen,
    TunInfo,
    TunType,
    TunPort,
    TunNoCsum,
    TunCsum,
    TunRemCsum,
}

impl Opt {
    const ALL: [Opt; 34] = {
        use Opt::*;
        [
            Numeric,
            Connection,
            Service,
            Scheduler,
            Persistent,
            Netmask,
            Server,
            Forward,
            Weight,
            UThreshold,
            LThreshold,
            McastInterface,
            Timeout,
            Daemon,
            Stats,
            Rate,
            Thresholds,
            PersistentConn,
            NoSort,
            SyncId,
            Exact,
            Ops,
            Pe,
            SchedFlags,
            McastGroup,
            McastPort,
            McastTtl,
            SyncMaxlen,
            TunInfo,
            TunType,
            TunPort,
            TunNoCsum,
            TunCsum,
            TunRemCsum,
        ]
    };

    /// As complaints call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Opt::Numeric => "numeric",
            Opt::Connection => "connection",
            Opt::Service => "service-address",
            Opt::Scheduler => "scheduler",
            Opt::Persistent => "persistent",
            Opt::Netmask => "netmask",
            Opt::Server => "real-server",
            Opt::Forward => "forwarding-method",
            Opt::Weight => "weight",
            Opt::UThreshold => "u-threshold",
            Opt::LThreshold => "l-threshold",
            Opt::McastInterface => "mcast-interface",
            Opt::Timeout => "timeout",
            Opt::Daemon => "daemon",
            Opt::Stats => "stats",
            Opt::Rate => "rate",
            Opt::Thresholds => "thresholds",
            Opt::PersistentConn => "persistent-conn",
            Opt::NoSort => "nosort",
            Opt::SyncId => "syncid",
            Opt::Exact => "exact",
            Opt::Ops => "ops",
            Opt::Pe => "pe",
            Opt::SchedFlags => "sched-flags",
            Opt::McastGroup => "mcast-group",
            Opt::McastPort => "mcast-port",
            Opt::McastTtl => "mcast-ttl",
            Opt::SyncMaxlen => "sync-maxlen",
            Opt::TunInfo => "tun-info",
            Opt::TunType => "tun-type",
            Opt::TunPort => "tun-port",
            Opt::TunNoCsum => "tun-nocsum",
            Opt::TunCsum => "tun-csum",
            Opt::TunRemCsum => "tun-remcsum",
        }
    }
}

/// Which options were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Given(u64);

impl Given {
    pub(super) fn has(self, option: Opt) -> bool {
        self.0 & 1 << option as u64 != 0
    }

    pub(super) fn has_any(self, options: &[Opt]) -> bool {
        options.iter().any(|&option| self.has(option))
    }

    /// Notes one. False: it was given already.
    pub(super) fn note(&mut self, option: Opt) -> bool {
        let is_new = !self.has(option);
        self.0 |= 1 << option as u64;
        is_new
    }
}

/// What an option on the command line stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    Verb(Verb),
    Help,
    Version,
    Tcp,
    Udp,
    Sctp,
    Mark,
    Ipv6,
    Sort,
    Masquerading,
    Ipip,
    Gatewaying,
    Opt(Opt),
}

/// Whether an option has a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    None,
    Required,
    Optional,
}

/// Long name, short name (`\0`: none), value, meaning.
const OPTIONS: &[(&str, char, Value, Tag)] = {
    use Value::{None, Optional, Required};
    &[
        ("add-service", 'A', None, Tag::Verb(Verb::AddService)),
        ("edit-service", 'E', None, Tag::Verb(Verb::EditService)),
        ("delete-service", 'D', None, Tag::Verb(Verb::DeleteService)),
        ("clear", 'C', None, Tag::Verb(Verb::Clear)),
        ("list", 'L', None, Tag::Verb(Verb::List)),
        ("list", 'l', None, Tag::Verb(Verb::List)),
        ("zero", 'Z', None, Tag::Verb(Verb::Zero)),
        ("add-server", 'a', None, Tag::Verb(Verb::AddServer)),
        ("edit-server", 'e', None, Tag::Verb(Verb::EditServer)),
        ("delete-server", 'd', None, Tag::Verb(Verb::DeleteServer)),
        ("set", '\0', None, Tag::Verb(Verb::Set)),
        ("help", 'h', None, Tag::Help),
        ("version", 'v', None, Tag::Version),
        ("restore", 'R', None, Tag::Verb(Verb::Restore)),
        ("save", 'S', None, Tag::Verb(Verb::Save)),
        ("start-daemon", '\0', Required, Tag::Verb(Verb::StartDaemon)),
        ("stop-daemon", '\0', Required, Tag::Verb(Verb::StopDaemon)),
        ("tcp-service", 't', Required, Tag::Tcp),
        ("udp-service", 'u', Required, Tag::Udp),
        ("sctp-service", '\0', Required, Tag::Sctp),
        ("fwmark-service", 'f', Required, Tag::Mark),
        ("scheduler", 's', Required, Tag::Opt(Opt::Scheduler)),
        ("persistent", 'p', Optional, Tag::Opt(Opt::Persistent)),
        ("netmask", 'M', Required, Tag::Opt(Opt::Netmask)),
        ("real-server", 'r', Required, Tag::Opt(Opt::Server)),
        ("masquerading", 'm', None, Tag::Masquerading),
        ("ipip", 'i', None, Tag::Ipip),
        ("gatewaying", 'g', None, Tag::Gatewaying),
        ("weight", 'w', Required, Tag::Opt(Opt::Weight)),
        ("u-threshold", 'x', Required, Tag::Opt(Opt::UThreshold)),
        ("l-threshold", 'y', Required, Tag::Opt(Opt::LThreshold)),
        ("numeric", 'n', None, Tag::Opt(Opt::Numeric)),
        ("connection", 'c', None, Tag::Opt(Opt::Connection)),
        ("mcast-interface", '\0', Required, Tag::Opt(Opt::McastInterface)),
        ("syncid", '\0', Required, Tag::Opt(Opt::SyncId)),
        ("timeout", '\0', None, Tag::Opt(Opt::Timeout)),
        ("daemon", '\0', None, Tag::Opt(Opt::Daemon)),
        ("stats", '\0', None, Tag::Opt(Opt::Stats)),
        ("rate", '\0', None, Tag::Opt(Opt::Rate)),
        ("thresholds", '\0', None, Tag::Opt(Opt::Thresholds)),
        ("persistent-conn", '\0', None, Tag::Opt(Opt::PersistentConn)),
        ("nosort", '\0', None, Tag::Opt(Opt::NoSort)),
        ("sort", '\0', None, Tag::Sort),
        ("exact", 'X', None, Tag::Opt(Opt::Exact)),
        ("ipv6", '6', None, Tag::Ipv6),
        ("ops", 'o', None, Tag::Opt(Opt::Ops)),
        ("pe", '\0', Required, Tag::Opt(Opt::Pe)),
        ("sched-flags", 'b', Required, Tag::Opt(Opt::SchedFlags)),
        ("mcast-group", '\0', Required, Tag::Opt(Opt::McastGroup)),
        ("mcast-port", '\0', Required, Tag::Opt(Opt::McastPort)),
        ("mcast-ttl", '\0', Required, Tag::Opt(Opt::McastTtl)),
        ("sync-maxlen", '\0', Required, Tag::Opt(Opt::SyncMaxlen)),
        ("tun-info", '\0', None, Tag::Opt(Opt::TunInfo)),
        ("tun-type", '\0', Required, Tag::Opt(Opt::TunType)),
        ("tun-port", '\0', Required, Tag::Opt(Opt::TunPort)),
        ("tun-nocsum", '\0', None, Tag::Opt(Opt::TunNoCsum)),
        ("tun-csum", '\0', None, Tag::Opt(Opt::TunCsum)),
        ("tun-remcsum", '\0', None, Tag::Opt(Opt::TunRemCsum)),
    ]
};

/// One option of a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) tag: Tag,
    /// Its value, if it has one.
    pub(super) value: Option<String>,
    /// The word that it stands in.
    pub(super) word: String,
}

/// A command line that is being taken apart.
pub(super) struct Words {
    ahead: VecDeque<String>,
    /// The rest of a word of joined options, and that word.
    joined: Option<(String, String)>,
    /// Words that are no options.
    pub(super) others: VecDeque<String>,
}

impl Words {
    pub(super) fn new(arguments: &[String]) -> Self {
        Self { ahead: arguments.iter().cloned().collect(), joined: None, others: VecDeque::new() }
    }

    /// The next option; `None`: there is none any more.
    ///
    /// # Errors
    /// A complaint in popt's words.
    pub(super) fn next_option(&mut self) -> Result<Option<Found>, String> {
        loop {
            if let Some((rest, word)) = self.joined.take() {
                return self.short(&rest, word).map(Some);
            }
            let Some(word) = self.ahead.pop_front() else { return Ok(None) };
            match word.strip_prefix('-') {
                None | Some("") => self.others.push_back(word),
                Some("-") => self.others.extend(self.ahead.drain(..)),
                Some(rest) => match rest.strip_prefix('-') {
                    Some(long) => return self.long(long, &word).map(Some),
                    None => self.joined = Some((rest.to_owned(), word)),
                },
            }
        }
    }

    fn long(&mut self, text: &str, word: &str) -> Result<Found, String> {
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let known = OPTIONS.iter().find(|(long, ..)| *long == name);
        let &(_, _, wants, tag) = known.ok_or_else(|| format!("{word}: unknown option"))?;
        let value = match (wants, value) {
            (Value::None, Some(_)) => return Err(format!("{word}: option does not take an argument")),
            (Value::None, None) => None,
            (_, Some(value)) => Some(value.to_owned()),
            (wants, None) => self.value(wants, word)?,
        };
        Ok(Found { tag, value, word: word.to_owned() })
    }

    /// The first of some joined options; the others are kept.
    fn short(&mut self, text: &str, word: String) -> Result<Found, String> {
        let mut letters = text.chars();
        let letter = letters.next().unwrap_or_default();
        let rest = letters.as_str();
        let known = OPTIONS.iter().find(|(_, short, ..)| *short == letter && letter != '\0');
        let &(_, _, wants, tag) = known.ok_or_else(|| format!("{word}: unknown option"))?;
        let value = match (wants, rest) {
            (Value::None, "") => None,
            (Value::None, rest) => {
                self.joined = Some((rest.to_owned(), word.clone()));
                None
            }
            (wants, "") => self.value(wants, &word)?,
            (_, rest) => Some(rest.strip_prefix('=').unwrap_or(rest).to_owned()),
        };
        Ok(Found { tag, value, word })
    }

    /// A value in a word of its own.
    fn value(&mut self, wants: Value, word: &str) -> Result<Option<String>, String> {
        if wants == Value::Optional && self.ahead.front().is_none_or(|next| next.starts_with('-')) {
            return Ok(None);
        }
        match self.ahead.pop_front() {
            Some(value) => Ok(Some(value)),
            None => Err(format!("{word}: missing argument")),
        }
    }
}
