//! Ways to real servers that take more than their address: to the VIP, by direct routing or through the tunnel, as clients'
//! packets go. Who has the ports of the director knows them; checks ask for one and give it back.

use std::any::Any;
use std::net::SocketAddr;

use crate::judge::target::Through;

/// A way to one real server, until it is dropped.
pub struct Way {
    /// What the check's socket is bound to.
    pub source: SocketAddr,
    /// Keeps the way.
    pub hold: Box<dyn Any + Send>,
}

/// Who knows the ways.
pub trait Ways: Send + Sync {
    /// A way to the real server behind the virtual server `at`.
    ///
    /// # Errors
    /// Why there is none, in words.
    fn reserve(&self, at: SocketAddr, through: Through) -> Result<Way, String>;
}

/// Knows none.
pub struct NoWay;

impl Ways for NoWay {
    fn reserve(&self, _: SocketAddr, _: Through) -> Result<Way, String> {
        Err("weir has no way for checks by the forwarding method here".to_owned())
    }
}
