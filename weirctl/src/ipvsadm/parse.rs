//! From a command line to a [`Command`], with ipvsadm 1.31's rules, complaints and exit statuses. What is wrong is said in the order in
//! which ipvsadm finds it: values as they come, then what goes with the command, then what must agree.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::command::{
    Command, Flags, Format, Forwarding, Netmask, Protocol, ServerKeys, ServiceKeys, Tunnel, TunnelChecksum,
    TunnelKind, What, Which,
};
use super::names::Names;
use super::options::{Found, Given, Opt, Tag, Verb, Words};

/// Persistence without a value.
const PERSISTENCE_SECS: u32 = 360;
/// The longest time that may be given: 31 days.
const TIMEOUT_SECS_MAX: i64 = 31 * 24 * 60 * 60;
/// What sync messages of the kernel's daemon hold at most.
const SYNC_MAXLEN_MAX: i64 = 65_535;

/// A command line that is no good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Exit status.
    pub status: u8,
    /// For stderr, with its line ends.
    pub text: String,
    /// Whether ipvsadm ends with it even within `-R`.
    pub is_final: bool,
}

impl Refusal {
    /// Bad usage.
    fn usage(text: impl AsRef<str>) -> Self {
        Self { status: 2, text: format!("{}\n", text.as_ref()), is_final: true }
    }

    /// A command line that popt can't read. ipvsadm returns -1 then.
    fn syntax(text: impl AsRef<str>) -> Self {
        Self { status: 255, is_final: false, ..Self::usage(text) }
    }

    /// No command at all.
    pub(super) fn try_help() -> Self {
        let text = "Try `ipvsadm -h' or 'ipvsadm --help' for more information.";
        Self { is_final: true, ..Self::syntax(text) }
    }
}

/// What was read so far.
struct Draft<'a> {
    names: &'a dyn Names,
    given: Given,
    format: Format,
    protocol: Option<Protocol>,
    address: IpAddr,
    port: u16,
    mark: u32,
    /// The family of the service; `None`: not known yet.
    ipv6: Option<bool>,
    service: ServiceKeys,
    server: SocketAddr,
    keys: ServerKeys,
}

/// Takes a command line apart, without the program's name.
///
/// # Errors
/// What ipvsadm says, and its exit status.
pub fn parse(arguments: &[String], names: &dyn Names) -> Result<Command, Refusal> {
    let mut words = Words::new(arguments);
    let Ok(Some(first)) = words.next_option() else { return Err(Refusal::try_help()) };
    let verb = match first.tag {
        Tag::Verb(verb) => verb,
        Tag::Help => return Ok(Command::Help),
        Tag::Version => return Ok(Command::Version),
        _ => return Err(Refusal::try_help()),
    };
    let state = first.value.as_deref().unwrap_or_default();
    match verb {
        Verb::StartDaemon if !is_daemon(state) => {
            return Err(Refusal::usage("illegal start-daemon parameter specified"));
        }
        Verb::StopDaemon if !is_daemon(state) => {
            return Err(Refusal::usage("illegal start_daemon specified"));
        }
        _ => {}
    }
    let mut draft = Draft::new(names);
    while let Some(found) = words.next_option().map_err(Refusal::syntax)? {
        draft.take(&found)?;
    }
    let timeouts = if verb == Verb::Set { Some(timeouts(&mut words)?) } else { None };
    if let Some(other) = words.others.pop_front() {
        return Err(Refusal::usage(format!("unexpected argument {other}")));
    }
    if let Some(complaint) = verb.complaint(draft.given) {
        return Err(Refusal::usage(complaint));
    }
    draft.command(verb, timeouts)
}

fn is_daemon(state: &str) -> bool {
    matches!(state, "master" | "backup")
}

fn timeouts(words: &mut Words) -> Result<[u32; 3], Refusal> {
    let mut three = || words.others.pop_front();
    let (Some(tcp), Some(tcp_fin), Some(udp)) = (three(), three(), three()) else {
        return Err(Refusal::usage("--set option requires 3 timeout values"));
    };
    Ok([timeout(&tcp, 0)?, timeout(&tcp_fin, 0)?, timeout(&udp, 0)?])
}

