//! The IPv6 clients of a worker's connections: each has a number, which stands for it in records.
//!
//! A record has 32 bits for its client. An IPv6 address lies here, in a line of three, and its place is its number
//! (`Addr4::client6`): a number is one address for as long as a record names it, so where numbers are equal, addresses
//! are. It costs a cache line a client, beside the record's 60 bytes, and a second cache line for each packet. With as many clients
//! as there is room for, a third of all places are taken, and one of forty addresses lies behind the line where it belongs; with
//! two to a line it was one of ten.
//!
//! An address lies in the line that its hash names or, when that is full, in one of the next few. Places are numbers, so
//! nothing moves when one is free again. Each line counts the addresses that went past it: a search ends at the first
//! line that nobody went past. The hash is keyed per process, so that nobody outside can aim at a line.
//!
//! One writer, the worker. Others ask whose a number is while it goes on: each line has a version, odd while it changes.

pub mod adopt;

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, fence};

use dpdk::memory::{Line, Slab};

use super::table::HashKey;
use crate::address::Addr4;
use crate::parse::plain6::{Words, words};

/// Addresses in a line: words 0 to 5, upper halves first.
const PLACES: usize = 3;
/// The word from which on records are counted that name an address, by place: 32 bits for each.
const HOLDERS: usize = 6;
/// The word with the rest: behind the last count how many addresses went past the line, and its version.
const STATE: usize = 7;
/// One address that went past the line: no more do than lie in as many lines as a search visits.
const PASSED_ONE: u64 = 1 << 32;
const PASSED: u64 = 0xff * PASSED_ONE;
const _: () = assert!(PLACES * PROBES <= 0xff);
/// One change of the line. Its lowest bit says that it goes on.
const VERSION_ONE: u64 = 1 << 40;
/// Lines that a search visits at most.
const PROBES: usize = 16;
/// A line that changes all the time is not read for ever.
const TRIES: usize = 4;

/// See the module.
pub struct Clients {
    shared: Arc<Places>,
    /// The place of one that no record need name.
    taken: Option<usize>,
    len: usize,
}

/// As its worker and all others share them.
struct Places {
    lines: Slab<Line>,
    key: HashKey,
}

/// What others may see of a worker's.
#[derive(Clone)]
pub struct View(Arc<Places>);

impl Clients {
    /// Lines of memory that so many clients take.
    pub fn lines_for(clients: usize) -> usize {
        if clients == 0 { 0 } else { clients.max(PROBES) }
    }

    /// None yet, in `lines`, zeroed, [`Clients::lines_for`] many.
    pub fn new(lines: Slab<Line>, key: HashKey) -> Self {
        assert!(lines.len() * PLACES < Addr4::CLIENTS6_MAX as usize, "each has a number");
        Self { shared: Arc::new(Places { lines, key }), taken: None, len: 0 }
    }

    /// Clients that have a number.
    pub fn known(&self) -> usize {
        self.len
    }

    /// Clients that there is certainly room for.
    pub fn capacity(&self) -> usize {
        self.shared.lines.len()
    }

    /// For other threads.
    pub fn view(&self) -> View {
        View(self.shared.clone())
    }

    /// The number of an address, if it has one.
    #[inline]
    pub fn number(&self, address: Ipv6Addr) -> Option<Addr4> {
        self.shared.find(address).map(|place| Addr4::client6(place as u32))
    }

    /// The line where an address belongs.
    #[inline]
    pub(crate) fn home(&self, address: Words) -> usize {
        self.shared.home(address)
    }

    /// Asks the processor for a line.
    #[inline]
    pub(crate) fn prefetch(&self, line: usize) {
        dpdk::lcore::prefetch_at(&self.shared.lines, line);
    }

    /// As [`Clients::number`], of an address that belongs into the line `home`; of the unspecified one maybe a number that no record
    /// names. Without a branch that depends on where in the line it is, which no processor could guess.
    #[inline]
    pub(crate) fn number_from(&self, home: usize, address: Words) -> Option<Addr4> {
        let line = &self.shared.lines.get(home)?.0;
        let differs = |slot: usize| {
            let word = |half: usize| line[2 * slot + half].load(Relaxed) ^ address[half];
            word(0) | word(1)
        };
        let slot = (1..PLACES).fold(0, |found, slot| if differs(slot) == 0 { slot } else { found });
        if differs(slot) == 0 {
            return Some(Addr4::client6((home * PLACES + slot) as u32));
        }
        if line[STATE].load(Relaxed) & PASSED == 0 { None } else { self.number_behind(home, address) }
    }

