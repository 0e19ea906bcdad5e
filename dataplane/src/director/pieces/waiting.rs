//! Pieces that came before the first one of their packet.
//!
//! A ring: who comes takes the next seat, and whoever still sits there, for a whole round of others, has to go. So a
//! flood has the seats for as long as it lasts, and nothing else of weir's.

use crate::pieces::Key;

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
    /// Of the pieces that sit there, side by side: [`FREE`] where none does.
    hashes: Vec<u64>,
    next: usize,
    taken: usize,
    /// Where [`Room::look`] goes on.
    looked_at: usize,
}

/// No hash of a piece: see [`mark`].
const FREE: u64 = 0;

/// Of a hash what seats are known by.
fn mark(hash: u64) -> u64 {
    hash | 1
}

impl<F> Room<F> {
    pub(super) fn new(seats: usize) -> Self {
        let hashes = vec![FREE; seats];
        Self { seats: (0..seats).map(|_| None).collect(), hashes, next: 0, taken: 0, looked_at: 0 }
    }

    /// Pieces in it.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// Lets a piece wait, and gives the one that has to go for it.
    pub(super) fn push(&mut self, seat: Seat<F>) -> Option<Seat<F>> {
        let at = self.next;
        self.next = if at + 1 < self.seats.len() { at + 1 } else { 0 };
        let (Some(place), Some(known)) = (self.seats.get_mut(at), self.hashes.get_mut(at)) else {
            return Some(seat);
        };
        *known = mark(seat.hash);
        let gone = place.replace(seat);
        self.taken += usize::from(gone.is_none());
        gone
    }

    /// Takes a piece of a packet with this hash, behind this place, and says where it was.
    pub(super) fn take(&mut self, hash: u64, from: usize) -> Option<(usize, Seat<F>)> {
        let known = self.hashes.get(from..)?;
        let at = from + known.iter().position(|known| *known == mark(hash))?;
        Some((at, self.take_at(at)?))
    }

    fn take_at(&mut self, at: usize) -> Option<Seat<F>> {
        let seat = self.seats.get_mut(at)?.take()?;
        *self.hashes.get_mut(at)? = FREE;
        self.taken -= 1;
        Some(seat)
    }

    /// Looks at the next seat of a round over all of them, and takes the piece there if it is to go.
    pub(super) fn look(&mut self, is_to_go: impl FnOnce(&Seat<F>) -> bool) -> Option<Seat<F>> {
        let at = self.looked_at;
        self.looked_at = if at + 1 < self.seats.len() { at + 1 } else { 0 };
        let goes = is_to_go(self.seats.get(at)?.as_ref()?);
        if goes { self.take_at(at) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Addr4;

    fn seat(number: u64) -> Seat<u64> {
        let key = Key::v4(Addr4::new(10, 0, 0, 1), Addr4::new(10, 0, 0, 2), 17, number as u32);
        Seat { frame: number, key, hash: (number % 5) << 8, port: 0, since: 0 }
    }

    #[test]
    fn who_sits_there_for_a_whole_round_has_to_go() {
        let mut room = Room::new(4);
        assert!((0..4).all(|number| room.push(seat(number)).is_none()));
        assert_eq!(room.push(seat(4)).map(|gone| gone.frame), Some(0));
        assert_eq!(room.take(2 << 8, 0).map(|(at, taken)| (at, taken.frame)), Some((2, 2)));
        assert!(room.take(2 << 8, 0).is_none());
        assert_eq!(room.taken(), 3);
        let seen: Vec<_> =
            (0..4).filter_map(|_| room.look(|seat| seat.frame != 3)).map(|seat| seat.frame).collect();
        assert_eq!((seen, room.taken()), (vec![4, 1], 1));
        assert_eq!(Room::new(0).push(seat(1)).map(|gone| gone.frame), Some(1));
    }

    #[test]
    fn seats_are_found_by_their_hash_and_counted() {
        bolero::check!().with_type::<Vec<(u8, u8)>>().for_each(|steps| {
            let mut room = Room::new(8);
            let mut there: Vec<u64> = Vec::new();
            for &(step, number) in steps {
                let number = u64::from(number);
                if step % 3 == 0 {
                    if let Some((_, taken)) = room.take((number % 5) << 8, 0) {
                        assert_eq!(taken.hash, (number % 5) << 8);
                        there.remove(
                            there.iter().position(|known| *known == taken.frame).expect("it sat there"),
                        );
                    } else {
                        assert!(there.iter().all(|known| known % 5 != number % 5));
                    }
                } else {
                    there.push(number);
                    if let Some(gone) = room.push(seat(number)) {
                        there.remove(
                            there.iter().position(|known| *known == gone.frame).expect("it sat there"),
                        );
                    }
                }
                assert_eq!(room.taken(), there.len());
            }
        });
    }
}
