//! Why a configuration can't become a snapshot.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use weir_config::model::Mark;

use super::served::NotServed;
use crate::sched::BuildError;

/// Why a configuration can't become a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// More virtual servers, with those whose connections still linger, than there are numbers.
    #[error("more than 65,535 virtual servers")]
    TooManyServices,
    /// More real servers, with those whose connections still linger, than there are numbers.
    #[error("more than 1,048,575 real servers in all")]
    TooManyServers,
    /// More addresses that clients talk to, with those whose connections still linger, than there are numbers.
    #[error("more than {} addresses of virtual servers and of networks of marks", Mark::VIPS_MAX)]
    TooManyVips,
    /// The scheduler of a virtual server.
    #[error("virtual server {name}: {source}")]
    Scheduler {
        /// The virtual server's name.
        name: String,
        /// What the scheduler says.
        source: BuildError,
    },
    /// A virtual server that workers can't serve as the file has it.
    #[error("virtual server {name}{}: {what}", of_server(.server))]
    NotServed {
        /// The virtual server's name.
        name: String,
        /// The real server, or sorry server, that it is about, if it is about one alone.
        server: Option<SocketAddr>,
        /// What the file asks for.
        what: NotServed,
    },
    /// A route from one family into the other.
    #[error(
        "route to {destination}: its gateway {gateway} is of another address family; write one of the same"
    )]
    Route {
        /// Where packets go.
        destination: IpNet,
        /// By whom.
        gateway: IpAddr,
    },
}

fn of_server(server: &Option<SocketAddr>) -> String {
    server.map_or_else(String::new, |server| format!(", real server {server}"))
}
