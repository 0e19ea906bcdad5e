//! The instances of another configuration, in two steps: [`VrrpControl::prepare`] asks whether VRRP's thread takes any, and
//! [`VrrpControl::commit`] gives it those.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use tracing::{info, warn};
use weir_config::model::{Config, MacAddress};
use weir_vrrp::settings::Mac;

use super::orders::{Instances, Orders, VrrpRefusal};
use super::port_end::PortEnd;
use super::settings::{self, Numbers};

/// See the module.
pub(crate) struct VrrpControl {
    ports: Arc<[PortEnd]>,
    orders: Orders,
    /// By port number: the virtual MACs that it receives.
    received: HashMap<usize, Vec<Mac>>,
}

/// Instances that VRRP's thread is going to take.
#[must_use]
pub(crate) struct Prepared(Instances);

impl VrrpControl {
    pub(super) fn new(ports: Arc<[PortEnd]>, orders: Orders) -> Self {
        Self { ports, orders, received: HashMap::new() }
    }

    /// The instances of `next`, with `numbers` that were kept of those that are new. `None`: there are none, and `former` had
    /// none. Changes nothing.
    ///
    /// # Errors
    /// The thread takes none now.
    pub(crate) fn prepare(
        &self,
        former: &Config,
        next: &Config,
        numbers: &Numbers,
    ) -> Result<Option<Prepared>, VrrpRefusal> {
        if former.vrrp.is_empty() && next.vrrp.is_empty() {
            return Ok(None);
        }
        self.orders.are_taken(Instant::now())?;
        Ok(Some(self.setups(next, numbers)))
    }

    pub(super) fn setups(&self, config: &Config, numbers: &Numbers) -> Prepared {
        let macs: Vec<MacAddress> = self.ports.iter().map(|port| port.mac).collect();
        Prepared(settings::instances(config, &macs, numbers))
    }

    /// Has the thread run these instances, and the ports receive what is sent to them. Can't fail: a port that does not take a
    /// virtual MAC is logged, as at the start.
    pub(crate) fn commit(&mut self, Prepared(instances): Prepared) {
        instances.setups.iter().for_each(|setup| self.receive(setup.settings.port, setup.settings.mac));
        self.orders.set_up(instances);
    }

    /// Has a port receive an Ethernet address.
    fn receive(&mut self, port: usize, mac: Mac) {
        let PortEnd { name, mac: own, receive, .. } = &self.ports[port];
        let received = self.received.entry(port).or_default();
        if own.0 == mac || received.contains(&mac) {
            return;
        }
        received.push(mac);
        let outcome = receive(mac);
        let mac = dpdk::MacAddress(mac);
        match outcome {
            Ok(false) => {}
            Ok(true) => {
                info!(port = name, %mac, "the device has no filter for the virtual MAC: it receives everything")
            }
            Err(problem) => warn!(
                port = name, %mac,
                "the virtual MAC can't be received, write `virtual_mac = false`: {problem}"
            ),
        }
    }
}
