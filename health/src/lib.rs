//! Health of real servers.
//!
//! ```text
//!  file ──> Judge::configure ──> targets: what is checked, each once
//!                                   │ due
//!           Judge::answer <──── probe (tcp, http, ...)
//!                │
//!                ├─> events: what changed and why, for the log and for hooks
//!                └─> Overlay ──> effective(file, overlay) ──> what the data plane serves
//! ```
//!
//! [`judge`] decides. It has no socket, thread or clock: time comes in as an argument, answers come in as values, and what
//! follows is asked for, so that all of it runs on a virtual clock. [`overlay`] is what it found, and the pure function that
//! lays it over the file. [`checker`] is the thin layer around the judge that has clock and sockets; `probe` makes one check.

pub mod checker;
pub mod figures;
mod hooks;
pub mod judge;
pub mod local;
pub mod notices;
pub mod overlay;
mod probe;
pub mod scripts;
pub mod validity;
pub mod way;

pub use probe::end_all as end_programs;
