//! Numbers for the addresses that clients talk to.
//!
//! A connection's record has 16 bits for its VIP. An address that the file writes, or that lies in a network of a mark of
//! at most [`Mark::NUMBERED_ADDRESSES`] addresses, has a number of its own, so that its connections are told from all
//! others and NAT knows what replies come from. It keeps that number as long as it is a VIP and any record names it.
//!
//! The addresses of wider networks share the rest of the numbers by a hash. Two connections from one client's port to one
//! port of two such addresses meet in one record with a chance of one in [`SHARED`]: both go to the same real server then.
//! NAT, which needs the address, is refused there by the configuration.

use std::net::Ipv6Addr;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use weir_config::model::Mark;

use super::registry::RegistryError;
use crate::address::Addr4;
use crate::conn::record::VipId;

/// Numbers that one address each can have.
pub const OWN: u16 = Mark::VIPS_MAX as u16;
/// Numbers that all other addresses share.
pub const SHARED: u32 = (1 << 16) - OWN as u32;
/// Addresses that keep a number of their own in a wide network though they need it no more, at most.
pub(super) const FORMER_MAX: usize = 4_096;

const _: () = assert!(SHARED.is_power_of_two());

/// Room for numbers beyond the highest, so that one more does not mean another place for all.
const SPARE: usize = 64;

/// What packets are looked up in.
#[derive(Clone, Default)]
pub struct Vips {
    numbers: Arc<HashMap<Addr4, VipId>>,
    /// By number; unspecified: nobody has it.
    addresses: Arc<[Addr4]>,
    /// Some addresses are none of ours any more, and records may still name their numbers.
    has_left: bool,
}

impl Vips {
    /// The number of an address that clients talk to.
    #[inline]
    pub fn number(&self, address: Addr4) -> VipId {
        self.own_number(address).unwrap_or_else(|| shared_number(address))
    }

    /// The number that an address has for itself.
    #[inline]
    pub fn own_number(&self, address: Addr4) -> Option<VipId> {
        self.numbers.get(&address).copied()
    }

    /// The address that has this number for itself.
    #[inline]
    pub fn address(&self, number: VipId) -> Option<Addr4> {
        self.addresses.get(usize::from(number.0)).copied().filter(|address| *address != Addr4::UNSPECIFIED)
    }

    /// All addresses that have a number for themselves.
    pub fn own(&self) -> impl Iterator<Item = (VipId, Addr4)> + '_ {
        (0..).map(VipId).zip(self.addresses.iter().copied()).filter(|(_, vip)| *vip != Addr4::UNSPECIFIED)
    }

    /// Gives an address a number for itself, or takes it away.
    pub(super) fn set(&mut self, address: Addr4, number: Option<VipId>) {
        let numbers = Arc::make_mut(&mut self.numbers);
        let former = match number {
            Some(number) => numbers.insert(address, number),
            None => numbers.remove(&address),
        };
        let size = number.map_or(0, |number| usize::from(number.0) + 1);
        if self.addresses.len() < size {
            let mut addresses = self.addresses.to_vec();
            addresses.resize(size + SPARE, Addr4::UNSPECIFIED);
            self.addresses = addresses.into();
        }
        let addresses = Arc::make_mut(&mut self.addresses);
        if let Some(place) = former.and_then(|former| addresses.get_mut(usize::from(former.0))) {
            *place = Addr4::UNSPECIFIED;
        }
        if let Some(place) = number.and_then(|number| addresses.get_mut(usize::from(number.0))) {
            *place = address;
        }
    }

    /// Shares nothing with another snapshot any more.
    pub(super) fn set_apart(&mut self) {
        Arc::make_mut(&mut self.numbers);
        Arc::make_mut(&mut self.addresses);
    }

    /// Records may name numbers of addresses that are none of ours any more, or none does.
    pub(super) fn set_left(&mut self, has_left: bool) {
        self.has_left = has_left;
    }

    /// Whether records may name numbers of addresses that are none of ours any more.
    pub fn have_left(&self) -> bool {
        self.has_left
    }

    /// Whether the address with this number is no VIP any more, so that no packet can reach its connections.
    #[inline]
    pub fn has_left(&self, number: VipId) -> bool {
        self.has_left && number.0 < OWN && self.address(number).is_none()
    }
}

