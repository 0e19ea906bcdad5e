//! Packets that wait for next hops: one room for all, a queue for each.
//!
//! A queue is a chain of seats in the room, so taking one queue out costs what that queue holds, however many others
//! wait. All memory is taken when the room is made.

/// No seat.
const NONE: u16 = u16::MAX;

/// Seats for frames.
pub(super) struct Room<F> {
    seats: Vec<Seat<F>>,
    /// The first free seat.
    free: u16,
    taken: usize,
}

struct Seat<F> {
    frame: Option<F>,
    /// The seat behind it in its queue, or the next free one.
    next: u16,
}

/// The frames of one next hop, in the order they came in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Queue {
    first: u16,
    last: u16,
    len: u16,
}

impl Default for Queue {
    fn default() -> Self {
        Self { first: NONE, last: NONE, len: 0 }
    }
}

impl Queue {
    /// Frames in it.
    pub(super) fn len(&self) -> u16 {
        self.len
    }
}

impl<F> Room<F> {
    /// With this many seats, below 65,535.
    pub(super) fn new(seats: usize) -> Self {
        assert!(seats < usize::from(NONE), "seats are numbered with 16 bits");
        let seat = |number: usize| Seat {
            frame: None,
            next: if number + 1 < seats { number as u16 + 1 } else { NONE },
        };
        Self { seats: (0..seats).map(seat).collect(), free: if seats == 0 { NONE } else { 0 }, taken: 0 }
    }

    /// Frames in all queues.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// Puts a frame at the end of a queue, or gives it back: no seat is free.
    pub(super) fn push(&mut self, queue: &mut Queue, frame: F) -> Result<(), F> {
        let number = self.free;
        let Some(seat) = self.seats.get_mut(usize::from(number)) else { return Err(frame) };
        self.free = std::mem::replace(&mut seat.next, NONE);
        seat.frame = Some(frame);
        self.taken += 1;
        match self.seats.get_mut(usize::from(queue.last)) {
            Some(last) => last.next = number,
            None => queue.first = number,
        }
        queue.last = number;
        queue.len += 1;
        Ok(())
    }

    /// Takes the first frame out of a queue.
    pub(super) fn pop(&mut self, queue: &mut Queue) -> Option<F> {
        let number = queue.first;
        let seat = self.seats.get_mut(usize::from(number))?;
        let frame = seat.frame.take();
        queue.first = std::mem::replace(&mut seat.next, self.free);
        self.free = number;
        self.taken -= 1;
        queue.len -= 1;
        if queue.len == 0 {
            *queue = Queue::default();
        }
        frame
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    #[test]
    fn queues_in_one_room_are_as_queues_of_their_own() {
        bolero::check!().with_type::<Vec<u8>>().for_each(|steps| {
            let mut room = Room::new(10);
            let mut queues = [Queue::default(); 4];
            let mut models = [const { VecDeque::new() }; 4];
            for (number, &step) in steps.iter().enumerate() {
                let at = usize::from(step) % 4;
                if step & 4 == 0 {
                    let has_room = models.iter().map(VecDeque::len).sum::<usize>() < 10;
                    assert_eq!(room.push(&mut queues[at], number).is_ok(), has_room);
                    if has_room {
                        models[at].push_back(number);
                    }
                } else {
                    assert_eq!(room.pop(&mut queues[at]), models[at].pop_front());
                }
                assert_eq!(room.taken(), models.iter().map(VecDeque::len).sum::<usize>());
                assert_eq!(usize::from(queues[at].len()), models[at].len());
            }
        });
    }

    #[test]
    fn a_room_without_seats_takes_nothing() {
        assert_eq!(Room::new(0).push(&mut Queue::default(), 1), Err(1));
    }
}