impl<'a> Draft<'a> {
    fn new(names: &'a dyn Names) -> Self {
        Self {
            names,
            given: Given::default(),
            format: Format::default(),
            protocol: None,
            address: Ipv4Addr::UNSPECIFIED.into(),
            port: 0,
            mark: 0,
            ipv6: None,
            service: ServiceKeys {
                scheduler: String::new(),
                flags: Flags::default(),
                persistence: None,
                netmask: Netmask::V4(u32::MAX),
                one_packet: false,
                engine: String::new(),
            },
            server: SocketAddr::from(([0, 0, 0, 0], 0)),
            keys: ServerKeys {
                forwarding: Forwarding::Route,
                weight: 1,
                upper_threshold: 0,
                lower_threshold: 0,
                tunnel: Tunnel::IPIP,
            },
        }
    }

    fn note(&mut self, option: Opt) -> Result<(), Refusal> {
        if self.given.note(option) {
            return Ok(());
        }
        Err(Refusal::usage(format!("multiple '{}' options specified", option.name())))
    }

    /// One option behind the command.
    fn take(&mut self, found: &Found) -> Result<(), Refusal> {
        let value = found.value.as_deref().unwrap_or_default();
        match found.tag {
            Tag::Tcp => self.virtual_service(Protocol::Tcp, value),
            Tag::Udp => self.virtual_service(Protocol::Udp, value),
            Tag::Sctp => self.virtual_service(Protocol::Sctp, value),
            Tag::Mark => {
                self.note(Opt::Service)?;
                self.protocol = Some(Protocol::Tcp);
                self.ipv6 = Some(false);
                self.mark = mark(value)?;
                Ok(())
            }
            Tag::Ipv6 if self.mark != 0 => {
                self.ipv6 = Some(true);
                self.service.netmask = Netmask::V6(128);
                Ok(())
            }
            Tag::Ipv6 => Err(Refusal::usage("-6 used before -f\n")),
            Tag::Sort => Ok(()),
            Tag::Masquerading => self.method(Forwarding::Masq),
            Tag::Ipip => self.method(Forwarding::Tunnel),
            Tag::Gatewaying => self.method(Forwarding::Route),
            Tag::Opt(option) => {
                self.note(option)?;
                self.option(option, value, found.value.is_some())
            }
            Tag::Verb(_) | Tag::Help | Tag::Version => {
                Err(Refusal::usage(format!("invalid option `{}'", found.word)))
            }
        }
    }

    fn virtual_service(&mut self, protocol: Protocol, value: &str) -> Result<(), Refusal> {
        self.note(Opt::Service)?;
        self.protocol = Some(protocol);
        let (address, port) = endpoint(value, self.protocol, self.names)
            .ok_or_else(|| Refusal::usage("illegal virtual server address[:port] specified"))?;
        self.address = address;
        self.port = port.unwrap_or(self.port);
        self.ipv6 = Some(address.is_ipv6());
        if address.is_ipv6() {
            self.service.netmask = Netmask::V6(128);
        }
        Ok(())
    }

    fn method(&mut self, forwarding: Forwarding) -> Result<(), Refusal> {
        self.note(Opt::Forward)?;
        self.keys.forwarding = forwarding;
        Ok(())
    }