/// Whether an address has a number only with others.
#[inline]
pub(crate) fn is_shared(number: VipId) -> bool {
    number.0 >= OWN
}

/// Fibonacci hashing of the address. It has to stay as it is while weir runs, and needs no secret: clients can only make
/// connections of their own meet.
pub fn shared_number(address: Addr4) -> VipId {
    let mixed = address.bits().wrapping_mul(0x9e37_79b1) >> (32 - SHARED.trailing_zeros());
    VipId(OWN + mixed as u16)
}

/// The same of an IPv6 address.
pub fn shared_number6(address: Ipv6Addr) -> VipId {
    let bits = address.to_bits();
    let folded = (bits >> 64) as u64 ^ (bits as u64).rotate_left(29);
    let mixed = folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - SHARED.trailing_zeros());
    VipId(OWN + mixed as u16)
}

/// Which address has which number, from one snapshot to the next. Control's.
#[derive(Clone, Default)]
pub(super) struct Numbering {
    entries: HashMap<Addr4, Entry>,
    /// Numbers are free from here on.
    end: u16,
    /// Some addresses are none of ours any more.
    has_left: bool,
}

#[derive(Clone)]
struct Entry {
    number: VipId,
    /// The generation that came without it.
    removed: Option<u64>,
}

impl Numbering {
    /// One that begins with these numbers.
    pub(super) fn resume(vips: impl Iterator<Item = (Addr4, VipId)>) -> Self {
        let known = vips.map(|(address, number)| (address, Entry { number, removed: None }));
        Self { entries: known.collect(), end: 0, has_left: false }
    }

    /// The numbering for the VIPs of generation `generation`. No record names the numbers any more of addresses that
    /// left by generation `swept`.
    ///
    /// # Errors
    /// There are not enough numbers.
    pub(super) fn next(
        &self,
        vips: &HashSet<Addr4>,
        generation: u64,
        swept: u64,
    ) -> Result<Self, RegistryError> {
        let mut entries = self.entries.clone();
        entries.retain(|address, entry| {
            vips.contains(address) || entry.removed.is_none_or(|removed| removed > swept)
        });
        for (address, entry) in &mut entries {
            if vips.contains(address) {
                entry.removed = None;
            } else {
                entry.removed.get_or_insert(generation);
            }
        }
        let used: HashSet<u16> = entries.values().map(|entry| entry.number.0).collect();
        let mut free = (0..OWN).filter(|number| !used.contains(number));
        // In order, so that equal files get equal numbers.
        let mut new: Vec<Addr4> = vips.iter().copied().filter(|vip| !entries.contains_key(vip)).collect();
        new.sort_unstable();
        for vip in new {
            let number = VipId(free.next().ok_or(RegistryError::TooManyVips)?);
            entries.insert(vip, Entry { number, removed: None });
        }
        let end = entries.values().map(|entry| entry.number.0 + 1).max().unwrap_or(0);
        let has_left = entries.values().any(|entry| entry.removed.is_some());
        Ok(Self { entries, end, has_left })
    }

