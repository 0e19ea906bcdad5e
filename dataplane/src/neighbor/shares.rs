//! What next hops are to the cache, and how much of it each kind may have.
//!
//! *Named* ones are those of the file: real servers, gateways, static neighbours. They find room whatever the others have.
//! All others are *guests*: clients in a connected network. Anybody can make a guest up, so one that has answered is told from
//! those that have not, and those have a share for each port, and there for the port's own network, for VLANs where somebody
//! has answered, and for all other tags together. When a share is used up, the oldest in it goes: who is there and honest
//! answers within a millisecond, and needs to be known for no longer. Packets that wait make room for others in the same way, those
//! for named next hops within the share of their port.

use super::AnyHop;
use super::order::List;

/// As many ports as a file may have, VLANs of devices among them.
const PORTS_MAX: usize = 128;
/// VLANs of a port.
const NETWORKS: usize = 4_096;
/// Kinds of networks of a port: its own, VLANs where somebody has answered, other tags.
const KINDS: usize = 3;
/// Groups of guests that have not answered: a port and a kind of network.
const GROUPS: usize = PORTS_MAX * KINDS;

/// Named ones, the one whose last answer is oldest first.
pub(super) const NAMED: List = 0;
/// Guests that have answered, likewise.
pub(super) const PROVEN: List = 1;
/// From here on, by port: named ones that packets wait for.
const NAMED_WAITING: usize = 2;
/// From here on, by group: guests that packets wait for, and guests that none waits for.
const GUESTS: usize = NAMED_WAITING + PORTS_MAX;
/// Lists there are.
pub(super) const LISTS: usize = GUESTS + 2 * GROUPS;
const _: () = assert!(LISTS <= List::MAX as usize);

/// Guests that have not answered, of one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Group(u16);

impl Group {
    /// Those of the group that packets wait for.
    pub(super) fn waiting(self) -> List {
        GUESTS as List + 2 * self.0
    }

    /// The others.
    pub(super) fn bare(self) -> List {
        self.waiting() + 1
    }

    /// The group of such a list.
    pub(super) fn of(list: List) -> Option<Self> {
        list.checked_sub(GUESTS as List).map(|list| Self(list / 2))
    }

    /// All of them.
    pub(super) fn all() -> impl Iterator<Item = Group> {
        (0..GROUPS as u16).map(Group)
    }
}

/// The named ones of the port of `hop` that packets wait for.
pub(super) fn named_waiting(hop: impl AnyHop) -> List {
    (NAMED_WAITING + port_of(hop)) as List
}

/// Whether a list is one of named next hops.
pub(super) fn is_of_named(list: List) -> bool {
    list == NAMED || (NAMED_WAITING..GUESTS).contains(&usize::from(list))
}

/// Whose packets are counted together: those for named next hops of a port, or those for a group of guests.
pub(super) type Account = usize;

/// See the module.
pub(super) struct Shares {
    ports: usize,
    /// Networks where a next hop has answered, by port and VLAN identifier, as bits.
    answered: Box<[u64]>,
    /// Packets that wait, by account.
    packets: [u16; PORTS_MAX + GROUPS],
}

impl Shares {
    /// Nobody has answered, and nothing waits.
    pub(super) fn new() -> Self {
        Self {
            ports: 1,
            answered: vec![0; PORTS_MAX * NETWORKS / 64].into(),
            packets: [0; PORTS_MAX + GROUPS],
        }
    }

    /// Tells how many ports share.
    pub(super) fn set_ports(&mut self, ports: usize) {
        self.ports = ports.clamp(1, PORTS_MAX);
    }

    /// A next hop has answered: its network is one that there is.
    pub(super) fn note_answer(&mut self, hop: impl AnyHop) {
        let (word, bit) = Self::place(hop);
        self.answered[word] |= bit;
    }

    /// Whether a network is known to be there: the port's own, or a VLAN where somebody has answered.
    pub(super) fn is_known(&self, hop: impl AnyHop) -> bool {
        let (word, bit) = Self::place(hop);
        hop.network() == 0 || self.answered[word] & bit != 0
    }

    /// The group that `hop` belongs to as a guest.
    pub(super) fn group(&self, hop: impl AnyHop) -> Group {
        let kind = if hop.network() == 0 { 0 } else { 2 - usize::from(self.is_known(hop)) };
        Group((port_of(hop) * KINDS + kind) as u16)
    }

    /// Whose packets those are that wait for an entry of a list. Nothing waits for those that have answered.
    pub(super) fn account(hop: impl AnyHop, list: List) -> Account {
        Group::of(list).map_or(port_of(hop), |group| PORTS_MAX + usize::from(group.0))
    }

    /// Packets that wait on an account.
    pub(super) fn packets(&mut self, account: Account) -> &mut u16 {
        &mut self.packets[account]
    }

    /// The same, to look at.
    pub(super) fn packets_of(&self, account: Account) -> u16 {
        self.packets[account]
    }

    /// The part of `whole` that is each port's for its named next hops.
    pub(super) fn of_named(&self, whole: usize) -> usize {
        (whole / self.ports).max(1)
    }

    /// The part of `whole` that is each group's.
    pub(super) fn of_group(&self, whole: usize) -> usize {
        (whole / (self.ports * KINDS)).max(1)
    }

    fn place(hop: impl AnyHop) -> (usize, u64) {
        let bit = port_of(hop) * NETWORKS + usize::from(hop.network()) % NETWORKS;
        (bit / 64, 1 << (bit % 64))
    }
}

fn port_of(hop: impl AnyHop) -> usize {
    usize::from(hop.port()) % PORTS_MAX
}
