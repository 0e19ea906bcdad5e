//! The command line.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "these comments are what --help prints, where brackets stand for themselves"
)]

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use weir_api::connections::STATES;
use weir_api::edits::Id;

use crate::client::Door;
use crate::commands::change;
use crate::import;
use crate::usual_socket;
use crate::web::{Url, Web};
use crate::weir::Problem;

/// Where weir's file is unless one says otherwise, as for weir itself.
pub(crate) const FILE: &str = "/etc/weir/weir.toml";

/// Looks at a running weir and changes what it serves
#[derive(Debug, Parser)]
#[command(
    name = "weirctl",
    version,
    about = "Looks at a running weir and changes what it serves",
    max_term_width = 100,
    after_help = "Exit status: 0 done, 1 not done, 2 bad usage.\nLinked to the name ipvsadm it takes ipvsadm's commands instead."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where weir is asked, and how answers are printed.
#[derive(Debug, Args)]
// Behind a command's own.
#[command(next_display_order = 100)]
pub(crate) struct Common {
    /// weir's unix socket ([control] socket of its file), else $WEIR_SOCKET, else /run/weir/weir.sock
    // Not clap's `env`: usage lines would show it as if it had to be given.
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Ask the HTTP listener at this address instead, which only shows
    #[arg(long, global = true, value_name = "ADDRESS:PORT")]
    pub(crate) http: Option<SocketAddr>,
    /// Ask the HTTP listener there instead: with TLS and a token from any machine, and for changes too
    #[arg(long, global = true, value_name = "https://ADDRESS:PORT")]
    pub(crate) url: Option<Url>,
    /// With --url: a file that holds the token
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// With --url: a file of certificates in PEM to trust, else this system's
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl Common {
    /// weir's unix socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(usual_socket)
    }