    #[inline(never)]
    fn number_behind(&self, home: usize, address: Words) -> Option<Addr4> {
        self.shared.find_from(home, address).map(|place| Addr4::client6(place as u32))
    }

    /// The number that an address has or would most likely get.
    #[inline]
    pub(crate) fn likely_number(&self, home: usize, address: Words) -> Option<Addr4> {
        self.number_from(home, address).or_else(|| {
            let line = &self.shared.lines.get(home)?.0;
            let slot = (0..PLACES).find(|slot| line[2 * slot].load(Relaxed) == 0)?;
            Some(Addr4::client6((home * PLACES + slot) as u32))
        })
    }

    /// The address that goes by a number, as long as a record names it.
    pub fn address(&self, client: Addr4) -> Option<Ipv6Addr> {
        let place = client.place_client6().filter(|place| place / PLACES < self.shared.lines.len())?;
        let address = self.shared.address(place);
        (!address.is_unspecified()).then_some(address)
    }

    /// The number that an address has or would get; [`Addr4::STRANGER6`]: there is no room.
    pub fn peek(&self, address: Ipv6Addr) -> Addr4 {
        let place = self.shared.find(address).or_else(|| {
            let address = words(address);
            self.shared.room(self.shared.home(address), address).map(|(_, place)| place)
        });
        place.map_or(Addr4::STRANGER6, |place| Addr4::client6(place as u32))
    }

    /// The number of an address, which gets one if it has none; [`Addr4::STRANGER6`]: there is no room. It has the number up to
    /// [`Clients::settle`], whatever becomes of its records, and keeps it if one names it then.
    pub fn take(&mut self, address: Ipv6Addr) -> Addr4 {
        let address = words(address);
        self.take_from(self.shared.home(address), address)
    }

    /// As [`Clients::take`], of an address that belongs into the line `home`.
    pub(crate) fn take_from(&mut self, home: usize, address: Words) -> Addr4 {
        self.settle();
        let place = self.shared.find_from(home, address).or_else(|| {
            let place = self.shared.put(home, address)?;
            self.len += 1;
            Some(place)
        });
        let Some(place) = place else { return Addr4::STRANGER6 };
        self.taken = Some(place);
        Addr4::client6(place as u32)
    }

    /// Takes back the number that was taken last if no record names it.
    pub fn settle(&mut self) {
        if let Some(place) = self.taken.take()
            && self.shared.holders(place) == 0
        {
            self.shared.take_out(place);
            self.len -= 1;
        }
    }

    /// A record names this number from now on, if it is a client's of IPv6. False: it is nobody's.
    #[cold]
    pub(super) fn hold(&mut self, client: Addr4) -> bool {
        if let Some(place) = client.place_client6() {
            self.shared.set_holders(place, self.shared.holders(place).saturating_add(1));
        }
        client != Addr4::STRANGER6
    }

    /// A record names it no more.
    #[cold]
    pub(super) fn release(&mut self, client: Addr4) {
        if let Some(place) = client.place_client6() {
            let left = self.shared.holders(place).saturating_sub(1);
            self.shared.set_holders(place, left);
            if left == 0 && self.taken != Some(place) {
                self.shared.take_out(place);
                self.len -= 1;
            }
        }
    }
}

impl Places {
    /// The line where an address belongs.
    #[inline(always)]
    fn home(&self, [upper, lower]: Words) -> usize {
        let hash = self.key.hash(self.key.hash(lower) ^ upper);
        ((u128::from(hash) * self.lines.len() as u128) >> 64) as usize
    }

    #[inline]
    fn behind(&self, line: usize, distance: usize) -> usize {
        let index = line + distance;
        if index < self.lines.len() { index } else { index - self.lines.len() }
    }

    fn find(&self, address: Ipv6Addr) -> Option<usize> {
        let address = words(address);
        self.find_from(self.home(address), address)
    }

    /// As [`Places::find`], of an address that belongs into the line `home`.
    fn find_from(&self, home: usize, [upper, lower]: Words) -> Option<usize> {
        // It stands in each place that is free.
        if upper | lower == 0 {
            return None;
        }
        for distance in 0..PROBES {
            let line = self.behind(home, distance);
            let words = &self.lines.get(line)?.0;
            let is_its = |slot: usize| {
                words[2 * slot].load(Relaxed) == upper && words[2 * slot + 1].load(Relaxed) == lower
            };
            if let Some(slot) = (0..PLACES).find(|&slot| is_its(slot)) {
                return Some(line * PLACES + slot);
            }
            if words[STATE].load(Relaxed) & PASSED == 0 {
                return None;
            }
        }
        None
    }

