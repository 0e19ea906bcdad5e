//! Open files that outlive the process that opened them.
//!
//! weir gives its memory files to `weir-keeper` and asks for them when it starts again. They talk over a socket of packets: a
//! request is a word and a name, with files beside it where there are any, and an answer is a word, with files or a sentence.
//!
//! ```text
//!  keep NAME  with files   ->  ok
//!  take NAME               ->  ok with files, or none
//!  drop NAME               ->  ok, or none
//! ```
//! Both sides look at the other's user before they believe anything: it has to be their own, or root.

mod client;
mod server;
mod teller;
mod wire;

pub use client::Keeper;
pub use server::{Shelf, listen, serve};
pub use teller::Teller;

/// Where the keeper listens unless it is told otherwise.
pub const SOCKET: &str = "/run/weir/keeper.sock";
