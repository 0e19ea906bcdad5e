//! What instances of VRRP may name.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::super::fault::Fault;
use super::super::ports::ReadPort;
use super::super::table::{peek, peeked};
use crate::model::VrrpScript;
use crate::report::quoted;
use crate::schema::{self, Span};
use crate::suggest::nearest;

/// Names that are looked through in all for what somebody meant who wrote another: a file may have a hundred thousand, and as many slips.
const MEANT_MAX: usize = 1_000_000;

/// All but ports.
#[derive(Default)]
pub(super) struct Known {
    pub(super) servers: Servers,
    /// Tracked scripts by name.
    pub(super) scripts: HashMap<String, (Span, Arc<VrrpScript>)>,
}

impl Known {
    /// In this file.
    pub(super) fn new(file: &schema::File) -> Self {
        let names = peeked(&file.virtual_server).filter_map(|(server, _)| peek(&server.name));
        let servers = Servers { names: names.map(|(name, _)| name.0.clone()).collect(), looked_through: 0 };
        Self { servers, scripts: HashMap::new() }
    }
}

/// Names of virtual servers.
#[derive(Default)]
pub(super) struct Servers {
    /// In an order, so that advice is the same each time.
    names: BTreeSet<String>,
    looked_through: usize,
}

impl Servers {
    pub(super) fn named(&mut self, text: &str) -> Result<String, Fault> {
        if self.names.contains(text) {
            return Ok(text.to_owned());
        }
        let fault = Fault::new(
            format!("unknown virtual server {}", quoted(text)),
            "no [[virtual_server]] has this name",
        );
        self.looked_through = self.looked_through.saturating_add(self.names.len());
        if self.looked_through > MEANT_MAX {
            return Err(fault);
        }
        Err(match nearest(text, self.names.iter().map(String::as_str)) {
            Some(meant) => fault.help(format!("did you mean \"{meant}\"?")),
            None => fault,
        })
    }
}

/// The place of a port.
pub(super) fn port_index(text: &str, ports: &[ReadPort]) -> Result<usize, Fault> {
    if let Some(index) = ports.iter().position(|port| port.name.as_deref() == Some(text)) {
        return Ok(index);
    }
    let names = || ports.iter().filter_map(|port| port.name.as_deref());
    let fault = Fault::new(format!("unknown port {}", quoted(text)), "no [[port]] has this name");
    Err(match nearest(text, names()) {
        Some(meant) => fault.help(format!("did you mean \"{meant}\"?")),
        None => fault.help(format!("ports of this file: {}", names().collect::<Vec<_>>().join(", "))),
    })
}
