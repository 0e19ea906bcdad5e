//! Health of real servers: what is checked, and what follows from it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::RealServer;

/// `[health]`: what all health checks have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The user that `exec` checks and hooks run as, where weir itself is root. A name or a number.
    pub script_user: String,
    /// The group of the same.
    pub script_group: String,
    /// The numbers of both, once they were looked up.
    pub account: Option<Account>,
    /// Checks under way at a time, at most: 1 to 65,536.
    pub concurrent_max: u32,
}

/// A user and a group of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// Its number, not 0.
    pub user: u32,
    /// Its number, not 0.
    pub group: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            script_user: "nobody".to_owned(),
            script_group: "nogroup".to_owned(),
            account: None,
            concurrent_max: 16_384,
        }
    }
}

/// One check of one real server: how it is tried, how often, and how many answers make a verdict.
///
/// Two that are equal are one check if they go to the same address, however many virtual servers have them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HealthCheck {
    /// What is tried.
    pub probe: Probe,
    /// Goes to the VIP by the way of clients' packets, `dr` or `tun`, and has none of the three below.
    pub via_forwarding: bool,
    /// Goes here instead of to the real server's address.
    pub address: Option<IpAddr>,
    /// Goes here instead of to the real server's port. There wherever the probe needs a port and the real server has
    /// none of its own.
    pub port: Option<u16>,
    /// Comes from this address of the host.
    pub source: Option<IpAddr>,
    /// From the start of one check to the start of the next, while the verdict stands.
    pub interval: Duration,
    /// The same, while answers contradict the verdict.
    pub retry_interval: Duration,
    /// Thousandths of an interval that chance may take off it: 0 to 500. It never becomes longer.
    pub jitter_permille: u16,
    /// The first check comes at a random moment within this time.
    pub warmup: Duration,
    /// How long its stages may take.
    pub timeouts: Timeouts,
    /// Failures in a row that take a server out: at least 1.
    pub fall: u32,
    /// Successes in a row that bring it back: at least 1.
    pub rise: u32,
}

/// How long a check may take. Each stage is within the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timeouts {
    /// Until the connection stands.
    pub connect: Duration,
    /// Until the TLS handshake is done, from when the connection stood.
    pub tls: Duration,
    /// Until the answer is there, from when the request was sent.
    pub response: Duration,
    /// All of it.
    pub whole: Duration,
}

/// `type` of a health check, with the options of that type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Probe {
    /// A connection is made; if asked for, text goes over it both ways.
    Tcp(Exchange),
    /// A request is answered as expected.
    Http(Box<HttpProbe>),
    /// The same over TLS.
    Https(Box<HttpProbe>, TlsOptions),
    /// A datagram is sent: answered as expected, or at least not refused.
    Udp {
        /// What is sent, and what the answer must hold.
        exchange: Exchange,
        /// No answer is a failure. Always so if an answer is expected.
        require_reply: bool,
    },
    /// A question gets an answer with code 0.
    Dns {
        /// The name asked for, without a dot at its end; empty: the root.
        query: String,
        /// The kind of record asked for.
        record: DnsRecord,
    },
    /// A mail server greets with 220 and answers EHLO with 250.
    Smtp {
        /// The name in EHLO.
        helo: String,
    },
    /// An ICMP echo request is answered.
    Ping,
    /// A program ends with status 0.
    Exec {
        /// The program, by its absolute path, and its arguments. No shell is involved.
        command: Vec<String>,
        /// Status 2 to 255 is success too and says the weight: status - 2.
        dynamic_weight: bool,
    },
}

impl Probe {
    /// The name as the file writes it.
    pub fn name(&self) -> &'static str {
        match self {
            Probe::Tcp(_) => "tcp",
            Probe::Http(_) => "http",
            Probe::Https(..) => "https",
            Probe::Udp { .. } => "udp",
            Probe::Dns { .. } => "dns",
            Probe::Smtp { .. } => "smtp",
            Probe::Ping => "ping",
            Probe::Exec { .. } => "exec",
        }
    }

    /// Whether it goes to a port.
    pub fn needs_port(&self) -> bool {
        !matches!(self, Probe::Ping | Probe::Exec { .. })
    }
}

/// What is sent, and what must come back.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Exchange {
    /// Bytes to send; empty: none.
    pub send: Vec<u8>,
    /// What the answer must be like; `None`: anything, or nothing.
    pub expect: Option<Expected>,
}

/// What an answer must be like.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Expected {
    /// These bytes stand somewhere in it.
    Contains(Vec<u8>),
    /// It begins with these; `None` stands for any byte.
    Begins(Vec<Option<u8>>),
}

/// HTTP requests and what their answers must be like.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HttpProbe {
    /// Of all requests.
    pub method: HttpMethod,
    /// The `Host` header; `None`: address and port of what is checked.
    pub host: Option<String>,
    /// Header fields of the requests, names in lower case; credentials among them.
    pub fields: Vec<(String, String)>,
    /// What a POST sends.
    pub body: Vec<u8>,
    /// One after the other, each on a connection of its own; at least one.
    pub pages: Vec<Page>,
    /// Bytes of an answer's body that are looked at: 1 to 16 MiB.
    pub body_limit: u32,
}

