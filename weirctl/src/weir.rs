//! What weirctl asks of weir, whatever lies between them.

use std::io;

use weir_api::connections::Connection;
use weir_api::edits::{Applied, Edit, Refusal, Timeouts};
use weir_api::virtual_servers::VirtualServer;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// weir says no.
    #[error("{}", .0.text)]
    Refused(Refusal),
    /// Nobody answers, or nothing that can be understood.
    #[error("{0}")]
    Failed(String),
    /// Whoever reads what is printed has gone.
    #[error("nobody reads any more")]
    Unread,
}

impl From<io::Error> for Problem {
    /// Of stdout.
    fn from(problem: io::Error) -> Self {
        match problem.kind() {
            io::ErrorKind::BrokenPipe => Problem::Unread,
            _ => Problem::Failed(format!("what is asked for can't be printed: {problem}")),
        }
    }
}

/// Takes one connection after the other.
pub type Each<'a> = dyn FnMut(Connection<'_>) -> io::Result<()> + 'a;

/// A weir that can be asked.
pub trait Weir {
    /// Virtual and real servers. Clients tied by persistence are counted only if asked for.
    fn virtual_servers(&mut self, count_templates: bool) -> Result<Vec<VirtualServer<'static>>, Problem>;
    /// Connections, one after the other; `query` as behind the question mark of `/api/v1/connections`.
    fn connections(&mut self, query: &str, each: &mut Each<'_>) -> Result<(), Problem>;
    /// How long connections stay.
    fn timeouts(&mut self) -> Result<Timeouts, Problem>;
    /// Changes what is served: all of the edits or none.
    fn edit(&mut self, edits: Vec<Edit>) -> Result<Applied, Problem>;
}
