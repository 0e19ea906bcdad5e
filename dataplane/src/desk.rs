//! What control asks of a worker beside the configuration: a capture, or a listing of its neighbours.
//!
//! A worker looks once a pass whether it is asked for anything: one load of a line that nobody writes meanwhile. Nobody
//! waits for anybody: a worker that stands still is found out by the queue, which is full then.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

use crate::capture::Tap;
use crate::neighbor::listing::Listing;

/// Orders that wait for a worker at most. Control gives one after the other, so a few are enough.
const ORDERS_MAX: usize = 8;

/// What a worker is asked for.
#[derive(Debug)]
pub enum Order {
    /// Copies of frames, into this. Takes the place of a former one.
    Capture(Tap),
    /// No more copies.
    EndCapture,
    /// Its next hops.
    Neighbors(Listing),
}

/// See the module.
#[derive(Debug)]
pub struct Desk {
    is_asked: CachePadded<AtomicBool>,
    orders: ArrayQueue<Order>,
}

impl Default for Desk {
    fn default() -> Self {
        Self { is_asked: CachePadded::default(), orders: ArrayQueue::new(ORDERS_MAX) }
    }
}

impl Desk {
    /// Asks for something.
    ///
    /// # Errors
    /// The order is given back: the worker has not taken the former ones.
    pub fn ask(&self, order: Order) -> Result<(), Order> {
        self.orders.push(order)?;
        self.is_asked.store(true, Release);
        Ok(())
    }

    /// Whether there may be an order. Asked by the worker once a pass.
    #[inline]
    pub fn is_asked(&self) -> bool {
        self.is_asked.load(Relaxed)
    }

    /// All orders that there are, to the worker.
    #[cold]
    pub fn take(&self, mut each: impl FnMut(Order)) {
        // Before the first look: an order that comes after the last one sets it again.
        self.is_asked.swap(false, AcqRel);
        while let Some(order) = self.orders.pop() {
            each(order);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_taken_in_turn_and_one_too_many_is_given_back() {
        let desk = Desk::default();
        assert!(!desk.is_asked());
        for _ in 0..ORDERS_MAX {
            assert!(desk.ask(Order::EndCapture).is_ok());
        }
        assert!(desk.ask(Order::EndCapture).is_err());
        assert!(desk.is_asked());
        let mut taken = 0;
        desk.take(|_| taken += 1);
        assert_eq!((taken, desk.is_asked()), (ORDERS_MAX, false));
    }
}
