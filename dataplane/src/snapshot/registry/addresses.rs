//! The addresses of virtual servers: how many virtual servers each has, its number, who is told of it. Kept from one snapshot to the
//! next, so that a virtual server that comes or goes alone costs what it costs.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use weir_config::model::{Config, Identity};

use super::RegistryError;
use super::parts::vips;
use crate::address::Addr4;
use crate::snapshot::addressing::{bits, ports_of_vip};
use crate::snapshot::vips::{Numbering, Vips};
use crate::snapshot::{Local, Port, Snapshot};

/// VIPs that are announced once more beside a new one; where there are more, the new one is announced alone.
const ANNOUNCED_AGAIN_MAX: usize = 256;

/// See the module.
#[derive(Default)]
pub(super) struct Addresses {
    numbering: Numbering,
    /// Virtual servers of each address, marks aside.
    uses: HashMap<Addr4, u32>,
    /// Addresses that the next snapshots can take in as they are.
    room: usize,
    /// VIPs to be announced, and the generation that brought them.
    announcements: (Arc<[(usize, Addr4)]>, u64),
}

impl Addresses {
    /// Those of a whole configuration.
    pub(super) fn renumber(
        &mut self,
        config: &Config,
        generation: u64,
        swept: u64,
    ) -> Result<(), RegistryError> {
        self.numbering = self.numbering.next(&vips(config), generation, swept)?;
        self.uses.clear();
        let plain = config.virtual_servers.iter().filter(|server| server.mark.is_none());
        for vip in plain.filter_map(|server| Addr4::of(server.address)) {
            *self.uses.entry(vip).or_default() += 1;
        }
        Ok(())
    }

    /// A whole snapshot was made, with these announcements and with room for so many addresses more.
    pub(super) fn assembled(&mut self, announcements: Vec<(usize, Addr4)>, generation: u64, room: usize) {
        if self.announcements.0[..] != announcements[..] || self.announcements.1 == 0 {
            self.announcements = (announcements.into(), generation);
        }
        self.room = room;
    }

    /// The next whole snapshot has all VIPs announced, though they are the same as before.
    pub(super) fn announce(&mut self) {
        self.announcements.1 = 0;
    }

    /// What is to be announced, and since which generation.
    pub(super) fn announcements(&self) -> &(Arc<[(usize, Addr4)]>, u64) {
        &self.announcements
    }

    /// For packets.
    pub(super) fn vips(&self) -> Vips {
        self.numbering.vips()
    }

    /// Whether so many virtual servers can come without a whole snapshot.
    pub(super) fn have_room(&self, count: usize) -> bool {
        self.room >= count && self.numbering.has_room(count)
    }

    /// A virtual server has come to an address.
    pub(super) fn comes(&mut self, vip: Addr4, base: &Snapshot, generation: u64) {
        let uses = self.uses.entry(vip).or_default();
        *uses += 1;
        if *uses > 1 {
            return;
        }
        self.numbering.add(vip);
        self.room = self.room.saturating_sub(1);
        if base.virtual_routers.has_address(vip) {
            return;
        }
        let ports = ports_of_vip(&base.ports, vip);
        if ports & !own_ports(&base.ports, vip) == 0 {
            return;
        }
        let is_few = self.announcements.0.len() <= ANNOUNCED_AGAIN_MAX;
        let mut list = if is_few { self.announcements.0.to_vec() } else { Vec::new() };
        list.extend(bits(ports).map(|port| (port, vip)));
        list.sort_unstable();
        list.dedup();
        self.announcements = (list.into(), generation);
    }

    /// A virtual server has left an address.
    pub(super) fn goes(&mut self, vip: Addr4, generation: u64) {
        let Some(uses) = self.uses.get_mut(&vip) else { return };
        *uses -= 1;
        if *uses > 0 {
            return;
        }
        self.uses.remove(&vip);
        self.numbering.leave(vip, generation);
        if self.announcements.0.iter().any(|(_, announced)| *announced == vip) {
            let list = self.announcements.0.iter().filter(|(_, announced)| *announced != vip);
            self.announcements.0 = list.copied().collect();
        }
    }

    /// Brings a snapshot up to date that is behind by these virtual servers, none of which is a mark's.
    pub(super) fn bring_up_to_date(&self, base: &mut Snapshot, behind: &HashSet<Identity>) {
        let address = |key: &Identity| match key {
            Identity::Address { address, .. } => Addr4::of(*address),
            Identity::Mark { .. } => None,
        };
        for vip in behind.iter().filter_map(address) {
            let number = self.numbering.number(vip);
            if base.vips.own_number(vip) != number {
                base.vips.set(vip, number);
            }
            let local = self.local(base, vip);
            if base.locals.get(&vip).copied() != local {
                let locals = Arc::make_mut(&mut base.locals);
                match local {
                    Some(local) => _ = locals.insert(vip, local),
                    None => _ = locals.remove(&vip),
                }
            }
            if !base.familiar.may_hold(vip) {
                base.familiar.add(vip);
            }
        }
        base.vips.set_left(self.numbering.has_left());
        (base.announcements, base.announcements_generation) = self.announcements.clone();
    }

    /// What an address is, virtual routers aside.
    fn local(&self, base: &Snapshot, vip: Addr4) -> Option<Local> {
        let mut local = Local { arp_ports: own_ports(&base.ports, vip), ..Local::default() };
        if self.uses.contains_key(&vip) && !base.virtual_routers.has_address(vip) {
            local.arp_ports |= ports_of_vip(&base.ports, vip);
            local.is_vip = true;
        }
        (local != Local::default()).then_some(local)
    }
}

/// The ports that have an address of their own, as bits.
fn own_ports(ports: &[Port], address: Addr4) -> u64 {
    let holders = ports.iter().enumerate().filter(|(_, port)| port.has_address(address));
    holders.fold(0, |set, (number, _)| set | 1 << number)
}
