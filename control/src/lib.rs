//! weir's control: start and stop, reload, HTTP, and the threads beside the workers. The program `weir` is [`weir`] and its arguments.

mod apply;
mod carrier;
mod cli;
mod control;
mod early;
mod flags;
mod health;
mod host;
mod http;
mod lasting;
mod lifecycle;
mod links;
mod log;
mod longest;
mod memory;
mod metrics;
mod nodes;
mod ports;
mod publish;
mod random;
mod rates;
mod reload;
mod reload_status;
mod restart;
mod routes;
mod signals;
mod sources;
mod spawn;
mod spread;
mod standing;
mod start;
mod supervisor;
mod threads;
mod vrrp;

pub use start::weir;
