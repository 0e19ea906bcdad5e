//! Pieces that came before the first one of their packet.
//!
//! Who comes takes a free seat; only if there is none, whoever sits there for the longest has to go. So a flood has the seats for as
//! long as it lasts, and nothing else of weir's. Those who wait are found by their hash, so a first piece for which nobody waits looks
//! at one number.

use crate::pieces::Key;

/// Seats that a room may have at most.
const SEATS_MAX: usize = 1 << 15;
/// Chains that those who wait stand in, by their hashes.
const CHAINS: usize = 256;

/// A piece that waits.
pub(super) struct Seat<F> {
    pub(super) frame: F,
    pub(super) key: Key,
    pub(super) hash: u64,
    /// The port that it came in on.
    pub(super) port: usize,
    /// When that was, in milliseconds.
    pub(super) since: u64,
}

/// See the module.
pub(super) struct Room<F> {
    seats: Vec<Option<Seat<F>>>,
    free: Vec<u16>,
    /// Of the seats that are taken, in the order in which they were; behind all of them stands its end.
    ages: Rings,
    /// The same of those in one chain; the ends of all chains stand behind the seats.
    chains: Rings,
}

impl<F> Room<F> {
    pub(super) fn new(seats: usize) -> Self {
        let seats = seats.min(SEATS_MAX);
        Self {
            seats: (0..seats).map(|_| None).collect(),
            free: (0..seats as u16).rev().collect(),
            ages: Rings::new(seats + 1),
            chains: Rings::new(seats + CHAINS),
        }
    }

    /// Pieces in it.
    pub(super) fn taken(&self) -> usize {
        self.seats.len() - self.free.len()
    }

    /// Lets a piece wait, and gives the one that has to go for it.
    pub(super) fn push(&mut self, seat: Seat<F>) -> Option<Seat<F>> {
        let gone = if self.free.is_empty() { self.oldest().and_then(|at| self.take_at(at)) } else { None };
        let Some(at) = self.free.pop() else { return Some(seat) };
        self.ages.put_last(usize::from(at), self.seats.len());
        self.chains.put_last(usize::from(at), self.chain(seat.hash));
        self.seats[usize::from(at)] = Some(seat);
        gone
    }

    /// Takes the piece of a packet with this hash that has waited for the longest.
    pub(super) fn take(&mut self, hash: u64) -> Option<Seat<F>> {
        let end = self.chain(hash);
        let mut at = self.chains.next(end);
        while at != end {
            if self.get(at).is_some_and(|seat| seat.hash == hash) {
                return self.take_at(at);
            }
            at = self.chains.next(at);
        }
        None
    }

    /// The seat that was taken first.
    pub(super) fn oldest(&self) -> Option<usize> {
        self.behind(self.seats.len())
    }

    /// The seat that was taken next.
    pub(super) fn behind(&self, at: usize) -> Option<usize> {
        let next = self.ages.next(at);
        (next < self.seats.len()).then_some(next)
    }

    /// Who sits there.
    pub(super) fn get(&self, at: usize) -> Option<&Seat<F>> {
        self.seats.get(at)?.as_ref()
    }

    /// Takes who sits there.
    pub(super) fn take_at(&mut self, at: usize) -> Option<Seat<F>> {
        let seat = self.seats.get_mut(at)?.take()?;
        self.ages.take_out(at);
        self.chains.take_out(at);
        self.free.push(at as u16);
        Some(seat)
    }

    /// The end of a hash's chain.
    fn chain(&self, hash: u64) -> usize {
        self.seats.len() + (hash >> 32) as usize % CHAINS
    }
}

/// Rings of numbers, of which each has one before it and one behind it: itself, if it is alone.
struct Rings(Vec<[u16; 2]>);

impl Rings {
    fn new(count: usize) -> Self {
        Self((0..count as u16).map(|at| [at, at]).collect())
    }

    fn next(&self, at: usize) -> usize {
        usize::from(self.0[at][1])
    }

    /// Puts one that is alone in front of another one, which is the end of its ring.
    fn put_last(&mut self, at: usize, end: usize) {
        let last = usize::from(self.0[end][0]);
        self.0[at] = [last as u16, end as u16];
        self.0[last][1] = at as u16;
        self.0[end][0] = at as u16;
    }

    fn take_out(&mut self, at: usize) {
        let [before, behind] = self.0[at];
        self.0[usize::from(before)][1] = behind;
        self.0[usize::from(behind)][0] = before;
        self.0[at] = [at as u16; 2];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Addr4;

    /// Five hashes, of which two stand in one chain.
    fn hash(number: u64) -> u64 {
        match number % 5 {
            4 => 256 << 32,
            few => few << 32,
        }
    }

    fn seat(number: u64) -> Seat<u64> {
        let key = Key::v4(Addr4::new(10, 0, 0, 1), Addr4::new(10, 0, 0, 2), 17, number as u32);
        Seat { frame: number, key, hash: hash(number), port: 0, since: 0 }
    }

    #[test]
    fn free_seats_are_taken_first_and_then_the_oldest_has_to_go() {
        let mut room = Room::new(4);
        assert!((0..4).all(|number| room.push(seat(number)).is_none()));
        assert_eq!(room.push(seat(4)).map(|gone| gone.frame), Some(0));
        assert_eq!(room.take(hash(2)).map(|taken| taken.frame), Some(2));
        assert!(room.take(hash(2)).is_none());
        assert_eq!(room.taken(), 3);
        assert!(room.push(seat(7)).is_none(), "one is free");
        assert_eq!(room.push(seat(8)).map(|gone| gone.frame), Some(1));
        assert_eq!(Room::new(0).push(seat(1)).map(|gone| gone.frame), Some(1));
    }

    #[test]
    fn seats_are_found_by_their_hash_in_the_order_they_were_taken() {
        bolero::check!().with_type::<Vec<(u8, u8)>>().for_each(|steps| {
            let mut room = Room::new(8);
            let mut there: Vec<u64> = Vec::new();
            for (at, &(step, number)) in steps.iter().enumerate() {
                let number = u64::from(number) + 256 * 5 * at as u64;
                if step % 3 == 0 {
                    let first = there.iter().position(|known| hash(*known) == hash(number));
                    assert_eq!(
                        room.take(hash(number)).map(|taken| taken.frame),
                        first.map(|at| there.remove(at))
                    );
                } else {
                    let gone = if there.len() == 8 { Some(there.remove(0)) } else { None };
                    there.push(number);
                    assert_eq!(room.push(seat(number)).map(|gone| gone.frame), gone);
                }
                let mut next = room.oldest();
                let ordered: Vec<u64> = std::iter::from_fn(|| {
                    let at = next?;
                    next = room.behind(at);
                    room.get(at).map(|seat| seat.frame)
                })
                .collect();
                assert_eq!((&ordered, room.taken()), (&there, there.len()));
            }
        });
    }
}