    /// The value of an option.
    fn option(&mut self, option: Opt, value: &str, has_value: bool) -> Result<(), Refusal> {
        let illegal = |what: &str| Refusal::usage(format!("illegal {what} specified"));
        match option {
            Opt::Scheduler => self.service.scheduler = value.to_owned(),
            Opt::Persistent => {
                let secs = if has_value { timeout(value, 1)? } else { PERSISTENCE_SECS };
                self.service.persistence = Some(secs);
            }
            Opt::Netmask => self.service.netmask = self.netmask(value)?,
            Opt::Server => {
                let (address, port) = endpoint(value, self.protocol, self.names)
                    .ok_or_else(|| illegal("real server address[:port]"))?;
                self.server = SocketAddr::new(address, port.unwrap_or(self.port));
            }
            Opt::Weight => self.keys.weight = count(value).ok_or_else(|| illegal("weight"))?,
            Opt::UThreshold => {
                self.keys.upper_threshold = count(value).ok_or_else(|| illegal("u_threshold"))?;
            }
            Opt::LThreshold => {
                self.keys.lower_threshold = count(value).ok_or_else(|| illegal("l_threshold"))?;
            }
            Opt::Ops => self.service.one_packet = true,
            Opt::Pe => self.service.engine = value.to_owned(),
            Opt::SchedFlags => self.service.flags = flags(value, &self.service.scheduler)?,
            Opt::TunType => {
                self.keys.tunnel.kind = TunnelKind::named(value).ok_or_else(|| illegal("tunnel type"))?;
            }
            Opt::TunPort => {
                let port = number(value, 1, 65_535).ok_or_else(|| illegal("tunnel port"))?;
                self.keys.tunnel.port = port as u16;
            }
            Opt::TunNoCsum => self.keys.tunnel.checksum = TunnelChecksum::None,
            Opt::TunCsum => self.keys.tunnel.checksum = TunnelChecksum::Full,
            Opt::TunRemCsum => self.keys.tunnel.checksum = TunnelChecksum::Remote,
            Opt::Numeric => self.format.numeric = true,
            Opt::Stats => self.format.stats = true,
            Opt::Rate => self.format.rate = true,
            Opt::Thresholds => self.format.thresholds = true,
            Opt::PersistentConn => self.format.persistent = true,
            Opt::NoSort => self.format.unsorted = true,
            Opt::Exact => self.format.exact = true,
            Opt::TunInfo => self.format.tunnels = true,
            option => daemon_option(option, value)?,
        }
        Ok(())
    }

    fn netmask(&self, value: &str) -> Result<Netmask, Refusal> {
        if self.ipv6 == Some(true) {
            let bits = leading_number(value).filter(|bits| (1..=128).contains(bits));
            let bits = bits.ok_or_else(|| Refusal::usage("illegal ipv6 netmask specified"))?;
            return Ok(Netmask::V6(bits as u8));
        }
        let mask = dotted(value).or_else(|| self.names.address(value));
        let mask = mask.ok_or_else(|| Refusal::usage("illegal virtual server persistent mask specified"))?;
        Ok(Netmask::V4(mask.to_bits()))
    }

    /// What must agree, and the command.
    fn command(mut self, verb: Verb, timeouts: Option<[u32; 3]>) -> Result<Command, Refusal> {
        match verb {
            Verb::AddService | Verb::EditService => self.check_service()?,
            Verb::AddServer | Verb::EditServer => self.check_server()?,
            Verb::List => self.check_list()?,
            _ => {}
        }
        let which = self.which();
        let [tcp, tcp_fin, udp] = timeouts.unwrap_or_default();
        Ok(match verb {
            Verb::AddService => Command::AddService(which, self.service),
            Verb::EditService => Command::EditService(which, self.service),
            Verb::DeleteService => Command::DeleteService(which),
            Verb::AddServer => Command::AddServer(which, self.server, self.keys),
            Verb::EditServer => Command::EditServer(which, self.server, self.keys),
            Verb::DeleteServer => Command::DeleteServer(which, self.server),
            Verb::Clear => Command::Clear,
            Verb::Zero => Command::Zero(self.given.has(Opt::Service).then_some(which)),
            Verb::Set => Command::SetTimeouts { tcp, tcp_fin, udp },
            Verb::StartDaemon => Command::StartDaemon,
            Verb::StopDaemon => Command::StopDaemon,
            Verb::Restore => Command::Restore,
            Verb::Save => Command::Save(self.format),
            Verb::List if self.given.has(Opt::Connection) => Command::List(What::Connections, self.format),
            Verb::List if self.given.has(Opt::Service) => Command::List(What::Service(which), self.format),
            Verb::List if self.given.has(Opt::Timeout) => Command::List(What::Timeouts, self.format),
            Verb::List if self.given.has(Opt::Daemon) => Command::List(What::Daemons, self.format),
            Verb::List => Command::List(What::All, self.format),
        })
    }

    fn which(&self) -> Which {
        match self.mark {
            0 => Which::Address {
                protocol: self.protocol.unwrap_or(Protocol::Tcp),
                address: self.address,
                port: self.port,
            },
            mark => Which::Mark { mark, ipv6: self.ipv6 == Some(true) },
        }
    }