/// What is asked for, and what must come.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Page {
    /// Path and query, beginning with a slash.
    pub path: String,
    /// Accepted status codes, as ranges from and to.
    pub status: Vec<(u16, u16)>,
    /// Header fields of the answer: name in lower case, and what the value must be like.
    pub headers: Vec<(String, TextMatch)>,
    /// What the body must be like, all of them.
    pub body: Vec<TextMatch>,
    /// Digests of the whole body, all of them.
    pub body_digests: Vec<BodyDigest>,
}

/// What the whole body comes to. It tells whether a page is the one it was, and is no protection against whoever serves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BodyDigest {
    /// FIPS 180-4.
    Sha256([u8; 32]),
    /// RFC 1321, as keepalived's files hold it.
    Md5([u8; 16]),
}

/// HTTP methods of checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum HttpMethod {
    Get,
    Head,
    Options,
    Post,
}

/// What a text must be like.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TextMatch {
    /// It holds this.
    Contains(String),
    /// This regular expression, which compiles, matches somewhere in it.
    Regex(String),
}

/// TLS of an `https` check.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct TlsOptions {
    /// The certificate must be valid for the name, by [`TlsOptions::ca`] or the system's authorities.
    pub verify: bool,
    /// A file of certificates in PEM that are trusted, instead of the system's.
    pub ca: Option<PathBuf>,
    /// SHA-256 of the certificates that the server may show; empty: any.
    pub pins: Vec<[u8; 32]>,
    /// Shown to servers that ask for one.
    pub identity: Option<TlsIdentity>,
    /// The name in SNI and of the certificate. `None`: that of `host` if it is a name, else the address, without SNI.
    pub server_name: Option<String>,
}

/// Who weir is to a server: files in PEM.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TlsIdentity {
    /// The certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Kinds of records that a `dns` check asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum DnsRecord {
    A,
    Ns,
    Cname,
    Soa,
    Mx,
    Txt,
    Aaaa,
}

impl DnsRecord {
    /// Its number (RFC 1035 section 3.2.2, RFC 3596).
    pub fn number(self) -> u16 {
        match self {
            DnsRecord::A => 1,
            DnsRecord::Ns => 2,
            DnsRecord::Cname => 5,
            DnsRecord::Soa => 6,
            DnsRecord::Mx => 15,
            DnsRecord::Txt => 16,
            DnsRecord::Aaaa => 28,
        }
    }
}

/// What becomes of a real server that is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnFail {
    /// It leaves the list, as if it were not in the file.
    #[default]
    Remove,
    /// It stays with weight 0: no new connections, those there are go on.
    Quiesce,
}

/// `[virtual_server.agent]`: a port of each real server where a program tells its weight.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Agent {
    /// TCP port.
    pub port: u16,
    /// Goes here instead of to the real server's address.
    pub address: Option<IpAddr>,
    /// Sent when the connection stands; may be empty.
    pub send: Vec<u8>,
    /// From one question to the next.
    pub interval: Duration,
    /// For connection and answer together.
    pub timeout: Duration,
}

/// Health of a virtual server as a whole.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ServiceHealth {
    /// Real servers are down until their first success, instead of up until they have failed.
    pub alpha: bool,
    /// When weir stops, hooks are told that all is down.
    pub omega: bool,
    /// The least sum of the weights of those that are up.
    pub quorum: Quorum,
    /// Serves while the quorum is lost.
    pub sorry_server: Option<RealServer>,
    /// What becomes of the other real servers then.
    pub sorry_mode: SorryMode,
    /// Programs that are told of changes.
    pub hooks: Hooks,
    /// Real servers are judged by their answers to clients, too.
    pub passive: Option<Passive>,
}

/// The least sum of weights that a virtual server needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quorum {
    /// At least 1.
    pub weight: u32,
    /// Less than `weight`. It is gained at `weight + hysteresis` and lost below `weight - hysteresis`.
    pub hysteresis: u32,
}

impl Default for Quorum {
    fn default() -> Self {
        Self { weight: 1, hysteresis: 0 }
    }
}

/// What becomes of real servers that are up while the sorry server serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SorryMode {
    /// They get no new connections.
    #[default]
    Replace,
    /// They go on beside it.
    Add,
}

/// Programs that are told of changes: each an absolute path and arguments, run without a shell. Empty: none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hooks {
    /// A real server came up.
    pub up: Arc<[String]>,
    /// A real server went down.
    pub down: Arc<[String]>,
    /// The quorum was gained.
    pub quorum_up: Arc<[String]>,
    /// The quorum was lost.
    pub quorum_down: Arc<[String]>,
}

/// `notify_up` and `notify_down` of one real server; one that is empty is the virtual server's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerHooks {
    /// It came up.
    pub up: Arc<[String]>,
    /// It went down.
    pub down: Arc<[String]>,
}

/// `[virtual_server.passive]`: ejects real servers that leave clients' connections unanswered. NAT only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passive {
    /// Time over which connections are counted.
    pub window: Duration,
    /// Connections in the window without which nothing is judged: at least 1.
    pub connections_min: u32,
    /// Share of them, in percent, that must fail: 1 to 100.
    pub failures_percent: u8,
    /// How long a server is out the first time; twice as long each further time.
    pub ejection: Duration,
    /// How long it is out at most.
    pub ejection_max: Duration,
    /// Share of the virtual server's real servers, in percent, that may be out for this at a time: 0 to 100.
    pub ejected_percent_max: u8,
}