    /// A place for an address that has none, and how many lines it is behind where that belongs.
    fn room(&self, home: usize, address: Words) -> Option<(usize, usize)> {
        if address == [0; 2] {
            return None;
        }
        let probes = PROBES.min(self.lines.len());
        let places_in = |line: usize| line * PLACES..(line + 1) * PLACES;
        let free_in = |line: usize| places_in(line).find(|place| self.is_free(*place));
        (0..probes).find_map(|distance| Some((distance, free_in(self.behind(home, distance))?)))
    }

    /// Puts an address that has none into a place.
    fn put(&self, home: usize, address: Words) -> Option<usize> {
        let (distance, place) = self.room(home, address)?;
        for state in (0..distance).map(|distance| &self.lines[self.behind(home, distance)].0[STATE]) {
            state.store(state.load(Relaxed) + PASSED_ONE, Release);
        }
        self.set_holders(place, 0);
        self.write(place, address);
        Some(place)
    }

    fn take_out(&self, place: usize) {
        let address = self.address(place);
        let (home, line) = (self.home(words(address)), place / PLACES);
        for passed in (0..PROBES).map(|distance| self.behind(home, distance)).take_while(|at| *at != line) {
            let state = &self.lines[passed].0[STATE];
            let before = state.load(Relaxed);
            if before & PASSED != 0 {
                state.store(before - PASSED_ONE, Release);
            }
        }
        self.write(place, [0; 2]);
    }

    fn is_free(&self, place: usize) -> bool {
        self.address(place).is_unspecified()
    }

    /// The address in a place.
    fn address(&self, place: usize) -> Ipv6Addr {
        let (words, at) = (&self.lines[place / PLACES].0, place % PLACES * 2);
        address([words[at].load(Relaxed), words[at + 1].load(Relaxed)])
    }

    fn write(&self, place: usize, [upper, lower]: Words) {
        let (words, at) = (&self.lines[place / PLACES].0, place % PLACES * 2);
        let state = words[STATE].load(Relaxed);
        words[STATE].store(state.wrapping_add(VERSION_ONE), Relaxed);
        fence(Release);
        words[at].store(upper, Relaxed);
        words[at + 1].store(lower, Relaxed);
        words[STATE].store(state.wrapping_add(2 * VERSION_ONE), Release);
    }

    /// The word where records are counted that name an address, and where in it.
    #[inline]
    fn counter(&self, place: usize) -> (&AtomicU64, usize) {
        let at = place % PLACES;
        (&self.lines[place / PLACES].0[HOLDERS + at / 2], at % 2 * 32)
    }

    #[inline]
    fn holders(&self, place: usize) -> u32 {
        let (word, shift) = self.counter(place);
        (word.load(Relaxed) >> shift) as u32
    }

    /// A release, as each store to a word with a version has to be: it may be the one whose version a reader sees.
    #[inline]
    fn set_holders(&self, place: usize, count: u32) {
        let (word, shift) = self.counter(place);
        let others = word.load(Relaxed) & !(u64::from(u32::MAX) << shift);
        word.store(others | u64::from(count) << shift, Release);
    }

    /// What `read` makes of a line, from another thread. `None`: it did not come to rest.
    fn settled<T>(&self, line: usize, read: impl Fn(&[AtomicU64; 8]) -> T) -> Option<T> {
        let words = &self.lines.get(line)?.0;
        (0..TRIES).find_map(|_| {
            let version = words[STATE].load(Acquire) / VERSION_ONE;
            let seen = read(words);
            fence(Acquire);
            (version & 1 == 0 && words[STATE].load(Relaxed) / VERSION_ONE == version).then_some(seen)
        })
    }
}

impl View {
    /// The address that goes by a number. What it returns was so a moment ago.
    pub fn address(&self, client: Addr4) -> Option<Ipv6Addr> {
        let place = client.place_client6()?;
        let at = place % PLACES * 2;
        let read = |words: &[AtomicU64; 8]| [words[at].load(Relaxed), words[at + 1].load(Relaxed)];
        let address = address(self.0.settled(place / PLACES, read)?);
        (!address.is_unspecified()).then_some(address)
    }

    /// The number of an address with this worker.
    pub fn number(&self, address: Ipv6Addr) -> Option<Addr4> {
        let place = self.0.find(address)?;
        let number = Addr4::client6(place as u32);
        (self.address(number) == Some(address)).then_some(number)
    }
}

