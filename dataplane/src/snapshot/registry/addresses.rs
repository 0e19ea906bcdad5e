//! The addresses of virtual servers: how many virtual servers each has, its number, who is told of it. Kept from one snapshot to the
//! next, so that a virtual server that comes or goes alone costs what it costs.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use weir_config::model::{Config, Identity};

use super::RegistryError;
use super::parts::vips;
use crate::address::Addr4;
use crate::conn::record::VipId;
use crate::snapshot::addressing::{bits, ports_of_vip};
use crate::snapshot::ipv6::Numbers6;
use crate::snapshot::marks::shares_numbers;
use crate::snapshot::vips::{FORMER_MAX, Numbering, Vips};
use crate::snapshot::{Local, Port, PortSet, Snapshot};

/// Places of VIPs that have gone, beyond as many as there are VIPs. Then those that are there are announced once more, in a list of their
/// own.
const GONE_MAX: usize = 1_024;

/// See the module.
#[derive(Default)]
pub(super) struct Addresses {
    numbering: Numbering,
    /// Virtual servers of each address, marks aside.
    uses: HashMap<Addr4, u32>,
    /// Addresses that the next snapshots can take in as they are.
    room: usize,
    announcements: Announcements,
}

/// VIPs to be announced.
#[derive(Default)]
pub(super) struct Announcements {
    /// See [`Snapshot::announcements`].
    pub(super) list: Arc<[(usize, Addr4)]>,
    /// See [`Snapshot::announcements_first`].
    pub(super) first: u64,
    /// The next whole snapshot has all of them once more.
    anew: bool,
    /// What has gone and come since the list was made; an address is in one of them at most.
    gone: HashSet<Addr4>,
    come: Vec<(usize, Addr4)>,
}

impl Announcements {
    /// These and no others, in place of all that there were.
    fn replace(&mut self, list: Vec<(usize, Addr4)>) {
        // An empty list, too, is told from the same one once more.
        self.first += (self.list.len() as u64).max(self.anew.into());
        (self.list, self.anew) = (list.into(), false);
    }

    /// Those that are there.
    fn present(&self) -> impl Iterator<Item = (usize, Addr4)> {
        self.list.iter().copied().filter(|(port, _)| *port != Snapshot::NOT_ANNOUNCED)
    }

    fn are(&self, sorted: &[(usize, Addr4)]) -> bool {
        let mut list: Vec<_> = self.present().collect();
        list.sort_unstable();
        list == sorted
    }

    /// Brings the list up to date, once for however many there are. Who comes stands behind those that are there, so that a worker goes
    /// on with those where it is.
    fn settle(&mut self) {
        if self.gone.is_empty() && self.come.is_empty() {
            return;
        }
        let stays = |(port, vip): (usize, Addr4)| match self.gone.contains(&vip) {
            true => (Snapshot::NOT_ANNOUNCED, vip),
            false => (port, vip),
        };
        self.list = self.list.iter().copied().map(stays).chain(self.come.drain(..)).collect();
        self.gone.clear();
        let present = self.present().count();
        if self.list.len() - present > present.max(GONE_MAX) {
            let present = self.present().collect();
            self.replace(present);
        }
    }
}

impl Addresses {
    /// Begins with these numbers.
    pub(super) fn resume(&mut self, vips: impl Iterator<Item = (Addr4, VipId)>) {
        self.numbering = Numbering::resume(vips);
    }

    /// Those of a whole configuration.
    pub(super) fn renumber(
        &mut self,
        (config, numbers6): (&Config, &Numbers6),
        generation: u64,
        swept: u64,
    ) -> Result<(), RegistryError> {
        let vips: HashSet<_> = vips(config).into_iter().filter_map(|vip| numbers6.of(vip)).collect();
        let shares = shares_numbers(config);
        let mut with_former = vips.clone();
        let former =
            self.numbering.known(swept).filter(|vip| !vips.contains(vip) && shares(numbers6.ip(*vip)));
        let former: Vec<_> = former.take(FORMER_MAX + 1).collect();
        // Those that come and go for years are not all kept: numbers that records name are free after a round of the sweep at the earliest.
        if former.len() <= FORMER_MAX {
            with_former.extend(former);
        }
        // There may be room for those that need one alone.
        let next = self.numbering.next(&with_former, generation, swept);
        self.numbering = next.or_else(|_| self.numbering.next(&vips, generation, swept))?;
        self.uses.clear();
        // One of IPv6 comes and goes with a whole snapshot.
        let plain = config.virtual_servers.iter().filter(|server| server.mark.is_none());
        for vip in plain.filter_map(|server| Addr4::of(server.address)) {
            *self.uses.entry(vip).or_default() += 1;
        }
        Ok(())
    }

    /// A whole snapshot was made, with these announcements and with room for so many addresses more.
    pub(super) fn assembled(&mut self, announcements: Vec<(usize, Addr4)>, room: usize) {
        self.announcements.settle();
        if !self.announcements.are(&announcements) || self.announcements.anew {
            self.announcements.replace(announcements);
        }
        self.room = room;
    }

    /// The next whole snapshot has all VIPs announced, though they are the same as before.
    pub(super) fn announce(&mut self) {
        self.announcements.anew = true;
    }

    /// What is to be announced.
    pub(super) fn announcements(&self) -> &Announcements {
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
    pub(super) fn comes(&mut self, vip: Addr4, base: &Snapshot) {
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
        let ports = ports_of_vip(&base.ports, vip.into());
        if ports & !own_ports(&base.ports, vip) == 0 {
            return;
        }
        if self.announcements.gone.contains(&vip) {
            self.announcements.settle();
        }
        self.announcements.come.extend(bits(ports).map(|port| (port, vip)));
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
        if self.announcements.come.iter().any(|(_, announced)| *announced == vip) {
            self.announcements.settle();
        }
        self.announcements.gone.insert(vip);
    }

    /// Brings a snapshot up to date that is behind by these virtual servers, none of which is a mark's.
    pub(super) fn bring_up_to_date(&mut self, base: &mut Snapshot, behind: &HashSet<Identity>) {
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
        self.announcements.settle();
        base.announcements.clone_from(&self.announcements.list);
        base.announcements_first = self.announcements.first;
    }

    /// What an address is, virtual routers aside.
    fn local(&self, base: &Snapshot, vip: Addr4) -> Option<Local> {
        let mut local = Local { arp_ports: own_ports(&base.ports, vip), ..Local::default() };
        if self.uses.contains_key(&vip) && !base.virtual_routers.has_address(vip) {
            local.arp_ports |= ports_of_vip(&base.ports, vip.into());
            local.is_vip = true;
        }
        (local != Local::default()).then_some(local)
    }
}

/// The ports that have an address of their own, as bits.
fn own_ports(ports: &[Port], address: Addr4) -> PortSet {
    let holders = ports.iter().enumerate().filter(|(_, port)| port.has_address(address));
    holders.fold(0, |set, (number, _)| set | 1 << number)
}