    /// Where weir is asked.
    ///
    /// # Errors
    /// Options that contradict each other, or a file that is not as it has to be.
    pub(crate) fn door(&self) -> Result<Door, Problem> {
        let failed = |text: &str| Err(Problem::Failed(text.to_owned()));
        match (&self.url, self.http) {
            (Some(_), Some(_)) => failed("--url and --http name two listeners: write one"),
            (None, _) if self.token_file.is_some() || self.ca.is_some() => {
                failed("--token-file and --ca go with --url https://ADDRESS:PORT")
            }
            (Some(url), None) => {
                let web = Web::new(url.clone(), self.ca.as_deref(), self.token_file.as_deref())?;
                Ok(Door::Web(Box::new(web)))
            }
            (None, Some(address)) => Ok(Door::Http(address)),
            (None, None) => Ok(Door::Socket(self.socket())),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Whether weir works, what it serves, how full it is
    Status,
    /// Virtual servers with their real servers, connections and rates
    #[command(visible_alias = "ls")]
    List {
        /// Only the virtual server of this name
        name: Option<String>,
    },
    /// Connections, one a line
    #[command(visible_alias = "conns")]
    Connections(Connections),
    /// What was forwarded, answered and dropped since the start
    Stats {
        /// Counters that stand at 0 as well
        #[arg(long)]
        all: bool,
    },
    /// What each worker does
    Workers,
    /// Ports: links, frames, losses
    Ports,
    /// What would become of a packet, and why: asks the workers, and changes nothing
    Explain(Explain),
    /// Next hops: their MACs, who answers, what waits
    #[command(visible_alias = "neigh")]
    Neighbors(Neighbors),
    /// Frames as they come in, go out and are dropped, as a pcapng file
    Capture(Box<Capture>),
    /// The instances of VRRP
    Vrrp,
    /// Routes to VIPs that a routing daemon may pass on
    Announce,
    /// Real servers, whether they are up, and why
    Health {
        /// Only the virtual server of this name
        name: Option<String>,
    },
    /// The list again and again, busiest first
    Top {
        /// Seconds between two looks
        #[arg(short, long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
        interval: u64,
    },
    /// What changes, a line each, until interrupted: real servers, quorums, VRRP, links, the configuration
    Events {
        /// End after so many
        #[arg(long, value_name = "NUMBER")]
        count: Option<u64>,
    },
    /// Add a virtual or real server, with keys of weir's file
    Add {
        #[command(subcommand)]
        what: Add,
        /// Say what would come of it, and change nothing
        #[arg(long, global = true)]
        dry_run: bool,
    },
    /// Change keys of a virtual or real server; KEY= goes back to the default
    Set {
        #[command(subcommand)]
        what: Set,
        /// Say what would come of it, and change nothing
        #[arg(long, global = true)]
        dry_run: bool,
    },
    /// Remove a virtual server with its real servers, or a real server
    Remove {
        #[command(subcommand)]
        what: Remove,
        /// Say what would come of it, and change nothing
        #[arg(long, global = true)]
        dry_run: bool,
    },
    /// Give a real server no new connections (weight 0); those that there are go on
    Drain(Named),
    /// Give a real server a weight again
    Enable {
        #[command(flatten)]
        server: Named,
        /// Its weight, if not the one in the file
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65_535))]
        weight: Option<u32>,
        /// The file, if not the one that weir reads
        #[arg(long)]
        file: Option<PathBuf>,
    },
    /// Have weir read its file again
    Reload {
        /// Say what would change, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Make the changes of the running weir again; they are dropped otherwise
        #[arg(long)]
        keep_edits: bool,
    },
    /// Have systemd start weir again, unless its file is not accepted; says what to do where systemd does not run it
    Restart,
    /// Look for mistakes in a file, wherever it is; `weir --check` looks at this machine too
    Check {
        /// The file
        #[arg(default_value = FILE)]
        file: PathBuf,
    },
    /// Make a file of weir's of keepalived's, or of what ipvsadm -S prints
    ///
    /// The file goes to stdout, what is to be known of it to stderr. Exit status: 0 made, with remarks or without; 1 nothing can be made; 2 bad usage.
    Import {
        #[command(subcommand)]
        what: Import,
    },
    /// What keeps weir from working well on this machine, and what mends it; changes nothing
    ///
    /// A line for each check: ok, warn (weir works, not as well or not for long), or fail. With a running weir it asks that one, else it looks at the machine, weir's file and its unit. Exit status: 0 nothing fails, 1 something fails.
    Doctor {
        /// weir's file, where none runs
        #[arg(long, default_value = FILE)]
        file: PathBuf,
        /// Where /proc, /sys, /etc and the file are, for tests
        #[arg(long, hide = true, default_value = "/")]
        root: PathBuf,
    },
    /// Write the changes of the running weir into its file, which keeps its comments and its order
    Save {
        /// The file, if not the one that weir reads
        file: Option<PathBuf>,
        /// Print what the file would hold, and write nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// What the kernel's files in /proc/net would say of weir
    Proc {
        /// Which
        #[arg(value_enum, required_unless_present = "directory")]
        file: Option<ProcFile>,
        /// Keep net/ip_vs and net/ip_vs_stats in this directory until interrupted
        #[arg(long, value_name = "DIRECTORY", conflicts_with = "file")]
        directory: Option<PathBuf>,
        /// Seconds between two looks
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
        interval: u64,
    },
    /// Print what completes weirctl's commands in a shell
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print weirctl's manual page, or that of one of its commands
    Man {
        /// The command
        command: Option<String>,
        /// Write all pages into this directory instead
        #[arg(long, value_name = "DIRECTORY", conflicts_with = "command")]
        directory: Option<PathBuf>,
    },
    /// Take a command of ipvsadm's: `weirctl ipvsadm -Ln`
    #[command(disable_help_flag = true, disable_version_flag = true)]
    Ipvsadm {
        /// What ipvsadm takes
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
        arguments: Vec<String>,
    },
}

/// Names a real server.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// The virtual server: its name, tcp/ADDRESS:PORT (or udp, sctp), or mark/NUMBER
    #[arg(value_parser = change::id)]
    pub(crate) virtual_server: Id,
    /// ADDRESS[:PORT]
    #[arg(value_parser = change::server)]
    pub(crate) real_server: change::Server,
}

/// What is added.
#[derive(Debug, Subcommand)]
pub(crate) enum Add {
    /// `weirctl add virtual-server web address=192.0.2.1 port=80 scheduler=wrr`
    #[command(visible_alias = "vs")]
    VirtualServer {
        /// Its name
        name: String,
        /// Keys of [[virtual_server]]
        #[arg(value_name = "KEY=VALUE", value_parser = change::key)]
        keys: Vec<change::Key>,
    },
    /// `weirctl add real-server web 10.0.0.11:8080 forwarding=nat weight=3`
    #[command(visible_alias = "rs")]
    RealServer {
        #[command(flatten)]
        server: Named,
        /// Keys of [[virtual_server.real_server]]
        #[arg(value_name = "KEY=VALUE", value_parser = change::key)]
        keys: Vec<change::Key>,
    },
}

/// What is changed.
#[derive(Debug, Subcommand)]
pub(crate) enum Set {
    /// `weirctl set virtual-server web scheduler=wlc persistence_timeout=300`
    #[command(visible_alias = "vs")]
    VirtualServer {
        /// Its name, tcp/ADDRESS:PORT (or udp, sctp), or mark/NUMBER
        #[arg(value_parser = change::id)]
        virtual_server: Id,
        /// Keys of [[virtual_server]]
        #[arg(value_name = "KEY=VALUE", value_parser = change::key, required = true)]
        keys: Vec<change::Key>,
    },
    /// `weirctl set real-server web 10.0.0.11 weight=5`
    #[command(visible_alias = "rs")]
    RealServer {
        #[command(flatten)]
        server: Named,
        /// Keys of [[virtual_server.real_server]]
        #[arg(value_name = "KEY=VALUE", value_parser = change::key, required = true)]
        keys: Vec<change::Key>,
    },
}