fn address([upper, lower]: [u64; 2]) -> Ipv6Addr {
    Ipv6Addr::from_bits(u128::from(upper) << 64 | u128::from(lower))
}

#[cfg(test)]
mod tests {
    use hashbrown::HashMap;

    use super::*;

    fn clients(room: usize) -> Clients {
        let lines = Slab::heap(Clients::lines_for(room)).expect("memory");
        Clients::new(lines, HashKey::new([7, 0x9e37_79b9_7f4a_7c15]))
    }

    fn address(number: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, number % 3, number + 1)
    }

    #[test]
    fn an_address_keeps_its_number_as_long_as_a_record_names_it_and_no_other_has_it() {
        // 16 lines for up to 64 addresses: most lines are full and passed by.
        bolero::check!().with_type::<Vec<(u8, bool)>>().for_each(|steps| {
            let mut clients = clients(16);
            let mut model: HashMap<u16, (Addr4, usize)> = HashMap::new();
            for &(number, comes) in steps {
                let number = u16::from(number % 64);
                let known = model.get(&number).copied();
                if comes {
                    let expected = clients.peek(address(number));
                    let made = clients.take(address(number));
                    assert_eq!(made, expected);
                    if made == Addr4::STRANGER6 {
                        assert!(known.is_none() && model.len() >= 16, "there is room for as many as lines");
                        continue;
                    }
                    assert!(known.is_none_or(|(had, _)| had == made));
                    clients.hold(made);
                    clients.settle();
                    model.insert(number, (made, known.map_or(1, |(_, count)| count + 1)));
                } else if let Some((had, count)) = known {
                    clients.release(had);
                    match count {
                        1 => _ = model.remove(&number),
                        _ => _ = model.insert(number, (had, count - 1)),
                    }
                }
                let taken = (0..clients.capacity() * PLACES).filter(|place| !clients.shared.is_free(*place));
                assert_eq!((clients.known(), taken.count()), (model.len(), model.len()));
            }
            let view = clients.view();
            for number in 0..64 {
                let expected = model.get(&number).map(|(had, _)| *had);
                assert_eq!(clients.number(address(number)), expected);
                assert_eq!(view.number(address(number)), expected);
                if let Some(had) = expected {
                    assert_eq!(view.address(had), Some(address(number)));
                }
            }
            for (_, (had, count)) in model {
                (0..count).for_each(|_| clients.release(had));
            }
            assert_eq!(clients.known(), 0);
            assert!(clients.shared.lines.iter().all(|line| line.0[STATE].load(Relaxed) & PASSED == 0));
        });
    }

    #[test]
    fn a_number_that_no_record_came_to_name_is_taken_back() {
        let mut clients = clients(16);
        let first = clients.take(address(1));
        assert_eq!(clients.number(address(1)), Some(first));
        clients.settle();
        assert_eq!((clients.number(address(1)), clients.known()), (None, 0));
        clients.take(address(2));
        clients.take(address(3));
        assert_eq!((clients.number(address(2)), clients.known()), (None, 1), "the next one takes its place");
        clients.hold(Addr4::client6(clients.shared.find(address(3)).expect("a place") as u32));
        let taken = clients.take(address(3));
        clients.release(taken);
        assert_eq!(clients.number(address(3)), Some(taken), "a connection that begins anew keeps its number");
        clients.hold(taken);
        clients.settle();
        assert_eq!(clients.number(address(3)), Some(taken));
    }

    #[test]
    fn the_unspecified_address_is_nobodys_and_leaves_all_as_it_was() {
        let mut clients = clients(16);
        let first = clients.take(address(1));
        clients.hold(first);
        for _ in 0..3 {
            assert_eq!(clients.peek(Ipv6Addr::UNSPECIFIED), Addr4::STRANGER6);
            assert_eq!(clients.take(Ipv6Addr::UNSPECIFIED), Addr4::STRANGER6);
            clients.settle();
        }
        assert_eq!((clients.number(Ipv6Addr::UNSPECIFIED), clients.known()), (None, 1));
        assert_eq!(clients.number(address(1)), Some(first));
    }

    #[test]
    fn without_memory_nobody_gets_a_number() {
        let mut clients = clients(0);
        assert_eq!(clients.take(address(1)), Addr4::STRANGER6);
        assert_eq!((clients.number(address(1)), clients.view().address(Addr4::client6(0))), (None, None));
    }
}
