//! Identifications of packets that are cut, or that may be cut on their way: who puts pieces together takes those with one
//! identification, between the same two hosts, for one packet (RFC 8200 section 4.5, RFC 6864).
//!
//! All workers send to the same real servers from the same addresses. So each counts in steps of a power of two that is no less than
//! the workers are, from a place of its own: no two come to the same value, not even behind the end of the numbers. The first is
//! drawn for each process, so that nobody knows it from outside (RFC 7739), and what one process sent before it ended is hardly
//! repeated by the next.

/// One worker's. See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Idents {
    last: u32,
    step: u32,
}

impl Idents {
    /// Of this worker among so many; `first` is the same for all of them.
    pub(super) fn new(first: u32, worker: usize, workers: usize) -> Self {
        let step = workers.next_power_of_two() as u32;
        Self { last: first.wrapping_add(worker as u32), step }
    }

    /// The next one, of 32 bits. Its lower 16 are one for IPv4.
    #[inline(always)]
    pub(super) fn next(&mut self) -> u32 {
        self.last = self.last.wrapping_add(self.step);
        self.last
    }

    /// The same of IPv4.
    #[inline(always)]
    pub(super) fn next4(&mut self) -> u16 {
        self.next() as u16
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_workers_come_to_one_value_wherever_they_begin_and_none_repeats_one_early() {
        for workers in [1_usize, 2, 3, 4, 5, 7, 64] {
            for first in [0, 1, 0xfffe, 0xffff, u32::MAX - 2] {
                let each = 65_536 / workers.next_power_of_two();
                let mut seen = HashSet::new();
                for worker in 0..workers {
                    let mut idents = Idents::new(first, worker, workers);
                    seen.extend((0..each).map(|_| idents.next4()));
                }
                assert_eq!(seen.len(), each * workers, "{workers} workers from {first}");
            }
        }
    }
}