/// What is removed.
#[derive(Debug, Subcommand)]
pub(crate) enum Remove {
    /// `weirctl remove virtual-server web`
    #[command(visible_alias = "vs")]
    VirtualServer {
        /// Its name, tcp/ADDRESS:PORT (or udp, sctp), or mark/NUMBER
        #[arg(value_parser = change::id)]
        virtual_server: Id,
    },
    /// `weirctl remove real-server web 10.0.0.11`
    #[command(visible_alias = "rs")]
    RealServer(Named),
}

/// What is imported.
#[derive(Debug, Subcommand)]
pub(crate) enum Import {
    /// `weirctl import keepalived /etc/keepalived/keepalived.conf --interface eth0=0000:03:00.0 > weir.toml`
    Keepalived {
        /// keepalived.conf, or - for stdin
        file: PathBuf,
        /// An interface's device, and its own addresses; may be given again
        #[arg(long = "interface", value_name = "NAME=DEVICE[,ADDRESS/LENGTH]", value_parser = import::device)]
        interfaces: Vec<import::Device>,
        /// The node whose lines behind @ are meant, as keepalived's --config-id
        #[arg(long, value_name = "NAME")]
        config_id: Option<String>,
    },
    /// `ipvsadm -S -n | weirctl import ipvsadm-save - > weir.toml`
    IpvsadmSave {
        /// What ipvsadm -S has printed, or - for stdin
        file: PathBuf,
        /// A port's device, and its own addresses; may be given again
        #[arg(long = "interface", value_name = "NAME=DEVICE[,ADDRESS/LENGTH]", value_parser = import::device)]
        interfaces: Vec<import::Device>,
    },
}

/// A file of IPVS's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProcFile {
    /// Services and servers
    #[value(name = "ip_vs")]
    Services,
    /// All counters together
    #[value(name = "ip_vs_stats")]
    Stats,
    /// Connections
    #[value(name = "ip_vs_conn")]
    Connections,
}

/// A packet.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// tcp, udp or sctp
    #[arg(value_parser = ["tcp", "udp", "sctp"])]
    pub(crate) protocol: String,
    /// From whom: ADDRESS:PORT, an IPv6 address in brackets
    pub(crate) source: SocketAddr,
    /// To whom: ADDRESS:PORT
    pub(crate) destination: SocketAddr,
    #[command(flatten)]
    pub(crate) segment: Segment,
    /// Length of the IP packet in bytes, if not the shortest
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(20..))]
    pub(crate) length: Option<u16>,
    /// The port it comes in on, if not the one that leads to its source
    #[arg(long, value_name = "NAME")]
    pub(crate) port: Option<String>,
    /// Ask this worker alone
    #[arg(long, value_name = "NUMBER")]
    pub(crate) worker: Option<usize>,
}

/// What a packet does to its connection. None: an ACK where there is one, else a SYN.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct Segment {
    /// It begins a connection (SCTP: INIT); usual where there is none
    #[arg(long)]
    pub(crate) syn: bool,
    /// It answers a SYN (INIT ACK)
    #[arg(long)]
    pub(crate) syn_ack: bool,
    /// It is one of the middle (DATA); usual where there is a connection
    #[arg(long)]
    pub(crate) ack: bool,
    /// It ends a connection (SHUTDOWN)
    #[arg(long)]
    pub(crate) fin: bool,
    /// It resets a connection (ABORT)
    #[arg(long)]
    pub(crate) rst: bool,
}

impl Explain {
    /// As behind the question mark of `/api/v1/explain`.
    pub(crate) fn query(&self) -> String {
        let Self { protocol, source, destination, .. } = self;
        let mut query = format!("protocol={protocol}&source={source}&destination={destination}");
        let Segment { syn, syn_ack, ack, fin, rst } = self.segment;
        let segments = [(syn, "syn"), (syn_ack, "syn-ack"), (ack, "ack"), (fin, "fin"), (rst, "rst")];
        if let Some((_, name)) = segments.into_iter().find(|(is_it, _)| *is_it) {
            query += &format!("&segment={name}");
        }
        if let Some(length) = self.length {
            query += &format!("&length={length}");
        }
        if let Some(port) = &self.port {
            query += &format!("&port={}", encoded(port));
        }
        if let Some(worker) = self.worker {
            query += &format!("&worker={worker}");
        }
        query
    }
}