    fn check_service(&mut self) -> Result<(), Refusal> {
        let is_address = self.mark == 0;
        if is_address && self.port == 0 && self.service.persistence.is_none() {
            return Err(Refusal::usage("Zero port specified for non-persistent service"));
        }
        if self.service.one_packet && is_address && self.protocol != Some(Protocol::Udp) {
            return Err(Refusal::usage("One-Packet Scheduling is only for UDP virtual services"));
        }
        if self.service.scheduler.is_empty() {
            self.service.scheduler = "wlc".to_owned();
        }
        Ok(())
    }

    fn check_server(&mut self) -> Result<(), Refusal> {
        let is_tunnel = self.keys.forwarding == Forwarding::Tunnel;
        if self.server.is_ipv6() != (self.ipv6 == Some(true)) && !is_tunnel {
            return Err(Refusal::usage("Different address family is allowed only for tunneling servers"));
        }
        // The packet's port is what it is with these methods; with a mark it is a part of the real server's name.
        if self.mark == 0 && self.keys.forwarding != Forwarding::Masq {
            self.server.set_port(self.port);
        }
        if is_tunnel {
            return tunnel(self.keys.tunnel.kind, self.given);
        }
        if self.given.has_any(&[Opt::TunType, Opt::TunPort, Opt::TunNoCsum, Opt::TunCsum, Opt::TunRemCsum]) {
            return Err(Refusal::usage("Tunnel options conflict with forward method"));
        }
        Ok(())
    }

    fn check_list(&self) -> Result<(), Refusal> {
        let has = |options: &[Opt]| self.given.has_any(options);
        let other = [Opt::Connection, Opt::Timeout, Opt::Daemon];
        if has(&other) && has(&[Opt::Stats, Opt::Rate, Opt::Thresholds])
            || has(&other[1..]) && has(&[Opt::PersistentConn])
        {
            return Err(Refusal::usage("options conflicts in the list command"));
        }
        Ok(())
    }
}

/// Options of the kernel's sync daemons, of which only the ranges are looked at.
fn daemon_option(option: Opt, value: &str) -> Result<(), Refusal> {
    let within = |min, max, what: &str| match number(value, min, max) {
        Some(_) => Ok(()),
        None => Err(Refusal::usage(format!("illegal {what} specified"))),
    };
    match option {
        Opt::SyncId => within(0, 255, "syncid"),
        Opt::SyncMaxlen => within(1, SYNC_MAXLEN_MAX, "sync-maxlen"),
        Opt::McastPort => within(1, 65_535, "mcast-port"),
        Opt::McastTtl => within(1, 255, "mcast-ttl"),
        Opt::McastGroup => match value.parse::<Ipv6Addr>() {
            Ok(group) if group.is_multicast() => Ok(()),
            Ok(_) => Err(Refusal::usage(format!("invalid IPv6 mcast-group `{value}'"))),
            Err(_) if value.parse::<Ipv4Addr>().is_ok_and(|group| group.is_multicast()) => Ok(()),
            Err(_) => Err(Refusal::usage(format!("invalid IPv4 mcast-group `{value}'"))),
        },
        _ => Ok(()),
    }
}

/// What goes with each type of tunnel.
fn tunnel(kind: TunnelKind, given: Given) -> Result<(), Refusal> {
    let name = kind.name();
    let options = [Opt::TunPort, Opt::TunNoCsum, Opt::TunCsum, Opt::TunRemCsum];
    let allowed: &[Opt] = match kind {
        TunnelKind::Ipip => &[],
        TunnelKind::Gue => &options,
        TunnelKind::Gre => &[Opt::TunNoCsum, Opt::TunCsum],
    };
    let mut checksum = None;
    for option in options {
        let option_name = option.name();
        let complaint = match given.has(option) {
            false if option == Opt::TunPort && kind == TunnelKind::Gue => {
                format!("You need to supply the '{option_name}' option for the '{name}' tunnel type")
            }
            true if !allowed.contains(&option) => {
                format!("Illegal '{option_name}' option with the '{name}' tunnel type")
            }
            true if option != Opt::TunPort => match checksum.replace(option_name) {
                None => continue,
                Some(other) => format!(
                    "The option '{option_name}' conflicts with the '{other}' option in the '{name}' tunnel type"
                ),
            },
            _ => continue,
        };
        return Err(Refusal::usage(complaint));
    }
    Ok(())
}

