//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::SOCKET;

/// Looks at a running weir and changes what it serves
#[derive(Debug, Parser)]
#[command(
    name = "weirctl",
    version,
    about,
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
pub(crate) struct Common {
    /// weir's unix socket ([control] socket of its file)
    #[arg(long, global = true, value_name = "PATH", env = "WEIR_SOCKET", default_value = SOCKET)]
    pub(crate) socket: PathBuf,
    /// Ask the HTTP listener at this address instead, which only shows
    #[arg(long, global = true, value_name = "ADDRESS:PORT")]
    pub(crate) http: Option<SocketAddr>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
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
    /// The instances of VRRP
    Vrrp,
    /// Real servers, whether they are up, and why
    Health {
        /// Only the virtual server of this name
        name: Option<String>,
    },
    /// Take a command of ipvsadm's: `weirctl ipvsadm -Ln`
    #[command(disable_help_flag = true, disable_version_flag = true)]
    Ipvsadm {
        /// What ipvsadm takes
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
        arguments: Vec<String>,
    },
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
    #[arg(long, value_name = "STATE")]
    pub(crate) state: Option<String>,
    /// So many at most
    #[arg(long, value_name = "NUMBER")]
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