/// Which next hops.
#[derive(Debug, Args, Default)]
pub(crate) struct Neighbors {
    /// Of the port of this name
    #[arg(long, value_name = "NAME")]
    pub(crate) port: Option<String>,
    /// This one
    #[arg(long)]
    pub(crate) address: Option<IpAddr>,
    /// In this state
    #[arg(long, value_parser = ["static", "reachable", "stale", "probing", "incomplete", "failed"])]
    pub(crate) state: Option<String>,
}

/// Which frames. Of what may be said several times one has to be right.
#[derive(Debug, Args)]
#[command(
    after_help = "Ends after --time, --size or --count, whichever comes first, and at Ctrl-C. One capture at a time.\n\
    weirctl capture --drop any -w drops.pcapng\n\
    weirctl capture --address 198.51.100.7 --l4-port 443 | tcpdump -nr -"
)]
pub(crate) struct Capture {
    /// The file; - is stdout, and so is nothing where that is no terminal
    #[arg(short, long, value_name = "FILE")]
    pub(crate) write: Option<PathBuf>,
    /// Write over a file that exists
    #[arg(long)]
    pub(crate) force: bool,
    /// Frames as they come in. Without --in, --out and --drop: all
    #[arg(long = "in")]
    pub(crate) incoming: bool,
    /// Frames as they go out, after they were rewritten
    #[arg(long = "out")]
    pub(crate) outgoing: bool,
    /// Frames that are dropped for this reason, such as no_route, or for any
    #[arg(long, value_name = "REASON", value_delimiter = ',')]
    pub(crate) drop: Vec<String>,
    /// At the port of this name
    #[arg(long, value_name = "NAME")]
    pub(crate) port: Option<String>,
    /// tcp, udp, icmp, arp and so on, or a number of IP
    #[arg(long, value_name = "PROTOCOL", value_delimiter = ',')]
    pub(crate) protocol: Vec<String>,
    /// From or to this address or network, in a tunnel and in what an ICMP error quotes as well
    #[arg(long, value_name = "ADDRESS[/LENGTH]", value_delimiter = ',')]
    pub(crate) address: Vec<String>,
    /// From or to this port of TCP, UDP or SCTP
    #[arg(long, value_name = "NUMBER", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) l4_port: Vec<u16>,
    /// Bytes of each frame, up to 16384
    #[arg(short, long, value_name = "BYTES", default_value_t = 256, value_parser = clap::value_parser!(u32).range(14..=16_384))]
    pub(crate) snaplen: u32,
    /// End after so many frames
    #[arg(short, long, value_name = "FRAMES", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// End when the file has so many MiB
    #[arg(long, value_name = "MIB", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub(crate) size: u64,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) time: u64,
    /// End the capture that is on, whoever began it
    #[arg(long)]
    pub(crate) stop: bool,
}

/// Which connections.
#[derive(Debug, Args, Default)]
pub(crate) struct Connections {
    /// Of the virtual server of this name
    #[arg(long, value_name = "NAME")]
    pub(crate) virtual_server: Option<String>,
    /// tcp, udp or sctp
    #[arg(long, value_parser = ["tcp", "udp", "sctp"])]
    pub(crate) protocol: Option<String>,
    /// Of this client
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub(crate) client: Option<String>,
    /// To this address
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub(crate) address: Option<String>,
    /// To this real server
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub(crate) real_server: Option<String>,
    /// In this state, such as ESTABLISHED
    #[arg(long, value_name = "STATE", value_parser = PossibleValuesParser::new(STATES), ignore_case = true)]
    pub(crate) state: Option<String>,
    /// So many at most
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// What persistence remembers of clients as well
    #[arg(long)]
    pub(crate) templates: bool,
    /// Only how many there are, by state
    #[arg(long, conflicts_with = "limit")]
    pub(crate) count: bool,
}

impl Connections {
    /// As behind the question mark of `/api/v1/connections`, each key with a `&` before it.
    pub(crate) fn query(&self) -> String {
        let keys = [
            ("virtual_server", &self.virtual_server),
            ("protocol", &self.protocol),
            ("client", &self.client),
            ("address", &self.address),
            ("real_server", &self.real_server),
            ("state", &self.state),
        ];
        let given = keys.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
        let mut query: String = given.map(|(key, value)| format!("&{key}={}", encoded(value))).collect();
        if let Some(limit) = self.limit {
            query += &format!("&limit={limit}");
        }
        if self.templates {
            query += "&templates=yes";
        }
        query
    }
}

/// A value of a query, with every octet encoded that means something there.
pub(crate) fn encoded(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte);
    value
        .bytes()
        .map(|it| if plain(it) { char::from(it).to_string() } else { format!("%{it:02X}") })
        .collect()
}