/// `sh-fallback,sh-port` and the like. They have to be those of the scheduler named before.
fn flags(text: &str, scheduler: &str) -> Result<Flags, Refusal> {
    let mut flags = Flags::default();
    for word in text.split(',').filter(|word| !word.is_empty()) {
        let (of, flag) = match word {
            "flag-1" => (None, Flags::FIRST),
            "flag-2" => (None, Flags::SECOND),
            "flag-3" => (None, Flags::THIRD),
            "sh-fallback" => (Some("sh"), Flags::FIRST),
            "sh-port" => (Some("sh"), Flags::SECOND),
            "mh-fallback" => (Some("mh"), Flags::FIRST),
            "mh-port" => (Some("mh"), Flags::SECOND),
            _ => return Err(Refusal::usage(format!("invalid scheduler flag `{word}'"))),
        };
        if of.is_some_and(|of| of != scheduler) {
            return Err(Refusal::usage(format!("incompatible scheduler flag `{word}'")));
        }
        flags = flags.with(flag);
    }
    Ok(flags)
}

fn timeout(text: &str, min: i64) -> Result<u32, Refusal> {
    let secs = number(text, min, TIMEOUT_SECS_MAX);
    let secs = secs.ok_or_else(|| Refusal::usage(format!("invalid timeout value `{text}' specified")))?;
    Ok(secs as u32)
}

fn mark(text: &str) -> Result<u32, Refusal> {
    let mark = number(text, 1, i64::from(u32::MAX));
    let mark = mark.ok_or_else(|| Refusal::usage(format!("invalid fwmark value `{text}' specified")))?;
    Ok(mark as u32)
}

/// A weight or threshold.
fn count(text: &str) -> Option<u32> {
    number(text, 0, i64::from(i32::MAX)).map(|count| count as u32)
}

/// A whole number as strtol reads one: blanks and a sign may stand before it, nothing behind it.
fn number(text: &str, min: i64, max: i64) -> Option<i64> {
    let text = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: i64 = is_number.then(|| text.parse().ok())??;
    (min..=max).contains(&number).then_some(number)
}

/// As atoi: the number that a text begins with.
fn leading_number(text: &str) -> Option<i64> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

/// `ADDRESS[:PORT]`, `[IPV6]:PORT` or `IPV6`; names may stand for addresses and ports. A number alone is no address.
fn endpoint(text: &str, protocol: Option<Protocol>, names: &dyn Names) -> Option<(IpAddr, Option<u16>)> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (inner, port) = rest.split_once(']')?;
        let port = port.strip_prefix(':')?;
        return match inner.parse::<Ipv6Addr>() {
            Ok(address) => Some((address.into(), Some(port_of(port, protocol, names)?))),
            // As ipvsadm: brackets are for IPv6, and the port behind other addresses goes unseen.
            Err(_) => Some((host(inner, names)?, None)),
        };
    }
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Some((address.into(), None));
    }
    match text.rsplit_once(':') {
        Some((address, port)) => Some((host(address, names)?, Some(port_of(port, protocol, names)?))),
        None => Some((host(text, names)?, None)),
    }
}

fn host(text: &str, names: &dyn Names) -> Option<IpAddr> {
    dotted(text).or_else(|| names.address(text).filter(|_| !text.is_empty())).map(IpAddr::from)
}

fn port_of(text: &str, protocol: Option<Protocol>, names: &dyn Names) -> Option<u16> {
    match number(text, 0, 65_535) {
        Some(port) => Some(port as u16),
        None => names.port(text, protocol?),
    }
}

/// An IPv4 address as inet_aton reads it: one to four numbers, the last of which fills what is left; octal with a
/// leading 0, hexadecimal with 0x.
fn dotted(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u32> = text.split('.').map(part).collect::<Option<_>>()?;
    let (last, heads) = parts.split_last()?;
    if heads.len() > 3 || heads.iter().any(|&head| head > 255) {
        return None;
    }
    let left = 32 - 8 * heads.len() as u32;
    if left < 32 && *last >> left != 0 {
        return None;
    }
    let heads = heads.iter().enumerate().map(|(place, head)| head << (24 - 8 * place));
    Some(Ipv4Addr::from_bits(heads.fold(*last, |bits, head| bits | head)))
}

fn part(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        None => (text, 10),
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_number.then(|| u32::from_str_radix(digits, radix).ok())?
}
