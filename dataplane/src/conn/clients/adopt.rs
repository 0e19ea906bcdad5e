//! Clients whose lines another process has left, at whatever moment it ended.
//!
//! What counts are the addresses alone: a record that names one was written after it, and is gone before it goes. All else is
//! counted anew.

use std::sync::atomic::Ordering::Relaxed;

use dpdk::memory::{Line, Slab};

use super::{Clients, HOLDERS, PASSED_ONE, PLACES, PROBES, STATE, VERSION_ONE};
use crate::address::Addr4;
use crate::conn::table::HashKey;
use crate::parse::plain6::words;

/// Says what the words of a line mean. Another number: they are not to be read as these.
pub const LAYOUT: u64 = 1;

impl Clients {
    /// Whether so many lines can be some.
    pub fn takes(lines: usize) -> bool {
        let has_numbers =
            lines.checked_mul(PLACES).is_some_and(|places| places < Addr4::CLIENTS6_MAX as usize);
        has_numbers && (lines == 0 || lines >= PROBES)
    }

    /// Those in `lines`, none of which is held yet. When all records have been told by [`Clients::hold`], [`Clients::forget_unheld`]
    /// ends this.
    pub(in crate::conn) fn adopt(lines: Slab<Line>, key: HashKey) -> Self {
        let mut clients = Self::new(lines, key);
        for line in clients.shared.lines.iter() {
            line.0[HOLDERS].store(0, Relaxed);
            // A version that nobody is about to write.
            let version = line.0[STATE].load(Relaxed) / VERSION_ONE;
            line.0[STATE].store(version.wrapping_add(version & 1).wrapping_mul(VERSION_ONE), Relaxed);
        }
        for place in 0..clients.shared.lines.len() * PLACES {
            clients.len += usize::from(clients.find_place(place));
        }
        clients
    }

    /// Whether an address lies in this place. Lines on the way there count it from now on. One that no search would find is forgotten.
    fn find_place(&self, place: usize) -> bool {
        let places = &self.shared;
        let address = places.address(place);
        if address.is_unspecified() {
            return false;
        }
        let (home, line) = (places.home(words(address)), place / PLACES);
        let probes = PROBES.min(places.lines.len());
        let Some(distance) = (0..probes).find(|distance| places.behind(home, *distance) == line) else {
            places.write(place, [0; 2]);
            return false;
        };
        for state in (0..distance).map(|distance| &places.lines[places.behind(home, distance)].0[STATE]) {
            state.store(state.load(Relaxed) + PASSED_ONE, Relaxed);
        }
        true
    }

    /// Forgets the addresses that no record names.
    pub(in crate::conn) fn forget_unheld(&mut self) {
        for place in 0..self.shared.lines.len() * PLACES {
            if !self.shared.is_free(place) && self.shared.holders(place) == 0 {
                self.shared.take_out(place);
                self.len -= 1;
            }
        }
    }
}