    /// The addresses whose numbers records may name, where no record names those any more that left by generation `swept`.
    pub(super) fn known(&self, swept: u64) -> impl Iterator<Item = Addr4> + '_ {
        let may_be_named = move |entry: &Entry| entry.removed.is_none_or(|removed| removed > swept);
        self.entries.iter().filter(move |(_, entry)| may_be_named(entry)).map(|(vip, _)| *vip)
    }

    /// Whether [`Numbering::add`] can be done so many times.
    pub(super) fn has_room(&self, count: usize) -> bool {
        usize::from(OWN - self.end) >= count
    }

    /// An address is a VIP from now on.
    pub(super) fn add(&mut self, vip: Addr4) {
        let number = VipId(self.end);
        let entry = self.entries.entry(vip).or_insert_with(|| {
            self.end += 1;
            Entry { number, removed: None }
        });
        entry.removed = None;
    }

    /// An address is no VIP any more from this generation on.
    pub(super) fn leave(&mut self, vip: Addr4, generation: u64) {
        if let Some(entry) = self.entries.get_mut(&vip) {
            entry.removed.get_or_insert(generation);
            self.has_left = true;
        }
    }

    /// The number of a VIP; `None`: it is none.
    pub(super) fn number(&self, vip: Addr4) -> Option<VipId> {
        self.entries.get(&vip).filter(|entry| entry.removed.is_none()).map(|entry| entry.number)
    }

    /// Whether some addresses are none of ours any more, and records may still name their numbers.
    pub(super) fn has_left(&self) -> bool {
        self.has_left
    }

    /// For packets.
    pub(super) fn vips(&self) -> Vips {
        let present = || self.entries.iter().filter(|(_, entry)| entry.removed.is_none());
        let size = present().map(|(_, entry)| usize::from(entry.number.0) + 1).max().unwrap_or(0);
        let mut addresses = vec![Addr4::UNSPECIFIED; size];
        for (&address, entry) in present() {
            addresses[usize::from(entry.number.0)] = address;
        }
        Vips {
            numbers: Arc::new(present().map(|(&address, entry)| (address, entry.number)).collect()),
            addresses: addresses.into(),
            has_left: self.has_left,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10.0.0.x.
    fn vip(x: u8) -> Addr4 {
        Addr4::new(10, 0, 0, x)
    }

    fn set(vips: &[u8]) -> HashSet<Addr4> {
        vips.iter().map(|&x| vip(x)).collect()
    }

    #[test]
    fn a_number_is_an_addresss_own_until_no_record_can_name_it() {
        let first = Numbering::default().next(&set(&[7, 8]), 1, 0).unwrap();
        let (seven, eight) = (first.vips().number(vip(7)), first.vips().number(vip(8)));
        assert_ne!(seven, eight);
        let second = first.next(&set(&[8, 9]), 2, 1).unwrap();
        let vips = second.vips();
        assert_eq!(
            (vips.own_number(vip(7)), vips.number(vip(8)), vips.address(eight)),
            (None, eight, Some(vip(8)))
        );
        assert!(vips.number(vip(9)) != seven && vips.has_left(seven) && !vips.has_left(eight));
        // Back before its connections are gone: they go on.
        assert_eq!(second.next(&set(&[7, 8, 9]), 3, 1).unwrap().vips().number(vip(7)), seven);
        // Swept: somebody else's, and nobody is waited for any more.
        let third = second.next(&set(&[8, 9, 10]), 3, 2).unwrap();
        assert_eq!(third.vips().number(vip(10)), seven);
        assert!(!third.vips().has_left(VipId(5)));
    }

    #[test]
    fn addresses_without_a_number_of_their_own_share_the_rest_evenly() {
        let vips = Vips::default();
        let mut counts = vec![0_u32; SHARED as usize];
        let first = vip(0).bits();
        for address in (first..first + 4 * SHARED).map(Addr4::from_bits) {
            let number = vips.number(address);
            assert!(number.0 >= OWN && vips.address(number).is_none() && !vips.has_left(number));
            counts[usize::from(number.0 - OWN)] += 1;
        }
        assert!(counts.iter().all(|count| (1..=8).contains(count)));
    }

    #[test]
    fn no_number_is_left_when_all_are_taken() {
        let all: HashSet<Addr4> = (1..=u32::from(OWN)).map(Addr4::from_bits).collect();
        let full = Numbering::default().next(&all, 1, 0).unwrap();
        let mut other = all.clone();
        other.remove(&Addr4::from_bits(1));
        other.insert(Addr4::from_bits(99_999));
        assert!(matches!(full.next(&other, 2, 1), Err(RegistryError::TooManyVips)));
        let swept = full.next(&all.iter().copied().skip(1).collect(), 2, 1).unwrap();
        assert!(swept.next(&all, 3, 2).is_ok());
    }
}
